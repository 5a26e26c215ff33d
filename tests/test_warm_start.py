"""With warm_start, fit goes on from the network there is; without, it forgets."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal, assert_equal
from sklearn.base import clone

from skae import AutoencoderTransformer


@pytest.mark.parametrize("n_rows", [120, 1200])
def test_warm_start_goes_on_from_where_it_was(n_rows, digits):
    X = digits[:n_rows]
    model = AutoencoderTransformer(
        4, hidden_layer_sizes=32, warm_start=True, max_epochs=15, random_state=0
    ).fit(X)
    before = model.score(X)
    model.set_params(learning_rate=1e-12, max_epochs=1).fit(X)
    assert model.score(X) > before - 0.01
    model.set_params(learning_rate="auto", max_epochs=15).fit(X)
    # 0.55 grows to 0.67 or more, and 0.69 to 0.71 or more, over five seeds.
    assert model.score(X) > before
    cold = clone(model).fit(X)
    assert cold.score(X) < model.score(X)


def test_warm_start_goes_on_with_the_same_weights(case, table):
    """Steps too small to move a weight leave the network that was there, not a fresh one."""
    # Without early stopping, the last epoch is kept and not the start.
    model = case.make(warm_start=True, early_stopping=False).fit(table)
    before = model.encode(table)
    model.set_params(learning_rate=1e-30, max_epochs=1).fit(table)
    assert_array_equal(model.encode(table), before)
    fresh = clone(model).fit(table)
    assert not np.array_equal(fresh.encode(table), before)


# The generator keeps its normal scores, which have no mean.
@pytest.mark.parametrize("case", ["transformer", "denoiser", "detector"], indirect=True)
def test_warm_start_keeps_scaling(case, table):
    model = case.make(warm_start=True).fit(table)
    settings = vars(model._scaler).copy()
    model.fit(table + 1)
    assert_equal(vars(model._scaler), settings)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_components": 3}, "n_components=3"), ({"hidden_layer_sizes": (9,)}, "warm_start")],
)
def test_warm_start_with_another_network(params, message, case, table):
    model = case.make(warm_start=True).fit(table)
    Z = model.encode(table)
    with pytest.raises(ValueError, match=message):
        model.set_params(**params).fit(table)
    assert_array_equal(model.encode(table), Z)
    with pytest.raises(ValueError, match="9 features"):
        case.make(warm_start=True).fit(table).fit(table[:, :9])


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("transformer", {"init": "random"}),
        ("transformer", {"loss": "huber"}),
        ("transformer", {"latent_noise": 1.0}),
        ("transformer", {"n_components": 3}),
        ("denoiser", {"noise": "swap"}),
        ("denoiser", {"loss": "huber"}),
        ("denoiser", {"n_components": 3}),
        ("generator", {"likelihood": "gaussian"}),
        ("generator", {"beta": 2.0}),
        ("generator", {"n_components": 3}),
        ("detector", {"loss": "huber"}),
        ("detector", {"n_estimators": 3}),
        ("detector", {"variational": True}),
    ],
    indirect=["case"],
)
def test_training_goes_on_only_with_the_same_network(change, case, table):
    name = next(iter(change))
    model = case.make(warm_start=True).fit(table)
    before = model.encode(table)
    model.set_params(**change)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=f"^{name}="):
            method(table)
    assert_array_equal(model.set_params(warm_start=False).encode(table), before)


def test_refit_forgets(case, table, wine):
    model = case.make().fit(wine)
    model.fit(table)
    assert model.n_features_in_ == 10
    case.assert_equal(model, case.make().fit(table), table)
