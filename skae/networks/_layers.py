"""Layers whose randomness comes from a generator that is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Dropout(nn.Module):
    """Inverted dropout; `generator` is set by whoever trains the network."""

    generator: torch.Generator | None = None

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept(x)
        return x if kept is None else x * kept

    def kept(self, x: Tensor) -> Tensor | None:
        """Factors of the units: zero, or what makes up for those that are zero."""
        if not self.training or self.p == 0.0:
            return None
        uniform = torch.rand(x.shape, generator=self.generator, device=x.device)
        return (uniform >= self.p) / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


# Where a module that a user's network built keeps what it needs to be built again.
ORIGIN = "_skae_origin"


@dataclass
class Call:
    """One call of a network's ``build``, by its sizes."""

    sizes: tuple[int, int]


@dataclass
class Origin:
    """Which part of what a call built a module is: 0 the encoder, 1 the decoder."""

    call: Call
    part: int


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with given weights: none are drawn for it.

    ``torch.nn.utils.skip_init`` would import a computer algebra system, for half a second.
    """
    layer = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(layer)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    layer.out_features, layer.in_features = weight.shape
    return layer


def zero(layer: nn.Module) -> None:
    """Make a layer's output zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """Weight matrices and kernels: all parameters but biases, gains and the like."""
    named = module.named_parameters()
    return [p for name, p in named if p.ndim > 1 and not name.endswith("bias")]


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody wants to be told of what passes through a module or its parameters."""
    hooks: list[Any] = [
        *(module._forward_hooks, module._forward_pre_hooks),
        *(module._backward_hooks, module._backward_pre_hooks),
    ]
    for parameter in module.parameters(recurse=False):
        hooks += [parameter._backward_hooks, parameter._post_accumulate_grad_hooks]
    return any(hooks)


def set_generators(module: nn.Module, generator: torch.Generator) -> None:
    """Hand the generator to the layers that draw from one."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator
