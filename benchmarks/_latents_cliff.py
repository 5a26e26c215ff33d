"""The section "cliff" of `bench_latents.py`: no default fit far above what others reach."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _common import (
    at_most,
    markdown_table,
    outlier_tables_if_any,
    report,
    skippable,
    unseen_outlier_tables,
    yes_no,
)
from _latents import autoencoder, chosen, fit_and_measure
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

SEEDS = (0, 1, 2)
MAX_TRAINING_ROWS, MAX_TEST_ROWS, TRAINING_SHARE = 2000, 1000, 0.7
MIN_COLUMNS, MAX_COLUMNS = 5, 500  # InternetAds, with 1555, would take as long as all others
EVERY = 3  # of the tables of odd/ that are for the report
AIM, AIM_SHARE = 1.03, 0.1
NOTES = f"""\
Held-out errors of default fits, of fits with `early_stopping=False` and of PCA, for seeds \
{", ".join(map(str, SEEDS))}: a seed draws the rows, or splits a table into \
{TRAINING_SHARE:.0%} training rows, {MAX_TRAINING_ROWS} at most, and {MAX_TEST_ROWS} test rows at \
most, and is the `random_state` of both fits. Aim: in every fit, the default's error is at most \
{AIM} x the smaller of the other two (*over the smaller*). Where principal directions are all that \
there is to learn, a fit ends within a tenth of its schedule (*epochs over the schedule*).

