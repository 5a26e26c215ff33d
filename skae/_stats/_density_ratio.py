"""The density of real rows relative to that of rows drawn from a model, by a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._stats._boosted_trees import MAX_LEVELS, BoostedTrees

# Drawn rows per real one.
DRAWN_PER_ROW = 2
# Log-ratios are clipped to this, in nats: larger ones rest on too few rows.
MAX_LOG_RATIO = 5.0


class DensityRatio:
    """The ratio r of a table's density to that of rows drawn from a model of it [1]_.

    A classifier that separates real from drawn rows, each kind with half of the weight, has
    the odds ``P(real | x) / P(drawn | x) = p_real(x) / p_model(x) = r(x)`` if it is calibrated.
    Rows taken among drawn ones with probabilities in proportion to r are distributed nearly
    as the real ones (sampling-importance resampling; Rubin, 1987).

    Attributes
    ----------
    support_ : ndarray of bool of shape (n_features,)
        Columns that the trees read.
    trees_ : BoostedTrees
    log_mean_ : float
        Logarithm of the mean of r over drawn rows; it would be 0 for the true ratio.

    References
    ----------
    .. [1] Grover et al., "Bias correction of learned generative models using
       likelihood-free importance weighting", NeurIPS 2019.
    """

    def fit(
        self,
        real: NDArray[Any],
        drawn: NDArray[Any],
        is_code: NDArray[np.bool_],
        sample_weight: NDArray[Any] | None,
        seed: int,
    ) -> DensityRatio:
        """Fit the classifier, each kind of rows with half of the weight."""
        weight = np.ones(len(real)) if sample_weight is None else sample_weight
        X = np.vstack([real, drawn])
        is_real = np.repeat([1, 0], [len(real), len(drawn)])
        self.support_, are_levels = columns_for_trees(X, is_code)
        weight = np.r_[weight / weight.sum(), np.full(len(drawn), 1 / len(drawn))]
        self.trees_ = BoostedTrees().fit(X[:, self.support_], is_real, weight, are_levels, seed)
        self.log_mean_ = 0.0
        return self

    def calibrate(self, drawn: NDArray[Any]) -> DensityRatio:
        """Make the mean ratio one over drawn rows that are not those of `fit`."""
        self.log_mean_ += float(np.log(np.exp(self.log_ratio(drawn)).mean()))
        return self

    def log_ratio(self, X: NDArray[Any]) -> NDArray[Any]:
        """Logarithm of real over drawn density, per row."""
        log_odds = self.trees_.log_odds(X[:, self.support_])
        return np.clip(log_odds, -MAX_LOG_RATIO, MAX_LOG_RATIO) - self.log_mean_


def columns_for_trees(
    X: NDArray[Any], is_code: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the columns that the trees read, and of those among these that hold levels.

    Trees refuse columns without any value. Where there are more levels than they support,
    codes are read as numbers.
    """
    support = ~np.isnan(X).all(axis=0)
    few = np.nanmax(X, axis=0, initial=0.0) < MAX_LEVELS - 1  # the last is for missing cells
    return support, (is_code & few)[support]
