"""What reading and writing tables on disk says where it cannot be done."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.io import open_table, write_table

pa = pytest.importorskip("pyarrow", reason="reads and writes Parquet")
pq = pytest.importorskip("pyarrow.parquet")
pyarrow_dataset = pytest.importorskip("pyarrow.dataset")


@pytest.fixture
def folder(table, tmp_path):
    """The rows in two files."""
    path = tmp_path / "rows"
    path.mkdir()
    frame = pd.DataFrame(table, columns=[f"c{j}" for j in range(table.shape[1])])
    for i, rows in enumerate(np.array_split(np.arange(len(frame)), 2)):
        frame.iloc[rows].to_parquet(path / f"part-{i}.parquet", index=False)
    return path


@pytest.fixture
def model(table):
    return AutoencoderTransformer(1, max_epochs=1, random_state=0).fit(table)


def files_below(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


@pytest.mark.parametrize("target", [".", "out", "out.parquet", "deeper/out", "../rows/out"])
@pytest.mark.parametrize("opens", [open_table, str])
def test_nothing_is_written_into_the_folder_that_is_read(target, opens, model, folder, tmp_path):
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=r"target=.*rows.* lies in the folder .*rows'"):
        write_table(model, "transform", opens(folder), folder / target)
    assert files_below(tmp_path) == before
    write_table(model, "transform", opens(folder), tmp_path / "rows2")  # beside it


@pytest.mark.parametrize("name", ["scores.csv", "scores.NPY"])
def test_the_ending_of_another_format(name, model, folder, tmp_path):
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=rf"target=.*{name}' ends in .* but Parquet is written"):
        write_table(model, "transform", folder, tmp_path / name)
    assert files_below(tmp_path) == before
    assert write_table(model, "transform", folder, tmp_path / "v1.2").is_dir()


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
    table = open_table(pyarrow_dataset.dataset(tmp_path, schema=schema))
    assert table[:].ravel().tolist() == [1, 2, 1.5, 2]
    table = open_table(pyarrow_dataset.dataset(tmp_path))  # of integers, as its first file
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
