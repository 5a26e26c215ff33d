"""Training steps on a GPU, launched as one."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from torch import Tensor

from skae._engine._batches import Batch

# Steps that are taken one by one first: libraries choose their kernels in them.
N_WARM_UP = 3
# One graph at a time can be recorded in a process.
_recording = threading.Lock()


class GraphedSteps:
    """Replays the kernels of a step that was recorded once, as a CUDA graph.

    Launching the kernels of a small network takes several times as long as running them.
    Only whole batches are replayed; others are computed as they come.

    Parameters
    ----------
    net : AutoencoderNet
        Its ``_eager_step`` is recorded: all that it does must be done on the device.
    """

    def __init__(self, net: Any):
        self.net = net
        self.n_steps = 0
        self.graph: Any = None
        self.can_record = True

    def __call__(self, batch: Batch) -> Tensor:
        """Take a step; the loss."""
        x, weight = batch
        is_whole = x.shape[-2] == self.net.batch_size
        # What is held frozen may change from epoch to epoch.
        if not (self.can_record and is_whole) or self.net.optimizer_.frozen:
            return self.net._eager_step(batch)
        self.n_steps += 1
        if self.n_steps <= N_WARM_UP:
            return self._warm_up(batch)
        if self.graph is None and not self._record(batch):
            return self.net._eager_step(batch)
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
            loss = self.net._eager_step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, batch: Batch) -> bool:
        """Record a step without taking it; whether that went well."""
        x, weight = batch
        self.x = x.clone()
        self.weight: Any = None if weight is None else weight.clone()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.net.corruption.generator)
        own = torch.cuda.Stream()
        try:
            # Other threads may use the device meanwhile.
            with _recording, torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
                self.loss: Tensor = self.net._eager_step((self.x, self.weight))
        except RuntimeError as error:
            self.can_record = False
            warnings.warn(
                f"Steps could not be recorded as a CUDA graph and are launched one by one: {error}",
                stacklevel=2,
            )
            return False
        self.graph = graph
        return True
