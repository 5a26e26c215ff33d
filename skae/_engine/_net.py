"""The ``skorch.NeuralNet`` that estimators hold in ``net_``.

skorch's loop over epochs, callbacks and history are used. Replaced are the epoch
(no bookkeeping per batch), the step (no closure, manual gradients, CUDA graphs) and the loss.
"""

from __future__ import annotations

import copy
import dis
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn

from skae._engine._batches import Batch, Rows, even_batch_size
from skae._engine._callbacks import (
    BestWeights,
    DivergenceGuard,
    EpochTimer,
    InternalCallback,
    TrainingStopped,
    watches_batches,
)
from skae._engine._cuda_graphs import GraphedSteps
from skae._engine._group import Group
from skae._engine._grouped_steps import GroupedSteps
from skae._engine._inference import InferenceMixin
from skae._engine._losses import Objective
from skae._engine._noise import Corruption
from skae._engine._optimizer import ORTHOGONAL_RISE, RISE, FlatAdamW, trapezoid
from skae._engine._orthogonal import matrices_of
from skae._engine._progress import current_progress
from skae._engine._runtime import autocast, borrowed_global_generator, moved_generator, on_device
from skae._engine._steps import StepMixin
from skae._engine._tasks import current_tasks
from skae.networks._autoencoder import Autoencoder
from skae.networks._layers import set_generators, weights_of

# The instruction of a ``raise`` statement.
RAISE = dis.opmap["RAISE_VARARGS"]
# Attributes that exist only in training: they hold batches or the module.
WHILE_TRAINING = ("layers_", "passes_", "take_step_")
# Parameters of skorch that have other defaults here, and the defaults of all.
OWN_DEFAULTS: dict[str, Any] = {"train_split": None, "optimizer": torch.optim.AdamW}
DEFAULTS = {k: p.default for k, p in signature(NeuralNet.__init__).parameters.items()}
DEFAULTS |= OWN_DEFAULTS


