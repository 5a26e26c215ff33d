"""Encode one column of a table as numbers, and decode it to the dtype it had."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._exact_cells import (
    DURATIONS,
    INSTANTS,
    MAX_INTEGER,
    Exact,
    decimals_of,
    distances,
    exact,
    grid,
    kind_of,
)
from skae._data._tables import numbers_of_cells, plain
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
    exact : str or None
        What holds the cells, one of `_exact_cells.KINDS`, where neither floats nor dtypes of
        dates do.
    decimals : int
        Digits of decimals behind the point.
    clock : dtype or None
        Of pandas, with the time zone of objects of dates, or the frequency of periods.
    """

    name: Any
    dtype: Any
    levels: list | None = None
    origin: int | None = None
    tick: int | None = None
    is_whole: bool = False
    exact: str | None = None
    decimals: int = 0
    clock: Any = None

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
        if isinstance(series.dtype, pd.CategoricalDtype):
            present = series.cat.remove_unused_categories().cat.categories
            if is_level is False and pd.api.types.is_numeric_dtype(present.dtype):
                return cls(series.name, present.dtype)
            warn_of_names(series.name, len(present), len(series), is_drawn)
            return describe(levels=list(present))
        if is_level:
            return cls._of_levels(series, is_drawn)
        is_time = _is_time(series.dtype)
        if pd.api.types.is_numeric_dtype(series.dtype):
            kind = ""
        else:
            kind = "string" if isinstance(series.dtype, pd.StringDtype) else _kind(series)
        if kind == "complex" or pd.api.types.is_complex_dtype(series.dtype):
            raise ValueError(f"Column {series.name!r} of X is complex. Complex data not supported.")
        if kind in ("string", "bytes", "boolean"):
            return cls._of_levels(series, is_drawn)
        known = series if kind == "" and isinstance(series.dtype, np.dtype) else series.dropna()
        if kind and not len(known):
            if is_time or is_level is None:
                return describe(origin=0, tick=1, exact="nothing")
            return describe()
        if is_time:
            stamps = _stamps(known, _clock(series.dtype))
            origin = int(stamps.min())
            tick = max(1, int(np.gcd.reduce(distances(stamps, origin))))
            return describe(origin=origin, tick=tick)
        if (held := kind_of(known, kind)) is not None:
            return cls._of_exact(series, known, *held)
        if kind == "" or kind in NUMBERS:
            return describe(is_whole=kind == "integer")
        return cls._of_levels(series, is_drawn)

    @classmethod
    def _of_levels(cls, series: Any, is_drawn: bool) -> Column:
        """Learn a column of levels; warn of those that seem to name rows."""
        import pandas as pd

        try:
            levels = series.unique()
        except TypeError:
            raise _unhashable(series) from None
        levels = np.asarray(levels[~pd.isna(levels)], dtype=object).tolist()
        if not levels and not pd.api.types.is_numeric_dtype(series.dtype):
            return cls(series.name, series.dtype, origin=0, tick=1, exact="nothing")
        warn_of_names(series.name, len(levels), len(series), is_drawn)
        with contextlib.suppress(TypeError):  # of several types
            levels = sorted(levels)
        return cls(series.name, series.dtype, levels)

    @classmethod
    def _of_exact(cls, series: Any, known: Any, kind: str, clock: Any) -> Column:
        """Learn a column of large integers, of decimals, or of objects of dates and times."""
        decimals = decimals_of(known) if kind == "decimal" else 0
        try:
            integers = set(map(exact(kind, decimals, clock).to_int, known))
        except OverflowError:  # of decimals
            raise _infinite(series.name) from None
        origin, tick = grid(integers, series.name)
        if kind == "decimal" and max(map(abs, integers), default=0) <= MAX_INTEGER:
            origin, tick = 0, 1  # numbers are the decimals themselves
        return cls(
            *(series.name, series.dtype, None, origin, tick),
            exact=kind,
            decimals=decimals,
            clock=clock,
        )

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
        return exact(str(self.exact), self.decimals, self.clock)

    @property
    def declares_more(self) -> bool:
        """Whether there are levels, or other cells, that no row had and that are read as gaps."""
        n_declared = len(getattr(self.dtype, "categories", ()))
        return self.exact == "nothing" or n_declared > len(self.levels or ())

    @property
    def meaning(self) -> tuple[str, int, int]:
        """What it holds, and of dates and durations the first one and their step in nanoseconds."""
        import pandas as pd

        if self.levels is not None:
            is_flag = len(self.levels) == 2 and all(level in (False, True) for level in self.levels)
            return "flag" if is_flag else "level", 0, 1
        if self.exact is not None and self.origin is not None and self.tick is not None:
            if self._is_value:
                return "number", 0, 1
            step = self._exact.nanoseconds
            return self._exact.meaning, self.origin * step, self.tick * step
        if self.origin is not None and self.tick is not None:
            clock = _clock(self.dtype)
            unit = clock.unit if hasattr(clock, "tz") else np.datetime_data(clock)[0]
            factor = int(np.array(1, f"m8[{unit}]").astype("m8[ns]").astype(int))
            kind = "lapse" if clock.kind == "m" else "date"
            return kind, self.origin * factor, self.tick * factor
        return "flag" if pd.api.types.is_bool_dtype(self.dtype) else "number", 0, 1

    @property
    def declared(self) -> list[Any]:
        """Levels that the dtype of `fit` declares, but no row had."""
        categories = getattr(self.dtype, "categories", None)
        if self.levels is None or categories is None:
            return []
        known = set(self.levels)
        return [level for level in categories if level not in known]

    def to_numbers(self, series: Any, declared: str | None = None) -> NDArray[Any]:
        """Numbers, ticks or codes; NaN where a cell is missing.

        Parameters
        ----------
        declared : {"gap", "level"} or None
            What a level is that the dtype of `fit` declares, but no row had: a missing cell, one
            more level, whose code follows those of the others, or an error.
        """
        import pandas as pd

        if self.exact == "nothing":
            return np.full(len(series), np.nan)
        if self.levels is not None:
            return self._codes(series, declared)
        if self.origin is None:
            is_flag = pd.api.types.is_bool_dtype(self.dtype) and series.dtype != self.dtype
            return self._flags(series) if is_flag else self._plain_numbers(series)
        missing = series.isna().to_numpy()
        if missing.all():
            return np.full(len(series), np.nan)
        read = self._ticks if self.exact is None else self._exact_numbers
        return read(series, missing)

    def _codes(self, series: Any, declared: str | None) -> NDArray[Any]:
        import pandas as pd

        try:
            at, cells = pd.factorize(series)
        except TypeError:
            raise _unhashable(series) from None
        cells = pd.Index(np.asarray(cells, dtype=object), dtype=object)
        levels = list(self.levels or [])
        known = levels if declared is None else levels + self.declared
        of_cells = pd.Index(known, dtype=object).get_indexer(cells)
        allowed = of_cells >= 0
        if not allowed.all():
            remedy = ", or declare them as categories" if declared else ""
            raise ValueError(
                f"Column {self.name!r} of X holds {plain(cells[~allowed][0])!r}, which it did not "
                f"in fit; allowed are {listed(levels)}. Pool rare levels before{remedy}."
            )
        is_gap = (of_cells >= len(levels)) & (declared == "gap")
        numbers = np.where((of_cells < 0) | is_gap, np.nan, of_cells)
        return np.r_[numbers, np.nan][at]  # the last one is that of missing cells

    def _ticks(self, series: Any, missing: NDArray[np.bool_]) -> NDArray[Any]:
        clock = _clock(self.dtype)
        words, inferred = ("durations", DURATIONS) if clock.kind == "m" else ("dates", INSTANTS)
        if series.dtype == object:
            self._check_inferred(series, missing, words, inferred)
        elif getattr(_clock(series.dtype), "kind", "") != clock.kind:
            raise self._other_kind(series, missing, words)
        try:
            series = series.astype(clock)  # units and time zones as in fit
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"Column {self.name!r} of X must hold dates as in fit: {error}"
            ) from error
        numbers = np.full(len(series), np.nan)
        stamps, origin = _stamps(series[~missing], clock), self.origin or 0
        numbers[~missing] = distances(stamps, origin) * np.where(stamps < origin, -1.0, 1.0)
        numbers /= self.tick or 1
        return numbers

    def _plain_numbers(self, series: Any) -> NDArray[Any]:
        import pandas as pd

        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        if is_number and not pd.api.types.is_complex_dtype(series.dtype):
            numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        elif series.isna().all():  # whatever the dtype
            return np.full(len(series), np.nan)
        else:
            cells = series.to_numpy(dtype=object)
            numbers = numbers_of_cells(cells, self.name, "X", series.dtype)
        if pd.api.types.is_integer_dtype(series.dtype) and np.nanmax(np.abs(numbers), initial=0) > (
            MAX_INTEGER
        ):
            raise ValueError(
                f"Column {self.name!r} of X holds integers beyond 2**53, which floats do not "
                "distinguish; subtract a constant, or make them strings."
            )
        if np.isinf(numbers).any():
            raise _infinite(self.name)
        return numbers

    def _flags(self, series: Any) -> NDArray[Any]:
        numbers = self._plain_numbers(series)
        is_flag = np.isnan(numbers) | np.isin(numbers, (0, 1))
        if not is_flag.all():
            raise self._other_kind(series, is_flag, "booleans")
        return numbers

    def _exact_numbers(self, series: Any, missing: NDArray[np.bool_]) -> NDArray[Any]:
        how, origin, tick = self._exact, self.origin or 0, (self.tick or 1) * self._divisor
        self._check_inferred(series, missing, how.words, how.inferred)
        numbers = np.full(len(series), np.nan)
        try:
            cells = [how.to_int(how.parse(cell)) for cell in series[~missing].tolist()]
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ValueError(
                f"Column {self.name!r} of X must hold {how.words}, as it did in fit: {error}"
            ) from error
        numbers[~missing] = [(cell - origin) / tick for cell in cells]
        return numbers

    def _check_inferred(
        self, series: Any, missing: NDArray[np.bool_], words: str, inferred: tuple[str, ...]
    ) -> None:
        import pandas as pd

        if inferred and pd.api.types.infer_dtype(series[~missing]) not in inferred:
            raise self._other_kind(series, missing, words)

    def _other_kind(self, series: Any, fits: NDArray[np.bool_], words: str) -> TypeError:
        """What the first cell that does not fit leads to."""
        row = int(np.argmin(fits))
        cell = plain(series.iloc[row])
        converters = {"dates": "to_datetime", "durations": "to_timedelta"}
        advice = ""
        if isinstance(cell, str) and words in converters:
            advice = f": convert it by pandas.{converters[words]}"
        return TypeError(
            f"Column {self.name!r} of X, of dtype {series.dtype}, holds {cell!r} in row {row}, but "
            f"held {words} in fit{advice}."
        )

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
            cells = [*self.levels, *self.declared, None]  # the last one is that of missing cells
            of_codes = np.fromiter(cells, dtype=object, count=len(cells))
            return series(of_codes[codes], dtype=self.dtype)
        if self.exact == "nothing":
            return series([None] * len(numbers), dtype=self.dtype)
        if self.exact is not None:
            cells = self._exact_cells(numbers)
            if pd.api.types.is_integer_dtype(self.dtype):
                held = np.iinfo(getattr(self.dtype, "numpy_dtype", self.dtype))
                cells = [n if n is None else min(max(n, held.min), held.max) for n in cells]
            return series(cells, dtype=self.dtype)
        if self.origin is not None:
            known = ~np.isnan(numbers)
            stamps = np.full(len(numbers), np.iinfo(np.int64).min)  # NaT
            steps: Any = self._held_by(np.int64, numbers[known]).astype(np.int64)
            stamps[known] = self.origin + steps * self.tick
            return _from_stamps(stamps, _clock(self.dtype), series).astype(self.dtype)
        if pd.api.types.is_bool_dtype(self.dtype):
            numbers = np.where(np.isnan(numbers), np.nan, numbers > 0.5)
        elif pd.api.types.is_integer_dtype(self.dtype):
            numbers = self._held_by(self.dtype, numbers)
        if self.is_whole:
            return series([None if np.isnan(n) else round(n) for n in numbers], dtype=self.dtype)
        return series(numbers).astype(self.dtype)

    def _held_by(self, dtype: Any, numbers: NDArray[Any]) -> NDArray[Any]:
        """The nearest steps from the origin to what a dtype of integers holds."""
        held = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
        origin, tick = self.origin or 0, self.tick or 1
        # Numbers of Python: those of NumPy overflow. The least date stands for NaT.
        low, high = (
            (held.min + (self.origin is not None) - origin) / tick,
            (held.max - origin) / tick,
        )
        if max(-low, high) > MAX_INTEGER:  # neighbours of floats are further apart than one
            low, high = np.nextafter(low, 0), np.nextafter(high, 0)
        return np.clip(np.rint(numbers), np.ceil(low), np.floor(high))

    def encode_value(self, value: Any) -> float:
        """The number, tick or code of one value."""
        import pandas as pd

        cell = pd.Series([value], name=self.name, dtype=object)
        if self.exact == "nothing" and not pd.isna(value):
            raise ValueError(f"Column {self.name!r} cannot be {value!r}: fit met no cell of it")
        if self.exact is not None and not pd.isna(value):
            try:
                cell = pd.Series([self._exact.parse(value)], name=self.name, dtype=object)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueError(f"Column {self.name!r} cannot be {value!r}: {error}") from error
        elif self.origin is not None and self.exact is None:
            try:
                cell = cell.astype(_clock(self.dtype))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Column {self.name!r} cannot be {value!r}; allowed are dates: {error}"
                ) from error
        if self.origin is None and self.levels is None and not pd.isna(value):
            try:
                return float(self._plain_numbers(cell)[0])  # also a number that is no flag
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Column {self.name!r} cannot be {value!r}: it holds numbers"
                ) from error
        return float(self.to_numbers(cell)[0])

    def decode_value(self, number: float) -> str:
        """The value that a number, tick or code stands for, as text."""
        return f"{number:g}" if self.origin is None else str(self.value(number))

    def value(self, number: float) -> Any:
        """The value that a number, tick or code stands for."""
        import pandas as pd

        return plain(self.restore(np.array([number]), pd.RangeIndex(1)).iloc[0])


