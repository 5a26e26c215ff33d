"""From relations by name to the steps that keep them, and the order of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._formulas import names_in
from skae._data._relation_rules import FormulaRule, LookupRule, SumRule, Table
from skae._data._relation_steps import (
    CombinationStep,
    DayStep,
    DerivedStep,
    GapStep,
    InequalityStep,
    Step,
    days_of,
)
from skae._data._relation_units import KINDS_OF_VALUES, Unit, units_of
from skae.relations import (
    RELATIONS,
    Combination,
    Formula,
    Gap,
    Inequality,
    OneOf,
    Relation,
    Sum,
    YearMonthDay,
)

# Kinds of columns whose cells are numbers that formulas may read.
ARITHMETIC = ("number", "flag")


class Plan:
    """What relations refer to: the columns of a table, and what their numbers mean.

    Parameters
    ----------
    columns : Columns or PlainColumns
    X : ndarray of shape (n_samples, n_features)
        Numbers and codes.
    """

    def __init__(self, columns: Any, X: NDArray[Any]) -> None:
        self.columns = columns
        self.names: list[Any] = columns.names
        self.n_levels: list[int] = columns.n_levels
        self.units = units_of(columns, X)
        self.table: Table = dict(enumerate(np.asarray(X, dtype=np.float64).T))
        self.days: set[int] = set()  # columns that `recode_days` has changed

    def key(self, name: Any, relation: Relation) -> int:
        """The number of a column."""
        if name in self.names:
            return self.names.index(name)
        raise ValueError(
            f"relations: {relation!r} names the column {name!r}; columns are {self.names}."
        )

    def variable(self, j: int) -> str:
        """The name of a column in formulas."""
        name = self.names[j]
        return f"c{name}" if isinstance(name, int) else str(name)

    def _keys_of_formula(self, relation: Formula) -> tuple[list[str], list[int]]:
        try:
            names = names_in(str(relation.expression))
        except ValueError as error:
            raise ValueError(f"relations: {error}") from None
        of_names = {self.variable(j): j for j in range(len(self.names))}
        if not names:
            raise ValueError(f"relations: {relation!r} reads no column.")
        for name in names:
            if name not in of_names:
                raise ValueError(
                    f"relations: {relation!r} names the column {name!r}; columns are "
                    f"{list(of_names)}."
                )
        return names, [of_names[name] for name in names]

    def ports(self, relation: Relation) -> tuple[list[int], list[int]]:
        """Numbers of the columns that a relation reads, and of those it replaces."""
        match relation:
            case Inequality(low, high):
                return [self.key(low, relation)], [self.key(high, relation)]
            case Sum(total, parts):
                return [self.key(p, relation) for p in parts], [self.key(total, relation)]
            case OneOf(names) | Combination(names):
                keys = [self.key(name, relation) for name in names]
                return keys, keys
            case Formula(name, None, of):
                return [self.key(of, relation)], [self.key(name, relation)]
            case Formula(name):
                return self._keys_of_formula(relation)[1], [self.key(name, relation)]
            case Gap(name, by):
                return [self.key(by, relation)], [self.key(name, relation)]
            case YearMonthDay(name):
                return [], [self.key(name, relation)]
        kinds = ", ".join(cls.__name__ for cls in RELATIONS)
        raise TypeError(f"relations: {relation!r} must be one of {kinds}, of skae.relations.")

    def steps(self, relations: Iterable[Relation]) -> list[tuple[Step, list[Relation]]]:
        """Steps in their order, each with the relations that it keeps."""
        return [(self.step(group), group) for group in in_order(relations, self)]

    def step(self, group: Sequence[Relation]) -> Step:
        """The step of a relation, or of several inequalities of one higher column."""
        relation, table = group[0], self.table
        reads, derives = self.ports(relation)
        match relation:
            case Inequality():
                lows = [self.ports(each)[0][0] for each in group]
                self._check_kinds(relation, [*lows, *derives], same=True)
                strictly = any(getattr(each, "strict_boundaries", False) for each in group)
                units = [self.units[k] for k in lows]
                return InequalityStep(derives[0], lows, self.units[derives[0]], units, strictly)
            case Sum():
                self._check_kinds(relation, [*reads, *derives])
                rule = SumRule(reads, [self.units[k] for k in reads])
                return DerivedStep(derives[0], self.units[derives[0]], rule)
            case OneOf():
                return self._one_of(relation, reads)
            case Combination():
                return CombinationStep.of(reads, table)
            case Formula(_, None):
                is_coded = self.units[reads[0]].kind == "level"
                rule_of = LookupRule.learn(
                    reads[0], table[reads[0]], table[derives[0]], is_coded=is_coded
                )
                return DerivedStep(derives[0], self.units[derives[0]], rule_of)
            case Formula(_, expression):
                self._check_kinds(relation, [*reads, *derives], kinds=ARITHMETIC)
                names = self._keys_of_formula(relation)[0]
                formula = FormulaRule(str(expression), reads, names)
                return DerivedStep(derives[0], self.units[derives[0]], formula)
            case Gap():
                values = self._gap_values(relation, *derives, *reads)
                low, high = self._gap_ends(relation, *reads)
                return GapStep(derives[0], reads[0], values, low, high)
        raise AssertionError(relation)  # days come before

    def _one_of(self, relation: Relation, keys: list[int]) -> CombinationStep:
        step = CombinationStep.of(keys, self.table)
        rows = step.combinations
        is_row = (rows.sum(axis=1) == 1) & np.isin(rows, (0, 1)).all(axis=1)
        step.combinations = rows[is_row | np.isnan(rows).all(axis=1)]
        if not is_row.any():
            raise ValueError(f"relations: {relation!r} holds in no row of X.")
        return step

    def _gap_values(self, relation: Gap, key: int, by: int) -> NDArray[np.float64]:
        if relation.values is None and relation.between is None:
            return np.unique(self.table[by][np.isnan(self.table[key])], equal_nan=True)
        values = relation.values or ()
        return np.array(
            [
                np.nan if value is None or value != value else self._number(relation, by, value)
                for value in values
            ]
        )

    def _gap_ends(self, relation: Gap, by: int) -> Iterable[float]:
        if relation.between is None:
            return np.inf, -np.inf
        if relation.between != (None, None):
            self._check_kinds(relation, [by])
        return tuple(
            bound if end is None else self._number(relation, by, end)
            for end, bound in zip(relation.between, (-np.inf, np.inf), strict=True)
        )

    def _number(self, relation: Relation, key: int, value: Any) -> float:
        """The number of a value in the table."""
        try:
            number = self.columns.encode_value(key, value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"relations: {relation!r}: {error}") from None
        return float(days_of(np.array([number]))[0]) if key in self.days else number

    def _check_kinds(
        self,
        relation: Relation,
        keys: list[int],
        kinds: Sequence[str] = (*KINDS_OF_VALUES, "flag"),
        same: bool = False,
    ) -> None:
        for key in keys:
            kind = self.units[key].kind
            if kind not in kinds or (same and kind != self.units[keys[0]].kind):
                raise ValueError(
                    f"relations: {relation!r} cannot be of column {self.names[key]!r}, which "
                    f"holds {_WORDS[kind]}."
                )

    def recode_days(self, relation: YearMonthDay) -> DayStep:
        """Have the numbers of a column be days from now on."""
        (key,) = self.ports(relation)[1]
        step = DayStep(key)
        if key not in self.days:
            self._check_kinds(relation, [key])
            self.check_holds(step, [relation], self.table)
            step.reduce(self.table)
            self.units[key] = Unit("number", decimals=0)
            self.days.add(key)
        return step

    def check_holds(self, step: Step, group: Sequence[Relation], table: Table) -> None:
        """Raise ValueError that names the first row in which a relation does not hold."""
        holds = step.holds(table)
        if holds.all():
            return
        row = int(holds.argmin())
        keys = sorted({key for each in group for ports in self.ports(each) for key in ports})
        cells = ", ".join(f"{self.names[k]!r} is {self._cell(k, table[k][row])}" for k in keys)
        raise ValueError(
            f"relations: {group[0]!r} does not hold in row {row} of X, where {cells}; it fails in "
            f"{int((~holds).sum())} of {len(holds)} rows."
        )

    def _cell(self, key: int, number: float) -> str:
        if np.isnan(number):
            return "missing"
        if key in self.days:
            table = {key: np.array([number])}
            DayStep(key).restore(table)
            number = table[key][0]
        levels = self.columns.levels(key)
        return repr(levels[int(number)]) if levels else self.columns.decode_value(key, number)


_WORDS = {
    "number": "numbers",
    "flag": "booleans",
    "level": "levels",
    "date": "dates",
    "lapse": "durations",
    "other": "numbers beyond 2**53, or none",
}


def in_order(relations: Iterable[Relation], plan: Plan) -> list[list[Relation]]:
    """Groups of relations, so that a column is replaced after all others have read it.

    Raise ValueError if there is no such order, or a column is replaced twice.
    """
    groups: list[tuple[list[Relation], set[int], set[int]]] = []
    for relation in relations:
        reads, derives = map(set, plan.ports(relation))
        if reads & derives and not isinstance(relation, OneOf | Combination):
            raise ValueError(f"relations: {relation!r} is of a column and itself.")
        for group, of_group, replaced in groups:
            kinds = {type(relation), type(group[0])}
            if kinds == {Inequality} and replaced == derives:
                group.append(relation)
                of_group |= reads
                break
            if replaced & derives and kinds != {Inequality, Gap}:
                name = plan.names[min(replaced & derives)]
                raise ValueError(
                    f"relations: {group[0]!r} and {relation!r} both replace column {name!r}; "
                    "leave one of them out, or join them."
                )
        else:
            groups.append(([relation], reads, derives))
    # Gaps are put in last, after the column is whole.
    groups.sort(key=lambda group: not isinstance(group[0][0], Gap))
    ordered: list[list[Relation]] = []
    while groups:
        for i, (_, _, replaced) in enumerate(groups):
            others = [g for j, g in enumerate(groups) if j != i]
            if not any(replaced & reads for _, reads, _ in others) and not any(
                replaced & also and isinstance(g[0], Gap) for g, _, also in others
            ):
                break
        else:
            raise ValueError(
                f"relations: {[g for group, _, _ in groups for g in group]!r} go round in a "
                "circle; leave one of them out."
            )
        ordered.append(groups.pop(i)[0])
    return ordered
