import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from skae._stats import _pca
from skae._stats._pca import ProbabilisticPCA, fit_pca, fit_reduced_rank


@pytest.mark.parametrize("shape", [(120, 10), (8, 10), (10, 10), (2, 3), (5, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_sklearn(shape, dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=shape) * np.arange(1, shape[1] + 1) + 2).astype(dtype)
    k = min(3, *shape)
    ours, theirs = fit_pca(X, k), PCA(k).fit(X.astype(float))
    n = len(X)
    assert_allclose(ours.mean, theirs.mean_, rtol=1e-5)
    expected = theirs.explained_variance_
    found = np.pad(ours.variances * n / (n - 1), (0, k - len(ours.variances)))
    assert_allclose(found, expected, atol=1e-4)  # directions without variance may be left out
    assert_allclose(
        ours.total_variance * n / (n - 1), X.astype(float).var(0, ddof=1).sum(), rtol=1e-5
    )
    rank = np.sum(expected > 1e-6)
    cosines = np.abs(np.einsum("ij,ij->i", ours.directions[:rank], theirs.components_[:rank]))
    assert_allclose(cosines, 1, atol=1e-4)


@pytest.mark.parametrize("n_rows", [120, 6])
def test_directions_are_orthonormal_and_their_signs_are_fixed(n_rows, table):
    X = table[:n_rows]
    pca, flipped = fit_pca(X, 5), fit_pca(X[::-1], 5)
    assert_allclose(pca.directions @ pca.directions.T, np.eye(len(pca.directions)), atol=1e-8)
    assert_allclose(pca.directions, flipped.directions, atol=1e-6)
    assert (np.diff(pca.variances) <= 1e-12).all()


@pytest.mark.parametrize("shape", [(120, 10), (9, 10)])
def test_integer_weights_equal_repeated_rows(shape, table):
    X = table[: shape[0]]
    weight = np.random.default_rng(0).integers(1, 4, size=len(X))
    weighted, repeated = fit_pca(X, 3, weight.astype(float)), fit_pca(np.repeat(X, weight, 0), 3)
    assert_allclose(weighted.mean, repeated.mean)
    assert_allclose(weighted.variances, repeated.variances)
    assert_allclose(weighted.directions, repeated.directions, atol=1e-8)
    assert_allclose(weighted.total_variance, repeated.total_variance)


def test_zero_weight_is_absence(table):
    weight = np.r_[np.zeros(20), np.ones(100)]
    assert_allclose(
        fit_pca(table, 3, weight).directions, fit_pca(table[20:], 3).directions, atol=1e-8
    )


def test_randomized_solver_finds_the_same(set_limits):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 100)) + 0.01 * rng.normal(size=(200, 100))
    exact = fit_pca(X, 5)
    set_limits(exact_pca_size=50)
    quick, again = fit_pca(X, 5, random_state=0), fit_pca(X, 5, random_state=0)
    assert_allclose(quick.variances, exact.variances, rtol=1e-4)
    assert_allclose(quick.directions, exact.directions, atol=1e-3)
    assert_array_equal(quick.directions, again.directions)
    assert np.any(quick.directions != exact.directions)


def test_constant_rows():
    pca = fit_pca(np.ones((5, 3)), 2)
    assert_array_equal(pca.variances, 0)
    assert pca.scale == 1.0
    assert pca.total_variance == 0
    assert_allclose(pca.directions @ pca.directions.T, np.eye(len(pca.directions)), atol=1e-12)


def test_n_directions_for():
    pca = _pca.FittedPCA(np.zeros(3), np.eye(3), np.array([6.0, 3.0, 1.0]), 10.0)
    assert [pca.n_directions_for(share) for share in (0.1, 0.6, 0.61, 0.9, 1.0)] == [1, 1, 2, 2, 3]
    short = _pca.FittedPCA(np.zeros(3), np.eye(3)[:2], np.array([6.0, 1.0]), 10.0)
    assert short.n_directions_for(0.99) == 2


# From noisy rows to clean ones.


def test_reduced_rank_at_full_rank_is_ridge_regression():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 3
    noisy = np.hstack([clean + rng.normal(size=clean.shape), rng.normal(size=(500, 1))])
    pca = fit_reduced_rank([(noisy, clean, np.ones(500))], 4)
    found = pca.mean + (noisy - pca.input_mean) @ pca.projection.T @ pca.directions
    theirs = Ridge(alpha=1e-3 * 500 * noisy.var(axis=0).mean()).fit(noisy, clean)
    assert_allclose(found, theirs.predict(noisy), rtol=1e-6)
    assert_allclose(pca.directions @ pca.directions.T, np.eye(4), atol=1e-9)


