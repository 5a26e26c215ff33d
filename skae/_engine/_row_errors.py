"""Errors of rows: of reconstructions, or of one row for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skae._data._arrays import asarray_like, empty, namespace, widest_float
from skae._data._chunks import as_dense, row_chunks
from skae._data._mixed import MixedScaler
from skae._engine._batches import Rows, SourceRows


def mean_squares(difference: Any, may_miss: bool = False) -> Any:
    """Mean square of each row; cells that are NaN do not count.

    Parameters
    ----------
    difference : ndarray or tensor of shape (n_samples, n_features)
        Written into where cells are missing.
    may_miss : bool
        Whether to look for missing cells, which takes another pass.
    """
    xp = namespace(difference)
    n_observed = difference.shape[1]
    if may_miss:
        missing = xp.isnan(difference)
        difference[missing] = 0.0
        n_observed = (difference.shape[1] - missing.sum(axis=1)).clip(1)
    return xp.einsum("ij,ij->i", difference, difference) / n_observed


def row_errors(
    net: Any,
    rows: SourceRows,
    scaler: Any,
    X: Any,
    n_latents: int | None = None,
    may_miss: bool = False,
) -> Any:
    """Mean squared error of each row's reconstruction, in units of the square of `scaler.unit`.

    Parameters
    ----------
    rows : SourceRows
        Rows of X as the net reads them.
    scaler : Scaler
        Leads back to the units of X.
    n_latents : int, default=None
        Reconstruct from the first of them only.
    may_miss : bool, default=False
        Whether cells of X may be missing, and do not count. (In the errors of mixed tables, they
        count as zero otherwise.)
    """
    if isinstance(scaler, MixedScaler):
        errors = np.empty(X.shape[0])
        for span, scaled in net.reconstruct_rows(rows, n_latents):
            difference = scaled - scaler.transform(X[span])
            errors[span] = _mean_errors(scaler.column_errors(difference), may_miss)
        return errors
    scaler, unit = scaler.on_device_of(X), scaler.unit
    errors = empty(X.shape[0], X, widest_float(X))
    for span, scaled in net.reconstruct_rows(rows, n_latents):
        difference = scaler.inverse_transform(scaled) - as_dense(X[span])
        errors[span] = mean_squares(difference / unit, may_miss)
    return errors


@torch.no_grad()
def row_losses(net: Any, rows: Rows) -> NDArray[np.float64]:
    """Reconstruction loss of each row, the mean over its cells, without noise or penalties."""
    net._set_training(False)
    losses = []
    for x, _ in net.get_iterator(rows, training=False):
        output, _ = net.infer(x)
        cells = net.criterion_.cells(net.module_.link, output.float(), net._targets(x))
        losses.append(cells.mean(dim=-1).double().cpu().numpy())
    return rows.assembled(np.concatenate([*losses, []]))


def _mean_errors(errors: Any, may_miss: bool) -> Any:
    missing = np.isnan(errors)
    n_columns = (~missing).sum(axis=1).clip(1) if may_miss else errors.shape[1]
    return np.where(missing, 0.0, errors).sum(axis=1) / n_columns


def distances_to(mean: Any, X: Any, scaler: Any) -> Any:
    """Mean squared difference of each row of X from one row, in the units of ``row_errors``.

    Those of mixed tables are from the means and shares of their scaler.
    """
    if isinstance(scaler, MixedScaler):
        distances = np.empty(X.shape[0])
        for span, chunk in row_chunks(X):
            difference = scaler.transform(chunk) - scaler.baseline
            distances[span] = _mean_errors(scaler.column_errors(difference), may_miss=False)
        return distances
    unit = scaler.unit
    distances = empty(X.shape[0], X, widest_float(X))
    mean = asarray_like(mean, X, distances.dtype)
    for span, chunk in row_chunks(X):
        distances[span] = mean_squares((chunk - mean) / unit)
    return distances
