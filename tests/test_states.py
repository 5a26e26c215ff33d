"""The same model has the same bytes, and plain ones, wherever it is pickled, copied or hashed."""

import copy
import os
import pickle
import subprocess
import sys
from datetime import UTC
from io import BytesIO
from zoneinfo import ZoneInfo

import dateutil.tz
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

import skae
from skae._engine._callbacks import EpochTimer
from skae.interchange import PyODDetector
from skae.networks import ConvNetwork
from skae.plotting import LossCurveDisplay

X, Y = load_iris(return_X_y=True)
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
IMAGES = np.random.default_rng(0).normal(size=(100, 64)).cumsum(axis=1)
WIDE = np.hstack([IMAGES] * 8)
FRAME = pd.DataFrame(X, columns=["a", "b", "c", "d"])
MIXED = FRAME.assign(
    kind=pd.Categorical(np.take(["x", "y", "z"], Y)),
    day=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(X)) % 30, "D"),
    text=np.take(["some", "other"], Y % 2),
    whole=Y,
)
POLARS = pl.DataFrame({name: MIXED[name].to_numpy() for name in ["a", "b", "day", "whole"]})
POLARS = POLARS.with_columns(pl.Series("kind", MIXED["kind"].to_list(), pl.Enum(["x", "y", "z"])))
QUICK = {"max_epochs": 2, "hidden_layer_sizes": (5,), "random_state": 0}


def transformer(**params):
    return skae.AutoencoderTransformer(**{"n_components": 2, **QUICK, **params})


def denoiser(**params):
    return skae.DenoisingAutoencoder(**{"n_components": 2, **QUICK, **params})


def generator(**params):
    small = {"n_components": 2, "n_importance_samples": 5}
    return skae.VAEGenerator(**{**small, **QUICK, **params})


def detector(**params):
    return skae.AutoencoderOutlierDetector(**{"n_estimators": 2, **QUICK, **params})


class Counter(Callback):
    """A callback with a result, which knows its estimator if it is told."""

    def __init__(self):
        self.n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


class TiedNetwork:
    """A user's network: two layers of the encoder share a weight, and a third is of torch only."""

    def __init__(self, first=nn.BatchNorm1d):
        self.first = first

    def __repr__(self):
        return "TiedNetwork()"

    def build(self, n_features, n_components):
        one, two = nn.Linear(n_features, n_features), nn.Linear(n_features, n_features)
        two.weight = one.weight
        last = nn.Linear(n_features, n_components)
        first = [] if self.first is None else [self.first(n_features)]
        return nn.Sequential(*first, one, nn.Tanh(), two, last), nn.Linear(n_components, n_features)


def weights_are_tied(model):
    layers = list(model.net_.module_.modules())
    weights = [p for layer in layers for p in layer.parameters(recurse=False)]
    return len(set(map(id, weights))) < len(weights)


MADE = {
    "transformer": (transformer, X),
    "transformer of a frame": (lambda: transformer().set_output(transform="pandas"), FRAME),
    "transformer of sparse rows": (transformer, csr_matrix(X)),
    "transformer of wide rows": (transformer, WIDE),
    "ordered": (lambda: transformer(n_components=0.8), X),
    "tied": (lambda: transformer(tied_weights=True), X),
    "dropout": (lambda: transformer(dropout=0.1), X),
    "convolution": (
        lambda: transformer(network=ConvNetwork(image_shape=(1, 8, 8), channels=(2,))),
        IMAGES,
    ),
    "callbacks": (lambda: transformer(callbacks=[("mine", Counter()), EarlyStopping()]), X),
    "own network": (lambda: transformer(network=TiedNetwork()), X),
    "own network of known layers": (lambda: transformer(network=TiedNetwork(first=None)), X),
    "denoiser": (denoiser, HOLES),
    "denoiser of a frame": (lambda: denoiser(noise="swap"), FRAME),
    "denoiser of wide rows": (denoiser, WIDE),
    "generator": (generator, X),
    "generator of a mixed frame": (generator, MIXED),
    "generator of a polars frame": (generator, POLARS),
    "generator of classes": (lambda: generator(conditional=True), FRAME),
    "generator of bits": (lambda: generator(likelihood="bernoulli"), IMAGES > 0),
    "generator with own network": (lambda: generator(network=TiedNetwork()), X),
    "detector": (detector, X),
    "detector of a frame": (lambda: detector(contamination=0.1), FRAME),
    "detector of wide rows": (detector, WIDE),
    "detector of holes": (detector, HOLES),
    "detector with own network": (lambda: detector(network=TiedNetwork()), X),
    "PyOD": (lambda: PyODDetector(detector()), X),
    "pipeline": (lambda: make_pipeline(StandardScaler(), transformer()), X),
}
OWN = [name for name in MADE if "own" in name]


