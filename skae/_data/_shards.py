"""A table whose rows lie on several processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skae._data._chunks import as_dense
from skae._data._encoded_rows import columns_of
from skae._data._sources import AllBut


class ShardedTable:
    """Rows of one table in parts, each of which lies on one process.

    The processes of a group read it together, with the same code: rows that are read by number
    come to all of them. What needs all rows is done by each process on its own, and put together.

    Parameters
    ----------
    own : ndarray, memmap, CSR matrix or table of shape (n_own, n_features)
        The parts of this process, one after the other.
    numbers : sequence of int
        Their numbers, ascending.
    sizes : sequence of int
        Rows of each part, those of other processes included.
    dtype : dtype
        Of the rows that are read.
    group : object with ``add_array`` and ``gather``
    is_on_disk : bool, default=False
        Whether rows of any process are read from disk.
    width : int, default=None
        Cells of a row once its codes are indicators; None means `n_features`.

    Attributes
    ----------
    sample, sample_numbers : ndarray or None
        Some rows that all processes hold, and their numbers; of tables on disk only.
    """

    sample: NDArray[Any] | None = None
    sample_numbers: NDArray[np.intp] | None = None

    def __init__(
        self,
        own: Any,
        numbers: ArrayLike,
        sizes: ArrayLike,
        dtype: Any,
        group: Any,
        is_on_disk: bool = False,
        width: int | None = None,
    ):
        self.own = own
        self.numbers = np.asarray(numbers, dtype=np.intp)
        self.sizes = np.asarray(sizes, dtype=np.intp)
        self.dtype = np.dtype(dtype)
        self.group = group
        self.is_on_disk = is_on_disk
        self.shape = int(self.sizes.sum()), own.shape[1]
        self.width = own.shape[1] if width is None else width
        self.starts = np.cumsum(self.sizes) - self.sizes
        own_sizes = self.sizes[self.numbers]
        # Where each part begins among the own rows; -1 for parts of other processes.
        self.own_starts = np.full(len(self.sizes), -1)
        self.own_starts[self.numbers] = np.cumsum(own_sizes) - own_sizes

    def __getitem__(self, selection: Any) -> Any:
        """Rows by number, for all processes; each must ask for the same.

        With ``[:, columns]``, a table of these columns, whose rows stay where they are.
        """
        if isinstance(selection, tuple):
            _, columns = selection
            chosen = self.of_own(lambda own: columns_of(own, columns))
            if self.sample is not None:
                chosen.sample, chosen.sample_numbers = self.sample[:, columns], self.sample_numbers
            return chosen
        if isinstance(selection, slice):
            selection = np.arange(*selection.indices(self.shape[0]))
        places, rows, _ = self.places(selection)
        out = np.zeros((len(selection), self.shape[1]), dtype=self.dtype)
        out[places] = as_dense(self.own[rows])
        return self.group.add_array(out)

    def of_own(self, function: Callable[[Any], Any]) -> ShardedTable:
        """The table of what a function makes of own rows."""
        own = function(self.own)
        return ShardedTable(own, self.numbers, self.sizes, self.dtype, self.group, self.is_on_disk)

    def places(
        self, selection: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Which of the selected rows lie here: places in the selection, and own numbers.

        Parameters
        ----------
        selection : ndarray of int or None
            Numbers of rows; None means all.

        Returns
        -------
        places, rows : ndarray of int of shape (n_here,)
            Part by part.
        sizes : ndarray of int of shape (n_parts,)
            How many of the selected rows each part holds, wherever it lies.
        """
        if selection is None:
            selection = np.arange(self.shape[0])
        # Of parts that begin at the same row, all but the last are empty.
        parts = np.searchsorted(self.starts, selection, side="right") - 1
        places = np.flatnonzero(self.own_starts[parts] >= 0)
        places = places[np.argsort(parts[places], kind="stable")]
        parts_here = parts[places]
        rows = self.own_starts[parts_here] + selection[places] - self.starts[parts_here]
        return places, rows, np.bincount(parts, minlength=len(self.sizes))

    def own_but(self, indices: AllBut) -> tuple[AllBut, NDArray[np.intp]]:
        """Which own rows are not left out, and how many of each part, wherever it lies."""
        _, rows, n_left_out = self.places(indices.left_out)
        return AllBut(self.own.shape[0], rows), self.sizes - n_left_out

    def own_numbers(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of own rows in the whole table."""
        starts = self.own_starts[self.numbers]
        # Of parts that begin at the same row, all but the last are empty.
        parts = np.searchsorted(starts, rows, side="right") - 1
        return rows - starts[parts] + self.starts[self.numbers[parts]]

    def of_rows(self, function: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        """One number for each row of the table, by a function of own rows."""
        places, rows, _ = self.places(None)
        values = np.zeros(self.shape[0])
        values[places] = function(self.own)[rows]
        return self.group.add_array(values)

    def on_each(self, function: Callable[..., Any], of_rows: Any = None) -> list[Any]:
        """Results of a function of own rows on all processes; an error of one is raised by all.

        Parameters
        ----------
        function : callable
            Called with own rows and, if `of_rows` is given, with their part of it.
        of_rows : ndarray of shape (n_samples,), default=None
            One value for each row of the table.
        """
        arguments = [self.own]
        if of_rows is not None:
            places, rows, _ = self.places(None)
            arguments.append(of_rows[places[np.argsort(rows)]])
        return agreed(lambda: function(*arguments), self.group)


def agreed(function: Callable[[], Any], group: Any) -> list[Any]:
    """What a function returns on each process, or the first error of one, on all of them."""
    try:
        outcome: Any = (function(), None)
    except Exception as error:
        outcome = (None, _to_send(error))
    outcomes = group.gather(outcome)
    for rank, (_, failure) in enumerate(outcomes):
        if failure is not None:
            raise noted(failure, rank, group)
    return [result for result, _ in outcomes]


def _to_send(error: Exception) -> Exception:
    """An error without its traceback, or its text where it cannot be sent itself."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def noted(error: Exception, rank: int, group: Any) -> Exception:
    """An error that says in whose rows it was found, if there are several processes."""
    if group.size > 1:
        error.add_note(f"Process {rank} of {group.size} has these rows.")
    return error


def of_first(X: Any, value: Any) -> Any:
    """What the first of the processes that hold X has computed, if there are several."""
    return X.group.of_first(value) if is_sharded(X) else value


def is_sharded(X: Any) -> bool:
    """Whether the rows of X lie on several processes."""
    return isinstance(X, ShardedTable)
