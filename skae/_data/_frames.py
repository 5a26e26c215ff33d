"""Encode tables of mixed columns as numbers, and decode them to the container they came in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import is_tensor, namespace, widest_float
from skae._data._chunks import is_memory_map
from skae._data._exact_cells import (
    MAX_INTEGER,
    Exact,
    decimals_of,
    exact,
    grid,
    kind_of,
)
from skae._data._polars_frames import column_of_polars, frame_to_polars
from skae.exceptions import warn_user

# Results of `pandas.api.types.infer_dtype` for objects that are all numbers.
NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal", "empty"}
# A column with more levels than this share of the rows probably holds identifiers; warned
# about only in tables of this many rows.
MAX_LEVEL_SHARE, MIN_ROWS_TO_WARN = 0.5, 100


@dataclass
class Column:
    """How one column is encoded: as the numbers it holds, as ticks of a clock or as codes.

    Attributes
    ----------
    name : object
    dtype : object
        The pandas dtype of the column in `fit`.
    levels : list or None
        Levels by their codes, for columns that do not hold numbers.
    origin, tick : int
        For dates and what `exact` holds: the first one, and the greatest common divisor of the
        differences from it, in units of the dtype.
    is_whole : bool
        Whether a column of objects holds integers.
    exact : {"integer", "day", "datetime", "timestamp", "decimal"} or None
        What holds the cells, where neither floats nor dtypes of dates do.
    decimals : int
        Digits of decimals behind the point.
    """

    name: Any
    dtype: Any
    levels: list | None = None
    origin: int | None = None
    tick: int | None = None
    is_whole: bool = False
    exact: str | None = None
    decimals: int = 0

    @classmethod
    def of(cls, series: Any) -> Column:
        """Learn the encoding of a column of a pandas frame."""
        import pandas as pd

        describe = partial(cls, series.name, series.dtype)
        if isinstance(series.dtype, pd.CategoricalDtype):
            present = series.cat.remove_unused_categories().cat.categories
            return describe(levels=list(present))
        if _is_time(series.dtype):
            stamps = _stamps(series.dropna(), _clock(series.dtype))
            origin = int(stamps.min()) if len(stamps) else 0
            return describe(origin=origin, tick=max(1, int(np.gcd.reduce(stamps - origin))))
        if pd.api.types.is_complex_dtype(series.dtype):
            raise ValueError(f"Complex data not supported: column {series.name!r} of X.")
        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        kind = "" if is_number else pd.api.types.infer_dtype(series, skipna=True)
        if (held := kind_of(series, kind)) is not None:
            return cls._of_exact(series, held)
        if is_number:
            return describe()
        if kind in NUMBERS:
            return describe(is_whole=kind == "integer")
        levels = _unique(series)
        if len(series) >= MIN_ROWS_TO_WARN and len(levels) > MAX_LEVEL_SHARE * len(series):
            warn_user(
                f"Column {series.name!r} of X holds {len(levels)} levels in {len(series)} rows, "
                "and drawn rows will repeat them. If it names rows, leave it out.",
            )
        return describe(levels=_sorted(levels))

    @classmethod
    def _of_exact(cls, series: Any, kind: str) -> Column:
        """Learn a column of large integers, of decimals or of objects of dates."""
        cells = series.dropna()
        decimals = decimals_of(cells) if kind == "decimal" else 0
        integers = set(map(exact(kind, decimals).to_int, cells))
        origin, tick = grid(integers, series.name)
        if kind == "decimal" and max(map(abs, integers), default=0) <= MAX_INTEGER:
            origin, tick = 0, 1  # numbers are the decimals themselves
        return cls(series.name, series.dtype, None, origin, tick, exact=kind, decimals=decimals)

    @property
    def _is_value(self) -> bool:
        """Whether the numbers of decimals are what they are, and no steps of a grid."""
        return self.exact == "decimal" and (self.origin, self.tick) == (0, 1)

    @property
    def _divisor(self) -> int:
        """Steps of the grid in a number of one."""
        return 10**self.decimals if self._is_value else 1

    @property
    def _exact(self) -> Exact:
        return exact(str(self.exact), self.decimals)

    @property
    def meaning(self) -> tuple[str, int, int]:
        """What it holds, and of dates the first one and their step in nanoseconds."""
        import pandas as pd

        if self.levels is not None:
            is_flag = len(self.levels) == 2 and all(level in (False, True) for level in self.levels)
            return "flag" if is_flag else "level", 0, 1
        if self.exact is not None and self.origin is not None and self.tick is not None:
            step = self._exact.nanoseconds
            kind = "number" if self._is_value else "other"
            return "date" if step else kind, self.origin * step, self.tick * step
        if self.origin is not None and self.tick is not None:
            clock = _clock(self.dtype)
            unit = clock.unit if hasattr(clock, "tz") else np.datetime_data(clock)[0]
            factor = int(np.array(1, f"m8[{unit}]").astype("m8[ns]").astype(int))
            kind = "lapse" if clock.kind == "m" else "date"
            return kind, self.origin * factor, self.tick * factor
        return "flag" if pd.api.types.is_bool_dtype(self.dtype) else "number", 0, 1

    def to_numbers(self, series: Any) -> NDArray[Any]:
        """Numbers, ticks or codes; NaN where a cell is missing."""
        import pandas as pd

        missing = series.isna().to_numpy()
        if self.levels is not None:
            cells = pd.Index(series.astype(object), dtype=object)
            codes = pd.Index(self.levels, dtype=object).get_indexer(cells)
            unknown = (codes < 0) & ~missing
            if unknown.any():
                raise ValueError(
                    f"Column {self.name!r} of X holds {series[unknown].iloc[0]!r}, which it did "
                    f"not in fit; allowed are {_listed(self.levels)}. Pool rare levels before."
                )
            return np.where(missing, np.nan, codes)
        if self.exact is not None:
            return self._exact_numbers(series, missing)
        if self.origin is not None and self.tick is not None:
            clock = _clock(self.dtype)
            if series.dtype != object and _clock(series.dtype).kind != clock.kind:
                raise TypeError(f"Column {self.name!r} of X must hold dates; got {series.dtype}.")
            try:
                series = series.astype(clock)  # units and time zones as in fit
            except (TypeError, ValueError) as error:
                raise type(error)(
                    f"Column {self.name!r} of X must hold dates as in fit: {error}"
                ) from error
            numbers = np.full(len(series), np.nan)
            numbers[~missing] = (_stamps(series[~missing], clock) - self.origin) / self.tick
            return numbers
        try:
            numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"Column {self.name!r} of X must hold numbers, as it did in fit: {error}"
            ) from error
        if pd.api.types.is_integer_dtype(series.dtype) and np.nanmax(np.abs(numbers), initial=0) > (
            MAX_INTEGER
        ):
            raise ValueError(
                f"Column {self.name!r} of X holds integers beyond 2**53, which floats do not "
                "distinguish; subtract a constant, or make them strings."
            )
        if np.isinf(numbers).any():
            raise ValueError(f"Column {self.name!r} of X contains infinity; allowed is NaN.")
        return numbers

    def _exact_numbers(self, series: Any, missing: NDArray[np.bool_]) -> NDArray[Any]:
        how, origin, tick = self._exact, self.origin or 0, (self.tick or 1) * self._divisor
        numbers = np.full(len(series), np.nan)
        try:
            cells = [how.to_int(how.parse(cell)) for cell in series[~missing].tolist()]
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(
                f"Column {self.name!r} of X must hold cells as in fit: {error}"
            ) from error
        numbers[~missing] = [(cell - origin) / tick for cell in cells]
        return numbers

    def _exact_cells(self, numbers: NDArray[Any]) -> list[Any]:
        how, origin, tick = self._exact, self.origin or 0, self.tick or 1
        return [
            None if np.isnan(n) else how.to_cell(origin + round(n * self._divisor) * tick)
            for n in numbers.tolist()
        ]

    def restore(self, numbers: NDArray[Any], index: Any) -> Any:
        """A column of the dtype that it had in `fit`, from its numbers, ticks or codes."""
        import pandas as pd

        series = partial(pd.Series, index=index, name=self.name)
        if self.levels is not None:
            codes = np.where(np.isnan(numbers), -1, numbers).astype(int)
            cells = pd.Series(codes, index).map(dict(enumerate(self.levels)))
            return series(cells.astype(object).where(codes >= 0, None), dtype=self.dtype)
        if self.exact is not None:
            return series(self._exact_cells(numbers), dtype=self.dtype)
        if self.origin is not None:
            known = ~np.isnan(numbers)
            stamps = np.full(len(numbers), np.iinfo(np.int64).min)  # NaT
            stamps[known] = self.origin + np.rint(numbers[known]).astype(np.int64) * self.tick
            return _from_stamps(stamps, _clock(self.dtype), series).astype(self.dtype)
        if pd.api.types.is_bool_dtype(self.dtype):
            numbers = np.where(np.isnan(numbers), np.nan, numbers > 0.5)
        elif pd.api.types.is_integer_dtype(self.dtype):
            numbers = np.rint(numbers)
        if self.is_whole:
            return series([None if np.isnan(n) else round(n) for n in numbers], dtype=self.dtype)
        return series(numbers).astype(self.dtype)

    def encode_value(self, value: Any) -> float:
        """The number, tick or code of one value."""
        import pandas as pd

        cell = pd.Series([value], name=self.name, dtype=object)
        if self.exact is not None and not pd.isna(value):
            try:
                cell = cell.map(self._exact.parse)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueError(f"Column {self.name!r} cannot be {value!r}: {error}") from error
        elif self.origin is not None and self.exact is None:
            try:
                cell = cell.astype(_clock(self.dtype))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Column {self.name!r} cannot be {value!r}; allowed are dates: {error}"
                ) from error
        return float(self.to_numbers(cell)[0])

    def decode_value(self, number: float) -> str:
        """The value that a number, tick or code stands for, as text."""
        import pandas as pd

        if self.origin is None:
            return f"{number:g}"
        return str(self.restore(np.array([number]), pd.RangeIndex(1)).iloc[0])


class PlainColumns:
    """The columns of a numeric array, which need no encoding."""

    is_frame = False

    def __init__(self, X: Any) -> None:
        self.dtype = getattr(X, "dtype", np.dtype(float))
        self.n_features = X.shape[1]

    @property
    def names(self) -> list[int]:
        return list(range(self.n_features))

    @property
    def n_levels(self) -> list[int]:
        return [0] * self.n_features

    def meaning(self, j: int) -> tuple[str, int, int]:
        """What column `j` holds, as in `Columns`."""
        return "flag" if self.dtype.kind == "b" else "number", 0, 1

    def levels(self, j: int) -> list[Any]:
        """No levels."""
        return []

    def encode_value(self, j: int, value: Any) -> float:
        """A value of column `j` as a float."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"Column {j!r} cannot be {value!r}; it holds numbers.") from None

    def decode_value(self, j: int, number: float) -> str:
        """A number of column `j` as text."""
        return f"{number:g}"

    def restore(self, numbers: Any, index: Any = None) -> Any:
        """Rows of the dtype that they had in `fit`."""
        if self.dtype.kind == "b":
            return numbers > 0.5
        xp, dtype = namespace(numbers), widest_float(numbers)
        if self.dtype.kind in "iu":
            numbers, dtype = xp.round(numbers), getattr(xp, self.dtype.name)
        if self.dtype == np.float32:
            dtype = xp.float32
        return xp.astype(numbers, dtype, copy=False)


