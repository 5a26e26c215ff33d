"""Formulas of likelihoods under variational networks."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from skae._data._scaling import Scaler
from skae._engine._batches import SourceRows
from skae._engine._build import build_variational, make_output
from skae._engine._losses import LOG_ROOT_TWO_PI, EvidenceBound
from skae._engine._noise import Corruption
from skae._engine._runtime import generator
from skae._engine._variational_net import MixturePrior, VariationalNet
from skae._stats._mixture import _expect, fit_mixture
from skae._stats._pca import ProbabilisticPCA, fit_pca
from skae.networks import MLPNetwork


@pytest.fixture
def linear_model():
    """A net that is a linear Gaussian model, its rows, and their exact log-densities."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(200, 5))
    scaler = Scaler("standard").fit(X)
    scaled = scaler.transform(X).astype(float)
    pca = fit_pca(scaled, 5)
    linear = ProbabilisticPCA.of(pca, 2, 5)
    link, slopes, biases = make_output("gaussian", scaler, linear.deviations, pca.mean, False)
    path = {"linear": linear, "slopes": slopes, "biases": biases}
    module = build_variational(MLPNetwork((4,)), link, 5, 2, **path, n_conditions=0, seed=0)
    net = VariationalNet(
        module,
        EvidenceBound(),
        corruption=Corruption(generator(0), variational=True),
        batch_generator=generator(1),
        verbose=0,
    ).initialize()
    deviation = link.deviation.detach().numpy().astype(float)
    covariance = linear.loadings.T @ linear.loadings + np.diag(deviation**2)
    exact = multivariate_normal(pca.mean, covariance).logpdf(scaled) + link.log_slope
    return net, SourceRows(X, scaler), exact


def log_evidence(net, rows, n_draws, prior=None):
    prior = (
        MixturePrior(np.ones((1, 1)), np.zeros((1, 2)), np.eye(2)[None]) if prior is None else prior
    )
    parts = [part for _, part in net.evidence_rows(rows, prior, n_draws)]
    return np.concatenate(parts)


def test_importance_weighting_converges_to_the_exact_density(linear_model):
    net, rows, exact = linear_model
    few, many = (log_evidence(net, rows, n_draws)[:, 0] for n_draws in (2, 500))
    assert_allclose(many, exact, atol=0.1)
    assert np.abs(many - exact).mean() < 0.2 * np.abs(few - exact).mean()


def test_evidence_is_above_the_evidence_bound(linear_model):
    net, rows, exact = linear_model
    bounds = np.concatenate([part for _, part in net.bound_rows(rows, 500)])
    bound = bounds[:, 0] - bounds[:, 1]
    assert (bound < exact + 0.01).all()
    # The posterior of a linear Gaussian model is normal: the bound is nearly tight.
    assert_allclose(bound, exact, atol=0.5)


def test_groups_have_the_evidence_of_their_own_mixture(linear_model):
    net, rows, _ = linear_model
    means, whitening = np.array([[0.0, 0.0], [3.0, 0.0]]), np.stack([np.eye(2)] * 2)
    both = log_evidence(net, rows, 50, MixturePrior(np.eye(2), means, whitening))
    for group in range(2):
        alone = MixturePrior(np.ones((1, 1)), means[[group]], whitening[[group]])
        assert_allclose(both[:, group], log_evidence(net, rows, 50, alone)[:, 0], rtol=1e-5)


def test_density_of_the_prior_is_that_of_a_mixture():
    rng = np.random.default_rng(0)
    Z = np.vstack(
        [rng.normal(size=(100, 3)), rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3)) + 2]
    )
    mixture = GaussianMixture(3, random_state=0).fit(Z)
    prior = MixturePrior(mixture.weights_[None], mixture.means_, mixture.precisions_cholesky_)
    log_density = prior.log_density(torch.from_numpy(Z.astype(np.float32)))
    assert log_density.shape == (150, 1)
    assert_allclose(log_density[:, 0], mixture.score_samples(Z), rtol=1e-4, atol=1e-4)


def test_density_of_the_prior_is_what_the_mixture_was_fitted_by():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(80, 3)).astype(np.float32)
    mixture = fit_mixture(means, np.full_like(means, 0.1), 3, np.random.RandomState(0))
    parameters = mixture.means_, mixture.covariances_, mixture.precisions_cholesky_
    _, fit = _expect(means, np.zeros_like(means), mixture.weights_, *parameters)
    prior = MixturePrior(mixture.weights_[None], mixture.means_, mixture.precisions_cholesky_)
    mean_log_density = float(prior.log_density(torch.from_numpy(means)).mean())
    # The fit leaves out the constant of the normal density.
    assert_allclose(mean_log_density, fit - 3 * LOG_ROOT_TWO_PI, rtol=1e-4)
