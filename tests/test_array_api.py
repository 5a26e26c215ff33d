"""Tensors in, tensors out, on their device and without a trip through NumPy."""

import pickle
from copy import copy, deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils._array_api import yield_namespace_device_dtype_combinations
from sklearn.utils.estimator_checks import check_array_api_input
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._data._arrays import namespace
from skae._data._chunks import TensorTable, row_chunks
from skae._data._scaling import Scaler
from skae._engine import _views
from skae.interchange import to_onnx
from skae.plotting import LatentSizeDisplay

SMALL = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
ROWS = ("encode", "reconstruct", "reconstruction_error")
SCORES = ("predict", "decision_function", "score_samples", "pvalues", "explain", "correct")


def latents_of(model, X):
    return model.decode(model.encode(X))


def back(model, X):
    return model.inverse_transform(model.transform(X))


def repaired(model, X):
    return model.correct(X, columns=[1, 3])


def bound(model, X):
    return model.elbo(X).elbo


TRANSFORMER = (*ROWS, "transform", "score", latents_of, back)
DETECTOR = (*ROWS, *SCORES, latents_of, repaired)
DENOISER = (*ROWS, "transform", latents_of)
GENERATOR = (*ROWS, "transform", "score_samples", "score", latents_of, back, bound)
CASES = {
    "transformer": (AutoencoderTransformer, {"n_components": 2}, TRANSFORMER),
    "transformer-ordered": (AutoencoderTransformer, {"n_components": 0.8}, TRANSFORMER),
    "transformer-robust": (
        AutoencoderTransformer,
        {"n_components": 2, "scaling": "robust"},
        TRANSFORMER,
    ),
    "detector": (AutoencoderOutlierDetector, {}, DETECTOR),
    "detector-variational": (
        AutoencoderOutlierDetector,
        {"n_estimators": 3, "variational": True, "views": ("autoencoder", "neighbors")},
        DETECTOR,
    ),
    "detector-standard": (AutoencoderOutlierDetector, {"scaling": "standard"}, DETECTOR),
    "denoiser": (DenoisingAutoencoder, {"noise": "gaussian"}, DENOISER),
    "denoiser-filling": (DenoisingAutoencoder, {}, DENOISER),
    "denoiser-latent": (
        DenoisingAutoencoder,
        {"output": "latent", "n_components": 3, "missing_values": -1},
        (*DENOISER, back),
    ),
    "denoiser-deep": (
        DenoisingAutoencoder,
        {"output": "deep", "add_indicator": True, "keep_observed": True},
        DENOISER,
    ),
    "generator-gaussian": (VAEGenerator, {"likelihood": "gaussian"}, GENERATOR),
    "generator-bernoulli": (
        VAEGenerator,
        {"likelihood": "bernoulli", "prior": "standard"},
        GENERATOR,
    ),
}


NETS = {"cpu": "cpu", **({"cuda": "cuda"} if torch.cuda.is_available() else {})}


@pytest.fixture(scope="module")
def train(table):
    """The shared table within [0, 1]."""
    return (table - table.min()) / (table.max() - table.min())


@pytest.fixture(scope="module")
def fresh(train):
    """Rows that no fit has seen."""
    return np.random.default_rng(1).permuted(train, axis=0)[:-1]  # not as many as references


@pytest.fixture(scope="module")
def fitted(train):
    """Models by case, fitted once."""
    models = {}

    def get(case):
        if case not in models:
            models[case] = make(case).fit(train)
        return models[case], CASES[case][2]

    return get


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


@pytest.fixture
def no_numpy():
    """After a call, each way from a tensor to NumPy is an error, and back for arrays of rows.

    But for distances on a CPU, which NumPy searches where they lie.
    """

    def refuse(name, *args, **kwargs):
        raise AssertionError(f"{name}: rows pass through NumPy")

    def statistics_only(original, name, n_rows, values, *args, **kwargs):
        if isinstance(values, np.ndarray | list) and n_rows in np.shape(values):
            refuse(name)
        return original(values, *args, **kwargs)

    namespace(torch.zeros(1))  # imported now, it has the functions as they are

    def guard(monkeypatch, n_rows):
        for name in ("numpy", "__array__", "tolist", "__dlpack__"):
            monkeypatch.setattr(torch.Tensor, name, partial(refuse, name))
        for name in ("asarray", "as_tensor", "from_numpy", "tensor"):
            checked = partial(statistics_only, getattr(torch, name), name, n_rows)
            monkeypatch.setattr(torch, name, checked)
        monkeypatch.setattr(_views, "argmin", partial(torch.argmin, dim=1))

    return guard


