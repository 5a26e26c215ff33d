"""Variational autoencoders: Gaussian encoders, and output distributions of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._autoencoder import Autoencoder
from skae.networks._layers import linear_of
from skae.networks._linear_path import LinearPath

# Bound of log-variances: exp(8) is wide enough for any latent and far from overflow.
MAX_LOG_VARIANCE = 8.0
# Narrower normal distributions of cells would memorise training rows.
LEAST_DEVIATION = 0.02


class ConcatOutputs(nn.Module):
    """The outputs of two networks, concatenated."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], dim=-1)


class VariationalEncoder(nn.Module):
    """Means and log-variances of the latents, concatenated; log-variances are clamped."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.clamp(self.network(x))

    def clamp(self, code: Tensor) -> Tensor:
        """Clamp the log-variances of a code."""
        mean, log_variance = code.chunk(2, dim=-1)
        return torch.cat([mean, log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)], dim=-1)


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose encoder outputs means and log-variances of the latents.

    The columns of its rows are [encoder inputs | targets of the likelihood | conditions];
    the decoder reads latents and conditions.

    Parameters
    ----------
    encoder, decoder : torch.nn.Module
    link : GaussianOutput, TableOutput or BernoulliOutput
    n_latents : int
    n_inputs : int
        Number of encoder inputs.
    n_conditions : int
        Number of conditions, the last columns.
    """

    link: Any

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        link: Any,
        n_latents: int,
        n_inputs: int,
        n_conditions: int = 0,
    ):
        super().__init__(encoder, decoder, link, n_latents + n_conditions)
        self.n_kept = n_latents
        self.n_inputs = n_inputs
        self.n_conditions = n_conditions

    def inputs(self, x: Tensor) -> Tensor:
        """The columns that the encoder reads."""
        return x[..., : self.n_inputs]

    def with_conditions(self, z: Tensor, x: Tensor) -> Tensor:
        """Latents, followed by the conditions of the rows `x`."""
        return torch.cat([z, x[..., x.shape[-1] - self.n_conditions :]], dim=-1)


class GaussianOutput(nn.Module):
    """Normal distributions of cells, with one trained standard deviation per column.

    Parameters
    ----------
    deviations : ndarray of shape (n_columns,)
        Initial standard deviations.
    log_slope : float
        Log-determinant of the scaling, which turns densities of scaled rows into those of X.

    """

    likelihood = "gaussian"

    def __init__(self, deviations: NDArray[np.floating], log_slope: float = 0.0):
        super().__init__()
        start = torch.from_numpy(np.maximum(deviations, 2 * LEAST_DEVIATION).astype(np.float32))
        # The inverse of softplus.
        raw = start - LEAST_DEVIATION
        self.raw_deviation = nn.Parameter(raw + torch.log(-torch.expm1(-raw)))
        self.log_slope = log_slope

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each column."""
        return LEAST_DEVIATION + F.softplus(self.raw_deviation)

    def fresh(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of one training step."""
        return x

    def forward(self, output: Tensor) -> Tensor:
        """The most likely cells."""
        return output

    def draw(self, output: Tensor, generator: torch.Generator) -> Tensor:
        """Cells drawn from their distributions."""
        noise = torch.randn(output.shape, generator=generator, device=output.device)
        return output + self.deviation * noise


class TableOutput(GaussianOutput):
    """Normal distributions of the scores of numbers, and logits of the levels of categories.

    Parameters
    ----------
    deviations : ndarray of shape (n_scores,)
    level_counts : list of int
        Number of levels of each column of codes.
    n_continuous : int
        The first `n_continuous` scores are never intervals, which cost several times as much
        as points.
    """

    likelihood = "interval"

    def __init__(
        self,
        deviations: NDArray[np.floating],
        level_counts: list[int],
        n_continuous: int,
    ):
        super().__init__(deviations)
        self.n_scores = len(deviations)
        self.level_counts = level_counts
        self.n_continuous = n_continuous

    def split(self, output: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Means of the scores, and the logits of each column of codes."""
        means, logits = output.split([self.n_scores, sum(self.level_counts)], dim=-1)
        return means, logits.split(self.level_counts, dim=-1)

    def forward(self, output: Tensor) -> Tensor:
        """The most likely scores and codes, side by side."""
        means, logits = self.split(output)
        return torch.cat([means, *(head.argmax(-1, keepdim=True) for head in logits)], dim=-1)

    def draw(self, output: Tensor, generator: torch.Generator) -> Tensor:
        means, logits = self.split(output)
        codes = [
            # Gumbel-max trick: the argmax of logits plus Gumbel noise is a categorical draw.
            (head - torch.empty_like(head).exponential_(generator=generator).log())
            .argmax(-1, keepdim=True)
            .to(head.dtype)
            for head in logits
        ]
        return torch.cat([super().draw(means, generator), *codes], dim=-1)


class BernoulliOutput(nn.Module):
    """Probabilities of cells that are 0 or 1.

    Parameters
    ----------
    is_binary : bool
        Whether all cells were 0 or 1 in training. If not, they are probabilities, and each
        step draws bits from them.
    """

    likelihood = "bernoulli"

    def __init__(self, is_binary: bool):
        super().__init__()
        self.is_binary = is_binary

    def fresh(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of one training step; probabilities become bits."""
        return x if self.is_binary else torch.bernoulli(x, generator=generator)

    def forward(self, output: Tensor) -> Tensor:
        """Probabilities."""
        return output.sigmoid()

    def draw(self, output: Tensor, generator: torch.Generator) -> Tensor:
        """Bits, or probabilities if training was given probabilities."""
        p = output.sigmoid()
        return torch.bernoulli(p, generator=generator) if self.is_binary else p


def add_probabilistic_path(
    encoder: nn.Module,
    decoder: nn.Module,
    linear: Any,
    slopes: NDArray[np.floating],
    biases: NDArray[np.floating],
) -> tuple[LinearPath, LinearPath]:
    """Add probabilistic PCA in parallel to an encoder and a decoder.

    Parameters
    ----------
    linear : ProbabilisticPCA
    slopes, biases : ndarray of shape (n_outputs,)
        Decoder outputs are ``slopes * cells + biases``, where cells are the centred
        reconstructions of `linear`.
    """
    n_latents, n_inputs = linear.projection.shape
    encoder_weight = torch.zeros(2 * n_latents, n_inputs)
    encoder_weight[:n_latents] = torch.from_numpy(linear.projection)
    decoder_weight = torch.zeros(len(biases), n_latents + linear.n_conditions)
    decoder_weight[:, :n_latents] = torch.from_numpy((linear.loadings * slopes).T)
    offset = torch.from_numpy(np.r_[-linear.projection @ linear.mean, linear.log_variances])
    encoder_path = linear_of(encoder_weight, offset.float())
    decoder_path = linear_of(decoder_weight, torch.from_numpy(biases).float())
    return (
        LinearPath(encoder_path, encoder, 2 * n_latents),
        LinearPath(decoder_path, decoder, len(biases)),
    )
