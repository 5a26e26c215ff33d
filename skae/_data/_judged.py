"""Encode rows of numbers and codes of levels for the detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._mixed import MixedScaler
from skae._data._scaling import Scaler


class JudgedScaler(MixedScaler):
    """A ``MixedScaler`` of which numbers are cut, and that knows unseen levels.

    A code beyond those of the levels stands for a level that no row of `fit` had: all of its
    indicators are zero. Errors of a column of levels are sums of squares of its probabilities',
    so that none is larger than two, however rare a level is.

    Parameters
    ----------
    n_levels : sequence of int
        As in ``MixedScaler``.
    method : str or None
        As in ``Scaler``.
    cut : float
        Scaled numbers beyond this distance from zero grow by their logarithm only.
    """

    def __init__(self, n_levels: Any, method: str | None, cut: float) -> None:
        super().__init__(n_levels, method)
        self.cut = cut

    def _scaler_of_numbers(self) -> Scaler:
        return Scaler(self.method, self.cut)

    @property
    def cell_weights(self) -> NDArray[Any]:
        """Weight of the square of each encoded cell in the error of its column."""
        return np.concatenate([np.ones(self.n_scores), self.level_scales**2])

    @property
    def order(self) -> NDArray[np.intp]:
        """Numbers of the table's columns in the order in which encoded rows have them."""
        return np.concatenate([self.of_numbers, self.of_codes])
