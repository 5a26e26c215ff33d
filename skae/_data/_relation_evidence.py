"""What speaks for a relation, other than chance."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._normal_scores import is_atom
from skae._data._relation_units import Unit

Array = NDArray[Any]
# A relation needs as many rows, and so many in which a column is not at its commonest value.
MIN_ROWS, MIN_OTHERS = 100, 10
# It must hold in as many rows in which it would not, if the columns were independent.
MIN_SURPRISES = 30
# Rows that must be expected where there are none, if a neighbourhood says what to expect.
MIN_NEAR = 12
# Columns with more distinct values do not take part in combinations.
MAX_VALUES = 50
# Of fewer rows per value, drawn rows would be little else than training rows.
MIN_ROWS_PER_VALUE = 5
# Steps of the search for exact covers.
MAX_STEPS = 5000


class Cells:
    """One column in a sample of the rows.

    Attributes
    ----------
    x : ndarray of shape (n_samples,)
    values : ndarray
        Distinct numbers, NaN last.
    codes : ndarray of shape (n_samples,)
        Positions in `values`.
    counts : ndarray
    """

    def __init__(self, x: Array, unit: Unit, n_levels: int) -> None:
        self.x, self.unit, self.n_levels = x, unit, n_levels
        self.values, self.codes, self.counts = np.unique(
            x, return_inverse=True, return_counts=True, equal_nan=True
        )

    @property
    def n_values(self) -> int:
        return len(self.values)

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        return np.isnan(self.x)

    @property
    def n_others(self) -> int:
        """Rows that have not the commonest value."""
        return len(self.x) - int(self.counts.max())

    @property
    def varies(self) -> bool:
        return self.n_others >= MIN_OTHERS

    @cached_property
    def is_discrete(self) -> bool:
        """Whether cells are drawn from the values met, and from nothing else."""
        if self.n_levels:
            return True
        known = self.counts[~np.isnan(self.values)]
        return len(known) > 0 and bool(is_atom(known).all())

    @property
    def agreement(self) -> float:
        """How probable it is that two rows have the same value."""
        return float(np.square(self.counts / len(self.x)).sum())

    @property
    def is_binary(self) -> bool:
        known = self.values[~np.isnan(self.values)]
        may_be = self.unit.kind in ("number", "flag")
        return may_be and len(known) == 2 and bool((known == [0, 1]).all())


def is_function(x: Cells, t: Cells) -> bool:
    """Whether `t` is a function of `x`, as many repeated values of `x` show."""
    n_repeated = len(x.x) - x.n_values
    if len(x.x) < MIN_ROWS_PER_VALUE * x.n_values or not t.varies:
        return False
    if n_repeated * (1 - t.agreement) < MIN_SURPRISES:
        return False
    for rows in (slice(0, 300), slice(None)):
        result = np.empty(x.n_values, dtype=np.int64)
        result[x.codes[rows]] = t.codes[rows]
        if not np.array_equal(result[x.codes[rows]], t.codes[rows]):
            return False
    # Where neighbouring numbers mostly agree, equal ones do so without a rule.
    changes = np.mean(result[1:] != result[:-1])
    return bool(x.n_levels > 0 or n_repeated * changes >= MIN_NEAR)


def is_step_function(x: Cells, t: Cells) -> bool:
    """Whether each value of `t` goes with one interval of the numbers `x`, next to others."""
    for rows in (slice(0, 200), slice(None)):
        known = ~x.missing[rows]
        order = np.argsort(x.x[rows][known], kind="stable")
        numbers, results = x.x[rows][known][order], t.codes[rows][known][order]
        is_end = results[1:] != results[:-1]
        n_results = np.count_nonzero(np.bincount(results, minlength=1))
        if is_end.sum() != max(n_results - 1, 0):
            return False
    if n_results < 2 or (numbers[1:][is_end] == numbers[:-1][is_end]).any():
        return False
    # Wide gaps between intervals are those of clusters, and few rows near them show no rule.
    at = np.flatnonzero(is_end)
    window = 0.05 * (numbers[-1] - numbers[0])
    low, high = numbers[at], numbers[at + 1]
    near = np.searchsorted(numbers, high + window) - np.searchsorted(numbers, low - window)
    return bool((high - low <= window).all() and (near >= MIN_NEAR).all())


def has_few_pairs(a: Cells, b: Cells) -> bool:
    """Whether pairs that do not occur are left out by a rule.

    No pair occurs so rarely that another one, as rare, could just not have been met: the share of
    those never met is estimated by that of pairs met once (Good, 1953).
    """
    n = len(a.x)
    counts = np.zeros((a.n_values, b.n_values))
    np.add.at(counts, (a.codes, b.codes), 1)
    met = counts > 0
    if counts[met].min() < 5:
        return False
    expected = np.outer(a.counts, b.counts) / n
    return bool(expected[~met].sum() >= max(MIN_SURPRISES, 0.02 * n))


def ends_at_zero(differences: Array, step: float) -> bool:
    """Whether differences end at zero by a rule, and not as a tail thins out.

    A log-concave density with n1 rows in [0, h) and n2 in [h, 2 h) has about n1 ** 2 / n2 rows in
    [-h, 0). There are none.

    Parameters
    ----------
    step : float
        The distance of neighbouring differences; 0 for a continuum.
    """
    widths = np.quantile(differences, (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)) / 2
    if step:
        widths = step * np.r_[1, 2, 3, np.rint(widths / step)]
    slack = 0.5 * step
    for width in widths[widths > 0]:
        near = np.count_nonzero(differences < width - slack)
        far = np.count_nonzero(differences < 2 * width - slack) - near
        if near >= MIN_NEAR and near * near >= MIN_NEAR * far:
            return True
    return False


def share_above(a: Array, b: Array) -> float:
    """The share of all pairs of values of `a` and of `b` in which `a` is above."""
    return float(np.searchsorted(np.sort(b), a).mean() / len(b))


def exact_covers(flags: NDArray[np.bool_]) -> list[list[int]]:
    """Groups of columns of which exactly one is set in each row; each column is in one at most."""
    rows = np.unique(flags, axis=0)
    groups: list[list[int]] = []
    free = list(range(rows.shape[1]))
    while free:
        group = _cover_with(rows, free[0], free[1:])
        if group is not None:
            groups.append(sorted(group))
        free = [j for j in free[1:] if group is None or j not in group]
    return groups


def _cover_with(rows: NDArray[np.bool_], first: int, others: list[int]) -> list[int] | None:
    """A group with column `first`, of columns that exclude each other and leave no row out."""
    stack = [([first], rows[:, first])]
    for _ in range(MAX_STEPS):
        if not stack:
            return None
        group, covered = stack.pop()
        if covered.all():
            return group
        row = rows[int(covered.argmin())]
        found = [j for j in others if row[j] and not (rows[:, j] & covered).any()]
        # Those next to the group come first.
        found.sort(key=lambda j: -min(abs(j - k) for k in group))
        stack += [([*group, j], covered | rows[:, j]) for j in found]
    return None
