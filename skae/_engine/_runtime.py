"""Device, precision, random generators and threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from joblib.parallel import get_active_backend
from torch import Tensor

from skae.exceptions import warn_user

_global_generator_lock = threading.RLock()
_thread_count_lock = threading.Lock()
_thread_counts: list[int] = []


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` or the name of a torch device into an available device.

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
            f"device={device!r} cannot be used here; 'auto' and 'cpu' always can. "
            f"torch says: {error}"
        ) from error
    # torch cannot copy modules on "cpu:0".
    return torch.device("cpu") if resolved.type == "cpu" else resolved


def on_device(device: torch.device | str) -> AbstractContextManager:
    """Context in which CUDA streams and graphs belong to `device`, not to the first GPU."""
    device = torch.device(device)
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def resolve_precision(precision: str, device: torch.device) -> str:
    """The same precision, or ``"float32"`` on devices where bfloat16 would be slower."""
    is_kept = precision == "float32" or multiplies_bfloat16(device)
    return precision if is_kept else "float32"


def warn_if_bfloat16_unsupported(precision: str, device: torch.device) -> None:
    """Warn if ``resolve_precision`` replaces a precision; to be called once per fit."""
    if precision != resolve_precision(precision, device):
        warn_user(
            f"precision={precision!r} is computed in float32 here: it needs a processor with "
            "AMX, AVX512-BF16 or the like, or a GPU; others would be slower, not faster."
        )


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return True
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(has for name, has in capabilities.items() if name.endswith("bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Context of matrix products in bfloat16 with float32 weights; float32 needs none."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class Draws(torch.Generator):
    """A generator that can be pickled with a GPU and loaded without one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return restored_draws, (str(self.device), self.get_state(), self.initial_seed())


def restored_draws(device: str, state: Tensor, seed: int) -> torch.Generator:
    """A generator in `state`; if its device is not available, a new one on the CPU."""
    try:
        draws = Draws(device)
    except RuntimeError:
        return generator(seed)
    draws.set_state(state)
    return draws


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A seeded generator; torch's global one is never used."""
    return Draws(device).manual_seed(seed)


def moved_generator(draws: torch.Generator, device: torch.device) -> torch.Generator:
    """A copy on another device; on another type of device, a new one with the same seed."""
    if draws.device.type == device.type:
        return restored_draws(str(device), draws.get_state(), draws.initial_seed())
    return generator(draws.initial_seed(), device)


def bytes_for_rows(device: torch.device | str, otherwise: int) -> int:
    """Memory that rows may take: half of a GPU's free memory, `otherwise` on other devices."""
    device = torch.device(device)
    if device.type != "cuda":
        return otherwise
    return torch.cuda.mem_get_info(device)[0] // 2


@contextmanager
def borrowed_global_generator(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for the block, and restore it afterwards."""
    with _global_generator_lock:
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        try:
            yield
        finally:
            torch.set_rng_state(state)


@contextmanager
def one_thread_per_worker() -> Iterator[None]:
    """Limit torch to one thread in the block if it runs in a thread of joblib.

    Each Python thread has its own team of OpenMP threads: several fits in threads would
    oversubscribe the cores. For its processes, joblib sets the number of threads itself.
    """
    backend, _ = get_active_backend()
    if not backend.nesting_level or threading.current_thread() is threading.main_thread():
        yield
        return
    with _thread_count_lock:
        # A thread's first use of torch sets its number to the one that any thread set last.
        # It must happen before set_num_threads, which it would otherwise override later.
        n_threads = torch.get_num_threads()
        # The number set last may be the 1 of another worker.
        _thread_counts.append(_thread_counts[0] if _thread_counts else n_threads)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _thread_count_lock:
            torch.set_num_threads(_thread_counts.pop())
