"""Targets that rows are generated for: classes or numbers, as a decoder reads them."""

import numpy as np
from sklearn.utils.multiclass import type_of_target

# Numbers are divided at so many quantiles, where latents are told apart by them.
N_BINS = 10


class Targets:
    """Classes as indicators; numbers in units of their standard deviation.

    Attributes
    ----------
    classes_ : ndarray or None
        Sorted classes; None for numbers.
    shares_ : ndarray of shape (n_groups,)
        Share of the rows in each class or, for numbers, in each tenth.
    typical_ : ndarray of shape (n_groups,)
        Code of each class, or the median of each tenth.
    """

    def fit(self, y, sample_weight=None):
        """Learn what the targets of the training rows are."""
        y = np.asarray(y)
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass", "continuous"):
            raise ValueError(
                f"y is {kind!r}; it must hold one class or one number per row for conditional=True."
            )
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        self.classes_ = None if kind == "continuous" else np.unique(y)
        if self.classes_ is not None:
            self.typical_ = np.arange(len(self.classes_), dtype=float)
        else:
            y = y.astype(float)
            self.center_, self.scale_ = y.mean(), y.std() or 1.0
            self.bounds_ = np.unique(np.quantile(y, np.arange(1, N_BINS) / N_BINS))
            bins = np.searchsorted(self.bounds_, y)
            self.typical_ = np.array([np.median(y[bins == b]) for b in np.unique(bins)])
            self.bounds_ = 0.5 * (self.typical_[1:] + self.typical_[:-1])
        mass = np.bincount(self.groups(self.codes(y)), weight, minlength=len(self.typical_))
        self.shares_ = mass / mass.sum()
        return self

    @property
    def n_columns(self):
        """How many columns the decoder reads."""
        return 1 if self.classes_ is None else len(self.classes_)

    def codes(self, y):
        """Numbers that stand for targets; an unknown class is an error."""
        y = np.asarray(y)
        if self.classes_ is None:
            y = y.astype(float)
            if not np.isfinite(y).all():
                raise ValueError("y holds NaN or infinity; it must hold finite numbers.")
            return y
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            raise ValueError(
                f"y holds {y[unknown][0]!r}, which it did not in fit; allowed are "
                f"{self.classes_.tolist()}."
            )
        return np.searchsorted(self.classes_, y).astype(float)

    def groups(self, codes):
        """Number of the class, or of the tenth, of each code."""
        if self.classes_ is None:
            return np.searchsorted(self.bounds_, codes)
        return codes.astype(int)

    def columns(self, codes):
        """What the decoder reads; zeros where the code is NaN."""
        if self.classes_ is None:
            told = ((codes - self.center_) / self.scale_)[:, None]
            return np.nan_to_num(told).astype(np.float32)
        return (codes[:, None] == self.typical_).astype(np.float32)


class TargetedReader:
    """Reads rows whose last column holds the code of a target.

    Parameters
    ----------
    reader : object with ``transform``
    targets : Targets
    """

    def __init__(self, reader, targets):
        self.reader = reader
        self.targets = targets

    def transform(self, X):
        """What the network reads of a dense chunk of rows, and conditions."""
        return np.hstack([self.reader.transform(X[:, :-1]), self.targets.columns(X[:, -1])])
