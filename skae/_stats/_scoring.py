"""Scores, thresholds and p-values from the losses of the members of an ensemble.

Raw losses are arrays of shape (n_members + 1, n_rows): one row for each member, and a last one
for the baseline, which reconstructs every row by the same point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._arrays import asarray_like, is_tensor, namespace, stable_order
from skae._sklearn import weighted_percentile

# A normal distribution's standard deviation in units of its median absolute deviation,
# 1 / ndtri(3 / 4).
DEVIATIONS_PER_MAD = 1.4826
# Share of held-out rows above the threshold of the rule "level".
LEVEL = 0.05


@dataclass
class Location:
    """Mean and precision of points whose last column is the logarithm of a loss.

    Attributes
    ----------
    mean : ndarray of shape (n_columns,)
    precision : ndarray of shape (n_columns, n_columns)
        Inverse of the covariance, which is shrunk (Ledoit & Wolf, 2004) so that it exists.
    """

    mean: NDArray[Any]
    precision: NDArray[Any]

    @classmethod
    def of(cls, points: NDArray[Any], weights: NDArray[Any]) -> Location:
        from sklearn.covariance import ledoit_wolf

        # `ledoit_wolf` takes no weights: rows are repeated in proportion to theirs, so that
        # their number stays the same.
        cumulative = np.cumsum(weights) / np.sum(weights)
        quantiles = (np.arange(np.count_nonzero(weights)) + 0.5) / np.count_nonzero(weights)
        points = points[np.searchsorted(cumulative, quantiles)].astype(np.float64)
        covariance, _ = ledoit_wolf(points)
        covariance[np.diag_indices_from(covariance)] += 1e-9
        return cls(points.mean(axis=0), np.linalg.inv(covariance))

    def distances(self, points: Any) -> Any:
        """Squared Mahalanobis distances; losses below the mean count as the mean."""
        difference = points - asarray_like(self.mean, points)
        difference[:, -1] = difference[:, -1].clip(0.0)
        precision = asarray_like(self.precision, points, points.dtype)
        order = {} if is_tensor(points) else {"optimize": True}  # torch has no such option
        einsum = namespace(points).einsum
        return einsum("ij,jk,ik->i", difference, precision, difference, **order)


@dataclass
class SeenLosses:
    """Raw losses of the rows that thresholds come from.

    Attributes
    ----------
    raw : ndarray of shape (n_members + 1, n_rows)
    weights : ndarray of shape (n_rows,)
    held_out, held_out_baseline, held_out_weights : ndarray of shape (n_members, n_held_out)
        For rows that the member did not train on: its raw losses, those of the baseline, and
        weights.
    """

    raw: NDArray[Any]
    weights: NDArray[Any]
    held_out: NDArray[Any]
    held_out_baseline: NDArray[Any]
    held_out_weights: NDArray[Any]

    @classmethod
    def of(cls, raw: NDArray[Any], weights: NDArray[Any], held_out: NDArray[np.intp]) -> SeenLosses:
        """`held_out` are row indices of shape (n_members, n_held_out)."""
        member_losses = np.take_along_axis(raw[:-1], held_out, axis=1)
        return cls(raw, weights, member_losses, raw[-1][held_out], weights[held_out])

    @classmethod
    def before_and_after(cls, before: Any, raw: NDArray[Any], weights: NDArray[Any]) -> SeenLosses:
        """Raw losses of a batch after a training step on it; those before count as held out."""
        members, baseline = before[:-1], np.tile(before[-1], (len(before) - 1, 1))
        return cls(raw, weights, members, baseline, np.tile(weights, (len(members), 1)))

    def then(self, later: SeenLosses) -> SeenLosses:
        """These rows followed by later ones."""
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return SeenLosses(*(np.concatenate(pair, axis=-1) for pair in pairs))

    def last(self, n_rows: int) -> SeenLosses:
        """The last rows only."""
        return SeenLosses(*(array[..., -n_rows:].copy() for array in vars(self).values()))

    def shuffled(self, rng: np.random.RandomState) -> SeenLosses:
        """The same rows in random order."""
        order = rng.permutation(len(self.weights))
        held_out = self.held_out, self.held_out_baseline, self.held_out_weights
        return SeenLosses(self.raw[:, order], self.weights[order], *held_out)


@dataclass
class ScoreRule:
    """Aggregates the raw losses L_j of members j and L_b of the baseline to one score per row.

    With means over the training rows and the weight w of the baseline, member j has the score ::

        (L_j / mean(L_j) + w L_b / mean(L_b)) / (1 + w)

    whose mean over the training rows is one.

    Attributes
    ----------
    aggregation : {"mean", "median", "max"}
    member_means : ndarray of shape (n_members,)
        Mean raw loss of each member over the training rows.
    baseline_mean : float
    baseline_weight : float
        The weight w of the baseline; members have a weight of one.
    """

    aggregation: str
    member_means: NDArray[Any]
    baseline_mean: float
    baseline_weight: float

    @classmethod
    def fit(cls, seen: SeenLosses, aggregation: str, share_kept: float | None) -> ScoreRule:
        """Learn from losses of training rows; `share_kept=None` leaves the baseline out."""
        means = np.average(seen.raw, axis=1, weights=seen.weights)
        means = np.where(means > 0, means, 1.0)
        weight = 0.0
        if share_kept is not None:
            weight = baseline_weight(means[:-1].mean(), means[-1], share_kept)
        return cls(aggregation, means[:-1], float(means[-1]), float(weight))

    def member_scores(self, members: Any, baseline: Any) -> Any:
        """Scores of each member, from raw losses of shape (n_members, n_rows)."""
        baseline = self.baseline_weight * baseline / self.baseline_mean
        means = asarray_like(self.member_means, members, members.dtype)
        return (members / means[:, None] + baseline) / (1.0 + self.baseline_weight)

    def scores(self, raw: Any) -> Any:
        """One score per row; higher is more abnormal."""
        members = self.member_scores(raw[:-1], raw[-1])
        return namespace(raw).einsum("mn,mn->n", self._votes(members), members)

    def factors(self, raw: Any) -> Any:
        """Factors of the raw losses in the score, of the shape of `raw`."""
        xp = namespace(raw)
        votes = self._votes(self.member_scores(raw[:-1], raw[-1]))
        votes = votes / asarray_like(self.member_means, raw, raw.dtype)[:, None]
        baseline = xp.full_like(raw[-1:], self.baseline_weight / self.baseline_mean)
        return xp.concat([votes, baseline], axis=0) / (1.0 + self.baseline_weight)

    def _votes(self, members: Any) -> Any:
        """Weight of each member's score in the aggregate; they sum to one in each row."""
        xp, n_members = namespace(members), len(members)
        if self.aggregation == "mean":
            return xp.full_like(members, 1.0 / n_members)
        lower, upper = (n_members - 1) // 2, n_members // 2
        if self.aggregation == "max":
            lower = upper = n_members - 1
        ranks = stable_order(stable_order(members))
        counts = (ranks == lower) | (ranks == upper)
        return xp.asarray(counts, dtype=members.dtype) / (1 + (lower < upper))


