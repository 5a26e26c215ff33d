"""Views beside the autoencoders': cells given the others, and nearest reference rows."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from scipy.stats import norm

from skae._engine import _learn_views, _views
from skae._engine._learn_views import (
    distances_to_codes,
    distances_to_others,
    learn_conditional,
    learn_views,
    penalties_of,
    rank_knots,
    suspicion_of,
)
from skae._engine._views import Conditional, Ranks, References
from skae._stats._gaussian import fit_gaussian

CPU = torch.device("cpu")


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d))
    return X.astype(np.float32)


@pytest.fixture(params=[7, 300], ids=["exact", "factors"])
def gaussian(request):
    X = correlated(400, request.param)
    return fit_gaussian(X.astype(float), None, 0.05), X


# Cells given the others.


def test_residuals_are_those_of_regressions():
    """A cell less its conditional mean is the residual of its regression on the others."""
    X = correlated(500, 5).astype(float)
    X -= X.mean(axis=0)
    conditional = Conditional(fit_gaussian(X), np.ones(5))
    found = conditional.residuals(torch.from_numpy(X.astype(np.float32))).numpy()
    for j in range(5):
        others = np.delete(X, j, axis=1)
        expected = X[:, j] - others @ np.linalg.lstsq(others, X[:, j], rcond=None)[0]
        # Correlations are shrunk a little.
        assert np.square(found[:, j] - expected).mean() < 1e-3 * np.square(expected).mean()


def test_residuals_agree_with_filling(gaussian):
    model, X = gaussian
    residuals = Conditional(model, np.ones(X.shape[1])).residuals(torch.from_numpy(X[:20]))
    for j in (0, 3):
        hidden = X[:20].astype(float)
        hidden[:, j] = np.nan
        assert_allclose(residuals[:, j], X[:20, j] - model.fill(hidden)[:, j], atol=2e-3)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_missing_cells_are_filled_by_conditional_means(share, gaussian):
    model, X = gaussian
    rng = np.random.default_rng(1)
    holes = np.where(rng.uniform(size=X.shape) < share, np.nan, X).astype(np.float32)
    holes[0] = np.nan
    conditional = Conditional(model, np.ones(X.shape[1]))
    filled = conditional.filled(torch.from_numpy(holes)).numpy()
    assert_allclose(filled, model.fill(holes), atol=1e-3)
    observed = ~np.isnan(holes)
    assert_allclose(filled[observed], holes[observed], rtol=1e-5, atol=1e-5)
    rows = torch.from_numpy(X)
    assert conditional.filled(rows) is rows


def test_wild_cells_grow_by_their_logarithm():
    conditional = Conditional(fit_gaussian(np.eye(4)), np.ones(4))
    conditional.residuals = lambda x: x
    cells = conditional.cells(torch.tensor([[3.0, 8.0, -1e6, 1e30]])).sqrt().numpy()[0]
    assert_allclose(cells, [3, 8, 8 + np.log1p(1e6 - 8), 8 + np.log(1e30)], rtol=1e-5)


# Ranks.


def test_ranks_of_a_normal_column_are_its_values():
    x = np.random.default_rng(0).normal(size=(20_000, 1)).astype(np.float32)
    ranks = Ranks(*rank_knots(x, np.ones(len(x))))
    grid = torch.linspace(-2.5, 2.5, 101)[:, None]
    found = ranks(grid)
    assert ((found - found[50]) - grid).abs().max() < 0.15  # scores start at zero


def test_few_values_have_the_scores_of_their_middle_ranks():
    x = np.repeat([[0.0], [1.0], [5.0]], [70, 20, 10], axis=0).astype(np.float32)
    ranks = Ranks(*rank_knots(x, np.ones(100)))
    found = ranks(torch.tensor([[0.0], [1.0], [5.0], [3.0]]))[:, 0]
    expected = norm.ppf([0.35, 0.8, 0.95])
    assert_allclose(found[1] - found[0], expected[1] - expected[0], rtol=1e-5)
    # A gap stays a gap: scores rise by no less than a quarter of the values.
    assert expected[2] - expected[1] < 1
    assert float(found[2] - found[1]) == pytest.approx(1.0)
    assert found[3] == pytest.approx(float(found[1:3].mean()), rel=1e-5)
    weights = np.repeat([1.0, 7.0, 1.0], [70, 20, 10])
    weighted = Ranks(*rank_knots(x, weights))(torch.tensor([[0.0], [1.0]])).diff(dim=0)
    assert float(weighted) == pytest.approx(np.diff(norm.ppf([35 / 220, 140 / 220]))[0], rel=1e-5)


def test_ranks_rise_beyond_all_values():
    x = np.random.default_rng(0).uniform(size=(300, 2)).astype(np.float32)
    ranks = Ranks(*rank_knots(x, np.ones(300)))
    grid = torch.cat([torch.linspace(-3, 4, 500), torch.logspace(1, 20, 20)])[:, None].repeat(1, 2)
    assert (ranks(grid).diff(dim=0) >= 0).all()
    assert (ranks(grid[-60:]).diff(dim=0) > 0).all()


def test_columns_without_values_have_no_scores():
    x = np.column_stack([np.full(50, np.nan), np.arange(50.0)]).astype(np.float32)
    ranks = Ranks(*rank_knots(x, np.ones(50)))
    assert_array_equal(ranks(torch.zeros(3, 2))[:, 0], 0)


# Reference rows.


def cells_of(references, x):
    equal = torch.full((len(x),), -1)
    return references.cells(torch.from_numpy(x), equal), equal.numpy()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("at_once", [7, 256])
def test_the_nearest_rows_are_nearest(offset, at_once, monkeypatch):
    monkeypatch.setattr(_views, "ROWS_AT_ONCE", at_once)
    rows, x = (correlated(n, 5, seed) + np.float32(offset) for n, seed in ((40, 1), (90, 2)))
    penalties = np.random.default_rng(0).exponential(size=40)
    references = References(torch.from_numpy(rows), penalties, np.zeros(40))
    (plain, cored), equal = cells_of(references, x)
    distances = cdist(x.astype(float), rows.astype(float)) ** 2
    assert_allclose(plain.sum(dim=1), distances.min(axis=1), rtol=1e-3)
    expected = (distances + 5 * penalties).min(axis=1)
    assert_allclose(cored.sum(dim=1), expected, rtol=1e-3)
    assert (equal == -1).all()


def test_no_row_vouches_for_itself():
    rows = correlated(30, 4)
    rows[5] = rows[6]
    nearest = cdist(rows, rows) + np.diag(np.full(30, np.inf))
    references = References(
        torch.from_numpy(rows), np.zeros(30), 0.01 * nearest.min(axis=1).astype(np.float32)
    )
    (plain, cored), equal = cells_of(references, rows)
    assert_allclose(plain.sum(dim=1).sqrt(), nearest.min(axis=1), rtol=1e-4, atol=1e-6)
    assert_array_equal(plain[[5, 6]], 0)  # but for its twin
    assert torch.equal(plain, cored)
    assert set(equal[[5, 6]]) <= {5, 6}
    assert_array_equal(np.delete(equal, [5, 6]), np.delete(np.arange(30), [5, 6]))
    # Rounding makes no other row of it.
    rounded = rows * (1 + 1e-4 * np.random.default_rng(0).normal(size=rows.shape))
    (found, _), _ = cells_of(references, np.delete(rounded.astype(np.float32), [5, 6], axis=0))
    assert_allclose(found, np.delete(plain.numpy(), [5, 6], axis=0), rtol=0.05, atol=1e-3)


def test_suspicious_rows_have_penalties():
    rows = torch.from_numpy(correlated(50, 4))
    suspicion = np.linspace(0.02, 1, 50)
    penalties = penalties_of(distances_to_others(rows), suspicion, 4)
    assert (np.diff(penalties) >= 0).all()
    nearest = np.sort(cdist(rows, rows), axis=1)[:, 1:6].mean(axis=1)
    assert penalties[-1] == pytest.approx((2 * nearest.max()) ** 2 / 4, rel=1e-4)
    assert_array_equal(penalties_of(distances_to_others(rows[:1]), np.ones(1), 4), [0])


@pytest.mark.parametrize("n_rows", [2, 7, 700])
def test_distances_to_others_are_exact(n_rows):
    """Products of matrices only choose the rows: distances of near twins are not rounded away."""
    rows = 100 + correlated(n_rows, 4)
    rows[n_rows // 2 :] += 50
    rows[0] = rows[1]
    rows[-1, 0] += 1e-3
    expected = np.sort(cdist(rows.astype(float), rows.astype(float)), axis=1)[:, 1:6]
    found = distances_to_others(torch.from_numpy(rows))
    assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_distances_to_codes_are_means_over_samples(monkeypatch):
    x = correlated(600, 4)
    samples = iter([np.array([0, 3, 5]), np.array([3, 9, 599])])
    monkeypatch.setattr(_learn_views, "N_DRAWS", 2)
    monkeypatch.setattr(_learn_views, "choose_rows", lambda *_: next(samples))
    total, count = np.zeros(600), np.zeros(600)
    for sample in ([0, 3, 5], [3, 9, 599]):
        others = np.setdiff1d(np.arange(600), sample)
        nearest = cdist(x[others], x[sample]).min(axis=1)
        total[others] += nearest / nearest.mean()
        count[others] += 1
    found = distances_to_codes(torch.from_numpy(x), np.ones(600), np.random.RandomState(0))
    assert_allclose(found, total / np.maximum(count, 1), rtol=1e-4)
    assert found[3] == 0  # in both samples


# All of them.


def test_outliers_are_suspicious():
    x = correlated(500, 6)
    x[:25] += 8
    weight = np.ones(500)
    ranks = Ranks(*rank_knots(x, weight))
    suspicion = suspicion_of(x, weight, ranks, np.random.RandomState(0))
    assert (suspicion[:25] > 0.8).all()
    assert ((suspicion > 0) & (suspicion <= 1)).all()


@pytest.mark.parametrize("n_rows", [2, 3, 5, 40])
@pytest.mark.parametrize("kind", ["numbers", "holes", "constant", "equal"])
def test_any_rows(n_rows, kind):
    x = correlated(n_rows, 4)
    if kind == "holes":
        x[0, 1] = x[-1] = np.nan
        x[:, 3] = np.nan
    if kind == "constant":
        x[:, 2] = 0
    if kind == "equal":
        x[:] = 1
    views, conditional = learn_views(x, np.ones(n_rows), np.random.RandomState(0))
    cells = views.on(CPU).cells(torch.from_numpy(x))
    assert cells.shape == (5, n_rows, 4)
    assert torch.isfinite(cells).all()
    assert (cells >= 0).all()
    assert_array_equal(cells[:, torch.from_numpy(x).isnan()], 0)
    assert np.isfinite(conditional).all()


def test_losses_out_of_fold_are_those_of_fresh_rows():
    """In sample, the residuals of few rows are too small."""
    x = np.random.default_rng(0).normal(size=(120, 20)).astype(np.float32)
    fresh = np.random.default_rng(1).normal(size=(2000, 20)).astype(np.float32)
    views, unseen = learn_views(x, np.ones(120), np.random.RandomState(0))
    on_cpu = views.on(CPU)
    seen, new = (
        on_cpu.cells(torch.from_numpy(rows))[0].mean(dim=1).sqrt().numpy() for rows in (x, fresh)
    )
    assert np.median(unseen) == pytest.approx(np.median(new), rel=0.1)
    assert np.median(seen) < np.median(new)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.995])
def test_residuals_of_a_sparse_column_have_their_deviation(share):
    """Cells that are missing do not make it smaller."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 3)).astype(np.float32)
    x[rng.uniform(size=6000) < share, 1] = np.nan
    deviations = learn_conditional(x, np.ones(6000)).deviations
    assert_allclose(deviations, 1, atol=0.25)


def test_tiny_weights_do_no_harm():
    x, weight = correlated(300, 4), np.ones(300)
    weight[[3, 7]] = 1e-16
    _, scores = rank_knots(x, weight)
    assert np.isfinite(scores).all()
    views, conditional = learn_views(x, weight, np.random.RandomState(0))
    assert torch.isfinite(views.on(CPU).cells(torch.from_numpy(x))).all()
    assert np.isfinite(conditional).all()


def test_other_views_do_not_depend_on_the_precision():
    x = correlated(200, 8)
    x[::7, 2] = np.nan
    views, _ = learn_views(x, np.ones(200), np.random.RandomState(0))
    cells = views.on(CPU).cells(torch.from_numpy(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views.on(CPU).cells(torch.from_numpy(x)), cells)
