"""Partitions of Dask collections: held by workers, large ones in files, and alike in columns."""

import os
import shutil
import socket
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from skae._dask_workers import Patience, release_freed_memory
from skae._data._joining import check_same_kinds, difference, joined, kinds_of_cells
from skae._data._row_files import FilesOfRows, RowFile, dtype_of_rows, write_rows
from skae._data._survey import MIN_BYTES_ON_DISK
from skae._data._tables import numbers_of_table
from skae._sklearn import num_samples
from skae.estimators._sharded_fit import Shard

# Between looks at partitions that are computed.
SECONDS = 0.5
# Of the memory of a worker: rows in files that are no larger are read into it.
SHARE_OF_MEMORY = 1 / 4

# Files of fits that are over, in the processes of workers.
_over = set()


class Description(NamedTuple):
    """What the client has to know of a partition.

    Attributes
    ----------
    n_rows : int
    columns : list or int
        Names of the columns, or how many there are.
    kinds : list of str or None
        What each holds: "numbers", "texts", "dates", or None where its cells do not tell.
    is_file : bool
    """

    n_rows: int
    columns: object
    kinds: list
    is_file: bool


class Partitions:
    """Partitions, or blocks of rows, of a collection.

    Those that are computed from a graph are written to files of their workers if they are large
    and hold numbers, so that no worker has all of its partitions in memory.

    Parameters
    ----------
    client : distributed.Client
    collection : Dask collection, or list of Future or Delayed
    name : str
        What errors call it.
    in_files : bool, default=True
        Whether they may be written to files.

    Attributes
    ----------
    futures : list of Future
    names : list or None
        Names of the columns, once they are ``held``.
    described : list of Description
        Once they are ``held``.
    """

    def __init__(self, client, collection, name="collection", in_files=True):
        from distributed import Future

        self.client = client
        self.token = f"skae-{uuid4().hex}"
        is_frame = hasattr(collection, "columns") and collection.ndim == 2  # series have columns
        self.names = [*collection.columns] if is_frame else None
        self.rows = _rows_of(collection, name)
        self.is_lazy = not isinstance(self.rows, list) or not all(
            isinstance(part, Future) for part in self.rows
        )
        self.in_files = in_files
        self.n_computed = 0
        self.described = None
        self.futures = client.compute(self._kept()) if self.is_lazy else [*self.rows]

    def __len__(self):
        return len(self.futures)

    def _kept(self):
        """Delayed partitions, or files of their rows; of other keys each time."""
        self.n_computed += 1
        n_parts = len(self.rows) if isinstance(self.rows, list) else self.rows.npartitions
        most_bytes = MIN_BYTES_ON_DISK / n_parts if self.in_files else np.inf
        keep = partial(_kept, most_bytes=most_bytes, token=self.token, nth=self.n_computed)
        if isinstance(self.rows, list):
            from dask import delayed

            return [delayed(keep, pure=False)(part) for part in self.rows]
        # One task computes and writes a partition: of two, many would wait for the second.
        if hasattr(self.rows, "map_partitions"):
            kept = self.rows.map_partitions(keep, meta=self.rows._meta, enforce_metadata=False)
        else:
            kept = self.rows.map_blocks(keep, dtype=self.rows.dtype, meta=self.rows._meta)
        return np.ravel(kept.to_delayed()).tolist()

    def held(self):
        """The workers that hold each partition; raise if one cannot be computed, or differs."""
        self._wait()
        while self.described is None:
            found = self.client.map(_described, self.futures, pure=False)
            self._wait(found)
            try:
                self.described = self.client.gather(found)
            except CancelledError:  # a partition was lost meanwhile
                time.sleep(SECONDS)
                self._wait()
                continue
            self.names = common_names(self.described, self.names)
        holders = self.client.who_has(self.futures)
        return [sorted(holders[part.key]) for part in self.futures]

    def _wait(self, others=()):
        """Wait for all partitions, and others; raise if a partition cannot be computed."""
        from distributed import wait

        patience = Patience(self.client)
        futures = [*self.futures, *others]
        # Those that are lost are computed again; if one cannot be, others may wait for ever.
        while any(part.status in ("pending", "lost") for part in futures):
            with suppress(TimeoutError, CancelledError):
                wait(futures, SECONDS)
            if any(part.status in ("error", "cancelled") for part in self.futures):
                break
            patience.look()
        for number, part in enumerate(self.futures):
            if part.status == "error":
                error = part.exception()
                error.add_note(f"Partition {number} could not be computed.")
                raise error
            if part.status == "cancelled":
                raise RuntimeError(
                    f"Partition {number} was lost with its worker, and nothing tells how to "
                    "compute it again: fit the collection it was scattered from."
                )

    def places(self, holders):
        """For each worker among the holders its process, and the keys that cannot be read there.

        A worker that gives up its tasks hands on what it holds in memory, but not its files.
        """
        keys = {}
        for part, workers, found in zip(self.futures, holders, self.described, strict=True):
            for worker in workers:
                keys.setdefault(worker, []).extend([part.key] if found.is_file else [])
        return self.client.run(_place, keys, workers=[*keys])

    def compute_again(self, numbers):
        """Of partitions whose files have gone with their workers."""
        kept = self._kept()
        computed = self.client.compute([kept[number] for number in numbers])
        for number, future in zip(numbers, computed, strict=True):
            self.futures[number] = future

    def remove_files(self):
        """Files are removed from all workers; those being written are when they are complete."""
        if self.is_lazy and self.client.status == "running":
            with suppress(Exception):  # what follows a fit does not replace its outcome
                self.client.cancel(self.futures)
                self.client.run(_remove, self.token)


