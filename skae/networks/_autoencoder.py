"""The autoencoder module: encoder, decoder and output link."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Slope of the logit at 1/2: along this tangent a network that starts at PCA stays close to it.
LOGIT_SLOPE = 4.0


class OutputLink(nn.Module):
    """Output activation, applied in the units of X.

    The decoder's output is scaled, and the bounds of ``logistic`` and ``relu`` are those of
    ``X = scaled * scale + center``.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, activation: str, center: np.ndarray, scale: np.ndarray):
        super().__init__()
        self.activation = activation
        with np.errstate(over="ignore"):  # not read without an activation
            self.register_buffer("center", torch.from_numpy(center.astype(np.float32)))
            self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))

    def unscale(self, x: Tensor) -> Tensor:
        """Scaled rows in the units of X."""
        return x * self.scale + self.center

    def logits(self, output: Tensor) -> Tensor:
        return LOGIT_SLOPE * (self.unscale(output) - 0.5)

    def forward(self, output: Tensor) -> Tensor:
        """The decoder's output as scaled rows."""
        if self.activation == "identity":
            return output
        if self.activation == "relu":
            return (torch.relu(self.unscale(output)) - self.center) / self.scale
        return (torch.sigmoid(self.logits(output)) - self.center) / self.scale


class Autoencoder(nn.Module):
    """Encoder, decoder and output link; ``forward`` returns tensors, never a loss.

    Inputs have shape (..., n, n_features): members of an ensemble may have an axis before
    the rows.

    Parameters
    ----------
    encoder, decoder : torch.nn.Module
    link : OutputLink
    n_latents : int
        Width of the decoder's input.
    missing : bool
        Whether rows may hold NaN.

    Attributes
    ----------
    n_kept : int
        Number of leading latents in use; the decoder reads zeros for the others.
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
        """Encoder inputs of scaled rows; missing cells become 0, the centre of the scaling."""
        return x.nan_to_num(0.0) if self.missing else x

    def code(self, x: Tensor) -> Tensor:
        """Encoder outputs of scaled rows."""
        return self.encoder(self.inputs(x))

    def encode(self, x: Tensor) -> Tensor:
        """Latents of scaled rows, of shape (..., n, n_kept).

        They are the first outputs; those of a variational encoder are the means, followed
        by the log-variances.
        """
        return self.code(x)[..., : self.n_kept]

    def decode(self, z: Tensor) -> Tensor:
        """Scaled rows for latents; missing trailing latents are zero."""
        return self.link(self.decode_raw(z))

    def reconstruct(self, x: Tensor, n_latents: int | None = None) -> Tensor:
        """Reconstructions of scaled rows, from the first `n_latents` latents only if given."""
        return self.decode(self.encode(x)[..., :n_latents])

    def decode_raw(self, z: Tensor) -> Tensor:
        """Decoder outputs before the output link."""
        n_missing = self.n_latents - z.shape[-1]
        return self.decoder(F.pad(z, (0, n_missing)) if n_missing else z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's raw output, and the latents."""
        z = self.encode(x)
        return self.decode_raw(z), z
