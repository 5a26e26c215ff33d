"""All randomness comes from random_state, and none of it after training."""

import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn


class LinearNetwork:
    """A user's own network, with torch's own dropout, which draws from the global generator."""

    def __init__(self, dropout=0.0):
        self.dropout = dropout

    def __repr__(self):
        return f"LinearNetwork(dropout={self.dropout})"

    def build(self, n_features, n_components):
        encoder = nn.Sequential(
            nn.Linear(n_features, 6),
            nn.Tanh(),
            nn.Dropout(self.dropout),
            nn.Linear(6, n_components),
        )
        return encoder, nn.Linear(n_components, n_features)


NETWORKS = {
    "default": {},
    "own": {"network": LinearNetwork()},
    "own dropout": {"network": LinearNetwork(dropout=0.3)},
}
NETWORKS_OF_CASES = [
    pytest.param(name, params, id=f"{name}-{network}")
    for name in ("transformer", "denoiser", "generator", "detector")
    for network, params in NETWORKS.items()
] + [
    pytest.param("transformer", {"dropout": 0.3}, id="transformer-dropout"),
    pytest.param("transformer", {"n_components": 0.8}, id="transformer-ordered"),
]
each_network = pytest.mark.parametrize(("case", "params"), NETWORKS_OF_CASES, indirect=["case"])


@each_network
def test_global_generators_are_left_alone(params, case, table):
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    model = case.make(**params).fit(table)
    model.partial_fit(table)
    for method in case.row_methods:
        getattr(model, method)(table)
    assert_array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


@pytest.mark.parametrize("n_rows", [150, 1100])
@each_network
def test_same_seed_same_bits(params, n_rows, case, digits):
    X = digits[:n_rows, 20:40]
    first = case.make(early_stopping=n_rows > 1000, **params).fit(X)
    torch.rand(3)
    second = case.make(early_stopping=n_rows > 1000, **params).fit(X)
    case.assert_equal(first, second, X)
    assert first.loss_curve_ == second.loss_curve_


def test_seeds_matter(case, table):
    def fit(seed):
        model = case.make(init="random", early_stopping=False, random_state=seed)
        return model.fit(table).encode(table)

    assert not np.array_equal(fit(0), fit(1))
    assert not np.array_equal(fit(None), fit(None))
    rng = np.random.RandomState(0)
    assert not np.array_equal(fit(rng), fit(rng))
    assert_array_equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))


def fit_and_apply(case, seed, X, params):
    model = case.make(random_state=seed, early_stopping=False, **params).fit(X)
    return np.hstack([out.reshape(len(X), -1) for out in case.outputs(model, X)])


@each_network
def test_same_bits_from_threads(params, case, digits):
    X = digits[:400, 20:40]
    alone = [fit_and_apply(case, seed, X, params) for seed in (0, 1)]
    start = threading.Barrier(2)

    def run(seed):
        start.wait()
        return fit_and_apply(case, seed, X, params)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            for together, expected in zip(pool.map(run, (0, 1)), alone, strict=True):
                assert_array_equal(together, expected)


def test_same_bits_from_processes(case, digits):
    X = digits[:300, 20:40]
    models = [case.make(random_state=seed, early_stopping=False) for seed in (0, 1)]
    there = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(model.fit)(X) for model in models
    )
    for here, other in zip(models, there, strict=True):
        case.assert_equal(other, here.fit(X), X)


def test_results_are_not_random(case, table):
    """No method draws after training."""
    model = case.make(n_components=0.9).fit(table)
    for method in case.row_methods:
        assert_array_equal(getattr(model, method)(table), getattr(model, method)(table))


@pytest.mark.parametrize("case", ["transformer"], indirect=True)  # the only one with these noises
def test_noise_in_training_leaves_results_alone(case, table):
    noise = {"dropout": 0.5, "latent_noise": 1.0, "input_noise": 1.0}
    model = case.make(n_components=0.9, **noise).fit(table)
    for method in case.row_methods:
        assert_array_equal(getattr(model, method)(table), getattr(model, method)(table))
