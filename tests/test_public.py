"""Public methods give the same in any state of torch, leave it alone, and say what lacks memory."""

import io
import pickle
import threading
import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal
from torch import nn

from conftest import CASES
from skae import AutoencoderTransformer, load, save, to_onnx
from skae._engine._net import AutoencoderNet
from skae._engine._runtime import AUTOCAST_DEVICES, initial_settings, is_out_of_memory


@contextmanager
def setting(getter, setter, value):
    before = getter()
    setter(value)
    try:
        yield
    finally:
        setter(before)


def default_dtype(dtype):
    return setting(torch.get_default_dtype, torch.set_default_dtype, dtype)


@contextmanager
def several(*contexts):
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@contextmanager
def strict():
    """Settings that only check or report."""
    with (
        setting(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
        ),
        setting(lambda: False, torch.set_flush_denormal, True),
        torch.autograd.set_detect_anomaly(True),
        np.errstate(all="raise"),
        warnings.catch_warnings(),
        sklearn.config_context(
            assume_finite=True, enable_metadata_routing=True, skip_parameter_validation=True
        ),
    ):
        warnings.simplefilter("error")
        yield


# Settings that a user's program may hold when it calls skae.
WORLDS = {
    "float64": lambda: default_dtype(torch.float64),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "with device": lambda: torch.device("meta"),
    "other kinds": lambda: several(
        default_dtype(torch.bfloat16),
        torch.no_grad(),
        setting(lambda: None, torch.set_default_device, "meta"),
    ),
}


