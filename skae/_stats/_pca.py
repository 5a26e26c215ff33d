"""Principal component analysis and its relatives, which networks start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve
from sklearn.utils.extmath import randomized_svd

# Where both rows and columns are more than these, an exact eigendecomposition costs more
# than the training of the network.
MAX_EXACT_SIZE = 1500
# Whitening divides by no less than this share of the largest standard deviation.
LEAST_SCALE = 1e-2
# Candidates for the ridge penalty, relative to the mean variance of the inputs; one of this
# many blocks of rows is held out to choose among them.
RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
N_HELD_OUT = 4
# Rounds in which missing cells are filled by principal components of the last round.
FILLING_ROUNDS = 10
# Least variance of the noise of a latent model, as a share of the mean variance.
LEAST_NOISE = 0.05


@dataclass
class FittedPCA:
    """Mean, leading directions and their variances.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    directions : ndarray of shape (n_directions, n_features)
        Orthonormal rows, in order of falling variance; signs are fixed.
    variances : ndarray of shape (n_directions,)
    total_variance : float
        Sum over all directions, those not computed included.
    input_mean : ndarray of shape (n_inputs,)
        Mean of the rows that are projected, which differ from the output in a regression.
    projection : ndarray of shape (n_directions, n_inputs)
        Maps centred inputs to coordinates: the directions or, in a regression, its
        coefficients.
    scales : ndarray of shape (n_directions,)
        Latents are coordinates divided by these: by default one number for all, the largest
        standard deviation.
    column_variances : ndarray of shape (n_features,)
        Variance of each column, or None in a regression.
    """

    mean: NDArray[Any]
    directions: NDArray[Any]
    variances: NDArray[Any]
    total_variance: float
    # Set after construction; only `column_variances` may stay None.
    input_mean: NDArray[Any] = None  # type: ignore[assignment]
    projection: NDArray[Any] = None  # type: ignore[assignment]
    scales: NDArray[Any] = None  # type: ignore[assignment]
    column_variances: NDArray[Any] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.projection is None:
            self.input_mean, self.projection = self.mean, self.directions
        if self.scales is None:
            self.scales = np.full(len(self.directions), self.scale)

    def whitened(self) -> FittedPCA:
        """The same with latents of variance one, except those of very small variance."""
        deviations = np.sqrt(self.variances)
        return replace(self, scales=np.maximum(deviations, LEAST_SCALE * self.scale))

    def with_more_inputs(self, n_more: int) -> FittedPCA:
        """The same for inputs followed by so many columns that are ignored."""
        return replace(
            self,
            input_mean=np.concatenate([self.input_mean, np.zeros(n_more)]),
            projection=np.hstack([self.projection, np.zeros((len(self.projection), n_more))]),
        )

    @property
    def scale(self) -> float:
        """The largest standard deviation."""
        return float(np.sqrt(self.variances[0])) if self.variances[0] > 0 else 1.0

    def n_directions_for(self, share: float) -> int:
        """Number of directions that explain this share of the variance, or all of them."""
        enough = np.flatnonzero(np.cumsum(self.variances) >= share * self.total_variance)
        return int(enough[0]) + 1 if len(enough) else len(self.variances)

    def residual_deviation(self, n_components: int) -> float:
        """Root mean square per cell of the residuals of the first directions."""
        unexplained = self.total_variance - self.variances[:n_components].sum()
        return float(np.sqrt(max(unexplained, 0.0) / len(self.mean)))


@dataclass
class ProbabilisticPCA:
    """The normal latent model of probabilistic PCA [1]_, as encoder and decoder.

    With loadings W and latents z ~ N(0, I), rows are x = mean + W z + e. The encoder gives
    the posterior N(projection (x - mean), diag(exp(log_variances))) of z, the decoder the
    distribution N(mean + W z, diag(deviations^2)) of x.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    projection : ndarray of shape (n_latents, n_features)
        Maps centred rows to posterior means of the latents.
    log_variances : ndarray of shape (n_latents,)
        Logarithms of the posterior variances.
    loadings : ndarray of shape (n_latents, n_features)
        The loadings W, transposed.
    deviations : ndarray of shape (n_features,)
        Standard deviation of the residual of each column.
    n_conditions : int
        Number of columns that the decoder reads besides the latents; their loadings are zero.

    References
    ----------
    .. [1] Tipping & Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999.
    """

    mean: NDArray[Any]
    projection: NDArray[Any]
    log_variances: NDArray[Any]
    loadings: NDArray[Any]
    deviations: NDArray[Any]
    n_conditions: int = 0

    @classmethod
    def of(
        cls, pca: FittedPCA, n_latents: int, n_directions: int, n_conditions: int = 0
    ) -> ProbabilisticPCA:
        """The maximum-likelihood model with `n_latents`, for rows that vary in `n_directions`.

        With the principal directions u_k, their variances l_k and the noise variance s, the
        mean of the discarded variances, ::

            W_k = sqrt(l_k - s) u_k
            projection_k = sqrt(l_k - s) / l_k u_k
            exp(log_variances_k) = s / l_k

        Unlike in the model, each column has a deviation of its own: the square root of its
        variance less that of W z. Latents beyond the directions keep their prior N(0, 1).
        """
        n_used = min(n_latents, len(pca.variances))
        variances = pca.variances[:n_used]
        noise = max(pca.total_variance - variances.sum(), 0.0) / max(n_directions - n_used, 1)
        # With all directions nothing would be noise, though the last ones mostly are.
        noise = max(noise, LEAST_NOISE * pca.total_variance / n_directions, 1e-12)
        variances = np.maximum(variances, noise)
        gains = np.sqrt(variances - noise)
        projection, loadings = np.zeros((2, n_latents, len(pca.mean)))
        loadings[:n_used] = gains[:, None] * pca.directions[:n_used]
        projection[:n_used] = (gains / variances)[:, None] * pca.directions[:n_used]
        log_variances = np.zeros(n_latents)
        log_variances[:n_used] = np.log(noise / variances)
        unexplained = pca.column_variances - np.square(loadings).sum(axis=0)
        deviations = np.sqrt(np.maximum(unexplained, 0.0))
        return cls(pca.mean, projection, log_variances, loadings, deviations, n_conditions)


def fit_pca(
    X: NDArray[Any],
    n_components: int,
    sample_weight: NDArray[Any] | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> FittedPCA:
    """Find the leading principal directions of dense rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_components : int
        At most ``min(n_samples, n_features)`` directions are returned.
    sample_weight : ndarray of shape (n_samples,), default=None
    random_state : int or RandomState, default=None
        Used by the randomised solver, where both dimensions are large.

    Returns
    -------
    pca : FittedPCA
    """
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    weight = weight / weight.sum()
    mean = weight @ X
    # float32 products are twice as fast; small problems keep every digit.
    dtype = np.float64 if X.size * min(X.shape) < 10**9 else np.float32
    rows = (X - mean).astype(dtype) * np.sqrt(weight)[:, None].astype(dtype)
    column_variances = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    n_rows, n_features = rows.shape
    n_directions = min(n_components, n_rows, n_features)
    if min(n_rows, n_features) > MAX_EXACT_SIZE and n_directions < 0.2 * min(rows.shape):
        _, singular, directions = randomized_svd(rows, n_directions, random_state=random_state)
        variances = singular.astype(np.float64) ** 2
    elif n_features <= n_rows:
        variances, vectors = _leading_eigenpairs(rows.T @ rows, n_directions)
        directions = vectors.T
    else:
        variances, vectors = _leading_eigenpairs(rows @ rows.T, n_directions)
        # Centring reduces the rank by one; the variance of that direction is a rounding error.
        is_nonzero = variances > np.finfo(dtype).eps * n_rows * max(variances[0], 0.0)
        is_nonzero[0] = True
        variances = variances[is_nonzero]
        directions = np.linalg.qr(rows.T @ vectors[:, is_nonzero])[0].T
        n_directions = len(directions)
    signs = np.sign(directions[np.arange(n_directions), np.abs(directions).argmax(axis=1)])
    return FittedPCA(
        mean,
        directions * signs[:, None],
        np.maximum(variances, 0.0),
        float(column_variances.sum()),
        column_variances=column_variances,
    )


def fit_pca_with_gaps(
    X: NDArray[Any],
    n_components: int,
    n_filled_by: int,
    sample_weight: NDArray[Any] | None = None,
    random_state: int | None = None,
) -> FittedPCA:
    """Find the leading principal directions of rows with missing cells.

    Regularised iterative PCA [1]_: cells are filled with zero, the centre of the scaling, and then
    by turns with the reconstructions from `n_filled_by` components. These have the variances l_k,
    and their scores are multiplied by ``(l_k - s) / l_k``, with the mean s of the others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        NaN is a missing cell.
    n_components, sample_weight, random_state
        As in ``fit_pca``.

    References
    ----------
    .. [1] Josse & Husson, "Handling missing values in exploratory multivariate data analysis
       methods", Journal de la SFdS 153, 2012.
    """
    missing = np.isnan(X)
    filled = np.nan_to_num(X)
    for _ in range(FILLING_ROUNDS):
        pca = fit_pca(filled, n_filled_by, sample_weight, random_state)
        n_others = max(X.shape[1] - len(pca.variances), 1)
        noise = max(pca.total_variance - pca.variances.sum(), 0.0) / n_others
        gains = np.maximum(1.0 - noise / np.maximum(pca.variances, 1e-12), 0.0)
        scores = (filled - pca.mean) @ pca.directions.T
        filled = np.where(missing, pca.mean + (gains * scores) @ pca.directions, filled)
    return fit_pca(filled, n_components, sample_weight, random_state)


def fit_reduced_rank(blocks: Iterable[tuple[NDArray[Any], ...]], n_components: int) -> FittedPCA:
    """Find the best linear map from noisy rows to clean ones through few coordinates.

    Reduced-rank regression (Izenman, 1975) with a ridge penalty (Mukherjee & Zhu, 2011): with
    the covariances S_xx and S_xy of noisy rows x and clean rows y and the penalty c, ::

        B = inv(S_xx + c I) S_xy
        V = leading eigenvectors of S_yx B
        y ~ mean_y + V V^T B^T (x - mean_x)

    V are the directions, ``(B V)^T`` is the projection. The penalty is the one with the least
    error in held-out blocks.

    Parameters
    ----------
    blocks : iterable of (noisy, clean, weight)
        Arrays of shape (n_samples, n_inputs), (n_samples, n_features) and (n_samples,).
    n_components : int

    Returns
    -------
    pca : FittedPCA
    """
    parts = [_Moments.of(*block) for block in blocks]
    everything = sum(parts[1:], start=parts[0])
    held_out = sum(parts[N_HELD_OUT::N_HELD_OUT], start=parts[0])
    ridge = RIDGES[0]
    if len(parts) > 1:
        rest = everything - held_out
        ridge = min(RIDGES, key=lambda r: held_out.error(rest.slopes(r)))
    slopes = everything.slopes(ridge)
    predicted = everything.moment.T @ slopes
    n_directions = min(n_components, *slopes.shape)
    variances, vectors = _leading_eigenpairs((predicted + predicted.T) / 2, n_directions)
    return FittedPCA(
        everything.mean,
        vectors.T,
        np.maximum(variances, 0.0),
        float(everything.target.trace()),
        everything.input_mean,
        (slopes @ vectors).T,
    )


@dataclass
class _Moments:
    """Weighted sums of products of noisy and clean rows; blocks are added and subtracted."""

    n_inputs: int
    total: float
    products: NDArray[Any]

    @classmethod
    def of(cls, noisy: NDArray[Any], clean: NDArray[Any], weight: NDArray[Any]) -> _Moments:
        rows = np.hstack([noisy, clean, np.ones_like(noisy[:, :1])])
        # float32 products are twice as fast; rows are scaled, so few digits are lost.
        weighted = rows * weight[:, None].astype(rows.dtype)
        return cls(noisy.shape[1], weight.sum(), (weighted.T @ rows).astype(np.float64))

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.n_inputs, self.total + other.total, self.products + other.products)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.n_inputs, self.total - other.total, self.products - other.products)

    @cached_property
    def means(self) -> NDArray[Any]:
        return self.products[-1, :-1] / self.total

    @cached_property
    def covariance(self) -> NDArray[Any]:
        return self.products[:-1, :-1] / self.total - np.outer(self.means, self.means)

    @property
    def input_mean(self) -> NDArray[Any]:
        return self.means[: self.n_inputs]

    @property
    def mean(self) -> NDArray[Any]:
        return self.means[self.n_inputs :]

    @property
    def gram(self) -> NDArray[Any]:
        return self.covariance[: self.n_inputs, : self.n_inputs]

    @property
    def moment(self) -> NDArray[Any]:
        return self.covariance[: self.n_inputs, self.n_inputs :]

    @property
    def target(self) -> NDArray[Any]:
        return self.covariance[self.n_inputs :, self.n_inputs :]

    def slopes(self, ridge: float) -> NDArray[Any]:
        """Coefficients of the ridge regression; `ridge` is relative to the mean variance."""
        variance = self.gram.trace() / self.n_inputs
        penalty = ridge * variance if variance > 0 else 1.0
        penalised = self.gram + penalty * np.eye(self.n_inputs)
        return solve(penalised, self.moment, assume_a="pos")

    def error(self, slopes: NDArray[Any]) -> float:
        """Mean squared error of coefficients on these rows, up to a constant."""
        return float(np.sum(slopes * (self.gram @ slopes - 2 * self.moment)))


def _leading_eigenpairs(matrix: NDArray[Any], n_pairs: int) -> tuple[NDArray[Any], NDArray[Any]]:
    size = len(matrix)
    values, vectors = eigh(matrix.astype(np.float64), subset_by_index=(size - n_pairs, size - 1))
    return values[::-1], vectors[:, ::-1]
