"""Fit estimators to Dask collections whose partitions stay on their workers, and apply them lazily.

Needs ``dask`` and ``distributed``: ``pip install "skae[dask]"``.
"""

import pickle
import socket
import time
import traceback
import warnings
from contextlib import ExitStack, suppress
from functools import partial
from uuid import uuid4

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skae._dask_parts import (
    SHARE_OF_MEMORY,
    Partitions,
    shard_of,
)
from skae._dask_workers import (
    Meeting,
    Patience,
    check_workers,
    current_client,
    meet,
    memory_given_back,
    processes_of_workers,
    release_freed_memory,
    scheduler_watched,
)
from skae._data._joining import difference
from skae._data._table_parts import check_method, names_of_results
from skae._engine._checkpoints import Checkpoints
from skae._engine._group import Group, checked_sync_every, new_group
from skae.estimators._sharded_fit import (
    MIN_ROWS,
    check_is_estimator,
    check_trains_on_shards,
    fit_shards,
)
from skae.exceptions import warn_user

__all__ = ["apply", "fit"]

# Between looks at the workers, and looks after an error, before it counts as one of the fit.
SECONDS, N_LOOKS = 0.5, 10
# Attempts that may lose workers before they have come to the end of an epoch.
MAX_IN_VAIN = 3


def fit(estimator, collection, client=None, *, sample_weight=None, sync_every=1):
    """Fit an estimator to a Dask collection; its partitions stay on their workers.

    Parameters
    ----------
    estimator : estimator of skae
        Not changed.
    collection : dask.array.Array, dask.dataframe.DataFrame or list of Future or Delayed
        Rows; those of a list are tables, such as frames or arrays. Sizes may be unknown, and
        partitions empty.
    client : distributed.Client, default=None
        None means the current one.
    sample_weight : dask.array.Array, dask.dataframe.Series or list, default=None
        Weights of the rows, in as many partitions of the same sizes.
    sync_every : int, default=1
        As in ``skae.distributed.fit``, which tells how several processes fit an estimator.

    Returns
    -------
    model : estimator
        A fitted copy, as if it had been fitted to all rows in memory.

    Raises
    ------
    TypeError
        If `estimator`, `collection` or `client` is not what it must be.
    ValueError
        If there is no client, if partitions differ in columns or in what these hold, or if rows or
        parameters are not what they must be.
    RuntimeError
        If partitions are lost that cannot be computed again, the client is closed, the scheduler
        goes away, or a worker has no skae, or another version of it; if Dask has paused a worker
        that is needed, as its memory is full, and it has run nothing for 60 seconds.

    Notes
    -----
    Each process that holds partitions trains on them. Batches depend on the partitions, not on the
    workers that hold them. Where a worker ends before its time, its partitions are computed on
    others, and training goes on after the last complete epoch.

    Partitions that are computed and hold numbers only are written to files in the folders of their
    workers, unless all of them together are small. A worker whose rows take more than a quarter of
    its memory trains from these files, which are removed after the fit. Other partitions must fit
    into the memory of their workers twice.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> import dask.dataframe as dd  # doctest: +SKIP
    >>> import skae.dask
    >>> client = Client()  # doctest: +SKIP
    >>> frame = dd.read_parquet("rows/")  # doctest: +SKIP
    >>> model = skae.dask.fit(skae.AutoencoderTransformer(8), frame)  # doctest: +SKIP
    >>> latents = skae.dask.apply(model, "transform", frame)  # doctest: +SKIP
    """
    _require_dask()
    check_is_estimator(estimator)
    sync_every = checked_sync_every(sync_every)
    if getattr(collection, "ndim", 2) != 2:
        raise ValueError(f"collection has {collection.ndim} dimensions, not rows and columns.")
    client = current_client(client)
    model = clone(estimator)
    if model.random_state is None:  # the same in each attempt
        model.random_state = check_random_state(None).randint(2**31 - 1)
    with scheduler_watched(client):
        check_workers(client)
        parts = Partitions(client, collection)
        try:
            weights = None
            if sample_weight is not None:
                weights = Partitions(client, sample_weight, "sample_weight", in_files=False)
                _check_same_sizes(weights, parts)
            settings = {
                "sync_every": sync_every,
                "of_shard": {"token": parts.token, "share_of_memory": SHARE_OF_MEMORY},
            }
            model = _fit(client, model, parts, weights, settings)
        finally:
            parts.remove_files()
    model.random_state = estimator.random_state
    return model


