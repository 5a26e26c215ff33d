"""Scaled rows of any container, cut into batches without a loop over rows."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import Dataset

from skae._data._chunks import CHUNK_BYTES, PageReleaser, TensorTable, as_dense
from skae._data._shuffling import shuffled_rows
from skae._data._sources import AllBut, indices_with_weight, is_on_disk, is_source
from skae._engine._group import ALONE, Group
from skae._engine._progress import current_progress
from skae._engine._runtime import bytes_for_rows

# Rows are scaled once and kept in memory if their copy is no larger than this.
MAX_COPY_BYTES = 512 * 2**20
# Rows no larger than this are shuffled once per epoch, larger ones batch by batch.
MAX_SHUFFLE_BYTES = 32 * 2**20

Batch = tuple[Tensor, Tensor | None]


def to_array_like(values: Tensor, like: Any = None) -> Any:
    """Convert to a tensor on the device of `like` if that is a tensor, else to NumPy."""
    values = values.detach()  # a user's network may give out its parameters
    return values.to(like.device) if isinstance(like, Tensor) else values.cpu().numpy()


class Rows(Dataset, ABC):
    """Scaled rows that can be cut into batches.

    Attributes
    ----------
    group : Group
        The processes that train on the rows.
    is_shared : bool
        Whether each of them holds a part of the rows.
    """

    group: Group = ALONE
    is_shared = False

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def own(self) -> Any:
        """Those that this process holds."""
        return self

    def cut(self, batch_size: int, generator: torch.Generator | None = None) -> Any:
        """Batches of the rows, shuffled if a generator is given."""
        return Batches(self, batch_size, generator)

    def assembled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of all rows, along the last axis, from those of rows that this process holds."""
        return values

    def to_array_like(self, values: Tensor) -> Any:
        """Convert outputs of a net to the kind of array that the rows were given as."""
        return to_array_like(values)

    @abstractmethod
    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        """Yield the rows and weights of each span, shuffled if a generator is given."""


