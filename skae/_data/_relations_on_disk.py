"""Learn relations of a table on disk: from some rows, to which those that break them are added."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._relations import Relations
from skae._data._sources import RowSource, spread_numbers

# Rows that relations are learned from at first, in cells; and rows of a pass that are added.
LEARNED_CELLS, MOST_ADDED = 2**21, 20_000
MOST_PASSES = 8
SEED = 1


def relations_on_disk(wanted: Any, columns: Any, source: RowSource) -> Relations | None:
    """Relations that hold in all rows of a table on disk; None if none are found.

    Each pass over all rows checks those that are learned so far. Rows that break some are added to
    the rows that they are learned from: relations that do not hold there are not found again,
    and combinations that are new are known from then on.

    Parameters
    ----------
    wanted : "auto" or list of Relation
        Raise ValueError if one of the list does not hold in a row.
    columns : Columns or PlainColumns
    source : RowSource
        Numbers and codes.
    """
    numbers = spread_numbers(source.n_rows, LEARNED_CELLS // source.n_features, SEED)
    rows = source[numbers]
    for _ in range(MOST_PASSES):
        relations = _learned(wanted, columns, rows, numbers)
        if not relations.steps:
            return None
        broken, found_at = _rows_that_break(relations, source)
        if not len(broken):
            return relations
        rows, numbers = np.concatenate([rows, broken]), np.concatenate([numbers, found_at])
    if isinstance(wanted, str):
        return None
    raise ValueError(
        f"relations={wanted!r}: after {MOST_PASSES} passes over {source.label}, some rows still "
        "held combinations that none before had. Combine columns of fewer levels."
    )


def _learned(wanted: Any, columns: Any, rows: NDArray[Any], numbers: NDArray[np.intp]) -> Relations:
    try:
        return Relations(columns.n_levels).learn(wanted, columns, rows)
    except ValueError as error:
        text = str(error).partition("; it fails in")[0]
        in_table = re.sub(
            r" in row (\d+) of X", lambda m: f" in row {numbers[int(m[1])]} of X", text
        )
        raise ValueError(in_table) from error


def _rows_that_break(
    relations: Relations, source: RowSource
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Some of the rows that break a relation, and their numbers."""
    rows = [np.empty((0, source.n_features), source.dtype)]
    numbers = [np.empty(0, dtype=np.intp)]
    n_more = MOST_ADDED
    for span, chunk in source.chunks():
        broken = np.flatnonzero(~relations.hold(chunk))[:n_more]
        rows.append(chunk[broken])
        numbers.append(span.start + broken)
        n_more -= len(broken)
    return np.concatenate(rows), np.concatenate(numbers)
