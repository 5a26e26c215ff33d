"""ONNX models compute what estimators compute."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from saved import make as saved
from scipy import special
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
    to_onnx,
)
from skae._data._normal_scores import NormalScores
from skae._data._scaling import Scaler
from skae._display._network_facts import describe
from skae._engine import _losses
from skae._storage._network_kinds import LAYERS, TORCH_LAYERS
from skae.interchange._graph import IR_VERSION, OPSET, Graph
from skae.interchange._onnx_estimators import LOSSES, OnnxWriter
from skae.interchange._onnx_generator import interval_log_likelihood, normal_log_density
from skae.interchange._onnx_layers import unknown_layer
from skae.interchange._onnx_normal_scores import NormalScoresWriter, log_ndtr
from skae.networks import ConvNetwork
from skae.networks._layers import ACTIVATIONS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FAST = {"hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}
VERBS = ["transform", "encode", "decode", "reconstruct", "reconstruction_error"]
METHODS = {
    AutoencoderTransformer(8, **FAST): [*VERBS, "inverse_transform"],
    DenoisingAutoencoder(8, **FAST): VERBS,
    AutoencoderOutlierDetector(**FAST): [
        *VERBS[1:],
        *("predict", "decision_function", "score_samples"),
    ],
    VAEGenerator(4, **FAST): [*VERBS, "inverse_transform", "score_samples"],
}
CASES = [
    pytest.param(estimator, method, id=f"{type(estimator).__name__}-{method}")
    for estimator, methods in METHODS.items()
    for method in methods
]


def run(model, X):
    """Run a model on rows with onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"X": X})


def assert_agrees(estimator, method, X):
    """The model agrees with the estimator on all rows, and on one alone."""
    if method in ("decode", "inverse_transform"):
        n_latents = estimator.encode(X[:1]).shape[1]
        X = np.random.default_rng(0).normal(size=(20, n_latents)).astype(X.dtype)
    model = to_onnx(estimator, method, dtype=X.dtype)
    onnx.checker.check_model(model, full_check=True)
    expected = np.asarray(getattr(estimator, method)(X), dtype=np.float64)
    for rows in (slice(None), slice(1)):
        (out,) = run(model, X[rows])
        assert out.shape == expected[rows].shape
        assert out.dtype == (np.int64 if method == "predict" else X.dtype)
        scale = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(out, expected[rows], rtol=0, atol=1e-4 * scale)


def assert_scores_agree(detector, X):
    """The scores agree in each row, however far out others are."""
    (found,) = run(to_onnx(detector, "score_samples", dtype=X.dtype), X)
    np.testing.assert_allclose(found, detector.score_samples(X), rtol=1e-4, atol=1e-4)


def with_holes(X, share=0.2):
    return np.where(np.random.default_rng(0).random(X.shape) < share, np.nan, X)


@pytest.fixture(scope="module")
def fitted(digits):
    """The estimators, by class, fitted to digits."""
    return {type(e): e.fit(digits[:600]) for e in METHODS}


