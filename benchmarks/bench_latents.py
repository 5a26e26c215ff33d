"""Latents compared with PCA's: reconstruction error, and what models behind them score.

The numbers of each section are saved in `results/latents_<section>.json`; `results/latents.md` is
written from all sections that have been measured.

    python benchmarks/bench_latents.py --data DIR
    python benchmarks/bench_latents.py --data DIR --only classic speed
    python benchmarks/bench_latents.py --only behind --half even
"""

import argparse
from functools import partial
from time import perf_counter

import numpy as np
from _common import (
    add_data_argument,
    at_most,
    load_images,
    machine_line,
    markdown_table,
    outlier_tables,
    parse_arguments,
    report,
    save_part,
    skippable,
    write_sections,
    yes_no,
)
from _latents import autoencoder, chosen, fit_and_measure
from _latents_behind import HALVES, format_behind, measure_behind
from _latents_classic import format_classic, measure_classic
from _latents_cliff import format_cliff, measure_cliff
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

SIZES = (8, 16, 32, 64)
SMALL_ROWS, SMALL_SIZES, SMALL_SEEDS = 500, (64, 32), (0, 1, 2)
SMALL_AIM_LATENTS, SMALL_AIM_SECONDS = 64, 4
MAX_TABLE_ROWS, MIN_TABLE_COLUMNS, TABLE_SEEDS = 5000, 5, (0, 1)
SPEED_ROWS, SPEED_LATENTS, SPEED_RUNS = 20000, 16, 3

# Aims: kNN accuracy and test MSE over PCA's, by data set and number of latents.
AIMS = {
    ("mnist", 8): (0.96, 0.50),
    ("mnist", 16): (0.973, 0.50),
    ("mnist", 32): (0.977, 0.55),
    ("fashion_mnist", 8): (0.843, None),
    ("fashion_mnist", 16): (0.865, None),
    ("fashion_mnist", 32): (0.872, None),
}


# images: MNIST and Fashion-MNIST, all training rows, default settings.


def measure_images(args):
    rows = []
    for name in ("mnist", "fashion_mnist"):
        X_train, y_train, X_test, y_test = load_images(name, args.data)
        raw = knn(X_train, y_train, X_test, y_test)
        rows.append({"data": name, "method": "raw pixels", "latents": X_train.shape[1], **raw})
        for k in chosen(SIZES, args):
            for method, model in (("PCA", PCA(k, random_state=0)), ("autoencoder", autoencoder(k))):
                measured = fit_and_measure(model, X_train, X_test)
                rows.append(
                    {"data": name, "method": method, "latents": k}
                    | knn(measured["Z_train"], y_train, measured["Z_test"], y_test)
                    | {"mse": measured["mse"], "fit": measured["seconds"]}
                )
                report(rows[-1])
    return rows


def knn(Z_train, y_train, Z_test, y_test):
    """Accuracy of 7 nearest neighbours and the seconds they take."""
    start = perf_counter()
    accuracy = KNeighborsClassifier(7).fit(Z_train, y_train).score(Z_test, y_test)
    return {"accuracy": float(accuracy), "knn": perf_counter() - start}


def format_images(rows):
    lines = []
    pca_mse = {(r["data"], r["latents"]): r["mse"] for r in rows if r["method"] == "PCA"}
    for row in rows:
        key = row["data"], row["latents"]
        is_skae = row["method"] == "autoencoder"
        accuracy, ratio = AIMS.get(key, (None, None)) if is_skae else (None, None)
        lines.append(
            {
                "data": row["data"],
                "method": row["method"],
                "latents": row["latents"],
                "kNN(7) accuracy": f"{row['accuracy']:.4f}",
                "aim, at least": accuracy,
                "kNN seconds": f"{row['knn']:.1f}",
                "test MSE": row.get("mse"),
                "over PCA's": f"{row['mse'] / pca_mse[key]:.2f}" if "mse" in row else None,
                "aim, at most": ratio,
                "fit seconds": f"{row['fit']:.1f}" if "fit" in row else None,
            }
        )
    return "## Images, all 60000 training rows, default settings", markdown_table(lines)


# small: MNIST, 500 training rows.


def measure_small(args):
    X_train, _, X_test, _ = load_images("mnist", args.data)
    rows = []
    for k in chosen(SMALL_SIZES, args):
        for seed in chosen(SMALL_SEEDS, args):
            drawn = np.random.default_rng(seed).choice(len(X_train), SMALL_ROWS, replace=False)
            X_small = X_train[drawn]
            pca = fit_and_measure(PCA(k, random_state=0), X_small, X_test)
            for loss in ("squared_error", "absolute_error"):
                skae = fit_and_measure(autoencoder(k, loss=loss), X_small, X_test)
                row = {"latents": k, "rows drawn with seed": seed, "loss": loss}
                row |= {"test MAE": skae["mae"], "PCA's MAE": pca["mae"]}
                row |= {"test MSE": skae["mse"], "PCA's MSE": pca["mse"]}
                rows.append(row | {"fit seconds": skae["seconds"]})
                report(rows[-1])
    return rows


