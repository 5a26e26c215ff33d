"""Searches on the workers of a Dask cluster."""

import os
import signal
import sys
from concurrent.futures import CancelledError
from itertools import chain
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from numpy.testing import assert_allclose
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import AutoencoderTransformer, latent_size_curve
from skae.estimators import _size_curve_tasks

distributed = pytest.importorskip("distributed", reason="its workers search")

SMALL = {"hidden_layer_sizes": 16, "max_epochs": 10, "random_state": 0}
ONE_EPOCH = SMALL | {"max_epochs": 1, "early_stopping": False}
FAR_TOO_LARGE = 10**12  # latents, for any memory
CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": 0}


@pytest.fixture(scope="module")
def client():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    with distributed.LocalCluster(**CLUSTER) as cluster, distributed.Client(cluster) as client:
        yield client
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def sent(client, monkeypatch):
    """Bytes that the client, the scheduler and the workers have sent since the test began."""
    from distributed.comm.tcp import TCP

    n_written, write = [], TCP.write

    async def counting(comm, *args, **kwargs):
        n_bytes = await write(comm, *args, **kwargs)
        n_written.append(n_bytes)
        return n_bytes

    def between_workers():
        return sum(client.run(bytes_to_others).values())

    monkeypatch.setattr(TCP, "write", counting)
    before = between_workers()
    return lambda: sum(n_written) + between_workers() - before


def bytes_to_others(dask_worker):
    return dask_worker.transfer_outgoing_bytes_total


def curved(n_rows, n_columns=10):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n_rows, 3)) @ rng.normal(size=(3, n_columns))
    return np.tanh(z) + 0.05 * rng.normal(size=z.shape)


def end_once(X, path):
    """The same rows; the first process to see them ends at once."""
    try:
        Path(path).mkdir()
    except FileExistsError:
        return X
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: model,
        lambda model: make_pipeline(StandardScaler(), model),
        lambda model: model.set_params(early_stopping=False),
    ],
    ids=["folds together", "pipeline", "folds alone"],
)
def test_each_size_is_measured_as_if_alone(client, make):
    X, transformer = curved(400), make(AutoencoderTransformer(**SMALL))
    curve = latent_size_curve(transformer, X, [5, 1, 3, 1], cv=3, client=client)
    expected = [latent_size_curve(transformer, X, [size], cv=3) for size in (5, 1, 3, 1)]
    pd.testing.assert_frame_equal(curve, pd.concat(expected))
    at_once = latent_size_curve(transformer, X, [5, 1, 3, 1], cv=3)
    assert_allclose(curve, at_once, atol=0.01)


def test_many_rows_are_fitted_fold_by_fold(client, monkeypatch):
    numbers = []
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda *a, **k: numbers.append(a[3]) or submit(*a, **k))
    model = AutoencoderTransformer(**SMALL | {"max_epochs": 1})
    for transformer in (model, make_pipeline(StandardScaler(), model)):
        latent_size_curve(transformer, curved(15_000), [2], cv=3, client=client)
        assert numbers == [(0,), (1,), (2,)]
        numbers.clear()
        latent_size_curve(transformer, curved(300), [2], cv=3, client=client)
        assert numbers == [(0, 1, 2)]
        numbers.clear()


def test_rows_are_sent_once(client, sent):
    X = curved(2000, 200)
    model = AutoencoderTransformer(**ONE_EPOCH)
    latent_size_curve(model, X, range(1, 9), cv=3, client=client)
    assert X.nbytes < sent() < 3.5 * X.nbytes  # by way of the scheduler, to two workers


def test_a_grid_search_sends_rows_once(client, sent):
    X = pd.DataFrame(curved(2000, 200))
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(**ONE_EPOCH))
    sizes = {"autoencodertransformer__n_components": range(1, 9)}
    with parallel_config("dask"):
        GridSearchCV(pipeline, sizes, cv=3, refit=False).fit(X)
    n_bytes = X.to_numpy().nbytes
    assert n_bytes < sent() < 3.5 * n_bytes


