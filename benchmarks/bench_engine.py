"""Training time compared with eager PyTorch loops, skorch, scikit-learn, Keras and PyOD.

All methods train the same network on the same array with the same batch size and number of
epochs. They take turns in one process; the result of a method is the median over rounds of its
seconds divided by those of the eager loop in the same round.

    python benchmarks/bench_engine.py --threads 1 2
"""

import argparse
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from time import perf_counter

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
    threads,
    write_markdown,
    yes_no,
)
from _eager import INPUT_NOISE, LATENT_NOISE, LEARNING_RATE, Setting
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from skorch import NeuralNet
from torch import nn

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae.networks import MLPNetwork

# Settings, and the limit of the plain network's time per step over the eager loop's.
SETTINGS = {
    Setting(1000, 20, 32, 4, 64, 50): 0.8,
    Setting(10000, 20, 64, 8, 256, 20): 0.8,
    Setting(20000, 784, 128, 16, 256, 10): 1.0,
}
WIDE = Setting(20000, 784, 512, 16, 1024, 5)
STEP_AIM = 1.15
VALIDATION_AIM, VALIDATION_FRACTION = 0.05, 0.1
IMPORT_AIM, N_IMPORTS = 0.2, 9  # seconds, child processes
IMPORT = """\
import torch, skorch, sklearn
from time import perf_counter
start = perf_counter()
import skae
print(perf_counter() - start)"""

NOTES = """\
Ratios are seconds per training step over those of an eager loop, medians over rounds in which
the methods take turns in one process; below 1 is faster. The eager loops (`benchmarks/_eager.py`)
use torch's Adam, without the clipping and the learning rate schedule that skae has."""
PLAIN_NOTES = """\
Seconds of the whole `fit` divided by its number of steps. Nothing is subtracted: skae's seconds
include validation of X, scaling and the starting point, the eager loop's include making tensors
and the network. All are trained to reproduce X, with ReLU, Adam and squared error. A column is
empty where the package is not installed.

- *skae, plain*: `init="random"`, no noise, no early stopping: the eager loop's network,
  batches and epochs.
- *skae, default start*: PCA start, noise and early stopping as by default, with the layer sizes
  and batches of the line. It trains on 90 % of the rows (in principal coordinates if these are
  few); its whole fit, including validation and PCA, is divided by its own number of steps.
- *eager, linear path*: the eager loop with linear maps in parallel with encoder and decoder and
  noise on the latents, which is what the default start trains.
- *skorch*: `skorch.NeuralNet` without validation split and printing, otherwise its defaults.
- *MLPRegressor*: scikit-learn's; it also has an activation on the code.
- *Keras*: `Sequential.fit` on its torch backend.
- *PyOD*: its `AutoEncoder` without scaling, batch norm and dropout; it has an activation on the
  code and weight decay, and scores the training rows at the end of `fit`."""
STEP_NOTES = f"""\
Time per step without what an estimator does besides its steps (PCA, thresholds, a prior): the
slope (seconds of a fit with 2E epochs - seconds with E) / steps in E, where E is half of the
epochs above, of skae over that of the eager loop with the same objective, network, batches and
epochs. In brackets the eager loop's median milliseconds per step. Aim: at most {STEP_AIM}.

- *PCA start*: linear maps in parallel with encoder and decoder and noise on the latents; the
  network is passed as `network=`, so that it is trained on columns, not on principal coordinates.
- *denoiser*: `DenoisingAutoencoder(noise="gaussian", init="random")`.
- *VAE*: `VAEGenerator(likelihood="gaussian", prior="standard", refine=False, init="random")`;
  one deviation per column is learned.
- *detector*: `AutoencoderOutlierDetector(n_estimators=1, core_fraction=1.0)`: Cauchy loss, rows
  drawn with replacement; it also supports missing cells, which the eager loop does not."""
VALIDATION_NOTES = f"""\
Share of the time of a fit that early stopping takes: `init="random"` with validation on
{VALIDATION_FRACTION:.0%} of the rows before the first and after each epoch, compared with a fit on
as many training rows without validation. Aim: at most {VALIDATION_AIM:.0%}."""


# Methods: each trains on X and returns its number of steps, or None if that is the setting's.

PLAIN = {"init": "random", "latent_noise": 0, "input_noise": 0, "early_stopping": False}


def sizes(setting):
    """Parameters shared by all estimators of skae."""
    return {
        "n_components": setting.code,
        "hidden_layer_sizes": (setting.hidden,),
        "activation": "relu",
        "batch_size": setting.batch_size,
        "max_epochs": setting.epochs,
        "random_state": 0,
    }


