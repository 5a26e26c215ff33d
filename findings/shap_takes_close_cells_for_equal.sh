#!/usr/bin/env bash
# shap 0.51.0, NumPy 2.4.6, Python 3.11: a column that varies around a large number gets no part.
#
# Expected: the values of a row and the base value add up to the model's output, exactly for a sum of
# two columns, whatever unit or origin a column has.
# Seen: cells of the row and of the background count as equal if they differ by less than 1e-5 of
# their value: for a coordinate of 5 000 000 metres, by 50 metres. Such a column gets 0 from Explainer
# and the sum is wrong; KernelExplainer gives its part to the other column. No warning. With the
# origin moved to 0, all is right. Output seen (the model is east + north, north within 20 m):
#   metres from the origin  true [-0.00, 8.69]  Explainer [-0.00, 0.00]  KernelExplainer [8.69, 0.00]
#   the same less 5 000 km  true [-0.00, 8.69]  Explainer [-0.00, 8.69]  KernelExplainer [-0.00, 8.69]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet shap==0.51.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import shap

rng = np.random.default_rng(0)
rows = np.column_stack([rng.normal(size=50), rng.uniform(-20, 20, size=50)])
true = rows[0] - rows.mean(axis=0)  # Shapley values of a sum
seen = {}
for name, origin in [("metres from the origin", 5_000_000.0), ("the same less 5 000 km", 0.0)]:
    X = rows + [0.0, origin]

    def model(X, origin=origin):
        return X.sum(axis=1) - origin

    explained = shap.Explainer(model, X)(X[:1]).values[0]
    by_kernel = shap.KernelExplainer(model, X).shap_values(X[:1], silent=True)[0]
    parts = {"true": true, "Explainer": explained, "KernelExplainer": by_kernel}
    shown = "  ".join(f"{k} [{v[0]:.2f}, {v[1]:.2f}]" for k, v in parts.items())
    print(f"{name}  {shown}")
    seen[origin] = explained, by_kernel
for parts in seen[0.0]:
    assert np.allclose(parts, true), "the plain case is wrong, too"
explained, by_kernel = seen[5_000_000.0]
assert np.allclose(explained, [true[0], 0]), "Explainer has changed"
assert np.allclose(by_kernel, [true.sum(), 0]), "KernelExplainer has changed"
PYTHON
