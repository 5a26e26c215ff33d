#!/usr/bin/env bash
# prince 0.23.0, scikit-learn 1.9.1, pandas 3.1.1, NumPy 2.4.6, Python 3.11: FAMD gives a row other
# coordinates, depending on which rows are passed with it.
#
# Expected: transform is a function of the fitted model and of a row, as that of PCA in the same library is.
# Seen: numbers are scaled by what fit learned, but levels are weighted by their shares among the rows that
# are passed to transform. So new rows one at a time, folds and halves of a table get coordinates that do not
# go with those of the training rows. No warning; a comment in the source keeps it so for backward
# compatibility. Output seen:
#   row 0 among all: [2.43, 1.45], alone: [1.245, 0.61]
#   all rows against two halves: up to 0.76 apart, where coordinates deviate by 1.39
#   PCA: 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prince==0.23.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pandas as pd
import prince

numbers = pd.DataFrame({"size": np.arange(12.0) ** 2, "weight": np.cos(np.arange(12.0))})
table = numbers.assign(colour=["red"] * 2 + ["green"] * 4 + ["blue"] * 6)


def apart(model, rows):
    """How far coordinates of all rows are from those of two halves."""
    halves = pd.concat([model.transform(rows[:6]), model.transform(rows[6:])])
    return float(np.abs(model.transform(rows) - halves).to_numpy().max())


model = prince.FAMD(n_components=2, random_state=0).fit(table)
among, alone = (model.transform(rows).iloc[0].to_numpy() for rows in (table, table[:1]))
signs = np.sign(among)
print(f"row 0 among all: {(signs * among).round(3).tolist()}, "
      f"alone: {(signs * alone).round(3).tolist()}")
deviation = float(model.transform(table).to_numpy().std(axis=0).max())
print(f"all rows against two halves: up to {apart(model, table):.2f} apart, "
      f"where coordinates deviate by {deviation:.2f}")
of_numbers = prince.PCA(n_components=2, random_state=0).fit(numbers)
print("PCA:", round(apart(of_numbers, numbers), 9))
assert np.abs(among - alone).max() > 0.5, "a row alone has the coordinates that it has among others"
assert apart(model, table) > 0.5, "halves have the coordinates of the whole"
assert apart(of_numbers, numbers) < 1e-9
PYTHON
