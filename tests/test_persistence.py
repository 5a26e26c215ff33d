"""Saving and loading: what is restored, what is refused, and what is not in the file."""

import contextlib
import functools
import json
import os
import pickle
import re
import stat
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from saved import make as saved
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skae
from skae import persistence
from skae._storage import _files
from skae._storage._documents import DocumentDecoder, DocumentEncoder
from skae._storage._network_kinds import NET_KINDS
from skae.exceptions import ModelFileError
from skae.networks import ConvNetwork, MLPNetwork

X = load_iris().data
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
DIGITS = load_digits().data[:300] / 16
WIDE = np.random.default_rng(0).normal(size=(120, 300)).cumsum(axis=1)
QUICK = {"max_epochs": 2, "hidden_layer_sizes": (5,), "random_state": 0}


class Shallow:
    """A custom network, with buffers and a layer that is not known to skae."""

    def build(self, n_features, n_components):
        encoder = nn.Sequential(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_components))
        return encoder, nn.Sequential(nn.Linear(n_components, n_features), nn.Hardtanh(-9, 9))


class Paired:
    """Encoder and decoder share their weights."""

    def build(self, n_features, n_components):
        encoder = Half(nn.Linear(n_features, n_components))
        return encoder, OtherHalf(encoder.layer, n_features)


class Plain:
    """A custom network of known layers, which are restored without it."""

    def build(self, n_features, n_components):
        act = nn.Tanh()
        encoder = nn.Sequential(nn.Linear(n_features, 6, bias=False), act, nn.Linear(6, 6), act)
        return encoder.append(nn.Linear(6, n_components)), nn.Linear(n_components, n_features)


class Half(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


class OtherHalf(nn.Module):
    def __init__(self, layer, n_features):
        super().__init__()
        self.layer = layer
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, z):
        return z @ self.layer.weight + self.bias


def stripes(rows, rng):
    rows[:, rng.integers(rows.shape[1])] = 0.0
    return rows


REGISTRY = {"Shallow": Shallow(), "Plain": Plain(), "Paired": Paired(), "stripes": stripes}


def mixed_frame():
    """Columns of all sorts."""
    rng = np.random.default_rng(0)
    n = 150
    return pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "single": rng.normal(size=n).astype(np.float32),
            "whole": rng.integers(0, 9, size=n),
            "gaps": pd.array(rng.integers(0, 3, size=n), dtype="Int64"),
            "flag": rng.random(n) < 0.3,
            "text": rng.choice(["a", "b", "ü"], size=n),
            "level": pd.Categorical(rng.choice([3, 1, 2], size=n), ordered=True),
            "bin": pd.cut(rng.normal(size=n), 3),
            "day": pd.Timestamp("2020-02-29") + pd.to_timedelta(rng.integers(0, 99, n), "D"),
            "zone": pd.date_range("2020", periods=n, freq="h", tz="Europe/Berlin"),
            "delta": pd.to_timedelta(rng.integers(0, 9, n), "s"),
            "months": pd.Categorical(
                pd.period_range("2020-01", periods=5, freq="M")[rng.integers(0, 5, n)]
            ),
            "mixed": rng.choice(np.array([1, "one", None], dtype=object), size=n),
        }
    ).mask(rng.random((n, 13)) < 0.05)


def transformer(**options):
    return skae.AutoencoderTransformer(**{"n_components": 2, **QUICK, **options})


def denoiser(**options):
    return skae.DenoisingAutoencoder(**QUICK, **options)


def detector(**options):
    return skae.AutoencoderOutlierDetector(**QUICK, **options)


def generator(**options):
    return skae.VAEGenerator(**{"n_components": 2, **QUICK, **options})


