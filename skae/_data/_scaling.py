"""Scale the columns of a table, and scale them back."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import (
    as_array,
    asarray_like,
    is_tensor,
    namespace,
    output_dtype,
    widest_float,
)
from skae._data._chunks import as_dense, row_chunks
from skae._data._shards import is_sharded
from skae._data._sources import studied
from skae._sklearn import weighted_percentile

# Medians and quartiles of larger tables come from every n-th row, so that they have at most
# this many cells.
MAX_CELLS_FOR_QUANTILES = 2**24
# Values beyond these quantiles count as extremes, and beyond this many deviations.
TAILS, FENCE = (0.01, 0.99), 20.0
# Squares of larger values overflow.
LARGEST = 1e150
# Scaled values up to these are trained on, where they are squared in float32, and read.
LARGEST_TRAINED, LARGEST_READ = 1e15, 1e30
# Beyond this, and below its inverse, float32 rows are scaled in float64.
LARGEST_IN_FLOAT32 = 1e35
# Columns within this range are squared in their own unit, others in a power of two.
USUAL_SIZES = 1e-100, 1e100
# Ratios of quantiles of absolute deviations to standard deviations, in normal distributions.
NORMAL_QUANTILES = {0.5: 0.674, 0.75: 1.150, 0.9: 1.645, 0.95: 1.960, 0.99: 2.576, 1.0: 3.0}


@dataclass
class Moments:
    """Statistics of each column from one streaming pass; missing cells do not count.

    Attributes
    ----------
    mean, variance, low, high : ndarray of shape (n_features,)
        Zero in a column without a single value.
    unit : ndarray of shape (n_features,)
        The variance is in units of its square.
    total : ndarray of shape (n_features,)
        Weight of the values.
    """

    mean: NDArray[Any]
    variance: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    unit: NDArray[Any]
    total: NDArray[Any]

    @classmethod
    def merged(cls, parts: list[Moments]) -> Moments:
        """The moments of all rows, from those of parts of them."""
        total, mean, squares = np.zeros((3, len(parts[0].mean)))
        low = np.min([np.where(part.total > 0, part.low, np.inf) for part in parts], axis=0)
        high = np.max([np.where(part.total > 0, part.high, -np.inf) for part in parts], axis=0)
        empty = low > high
        low[empty] = high[empty] = 0.0
        unit = units(high - low)
        for part in parts:  # as chunks of rows are merged in ``column_moments``
            shift, merged = part.mean - mean, total + part.total
            share = part.total / np.where(merged > 0, merged, 1.0)
            with np.errstate(over="ignore", invalid="ignore"):  # of values beyond LARGEST
                squares += part.variance * part.total * (part.unit / unit) ** 2
                squares += (shift / unit) ** 2 * (total * share)
            mean += shift * share
            total += part.total
        constant = low == high
        mean[constant], squares[constant] = low[constant], 0.0
        return cls(mean, squares / np.where(total > 0, total, 1.0), low, high, unit, total)

    @property
    def deviation(self) -> NDArray[Any]:
        """Standard deviation of each column."""
        return np.sqrt(self.variance) * self.unit

    @property
    def common_deviation(self) -> float:
        """Root of the mean variance."""
        unit = self.unit.max()
        return float(np.sqrt((self.variance * (self.unit / unit) ** 2).mean()) * unit)


def units(sizes: Any) -> NDArray[Any]:
    """Powers of two near sizes whose squares would overflow or vanish, and 1 for all others."""
    least, most = USUAL_SIZES
    is_usual = ((sizes > least) & (sizes < most)) | ~(np.isfinite(sizes) & (sizes > 0))
    return np.where(is_usual, 1.0, np.ldexp(1.0, np.frexp(sizes)[1]))


def unchanged(chunk: Any) -> Any:
    """The transformation that is none."""
    return chunk


def column_moments(
    X: Any,
    sample_weight: NDArray[Any] | None = None,
    transform: Callable[[Any], Any] = unchanged,
) -> Moments:
    """Weighted moments of dense or CSR rows `X`, each chunk of them transformed first."""
    if is_sharded(X):
        weight_of_own = [] if sample_weight is None else [sample_weight]
        parts = X.on_each(partial(column_moments, transform=transform), *weight_of_own)
        return Moments.merged(parts)
    known = getattr(X, "moments", None)  # of a source of rows that was surveyed
    if known is not None and sample_weight is None and transform is unchanged:
        return known
    n_features = X.shape[1]
    total = np.zeros(n_features)
    mean, squares = np.zeros(n_features), np.zeros(n_features)
    low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
    unit = np.ones(n_features)
    for rows, raw in row_chunks(X):
        chunk = transform(raw).astype(np.float64)
        weight = np.ones(len(chunk)) if sample_weight is None else sample_weight[rows]
        counts = weight > 0
        counted = chunk if counts.all() else chunk[counts]
        low = np.fmin(low, np.fmin.reduce(counted, axis=0, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(counted, axis=0, initial=-np.inf))
        missing = np.isnan(chunk)
        has_missing = missing.any()
        # Chunks are centred before they are squared and merged (Chan, Golub & LeVeque, 1979):
        # a plain sum of squares loses all digits where the mean is large.
        chunk_total = np.full(n_features, weight.sum())
        if has_missing:
            chunk_total -= weight @ missing
            chunk[missing] = 0.0
        chunk_mean = weight @ chunk / np.where(chunk_total > 0, chunk_total, 1.0)
        chunk -= chunk_mean
        if has_missing:
            chunk[missing] = 0.0
        chunk[~counts] = 0.0
        shift = chunk_mean - mean
        merged = np.where(total + chunk_total > 0, total + chunk_total, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):  # of values beyond LARGEST
            # Ranges only grow, so that no square is lost when the unit changes.
            before, unit = unit, units(high - low)
            squares *= np.where(squares > 0, before / unit, 1.0) ** 2
            if (unit != 1).any():
                chunk /= unit
            squares += weight @ np.square(chunk, out=chunk)
            squares += (shift / unit) ** 2 * (total * chunk_total / merged)
        mean += shift * (chunk_total / merged)
        total += chunk_total
    constant = low == high
    mean[constant], squares[constant] = low[constant], 0.0
    empty = low > high
    low[empty] = high[empty] = 0.0
    return Moments(mean, squares / np.where(total > 0, total, 1.0), low, high, unit, total)


class Scaler:
    """Shift and scale columns; statistics come from one streaming pass.

    Parameters
    ----------
    method : {"global", "standard", "minmax", "robust", "winsorized"} or None
        One common scale for all columns (the root mean variance), a standard
        deviation per column, the range per column, the interquartile range per
        column (half the range where quartiles coincide), the standard deviation per
        column without its extremes, or no scaling at all.
    cut : float, default=None
        Scaled values beyond this distance from zero grow by their logarithm only.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Weighted mean of each column, whatever the method.
    data_min_, data_max_ : ndarray of shape (n_features,)
        Smallest and largest value of each column.
    center_, scale_ : ndarray of shape (n_features,)
        Subtracted from each column, and divisor of the result.
    low_, high_ : ndarray of shape (n_features,) or None
        The values at the cut, in the units of the data; those of a constant column are its value.
    """

    def __init__(self, method: str | None, cut: float | None = None) -> None:
        self.method = method
        self.cut = cut

    def fit(self, X: Any, sample_weight: NDArray[Any] | None = None) -> Scaler:
        """Learn the statistics of dense or CSR rows `X`; missing cells do not count."""
        moments = column_moments(X, sample_weight)
        self.mean_, self.data_min_, self.data_max_ = moments.mean, moments.low, moments.high
        self.center_, self.scale_ = self._center_and_scale(X, sample_weight, moments)
        if self.method is None:
            _check_spread((self.data_max_ - self.data_min_).max())
        self.low_ = self.high_ = None
        if self.cut is not None:
            # A constant column has no scale to measure a difference by: it does not count.
            has_scale = (moments.high > moments.low) | (self.method is None)
            reach = self.cut * self.scale_ * has_scale
            self.low_, self.high_ = self.center_ - reach, self.center_ + reach
        return self

    def _center_and_scale(
        self, X: Any, sample_weight: NDArray[Any] | None, moments: Moments
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.method is None:
            return np.zeros_like(self.mean_), np.ones_like(self.mean_)
        if self.method == "minmax":
            return moments.low, _one_where_zero(moments.high - moments.low)
        if self.method == "standard":
            return self.mean_, _one_where_zero(moments.deviation)
        if self.method in ("robust", "winsorized"):
            X, sample_weight = studied(X, sample_weight)
            step = -(-X.shape[0] * X.shape[1] // MAX_CELLS_FOR_QUANTILES)
            sample = as_dense(X[::step]).astype(np.float64, copy=False)
            weight = np.ones(len(sample)) if sample_weight is None else sample_weight[::step]
            if self.method == "winsorized":
                return _winsorized_moments(sample, weight)
            lower, median, upper = (
                weighted_percentile(sample, weight, 100 * q) for q in (0.25, 0.5, 0.75)
            )
            # A column that is mostly one value: with its (small) standard deviation, the few
            # rows that differ there would stand out more than those far out elsewhere.
            half_range = (moments.high - moments.low) / 2
            spread = np.where(upper > lower, upper - lower, half_range)
            return np.nan_to_num(np.asarray(median)), _one_where_zero(spread)
        return self.mean_, np.full_like(self.mean_, _one_where_zero(moments.common_deviation))

    @property
    def n_inputs(self) -> int:
        """Width of scaled rows."""
        return len(self.scale_)

    @property
    def unit(self) -> float:
        """A power of two: in its units, squares of errors neither overflow nor vanish."""
        return float(units((self.data_max_ - self.data_min_).max()))

    @property
    def known_ranges(self) -> tuple[NDArray[Any], ...]:
        """Smallest and largest value of each column, and about its standard deviation."""
        scale, ranges = self.scale_, self.data_max_ - self.data_min_
        if self.method is None:
            scale = np.full_like(scale, _one_where_zero(ranges.max() / 4))
        elif self.method == "minmax":
            scale = _one_where_zero(ranges / 4)
        return self.data_min_, self.data_max_, scale

    def check(self, X: Any, names: Any, largest: float) -> None:
        """Raise ValueError if scaled values are larger, which float32 would not hold."""
        if self.cut is None:
            reach = np.minimum(largest * self.scale_, LARGEST)
            check_magnitudes(X, names, self.center_, reach)
        else:  # it grows by its logarithm only
            check_magnitudes(X, names)

    @property
    def _fits_float32(self) -> bool:
        """Whether differences of values have enough digits in float32."""
        largest = max(abs(self.data_min_).max(), abs(self.data_max_).max())
        return bool(largest < LARGEST_IN_FLOAT32 and self.scale_.min() > 1 / LARGEST_IN_FLOAT32)

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
        xp, dtype = namespace(X), output_dtype(X) if self._fits_float32 else widest_float(X)
        with np.errstate(over="ignore"):  # what overflows is cut
            scaled = X - asarray_like(self.center_, X, dtype)
            scaled /= asarray_like(self.scale_, X, dtype)
        low, high, cut = self.low_, self.high_, self.cut
        if low is not None and high is not None and cut is not None:
            scaled = _softly_cut(scaled, asarray_like(high > low, X), cut)
        return xp.astype(scaled, xp.float32, copy=False)

    def inverse_transform(self, X: Any, dtype: Any = None, out: Any = None) -> Any:
        """Scaled rows in the units of the data, clipped at the cut.

        They are computed in `dtype`, by default float64 or the widest float of the device,
        and written to `out` if it is given.
        """
        xp, dtype = namespace(X), widest_float(X) if dtype is None else dtype
        with np.errstate(over="ignore"):  # beyond what float32 holds
            rows = xp.multiply(X, asarray_like(self.scale_, X, dtype), out=out)
            rows += asarray_like(self.center_, X, dtype)
            if self.low_ is not None:
                xp.maximum(rows, asarray_like(self.low_, X, dtype), out=rows)
                xp.minimum(rows, asarray_like(self.high_, X, dtype), out=rows)
        if not self._fits_float32:
            largest = xp.finfo(dtype).max
            rows.clip(-largest, largest, out=rows)
        return rows


def _check_spread(spread: float) -> None:
    """Raise ValueError if unscaled values vary too little or too much to be squared in float32."""
    if spread and not 1 / LARGEST_TRAINED <= spread <= LARGEST_TRAINED:
        raise ValueError(
            f"The columns of X vary by {spread:.3g} at most, which scaling=None does not allow: it "
            f"must be from {1 / LARGEST_TRAINED:g} to {LARGEST_TRAINED:g}. Change their unit, or "
            "have them scaled."
        )


def check_magnitudes(
    X: Any, names: Any, center: Any = 0.0, reach: Any = LARGEST, name: str = "X"
) -> None:
    """Raise ValueError if a column holds values further from its center than its reach.

    Parameters
    ----------
    X : array, CSR matrix, tensor or table of shape (n_samples, n_features)
    names : sequence or None
        Names of the columns; None means their numbers.
    center, reach : float or ndarray of shape (n_features,)
    name : str
        What X is called in the message.
    """
    if is_sharded(X):
        X.on_each(partial(check_magnitudes, names=names, center=center, reach=reach, name=name))
        return
    center, reach = np.broadcast_arrays(center, reach, np.empty(X.shape[1]))[:2]
    known = getattr(X, "moments", None)
    if known is not None and (np.fmax(center - known.low, known.high - center) <= reach).all():
        return
    surely = (reach - np.abs(center)).min(initial=np.inf)
    if issparse(X) and max(-X.data.min(initial=0.0), X.data.max(initial=0.0)) <= surely:
        return  # no copy of the values, which may be on disk
    for _, chunk in row_chunks(X):
        # The whole chunk is faster to look at than its columns; NaN is compared as false.
        if max(-float(chunk.min()), float(chunk.max())) <= surely:
            continue
        values = as_array(chunk).astype(np.float64)
        off = np.abs(values - center)
        if (off > reach).any():
            row, column = np.argwhere(off > reach)[0]
            limit, what_helps = reach[column], "Change its unit."
            if reach[column] < LARGEST:
                limit = abs(center[column]) + limit
                what_helps = "It is far from the others: check this cell."
            raise ValueError(
                f"Column {int(column) if names is None else names[column]!r} of {name} holds "
                f"{values[row, column]:.3g}; values up to {limit:.3g} can be squared. {what_helps}"
            )


def _softly_cut(scaled: Any, varies: Any, cut: float) -> Any:
    """Values that grow by their logarithm beyond a cut; zero in columns that do not vary."""
    xp = namespace(scaled)
    largest = xp.finfo(scaled.dtype).max
    scaled = xp.where(varies | xp.isnan(scaled), scaled, 0.0).clip(-largest, largest)
    beyond = (xp.abs(scaled) - cut).clip(0.0)
    if not (beyond > 0).any():
        return scaled
    # In float64 the logarithm of a tensor has the digits of that of an array.
    growth = xp.astype(xp.log1p(xp.astype(beyond, widest_float(scaled))), scaled.dtype)
    return xp.sign(scaled) * (xp.abs(scaled).clip(0.0, cut) + growth)


def _winsorized_moments(
    sample: NDArray[Any], weight: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each column's values, clipped to bounds of their bulk."""
    low, high = _bounds_of_bulk(sample, weight)
    inner = column_moments(sample, weight, lambda chunk: chunk.clip(low, high))
    return inner.mean, _one_where_zero(inner.deviation)


