"""Corruption of inputs and latents, in training only."""

from __future__ import annotations

import torch
from torch import Tensor


class Corruption:
    """Noise on inputs and latents, and nested dropout of latents.

    Parameters
    ----------
    generator : torch.Generator
        Where all draws come from.
    input_noise, latent_noise : float
        Standard deviations of Gaussian noise, in the units of scaled rows and of latents.
    ordered : bool
        Nested dropout (Rippel et al., 2014): in each row the latents past a random
        index are zeroed, so the first latents learn what matters most.
    variational : bool
        Codes are means and log-variances side by side, and the noise has these variances.
    """

    def __init__(
        self,
        generator: torch.Generator,
        input_noise: float = 0.0,
        latent_noise: float = 0.0,
        ordered: bool = False,
        variational: bool = False,
    ):
        self.generator = generator
        self.input_noise = input_noise
        self.latent_noise = latent_noise
        self.ordered = ordered
        self.variational = variational

    def inputs(self, x: Tensor) -> Tensor:
        """Rows as the encoder sees them."""
        return self._add_gaussian(x, self.input_noise)

    def latents(self, code: Tensor) -> Tensor:
        """Latents as the decoder sees them."""
        if self.variational:
            mean, log_variance = code.chunk(2, dim=-1)
            noise = torch.randn(mean.shape, generator=self.generator, device=mean.device)
            return mean + noise * torch.exp(0.5 * log_variance)
        z = self._add_gaussian(code, self.latent_noise)
        if self.ordered:
            n, k = z.shape
            kept = torch.randint(1, k + 1, (n, 1), generator=self.generator, device=z.device)
            z = z * (torch.arange(k, device=z.device) < kept)
        return z

    def _add_gaussian(self, x: Tensor, deviation: float) -> Tensor:
        if not deviation:
            return x
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        return torch.add(x, noise, alpha=deviation)
