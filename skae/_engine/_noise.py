"""Noise on inputs, latents and cells in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Takes the gradient with respect to a function's output, returns the one for its input.
Gradient = Callable[[Tensor], Tensor]


class Corruption:
    """Noise on inputs and latents, and nested dropout of latents.

    Parameters
    ----------
    generator : torch.Generator
    input_noise, latent_noise : float or Tensor
        Standard deviations of Gaussian noise, in the units of scaled rows and of latents.
    ordered : bool
        Nested dropout (Rippel et al., 2014): in each row the latents past a random
        index are zeroed, so that the first latents learn what matters most.
    variational : bool
        Codes are means, then log-variances, and latents are drawn from these normal
        distributions.
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
        """Rows with noise."""
        return self._add_gaussian(x, self.input_noise)

    def latents(self, code: Tensor) -> tuple[Tensor, Gradient]:
        """Latents with noise, and the function from their gradient to the code's."""
        if self.variational:
            return draw_posterior(code, self.generator)
        z = self._add_gaussian(code, self.latent_noise)
        if not self.ordered:
            return z, identity
        n, k = z.shape
        n_kept = torch.randint(1, k + 1, (n, 1), generator=self.generator, device=z.device)
        mask = torch.arange(k, device=z.device) < n_kept
        return z * mask, lambda gradient: gradient * mask

    def _add_gaussian(self, x: Tensor, deviation: float | Tensor) -> Tensor:
        if isinstance(deviation, float | int) and deviation == 0:
            return x
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        if isinstance(deviation, Tensor):
            return torch.addcmul(x, noise, deviation)
        return torch.add(x, noise, alpha=deviation)


def identity(gradient: Tensor) -> Tensor:
    """The gradient of ``x + noise`` with respect to x."""
    return gradient


def draw_posterior(code: Tensor, draws: torch.Generator) -> tuple[Tensor, Gradient]:
    """Draw latents by reparametrisation (Kingma & Welling, 2014).

    Returns them and the function from their gradient to that of `code`.
    """
    mean, log_variance = code.chunk(2, dim=-1)
    noise = torch.randn(mean.shape, generator=draws, device=code.device)
    deviation = noise * torch.exp(0.5 * log_variance)
    return mean + deviation, lambda g: torch.cat([g, 0.5 * g * deviation], dim=-1)


def sample_posterior(code: Tensor, draws: torch.Generator) -> Tensor:
    """Draw latents from the normal distributions that `code` describes."""
    return draw_posterior(code, draws)[0]


def latents_at(code: Tensor, noise: Tensor) -> Tensor:
    """Latents for given standard normal `noise`: mean + noise * standard deviation."""
    mean, log_variance = code.chunk(2, dim=-1)
    return mean + noise * torch.exp(0.5 * log_variance)


def gaussian(x: Tensor, level: Tensor, draws: torch.Generator) -> Tensor:
    return x + level * torch.randn(x.shape, generator=draws, device=x.device)


def masking(x: Tensor, level: Tensor, draws: torch.Generator, column_of: Any = None) -> Tensor:
    # Each row has a random share, so that few and many missing cells occur.
    share = 2.0 * level * torch.rand((len(x), 1), generator=draws, device=x.device)
    hit = torch.rand(_shape(x, column_of), generator=draws, device=x.device) < share
    return x.masked_fill(hit if column_of is None else hit[:, column_of], torch.nan)


def salt_and_pepper(
    x: Tensor, level: Tensor, draws: torch.Generator, low: Any, high: Any
) -> Tensor:
    uniform = torch.rand(x.shape, generator=draws, device=x.device)
    x = torch.where(uniform < level / 2, low, x)
    return torch.where((level / 2 <= uniform) & (uniform < level), high, x)


def swap(x: Tensor, level: Tensor, draws: torch.Generator, column_of: Any = None) -> Tensor:
    shape = _shape(x, column_of)
    hit = torch.rand(shape, generator=draws, device=x.device) < level
    donors = torch.randint(len(x), shape, generator=draws, device=x.device)
    if column_of is not None:
        hit, donors = hit[:, column_of], donors[:, column_of]
    values = x.gather(0, donors)
    return torch.where(hit & ~values.isnan(), values, x)


def _shape(x: Tensor, column_of: Any) -> tuple[int, int]:
    """Of draws for rows: one for each column of the table whose cells these are.

    `column_of` are the columns of encoded cells, some of which share one; None if none do.
    """
    return len(x), x.shape[1] if column_of is None else int(column_of.max()) + 1


NOISES: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian,
    "masking": masking,
    "salt_and_pepper": salt_and_pepper,
    "swap": swap,
}


class CellNoise:
    """Noise on the cells of scaled rows; missing cells stay missing.

    Parameters
    ----------
    kind : str or callable
        A key of ``NOISES``, or a function of rows in the units of the data and a
        ``numpy.random.Generator``.
    level : float or ndarray of shape (n_features,)
        Standard deviation of Gaussian noise, or the mean share of the cells that are changed.
    masked : float
        Mean share of the cells that are set to missing in addition.
    scaler : Scaler
        The scaler of the rows; salt and pepper are its minima and maxima.
    generator : torch.Generator
    varies : bool
        Whether each row has its own level, from 0 to twice this one.
    """

    def __init__(
        self,
        kind: Any,
        level: Any,
        masked: float,
        *,
        scaler: Any,
        generator: torch.Generator,
        varies: bool = False,
    ):
        device = generator.device
        self.kind = kind
        self.level = torch.as_tensor(level, dtype=torch.float32, device=device)
        self.masked = torch.as_tensor(masked, dtype=torch.float32, device=device)
        self.scaler = scaler
        bounds = np.stack([scaler.data_min_, scaler.data_max_])
        self.extremes = torch.from_numpy(scaler.transform(bounds)).to(device)
        self.generator = generator
        self.varies = varies

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
        level = self.level
        if self.varies:
            level = 2.0 * level * torch.rand((len(x), 1), generator=self.generator, device=x.device)
        return NOISES[self.kind](x, level, self.generator, *extremes)

    def _by_callable(self, x: Tensor) -> Tensor:
        seed = torch.randint(2**62, (), generator=self.generator, device=x.device)
        rows = self.scaler.inverse_transform(x.cpu().numpy())
        noisy = call_noise(self.kind, rows, np.random.default_rng(int(seed)))
        return torch.from_numpy(self.scaler.transform(noisy)).to(x.device)


def call_noise(
    noise: Callable[..., Any], rows: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Apply a user's function to rows in the units of the data, and check the result."""
    noisy = np.asarray(noise(rows.copy(), rng), dtype=np.float64)
    if noisy.shape != rows.shape:
        raise ValueError(
            f"noise={noise!r} turned rows of shape {rows.shape} into {noisy.shape}; the "
            "shape must stay as it is."
        )
    return noisy
