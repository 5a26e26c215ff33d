#!/usr/bin/env bash
# aeon 1.6.0, PyOD 3.6.7, scikit-learn 1.9.1, Python 3.11: points at the end of a series that no window
# covers get the score 0 from PyODAdapter, whatever they are.
#
# Expected: the last points are scored like the others, or are NaN; the adapter's description says that
# each point has the score of the windows that contain it.
# Seen: with a length that the stride does not divide, the rest is not looked at and gets 0. For a
# detector with positive scores this is the lowest: a spike there is ranked last. For one with scores
# around 0 it is among the highest: ordinary points there look anomalous. No warning. Output seen
# (128 points, windows of 20, so that 8 points are left):
#   KNN: a spike in the end scores 0.00, higher are 120 of 128 points
#   IForest: an ordinary end scores 0.00, higher are 20 of 128 points
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aeon==1.6.0 pyod==3.6.7
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from aeon.anomaly_detection.series import PyODAdapter
from pyod.models.iforest import IForest
from pyod.models.knn import KNN

ordinary = np.sin(np.arange(128) / 3) + np.random.default_rng(0).normal(0, 0.1, 128)
spiked = ordinary.copy()
spiked[125] = 10.0
n_higher = {}
for detector, series, name in [
    (KNN(), spiked, "a spike in the end"),
    (IForest(random_state=0), ordinary, "an ordinary end"),
]:
    scores = PyODAdapter(detector, window_size=20, stride=20).fit_predict(series)
    assert (scores[120:] == 0).all(), f"the end is scored now: {scores[120:]}"
    kind = type(detector).__name__
    n_higher[kind] = int((scores > scores[125]).sum())
    print(f"{kind}: {name} scores {scores[125]:.2f}, higher are {n_higher[kind]} of 128 points")
assert n_higher["KNN"] == 120, n_higher
assert n_higher["IForest"] <= 40, n_higher
PYTHON
