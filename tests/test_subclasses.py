"""Subclasses that take fewer, other or more parameters work as those of scikit-learn do."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae.comparison import compare_knn, compare_outlier_detectors
from skae.interchange import PyODDetector

SMALL = {"n_components": 2, "max_epochs": 2, "random_state": 0}


class Fewer:
    def __init__(self, alpha=0.0):
        super().__init__(hidden_layer_sizes=(8,), alpha=alpha, **SMALL)


class Renamed:
    def __init__(self, width=8):
        self.width = width
        super().__init__(hidden_layer_sizes=width, **SMALL)


class More:
    def __init__(self, note="", *, alpha=0.0):
        super().__init__(hidden_layer_sizes=(8,), alpha=alpha, **SMALL)
        self.note = note


# Pickles need classes that a module holds by name.
BASES = (AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator, AutoencoderOutlierDetector)
CLASSES = {}
for kind in (Fewer, Renamed, More):
    for base in BASES:
        name = kind.__name__ + base.__name__
        CLASSES[name] = globals()[name] = type(
            name, (kind, base), {"__module__": __name__, "__init__": kind.__init__}
        )
GRIDS = {"Fewer": {"alpha": [0.0, 0.1]}, "Renamed": {"width": [4, 8]}, "More": {"note": ["a"]}}


@pytest.fixture(params=CLASSES)
def cls(request):
    return CLASSES[request.param]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(40, 5))


def grid_of(cls):
    return next(grid for kind, grid in GRIDS.items() if cls.__name__.startswith(kind))


def test_a_subclass_is_fitted_as_its_base_is(cls, rows):
    base = cls.__mro__[2]
    plain = base(hidden_layer_sizes=(8,), alpha=0.0 if cls().alpha == 0.0 else "auto", **SMALL)
    model = cls()
    for each in (model, plain):
        each.fit(rows).partial_fit(rows)
    assert_array_equal(model.encode(rows), plain.encode(rows))
    for each in (model, plain):
        each.warm_start = True
        each.fit(rows)
    assert_array_equal(model.encode(rows), plain.encode(rows))


def test_copies_of_a_subclass(cls, rows):
    model = cls().fit(rows)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone(model).fit(rows)):
        assert type(other) is cls
        assert other.get_params() == model.get_params()
        assert_array_equal(other.encode(rows), model.encode(rows))
        assert_array_equal(
            other.partial_fit(rows).encode(rows),
            copy.deepcopy(model).partial_fit(rows).encode(rows),
        )


def test_what_shapes_the_network_must_not_change_in_a_subclass(cls, rows):
    model = cls().fit(rows)
    model.activation = "relu"  # a parameter of the base
    with pytest.raises(ValueError, match=r"activation='relu' does not fit the network"):
        model.partial_fit(rows)
    model = cls().fit(rows)
    (name, values), free = next(iter(grid_of(cls).items())), {"alpha"}
    model.set_params(**{name: values[0]}).warm_start = True
    if name in free:
        model.fit(rows)
        return
    with pytest.raises(ValueError, match=f"{name}={values[0]!r} does not fit the network"):
        model.fit(rows)


def test_searches_and_diagrams_of_a_subclass(cls, rows):
    def error(model, X, y=None):
        return -np.mean(model.reconstruction_error(X))

    search = GridSearchCV(cls(), grid_of(cls), cv=2, scoring=error).fit(rows)
    assert type(search.best_estimator_) is cls
    assert "error" not in repr(search.best_estimator_)
    for shown in (search.best_estimator_, make_pipeline(search.best_estimator_)):
        html = shown._repr_html_()
        assert cls.__name__ in html
        assert "encoder" in html.lower()  # the network, too


def test_a_subclass_is_not_saved_and_a_sentence_says_so(cls, rows, tmp_path):
    with pytest.raises(TypeError, match=rf"{cls.__name__}\(.*itself; for others, subclasses"):
        skae.save(cls().fit(rows), tmp_path / "model.skae")
    assert not (tmp_path / "model.skae").exists()


def test_a_device_is_set_only_where_a_subclass_takes_it(cls, rows):
    model = cls().fit(rows)
    with pytest.raises(ValueError, match="'device'"):
        model.set_params(device="cpu")
    assert model.device == "auto"


def test_subclasses_elsewhere(rows):
    outlying = np.arange(len(rows)) % 10 == 0
    detectors = [cls() for cls in CLASSES.values() if issubclass(cls, BASES[3])]
    assert len(compare_outlier_detectors(detectors, rows, outlying, n_splits=2)) == 3
    for detector in detectors:
        assert PyODDetector(detector).fit(rows).labels_.sum() > 0
    transformers = [cls() for cls in CLASSES.values() if issubclass(cls, BASES[0])]
    assert len(compare_knn(transformers, rows, outlying, cv=2)) >= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subclasses_become_onnx_models(dtype, rows):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    X = rows.astype(dtype)
    model = CLASSES["FewerAutoencoderTransformer"]().fit(X)
    onnx = skae.interchange.to_onnx(model, dtype=dtype)
    session = ort.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(found, model.transform(X), rtol=1e-4, atol=1e-5)