def state():
    """What of a process skae must leave alone."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": [torch.is_autocast_enabled(device) for device in AUTOCAST_DEVICES],
        "dtypes": [torch.get_autocast_dtype(device) for device in AUTOCAST_DEVICES],
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "draws": torch.get_rng_state().tolist(),
        "errors": np.geterr(),
        "config": sklearn.get_config(),
    }


def fit_and_use(case, X, path, **params):
    """Results of a fit, of its methods, of a file and of further training, by name."""
    model = case.make(**params).fit(X)
    results = {method: getattr(model, method)(X) for method in case.row_methods}
    results["decode"] = model.decode(model.encode(X))
    if hasattr(model, "sample"):
        results["sample"] = model.sample(20, random_state=0)
        results["elbo"] = model.elbo(X)["elbo"]
        results["interpolate"] = model.interpolate(X[:1], X[1:2], 3)
    save(model, path)
    results["load"] = load(path).encode(X)
    results["partial_fit"] = model.partial_fit(X).encode(X)
    results["warm_start"] = model.set_params(warm_start=True).fit(X).encode(X)
    results["first partial_fit"] = case.make(**params).partial_fit(X).encode(X)
    return {name: np.asarray(result) for name, result in results.items()}


@pytest.fixture(scope="module")
def expected(table, tmp_path_factory):
    """The results without any settings, by the name of the case."""
    path = tmp_path_factory.mktemp("models") / "model"
    return {name: fit_and_use(case, table, path) for name, case in CASES.items()}


@pytest.mark.parametrize("world", [*WORLDS, "strict"])
@pytest.mark.parametrize("name", CASES)
def test_settings_of_the_process_change_no_result(name, world, table, expected, tmp_path):
    with {**WORLDS, "strict": strict}[world]():
        before = state()
        results = fit_and_use(CASES[name], table, tmp_path / "model")
        assert state() == before
    for method, result in results.items():
        assert_array_equal(result, expected[name][method], err_msg=method)


class Plain:
    """A network whose layers use every default of torch."""

    def build(self, n_features, n_components):
        return Shifted(n_features, n_components), Shifted(n_components, n_features)


class Shifted(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(n_in, n_out), nn.Dropout(0.1))

    def forward(self, x):
        return self.layer(x) + torch.linspace(0, 1, self.layer[0].out_features)


@pytest.mark.parametrize("world", WORLDS)
def test_settings_of_the_process_change_nothing_in_a_users_network(world, table, tmp_path):
    def fitted():
        model = AutoencoderTransformer(2, network=Plain(), max_epochs=3, random_state=0)
        save(model.fit(table), tmp_path / "model")
        return load(tmp_path / "model", registry={"Plain": Plain()}).transform(table)

    plain = fitted()
    with WORLDS[world]():
        assert_array_equal(fitted(), plain)


@pytest.mark.parametrize("world", WORLDS)
def test_settings_come_back_after_an_error(world, case, table):
    model = case.make().fit(table)
    with WORLDS[world]():
        before = state()
        with pytest.raises(ValueError, match="infinity"):
            model.encode(np.full_like(table, np.inf))
        with pytest.raises(ValueError, match="max_epochs"):
            case.make(max_epochs=-1).fit(table)
        assert state() == before


@pytest.mark.parametrize("world", WORLDS)
def test_tensors_in_and_out_do_not_depend_on_settings(world, case, table):
    model = case.make().fit(table)
    rows = torch.from_numpy(table.astype(np.float32))
    with sklearn.config_context(array_api_dispatch=True):
        plain = model.encode(rows)
        with WORLDS[world]():
            result = model.encode(rows)
    assert result.dtype == plain.dtype == torch.float32
    assert not result.is_inference()
    assert_array_equal(result, plain)


@pytest.mark.parametrize("world", WORLDS)
def test_an_onnx_graph_does_not_depend_on_settings(world, table):
    pytest.importorskip("onnx", reason="writes a graph")
    model = AutoencoderTransformer(2, network=Plain(), max_epochs=1, random_state=0).fit(table)
    plain = to_onnx(model, method="reconstruct").SerializeToString()
    with WORLDS[world]():
        assert to_onnx(model, method="reconstruct").SerializeToString() == plain


def test_a_model_unpickled_in_inference_mode_trains_on(case, table):
    model = case.make().fit(table)
    content = pickle.dumps(model)
    with torch.inference_mode():
        restored = pickle.load(io.BytesIO(content))
    case.assert_equal(restored.partial_fit(table), model.partial_fit(table), table)


def test_autocast_of_a_user_goes_on_after_a_fit(table):
    layer = nn.Linear(10, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
        assert layer(torch.zeros(1, 10)).dtype == torch.bfloat16


def test_the_default_dtype_comes_back_when_the_last_of_several_threads_is_done():
    both_began, first_ended, seen = threading.Barrier(2), threading.Event(), []

    def end_first():
        with initial_settings():
            both_began.wait(timeout=60)
        first_ended.set()

    def go_on():
        with initial_settings():
            both_began.wait(timeout=60)
            assert first_ended.wait(timeout=60)
            with initial_settings():  # looks like that of a new process, and is not
                seen.append(torch.get_default_dtype())
            seen.append(torch.get_default_dtype())
        seen.append(torch.get_default_dtype())

    with default_dtype(torch.float64):
        threads = [threading.Thread(target=function) for function in (end_first, go_on)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [torch.float32, torch.float32, torch.float64]


def test_initial_settings_need_no_change():
    assert isinstance(initial_settings(), torch.set_grad_enabled)  # which restores on leaving


# Memory. No machine has what is asked for.

TOO_MANY = 2**55


def test_a_fit_without_enough_memory_says_so_and_changes_nothing(case, table):
    model = case.make().fit(table)
    before = vars(model).copy()
    with pytest.raises(MemoryError, match=r"not enough memory\. Lower batch_size or hidden_layer"):
        model.set_params(hidden_layer_sizes=2**50).fit(table)
    assert vars(model) == {**before, "hidden_layer_sizes": 2**50}
    fresh = case.make(hidden_layer_sizes=2**50)
    before = vars(fresh).copy()
    with pytest.raises(MemoryError, match="pass pieces of X to partial_fit"):
        fresh.partial_fit(table)
    assert vars(fresh) == before


def test_inference_without_enough_memory_says_so(case, table, monkeypatch):
    model = case.make().fit(table)
    monkeypatch.setattr(AutoencoderNet, "_evaluate", lambda *args, **kwargs: torch.empty(TOO_MANY))
    for method in ("encode", *case.compared):
        with pytest.raises(MemoryError, match=r"not enough memory\. Pass fewer rows at a time"):
            getattr(model, method)(table)
    with pytest.raises(MemoryError, match="Pass fewer rows at a time"):
        model.decode(np.zeros((3, model.net_.n_latents)))


def test_numpys_lack_of_memory_comes_with_the_same_help_once(case, table, monkeypatch):
    model = case.make().fit(table)
    monkeypatch.setattr(AutoencoderNet, "_evaluate", lambda *args, **kwargs: np.empty(TOO_MANY))
    for method in case.compared:
        with pytest.raises(MemoryError) as caught:
            getattr(model, method)(table)
        assert caught.value.__notes__ == ["Pass fewer rows at a time."]


def test_other_errors_of_torch_pass(case, table, monkeypatch):
    model = case.make().fit(table)
    error = RuntimeError("something else")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(AutoencoderNet, "_evaluate", fail)
    with pytest.raises(RuntimeError) as caught:
        model.encode(table)
    assert caught.value is error


def test_a_gpu_without_enough_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
