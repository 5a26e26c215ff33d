"""Parameters belong to the user: they are stored as given, named in errors and never rewritten."""

import inspect

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skae._onnx_hooks import IMPLEMENTATIONS
from skae._sklearn import CallbackSupportMixin

BAD_VALUES = {
    "n_components": [0, -3, 1.0, 1.5, 0.0, "all"],
    "hidden_layer_sizes": [0, "wide"],
    "activation": ["sin"],
    "network": ["mlp"],
    "init": ["zeros"],
    "alpha": [-1],
    "learning_rate": [0, np.nan],
    "batch_size": [0],
    "max_epochs": [0, 2.5],
    "early_stopping": [3],
    "validation_fraction": [0.0, 1.0],
    "n_iter_no_change": [0],
    "warm_start": ["no"],
    "device": [3, "abacus"],
    "precision": ["float8"],
    "callbacks": ["print"],
    "random_state": ["x"],
    "verbose": [-1],
}
# None is a number of latents of the transformer only.
BAD_VALUES_AND_NONE = BAD_VALUES | {"n_components": [*BAD_VALUES["n_components"], None]}
BAD_VALUES_OF_CASES = {
    "transformer": BAD_VALUES
    | {
        "loss": ["mse"],
        "output_activation": ["softmax"],
        "tied_weights": ["yes"],
        "l1": [-1],
        "sparsity": [-0.1],
        "sparsity_penalty": ["l2"],
        "sparsity_target": [0.0, 1.0],
        "input_noise": [-1],
        "latent_noise": [-1],
        "dropout": [1.0, -0.1],
        "scaling": ["unit"],
        "ordered": ["yes"],
        "whiten": ["yes"],
        "categorical_features": ["names", 1.5],
    },
    "denoiser": BAD_VALUES_AND_NONE
    | {
        "noise": ["pepper"],
        "noise_level": [-1.0],
        "noise_unit": ["scaled"],
        "output": ["cleaned"],
        "keep_observed": ["always"],
        "missing_values": ["?"],
        "add_indicator": ["yes"],
        "keep_empty_features": ["yes"],
        "sample_posterior": ["yes"],
        "min_value": ["seen"],
        "max_value": ["seen"],
        "categorical_features": ["all"],
        "loss": ["binary_cross_entropy"],
        "scaling": ["unit"],
    },
    "generator": BAD_VALUES_AND_NONE
    | {
        "likelihood": ["normal"],
        "prior": ["flat"],
        "n_mixture_components": [0],
        "refine": ["always"],
        "beta": [-1.0],
        "kl_warmup": [-0.1, 1.1],
        "conditional": ["yes"],
        "n_importance_samples": [0],
        "relations": ["all", 3],
        "private_values": ["yes", None],
        "categorical_features": ["all"],
    },
    "detector": BAD_VALUES_AND_NONE
    | {
        "contamination": [0.0, 0.6, "some"],
        "threshold": ["iqr"],
        "n_std": [-1.0],
        "n_estimators": [0],
        "views": ["all", ("forest",), ()],
        "core_fraction": [0.0, 1.5],
        "n_refits": [-1],
        "variational": ["yes"],
        "loss": ["binary_cross_entropy"],
        "scaling": ["quantile"],
        "categorical_features": ["all"],
    },
}


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [
        (case, name, value)
        for case, bad_values in BAD_VALUES_OF_CASES.items()
        for name, values in bad_values.items()
        for value in values
    ],
    indirect=["case"],
)
def test_bad_parameters_are_named(name, value, case, table):
    model = case.make(**{name: value})
    with pytest.raises(ValueError, match=name) as caught:
        model.fit(table)
    assert repr(value) in str(caught.value)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    ("case", "bad_values"), BAD_VALUES_OF_CASES.items(), ids=BAD_VALUES_OF_CASES, indirect=["case"]
)
def test_every_parameter_has_a_bad_value(case, bad_values):
    assert set(bad_values) == set(case.estimator().get_params())


