"""The normal distribution of a table with holes, and what it says of missing cells."""

import numpy as np

from skae._stats._pca import fit_pca

# Rounds of expectation and maximisation.
N_ROUNDS = 8
# How far each round draws covariances towards zero, and no column is known better than
# this share of its variance: both keep matrices invertible.
ROUND_SHRINKAGE = 0.005
FLOOR = 1e-6
ROUNDING = 1e-20
# How far the result may be drawn towards zero besides: few rows tell little of many pairs.
SHRINKAGES = (0.0, 0.05, 0.2, 0.4, 0.7, 1.0)
# Cells of the systems of equations that are in memory at once.
MAX_CELLS_AT_ONCE = 2**23
# Above this many columns, covariances are those of so many factors.
MAX_EXACT_COLUMNS = 256
N_FACTORS = 32
N_FACTOR_ROUNDS = 4


def fit_gaussian(X, sample_weight=None, shrinkage=0.0):
    """Fit the distribution of dense float rows, NaN where a cell is missing."""
    if X.shape[1] > MAX_EXACT_COLUMNS:
        return FactorGaussian(shrinkage).fit(X, sample_weight)
    return Gaussian(shrinkage).fit(X, sample_weight)


class Gaussian:
    """Multivariate normal distribution, fitted to rows with missing cells.

    Expectation-maximisation (Dempster, Laird & Rubin, 1977): missing cells are replaced
    by their conditional means, and their conditional covariances are added to those of
    the rows so filled. Rows that miss the same cells share one inverse.

    Parameters
    ----------
    shrinkage : float
        How far covariances are drawn towards zero after the last round.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
    covariance_, precision_ : ndarray of shape (n_features, n_features)
        Inverse of each other.
    """

    def __init__(self, shrinkage=0.0):
        self.shrinkage = shrinkage

    def fit(self, X, sample_weight=None):
        """Fit dense float rows `X`, NaN where a cell is missing."""
        missing = np.isnan(X)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        weight = weight / weight.sum()
        self.mean_, variances = _observed_moments(X, missing, weight)
        # Less is what rounding leaves of a column of equal values.
        self._varies = variances > ROUNDING * np.square(np.nan_to_num(X)).max(axis=0)
        self._set_covariance(np.diag(variances), 0.0)
        for _ in range(N_ROUNDS if missing.any() else 1):
            filled = self.fill(X)
            spread = self._mean_conditional_covariance(missing, weight)
            self.mean_ = weight @ filled
            filled -= self.mean_
            covariance = filled.T @ (filled * weight[:, None]) + spread
            self._set_covariance(covariance, ROUND_SHRINKAGE)
        return self.shrunk(self.shrinkage)

    def shrunk(self, shrinkage):
        """The same distribution with covariances drawn further towards zero."""
        other = Gaussian(shrinkage)
        other.mean_, other._varies = self.mean_, self._varies
        other._set_covariance(self.covariance_, shrinkage)
        return other

    def _set_covariance(self, covariance, shrinkage):
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

    def fill(self, X):
        """Put conditional means, given the other cells of the row, in the place of NaN."""
        missing = np.isnan(X)
        filled = np.array(X, dtype=np.float64)
        pull = np.where(missing, 0.0, filled - self.mean_) @ self.precision_
        for rows, place, columns in same_count_groups(missing):
            cells = columns[place]
            force = pull[rows[:, None], cells][:, :, None]
            if len(columns) > len(rows) / 2:
                shift = np.linalg.solve(self._precision_of(cells), force)
            else:
                shift = np.linalg.inv(self._precision_of(columns))[place] @ force
            filled[rows[:, None], cells] = self.mean_[cells] - shift[:, :, 0]
        return filled

    def deviations(self, X, rng):
        """Draws about the conditional means, zero where X is observed."""
        missing = np.isnan(X)
        out = np.zeros(X.shape)
        for rows, place, columns in same_count_groups(missing):
            roots = np.linalg.cholesky(self._precision_of(columns))[place]
            noise = rng.standard_normal((len(rows), columns.shape[1], 1))
            draws = np.linalg.solve(roots.transpose(0, 2, 1), noise)
            out[rows[:, None], columns[place]] = draws[:, :, 0]
        return out

    def _mean_conditional_covariance(self, missing, weight):
        n_features = len(self.mean_)
        total = np.zeros(n_features**2)
        for rows, place, columns in same_count_groups(missing):
            share = np.bincount(place, weight[rows], minlength=len(columns))
            parts = np.linalg.inv(self._precision_of(columns)) * share[:, None, None]
            cells = columns[:, :, None] * n_features + columns[:, None, :]
            total += np.bincount(cells.ravel(), parts.ravel(), minlength=n_features**2)
        return total.reshape(n_features, n_features)

    def _precision_of(self, columns):
        """The blocks of the precision matrix that belong to sets of columns."""
        return self.precision_[columns[:, :, None], columns[:, None, :]]