def make(case, **params):
    estimator, options, _ = CASES[case]
    return estimator(**{**SMALL, **options, **params})


def call(model, method, X):
    return method(model, X) if callable(method) else getattr(model, method)(X)


def assert_same(found, wanted, like, message=""):
    """The result is a tensor on the device of `like` with NumPy's values, or the same number."""
    if not isinstance(wanted, np.ndarray):
        assert found == pytest.approx(wanted, rel=1e-5)
        return
    assert isinstance(found, torch.Tensor), message
    assert (found.device, found.requires_grad) == (like.device, False), message
    assert str(found.dtype) == f"torch.{wanted.dtype}", message
    assert_allclose(found.cpu().numpy(), wanted, rtol=1e-4, atol=1e-5, err_msg=message)


# Inference.


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("case", CASES)
def test_inference_never_passes_through_numpy(case, net, fitted, fresh, no_numpy):
    model, methods = fitted(case)
    model = deepcopy(model).set_params(device=net)
    for dtype in (np.float32, np.float64):
        expected = [call(model, method, fresh.astype(dtype)) for method in methods]
        tensors = [torch.tensor(fresh.astype(dtype), device=device) for device in NETS]
        with pytest.MonkeyPatch.context() as patch:
            no_numpy(patch, len(fresh))
            results = [[call(model, method, X) for method in methods] for X in tensors]
        for X, found in zip(tensors, results, strict=True):
            for method, result, wanted in zip(methods, found, expected, strict=True):
                assert_same(result, wanted, X, f"{method} of {dtype} on {X.device}")


def test_no_numpy_detects_conversions(no_numpy):
    X = torch.zeros(120, 2)
    rows = X.numpy()
    with pytest.MonkeyPatch.context() as patch:
        no_numpy(patch, 120)
        for convert in (X.numpy, X.tolist, lambda: np.asarray(X), lambda: torch.from_numpy(rows)):
            with pytest.raises(AssertionError, match="through NumPy"):
                convert()
        torch.from_numpy(rows[0])


@pytest.mark.parametrize("case", CASES)
def test_batches_are_concatenated_in_order(case, fitted, fresh, set_limits):
    model, methods = fitted(case)
    X = torch.tensor(fresh)
    at_once = [call(model, method, X) for method in methods]
    set_limits(inference_bytes=1)
    for method, found in zip(methods, at_once, strict=True):
        if isinstance(found, torch.Tensor):
            torch.testing.assert_close(call(model, method, X), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["transformer", "detector", "denoiser", "generator-gaussian"])
def test_tensors_are_never_written_to(case, train):
    X = torch.tensor(train, dtype=torch.float32)
    before = X.clone()
    model = make(case, scaling=None) if "scaling" in make(case).get_params() else make(case)
    model.fit(X).partial_fit(X)
    for method in CASES[case][2]:
        found = call(model, method, X)
        if isinstance(found, torch.Tensor):
            found += 1
    assert torch.equal(X, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.bfloat16])
def test_other_dtypes_come_back_as_float64(dtype, train):
    X = torch.tensor(10 * train).to(dtype)
    model = make("transformer").fit(X)
    Z = model.transform(X)
    assert Z.dtype == torch.float64
    assert_array_equal(Z, model.transform(X.double()))
    assert model.inverse_transform(Z).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_where_numpy_computes(dtype, train):
    X = torch.tensor(train).to(dtype)
    weight = torch.arange(1, len(X) + 1).to(dtype)
    model = VAEGenerator(**SMALL).fit(X, sample_weight=weight)
    Z = model.transform(X)
    assert Z.dtype == model.reconstruct(X).dtype == torch.float64
    double = clone(model).fit(X.double(), sample_weight=weight.double())
    assert_array_equal(Z, double.transform(X.double()))


