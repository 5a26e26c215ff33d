"""The autoencoder module: encoder, decoder and output link."""

from __future__ import annotations

from typing import Any

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

    @property
    def n_outputs(self) -> int:
        """Width of the decoder's output."""
        return len(self.center)

    @property
    def n_columns(self) -> int:
        """Number of columns of the table."""
        return len(self.center)

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


class LatentBasis(nn.Module):
    """An affine map from the codes of an encoder to the latents that users read, and back.

    Parameters
    ----------
    center : ndarray of shape (n_latents,)
        The code of which all latents are zero.
    to_latents, to_codes : ndarray of shape (n_latents, n_latents)
        A matrix and its inverse.
    """

    center: Tensor
    to_latents: Tensor
    to_codes: Tensor

    def __init__(self, center: np.ndarray, to_latents: np.ndarray, to_codes: np.ndarray):
        super().__init__()
        for name, values in zip(
            ("center", "to_latents", "to_codes"), (center, to_latents, to_codes), strict=True
        ):
            # States of the module that callbacks keep are older: without a basis.
            self.register_buffer(
                name, torch.from_numpy(values.astype(np.float32)), persistent=False
            )

    def forward(self, code: Tensor) -> Tensor:
        """Latents of codes."""
        with torch.autocast(code.device.type, enabled=False):
            return F.linear(code.float() - self.center, self.to_latents)

    def inverse(self, z: Tensor) -> Tensor:
        """Codes of latents, of the first ones if there are fewer."""
        k = z.shape[-1]
        with torch.autocast(z.device.type, enabled=False):
            return F.linear(z.float(), self.to_codes[:k, :k], self.center[:k])


class Autoencoder(nn.Module):
    """Encoder, decoder and output link; ``forward`` returns tensors, never a loss.

    Inputs have shape (..., n, n_features): members of an ensemble may have an axis before
    the rows. Encoder and decoder speak of codes, and are trained on them; what ``encode`` gives
    and ``decode`` takes are latents, the same in another basis if there is one.

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

    @property
    def basis(self) -> Any:
        """The ``LatentBasis``, or None where latents are the codes themselves."""
        return self._modules.get("latent_basis")

    def set_basis(self, basis: LatentBasis | None) -> None:
        """Express latents in another basis from now on."""
        self._modules.pop("latent_basis", None)
        if basis is not None:
            self.add_module("latent_basis", basis)

    def code(self, x: Tensor) -> Tensor:
        """Encoder outputs of scaled rows."""
        return self.encoder(self.inputs(x))

    def kept_code(self, x: Tensor) -> Tensor:
        """Codes of scaled rows, of shape (..., n, n_kept).

        They are the first outputs; those of a variational encoder are the means, followed
        by the log-variances.
        """
        return self.code(x)[..., : self.n_kept]

    def encode(self, x: Tensor) -> Tensor:
        """Latents of scaled rows, of shape (..., n, n_kept)."""
        code = self.kept_code(x)
        return code if self.basis is None else self.basis(code)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled rows for latents."""
        return self.link(self.decode_raw(z))

    def reconstruct(self, x: Tensor, n_latents: int | None = None) -> Tensor:
        """Reconstructions of scaled rows, from the first `n_latents` latents only if given."""
        return self.decode_code(self.kept_code(x)[..., :n_latents])

    def decode_raw(self, z: Tensor) -> Tensor:
        """Decoder outputs for latents, before the output link."""
        return self.decode_code_raw(z if self.basis is None else self.basis.inverse(z))

    def decode_code(self, code: Tensor) -> Tensor:
        """Scaled rows for codes; missing trailing ones are zero."""
        return self.link(self.decode_code_raw(code))

    def decode_code_raw(self, code: Tensor) -> Tensor:
        """Decoder outputs for codes, before the output link."""
        n_missing = self.n_latents - code.shape[-1]
        return self.decoder(F.pad(code, (0, n_missing)) if n_missing else code)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's raw output, and the codes."""
        code = self.kept_code(x)
        return self.decode_code_raw(code), code
