"""Tables on disk, of which only a part is in memory at any time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import CHUNK_BYTES

# Numbers of rows that are at least this dense in their range are read with all between them.
DENSE = 0.5
END = object()

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Unit:
    """Rows that lie side by side and are read from the first to the last.

    Attributes
    ----------
    start, stop : int
        Numbers of the rows.
    label : str
        What errors call it.
    place : object
        Where it lies, for the source.
    """

    start: int
    stop: int
    label: str
    place: Any = None

    @property
    def n_rows(self) -> int:
        return self.stop - self.start


class RowSource(ABC):
    """A table of numbers on disk; it is indexed by rows, as an array is.

    Parameters
    ----------
    units : list of Unit
        In the order of the rows.
    n_features : int
    dtype : dtype
        float32 or float64.
    names : list of str or None
        Names of the columns.
    label : str
        What errors call it.

    Attributes
    ----------
    shape : tuple of int
        ``(n_rows, n_features)``.
    sample, sample_numbers : ndarray or None
        Some rows, and their numbers, once the source was surveyed.
    moments : Moments or None
        Of the columns, likewise.
    level_counts : list of ndarray or None
        Numbers of rows with each code, of the columns that hold some, likewise.
    n_levels : list of int or None
        Number of levels of each column of codes, 0 for others; None if no column holds codes.
    folder : Path or None
        Whose files the table is, if it is known: what is written there would become a part of it.
    """

    ndim = 2
    n_levels: list[int] | None = None
    folder: Path | None = None
    is_on_disk = True

    def __init__(
        self,
        units: list[Unit],
        n_features: int,
        dtype: Any,
        names: list[str] | None = None,
        label: str = "X",
    ):
        self.units = units
        self.shape = (units[-1].stop if units else 0, n_features)
        self.dtype = np.dtype(dtype)
        self.names = names
        self.label = label
        self.check: Check | None = None
        self.sample: NDArray[Any] | None = None
        self.sample_numbers: NDArray[np.intp] | None = None
        self.moments: Any = None
        self.level_counts: list[NDArray[Any]] | None = None
        self._cursors = threading.local()

    @abstractmethod
    def _read(self, unit: Unit) -> Iterator[NDArray[Any]]:
        """Yield the rows of a unit in pieces."""

    @property
    def n_rows(self) -> int:
        return self.shape[0]

    @property
    def n_features(self) -> int:
        return self.shape[1]

    @property
    def dtypes(self) -> dict[Any, np.dtype[Any]]:
        """The dtype of each column."""
        names = range(self.n_features) if self.names is None else self.names
        return dict.fromkeys(names, self.dtype)

    @property
    def nbytes(self) -> int:
        """Size of all rows in memory."""
        return self.n_rows * self.n_features * self.dtype.itemsize

    @property
    def rows_per_piece(self) -> int:
        """Rows that are read at once."""
        return max(1, CHUNK_BYTES // (8 * self.width))

    @property
    def width(self) -> int:
        """Cells of a row once its codes are indicators."""
        return self.n_features + sum(self.n_levels or ())

    @property
    def header(self) -> Any:
        """A table without rows that has the same columns."""
        if self.names is None:
            return np.empty((0, self.n_features), self.dtype)
        import pandas as pd

        return pd.DataFrame(np.empty((0, self.n_features), self.dtype), columns=self.names)

    @property
    def version(self) -> Any:
        """Another one once the rows on disk were changed; None if that is not known."""
        return None

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        return f"<table on disk {self.label!r}: {self.n_rows} x {self.n_features}>"

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"{self!r} is on disk: table.read_all() reads all of it into memory, and table[::100] "
            "a sample of every hundredth row."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_cursors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_cursors": threading.local()}

    def with_check(self, check: Check | None) -> Self:
        """The same rows; each piece that is read goes through a function, which may raise."""
        other = copy(self)
        other.check = check
        return other

    def trusted(self) -> Self:
        """The same rows, of which each cell has been checked."""
        return self.with_check(getattr(self.check, "trusting", self.check))

    def read_frames(self, unit: Unit, n_rows: int) -> Iterator[Any]:
        """Yield the rows of a unit as frames of pandas of at most about so many rows."""
        import pandas as pd

        for piece in self._read(unit):
            yield pd.DataFrame(piece, columns=self.names)

    def read(
        self, unit: Unit, is_wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield the rows of a unit, or those wanted, in pieces, each of which is checked."""
        start = unit.start
        for n_rows, piece in self._read_wanted(unit, is_wanted):
            if len(piece):
                yield self.checked(piece, unit, start, n_rows)
            start += n_rows
        if start != unit.stop:
            raise OSError(
                f"{unit.label} has {start - unit.start} rows where it had {unit.n_rows}: "
                "it was changed while it was read."
            )

    def _read_wanted(
        self, unit: Unit, is_wanted: NDArray[np.bool_] | None
    ) -> Iterator[tuple[int, Any]]:
        """Yield how many rows were read, and those of them that are wanted; None means all."""
        position = 0
        for piece in self._read(unit):
            chosen = piece
            if is_wanted is not None:
                here = is_wanted[position : position + len(piece)]
                chosen = piece[: len(here)][here]
            yield len(piece), chosen
            position += len(piece)

    def checked(self, rows: Any, unit: Unit, start: int, n_rows: int) -> NDArray[Any]:
        """Some of `n_rows` rows of a unit from `start` on, as the check leaves them."""
        try:
            return rows if self.check is None else self.check(rows)
        except (TypeError, ValueError) as error:
            place = f"rows {start} to {start + n_rows - 1}"
            if len(rows) == n_rows:
                place = f"row {start + self._first_wrong(rows)}"
            text = f"{error} ({unit.label}, {place} of the table)"
            raise type(error)(text) from error

    def _first_wrong(self, rows: Any) -> int:
        """The number of the first row that the check does not let pass."""
        assert self.check is not None
        cut = rows.iloc if hasattr(rows, "iloc") else rows
        passed, failed = 0, len(rows)  # the check is known to pass the first so many rows
        while failed - passed > 1:
            middle = (passed + failed) // 2
            try:
                self.check(cut[:middle])
                passed = middle
            except (TypeError, ValueError):
                failed = middle
        return passed

    def pieces(self, start: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the numbers of first rows, and rows, from the piece on that holds row `start`."""
        for unit in self.units[self._unit_of(start) :]:
            position = unit.start
            for piece in self.read(unit):
                if position + len(piece) > start:
                    yield position, piece
                position += len(piece)

    def chunks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices over the rows, each with its rows, with one piece ahead."""
        for start, piece in ahead(self.pieces()):
            yield slice(start, start + len(piece)), piece

    def read_all(self) -> NDArray[Any]:
        """All rows, in memory."""
        out = np.empty(self.shape, self.dtype)
        for rows, piece in self.chunks():
            out[rows] = piece
        return out

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        if isinstance(selection, tuple):  # as scikit-learn does to split rows
            raise IndexError(
                f"{self!r} is indexed by rows: by a slice, numbers or a mask. Splits and searches "
                "take rows in memory: pass table.read_all(), or a sample such as table[::100]."
            )
        if isinstance(selection, slice):
            start, stop, step = selection.indices(self.n_rows)
            if step == 1:
                return self._span(start, max(start, stop))
            selection = np.arange(start, stop, step)
        numbers = np.asarray(selection)
        if numbers.dtype == bool:
            numbers = np.flatnonzero(numbers)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise IndexError(f"{self!r} is indexed by rows: by a slice, numbers or a mask.")
        unknown = numbers[(numbers < -self.n_rows) | (numbers >= self.n_rows)]
        if len(unknown):
            raise IndexError(f"{self!r} has no row {unknown[0]}.")
        return self._take(np.where(numbers < 0, numbers + self.n_rows, numbers).astype(np.intp))

    def _take(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Rows by number, in any order; units are read in that of the rows."""
        out = np.empty((len(numbers), self.n_features), self.dtype)
        if not len(numbers):
            return out
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        first, last = int(ordered[0]), int(ordered[-1])
        if len(numbers) >= DENSE * (last + 1 - first):
            return self._span(first, last + 1)[numbers - first]
        for here, places, piece in self._pieces_with(ordered):
            out[order[here]] = piece[places]
        return out

    def _pieces_with(self, ordered: NDArray[np.intp]) -> Iterator[tuple[slice, Any, Any]]:
        """Yield pieces that hold some rows, where these are among all, and in the piece."""
        starts = np.array([unit.start for unit in self.units])
        touched = np.unique(np.searchsorted(starts, ordered, side="right") - 1)
        for unit in (self.units[i] for i in touched):
            position = unit.start
            for piece in self.read(unit):
                here = slice(*np.searchsorted(ordered, (position, position + len(piece))))
                yield here, ordered[here] - position, piece
                position += len(piece)

    def _joined(self, parts: list[Any]) -> Any:
        """Rows of several pieces."""
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.n_features), self.dtype)

    def _span(self, start: int, stop: int) -> NDArray[Any]:
        """Rows side by side; those that follow the last ones are on their way."""
        cursor = vars(self._cursors).pop("value", None)  # one that fails is at its end
        if cursor is None or not cursor.reaches(start):
            if cursor is not None:
                cursor.close()
            cursor = Cursor(self, start)
        rows = cursor.read(start, stop)
        self._cursors.value = cursor
        return rows

    def _unit_of(self, row: int) -> int:
        """Number of the unit that a row lies in."""
        return int(np.searchsorted([unit.stop for unit in self.units], row, side="right"))


class Cursor:
    """Reads a source from front to back, with one piece ahead."""

    def __init__(self, source: RowSource, start: int) -> None:
        self.source = copy(source)  # not itself, which holds the cursor
        self.coming = ahead(self.source.pieces(start))
        self.held: list[tuple[int, NDArray[Any]]] = []
        self.position = start

    @property
    def end(self) -> int:
        """Number of the first row that is not held yet."""
        return self.held[-1][0] + len(self.held[-1][1]) if self.held else self.position

    def reaches(self, row: int) -> bool:
        """Whether a row is held, or comes next or soon."""
        first = self.held[0][0] if self.held else self.position
        return first <= row <= self.end + self.source.rows_per_piece

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows from `start` on; those before them are dropped."""
        while self.end < stop:
            self.held = [piece for piece in self.held if piece[0] + len(piece[1]) > start]
            self.held.append(next(self.coming))
        parts = [rows[max(0, start - at) : max(0, stop - at)] for at, rows in self.held]
        parts = [part for part in parts if len(part)]
        return self.source._joined(parts)

    def close(self) -> None:
        self.coming.close()


class AllBut:
    """Numbers of all rows of a table but some, which are sorted; the rest takes no memory."""

    def __init__(self, n_rows: int, left_out: NDArray[np.intp]):
        self.n_rows = n_rows
        self.left_out = left_out
        self._before = left_out - np.arange(len(left_out))

    def __len__(self) -> int:
        return self.n_rows - len(self.left_out)

    def __getitem__(self, selection: Any) -> NDArray[np.intp]:
        if isinstance(selection, slice):
            selection = np.arange(*selection.indices(len(self)))
        places = np.asarray(selection, dtype=np.intp)
        return places + np.searchsorted(self._before, places, side="right")

    def places(self, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where these rows, none of which is left out, stand among the others."""
        return numbers - np.searchsorted(self.left_out, numbers)

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of these rows, out of those of all rows."""
        return np.delete(values, self.left_out)


def indices_with_weight(indices: AllBut | None, weight: NDArray[Any]) -> AllBut | None:
    """Numbers of some rows, or of all, without those of weight zero."""
    without = np.flatnonzero(weight == 0)
    if not len(without):
        return indices
    left_out = without if indices is None else np.union1d(indices.left_out, without)
    return AllBut(len(weight), left_out)


def is_source(X: Any) -> bool:
    """Whether X is a table on disk."""
    return isinstance(X, RowSource)


def is_on_disk(X: Any) -> bool:
    """Whether X is a table on disk, or lies on several processes and is on disk there."""
    return getattr(X, "is_on_disk", False)


def studied(
    X: Any, sample_weight: NDArray[np.float64] | None
) -> tuple[Any, NDArray[np.float64] | None]:
    """The rows that statistics come from, and their weights: of a surveyed source, its sample."""
    if not is_on_disk(X) or X.sample is None:
        return X, sample_weight
    return X.sample, None if sample_weight is None else sample_weight[X.sample_numbers]


def ahead(items: Iterator[Any]) -> Any:
    """Yield items of an iterator, the next of which a thread computes meanwhile."""
    with ThreadPoolExecutor(1) as executor:
        try:
            waiting = executor.submit(next, items, END)
            while (item := waiting.result()) is not END:
                waiting = executor.submit(next, items, END)
                yield item
        finally:
            waiting.cancel()


def spread_numbers(n_rows: int, n_wanted: int, seed: int) -> NDArray[np.intp]:
    """Sorted numbers of some rows: one at random from each of as many even spans."""
    n_wanted = min(n_rows, n_wanted)
    edges = np.linspace(0, n_rows, n_wanted + 1).astype(np.intp)
    shares = np.random.default_rng(seed).random(n_wanted)
    return edges[:-1] + (shares * np.diff(edges)).astype(np.intp)