def fitted_anew(name, *, more=False):
    make, rows = MADE[name]
    model = make().fit(rows, Y[: rows.shape[0]] if "classes" in name else None)
    return model.partial_fit(rows) if more else model


@pytest.fixture(scope="module", params=MADE)
def fitted(request):
    """A fitted model, not to be changed, its rows and what it returns for them."""
    model, rows = fitted_anew(request.param), MADE[request.param][1]
    return model, rows, outcomes(model, rows)


@pytest.fixture(
    params=[("transformer", True), ("detector", True), ("denoiser", True), ("generator", False)],
    ids=lambda param: param[0],
)
def of_each(request):
    """Each estimator, some of them trained further, and its rows."""
    name, more = request.param
    return fitted_anew(name, more=more), MADE[name][1]


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def dumped(model):
    buffer = BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def through_skops(model):
    io = pytest.importorskip("skops.io")
    content = io.dumps(model)
    return io.loads(content, trusted=io.get_untrusted_types(data=content))


def outcomes(model, rows):
    """What the methods of a model return for rows."""
    names = ("transform", "reconstruct", "score_samples", "decision_function", "explain")
    outputs = [np.asarray(getattr(model, n)(rows)) for n in names if hasattr(model, n)]
    if hasattr(model, "sample"):
        y = {"y": [0, 1, 2]} if model.conditional else {}
        drawn = model.sample(3, random_state=1, **y)
        outputs += [np.asarray(part) for part in (drawn if isinstance(drawn, tuple) else [drawn])]
    return outputs


def assert_same(model, other, rows):
    for out, expected in zip(outcomes(other, rows), outcomes(model, rows), strict=True):
        assert_array_equal(out, expected)


# The same bytes.


@pytest.mark.parametrize("round_trip", [pickled, copy.deepcopy, copy.copy, dumped, through_skops])
def test_a_round_trip_changes_no_byte_and_no_result(round_trip, fitted):
    model, rows, expected = fitted
    other = round_trip(model)
    assert joblib.hash(other) == joblib.hash(model)
    if not isinstance(model, Pipeline):  # the bytes of scikit-learn's own do change
        assert pickle.dumps(other) == pickle.dumps(model)
    for out, wanted in zip(outcomes(other, rows), expected, strict=True):
        assert_array_equal(out, wanted)


def test_a_file_changes_no_byte(fitted, tmp_path):
    model, *_ = fitted
    if isinstance(model, PyODDetector | Pipeline) or model.callbacks:
        pytest.skip("files are of the four estimators, and leave callbacks out")
    skae.save(model, tmp_path / "model")
    own = {"TiedNetwork": model.network}
    assert pickle.dumps(skae.load(tmp_path / "model", registry=own)) == pickle.dumps(model)


def test_use_changes_no_byte(fitted):
    model, rows, _ = fitted
    before = pickle.dumps(model)
    for _ in range(2):
        outcomes(model, rows)
        repr(model), model._repr_html_()
        for name in ("predict", "correct", "encode", "reconstruction_error"):
            if hasattr(model, name):
                getattr(model, name)(rows)
    if getattr(model, "loss_curve_", None):
        LossCurveDisplay.from_estimator(model)
    if hasattr(model, "evaluate"):
        model.evaluate(rows, random_state=0)
    assert pickle.dumps(model) == before