def apply(estimator, method, collection, **kwargs):
    """Apply a method of a fitted estimator to a Dask collection, when that is computed.

    Parameters
    ----------
    estimator : estimator of skae
        Fitted.
    method : str
        One that takes rows or latents and gives a row or number for each, ``"transform"`` for
        instance.
    collection : dask.array.Array or dask.dataframe.DataFrame
        Rows, in partitions of any size. The columns of a frame may be in any order.
    **kwargs : dict
        Further arguments of the method.

    Returns
    -------
    results : dask.array.Array, dask.dataframe.DataFrame or dask.dataframe.Series
        Of frames frames, with their index, for methods that give several columns, and series for
        others; of arrays arrays. Shapes, dtypes and names are known before anything is computed.
        Columns are named as by ``skae.io.write_table``, and series by the method.

    Raises
    ------
    TypeError
        If the estimator is none of skae, or the collection no Dask array or frame.
    ValueError
        If the estimator is not fitted, the collection has other columns, or the method is private,
        trains, draws or does not give one result for each row.

    Examples
    --------
    >>> errors = skae.dask.apply(model, "reconstruction_error", frame)  # doctest: +SKIP
    >>> frame[errors > errors.quantile(0.99)].to_parquet("unusual/")  # doctest: +SKIP
    """
    _require_dask()
    from dask import delayed

    check_is_estimator(estimator)
    check_method(estimator, method, **kwargs)
    _check_applies(estimator, method, collection)
    run = partial(_apply_to_part, method=method, kwargs=kwargs)
    model = delayed(estimator)
    if hasattr(collection, "map_partitions"):
        names = getattr(estimator, "feature_names_in_", None)
        if names is not None and {*collection.columns} == {*names}:
            collection = collection[[*names]]
        meta = run(_example(estimator, method, collection._meta), estimator)[:0]
        return collection.map_partitions(run, model, like=meta, meta=meta)
    if collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    meta = run(_example(estimator, method, collection), estimator)[:0]
    shape = (
        {"chunks": (collection.chunks[0], meta.shape[1:])} if meta.ndim > 1 else {"drop_axis": 1}
    )
    return collection.map_blocks(run, model, like=meta, dtype=meta.dtype, meta=meta, **shape)


def _check_applies(model, method, collection):
    """Raise TypeError or ValueError unless a method takes the rows of a collection."""
    if not hasattr(collection, "dask") or not hasattr(collection, "shape"):
        raise TypeError(
            f"collection, of type {type(collection).__name__}, must be a Dask array or frame."
        )
    takes_latents = method in ("decode", "inverse_transform")
    known = model.net_.n_latents if takes_latents else model.n_features_in_
    n_columns = collection.shape[1] if len(collection.shape) == 2 else None
    names = None if takes_latents else getattr(model, "feature_names_in_", None)
    if names is not None and hasattr(collection, "columns"):
        if {*names} != {*collection.columns}:
            raise ValueError(
                f"collection has columns {[*collection.columns]}, but the estimator was fitted to "
                f"{[*names]}.{difference([*collection.columns], [*names])}"
            )
    elif n_columns != known:
        raise ValueError(
            f"collection has shape {collection.shape}, but {method} takes {known} columns."
        )


def _example(model, method, like):
    """One row of the kind that a method takes, in the container of a collection."""
    n_latents, n_columns = model.net_.n_latents, like.shape[1]
    row = np.zeros((1, n_latents))
    if method not in ("decode", "inverse_transform") or n_columns != n_latents:
        row = model.decode(row)
    if not hasattr(like, "columns"):
        return np.asarray(row, dtype=like.dtype)
    if hasattr(row, "columns"):  # of a mixed table
        return row
    import pandas as pd

    return pd.DataFrame(row, columns=like.columns).astype(like.dtypes)


