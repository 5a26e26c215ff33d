"""Gradients of dense networks, written out; autograd's bookkeeping costs more than they do.

A network becomes a tree of passes: ``forward`` remembers what ``backward`` needs, and
``backward`` adds to the gradients of the parameters. A network with a layer that is not
known here is left to autograd as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._layers import Dropout, has_hooks
from skae.networks._linear_path import LinearPath
from skae.networks._mlp import MLP
from skae.networks._stacked import MemberLinear
from skae.networks._variational import MAX_LOG_VARIANCE, ConcatOutputs, VariationalEncoder

aten = torch.ops.aten
# Gradients of activations, from module, gradient, input and output.
DERIVATIVES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    nn.ELU: lambda m, g, x, y: aten.elu_backward.default(g, m.alpha, 1, 1, False, x),
    nn.GELU: lambda m, g, x, y: aten.gelu_backward.default(g, x, approximate=m.approximate),
    nn.Identity: lambda m, g, x, y: g,
    nn.LeakyReLU: lambda m, g, x, y: aten.leaky_relu_backward.default(
        g, x, m.negative_slope, False
    ),
    nn.ReLU: lambda m, g, x, y: aten.threshold_backward.default(g, y, 0),
    nn.SiLU: lambda m, g, x, y: aten.silu_backward.default(g, x),
    nn.Sigmoid: lambda m, g, x, y: aten.sigmoid_backward.default(g, y),
    nn.Tanh: lambda m, g, x, y: aten.tanh_backward.default(g, y),
}


def has_manual_grad(module: nn.Module) -> bool:
    """Whether there are written gradients for all layers of a network."""
    return all(
        type(layer) in PASSES and not has_hooks(layer) and not getattr(layer, "inplace", False)
        for layer in module.modules()
    )


def make_pass(module: nn.Module, needs_input: bool) -> Pass:
    """The way there and back through a module that ``has_manual_grad``."""
    return PASSES[type(module)](module, needs_input)


class Pass(ABC):
    """There and back through a module; ``torch.no_grad`` is for the caller to enter.

    Parameters
    ----------
    module : torch.nn.Module
    needs_input : bool
        Whether ``backward`` is to return the gradient by the input.
    """

    def __init__(self, module: Any, needs_input: bool):
        self.module = module
        self.needs_input = needs_input

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """What the module says of `x`."""

    @abstractmethod
    def backward(self, gradient: Tensor) -> Any:
        """Gradient by the input, given that by the output."""


class LinearPass(Pass):
    def __init__(self, module: nn.Linear, needs_input: bool):
        super().__init__(module, needs_input)
        # Looking parameters up in a module takes as long as a small product.
        self.weight: Any = module.weight
        self.bias: Any = module.bias

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return F.linear(x, self.weight, self.bias)

    def backward(self, gradient: Tensor) -> Any:
        flat, x = gradient, self.x
        if x.ndim > 2:
            flat, x = flat.flatten(0, -2), x.flatten(0, -2)
        self.weight.grad.addmm_(flat.T, x)
        if self.bias is not None:
            self.bias.grad.add_(flat.sum(0))
        return gradient @ self.weight if self.needs_input else None


class MemberLinearPass(Pass):
    def __init__(self, module: MemberLinear, needs_input: bool):
        super().__init__(module, needs_input)
        self.weight: Any = module.weight
        self.bias: Any = module.bias

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return torch.baddbmm(self.bias, x, self.weight)

    def backward(self, gradient: Tensor) -> Any:
        self.weight.grad.baddbmm_(self.x.mT, gradient)
        self.bias.grad.add_(gradient.sum(1, keepdim=True))
        return torch.bmm(gradient, self.weight.mT) if self.needs_input else None


class ActivationPass(Pass):
    def forward(self, x: Tensor) -> Tensor:
        self.x, self.y = x, self.module(x)
        return self.y

    def backward(self, gradient: Tensor) -> Any:
        return DERIVATIVES[type(self.module)](self.module, gradient, self.x, self.y)


class DropoutPass(Pass):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.module.kept(x)
        return x if self.kept is None else x * self.kept

    def backward(self, gradient: Tensor) -> Any:
        return gradient if self.kept is None else gradient * self.kept


class ChainPass(Pass):
    """Layers one after the other."""

    def __init__(self, module: Any, needs_input: bool):
        super().__init__(module, needs_input)
        layers = module.layers if isinstance(module, MLP) else module
        self.passes = [make_pass(layer, needs_input or i > 0) for i, layer in enumerate(layers)]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.passes:
            x = step.forward(x)
        return x

    def backward(self, gradient: Tensor) -> Any:
        for step in reversed(self.passes):
            gradient = step.backward(gradient)
        return gradient


class LinearPathPass(Pass):
    """A linear map plus a network."""

    def __init__(self, module: LinearPath, needs_input: bool):
        super().__init__(module, needs_input)
        self.path = make_pass(module.path, needs_input)
        self.residual = make_pass(module.residual, needs_input)

    def forward(self, x: Tensor) -> Tensor:
        self.output, gain = self.residual.forward(x), self.module.gain
        return self.path.forward(x) + (self.output if gain is None else gain * self.output)

    def backward(self, gradient: Tensor) -> Any:
        by_path, gain = self.path.backward(gradient), self.module.gain
        if gain is not None:
            gain.grad.add_((gradient * self.output).sum(0))
            gradient = gain * gradient
        by_residual = self.residual.backward(gradient)
        return by_path + by_residual if self.needs_input else None


class BesidePass(Pass):
    """What two networks say, side by side."""

    def __init__(self, module: ConcatOutputs, needs_input: bool):
        super().__init__(module, needs_input)
        self.passes = [make_pass(network, needs_input) for network in (module.first, module.second)]

    def forward(self, x: Tensor) -> Tensor:
        first, second = (step.forward(x) for step in self.passes)
        self.widths = [first.shape[-1], second.shape[-1]]
        return torch.cat([first, second], dim=-1)

    def backward(self, gradient: Tensor) -> Any:
        parts = zip(self.passes, gradient.split(self.widths, dim=-1), strict=True)
        by_first, by_second = (step.backward(part) for step, part in parts)
        return by_first + by_second if self.needs_input else None


class VariationalPass(Pass):
    """Means and log-variances; those beyond their bounds have no gradient."""

    def __init__(self, module: VariationalEncoder, needs_input: bool):
        super().__init__(module, needs_input)
        self.network = make_pass(module.network, needs_input)

    def forward(self, x: Tensor) -> Tensor:
        self.code = self.network.forward(x)
        return self.module.clamped(self.code)

    def backward(self, gradient: Tensor) -> Any:
        beyond = self.code.abs() > MAX_LOG_VARIANCE
        beyond[..., : beyond.shape[-1] // 2] = False
        return self.network.backward(gradient.masked_fill(beyond, 0.0))


PASSES: dict[type[nn.Module], type[Pass]] = {
    nn.Linear: LinearPass,
    nn.Sequential: ChainPass,
    ConcatOutputs: BesidePass,
    Dropout: DropoutPass,
    LinearPath: LinearPathPass,
    MLP: ChainPass,
    MemberLinear: MemberLinearPass,
    VariationalEncoder: VariationalPass,
    **dict.fromkeys(DERIVATIVES, ActivationPass),
}
