#!/usr/bin/env bash
# scikit-learn 1.9.1, NumPy 2.4.6, pandas 3.1.1, Python 3.11: ScoringMonitor logs rows without scores if there
# is no y.
#
# Expected: "The specified scorer is called on the training data at each iterative step of the estimator, and
# the score is logged". Scorers work without y elsewhere, in GridSearchCV(KMeans()).fit(X) for example.
# Seen: without y the scorer is never called. The log has a row for each iteration, with no score in it,
# and there is no error and no warning. The same fit with a y that the estimator ignores is scored. Output seen:
#   fit(X): 4 rows, scorer called 0 times, columns with scores: []
#   fit(X, y): 4 rows, scorer called 4 times, columns with scores: ['inertia']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, ScoringMonitor, with_callbacks
from sklearn.cluster import kmeans_plusplus
from sklearn.datasets import load_iris
from sklearn.metrics import pairwise_distances_argmin_min


class Clusters(CallbackSupportMixin, BaseEstimator):
    """Lloyd's algorithm."""

    @with_callbacks
    def fit(self, X, y=None):
        context = self._init_callback_context(max_subtasks=3)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        centers, _ = kmeans_plusplus(X, 3, random_state=0)
        for _ in range(3):
            step = context.subcontext("iteration")
            step.call_on_fit_task_begin(estimator=self, X=X, y=y)
            nearest, _ = pairwise_distances_argmin_min(X, centers)
            for i in range(3):
                centers[i] = X[nearest == i].mean(axis=0)
            step.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes={"centers_": centers.copy()}
            )
        self.centers_ = centers
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    def score(self, X, y=None):
        return -pairwise_distances_argmin_min(X, self.centers_)[1].sum()


X, y = load_iris(return_X_y=True)
seen = []
for name, given in {"fit(X)": [X], "fit(X, y)": [X, y]}.items():
    calls = []

    def inertia(model, X, y=None):
        calls.append(1)
        return {"inertia": model.score(X)}

    monitor = ScoringMonitor(scoring=inertia)
    Clusters().set_callbacks(monitor).fit(*given)
    rows = monitor.get_logs().data
    scored = [column for column in rows[0] if column == "inertia"]
    print(f"{name}: {len(rows)} rows, scorer called {len(calls)} times, columns with scores: {scored}")
    seen.append((len(rows), len(calls)))
assert seen == [(4, 0), (4, 4)], f"it scores otherwise now: {seen}"
PYTHON
