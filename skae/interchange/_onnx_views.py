"""Write the views of rows beside the autoencoders' into a graph.

The formulas are those of _engine/_views.py. Rows are float32, and losses of rows float64.
"""

import numpy as np
import torch

from skae._engine._views import CUT, LEAST_RANGE, ROUNDING, Ranks, References, precision_factors
from skae.interchange._graph import where
from skae.interchange._onnx_linear_systems import conditional_means
from skae.interchange._onnx_normal_scores import Tables


def view_losses(views, counts, x):
    """Losses of scaled rows by each view that counts, as a list.

    Parameters
    ----------
    views : Views
    counts : ndarray of shape (5,)
        Mask of the views that count, in the order of ``ViewsOnDevice.cells``.
    x : Value
    """
    if not counts.any():
        return []
    complete = conditional_means(views.gaussian, x)
    cells = [_conditional_cells(views, complete)] if counts[0] else []
    writer = NeighborsWriter(views, complete) if counts[1:].any() else None
    if counts[1:3].any():
        cells += writer.cells(complete, writer.references, *counts[1:3])
    if counts[3:].any():
        ranks, rows = Ranks(views.knots, views.scores), torch.from_numpy(views.rows)
        references = References(ranks(rows), views.rank_penalties)
        cells += writer.cells(_ranked(views, complete), references, *counts[3:])
    return [mean_of_observed(part, x).op("Sqrt").cast(np.float64) for part in cells]


def mean_of_observed(cells, x, axis=1):
    """Means of losses along the axis of the cells, of those that `x` does not miss."""
    missing = x.is_nan()
    n_observed = (~missing).cast(np.float32).sum(axis=1).op("Max", 1.0)
    # Not the axis -1, whose sums onnxruntime gives a wrong shape if there is no row.
    return where(missing, 0.0, cells).sum(axis) / n_observed


def softly_cut(x, cut):
    """Numbers that grow by their logarithm only where they are further from zero than `cut`."""
    size = x.op("Abs")
    beyond = where(size > cut, size - cut, 0.0)
    # ONNX has no log1p; float64 spares its digits.
    growth = (beyond.cast(np.float64) + 1.0).log().cast(x.dtype)
    return x.op("Sign") * (where(size > cut, cut, size) + growth)


def _conditional_cells(views, x):
    """``Conditional.cells`` of complete rows."""
    centred, (*factors, _) = x - views.gaussian.mean_, precision_factors(views.gaussian)
    if len(factors) == 1:
        residuals = centred @ factors[0]
    else:
        scale, left, right = factors
        residuals = centred * scale - centred @ left @ right
    return softly_cut(residuals / views.deviations, CUT).square()


def _ranked(views, x):
    """``Ranks`` of complete rows."""
    knots, scores = Tables(list(views.knots)), Tables(list(views.scores))
    right = knots.search(x).between(1, knots.counts - 1)
    low, start = knots.at(right - 1), scores.at(right - 1)
    width = (knots.at(right) - low).op("Max", LEAST_RANGE)
    share = ((x - low) / width).between(0.0, 1.0)
    first, last = views.knots[:, 0], views.knots[:, -1]
    beyond = (x - x.between(first, last)) / np.maximum(last - first, LEAST_RANGE)
    growth = (4.0 * beyond.op("Abs") + 1.0).log() * beyond.op("Sign")
    return start + share * (scores.at(right) - start) + growth


class NeighborsWriter:
    """Writes ``References.cells``, whose equal rows it finds once.

    Parameters
    ----------
    views : Views
    complete : Value
        Scaled rows without missing cells.
    """

    def __init__(self, views, complete):
        references = References(torch.from_numpy(views.rows), views.penalties)
        nearest = self._distances(complete, references).argmin(axis=1)
        difference = complete - complete.like(views.rows).take(nearest, axis=0)
        rounding = ROUNDING**2 * (complete.square().sum(axis=1) + views.rows.shape[1])
        radii = complete.like(np.square(views.radii)).take(nearest, axis=0).op("Max", rounding)
        is_same = difference.square().sum(axis=1) <= radii
        is_nearest = nearest.expand_dims(1).equals(np.arange(len(views.rows)))
        self.is_equal = is_same.expand_dims(1) & is_nearest
        self.references = references

    def cells(self, x, references, plain, cored):
        """Losses of cells without penalties and with them, as far as these views count.

        Parameters
        ----------
        x : Value
            Complete rows, scaled or in ranks.
        references : References
            Of the same kind.
        plain, cored : bool
            Whether a view counts.
        """
        rows, penalties = x.like(references.rows.numpy()), references.penalties.numpy()
        distances = self._distances(x, references)
        if len(penalties) > 1:
            distances = where(self.is_equal, np.inf, distances)
        cells = []
        if plain:
            nearest = distances.argmin(axis=1)
            cells.append((x - rows.take(nearest, axis=0)).square())
        if cored:
            nearest = (distances + penalties * references.rows.shape[1]).argmin(axis=1)
            penalty = x.like(penalties).take(nearest, axis=0).expand_dims(1)
            cells.append((x - rows.take(nearest, axis=0)).square() + penalty)
        return cells

    @staticmethod
    def _distances(x, references):
        factors = references.factors.numpy()
        return (x - references.center.numpy()) @ factors[:-1] + factors[-1]
