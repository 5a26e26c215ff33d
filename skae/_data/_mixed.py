"""Tell which tables hold more than numbers, and encode their numbers and levels for a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import is_tensor
from skae._data._chunks import is_memory_map, row_chunks
from skae._data._encoded_rows import columns_of
from skae._data._frames import column_mask, has_columns
from skae._data._scaling import Scaler
from skae._data._shards import is_sharded
from skae._data._sources import is_source
from skae._data._tables import numbers_of_table

FROM_DTYPE = "from_dtype"
# Scalings that keep indicators of levels between 0 and 1, before they are centred.
PLAIN = (None, "minmax")


def kinds_of_columns(
    X: Any, categorical_features: Any, reads_gaps: bool = False
) -> list[bool | None] | None:
    """What `categorical_features` says of each column of a table.

    None if all hold numbers, and no cell of X, which is in memory and dense, is missing; with
    `reads_gaps` cells of numbers may be.

    Returns
    -------
    kinds : list of (bool or None) or None
        True for columns of levels, False for others, None where the dtype decides.
    """
    by_dtype = isinstance(categorical_features, str) and categorical_features == FROM_DTYPE
    if by_dtype or categorical_features is None:
        numbers = _numbers(X, by_dtype)
        if numbers is not None:
            return [False] * X.shape[1] if not reads_gaps and _has_gaps(numbers) else None
        dtypes = getattr(X, "dtypes", [None] * X.shape[1])
        return [_is_boolean(dtype) or None if by_dtype else False for dtype in dtypes]
    if issparse(X):
        raise TypeError(
            f"categorical_features={categorical_features!r} needs a dense X, but X is a sparse "
            "matrix: pass X.toarray(), or set categorical_features=None."
        )
    if len(np.shape(X)) != 2:
        return None  # an error later
    names = list(X.columns) if hasattr(X, "columns") else []
    mask = column_mask(categorical_features, names, np.shape(X)[1], "categorical_features")
    numbers = None if mask.any() else _numbers(X, by_dtype=True)
    is_mixed = numbers is None or (not reads_gaps and _has_gaps(numbers))
    return mask.tolist() if is_mixed else None


def _numbers(X: Any, by_dtype: bool) -> Any:
    """A table of numbers, or None: columns that are declared as categories hold none."""
    if is_tensor(X) or not has_columns(X) or X.shape[1] == 0:
        return X
    if hasattr(X, "iloc") and not X.columns.is_unique:
        return X  # an error later
    if by_dtype and any(_is_categorical(dtype) for dtype in getattr(X, "dtypes", ())):
        return None
    try:
        return numbers_of_table(X)
    except (TypeError, ValueError):
        return None


def _has_gaps(X: Any) -> bool:
    """Whether cells of numbers are missing; files and sparse columns are not looked at."""
    if isinstance(X, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(X).any())
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        is_sparse = any(hasattr(dtype, "fill_value") for dtype in X.dtypes)
        return not is_sparse and any(X.iloc[:, j].hasnans for j in range(X.shape[1]))
    if not isinstance(X, np.ndarray) and not hasattr(X, "columns"):
        return False
    if is_memory_map(X) or len(X.shape) != 2 or 0 in X.shape:
        return False
    cells = np.asarray(X)
    return cells.dtype.kind == "f" and bool(np.isnan(cells.min()))


def _is_boolean(dtype: Any) -> bool:
    return str(dtype).lower().startswith("bool")


def _is_categorical(dtype: Any) -> bool:
    """Whether a dtype of pandas or polars declares categories."""
    return type(dtype).__name__ in ("CategoricalDtype", "Categorical", "Enum")


class MixedScaler:
    """Encode rows of numbers and codes of levels, so that PCA of them is FAMD.

    Numbers are scaled, and come first. A column of levels becomes indicators less the shares of
    the levels, each divided by the root of its share: principal components of such rows are the
    factor analysis of mixed data (FAMD) [1]_. Columns with as many levels are side by side.

    Parameters
    ----------
    n_levels : sequence of int
        Number of levels of each column that holds codes; 0 for columns of numbers.
    method : {"global", "standard", "minmax", "robust"} or None
        As in ``Scaler``, for numbers. With ``"minmax"`` and None, indicators are only centred.

    Attributes
    ----------
    numbers_ : Scaler or None
        Of the columns of numbers, if there are any.
    shares_ : ndarray of shape (n_indicators,)
        Share of each level among the cells of its column that are not missing.
    mean_ : ndarray of shape (n_features,)
        Weighted mean of each column of numbers, and the commonest code of the others.

    References
    ----------
    .. [1] J. Pages, "Multiple Factor Analysis by Example Using R", Chapman & Hall, 2014, chapter 3.
    """

    unit = 1.0  # squares of scaled values neither overflow nor vanish

    def __init__(self, n_levels: Any, method: str | None = "standard") -> None:
        self.n_levels = np.asarray(n_levels, dtype=np.int64)
        self.method = method

    @property
    def of_numbers(self) -> NDArray[np.intp]:
        """Indices of the columns of numbers."""
        return np.flatnonzero(self.n_levels == 0)

    @property
    def of_codes(self) -> NDArray[np.intp]:
        """Indices of the columns of codes, in the order of their indicators."""
        columns = np.flatnonzero(self.n_levels)
        return columns[np.argsort(self.n_levels[columns], kind="stable")]

    @property
    def level_counts(self) -> list[int]:
        """Number of levels of each column of codes, in the order of their indicators."""
        return self.n_levels[self.of_codes].tolist()

    @property
    def spans(self) -> list[tuple[int, slice]]:
        """Columns of codes, and where their indicators are among those of all."""
        stops = np.cumsum(self.level_counts, dtype=int).tolist()
        counts = zip(self.of_codes.tolist(), self.level_counts, stops, strict=True)
        return [(j, slice(stop - n, stop)) for j, n, stop in counts]

    @property
    def n_scores(self) -> int:
        """Number of columns of numbers."""
        return len(self.of_numbers)

    @property
    def n_inputs(self) -> int:
        """Width of encoded rows."""
        return self.n_scores + int(self.n_levels.sum())

    @property
    def column_of(self) -> NDArray[np.intp]:
        """Index of the column of each encoded cell."""
        codes = np.repeat(self.of_codes, np.asarray(self.level_counts, dtype=int))
        return np.concatenate([self.of_numbers, codes])

    @property
    def first_of(self) -> NDArray[np.intp]:
        """Index of the first encoded cell of each column."""
        return np.unique(self.column_of, return_index=True)[1]

    def fit(self, X: Any, sample_weight: NDArray[Any] | None = None) -> MixedScaler:
        """Learn scales and shares from rows of numbers and codes; NaN is a missing cell."""
        self.mean_ = np.zeros(X.shape[1])
        self.numbers_ = None
        if self.n_scores:
            self.numbers_ = self._scaler_of_numbers()
            self.numbers_.fit(columns_of(X, self.of_numbers), sample_weight)
            self.mean_[self.of_numbers] = self.numbers_.mean_
        weights = self._level_weights(X, sample_weight)
        for j, counts in zip(self.of_codes, weights, strict=True):
            self.mean_[j] = counts.argmax()
        self.shares_ = _joined_shares(map(_of_rare_levels, weights))
        return self

    def shares_of(self, X: Any, sample_weight: NDArray[Any] | None = None) -> NDArray[Any]:
        """Share of each level in these rows, in which some may be missing."""
        return _joined_shares(self._level_weights(X, sample_weight))

    def _scaler_of_numbers(self) -> Scaler:
        return Scaler(self.method)

    def _level_weights(
        self, X: Any, sample_weight: NDArray[Any] | None = None
    ) -> list[NDArray[Any]]:
        """Weight of each level of each column of codes."""
        if is_sharded(X):
            parts = X.on_each(self._level_weights, sample_weight)
            return [np.sum(of_column, axis=0) for of_column in zip(*parts, strict=True)]
        if is_source(X):
            return self._level_weights_on_disk(X, sample_weight)
        counts = []
        for j in self.of_codes:
            known = ~np.isnan(X[:, j])
            weight = None if sample_weight is None else sample_weight[known]
            counts.append(np.bincount(X[known, j].astype(int), weight, self.n_levels[j]))
        return counts

    def _level_weights_on_disk(
        self, X: Any, sample_weight: NDArray[Any] | None
    ) -> list[NDArray[Any]]:
        if sample_weight is None and X.level_counts is not None:
            return [X.level_counts[j] for j in self.of_codes]
        counts = [np.zeros(n) for n in self.level_counts]
        for rows, chunk in row_chunks(X):
            weight = None if sample_weight is None else sample_weight[rows]
            for total, part in zip(counts, self._level_weights(chunk, weight), strict=True):
                total += part
        return counts

    @property
    def level_scales(self) -> NDArray[Any]:
        """What indicators less shares are divided by."""
        return np.ones_like(self.shares_) if self.method in PLAIN else np.sqrt(self.shares_)

    @property
    def cell_weights(self) -> NDArray[Any]:
        """Weight of the square of each encoded cell in the error of its column.

        Errors of a column of levels are sums of squares of the indicators' over its Gini
        impurity, or such sums alone where indicators are only centred.
        """
        weights = self.level_scales**2
        if self.method not in PLAIN:
            impurities = self._sums(self.shares_ * (1 - self.shares_))
            impurities = np.where(impurities > 0, impurities, 1.0)
            weights = weights / np.repeat(impurities, self.level_counts)
        return np.concatenate([np.ones(self.n_scores), weights])

    @property
    def baseline(self) -> NDArray[Any]:
        """The encoded row of means of numbers, and shares of levels."""
        row = np.zeros(self.n_inputs)
        if self.numbers_ is not None:
            row[: self.n_scores] = self.numbers_.transform(self.numbers_.mean_[None])[0]
        return row

    @property
    def known_ranges(self) -> tuple[NDArray[Any], ...]:
        """Smallest and largest value or code of each column, and about its deviation."""
        low, high = np.zeros(len(self.n_levels)), self.n_levels.astype(np.float64)
        scale = np.ones(len(self.n_levels))
        if self.numbers_ is not None:
            for of_all, of_numbers in zip(
                (low, high, scale), self.numbers_.known_ranges, strict=True
            ):
                of_all[self.of_numbers] = of_numbers
        return low, high, scale

    def check(self, X: Any, names: Any, largest: float) -> None:
        """Raise ValueError if scaled numbers are larger."""
        if self.numbers_ is not None:
            names = range(X.shape[1]) if names is None else names
            of_numbers = [names[j] for j in self.of_numbers]
            self.numbers_.check(columns_of(X, self.of_numbers), of_numbers, largest)

    def on_device_of(self, X: Any) -> MixedScaler:
        """Itself: rows of mixed tables are NumPy's."""
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Encode rows; all indicators of a missing cell are NaN, and zero for other codes."""
        encoded = np.empty((len(X), self.n_inputs), dtype=np.float32)
        if self.numbers_ is not None:
            encoded[:, : self.n_scores] = self.numbers_.transform(X[:, self.of_numbers])
        indicators, scales = encoded[:, self.n_scores :], self.level_scales
        indicators[:] = -self.shares_ / scales
        for j, span in self.spans:
            part = indicators[:, span]
            known = np.flatnonzero(X[:, j] < part.shape[1])
            codes = X[known, j].astype(int)
            part[known, codes] += (1 / scales[span])[codes]
            part[np.isnan(X[:, j])] = np.nan
        return encoded

    def inverse_transform(
        self, X: NDArray[Any], dtype: Any = None, out: Any = None
    ) -> NDArray[np.float64]:
        """Numbers, and the most probable codes, of encoded rows."""
        rows = np.empty((len(X), len(self.n_levels))) if out is None else out
        if self.numbers_ is not None:
            numbers = np.ascontiguousarray(X[:, : self.n_scores])
            rows[:, self.of_numbers] = self.numbers_.inverse_transform(numbers, np.float64)
        probabilities = self.probabilities(X)
        for j, span in self.spans:
            rows[:, j] = probabilities[:, span].argmax(axis=1)
        return rows

    def probabilities(self, X: NDArray[Any]) -> NDArray[Any]:
        """Probabilities of levels, of shape (n_samples, n_indicators), in encoded rows."""
        return X[:, self.n_scores :] * self.level_scales + self.shares_

    def column_errors(self, difference: NDArray[Any]) -> NDArray[np.float64]:
        """Errors of columns, of shape (n_samples, n_features), from differences of encoded rows.

        NaN where a cell is missing.
        """
        squares = np.square(difference, dtype=np.float64) * self.cell_weights
        errors = np.empty((len(squares), len(self.n_levels)))
        errors[:, self.of_numbers] = squares[:, : self.n_scores]
        errors[:, self.of_codes] = self._sums(squares[:, self.n_scores :])
        return errors

    def _sums(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Sums over the indicators of each column of codes, along the last axis."""
        if not self.level_counts:
            return cells
        starts = np.cumsum([0, *self.level_counts[:-1]])
        return np.add.reduceat(cells, starts, axis=-1)


def _joined_shares(weights: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([*(counts / counts.sum() for counts in weights), []])


def _of_rare_levels(counts: NDArray[Any]) -> NDArray[Any]:
    """Weights of levels, where those that no row of a sample has count as much as the rarest."""
    least = counts[counts > 0].min() if counts.any() else 1
    return np.maximum(counts, least)
