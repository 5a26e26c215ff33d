"""Skip connections that are linear: a network added to one starts as PCA."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._layers import linear_of


class LinearPath(nn.Module):
    """A linear map plus a network that starts at zero."""

    def __init__(self, path: nn.Module, residual: nn.Module, n_outputs: int, gated: bool = False):
        super().__init__()
        self.path = path
        self.residual = residual
        self.gain: nn.Parameter | None = None
        start_at_zero: Any = getattr(residual, "start_at_zero", None)
        # A user's network is multiplied by a gain of zero. So is a tied one: zero weights in
        # both its halves would be a saddle point that takes hundreds of epochs to leave.
        if gated or start_at_zero is None:
            self.gain = nn.Parameter(torch.zeros(n_outputs))
        else:
            start_at_zero()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.residual(x)
        return self.path(x) + (residual if self.gain is None else self.gain * residual)


class TiedLinear(nn.Module):
    """The transpose of a linear map, times a fixed factor, with its own bias."""

    def __init__(self, layer: nn.Linear, factor: float, bias: Tensor):
        super().__init__()
        # In a tuple, its weights do not become parameters of this module.
        self._layer = (layer,)

        self.factor = factor
        self.bias = nn.Parameter(bias)

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z * self.factor, self._layer[0].weight.T, self.bias)


def add_linear_path(
    encoder: nn.Module,
    decoder: nn.Module,
    pca: Any,
    n_components: int,
    generator: torch.Generator,
    tied: bool,
) -> tuple[LinearPath, LinearPath]:
    """Add PCA in parallel to an encoder and a decoder.

    Latents are divided by the scales of `pca` (a ``FittedPCA``). If there are more latents
    than directions, the others are random projections whose decoder weights are zero, so
    that the sum is still PCA.
    """
    n_directions = min(n_components, len(pca.directions))
    n_features = pca.directions.shape[1]
    projection = torch.zeros(n_components, pca.projection.shape[1])
    projection[:n_directions] = torch.from_numpy(pca.projection[:n_directions].astype(np.float32))
    directions = torch.zeros(n_components, n_features)
    directions[:n_directions] = torch.from_numpy(pca.directions[:n_directions].astype(np.float32))
    surplus = torch.randn(n_components - n_directions, projection.shape[1], generator=generator)
    if not tied:
        projection[n_directions:] = F.normalize(surplus)
    center = torch.from_numpy(pca.mean.astype(np.float32))
    input_center = torch.from_numpy(pca.input_mean.astype(np.float32))
    scales = torch.full((n_components, 1), pca.scale, dtype=torch.float64)
    scales[:n_directions, 0] = torch.from_numpy(pca.scales[:n_directions])
    scales = scales.float()
    projection = projection / scales
    encoder_path = linear_of(projection, -projection @ input_center)
    decoder_path: nn.Module
    if tied:
        decoder_path = TiedLinear(encoder_path, pca.scale**2, center)
    else:
        decoder_path = linear_of((directions * scales).T.contiguous(), center)
    return (
        LinearPath(encoder_path, encoder, n_components, tied),
        LinearPath(decoder_path, decoder, n_features, tied),
    )