@pytest.fixture(scope="module")
def mixed():
    """400 rows of numbers of many kinds, with holes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8))
    X[:, 1] = X[:, 1].round()
    X[:, 2] = X[:, 2] > 0
    X[:, 3] = np.maximum(X[:, 3], 0.0)
    X[:, 4] = X[:, 4].round(2)
    X = with_holes(X, 0.1)
    X[:, 0] = np.nan_to_num(X[:, 0])
    X[:, 6] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("estimator", "method"), CASES)
def test_agrees_on_digits(fitted, digits, estimator, method, dtype):
    assert_agrees(fitted[type(estimator)], method, digits[600:700].astype(dtype))


@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", None])
def test_scalings(digits, scaling):
    model = AutoencoderTransformer(4, scaling=scaling, **FAST).fit(digits[:300])
    assert_agrees(model, "transform", digits[:50])
    assert_agrees(model, "reconstruct", digits[:50])


def test_large_offsets_keep_their_digits_in_float64(digits):
    X = digits[:300].astype(np.float64) + 1e6
    assert_agrees(AutoencoderTransformer(4, **FAST).fit(X), "transform", X[:50])


@pytest.mark.parametrize(
    "params",
    [
        {"tied_weights": True},
        {"output_activation": "relu"},
        {"output_activation": "logistic", "scaling": "minmax"},
        {"loss": "binary_cross_entropy"},
        {"ordered": True},
        {"n_components": 0.8},
        {"whiten": True},
        {"sparsity": 0.1, "scaling": "robust"},
        *({"activation": name} for name in ("elu", "gelu", "leaky_relu", "relu", "tanh")),
    ],
    ids=str,
)
def test_options_of_the_transformer(digits, params):
    model = AutoencoderTransformer(**{"n_components": 4, **FAST, **params}).fit(digits[:300])
    for method in ("transform", "decode", "reconstruct"):
        assert_agrees(model, method, digits[:50])


def test_latents_of_the_first_format_have_no_basis():
    model = skae.load(saved.path_of("ordered", "skae", 1))
    for method in ("transform", "decode", "reconstruct"):
        assert_agrees(model, method, saved.X)


class Network:
    """A network that a function builds."""

    def __init__(self, build):
        self.build = build


class Gate(nn.Module):
    """A layer that is not known to skae."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.value, self.gate = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.value(x) * torch.sigmoid(self.gate(x)).cumsum(1)


def standard(n_features, n_components):
    encoder = nn.Sequential(
        *(nn.Linear(n_features, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.LayerNorm(16)),
        *(nn.ReLU6(), nn.Linear(16, 12, bias=False), nn.Softplus(), nn.Linear(12, n_components)),
    )
    return encoder, nn.Sequential(nn.Linear(n_components, 16), nn.GELU(), nn.Linear(16, n_features))


def unknown(n_features, n_components):
    return nn.Sequential(Gate(n_features, 8), nn.Mish(), nn.Linear(8, n_components)), Gate(
        n_components, n_features
    )


NETWORKS = [ConvNetwork((1, 8, 8), channels=(4, 3)), Network(standard), Network(unknown)]


@pytest.mark.parametrize("network", NETWORKS, ids=["convolution", "standard", "unknown"])
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(4, **FAST),
        DenoisingAutoencoder(4, noise="masking", init="random", **FAST),
        AutoencoderOutlierDetector(n_estimators=2, n_refits=0, **FAST),
        VAEGenerator(4, likelihood="bernoulli", n_importance_samples=5, **FAST),
    ],
    ids=lambda e: type(e).__name__,
)
def test_networks(digits, estimator, network):
    estimator = estimator.set_params(network=network).fit(digits[:200])
    assert_agrees(estimator, "reconstruct", digits[:30])
    if hasattr(estimator, "score_samples"):
        assert_agrees(estimator, "score_samples", digits[:30])


def test_a_hooked_layer_is_traced(digits):
    model = AutoencoderTransformer(4, **FAST).fit(digits[:200])
    model.net_.module_.decoder.residual.layers[0].register_forward_hook(lambda m, x, y: 2 * y)
    assert_agrees(model, "reconstruct", digits[:30])


@pytest.mark.parametrize(
    "params",
    [
        {"n_estimators": 3, "views": ("autoencoder",)},
        {"threshold": "mad", "loss": "huber"},
        {"loss": "absolute_error", "scaling": "global"},
        {"variational": True, "scaling": "minmax"},
        {"init": "pca", "loss": "squared_error", "scaling": None},
        {"scaling": "standard", "views": ("neighbors",)},
        {"views": ("conditional", "core_rank_neighbors")},
    ],
    ids=str,
)
def test_options_of_the_detector(digits, params):
    model = AutoencoderOutlierDetector(**FAST, **params).fit(digits[:300])
    X = with_holes(digits[:60])
    X[0], X[1] = np.nan, 1e6
    for method in ("predict", "decision_function", "encode", "reconstruct"):
        assert_agrees(model, method, X)
    assert_scores_agree(model, X)