def test_integers_stay_integers_in_drawn_rows(train):
    X = torch.tensor(10 * train).to(torch.int32)
    model = make("generator-gaussian").fit(X)
    assert model.sample(3, random_state=0).dtype == np.int32
    assert model.reconstruct(X).dtype == torch.int32
    assert model.reconstruct(X.double()).dtype == torch.int32


# Bad input.


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda X: X.clone().requires_grad_(), r"requires a gradient.*detach"),
        (lambda X: X.to(torch.complex64), "Complex data"),
        (lambda X: X[0], "2D"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: torch.where(X[3, 1] == X, torch.inf, X), "infinity"),
        (lambda X: torch.where(X[3, 1] == X, torch.nan, X), "NaN"),
    ],
)
def test_bad_tensors_are_errors_and_change_nothing(corrupt, message, train):
    X = torch.tensor(train)
    model = make("transformer").fit(X)
    state = vars(model).copy()
    for method, good in ((model.transform, X), (model.decode, X[:, :2]), (model.fit, X)):
        with pytest.raises(ValueError, match=message):
            method(corrupt(good))
    assert vars(model) == state


@pytest.mark.parametrize("dispatch", [True, False])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator])
def test_sparse_tensors_are_errors(estimator, dispatch, train):
    X = torch.tensor(train)
    model = estimator(**SMALL).fit(X)
    state = vars(model).copy()
    calls = [
        (model.fit, {"X": X.to_sparse()}),
        (model.transform, {"X": X.to_sparse()}),
        (model.decode, {"Z": X[:, :2].to_sparse()}),
        (model.fit, {"X": X, "sample_weight": X[:, 0].to_sparse()}),
    ]
    with config_context(array_api_dispatch=dispatch):
        for method, arguments in calls:
            name = list(arguments)[-1]
            with pytest.raises(TypeError, match=f"{name} is a .*sparse.*{name}.to_dense"):
                method(**arguments)
    assert vars(model) == state


def test_tensors_of_other_widths_are_errors(train):
    X = torch.tensor(train)
    model = make("transformer").fit(X)
    with pytest.raises(ValueError, match="4 features"):
        model.transform(X[:, :4])
    with pytest.raises(ValueError, match=r"4 columns.*2 latents"):
        model.decode(X[:, :4])


# Fitting.


@pytest.mark.parametrize("case", CASES)
def test_fit_on_tensors_is_fit_on_arrays(case, train):
    weight = np.arange(len(train)) % 3
    y = {} if "generator" in case else {"y": None}
    model = make(case).fit(torch.tensor(train), sample_weight=torch.tensor(weight), **y)
    wanted = make(case).fit(train, sample_weight=weight)
    assert_array_equal(model.encode(train), wanted.encode(train))
    model.partial_fit(torch.tensor(train))
    wanted.partial_fit(train)
    assert_array_equal(model.encode(train), wanted.encode(train))


def test_wide_tensors_fit_as_wide_arrays(digits):
    X = np.tile(digits[:300], 5)
    params = {"n_components": 3, "random_state": 0, "max_epochs": 1}
    wanted = AutoencoderTransformer(**params).fit(X)
    model = AutoencoderTransformer(**params).fit(torch.tensor(X))
    assert_array_equal(model.encode(X), wanted.encode(X))
    assert model.fit_transform(torch.tensor(X)).dtype == torch.float32


def test_fit_reads_tensors_piece_by_piece(monkeypatch, set_limits):
    X = torch.randn(3000, 20, generator=torch.Generator().manual_seed(0))
    sizes = []
    read = TensorTable.__getitem__

    def watched(table, selection):
        rows = read(table, selection)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(TensorTable, "__getitem__", watched)
    set_limits(chunk_bytes=8 * 20 * 100)
    for case in ("transformer", "detector"):
        params = {"scaling": "standard", "max_epochs": 1}
        assert len(make(case, **params).fit(X).encode(X)) == len(X)
    assert sizes
    assert max(sizes) <= 100


