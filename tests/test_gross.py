"""Gross outliers are found by the gap that separates them, and nothing else is."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skae._stats._gross import GrossRule, limit_in_gap

ORDINARY = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "skewed": lambda rng, n, d: rng.lognormal(size=(n, d)),
    "heavy tails": lambda rng, n, d: rng.standard_t(3, size=(n, d)),
    "counts": lambda rng, n, d: rng.poisson(1.0, (n, d)),
    "rare counts": lambda rng, n, d: rng.poisson(0.3, (n, d)),
    "flags": lambda rng, n, d: rng.uniform(size=(n, d)) < 0.1,
    "two clusters": lambda rng, n, d: rng.normal(size=(n, d)) + 8 * (np.arange(n) % 2)[:, None],
    "factors": lambda rng, n, d: (
        rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.3 * rng.normal(size=(n, d))
    ),
}
GROSS = {
    "far": lambda rng, rows: rng.uniform(40, 400, rows.shape),
    "saturated": lambda rng, rows: np.full(rows.shape, 100.0),
    "both sides": lambda rng, rows: rng.choice([-1, 1], rows.shape) * rng.uniform(40, 400),
    "shifted": lambda rng, rows: rows + 6,
}


def fit(X, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return GrossRule.fit(X, weight, np.random.RandomState(0))


@pytest.mark.parametrize("n_columns", [1, 4, 20])
@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_tables_have_none(kind, n_columns):
    for seed in range(5):
        X = ORDINARY[kind](np.random.default_rng(seed), 1000, n_columns).astype(float)
        assert not fit(X)(X).any()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("kind", GROSS)
@pytest.mark.parametrize("base", ["normal", "factors"])
def test_gross_outliers_are_found(base, kind, share):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = ORDINARY[base](rng, 1000, 6)
        X /= X.std(axis=0)
        n = int(1000 * share)
        X[:n] = GROSS[kind](rng, X[:n])
        gross = fit(X)(X)
        assert gross[:n].mean() >= (0.8 if kind == "shifted" else 1.0)
        assert gross[n:].mean() < 0.01


def test_a_rare_value_of_one_column_is_no_outlier():
    X = np.random.default_rng(0).normal(size=(1000, 5))
    X[:200, 2] = 100.0
    assert not fit(X)(X).any()


def test_missing_cells_do_not_count():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 6))
    X[:100] += 100
    X[rng.uniform(size=X.shape) < 0.3] = np.nan
    X[500] = np.nan
    assert_array_equal(fit(X)(X), (np.arange(1000) < 100) & ~np.isnan(X).all(axis=1))


def test_rows_of_little_weight_are_few():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    X[:500] += 100
    weight = np.where(np.arange(1000) < 500, 0.1, 1.0)
    assert_array_equal(fit(X, weight)(X), np.arange(1000) < 500)
    assert not fit(X)(X).any()  # half of the rows are no outliers


def test_few_rows_have_none():
    assert limit_in_gap(np.r_[np.ones(10), 1e6], np.ones(11)) == np.inf
    X = np.random.default_rng(0).normal(size=(5, 2))
    assert not fit(X)(X).any()
    assert not fit(np.ones((50, 3)))(np.full((2, 3), 7.0)).any()
