"""The linear path beside a network: at the start, the sum of both is PCA."""

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
        # A network we know nothing of starts behind a closed gate; a tied one too: zeros
        # in both its halves would be a saddle that takes hundreds of epochs to leave.
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
    """Put PCA's map beside an encoder and a decoder.

    Latents are divided by the scales of `pca` (a ``FittedPCA``). Those past the number of
    its directions read random directions and write nothing, so the sum is still PCA.
    """
    n_directions = min(n_components, len(pca.directions))
    n_features = pca.directions.shape[1]
    read, write = (
        torch.zeros(n_components, pca.projection.shape[1]),
        torch.zeros(n_components, n_features),
    )
    read[:n_directions] = torch.from_numpy(pca.projection[:n_directions].astype(np.float32))
    write[:n_directions] = torch.from_numpy(pca.directions[:n_directions].astype(np.float32))
    surplus = torch.randn(n_components - n_directions, read.shape[1], generator=generator)
    if not tied:
        read[n_directions:] = F.normalize(surplus)
    center = torch.from_numpy(pca.mean.astype(np.float32))
    input_center = torch.from_numpy(pca.input_mean.astype(np.float32))
    scales = torch.full((n_components, 1), pca.scale, dtype=torch.float64)
    scales[:n_directions, 0] = torch.from_numpy(pca.scales[:n_directions])
    scales = scales.float()
    into = linear_of(read / scales, -(read / scales) @ input_center)
    out: nn.Module
    if tied:
        out = TiedLinear(into, pca.scale**2, center)
    else:
        out = linear_of((write * scales).T.contiguous(), center)
    return LinearPath(into, encoder, n_components, tied), LinearPath(out, decoder, n_features, tied)