def odd_rows(X):
    """Rows for a detector that was fitted to X, whose last column is constant."""
    fresh = np.roll(X, 1, axis=0)[:40] + 0.1
    fresh[:20] = with_holes(fresh[:20])
    fresh[0], fresh[1], fresh[2] = 1e6, -1e30, np.nan
    fresh[3, 1:], fresh[4, 0], fresh[5, -1] = np.nan, 1e9, 7.0
    return np.vstack([X, fresh])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["robust", "standard", None])
def test_scores_of_training_rows_and_odd_ones(dtype, scaling):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    X[:15] *= 20.0  # beyond the cut, as training rows too
    X[:, 4], X[:, 5] = X[:, 4].round(), 2.0
    X[40:60] = X[20:40]
    X = X.astype(dtype)
    detector = AutoencoderOutlierDetector(scaling=scaling, **FAST).fit(X)
    assert_scores_agree(detector, odd_rows(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_after_a_fit_with_holes(mixed, dtype):
    X = mixed.astype(dtype)
    detector = AutoencoderOutlierDetector(**FAST).fit(X)
    assert_scores_agree(detector, X)
    assert_scores_agree(detector, with_holes(X + 0.1, 0.3).astype(dtype))


def test_scores_of_wide_rows(digits):
    X = np.hstack([digits[:120]] * 5)
    X[:100] = with_holes(X[:100])
    detector = AutoencoderOutlierDetector(**FAST).fit(X)
    assert hasattr(detector.net_.views_.gaussian, "loadings_")
    assert_scores_agree(detector, np.vstack([X, with_holes(X[100:] + 0.1)]))


def test_few_training_rows():
    X = np.random.default_rng(0).normal(size=(5, 3))
    detector = AutoencoderOutlierDetector(**FAST).fit(X)
    assert_scores_agree(detector, np.vstack([X, X + 1.0]))


@pytest.mark.parametrize(
    "params",
    [
        {"init": "random"},
        {"output": "latent"},
        {"output": "deep"},
        {"keep_observed": False, "add_indicator": True},
        {"keep_empty_features": True},
        {"noise": "gaussian", "scaling": None},
        {"noise": "gaussian", "noise_level": 5.0},
        {"noise": "swap", "keep_observed": False},
        {"missing_values": -1},
    ],
    ids=str,
)
def test_options_of_the_denoiser(mixed, params):
    X = mixed
    if "missing_values" in params:
        X = np.where(np.isnan(X), -1, X)
    model = DenoisingAutoencoder(**{**FAST, **params}).fit(X)
    fresh = X[:60].copy()
    fresh[:10, 1] = np.nan if "missing_values" not in params else -1
    fresh[:30, 6] = 3.0  # which was empty
    for method in ("transform", "reconstruct", "encode"):
        assert_agrees(model, method, fresh)
    if params.get("output") == "latent":
        assert_agrees(model, "inverse_transform", fresh)


def test_network_and_conditional_means_are_blended(mixed):
    model = DenoisingAutoencoder(**{**FAST, "max_epochs": 15}).fit(mixed)
    assert model.blend_ > 0
    assert_agrees(model, "transform", mixed[:60])


def test_wide_rows_are_filled(digits):
    X = with_holes(np.hstack([digits[:120]] * 5))
    model = DenoisingAutoencoder(8, **FAST).fit(X)
    assert hasattr(model.gaussian_, "loadings_")
    assert_agrees(model, "transform", X[:40])
    assert_agrees(model, "encode", X[:40])


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(4, **FAST),
        AutoencoderOutlierDetector(n_estimators=2, n_refits=0, **FAST),
        VAEGenerator(4, **FAST),
    ],
    ids=lambda e: type(e).__name__,
)
def test_wide_rows(digits, estimator):
    X = np.hstack([digits[:60]] * 10)
    estimator.fit(X)
    for method in ("encode", "decode", "reconstruction_error"):
        assert_agrees(estimator, method, X[:10])