@pytest.fixture
def untimed(monkeypatch):
    """Histories without the seconds of epochs, which no two fits share."""
    monkeypatch.setattr(EpochTimer, "on_epoch_end", lambda *args, **kwargs: None)


@pytest.mark.parametrize("name", ["transformer", "denoiser", "generator of a mixed frame", *OWN])
def test_equal_fits_have_equal_bytes(name, untimed):
    assert pickle.dumps(fitted_anew(name)) == pickle.dumps(fitted_anew(name))


def test_more_training_changes_the_bytes(of_each):
    model, rows = of_each
    before = joblib.hash(model)
    assert joblib.hash(model.partial_fit(rows)) != before


def test_models_that_were_trained_further_go_on_alike(of_each, untimed):
    model, rows = of_each
    for other in (pickled(model), through_skops(model)):
        assert pickle.dumps(other) == pickle.dumps(model)
        other.partial_fit(rows)
        assert pickle.dumps(other) == pickle.dumps(copy.deepcopy(model).partial_fit(rows))


def test_a_net_that_is_not_initialised_is_copied(of_each):
    net = clone(of_each[0].net_)
    assert not net.initialized_
    for other in (pickled(net), copy.deepcopy(net), dumped(net)):
        assert not other.initialized_
        assert joblib.hash(other) == joblib.hash(net)
        assert pickle.dumps(other.initialize()) == pickle.dumps(clone(net).initialize())


def test_a_net_alone_has_the_same_bytes(of_each):
    net = of_each[0].net_
    for other in (pickled(net), copy.deepcopy(net), net.copy(), dumped(net)):
        assert pickle.dumps(other) == pickle.dumps(net)
        assert joblib.hash(other) == joblib.hash(net)


@pytest.mark.parametrize("make", [transformer, denoiser, generator, detector])
def test_estimators_that_are_not_fitted_have_the_same_bytes(make):
    model = make(callbacks=[Counter()], device="cpu")
    for other in (pickled(model), copy.deepcopy(model), through_skops(model)):
        assert pickle.dumps(other) == pickle.dumps(model)
        assert other.get_params().keys() == model.get_params().keys()
        assert other.device == "cpu"


def test_another_process_finds_the_same_bytes():
    """Without an import of mixtures, which takes half a second, where there are none."""
    models = [fitted_anew(name) for name in ("denoiser", "generator of a mixed frame", "detector")]
    code = (
        "import pickle, sys, joblib; first = joblib.hash(pickle.load(sys.stdin.buffer)); "
        "assert 'sklearn.mixture' not in sys.modules; "
        "print(first, *map(joblib.hash, pickle.load(sys.stdin.buffer)))"
    )
    first = transformer().fit(X)
    there = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(first) + pickle.dumps(models),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert there.stdout.decode().split() == [joblib.hash(model) for model in (first, *models)]


def test_a_cached_pipeline_does_not_transform_anew(tmp_path, monkeypatch):
    encoder = transformer().fit(X)
    calls = []
    transform = skae.AutoencoderTransformer.transform

    def counted(self, rows):
        calls.append(1)
        return transform(self, rows)

    monkeypatch.setattr(skae.AutoencoderTransformer, "transform", counted)
    for C in (0.1, 1.0):
        steps = [("encode", FrozenEstimator(encoder)), ("classify", LogisticRegression(C=C))]
        Pipeline(steps, memory=str(tmp_path)).fit(X, Y)
    assert len(calls) == 1


def test_dask_finds_the_same_tokens(fitted):
    base = pytest.importorskip("dask.base", reason="for its tokens")
    dask = pytest.importorskip("dask")
    model, *_ = fitted
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        token = base.tokenize(model)
        assert base.tokenize(model) == token
        if not isinstance(model, Pipeline):  # tokens of scikit-learn's own do change
            assert base.tokenize(pickled(model)) == base.tokenize(copy.deepcopy(model)) == token


