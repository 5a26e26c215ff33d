"""Where and how the arithmetic runs: device, precision, generators."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from joblib.parallel import get_active_backend
from torch import Tensor

_global_generator_lock = threading.RLock()
_thread_count_lock = threading.Lock()
_thread_counts: list[int] = []


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` or a torch device name into a device that is there.

    Raises
    ------
    ValueError
        If the name is unknown to torch or no such device can be used.
    """
    if not isinstance(device, str) or device == "meta":
        raise ValueError(f"device={device!r} must be 'auto' or the name of a device that computes.")
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
    # torch can not copy what it has put on "cpu:0".
    return torch.device("cpu") if resolved.type == "cpu" else resolved


def on_device(device: torch.device | str) -> AbstractContextManager:
    """Where a GPU's streams and graphs belong to it and not to the first one."""
    device = torch.device(device)
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def resolve_precision(precision: str, device: torch.device) -> str:
    """The same precision, or ``"float32"``, with a warning, where it would only be slower."""
    if precision == "float32" or multiplies_bfloat16(device):
        return precision
    warnings.warn(
        f"precision={precision!r} is computed in float32 here: it needs a processor with AMX, "
        "AVX512-BF16 or the like, or a GPU; others would be slower, not faster.",
        stacklevel=2,
    )
    return "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return True
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(there for name, there in capabilities.items() if name.endswith("bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """bfloat16 matrix products over float32 weights, or nothing at all."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class Draws(torch.Generator):
    """A generator that can be stored on a machine with a GPU and read on one without."""

    def __reduce__(self) -> tuple[Any, ...]:
        return restored_draws, (str(self.device), self.get_state(), self.initial_seed())


def restored_draws(device: str, state: Tensor, seed: int) -> torch.Generator:
    """The generator as it was; where its device is not there, a fresh one."""
    try:
        draws = Draws(device)
    except RuntimeError:
        return generator(seed)
    draws.set_state(state)
    return draws


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of our own, so the global one is never touched."""
    return Draws(device).manual_seed(seed)


def moved_generator(draws: torch.Generator, device: torch.device) -> torch.Generator:
    """The generator, or one of the same seed where devices of another kind draw otherwise."""
    if draws.device.type == device.type:
        return restored_draws(str(device), draws.get_state(), draws.initial_seed())
    return generator(draws.initial_seed(), device)


def bytes_for_rows(device: torch.device | str, otherwise: int) -> int:
    """How much of a device's memory rows may take: half of what a GPU has left."""
    device = torch.device(device)
    if device.type != "cuda":
        return otherwise
    return torch.cuda.mem_get_info(device)[0] // 2


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


@contextmanager
def one_thread_per_worker() -> Iterator[None]:
    """In a thread of joblib's, compute on that thread alone; torch's number comes back after.

    Every Python thread has a team of OpenMP threads of its own: as many searching side by
    side as there are cores would wait for each other's teams. In joblib's processes, joblib
    shares the cores out itself.
    """
    backend, _ = get_active_backend()
    if not backend.nesting_level or threading.current_thread() is threading.main_thread():
        yield
        return
    with _thread_count_lock:
        # A fresh thread reads the number set last: by us, if others are at work already.
        _thread_counts.append(_thread_counts[0] if _thread_counts else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _thread_count_lock:
            torch.set_num_threads(_thread_counts.pop())
