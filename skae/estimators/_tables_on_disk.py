"""How estimators read tables on disk that hold more than numbers."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skae._data._arrow import ArrowFrames, ArrowSource, holds_floats
from skae._data._encoded_rows import EncodedRows
from skae._data._frames import column_mask
from skae._data._survey import check_n_rows
from skae._data._telling_batches import telling_rows_of
from skae._data._validation import check_input
from skae.estimators._checks import check_values


def examples_of(X, features, *, reads_gaps=False, is_frame=False):
    """Rows that the columns of a table on disk are learned from; None if all hold numbers.

    Parameters
    ----------
    X : RowSource
    features : object
        The parameter `categorical_features`.
    reads_gaps : bool, default=False
        Whether numbers may be missing in a table of numbers.
    is_frame : bool, default=False
        Whether the dtypes of columns of numbers are learned, too.
    """
    names_columns = features is not None and not isinstance(features, str)
    if not isinstance(X, ArrowSource):
        if names_columns and np.size(features):
            raise TypeError(
                f"X is {X!r}: categorical_features={features!r} needs columns of Parquet or rows "
                "in memory. Pass X.read_all()."
            )
        return None
    check_n_rows(X, 2)
    are_levels = np.zeros(X.n_features, dtype=bool)
    if names_columns:
        are_levels = column_mask(features, X.names, X.n_features, "categorical_features")
    if not are_levels.any() and not isinstance(X, ArrowFrames):
        if is_frame and holds_floats(X):
            return X.header
        if not is_frame and (reads_gaps or not X.misses_cells()):
            return None
    return telling_rows_of(X, are_levels)


def is_table_of_numbers(X):
    """Whether X is a table of Arrow of which no cell was missing so far."""
    return isinstance(X, ArrowSource) and not isinstance(X, ArrowFrames) and not X.has_gaps


def learned_from(examples, learn):
    """What is learned of the columns of a table on disk, from some of its rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many levels: among examples, each is rare
        return learn(examples)


def encoded_rows(model, X, *, reset, declared, marker):
    """A table on disk as numbers, ticks and codes; validated when it is read."""
    columns = model._columns
    validate_data(model, X.header, skip_check_array=True, reset=reset)
    check_n_rows(X, 2 if reset else 1)
    largest = None if reset else model._largest_read
    encode = Encoding(
        partial(columns.to_numbers, declared=declared),
        partial(check_input, partial(check_array, estimator=model), marker=marker, input_name="X"),
        partial(check_values, model, largest_scaled=largest),
    )
    return EncodedRows(X, encode, columns.n_levels, columns.number_dtype)


@dataclass(frozen=True)
class Encoding:
    """From a frame to checked numbers; `check_values` is None once they were checked."""

    to_numbers: Callable[[Any], Any]
    check_cells: Callable[[Any], Any]
    check_values: Callable[[Any], Any] | None

    @property
    def trusting(self):
        """The same without checks of the size of values."""
        return replace(self, check_values=None)

    def __call__(self, frame):
        numbers = self.check_cells(self.to_numbers(frame))
        if self.check_values is not None:
            self.check_values(numbers)
        return numbers
