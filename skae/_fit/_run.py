"""Carry out plans: train on a split, on folds and then all rows, or for one pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._shards import is_sharded
from skae._engine._batches import Rows, SourceRows
from skae._engine._joint_training import TASK, train_together
from skae._engine._net import AutoencoderNet
from skae._engine._progress import losses_reported_in, remaining_epochs
from skae._engine._rotation import Rotation, refit_output
from skae._engine._row_errors import row_losses
from skae._engine._tasks import current_tasks, epochs_lead_to
from skae._fit._plan import (
    OPEN_TRIAL,
    POOR_TRIAL,
    Build,
    Feed,
    Indices,
    Plan,
    Weights,
)
from skae._fit._sample import places_in_sample, rows_of_sample
from skae._stats._significance import self_normalised_sum
from skae.exceptions import TrainingInterruptedWarning, warn_user

# Standard errors by which a mean gain has to differ from zero. In between, training mostly pays.
PAYS, SPOILS = 2.0, -2.0


@dataclass(eq=False)
class Outcome:
    """What a fit leaves behind.

    Attributes
    ----------
    net : AutoencoderNet
        The trained net.
    feed : Feed or None
        What it was fed, with all that the feed learned.
    measures : list or None
        What the plan measured, once a split or fold; None after one pass or trimmed training, which
        have neither.
    loss_curve : list of float
        Training loss of each epoch.
    validation_loss_curve : list of float or None
        Loss on held-out rows at the start and after each epoch.
    """

    net: AutoencoderNet
    feed: Feed | None
    measures: Any
    loss_curve: list[float]
    validation_loss_curve: list[float] | None

    @classmethod
    def of(cls, net: AutoencoderNet, feed: Feed | None, measures: Any = None) -> Outcome:
        """The outcome of a training, with the losses that the net recorded."""
        return cls(net, feed, measures, net.training_losses, net.validation_losses)

    @property
    def n_iter(self) -> int:
        """Epochs run."""
        return self.net.n_epochs_done

    @property
    def best_epoch(self) -> int:
        """Epoch whose weights are kept."""
        return self.n_iter if self.net.best_epoch is None else self.net.best_epoch


def fit(plan: Plan, X: Any, sample_weight: Weights, rng: np.random.RandomState) -> Outcome:
    """Carry out a plan on all rows of X; return its outcome."""
    if plan.course is not None and plan.prospect != "linear":
        return plan.course(plan, X, sample_weight, rng)
    outcome = end_at_start(plan, X, sample_weight, rng)
    if outcome is not None:
        return outcome
    if plan.prospect in ("open", "nonlinear"):
        current_tasks().begin(1)
        return fit_all_rows(plan, X, sample_weight, None, [])
    if plan.takes_folds(X.shape[0]):
        return _fit_folds(plan, X, sample_weight, rng)
    split = prepare_split(plan, X, sample_weight, rng)
    plan.begin(split.net, split.feed)
    current_tasks().begin(plan.max_epochs)

    def attributes_of(net: AutoencoderNet) -> dict[str, Any]:
        outcome = finish_split(plan, replace(split, net=net), X, sample_weight)
        return plan.attributes_after(outcome, X, sample_weight)

    with (
        losses_reported_in(loss_conversions(plan, split, plan.rotation)),
        epochs_lead_to(attributes_of),
    ):
        valid = None if split.valid_rows is None else split.validation()
        split.net.train(split.training(), valid, keep_last=plan.keep_last)
    return finish_split(plan, split, X, sample_weight)


def fit_pass(plan: Plan, X: Any, sample_weight: Weights) -> Outcome:
    """Train for one epoch on all rows of X, without validation."""
    feed = plan.feed if plan.resumes else plan.feed.fitted(X, None, sample_weight)
    net = plan.build(None)
    plan.begin(net, feed)
    current_tasks().begin(0, "partial-fit")
    net.train_on(feed.single_pass(net, feed.rows(X, None, sample_weight)))
    return Outcome.of(net, feed)


# A split: train on a part of the rows and keep the best epoch on the rest.


@dataclass(eq=False)
class Split:
    """A net, and the rows that it trains and is validated on."""

    net: AutoencoderNet
    feed: Feed
    rows: SourceRows
    valid_rows: SourceRows | None
    held_out: Indices

    def training(self) -> Rows:
        return self.feed.training(self.net, self.rows)

    def validation(self) -> Rows:
        assert self.valid_rows is not None
        return self.feed.validation(self.net, self.valid_rows)

    def held_out_losses(self) -> NDArray[Any]:
        """The loss of each row held out, without noise."""
        return row_losses(self.net, self.validation())


def prepare_split(plan: Plan, X: Any, sample_weight: Weights, rng: np.random.RandomState) -> Split:
    """What is to be trained, on what, and which rows are held out."""
    net = plan.build(plan.rotation)
    train, held_out = plan.split(X, sample_weight, rng)
    feed = plan.feed.fitted(X, train, sample_weight)
    return split_of(net, feed, X, sample_weight, train, held_out, plan.rotation)


def split_of(
    net: AutoencoderNet,
    feed: Feed,
    X: Any,
    sample_weight: Weights,
    train: Indices,
    held_out: Indices,
    rotation: Rotation | None = None,
) -> Split:
    rows = feed.rows(X, train, sample_weight, rotation)
    valid_rows = None
    if held_out is not None:
        valid_rows = feed.rows(X, held_out, sample_weight, rotation)
        places = None if is_sharded(X) else places_in_sample(X, held_out)
        if places is not None:
            valid_rows = rows_of_sample(feed, X, places, sample_weight, rotation)
    return Split(net, feed, rows, valid_rows, held_out)


def on_sample(plan: Plan, split: Split, X: Any, sample_weight: Weights) -> Split:
    """A split of the sample of a table on disk, for what need not read all rows once more."""
    places = None if split.held_out is None else places_in_sample(X, split.held_out)
    if places is None:
        return split
    others = np.delete(np.arange(len(X.sample)), places)
    rows, valid_rows = (
        rows_of_sample(split.feed, X, chosen, sample_weight, plan.rotation)
        for chosen in (others, places)
    )
    return replace(split, rows=rows, valid_rows=valid_rows)


def prepare_fold(
    plan: Plan,
    X: Any,
    sample_weight: Weights,
    fold: NDArray[np.intp],
    net: AutoencoderNet | None = None,
    rotation: Rotation | None = None,
) -> Split:
    """What is to be trained on all rows but a fold, the plan's net unless one is given."""
    train = np.setdiff1d(np.arange(X.shape[0]), fold)
    feed = plan.feed.fitted(X, train, sample_weight)
    net = plan.build(None) if net is None else net
    return split_of(net, feed, X, sample_weight, train, fold, rotation)