class Columns:
    """The columns of a frame, or of an array of objects.

    Parameters
    ----------
    X : frame or ndarray of objects
        The table whose columns are learned.
    """

    is_frame = True

    def __init__(self, X: Any) -> None:
        self.container = _container(X)
        self.schema = dict(X.schema) if self.container == "polars" else None
        frame = _to_pandas(X, self.container)
        self.index = frame.columns
        if not self.index.is_unique:
            duplicate = self.index[self.index.duplicated()][0]
            raise ValueError(f"X has several columns {duplicate!r}; names must differ.")
        self.columns = [Column.of(frame.iloc[:, j]) for j in range(frame.shape[1])]

    @property
    def names(self) -> list[Any]:
        return list(self.index)

    @property
    def n_levels(self) -> list[int]:
        """Number of levels of each column of levels, 0 for the others."""
        return [len(column.levels or []) for column in self.columns]

    def meaning(self, j: int) -> tuple[str, int, int]:
        """What column `j` holds, and of dates the first one and their step in nanoseconds.

        It is "number", "flag", "level", "date" or "lapse".
        """
        return self.columns[j].meaning

    def levels(self, j: int) -> list[Any]:
        """Levels of column `j` by their codes; none for numbers and dates."""
        return self.columns[j].levels or []

    def encode_value(self, j: int, value: Any) -> float:
        """The number, tick or code of a value of column `j`."""
        return self.columns[j].encode_value(value)

    def decode_value(self, j: int, number: float) -> str:
        """The value of column `j` that a number, tick or code stands for, as text."""
        return self.columns[j].decode_value(number)

    def to_numbers(self, X: Any) -> NDArray[Any]:
        """Rows as one array of numbers, ticks and codes; NaN where a cell is missing."""
        frame = _to_pandas(X, _container(X))
        cells = [c.to_numbers(frame.iloc[:, j]) for j, c in enumerate(self.columns)]
        if not cells:
            return np.empty(frame.shape)
        single = all(column.dtype == np.float32 for column in self.columns)
        return np.column_stack(cells).astype(np.float32 if single else np.float64, copy=False)

    def restore(self, numbers: NDArray[Any], index: Any = None) -> Any:
        """Rows in the container and of the dtypes that they had in `fit`."""
        import pandas as pd

        index = pd.RangeIndex(len(numbers)) if index is None else index
        cells = [c.restore(numbers[:, j], index) for j, c in enumerate(self.columns)]
        frame = pd.concat(cells, axis=1) if cells else pd.DataFrame(index=index)
        frame.columns = self.index
        if self.schema is not None:
            return frame_to_polars(frame, self.schema)
        if self.container in ("dates", "integers"):
            return frame.to_numpy()
        return frame.to_numpy(dtype=object) if self.container == "objects" else frame


