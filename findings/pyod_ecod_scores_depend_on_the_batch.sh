#!/usr/bin/env bash
# PyOD 3.6.7, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11: whether ECOD calls a row an outlier
# depends on the rows that it is scored with.
#
# Expected: a fitted detector scores each row by what it learned in `fit`; a service that scores rows
# one by one and a job that scores them in batches agree.
# Seen: `decision_function` appends the rows to the training rows and computes the empirical
# distribution anew. A row that is an outlier by itself is an inlier in a batch with others like it,
# with the same fitted detector and the same threshold: the more outliers a batch has, the fewer are
# found. Output seen (rows far from 300 training rows):
#   1 row at a time: 100 of 100 are outliers
#   one batch:       32 of 100 are outliers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyod==3.6.7 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from pyod.models.ecod import ECOD

rng = np.random.default_rng(0)
detector = ECOD(contamination=0.05).fit(rng.normal(size=(300, 3)))
outliers = rng.normal(8, 1, size=(100, 3))
alone = sum(int(detector.predict(row[None])[0]) for row in outliers)
together = int(detector.predict(outliers).sum())
print(f"1 row at a time: {alone} of 100 are outliers")
print(f"one batch:       {together} of 100 are outliers")
assert alone == 100, "rows alone are judged otherwise"
assert together < 50, "the batch makes no difference now"
PYTHON
