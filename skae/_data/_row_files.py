"""Rows in files of numbers, one row after the other, that are written once and read many times."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import CHUNK_BYTES
from skae._data._sources import RowSource, Unit

# Rows that are read side by side: blocks of the order in which rows are trained on.
BLOCK_BYTES = 4 * 2**20
# Up to such a share of the rows between the first and the last, they are read one by one.
SPARSE = 1 / 64


@dataclass(frozen=True)
class RowFile:
    """A table in a file.

    Attributes
    ----------
    path : str
    shape : tuple of int
    dtype : str
        "float32" if no column needs more, else "float64".
    names : list of str or None
        Names of the columns.
    """

    path: str
    shape: tuple[int, int]
    dtype: str
    names: list[Any] | None

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * np.dtype(self.dtype).itemsize


def dtype_of_rows(table: Any) -> np.dtype[Any] | None:
    """The float that holds all cells of a frame or array; None if not all are plain numbers."""
    if hasattr(table, "iloc"):
        dtypes = list(table.dtypes)
    elif isinstance(table, np.ndarray) and not isinstance(table, np.ma.MaskedArray):
        dtypes = [table.dtype]
    else:
        return None
    if not dtypes or not all(isinstance(d, np.dtype) and d.kind in "biuf" for d in dtypes):
        return None
    if any(d.kind == "f" and d.itemsize > 8 for d in dtypes):
        return None
    is_single = all(d in (np.float32, np.float16) for d in dtypes)
    return np.dtype(np.float32 if is_single else np.float64)


def write_rows(table: Any, path: str) -> RowFile:
    """Write a frame or array of numbers, piece by piece."""
    dtype = dtype_of_rows(table)
    assert dtype is not None
    names = [*table.columns] if hasattr(table, "columns") else None
    step = max(1, CHUNK_BYTES // (8 * table.shape[1]))
    try:
        with open(path, "wb") as file:
            for start in range(0, table.shape[0], step):
                rows = slice(start, start + step)
                piece = table.iloc[rows].to_numpy(dtype) if names is not None else table[rows]
                file.write(np.ascontiguousarray(piece, dtype=dtype).data)
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
    return RowFile(path, table.shape, dtype.name, names)


class FilesOfRows(RowSource):
    """The rows of several files.

    Parameters
    ----------
    files : sequence of RowFile
        With the same columns.
    labels : sequence of str
        What errors call them.
    names : list of str or None
        Names of the columns, in the order wanted.
    """

    def __init__(self, files: Sequence[RowFile], labels: Sequence[str], names: list[Any] | None):
        units: list[Unit] = []
        for file, label in zip(files, labels, strict=True):
            order = None
            if names is not None and file.names is not None and file.names != names:
                order = [file.names.index(name) for name in names]
            step = max(1, BLOCK_BYTES // file.row_bytes)
            for first in range(0, file.shape[0], step):
                start = units[-1].stop if units else 0
                stop = start + min(step, file.shape[0] - first)
                units.append(Unit(start, stop, label, (file, first, order)))
        dtype = np.result_type(*(file.dtype for file in files))
        super().__init__(units, files[0].shape[1], dtype, names, label=f"{len(files)} partitions")

    def _read(self, unit: Unit) -> Iterator[NDArray[Any]]:
        for start in range(unit.start, unit.stop, self.rows_per_piece):
            yield self._rows_of(unit, start, min(start + self.rows_per_piece, unit.stop))

    def _rows_of(self, unit: Unit, start: int, stop: int) -> NDArray[Any]:
        file, first, order = unit.place
        n_cells = (stop - start) * self.n_features
        offset = (first + start - unit.start) * file.row_bytes
        # Not mapped: pages of a map count as memory of the process.
        cells = np.fromfile(file.path, file.dtype, n_cells, offset=offset)
        if len(cells) < n_cells:
            raise OSError(f"{unit.label}: {file.path!r} was cut off while it was read.")
        rows = cells.reshape(-1, self.n_features).astype(self.dtype, copy=False)
        return rows if order is None else rows[:, order]

    def _take(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        span = numbers.max() - numbers.min() + 1 if len(numbers) else 0
        if len(numbers) > SPARSE * span:
            return super()._take(numbers)
        out = np.empty((len(numbers), self.n_features), self.dtype)
        units = np.searchsorted([unit.stop for unit in self.units], numbers, side="right")
        for place, (number, i) in enumerate(zip(numbers.tolist(), units.tolist(), strict=True)):
            unit = self.units[i]
            out[place] = self.checked(self._rows_of(unit, number, number + 1), unit, number, 1)
        return out