def test_a_table_reads_what_its_tensor_holds(train):
    X = torch.tensor(train, dtype=torch.float32)
    table = TensorTable(X)
    assert (table.shape, table.dtype) == (X.shape, np.float32)
    assert_array_equal(table[np.array([3, 1])], X[[3, 1]].numpy())
    assert_array_equal(table.rows(slice(3, 5))[:], X[3:5].numpy())
    assert all(isinstance(chunk, np.ndarray) for _, chunk in row_chunks(table))


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_targets_may_be_in_another_namespace_than_rows(kind, train):
    xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    y = train[:, 0] if kind == "numbers" else (train[:, 0] > 0.4).astype(int)
    elsewhere = xp.asarray(y, device=xp.Device("device1"))  # NumPy cannot read it, as on a GPU
    model = VAEGenerator(conditional=True, n_importance_samples=4, **SMALL)
    wanted = clone(model).fit(train, y).partial_fit(train, y)
    X = torch.tensor(train)
    model.fit(X, elsewhere).partial_fit(X, elsewhere)
    found = model.score_samples(X, elsewhere)
    assert_same(found, wanted.score_samples(train, y), X)
    assert model.score(X, elsewhere) == pytest.approx(wanted.score(train, y), rel=1e-5)
    for some in (elsewhere[:5], elsewhere[3]):
        drawn = model.sample(5, y=some, random_state=0)
        assert_array_equal(
            drawn,
            wanted.sample(
                5, y=np.from_dlpack(some.to_device(xp.Device("CPU_DEVICE"))), random_state=0
            ),
        )


# Where a trip is needed, tensors come back all the same.


@pytest.fixture(scope="module")
def holes(train):
    return np.where(np.random.default_rng(0).random(train.shape) < 0.1, np.nan, train)


@pytest.mark.parametrize("params", [{}, {"sample_posterior": True}, {"output": "latent"}])
def test_gaps_are_filled_in_tensors(params, holes):
    X = torch.tensor(holes)
    model = DenoisingAutoencoder(**{**SMALL, **params}).fit(X)
    other = deepcopy(model)  # each call draws anew
    assert_same(model.transform(X), other.transform(holes), X)
    assert_same(model.reconstruction_error(X), model.reconstruction_error(holes), X)


def test_gaps_may_be_marked_by_a_number(holes):
    marked = np.nan_to_num(holes, nan=-1.0)
    model = DenoisingAutoencoder(missing_values=-1, **SMALL).fit(torch.tensor(marked))
    X = torch.tensor(marked)
    assert_same(model.transform(X), model.transform(marked), X)
    assert torch.equal(X, torch.tensor(marked))


def test_denoiser_scores_tensors(train, holes):
    weight = np.arange(len(train)) % 3
    X, X_clean, w = (torch.tensor(array) for array in (holes, train, weight))
    model = DenoisingAutoencoder(**SMALL).fit(X, X_clean=X_clean, sample_weight=w)
    wanted = DenoisingAutoencoder(**SMALL).fit(holes, X_clean=train, sample_weight=weight)
    assert model.score(X, X_clean=X_clean, sample_weight=w) == pytest.approx(
        wanted.score(holes, X_clean=train, sample_weight=weight)
    )
    assert model.score(X) == pytest.approx(wanted.score(holes))


def test_detector_reads_gaps_in_tensors(train, holes):
    model, X = AutoencoderOutlierDetector(**SMALL).fit(train), torch.tensor(holes)
    for method in ("score_samples", "explain", "correct"):
        assert_same(getattr(model, method)(X), getattr(model, method)(holes), X, method)


@pytest.mark.parametrize("params", [{}, {"conditional": True}, {"refine": True}])
def test_ranks_targets_and_trees_give_tensors(params, train):
    X = torch.tensor(train)
    y = torch.tensor(train[:, 0] > 0.4) if "conditional" in params else None
    model = VAEGenerator(**{**SMALL, "n_importance_samples": 4, **params}).fit(X, y)
    for method in ("transform", "reconstruct", "score_samples", "reconstruction_error"):
        assert_same(getattr(model, method)(X), getattr(model, method)(train), X, method)


def test_tensors_without_dispatch_are_numpy_arrays(train):
    with config_context(array_api_dispatch=False):
        model = make("transformer").fit(torch.tensor(train))
        assert isinstance(model.transform(torch.tensor(train)), np.ndarray)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
