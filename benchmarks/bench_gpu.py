"""Training time on a GPU compared with an eager PyTorch loop there.

python benchmarks/bench_gpu.py
"""

import argparse
from functools import partial

import _eager as eager
import numpy as np
import torch
from _common import (
    curved_table,
    in_turn,
    machine_line,
    markdown_table,
    median_ratios,
    parse_arguments,
    report,
    seconds_of,
    write_markdown,
    yes_no,
)
from _eager import Setting

from skae import AutoencoderTransformer

SECONDS, SPEED_UP = 1.0, 5.0
NOTES = f"""\
Seconds of a whole fit with all rows on the GPU, medians over rounds in which both methods take
turns in one process, after a warm-up round; the GPU is synchronised before the clock is read. Both
train the same plain network with ReLU, Adam and squared error; skae's steps are captured once as a
CUDA graph. Aims: {SECONDS} s, and {SPEED_UP:.0f} times as fast as the eager loop."""


def fit_skae(setting, X):
    AutoencoderTransformer(
        setting.code,
        hidden_layer_sizes=(setting.hidden,),
        activation="relu",
        batch_size=setting.batch_size,
        max_epochs=setting.epochs,
        init="random",
        latent_noise=0,
        input_noise=0,
        early_stopping=False,
        random_state=0,
        device="cuda",
    ).fit(X)


def timed(fit, setting, X):
    """Seconds of a fit, until the GPU has finished."""

    def run():
        fit(setting, X)
        torch.cuda.synchronize()

    return seconds_of(run)


def measure(setting, n_rounds):
    """One line of the table."""
    X = curved_table(setting.n_rows, setting.n_features, setting.code)
    fits = {"eager": partial(eager.fit_plain, device="cuda"), "skae": fit_skae}
    calls = {name: partial(timed, fit, setting, X) for name, fit in fits.items()}
    in_turn(calls, 1)
    seconds = in_turn(calls, n_rounds)
    skae_seconds = np.median(seconds["skae"])
    speed_up = 1 / median_ratios(seconds, "eager")["skae"]
    row = {
        "table and network": str(setting),
        "eager, s": float(np.median(seconds["eager"])),
        "skae, s": float(skae_seconds),
        "times as fast": speed_up,
        "kept": yes_no(skae_seconds <= SECONDS and speed_up >= SPEED_UP),
    }
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    args = parse_arguments(parser)
    if not torch.cuda.is_available():
        print("Not run: torch sees no CUDA device.")
        return
    epochs, rounds = (2, 1) if args.quick else (20, args.rounds)
    rows = [measure(Setting(60000, 784, 128, 16, 1024, epochs), rounds)]
    device = torch.cuda.get_device_name()
    write_markdown(
        "gpu", "# Training on a GPU", f"{machine_line()} {device}.", markdown_table(rows), NOTES
    )


if __name__ == "__main__":
    main()
