"""
================================
Watching training with callbacks
================================

How can your own code follow the training of an autoencoder? Estimators accept skorch's callbacks:
objects whose methods are called when training begins, after each epoch and when it ends. This
example writes one that records the learning rate, adds one that comes with skorch, and plots the
learning rate below the loss.

A callback is a class with one short method; this one reads the learning rate from
``net.optimizer_.param_groups``. A callback may read everything, but the learning rate follows the
estimator's schedule: it rises over the first 3 % of training, stays constant, and falls to zero
over the last 40 %.
"""  # noqa: D400

# %%
# A callback
# ----------
# skorch calls ``on_epoch_end`` with the net. Its ``optimizer_`` holds the learning rate of the last
# step, and its ``history`` has an entry for each epoch. What a callback records in the history is
# kept in the fitted estimator.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback, EpochTimer

from skae import AutoencoderTransformer
from skae.plotting import LossCurveDisplay


class LearningRateLogger(Callback):
    """Record the learning rate at the end of each epoch."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("learning_rate", net.optimizer_.param_groups[0]["lr"])


X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)

autoencoder = AutoencoderTransformer(
    8, max_epochs=60, callbacks=[LearningRateLogger(), EpochTimer()], random_state=0
)
autoencoder.fit(X_train)

# %%
# What was recorded
# -----------------
# ``net_`` is a skorch net, and its history is a list with a dictionary for each epoch.

history = autoencoder.net_.history
learning_rates = np.array(history[:, "learning_rate"])
print(f"Epochs: {len(history)}, the best by validation loss: {autoencoder.best_epoch_}")
print(f"Peak of the learning rate: {learning_rates.max():g}")
print(f"Learning rate at the end of the last epoch: {learning_rates[-1]:.2g}")

figure, (above, below) = plt.subplots(
    2, 1, figsize=(7, 5), sharex=True, height_ratios=[2, 1], layout="constrained"
)
LossCurveDisplay.from_estimator(autoencoder, ax=above)
above.set_xlabel("")
below.plot(np.arange(1, len(history) + 1), learning_rates, color="tab:green")
below.set(xlabel="Epoch", ylabel="Learning rate")
below.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The loss falls most while the learning rate is high, and again as it decreases to zero. This is
# why the last epochs are usually the best, and why training is not cut short by default.
#
# Stopping from a callback
# ------------------------
# A callback ends training by raising ``KeyboardInterrupt``, as skorch's own callbacks do; the best
# network so far is kept. This one stops as soon as the validation loss is good enough.


class GoodEnough(Callback):
    """End training when the validation loss is below a limit."""

    def __init__(self, limit):
        self.limit = limit

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1, "valid_loss"] < self.limit:
            raise KeyboardInterrupt


limit = 1.2 * min(autoencoder.validation_loss_curve_)
quick = AutoencoderTransformer(8, max_epochs=60, callbacks=[GoodEnough(limit)], random_state=0)
quick.fit(X_train)
print(f"Stopped after {quick.n_iter_} of {quick.max_epochs} epochs")
for name, model in {"all epochs": autoencoder, "stopped": quick}.items():
    error = model.reconstruction_error(X_test).mean()
    print(f"Mean squared error of test digits, {name}: {error:.3f}")

# %%
# Two things to know. With callbacks, all tables are trained once and on a single split, because a
# callback can follow only one training; without, these digits would be trained on all rows, and
# ``validation_loss_curve_`` would be None. And methods that are called for
# every batch (such as ``on_batch_end``) work, but slow training down.
