"""An ensemble of autoencoders, trained and evaluated as one batched network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._data._arrays import asarray_like, namespace, widest_float
from skae._engine._batches import Batch, Rows, SourceRows, TensorRows
from skae._engine._inference import Pieces
from skae._engine._net import AutoencoderNet
from skae._engine._sharded_rows import Share, SharedBatch
from skae._engine._views import VIEWS, Views, ViewsOnDevice
from skae.networks._levels import LevelLayout

Losses = NDArray[np.float64]
# Takes raw losses and those of cells; returns a mask of outliers and the cells' contributions.
ScoreFn = Callable[[Any, Any], tuple[Any, Any]]
# Takes uniform numbers in [0, 1) and returns row indices, both of shape (n_members, n_draws).
Draw = Callable[[Tensor], Tensor]
# A cell is removed together with the largest contribution if it reaches this share of it.
REMOVED_SHARE = 0.75
# Views beside the autoencoders' ensemble.
N_OTHERS = len(VIEWS) - 1
# Losses of cells that sum to less are all zero.
LEAST_SUM = 1e-30
# Loss of a level that was not seen in training; one that was seen mostly has less.
LARGEST_LEVEL_LOSS = 2.0
# Own rows of a batch are padded to a multiple of these.
ROWS_AT_ONCE = 16
# Rounds of imputation; more of them make images drift away from their observed cells.
IMPUTATION_ROUNDS = 2


class MemberRows(Rows):
    """Rows that each member draws with replacement, with its own probabilities.

    An epoch has as many draws as the members have rows on average. A row of weight two has
    the influence of two rows, and members with different numbers of rows have batches of
    the same size.

    Parameters
    ----------
    rows : SourceRows or TensorRows
    weights : ndarray of shape (n_members, n_rows)
        Proportional to the probabilities.
    """

    def __init__(self, rows: Any, weights: NDArray[np.float64]):
        self.rows = rows
        self.sample_weight = None
        self.n_members = len(weights)
        self.n_draws = max(1, round(np.count_nonzero(weights) / len(weights)))
        self.draw = _uniform_draw(weights) or _weighted_draw(weights)

    def __len__(self) -> int:
        return self.n_draws

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        indices = self._drawn(generator)
        for span in spans:
            yield self.rows.take(indices[:, span]), None

    def _drawn(self, generator: torch.Generator | None) -> Tensor:
        """Numbers of the rows of an epoch, of shape (n_members, n_draws)."""
        shape = (self.n_members, self.n_draws)
        if generator is None:
            uniform = (torch.arange(self.n_draws, dtype=torch.float64) + 0.5) / self.n_draws
            return self.draw(uniform.expand(shape).contiguous())
        device = generator.device
        return self.draw(torch.rand(shape, generator=generator, dtype=torch.float64, device=device))


class SharedMemberRows(MemberRows):
    """The same for rows that lie on several processes, which draw the same and take their own.

    A batch has as many own rows for each member; where a member has fewer, a row of weight zero
    stands for it.

    Parameters
    ----------
    rows : Share
    weights : ndarray of shape (n_members, n_rows)
    """

    is_shared = True

    def __init__(self, rows: Share, weights: NDArray[np.float64]):
        super().__init__(rows, weights)
        self.group = rows.group
        self.own_numbers = torch.full((len(rows),), -1)
        self.own_numbers[torch.from_numpy(rows.places)] = torch.arange(len(rows.places))

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        drawn = self.own_numbers[self._drawn(generator).cpu()]
        for span in spans:
            batch = self._own_batch(drawn[:, span])
            if len(batch[1].T) or generator is not None:  # losses of no rows are no numbers
                yield batch

    def _own_batch(self, drawn: Tensor) -> Any:
        """Own rows among some that are drawn, whose own numbers are -1 elsewhere."""
        is_own = drawn >= 0
        n_most, n_drawn = int(is_own.sum(dim=1).max()), drawn.shape[1]
        # Few shapes of batches: steps are recorded for each.
        n_rows = min(-(-n_most // ROWS_AT_ONCE) * ROWS_AT_ONCE, n_drawn)
        first = is_own.int().argsort(dim=1, stable=True, descending=True)[:, :n_rows]
        chosen = drawn.gather(1, first)
        held = self.rows.own
        if n_rows:
            x = held.take(chosen.clamp(min=0))
        else:
            x = held.read(slice(0, 0)).expand(self.n_members, 0, -1)
        batch = SharedBatch((x, (chosen >= 0).float().to(x.device)))
        batch.share = n_rows / n_drawn
        return batch


def member_rows(rows: Any, weights: NDArray[np.float64]) -> MemberRows:
    """Rows that members draw from those of this process, or of all that share them."""
    return (SharedMemberRows if rows.is_shared else MemberRows)(rows, weights)


def _uniform_draw(weights: NDArray[np.float64]) -> Draw | None:
    """Draw by table lookup, if each member has as many rows, all with the same weight."""
    indices = [np.flatnonzero(row) for row in weights]
    pairs = zip(weights, indices, strict=True)
    is_uniform = all((row[rows] == row[rows[:1]]).all() for row, rows in pairs)
    if not is_uniform or len({len(rows) for rows in indices}) > 1:
        return None
    table = torch.from_numpy(np.stack(indices))

    def draw(uniform: Tensor) -> Tensor:
        return table.to(uniform.device).gather(1, (uniform * table.shape[1]).long())

    return draw


def _weighted_draw(weights: NDArray[np.float64]) -> Draw:
    """Draw by inverting the cumulative distribution of the weights."""
    sums = torch.from_numpy(np.cumsum(weights, axis=1))
    cumulative = sums / sums[:, -1:]

    def draw(uniform: Tensor) -> Tensor:
        indices = torch.searchsorted(cumulative.to(uniform.device), uniform)
        # Rounding may leave the last sum below one.
        return indices.clamp(max=cumulative.shape[1] - 1)

    return draw


class MemberNet(AutoencoderNet):
    """Trains and evaluates many autoencoders at once.

    Parameters
    ----------
    n_members : int
    **kwargs : dict
        Parameters of AutoencoderNet.

    Attributes
    ----------
    views_ : Views
        What rows are scored by beside the autoencoders, once it has been learned.
    """

    views_: Views

    def __init__(self, *args: Any, n_members: int = 1, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.n_members = n_members

    def set_baseline(self, baseline: NDArray[Any]) -> None:
        """Set the scaled row that is the baseline's reconstruction of every row."""
        tensor = torch.from_numpy(baseline.astype(np.float32)).to(self.device)
        self.module_.register_buffer("baseline", tensor)  # moves with the module

    # Inference: the latents of members are concatenated, reconstructions are averaged.

    def encode_rows(self, rows: SourceRows) -> Pieces:
        def encode(x: Tensor) -> Tensor:
            return self.module_.encode(self._expand(x)).movedim(0, 1).flatten(1)

        return self._map_batches(encode, rows)

    def decode_rows(self, Z: Any) -> Pieces:
        def decode(z: Tensor) -> Tensor:
            return self._mean_output(z.unflatten(1, (self.n_members, -1)).movedim(1, 0))

        return self._map_latents(decode, Z)

    def reconstruct_rows(self, rows: SourceRows, n_latents: int | None = None) -> Pieces:
        return self._map_batches(self.reconstruct, rows)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean over the members of their reconstructions of scaled rows."""
        return self._mean_output(self.module_.encode(self._expand(x)))

    def _mean_output(self, z: Tensor) -> Tensor:
        return self.module_.decode(z).mean(dim=0)

    def _expand(self, x: Tensor) -> Tensor:
        """The same rows for every member; levels that it does not know are missing."""
        if self._layout is not None:
            x, _ = self._layout.read(x)
        return x.expand(self.n_members, *x.shape)

    # Losses, reduced on the device. Along their first axis are those of the members, of the
    # baseline, and of the other views.

    def raw_losses(self, rows: SourceRows | TensorRows) -> Losses:
        """Raw losses of shape (n_members + 6, n_rows)."""
        parts = [losses for _, losses in self.raw_losses_in_pieces(rows)]
        return np.concatenate(parts, axis=1)

    def raw_losses_in_pieces(self, rows: SourceRows | TensorRows) -> Pieces:
        """Yield slices and raw losses."""
        views = self.views_.on(self.device)
        for span, x in self._inference_batches(rows):
            yield span, self._raw_losses(rows, x, views)

    def row_losses(self, rows: Any) -> Losses:
        """Mean loss per observed cell, of shape (n_members + 1, n_rows)."""
        pieces = self._map_batches(self._row_losses, rows.own, row_axis=1)
        parts = [losses for _, losses in pieces] or [np.empty((self.n_members + 1, 0))]
        return rows.assembled(np.concatenate(parts, axis=1).astype(np.float64))

    def cell_losses(self, rows: SourceRows) -> Iterator[tuple[slice, Any, Any]]:
        """Yield slices, raw losses, and the contribution of each cell to them."""
        views = self.views_.on(self.device)
        for span, x in self._inference_batches(rows):
            yield span, *self._attribute_to_cells(rows, x, views)

    # Rows have a cell for each column of the table, or several for a column of levels: then the
    # output link says which.

    @property
    def _layout(self) -> LevelLayout | None:
        return getattr(self.module_.link, "layout", None)

    def _missing(self, x: Tensor) -> Tensor:
        """Mask of the columns of which rows miss the cell."""
        return x.isnan() if self._layout is None else self._layout.missing(x)

    def _cells_of(self, columns: Tensor) -> Tensor:
        """Mask of the cells of these columns."""
        return columns if self._layout is None else self._layout.spread(columns)

    def _count_observed(self, x: Tensor) -> Tensor:
        """Number of cells of each row that are not missing, at least one."""
        missing = self._missing(x)
        return (missing.shape[1] - missing.sum(dim=1)).clamp(min=1)

    def find_anomalous_cells(self, rows: SourceRows, score_fn: ScoreFn, limit: float) -> Any:
        """Mask of the cells whose removal turns outliers into inliers.

        Only cells that contribute more than `limit` are candidates. They are removed (set to
        missing) in rounds, since one wrong cell distorts the reconstructions of all others:
        in each round those that contribute at least `REMOVED_SHARE` of the row's largest
        remaining contribution, until `score_fn` no longer calls the row an outlier.
        """
        anomalous = rows.to_array_like(torch.zeros(len(rows), rows.n_features, dtype=torch.bool))
        xp, views = namespace(anomalous), self.views_.on(self.device)
        for span, x in self._inference_batches(rows):
            is_outlier, contributions = score_fn(*self._attribute_to_cells(rows, x, views))
            candidates = is_outlier[:, None] & (contributions > limit)
            removed = anomalous[span]  # a view: the rounds fill it in
            active = xp.nonzero(xp.any(candidates, axis=1))[0]
            while len(active):
                is_open = candidates[active] & ~removed[active]
                remaining = xp.where(is_open, contributions[active], 0.0)
                largest = xp.max(remaining, axis=1, keepdims=True)
                removed[active] |= (remaining >= REMOVED_SHARE * largest) & (remaining > 0)
                active = active[largest[:, 0] > 0]
                if len(active):
                    partial = x[_on_device_of(active, x)]
                    cells = self._cells_of(_on_device_of(removed[active], x))
                    partial = partial.masked_fill(cells, torch.nan)
                    is_outlier, new = score_fn(*self._attribute_to_cells(rows, partial, views))
                    contributions[active] = new
                    active = active[is_outlier]
        return anomalous

    def imputed_rows(self, rows: SourceRows, anomalous: Any) -> Pieces:
        """Yield slices, and scaled rows with anomalous cells imputed.

        Their values are the means of reconstructions and of conditional means given the other
        cells. Reconstructions are first those with these cells missing, then those of rows
        that hold the values of the round before.
        """
        views = self.views_.on(self.device)
        for span, x in self._inference_batches(rows):
            mask = _on_device_of(anomalous[span], x)
            affected = mask.any(dim=1)
            if affected.any():
                x[affected] = self._impute(x[affected], mask[affected], views)
            yield span, rows.to_array_like(x)

    def _impute(self, x: Tensor, columns: Tensor, views: ViewsOnDevice) -> Tensor:
        mask = self._cells_of(columns)
        imputed = holes = x.masked_fill(mask, torch.nan)
        for _ in range(IMPUTATION_ROUNDS):
            imputed = torch.where(mask, self._evaluate(self.reconstruct, imputed), x)
        return torch.where(mask, (imputed + views.conditional.filled(holes)) / 2, x)

    def _attribute_to_cells(self, rows: Rows, x: Tensor, views: ViewsOnDevice) -> tuple[Any, Any]:
        """Raw losses, and the same split among cells in proportion to the cells' losses."""
        cells = self._evaluate(lambda x: self._all_cells(x, views), x, row_axis=1)
        raw = _as_float64(rows, self._reduced(cells, x))
        cells = _as_float64(rows, cells)
        return raw, cells * (raw / cells.sum(axis=2).clip(LEAST_SUM))[:, :, None]

    def _raw_losses(self, rows: Rows, x: Tensor, views: ViewsOnDevice) -> Any:
        def losses(x: Tensor) -> Tensor:
            return self._reduced(self._all_cells(x, views), x)

        return _as_float64(rows, self._evaluate(losses, x, row_axis=1))

    def _all_cells(self, x: Tensor, views: ViewsOnDevice) -> Tensor:
        """Losses of cells, of shape (n_members + 6, n, n_features)."""
        return torch.cat([self._cells(x), views.cells(x)])

    def _reduced(self, cells: Tensor, x: Tensor) -> Tensor:
        """Losses of rows: means over their observed cells, of the other views their roots."""
        means = cells.sum(dim=2) / self._count_observed(x)
        means[-N_OTHERS:].sqrt_()
        return means

    def _cells(self, x: Tensor) -> Tensor:
        """Losses of cells, of shape (n_members + 1, n, n_features), by column of the table."""
        output = self.module_.decode_raw(self.module_.encode(self._expand(x))).float()
        baseline: Any = self.module_.baseline
        output = torch.cat([output, baseline.expand(1, *x.shape)])
        cells = self.criterion_.cells(self.module_.link, output, x)
        return cells if self._layout is None else self._column_losses(cells, x, self._layout)

    def _column_losses(self, cells: Tensor, x: Tensor, layout: LevelLayout) -> Tensor:
        """Losses of columns, of rows that hold levels.

        That of a level is the squared error of its column's probabilities over
        ``(1 / 2 + e) ** 2`` with that of the shares, e: autoencoders cannot reproduce what is
        rare, and a rare level beside its usual cells is no outlier for that.
        """
        losses = layout.sums(cells) * (layout.n_columns / cells.shape[-1])
        of_shares = layout.level_sums((x[:, layout.n_scores :] * layout.scales).square())
        losses[..., layout.n_scores :] /= (0.5 + of_shares.nan_to_num(0.0)).square()
        losses.masked_fill_(layout.unseen(x), LARGEST_LEVEL_LOSS)
        return losses

    def _row_losses(self, x: Tensor) -> Tensor:
        return self._cells(x).sum(dim=2) / self._count_observed(x)

    @property
    def n_latents(self) -> int:
        return self.n_members * self.module_.n_kept

    @property
    def _floats_per_row(self) -> int:
        n_features = getattr(self.module_, "baseline", torch.empty(0)).numel()
        return max(self.n_members * super()._floats_per_row, N_OTHERS * n_features)


def _as_float64(rows: Rows, values: Tensor) -> Any:
    """Values as an array of the kind of the rows, in the widest float of their device."""
    array = rows.to_array_like(values)
    return asarray_like(array, array, widest_float(array))


def _on_device_of(values: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(values, device=x.device)
