"""Build initialised networks from the parameters of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skae._data._sources import studied
from skae._engine._batches import SourceRows
from skae._engine._runtime import borrowed_global_generator, generator
from skae._stats._pca import (
    FittedPCA,
    ProbabilisticPCA,
    fit_pca,
    fit_pca_with_gaps,
    fit_reduced_rank,
)
from skae.networks._autoencoder import LOGIT_SLOPE, Autoencoder, OutputLink
from skae.networks._conv import ConvNetwork
from skae.networks._layers import ORIGIN, Call, Origin
from skae.networks._linear_path import add_linear_path
from skae.networks._mlp import MLPNetwork
from skae.networks._stacked import stack_members
from skae.networks._variational import (
    BernoulliOutput,
    ConcatOutputs,
    GaussianOutput,
    TableOutput,
    VariationalAutoencoder,
    VariationalEncoder,
    add_probabilistic_path,
)

# The initial PCA is computed from all rows up to this many rows and cells (128 MiB), and
# from a random sample of that size above.
MIN_ROWS_FOR_PCA, MAX_ROWS_FOR_PCA = 1_000, 16_384
MAX_CELLS_FOR_PCA = 2**25
# Rows from which it is told whether a network could do better.
MAX_ROWS_FOR_COORDINATES = 4096
# The linear start of a denoiser is fitted to at least this many noisy rows per column.
DRAWS_PER_COLUMN = 10
ROWS_PER_BLOCK, MIN_BLOCKS = 4096, 4
# Lower bounds of probabilities in initial logits, and of shares in initial slopes.
LEAST_PROBABILITY, LEAST_SHARE = 1e-3, 0.05


def build_autoencoder(
    network: Any,
    n_features: int,
    n_components: int,
    *,
    link: OutputLink,
    pca: FittedPCA | None,
    tied: bool,
    seed: int,
    n_inputs: int | None = None,
) -> Autoencoder:
    """Build an autoencoder with random weights that starts at PCA if given.

    Parameters
    ----------
    network : object with ``build(n_features, n_components)``
        It draws from torch's global generator, which is seeded before and restored after.
    pca : FittedPCA or None
        The linear path to start from.
    n_inputs : int, default=None
        Number of encoder inputs if it differs from `n_features`.
    """
    with borrowed_global_generator(seed):
        encoder, decoder = build_network(network, n_features, n_components)
        if n_inputs is not None:
            encoder, _ = build_network(network, n_inputs, n_components)
    if not is_builtin_network(network):
        _check_shape(network, "encoder", encoder, n_features, n_components)
        _check_shape(network, "decoder", decoder, n_components, n_features)
    if pca is not None:
        encoder, decoder = add_linear_path(
            encoder, decoder, pca, n_components, generator(seed), tied
        )
    return Autoencoder(encoder, decoder, link, n_components)


def build_network(network: Any, n_features: int, n_components: int) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder; those of a user's network get an ``Origin`` to be rebuilt from."""
    parts = network.build(n_features, n_components)
    if is_builtin_network(network):
        return parts
    is_pair = isinstance(parts, tuple | list) and len(parts) == 2
    if not (is_pair and all(isinstance(part, nn.Module) for part in parts)):
        raise TypeError(
            f"network={network!r}: build must return an encoder and a decoder, two "
            f"torch.nn.Module; got {parts!r}."
        )
    call = Call((n_features, n_components))
    for i, part in enumerate(parts):
        setattr(part, ORIGIN, Origin(call, i))
    encoder, decoder = parts
    return encoder, decoder


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
    """Build an autoencoder for each seed and stack them, for rows that may hold NaN.

    Parameters
    ----------
    variational : bool
        Whether encoders output a mean and a log-variance for each latent.
    """

    def build(seed: int, pca: FittedPCA | None = pca) -> Autoencoder:
        return build_autoencoder(
            network, n_features, n_components, link=link, pca=pca, tied=False, seed=seed
        )

    members = [build(seed) for seed in seeds]
    encoders: list[nn.Module] = [member.encoder for member in members]
    if variational:
        spreads = [build(seed + 1, pca=None).encoder for seed in seeds]
        pairs = zip(encoders, spreads, strict=True)
        encoders = [VariationalEncoder(ConcatOutputs(*pair)) for pair in pairs]
    encoder, decoder = stack_members(encoders, [member.decoder for member in members])
    return Autoencoder(encoder, decoder, link, n_components, missing=True)


