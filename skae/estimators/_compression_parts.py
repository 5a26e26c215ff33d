"""What the transformer is made of: its scaling, its start, its output and its loss."""

import numpy as np

from skae._data._mixed import MixedScaler
from skae._data._scaling import Scaler
from skae._engine._build import pca_of_rows
from skae._engine._losses import MixedObjective, Objective
from skae._fit._plan import n_directions, n_latents
from skae.estimators._mixed_tables import holds_numbers
from skae.networks._autoencoder import OutputLink
from skae.networks._levels import MixedOutput

# Parameters of the objective.
OF_OBJECTIVE = "loss", "l1", "sparsity", "sparsity_penalty", "sparsity_target"
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
    if model._columns is not None and np.isnan(X).any():
        pca = pca_of_rows(*arguments, n_filled_by=n_latents(size, pca))
    return pca


def make_objective(model):
    """What training minimises."""
    settings = {name: getattr(model, name) for name in OF_OBJECTIVE}
    if model._columns is not None:
        return MixedObjective(model._scaler.cell_weights, model.n_features_in_, **settings)
    return Objective(**settings)


def make_link(model, activation):
    """What bounds reconstructions, in the units of scaled rows, or gives levels probabilities."""
    scaler = model._scaler
    if model._columns is not None:
        return MixedOutput(
            scaler.n_scores, scaler.level_counts, scaler.shares_, scaler.level_scales
        )
    if model.scaling == "minmax":  # scaled columns fill [0, 1]: bounds speak of them
        ones = np.ones_like(scaler.mean_)
        return OutputLink(activation, 0 * ones, ones)
    return OutputLink(activation, scaler.center_, scaler.scale_)
