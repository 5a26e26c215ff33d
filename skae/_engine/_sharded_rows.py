"""Rows of a table that lies on several processes: each trains on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._data._shards import ShardedTable
from skae._data._sources import AllBut
from skae._engine._batches import Batch, Batches, Rows, SourceRows
from skae._engine._runtime import generator

# Parts begin at different places of the steps, as evenly as the golden ratio spreads them.
GOLDEN = (5**0.5 - 1) / 2


class ShardedRows(SourceRows):
    """Rows of a ``ShardedTable``, scaled when they are read.

    Those that are read by number come to all processes, which must read the same.

    Parameters
    ----------
    source : ShardedTable
    scaler, indices, sample_weight, device
        As of ``SourceRows``, with numbers of rows of the whole table.
    """

    def __init__(
        self,
        source: ShardedTable,
        scaler: Any,
        indices: Any = None,
        sample_weight: NDArray[np.float64] | None = None,
        device: torch.device | str = "cpu",
    ):
        super().__init__(source, scaler, indices, sample_weight, device)
        self.group = source.group

    @property
    def indices(self) -> Any:
        """Numbers of these rows in the whole table; None means all."""
        return self._indices

    @indices.setter
    def indices(self, indices: Any) -> None:
        table = self.table
        if indices is None and table.is_on_disk:
            indices = AllBut(table.shape[0], np.empty(0, dtype=np.intp))
        self._indices = indices
        self.own_rows: Any
        self.part_sizes: NDArray[np.intp]
        if isinstance(indices, AllBut):
            self.own_rows, self.part_sizes = table.own_but(indices)
        else:
            self._places, self.own_rows, self.part_sizes = table.places(indices)

    @property
    def places(self) -> NDArray[np.intp]:
        """Where own rows stand among these."""
        if isinstance(self.indices, AllBut):
            return self.indices.places(self.table.own_numbers(self.own_rows[:]))
        return self._places

    @property
    def own(self) -> SourceRows:
        own = SourceRows(self.table.own, self.scaler, self.own_rows, device=self.device)
        if self.sample_weight is not None:
            own.sample_weight = self.sample_weight[torch.from_numpy(self.places)]
        own.group = self.group
        return own

    def in_memory(self) -> Any:
        return Share(self)

    def changed_by(self, change: Callable[[Tensor], Tensor]) -> Share:
        """What a process trains on, if rows are changed each time that they are read."""
        return Share(self, change)


class Share(Rows):
    """What a process trains on: its own of the rows of a table.

    Parameters
    ----------
    rows : ShardedRows
    change : callable, default=None
        Applied to rows whenever they are read.
    """

    is_shared = True

    def __init__(self, rows: ShardedRows, change: Callable[[Tensor], Tensor] | None = None):
        self.group = rows.group
        self.n_rows = len(rows)
        self.rows = rows
        self.is_on_disk = rows.table.is_on_disk
        self.parts, self.part_sizes = rows.table.numbers, rows.part_sizes
        self.held: Any = rows.own.in_memory()
        if change is not None:
            self.held = Changed(self.held, change)
        self.held.group = rows.group

    def __len__(self) -> int:
        return self.n_rows

    @property
    def places(self) -> NDArray[np.intp]:
        return self.rows.places

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.held[selection]

    @property
    def own(self) -> Any:
        return self.held

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        return self.held.batches(spans, generator)

    def cut(self, batch_size: int, generator: torch.Generator | None = None) -> Any:
        if generator is None:
            return Batches(self.held, batch_size)
        return SharedBatches(self, -(-self.n_rows // batch_size), generator)

    def assembled(self, values: NDArray[Any]) -> NDArray[Any]:
        everything = np.zeros((*values.shape[:-1], self.n_rows))
        everything[..., self.places] = values
        return self.group.add_array(everything)

    def rows_by_number(self, chosen: Tensor) -> Batch:
        """Own rows and their weights."""
        weight = self.held.sample_weight
        # An empty selection has no shape to view rows in.
        x = self.held.take(chosen) if len(chosen) else self.held.read(slice(0, 0))
        return x, None if weight is None else weight[chosen]


class Changed(Rows):
    """Rows that are changed each time that they are read, by noise for instance."""

    def __init__(self, rows: Any, change: Callable[[Tensor], Tensor]):
        self.rows = rows
        self.change = change
        self.sample_weight = rows.sample_weight

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        for x, weight in self.rows.batches(spans, generator):
            yield self.change(x), weight

    def take(self, selection: Tensor) -> Tensor:
        """Rows by index."""
        return self.change(self.rows.take(selection))

    def read(self, selection: slice) -> Tensor:
        """Rows of a slice."""
        return self.change(self.rows.read(selection))


class SharedBatch(tuple[Tensor, "Tensor | None"]):
    """Own rows of a batch, and their weights.

    Attributes
    ----------
    share : float
        Of the rows of the batch that are here.
    """

    share: float


class SharedBatches:
    """Batches of the rows of all processes; each iterates over its own rows of them.

    Row i of the n rows of a part, in random order, is in batch ``floor((i + phase) T / n)`` of T:
    each batch holds its share of each part. Which rows are in a batch depends on the seed and the
    parts alone, not on the processes that hold them. Where rows of any process are on disk, each
    process takes as many of its own as they come in when they are shuffled by blocks.

    Parameters
    ----------
    rows : Share
    n_batches : int
    generator : torch.Generator
        In the same state on all processes.
    """

    def __init__(self, rows: Share, n_batches: int, generator: torch.Generator):
        self.rows = rows
        self.n_batches = n_batches
        self.generator = generator

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[SharedBatch]:
        device = self.generator.device
        seed = int(torch.randint(2**31, (), generator=self.generator, device=device))
        batches = self._from_disk(seed) if self.rows.is_on_disk else self._by_number(seed)
        for batch, n_own, n_rows in batches:
            shared = SharedBatch(batch)
            shared.share = float(n_own / max(n_rows, 1))
            yield shared

    def _from_disk(self, seed: int) -> Iterator[tuple[Batch, int, int]]:
        """Yield own rows of each batch, and how many it has here and in all."""
        rows = self.rows
        n_own, n_rows = np.zeros((2, self.n_batches), dtype=np.int64)
        for part, n in enumerate(rows.part_sizes.tolist()):
            n_in_batches = self.rows_in_batches(part, n)
            n_rows += n_in_batches
            if part in rows.parts:
                n_own += n_in_batches
        ends = np.cumsum(n_own).tolist()
        spans = map(slice, [0, *ends], ends)
        order = generator(seed + rows.group.rank, self.generator.device)
        batches = rows.held.batches(spans, order)
        yield from zip(batches, n_own.tolist(), n_rows.tolist(), strict=True)

    def _by_number(self, seed: int) -> Iterator[tuple[Batch, int, int]]:
        """Yield own rows of each batch, and how many it has here and in all."""
        rows, n_rows = self.rows, np.zeros(self.n_batches, dtype=np.int64)
        of_parts, batch_of_parts = [], []
        n_before = 0
        is_own = np.isin(np.arange(len(rows.part_sizes)), rows.parts)
        for part, n in enumerate(rows.part_sizes.tolist()):
            n_in_batches = self.rows_in_batches(part, n)
            n_rows += n_in_batches
            if is_own[part]:
                order = torch.randperm(n, generator=generator(seed + part)).numpy()
                of_parts.append(n_before + order)
                batch_of_parts.append(np.repeat(np.arange(self.n_batches), n_in_batches))
                n_before += n
        order = np.concatenate([*of_parts, np.zeros(0, dtype=np.int64)])
        batch_of_rows = np.concatenate([*batch_of_parts, np.zeros(0, dtype=np.int64)])
        if len(of_parts) > 1:
            order = order[np.argsort(batch_of_rows, kind="stable")]
        ends = np.cumsum(np.bincount(batch_of_rows, minlength=self.n_batches))
        chosen = torch.from_numpy(order)
        for start, end, n in zip([0, *ends], ends, n_rows, strict=False):
            yield rows.rows_by_number(chosen[start:end]), end - start, int(n)

    def rows_in_batches(self, part: int, n: int) -> NDArray[np.int64]:
        """How many of the n rows of a part are in each batch."""
        phase = part * GOLDEN % 1
        # The first row whose place, with the phase, is not before a batch.
        starts = np.ceil(np.arange(self.n_batches + 1) * (n / self.n_batches) - phase)
        starts[-1] = n
        return np.diff(starts.clip(0, n).astype(np.int64))
