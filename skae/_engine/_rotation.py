"""Training in principal coordinates, which are folded into the network afterwards.

Images and other wide rows vary along far fewer directions than they have columns. An MLP
between those coordinates costs a fraction of one between the columns. Its first and last
layers then absorb the rotation, and the last one is refitted in closed form in all columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skae._engine._batches import SourceRows
from skae._stats._pca import FittedPCA
from skae.networks._autoencoder import Autoencoder, OutputLink

# The coordinates explain at least this share of the variance, and are this many per latent.
KEPT_SHARE = 0.9
COORDINATES_PER_LATENT = 5
# Of few rows, more coordinates are mostly noise. So many are kept even if fewer explain enough.
COORDINATES_PER_LATENT_OF_FEW, MIN_COORDINATES_OF_FEW = 2, 100
# Ridge penalties tried in the refit, relative to the mean square of the features.
RIDGES = (1e-4, 1e-2)
REFIT_BATCH = 2048


class Rotation:
    """A scaler followed by a projection on principal directions.

    Parameters
    ----------
    scaler : Scaler
    mean : ndarray of shape (n_features,)
        Mean of the scaled rows.
    axes : ndarray of shape (n_coordinates, n_features)
        Orthonormal directions.
    variances : ndarray of shape (n_coordinates,)
    """

    def __init__(
        self, scaler: Any, mean: NDArray[Any], axes: NDArray[Any], variances: NDArray[Any]
    ):
        self.scaler = scaler
        self.mean = mean.astype(np.float32)
        self.axes = np.ascontiguousarray(axes, dtype=np.float32)
        self.variances = variances

    @classmethod
    def choose(cls, scaler: Any, pca: FittedPCA, n_latents: int) -> Rotation | None:
        """A rotation, or None if it would not reduce the number of columns enough."""
        n_features = len(pca.mean)
        n_for_variance = pca.n_directions_for(KEPT_SHARE)
        n_for_latents = min(COORDINATES_PER_LATENT * n_latents, n_features // 2)
        n_coordinates = max(n_for_variance, n_for_latents, n_latents)
        if n_coordinates > min(n_features // 2, len(pca.directions) - 1):
            return None
        return cls._of_leading(scaler, pca, n_coordinates)

    @classmethod
    def of_few_rows(cls, scaler: Any, pca: FittedPCA, n_latents: int) -> Rotation | None:
        """A rotation of rows fewer than columns or not many more, or None for as many latents.

        They vary in fewer directions than they have columns, and the last of these say nothing
        of other rows.
        """
        n_wanted = max(
            pca.n_directions_for(KEPT_SHARE),
            COORDINATES_PER_LATENT_OF_FEW * n_latents,
            MIN_COORDINATES_OF_FEW,
        )
        n_coordinates = min(n_wanted, len(pca.directions))
        return cls._of_leading(scaler, pca, n_coordinates) if n_coordinates > n_latents else None

    @classmethod
    def _of_leading(cls, scaler: Any, pca: FittedPCA, n_coordinates: int) -> Rotation:
        return cls(scaler, pca.mean, pca.directions[:n_coordinates], pca.variances[:n_coordinates])

    @property
    def n_coordinates(self) -> int:
        return len(self.axes)

    @property
    def pca(self) -> FittedPCA:
        """PCA of the coordinates, which is the identity."""
        m = self.n_coordinates
        return FittedPCA(np.zeros(m), np.eye(m), self.variances, float(self.variances.sum()))

    @property
    def link(self) -> OutputLink:
        """The output link: coordinates have no bounds."""
        return OutputLink("identity", np.zeros(self.n_coordinates), np.ones(self.n_coordinates))

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Coordinates of a dense chunk of rows."""
        return (self.scaler.transform(X) - self.mean) @ self.axes.T

    def in_columns(self, rows: SourceRows) -> Callable[[float], float]:
        """Function from the mean squared error of `rows` per coordinate to that per column.

        A centred row x of d columns has the coordinates ``V x``, with the m axes as rows of V.
        An output z of the network stands for the columns ``V.T z``, which are orthogonal to
        the residual ``x - V.T V x`` of the projection [1]_::

            |x - V.T z|**2 = |V x - z|**2 + |x|**2 - |V x|**2

        Means over the (weighted) rows give ``m / d * loss + mean(|x|**2 - |V x|**2) / d``.

        References
        ----------
        .. [1] I. T. Jolliffe, "Principal Component Analysis", Springer, 2nd edition, 2002.
        """
        residual = total_weight = 0.0
        own = rows.own
        for start in range(0, len(own), REFIT_BATCH):
            batch = slice(start, start + REFIT_BATCH)
            x = own.read(batch).cpu().numpy() - self.mean
            squares = np.square(x).sum(axis=1) - np.square(x @ self.axes.T).sum(axis=1)
            weight = np.ones(len(x))
            if own.sample_weight is not None:
                weight = own.sample_weight[batch].cpu().numpy()
            residual += float(weight @ squares)
            total_weight += float(weight.sum())
        residual, total_weight = rows.group.sums(residual, total_weight)
        residual /= total_weight * rows.n_features
        share = self.n_coordinates / rows.n_features
        return lambda loss: share * loss + residual

    @torch.no_grad()
    def fold(self, module: Autoencoder, link: OutputLink) -> Autoencoder:
        """The same network between columns instead of coordinates; the layers are reused."""
        encoder: Any = module.encoder
        decoder: Any = module.decoder
        device = next(module.parameters()).device
        axes = torch.from_numpy(self.axes).to(device)
        mean = torch.from_numpy(self.mean).to(device)
        for layer in (encoder.path, encoder.residual.layers[0]):
            _replace(layer, layer.weight @ axes, layer.bias - layer.weight @ (axes @ mean))
        _replace(decoder.path, axes.T @ decoder.path.weight, axes.T @ decoder.path.bias + mean)
        last = decoder.residual.output_layer
        _replace(last, axes.T @ last.weight, axes.T @ last.bias)
        folded = Autoencoder(encoder, decoder, link.to(device), module.n_latents)
        folded.n_kept = module.n_kept
        return folded


