"""What a training step is fed: whole batches of scaled rows, never row by row."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import Dataset

from skae._chunks import CHUNK_BYTES, PageKeeper, as_dense

# A scaled copy of the rows is kept where it is no larger than this.
MAX_COPY_BYTES = 512 * 2**20
# An epoch's rows are shuffled at once where they are no larger than this.
MAX_SHUFFLE_BYTES = 32 * 2**20

Batch = tuple[Tensor, Tensor | None]


class SourceRows(Dataset):
    """Rows of an array, a memory map or a CSR matrix, scaled when they are read.

    Parameters
    ----------
    source : ndarray, memmap or CSR matrix of shape (n_samples, n_features)
    scaler : object with a ``transform`` method
    indices : ndarray of int, default=None
        The rows that count; None means all.
    sample_weight : ndarray of shape (n_samples,), default=None
        One weight per row of `source`.
    device : torch.device
    """

    def __init__(
        self,
        source: Any,
        scaler: Any,
        indices: NDArray[np.intp] | None = None,
        sample_weight: NDArray[np.float64] | None = None,
        device: torch.device | str = "cpu",
    ):
        self.source = source
        self.scaler = scaler
        self.indices = indices
        self.device = device
        weight = (
            sample_weight if indices is None or sample_weight is None else sample_weight[indices]
        )
        self.sample_weight = (
            None if weight is None else torch.from_numpy(weight.astype(np.float32)).to(device)
        )
        self.pages = PageKeeper(source)

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
        rows = torch.from_numpy(self.scaler.transform(chunk))
        self.pages.read(chunk.nbytes)
        return rows.to(self.device)

    def with_scaler(self, scaler: Any) -> SourceRows:
        """The same rows, scaled otherwise."""
        other = copy.copy(self)
        other.scaler = scaler
        return other

    def in_memory(self) -> SourceRows | TensorRows:
        """The same rows as one tensor, unless that would cost too much memory."""
        width = self.read(slice(0, 1)).shape[1]
        n_bytes = 4 * len(self) * width
        # A sparse matrix stays one, unless its dense copy is small anyhow.
        if n_bytes > (MAX_SHUFFLE_BYTES if issparse(self.source) else MAX_COPY_BYTES):
            return self
        return TensorRows(self.read_all(), self.sample_weight)

    def read_all(self) -> Tensor:
        """All rows in one tensor, read piece by piece."""
        step = max(1, CHUNK_BYTES // (8 * self.n_features))
        first = self.read(slice(0, step))
        X = first.new_empty(len(self), first.shape[1])
        X[:step] = first
        for start in range(step, len(self), step):
            X[start : start + step] = self.read(slice(start, start + step))
        return X


class TensorRows(Dataset):
    """Scaled rows in one tensor."""

    def __init__(self, X: Tensor, sample_weight: Tensor | None = None):
        self.X = X
        self.sample_weight = sample_weight

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.X[selection], 0


class Batches:
    """Iterate over batches of rows, shuffled where a generator is given.

    The last batch may be short; it is never dropped.
    """

    def __init__(
        self,
        rows: SourceRows | TensorRows,
        batch_size: int,
        generator: torch.Generator | None = None,
    ):
        self.rows = rows
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = None
        if self.generator is not None:
            order = torch.randperm(len(self.rows), generator=self.generator)
        if isinstance(self.rows, TensorRows):
            return self._from_tensor(self.rows, order)
        return self._from_source(self.rows, order)

    def _spans(self) -> Iterator[slice]:
        for start in range(0, len(self.rows), self.batch_size):
            yield slice(start, start + self.batch_size)

    def _from_tensor(self, rows: TensorRows, order: Tensor | None) -> Iterator[Batch]:
        X, weight = rows.X, rows.sample_weight
        if order is not None:
            order = order.to(X.device)
            if X.numel() * 4 > MAX_SHUFFLE_BYTES:
                for span in self._spans():
                    batch = order[span]
                    yield X[batch], None if weight is None else weight[batch]
                return
            # One gather an epoch instead of one a batch.
            X, weight = X[order], None if weight is None else weight[order]
        for span in self._spans():
            yield X[span], None if weight is None else weight[span]

    def _from_source(self, rows: SourceRows, order: Tensor | None) -> Iterator[Batch]:
        weight = rows.sample_weight
        for span in self._spans():
            selection: Any = span
            if order is not None:
                # Sorted reads touch each page of a memory map once.
                selection = order[span].sort().values.numpy()
            yield rows.read(selection), None if weight is None else weight[selection]
