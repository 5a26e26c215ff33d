#!/usr/bin/env bash
# scikit-learn 1.9.1, joblib 1.6.0, NumPy 2.4.6, Python 3.11, Linux: callbacks lose what forked workers send.
#
# Expected: its callbacks work in processes. sklearn/callback/_transport.py sends each message to the main
# process unless its own registry of listeners, "empty" in a worker, knows the listener.
# Seen: with joblib's multiprocessing backend, which forks, the registry is inherited and not empty. Messages
# are handed to the worker's copy of the consumer and end with the worker: of 30 rows that ScoringMonitor
# logs with n_jobs=1, and with n_jobs=2 under loky or threading, the 6 of the refit are left. There is no
# error and no warning; ProgressBar loses its bars in the same way. Output seen:
#   loky, n_jobs=1: 30 rows, n_jobs=2: 30 rows
#   threading, n_jobs=1: 30 rows, n_jobs=2: 30 rows
#   multiprocessing, n_jobs=1: 30 rows, n_jobs=2: 6 rows
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6 joblib==1.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from joblib import parallel_config
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

warnings.simplefilter("ignore")  # 5 iterations are few
X, y = load_iris(return_X_y=True)
n_rows = {}
for backend in ("loky", "threading", "multiprocessing"):
    for n_jobs in (1, 2):
        monitor = ScoringMonitor(scoring="accuracy")
        model = LogisticRegression(max_iter=5).set_callbacks(monitor)
        with parallel_config(backend):
            GridSearchCV(model, {"C": [0.1, 1.0]}, cv=2, n_jobs=n_jobs).fit(X, y)
        n_rows[backend, n_jobs] = len(monitor.get_logs().data)
    print(f"{backend}, n_jobs=1: {n_rows[backend, 1]} rows, n_jobs=2: {n_rows[backend, 2]} rows")
assert n_rows.pop(("multiprocessing", 2)) == 6, "forked workers are heard now"
assert set(n_rows.values()) == {30}, n_rows
PYTHON
