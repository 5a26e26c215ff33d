"""Normal distributions fitted to rows with missing cells, and their conditional means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._stats._pca import fit_pca

# Iterations of expectation-maximisation.
N_ROUNDS = 8
# Shrinkage of correlations in each iteration, and the ridge on their diagonal: both keep
# matrices invertible.
ROUND_SHRINKAGE = 0.005
FLOOR = 1e-6
# Variances below this share of the largest squared value are rounding errors of constants.
ROUNDING = 1e-20
# So are smaller variances of scaled rows: their inverses would overflow in float32.
LEAST_VARIANCE = 1e-30
# Candidates for the shrinkage of the result: few rows do not estimate many covariances well.
SHRINKAGES = (0.0, 0.05, 0.2, 0.4, 0.7, 1.0)
# Cells of the linear systems that are in memory at once.
MAX_CELLS_AT_ONCE = 2**23
# Above this many columns, the covariance is that of a model with this many factors.
MAX_EXACT_COLUMNS = 256
N_FACTORS = 32
N_FACTOR_ROUNDS = 4


def fit_gaussian(
    X: NDArray[Any], sample_weight: NDArray[Any] | None = None, shrinkage: float = 0.0
) -> Gaussian | FactorGaussian:
    """Fit dense float rows `X`, NaN where a cell is missing; wide rows by factors."""
    if X.shape[1] > MAX_EXACT_COLUMNS:
        return FactorGaussian(shrinkage).fit(X, sample_weight)
    return Gaussian(shrinkage).fit(X, sample_weight)


class Gaussian:
    """Multivariate normal distribution, fitted to rows with missing cells.

    Expectation-maximisation (Dempster, Laird & Rubin, 1977; for this model Little & Rubin,
    2002, section 11.2). With weights w of sum one, the rows x filled by their conditional
    means and C_i the conditional covariance of the cells that row i misses, each iteration
    sets ::

        mean = sum_i w_i x_i
        covariance = sum_i w_i ((x_i - mean) (x_i - mean)^T + C_i)

    and shrinks its correlations a little. Rows that miss the same cells share one inverse.

    Parameters
    ----------
    shrinkage : float
        Share by which correlations are reduced after the last iteration.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
    covariance_, precision_ : ndarray of shape (n_features, n_features)
        Inverse of each other.
    """

    def __init__(self, shrinkage: float = 0.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Gaussian:
        """Fit dense float rows `X`, NaN where a cell is missing."""
        missing = np.isnan(X)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        weight = weight / weight.sum()
        self.mean_, variances = _observed_moments(X, missing, weight)
        largest = np.square(np.nan_to_num(X)).max(axis=0)
        self._varies = variances > np.maximum(ROUNDING * largest, LEAST_VARIANCE)
        self._set_covariance(np.diag(variances), 0.0)
        for _ in range(N_ROUNDS if missing.any() else 1):
            filled = self.fill(X)
            spread = self._mean_conditional_covariance(missing, weight)
            self.mean_ = weight @ filled
            filled -= self.mean_
            covariance = filled.T @ (filled * weight[:, None]) + spread
            self._set_covariance(covariance, ROUND_SHRINKAGE)
        return self.shrunk(self.shrinkage)

    def shrunk(self, shrinkage: float) -> Gaussian:
        """The same distribution with all correlations reduced by a share."""
        other = Gaussian(shrinkage)
        other.mean_, other._varies = self.mean_, self._varies
        other._set_covariance(self.covariance_, shrinkage)
        return other

    def _set_covariance(self, covariance: NDArray[Any], shrinkage: float) -> None:
        variances = covariance.diagonal()
        varies = self._varies
        scales = np.sqrt(np.where(varies, variances, 1.0))
        units = np.outer(scales, scales)
        # Inverted as correlations: columns may differ by orders of magnitude.
        correlation = covariance / units * (1.0 - shrinkage)
        correlation *= np.outer(varies, varies)
        np.fill_diagonal(correlation, varies + FLOOR)
        inverse = np.linalg.inv(correlation)
        self.covariance_ = correlation * units
        self.precision_ = (inverse + inverse.T) / (2 * units)

    def fill(self, X: NDArray[Any]) -> NDArray[Any]:
        """Replace NaN by conditional means given the observed cells of the row.

        With the precision matrix P = inv(covariance), missing cells m and observed cells o,
        the conditional distribution is normal (Bishop, 2006, section 2.3.1) with ::

            mean = mean_m - inv(P_mm) P_mo (x_o - mean_o)
            covariance = inv(P_mm)

        and, with the covariance matrix C, ``mean = mean_m + C_mo inv(C_oo) (x_o - mean_o)``.
        The mean is computed by the smaller of the two systems.
        """
        missing = np.isnan(X)
        if not missing.any():
            return X.copy()
        n_features = X.shape[1]
        centred = np.where(missing, 0.0, X - self.mean_)
        products = (centred @ self.precision_).ravel()  # P_mo (x_o - mean_o) in missing cells
        shifts = np.zeros(X.size)
        weights = np.zeros(X.shape)  # inv(C_oo) (x_o - mean_o)
        for rows, pattern, columns in same_count_groups(missing):
            first_cells = rows[:, None] * n_features
            if 2 * columns.shape[1] <= n_features:
                cells = first_cells + columns[pattern]
                shifts[cells] = _solved(self.precision_, products.take(cells), pattern, columns)
            elif columns.shape[1] < n_features:
                observed = _complement(columns, n_features)
                cells = first_cells + observed[pattern]
                right = centred.ravel().take(cells)
                weights.ravel()[cells] = _solved(self.covariance_, right, pattern, observed)
        shifts = weights @ self.covariance_ - shifts.reshape(X.shape)
        return np.where(missing, self.mean_ + shifts, X)

    def deviations(
        self, X: NDArray[Any], rng: np.random.Generator | np.random.RandomState
    ) -> NDArray[Any]:
        """Draw deviations from the conditional means; zero where X is observed.

        With the Cholesky factor P_mm = L L^T and standard normal e, ``inv(L^T) e`` has the
        conditional covariance inv(P_mm).
        """
        missing = np.isnan(X)
        out = np.zeros(X.shape)
        for rows, pattern, columns in same_count_groups(missing):
            roots = np.linalg.cholesky(_blocks(self.precision_, columns))[pattern]
            noise = rng.standard_normal((len(rows), columns.shape[1], 1))
            draws = np.linalg.solve(roots.transpose(0, 2, 1), noise)
            out[rows[:, None], columns[pattern]] = draws[:, :, 0]
        return out

    def _mean_conditional_covariance(
        self, missing: NDArray[np.bool_], weight: NDArray[Any]
    ) -> NDArray[Any]:
        """The sum over rows of w_i C_i, where C_i is inv(P_mm) in the cells that row i misses.

        Other cells of C_i are zero.
        """
        n_features = len(self.mean_)
        total = np.zeros(n_features**2)
        for rows, pattern, columns in same_count_groups(missing):
            share = np.bincount(pattern, weight[rows], minlength=len(columns))
            parts = np.linalg.inv(_blocks(self.precision_, columns)) * share[:, None, None]
            cells = columns[:, :, None] * n_features + columns[:, None, :]
            total += np.bincount(cells.ravel(), parts.ravel(), minlength=n_features**2)
        return total.reshape(n_features, n_features)


class FactorGaussian:
    """Normal distribution of wide rows: a few factors and equal noise in every column.

    The model of probabilistic principal component analysis (Tipping & Bishop, 1999) with
    loadings W and noise variance s, ::

        x = mean + W f + e,    f ~ N(0, I),    e ~ N(0, s I).

    Rows with missing cells are fitted by turns, as in regularised iterative PCA (Josse &
    Husson, 2012): the maximum-likelihood model of the filled rows, then conditional means
    under this model. A row costs one system of the size of the factors, however many cells it
    misses.

    Parameters
    ----------
    shrinkage : float
        Share of the loadings' variance that becomes noise after the last iteration.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
    loadings_ : ndarray of shape (n_features, n_factors)
    noise_variance_ : float
        The covariance matrix is ``loadings_ @ loadings_.T + noise_variance_ * identity``.
    """

    def __init__(self, shrinkage: float = 0.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> FactorGaussian:
        """Fit dense float rows `X`, NaN where a cell is missing."""
        missing = np.isnan(X)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        mean, _ = _observed_moments(X, missing, weight / weight.sum())
        filled = np.where(missing, mean, X)
        for _ in range(N_FACTOR_ROUNDS if missing.any() else 1):
            pca = fit_pca(filled, N_FACTORS, weight, random_state=0)
            # Maximum likelihood: the noise is the mean of the discarded variances.
            n_discarded = max(X.shape[1] - len(pca.variances), 1)
            noise = max(pca.total_variance - pca.variances.sum(), 0.0) / n_discarded
            self.mean_ = pca.mean
            self.noise_variance_ = noise + FLOOR * max(pca.total_variance / X.shape[1], FLOOR)
            self.loadings_ = (
                pca.directions * np.sqrt(np.maximum(pca.variances - noise, 0.0))[:, None]
            ).T
            filled = self.fill(X)
        return self.shrunk(self.shrinkage)

    def shrunk(self, shrinkage: float) -> FactorGaussian:
        """The same distribution with smaller loadings; the variance they lose becomes noise."""
        other = FactorGaussian(shrinkage)
        lost = shrinkage * np.square(self.loadings_).sum() / len(self.loadings_)
        other.mean_, other.noise_variance_ = self.mean_, self.noise_variance_ + lost
        other.loadings_ = self.loadings_ * np.sqrt(1.0 - shrinkage)
        return other

    def fill(self, X: NDArray[Any]) -> NDArray[Any]:
        """Replace NaN by conditional means, ``mean + W E[f | observed cells]``."""
        filled = np.array(X, dtype=np.float64)
        missing = np.isnan(filled)
        rows = np.flatnonzero(missing.any(axis=1))
        factors, _ = self._factors(filled[rows], missing[rows])
        means = self.mean_ + factors @ self.loadings_.T
        filled[rows] = np.where(missing[rows], means, filled[rows])
        return filled

    def deviations(
        self, X: NDArray[Any], rng: np.random.Generator | np.random.RandomState
    ) -> NDArray[Any]:
        """Draw deviations from the conditional means; zero where X is observed.

        Factors deviate with covariance ``s inv(M)`` (see `_factors`), cells by W times that
        and noise of variance s.
        """
        missing = np.isnan(X)
        _, matrices = self._factors(X, missing)
        noise = rng.standard_normal((*matrices.shape[:2], 1))
        roots = np.linalg.cholesky(matrices).transpose(0, 2, 1)
        factors = np.linalg.solve(roots, noise)[:, :, 0]
        draws = factors @ self.loadings_.T + rng.standard_normal(X.shape)
        return np.where(missing, np.sqrt(self.noise_variance_) * draws, 0.0)

    def _factors(
        self, X: NDArray[Any], missing: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Posterior means of the factors f given observed cells o, and the matrices M.

        With W_o the rows of the loadings of these cells and s the noise variance, ::

            f | x_o ~ N(inv(M) W_o^T (x_o - mean_o), s inv(M)),    M = W_o^T W_o + s I

        (Tipping & Bishop, 1999, here for the observed cells of each row). By the Woodbury
        identity this needs matrices of the size of the factors, not of the cells. The same
        formula is in interchange/_onnx_linear_systems.py.
        """
        n_factors = self.loadings_.shape[1]
        products = (self.loadings_[:, :, None] * self.loadings_[:, None, :]).reshape(
            len(self.mean_), -1
        )
        matrices = ((~missing) @ products).reshape(-1, n_factors, n_factors)
        matrices += self.noise_variance_ * np.eye(n_factors)
        right = np.where(missing, 0.0, X - self.mean_) @ self.loadings_
        return np.linalg.solve(matrices, right[:, :, None])[:, :, 0], matrices


