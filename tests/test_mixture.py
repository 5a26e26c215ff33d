import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from skae._stats._mixture import fit_mixture, join_mixtures

RNG = np.random.default_rng(0)
CENTRES = np.array([[-6.0, 0.0], [6.0, 3.0]])


def rows(n=2000):
    return CENTRES[RNG.integers(0, 2, n)] + RNG.normal(size=(n, 2))


def test_points_are_fitted_as_by_scikit_learn():
    X = rows()
    ours = fit_mixture(X, np.zeros_like(X), 2, np.random.RandomState(0))
    theirs = GaussianMixture(2, random_state=0).fit(X)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=1e-3)
    assert ours.sample(10)[0].shape == (10, 2)


def test_the_rows_variance_widens_the_components():
    X = rows()
    mixture = fit_mixture(X, np.full_like(X, 3.0), 2, np.random.RandomState(0))
    np.testing.assert_allclose(mixture.covariances_, np.tile(4 * np.eye(2), (2, 1, 1)), atol=0.3)


def test_whitening_is_that_of_the_covariances():
    X = rows()
    mixture = fit_mixture(X, np.ones_like(X), 3, np.random.RandomState(0))
    densities = [
        multivariate_normal(m, c).pdf(X)
        for m, c in zip(mixture.means_, mixture.covariances_, strict=True)
    ]
    told = np.log(mixture.weights_ @ np.array(densities))
    np.testing.assert_allclose(mixture.score_samples(X), told, rtol=1e-4)


def test_mixtures_are_joined_by_their_shares():
    parts = [
        fit_mixture(rows() + shift, np.ones((2000, 2)), 2, np.random.RandomState(0))
        for shift in (0, 100)
    ]
    joint, weights = join_mixtures(parts, np.array([0.25, 0.75]))
    assert weights.shape == (2, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert joint.weights_.sum() == pytest.approx(1)
    assert (joint.sample(4000)[0][:, 0] > 50).mean() == pytest.approx(0.75, abs=0.05)


def test_fewer_rows_than_columns():
    X = RNG.normal(size=(3, 8))
    mixture = fit_mixture(X, np.zeros_like(X), 1, np.random.RandomState(0))
    assert np.isfinite(mixture.score_samples(X)).all()