@pytest.mark.parametrize("library", ["cloudpickle", "dill"])
def test_other_picklers_find_the_same_bytes(library, fitted):
    pickler = pytest.importorskip(library, reason="a pickler of code, too")
    model, *_ = fitted
    content = pickler.dumps(model)
    other = pickler.loads(content)
    assert pickler.dumps(model) == content
    if not isinstance(model, Pipeline):
        assert pickler.dumps(other) == content


# Few types.


def test_skops_asks_for_the_estimator_only(fitted):
    io = pytest.importorskip("skops.io")
    model, *_ = fitted
    asked = set(io.get_untrusted_types(data=io.dumps(model)))
    estimators = {type(model), *(type(part) for _, part in getattr(model, "steps", []))}
    if isinstance(model, PyODDetector):
        estimators.add(type(model.detector))
    public = {f"{cls.__module__}.{cls.__name__}" for cls in estimators}
    of_skae = {name for name in asked if name.startswith("skae.")}
    if getattr(model, "network", None) or getattr(model, "callbacks", None):
        assert len(of_skae) <= 4  # and what users' code consists of
    else:
        assert of_skae == asked
        assert asked <= public


def test_states_are_plain(fitted):
    model, *_ = fitted
    if isinstance(model, Pipeline | PyODDetector) or model.callbacks or model.network:
        pytest.skip("they hold objects of other classes")
    state = model.__getstate__()
    assert {key: type(value) for key, value in state.items()} == {
        "document": str,
        "arrays": np.ndarray,
        "objects": list,
    }
    assert not state["objects"]


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("name", ["generator of a mixed frame", "detector", "pipeline"])
def test_mlflow_logs_and_loads_models(name, tmp_path, monkeypatch):
    """In its default format: skops, since version 3.17."""
    mlflow = pytest.importorskip("mlflow", reason="for its models")
    io = pytest.importorskip("skops.io")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    model, rows = fitted_anew(name), MADE[name][1]
    trusted = io.get_untrusted_types(data=io.dumps(model))
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model, name="model", skops_trusted_types=trusted, pip_requirements=["skae"]
        )
    assert logged.flavors["sklearn"]["serialization_format"] == "skops"
    assert_same(model, mlflow.sklearn.load_model(logged.model_uri), rows)


# Nothing is lost.


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("round_trip", [pickled, copy.deepcopy, copy.copy, through_skops])
def test_weights_stay_tied(round_trip, name):
    model, (_, rows) = fitted_anew(name), MADE[name]
    other = round_trip(model)
    assert weights_are_tied(other)
    for each in (model, other):
        each.partial_fit(rows)
    assert_same(model, other, rows)


@pytest.mark.parametrize("name", ["own network", "own network of known layers"])
def test_weights_stay_tied_in_files(name, tmp_path):
    model, (_, rows) = fitted_anew(name), MADE[name]
    skae.save(model, tmp_path / "model")
    other = skae.load(tmp_path / "model", registry={"TiedNetwork": model.network})
    assert weights_are_tied(other)
    for each in (model, other):
        each.partial_fit(rows)
    assert_same(model, other, rows)


def test_hooks_and_frozen_weights_are_copied():
    model = transformer().fit(X)
    seen = []
    encoder = model.net_.module_.encoder
    encoder.register_forward_hook(lambda *args: seen.append(1))
    next(encoder.parameters()).requires_grad_(False)
    other = copy.deepcopy(model)
    other.transform(X)
    assert seen
    frozen = next(other.net_.module_.encoder.parameters())
    assert not frozen.requires_grad
    before = frozen.clone()
    other.partial_fit(X)
    assert torch.equal(frozen, next(other.net_.module_.encoder.parameters()))
    assert torch.equal(before, next(other.net_.module_.encoder.parameters()))


