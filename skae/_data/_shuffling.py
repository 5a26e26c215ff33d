"""Rows of a table on disk in random order, though they are read in blocks.

Blocks come in an order that spreads any part of it evenly over the table. Those that are large
against the pool come several times, each time with another random part of their rows. Rows that
come in are dealt out at random to what goes out next, after that, and so on: each part of an epoch
has as many rows from each of many blocks, and neighbours of a sorted table end up far apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import CHUNK_BYTES
from skae._data._scaling import unchanged
from skae._data._sources import AllBut, RowSource, Unit, ahead

# Size of the rows that wait, the pool. Each visit to a block brings at most this share
# of it, and one so small that rows go out with those of twelve visits where that takes no more
# visits to a block than these: each decodes all of it.
POOL_BYTES = 64 * 2**20
LARGEST_SHARE, WANTED_SHARE, USUAL_VISITS = 1 / 4, 2 / 13, 8
# Visits that the rows of one are dealt out to, at most.
MOST_LATER = 64
# Multiples of this, less their whole parts, are spread evenly over any stretch of them.
GOLDEN = (5**0.5 - 1) / 2

Rows = NDArray[Any]
Numbers = NDArray[np.intp]
Slots = NDArray[np.int32]
# Groups of rows that go out one after the other.
Waiting = deque[list[Slots]]


@dataclass(frozen=True)
class Visit:
    """A part of a block.

    Attributes
    ----------
    number : int
        Of the block.
    part, n_parts : int
        Which of so many random parts.
    """

    number: int
    part: int
    n_parts: int


def shuffled_rows(
    source: RowSource,
    transform: Callable[[Any], Any],
    indices: AllBut | None,
    seed: int,
) -> Generator[tuple[Rows, Numbers]]:
    """Yield transformed rows and their numbers, many at a time; a thread prepares the next ones.

    Parameters
    ----------
    indices : AllBut or None
        The rows to read; None means all.
    seed : int
        The same rows come in the same order.
    """
    some = source[:1] if source.sample is None else source.sample[:1]
    wide = transform(some)
    row_bytes = min(some.nbytes, wide.nbytes)
    pool_rows = max(2, POOL_BYTES // row_bytes)
    if wide.nbytes <= some.nbytes:
        return ahead(_mixed(source, transform, indices, seed, pool_rows))
    # Rows that grow wait as they are on disk.
    mixed = _mixed(source, unchanged, indices, seed, pool_rows)
    return ahead(_transformed(mixed, transform, max(1, CHUNK_BYTES // wide.nbytes)))


def grouped(parts: Iterator[tuple[Rows, Numbers]], n_rows: int) -> Iterator[tuple[Rows, Numbers]]:
    """Yield so many rows or more at a time; the last may be fewer."""
    held: list[tuple[Rows, Numbers]] = []
    for part in parts:
        held.append(part)
        if sum(len(rows) for rows, _ in held) >= n_rows:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def visits_of(units: list[Unit], pool_rows: int, rng: np.random.Generator) -> list[Visit]:
    """The order of the blocks: each part once, those of a block far from each other."""
    visits, keys = [], []
    phase = rng.random()
    for number, unit in enumerate(units):
        wanted = min(USUAL_VISITS, ceil(unit.n_rows / (WANTED_SHARE * pool_rows)))
        n_parts = max(wanted, ceil(unit.n_rows / (LARGEST_SHARE * pool_rows)))
        first = (phase + GOLDEN * number) % 1.0
        visits += [Visit(number, part, n_parts) for part in range(n_parts)]
        keys += [(part + first) / n_parts for part in range(n_parts)]
    return [visits[i] for i in np.argsort(keys, kind="stable")]


def _transformed(
    parts: Iterator[tuple[Rows, Numbers]], transform: Callable[[Any], Any], n_rows: int
) -> Iterator[tuple[Rows, Numbers]]:
    """Yield transformed rows, so many at a time."""
    for rows, numbers in parts:
        for start in range(0, len(rows), n_rows):
            piece = slice(start, start + n_rows)
            yield transform(rows[piece]), numbers[piece]


def _mixed(
    source: RowSource,
    transform: Callable[[Any], Any],
    indices: AllBut | None,
    seed: int,
    pool_rows: int,
) -> Iterator[tuple[Rows, Numbers]]:
    rng = np.random.default_rng(seed)
    visits = visits_of(source.units, pool_rows, rng)
    largest = max(source.units[visit.number].n_rows / visit.n_parts for visit in visits)
    # Rows of a visit go out with those of as many later ones; half of them are held on average.
    n_later = int(np.clip(2 * pool_rows / largest - 1, 1, MOST_LATER))
    waiting: Waiting = deque([] for _ in range(n_later))
    pool = Pool(2 * pool_rows)
    for n_before, visit in enumerate(visits):
        _deal(_held(pool, source, visit, transform, indices, seed), waiting, rng)
        if n_before >= n_later // 2:
            parts = waiting.popleft()
            waiting.append([])
            if parts:
                yield pool.take(_shuffled(parts, rng))
    # What is left is of the last visits, and is mixed as a whole.
    rest: Waiting = deque([] for _ in range(n_later))
    while waiting:
        for part in waiting.popleft():
            _deal(part, rest, rng)
    while rest:
        parts = rest.popleft()
        if parts:
            yield pool.take(_shuffled(parts, rng))


class Pool:
    """Rows that wait, and their numbers: each in a slot of one array.

    Parameters
    ----------
    n_rows : int
        Rows that there is room for at first; what is never used takes no memory.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_first = n_rows
        self._rows: Any = None
        self._numbers: Numbers = np.empty(0, dtype=np.intp)
        # The first so many of these slots are free; those that were in use last come last, so
        # that memory that was never written to stays so.
        self._free: Slots = np.empty(0, dtype=np.int32)
        self._n_free = 0

    def put(self, rows: Rows, numbers: Numbers) -> Slots:
        """Copy rows to free slots."""
        if self._n_free < len(rows):
            self._grow(rows)
        self._n_free -= len(rows)
        slots = self._free[self._n_free : self._n_free + len(rows)].copy()
        self._rows[slots], self._numbers[slots] = rows, numbers
        return slots

    def take(self, slots: Slots) -> tuple[Rows, Numbers]:
        """Rows and their numbers, whose slots are free from now on."""
        stop = self._n_free + len(slots)
        self._free[self._n_free : stop], self._n_free = slots, stop
        # Four times as fast as indexing.
        return self._rows.take(slots, axis=0), self._numbers.take(slots)

    def _grow(self, rows: Rows) -> None:
        """Make room for rows, and for as many again as there are."""
        n_before = len(self._numbers)
        n_rows = max(n_before, self._n_first) + n_before + len(rows)
        held, numbers = self._rows, self._numbers
        self._rows = np.empty((n_rows, *rows.shape[1:]), rows.dtype)
        self._numbers = np.empty(n_rows, dtype=np.intp)
        if held is not None:
            self._rows[:n_before], self._numbers[:n_before] = held, numbers
        free = self._free[: self._n_free]
        added = np.arange(n_rows - 1, n_before - 1, -1, dtype=np.int32)
        self._free = np.concatenate([added, free, np.empty(n_before - len(free), np.int32)])
        self._n_free = len(added) + len(free)


