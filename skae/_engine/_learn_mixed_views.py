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

# Half the squares of the coefficients of logits are penalised by this: their prior is a normal
# distribution of this precision.
PENALTY = 0.3
# Rows that logits are learned from, at most, and multiplications in all steps together. Only so
# many levels, the most frequent of the table, have coefficients.
MAX_ROWS, MAX_PRODUCTS, MAX_STEPS, MAX_LEVELS = 2000, 2**32, 50, 256
# The exponential and the logarithm of a level take as long as so many multiplications.
COST_OF_LEVEL = 20
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
        layout, plain = self.layout, super().views(conditional, ranks.ranks, *references)
        return MixedViews(
            **vars(plain),
            n_scores=layout.n_scores,
            level_counts=layout.level_counts,
            level_shares=layout.shares.numpy(),
            level_scales=layout.scales.numpy(),
            heads=conditional.heads.numpy(),
            n_known=conditional.n_known,
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
    counts = layout.level_counts
    if not counts:
        return np.zeros((layout.n_scores + 1, 0), dtype=np.float32)
    column = np.repeat(np.arange(len(counts)), counts)
    cell_weights = weights[:, column].astype(inputs.dtype)
    targets = indicators * cell_weights
    n_of_each = targets.sum(axis=0, dtype=np.float64)
    common = np.sort(np.argsort(-n_of_each, kind="stable")[:MAX_LEVELS])
    read = np.r_[np.arange(layout.n_scores), layout.n_scores + common]
    of_input = np.r_[np.full(layout.n_scores, -1), column[common]]
    is_other = of_input[:, None] != column[common]  # a column is not predicted from itself
    inputs = inputs[:, read]
    shares = n_of_each / np.maximum(weights.sum(axis=0), 1e-12)[column]
    bias = np.log(np.maximum(shares, LEAST_SHARE))

    def objective(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        bias, slopes = flat[: len(column)], flat[len(column) :].reshape(is_other.shape)
        logits = np.tile(bias.astype(inputs.dtype), (len(inputs), 1))
        logits[:, common] += inputs @ slopes.astype(inputs.dtype)
        heads = [head for _, head in heads_of(torch.from_numpy(logits), counts)]
        logs = torch.cat([head.log_softmax(-1).flatten(-2) for head in heads], dim=-1).numpy()
        errors = np.exp(logs) * cell_weights - targets
        gradient = (inputs.T @ errors[:, common]) * is_other + PENALTY * slopes
        loss = -np.einsum("ij,ij->", logs, targets, dtype=np.float64)
        loss += PENALTY / 2 * np.sum(slopes**2)
        return loss, np.r_[errors.sum(axis=0, dtype=np.float64), gradient.ravel()]

    n_products = 2 * len(inputs) * (len(read) * len(common) + COST_OF_LEVEL * len(column))
    found = minimize(
        objective,
        np.r_[bias, np.zeros(is_other.size)],
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": int(np.clip(MAX_PRODUCTS / n_products, 5, MAX_STEPS)),
            "gtol": 1e-3 * len(inputs) ** 0.5,
        },
    )
    heads = np.zeros((layout.n_scores + len(column) + 1, len(column)), dtype=np.float32)
    heads[np.ix_(read, common)] = found.x[len(column) :].reshape(is_other.shape)
    heads[-1] = found.x[: len(column)]
    return heads