def column_mask(columns: Any, names: list[Any], n_features: int) -> NDArray[np.bool_]:
    """Boolean mask of columns given by name, by number or as a mask."""
    mask = np.zeros(n_features, dtype=bool)
    as_array = np.asarray(columns)
    if as_array.dtype == bool and as_array.shape == mask.shape:
        return as_array
    for column in [columns] if as_array.ndim == 0 else columns:
        column = column.item() if isinstance(column, np.generic) else column
        if column in names:
            mask[names.index(column)] = True
        elif type(column) is int and 0 <= column < n_features:
            mask[column] = True
        else:
            known = f"one of {names}, or " if names else ""
            raise ValueError(
                f"columns={columns!r}: {column!r} must be {known}an integer from 0 to "
                f"{n_features - 1}."
            )
    return mask


def is_mixed(X: Any) -> bool:
    """Whether X is a frame, or an array of objects, strings or dates."""
    return _container(X) is not None


def _container(X: Any) -> str | None:
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return "pandas"
    if hasattr(X, "to_series") and hasattr(X, "schema"):
        return "polars"
    if issparse(X) or is_tensor(X):
        return None
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        return None
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.ndim != 2:
        return None
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and not is_memory_map(array):
        is_large = array.size and max(abs(int(array.min())), abs(int(array.max()))) > MAX_INTEGER
        return "integers" if is_large else None
    return "objects" if array.dtype.kind in "OUS" else "dates" if array.dtype.kind in "mM" else None


