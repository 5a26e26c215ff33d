"""Losses, likelihoods and penalties.

Losses are computed per cell or row and then reduced, so that training and scores share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._autoencoder import Autoencoder, OutputLink
from skae.networks._layers import weights_of

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
# Intervals narrower than this share of the standard deviation are approximated by their
# midpoint's density times their width.
NARROW = 0.05
# Logarithms of ratios of tail probabilities are at most minus this: at zero there is no width.
LEAST_LOG_RATIO = 1e-6


def binary_cross_entropy(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    # Scaling may round to an ulp outside [0, 1].
    target = link.unscale(x).clamp(0.0, 1.0)
    return F.binary_cross_entropy_with_logits(link.logits(output), target, reduction="none")


def _huber(error: Tensor) -> Tensor:
    clamped = error.clamp(-1.0, 1.0)
    return clamped * (error - 0.5 * clamped)


# Losses of errors (output minus target) and their derivatives, per cell.
ERROR_LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "absolute_error": (torch.abs, torch.sign),
    "cauchy": (lambda e: e.square().log1p(), lambda e: 2.0 * e / (1.0 + e.square())),
    "huber": (_huber, lambda e: e.clamp(-1.0, 1.0)),
    "squared_error": (torch.square, lambda e: 2.0 * e),
}


def _error_loss(
    loss: Callable[[Tensor], Tensor], link: OutputLink, output: Tensor, x: Tensor
) -> Tensor:
    return loss(link(output) - x)


CELL_LOSSES: dict[str, Callable[[OutputLink, Tensor, Tensor], Tensor]] = {
    **{name: partial(_error_loss, loss) for name, (loss, _) in ERROR_LOSSES.items()},
    "binary_cross_entropy": binary_cross_entropy,
}


def mean_over_rows(losses: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Weighted mean of cells or rows; weights have mean one over all rows."""
    if sample_weight is None:
        return losses.mean()
    return (losses.mean(dim=-1) * sample_weight).mean()


def kl_to_standard_normal(code: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1), in nats per row.

    `code` holds means, then log-variances.
    """
    mean, log_variance = code.chunk(2, dim=-1)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


class IntervalLogLikelihood(torch.autograd.Function):
    """Log-probability of an interval under a normal distribution; for a point, log-density.

    With ``a = (low - mean) / s``, ``b = (high - mean) / s``, the distribution function F and
    the density f of the standard normal distribution, and ``P = F(b) - F(a)`` [1]_::

        log L            = log P
        d log L / d mean = (f(a) - f(b)) / (s P)
        d log L / d s    = (a f(a) - b f(b)) / (s P)

    Intervals narrower than ``NARROW * s`` use the density at the midpoint ``m = (a + b) / 2``.
    For points, ``low == high``, the term ``log(high - low)`` is left out::

        log L            = log f(m) - log s + log(high - low)
        d log L / d mean = m / s
        d log L / d s    = (m**2 - 1) / s

    The gradient is manual: autograd's takes several times as long.

    References
    ----------
    .. [1] D. F. Heitjan, "Inference from grouped continuous data: a review", Statistical
       Science 4, 1989.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
        a, b = (low - mean) / deviation, (high - mean) / deviation
        midpoint = 0.5 * (a + b)
        # Reflect intervals into the lower tail, where log_ndtr is accurate.
        flip = midpoint > 0
        a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
        log_b = torch.special.log_ndtr(b)
        # log P = log F(b) + log(1 - F(a) / F(b)). Equal probabilities would give log(0): the
        # clamped value is not used.
        log_ratio = (torch.special.log_ndtr(a) - log_b).clamp(max=-LEAST_LOG_RATIO)
        log_p = log_b + torch.log(-torch.expm1(log_ratio))
        # f / P: the density of the truncated distribution at its ends.
        density_a = torch.exp(-0.5 * a.square() - LOG_ROOT_TWO_PI - log_p)
        density_b = torch.exp(-0.5 * b.square() - LOG_ROOT_TWO_PI - log_p)
        d_mean = torch.where(flip, density_b - density_a, density_a - density_b)
        d_deviation = a * density_a - b * density_b
        width = high - low
        is_narrow = width < NARROW * deviation
        log_density = -0.5 * midpoint.square() - LOG_ROOT_TWO_PI - torch.log(deviation)
        log_density = log_density + torch.log(torch.where(width > 0, width, 1.0))
        d_mean = torch.where(is_narrow, midpoint, d_mean) / deviation
        d_deviation = torch.where(is_narrow, midpoint.square() - 1.0, d_deviation) / deviation
        ctx.save_for_backward(d_mean, d_deviation)
        return torch.where(is_narrow, log_density, log_p)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        d_mean, d_deviation = ctx.saved_tensors
        return gradients[0] * d_mean, gradients[0] * d_deviation, None, None


