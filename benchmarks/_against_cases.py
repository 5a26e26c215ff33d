"""One whole fit in the environment of this process: a child of `bench_against.py`.

    python benchmarks/_against_cases.py --case 2000x20 --seed 0

It prints JSON: seconds, the error on rows that were not trained on, and the versions. Imports and a
first fit of a few rows and one epoch are not timed.
"""

import argparse
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

import _eager as eager
import numpy as np
import torch
from _common import (
    add_data_argument,
    at_most,
    in_turn,
    load_images,
    parse_arguments,
    seconds_of,
    short_training,
)
from _eager import Setting
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, train_test_split

import skae

GAINS = (0.5, 1.0, 2.0)  # of the tables of seeds 0, 1, 2, 3, ...
NOISE = 0.1
N_TEST, N_WARM_UP = 5000, 200
MISSING = 0.3
OUTLIERS, SWAPPED = 0.05, 0.1  # shares of rows, and of their cells
CURVE_SIZES, CURVE_FOLDS = (2, 4, 6, 8), 3
STEPS = Setting(1000, 20, 32, 4, 64, 50)
STEPS_ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """What is fitted, how often, and what the new build should reach."""

    title: str
    measure: object  # a function of seed and data folder, which returns seconds and errors
    n_rounds: int
    aim: float
    error: str = "MSE"
    is_difference: bool = False  # the error is compared by difference, not by ratio
    is_quick: bool = False  # one of those of a quick run


# Tables.


def smooth_table(n_rows, n_columns, n_factors, seed):
    """Training and test rows near a curved surface, standardised columns with noise."""
    rng = np.random.default_rng(seed)
    gain = GAINS[seed % len(GAINS)] / np.sqrt(n_factors)
    latents = rng.standard_normal((n_rows + at_most(N_TEST), n_factors))
    bent = np.tanh(gain * latents @ rng.standard_normal((n_factors, 3 * n_factors)))
    X = bent @ rng.standard_normal((3 * n_factors, n_columns))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    X += NOISE * rng.standard_normal(X.shape)
    return X[:n_rows], X[n_rows:]


def generated(n_rows, n_columns, n_factors):
    """The tables of a case, by seed."""
    return lambda seed, _: smooth_table(at_most(n_rows), n_columns, n_factors, seed)


def digits(seed, _):
    X = load_digits().data / 16
    return train_test_split(X, test_size=0.3, random_state=seed)


def mnist(_, data):
    return load_images("mnist", data)[::2]


# Fits: each returns the seconds of a whole default fit and the error on test rows.


def timed_fit(model, X):
    """Fit after a first fit that is not timed; return its times."""
    type(model)(**model.get_params() | {"max_epochs": 1}).fit(X[:N_WARM_UP])
    with timed() as times:
        model.fit(X)
    return times


@contextmanager
def timed():
    """Seconds of a block, and those of the processor, which a busy machine changes less."""
    times = {}
    start, cpu_start = perf_counter(), process_time()
    yield times
    times |= {"seconds": perf_counter() - start, "cpu": process_time() - cpu_start}


def transformer(tables, k, seed, data):
    X_train, X_test = tables(seed, data)
    model = skae.AutoencoderTransformer(k, random_state=seed, **short_training())
    times = timed_fit(model, X_train)
    difference = model.inverse_transform(model.transform(X_test)) - X_test
    return times | {"error": float(np.mean(np.square(difference, dtype=np.float64)))}


def denoiser(tables, seed, data):
    X_train, X_test = tables(seed, data)
    rng = np.random.default_rng(seed)
    X_train = np.where(rng.random(X_train.shape) < MISSING, np.nan, X_train)
    hidden = rng.random(X_test.shape) < MISSING
    model = skae.DenoisingAutoencoder(random_state=seed, **short_training())
    times = timed_fit(model, X_train)
    difference = (model.transform(np.where(hidden, np.nan, X_test)) - X_test)[hidden]
    return times | {"error": float(np.sqrt(np.mean(difference**2)))}


def generator(tables, seed, data):
    X_train, X_test = tables(seed, data)
    model = skae.VAEGenerator(random_state=seed, **short_training())
    times = timed_fit(model, X_train)
    auroc = model.evaluate(X_test, X_train=X_train)["auroc"]
    return times | {"error": -model.score(X_test), "auroc": float(auroc)}


def detector(tables, seed, data):
    """A share of all rows, trained on unlabelled, has some cells from other rows."""
    rng = np.random.default_rng(seed)
    X_train, X_test = tables(seed, data)
    (X_train, _), (X_test, is_outlier) = (with_outliers(X, rng) for X in (X_train, X_test))
    model = skae.AutoencoderOutlierDetector(random_state=seed, **short_training())
    times = timed_fit(model, X_train)
    auroc = roc_auc_score(is_outlier, -model.score_samples(X_test))
    return times | {"error": float(1 - auroc)}


