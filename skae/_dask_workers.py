"""Workers of a Dask cluster: whether they are alike, still there, and start what they are given."""

import ctypes
import gc
import sys
import threading
import time
from contextlib import contextmanager, suppress
from uuid import uuid4

from skae._version import __version__

# Of a worker that is paused and runs nothing, before a fit that waits for it is given up.
PAUSED_SECONDS = 60
# Between looks of processes that wait at whether all have come, and how long they look.
SECONDS, MEETING_SECONDS = 0.1, 1800


def current_client(client):
    """The client, or the current one if that is None; raise unless it can be used."""
    from distributed import Client, default_client

    if client is not None and not isinstance(client, Client):
        raise TypeError(
            f"client, of type {type(client).__name__}, must be a distributed.Client; weights are "
            "passed by sample_weight=..."
        )
    if client is None:
        try:
            client = default_client()
        except ValueError as error:
            raise ValueError(
                "There is no Dask client: start one, such as distributed.Client(), or fit the "
                "estimator to collection.compute()."
            ) from error
    if client.status != "running":
        raise RuntimeError(f"client is {client.status}: pass one that is connected.")
    if client.asynchronous:
        raise TypeError("client is asynchronous: pass one that waits for its results.")
    return client


@contextmanager
def scheduler_watched(client):
    """Say so if what was raised in the block is that the scheduler went away."""
    address = client.scheduler.address
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        raise RuntimeError(
            f"The Dask scheduler at {address} went away during the fit; the estimator is as it was."
        ) from error


def check_workers(client):
    """Raise RuntimeError unless all workers have this version of skae."""

    def version_of_skae():  # sent as it is, as no function of a module would be
        from skae._version import __version__

        return __version__

    found = client.run(version_of_skae, on_error="return")
    for worker, version in found.items():
        if isinstance(version, ImportError):
            raise RuntimeError(
                f"Worker {worker} has no skae ({version}): install skae {__version__} on all "
                "workers."
            )
        if isinstance(version, str) and version != __version__:
            raise RuntimeError(
                f"Worker {worker} has skae {version}, but this process has {__version__}: install "
                "the same version on all."
            )


def processes_of_workers(client):
    """For each worker by its address, what no other process at this address would have."""
    return {worker: known["local_directory"] for worker, known in _known(client).items()}


def _known(client):
    if client.status != "running":  # what was known last would be returned
        raise RuntimeError(f"The client is {client.status}.")
    return client.scheduler_info(n_workers=-1)["workers"]


class Patience:
    """How long a fit waits for workers that Dask has paused, as their memory is full.

    What they compute goes on, but nothing else is started until they have given memory back.
    """

    def __init__(self, client):
        self.client = client
        self.since = {}

    def look(self, needed=None):
        """Have paused workers give back what they can; raise RuntimeError if that does not help.

        Parameters
        ----------
        needed : collection of str, default=None
            Workers that have to start something. None means that any may.
        """
        known = _known(self.client)
        paused = {worker for worker, told in known.items() if told["status"] == "paused"}
        if paused:
            self.client.run(_give_back, workers=[*paused], on_error="ignore")
        idle = {worker for worker, told in known.items() if not _n_running(told)}
        if needed is not None:
            stuck = paused & idle & {*needed}
        else:
            stuck = paused if len(idle) == len(known) else set()
        now = time.monotonic()
        self.since = {worker: self.since.get(worker, now) for worker in stuck}
        for worker, since in self.since.items():
            if now - since > PAUSED_SECONDS:
                raise RuntimeError(_about_paused(worker, known[worker]))


def _n_running(told):
    counts = told["metrics"].get("task_counts", {})
    return sum(counts.get(state, 0) for state in ("executing", "long-running"))


def _about_paused(worker, told):
    from dask.utils import format_bytes

    limit = told["memory_limit"]
    used = format_bytes(told["metrics"].get("memory", 0))
    of_limit = f" of its limit of {format_bytes(limit)}" if limit else ""
    return (
        f"Worker {worker} uses {used} of memory{of_limit}, and has been paused by Dask for more "
        f"than {PAUSED_SECONDS} seconds without running anything, so that the fit cannot go on. "
        "Give workers more memory (memory_limit=...), or make partitions smaller, by "
        "frame.repartition(partition_size='32MB') or array.rechunk for instance."
    )


class Meeting:
    """Processes wait for each other here before they connect, which they could not give up.

    Parameters
    ----------
    client : distributed.Client
    n_expected : int
    """

    def __init__(self, client, n_expected):
        from distributed import Queue, Variable

        self.name = f"skae-{uuid4()}"
        self.n_expected = n_expected
        self.arrived = Queue(self.name, client=client)
        self.word = Variable(self.name, client=client)
        self.word.set("wait")
        self.has_begun = False

    def look(self):
        """Let processes go on if all have come."""
        if not self.has_begun and self.arrived.qsize() == self.n_expected:
            self.has_begun = True
            self.word.set("go")

    def end(self):
        """Those that wait leave."""
        self.word.delete()
        self.arrived.close()


# What workers do.


def meet(name):
    """Wait until all processes have come; raise RuntimeError if they will not."""
    from distributed import Queue, Variable

    Queue(name).put(True)
    word = Variable(name)
    until = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < until:
        try:
            if word.get(timeout=1) == "go":
                return
        except TimeoutError:  # it was deleted
            break
        time.sleep(SECONDS)
    raise RuntimeError("The fit was given up before all of its processes had come.")


def _give_back():
    gc.collect()
    release_freed_memory()


def release_freed_memory():
    """Give back what partitions before have used: it counts as memory of this worker."""
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # of other C libraries
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def memory_given_back():
    """Give back freed memory each second of the block: among rows that wait, it is in pieces."""
    is_over = threading.Event()

    def give_back():
        while not is_over.wait(1.0):
            release_freed_memory()

    thread = threading.Thread(target=give_back, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
