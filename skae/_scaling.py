"""Scale the columns of a table, and scale them back."""

import numpy as np

from skae._chunks import as_dense, row_chunks
from skae._sklearn import weighted_percentile

# Cells looked at for medians and quartiles: exact below, a spread sample of rows above.
MAX_CELLS_FOR_QUANTILES = 2**24


class Scaler:
    """Shift and scale columns; statistics come from one streaming pass.

    Parameters
    ----------
    method : {"global", "standard", "minmax", "robust"} or None
        One common scale for all columns (the root mean variance), a standard
        deviation per column, the range per column, the interquartile range per
        column, or no scaling at all.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Weighted mean of each column, whatever the method.
    center_, scale_ : ndarray of shape (n_features,)
        What is subtracted from each column, and what it is then divided by.
    """

    def __init__(self, method):
        self.method = method

    def fit(self, X, sample_weight=None):
        """Learn the statistics of dense or CSR rows `X`."""
        n_rows, n_features = X.shape
        weight = np.ones(n_rows) if sample_weight is None else sample_weight
        total = 0.0
        mean, squares = np.zeros(n_features), np.zeros(n_features)
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        for rows, raw in row_chunks(X):
            chunk = raw.astype(np.float64)
            np.minimum(low, chunk.min(axis=0), out=low)
            np.maximum(high, chunk.max(axis=0), out=high)
            # Chunks are centred before they are squared and merged (Chan et al., 1979): a
            # plain sum of squares loses all digits where the mean is large.
            chunk_total = weight[rows].sum()
            chunk_mean = weight[rows] @ chunk / chunk_total
            chunk -= chunk_mean
            np.square(chunk, out=chunk)
            shift = chunk_mean - mean
            squares += weight[rows] @ chunk
            squares += shift**2 * (total * chunk_total / (total + chunk_total))
            total += chunk_total
            mean += shift * (chunk_total / total)
        constant = low == high
        mean[constant], squares[constant] = low[constant], 0.0
        variance = squares / total
        self.mean_ = mean
        self.center_, self.scale_ = self._center_and_scale(X, weight, variance, low, high)
        return self

    def _center_and_scale(self, X, weight, variance, low, high):
        if self.method is None:
            return np.zeros_like(variance), np.ones_like(variance)
        if self.method == "minmax":
            return low, _one_where_zero(high - low)
        if self.method == "standard":
            return self.mean_, _one_where_zero(np.sqrt(variance))
        if self.method == "robust":
            step = -(-X.shape[0] * X.shape[1] // MAX_CELLS_FOR_QUANTILES)
            sample = as_dense(X[::step]).astype(np.float64, copy=False)
            lower, median, upper = (
                weighted_percentile(sample, weight[::step], 100 * q) for q in (0.25, 0.5, 0.75)
            )
            spread = np.where(upper > lower, upper - lower, np.sqrt(variance))
            return np.asarray(median), _one_where_zero(spread)
        return self.mean_, np.full_like(variance, _one_where_zero(np.sqrt(variance.mean())))

    def transform(self, X):
        """Scale a dense chunk of rows to float32."""
        # float64 is shifted before it is rounded, so a large offset costs no digits.
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        scaled = np.subtract(X, self.center_.astype(dtype), dtype=dtype)
        scaled /= self.scale_.astype(dtype)
        return scaled.astype(np.float32, copy=False)

    def inverse_transform(self, X, dtype=np.float64):
        """Bring scaled rows back to the units of the data."""
        rows = X.astype(dtype)
        rows *= self.scale_.astype(dtype)
        rows += self.center_.astype(dtype)
        return rows


def _one_where_zero(scale):
    return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
