"""Parquet and other tables of Arrow, and sparse rows, read where they lie."""

import os
import re
import shutil
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from files_of_rows import ROW_METHODS, ds, each_of, fresh, pa, pq, write_files
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, random_array

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._data import _shuffling
from skae._data._open import opened
from skae._data._shuffling import Visit
from skae.io import open_table

ESTIMATORS = [
    AutoencoderTransformer(2, max_epochs=3, random_state=0),
    AutoencoderOutlierDetector(max_epochs=2, random_state=0),
    DenoisingAutoencoder(2, max_epochs=2, random_state=0),
    VAEGenerator(
        2,
        max_epochs=2,
        prior="standard",
        refine=False,
        n_importance_samples=5,
        relations=None,
        random_state=0,
    ),
]
by_name = each_of(ESTIMATORS)


@pytest.fixture(scope="module")
def frame():
    """6000 rows of three factors, bent."""
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(6000, 3)) @ rng.normal(size=(3, 12))) @ rng.normal(size=(12, 6))
    X += 0.1 * rng.normal(size=X.shape)
    return pd.DataFrame(X.astype(np.float32), columns=list("abcdef"))


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The rows in three files, of several row groups each."""
    return write_files(frame, tmp_path_factory.mktemp("table"), 3, row_group_size=700)


@pytest.fixture
def on_disk(set_limits):
    """All tables but the smallest stay on disk, and pass a pool of 1000 rows."""
    set_limits(bytes_on_disk=1, rows_on_disk=1000, pool_bytes=4 * 6 * 1000, shuffle_bytes=2**16)


def test_a_folder_is_one_table(folder, frame):
    table = open_table(folder)
    assert table.shape == (table.n_rows, table.n_features) == frame.shape
    assert table.names == list("abcdef")
    assert set(table.dtypes.values()) == {np.dtype("float32")}
    assert_array_equal(table.read_all(), frame)
    assert_array_equal(open_table(folder, ["f", "b"]).read_all(), frame[["f", "b"]])
    assert_array_equal(open_table(folder / "part-1.parquet")[:5], frame.iloc[2000:2005])
    dataset = ds.dataset([str(path) for path in sorted(folder.iterdir())])
    assert_array_equal(open_table(dataset, ["c"]).read_all(), frame[["c"]])
    in_memory = ds.InMemoryDataset(pa.Table.from_pandas(frame, preserve_index=False))
    assert_array_equal(opened(in_memory)[1000:5000], frame.iloc[1000:5000])


def test_numbers_of_any_type_and_gaps(tmp_path):
    table = pa.table(
        {
            "half": pa.array(np.float16([1, 2, 3])),
            "integer": pa.array([1, None, 3], pa.int64()),
            "flag": pa.array([True, None, False]),
            "decimal": pa.array([Decimal("1.5"), None, Decimal("3.5")], pa.decimal128(8, 2)),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    source = open_table(tmp_path)
    nan = np.nan
    assert_array_equal(source.read_all(), [[1, 1, 1, 1.5], [2, nan, nan, nan], [3, 3, 0, 3.5]])
    assert open_table(tmp_path, ["half"]).dtype == np.float32


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("estimator", [ESTIMATORS[1], ESTIMATORS[2]], ids=["detector", "denoiser"])
def test_a_column_without_any_cell(estimator, frame, tmp_path):
    """Files give it no type; it is read as numbers that are all missing."""
    rows = frame.assign(f=None)
    rows.to_parquet(tmp_path / "rows.parquet")
    table = open_table(tmp_path)
    assert str(table.schema.field("f").type) == "null"
    for model in (fresh(estimator).fit(frame), fresh(estimator).fit(table)):
        assert_allclose(model.encode(table), model.encode(rows), rtol=1e-4, atol=1e-5)


def test_columns_that_the_path_names(tmp_path):
    table = pa.table({"x": [1.0, 2.0, 3.0], "year": [2001, 2002, 2002]})
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=["year"])
    source = opened(ds.dataset(tmp_path, partitioning=ds.partitioning(field_names=["year"])))
    assert_array_equal(source.read_all(), [[1, 2001], [2, 2002], [3, 2002]])


@by_name
def test_small_tables_give_the_bits_of_arrays(estimator, folder, frame):
    table = open_table(folder / "part-0.parquet")
    rows = np.ascontiguousarray(frame.iloc[:2000])
    ours = estimator.fit(table)
    theirs = fresh(estimator).fit(rows)
    assert ours.feature_names_in_.tolist() == list("abcdef")
    assert_array_equal(ours.reconstruct(table), theirs.reconstruct(rows))


@by_name
@pytest.mark.usefixtures("on_disk")
def test_fits_on_disk(estimator, folder, frame):
    table = open_table(folder)
    model = estimator.fit(table)
    assert model.n_samples_seen_ == len(frame)
    again = fresh(model).fit(ds.dataset(folder))
    assert_array_equal(again.reconstruct(table), model.reconstruct(table))
    in_memory = fresh(model).fit(frame)
    errors = [m.reconstruction_error(frame).mean() for m in (model, in_memory)]
    assert errors[0] < 1.2 * errors[1]
    for method in ROW_METHODS:
        if hasattr(model, method):
            by_file = np.asarray(getattr(model, method)(table))
            by_array = np.asarray(getattr(model, method)(frame))
            assert_allclose(by_file, by_array, rtol=1e-4, atol=1e-4)
    if hasattr(model, "score"):  # the denoiser hides other cells where pieces are of other sizes
        assert_allclose(model.score(table), model.score(frame), rtol=0.05)


@by_name
@pytest.mark.usefixtures("on_disk")
def test_training_on(estimator, folder, frame):
    table = open_table(folder)
    model = fresh(estimator).partial_fit(table)
    before = model.reconstruction_error(frame).mean()
    for _ in range(3):
        model.partial_fit(table)
    assert model.n_samples_seen_ == 4 * len(frame)
    assert model.reconstruction_error(frame).mean() < before
    model.set_params(warm_start=True).fit(table)


@by_name
def test_a_stream_is_trained_on_once(estimator, folder, frame):
    model = fresh(estimator)
    reader = ds.dataset(folder).scanner(batch_size=500).to_reader()
    model.partial_fit(reader)
    assert model.n_samples_seen_ == len(frame)
    assert model.feature_names_in_.tolist() == list("abcdef")
    assert np.isfinite(np.asarray(model.reconstruct(frame))).all()
    with pytest.raises(TypeError, match="read_all"):
        model.fit(ds.dataset(folder).scanner().to_reader())
    with pytest.raises(ValueError, match="neither targets nor weights"):
        model.partial_fit(
            ds.dataset(folder).scanner().to_reader(), sample_weight=np.ones(len(frame))
        )


@pytest.fixture(scope="module")
def classes():
    """Rows of ten classes, one after the other, on a bent surface, with noise."""
    rng = np.random.default_rng(0)
    centers = 1.5 * rng.normal(size=(10, 3))
    Z = np.repeat(centers, 1200, axis=0) + 0.7 * rng.normal(size=(12_000, 3))
    X = np.tanh(Z @ rng.normal(size=(3, 12))) @ rng.normal(size=(12, 6))
    X += 0.3 * rng.normal(size=X.shape)
    return pd.DataFrame(X.astype(np.float32), columns=list("abcdef"))


def mean_error(frame, path):
    """Of a few networks that see the rows of a file twice."""
    params = {"max_epochs": 2, "early_stopping": False, "batch_size": 64}
    errors = []
    for seed in range(3):
        model = AutoencoderTransformer(3, random_state=seed, **params).fit(open_table(path))
        errors.append(model.reconstruction_error(frame).mean())
    return np.mean(errors)


@pytest.fixture(scope="module")
def write_rows(tmp_path_factory):
    """Writes rows to a file with ten row groups."""
    path = tmp_path_factory.mktemp("rows")

    def write(rows):
        file = path / f"{rows.index[0]}.parquet"
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), file, row_group_size=1200)
        return file

    return write


@pytest.mark.usefixtures("on_disk")
def test_a_sorted_file_trains_as_well_as_a_shuffled_one(classes, write_rows, monkeypatch):
    """Within 3 %, though each row group is of one class, and a twelfth of the rows wait at most."""
    shuffled = mean_error(classes, write_rows(classes.sample(frac=1, random_state=0)))
    in_order = write_rows(classes)
    assert mean_error(classes, in_order) < 1.03 * shuffled
    visits = [Visit(i, 0, 1) for i in range(10)]
    monkeypatch.setattr(_shuffling, "visits_of", lambda *args: visits)
    assert mean_error(classes, in_order) > 1.1 * shuffled


@pytest.mark.usefixtures("on_disk")
def test_weights_of_rows_on_disk(folder, frame):
    table, X = open_table(folder), frame.to_numpy()
    counts = X[:, 0] > np.median(X[:, 0])
    model = AutoencoderTransformer(2, max_epochs=4, random_state=0)
    plain = model.fit(table).reconstruction_error(frame)
    weighted = model.fit(table, sample_weight=counts.astype(float)).reconstruction_error(frame)
    assert_allclose(model.mean_, X[counts].mean(axis=0), rtol=1e-4)
    assert weighted[counts].mean() < plain[counts].mean()
    assert weighted[~counts].mean() > plain[~counts].mean()


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize(
    ("verbose", "shown"),
    [(1, r"0\.\d+/2.* rows/s"), (2, r"\d+ % of epoch 2/2: \d.* rows/s, \d+ s left")],
)
def test_progress_within_an_epoch(verbose, shown, folder, capsys, monkeypatch):
    for name in ("SECONDS_BETWEEN_LINES", "SECONDS_BETWEEN_REFRESHES"):
        monkeypatch.setattr(f"skae._engine._progress.{name}", 0.0)
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0, early_stopping=False)
    model.set_params(verbose=verbose).fit(open_table(folder))
    out = capsys.readouterr().out
    assert re.search(shown, out)
    assert "2/2" in out
    model.set_params(verbose=0).fit(open_table(folder))
    assert capsys.readouterr().out == ""


# Bad input.


def test_what_is_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_table(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no Parquet files"):
        open_table(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    with pytest.raises(OSError, match=r"a\.parquet"):
        open_table(tmp_path)
    with pytest.raises(TypeError, match=r"skae\.io\.open_table"):
        AutoencoderTransformer().fit(str(tmp_path))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": [1.0]}, r"b\.parquet has no column 'y'"),
        ({"x": [1.0], "y": [1]}, r"Column 'y' has type int64 in .*b\.parquet, but double"),
        ({"x": [1.0], "y": [1.0], "z": [1.0]}, r"b\.parquet has a column 'z'"),
    ],
)
def test_files_whose_schemas_differ(other, message, tmp_path):
    pq.write_table(pa.table({"x": [1.0], "y": [2.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table(other), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=message):
        open_table(tmp_path)


def test_a_column_of_integers_in_one_file_alone(tmp_path):
    """Whatever file comes first; and gaps make no other type of it."""
    pq.write_table(pa.table({"x": pa.array([1, None], pa.int64())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "b.parquet")
    assert open_table(tmp_path).shape == (4, 1)
    pq.write_table(pa.table({"x": [1.0, 2.5]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"Column 'x' has type double in .*c\.parquet, but int64"):
        open_table(tmp_path)


def test_files_without_rows_or_content(frame, tmp_path):
    pq.write_table(pa.table({"x": pa.array([], pa.float32())}), tmp_path / "a.parquet")
    assert open_table(tmp_path).shape == (0, 1)
    pq.write_table(pa.table({"x": pa.array([1, 2], pa.float32())}), tmp_path / "b.parquet")
    assert_array_equal(open_table(tmp_path).read_all(), [[1], [2]])
    (tmp_path / "c.parquet").touch()
    with pytest.raises(OSError, match=r"c\.parquet"):
        open_table(tmp_path)


def test_a_file_that_was_cut_off_before(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "table")
    os.truncate(tmp_path / "table" / "part-2.parquet", 10_000)
    with pytest.raises(OSError, match=r"part-2\.parquet"):
        open_table(tmp_path / "table")


def test_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array([1.0, 2.0])] * 3, names=["x", "x", "y"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet has a column 'x' more than once"):
        open_table(tmp_path)
    with pytest.raises(ValueError, match="'x' more than once"):
        AutoencoderTransformer(1).partial_fit(
            pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
        )


def test_what_is_opened(folder, frame):
    table = open_table(folder)
    assert open_table(table) is table
    with pytest.raises(ValueError, match=r"columns=\['a'\]: .* is open"):
        open_table(table, columns=["a"])
    with pytest.raises(TypeError, match="source, of type DataFrame, must be a path"):
        open_table(frame)


def test_columns_of_a_data_set_that_holds_more_than_a_table():
    dataset = ds.dataset(pa.table({"a": [1.0, 2.0], "words": [["x"], ["y", "z"]]}))
    with pytest.raises(TypeError, match=r"'words' has type list.*columns=\[\.\.\.\]"):
        open_table(dataset)
    assert_array_equal(open_table(dataset, columns=["a"])[:], [[1.0], [2.0]])


def test_wrong_columns(folder, tmp_path):
    with pytest.raises(ValueError, match="columns has 'g', but the table has"):
        open_table(folder, ["a", "g"])
    with pytest.raises(ValueError, match="'a' more than once"):
        open_table(folder, ["a", "a"])
    with pytest.raises(ValueError, match="no column"):
        open_table(folder, [])
    with pytest.raises(TypeError, match="filter"):
        opened(ds.dataset(folder).filter(ds.field("a") > 0))
    model = AutoencoderTransformer(2, max_epochs=1).fit(open_table(folder))
    with pytest.raises(ValueError, match="feature names"):
        model.transform(open_table(folder, list("abcdfe")))


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_wrong_cells_are_named_by_file(value, frame, tmp_path):
    rows = frame.copy()
    rows.iloc[3500, 2] = value
    for i, part in enumerate((rows.iloc[:3000], rows.iloc[3000:])):
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), tmp_path / f"{i}.parquet")
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0)
    if value == np.inf:
        with pytest.raises(
            ValueError, match=r"(?s)Input X contains.*1\.parquet, row 3500 of the table"
        ):
            model.fit(open_table(tmp_path))
    model.fit(open_table(tmp_path / "0.parquet"))
    with pytest.raises(ValueError, match=r"(?s)1\.parquet, row 500 of the table"):
        model.transform(open_table(tmp_path / "1.parquet"))


@pytest.mark.usefixtures("on_disk")
@by_name
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "predict"])
def test_a_file_that_is_cut_off_in_the_middle(estimator, method, folder, frame, tmp_path):
    if not hasattr(estimator, method):
        pytest.skip("no such method")
    copied = tmp_path / "table"
    shutil.copytree(folder, copied)
    table = open_table(copied)
    model = fresh(estimator).fit(frame.iloc[:1500])
    before = model.reconstruct(frame.iloc[:50])
    attributes = set(vars(model))
    os.truncate(copied / "part-1.parquet", 10_000)
    with pytest.raises(OSError, match=r"part-1\.parquet cannot be read"):
        getattr(model, method)(table)
    assert set(vars(model)) == attributes
    assert_array_equal(model.reconstruct(frame.iloc[:50]), before)


@pytest.mark.usefixtures("on_disk")
def test_rows_that_need_memory(folder, frame):
    table = open_table(folder)
    with pytest.raises(TypeError, match="conditional=True needs rows in memory"):
        VAEGenerator(conditional=True).fit(table, np.arange(len(frame)) % 2)
    with pytest.raises(TypeError, match="X_clean needs rows in memory"):
        DenoisingAutoencoder().fit(table, X_clean=frame)


# Sparse rows on disk.


@pytest.fixture
def sparse_on_disk(tmp_path):
    """A CSR matrix whose three arrays are memory maps."""
    rows = random_array((2500, 20), density=0.3, rng=np.random.default_rng(0), format="csr")
    parts = []
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(rows, name))
        parts.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    return csr_array(tuple(parts), shape=rows.shape)


def no_copy(*args, **kwargs):
    raise AssertionError("values on disk were copied")


@by_name
def test_sparse_rows_are_read_from_disk(estimator, sparse_on_disk, set_limits, monkeypatch):
    """Batch by batch, and with the results of those in memory; values are not copied."""
    set_limits(chunk_bytes=16_000, inference_bytes=8000, shuffle_bytes=1000)
    set_limits(cells_for_quantiles=20_000)
    likelihood = {"likelihood": "gaussian"} if hasattr(estimator, "likelihood") else {}
    model = fresh(estimator, **likelihood)
    checked, _ = model._check_training_rows(sparse_on_disk, None, None, reset=True)
    for name in ("data", "indices", "indptr"):
        assert np.shares_memory(getattr(checked, name), getattr(sparse_on_disk, name))
    rows, sizes = sparse_on_disk.copy(), []
    to_array = csr_array.toarray
    with monkeypatch.context() as patch:
        for name in ("copy", "astype", "tocsc", "todense"):
            patch.setattr(csr_array, name, no_copy)
        patch.setattr(csr_array, "toarray", lambda X: sizes.append(X.shape[0]) or to_array(X))
        ours = fresh(model).fit(sparse_on_disk)
        assert sum(size < 600 for size in sizes) >= 20  # batches, beside samples for statistics
        sizes.clear()
        given = ours.reconstruct(sparse_on_disk)
        assert max(sizes) < 1300
    in_memory = fresh(model).fit(rows)
    assert_array_equal(given, in_memory.reconstruct(rows))
