"""What a training leaves behind after each epoch, for it to go on elsewhere."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import islice
from math import inf
from time import perf_counter
from typing import Any

SECONDS_APART = 0.5
# What the callbacks of a training have found so far.
OF_CALLBACKS = {
    "best_weights": ("losses_", "best_epoch_", "weights_"),
    "divergence_guard": ("start_",),
}


class Checkpoints:
    """The states of the trainings of one fit, in their order: each at its last complete epoch.

    A fit that begins again computes what it needs before a training as it did, and goes on where
    that training had come to.

    Parameters
    ----------
    states : list of dict, default=()
        Of an earlier attempt.
    keep : callable, default=None
        Called with all states, pickled, after epochs, but not more often than `SECONDS_APART`; on
        the first process only.
    """

    def __init__(self, states: Any = (), keep: Callable[[bytes], Any] | None = None):
        self.states = [*states]
        self.keep = keep
        self.place = -1
        self.kept_at = -inf

    def begin(self, net: Any, n_steps_per_epoch: int) -> int:
        """Begin the next training of a net, or go on with it; return the epochs that are done."""
        self.place += 1
        if self.place >= len(self.states):
            return 0
        state = self.states[self.place]
        if state is None:  # none of its epochs was noted
            return 0
        net.module_.load_state_dict(state["module"])
        for group, values in zip(net.optimizer_.param_groups, state["optimizer"], strict=True):
            if values:
                net.optimizer_.state[group["params"][0]] = values
        net.restore_history(state["history"])
        callbacks = dict(net.callbacks_)
        for name, found in state["callbacks"].items():
            callbacks[name].__dict__.update(found)
        net.batch_generator.set_state(state["batches"])
        net.corruption.generator.set_state(state["noise"])
        n_done = len(state["history"])
        if net.schedule_ is not None:
            net.schedule_ = islice(net.schedule_, n_done * n_steps_per_epoch, None)
        return net.max_epochs if state["is_over"] else n_done

    def save(self, net: Any, is_over: bool) -> None:
        """Note the state of a net after an epoch."""
        if self.keep is None or perf_counter() < self.kept_at + SECONDS_APART:
            return
        optimizer, callbacks = net.optimizer_, dict(net.callbacks_)
        state = {
            "module": net.module_.state_dict(),
            "optimizer": [
                dict(optimizer.state[group["params"][0]]) if group["params"] else {}
                for group in optimizer.param_groups
            ],
            "history": [dict(epoch) for epoch in net.history],
            "callbacks": {
                name: {key: vars(callbacks[name])[key] for key in keys}
                for name, keys in OF_CALLBACKS.items()
            },
            "batches": net.batch_generator.get_state(),
            "noise": net.corruption.generator.get_state(),
            "is_over": is_over,
        }
        del self.states[self.place :]
        self.states += [None] * (self.place - len(self.states))
        self.states.append(copy.deepcopy(state))
        self.keep(pickle.dumps(self.states))
        self.kept_at = perf_counter()