def interval_log_likelihood(mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log-likelihood of intervals, per cell."""
    return IntervalLogLikelihood.apply(mean, deviation.expand_as(mean), low, high)


def normal_log_density(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Logarithm of the density of a normal distribution, per cell."""
    return -0.5 * ((x - mean) / deviation).square() - torch.log(deviation) - LOG_ROOT_TWO_PI


def _table_log_likelihood(link: Any, output: Tensor, x: Tensor) -> Tensor:
    """Of rows [scores | levels | lower ends | upper ends | codes | log slope | conditions]."""
    n_scores, n_codes = link.n_scores, len(link.level_counts)
    means, logits = link.split(output)
    targets = x[..., output.shape[-1] :][..., : 2 * n_scores + n_codes + 1]
    low, high, codes, log_slope = targets.split([n_scores, n_scores, n_codes, 1], dim=-1)
    deviation = link.deviation
    n = link.n_continuous
    # A missing cell is an interval that holds all values: its log-likelihood is 0.
    points = normal_log_density(low[..., :n], means[..., :n], deviation[:n])
    points = torch.where(low[..., :n] == high[..., :n], points, 0.0)
    cells = interval_log_likelihood(means[..., n:], deviation[n:], low[..., n:], high[..., n:])
    total = log_slope[..., 0] + points.sum(dim=-1) + cells.sum(dim=-1)
    for i, head in enumerate(logits):
        code = codes[..., i : i + 1].expand(*head.shape[:-1], 1)
        log_probs = head.log_softmax(dim=-1).gather(-1, code.clamp(min=0).long())
        # A negative code is a missing level: its log-likelihood is 0.
        total = total + torch.where(code < 0, 0.0, log_probs)[..., 0]
    return total


def _gaussian_log_likelihood(link: Any, output: Tensor, x: Tensor) -> Tensor:
    target = x[..., : output.shape[-1]]
    return normal_log_density(target, output, link.deviation).sum(dim=-1) + link.log_slope


def _bernoulli_log_likelihood(link: Any, output: Tensor, x: Tensor) -> Tensor:
    target = x[..., : output.shape[-1]].expand_as(output)
    return -F.binary_cross_entropy_with_logits(output, target, reduction="none").sum(dim=-1)


LOG_LIKELIHOODS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "bernoulli": _bernoulli_log_likelihood,
    "gaussian": _gaussian_log_likelihood,
    "interval": _table_log_likelihood,
}


def log_likelihood(link: Any, output: Tensor, x: Tensor) -> Tensor:
    """Log-likelihood of rows given decoder outputs, in nats per row."""
    return LOG_LIKELIHOODS[link.likelihood](link, output, x)


class EvidenceBound(nn.Module):
    """The negative evidence lower bound, in nats per row.

    Parameters
    ----------
    beta : float
        Factor of the divergence of the posterior from the prior (Higgins et al., beta-VAE,
        2017).
    warmup : float
        Share of the steps in which that factor rises linearly from zero.
    """

    def __init__(self, beta: float = 1.0, warmup: float = 0.0):
        super().__init__()
        self.beta = beta
        self.warmup = warmup
        self.begin(0)

    def begin(self, n_steps: int) -> None:
        """Start a training of `n_steps`."""
        self.n_warm_steps = self.warmup * n_steps
        self.n_steps_done = 0

    def step(self) -> float:
        """The factor of the divergence for the next step."""
        self.n_steps_done += 1
        if self.n_steps_done >= self.n_warm_steps:
            return self.beta
        return self.beta * self.n_steps_done / self.n_warm_steps

    def has_manual_grad(self, link: Any) -> bool:
        """Whether there is a manual gradient: not for a bound with this many terms."""
        return False

    def rows(self, link: Any, output: Tensor, code: Tensor, x: Tensor, beta: float) -> Tensor:
        """The bound of each row."""
        return beta * kl_to_standard_normal(code) - log_likelihood(link, output, x)


