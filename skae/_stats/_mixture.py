"""Fit a mixture of normal distributions to rows that are normal distributions themselves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from sklearn.exceptions import ConvergenceWarning

# Largest number of iterations, and the gain in nats per row below which they end.
MAX_ROUNDS, LEAST_GAIN = 20, 1e-3
# Added to variances, so that rows without variance do not make a component singular.
LEAST_VARIANCE = 1e-4


def fit_mixture(
    means: NDArray[Any], variances: NDArray[Any], n_components: int, rng: np.random.RandomState
) -> Any:
    """Fit a mixture to the average of normal distributions, without drawing from them.

    For rows N(m_i, V_i) it maximises a lower bound of the mean of E[log p(z)], z ~ N(m_i, V_i),
    by expectation-maximisation in which all z of a row share the responsibilities r_ik of
    components k with weights a_k [1]_::

        r_ik ~ a_k N(m_i; mean_k, S_k) exp(-tr(inv(S_k) V_i) / 2)
        mean_k = sum_i r_ik m_i / sum_i r_ik
        S_k = sum_i r_ik ((m_i - mean_k) (m_i - mean_k)^T + V_i) / sum_i r_ik

    The variances of rows thus widen the components. In extreme deconvolution (Bovy, Hogg &
    Roweis, 2011) they are measurement error, and are removed.

    Parameters
    ----------
    means, variances : ndarray of shape (n_samples, n_features)
        Of normal distributions without correlations.
    n_components : int
    rng : numpy.random.RandomState

    Returns
    -------
    mixture : sklearn.mixture.GaussianMixture
        Fitted, with full covariances.

    References
    ----------
    .. [1] Vasconcelos & Lippman, "Learning mixture hierarchies", NIPS 11, 1998.
    """
    from sklearn import config_context
    from sklearn.cluster import KMeans

    means, variances = means.astype(np.float32), variances.astype(np.float32)
    seed = rng.randint(2**31 - 1)
    k_means = KMeans(n_components, n_init=1, max_iter=10, random_state=seed)
    # KMeans of scikit-learn 1.6 fails with dispatch.
    with config_context(array_api_dispatch=False), warnings.catch_warnings():
        # Rows that differ by a rounding can share a cluster: components without rows do no harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = k_means.fit_predict(means)
    shares = np.zeros((n_components, len(means)), dtype=np.float32)
    shares[clusters, np.arange(len(means))] = 1.0
    best = -np.inf
    for _ in range(MAX_ROUNDS):
        parameters = _maximise(means, variances, shares)
        shares, fit = _expect(means, variances, *parameters)
        if fit - best < LEAST_GAIN:
            break
        best = fit
    return _as_mixture(*parameters, seed)


def join_mixtures(mixtures: list[Any], shares: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
    """The mixture of several mixtures, and the weights of its components in each of them."""
    weights = np.zeros((len(mixtures), sum(len(m.weights_) for m in mixtures)))
    first = 0
    for row, mixture in zip(weights, mixtures, strict=True):
        row[first : first + len(mixture.weights_)] = mixture.weights_
        first += len(mixture.weights_)
    centres, covariances, whitening = (
        np.concatenate([getattr(mixture, name) for mixture in mixtures])
        for name in ("means_", "covariances_", "precisions_cholesky_")
    )
    seed = mixtures[0].random_state
    return _as_mixture(shares @ weights, centres, covariances, whitening, seed), weights


def _maximise(
    means: NDArray[Any], variances: NDArray[Any], shares: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weights, means, covariances and whitening matrices, given the responsibilities `shares`."""
    mass = shares.sum(axis=1) + 1e-6
    centres = (shares @ means) / mass[:, None]
    off = means - centres[:, None]
    covariances = np.matmul((off * shares[..., None]).transpose(0, 2, 1), off)
    covariances = (covariances / mass[:, None, None]).astype(np.float64)
    diagonal = np.arange(means.shape[1])
    covariances[:, diagonal, diagonal] += (shares @ variances) / mass[:, None] + LEAST_VARIANCE
    whitening = np.stack([_whitening(covariance) for covariance in covariances])
    return mass / mass.sum(), centres, covariances, whitening


def _expect(
    means: NDArray[Any],
    variances: NDArray[Any],
    weights: NDArray[Any],
    centres: NDArray[Any],
    covariances: NDArray[Any],
    whitening: NDArray[Any],
) -> tuple[NDArray[Any], float]:
    """Responsibilities of the components for each row, and the mean of the bound over rows.

    With W W^T = inv(S) the trace term is ``tr(inv(S) V) = sum_j V_jj sum_l W_jl^2``, for V
    without correlations. The constant of the normal density is left out.

    ``MixturePrior`` of skae/_engine/_variational_net.py evaluates the same density for points.
    """
    white = np.matmul(means - centres[:, None], whitening.astype(np.float32))
    traces = np.square(whitening).sum(axis=2).astype(np.float32) @ variances.T
    log_volumes = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
    constants = (np.log(weights) + log_volumes).astype(np.float32)
    log_joint = constants[:, None] - 0.5 * (np.square(white).sum(axis=2) + traces)
    highest = log_joint.max(axis=0)
    shares = np.exp(log_joint - highest)
    total = shares.sum(axis=0)
    return shares / total, float(np.mean(highest + np.log(total)))


def _whitening(covariance: NDArray[Any]) -> NDArray[Any]:
    """The upper triangular W with ``inv(covariance) = W @ W.T``."""
    root = np.linalg.cholesky(covariance)
    return solve_triangular(root, np.eye(len(root)), lower=True).T


def _as_mixture(
    weights: NDArray[Any],
    centres: NDArray[Any],
    covariances: NDArray[Any],
    whitening: NDArray[Any],
    seed: int,
) -> Any:
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(len(weights), random_state=seed)
    mixture.weights_ = (weights / weights.sum(dtype=np.float64)).astype(np.float64)
    mixture.means_ = centres.astype(np.float64)
    mixture.covariances_ = covariances
    mixture.precisions_cholesky_ = whitening
    mixture.precisions_ = np.matmul(whitening, whitening.transpose(0, 2, 1))
    mixture.n_features_in_ = centres.shape[1]
    mixture.converged_ = True
    return mixture
