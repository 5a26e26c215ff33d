"""Learn the views of rows beside the autoencoders', from rows that may hold outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from skae._engine._views import ROWS_AT_ONCE, Conditional, Ranks, Views
from skae._sklearn import weighted_percentile
from skae._stats._gaussian import fit_gaussian
from skae._stats._surprise import log_ranks, weighted_ranks
from skae._stats._trimming import trimmed_subset

# Reference rows at most: the cost of scoring a row is linear in them.
N_REFERENCES = 2048
# Knots of each column's normal scores, evenly spaced between these.
N_KNOTS, LAST_KNOT = 65, 4.0
# Shares of ranks are no closer to zero and one, whatever the weights.
LEAST_SHARE = 1e-9
# Scores rise by no less than this with the scaled values.
LEAST_SLOPE = 0.25
# Rows are first judged by their distance to the nearest of a few sampled rows, over many samples:
# a rare row is seldom among so few.
N_CODES, N_DRAWS = 8, 48
# Share of the rows that the first conditional distribution leaves out, and the last.
FIRST_TRIMMED, TRIMMED = 0.1, 0.2
N_TRIMMED_ROUNDS = 2
# The penalty of a reference row, in distances of as suspicious a row to its nearest others.
PENALTY, N_NEAREST = 2.0, 5
# So many more are looked at, as products of matrices round the distances that choose.
N_SPARE = 3
# Each fold is predicted by the distribution of the others.
N_FOLDS = 5
# A row that is nearer to a reference row than this share of the distance to its nearest other
# one is that row itself, rounded differently.
SAME_ROW = 0.01
# Correlations are shrunk by no less than this.
LEAST_SHRINKAGE = 0.05
# Each row with missing cells costs the cube of their number in each round of a fit: so many
# operations at most, but never fewer rows than these.
MAX_SYSTEMS, LEAST_SYSTEMS = 2**28, 500
# Residuals beyond this quantile count as those at it when their deviation is computed.
LARGEST_RESIDUAL = 0.99


class PlainTable:
    """How views learn from scaled rows of numbers."""

    def n_columns(self, x: NDArray[Any]) -> int:
        """Number of columns of the table."""
        return x.shape[1]

    def ranks(self, x: NDArray[Any], weight: NDArray[Any]) -> Any:
        """What leads from points to those of ranks."""
        return Ranks(*rank_knots(x, weight))

    def points(self, complete: Tensor) -> Tensor:
        """Points whose squared distances are those of complete rows."""
        return complete

    def learn(self, x: NDArray[Any], weight: NDArray[Any]) -> Any:
        """The conditional view, learned from the rows of positive weight."""
        return learn_conditional(x, weight)

    def views(self, conditional: Any, ranks: Any, *references: NDArray[Any]) -> Views:
        """The views, of what was learned and of reference rows."""
        deviations = conditional.deviations.numpy()
        knots = ranks.knots.numpy(), ranks.scores.numpy()
        return Views(conditional.gaussian, deviations, *knots, *references)


PLAIN = PlainTable()


def learn_views(
    x: NDArray[np.float32],
    weight: NDArray[Any],
    rng: np.random.RandomState,
    table: PlainTable = PLAIN,
) -> tuple[Views, NDArray[Any]]:
    """Learn from scaled rows, and judge them by the conditional view as if they were new.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_features)
        NaN where a cell is missing.
    weight : ndarray of shape (n_rows,)
        Positive.

    Returns
    -------
    views : Views
    conditional : ndarray of shape (n_rows,)
        Losses of rows by a conditional view that was learned from other rows.
    """
    ranks, n_columns = table.ranks(x, weight), table.n_columns(x)
    suspicion = suspicion_of(x, weight, ranks, rng, table)
    core = weight * trimmed_subset(suspicion, weight, 1 - TRIMMED)
    conditional = table.learn(x, core)
    points = table.points(conditional.filled(torch.from_numpy(x)))
    chosen = choose_rows(weight, N_REFERENCES, rng)
    rows = points[chosen]
    nearest = distances_to_others(rows)
    views = table.views(
        conditional,
        ranks,
        rows.numpy(),
        SAME_ROW * nearest[:, 0].numpy(),
        penalties_of(nearest, suspicion[chosen], n_columns),
        penalties_of(distances_to_others(ranks(rows)), suspicion[chosen], n_columns),
    )
    return views, losses_out_of_fold(x, core, rng, table)


def rank_knots(x: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of each column and their normal scores, from the lowest value to the highest.

    The score of a value is that of the middle of its ranks; a column of few values has all of
    them as knots.
    """
    shares = ndtr(np.linspace(-LAST_KNOT, LAST_KNOT, N_KNOTS))
    knots, scores = np.zeros((2, x.shape[1], N_KNOTS))
    for j, column in enumerate(x.T):
        seen = ~np.isnan(column)
        values, inverse = np.unique(column[seen], return_inverse=True)
        if not len(values):
            continue
        counts = np.bincount(inverse, weight[seen])
        middles = (np.cumsum(counts) - counts / 2) / counts.sum()
        middles = middles.clip(LEAST_SHARE, 1 - LEAST_SHARE)
        picked = np.arange(len(values))
        if len(values) > N_KNOTS:
            picked = np.searchsorted(middles, shares).clip(0, len(values) - 1)
            picked[0] = 0
        picked = np.pad(picked, (0, N_KNOTS - len(picked)), mode="edge")
        knots[j] = values[picked]
        # Gaps stay gaps: in ranks alone, what lies between two clusters would be among them.
        steps = np.maximum(np.diff(ndtri(middles[picked])), LEAST_SLOPE * np.diff(knots[j]))
        scores[j] = np.r_[0.0, np.cumsum(steps)]
    return knots, scores


