"""Kinds of values of Python, NumPy, pandas and polars in documents."""

import datetime
import decimal

import numpy as np

from skae._sklearn import is_pandas_na
from skae._storage._documents import Kind, as_text, expect, is_exactly, read_pairs
from skae._storage._zones import check_zone, check_zones_of_dtype, saved_zone

# Bytes of a letter in an array of texts, where each has the length of the longest.
LETTER_BYTES = 4
# Memory and time of a dtype or an index of pandas, in bytes: they are objects of many objects.
PANDAS_BYTES = 5000


# Containers.


def _write_items(encoder, value, path):
    return ([encoder.write(item, f"{path}.{i}") for i, item in enumerate(value)],)


def _write_dict(encoder, value, path):
    # Keys may hold any text of a user, so paths number the items.
    pairs = enumerate(value.items())
    return ([_write_items(encoder, pair, f"{path}.{i}")[0] for i, pair in pairs],)


def _read_dict(decoder, items):
    pairs = [expect(pair, list) for pair in expect(items, list)]
    return {decoder.read(key): decoder.read(value) for key, value in pairs}


# Arrays and their dtypes.


def _is_plain_array(value):
    return type(value) is np.ndarray and value.dtype.kind in "biufmM" and value.dtype.itemsize <= 8


def _write_array(encoder, array, path):
    numbers = array.view(np.int64) if array.dtype.kind in "mM" else array
    numbers = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("="))
    return encoder.add(numbers.reshape(array.shape), path), array.dtype.newbyteorder("=").str


def _read_array(decoder, name, dtype):
    array, dtype = decoder.take(name), _dtype(expect(dtype, str))
    if dtype.kind in "mM" and array.dtype == np.int64:
        return array.view(dtype)
    if array.dtype != dtype:
        raise ValueError(f"array {name!r} holds {array.dtype}, not {dtype}")
    return array


def _dtype(name):
    dtype = np.dtype(name)
    if dtype.kind not in "biufmMOUS":
        raise ValueError(f"it names the dtype {name!r:.60}")
    return dtype


def _is_array_of_objects(value):
    return type(value) is np.ndarray and value.dtype.kind in "OUS"


def _write_objects(encoder, array, path):
    items = [encoder.write(item, f"{path}.{i}") for i, item in enumerate(array.ravel().tolist())]
    return array.dtype.kind, list(array.shape), items


def _read_objects(decoder, kind, shape, items):
    if kind not in ("O", "U", "S"):
        raise ValueError(f"it names the kind of array {kind!r:.60}")
    array = np.empty(len(expect(items, list)), dtype=object)
    for i, item in enumerate(items):
        array[i] = decoder.read(item)
    if kind != "O":
        texts = [expect(item, str, bytes) for item in array]
        # Every item takes the memory of the longest.
        decoder.spend(LETTER_BYTES * max(map(len, texts), default=0) * len(texts))
        array = array.astype(kind)
    return array.reshape(tuple(expect(size, int) for size in expect(shape, list)))


def _write_fields(encoder, array, path):
    return ([[name, encoder.write(array[name], f"{path}.{name}")] for name in array.dtype.names],)


def _read_fields(decoder, fields):
    columns = read_pairs(decoder, fields)
    if len({column.shape for column in columns.values()}) != 1:
        raise ValueError(f"it holds fields of different shapes: {sorted(columns)[:3]}")
    dtype = [(name, column.dtype) for name, column in columns.items()]
    array = np.empty(next(iter(columns.values())).shape, dtype=dtype)
    for name, column in columns.items():
        array[name] = column
    return array


def _write_scalar(encoder, value, path):
    # Dates are exact only as a number of their own unit.
    number = int(value.view(np.int64)) if value.dtype.kind in "mM" else value.item()
    return value.dtype.newbyteorder("=").str, encoder.write(number, path)


def _read_scalar(decoder, dtype, value):
    dtype, value = _dtype(expect(dtype, str)), decoder.read(value)
    return np.array(value, np.int64).view(dtype)[()] if dtype.kind in "mM" else dtype.type(value)


# Values of pandas and polars, which are imported only when there is one.


def _is_of(library, value):
    return type(value).__module__.partition(".")[0] == library


def _is_pandas(name):
    def holds(value):
        import pandas as pd

        return isinstance(value, getattr(pd, name))

    return lambda value: _is_of("pandas", value) and holds(value)


def _read_pandas_na(decoder):
    import pandas as pd

    return pd.NA


def _is_pandas_dtype(value):
    return _is_of("pandas", value) and hasattr(value, "construct_array_type")


