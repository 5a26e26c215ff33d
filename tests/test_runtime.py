import contextlib
import copy
import functools
import pickle
import re
import threading
import warnings

import joblib
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
    load,
    save,
)
from skae._engine._runtime import (
    autocast,
    borrowed_global_generator,
    generator,
    moved_generator,
    multiplies_bfloat16,
    one_thread_per_worker,
    resolve_device,
    resolve_precision,
    restored_draws,
)
from skae.exceptions import warn_user


def test_auto_device_exists():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == resolve_device("cpu:0") == torch.device("cpu")


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:77", "", "cpu cpu", "meta", None, 5, torch.device("cpu")]
)
def test_unusable_device_is_named(device):
    with pytest.raises(ValueError, match=re.escape(f"device={device!r}")):
        resolve_device(device)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_generators_are_ours():
    state = torch.random.get_rng_state()
    draws = [torch.rand(3, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_borrowed_generator_is_seeded_and_given_back():
    state = torch.random.get_rng_state()
    with borrowed_global_generator(3):
        a = torch.rand(2)
    with borrowed_global_generator(3):
        b = torch.rand(2)
    assert torch.equal(a, b)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_borrowed_generator_is_given_back_after_an_error():
    state = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="mat1"), borrowed_global_generator(3):
        torch.rand(2, 2) @ torch.rand(3, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with borrowed_global_generator(3):  # and the lock is free again
        pass


def test_one_borrower_at_a_time():
    draws = []

    def borrow():
        with borrowed_global_generator(0):
            draws.append(torch.cat([torch.rand(1) for _ in range(200)]))

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(draws) == 8
    assert all(torch.equal(draw, draws[0]) for draw in draws)


# Threads of joblib.


class ThreadCount(Callback):
    """Notes how many threads torch has while it trains, once all parties have begun."""

    def __init__(self, seen, began):
        self.seen = seen
        self.began = began

    def on_train_begin(self, net, **kwargs):
        self.seen.append(torch.get_num_threads())
        self.began.wait(timeout=60)

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(torch.get_num_threads())


def fit_and_count(X, seen, began):
    params = {"hidden_layer_sizes": 4, "max_epochs": 3, "random_state": 0}
    model = AutoencoderTransformer(2, callbacks=[ThreadCount(seen, began)], **params).fit(X)
    return torch.get_num_threads(), model.transform(X)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_fits_side_by_side_take_a_thread_each(table):
    seen, alone, began = [], [], threading.Barrier(3)
    calls = [joblib.delayed(fit_and_count)(table, seen, began) for _ in range(6)]
    with joblib.parallel_config(backend="threading"):
        # Calls in one batch share a thread, and would wait for each other.
        after, latents = zip(*joblib.Parallel(n_jobs=3, batch_size=1)(calls), strict=True)
    assert seen == [1] * 6 * 4
    assert set(after) == {3}
    assert torch.get_num_threads() == 3
    fresh = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [3]
    assert all((z == latents[0]).all() for z in latents)
    fit_and_count(table, alone, threading.Barrier(1))
    assert set(alone) == {3}


@pytest.mark.usefixtures("three_threads")
def test_a_fit_keeps_to_one_thread_when_another_ends_first():
    both_began, first_ended = threading.Barrier(2), threading.Event()
    seen = []

    def end_first():
        with one_thread_per_worker():
            both_began.wait(timeout=60)
        first_ended.set()

    def go_on():
        with one_thread_per_worker():
            both_began.wait(timeout=60)
            assert first_ended.wait(timeout=60)
            seen.append(torch.get_num_threads())

    with joblib.parallel_config(backend="threading"):
        joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(f)() for f in (end_first, go_on))
    assert seen == [1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_threads_come_back_after_an_error(table):
    params = {"hidden_layer_sizes": -1, "max_epochs": 3}

    def fail():
        with pytest.raises(ValueError, match="hidden_layer_sizes"):
            AutoencoderTransformer(2, **params).fit(table)
        return torch.get_num_threads()

    with joblib.parallel_config(backend="threading"):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(fail)() for _ in range(4)) == [3] * 4


# Precision.


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_whether_products_in_bfloat16_are_fast_is_known(device):
    assert isinstance(multiplies_bfloat16(torch.device(device)), bool)


@pytest.fixture
def no_bfloat16(monkeypatch):
    monkeypatch.setattr("skae._engine._runtime.multiplies_bfloat16", lambda device: False)


def test_precision_falls_back_silently(no_bfloat16, recwarn):
    assert resolve_precision("bfloat16", torch.device("cpu")) == "float32"
    assert resolve_precision("float32", torch.device("cpu")) == "float32"
    assert not recwarn


@pytest.mark.parametrize(
    "estimator",
    [AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator],
)
def test_a_fit_warns_once_of_bfloat16(estimator, table, no_bfloat16, recwarn, tmp_path):
    """On folds, too; where a fitted network comes to another device, it warns again."""
    model = estimator(hidden_layer_sizes=4, max_epochs=1, precision="bfloat16", random_state=0)
    model.fit(table)
    (warning,) = recwarn
    assert "is computed in float32 here" in str(warning.message)
    recwarn.clear()
    model.encode(table)
    pickle.loads(pickle.dumps(model)).encode(table)
    save(model, tmp_path / "model")
    assert not recwarn
    with pytest.warns(UserWarning, match="is computed in float32") as moved:
        model.set_params(device="cpu").encode(table)
    with pytest.warns(UserWarning, match="is computed in float32") as loaded:
        load(tmp_path / "model").encode(table)
    assert {w.filename for w in (*moved, *loaded)} == {__file__}
    assert len(moved) == len(loaded) == 1


# Lines of warnings.


@pytest.mark.parametrize(
    "fit",
    [
        lambda model, X: model.fit(X),
        lambda model, X: model.fit_transform(X),
        lambda model, X: model.partial_fit(X),
        lambda model, X: make_pipeline(StandardScaler(), model).fit(X),
        lambda model, X: make_pipeline(StandardScaler(), model).fit_transform(X),
        lambda model, X: GridSearchCV(model, {"n_components": [1]}, cv=2).fit(X),
    ],
    ids=["fit", "fit_transform", "partial_fit", "pipeline", "pipeline_transform", "search"],
)
def test_warnings_name_the_line_of_the_user(fit, table, no_bfloat16):
    params = {"hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}
    model = AutoencoderTransformer(2, precision="bfloat16", **params)
    with pytest.warns(UserWarning, match="is computed in float32") as warned:
        fit(model, table)
    assert {w.filename for w in warned} == {__file__}
    assert {w.lineno for w in warned} == {fit.__code__.co_firstlineno}


def test_warnings_of_context_managers_name_the_line_of_the_user():
    """A frame of ``contextlib`` lies between."""
    code = "@contextlib.contextmanager\ndef block():\n    yield\n    warn_user('late')\n"
    namespace = {"contextlib": contextlib, "warn_user": warn_user, "__name__": "skae.fake"}
    exec(compile(code, f"{skae.__file__.removesuffix('__init__.py')}fake.py", "exec"), namespace)
    with pytest.warns(UserWarning, match="late") as warned, namespace["block"]():
        pass
    assert warned[0].filename == __file__


def test_a_warning_without_a_line_of_the_user_names_the_caller():
    """As in a worker of joblib that runs nothing of the user's."""

    def run():
        thread = threading.Thread(target=functools.partial(warn_user, "lost", RuntimeWarning))
        thread.start()
        thread.join()

    with pytest.warns(RuntimeWarning, match="lost") as warned:
        run()
    assert warned[0].filename == threading.__file__


def test_filters_by_module_are_those_of_the_user(table, no_bfloat16):
    params = {"hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}
    model = AutoencoderTransformer(2, precision="bfloat16", **params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=re.escape(__name__))
        model.fit(table)
        warnings.filterwarnings("error", module=re.escape(__name__))
        with pytest.raises(UserWarning, match="is computed in float32"):
            model.fit(table)


# Devices.


@pytest.mark.parametrize("stored", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_generators_go_on_where_they_were(stored):
    draws = generator(3)
    torch.rand(5, generator=draws)
    assert torch.equal(torch.rand(3, generator=stored(draws)), torch.rand(3, generator=draws))


@pytest.mark.parametrize("device", ["hpu:0", "cuda:77"])
def test_a_generator_of_a_device_that_is_gone_is_read(device):
    draws = restored_draws(device, generator(0).get_state(), 5)
    assert draws.device.type == "cpu"
    assert torch.equal(torch.rand(3, generator=draws), torch.rand(3, generator=generator(5)))


def test_a_generator_moves():
    draws = generator(3)
    torch.rand(5, generator=draws)
    moved = moved_generator(draws, torch.device("cpu:0"))
    assert torch.equal(torch.rand(3, generator=moved), torch.rand(3, generator=draws))


@pytest.mark.parametrize(
    "estimator",
    [AutoencoderTransformer, AutoencoderOutlierDetector, DenoisingAutoencoder, VAEGenerator],
)
def test_a_fitted_network_moves_to_another_device(estimator, table):
    params = {"hidden_layer_sizes": 4, "max_epochs": 2, "random_state": 0}
    here, there = (estimator(n_components=2, **params).fit(table) for _ in range(2))
    there.set_params(device="cpu:0")
    assert there.device == "cpu:0"
    for _ in range(2):
        assert (there.encode(table) == here.encode(table)).all()
        here.partial_fit(table)
        there.partial_fit(table)


def test_a_device_that_is_not_there_changes_nothing(table):
    params = {"hidden_layer_sizes": 4, "max_epochs": 2, "random_state": 0}
    model = AutoencoderTransformer(2, **params).fit(table)
    latents = model.transform(table)
    with pytest.raises(ValueError, match=r"device='cuda:77' cannot be used"):
        model.set_params(device="cuda:77", max_epochs=5)
    assert model.device == "auto"
    assert model.max_epochs == 2
    assert (model.transform(table) == latents).all()
