"""What the transformer is made of: its scaling, its start and its output."""

import numpy as np

from skae._data._mixed import MixedScaler
from skae._data._scaling import Scaler
from skae._data._shards import is_sharded
from skae._data._sources import studied
from skae._engine._build import pca_of_rows
from skae._fit._plan import n_directions, n_latents
from skae.estimators._mixed_tables import holds_numbers, make_link
from skae.networks._autoencoder import OutputLink

# What parameters may be where cells hold levels or dates, or are missing.
FOR_MIXED = {
    "loss": ("squared_error", "absolute_error", "huber"),
    "output_activation": ("auto", "identity"),
}


def make_scaler(model):
    """The scaler of numbers, or of a mixed table, before it is fitted."""
    method = model.scaling
    if method == "auto":
        method = "global" if holds_numbers(model) else "standard"
    if model._columns is None:
        return Scaler(method)
    for name, allowed in FOR_MIXED.items():
        value = getattr(model, name)
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r} needs numbers in all cells, but X holds levels, dates or gaps; "
                f"allowed are {allowed}."
            )
    return MixedScaler(model._columns.n_levels, method)


def fit_pca(model, X, size, sample_weight, seed):
    """PCA of scaled rows; cells of mixed tables may be missing."""
    arguments = X, model._scaler, n_directions(size), sample_weight, seed
    pca = pca_of_rows(*arguments)
    if model._columns is not None and has_gaps(X):
        pca = pca_of_rows(*arguments, n_filled_by=n_latents(size, pca))
    return pca


def has_gaps(X):
    """Whether cells of rows of numbers and codes are missing."""
    X, _ = studied(X, None)
    return any(X.on_each(has_gaps)) if is_sharded(X) else bool(np.isnan(X).any())


def bounded_link(model, activation):
    """What bounds reconstructions: in the units of the data, or of columns that fill [0, 1]."""
    if model.scaling == "minmax" and model._columns is None:
        ones = np.ones_like(model._scaler.mean_)
        return OutputLink(activation, 0 * ones, ones)
    return make_link(model, activation)
