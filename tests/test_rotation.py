"""Formulas of training in principal coordinates."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.linear_model import Ridge

from skae._data._scaling import Scaler
from skae._engine._batches import SourceRows
from skae._engine._build import build_autoencoder
from skae._engine._rotation import RIDGES, Rotation, _features_and_errors, refit_output
from skae._stats._pca import fit_pca
from skae.networks import MLPNetwork
from skae.networks._autoencoder import OutputLink

N_FEATURES = 8
LINK = OutputLink("identity", np.zeros(N_FEATURES), np.ones(N_FEATURES))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, N_FEATURES))
    X = np.tanh(X) + 0.1 * rng.normal(size=X.shape)
    scaler = Scaler("global").fit(X)

    def make(indices, weighted=False):
        weight = np.linspace(0.5, 2.0, len(X)) if weighted else None
        return SourceRows(X, scaler, np.arange(len(X))[indices], weight)

    return make


@pytest.fixture
def module(rows):
    pca = fit_pca(rows(slice(200)).read_all().numpy(), 2)
    module = build_autoencoder(
        MLPNetwork((6,)), N_FEATURES, 2, link=LINK, pca=pca, tied=False, seed=0
    )
    return module.requires_grad_(False)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_coordinates_are_converted_to_those_of_columns(rows, weighted, rng):
    part = rows(slice(100), weighted)
    x = part.read_all().numpy().astype(float)
    weight = np.ones(100) if part.sample_weight is None else part.sample_weight.numpy()
    pca = fit_pca(x, 4)
    rotation = Rotation(part.scaler, pca.mean, pca.directions[:4], pca.variances[:4])
    coordinates = rotation.transform(part.table[:100])
    output = coordinates + rng.normal(size=coordinates.shape)  # any output of a network
    columns = output @ rotation.axes + rotation.mean
    loss, expected = (
        np.average(np.square(a - b).mean(axis=1), weights=weight)
        for a, b in ((output, coordinates), (columns, x))
    )
    assert_allclose(rotation.in_columns(part)(loss), expected, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_output_layer_is_refitted_by_ridge_regression(module, rows, weighted):
    train, valid = rows(slice(200), weighted), rows(slice(200, 300))
    ((features, errors, weight),) = _features_and_errors(module, train)
    ((valid_features, valid_errors, _),) = _features_and_errors(module, valid)
    before = module.reconstruct(valid.read_all())
    scale = (features.square() if weight is None else features.square() * weight[:, None]).sum(0)
    candidates = [torch.zeros_like(valid_errors).numpy()]
    for ridge in RIDGES:
        model = Ridge(ridge * float(scale.mean()), fit_intercept=False)
        model.fit(features.double(), errors.double(), weight)
        candidates.append(model.predict(valid_features))
    losses = [np.square(valid_errors.numpy() - candidate).mean() for candidate in candidates]
    assert np.argmin(losses) > 0
    assert np.abs(candidates[1] - candidates[2]).max() > 0.01  # the ridge matters
    refit_output(module, train, valid)
    after = module.reconstruct(valid.read_all())
    assert_allclose(after - before, candidates[np.argmin(losses)], atol=1e-3)


def test_no_refit_if_it_does_not_help(module, rows, monkeypatch):
    """Validation errors are the opposite of those in training."""
    train = rows(slice(200))
    ((features, errors, weight),) = _features_and_errors(module, train)
    calls = iter([[(features, errors, weight)], [(features, -errors, weight)]])
    monkeypatch.setattr("skae._engine._rotation._features_and_errors", lambda *args: next(calls))
    before = [p.clone() for p in module.parameters()]
    refit_output(module, train, train)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
