#!/usr/bin/env bash
# skrub 0.11.0, scikit-learn 1.9.1, pandas 3.1.1, Python 3.11: TableVectorizer makes different dates
# and different integers equal.
#
# Expected: times 30 seconds apart differ in `total_seconds`, which stands for what the other columns
# of a date (year to hour) leave out; integers of eight digits stay as they are.
# Seen: every number becomes float32, with 24 bits. Seconds since 1970 are then multiples of 128: all
# times within two minutes become equal, and identifiers from 16777216 on merge. No warning. Output seen:
#   8 times, 30 seconds apart: 3 different rows, seconds between them [128, 128]
#   8 identifiers: 5 different ones
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet skrub==0.11.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import pandas as pd
from skrub import TableVectorizer

warnings.simplefilter("error")
times = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=8, freq="30s")})
encoded = TableVectorizer().fit_transform(times)
steps = np.diff(encoded["time_total_seconds"].unique().astype(float)).astype(int).tolist()
n_times = len(encoded.drop_duplicates())
print(f"8 times, 30 seconds apart: {n_times} different rows, seconds between them {steps}")
customers = pd.DataFrame({"customer": np.arange(16_777_216, 16_777_224)})
n_customers = TableVectorizer().fit_transform(customers)["customer"].nunique()
print(f"8 identifiers: {n_customers} different ones")
assert n_times < 8, "all times differ now"
assert set(steps) == {128}, steps
assert n_customers < 8, "all identifiers differ now"
PYTHON