def choose_shrinkage(
    X: NDArray[Any],
    hidden: NDArray[Any],
    folds: list[NDArray[Any]],
    sample_weight: NDArray[Any] | None = None,
    cell_weights: NDArray[Any] | float = 1.0,
) -> float:
    """The shrinkage with the least squared error of filled cells.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows, NaN where a cell is missing.
    hidden : ndarray of shape (n_samples, n_features)
        The same rows with more cells missing.
    folds : list of ndarray of int
        Rows of each fold; they are filled by a distribution fitted to the other rows.
    sample_weight : ndarray of shape (n_samples,), default=None
    cell_weights : ndarray of shape (n_features,), default=1
        Weights of the squared errors.
    """
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    losses = np.zeros(len(SHRINKAGES))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(X)), fold)
        unshrunk = fit_gaussian(X[rest], weight[rest])
        for i, shrinkage in enumerate(SHRINKAGES):
            errors = unshrunk.shrunk(shrinkage).fill(hidden[fold]) - X[fold]
            squares = np.square(np.nan_to_num(errors)) * cell_weights
            losses[i] += weight[fold] @ squares.sum(axis=1)
    return SHRINKAGES[int(losses.argmin())]


def _solved(
    matrix: NDArray[Any], right: NDArray[Any], pattern: NDArray[Any], columns: NDArray[Any]
) -> NDArray[Any]:
    """Solutions for right sides with the blocks of `matrix` in the columns of their patterns."""
    blocks = _blocks(matrix, columns)
    if len(columns) > len(right) / 2:
        return np.linalg.solve(blocks[pattern], right[:, :, None])[:, :, 0]
    return (np.linalg.inv(blocks)[pattern] @ right[:, :, None])[:, :, 0]