CASES = {
    "transformer": lambda: (transformer(), X),
    "frame": lambda: (transformer(), pd.DataFrame(X, columns=list("abcd"))),
    "tied": lambda: (transformer(tied_weights=True), X),
    "tied, random start": lambda: (transformer(tied_weights=True, init="random"), X),
    "ordered": lambda: (transformer(n_components=0.9), DIGITS),
    "wide": lambda: (transformer(), WIDE),
    "dropout": lambda: (transformer(dropout=0.2, early_stopping=False, l1=1e-4), X),
    "cross-entropy": lambda: (transformer(loss="binary_cross_entropy", sparsity=0.1), DIGITS),
    "relu": lambda: (transformer(output_activation="relu", scaling="robust"), X),
    "min and max": lambda: (transformer(scaling="minmax", activation="leaky_relu"), X),
    "no scaling": lambda: (transformer(scaling=None, activation="gelu"), X),
    "random state": lambda: (transformer(random_state=np.random.RandomState(3)), X),
    "convolution": lambda: (transformer(network=ConvNetwork((1, 8, 8), (3, 2))), DIGITS),
    "MLPNetwork": lambda: (transformer(network=MLPNetwork((3,), "tanh", 0.1)), X),
    "own network": lambda: (transformer(network=Shallow()), X),
    "own network, random start": lambda: (transformer(network=Shallow(), init="random"), X),
    "known layers": lambda: (transformer(network=Plain()), X),
    "detector, known layers": lambda: (detector(network=Plain()), X),
    "shared weights": lambda: (transformer(network=Paired()), X),
    "denoiser": lambda: (denoiser(), HOLES),
    "denoiser, noise": lambda: (denoiser(noise="gaussian", add_indicator=True), HOLES),
    "denoiser, function": lambda: (denoiser(noise=stripes), X),
    "denoiser, draws": lambda: (denoiser(noise="salt_and_pepper", output="deep"), X),
    "denoiser, own network": lambda: (denoiser(network=Shallow()), HOLES),
    "denoiser, wide": lambda: (denoiser(), np.where(WIDE > 20, np.nan, WIDE)),
    "detector": lambda: (detector(), HOLES),
    "detector, one member": lambda: (detector(n_estimators=1, contamination=0.1), X),
    "detector, wide": lambda: (detector(), np.where(WIDE > 20, np.nan, WIDE)),
    "detector, views": lambda: (detector(views=("conditional",), variational=True), X),
    "detector, own network": lambda: (detector(network=Shallow()), X),
    "detector, shared weights": lambda: (detector(network=Paired(), threshold="std"), X),
    "generator": lambda: (generator(), X),
    "generator, integers": lambda: (generator(refine=True), X.astype(int)),
    "generator, mixed": lambda: (generator(refine=True), mixed_frame()),
    "generator, objects": lambda: (generator(), mixed_frame()[["text", "flag"]].to_numpy()),
    "generator, gaussian": lambda: (generator(likelihood="gaussian", prior="standard"), X),
    "generator, bernoulli": lambda: (generator(likelihood="bernoulli"), DIGITS),
    "generator, own network": lambda: (generator(network=Shallow()), X),
}


def fitted(case):
    model, data = CASES[case]()
    return model.fit(data), data


def outcomes(model, data):
    """Results of all methods of a model, with seeds for draws."""
    results = {
        name: getattr(model, name)(data)
        for name in (
            *("encode", "reconstruct", "reconstruction_error", "transform", "decision_function"),
            *("score_samples", "predict", "explain", "pvalues", "correct"),
        )
        if hasattr(model, name)
    }
    if hasattr(model, "sample"):
        results["sample"] = model.sample(20, random_state=0)
    results["decode"] = model.decode(np.asarray(results["encode"]))
    return results


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert type(value) is type(other[name])
        if hasattr(value, "iloc") or value.dtype == object:  # NaN among objects
            pd.testing.assert_frame_equal(*map(pd.DataFrame, (value, other[name])))
        else:
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def round_trip(model, tmp_path, **options):
    skae.save(model, tmp_path / "model.skae")
    return skae.load(tmp_path / "model.skae", registry=REGISTRY, **options)


@pytest.mark.parametrize("case", CASES)
def test_loaded_is_as_saved(case, tmp_path):
    model, data = fitted(case)
    same = round_trip(model, tmp_path)
    assert type(same) is type(model)
    assert re.sub("0x[0-9A-Fa-f]+", "", repr(same)) == re.sub("0x[0-9A-Fa-f]+", "", repr(model))
    assert vars(same).keys() == vars(model).keys() - {"_rows_kept"}
    assert_same(outcomes(same, data), outcomes(model, data))


