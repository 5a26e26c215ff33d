"""Read tables of any container: as frames and arrays, and their cells as numbers."""

from __future__ import annotations

import datetime
import reprlib
from collections.abc import Iterator, Mapping, Set
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import is_tensor
from skae._data._open import as_source
from skae._data._parquet_files import is_parquet_path
from skae._data._sources import is_source

# What turns an object of a class, by its package, into a table that is in memory.
CALLS = {
    ("_duckdb", "DuckDBPyRelation"): "df()",
    ("dask", "Array"): "compute()",
    ("dask", "DataFrame"): "compute()",
    ("duckdb", "DuckDBPyRelation"): "df()",
    ("ibis", "Table"): "to_pandas()",
    ("polars", "LazyFrame"): "collect()",
    ("pyarrow", "RecordBatchReader"): "read_all()",
    ("pyarrow", "Scanner"): "to_table()",
    ("pyspark", "DataFrame"): "toPandas()",
    ("xarray", "Dataset"): "to_dataframe()",
}
# Marks frames of pandas that were tables of Arrow.
FROM_ARROW = "skae.is_arrow"
NO_TABLE = (
    "must be a table: rows of numbers, or a frame. Parquet files are opened by skae.io.open_table."
)
NO_CELLS = "All cells of X are missing: there is nothing to learn from."
DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
# Results of `pandas.api.types.infer_dtype` for cells that are dates begin so.
KINDS_OF_DATES = ("date", "time", "period")
ADVICE_ON_LEVELS = (
    "Encode levels, by sklearn.preprocessing.OneHotEncoder for instance; they are read as they "
    "are if fit was given them, but for categorical_features=None."
)
ADVICE_ON_DATES = (
    "Subtract a date and divide by a unit of time; columns of dates are read as they are if fit "
    "was given them."
)


def as_table(X: Any, name: str = "X") -> Any:
    """X in a container that holds its cells; raise TypeError if there is none.

    Arrow tables become pandas frames of Arrow's dtypes, wrapped frames what they wrap.
    """
    if is_tensor(X) or issparse(X):
        return X
    source = as_source(X)
    if source is not None:
        return source
    if _package(X) == "narwhals" and hasattr(X, "to_native"):
        X = X.to_native()
    call = CALLS.get((_package(X), type(X).__name__))
    if call is not None:
        remedy = f"pass {name}.{call}"
        if _package(X) == "dask":
            remedy += ", or leave it on its workers with skae.dask.fit and skae.dask.apply"
        raise TypeError(f"{name} is a {type(X).__name__}, not a table in memory: {remedy}.")
    if _package(X) == "pyarrow" and hasattr(X, "column_names"):
        return _of_arrow(X, name)
    if isinstance(X, list | tuple):
        _check_no_paths(X, name)
        return _of_rows(X, name)
    if isinstance(X, Iterator | Set):
        raise TypeError(
            f"{name} is a {type(X).__name__} and has no order of rows: pass list({name})."
        )
    if isinstance(X, Mapping) or getattr(getattr(X, "dtype", None), "names", None):
        raise TypeError(
            f"{name}, of type {type(X).__name__}, holds columns by name: pass "
            f"pandas.DataFrame({name})."
        )
    is_array_like = any(hasattr(X, name) for name in ("shape", "__len__", "__array__"))
    if X is None or isinstance(X, str | bytes | Number) or not is_array_like:
        raise TypeError(f"{name}={X!r} {NO_TABLE}")
    return X


def _check_no_paths(X: Any, name: str) -> None:
    """Raise if a list holds paths of files, and no rows."""
    if X and all(map(is_parquet_path, X)):
        raise TypeError(f"{name}={reprlib.repr(X)} {NO_TABLE}")