def test_reduced_rank_projects_the_fitted_values_of_ridge_regression():
    """The leading singular vectors of ridge regression's fitted values, on augmented rows."""
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 7))
    noisy = clean[:, :6] + rng.normal(size=(300, 6))
    pca = fit_reduced_rank([(noisy, clean, np.ones(300))], 2)
    x, y = noisy - noisy.mean(axis=0), clean - clean.mean(axis=0)
    penalty = _pca.RIDGES[0] * 300 * noisy.var(axis=0).mean()
    x = np.vstack([x, np.sqrt(penalty) * np.eye(6)])
    y = np.vstack([y, np.zeros((6, 7))])
    coefficients = np.linalg.lstsq(x, y)[0]
    _, _, right = np.linalg.svd(x @ coefficients)
    slopes = coefficients @ right[:2].T @ right[:2]
    assert_allclose(pca.projection.T @ pca.directions, slopes, atol=1e-8)


def test_reduced_rank_beats_pca_of_noisy_rows():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 10))
    noisy = clean + rng.normal(size=10) * 3 * rng.normal(size=clean.shape)
    pca = fit_reduced_rank([(noisy, clean, np.ones(2000))], 2)
    found = pca.mean + (noisy - pca.input_mean) @ pca.projection.T @ pca.directions
    plain = PCA(2).fit(noisy)
    theirs = plain.inverse_transform(plain.transform(noisy))
    assert np.square(found - clean).mean() < 0.5 * np.square(theirs - clean).mean()


def test_reduced_rank_uses_weights():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(100, 3))
    noisy = clean + rng.normal(size=clean.shape)
    weight = rng.integers(1, 4, size=100)
    a = fit_reduced_rank([(noisy, clean, weight.astype(float))], 2)
    pairs = np.repeat(noisy, weight, 0), np.repeat(clean, weight, 0)
    b = fit_reduced_rank([(*pairs, np.ones(len(pairs[0])))], 2)
    assert_allclose(a.variances, b.variances)
    assert_allclose(a.input_mean, b.input_mean)


def test_reduced_rank_of_constant_rows():
    pca = fit_reduced_rank([(np.ones((5, 3)), np.ones((5, 3)), np.ones(5))], 3)
    assert np.isfinite(pca.projection).all()
    assert_allclose(pca.variances, 0, atol=1e-12)


def test_reduced_rank_shrinks_what_held_out_blocks_do_not_confirm():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 60))
    noisy, weight = clean + 2 * rng.normal(size=clean.shape), np.ones(25)
    whole = fit_reduced_rank([(noisy, clean, np.ones(100))], 60)
    parts = np.split(np.arange(100), 4)
    blocks = fit_reduced_rank([(noisy[part], clean[part], weight) for part in parts], 60)
    assert np.abs(blocks.projection).sum() < 0.7 * np.abs(whole.projection).sum()
    assert_allclose(blocks.mean, whole.mean)


# The normal latent model.


def test_probabilistic_pca_has_the_covariance_of_the_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(5000, 6))
    model = ProbabilisticPCA.of(fit_pca(X, 6), 2, 6)
    covariance = model.loadings.T @ model.loadings + np.diag(model.deviations**2)
    np.testing.assert_allclose(covariance, np.cov(X.T), atol=0.04)
    np.testing.assert_allclose(model.deviations, 0.5, atol=0.03)
    # Posterior means and variances make standard normal latents together.
    Z = (X - model.mean) @ model.projection.T
    np.testing.assert_allclose(Z.var(axis=0) + np.exp(model.log_variances), 1, atol=0.02)


def test_probabilistic_pca_encodes_by_the_posterior_of_its_model():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(500, 6))
    pca = fit_pca(X, 6)
    model = ProbabilisticPCA.of(pca, 2, 6)
    W, noise = model.loadings.T, pca.variances[2:].mean()
    # Of the joint normal distribution of z and x, by blocks.
    slopes = W.T @ np.linalg.inv(W @ W.T + noise * np.eye(6))
    assert_allclose(model.projection, slopes, atol=1e-10)
    assert_allclose(np.diag(np.exp(model.log_variances)), np.eye(2) - slopes @ W, atol=1e-10)


def test_probabilistic_pca_with_more_latents_than_directions():
    X = np.random.default_rng(0).normal(size=(50, 3))
    model = ProbabilisticPCA.of(fit_pca(X, 3), 5, 3)
    assert model.projection.shape == (5, 3)
    assert (model.projection[3:] == 0).all()
    assert (model.log_variances[3:] == 0).all()
