"""Fit an estimator to a table whose rows lie on several processes."""

import warnings
from functools import partial

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.base import clone
from sklearn.utils import check_random_state

from skae._data._arrow import check_holds_numbers
from skae._data._chunks import as_dense
from skae._data._fitted_arrays import note_kind_of_rows
from skae._data._frames import PlainColumns
from skae._data._shards import ShardedTable, agreed
from skae._data._sources import is_source, spread_numbers
from skae._data._survey import MIN_BYTES_ON_DISK, SEED, n_sampled, surveyed
from skae._data._tables import as_table
from skae._data._telling_rows import telling_rows
from skae._data._validation import as_numpy_table, checked_weight
from skae._engine._runtime import initial_settings
from skae._engine._tasks import given_to_fit, tasks_of_fit
from skae._fit._defaults import MANY_ROWS
from skae._fit._guard import rollback_on_error
from skae._fit._plan import network_fingerprint
from skae._sklearn import callbacks_of, num_samples, safe_indexing, validate_params
from skae.estimators._base import BaseAutoencoder
from skae.estimators._checks import compare_with_scaling

# Fewer rows are fitted by one process: the course of their fits is another, and short.
MIN_ROWS = MANY_ROWS
SET_FOR_THE_FIT = {"random_state", "relations"}
LARGEST_SEED = np.iinfo(np.int32).max


class Shard:
    """Parts of a table that lie on this process, one after the other.

    Parameters
    ----------
    table : {array-like, sparse matrix} of shape (n_own, n_features), table on disk or None
        None if there are no parts here.
    sample_weight : array-like of shape (n_own,) or None
    sizes : dict of {int: int}
        Rows of each of these parts. The parts of all processes are numbered from 0 on.
    bytes_in_memory : int, default=MIN_BYTES_ON_DISK
        A table on disk that is no larger is read into memory; larger ones must hold numbers.
    """

    def __init__(self, table, sample_weight, sizes, bytes_in_memory=MIN_BYTES_ON_DISK):
        self.table = None if table is None else as_table(table)
        self.sizes = dict(sorted(sizes.items()))
        self.weight = None
        if self.n_rows:  # other processes may have those of positive weight
            self.weight = checked_weight(sample_weight, self.n_rows, may_all_be_zero=True)
        if is_source(self.table):
            if self.table.nbytes <= bytes_in_memory:
                self.table = read_as_table(self.table)
            else:  # levels would be those of some own rows
                check_holds_numbers(self.table)

    @property
    def n_rows(self):
        return sum(self.sizes.values())

    def split(self, values):
        """Values of own rows, by part."""
        ends = np.cumsum([0, *self.sizes.values()])
        pairs = zip(self.sizes, ends, ends[1:], strict=False)
        return {part: safe_indexing(values, slice(start, end)) for part, start, end in pairs}

    @property
    def rows_with_weight(self):
        """Numbers of own rows of positive weight; None for all, as of tables on disk."""
        if self.weight is None or is_source(self.table) or self.weight.all():
            return None
        return np.flatnonzero(self.weight)

    @property
    def sizes_with_weight(self):
        """Rows that are read, by part."""
        if self.rows_with_weight is None:
            return self.sizes
        return {part: np.count_nonzero(w) for part, w in self.split(self.weight).items()}


def fit_shards(estimator, shard, group):
    """A fitted copy of an estimator, the same on all processes of a group.

    Parameters
    ----------
    estimator : estimator
        That of the first process counts.
    shard : callable
        Returns the ``Shard`` of this process.
    group : Group
    """
    estimator = group.of_first(estimator)
    check_is_estimator(estimator)
    shard = _read(shard, group)
    model = clone(estimator)
    if model.random_state is None:
        model.random_state = group.of_first(check_random_state(None).randint(LARGEST_SEED))
    sizes = _of_all_parts(shard.sizes_with_weight, group)
    if sum(sizes) < MIN_ROWS:
        model = _fit_gathered(model, shard, group)
    else:
        check_trains_on_shards(estimator)
        if isinstance(getattr(model, "relations", None), str):
            model.relations = None  # they are looked for in rows in memory only
        given = given_to_fit(shard.table, None, sample_weight=shard.weight)
        validate_params(model)
        with (
            initial_settings(),
            rollback_on_error(model, given, is_quiet=group.rank > 0),
            tasks_of_fit(None, given),
        ):
            X, weight = _checked(model, shard, group)
            model._fit(X, weight)
            compare_with_scaling(model, X, is_new=True)
    model = group.of_first(model)
    for name in SET_FOR_THE_FIT & {*estimator.get_params(deep=False)}:
        setattr(model, name, getattr(estimator, name))
    model._network_fingerprint = network_fingerprint(model)
    return model