def without_mask(X: Any, marker: float | None, name: str = "X") -> Any:
    """An array without its mask; where it is set, what marks missing cells is put.

    Parameters
    ----------
    marker : float or None
        None where no cell may be missing: then a mask that is set anywhere is an error.
    """
    if not isinstance(X, np.ma.MaskedArray):
        return X
    mask = np.ma.getmaskarray(X)
    if not mask.any():
        return X.data
    if marker is None:
        place = np.argwhere(mask)[0].tolist()
        where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        raise ValueError(
            f"{name} is masked in {mask.sum()} cells, the first in {where}, but no cell of {name} "
            f"may be missing: fill it by {name}.filled(value), or leave these rows out."
        )
    # Integers have no NaN, and may be too short for another marker; so may texts.
    dtypes = {"f": X.dtype, "O": object, "U": object, "S": object}
    cells = np.array(X.data, dtype=dtypes.get(X.dtype.kind, np.float64))
    cells[mask] = marker
    return cells


def numbers_of_table(X: Any, name: str = "X") -> Any:
    """X with numbers in all cells, NaN where one is missing.

    Tables of numbers come back as they are. Raise ValueError or TypeError, which names the
    column, if a cell is no number.
    """
    if is_tensor(X) or issparse(X) or is_source(X):
        return X
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return _numbers_of_pandas(X, name)
    if hasattr(X, "to_series") and hasattr(X, "schema"):
        return _numbers_of_polars(X, name)
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        return X
    dtype = getattr(X, "dtype", None)
    if _is_plain(dtype):
        return X
    array = np.asarray(X)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is an error later
            return X if _is_plain(array.dtype) else array.astype(np.float64)
    if array.dtype.kind not in "OUSmM":
        return X
    if array.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead: {name} of shape {array.shape} "
            f"and dtype {array.dtype}. Pass a frame or a list of rows, also for one row."
        )
    columns = [numbers_of_cells(cells, j, name) for j, cells in enumerate(array.T)]
    return np.column_stack(columns) if columns else array.astype(np.float64)


def check_names_differ(names: Any, name: str = "X") -> None:
    """Raise ValueError if a name of an index of pandas occurs twice."""
    if not names.is_unique:
        label = names[names.duplicated()][0]
        raise ValueError(f"Column {label!r} of {name} occurs more than once; names must differ.")


def is_arrow(frame: Any) -> bool:
    """Whether a frame of pandas was a table of Arrow."""
    return bool(frame.attrs.get(FROM_ARROW))


