"""Manual backpropagation through dense networks, where autograd's overhead would dominate.

The steps of a training do the same to batches of the same shape. For each shape, a network is
recorded once as a list of calls between buffers; a step then runs the calls. A network that
holds any layer without a recorder is left to autograd as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from skae._engine._products import add_product, write_product
from skae.networks._layers import Dropout, has_hooks
from skae.networks._linear_path import LinearPath
from skae.networks._mlp import MLP
from skae.networks._stacked import MemberLinear
from skae.networks._variational import MAX_LOG_VARIANCE, ConcatOutputs, VariationalEncoder

aten = torch.ops.aten
functions: Any = torch._C._nn  # their stubs lack ``out``
# Of activations: (module, input, output) -> call that computes the output.
ACTIVATIONS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Callable[[], Any]]] = {
    nn.ELU: lambda m, x, y: partial(functions.elu, x, m.alpha, out=y),
    nn.GELU: lambda m, x, y: partial(functions.gelu, x, approximate=m.approximate, out=y),
    nn.LeakyReLU: lambda m, x, y: partial(functions.leaky_relu, x, m.negative_slope, out=y),
    nn.ReLU: lambda m, x, y: partial(torch.clamp_min, x, 0.0, out=y),
    nn.SiLU: lambda m, x, y: partial(functions.silu, x, out=y),
    nn.Sigmoid: lambda m, x, y: partial(torch.sigmoid, x, out=y),
    nn.Tanh: lambda m, x, y: partial(torch.tanh, x, out=y),
}
# (module, gradient, input, output, result) -> call that computes the gradient by the input.
DERIVATIVES: dict[type[nn.Module], Callable[..., Callable[[], Any]]] = {
    nn.ELU: lambda m, g, x, y, r: partial(
        aten.elu_backward.grad_input, g, m.alpha, 1, 1, False, x, grad_input=r
    ),
    nn.GELU: lambda m, g, x, y, r: partial(
        aten.gelu_backward.grad_input, g, x, approximate=m.approximate, grad_input=r
    ),
    nn.LeakyReLU: lambda m, g, x, y, r: partial(
        aten.leaky_relu_backward.grad_input, g, x, m.negative_slope, False, grad_input=r
    ),
    nn.ReLU: lambda m, g, x, y, r: partial(
        aten.threshold_backward.grad_input, g, y, 0, grad_input=r
    ),
    nn.SiLU: lambda m, g, x, y, r: partial(aten.silu_backward.grad_input, g, x, grad_input=r),
    nn.Sigmoid: lambda m, g, x, y, r: partial(aten.sigmoid_backward.grad_input, g, y, grad_input=r),
    nn.Tanh: lambda m, g, x, y, r: partial(aten.tanh_backward.grad_input, g, y, grad_input=r),
}
# Takes the gradient by a layer's output, records the calls of the backward pass, and returns
# the gradient by its input, or None if that is not needed.
Backward = Callable[[Tensor], Any]


def has_manual_grad(module: nn.Module) -> bool:
    """Whether every layer of a network has a manual gradient."""
    return all(
        type(layer) in RECORDERS and not has_hooks(layer) and not getattr(layer, "inplace", False)
        for layer in module.modules()
    )


class Pass:
    """Forward and backward pass of a module that ``has_manual_grad``, under ``torch.no_grad``.

    Outputs are overwritten by the next pass. Rows of each shape have a tape, and all tapes share
    their buffers: where several processes train, batches have many sizes.

    Parameters
    ----------
    module : torch.nn.Module
    needs_input : bool
        Whether ``backward`` returns the gradient with respect to the input.
    adds : bool
        Whether gradients are added to those of the parameters, or replace them.
    """

    def __init__(self, module: nn.Module, needs_input: bool, adds: bool = True):
        self.module = module
        self.needs_input = needs_input
        self.adds = adds
        self.tapes: dict[torch.Size, Tape] = {}
        self.buffers = Buffers()

    def forward(self, x: Tensor) -> Tensor:
        """Output of the module."""
        tape = self.tapes.get(x.shape)
        if tape is None:
            tape = Tape(self.module, x, self.needs_input, self.adds, self.buffers)
            self.tapes[x.shape] = tape
        self.tape = tape
        tape.x.copy_(x)
        for call in tape.forward:
            call()
        return tape.y

    def backward(self, gradient: Tensor) -> Any:
        """Gradient with respect to the input, given the one with respect to the output."""
        tape = self.tape
        tape.by_y.copy_(gradient)
        for call in tape.backward:
            call()
        return tape.by_x


class Buffers:
    """What the tapes of a pass share, as they run one at a time: its size is that of the largest.

    Of a larger shape, those before keep what they have: there is room to spare, so that few do.
    """

    def __init__(self) -> None:
        self.flat: list[Tensor] = []
        self.constant: Tensor | None = None

    def empty(self, place: int, shape: Any, like: Tensor) -> Tensor:
        """The buffer that a tape asks for at a place among all that it asks for."""
        n_cells = prod(shape)
        if place == len(self.flat):
            self.flat.append(like.new_empty(n_cells))
        elif n_cells > len(self.flat[place]):
            self.flat[place] = like.new_empty(n_cells + n_cells // 8)
        return self.flat[place][:n_cells].view(shape)

    def ones(self, shape: Any, like: Tensor) -> Tensor:
        """A constant, which nothing writes to."""
        n_cells = prod(shape)
        if self.constant is None or n_cells > len(self.constant):
            self.constant = like.new_ones(n_cells + n_cells // 8)
        return self.constant[:n_cells].view(shape)


class Tape:
    """The calls of a forward and a backward pass of rows of the shape of `x`."""

    def __init__(
        self, module: nn.Module, x: Tensor, needs_input: bool, adds: bool, buffers: Buffers
    ):
        self.forward: list[Callable[[], Any]] = []
        self.backward: list[Callable[[], Any]] = []
        self.like = x
        self.buffers, self.n_used = buffers, 0
        # Parameters whose gradients are added to: all, or those that a call has written.
        self.written: set[int] = {id(p) for p in module.parameters()} if adds else set()
        self.x = self.empty(x.shape)
        self.y, record_backward = record(self, module, self.x, needs_input)
        self.by_y = self.empty(self.y.shape)
        self.by_x = record_backward(self.by_y)
        del self.like, self.written, self.buffers

    def empty(self, shape: Any) -> Tensor:
        """A buffer."""
        self.n_used += 1
        return self.buffers.empty(self.n_used - 1, shape, self.like)

    def ones(self, *shape: int) -> Tensor:
        """A constant."""
        return self.buffers.ones(shape, self.like)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Record the product of the backward pass ``a @ b``, and return its buffer."""
        out = self.empty((*a.shape[:-1], b.shape[-1]))
        self.backward.append(write_product(a, b, out))
        return out

    def gradient(self, parameter: Tensor, a: Tensor, b: Tensor) -> None:
        """Record ``a @ b`` as a gradient of a parameter."""
        grad: Any = parameter.grad
        record_product = add_product if id(parameter) in self.written else write_product
        self.backward.append(record_product(a, b, grad.view(*a.shape[:-1], b.shape[-1])))
        self.written.add(id(parameter))