@pytest.mark.parametrize("case", ["transformer", "detector", "denoiser", "generator-gaussian"])
def test_other_namespaces_come_back_on_their_device(case, device, train):
    xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    X = xp.asarray(train.copy(), device=xp.Device(device))
    model = make(case).fit(X)
    for method in CASES[case][2]:
        found, wanted = call(model, method, X), call(model, method, train)
        if isinstance(wanted, np.ndarray):
            assert type(found) is type(X)
            assert found.device == X.device
        else:
            assert found == wanted


# The contract of scikit-learn, and fitted arrays.

CHECKED = {
    "transformer-ordered": AutoencoderTransformer(0.8, **SMALL),
    "denoiser": DenoisingAutoencoder(**SMALL),
    "denoiser-latent": DenoisingAutoencoder(2, output="latent", add_indicator=True, **SMALL),
    "detector": AutoencoderOutlierDetector(**SMALL),
    "generator": VAEGenerator(n_importance_samples=4, **SMALL),
    "generator-gaussian": VAEGenerator(likelihood="gaussian", n_importance_samples=4, **SMALL),
}
KINDS = [
    kind
    for kind in yield_namespace_device_dtype_combinations()
    if kind[0] in ("numpy", "array_api_strict", "torch") and str(kind[1]) not in ("xpu", "mps")
]


@pytest.mark.parametrize(("namespace", "device", "dtype"), KINDS)
@pytest.mark.parametrize("case", CHECKED)
def test_scikit_learn_finds_no_fault_with_arrays_of_other_namespaces(
    case, namespace, device, dtype, dispatch
):
    with config_context(array_api_dispatch=False):  # the check itself switches it on
        check_array_api_input(case, CHECKED[case], namespace, device, dtype, check_values=True)


FITTED_ARRAYS = {
    "transformer-ordered": ("mean_", "explained_variance_ratio_", "latent_size_curve_"),
    "denoiser-filling": ("mean_", "missing_columns_"),
    "detector": ("mean_",),
}


@pytest.mark.parametrize("case", FITTED_ARRAYS)
def test_fitted_arrays_are_like_the_rows_of_the_last_fit(case, train):
    model, reference = make(case).fit(torch.tensor(train)), make(case).fit(train)
    for name in FITTED_ARRAYS[case]:
        found, wanted = getattr(model, name), getattr(reference, name)
        assert_same(found, wanted, torch.tensor(train), name)
        found += 1  # a copy
        assert_same(getattr(model, name), wanted, torch.tensor(train), name)
        with config_context(array_api_dispatch=False):  # they stay what they are
            assert isinstance(getattr(model, name), torch.Tensor)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.full((3, 1), np.inf))
    assert isinstance(model.mean_, torch.Tensor)
    assert isinstance(model.partial_fit(train).mean_, np.ndarray)
    assert isinstance(model.partial_fit(torch.tensor(train)).mean_, torch.Tensor)
    assert isinstance(model.fit(train).mean_, np.ndarray)


@pytest.mark.parametrize("case", FITTED_ARRAYS)
def test_copies_and_files_hold_numpy_arrays(case, train, fresh, tmp_path):
    X = torch.tensor(train)
    model, reference = make(case).fit(X), make(case).fit(train)
    skae.save(model, tmp_path / "model")
    copies = (pickle.loads(pickle.dumps(model)), copy(model), deepcopy(model))
    for other in (*copies, skae.load(tmp_path / "model")):
        for name in FITTED_ARRAYS[case]:
            assert_array_equal(getattr(other, name), getattr(reference, name), strict=True)
        assert_array_equal(other.encode(fresh), reference.encode(fresh))
        assert_array_equal(
            other.partial_fit(X).encode(fresh), deepcopy(reference).partial_fit(train).encode(fresh)
        )


def test_models_fitted_to_tensors_are_drawn_written_and_shown(train):
    pytest.importorskip("onnx", reason="onnx is not installed")
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    X, reference = torch.tensor(train), make("transformer-ordered").fit(train)
    model = make("transformer-ordered").fit(X)
    lines = [LatentSizeDisplay.from_estimator(each, train).line_ for each in (model, reference)]
    assert_array_equal(*(line.get_ydata() for line in lines))
    assert_array_equal(lines[0].get_ydata(), model.latent_size_curve_)
    pyplot.close("all")
    assert_same(model.score(X), reference.score(train), X)
    assert "encoder" in model._repr_html_().lower()
    for case in ("transformer-ordered", "denoiser-filling", "denoiser-deep", "detector"):
        method = "score_samples" if case == "detector" else "transform"
        files = [to_onnx(make(case).fit(rows), method).SerializeToString() for rows in (X, train)]
        assert files[0] == files[1]


