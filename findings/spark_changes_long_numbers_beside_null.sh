#!/usr/bin/env bash
# PySpark 4.3.0, pandas 3.1.1, PyArrow 26.0.1, Java 17, Python 3.11: a function that returns its
# rows unchanged changes long numbers in batches where one of them is NULL.
#
# Expected: `mapInPandas` with a function that only passes rows on returns them as they were; what
# becomes of a number does not depend on the other rows.
# Seen: a column of integers with a NULL becomes float64 in pandas, which has no digits left for
# numbers beyond 2**53, and is cast back. The same number stays right in a batch without NULL, so
# identifiers break here and there. No warning or error. Output seen:
#   batches of 2 rows: [None, 9007199254740992, 9007199254740993, 9007199254740993]
#   batches of 1 row:  [None, 9007199254740993, 9007199254740993, 9007199254740993]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyspark==4.3.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
export PYSPARK_PYTHON="$folder/venv/bin/python" PYTHONWARNINGS=ignore
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()
number = 2**53 + 1
rows = spark.createDataFrame([(None,), (number,), (number,), (number,)], "v long").coalesce(1)
seen = {}
for size, name in [(2, "batches of 2 rows:"), (1, "batches of 1 row: ")]:
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", size)
    seen[size] = [row.v for row in rows.mapInPandas(lambda batches: batches, "v long").collect()]
    print(name, seen[size])
spark.stop()
assert seen[1] == [None, number, number, number], "numbers alone change, too"
assert seen[2] == [None, number - 1, number, number], "numbers stay now"
PYTHON
