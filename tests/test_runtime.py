import re
import threading

import pytest
import torch

from skae._engine._runtime import autocast, borrowed_global_generator, generator, resolve_device


def test_auto_device_exists():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "", "cpu cpu"])
def test_unusable_device_is_named(device):
    with pytest.raises(ValueError, match=re.escape(f"device={device!r}")):
        resolve_device(device)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_generators_are_ours():
    state = torch.random.get_rng_state()
    draws = [torch.rand(3, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_borrowed_generator_is_seeded_and_given_back():
    state = torch.random.get_rng_state()
    with borrowed_global_generator(3):
        a = torch.rand(2)
    with borrowed_global_generator(3):
        b = torch.rand(2)
    assert torch.equal(a, b)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_borrowed_generator_is_given_back_after_an_error():
    state = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="mat1"), borrowed_global_generator(3):
        torch.rand(2, 2) @ torch.rand(3, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with borrowed_global_generator(3):  # and the lock is free again
        pass


def test_one_borrower_at_a_time():
    draws = []

    def borrow():
        with borrowed_global_generator(0):
            draws.append(torch.cat([torch.rand(1) for _ in range(200)]))

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(draws) == 8
    assert all(torch.equal(draw, draws[0]) for draw in draws)
