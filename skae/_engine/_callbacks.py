"""Callbacks of every training; they run once per epoch, never per batch."""

from __future__ import annotations

import math
from typing import Any

import skorch.callbacks
import torch
from skorch.callbacks import Callback

from skae.exceptions import DivergenceError

# Training does not recover from a loss this many times the initial one.
EXPLOSION = 1e6


class TrainingStopped(KeyboardInterrupt):
    """Raised by a callback to stop training; skorch's callbacks raise ``KeyboardInterrupt``."""


class InternalCallback(Callback):
    """A callback of skae: it stops training by ``TrainingStopped`` only.

    A ``KeyboardInterrupt`` that passes through it is therefore a Ctrl-C.
    """


class EpochTimer(InternalCallback, skorch.callbacks.EpochTimer):
    """Record the seconds of each epoch in the history, as ``dur``."""


class BestWeights(InternalCallback):
    """Keep the weights of the epoch with the lowest validation loss, epoch 0 included.

    Parameters
    ----------
    patience : int or None
        Training stops after this many epochs without a new best; None never stops.

    Attributes
    ----------
    keep_epoch_ : int or None
        The epoch to keep without validation rows.
    known_losses_ : list of float or None
        Validation losses from epoch 0 on, to be recorded without validation rows.
    keep_last_ : bool
        Whether the last epoch is kept, whatever its loss.
    """

    def __init__(self, patience: int | None = None):
        self.patience = patience

    def initialize(self) -> BestWeights:
        self.keep_epoch_: int | None = None
        self.known_losses_: list[float] | None = None
        self.keep_last_ = False
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.losses_: list[float] = []
        self.best_epoch_: int | None = None
        self.weights_: dict[str, torch.Tensor] | None = None

    def on_epoch_begin(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if self.keep_epoch_ == 0 and len(net.history) == 1:
            self._keep(net, 0)
        if dataset_valid is not None and not self.losses_:
            self._compare(net, net.validation_loss(dataset_valid))

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if self.keep_epoch_ == len(net.history):
            self._keep(net, len(net.history))
        if self.known_losses_ is not None:
            net.history.record("valid_loss", self.known_losses_[len(net.history)])
        if dataset_valid is None:
            return
        self._compare(net, net.history[-1, "valid_loss"])
        # Read by skorch's callbacks, for which there is no epoch 0.
        losses = [epoch["valid_loss"] for epoch in net.history if "valid_loss" in epoch]
        net.history.record("valid_loss_best", losses[-1] == min(losses))
        if should_stop(self.losses_, self.best_epoch_, self.patience):
            raise TrainingStopped

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
        self.weights_ = None  # a fitted net needs no second copy of its weights

    def _compare(self, net: Any, loss: float) -> None:
        losses, best = [*self.losses_, loss], (self.best_epoch_, self.weights_)
        if self.keep_last_ or is_new_best(losses, self.best_epoch_):
            best = len(losses) - 1, _copied_weights(net)
        # All in one statement without a call, which no Ctrl-C comes into.
        self.losses_, (self.best_epoch_, self.weights_) = losses, best

    def _keep(self, net: Any, epoch: int) -> None:
        weights = _copied_weights(net)
        self.best_epoch_, self.weights_ = epoch, weights


def _copied_weights(net: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in net.module_.state_dict().items()}


class DivergenceGuard(InternalCallback):
    """Raise a ``DivergenceError`` when the loss explodes."""

    def initialize(self) -> DivergenceGuard:
        self.start_: float | None = None
        return self

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        if self.start_ is None:
            self.start_ = net.first_batch_loss(dataset_train)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.check(net, net.history[-1, "train_loss"])

    def check(self, net: Any, loss: float) -> None:
        """Raise if the loss is not finite or too large to recover from."""
        start = self.start_ or 0.0  # unknown if Ctrl-C came before it
        if math.isfinite(loss) and loss <= EXPLOSION * max(start, 1.0):
            return
        raise DivergenceError(
            f"The training loss became {loss:.3g} in epoch {len(net.history)} with "
            f"learning_rate={net.learning_rate!r}. Lower learning_rate, or scale X "
            "if some columns hold values far larger than the rest."
        )


def is_new_best(losses: list[float], best_epoch: int | None) -> bool:
    """Whether the last validation loss is the lowest; `best_epoch` is of those before it."""
    return best_epoch is None or losses[-1] < losses[best_epoch]


def should_stop(losses: list[float], best_epoch: int | None, patience: int | None) -> bool:
    """Whether to stop training early, given the validation losses from epoch 0 on."""
    # A loss above that of the start is no reason: at the peak of the learning rate it says
    # nothing of the end of the schedule.
    return patience is not None and len(losses) - 1 - (best_epoch or 0) >= patience


def watches_batches(callback: Callback) -> bool:
    """Whether a callback has a hook that runs per batch."""
    hooks = ("on_batch_begin", "on_batch_end", "on_grad_computed")
    return any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in hooks)