def build_variational(
    network: Any,
    link: nn.Module,
    n_inputs: int,
    n_components: int,
    *,
    linear: ProbabilisticPCA | None,
    slopes: NDArray[Any],
    biases: NDArray[Any],
    n_conditions: int,
    seed: int,
) -> VariationalAutoencoder:
    """Build a variational autoencoder and start it at probabilistic PCA if given.

    Parameters
    ----------
    link : torch.nn.Module
        The distribution that the decoder outputs parametrise.
    slopes, biases : ndarray of shape (n_inputs,)
        As in ``add_probabilistic_path``.
    n_conditions : int
        Number of decoder inputs besides the latents.
    """
    with borrowed_global_generator(seed):
        encoder, _ = build_network(network, n_inputs, 2 * n_components)
        _, decoder = build_network(network, n_inputs, n_components + n_conditions)
    if not is_builtin_network(network):
        _check_shape(network, "encoder", encoder, n_inputs, 2 * n_components)
        _check_shape(network, "decoder", decoder, n_components + n_conditions, n_inputs)
    if linear is not None:
        encoder, decoder = add_probabilistic_path(encoder, decoder, linear, slopes, biases)
    return VariationalAutoencoder(
        VariationalEncoder(encoder), decoder, link, n_components, n_inputs, n_conditions
    )