def _kind(series: Any) -> str:
    """What `infer_dtype` says of a column's cells, of which pd.NaT may stand for any that miss."""
    import pandas as pd

    kind = str(pd.api.types.infer_dtype(series))
    return str(pd.api.types.infer_dtype(series.dropna())) if kind.startswith("mixed") else kind


def warn_of_names(name: Any, n_levels: int, n_rows: int, is_drawn: bool) -> None:
    """Warn if the levels of a column are so many that they seem to name rows."""
    if n_rows >= MIN_ROWS_TO_WARN and n_levels > MAX_LEVEL_SHARE * n_rows:
        warn_user(
            f"Column {name!r} of X holds {n_levels} levels in {n_rows} rows"
            f"{', and drawn rows will repeat them' if is_drawn else ''}. If it names rows, leave "
            "it out."
        )


def _unhashable(series: Any) -> TypeError:
    cells = enumerate(series)
    row, cell = next((i, c) for i, c in cells if getattr(c, "__hash__", None) is None)
    return TypeError(
        f"Column {series.name!r} of X holds {reprlib.repr(cell)} in row {row}; argument must be a "
        f"string or a number, not {type(cell).__name__!r}. Make columns of what it holds, or "
        "strings."
    )


def _infinite(name: Any) -> ValueError:
    return ValueError(f"Column {name!r} of X contains infinity; allowed is NaN.")


def listed(values: list[Any], at_most: int = 10) -> str:
    """Values as text, or the first of them and how many more there are."""
    text = ", ".join(repr(plain(value)) for value in values[:at_most])
    return text if len(values) <= at_most else f"{text} and {len(values) - at_most} more"


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
