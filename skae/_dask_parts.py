"""Partitions of Dask collections: held by workers, large ones in files, and alike in columns."""

import ctypes
import os
import shutil
import socket
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from skae._data._row_files import FilesOfRows, RowFile, dtype_of_rows, write_rows
from skae._data._survey import MIN_BYTES_ON_DISK
from skae._data._tables import numbers_of_table
from skae._sklearn import num_samples
from skae.estimators._sharded_fit import Shard, joined

# Between looks at partitions that are computed.
SECONDS = 0.5
# Partitions that are computed are held in memory if all of them together are not larger than this.
SMALL_BYTES = MIN_BYTES_ON_DISK
# Of the memory of a worker: rows in files that are no larger are read into it.
SHARE_OF_MEMORY = 1 / 4
KINDS = {
    "numbers": {"integer", "floating", "mixed-integer-float", "decimal", "boolean"},
    "texts": {"string", "bytes"},
}

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
        self.parts = _parts_of(collection, name)
        self.is_lazy = not all(isinstance(part, Future) for part in self.parts)
        self.most_bytes = SMALL_BYTES / len(self.parts) if in_files else np.inf
        self.described = None
        self.futures = [*self.parts]
        if self.is_lazy:
            self.futures = client.compute([*map(self._kept, range(len(self.parts)))])

    def __len__(self):
        return len(self.futures)

    def _kept(self, number):
        from dask import delayed

        return delayed(_kept, pure=False)(self.parts[number], self.most_bytes, self.token)

    def held(self):
        """The workers that hold each partition; raise if one cannot be computed, or differs."""
        self._wait()
        while self.described is None:
            found = self.client.map(_described, self.futures, pure=False)
            try:
                self.described = self.client.gather(found)
            except CancelledError:  # a partition was lost meanwhile
                time.sleep(SECONDS)
                self._wait()
                continue
            self.names = common_names(self.described, self.names)
        holders = self.client.who_has(self.futures)
        return [sorted(holders[part.key]) for part in self.futures]

    def _wait(self):
        """Wait for all partitions; raise if one cannot be computed."""
        from distributed import wait

        # Those that are lost are computed again; if one cannot be, others may wait for ever.
        while any(part.status in ("pending", "lost") for part in self.futures):
            with suppress(TimeoutError, CancelledError):
                wait(self.futures, SECONDS)
            if any(part.status in ("error", "cancelled") for part in self.futures):
                break
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

    def compute_again(self, number):
        """Of a partition whose file has gone with its worker."""
        (self.futures[number],) = self.client.compute([self._kept(number)])

    def remove_files(self):
        """Files are removed from all workers; those being written are when they are complete."""
        if self.is_lazy and self.client.status == "running":
            with suppress(Exception):  # what follows a fit does not replace its outcome
                self.client.cancel(self.futures)
                self.client.run(_remove, self.token)


def _parts_of(collection, name):
    """Futures or delayed objects of the partitions, or blocks of rows, of a collection."""
    if getattr(collection, "ndim", 2) > 2:
        raise ValueError(f"{name} has {collection.ndim} dimensions, not rows and columns.")
    if hasattr(collection, "numblocks") and collection.ndim == 2 and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    if hasattr(collection, "to_delayed") and hasattr(collection, "ndim"):  # a bag has none
        collection = np.ravel(collection.to_delayed()).tolist()
    if not isinstance(collection, list | tuple) or not collection:
        raise TypeError(
            f"{name}, of type {type(collection).__name__}, must be a Dask array or frame, or a "
            "list of futures. Tables in memory are fitted by the estimator itself."
        )
    return [*collection]


def common_names(described, expected):
    """Names of the columns of all partitions, None if they have none.

    Raise ValueError unless they hold the same columns, in any order, of the same kinds.
    """
    kinds, first = {}, {}
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
            )
        names = range(names) if isinstance(names, int) else names
        for column, kind in zip(names, part.kinds, strict=True):
            known = kinds.setdefault(column, kind)
            if kind is not None and known is None:
                kinds[column], first[column] = kind, number
            elif kind not in (None, known):
                raise ValueError(
                    f"Column {column!r} holds {kind} in partition {number}, but {known} in "
                    f"partition {first[column]}."
                )
            first.setdefault(column, number)
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


def _kept(part, most_bytes, token):
    """A partition, or a file of its rows if they are many and hold numbers."""
    release_freed_memory()
    dtype = dtype_of_rows(part) if getattr(part, "ndim", 1) == 2 else None
    if dtype is None or part.size * dtype.itemsize <= most_bytes:
        return part
    path = _path(token)
    file = write_rows(part, path)
    if token in _over:
        os.unlink(path)
    return file


def release_freed_memory():
    """Give back what partitions before have used: it counts as memory of this worker."""
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # of other C libraries
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def memory_given_back():
    """Give back freed memory each second of the block: among rows that wait, it is in pieces."""
    is_over = threading.Event()

    def give_back():
        while not is_over.wait(1.0):
            release_freed_memory()

    thread = threading.Thread(target=give_back, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


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
        kinds = [_kind(part.iloc[:, j]) for j in range(part.shape[1])]
        return Description(len(part), [*part.columns], kinds, False)
    n_columns = part.shape[1] if getattr(part, "ndim", 2) == 2 else 1
    columns = [*part.columns] if hasattr(part, "columns") else n_columns
    return Description(num_samples(part), columns, [None] * n_columns, False)


def _kind(cells):
    """What a column holds; None where no cell is known, or cells differ."""
    import pandas as pd

    if not cells.notna().any():
        return None
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.cat.categories
    found = pd.api.types.infer_dtype(cells, skipna=True)
    if found.startswith(("date", "time", "period")):
        return "dates"
    return next((kind for kind, names in KINDS.items() if found in names), None)


def _place(keys, dask_worker):
    """Names this process, which several workers may share; and keys whose files are not here."""
    files = {key: dask_worker.data.get(key) for key in keys.get(dask_worker.address, ())}
    gone = {key for key, file in files.items() if file is None or not os.path.exists(file.path)}
    return (socket.gethostname(), os.getpid()), gone


def _remove(token, dask_worker):
    _over.add(token)
    shutil.rmtree(os.path.join(dask_worker.local_directory, token), ignore_errors=True)