def format_small(rows):
    lines = []
    for row in rows:
        ratio = row["test MAE"] / row["PCA's MAE"]
        has_aim = row["latents"] == SMALL_AIM_LATENTS and row["loss"] == "squared_error"
        is_kept = ratio < 1 and row["fit seconds"] <= SMALL_AIM_SECONDS
        line = row | {"MAE over PCA's": f"{ratio:.4f}"}
        lines.append(line | {"kept": yes_no(is_kept) if has_aim else None})
    return (
        f"## MNIST from {SMALL_ROWS} training rows",
        "Errors on all 10000 test rows. Aim: with the default loss and "
        f"{SMALL_AIM_LATENTS} latents, a mean absolute error below PCA's in at most "
        f"{SMALL_AIM_SECONDS} s.",
        markdown_table(lines),
    )


# tables: every outlier-detection table with enough columns, standardised.


def measure_tables(args):
    rows = []
    for path in outlier_tables(args.data):
        with np.load(path, allow_pickle=False) as file:
            X = file["X"]
        if X.shape[1] < MIN_TABLE_COLUMNS:
            continue
        rows += [measure_table(path.stem, X, seed) for seed in chosen(TABLE_SEEDS, args)]
    return rows


def measure_table(name, X, seed):
    n_rows = at_most(MAX_TABLE_ROWS)
    if len(X) > n_rows:
        X = X[np.random.default_rng(0).choice(len(X), n_rows, replace=False)]
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    k = max(1, X.shape[1] // 4)
    pca = fit_and_measure(PCA(k, random_state=0), X_train, X_test)
    skae = fit_and_measure(autoencoder(k), X_train, X_test)
    row = {"table": name, "rows": len(X), "columns": X.shape[1], "latents": k, "seed": seed}
    row |= {"pca": pca["mse"], "ours": skae["mse"], "ratio": skae["mse"] / pca["mse"]}
    report(row)
    return row | {"fit": skae["seconds"]}


def format_tables(rows):
    ratios = [row["ratio"] for row in rows]
    by_table = {}
    for row in rows:
        by_table.setdefault(row["table"], []).append(row)
    lines = []
    for name, runs in by_table.items():
        line = {"table": name} | {key: runs[0][key] for key in ("rows", "columns", "latents")}
        line |= {f"over PCA's, seed {run['seed']}": f"{run['ratio']:.3f}" for run in runs}
        lines.append(line | {"fit seconds": f"{np.mean([run['fit'] for run in runs]):.1f}"})
    worst = max(rows, key=lambda row: row["ratio"])
    return (
        "## Tables, standardised, a quarter as many latents as columns",
        f"Test error over PCA's: median **{np.median(ratios):.3f}** (aim: at most 0.50), worst "
        f"**{worst['ratio']:.3f}** ({worst['table']}, seed {worst['seed']}; aim: at most 1.02), "
        f"{sum(ratio > 1 for ratio in ratios)} of {len(ratios)} above 1.",
        markdown_table(lines),
    )


# speed: the default fit of 20000 MNIST rows.


def measure_speed(args):
    X, *_ = load_images("mnist", args.data)
    rows = np.random.default_rng(0).permutation(len(X))[:SPEED_ROWS]
    seconds = []
    for _ in chosen(range(SPEED_RUNS), args):
        start = perf_counter()
        autoencoder(SPEED_LATENTS).fit(X[rows])
        seconds.append(perf_counter() - start)
        print(f"{seconds[-1]:.1f} s", flush=True)
    return {"rows": len(rows), "seconds": seconds}


def format_speed(part):
    seconds = ", ".join(f"{s:.1f}" for s in part["seconds"])
    return (
        f"## Default fit of {part['rows']} MNIST rows, {SPEED_LATENTS} latents",
        f"Median **{np.median(part['seconds']):.1f} s** of {seconds} (aim: under 10 s on 2 cores).",
    )


# All sections.

SECTIONS = {
    "images": (measure_images, format_images),
    "behind": (measure_behind, format_behind),
    "classic": (measure_classic, format_classic),
    "small": (measure_small, format_small),
    "tables": (measure_tables, format_tables),
    "cliff": (measure_cliff, format_cliff),
    "speed": (measure_speed, format_speed),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--half", choices=HALVES, help='half of the tables of "behind"')
    args = parse_arguments(parser)
    for section in args.only:
        with skippable(section):
            measured = SECTIONS[section][0](args)
            save_part(f"latents_{section}", {"machine": machine_line(), "measured": measured})
    formatters = {
        section: partial(format_section, format_blocks)
        for section, (_, format_blocks) in SECTIONS.items()
    }
    write_sections("latents", "# Latents", formatters)


def format_section(format_blocks, part):
    """The heading of a section, the machine, and the other blocks."""
    heading, *blocks = format_blocks(part["measured"])
    return [heading, part["machine"], *blocks]


if __name__ == "__main__":
    main()