def _apply_to_part(rows, model, method, kwargs, like=None):
    """Results for rows: a frame or series for a frame."""
    if like is not None and len(rows) == 0:
        return like
    results = getattr(model, method)(rows, **kwargs)
    if not hasattr(results, "ndim") or len(results) != len(rows):
        raise ValueError(f"method={method!r} does not give a row or number for each row.")
    if not hasattr(rows, "iloc") or hasattr(results, "iloc"):
        return results
    import pandas as pd

    if results.ndim == 1:
        return pd.Series(results, index=rows.index, name=method)
    names = names_of_results(model, method, results.shape[1], rows.columns)
    return pd.DataFrame(results, index=rows.index, columns=names)


def _require_dask():
    try:
        import dask  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'skae.dask needs dask and distributed: pip install "skae[dask]".'
        ) from error


def _check_same_sizes(weights, parts):
    """Raise ValueError unless there is a weight for each row, in the same partitions."""
    if len(weights) != len(parts):
        raise ValueError(
            f"sample_weight has {len(weights)} partitions, but the rows have {len(parts)}."
        )
    weights.held()
    parts.held()
    for number, (of_weights, of_rows) in enumerate(
        zip(weights.described, parts.described, strict=True)
    ):
        if of_weights.n_rows != of_rows.n_rows:
            raise ValueError(
                f"Partition {number} of sample_weight has {of_weights.n_rows} values, but that of "
                f"the rows has {of_rows.n_rows}."
            )


# What the client does: it tries, and tries again where workers have gone.


def _fit(client, model, parts, weights, settings):
    from distributed import Variable

    noted = Variable(f"skae-{uuid4()}", client=client)
    noted.set(b"")
    goes_on = Variable(f"{noted.name}-goes-on", client=client)
    goes_on.set(True)
    try:
        n_in_vain = 0
        while n_in_vain < MAX_IN_VAIN:
            states = noted.get()
            fitted = _attempt(client, model, parts, weights, settings, noted)
            if fitted is not None:
                return fitted
            n_in_vain = n_in_vain + 1 if noted.get() == states else 0
        raise RuntimeError(
            f"Workers were lost {MAX_IN_VAIN} times within one epoch. Each needs memory for its "
            "partitions and for the network."
        )
    finally:
        goes_on.delete()
        noted.delete()


def _attempt(client, model, parts, weights, settings, noted):
    """The fitted model, or None if a worker went away."""
    from distributed import MultiLock
    from distributed.comm import CommClosedError, get_address_host

    try:
        known, processes = _found_processes(client, parts, weights)
        if processes is None:
            return None
        if weights is None and sum(part.n_rows for part in parts.described) >= MIN_ROWS:
            check_trains_on_shards(model)
        settings["of_shard"]["columns"] = parts.names
        workers = {worker: known.get(worker) for worker, _ in processes.values()}
        # Each process waits for the others: two fits must not hold one process each.
        with MultiLock([*processes], client=client), ExitStack() as stack:
            settings = {**settings, "size": len(workers)}
            meeting = None
            if len(workers) > 1:
                first = next(iter(workers))
                port = client.run(_free_port, workers=[first])[first]
                meeting = Meeting(client, len(workers))
                stack.callback(meeting.end)
                settings |= {
                    "address": (get_address_host(first), port),
                    "meeting": meeting.name,
                }
            tasks = [
                client.submit(
                    _train,
                    model,
                    numbers,
                    [parts.futures[number] for number in numbers],
                    None if weights is None else [weights.futures[number] for number in numbers],
                    {**settings, "rank": rank},
                    noted.name,
                    noted.get(),
                    workers=[worker],
                    pure=False,
                )
                for rank, (worker, numbers) in enumerate(processes.values())
            ]
            return _outcome(client, workers, tasks, meeting)
    except CommClosedError:  # of a worker that nobody has missed so far
        time.sleep(SECONDS)
        return None


def _found_processes(client, parts, weights):
    """What is known of the workers, and the processes once none of their partitions is lost."""
    for _ in range(N_LOOKS):  # one lost worker can be met with several times
        known = processes_of_workers(client)
        processes = _processes(parts, weights)
        if processes is not None:
            break
    return known, processes


