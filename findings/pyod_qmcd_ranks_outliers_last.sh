#!/usr/bin/env bash
# PyOD 3.6.7, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11: QMCD that was fitted to clean rows ranks
# outliers as the most normal rows.
#
# Expected: rows far from clean training rows have the highest scores, as with every detector of PyOD,
# whose scores are "assigned with larger anomaly scores" for outliers.
# Seen: the sign is guessed in `fit` from the skewness and the kurtosis of the training scores. Of
# clean rows they say the opposite, so all outliers get lower scores than all ordinary rows; no row
# of them is labelled an outlier. Output seen:
#   fitted to rows with outliers: AUROC 1.0, 10 of 10 outliers found
#   fitted to the clean rows:     AUROC 0.0, 0 of 10 outliers found
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyod==3.6.7 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from pyod.models.qmcd import QMCD
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)
clean = rng.normal(size=(290, 3))
outliers = rng.normal(6, 1, size=(10, 3))
X, y = np.vstack([clean, outliers]), np.repeat([0, 1], [290, 10])
seen = []
for rows, name in [(X, "rows with outliers:"), (clean, "the clean rows:    ")]:
    detector = QMCD(contamination=10 / 300).fit(rows)
    auroc = roc_auc_score(y, detector.decision_function(X))
    found = detector.predict(outliers).sum()
    print(f"fitted to {name} AUROC {auroc:.1f}, {found} of 10 outliers found")
    seen.append((auroc, found))
assert seen == [(1.0, 10), (0.0, 0)], f"the ranks have changed: {seen}"
PYTHON