def fit_transformer(setting, X, **params):
    model = AutoencoderTransformer(**sizes(setting), **params).fit(X)
    n_valid = np.ceil(model.validation_fraction * len(X)) if model.early_stopping else 0
    return model.n_iter_ * int(np.ceil((len(X) - n_valid) / setting.batch_size))


def fit_pca_start(setting, X):
    AutoencoderTransformer(
        **sizes(setting),
        network=MLPNetwork((setting.hidden,), "relu"),
        input_noise=0,
        latent_noise=LATENT_NOISE,
        early_stopping=False,
    ).fit(X)


def fit_denoiser(setting, X):
    DenoisingAutoencoder(
        **sizes(setting),
        noise="gaussian",
        noise_level=INPUT_NOISE,
        noise_unit="std",
        init="random",
        early_stopping=False,
    ).fit(X)


def fit_generator(setting, X):
    VAEGenerator(
        **sizes(setting),
        likelihood="gaussian",
        prior="standard",
        refine=False,
        kl_warmup=0,
        init="random",
    ).fit(X)


def fit_detector(setting, X):
    AutoencoderOutlierDetector(
        **sizes(setting),
        n_estimators=1,
        core_fraction=1.0,
        validation_fraction=1e-3,  # always held out; so few rows do not change the number of steps
    ).fit(X)


def fit_skorch(setting, X):
    NeuralNet(
        eager.PlainAutoencoder(setting),
        nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=setting.epochs,
        batch_size=setting.batch_size,
        train_split=None,
        verbose=0,
    ).fit(X, X)


def fit_mlp_regressor(setting, X):
    model = MLPRegressor(
        hidden_layer_sizes=(setting.hidden, setting.code, setting.hidden),
        alpha=0,
        batch_size=setting.batch_size,
        learning_rate_init=LEARNING_RATE,
        max_iter=setting.epochs,
        n_iter_no_change=setting.epochs,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, X)


