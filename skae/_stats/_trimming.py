"""Trimmed subsets: the rows that are nearest to a model, without the outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def trimmed_subset(
    distances: NDArray[Any], weight: NDArray[Any], share: float
) -> NDArray[np.bool_]:
    """Mask of the rows of least distance that hold a share of the weight.

    These are the h-subset of robust statistics (Rousseeuw & Van Driessen, 1999), with weights.
    """
    order = distances.argsort(kind="stable")
    cumulative = np.cumsum(weight[order])
    # Less rounding errors, which would add a row.
    n_inner = int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-9))) + 1
    inner = np.zeros(len(distances), dtype=bool)
    inner[order[:n_inner]] = True
    return inner & (weight > 0)
