"""Columns to intervals of normal scores and back.

A value that many rows share owns an interval of the standard normal distribution: from
the score of the share of rows below it to that of the share up to it. A value that no
other row has owns a point, its score, on a curve that is smooth enough to have a slope.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import issparse
from scipy.special import ndtr, ndtri

from skae._data._chunks import as_dense

# Scores beyond this are as good as infinite; float32 likelihoods stay finite.
FAR_OUT = 30.0
# Rows and cells that the distributions are learned from at most.
MAX_ROWS, MAX_CELLS = 100_000, 2**25
# A value with this share of the rows, and with so many of them, is one of its own.
ATOM_SHARE, ATOM_ROWS = 0.01, 5
# Values that are multiples of a power of ten down to this one keep to it.
MAX_DECIMALS = 6
# So many values are told one by one where another is asked for.
MAX_VALUES_TOLD = 3
# Values from knot to knot of a curve, at least.
LEAST_STRIDE = 3


@dataclass
class Grid:
    """What all values of a column are multiples of: ``(first + step * k) / 10**decimals``."""

    first: int
    step: int
    decimals: int

    @classmethod
    def of(cls, values):
        """The coarsest grid with at most six decimals, or None."""
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
    def width(self):
        """The distance of two points."""
        return self.step / 10.0**self.decimals

    def snap(self, values):
        """The nearest points of the grid."""
        k = np.rint((values * 10.0**self.decimals - self.first) / self.step)
        return (self.first + self.step * k) / 10.0**self.decimals


class RankedColumn:
    """The distribution of a column without missing cells, as scores of a normal one.

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
        Values that have a probability; between the others there is a density.
    """

    def __init__(self, x, weight):
        self.n_rows = len(x)
        self.values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        mass = np.bincount(inverse.ravel(), weight)
        # Next to nothing is nothing: its interval would have no width.
        kept = np.diff(np.cumsum(mass) / mass.sum(), prepend=0.0) > 0
        self.values, counts, mass = self.values[kept], counts[kept], mass[kept]
        self.shares = np.concatenate([[0.0], np.cumsum(mass) / mass.sum()])
        self.shares[-1] = 1.0
        self.is_atom = _atoms(counts)
        self.grid = Grid.of(self.values)
        edges = ndtri(self.shares)
        self.edges = np.clip(edges, -FAR_OUT, FAR_OUT)
        # Means of the normal distribution between the edges.
        self.scores = -np.diff(_normal_density(edges)) / np.diff(self.shares)

    @cached_property
    def quantiles(self):
        """Shares and values of the knots of the quantile function, which has steps at atoms."""
        low, high = self.shares[:-1], self.shares[1:]
        shares = np.where(self.is_atom, [low, high], 0.5 * (low + high))
        twice = np.repeat(self.values, 2)
        kept = np.ravel(np.stack([self.is_atom, np.ones_like(self.is_atom)], 1))
        return shares.T.ravel()[kept], twice[kept]

    @cached_property
    def curve(self):
        """Values, scores and logarithmic slopes of a smooth curve between the atoms.

        A slope leads from each knot to the next, and the first and the last lead beyond the
        curve; NaN where there is nothing between or beyond.
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
            slopes = np.log(np.r_[beyond[0], np.diff(scores) / np.diff(values), beyond[1]])
        slopes[~np.isfinite(slopes)] = np.nan
        return values, scores, slopes

    @property
    def _stride(self):
        """Values from knot to knot: enough for a slope that is no accident."""
        return max(20, round(1.5 * np.sqrt(self.n_rows)))

    def _knots(self, start, end):
        """Some of a run of values, denser where it ends; an atom beside it has edges itself."""
        knots, last = [start], end - 1
        while knots[-1] < last:
            from_end = min(knots[-1] - start, last - knots[-1])
            step = int(np.clip(from_end // 2, LEAST_STRIDE, self._stride))
            left = last - knots[-1] - step
            knots.append(last if left < LEAST_STRIDE else knots[-1] + step)
        return knots[0 if start == 0 else 1 : None if end == len(self.values) else -1]

    def _slope_beyond(self, values, scores, end):
        """Slope of the line on which the curve goes on beyond one of its ends."""
        if self.is_atom[end] or len(values) < 2:
            return np.nan
        n = min(self._stride, len(self.values) - 1)
        other = np.searchsorted(values, self.values[n if end == 0 else -1 - n])
        other = max(other, 1) if end == 0 else min(other, len(values) - 2)
        return (scores[other] - scores[end]) / (values[other] - values[end])

    def intervals(self, x):
        """Scores to read, lower and upper ends of intervals, and logarithmic slopes.

        Where there is a density, both ends are the score and the slope is that of scores
        in values; for an atom it is zero. A value that could not have been met counts as
        one that one row had.
        """
        at = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        known = (self.values[at] == x) & self.is_atom[at]
        values, scores, slopes = self.curve
        before = np.searchsorted(values, x, side="right") - 1
        slope = slopes[before + 1]
        anchor = np.clip(before, 0, None)
        score = scores[anchor] + np.exp(slope) * (x - values[anchor])
        score = np.clip(score, -FAR_OUT, FAR_OUT)
        low, high, slope = score.copy(), score.copy(), slope.copy()
        score[known] = self.scores[at[known]]
        low[known], high[known] = self.edges[at[known]], self.edges[at[known] + 1]
        slope[known] = 0.0
        unmet = np.isnan(slope)
        if unmet.any():
            share = self.shares[np.searchsorted(self.values, x[unmet])]
            half = 0.5 / self.n_rows
            centre = np.clip(share, half, 1 - half)
            low[unmet], high[unmet] = ndtri(centre - half), ndtri(centre + half)
            score[unmet] = ndtri(centre)
            slope[unmet] = 0.0
            np.clip(low, -FAR_OUT, FAR_OUT, out=low)
            np.clip(high, -FAR_OUT, FAR_OUT, out=high)
        return score, low, high, slope

    def values_of(self, scores):
        """Values that have these scores."""
        # Steps between huge values overflow in the interpolation.
        x = np.clip(np.interp(ndtr(scores), *self.quantiles), *self.values[[0, -1]])
        # A column of atoms is on its grid already.
        return x if self.grid is None or self.is_atom.all() else self.grid.snap(x)

    def can_hold(self, x):
        """Whether a number is one that `values_of` could say."""
        low, high = self.values[[0, -1]]
        return low <= x <= high and (self.grid is None or self.grid.snap(x) == x)


class Ranks:
    """Rows of numbers and codes to what a network reads and is measured by, and back.

    Parameters
    ----------
    n_levels : sequence of int
        Number of levels of each column that holds codes; 0 for columns of numbers.

    Attributes
    ----------
    columns_ : dict of int to RankedColumn
        By number of the column of X, but those that held no number at all.
    gaps_ : dict of int to RankedColumn
        Whether a cell is missing, for columns that miss cells.
    level_shares_ : list of ndarray
        Shares of the levels of each column of codes; missing ones are a level, too.
    """

    def __init__(self, n_levels):
        self.n_levels = np.asarray(n_levels)
        self.of_codes = np.flatnonzero(self.n_levels)

    def fit(self, X, sample_weight=None, seed=0):
        """Learn the distributions of the columns from all rows, or a sample of them."""
        rows, weight = self._sample(X, sample_weight, seed)
        self.columns_, self.gaps_ = {}, {}
        self.level_shares_ = []
        for j, n_levels in enumerate(self.n_levels):
            x = as_dense(rows[:, [j]])[:, 0].astype(np.float64, copy=False)
            gap = np.isnan(x)
            if n_levels:
                codes = np.where(gap, n_levels, x).astype(int)
                mass = np.bincount(codes, weight, minlength=n_levels + bool(gap.any()))
                self.level_shares_.append(mass / mass.sum())
                continue
            if not gap.all():
                self.columns_[j] = RankedColumn(x[~gap], weight[~gap])
            if 0 < gap.sum() < len(gap):
                self.gaps_[j] = RankedColumn(gap.astype(float), weight)
        # Those that only have a density come first.
        by_kind = sorted(self.columns_, key=lambda j: self.columns_[j].is_atom.any())
        self.columns_ = {j: self.columns_[j] for j in by_kind}
        return self

    @staticmethod
    def _sample(X, sample_weight, seed):
        n_rows, n_features = X.shape
        n_kept = min(MAX_ROWS, max(1000, MAX_CELLS // n_features))
        weight = np.ones(n_rows) if sample_weight is None else sample_weight
        if n_rows > n_kept:
            draws = np.random.RandomState(seed)
            kept = np.sort(draws.choice(n_rows, n_kept, replace=False))
            X, weight = X[kept], weight[kept]
        # Columns are read one by one: a sparse table is never dense as a whole.
        return X.tocsc() if issparse(X) else X, weight

    # Layout of a row: [scores | levels | lower ends | upper ends | codes | slope].

    @property
    def n_scores(self):
        """Columns of numbers, and whether their cells are missing."""
        return len(self.columns_) + len(self.gaps_)

    @property
    def level_counts(self):
        """Number of levels of each column of codes, a missing one included."""
        return [len(shares) for shares in self.level_shares_]

    @property
    def n_inputs(self):
        """Columns that an encoder reads: scores and levels."""
        return self.n_scores + sum(self.level_counts)

    @property
    def n_directions(self):
        """In how many directions the rows may vary."""
        return self.n_scores + sum(self.level_counts) - len(self.level_counts)

    @property
    def n_continuous(self):
        """How many of the scores, the first, never stand for intervals."""
        return sum(not column.is_atom.any() for column in self.columns_.values())

    @cached_property
    def level_scales(self):
        """What a level is multiplied with where it is read: rare ones count more."""
        scales = [
            np.full(len(p), 1 / np.sqrt(max(len(p) - 1, 1))) / np.sqrt(np.maximum(p, 0.01))
            for p in self.level_shares_
        ]
        return np.concatenate([*scales, []])

    def transform(self, X):
        """Rows as the network takes them, in float32."""
        n_rows, n_scores = len(X), self.n_scores
        read, low, high = (np.zeros((n_rows, n_scores)) for _ in range(3))
        slopes = np.zeros((n_rows, 1))
        missing = np.isnan(X)
        for i, (j, column) in enumerate(self.columns_.items()):
            seen = ~missing[:, j]
            score, bottom, top, slope = column.intervals(X[seen, j])
            read[seen, i], low[seen, i], high[seen, i] = score, bottom, top
            slopes[seen, 0] += slope
            low[~seen, i], high[~seen, i] = -FAR_OUT, FAR_OUT  # it could be anything
        for i, (j, column) in enumerate(self.gaps_.items(), len(self.columns_)):
            read[:, i], low[:, i], high[:, i], _ = column.intervals(missing[:, j].astype(float))
        levels, codes = self._levels(X, missing)
        return np.hstack([read, levels, low, high, codes, slopes]).astype(np.float32)

    def _levels(self, X, missing):
        """Centred and scaled indicators of the levels, and codes."""
        codes = X[:, self.of_codes]
        codes = np.where(missing[:, self.of_codes], self.n_levels[self.of_codes], codes)
        codes[codes >= self.level_counts] = -1  # a gap where there was none says nothing
        indicators = [
            (codes[:, [i]] == np.arange(len(shares))) - shares
            for i, shares in enumerate(self.level_shares_)
        ]
        return np.hstack([*indicators, np.empty((len(X), 0))]) * self.level_scales, codes

    def partial_row(self, cells):
        """A row of which only some cells are told, as the network takes it.

        Parameters
        ----------
        cells : dict of int to float
            Numbers and codes by column; NaN tells that a cell is missing.
        """
        X = np.full((1, len(self.n_levels)), np.nan)
        X[0, list(cells)] = list(cells.values())
        row = self.transform(X)[0]
        low, high = row[self.n_inputs :][: 2 * self.n_scores].reshape(2, -1)
        gaps = np.arange(len(self.columns_), self.n_scores)
        untold = gaps[[j not in cells for j in self.gaps_]]
        low[untold], high[untold] = -FAR_OUT, FAR_OUT
        codes = row[self.n_inputs + 2 * self.n_scores : -1]
        codes[[j not in cells for j in self.of_codes]] = -1
        return row

    def reason_invalid(self, j, x, tell):
        """What column `j` can hold instead of `x`, in words; None if it can hold that.

        `tell` puts numbers of the column into words.
        """
        if np.isnan(x):
            if self.n_levels[j]:
                place = self.of_codes.tolist().index(j)
                met = self.level_counts[place] > self.n_levels[j]
            else:
                met = j in self.gaps_ or j not in self.columns_
            return None if met else "it missed no cell in fit"
        if self.n_levels[j]:
            return None
        if j not in self.columns_:
            return "all its cells were missing in fit"
        column = self.columns_[j]
        if column.can_hold(x):
            return None
        if len(column.values) <= MAX_VALUES_TOLD:
            return "allowed is " + " or ".join(map(tell, column.values))
        low, high = column.values[[0, -1]]
        if low <= x <= high:
            return f"values go from {tell(low)} to {tell(low + column.grid.width)} and so on"
        return f"allowed is {tell(low)} to {tell(high)}"

    def inverse_transform(self, drawn):
        """Numbers and codes of scores and codes, side by side; what is missing is NaN."""
        drawn = drawn.astype(np.float64)
        X = np.full((len(drawn), len(self.n_levels)), np.nan)
        for i, (j, column) in enumerate(self.columns_.items()):
            X[:, j] = column.values_of(drawn[:, i])
        for i, (j, column) in enumerate(self.gaps_.items(), len(self.columns_)):
            X[column.values_of(drawn[:, i]) > 0.5, j] = np.nan
        codes = drawn[:, self.n_scores :]
        X[:, self.of_codes] = np.where(codes < self.n_levels[self.of_codes], codes, np.nan)
        return X


def _atoms(counts):
    """Which values are so frequent, or the column so discrete, that they stand alone."""
    n_rows = counts.sum()
    atoms = counts >= max(ATOM_ROWS, ATOM_SHARE * n_rows)
    rest = counts[~atoms]
    is_short = len(rest) < ATOM_ROWS
    if is_short and not atoms.any() and len(counts) > 2:
        return atoms  # a handful of rows, all different
    # Mostly repeated, or too few to draw a curve through.
    is_discrete = len(counts) <= 2 or is_short or rest[rest > 1].sum() > 0.5 * rest.sum()
    return np.ones_like(atoms) if is_discrete else atoms


def _normal_density(scores):
    return np.exp(-0.5 * np.square(scores)) / np.sqrt(2 * np.pi)
