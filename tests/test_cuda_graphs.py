"""Captured steps on a GPU; the decision to capture is tested without one, too."""

import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skae import AutoencoderTransformer, VAEGenerator
from skae._engine import _cuda_graphs
from skae._engine._batches import even_batch_size
from skae._engine._net import AutoencoderNet

FAST = {"hidden_layer_sizes": 4, "max_epochs": 4, "batch_size": 16, "random_state": 0}


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return "cuda"


class FakeGraph:
    """Stands in for a CUDA graph: replaying computes the captured step."""

    made: list = []

    def __init__(self):
        self.made.append(self)
        self.n_replays = 0

    def register_generator_state(self, generator):
        self.generator = generator

    def replay(self):
        self.n_replays += 1
        self.loss.copy_(self.net._eager_step((self.steps.x, self.steps.weight)))


class FakeStream:
    def wait_stream(self, other):
        assert isinstance(other, FakeStream)


@contextmanager
def fake_capture(graph, stream, capture_error_mode):
    """Captures without running the step, as a GPU does."""
    assert isinstance(stream, FakeStream)
    assert capture_error_mode == "thread_local"
    graph.steps = sys._getframe(2).f_locals["self"]
    graph.net = graph.steps.net
    launch = graph.net._eager_step
    graph.loss = torch.zeros(())
    graph.net._eager_step = lambda batch: graph.loss
    try:
        yield
    finally:
        graph.net._eager_step = launch


@pytest.fixture
def graphs(monkeypatch):
    """Graphs on the CPU; those that were made."""
    monkeypatch.setattr(FakeGraph, "made", [])
    monkeypatch.setattr(AutoencoderNet, "_is_graphed", lambda net: net.graph_capturable)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", fake_capture)
    return FakeGraph.made


@pytest.mark.parametrize("batch_size", [16, 50, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_replayed_steps_are_the_same_steps(weighted, batch_size, table, graphs, monkeypatch):
    """The last batch of an epoch is short, and may be the fourth step."""
    table = table[:118]
    weight = np.linspace(0.5, 1.5, len(table)) if weighted else None
    params = {**FAST, "batch_size": batch_size, "max_epochs": 8, "early_stopping": False}
    n_full = even_batch_size(len(table), batch_size)
    replayed = AutoencoderTransformer(2, **params).fit(table, sample_weight=weight)
    (graph,) = graphs
    assert graph.steps.x.shape == (n_full, 10)
    assert graph.n_replays == 8 * (len(table) // n_full) - 3
    monkeypatch.setattr(AutoencoderNet, "_is_graphed", lambda net: False)
    launched = AutoencoderTransformer(2, **params).fit(table, sample_weight=weight)
    assert (replayed.transform(table) == launched.transform(table)).all()
    assert replayed.loss_curve_ == launched.loss_curve_


def test_steps_run_eagerly_if_a_capture_fails(table, graphs, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    params = {**FAST, "early_stopping": False}
    with pytest.warns(UserWarning, match=r"could not be captured .* not permitted"):
        refused = AutoencoderTransformer(2, **params).fit(table)
    assert len(graphs) == 1
    monkeypatch.setattr(AutoencoderNet, "_is_graphed", lambda net: False)
    launched = AutoencoderTransformer(2, **params).fit(table)
    assert (refused.transform(table) == launched.transform(table)).all()


def test_steps_that_differ_are_not_captured(table, graphs):
    VAEGenerator(2, **FAST).fit(table)
    assert not graphs


def test_nothing_is_captured_on_a_cpu(table, monkeypatch):
    monkeypatch.setattr(_cuda_graphs.GraphedSteps, "__call__", lambda *a: pytest.fail("captured"))
    AutoencoderTransformer(2, device="cpu", **FAST).fit(table)


def test_a_gpu_learns_the_same(gpu, table):
    here, there = (
        AutoencoderTransformer(2, device=device, **FAST).fit(table) for device in ("cpu", gpu)
    )
    assert_allclose(there.score(table), here.score(table), atol=0.02)
    latents = there.transform(table)
    assert_allclose(there.set_params(device="cpu").transform(table), latents, atol=1e-4)
