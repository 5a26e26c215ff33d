"""Parquet with strings, categories, dates and gaps: as frames of pandas, small or large."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from files_of_rows import ROW_METHODS, ds, each_of, fresh, pa, pq, write_files
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._data import _telling_batches
from skae._data._frames import Columns
from skae._data._telling_batches import telling_rows_of
from skae.io import open_table, write_table
from skae.relations import Combination, Sum


@pytest.fixture(scope="module")
def frame():
    """1600 rows of numbers, flags, levels and dates that depend on each other, with gaps."""
    rng = np.random.default_rng(0)
    n = 1600
    u = rng.normal(size=n)
    size = np.exp(0.5 * u + 0.1 * rng.normal(size=n))
    shop = np.array(["north", "south", "west"])[np.digitize(u + 0.3 * rng.normal(size=n), [-1, 1])]
    grade = pd.Categorical(
        np.array(["low", "high"])[(u > 0).astype(int)], ["low", "middle", "high"]
    )
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.round(40 * (u + 4)), unit="D")
    frame = pd.DataFrame(
        {
            "size": size.astype(np.float32),
            "count": np.round(20 * size).astype(int),
            "is_new": u + 0.2 * rng.normal(size=n) > 0,
            "shop": shop,
            "grade": grade,
            "day": day,
        }
    )
    frame.loc[rng.random(n) < 0.05, "shop"] = None
    frame.loc[rng.random(n) < 0.05, "size"] = np.nan
    frame.loc[1590, "shop"] = "island"
    return frame


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The rows in two files, of several row groups each."""
    return write_files(frame, tmp_path_factory.mktemp("mixed"), 2, row_group_size=400)


@pytest.fixture
def on_disk(set_limits):
    """All tables but the smallest stay on disk."""
    set_limits(bytes_on_disk=1, rows_on_disk=1000, pool_bytes=4 * 20 * 1000, shuffle_bytes=2**16)


ESTIMATORS = [
    AutoencoderTransformer(2, max_epochs=15, random_state=0),
    AutoencoderOutlierDetector(max_epochs=2, random_state=0),
    DenoisingAutoencoder(2, max_epochs=15, random_state=0),
    VAEGenerator(3, max_epochs=4, refine=False, n_importance_samples=5, random_state=0),
]
by_name = each_of(ESTIMATORS)


def assert_same(left, right, **tolerance):
    if hasattr(left, "columns"):
        assert_frame_equal(left, right, check_exact=not tolerance, **tolerance)
    elif tolerance:
        assert_allclose(left, right, **tolerance)
    else:
        assert_array_equal(left, right)


def test_a_table_of_many_types_is_a_frame(folder, frame):
    table = open_table(folder)
    assert table.shape == frame.shape
    assert table.names == list(frame)
    assert_frame_equal(table.read_all(), pd.read_parquet(folder))
    assert_frame_equal(table[300:1200], frame[300:1200].reset_index(drop=True))
    numbers = [1599, 3, 900, 3, -1]
    assert_frame_equal(table[numbers], frame.iloc[numbers].reset_index(drop=True))
    assert len(table[:0]) == 0
    assert table.dtypes["grade"] == "category"
    assert_array_equal(open_table(folder, ["count", "is_new"])[:9], frame.iloc[:9, 1:3])


@by_name
def test_small_tables_give_the_bits_of_frames(estimator, folder, frame):
    ours, theirs = fresh(estimator).fit(open_table(folder)), fresh(estimator).fit(frame)
    for method in ROW_METHODS:
        if hasattr(ours, method):
            assert_same(getattr(ours, method)(frame), getattr(theirs, method)(frame))


@by_name
def test_tables_whose_numbers_are_small(estimator, folder, frame, set_limits):
    """Frames may be larger than the numbers that they become, which are read into memory."""
    set_limits(bytes_on_disk=100_000, rows_on_disk=1000)
    ours, theirs = fresh(estimator).fit(open_table(folder)), fresh(estimator).fit(frame)
    assert_same(ours.reconstruct(frame), theirs.reconstruct(frame))


