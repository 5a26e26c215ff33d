"""Encode one column of a table as numbers, and decode it to the dtype it had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._exact_cells import MAX_INTEGER, Exact, decimals_of, exact, grid, kind_of
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
    def of(cls, series: Any, is_level: bool | None = None, is_drawn: bool = True) -> Column:
        """Learn the encoding of a column of a pandas frame.

        Parameters
        ----------
        is_level : bool or None
            Whether it holds levels; None: what its dtype says, where booleans are numbers.
        is_drawn : bool
            Whether rows will be drawn, and repeat levels that name rows.
        """
        import pandas as pd

        describe = partial(cls, series.name, series.dtype)
        if is_level and not isinstance(series.dtype, pd.CategoricalDtype):
            return describe(levels=_levels(series, is_drawn))
        if isinstance(series.dtype, pd.CategoricalDtype):
            present = series.cat.remove_unused_categories().cat.categories
            return describe(levels=list(present))
        if _is_time(series.dtype):
            stamps = _stamps(series.dropna(), _clock(series.dtype))
            origin = int(stamps.min()) if len(stamps) else 0
            return describe(origin=origin, tick=max(1, int(np.gcd.reduce(stamps - origin))))
        if pd.api.types.is_complex_dtype(series.dtype):
            raise ValueError(f"Column {series.name!r} of X is complex. Complex data not supported.")
        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        kind = "" if is_number else pd.api.types.infer_dtype(series, skipna=True)
        if (held := kind_of(series, kind)) is not None:
            return cls._of_exact(series, held)
        if is_number:
            return describe()
        if kind in NUMBERS:
            return describe(is_whole=kind == "integer")
        return describe(levels=_levels(series, is_drawn))

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

    def to_numbers(self, series: Any, declared_is_gap: bool = False) -> NDArray[Any]:
        """Numbers, ticks or codes; NaN where a cell is missing.

        Parameters
        ----------
        declared_is_gap : bool
            Whether a level that the dtype of `fit` declares, but no row had, counts as missing.
        """
        import pandas as pd

        missing = series.isna().to_numpy()
        if self.levels is not None:
            cells = pd.Index(series.astype(object), dtype=object)
            codes = pd.Index(self.levels, dtype=object).get_indexer(cells)
            if declared_is_gap and isinstance(self.dtype, pd.CategoricalDtype):
                missing = missing | (codes < 0) & cells.isin(self.dtype.categories)
            unknown = (codes < 0) & ~missing
            if unknown.any():
                remedy = ", or declare them as categories" if declared_is_gap else ""
                raise ValueError(
                    f"Column {self.name!r} of X holds {series[unknown].iloc[0]!r}, which it did "
                    f"not in fit; allowed are {_listed(self.levels)}. Pool rare levels before"
                    f"{remedy}."
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
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
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


def _levels(series: Any, is_drawn: bool) -> list[Any]:
    """The levels of a column; warn of those that seem to name rows."""
    levels = _unique(series)
    if len(series) >= MIN_ROWS_TO_WARN and len(levels) > MAX_LEVEL_SHARE * len(series):
        warn_user(
            f"Column {series.name!r} of X holds {len(levels)} levels in {len(series)} rows"
            f"{', and drawn rows will repeat them' if is_drawn else ''}. If it names rows, leave "
            "it out."
        )
    return _sorted(levels)


def _unique(series: Any) -> list[Any]:
    try:
        return list(series.astype(object).dropna().unique())
    except TypeError:  # an unhashable cell
        cells = enumerate(series)
        row, cell = next((i, c) for i, c in cells if getattr(c, "__hash__", None) is None)
        raise TypeError(
            f"Column {series.name!r} of X holds {cell!r} in row {row}; argument must be a string "
            f"or a number, not {type(cell).__name__!r}."
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
