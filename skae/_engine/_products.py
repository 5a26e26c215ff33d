"""Matrix products into buffers, by the faster of two libraries.

MKL, by which torch multiplies float32 matrices on x86 processors, uses 256-bit instructions on
those of other makers than Intel; oneDNN, which comes with torch, uses what the processor has.
Its calls cost some microseconds more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

# Multiplications from which oneDNN makes up for the cost of its call.
MIN_MULTIPLICATIONS = 2_000_000


@cache
def has_wide_products() -> bool:
    """Whether the processor has 512-bit instructions that only oneDNN uses, and oneDNN is there."""
    is_there = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    )
    if not is_there or not hasattr(torch.cpu, "get_capabilities"):
        return False
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_f")) and "AMD" in str(processor.get("cpu_name"))


def write_product(
    a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None
) -> Callable[[], Any]:
    """A call that writes ``a @ b + bias`` to `out`."""
    if _is_wide(a, b):
        return lambda: out.copy_(_wide_product(a, b, bias))
    if bias is not None:
        return partial(torch.addmm, bias, a, b, out=out)
    return partial(torch.mm if a.ndim == 2 else torch.bmm, a, b, out=out)


def add_product(a: Tensor, b: Tensor, out: Tensor) -> Callable[[], Any]:
    """A call that adds ``a @ b`` to `out`."""
    if _is_wide(a, b):
        return lambda: out.add_(_wide_product(a, b, None))
    return partial(out.addmm_ if a.ndim == 2 else out.baddbmm_, a, b)


def _is_wide(a: Tensor, b: Tensor) -> bool:
    is_plain = a.ndim == 2 and a.is_cpu and a.dtype is torch.float32
    return (
        is_plain
        and min(*a.shape, b.shape[1]) > 1
        and a.numel() * b.shape[1] >= MIN_MULTIPLICATIONS
        and has_wide_products()
    )


def _wide_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(a, b.T, bias, "none", [], "")
