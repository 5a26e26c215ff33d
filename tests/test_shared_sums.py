"""Sums through memory that processes of one machine share; here threads stand for processes."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch.testing import assert_close

from skae._engine import _shared_sums
from skae._engine._shared_sums import PIECE_BYTES, folder_of_sums, shared_sums

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
SECONDS = 60


def on_all(function, size):
    """Results, or errors, of a function of each rank and of what gathers from all of them."""
    barrier, values = Barrier(size), [None] * size

    def run(rank):
        def gather(value):
            values[rank] = value
            barrier.wait(SECONDS)
            found = [*values]
            barrier.wait(SECONDS)
            return found

        try:
            return function(rank, gather)
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as threads:
        return [*threads.map(run, range(size))]


def added(of_ranks, between=None):
    """The sum that each rank gets of its tensor."""

    def add(rank, gather):
        sums, _ = shared_sums(rank, gather)
        values = of_ranks[rank].clone()
        for _ in range(2):  # one sum after the other, in the same memory
            values.copy_(of_ranks[rank])
            sums.add(values, between)
        sums.close()
        return values

    return on_all(add, len(of_ranks))


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("n", [0, 1, 3, 1000, PIECE_BYTES // 4 + 7])
def test_sums_are_right_and_have_the_same_bits(size, dtype, n):
    draws = torch.Generator().manual_seed(0)
    of_ranks = [(100 * torch.randn(n, generator=draws)).to(dtype) for _ in range(size)]
    first, *others = added(of_ranks)
    assert_close(first, torch.stack(of_ranks).sum(dim=0))
    for other in others:
        assert torch.equal(first, other)


def test_tensors_of_several_axes_are_summed_in_place():
    of_ranks = [torch.full((3, 4), float(rank)) for rank in range(3)]
    for values in added(of_ranks):
        assert_close(values, torch.full((3, 4), 3.0))


def test_sums_of_a_machine_are_added_to_those_of_others_once():
    of_ranks = [torch.ones(10) for _ in range(3)]
    for values in added(of_ranks, between=lambda total: total.add_(100)):
        assert_close(values, torch.full((10,), 103.0))


def test_machines_are_told_apart():
    names = ["a", "b", "a", "c", "b"]

    def add(rank, gather):
        own = iter([names[rank]])
        sums, firsts = shared_sums(rank, lambda value: gather(next(own, value)))
        values = torch.tensor([10**rank])
        if sums is not None:
            sums.add(values)
            sums.close()
        return firsts, values.item()

    found = on_all(add, len(names))
    assert {tuple(firsts) for firsts, _ in found} == {(0, 1, 3)}
    assert [values for _, values in found] == [101, 10010, 101, 1000, 10010]


def no_folder(size):
    return None


def folder_of_another_machine(size):
    folder = folder_of_sums(size)
    shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize("make", [no_folder, folder_of_another_machine])
def test_without_shared_memory_nothing_is_shared(monkeypatch, make):
    monkeypatch.setattr(_shared_sums, "folder_of_sums", make)
    assert on_all(shared_sums, 3) == [(None, None)] * 3


def test_without_space_there_is_no_folder(monkeypatch):
    def full(descriptor, n_bytes):
        raise OSError(28, "No space left on device")

    made = []
    make = _shared_sums.tempfile.mkdtemp
    monkeypatch.setattr(
        _shared_sums.tempfile, "mkdtemp", lambda **k: made.append(make(**k)) or made[0]
    )
    monkeypatch.setattr(_shared_sums, "_reserve", full)
    assert folder_of_sums(2) is None
    assert not os.path.exists(made[0])


def test_where_nothing_may_be_written_nothing_is_shared(monkeypatch):
    """An error of the first process alone would leave the others waiting."""

    def refused(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_shared_sums.tempfile, "mkdtemp", refused)
    assert on_all(shared_sums, 2) == [(None, None)] * 2


def test_folders_are_removed_once_all_have_opened_them(monkeypatch):
    folders = []

    def noted(size):
        folders.append(folder_of_sums(size))
        return folders[-1]

    monkeypatch.setattr(_shared_sums, "folder_of_sums", noted)
    for sums, _ in on_all(shared_sums, 2):
        assert not os.path.exists(folders[0])
        sums.close()


@pytest.mark.parametrize("size", [2, 3])
def test_the_end_of_a_process_is_an_error_of_the_others(size):
    def add(rank, gather):
        sums, _ = shared_sums(rank, gather)
        try:
            sums.add(torch.ones(3))
            if rank == 1:
                raise ValueError("infinite")
            sums.add(torch.ones(3))
        finally:
            sums.close()

    found = on_all(add, size)
    assert str(found.pop(1)) == "infinite"
    for error in found:
        with pytest.raises(RuntimeError, match=r"Process \d of this machine has ended, or failed"):
            raise error


def test_a_process_that_does_not_answer_counts_as_gone(monkeypatch):
    monkeypatch.setattr(_shared_sums, "SECONDS_OF_SILENCE", 0.05)

    def add(rank, gather):
        sums, _ = shared_sums(rank, gather)
        try:
            if rank == 0:
                sums.add(torch.ones(3))
        finally:
            gather(None)
            sums.close()

    error, _ = on_all(add, 2)
    with pytest.raises(RuntimeError, match="Process 1 of this machine is silent"):
        raise error
