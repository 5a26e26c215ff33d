"""Docstrings agree with the signatures and attributes that they describe."""

import inspect
import re

import numpy as np
import pytest
from sklearn.base import clone

import skae
import skae.comparison
import skae.dask
import skae.distributed
import skae.interchange
import skae.io
import skae.networks
import skae.plotting
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)

CLASSES = [
    *(getattr(skae, n) for n in skae.__all__ if inspect.isclass(getattr(skae, n))),
    *(getattr(skae.networks, n) for n in skae.networks.__all__),
    *(getattr(skae.plotting, n) for n in skae.plotting.__all__),
    skae.interchange.PyODDetector,
]
FUNCTIONS = [
    skae.comparison.compare_knn,
    skae.comparison.compare_outlier_detectors,
    skae.comparison.latent_size_curve,
    skae.comparison.smallest_within,
    skae.dask.apply,
    skae.dask.fit,
    skae.distributed.fit,
    skae.io.open_table,
    skae.io.write_table,
    skae.load,
    skae.save,
    skae.to_onnx,
]
GIVE_NOTHING_BACK = [skae.save]
ESTIMATORS = [
    AutoencoderTransformer(0.9, hidden_layer_sizes=4, max_epochs=2, random_state=0),
    AutoencoderOutlierDetector(max_epochs=2, random_state=0),
    DenoisingAutoencoder(max_epochs=2, random_state=0),
    VAEGenerator(max_epochs=2, random_state=0),
    skae.interchange.PyODDetector(AutoencoderOutlierDetector(max_epochs=2, random_state=0)),
]


def parameters_section(doc):
    """Names and types of the Parameters section, in order."""
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}|\Z)", doc or "", re.M | re.S)
    entries = re.findall(r"^([*\w][\w, *]*?)(?: : (.*))?$", match[1] if match else "", re.M)
    return [(n.lstrip("*"), kind) for names, kind in entries for n in names.split(", ")]


def documented(obj):
    return parameters_section(inspect.getdoc(obj))


def signature(obj):
    parameters = inspect.signature(obj).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


def public_methods():
    for cls in CLASSES:
        # Class methods are bound, others functions.
        for name, method in inspect.getmembers(cls, inspect.isroutine):
            if not name.startswith("_") and method.__module__.startswith("skae"):
                yield pytest.param(method, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("method", [*public_methods(), *FUNCTIONS])
def test_method(method):
    doc = inspect.getdoc(method)
    assert doc, "no docstring"
    assert [name for name, _ in documented(method)] == list(signature(method))
    gives_back = method not in GIVE_NOTHING_BACK
    assert bool(re.search(r"^(Returns|Yields)\n-+$", doc, re.M)) == gives_back


@pytest.mark.parametrize("cls", CLASSES)
def test_class_parameters(cls):
    entries = documented(cls)
    defaults = signature(cls.__init__)
    assert [name for name, _ in entries] == list(defaults)
    for name, kind in entries:
        if defaults[name] is inspect.Parameter.empty:
            assert "default" not in kind
            continue
        match = re.search(r"default=(.+)$", kind)
        assert match, f"{name}: the docstring names no default"
        default = eval(match[1], {"__builtins__": {}, "np": np})
        assert repr(default) == repr(defaults[name]), name


@pytest.mark.parametrize("obj", [*CLASSES, *FUNCTIONS])
def test_has_an_example(obj):
    assert ">>> " in inspect.getdoc(obj)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_fitted_attributes(estimator, table):
    """Every fitted attribute is documented and every documented one exists."""
    doc = inspect.getdoc(type(estimator))
    match = re.search(r"^Attributes\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}|\Z)", doc, re.M | re.S)
    assert match, "no Attributes section"
    attributes = set(re.findall(r"^(\w+_)\b.* : ", match[1], re.M))
    fitted = clone(estimator).fit(table)
    public = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    assert public <= attributes | {"n_features_in_", "feature_names_in_"}
    assert all(hasattr(fitted, name) for name in attributes - {"feature_names_in_"})
    assert {"n_features_in_", "feature_names_in_"} <= attributes
