"""Relations of a fitted table: what the model learns of it, and how rows become whole again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import as_dense, row_chunks
from skae._data._relation_plan import Plan
from skae._data._relation_rules import Array, LookupRule, Table
from skae._data._relation_search import find_relations
from skae._data._relation_steps import (
    CombinationStep,
    DayStep,
    DerivedStep,
    GapStep,
    InequalityStep,
    Step,
)
from skae.relations import Relation, YearMonthDay


class Relations:
    """Takes what is redundant out of rows of a table, and puts it back.

    Parameters
    ----------
    n_levels : list of int
        Number of levels of each column of the table; 0 for numbers.

    Attributes
    ----------
    found : list of Relation
    steps : list
        In the order in which they reduce a table.
    n_features : int
    n_levels : list of int
        Number of levels of each column of reduced rows.
    keys : list of int
        Where the columns of reduced rows come from: numbers of columns of the table, and further
        integers of added ones.
    unflagged : list of int
        Columns of reduced rows of which relations say where cells are missing.
    """

    def __init__(self, n_levels: list[int]) -> None:
        self.found: list[Relation] = []
        self.steps: list[Step] = []
        self.n_features = len(n_levels)
        self.n_levels = list(n_levels)
        self.keys = list(range(len(n_levels)))
        self.unflagged: list[int] = []

    def learn(self, wanted: Any, columns: Any, X: Any) -> Relations:
        """Find relations ("auto"), or learn those of a list, from rows of numbers and codes.

        Raise ValueError if a relation of the list does not hold in a row.
        """
        plan = Plan(columns, as_dense(X))
        relations = find_relations(plan) if isinstance(wanted, str) else list(wanted)
        others = [r for r in relations if not isinstance(r, YearMonthDay)]
        for relation in relations:
            if isinstance(relation, YearMonthDay):
                self.steps.append(plan.recode_days(relation))
        table, levels = dict(plan.table), dict(enumerate(self.n_levels))
        gaps: set[int] = set()
        for step, group in plan.steps(others):
            added = step.learn(table, max(self.n_features, *levels) + 1, gaps)
            gaps |= {step.key} if isinstance(step, GapStep) else set()
            plan.check_holds(step, group, table)
            step.reduce(table)
            levels |= {new: levels.get(old, 0) for new, old in added.items()}
            if isinstance(step, CombinationStep):
                levels[step.keys[0]] = len(step.combinations)
            self.steps.append(step)
        for step in self.steps:
            if isinstance(step, InequalityStep) and not step.is_lifted:
                gaps.add(step.key)
            alone = getattr(step, "alone", None)
            gaps |= set() if alone is None else {alone}
        self.found = relations
        self.keys = list(table)
        self.n_levels = [levels[k] for k in self.keys]
        self.unflagged = [i for i, k in enumerate(self.keys) if k in gaps]
        return self

    def reduce(self, X: Any) -> Any:
        """Rows without what is redundant; as they are, if nothing is."""
        if not self.steps:
            return X
        table = self._table(X)
        for step in self.steps:
            step.reduce(table)
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        return np.column_stack([table[k] for k in self.keys]).astype(dtype, copy=False)

    def restore(self, reduced: Any) -> Any:
        """Whole rows, in which the relations hold."""
        if not self.steps:
            return reduced
        table = dict(zip(self.keys, np.asarray(reduced, dtype=np.float64).T, strict=True))
        for step in reversed(self.steps):
            step.restore(table)
        return np.column_stack([table[k] for k in range(self.n_features)])

    def is_met(self, reduced: Array) -> Array:
        """Which reduced rows lead to numbers that derived columns may have."""
        whole = self.restore(reduced)
        out = np.ones(len(whole), dtype=bool)
        for step in self.steps:
            if isinstance(step, DerivedStep):
                out &= step.is_met(whole[:, step.key])
        return out

    @property
    def has_limits(self) -> bool:
        """Whether there is a derived column that may not have all numbers."""
        names = ("met", "ends")
        return any(getattr(step, name, None) is not None for step in self.steps for name in names)

    @property
    def sources(self) -> list[int]:
        """The column of the table that each column of reduced rows stands for."""
        added = {
            new: step.key
            for step in self.steps
            if isinstance(step, DerivedStep | InequalityStep)
            for new in (step.alone, step.gap)
            if new is not None
        }
        return [added.get(key, key) for key in self.keys]

    def close(self, reduced: Any) -> Any:
        """Reduced rows as those of whole rows are in which the relations hold."""
        return self.reduce(self.restore(reduced)) if self.steps else reduced

    def check(self, X: Any) -> None:
        """Raise ValueError that names the first row that breaks a relation."""
        if self.steps:
            for rows, chunk in row_chunks(X):
                self._check(chunk, rows.start)

    def _check(self, X: Any, first: int) -> None:
        table = self._table(X)
        for step in self.steps:
            holds = step.holds(table)
            if not holds.all():
                raise ValueError(
                    f"Row {first + int(holds.argmin())} of X breaks one of the relations that held "
                    f"when the training began, {self.found}. Pass relations=None, or a list of "
                    "those that hold in all rows."
                )
            step.reduce(table)

    def hold(self, X: Any) -> NDArray[np.bool_]:
        """Which rows obey all relations."""
        out = np.ones(X.shape[0], dtype=bool)
        for rows, chunk in row_chunks(X) if self.steps else ():
            table = self._table(chunk)
            for step in self.steps:
                out[rows] &= step.holds(table)
                step.reduce(table)
        return out

    @staticmethod
    def _table(X: Any) -> Table:
        return dict(enumerate(as_dense(X).astype(np.float64).T))

    # What conditions on columns mean for those that are learned.

    @property
    def plain(self) -> set[int]:
        """Columns of the table that are learned as they are."""
        replaced = {k for step in self.steps for k in step.derives} - self.lifted
        return set(self.keys) & set(range(self.n_features)) - replaced

    @property
    def lifted(self) -> set[int]:
        """Columns that are learned as they are, and lifted where they are below others."""
        steps = [step for step in self.steps if isinstance(step, InequalityStep)]
        return {step.key for step in steps if step.is_lifted}

    def can_solve(self, key: int) -> bool:
        """Whether other columns can be solved for a number of this one."""
        return any(
            isinstance(step, DerivedStep | InequalityStep | DayStep) and step.key == key
            for step in self.steps
            if key not in self.lifted
        )

    def solve(
        self, reduced: Array, key: int, number: float, fixed: set[int]
    ) -> tuple[Array, Array]:
        """Reduced rows in which column `key` becomes a number, by a change of another column.

        Columns in `fixed` are not changed. Also returned are the logarithms of the slopes of the
        number by what was changed; NaN where there is no solution.
        """
        steps = [step for step in self.steps if not isinstance(step, GapStep)]
        at = next(i for i, step in enumerate(steps) if key in step.derives)
        table = dict(zip(self.keys, np.asarray(reduced, dtype=np.float64).T, strict=True))
        for step in reversed(steps[at + 1 :]):
            step.restore(table)
        before = dict(table)
        log_slopes = steps[at].solve(table, number, fixed)  # type: ignore[union-attr]
        for step in steps[at + 1 :]:
            numbers = table[step.derives[0]]
            step.reduce(table)
            # What was changed may itself be determined by others, which are changed in turn.
            if isinstance(step, DerivedStep) and numbers is not before[step.key]:
                log_slopes = log_slopes + step.solve(table, numbers, fixed)
        return np.column_stack([table[k] for k in self.keys]), log_slopes

    def codes_where(self, wanted: dict[int, Callable[[Array], Array]]) -> list[tuple[int, Array]]:
        """Columns of codes of combinations, and codes of those that go with what is wanted."""
        out = []
        for step in self.steps:
            if isinstance(step, CombinationStep) and set(step.keys) & set(wanted):
                met = np.ones(len(step.combinations), dtype=bool)
                for key, cells in zip(step.keys, step.combinations.T, strict=True):
                    met &= wanted[key](cells) if key in wanted else True
                out.append((step.keys[0], np.flatnonzero(met)))
            if isinstance(step, DerivedStep) and isinstance(step.rule, LookupRule):
                rule = step.rule
                if step.key in wanted and rule.key in self.plain and rule.key not in wanted:
                    met = wanted[step.key](rule.results)
                    codes = np.unique(np.r_[rule.lows[met], rule.highs[met]])
                    if not wanted[step.key](np.array([rule.at_missing]))[0] and len(codes) < 2:
                        out.append((rule.key, codes))
        return out
