"""Columns of polars as arrays, and pandas frames as those of polars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._exact_cells import MAX_INTEGER


def column_of_polars(series: Any) -> Any:
    """Dates and numbers as arrays of their NumPy dtype, everything else as objects.

    Declared levels are a categorical of pandas, dates with a time zone a series of pandas.
    """
    import pandas as pd
    import polars as pl

    dtype = series.dtype
    if isinstance(dtype, pl.Enum):
        codes = series.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        return pd.Categorical.from_codes(codes, dtype.categories.to_list())
    if dtype.is_integer() and (series.null_count() or str(dtype).endswith("128")):
        if _is_large(series):
            return _objects(series)
        series = series.cast(pl.Float64 if series.null_count() else pl.Int64)
    if (zone := getattr(dtype, "time_zone", None)) is not None:
        stamps = pd.Series(series.to_numpy())
        return stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    if dtype.is_numeric() or (dtype.is_temporal() and dtype != pl.Time):
        return series.to_numpy()
    return _objects(series)


def _objects(series: Any) -> NDArray[Any]:
    return np.fromiter(series.to_list(), dtype=object, count=len(series))


def _is_large(series: Any) -> bool:
    """Whether integers are beyond what floats distinguish; with gaps, NumPy makes floats."""
    ends = series.min(), series.max()
    return any(end is not None and abs(end) > MAX_INTEGER for end in ends)


def frame_to_polars(frame: Any, schema: dict[str, Any]) -> Any:
    """A frame of polars with the columns and dtypes of a schema."""
    import polars as pl

    return pl.DataFrame([_to_polars(frame[name], name, dtype) for name, dtype in schema.items()])


def _to_polars(series: Any, name: str, dtype: Any) -> Any:
    import polars as pl

    if series.dtype.kind in "mM":  # Python's dates have no nanoseconds
        if hasattr(series.dtype, "tz"):
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        unit = getattr(dtype, "time_unit", "us")
        stamps = pl.Series(name, series.to_numpy().astype(f"{series.dtype.kind}8[{unit}]"))
        if getattr(dtype, "time_zone", None) is not None:
            stamps = stamps.dt.replace_time_zone("UTC")
        return stamps.cast(dtype)
    cells = series.astype(object).where(series.notna(), None).tolist()
    if dtype == pl.Object:
        return pl.Series(name, cells, dtype=dtype)
    return pl.Series(name, cells, strict=False).cast(dtype)


def polars_of(frame: Any) -> Any:
    """A pandas frame as one of polars, cell by cell: polars' own way needs pyarrow."""
    import polars

    columns = {
        str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist()
        for name in frame
    }
    return polars.DataFrame(columns, strict=False)