def _processes(parts, weights):
    """By the name of each process that holds partitions, a worker of it, and their numbers.

    None if a partition is lost.
    """
    held = parts.held()
    if weights is not None:
        weights.held()
    places = parts.places(held)
    numbers_at, worker_at, is_complete, without_file = {}, {}, True, []
    for number, (part, workers) in enumerate(zip(parts.futures, held, strict=True)):
        at = [
            worker for worker in workers if worker in places and part.key not in places[worker][1]
        ]
        if at:
            place, _ = places[at[0]]
            numbers_at.setdefault(place, []).append(number)
            worker_at.setdefault(place, at[0])
        else:
            is_complete = False
            if workers and parts.is_lazy:
                without_file.append(number)
    if without_file:
        parts.compute_again(without_file)
    if not is_complete:
        return None
    return {
        "skae {} {}".format(*place): (worker_at[place], numbers)
        for place, numbers in numbers_at.items()
    }


def _outcome(client, workers, tasks, meeting):
    """What the first process has fitted; None if a worker went away. Raise what they raise."""
    from distributed import wait

    patience = Patience(client)
    while pending := [task for task in tasks if task.status == "pending"]:
        is_meeting = meeting is not None and not meeting.has_begun
        if is_meeting and len(pending) < len(tasks):  # the others wait for one that has failed
            break
        with suppress(TimeoutError):
            wait(pending, SECONDS / 5 if is_meeting else SECONDS, "FIRST_COMPLETED")
        if _has_lost(client, workers):
            client.cancel(tasks, force=True)
            return None
        if is_meeting:
            meeting.look()
        try:
            patience.look(workers)
        except RuntimeError:
            client.cancel(tasks, force=True)
            raise
    failed = [task for task in tasks if task.status not in ("finished", "pending")]
    if not failed:
        fitted, told = tasks[0].result()
        for category, text in told:
            warn_user(text, category)
        return fitted
    errors = [task.exception() for task in failed]
    if len(failed) < len(tasks) or len({repr(error) for error in errors}) > 1:
        # The others of a process that has ended say that their connections are closed.
        for _ in range(N_LOOKS):
            if _has_lost(client, workers):
                return None
            time.sleep(SECONDS)
    raise next((error for error in errors if not isinstance(error, RuntimeError)), errors[0])


def _has_lost(client, workers):
    """Whether one of some workers has gone, or was started again at the same address."""
    known = processes_of_workers(client)
    return any(known.get(worker) != process for worker, process in workers.items())


# What workers do.


def _free_port():
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]


def _train(model, numbers, parts, weights, settings, noted, states):
    """Fit with the other processes; the first returns the model, and of what it warned."""
    rank, size = settings["rank"], settings["size"]
    release_freed_memory()
    keep = None if rank else partial(_note, noted)
    with ExitStack() as stack:
        stack.enter_context(memory_given_back())
        group = Group()
        if size > 1:
            meet(settings["meeting"])
            meeting = new_group(settings["address"], rank, size, settings["sync_every"])
            group = stack.enter_context(meeting)
        group.checkpoints = Checkpoints(pickle.loads(states) if states else (), keep)
        read = partial(shard_of, numbers, parts, weights, **settings["of_shard"])
        try:
            with warnings.catch_warnings(record=rank == 0) as told:
                fitted = fit_shards(model, read, group)
        except Exception as error:
            _forget_rows(error, parts, weights)
            raise
    if rank:
        return None
    return fitted, list(dict.fromkeys((each.category, str(each.message)) for each in told))


def _note(name, states):
    """Note a training for later attempts; raise RuntimeError if nobody waits for it any more."""
    from distributed import Variable

    try:  # Dask does not end what runs, so that later fits would wait for it
        Variable(f"{name}-goes-on").get(timeout=0.1)
    except TimeoutError as error:  # it was deleted
        raise RuntimeError("The fit was given up.") from error
    Variable(name).set(states)


def _forget_rows(error, *held):
    """The worker keeps an error, which would keep the rows of its frames for the next attempt."""
    for values in held:  # frames that have not ended hold these lists
        if values is not None:
            values.clear()
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            waiting += [error.__cause__, error.__context__]
