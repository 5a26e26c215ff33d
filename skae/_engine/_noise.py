"""Corruption of inputs and latents, in training only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# From the gradient by what came out to that by what went in.
Gradient = Callable[[Tensor], Tensor]


class Corruption:
    """Noise on inputs and latents, and nested dropout of latents.

    Parameters
    ----------
    generator : torch.Generator
        Where all draws come from.
    input_noise, latent_noise : float or Tensor
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
        input_noise: float | Tensor = 0.0,
        latent_noise: float | Tensor = 0.0,
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

    def latents(self, code: Tensor) -> tuple[Tensor, Gradient]:
        """Latents as the decoder sees them, and what makes their gradient the code's."""
        if self.variational:
            return draw_posterior(code, self.generator)
        z = self._add_gaussian(code, self.latent_noise)
        if not self.ordered:
            return z, as_it_is
        n, k = z.shape
        n_kept = torch.randint(1, k + 1, (n, 1), generator=self.generator, device=z.device)
        kept = torch.arange(k, device=z.device) < n_kept
        return z * kept, lambda gradient: gradient * kept

    def _add_gaussian(self, x: Tensor, deviation: float | Tensor) -> Tensor:
        if isinstance(deviation, float | int) and deviation == 0:
            return x
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        return x + deviation * noise


def as_it_is(gradient: Tensor) -> Tensor:
    """The gradient through a sum with something else."""
    return gradient


def draw_posterior(code: Tensor, draws: torch.Generator) -> tuple[Tensor, Gradient]:
    """Latents drawn from the distributions that an encoder says, and their gradient."""
    mean, log_variance = code.chunk(2, dim=-1)
    noise = torch.randn(mean.shape, generator=draws, device=code.device)
    spread = noise * torch.exp(0.5 * log_variance)
    return mean + spread, lambda g: torch.cat([g, 0.5 * g * spread], dim=-1)


def sample_posterior(code: Tensor, draws: torch.Generator) -> Tensor:
    """Latents drawn from the distributions that an encoder says."""
    return draw_posterior(code, draws)[0]


def latents_at(code: Tensor, noise: Tensor) -> Tensor:
    """Latents where a standard normal distribution would have drawn `noise`."""
    mean, log_variance = code.chunk(2, dim=-1)
    return mean + noise * torch.exp(0.5 * log_variance)


def gaussian(x: Tensor, level: Tensor, draws: torch.Generator) -> Tensor:
    return x + level * torch.randn(x.shape, generator=draws, device=x.device)


def masking(x: Tensor, level: Tensor, draws: torch.Generator) -> Tensor:
    # A share of its own for each row, so that both few and many missing cells are met.
    share = 2.0 * level * torch.rand((len(x), 1), generator=draws, device=x.device)
    return x.masked_fill(torch.rand(x.shape, generator=draws, device=x.device) < share, torch.nan)


def salt_and_pepper(
    x: Tensor, level: Tensor, draws: torch.Generator, low: Any, high: Any
) -> Tensor:
    uniform = torch.rand(x.shape, generator=draws, device=x.device)
    x = torch.where(uniform < level / 2, low, x)
    return torch.where((level / 2 <= uniform) & (uniform < level), high, x)


def swap(x: Tensor, level: Tensor, draws: torch.Generator) -> Tensor:
    hit = torch.rand(x.shape, generator=draws, device=x.device) < level
    donors = torch.randint(len(x), x.shape, generator=draws, device=x.device)
    taken = x.gather(0, donors)
    return torch.where(hit & ~taken.isnan(), taken, x)


NOISES: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian,
    "masking": masking,
    "salt_and_pepper": salt_and_pepper,
    "swap": swap,
}


class CellNoise:
    """Makes scaled rows noisy; missing cells stay missing.

    Parameters
    ----------
    kind : str or callable
        A key of ``NOISES``, or a function of rows in the units of the data and a
        ``numpy.random.Generator``.
    level : float or ndarray of shape (n_features,)
        Standard deviation of Gaussian noise, else the mean share of the cells.
    masked : float
        Mean share of the cells that are taken away besides.
    scaler : Scaler
        What the rows were scaled by; pepper and salt are the extremes that it met.
    generator : torch.Generator
    """

    def __init__(
        self,
        kind: Any,
        level: Any,
        masked: float,
        *,
        scaler: Any,
        generator: torch.Generator,
    ):
        device = generator.device
        self.kind = kind
        self.level = torch.as_tensor(level, dtype=torch.float32, device=device)
        self.masked = torch.as_tensor(masked, dtype=torch.float32, device=device)
        self.scaler = scaler
        bounds = np.stack([scaler.least_, scaler.most_])
        self.extremes = torch.from_numpy(scaler.transform(bounds)).to(device)
        self.generator = generator

    def __call__(self, x: Tensor) -> Tensor:
        """Noisy copies of scaled rows."""
        noisy = self._noisy(x)
        if x.isnan().any():
            noisy = torch.where(x.isnan(), x, noisy)
        return masking(noisy, self.masked, self.generator) if self.masked > 0 else noisy

    def _noisy(self, x: Tensor) -> Tensor:
        if callable(self.kind):
            return self._by_callable(x)
        extremes = self.extremes if self.kind == "salt_and_pepper" else ()
        return NOISES[self.kind](x, self.level, self.generator, *extremes)

    def _by_callable(self, x: Tensor) -> Tensor:
        seed = torch.randint(2**62, (), generator=self.generator, device=x.device)
        rows = self.scaler.inverse_transform(x.cpu().numpy())
        noisy = call_noise(self.kind, rows, np.random.default_rng(int(seed)))
        return torch.from_numpy(self.scaler.transform(noisy)).to(x.device)


def call_noise(
    noise: Callable[..., Any], rows: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """What a user's function makes of rows, in the units of the data."""
    noisy = np.asarray(noise(rows.copy(), rng), dtype=np.float64)
    if noisy.shape != rows.shape:
        raise ValueError(
            f"noise={noise!r} turned rows of shape {rows.shape} into {noisy.shape}; the "
            "shape must stay as it is."
        )
    return noisy
