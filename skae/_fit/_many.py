"""Carry out several plans, as one network where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from skae._engine._joint_training import SETTINGS, train_all
from skae._engine._net import AutoencoderNet
from skae._engine._progress import remaining_epochs
from skae._engine._tasks import tasks_of_fit
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS
from skae._fit._plan import Plan, Schedule
from skae._fit._run import (
    Outcome,
    Split,
    epoch_of,
    finish_split,
    fit,
    is_start_best,
    keep_start,
    prepare_split,
    split_of_all_rows,
    train_splits,
)

# Networks that are trained as one at most, and cells of the rows of each: where products
# are large, nothing is gained.
MAX_TOGETHER = 16
MAX_CELLS = 2**22


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
        For training with others: the plan, validated rows, and a RandomState to draw the
        split from.
    finish : callable
        Called with the outcome of such a training.
    """

    schedule: Schedule
    X: Any
    fit_alone: Callable[[], AutoencoderNet]
    make_plan: Callable[[], tuple[Plan, Any, np.random.RandomState]]
    finish: Callable[[Outcome], None]

    @property
    def n_epochs(self) -> int:
        """Epochs that the fit shows at most."""
        return self.schedule.n_epochs(*self.X.shape)


def can_stack(schedule: Schedule, n_rows: int, n_features: int) -> bool:
    """Whether a fit trains on splits of rows as they are, or on all of them."""
    is_split = n_rows >= MIN_ROWS_FOR_SPLIT and schedule.early_stopping
    is_small = n_features < MIN_WIDE_COLUMNS and n_rows * n_features <= MAX_CELLS
    return is_split and is_small and not schedule.is_watched


def fit_many(alone: list[Job], together: list[Job]) -> None:
    """Carry out jobs: each of the first list alone, those of the second as few networks.

    A job that is carried out alone learns nothing before its turn, and keeps nothing after it.
    """
    started = [_start(job) for job in together]
    n_later = sum(job.n_epochs for job in alone)
    for job in alone:
        n_later -= job.n_epochs
        with remaining_epochs(n_later):
            raise_if_interrupted(job.fit_alone())
    _judge([part for part in started if part.split is not None])
    rest = [part for part in started if part.outcome is None]
    for part in rest:
        part.split = split_of_all_rows(part.plan, part.X, None)
    _train_on_all_rows(rest)
    for part in started:
        assert part.outcome is not None
        part.job.finish(part.outcome)


@dataclass(eq=False)
class Started:
    """A job that is under way.

    Attributes
    ----------
    split : Split or None
        What is trained next: a part of the rows, which others judge, or all of them.
    curve : list of float or None
        Their losses, if all rows are to be trained on afterwards.
    outcome : Outcome or None
        What has come of the job.
    """

    job: Job
    plan: Plan
    X: Any
    split: Split | None = None
    curve: list[float] | None = None
    measures: list[Any] = field(default_factory=list)
    outcome: Outcome | None = None


def _start(job: Job) -> Started:
    plan, X, rng = job.make_plan()
    part = Started(job, plan, X)
    if plan.prospect in ("linear", "poor"):
        with tasks_of_fit(None, {}):
            part.outcome = fit(plan, X, None, rng)
        raise_if_interrupted(part.outcome.net)
    elif plan.prospect == "open":
        part.split = prepare_split(replace(plan, rotation=None), X, None, rng)
    return part


def _judge(parts: list[Started]) -> None:
    """Train the splits of jobs, as few networks; it decides what is still to be done."""
    for group in _groups_of(parts):
        splits = _splits_of(group)
        with tasks_of_fit(None, {}):
            n_trained = train_splits(splits, keep_last=group[0].plan.keep_last)
        raise_if_interrupted(splits[n_trained - 1].net)
        for part, split in zip(group, splits, strict=True):
            if not part.plan.takes_folds(part.X.shape[0]):
                part.outcome = finish_split(part.plan, split, part.X, None)
                continue
            part.curve = split.net.validation_losses or []
            part.measures = [part.plan.measure(split.net, split.feed, part.X, split.held_out, None)]
            if is_start_best(part.plan, part.curve):
                part.outcome = keep_start(
                    part.plan, part.X, None, part.measures, split.net, part.curve
                )


def _train_on_all_rows(parts: list[Started]) -> None:
    for group in _groups_of(parts):
        splits = _splits_of(group)
        nets = [split.net for split in splits]
        curves = [part.curve for part in group]
        epochs = [epoch_of(part.plan, part.curve) for part in group]
        with tasks_of_fit(None, {}):
            n_trained = train_all(nets, [split.training() for split in splits], curves, epochs)
        raise_if_interrupted(nets[n_trained - 1])
        for part, split in zip(group, splits, strict=True):
            part.outcome = Outcome.of(split.net, split.feed, part.measures)
            part.outcome.validation_loss_curve = part.curve


def _splits_of(parts: list[Started]) -> list[Split]:
    return [part.split for part in parts if part.split is not None]


def _groups_of(parts: list[Started]) -> list[list[Started]]:
    """Jobs whose nets can be trained as one."""
    groups = []
    settings = [[str(getattr(s.net, name)) for name in SETTINGS] for s in _splits_of(parts)]
    ordered = sorted(range(len(parts)), key=settings.__getitem__)
    for _, alike in groupby(ordered, key=settings.__getitem__):
        numbers = list(alike)
        for start in range(0, len(numbers), MAX_TOGETHER):
            groups.append([parts[i] for i in numbers[start : start + MAX_TOGETHER]])
    return groups


def raise_if_interrupted(net: AutoencoderNet) -> None:
    """Pass Ctrl-C on: a fit keeps what it has then, but of a search nothing is worth keeping."""
    if net.stop_ == "interrupted":
        raise KeyboardInterrupt
