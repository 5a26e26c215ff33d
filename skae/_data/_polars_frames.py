"""Columns of polars as arrays, and pandas frames as those of polars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._exact_cells import MAX_INTEGER


def column_of_polars(series: Any) -> NDArray[Any]:
    """Dates and numbers as arrays of their NumPy dtype, everything else as objects."""
    is_large = series.dtype.is_integer() and series.null_count() and _is_large(series)
    if (series.dtype.is_temporal() or series.dtype.is_numeric()) and not is_large:
        return series.to_numpy()
    return np.fromiter(series.to_list(), dtype=object, count=len(series))


def _is_large(series: Any) -> bool:
    """Whether integers are beyond what floats distinguish; with gaps, NumPy makes floats."""
    ends = series.min(), series.max()
    return any(end is not None and abs(end) > MAX_INTEGER for end in ends)


def frame_to_polars(frame: Any, schema: dict[str, Any]) -> Any:
    """A frame of polars with the columns and dtypes of a schema."""
    import polars as pl

    columns = []
    for name, dtype in schema.items():
        cells = frame[name].astype(object)
        cells = cells.where(frame[name].notna(), None).tolist()
        columns.append(pl.Series(name, cells, strict=False).cast(dtype))
    return pl.DataFrame(columns)


def polars_of(frame: Any) -> Any:
    """A pandas frame as one of polars, cell by cell: polars' own way needs pyarrow."""
    import polars

    columns = {
        str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist()
        for name in frame
    }
    return polars.DataFrame(columns, strict=False)
