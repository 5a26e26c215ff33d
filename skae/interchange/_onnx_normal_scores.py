"""Write the transformation to normal scores, and back, into a graph.

The formulas are those of _data/_normal_scores.py. Arrays of all columns are joined to one, so
that a search in the sorted values of all columns is a few nodes.
"""

import math

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfcx

from skae._data._normal_scores import MAX_SCORE
from skae.interchange._graph import concat, where


def log_ndtr(x):
    """Logarithm of the normal distribution function of a float64 value; relative error 1e-9.

    In the lower tail, with u = -x / sqrt(2) and t = 2 / (2 + u), ::

        log ndtr(x) = log erfc(u) - log 2 = log t - u^2 + P(t) - log 2

    where P is a polynomial fitted at Chebyshev points (as in Press et al., "Numerical Recipes",
    3rd edition, section 6.2.2, with other coefficients).
    """
    u = x.op("Abs") * math.sqrt(0.5)
    t = 2.0 / (u + 2.0)
    polynomial, s = 0.0, 2.0 * t - 1.0
    for coefficient in _tail_polynomial()[::-1]:
        polynomial = polynomial * s + coefficient
    tail = t.log() - u.square() + polynomial - math.log(2.0)
    p = tail.exp()
    # The first terms of the series of log(1 - p), where 1 - p would lose digits of p.
    small = -p * (1.0 + p * (0.5 + p / 3.0))
    return where(x > 0.0, where(p < 1e-3, small, (1.0 - p).log()), tail)


def _tail_polynomial():
    """Coefficients of a polynomial of s = 2 t - 1 in [-1, 1] for log(erfcx(u) / t).

    This function is smooth up to s = -1, where u is infinite.
    """

    def log_ratio(s):
        t = (s + 1.0) / 2.0
        return np.log(erfcx(2.0 / t - 2.0) / t)

    return chebyshev.cheb2poly(chebyshev.chebinterpolate(log_ratio, 14)).tolist()


class Tables:
    """An array for each column, of different lengths, joined to one.

    Parameters
    ----------
    arrays : list of ndarray
    """

    def __init__(self, arrays):
        self.flat = np.concatenate(arrays)
        self.counts = np.array([len(array) for array in arrays])
        self.starts = np.r_[0, np.cumsum(self.counts)[:-1]]

    def at(self, indices):
        """Entries of each column's array at indices of shape (n, n_columns)."""
        index = indices + self.starts
        return index.graph.op(
            "Gather", index.graph.constant(self.flat, None), index, dtype=self.flat.dtype
        )

    def search(self, x, right=False):
        """``np.searchsorted`` in the sorted array of each column, by bisection."""
        found = x.whole(np.zeros(len(self.counts)))
        for power in range(int(self.counts.max()).bit_length() - 1, -1, -1):
            ahead = found + 2**power
            entries = self.at(ahead.between(1, self.counts) - 1)
            is_beyond = (x >= entries if right else x > entries) & (ahead <= self.counts)
            found = where(is_beyond, ahead, found)
        return found


def tables_of(columns):
    """Tables of the arrays of columns; `columns` are tuples of the arrays of each column."""
    return [Tables(list(arrays)) for arrays in zip(*columns, strict=True)]