@by_name
@pytest.mark.usefixtures("on_disk")
def test_large_tables(estimator, folder, frame):
    table = open_table(folder)
    model, in_memory = fresh(estimator).fit(table), fresh(estimator).fit(frame)
    assert model.n_samples_seen_ == len(frame)
    again = fresh(estimator).fit(ds.dataset(folder))
    assert_same(again.reconstruct(table), model.reconstruct(table))
    ours, theirs = (m.reconstruction_error(frame).mean() for m in (model, in_memory))
    assert 0.7 * theirs < ours < 1.3 * theirs
    columns, known = model._columns, in_memory._columns
    assert columns.columns == known.columns
    for method in ROW_METHODS:
        if hasattr(model, method):
            close = {"rtol": 1e-4, "atol": 1e-4}
            assert_same(getattr(model, method)(table), getattr(model, method)(frame), **close)


@by_name
@pytest.mark.usefixtures("on_disk")
def test_training_goes_on(estimator, folder, frame):
    table = open_table(folder)
    model = fresh(estimator, **({"relations": None} if hasattr(estimator, "relations") else {}))
    model.partial_fit(table)
    before = model.reconstruction_error(frame).mean()
    for _ in range(2):
        model.partial_fit(table)
    assert model.n_samples_seen_ == 3 * len(frame)
    assert model.reconstruction_error(frame).mean() < before
    model.set_params(warm_start=True).fit(table)


@by_name
def test_a_stream(estimator, folder, frame):
    reader = ds.dataset(folder).scanner(batch_size=500).to_reader()
    ours, theirs = fresh(estimator).partial_fit(reader), fresh(estimator).partial_fit(frame)
    assert_same(ours.reconstruct(frame), theirs.reconstruct(frame))


@pytest.mark.usefixtures("on_disk")
def test_weights_of_rows(folder, frame):
    weight = np.where(frame["shop"] == "west", 0.0, 1.0)
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0)
    errors = model.fit(open_table(folder), sample_weight=weight).reconstruction_error(frame)
    assert np.isfinite(errors).all()
    assert errors[weight == 0].mean() > errors[weight == 1].mean()


@pytest.mark.usefixtures("on_disk")
def test_what_the_denoiser_and_the_generator_give_back(folder, frame):
    table = open_table(folder)
    filled = DenoisingAutoencoder(2, max_epochs=3, random_state=0).fit(table).transform(table)
    assert filled.dtypes.equals(frame.dtypes)
    assert not filled.isna().any(axis=None)
    known = frame["shop"].notna()
    assert_array_equal(filled["shop"][known], frame["shop"][known])
    generator = VAEGenerator(3, max_epochs=3, refine=False, random_state=0).fit(table)
    drawn = generator.sample(300, conditions={"grade": "low"}, random_state=0)
    assert drawn.dtypes.equals(frame.dtypes)
    assert set(drawn["shop"].dropna()) <= set(frame["shop"].dropna())
    assert set(drawn["grade"]) == {"low"}


# Relations.


@pytest.fixture(scope="module")
def orders():
    """2000 rows in which a sum, a product, an inequality and combinations hold."""
    rng = np.random.default_rng(0)
    n = 2000
    net, fee = rng.integers(10, 500, n), rng.integers(1, 40, n)
    city = rng.choice(["Lyon", "Nice", "Rome", "Bari"], n)
    country = np.where(np.isin(city, ["Lyon", "Nice"]), "France", "Italy")
    start = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D")
    end = start + pd.to_timedelta(rng.integers(0, 30, n), "D")
    columns = {"net": net, "fee": fee, "total": net + fee, "start": start, "end": end}
    return pd.DataFrame(columns | {"city": city, "country": country})


