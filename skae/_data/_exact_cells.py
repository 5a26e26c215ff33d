"""Cells that floats do not hold, as integers: large integers, decimals, dates, times, periods."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

# Beyond this, float64 does not represent every integer.
MAX_INTEGER = 2**53
EPOCH = datetime.date(1970, 1, 1).toordinal()
# Days that dates of Python may be, from the epoch on; what is further goes to the ends.
FIRST_DAY, LAST_DAY = 1 - EPOCH, datetime.date.max.toordinal() - EPOCH
SECOND = 10**9  # in nanoseconds
DAY = 86_400 * SECOND
UNITS = {"s": SECOND, "ms": 10**6, "us": 1000, "ns": 1}
# Results of `pandas.api.types.infer_dtype` for cells that can be read as instants and durations.
INSTANTS = "date", "datetime", "datetime64"
DURATIONS = "timedelta", "timedelta64"
# All that are kept exactly; a column of "nothing" has no cell that is not missing.
KINDS = (
    *("nothing", "integer", "decimal", "day", "datetime", "timestamp", "datetime64"),
    *("timedelta", "lapse", "timedelta64", "time", "period"),
)


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
    words : str
        What such cells are called.
    inferred : tuple of str
        What `pandas.api.types.infer_dtype` says of cells that can be read; empty: anything.
    meaning : str
        As in `Column.meaning`.
    nanoseconds : int
        Of dates and durations, those of a step of one.
    """

    to_int: Callable[[Any], int]
    to_cell: Callable[[int], Any]
    parse: Callable[[Any], Any]
    words: str
    inferred: tuple[str, ...] = ()
    meaning: str = "other"
    nanoseconds: int = 0


def exact(kind: str, decimals: int = 0, clock: Any = None) -> Exact:
    """How cells of a kind become integers.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    decimals : int
        Those of decimals, which count units of their last digit.
    clock : dtype or None
        Of pandas, with the time zone of dates or the frequency of periods.
    """
    zone = getattr(clock, "tz", None)
    if kind == "day":
        return Exact(_days, _day, _as_day, "dates", INSTANTS, "date", DAY)
    if kind in ("datetime", "timestamp", "datetime64"):
        parse = partial(_as_timestamp, zone=zone)
        to_cell = {"datetime": _datetime, "timestamp": _timestamp, "datetime64": _datetime64}[kind]
        in_ns = partial(_nanoseconds, is_zoned=zone is not None)
        return Exact(in_ns, partial(to_cell, zone=zone), parse, "dates", INSTANTS, "date", 1)
    if kind in ("timedelta", "lapse", "timedelta64"):
        to_lapse = {"timedelta": _timedelta, "lapse": _lapse, "timedelta64": _timedelta64}[kind]
        return Exact(_lapse_in_ns, to_lapse, _as_lapse, "durations", DURATIONS, "lapse", 1)
    if kind == "time":
        return Exact(_time_in_ns, _time, _as_time, "times", ("time",))
    if kind == "period":
        to_period = partial(_period, freq=clock.freq)
        parse = partial(_as_period, freq=clock.freq)
        return Exact(_ordinal, to_period, parse, "periods", ("period",))
    if kind == "decimal":
        unit = Decimal(1).scaleb(-decimals)
        to_int = lambda cell: int((Decimal(cell) / unit).to_integral_value())  # noqa: E731
        return Exact(to_int, lambda n: int(n) * unit, lambda v: _decimal(v, unit), "decimals")
    return Exact(_whole, int, _whole, "integers")


def kind_of(known: Any, inferred: str) -> tuple[str, Any] | None:
    """The kind of cells that are held exactly, and the dtype of their zone or frequency.

    Parameters
    ----------
    known : Series
        Cells that are not missing: objects, or integers.
    inferred : str
        What `pandas.api.types.infer_dtype` says of them; "" for integers of NumPy or pandas.

    Returns
    -------
    kind, clock : str and dtype or None
        None in their place for numbers that floats hold, and for levels.
    """
    import pandas as pd

    if pd.api.types.is_integer_dtype(known.dtype) or inferred == "integer":
        is_large = len(known) and max(abs(int(known.min())), abs(int(known.max()))) > MAX_INTEGER
        return ("integer", None) if is_large else None
    if inferred == "datetime":
        zone = _zone_of(known)
        # By its name, as files name it: to pandas 2, zones of other libraries are others.
        zone = zone.key if isinstance(zone, ZoneInfo) else zone
        clock = None if zone is None else pd.DatetimeTZDtype("ns", zone)
        is_timestamp = any(isinstance(cell, pd.Timestamp) for cell in known)
        return ("timestamp" if is_timestamp else "datetime"), clock
    if inferred in DURATIONS:
        kinds = {"lapse": pd.Timedelta, "timedelta64": np.timedelta64}
        found = (k for k, cls in kinds.items() if any(isinstance(cell, cls) for cell in known))
        return next(found, "timedelta"), None
    if inferred == "period":
        freqs = {cell.freqstr for cell in known}
        return ("period", pd.PeriodDtype(freqs.pop())) if len(freqs) == 1 else None
    if inferred == "date" and any(isinstance(cell, datetime.datetime) for cell in known):
        return None
    if inferred == "time" and any(cell.tzinfo is not None for cell in known):
        return None
    kinds = {"date": "day", "datetime64": "datetime64", "time": "time", "decimal": "decimal"}
    return (kinds[inferred], None) if inferred in kinds else None


