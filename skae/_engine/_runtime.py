"""Device, precision, random generators, threads and other global settings of torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from joblib.parallel import get_active_backend

from skae.exceptions import warn_user

_global_generator_lock = threading.RLock()
_thread_count_lock = threading.Lock()
_thread_counts: list[int] = []
_default_dtype_lock = threading.Lock()
_default_dtypes: dict[object, torch.dtype] = {}
# Types of devices whose products a user may have turned to lower precision.
AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
# What errors of allocators say; that of the CPU and of some GPUs has no type of its own.
NO_MEMORY = ("DefaultCPUAllocator", "not enough memory", "out of memory", "_ALLOC_FAILED")


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


def initial_settings() -> AbstractContextManager:
    """Context in which torch's global settings are what they are in a new process.

    These are the default dtype and device, autocast, and the modes of gradients and inference.
    Those that may cost speed or that only report, such as ``torch.set_float32_matmul_precision``
    and anomaly detection, are left to the user.
    """
    with _default_dtype_lock:  # or another thread could put its dtype back in between
        probe = torch.empty(0)
        is_initial = not _default_dtypes and probe.dtype is torch.float32
    is_initial = is_initial and probe.is_cpu and not probe.is_inference()
    if is_initial and torch.is_grad_enabled() and not _autocast_devices():
        return torch.set_grad_enabled(True)  # an interrupt may leave it off inside
    return _put_aside(is_on_cpu=probe.is_cpu)


def _autocast_devices() -> list[str]:
    return [device for device in AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]


@contextmanager
def _put_aside(is_on_cpu: bool) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(_float32_by_default())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _autocast_devices():
            stack.enter_context(torch.autocast(device, enabled=False))
        if not is_on_cpu:  # it slows all functions of torch down
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """Set the default dtype, which all threads share, until the last of them has left."""
    block = object()
    try:
        with _default_dtype_lock:
            before = next(iter(_default_dtypes.values()), torch.get_default_dtype())
            _default_dtypes[block] = before
            torch.set_default_dtype(torch.float32)
        yield
    finally:
        with _default_dtype_lock:
            if block in _default_dtypes:  # not if Ctrl-C came first
                before = _default_dtypes.pop(block)
                if not _default_dtypes:
                    torch.set_default_dtype(before)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch means by this error what Python calls a ``MemoryError``."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in NO_MEMORY)


class Draws(torch.Generator):
    """A generator that can be pickled with a GPU and loaded without one."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As an array: torch pickles tensors with their addresses.
        return restored_draws, (str(self.device), self.get_state().numpy(), self.initial_seed())


def restored_draws(device: str, state: Any, seed: int) -> torch.Generator:
    """A generator in `state`; if its device is not available, a new one on the CPU."""
    try:
        draws = Draws(device)
    except RuntimeError:
        return generator(seed)
    draws.set_state(torch.as_tensor(state, device="cpu"))
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
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
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
