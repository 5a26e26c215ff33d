"""The best linear answer: principal directions of scaled rows."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import eigh, solve
from sklearn.utils.extmath import randomized_svd

# Above this size of the smaller of (rows, columns), an exact eigendecomposition
# costs more than the network's own training.
MAX_EXACT_SIZE = 1500
# Latents that vary less than this share of the first are not scaled up to it.
LEAST_SCALE = 1e-2
# Penalties tried in the regression on noisy rows, relative to their mean variance, and how
# many blocks of rows there are to one that chooses.
RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
N_HELD_OUT = 4
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
    readers : ndarray of shape (n_directions, n_inputs)
        What the coordinates are read with: the directions, or, where the rows that are
        read differ from those that are written, the regression of one on the other.
    scales : ndarray of shape (n_directions,)
        What coordinates are divided by to give latents: by default one number for all,
        the largest standard deviation.
    column_variances : ndarray of shape (n_features,)
        Of each column of the rows that are read, where they are known.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    total_variance: float
    input_mean: np.ndarray = None
    projection: np.ndarray = None
    scales: np.ndarray = None
    column_variances: np.ndarray = None

    def __post_init__(self):
        if self.projection is None:
            self.input_mean, self.projection = self.mean, self.directions
        if self.scales is None:
            self.scales = np.full(len(self.directions), self.scale)

    def whitened(self):
        """The same, with latents of variance one (but those that hardly vary)."""
        deviations = np.sqrt(self.variances)
        return replace(self, scales=np.maximum(deviations, LEAST_SCALE * self.scale))

    def with_more_inputs(self, n_more):
        """The same, for rows followed by so many columns that are not read."""
        return replace(
            self,
            input_mean=np.concatenate([self.input_mean, np.zeros(n_more)]),
            projection=np.hstack([self.projection, np.zeros((len(self.projection), n_more))]),
        )

    @property
    def scale(self):
        """The largest standard deviation."""
        return float(np.sqrt(self.variances[0])) if self.variances[0] > 0 else 1.0

    def n_directions_for(self, share):
        """How many directions explain this share of the variance (all if too few do)."""
        enough = np.flatnonzero(np.cumsum(self.variances) >= share * self.total_variance)
        return int(enough[0]) + 1 if len(enough) else len(self.variances)

    def residual_deviation(self, n_components):
        """Root mean square per cell of what the first directions leave unexplained."""
        left = self.total_variance - self.variances[:n_components].sum()
        return float(np.sqrt(max(left, 0.0) / len(self.mean)))


@dataclass
class ProbabilisticPCA:
    """A normal latent model of rows [1]_: how latents are read, and what is written.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    readers : ndarray of shape (n_latents, n_features)
        Posterior mean of the latents, per centred cell.
    log_variances : ndarray of shape (n_latents,)
        Of the posterior, in nats.
    writers : ndarray of shape (n_latents, n_features)
        Mean of the cells, centred, per latent.
    deviations : ndarray of shape (n_features,)
        Standard deviation of what the latents leave unexplained.
    n_conditions : int
        Columns that are read beside the latents, and are not used.

    References
    ----------
    .. [1] Tipping & Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999.
    """

    mean: np.ndarray
    projection: np.ndarray
    log_variances: np.ndarray
    writers: np.ndarray
    deviations: np.ndarray
    n_conditions: int = 0

    @classmethod
    def of(cls, pca, n_latents, n_directions, n_conditions=0):
        """The model with so many latents, for rows that vary in `n_directions`."""
        n_kept = min(n_latents, len(pca.variances))
        variances = pca.variances[:n_kept]
        left = max(pca.total_variance - variances.sum(), 0.0) / max(n_directions - n_kept, 1)
        # Where every direction is kept, the last one counts as noise in good part.
        noise = max(left, LEAST_NOISE * pca.total_variance / n_directions, 1e-12)
        variances = np.maximum(variances, noise)
        gains = np.sqrt(variances - noise)
        projection, writers = np.zeros((2, n_latents, len(pca.mean)))
        writers[:n_kept] = gains[:, None] * pca.directions[:n_kept]
        projection[:n_kept] = (gains / variances)[:, None] * pca.directions[:n_kept]
        log_variances = np.zeros(n_latents)
        log_variances[:n_kept] = np.log(noise / variances)
        unexplained = pca.column_variances - np.square(writers).sum(axis=0)
        deviations = np.sqrt(np.maximum(unexplained, 0.0))
        return cls(pca.mean, projection, log_variances, writers, deviations, n_conditions)


def fit_pca(X, n_components, sample_weight=None, random_state=None):
    """Find the leading principal directions of dense rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_components : int
        At most ``min(n_samples, n_features)`` directions are returned.
    sample_weight : ndarray of shape (n_samples,), default=None
    random_state : int or RandomState, default=None
        Used by the randomised solver, which serves where both dimensions are large.

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
        # Centring costs one rank: what is left of that direction is rounding.
        kept = variances > np.finfo(dtype).eps * n_rows * max(variances[0], 0.0)
        kept[0] = True
        variances = variances[kept]
        directions = np.linalg.qr(rows.T @ vectors[:, kept])[0].T
        n_directions = len(directions)
    signs = np.sign(directions[np.arange(n_directions), np.abs(directions).argmax(axis=1)])
    return FittedPCA(
        mean,
        directions * signs[:, None],
        np.maximum(variances, 0.0),
        float(column_variances.sum()),
        column_variances=column_variances,
    )