def test_callbacks_may_know_their_estimator():
    callback = Counter()
    model = transformer(callbacks=[callback])
    callback.estimator = model
    model.fit(X)
    for other in (pickled(model), copy.deepcopy(model)):
        (theirs,) = other.callbacks
        assert theirs.estimator is other
        assert theirs is dict(other.net_.callbacks_)["Counter"]
        assert theirs.n_epochs == callback.n_epochs > 0
    assert pickled(model.net_).callbacks[0].n_epochs == callback.n_epochs


def test_estimators_that_share_a_generator_go_on_sharing_it():
    rng = np.random.RandomState(0)
    one, two = pickled((transformer(random_state=rng), detector(random_state=rng)))
    assert one.random_state is two.random_state
    assert one.random_state.randint(1000) == rng.randint(1000)


class WithNotes(skae.AutoencoderTransformer):
    """A user's estimator, with attributes of its own."""

    def fit(self, X, y=None, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.notes_ = {("a", 1): {2.5, None}, "of": StandardScaler().fit(X), "nan": float("nan")}
        return self


@pytest.mark.parametrize("round_trip", [pickled, copy.deepcopy, through_skops])
def test_attributes_of_subclasses_are_kept(round_trip):
    model = WithNotes(2, **QUICK).fit(X)
    model.more = object
    model.net_.lr = 0.5
    other = round_trip(model)
    assert type(other) is WithNotes
    assert other.notes_["a", 1] == model.notes_["a", 1]
    assert_array_equal(other.notes_["of"].mean_, X.mean(axis=0))
    assert np.isnan(other.notes_["nan"])
    assert other.more is object
    assert other.net_.lr == 0.5


@pytest.mark.parametrize(
    "zone", [dateutil.tz.gettz("Europe/Berlin"), ZoneInfo("Europe/Berlin"), UTC]
)
def test_zones_stay_what_they_are(zone):
    frame = FRAME.assign(day=MIXED["day"].dt.tz_localize(zone))
    frame["of"] = pd.Categorical(frame["day"])
    model = generator().fit(frame)
    drawn = model.sample(5, random_state=0)
    pd.testing.assert_frame_equal(pickled(model).sample(5, random_state=0), drawn)


def test_the_history_of_batches_is_kept(tmp_path):
    model = transformer(callbacks=[("mine", Counter())]).fit(X)
    with pytest.warns(UserWarning, match="callbacks"):
        skae.save(model, tmp_path / "model")
    for other in (pickled(model), skae.load(tmp_path / "model")):
        assert list(other.net_.history) == list(model.net_.history)
        assert other.net_.history[-1, "batches", -1, "train_loss"] > 0


def test_a_memory_map_is_not_written_to(tmp_path):
    model = transformer(hidden_layer_sizes=(300, 300)).fit(X)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert_same(model.partial_fit(X), mapped.partial_fit(X), X)


def test_a_network_whose_device_is_gone_is_on_the_cpu():
    model = transformer().fit(X)
    state = model.__getstate__()
    state["document"] = state["document"].replace('"device": "cpu"', '"device": "cuda:77"')
    other = transformer()
    with pytest.warns(UserWarning, match="'cuda:77'.*it is on the CPU"):
        other.__setstate__(state)
    assert other.net_.device == torch.device("cpu")
    assert_same(model, other, X)


class WithMore(skae.AutoencoderTransformer):
    """A subclass that adds to the state."""

    def __getstate__(self):
        return super().__getstate__() | {"more_": 3}


def test_subclasses_may_add_to_the_state():
    X = load_iris().data
    model = WithMore(max_epochs=2, random_state=0).fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert again.more_ == 3
    assert_array_equal(again.transform(X), model.transform(X))


def test_pickles_of_another_form_say_what_to_do():
    with pytest.raises(ValueError, match=r"earlier version.*fit again"):
        skae.AutoencoderTransformer().__setstate__({"n_components": 2})
