"""Activations, dropout with its own generator, and helpers for layers."""

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
    """Inverted dropout that draws from `generator`, which training sets."""

    generator: torch.Generator | None = None

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        mask = self.draw_mask(x)
        return x if mask is None else x * mask

    def draw_mask(self, x: Tensor) -> Tensor | None:
        """Factor of each unit: 0 or 1 / (1 - p); None where nothing is dropped."""
        if not self.training or self.p == 0.0:
            return None
        uniform = torch.rand(x.shape, generator=self.generator, device=x.device)
        return (uniform >= self.p) / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


# Attribute of a module built by a user's network: the ``Origin`` to rebuild it from.
ORIGIN = "_skae_origin"


@dataclass
class Call:
    """One call ``build(n_features, n_components)`` of a user's network."""

    sizes: tuple[int, int]


@dataclass
class Origin:
    """The call that built a module, and which part the module is: 0 encoder, 1 decoder."""

    call: Call
    part: int


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with given weights; it draws no random numbers.

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
    """Weight matrices and kernels: all parameters but biases and gains."""
    named = module.named_parameters()
    return [p for name, p in named if p.ndim > 1 and not name.endswith("bias")]


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks are registered on a module or its parameters."""
    hooks: list[Any] = [
        *(module._forward_hooks, module._forward_pre_hooks),
        *(module._backward_hooks, module._backward_pre_hooks),
    ]
    for parameter in module.parameters(recurse=False):
        hooks += [parameter._backward_hooks, parameter._post_accumulate_grad_hooks]
    return any(hooks)


def set_generators(module: nn.Module, generator: torch.Generator) -> None:
    """Set the generator of all dropout layers."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator
