"""What a nonlinear map could add to principal component analysis, told without training one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import expit, ndtri

# Share of the variance that is rounding, and share of PCA's error that is saved for sure.
NEGLIGIBLE, SURE_SHARE = 1e-10, 0.2
# Rows from which independence can be seen, and columns from which codes that fill space are rare:
# of three normal columns, a curve saves a third of what their first axis leaves.
MIN_ROWS, MIN_COLUMNS = 150, 12
N_FOLDS = 3
# Random features of a regression, the deviation of their weights and the ridge penalties that
# are tried, relative to the mean square of the features.
N_FEATURES, FEATURE_SCALE = 128, 1.5
RIDGES = (1e-3, 1e-2, 0.1)
# Coordinates looked at for dependence, and random halves of the latents among them.
MAX_COORDINATES, N_HALVES = 32, 2
# A coordinate depends on others if regression explains this share of its variance on held-out
# rows, and the mean product of prediction and target is so many standard errors above zero.
LEAST_GAIN, LEAST_T = 0.03, 5.0


def prospect_of(
    coordinates: NDArray[Any],
    weight: NDArray[Any],
    n_latents: int,
    squares: NDArray[Any],
    seed: int,
) -> str:
    """Whether rows are such that a network beats PCA with as many latents.

    Parameters
    ----------
    coordinates : ndarray of shape (n, m)
        Leading principal coordinates.
    weight : ndarray of shape (n,)
    n_latents : int
    squares : ndarray of shape (n,)
        Squared norms of the centred rows: what coordinates that are not given hold, too.
    seed : int

    Returns
    -------
    prospect : {"linear", "poor", "open", "nonlinear"}
        "linear" if nothing but PCA can be learned, "poor" if only codes that fill space could be
        better, as of normal rows, "nonlinear" if a network is sure to be better, else "open".
    """
    n_rows = np.count_nonzero(weight)
    weight = weight / weight.max()  # squares of weights stay finite
    total = np.average(squares, weights=weight)
    held = np.average(np.square(coordinates), axis=0, weights=weight)
    if total - held[:n_latents].sum() <= NEGLIGIBLE * total:
        return "linear"
    unseen = max(total - held.sum(), 0.0)
    latents, residuals = coordinates[:, :n_latents], coordinates[:, n_latents:]
    if residuals.size and share_predicted(latents, residuals, weight, unseen, seed) >= SURE_SHARE:
        return "nonlinear"
    is_enough = n_rows >= MIN_ROWS and coordinates.shape[1] >= MIN_COLUMNS
    if is_enough and are_independent(coordinates, n_latents, weight, seed):
        return "poor"
    return "open"


def share_predicted(
    latents: NDArray[Any], residuals: NDArray[Any], weight: NDArray[Any], unseen: float, seed: int
) -> float:
    """Share of PCA's squared error that a nonlinear decoder of the same latents would save.

    Ridge regression of the residuals on random features of the latents [1]_, judged by
    cross-validation: a lower bound on what a trained decoder saves.

    Parameters
    ----------
    latents : ndarray of shape (n, n_latents)
    residuals : ndarray of shape (n, m)
        Principal coordinates that the latents leave out.
    weight : ndarray of shape (n,)
    unseen : float
        Mean square of what neither of them holds.
    seed : int

    References
    ----------
    .. [1] A. Rahimi, B. Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
    """
    total = weight @ np.square(residuals).sum(axis=1) + weight.sum() * unseen
    best = max(
        weight @ (np.square(residuals) - np.square(residuals - predicted)).sum(axis=1)
        for predicted in _cross_predictions(latents, residuals, weight, seed)
    )
    return float(best / total) if total > 0 else 0.0


def are_independent(
    coordinates: NDArray[Any], n_latents: int, weight: NDArray[Any], seed: int
) -> bool:
    """Whether no principal coordinate tells of another, as far as regressions can see.

    Of rows that are a rotation of independent coordinates, normal ones for example, there is hardly
    more to learn than principal directions. Coordinates are taken as normal
    scores, so that tails do not matter. Random features of some of them predict the others and
    their squares: latents predict residuals, and one half of the latents the other half.
    """
    n_coordinates = coordinates.shape[1]
    scores = _normal_scores(coordinates[:, :MAX_COORDINATES], weight)
    n_latents = min(n_latents, scores.shape[1])
    rng = np.random.RandomState(seed)
    halves = [np.arange(n_coordinates)[:MAX_COORDINATES] < n_latents]
    for _ in range(N_HALVES if n_latents > 1 else 0):
        half = np.zeros(scores.shape[1], dtype=bool)
        half[rng.permutation(n_latents)[: n_latents // 2]] = True
        halves.append(half)
    for half in halves:
        if half.all() or not half.any():
            continue
        targets = np.hstack([scores[:, ~half], np.square(scores[:, ~half])])
        targets = _standardised(targets, weight)
        for predicted in _cross_predictions(scores[:, half], targets, weight, seed):
            if _is_real(predicted, targets, weight):
                return False
    return True


def _is_real(predicted: NDArray[Any], targets: NDArray[Any], weight: NDArray[Any]) -> bool:
    """Whether predictions of any target, shrunk by the best factor, explain it beyond chance."""
    products = weight[:, None] * predicted * targets
    squares, total = weight @ np.square(predicted), weight @ np.square(targets)
    mean, error = products.mean(axis=0), products.std(axis=0) / np.sqrt(len(products))
    gain = np.square(products.sum(axis=0)) / np.maximum(squares * total, np.finfo(float).tiny)
    return bool(np.any((mean > LEAST_T * error) & (gain >= LEAST_GAIN)))


def _normal_scores(values: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Normal quantiles of the share of the weight below each value of a column."""
    scores = np.empty_like(values)
    unit = weight.sum() / np.count_nonzero(weight)
    for column, target in zip(values.T, scores.T, strict=True):
        _, places = np.unique(column, return_inverse=True)
        here = np.bincount(places, weights=weight)
        # With equal weights, mean ranks over the number of rows and one.
        share = (np.cumsum(here) - here / 2 + unit / 2) / (weight.sum() + unit)
        target[:] = ndtri(share)[places]
    return scores


def _standardised(values: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    centred = values - np.average(values, axis=0, weights=weight)
    deviation = np.sqrt(np.average(np.square(centred), axis=0, weights=weight))
    return centred / np.where(deviation > 0, deviation, 1.0)


def _cross_predictions(
    inputs: NDArray[Any], targets: NDArray[Any], weight: NDArray[Any], seed: int
) -> Iterator[NDArray[Any]]:
    """Out-of-fold predictions of ridge regression on random features, for each penalty."""
    rng = np.random.RandomState(seed)
    features = _random_features(_standardised(inputs, weight), rng)
    folds = np.array_split(rng.permutation(len(inputs)), N_FOLDS)
    predictions = [np.empty_like(targets) for _ in RIDGES]
    parts = [_moments(features[fold], targets[fold], weight[fold]) for fold in folds]
    gram, moment = (sum(part) for part in zip(*parts, strict=True))
    for fold, (fold_gram, fold_moment) in zip(folds, parts, strict=True):
        # One decomposition serves all penalties.
        values, vectors = eigh(gram - fold_gram)
        coefficients = vectors.T @ (moment - fold_moment)
        rotated = features[fold] @ vectors
        for ridge, predicted in zip(RIDGES, predictions, strict=True):
            penalty = ridge * max(values.mean(), np.finfo(float).tiny)
            shrunk = coefficients / (np.maximum(values, 0.0) + penalty)[:, None]
            predicted[fold] = rotated @ shrunk
    yield from predictions


def _moments(
    features: NDArray[Any], targets: NDArray[Any], weight: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    weighted = features * weight[:, None]
    return weighted.T @ features, weighted.T @ targets


def _random_features(inputs: NDArray[Any], rng: np.random.RandomState) -> NDArray[Any]:
    """SiLU of random directions, the inputs and a constant."""
    n_inputs = inputs.shape[1]
    slopes = FEATURE_SCALE * rng.normal(size=(n_inputs, N_FEATURES)) / np.sqrt(n_inputs)
    hidden = inputs @ slopes + rng.normal(size=N_FEATURES)
    return np.hstack([hidden * expit(hidden), inputs, np.ones((len(inputs), 1))])
