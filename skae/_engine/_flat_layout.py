"""How parameters lie in a flat tensor while they are trained.

Products of thin matrices take up to twice as long if their short side is contiguous: a matrix
with more rows than columns lies transposed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def flat_shape(parameter: Tensor) -> torch.Size:
    """The shape in which a parameter lies in a flat tensor."""
    shape = parameter.shape
    return shape[::-1] if _is_turned(parameter) else shape


def flattened(parameter: Tensor) -> Tensor:
    """The values of a parameter as they lie in a flat tensor."""
    values = parameter.detach()
    return (values.T if _is_turned(values) else values).reshape(-1)


def shaped(values: Tensor, parameter: Tensor) -> Tensor:
    """The view of flat `values` in the shape of a parameter."""
    view = values.view(flat_shape(parameter))
    return view.T if _is_turned(parameter) else view


def in_plain_order(values: Tensor, parameters: list[Tensor]) -> Tensor:
    """Flat values of parameters, as they lie while trained, in the order of the parameters."""
    pieces = zip(values.split([p.numel() for p in parameters]), parameters, strict=True)
    return torch.cat([shaped(piece, parameter).reshape(-1) for piece, parameter in pieces])


def in_flat_order(values: Tensor, parameters: list[Tensor]) -> Tensor:
    """The inverse of ``in_plain_order``."""
    pieces = zip(values.split([p.numel() for p in parameters]), parameters, strict=True)
    return torch.cat([flattened(piece.view(parameter.shape)) for piece, parameter in pieces])


def _is_turned(parameter: Tensor) -> bool:
    return parameter.ndim == 2 and parameter.shape[0] > parameter.shape[1]
