"""Find relations that hold in every training row, and not by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skae._data._relation_evidence import (
    MAX_VALUES,
    MIN_OTHERS,
    MIN_ROWS,
    MIN_SURPRISES,
    Cells,
    exact_covers,
    has_few_pairs,
    is_function,
    is_step_function,
)
from skae._data._relation_numbers import (
    find_inequalities,
    find_products,
    find_rates,
    find_remainders,
    find_sums,
)
from skae._data._relation_plan import Plan, in_order
from skae._data._relation_steps import DerivedStep, days_of
from skae._data._relation_units import KINDS_OF_VALUES
from skae.relations import Combination, Formula, Gap, Inequality, OneOf, Relation, YearMonthDay

# Rows that candidates come from; each is then checked in all rows.
MAX_ROWS = 20_000
# Wider tables are images or spectra, whose columns are not looked at in pairs.
MAX_COLUMNS = 256


def find_relations(plan: Plan) -> list[Relation]:
    """Relations that hold in every row of a table, by rules that keep chance out.

    They need 100 rows, and 10 of them in which a column is not at its commonest value.
    """
    n_rows, n_columns = len(plan.table[0]), len(plan.names)
    if n_rows < MIN_ROWS or not 1 < n_columns < MAX_COLUMNS:
        return []
    search = Search(plan)
    search.find_days()
    search.find_one_hot_groups()
    find_sums(search)
    find_products(search)
    find_rates(search)
    find_remainders(search)
    search.find_functions()
    search.find_steps()
    search.find_gaps()
    search.find_combinations()
    find_inequalities(search)
    return search.found


class Search:
    """What was found so far.

    Attributes
    ----------
    cells : dict of int to Cells
        Columns in a sample of the rows.
    found : list of Relation
    free : set of int
        Columns that no relation replaces yet.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.found: list[Relation] = []
        self.free = set(plan.table)
        n_rows = len(plan.table[0])
        self.rows = np.arange(n_rows)
        if n_rows > MAX_ROWS:
            self.rows = np.sort(np.random.RandomState(0).choice(n_rows, MAX_ROWS, replace=False))
        self.cells = {key: self._cells(key) for key in plan.table}

    def _cells(self, key: int) -> Cells:
        plan = self.plan
        return Cells(plan.table[key][self.rows], plan.units[key], plan.n_levels[key])

    def keys(self, kinds: Sequence[str], *, taken: bool = False) -> list[int]:
        """Columns of some kinds that are free; those that are taken, too, if asked."""
        return [
            k for k, c in self.cells.items() if c.unit.kind in kinds and (taken or k in self.free)
        ]

    def offer(self, relation: Relation, *, shared: bool = False) -> bool:
        """Keep a relation, if it holds in all rows and goes with those found.

        A column of a `shared` one is replaced by several of its kind.
        """
        try:
            in_order([*self.found, relation], self.plan)
        except ValueError:
            return False
        step, table = self.plan.step([relation]), self.plan.table
        step.learn(table, len(table))
        if isinstance(step, DerivedStep):
            known = ~np.isnan(step.rule.values(table)) & ~np.isnan(table[step.key])
            if known.sum() < MIN_ROWS:
                return False
        if not step.holds(table).all():
            return False
        self.found.append(relation)
        if not (shared or isinstance(relation, Gap)):
            self.free -= set(self.plan.ports(relation)[1])
        return True

    def _names(self, keys: Sequence[int]) -> list[Any]:
        return [self.plan.names[k] for k in keys]

    def find_days(self) -> None:
        """Integers that are dates, as 20240229 is."""
        for key in self.keys(("number",)):
            x = self.cells[key].values
            x = x[~np.isnan(x)]
            if len(x) < 20 or x[0] < 19000101 or x[-1] > 21001231 or np.isnan(days_of(x)).any():
                continue
            relation = YearMonthDay(self.plan.names[key])
            if not np.isnan(days_of(self.plan.table[key][~np.isnan(self.plan.table[key])])).any():
                self.found.append(relation)
                self.plan.recode_days(relation)
                self.cells[key] = self._cells(key)

    def find_one_hot_groups(self) -> None:
        """Flags of which exactly one is set."""
        keys = [k for k in self.free if self.cells[k].is_binary]
        by_gaps: dict[bytes, list[int]] = {}
        for key in sorted(keys):
            by_gaps.setdefault(self.cells[key].missing.tobytes(), []).append(key)
        for group in by_gaps.values():
            known = ~self.cells[group[0]].missing
            if len(group) < 2 or known.sum() < MIN_ROWS:
                continue
            flags = np.column_stack([self.cells[k].x[known] > 0.5 for k in group])
            for cover in exact_covers(flags):
                if known.sum() - flags[:, cover].sum(axis=0).max() >= MIN_OTHERS:
                    self.offer(OneOf(self._names([group[i] for i in cover])))

    def find_functions(self) -> None:
        """Columns that are functions of one other, of which every value was met."""
        sources = [k for k, c in self.cells.items() if c.is_discrete and c.varies]
        for key in sorted(self.free, key=lambda k: (self.cells[k].n_values, -k)):
            t = self.cells[key]
            finer = [k for k in sources if (self.cells[k].n_values, -k) > (t.n_values, -key)]
            for source in sorted(finer, key=lambda k: (self.cells[k].n_values, k)):
                if is_function(self.cells[source], t) and self.offer(
                    Formula(self.plan.names[key], of=self.plan.names[source])
                ):
                    break

    def find_steps(self) -> None:
        """Few values, each of which goes with an interval of the numbers of another column."""
        sources = self.keys(("number", "date", "lapse"), taken=True)
        sources = [k for k in sources if self.cells[k].n_values > self.cells[k].n_levels + 10]
        for key in sorted(self.free):
            t = self.cells[key]
            if not (t.is_discrete and t.varies and t.n_values <= MAX_VALUES) or t.missing.any():
                continue
            for source in sources:
                x = self.cells[source]
                if is_step_function(x, t) and self.offer(
                    Formula(self.plan.names[key], of=self.plan.names[source])
                ):
                    break

    def find_gaps(self) -> None:
        """Columns whose cells are missing where another column has certain values."""
        n_rows = len(self.rows)
        for key in sorted(self.free):
            gap = self.cells[key].missing
            n_missing = int(gap.sum())
            if min(n_missing, n_rows - n_missing) < MIN_OTHERS:
                continue
            disagreement = 2 * n_missing * (n_rows - n_missing) / n_rows**2
            for by, x in sorted(self.cells.items(), key=lambda item: item[1].n_values):
                if by == key:
                    continue
                values, between = self._values_at_gaps(gap, x), None
                n_values = 2 if values == (None,) else x.n_values
                levels = self.plan.columns.levels(by)
                is_listed = levels or values == (None,) or x.unit.kind in ("number", "flag")
                if not (is_listed and values) or np.array_equal(gap, ~x.missing):
                    (values, between), n_values = self._ends_of_gaps(key, by), 2
                if not (values or between) or (n_rows - n_values) * disagreement < MIN_SURPRISES:
                    continue
                if levels:
                    values = tuple(None if v is None else levels[int(v)] for v in values)
                if self.offer(Gap(self.plan.names[key], self.plan.names[by], values, between)):
                    break

    def _ends_of_gaps(self, key: int, by: int) -> tuple[tuple[None, ...], tuple[Any, Any] | None]:
        """Where cells are missing beyond a number of another column, or wherever it has cells."""
        gap, x = np.isnan(self.plan.table[key]), self.plan.table[by]
        values = (None,) if gap[np.isnan(x)].any() else ()
        at, others = (x[is_one & ~np.isnan(x)] for is_one in (gap, ~gap))
        if not len(others):
            return values, (None, None)
        is_value = self.cells[by].unit.kind in KINDS_OF_VALUES and by not in self.plan.days
        if is_value and len(at) and (at.min() > others.max() or at.max() < others.min()):
            is_above = at.min() > others.max()
            end = self.plan.columns.value(by, at.min() if is_above else at.max())
            return values, (end, None) if is_above else (None, end)
        return (), None

    @staticmethod
    def _values_at_gaps(gap: np.ndarray, x: Cells) -> tuple[Any, ...] | None:
        """Values of `x` where cells are missing; None if they occur elsewhere, too."""
        if np.array_equal(gap, x.missing):
            return (None,)
        if not x.is_discrete or x.n_values > MAX_VALUES:
            return None
        n_gaps = np.bincount(x.codes, gap, minlength=x.n_values)
        if n_gaps.all() or ((n_gaps > 0) & (n_gaps < x.counts)).any():
            return None
        at = x.values[n_gaps > 0]
        return tuple(None if np.isnan(v) else int(v) if v == int(v) else float(v) for v in at)

    def find_combinations(self) -> None:
        """Columns of levels and flags, of whose pairs only some occur."""
        keys = [
            k
            for k in self.keys(("level", "flag", "number"))
            if self.cells[k].varies
            and 1 < self.cells[k].n_values <= MAX_VALUES
            and (self.cells[k].n_levels or self.cells[k].is_binary)
        ]
        gaps = {name for r in self.found if isinstance(r, Gap) for name in (r.column_name,)}
        keys = [k for k in keys if self.plan.names[k] not in gaps]
        for i, first in enumerate(keys):
            group = [first]
            for other in keys[i + 1 :]:
                usable = {first, other} <= self.free
                if usable and has_few_pairs(self._joint(group), self.cells[other]):
                    group.append(other)
            if len(group) > 1:
                self.offer(Combination(self._names(group)))

    def _joint(self, group: list[int]) -> Cells:
        """Several columns as one of codes."""
        codes = np.column_stack([self.cells[k].codes for k in group])
        _, joint = np.unique(codes, axis=0, return_inverse=True)
        return Cells(joint.ravel().astype(float), self.cells[group[0]].unit, len(codes))

    def close_inequalities(self) -> None:
        """Columns that inequalities replace are free no longer."""
        for relation in self.found:
            if isinstance(relation, Inequality):
                self.free -= set(self.plan.ports(relation)[1])
