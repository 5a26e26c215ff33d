"""Copies and pickles of a fitted estimator are that estimator, and independent of it."""

import copy
import pickle
from io import BytesIO

import joblib
import pytest
from numpy.testing import assert_array_equal
from torch import nn


class LinearNetwork:
    """A user's own network, with a dropout that draws from torch's global generator."""

    def __repr__(self):
        return "LinearNetwork()"

    def build(self, n_features, n_components):
        encoder = nn.Sequential(
            nn.Linear(n_features, 6), nn.Tanh(), nn.Dropout(0.0), nn.Linear(6, n_components)
        )
        return encoder, nn.Linear(n_components, n_features)


def joblib_round_trip(model):
    buffer = BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


PARAMS = [{}, {"n_components": 0.7}, {"network": LinearNetwork()}, {"early_stopping": False}]


@pytest.mark.parametrize(
    ("case", "params"),
    [
        *((name, params) for name in ("denoiser", "generator", "detector") for params in PARAMS),
        *(
            ("transformer", params)
            for params in (*PARAMS, {"tied_weights": True}, {"dropout": 0.2})
        ),
    ],
    indirect=["case"],
)
@pytest.mark.parametrize(
    "round_trip",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, joblib_round_trip],
    ids=["pickle", "deepcopy", "joblib"],
)
def test_copies_are_alike_and_go_on_alike(round_trip, params, case, table):
    model = case.make(**params).fit(table)
    other = round_trip(model)
    case.assert_equal(other, model, table)
    assert other.get_params().keys() == model.get_params().keys()
    reference = copy.deepcopy(model).partial_fit(table)
    case.assert_equal(other.partial_fit(table), reference, table)


def test_copies_are_independent(case, table):
    model = case.make().fit(table)
    before = case.outputs(model, table)
    for copied in (copy.deepcopy, copy.copy):
        copied(model).partial_fit(table)
        for out, expected in zip(case.outputs(model, table), before, strict=True):
            assert_array_equal(out, expected)


# The others also keep a normal distribution, normal scores or held-out losses.
@pytest.mark.parametrize("case", ["transformer"], indirect=True)
def test_a_pickle_is_small(case, table):
    """One copy of the weights, and no optimiser state of a network that nobody trains."""
    model = case.make().fit(table)
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    assert len(pickle.dumps(model)) < 4 * 4 * n_weights + 40_000
