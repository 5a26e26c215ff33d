"""Losses per row first, then reduced: a loss and a score cannot drift apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._autoencoder import Autoencoder, OutputLink
from skae.networks._layers import weights_of


def squared_error(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    return F.mse_loss(link(output), x, reduction="none")


def absolute_error(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    return F.l1_loss(link(output), x, reduction="none")


def huber(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    return F.huber_loss(link(output), x, reduction="none")


def binary_cross_entropy(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    # Rounding in the scaling may leave [0, 1] by an ulp.
    target = link.bounded(x).clamp(0.0, 1.0)
    return F.binary_cross_entropy_with_logits(link.logits(output), target, reduction="none")


def cauchy(link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
    return torch.log1p(torch.square(link(output) - x))


CELL_LOSSES: dict[str, Callable[[OutputLink, Tensor, Tensor], Tensor]] = {
    "absolute_error": absolute_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cauchy": cauchy,
    "huber": huber,
    "squared_error": squared_error,
}


def mean_over_rows(losses: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Weighted mean of cells or rows; weights have mean one over all rows."""
    if sample_weight is None:
        return losses.mean()
    return (losses.mean(dim=-1) * sample_weight).mean()


def kl_to_standard_normal(code: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1), in nats per row.

    `code` holds means and log-variances side by side.
    """
    mean, log_variance = code.chunk(2, dim=-1)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


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
        Factor of the divergence of the posterior from the prior (codes are then means and
        log-variances), in nats per cell as the reconstruction loss is.
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
        """Loss of a batch without penalties; this is what validation compares."""
        return mean_over_rows(self.cells(link, output, x), sample_weight)

    def cells(self, link: OutputLink, output: Tensor, x: Tensor) -> Tensor:
        """Loss of each cell; of missing ones, zero."""
        if self.missing:
            # Not a mask on the losses: the gradient of a NaN is NaN even times zero.
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
            n_features = module.link.center.numel()
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
