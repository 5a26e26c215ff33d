"""Training steps on a GPU, replayed as CUDA graphs."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from skae._engine._batches import Batch
from skae.exceptions import warn_user

# Steps before the capture, in which libraries choose their kernels.
N_WARM_UP = 3
# A process can capture one graph at a time.
_capture_lock = threading.Lock()


class GraphedSteps:
    """Captures a training step as a CUDA graph and replays it.

    Launching the kernels of a small network takes several times as long as running them.
    Only full batches are replayed; the short one that may end an epoch runs eagerly.

    Parameters
    ----------
    net : AutoencoderNet
        Its ``_eager_step`` is captured: it must do all its work on the device.
    """

    def __init__(self, net: Any):
        self.net = net
        self.n_steps = 0
        self.shape: torch.Size | None = None
        self.graph: Any = None
        self.can_capture = True

    def __call__(self, batch: Batch) -> Tensor:
        """Take a step and return the loss."""
        x, weight = batch
        self.shape = self.shape or x.shape  # the first batch is full
        is_full = x.shape == self.shape
        # A graph would not follow a change of the frozen parameters between epochs.
        if not (self.can_capture and is_full) or self.net.optimizer_.frozen:
            return self.net._eager_step(batch)
        self.n_steps += 1
        if self.n_steps <= N_WARM_UP:
            return self._warm_up(batch)
        if self.graph is None and not self._capture(batch):
            return self.net._eager_step(batch)
        self.x.copy_(x)
        if weight is not None:
            self.weight.copy_(weight)
        self.net.optimizer_.load_rates()
        self.graph.replay()
        return self.loss

    def _warm_up(self, batch: Batch) -> Tensor:
        # torch requires warm-up steps before a capture to run on a side stream.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.net._eager_step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _capture(self, batch: Batch) -> bool:
        """Capture a step without running it; return whether that succeeded."""
        x, weight = batch
        self.x = x.clone()
        self.weight: Any = None if weight is None else weight.clone()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.net.corruption.generator)
        stream = torch.cuda.Stream()
        mode = "thread_local"  # other threads may use the device meanwhile
        try:
            with _capture_lock, torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                self.loss: Tensor = self.net._eager_step((self.x, self.weight))
        except RuntimeError as error:
            self.can_capture = False
            warn_user(f"Steps could not be captured as a CUDA graph and run one by one: {error}")
            return False
        self.graph = graph
        return True
