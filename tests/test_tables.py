"""Tables of any container hold numbers, or an error names the column that does not."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator
from skae._data._tables import as_table, numbers_of_table, without_mask
from skae.comparison import latent_size_curve

READ_NUMBERS = pytest.mark.parametrize(
    "case", ["transformer", "denoiser", "detector"], indirect=True
)
MAY_MISS_CELLS = pytest.mark.parametrize("case", ["denoiser", "detector"], indirect=True)
FLAGS = [True, None, False, True]
DAYS = [datetime.date(2020, 1, day) for day in (1, 2, 3, 5)]


def polars_frame(**columns):
    return pytest.importorskip("polars").DataFrame(columns)


def arrow_table(**columns):
    return pytest.importorskip("pyarrow", reason="skae[parquet] is not installed").table(columns)


def arrow_frame(**columns):
    return as_table(arrow_table(**columns))


def objects(cells):
    return np.fromiter(cells, dtype=object, count=len(cells))


# What is read as the numbers beside it, under the name "a".
NUMBERS = {
    "polars Booleans": (lambda: polars_frame(a=FLAGS), [1, np.nan, 0, 1]),
    "polars Decimals": (lambda: polars_frame(a=[Decimal("0.5"), None]), [0.5, np.nan]),
    "polars nulls": (lambda: polars_frame(a=[None, None]), [np.nan, np.nan]),
    "Arrow Booleans": (lambda: arrow_table(a=FLAGS), [1, np.nan, 0, 1]),
    "Arrow integers": (lambda: arrow_table(a=[3, None]), [3, np.nan]),
    "Arrow Decimals": (lambda: arrow_table(a=[Decimal("0.5"), None]), [0.5, np.nan]),
    "Arrow nulls": (lambda: arrow_table(a=[None, None]), [np.nan, np.nan]),
    "Arrow batch": (lambda: arrow_table(a=FLAGS).to_batches()[0], [1, np.nan, 0, 1]),
    "boolean": (lambda: pd.DataFrame({"a": pd.array(FLAGS, dtype="boolean")}), [1, np.nan, 0, 1]),
    "Int64": (lambda: pd.DataFrame({"a": pd.array([3, None], dtype="Int64")}), [3, np.nan]),
    "objects": (lambda: pd.DataFrame({"a": objects(FLAGS)}), [1, np.nan, 0, 1]),
    "missing": (lambda: pd.DataFrame({"a": objects([pd.NA, pd.NaT, 2])}), [np.nan, np.nan, 2]),
    "Decimals": (lambda: pd.DataFrame({"a": [Decimal("0.5"), None]}), [0.5, np.nan]),
    "nothing": (lambda: pd.DataFrame({"a": objects([None, None])}), [np.nan, np.nan]),
    "strings": (lambda: pd.DataFrame({"a": ["1", "2.5"]}), [1, 2.5]),
    "categories": (lambda: pd.DataFrame({"a": pd.Categorical([2, 1])}), [2, 1]),
    "mixed": (lambda: pd.DataFrame({"a": objects([True, 2.5])}), [1, 2.5]),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("beside", [False, True])
def test_cells_that_are_numbers(name, beside):
    make, expected = NUMBERS[name]
    table = as_table(make())
    if beside:  # integers, so that arrays of the table hold objects
        numbers = np.arange(len(expected))
        is_pandas = isinstance(table, pd.DataFrame)
        table = table.assign(b=numbers) if is_pandas else table.with_columns(b=numbers)
    out = numbers_of_table(table)
    assert list(out.columns) == list(table.columns)
    assert_array_equal(np.asarray(out, dtype=float)[:, 0], expected)
    assert np.asarray(out).dtype.kind == "f"


def test_tables_of_numbers_are_not_copied():
    for X in (np.ones((2, 2)), np.ones((2, 2), dtype=np.float32), pd.DataFrame({"a": [1, 2]})):
        assert numbers_of_table(as_table(X)) is X


def test_frames_of_float32_stay_so():
    frame = pd.DataFrame({"a": pd.array([1.5, None], dtype="Float32")})
    assert numbers_of_table(frame).dtypes.tolist() == [np.float32]


@MAY_MISS_CELLS
@pytest.mark.parametrize("make", [polars_frame, arrow_table, arrow_frame])
def test_flags_with_gaps_beside_integers(make, case, table):
    columns = {
        "flag": [None if x > 4 else bool(x > 3) for x in table[:, 0]],
        "count": np.rint(10 * table[:, 1]).astype(int).tolist(),
        "x": table[:, 2].tolist(),
    }
    X = make(**columns)
    plain = pd.DataFrame(columns).astype(float)
    model, expected = case.make().fit(X), case.make().fit(plain)
    assert model.feature_names_in_.tolist() == list(columns)
    for method in case.row_methods:
        assert_array_equal(getattr(model, method)(X), getattr(expected, method)(plain), method)


# Columns that hold no numbers, and what is said of them.
BAD = {
    "string": (lambda: pd.Series(["x", "y"] * 60), "X.* holds 'x' in row 0.*strings"),
    "category": (lambda: pd.Series(["x", "y"] * 60, dtype="category"), "X.*category.*'x'"),
    "one cell": (
        lambda: pd.Series(objects([*range(119), "oops"])),
        "X.*'oops' in row 119",
    ),
    "date": (
        lambda: pd.Series(pd.date_range("2020", periods=120)),
        "X.*datetime64.*dates",
    ),
    "zone": (
        lambda: pd.Series(pd.date_range("2020", periods=120, tz="UTC")),
        "X.*UTC.*dates",
    ),
    "lapse": (lambda: pd.Series(pd.to_timedelta(range(120), unit="h")), "X.*timedelta64"),
    "period": (
        lambda: pd.Series(pd.period_range("2020", periods=120)),
        "X.*period.*dates",
    ),
    "days": (lambda: pd.Series(objects(DAYS * 30)), r"X.*datetime.date\(2020, 1, .\).*dates"),
    "date among numbers": (
        lambda: pd.Series(objects([1.5] * 119 + [np.datetime64("2020")])),
        "X.*datetime64.*in row 119.*dates",
    ),
    "lists": (lambda: pd.Series([[1, 2]] * 120), r"X.*holds \[1, 2\] in row 0"),
    "complex": (lambda: pd.Series([1 + 2j] * 120), "X.*Complex"),
    "huge": (
        lambda: pd.Series(objects([10**400] * 120)),
        "X",
    ),
}


@READ_NUMBERS
@pytest.mark.parametrize("name", BAD)
def test_columns_without_numbers_are_named(name, case, table):
    make, message = BAD[name]
    message = f"Column 'bad' of {message}"
    good = pd.DataFrame({"x": table[:, 0], "bad": table[:, 1]})
    X = good.assign(bad=make())
    for method in ("fit", "partial_fit") if name in ("lists", "complex") else ():
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(case.make(), method)(X)
    model = case.make(max_epochs=1).fit(good)
    for method in case.row_methods:
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(model, method)(X)


@pytest.mark.parametrize("cells", [DAYS, ["x", "y", "x", "y"], [[1], [2], [3], [4]]])
@pytest.mark.parametrize("make", [polars_frame, arrow_table])
def test_columns_of_other_frames_without_numbers_are_named(make, cells):
    with pytest.raises((TypeError, ValueError), match=r"'bad' of X, of dtype .* in row 0"):
        numbers_of_table(as_table(make(x=[1.0, 2.0, 3.0, 4.0], bad=cells)))


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.0, "x"], [2.0, "y"]], dtype=object),
        [[1.0, "x"], [2.0, "y"]],
        np.array([["1", "x"], ["2", "y"]])[:, [1, 1]],
        np.array([["2020", "2021"]] * 2, dtype="M8[D]"),
        np.arange(4).reshape(2, 2).astype("m8[s]"),
    ],
)
def test_columns_of_arrays_without_numbers_are_named(X):
    with pytest.raises(ValueError, match=r"Column [01] of X, of dtype .*, holds .* in row 0"):
        numbers_of_table(as_table(X))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: polars_frame(a=[1.0, 2.0]).lazy(), r"LazyFrame.*pass X\.collect\(\)"),
        (lambda: [{"a": 1.0}, {"a": 2.0}], r"list of dicts: pass pandas\.DataFrame\(X\)"),
        (lambda: {"a": [1.0, 2.0]}, r"dict.*pass pandas\.DataFrame\(X\)"),
        (lambda: np.zeros(3, dtype=[("a", float)]), r"by name.*pass pandas\.DataFrame\(X\)"),
        (lambda: (row for row in np.ones((2, 2))), r"generator.*pass list\(X\)"),
        (lambda: {1, 2}, r"set.*pass list\(X\)"),
        (lambda: "rows", "X='rows' must be a table"),
        (lambda: None, "X=None must be a table"),
        (lambda: [[1, 2], [1]], "row 0 has 2 cells, row 1 has 1"),
        (lambda: pd.Series(["a", 1.0]), "Expected 2D array, got 1D.*Pass a frame"),
    ],
)
def test_what_is_no_table_says_what_to_pass(make, message, case, table):
    with pytest.raises((TypeError, ValueError), match=message):
        case.make().fit(make())
    model = case.make(max_epochs=1).fit(table)
    for method in case.row_methods:
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(model, method)(make())


def test_one_row_says_how_to_pass_it(case, table):
    model = case.make(max_epochs=1).fit(table)
    for method in case.row_methods:
        with pytest.raises(ValueError, match=r"(?s)2D array, got 1D.*reshape\(1, -1\)"):
            getattr(model, method)(table[0])


def test_collections_of_other_libraries(table):
    reason = "not in constraints.txt"
    fitted = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
    xarray = pytest.importorskip("xarray", reason=reason)
    assert_array_equal(fitted.transform(xarray.DataArray(table)), fitted.transform(table))
    with pytest.raises(TypeError, match=r"pass X\.to_dataframe\(\)"):
        fitted.transform(xarray.Dataset({"a": ("rows", table[:, 0])}))


def test_wrapped_frames_are_read_as_what_they_wrap(case, table):
    narwhals = pytest.importorskip("narwhals", reason="scikit-learn needs it from 1.9 on")
    frame = pd.DataFrame(table[:, :3], columns=["a", "b", "c"], index=np.arange(120) + 5)
    model, expected = case.make().fit(narwhals.from_native(frame)), case.make().fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    for method in case.row_methods:
        out = getattr(model, method)(narwhals.from_native(frame))
        plain = getattr(expected, method)(frame)
        assert type(out) is type(plain)
        assert_array_equal(out, plain)


def test_half_precision_is_widened_first(case, table):
    X = (table * 1e3).astype(np.float16)  # squares of differences overflow in float16
    model, expected = case.make().fit(X), case.make().fit(X.astype(float))
    for method in case.row_methods:
        out = getattr(model, method)(X)
        assert_array_equal(out, getattr(expected, method)(X.astype(float)), method)


# The generator reads dates and levels in every container.


@pytest.mark.parametrize("dtype", ["date", "timestamp", "zone", "duration"])
def test_the_generator_draws_dates_of_arrow(dtype):
    pa = pytest.importorskip("pyarrow", reason="skae[parquet] is not installed")
    dtypes = {
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "zone": pa.timestamp("us", tz="Europe/Berlin"),
        "duration": pa.duration("s"),
    }
    stamps = np.repeat(np.arange(6), 10).astype("m8[D]")
    cells = stamps if dtype == "duration" else np.datetime64("2020-01-01") + stamps
    series = pd.Series(cells).astype("m8[s]" if dtype == "duration" else "M8[us]")
    series = series.dt.tz_localize("Europe/Berlin") if dtype == "zone" else series
    frame = pd.DataFrame({"when": series.astype(pd.ArrowDtype(dtypes[dtype]))})
    drawn = VAEGenerator(max_epochs=1, random_state=0).fit(frame).sample(20, random_state=0)
    assert drawn.dtypes.equals(frame.dtypes)
    assert set(drawn["when"]) <= set(frame["when"])


def test_the_generator_draws_arrays_of_dates():
    X = np.datetime64("2020-01-01") + np.arange(40).reshape(20, 2).astype("m8[D]")
    drawn = VAEGenerator(max_epochs=1, random_state=0).fit(X).sample(10, random_state=0)
    assert drawn.dtype.kind == "M"
    assert X.min() <= drawn.min() <= drawn.max() <= X.max()


def test_numbers_beside_strings_in_a_list_are_numbers():
    rows = [[float(i), "xy"[i % 2]] for i in range(20)]
    drawn = VAEGenerator(max_epochs=1, random_state=0).fit(rows).sample(10, random_state=0)
    assert {type(cell) for cell in drawn[:, 0]} == {float}


# Masked arrays.


@pytest.fixture
def masked(table):
    mask = np.zeros(table.shape, dtype=bool)
    mask[::7, 1] = mask[5, 3] = True
    return np.ma.array(np.where(mask, 1e6, table), mask=mask)


@pytest.mark.parametrize("case", ["denoiser", "detector", "generator"], indirect=True)
def test_masked_cells_are_missing_cells(case, masked):
    filled = masked.filled(np.nan)
    model, expected = case.make().fit(masked), case.make().fit(filled)
    for method in case.row_methods:
        assert_array_equal(getattr(model, method)(masked), getattr(expected, method)(filled))


@pytest.mark.parametrize("dtype", [float, np.float32, int, np.uint8, bool])
@pytest.mark.parametrize("marker", [np.nan, -1, 0.5, None])
def test_masked_cells_of_the_denoiser_whatever_marks_missing_ones(marker, dtype, masked):
    X = np.ma.array((masked.data > 3).astype(dtype), mask=masked.mask)
    params = {"max_epochs": 1, "random_state": 0}
    model = DenoisingAutoencoder(2, missing_values=marker, **params).fit(X)
    plain = np.where(X.mask, np.nan, X.data).astype(np.float32 if dtype == np.float32 else float)
    expected = DenoisingAutoencoder(2, **params).fit(plain).transform(plain)
    assert_allclose(model.transform(X), expected, rtol=1e-6)
    assert model.missing_columns_.tolist() == [1, 3]


@pytest.mark.parametrize("mask", [np.ma.nomask, False])
def test_arrays_without_a_masked_cell_are_arrays(mask, case, table):
    assert without_mask(np.ma.array(table, mask=mask), None).base is not None
    model = case.make().fit(np.ma.array(table, mask=mask))
    case.assert_equal(model, case.make().fit(table), table)


def test_masked_cells_where_none_may_be_missing(masked, table):
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
    message = "is masked in 19 cells, the first in row 0, column 1.*filled"
    for method in ("partial_fit", "transform", "reconstruct", "score"):
        with pytest.raises(ValueError, match=f"X {message}"):
            getattr(model, method)(masked)
    with pytest.raises(ValueError, match=f"X {message}"):
        VAEGenerator(likelihood="gaussian").fit(masked)


def test_masked_latents_weights_and_targets(table):
    model = DenoisingAutoencoder(2, max_epochs=1, random_state=0).fit(table)
    mask = np.arange(120) == 4
    ones = np.ma.array(np.ones(120), mask=mask)
    with pytest.raises(ValueError, match="Z is masked in 1 cells"):
        model.decode(np.ma.array(np.ones((120, 2)), mask=np.c_[mask, 0 * mask]))
    with pytest.raises(ValueError, match="sample_weight is masked in 1 cells, the first in row 4"):
        model.fit(table, sample_weight=ones)
    with pytest.raises(ValueError, match="y is masked in 1 cells, the first in row 4"):
        VAEGenerator(conditional=True).fit(table, ones)
    with pytest.raises(ValueError, match="X_clean misses the cell in row 4, column 0"):
        model.fit(table, X_clean=np.ma.array(table, mask=mask[:, None] & (np.arange(10) == 0)))


def test_lists_of_masked_rows():
    rows = [np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([3.0, 4.0], mask=[0, 0])]
    assert_array_equal(without_mask(as_table(rows), np.nan), [[1.0, np.nan], [3.0, 4.0]])


# Targets of the generator.


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (pd.Series([0, 1] * 60, dtype="Int64"), [0, 1]),
        (pd.Series([True, False] * 60, dtype="boolean"), [False, True]),
        (objects([2, 1] * 60), [1, 2]),
        (pd.DataFrame({"y": ["b", "a"] * 60}), ["a", "b"]),
        ([Decimal("0.5"), Decimal("2.25"), Decimal("1.125")] * 40, None),
        (np.linspace(1, 2, 120) * 1e-170, None),
        (np.linspace(1, 2, 120).astype(np.float16), None),
    ],
)
@pytest.mark.filterwarnings("error")
def test_targets_of_any_dtype(y, classes, table):
    model = VAEGenerator(1, conditional=True, max_epochs=1, random_state=0).fit(table, y)
    assert np.isfinite(model.score(table, y))
    drawn = model.sample(y=y, random_state=0)
    assert drawn.shape == table.shape
    if classes is None:
        numbers = np.asarray(y, dtype=float)
        codes = model._targets.columns(model._targets.codes(numbers))
        assert codes.std() == pytest.approx(1, abs=1e-3)
    else:
        assert model._targets.classes_.tolist() == classes


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "row 1 is None"),
        (np.nan, "row 1 is nan"),
        (pd.NA, "row 1 is <NA>"),
        (1e200, r"y holds 1e\+200.*squared"),
        ("a", "several types, float, str"),
    ],
)
def test_bad_targets(cell, message, table):
    y = objects([0.5, cell, *np.linspace(0, 1, 118).tolist()])
    with pytest.raises(ValueError, match=message):
        VAEGenerator(conditional=True).fit(table, y)


# Other ways in.


def test_masked_cells_of_one_row(table):
    model = VAEGenerator(2, max_epochs=1, random_state=0).fit(np.where(table > 6, np.nan, table))
    row = np.ma.array(table[0], mask=np.arange(10) == 3)
    expected = model.interpolate(row.filled(np.nan), table[1])
    assert_array_equal(model.interpolate(row, table[1]), expected)


def test_latent_size_curve_names_a_column_without_numbers():
    X = pd.DataFrame({"x": [1.0, 2.0] * 20, "bad": [["a"], ["b"]] * 20})
    with pytest.raises(TypeError, match=r"Column 'bad' of X holds \['.'\] in row 0"):
        latent_size_curve(AutoencoderTransformer(), X, [1])


def test_masked_latents_with_indicators(table):
    holes = np.where(table > 6, np.nan, table)
    params = {"output": "latent", "add_indicator": True, "max_epochs": 1, "random_state": 0}
    model = DenoisingAutoencoder(2, **params).fit(holes)
    Z = model.transform(holes)
    with pytest.raises(ValueError, match="X is masked in 1 cells, the first in row 0, column 0"):
        model.inverse_transform(np.ma.array(Z, mask=np.arange(Z.size).reshape(Z.shape) == 0))


def masked_objects(cells, marked):
    return np.ma.masked_array(np.array(cells, dtype=object), mask=marked)


def test_masked_cells_of_objects_and_texts_are_missing():
    rng = np.random.default_rng(0)
    mask = rng.random((120, 2)) < 0.2
    levels = masked_objects(rng.choice(["x", "y", "z"], size=(120, 2)), mask)
    drawn = VAEGenerator(max_epochs=2, random_state=0).fit(levels).sample(200, random_state=0)
    present = [cell for cell in drawn.ravel() if isinstance(cell, str)]
    assert set(present) == {"x", "y", "z"}
    assert len(present) < 400
    numbers = rng.normal(size=(120, 2))
    filled = DenoisingAutoencoder(max_epochs=2, random_state=0)
    expected = filled.fit_transform(np.where(mask, np.nan, numbers))
    assert_array_equal(filled.fit_transform(masked_objects(numbers, mask)), expected)
    filled.set_params(missing_values=-1.0)
    assert_array_equal(filled.fit_transform(masked_objects(numbers, mask)), expected)


@pytest.mark.parametrize(
    ("marker", "dtype"),
    [(-1, np.uint8), (300, np.uint8), (1e300, np.int64), (np.inf, np.int64), (1e300, np.float32)],
)
def test_markers_that_a_dtype_cannot_hold_mark_nothing(marker, dtype):
    X = np.random.default_rng(0).integers(0, 200, size=(60, 3)).astype(dtype)
    model = DenoisingAutoencoder(missing_values=marker, max_epochs=2, random_state=0).fit(X)
    assert_array_equal(model.transform(X), X)


def test_empty_targets_are_named():
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = VAEGenerator(conditional=True, max_epochs=2, random_state=0).fit(X, [0, 1] * 30)
    with pytest.raises(ValueError, match="y is empty"):
        model.sample(1, y=[])
