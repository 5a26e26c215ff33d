"""Files with one value changed, dropped or enlarged: refused, or estimators that work.

Each file has the right checksum, as whoever writes one can compute it.
"""

import json
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import skae
from skae import persistence
from skae._fit._plan import check_same_network
from skae._storage import _files
from skae.exceptions import ModelFileError
from skae.networks import ConvNetwork

X = np.random.default_rng(0).normal(size=(60, 3)).cumsum(axis=1)
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
IMAGES = np.random.default_rng(2).random((40, 16))
FRAME = pd.DataFrame(X, columns=list("abc")).assign(
    level=np.where(X[:, 0] > 0, "up", "down"),
    whole=np.arange(60) % 4,
    day=pd.Timestamp("2026-01-01", tz="Europe/Berlin") + pd.to_timedelta(np.arange(60) % 9, "D"),
)
CLASSES = np.where(X[:, 1] > 0, "one", "two")
QUICK = {"hidden_layer_sizes": (3,), "max_epochs": 2, "random_state": 0, "device": "cpu"}
MODELS = {
    "transformer": lambda: skae.AutoencoderTransformer(0.9, **QUICK).fit(FRAME[list("abc")]),
    "tied": lambda: skae.AutoencoderTransformer(2, tied_weights=True, **QUICK).partial_fit(X),
    "convolution": lambda: skae.AutoencoderTransformer(
        2, network=ConvNetwork((1, 4, 4), (2,)), output_activation="logistic", **QUICK
    ).fit(IMAGES),
    "denoiser": lambda: skae.DenoisingAutoencoder(add_indicator=True, **QUICK).fit(HOLES),
    "denoiser of noise": lambda: skae.DenoisingAutoencoder(
        noise="gaussian", noise_level=(0.1, 0.2, 0.3), **QUICK
    ).fit(X),
    "detector": lambda: skae.AutoencoderOutlierDetector(
        views=("autoencoder", "conditional", "neighbors"), variational=True, **QUICK
    ).fit(X),
    "detector of one": lambda: (
        skae.AutoencoderOutlierDetector(n_estimators=1, **QUICK).fit(X).partial_fit(X)
    ),
    "generator": lambda: skae.VAEGenerator(2, refine=True, **QUICK).fit(FRAME),
    "conditional": lambda: skae.VAEGenerator(2, conditional=True, refine=True, **QUICK).fit(
        X, CLASSES
    ),
    "conditional on numbers": lambda: skae.VAEGenerator(1, conditional=True, **QUICK).fit(
        X, X[:, 0]
    ),
    "bernoulli": lambda: skae.VAEGenerator(2, likelihood="bernoulli", **QUICK).fit(IMAGES),
    "gaussian": lambda: skae.VAEGenerator(2, likelihood="gaussian", **QUICK).fit(X),
}
SLOW = ("generator", "conditional")  # to train: their refiners are
# Changes of each file that are tried.
N_CHANGES = 50
ROWS = {"transformer": FRAME[list("abc")], "generator": FRAME}
ROWS |= {"convolution": IMAGES, "bernoulli": IMAGES, "denoiser": HOLES}


