"""Losses as surprises: how rarely an ordinary row has as large a one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrays import asarray_like, namespace

# Surprises are linear between these quantiles of the losses, and beyond the last one.
LEVELS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75])
# The mean excess of losses is no less, in the units of the scaled columns.
LEAST_EXCESS = 0.01
# Losses of the same row in another batch differ by less, relative to their size.
ROUNDING = 1e-5
# A step of surprises that is no larger needs no knot of its own.
LEAST_JUMP = 0.05


@dataclass
class Surprises:
    """Turn losses of several views into surprises, minus the logarithms of tail probabilities.

    With the share p(t) of ordinary rows whose loss is t or more, the surprise of a loss t is
    ``-log p(t)``. Up to the upper quartile u of the losses, p is read off the rows' quantiles;
    beyond u, where they are few, excesses are taken to be exponential (the generalised Pareto
    distribution of Pickands (1975) with shape zero), with the mean excess m of the rows ::

        -log p(t) = -log p(u) + (t - u) / m

    A surprise has a mean of about one over ordinary rows. It is a sum of hinges,
    ``sum_k a_k max(t - t_k, 0)``.

    Attributes
    ----------
    knots, slopes : ndarray of shape (n_views, n_knots)
        The t_k and a_k.
    """

    knots: NDArray[Any]
    slopes: NDArray[Any]

    @classmethod
    def fit(cls, losses: NDArray[Any], weights: NDArray[Any]) -> Surprises:
        """Learn from losses of shape (n_views, n_rows) of rows that the views did not see."""
        pairs = [hinges(view, weights) for view in losses]
        return cls(*(np.stack(parts) for parts in zip(*pairs, strict=True)))

    def __call__(self, losses: Any) -> Any:
        """Surprises of the same shape as `losses`, (n_views, n_rows)."""
        xp = namespace(losses)
        total = xp.zeros_like(losses)
        for k in range(self.knots.shape[1]):
            knot = asarray_like(self.knots[:, k], losses, losses.dtype)[:, None]
            slope = asarray_like(self.slopes[:, k], losses, losses.dtype)[:, None]
            total += slope * (losses - knot).clip(0.0)
        return total


def hinges(losses: NDArray[Any], weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Knots and slopes of one view; knots that coincide are one, with the smallest surprise."""
    order = losses.argsort(kind="stable")
    values, cumulative = losses[order], np.cumsum(weights[order])
    places = np.searchsorted(cumulative, LEVELS * cumulative[-1] * (1 - 1e-9), side="right")
    knots = values[places.clip(0, len(values) - 1)]
    surprises = -np.log1p(-LEVELS)
    kept = [0]
    for k in range(1, len(knots)):
        if knots[k] > knots[kept[-1]] + least_step(knots[kept[-1]]):
            kept.append(k)
    knots, surprises = knots[kept], surprises[kept]
    beyond = values > knots[-1] + least_step(knots[-1])
    if beyond.any():
        surprise = -np.log(weights[order] @ beyond / cumulative[-1])
        if surprise > surprises[-1] + LEAST_JUMP:  # many losses are equal to the last knot
            knots = np.r_[knots, values[beyond][0]]
            surprises = np.r_[surprises, surprise]
    excess = np.maximum(losses - knots[-1], 0.0)
    share = weights @ (excess > 0)
    mean_excess = max(weights @ excess / share if share > 0 else 0.0, LEAST_EXCESS)
    slopes = np.r_[np.diff(surprises) / np.diff(knots), 1.0 / mean_excess]
    missing = (0, len(LEVELS) + 1 - len(knots))
    return np.pad(knots, missing, mode="edge"), np.pad(np.diff(slopes, prepend=0.0), missing)


def least_step(loss: float) -> float:
    """Losses that differ by less may be equal but for rounding."""
    return ROUNDING * max(abs(loss), LEAST_EXCESS)


def weighted_ranks(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """The share of the weight up to each value, in (0, 1]; equal values share the last one."""
    order = values.argsort(kind="stable")
    cumulative = np.cumsum(weights[order])
    last = np.searchsorted(values[order], values, side="right") - 1
    return cumulative[last] / cumulative[-1]


def log_ranks(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Minus the logarithm of the share of the weight from each value on."""
    return -np.log(weighted_ranks(-values, weights))
