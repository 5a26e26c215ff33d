#!/usr/bin/env bash
# PySpark 4.3.0, pandas 3.1.1, PyArrow 26.0.1, Java 17, Python 3.11: whether a missing cell of a
# pandas frame becomes NULL or NaN depends on the types of other columns.
#
# Expected: the mean of a column is the same, whatever other columns the frame has.
# Seen: frames go to Spark through Arrow, by which NaN becomes NULL, and averages leave it out. If one
# column has a type that Arrow does not take, such as vectors of pyspark.ml, the whole frame goes
# another way: NaN stays NaN in all columns, is counted, is the largest number, and the average is
# NaN. The warning speaks of a failed optimization only. Output seen:
#   x alone:          avg 2.0, count 2, max 3.0, isNull 1
#   x beside vectors: avg nan, count 3, max nan, isNull 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyspark==4.3.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
export PYSPARK_PYTHON="$folder/venv/bin/python"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
import math
import warnings

import numpy as np
import pandas as pd
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()
alone = pd.DataFrame({"x": [1.0, np.nan, 3.0]})
beside = alone.assign(v=[Vectors.dense([i]) for i in range(3)])
seen = []
for frame, name in [(alone, "x alone:         "), (beside, "x beside vectors:")]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = spark.createDataFrame(frame)
    said = " ".join(str(warning.message) for warning in caught).lower()
    assert "nan" not in said.split() and "null" not in said.split(), said
    n_null = F.count_if(F.col("x").isNull())
    row = table.agg(F.avg("x"), F.count("x"), F.max("x"), n_null).first()
    print(f"{name} avg {row[0]}, count {row[1]}, max {row[2]}, isNull {row[3]}")
    seen.append(tuple(row))
spark.stop()
assert seen[0] == (2.0, 2, 3.0, 1), seen
assert seen[1][1] == 3 and seen[1][3] == 0, seen
assert math.isnan(seen[1][0]) and math.isnan(seen[1][2]), seen
PYTHON
