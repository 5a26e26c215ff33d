"""The core of a table: the rows that are most alike, with the outliers left outside."""

import numpy as np

from skae._data._chunks import row_chunks
from skae._data._scaling import column_moments

# A column that hardly varies inside the core is divided by no less than this share of the
# root mean variance: else the few rows that are different there would decide alone.
VARIANCE_FLOOR = 0.5


def trimmed_subset(distances, weight, share):
    """Mask of the rows that are nearest, enough of them to hold a share of the weight."""
    order = distances.argsort(kind="stable")
    reached = np.cumsum(weight[order])
    n_inner = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9))) + 1
    inner = np.zeros(len(distances), dtype=bool)
    inner[order[:n_inner]] = True
    return inner & (weight > 0)


def scale_by_trimmed_subset(scaler, X, sample_weight, share):
    """Find the core of rows that `scaler` scales, and make it zero mean and unit variance.

    The core are the rows nearest to the mean, which hold a share of the weight. Distances
    are the mean of ``log(1 + z**2)`` over observed cells, so no single cell can throw a row
    out.
    """
    weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
    middle = column_moments(X, weight, scaler.transform).mean
    distances = np.empty(X.shape[0])
    for rows, chunk in row_chunks(X):
        losses = np.log1p(np.square(scaler.transform(chunk) - middle))
        n_observed = np.maximum(np.isfinite(losses).sum(axis=1), 1)
        distances[rows] = np.nansum(losses, axis=1) / n_observed
    core = trimmed_subset(distances, weight, share)
    moments = column_moments(X, weight * core, scaler.transform)
    varies = moments.variance.mean()
    if varies > 0:
        variance = np.maximum(moments.variance, VARIANCE_FLOOR * varies)
        scaler.refine(moments.mean, np.sqrt(variance))
