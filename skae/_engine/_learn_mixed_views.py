"""Learn the views of mixed tables: logits of levels, and points of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from skae._engine._learn_views import PlainTable, learn_conditional, rank_knots
from skae._engine._mixed_views import Coordinates, MixedConditional, MixedViews, head_inputs
from skae._engine._views import Ranks, Views
from skae.networks._levels import LevelLayout, heads_of

# Logits are penalised by half their coefficients' squares: a normal prior of deviation one.
PENALTY = 1.0
# Rows that logits are learned from, at most, and multiplications in all steps together.
MAX_ROWS, MAX_PRODUCTS, MAX_STEPS = 2000, 2**33, 50
# Shares of levels are no less, for the logarithms that training starts with.
LEAST_SHARE = 1e-3


class MixedTable(PlainTable):
    """How views learn from encoded rows of a mixed table."""

    def __init__(self, layout: LevelLayout) -> None:
        self.layout = layout

    def n_columns(self, x: NDArray[Any]) -> int:
        return self.layout.n_columns

    def ranks(self, x: NDArray[Any], weight: NDArray[Any]) -> Any:
        ranks = Ranks(*rank_knots(x[:, : self.layout.n_scores], weight))
        return RankedPoints(self.layout, ranks)

    def points(self, complete: Tensor) -> Tensor:
        return Coordinates(self.layout, Ranks(np.empty((0, 1)), np.empty((0, 1))))(complete)

    def learn(self, x: NDArray[Any], weight: NDArray[Any]) -> MixedConditional:
        layout, kept = self.layout, weight > 0
        x, weight = x[kept], weight[kept]
        numbers = learn_conditional(x, weight)
        step = -(-len(x) // MAX_ROWS)
        rows, weight_of_rows = torch.from_numpy(x[::step]), weight[::step]
        complete = numbers.filled(rows)
        known = (~layout.missing(rows)[:, layout.n_scores :]).numpy()
        indicators = layout.indicators(complete).numpy()
        inputs = head_inputs(layout, complete).numpy()
        weights = known * weight_of_rows[:, None]
        heads = fit_heads(inputs, indicators, weights * (len(x) / len(rows)), layout)
        return MixedConditional(numbers, layout, heads, weights.sum(axis=0) * len(x) / len(rows))

    def views(self, conditional: Any, ranks: Any, *references: NDArray[Any]) -> Views:
        layout = self.layout
        return MixedViews(
            conditional.gaussian,
            conditional.deviations.numpy(),
            ranks.ranks.knots.numpy(),
            ranks.ranks.scores.numpy(),
            *references,
            layout.n_scores,
            layout.level_counts,
            layout.shares.numpy(),
            layout.scales.numpy(),
            conditional.heads.numpy(),
            conditional.n_known,
        )


class RankedPoints(Coordinates):
    """Leads from points to those with normal scores of numbers."""

    def __call__(self, complete: Tensor) -> Tensor:
        return self.ranked(complete)


def fit_heads(
    inputs: NDArray[Any], indicators: NDArray[Any], weights: NDArray[Any], layout: LevelLayout
) -> NDArray[np.float32]:
    """Logits of levels by multinomial logistic regressions on the other columns.

    Together they are a pairwise model of the table by its pseudo-likelihood (Lee & Hastie,
    "Learning the structure of mixed graphical models", Journal of Computational and Graphical
    Statistics 24, 2015).

    Parameters
    ----------
    inputs : ndarray of shape (n_rows, n_inputs)
    indicators : ndarray of shape (n_rows, n_indicators)
    weights : ndarray of shape (n_rows, n_level_columns)
        Zero where a cell is missing.

    Returns
    -------
    heads : ndarray of shape (n_inputs + 1, n_indicators)
    """
    counts = np.asarray(layout.level_counts)
    column = np.repeat(np.arange(len(counts)), counts)
    of_input = np.r_[np.full(layout.n_scores, -1), column]
    is_other = of_input[:, None] != column  # a column is not predicted from itself
    shape = is_other.shape[0] + 1, is_other.shape[1]
    inputs = np.hstack([inputs, np.ones((len(inputs), 1), inputs.dtype)])
    cell_weights = weights[:, column].astype(inputs.dtype)
    targets = indicators * cell_weights
    heads = np.zeros(shape)
    shares = targets.sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)[column]
    heads[-1] = np.log(np.maximum(shares, LEAST_SHARE))

    def objective(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        heads = flat.reshape(shape)
        logits = torch.from_numpy(inputs @ heads.astype(inputs.dtype))
        logs = torch.cat(
            [head.log_softmax(-1).flatten(-2) for _, head in heads_of(logits, list(counts))], -1
        ).numpy()
        gradient = inputs.T @ (np.exp(logs) * cell_weights - targets)
        gradient[:-1] *= is_other
        loss = -np.einsum("ij,ij->", logs, targets, dtype=np.float64)
        penalised = heads[:-1]
        gradient = gradient.astype(np.float64)
        gradient[:-1] += PENALTY * penalised
        return loss + PENALTY / 2 * np.sum(penalised**2), gradient.ravel()

    n_steps = int(np.clip(MAX_PRODUCTS / (2 * inputs.size * shape[1]), 5, MAX_STEPS))
    found = minimize(
        objective,
        heads.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": n_steps, "gtol": 1e-3 * len(inputs) ** 0.5},
    )
    return found.x.reshape(shape).astype(np.float32)
