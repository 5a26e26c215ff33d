"""Seconds until skae is as good as a tutorial's loop on MNIST.

The loop trains 784-128-16-128-784 with ReLU, Adam at 1e-3 and batches of 256 for 20
epochs. skae is `AutoencoderTransformer(16)` with all other parameters at their defaults:
its test error is looked at during the fit, with the clock stopped, until it is as low as
the loop's last one.

    python benchmarks/bench_time_to_error.py --data folder --threads 1 2
"""

import argparse
from contextlib import contextmanager
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from _common import (
    add_data_argument,
    load_images,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    short_training,
    skippable,
    threads,
    write_markdown,
    yes_no,
)
from _eager import Setting, fit_plain
from skorch.callbacks import Callback

from skae import AutoencoderTransformer
from skae._engine._rotation import Rotation

SETTING = Setting(60000, 784, 128, 16, 256, 20)
AIM = 0.12
STEPS_BETWEEN_LOOKS = 20
WARM_UP_ROWS = 1000
# Longer fits than the default's are not tried.
MAX_EPOCHS = 12
LOOP, REACHED, DEFAULT = "loop", "skae, until as good", "skae, whole fit"
SHORTEST = "skae, shortest whole fit as good"
NOTES = f"""\
MNIST, pixels in [0, 1], 16 latents; errors are mean squared differences of pixels of the 10000
test rows. All are medians over rounds, each with a seed of its own, in which the contestants take
turns in one process; ratios are taken within a round.

- *{LOOP}*: {SETTING.epochs} epochs of the eager loop (`benchmarks/_eager.py`), the whole function.
- *{REACHED}*: from the start of `fit` of `AutoencoderTransformer(16)` until the test error is the
  loop's or less. Scaling and PCA count; looking does not, which a callback does before the first
  step and after every {STEPS_BETWEEN_LOOKS} of them. The schedule is that of the whole fit;
  what follows training is still to be done then. Aim: at most {AIM} of the loop's seconds.
- *{DEFAULT}*: `fit` of the same estimator to its end, without a callback.
- *{SHORTEST}*: the fit with the smallest `max_epochs` that leaves an
  error as low as the loop's. Each `max_epochs` is a fit of its own, with its own schedule, and
  only the seconds of the one that gets there count: it is what someone pays who knows where to
  stop."""


def fit_loop(X, seed):
    """The tutorial's loop; returns what reconstructs rows."""
    torch.manual_seed(seed)
    model = fit_plain(SETTING._replace(n_rows=len(X)), X).eval()

    @torch.no_grad()
    def reconstruct(X):
        return model(torch.from_numpy(X)).numpy()

    return reconstruct


def default_transformer(seed):
    return AutoencoderTransformer(SETTING.code, random_state=seed, **short_training())


# Looking at the error during a fit.


@contextmanager
def remembered_coordinates():
    """Yield a list of the scaler and the rotation (or None) of each fit of wide rows."""
    choose, chosen = Rotation.choose, []

    def remember(scaler, *args):
        chosen.append((scaler, choose(scaler, *args)))
        return chosen[-1][1]

    with patch.object(Rotation, "choose", remember):
        yield chosen


class PixelError:
    """Test error of a network that is trained in coordinates: theirs, and what they drop."""

    def __init__(self, X, scaler, rotation):
        rows = scaler.transform(X)
        self.dropped = 0.0
        if rotation is not None:
            centred = rows - rotation.mean
            rows = centred @ rotation.axes.T
            self.dropped = sum_of_squares(centred) - sum_of_squares(rows)
        self.rows = torch.from_numpy(rows)
        # Pixels have one scale in common.
        self.cell_weight = float(scaler.scale_[0]) ** 2 / X.size

    @torch.no_grad()
    def of(self, module):
        module.eval()
        left = module.reconstruct(self.rows) - self.rows
        module.train()
        return self.cell_weight * (sum_of_squares(left.numpy()) + self.dropped)


def sum_of_squares(X):
    return float(np.square(X).sum(dtype=np.float64))


