#!/usr/bin/env bash
# scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11: HalvingGridSearchCV never calls a callable `refit`.
#
# Expected: its docstring promises, in the words of GridSearchCV, that `refit` "can be set to a
# function which returns the selected best_index_ given cv_results_".
# Seen: GridSearchCV calls the function once and follows it; HalvingGridSearchCV, given the same
# function, never calls it, takes the best score of the last iteration, and gives no warning. A rule
# such as "the smallest model within a tolerance" is silently dropped. Output seen:
#   GridSearchCV: calls 1, chose 1, has best_score_ False
#   HalvingGridSearchCV: calls 0, chose 8, has best_score_ True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.tree import DecisionTreeClassifier

warnings.simplefilter("error")
rng = np.random.default_rng(0)
X = rng.normal(size=(400, 3))
y = (np.abs(X[:, 0]) < 0.7) ^ (X[:, 1] > 0)
seen = {}
for cls in (GridSearchCV, HalvingGridSearchCV):
    calls = []

    def smallest(cv_results):
        calls.append(1)
        return int(np.argmin(cv_results["param_max_depth"]))

    tree = DecisionTreeClassifier(random_state=0)
    more = {"random_state": 0} if cls is HalvingGridSearchCV else {}
    search = cls(tree, {"max_depth": [1, 4, 8]}, refit=smallest, cv=3, **more).fit(X, y)
    seen[cls.__name__] = len(calls), search.best_params_["max_depth"]
    has_score = hasattr(search, "best_score_")
    print(f"{cls.__name__}: calls {len(calls)}, chose {search.best_params_['max_depth']}, "
          f"has best_score_ {has_score}")
assert seen["GridSearchCV"] == (1, 1), seen
n_calls, depth = seen["HalvingGridSearchCV"]
assert n_calls == 0 and depth != 1, f"it calls `refit` now: {seen}"
PYTHON
