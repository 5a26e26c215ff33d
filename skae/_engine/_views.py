"""Views of rows beside the autoencoders': cells given the others, and nearest reference rows.

Each view gives a loss to each observed cell; the loss of a row is the root of their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._stats._gaussian import FactorGaussian, Gaussian

# Views in the order of their losses: those after the first are the ones here.
VIEWS = (
    "autoencoder",
    "conditional",
    "neighbors",
    "core_neighbors",
    "rank_neighbors",
    "core_rank_neighbors",
)
# Distances of this many rows at once stay in the cache of a processor.
ROWS_AT_ONCE = 256
# Conditional residuals beyond this many of their deviations grow by their logarithm only.
CUT = 8.0
# Ranges of columns are no less, to divide by them.
LEAST_RANGE = 1e-6
# Linear systems are solved when the squared residual is this share of what it was, or after so
# many steps.
SOLVED, MAX_STEPS, LEAST_CURVATURE = 1e-13, 200, 1e-30
# Rows that differ by less than this, relative to their size, are equal but for rounding.
ROUNDING = 1e-5
CPU = torch.device("cpu")
# Views that were made ready before, by device; not kept in them, so that files do not hold both.
ON_DEVICES: WeakKeyDictionary[Views, dict[torch.device, ViewsOnDevice]] = WeakKeyDictionary()


@dataclass(eq=False)
class Views:
    """What the views have learned, on the scale of the network's rows.

    Attributes
    ----------
    gaussian : Gaussian or FactorGaussian
        Predicts each cell from the others of its row, and fills missing cells.
    deviations : ndarray of shape (n_features,)
        Standard deviations of the residuals.
    knots, scores : ndarray of shape (n_features, n_knots)
        Values of each column in ascending order, and their normal scores.
    rows : ndarray of shape (n_references, n_features)
        Reference rows, complete.
    radii : ndarray of shape (n_references,)
        Distances within which a row is the reference row itself.
    penalties, rank_penalties : ndarray of shape (n_references,)
        What the views of the core add to the mean squared difference from a reference row: the
        more, the less it is like most rows.
    """

    gaussian: Gaussian | FactorGaussian
    deviations: NDArray[Any]
    knots: NDArray[Any]
    scores: NDArray[Any]
    rows: NDArray[Any]
    radii: NDArray[Any]
    penalties: NDArray[Any]
    rank_penalties: NDArray[Any]

    def on(self, device: torch.device) -> ViewsOnDevice:
        """The same, ready to be evaluated on a device."""
        ready = ON_DEVICES.setdefault(self, {})
        if device not in ready:
            ready[device] = self._ready(device)
        return ready[device]

    def _ready(self, device: torch.device) -> ViewsOnDevice:
        return ViewsOnDevice(self, device)


class ViewsOnDevice:
    """Evaluates views with tensors on a device."""

    conditional: Any

    def __init__(self, views: Views, device: torch.device) -> None:
        self.conditional = Conditional(views.gaussian, views.deviations, device)
        self.ranks = Ranks(views.knots, views.scores, device)
        rows = on_device(views.rows, device)
        self.references = References(rows, views.penalties, views.radii)
        self.ranked_references = References(self.ranks(rows), views.rank_penalties)

    def cells(self, x: Tensor) -> Tensor:
        """Losses of cells, of shape (5, n_rows, n_features); missing cells have none.

        By the conditional view, and by the nearest reference rows: of all rows, of the core, and
        of both in ranks. Always in float32, as they were calibrated.
        """
        with torch.autocast(x.device.type, enabled=False):
            complete = self.conditional.filled(x)
            equal = torch.full((len(x),), -1, device=x.device)
            cells = torch.stack(
                [
                    self.conditional.cells(complete),
                    *self.references.cells(complete, equal),
                    *self.ranked_references.cells(self.ranks(complete), equal),
                ]
            )
            return cells.masked_fill(x.isnan(), 0.0)


def on_device(values: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float32), device=device)


class Conditional:
    """Predicts each cell from the others of its row.

    With deviations z from the mean and the precision matrix P, the cell j less its conditional
    mean is ``(P z)_j / P_jj`` (Bishop, "Pattern Recognition and Machine Learning", 2006, section
    2.3.1).
    """

    def __init__(
        self,
        gaussian: Gaussian | FactorGaussian,
        deviations: NDArray[Any],
        device: torch.device = CPU,
    ) -> None:
        self.gaussian = gaussian
        self.mean = on_device(gaussian.mean_, device)
        self.deviations = on_device(deviations, device)
        *factors, diagonal = precision_factors(gaussian)
        self.factors = [on_device(factor, device) for factor in factors]
        self.diagonal = on_device(diagonal, device)

    def filled(self, x: Tensor) -> Tensor:
        """Rows with their missing cells replaced by conditional means given the others.

        With the deviations z_o of observed cells, those of missing cells solve
        ``P_mm z_m = -P_mo z_o``, here by conjugate gradients for all rows at once.
        """
        missing = x.isnan()
        rows = missing.any(dim=1).nonzero()[:, 0]
        if not len(rows):
            return x
        is_missing = missing[rows]
        observed = (x[rows] - self.mean).masked_fill(is_missing, 0.0)
        shift = self._solve(-self._product(observed), is_missing)
        return x.index_copy(0, rows, observed + shift + self.mean)

    def _solve(self, right: Tensor, is_missing: Tensor) -> Tensor:
        """Solutions of ``P_mm z_m = right_m``; zero in observed cells."""
        solution = torch.zeros_like(right)
        residual = right.masked_fill(~is_missing, 0.0)
        direction = residual / self.diagonal
        size = (residual * direction).sum(dim=1, keepdim=True)
        enough = SOLVED * size
        for _ in range(min(2 * int(is_missing.sum(dim=1).max()) + 2, MAX_STEPS)):
            product = self._product(direction).masked_fill(~is_missing, 0.0)
            curvature = (direction * product).sum(dim=1, keepdim=True)
            step = size / curvature.clamp(min=LEAST_CURVATURE)
            solution += step * direction
            residual -= step * product
            scaled = residual / self.diagonal
            before, size = size, (residual * scaled).sum(dim=1, keepdim=True)
            if (size <= enough).all():
                break
            direction = scaled + size / before.clamp(min=LEAST_CURVATURE) * direction
        return solution

    def _product(self, z: Tensor) -> Tensor:
        """Deviations times the precision matrix."""
        return self._over_diagonal(z) * self.diagonal

    def _over_diagonal(self, z: Tensor) -> Tensor:
        if len(self.factors) == 1:
            return z @ self.factors[0]
        scale, left, right = self.factors
        return z * scale - z @ left @ right

    def missing(self, x: Tensor) -> Tensor:
        """Mask of the columns of which rows miss the cell."""
        return x.isnan()

    def residuals(self, x: Tensor) -> Tensor:
        """Cells of complete rows less what is predicted, in deviations."""
        return self._over_diagonal(x - self.mean) / self.deviations

    def cells(self, x: Tensor) -> Tensor:
        """Squares of the residuals, which grow softly beyond a cut."""
        sizes = self.residuals(x).abs()
        growth = torch.log1p((sizes - CUT).clamp(min=0.0))
        return (sizes.clamp(max=CUT) + growth).square()


def precision_factors(gaussian: Gaussian | FactorGaussian) -> list[NDArray[Any]]:
    """The precision matrix with columns divided by its diagonal, whole or as factors; and that.

    With loadings W and the noise variance s, Woodbury's identity gives
    ``P = (I - W inv(W^T W + s I) W^T) / s``.
    """
    if isinstance(gaussian, Gaussian):
        precision = gaussian.precision_
        return [precision / precision.diagonal(), precision.diagonal()]
    loadings, noise = gaussian.loadings_, gaussian.noise_variance_
    inner = loadings.T @ loadings + noise * np.eye(loadings.shape[1])
    right = np.linalg.solve(inner, loadings.T) / noise
    diagonal = 1.0 / noise - np.einsum("jk,kj->j", loadings, right)
    return [1.0 / (noise * diagonal), loadings, right / diagonal, diagonal]


class Ranks:
    """Normal scores of cells, linear between the knots of their column.

    Beyond the last knot they grow by the logarithm: a whole range of the column is as much as
    ``log(5)``.
    """

    def __init__(
        self, knots: NDArray[Any], scores: NDArray[Any], device: torch.device = CPU
    ) -> None:
        self.knots, self.scores = on_device(knots, device), on_device(scores, device)

    def __call__(self, x: Tensor) -> Tensor:
        columns = x.T.contiguous()
        right = torch.searchsorted(self.knots, columns).clamp(1, self.knots.shape[1] - 1)
        low, high = self.knots.gather(1, right - 1), self.knots.gather(1, right)
        start, end = self.scores.gather(1, right - 1), self.scores.gather(1, right)
        share = ((columns - low) / (high - low).clamp(min=LEAST_RANGE)).clamp(0.0, 1.0)
        first, last = self.knots[:, :1], self.knots[:, -1:]
        beyond = columns - torch.minimum(torch.maximum(columns, first), last)
        beyond = beyond / (last - first).clamp(min=LEAST_RANGE)
        growth = torch.log1p(4.0 * beyond.abs()) * beyond.sign()
        return (start + share * (end - start) + growth).T.contiguous()


class References:
    """Finds the reference rows that are nearest to rows.

    Parameters
    ----------
    rows : Tensor of shape (n_references, n_features)
    penalties : ndarray of shape (n_references,)
    radii : ndarray of shape (n_references,), default=None
        Distances within which a row is the reference row itself; None if that is known.
    """

    def __init__(
        self, rows: Tensor, penalties: NDArray[Any], radii: NDArray[Any] | None = None
    ) -> None:
        self.rows = rows
        self.penalties = on_device(penalties, rows.device)
        self.radii = None if radii is None else on_device(radii, rows.device)
        # Squared lengths of centred rows are small enough not to swallow their differences.
        self.center = rows.mean(dim=0)
        centred = rows - self.center
        # |x - r|^2 = |x|^2 + (x, 1) @ (-2 r, |r|^2), whose first term does not choose.
        lengths = centred.square().sum(dim=1, keepdim=True)
        self.factors = torch.cat([-2.0 * centred, lengths], dim=1).T.contiguous()

    def cells(self, x: Tensor, equal: Tensor) -> list[Tensor]:
        """Squared differences from the nearest row, and from the nearest one with penalties.

        Penalties are spread evenly over the cells. `equal` are the numbers of the reference rows
        that are the rows themselves, or -1; they are left out, as no row vouches for itself. With
        radii, they are found and written.
        """
        nearest = torch.empty(2, len(x), dtype=torch.long, device=x.device)
        extended = torch.nn.functional.pad(x - self.center, (0, 1), value=1.0)
        memory = x.new_empty(min(len(x), ROWS_AT_ONCE), len(self.rows))  # new pages are slow
        for start in range(0, len(x), ROWS_AT_ONCE):
            piece = slice(start, min(start + ROWS_AT_ONCE, len(x)))
            distances = memory[: piece.stop - start]
            torch.mm(extended[piece], self.factors, out=distances)
            first = argmin(distances)
            if self.radii is not None:
                equal[piece] = torch.where(self._is_same(x[piece], first), first, -1)
            own = (equal[piece] >= 0).nonzero()[:, 0]
            if len(own) and len(self.rows) > 1:
                distances[own, equal[piece][own]] = torch.inf
                first[own] = argmin(distances[own])
            distances += self.penalties * self.n_columns
            nearest[0, piece], nearest[1, piece] = first, argmin(distances)
        plain, cored = (self.by_column((x - self.rows[rows]).square_()) for rows in nearest)
        return [plain, cored.add_(self.penalties[nearest[1], None])]

    @property
    def n_columns(self) -> int:
        """Number of the table's columns."""
        return self.rows.shape[1]

    def by_column(self, squares: Tensor) -> Tensor:
        """Squared differences of columns from those of coordinates."""
        return squares

    def _is_same(self, x: Tensor, nearest: Tensor) -> Tensor:
        """Mask of the rows that are the reference row nearest to them, up to rounding."""
        assert self.radii is not None
        squares = (x - self.rows[nearest]).square().sum(dim=1)
        rounding = ROUNDING**2 * (x.shape[1] + x.square().sum(dim=1))
        return squares <= torch.maximum(self.radii[nearest].square(), rounding)


def argmin(distances: Tensor) -> Tensor:
    """Index of the least entry of each row."""
    if distances.device.type == "cpu":  # NumPy's takes half as long as torch's
        return torch.from_numpy(distances.numpy().argmin(axis=1))
    return distances.argmin(dim=1)
