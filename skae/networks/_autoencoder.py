"""The whole network: encoder, decoder and the link that bounds its output."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OutputLink(nn.Module):
    """Bound the decoder's output, in units where the bounds mean something.

    Rows are scaled; ``logistic`` and ``relu`` speak of X itself. `center` and `scale`
    lead from one to the other.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, activation: str, center: np.ndarray, scale: np.ndarray):
        super().__init__()
        self.activation = activation
        self.register_buffer("center", torch.from_numpy(center.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))

    def bounded(self, x: Tensor) -> Tensor:
        """Scaled rows in the units of the bounds."""
        return x * self.scale + self.center

    def logits(self, output: Tensor) -> Tensor:
        # The tangent of the logit at 1/2, so that the linear path starts near PCA.
        return 4.0 * (self.bounded(output) - 0.5)

    def forward(self, output: Tensor) -> Tensor:
        """The decoder's output as scaled rows."""
        if self.activation == "identity":
            return output
        if self.activation == "relu":
            return (torch.relu(self.bounded(output)) - self.center) / self.scale
        return (torch.sigmoid(self.logits(output)) - self.center) / self.scale


class Autoencoder(nn.Module):
    """Encoder, decoder and output link; ``forward`` returns tensors, never a loss.

    Rows stand in the last axis but one: members of an ensemble may come before it.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        link: OutputLink,
        n_latents: int,
        missing: bool = False,
    ):
        super().__init__()
        self.missing = missing
        self.encoder = encoder
        self.decoder = decoder
        self.link = link
        self.n_latents = n_latents
        self.n_kept = n_latents

    def inputs(self, x: Tensor) -> Tensor:
        """What the encoder reads of scaled rows: of a missing cell, the centre."""
        return x.nan_to_num(0.0) if self.missing else x

    def code(self, x: Tensor) -> Tensor:
        """What the encoder says of scaled rows."""
        return self.encoder(self.inputs(x))

    def encode(self, x: Tensor) -> Tensor:
        """Latents of scaled rows, of shape (..., n, n_kept).

        They come first in the code: in that of a variational encoder, too, which is
        means and log-variances side by side.
        """
        return self.code(x)[..., : self.n_kept]

    def decode(self, z: Tensor) -> Tensor:
        """Scaled rows of latents; latents that were not kept are zero."""
        return self.link(self.decode_raw(z))

    def reconstruct(self, x: Tensor, n_latents: int | None = None) -> Tensor:
        """Scaled rows there and back, through the first latents only if so many are given."""
        return self.decode(self.encode(x)[..., :n_latents])

    def decode_raw(self, z: Tensor) -> Tensor:
        """What the decoder says before the output link."""
        missing = self.n_latents - z.shape[-1]
        return self.decoder(F.pad(z, (0, missing)) if missing else z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's raw output, and the latents."""
        z = self.encode(x)
        return self.decode_raw(z), z
