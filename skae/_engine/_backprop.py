"""Manual backpropagation through dense networks, where autograd's overhead would dominate.

A network becomes a tree of passes: ``forward`` stores what ``backward`` needs, and
``backward`` adds to the gradients of the parameters. A network that holds any layer
without a pass is left to autograd as a whole.
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
# Backward functions of activations: (module, gradient, input, output) -> gradient.
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
    """Whether every layer of a network has a manual gradient."""
    return all(
        type(layer) in PASSES and not has_hooks(layer) and not getattr(layer, "inplace", False)
        for layer in module.modules()
    )


def make_pass(module: nn.Module, needs_input: bool) -> Pass:
    """The pass through a module that ``has_manual_grad``."""
    return PASSES[type(module)](module, needs_input)


class Pass(ABC):
    """Forward and backward pass of a module, to be run under ``torch.no_grad``.

    Parameters
    ----------
    module : torch.nn.Module
    needs_input : bool
        Whether ``backward`` returns the gradient with respect to the input.
    """

    def __init__(self, module: Any, needs_input: bool):
        self.module = module
        self.needs_input = needs_input

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Output of the module."""

    @abstractmethod
    def backward(self, gradient: Tensor) -> Any:
        """Gradient with respect to the input, given the one with respect to the output."""


class LinearPass(Pass):
    def __init__(self, module: nn.Linear, needs_input: bool):
        super().__init__(module, needs_input)
        # Looking a parameter up in a module costs as much as a small matrix product.
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
        self.mask = self.module.draw_mask(x)
        return x if self.mask is None else x * self.mask

    def backward(self, gradient: Tensor) -> Any:
        return gradient if self.mask is None else gradient * self.mask


class ChainPass(Pass):
    """Layers in sequence."""

    def __init__(self, module: Any, needs_input: bool):
        super().__init__(module, needs_input)
        layers = module.layers if isinstance(module, MLP) else module
        self.passes = [make_pass(layer, needs_input or i > 0) for i, layer in enumerate(layers)]

    def forward(self, x: Tensor) -> Tensor:
        for layer_pass in self.passes:
            x = layer_pass.forward(x)
        return x

    def backward(self, gradient: Tensor) -> Any:
        for layer_pass in reversed(self.passes):
            gradient = layer_pass.backward(gradient)
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
        path_gradient, gain = self.path.backward(gradient), self.module.gain
        if gain is not None:
            gain.grad.add_((gradient * self.output).sum(0))
            gradient = gain * gradient
        residual_gradient = self.residual.backward(gradient)
        return path_gradient + residual_gradient if self.needs_input else None


class ConcatPass(Pass):
    """The concatenated outputs of two networks."""

    def __init__(self, module: ConcatOutputs, needs_input: bool):
        super().__init__(module, needs_input)
        self.passes = [make_pass(network, needs_input) for network in (module.first, module.second)]

    def forward(self, x: Tensor) -> Tensor:
        first, second = (network_pass.forward(x) for network_pass in self.passes)
        self.widths = [first.shape[-1], second.shape[-1]]
        return torch.cat([first, second], dim=-1)

    def backward(self, gradient: Tensor) -> Any:
        parts = zip(self.passes, gradient.split(self.widths, dim=-1), strict=True)
        first, second = (network_pass.backward(part) for network_pass, part in parts)
        return first + second if self.needs_input else None


class VariationalPass(Pass):
    """Means and log-variances; where a log-variance is clamped, its gradient is zero."""

    def __init__(self, module: VariationalEncoder, needs_input: bool):
        super().__init__(module, needs_input)
        self.network = make_pass(module.network, needs_input)

    def forward(self, x: Tensor) -> Tensor:
        self.code = self.network.forward(x)
        return self.module.clamp(self.code)

    def backward(self, gradient: Tensor) -> Any:
        is_clamped = self.code.abs() > MAX_LOG_VARIANCE
        is_clamped[..., : is_clamped.shape[-1] // 2] = False  # means are not
        return self.network.backward(gradient.masked_fill(is_clamped, 0.0))


PASSES: dict[type[nn.Module], type[Pass]] = {
    nn.Linear: LinearPass,
    nn.Sequential: ChainPass,
    ConcatOutputs: ConcatPass,
    Dropout: DropoutPass,
    LinearPath: LinearPathPass,
    MLP: ChainPass,
    MemberLinear: MemberLinearPass,
    VariationalEncoder: VariationalPass,
    **dict.fromkeys(DERIVATIVES, ActivationPass),
}
