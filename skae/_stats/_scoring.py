"""Scores, thresholds and p-values from the losses of several views.

Raw losses are arrays of shape (n_members + 1 + n_others, n_rows): a row for each autoencoder of the
ensemble, one for the baseline, which reconstructs every row by the same point, and one for each
other view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrays import asarray_like, namespace
from skae._sklearn import weighted_percentile
from skae._stats._surprise import Surprises

# A normal distribution's standard deviation in units of its median absolute deviation,
# 1 / ndtri(3 / 4).
DEVIATIONS_PER_MAD = 1.4826
# Share of ordinary rows above the threshold of the rule "level".
LEVEL = 0.046
# Scores that differ by no more than this, relative to their size, are equal: the same row can be
# rounded differently in another batch.
ROUNDING = 2e-6
# The mean loss of members is no less than this share of the baseline's, and that no less than
# this: a few rows can be reproduced exactly.
LEAST_SHARE = 0.01
# Smaller losses count as this one, to divide by them.
TINY = 1e-30


@dataclass
class SeenLosses:
    """Raw losses of the rows that scores and thresholds come from.

    Attributes
    ----------
    raw : ndarray of shape (n_losses, n_rows)
        As the fitted views give them.
    unseen : ndarray of shape (n_losses, n_rows)
        As views give them that have not learned from these rows.
    weights : ndarray of shape (n_rows,)
    """

    raw: NDArray[Any]
    unseen: NDArray[Any]
    weights: NDArray[Any]

    def then(self, later: SeenLosses) -> SeenLosses:
        """These rows followed by later ones."""
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return SeenLosses(*(np.concatenate(pair, axis=-1) for pair in pairs))

    def last(self, n_rows: int) -> SeenLosses:
        """The last rows only."""
        return SeenLosses(*(array[..., -n_rows:].copy() for array in vars(self).values()))


@dataclass
class ScoreRule:
    """Joins the raw losses of views to one score: the root mean square of their surprises.

    A row that is ordinary to most views can be an outlier to some: what lies between two clusters
    is near the centre of all rows. So large surprises count for more than in a mean.

    The loss of the view of the autoencoders is that of their ensemble: with the losses L_j of M
    members and L_b of the baseline, their means over the ordinary rows, and the weight w of the
    baseline, ::

        (sum_j L_j / mean(L_j) / M + w L_b / mean(L_b)) / (1 + w)

    Attributes
    ----------
    member_means : ndarray of shape (n_members,)
        Mean raw loss of each member.
    baseline_mean, baseline_weight : float
    surprises : Surprises
        Of each view.
    counts : ndarray of shape (n_views,)
        Mask of the views that count.
    """

    member_means: NDArray[Any]
    baseline_mean: float
    baseline_weight: float
    surprises: Surprises
    counts: NDArray[np.bool_]

    @classmethod
    def fit(cls, seen: SeenLosses, share_kept: float, counts: NDArray[np.bool_]) -> ScoreRule:
        """Learn from rows that are not outliers; `counts` is a mask of the views that count."""
        n_members = len(seen.unseen) - len(counts)
        means = np.average(seen.unseen[: n_members + 1], axis=1, weights=seen.weights)
        means[-1] = max(means[-1], LEAST_SHARE)
        means[:-1] = np.maximum(means[:-1], LEAST_SHARE * means[-1])
        weight = baseline_weight(means[:-1].mean(), means[-1], share_kept)
        surprises = Surprises(np.empty((0, 0)), np.empty((0, 0)))
        rule = cls(means[:-1], float(means[-1]), float(weight), surprises, counts)
        rule.surprises = Surprises.fit(rule.view_losses(seen.unseen), seen.weights)
        return rule

    def view_losses(self, raw: Any) -> Any:
        """Losses of the views, of shape (n_views, n_rows)."""
        xp, n_autoencoders = namespace(raw), len(self.member_means) + 1
        shares = asarray_like(self.shares(), raw, raw.dtype)
        ensemble = (shares[:, None] * raw[:n_autoencoders]).sum(axis=0)
        return xp.concat([ensemble[None], raw[n_autoencoders:]], axis=0)

    def scores(self, raw: Any) -> Any:
        """One score per row; higher is more abnormal."""
        squares = self._mean_squares(self.surprises(self.view_losses(raw)))
        return squares.sum(axis=0) ** 0.5

    def factors(self, raw: Any) -> Any:
        """Factors of the raw losses in the score, of the shape of `raw`."""
        xp, losses = namespace(raw), self.view_losses(raw)
        squares = self._mean_squares(self.surprises(losses))
        # Surprises are zero where losses are.
        factors = squares / squares.sum(axis=0).clip(TINY) ** 0.5 / losses.clip(TINY)
        shares = asarray_like(self.shares(), raw, raw.dtype)
        return xp.concat([shares[:, None] * factors[:1], factors[1:]], axis=0)

    def _mean_squares(self, surprises: Any) -> Any:
        """Squared surprises of the views that count, divided by their number."""
        counts = asarray_like(self.counts / self.counts.sum(), surprises, surprises.dtype)
        return counts[:, None] * surprises**2

    def shares(self) -> NDArray[Any]:
        """Factors of the losses of members and baseline in that of the ensemble."""
        members = 1.0 / (self.member_means * len(self.member_means))
        shares = np.append(members, self.baseline_weight / self.baseline_mean)
        return shares / (1.0 + self.baseline_weight)


@dataclass
class CalibrationScores:
    """Scores of ordinary rows by views that have not learned from them.

    Attributes
    ----------
    scores, weights : ndarray of shape (n_rows,)
        In ascending order of the scores.
    """

    scores: NDArray[Any]
    weights: NDArray[Any]

    @classmethod
    def of(cls, seen: SeenLosses, rule: ScoreRule) -> CalibrationScores:
        scores = rule.scores(seen.unseen)
        order = scores.argsort(kind="stable")
        return cls(scores[order], seen.weights[order])

    def pvalues(self, scores: Any) -> Any:
        """Conformal p-values of scores s, from the weights w_i and scores s_i of ordinary rows i.

        ::

            p = (1 + sum_i w_i [s_i >= s]) / (1 + sum_i w_i)
        """
        xp = namespace(scores)
        sums = np.append(np.cumsum(self.weights[::-1])[::-1], 0.0)
        ordered = asarray_like(self.scores, scores, scores.dtype)
        above = asarray_like(sums, scores, scores.dtype)
        return (1.0 + above[xp.searchsorted(ordered, scores)]) / (1.0 + float(sums[0]))


def unseen_losses(
    members: NDArray[Any], held_out: NDArray[np.bool_], weights: NDArray[Any]
) -> NDArray[Any]:
    """Losses of members as if they had not learned from any of the rows.

    A member's losses of the rows that it learned from are too small: they are multiplied by the
    ratio of the medians of those of held-out and of these rows.

    Parameters
    ----------
    members, held_out : ndarray of shape (n_members, n_rows)
        Losses, and the rows that each member did not learn from.
    """
    unseen = members.copy()
    for losses, is_held_out in zip(unseen, held_out, strict=True):
        learned = ~is_held_out
        if is_held_out.any() and learned.any():
            fresh = weighted_percentile(losses[is_held_out], weights[is_held_out])
            old = weighted_percentile(losses[learned], weights[learned])
            if old > 0:
                losses[learned] *= max(1.0, fresh / old)
    return unseen


def baseline_weight(member_loss: float, baseline_loss: float, share_kept: float) -> float:
    """Weight of the baseline's loss in the scores, between 0 and 1.

    Of independent columns, latents reconstruct only as many as there are latents, a share
    `share_kept`, which leaves ``1 - share_kept`` of the baseline's loss. Members that do no
    better have found no structure, and an outlier in the columns that they copy shows only in
    the baseline's loss. The weight is the square of the ratio of the members' loss to that, at
    most 1.
    """
    if share_kept >= 1:
        return 1.0
    return min(1.0, member_loss / baseline_loss / (1.0 - share_kept)) ** 2


def calibrated_threshold(calibration: CalibrationScores, rule: str, n_std: float) -> float:
    """Score above which a row is an outlier, from those of ordinary rows.

    ``"std"`` is the mean plus `n_std` standard deviations; ``"mad"`` the median plus `n_std`
    times 1.4826 median absolute deviations, which estimate the standard deviation of a normal
    distribution consistently; ``"level"`` is exceeded by 4.6 % of the rows.
    """
    scores, weights = calibration.scores, calibration.weights
    if rule == "std":
        mean = np.average(scores, weights=weights)
        return mean + n_std * np.sqrt(np.average((scores - mean) ** 2, weights=weights))
    if rule == "mad":
        median = weighted_percentile(scores, weights)
        deviation = weighted_percentile(np.abs(scores - median), weights)
        return median + n_std * DEVIATIONS_PER_MAD * deviation
    return limit_of_share(scores, LEVEL, weights)[0]


def limit_of_share(
    scores: NDArray[Any], share: float, weights: NDArray[Any]
) -> tuple[float, float]:
    """A limit between two scores, and the share of the weight above it: the nearest to `share`.

    Equal scores, up to rounding, are on the same side of it.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    above = np.append(0.0, np.cumsum(weights[order])) / weights.sum()
    # Places between different scores, and those before the first and after the last.
    steps = ordered[:-1] - ordered[1:] > ROUNDING * (1.0 + np.abs(ordered[:-1]))
    places = np.r_[0, np.flatnonzero(steps) + 1]
    place = places[np.abs(above[places] - share).argmin()]
    if place == 0:
        return float(ordered[0] + ROUNDING * (1.0 + abs(ordered[0]))), 0.0
    return float((ordered[place - 1] + ordered[place]) / 2), float(above[place])


def share_explained(residual: float, total: float) -> float:
    """One minus a ratio of sums of squares; of constant rows, 1 without residuals and else 0."""
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return float(1 - residual / total)
