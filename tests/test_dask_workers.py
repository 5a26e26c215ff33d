"""Fits do not wait for ever for workers that start nothing, and leave nothing behind."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import shards
import torch

from skae import _dask_workers
from skae import dask as skae_dask
from skae._engine._group import new_group

da = pytest.importorskip("dask.array", reason="fits collections")
distributed = pytest.importorskip("distributed", reason="its workers train")


@pytest.fixture(scope="module")
def client():
    """Of two workers in this process, which do not look at their memory."""
    import dask

    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.memory.pause": False}),
        distributed.Client(processes=False, memory_limit="4GiB", **options) as client,
    ):
        yield client


def set_status(client, name, workers=None):
    def change(dask_worker):
        from distributed.core import Status

        dask_worker.status = Status[name]

    client.run(change, workers=workers)


def blocks():
    return da.from_array(shards.table(), chunks=(3000, 6))


def test_paused_workers_are_an_error_once_nothing_runs(client, monkeypatch):
    monkeypatch.setattr(_dask_workers, "PAUSED_SECONDS", 0.5)
    estimator = shards.transformer(max_epochs=1)
    text = r"Worker inproc://.* uses .* of its limit of 4.00 GiB, .* been paused .*memory_limit"
    set_status(client, "paused")
    try:
        with pytest.raises(RuntimeError, match=text):
            skae_dask.fit(estimator, blocks(), client)
    finally:
        set_status(client, "running")
    assert not hasattr(estimator, "net_")
    processes = skae_dask._processes

    def paused_meanwhile(parts, weights):
        found = processes(parts, weights)
        set_status(client, "paused")
        return found

    monkeypatch.setattr(skae_dask, "_processes", paused_meanwhile)
    try:
        with pytest.raises(RuntimeError, match=text):
            skae_dask.fit(estimator, blocks(), client)
    finally:
        set_status(client, "running")


def test_paused_workers_that_run_something_are_waited_for(client, monkeypatch):
    monkeypatch.setattr(_dask_workers, "PAUSED_SECONDS", 0.2)
    busy = client.submit(time.sleep, 1.2, pure=False, workers=[*client.nthreads()][:1])
    while not any(client.processing().values()):
        time.sleep(0.01)
    set_status(client, "paused")
    resume = threading.Timer(1.0, set_status, (client, "running"))
    resume.start()
    model = skae_dask.fit(shards.transformer(max_epochs=1), blocks(), client)
    resume.join()
    assert model.n_samples_seen_ == len(shards.table())
    busy.cancel()


def test_fits_by_workers_of_one_process_take_turns(client, monkeypatch):
    """Each process can be in one group of processes only, whichever of its workers trains."""
    running, most = [], []

    def noting(model, read, group):
        running.append(read)
        most.append(len(running))
        time.sleep(0.3)
        running.remove(read)
        return model

    monkeypatch.setattr(skae_dask, "fit_shards", noting)
    fits = []
    for worker in client.nthreads():
        parts = client.scatter([shards.table()], workers=[worker], hash=False)
        arguments = (shards.transformer(random_state=0), parts, client)
        fits.append(threading.Thread(target=skae_dask.fit, args=arguments))
    for fit in fits:
        fit.start()
    for fit in fits:
        fit.join()
    assert most == [1, 1]


def test_a_worker_started_again_at_its_address_is_another(client, monkeypatch):
    before = _dask_workers.processes_of_workers(client)
    assert not skae_dask._has_lost(client, before)
    known = {worker: {"local_directory": "other"} for worker in before}
    monkeypatch.setattr(_dask_workers, "_known", lambda client: known)
    assert skae_dask._has_lost(client, before)
    known.clear()
    assert skae_dask._has_lost(client, before)


def test_processes_leave_a_meeting_that_has_ended(client):
    meeting = _dask_workers.Meeting(client, 2)
    waiting = client.submit(_dask_workers.meet, meeting.name, pure=False)
    while not meeting.arrived.qsize():
        time.sleep(0.01)
    meeting.look()
    assert waiting.status == "pending"
    meeting.end()
    with pytest.raises(RuntimeError, match="given up before all of its processes had come"):
        waiting.result(timeout=10)
    meeting = _dask_workers.Meeting(client, 2)
    both = [client.submit(_dask_workers.meet, meeting.name, pure=False) for _ in range(2)]
    while not meeting.has_begun:
        meeting.look()
    client.gather(both)
    meeting.end()


def test_partitions_that_are_computed_again_are_no_lost_attempts(client, monkeypatch):
    processes, n_left = skae_dask._processes, [4]

    def lost_at_first(parts, weights):
        found = processes(parts, weights)
        n_left[0] -= 1
        return found if n_left[0] < 0 else None

    monkeypatch.setattr(skae_dask, "_processes", lost_at_first)
    model = skae_dask.fit(shards.transformer(max_epochs=1), blocks(), client)
    assert hasattr(model, "net_")


class Rows(np.ndarray):
    """Rows that can be watched."""


def test_errors_that_workers_keep_hold_no_rows(monkeypatch):
    """Nor do the errors that they come from, in frames of their own."""
    parts = [np.full((20_000, 2), np.inf).view(Rows)]
    rows = weakref.ref(parts[0])
    settings = {"rank": 1, "size": 1, "sync_every": 1}
    settings["of_shard"] = {"columns": None, "token": "", "share_of_memory": 0.25}
    arguments = shards.transformer(random_state=0), [0], parts, None, settings, "name", b""
    with pytest.raises(ValueError, match="infinity") as caught:
        skae_dask._train(*arguments)
    assert caught.value.__traceback__ is not None
    gc.collect()
    assert rows() is None

    def failing(model, read, group):
        try:
            table = read().table
            raise KeyError(len(table))
        except KeyError as error:
            raise MemoryError("of a step") from error

    parts.append(np.zeros((20, 2)).view(Rows))
    rows = weakref.ref(parts[0])
    monkeypatch.setattr(skae_dask, "fit_shards", failing)
    with pytest.raises(MemoryError) as caught:
        skae_dask._train(*arguments)
    assert isinstance(caught.value.__cause__, KeyError)
    gc.collect()
    assert rows() is None


def test_clients_that_cannot_be_used(client):
    with pytest.raises(TypeError, match="client, of type str, must be"):
        skae_dask.fit(shards.transformer(), blocks(), client.scheduler.address)
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        pass
    with pytest.raises(RuntimeError, match="client is closed: pass one that is connected"):
        skae_dask.fit(shards.transformer(), blocks(), other)


def free_port():
    return skae_dask._free_port()


def test_groups_of_fits_that_were_given_up_are_replaced(monkeypatch):
    """What they still send does not go to the next fit, and their end does not end it."""
    given_up = new_group(("127.0.0.1", free_port()), 0, 1)
    old = given_up.__enter__()
    assert old.sums(2.0) == (2.0,)
    with new_group(("127.0.0.1", free_port()), 0, 1) as new:
        reached = []
        with monkeypatch.context() as patch:
            patch.setattr(torch.distributed, "all_reduce", lambda _, group: reached.append(group))
            old.sums(1.0)
            new.sums(1.0)
        assert reached == [old.members, new.members]
        assert old.members is not new.members
        given_up.__exit__(None, None, None)
        assert new.gather(1) == [1]
        assert new.of_first(2) == 2
    assert not torch.distributed.is_initialized()


def test_groups_of_others_are_left_alone():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        with (
            pytest.raises(RuntimeError, match="initialised in this process, by something else"),
            new_group(("127.0.0.1", free_port()), 0, 1),
        ):
            pass
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("n_partitions", [1, 4])
def test_trainings_end_with_a_fit_that_is_interrupted(client, monkeypatch, n_partitions):
    outcome, seconds = skae_dask._outcome, 10

    def threads(dask_worker):  # also of what the scheduler has forgotten
        return len(dask_worker.active_threads)

    def is_over():
        return not any(client.run(threads).values())

    def interrupted(client, workers, tasks, meeting):
        def interrupt(*args):
            if meeting is None or meeting.has_begun:
                time.sleep(1)  # the trainings begin
                assert not is_over()
                raise KeyboardInterrupt
            return False

        monkeypatch.setattr(skae_dask, "_has_lost", interrupt)
        return outcome(client, workers, tasks, meeting)

    monkeypatch.setattr(skae_dask, "_outcome", interrupted)
    endless = shards.transformer(max_epochs=3000, early_stopping=False)
    with pytest.raises(KeyboardInterrupt):
        skae_dask.fit(endless, da.rechunk(blocks(), (-(-shards.N_ROWS // n_partitions), 6)), client)
    until = time.monotonic() + seconds
    while not is_over() and time.monotonic() < until:
        time.sleep(0.1)
    assert is_over()