@pytest.mark.parametrize(
    "case", ["tied", "own network", "shared weights", "detector", "denoiser", "generator"]
)
def test_training_goes_on_with_the_same_bits(case, tmp_path):
    model, data = fitted(case)
    model.partial_fit(data)  # so that there are moments to keep
    same = round_trip(model, tmp_path)
    before = outcomes(same, data)
    for each in (model, same):
        each.partial_fit(data)
    assert_same(outcomes(same, data), outcomes(model, data))
    assert not np.array_equal(before["encode"], same.encode(data))
    for each in (model, same):
        each.set_params(warm_start=True).fit(data)
    assert_same(outcomes(same, data), outcomes(model, data))


def test_moments_are_kept_only_where_training_goes_on():
    model = transformer().fit(X)
    assert not model.net_.optimizer_.state
    assert model.partial_fit(X).net_.optimizer_.state


def test_targets_come_back(tmp_path):
    y = load_iris().target
    for target in (np.array(["a", "b", "c"])[y], y, X[:, 0] + 0.5):
        model = generator(conditional=True).fit(X, target)
        same = round_trip(model, tmp_path)
        drawn = [each.sample(9, y=target[:9], random_state=0) for each in (model, same)]
        np.testing.assert_array_equal(*drawn)
        np.testing.assert_array_equal(model.score_samples(X, target), same.score_samples(X, target))


def test_polars_frames_come_back(tmp_path):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "number": X[:, 0],
            "text": pl.Series(["a", "b", None] * 50, dtype=pl.Enum(["b", "a"])),
            "flag": [True, False, True] * 50,
            "day": pl.Series([18000, 18001, 18003] * 50).cast(pl.Date),
            "time": pl.Series([0, 10**6, None] * 50).cast(pl.Datetime("us", "UTC")),
            "short": pl.Series(range(150), dtype=pl.Int16),
        }
    )
    model = generator().fit(frame)
    same = round_trip(model, tmp_path)
    drawn = same.sample(30, random_state=0)
    assert drawn.schema == frame.schema
    assert drawn.equals(model.sample(30, random_state=0))


def test_names_of_several_levels_come_back(tmp_path):
    names = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["upper", "lower"])
    model = generator().fit(pd.DataFrame(X, columns=names))
    drawn = round_trip(model, tmp_path).sample(3, random_state=0)
    pd.testing.assert_index_equal(drawn.columns, names)


def test_bfloat16_tensors_come_back():
    encoder, tensor = DocumentEncoder(NET_KINDS), torch.ones(3, dtype=torch.bfloat16)
    node = encoder.write(tensor, "x")
    torch.testing.assert_close(DocumentDecoder(NET_KINDS, encoder.arrays).read(node), tensor)


def test_frozen_weights_stay_frozen(tmp_path):
    model = transformer().fit(X)
    model.net_.module_.encoder.path.requires_grad_(False)
    same = round_trip(model, tmp_path)
    assert not same.net_.module_.encoder.path.weight.requires_grad
    assert same.net_.module_.decoder.path.weight.requires_grad


