"""Carry out the fits of several candidates and folds, as few networks where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from sklearn.utils import gen_even_slices

from skae._engine._joint_training import (
    SETTINGS,
    Snapshots,
    StackedRows,
    can_train_as_one,
    train_as_one,
)
from skae._engine._net import AutoencoderNet
from skae._engine._progress import remaining_epochs
from skae._engine._tasks import tasks_of_fit
from skae._fit._plan import Plan, Schedule
from skae._fit._run import (
    Outcome,
    Split,
    end_at_start,
    epoch_of,
    mean_curve,
    split_of_all_rows,
)

# Networks that are trained as one at most: what a step reads should stay in the processor's cache.
MAX_TOGETHER = 6
# Epochs, evenly spread, one of which is kept.
N_SNAPSHOTS = 10


@dataclass(eq=False)
class Job:
    """One of several fits.

    Attributes
    ----------
    schedule : Schedule
        What is known of the fit before anything is learned.
    X : ndarray, CSR matrix or table of shape (n_samples, n_features)
    fit_alone : callable
        Fit on X, and return the net.
    make_plan : callable
        For training with others: the plan, validated rows to train on and of `held_out`, and a
        RandomState to draw the split from.
    finish : callable
        Called with the outcome of such a training, and the validated rows.
    candidate : object
        What is equal in fits that differ in their rows only.
    held_out : ndarray, CSR matrix or table of shape (n_held_out, n_features)
        Rows that the fit leaves out: what its network does to them tells the fits of other folds
        how long training pays.
    """

    schedule: Schedule
    X: Any
    fit_alone: Callable[[], AutoencoderNet]
    make_plan: Callable[[], tuple[Plan, Any, Any, np.random.RandomState]]
    finish: Callable[[Outcome, Any], None]
    candidate: Any
    held_out: Any

    @property
    def n_epochs(self) -> int:
        """Epochs that the fit shows at most."""
        return self.schedule.n_epochs(*self.X.shape)


def can_share_judges(schedule: Schedule, n_rows: int) -> bool:
    """Whether held-out rows are there to choose an epoch only, and all are then trained on."""
    return schedule.takes_folds(n_rows) and schedule.keeps_all_rows


def fit_many(alone: list[Job], together: list[Job]) -> None:
    """Carry out jobs: each of the first list alone, those of the second as few networks.

    A job that is carried out alone learns nothing before its turn, and keeps nothing after it.
    Those of the second list are folds, several of each candidate: where a fit alone would first
    hold rows out to learn how long training pays, they learn it from each other.
    """
    parts = [_start(job) for job in together]
    alone = alone + [part.job for part in parts if not part.can_be_stacked]
    parts = [part for part in parts if part.can_be_stacked]
    n_later = sum(job.n_epochs for job in alone)
    n_together = max((part.plan.max_epochs for part in parts), default=0)
    for job in alone:
        n_later -= job.n_epochs
        with remaining_epochs(n_later + n_together):
            raise_if_interrupted(job.fit_alone())
    trained = [part for part in parts if part.outcome is None]
    groups = _groups_of(trained)
    n_later = sum(group[0].plan.max_epochs for group in groups)
    for group in groups:
        n_later -= group[0].plan.max_epochs
        with remaining_epochs(n_later), tasks_of_fit(None, {}):
            _train(group)
    for part in trained:
        _choose_epoch(part, trained)
    for part in parts:
        assert part.outcome is not None
        part.job.finish(part.outcome, part.X)


@dataclass(eq=False)
class Started:
    """A job that is under way.

    Attributes
    ----------
    split : Split
        A net and all rows, to train on.
    losses : list of float
        Of the rows that the job leaves out, in each snapshot of the training.
    keep : callable
        Called with the number of the snapshot that the net is to have.
    outcome : Outcome or None
        What has come of the job.
    """

    job: Job
    plan: Plan
    X: Any
    held_out: Any
    split: Split
    losses: list[float] = field(default_factory=list)
    keep: Callable[[int], None] | None = None
    outcome: Outcome | None = None

    @property
    def can_be_stacked(self) -> bool:
        return can_train_as_one([self.split.net])


def _start(job: Job) -> Started:
    plan, X, held_out, rng = job.make_plan()
    part = Started(job, plan, X, held_out, split_of_all_rows(plan, X, None))
    if not part.can_be_stacked:
        return part
    if plan.prospect in ("linear", "poor"):
        with tasks_of_fit(None, {}):
            part.outcome = end_at_start(plan, X, None, rng)
    if part.outcome is not None:
        raise_if_interrupted(part.outcome.net)
    return part


def _train(parts: list[Started]) -> None:
    """Train nets that agree as one network."""
    splits, max_epochs = [part.split for part in parts], parts[0].plan.max_epochs
    held_out = [part.split.feed.rows(part.held_out, None, None) for part in parts]
    valid = [
        split.feed.validation(split.net, rows) for split, rows in zip(splits, held_out, strict=True)
    ]
    # As many of short schedules, so that a number stands for a share of any of them.
    epochs = np.linspace(0, max_epochs, N_SNAPSHOTS + 1).round().astype(int).tolist()
    snapshots = Snapshots(StackedRows(valid), epochs)
    nets, rows = [split.net for split in splits], [split.training() for split in splits]
    joint = train_as_one(nets, rows, snapshots)
    raise_if_interrupted(joint)
    for i, part in enumerate(parts):
        part.losses = [losses[i] for losses in snapshots.losses]
        part.keep = partial(snapshots.keep, part.split.net, joint, i)


def _choose_epoch(part: Started, parts: list[Started]) -> None:
    """Keep the last epoch, or the one that the rows held out of a candidate's other folds want."""
    others = [
        other.losses
        for other in parts
        if other.job.candidate == part.job.candidate and other.job.held_out is not part.job.held_out
    ]
    number = -1
    if part.plan.prospect != "nonlinear":
        number = epoch_of(part.plan, mean_curve(others)) if others else 0
    assert part.keep is not None
    part.keep(number)
    part.outcome = Outcome.of(part.split.net, part.split.feed, [])


def _groups_of(parts: list[Started]) -> list[list[Started]]:
    """Jobs whose nets can be trained as one."""

    def settings(part: Started) -> list[str]:
        return [str(getattr(part.split.net, name)) for name in SETTINGS]

    groups = []
    for _, alike in groupby(sorted(parts, key=settings), key=settings):
        members = list(alike)
        is_one = can_train_as_one([part.split.net for part in members])
        n_groups = -(-len(members) // MAX_TOGETHER) if is_one else len(members)
        groups += [members[part] for part in gen_even_slices(len(members), n_groups)]
    return groups


def raise_if_interrupted(net: AutoencoderNet) -> None:
    """Pass Ctrl-C on: a fit keeps what it has then, but of a search nothing is worth keeping."""
    if net.stop_ == "interrupted":
        raise KeyboardInterrupt
