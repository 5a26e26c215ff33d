"""Where and how the arithmetic runs: device, precision, generators."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

_global_generator_lock = threading.RLock()


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` or a torch device name into a device that is there.

    Raises
    ------
    ValueError
        If the name is unknown to torch or no such device can be used.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} can not be used here; 'auto' and 'cpu' always can. "
            f"torch says: {error}"
        ) from error
    return resolved


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """bfloat16 matrix products over float32 weights, or nothing at all."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of our own, so the global one is never touched."""
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def borrowed_global_generator(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU for code that draws from it, then give it back."""
    with _global_generator_lock:
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach GPUs too
        try:
            yield
        finally:
            torch.set_rng_state(state)