@cache
def parts(name):
    """The document and the arrays of a model's file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return persistence._document_and_arrays(MODELS[name]())


def restored(document, arrays):
    number = document.get("format")
    with persistence._errors_of_file("a.skae"):
        if type(number) is not int or not 1 <= number <= _files.FORMAT:
            raise ModelFileError("as when the file is opened")
        return persistence._restored(document, arrays, 30_000, {}, "cpu", torch.device("cpu"))


# What is changed.


def children(node):
    return node.items() if isinstance(node, dict) else enumerate(node)


def places(node, path=()):
    """Paths of all values in a document but its checksum."""
    for key, child in children(node):
        if path or key not in ("sha256", "versions"):
            yield (*path, key)
            if isinstance(child, dict | list):
                yield from places(child, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


OTHERS = (None, True, -1, 0, 0.5, "x", [], {}, [[]], {"is": "tuple", "items": []})


def with_value(path, value):
    def change(document, arrays):
        at(document, path[:-1])[path[-1]] = value

    return f"{'.'.join(map(str, path))} is {value!r:.40}", change


def without(path):
    def change(document, arrays):
        del at(document, path[:-1])[path[-1]]

    return f"{'.'.join(map(str, path))} is dropped", change


def enlarged(value):
    """Values that ask for more."""
    if type(value) is bool:
        return [not value]
    if type(value) is int:
        return [value + 1, 2 * value + 1, -value]
    if type(value) is float:
        return [1000 * value + 1, -value, int(value)]
    if type(value) is str:
        return [value + "x", value[:-1]]
    if type(value) is list and value:
        return [value + value[-1:], value[:-1], value[::-1]]
    return []


def document_changes(document):
    for path in places(document):
        value = at(document, path)
        yield without(path)
        for other in (*OTHERS, *enlarged(value)):
            if other != value or type(other) is not type(value):
                yield with_value(path, other)


def dtype_nodes(document, name):
    return [
        node
        for node in (at(document, path) for path in places(document))
        if isinstance(node, dict) and node.get("name") == name and "dtype" in node
    ]


def with_array(name, what, function):
    """An array changed, and the dtype that the document names for it."""

    def change(document, arrays):
        before = arrays[name]
        arrays[name] = np.ascontiguousarray(function(before))
        for node in dtype_nodes(document, name) if arrays[name].dtype != before.dtype else ():
            dtype = arrays[name].dtype
            node["dtype"] = (
                str(torch.from_numpy(arrays[name]).dtype) if "role" in node else (dtype.str)
            )

    return f"{name} is {what}", change


def array_changes(arrays):
    for name, array in arrays.items():
        yield f"{name} is dropped", lambda document, arrays, name=name: arrays.pop(name)
        flat = array.reshape(1) if array.ndim == 0 else array
        yield with_array(name, "shorter", lambda a, flat=flat: flat[:-1])
        yield with_array(name, "longer", lambda a, flat=flat: np.concatenate([flat, flat[-1:]]))
        yield with_array(name, "doubled", lambda a, flat=flat: np.concatenate([flat, flat]))
        yield with_array(name, "empty", lambda a, flat=flat: flat[:0])
        yield with_array(name, "one value", lambda a, flat=flat: flat.ravel()[:1])
        yield with_array(name, "flat", lambda a: a.ravel())
        yield with_array(name, "wrapped", lambda a: a[None])
        yield with_array(name, "a column", lambda a: a[..., None])
        if array.ndim > 1:
            yield with_array(name, "transposed", lambda a: a.T)
            yield with_array(name, "narrower", lambda a: a[..., :-1])
            yield with_array(name, "wider", lambda a: np.concatenate([a, a[..., -1:]], axis=-1))
        for dtype in (np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_):
            if array.dtype != dtype:
                yield with_array(
                    name, f"cast to {dtype.__name__}", lambda a, t=dtype: np.nan_to_num(a).astype(t)
                )
        yield with_array(name, "zero", np.zeros_like)
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf):
                yield with_array(
                    name,
                    f"{value} at first",
                    lambda a, v=value: np.where(first(a), v, a).astype(a.dtype),
                )
        elif array.dtype.kind in "iu":
            yield with_array(name, "one more", lambda a: a + a.dtype.type(1))
            yield with_array(name, "negative", lambda a: (-1 - a.astype(np.int64)).astype(a.dtype))


def first(array):
    mask = np.zeros(array.shape, dtype=bool)
    mask.flat[:1] = True
    return mask


def all_changes(name):
    document, arrays = parts(name)
    return [*array_changes(arrays), *document_changes(document)]


# What a model that was read must do.


def use(model, rows, goes_on=False):
    """Call all methods; raise where one fails or gives what is not finite."""
    if hasattr(rows, "columns") and hasattr(model, "feature_names_in_"):
        rows = rows.set_axis(list(model.feature_names_in_), axis=1)
    results = {}
    for method in (
        *("encode", "reconstruct", "reconstruction_error", "transform", "decision_function"),
        *("score_samples", "predict", "explain", "pvalues", "correct"),
    ):
        if hasattr(model, method):
            results[method] = getattr(model, method)(rows)
    results["decode"] = model.decode(np.zeros((2, np.asarray(results["encode"]).shape[1])))
    if hasattr(model, "sample"):
        results["sample"] = model.sample(5, random_state=0)
    if hasattr(model, "score"):
        results["score"] = np.array([model.score(rows)])
    n_rows = {"decode": 2, "sample": 5, "score": 1}
    for method, result in results.items():
        numbers = result.select_dtypes("number") if hasattr(result, "iloc") else result
        numbers = np.asarray(numbers, dtype=float)
        assert len(numbers) == n_rows.get(method, len(rows)), method
        if method != "correct":  # which leaves missing cells as they are
            assert np.isfinite(numbers).all(), method
    repr(model)
    model._repr_html_()
    if goes_on:
        train_on(model, rows)


def train_on(model, rows):
    targets = {}
    if getattr(model, "conditional", False):
        targets["y"] = (
            X[: len(rows), 0] if model._targets.classes_ is None else CLASSES[: len(rows)]
        )
    try:
        check_same_network(model, model._network_fingerprint)
    except ValueError:  # a parameter was changed: training says so, too
        with pytest.raises(ValueError, match="does not fit the network"):
            model.partial_fit(rows, **targets)
        return
    model.partial_fit(rows, **targets)
    assert np.isfinite(model.loss_curve_[-1])


def outcome(name, change, goes_on=False):
    """What comes of a change: "refused", "works", or the error."""
    text, arrays = text_and_arrays(name)
    document, arrays = json.loads(text), {k: a.copy() for k, a in arrays.items()}
    change(document, arrays)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = restored(document, arrays)
        except ModelFileError:
            return "refused"
        except LookupError as error:
            return "refused" if type(error) is LookupError else f"raw {error!r}"
        try:
            use(model, ROWS.get(name, X)[:20], goes_on)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "works"


@cache
def text_and_arrays(name):
    document, arrays = parts(name)
    return json.dumps(document), arrays


@pytest.mark.parametrize("name", MODELS)
def test_what_is_changed_is_refused_or_works(name):
    changes = all_changes(name)
    rng = np.random.default_rng(0)
    outcomes = {}
    for i in rng.choice(len(changes), N_CHANGES, replace=False):
        what, change = changes[i]
        goes_on = i % 5 == 0 and name not in SLOW and not what.startswith("parameters")
        outcomes.setdefault(outcome(name, change, goes_on), []).append(what)
    assert outcomes.keys() == {"refused", "works"}, {
        error: changed for error, changed in outcomes.items() if error not in ("refused", "works")
    }


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_changed_works(name):
    assert outcome(name, lambda document, arrays: None, goes_on=True) == "works"