def frame_to_arrow(frame: Any) -> Any:
    """A table of Arrow with the cells of a frame of Arrow's dtypes."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def plain(value: Any) -> Any:
    """A scalar of NumPy as one of Python, whose text is shorter."""
    return value.item() if isinstance(value, np.number | np.bool_ | np.str_) else value


def _package(X: Any) -> str:
    return type(X).__module__.partition(".")[0]


def _of_arrow(table: Any, name: str) -> Any:
    import pandas as pd

    check_names_differ(pd.Index(table.schema.names), name)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame.attrs[FROM_ARROW] = True
    return frame


def _of_rows(rows: list[Any] | tuple[Any, ...], name: str) -> Any:
    """A list of rows as an array; raise if they are no rows of cells, or of several lengths."""
    first = rows[0] if len(rows) else None
    if isinstance(first, Mapping):
        raise TypeError(f"{name} is a list of dicts: pass pandas.DataFrame({name}).")
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        return np.ma.stack(rows)
    try:
        array = np.asarray(rows)
    except ValueError:
        lengths = [len(row) if hasattr(row, "__len__") else 0 for row in rows]
        other = next((i for i, n in enumerate(lengths) if n != lengths[0]), None)
        if other is None:
            raise
        raise ValueError(
            f"The rows of {name} differ in length: row 0 has {lengths[0]} cells, row {other} has "
            f"{lengths[other]}."
        ) from None
    # A string among numbers makes them all strings.
    return np.asarray(rows, dtype=object) if array.dtype.kind in "US" else array


def _numbers_of_pandas(frame: Any, name: str) -> Any:
    import pandas as pd

    check_names_differ(frame.columns, name)
    if not frame.shape[1]:
        raise ValueError(
            f"{name} is a frame with 0 feature(s) (shape={frame.shape}) while a minimum of 1 is "
            "required."
        )
    dtypes = list(frame.dtypes)
    are_sparse = [isinstance(dtype, pd.SparseDtype) for dtype in dtypes]
    inner = [d.subtype if isinstance(d, pd.SparseDtype) else d for d in dtypes]
    if all(_is_plain(d) and d.kind != "c" for d in inner) and len(set(are_sparse)) < 2:
        return frame
    columns = []
    for j, (label, dtype) in enumerate(zip(frame.columns, dtypes, strict=True)):
        series = frame.iloc[:, j]
        series = series.sparse.to_dense() if are_sparse[j] else series
        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        if is_number and not pd.api.types.is_complex_dtype(series.dtype):
            columns.append(series.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            cells = series.to_numpy(dtype=object)
            columns.append(numbers_of_cells(cells, label, name, dtype))
    single = all(str(dtype).lower() in ("float32", "float[pyarrow]") for dtype in dtypes)
    numbers = np.column_stack(columns).astype(np.float32 if single else np.float64, copy=False)
    return pd.DataFrame(numbers, index=frame.index, columns=frame.columns)


def _is_plain(dtype: Any) -> bool:
    """Whether arrays of a dtype are computed with as they are."""
    is_number = isinstance(dtype, np.dtype) and dtype.kind in "biufc"
    # float128 holds values that float64 does not, and float16 overflows soon.
    return is_number and (dtype.kind != "f" or dtype.itemsize in (4, 8))


def _numbers_of_polars(frame: Any, name: str) -> Any:
    import polars as pl

    if all(dtype.is_numeric() and not dtype.is_decimal() for dtype in frame.dtypes):
        return frame
    columns = []
    for label, dtype in frame.schema.items():
        series = frame[label]
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            columns.append(series.cast(pl.Float64).to_numpy())
        else:
            cells = np.fromiter(series.to_list(), dtype=object, count=len(series))
            columns.append(numbers_of_cells(cells, label, name, dtype))
    return pl.DataFrame(np.column_stack(columns), schema=frame.columns)


def numbers_of_cells(
    cells: NDArray[Any], label: Any, name: str, dtype: Any = None
) -> NDArray[np.float64]:
    """A column of objects, strings or dates as numbers; `dtype` is how its table calls it."""
    import pandas as pd

    missing = pd.isna(cells)
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    # NumPy makes numbers of dates without a word.
    is_date = kind.startswith(KINDS_OF_DATES) or getattr(dtype, "kind", "") in {"m", "M"}
    is_date |= hasattr(dtype, "is_temporal") and dtype.is_temporal()  # of polars
    if cells.dtype == object and not is_date:
        numbers = np.where(missing, 0.0, cells)
        # NumPy makes numbers of dates among numbers, too.
        may_hold_dates = kind.startswith("mixed")
        try:
            if not may_hold_dates or all(map(_is_number, numbers)):
                return np.where(missing, np.nan, numbers.astype(np.float64))
        except (TypeError, ValueError, OverflowError):
            pass
        row = next(i for i, cell in enumerate(numbers) if not _is_number(cell))
    else:
        row = int(missing.argmin())
    raise _not_a_number(cells[row], is_date, f"{label!r} of {name}", row, dtype or cells.dtype)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(cell, DATES)


def _not_a_number(cell: Any, is_date: bool, column: str, row: int, dtype: Any) -> Exception:
    is_date = is_date or isinstance(cell, DATES)
    shown = repr(cell) if is_date else reprlib.repr(cell)
    holds = f"Column {column}, of dtype {dtype}, holds {shown} in row {row}"
    if is_date:
        return ValueError(f"{holds}, but must hold numbers, not dates or times. {ADVICE_ON_DATES}")
    if isinstance(cell, str | bytes):
        return ValueError(f"{holds}, but must hold numbers, not strings. {ADVICE_ON_LEVELS}")
    if isinstance(cell, complex | np.complexfloating):
        return ValueError(f"{holds}, but must hold real numbers. Complex data not supported.")
    return TypeError(
        f"{holds}, but the argument must be a number or a string of a number, not a "
        f"{type(cell).__name__}."
    )
