"""Scale the columns of a table, and scale them back."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrays import asarray_like, is_tensor, namespace, output_dtype, widest_float
from skae._data._chunks import as_dense, row_chunks
from skae._sklearn import weighted_percentile

# Medians and quartiles of larger tables come from every n-th row, so that they have at most
# this many cells.
MAX_CELLS_FOR_QUANTILES = 2**24


@dataclass
class Moments:
    """Statistics of each column from one streaming pass; missing cells do not count.

    Attributes
    ----------
    mean, variance, low, high : ndarray of shape (n_features,)
        Zero in a column without a single value.
    """

    mean: NDArray[Any]
    variance: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]


def column_moments(
    X: Any,
    sample_weight: NDArray[Any] | None = None,
    transform: Callable[[Any], Any] = lambda chunk: chunk,
) -> Moments:
    """Weighted moments of dense or CSR rows `X`, each chunk of them transformed first."""
    n_rows, n_features = X.shape
    weight = np.ones(n_rows) if sample_weight is None else sample_weight
    total = np.zeros(n_features)
    mean, squares = np.zeros(n_features), np.zeros(n_features)
    low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
    for rows, raw in row_chunks(X):
        chunk = transform(raw).astype(np.float64)
        counted = chunk if (weight[rows] > 0).all() else chunk[weight[rows] > 0]
        low = np.fmin(low, np.fmin.reduce(counted, axis=0, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(counted, axis=0, initial=-np.inf))
        missing = np.isnan(chunk)
        has_missing = missing.any()
        # Chunks are centred before they are squared and merged (Chan, Golub & LeVeque, 1979):
        # a plain sum of squares loses all digits where the mean is large.
        chunk_total = np.full(n_features, weight[rows].sum())
        if has_missing:
            chunk_total -= weight[rows] @ missing
            chunk[missing] = 0.0
        chunk_mean = weight[rows] @ chunk / np.where(chunk_total > 0, chunk_total, 1.0)
        chunk -= chunk_mean
        if has_missing:
            chunk[missing] = 0.0
        np.square(chunk, out=chunk)
        shift = chunk_mean - mean
        merged = np.where(total + chunk_total > 0, total + chunk_total, 1.0)
        squares += weight[rows] @ chunk
        squares += shift**2 * (total * chunk_total / merged)
        mean += shift * (chunk_total / merged)
        total += chunk_total
    constant = low == high
    mean[constant], squares[constant] = low[constant], 0.0
    empty = low > high
    low[empty] = high[empty] = 0.0
    return Moments(mean, squares / np.where(total > 0, total, 1.0), low, high)


class Scaler:
    """Shift and scale columns; statistics come from one streaming pass.

    Parameters
    ----------
    method : {"global", "standard", "minmax", "robust"} or None
        One common scale for all columns (the root mean variance), a standard
        deviation per column, the range per column, the interquartile range per
        column (half the range where quartiles coincide), or no scaling at all.
    clip : float, default=None
        Scaled values are clipped at this distance from zero.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Weighted mean of each column, whatever the method.
    data_min_, data_max_ : ndarray of shape (n_features,)
        Smallest and largest value of each column.
    center_, scale_ : ndarray of shape (n_features,)
        Subtracted from each column, and divisor of the result.
    low_, high_ : ndarray of shape (n_features,) or None
        Bounds of clipping, in the units of the data.
    """

    def __init__(self, method: str | None, clip: float | None = None) -> None:
        self.method = method
        self.clip = clip

    def fit(self, X: Any, sample_weight: NDArray[Any] | None = None) -> Scaler:
        """Learn the statistics of dense or CSR rows `X`; missing cells do not count."""
        moments = column_moments(X, sample_weight)
        self.mean_, self.data_min_, self.data_max_ = moments.mean, moments.low, moments.high
        self.center_, self.scale_ = self._center_and_scale(X, sample_weight, moments)
        self.low_ = self.high_ = None
        if self.clip is not None:
            # A constant column has no scale to measure a difference by: it is clipped to its
            # value.
            has_scale = (moments.high > moments.low) | (self.method is None)
            reach = self.clip * self.scale_ * has_scale
            self.low_, self.high_ = self.center_ - reach, self.center_ + reach
        return self

    def _center_and_scale(
        self, X: Any, sample_weight: NDArray[Any] | None, moments: Moments
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        variance = moments.variance
        if self.method is None:
            return np.zeros_like(variance), np.ones_like(variance)
        if self.method == "minmax":
            return moments.low, _one_where_zero(moments.high - moments.low)
        if self.method == "standard":
            return self.mean_, _one_where_zero(np.sqrt(variance))
        if self.method == "robust":
            step = -(-X.shape[0] * X.shape[1] // MAX_CELLS_FOR_QUANTILES)
            sample = as_dense(X[::step]).astype(np.float64, copy=False)
            weight = np.ones(len(sample)) if sample_weight is None else sample_weight[::step]
            lower, median, upper = (
                weighted_percentile(sample, weight, 100 * q) for q in (0.25, 0.5, 0.75)
            )
            # A column that is mostly one value: with its (small) standard deviation, the few
            # rows that differ there would stand out more than those far out elsewhere.
            half_range = (moments.high - moments.low) / 2
            spread = np.where(upper > lower, upper - lower, half_range)
            return np.nan_to_num(np.asarray(median)), _one_where_zero(spread)
        return self.mean_, np.full_like(variance, _one_where_zero(np.sqrt(variance.mean())))

    def refine(self, mean: NDArray[Any], deviation: NDArray[Any]) -> None:
        """Shift and scale the scaled values once more; the bounds of clipping stay."""
        self.center_ = self.center_ + self.scale_ * mean
        self.scale_ = self.scale_ * deviation

    def on_device_of(self, X: Any) -> Scaler:
        """A scaler with the same statistics on the device of X, if that is a tensor."""
        if not is_tensor(X):
            return self
        other, dtype = copy(self), widest_float(X)
        for name in ("center_", "scale_", "low_", "high_"):
            values = getattr(self, name)
            setattr(other, name, None if values is None else asarray_like(values, X, dtype))
        return other

    def transform(self, X: Any) -> Any:
        """Scale a dense chunk of rows (or a tensor of them) to float32."""
        # float64 is centred before it is rounded, so a large offset costs no digits.
        xp, dtype = namespace(X), output_dtype(X)
        if self.low_ is not None:
            X = X.clip(asarray_like(self.low_, X, dtype), asarray_like(self.high_, X, dtype))
        scaled = X - asarray_like(self.center_, X, dtype)
        scaled /= asarray_like(self.scale_, X, dtype)
        return xp.astype(scaled, xp.float32, copy=False)

    def inverse_transform(self, X: Any, dtype: Any = None, out: Any = None) -> Any:
        """Scaled rows in the units of the data, clipped as in `transform`.

        They are computed in `dtype`, by default float64 or the widest float of the device,
        and written to `out` if it is given.
        """
        xp, dtype = namespace(X), widest_float(X) if dtype is None else dtype
        rows = xp.multiply(X, asarray_like(self.scale_, X, dtype), out=out)
        rows += asarray_like(self.center_, X, dtype)
        if self.low_ is not None:
            xp.maximum(rows, asarray_like(self.low_, X, dtype), out=rows)
            xp.minimum(rows, asarray_like(self.high_, X, dtype), out=rows)
        return rows


def _one_where_zero(scale: Any) -> NDArray[Any]:
    return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