class SourceRows(Rows):
    """Rows of an array, a memory map, a CSR matrix or a tensor, scaled when they are read.

    Tensors are scaled on their device if the scaler has a method ``on_device_of``.

    Parameters
    ----------
    source : ndarray, memmap, CSR matrix, tensor, table or RowSource of shape (n_rows, n_features)
    scaler : object with a ``transform`` method
    indices : ndarray of int or AllBut, default=None
        Rows to use; None means all.
    sample_weight : ndarray of shape (n_samples,), default=None
        One weight per row of `source`. Of tables on disk, rows of weight zero are left out.
    device : torch.device
    """

    def __init__(
        self,
        source: Any,
        scaler: Any,
        indices: Any = None,
        sample_weight: NDArray[np.float64] | None = None,
        device: torch.device | str = "cpu",
    ):
        self.table = source
        self._set_scaler(scaler)
        weight = sample_weight
        if weight is not None and is_on_disk(source) and not isinstance(indices, np.ndarray):
            indices = indices_with_weight(indices, weight)
        self.indices = indices
        self.device = device
        if weight is not None and indices is not None:
            weight = indices.of(weight) if isinstance(indices, AllBut) else weight[indices]
        self.sample_weight = (
            None if weight is None else torch.from_numpy(weight.astype(np.float32)).to(device)
        )
        self.pages = PageReleaser(source)

    def __len__(self) -> int:
        return self.source.shape[0] if self.indices is None else len(self.indices)

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.read(selection), 0

    @property
    def n_features(self) -> int:
        return self.source.shape[1]

    def read(self, selection: slice | NDArray[np.intp]) -> Tensor:
        """Scaled float32 rows, on the device."""
        if self.indices is not None:
            selection = self.indices[selection]
        chunk = as_dense(self.source[selection])
        rows = torch.as_tensor(self.scaler.transform(chunk))
        self.pages.read(chunk.nbytes)
        return rows.to(self.device)

    def with_scaler(self, scaler: Any) -> SourceRows:
        """The same rows with another scaler."""
        other = copy.copy(self)
        other._set_scaler(scaler)
        return other

    def _set_scaler(self, scaler: Any) -> None:
        self.source, self.scaler = self.table, scaler
        if hasattr(scaler, "on_device_of"):
            if isinstance(self.table, TensorTable):
                self.source = self.table.tensor
            self.scaler = scaler.on_device_of(self.source)

    def to_array_like(self, values: Tensor) -> Any:
        return to_array_like(values, self.table)

    def repeated(self, times: int) -> SourceRows:
        """All rows, repeated `times` times."""
        other = copy.copy(self)
        rows = np.arange(len(self)) if self.indices is None else self.indices[:]
        other.indices = np.tile(rows, times)
        weight = self.sample_weight
        other.sample_weight = None if weight is None else weight.repeat(times)
        return other

    def in_memory(self) -> SourceRows | TensorRows:
        """The same rows as one tensor, unless that would take too much memory."""
        width = self.read(slice(0, 1)).shape[1]
        n_bytes = 4 * len(self) * width
        # Of a sparse matrix or a table on disk, a copy is made only if it is small.
        is_large = issparse(self.source) or is_source(self.source)
        limit = MAX_SHUFFLE_BYTES if is_large else MAX_COPY_BYTES
        if n_bytes > bytes_for_rows(self.device, limit):
            return self
        return TensorRows(self.read_all(), self.sample_weight)

    def take(self, selection: Tensor) -> Tensor:
        """Rows by index, in any order and shape; each is read once."""
        indices, inverse = selection.unique(return_inverse=True)
        return self.read(indices.cpu().numpy())[inverse]

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        is_shuffled = generator is not None and not isinstance(self.indices, np.ndarray)
        if is_shuffled and is_source(self.source):
            yield from self._batches_from_disk(spans, generator)
            return
        weight = self.sample_weight
        order = None if generator is None else shuffled(len(self), generator).cpu()
        for span in spans:
            selection: Any = span
            if order is not None:
                # Sorted reads touch each page of a memory map once.
                selection = order[span].sort().values.numpy()
            yield self.read(selection), None if weight is None else weight[selection]

    def _batches_from_disk(self, spans: Iterator[slice], generator: Any) -> Iterator[Batch]:
        """Batches of a source, which is shuffled by blocks."""
        seed = torch.randint(2**62, (1,), generator=generator, device=generator.device).item()
        skipped = self.indices
        coming = shuffled_rows(self.source, self.scaler.transform, skipped, int(seed))
        with closing(coming):
            rest, numbers = next(coming)
            for span in spans:
                n_wanted = span.stop - span.start
                rows, chosen = rest[:n_wanted], numbers[:n_wanted]
                rest, numbers = rest[n_wanted:], numbers[n_wanted:]
                while len(rows) < n_wanted and (more := next(coming, None)) is not None:
                    current_progress().update_rows(span.start, len(self))
                    n_more = n_wanted - len(rows)
                    rest, numbers = (values[n_more:] for values in more)
                    rows = np.concatenate([rows, more[0][:n_more]])
                    chosen = np.concatenate([chosen, more[1][:n_more]])
                weight = self.sample_weight
                if weight is not None:
                    chosen = chosen if skipped is None else skipped.places(chosen)
                    weight = weight[chosen]
                yield torch.from_numpy(rows).to(self.device), weight

    def read_all(self) -> Tensor:
        """All rows in one tensor, read piece by piece."""
        step = max(1, CHUNK_BYTES // (8 * self.n_features))
        first = self.read(slice(0, step))
        X = first.new_empty(len(self), first.shape[1])
        X[:step] = first
        for start in range(step, len(self), step):
            X[start : start + step] = self.read(slice(start, start + step))
        return X


class TensorRows(Rows):
    """Scaled rows in one tensor."""

    def __init__(self, X: Tensor, sample_weight: Tensor | None = None):
        self.X = X
        self.sample_weight = sample_weight

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.X[selection], 0

    def read(self, selection: slice) -> Tensor:
        """Scaled rows, on the device."""
        return self.X[selection]

    def repeated(self, times: int) -> TensorRows:
        """All rows, repeated `times` times."""
        weight = self.sample_weight
        return TensorRows(self.X.repeat(times, 1), None if weight is None else weight.repeat(times))

    def take(self, selection: Tensor) -> Tensor:
        """Rows by index, in any order and shape."""
        rows = self.X.index_select(0, selection.flatten().to(self.X.device))
        return rows.view(*selection.shape, -1)

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        X, weight = self.X, self.sample_weight
        if generator is not None:
            order = shuffled(len(X), generator)
            if X.numel() * 4 > MAX_SHUFFLE_BYTES:
                for span in spans:
                    batch = order[span]
                    yield X[batch], None if weight is None else weight[batch]
                return
            # One gather per epoch instead of one per batch.
            X, weight = X[order], None if weight is None else weight[order]
        for span in spans:
            yield X[span], None if weight is None else weight[span]


def shuffled(n_rows: int, generator: torch.Generator) -> Tensor:
    """A random permutation of row indices, on the device of the generator."""
    return torch.randperm(n_rows, generator=generator, device=generator.device)


def even_batch_size(n_rows: int, batch_size: int) -> int:
    """Rows per step if an epoch has as many steps, but no rest of a few rows."""
    n_steps = max(1, -(-n_rows // batch_size))
    return max(1, -(-n_rows // n_steps))


class Batches:
    """Iterate over batches of rows, shuffled if a generator is given.

    The last batch may be short; it is never dropped.
    """

    def __init__(self, rows: Rows, batch_size: int, generator: torch.Generator | None = None):
        self.rows = rows
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    @property
    def sizes(self) -> list[int]:
        """Rows in each batch."""
        starts = range(0, len(self.rows), self.batch_size)
        return [min(self.batch_size, len(self.rows) - start) for start in starts]

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self.rows), self.batch_size)
        spans = (slice(start, start + self.batch_size) for start in starts)
        return self.rows.batches(spans, self.generator)
