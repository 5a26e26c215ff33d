#!/usr/bin/env bash
# imbalanced-learn 0.14.2, scikit-learn 1.9.1, pandas 3.1.1, Python 3.11: rows that SMOTE makes have
# too few ones in a column of 0 and 1, and too many in the same column as booleans.
#
# Expected: SMOTE draws between neighbours, so the mean of a column stays about what it was; where it
# returns integers, it rounds.
# Seen: values between neighbours are cast to the dtype of the column. Integers lose their decimals,
# so that between 0 and 1 all become 0, and counts get smaller; of booleans, all between become True.
# The same columns as floats keep their means. No warning. Output seen (means of the rare class):
#   real:    flag 0.51, count 1.07
#   int64:   flag 0.32, count 0.87
#   bool:    flag 0.72
#   float64: flag 0.50, count 1.12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imbalanced-learn==0.14.2 scikit-learn==1.9.1 \
    pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE

warnings.simplefilter("error")
rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(400, 6)), columns=list("abcdef"))
X = X.assign(flag=rng.integers(0, 2, 400), count=rng.poisson(1.0, 400))
y = np.repeat([0, 1], [300, 100])


def drawn(X):
    """The rows that were made."""
    return SMOTE(random_state=0).fit_resample(X, y)[0][400:]


kinds = {
    "real": X[y == 1],
    "int64": drawn(X),
    "bool": drawn(X.astype({"flag": bool})),
    "float64": drawn(X.astype(float)),
}
flag = {name: rows["flag"].mean() for name, rows in kinds.items()}
count = {name: rows["count"].mean() for name, rows in kinds.items()}
for name in kinds:
    shown = "" if name == "bool" else f", count {count[name]:.2f}"
    print(f"{name + ':':8} flag {flag[name]:.2f}{shown}")
assert abs(flag["float64"] - flag["real"]) < 0.05, "floats are wrong, too"
assert flag["int64"] < flag["real"] - 0.1, "integers keep their mean now"
assert count["int64"] < count["real"] - 0.1, "counts keep their mean now"
assert flag["bool"] > flag["real"] + 0.1, "booleans keep their mean now"
PYTHON
