"""Fit an estimator to a table whose rows lie on several processes."""

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skae._data._chunks import as_dense
from skae._data._frames import PlainColumns
from skae._data._joining import check_same_tables, joined
from skae._data._shards import ShardedTable, agreed
from skae._data._sources import is_source, spread_numbers
from skae._data._survey import MIN_BYTES_ON_DISK, SEED, MissingCellsError, n_sampled, surveyed
from skae._data._tables import as_table
from skae._data._validation import as_numpy_table, checked_weight
from skae._engine._runtime import initial_settings
from skae._engine._tasks import given_to_fit, tasks_of_fit
from skae._fit._defaults import MANY_ROWS
from skae._fit._guard import rollback_on_error
from skae._fit._plan import network_fingerprint
from skae._sklearn import callbacks_of, safe_indexing, validate_params
from skae.estimators._base import BaseAutoencoder
from skae.estimators._checks import compare_with_scaling
from skae.estimators._shared_columns import (
    check_parts,
    learn_together,
    nothing_scaled_yet,
    read_as_table,
)

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
    bytes_in_memory : int, default=None
        A table on disk that is no larger is read into memory; None means MIN_BYTES_ON_DISK.
    """

    def __init__(self, table, sample_weight, sizes, bytes_in_memory=None):
        self.table = None if table is None else as_table(table)
        self.sizes = dict(sorted(sizes.items()))
        self.weight = None
        if self.n_rows:  # other processes may have those of positive weight
            self.weight = checked_weight(sample_weight, self.n_rows, may_all_be_zero=True)
            _check_has_columns(self.table)
        self.bytes_in_memory = MIN_BYTES_ON_DISK if bytes_in_memory is None else bytes_in_memory
        if is_source(self.table) and _bytes_in_memory(self.table) <= self.bytes_in_memory:
            self.table = read_as_table(self.table)

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


def _bytes_in_memory(source):
    return getattr(source, "frame_bytes", source.nbytes)


def _check_has_columns(table):
    shape = tuple(getattr(table, "shape", (0, 0)))
    if len(shape) != 2:
        raise ValueError(f"X has shape {shape}, not rows and columns.")


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
    return _in_order(group.gather(of_own))


def _in_order(of_processes):
    of_all = {part: value for values in of_processes for part, value in values.items()}
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

    def read():
        of_own = {part: [None, None] for part in shard.sizes}
        table = read_as_table(shard.table) if is_source(shard.table) else shard.table
        for place, values in enumerate((table, shard.weight)):
            if values is not None:
                for part, piece in shard.split(values).items():
                    of_own[part][place] = piece
        return of_own

    of_all = agreed(read, group)
    check_same_tables([joined(table for table, _ in own.values()) for own in of_all])
    tables, weights = zip(*_in_order(of_all), strict=True)

    def fit():
        if group.rank:
            return None
        known = [weight for weight in weights if weight is not None]  # empty parts have none
        return model.fit(joined(tables), sample_weight=np.concatenate(known) if known else None)

    return agreed(fit, group)[0]


def _checked(model, shard, group):
    """The table of all processes, validated, and the weights of its rows."""
    try:
        return _checked_rows(model, shard, group)
    except MissingCellsError:  # raised by all
        if model._columns is not None or model._reads_gaps:
            raise
    return _checked_rows(model, shard, group, has_gaps=True)


def _checked_rows(model, shard, group, has_gaps=False):
    sizes = _of_all_parts(shard.sizes_with_weight, group)
    examples = learn_together(model, shard, sum(sizes), group, has_gaps)
    width = examples.shape[1] + sum(getattr(model._columns, "n_levels", ()))
    n_own = _n_sampled_here(shard, width, group)
    own = []

    def check():
        own.append(_check_own(model, shard, examples, n_own))
        return own[0].dtype

    dtype = np.result_type(*agreed(check, group))
    if isinstance(getattr(model, "_columns", None), PlainColumns):
        model._columns.dtype = dtype
    dtype = dtype if dtype in (np.float32, np.float64) else np.float64
    are_on_disk = any(group.gather(is_source(own[0])))
    X = ShardedTable(own[0], [*shard.sizes], sizes, dtype, group, are_on_disk, width)
    if are_on_disk:
        _share_samples(X, n_own)
    return X, _weights(shard, group)


def _n_sampled_here(shard, width, group):
    """How many rows this process adds to the sample of all; by those of positive weight."""
    n_here = shard.n_rows if shard.weight is None else np.count_nonzero(shard.weight)
    n_rows = sum(group.gather(n_here))
    if n_rows < 2:
        raise ValueError(
            f"sample_weight leaves {n_rows} rows with a positive weight; at least 2 are needed."
        )
    return -(-n_sampled(width) * n_here // n_rows)


def _weights(shard, group):
    """Weights of the rows of all processes, positive ones with mean one; None if all are equal."""
    weights = dict.fromkeys(shard.sizes)
    if shard.weight is not None:
        weights = shard.split(shard.weight)
        if shard.rows_with_weight is not None:
            weights = {part: w[w > 0] for part, w in weights.items()}
    weights = [weight for weight in _of_all_parts(weights, group) if weight is not None]
    weight = np.concatenate([*weights, []])
    if len(weight) == 0 or (weight == weight[0]).all():
        return None
    return weight / weight[weight > 0].mean()


def _share_samples(X, n_wanted):
    """Let all processes have the samples of the rows of each."""
    own = X.own
    if is_source(own):
        rows, numbers = own.sample, own.sample_numbers
        own.sample = own.sample_numbers = None
    else:
        numbers = spread_numbers(own.shape[0], n_wanted, SEED)
        rows = as_dense(own[numbers])
    own_numbers = X.own_numbers(numbers)
    X.sample_numbers = np.sort(np.concatenate(X.group.gather(own_numbers)))
    # Each process puts its rows in their places of one array: no copy of all is ever sent.
    X.sample = np.zeros((len(X.sample_numbers), X.shape[1]), dtype=X.dtype)
    X.sample[np.searchsorted(X.sample_numbers, own_numbers)] = rows
    X.group.add_array(X.sample)


def _check_own(model, shard, examples, n_wanted):
    """Own rows of positive weight, validated; those on disk with a sample of so many."""
    with nothing_scaled_yet(model):
        try:
            rows = model._check_rows(shard.table if shard.n_rows else examples, reset=False)
            rows = (
                _to_learn_from(rows, shard, n_wanted) if is_source(rows) else as_numpy_table(rows)
            )
        except ValueError:
            check_parts(model, shard, reset=False)
            raise
    kept = shard.rows_with_weight if shard.n_rows else []
    if kept is not None:
        rows = rows.rows(kept) if hasattr(rows, "rows") else rows[kept]
    return rows


def _to_learn_from(source, shard, n_wanted):
    """A table on disk with a sample of its rows; in memory, if its numbers and codes are few."""
    has_weight = shard.weight is None or shard.weight.all()
    if source.nbytes <= shard.bytes_in_memory and has_weight:
        return source.read_all()
    return surveyed(source, n_wanted, shard.weight)
