"""Seconds until skae's test error is as low as that of a tutorial's loop on MNIST.

The loop trains 784-128-16-128-784 with ReLU, Adam at 1e-3 and batches of 256 for 20 epochs. skae
is `AutoencoderTransformer(16)` with all other parameters at their defaults; its test error is
measured during the fit, with the clock stopped, until it is as low as the final one of the loop.

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
STEPS_BETWEEN_ERRORS = 20
WARM_UP_ROWS = 1000
# That of the defaults; longer fits are not tried.
MAX_EPOCHS = 12
LOOP, REACHED, DEFAULT = "loop", "skae, until as good", "skae, whole fit"
SHORTEST = "skae, shortest whole fit as good"
NOTES = f"""\
MNIST, pixels in [0, 1], 16 latents; errors are mean squared errors of pixels of the 10000 test
rows. All numbers are medians over rounds with different seeds, in which the methods take turns in
one process; ratios are taken within a round.

- *{LOOP}*: {SETTING.epochs} epochs of the eager loop (`benchmarks/_eager.py`), the whole function.
- *{REACHED}*: from the start of `fit` of `AutoencoderTransformer(16)` until the test error is at
  most that of the loop. Scaling and PCA count, measuring the error does not; a callback measures
  it before the first step and after every {STEPS_BETWEEN_ERRORS} steps. The schedule is that of the
  whole fit, and what `fit` does after training is not included. Aim: at most {AIM} of the loop's
  seconds.
- *{DEFAULT}*: the complete `fit` of the same estimator, without a callback.
- *{SHORTEST}*: the complete fit with the smallest `max_epochs` whose error is as low as that of
  the loop. Each value of `max_epochs` is tried in a fit of its own, with its own schedule, and only
  the seconds of the one chosen count, as if the right value were known in advance."""


def fit_loop(X, seed):
    """Run the tutorial's loop; return a function that reconstructs rows."""
    torch.manual_seed(seed)
    model = fit_plain(SETTING._replace(n_rows=len(X)), X).eval()

    @torch.no_grad()
    def reconstruct(X):
        return model(torch.from_numpy(X)).numpy()

    return reconstruct


def default_transformer(seed):
    return AutoencoderTransformer(SETTING.code, random_state=seed, **short_training())


# Test error during a fit.


@contextmanager
def recorded_coordinates():
    """Yield a list, to which each fit of wide rows appends its scaler and rotation (or None)."""
    choose, chosen = Rotation.choose, []

    def record(scaler, *args):
        chosen.append((scaler, choose(scaler, *args)))
        return chosen[-1][1]

    with patch.object(Rotation, "choose", record):
        yield chosen


class PixelError:
    """Test error of a network trained in rotated coordinates, with the part that these drop."""

    def __init__(self, X, scaler, rotation):
        rows = scaler.transform(X)
        self.dropped = 0.0
        if rotation is not None:
            centred = rows - rotation.mean
            rows = centred @ rotation.axes.T
            self.dropped = sum_of_squares(centred) - sum_of_squares(rows)
        self.rows = torch.from_numpy(rows)
        # All pixels have the same scale.
        self.cell_weight = float(scaler.scale_[0]) ** 2 / X.size

    @torch.no_grad()
    def of(self, module):
        module.eval()
        residual = module.reconstruct(self.rows) - self.rows
        module.train()
        return self.cell_weight * (sum_of_squares(residual.numpy()) + self.dropped)


def sum_of_squares(X):
    return float(np.square(X).sum(dtype=np.float64))


class TargetTimer(Callback):
    """Records when the test error reaches the target; the clock is stopped while it is measured.

    Must be made just before the fit, in a block of `recorded_coordinates`.
    """

    def __init__(self, X_test, target, chosen):
        self.X_test, self.target, self.chosen = X_test, target, chosen
        self.n_steps, self.reached = 0, None
        self.start = perf_counter()

    def on_train_begin(self, net, **kwargs):
        stopped = perf_counter()
        self.error = PixelError(self.X_test, *self.chosen[-1])
        self.start += perf_counter() - stopped
        self.evaluate(net)

    def on_batch_end(self, net, training=False, **kwargs):
        if not training:
            return
        self.n_steps += 1
        if self.reached is None and self.n_steps % STEPS_BETWEEN_ERRORS == 0:
            self.evaluate(net)

    def evaluate(self, net):
        now = perf_counter()
        error = self.error.of(net.module_)
        if error <= self.target:
            self.reached = {
                "seconds": now - self.start,
                "test error": error,
                "steps": self.n_steps,
            }
        self.start += perf_counter() - now


def time_until(X_train, X_test, seed, target):
    """Seconds, error, epochs and steps when a default fit first reaches the target."""
    with recorded_coordinates() as chosen:
        model = default_transformer(seed)
        timer = TargetTimer(X_test, target, chosen)
        model.set_params(callbacks=[timer]).fit(X_train)
    if timer.reached is None:
        return dict.fromkeys(("seconds", "test error", "steps", "epochs"), np.nan)
    epochs_per_step = model.n_iter_ / timer.n_steps
    return timer.reached | {"epochs": timer.reached["steps"] * epochs_per_step}


# Complete fits.


def time_loop(X_train, X_test, seed):
    start = perf_counter()
    reconstruct = fit_loop(X_train, seed)
    return measure_fit(start, reconstruct, X_test, SETTING.epochs)


def time_fit(model, X_train, X_test):
    start = perf_counter()
    model.fit(X_train)
    return measure_fit(start, model.reconstruct, X_test, model.n_iter_)


def measure_fit(start, reconstruct, X_test, n_epochs):
    """Seconds of a fit that has just ended, its test error and its epochs."""
    seconds = perf_counter() - start
    error = float(np.square(reconstruct(X_test) - X_test).mean())
    return {"seconds": seconds, "test error": error, "epochs": n_epochs}


def time_shortest(X_train, X_test, seed, target):
    """Results of the fit with the smallest `max_epochs` that reaches the target."""
    for epochs in range(1, MAX_EPOCHS + 1):
        model = default_transformer(seed).set_params(max_epochs=epochs)
        results = time_fit(model, X_train, X_test)
        if results["test error"] <= target:
            return results
    return dict.fromkeys(results, np.nan)


# Rounds.


def measure_round(X_train, X_test, seed):
    """Results of all methods in one round."""
    results = {LOOP: time_loop(X_train, X_test, seed)}
    target = results[LOOP]["test error"]
    results[REACHED] = time_until(X_train, X_test, seed, target)
    results[DEFAULT] = time_fit(default_transformer(seed), X_train, X_test)
    results[SHORTEST] = time_shortest(X_train, X_test, seed, target)
    for result in results.values():
        result["over the loop's"] = result["seconds"] / results[LOOP]["seconds"]
    return results


def measure(X_train, X_test, n_threads, n_rounds):
    """Yield the lines of the table."""
    with threads(n_threads):
        # The first fits of a process include imports.
        fit_loop(X_train[:WARM_UP_ROWS], 0)
        default_transformer(0).set_params(max_epochs=1).fit(X_train[:WARM_UP_ROWS])
        rounds = [measure_round(X_train, X_test, seed) for seed in range(n_rounds)]
    for name in rounds[0]:
        row = {"threads": n_threads, "what": name}
        for key in ("seconds", "over the loop's", "test error", "epochs", "steps"):
            values = [results[name][key] for results in rounds if key in results[name]]
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
