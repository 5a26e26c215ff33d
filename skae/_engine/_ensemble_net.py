"""An ensemble trained as one network: what its members are fed, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._data._arrays import constant, filled, namespace, widest_float
from skae._engine._batches import Batch, Rows, SourceRows, TensorRows
from skae._engine._inference import Pieces
from skae._engine._losses import kl_to_standard_normal
from skae._engine._net import AutoencoderNet
from skae._stats._scoring import Location

Losses = NDArray[np.float64]
# From raw losses and cells to a mask of outliers and contributions, all of the kind of the rows.
ScoreFn = Callable[[Any, Any], tuple[Any, Any]]
# From places in [0, 1) to row numbers, both of shape (n_members, n_draws).
Draw = Callable[[Tensor], Tensor]
# Cells that contribute this share of the row's largest contribution are guilty with it.
TAKEN_AT_ONCE = 0.75
# Rounds in which replaced cells settle; more of them make images drift from the rest.
IMPUTATION_ROUNDS = 2


class MemberRows(Rows):
    """Rows that each member draws with probabilities of its own.

    An epoch has as many draws as the members have rows on average. Drawing with
    replacement gives a row of weight two the influence of two rows, and lets members
    with different numbers of rows walk in step.

    Parameters
    ----------
    rows : SourceRows or TensorRows
    weights : ndarray of shape (n_members, n_rows)
        Proportional to the probabilities.
    """

    def __init__(self, rows: SourceRows | TensorRows, weights: NDArray[np.float64]):
        self.rows = rows
        self.sample_weight = None
        self.n_members = len(weights)
        self.n_draws = max(1, round(np.count_nonzero(weights) / len(weights)))
        self.draw = _as_likely(weights) or _by_weight(weights)

    def __len__(self) -> int:
        return self.n_draws

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        shape = (self.n_members, self.n_draws)
        if generator is None:
            places = (torch.arange(self.n_draws, dtype=torch.float64) + 0.5) / self.n_draws
            places = places.expand(shape).contiguous()
        else:
            device = generator.device
            places = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
        drawn = self.draw(places)
        for span in spans:
            yield self.rows.take(drawn[:, span]), None


def _as_likely(weights: NDArray[np.float64]) -> Draw | None:
    """Draws where each member's rows are all as likely, and as many: a look into a table."""
    own = [np.flatnonzero(row) for row in weights]
    even = all((row[rows] == row[rows[:1]]).all() for row, rows in zip(weights, own, strict=True))
    if not even or len({len(rows) for rows in own}) > 1:
        return None
    table = torch.from_numpy(np.stack(own))

    def draw(places: Tensor) -> Tensor:
        return table.to(places.device).gather(1, (places * table.shape[1]).long())

    return draw


def _by_weight(weights: NDArray[np.float64]) -> Draw:
    """Draws by a search among cumulated weights."""
    sums = torch.from_numpy(np.cumsum(weights, axis=1))
    reached = sums / sums[:, -1:]

    def draw(places: Tensor) -> Tensor:
        drawn = torch.searchsorted(reached.to(places.device), places)
        # Rounding may leave the last sum below one.
        return drawn.clamp(max=reached.shape[1] - 1)

    return draw


