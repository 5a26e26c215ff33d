"""Targets that rows are generated for: classes or numbers, encoded for a decoder."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from skae._data._scaling import LARGEST, units
from skae._data._tables import without_mask
from skae._data._validation import to_compute_array

# Numeric targets fall into this many groups of equal size, each with a prior of its own.
N_BINS = 10
# Points of the quantile function that numbers are drawn from.
N_QUANTILES = 201


def target_column(y: Any) -> NDArray[Any]:
    """One class or number per row, or a single one, as a NumPy array; raise if one is missing."""
    import pandas as pd

    y = [y] if isinstance(y, str | bytes | Number | np.generic) else y
    y, _ = to_compute_array(y, keep_tensors=False, name="y")
    y = without_mask(y, None, "y")
    y = y.to_numpy() if hasattr(y, "iloc") else y
    y = column_or_1d(np.atleast_1d(y) if np.ndim(y) == 0 else y)
    needed = "conditional=True needs a class or number per row."
    if not y.size:
        raise ValueError(f"y is empty; {needed}")
    if y.dtype.kind in "mM":
        raise ValueError(f"y holds dates; {needed}")
    missing = pd.isna(y)
    if missing.any():
        row = missing.argmax()
        raise ValueError(f"y misses values: that of row {row} is {y[row]}; {needed}")
    if y.dtype == object:
        kind = pd.api.types.infer_dtype(y)
        if kind in ("boolean", "integer"):
            y = np.array(y.tolist())
        elif kind in ("floating", "mixed-integer-float", "decimal"):
            y = y.astype(float)
        elif kind in ("mixed", "mixed-integer"):
            types = sorted({type(value).__name__ for value in y})
            raise ValueError(f"y holds values of several types, {', '.join(types)}; {needed}")
    if y.dtype.kind == "f" and not float(np.abs(y).max()) <= LARGEST:
        raise ValueError(
            f"y holds {y[np.abs(y).argmax()]:.3g}; finite numbers up to {LARGEST:g} can be "
            "squared. Change its unit."
        )
    return y


class Targets:
    """Classes as indicators; numbers in units of their standard deviation.

    Attributes
    ----------
    classes_ : ndarray or None
        Sorted classes; None for numbers.
    shares_ : ndarray of shape (n_groups,)
        Share of the rows in each group: a class or, for numbers, a tenth of the rows.
    representatives_ : ndarray of shape (n_groups,)
        Code of each class, or the median of each tenth.
    quantiles_ : ndarray of shape (n_quantiles,)
        Quantile function of the codes, at evenly spaced shares.
    bounds_ : ndarray of shape (n_groups - 1,)
        For numbers: where one group ends and the next begins.
    center_, scale_ : float
        For numbers: mean and standard deviation.
    """

    def fit(self, y: Any) -> Targets:
        """Learn classes, or groups of numbers, from the targets of the training rows."""
        y = target_column(y)
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass", "continuous"):
            raise ValueError(
                f"y is {kind!r}; it must hold one class or one number per row for conditional=True."
            )
        self.classes_ = None if kind == "continuous" else np.unique(y)
        if self.classes_ is not None:
            self.representatives_ = np.arange(len(self.classes_), dtype=float)
        else:
            y = y.astype(float)
            unit = float(units(np.ptp(y)))
            self.center_, self.scale_ = y.mean(), (y / unit).std() * unit or 1.0
            self.bounds_ = np.unique(np.quantile(y, np.arange(1, N_BINS) / N_BINS))
            bins = np.searchsorted(self.bounds_, y)
            self.representatives_ = np.array([np.median(y[bins == b]) for b in np.unique(bins)])
            self.bounds_ = 0.5 * (self.representatives_[1:] + self.representatives_[:-1])
        return self.weigh(self.codes(y))

    def weigh(self, codes: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Targets:
        """Learn how frequent targets are, given their codes and weights."""
        weight = np.ones(len(codes)) if sample_weight is None else sample_weight
        mass = np.bincount(self.groups(codes), weight, minlength=len(self.representatives_))
        self.shares_ = mass / mass.sum()
        order = np.argsort(codes, kind="stable")
        self.quantiles_ = np.interp(
            np.linspace(0, 1, N_QUANTILES), np.cumsum(weight[order]) / weight.sum(), codes[order]
        )
        return self

    def draw(self, n_samples: int, rng: np.random.RandomState) -> NDArray[Any]:
        """Draw codes from their distribution; numbers by the quantile function."""
        if self.classes_ is None:
            return np.interp(
                rng.uniform(size=n_samples), np.linspace(0, 1, N_QUANTILES), self.quantiles_
            )
        return self.representatives_[rng.choice(len(self.shares_), n_samples, p=self.shares_)]

    @property
    def n_columns(self) -> int:
        """Number of columns that the decoder reads."""
        return 1 if self.classes_ is None else len(self.classes_)

    def codes(self, y: Any) -> NDArray[Any]:
        """Encode targets as numbers; an unknown class is an error."""
        y = target_column(y)
        if self.classes_ is None:
            try:
                y = y.astype(float)
            except ValueError:
                raise ValueError(f"y holds {y.tolist()[0]!r}; in fit it held numbers.") from None
            return y
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            raise ValueError(
                f"y holds {y[unknown].tolist()[0]!r}, which it did not in fit; allowed are "
                f"{self.classes_.tolist()}."
            )
        return np.searchsorted(self.classes_, y).astype(float)

    def groups(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Number of the group of each code."""
        if self.classes_ is None:
            return np.searchsorted(self.bounds_, codes)
        return codes.astype(int)

    def columns(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Columns that the decoder reads; zeros where the code is NaN."""
        if self.classes_ is None:
            scaled = ((codes - self.center_) / self.scale_)[:, None]
            return np.nan_to_num(scaled).astype(np.float32)
        return (codes[:, None] == self.representatives_).astype(np.float32)


class TargetedTransform:
    """Transform rows whose last column holds the code of a target.

    Parameters
    ----------
    input_transform : object with ``transform``
        Applied to all columns but the last.
    targets : Targets
    """

    def __init__(self, input_transform: Any, targets: Targets) -> None:
        self.input_transform = input_transform
        self.targets = targets

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Network inputs of a dense chunk of rows, followed by the columns of the targets."""
        return np.hstack(
            [self.input_transform.transform(X[:, :-1]), self.targets.columns(X[:, -1])]
        )
