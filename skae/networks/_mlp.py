"""Symmetric feed-forward encoders and decoders."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae.networks._layers import ACTIVATIONS, Dropout, zero


@dataclass
class MLPNetwork:
    """Feed-forward encoder and the mirrored decoder.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(128, 64)
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : str, default="silu"
        One of ``"elu"``, ``"gelu"``, ``"identity"``, ``"leaky_relu"``,
        ``"logistic"``, ``"relu"``, ``"silu"``, ``"tanh"``.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weight matrices, transposed.

    Examples
    --------
    >>> from skae.networks import MLPNetwork
    >>> encoder, decoder = MLPNetwork(hidden_layer_sizes=(16,)).build(20, 3)
    """

    hidden_layer_sizes: tuple[int, ...] = (128, 64)
    activation: str = "silu"
    dropout: float = 0.0
    tied_weights: bool = False

    def build(self, n_features: int, n_components: int) -> tuple[nn.Module, nn.Module]:
        """Return an encoder and a decoder.

        Parameters
        ----------
        n_features : int
            Number of columns of the data.
        n_components : int
            Number of latents.

        Returns
        -------
        encoder, decoder : torch.nn.Module
            Modules that map (n, n_features) to (n, n_components) and back.
        """
        sizes = [n_features, *self.hidden_layer_sizes, n_components]
        encoder = MLP(sizes, self.activation, self.dropout)
        if self.tied_weights:
            return encoder, TiedMLP(encoder)
        return encoder, MLP(sizes[::-1], self.activation, self.dropout)


class MLP(nn.Module):
    """Linear layers with an activation (and dropout) after all but the last."""

    def __init__(self, sizes: list[int], activation: str, dropout: float = 0.0):
        super().__init__()
        self.sizes = sizes
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes[:-1]):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    @property
    def output_layer(self) -> nn.Module:
        return self.layers[-1]

    def start_at_zero(self) -> None:
        zero(self.output_layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TiedMLP(nn.Module):
    """An MLP in reverse: the same weight matrices, transposed, with separate biases."""

    def __init__(self, mlp: MLP):
        super().__init__()
        # In a tuple, the weights do not become parameters of this module: they count once.

        self._layers = (mlp.layers,)
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(n_out)) for n_out in mlp.sizes[-2::-1]
        )

    def forward(self, z: Tensor) -> Tensor:
        h, bias = z, iter(self.biases)
        layer: Any
        for layer in reversed(self._layers[0]):
            is_linear = isinstance(layer, nn.Linear)
            h = F.linear(h, layer.weight.T, next(bias)) if is_linear else layer(h)
        return h
