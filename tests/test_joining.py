"""Parts of a table become one table again, and rows tell of its columns what all rows tell."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy.sparse import csr_matrix

from skae._data._frames import Columns
from skae._data._joining import check_same_tables, joined, kinds_of_cells
from skae._data._telling_rows import telling_rows


def test_parts_of_a_frame_are_the_frame():
    """Also where a part misses all cells of a column, which says nothing of its dtype."""
    frame = pd.DataFrame(
        {
            "level": pd.Categorical(["x", "y", "z"] * 4, ["z", "x", "y"]),
            "day": pd.date_range("2020-01-01", periods=12, tz="Europe/Rome"),
            "text": [f"{i % 3}" for i in range(12)],
            "count": pd.array(range(12), dtype="Int64"),
        }
    )
    parts = [frame[:5], frame[5:8].assign(day=None, text=None, count=np.nan), frame[8:]]
    expected = frame.copy()
    expected.loc[5:7, ["day", "text", "count"]] = None
    assert_frame_equal(joined(parts), expected, check_dtype=True)
    assert_frame_equal(joined([*parts, frame[:0].astype(object)]), expected)


def test_categories_of_parts_are_joined():
    first = pd.DataFrame({"level": pd.Categorical(["b"], ["b", "a"], ordered=True)})
    second = pd.DataFrame({"level": pd.Categorical(["c"], ["b", "c"], ordered=True)})
    both = joined([first, second])["level"]
    assert list(both.cat.categories) == ["b", "a", "c"]
    assert both.cat.ordered
    assert both.tolist() == ["b", "c"]
    numbers = joined([pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": [None]})])["n"]
    assert numbers.dtype == np.float64


CELLS = {
    "numbers": [1.5, np.nan, 3],
    "flags": [True, False, True],
    "integers": [1, 2, None],
    "decimals": [Decimal("1.5"), None, Decimal("2")],
    "texts": ["a", None, "b"],
    "dates": [pd.Timestamp("2020-01-01"), None, None],
    "lapses": pd.to_timedelta([1, 2, 3], unit="h"),
    "missing": [None, None, np.nan],
    "both": [1, "a", None],
}
EXPECTED = {
    **dict.fromkeys(("numbers", "flags", "integers", "decimals"), "numbers"),
    **{"texts": "texts", "dates": "dates", "lapses": "dates", "missing": None, "both": None},
}


def test_kinds_of_cells():
    frame = pd.DataFrame(CELLS)
    assert dict(zip(frame, kinds_of_cells(frame), strict=True)) == EXPECTED
    assert kinds_of_cells(frame.to_numpy(dtype=object)) == list(EXPECTED.values())
    assert kinds_of_cells(frame.astype({"texts": "category"})) == list(EXPECTED.values())
    assert kinds_of_cells(np.array([["a", "b"]])) == ["texts", "texts"]
    assert kinds_of_cells(csr_matrix(np.eye(2))) == ["numbers", "numbers"]


def test_frames_of_polars():
    pl = pytest.importorskip("polars", reason="is read if it is installed")
    parts = [pl.DataFrame({"n": n, "s": s}) for n, s in (([1], ["a"]), ([0.5], [None]))]
    assert joined(parts).equals(pl.DataFrame({"n": [1, 0.5], "s": ["a", None]}, strict=False))
    frame = pl.DataFrame({name: CELLS[name] for name in ("numbers", "texts", "dates", "missing")})
    assert kinds_of_cells(frame) == ["numbers", "texts", "dates", None]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pd.DataFrame({"a": [1], "c": ["x"]}), r"\['a', 'c'\], but .* \(missing: \['b'\]; not "),
        (pd.DataFrame({"a": [1], "b": [2.0]}), "'b' holds numbers in process 2, but texts in"),
        (np.ones((1, 2)), "process 2 are an array, but those of process 1 are a frame of pandas"),
        (csr_matrix(np.ones((1, 2))), "process 2 are a sparse matrix, but"),
    ],
)
def test_rows_that_are_no_parts_of_one_table(other, message):
    frame = pd.DataFrame({"a": [1.5], "b": ["x"]})
    check_same_tables([None, frame, other[:0], frame.assign(b=None), np.empty((0, 0))])
    with pytest.raises(ValueError, match=message):
        check_same_tables([None, frame, other])


BILLION = 10**9
GRIDS = {
    "int64": np.array([-9, 9, -3, -5, 9, -3]) * BILLION**2,
    "uint64": np.array([0, 18, 6, 4, 18, 6], dtype=np.uint64) * np.uint64(BILLION**2),
    "int8": np.array([-120, 0, 120, -104, 120], dtype=np.int8),
    "uint8": np.array([0, 128, 192, 255, 128], dtype=np.uint8),
    "dates": np.array(["1700-01-01", "2200-01-01", "1900-01-01", "2200-01-01"], dtype="M8[ns]"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_rows_that_tell_of_a_grid(name):
    """Differences of integers may be larger than the largest of signed ones."""
    cells = np.tile(GRIDS[name], 3)
    told = telling_rows(pd.DataFrame({"x": cells}))["x"].to_numpy()
    assert len(told) < len(cells)
    assert {told.min(), told.max()} == {cells.min(), cells.max()}
    ticks, of_told = (
        (cells.view(np.int64) if cells.dtype.kind == "M" else cells).tolist()
        for cells in (cells, told)
    )
    tick, tick_of_told = (
        math.gcd(*(n - min(numbers) for n in numbers)) for numbers in (ticks, of_told)
    )
    assert tick_of_told == tick


def test_rows_that_tell_hold_what_columns_are_learned_from():
    rng = np.random.default_rng(0)
    days = pd.to_timedelta(rng.integers(0, 99, 500) * 6, unit="h")
    frame = pd.DataFrame(
        {
            "day": pd.Timestamp("2020-01-01") + days,
            "level": rng.choice([*"abc", None], 500),
            "big": rng.choice(GRIDS["int64"], 500),
        }
    )
    told = telling_rows(frame)
    assert len(told) < 40
    assert Columns(told).columns == Columns(frame).columns