@pytest.fixture
def few_rows_first(on_disk, monkeypatch):
    """Relations are learned from 300 rows at first."""
    monkeypatch.setattr("skae._data._relations_on_disk.LEARNED_CELLS", 300 * 7)


def generator(**params):
    return VAEGenerator(2, max_epochs=2, refine=False, random_state=0, **params)


@pytest.mark.usefixtures("few_rows_first")
def test_relations_that_are_found(orders, tmp_path):
    rows = orders.copy()
    rows.loc[1777, ["city", "country"]] = "San Marino"  # a combination that few rows have
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    model = generator().fit(open_table(tmp_path))
    assert set(map(repr, model.relations_)) == set(map(repr, generator().fit(rows).relations_))
    drawn = model.sample(500, random_state=0)
    assert drawn.dtypes.equals(rows.dtypes)
    assert (drawn["total"] == drawn["net"] + drawn["fee"]).all()
    assert (drawn["end"] >= drawn["start"]).all()
    pairs = set(zip(rows["city"], rows["country"], strict=True))
    assert set(zip(drawn["city"], drawn["country"], strict=True)) <= pairs
    densities = model.score_samples(rows.assign(total=rows["total"] + (rows.index == 3)))
    assert np.flatnonzero(np.isneginf(densities)).tolist() == [3]
    on_disk = model.score_samples(open_table(tmp_path))
    assert_allclose(on_disk, model.score_samples(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("few_rows_first")
def test_relations_that_one_row_breaks(orders, tmp_path):
    rows = orders.copy()
    rows.loc[1001, "total"] += 1
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    table = open_table(tmp_path)
    model = generator().fit(table)
    assert set(map(repr, model.relations_)) == set(map(repr, generator().fit(rows).relations_))
    assert not any(isinstance(relation, Sum) for relation in model.relations_)
    given = [Sum("total", ["net", "fee"])]
    with pytest.raises(ValueError, match=r"does not hold in row 1001 of X, where .* is .*\d$"):
        generator(relations=given).fit(table)
    orders.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    model = generator(relations=given).fit(open_table(tmp_path))
    assert model.relations_ == given
    model.partial_fit(open_table(tmp_path))
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    with pytest.raises(ValueError, match="Row 1001 of X breaks one of the relations"):
        model.partial_fit(open_table(tmp_path))


@pytest.mark.usefixtures("few_rows_first")
def test_combinations_without_end(orders, tmp_path, monkeypatch):
    monkeypatch.setattr("skae._data._relations_on_disk.MOST_ADDED", 1)
    rows = orders.assign(a=orders["net"].astype(str), b=orders["net"].astype(str))
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    with pytest.raises(ValueError, match="after 8 passes"):
        generator(relations=[Combination(["a", "b"])]).fit(open_table(tmp_path, ["fee", "a", "b"]))
    assert generator().fit(open_table(tmp_path, ["fee", "a", "b"])).relations_ == []


def test_targets_and_clean_rows_of_small_tables(folder, frame):
    """They need rows in memory, where small tables are."""
    table, y = open_table(folder), np.arange(len(frame)) % 2
    ours = generator(conditional=True, relations=None).fit(table, y)
    theirs = generator(conditional=True, relations=None).fit(frame, y)
    assert_frame_equal(ours.sample(50, random_state=0), theirs.sample(50, random_state=0))
    model = DenoisingAutoencoder(2, max_epochs=1, random_state=0)
    given = model.fit(table, X_clean=table).reconstruct(frame)
    assert_frame_equal(given, model.fit(frame, X_clean=frame).reconstruct(frame))


# What is learned of columns.


def columns_of(frame, path, row_group_size=7):
    """Columns that are learned of a file, and of the frame in memory."""
    frame.to_parquet(path, row_group_size=row_group_size)
    told = telling_rows_of(open_table(path), np.zeros(frame.shape[1], dtype=bool))
    return Columns(told), Columns(pd.read_parquet(path)), told


def test_few_rows_tell_of_columns_what_all_rows_do(tmp_path):
    rng = np.random.default_rng(0)
    n = 500
    days = [
        datetime.date(2020, 1, 6) + datetime.timedelta(7 * int(i)) for i in rng.integers(0, 90, n)
    ]
    frame = pd.DataFrame(
        {
            "large": 2**60 + 6 * rng.integers(0, 50, n),
            "unsigned": (2**63 + 5 * rng.integers(0, 50, n).astype(np.uint64)).astype(np.uint64),
            "word": rng.choice(list("zyxw"), n),
            "class": pd.Categorical(rng.choice(list("ba"), n), list("cba"), ordered=True),
            "day": days,
            "time": [datetime.time(int(h), 30) for h in rng.integers(0, 24, n)],
            "stamp": pd.Timestamp("2020", tz="Asia/Tokyo")
            + pd.to_timedelta(rng.permutation(n), "h"),
            "lapse": pd.to_timedelta(15 * rng.permutation(n), unit="min"),
            "price": [Decimal(int(i)) / 100 for i in rng.integers(0, 9999, n)],
            "flag": rng.choice([True, False, None], n),
            "nullable": pd.array(rng.choice([1, 2, None], n), "Int64"),
            "nothing": [None] * n,
            "float": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        }
    )
    ours, theirs, told = columns_of(frame, tmp_path / "rows.parquet")
    assert ours.columns == theirs.columns
    assert len(told) < 150
    assert_array_equal(ours.to_numbers(frame), theirs.to_numbers(frame))


@pytest.mark.parametrize("start", [-(2**63), 0])
def test_a_grid_over_all_of_the_integers(start, tmp_path):
    """Extremes further apart than integers of 64 bits go."""
    cells = np.array([start, start + 2**40, 2**63 - 2**41, start + 3 * 2**40], dtype=np.int64)
    frame = pd.DataFrame({"x": np.tile(cells, 5), "y": ["a"] * 20})
    ours, theirs, _ = columns_of(frame, tmp_path / "rows.parquet")
    assert ours.columns == theirs.columns


def test_an_index_is_no_column(frame, tmp_path):
    rows = frame.iloc[:50].set_index(np.arange(50) ** 2).rename_axis("number")
    rows.to_parquet(tmp_path / "rows.parquet")
    table = open_table(tmp_path)
    assert table.names == list(frame)
    assert_frame_equal(table.read_all(), rows.reset_index(drop=True))
    assert open_table(tmp_path, ["number", "count"]).shape == (50, 2)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("is_null", [True, False])
def test_gaps_in_numbers_alone(is_null, frame, tmp_path):
    """As in memory, the transformer reads them as a mixed table."""
    columns = {name: frame[name].to_numpy() for name in ("size", "count")}
    rows = pa.table(columns) if not is_null else pa.Table.from_pandas(frame[["size", "count"]])
    assert (rows["size"].null_count > 0) == is_null
    pq.write_table(rows, tmp_path / "rows.parquet")
    table = open_table(tmp_path)
    model = AutoencoderTransformer(1, max_epochs=2, random_state=0).fit(table)
    assert model._columns.n_levels == [0, 0]
    assert_allclose(model.transform(table), model.transform(frame[["size", "count"]]), atol=1e-4)
    without = AutoencoderTransformer(1, max_epochs=2).fit(open_table(tmp_path, ["count"]))
    assert without._columns is None
    with pytest.raises(ValueError, match="contains NaN"):
        AutoencoderTransformer(1, max_epochs=2).fit(open_table(tmp_path, ["count"])).transform(
            frame[["count"]].where(frame["count"] > 20)
        )


@pytest.mark.usefixtures("on_disk")
def test_integers_that_are_named_as_levels(frame, tmp_path):
    rows = pd.DataFrame({"x": frame["count"], "code": frame["count"] % 5})
    rows.to_parquet(tmp_path / "rows.parquet")
    params = {"max_epochs": 2, "categorical_features": ["code"], "random_state": 0}
    model = AutoencoderTransformer(2, **params).fit(open_table(tmp_path))
    assert model._columns.n_levels == [0, 5]
    generator = VAEGenerator(2, refine=False, **params).fit(open_table(tmp_path))
    drawn = generator.sample(50, random_state=0)
    assert set(drawn["code"]) <= set(range(5))
    assert drawn.dtypes.equals(rows.dtypes)


# Results on disk.


def test_results_keep_their_dtypes(folder, frame, tmp_path, set_limits):
    set_limits(piece_rows=700, part_bytes=1)
    rows = frame.assign(date=[stamp.date() for stamp in frame["day"]])
    rows.loc[:800, "date"] = None  # a part without a single date
    rows.to_parquet(tmp_path / "rows.parquet")
    model = AutoencoderOutlierDetector(max_epochs=1, random_state=0).fit(rows)
    expected = model.correct(rows)
    assert expected["date"][:800].isna().all()
    expected.to_parquet(tmp_path / "expected")
    source = tmp_path / "rows.parquet"
    for name, X in [("a", source), ("b.parquet", source), ("c", rows)]:
        target = write_table(model, "correct", X, tmp_path / name)
        written = pd.read_parquet(target)
        assert_frame_equal(written, pd.read_parquet(tmp_path / "expected"), rtol=1e-5)
        table = open_table(target)
        assert table.schema.types == open_table(source).schema.types
        assert list(table.read_all()["grade"].cat.categories) == ["low", "middle", "high"]


@by_name
def test_results_of_a_folder_and_a_stream(estimator, folder, frame, tmp_path, set_limits):
    set_limits(piece_rows=700, part_bytes=1)
    model = fresh(estimator, max_epochs=1).fit(frame)
    method = "transform" if hasattr(model, "transform") else "score_samples"
    written = pd.read_parquet(write_table(model, method, folder, tmp_path / "a"))
    reader = ds.dataset(folder).scanner(batch_size=999).to_reader()
    streamed = pd.read_parquet(write_table(model, method, reader, tmp_path / "b"))
    assert_frame_equal(written, streamed)
    assert len(written) == len(frame)


# Bad input.


@pytest.mark.usefixtures("on_disk")
def test_levels_that_fit_did_not_meet(folder, frame, tmp_path):
    rows = frame.copy()
    rows.loc[1200, "shop"] = "moon"
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    table = open_table(tmp_path)
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(open_table(folder))
    with pytest.raises(ValueError, match=r"'shop' of X holds 'moon'.*rows\.parquet, row 1200 of"):
        model.transform(table)
    rows["shop"], rows["grade"] = frame["shop"], frame["grade"].where(frame.index > 0, "middle")
    rows.to_parquet(tmp_path / "rows.parquet")
    detector = AutoencoderOutlierDetector(max_epochs=1, random_state=0).fit(open_table(folder))
    generator = VAEGenerator(2, max_epochs=1, refine=False, n_importance_samples=5, random_state=0)
    generator.fit(open_table(folder))
    for estimator in (model, detector, generator):  # declared: as in memory
        method = "transform" if estimator is model else "score_samples"
        on_disk = getattr(estimator, method)(open_table(tmp_path))
        assert_allclose(on_disk, getattr(estimator, method)(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_disk")
def test_columns_that_name_rows(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(_telling_batches, "MOST_LEVELS", 100)
    frame.assign(name=[f"row {i}" for i in range(len(frame))]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="'name' of X holds more than 100 levels"):
        AutoencoderTransformer().fit(open_table(tmp_path))
    AutoencoderTransformer(2, max_epochs=1).fit(open_table(tmp_path, list(frame)))


@pytest.mark.usefixtures("on_disk")
def test_models_of_numbers(frame, folder):
    model = AutoencoderTransformer(1, max_epochs=1).fit(open_table(folder, ["count", "is_new"]))
    with pytest.raises(
        TypeError, match=r"Column 'shop' of .* has type .*string, but must hold num"
    ):
        model.transform(open_table(folder, ["count", "shop"]))
    with pytest.raises(ValueError, match="Column 'shop' of X holds"):
        AutoencoderTransformer(1, categorical_features=None).fit(open_table(folder))
    with pytest.raises(TypeError, match="private_values=True needs rows in memory"):
        VAEGenerator(private_values=True).fit(open_table(folder))


@pytest.mark.parametrize(
    "cells",
    [[[1], [2]], [{"a": 1}, {"a": 2}], [b"a", b"b"]],
    ids=["lists", "structs", "bytes"],
)
def test_types_that_are_not_read(cells, tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "deep": cells}), tmp_path / "a.parquet")
    with pytest.raises(TypeError, match=r"Column 'deep' has type .*, but must hold numbers, str"):
        open_table(tmp_path)
    assert open_table(tmp_path, ["x"]).shape == (2, 1)
    reader = ds.dataset(tmp_path).scanner().to_reader()
    with pytest.raises(TypeError, match="Column 'deep' has type"):
        AutoencoderTransformer(1).partial_fit(reader)


@by_name
@pytest.mark.parametrize("columns", [None, ["count"]])
def test_files_with_too_few_rows(estimator, columns, frame, tmp_path):
    for n_rows in (0, 1):
        frame[:n_rows].to_parquet(tmp_path / "few.parquet")
        table = open_table(tmp_path, columns)
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=rf"{n_rows} sample.* minimum of 2.*few\.parquet"):
                getattr(fresh(estimator), method)(table)


def test_decimals_of_many_digits(tmp_path, set_limits):
    set_limits(bytes_on_disk=1, rows_on_disk=1)
    cells = pa.array([Decimal(10**20 + i) for i in range(20)], pa.decimal128(25, 0))
    pq.write_table(pa.table({"x": cells, "y": ["a", "b"] * 10}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="'x' of X holds decimals of more digits"):
        AutoencoderTransformer(1).fit(open_table(tmp_path))


def test_files_whose_types_differ_for_arrow_alone(tmp_path):
    """Integers of codes, and strings that are short or long; and no others."""
    words = [f"w{i}" for i in range(300)]
    coded = pa.array(words).dictionary_encode()
    few = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), coded.dictionary)
    short = {"code": few, "text": pa.array(["a", "b"], pa.string())}
    pq.write_table(pa.table(short), tmp_path / "a.parquet")
    long = {"code": coded, "text": pa.array(words, pa.large_string())}
    pq.write_table(pa.table(long), tmp_path / "b.parquet")
    rows = open_table(tmp_path).read_all()
    assert rows["code"].tolist() == ["w0", "w1", *words]
    assert rows["text"].tolist() == ["a", "b", *words]
    pq.write_table(pa.table({"code": words, "text": words}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"'code' has type string in .*c\.parquet, but dict"):
        open_table(tmp_path)


def test_columns_that_folders_are_named_for(frame, tmp_path):
    rows = frame[["size", "count", "shop"]].dropna()
    for shop, part in rows.groupby("shop"):
        path = tmp_path / f"shop={shop}"
        path.mkdir()
        part.drop(columns="shop").to_parquet(path / "part.parquet", index=False)
    table = open_table(tmp_path)
    theirs = pd.read_parquet(tmp_path)
    assert_frame_equal(table.read_all(), theirs)
    assert table.names == ["size", "count", "shop"]
    ours = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(theirs)
    assert_array_equal(ours.transform(theirs), model.transform(theirs))
    assert_array_equal(open_table(tmp_path, ["count"]).read_all()[:, 0], theirs["count"])