def _deal(slots: Slots, waiting: Waiting, rng: np.random.Generator) -> None:
    """Add each row to one of the groups that wait, at random."""
    labels = rng.integers(len(waiting), size=len(slots), dtype=np.uint8)
    ends = np.cumsum(np.bincount(labels, minlength=len(waiting)))
    parts = np.split(slots[np.argsort(labels, kind="stable")], ends[:-1])
    for group, part in zip(waiting, parts, strict=True):
        if len(part):
            group.append(part)


def _joined(parts: list[tuple[Rows, Numbers]]) -> tuple[Rows, Numbers]:
    rows, numbers = (np.concatenate(values) for values in zip(*parts, strict=True))
    return rows, numbers


def _shuffled(parts: list[Slots], rng: np.random.Generator) -> Slots:
    slots = np.concatenate(parts)
    return slots[rng.permutation(len(slots))]


def _held(
    pool: Pool,
    source: RowSource,
    visit: Visit,
    transform: Callable[[Any], Any],
    indices: AllBut | None,
    seed: int,
) -> Slots:
    """Put rows of a part of a block into the pool, transformed piece by piece."""
    unit = source.units[visit.number]
    is_wanted = np.ones(unit.n_rows, dtype=bool)
    if visit.n_parts > 1:
        draws = np.random.default_rng([seed, visit.number])
        dtype = np.uint8 if visit.n_parts <= 256 else np.uint32
        is_wanted = draws.integers(visit.n_parts, size=unit.n_rows, dtype=dtype) == visit.part
    if indices is not None:
        here = slice(*np.searchsorted(indices.left_out, (unit.start, unit.stop)))
        is_wanted[indices.left_out[here] - unit.start] = False
    numbers = np.flatnonzero(is_wanted) + unit.start
    slots = [np.empty(0, dtype=np.int32)]
    n_read = 0
    for piece in source.read(unit, is_wanted):
        part = transform(piece)
        slots.append(pool.put(part, numbers[n_read : n_read + len(part)]))
        n_read += len(part)
    return np.concatenate(slots)