def _to_pandas(X: Any, container: str | None) -> Any:
    import pandas as pd

    if container == "pandas":
        return X
    if container == "polars":
        columns = {name: column_of_polars(X[name]) for name in X.columns}
        return pd.DataFrame(columns)
    if container == "objects":
        cells = np.array(X, dtype=object)
        cells[np.ma.getmaskarray(X)] = None
        return pd.DataFrame(cells)
    return pd.DataFrame(X)


def _unique(series: Any) -> list[Any]:
    try:
        return list(series.astype(object).dropna().unique())
    except TypeError:  # an unhashable cell
        cell = next(c for c in series if getattr(c, "__hash__", None) is None)
        raise TypeError(
            f"Column {series.name!r} of X holds {cell!r}; argument must be a string or a number, "
            f"not {type(cell).__name__!r}."
        ) from None


def _sorted(levels: list[Any]) -> list[Any]:
    try:
        return sorted(levels)
    except TypeError:  # of several types
        return levels


def _listed(levels: list[Any], at_most: int = 10) -> str:
    text = ", ".join(repr(level) for level in levels[:at_most])
    return text if len(levels) <= at_most else f"{text} and {len(levels) - at_most} more"


def _is_time(dtype: Any) -> bool:
    return getattr(_clock(dtype), "kind", None) in {"m", "M"}


def _clock(dtype: Any) -> Any:
    """The dtype of pandas for dates of a dtype of Arrow; others are what they are."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    kind, _, unit = str(arrow).rstrip("]").partition("[")
    unit = unit.partition(",")[0]
    if kind == "timestamp":
        import pandas as pd

        zone = arrow.tz  # type: ignore[union-attr]
        return np.dtype(f"M8[{unit}]") if zone is None else pd.DatetimeTZDtype(unit, zone)
    if kind in ("date32", "date64"):
        return np.dtype("M8[s]")
    return np.dtype(f"m8[{unit}]") if kind == "duration" else dtype


def _stamps(series: Any, clock: Any) -> NDArray[np.int64]:
    """Dates as integers, in the unit of a dtype of pandas."""
    series = series.astype(clock)
    if hasattr(clock, "tz"):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return series.to_numpy().view(np.int64)


def _from_stamps(stamps: NDArray[np.int64], dtype: Any, series: Callable[[Any], Any]) -> Any:
    if not hasattr(dtype, "tz"):
        return series(stamps.view(dtype))
    utc = series(stamps.view(f"datetime64[{dtype.unit}]"))
    return utc.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)