*generated* rows are taken as they are; tables are standardised, with a quarter as many latents \
as columns. *adbench* are all tables with {MIN_COLUMNS} to {MAX_COLUMNS} columns; defaults were \
decided on some of them. *odd* is every third of the tables at odd places (1, 3, ... counted from \
0) of the alphabetical list, which decided nothing; defaults may have been decided on those at \
even places."""


# Generated rows.


@dataclass(frozen=True)
class Family:
    """Rows of one kind.

    Attributes
    ----------
    draw : callable
        From a Generator to a function that draws a number of rows from one distribution.
    sizes : tuple of int
        Numbers of training rows.
    latents : int
    is_linear : bool
        Whether principal directions are all that can be learned.
    """

    draw: Callable
    sizes: tuple
    latents: int
    is_linear: bool = False


def tanh_rows(rng):
    """Sums of bent directions, without noise."""
    inner, outer = rng.normal(size=(6, 30)) * 0.3, rng.normal(size=(30, 40))
    return lambda n: np.tanh(rng.normal(size=(n, 6)) @ inner) @ outer


def network_rows(rng):
    """Outputs of a random network of four inputs, with noise."""
    inner, outer = rng.normal(size=(4, 50)), rng.normal(size=(50, 20)) / 7
    return lambda n: np.tanh(rng.normal(size=(n, 4)) @ inner) @ outer + 0.1 * normal(rng, n, 20)


def ring_rows(rng):
    """An ellipse in ten columns."""
    plane = directions(rng, 2, 10)

    def draw(n):
        angle = rng.uniform(0, 2 * np.pi, n)
        return np.c_[np.cos(angle), 0.8 * np.sin(angle)] @ plane + 0.05 * normal(rng, n, 10)

    return draw


def swiss_roll_rows(rng):
    """A rolled sheet in ten columns."""
    space = directions(rng, 3, 10)

    def draw(n):
        angle, height = 1.5 * np.pi * (1 + 2 * rng.uniform(size=n)), rng.uniform(size=n)
        roll = np.c_[angle * np.cos(angle) / 10, height, angle * np.sin(angle) / 10]
        return roll @ space + 0.03 * normal(rng, n, 10)

    return draw


def wave_rows(rng):
    """Sines of varying frequency, phase and amplitude at sixty times, with noise."""
    time = np.linspace(0, 1, 60)

    def draw(n):
        frequency, phase = rng.uniform(1, 2, (n, 1)), rng.uniform(0, 1, (n, 1))
        waves = rng.uniform(0.5, 1.5, (n, 1)) * np.sin(2 * np.pi * (frequency * time + phase))
        return waves + 0.1 * normal(rng, n, 60)

    return draw


def factor_rows(rng):
    """Four normal factors with normal noise."""
    loadings = rng.normal(size=(4, 20))
    return lambda n: normal(rng, n, 4) @ loadings + 0.5 * normal(rng, n, 20)


def heavy_factor_rows(rng):
    """Four factors and noise with three degrees of freedom."""
    loadings = rng.normal(size=(4, 20))
    return lambda n: rng.standard_t(3, (n, 4)) @ loadings + 0.3 * rng.standard_t(3, (n, 20))


def isotropic_rows(rng):
    """Independent normal columns."""
    return lambda n: normal(rng, n, 20)


def wide_rows(rng):
    """Few rows of many columns: five factors with noise."""
    loadings = rng.normal(size=(5, 20_000))
    return lambda n: normal(rng, n, 5) @ loadings + normal(rng, n, 20_000)


def normal(rng, n_rows, n_columns):
    return rng.normal(size=(n_rows, n_columns))


def directions(rng, n_directions, n_columns):
    """Random orthonormal rows."""
    return np.linalg.qr(rng.normal(size=(n_columns, n_columns)))[0][:n_directions]


FAMILIES = {
    "tanh": Family(tanh_rows, (300, 930, 2000), 8),
    "network": Family(network_rows, (300, 900, 2000), 5),
    "ring": Family(ring_rows, (300, 1500), 1),
    "Swiss roll": Family(swiss_roll_rows, (300, 1500), 2),
    "waves": Family(wave_rows, (500, 1500), 5),
    "factors": Family(factor_rows, (300, 1500), 5, is_linear=True),
    "heavy factors": Family(heavy_factor_rows, (900, 2000), 5),
    "isotropic": Family(isotropic_rows, (300, 1500), 5, is_linear=True),
    "wide": Family(wide_rows, (60,), 5, is_linear=True),
}


# Measuring.


def measure_cliff(args):
    rows = []
    for name, family in chosen(tuple(FAMILIES.items()), args):
        for n_rows in chosen(family.sizes, args):
            for seed in chosen(SEEDS, args):
                draw = family.draw(np.random.default_rng(seed))
                parts = draw(n_rows), draw(n_rows if name == "wide" else MAX_TEST_ROWS)
                table = {"kind": "generated", "table": name, "only PCA": family.is_linear}
                rows.append(measure_fits(table, *parts, family.latents, seed))
    for kind, paths in table_paths(args).items():
        for path in paths:
            rows += measure_table(kind, path, args)
    return rows


def table_paths(args):
    """Paths of the tables of the data folder, by kind."""
    paths = {"adbench": outlier_tables_if_any(args.data)}
    with skippable("tables of OddBench and OvRBench"):
        paths["odd"] = unseen_outlier_tables(args.data, "report")[::EVERY]
    return paths


def measure_table(kind, path, args):
    """All seeds of a table, unless it has too few or too many columns."""
    with np.load(path, allow_pickle=False) as file:
        X = file["X" if kind == "adbench" else "train"].astype(np.float64)
    X = X[:, X.std(axis=0) > 0]
    k = X.shape[1] // 4
    if not MIN_COLUMNS <= X.shape[1] <= MAX_COLUMNS:
        return []
    table = {"kind": kind, "table": path.stem, "only PCA": False}
    return [measure_fits(table, *split(X, seed), k, seed) for seed in chosen(SEEDS, args)]


def split(X, seed):
    """Standardised training and test rows."""
    X = X[np.random.default_rng(seed).permutation(len(X))]
    n_training = min(int(TRAINING_SHARE * len(X)), at_most(MAX_TRAINING_ROWS))
    X_train, X_test = X[:n_training], X[n_training : n_training + MAX_TEST_ROWS]
    scaler = StandardScaler().fit(X_train)
    return scaler.transform(X_train), scaler.transform(X_test)


def measure_fits(table, X_train, X_test, k, seed):
    """Errors of PCA and of both fits with one seed, and how the default fit went."""
    model = autoencoder(k, random_state=seed)
    untiring = autoencoder(k, random_state=seed, early_stopping=False)
    pca = fit_and_measure(PCA(k, random_state=0), X_train, X_test)["mse"]
    default = fit_and_measure(model, X_train, X_test)
    whole = fit_and_measure(untiring, X_train, X_test)
    row = table | {"rows": len(X_train), "columns": X_train.shape[1], "latents": k, "seed": seed}
    row |= {"PCA": pca, "default": default["mse"], "whole": whole["mse"]}
    row |= {"best epoch": model.best_epoch_, "epochs": model.n_iter_}
    row |= {"schedule": model.net_.max_epochs, "seconds": default["seconds"]}
    report(row | {"over the smaller": over_smaller(row)})
    return row


# Numbers and text.


def over_smaller(row):
    """The default's error over the smaller of PCA's and that of the whole schedule."""
    return row["default"] / min(row["PCA"], row["whole"])


def share_run(row):
    """Epochs run over those of the schedule."""
    return row["epochs"] / row["schedule"]


def format_cliff(rows):
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds_of(rows)}
    summary = [summary_line(kind, of_kind) for kind, of_kind in kinds.items()]
    tables = {}
    for row in rows:
        tables.setdefault((row["kind"], row["table"], row["rows"]), []).append(row)
    return (
        "## No cliff back to PCA",
        NOTES,
        markdown_table([*summary, summary_line("together", rows)]),
        markdown_table([table_line(runs) for runs in tables.values()]),
    )


def kinds_of(rows):
    return list(dict.fromkeys(row["kind"] for row in rows))


def summary_line(label, rows):
    """How many fits hold, the worst, and how soon those that ended at PCA did."""
    tables = {}
    for row in rows:
        tables.setdefault((row["kind"], row["table"], row["rows"]), []).append(over_smaller(row))
    worst = max(rows, key=over_smaller)
    at_start = [row for row in rows if row["best epoch"] == 0]
    linear = [row for row in rows if row["only PCA"]]
    return {
        "tables": label,
        "fits that hold": f"{sum(over_smaller(row) <= AIM for row in rows)} of {len(rows)}",
        "tables where all do": f"{sum(max(r) <= AIM for r in tables.values())} of {len(tables)}",
        "worst": f"{over_smaller(worst):.3f} ({worst['table']}, {worst['rows']} rows, "
        f"seed {worst['seed']})",
        "ended at PCA": len(at_start),
        "of them, within a tenth of the schedule": sum(map(is_short, at_start)),
        "only PCA to learn, ended so soon": (
            f"{sum(map(is_short, linear))} of {len(linear)}" if linear else None
        ),
        "seconds, median": f"{np.median([row['seconds'] for row in rows]):.2f}",
    }


def is_short(row):
    return share_run(row) <= AIM_SHARE


def table_line(runs):
    """One table: means over seeds, and the seed on which the default is worst."""
    first, worst = runs[0], max(map(over_smaller, runs))
    return {
        "kind": first["kind"],
        "table": first["table"],
        "rows": first["rows"],
        "columns": first["columns"],
        "latents": first["latents"],
        "PCA's error": float(np.mean([row["PCA"] for row in runs])),
        "default over PCA's": per_seed(row["default"] / row["PCA"] for row in runs),
        "`early_stopping=False` over PCA's": per_seed(row["whole"] / row["PCA"] for row in runs),
        "largest over the smaller": f"{worst:.3f}",
        "holds": yes_no(worst <= AIM),
        "epochs over the schedule": per_seed(share_run(row) for row in runs),
        "seconds": f"{np.mean([row['seconds'] for row in runs]):.2f}",
    }


def per_seed(values):
    return ", ".join(f"{value:.3f}" for value in values)
