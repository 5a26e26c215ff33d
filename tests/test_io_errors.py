"""What reading tables on disk says where it cannot be done."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from files_of_rows import ds, pa, pq, write_files
from numpy.testing import assert_array_equal
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.io import open_table


@pytest.fixture
def folder(table, tmp_path):
    """The rows in two files."""
    return write_files(pd.DataFrame(table).add_prefix("c"), tmp_path / "rows", 2)


@pytest.fixture
def model(table):
    return AutoencoderTransformer(1, max_epochs=1, random_state=0).fit(table)


CELLS = [[1.5, None], [1, 2], ["a", "b"]]


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_column_of_which_one_file_holds_no_cell(cells, names, tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": pa.nulls(2)}), tmp_path / f"{names[0]}.parquet")
    pq.write_table(pa.table({"x": [3.0, 4.0], "y": cells}), tmp_path / f"{names[1]}.parquet")
    table = open_table(tmp_path)
    rows = pd.DataFrame(table.read_all(), columns=table.names)
    expected = {"x": [1.0, 2, 3, 4], "y": [None, None, *cells]}
    expected = pd.DataFrame(expected).iloc[[0, 1, 2, 3] if names == "ab" else [2, 3, 0, 1]]
    pd.testing.assert_frame_equal(rows, expected.reset_index(drop=True), check_dtype=False)
    assert table.misses_cells()


def test_numbers_of_several_types_are_cast_where_the_schema_says_so(tmp_path):
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.5, 2.0]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"double in .*pyarrow\.dataset\.dataset\(folder, schema="):
        open_table(tmp_path)
    schema = pa.schema({"x": pa.float64()})
    table = open_table(ds.dataset(tmp_path, schema=schema))
    assert table[:].ravel().tolist() == [1, 2, 1.5, 2]
    table = open_table(ds.dataset(tmp_path))  # of integers, as its first file
    with pytest.raises(OSError, match=r"b\.parquet cannot be read: .*1\.5"):
        table.read_all()


def test_rows_on_disk_are_not_split(folder):
    table = open_table(folder)
    message = r"<table on disk 'data set of 2 files': .*pass table\.read_all\(\)"
    with pytest.raises(IndexError, match=message):
        train_test_split(table)


def test_patterns_are_not_resolved(folder):
    with pytest.raises(FileNotFoundError, match="pass the folder"):
        open_table(folder / "*.parquet")


# Lists of files.


def test_a_list_of_files_is_one_table_in_its_order(folder):
    parts = [folder / "part-1.parquet", str(folder / "part-0.parquet")]
    table, rows = open_table(parts), [pd.read_parquet(part) for part in parts]
    assert_array_equal(table.read_all(), pd.concat(rows))
    assert_array_equal(open_table(tuple(parts), ["c3"])[:].ravel(), pd.concat(rows)["c3"])
    twice = open_table([parts[0], parts[0]])
    assert_array_equal(twice.read_all(), pd.concat([rows[0], rows[0]]))
    model = AutoencoderTransformer(1, max_epochs=1, random_state=0)
    given = pd.concat(rows, ignore_index=True)
    expected = model.fit_transform(given)
    assert_array_equal(model.fit(table).transform(given), expected)


def test_lists_that_name_no_files(folder):
    with pytest.raises(ValueError, match=r"source=\[\] names no file"):
        open_table([])
    with pytest.raises(FileNotFoundError, match="no file or folder 'nowhere'"):
        open_table([folder / "part-0.parquet", "nowhere"])
    with pytest.raises(ValueError, match="rows' is a folder: pass it alone"):
        open_table([folder / "part-0.parquet", folder])
    pd.DataFrame({"c0": [1.0]}).to_parquet(folder / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet has no column 'c1'"):
        open_table([folder / "part-0.parquet", folder / "other.parquet"])
    (folder / "broken.parquet").write_bytes(b"no Parquet")
    with pytest.raises(OSError, match=r"broken\.parquet"):
        open_table([folder / "part-0.parquet", folder / "broken.parquet"])
    with pytest.raises(TypeError, match="source, of type list, must be a path"):
        open_table([1, 2])


@pytest.mark.parametrize("paths", [["a.parquet", "b.parquet"], [Path("a")], Path("a"), "a.pq"])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_estimators_take_open_tables(paths, method, model):
    with pytest.raises(TypeError, match=r"X=.*a.* must be a table.*opened by skae\.io\.open_table"):
        getattr(model, method)(paths)


# Columns and folders.


@pytest.mark.parametrize("columns", ["c0", 3, [0, 1], ["c0", None]])
def test_columns_that_are_no_names(columns, folder):
    with pytest.raises(TypeError, match=r"columns=.* must be a list of names, or None"):
        open_table(folder, columns)


@pytest.mark.parametrize("make", [np.array, pd.Index, iter, tuple])
def test_names_in_any_container(make, folder):
    assert open_table(folder, make(["c2", "c1"])).names == ["c2", "c1"]


def test_a_folder_that_is_named_for_a_missing_value(tmp_path):
    for i, place in enumerate(["class=a", "class=b", "class=__HIVE_DEFAULT_PARTITION__"]):
        write_files(pd.DataFrame({"x": [1.0 * i, 2.0]}), tmp_path / place, 1)
    table = open_table(tmp_path)
    rows = table.read_all()
    assert sorted(rows["class"].dropna()) == ["a", "a", "b", "b"]
    assert rows["x"][rows["class"].isna()].tolist() == [2.0, 2.0]
    assert table.misses_cells()


def test_a_column_in_files_and_in_their_path(tmp_path):
    write_files(pd.DataFrame({"x": [1.0, 2.0]}), tmp_path / "x=3", 1)
    with pytest.raises(ValueError, match=r"a column both in its files and in the names.* x "):
        open_table(tmp_path)


def test_endings_in_capitals(tmp_path):
    pd.DataFrame({"x": [1.0, 2.0]}).to_parquet(tmp_path / "A.PARQUET")
    assert open_table(tmp_path).shape == (2, 1)


DEEP = {
    "map": lambda: pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64())),
    "fixed_size_list": lambda: pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)),
    "large_list": lambda: pa.array([[1.0]] * 2, pa.large_list(pa.float64())),
    "fixed_size_binary": lambda: pa.array([b"xx"] * 2, pa.binary(2)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_types_of_no_cell(kind, tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "deep": DEEP[kind]()}), tmp_path / "a.parquet")
    with pytest.raises(TypeError, match=f"Column 'deep' has type {kind}.*must hold numbers, str"):
        open_table(tmp_path)


NUMBERS = {
    "uint64": (lambda: pa.array([2**63, 2**64 - 1, None], pa.uint64()), [2.0**63, 2.0**64, np.nan]),
    "half": (lambda: pa.array(np.float16([0.1, 65504, -2])), np.float16([0.1, 65504, -2])),
    "decimal256": (
        lambda: pa.array([1, None, -3]).cast(pa.decimal256(40, 3)),
        [1.0, np.nan, -3.0],
    ),
    "bool": (lambda: pa.array([True, None, False]), [1.0, np.nan, 0.0]),
    "coded": (lambda: pa.array([7, None, 9]).dictionary_encode(), [7.0, np.nan, 9.0]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_values_of_numbers(kind, tmp_path):
    make, expected = NUMBERS[kind]
    pq.write_table(pa.table({"x": make()}), tmp_path / "a.parquet")
    assert_array_equal(open_table(tmp_path).read_all().ravel(), np.float64(expected))


# Streams, and what is no table.


def test_a_stream_is_read_once(table):
    frame = pd.DataFrame(table).add_prefix("c")
    reader = pa.Table.from_pandas(frame).to_reader()
    model = AutoencoderTransformer(1, random_state=0).partial_fit(reader)
    weights = model.reconstruct(frame)
    with pytest.raises(ValueError, match=r"RecordBatchReader without rows.* read only once"):
        model.partial_fit(reader)
    assert model.n_samples_seen_ == len(frame)
    assert_array_equal(model.reconstruct(frame), weights)
    with pytest.raises(ValueError, match="without rows"):
        AutoencoderTransformer(1).partial_fit(reader)


def test_what_stands_for_files(folder):
    with pytest.raises(TypeError, match="ParquetDataset"):
        AutoencoderTransformer(1).fit(pq.ParquetDataset(folder))
    (folder / "a.h5").touch()
    with pytest.raises(OSError, match="HDF5 or zarr is opened by h5py or zarr"):
        open_table(folder / "a.h5")
