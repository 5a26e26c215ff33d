"""Sources of rows out of what other libraries hold of a table on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrow import frames_of_reader, is_reader, table_of_dataset
from skae._data._sources import RowSource, Unit
from skae._data._survey import in_memory_if_small

# Rows of arrays that are read at once, in bytes; chunks of the file are read as a whole.
UNIT_BYTES = 4 * 2**20
# Rows of a stream that are trained on at once, in bytes.
STREAMED_BYTES = 16 * 2**20


class ArraySource(RowSource):
    """Rows of a two-dimensional array of h5py or zarr."""

    def __init__(self, array: Any, label: str):
        if array.ndim != 2:
            raise ValueError(f"{label} has {array.ndim} dimensions; a table has 2.")
        if np.dtype(array.dtype).kind not in "biuf":
            raise TypeError(f"{label} has dtype {array.dtype}, but must hold numbers.")
        n_rows, n_features = array.shape
        step = (getattr(array, "chunks", None) or (1,))[0]
        row_bytes = max(1, n_features * np.dtype(array.dtype).itemsize)
        step *= max(1, UNIT_BYTES // (step * row_bytes))
        starts = range(0, n_rows, step)
        units = [Unit(start, min(start + step, n_rows), label) for start in starts]
        is_single = np.dtype(array.dtype) in (np.float32, np.float16)
        super().__init__(units, n_features, np.float32 if is_single else np.float64, label=label)
        self.array = array

    def _read(self, unit: Unit) -> Iterator[NDArray[Any]]:
        for start in range(unit.start, unit.stop, self.rows_per_piece):
            stop = min(start + self.rows_per_piece, unit.stop)
            yield np.asarray(self.array[start:stop], dtype=self.dtype)


def as_source(X: Any, columns: Sequence[str] | None = None) -> RowSource | None:
    """The source of rows that an object of another library is, or None.

    Of a data set of Arrow, some columns by name may be chosen; of no other is that known.
    """
    if isinstance(X, RowSource):
        return X
    package, name = type(X).__module__.partition(".")[0], type(X).__name__
    if package == "pyarrow" and name.endswith("Dataset"):
        return table_of_dataset(X, columns, may_cast=True)  # as Arrow does
    if package == "h5py" and name == "Dataset":
        return ArraySource(X, f"{X.file.filename}{X.name}")
    if package == "zarr" and name == "Array":
        return ArraySource(X, str(getattr(X, "store_path", None) or X.name or "X"))
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
    yield from frames_of_reader(X, max(2, STREAMED_BYTES // (8 * len(X.schema))))
