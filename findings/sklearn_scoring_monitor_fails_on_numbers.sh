#!/usr/bin/env bash
# scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11: ScoringMonitor fails on scorings that it documents.
#
# Expected: its docstring lists, for a single score, a string, "a callable that returns a single value", and
# None for the estimator's default score.
# Seen: both of the latter are accepted, and then end the fit at its first iteration with
# "TypeError: 'float' object is not iterable". The same scorings work in GridSearchCV. Output seen:
#   'accuracy': 6 rows
#   make_scorer(accuracy_score): 6 rows
#   a function that returns a dict: 6 rows
#   None: 'float' object is not iterable
#   a function that returns a number: 'float' object is not iterable
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV

warnings.simplefilter("ignore")  # 5 iterations are few
X, y = load_iris(return_X_y=True)
SCORINGS = {
    "'accuracy'": "accuracy",
    "make_scorer(accuracy_score)": make_scorer(accuracy_score),
    "a function that returns a dict": lambda model, X, y: {"accuracy": model.score(X, y)},
    "None": None,
    "a function that returns a number": lambda model, X, y: model.score(X, y),
}
failed = []
for name, scoring in SCORINGS.items():
    model = LogisticRegression(max_iter=5)
    GridSearchCV(model, {"C": [1.0]}, scoring=scoring, cv=2, refit=False, error_score="raise").fit(X, y)
    monitor = ScoringMonitor(scoring=scoring)
    try:
        model.set_callbacks(monitor).fit(X, y)
        print(f"{name}: {len(monitor.get_logs().data)} rows")
    except TypeError as error:
        failed.append(name)
        print(f"{name}: {error}")
assert failed == ["None", "a function that returns a number"], f"other scorings fail now: {failed}"
PYTHON