def finish_split(plan: Plan, split: Split, X: Any, sample_weight: Weights) -> Outcome:
    """What follows the training on a split: back to columns, the last layer, the measure."""
    outcome = Outcome.of(split.net, split.feed)
    if plan.rotation is not None or plan.refits_output:
        split = on_sample(plan, split, X, sample_weight)
    if plan.rotation is not None:
        leave_rotation(plan.rotation, plan.link, split, outcome)
    if plan.refits_output and split.valid_rows is not None:
        refit_output(split.net.module_, split.rows, split.valid_rows)
    outcome.measures = [plan.measure(split.net, split.feed, X, split.held_out, sample_weight)]
    return outcome


def loss_conversions(
    plan: Plan, split: Split, rotation: Rotation | None
) -> dict[str, Callable[[float], float]]:
    """What leads from losses in a rotation to those in columns, if they are shown."""
    if rotation is None or not plan.verbose:
        return {}
    parts = {"train_loss": split.rows, "valid_loss": split.valid_rows}
    return {
        key: rotation.in_columns(rows.with_scaler(split.feed.transform))
        for key, rows in parts.items()
        if rows is not None
    }


def leave_rotation(rotation: Rotation, link: Any, split: Split, outcome: Outcome) -> None:
    """Fold the rotation into the network; rows and losses are those of columns from now on."""
    net = split.net
    net.replace_module(rotation.fold(net.module_, link))
    split.rows = split.rows.with_scaler(split.feed.transform)
    outcome.loss_curve = [*map(rotation.in_columns(split.rows), outcome.loss_curve)]
    net.rewrite_history("train_loss", outcome.loss_curve)
    if split.valid_rows is not None and outcome.validation_loss_curve is not None:
        split.valid_rows = split.valid_rows.with_scaler(split.feed.transform)
        curve = [*map(rotation.in_columns(split.valid_rows), outcome.validation_loss_curve)]
        outcome.validation_loss_curve = curve
        net.rewrite_history("valid_loss", curve[1:])


def train_splits(splits: list[Split], **options: Any) -> int:
    """Train the nets of splits as one network if they agree; return how many were trained.

    `options` are those of ``train_together``.
    """
    return train_together(
        [split.net for split in splits],
        [split.training() for split in splits],
        [split.validation() for split in splits],
        **options,
    )


# Folds: choose the epoch by cross-validation, then train on all rows up to it.


