"""Relations between the columns of a table, which hold in every row.

:class:`~skae.VAEGenerator` finds them, or is told of them by its parameter `relations`, and keeps
them in every row that it draws. `Inequality`, `OneOf` and `Combination` mean what
``Inequality``, ``OneHotEncoding`` and ``FixedCombinations`` mean in SDV [1]_.

A column is given by its name, or by its number where the table has no names.

References
----------
.. [1] Patki, Wedge & Veeramachaneni, "The Synthetic Data Vault", DSAA 2016.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Combination", "Formula", "Gap", "Inequality", "OneOf", "Sum", "YearMonthDay"]


@dataclass(frozen=True)
class Inequality:
    """One column is nowhere below another.

    Cells that are missing break no inequality. The model learns the difference, which is
    nowhere negative, in place of the higher column, where differences vary less than half as
    much; else it learns the column itself, and cells below the lower one are lifted to it.

    Parameters
    ----------
    low_column_name, high_column_name : object
        Two columns of numbers, of dates, or of durations.
    strict_boundaries : bool, default=False
        Whether the two may not be equal.

    Examples
    --------
    >>> from skae.relations import Inequality
    >>> Inequality("start", "end")
    Inequality(low_column_name='start', high_column_name='end', strict_boundaries=False)
    """

    low_column_name: Any
    high_column_name: Any
    strict_boundaries: bool = False


@dataclass(frozen=True)
class Sum:
    """A column is the sum of others.

    It equals their sum to a relative error of 1e-9 (1e-6 for float32), or rounded to the
    decimals of the column. A sum of which a part is missing is not checked. A difference,
    ``left == total - paid``, is the sum ``total == left + paid``. Rows whose sum is below or above
    all sums met are drawn anew, up to eight times; where all values of the sum are frequent, so
    are rows with others.

    Parameters
    ----------
    column_name : object
        The sum, which the model leaves out.
    column_names : iterable
        Its parts.

    Examples
    --------
    >>> from skae.relations import Sum
    >>> Sum("amount", ["balance", "principal"])
    Sum(column_name='amount', column_names=('balance', 'principal'))
    """

    column_name: Any
    column_names: Iterable[Any]

    def __post_init__(self) -> None:
        _set_names(self, 1)


@dataclass(frozen=True)
class OneOf:
    """Exactly one of several columns is 1, and all others are 0.

    Where one of their cells is missing, all are. The model learns one column of levels in their
    place.

    Parameters
    ----------
    column_names : iterable
        Two columns or more, of booleans or of the numbers 0 and 1.

    Examples
    --------
    >>> from skae.relations import OneOf
    >>> OneOf(["is_red", "is_green", "is_blue"])
    OneOf(column_names=('is_red', 'is_green', 'is_blue'))
    """

    column_names: Iterable[Any]

    def __post_init__(self) -> None:
        _set_names(self, 2)


@dataclass(frozen=True)
class Combination:
    """Of the values of several columns, only combinations of the training rows occur.

    A missing cell is a value like others. The model learns one column of levels in their place.

    Parameters
    ----------
    column_names : iterable
        Two columns or more.

    Examples
    --------
    >>> from skae.relations import Combination
    >>> Combination(["make", "model"])
    Combination(column_names=('make', 'model'))
    """

    column_names: Iterable[Any]

    def __post_init__(self) -> None:
        _set_names(self, 2)


@dataclass(frozen=True)
class Formula:
    """A column is a function of others: by an expression, or by a table.

    Parameters
    ----------
    column_name : object
        The column, which the model leaves out.
    expression : str, default=None
        Arithmetic of columns by name (in backticks where the name is no identifier; ``c0``,
        ``c1`` and so on where columns have no names) and constants, with ``+ - * / // %``,
        brackets and ``abs``, ``floor``, ``ceil``, ``round``, ``sqrt``, ``exp``, ``log``,
        ``minimum`` and ``maximum``. Equality is that of :class:`Sum`, and so are the rows that are
        drawn anew.
    of : object, default=None
        In place of an expression, a column of which this one is a function. The values are
        learned from the training rows. A number that lies between two that were met with
        different results is drawn as the nearer of them; a given one may go with any result.

    Examples
    --------
    >>> from skae.relations import Formula
    >>> Formula("hour", "time // 100")
    Formula(column_name='hour', expression='time // 100', of=None)
    >>> Formula("state", of="city")
    Formula(column_name='state', expression=None, of='city')
    """

    column_name: Any
    expression: str | None = None
    of: Any = None

    def __post_init__(self) -> None:
        if (self.expression is None) == (self.of is None):
            raise ValueError(
                f"Formula({self.column_name!r}) needs either an expression or `of`; got "
                f"expression={self.expression!r} and of={self.of!r}."
            )


@dataclass(frozen=True)
class Gap:
    """A column misses its cells where another has certain values, and nowhere else.

    These are the `values`, and those `between` two ends.

    Parameters
    ----------
    column_name : object
        The column that misses cells.
    by : object
        The other column.
    values : iterable or None, default=None
        Its values where the cells are missing; None and NaN are its own missing cells. None
        learns them from the training rows, if there is no `between`.
    between : tuple or None, default=None
        Smallest and largest of its values where the cells are missing; None is an open end:
        ``(None, None)`` is wherever the other column has a cell.

    Examples
    --------
    >>> from skae.relations import Gap
    >>> Gap("income", by="age", between=(None, 14))
    Gap(column_name='income', by='age', values=None, between=(None, 14))
    >>> Gap("income_of_joint_applicant", by="kind", values=["individual"])
    Gap(column_name='income_of_joint_applicant', by='kind', values=('individual',), between=None)
    """

    column_name: Any
    by: Any
    values: Iterable[Any] | None = None
    between: tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        if self.values is not None:
            object.__setattr__(self, "values", _as_tuple(self.values, "values"))
        if self.between is not None:
            ends = _as_tuple(self.between, "between")
            if len(ends) != 2:
                raise ValueError(f"between={self.between!r} of Gap must have two ends.")
            object.__setattr__(self, "between", ends)


@dataclass(frozen=True)
class YearMonthDay:
    """The integers of a column are dates, as in 20240229.

    The model learns the number of the day.

    Parameters
    ----------
    column_name : object
        A column of numbers.

    Examples
    --------
    >>> from skae.relations import YearMonthDay
    >>> YearMonthDay("opened")
    YearMonthDay(column_name='opened')
    """

    column_name: Any


Relation = Inequality | Sum | OneOf | Combination | Formula | Gap | YearMonthDay
RELATIONS = (Inequality, Sum, OneOf, Combination, Formula, Gap, YearMonthDay)


def _as_tuple(names: Any, field: str) -> tuple[Any, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{field}={names!r} must be a list.")
    return tuple(names)


def _set_names(relation: Any, at_least: int) -> None:
    names = _as_tuple(relation.column_names, "column_names")
    if len(names) < at_least or len(set(names)) < len(names):
        raise ValueError(
            f"column_names={list(names)!r} of {type(relation).__name__} must be at least "
            f"{at_least} different columns."
        )
    object.__setattr__(relation, "column_names", names)