class AutoencoderNet(StepMixin, InferenceMixin, NeuralNet):
    """Trains an autoencoder on batches of scaled rows.

    Parameters
    ----------
    module : Autoencoder
        An initialised module, trained in place.
    criterion : Objective
    corruption : Corruption
    batch_generator : torch.Generator
        Source of the shuffling of rows.
    learning_rate : float
        Peak of the trapezoidal schedule of ``train``.
    partial_rate : float
        Constant learning rate of ``train_on``.
    alpha : float
        Decoupled weight decay.
    max_norm : float
        Gradients are scaled down to this norm.
    precision : {"float32", "bfloat16"}
    orthogonal : bool
        Whether weight matrices are moved by orthogonalised momentum instead of Adam.
    patience : int or None
        Epochs without a new best validation loss before training stops.
    global_seed : int or None
        Seed of torch's global generator during training, for networks that may draw from it.
    **kwargs : dict
        Parameters of ``skorch.NeuralNet``.

    Notes
    -----
    As with any net of skorch whose `module` is initialised, ``sklearn.base.clone`` copies the
    module as it is, with its weights, and drops the history and the optimiser.
    """

    layers_: list[nn.Module]
    stop_: str
    valid_rows_: Rows | None

    def __init__(
        self,
        module: Autoencoder,
        criterion: Objective,
        *,
        corruption: Corruption,
        batch_generator: torch.Generator,
        learning_rate: float = 3e-3,
        partial_rate: float = 1e-3,
        alpha: float = 0.0,
        max_norm: float = 5.0,
        precision: str = "float32",
        orthogonal: bool = False,
        patience: int | None = None,
        global_seed: int | None = None,
        **kwargs: Any,
    ):
        # get_params returns both, and sklearn.base.clone passes them back.
        super().__init__(module, criterion, **{**OWN_DEFAULTS, **kwargs})
        self.corruption = corruption
        self.batch_generator = batch_generator
        self.learning_rate = learning_rate
        self.partial_rate = partial_rate
        self.alpha = alpha
        self.max_norm = max_norm
        self.precision = precision
        self.orthogonal = orthogonal
        self.patience = patience
        self.global_seed = global_seed

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("divergence_guard", DivergenceGuard()),
            ("best_weights", BestWeights(self.patience)),
        ]

    def set_params(self, **params: Any) -> AutoencoderNet:
        before = dict(self.callbacks_) if self.initialized_ else {}
        super().set_params(**params)
        # skorch replaces all callbacks to set a parameter of one: carry over their results.
        for name, callback in self.callbacks_ if before else ():
            if isinstance(callback, InternalCallback) and name in before:
                results = {k: v for k, v in vars(before[name]).items() if k.endswith("_")}
                callback.__dict__.update(results)
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> AutoencoderNet:
        groups: list[dict[str, Any]] = []
        matrices = {id(p) for p in matrices_of(self.module_)} if self.orthogonal else set()
        for parameters, share, alpha in self._parameter_groups():
            moved = [p for p in parameters if id(p) in matrices]
            others = [p for p in parameters if id(p) not in matrices]
            shared = {"share": share, "weight_decay": alpha}
            groups.append({"params": others, **shared})
            if moved:
                groups.append({"params": moved, "orthogonal": True, **shared})
        self.optimizer_ = FlatAdamW(groups, self.learning_rate, self.max_norm)
        return self

    def _parameter_groups(self) -> list[tuple[list[nn.Parameter], float, float]]:
        """Parameters, their factor of the learning rate and their weight decay."""
        decayed = weights_of(self.module_)
        plain = [p for p in self.module_.parameters() if not any(p is w for w in decayed)]
        return [(decayed, 1.0, self.alpha), (plain, 1.0, 0.0)]

    # `skae._storage` makes the states, as it knows all layers.

    def __setstate__(self, state: Any) -> None:
        state.restore(self)

    # Training.

    def train(
        self,
        rows: Rows,
        valid: Rows | None = None,
        keep_epoch: int | None = None,
        n_epochs: int | None = None,
        keep_last: bool = False,
        known_losses: list[float] | None = None,
    ) -> None:
        """Train on `rows` with the learning rate schedule of ``max_epochs`` epochs.

        Afterwards ``stop_`` is "finished", "stopped" (by a callback) or "interrupted".

        Parameters
        ----------
        rows, valid : Rows
            The epoch with the lowest loss on `valid` is kept.
        keep_epoch : int, default=None
            The epoch to keep if there are no `valid` rows; None means the last.
        n_epochs : int, default=None
            Train for so many of ``max_epochs`` only.
        keep_last : bool, default=False
            Keep the last epoch, whatever its loss on `valid`.
        known_losses : list of float, default=None
            Validation losses from epoch 0 on, to be recorded if there are no `valid` rows.
        """
        self.valid_rows_ = valid
        self.initialized_ = False  # a new optimiser and history; the module stays
        self.initialize()
        best_weights = self._best_weights
        best_weights.keep_epoch_, best_weights.keep_last_ = keep_epoch, keep_last
        best_weights.known_losses_ = known_losses
        n_steps = self.max_epochs * -(-len(rows) // self.batch_size)
        rise = ORTHOGONAL_RISE if self.orthogonal else RISE
        self.schedule_ = iter(trapezoid(n_steps, self.learning_rate, rise))
        try:
            self._run_epochs(rows, n_epochs)
        finally:
            self.schedule_ = self.valid_rows_ = None
            self.optimizer_.state.clear()  # twice the size of the weights, and not used again
        self._check_outcome(rows)

    def train_on(self, rows: Rows) -> None:
        """Train one epoch on `rows` at a constant learning rate, without validation.

        The optimiser continues from the last call; after ``train`` it starts anew.
        """
        if not self.initialized_:
            self.initialize()
        self._set_rate(self.partial_rate)
        self.schedule_ = self.valid_rows_ = self._best_weights.keep_epoch_ = None
        self._best_weights.known_losses_ = None
        self.set_params(max_epochs=1)
        self._run_epochs(rows)
        self._check_outcome(rows)

    def _run_epochs(self, rows: Rows, n_epochs: int | None = None) -> None:
        """Train; Ctrl-C ends it in order among the epochs, and is raised before and after them."""
        self.stop_ = ""
        # As skorch's partial_fit, which would swallow a Ctrl-C that comes at the end of fit_loop.
        self.notify("on_train_begin", X=rows, y=None)
        checkpoints = rows.group.checkpoints
        if checkpoints is not None:  # of an attempt that one of the processes did not survive
            n_done = checkpoints.begin(self, -(-len(rows) // self.batch_size))
            n_epochs = max((self.max_epochs if n_epochs is None else n_epochs) - n_done, 0)
        self.fit_loop(rows, epochs=n_epochs)
        self.notify("on_train_end", X=rows, y=None)

    def _check_outcome(self, rows: Rows) -> None:
        # The mean loss of an epoch does not cover what its last steps did to the weights.
        guard: DivergenceGuard = dict(self.callbacks_)["divergence_guard"]
        guard.check(self, self.first_batch_loss(rows))

    def adopt(self, joint: AutoencoderNet, losses: list[float] | None, best_epoch: int) -> None:
        """Take over the history of `joint`; its training losses are means over all members.

        `losses` are those on validation rows, from epoch 0 to the last that counts.
        """
        self.initialized_ = False
        self.initialize()
        self.stop_ = joint.stop_
        self.restore_history(joint.history[: None if losses is None else len(losses) - 1])
        if losses is not None:
            self.rewrite_history("valid_loss", losses[1:])
        self._best_weights.losses_ = losses or []
        self._best_weights.best_epoch_ = best_epoch

    def replace_module(self, module: Autoencoder) -> None:
        """Replace the module; the optimiser starts anew."""
        self.module = self.module_ = module
        with self._current_init_context("optimizer"):
            self.initialize_optimizer()

    def move_to(self, device: torch.device, precision: str) -> None:
        """Move to another device."""
        self.device = device
        self.precision = precision
        self.module_.to(device)
        self.criterion_.to(device)
        self.corruption.generator = moved_generator(self.corruption.generator, device)
        self.batch_generator = moved_generator(self.batch_generator, device)
        for state in self.optimizer_.state.values():
            state.update({name: value.to(device) for name, value in state.items()})

    def copy(self) -> AutoencoderNet:
        """A deep copy that shares the user's callbacks."""
        callbacks = [c[1] if isinstance(c, tuple) else c for c in self.callbacks or []]
        return copy.deepcopy(self, {id(callback): callback for callback in callbacks})

    def as_if_stopped(self) -> AutoencoderNet:
        """A copy as this net would be if its training stopped after this epoch."""
        net = self.copy()
        if self._best_weights.weights_ is not None:
            net.module_.load_state_dict(self._best_weights.weights_)
        net.optimizer_.state.clear()
        net.stop_ = "stopped"
        return net

    def restore_history(self, epochs: Iterable[dict[str, Any]]) -> None:
        """Replace the history."""
        self.history_ = History(dict(epoch) for epoch in epochs)

    def rewrite_history(self, key: str, values: list[float]) -> None:
        """Replace a value of each epoch of the history."""
        for epoch, value in zip(self.history, values, strict=False):
            epoch[key] = value

    @property
    def best_epoch(self) -> int | None:
        """Epoch whose weights are in the module; None without validation."""
        return self._best_weights.best_epoch_

    @property
    def training_losses(self) -> list[float]:
        """One loss per complete epoch."""
        return [epoch["train_loss"] for epoch in self.history if "train_loss" in epoch]

    @property
    def validation_losses(self) -> list[float] | None:
        """The losses of epoch 0 and of each later one; None without validation."""
        return list(self._best_weights.losses_) or None

    @property
    def _best_weights(self) -> BestWeights:
        return dict(self.callbacks_)["best_weights"]

    @property
    def n_epochs_done(self) -> int:
        return len(self.training_losses)

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        return X, self.valid_rows_

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        if not isinstance(dataset, Rows):
            return super().get_iterator(dataset, training=training)
        if training:
            size = self.batch_size
            if self.orthogonal:  # the update's length would be the same after a few rows
                size = even_batch_size(len(dataset), size)
            return dataset.cut(size, self.batch_generator)
        return dataset.cut(max(self.batch_size, self._inference_batch_size))

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **kwargs: Any) -> Any:
        n_epochs = self.max_epochs if epochs is None else epochs
        self.stop_, stop = "", "finished"
        current_progress().begin(n_epochs)
        self.watched_ = any(watches_batches(callback) for _, callback in self.callbacks_)
        set_generators(self.module_, self.corruption.generator)
        try:
            with self._global_generator(), on_device(self.device), self.optimizer_.flat():
                self.layers_ = list(self.module_.modules())
                self.take_step_ = self._make_steps(X)
                self.passes_ = self._make_passes()
                try:
                    super().fit_loop(X, y, epochs=n_epochs, **kwargs)
                except TrainingStopped:
                    stop = "stopped"
                except KeyboardInterrupt:
                    if X.group.size > 1:  # the other processes go on, and would wait for this one
                        raise
                    stop = "interrupted"
                    current_tasks().drop_epoch()
        finally:
            for name in WHILE_TRAINING:
                self.__dict__.pop(name, None)
            current_progress().end(stop)
        self.stop_ = stop
        return self

    def _make_steps(self, rows: Rows) -> Callable[[Batch], Tensor]:
        """What takes the steps of a training."""
        if rows.is_shared:
            return GroupedSteps(self, rows.group)
        return GraphedSteps(self) if self._is_graphed() else self._eager_step

    def _set_training(self, training: bool = True) -> None:
        layers = vars(self).get("layers_")
        if layers is None or self.global_seed is not None:
            super()._set_training(training)
            return
        # skae's layers only need the flag; torch's walk over the module tree takes as long as
        # a step of a small network.
        for layer in layers:
            vars(layer)["training"] = training

    def _global_generator(self) -> AbstractContextManager[None]:
        """Seed torch's global generator, which a user's layers may draw from, for a block."""
        if self.global_seed is None:
            return nullcontext()
        return borrowed_global_generator(self.global_seed + len(self.history))

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        stop: TrainingStopped | None = None
        if method_name == "on_epoch_begin":
            current_tasks().begin_epoch()
        try:
            getattr(self, method_name)(self, **cb_kwargs)
            for _, callback in self.callbacks_:
                stop = self._notify_one(callback, method_name, cb_kwargs) or stop
        except TrainingStopped as request:
            stop = request
        finally:
            if method_name == "on_epoch_end":  # also if a callback has raised
                current_progress().update(self.history[-1])
        if method_name == "on_epoch_end" and current_tasks().end_epoch(self):
            stop = stop or TrainingStopped()
        if method_name == "on_epoch_end" and isinstance(self.take_step_, GroupedSteps):
            self.take_step_.note_epoch(is_last=stop is not None)
        if stop is not None:
            raise stop

    def _notify_one(
        self, callback: Any, method_name: str, cb_kwargs: dict[str, Any]
    ) -> TrainingStopped | None:
        """Notify one callback; return the request of an internal one to stop training.

        It is raised after all callbacks were notified.
        """
        is_internal = isinstance(callback, InternalCallback)
        try:
            getattr(callback, method_name)(self, **cb_kwargs)
        except TrainingStopped as stop:
            if is_internal:
                return stop
            raise
        except KeyboardInterrupt as stop:
            if is_internal or not _is_raised_by_statement(stop):
                raise  # Ctrl-C
            raise TrainingStopped from stop  # skorch's callbacks stop training by this
        return None

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        if iterator is None:
            return
        if training:
            self.optimizer_.record_frozen()
        if self.watched_:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if self.watched_ and training:
            losses = self.history[-1, "batches", :, f"{prefix}_loss"]
            self.history.record(f"{prefix}_loss", float(np.average(losses, weights=iterator.sizes)))
            return
        if not training:
            loss = self._mean_loss(iterator, iterator.rows.group)
            self._record_loss(prefix, loss, len(iterator.rows))
            return
        self._set_training(True)
        # The sum stays on the device: reading it here would synchronise a GPU.
        total = torch.zeros((), device=self.device)
        n_rows = 0
        with torch.set_grad_enabled(self.passes_ is None):
            for batch in iterator:
                n_in_batch = batch[0].shape[-2]
                total.add_(self._step(batch), alpha=n_in_batch)
                n_rows += n_in_batch
        total_loss = float(total)
        if isinstance(self.take_step_, GroupedSteps):
            self.take_step_.synchronise()
            (total_loss,), n_rows = iterator.rows.group.sums(total_loss), len(iterator.rows)
        self.history.new_batch()
        self._record_loss(prefix, total_loss / n_rows, n_rows)

    def _record_loss(self, prefix: str, loss: float, n_rows: int) -> None:
        """Record the loss of an epoch, for callbacks also as that of its only batch."""
        self.history.record(f"{prefix}_loss", loss)
        self.history.record_batch(f"{prefix}_loss", loss)
        self.history.record_batch(f"{prefix}_batch_size", n_rows)

    def validation_loss(self, rows: Rows) -> float:
        """Mean reconstruction loss per cell, without noise or penalties.

        Nets that are trained as one use ``member_losses`` instead.
        """
        return self._mean_loss(self.get_iterator(rows, training=False), rows.group)

    def first_batch_loss(self, rows: Rows) -> float:
        """Loss of the first batch, without a step."""
        # Python drops a Ctrl-C that comes while it closes a generator by itself.
        batches: Any = iter(rows.cut(self.batch_size))
        with closing(batches):
            return self._mean_loss(islice(batches, 1), rows.group)

    @torch.no_grad()
    def _mean_loss(self, batches: Any, group: Group) -> float:
        self._set_training(False)
        total, total_weight = torch.zeros(()), 0.0
        for x, weight in batches:
            with autocast(self.precision, x.device):
                loss = self.get_loss(self.infer(x), weight, X=x)
            total = total.to(loss.device) + loss * x.shape[-2]
            total_weight += x.shape[-2] * (1.0 if weight is None else float(weight.mean()))
        total_loss, total_weight = group.sums(float(total), total_weight)
        return total_loss / total_weight


def _is_raised_by_statement(error: BaseException) -> bool:
    """Whether ``raise`` raised it, as callbacks do to stop; Ctrl-C comes at any instruction."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or trace.tb_frame.f_code.co_code[trace.tb_lasti] == RAISE
