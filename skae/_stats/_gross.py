"""Find gross outliers: rows that a gap in the distances separates from most rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._scaling import median_and_spread
from skae._stats._surprise import weighted_ranks
from skae._stats._trimming import trimmed_subset

# Half the width of the windows that rows are counted in, in logarithms of distances.
HALF_WINDOW = 0.1
# A gap holds at most this share of the rows of the densest window beyond it, and fewer by this
# many standard deviations of the counts' square roots (1/2 each).
SHARE_IN_GAP, SIGNIFICANCE = 0.25, 3.0
# Distances that double from one row to the next are a gap too, below this many rows.
WIDE_GAP, ROWS_BEYOND = np.log(2.0), 10
# Gross outliers are beyond this many deviations, and have these shares of the weight: fewer need
# no attention, and more are no outliers.
LEAST_DISTANCE = 2.0
LEAST_SHARE, LARGEST_SHARE = 0.03, 0.35


@dataclass
class GrossRule:
    """A row is a gross outlier if most of its cells are far from the medians of their columns.

    Attributes
    ----------
    center, spread : ndarray of shape (n_features,)
        Median, and the median absolute deviation from it in units of a normal distribution's
        standard deviation; a higher quantile where that is zero. Infinite in constant columns.
    limit : float
        Distance in these units beyond which rows are gross outliers; infinite if none are.
    """

    center: NDArray[Any]
    spread: NDArray[Any]
    limit: float

    @classmethod
    def fit(cls, X: NDArray[Any], weight: NDArray[Any], rng: np.random.RandomState) -> GrossRule:
        """Learn from dense rows; missing cells do not count."""
        rule = cls(*median_and_spread(X, weight), np.inf)
        # Once more without the rows that are furthest: they may have moved the medians.
        inner = trimmed_subset(rule.distances(X), weight, 1 - LARGEST_SHARE)
        rule = cls(*median_and_spread(X[inner], weight[inner]), np.inf)
        rule.limit = limit_in_gap(rule.distances(spread_ties(X, rng)), weight)
        return rule

    def distances(self, X: NDArray[Any]) -> NDArray[Any]:
        """Median distance of the observed cells, in deviations of their columns; 0 without any.

        The lower one of two: a rare value of a single column, a flag or a code, is no outlier.
        In constant columns all cells are at distance zero.
        """
        with np.errstate(over="ignore"):
            cells = np.abs(X - self.center) / self.spread
        ordered = np.sort(cells, axis=1)  # missing cells come last
        middle = np.maximum(np.isfinite(X).sum(axis=1) - 1, 0) // 2
        return np.nan_to_num(ordered[np.arange(len(X)), middle], nan=0.0)

    def __call__(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Mask of the gross outliers among dense rows."""
        return self.distances(X) > self.limit


def spread_ties(X: NDArray[Any], rng: np.random.RandomState) -> NDArray[Any]:
    """Values of a lattice, such as counts, spread evenly up to the next value.

    Otherwise the gaps between them would look like gaps between rows. A value is spread by no
    more than twice the median step, so that a far one stays far.
    """
    X = X.copy()
    for column in X.T:
        values, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        steps = np.diff(values[~np.isnan(values)])
        if len(steps) < 2 or (counts == 1).mean() > 0.5:
            continue
        reach = np.minimum(np.r_[steps, steps[-1]], 2 * np.median(steps))
        reach = np.pad(reach, (0, len(values) - len(reach))) * (counts > 1)
        column += reach[inverse] * rng.uniform(size=len(column))
    return X


def limit_in_gap(distances: NDArray[Any], weight: NDArray[Any]) -> float:
    """A distance in the widest significant gap, or infinity if there is none.

    Distances are counted in windows of their logarithms; a gap is a window with few rows below a
    window with many. Heavy tails thin out without a gap: their logarithms have ever fewer rows.
    """
    if len(distances) < 20:
        return np.inf
    logs = np.log(np.maximum(distances, 1e-12))
    order = logs.argsort(kind="stable")
    logs, above = logs[order], 1.0 - weighted_ranks(logs[order], weight[order])
    candidates = (logs[1:] + logs[:-1]) / 2
    shares = above[:-1]
    eligible = (shares <= LARGEST_SHARE) & (shares >= LEAST_SHARE)
    eligible &= candidates - HALF_WINDOW > np.log(LEAST_DISTANCE)
    candidates = candidates[eligible]
    if not len(candidates):
        return np.inf
    in_gap = counts_near(logs, candidates)
    peaks = counts_near(logs, logs)
    densest_beyond = np.maximum.accumulate(peaks[::-1])[::-1]
    first_beyond = np.searchsorted(logs, candidates + HALF_WINDOW).clip(0, len(logs) - 1)
    peak = densest_beyond[first_beyond]
    is_gap = (in_gap <= SHARE_IN_GAP * peak) & (np.sqrt(peak) - np.sqrt(in_gap) >= SIGNIFICANCE)
    widths, n_beyond = np.diff(logs)[eligible], len(logs) - 1 - np.flatnonzero(eligible)
    is_gap |= (widths >= WIDE_GAP) & (n_beyond >= ROWS_BEYOND)
    if not is_gap.any():
        return np.inf
    # The emptiest window, and the widest step in it.
    emptiest = in_gap == in_gap[is_gap].min()
    best = np.flatnonzero(is_gap & emptiest)[widths[is_gap & emptiest].argmax()]
    return float(np.exp(candidates[best]))


def counts_near(logs: NDArray[Any], places: NDArray[Any]) -> NDArray[np.intp]:
    """Number of sorted values within half a window of each place."""
    return np.searchsorted(logs, places + HALF_WINDOW, side="right") - np.searchsorted(
        logs, places - HALF_WINDOW
    )
