"""Rows that are far from those that a scaling was learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skae._data._chunks import as_dense
from skae._data._sources import studied
from skae.exceptions import warn_user

# Rows are far if the median of a column lies outside the range that is known of it by more than
# this many scales. In random pieces of a table it hardly ever leaves the range.
FAR = 10.0
# Fewer rows say too little of a scale.
MIN_ROWS = 10
# Medians of larger tables come from every n-th row, so that they have at most this many cells.
MAX_CELLS = 2**20


def warn_if_far(
    X: Any, scaler: Any, names: Any, show: Callable[[int, float], str] | None = None
) -> bool:
    """Warn, and return True, if a column of X is far from what a scaler knows of it.

    Parameters
    ----------
    X : array, CSR matrix or table of shape (n_samples, n_features)
        NaN is a missing cell.
    scaler : object with ``known_ranges``
    names : sequence or None
        Names of the columns; None means their numbers.
    show : callable or None
        From the number of a column, and a number in it, to text.
    """
    if X.shape[0] < MIN_ROWS:
        return False
    low, high, scale = scaler.known_ranges
    X, _ = studied(X, None)
    sample = as_dense(X[:: -(-X.shape[0] * len(low) // MAX_CELLS)])[:, : len(low)]
    missing = np.isnan(sample)
    if missing.any():
        sample = np.where(missing.all(axis=0), low, sample)
    medians = (np.nanmedian if missing.any() else np.median)(sample, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = np.maximum(np.maximum(medians - high, low - medians), 0.0) / scale
    beyond[np.isnan(beyond)] = 0.0  # a column of gaps, whose range is not known either
    column = int(np.argmax(beyond))
    if beyond[column] <= FAR:
        return False
    median, first, last = (
        f"{x:.3g}" if show is None else show(column, x)
        for x in (medians[column], low[column], high[column])
    )
    warn_user(
        f"Half of the values of column {column if names is None else names[column]!r} of X are "
        f"{'above' if medians[column] > high[column] else 'below'} {median}, far from those that "
        f"fixed the scaling, {first} to {last}. The first rows should be a representative sample: "
        "shuffle the rows, or fit anew."
    )
    return True
