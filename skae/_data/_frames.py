"""Encode tables of mixed columns as numbers, and decode them to the container they came in."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import is_tensor, namespace, widest_float
from skae._data._chunks import TensorTable, is_memory_map
from skae._data._columns import Column, listed
from skae._data._exact_cells import MAX_INTEGER
from skae._data._polars_frames import column_of_polars, frame_to_polars
from skae._data._sources import is_source
from skae._data._tables import (
    NO_CELLS,
    as_table,
    check_names_differ,
    frame_to_arrow,
    is_arrow,
    plain,
)

# What rows of mixed tables come in, and go out in.
CONTAINERS = (
    *("pandas", "polars", "arrow"),
    *("objects", "texts", "dates", "integers", "array"),  # of NumPy, by what they hold
)


class PlainColumns:
    """The columns of a numeric array, which need no encoding."""

    is_frame = False

    def __init__(self, X: Any) -> None:
        X = TensorTable(X) if is_tensor(X) else X
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

    def is_date(self, j: int) -> bool:
        """No column holds dates."""
        return False

    def encode_value(self, j: int, value: Any) -> float:
        """A value of column `j` as a float."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"Column {j!r} cannot be {value!r}; it holds numbers.") from None

    def value(self, j: int, number: float) -> Any:
        """The value of column `j` that a number stands for."""
        return plain(self.restore(np.array([number]))[0])

    def decode_value(self, j: int, number: float) -> str:
        """A number of column `j` as text."""
        return f"{number:g}"

    def restore(self, numbers: Any) -> Any:
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
    X : frame or ndarray
        The table whose columns are learned.
    kinds : list of (bool or None), default=None
        Which columns hold levels; None, also for one column: what dtypes say.
    """

    is_frame = True

    def __init__(self, X: Any, kinds: list[bool | None] | None = None) -> None:
        self.container = _container(X) or "array"
        self.schema = dict(X.schema) if self.container == "polars" else None
        frame = _to_pandas(X, self.container)
        self.index = frame.columns
        check_names_differ(self.index)
        of_each = kinds or [None] * frame.shape[1]
        columns = [frame.iloc[:, j] for j in range(frame.shape[1])]
        if columns and len(frame) and all(column.isna().all() for column in columns):
            raise ValueError(NO_CELLS)
        self.columns = [
            Column.of(*pair, kinds is None) for pair in zip(columns, of_each, strict=True)
        ]

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

    def is_date(self, j: int) -> bool:
        """Whether the numbers of column `j` are ticks of a clock, or of another grid."""
        return self.columns[j].origin is not None

    def encode_value(self, j: int, value: Any) -> float:
        """The number, tick or code of a value of column `j`."""
        return self.columns[j].encode_value(value)

    def value(self, j: int, number: float) -> Any:
        """The value of column `j` that a number, tick or code stands for."""
        return self.columns[j].value(number)

    def decode_value(self, j: int, number: float) -> str:
        """The value of column `j` that a number, tick or code stands for, as text."""
        return self.columns[j].decode_value(number)

    def to_numbers(self, X: Any, declared: str | None = None) -> NDArray[Any]:
        """Rows as one array of numbers, ticks and codes; NaN where a cell is missing.

        `declared` is what levels are that were declared only, as in `Column`.
        """
        frame = self._in_utc(_to_pandas(X, _container(X)))
        each = enumerate(self.columns)
        cells = [c.to_numbers(frame.iloc[:, j], declared) for j, c in each]
        if not cells:
            return np.empty(frame.shape)
        return np.column_stack(cells).astype(self.number_dtype, copy=False)

    @property
    def number_dtype(self) -> Any:
        """The dtype of rows of numbers, ticks and codes."""
        single = all(column.dtype == np.float32 for column in self.columns)
        return np.float32 if single else np.float64

    @property
    def declares_more(self) -> bool:
        """Whether there are levels that no row of `fit` had."""
        return any(column.declares_more for column in self.columns)

    def n_unseen(self, X: Any) -> NDArray[Any]:
        """How many cells of each row hold a level that is declared, but that no row had."""
        if is_source(X):
            frames = (frame for unit in X.units for frame in X.read_frames(unit, X.rows_per_piece))
            return np.concatenate([self.n_unseen(frame) for frame in frames])
        is_known = ~_to_pandas(X, _container(X)).isna().to_numpy()
        return (is_known & np.isnan(self.to_numbers(X, declared="gap"))).sum(axis=1)

    def restore(self, numbers: NDArray[Any], like: Any = None) -> Any:
        """Rows in the container and of the dtypes that they had in `fit`.

        Frames of pandas have the index of `like`, if that is one.
        """
        frame = self.restore_pandas(numbers, like)
        if self.schema is not None:
            return frame_to_polars(frame, self.schema)
        if self.container == "arrow":
            return frame_to_arrow(frame)
        if self.container in ("dates", "integers", "array"):
            return frame.to_numpy()
        if self.container == "texts" and not frame.isna().to_numpy().any():
            return np.array(frame.to_numpy(dtype=object).tolist())
        return frame.to_numpy(dtype=object) if self.container in ("objects", "texts") else frame

    def restore_pandas(self, numbers: NDArray[Any], like: Any = None) -> Any:
        """Rows as a pandas frame, of the dtypes that they had in `fit`."""
        import pandas as pd

        like = None if like is None else as_table(like)
        index = like.index if hasattr(like, "iloc") else pd.RangeIndex(len(numbers))
        cells = [c.restore(numbers[:, j], index) for j, c in enumerate(self.columns)]
        frame = pd.concat(cells, axis=1) if cells else pd.DataFrame(index=index)
        frame.columns = self.index
        return frame

    def _in_utc(self, frame: Any) -> Any:
        """Files of earlier versions hold dates of zones of polars by their times in UTC."""
        for j, column in enumerate(self.columns if self.schema is not None else ()):
            series = frame.iloc[:, j]
            has_zone, had_zone = (hasattr(dtype, "tz") for dtype in (series.dtype, column.dtype))
            if column.dtype.kind == "M" and has_zone and not had_zone:
                utc = series.dt.tz_convert("UTC").dt.tz_localize(None)
                frame = frame.assign(**{column.name: utc})
        return frame


def column_mask(
    columns: Any, names: list[Any], n_features: int, parameter: str = "columns"
) -> NDArray[np.bool_]:
    """Boolean mask of columns given by name, by number or as a mask."""
    mask = np.zeros(n_features, dtype=bool)
    columns = list(columns) if isinstance(columns, Set) else columns
    as_array = np.asarray(columns)
    if as_array.dtype == bool and as_array.ndim == 1:
        if as_array.shape != mask.shape:
            raise ValueError(
                f"{parameter} is a mask of {len(as_array)} columns, but X has {n_features}."
            )
        return as_array
    for column in [columns] if as_array.ndim == 0 else columns:
        column = column.item() if isinstance(column, np.generic) else column
        if column in names:
            mask[names.index(column)] = True
        elif type(column) is int and 0 <= column < n_features:
            mask[column] = True
        else:
            known = f"one of {listed(names)}, or " if names else ""
            raise ValueError(
                f"{parameter}={columns!r}: {column!r} must be {known}an integer from 0 to "
                f"{n_features - 1}."
            )
    return mask


def has_columns(X: Any) -> bool:
    """Whether X is a frame, or an array of objects, strings or dates."""
    return _container(X) is not None


def _container(X: Any) -> str | None:
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return "arrow" if is_arrow(X) else "pandas"
    if hasattr(X, "to_series") and hasattr(X, "schema"):
        return "polars"
    if issparse(X) or is_tensor(X) or is_source(X):
        return None
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        return None
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.ndim != 2:
        return None
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and not is_memory_map(array):
        is_large = array.size and max(abs(int(array.min())), abs(int(array.max()))) > MAX_INTEGER
        return "integers" if is_large else None
    return {"O": "objects", "U": "texts", "S": "texts", "m": "dates", "M": "dates"}.get(
        array.dtype.kind
    )


def _to_pandas(X: Any, container: str | None) -> Any:
    import pandas as pd

    if container in ("pandas", "arrow"):
        return X
    if container == "polars":
        columns = {name: column_of_polars(X[name]) for name in X.columns}
        return pd.DataFrame(columns)
    if container in ("objects", "texts"):
        cells = np.array(X, dtype=object)
        cells[np.ma.getmaskarray(X)] = None
        return pd.DataFrame(cells)
    return pd.DataFrame(X)