def _read(read, group):
    """The shard of this process; raise if one of the others could not be read, or does not fit."""
    shards = []
    has_weight = agreed(lambda: shards.append(read()) or _has_weight(shards[0]), group)
    if {True, False} <= set(has_weight):
        raise ValueError(
            "sample_weight must be given for the rows of all processes or of none; it is given on "
            f"{has_weight.count(True)} of {group.size}."
        )
    return shards[0]


def _has_weight(shard):
    return None if shard.n_rows == 0 else shard.weight is not None


def _of_all_parts(of_own, group):
    """One value for each part, in their order."""
    of_all = {part: value for values in group.gather(of_own) for part, value in values.items()}
    return [of_all[part] for part in sorted(of_all)]


def check_is_estimator(estimator):
    """Raise TypeError unless an estimator is one of skae."""
    if not isinstance(estimator, BaseAutoencoder):
        raise TypeError(
            f"estimator, of type {type(estimator).__name__}, must be an estimator of skae. The "
            "steps before it in a pipeline are applied to the rows before."
        )


def check_trains_on_shards(model):
    """Raise ValueError if the estimator, as it is set, cannot be trained by several processes."""
    if getattr(model, "conditional", False):
        raise ValueError(
            "conditional=True needs targets, which several processes do not read; fit rows in "
            "memory instead."
        )
    if getattr(model, "relations", None) and not isinstance(model.relations, str):
        raise ValueError(
            f"relations={model.relations!r} are kept by fits in one process only; set "
            "relations='auto'."
        )
    if getattr(model, "variational", False):
        raise ValueError(
            "variational=True needs one process: set variational=False, or fit rows in memory."
        )
    if model.callbacks or callbacks_of(model):
        raise ValueError(
            f"callbacks={model.callbacks or callbacks_of(model)!r} cannot watch a training by "
            "several processes: leave them out."
        )
    if getattr(model, "sparsity", 0) and model.sparsity_penalty == "kl":
        raise ValueError(
            "sparsity_penalty='kl' needs the mean activity of whole batches, which lie on several "
            "processes; set sparsity_penalty='l1'."
        )


def _fit_gathered(model, shard, group):
    """Fit a small table on the first process, all parts in their order."""
    of_own = {part: [None, None] for part in shard.sizes}

    def read():
        table = read_as_table(shard.table) if is_source(shard.table) else shard.table
        for place, values in enumerate((table, shard.weight)):
            if values is not None:
                for part, piece in shard.split(values).items():
                    of_own[part][place] = piece

    agreed(read, group)
    tables, weights = zip(*_of_all_parts(of_own, group), strict=True)

    def fit():
        if group.rank:
            return None
        known = [weight for weight in weights if weight is not None]  # empty parts have none
        return model.fit(joined(tables), sample_weight=np.concatenate(known) if known else None)

    return agreed(fit, group)[0]


def read_as_table(source, rows=None):
    """Rows of a table on disk in memory, as a frame if its columns have names."""
    numbers = source.read_all() if rows is None else source[rows]
    if source.names is None:
        return numbers
    import pandas as pd

    return pd.DataFrame(numbers, columns=source.names)


def joined(tables):
    """Tables of one kind, one below the other; those without rows may be of another."""
    tables = [table for table in tables if table is not None]
    tables = [table for table in tables if num_samples(table)] or tables[:1]
    if len(tables) < 2:
        return tables[0] if tables else np.empty((0, 0))
    first = tables[0]
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(tables)
    if hasattr(first, "columns"):
        import polars as pl

        return pl.concat(tables)
    if issparse(first):
        return vstack(tables, format="csr")
    return np.concatenate([np.asarray(table) for table in tables])