@dataclass
class CalibrationScores:
    """Scores that members gave to rows they did not train on.

    Attributes
    ----------
    scores, weights : ndarray of shape (n_members, n_held_out)
        In ascending order of the scores in each row.
    """

    scores: NDArray[Any]
    weights: NDArray[Any]

    @classmethod
    def of(cls, seen: SeenLosses, rule: ScoreRule) -> CalibrationScores:
        """Score the held-out rows, or all rows if there were too few to hold any out."""
        scores = rule.member_scores(seen.held_out, seen.held_out_baseline)
        weights = seen.held_out_weights
        if not scores.size:
            scores = rule.member_scores(seen.raw[:-1], seen.raw[-1])
            weights = np.tile(seen.weights, (len(scores), 1))
        order = scores.argsort(axis=1, kind="stable")
        return cls(np.take_along_axis(scores, order, 1), np.take_along_axis(weights, order, 1))

    def pvalues(self, scores: Any) -> Any:
        """p-values of cross-conformal prediction [1]_, from scores of shape (n_members, n_rows).

        With the score s_j of member j for a new row, and its scores s_ji and the weights w_ji
        of the rows i that it did not train on, ::

            p = (1 + sum_j sum_i w_ji [s_ji >= s_j]) / (1 + sum_j sum_i w_ji).

        References
        ----------
        .. [1] Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
           Intelligence 74, 2015.
        """
        xp = namespace(scores)
        above = xp.ones_like(scores[0])
        for member, calibration, weights in zip(scores, self.scores, self.weights, strict=True):
            sums = asarray_like(
                np.append(np.cumsum(weights[::-1])[::-1], 0.0), member, member.dtype
            )
            calibration = asarray_like(calibration, member, member.dtype)
            above += sums[xp.searchsorted(calibration, member, side="left")]
        return above / (1.0 + float(self.weights.sum()))


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


def held_out_threshold(held_out: CalibrationScores, rule: str, n_std: float) -> float:
    """Score above which a row is an outlier, from held-out rows.

    ``"std"`` is the mean plus `n_std` standard deviations; ``"mad"`` the median plus `n_std`
    times 1.4826 median absolute deviations, which estimate the standard deviation of a normal
    distribution consistently; ``"level"`` is exceeded by 5 % of the rows.
    """
    scores, weights = held_out.scores.ravel(), held_out.weights.ravel()
    if rule == "std":
        mean = np.average(scores, weights=weights)
        return mean + n_std * np.sqrt(np.average((scores - mean) ** 2, weights=weights))
    if rule == "mad":
        median = weighted_percentile(scores, weights)
        deviation = weighted_percentile(np.abs(scores - median), weights)
        return median + n_std * DEVIATIONS_PER_MAD * deviation
    return upper_quantile(scores, LEVEL, weights)


def upper_quantile(scores: NDArray[Any], share: float, weights: NDArray[Any]) -> float:
    """The limit with a given share of the weight above it, to within one row."""
    order = np.argsort(-scores, kind="stable")
    weight_above = np.append(0.0, np.cumsum(weights[order]))
    n_above = int(np.abs(weight_above - share * weight_above[-1]).argmin())
    neighbours = scores[order[max(n_above - 1, 0) : n_above + 1]]
    return float(neighbours.mean())


def share_explained(residual: float, total: float) -> float:
    """One minus a ratio of sums of squares; of constant rows, 1 without residuals and else 0."""
    if total == 0:
        return 1.0 if residual == 0 else 0.0
    return float(1 - residual / total)
