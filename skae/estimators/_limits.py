"""Between which values a denoiser fills the columns of a table."""

from numbers import Number

import numpy as np

from skae._data._fitted_arrays import numpy_array

NO_LIMIT = {"min_value": -np.inf, "max_value": np.inf}
OF_RANGE = {"min_value": "data_min_", "max_value": "data_max_"}


def limits_of_columns(model):
    """Lowest and highest value of filled cells of each column; None where no column has any.

    Those of dates are in ticks, and levels have none. Where cells are whole, so are limits.
    """
    low, high = (_limits(model, name) for name in NO_LIMIT)
    wrong = np.flatnonzero(low > high)
    if wrong.size:
        raise ValueError(
            f"min_value={model.min_value!r} is above max_value={model.max_value!r} for column "
            f"{_name(model, wrong[0])!r}."
        )
    if model._columns is not None:
        whole = numpy_array(model, "_whole")
        low, high = np.where(whole, np.ceil(low), low), np.where(whole, np.floor(high), high)
        wrong = np.flatnonzero(low > high)
        if wrong.size:
            raise ValueError(
                f"min_value={model.min_value!r}, max_value={model.max_value!r}: between them lies "
                f"none of the whole numbers or dates that fill column {_name(model, wrong[0])!r}."
            )
    return None if np.isinf([low, high]).all() else (low, high)


def _limits(model, parameter):
    value, n_columns = getattr(model, parameter), model.n_features_in_
    limits = np.full(n_columns, NO_LIMIT[parameter])
    if value is None:
        return limits
    has_value = _columns_of_numbers(model)
    if isinstance(value, str):  # "observed"
        numbers = getattr(model._scaler, "numbers_", model._scaler)
        if numbers is not None:
            limits[has_value] = getattr(numbers, OF_RANGE[parameter])
        limits[model._empty] = NO_LIMIT[parameter]
        return limits
    values = np.asarray(value, dtype=object)
    if values.shape not in ((), (n_columns,)):
        raise ValueError(
            f"{parameter} has shape {values.shape}; it must be a number or hold one for each of "
            f"the {n_columns} columns of X."
        )
    if values.ndim:
        limits[has_value] = [_limit(model, parameter, values[j], j) for j in has_value]
        return limits
    of_numbers = [j for j in has_value if not _is_date(model, j)]
    if of_numbers:
        limits[of_numbers] = _limit(model, parameter, values.item(), of_numbers[0])
    return limits


def _limit(model, parameter, value, j):
    """One limit as a number, that of dates in ticks."""
    if value is None:
        return NO_LIMIT[parameter]
    is_number = isinstance(value, Number)  # decimals, too
    try:
        if is_number and (not _is_date(model, j) or np.isinf(value)):
            limit = float(value)
        elif not is_number and _is_date(model, j):
            limit = model._columns.encode_value(j, value)
        else:
            limit = np.nan
    except (TypeError, ValueError):
        limit = np.nan
    if np.isnan(limit):
        what = "a date" if _is_date(model, j) else "a number"
        raise ValueError(
            f"{parameter} is {value!r} for column {_name(model, j)!r}; it must be {what}, infinite "
            "or None."
        )
    return limit


def _columns_of_numbers(model):
    return getattr(model._scaler, "of_numbers", np.arange(model.n_features_in_))


def _is_date(model, j):
    return model._columns is not None and model._columns.meaning(j)[0] in ("date", "lapse")


def _name(model, j):
    names = getattr(model, "feature_names_in_", None)
    return int(j) if names is None else names[j]