def _checked(model, shard, group):
    """The table of all processes, validated, and the weights of its rows, with mean one."""
    pieces = agreed(lambda: _examples(shard), group)
    _check_same_columns(pieces)
    examples = joined([piece for piece in pieces if piece is not None])
    _learn_columns(model, examples, shard, group)
    own = []
    n_rows = sum(_of_all_parts(shard.sizes_with_weight, group))
    n_own = -(-n_sampled(examples.shape[1]) * shard.n_rows // n_rows)

    def check():
        own.append(_check_own(model, shard, examples, n_own))
        return own[0].dtype

    dtype = np.result_type(*agreed(check, group))
    if isinstance(getattr(model, "_columns", None), PlainColumns):
        model._columns.dtype = dtype
    dtype = dtype if dtype in (np.float32, np.float64) else np.float64
    sizes = _of_all_parts(shard.sizes_with_weight, group)
    are_on_disk = any(group.gather(is_source(own[0])))
    X = ShardedTable(own[0], [*shard.sizes], sizes, dtype, group, are_on_disk)
    if are_on_disk:
        _share_samples(X)
    weights = dict.fromkeys(shard.sizes)
    if shard.weight is not None:
        weights = shard.split(shard.weight)
        if shard.rows_with_weight is not None:
            weights = {part: w[w > 0] for part, w in weights.items()}
    weights = [weight for weight in _of_all_parts(weights, group) if weight is not None]
    weight = np.concatenate([*weights, []])
    if len(weight) == 0 or (weight == weight[0]).all():
        return X, None
    return X, weight / weight.mean()


def _share_samples(X):
    """Let all processes have the samples of the rows of each."""
    own = X.own
    if is_source(own):
        rows, numbers = own.sample, own.sample_numbers
        own.sample = own.sample_numbers = None
    else:
        n_wanted = -(-n_sampled(X.shape[1]) * own.shape[0] // X.shape[0])
        numbers = spread_numbers(own.shape[0], n_wanted, SEED)
        rows = as_dense(own[numbers])
    pieces = X.group.gather((X.own_numbers(numbers), rows.astype(X.dtype, copy=False)))
    numbers, rows = (np.concatenate(values) for values in zip(*pieces, strict=True))
    order = np.argsort(numbers)
    X.sample, X.sample_numbers = rows[order], numbers[order]


def _examples(shard):
    """Some rows of positive weight that tell of the columns; None if there are none here."""
    if is_source(shard.table) and shard.n_rows:
        return read_as_table(shard.table, [0, shard.n_rows - 1])
    table = _kept_rows(shard)
    return None if table is None else telling_rows(table)


def _kept_rows(shard):
    """Own rows of positive weight; None if there are none here."""
    kept = shard.rows_with_weight
    if shard.n_rows == 0 or (kept is not None and not len(kept)):
        return None
    return shard.table if kept is None else safe_indexing(shard.table, kept)


def _check_same_columns(pieces):
    """Raise ValueError unless the rows of all processes have the same columns."""
    first = None
    for rank, piece in enumerate(pieces):
        if piece is None:
            continue
        columns = [*piece.columns] if hasattr(piece, "columns") else piece.shape[1]
        if first is None:
            first = rank, columns
        elif columns != first[1]:
            raise ValueError(
                f"The rows of process {rank} have columns {columns}, but those of process "
                f"{first[0]} have {first[1]}: all must have the same, in the same order."
            )


def _learn_columns(model, examples, shard, group):
    """Learn columns from examples of all rows."""
    note_kind_of_rows(model, examples)
    counts_values = getattr(model, "private_values", False)
    if counts_values:
        model.private_values = False  # of examples, counts say nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many levels: among examples, each is rare
        try:
            model._check_rows(examples, reset=True)
        except ValueError:
            agreed(partial(_check_parts, model, shard, reset=True), group)
            raise
        finally:
            if counts_values:
                model.private_values = True
    if counts_values:
        values = agreed(partial(_own_values, model, shard, examples), group)
        model._guarded = model._guarded_by(values)


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
    model._largest_read = None
    try:
        return model._values_of(model._check_table(table, reset=False))
    finally:
        del model._largest_read


def _check_parts(model, shard, *, reset):
    """Raise what is wrong with the rows of a part, and say which."""
    if shard.n_rows == 0 or is_source(shard.table):
        return
    for part, rows in shard.split(shard.table).items():
        try:
            if num_samples(rows):
                model._check_rows(rows, reset=reset)
        except ValueError as error:
            if len(shard.sizes) > 1:
                error.add_note(f"They are in partition {part}.")
            raise


def _check_own(model, shard, examples, n_sampled):
    """Own rows of positive weight, validated; those on disk with a sample of so many."""
    model._largest_read = None  # nothing is scaled so far
    try:
        table = shard.table if shard.n_rows else examples
        rows = model._check_rows(table, reset=False)
        rows = surveyed(rows, n_sampled) if is_source(rows) else as_numpy_table(rows)
    except ValueError:
        _check_parts(model, shard, reset=False)
        raise
    finally:
        del model._largest_read
    kept = shard.rows_with_weight if shard.n_rows else []
    if kept is not None:
        rows = rows.rows(kept) if hasattr(rows, "rows") else rows[kept]
    return rows
