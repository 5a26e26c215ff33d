"""Tables of every container and dtype, through the estimators that read them as they are."""

import datetime
import warnings
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._data._frames import Columns
from skae._data._tables import as_table
from skae.relations import Inequality, OneOf, Sum

QUICK = {"max_epochs": 1, "hidden_layer_sizes": (4,), "random_state": 0, "device": "cpu"}


@dataclass(frozen=True)
class Door:
    """An estimator of mixed tables, and the methods that read rows and give rows back."""

    estimator: type
    read: str  # a method with one result for each row
    rows: object  # a function of a fitted estimator and a table

    def make(self, **params):
        if self.estimator is DenoisingAutoencoder:
            params = {"keep_empty_features": True} | params
        return self.estimator(n_components=1, **QUICK | params)


DOORS = {
    "transformer": Door(AutoencoderTransformer, "transform", lambda m, X: m.reconstruct(X)),
    "denoiser": Door(DenoisingAutoencoder, "reconstruction_error", lambda m, X: m.transform(X)),
    "detector": Door(AutoencoderOutlierDetector, "score_samples", lambda m, X: m.correct(X)),
    "generator": Door(
        VAEGenerator,
        "score_samples",
        lambda m, X: m.sample(len(X), random_state=0),
    ),
}


@pytest.fixture(params=DOORS)
def door(request):
    return DOORS[request.param]


# Kinds of columns.

N = 40
STEPS = np.random.default_rng(0).integers(0, 8, N)
NOISE = np.random.default_rng(1).normal(size=N)
BERLIN = ZoneInfo("Europe/Berlin")
HOURS = [datetime.datetime(2020, 3, 28, 12) + datetime.timedelta(hours=int(k)) for k in STEPS]
FAR = [datetime.datetime(9999, 12, 31), *HOURS[1:]]
NAMES = [f"s{k}" for k in STEPS % 3]
SPANS = [datetime.timedelta(minutes=10 * int(k)) for k in STEPS]


def objects(cells):
    return pd.Series(np.fromiter(cells, dtype=object, count=N), dtype=object)


def of_dtype(dtype, cells=STEPS):
    return lambda: pd.Series(cells).astype(dtype)


PANDAS = {
    **{dtype: of_dtype(dtype) for dtype in ("int64", "int8", "uint64", "float32", "float64")},
    **{dtype: of_dtype(dtype) for dtype in ("Int64", "UInt8", "Float32")},
    "bool": lambda: pd.Series(STEPS > 3),
    "boolean": lambda: pd.Series(STEPS > 3).astype("boolean"),
    **{dtype: of_dtype(dtype, NAMES) for dtype in ("str", "string", "category", "object")},
    "ordered": of_dtype(pd.CategoricalDtype(["s2", "s1", "s0", "z"], ordered=True), NAMES),
    "category of numbers": of_dtype("category", STEPS % 3),
    "category of dates": of_dtype("category", pd.to_datetime(HOURS)),
    "intervals": lambda: pd.Series(pd.arrays.IntervalArray.from_breaks(range(9)).take(STEPS)),
    "cut": lambda: pd.cut(pd.Series(STEPS), 3),
    "datetime64": lambda: pd.Series(pd.to_datetime(HOURS)),
    "zoned datetime64": lambda: pd.Series(pd.to_datetime(HOURS)).dt.tz_localize("UTC"),
    "timedelta64": lambda: pd.Series(pd.to_timedelta(SPANS)),
    "periods": lambda: pd.Series(pd.period_range("2020-01", periods=8, freq="M").take(STEPS)),
}
OBJECTS = {
    "dates": lambda: [cell.date() for cell in HOURS],
    "datetimes": lambda: HOURS,
    "datetimes of far years": lambda: FAR,
    "zoned datetimes": lambda: [cell.replace(tzinfo=BERLIN) for cell in HOURS],
    "datetimes in UTC": lambda: [cell.replace(tzinfo=datetime.UTC) for cell in HOURS],
    "zoned timestamps": lambda: [pd.Timestamp(cell, tz=BERLIN) for cell in HOURS],
    "datetime64 in objects": lambda: [np.datetime64(cell) for cell in HOURS],
    "times": lambda: [cell.time() for cell in HOURS],
    "timedeltas": lambda: SPANS,
    "Timedeltas": lambda: [pd.Timedelta(cell) for cell in SPANS],
    "timedelta64 in objects": lambda: [np.timedelta64(cell) for cell in SPANS],
    "periods in objects": lambda: [pd.Period("2020-01", "M") + int(k) for k in STEPS],
    "decimals": lambda: [Decimal(int(k)) / 4 for k in STEPS],
    "integers in objects": lambda: STEPS.tolist(),
    "bytes": lambda: [name.encode() for name in NAMES],
    "strings and integers": lambda: [int(k) if k > 3 else f"s{k}" for k in STEPS],
    "intervals in objects": lambda: [pd.Interval(int(k), int(k) + 1) for k in STEPS],
}
GAPS = {"None": None, "NaN": np.nan, "NA": pd.NA, "NaT": pd.NaT}
HAS_NO_GAPS = {"int64", "int8", "uint64", "bool", "intervals"}