@pytest.mark.parametrize(
    "params",
    [
        {"refine": True},
        {"prior": "standard"},
        {"conditional": True},
        {"conditional": True, "likelihood": "gaussian"},
        {"likelihood": "gaussian"},
    ],
    ids=str,
)
def test_options_of_the_generator(mixed, params):
    X = np.nan_to_num(mixed) if "likelihood" in params else mixed
    fresh = X[:60].copy()
    fresh[:20, 0] *= 3
    fresh[0, 1], fresh[1, 1], fresh[2] = 1.5, 77.0, 0.0
    y = X[:, 0] > 0 if params.get("likelihood") is None else X[:, 0]
    model = VAEGenerator(n_importance_samples=10, **FAST, **params).fit(X, y)
    for method in ("encode", "decode", "reconstruct", "reconstruction_error", "score_samples"):
        assert_agrees(model, method, fresh)


def test_frames_of_numbers(mixed):
    frame = pd.DataFrame(np.nan_to_num(mixed), columns=list("abcdefgh"))
    frame = frame.astype({"b": int, "c": bool})
    model = VAEGenerator(**FAST).fit(frame)
    for method in ("encode", "reconstruct", "score_samples"):
        (found,) = run(to_onnx(model, method, dtype=np.float64), frame.to_numpy(dtype=float))
        expected = np.asarray(getattr(model, method)(frame), dtype=float)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "method", ["encode", "decode", "reconstruct", "reconstruction_error", "predict"]
)
def test_no_rows_at_all_do_not_end_the_process(fitted, digits, method):
    detector = fitted[AutoencoderOutlierDetector]
    latents = detector.encode(digits[:1])
    X = latents if method == "decode" else digits[:1]
    expected = getattr(detector, method)(X)
    (out,) = run(to_onnx(detector, method), X[:0].astype(np.float32))
    assert out.shape == (0, *expected.shape[1:])


def test_no_images_at_all(digits):
    network = ConvNetwork((1, 8, 8), channels=(4, 3))
    model = AutoencoderTransformer(4, network=network, **FAST).fit(digits[:100])
    assert run(to_onnx(model), digits[:0])[0].shape == (0, 4)
    assert run(to_onnx(model, "reconstruct"), digits[:0])[0].shape == (0, 64)


def test_logarithm_of_the_normal_distribution_function():
    x = np.r_[np.linspace(-30, 10, 100_001), 0.0]
    np.testing.assert_allclose(evaluate(log_ndtr, x), special.log_ndtr(x), rtol=1e-9)


# Formulas that exist both in the engine and in the writers.


def evaluate(function, *arrays):
    """The values of a function of values of a graph."""
    graph = Graph()
    inputs = [graph.value(array.dtype, f"x{i}") for i, array in enumerate(arrays)]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    outputs = [output.named(f"y{i}") for i, output in enumerate(outputs)]
    model = onnx.helper.make_model(
        graph.proto([(x, None) for x in inputs], [(y, None) for y in outputs]),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})
    return found[0] if len(found) == 1 else found


