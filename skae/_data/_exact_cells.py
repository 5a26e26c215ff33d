"""Cells that floats do not hold, as integers: large integers, decimals, and objects of dates."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

# Beyond this, float64 does not represent every integer.
MAX_INTEGER = 2**53
# Results of `pandas.api.types.infer_dtype` for objects, and what holds them.
KINDS_OF_OBJECTS = {
    "integer": "integer",
    "date": "day",
    "datetime": "instant",
    "decimal": "decimal",
}
EPOCH = datetime.date(1970, 1, 1).toordinal()
NANOSECONDS_A_DAY = 86_400 * 10**9


class Exact(NamedTuple):
    """How cells of a kind become integers and come back.

    Parameters
    ----------
    to_int : callable
        From a cell to an integer.
    to_cell : callable
        From an integer to a cell.
    parse : callable
        From a user's value to a cell.
    nanoseconds : int
        Of dates, those of a step of one.
    """

    to_int: Callable[[Any], int]
    to_cell: Callable[[int], Any]
    parse: Callable[[Any], Any]
    nanoseconds: int = 0


def exact(kind: str, decimals: int = 0) -> Exact:
    """How cells of a kind become integers; those of decimals count units of their last digit."""
    if kind == "day":
        to_int: Callable[[Any], int] = lambda day: day.toordinal() - EPOCH  # noqa: E731
        of_int = lambda n: datetime.date.fromordinal(int(n) + EPOCH)  # noqa: E731
        return Exact(to_int, of_int, _as_day, NANOSECONDS_A_DAY)
    if kind in ("datetime", "timestamp"):
        to_cell = _timestamp if kind == "timestamp" else _datetime
        return Exact(_nanoseconds, to_cell, _as_timestamp, 1)
    if kind == "decimal":
        unit = Decimal(1).scaleb(-decimals)
        to_int = lambda cell: int((Decimal(cell) / unit).to_integral_value())  # noqa: E731
        return Exact(to_int, lambda n: int(n) * unit, lambda v: Decimal(str(v)))
    return Exact(_whole, int, _whole)


def kind_of(series: Any, inferred: str) -> str | None:
    """The kind of a column of objects, or of integers too large for floats; None of others."""
    import pandas as pd

    if pd.api.types.is_integer_dtype(series.dtype) or inferred == "integer":
        known = series.dropna()
        is_large = len(known) and max(abs(int(known.min())), abs(int(known.max()))) > MAX_INTEGER
        return "integer" if is_large else None
    if inferred == "datetime":
        cells = series.dropna()
        if any(cell.tzinfo is not None for cell in cells):
            return None
        return "timestamp" if any(isinstance(cell, pd.Timestamp) for cell in cells) else "datetime"
    return KINDS_OF_OBJECTS.get(inferred)


def decimals_of(cells: Iterable[Decimal]) -> int:
    """The most digits behind the point."""
    exponents = [cell.as_tuple().exponent for cell in cells if cell.is_finite()]
    return max((-e for e in exponents if isinstance(e, int)), default=0)


def grid(integers: Iterable[int], name: Any) -> tuple[int, int]:
    """The smallest of some integers, and the greatest common divisor of the distances from it.

    Raise ValueError if there are more steps between them than floats distinguish.
    """
    distinct = set(integers)
    origin = min(distinct, default=0)
    tick = math.gcd(*(n - origin for n in distinct)) or 1
    if (max(distinct, default=0) - origin) // tick > MAX_INTEGER:
        raise ValueError(
            f"Column {name!r} of X holds integers beyond 2**53, in more steps than floats "
            "distinguish; make them strings."
        )
    return origin, tick


def _whole(value: Any) -> int:
    number = int(value)
    if number != value:
        raise ValueError(f"{value!r} is no integer")
    return number


def _as_day(value: Any) -> datetime.date:
    import pandas as pd

    return value if type(value) is datetime.date else pd.Timestamp(value).date()


def _as_timestamp(value: Any) -> Any:
    import pandas as pd

    return pd.Timestamp(value)


def _nanoseconds(cell: Any) -> int:
    import pandas as pd

    return int(pd.Timestamp(cell).as_unit("ns").value)


def _timestamp(nanoseconds: int) -> Any:
    import pandas as pd

    return pd.Timestamp(nanoseconds)


def _datetime(nanoseconds: int) -> datetime.datetime:
    return _timestamp(nanoseconds).to_pydatetime()
