"""Fits to Dask collections equal those in memory; results of methods are lazy."""

import os
import signal
import sys
import threading
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shards
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    _dask_parts,
    _dask_workers,
)
from skae import dask as skae_dask
from skae import io as skae_io
from skae._engine._group import ALONE
from skae.estimators._sharded_fit import Shard, fit_shards

da = pytest.importorskip("dask.array", reason="fits collections")
dask_bag = pytest.importorskip("dask.bag", reason="is no table")
dd = pytest.importorskip("dask.dataframe", reason="fits collections")
distributed = pytest.importorskip("distributed", reason="its workers train")

NAMES = [*"abcdef"]


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, memory_limit=0) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def alone(estimator, X, sizes, weight=None):
    return fit_shards(estimator, lambda: Shard(X, weight, dict(enumerate(sizes))), ALONE)


def assert_same_fit(ours, theirs):
    for mine, other in zip(*(m.net_.module_.parameters() for m in (ours, theirs)), strict=True):
        assert_allclose(mine.detach(), other.detach(), rtol=1e-4, atol=1e-5)
    assert ours.best_epoch_ == theirs.best_epoch_
    assert ours.n_samples_seen_ == theirs.n_samples_seen_


def frame_in_parts(X, sizes):
    """A frame in partitions of given sizes, with columns in another order in every second."""
    ends = np.cumsum([0, *sizes])
    parts = [X.iloc[start:end] for start, end in pairwise(ends)]

    def part(number):
        return parts[number][NAMES[::-1]] if number % 2 else parts[number]

    return dd.from_map(part, range(len(parts)), meta=X[:0], enforce_metadata=False)


def test_arrays(client):
    X = shards.table()
    A = da.from_array(X, chunks=(3000, 4))
    estimator = shards.transformer()
    model = skae_dask.fit(estimator, A, client)
    assert not hasattr(estimator, "net_")
    assert_same_fit(model, alone(estimator, X, A.chunks[0]))
    Z = skae_dask.apply(model, "transform", A)
    assert (Z.shape, Z.dtype, Z.chunks[0]) == ((len(X), 2), np.float32, A.chunks[0])
    assert_allclose(Z.compute(), model.transform(X), rtol=1e-5, atol=1e-5)


def test_frames_with_empty_partitions_and_columns_in_another_order(client):
    X = pd.DataFrame(shards.table(), columns=NAMES)
    sizes = [2000, 0, 1, 5000, 3499, 0]
    frame = frame_in_parts(X, sizes)
    weight = pd.Series(shards.weights(X), name="weight")
    ends = np.cumsum([0, *sizes])
    weights = [weight[a:b] for a, b in pairwise(ends)]
    estimator = shards.transformer(random_state=3)
    model = skae_dask.fit(estimator, frame, client, sample_weight=client.scatter(weights))
    assert_same_fit(model, alone(estimator, X, sizes, weight))
    assert model.feature_names_in_.tolist() == NAMES


def test_arrays_of_unknown_size_and_futures(client):
    X = shards.table()
    A = da.from_array(X, chunks=(1500, 6))
    A = A[A[:, 0] > -np.inf]
    assert np.isnan(A.shape[0])
    estimator = shards.transformer()
    model = skae_dask.fit(estimator, A, client)
    expected = alone(estimator, X, [1500] * 7)
    assert_same_fit(model, expected)
    parts = client.scatter([X[start : start + 1500] for start in range(0, len(X), 1500)])
    assert_same_fit(skae_dask.fit(estimator, parts), expected)


def test_what_workers_warn_of_reaches_the_caller(client):
    names = [f"row {i}" for i in range(300)]
    X = pd.DataFrame({"size": np.arange(300.0), "name": names})
    estimator = AutoencoderTransformer(2, max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match="'name' of X holds 300 levels in 300 rows") as told:
        skae_dask.fit(estimator, dd.from_pandas(X, npartitions=2), client)
    assert [warning.filename for warning in told] == [__file__]


