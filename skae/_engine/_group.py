"""Processes that fit one estimator together."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._engine._checkpoints import Checkpoints


class Group:
    """A process by itself: what is reduced stays as it is.

    Attributes
    ----------
    size, rank : int
        Number of processes, and the number of this one.
    sync_every : int
        Steps after which weights are averaged; with 1, gradients are summed in each step.
    checkpoints : Checkpoints or None
        Where trainings are noted after each epoch.
    """

    size = 1
    rank = 0
    sync_every = 1
    checkpoints: Checkpoints | None = None

    def add(self, values: Tensor) -> Tensor:
        """Put the sum over processes in the place of a whole contiguous tensor, and return it."""
        return values

    def add_array(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over processes of an array."""
        return values

    def sums(self, *values: float) -> tuple[float, ...]:
        """Sums over processes of numbers."""
        return values

    def copy_from_first(self, values: Tensor) -> None:
        """Put the values of the first process in their place."""

    def gather(self, value: Any) -> list[Any]:
        """The objects of all processes."""
        return [value]

    def of_first(self, value: Any) -> Any:
        """The object of the first process."""
        return value


ALONE = Group()


class ProcessGroup(Group):
    """Processes of ``torch.distributed``, which must be initialised.

    Parameters
    ----------
    sync_every : int, default=1
    """

    def __init__(self, sync_every: int = 1):
        from torch import distributed

        self.distributed: Any = distributed
        self.size = distributed.get_world_size()
        self.rank = distributed.get_rank()
        self.sync_every = sync_every
        # NCCL reduces on GPUs only.
        self.device = "cuda" if distributed.get_backend() == "nccl" else None

    def add(self, values: Tensor) -> Tensor:
        if not values.is_contiguous():  # gloo would reduce it wrongly, and say nothing
            raise RuntimeError(f"A tensor of strides {values.stride()} is not contiguous.")
        carried = values if self.device is None else values.to(self.device)
        self.distributed.all_reduce(carried)
        return values if carried is values else values.copy_(carried)

    def add_array(self, values: NDArray[Any]) -> NDArray[Any]:
        self.add(torch.from_numpy(values))
        return values

    def sums(self, *values: float) -> tuple[float, ...]:
        return tuple(self.add(torch.tensor(values, dtype=torch.float64)).tolist())

    def copy_from_first(self, values: Tensor) -> None:
        carried = values if self.device is None else values.to(self.device)
        self.distributed.broadcast(carried, 0)
        if carried is not values:
            values.copy_(carried)

    def gather(self, value: Any) -> list[Any]:
        values = [None] * self.size
        self.distributed.all_gather_object(values, value)
        return values

    def of_first(self, value: Any) -> Any:
        values = [value if self.rank == 0 else None]
        self.distributed.broadcast_object_list(values, 0)
        return values[0]


def checked_sync_every(sync_every: Any) -> int:
    """The parameter of fits by several processes; raise ValueError if it is no number of steps."""
    if not isinstance(sync_every, Integral) or sync_every < 1:
        raise ValueError(f"sync_every={sync_every!r} must be an integer of at least 1.")
    return int(sync_every)


def launched_group(sync_every: int = 1) -> Group:
    """The group that ``torch.distributed`` knows, or that the launcher of this process tells of.

    Without either, this process is alone. A group that is set up here is there for later fits: the
    address of a launcher can be met at only once.
    """
    from torch import distributed

    is_running = distributed.is_available() and distributed.is_initialized()
    if not is_running and "WORLD_SIZE" not in os.environ:
        return ALONE
    if not is_running:
        distributed.init_process_group("gloo")
        atexit.register(_leave)  # with threads of gloo still running, the process would abort
    return ProcessGroup(sync_every)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def new_group(address: str, rank: int, size: int, sync_every: int = 1) -> Iterator[ProcessGroup]:
    """A group of processes that meet at an address, for the block."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    try:
        yield ProcessGroup(sync_every)
    finally:
        distributed.destroy_process_group()
