"""What a training step costs, against a loop written by hand, skorch and MLPRegressor.

All contestants train the same network on the same array, batch size and number of
epochs, in one process, one after the other in each round. A contestant's number is the
median over rounds of its seconds over the eager loop's seconds in the same round.

    python benchmarks/bench_engine.py --threads 1 2
"""

import argparse
import warnings
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from _common import (
    machine_line,
    markdown_table,
    median_ratios,
    parse_arguments,
    report,
    write_markdown,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from skorch import NeuralNet
from threadpoolctl import threadpool_limits
from torch import nn

from skae import AutoencoderTransformer

LIMIT = 1.2
LEARNING_RATE = 1e-3
NOTES = f"""\
Ratios of seconds per training step to the eager loop of the same line, medians over rounds
that alternate the contestants in one process; below 1 is faster. Nothing is subtracted: skae's
time is the whole `fit`, with validation of X, scaling and the starting point; eager's is
the whole function, with tensors and network. All train on X -> X with ReLU, Adam and
squared error.

- *skae, plain*: `init="random"`, no noise, no early stopping: the eager loop's network,
  batches and epochs (and gradient clipping and a schedule, which the eager loop has not).
  Aim: at most {LIMIT}.
- *skae, default start*: PCA start, latent noise and early stopping as by default, in this
  line's layer sizes and batches. It trains on 90 % of the rows and its whole fit, validation and
  PCA included, is divided by its own steps.
- *eager, linear path*: the eager loop with a linear map beside encoder and decoder, which
  is the network that the default start trains.
- *skorch*: `skorch.NeuralNet` as it comes, without validation split and printing.
- *MLPRegressor*: scikit-learn's; it has an activation on the code too."""


class Setting(NamedTuple):
    """Size of a table and the network trained on it."""

    n_rows: int
    n_features: int
    hidden: int
    code: int
    batch_size: int
    epochs: int

    @property
    def n_steps(self):
        return self.epochs * -(-self.n_rows // self.batch_size)

    def __str__(self):
        sizes = f"{self.hidden}-{self.code}-{self.hidden}"
        return f"{self.n_rows}x{self.n_features}, {sizes}, batch {self.batch_size}"


SETTINGS = [
    Setting(1000, 20, 32, 4, 64, 50),
    Setting(10000, 20, 64, 8, 256, 20),
    Setting(20000, 784, 128, 16, 256, 10),
]


# Contestants: each trains on X and returns the number of steps it took.


class PlainAutoencoder(nn.Module):
    def __init__(self, setting):
        super().__init__()
        d, h, k = setting.n_features, setting.hidden, setting.code
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k))
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.ReLU(), nn.Linear(h, d))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class LinearPathAutoencoder(PlainAutoencoder):
    def __init__(self, setting):
        super().__init__(setting)
        self.into = nn.Linear(setting.n_features, setting.code)
        self.out = nn.Linear(setting.code, setting.n_features)

    def forward(self, x):
        z = self.encoder(x) + self.into(x)
        return self.decoder(z) + self.out(z)


def fit_eager(setting, X, network=PlainAutoencoder):
    """The loop of a good tutorial."""
    x_all = torch.from_numpy(X)
    model = network(setting)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    criterion = nn.MSELoss()
    model.train()
    for _ in range(setting.epochs):
        order = torch.randperm(len(x_all))
        for start in range(0, len(x_all), setting.batch_size):
            x = x_all[order[start : start + setting.batch_size]]
            optimizer.zero_grad()
            loss = criterion(model(x), x)
            loss.backward()
            optimizer.step()
    return setting.n_steps


def fit_skae(setting, X, **params):
    model = AutoencoderTransformer(
        setting.code,
        hidden_layer_sizes=(setting.hidden,),
        activation="relu",
        batch_size=setting.batch_size,
        max_epochs=setting.epochs,
        random_state=0,
        **params,
    ).fit(X)
    n_valid = np.ceil(model.validation_fraction * len(X)) if model.early_stopping else 0
    return model.n_iter_ * int(np.ceil((len(X) - n_valid) / setting.batch_size))


def fit_skorch(setting, X):
    NeuralNet(
        PlainAutoencoder(setting),
        nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=setting.epochs,
        batch_size=setting.batch_size,
        train_split=None,
        verbose=0,
    ).fit(X, X)
    return setting.n_steps


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
    return setting.n_steps


PLAIN = {"init": "random", "latent_noise": 0, "input_noise": 0, "early_stopping": False}
CONTESTANTS = {
    "eager": fit_eager,
    "skae, plain": partial(fit_skae, **PLAIN),
    "skae, default start": fit_skae,
    "eager, linear path": partial(fit_eager, network=LinearPathAutoencoder),
    "skorch": fit_skorch,
    "MLPRegressor": fit_mlp_regressor,
}


# Measuring.


def make_table(setting):
    """Rows near a curved surface of a few dimensions, standardised."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((setting.n_rows, setting.code))
    X = np.tanh(latents @ rng.standard_normal((setting.code, setting.n_features)))
    X += 0.1 * rng.standard_normal(X.shape)
    return np.float32((X - X.mean(axis=0)) / X.std(axis=0))


def seconds_per_step(setting, n_rounds):
    """Seconds per step of every contestant in every round; a first round warms up."""
    X = make_table(setting)
    warm_up = setting._replace(epochs=1)
    for fit in CONTESTANTS.values():
        fit(warm_up, X)
    seconds = {name: [] for name in CONTESTANTS}
    for _ in range(n_rounds):
        for name, fit in CONTESTANTS.items():
            start = perf_counter()
            n_steps = fit(setting, X)
            seconds[name].append((perf_counter() - start) / n_steps)
    return seconds


def measure(setting, n_threads, n_rounds):
    """One line of the table."""
    torch.set_num_threads(n_threads)
    with threadpool_limits(n_threads):
        seconds = seconds_per_step(setting, n_rounds)
    ratios = median_ratios(seconds, "eager")
    row = {"table and network": str(setting), "threads": n_threads}
    row["eager, ms per step"] = f"{1e3 * np.median(seconds['eager']):.3f}"
    row |= {name: f"{ratio:.2f}" for name, ratio in ratios.items() if name != "eager"}
    row[f"plain at most {LIMIT}"] = "yes" if ratios["skae, plain"] <= LIMIT else "no"
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    args = parse_arguments(parser)
    settings = [s._replace(epochs=2) for s in SETTINGS] if args.quick else SETTINGS
    # On a busy machine, threads that wait for one another make a quick run a long one.
    n_threads, rounds = ([1], 2) if args.quick else (args.threads, args.rounds)
    rows = [measure(s, threads, rounds) for threads in n_threads for s in settings]
    title = "# Seconds per training step"
    write_markdown("engine", title, machine_line(), markdown_table(rows), NOTES)


if __name__ == "__main__":
    main()