def test_workers_that_share_a_process_fit_together():
    X = shards.table()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.Client(**options, processes=False) as client:
        model = skae_dask.fit(shards.transformer(), da.from_array(X, chunks=(3000, 6)), client)
    assert_same_fit(model, alone(shards.transformer(), X, [3000, 3000, 3000, 1500]))


def test_small_frames_are_fitted_as_in_memory(client):
    X = shards.mixed_table()
    model = skae_dask.fit(
        AutoencoderTransformer(2, max_epochs=2, random_state=0), dd.from_pandas(X, npartitions=3)
    )
    expected = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(X)
    assert_array_equal(model.transform(X), expected.transform(X))


def files_of_workers(client):
    def found(dask_worker):
        return [*Path(dask_worker.local_directory).glob("skae-*")]

    return [*chain(*client.run(found).values())]


@pytest.mark.parametrize("share_of_memory", [1.0, 0.0], ids=["read", "on disk"])
def test_large_partitions_are_held_in_files(client, monkeypatch, share_of_memory):
    """Those that a worker can read into memory are fitted as if they had always been there."""
    X = pd.DataFrame(shards.table(), columns=NAMES)
    X["f"] = X["f"].astype(np.float64)
    sizes = [2000, 0, 1, 5000, 3499, 0]
    frame = frame_in_parts(X, sizes)
    held = []
    attempt = skae_dask._outcome

    def noting(*arguments):
        held.append(files_of_workers(client))
        return attempt(*arguments)

    monkeypatch.setattr(skae_dask, "_outcome", noting)
    monkeypatch.setattr(_dask_parts, "MIN_BYTES_ON_DISK", 0)
    monkeypatch.setattr(skae_dask, "SHARE_OF_MEMORY", share_of_memory)
    estimator = shards.transformer()
    if not share_of_memory:
        estimator = AutoencoderTransformer(2, max_epochs=3, random_state=0)
    model = skae_dask.fit(estimator, frame, client)
    expected = alone(estimator, X, sizes)
    assert model.feature_names_in_.tolist() == NAMES
    assert held[0]
    assert not files_of_workers(client)
    if share_of_memory:
        assert_same_fit(model, expected)
    else:
        assert_allclose(1 - model.score(X), 1 - expected.score(X), rtol=0.1)


def test_files_that_went_with_their_worker_are_written_again(client, monkeypatch):
    monkeypatch.setattr(_dask_parts, "MIN_BYTES_ON_DISK", 0)
    A = da.from_array(shards.table(), chunks=(1500, 6))
    parts = _dask_parts.Partitions(client, A)
    complete = skae_dask._processes(parts, None)
    assert sorted(number for _, numbers in complete.values() for number in numbers) == [*range(7)]
    worker, lost = next(iter(complete.values()))
    keys = [parts.futures[number].key for number in lost]

    def remove(token, dask_worker):
        for path in (Path(dask_worker.local_directory) / token).iterdir():
            path.unlink()

    client.run(remove, parts.token, workers=[worker])
    assert skae_dask._processes(parts, None) is None
    assert not {part.key for part in parts.futures} & {*keys}
    again = skae_dask._processes(parts, None)
    assert sorted(number for _, numbers in again.values() for number in numbers) == [*range(7)]
    parts.remove_files()
    assert not files_of_workers(client)


def test_files_are_removed_after_an_error(client, monkeypatch):
    monkeypatch.setattr(_dask_parts, "MIN_BYTES_ON_DISK", 0)
    A = da.from_array(np.where(np.arange(60_000).reshape(-1, 6) < 50_000, 1.0, np.inf), (2500, 6))
    with pytest.raises(ValueError, match="infinity") as caught:
        skae_dask.fit(shards.transformer(), A, client)
    assert "They are in partition 3." in caught.value.__notes__
    assert not files_of_workers(client)


