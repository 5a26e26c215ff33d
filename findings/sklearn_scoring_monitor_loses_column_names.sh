#!/usr/bin/env bash
# scikit-learn 1.9.1, NumPy 2.4.6, pandas 3.1.1, Python 3.11: ScoringMonitor warns of missing names of columns
# that are there.
#
# Expected: a model that is fitted on a DataFrame and scored on the same rows gives no warning about names.
# Seen: LogisticRegression hands callbacks the array that it made of the DataFrame, and a fitted estimator
# that has the names of its columns. So each iteration warns "X does not have valid feature names, but
# LogisticRegression was fitted with feature names", of the frame that the user passed with its names.
# Where warnings are errors, as in many test suites, the fit fails. Output seen:
#   array: 0 warnings
#   DataFrame: 6 warnings
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

frame, y = load_iris(return_X_y=True, as_frame=True)
seen = {}
for name, X in {"array": frame.to_numpy(), "DataFrame": frame}.items():
    model = LogisticRegression(max_iter=5).set_callbacks(ScoringMonitor(scoring="accuracy"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
        model.score(X, y)
    seen[name] = sum("valid feature names" in str(warning.message) for warning in caught)
    print(f"{name}: {seen[name]} warnings")
assert seen == {"array": 0, "DataFrame": 6}, f"it warns otherwise now: {seen}"
PYTHON