def _fit_folds(plan: Plan, X: Any, sample_weight: Weights, rng: np.random.RandomState) -> Outcome:
    n_folds = plan.n_folds(X.shape[0])
    batches = plan.batches(X.shape[0], X.shape[1], n_folds)
    folds = plan.held_out_parts(X.shape[0], rng)
    losses, measures = [], []
    tasks = current_tasks()
    tasks.begin(2)
    with tasks.task(TASK, n_folds) if len(batches) > 1 else nullcontext():
        for batch in batches:
            splits = [prepare_fold(plan, X, sample_weight, fold) for fold in folds[batch]]
            with remaining_epochs((n_folds - batch.stop + 1) * plan.max_epochs):
                n_trained = train_splits(splits, keep_last=plan.keep_last, until=any)
            for split in splits[:n_trained]:
                held_out = split.held_out
                measures.append(plan.measure(split.net, split.feed, X, held_out, sample_weight))
                losses.append(split.net.validation_losses or [])
            last = splits[n_trained - 1]
            if last.net.stop_ == "interrupted":
                return Outcome.of(last.net, last.feed, measures)
    curve = mean_curve(losses)
    if is_start_best(plan, curve):
        return keep_start(plan, X, sample_weight, measures, last.net, curve)
    return fit_all_rows(plan, X, sample_weight, curve, measures)


# Trials: train on all rows unless held-out rows show that this makes the start worse.


def end_at_start(
    plan: Plan, X: Any, sample_weight: Weights, rng: np.random.RandomState
) -> Outcome | None:
    """The start, if nothing else is promised or trials are sure that it gets worse; else None."""
    if plan.prospect == "linear":
        return start_of(plan, X, sample_weight)
    if plan.prospect not in ("poor", "open"):
        return None
    n_rows, n_columns = X.shape
    if plan.prospect == "poor":  # other rows are held out later on
        rng = np.random.RandomState(rng.randint(2**31))
    parts = plan.held_out_parts(n_rows, rng)
    folds = parts[: plan.n_folds(n_rows)]
    n_trainings = 1 + plan.n_trainings(n_rows, n_columns, len(folds))
    with remaining_epochs(n_trainings * plan.max_epochs):
        share = POOR_TRIAL if plan.prospect == "poor" else OPEN_TRIAL
        trial = _try(plan, X, sample_weight, parts, share)
    if plan.prospect == "open" and trial.t <= PAYS and not trial.is_interrupted:
        # A part of the schedule mostly shows that training pays; only all of it that it does not.
        with remaining_epochs(plan.max_epochs):
            trial = _try(plan, X, sample_weight, folds, 1.0)
    if trial.t >= SPOILS and not trial.is_interrupted:
        return None
    current_tasks().begin(0)  # callbacks of scikit-learn are not told of trials
    outcome = keep_start(plan, X, sample_weight, [], trial.net, trial.curve)
    outcome.measures = [plan.measure(outcome.net, outcome.feed, X, None, sample_weight)]
    return outcome


@dataclass(eq=False)
class Trial:
    """Trainings on a part of the rows for a part of the schedule, to see what they would bring.

    Attributes
    ----------
    net : AutoencoderNet
        The last net that was trained.
    curve : list of float
        Mean held-out loss at the start and after each epoch.
    t : float
        Mean gain of a held-out row over its standard error, as ``self_normalised_sum`` has it. If
        a few far or heavy rows carry the mean, it is near the root of their number at most: one
        of them decides nothing.
    """

    net: AutoencoderNet
    curve: list[float]
    t: float

    @property
    def is_interrupted(self) -> bool:
        return self.net.stop_ == "interrupted"


def _try(
    plan: Plan, X: Any, sample_weight: Weights, parts: list[NDArray[np.intp]], share: float
) -> Trial:
    """Train for a share of the schedule; hold out more parts until it is sure what comes of it."""
    n_rows, n_columns = X.shape
    n_epochs = plan.n_trial_epochs(share)
    n_trainings = plan.n_trainings(n_rows, n_columns, len(parts))
    curves: list[list[float]] = []
    gains: list[NDArray[Any]] = []
    t = 0.0
    for batch in plan.batches(n_rows, n_columns, len(parts)):
        splits = [prepare_fold(plan, X, sample_weight, part) for part in parts[batch]]
        for split in splits:
            split.net.set_params(max_epochs=n_epochs)
            split.net.initialize()
        before = [split.held_out_losses() for split in splits]
        n_later = n_trainings - plan.n_trainings(n_rows, n_columns, batch.stop)
        with remaining_epochs(n_later * n_epochs):
            n_trained = train_splits(splits, keep_last=True)
        curves += [split.net.validation_losses or [] for split in splits[:n_trained]]
        net = splits[n_trained - 1].net
        if net.stop_ == "interrupted":
            break
        gains += [b - split.held_out_losses() for b, split in zip(before, splits, strict=True)]
        seen = np.concatenate(parts[: batch.stop])
        weight = np.ones(len(seen)) if sample_weight is None else sample_weight[seen]
        t = self_normalised_sum(np.concatenate(gains), weight)
        if not SPOILS <= t <= PAYS:
            break
    return Trial(net, mean_curve(curves), t)


