"""Training steps on a GPU, launched as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae._engine._batches import Batch

# Steps that are taken one by one first: libraries choose their kernels in them.
N_WARM_UP = 3


class GraphedSteps:
    """Replays the kernels of a step that was recorded once, as a CUDA graph.

    Launching the kernels of a small network takes several times as long as running them.
    Only batches like the recorded one are replayed; others are computed as they come.

    Parameters
    ----------
    net : AutoencoderNet
        Its ``_launch`` is recorded: all that it does must be done on the device.
    """

    def __init__(self, net: Any):
        self.net = net
        self.n_steps = 0
        self.graph: Any = None

    def __call__(self, batch: Batch) -> Tensor:
        """Take a step; the loss."""
        if self.net.optimizer_.frozen:  # what is held may change from epoch to epoch
            return self.net._launch(batch)
        self.n_steps += 1
        if self.n_steps <= N_WARM_UP:
            return self._warm_up(batch)
        if self.graph is None:
            self._record(batch)
        x, weight = batch
        if x.shape != self.x.shape or (weight is None) != (self.weight is None):
            return self.net._launch(batch)
        self.x.copy_(x)
        if weight is not None:
            self.weight.copy_(weight)
        self.net.optimizer_.load_rates()
        self.graph.replay()
        return self.loss

    def _warm_up(self, batch: Batch) -> Tensor:
        # Recording asks that this happens beside the default stream.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.net._launch(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, batch: Batch) -> None:
        x, weight = batch
        self.x = x.clone()
        self.weight: Any = None if weight is None else weight.clone()
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.net.corruption.generator)
        with torch.cuda.graph(self.graph):
            self.loss: Tensor = self.net._launch((self.x, self.weight))
