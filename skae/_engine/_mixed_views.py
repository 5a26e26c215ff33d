"""The views of rows of mixed tables: levels given the other cells, and distances by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._engine._views import (
    Conditional,
    Ranks,
    References,
    Views,
    ViewsOnDevice,
    on_device,
)
from skae._stats._gaussian import FactorGaussian, Gaussian
from skae.networks._levels import LevelLayout, heads_of

# Rows that a level is added to the count of, so that none is impossible.
ADDED_ROWS = 0.5
# Squared difference of two levels of a column: that of two numbers of variance one, in the mean.
DIFFERENT = 2.0


@dataclass(eq=False)
class MixedViews(Views):
    """What the views have learned from a mixed table.

    Attributes
    ----------
    n_scores, level_counts, level_shares, level_scales
        Where encoded rows have which column, as in ``LevelLayout``.
    heads : ndarray of shape (n_inputs + 1, n_indicators)
        Logits of levels are linear in numbers and indicators of the other columns, and one.
    n_known : ndarray of shape (n_level_columns,)
        Rows that the probabilities of each column's levels come from.
    rows : ndarray of shape (n_references, n_inputs)
        Reference rows: numbers, and indicators of levels times a factor.
    """

    n_scores: int
    level_counts: list[int]
    level_shares: NDArray[Any]
    level_scales: NDArray[Any]
    heads: NDArray[Any]
    n_known: NDArray[Any]

    def _ready(self, device: torch.device) -> ViewsOnDevice:
        return MixedViewsOnDevice(self, device)

    def layout(self, device: torch.device) -> LevelLayout:
        """Where encoded rows have which column."""
        shares, scales = (
            on_device(part, device) for part in (self.level_shares, self.level_scales)
        )
        return LevelLayout(self.n_scores, self.level_counts, shares, scales)


class MixedViewsOnDevice(ViewsOnDevice):
    """Evaluates the views of a mixed table with tensors on a device."""

    conditional: MixedConditional

    def __init__(self, views: MixedViews, device: torch.device) -> None:
        self.layout = layout = views.layout(device)
        numbers = Conditional(views.gaussian, views.deviations, device)
        self.conditional = MixedConditional(numbers, layout, views.heads, views.n_known)
        self.coordinates = Coordinates(layout, Ranks(views.knots, views.scores, device))
        rows = on_device(views.rows, device)
        ranked = self.coordinates.ranked(rows)
        self.references = ColumnReferences(layout, rows, views.penalties, views.radii)
        self.ranked_references = ColumnReferences(layout, ranked, views.rank_penalties)

    def cells(self, x: Tensor) -> Tensor:
        """Losses of cells, of shape (5, n_rows, n_columns), as in ``ViewsOnDevice``."""
        with torch.autocast(x.device.type, enabled=False):
            read, unseen = self.layout.read(x)
            complete = self.conditional.filled(read)
            coordinates = self.coordinates(complete)
            equal = torch.full((len(x),), -1, device=x.device)
            nearest = [
                *self.references.cells(coordinates, equal),
                *self.ranked_references.cells(self.coordinates.ranked(coordinates), equal),
            ]
            nearest = [cells.masked_fill(unseen, DIFFERENT) for cells in nearest]
            of_each = self.conditional.column_cells(complete, unseen)
            return torch.stack([of_each, *nearest]).masked_fill(self.layout.missing(x), 0.0)


class MixedConditional:
    """Predicts each cell from the others of its row: numbers linearly, levels by their logits.

    With the logits h of a column, its probabilities are ``softmax(h)``. As they come from n
    rows, those of K levels are ``(n softmax(h) + a) / (n + a (K + 1))`` with a of a half, and that
    of all unseen levels together ``a / (n + a (K + 1))``.
    """

    def __init__(
        self,
        numbers: Conditional,
        layout: LevelLayout,
        heads: NDArray[Any],
        n_known: NDArray[Any],
    ) -> None:
        self.numbers = numbers
        self.layout = layout
        self.heads = on_device(heads, numbers.mean.device)
        self.n_known = n_known
        n = on_device(n_known, numbers.mean.device)
        counts = layout.counts[layout.n_scores :]
        total = n + ADDED_ROWS * (counts + 1)
        self.factors = (n / total).repeat_interleave(counts)
        self.unseen = ADDED_ROWS / total
        self.added = self.unseen.repeat_interleave(counts)

    @property
    def deviations(self) -> Tensor:
        return self.numbers.deviations

    @property
    def gaussian(self) -> Gaussian | FactorGaussian:
        return self.numbers.gaussian

    def filled(self, x: Tensor) -> Tensor:
        """Rows with their missing cells replaced by what is expected given the others.

        Levels are replaced by probabilities.
        """
        layout, complete = self.layout, self.numbers.filled(x)
        missing = x.isnan()[:, layout.n_scores :]
        if missing.any():
            complete = complete.clone()
            expected = layout.encoded(self.probabilities(complete))
            of_levels = complete[:, layout.n_scores :]
            of_levels.copy_(torch.where(missing, expected, of_levels))
        return complete

    def probabilities(self, complete: Tensor) -> Tensor:
        """Probabilities of levels given the other cells of complete rows."""
        inputs = head_inputs(self.layout, complete)
        logits = inputs @ self.heads[:-1] + self.heads[-1]
        out = torch.empty_like(logits)
        for span, head in heads_of(logits, self.layout.level_counts):
            out[..., span] = head.softmax(dim=-1).flatten(-2)
        return out * self.factors + self.added

    def cells(self, complete: Tensor) -> Tensor:
        """Losses of complete rows, by column."""
        return self.column_cells(complete, self.layout.unseen(complete))

    def column_cells(self, complete: Tensor, unseen: Tensor) -> Tensor:
        """Squares of the residuals of numbers, and deviances of levels, by column.

        The deviance of a level is twice the logarithm of the ratio of the largest
        probability to its own: like the square of a residual, it is zero for what is most
        probable.
        """
        n, layout = self.layout.n_scores, self.layout
        probabilities = self.probabilities(complete)
        # Of what was filled in, the loss is not read.
        own = layout.level_sums(probabilities * layout.indicators(complete).round())
        own = torch.where(unseen[:, n:], self.unseen, own).clamp(min=self.unseen)
        tops = [head.amax(dim=-1) for _, head in heads_of(probabilities, layout.level_counts)]
        largest = torch.cat([probabilities[:, :0], *tops], dim=-1)
        deviances = 2.0 * (largest.log() - own.log())
        return torch.cat([self.numbers.cells(complete)[:, :n], deviances], dim=-1)

    def missing(self, x: Tensor) -> Tensor:
        """Mask of the columns of which rows miss the cell."""
        return self.layout.missing(x)


def head_inputs(layout: LevelLayout, complete: Tensor) -> Tensor:
    """What logits are linear in: numbers, and indicators of levels."""
    return torch.cat([complete[:, : layout.n_scores], layout.indicators(complete)], dim=1)


class Coordinates:
    """Points whose squared distances are those of rows.

    Levels that differ are as far apart as two numbers that differ by the root of `DIFFERENT`.
    """

    def __init__(self, layout: LevelLayout, ranks: Ranks) -> None:
        self.layout, self.ranks = layout, ranks

    def __call__(self, complete: Tensor) -> Tensor:
        """Points of complete rows."""
        n = self.layout.n_scores
        indicators = self.layout.indicators(complete) * (DIFFERENT / 2) ** 0.5
        return torch.cat([complete[:, :n], indicators], dim=1)

    def ranked(self, coordinates: Tensor) -> Tensor:
        """The same points with normal scores of numbers."""
        n = self.layout.n_scores
        if n == 0:
            return coordinates
        return torch.cat([self.ranks(coordinates[:, :n]), coordinates[:, n:]], dim=1)


class ColumnReferences(References):
    """Finds nearest reference rows; losses are sums over the coordinates of each column."""

    def __init__(
        self,
        layout: LevelLayout,
        rows: Tensor,
        penalties: NDArray[Any],
        radii: NDArray[Any] | None = None,
    ) -> None:
        super().__init__(rows, penalties, radii)
        self.layout = layout

    @property
    def n_columns(self) -> int:
        return self.layout.n_columns

    def by_column(self, squares: Tensor) -> Tensor:
        return self.layout.sums(squares)
