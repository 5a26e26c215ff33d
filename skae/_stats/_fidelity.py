"""Measures of how well generated rows resemble real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.utils import Bunch

from skae._data._scaling import column_moments
from skae._stats._density_ratio import columns_for_trees

# Largest number of rows of each kind that the classifier and the distances use.
MAX_ROWS = 5000
N_FOLDS = 5


def fidelity(
    new: NDArray[Any],
    held_out: NDArray[Any],
    train: NDArray[Any] | None,
    is_code: NDArray[np.bool_],
    rng: np.random.RandomState,
) -> Bunch:
    """Compare new rows with held-out ones, and both with training rows.

    Parameters
    ----------
    new, held_out : ndarray of shape (n_samples, n_features)
        Numbers and codes; NaN where a cell is missing.
    train : ndarray of shape (n_train, n_features) or None
        None makes those measures NaN that need training rows.
    is_code : ndarray of bool of shape (n_features,)
    rng : numpy.random.RandomState

    Returns
    -------
    report : sklearn.utils.Bunch
        See ``VAEGenerator.evaluate``.
    """
    new, held_out = _subsample(new, rng), _subsample(held_out, rng)
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
        train = _subsample(train, rng)
        # As many rows as new ones: distances of smaller samples are larger.
        report.ks_real = column_distance(_subsample(train, rng, len(new)), held_out, is_code)
        report.record_distance_ratio, report.excess_copies = record_distances(
            new, held_out, train, is_code
        )
    return report


def two_sample_auroc(
    a: NDArray[Any], b: NDArray[Any], is_code: NDArray[np.bool_], rng: np.random.RandomState
) -> float:
    """Cross-validated AUROC of gradient-boosted trees that separate two tables."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if min(len(a), len(b)) < N_FOLDS:
        return np.nan
    X = np.vstack([a, b])
    y = np.r_[np.zeros(len(a)), np.ones(len(b))]
    support, are_levels = columns_for_trees(X, is_code)
    X = X[:, support]
    trees = HistGradientBoostingClassifier(
        min_samples_leaf=min(20, max(1, len(X) // 10)),  # few rows would stay in one leaf
        categorical_features=are_levels,
        random_state=rng.randint(2**31 - 1),
    )
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=rng.randint(2**31 - 1))
    scores = cross_val_predict(trees, X, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, scores))


def column_distance(a: NDArray[Any], b: NDArray[Any], is_code: NDArray[np.bool_]) -> float:
    """Mean over columns of the Kolmogorov-Smirnov or total variation distance.

    Missing cells count as a value below all others.
    """
    distances = []
    a, b = (np.where(np.isnan(rows), -np.inf, rows) for rows in (a, b))
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


def correlation_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean absolute difference of the columns' rank correlations."""
    if a.shape[1] < 2:
        return np.nan
    pairs = np.triu_indices(a.shape[1], 1)
    return float(np.abs(_rank_correlations(a) - _rank_correlations(b))[pairs].mean())


def zero_share_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean absolute difference of the columns' shares of zeros."""
    if a.shape[1] == 0:
        return np.nan
    return float(np.abs((a == 0).mean(axis=0) - (b == 0).mean(axis=0)).mean())


def record_distances(
    new: NDArray[Any], held_out: NDArray[Any], train: NDArray[Any], is_code: NDArray[np.bool_]
) -> tuple[float, float]:
    """New rows against held-out ones, both by their closest training rows.

    Returns the ratio of their median distances, and the difference of their shares of copies.
    """
    from sklearn.neighbors import NearestNeighbors

    embed = _Embedding(train, is_code)
    closest = NearestNeighbors(n_neighbors=1).fit(embed(train))
    to_new, to_held_out = (closest.kneighbors(embed(rows))[0][:, 0] for rows in (new, held_out))
    median = np.median(to_held_out)
    ratio = float(np.median(to_new) / median) if median > 0 else np.nan
    train_rows = {row.tobytes() for row in train}
    copies = [np.mean([row.tobytes() in train_rows for row in rows]) for rows in (new, held_out)]
    return ratio, float(copies[0] - copies[1])


class _Embedding:
    """Rows as points: standardised numbers, indicators of levels and of missing cells."""

    def __init__(self, train: NDArray[Any], is_code: NDArray[np.bool_]) -> None:
        self.is_code = is_code
        moments = column_moments(train)
        self.mean, deviation = moments.mean, moments.deviation
        self.scale = np.where(deviation > 0, deviation, 1.0)
        self.levels = [np.unique(train[~np.isnan(train[:, j]), j]) for j in np.flatnonzero(is_code)]

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        missing = np.isnan(rows)
        numbers = np.nan_to_num((rows - self.mean) / self.scale)[:, ~self.is_code]
        codes = rows[:, self.is_code]
        # Two rows with different levels are at distance one.
        indicators = [
            np.sqrt(0.5) * (codes[:, [i]] == levels) for i, levels in enumerate(self.levels)
        ]
        return np.hstack([numbers, missing, *indicators])


def _rank_correlations(X: NDArray[Any]) -> NDArray[Any]:
    import pandas as pd

    # The correlations of a constant column count as zero.
    return np.nan_to_num(pd.DataFrame(X).corr(method="spearman").to_numpy())


def _subsample(
    rows: NDArray[Any], rng: np.random.RandomState, at_most: int = MAX_ROWS
) -> NDArray[Any]:
    if len(rows) <= at_most:
        return rows
    return rows[np.sort(rng.choice(len(rows), at_most, replace=False))]
