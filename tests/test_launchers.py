"""Launchers of processes that fit an estimator together: each finds the others by itself."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shards
from numpy.testing import assert_allclose

import skae

ROOT = Path(skae.__file__).parents[1]
SECONDS = 120


def train(folder):
    """What each process does; the first saves the model."""
    import os

    import numpy as np
    import shards

    import skae.distributed

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    shard = np.array_split(shards.table(), size)[rank]
    model = skae.distributed.fit(shards.transformer(), shard)
    if rank == 0:
        skae.save(model, os.path.join(folder, f"of{size}.skae"))


def assert_two_have_fitted(folder):
    model, X = skae.load(folder / "of2.skae"), shards.table()
    alone = shards.transformer().fit(X)
    assert model.n_samples_seen_ == len(X)
    assert_allclose(1 - model.score(X), 1 - alone.score(X), rtol=0.1)


def paths_of_modules():
    """What the processes need to import these tests and skae."""
    known = [path for path in sys.path if path and Path(path).is_dir()]
    return os.pathsep.join([str(ROOT), str(Path(__file__).parent), *known])


def missing(*modules):
    names = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"needs {', '.join(names)}" if names else ""


def test_torchrun(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import sys, test_launchers\ntest_launchers.train(sys.argv[1])\n")
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=0",
        "--standalone",
    ]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths_of_modules()},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_two_have_fitted(tmp_path)


@pytest.mark.skipif(bool(missing("ray", "pydantic")), reason=missing("ray", "pydantic"))
@pytest.mark.filterwarnings("ignore")
def test_ray_train(tmp_path):
    import ray
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    settings = {"env_vars": {"PYTHONPATH": paths_of_modules(), "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=3, include_dashboard=False, runtime_env=settings, logging_level="error")
    try:
        TorchTrainer(
            train, train_loop_config=str(tmp_path), scaling_config=ScalingConfig(num_workers=2)
        ).fit()
    finally:
        ray.shutdown()
    assert_two_have_fitted(tmp_path)


@pytest.mark.skipif(
    bool(missing("pyspark")) or shutil.which("java") is None, reason="needs pyspark and Java"
)
@pytest.mark.filterwarnings("ignore")
def test_spark(tmp_path, monkeypatch):
    from pyspark.ml.torch.distributor import TorchDistributor
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYTHONPATH", paths_of_modules())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    with session.getOrCreate():
        TorchDistributor(num_processes=2, local_mode=True, use_gpu=False).run(train, str(tmp_path))
    assert_two_have_fitted(tmp_path)