def fit_keras(setting, X):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    model = keras.Sequential(
        [
            keras.layers.Dense(setting.hidden, activation="relu"),
            keras.layers.Dense(setting.code),
            keras.layers.Dense(setting.hidden, activation="relu"),
            keras.layers.Dense(setting.n_features),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="mse")
    model.fit(X, X, batch_size=setting.batch_size, epochs=setting.epochs, verbose=0)


def fit_pyod(setting, X):
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(
        hidden_neuron_list=[setting.hidden, setting.code],
        batch_size=setting.batch_size,
        epoch_num=setting.epochs,
        lr=LEARNING_RATE,
        preprocessing=False,
        batch_norm=False,
        dropout_rate=0,
        verbose=0,
    ).fit(X)


METHODS = {
    "eager": eager.fit_plain,
    "skae, plain": partial(fit_transformer, **PLAIN),
    "skae, default start": fit_transformer,
    "eager, linear path": eager.fit_linear_path,
    "skorch": fit_skorch,
    "MLPRegressor": fit_mlp_regressor,
    "Keras": fit_keras,
    "PyOD": fit_pyod,
}
# Fits of skae, each with the eager loop of the same objective.
PAIRS = {
    "PCA start": (fit_pca_start, eager.fit_linear_path),
    "denoiser": (fit_denoiser, eager.fit_denoiser),
    "VAE": (fit_generator, eager.fit_vae),
    "detector": (fit_detector, eager.fit_member),
}


# Measurements.


def make_table(setting):
    """Rows of the setting's size."""
    return curved_table(setting.n_rows, setting.n_features, setting.code)


def seconds_and_steps(fit, setting, X):
    """Seconds of a fit, and its number of steps."""
    start = perf_counter()
    n_steps = fit(setting, X)
    seconds = perf_counter() - start
    return seconds, n_steps if isinstance(n_steps, int) else setting.n_steps


def seconds_per_step(fit, setting, X):
    """Seconds of the whole fit divided by its number of steps."""
    seconds, n_steps = seconds_and_steps(fit, setting, X)
    return seconds / n_steps


def slope(fit, setting, X):
    """Seconds per step without fixed costs: how much longer twice the epochs take, per step."""
    half = setting._replace(epochs=max(1, setting.epochs // 2))
    short, n_steps = seconds_and_steps(fit, half, X)
    long, _ = seconds_and_steps(fit, half._replace(epochs=2 * half.epochs), X)
    return (long - short) / n_steps


def alternate(fits, cost, setting, X, n_rounds):
    """Costs of all fits in all rounds, after a short warm-up; missing packages are left out."""
    ready = {}
    for name, fit in fits.items():
        try:
            fit(setting._replace(epochs=1), X)
        except ImportError:
            continue
        ready[name] = partial(cost, fit, setting, X)
    return in_turn(ready, n_rounds)


def measure_plain(setting, aim, X, n_rounds):
    """Seconds per step of whole fits of the plain network."""
    seconds = alternate(METHODS, seconds_per_step, setting, X, n_rounds)
    ratios = median_ratios(seconds, "eager")
    row = {"eager, ms per step": f"{1e3 * np.median(seconds['eager']):.3f}"}
    row |= {name: two_digits(ratios.get(name)) for name in METHODS if name != "eager"}
    return row | {"plain at most": f"{aim}: {yes_no(ratios['skae, plain'] <= aim)}"}


def measure_steps(setting, X, n_rounds):
    """Seconds per step of each objective, without the fixed costs of its estimator."""
    row, all_met = {}, True
    for name, (fit_skae, fit_eager) in PAIRS.items():
        fits = {"skae": fit_skae, "eager": fit_eager}
        costs = alternate(fits, slope, setting, X, n_rounds)
        ratio = median_ratios(costs, "eager")["skae"]
        row[name] = f"{ratio:.2f} ({1e3 * np.median(costs['eager']):.3f} ms)"
        all_met &= ratio <= STEP_AIM
    return row | {f"all at most {STEP_AIM}": yes_no(all_met)}


def measure_validation(setting, X, n_rounds):
    """Share of a fit that early stopping takes."""
    n_train = len(X) - int(np.ceil(VALIDATION_FRACTION * len(X)))
    params = PLAIN | {"validation_fraction": VALIDATION_FRACTION}
    fits = {
        "with": partial(fit_transformer, **params | {"early_stopping": True}),
        "without": lambda setting, X: fit_transformer(setting, X[:n_train], **params),
    }
    costs = alternate(fits, seconds_per_step, setting, X, n_rounds)
    share = 1 - median_ratios(costs, "with")["without"]
    return {
        "share of early stopping": f"{share:.1%}",
        f"at most {VALIDATION_AIM:.0%}": yes_no(share <= VALIDATION_AIM),
    }


def measure_import(n_runs):
    """A line on the time of `import skae` when its dependencies are already imported."""
    command = [sys.executable, "-c", IMPORT]
    seconds = [
        float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(n_runs)
    ]
    return (
        f"`import skae` after torch, skorch and sklearn: {np.median(seconds):.2f} s, median of "
        f"{n_runs} processes (aim: at most {IMPORT_AIM} s)."
    )


def measure_bfloat16(n_threads, n_rounds):
    """A line on bfloat16, in which only some processors multiply faster than in float32."""
    title = f"bfloat16, {WIDE}"
    flags = Path("/proc/cpuinfo").read_text()
    if "amx_bf16" not in flags and "avx512_bf16" not in flags:
        return f"{title}: not run, as this processor has neither AMX nor AVX512-BF16."
    params = {p: PLAIN | {"precision": p} for p in ("float32", "bfloat16")}
    fits = {p: partial(fit_transformer, **params[p]) for p in params}
    with threads(n_threads):
        costs = alternate(fits, seconds_per_step, WIDE, make_table(WIDE), n_rounds)
    ratio = median_ratios(costs, "float32")["bfloat16"]
    return f"{title}, {n_threads} threads: {ratio:.2f} of float32's time per step."


def tiny(setting):
    return setting._replace(n_rows=max(1000, setting.n_rows // 10), epochs=2)


def two_digits(ratio):
    return None if ratio is None else f"{ratio:.2f}"


def measure(settings, thread_counts, n_rounds):
    """Rows of the three tables."""
    tables = {measure_plain: [], measure_steps: [], measure_validation: []}
    for n_threads in thread_counts:
        for setting, aim in settings.items():
            X = make_table(setting)
            head = {"table and network": str(setting), "threads": n_threads}
            for measure_row, rows in tables.items():
                aims = (aim,) if measure_row is measure_plain else ()
                with threads(n_threads):
                    rows.append(head | measure_row(setting, *aims, X, n_rounds))
                report(rows[-1])
    return tables.values()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    args = parse_arguments(parser)
    settings, thread_counts, rounds = SETTINGS, args.threads, args.rounds
    if args.quick:
        settings = {tiny(setting): aim for setting, aim in SETTINGS.items()}
        thread_counts, rounds = thread_counts[:1], 1
    plain, steps, validation = measure(settings, thread_counts, rounds)
    n_imports = 1 if args.quick else N_IMPORTS
    lines = [measure_import(n_imports), measure_bfloat16(max(thread_counts), rounds)]
    print(*lines, sep="\n")
    write_markdown(
        "engine",
        "# What training costs",
        machine_line(),
        NOTES,
        "## The plain network",
        markdown_table(plain),
        PLAIN_NOTES,
        "## Steps of each objective",
        markdown_table(steps),
        STEP_NOTES,
        "## Early stopping",
        markdown_table(validation),
        VALIDATION_NOTES,
        "## Imports and precision",
        *lines,
    )


if __name__ == "__main__":
    main()
