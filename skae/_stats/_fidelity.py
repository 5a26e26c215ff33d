"""How well new rows stand in for real ones."""

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.utils import Bunch

from skae._stats._density_ratio import columns_for_trees

# Rows of each kind that the classifier and the distances look at.
MAX_ROWS = 5000
N_FOLDS = 5


def fidelity(new, held_out, train, is_code, rng):
    """Compare new rows with held-out ones, and both with training rows.

    Parameters
    ----------
    new, held_out : ndarray of shape (n_samples, n_features)
        Numbers and codes; NaN where a cell is missing.
    train : ndarray of shape (n_train, n_features) or None
        Without it, what needs it is NaN.
    is_code : ndarray of bool of shape (n_features,)
    rng : numpy.random.RandomState

    Returns
    -------
    report : sklearn.utils.Bunch
        See ``VAEGenerator.evaluate``.
    """
    new, held_out = _some(new, rng), _some(held_out, rng)
    numbers = ~is_code
    report = Bunch(
        auroc=two_sample_auroc(new, held_out, is_code, rng),
        ks=column_distance(new, held_out, is_code),
        ks_real=np.nan,
        correlation_difference=correlation_difference(new[:, numbers], held_out[:, numbers]),
        zero_share_difference=zero_share_difference(new[:, numbers], held_out[:, numbers]),
        record_distance_ratio=np.nan,
        excess_copies=np.nan,
    )
    if train is not None:
        train = _some(train, rng)
        # As many rows as new ones: fewer would look further away.
        report.ks_real = column_distance(_some(train, rng, len(new)), held_out, is_code)
        report.record_distance_ratio, report.excess_copies = record_distances(
            new, held_out, train, is_code
        )
    return report


def two_sample_auroc(a, b, is_code, rng):
    """AUROC of gradient-boosted trees that tell two tables apart, cross-validated."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if min(len(a), len(b)) < N_FOLDS:
        return np.nan
    X = np.vstack([a, b])
    told = np.r_[np.zeros(len(a)), np.ones(len(b))]
    kept, are_levels = columns_for_trees(X, is_code)
    X = X[:, kept]
    trees = HistGradientBoostingClassifier(
        min_samples_leaf=min(20, max(1, len(X) // 10)),  # few rows would stay in one leaf
        categorical_features=are_levels,
        random_state=rng.randint(2**31 - 1),
    )
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=rng.randint(2**31 - 1))
    scores = cross_val_predict(trees, X, told, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(told, scores))


def column_distance(a, b, is_code):
    """Mean over columns of the Kolmogorov-Smirnov or total variation distance.

    Missing cells count as a value below all others.
    """
    low = min(np.nanmin(a, initial=0.0), np.nanmin(b, initial=0.0)) - 1.0
    distances = []
    a, b = np.nan_to_num(a, nan=low), np.nan_to_num(b, nan=low)
    for x, y, coded in zip(a.T, b.T, is_code, strict=True):
        values = np.unique(np.r_[x, y])
        if coded:
            shares = [
                np.bincount(np.searchsorted(values, s), minlength=len(values)) / len(s)
                for s in (x, y)
            ]
            distances.append(0.5 * np.abs(shares[0] - shares[1]).sum())
        else:
            below = [np.searchsorted(np.sort(s), values, side="right") / len(s) for s in (x, y)]
            distances.append(np.abs(below[0] - below[1]).max())
    return float(np.mean(distances))


def correlation_difference(a, b):
    """Mean absolute difference of the columns' rank correlations."""
    if a.shape[1] < 2:
        return np.nan
    pairs = np.triu_indices(a.shape[1], 1)
    return float(np.abs(_rank_correlations(a) - _rank_correlations(b))[pairs].mean())


def zero_share_difference(a, b):
    """Mean absolute difference of the columns' shares of zeros."""
    if a.shape[1] == 0:
        return np.nan
    return float(np.abs((a == 0).mean(axis=0) - (b == 0).mean(axis=0)).mean())


def record_distances(new, held_out, train, is_code):
    """Median distance to the closest training row, and share of copies, over held-out rows'."""
    from sklearn.neighbors import NearestNeighbors

    spread = _Spread(train, is_code)
    closest = NearestNeighbors(n_neighbors=1).fit(spread(train))
    to_new, to_held_out = (closest.kneighbors(spread(rows))[0][:, 0] for rows in (new, held_out))
    median = np.median(to_held_out)
    ratio = float(np.median(to_new) / median) if median > 0 else np.nan
    met = {row.tobytes() for row in train}
    copies = [np.mean([row.tobytes() in met for row in rows]) for rows in (new, held_out)]
    return ratio, float(copies[0] - copies[1])


class _Spread:
    """Rows as points: numbers in standard deviations, indicators of levels and of gaps."""

    def __init__(self, train, is_code):
        self.is_code = is_code
        with np.errstate(invalid="ignore"):
            n_seen = np.maximum((~np.isnan(train)).sum(axis=0), 1)
            self.mean = np.nansum(train, axis=0) / n_seen
            deviation = np.sqrt(np.nansum((train - self.mean) ** 2, axis=0) / n_seen)
        self.scale = np.where(deviation > 0, deviation, 1.0)
        self.levels = [np.unique(train[~np.isnan(train[:, j]), j]) for j in np.flatnonzero(is_code)]

    def __call__(self, rows):
        gaps = np.isnan(rows)
        numbers = np.nan_to_num((rows - self.mean) / self.scale)[:, ~self.is_code]
        codes = rows[:, self.is_code]
        # Two rows with different levels are at distance one.
        indicators = [
            np.sqrt(0.5) * (codes[:, [i]] == levels) for i, levels in enumerate(self.levels)
        ]
        return np.hstack([numbers, gaps, *indicators])


def _rank_correlations(X):
    import pandas as pd

    # A column that does not vary goes along with nothing.
    return np.nan_to_num(pd.DataFrame(X).corr(method="spearman").to_numpy())


def _some(rows, rng, at_most=MAX_ROWS):
    if len(rows) <= at_most:
        return rows
    return rows[np.sort(rng.choice(len(rows), at_most, replace=False))]