def _zone_of(cells: Any) -> Any:
    zones = {str(cell.tzinfo): cell.tzinfo for cell in cells}
    if len(zones) > 1:
        raise ValueError(
            f"Column {cells.name!r} of X holds dates of different time zones, "
            f"{' and '.join(list(zones)[:2])}; give all of them one, as by "
            f"pandas.to_datetime(X[{cells.name!r}], utc=True)."
        )
    return next(iter(zones.values()))


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


def distances(values: NDArray[Any], origin: Any) -> NDArray[np.uint64]:
    """Distances from an integer, which may be larger than the largest of signed ones."""
    wide, base = values.astype(np.uint64), np.asarray(origin).astype(np.uint64)
    return np.where(values >= origin, wide - base, base - wide)


def _whole(value: Any) -> int:
    number = int(value)
    if number != value:
        raise ValueError(f"{value!r} is no integer")
    return number


def _days(cell: Any) -> int:
    day = cell if type(cell) is datetime.date else _as_day(cell)
    return day.toordinal() - EPOCH


def _day(n: int) -> datetime.date:
    return datetime.date.fromordinal(min(max(int(n), FIRST_DAY), LAST_DAY) + EPOCH)


def _decimal(value: Any, unit: Decimal) -> Decimal:
    cell = Decimal(str(value))
    if cell % unit:
        raise ValueError(f"it is no multiple of {unit}")
    return cell


def _as_day(value: Any) -> datetime.date:
    import pandas as pd

    return value if type(value) is datetime.date else pd.Timestamp(value).date()


def _as_timestamp(value: Any, zone: Any = None) -> Any:
    """A date; one without a zone is read as one of the column's."""
    import pandas as pd

    stamp = pd.Timestamp(value)
    return stamp if zone is None or stamp.tz is not None else stamp.tz_localize(zone)


def _nanoseconds(cell: Any, is_zoned: bool = False) -> int:
    """Of dates from the year 1 to 9999, which are more nanoseconds than int64 holds."""
    import pandas as pd

    stamp = pd.Timestamp(cell)
    if (stamp.tz is not None) != is_zoned:
        had = "had one" if is_zoned else "had none"
        raise ValueError(f"{cell!r} has {'no' if is_zoned else 'a'} time zone; the column {had}")
    return int(stamp.asm8.view("i8")) * UNITS[stamp.unit]


def _timestamp(nanoseconds: int, zone: Any = None) -> Any:
    import pandas as pd

    nanoseconds = min(max(nanoseconds, FIRST_DAY * DAY), (LAST_DAY + 1) * DAY - 1)
    try:
        stamp = pd.Timestamp(nanoseconds)
    except (OverflowError, ValueError):
        stamp = pd.Timestamp(np.datetime64(nanoseconds // 1000, "us"))
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone)


def _datetime(nanoseconds: int, zone: Any = None) -> datetime.datetime:
    return _timestamp(nanoseconds // 1000 * 1000, zone).to_pydatetime()


def _datetime64(nanoseconds: int, zone: Any = None) -> np.datetime64:
    return _timestamp(nanoseconds).to_datetime64()


def _as_lapse(value: Any) -> Any:
    import pandas as pd

    return pd.Timedelta(value)


def _lapse_in_ns(cell: Any) -> int:
    if type(cell) is datetime.timedelta:  # may be longer than pandas' durations
        return cell // datetime.timedelta(microseconds=1) * 1000
    return int(_as_lapse(cell).as_unit("ns").value)


def _timedelta(nanoseconds: int) -> datetime.timedelta:
    return datetime.timedelta(microseconds=nanoseconds // 1000)


def _lapse(nanoseconds: int) -> Any:
    import pandas as pd

    return pd.Timedelta(nanoseconds)


def _timedelta64(nanoseconds: int) -> np.timedelta64:
    return np.timedelta64(nanoseconds, "ns")


def _as_time(value: Any) -> datetime.time:
    return datetime.time.fromisoformat(value) if isinstance(value, str) else value


def _time_in_ns(cell: Any) -> int:
    seconds = 3600 * cell.hour + 60 * cell.minute + cell.second
    return seconds * SECOND + cell.microsecond * 1000


def _time(nanoseconds: int) -> datetime.time:
    since = datetime.timedelta(microseconds=min(max(nanoseconds, 0), DAY - 1000) // 1000)
    return (datetime.datetime.min + since).time()


def _as_period(value: Any, freq: Any) -> Any:
    import pandas as pd

    period = value if isinstance(value, pd.Period) else pd.Period(value, freq=freq)
    if period.freq != freq:
        raise ValueError(f"{value!r} has the frequency {period.freqstr}, not {freq.freqstr}")
    return period


def _ordinal(cell: Any) -> int:
    return int(cell.ordinal)


def _period(n: int, freq: Any) -> Any:
    import pandas as pd

    return pd.Period(ordinal=int(n), freq=freq)
