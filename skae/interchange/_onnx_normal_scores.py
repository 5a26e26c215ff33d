"""Columns to intervals of normal scores and back, written into a graph.

Tables of all columns stand one after the other, so that a search among the values of each column
is a few nodes for all of them.
"""

import math

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfcx

from skae._data._normal_scores import MAX_SCORE
from skae.interchange._graph import concat, where


def log_ndtr(x):
    """Logarithm of the normal distribution function, of a float64 value; within 1e-9 of it."""
    u = x.op("Abs") * math.sqrt(0.5)
    t = 2.0 / (u + 2.0)
    told, s = 0.0, 2.0 * t - 1.0
    for coefficient in _tail_polynomial()[::-1]:
        told = told * s + coefficient
    tail = t.log() - u.square() + told - math.log(2.0)
    p = tail.exp()
    # The first terms of log(1 - p), where that would round p away.
    small = -p * (1.0 + p * (0.5 + p / 3.0))
    return where(x > 0.0, where(p < 1e-3, small, (1.0 - p).log()), tail)


def _tail_polynomial():
    """Of s in [-1, 1] for log(erfcx(u) / t), where t = (s + 1) / 2 and u = 2 / t - 2.

    This is smooth up to infinite u at s = -1, where an asymptotic series begins.
    """

    def wanted(s):
        t = (s + 1.0) / 2.0
        return np.log(erfcx(2.0 / t - 2.0) / t)

    return chebyshev.cheb2poly(chebyshev.chebinterpolate(wanted, 14)).tolist()


class Tables:
    """Arrays of each column, of whatever length, one after the other.

    Parameters
    ----------
    arrays : list of ndarray
    """

    def __init__(self, arrays):
        self.flat = np.concatenate(arrays)
        self.counts = np.array([len(array) for array in arrays])
        self.starts = np.r_[0, np.cumsum(self.counts)[:-1]]

    def at(self, places):
        """Entries of each column's array at places of shape (n, n_columns)."""
        index = places + self.starts
        return index.graph.op(
            "Gather", index.graph.constant(self.flat, None), index, dtype=self.flat.dtype
        )

    def search(self, x, right=False):
        """Number of entries below `x` (with `right`, up to it) in each column's sorted array."""
        places = x.whole(np.zeros(len(self.counts)))
        for power in range(int(self.counts.max()).bit_length() - 1, -1, -1):
            ahead = places + 2**power
            entries = self.at(ahead.between(1, self.counts) - 1)
            goes_on = (x >= entries if right else x > entries) & (ahead <= self.counts)
            places = where(goes_on, ahead, places)
        return places


def tables_of(columns):
    """A table of each of the arrays that columns have; `columns` holds them column by column."""
    return [Tables(list(arrays)) for arrays in zip(*columns, strict=True)]


class NormalScoresWriter:
    """Rows of numbers to scores, ends of intervals and slopes, and back.

    Parameters
    ----------
    ranks : Ranks
        Without columns of levels.
    """

    def __init__(self, ranks):
        self.ranks = ranks
        self.places = np.array(list(ranks.columns_), dtype=int)
        self.columns = list(ranks.columns_.values())
        self.gap_places = np.array(list(ranks.gaps_), dtype=int)
        self.gaps = list(ranks.gaps_.values())

    def transform(self, X):
        """Scores, lower ends, upper ends and slopes, side by side in float32."""
        missing = X.is_nan()
        score, low, high, slope = self._intervals(where(missing, 0.0, X).cast(np.float64))
        unknown = missing.take(self.places, axis=1)
        read, slope = where(unknown, 0.0, score), where(unknown, 0.0, slope)
        reads, lows = [read], [where(unknown, -MAX_SCORE, low)]
        highs = [where(unknown, MAX_SCORE, high)]
        if self.gaps:
            told = np.stack([gap.intervals(np.array([0.0, 1.0])) for gap in self.gaps])
            here = missing.take(self.gap_places, axis=1)
            for parts, (absent, present) in zip(
                (reads, lows, highs), told[:, :3].transpose(1, 2, 0), strict=True
            ):
                parts.append(where(here, read.like(present), read.like(absent)))
        total = slope.sum(axis=1, keepdims=True)
        return concat([*reads, *lows, *highs, total]).cast(np.float32)

    def _intervals(self, X):
        """What ``RankedColumn.intervals`` says, of all columns."""
        x = X.take(self.places, axis=1)
        knots, scores, slopes = tables_of(column.curve for column in self.columns)
        before = knots.search(x, right=True)
        slope, anchor = slopes.at(before), (before - 1).op("Max", 0)
        score = scores.at(anchor) + slope.exp() * (x - knots.at(anchor))
        score = score.between(-MAX_SCORE, MAX_SCORE)
        # Columns that only have a density need no tables of their values.
        values, are_atoms, *others = tables_of(map(_met_values, self.columns))
        of_atoms, of_unmet = others[:3], others[3:]
        below = values.search(x)
        at = below.op("Min", values.counts - 1)
        known = values.at(at).equals(x) & are_atoms.at(at)
        unmet = slope.is_nan() & ~known
        told = []
        for of_atom, of_other in zip(of_atoms, of_unmet, strict=True):
            told.append(where(known, of_atom.at(at), where(unmet, of_other.at(below), score)))
        return *told, where(known | unmet, 0.0, slope)

    def inverse_transform(self, scores):
        """Numbers of scores; what is missing, or was never met, is NaN."""
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
            # Columns without gaps look at any score, and up to infinity.
            places, edges = np.zeros(n_columns, dtype=int), np.full(n_columns, np.inf)
            for i, (j, gap) in enumerate(self.ranks.gaps_.items()):
                here = self.places == j
                places[here], edges[here] = n_columns + i, _edge(gap)
            x = where(scores.take(places, axis=1) >= edges, np.nan, x)
        # Columns without any number come last, as one.
        nothing = where(x.slice(0, 1).is_nan(), x.like(np.nan), np.nan)
        order = np.full(len(self.ranks.n_levels), n_columns)
        order[self.places] = np.arange(n_columns)
        return concat([x, nothing]).take(order, axis=1)

    def _snapped(self, x):
        """On the grid of their column, where it has one."""
        grids = [None if c.is_atom.all() else c.grid for c in self.columns]
        if not any(grids):
            return x
        power = np.array([10.0**grid.decimals if grid else 1.0 for grid in grids])
        first = np.array([float(grid.first) if grid else 0.0 for grid in grids])
        step = np.array([float(grid.step) if grid else 1.0 for grid in grids])
        snapped = (first + step * ((x * power - first) / step).op("Round")) / power
        return where(np.array([grid is not None for grid in grids]), snapped, x)


def _met_values(column):
    """Values, which are atoms, what is told of those, and of values between them never met."""
    if not column.is_atom.any() and np.isfinite(column.curve[2]).all():
        zero = np.zeros(1)
        return zero, zero > 0, zero, zero, zero, *np.zeros((3, 2))
    low, high = column.edges[:-1], column.edges[1:]
    unseen = column.unseen_intervals(column.shares)
    return column.values, column.is_atom, column.scores, low, high, *unseen


def _edge(gap):
    """The score from which on a flag is one."""
    if len(gap.values) == 2:
        return gap.edges[1]
    return -np.inf if gap.values[0] == 1 else np.inf
