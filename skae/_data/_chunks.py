"""Read rows in chunks, so that a large table is never in memory as a whole."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite

from skae._data._arrays import is_tensor

# Size of a chunk, as dense float64.
CHUNK_BYTES = 8 * 2**20
# Pages of a memory map are released after this many bytes were read. The kernel maps up
# to sixteen pages for each one touched, so up to sixteen times this may be held.
RELEASE_BYTES = 8 * 2**20


class PageReleaser:
    """Releases the pages of a memory map that were read.

    They stay in the system's page cache, but no longer count as memory of this process.
    Nothing happens for arrays that are not memory maps, and for copy-on-write maps, whose
    changes would be lost.
    """

    def __init__(self, X: Any) -> None:
        can_release = hasattr(mmap, "MADV_DONTNEED")  # not on Windows
        self.map = _memory_map(X) if can_release else None
        self.n_bytes = 0

    def read(self, n_bytes: int) -> None:
        """Count bytes that were read and are no longer needed; release pages now and then."""
        self.n_bytes += n_bytes
        if self.map is not None and self.n_bytes > RELEASE_BYTES:
            self.map.madvise(mmap.MADV_DONTNEED)
            self.n_bytes = 0


class ColumnStack:
    """Two tables with the same number of rows, read as one wide table."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right
        self.shape = (left.shape[0], left.shape[1] + right.shape[1])
        self.dtype = left.dtype

    def rows(self, selection: Any) -> ColumnStack:
        """The selected rows of both tables."""
        return ColumnStack(self.left[selection], self.right[selection])

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        return np.hstack([as_dense(self.left[selection]), as_dense(self.right[selection])])


class TensorTable:
    """A floating-point tensor whose rows are read as NumPy arrays.

    Slices of a tensor on the CPU are views; other rows are copied when they are selected.
    """

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.shape = tuple(tensor.shape)
        self.dtype = np.dtype(f"f{tensor.element_size()}")

    def rows(self, selection: Any) -> TensorTable:
        """The selected rows, on the same device."""
        return TensorTable(self.tensor[selection])

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        return self.tensor[selection].cpu().numpy()


def as_dense(X: Any) -> Any:
    """A chunk of rows as a dense array; a tensor stays one."""
    if hasattr(X, "read_all"):  # a source of rows
        return X.read_all()
    if issparse(X):
        return X.toarray()
    return X if is_tensor(X) else np.asarray(X)


def row_chunks(X: Any) -> Iterator[tuple[slice, Any]]:
    """Yield slices over the rows of X, each with its rows as a dense array (or tensor)."""
    if hasattr(X, "chunks"):  # a source of rows
        yield from X.chunks()
        return
    keeper = PageReleaser(X)
    step = max(1, CHUNK_BYTES // (8 * X.shape[1]))
    for start in range(0, X.shape[0], step):
        rows = slice(start, min(start + step, X.shape[0]))
        chunk = as_dense(X[rows])
        yield rows, chunk
        keeper.read(chunk.nbytes)


def dense_rows(X: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Rows of X by number, as one dense array, read chunk by chunk."""
    out = np.empty((len(rows), X.shape[1]))
    step = max(1, CHUNK_BYTES // (8 * X.shape[1]))
    for start in range(0, len(rows), step):
        out[start : start + step] = as_dense(X[rows[start : start + step]])
    return out


def value_range(
    X: Any, transform: Callable[[Any], Any] = lambda chunk: chunk
) -> tuple[float, float]:
    """Smallest and largest value of dense or CSR rows, after a transformation."""
    if hasattr(X, "on_each"):  # of processes, some of which may have no rows
        ranges = X.on_each(partial(value_range, transform=transform))
    else:
        chunks = (transform(chunk) for _, chunk in row_chunks(X))
        ranges = [(float(chunk.min()), float(chunk.max())) for chunk in chunks]
    lows, highs = ([*ends] for ends in zip(*ranges, strict=True)) if ranges else ([], [])
    return min(lows, default=np.inf), max(highs, default=-np.inf)


def is_memory_map(X: Any) -> bool:
    """Whether reading X means reading a file."""
    return _memory_map(X) is not None


def check_finite(X: Any, allow_nan: bool = False) -> None:
    """Raise ValueError if X holds NaN or infinity; reads one chunk at a time."""
    for _, chunk in row_chunks(X):
        assert_all_finite(chunk, allow_nan=allow_nan, input_name="X")


def _memory_map(X: Any) -> Any:
    while X is not None and not issparse(X):
        if isinstance(X, np.memmap):
            return getattr(X, "_mmap", None) if X.mode in ("r", "r+") else None
        X = getattr(X, "base", None)
    return None
