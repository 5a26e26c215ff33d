"""Steps on a GPU; what decides about them is tested anywhere."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skae import AutoencoderTransformer, VAEGenerator
from skae._engine import _graphs
from skae._engine._net import AutoencoderNet

FAST = {"hidden_layer_sizes": 4, "max_epochs": 4, "batch_size": 16, "random_state": 0}


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return "cuda"


class Recorder:
    """Stands in for a CUDA graph: replaying runs what was recorded on the static batch."""

    recorded: list = []

    def __init__(self):
        self.recorded.append(self)
        self.n_replays = 0

    def register_generator_state(self, generator):
        self.generator = generator

    def replay(self):
        self.n_replays += 1
        self.steps.loss = self.steps.net._launch((self.steps.x, self.steps.weight))


@pytest.fixture
def recorder(monkeypatch):
    """Graphs on the CPU, by replaying Python."""

    def record(steps, batch):
        x, weight = batch
        steps.x, steps.weight = x.clone(), None if weight is None else weight.clone()
        steps.graph = Recorder()
        steps.graph.steps = steps

    monkeypatch.setattr(Recorder, "recorded", [])
    monkeypatch.setattr(AutoencoderNet, "_is_graphed", lambda net: net.steps_alike)
    monkeypatch.setattr(_graphs.GraphedSteps, "_record", record)
    monkeypatch.setattr(
        _graphs.GraphedSteps, "_warm_up", lambda steps, batch: steps.net._launch(batch)
    )
    return Recorder


@pytest.mark.parametrize("weighted", [False, True])
def test_replayed_steps_are_the_same_steps(weighted, table, recorder, monkeypatch):
    weight = np.linspace(0.5, 1.5, len(table)) if weighted else None
    replayed = AutoencoderTransformer(2, **FAST).fit(table, sample_weight=weight)
    # 4 folds side by side and all rows; the last batch of an epoch is short.
    assert len(recorder.recorded) == 2
    assert all(graph.n_replays > 10 for graph in recorder.recorded)
    monkeypatch.setattr(AutoencoderNet, "_is_graphed", lambda net: False)
    launched = AutoencoderTransformer(2, **FAST).fit(table, sample_weight=weight)
    assert (replayed.transform(table) == launched.transform(table)).all()
    assert replayed.loss_curve_ == launched.loss_curve_


def test_steps_that_differ_are_not_recorded(table, recorder):
    VAEGenerator(2, **FAST).fit(table)
    assert not recorder.recorded


def test_nothing_is_recorded_on_a_cpu(table, monkeypatch):
    monkeypatch.setattr(_graphs.GraphedSteps, "__call__", lambda *a: pytest.fail("recorded"))
    AutoencoderTransformer(2, device="cpu", **FAST).fit(table)


def test_a_gpu_learns_the_same(gpu, table):
    here, there = (
        AutoencoderTransformer(2, device=device, **FAST).fit(table) for device in ("cpu", gpu)
    )
    assert_allclose(there.score(table), here.score(table), atol=0.02)
    latents = there.transform(table)
    assert_allclose(there.set_params(device="cpu").transform(table), latents, atol=1e-4)
