"""Relations as steps that take what is redundant out of a table, and put it back.

A table is a dict of arrays by keys: the numbers of its columns, and further integers for columns
that steps add.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skae._data._normal_scores import is_atom
from skae._data._relation_rules import (
    Array,
    FormulaRule,
    LookupRule,
    SumRule,
    Table,
    same,
)
from skae._data._relation_units import TOLERANCE, Unit, rounded


@dataclass
class DerivedStep:
    """A column that is left out, as others determine it.

    Attributes
    ----------
    key : int
    unit : Unit
    rule : SumRule, FormulaRule or LookupRule
    alone : int or None
        Column of its numbers where others do not determine it; None if there are none.
    gap : int or None
        Column of flags where its cells are missing; None if others say that.
    met : ndarray or None
        The numbers met of a column of few; drawn rows with others are drawn anew.
    ends : ndarray of shape (2,) or None
        The lowest and the highest number of a column of many; rows beyond are drawn anew.
    """

    key: int
    unit: Unit
    rule: SumRule | FormulaRule | LookupRule
    alone: int | None = None
    gap: int | None = None
    met: Array | None = None
    ends: Array | None = None

    def learn(self, table: Table, new_key: int, gaps: Container[int] = ()) -> dict[int, int]:
        """Find out which columns must be added; returns keys by what has their levels.

        `gaps` are columns of which other steps say where cells are missing.
        """
        if isinstance(self.rule, LookupRule):
            return {}  # missing cells are results like others
        numbers, counts = np.unique(table[self.key], return_counts=True, equal_nan=True)
        counts = counts[~np.isnan(numbers)]
        if len(counts):
            self.met = numbers if is_atom(counts).all() else None
            self.ends = numbers[[0, len(counts) - 1]] if self.met is None else None
        return _learn_gaps(self, table, ~np.isnan(self.rule.values(table)), new_key)

    def is_met(self, x: Array) -> NDArray[np.bool_]:
        """Which numbers of the column are of those met, or between them."""
        if self.met is not None:
            return np.isin(x, self.met) | np.isnan(x)
        if self.ends is None:
            return np.ones(len(x), dtype=bool)
        (low, high), slack = self.ends, TOLERANCE * np.abs(self.ends).max()
        return np.isnan(x) | ((x >= low - slack) & (x <= high + slack))

    @property
    def reads(self) -> list[int]:
        return list(self.rule.keys)

    @property
    def derives(self) -> list[int]:
        return [self.key]

    def reduce(self, table: Table) -> None:
        t, values = table.pop(self.key), self.rule.values(table)
        if self.alone is not None:
            table[self.alone] = np.where(np.isnan(values), t, np.nan)
        if self.gap is not None:
            table[self.gap] = np.isnan(t).astype(float)

    def restore(self, table: Table) -> None:
        self.rule.settle(table)
        values = self.rule.values(table)
        is_lookup = isinstance(self.rule, LookupRule)
        t = values if is_lookup else self.unit.to_numbers(values)
        if self.alone is not None:
            t = np.where(np.isnan(values), table.pop(self.alone), t)
        if self.gap is not None:
            t = np.where(table.pop(self.gap) > 0.5, np.nan, t)
        table[self.key] = t

    def solve(self, table: Table, number: float | Array, fixed: set[int]) -> Array:
        """Change one of the columns read, so that this one becomes a number.

        It is the last that is not fixed and of which values are a linear function. Returns
        log-slopes of that function; NaN where there is no solution.
        """
        if set(self.reads) <= fixed:
            is_it = self.unit.equal(np.atleast_1d(number), self.rule.values(table))
            return np.where(is_it, 0.0, np.nan)
        wanted = self.unit.to_values(np.atleast_1d(number))
        n_rows = len(table[self.reads[0]])
        for key in reversed(self.reads):
            if key in fixed or isinstance(self.rule, LookupRule):
                continue
            at = [self.rule.values(table | {key: np.full(n_rows, float(x))}) for x in (0, 1, 2)]
            slope = at[1] - at[0]
            is_linear = np.isclose(at[2] - at[1], slope, rtol=1e-9, atol=0) & (slope != 0)
            if is_linear.any():
                solution = np.where(is_linear, (wanted - at[0]) / np.where(is_linear, slope, 1), 0)
                table[key] = np.where(is_linear, solution, table[key])
                if self.gap is not None:
                    table[self.gap] = np.zeros(n_rows)
                return np.where(is_linear, np.log(np.abs(np.where(is_linear, slope, 1))), np.nan)
        return np.zeros(n_rows)

    def holds(self, table: Table) -> NDArray[np.bool_]:
        t = table[self.key]
        if isinstance(self.rule, LookupRule):
            return self.rule.holds(table, t)
        values = self.rule.values(table)
        known, missing = ~np.isnan(values), np.isnan(t)
        out = missing | ~known | self.unit.equal(t, values)
        return out & _gaps_fit(self, known, missing)


@dataclass
class InequalityStep:
    """A column that is replaced by how far it is above others, or lifted where it is below them.

    The difference is learned where it varies much less than the column. Else it would have lost
    values that many rows share, which the column has.

    Attributes
    ----------
    key : int
        The higher column.
    lows : list of int
    unit, low_units : Unit, list of Unit
    strictly : bool
    top : float
        The highest value met.
    decimals : int or None
        Decimals of the differences.
    alone : int or None
        Column of numbers where all lower ones are missing; None if there are none.
    gap : int or None
        Column of flags where its cells are missing; None if others say that.
    has_gaps : bool
        Whether another step says where its cells are missing.
    is_lifted : bool
        Whether the column is learned as it is, and only lifted.
    """

    key: int
    lows: list[int]
    unit: Unit
    low_units: list[Unit]
    strictly: bool = False
    top: float = np.inf
    decimals: int | None = None
    alone: int | None = None
    gap: int | None = None
    has_gaps: bool = False
    is_lifted: bool = False

    def learn(self, table: Table, new_key: int, gaps: Container[int] = ()) -> dict[int, int]:
        x, floor = table[self.key], self._floor(table)
        self.top = float(np.nanmax(self.unit.to_values(x), initial=-np.inf))
        decimals = [u.decimals for u in (self.unit, *self.low_units)]
        if not any(d is None for d in decimals):
            self.decimals = max(d for d in decimals if d is not None)
        self.is_lifted = not _varies_less(self.unit.to_values(x) - floor, self.unit.to_values(x))
        if self.is_lifted:
            return {}
        self.has_gaps = self.key in gaps
        return _learn_gaps(self, table, ~np.isnan(floor), new_key)

    @property
    def reads(self) -> list[int]:
        return self.lows

    @property
    def derives(self) -> list[int]:
        return [self.key]

    def _floor(self, table: Table) -> Array:
        """The highest of the lower values; NaN where all are missing."""
        floor = self.low_units[0].to_values(table[self.lows[0]])
        for key, unit in zip(self.lows[1:], self.low_units[1:], strict=True):
            floor = np.fmax(floor, unit.to_values(table[key]))
        return floor

    def reduce(self, table: Table) -> None:
        if self.is_lifted:
            return
        x, floor = table[self.key], self._floor(table)
        table[self.key] = rounded(self.unit.to_values(x) - floor, self.decimals)
        if self.alone is not None:
            table[self.alone] = np.where(np.isnan(floor), x, np.nan)
        if self.gap is not None:
            table[self.gap] = np.isnan(x).astype(float)

    def restore(self, table: Table) -> None:
        floor, step = self._floor(table), table[self.key]
        if self.is_lifted:
            lifted = self.unit.at_least(np.full(len(step), -np.inf), floor, strictly=self.strictly)
            table[self.key] = np.where(self.holds(table), step, lifted)
            return
        values = np.minimum(floor + step, self.top)
        high = self.unit.at_least(values, floor, strictly=self.strictly)
        high[np.isnan(step) | np.isnan(floor)] = np.nan
        if self.alone is not None:
            high = np.where(np.isnan(floor), table.pop(self.alone), high)
        if self.gap is not None:
            high = np.where(table.pop(self.gap) > 0.5, np.nan, high)
        table[self.key] = high

    def solve(self, table: Table, number: float, fixed: set[int]) -> Array:
        """Have the difference lead to a number; NaN is returned where it is too low, else 0."""
        floor = self._floor(table)
        step = float(self.unit.to_values(np.array([number]))[0]) - floor
        table[self.key] = rounded(step, self.decimals)
        if self.alone is not None:
            table[self.alone] = np.where(np.isnan(floor), number, np.nan)
        if self.gap is not None:
            table[self.gap] = np.zeros(len(floor))
        return np.where((step >= 0) | np.isnan(floor), 0.0, np.nan)

    def holds(self, table: Table) -> NDArray[np.bool_]:
        floor, x = self._floor(table), self.unit.to_values(table[self.key])
        known, missing = ~np.isnan(floor), np.isnan(x)
        out = missing | ~known | (x > floor if self.strictly else x >= floor)
        return out if self.is_lifted else out & _gaps_fit(self, known, missing)


@dataclass
class CombinationStep:
    """Columns that are replaced by one of codes of their combinations.

    Attributes
    ----------
    keys : list of int
        The first of them becomes that of the codes.
    combinations : ndarray of shape (n_combinations, n_columns)
    """

    keys: list[int]
    combinations: Array

    @classmethod
    def of(cls, keys: Sequence[int], table: Table) -> CombinationStep:
        """The combinations that occur in a table."""
        rows = np.column_stack([table[k] for k in keys])
        # Along an axis, np.unique takes rows with NaN for different ones.
        distinct = np.unique(np.where(np.isnan(rows), np.inf, rows), axis=0)
        return cls(list(keys), np.where(np.isinf(distinct), np.nan, distinct))

    def learn(self, table: Table, new_key: int, gaps: Container[int] = ()) -> dict[int, int]:
        return {}

    @property
    def reads(self) -> list[int]:
        return self.keys

    @property
    def derives(self) -> list[int]:
        return self.keys

    def codes(self, table: Table) -> Array:
        """Codes of the combinations of rows; NaN of those that never occurred."""
        known = np.zeros(len(self.combinations), dtype=np.int64)
        codes = np.zeros(len(table[self.keys[0]]), dtype=np.int64)
        for key, of_known in zip(self.keys, self.combinations.T, strict=True):
            values, at = np.unique(of_known, return_inverse=True, equal_nan=True)
            known, pairs = np.unique(known * len(values) + at, return_inverse=True)
            found = _positions(values, table[key])
            wanted = np.where((codes < 0) | (found < 0), -1, codes * len(values) + found)
            codes, known = _positions(known, wanted), pairs
        order = np.empty(len(known) + 1)
        order[known], order[-1] = np.arange(len(known)), np.nan
        return order[codes]

    def reduce(self, table: Table) -> None:
        codes = self.codes(table)
        for key in self.keys[1:]:
            del table[key]
        table[self.keys[0]] = codes

    def restore(self, table: Table) -> None:
        rows = np.vstack([self.combinations, np.full(len(self.keys), np.nan)])
        codes = table[self.keys[0]]
        rows = rows[np.where(np.isnan(codes), -1, codes).astype(int)]
        table.update(zip(self.keys, rows.T, strict=True))

    def holds(self, table: Table) -> NDArray[np.bool_]:
        return ~np.isnan(self.codes(table))


@dataclass
class GapStep:
    """A column that misses its cells where another has certain values, and nowhere else.

    These are `values`, and all from `low` to `high`.
    """

    key: int
    by: int
    values: Array
    low: float = np.inf
    high: float = -np.inf

    def learn(self, table: Table, new_key: int, gaps: Container[int] = ()) -> dict[int, int]:
        return {}

    @property
    def reads(self) -> list[int]:
        return [self.by]

    @property
    def derives(self) -> list[int]:
        return [self.key]

    def _is_missing(self, table: Table) -> NDArray[np.bool_]:
        x = table[self.by]
        is_between = (x >= self.low) & (x <= self.high)
        return is_between | np.isin(x, self.values) | (np.isnan(x) & np.isnan(self.values).any())

    def reduce(self, table: Table) -> None:
        """Nothing is replaced; the model just learns no flag of missing cells."""

    def restore(self, table: Table) -> None:
        table[self.key] = np.where(self._is_missing(table), np.nan, table[self.key])

    def holds(self, table: Table) -> NDArray[np.bool_]:
        return self._is_missing(table) == np.isnan(table[self.key])


@dataclass
class DayStep:
    """A column of integers like 20240229 that is replaced by the number of the day."""

    key: int

    def learn(self, table: Table, new_key: int, gaps: Container[int] = ()) -> dict[int, int]:
        return {}

    @property
    def reads(self) -> list[int]:
        return []

    @property
    def derives(self) -> list[int]:
        return [self.key]

    def reduce(self, table: Table) -> None:
        table[self.key] = days_of(table[self.key])

    def restore(self, table: Table) -> None:
        days = table[self.key]
        known = ~np.isnan(days)
        dates = np.rint(days[known]).astype("M8[D]")
        months = dates.astype("M8[M]")
        years = months.astype("M8[Y]")
        number = 10_000 * (years.astype(int) + 1970) + 100 * ((months - years).astype(int) + 1)
        out = np.full(len(days), np.nan)
        out[known] = number + (dates - months).astype(int) + 1
        table[self.key] = out

    def solve(self, table: Table, number: float, fixed: set[int]) -> Array:
        """Have all rows be of one day."""
        n_rows = len(table[self.key])
        table[self.key] = days_of(np.full(n_rows, number))
        return np.where(np.isnan(table[self.key]), np.nan, 0.0)

    def holds(self, table: Table) -> NDArray[np.bool_]:
        x = table[self.key]
        return np.isnan(x) | ~np.isnan(days_of(x))


Step = DerivedStep | InequalityStep | CombinationStep | GapStep | DayStep


def days_of(x: Array) -> Array:
    """Days since 1970 of integers like 20240229; NaN of what is no date of four-digit years."""
    out = np.full(len(x), np.nan)
    is_number = (x >= 10000101) & (x <= 99991231) & (x == np.rint(x))
    year, rest = np.divmod(x[is_number].astype(np.int64), 10_000)
    month, day = np.divmod(rest, 100)
    months = (12 * (year - 1970) + np.clip(month, 1, 12) - 1).astype("M8[M]")
    days = months.astype("M8[D]") + (day - 1)
    is_date = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months)
    out[is_number] = np.where(is_date, days.astype(np.int64), np.nan)
    return out


def _varies_less(differences: Array, x: Array) -> bool:
    """Whether differences are narrower than a column, and do not blur what many rows share."""
    known = ~np.isnan(differences)
    if not known.any():
        return True
    parts = differences[known], x[known]
    spreads = [np.ptp(np.quantile(part, (0.1, 0.9))) for part in parts]
    shares = [np.unique(part, return_counts=True)[1].max() / len(part) for part in parts]
    return bool(spreads[0] <= 0.5 * spreads[1] and shares[1] <= max(0.05, shares[0]))


def _learn_gaps(
    step: DerivedStep | InequalityStep, table: Table, known: NDArray[np.bool_], new_key: int
) -> dict[int, int]:
    """Have a step add columns for cells that others do not determine, and for missing cells."""
    missing, added = np.isnan(table[step.key]), {}
    if (~known & ~missing).any():
        step.alone = new_key
        added[new_key], new_key = step.key, new_key + 1
    if (missing & (known | (step.alone is not None))).any() and not getattr(
        step, "has_gaps", False
    ):
        step.gap = new_key
        added[new_key] = -1
    return added


def _gaps_fit(
    step: DerivedStep | InequalityStep, known: NDArray[np.bool_], missing: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Where cells are missing, or determined by others, as a step has learned."""
    may_miss = step.gap is not None or getattr(step, "has_gaps", False)
    if step.alone is None:
        return np.where(known, may_miss | ~missing, missing)
    return np.asarray(may_miss | ~missing)


def _positions(values: Array, x: Array) -> Array:
    """Positions among sorted values, of which NaN is the last; -1 of others."""
    at = np.minimum(np.searchsorted(values, x), len(values) - 1)
    return np.where(same(values[at], x), at, -1)
