"""What fits to Dask collections say when the cluster is not as it should be."""

import subprocess
import sys
import time

import numpy as np
import pytest
import shards

from skae import dask as skae_dask

da = pytest.importorskip("dask.array", reason="fits collections")
distributed = pytest.importorskip("distributed", reason="its workers train")

CLUSTER = """
from distributed import LocalCluster
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", processes=False,
                  protocol="tcp") as cluster:
    print(cluster.scheduler_address, flush=True)
    input()
"""


@pytest.fixture
def process():
    """A process with a scheduler and a worker, and its address."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def client(process):
    with distributed.Client(process.stdout.readline().strip(), timeout=3) as client:
        yield client


def blocks():
    return da.from_array(shards.table(), chunks=(3000, 6))


def test_a_scheduler_that_goes_away_is_an_error(process, client, monkeypatch):
    outcome = skae_dask._outcome

    def killed(*arguments):
        process.kill()
        process.wait()
        return outcome(*arguments)

    monkeypatch.setattr(skae_dask, "_outcome", killed)
    estimator = shards.transformer(max_epochs=500)
    before = time.monotonic()
    with pytest.raises(RuntimeError, match=r"scheduler at tcp://.* went away"):
        skae_dask.fit(estimator, blocks(), client)
    assert time.monotonic() - before < 60
    assert not hasattr(estimator, "net_")


def test_workers_need_skae_of_the_same_version(client):
    def pretend():
        import skae._version

        skae._version.__version__ = "0.0.1"

    def hide():
        import sys

        class Hidden:
            def find_spec(self, name, *_):
                if name.partition(".")[0] == "skae":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        for name in [name for name in sys.modules if name.partition(".")[0] == "skae"]:
            del sys.modules[name]
        sys.meta_path.insert(0, Hidden())

    (worker,) = client.nthreads()
    estimator = shards.transformer()
    client.run(pretend)
    with pytest.raises(RuntimeError, match=rf"Worker {worker} has skae 0\.0\.1, but this process"):
        skae_dask.fit(estimator, blocks(), client)
    client.run(hide)
    with pytest.raises(RuntimeError, match=rf"Worker {worker} has no skae .* install skae"):
        skae_dask.fit(estimator, blocks(), client)
    assert not hasattr(estimator, "net_")
    assert np.isfinite(blocks().sum().compute())  # the cluster goes on