def _write_pandas_dtype(encoder, dtype, path):
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return "category", [encoder.write(dtype.categories, path), dtype.ordered]
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if str(arrow).startswith("decimal128"):
        return "decimal128", [arrow.precision, arrow.scale]
    if str(arrow) == "string":  # pandas gives the name of its dtype to another
        return "arrow", [str(arrow)]
    if str(arrow).startswith("dictionary"):
        return "dictionary", [str(arrow.index_type), str(arrow.value_type), arrow.ordered]
    saved_zone(check_zones_of_dtype, str(dtype), path)
    if pd.api.types.pandas_dtype(str(dtype)) != dtype:
        raise TypeError(f"{path} is the pandas dtype {dtype!r}, which cannot be saved.")
    return str(dtype), None


def _read_pandas_dtype(decoder, name, categories):
    import pandas as pd

    if name == "category":
        levels, ordered = expect(categories, list)
        return pd.CategoricalDtype(decoder.read(levels), ordered)
    if name == "decimal128":
        import pyarrow as pa

        return pd.ArrowDtype(pa.decimal128(*(expect(n, int) for n in expect(categories, list))))
    if name == "arrow":
        import pyarrow as pa

        (alias,) = expect(categories, list)
        return pd.ArrowDtype(pa.type_for_alias(expect(alias, str)))
    if name == "dictionary":
        import pyarrow as pa

        *types, ordered = expect(categories, list)
        index, values = (pa.type_for_alias(expect(alias, str)) for alias in types)
        return pd.ArrowDtype(pa.dictionary(index, values, expect(ordered, bool)))
    check_zones_of_dtype(expect(name, str))
    dtype = pd.api.types.pandas_dtype(name)
    if name == "str" and isinstance(dtype, np.dtype):
        return np.dtype(object)  # the dtype of texts in pandas 2
    if not isinstance(dtype, pd.api.extensions.ExtensionDtype):
        raise ValueError(f"it names the pandas dtype {name!r:.60}")
    return dtype


def _write_index(encoder, index, path):
    import pandas as pd

    is_nested = isinstance(index, pd.MultiIndex)
    dtype = None if is_nested else encoder.write(index.dtype, f"{path}.dtype")
    names = encoder.write(list(index.names), f"{path}.names")
    return encoder.write(index.tolist(), path), dtype, names


def _read_index(decoder, values, dtype, names):
    import pandas as pd

    values, names = decoder.read(expect(values, list)), decoder.read(expect(names, list))
    if dtype is None:
        return pd.MultiIndex.from_tuples(values, names=names)
    return pd.Index(values, dtype=decoder.read(dtype), name=names[0], tupleize_cols=False)


def _write_timestamp(encoder, stamp, path):
    zone = None if stamp.tz is None else str(stamp.tz)
    if zone is not None:
        saved_zone(check_zone, zone, path)
    return int(stamp.as_unit("ns").value), stamp.unit, zone


def _read_timestamp(decoder, value, unit, zone):
    import pandas as pd

    if zone is not None:
        check_zone(expect(zone, str))
    stamp = pd.Timestamp(expect(value, int), unit="ns", tz=zone and "UTC")
    return (stamp.tz_convert(zone) if zone else stamp).as_unit(expect(unit, str))


def _write_timedelta(encoder, delta, path):
    return int(delta.as_unit("ns").value), delta.unit


def _read_timedelta(decoder, value, unit):
    import pandas as pd

    return pd.Timedelta(expect(value, int), unit="ns").as_unit(expect(unit, str))


def _write_interval(encoder, interval, path):
    ends = (
        encoder.write(interval.left, f"{path}.left"),
        encoder.write(interval.right, f"{path}.right"),
    )
    return *ends, interval.closed


def _read_interval(decoder, left, right, closed):
    import pandas as pd

    return pd.Interval(decoder.read(left), decoder.read(right), expect(closed, str))


def _write_period(encoder, period, path):
    return int(period.ordinal), period.freqstr


def _read_period(decoder, ordinal, freq):
    import pandas as pd

    return pd.Period(ordinal=expect(ordinal, int), freq=expect(freq, str))


def _is_polars_dtype(value):
    cls = value if isinstance(value, type) else type(value)
    return cls.__module__.partition(".")[0] == "polars" and hasattr(cls, "is_temporal")