def _blocks(matrix: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Square blocks of a matrix for several sets of columns."""
    # A flat index takes half of the time of a pair of them.
    return matrix.ravel().take(columns[:, :, None] * len(matrix) + columns[:, None, :])


def _complement(columns: NDArray[Any], n_features: int) -> NDArray[Any]:
    """The columns that are not in sets of columns, which are all of one size."""
    is_other = np.ones((len(columns), n_features), dtype=bool)
    np.put_along_axis(is_other, columns, False, axis=1)
    return np.nonzero(is_other)[1].reshape(len(columns), -1)


def same_count_groups(
    missing: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Group rows by their number of missing cells, and within groups by which ones.

    Matrices of one group have one size, so they are solved in one call.

    Yields
    ------
    rows : ndarray of shape (n_rows,)
        Numbers of the rows of a group.
    pattern : ndarray of shape (n_rows,)
        Index of the pattern of each row.
    columns : ndarray of shape (n_patterns, n_missing)
        Columns missing in each pattern.
    """
    packed = np.packbits(missing, axis=1)
    if packed.shape[1] <= 8:  # integers are sorted ten times as fast as bytes
        padded = np.zeros((len(packed), 8), dtype=np.uint8)
        padded[:, : packed.shape[1]] = packed
        keys: NDArray[Any] = padded.view(np.uint64).ravel()
    else:
        keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, pattern_of_row = np.unique(keys, return_index=True, return_inverse=True)
    counts = missing[first].sum(axis=1)
    row_counts = counts[pattern_of_row]
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(row_counts == count)
        n_at_once = max(1, MAX_CELLS_AT_ONCE // count**2)
        for start in range(0, len(rows), n_at_once):
            part = rows[start : start + n_at_once]
            is_used = np.zeros(len(first), dtype=bool)
            is_used[pattern_of_row[part]] = True
            patterns = np.flatnonzero(is_used)
            pattern = np.searchsorted(patterns, pattern_of_row[part])
            columns = np.nonzero(missing[first[patterns]])[1].reshape(-1, count)
            yield part, pattern, columns


def _observed_moments(
    X: NDArray[Any], missing: NDArray[np.bool_], weight: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and variance of each column's observed cells, zero where there are none."""
    observed = weight @ ~missing
    observed[observed == 0] = 1.0
    mean = weight @ np.nan_to_num(X) / observed
    return mean, weight @ np.square(np.where(missing, 0.0, X - mean)) / observed
