import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

from skae._stats._gaussian import (
    FactorGaussian,
    Gaussian,
    choose_shrinkage,
    fit_gaussian,
    same_count_groups,
)


@pytest.fixture(scope="module")
def factors():
    """600 rows of 8 columns with two factors, 30 % of the cells missing in a copy."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(size=(600, 8)) + 2
    return X, np.where(rng.random(X.shape) < 0.3, np.nan, X)


def test_without_gaps_it_is_the_sample_covariance(factors):
    X, _ = factors
    model = Gaussian().fit(X)
    assert_allclose(model.mean_, X.mean(axis=0))
    assert_allclose(model.covariance_, np.cov(X.T, bias=True), rtol=0.01, atol=0.01)
    assert_allclose(model.covariance_ @ model.precision_, np.eye(8), atol=1e-8)


def test_fill_is_the_regression_on_the_other_cells(factors):
    X, holed = factors
    model = Gaussian().fit(X)
    filled = model.fill(holed)
    row = next(i for i in range(600) if 0 < np.isnan(holed[i]).sum() < 8)
    m = np.isnan(holed[row])
    S = model.covariance_
    slopes = np.linalg.solve(S[np.ix_(~m, ~m)], S[np.ix_(~m, m)])
    expected = model.mean_[m] + (holed[row, ~m] - model.mean_[~m]) @ slopes
    assert_allclose(filled[row, m], expected, rtol=1e-6)
    assert_array_equal(filled[~np.isnan(holed)], holed[~np.isnan(holed)])


def conditional_covariance(covariance, missing):
    """Of the missing cells given the others, zero elsewhere."""
    S, m, o = covariance, missing, ~missing
    out = np.zeros_like(S)
    slopes = np.linalg.solve(S[np.ix_(o, o)], S[np.ix_(o, m)])
    out[np.ix_(m, m)] = S[np.ix_(m, m)] - S[np.ix_(m, o)] @ slopes
    return out


def test_mean_conditional_covariance(factors):
    X, holed = factors
    model = Gaussian().fit(X)
    missing = np.isnan(holed[:50])
    weight = np.random.default_rng(0).random(50)
    each = [conditional_covariance(model.covariance_, row) for row in missing]
    expected = np.einsum("i,ijk->jk", weight, each)
    assert_allclose(model._mean_conditional_covariance(missing, weight), expected, atol=1e-9)


def test_factors_are_filled_as_by_the_whole_covariance(factors):
    X, holed = factors
    model = FactorGaussian().fit(X)
    S = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(8)
    rows = np.flatnonzero(np.isnan(holed).any(axis=1))[:20]
    filled = model.fill(holed[rows])
    for row, found in zip(holed[rows], filled, strict=True):
        m = np.isnan(row)
        slopes = np.linalg.solve(S[np.ix_(~m, ~m)], S[np.ix_(~m, m)])
        expected = model.mean_[m] + (row[~m] - model.mean_[~m]) @ slopes
        assert_allclose(found[m], expected, rtol=1e-8)
    row = holed[rows[:1]]
    draws = model.deviations(np.repeat(row, 50_000, axis=0), np.random.default_rng(0))
    truth = conditional_covariance(S, np.isnan(row[0]))
    assert_allclose(np.cov(draws.T), truth, atol=0.03 * truth.max())


def test_factors_without_gaps_are_probabilistic_pca(monkeypatch, factors):
    X, _ = factors
    monkeypatch.setattr("skae._stats._gaussian.N_FACTORS", 2)
    model = FactorGaussian().fit(X)
    S = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(8)
    assert_allclose(S, PCA(2).fit(X).get_covariance() * 599 / 600, rtol=1e-3, atol=1e-5)


def test_learns_through_the_gaps(factors):
    X, holed = factors
    truth, found = np.cov(X.T, bias=True), Gaussian().fit(holed).covariance_
    assert np.abs(found - truth).max() < 0.15 * np.abs(truth).max()


def test_weights_are_repetitions(factors):
    _, holed = factors
    weight = np.ones(600)
    weight[:100] = 3
    a = Gaussian().fit(holed, weight)
    b = Gaussian().fit(np.concatenate([holed, holed[:100], holed[:100]]))
    assert_allclose(a.covariance_, b.covariance_, rtol=1e-8)


@pytest.mark.parametrize("kind", [Gaussian, FactorGaussian])
def test_rows_and_columns_without_values(kind, factors):
    _, holed = factors
    holed = holed.copy()
    holed[3] = np.nan
    holed[:, 5] = np.nan
    model = kind().fit(holed)
    filled = model.fill(holed)
    assert np.isfinite(filled).all()
    assert_allclose(filled[3], model.mean_, atol=1e-8)
    assert_allclose(filled[:, 5], 0, atol=1e-8)


def test_constant_and_repeated_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    X = np.column_stack([x, x, np.ones(200), rng.normal(size=200)])
    holed = X.copy()
    holed[::3, 1] = np.nan
    holed[1::3, 2] = np.nan
    filled = Gaussian().fit(holed).fill(holed)
    assert_allclose(filled, X, atol=0.05)


def test_rounding_errors_of_a_constant_count_as_zero(factors):
    """Differences of 1e-17 must not be a scale for others."""
    _, holed = factors
    X = np.column_stack([holed, np.where(np.isnan(holed[:, 0]), np.nan, 0.1)])
    model = Gaussian().fit(X)
    assert_allclose(model.covariance_[8, :8], 0)
    X[:, 8] = 50.0
    assert np.abs(model.fill(X)[:, :8]).max() < 20


@pytest.mark.parametrize("kind", [Gaussian, FactorGaussian])
def test_draws_have_the_spread_of_the_errors(kind, factors):
    X, holed = factors
    model = kind().fit(holed)
    errors = (model.fill(holed) - X)[np.isnan(holed)]
    draws = model.deviations(holed, np.random.default_rng(0))
    assert_array_equal(draws[~np.isnan(holed)], 0)
    assert 0.5 < draws[np.isnan(holed)].std() / errors.std() < 1.5


def test_draws_of_one_row_have_its_conditional_covariance(factors):
    X, _ = factors
    model = Gaussian().fit(X)
    row = X[:1].copy()
    row[0, [1, 4]] = np.nan
    rng = np.random.default_rng(0)
    draws = model.deviations(np.repeat(row, 20_000, axis=0), rng)[:, [1, 4]]
    truth = np.linalg.inv(model.precision_[np.ix_([1, 4], [1, 4])])
    assert_allclose(np.cov(draws.T), truth, rtol=0.05, atol=0.02 * truth.max())


def test_wide_rows_get_factors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 300)) + 0.1 * rng.normal(size=(400, 300))
    hidden = rng.random(X.shape) < 0.3
    model = fit_gaussian(np.where(hidden, np.nan, X))
    assert isinstance(model, FactorGaussian)
    errors = (model.fill(np.where(hidden, np.nan, X)) - X)[hidden]
    assert errors.std() < 0.15 < X.std()


def test_shrinkage_is_chosen_by_what_it_fills():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, 12))  # no two columns have anything to do with each other
    strong = rng.normal(size=(3000, 1)) + 0.1 * rng.normal(size=(3000, 6))
    chosen = []
    for X in (noise, strong):
        hidden = np.where(rng.random(X.shape) < 0.3, np.nan, X)
        folds = np.array_split(np.arange(len(X)), 3)
        chosen.append(choose_shrinkage(X, hidden, folds))
    assert chosen[0] > 0.1
    assert chosen[1] == 0.0


def test_groups_hold_each_row_with_gaps_once(factors):
    _, holed = factors
    missing = np.isnan(holed)
    seen = []
    for rows, place, columns in same_count_groups(missing):
        for row, pattern in zip(rows, columns[place], strict=True):
            assert_array_equal(np.flatnonzero(missing[row]), pattern)
        seen.extend(rows)
    assert sorted(seen) == np.flatnonzero(missing.any(axis=1)).tolist()
