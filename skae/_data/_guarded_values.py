"""Which values of a table may be drawn: those that several rows share, or that no row has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._chunks import as_dense
from skae._data._normal_scores import Grid

# Rows that must share a value or a level for it to be drawn.
LEAST_SHARED = 10
# Times that a number is replaced, from twice as many rows around it each time.
MAX_REPLACED = 40
# Kinds of floats, the narrowest first.
PRECISIONS = ("f2", "f4", "f8")

Array = NDArray[Any]


@dataclass
class GuardedColumn:
    """The numbers of a column, and how many rows have them.

    A number of fewer than `LEAST_SHARED` rows is rare. The rows of the `LEAST_SHARED` smallest
    and largest numbers give the ends of what is drawn.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Ascending.
    counts : ndarray of shape (n_values,)
    grid : Grid or None
    precision : {"f2", "f4", "f8"}
        The narrowest floats that hold all values: numbers are compared as these show them.
    """

    values: Array
    counts: Array
    grid: Grid | None
    precision: str

    @classmethod
    def of(cls, values: Array, counts: Array) -> GuardedColumn:
        """The column of some values, in any order, and the numbers of rows that have them."""
        distinct, inverse = np.unique(values, return_inverse=True)
        summed = np.bincount(inverse.ravel(), counts).astype(np.int64)
        with np.errstate(over="ignore"):
            precision = next(p for p in PRECISIONS if np.array_equal(distinct.astype(p), distinct))
        return cls(distinct, summed, Grid.of(distinct), precision)

    def _as_shown(self, x: Array) -> Array:
        """Numbers of the column's precision; points of a grid are no floats of few bits."""
        return x.astype(self.precision).astype(np.float64)

    def is_rare(self, x: Array) -> Array:
        """Which numbers some rows have, but few."""
        x = self._as_shown(x)
        at = np.searchsorted(self.values, x).clip(max=len(self.values) - 1)
        return (self.values[at] == x) & (self.counts[at] < LEAST_SHARED)

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest number that is drawn."""
        below = np.cumsum(self.counts)
        above = np.cumsum(self.counts[::-1])
        low, high = (np.searchsorted(sums, LEAST_SHARED) for sums in (below, above))
        return float(self.values[low]), float(self.values[::-1][high])

    def some_allowed(self) -> float | None:
        """A number that may be drawn; None if there is none."""
        if self.counts.sum() < 2 * LEAST_SHARED:
            return None
        low, high = self.ends
        inside = (self.values >= low) & (self.values <= high)
        values, counts = self.values[inside], self.counts[inside]
        if counts.max() >= LEAST_SHARED:
            return float(values[counts.argmax()])
        middles = self._settled((values[:-1] + values[1:]) / 2)
        free = middles[~self.is_rare(middles)]
        return float(free[len(free) // 2]) if len(free) else None

    def _settled(self, x: Array) -> Array:
        """Numbers as the column can hold them."""
        return self._as_shown(x) if self.grid is None else self.grid.snap(x)

    def replaced(self, x: Array, rng: np.random.RandomState) -> Array:
        """Numbers of which none is rare: others come from among the rows around them."""
        x = np.clip(x, *self.ends) if self.grid is not None else self._settled(x).clip(*self.ends)
        middles = np.cumsum(self.counts) - self.counts / 2
        bounds = np.interp(self.ends, self.values, middles)
        reach = LEAST_SHARED / 2
        for _ in range(MAX_REPLACED):
            rare = np.flatnonzero(self.is_rare(x))
            if not len(rare):
                return x
            place = np.interp(x[rare], self.values, middles) + rng.uniform(-reach, reach, len(rare))
            x[rare] = self._settled(np.interp(place.clip(*bounds), middles, self.values))
            reach *= 2
        x[self.is_rare(x)] = self.some_allowed()
        return x


class GuardedValues:
    """Keeps values and levels of few rows out of rows that are drawn.

    Attributes
    ----------
    columns : dict of int to GuardedColumn
        By number of the column; columns of levels and those without a number are left out.
    level_counts : dict of int to ndarray
        How many rows have each level of a column of levels.
    """

    def __init__(self) -> None:
        self.columns: dict[int, GuardedColumn] = {}
        self.level_counts: dict[int, Array] = {}

    def learn(self, X: Any, n_levels: Sequence[int]) -> GuardedValues:
        """Count the values of rows of numbers and codes, besides those counted before."""
        X = X.tocsc() if issparse(X) else X
        for j, n in enumerate(n_levels):
            x = as_dense(X[:, [j]])[:, 0].astype(np.float64)
            x = x[~np.isnan(x)]
            if n:
                counts = np.bincount(x.astype(int), minlength=n)
                self.level_counts[j] = counts + self.level_counts.get(j, 0)
            elif len(x):
                values, counts = np.unique(x, return_counts=True)
                if j in self.columns:
                    values = np.r_[self.columns[j].values, values]
                    counts = np.r_[self.columns[j].counts, counts]
                self.columns[j] = GuardedColumn.of(values, counts)
        return self

    @classmethod
    def merged(cls, parts: Sequence[GuardedValues]) -> GuardedValues:
        """The values of several tables of the same columns."""
        whole = cls()
        for j in sorted({j for part in parts for j in part.level_counts}):
            whole.level_counts[j] = np.sum([part.level_counts[j] for part in parts], axis=0)
        for j in sorted({j for part in parts for j in part.columns}):
            columns = [part.columns[j] for part in parts if j in part.columns]
            values = np.concatenate([column.values for column in columns])
            counts = np.concatenate([column.counts for column in columns])
            whole.columns[j] = GuardedColumn.of(values, counts)
        return whole

    def check(self, names: Sequence[Any]) -> None:
        """Raise ValueError if a column has no value that may be drawn."""
        for j, counts in self.level_counts.items():
            if counts.sum() > 0 and counts.max() < LEAST_SHARED:
                raise ValueError(
                    f"private_values=True: no level of column {names[j]!r} has {LEAST_SHARED} "
                    f"rows, the commonest has {counts.max()}. Leave the column out."
                )
        for j, column in self.columns.items():
            if column.some_allowed() is None:
                n_rows = column.counts.sum()
                reason = "" if n_rows >= 2 * LEAST_SHARED else f" It holds {n_rows} numbers."
                raise ValueError(
                    f"private_values=True: column {names[j]!r} has no number that "
                    f"{LEAST_SHARED} rows share, or that lies between those of rows.{reason} "
                    "Leave the column out."
                )

    def allowed(self, rows: Array, given: set[int]) -> Array:
        """Which whole rows show no value or level of few rows, but for columns that are given."""
        out = np.ones(len(rows), dtype=bool)
        for j, column in self.columns.items():
            if j not in given:
                low, high = column.ends
                x = rows[:, j]
                out &= np.isnan(x) | ((x >= low) & (x <= high) & ~column.is_rare(x))
        for j in self.level_counts:
            if j not in given:
                out &= ~self.is_rare_level(j, rows[:, j])
        return out

    def is_rare_level(self, j: int, codes: Array) -> Array:
        """Which codes of a column stand for levels of few rows."""
        known = ~np.isnan(codes)
        out = np.zeros(len(codes), dtype=bool)
        out[known] = self.level_counts[j][codes[known].astype(int)] < LEAST_SHARED
        return out

    def pooled(self, j: int, codes: Array) -> Array:
        """Codes of a column in which the commonest level stands for those of few rows."""
        return np.where(self.is_rare_level(j, codes), self.level_counts[j].argmax(), codes)

    def replaced(self, j: int, x: Array, rng: np.random.RandomState) -> Array:
        """Numbers of a column, or codes, of which none is rare; missing cells stay."""
        if j in self.level_counts:
            return self.pooled(j, x)
        if j not in self.columns:
            return x
        out, known = x.copy(), ~np.isnan(x)
        out[known] = self.columns[j].replaced(x[known], rng)
        return out