@pytest.mark.parametrize("n_rows", [5, 1000])
@pytest.mark.parametrize("case", ["transformer", "denoiser", "generator"], indirect=True)
def test_validation_that_leaves_no_rows(n_rows, case, digits):
    model = case.make(validation_fraction=0.9999, early_stopping=True)
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9999"):
        model.fit(digits[:n_rows, 20:30])


@pytest.mark.parametrize("n_rows", [5, 1000])
# Its members leave out different rows, and each keeps two.
@pytest.mark.parametrize("case", ["detector"], indirect=True)
def test_validation_that_leaves_two_rows_to_a_member(n_rows, case, digits):
    X = digits[:n_rows, 20:30]
    model = case.make(validation_fraction=0.9999).fit(X)
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))


def test_construction_does_nothing(case):
    """No seeding, no work and no rewriting in ``__init__``."""
    state = torch.random.get_rng_state()
    sentinel = object()
    names = list(inspect.signature(case.estimator).parameters)
    model = case.estimator(**dict.fromkeys(names, sentinel))
    assert all(getattr(model, name) is sentinel for name in names)
    assert vars(model).keys() == set(names)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fit_rewrites_no_parameter(case, table):
    model = case.make(device="auto", n_components=0.5, hidden_layer_sizes=[4])
    before = model.get_params()
    assert model.fit(table).get_params() == before


class LinearNetwork:
    """A user's own network, which scikit-learn cannot take apart."""

    def __repr__(self):
        return "LinearNetwork()"

    def build(self, n_features, n_components):
        return nn.Linear(n_features, n_components), nn.Linear(n_components, n_features)


@pytest.mark.parametrize("network", [None, LinearNetwork()])
def test_clone_leaves_parameters_and_takes_no_fit(network, case, table):
    model = case.make(network=network, callbacks=[]).fit(table)
    other = clone(model)
    assert repr(other.get_params()) == repr(model.get_params())
    with pytest.raises(NotFittedError):
        other.encode(table)


def test_unfitted(case, table):
    for method in (*case.row_methods, "decode"):
        with pytest.raises(NotFittedError, match=case.estimator.__name__):
            getattr(case.estimator(), method)(table)
    if hasattr(case.estimator(), "inverse_transform"):
        with pytest.raises(NotFittedError, match=case.estimator.__name__):
            case.estimator().inverse_transform(table)


def test_y_is_ignored(case, table):
    plain = case.make().fit(table)
    for y in (np.arange(120), ["a", "b"] * 60, "anything", np.full(3, np.nan)):
        case.assert_equal(case.make().fit(table, y), plain, table)
        if hasattr(plain, "score"):
            assert_array_equal(plain.score(table, y), plain.score(table))


COMMON = {
    "fit",
    "partial_fit",
    "encode",
    "decode",
    "reconstruct",
    "reconstruction_error",
    "get_params",
    "set_params",
    "get_metadata_routing",
    "set_fit_request",
    "set_partial_fit_request",
}
if hasattr(CallbackSupportMixin, "set_callbacks"):  # from scikit-learn 1.9 on
    COMMON |= {"set_callbacks"}
OF_TRANSFORMERS = {
    "fit_transform",
    "transform",
    "score",
    "get_feature_names_out",
    "set_output",
    "set_score_request",
}
OWN = {
    "transformer": OF_TRANSFORMERS | {"inverse_transform"},
    "denoiser": OF_TRANSFORMERS,  # inverse_transform is there with output="latent" only
    "generator": OF_TRANSFORMERS
    | {"inverse_transform", "score_samples", "elbo", "sample", "interpolate", "evaluate"},
    "detector": {
        "fit_predict",
        "predict",
        "decision_function",
        "score_samples",
        "pvalues",
        "explain",
        "correct",
    },
}


@pytest.mark.parametrize(("case", "own"), OWN.items(), ids=OWN, indirect=["case"])
def test_public_methods(case, own):
    """The many names of skorch stay inside ``net_``."""
    model = case.estimator()
    public = {name for name in dir(model) if not name.startswith("_")}
    assert public - set(model.get_params()) - set(IMPLEMENTATIONS) == COMMON | own