def suspicion_of(
    x: NDArray[Any],
    weight: NDArray[Any],
    ranks: Any,
    rng: np.random.RandomState,
    table: PlainTable = PLAIN,
) -> NDArray[Any]:
    """Ranks of rows in (0, 1], the least ordinary last, by views that outliers hardly sway.

    A row is as suspicious as it is to the view that it surprises most: the distance to the nearest
    of a few sampled rows, in both scalings, or a trimmed conditional distribution.
    """
    conditional = table.learn(x, weight)
    for _ in range(N_TRIMMED_ROUNDS):
        inner = trimmed_subset(losses_of(conditional, x), weight, 1 - FIRST_TRIMMED)
        conditional = table.learn(x, weight * inner)
    points = table.points(conditional.filled(torch.from_numpy(x)))
    losses = [losses_of(conditional, x)]
    losses += [distances_to_codes(rows, weight, rng) for rows in (points, ranks(points))]
    return weighted_ranks(np.max([log_ranks(loss, weight) for loss in losses], axis=0), weight)


def learn_conditional(x: NDArray[Any], weight: NDArray[Any]) -> Conditional:
    """Learn from the rows of positive weight; the fewer there are, the more they are shrunk."""
    kept = weight > 0
    x, weight = x[kept], weight[kept]
    n_rows, n_features = x.shape
    shrinkage = max(LEAST_SHRINKAGE, 0.5 * n_features / (n_features + n_rows))
    step = -(-len(x) // rows_of_systems(x))
    gaussian = fit_gaussian(x[::step].astype(np.float64), weight[::step], shrinkage)
    residuals = Conditional(gaussian, np.ones(n_features))
    squares = residuals.residuals(residuals.filled(torch.from_numpy(x))).square().double().numpy()
    observed = ~np.isnan(x)
    largest = weighted_percentile(
        np.where(observed, squares, np.nan), weight, 100 * LARGEST_RESIDUAL
    )
    squares = np.minimum(squares, np.nan_to_num(largest))
    share = np.maximum(weight @ observed, np.finfo(float).tiny)
    return Conditional(gaussian, np.sqrt(weight @ (squares * observed) / share + 1e-6))


def rows_of_systems(x: NDArray[Any]) -> int:
    """Number of rows that a distribution is fitted to; fewer if they miss many cells."""
    n_missing = np.isnan(x).sum() / len(x)
    return max(LEAST_SYSTEMS, int(MAX_SYSTEMS / max(n_missing, 1.0) ** 3))


def losses_of(conditional: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Root mean squares of the conditional view's losses of cells."""
    rows = torch.from_numpy(x)
    missing = conditional.missing(rows)
    cells = conditional.cells(conditional.filled(rows)).masked_fill(missing, 0.0)
    n_observed = (~missing).sum(dim=1).clamp(min=1)
    return (cells.sum(dim=1) / n_observed).sqrt().double().numpy()


def losses_out_of_fold(
    x: NDArray[Any],
    core: NDArray[Any],
    rng: np.random.RandomState,
    table: PlainTable = PLAIN,
) -> NDArray[Any]:
    """Losses of rows by a view that was learned from the core of the other folds."""
    n_folds = min(N_FOLDS, int(np.count_nonzero(core)))
    fold = rng.permutation(len(x)) % n_folds
    losses = np.empty(len(x))
    for i in range(n_folds):
        others = core * (fold != i)
        if np.count_nonzero(others) < 2:
            others = core
        losses[fold == i] = losses_of(table.learn(x, others), x[fold == i])
    return losses


def distances_to_codes(
    rows: Tensor, weight: NDArray[Any], rng: np.random.RandomState
) -> NDArray[Any]:
    """Mean over samples of the distance to the nearest sampled row that is not the row itself.

    The distances of each sample are divided by their mean.
    """
    n_rows = len(rows)
    n_codes = min(N_CODES, max(2, n_rows // 2))
    draws = np.stack([choose_rows(weight, n_codes, rng) for _ in range(N_DRAWS)])
    distances = distances_to_samples(rows, draws)
    others = np.ones((N_DRAWS, n_rows))
    np.put_along_axis(others, draws, 0.0, axis=1)
    distances *= others
    means = distances.sum(axis=1, keepdims=True) / others.sum(axis=1, keepdims=True).clip(1)
    distances /= np.maximum(means, 1e-12)
    return distances.sum(axis=0) / others.sum(axis=0).clip(1)


def distances_to_samples(rows: Tensor, samples: NDArray[np.intp]) -> NDArray[np.float64]:
    """Distances of all rows to the nearest row of each sample, of shape (n_samples, n_rows)."""
    rows = rows - rows.mean(dim=0)  # far from zero, differences of squares round
    squares = rows.square().sum(dim=1)
    codes = torch.from_numpy(samples).flatten()
    nearest = torch.empty(len(samples), len(rows))
    # |x - c|^2 = |x|^2 + (|c|^2 - 2 c x), whose first term does not choose.
    for piece in torch.arange(len(rows)).split(ROWS_AT_ONCE):
        span = slice(int(piece[0]), int(piece[-1]) + 1)
        products = torch.addmm(squares[codes, None], rows[codes], rows[span].T, alpha=-2.0)
        torch.amin(products.view(*samples.shape, -1), dim=1, out=nearest[:, span])
    return nearest.add_(squares).clamp_(min=0.0).sqrt_().double().numpy()


def penalties_of(nearest: Tensor, suspicion: NDArray[Any], n_features: int) -> NDArray[Any]:
    """Penalties of reference rows, in mean squared differences.

    A row as suspicious as the share q of the rows has the distance that is the q-quantile of the
    mean distances to the nearest others, times `PENALTY`.
    """
    distances = nearest.mean(dim=1).double().numpy()
    return (PENALTY * np.quantile(distances, suspicion)) ** 2 / n_features


def distances_to_others(rows: Tensor) -> Tensor:
    """Distances of each row to the `N_NEAREST` nearest others; zero if there are none."""
    if len(rows) < 2:
        return torch.zeros(len(rows), 1)
    n_others = len(rows) - 1
    found = rows[nearest_others(rows, min(N_NEAREST + N_SPARE, n_others))]
    exact = (rows[:, None] - found).square().sum(dim=2).sqrt()
    return exact.sort(dim=1).values[:, : min(N_NEAREST, n_others)]


def nearest_others(rows: Tensor, n_wanted: int) -> Tensor:
    """Numbers of the nearest others of each row, but for rounding of the squared distances."""
    centred = rows - rows.mean(dim=0)
    # As in ``References``; the smallest are found one by one, faster than by sorting.
    squares = centred.square().sum(dim=1)
    found = np.empty((len(rows), n_wanted), dtype=np.intp)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        piece = centred[start : start + ROWS_AT_ONCE]
        distances = torch.addmm(squares, piece, centred.T, alpha=-2.0).numpy()
        numbers = np.arange(len(piece))
        distances[numbers, start + numbers] = np.inf
        for i in range(n_wanted):
            found[start + numbers, i] = nearest = distances.argmin(axis=1)
            distances[numbers, nearest] = np.inf
    return torch.from_numpy(found)


def choose_rows(weight: NDArray[Any], n_rows: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Numbers of different rows, by their weights."""
    if n_rows >= len(weight):
        return np.arange(len(weight))
    return np.sort(rng.choice(len(weight), n_rows, replace=False, p=weight / weight.sum()))
