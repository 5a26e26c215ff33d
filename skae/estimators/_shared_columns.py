"""What processes learn together of the columns of a table, each from its own rows."""

import warnings
from collections import deque
from contextlib import contextmanager
from functools import partial

import numpy as np

from skae._data._arrow import ArrowFrames, ArrowSource
from skae._data._columns import warn_of_names
from skae._data._fitted_arrays import note_kind_of_rows
from skae._data._frames import column_mask
from skae._data._joining import check_same_tables, joined
from skae._data._shards import agreed
from skae._data._sources import is_source
from skae._data._telling_batches import check_few_levels, numbers_of_telling_rows
from skae._data._telling_rows import telling_rows
from skae._sklearn import num_samples, safe_indexing


def learn_together(model, shard, n_rows, group, has_gaps=False):
    """Learn the columns of a model from the rows of all processes, as one would from all rows.

    Parameters
    ----------
    model : estimator
    shard : Shard
    n_rows : int
        Of all processes.
    group : Group
    has_gaps : bool, default=False
        Whether cells of tables of numbers on disk are known to be missing.

    Returns
    -------
    examples : table
        Rows that tell of the columns, the same on all processes.
    """
    pieces = agreed(partial(_examples, model, shard, has_gaps), group)
    check_same_tables(pieces)
    examples = joined(pieces)
    note_kind_of_rows(model, examples)
    counts_values = getattr(model, "private_values", False)
    if counts_values:
        model.private_values = False  # of examples, counts say nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many levels: among examples, each is rare
        try:
            model._check_rows(examples, reset=True)
        except ValueError:
            agreed(partial(check_parts, model, shard, reset=True), group)
            raise
        finally:
            if counts_values:
                model.private_values = True
    check_levels(model, shard, n_rows, group)
    if counts_values:
        values = agreed(partial(_own_values, model, shard, examples), group)
        model._guarded = model._guarded_by(values)
    return examples


def _examples(model, shard, has_gaps):
    """Some rows of positive weight that tell of the columns; None if there are none here."""
    if is_source(shard.table) and shard.n_rows:
        return _examples_on_disk(model, shard.table, has_gaps)
    table = _kept_rows(shard)
    return None if table is None else telling_rows(table)


def _examples_on_disk(model, source, has_gaps):
    """Rows of a table on disk that tell of its columns; the first and last, if all say nothing."""
    if isinstance(source, ArrowSource):
        examples = model._examples(source.with_gaps if has_gaps else source)
        return source.ends() if examples is None or len(examples) == 0 else examples
    features, are_levels = model.categorical_features, np.zeros(source.n_features, dtype=bool)
    if features is not None and not isinstance(features, str):
        names = source.names or []
        are_levels = column_mask(features, names, source.n_features, "categorical_features")
    if has_gaps or are_levels.any():
        return read_as_table(source, numbers_of_telling_rows(source, are_levels))
    return read_as_table(source, [0, source.n_rows - 1])


def read_as_table(source, rows=None):
    """Rows of a table on disk in memory, as a frame if its columns have names."""
    if rows is None and isinstance(source, ArrowSource):
        return source.read_frame()
    numbers = source.read_all() if rows is None else source[rows]
    if source.names is None:
        return numbers
    import pandas as pd

    return pd.DataFrame(numbers, columns=source.names)


def _kept_rows(shard):
    """Own rows of positive weight; None if there are none here."""
    kept = shard.rows_with_weight
    if shard.n_rows == 0 or (kept is not None and not len(kept)):
        return None
    return shard.table if kept is None else safe_indexing(shard.table, kept)


def check_levels(model, shard, n_rows, group):
    """Warn of columns that seem to name rows, and raise if they have too many levels on disk."""
    columns = model._columns
    are_on_disk = any(group.gather(is_source(shard.table)))
    if columns is None:
        return
    for name, n_levels in zip(columns.names, columns.n_levels, strict=True):
        if are_on_disk:
            check_few_levels(name, n_levels)
        if n_levels and group.rank == 0:
            warn_of_names(name, n_levels, n_rows, hasattr(model, "sample"))


def _own_values(model, shard, examples):
    """How many own rows have each value."""
    if is_source(shard.table):
        raise ValueError(
            "private_values=True counts the values of rows in memory, which these rows are too "
            "many for: give processes more memory, or set private_values=False."
        )
    table = _kept_rows(shard)
    if table is None:
        table = safe_indexing(examples, slice(0, 0))
    with nothing_scaled_yet(model):
        return model._values_of(model._check_table(table, reset=False))


@contextmanager
def nothing_scaled_yet(model):
    """Rows that are checked in the block may hold any values that can be scaled."""
    model._largest_read = None
    try:
        yield
    finally:
        del model._largest_read


def check_parts(model, shard, *, reset):
    """Raise what is wrong with the rows of a part, and say which."""
    if shard.n_rows == 0:
        return
    if is_source(shard.table):
        columns = getattr(model, "_columns", "not learned")
        is_read = columns is not None or not isinstance(shard.table, ArrowFrames)
        if reset and is_read and columns != "not learned":
            # Errors of examples do not tell where their rows lie.
            with nothing_scaled_yet(model):
                deque(model._check_rows(shard.table, reset=False).chunks(), maxlen=0)
        return
    for part, rows in shard.split(shard.table).items():
        try:
            if num_samples(rows):
                model._check_rows(rows, reset=reset)
        except ValueError as error:
            if len(shard.sizes) > 1:
                error.add_note(f"They are in partition {part}.")
            raise