def _bounds_of_bulk(X: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bounds of each column's values without its extremes.

    They are the quantiles `TAILS`, but no further than `FENCE` deviations from the median: the
    tails may hold nothing but outliers. The whole range, where the quantiles coincide.
    """
    center, spread = median_and_spread(X, weight)
    low, high = (np.asarray(weighted_percentile(X, weight, 100 * q)) for q in TAILS)
    constant = low == high
    low = np.where(constant, np.fmin.reduce(X, axis=0), low)
    high = np.where(constant, np.fmax.reduce(X, axis=0), high)
    reach = FENCE * np.where(np.isfinite(spread), spread, 0.0)
    return np.maximum(low, center - reach), np.minimum(high, center + reach)


def median_and_spread(X: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Median of each column, and its deviation estimated from absolute deviations.

    That is their median; a higher quantile where it is zero, as in a column that is mostly one
    value. Infinite in constant columns.
    """
    center = np.nan_to_num(np.asarray(weighted_percentile(X, weight, 50)))
    with np.errstate(over="ignore"):
        deviations = np.abs(X - center)
    spread = np.zeros(X.shape[1])
    for level, ratio in NORMAL_QUANTILES.items():
        rest = np.flatnonzero(spread == 0)  # each quantile sorts its columns
        if not len(rest):
            break
        quantiles = weighted_percentile(deviations[:, rest], weight, 100 * level)
        spread[rest] = np.nan_to_num(np.asarray(quantiles)) / ratio
    return center, np.where(spread > 0, spread, np.inf)


def _one_where_zero(scale: Any) -> NDArray[Any]:
    return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