def test_fitted_arrays_that_are_not_there():
    with pytest.raises(AttributeError, match=r"Autoenc.*latent_size_curve_"):
        make("transformer").latent_size_curve_  # noqa: B018
    assert not hasattr(make("transformer").fit(np.eye(5)), "latent_size_curve_")


# The scaling itself.


@pytest.mark.parametrize("method", ["global", "standard", "minmax", "robust", "winsorized", None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_of_tensors_has_the_bits_of_arrays(method, dtype, train):
    scaler = Scaler(method, cut=1.5).fit(train)
    X = torch.tensor(train.astype(dtype))
    scaled = scaler.transform(X.numpy())
    for each in (scaler, scaler.on_device_of(X)):
        assert_array_equal(each.transform(X).numpy(), scaled)
        for wide in (np.float32, np.float64):
            out = torch.empty(X.shape, dtype=getattr(torch, np.dtype(wide).name))
            found = each.inverse_transform(torch.tensor(scaled), out.dtype, out)
            assert found is out
            assert_array_equal(found.numpy(), scaler.inverse_transform(scaled, wide))


# A second device, where there is none: the CPU in disguise, under the name "meta". Its tensors
# hold ordinary ones and compute with one another only, as those of a GPU do; a tensor of the
# CPU beside them is an error unless it is a number, an index, or copied.

aten = torch.ops.aten
CROSSES = {aten.copy_.default, aten._to_copy.default}
TAKES_INDICES = {aten.index.Tensor: 1, aten.index_put_.default: 1, aten.index_put.default: 1}
NAME = torch.device("meta")


class Elsewhere(torch.Tensor):
    """A tensor on the second device."""

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device=NAME, **layout
        )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with SecondDevice():
            return func(*args, **(kwargs or {}))


class SecondDevice(TorchDispatchMode):
    """While it is on, tensors can be made and computed with on the second device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        there = any(isinstance(x, Elsewhere) for x in inputs)
        if there and func not in CROSSES:
            checked = [a for i, a in enumerate(args) if i != TAKES_INDICES.get(func)]
            for x in tree_flatten(checked)[0]:
                if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) and x.dim():
                    raise RuntimeError(f"{func}: tensors are on two devices")
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]) == NAME
            kwargs["device"] = torch.device("cpu")
        if func is aten.copy_.default:
            there = isinstance(args[0], Elsewhere)
        plain = tree_map(lambda x: x.held if isinstance(x, Elsewhere) else x, (args, kwargs))
        found = func(*plain[0], **plain[1])
        if not there:
            return found
        if func._schema.name.endswith("_") or "out" in kwargs:
            return args[0] if "out" not in kwargs else kwargs["out"]
        return tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, found)


@pytest.mark.parametrize("case", CASES)
def test_results_are_on_the_device_of_the_rows(case, fitted, fresh):
    model, methods = fitted(case)
    expected = [call(model, method, fresh) for method in methods]
    with SecondDevice():
        X = Elsewhere(torch.tensor(fresh))
        for method, wanted in zip(methods, expected, strict=True):
            found = call(model, method, X)
            if isinstance(wanted, np.ndarray):
                assert isinstance(found, Elsewhere), method
                found = found.held
            assert_allclose(found, wanted, rtol=1e-5, atol=1e-6, err_msg=str(method))


@pytest.mark.parametrize("case", ["transformer", "detector", "denoiser"])
def test_fit_takes_rows_of_another_device(case, fitted, train, fresh):
    model, _ = fitted(case)
    with SecondDevice():
        other = make(case).fit(Elsewhere(torch.tensor(train)))
    assert_array_equal(other.encode(fresh), model.encode(fresh))


def test_the_second_device_is_as_strict_as_a_gpu():
    with SecondDevice():
        X, y = Elsewhere(torch.ones(3)), torch.ones(3)
        assert X.device != y.device
        assert float((X + X).sum()) == 6
        with pytest.raises(RuntimeError, match="two devices"):
            X + y
        assert torch.equal(X.to("cpu") + y, 2 * y)