def mean_curve(losses: list[list[float]]) -> list[float]:
    """Mean loss of all folds from epoch 0 to the last that all of them have reached."""
    n_epochs = min(map(len, losses)) - 1
    return np.mean([fold_losses[: n_epochs + 1] for fold_losses in losses], axis=0).tolist()


def is_start_best(plan: Plan, curve: list[float]) -> bool:
    """Whether the losses of folds say that training adds nothing to the start."""
    return epoch_of(plan, curve) == 0


def start_of(plan: Plan, X: Any, sample_weight: Weights) -> Outcome:
    """The outcome of a fit that promises nothing beyond its start: no epoch is run."""
    split = split_of_all_rows(plan, X, sample_weight)
    plan.begin(split.net, split.feed)
    current_tasks().begin(0)
    split.net.train(split.training(), n_epochs=0)
    return Outcome.of(
        split.net, split.feed, [plan.measure(split.net, split.feed, X, None, sample_weight)]
    )


def keep_start(
    plan: Plan,
    X: Any,
    sample_weight: Weights,
    measures: list[Any],
    judge: AutoencoderNet,
    curve: list[float],
) -> Outcome:
    """The outcome where training was tried in vain: the start, and the history of a fold."""
    feed = plan.feed.fitted(X, None, sample_weight)
    net = plan.build(None)
    net.adopt(judge, curve, 0)
    return Outcome.of(net, feed, measures)


def fit_all_rows(
    plan: Plan,
    X: Any,
    sample_weight: Weights,
    curve: list[float] | None,
    measures: list[Any],
    build: Build | None = None,
) -> Outcome:
    """Train on all rows; the losses of folds, if there are any, decide which epoch to keep.

    What `build` builds, if that is given, is trained in the plan's rotation to the last epoch.
    """
    if build is None:
        build, rotation, epoch = plan.build, None, epoch_of(plan, curve)
    else:
        rotation, epoch = plan.rotation, plan.max_epochs
    n_epochs = plan.max_epochs if curve is None else len(curve) - 1
    split = split_of_all_rows(plan, X, sample_weight, build(rotation), rotation)

    def outcome_of(net: AutoencoderNet) -> Outcome:
        losses = curve and curve[: net.n_epochs_done + 1]
        outcome = Outcome(net, split.feed, measures, net.training_losses, losses)
        if rotation is not None:
            leave_rotation(rotation, plan.link, replace(split, net=net), outcome)
        return outcome

    def attributes_of(net: AutoencoderNet) -> dict[str, Any]:
        return plan.attributes_after(outcome_of(net), X, sample_weight)

    tasks = current_tasks()
    with (
        tasks.task("all-rows", n_epochs, **tasks.given),
        epochs_lead_to(attributes_of),
        losses_reported_in(loss_conversions(plan, split, rotation)),
    ):
        split.net.train(split.training(), keep_epoch=epoch, n_epochs=n_epochs, known_losses=curve)
    return outcome_of(split.net)


def split_of_all_rows(
    plan: Plan,
    X: Any,
    sample_weight: Weights,
    net: AutoencoderNet | None = None,
    rotation: Rotation | None = None,
) -> Split:
    """What is to be trained on all rows, none held out; the plan's net unless one is given."""
    feed = plan.feed.fitted(X, None, sample_weight)
    net = plan.build(None) if net is None else net
    return split_of(net, feed, X, sample_weight, None, None, rotation)


def epoch_of(plan: Plan, curve: list[float] | None) -> int:
    """The epoch to keep; without losses of folds, the last."""
    if curve is None:
        return plan.max_epochs
    return len(curve) - 1 if plan.keep_last else plan.epoch_to_keep(curve)


def warn_if_interrupted(net: AutoencoderNet) -> None:
    """Warn if Ctrl-C ended the training before its time."""
    if net.stop_ != "interrupted":
        return
    best = net.best_epoch
    kept = "the last weights are" if best is None else f"the best network (epoch {best}) is"
    warn_user(
        f"Training was interrupted after {net.n_epochs_done} of {net.max_epochs} epochs; "
        f"{kept} kept.",
        TrainingInterruptedWarning,
    )
