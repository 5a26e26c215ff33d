"""Sums over processes of one machine, through memory that they share."""

from __future__ import annotations

import mmap
import os
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

# What is summed at once, of each process; larger tensors are summed in such pieces.
PIECE_BYTES = 2**20
# Segments begin where all numbers may, and no two processes write into one cache line.
ALIGNMENT = 64
# One that waits looks again and again for so long: to be woken takes as long as a small step.
SECONDS_AWAKE = 0.001
# After so long without an answer, another process counts as gone.
SECONDS_OF_SILENCE = 1800.0


class SharedSums:
    """Sums of tensors over processes of one machine; all get the same bits.

    Each process writes its tensor into its own place of the memory, sums one segment over all
    places, and reads the whole sum. It is some ten times as fast as to send tensors. They wait for
    each other by bytes in pipes, since a pipe, unlike a number in memory, also tells that a process
    has ended, and is an order of memory on all processors. In round r of a wait, each sends to the
    process 2^r further on, so that ``ceil(log2(size))`` rounds are enough [1]_.

    Parameters
    ----------
    folder : str
        Of the memory, and of a pipe from each to each, as made by ``folder_of_sums``.
    rank, size : int
        Number of this process among those of the machine, and how many they are.

    References
    ----------
    .. [1] D. Hensgen, R. Finkel and U. Manber, "Two algorithms for barrier synchronization",
       International Journal of Parallel Programming 17, 1988.
    """

    def __init__(self, folder: str, rank: int, size: int):
        self.folder, self.rank, self.size = folder, rank, size
        steps = [1 << r for r in range((size - 1).bit_length())]
        self.before = [(rank - step) % size for step in steps]
        self.after = [(rank + step) % size for step in steps]
        self.sources: list[int] = []
        self.targets: list[int] = []
        with open(os.path.join(folder, "memory"), "r+b") as file:
            memory = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)
        *self.places, self.total = memory.view(size + 1, -1)
        for other in self.before:
            flags = os.O_RDONLY | os.O_NONBLOCK
            self.sources.append(os.open(_pipe(folder, other, rank), flags))

    def connect(self) -> None:
        """Open the pipes to others, which must have opened their ends."""
        for other in self.after:
            flags = os.O_WRONLY | os.O_NONBLOCK
            self.targets.append(os.open(_pipe(self.folder, self.rank, other), flags))

    def close(self) -> None:
        """Let the others know that this process does not go on."""
        for descriptor in (*self.sources, *self.targets):
            os.close(descriptor)
        self.sources, self.targets = [], []

    def add(self, values: Tensor, between: Callable[[Tensor], Any] | None = None) -> None:
        """Put the sum over processes in the place of a contiguous tensor.

        Parameters
        ----------
        values : Tensor
        between : callable, default=None
            Called by the first process, with each piece of the sum, to add those of other machines.
        """
        for piece in pieces_of(values):
            self._add_piece(piece, between)

    def _add_piece(self, piece: Tensor, between: Callable[[Tensor], Any] | None) -> None:
        n = len(piece)
        places = [place.view(piece.dtype)[:n] for place in self.places]
        total = self.total.view(piece.dtype)[:n]
        places[self.rank].copy_(piece)
        self.wait()
        unit = ALIGNMENT // piece.element_size()
        length = -(-n // (self.size * unit)) * unit
        segment = slice(self.rank * length, (self.rank + 1) * length)
        mine = total[segment].copy_(places[0][segment])
        for place in places[1:]:
            mine.add_(place[segment])
        self.wait()
        if between is not None:
            if self.rank == 0:
                between(total)
            self.wait()
        piece.copy_(total)

    def wait(self) -> None:
        """Return when all processes have called this."""
        for before, source, target in zip(self.before, self.sources, self.targets, strict=True):
            with suppress(BrokenPipeError):  # of one that has failed, which those after it find
                os.write(target, b"x")
            self._read(source, before)

    def _read(self, source: int, rank: int) -> None:
        """Wait for a byte of a process."""
        since = time.monotonic()
        while True:
            try:
                if os.read(source, 1):
                    return
            except BlockingIOError:
                pass
            else:
                raise RuntimeError(f"Process {rank} of this machine has ended, or failed.")
            waited = time.monotonic() - since
            if waited > SECONDS_OF_SILENCE:
                raise RuntimeError(f"Process {rank} of this machine is silent for {waited:.0f} s.")
            if waited > SECONDS_AWAKE:
                select.select([source], [], [], SECONDS_OF_SILENCE - waited)
            else:
                os.sched_yield()


def pieces_of(values: Tensor) -> tuple[Tensor, ...]:
    """What of a contiguous tensor is summed at once."""
    flat = values.view(-1)
    return flat.split(PIECE_BYTES // flat.element_size())


def shared_sums(rank: int, gather: Callable[[Any], list[Any]]) -> tuple[SharedSums | None, Any]:
    """Sums over the processes of this machine, and the first process of each machine.

    Parameters
    ----------
    rank : int
    gather : callable
        Gives what all processes give it; all of them call this function.

    Returns
    -------
    sums : SharedSums or None
        None if this process has its machine to itself.
    firsts : list of int or None
        None if processes of any machine cannot share memory: then none do.
    """
    machines = gather(name_of_machine())
    here = [other for other, name in enumerate(machines) if name == machines[rank]]
    is_first, is_alone = rank == here[0], len(here) == 1
    folder = folder_of_sums(len(here)) if is_first and not is_alone else None
    folders = gather(folder)
    sums = None
    try:
        sums = _opened(folders[here[0]], here.index(rank), len(here))
        is_ready = all(gather(is_alone or sums is not None))
        if is_ready and sums is not None:
            sums.connect()
        gather(None)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    if is_ready:
        return sums, sorted({machines.index(name) for name in machines})
    if sums is not None:
        sums.close()
    return None, None


def name_of_machine() -> str:
    """Equal for processes of one machine; those that share no files are found out later."""
    return socket.gethostname()


def _opened(folder: str | None, rank: int, size: int) -> SharedSums | None:
    try:
        return None if folder is None else SharedSums(folder, rank, size)
    except OSError:  # of another machine with the same name
        return None


def folder_of_sums(size: int) -> str | None:
    """A new folder with what processes need to share sums; None if the system has none."""
    if not hasattr(os, "mkfifo") or not hasattr(os, "sched_yield"):
        return None
    # Files elsewhere would be written to disk every now and then.
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = None
    try:
        folder = tempfile.mkdtemp(prefix="skae-", dir=place)
        with open(os.path.join(folder, "memory"), "wb") as file:
            _reserve(file.fileno(), (size + 1) * PIECE_BYTES)
        for source in range(size):
            for target in range(size):
                os.mkfifo(_pipe(folder, source, target))
    except OSError:  # no space is left, nothing may be written there, or no pipes are allowed
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Set the size of a file; raise OSError if there is no space, where the system can tell."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:
        os.ftruncate(descriptor, n_bytes)


def _pipe(folder: str, source: int, target: int) -> str:
    return os.path.join(folder, f"{source}-{target}")
