"""From names and numbers to an initialised network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skae._engine._batches import SourceRows
from skae._engine._runtime import borrowed_global_generator, generator
from skae._linear import FittedPCA, fit_pca
from skae.networks._autoencoder import Autoencoder, OutputLink
from skae.networks._conv import ConvNetwork
from skae.networks._linear_path import add_linear_path
from skae.networks._members import stack_members
from skae.networks._mlp import MLPNetwork
from skae.networks._variational import VariationalEncoder

# The PCA start is computed from all rows up to so many rows and cells (128 MiB), and
# from a random sample of that size above.
MIN_ROWS_FOR_PCA, MAX_ROWS_FOR_PCA = 1_000, 16_384
MAX_CELLS_FOR_PCA = 2**25


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
        It draws from torch's global generator, seeded for the occasion and restored.
    pca : FittedPCA or None
        The linear path to start from.
    """
    with borrowed_global_generator(seed):
        encoder, decoder = network.build(n_features, n_components)
    if not is_ours(network):
        _check_shapes(network, encoder, decoder, n_features, n_components)
    if pca is not None:
        directions = pca.directions[:n_components]
        encoder, decoder = add_linear_path(
            encoder, decoder, pca.mean, directions, pca.scale, n_components, generator(seed), tied
        )
    return Autoencoder(encoder, decoder, link, n_components)


def build_members(
    network: Any,
    n_features: int,
    n_components: int,
    *,
    link: OutputLink,
    pca: FittedPCA | None,
    variational: bool,
    seeds: list[int],
) -> Autoencoder:
    """Build an autoencoder for each seed and stack them, for rows that may miss cells.

    Parameters
    ----------
    variational : bool
        Whether encoders say a mean and a log-variance for each latent.
    """

    def build(seed: int, pca: FittedPCA | None = pca) -> Autoencoder:
        return build_autoencoder(
            network, n_features, n_components, link=link, pca=pca, tied=False, seed=seed
        )

    members = [build(seed) for seed in seeds]
    encoders: list[nn.Module] = [member.encoder for member in members]
    if variational:
        spreads = [build(seed + 1, pca=None).encoder for seed in seeds]
        encoders = list(map(VariationalEncoder, encoders, spreads))
    encoder, decoder = stack_members(encoders, [member.decoder for member in members])
    return Autoencoder(encoder, decoder, link, n_components, missing=True)


def is_ours(network: Any) -> bool:
    """Whether a network is known to draw from our generators only when it trains."""
    return type(network) in (ConvNetwork, MLPNetwork)


def pca_of_rows(
    X: Any,
    scaler: Any,
    n_directions: int,
    sample_weight: NDArray[Any] | None,
    seed: int,
) -> FittedPCA:
    """PCA of scaled rows, validation rows included.

    The validation loss then favours the start a little, which is the safe side.
    """
    indices = None
    n_rows = min(MAX_ROWS_FOR_PCA, max(MIN_ROWS_FOR_PCA, MAX_CELLS_FOR_PCA // X.shape[1]))
    if X.shape[0] > n_rows:
        draws = np.random.RandomState(seed)
        indices = np.sort(draws.choice(X.shape[0], n_rows, replace=False))
        sample_weight = None if sample_weight is None else sample_weight[indices]
    rows = SourceRows(X, scaler, indices)
    scaled = np.nan_to_num(rows.read_all().numpy(), copy=False)
    return fit_pca(scaled, n_directions, sample_weight, seed)


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