class FactorGaussian:
    """Normal distribution of wide rows: a few factors and equal noise in every column.

    The model of probabilistic principal component analysis (Tipping & Bishop, 1999), fitted
    by turns: principal components of the filled rows, then rows filled by these. A row costs
    one small system, however many cells it misses.

    Parameters
    ----------
    shrinkage : float
        Share of the loadings' variance that counts as nothing in the end.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
    loadings_ : ndarray of shape (n_features, n_factors)
    noise_variance_ : float
        The covariance matrix is ``loadings_ @ loadings_.T + noise_variance_ * identity``.
    """

    def __init__(self, shrinkage=0.0):
        self.shrinkage = shrinkage

    def fit(self, X, sample_weight=None):
        """Fit dense float rows `X`, NaN where a cell is missing."""
        missing = np.isnan(X)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        mean, _ = _observed_moments(X, missing, weight / weight.sum())
        filled = np.where(missing, mean, X)
        for _ in range(N_FACTOR_ROUNDS if missing.any() else 1):
            pca = fit_pca(filled, N_FACTORS, weight, random_state=0)
            n_left = max(X.shape[1] - len(pca.variances), 1)
            left = max(pca.total_variance - pca.variances.sum(), 0.0) / n_left
            self.mean_ = pca.mean
            self.noise_variance_ = left + FLOOR * max(pca.total_variance / X.shape[1], FLOOR)
            self.loadings_ = (
                pca.directions * np.sqrt(np.maximum(pca.variances - left, 0.0))[:, None]
            ).T
            filled = self.fill(X)
        return self.shrunk(self.shrinkage)

    def shrunk(self, shrinkage):
        """The same distribution with smaller loadings; their variance becomes noise."""
        other = FactorGaussian(shrinkage)
        lost = shrinkage * np.square(self.loadings_).sum() / len(self.loadings_)
        other.mean_, other.noise_variance_ = self.mean_, self.noise_variance_ + lost
        other.loadings_ = self.loadings_ * np.sqrt(1.0 - shrinkage)
        return other

    def fill(self, X):
        """Put conditional means, given the other cells of the row, in the place of NaN."""
        filled = np.array(X, dtype=np.float64)
        missing = np.isnan(filled)
        rows = np.flatnonzero(missing.any(axis=1))
        told, _ = self._factors(filled[rows], missing[rows])
        means = self.mean_ + told @ self.loadings_.T
        filled[rows] = np.where(missing[rows], means, filled[rows])
        return filled

    def deviations(self, X, rng):
        """Draws about the conditional means, zero where X is observed."""
        missing = np.isnan(X)
        _, system = self._factors(X, missing)
        noise = rng.standard_normal((*system.shape[:2], 1))
        roots = np.linalg.cholesky(system).transpose(0, 2, 1)
        factors = np.linalg.solve(roots, noise)[:, :, 0]
        draws = factors @ self.loadings_.T + rng.standard_normal(X.shape)
        return np.where(missing, np.sqrt(self.noise_variance_) * draws, 0.0)

    def _factors(self, X, missing):
        """Posterior means of the factors, and their systems of equations."""
        n_factors = self.loadings_.shape[1]
        products = (self.loadings_[:, :, None] * self.loadings_[:, None, :]).reshape(
            len(self.mean_), -1
        )
        system = ((~missing) @ products).reshape(-1, n_factors, n_factors)
        system += self.noise_variance_ * np.eye(n_factors)
        force = np.where(missing, 0.0, X - self.mean_) @ self.loadings_
        return np.linalg.solve(system, force[:, :, None])[:, :, 0], system


def choose_shrinkage(X, hidden, folds, sample_weight=None):
    """The shrinkage that fills hidden cells best.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows, NaN where a cell is missing.
    hidden : ndarray of shape (n_samples, n_features)
        The same rows, more cells missing.
    folds : list of ndarray of int
        Rows that are filled by a distribution of the others.
    sample_weight : ndarray of shape (n_samples,), default=None
    """
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    losses = np.zeros(len(SHRINKAGES))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(X)), fold)
        unshrunk = fit_gaussian(X[rest], weight[rest])
        for i, shrinkage in enumerate(SHRINKAGES):
            errors = unshrunk.shrunk(shrinkage).fill(hidden[fold]) - X[fold]
            losses[i] += weight[fold] @ np.square(np.nan_to_num(errors)).sum(axis=1)
    return SHRINKAGES[int(losses.argmin())]


def same_count_groups(missing):
    """Group rows by how many cells they miss, and within by which ones.

    Yields
    ------
    rows : ndarray of shape (n_rows,)
        Numbers of the rows of a group.
    place : ndarray of shape (n_rows,)
        Which of the group's patterns each row has.
    columns : ndarray of shape (n_patterns, n_missing)
        Columns missing in each pattern.
    """
    packed = np.packbits(missing, axis=1)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    counts = missing[first].sum(axis=1)
    row_counts = counts[which]
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(row_counts == count)
        n_at_once = max(1, MAX_CELLS_AT_ONCE // count**2)
        for start in range(0, len(rows), n_at_once):
            some = rows[start : start + n_at_once]
            is_here = np.zeros(len(first), dtype=bool)
            is_here[which[some]] = True
            patterns = np.flatnonzero(is_here)
            place = np.searchsorted(patterns, which[some])
            columns = np.nonzero(missing[first[patterns]])[1].reshape(-1, count)
            yield some, place, columns


def _observed_moments(X, missing, weight):
    """Mean and variance of each column's observed cells, zero where there are none."""
    observed = weight @ ~missing
    observed[observed == 0] = 1.0
    mean = weight @ np.nan_to_num(X) / observed
    return mean, weight @ np.square(np.where(missing, 0.0, X - mean)) / observed