def test_global_generators_are_left_alone(tmp_path):
    model = transformer(network=Shallow()).fit(X)
    before = torch.get_rng_state()
    round_trip(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_device_is_that_given_to_load(tmp_path):
    model = transformer(device="cpu").fit(X)
    assert round_trip(model, tmp_path).device == "auto"
    assert round_trip(model, tmp_path, device="cpu").net_.device.type == "cpu"
    with pytest.raises(ValueError, match="device='nowhere'"):
        round_trip(model, tmp_path, device="nowhere")


def test_the_same_model_makes_the_same_file(tmp_path):
    model = generator(refine=True).fit(X)
    for name in ("one", "other"):
        skae.save(model, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_it_is_a_safetensors_file(tmp_path):
    from safetensors import safe_open

    model = transformer().fit(X)
    skae.save(model, tmp_path / "model.skae")
    with safe_open(tmp_path / "model.skae", "pt") as file:
        weight = file.get_tensor("net_.module.encoder.path.weight")
        document = json.loads(file.metadata()["skae"])
    torch.testing.assert_close(weight, model.net_.module_.encoder.path.weight.detach())
    assert document["format"] == 3
    assert document["versions"]["skae"] == skae.__version__


# What cannot be saved or loaded.


def test_only_fitted_estimators_of_ours_are_saved(tmp_path):
    path = tmp_path / "model.skae"
    with pytest.raises(NotFittedError):
        skae.save(transformer(), path)
    with pytest.raises(TypeError, match="skops or joblib"):
        skae.save(make_pipeline(StandardScaler(), transformer()).fit(X), path)
    with pytest.raises(TypeError, match="AutoencoderTransformer"):
        skae.save(skae.AutoencoderTransformer, path)
    assert not path.exists()


def test_callbacks_are_left_out_with_a_warning(tmp_path):
    from skorch.callbacks import EarlyStopping

    model = transformer(callbacks=[EarlyStopping(patience=1)]).fit(X)
    with pytest.warns(UserWarning, match="callbacks"):
        skae.save(model, tmp_path / "model.skae")
    same = skae.load(tmp_path / "model.skae")
    assert same.callbacks is None
    np.testing.assert_array_equal(same.transform(X), model.transform(X))
    assert clone(same).fit(X).n_iter_ >= 1


class Other:
    def build(self, n_features, n_components):
        return nn.Linear(n_features, n_components), nn.Linear(n_components, n_features)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m.set_params(batch_size=-1), ValueError, "batch_size"),
        (lambda m: m.set_params(network=None), ValueError, "network=None"),
        (lambda m: setattr(m, "tag", "x"), TypeError, "tag"),
        (lambda m: setattr(m, "loss_curve_", "x"), TypeError, "loss_curve_"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(change, error, message, tmp_path):
    model = transformer(network=Shallow()).fit(X)
    change(model)
    with pytest.raises(error, match=message):
        skae.save(model, tmp_path / "model.skae")
    assert list(tmp_path.iterdir()) == []


def test_functions_without_a_name_are_not_saved(tmp_path):
    for noise in (lambda rows, rng: rows, functools.partial(stripes)):
        with pytest.raises(TypeError, match=r"noise=.*name"):
            skae.save(denoiser(noise=noise).fit(X), tmp_path / "model.skae")


def test_metadata_requests_come_back(tmp_path):
    with config_context(enable_metadata_routing=True):
        model = transformer().set_fit_request(sample_weight="weight").fit(X)
        same = round_trip(model, tmp_path)
        assert same.get_metadata_routing().fit.requests == {"sample_weight": "weight"}


def test_what_callbacks_recorded_comes_back(tmp_path):
    model = transformer().fit(X)
    model.net_.history.record("rate", np.float64(0.5))
    assert round_trip(model, tmp_path).net_.history[-1, "rate"] == 0.5


def test_output_settings_come_back(tmp_path):
    model = transformer().set_output(transform="pandas").fit(X)
    assert isinstance(round_trip(model, tmp_path).transform(X), pd.DataFrame)


def test_unknown_values_are_not_saved(tmp_path):
    model = transformer().fit(X)
    model.extra_ = object()
    with pytest.raises(TypeError, match="no attribute 'extra_'"):
        skae.save(model, tmp_path / "model.skae")
    assert list(tmp_path.iterdir()) == []


def test_networks_of_ones_own_need_the_registry(tmp_path):
    skae.save(transformer(network=Shallow()).fit(X), tmp_path / "model.skae")
    with pytest.raises(LookupError, match=r"registry=\{'Shallow': \.\.\.\}"):
        skae.load(tmp_path / "model.skae")
    with pytest.raises(LookupError, match="does not build what was saved"):
        skae.load(tmp_path / "model.skae", registry={"Shallow": Paired()})
    with pytest.raises(TypeError, match="is a class"):
        skae.load(tmp_path / "model.skae", registry={"Shallow": Shallow})


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such folder.*elsewhere"):
        skae.save(transformer().fit(X), tmp_path / "elsewhere" / "model.skae")


def test_registries_are_dicts(tmp_path):
    with pytest.raises(TypeError, match="registry=3"):
        skae.load(tmp_path / "model.skae", registry=3)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        skae.load(tmp_path / "nothing.skae")


@pytest.fixture(scope="module")
def content():
    """The bytes of a small but rich file."""
    return (saved.path_of("generator", "skae")).read_bytes()


def load_bytes(content, tmp_path):
    path = tmp_path / "model.skae"
    path.write_bytes(content)
    return skae.load(path)


def unsealed(content):
    return _files.unsealed(content)


@pytest.mark.parametrize("end", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated_files_are_refused(content, end, tmp_path):
    with pytest.raises(ModelFileError, match=r"truncated|damaged"):
        load_bytes(content[:end], tmp_path)


def test_other_files_are_refused(content, tmp_path):
    from safetensors.numpy import save

    for other in (pickle.dumps(X), b"PK\x03\x04" + bytes(100), save({"x": X}), b"\xff" * 64):
        with pytest.raises(ModelFileError):
            load_bytes(other, tmp_path)


def test_newer_formats_are_refused(content, tmp_path):
    document, arrays = unsealed(content)
    newer = document | {"format": _files.FORMAT + 1}
    with pytest.raises(ModelFileError, match=r"format 4.*reads formats up to 3"):
        load_bytes(_files.sealed(newer, arrays), tmp_path)


def parameter_of(document, name):
    return next(pair for pair in document["parameters"] if pair[0] == name)


def resealed(document, arrays):
    return _files.sealed(document, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(more=1), "keys"),
        (lambda d: d.update(estimator="Pipeline"), "Pipeline"),
        (lambda d: d["parameters"].append(["n_jobs", 1]), "n_jobs"),
        (lambda d: parameter_of(d, "alpha").__setitem__(1, -1.0), "alpha"),
        (lambda d: d["fitted"].append(["transform", 1]), "no attribute 'transform'"),
        (lambda d: d["fitted"].append(["__class__", 1]), "__class__"),
        (lambda d: d["fitted"].append(["x_", {"is": "pickle", "data": ""}]), "unknown kind"),
        (lambda d: d["fitted"].append(["x_", {"is": "tuple"}]), "keys"),
        (
            lambda d: d["fitted"].append(["x_", {"is": "array", "name": "a", "dtype": "<f8"}]),
            "no unread array",
        ),
        (lambda d: d["fitted"].append(["x_", {"is": "dtype", "name": "V8"}]), "V8"),
        (lambda d: d["fitted"].append(["x_", {"is": "registered", "name": "os"}]), "os"),
        (lambda d: d["fitted"].pop(-2), "unused arrays|no attribute"),
    ],
)
def test_what_is_unexpected_is_refused(content, change, message, tmp_path):
    document, arrays = unsealed(content)
    change(document)
    with pytest.raises((ModelFileError, LookupError), match=message):
        load_bytes(resealed(document, arrays), tmp_path)


def test_deep_documents_are_refused(content, tmp_path):
    document, arrays = unsealed(content)
    document["fitted"].append(["x_", json.loads("[" * 500 + "]" * 500)])
    with pytest.raises(ModelFileError, match="deep"):
        load_bytes(resealed(document, arrays), tmp_path)


def node_of(document, name):
    return next(pair for pair in document["fitted"] if pair[0] == name)


def many_nodes(document, arrays):
    arrays["refiner_.trees_.n_nodes_"][:] = 2**62 + 1


def many_sets(document, arrays):
    arrays["refiner_.trees_.n_sets_"] = np.full_like(arrays["refiner_.trees_.n_sets_"], 2**62)


def no_trees(document, arrays):
    for name in arrays:
        if name.startswith("refiner_.trees_.n"):
            arrays[name] = arrays[name][:0]


def generator_beyond_its_state(document, arrays):
    state = arrays["net_.batch_generator"].view(np.uint8)
    state[8:12] = np.frombuffer(np.int32(624).tobytes(), np.uint8)
    state[16:20] = np.frombuffer(np.int32(624).tobytes(), np.uint8)


def other_net(document, arrays):
    document["fitted"] = [pair for pair in document["fitted"] if pair[0] != "net_"]
    document["fitted"].append(["net_", "evil"])


def wide(document, arrays):
    node_of(document, "n_features_in_")[1] = 10**10


def losses_of_text(document, arrays):
    node_of(document, "loss_curve_")[1] = ["<script>"]


def one_parameter_less(document, arrays):
    document["parameters"].pop()


def one_parameter_twice(document, arrays):
    document["parameters"].append(document["parameters"][0])


def negative_format(document, arrays):
    document["format"] = -5


def built_by_nobody(document, arrays):
    module = node_of(document, "net_")[1]["module"]
    module.update({"class": "built module", "settings": [0, 20000, 20000, 0], "parts": []})


def texts_of_all_sizes(document, arrays):
    items = ["a"] * 1000 + ["b" * 10**6]
    node_of(document, "feature_names_in_")[1] = {
        "is": "objects",
        "kind": "U",
        "shape": [1001],
        "items": items,
    }


def nested_sharing(document, arrays):
    """Each layer holds the one before it twice, so the number of paths is exponential."""
    layer = {"is": "module", "class": "Identity", "settings": [], "parts": []}
    for depth in range(40):
        again = {"is": "module", "class": "same module", "settings": depth, "parts": []}
        parts = [["0", layer], ["1", again]]
        layer = {"is": "module", "class": "Sequential", "settings": [], "parts": parts}
    node_of(document, "net_")[1]["module"]["parts"].insert(0, ["nested", layer])


@pytest.mark.parametrize(
    "attack",
    [
        *(many_nodes, many_sets, no_trees, generator_beyond_its_state, other_net, wide),
        *(losses_of_text, one_parameter_less, one_parameter_twice, negative_format),
        *(built_by_nobody, texts_of_all_sizes, nested_sharing),
    ],
)
def test_attacks_are_refused(attack, content, tmp_path):
    document, arrays = unsealed(content)
    attack(document, arrays)
    with pytest.raises(ModelFileError):
        load_bytes(resealed(document, arrays), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_never_crash(content, tmp_path):
    rng = np.random.default_rng(0)
    with audited() as events:
        for _ in range(1000):
            with pytest.raises(ModelFileError):
                load_bytes(damaged(content, rng), tmp_path)
    assert not events


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["generator", "detector", "denoiser", "tied"])
def test_wrong_values_with_a_valid_checksum_never_crash(name, tmp_path):
    content = (saved.path_of(name, "skae")).read_bytes()
    rng = np.random.default_rng(1)
    n_loaded = 0
    with audited() as events:
        for _ in range(250):
            document, arrays = unsealed(content)
            replace_value(document, arrays, rng)
            try:
                model = load_bytes(resealed(document, arrays), tmp_path)
            except (ModelFileError, LookupError):
                continue
            n_loaded += 1
            assert type(model).__name__ in persistence.ESTIMATORS
            with contextlib.suppress(Exception):  # it may fail, if it does not crash
                model.score_samples(saved.FRAME if name == "generator" else saved.X)
    assert not events
    assert n_loaded < 200


def damaged(content, rng):
    """The file with bits flipped, or bytes truncated, removed, doubled or replaced."""
    while True:
        mutant = bytearray(content)
        place, length = int(rng.integers(len(mutant))), int(rng.integers(1, 64))
        match rng.integers(5):
            case 0:
                mutant[place] ^= 1 << int(rng.integers(8))
            case 1:
                del mutant[place:]
            case 2:
                del mutant[place : place + length]
            case 3:
                mutant[place:place] = mutant[place : place + length]
            case 4:
                mutant[place : place + length] = rng.bytes(length)
        if mutant != content:
            return bytes(mutant)


def replace_value(document, arrays, rng):
    """Replace a random value or array."""
    others = (None, True, -1, 2**70, 1.5, "", "x", [], {}, [[]], {"is": "tuple", "items": []})
    if rng.random() < 0.3:
        name = sorted(arrays)[rng.integers(len(arrays))]
        array = arrays[name]
        match rng.integers(4):
            case 0:
                arrays[name] = array[:-1] if array.ndim else array.reshape(1)
            case 1:
                arrays[name] = array.astype(np.int8)
            case 2:
                arrays[name] = np.full_like(
                    array,
                    2**31 % (np.iinfo(array.dtype).max + 1) if array.dtype.kind in "iu" else 0,
                )
            case 3:
                arrays[name] = array[None]
        return
    places = []

    def walk(node):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, item in items:
            places.append((node, key))
            if isinstance(item, dict | list):
                walk(item)

    walk(document["fitted"] if rng.random() < 0.8 else document)
    node, key = places[rng.integers(len(places))]
    if node is not document or key != "sha256":
        node[key] = others[rng.integers(len(others))]


FORBIDDEN = (
    *("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"),
    *("socket.connect", "ctypes.dlopen", "shutil.rmtree", "os.remove", "os.rename"),
)
_audits = []


def _hook(event, args):
    if _audits and event in FORBIDDEN:
        _audits[-1].append((event, args))


class audited:  # noqa: N801
    """Record audit events that run code or remove files."""

    is_hooked = False

    def __enter__(self):
        if not audited.is_hooked:  # for good: hooks cannot be taken away
            sys.addaudithook(_hook)
            audited.is_hooked = True
        _audits.append([])
        return _audits[-1]

    def __exit__(self, *error):
        _audits.pop()


# Writing.


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.skae"
    model = transformer().fit(X)
    skae.save(model, path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(_files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        skae.save(model.partial_fit(X), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_file(tmp_path):
    if os.name != "posix":
        pytest.skip("permissions are POSIX's")
    model = transformer().fit(X)
    (tmp_path / "other").touch()
    skae.save(model, tmp_path / "model.skae")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "model.skae")]
    assert modes[0] == modes[1]
    (tmp_path / "model.skae").chmod(0o600)
    skae.save(model, str(tmp_path / "model.skae"))
    assert stat.S_IMODE((tmp_path / "model.skae").stat().st_mode) == 0o600


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.skae"
    link.symlink_to(tmp_path / "folder" / "model.skae")
    skae.save(transformer().fit(X), link)
    assert link.is_symlink()
    assert skae.load(tmp_path / "folder" / "model.skae").n_components_ == 2


# Privacy.


@pytest.mark.parametrize("make", [transformer, denoiser, detector, generator])
def test_no_rows_are_in_the_file(make, tmp_path):
    rows = np.random.default_rng(0).normal(size=(400, 5))
    skae.save(make().fit(rows), tmp_path / "model.skae")
    _, arrays = unsealed((tmp_path / "model.skae").read_bytes())
    cells = np.unique(np.r_[rows.ravel(), rows.ravel().astype(np.float32)])
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isin(array, cells).any():
            continue
        if ".columns_." in name:  # of a generator's column, in their order and not the rows'
            assert (np.diff(array) > 0).all()
        else:  # extremes
            assert np.isin(array, cells).sum() <= rows.shape[1]
            assert not (np.isin(array, rows).sum() == 5 and (rows == array).all(axis=1).any())


# Files of earlier versions.


@pytest.mark.parametrize("name", saved.MODELS)
def test_files_of_this_format_are_read(name):
    check_results(name)


def check_results(name, number=None):
    path = saved.path_of(name, "skae", number)
    model = skae.load(path, registry={"Shallow": saved.Shallow()})
    expected = json.loads(path.with_suffix(".json").read_text())
    results = saved.results(model)
    assert results.keys() == expected.keys()
    for key, value in results.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5, err_msg=key)
    return model


@pytest.mark.parametrize("name", saved.TRANSFORMERS)
def test_transformers_of_the_first_format_are_read(name, tmp_path):
    """Their latents are as they were, also when training goes on and in later files."""
    model = check_results(name, 1)
    rows = {3: saved.X, 16: saved.IMAGES}[model.n_features_in_]
    before = model.transform(rows)
    assert not model.whiten
    assert not hasattr(model, "explained_variance_")
    skae.save(model, tmp_path / "model.skae")
    again = skae.load(tmp_path / "model.skae", registry={"Shallow": saved.Shallow()})
    np.testing.assert_array_equal(again.transform(rows), before)
    after = again.partial_fit(rows).transform(rows)
    assert 0 < np.abs(after - before).max() < 0.5
    assert np.abs(again.fit(rows).transform(rows).mean(axis=0)).max() < 1e-3  # in the new units


@pytest.mark.parametrize("name", saved.TRANSFORMERS)
def test_transformers_of_the_second_format_are_read(name):
    """They lack a parameter, and training goes on in the scaling they were fitted with."""
    model = check_results(name, 2)
    rows = {3: saved.X, 16: saved.IMAGES}[model.n_features_in_]
    assert model.categorical_features == "from_dtype"
    assert model.scaling == "global"
    before = model.transform(rows)
    assert 0 < np.abs(model.partial_fit(rows).transform(rows) - before).max() < 0.5


@pytest.mark.parametrize("name", saved.GENERATORS)
def test_generators_of_the_second_format_are_read(name, tmp_path):
    """They lack a parameter and trees that draw cells, and draw by their network."""
    model = check_results(name, 2)
    assert not model.private_values
    drawn = np.asarray(model.sample(20, random_state=0))
    skae.save(model, tmp_path / "model.skae")
    again = skae.load(tmp_path / "model.skae")
    np.testing.assert_array_equal(np.asarray(again.sample(20, random_state=0)), drawn)


@pytest.mark.parametrize("name", ["detector", "denoiser"])
def test_detectors_and_denoisers_of_the_first_format_are_refused(name):
    path = saved.path_of(name, "skae", 1)
    with pytest.raises(ModelFileError, match=r"format 1 of .*another meaning; fit the estimator"):
        skae.load(path)


def names_in(path):
    """All names in a file: of arrays, keys, attributes, classes and kinds."""
    document, arrays = unsealed(path.read_bytes())
    # Fields of the nodes of trees are those of the installed scikit-learn.
    names = {("array", name) for name in arrays if ".nodes_." not in name}

    def walk(node):
        if isinstance(node, dict):
            names.update(("key", key) for key in node)
            names.update((key, node[key]) for key in ("is", "class") if key in node)
            if node.get("is") == "fields":
                return
        if isinstance(node, list) and len(node) == 2 and isinstance(node[0], str):
            names.add(("attribute", node[0]))
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, dict | list):
                walk(child)

    walk(document["parameters"])
    walk(document["fitted"])
    return names