def with_outliers(X, rng):
    """The table, a share of whose rows have cells of other rows, and which rows these are."""
    is_outlier = rng.random(len(X)) < OUTLIERS
    is_swapped = is_outlier[:, None] & (rng.random(X.shape) < SWAPPED)
    return np.where(is_swapped, rng.permuted(X, axis=0), X), is_outlier


def size_curve(tables, seed, data):
    """`latent_size_curve`, and a grid search over the same sizes and folds."""
    X, _ = tables(seed, data)
    model = skae.AutoencoderTransformer(random_state=seed, **short_training())
    folds = KFold(CURVE_FOLDS, shuffle=True, random_state=seed)
    timed_fit(skae.AutoencoderTransformer(2), X[:N_WARM_UP])
    with timed() as times:
        table = skae.latent_size_curve(model, X, CURVE_SIZES, cv=folds)
    search = GridSearchCV(model, {"n_components": CURVE_SIZES}, cv=folds, refit=False)
    within = times["seconds"] / seconds_of(search.fit, X)
    return times | {"error": float(1 - table["explained"].mean()), "within": within}


def steps(tables, seed, data):
    """Whole fits of a small plain network, and an eager loop with the same steps."""
    X_train, X_test = (X.astype(np.float32) for X in tables(seed, data))
    plain = {"init": "random", "latent_noise": 0, "input_noise": 0, "early_stopping": False}
    plain |= {"activation": "relu", "batch_size": STEPS.batch_size, "max_epochs": STEPS.epochs}
    plain |= {"hidden_layer_sizes": (STEPS.hidden,)} | short_training()
    setting = STEPS._replace(epochs=plain["max_epochs"])
    model = skae.AutoencoderTransformer(STEPS.code, random_state=seed, **plain)
    calls = {
        "eager": partial(seconds_of, eager.fit_plain, setting, X_train),
        "skae": partial(timed_fit, model, X_train),
    }
    in_turn(calls, 1)
    results = in_turn(calls, STEPS_ROUNDS)
    times = {key: median([times[key] for times in results["skae"]]) for key in ("seconds", "cpu")}
    within = median(
        [t["seconds"] / s for t, s in zip(results["skae"], results["eager"], strict=True)]
    )
    difference = model.inverse_transform(model.transform(X_test)) - X_test
    error = float(np.mean(np.square(difference, dtype=np.float64)))
    return times | {"error": error, "within": within}


def median(values):
    return float(np.median(values))


CASES = {
    "2000x20": Case(
        "transformer, 2000 x 20, k 5",
        partial(transformer, generated(2000, 20, 5), 5),
        7,
        0.35,
        is_quick=True,
    ),
    "digits": Case("transformer, digits, k 8", partial(transformer, digits, 8), 5, 0.35),
    "900x13": Case(
        "transformer, 900 x 13, k 3", partial(transformer, generated(900, 13, 3), 3), 7, 0.35
    ),
    "100000x20": Case(
        "transformer, 100 000 x 20, k 5",
        partial(transformer, generated(100_000, 20, 5), 5),
        3,
        0.20,
    ),
    "1000000x20": Case(
        "transformer, 1 000 000 x 20, k 5",
        partial(transformer, generated(1_000_000, 20, 5), 5),
        2,
        0.10,
    ),
    "mnist": Case("transformer, MNIST, 16 latents", partial(transformer, mnist, 16), 2, 0.50),
    "curve": Case(
        f"`latent_size_curve`, 2000 x 20, {len(CURVE_SIZES)} sizes, {CURVE_FOLDS} folds",
        partial(size_curve, generated(2000, 20, 5)),
        3,
        0.35,
        "1 - explained",
        is_quick=True,
    ),
    "denoiser20": Case(
        "denoiser, 3500 x 20, 30 % missing",
        partial(denoiser, generated(3500, 20, 5)),
        5,
        0.40,
        "RMSE of hidden cells",
        is_quick=True,
    ),
    "denoiser60": Case(
        "denoiser, 3500 x 60, 30 % missing",
        partial(denoiser, generated(3500, 60, 10)),
        3,
        0.40,
        "RMSE of hidden cells",
    ),
    "generator": Case(
        "generator, 3500 x 20",
        partial(generator, generated(3500, 20, 5)),
        5,
        0.60,
        "nats a row",
        is_difference=True,
        is_quick=True,
    ),
    "detector": Case(
        "detector, 5000 x 20",
        partial(detector, generated(5000, 20, 5)),
        5,
        0.60,
        "1 - AUROC",
        is_quick=True,
    ),
    "steps": Case(
        f"steps, {STEPS}", partial(steps, generated(1000, 20, 4)), 5, 0.30, is_quick=True
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parse_arguments(parser)
    torch.set_num_threads(1)
    result = CASES[args.case].measure(args.seed, args.data)
    result["folder"] = str(Path(skae.__file__).parent.parent)
    result["versions"] = {name: version(name) for name in ("skae", "torch", "scikit-learn")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
