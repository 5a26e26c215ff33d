"""Noise on encoded rows of mixed tables: what happens to a column, happens to all of its cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._engine._noise import CellNoise, masking, swap


class MixedNoise:
    """Noise on rows of numbers and indicators of levels; missing cells stay missing.

    Masking and swaps are about columns of the table. Other noise is put on numbers, and levels are
    swapped for those of other rows.

    Parameters
    ----------
    kind : {"gaussian", "masking", "salt_and_pepper", "swap"}
    level : float or ndarray of shape (n_features,)
        Standard deviations of Gaussian noise, where columns hold numbers; otherwise the mean share
        of the cells that are changed.
    masked : float
        Mean share of the cells that are set to missing in addition.
    scaler : MixedScaler
    generator : torch.Generator
    varies : bool
        Whether Gaussian noise has a level of its own in each row.
    """

    def __init__(
        self,
        kind: str,
        level: Any,
        masked: float,
        *,
        scaler: Any,
        generator: torch.Generator,
        varies: bool = False,
    ):
        device = generator.device
        self.kind = kind
        self.n_scores = scaler.n_scores
        self.column_of = torch.as_tensor(scaler.column_of, device=device)
        level = np.broadcast_to(level, len(scaler.n_levels)).copy()
        self.shares = torch.as_tensor(level, dtype=torch.float32, device=device)
        self.masked = torch.as_tensor(masked, dtype=torch.float32, device=device)
        self.generator = generator
        self.of_numbers = None
        if kind not in ("masking", "swap") and scaler.n_scores:
            numbers, level = scaler.numbers_, level[scaler.of_numbers]
            level = level / numbers.scale_ if kind == "gaussian" else level
            self.of_numbers = CellNoise(
                kind, level, 0.0, scaler=numbers, generator=generator, varies=varies
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Noisy copies of encoded rows."""
        if self.kind == "masking":
            noisy = masking(x, self.shares, self.generator, self.column_of)
        else:
            noisy = swap(x, self.shares, self.generator, self.column_of)
            if self.of_numbers is not None:
                noisy[:, : self.n_scores] = self.of_numbers(x[:, : self.n_scores])
            noisy = torch.where(x.isnan(), x, noisy)
        if self.masked > 0:
            noisy = masking(noisy, self.masked, self.generator, self.column_of)
        return noisy