def _replace(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight, layer.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias)
    layer.out_features, layer.in_features = weight.shape


@torch.no_grad()
def refit_output(module: Autoencoder, train: SourceRows, valid: SourceRows) -> None:
    """Correct the decoder's last layer by ridge regression of its errors on its inputs.

    With the layer's inputs F (hidden units, latents, 1), the errors E of the network and the
    sample weights W, the correction of the weights is [1]_::

        C = inv(F.T W F + r * t * I) F.T W E,    t = mean of the diagonal of F.T W F

    for each r of ``RIDGES``. It shrinks towards the trained weights, not towards zero. The
    correction with the lowest validation loss is kept, or none.

    References
    ----------
    .. [1] A. E. Hoerl, R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal
       problems", Technometrics 12, 1970.
    """
    module.eval()
    decoder: Any = module.decoder
    gram: Any = 0.0
    moment: Any = 0.0
    for features, error, weight in _features_and_errors(module, train.own):
        weighted = features if weight is None else features * weight[:, None]
        gram = gram + (weighted.T @ features).double()
        moment = moment + (weighted.T @ error).double()
    gram, moment = (train.group.add(sums.contiguous()) for sums in (gram, moment))
    penalty = torch.eye(len(gram), device=gram.device, dtype=gram.dtype) * gram.diagonal().mean()
    corrections = [torch.linalg.solve(gram + r * penalty, moment).float() for r in RIDGES]
    losses = torch.zeros(1 + len(corrections), device=gram.device)
    for features, error, weight in _features_and_errors(module, valid.own):
        for i, e in enumerate([error, *(error - features @ c for c in corrections)]):
            losses[i] += e.square().sum() if weight is None else weight @ e.square().sum(1)
    best = int(valid.group.add(losses).argmin())
    if best > 0:
        _add_to_output(decoder, corrections[best - 1])


def _features_and_errors(module: Autoencoder, rows: SourceRows) -> Any:
    """Yield inputs of the decoder's last layer (hidden units, latents, 1), errors, weights."""
    decoder: Any = module.decoder
    for start in range(0, max(len(rows), 1), REFIT_BATCH):  # of no rows, an empty batch
        batch = slice(start, start + REFIT_BATCH)
        x = rows.read(batch)
        z = module.kept_code(x)
        hidden = decoder.residual.layers[:-1](z)
        features = torch.cat([hidden, z, torch.ones_like(z[:, :1])], dim=1)
        weight = None if rows.sample_weight is None else rows.sample_weight[batch]
        yield features, x - module.decode_code(z), weight


def _add_to_output(decoder: Any, correction: Tensor) -> None:
    last, path = decoder.residual.output_layer, decoder.path
    n_hidden = last.in_features
    last.weight += correction[:n_hidden].T
    path.weight += correction[n_hidden:-1].T
    last.bias += correction[-1]