def record(tape: Tape, module: nn.Module, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    """Record the forward pass of a module."""
    return RECORDERS[type(module)](tape, module, x, needs_input)


def _linear(tape: Tape, layer: nn.Linear, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    y = tape.empty((*x.shape[:-1], layer.out_features))
    rows = x.view(-1, layer.in_features)
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach()
    tape.forward.append(write_product(rows, weight.T, y.view(len(rows), -1), bias))

    def backward(gradient: Tensor) -> Any:
        flat = gradient
        if gradient.ndim > 2:
            if not gradient.is_contiguous():
                flat = tape.empty(gradient.shape)
                tape.backward.append(partial(flat.copy_, gradient))
            flat = flat.view(-1, layer.out_features)
        tape.gradient(layer.weight, flat.T, rows)
        if bias is not None:
            # A product with ones takes less time than a sum.
            tape.gradient(layer.bias, tape.ones(1, len(rows)), flat)
        return tape.product(flat, weight).view(x.shape) if needs_input else None

    return y, backward


def _member_linear(
    tape: Tape, layer: MemberLinear, x: Tensor, needs_input: bool
) -> tuple[Tensor, Backward]:
    weight = layer.weight.detach()
    y = tape.empty((*x.shape[:-1], weight.shape[-1]))
    tape.forward.append(partial(torch.baddbmm, layer.bias.detach(), x, weight, out=y))

    def backward(gradient: Tensor) -> Any:
        tape.gradient(layer.weight, x.mT, gradient)
        tape.gradient(layer.bias, tape.ones(len(x), 1, x.shape[1]), gradient)
        return tape.product(gradient, weight.mT) if needs_input else None

    return y, backward


def _activation(tape: Tape, module: Any, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    y = tape.empty(x.shape)
    tape.forward.append(ACTIVATIONS[type(module)](module, x, y))

    def backward(gradient: Tensor) -> Any:
        result = tape.empty(x.shape)
        tape.backward.append(DERIVATIVES[type(module)](module, gradient, x, y, result))
        return result

    return y, backward


def _identity(tape: Tape, module: Any, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    return x, lambda gradient: gradient


def _dropout(tape: Tape, module: Dropout, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    y, mask = tape.empty(x.shape), tape.empty(x.shape)

    def draw() -> None:
        drawn = module.draw_mask(x)
        if drawn is None:
            mask.fill_(1.0)
        else:
            mask.copy_(drawn)
        torch.mul(x, mask, out=y)

    def backward(gradient: Tensor) -> Any:
        result = tape.empty(x.shape)
        tape.backward.append(partial(torch.mul, gradient, mask, out=result))
        return result

    tape.forward.append(draw)
    return y, backward


def _chain(tape: Tape, module: Any, x: Tensor, needs_input: bool) -> tuple[Tensor, Backward]:
    """Layers in sequence."""
    backwards: list[Backward] = []
    for layer in module.layers if isinstance(module, MLP) else module:
        x, backward = record(tape, layer, x, needs_input or bool(backwards))
        backwards.append(backward)

    def backward_all(gradient: Tensor) -> Any:
        for backward in reversed(backwards):
            gradient = backward(gradient)
        return gradient

    return x, backward_all


def _linear_path(
    tape: Tape, module: LinearPath, x: Tensor, needs_input: bool
) -> tuple[Tensor, Backward]:
    """A linear map plus a network."""
    residual, residual_backward = record(tape, module.residual, x, needs_input)
    path, path_backward = record(tape, module.path, x, needs_input)
    y, gain = tape.empty(path.shape), module.gain
    if gain is None:
        tape.forward.append(partial(torch.add, path, residual, out=y))
    else:
        tape.forward.append(partial(torch.addcmul, path, gain.detach(), residual, out=y))

    def backward(gradient: Tensor) -> Any:
        by_path, by_residual = path_backward(gradient), gradient
        if gain is not None:
            by_residual, by_gain = tape.empty(gradient.shape), tape.empty(gradient.shape)
            tape.backward.append(partial(torch.mul, gradient, residual, out=by_gain))
            rows = by_gain.view(-1, len(gain))
            tape.gradient(gain, tape.ones(1, len(rows)), rows)
            tape.backward.append(partial(torch.mul, gradient, gain.detach(), out=by_residual))
        by_residual = residual_backward(by_residual)
        return _total(tape, by_path, by_residual) if needs_input else None

    return y, backward


def _concat(
    tape: Tape, module: ConcatOutputs, x: Tensor, needs_input: bool
) -> tuple[Tensor, Backward]:
    """The concatenated outputs of two networks."""
    first, first_backward = record(tape, module.first, x, needs_input)
    second, second_backward = record(tape, module.second, x, needs_input)
    widths = [first.shape[-1], second.shape[-1]]
    y = tape.empty((*x.shape[:-1], sum(widths)))
    tape.forward.append(partial(torch.cat, [first, second], dim=-1, out=y))

    def backward(gradient: Tensor) -> Any:
        by_first, by_second = gradient.split(widths, dim=-1)
        by_first, by_second = first_backward(by_first), second_backward(by_second)
        return _total(tape, by_first, by_second) if needs_input else None

    return y, backward


def _total(tape: Tape, first: Tensor, second: Tensor) -> Tensor:
    total = tape.empty(first.shape)
    tape.backward.append(partial(torch.add, first, second, out=total))
    return total


def _variational(
    tape: Tape, module: VariationalEncoder, x: Tensor, needs_input: bool
) -> tuple[Tensor, Backward]:
    """Means and log-variances; where a log-variance is clamped, its gradient is zero."""
    code, code_backward = record(tape, module.network, x, needs_input)
    y = tape.empty(code.shape)
    tape.forward.append(lambda: y.copy_(module.clamp(code)))

    def backward(gradient: Tensor) -> Any:
        result = tape.empty(gradient.shape)

        def mask() -> None:
            is_clamped = code.abs() > MAX_LOG_VARIANCE
            is_clamped[..., : code.shape[-1] // 2] = False  # means are not
            result.copy_(gradient.masked_fill(is_clamped, 0.0))

        tape.backward.append(mask)
        return code_backward(result)

    return y, backward


RECORDERS: dict[type[nn.Module], Callable[..., tuple[Tensor, Backward]]] = {
    nn.Identity: _identity,
    nn.Linear: _linear,
    nn.Sequential: _chain,
    ConcatOutputs: _concat,
    Dropout: _dropout,
    LinearPath: _linear_path,
    MLP: _chain,
    MemberLinear: _member_linear,
    VariationalEncoder: _variational,
    **dict.fromkeys(DERIVATIVES, _activation),
}
