"""How much likelier rows are than a model says: a classifier that tells real from drawn rows."""

import numpy as np

from skae._stats._boosted_trees import MAX_LEVELS, BoostedTrees

# Drawn rows per real one.
DRAWN_PER_ROW = 2
# Odds further out than this come from too few rows to be believed, in nats.
MAX_LOG_RATIO = 5.0


class DensityRatio:
    """The ratio of a table's density to that of rows drawn from a model of it [1]_.

    Attributes
    ----------
    kept_ : ndarray of bool of shape (n_features,)
        Columns that the trees read.
    trees_ : BoostedTrees
    log_mean_ : float
        Logarithm of the mean ratio over drawn rows, which would be 0 for the true ratio.

    References
    ----------
    .. [1] Grover et al., "Bias correction of learned generative models using
       likelihood-free importance weighting", NeurIPS 2019.
    """

    def fit(self, real, drawn, is_code, sample_weight, seed):
        """Learn to tell real rows from drawn ones, each kind with half of the weight."""
        weight = np.ones(len(real)) if sample_weight is None else sample_weight
        X = np.vstack([real, drawn])
        is_real = np.repeat([1, 0], [len(real), len(drawn)])
        self.kept_, are_levels = columns_for_trees(X, is_code)
        weight = np.r_[weight / weight.sum(), np.full(len(drawn), 1 / len(drawn))]
        self.trees_ = BoostedTrees().fit(X[:, self.kept_], is_real, weight, are_levels, seed)
        self.log_mean_ = 0.0
        return self

    def calibrate(self, drawn):
        """Make the mean ratio of drawn rows, others than those of ``fit``, one."""
        self.log_mean_ += float(np.log(np.exp(self.log_ratio(drawn)).mean()))
        return self

    def log_ratio(self, X):
        """Logarithm of real over drawn density, per row."""
        told = self.trees_.log_odds(X[:, self.kept_])
        return np.clip(told, -MAX_LOG_RATIO, MAX_LOG_RATIO) - self.log_mean_


def columns_for_trees(X, is_code):
    """Which columns the trees can take, and which of these hold levels that they can.

    They refuse columns without any value. More levels than they can take are read as numbers.
    """
    kept = ~np.isnan(X).all(axis=0)
    few = np.nanmax(X, axis=0, initial=0.0) < MAX_LEVELS - 1  # the last is for missing cells
    return kept, (is_code & few)[kept]
