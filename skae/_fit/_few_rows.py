"""Fits of wide tables of few rows: networks in principal coordinates, judged on held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._engine._joint_training import TASK
from skae._engine._net import AutoencoderNet
from skae._engine._progress import losses_reported_in, remaining_epochs
from skae._engine._rotation import Rotation
from skae._engine._tasks import current_tasks
from skae._fit._plan import POOR_TRIAL, Build, Indices, Plan, Weights
from skae._fit._run import (
    Outcome,
    fit_all_rows,
    keep_start,
    leave_rotation,
    loss_conversions,
    mean_curve,
    prepare_fold,
)
from skae._stats._significance import self_normalised_sum

# Held-out rows that decide, and the standard errors of a mean difference that end it before.
ENOUGH_ROWS, CLEAR = 100, 3.0


@dataclass(eq=False)
class Candidate:
    """One of the networks that may be trained on all rows.

    Attributes
    ----------
    gains : list of ndarray
        By how much training lowered the squared error of each held-out row, one array a fold.
    curves : list of list of float
        Validation losses in columns, one list a fold.
    judge : AutoencoderNet or None
        What was trained on the last fold.
    """

    build: Build
    gains: list[NDArray[Any]] = field(default_factory=list)
    curves: list[list[float]] = field(default_factory=list)
    judge: AutoencoderNet | None = None

    @property
    def gain(self) -> NDArray[Any]:
        """Of all rows that were held out."""
        return np.concatenate(self.gains)

    @property
    def is_interrupted(self) -> bool:
        return self.judge is not None and self.judge.stop_ == "interrupted"


def fit_few_rows(
    plan: Plan,
    X: Any,
    sample_weight: Weights,
    rng: np.random.RandomState,
    *,
    builds: tuple[Build, ...],
    rotation_of: Callable[[Indices], Rotation | None],
) -> Outcome:
    """Train on all rows the network that is best on held-out rows, or keep the start.

    Candidates are trained on folds, in principal coordinates of the other rows only: those of few
    rows fit the rows themselves far better than others, so that a start that knew the held-out
    rows would always win. It is a race [1]_: folds are taken until paired differences to the start
    are clear or rows are enough, and a candidate that is clearly worse than the best drops out.

    References
    ----------
    .. [1] O. Maron, A. W. Moore, "Hoeffding races: accelerating model selection search for
       classification and function approximation", NeurIPS 1994.
    """
    folds = plan.held_out_parts(X.shape[0], rng)
    race = _Race(plan, X, sample_weight, rotation_of, folds)
    if plan.prospect == "poor":
        start = race.try_briefly(Candidate(plan.build), len(builds))
        if start is not None:
            current_tasks().begin(0)  # callbacks of scikit-learn are not told of trials
            return start
    current_tasks().begin(2)
    best = race.run([Candidate(build) for build in builds])
    if best.is_interrupted or race.weight @ best.gain <= 0.0:
        return race.start_after(best)
    return fit_all_rows(plan, X, sample_weight, mean_curve(best.curves), [None], best.build)


def is_clear(differences: NDArray[Any], weight: NDArray[Any]) -> bool:
    """Whether the mean of paired differences is well beyond its standard error."""
    return abs(self_normalised_sum(differences, weight)) > CLEAR


@dataclass(eq=False)
class _Race:
    """Trains candidates on folds of one table.

    Attributes
    ----------
    weight : ndarray
        Of all rows that were held out.
    """

    plan: Plan
    X: Any
    sample_weight: Weights
    rotation_of: Callable[[Indices], Rotation | None]
    folds: list[NDArray[np.intp]]
    weight: NDArray[Any] = field(default_factory=lambda: np.empty(0))

    def run(self, candidates: list[Candidate]) -> Candidate:
        """The best candidate, or the one whose training was interrupted."""
        max_epochs, n_folds = self.plan.max_epochs, len(self.folds)
        with current_tasks().task(TASK, n_folds * len(candidates)):
            for n_done, fold in enumerate(self.folds):
                for i, candidate in enumerate(candidates, start=1):
                    n_later = (n_folds - n_done) * len(candidates) - i + 1
                    with remaining_epochs(n_later * max_epochs):
                        self.train_fold(candidate, fold, max_epochs)
                    if candidate.is_interrupted:
                        return candidate
                self.weight = np.append(self.weight, self._weight_of(fold))
                best = max(candidates, key=lambda candidate: float(self.weight @ candidate.gain))
                candidates = [
                    c for c in candidates if not is_clear(best.gain - c.gain, self.weight)
                ]
                if is_clear(best.gain, self.weight) or len(self.weight) >= ENOUGH_ROWS:
                    break
        return best

    def try_briefly(self, trial: Candidate, n_candidates: int) -> Outcome | None:
        """The start, unless a tenth of the schedule lowers the loss: to race costs far more."""
        n_epochs = self.plan.n_trial_epochs(POOR_TRIAL)
        n_later = (len(self.folds) * n_candidates + 1) * self.plan.max_epochs
        for n_done, fold in enumerate(self.folds, start=1):
            with remaining_epochs((len(self.folds) - n_done) * n_epochs + n_later):
                self.train_fold(trial, fold, n_epochs)
            if trial.is_interrupted:
                return self.start_after(trial)
        curve = mean_curve(trial.curves)
        return None if curve[-1] < curve[0] else self.start_after(trial)

    def train_fold(self, candidate: Candidate, fold: NDArray[np.intp], n_epochs: int) -> None:
        """Train a candidate on all rows but a fold, and record what that is worth."""
        plan, X = self.plan, self.X
        rotation = self.rotation_of(np.setdiff1d(np.arange(X.shape[0]), fold))
        net = candidate.build(rotation)
        split = prepare_fold(plan, X, self.sample_weight, fold, net, rotation)
        net.set_params(max_epochs=n_epochs)
        net.initialize()
        before = split.held_out_losses()
        conversions = loss_conversions(plan, split, rotation)
        with losses_reported_in(conversions), current_tasks().task("fold", n_epochs):
            net.train(split.training(), split.validation(), keep_last=True)
        # Means over as many coordinates as the fold has; what these leave out does not change.
        n_coordinates = X.shape[1] if rotation is None else rotation.n_coordinates
        candidate.gains.append(n_coordinates * (before - split.held_out_losses()))
        outcome = Outcome.of(net, split.feed)
        if rotation is not None:
            leave_rotation(rotation, plan.link, split, outcome)
        candidate.curves.append(outcome.validation_loss_curve or [])
        candidate.judge = net

    def start_after(self, candidate: Candidate) -> Outcome:
        """The start, with the losses of a candidate that did not beat it."""
        judge, curve = candidate.judge, mean_curve(candidate.curves)
        assert judge is not None
        return keep_start(self.plan, self.X, self.sample_weight, [None], judge, curve)

    def _weight_of(self, fold: NDArray[np.intp]) -> NDArray[Any]:
        return np.ones(len(fold)) if self.sample_weight is None else self.sample_weight[fold]
