"""Carry out several plans, as one network where that is faster."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from skae._engine._joint_training import SETTINGS, train_together
from skae._engine._net import AutoencoderNet
from skae._engine._progress import remaining_epochs
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS
from skae._fit._plan import Plan
from skae._fit._run import Outcome, Split, finish_split, fit, prepare_split

# Networks that are trained as one at most, and cells of the rows of each: where products
# are large, nothing is gained.
MAX_TOGETHER = 16
MAX_CELLS = 2**22


@dataclass
class Job:
    """One of the fits: its plan, its rows and what its split is drawn from."""

    plan: Plan
    X: Any
    rng: np.random.RandomState

    @property
    def can_stack(self) -> bool:
        """Whether the fit is one training on rows as they are, with others held out."""
        n_rows, n_features = self.X.shape
        is_split = n_rows >= MIN_ROWS_FOR_SPLIT and self.plan.early_stopping
        is_small = n_features < MIN_WIDE_COLUMNS and n_rows * n_features <= MAX_CELLS
        return is_split and is_small and not self.plan.is_watched

    @property
    def n_epochs(self) -> int:
        """Epochs that the fit shows at most."""
        return self.plan.n_epochs(*self.X.shape)


def fit_many(jobs: list[Job]) -> list[Outcome]:
    """Carry out the plans of jobs; return their outcomes in the order of the jobs."""
    splits = {
        number: prepare_split(job.plan, job.X, None, job.rng)
        for number, job in enumerate(jobs)
        if job.can_stack
    }
    groups = [[number] for number in range(len(jobs)) if number not in splits]
    groups += _groups_of(splits)
    outcomes: dict[int, Outcome] = {}
    n_later = sum(jobs[group[0]].n_epochs for group in groups)
    for group in groups:
        n_later -= jobs[group[0]].n_epochs
        with remaining_epochs(n_later):
            if group[0] in splits:
                train_side_by_side([splits[number] for number in group])
                for number in group:
                    job = jobs[number]
                    outcomes[number] = finish_split(job.plan, splits[number], job.X, None)
            else:
                job = jobs[group[0]]
                outcomes[group[0]] = fit(job.plan, job.X, None, job.rng)
                raise_if_interrupted(outcomes[group[0]].net)
    return [outcomes[number] for number in range(len(jobs))]


def _groups_of(splits: dict[int, Split]) -> list[list[int]]:
    """Numbers of the jobs whose nets can be trained as one."""

    def settings(number: int) -> list[str]:
        return [str(getattr(splits[number].net, name)) for name in SETTINGS]

    groups = []
    for _, alike in groupby(sorted(splits, key=settings), key=settings):
        numbers = list(alike)
        for start in range(0, len(numbers), MAX_TOGETHER):
            groups.append(numbers[start : start + MAX_TOGETHER])
    return groups


def train_side_by_side(splits: list[Split]) -> None:
    """Train the nets of all splits as one network, if they agree."""
    nets = [split.net for split in splits]
    rows = [split.training() for split in splits]
    n_trained = train_together(nets, rows, [split.validation() for split in splits])
    raise_if_interrupted(nets[n_trained - 1])


def raise_if_interrupted(net: AutoencoderNet) -> None:
    """Pass Ctrl-C on: a fit keeps what it has then, but of a search nothing is worth keeping."""
    if net.stop_ == "interrupted":
        raise KeyboardInterrupt