class MemberNet(AutoencoderNet):
    """Trains and asks many autoencoders at once; rows go in as for one.

    Parameters
    ----------
    n_members : int
    score_method : {"reconstruction", "density", "mahalanobis"}
        What a row's raw loss is: its mean loss per observed cell, this plus the
        divergence from the prior, or the squared Mahalanobis distance of latents and
        logarithm of the loss from those of `locate`.
    **kwargs : dict
        What AutoencoderNet takes.
    """

    def __init__(
        self,
        *args: Any,
        n_members: int = 1,
        score_method: str = "reconstruction",
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.n_members = n_members
        self.score_method = score_method

    def set_baseline(self, baseline: NDArray[Any]) -> None:
        """Fix the scaled row by which the centre reproduces all rows."""
        tensor = torch.from_numpy(baseline.astype(np.float32)).to(self.device)
        self.module_.register_buffer("baseline", tensor)  # it goes where the module goes

    # The verbs of AutoencoderNet: members' latents side by side, reconstructions averaged.

    def encode_rows(self, rows: SourceRows) -> Pieces:
        def encode(x: Tensor) -> Tensor:
            return self.module_.encode(self._for_all(x)).movedim(0, 1).flatten(1)

        return self._map_batches(encode, rows)

    def decode_rows(self, Z: Any) -> Pieces:
        def decode(z: Tensor) -> Tensor:
            return self._mean_output(z.unflatten(1, (self.n_members, -1)).movedim(1, 0))

        return self._map_latents(decode, Z)

    def reconstruct_rows(self, rows: SourceRows, n_latents: int | None = None) -> Pieces:
        return self._map_batches(self.reconstruct, rows)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean over the members of their reconstructions of scaled rows."""
        return self._mean_output(self.module_.encode(self._for_all(x)))

    def _mean_output(self, z: Tensor) -> Tensor:
        return self.module_.decode(z).mean(dim=0)

    def _for_all(self, x: Tensor) -> Tensor:
        return x.expand(self.n_members, *x.shape)

    # Losses, reduced on the device; the last of each is the centre's.

    def raw_losses(self, rows: SourceRows | TensorRows) -> Losses:
        """Raw losses of shape (n_members + 1, n_rows)."""
        raw = np.empty((self.n_members + 1, len(rows)))
        filled(raw.T, ((span, told.T) for span, told in self.raw_losses_in_pieces(rows)))
        return raw

    def raw_losses_in_pieces(self, rows: SourceRows | TensorRows) -> Pieces:
        """Yield slices and raw losses."""
        for span, x in self._inference_batches(rows):
            yield span, self._raw(rows, x)

    def row_losses(self, rows: SourceRows | TensorRows) -> Losses:
        """Mean loss per observed cell, of shape (n_members + 1, n_rows)."""
        parts = [told for _, told in self._map_batches(self._row_losses, rows, row_axis=1)]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def cell_losses(self, rows: SourceRows) -> Iterator[tuple[slice, Any, Any]]:
        """Yield slices, raw losses, and what each cell contributes to them."""
        for span, x in self._inference_batches(rows):
            yield span, *self._attribute_to_cells(rows, x)

    def find_anomalous_cells(self, rows: SourceRows, score_fn: ScoreFn, limit: float) -> Any:
        """Mask of the cells without which outliers would be none.

        `judge` tells from raw losses and cells which rows are outliers and what their cells
        contribute. Cells above `limit` are taken away, those first that contribute
        `TAKEN_AT_ONCE` of the row's largest or more: one wrong cell spoils what the
        members say of all others.
        """
        anomalous = rows.to_array_like(torch.zeros(len(rows), rows.n_features, dtype=torch.bool))
        xp = namespace(anomalous)
        for span, x in self._inference_batches(rows):
            outlying, contributions = score_fn(*self._attribute_to_cells(rows, x))
            suspect = outlying[:, None] & (contributions > limit)
            own = anomalous[span]
            open_rows = xp.nonzero(xp.any(suspect, axis=1))[0]
            while len(open_rows):
                is_left = suspect[open_rows] & ~own[open_rows]
                left = xp.where(is_left, contributions[open_rows], 0.0)
                worst = xp.max(left, axis=1, keepdims=True)
                own[open_rows] |= (left >= TAKEN_AT_ONCE * worst) & (left > 0)
                open_rows = open_rows[worst[:, 0] > 0]
                if len(open_rows):
                    some = x[_on_device_of(open_rows, x)]
                    some = some.masked_fill(_on_device_of(own[open_rows], x), torch.nan)
                    still, told = score_fn(*self._attribute_to_cells(rows, some))
                    contributions[open_rows] = told
                    open_rows = open_rows[still]
        return anomalous

    def imputed_rows(self, rows: SourceRows, anomalous: Any) -> Pieces:
        """Yield slices, and scaled rows with guilty cells replaced.

        They are read as missing first, so that they do not speak for themselves, and
        then as the members reproduce them, until they settle.
        """
        for span, x in self._inference_batches(rows):
            mask = _on_device_of(anomalous[span], x)
            affected = mask.any(dim=1)
            if affected.any():
                x[affected] = self._impute(x[affected], mask[affected])
            yield span, rows.to_array_like(x)

    def _impute(self, x: Tensor, mask: Tensor) -> Tensor:
        imputed = x.masked_fill(mask, torch.nan)
        for _ in range(IMPUTATION_ROUNDS):
            imputed = torch.where(mask, self._evaluate(self.reconstruct, imputed), x)
        return imputed

    def _attribute_to_cells(self, rows: Rows, x: Tensor) -> tuple[Any, Any]:
        """Raw losses, and the same shared out among the cells."""
        raw = self._raw(rows, x)
        cells = self._precisely(self._cells, rows, x)
        sums = cells.sum(axis=2)
        # A row that is reproduced exactly, or has no cell at all, blames all alike.
        cells[sums == 0], sums[sums == 0] = 1.0, cells.shape[2]
        return raw, cells * (raw / sums)[:, :, None]

    def locate(self, rows: SourceRows | TensorRows, weights: NDArray[np.float64]) -> None:
        """Learn where latents and log losses lie; `weights` are each member's of the rows."""
        points = [told for _, told in self._map_batches(self._points, rows, row_axis=1)]
        pairs = zip(np.concatenate(points, axis=1), weights, strict=True)
        self.locations_ = [Location.of(*pair) for pair in pairs]

    def _raw(self, rows: Rows, x: Tensor) -> Any:
        raw = self._precisely(self._row_losses, rows, x)
        if self.score_method == "mahalanobis":
            points = self._precisely(self._points, rows, x)
            for own, location, point in zip(raw[:-1], self.locations_, points, strict=True):
                own[:] = location.distances(point)
        return raw

    def _precisely(self, function: Callable[[Tensor], Tensor], rows: Rows, x: Tensor) -> Any:
        """What a function says of rows for each member, in the float64 of the rows' kind."""
        told = rows.to_array_like(self._evaluate(function, x, row_axis=1))
        return constant(told, told, widest_float(told))

    def _cells(self, x: Tensor) -> Tensor:
        output = self.module_.decode_raw(self.module_.encode(self._for_all(x))).float()
        baseline: Any = self.module_.baseline
        output = torch.cat([output, baseline.expand(1, *x.shape)])
        return self.criterion_.cells(self.module_.link, output, x)

    def _row_losses(self, x: Tensor) -> Tensor:
        n_observed = x.shape[1] - x.isnan().sum(dim=1)
        losses = self._cells(x).sum(dim=2) / n_observed.clamp(min=1)
        if self.score_method == "density":
            divergence = kl_to_standard_normal(self.module_.code(self._for_all(x)).float())
            losses[:-1] += divergence / x.shape[1]
        return losses

    def _points(self, x: Tensor) -> Tensor:
        latents = self.module_.encode(self._for_all(x)).float()
        logs = self._row_losses(x)[:-1].clamp(min=1e-12).log()
        return torch.cat([latents, logs[:, :, None]], dim=2)

    @property
    def _floats_per_row(self) -> int:
        return self.n_members * super()._floats_per_row


def _on_device_of(values: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(values, device=x.device)
