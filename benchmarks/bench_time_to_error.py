"""Seconds until skae is as good as a tutorial's loop on MNIST.

The loop trains 784-128-16-128-784 with ReLU, Adam at 1e-3 and batches of 256 for 20
epochs. skae is `AutoencoderTransformer(16)` with all other parameters at their
defaults but `max_epochs`, whose smallest value is looked for that gives a test error as
low as the loop's. Whole fits are timed, scaling and PCA included; the looking is not.

    python benchmarks/bench_time_to_error.py --data folder --threads 1 2
"""

import argparse
from functools import partial
from time import perf_counter

import numpy as np
import torch
from _common import (
    add_data_argument,
    load_images,
    machine_line,
    markdown_table,
    report,
    threads,
    write_markdown,
)
from _eager import Setting, fit_plain

from skae import AutoencoderTransformer

SETTING = Setting(60000, 784, 128, 16, 256, 20)
AIM = 0.12
# Longer fits than the default's are not tried.
MAX_EPOCHS = 12
NOTES = f"""\
MNIST, pixels in [0, 1], 16 latents; errors are mean squared differences of pixels of the 10000
test rows. All are medians over rounds, each with a seed of its own, in which the contestants take
turns in one process.

- *loop*: {SETTING.epochs} epochs of the eager loop (`benchmarks/_eager.py`), the whole function.
- *skae, as good*: the fit with the smallest `max_epochs` whose test error is the loop's or less.
  Each `max_epochs` is a fit of its own, with its own schedule, and only the seconds of the one
  that gets there count: it is what someone pays who knows where to stop. Aim: at most {AIM}
  of the loop's seconds. An epoch is the least that can be asked for.
- *skae, default*: `AutoencoderTransformer(16)`."""


def fit_loop(X, seed):
    """The tutorial's loop; returns what reconstructs rows."""
    torch.manual_seed(seed)
    model = fit_plain(SETTING._replace(n_rows=len(X)), X).eval()

    @torch.no_grad()
    def reconstruct(X):
        return model(torch.from_numpy(X)).numpy()

    return reconstruct


def fit_skae(X, seed, max_epochs="auto"):
    model = AutoencoderTransformer(SETTING.code, max_epochs=max_epochs, random_state=seed)
    return model.fit(X).reconstruct


def seconds_and_error(fit, X_train, X_test, seed):
    """Seconds of a fit, and the test error that it leaves."""
    start = perf_counter()
    reconstruct = fit(X_train, seed)
    seconds = perf_counter() - start
    return seconds, float(np.square(reconstruct(X_test) - X_test).mean())


def play_round(X_train, X_test, seed):
    """Seconds and errors of all contestants."""
    told = {}
    told["loop, s"], target = seconds_and_error(fit_loop, X_train, X_test, seed)
    told["loop, test error"] = target
    for epochs in range(1, MAX_EPOCHS + 1):
        fit = partial(fit_skae, max_epochs=epochs)
        seconds, error = seconds_and_error(fit, X_train, X_test, seed)
        if error <= target:
            break
    else:
        epochs = seconds = error = np.nan
    told |= {"skae, as good, epochs": epochs, "s": seconds, "test error": error}
    told["ratio of seconds"] = seconds / told["loop, s"]
    told["skae, default, s"], told["skae, default, test error"] = seconds_and_error(
        fit_skae, X_train, X_test, seed
    )
    return told


def measure(X_train, X_test, n_threads, n_rounds):
    """One line of the table."""
    with threads(n_threads):
        fit_skae(X_train[:2000], 0, 1)  # the first fit of a process pays for imports
        rounds = [play_round(X_train, X_test, seed) for seed in range(n_rounds)]
    row = {name: float(np.median([told[name] for told in rounds])) for name in rounds[0]}
    kept = "yes" if row["ratio of seconds"] <= AIM else "no"
    row = {"threads": n_threads} | row | {f"at most {AIM}": kept}
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows; writes no file")
    args = parser.parse_args()
    X_train, _, X_test, _ = load_images("mnist", args.data)
    if args.quick:
        measure(X_train[:3000], X_test[:1000], args.threads[0], 1)
        return
    rows = [measure(X_train, X_test, n_threads, args.rounds) for n_threads in args.threads]
    title = "# Seconds to a tutorial's error"
    write_markdown("time_to_error", title, machine_line(), markdown_table(rows), NOTES)


if __name__ == "__main__":
    main()
