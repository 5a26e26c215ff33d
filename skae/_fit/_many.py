"""Carry out several plans, as one network where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from skae._engine._joint_training import SETTINGS
from skae._engine._net import AutoencoderNet
from skae._engine._progress import remaining_epochs
from skae._engine._tasks import tasks_of_fit
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS
from skae._fit._plan import Plan, Schedule
from skae._fit._run import Outcome, Split, finish_split, prepare_split, train_splits

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
    """Whether a fit is one training on rows as they are, with others held out."""
    is_split = n_rows >= MIN_ROWS_FOR_SPLIT and schedule.early_stopping
    is_small = n_features < MIN_WIDE_COLUMNS and n_rows * n_features <= MAX_CELLS
    return is_split and is_small and not schedule.is_watched


def fit_many(alone: list[Job], together: list[Job]) -> None:
    """Carry out jobs: each of the first list alone, those of the second as few networks.

    A job that is carried out alone learns nothing before its turn, and keeps nothing after it.
    """
    groups = _groups_of([_prepare(job) for job in together])
    n_later = sum(job.n_epochs for job in alone)
    n_later += sum(group[0].job.n_epochs for group in groups)
    for job in alone:
        n_later -= job.n_epochs
        with remaining_epochs(n_later):
            raise_if_interrupted(job.fit_alone())
    for group in groups:
        n_later -= group[0].job.n_epochs
        with remaining_epochs(n_later):
            _train_group(group)


class Prepared(NamedTuple):
    """A job whose net is ready to be trained."""

    job: Job
    plan: Plan
    X: Any
    split: Split

    @property
    def settings(self) -> list[str]:
        return [str(getattr(self.split.net, name)) for name in SETTINGS]


def _prepare(job: Job) -> Prepared:
    plan, X, rng = job.make_plan()
    return Prepared(job, plan, X, prepare_split(plan, X, None, rng))


def _groups_of(prepared: list[Prepared]) -> list[list[Prepared]]:
    """Jobs whose nets can be trained as one."""
    groups = []
    ordered = sorted(prepared, key=lambda part: part.settings)
    for _, alike in groupby(ordered, key=lambda part: part.settings):
        parts = list(alike)
        for start in range(0, len(parts), MAX_TOGETHER):
            groups.append(parts[start : start + MAX_TOGETHER])
    return groups


def _train_group(group: list[Prepared]) -> None:
    splits = [part.split for part in group]
    with tasks_of_fit(None, {}):
        n_trained = train_splits(splits)
    raise_if_interrupted(splits[n_trained - 1].net)
    for job, plan, X, split in group:
        job.finish(finish_split(plan, split, X, None))


def raise_if_interrupted(net: AutoencoderNet) -> None:
    """Pass Ctrl-C on: a fit keeps what it has then, but of a search nothing is worth keeping."""
    if net.stop_ == "interrupted":
        raise KeyboardInterrupt
