"""Tables on disk whose rows are turned into others when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skae._data._sources import Check, RowSource, Unit


class EncodedRows(RowSource):
    """Rows of numbers, ticks and codes that frames of a table on disk become.

    Parameters
    ----------
    frames : RowSource
    encode : callable
        From a frame to an array; errors name the unit and its rows.
    n_levels : list of int
        Number of levels of each column, 0 if it holds none.
    dtype : dtype
    """

    def __init__(self, frames: RowSource, encode: Check, n_levels: list[int], dtype: Any):
        super().__init__(frames.units, len(n_levels), dtype, frames.names, frames.label)
        self.frames, self.check, self.n_levels = frames, encode, n_levels

    def _read(self, unit: Unit) -> Iterator[Any]:
        yield from self.frames.read_frames(unit, self.rows_per_piece)

    def _read_wanted(
        self, unit: Unit, is_wanted: NDArray[np.bool_] | None
    ) -> Iterator[tuple[int, Any]]:
        for n_rows, frame in super()._read_wanted(unit, is_wanted):
            yield n_rows, frame.reset_index(drop=True)


class MappedRows(RowSource):
    """Rows of a table on disk, each piece of which goes through a function.

    Parameters
    ----------
    source : RowSource
    function : callable
        From rows to as many others.
    n_features : int
        Their width.
    """

    def __init__(
        self, source: RowSource, function: Callable[[NDArray[Any]], NDArray[Any]], n_features: int
    ):
        super().__init__(source.units, n_features, source.dtype, None, source.label)
        self.source, self.function = source, function

    @property
    def rows_per_piece(self) -> int:
        return self.source.rows_per_piece

    @property
    def width(self) -> int:
        return max(self.n_features, self.source.width)

    def trusted(self) -> Self:
        other = copy(self)
        other.source = self.source.trusted()
        return other

    def _read(self, unit: Unit) -> Iterator[NDArray[Any]]:
        for piece in self.source.read(unit):
            yield self.function(piece)


def columns_of(X: Any, indices: NDArray[np.intp]) -> Any:
    """Some columns of rows in memory, or of a table on disk, with what is known of them."""
    if not isinstance(X, RowSource):
        return X[:, indices]
    chosen = MappedRows(X, partial(_take_columns, indices=indices), len(indices))
    if X.sample is not None:
        chosen.sample, chosen.sample_numbers = X.sample[:, indices], X.sample_numbers
    if X.moments is not None:
        known = {name: values[indices] for name, values in vars(X.moments).items()}
        chosen.moments = replace(X.moments, **known)
    return chosen


def _take_columns(rows: NDArray[Any], indices: NDArray[np.intp]) -> NDArray[Any]:
    return rows[:, indices]