def with_gap(cells, gap):
    """The column with some missing cells."""
    cells = cells.copy()
    cells.iloc[5:9] = gap
    assert cells.isna().sum() == 4
    return cells


def table_of(cells):
    """A mixed table with a column of these cells."""
    return pd.DataFrame({"cell": cells, "kind": ["p", "q"] * (N // 2), "noise": NOISE})


def check(door, X, path):
    """Rows come back in container, dtypes and kinds of cells, also by a model from a file."""
    model = door.make().fit(X)
    assert np.isfinite(getattr(model, door.read)(X)).all()
    rows = door.rows(model, X)
    assert type(rows) is type(X)
    columns = model._columns
    again = columns.restore(columns.to_numbers(as_table(X)))
    skae.save(model, path)
    loaded = skae.load(path)
    assert same(door.rows(loaded, X), rows)
    assert_array_equal(getattr(loaded, door.read)(X), getattr(model, door.read)(X))
    return model, rows, again


def same(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(pd.isna(a), pd.isna(b)) and (a == b)[~pd.isna(a)].all()
    return a.equals(b)


def check_cells(rows, again, X):
    """Cells have the values and types of those that went in."""
    assert rows.dtypes.equals(X.dtypes)
    for name, cells in X.items():
        known = cells.notna()
        assert_array_equal(again[name].notna(), known, name)
        assert {type(c) for c in rows[name].dropna()} <= {type(c) for c in cells[known]}, name
        if cells.dtype.kind != "f":
            assert again[name][known].tolist() == cells[known].tolist(), name


@pytest.mark.parametrize("has_gaps", [False, True])
def test_columns_of_pandas(has_gaps, door, tmp_path):
    columns = {name: make() for name, make in PANDAS.items()}
    if has_gaps:
        columns = {k: c if k in HAS_NO_GAPS else with_gap(c, None) for k, c in columns.items()}
    X = pd.DataFrame(columns).assign(noise=NOISE)
    _, rows, again = check(door, X, tmp_path / "model.skae")
    check_cells(rows, again, X)


@pytest.mark.parametrize("gap", [None, *GAPS])
def test_columns_of_objects(gap, door, tmp_path):
    columns = {name: objects(make()) for name, make in OBJECTS.items()}
    if gap is not None:
        columns = {name: with_gap(column, GAPS[gap]) for name, column in columns.items()}
    X = pd.DataFrame(columns).assign(noise=NOISE)
    _, rows, again = check(door, X, tmp_path / "model.skae")
    check_cells(rows, again, X)


@pytest.mark.parametrize(
    ("kind", "text", "cell"),
    [
        ("zoned datetimes", "2020-03-28 16:00", HOURS[0].replace(hour=16, tzinfo=BERLIN)),
        ("zoned timestamps", "2020-03-28 16:00", pd.Timestamp("2020-03-28 16:00", tz=BERLIN)),
        ("zoned datetime64", "2020-03-28 13:00", pd.Timestamp("2020-03-28 13:00", tz="UTC")),
        ("times", "14:00", datetime.time(14)),
        ("timedeltas", "00:20:00", datetime.timedelta(minutes=20)),
        ("periods", "2020-03", pd.Period("2020-03", "M")),
        ("periods in objects", "2020-03", pd.Period("2020-03", "M")),
    ],
)
def test_conditions_on_dates_and_times(kind, text, cell):
    """They may be cells, or texts, which are read as times of the column's zone."""
    cells = PANDAS[kind]() if kind in PANDAS else objects(OBJECTS[kind]())
    model = VAEGenerator(1, **QUICK).fit(table_of(cells))
    for given in (text, cell):
        drawn = model.sample(3, random_state=0, conditions={"cell": given})["cell"]
        assert drawn.tolist() == [cell] * 3
    with pytest.raises(ValueError, match="'cell' cannot be 'never'"):
        model.sample(conditions={"cell": "never"})


def test_new_times_and_durations_are_drawn():
    cells = {"span": objects(3 * span for span in SPANS), "time": objects(OBJECTS["times"]())}
    X = pd.DataFrame(cells | {"noise": NOISE})
    columns = Columns(X)
    assert columns.n_levels == [0, 0, 0]
    late = pd.DataFrame([[99, 99, 0.0]], columns=X.columns)
    beyond = columns.restore(late.to_numpy())
    assert beyond["time"][0] == datetime.time(23, 59, 59, 999999)
    assert beyond["span"][0] == datetime.timedelta(minutes=30 * 99)


def test_relations_between_durations():
    X = pd.DataFrame({"a": objects(SPANS), "b": objects(2 * s for s in SPANS), "noise": NOISE})
    model = VAEGenerator(1, relations=[Inequality("a", "b")], **QUICK).fit(X)
    rows = model.sample(60, random_state=0)
    assert (rows["a"] <= rows["b"]).all()
    assert {type(cell) for cell in rows["b"]} == {datetime.timedelta}


# Containers.


def polars_columns(pl):
    codes = STEPS.tolist()
    hours = pl.Series(HOURS)
    return {
        **{str(t): pl.Series(codes, dtype=t) for t in (pl.Int8, pl.Int64, pl.UInt64, pl.Float32)},
        "Boolean": pl.Series((STEPS > 3).tolist()),
        "String": pl.Series(NAMES),
        "Categorical": pl.Series(NAMES, dtype=pl.Categorical),
        "Enum": pl.Series(NAMES, dtype=pl.Enum(["s2", "z", "s1", "s0"])),
        "Date": hours.cast(pl.Date),
        "Datetime": hours,
        "nanoseconds": (hours.cast(pl.Int64) * 1000 + pl.Series(codes)).cast(pl.Datetime("ns")),
        "zone": hours.dt.replace_time_zone("Europe/Berlin"),
        "Duration": pl.Series(SPANS).cast(pl.Duration("ms")),
        "Time": pl.Series([cell.time() for cell in HOURS]),
        "Decimal": pl.Series([Decimal(int(k)) / 4 for k in STEPS], dtype=pl.Decimal(12, 3)),
        "Binary": pl.Series([name.encode() for name in NAMES]),
        "Int128": pl.Series(codes, dtype=pl.Int128),
        "large": pl.Series([2**70 + 3 * k for k in codes], dtype=pl.Int128),
    }


@pytest.mark.parametrize("with_gaps", [False, True])
def test_columns_of_polars(with_gaps, door, tmp_path):
    pl = pytest.importorskip("polars", "1.20")
    X = pl.DataFrame(polars_columns(pl)).with_columns(noise=NOISE)
    if with_gaps:
        is_gap = pl.int_range(pl.len()).is_between(5, 8)
        X = X.with_columns(pl.when(is_gap).then(None).otherwise(pl.all()).name.keep())
        X = X.with_columns(
            nothing=pl.Series([None] * N, dtype=pl.Null),
            no_date=pl.Series([None] * N, dtype=pl.Date),
            no_level=pl.Series([None] * N, dtype=pl.Enum(["a"])),
        )
        assert X.null_count().row(0).count(4) == X.width - 3
    model, rows, again = check(door, X, tmp_path / "model.skae")
    assert rows.schema == again.schema == X.schema
    assert again.equals(X)
    if hasattr(model, "set_output"):
        model.set_output(transform="polars")
        assert isinstance(model.transform(X), pl.DataFrame)


def test_conditions_on_columns_of_polars():
    pl = pytest.importorskip("polars", "1.20")
    X = pl.DataFrame(polars_columns(pl)).select("zone", "Time", "Enum", "Date").to_dict()
    X = pl.DataFrame(X).with_columns(noise=NOISE)
    model = VAEGenerator(1, **QUICK).fit(X)
    for name in X.columns[:-1]:
        wanted = X[[7], [name]]
        assert model.sample(conditions=wanted, random_state=0)[[name]].equals(wanted)


def test_zones_of_polars_in_files_of_earlier_versions():
    """They held times in UTC, without a zone."""
    pl = pytest.importorskip("polars", "1.20")
    X = pl.DataFrame({"zone": polars_columns(pl)["zone"], "noise": NOISE})
    columns = Columns(X)
    before = columns.to_numbers(X)
    columns.columns[0].dtype = np.dtype("M8[us]")
    assert_array_equal(columns.to_numbers(X), before)
    assert columns.restore(before).equals(X)


def test_declared_levels_of_polars_are_gaps_to_the_transformer():
    pl = pytest.importorskip("polars")
    levels = pl.Enum(["s0", "s1", "s2", "z"])
    X = pl.DataFrame({"cell": pl.Series(NAMES, dtype=levels), "noise": NOISE})
    model = AutoencoderTransformer(1, **QUICK).fit(X)
    of_cell = {
        cell: model.transform(X[:1].with_columns(cell=pl.Series([cell], dtype=levels)))
        for cell in ("z", None)
    }
    assert_array_equal(of_cell["z"], of_cell[None])
    with pytest.raises(ValueError, match=r"'cell' of X holds 'w'.*allowed are 's0', 's1', 's2'"):
        model.transform(X[:1].with_columns(cell=pl.lit("w")))


def arrow_columns(pa):
    days = [cell.date() for cell in HOURS]
    times = [cell.time() for cell in HOURS]
    return {
        "int": pa.array(STEPS.tolist(), pa.int32()),
        "float": pa.array(NOISE.tolist(), pa.float32()),
        "bool": pa.array((STEPS > 3).tolist()),
        "string": pa.array(NAMES),
        "large": pa.array(NAMES, pa.large_string()),
        "dictionary": pa.array(NAMES).dictionary_encode(),
        "date32": pa.array(days),
        "date64": pa.array(days, pa.date64()),
        "timestamp": pa.array(HOURS, pa.timestamp("us")),
        "zone": pa.array(HOURS, pa.timestamp("ms", tz="UTC")),
        "duration": pa.array(SPANS, pa.duration("s")),
        "time32": pa.array(times, pa.time32("s")),
        "time64": pa.array(times, pa.time64("ns")),
        "decimal": pa.array([Decimal(int(k)) / 4 for k in STEPS], pa.decimal128(9, 2)),
        "binary": pa.array([name.encode() for name in NAMES]),
    }


@pytest.mark.parametrize("with_gaps", [False, True])
def test_columns_of_arrow(with_gaps, door, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="skae[parquet] is not installed")
    arrays = arrow_columns(pa)
    if with_gaps:
        is_gap = pa.array([5 <= i < 9 for i in range(N)])
        arrays = {k: pa.compute.if_else(is_gap, None, v) for k, v in arrays.items()}
        arrays["nothing"] = pa.nulls(N)
    X = pa.table(arrays)
    _, rows, again = check(door, X, tmp_path / "model.skae")
    assert rows.schema.equals(X.schema)
    assert again.equals(X)
    frame = X.to_pandas(types_mapper=pd.ArrowDtype)  # a frame stays one
    _, rows, again = check(door, frame, tmp_path / "model.skae")
    assert rows.dtypes.equals(frame.dtypes)


def test_conditions_in_a_table_of_arrow():
    pa = pytest.importorskip("pyarrow", reason="skae[parquet] is not installed")
    X = pa.table({"cell": NAMES, "noise": NOISE})
    wanted = pa.table({"cell": ["s2", "s0"]})
    drawn = VAEGenerator(1, **QUICK).fit(X).sample(conditions=wanted, random_state=0)
    assert drawn.select(["cell"]).equals(wanted)


ARRAYS = {
    "objects": (lambda: np.column_stack([objects(NAMES), objects(NOISE)]), object),
    "gaps": (lambda: np.array([["a", None, 1.5], ["b", 2, np.nan]] * 20, dtype=object), object),
    "texts": (lambda: np.column_stack([NAMES, NAMES[::-1]]), "U"),
    "bytes": (lambda: np.column_stack([NAMES, NAMES[::-1]]).astype("S"), "S"),
    "dates": (lambda: np.array([HOURS, HOURS[::-1]], dtype="M8[us]").T, "M"),
    "durations": (lambda: np.array([SPANS, SPANS[::-1]], dtype="m8[s]").T, "m"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, door, tmp_path):
    X = ARRAYS[name][0]()
    _, rows, again = check(door, X, tmp_path / "model.skae")
    assert rows.dtype.kind == again.dtype.kind == np.dtype(ARRAYS[name][1]).kind
    known = ~pd.isna(X)
    assert_array_equal(pd.isna(again), ~known)
    assert_array_equal(again[known], X[known])


def test_lists_and_masked_arrays_are_arrays_of_objects(door):
    cells = np.column_stack([objects(NAMES), objects(NOISE)])
    mask = np.zeros(cells.shape, dtype=bool)
    mask[3:6, 0] = True
    texts = np.ma.array(np.column_stack([NAMES, NAMES[::-1]]), mask=mask)
    for X in (cells.tolist(), np.ma.array(cells, mask=mask), texts):
        rows = door.rows(door.make().fit(X), X)
        assert type(rows) is np.ndarray
        assert rows.dtype.kind == "U" if X is texts and pd.notna(rows).all() else "O"
    masked = np.where(mask, None, cells)
    expected = door.make().fit(masked)
    model = door.make().fit(np.ma.array(cells, mask=mask))
    assert_array_equal(getattr(model, door.read)(masked), getattr(expected, door.read)(masked))


@pytest.mark.parametrize(
    "names",
    [
        pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")], names=["one", None]),
        pd.Index([7, 3, 5]),
        pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
    ],
)
def test_names_that_are_no_strings_come_back(names, door, tmp_path):
    X = table_of(objects(NAMES)).set_axis(names, axis=1)
    _, rows, _ = check(door, X, tmp_path / "model.skae")
    assert rows.columns.equals(names)
    with pytest.raises(ValueError, match="holds 'z'"):
        getattr(door.make().fit(X), door.read)(X.replace("s1", "z"))


# What is no table, and tables that cannot be read.


def structured():
    return pd.DataFrame({"a": NOISE}).to_records()


def arrow_scanner():
    reason = "skae[parquet] is not installed"
    dataset = pytest.importorskip("pyarrow.dataset", reason=reason)
    return dataset.dataset(pytest.importorskip("pyarrow").table({"a": NOISE})).scanner()


def ibis_table():
    ibis = pytest.importorskip("ibis", reason="not in constraints.txt")
    return ibis.table({"a": "int64"}, name="t")


def duckdb_relation():
    return pytest.importorskip("duckdb", reason="not in constraints.txt").sql("select 1 a, 2 b")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pytest.importorskip("polars").LazyFrame({"a": [1]}), r"X\.collect\(\)"),
        (arrow_scanner, r"Scanner.*X\.to_table\(\)"),
        (ibis_table, r"X\.to_pandas\(\)"),
        (duckdb_relation, r"X\.df\(\)"),
        (structured, r"pandas\.DataFrame\(X\)"),
        (object, "must be a table"),
        (lambda: pd.NA, "X=<NA> must be a table"),
    ],
)
def test_what_is_no_table(make, message, door):
    with pytest.raises(TypeError, match=message):
        door.make().fit(make())


class DataFrame:  # of Spark, which needs Java
    __module__ = "pyspark.sql.dataframe"


def test_frames_of_spark_say_what_to_call(door):
    with pytest.raises(
        TypeError, match=r"X is a DataFrame, not a table in memory.*X\.toPandas\(\)"
    ):
        door.make().fit(DataFrame())


def frame():
    return pd.DataFrame(
        {
            "number": NOISE,
            "flag": STEPS > 3,
            "level": NAMES,
            "kind": pd.Categorical(NAMES),
            "day": pd.to_datetime(HOURS),
            "date": objects(cell.date() for cell in HOURS),
            "time": objects(cell.time() for cell in HOURS),
            "span": pd.to_timedelta(SPANS),
            "zone": pd.Series(pd.to_datetime(HOURS)).dt.tz_localize("Europe/Berlin"),
        }
    )


FAILS_IN_FIT = {
    "lists": ({"level": [["a"]] * N}, r"'level' of X holds \['a'\] in row 0.*Make columns"),
    "dicts": ({"level": [{"a": 1}] * N}, r"'level' of X holds \{'a': 1\}.*not 'dict'"),
    "sets": ({"level": [{1}] * N}, r"'level' of X holds \{1\} in row 0"),
    "arrays": ({"level": [np.ones(2)] * N}, "'level' of X holds array.* in row 0"),
    "complex": ({"number": STEPS * 1j}, "'number' of X is complex"),
    "complex objects": ({"number": objects(STEPS * 1j)}, "'number' of X is complex"),
    "infinity": ({"number": np.inf}, "'number' of X contains infinity"),
    "infinite decimals": (
        {"number": objects([Decimal("Infinity")] * N)},
        "'number' of X contains infinity",
    ),
    "zones": (
        {"day": objects([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), *HOURS[1:]])},
        r"'day' of X holds dates of different time zones, UTC and None; .*to_datetime\(X\['day'\]",
    ),
    "no rows": (slice(0), r"0 sample\(s\)"),
    "nothing": (dict.fromkeys(frame()), "All cells of X are missing"),
}


@pytest.mark.parametrize("name", FAILS_IN_FIT)
def test_tables_that_cannot_be_read(name, door):
    change, message = FAILS_IN_FIT[name]
    good = frame()
    bad = good[change] if isinstance(change, slice) else good.assign(**change)
    with pytest.raises((TypeError, ValueError), match=message):
        door.make().fit(bad)
    model = door.make().fit(good)
    before = vars(model).copy()
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(bad)
    assert vars(model) == before


@pytest.mark.parametrize("X", [np.full((N, 2), np.nan), [[None, None]] * N])
def test_tables_without_a_cell(X, door):
    with pytest.raises(ValueError, match="All cells of X are missing: there is nothing to learn"):
        door.make().fit(X)


FAILS_LATER = {
    "unseen level": ({"level": "z"}, r"'level' of X holds 'z'.*allowed are 's0', 's1', 's2'"),
    "number of levels": ({"level": 1.5}, r"'level' of X holds 1\.5.*allowed are 's0'"),
    "list": ({"level": [["a"]] * N}, r"'level' of X holds \['a'\] in row 0"),
    "string of numbers": ({"number": "a"}, "'number' of X.* holds 'a' in row 0.*numbers"),
    "dates of numbers": ({"number": pd.Timestamp("2020")}, "'number' of X.*holds Timestamp"),
    "durations of numbers": ({"number": pd.Timedelta("1h")}, "'number' of X.*not dates or times"),
    "complex": ({"number": 1j}, "'number' of X.*1j.*Complex"),
    "infinity": ({"number": -np.inf}, "'number' of X contains infinity"),
    "strings of flags": ({"flag": "yes"}, "'flag' of X.* holds 'yes'"),
    "numbers of flags": ({"flag": 2}, "'flag' of X.* holds 2"),
    "strings of dates": ({"day": "2020-01-01"}, r"'day' of X.*holds '2020-01-01'.*to_datetime"),
    "text of dates": ({"day": objects(["1.2.2020"] * N)}, r"'day' of X.*'1\.2\.2020'.*dates"),
    "numbers of dates": ({"day": objects([5] * N)}, "'day' of X.*holds 5 in row 0.*dates"),
    "a zone": ({"day": pd.Timestamp("2020", tz="UTC")}, "'day' of X must hold dates as in fit"),
    "no zone": ({"zone": pd.Timestamp("2020")}, "'zone' of X must hold dates as in fit"),
    "numbers of days": ({"date": 737_000}, "'date' of X.*holds 737000 in row 0.*dates"),
    "strings of days": ({"date": "2020-01-01"}, "'date' of X.*'2020-01-01'.*to_datetime"),
    "strings of times": ({"time": "12:00"}, "'time' of X.*'12:00'.*times"),
    "numbers of spans": ({"span": 5}, "'span' of X.*holds 5 in row 0.*durations"),
    "strings of spans": ({"span": "1h"}, "'span' of X.*'1h'.*to_timedelta"),
}


@pytest.fixture(scope="module")
def fitted():
    return {name: door.make().fit(frame()) for name, door in DOORS.items()}


@pytest.mark.parametrize("name", FAILS_LATER)
@pytest.mark.parametrize("estimator", DOORS)
def test_rows_that_do_not_fit(name, estimator, fitted):
    change, message = FAILS_LATER[name]
    model, before = fitted[estimator], vars(fitted[estimator]).copy()
    X = frame().assign(**change)
    for method in (DOORS[estimator].read, "partial_fit"):
        with pytest.raises((TypeError, ValueError), match=f"Column {message}"):
            getattr(model, method)(X)
    assert vars(model) == before


@pytest.mark.parametrize("estimator", DOORS)
def test_cells_that_mean_the_same(estimator, fitted):
    """Other dtypes of the same cells, and columns of gaps alone."""
    model, read, X = fitted[estimator], DOORS[estimator].read, frame()
    expected = getattr(model, read)(X)
    others = {
        "number": X["number"].astype(object),
        "flag": X["flag"].astype(int),
        "level": X["level"].astype("category"),
        "kind": X["kind"].astype(str),
        "day": objects(HOURS),
        "date": pd.to_datetime(X["date"]),
        "span": objects(SPANS),
        "zone": X["zone"].dt.tz_convert("UTC"),
    }
    for name, column in others.items():
        assert_array_equal(getattr(model, read)(X.assign(**{name: column})), expected, name)
    for name in X:
        assert np.isfinite(getattr(model, read)(X.assign(**{name: None}))).all()


def test_columns_missing_added_and_moved_are_named_by_scikit_learn(door):
    X = frame()
    model = door.make().fit(X)
    for other, message in (
        (X.drop(columns="level"), "missing:\n- level"),
        (X.assign(new=1), "unseen at fit time:\n- new"),
        (X[X.columns[::-1]], "same order"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(model, door.read)(other)
    with pytest.raises(TypeError, match="string names"):
        door.make().fit(X.set_axis([0, *X.columns[1:]], axis=1))


@pytest.mark.parametrize("kind", ["str", "category", "Enum"])
def test_columns_that_name_rows_warn(kind, door):
    cells = [f"P{i}" for i in range(120)]
    X = pd.DataFrame({"id": pd.Series(cells, dtype="category" if kind == "category" else "str")})
    X["noise"] = np.arange(120.0)
    if kind == "Enum":
        pl = pytest.importorskip("polars")
        X = pl.DataFrame({"id": pl.Series(cells, dtype=pl.Enum(cells)), "noise": X["noise"]})
    with pytest.warns(UserWarning, match="'id' of X holds 120 levels in 120 rows"):
        door.make().fit(X)


def test_columns_of_one_cell_or_none(door):
    X = frame().assign(level="a", number=1.5, day=HOURS[0], date=None, span=pd.NaT, kind=np.nan)
    X["zone"] = X["zone"].mask(X["flag"].notna())
    rows = door.rows(door.make().fit(X), X)
    assert rows.dtypes.equals(X.dtypes)
    assert (rows[["level", "number", "day"]] == X[["level", "number", "day"]]).all(axis=None)
    assert rows[["date", "span", "zone"]].isna().all(axis=None)
    later = frame()[["date", "span", "zone"]]  # cells of columns without one in fit are not read
    model = door.make().fit(X)
    assert np.isfinite(getattr(model, door.read)(X.assign(**later))).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["shape"], "'shape' must be one of 'number', 'flag', 'level', 'kind'.*from 0 to 8"),
        ([9], "9 must be one of"),
        ([True, False], "categorical_features is a mask of 2 columns, but X has 9"),
        (np.zeros(11, dtype=bool), "categorical_features is a mask of 11 columns, but X has 9"),
    ],
)
def test_columns_of_levels_that_there_are_not(columns, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(1, categorical_features=columns, **QUICK).fit(frame())


def test_categories_of_numbers_are_numbers_where_no_column_has_levels():
    X = frame()[["number", "day"]].assign(kind=pd.Categorical(STEPS % 3))
    params = QUICK | {"categorical_features": None}
    model = AutoencoderTransformer(1, **params).fit(X)
    assert model._columns.n_levels == [0, 0, 0]
    plain = X.astype({"kind": int})
    assert_array_equal(model.transform(X), AutoencoderTransformer(1, **params).fit_transform(plain))
    assert model.reconstruct(X).dtypes.equals(plain.dtypes)
    with pytest.raises(ValueError, match=r"'level' of X holds 's0'.*features=None"):
        AutoencoderTransformer(1, **params).fit(X.assign(level=NAMES))


def test_infinite_numbers_are_placed():
    X = pd.DataFrame({"a": NOISE, "b": np.where(STEPS == 7, -np.inf, NOISE)})
    row = int((STEPS == 7).argmax())
    with pytest.raises(ValueError, match=f"contains infinity.*in column 'b', row {row}"):
        AutoencoderTransformer(1, **QUICK).fit(X)
    with pytest.raises(ValueError, match=f"contains infinity.*in column 1, row {row}"):
        AutoencoderTransformer(1, **QUICK).fit(X.to_numpy())


def test_declared_levels_count_as_one_row_to_the_generator():
    levels = pd.CategoricalDtype(["s0", "s1", "s2", "z"])
    X = table_of(pd.Series(NAMES)).astype({"cell": levels})
    model = VAEGenerator(1, **QUICK).fit(X)
    row = X.iloc[[0]]
    unseen = row.assign(cell=pd.Categorical(["z"], dtype=levels))
    gap = row.assign(cell=pd.Categorical([None], dtype=levels))
    difference = model.score_samples(gap) - model.score_samples(unseen)
    assert difference == pytest.approx(np.log(N))
    assert_array_equal(model.transform(unseen), model.transform(gap))
    with pytest.raises(ValueError, match="'cell' of X holds 'z'"):
        model.partial_fit(pd.concat([X, unseen]))
    with pytest.raises(ValueError, match="'cell' of X holds 'w'"):
        model.score_samples(row.assign(cell="w"))


def drift(model, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.partial_fit(X)
    (message,) = [str(w.message) for w in caught if "far from those" in str(w.message)]
    return message


def test_the_column_that_is_far_is_named():
    """Of rows that relations have shortened, and with dates as dates."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"even": STEPS % 2, "odd": 1 - STEPS % 2, "a": NOISE})
    X = X.assign(total=X["a"] + X["even"], last=rng.normal(size=N))
    relations = [OneOf(["even", "odd"]), Sum("total", ["a", "even"])]
    model = VAEGenerator(1, relations=relations, **QUICK).fit(X)
    assert len(model._relations.keys) < X.shape[1]
    assert "column 'last' of X are above 98.9," in drift(model, X.assign(last=X["last"] + 99))
    dated = frame()[["number", "day", "level"]]
    later = dated.assign(day=dated["day"] + pd.Timedelta("900D"))
    for door in (DOORS["transformer"], DOORS["generator"]):
        message = drift(door.make().fit(dated), later)
        assert "column 'day' of X are above 2022-09-1" in message
        assert "2020-03-28 12:00:00 to 2020-03-28 19:00:00" in message


def test_fractions_are_numbers_or_levels(door):
    X = table_of(objects(Fraction(int(k), 3) for k in STEPS))
    assert set(door.rows(door.make().fit(X), X)["cell"]) <= set(X["cell"])


@pytest.mark.parametrize("columns", [[1], [False, True, False]])
def test_codes_in_arrays_are_levels_if_they_are_named(columns, door):
    X = np.column_stack([NOISE, 10.0 * (STEPS % 3), NOISE[::-1]])
    model = door.make(categorical_features=columns).fit(X)
    rows = door.rows(model, X)
    assert type(rows) is np.ndarray
    assert set(rows[:, 1]) <= {0.0, 10.0, 20.0}
    with pytest.raises(ValueError, match=r"holds 30.*allowed are 0\.0, 10\.0"):
        getattr(model, door.read)(np.where(X == 10.0, 30.0, X))


def test_columns_of_levels_that_are_not_named(door):
    X = pd.DataFrame({"number": NOISE, "kind": STEPS % 3, "name": NAMES})
    for features, rule in ((["kind"], "must name all columns"), (None, "reads no levels")):
        message = f"Column 'name' of X holds 's0', but must hold numbers or dates.*{rule}"
        with pytest.raises(ValueError, match=message):
            door.make(categorical_features=features).fit(X)
    assert door.make(categorical_features=None).fit(X[["number", "kind"]]) is not None