class Lookout(Callback):
    """Notes when the test error is low enough; its clock stands still while it looks.

    Made just before the fit, in a block of `remembered_coordinates`.
    """

    def __init__(self, X_test, target, chosen):
        self.X_test, self.target, self.chosen = X_test, target, chosen
        self.n_steps, self.reached = 0, None
        self.start = perf_counter()

    def on_train_begin(self, net, **kwargs):
        began = perf_counter()
        self.error = PixelError(self.X_test, *self.chosen[-1])
        self.start += perf_counter() - began
        self.look(net)

    def on_batch_end(self, net, training=False, **kwargs):
        if not training:
            return
        self.n_steps += 1
        if self.reached is None and self.n_steps % STEPS_BETWEEN_LOOKS == 0:
            self.look(net)

    def look(self, net):
        now = perf_counter()
        error = self.error.of(net.module_)
        if error <= self.target:
            told = {"seconds": now - self.start, "test error": error}
            self.reached = told | {"steps": self.n_steps}
        self.start += perf_counter() - now


def time_until(X_train, X_test, seed, target):
    """Seconds, error, epochs and steps when a default fit first reaches the target."""
    with remembered_coordinates() as chosen:
        model = default_transformer(seed)
        lookout = Lookout(X_test, target, chosen)
        model.set_params(callbacks=[lookout]).fit(X_train)
    if lookout.reached is None:
        return dict.fromkeys(("seconds", "test error", "steps", "epochs"), np.nan)
    epochs_per_step = model.n_iter_ / lookout.n_steps
    return lookout.reached | {"epochs": lookout.reached["steps"] * epochs_per_step}


# Whole fits.


def time_loop(X_train, X_test, seed):
    start = perf_counter()
    reconstruct = fit_loop(X_train, seed)
    return whole(start, reconstruct, X_test, SETTING.epochs)


def time_fit(model, X_train, X_test):
    start = perf_counter()
    model.fit(X_train)
    return whole(start, model.reconstruct, X_test, model.n_iter_)


def whole(start, reconstruct, X_test, n_epochs):
    """Seconds of a fit that has just ended, and the error it leaves."""
    seconds = perf_counter() - start
    error = float(np.square(reconstruct(X_test) - X_test).mean())
    return {"seconds": seconds, "test error": error, "epochs": n_epochs}


def time_shortest(X_train, X_test, seed, target):
    """Of the fit with the smallest `max_epochs` that reaches the target."""
    for epochs in range(1, MAX_EPOCHS + 1):
        model = default_transformer(seed).set_params(max_epochs=epochs)
        told = time_fit(model, X_train, X_test)
        if told["test error"] <= target:
            return told
    return dict.fromkeys(told, np.nan)


# Rounds.


def play_round(X_train, X_test, seed):
    """What is told of each contestant."""
    told = {LOOP: time_loop(X_train, X_test, seed)}
    target = told[LOOP]["test error"]
    told[REACHED] = time_until(X_train, X_test, seed, target)
    told[DEFAULT] = time_fit(default_transformer(seed), X_train, X_test)
    told[SHORTEST] = time_shortest(X_train, X_test, seed, target)
    for line in told.values():
        line["over the loop's"] = line["seconds"] / told[LOOP]["seconds"]
    return told


def measure(X_train, X_test, n_threads, n_rounds):
    """Yield the lines of the table."""
    with threads(n_threads):
        # The first fits of a process pay for imports.
        fit_loop(X_train[:WARM_UP_ROWS], 0)
        default_transformer(0).set_params(max_epochs=1).fit(X_train[:WARM_UP_ROWS])
        rounds = [play_round(X_train, X_test, seed) for seed in range(n_rounds)]
    for name in rounds[0]:
        row = {"threads": n_threads, "what": name}
        for key in ("seconds", "over the loop's", "test error", "epochs", "steps"):
            values = [told[name][key] for told in rounds if key in told[name]]
            row[key] = float(np.median(values)) if values else None
        row[f"at most {AIM}"] = yes_no(row["over the loop's"] <= AIM) if name == REACHED else None
        report(row)
        yield row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    args = parse_arguments(parser)
    thread_counts = args.threads[:1] if args.quick else args.threads
    with skippable("MNIST"):
        X_train, _, X_test, _ = load_images("mnist", args.data)
        rows = [row for n in thread_counts for row in measure(X_train, X_test, n, args.rounds)]
        title = "# Seconds to a tutorial's error"
        write_markdown("time_to_error", title, machine_line(), markdown_table(rows), NOTES)


if __name__ == "__main__":
    main()