# What files hold since formats were fixed, and what can do without.
MAY_BE_MISSING = {("attribute", "n_samples_seen_"), ("attribute", "dur")}
MAY_BE_MISSING |= {("attribute", "_watches_rows")}
MAY_BE_MISSING |= {("attribute", "batches"), ("attribute", "train_batch_size")}


@pytest.mark.parametrize("name", saved.MODELS)
def test_files_hold_the_names_of_their_format(name, tmp_path):
    skae.save(saved.MODELS[name](), tmp_path / "model.skae")
    names, names_then = names_in(tmp_path / "model.skae"), names_in(saved.path_of(name, "skae"))
    assert names - MAY_BE_MISSING == names_then - MAY_BE_MISSING


def test_rows_are_counted_anew_where_a_file_does_not_say():
    model = skae.load(saved.path_of("transformer", "skae", 1))
    assert not hasattr(model, "n_samples_seen_")
    assert model.partial_fit(saved.X).partial_fit(saved.X[:9]).n_samples_seen_ == 89


@pytest.mark.parametrize("marker", [pd.NA, None, np.nan, -1, 2.5])
def test_markers_of_missing_cells_are_saved(marker, tmp_path):
    frame = pd.DataFrame(X).astype("Float64")
    model = denoiser(missing_values=marker).fit(frame)
    same = round_trip(model, tmp_path).missing_values
    assert same is marker or (type(same), repr(same)) == (type(marker), repr(marker))


RENAMED = [
    ("transformer", "_description", "_network_fingerprint"),
    ("denoiser", "_hides", "_learns_to_fill"),
    ("detector", "clip", "cut"),
    ("generator", "kept_", "support_"),
    ("conditional", "met_", "quantiles_"),
    (None, "Beside", "ConcatOutputs"),
]


@pytest.mark.parametrize(("name", "old", "new"), RENAMED)
def test_names_of_code_are_refused_in_files(name, old, new, tmp_path):
    path = saved.path_of(name, "skae")
    if name is None:  # layers that none of the old files holds
        path = tmp_path / "new.skae"
        skae.save(detector(variational=True).fit(X), path)
    document, arrays = unsealed(path.read_bytes())
    text = json.dumps(document)
    assert f'"{old}"' in text
    assert f'"{new}"' not in text
    changed = json.loads(text.replace(f'"{old}"', f'"{new}"'))
    with pytest.raises(ModelFileError, match=f"unknown.*'{new}'"):
        load_bytes(resealed(changed, arrays), tmp_path)
