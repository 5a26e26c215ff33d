"""How a column is computed from others: as a sum, by an expression or by a table.

A table of columns is a dict of arrays by keys: the numbers of its columns, and further integers
for columns that steps add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._formulas import evaluate
from skae._data._relation_units import Unit

Array = NDArray[Any]
Table = dict[int, Array]


@dataclass
class SumRule:
    """The sum of columns, as values."""

    keys: list[int]
    units: list[Unit]

    def values(self, table: Table) -> Array:
        """The sums."""
        return sum(unit.to_values(table[k]) for k, unit in zip(self.keys, self.units, strict=True))  # type: ignore[return-value]

    def settle(self, table: Table) -> None:
        """Nothing needs to be moved."""


@dataclass
class FormulaRule:
    """An expression of columns.

    Attributes
    ----------
    expression : str
    keys : list of int
        Columns of the variables, in the order of `names`.
    names : list of str
    """

    expression: str
    keys: list[int]
    names: list[str]

    def values(self, table: Table) -> Array:
        """Results; NaN where there is none."""
        variables = {name: table[k] for name, k in zip(self.names, self.keys, strict=True)}
        out = np.asarray(evaluate(self.expression, variables), dtype=np.float64)
        return np.where(np.isfinite(out), out, np.nan)

    def settle(self, table: Table) -> None:
        """Nothing needs to be moved."""


@dataclass
class LookupRule:
    """A function of one column that is constant in each of several intervals.

    Attributes
    ----------
    key : int
        The column that it is a function of.
    lows, highs : ndarray of shape (n_intervals,)
        Ends of the intervals, in ascending order.
    results : ndarray of shape (n_intervals,)
    at_missing : float
        The result of a missing cell.
    """

    key: int
    lows: Array
    highs: Array
    results: Array
    at_missing: float = np.nan

    @property
    def keys(self) -> list[int]:
        return [self.key]

    @classmethod
    def learn(cls, key: int, x: Array, t: Array, *, is_coded: bool) -> LookupRule:
        """The function of the values met; unless coded, neighbours of one result are joined."""
        known = ~np.isnan(x)
        values, first = np.unique(x[known], return_index=True)
        results = t[known][first]
        is_new = np.ones(len(values), dtype=bool)
        if not is_coded:
            same = (results[1:] == results[:-1]) | np.isnan(results[1:]) & np.isnan(results[:-1])
            is_new[1:] = ~same
        starts = np.flatnonzero(is_new)
        ends = np.r_[starts[1:], len(values)] - 1
        at_missing = t[~known][0] if not known.all() else np.nan
        return cls(key, values[starts], values[ends], results[starts], float(at_missing))

    def _nearest(self, x: Array) -> Array:
        """Numbers of the nearest intervals."""
        left = np.clip(np.searchsorted(self.lows, x, side="right") - 1, 0, None)
        right = np.minimum(left + (x > self.highs[left]), len(self.lows) - 1)
        is_left = x - self.highs[left] <= self.lows[right] - x
        is_left |= x <= self.highs[left]
        return np.where(is_left, left, right)

    def values(self, table: Table) -> Array:
        """Results at the nearest numbers met."""
        x = table[self.key]
        out = np.full(len(x), self.at_missing)
        known = ~np.isnan(x)
        out[known] = self.results[self._nearest(x[known])]
        return out

    def settle(self, table: Table) -> None:
        """Move numbers between two intervals to the nearer one."""
        x = table[self.key].copy()
        known = ~np.isnan(x)
        at = self._nearest(x[known])
        x[known] = np.clip(x[known], self.lows[at], self.highs[at])
        table[self.key] = x

    def holds(self, table: Table, t: Array) -> NDArray[np.bool_]:
        """Where `t` is the result; nothing is known of numbers outside of the intervals."""
        x = table[self.key]
        known = ~np.isnan(x)
        out = same(t, np.full(len(t), self.at_missing))
        at = np.clip(np.searchsorted(self.lows, x[known], side="right") - 1, 0, None)
        is_outside = (x[known] < self.lows[at]) | (x[known] > self.highs[at])
        out[known] = is_outside | same(t[known], self.results[at])
        return out


def same(a: Array, b: Array) -> NDArray[np.bool_]:
    """Where two arrays have the same numbers, or both NaN."""
    return (a == b) | (np.isnan(a) & np.isnan(b))
