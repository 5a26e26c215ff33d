"""Parts of a table, one below the other, and whether they are parts of one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack

from skae._sklearn import num_samples

# Results of `pandas.api.types.infer_dtype` by what the cells are.
KINDS = {
    "numbers": {"integer", "floating", "mixed-integer-float", "decimal", "boolean"},
    "texts": {"string", "bytes"},
}
OF_DTYPES = {"U": "texts", "S": "texts", "M": "dates", "m": "dates"}


def joined(tables: Iterable[Any]) -> Any:
    """Tables of one kind, one below the other; those without rows may be of another."""
    tables = [table for table in tables if table is not None]
    tables = [table for table in tables if num_samples(table)] or tables[:1]
    if len(tables) < 2:
        return tables[0] if tables else np.empty((0, 0))
    first = tables[0]
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(_of_same_dtypes(tables))
    if hasattr(first, "columns"):
        import polars as pl

        return pl.concat(tables, how="vertical_relaxed")  # of other numbers, or nothing but gaps
    if issparse(first):
        return vstack(tables, format="csr")
    return np.concatenate([np.asarray(table) for table in tables])


def _of_same_dtypes(frames: list[Any]) -> list[Any]:
    """Frames of pandas, of which those columns are cast that would become objects together."""
    frames = [frame.copy(deep=False) for frame in frames]
    for j in range(frames[0].shape[1]):
        columns = [frame.iloc[:, j] for frame in frames]
        if any(column.dtype != columns[0].dtype for column in columns):
            for frame, column in zip(frames, _of_same_dtype(columns), strict=True):
                frame.isetitem(j, column)
    return frames


def _of_same_dtype(columns: list[Any]) -> list[Any]:
    """Columns without a cell have the dtype of the others, and levels are declared by all."""
    import pandas as pd

    def declares(column: Any) -> bool:
        return isinstance(column.dtype, pd.CategoricalDtype)

    known = [column for column in columns if declares(column) or column.notna().any()]
    dtypes = list(dict.fromkeys(column.dtype for column in known))
    if len(dtypes) > 1 and all(map(declares, known)):
        levels = dict.fromkeys(level for dtype in dtypes for level in dtype.categories)
        dtypes = [pd.CategoricalDtype(list(levels), all(dtype.ordered for dtype in dtypes))]
    if len(dtypes) != 1:
        return columns
    has_no_gap = isinstance(dtypes[0], np.dtype) and dtypes[0].kind in "biu"
    dtype = np.float64 if has_no_gap else dtypes[0]
    return [c if c.dtype == dtypes[0] else c.astype(dtype) for c in columns]


def kinds_of_cells(table: Any) -> list[str | None]:
    """What each column holds: "numbers", "texts" or "dates"; None where cells do not tell."""
    if hasattr(table, "columns"):
        cells = [table.iloc[:, j] if hasattr(table, "iloc") else table[:, j] for j in _each(table)]
        return [_kind_of_cells(column) for column in cells]
    kind = getattr(table.dtype, "kind", "f")  # those of other libraries have none
    if kind != "O":
        return [OF_DTYPES.get(kind, "numbers")] * table.shape[1]
    return [_kind_of_cells(table[:, j]) for j in _each(table)]


def _each(table: Any) -> range:
    return range(table.shape[1])


def _kind_of_cells(cells: Any) -> str | None:
    import pandas as pd

    if not isinstance(cells, pd.Series):
        cells = pd.Series(np.asarray(cells))
    if not cells.notna().any():
        return None
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.cat.categories
    found = pd.api.types.infer_dtype(cells, skipna=True)
    if found.startswith(("date", "time", "period")):
        return "dates"
    return next((kind for kind, names in KINDS.items() if found in names), None)


def check_same_kinds(
    parts: Iterable[tuple[Sequence[Any] | int, Sequence[str | None]] | None], place: str
) -> None:
    """Raise ValueError if a column holds one kind of cells here and another there.

    Parameters
    ----------
    parts : iterable of (columns, kinds) or None
        Names of the columns of each part, or how many there are, and what they hold; None if it
        has no rows.
    place : str
        What errors call a part.
    """
    known: dict[Any, tuple[str, int]] = {}
    for number, part in enumerate(parts):
        columns, kinds = (0, []) if part is None else part
        names = range(columns) if isinstance(columns, int) else columns
        for column, kind in zip(names, kinds, strict=True):
            if kind is None:
                continue
            first, there = known.setdefault(column, (kind, number))
            if kind != first:
                raise ValueError(
                    f"Column {column!r} holds {kind} in {place} {number}, but {first} in {place} "
                    f"{there}."
                )


def check_same_tables(tables: Sequence[Any]) -> None:
    """Raise ValueError unless the rows of all processes are parts of one table.

    Parameters
    ----------
    tables : sequence of table or None
        Some rows of each process; None, or a table without any, if it has none.
    """
    first: Any = None
    tables = [None if table is None or not num_samples(table) else table for table in tables]
    for rank, table in enumerate(tables):
        if table is None:
            continue
        container, columns = _container(table), _columns(table)
        if first is None:
            first = rank, container, columns
        elif container != first[1]:
            raise ValueError(
                f"The rows of process {rank} are {container}, but those of process {first[0]} "
                f"are {first[1]}: all must be of one kind."
            )
        elif columns != first[2]:
            raise ValueError(
                f"The rows of process {rank} have columns {columns}, but those of process "
                f"{first[0]} have {first[2]}: all must have the same, in the same order."
                + difference(columns, first[2])
            )
    pairs = [None if t is None else (_columns(t), kinds_of_cells(t)) for t in tables]
    check_same_kinds(pairs, "process")


def difference(names: Any, expected: Any) -> str:
    """Which names are missing and which are new, to go behind an error."""
    if not isinstance(names, list) or not isinstance(expected, list):
        return ""
    found = {
        "missing": [name for name in expected if name not in names],
        "not expected": [name for name in names if name not in expected],
    }
    differing = "; ".join(f"{what}: {some}" for what, some in found.items() if some)
    return f" ({differing})" if differing else ""


def _container(table: Any) -> str:
    if hasattr(table, "columns"):
        return f"a frame of {type(table).__module__.partition('.')[0]}"
    return "a sparse matrix" if issparse(table) else "an array"


def _columns(table: Any) -> Any:
    return [*table.columns] if hasattr(table, "columns") else table.shape[1]