class Objective(nn.Module):
    """What training minimises: a reconstruction loss and penalties.

    Parameters
    ----------
    loss : str
        A key of ``CELL_LOSSES``.
    l1 : float
        Factor of the sum of the absolute weights.
    sparsity : float
        Factor of the penalty on the latents.
    sparsity_penalty : {"l1", "kl"}
        Mean absolute latent, or the Kullback-Leibler divergence between
        Bernoulli(`sparsity_target`) and Bernoulli(mean |tanh z|), summed over latents.
    sparsity_target : float
    kl : float
        Factor of the divergence of the posterior from the prior, in nats per cell as the
        reconstruction loss; codes are then means and log-variances.
    missing : bool
        Whether rows may hold NaN.
    """

    def __init__(
        self,
        loss: str = "squared_error",
        l1: float = 0.0,
        sparsity: float = 0.0,
        sparsity_penalty: str = "l1",
        sparsity_target: float = 0.05,
        kl: float = 0.0,
        missing: bool = False,
    ):
        super().__init__()
        self.loss = loss
        self.l1 = l1
        self.sparsity = sparsity
        self.sparsity_penalty = sparsity_penalty
        self.sparsity_target = sparsity_target
        self.kl = kl
        self.missing = missing

    def reconstruction(
        self, link: OutputLink, output: Tensor, x: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss of a batch without penalties: the validation loss."""
        return mean_over_rows(self.cells(link, output, x), sample_weight)

    def has_manual_grad(self, link: OutputLink) -> bool:
        """Whether ``with_gradient`` covers the whole objective."""
        is_plain = self.loss in ERROR_LOSSES and link.activation == "identity"
        return is_plain and not (self.l1 or self.sparsity or self.kl)

    def with_gradient(
        self, link: OutputLink, output: Tensor, x: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction loss of a batch, and its gradient with respect to the output."""
        error = output - x
        if self.missing:
            error.masked_fill_(x.isnan(), 0.0)
        if self.loss == "squared_error" and sample_weight is None:
            flat = error.flatten()
            return torch.dot(flat, flat).div_(len(flat)), error.mul_(2.0 / len(flat))
        loss, derivative = ERROR_LOSSES[self.loss]
        gradient = derivative(error).div_(error.numel())
        if sample_weight is not None:
            gradient = gradient * sample_weight[..., None]
        return mean_over_rows(loss(error), sample_weight), gradient

    def cells(self, link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
        """Loss of each cell; zero if the cell is missing."""
        if self.missing:
            # Masking the losses instead would not do: NaN times zero is NaN in the gradient.
            x = torch.where(x.isnan(), link(output).detach(), x)
        return CELL_LOSSES[self.loss](link, output, x)

    def penalty(self, module: Autoencoder, z: Tensor) -> Tensor | float:
        """Penalties on weights and codes."""
        total: Tensor | float = 0.0
        if self.l1:
            weights = [weight.abs().sum() for weight in weights_of(module)]
            total = total + self.l1 * torch.stack(weights).sum()
        if self.sparsity:
            total = total + self.sparsity * self._latent_penalty(z)
        if self.kl:
            n_features = module.link.n_columns
            total = total + self.kl * kl_to_standard_normal(z).mean() / n_features
        return total

    def _latent_penalty(self, z: Tensor) -> Tensor:
        if self.sparsity_penalty == "l1":
            return z.abs().mean()
        rho = self.sparsity_target
        activity = z.tanh().abs().mean(dim=0).clamp(1e-6, 1 - 1e-6)
        divergence = rho * torch.log(rho / activity)
        divergence = divergence + (1 - rho) * torch.log((1 - rho) / (1 - activity))
        return divergence.sum()


class MixedObjective(Objective):
    """An objective for rows of numbers and indicators of levels, which may hold NaN.

    Parameters
    ----------
    cell_weights : ndarray of shape (n_inputs,)
        Factors of the losses of scaled cells: the loss of a number as it is, and the squared error
        of an indicator, whatever the loss.
    n_features : int
        Number of columns of the table; the mean over cells is that over columns.
    **kwargs : dict
        Parameters of ``Objective``.
    """

    weights: Tensor

    def __init__(self, cell_weights: NDArray[Any], n_features: int, **kwargs: Any):
        super().__init__(missing=True, **kwargs)
        weights = cell_weights * (len(cell_weights) / n_features)
        self.register_buffer("weights", torch.from_numpy(weights.astype(np.float32)))

    def has_manual_grad(self, link: Any) -> bool:
        return not (self.l1 or self.sparsity or self.kl)

    def with_gradient(
        self, link: Any, output: Tensor, x: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scaled, pullback = link.with_pullback(output)
        error = (scaled - x).masked_fill_(x.isnan(), 0.0)
        losses, derivatives = self._of_errors(link, error)
        gradient = derivatives * (self.weights / error.numel())
        if sample_weight is not None:
            gradient = gradient * sample_weight[..., None]
        return mean_over_rows(losses * self.weights, sample_weight), pullback(gradient)

    def cells(self, link: Any, output: Tensor, x: Tensor) -> Tensor:
        scaled = link(output)
        error = scaled - torch.where(x.isnan(), scaled.detach(), x)
        return self._of_errors(link, error)[0] * self.weights

    def _of_errors(self, link: Any, error: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of the errors of cells, and their derivatives."""
        if self.loss == "squared_error":
            return error.square(), 2.0 * error
        loss, derivative = ERROR_LOSSES[self.loss]
        numbers, levels = error[..., : link.n_scores], error[..., link.n_scores :]
        losses = torch.cat([loss(numbers), levels.square()], dim=-1)
        return losses, torch.cat([derivative(numbers), 2.0 * levels], dim=-1)
