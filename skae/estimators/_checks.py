"""Whether values are too large, or far from those that the training began with."""

import numpy as np

from skae._data._chunks import as_dense, row_chunks
from skae._data._drift import MIN_ROWS, warn_if_far
from skae._data._scaling import check_magnitudes
from skae._data._tables import NO_CELLS


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
