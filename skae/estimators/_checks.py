"""Whether values are too large, or far from those that the training began with."""

from functools import partial

import numpy as np
from sklearn.utils.validation import validate_data

from skae._data._arrow import check_holds_numbers
from skae._data._chunks import as_dense, row_chunks
from skae._data._drift import MIN_ROWS, warn_if_far
from skae._data._scaling import check_magnitudes
from skae._data._sources import is_source
from skae._data._survey import check_source
from skae._data._tables import NO_CELLS
from skae._data._validation import check_input, to_compute_array


def compare_with_scaling(model, X, *, is_new):
    """Warn, once, if training went on with rows far from those that fixed the scaling."""
    if is_new:
        model._watches_rows = X.shape[0] >= MIN_ROWS
    elif vars(model).get("_watches_rows"):  # files of earlier versions do not say
        is_far = warn_if_far(X, model._scaler, model._names_read, model._show_number)
        model._watches_rows = not is_far


def check_values(model, X, largest_scaled=None, *, are_learned=False):
    """Raise if values are too large, of themselves or as the scaler of the model scales them.

    Columns are those of the table, or those that are learned of it.
    """
    try:
        _check(model, X, None, largest_scaled)
    except ValueError:
        table = getattr(model, "feature_names_in_", None)
        _check(model, X, model._names_read if are_learned else table, largest_scaled)
        raise


def _check(model, X, names, largest_scaled):
    if largest_scaled is None:
        check_magnitudes(X, names)
    else:
        model._scaler.check(X, names, largest_scaled)


def check_holds_cells(X):
    """Raise if all cells are missing; rows are read until one is not."""
    if all(np.isnan(as_dense(chunk)).all() for _, chunk in row_chunks(X)):
        raise ValueError(NO_CELLS)


def check_numbers(model, X, *, reset):
    """Rows of numbers, validated; those of a table on disk are when they are read."""
    X, _ = to_compute_array(X, model._keeps_tensors)
    min_rows = 2 if reset else 1
    largest = None if reset else model._largest_read
    if is_source(X):
        check_holds_numbers(X)
        validate_data(model, X.header, skip_check_array=True, reset=reset)
        return check_source(
            X, model._marker, partial(check_values, model, largest_scaled=largest), min_rows
        )
    check = partial(validate_data, model)
    X = check_input(check, X, marker=model._marker, reset=reset, ensure_min_samples=min_rows)
    check_values(model, X, largest)
    return X
