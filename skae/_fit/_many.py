"""Carry out several plans, as one network where that is faster."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from skae._engine._joint_training import SETTINGS, train_together
from skae._engine._progress import remaining_epochs
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS
from skae._fit._plan import Plan
from skae._fit._run import Split, finish_split, fit, prepare_split

# Networks that are trained as one at most, and cells of the rows of each: where products
# are large, nothing is gained.
MAX_TOGETHER = 16
MAX_CELLS = 2**22


@dataclass
class Job:
    """One of the fits: its plan, its rows and what its split is drawn from."""

    plan: Plan
    X: Any
    rng: Any
    split: Split | None = None


def fit_many(jobs):
    """Carry out the plans of jobs; return their outcomes in the order of the jobs."""
    outcomes, steps = {}, []
    for number, job in enumerate(jobs):
        if _can_share(job):
            job.split = prepare_split(job.plan, job.X, None, job.rng)
        else:
            steps.append((job.plan.n_epochs(*job.X.shape), [number]))
    shared = [number for number, job in enumerate(jobs) if job.split is not None]
    shared.sort(key=lambda number: _settings(jobs[number]))
    for _, group in groupby(shared, key=lambda number: _settings(jobs[number])):
        group = list(group)
        for start in range(0, len(group), MAX_TOGETHER):
            batch = group[start : start + MAX_TOGETHER]
            steps.append((jobs[batch[0]].plan.max_epochs, batch))
    n_later = sum(n_epochs for n_epochs, _ in steps)
    for n_epochs, numbers in steps:
        n_later -= n_epochs
        with remaining_epochs(n_later):
            outcomes |= zip(numbers, _carry_out([jobs[i] for i in numbers]), strict=True)
    return [outcomes[number] for number in range(len(jobs))]


def _can_share(job):
    """Whether a fit is one training on rows as they are, with others held out."""
    n_rows, n_features = job.X.shape
    is_split = n_rows >= MIN_ROWS_FOR_SPLIT and job.plan.early_stopping
    is_small = n_features < MIN_WIDE_COLUMNS and n_rows * n_features <= MAX_CELLS
    return is_split and is_small and not job.plan.is_watched


def _settings(job):
    return [str(getattr(job.split.net, name)) for name in SETTINGS]


def _carry_out(jobs):
    if jobs[0].split is None:
        outcomes = [fit(job.plan, job.X, None, job.rng) for job in jobs]
        last = outcomes[-1].net
    else:
        splits = [job.split for job in jobs]
        n_trained = train_together(
            [split.net for split in splits],
            [split.training() for split in splits],
            [split.validation() for split in splits],
        )
        last = splits[n_trained - 1].net
        outcomes = []
    raise_if_interrupted(last)
    return outcomes or [finish_split(job.plan, job.split, job.X, None) for job in jobs]


def raise_if_interrupted(net):
    """Pass Ctrl-C on: a fit keeps what it has then, but of a search nothing is worth keeping."""
    if net.stop_ == "interrupted":
        raise KeyboardInterrupt