class NormalScoresWriter:
    """Writes ``Ranks.transform`` and its inverse for rows of numbers.

    Parameters
    ----------
    ranks : Ranks
        Without columns of codes.
    """

    def __init__(self, ranks):
        self.ranks = ranks
        self.places = np.array(list(ranks.columns_), dtype=int)
        self.columns = list(ranks.columns_.values())
        self.gap_places = np.array(list(ranks.gaps_), dtype=int)
        self.gaps = list(ranks.gaps_.values())

    def transform(self, X):
        """Scores, lower ends, upper ends and the sum of log-slopes, side by side in float32."""
        missing = X.is_nan()
        score, low, high, slope = self._intervals(where(missing, 0.0, X).cast(np.float64))
        unknown = missing.take(self.places, axis=1)
        read, slope = where(unknown, 0.0, score), where(unknown, 0.0, slope)
        reads, lows = [read], [where(unknown, -MAX_SCORE, low)]
        highs = [where(unknown, MAX_SCORE, high)]
        if self.gaps:
            intervals = np.stack([gap.intervals(np.array([0.0, 1.0])) for gap in self.gaps])
            is_gap = missing.take(self.gap_places, axis=1)
            for parts, (of_observed, of_missing) in zip(
                (reads, lows, highs), intervals[:, :3].transpose(1, 2, 0), strict=True
            ):
                parts.append(where(is_gap, read.like(of_missing), read.like(of_observed)))
        total = slope.sum(axis=1, keepdims=True)
        return concat([*reads, *lows, *highs, total]).cast(np.float32)

    def _intervals(self, X):
        """``RankedColumn.intervals`` of all columns."""
        x = X.take(self.places, axis=1)
        knots, scores, slopes = tables_of(column.curve for column in self.columns)
        before = knots.search(x, right=True)
        slope, anchor = slopes.at(before), (before - 1).op("Max", 0)
        score = scores.at(anchor) + slope.exp() * (x - knots.at(anchor))
        score = score.between(-MAX_SCORE, MAX_SCORE)
        values, are_atoms, *others = tables_of(map(_atoms_and_unseen, self.columns))
        of_atoms, of_unseen = others[:3], others[3:]
        below = values.search(x)
        at = below.op("Min", values.counts - 1)
        at_atom = values.at(at).equals(x) & are_atoms.at(at)
        unseen = slope.is_nan() & ~at_atom
        results = []
        for of_atom, of_other in zip(of_atoms, of_unseen, strict=True):
            results.append(where(at_atom, of_atom.at(at), where(unseen, of_other.at(below), score)))
        return *results, where(at_atom | unseen, 0.0, slope)

    def inverse_transform(self, scores):
        """Numbers from scores; NaN for missing cells, and in columns without any number."""
        n_columns = len(self.columns)
        scores = scores.cast(np.float64)
        shares = log_ndtr(scores.slice(0, n_columns)).exp()
        knots, values = tables_of(column.quantiles for column in self.columns)
        last = knots.counts - 1
        left = (knots.search(shares, right=True) - 1).between(0, np.maximum(last - 1, 0))
        right = (left + 1).op("Min", last)
        low, bottom = knots.at(left), values.at(left)
        width = (knots.at(right) - low).op("Max", np.finfo(np.float64).tiny)
        share = ((shares - low) / width).between(0.0, 1.0)
        x = self._snapped(bottom + share * (values.at(right) - bottom))
        if self.gaps:
            # Columns without missing cells compare any score with infinity.
            places, edges = np.zeros(n_columns, dtype=int), np.full(n_columns, np.inf)
            for i, (j, gap) in enumerate(self.ranks.gaps_.items()):
                is_column = self.places == j
                places[is_column], edges[is_column] = n_columns + i, _edge(gap)
            x = where(scores.take(places, axis=1) >= edges, np.nan, x)
        # One more column, of NaN, stands for all columns without any number.
        empty = where(x.slice(0, 1).is_nan(), x.like(np.nan), np.nan)
        order = np.full(len(self.ranks.n_levels), n_columns)
        order[self.places] = np.arange(n_columns)
        return concat([x, empty]).take(order, axis=1)

    def _snapped(self, x):
        """Values on the grid of their column, if it has one."""
        grids = [None if c.is_atom.all() else c.grid for c in self.columns]
        if not any(grids):
            return x
        power = np.array([10.0**grid.decimals if grid else 1.0 for grid in grids])
        first = np.array([float(grid.first) if grid else 0.0 for grid in grids])
        step = np.array([float(grid.step) if grid else 1.0 for grid in grids])
        snapped = (first + step * ((x * power - first) / step).op("Round")) / power
        return where(np.array([grid is not None for grid in grids]), snapped, x)


def _atoms_and_unseen(column):
    """Values, mask of atoms, and scores and ends of intervals of atoms and of unseen values."""
    # Columns without atoms have no unseen values, and need no tables.
    if not column.is_atom.any() and np.isfinite(column.curve[2]).all():
        zero = np.zeros(1)
        return zero, zero > 0, zero, zero, zero, *np.zeros((3, 2))
    low, high = column.edges[:-1], column.edges[1:]
    unseen = column.unseen_intervals(column.shares)
    return column.values, column.is_atom, column.scores, low, high, *unseen


def _edge(gap):
    """The least score of a missing cell."""
    if len(gap.values) == 2:
        return gap.edges[1]
    return -np.inf if gap.values[0] == 1 else np.inf