def fit_reduced_rank(blocks, n_components):
    """Find the best linear map from noisy rows to clean ones through few coordinates.

    Reduced-rank regression (Izenman, 1975): ridge regression, then the principal
    directions of what it predicts.

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
        # The penalty that serves rows best that did not choose the slopes.
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
    """Sums of products of noisy and clean rows."""

    n_inputs: int
    total: float
    products: np.ndarray

    @classmethod
    def of(cls, noisy, clean, weight):
        rows = np.hstack([noisy, clean, np.ones_like(noisy[:, :1])])
        # float32 products are twice as fast; rows are scaled, so few digits are lost.
        weighted = rows * weight[:, None].astype(rows.dtype)
        return cls(noisy.shape[1], weight.sum(), (weighted.T @ rows).astype(np.float64))

    def __add__(self, other):
        return _Moments(self.n_inputs, self.total + other.total, self.products + other.products)

    def __sub__(self, other):
        return _Moments(self.n_inputs, self.total - other.total, self.products - other.products)

    @cached_property
    def means(self):
        return self.products[-1, :-1] / self.total

    @cached_property
    def covariance(self):
        return self.products[:-1, :-1] / self.total - np.outer(self.means, self.means)

    @property
    def input_mean(self):
        return self.means[: self.n_inputs]

    @property
    def mean(self):
        return self.means[self.n_inputs :]

    @property
    def gram(self):
        return self.covariance[: self.n_inputs, : self.n_inputs]

    @property
    def moment(self):
        return self.covariance[: self.n_inputs, self.n_inputs :]

    @property
    def target(self):
        return self.covariance[self.n_inputs :, self.n_inputs :]

    def slopes(self, ridge):
        """Of the regression with a penalty relative to the inputs' mean variance."""
        variance = self.gram.trace() / self.n_inputs
        penalty = ridge * variance if variance > 0 else 1.0
        penalised = self.gram + penalty * np.eye(self.n_inputs)
        return solve(penalised, self.moment, assume_a="pos")

    def error(self, slopes):
        """Mean squared error of such slopes on these rows, but for a constant."""
        return float(np.sum(slopes * (self.gram @ slopes - 2 * self.moment)))


def _leading_eigenpairs(matrix, n_pairs):
    size = len(matrix)
    values, vectors = eigh(matrix.astype(np.float64), subset_by_index=(size - n_pairs, size - 1))
    return values[::-1], vectors[:, ::-1]
