#!/usr/bin/env bash
# miceforest 6.0.5, LightGBM 4.7.0, pandas 2.3.3, NumPy 2.4.6, Python 3.11: imputation by the default scheme,
# which matches means, ends in a TypeError. With LightGBM 4.5.0 it runs.
#
# Expected: what pip installs today as a dependency of miceforest (any LightGBM from 4.1 on) runs its README.
# Seen: predictions of candidates are read through a private method of LightGBM's Booster, whose arguments have
# changed since. Turning matching off avoids the call. Output seen:
#   LightGBM 4.5.0, matching: 0 cells missing
#   LightGBM 4.7.0, matching: TypeError: Booster.__inner_predict() takes 1 positional argument but 2 were given
#   LightGBM 4.7.0, no matching: 0 cells missing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/fill.py" <<'PYTHON'
import sys

import lightgbm
import miceforest
import numpy as np
import pandas as pd

n_candidates = {"matching": 5, "no matching": 0}[sys.argv[1]]
rng = np.random.default_rng(0)
size = rng.normal(size=200)
table = pd.DataFrame({"size": size, "weight": size + rng.normal(size=200)})
table.loc[::5, "size"] = np.nan
kernel = miceforest.ImputationKernel(table, mean_match_candidates=n_candidates, random_state=0)
try:
    kernel.mice(1)
    seen = f"{int(kernel.complete_data(0).isna().sum().sum())} cells missing"
except TypeError as error:
    seen = f"TypeError: {error}"
print(f"LightGBM {lightgbm.__version__}, {sys.argv[1]}: {seen}")
PYTHON
seen() { "$folder/venv/bin/python" "$folder/fill.py" "$1" 2>/dev/null; }
install() {
    "$folder/venv/bin/pip" install --quiet miceforest==6.0.5 lightgbm=="$1" pandas==2.3.3 numpy==2.4.6
}
install 4.5.0
older=$(seen matching)
install 4.7.0
newer=$(seen matching)
unmatched=$(seen "no matching")
printf '%s\n' "$older" "$newer" "$unmatched"
[[ $older == *": 0 cells missing" && $unmatched == *": 0 cells missing" ]]
[[ $newer == *"TypeError: Booster.__inner_predict()"* ]]
echo "as described"
