import datetime

import numpy as np
import pytest

from skae._data._frames import Columns, PlainColumns, has_columns

pd = pytest.importorskip("pandas")


def mixed():
    return pd.DataFrame(
        {
            "int": [1, 2, 3, 4],
            "small": np.array([1, 2, 3, 4], dtype=np.int8),
            "float": [0.5, np.nan, 2.0, 3.0],
            "single": np.array([0.5, 1, 2, 3], dtype=np.float32),
            "bool": [True, False, True, True],
            "category": pd.Categorical(["x", "y", "x", None], categories=["y", "x", "z"]),
            "ordered": pd.Categorical([1, 2, 2, 1], categories=[2, 1], ordered=True),
            "object": ["u", "v", None, "u"],
            "string": pd.array(["p", None, "q", "q"], dtype="string"),
            "Int64": pd.array([1, None, 3, 4], dtype="Int64"),
            "boolean": pd.array([True, None, False, True], dtype="boolean"),
            "day": pd.to_datetime(["2020-01-01", "2020-01-03", None, "2021-01-01"]),
            "zone": pd.to_datetime(["2020-01-01", "2020-07-03", None, "2021-01-01"]).tz_localize(
                "Europe/Berlin"
            ),
            "lapse": pd.to_timedelta([1, 2, 3, None], unit="h"),
            "numbers": np.array([1, 2.5, np.nan, 4], dtype=object),
            "nothing": [np.nan] * 4,
        }
    )


def test_pandas_there_and_back():
    frame = mixed()
    columns = Columns(frame)
    numbers = columns.to_numbers(frame)
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(numbers), frame.isna())
    pd.testing.assert_frame_equal(columns.restore(numbers), frame)
    # A level that no row has is not one.
    assert dict(zip(columns.names, columns.n_levels, strict=True))["category"] == 2


@pytest.mark.parametrize(
    ("cells", "first", "last"),
    [
        (np.arange(250, 254, dtype=np.uint8), 0, 255),
        (pd.array([250, 251, None, 254], dtype="UInt8"), 0, 255),
        (np.array([2**64 - 1 - 3 * i for i in range(4)], dtype=np.uint64), None, 2**64 - 1),
        (np.array([1, 2, 3, 4]).astype("M8[ns]"), None, None),
        ([datetime.date(9999, 12, 31 - i) for i in range(4)], datetime.date.min, datetime.date.max),
        ([datetime.datetime(9999, 12, 31 - i) for i in range(4)], None, None),
    ],
)
def test_what_a_dtype_does_not_hold_is_the_nearest_that_it_does(cells, first, last):
    frame = pd.DataFrame({"level": list("abab"), "cell": pd.Series(cells)})
    columns = Columns(frame)
    ends = columns.restore(np.array([[0.0, -1e20], [0, 1e20]]))["cell"]
    assert ends.dtype == frame["cell"].dtype
    assert ends[0] <= frame["cell"].min()
    assert ends[1] >= frame["cell"].max()
    assert first is None or ends[0] == first
    assert last is None or ends[1] == last


def test_dates_are_ticks_of_two_days():
    columns = Columns(mixed()[["day", "lapse"]])
    numbers = columns.to_numbers(mixed()[["day", "lapse"]])
    np.testing.assert_array_equal(numbers[:, 0], [0, 1, np.nan, 183])
    assert columns.encode_value(0, "2020-01-11") == 5


def test_dates_may_be_further_apart_than_integers_hold():
    """Of nanoseconds, differences of dates more than 292 years apart are no signed integers."""
    days = ["1700-01-01", "2200-01-01", "1900-06-01", None]
    frame = pd.DataFrame({"day": np.array(days, dtype="M8[ns]")})
    columns = Columns(frame)
    numbers = columns.to_numbers(frame)
    np.testing.assert_array_equal(numbers[:, 0], [0, 182_621, 73_199, np.nan])
    pd.testing.assert_frame_equal(columns.restore(numbers), frame)
    earlier = pd.DataFrame({"day": np.array(["1699-12-31"], dtype="M8[ns]")})
    np.testing.assert_array_equal(columns.to_numbers(earlier), [[-1]])