def _rows_of(collection, name):
    """A collection of whole rows, or a list of futures or delayed objects."""
    if getattr(collection, "ndim", 2) > 2:
        raise ValueError(f"{name} has {collection.ndim} dimensions, not rows and columns.")
    if hasattr(collection, "numblocks") and collection.ndim == 2 and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    if hasattr(collection, "to_delayed") and hasattr(collection, "ndim"):  # a bag has none
        return collection
    if not isinstance(collection, list | tuple) or not collection:
        advice = (
            "Its partitions are those of the rows: dask.array.from_array(values, chunks=...)."
            if name == "sample_weight"
            else "Dask opens files, by dask.dataframe.read_parquet for instance. Tables in memory "
            "are fitted by the estimator itself."
        )
        raise TypeError(
            f"{name}, of type {type(collection).__name__}, must be a Dask array or frame, or a "
            f"list of futures. {advice}"
        )
    return [*collection]


def common_names(described, expected):
    """Names of the columns of all partitions, None if they have none.

    Raise ValueError unless they hold the same columns, in any order, of the same kinds.
    """
    for number, part in enumerate(described):
        if expected is None:
            expected = part.columns
        names = part.columns
        if isinstance(names, list) and isinstance(expected, list):
            is_same = sorted(map(str, names)) == sorted(map(str, expected))
        else:
            is_same = names == expected
        if not is_same:
            raise ValueError(
                f"Partition {number} has {names} columns, but others have {expected}."
                if isinstance(names, int)
                else f"Partition {number} has columns {names}, but the collection has {expected}."
                f"{difference(names, expected)}"
            )
    check_same_kinds([(part.columns, part.kinds) for part in described], "partition")
    return expected if isinstance(expected, list) else None


def shard_of(numbers, parts, weights, columns, token, share_of_memory):
    """Partitions of one process, whose columns may be in any order.

    Rows in files are read into memory if they take no more than this share of it.
    """
    weight = None if weights is None else np.concatenate([np.asarray(w) for w in weights])
    if not any(isinstance(part, RowFile) for part in parts):
        tables = [part if columns is None else part[columns] for part in parts]
        sizes = dict(zip(numbers, map(num_samples, tables), strict=True))
        return Shard(joined(tables), weight, sizes)
    files = [
        part if isinstance(part, RowFile) else write_rows(numbers_of_table(part), _path(token))
        for part in parts
    ]
    sizes = {number: file.shape[0] for number, file in zip(numbers, files, strict=True)}
    labels = [f"partition {number}" for number in numbers]
    rows = FilesOfRows(files, labels, columns)
    return Shard(rows, weight, sizes, share_of_memory * _memory())


# What workers do.


def _kept(part, most_bytes, token, nth):
    """A partition, or a file of its rows if they are many and hold numbers; for the nth time."""
    release_freed_memory()
    dtype = dtype_of_rows(part) if getattr(part, "ndim", 1) == 2 else None
    if dtype is None or part.size * dtype.itemsize <= most_bytes:
        return part
    path = _path(token)
    file = write_rows(part, path)
    if token in _over:
        os.unlink(path)
    return file


def _path(token):
    """A new file of this worker."""
    from distributed import get_worker

    folder = os.path.join(get_worker().local_directory, token)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, uuid4().hex)


def _memory():
    """Bytes that this worker may use."""
    from distributed import get_worker
    from distributed.system import MEMORY_LIMIT

    return get_worker().memory_manager.memory_limit or MEMORY_LIMIT


def _described(part):
    if isinstance(part, RowFile):
        columns = part.shape[1] if part.names is None else part.names
        return Description(part.shape[0], columns, ["numbers"] * part.shape[1], True)
    if hasattr(part, "iloc") and part.ndim == 2:
        return Description(len(part), [*part.columns], kinds_of_cells(part), False)
    n_columns = part.shape[1] if getattr(part, "ndim", 2) == 2 else 1
    columns = [*part.columns] if hasattr(part, "columns") else n_columns
    is_array = isinstance(part, np.ndarray) and part.ndim == 2
    kinds = kinds_of_cells(part) if is_array else [None] * n_columns
    return Description(num_samples(part), columns, kinds, False)


def _place(keys, dask_worker):
    """Names this process, which several workers may share; and keys whose files are not here."""
    files = {key: dask_worker.data.get(key) for key in keys.get(dask_worker.address, ())}
    gone = {key for key, file in files.items() if file is None or not os.path.exists(file.path)}
    return (socket.gethostname(), os.getpid()), gone


def _remove(token, dask_worker):
    _over.add(token)
    shutil.rmtree(os.path.join(dask_worker.local_directory, token), ignore_errors=True)
