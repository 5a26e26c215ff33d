"""What the denoiser is made of: its scaling, and what it asks of rows."""

import numpy as np

from skae._data._chunks import row_chunks
from skae._data._mixed import MixedScaler
from skae._data._scaling import Scaler
from skae._data._shards import is_sharded
from skae._engine._noise import NOISES
from skae._fit._feeds import clean_rows
from skae.exceptions import warn_user


def warn_of_targets(X, y):
    """Clean rows given as the second argument would be ignored, as y is everywhere."""
    shape = getattr(y, "shape", ())
    if len(shape) == 2 and shape[1] > 1 and shape == getattr(X, "shape", ()):
        warn_user(
            "y is ignored, but it has the shape of X. To learn from pairs of noisy and clean "
            "rows, write fit(X, X_clean=...).",
        )


def gaps_per_column(X):
    """Masks of the columns that miss some cells, and of those that miss all."""
    if is_sharded(X):
        some, all_ = zip(*X.on_each(gaps_per_column), strict=True)
        return np.any(some, axis=0), np.all(all_, axis=0)
    some, all_ = np.zeros(X.shape[1], dtype=bool), np.ones(X.shape[1], dtype=bool)
    for _, chunk in row_chunks(X):
        missing = np.isnan(chunk)
        some |= missing.any(axis=0)
        all_ &= missing.all(axis=0)
    return some, all_


def fitted_scaler(model, X, sample_weight):
    """The scaler of clean rows; the levels of noisy ones beside them have a share, too."""
    clean = clean_rows(X)
    if model._columns is None:
        return Scaler(model.scaling).fit(clean, sample_weight)
    scaler = MixedScaler(model._columns.n_levels, model.scaling).fit(clean, sample_weight)
    if model._is_paired:
        shares = [scaler.shares_of(part, sample_weight) for part in (clean, X.left)]
        scaler.shares_ = np.mean(shares, axis=0)
    return scaler


def in_encoded_columns(model, mask):
    """A mask of columns, as one of encoded columns."""
    return mask if model._columns is None else mask[model._scaler.column_of]


def clean_numbers(columns, clean, shape):
    """Numbers, ticks and codes of clean rows beside noisy ones."""
    if clean.shape != shape:
        return np.empty(clean.shape)  # an error later
    try:
        return columns.to_numbers(clean, declared="gap")
    except (TypeError, ValueError) as error:
        text = str(error).replace(" of X ", " of X_clean ").replace("in fit", "in X")
        raise type(error)(text) from error


def check_for_table(model):
    """Raise if a mixed table does not go with other parameters."""
    if model._columns is None:
        return
    if callable(model.noise_):
        raise ValueError(
            f"noise={model.noise!r} needs numbers in all cells, but X holds levels or dates: take "
            f"one of {sorted(NOISES)}."
        )
    if not model._accepts_missing:
        raise ValueError(
            f"missing_values={model.missing_values!r} needs numbers in all cells, but X holds "
            "levels or dates: mark missing cells by NaN, None, NaT or NA, and set "
            "missing_values=np.nan."
        )
