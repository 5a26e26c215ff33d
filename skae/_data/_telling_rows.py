"""Rows from which the columns of a table are learned as they would be from all of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import is_tensor
from skae._data._chunks import is_memory_map
from skae._data._exact_cells import distances
from skae._sklearn import num_samples, safe_indexing


def telling_rows(table: Any) -> Any:
    """Rows that hold all levels, and of each column its extremes, its grid and a gap.

    Gaps in sparse rows, tensors and files are not looked for. None if there are no rows.
    """
    n_rows = num_samples(table)
    if n_rows == 0:
        return None
    chosen = {0, n_rows - 1}
    if issparse(table) or is_tensor(table) or is_memory_map(table):
        return safe_indexing(table, sorted(chosen))
    if hasattr(table, "columns"):
        for j in range(table.shape[1]):
            chosen.update(_of_column(table.iloc[:, j] if hasattr(table, "iloc") else table[:, j]))
    else:
        for cells in np.asarray(table).T:
            chosen.update(_of_column(cells))
    return safe_indexing(table, sorted(chosen))


def _of_column(cells: Any) -> set[int]:
    """Numbers of the rows that tell of a column."""
    import pandas as pd

    series = pd.Series(cells.to_numpy() if hasattr(cells, "to_series") else cells)
    missing = series.isna().to_numpy()
    known = np.flatnonzero(~missing)
    places = set(np.flatnonzero(missing)[:1].tolist())
    if not len(known):
        return places
    kind = series.dtype.kind if isinstance(series.dtype.kind, str) else "O"
    if kind not in "biufmM":
        return places | set(np.flatnonzero(~series.duplicated().to_numpy()).tolist())
    values = series.iloc[known].to_numpy()
    places |= {int(known[values.argmin()]), int(known[values.argmax()])}
    if kind in "iumM" and values.dtype.kind in "iumM":
        ticks = values.view(np.int64) if kind in "mM" else values
        places |= set(known[_where_grid_is_finer(ticks)].tolist())
    return places


def _where_grid_is_finer(values: NDArray[Any]) -> NDArray[np.intp]:
    """Places of integers of which the differences from the least have the divisor of all."""
    steps = np.gcd.accumulate(distances(values, values.min()))
    return np.flatnonzero(np.concatenate([[True], steps[1:] != steps[:-1]]))
