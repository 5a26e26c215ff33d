#!/usr/bin/env bash
# sktime 1.2.0, PyOD 3.6.7, Python 3.11: PyODDetector.predict loses where outliers are.
#
# Expected: `predict` returns the positions (`ilocs`) of the outliers, as its docstring says: here
# those of the two shifted rows, 20 and 30, which the wrapped detector finds.
# Seen: it returns position 1 twice, and `transform`, which is made of it, marks row 1 alone: the
# labels 0 and 1 of the outliers themselves are returned in the place of positions. No warning.
# Output seen:
#   detector found [20, 30], adapter returned [1, 1], transform marked [1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sktime==1.2.0 pyod==3.6.7
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pandas as pd
from pyod.models.knn import KNN
from sktime.detection.adapters import PyODDetector

print({name: version(name) for name in ("sktime", "pyod", "pandas", "numpy", "scikit-learn")})
X = pd.DataFrame(np.random.RandomState(0).randn(50, 2))
X.iloc[[20, 30]] += 9
adapter = PyODDetector(KNN(contamination=0.04)).fit(X)
found = np.flatnonzero(adapter.estimator_.predict(X.to_numpy())).tolist()
returned = adapter.predict(X)["ilocs"].tolist()
marked = np.flatnonzero(adapter.transform(X)["labels"].to_numpy()).tolist()
print(f"detector found {found}, adapter returned {returned}, transform marked {marked}")
assert (found, returned, marked) == ([20, 30], [1, 1], [1]), "the behaviour has changed"
PYTHON
