"""AdamW on all parameters in one flat tensor, and its learning rate schedule.

Matrices may be moved by orthogonalised momentum instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from skae._engine._flat_layout import flattened, shaped
from skae._engine._orthogonal import OrthogonalSteps

BETAS = (0.9, 0.999)
EPSILON = 1e-8
# Shares of the steps in which the learning rate rises and falls.
RISE, FALL = 0.1, 0.4
# With orthogonal updates, whose size does not depend on the gradient's.
ORTHOGONAL_RISE = 0.03


class FlatAdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay [1]_ and gradient clipping [2]_.

    In the context ``flat``, parameters and their gradients are views of two flat tensors. A
    step is then one kernel per group, not one per parameter: in small networks,
    ``torch.optim.AdamW`` takes as long to walk its lists as forward and backward together.

    The gradient g of all parameters is clipped by its norm::

        g <- g / max(1, |g| / max_norm)

    torch's fused kernel divides gradients by its argument ``grad_scale``, meant for the
    loss scaling of mixed precision, and writes the quotient back. The denominator above takes
    its place, so that clipping costs no pass over the gradients of its own.

    Parameters
    ----------
    groups : list of dict
        ``params``, ``weight_decay``, ``share``, a factor of the learning rate, and
        ``orthogonal``, whether they are moved by ``OrthogonalSteps``.
    lr : float
    max_norm : float
        Largest norm of the gradient of all parameters together.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [2] R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML 2013.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, max_norm: float):
        defaults = {"lr": lr, "weight_decay": 0.0, "share": 1.0, "max_norm": max_norm}
        defaults["orthogonal"] = False
        super().__init__(groups, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; the method of torch would import its compiler, for two seconds."""
        self.param_groups.append({**self.defaults, **param_group})

    @contextmanager
    def flat(self) -> Iterator[None]:
        """Make the parameters views of one tensor; afterwards each has its own storage again."""
        groups = [group["params"] for group in self.param_groups]
        parameters = [p for group in groups for p in group]
        dtypes = sorted({str(p.dtype) for p in parameters})
        if len(dtypes) > 1:
            raise TypeError(f"network: its parameters are of {dtypes}; all must be of one type.")
        self.values = values = torch.cat([flattened(p) for p in parameters])
        self.gradients = torch.zeros_like(values)
        sizes = [p.numel() for p in parameters]
        pieces = zip(parameters, values.split(sizes), self.gradients.split(sizes), strict=True)
        for parameter, value, gradient in pieces:
            parameter.data = shaped(value, parameter)
            parameter.grad = shaped(gradient, parameter)
        sizes = [sum(p.numel() for p in group) for group in groups]
        slices = zip(
            self.param_groups, values.split(sizes), self.gradients.split(sizes), strict=True
        )
        self.flat_groups = [
            (group, group_values, self._rule(group, group_values, group_gradients))
            for group, group_values, group_gradients in slices
            if group["params"]
        ]
        self.record_frozen()
        n_groups = len(self.flat_groups)
        # A captured step reads its learning rates on the device.
        self.rates: Any = values.new_empty(n_groups) if values.is_cuda else [0.0] * n_groups
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
                parameter.grad = None
            del self.values, self.gradients, self.flat_groups, self.frozen, self.rates

    def _rule(
        self, group: dict[str, Any], values: Tensor, gradients: Tensor
    ) -> AdamSteps | OrthogonalSteps:
        """What moves a group; its state is that of the group's first parameter."""
        state = self.state[group["params"][0]]
        if not state:
            state["exp_avg"] = torch.zeros_like(values)
            if not group["orthogonal"]:
                state["exp_avg_sq"] = torch.zeros_like(values)
                state["step"] = torch.zeros((), device=values.device)
        if group["orthogonal"]:
            return OrthogonalSteps(group["params"], gradients, state["exp_avg"])
        return AdamSteps(gradients, state)

    def load_rates(self) -> None:
        """Copy the groups' learning rates to where ``step`` reads them."""
        for i, (group, *_) in enumerate(self.flat_groups):
            self.rates[i] = group["lr"]

    def record_frozen(self) -> None:
        """Note the parameters that are frozen now, and their values."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.frozen = [(p, p.detach().clone()) for p in parameters if not p.requires_grad]

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set all gradients to zero in place."""
        self.gradients.zero_()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the parameters with clipped gradients."""
        with torch.no_grad():
            self.update()

    def update(self) -> None:
        """What ``step`` does, which torch wraps in calls of its profiler; without gradients."""
        if not (self.gradients.is_cuda and torch.cuda.is_current_stream_capturing()):
            self.load_rates()
        for parameter, _ in self.frozen:
            parameter.grad.zero_()
        norm = torch.linalg.vector_norm(self.gradients)
        clip_divisor = norm.div_(self.defaults["max_norm"]).clamp_(min=1.0)
        for rate, (group, values, rule) in zip(self.rates, self.flat_groups, strict=True):
            rule.step(values, rate, group["weight_decay"], clip_divisor)
        for parameter, value in self.frozen:
            parameter.copy_(value)


class AdamSteps:
    """Steps of one group by the kernel of ``torch.optim.AdamW(fused=True)``."""

    def __init__(self, gradients: Tensor, state: dict[str, Tensor]):
        self.gradients = gradients
        self.state = state["exp_avg"], state["exp_avg_sq"], state["step"]

    def step(self, values: Tensor, rate: Any, weight_decay: float, clip_divisor: Tensor) -> None:
        """Move the flat `values` of all parameters."""
        averages, squares, n_steps = self.state
        n_steps.add_(1)
        torch._fused_adamw_(
            [values],
            [self.gradients],
            [averages],
            [squares],
            [],
            [n_steps],
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            grad_scale=clip_divisor,
        )


def trapezoid(n_steps: int, peak: float, rise: float = RISE) -> list[float]:
    """Learning rates that rise linearly, stay at their peak and fall linearly to zero."""
    rates = []
    for step in range(1, n_steps + 1):
        share = step / (n_steps + 1)
        rates.append(peak * min(share / rise, 1.0, (1.0 - share) / FALL))
    return rates
