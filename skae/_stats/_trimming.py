"""Trimmed subsets: the rows that are nearest to a model, without the outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import row_chunks
from skae._data._scaling import Scaler, column_moments

# The variance of a column in the trimmed subset counts as no less than this share of the mean
# variance of all columns: otherwise the few rows that differ in an almost constant column would
# dominate.
VARIANCE_FLOOR = 0.5


def trimmed_subset(
    distances: NDArray[Any], weight: NDArray[Any], share: float
) -> NDArray[np.bool_]:
    """Mask of the rows of least distance that hold a share of the weight.

    These are the h-subset of robust statistics (Rousseeuw & Van Driessen, 1999), with weights.
    """
    order = distances.argsort(kind="stable")
    cumulative = np.cumsum(weight[order])
    # Less rounding errors, which would add a row.
    n_inner = int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-9))) + 1
    inner = np.zeros(len(distances), dtype=bool)
    inner[order[:n_inner]] = True
    return inner & (weight > 0)


def scale_by_trimmed_subset(
    scaler: Scaler, X: Any, sample_weight: NDArray[Any] | None, share: float
) -> None:
    """Refine a scaler so that a trimmed subset of its rows has mean zero and unit variance.

    The distance of a row from the mean is the mean of ``log(1 + z**2)`` over the observed scaled
    and centred cells z, so that no single cell excludes a row. Unlike in the minimum covariance
    determinant, no consistency factor makes up for the trimmed tails: the variance is one in the
    subset, and larger over all rows of a normal distribution.
    """
    weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
    mean = column_moments(X, weight, scaler.transform).mean
    distances = np.empty(X.shape[0])
    for rows, chunk in row_chunks(X):
        losses = np.log1p(np.square(scaler.transform(chunk) - mean))
        n_observed = np.maximum(np.isfinite(losses).sum(axis=1), 1)
        distances[rows] = np.nansum(losses, axis=1) / n_observed
    subset = trimmed_subset(distances, weight, share)
    moments = column_moments(X, weight * subset, scaler.transform)
    mean_variance = moments.variance.mean()
    if mean_variance > 0:
        variance = np.maximum(moments.variance, VARIANCE_FLOOR * mean_variance)
        scaler.refine(moments.mean, np.sqrt(variance))