def test_polars_there_and_back():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "int": [1, 2, None],
            "str": ["x", None, "y"],
            "float": [1.5, None, 2.0],
            "date": [datetime.date(2020, 1, 1), None, datetime.date(2020, 2, 1)],
            "bool": [True, None, False],
            "cat": pl.Series(["k", "l", None], dtype=pl.Categorical),
        }
    )
    columns = Columns(frame)
    assert columns.restore(columns.to_numbers(frame)).equals(frame)


def test_arrays_of_objects_there_and_back():
    X = np.array([[1, "a"], [2.5, "b"], [3, "a"]], dtype=object)
    columns = Columns(X)
    assert columns.n_levels == [0, 2]
    np.testing.assert_array_equal(columns.restore(columns.to_numbers(X)), X)


def test_plain_arrays_keep_their_kind():
    assert not has_columns(np.ones((2, 2)))
    assert not has_columns([[1, 2], [3, 4]])
    assert has_columns([["a", 2], ["b", 4]])
    numbers = np.array([[0.2, 1.0], [0.9, 0.0]])
    assert PlainColumns(np.ones((2, 2), dtype=bool)).restore(numbers).dtype == bool
    assert PlainColumns(np.ones((2, 2), dtype=int)).restore(numbers).tolist() == [[0, 1], [1, 0]]
    assert PlainColumns(np.ones((2, 2), dtype=np.float32)).restore(numbers).dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("object", "w", "'object'.*'w'.*'u', 'v'"),
        ("float", np.inf, "'float'.*infinity"),
        ("float", "much", "'float'.*numbers"),
    ],
)
def test_bad_cells_are_named(name, value, message):
    columns = Columns(mixed())
    frame = mixed()
    frame[name] = frame[name].astype(object)
    frame.loc[1, name] = value
    with pytest.raises(ValueError, match=message):
        columns.to_numbers(frame)


def test_columns_that_cannot_be_numbers():
    with pytest.raises(ValueError, match=r"'a' of X is complex\. Complex data not"):
        Columns(pd.DataFrame({"a": [1j, 2j]}))
    with pytest.raises(ValueError, match=r"'a'.*2\*\*53"):
        Columns(pd.DataFrame({"a": [-(2**62), 1, 2**62]}))
    later = pd.DataFrame({"a": [2**60, 2**60 + 1]})
    with pytest.raises(ValueError, match=r"'a'.*2\*\*53"):
        Columns(pd.DataFrame({"a": [1, 2]})).to_numbers(later)


def test_dates_of_other_kinds():
    frame = pd.DataFrame({"a": pd.to_datetime(["2020-01-01", "2020-02-01"])})
    columns = Columns(frame)
    for other in (frame["a"] - frame["a"][0], frame["a"].dt.tz_localize("Europe/Berlin")):
        with pytest.raises(TypeError, match=r"'a'.*dates"):
            columns.to_numbers(pd.DataFrame({"a": other}))
    far = pd.DataFrame({"a": np.array(["9999-12-31", "2020-01-01"], dtype="datetime64[s]")})
    pd.testing.assert_frame_equal(Columns(far).restore(Columns(far).to_numbers(far)), far)


def test_whole_objects_and_single_precision():
    X = np.array([[1, "a"], [2, "b"]], dtype=object)
    columns = Columns(X)
    assert [type(cell) for cell in columns.restore(columns.to_numbers(X))[:, 0]] == [int, int]
    frame = pd.DataFrame({"a": np.array([0.1, 0.2], dtype=np.float32)})
    assert Columns(frame).to_numbers(frame).dtype == np.float32


def test_flags_among_objects_are_levels():
    frame = pd.DataFrame({"a": np.array([True, None, False], dtype=object)})
    columns = Columns(frame)
    assert columns.n_levels == [2]
    assert columns.restore(columns.to_numbers(frame))["a"].tolist() == [True, None, False]


def test_dates_must_stay_dates():
    columns = Columns(mixed()[["day"]])
    with pytest.raises(TypeError, match=r"'day'.*dates"):
        columns.to_numbers(pd.DataFrame({"day": [1.0, 2.0]}))


def test_cells_that_cannot_be_levels():
    frame = pd.DataFrame({"a": [{"foo": "bar"}, "b"]})
    with pytest.raises(TypeError, match=r"'a'.*string or a number"):
        Columns(frame)
