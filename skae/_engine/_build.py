"""From names and numbers to an initialised network."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from skae._engine._runtime import borrowed_global_generator, generator
from skae._linear import FittedPCA
from skae.networks._autoencoder import Autoencoder, OutputLink
from skae.networks._layers import initialize
from skae.networks._linear_path import add_linear_path
from skae.networks._mlp import MLPNetwork


def build_autoencoder(
    network: Any,
    n_features: int,
    n_components: int,
    *,
    link: OutputLink,
    pca: FittedPCA | None,
    tied: bool,
    seed: int,
) -> Autoencoder:
    """Build encoder and decoder, draw their weights, start them at PCA if given.

    Parameters
    ----------
    network : object with ``build(n_features, n_components)``
        Ours draw no random numbers; a user's own may, from torch's global generator,
        which is seeded for the occasion and restored.
    pca : FittedPCA or None
        The linear path to start from.
    """
    ours = type(network).__module__.startswith("skae.")
    draws = generator(seed)
    if ours:
        encoder, decoder = network.build(n_features, n_components)
        initialize(encoder, draws)
        initialize(decoder, draws)
    else:
        with borrowed_global_generator(seed):
            encoder, decoder = network.build(n_features, n_components)
        _check_shapes(network, encoder, decoder, n_features, n_components)
    if pca is not None:
        directions = pca.directions[:n_components]
        encoder, decoder = add_linear_path(
            encoder, decoder, pca.mean, directions, pca.scale, n_components, draws, tied
        )
    return Autoencoder(encoder, decoder, link, n_components)


def make_link(activation: str, center: NDArray[Any], scale: NDArray[Any]) -> OutputLink:
    """The output link of a network whose rows were scaled by `center` and `scale`."""
    return OutputLink(activation, center, scale)


def mlp(hidden: tuple[int, ...], activation: str, dropout: float, tied: bool) -> MLPNetwork:
    """The network that stands behind ``network=None``."""
    return MLPNetwork(hidden, activation, dropout, tied)


@torch.no_grad()
def _check_shapes(
    network: Any, encoder: Any, decoder: Any, n_features: int, n_components: int
) -> None:
    was_training = encoder.training, decoder.training
    encoder.eval()
    decoder.eval()
    z = encoder(torch.zeros(2, n_features))
    if z.shape != (2, n_components):
        raise ValueError(
            f"network={network!r}: the encoder maps (2, {n_features}) to {tuple(z.shape)}; "
            f"it must map to (2, {n_components}), one column per latent."
        )
    x = decoder(z)
    if x.shape != (2, n_features):
        raise ValueError(
            f"network={network!r}: the decoder maps (2, {n_components}) to {tuple(x.shape)}; "
            f"it must map to (2, {n_features}), one column per feature."
        )
    encoder.train(was_training[0])
    decoder.train(was_training[1])
