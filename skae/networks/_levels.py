"""Outputs for rows of numbers and levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class MixedOutput(nn.Module):
    """Numbers as they are, and a softmax for the indicators of each column of levels.

    With the share p of a level and the decoder's output y, which stands for the indicator less
    p, divided by the scale s, the logit is ::

        log p + h(s y / p),    h(u) = log(1 + u) where u > 0, else u

    To first order, the probability is ``p + s y``: a decoder that starts at the factor analysis of
    mixed data reconstructs as it does. Where y is positive, the exponential of the logit is
    ``p + s y``, so that rare levels, whose p is small, do not take all of the probability.

    Parameters
    ----------
    n_scores : int
        Number of columns of numbers, which come first.
    level_counts : list of int
        Number of levels of each other column, in ascending order.
    shares, scales : ndarray of shape (n_indicators,)
    """

    activation = "mixed"
    shares: Tensor
    scales: Tensor

    def __init__(
        self,
        n_scores: int,
        level_counts: list[int],
        shares: NDArray[np.floating],
        scales: NDArray[np.floating],
    ):
        super().__init__()
        self.n_scores = n_scores
        self.level_counts = level_counts
        self.register_buffer("shares", torch.from_numpy(shares.astype(np.float32)))
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.float32)))

    @classmethod
    def of(cls, scaler: Any) -> MixedOutput:
        """The output for rows that a ``MixedScaler`` encodes."""
        return cls(scaler.n_scores, scaler.level_counts, scaler.shares_, scaler.level_scales)

    @property
    def n_outputs(self) -> int:
        """Width of the decoder's output."""
        return self.n_scores + len(self.shares)

    def extra_repr(self) -> str:
        """What tells links apart, and which networks can be trained as one."""
        return f"shares={self.shares.tolist()}, scales={self.scales.tolist()}"

    def forward(self, output: Tensor) -> Tensor:
        """The decoder's output as scaled rows: probabilities less shares, divided by scales."""
        return self.with_pullback(output)[0]

    def with_pullback(self, output: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Scaled rows, and the function from the gradient by them to that by the output."""
        n = self.n_scores
        slopes = self.scales / self.shares
        u = output[..., n:] * slopes
        risen = u.clamp(min=0.0)
        logits = self.shares.log() + torch.where(u > 0, risen.log1p(), u)
        probabilities = torch.empty_like(logits)
        for span, heads in heads_of(logits, self.level_counts):
            probabilities[..., span] = heads.softmax(dim=-1).flatten(-2)
        scaled = torch.cat([output[..., :n], (probabilities - self.shares) / self.scales], dim=-1)

        def pullback(gradient: Tensor) -> Tensor:
            product = gradient[..., n:] / self.scales * probabilities
            for span, heads in heads_of(product, self.level_counts):
                total = heads.sum(dim=-1, keepdim=True).expand(heads.shape).flatten(-2)
                product[..., span] -= total * probabilities[..., span]
            return torch.cat([gradient[..., :n], product * slopes / (1.0 + risen)], dim=-1)

        return scaled, pullback

    @property
    def n_columns(self) -> int:
        """Number of columns of the table."""
        return self.n_scores + len(self.level_counts)

    @property
    def layout(self) -> LevelLayout:
        """Where encoded rows have the cells of which column."""
        return LevelLayout(self.n_scores, self.level_counts, self.shares, self.scales)


def heads_of(cells: Tensor, level_counts: list[int]) -> Iterator[tuple[slice, Tensor]]:
    """Spans of columns with as many levels, and their cells with an axis for the columns."""
    start = 0
    for n_levels, columns in groupby(level_counts):
        stop = start + n_levels * len(list(columns))
        yield slice(start, stop), cells[..., start:stop].unflatten(-1, (-1, n_levels))
        start = stop


class LevelLayout:
    """Leads between encoded cells and the columns of the table: numbers first, then levels.

    Parameters
    ----------
    n_scores, level_counts, shares, scales
        As in ``MixedOutput``; shares and scales are tensors.
    """

    def __init__(
        self, n_scores: int, level_counts: list[int], shares: Tensor, scales: Tensor
    ) -> None:
        self.n_scores = n_scores
        self.level_counts = level_counts
        self.shares, self.scales = shares, scales
        counts = torch.tensor([1] * n_scores + level_counts, device=shares.device)
        self.counts = counts
        self.firsts = counts.cumsum(0) - counts

    @property
    def n_columns(self) -> int:
        """Number of columns of the table."""
        return self.n_scores + len(self.level_counts)

    def indicators(self, x: Tensor) -> Tensor:
        """Indicators, or probabilities, of levels in encoded rows."""
        return x[..., self.n_scores :] * self.scales + self.shares

    def encoded(self, indicators: Tensor) -> Tensor:
        """Indicators or probabilities of levels as encoded rows have them."""
        return (indicators - self.shares) / self.scales

    def sums(self, cells: Tensor) -> Tensor:
        """Sums over the cells of each column."""
        return torch.cat([cells[..., : self.n_scores], self.level_sums(cells)], dim=-1)

    def level_sums(self, cells: Tensor) -> Tensor:
        """Sums over the cells of each column of levels; cells of numbers may be left out."""
        indicators = cells[..., cells.shape[-1] - len(self.shares) :]
        heads = [head.sum(dim=-1) for _, head in heads_of(indicators, self.level_counts)]
        return torch.cat([indicators[..., :0], *heads], dim=-1)

    def missing(self, x: Tensor) -> Tensor:
        """Mask of the columns of which encoded rows miss the cell."""
        return x.isnan()[..., self.firsts]

    def spread(self, columns: Tensor) -> Tensor:
        """A value for each column as values for its cells."""
        return columns.repeat_interleave(self.counts, dim=-1)

    def unseen(self, x: Tensor) -> Tensor:
        """Mask of the columns whose cell is of no known level."""
        of_levels = self.level_sums(self.indicators(x)) < 0.5  # not so if missing
        return torch.nn.functional.pad(of_levels, (self.n_scores, 0))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows whose cells of unseen levels are missing, and the mask of these columns."""
        unseen = self.unseen(x)
        if not unseen.any():
            return x, unseen
        return x.masked_fill(self.spread(unseen), torch.nan), unseen
