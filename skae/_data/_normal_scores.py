"""Transform columns to normal scores, or intervals of them, and back.

With the share F(x) of rows up to x and the share F(x-) of rows below it, a frequent value x
(an atom) stands for the interval (ndtri(F(x-)), ndtri(F(x))) of the standard normal
distribution. Other values stand for points, their scores: these lie on a curve that is smooth
enough to have a slope, which gives them a density.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import ndtr, ndtri

from skae._data._chunks import as_dense
from skae._data._scaling import check_magnitudes, units
from skae._data._shards import is_sharded
from skae._data._sources import studied
from skae._data._tables import NO_CELLS

# Bound of scores: larger ones would make likelihoods in float32 infinite.
MAX_SCORE = 30.0
# Largest numbers of rows and cells that the distributions are learned from.
MAX_ROWS, MAX_CELLS = 100_000, 2**25
# A value is an atom if it has this share of the rows and this many of them.
ATOM_SHARE, ATOM_ROWS = 0.01, 5
# Values rounded to at most this many decimals are decoded to values rounded likewise.
MAX_DECIMALS = 6
# Error messages list the values of a column that has no more than these.
MAX_VALUES_LISTED = 3
# Smallest number of values from one knot of a curve to the next.
MIN_STRIDE = 3


@dataclass
class Grid:
    """A grid that holds all values of a column: ``(first + step * k) / 10**decimals``."""

    first: int
    step: int
    decimals: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> Grid | None:
        """The coarsest grid of at most `MAX_DECIMALS` decimals that holds the values, or None."""
        with np.errstate(over="ignore"):
            is_single = np.array_equal(values.astype(np.float32), values)
        precision = np.float32 if is_single else np.float64
        for decimals in range(MAX_DECIMALS + 1):
            scaled = values * 10.0**decimals
            if np.abs(scaled).max() >= 2**53:
                return None
            whole = np.rint(scaled)
            if np.array_equal((whole / 10.0**decimals).astype(precision), values):
                steps = np.diff(whole.astype(np.int64))
                step = int(np.gcd.reduce(steps)) if len(steps) else 1
                return cls(int(whole[0]), step, decimals)
        return None

    @property
    def width(self) -> float:
        """The distance between neighbouring points."""
        return self.step / 10.0**self.decimals

    def snap(self, values: Any) -> Any:
        """The nearest points of the grid."""
        k = np.rint((values * 10.0**self.decimals - self.first) / self.step)
        return (self.first + self.step * k) / 10.0**self.decimals


class RankedColumn:
    """The distribution of a column without missing cells, as normal scores.

    Parameters
    ----------
    x : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,)

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Distinct values, sorted.
    shares : ndarray of shape (n_values + 1,)
        Share of the rows below each value; the last is 1.
    is_atom : ndarray of bool of shape (n_values,)
        Values of positive probability; the others have a density.
    edges : ndarray of shape (n_values + 1,)
        Normal quantiles of `shares`: ends of the interval of each value.
    scores : ndarray of shape (n_values,)
        Means of the standard normal distribution within these intervals.
    """

    def __init__(self, x: NDArray[Any], weight: NDArray[Any]) -> None:
        self.n_rows = len(x)
        self.values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        mass = np.bincount(inverse.ravel(), weight)
        # A weight that is lost in rounding would make an interval of no width.
        has_width = np.diff(np.cumsum(mass) / mass.sum(), prepend=0.0) > 0
        self.values, counts, mass = self.values[has_width], counts[has_width], mass[has_width]
        self.shares = np.concatenate([[0.0], np.cumsum(mass) / mass.sum()])
        self.shares[-1] = 1.0
        self.is_atom = is_atom(counts)
        self.grid = Grid.of(self.values)
        edges = ndtri(self.shares)
        self.edges = np.clip(edges, -MAX_SCORE, MAX_SCORE)
        # The mean of a standard normal variable in (a, b) is
        # (density(a) - density(b)) / (ndtr(b) - ndtr(a)).
        self.scores = -np.diff(_normal_density(edges)) / np.diff(self.shares)

    @property
    def unit(self) -> float:
        """A power of two: slopes per unit neither overflow nor vanish."""
        with np.errstate(over="ignore"):
            return float(units(self.values[-1] - self.values[0]))

    @cached_property
    def quantiles(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Shares and values of the knots of the quantile function, which has steps at atoms."""
        low, high = self.shares[:-1], self.shares[1:]
        shares = np.where(self.is_atom, [low, high], 0.5 * (low + high))
        values = np.repeat(self.values, 2)
        # Two knots for an atom, one for another value.
        is_knot = np.ravel(np.stack([self.is_atom, np.ones_like(self.is_atom)], 1))
        return shares.T.ravel()[is_knot], values[is_knot]

    @cached_property
    def curve(self) -> tuple[NDArray[Any], ...]:
        """Values, scores and log-slopes of a piecewise linear curve between the atoms.

        Each slope is that from one knot to the next; the first and the last extrapolate the
        curve. NaN where no value can lie.
        """
        points = []
        i, n_values = 0, len(self.values)
        while i < n_values:
            if self.is_atom[i]:
                points += [(self.values[i], self.edges[i]), (self.values[i], self.edges[i + 1])]
                i += 1
                continue
            end = i
            while end < n_values and not self.is_atom[end]:
                end += 1
            points += [(self.values[j], self.scores[j]) for j in self._knots(i, end)]
            i = end
        values, scores = np.array(points).T
        beyond = [self._slope_beyond(values, scores, 0), self._slope_beyond(values, scores, -1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.diff(values) / self.unit
            slopes = np.log(np.r_[beyond[0], np.diff(scores) / steps, beyond[1]])
            slopes -= np.log(self.unit)
        slopes[~np.isfinite(slopes)] = np.nan
        return values, scores, slopes

    @property
    def _stride(self) -> int:
        """Values from one knot to the next: enough of them to estimate a slope."""
        return max(20, round(1.5 * np.sqrt(self.n_rows)))

    def _knots(self, start: int, end: int) -> list[int]:
        """Indices of the knots in a run of values, denser near its ends.

        A neighbouring atom has knots of its own, so none is needed next to it.
        """
        knots, last = [start], end - 1
        while knots[-1] < last:
            from_end = min(knots[-1] - start, last - knots[-1])
            step = int(np.clip(from_end // 2, MIN_STRIDE, self._stride))
            n_remaining = last - knots[-1] - step
            knots.append(last if n_remaining < MIN_STRIDE else knots[-1] + step)
        return knots[0 if start == 0 else 1 : None if end == len(self.values) else -1]

    def _slope_beyond(self, values: NDArray[Any], scores: NDArray[Any], end: int) -> float:
        """Slope per `unit` of the line that extrapolates the curve at one of its ends."""
        if self.is_atom[end] or len(values) < 2:
            return np.nan
        n = min(self._stride, len(self.values) - 1)
        other = np.searchsorted(values, self.values[n if end == 0 else -1 - n])
        other = max(other, 1) if end == 0 else min(other, len(values) - 2)
        return (scores[other] - scores[end]) / ((values[other] - values[end]) / self.unit)

    def intervals(self, x: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Scores, lower and upper ends of intervals, and log-slopes of values.

        For a value that has a density, both ends are the score and the slope is the derivative
        of the score by the value; for an atom the log-slope is zero. A value to which the
        training rows give neither counts as one that one row had.
        """
        at = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        at_atom = (self.values[at] == x) & self.is_atom[at]
        values, scores, slopes = self.curve
        before = np.searchsorted(values, x, side="right") - 1
        slope = slopes[before + 1]
        anchor = np.clip(before, 0, None)
        with np.errstate(over="ignore"):  # far values get the largest score
            steps = (x - values[anchor]) / self.unit
            score = scores[anchor] + np.exp(slope + np.log(self.unit)) * steps
        score = np.clip(score, -MAX_SCORE, MAX_SCORE)
        low, high, slope = score.copy(), score.copy(), slope.copy()
        score[at_atom] = self.scores[at[at_atom]]
        low[at_atom], high[at_atom] = self.edges[at[at_atom]], self.edges[at[at_atom] + 1]
        slope[at_atom] = 0.0
        unseen = np.isnan(slope)
        if unseen.any():
            below = self.shares[np.searchsorted(self.values, x[unseen])]
            score[unseen], low[unseen], high[unseen] = self.unseen_intervals(below)
            slope[unseen] = 0.0
        return score, low, high, slope

    def unseen_intervals(self, below: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Scores and ends of the intervals of one more row, given the share of rows below it."""
        half = 0.5 / self.n_rows
        middle = np.clip(below, half, 1 - half)
        score, low, high = ndtri(middle), ndtri(middle - half), ndtri(middle + half)
        return score, np.clip(low, -MAX_SCORE, MAX_SCORE), np.clip(high, -MAX_SCORE, MAX_SCORE)

    def values_of(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Values at these scores: quantiles at ``ndtr(scores)``, on the grid if there is one."""
        # Steps between huge values overflow in the interpolation.
        x = np.clip(np.interp(ndtr(scores), *self.quantiles), *self.values[[0, -1]])
        # A column of atoms is on its grid already.
        return x if self.grid is None or self.is_atom.all() else self.grid.snap(x)

    def can_hold(self, x: float) -> bool:
        """Whether `values_of` could return this number."""
        low, high = self.values[[0, -1]]
        return low <= x <= high and (self.grid is None or self.grid.snap(x) == x)


class NormalScores:
    """Transform rows of numbers and codes to inputs and targets of a network, and back.

    Parameters
    ----------
    n_levels : sequence of int
        Number of levels of each column that holds codes; 0 for columns of numbers.

    Attributes
    ----------
    columns_ : dict of int to RankedColumn
        By index of the column of X; columns without any number are left out.
    gaps_ : dict of int to RankedColumn
        Distribution of the indicator of missing cells, for columns with such cells.
    level_shares_ : list of ndarray
        Shares of the levels of each column of codes; the last level is that of missing cells,
        if there are any.
    """

    def __init__(self, n_levels: Sequence[int]) -> None:
        self.n_levels = np.asarray(n_levels)
        self.of_codes = np.flatnonzero(self.n_levels)

    def fit(
        self,
        X: Any,
        sample_weight: NDArray[Any] | None = None,
        seed: int = 0,
        unflagged: Sequence[int] = (),
    ) -> NormalScores:
        """Learn the distributions of the columns from all rows, or a sample of them.

        Of columns that are `unflagged`, it is not learned where cells are missing.
        """
        rows, weight = self._sample(*studied(X, sample_weight), seed)
        self.columns_, self.gaps_ = {}, {}
        self.level_shares_ = []
        for j, n_levels in enumerate(self.n_levels):
            x = as_dense(rows[:, [j]])[:, 0].astype(np.float64, copy=False)
            gap = np.isnan(x)
            has_flag = bool(gap.any()) and j not in unflagged
            if n_levels:
                codes = np.where(gap, n_levels, x).astype(int)
                mass = np.bincount(codes, weight, minlength=n_levels + has_flag)
                mass = mass[: n_levels + has_flag]
                self.level_shares_.append(mass / mass.sum())
                continue
            if not gap.all():
                self.columns_[j] = RankedColumn(x[~gap], weight[~gap])
            if has_flag and not gap.all():
                self.gaps_[j] = RankedColumn(gap.astype(float), weight)
        if not self.columns_ and not any(self.n_levels):
            raise ValueError(NO_CELLS)
        # Columns without atoms come first.
        by_kind = sorted(self.columns_, key=lambda j: self.columns_[j].is_atom.any())
        self.columns_ = {j: self.columns_[j] for j in by_kind}
        return self

    @property
    def known_ranges(self) -> tuple[NDArray[Any], ...]:
        """Smallest and largest number of each column, and a quarter of its range.

        They are infinite for codes, which are known or not, and for columns without a number.
        """
        low, high, scale = (np.full(len(self.n_levels), v) for v in (-np.inf, np.inf, 1.0))
        for j, column in self.columns_.items():
            low[j], high[j] = column.values[[0, -1]]
            scale[j] = (high[j] - low[j]) / 4 or 1.0
        return low, high, scale

    def check(self, X: Any, names: Any, largest: float) -> None:
        """Raise ValueError if values cannot be squared; scores are bounded, whatever they are."""
        check_magnitudes(X, names)

    @staticmethod
    def _sample(X: Any, sample_weight: NDArray[Any] | None, seed: int) -> tuple[Any, NDArray[Any]]:
        n_rows, n_features = X.shape
        n_sampled = min(MAX_ROWS, max(1000, MAX_CELLS // n_features))
        weight = np.ones(n_rows) if sample_weight is None else sample_weight
        if n_rows > n_sampled:
            rng = np.random.RandomState(seed)
            sampled = np.sort(rng.choice(n_rows, n_sampled, replace=False))
            X, weight = X[sampled], weight[sampled]
        elif is_sharded(X):
            X = X[:]
        # Columns are read one by one: a sparse table is never dense as a whole.
        return X.tocsc() if issparse(X) else X, weight

    # Layout of a row: [scores | levels | lower ends | upper ends | codes | slope].

    @property
    def n_scores(self) -> int:
        """Number of scores: of columns of numbers, and of indicators of missing cells."""
        return len(self.columns_) + len(self.gaps_)

    @property
    def level_counts(self) -> list[int]:
        """Number of levels of each column of codes, that of missing cells included."""
        return [len(shares) for shares in self.level_shares_]

    @property
    def n_inputs(self) -> int:
        """Number of columns that an encoder reads: scores and indicators of levels."""
        return self.n_scores + sum(self.level_counts)

    @property
    def n_directions(self) -> int:
        """Number of directions in which the inputs can vary: indicators of levels sum to one."""
        return self.n_scores + sum(self.level_counts) - len(self.level_counts)

    @property
    def n_continuous(self) -> int:
        """Number of columns without atoms, whose scores come first."""
        return sum(not column.is_atom.any() for column in self.columns_.values())

    @cached_property
    def level_scales(self) -> NDArray[Any]:
        """Factors of the indicators of levels in the inputs; those of rare levels are larger."""
        scales = [
            np.full(len(p), 1 / np.sqrt(max(len(p) - 1, 1))) / np.sqrt(np.maximum(p, 0.01))
            for p in self.level_shares_
        ]
        return np.concatenate([*scales, []])

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs and targets of the network, side by side in float32; see the layout above."""
        n_rows, n_scores = len(X), self.n_scores
        read, low, high = (np.zeros((n_rows, n_scores)) for _ in range(3))
        slopes = np.zeros((n_rows, 1))
        missing = np.isnan(X)
        for i, (j, column) in enumerate(self.columns_.items()):
            observed = ~missing[:, j]
            score, bottom, top, slope = column.intervals(X[observed, j])
            read[observed, i], low[observed, i], high[observed, i] = score, bottom, top
            slopes[observed, 0] += slope
            low[~observed, i], high[~observed, i] = -MAX_SCORE, MAX_SCORE  # any value
        for i, (j, column) in enumerate(self.gaps_.items(), len(self.columns_)):
            read[:, i], low[:, i], high[:, i], _ = column.intervals(missing[:, j].astype(float))
        levels, codes = self._levels(X, missing)
        return np.hstack([read, levels, low, high, codes, slopes]).astype(np.float32)

    def _levels(
        self, X: NDArray[Any], missing: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Centred and scaled indicators of the levels, and codes."""
        codes = X[:, self.of_codes]
        codes = np.where(missing[:, self.of_codes], self.n_levels[self.of_codes], codes)
        codes[codes >= self.level_counts] = -1  # missing cells, but there were none in `fit`
        indicators = [
            (codes[:, [i]] == np.arange(len(shares))) - shares
            for i, shares in enumerate(self.level_shares_)
        ]
        return np.hstack([*indicators, np.empty((len(X), 0))]) * self.level_scales, codes

    def partial_row(self, cells: dict[int, float]) -> NDArray[np.float32]:
        """Inputs and targets of a row of which only some cells are given.

        Parameters
        ----------
        cells : dict of int to float
            Numbers and codes by column; NaN gives a cell as missing.
        """
        X = np.full((1, len(self.n_levels)), np.nan)
        X[0, list(cells)] = list(cells.values())
        return self.partial_rows(X, list(cells))[0]

    def partial_rows(self, X: NDArray[Any], given: Sequence[int]) -> NDArray[np.float32]:
        """Inputs and targets of rows of which only the columns `given` are."""
        hidden = np.setdiff1d(np.arange(len(self.n_levels)), given)
        X = X.copy()
        X[:, hidden] = np.nan
        rows = self.transform(X)
        ends = rows[:, self.n_inputs :][:, : 2 * self.n_scores].reshape(len(X), 2, -1)
        gaps = np.arange(len(self.columns_), self.n_scores)
        not_given = gaps[[j in hidden for j in self.gaps_]]
        ends[:, 0, not_given], ends[:, 1, not_given] = -MAX_SCORE, MAX_SCORE
        rows[:, self.n_inputs :][:, : 2 * self.n_scores] = ends.reshape(len(X), -1)
        codes = rows[:, self.n_inputs + 2 * self.n_scores : -1]
        codes[:, [j in hidden for j in self.of_codes]] = -1
        return rows

    def reason_invalid(self, j: int, x: float, decode_value: Callable[[float], str]) -> str | None:
        """Why column `j` cannot hold the number or code `x`; None if it can.

        `decode_value` formats the numbers of the column.
        """
        if np.isnan(x):
            if self.n_levels[j]:
                i = self.of_codes.tolist().index(j)
                has_missing = self.level_counts[i] > self.n_levels[j]
            else:
                has_missing = j in self.gaps_ or j not in self.columns_
            return None if has_missing else "it missed no cell in fit"
        if self.n_levels[j]:
            return None
        if j not in self.columns_:
            return "all its cells were missing in fit"
        column = self.columns_[j]
        if column.can_hold(x):
            return None
        if len(column.values) <= MAX_VALUES_LISTED:
            return "allowed is " + " or ".join(map(decode_value, column.values))
        low, high = column.values[[0, -1]]
        if column.grid is not None and low <= x <= high:
            second = decode_value(low + column.grid.width)
            return (
                f"values go from {decode_value(low)} to {second} and so on to {decode_value(high)}"
            )
        return f"allowed is {decode_value(low)} to {decode_value(high)}"

    def inverse_transform(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """Numbers and codes from rows of scores and codes; NaN where a cell is missing."""
        drawn = drawn.astype(np.float64)
        X = np.full((len(drawn), len(self.n_levels)), np.nan)
        for i, (j, column) in enumerate(self.columns_.items()):
            X[:, j] = column.values_of(drawn[:, i])
        for i, (j, column) in enumerate(self.gaps_.items(), len(self.columns_)):
            X[column.values_of(drawn[:, i]) > 0.5, j] = np.nan
        codes = drawn[:, self.n_scores :]
        X[:, self.of_codes] = np.where(codes < self.n_levels[self.of_codes], codes, np.nan)
        return X


def is_atom(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the atoms: frequent values, or all values of a discrete column."""
    n_rows = counts.sum()
    atoms = counts >= max(ATOM_ROWS, ATOM_SHARE * n_rows)
    rest = counts[~atoms]
    is_short = len(rest) < ATOM_ROWS
    if is_short and not atoms.any() and len(counts) > 2:
        return atoms  # a few rows, all different
    # Values that mostly repeat, or too few for a curve.
    is_discrete = len(counts) <= 2 or is_short or rest[rest > 1].sum() > 0.5 * rest.sum()
    return np.ones_like(atoms) if is_discrete else atoms


def _normal_density(scores: NDArray[Any]) -> NDArray[Any]:
    return np.exp(-0.5 * np.square(scores)) / np.sqrt(2 * np.pi)