def test_workers_with_one_thread_give_torch_one(client):
    assert set(client.run(torch.get_num_threads).values()) == {1}
    assert set(client.run(os.getenv, "OMP_NUM_THREADS").values()) == {"1"}


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_failed_candidate_does_not_end_a_grid_search(client):
    X = curved(300)
    sizes = [2, 0, FAR_TOO_LARGE, 3]
    search = GridSearchCV(AutoencoderTransformer(**SMALL), {"n_components": sizes}, cv=2)
    with parallel_config("dask"), pytest.warns(FitFailedWarning, match="4 fits failed"):
        search.fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, True, True, False]
    alone = GridSearchCV(AutoencoderTransformer(**SMALL), {"n_components": [2, 3]}, cv=2).fit(X)
    assert_allclose(scores[[0, 3]], alone.cv_results_["mean_test_score"], atol=1e-4)
    assert search.best_params_ == {"n_components": 3}


def test_a_failed_size_does_not_end_a_curve(client):
    X, model = curved(300), AutoencoderTransformer(**SMALL)
    failing = f"n_components={FAR_TOO_LARGE} failed, and its row is NaN: .*can't allocate memory"
    with pytest.warns(FitFailedWarning, match=failing):
        curve = latent_size_curve(model, X, [2, FAR_TOO_LARGE, 3], cv=2, client=client)
    assert curve.loc[FAR_TOO_LARGE].isna().all()
    expected = [latent_size_curve(model, X, [size], cv=2) for size in (2, 3)]
    pd.testing.assert_frame_equal(curve.loc[[2, 3]], pd.concat(expected))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        latent_size_curve(model, X, [FAR_TOO_LARGE], cv=2, client=client)


def test_a_worker_that_ends_does_not_end_a_curve(client, tmp_path):
    ending = FunctionTransformer(end_once, kw_args={"path": str(tmp_path / "ended")})
    X, model = curved(300), AutoencoderTransformer(**SMALL)
    curve = latent_size_curve(make_pipeline(ending, model), X, [1, 2, 3], cv=2, client=client)
    assert (tmp_path / "ended").exists()
    expected = [latent_size_curve(model, X, [size], cv=2) for size in (1, 2, 3)]
    pd.testing.assert_frame_equal(curve, pd.concat(expected))
    client.wait_for_workers(2)


def test_a_grid_search_whose_arrays_are_everywhere_outlives_a_worker(client, tmp_path):
    ending = FunctionTransformer(end_once, kw_args={"path": str(tmp_path / "ended")})
    X = curved(300)
    splits = list(KFold(2).split(X))
    pipeline = make_pipeline(ending, AutoencoderTransformer(**SMALL))
    search = GridSearchCV(pipeline, {"autoencodertransformer__n_components": [1, 2, 3]}, cv=splits)
    client.amm.stop()
    try:
        with parallel_config("dask", scatter=[X, *chain(*splits)]):
            search.fit(X)
    finally:
        client.amm.start()
    assert (tmp_path / "ended").exists()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    client.wait_for_workers(2)


class Ending:
    """A client whose workers end, with all that they hold, when they come to one of the tasks."""

    def __init__(self, at):
        self.at, self.n_scattered, self.n_submitted = at, 0, 0

    def scatter(self, values, **options):
        self.has_ended = False
        self.n_scattered += 1
        return values

    def submit(self, function, shared, size, numbers, pure):
        self.n_submitted += 1
        return Task(self, partial_size=size, value=lambda: function(shared, size, numbers))

    def cancel(self, futures):
        pass


class Task:
    def __init__(self, client, partial_size, value):
        self.client, self.size, self.value = client, partial_size, value

    def exception(self):
        self.client.has_ended |= self.size in self.client.at
        if self.client.has_ended:
            raise CancelledError

    def result(self):
        return self.value()


def measure(X, folds, sizes):
    return np.full((2, len(sizes), len(folds)), sizes[0], dtype=float)


def test_a_size_that_always_ends_its_workers_does_not_end_a_curve():
    client = Ending(at=[7])
    with pytest.warns(FitFailedWarning, match="n_components=7 failed.*Workers were lost"):
        explained, by_pca = _size_curve_tasks.measured_by_workers(
            client, measure, None, [0, 1], [7, 1, 2], together=True
        )
    assert_allclose(explained, [[np.nan, np.nan], [1, 1], [2, 2]])
    assert_allclose(by_pca, explained)
    with pytest.raises(RuntimeError, match="Workers were lost"):
        _size_curve_tasks.measured_by_workers(client, measure, None, [0], [7], together=True)


def test_a_curve_by_what_is_no_client():
    with pytest.raises(TypeError, match=r"client='tcp://host' must be a distributed\.Client"):
        latent_size_curve(AutoencoderTransformer(), curved(20), [2], client="tcp://host")
