"""How much likelier rows are than a model says: a classifier that tells real from drawn rows."""

import numpy as np

# Drawn rows per real one.
DRAWN_PER_ROW = 2
# Trees at most; held-out rows say how many serve.
MAX_TREES = 200
# More levels than the trees can take are read as numbers.
MAX_LEVELS = 255
# Odds further out than this come from too few rows to be believed, in nats.
MAX_LOG_RATIO = 5.0


class DensityRatio:
    """The ratio of a table's density to that of rows drawn from a model of it [1]_.

    Attributes
    ----------
    classifier_ : HistGradientBoostingClassifier
    log_mean_ : float
        Logarithm of the mean ratio over drawn rows, which would be 0 for the true ratio.

    References
    ----------
    .. [1] Grover et al., "Bias correction of learned generative models using
       likelihood-free importance weighting", NeurIPS 2019.
    """

    def fit(self, real, drawn, is_code, sample_weight, seed):
        """Learn to tell real rows from drawn ones, each kind with half of the weight."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        weight = np.ones(len(real)) if sample_weight is None else sample_weight
        X = np.vstack([real, drawn])
        is_real = np.repeat([1, 0], [len(real), len(drawn)])
        self.kept_, are_levels = columns_for_trees(X, is_code)
        self.classifier_ = HistGradientBoostingClassifier(
            max_iter=MAX_TREES,
            early_stopping=True,
            categorical_features=are_levels,
            random_state=seed,
        ).fit(
            X[:, self.kept_],
            is_real,
            sample_weight=np.r_[weight / weight.sum(), np.full(len(drawn), 1 / len(drawn))],
        )
        self.log_mean_ = 0.0
        return self

    def calibrate(self, drawn):
        """Make the mean ratio of drawn rows, others than those of ``fit``, one."""
        self.log_mean_ += float(np.log(np.exp(self.log_ratio(drawn)).mean()))
        return self

    def log_ratio(self, X):
        """Logarithm of real over drawn density, per row."""
        told = self.classifier_.decision_function(X[:, self.kept_])
        return np.clip(told, -MAX_LOG_RATIO, MAX_LOG_RATIO) - self.log_mean_


def columns_for_trees(X, is_code):
    """Which columns the trees can take, and which of these hold levels that they can.

    They refuse columns without any value.
    """
    kept = ~np.isnan(X).all(axis=0)
    few = np.nanmax(X, axis=0, initial=0.0) < MAX_LEVELS
    return kept, (is_code & few)[kept]