def make_output(
    likelihood: str,
    input_transform: Any,
    deviations: NDArray[Any],
    mean: NDArray[Any],
    is_binary: bool,
) -> tuple[nn.Module, NDArray[Any], NDArray[Any]]:
    """The output distribution of a decoder, and the affine map from cells to its parameters.

    Parameters
    ----------
    likelihood : {"auto", "gaussian", "bernoulli"}
    input_transform : Ranks or Scaler
    deviations, mean : ndarray of shape (n_inputs,)
        Residual standard deviations, given the latents, and means of the encoder inputs.
    is_binary : bool
        Whether all cells are 0 or 1.

    Returns
    -------
    link : torch.nn.Module
    slopes, biases : ndarray of shape (n_inputs,)
        As in ``add_probabilistic_path``.
    """
    ones = np.ones_like(mean)
    if likelihood == "gaussian":
        return GaussianOutput(deviations, -float(np.log(input_transform.scale_).sum())), ones, mean
    if likelihood == "bernoulli":
        p = np.clip(mean, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return BernoulliOutput(is_binary), LOGIT_SLOPE * ones, np.log(p / (1 - p))
    n_scores = input_transform.n_scores
    link = TableOutput(
        deviations[:n_scores], input_transform.level_counts, input_transform.n_continuous
    )
    shares = np.concatenate([*input_transform.level_shares_, []])
    # The derivative of a softmax is about the share: without a bound, rare levels get slopes
    # that are too steep.
    slopes = 1.0 / (input_transform.level_scales * np.maximum(shares, LEAST_SHARE))
    logits = np.log(np.maximum(shares, LEAST_PROBABILITY))
    return link, np.r_[ones[:n_scores], slopes], np.r_[mean[:n_scores], logits]


def is_builtin_network(network: Any) -> bool:
    """Whether a network is of skae: it never draws from torch's global generator in training."""
    return type(network) in (ConvNetwork, MLPNetwork)


def pca_of_rows(
    X: Any,
    scaler: Any,
    n_directions: int,
    sample_weight: NDArray[Any] | None,
    seed: int,
    n_inputs: int | None = None,
    n_filled_by: int | None = None,
) -> FittedPCA:
    """PCA of (the first columns of) scaled rows, validation rows included.

    The validation loss is then slightly biased towards the start, which is the safe side. Missing
    cells are filled with zero, or by so many components if `n_filled_by` is given.
    """
    rows, sample_weight = _sample_of_rows(X, scaler, sample_weight, seed)
    if n_filled_by is not None:
        return fit_pca_with_gaps(rows.numpy(), n_directions, n_filled_by, sample_weight, seed)
    inputs = np.nan_to_num(rows[:, :n_inputs].numpy(), copy=False)
    return fit_pca(inputs, n_directions, sample_weight, seed)


def coordinates_of_rows(
    X: Any,
    scaler: Any,
    pca: FittedPCA,
    sample_weight: NDArray[Any] | None,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Principal coordinates of some scaled rows, their squared norms, and their weights."""
    X, sample_weight = studied(X, sample_weight)
    indices = np.arange(X.shape[0])
    n_rows = min(MAX_ROWS_FOR_COORDINATES, max(MIN_ROWS_FOR_PCA, MAX_CELLS_FOR_PCA // X.shape[1]))
    if len(indices) > n_rows:
        indices = np.sort(np.random.RandomState(seed).choice(len(indices), n_rows, replace=False))
    weight = np.ones(len(indices)) if sample_weight is None else sample_weight[indices]
    rows = SourceRows(X, scaler, indices).read_all().numpy() - pca.mean
    return rows @ pca.directions.T, np.square(rows).sum(axis=1), weight


def linear_denoiser(
    X: Any,
    input_transform: Any,
    make_pairs: Callable[[Tensor], Tensor],
    n_features: int,
    n_directions: int,
    sample_weight: NDArray[Any] | None,
    seed: int,
) -> FittedPCA:
    """Reduced-rank regression of clean rows on noisy ones.

    Parameters
    ----------
    make_pairs : callable
        Takes transformed rows of `X` and returns inputs and targets, concatenated.
    """
    rows, weight = _sample_of_rows(X, input_transform, sample_weight, seed)
    weight = np.ones(len(rows)) if weight is None else weight

    def blocks() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        # Few rows are repeated with fresh noise: one draw of it would be overfitted.
        times = max(1, DRAWS_PER_COLUMN * n_features // len(rows))
        n_blocks = max(MIN_BLOCKS, -(-len(rows) // ROWS_PER_BLOCK))
        spans = np.array_split(np.random.RandomState(seed).permutation(len(rows)), n_blocks)
        for span in (np.tile(span, times) for span in spans if len(span)):
            pairs = make_pairs(rows[span]).nan_to_num().numpy()
            yield pairs[:, :-n_features], pairs[:, -n_features:], weight[span]

    return fit_reduced_rank(blocks(), n_directions)


def _sample_of_rows(
    X: Any, scaler: Any, sample_weight: NDArray[Any] | None, seed: int
) -> tuple[Tensor, NDArray[Any] | None]:
    """All scaled rows, or a random sample of them, and their weights."""
    X, sample_weight = studied(X, sample_weight)
    indices = None
    n_rows = min(MAX_ROWS_FOR_PCA, max(MIN_ROWS_FOR_PCA, MAX_CELLS_FOR_PCA // X.shape[1]))
    if X.shape[0] > n_rows:
        rng = np.random.RandomState(seed)
        indices = np.sort(rng.choice(X.shape[0], n_rows, replace=False))
        sample_weight = None if sample_weight is None else sample_weight[indices]
    return SourceRows(X, scaler, indices).read_all(), sample_weight


def mlp(hidden: tuple[int, ...], activation: str, dropout: float, tied: bool) -> MLPNetwork:
    """The network of ``network=None``."""
    return MLPNetwork(hidden, activation, dropout, tied)


@torch.no_grad()
def _check_shape(network: Any, part: str, module: Any, n_inputs: int, n_outputs: int) -> None:
    """Raise if the encoder or decoder of a user's network has the wrong sizes."""
    was_training = module.training
    shape = tuple(module.eval()(torch.zeros(2, n_inputs)).shape)
    module.train(was_training)
    if shape != (2, n_outputs):
        column = "latent" if part == "encoder" else "feature"
        raise ValueError(
            f"network={network!r}: the {part} maps (2, {n_inputs}) to {shape}; "
            f"it must map to (2, {n_outputs}), one column per {column}."
        )
