"""partial_fit trains one epoch more, with the statistics of its first call."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer


def test_partial_fit_learns(digits):
    model = AutoencoderTransformer(8, random_state=0)
    model.partial_fit(digits[:64])
    start = model.score(digits)
    for _ in range(15):
        for batch in np.array_split(digits, 6):
            assert model.partial_fit(batch) is model
    # 0.83, against 0.58 at first and PCA's 0.67, over five seeds.
    assert model.score(digits) > start + 0.05
    assert model.score(digits) > PCA(8).fit(digits).explained_variance_ratio_.sum()


# The generator's statistics are normal scores, which stay in the same way but have no name.
@pytest.mark.parametrize("case", ["denoiser", "detector"], indirect=True)
def test_partial_fit_fixes_the_statistics_at_the_first_call(case, table):
    model = case.make().partial_fit(table[:5])
    mean = model.mean_.copy()
    model.partial_fit(100 + table)
    assert_array_equal(model.mean_, mean)
    assert_allclose(mean, table[:5].mean(axis=0))
    assert model.n_features_in_ == 10


def test_the_mean_follows_and_the_scaling_stays(table):
    weight = np.r_[np.full(7, 3.0), 0.0, np.ones(7)]
    model = AutoencoderTransformer(2, hidden_layer_sizes=8, random_state=0)
    model.partial_fit(table[:5]).partial_fit(100 + table[5:50])
    model.partial_fit(table[50:65], sample_weight=weight)
    of_last = np.average(table[50:65], axis=0, weights=weight)
    expected = (table[:5].sum(axis=0) + (100 + table[5:50]).sum(axis=0) + 14 * of_last) / 64
    assert_allclose(model.mean_, expected)
    assert_allclose(model._scaler.center_, table[:5].mean(axis=0))


@pytest.mark.parametrize("case", ["generator"], indirect=True)
def test_partial_fit_fixes_the_range_at_the_first_call(case, table):
    model = case.make().partial_fit(table[:5]).partial_fit(100 + table)
    assert (model.reconstruct(100 + table) <= table[:5].max(axis=0)).all()
    assert model.n_features_in_ == 10


def test_partial_fit_from_two_rows_then_one(case, table):
    model = case.make().partial_fit(table[:2])
    model.partial_fit(table[:1])
    assert all(np.isfinite(out).all() for out in case.outputs(model, table))
    with pytest.raises(ValueError, match="minimum of 2"):
        case.make().partial_fit(table[:1])


def test_partial_fit_after_fit_goes_on(case, table):
    model = case.make().fit(table)
    before = model.encode(table)
    model.partial_fit(table)
    after = model.encode(table)
    assert not np.array_equal(before, after)
    assert_allclose(before, after, atol=0.5 * max(1, before.std()))


@pytest.mark.parametrize(
    ("case", "n_components"),
    [
        ("transformer", 2),
        ("transformer", 0.8),  # ordered latents keep a curve for each size
        ("denoiser", 2),
        ("generator", 2),
        ("detector", 2),
    ],
    indirect=["case"],
)
def test_partial_fit_after_fit_adds_to_the_curves(case, n_components, judged):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1100, 6)) @ rng.normal(size=(6, 60)) + 0.1 * rng.normal(size=(1100, 60))
    model = case.make(n_components=n_components).fit(X)
    curve = list(model.loss_curve_)
    model.partial_fit(X)
    assert_allclose(model.loss_curve_[:3], curve)
    assert len(model.loss_curve_) == model.n_iter_ == 4
    assert model.loss_curve_[3] < curve[-1] + abs(curve[-1])


def test_partial_fit_calls_are_one_network(case, table):
    """Two calls are not one call, and a fit starts anew."""
    once = case.make().partial_fit(table)
    twice = copy.deepcopy(once).partial_fit(table)
    assert not np.array_equal(once.encode(table), twice.encode(table))
    case.assert_equal(twice.fit(table), case.make().fit(table), table)


def test_fit_and_partial_fit_return_self(case, table):
    model = case.make()
    assert model.fit(table) is model
    assert model.partial_fit(table) is model


@pytest.mark.parametrize("sample_weight", [False, True])
def test_rows_are_counted(case, table, sample_weight):
    def weights(X):
        return {"sample_weight": np.arange(len(X)) % 3} if sample_weight else {}

    def counted(X):
        return np.count_nonzero(np.arange(len(X)) % 3) if sample_weight else len(X)

    model = case.make()
    first, second = table[:80], table[80:]
    model.partial_fit(first, **weights(first)).partial_fit(second, **weights(second))
    assert model.n_samples_seen_ == counted(first) + counted(second)
    model.fit(first, **weights(first))
    assert model.n_samples_seen_ == counted(first)
    model.set_params(warm_start=True).fit(second, **weights(second))
    assert model.n_samples_seen_ == counted(second)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(first[:, :3])
    assert model.partial_fit(first).n_samples_seen_ == counted(second) + len(first)