METHODS = [
    (AutoencoderTransformer(2, max_epochs=1), "transform"),
    (AutoencoderTransformer(2, max_epochs=1), "reconstruct"),
    (AutoencoderTransformer(2, max_epochs=1), "reconstruction_error"),
    (AutoencoderOutlierDetector(n_estimators=1, max_epochs=1), "predict"),
    (AutoencoderOutlierDetector(n_estimators=1, max_epochs=1), "score_samples"),
    (DenoisingAutoencoder(max_epochs=1), "transform"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("estimator", "method"), METHODS)
def test_what_is_announced_is_computed(estimator, method, dtype):
    X = pd.DataFrame(shards.table(60), columns=NAMES).astype(dtype)
    estimator.set_params(random_state=0).fit(X)
    frame = frame_in_parts(X, [20, 0, 40])
    lazy = skae_dask.apply(estimator, method, frame)
    got = lazy.compute(scheduler="synchronous")
    expected = getattr(estimator, method)(X)
    assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert got.index.equals(X.index)
    if got.ndim == 2:
        assert lazy.columns.tolist() == got.columns.tolist()
        assert lazy.dtypes.equals(got.dtypes)
    else:
        assert (lazy.dtype, lazy.name) == (got.dtype, got.name)
    estimator.fit(X.to_numpy())
    lazy = skae_dask.apply(estimator, method, da.from_array(X.to_numpy(), chunks=(20, 6)))
    got = lazy.compute(scheduler="synchronous")
    assert (lazy.shape, lazy.dtype) == (got.shape, got.dtype)
    assert_allclose(got, getattr(estimator, method)(X.to_numpy()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_columns", [1, 2])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAutoencoder])
def test_columns_have_one_name_wherever_they_are_computed(tmp_path, n_columns, estimator):
    """Of latents and of rows, as many of both; the names of rows are never given to latents."""
    X = pd.DataFrame(shards.table(60), columns=NAMES)[NAMES[:n_columns]]
    model = estimator(n_columns, max_epochs=1, random_state=0).fit(X)
    Z = pd.DataFrame(model.encode(X)).add_prefix("z")
    for method, table in [
        *[(name, X) for name in ("transform", "encode", "reconstruct", "reconstruction_error")],
        ("decode", Z),
    ]:
        lazy = skae_dask.apply(model, method, dd.from_pandas(table, npartitions=2))
        written = pd.read_parquet(skae_io.write_table(model, method, table, tmp_path / method))
        got = lazy.compute(scheduler="synchronous")
        names = [lazy.name] if lazy.ndim == 1 else lazy.columns.tolist()
        assert names == ([got.name] if got.ndim == 1 else got.columns.tolist())
        assert names == written.columns.tolist()
        if method == "encode":
            assert not {*names} & {*X.columns, "x0", "x1"}
        if method == "reconstruct":
            assert names == X.columns.tolist()


def test_mixed_frames_keep_their_dtypes():
    X = shards.mixed_table()
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(X)
    lazy = skae_dask.apply(model, "reconstruct", dd.from_pandas(X, npartitions=2))
    got = lazy.compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(got, model.reconstruct(X), rtol=1e-4)
    assert lazy.dtypes.equals(got.dtypes)


def test_latents_go_back():
    X = shards.table(60)
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(X)
    Z = model.transform(X)
    lazy = skae_dask.apply(model, "inverse_transform", da.from_array(Z, chunks=(20, 2)))
    assert lazy.shape == (60, 6)
    assert_allclose(lazy.compute(scheduler="synchronous"), model.inverse_transform(Z), rtol=1e-5)


def broken(number):
    raise OSError("disk")


def test_errors_name_the_partition(client):
    X = pd.DataFrame(shards.table(), columns=NAMES)
    parts = [X[:6000], X[6000:].rename(columns={"a": "z"})]
    frame = dd.from_map(lambda number: parts[number], [0, 1], meta=X[:0], enforce_metadata=False)
    with pytest.raises(ValueError, match=r"Partition 1 has columns .*not expected: \['z'\]"):
        skae_dask.fit(shards.transformer(), frame, client)
    parts = [X[:6000], X[6000:].assign(b="text")]
    frame = dd.from_map(lambda number: parts[number], [0, 1], meta=X[:0], enforce_metadata=False)
    with pytest.raises(ValueError, match=r"'b' holds texts in partition 1, but numbers in .* 0"):
        skae_dask.fit(shards.transformer(), frame, client)
    with pytest.raises(OSError, match="disk") as caught:
        skae_dask.fit(shards.transformer(), dd.from_map(broken, [0, 1], meta=X[:0]), client)
    assert "Partition 0 could not be computed" in "".join(caught.value.__notes__)
    with pytest.raises(ValueError, match="has 1 partitions, but the rows have 2"):
        skae_dask.fit(
            shards.transformer(), client.scatter(parts), sample_weight=client.scatter([X["a"]])
        )
    with pytest.raises(TypeError, match="of type ndarray"):
        skae_dask.fit(shards.transformer(), X.to_numpy(), client)
    weights = da.ones(len(X), chunks=((5000, len(X) - 5000),))
    # Of the same rows as before, which are just being released: these must have other keys.
    rows = client.scatter([X[:6000], X[6000:]], hash=False)
    with pytest.raises(ValueError, match=r"Partition 0 of sample_weight has 5000 values, .* 6000"):
        skae_dask.fit(shards.transformer(), rows, sample_weight=weights)
    with pytest.raises(ValueError, match="contains infinity"):
        skae_dask.fit(shards.transformer(), da.full((10_000, 2), np.inf, chunks=(5000, 2)), client)
    with pytest.raises(ValueError, match="sync_every=0"):
        skae_dask.fit(shards.transformer(), frame, client, sync_every=0)


def test_estimators_say_who_takes_collections(table):
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
    lazy = [da.from_array(table), dd.from_pandas(pd.DataFrame(table), npartitions=2)]
    for collection in lazy:
        for method in (model.fit, model.transform):
            with pytest.raises(TypeError, match=r"pass X\.compute\(\), or .*skae\.dask\.fit"):
                method(collection)


def test_missing_packages(table, monkeypatch):
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(table)
    A = da.from_array(table)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r'pip install "skae\[dask\]"'):
        skae_dask.fit(model, A)
    with pytest.raises(ImportError, match=r'pip install "skae\[dask\]"'):
        skae_dask.apply(model, "transform", A)


def test_weights_in_a_series(client):
    X = pd.DataFrame(shards.table(200), columns=NAMES)
    weight = X["a"] - X["a"].min()
    frame = dd.from_pandas(X.assign(weight=weight), npartitions=2)
    ours = skae_dask.fit(shards.transformer(), frame[NAMES], client, sample_weight=frame["weight"])
    assert_same_fit(ours, clone(shards.transformer()).fit(X, sample_weight=weight))


def test_what_cannot_be_fitted(client):
    for collection, error, message in [
        (da.ones(300, chunks=100), ValueError, "collection has 1 dimensions"),
        (dd.from_pandas(pd.Series([1.0, 2.0]), npartitions=1), ValueError, "has 1 dimensions"),
        (dask_bag.from_sequence([1, 2]), TypeError, "of type Bag, must be a Dask array or frame"),
        ("rows/", TypeError, "of type str, must be .* Dask opens files, by dask.dataframe.read_"),
    ]:
        with pytest.raises(error, match=message):
            skae_dask.fit(shards.transformer(), collection, client)
    with pytest.raises(TypeError, match="of type Pipeline, must be an estimator of skae"):
        skae_dask.fit(make_pipeline(StandardScaler(), shards.transformer()), da.ones((9, 2)))


def test_what_cannot_be_applied(table):
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0)
    frame = pd.DataFrame(table).add_prefix("c")
    lazy, fitted = dd.from_pandas(frame, npartitions=2), clone(model).fit(frame)
    pipeline = make_pipeline(StandardScaler(), model).fit(frame)
    for estimator, method, collection, error, message in [
        (pipeline, "transform", lazy, TypeError, "of type Pipeline, must be an estimator of skae"),
        (fitted, "transform", frame.to_dict(), TypeError, "of type dict, must be a Dask array"),
        (fitted, "transform", frame, TypeError, "of type DataFrame, must be a Dask array"),
        (fitted, "transforms", lazy, ValueError, "'transforms': .* has no such method"),
        (fitted, "fit", lazy, ValueError, "method='fit' must be one that takes rows"),
        (fitted, "fit_transform", lazy, ValueError, "'fit_transform' must be one that takes rows"),
        (fitted, "score", lazy, ValueError, "'score' does not give a row or number for each row"),
        (fitted, "transform", lazy[["c0"]], ValueError, r"columns \['c0'\], but .* fitted to"),
        (fitted, "transform", da.ones((4, 1)), ValueError, r"\(4, 1\), but transform takes"),
        (fitted, "decode", da.ones((4, 3)), ValueError, r"\(4, 3\), but decode takes 2 columns"),
    ]:
        with pytest.raises(error, match=message):
            skae_dask.apply(estimator, method, collection)


def test_a_client_is_needed(client, monkeypatch):
    monkeypatch.setattr(distributed, "default_client", lambda c=None: _raise(ValueError("none")))
    with pytest.raises(ValueError, match=r"start one, such as distributed.Client\(\)"):
        skae_dask.fit(shards.transformer(), da.ones((10, 2)))


def _raise(error):
    raise error


def test_processes_do_not_wait_for_one_whose_worker_is_paused(client, monkeypatch):
    """It is told, and the others have left: the next fit finds all of them free."""

    def set_status(name):
        def change(dask_worker):
            from distributed.core import Status

            dask_worker.status = Status[name]

        client.run(change, workers=[*client.nthreads()][-1:])

    processes = skae_dask._processes

    def paused_meanwhile(parts, weights):
        found = processes(parts, weights)
        set_status("paused")
        return found

    A = da.from_array(shards.table(), chunks=(1500, 6))
    estimator = shards.transformer(max_epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(skae_dask, "_processes", paused_meanwhile)
        patch.setattr(_dask_workers, "PAUSED_SECONDS", 1)
        with pytest.raises(RuntimeError, match="been paused by Dask for more than 1 seconds"):
            skae_dask.fit(estimator, A, client)
    set_status("running")
    assert skae_dask.fit(estimator, A, client).n_samples_seen_ == len(A)


def test_lost_rows_that_were_scattered_are_an_error(client):
    X = shards.table()
    parts = client.scatter([X[:6000], X[6000:]])
    (holder, *_) = client.who_has(parts)[parts[0].key]
    os.kill(client.run(os.getpid)[holder], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="lost with its worker"):
        skae_dask.fit(shards.transformer(), parts, client)
    client.wait_for_workers(2)


def test_training_goes_on_when_a_worker_dies(client, monkeypatch):
    X = shards.table()
    A = da.from_array(X, chunks=(1500, 6))
    estimator = shards.transformer(max_epochs=60, batch_size=250)
    pids, killed = client.run(os.getpid), []
    attempts = []
    attempt = skae_dask._attempt

    def watched(client, model, parts, weights, settings, noted):
        attempts.append(len(pickle_of(noted)))
        if len(attempts) == 1:
            threading.Thread(target=kill_after_an_epoch, args=(noted,)).start()
        return attempt(client, model, parts, weights, settings, noted)

    def pickle_of(noted):
        states = noted.get()
        return skae_dask.pickle.loads(states)[-1]["history"] if states else []

    def kill_after_an_epoch(noted):
        while not pickle_of(noted):
            pass
        killed.append(max(pids.values()))
        os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(skae_dask, "_attempt", watched)
    model = skae_dask.fit(estimator, A, client)
    assert killed
    assert len(attempts) == 2
    assert 1 <= attempts[1] < 60
    assert_same_fit(model, alone(estimator, X, [1500] * 7))