def _write_polars_dtype(encoder, dtype, path):
    import polars as pl

    if isinstance(dtype, type):
        dtype = dtype()
    settings = {
        pl.Datetime: ("time_unit", "time_zone"),
        pl.Duration: ("time_unit",),
        pl.Decimal: ("precision", "scale"),
    }.get(type(dtype), ())
    arguments = [getattr(dtype, name) for name in settings]
    if isinstance(dtype, pl.Enum):
        arguments = [dtype.categories.to_list()]
    if dtype.is_nested() or type(dtype)(*arguments) != dtype:
        raise TypeError(f"{path} is the polars dtype {dtype!r}, which cannot be saved.")
    return type(dtype).__name__, arguments


def _read_polars_dtype(decoder, name, settings):
    import polars as pl

    cls = getattr(pl, expect(name, str), None)
    if not (isinstance(cls, type) and issubclass(cls, pl.DataType)):
        raise ValueError(f"it names the polars dtype {name!r:.60}")
    if cls is pl.Datetime:
        for zone in settings[1:]:
            check_zone("UTC" if zone is None else expect(zone, str))
    if cls.is_nested():
        raise ValueError(f"it names the polars dtype {name!r:.60}, which holds others")
    return cls(*expect(settings, list))


# scikit-learn's generator of random numbers.


def _write_random_state(encoder, state, path):
    name, keys, *rest = state.get_state()
    return name, encoder.write(keys, path), rest


def _read_random_state(decoder, name, keys, rest):
    position, has_gauss, gauss = expect(rest, list)
    if not 0 <= expect(position, int) <= 624:
        raise ValueError(f"a generator has the invalid position {position}")
    state = np.random.RandomState()
    state.set_state((name, decoder.read(keys), position, expect(has_gauss, int), float(gauss)))
    return state


PLAIN_KINDS = {
    "float": as_text(float, float, repr),  # NaN and infinity, which JSON lacks
    "tuple": Kind(
        ("items",),
        is_exactly(tuple),
        _write_items,
        lambda decoder, items: tuple(decoder.read(expect(items, list))),
    ),
    "dict": Kind(("items",), is_exactly(dict), _write_dict, _read_dict),
    "array": Kind(("name", "dtype"), _is_plain_array, _write_array, _read_array),
    "objects": Kind(
        ("kind", "shape", "items"), _is_array_of_objects, _write_objects, _read_objects
    ),
    "fields": Kind(
        ("fields",),
        lambda value: type(value) is np.ndarray and value.dtype.names is not None,
        _write_fields,
        _read_fields,
    ),
    "scalar": Kind(
        ("dtype", "value"), lambda value: isinstance(value, np.generic), _write_scalar, _read_scalar
    ),
    "dtype": Kind(
        ("name",),
        lambda value: isinstance(value, np.dtype) and value.names is None,
        lambda encoder, dtype, path: (dtype.str,),
        lambda decoder, name: _dtype(expect(name, str)),
    ),
    "random state": Kind(
        ("name", "keys", "rest"),
        is_exactly(np.random.RandomState),
        _write_random_state,
        _read_random_state,
    ),
    "pandas dtype": Kind(
        ("name", "categories"),
        _is_pandas_dtype,
        _write_pandas_dtype,
        _read_pandas_dtype,
        PANDAS_BYTES,
    ),
    "pandas index": Kind(
        ("values", "dtype", "names"),
        _is_pandas("Index"),
        _write_index,
        _read_index,
        PANDAS_BYTES,
    ),
    "pandas NA": Kind((), is_pandas_na, lambda encoder, value, path: (), _read_pandas_na),
    "timestamp": Kind(
        ("value", "unit", "zone"), _is_pandas("Timestamp"), _write_timestamp, _read_timestamp
    ),
    "timedelta": Kind(
        ("value", "unit"), _is_pandas("Timedelta"), _write_timedelta, _read_timedelta
    ),
    "interval": Kind(
        ("left", "right", "closed"), _is_pandas("Interval"), _write_interval, _read_interval
    ),
    "period": Kind(("ordinal", "freq"), _is_pandas("Period"), _write_period, _read_period),
    "polars dtype": Kind(
        ("name", "settings"), _is_polars_dtype, _write_polars_dtype, _read_polars_dtype
    ),
    "datetime": as_text(
        datetime.datetime, datetime.datetime.fromisoformat, datetime.datetime.isoformat
    ),
    "date": as_text(datetime.date, datetime.date.fromisoformat, datetime.date.isoformat),
    "time": as_text(datetime.time, datetime.time.fromisoformat, datetime.time.isoformat),
    "decimal": as_text(decimal.Decimal, decimal.Decimal),
    "bytes": as_text(bytes, bytes.fromhex, bytes.hex),
}
