"""Orthogonalised momentum: updates of weight matrices whose singular values are all about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skae._engine._flat_layout import flat_shape
from skae.networks._layers import weights_of
from skae.networks._linear_path import LinearPath
from skae.networks._stacked import MemberLinear

MOMENTUM = 0.95
# Root mean square of the entries of an update, relative to the learning rate: that of Adam.
UPDATE_SIZE = 0.2
# Coefficients a, b, c of the polynomial, and how often it is applied.
COEFFICIENTS, N_ROUNDS = (3.4445, -4.7750, 2.0315), 3
# Steps that share a root on a CPU; on a GPU, a captured step cannot count.
STEPS_PER_ROOT = 8
# Squares of momenta below this are taken for zero.
LEAST_SQUARE = 1e-30


def matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """Weights to be moved by orthogonal updates: matrices, but for those of linear paths.

    Paths start at a solution. Kernels of convolutions are no matrices.
    """
    layers = list(module.modules())
    stacked = [layer.weight for layer in layers if isinstance(layer, MemberLinear)]
    paths = [layer.path for layer in layers if isinstance(layer, LinearPath)]
    left_out = {id(p) for path in paths for p in path.parameters()}
    kept = [p for p in weights_of(module) if id(p) not in left_out]
    return [p for p in kept if p.ndim == 2 or any(p is weight for weight in stacked)]


class OrthogonalSteps:
    """Steps of the matrices of one group by the method of Jordan et al. [1]_.

    With the gradient G of a matrix W of r rows and c columns, the rate h, the decay w and the
    momentum m = 0.95::

        M <- m M + (1 - m) G
        U  = m M + (1 - m) G
        W <- (1 - h w) W - 0.2 h sqrt(max(r, c)) inv_root(U U.T) U

    ``inv_root(U U.T) U``, with the symmetric root, is the orthogonal matrix nearest to U: all
    singular values become one. Its entries are then as large as those of Adam's updates [2]_.

    The root is that of the smaller of ``U U.T`` and ``U.T U``, found by ``inverse_root``. As
    momentum changes slowly, steps on a CPU share a root, as preconditioners do elsewhere
    [3]_. An update that the root makes longer than an orthogonal matrix is shortened to that:
    gradients may have turned to where there were none.

    Parameters
    ----------
    parameters : list of Parameter
        Of shape (r, c), or (n, r, c) for n matrices that do not know of each other.
    gradients, momenta : Tensor
        Flat tensors that hold those of all parameters.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    .. [2] J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025.
    .. [3] V. Gupta, T. Koren, Y. Singer, "Shampoo: preconditioned stochastic tensor
       optimization", ICML 2018.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], gradients: Tensor, momenta: Tensor):
        self.gradients, self.momenta = gradients, momenta
        self.moves = torch.zeros_like(gradients)
        self.steps_per_root = 1 if gradients.is_cuda else STEPS_PER_ROOT
        self.n_steps = 0
        stacks = [p.shape if p.ndim > 2 else (1, *flat_shape(p)) for p in parameters]
        # Matrices whose smaller sides agree have their roots computed together.
        counts: dict[int, int] = {}
        for n, *sides in stacks:
            counts[min(sides)] = counts.get(min(sides), 0) + n
        self.roots = {side: gradients.new_zeros(n, side, side) for side, n in counts.items()}
        self.products = []
        pieces = [flat.split([p.numel() for p in parameters]) for flat in (gradients, self.moves)]
        limits: list[float] = []
        for (n, *sides), gradient, move in zip(stacks, *pieces, strict=True):
            side = min(sides)
            begin = counts[side] = counts[side] - n
            root = self.roots[side][begin : begin + n]
            scale = UPDATE_SIZE * max(sides) ** 0.5
            update, move = gradient.view(n, *sides), move.view(n, *sides)
            self.products.append((update, root, move, side == sides[0], scale))
            limits += [scale * side**0.5] * n
        self.singles = [single for _, _, move, *_ in self.products for single in move]
        self.limits = gradients.new_tensor(limits)

    def step(self, values: Tensor, rate: Any, weight_decay: float, clip_divisor: Tensor) -> None:
        """Move the flat `values` of all parameters; their gradients are overwritten."""
        self.gradients.div_(clip_divisor)
        self.momenta.lerp_(self.gradients, 1.0 - MOMENTUM)
        self.gradients.lerp_(self.momenta, MOMENTUM)
        if self.n_steps % self.steps_per_root == 0:
            self._renew_roots()
        self.n_steps += 1
        for update, root, move, is_left, _ in self.products:
            torch.bmm(*((root, update) if is_left else (update, root)), out=move)
        if self.steps_per_root > 1:
            norms = torch.stack(torch._foreach_norm(self.singles))
            for move, factor in zip(self.singles, (self.limits / norms).tolist(), strict=True):
                if factor < 1.0:
                    move.mul_(factor)
        if weight_decay:
            values.mul_(1.0 - rate * weight_decay)
        values.sub_(self.moves.mul_(rate))

    def _renew_roots(self) -> None:
        for update, root, _, is_left, _ in self.products:
            torch.bmm(*((update, update.mT) if is_left else (update.mT, update)), out=root)
        for roots in self.roots.values():
            roots.copy_(inverse_root(roots))
        for _, root, _, _, scale in self.products:
            root.mul_(scale)


def inverse_root(grams: Tensor) -> Tensor:
    """Approximate inverse square roots of symmetric matrices, of shape (n, s, s).

    The rounds ``X <- (a I + b A + c A A) X, A = X X.T`` bring the singular values of X, if
    these are 1 at most, to between 0.7 and 1.2 [1]_. Here they are carried out on ``A = U
    U.T``, with the product P of the polynomials, so that ``P U`` is what X would become::

        Q = a I + b A + c A A,    P <- Q P,    A <- Q A Q

    Directions that U hardly has do not get beyond ``a**rounds`` times their size.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = COEFFICIENTS
    gram = grams.float() if grams.dtype in (torch.bfloat16, torch.float16) else grams
    # What has not moved stays until its root is renewed.
    peak = gram.abs().amax(dim=(1, 2), keepdim=True)
    is_moving = peak > LEAST_SQUARE
    gram = torch.where(is_moving, gram / peak.clamp(min=LEAST_SQUARE), 0.0)
    # The largest eigenvalue is no larger than this norm, whose squares must not underflow.
    norm = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True).clamp(min=1.0)
    gram = gram / norm
    product = gram
    for i in range(N_ROUNDS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = torch.bmm(factor, product) if i else factor
        if i < N_ROUNDS - 1:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    scale = torch.where(is_moving, (peak.clamp(min=LEAST_SQUARE) * norm).rsqrt(), 0.0)
    return (product * scale).to(grams.dtype)
