"""Processes that fit one estimator together."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from numbers import Integral
from typing import Any
from weakref import WeakSet

import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._engine._checkpoints import Checkpoints
from skae._engine._shared_sums import SharedSums, pieces_of, shared_sums

# For processes that have all started to find each other.
MEETING_SECONDS = 60


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
# Groups of blocks that have not ended.
_made_here: WeakSet[Any] = WeakSet()


class ProcessGroup(Group):
    """Processes of ``torch.distributed``, which must be initialised.

    Sums over processes of one machine go through its memory, and one process of each machine sums
    with those of others.

    Parameters
    ----------
    sync_every : int, default=1
    """

    def __init__(self, sync_every: int = 1):
        from torch import distributed

        self.distributed: Any = distributed
        # Not the one that is current later: a fit that was given up would take part in the next.
        self.members = distributed.group.WORLD
        self.size = distributed.get_world_size()
        self.rank = distributed.get_rank()
        self.sync_every = sync_every
        # NCCL reduces on GPUs only.
        self.device = "cuda" if distributed.get_backend() == "nccl" else None
        self.here: SharedSums | None = None
        self.firsts: Any = None
        if self.device is None:
            self.here, firsts = shared_sums(self.rank, self.gather)
            if firsts is not None and 1 < len(firsts) < self.size:
                self.firsts = distributed.new_group(firsts)

    def close(self) -> None:
        """Let the others know that this process does not go on; sums are over."""
        if self.here is not None:
            self.here.close()
        if self.firsts is not None:
            with suppress(ValueError):  # it has gone with all groups
                self.distributed.destroy_process_group(self.firsts)

    def add(self, values: Tensor) -> Tensor:
        if not values.is_contiguous():  # gloo would reduce it wrongly, and say nothing
            raise RuntimeError(f"A tensor of strides {values.stride()} is not contiguous.")
        if self.here is not None:
            self.here.add(values, None if self.firsts is None else self._add_of_machines)
        elif self.device is None:
            # Of processes that have a machine each to themselves, and of those that share theirs,
            # all must reduce tensors of the same sizes.
            for piece in (values,) if self.firsts is None else pieces_of(values):
                self._add_of_machines(piece)
        else:
            carried = values.to(self.device)
            self.distributed.all_reduce(carried, group=self.members)
            values.copy_(carried)
        return values

    def _add_of_machines(self, values: Tensor) -> None:
        self.distributed.all_reduce(values, group=self.firsts or self.members)

    def add_array(self, values: NDArray[Any]) -> NDArray[Any]:
        self.add(torch.from_numpy(values))
        return values

    def sums(self, *values: float) -> tuple[float, ...]:
        return tuple(self.add(torch.tensor(values, dtype=torch.float64)).tolist())

    def copy_from_first(self, values: Tensor) -> None:
        carried = values if self.device is None else values.to(self.device)
        self.distributed.broadcast(carried, 0, group=self.members)
        if carried is not values:
            values.copy_(carried)

    def gather(self, value: Any) -> list[Any]:
        values = [None] * self.size
        self.distributed.all_gather_object(values, value, group=self.members)
        return values

    def of_first(self, value: Any) -> Any:
        values = [value if self.rank == 0 else None]
        self.distributed.broadcast_object_list(values, 0, group=self.members)
        return values[0]


def checked_sync_every(sync_every: Any) -> int:
    """The parameter of fits by several processes; raise ValueError if it is no number of steps."""
    if not isinstance(sync_every, Integral) or sync_every < 1:
        raise ValueError(f"sync_every={sync_every!r} must be an integer of at least 1.")
    return int(sync_every)


@contextmanager
def launched_group(sync_every: int = 1) -> Iterator[Group]:
    """The group that ``torch.distributed`` knows, or that the launcher of this process tells of.

    Without either, this process is alone. What is set up here of ``torch.distributed`` is there for
    later fits: the address of a launcher can be met at only once.
    """
    from torch import distributed

    is_running = distributed.is_available() and distributed.is_initialized()
    if not is_running and "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    if not is_running:
        distributed.init_process_group("gloo")
        atexit.register(_leave)  # with threads of gloo still running, the process would abort
    with closing(ProcessGroup(sync_every)) as group:
        yield group


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def new_group(
    address: tuple[str, int], rank: int, size: int, sync_every: int = 1
) -> Iterator[ProcessGroup]:
    """A group of processes that meet at the port of a host, for the block.

    Raise RuntimeError if this process is in another group, unless that is of an earlier block: of
    a fit that was given up while it waited for others. There, an error is raised once it wakes up.
    """
    from torch import distributed

    if distributed.is_initialized():
        if distributed.group.WORLD not in _made_here:
            raise RuntimeError(
                "torch.distributed is initialised in this process, by something else than a fit: "
                "a process can be in one group only."
            )
        distributed.destroy_process_group()
    limit = timedelta(seconds=MEETING_SECONDS)
    store = distributed.TCPStore(*address, size, rank == 0, limit)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    members = distributed.group.WORLD
    _made_here.add(members)
    try:
        with closing(ProcessGroup(sync_every)) as group:
            yield group
    finally:
        if distributed.is_initialized() and distributed.group.WORLD is members:
            distributed.destroy_process_group()
