"""Large integers, decimals and objects of dates keep their values and kinds."""

import datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import skae
from skae import VAEGenerator

QUICK = {"max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0, "device": "cpu"}
STEPS = np.random.default_rng(0).integers(0, 40, 120)
IDS = [2**60 + 3 * int(k) for k in STEPS]
DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(int(k)) for k in STEPS]
TIMES = [datetime.datetime(2020, 1, 1, 3) + datetime.timedelta(hours=int(k)) for k in STEPS]
NOISE = np.random.default_rng(1).normal(size=120)


def objects(cells, gaps=0):
    return pd.Series([None] * gaps + list(cells[gaps:]), dtype=object)


CELLS = {
    "int64": lambda: pd.Series(IDS),
    "uint64": lambda: pd.Series(np.array(IDS, dtype=np.uint64) + np.uint64(2**63)),
    "Int64": lambda: pd.array([None] * 9 + IDS[9:], dtype="Int64"),
    "objects of integers": lambda: objects([2**70 + n for n in IDS]),
    "objects of integers with gaps": lambda: objects(IDS, 9),
    "dates": lambda: objects(DAYS),
    "dates with gaps": lambda: objects(DAYS, 9),
    "datetimes": lambda: objects(TIMES),
    "timestamps": lambda: objects([pd.Timestamp(t) for t in TIMES], 9),
    "decimals": lambda: objects([Decimal(int(k)) / 100 for k in STEPS], 9),
    "long decimals": lambda: objects([Decimal(n) / 1000 for n in IDS]),
    "whole decimals": lambda: objects([Decimal(int(k)) for k in STEPS]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_keep_values_and_kinds(name, tmp_path):
    X = pd.DataFrame({"cell": CELLS[name](), "noise": NOISE})
    model = VAEGenerator(**QUICK).fit(X)
    rows = model.sample(300, 0)
    assert rows.dtypes.equals(X.dtypes)
    known, drawn = X["cell"].dropna(), rows["cell"].dropna()
    assert {type(c) for c in drawn} == {type(c) for c in known}
    assert rows["cell"].isna().any() == X["cell"].isna().any()
    step = min(b - a for a, b in pairwise(sorted(set(known))))
    assert {(c - known.min()) % step for c in drawn} == {known.min() - known.min()}
    assert known.min() <= drawn.min() <= drawn.max() <= known.max()
    assert drawn.nunique() > 10
    columns = model._columns
    assert_array_equal(columns.restore(columns.to_numbers(X))["cell"].dropna(), known)
    assert np.isfinite(model.score_samples(X)).all()
    path = tmp_path / "model.skae"
    skae.save(model, path)
    assert skae.load(path).sample(300, 0).equals(rows)
    value = known.iloc[-1]
    assert (model.sample(5, 0, conditions={"cell": value})["cell"] == value).all()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_integers_of_arrays(dtype):
    X = np.column_stack([IDS, STEPS]).astype(dtype)
    rows = VAEGenerator(**QUICK).fit(X).sample(300, 0)
    assert rows.dtype == dtype
    assert set(rows[:, 0].tolist()) <= set(range(min(IDS), max(IDS) + 1, 3))
    assert len(set(rows[:, 0].tolist())) > 10


def test_large_integers_of_polars_beside_a_null():
    pl = pytest.importorskip("polars")
    X = pl.DataFrame({"id": [None] * 9 + IDS[9:], "day": DAYS, "noise": NOISE})
    rows = VAEGenerator(**QUICK).fit(X).sample(300, 0)
    assert rows.schema == X.schema
    assert set(rows["id"].drop_nulls()) <= set(range(min(IDS), max(IDS) + 1, 3))
    assert rows["id"].null_count()


def test_integers_in_more_steps_than_floats_distinguish():
    X = pd.DataFrame({"id": np.random.default_rng(0).integers(-(2**62), 2**62, 120), "x": NOISE})
    with pytest.raises(ValueError, match=r"'id' of X holds integers beyond 2\*\*53, in more steps"):
        VAEGenerator(**QUICK).fit(X)


@pytest.mark.parametrize(
    ("name", "value"), [("dates", "never"), ("int64", 2.5), ("decimals", "much")]
)
def test_values_that_are_no_such_cells(name, value):
    model = VAEGenerator(**QUICK).fit(pd.DataFrame({"cell": CELLS[name](), "noise": NOISE}))
    with pytest.raises(ValueError, match=rf"'cell' cannot be {value!r}"):
        model.sample(conditions={"cell": value})


def test_objects_of_dates_are_dates():
    """New days are drawn between those met, and relations see them."""
    start = [DAYS[0] + datetime.timedelta(int(k)) for k in 30 * STEPS]
    end = [d + datetime.timedelta(int(k)) for d, k in zip(start, STEPS[::-1] // 8, strict=True)]
    X = pd.DataFrame({"start": objects(start), "end": objects(end), "noise": NOISE})
    model = VAEGenerator(**QUICK).fit(X)
    assert [type(r).__name__ for r in model.relations_] == ["Inequality"]
    rows = model.sample(500, 0)
    assert (rows["start"] <= rows["end"]).all()
    assert model.sample(9, 0, conditions={"start": ("2020-06-01", None)})["start"].min() > DAYS[0]


@pytest.mark.parametrize("name", ["date32", "date64", "timestamp", "zoned", "time", "decimal"])
def test_dates_and_decimals_of_arrow(name, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="skae[parquet] is not installed")
    arrays = {
        "date32": lambda: pa.array([None, *DAYS[1:]], pa.date32()),
        "date64": lambda: pa.array(DAYS, pa.date64()),
        "timestamp": lambda: pa.array([None, *TIMES[1:]], pa.timestamp("us")),
        "zoned": lambda: pa.array(TIMES, pa.timestamp("ns", tz="UTC")),
        "time": lambda: pa.array([t.time() for t in TIMES], pa.time64("us")),
        "decimal": lambda: pa.array([Decimal(int(k)) / 100 for k in STEPS], pa.decimal128(9, 2)),
    }
    X = pa.table({"cell": arrays[name](), "noise": NOISE})
    model = VAEGenerator(**QUICK).fit(X)
    rows = model.sample(100, 0)
    assert rows.schema.equals(X.schema)
    skae.save(model, tmp_path / "model.skae")
    assert skae.load(tmp_path / "model.skae").sample(100, 0).equals(rows)


def test_decimals_that_a_column_cannot_hold():
    model = VAEGenerator(**QUICK).fit(pd.DataFrame({"cell": CELLS["decimals"](), "noise": NOISE}))
    with pytest.raises(ValueError, match=r"'cell' cannot be Decimal\('0.105'\): .* of 0.01"):
        model.sample(5, conditions={"cell": Decimal("0.105")})
