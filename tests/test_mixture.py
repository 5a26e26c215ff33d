import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from skae._stats._mixture import _as_mixture, _expect, _maximise, fit_mixture, join_mixtures

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


def test_responsibilities_and_bound_are_those_of_the_formula():
    means, variances = rows(50), RNG.uniform(0.1, 2, size=(50, 2))
    mixture = fit_mixture(means, variances, 2, np.random.RandomState(0))
    parts = mixture.weights_, mixture.means_, mixture.covariances_, mixture.precisions_cholesky_
    shares, bound = _expect(means, variances, *parts)
    log_joint = np.array(
        [
            np.log(a) + multivariate_normal(m, S).logpdf(means) - 0.5 * variances @ np.diag(P)
            for a, m, S, P in zip(*parts[:3], mixture.precisions_, strict=True)
        ]
    )
    np.testing.assert_allclose(shares, np.exp(log_joint - logsumexp(log_joint, axis=0)), atol=1e-5)
    without_constant = logsumexp(log_joint, axis=0).mean() + np.log(2 * np.pi)
    assert bound == pytest.approx(without_constant, abs=1e-5)


def test_the_bound_is_below_the_expected_log_density_and_rises():
    means, variances = 0.3 * rows(500), np.full((500, 2), 1.5)
    shares = np.stack([means[:, 0] < 0, means[:, 0] >= 0]).astype(float)
    bounds = []
    for _ in range(10):
        parameters = _maximise(means, variances, shares)
        shares, bound = _expect(means, variances, *parameters)
        bounds.append(bound - np.log(2 * np.pi))
    assert (np.diff(bounds) > -1e-6).all()
    mixture = _as_mixture(*parameters, 0)
    draws = means + np.sqrt(variances) * RNG.normal(size=(200, *means.shape))
    assert bounds[-1] < mixture.score(draws.reshape(-1, 2)) - 0.02


def test_whitening_is_that_of_the_covariances():
    X = rows()
    mixture = fit_mixture(X, np.ones_like(X), 3, np.random.RandomState(0))
    densities = [
        multivariate_normal(m, c).pdf(X)
        for m, c in zip(mixture.means_, mixture.covariances_, strict=True)
    ]
    expected = np.log(mixture.weights_ @ np.array(densities))
    np.testing.assert_allclose(mixture.score_samples(X), expected, rtol=1e-4)


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5])
def test_rows_that_nearly_coincide_share_clusters_without_a_warning(spread):
    X = np.repeat(CENTRES, 50, axis=0) + spread * RNG.normal(size=(100, 2))
    mixture = fit_mixture(X, np.full_like(X, 0.1), 20, np.random.RandomState(0))
    assert np.isfinite(mixture.score(X))
