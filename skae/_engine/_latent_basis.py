"""The basis in which latents are given out: in units of the rows, along principal axes.

Codes have whatever units, rotation and centre training left them with. Their basis is learned
from a trained network and its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from skae._data._arrays import as_array
from skae._engine._batches import SourceRows
from skae.networks._autoencoder import LatentBasis

# Codes and reconstructions of all rows are looked at, or of every n-th: of at most so many rows,
# and of so many cells where this leaves enough rows.
MAX_ROWS, MAX_CELLS, ENOUGH_ROWS = 2**14, 2**22, 2**11
# Directions of the codes that hardly change the rows count as if they changed them by this share
# of the largest change, in squares: the way back must not divide by zero.
LEAST_SHARE = 1e-6
# Less variance than this share of the largest is a rounding error.
CONSTANT = 1e-12


@dataclass(frozen=True)
class Recipe:
    """How codes become latents.

    Attributes
    ----------
    keeps_zeros : bool
        Whether latents are codes scaled one by one, and not centred scores along principal axes.
    whitens : bool
        Whether latents have variance one.
    shares : ndarray of shape (n_latents,) or None
        Shares of the rows' variance that the latents are scaled to have; None: as much as
        reconstructions change with them.
    is_linear : bool
        Whether the decoder is linear, though its output link is not: then the link does not count.
    """

    keeps_zeros: bool = False
    whitens: bool = False
    shares: NDArray[Any] | None = None
    is_linear: bool = False


@dataclass(frozen=True)
class LearnedBasis:
    """A basis, and what it says of the rows, in scaled units.

    Attributes
    ----------
    basis : LatentBasis
    variances : ndarray of shape (n_latents,)
        Variance of each latent, before any whitening.
    total_variance : float
        Sum of the variances of the columns.
    """

    basis: LatentBasis
    variances: NDArray[Any]
    total_variance: float


@dataclass
class _Moments:
    """What is learned of codes and rows in one pass; variances have n - 1 degrees of freedom.

    Attributes
    ----------
    mean : ndarray of shape (n_latents,)
    covariance : ndarray of shape (n_latents, n_latents)
        Of the codes.
    loadings : ndarray of shape (n_features, n_latents)
        Coefficients of the linear regression of reconstructions on codes.
    gram : ndarray of shape (n_latents, n_latents)
        Their products. Where codes do not vary, the rows say nothing of them: such directions
        count as the others do on average.
    total, explained : float
        Variance of the rows, and that less the mean squared error of their reconstructions.
    """

    mean: NDArray[Any]
    covariance: NDArray[Any]
    loadings: NDArray[Any]
    gram: NDArray[Any]
    total: float
    explained: float


def spread_rows(n_rows: int, n_features: int) -> NDArray[np.intp] | None:
    """Numbers of the rows to learn from, or None for all."""
    n_wanted = min(MAX_ROWS, max(ENOUGH_ROWS, MAX_CELLS // n_features))
    return np.arange(0, n_rows, -(-n_rows // n_wanted)) if n_rows > n_wanted else None


def learn_basis(net: Any, rows: SourceRows, recipe: Recipe) -> LearnedBasis:
    """Learn the basis of a net's latents from its training rows.

    With the codes c of rows, their mean m and the coefficients B of the linear regression of
    reconstructions on codes, latents are ``a R (B^T B)^(1/2) (c - m)``: a step in the latents is
    as long as the step in the reconstruction, as far as that is linear. R rotates to principal
    axes: latents are the scores of a PCA of ``B c``. The factor a makes their variances add up to
    what reconstructions explain. If the network is PCA, a is 1 and latents are its scores.
    Derivatives of the decoder in the place of B would count what only fluctuates.

    If zeros are kept, the diagonal of ``B^T B`` stands for it, or what leads to the shares.
    """
    moments = _moments(net, rows, recipe.is_linear)
    forward, back = _maps(moments, recipe)
    variances = np.einsum("ij,jk,ik->i", forward, moments.covariance, forward).clip(0.0)
    if moments.explained > 0 and variances.sum() > 0 and recipe.shares is None:
        factor = moments.explained / variances.sum()
        forward, back, variances = factor**0.5 * forward, factor**-0.5 * back, factor * variances
    if recipe.whitens:
        usual = variances.max() or 1.0
        scales = np.sqrt(np.where(variances > CONSTANT * usual, variances, usual))
        forward, back = forward / scales[:, None], back * scales
    center = np.zeros_like(moments.mean) if recipe.keeps_zeros else moments.mean
    basis = LatentBasis(center, forward, back).to(net.device)
    return LearnedBasis(basis, variances, moments.total)


def _maps(moments: _Moments, recipe: Recipe) -> tuple[NDArray[Any], NDArray[Any]]:
    """The matrix from centred codes to latents, and its inverse."""
    deviations = np.sqrt(moments.covariance.diagonal())
    if recipe.shares is not None:
        wanted = np.maximum(recipe.shares, LEAST_SHARE * recipe.shares.max())
        varies = (deviations > 0) & (wanted > 0) & (moments.total > 0)
        scales = np.ones_like(deviations)
        scales[varies] = np.sqrt(wanted[varies] * moments.total) / deviations[varies]
        return np.diag(scales), np.diag(1 / scales)
    gram = moments.gram
    if recipe.keeps_zeros:
        return _roots(np.diag(gram.diagonal()))
    forward, back = _roots(gram)
    axes = eigh(forward @ moments.covariance @ forward)[1][:, ::-1]
    forward, back = axes.T @ forward, back @ axes
    # As scikit-learn fixes the signs of principal components.
    loadings = moments.loadings @ back
    largest = loadings[np.abs(loadings).argmax(axis=0), np.arange(len(gram))]
    signs = np.where(largest < 0, -1.0, 1.0)
    return signs[:, None] * forward, back * signs


def _roots(gram: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The square root of a matrix, and its inverse."""
    values, vectors = eigh(gram)
    values = np.maximum(values, LEAST_SHARE * values[-1]) if values[-1] > 0 else np.ones(len(gram))
    roots = np.sqrt(values)
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _moments(net: Any, rows: SourceRows, is_linear: bool) -> _Moments:
    codes32 = np.concatenate([as_array(part) for _, part in net.code_rows(rows)])
    n_rows, weight = len(codes32), np.ones(len(codes32))
    if rows.sample_weight is not None:
        weight = rows.sample_weight.cpu().numpy().astype(np.float64)
        weight *= n_rows / weight.sum()
    codes = codes32.astype(np.float64)
    mean = weight @ codes / n_rows
    codes -= mean
    weighted = codes * weight[:, None]
    shift: Any = None
    sums: Any = 0.0
    cross: Any = 0.0
    squares = residual = 0.0
    outputs = net.raw_rows_of_codes(codes32) if is_linear else net.rows_of_codes(codes32)
    for span, output in outputs:
        x = rows.read(span).cpu().numpy()
        error = x - output
        if net.module_.missing:
            error, x = np.nan_to_num(error, copy=False), np.nan_to_num(x, copy=False)
        residual += _sum_of_squares(error, weight[span])
        if shift is None:  # squares about zero may lose digits, and so may those of heavy rows
            known = weight[span] if weight[span].any() else None
            shift = np.average(x, axis=0, weights=known).astype(x.dtype)
        x = x - shift
        sums = sums + weight[span] @ x
        squares += _sum_of_squares(x, weight[span])
        cross = cross + (output - shift).T @ weighted[span]
    total = max(squares - float(np.square(sums).sum()) / n_rows, 0.0)
    covariance = weighted.T @ codes
    n_free = max(n_rows - 1, 1)
    explained = (total - residual) / n_free
    slopes = _regression(covariance, cross)
    return _Moments(mean, covariance / n_free, *slopes, total / n_free, explained)


def _sum_of_squares(x: NDArray[Any], weight: NDArray[Any]) -> float:
    return float(weight @ np.einsum("ij,ij->i", x, x, dtype=np.float64))


def _regression(covariance: NDArray[Any], cross: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Loadings and their products, from sums of products of codes, and of rows and codes."""
    variances, axes = eigh(covariance)
    varies = variances > CONSTANT * variances[-1]
    if not varies.any():
        return np.zeros_like(cross), np.eye(len(covariance))
    loadings = cross @ (axes[:, varies] / variances[varies])
    usual = float(np.square(loadings).sum() / varies.sum())
    loadings = loadings @ axes[:, varies].T
    constant = axes[:, ~varies]
    return loadings, loadings.T @ loadings + usual * constant @ constant.T