def test_losses_are_those_of_the_engine():
    errors = np.r_[np.linspace(-5, 5, 2001), 0.0, 1.0, -1.0, 1e4]
    assert LOSSES.keys() == _losses.ERROR_LOSSES.keys()
    for name, (loss, _) in _losses.ERROR_LOSSES.items():
        expected = loss(torch.from_numpy(errors)).numpy()
        np.testing.assert_allclose(
            evaluate(LOSSES[name], errors), expected, rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_densities_of_points_and_intervals_are_those_of_the_engine():
    deviation = np.array([0.02, 0.3, 1.0, 7.0])
    low = np.r_[-30.0, np.linspace(-6, 6, 25)]
    width = np.array([0.0, 1e-9, 1e-3, 0.0199, 0.1, 2.0, 60.0])
    mean, low, width = np.meshgrid(np.linspace(-6, 6, 25), low, width)
    mean, low, high = (np.repeat(x.reshape(-1, 1), 4, axis=1) for x in (mean, low, low + width))
    tensors = [torch.from_numpy(x) for x in (mean, np.tile(deviation, (len(low), 1)), low, high)]
    found = evaluate(
        lambda mean, low, high: interval_log_likelihood(mean, deviation, low, high), mean, low, high
    )
    expected = _losses.interval_log_likelihood(*tensors).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    found = evaluate(lambda x, mean: normal_log_density(x, mean, deviation), low, mean)
    expected = _losses.normal_log_density(tensors[2], *tensors[:2]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_normal_scores_are_those_of_the_transformation(mixed):
    ranks = NormalScores([0] * mixed.shape[1]).fit(mixed)
    writer = NormalScoresWriter(ranks)
    grid = np.r_[np.linspace(-12, 12, 2401), 0.005, 1e6, -1e6, np.nan][:, None]
    X = np.vstack([np.tile(grid, mixed.shape[1]), mixed])
    np.testing.assert_allclose(evaluate(writer.transform, X), ranks.transform(X), rtol=1e-5)
    scores = np.tile(np.linspace(-5, 5, 1001)[:, None], ranks.n_scores)
    found, expected = evaluate(writer.inverse_transform, scores), ranks.inverse_transform(scores)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_scaling_is_that_of_the_scaler(mixed):
    for method in ("global", "standard", "minmax", "robust", None):
        writer = OnnxWriter.__new__(OnnxWriter)
        writer.scaler = Scaler(method, cut=2.0).fit(mixed)
        X = 3 * mixed
        scaled = writer.scaler.transform(X)
        np.testing.assert_allclose(evaluate(writer._scaled, X), scaled, rtol=1e-6, err_msg=method)
        found = evaluate(lambda x, w=writer: w._unscaled(x, np.dtype(float)), 2 * scaled)
        expected = writer.scaler.inverse_transform(2 * scaled)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=method)


def test_metadata(fitted):
    model = to_onnx(fitted[AutoencoderOutlierDetector], "predict")
    assert (model.producer_name, model.producer_version) == ("skae", skae.__version__)
    assert {p.key: p.value for p in model.metadata_props} == {
        "skae_version": skae.__version__,
        "estimator": "AutoencoderOutlierDetector",
        "method": "predict",
    }
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["X", "predict"]


def test_estimators_stay_as_they_are(digits):
    model = AutoencoderTransformer(4, network=Network(unknown), **FAST).fit(digits[:200])
    before = model.transform(digits[:20])
    to_onnx(model)
    np.testing.assert_array_equal(model.transform(digits[:20]), before)


# Layers of skae are known to all code that walks through networks.

CONVOLUTION = ConvNetwork((1, 8, 8), channels=(4, 3))
ONCE = {**FAST, "max_epochs": 1}
FEW = {**ONCE, "n_estimators": 2, "n_refits": 0}


@pytest.mark.parametrize(
    "estimator",
    [
        *(AutoencoderTransformer(3, activation=name, **ONCE) for name in ACTIVATIONS),
        AutoencoderTransformer(3, dropout=0.1, init="random", **ONCE),
        AutoencoderTransformer(3, tied_weights=True, **ONCE),
        AutoencoderTransformer(3, network=CONVOLUTION, **ONCE),
        AutoencoderOutlierDetector(**FEW),
        AutoencoderOutlierDetector(init="pca", **FEW),
        AutoencoderOutlierDetector(network=CONVOLUTION, **FEW),
        AutoencoderOutlierDetector(variational=True, **FEW),
        DenoisingAutoencoder(3, **ONCE),
        VAEGenerator(3, **ONCE),
        VAEGenerator(3, conditional=True, likelihood="gaussian", **ONCE),
        VAEGenerator(3, network=CONVOLUTION, likelihood="bernoulli", **ONCE),
    ],
    ids=str,
)
def test_layers_of_skae_are_known(digits, estimator):
    net = estimator.fit(digits[:60], np.arange(60) % 2).net_
    saved = {*LAYERS, *TORCH_LAYERS}
    assert {type(m) for part in (net.module_, net.criterion_) for m in part.modules()} <= saved
    assert unknown_layer(net.module_.encoder) is unknown_layer(net.module_.decoder) is None
    # Layers that `describe` does not know are shown as torch prints them: "Name(...)".
    facts = describe(net, 64)
    assert not [layer for layer in (*facts.encoder, *facts.decoder) if "(" in layer.text]


# Errors.


def test_estimators_that_cannot_be_written(fitted, mixed):
    with pytest.raises(ValueError, match=r"method='explain'.*these can: .*'predict'"):
        to_onnx(fitted[AutoencoderOutlierDetector], "explain")
    with pytest.raises(ValueError, match=r"'transform' of this Autoencoder\w+ cannot"):
        to_onnx(fitted[AutoencoderOutlierDetector])
    model = DenoisingAutoencoder(sample_posterior=True, **FAST).fit(mixed)
    with pytest.raises(ValueError, match=r"'transform'.*sample_posterior=True.*'encode'"):
        to_onnx(model)
    with pytest.raises(ValueError, match=r"output='denoised' has no way back"):
        to_onnx(model, "inverse_transform")
    model = VAEGenerator(conditional=True, refine=True, **FAST).fit(mixed, mixed[:, 0] > 0)
    with pytest.raises(ValueError, match=r"'score_samples'.*refiner_.*'transform'"):
        to_onnx(model, "score_samples")


def test_levels_and_dates_cannot_be_written():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": list("xy") * 20})
    with pytest.raises(ValueError, match=r"'encode'.*column 'b' holds levels"):
        to_onnx(VAEGenerator(**FAST).fit(frame), "encode")
    frame["b"] = pd.date_range("2024-01-01", periods=40)
    with pytest.raises(ValueError, match=r"'encode'.*column 'b' holds dates"):
        to_onnx(VAEGenerator(**FAST).fit(frame), "encode")


def test_deep_output_of_unknown_layers_cannot_be_written(digits):
    model = DenoisingAutoencoder(4, network=Network(unknown), output="deep", **FAST)
    with pytest.raises(ValueError, match=r"output='deep'.*Gate.*'encode'"):
        to_onnx(model.fit(digits[:200]))


def test_layers_that_torch_cannot_write(digits):
    class Odd(Gate):
        def forward(self, x):
            return torch.special.bessel_j0(self.value(x))

    network = Network(lambda d, k: (Odd(d, k), nn.Linear(k, d)))
    model = AutoencoderTransformer(4, network=network, init="random", **FAST).fit(digits[:200])
    with pytest.raises(ValueError, match=r"'transform'.*cannot write Odd.*'decode'"):
        to_onnx(model)
    assert_agrees(model, "decode", digits[:20])


def test_wrong_arguments(fitted):
    with pytest.raises(NotFittedError):
        to_onnx(AutoencoderTransformer())
    with pytest.raises(TypeError, match="estimator is a PCA"):
        to_onnx(PCA())
    with pytest.raises(ValueError, match="dtype='int64' must be"):
        to_onnx(fitted[AutoencoderTransformer], dtype=int)


def test_missing_package(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "skae\[onnx\]"'):
        to_onnx(fitted[AutoencoderTransformer])


# Pipelines.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "classifier", [KNeighborsClassifier(), LogisticRegression(max_iter=1000)], ids=["knn", "logit"]
)
def test_pipelines(digits, classifier, dtype):
    skl2onnx = pytest.importorskip("skl2onnx")
    y = digits[:, 27] > 0.5
    X = digits[:400].astype(dtype)
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(4, **FAST), classifier)
    pipeline.fit(X, y[:400])
    options = {"zipmap": False}
    model = skl2onnx.to_onnx(pipeline, X[:1], options={id(pipeline.steps[-1][1]): options})
    onnx.checker.check_model(model, full_check=True)
    labels, probabilities = run(model, X)
    assert (labels == pipeline.predict(X)).mean() > 0.99
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(X), atol=1e-4)


