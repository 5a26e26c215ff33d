"""Sources of rows out of what other libraries hold of a table on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrow import frames_of_reader, is_reader, table_of_dataset
from skae._data._sources import RowSource, Unit
from skae._data._survey import in_memory_if_small

# Rows of a unit of an array: so many bytes, in whole chunks; or one row of larger chunks, but not
# more than this. A chunk is decompressed as a whole, however few of its rows are read.
UNIT_BYTES, MOST_UNIT_BYTES = 4 * 2**20, 32 * 2**20
# Rows of a stream that are trained on at once, in bytes.
STREAMED_BYTES = 16 * 2**20


class ArraySource(RowSource):
    """Rows of a two-dimensional array of h5py or zarr.

    Parameters
    ----------
    array : h5py.Dataset or zarr.Array
    label : str
        What errors call it.
    files : callable
        Yields the paths of the files that hold it; nothing, if they are not known.
    """

    def __init__(self, array: Any, label: str, files: Callable[[Any], Iterator[Path]]):
        if array.ndim != 2:
            raise ValueError(f"{label} has {array.ndim} dimensions; a table has 2.")
        if np.dtype(array.dtype).kind not in "biuf":
            raise TypeError(f"{label} has dtype {array.dtype}, but must hold numbers.")
        n_rows, n_features = array.shape
        if not n_features:
            raise ValueError(f"{label} has no columns.")
        step = _rows_of_unit(array)
        starts = range(0, n_rows, step)
        units = [Unit(start, min(start + step, n_rows), label) for start in starts]
        is_single = np.dtype(array.dtype) in (np.float32, np.float16)
        super().__init__(units, n_features, np.float32 if is_single else np.float64, label=label)
        self.array, self.files = array, files

    @property
    def version(self) -> Any:
        times = [(str(path), path.stat()) for path in self.files(self.array)]
        return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in times] or None

    def _read(self, unit: Unit) -> Iterator[NDArray[Any]]:
        try:
            rows = self.array[unit.start : unit.stop]
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(f"{unit.label} cannot be read: {error}") from error
        for start in range(0, len(rows), self.rows_per_piece):
            yield np.asarray(rows[start : start + self.rows_per_piece], dtype=self.dtype)


def _rows_of_unit(array: Any) -> int:
    """Rows to read at once, so that few chunks are read twice."""
    itemsize = np.dtype(array.dtype).itemsize
    chunk = getattr(array, "chunks", None) or (1, array.shape[1])
    row_bytes = array.shape[1] * itemsize
    step = chunk[0] * max(1, UNIT_BYTES // (chunk[0] * row_bytes))
    most_bytes = max(MOST_UNIT_BYTES, chunk[0] * chunk[1] * itemsize)
    return int(min(step, max(1, most_bytes // row_bytes)))


def _files_of_h5py(array: Any) -> Iterator[Path]:
    path = Path(array.file.filename)
    if path.is_file() and not array.is_virtual and not array.external:
        yield path


def _files_of_zarr(array: Any) -> Iterator[Path]:
    root = getattr(array.store, "root", None)  # of a store in a folder
    if isinstance(root, Path):
        files = (root / array.path).rglob("*")
        yield from sorted(file for file in files if file.is_file())


def as_source(X: Any, columns: Sequence[str] | None = None) -> RowSource | None:
    """The source of rows that an object of another library is, or None.

    Of a data set of Arrow, some columns by name may be chosen; of no other is that known.
    """
    if isinstance(X, RowSource):
        return X
    package, name = type(X).__module__.partition(".")[0], type(X).__name__
    if package == "pyarrow" and hasattr(X, "get_fragments"):
        return table_of_dataset(X, columns, may_cast=True)  # as Arrow does
    if package not in ("h5py", "zarr"):
        return None
    if package == "h5py" and not X:
        raise ValueError(f"X is a {name} of an HDF5 file that is closed.")
    if name in ("File", "Group"):
        raise TypeError(f"X is a {name} of {package}: pass one of the arrays in it, by its name.")
    if (package, name) == ("h5py", "Dataset"):
        return ArraySource(X, f"{X.file.filename}{X.name}", _files_of_h5py)
    if (package, name) == ("zarr", "Array"):
        label = str(getattr(X, "store_path", None) or X.name or "X")
        return ArraySource(X, label, _files_of_zarr)
    return None


def opened(X: Any) -> Any:
    """X, or the source of rows that it stands for, which is opened once."""
    source = as_source(X)
    return X if source is None else source


def parts_of_stream(X: Any, *beside: Any) -> Iterator[Any]:
    """Yield frames of a stream of record batches, or X alone if it is a table.

    `beside` are what a table may have for each row, and a stream may not.
    """
    if not is_reader(X):
        yield in_memory_if_small(opened(X))
        return
    if any(values is not None for values in beside):
        raise ValueError(
            f"X is a {type(X).__name__}: rows of a stream have neither targets nor weights nor "
            "clean versions. Read it by X.read_all()."
        )
    is_empty = True
    for frame in frames_of_reader(X, max(2, STREAMED_BYTES // (8 * len(X.schema)))):
        yield frame
        is_empty = False
    if is_empty:
        raise ValueError(f"X is a {type(X).__name__} without rows. A stream can be read only once.")
