"""Rows of a table on disk from which its columns are learned as they would be from all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._exact_cells import MAX_INTEGER, distances
from skae._data._sources import RowSource

# Levels that a column of a table on disk may have: each is a column of its own to the network.
MOST_LEVELS = 4096
FEW_ROWS = 1000


def telling_rows_of(source: Any, are_levels: NDArray[np.bool_]) -> Any:
    """A frame with rows that hold all levels, and of each column its extremes, grid and a gap.

    It takes one pass. Raise ValueError if a column holds more levels than are allowed on disk.

    Parameters
    ----------
    source : ArrowSource
    are_levels : ndarray of bool
        Which columns of numbers hold levels.
    """
    columns = [_Column(*pair) for pair in zip(source.schema.names, are_levels, strict=True)]
    kept: dict[int, Any] = {}
    start = n_needed = 0
    for batch in source.all_batches():
        for j, column in enumerate(columns):
            for number in column.see(batch.column(j), start):
                if number not in kept:
                    kept[number] = batch.take([number - start])  # a slice would hold the batch
        start += len(batch)
        if len(kept) > 2 * n_needed + FEW_ROWS:
            kept = _needed(columns, kept)
            n_needed = len(kept)
    kept = _needed(columns, kept)
    return source.frame_of([kept[number] for number in sorted(kept)])


def numbers_of_telling_rows(source: RowSource, are_levels: NDArray[np.bool_]) -> list[int]:
    """Rows of a table of numbers that hold all levels, and of each column a gap.

    It takes one pass. Raise ValueError if a column holds more levels than are allowed on disk.
    """
    names = range(source.n_features) if source.names is None else source.names
    levels: dict[int, set[float]] = {int(j): set() for j in np.flatnonzero(are_levels)}
    lacks_gap = np.ones(source.n_features, dtype=bool)
    found = {0, source.n_rows - 1}
    for rows, piece in source.with_check(None).chunks():
        is_missing = np.isnan(piece)
        has_first = lacks_gap & is_missing.any(axis=0)
        found.update((rows.start + is_missing[:, has_first].argmax(axis=0)).tolist())
        lacks_gap &= ~has_first
        for j, known in levels.items():
            places = np.flatnonzero(~is_missing[:, j])
            values, first = np.unique(piece[places, j], return_index=True)
            pairs = zip(values.tolist(), (rows.start + places[first]).tolist(), strict=True)
            found.update(number for value, number in pairs if value not in known)
            known.update(values.tolist())
            check_few_levels(names[j], len(known))
    return sorted(found)


def check_few_levels(name: Any, n_levels: int) -> None:
    """Raise ValueError if a column of a table on disk has more levels than are allowed there."""
    if n_levels > MOST_LEVELS:
        raise ValueError(
            f"Column {name!r} of X holds more than {MOST_LEVELS} levels, too many for a table on "
            "disk. If it names rows, leave it out by columns=[...] of skae.io.open_table; else "
            "pool rare levels before."
        )


def _needed(columns: list[_Column], rows: dict[int, Any]) -> dict[int, Any]:
    return {number: rows[number] for column in columns for number in column.rows}


class _Column:
    """What is known of a column so far, and the rows that tell it."""

    def __init__(self, name: str, holds_levels: bool) -> None:
        self.name = name
        self.holds_levels = holds_levels
        self.levels: dict[Any, int] = {}
        self.gap: int | None = None
        self.low: tuple[Any, int] | None = None
        self.high: tuple[Any, int] | None = None
        self.step = np.uint64(0)
        self.of_step: list[int] = []

    @property
    def rows(self) -> list[int]:
        """Numbers of the rows that tell of the column."""
        ends = [end[1] for end in (self.low, self.high) if end is not None]
        gap = [] if self.gap is None else [self.gap]
        return [*self.levels.values(), *gap, *ends, *self.of_step]

    def see(self, cells: Any, start: int) -> list[int]:
        """Look at more cells, which begin with a row; return the rows among them that tell more."""
        import pyarrow as pa
        import pyarrow.types as of

        is_missing = cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        telling = []
        if self.gap is None and is_missing.any():
            self.gap = start + int(is_missing.argmax())
            telling.append(self.gap)
        places = np.flatnonzero(~is_missing)
        if not len(places):
            return telling
        known = cells if len(places) == len(cells) else cells.filter(pa.array(~is_missing))
        if self.holds_levels or of.is_dictionary(cells.type) or _is_text(cells.type):
            return telling + self._see_levels(known, start + places)
        return telling + self._see_numbers(_numbers(known, self.name), start + places)

    def _see_levels(self, cells: Any, numbers: NDArray[np.intp]) -> list[int]:
        import pyarrow.types as of

        coded = cells if of.is_dictionary(cells.type) else cells.dictionary_encode()
        codes, first = np.unique(coded.indices.to_numpy(), return_index=True)
        levels = coded.dictionary.take(codes).to_pylist()
        pairs = zip(levels, numbers[first].tolist(), strict=True)
        new = {level: number for level, number in pairs if level not in self.levels}
        self.levels |= new
        check_few_levels(self.name, len(self.levels))
        return list(new.values())

    def _see_numbers(self, values: NDArray[Any], numbers: NDArray[np.intp]) -> list[int]:
        at_low, at_high = int(values.argmin()), int(values.argmax())
        new = []
        if self.low is None or self.high is None:
            self.origin = values[0]
            new.append(int(numbers[0]))
            self.of_step = list(new)
        if self.low is None or values[at_low] < self.low[0]:
            self.low = values[at_low], int(numbers[at_low])
            new.append(self.low[1])
        if self.high is None or values[at_high] > self.high[0]:
            self.high = values[at_high], int(numbers[at_high])
            new.append(self.high[1])
        if values.dtype.kind in "iu" and self.step != 1:
            steps = np.concatenate([[self.step], distances(values, self.origin)])
            steps = np.gcd.accumulate(steps)
            finer = numbers[steps[1:] != steps[:-1]].tolist()
            self.step = steps[-1]
            self.of_step += finer
            new += finer
        return new


def _is_text(kind: Any) -> bool:
    import pyarrow.types as of

    return any(is_kind(kind) for is_kind in (of.is_string, of.is_large_string, of.is_string_view))


def _numbers(cells: Any, name: str) -> NDArray[Any]:
    """Cells that are not missing, as floats or integers."""
    import pyarrow as pa
    import pyarrow.types as of

    kind = cells.type
    if of.is_decimal(kind):
        values = cells.cast(pa.float64()).to_numpy()
        if np.abs(values).max() * 10.0**kind.scale > MAX_INTEGER:
            raise ValueError(
                f"Column {name!r} of X holds decimals of more digits than floats distinguish; "
                "convert it to floats."
            )
        return values
    if of.is_boolean(kind):
        return cells.cast(pa.uint8()).to_numpy()
    if of.is_date32(kind) or of.is_time32(kind):
        cells = cells.cast(pa.int32())
    elif of.is_date(kind) or of.is_time(kind) or of.is_timestamp(kind) or of.is_duration(kind):
        cells = cells.cast(pa.int64())
    return cells.to_numpy(zero_copy_only=False)