def test_detectors_in_pipelines(digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    pipeline = make_pipeline(MinMaxScaler(), AutoencoderOutlierDetector(**FAST)).fit(digits[:300])
    labels, scores = run(skl2onnx.to_onnx(pipeline, digits[:1]), digits[:100])
    np.testing.assert_array_equal(labels, pipeline.predict(digits[:100]))
    np.testing.assert_allclose(scores, pipeline.decision_function(digits[:100]), atol=1e-4)


def test_column_transformer_in_a_pipeline(mixed):
    skl2onnx = pytest.importorskip("skl2onnx")
    X = np.nan_to_num(mixed)
    X[:, :4] = mixed[:, :4]
    both = ColumnTransformer(
        [("fill", DenoisingAutoencoder(3, **FAST), [0, 1, 2, 3]),
         ("encode", AutoencoderTransformer(2, **FAST), [4, 5, 7]),
         ("draw", VAEGenerator(2, **FAST), [4, 5, 7])]
    )  # fmt: skip
    pipeline = make_pipeline(both, StandardScaler()).fit(X)
    (found,) = run(skl2onnx.to_onnx(pipeline, X[:1]), X)
    np.testing.assert_allclose(found, pipeline.transform(X), atol=1e-3)


def test_old_opsets_are_refused(digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    model = AutoencoderTransformer(4, **FAST).fit(digits[:200])
    with pytest.raises(ValueError, match="target_opset=15 must be at least 18"):
        skl2onnx.to_onnx(model, digits[:1], target_opset=15)


def test_only_skl2onnx_finds_its_methods(monkeypatch):
    names = ["onnx_converter", "onnx_parser", "onnx_shape_calculator"]
    model = AutoencoderTransformer()
    monkeypatch.setitem(sys.modules, "skl2onnx", sys)
    assert [hasattr(model, name) for name in names] == [True] * 3
    monkeypatch.delitem(sys.modules, "skl2onnx")
    assert [hasattr(model, name) for name in names] == [False] * 3
    assert not any(hasattr(AutoencoderTransformer, name) for name in names)
    with pytest.raises(AttributeError, match=r"'AutoencoderTransformer' object .* 'onnx_parser'"):
        _ = model.onnx_parser


def test_properties_that_fail_are_evaluated_once():
    class Counted(AutoencoderTransformer):
        n_asked = 0

        @property
        def spam(self):
            type(self).n_asked += 1
            raise AttributeError("no spam today")

    with pytest.raises(AttributeError, match="no spam today"):
        _ = Counted().spam
    assert Counted.n_asked == 1


def test_missing_attributes_have_the_usual_message():
    with pytest.raises(AttributeError, match=r"'AutoencoderTransformer' object has no .* 'spam'"):
        _ = AutoencoderTransformer().spam
    with pytest.raises(AttributeError, match=r"'DenoisingAutoencoder' has no .*inverse_transform"):
        _ = DenoisingAutoencoder().inverse_transform


def test_skl2onnx_may_be_imported_first():
    pytest.importorskip("skl2onnx")
    code = """
import skl2onnx
import skae
import numpy as np
X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
detector = skae.AutoencoderOutlierDetector(max_epochs=1, random_state=0).fit(X)
print(len(skl2onnx.to_onnx(detector, X[:1]).graph.output))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "2\n"
