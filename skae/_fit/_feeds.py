"""What the denoiser trains on: rows with fresh noise, or pairs of noisy and clean rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._chunks import ColumnStack
from skae._data._mixed import MixedScaler
from skae._engine._batches import Rows, SourceRows
from skae._engine._denoising_net import InputTransform, NoisyRows, PairTransform
from skae._engine._mixed_noise import MixedNoise
from skae._engine._net import AutoencoderNet
from skae._engine._noise import NOISES, CellNoise
from skae._engine._runtime import generator
from skae._engine._sharded_rows import ShardedRows
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_ROWS_PER_EPOCH
from skae._fit._plan import Feed, Indices, Weights
from skae._stats._gaussian import choose_shrinkage, fit_gaussian

# The normal distribution is learned from this many cells, or from a thousand rows.
MAX_CELLS_FOR_GAUSSIAN, MIN_ROWS_FOR_GAUSSIAN = 2**20, 1000
# Held-out rows that the network's weight is learned from; fewer are made noisy several times.
ROWS_FOR_BLEND = 2000
MAX_SHRINKAGE_FOLDS = 5
# Passes over few rows with the same cells missing, where a normal distribution fills them.
PASSES_PER_FILL = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyFeed(Feed):
    """Rows and noise as the denoiser's network meets them.

    Attributes
    ----------
    scaler : Scaler or MixedScaler
        What comes out of the network goes back by it.
    device : torch.device
    noise : str, callable or None
        The noise of training; None where rows come in pairs.
    level : float or ndarray
        Of the noise; that of Gaussian noise is in the units of the data.
    hidden_share : float
        Share of the cells that are hidden besides.
    is_paired : bool
        Whether rows stand beside their clean versions.
    reads_mask : bool
        Whether the encoder reads a mask of missing cells behind the filled row.
    empty : ndarray of bool of shape (n_inputs,)
        Encoded columns that held nothing in ``fit``.
    bounds : pair of ndarray or None
        Where scaled values are cut off before the encoder reads them.
    divisor : ndarray or None
        What scaled values are divided by before the encoder reads them.
    level_varies : bool
        Whether each row has its own level, from 0 to twice this one.
    shrinkage : float or None
        Of the normal distribution that missing cells are filled by; None has them filled
        with means.
    gaussian : Gaussian, FactorGaussian or None
        This distribution, once it is learned.
    """

    scaler: Any
    device: Any
    noise: Any
    level: Any
    hidden_share: float
    is_paired: bool
    reads_mask: bool
    empty: Any
    bounds: Any = None
    divisor: Any = None
    level_varies: bool = False
    shrinkage: float | None = None
    gaussian: Any = None

    @property
    def input_transform(self) -> InputTransform:
        """From rows to what the encoder reads."""
        fill = np.nan_to_num if self.gaussian is None else self.gaussian.fill
        return InputTransform(
            self.scaler,
            fill,
            self.reads_mask,
            self.empty,
            self.bounds,
            self.divisor,
            self.scaler.first_of if isinstance(self.scaler, MixedScaler) else None,
        )

    @property
    def transform(self) -> Any:
        """From rows to what a batch holds: rows that are to be made noisy are only scaled."""
        return PairTransform(self.input_transform) if self.is_paired else self.scaler

    def cell_noise(self, draws: Any) -> CellNoise | MixedNoise:
        """The noise on scaled rows, drawn from a generator."""
        level, scaler = self.level, self.scaler
        how = {"scaler": scaler, "generator": draws, "varies": self.level_varies}
        if isinstance(scaler, MixedScaler):
            return MixedNoise(self.noise, level, self.hidden_share, **how)
        level = level / scaler.scale_ if self.noise == "gaussian" else level
        return CellNoise(self.noise, level, self.hidden_share, **how)

    def fitted(self, X: Any, indices: Indices, sample_weight: Weights) -> NoisyFeed:
        if self.shrinkage is None:
            return self
        rows, weight = self.sample_to_fill(X, indices, sample_weight)
        return replace(self, gaussian=fit_gaussian(rows, weight, self.shrinkage))

    def training(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        times = -(-MIN_ROWS_PER_EPOCH // len(rows))
        return self.single_pass(net, rows if times == 1 else rows.repeated(times))

    def single_pass(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        """Pairs of inputs and targets, with fresh noise unless there are clean rows."""
        if isinstance(rows, ShardedRows):
            noise = self.cell_noise(net.corruption.generator)
            return rows.changed_by(NoisyRows(None, noise, self.input_transform).pairs)
        in_memory = rows.in_memory()
        if self.is_paired:
            return in_memory
        # Filling costs as much as training does, and few passes do not memorise what is missing.
        n_passes = PASSES_PER_FILL if self.noise == "masking" and self.gaussian is not None else 1
        noise = self.cell_noise(net.corruption.generator)
        return NoisyRows(in_memory, noise, self.input_transform, n_passes)

    def validation(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        if self.is_paired:
            return rows.in_memory()
        draws = net.corruption.generator
        fixed = generator(draws.initial_seed() + 1, draws.device)
        return NoisyRows(rows, self.cell_noise(fixed), self.input_transform).frozen()

    def clean_sample(
        self, X: Any, indices: Indices, sample_weight: Weights
    ) -> tuple[NDArray[np.float64], Weights]:
        """Some clean scaled rows, NaN where a cell is missing, and their weights."""
        rows, weight = sampled(SourceRows(clean_rows(X), self.scaler, indices, sample_weight))
        return rows.numpy().astype(np.float64), weight

    def read_sample(
        self, X: Any, indices: Indices, sample_weight: Weights
    ) -> tuple[NDArray[np.float64], Weights]:
        """Some scaled rows as they are when gaps are filled: noise is on them already."""
        rows, weight = sampled(SourceRows(noisy_rows(X), self.scaler, indices, sample_weight))
        if not self.is_paired:
            # One draw of noise on few rows would be taken for a relation of columns.
            times = -(-MIN_ROWS_FOR_GAUSSIAN // len(rows))
            weight = None if weight is None else np.tile(weight, times)
            noise = replace(self, hidden_share=0.0).cell_noise(generator(0))
            rows = noise(rows.repeat(times, 1))
        return rows.numpy().astype(np.float64), weight

    def sample_to_fill(
        self, X: Any, indices: Indices, sample_weight: Weights
    ) -> tuple[NDArray[np.float64], Weights]:
        """Some scaled rows of the distribution that gaps are filled by.

        Cells that carry noise say less about missing ones than clean cells do. A function
        may hide the same cells of all rows, so clean rows are taken there.
        """
        is_named = self.noise in NOISES and self.noise != "masking"
        sample = self.read_sample if is_named else self.clean_sample
        return sample(X, indices, sample_weight)

    def hidden_sample(
        self, net: AutoencoderNet, X: Any, held_out: NDArray[np.intp], sample_weight: Weights
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """Some held-out rows, a version with more cells missing, and weights; all scaled."""
        held_out = held_out[:: -(-len(held_out) // ROWS_FOR_BLEND)]
        weight = np.ones(len(held_out)) if sample_weight is None else sample_weight[held_out]
        if self.is_paired:
            noisy, clean = (
                SourceRows(rows, self.scaler, held_out).read_all().numpy()
                for rows in (X.left, X.right)
            )
            return clean, noisy, weight
        times = max(1, ROWS_FOR_BLEND // len(held_out))
        x = SourceRows(X, self.scaler, np.tile(held_out, times)).read_all()
        noise = self.cell_noise(generator(net.corruption.generator.initial_seed() + 2))
        return x.numpy(), noise(x).numpy(), np.tile(weight, times)

    def deviations(self, scaled: NDArray[Any], rng: Any) -> NDArray[Any]:
        """How far draws are from what is expected, zero in observed cells."""
        if self.gaussian is not None:
            return self.gaussian.deviations(scaled, rng)
        return np.where(np.isnan(scaled), rng.standard_normal(scaled.shape), 0.0)


def sampled(rows: SourceRows) -> tuple[Any, Weights]:
    """Some rows, in order, and their weights."""
    n_rows = max(MIN_ROWS_FOR_GAUSSIAN, MAX_CELLS_FOR_GAUSSIAN // rows.n_features)
    chosen = np.arange(0, len(rows), -(-len(rows) // n_rows))
    weight = None if rows.sample_weight is None else rows.sample_weight.numpy()[chosen]
    return rows.read(chosen), weight


def clean_rows(X: Any) -> Any:
    """The clean half of pairs, or all of X where there are none."""
    return X.right if isinstance(X, ColumnStack) else X


def noisy_rows(X: Any) -> Any:
    """The noisy half of pairs, or all of X where there are none."""
    return X.left if isinstance(X, ColumnStack) else X


def cross_validated_shrinkage(
    rows: NDArray[np.float64],
    weight: Weights,
    hidden_share: float,
    scaler: Any,
    rng: np.random.RandomState,
) -> float:
    """Shrinkage of the normal distribution that fills hidden cells of held-out rows best."""
    is_mixed = isinstance(scaler, MixedScaler)
    column_of = scaler.column_of if is_mixed else np.arange(rows.shape[1])
    share = 2 * hidden_share * rng.uniform(size=(len(rows), 1))
    is_hidden = rng.uniform(size=(len(rows), column_of.max() + 1)) < share
    hidden = np.where(is_hidden[:, column_of], np.nan, rows)
    folds = np.array_split(rng.permutation(len(rows)), min(MAX_SHRINKAGE_FOLDS, len(rows)))
    folds = folds if len(rows) < MIN_ROWS_FOR_SPLIT else folds[:1]
    cell_weights = scaler.cell_weights if is_mixed else 1.0
    return choose_shrinkage(rows, hidden, folds, weight, cell_weights)


def blend_measure(
    net: Any, feed: NoisyFeed, X: Any, held_out: Indices, sample_weight: Weights
) -> NDArray[np.float64] | None:
    """Sums of squares and products, by column, that the blends and the spread are made of.

    Over cells hidden in held-out rows, with the truth x, the fill f that the encoder reads
    and the network's output n: the sums of ``(x - f)**2``, ``(x - f) * (n - f)``,
    ``(n - f)**2``, and of the squares of drawn deviations. Over cells that are not hidden, with
    the noisy cell in the place of f, the second and the third sum.

    Returns
    -------
    sums : ndarray of shape (6, n_inputs), or None if nothing is held out
    """
    if held_out is None:
        return None
    x, hidden, weight = feed.hidden_sample(net, X, held_out, sample_weight)
    is_known, is_hidden = ~np.isnan(x), np.isnan(hidden)
    inputs = feed.input_transform.inputs(hidden)
    output, fill = net.denoised(inputs), feed.input_transform.filled(inputs)
    fill = fill.astype(np.float64)  # squares of noise on nearly constant columns are large
    gap, step = (np.where(is_known, part - fill, 0.0) for part in (x, output))
    draws = np.zeros_like(gap)
    if is_hidden.any():
        draws = np.where(is_known, feed.deviations(hidden, np.random.default_rng(0)), 0.0)
    products = (gap * gap, gap * step, step * step, draws * draws)
    of_hidden = [product * is_hidden for product in products]
    of_others = [product * ~is_hidden for product in products[1:3]]
    return np.stack([weight @ product for product in (*of_hidden, *of_others)])
