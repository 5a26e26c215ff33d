"""DenoisingAutoencoder compared with imputers on tables and filters on images, and for classifiers.

Tables are all of ADBench with at least 1000 rows and 6 to 64 columns (at most 5000 rows of each),
and breast_cancer. Cells are hidden in all rows; imputers are fitted on 70 % of the rows, without
any other information, and errors are those of the hidden cells in the other 30 %, in standard
deviations of the column.

    python benchmarks/bench_denoise.py [--only SECTION ...] --data DIR
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _common import (
    add_data_argument,
    at_most,
    labelled_tables,
    load_images,
    machine_line,
    markdown_table,
    outlier_tables_if_any,
    parse_arguments,
    report,
    save_part,
    short_training,
    skippable,
    write_sections,
)
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder
from skae.networks import ConvNetwork

SECTIONS = ("tables", "speed", "images", "downstream")
MAX_ROWS = 5000
MIN_ROWS, MIN_COLUMNS, MAX_COLUMNS = 1000, 6, 64
# On larger tables the trees take more than a minute.
MAX_CELLS_FOR_TREES = 40_000
PATTERNS = {
    "10 % at random": 0.1,
    "30 % at random": 0.3,
    "20 %, larger values more often": "larger",
}
SKAE = "DenoisingAutoencoder"
CLIPPED = "IterativeImputer, clipped"
TREES = "IterativeImputer, trees"


# Tables with missing cells.


def tables(data):
    """Yield name and rows of each table."""
    for path in outlier_tables_if_any(data):
        with np.load(path, allow_pickle=False) as file:
            X = file["X"].astype(np.float64)
        if len(X) >= MIN_ROWS and MIN_COLUMNS <= (X.std(axis=0) > 0).sum() <= MAX_COLUMNS:
            yield path.stem, X[np.random.default_rng(0).permutation(len(X))[: at_most(MAX_ROWS)]]
    yield "breast_cancer", load_breast_cancer().data


def draw_missing(X, pattern, rng):
    """Mask of the cells to hide."""
    share = 0.4 * rankdata(X, axis=0) / len(X) if pattern == "larger" else pattern
    return rng.random(X.shape) < share


def split(X, seed):
    """Training and test rows, standardised by the training rows."""
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = np.split(X[order], [int(0.7 * len(X))])
    varying = train.std(axis=0) > 0
    train, test = train[:, varying], test[:, varying]
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / deviation, (test - mean) / deviation


def imputers(train, seed):
    """Imputers by name."""
    low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
    high = np.maximum(high, low + 1e-9)  # IterativeImputer refuses constant columns
    clipped = {"min_value": low, "max_value": high, "random_state": seed}
    found = {
        SKAE: DenoisingAutoencoder(random_state=seed, **short_training()),
        "mean": SimpleImputer(),
        "median": SimpleImputer(strategy="median"),
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=seed),
        CLIPPED: IterativeImputer(**clipped),
    }
    if seed == 0 and train.size <= at_most(MAX_CELLS_FOR_TREES):
        trees = ExtraTreesRegressor(20, min_samples_leaf=3, random_state=seed)
        found[TREES] = IterativeImputer(trees, max_iter=5, **clipped)
    return found


def measure_tables(data, n_seeds):
    """One row of results for each table, pattern, seed and imputer."""
    rows = []
    for name, X in tables(data):
        for pattern in PATTERNS:
            for seed in range(n_seeds):
                rows += measure_table(name, X, pattern, seed)
        save_part("denoise_tables", {"machine": machine_line(), "rows": rows})
    return rows


def measure_table(name, X, pattern, seed):
    """All imputers on one table with the same missing cells."""
    train, test = split(X, seed)
    rng = np.random.default_rng(seed)
    train = np.where(draw_missing(train, PATTERNS[pattern], rng), np.nan, train)
    hidden = draw_missing(test, PATTERNS[pattern], rng)
    rows = []
    for imputer, model in imputers(train, seed).items():
        seconds = [time.perf_counter()]
        model.fit(train)
        seconds.append(time.perf_counter())
        filled = model.transform(np.where(hidden, np.nan, test))
        seconds.append(time.perf_counter())
        errors = (filled - test)[hidden]
        row = {"table": name, "rows": len(train), "columns": train.shape[1]}
        row |= {"pattern": pattern, "seed": seed, "imputer": imputer}
        row |= {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.abs(errors).mean())}
        row |= {"fit": seconds[1] - seconds[0], "transform": seconds[2] - seconds[1]}
        rows.append(row)
        report(row)
    return rows


def mean_over_seeds(rows, key):
    """{(table, pattern): {imputer: mean of key}}."""
    found = {}
    for row in rows:
        cell = found.setdefault((row["table"], row["pattern"]), {})
        cell.setdefault(row["imputer"], []).append(row[key])
    return {place: {k: float(np.mean(v)) for k, v in c.items()} for place, c in found.items()}


def format_tables(part):
    """Ratios to the other imputers, then all errors at 30 %, then seconds."""
    rows = part["rows"]
    errors = {key: mean_over_seeds(rows, key) for key in ("rmse", "mae")}
    others = [name for name in dict.fromkeys(row["imputer"] for row in rows) if name != SKAE]
    ratios, seconds = [], []
    for other in others:
        row = {f"{SKAE} over": other}
        for pattern in PATTERNS:
            for key, cells in errors.items():
                pairs = [
                    (c[SKAE], c[other])
                    for (_, p), c in cells.items()
                    if p == pattern and other in c
                ]
                ratio = np.exp(np.mean([np.log(skae / error) for skae, error in pairs]))
                n_better = sum(skae < error for skae, error in pairs)
                row[f"{key.upper()}, {pattern}"] = f"{ratio:.3f} ({n_better} of {len(pairs)})"
        ratios.append(row)
    all_errors = [
        {"table": name, **{k: f"{cell[k]:.3f}" if k in cell else "" for k in (SKAE, *others)}}
        for (name, pattern), cell in errors["rmse"].items()
        if pattern == "30 % at random"
    ]
    shapes = {row["table"]: f"{row['rows']} x {row['columns']}" for row in rows}
    fit, transform = (mean_over_seeds(rows, key) for key in ("fit", "transform"))
    for name, shape in shapes.items():
        row = {"table": name, "training rows": shape}
        for imputer in (SKAE, "KNNImputer", CLIPPED, TREES):
            place = (name, "30 % at random")
            if imputer in fit[place]:
                row[imputer] = f"{fit[place][imputer]:.2f} + {transform[place][imputer]:.3f}"
            else:
                row[imputer] = ""
        seconds.append(row)
    return [
        "## Tables with holes",
        part["machine"],
        "Geometric mean over tables of the ratio of errors; in brackets the number of tables on "
        f"which {SKAE} is better.",
        markdown_table(ratios),
        "RMSE at 30 % missing, in standard deviations:",
        markdown_table(all_errors),
        "Seconds to fit and to transform at 30 % missing:",
        markdown_table(seconds),
    ]


# Speed.


def measure_speed(n_rounds, widths):
    """Seconds of imputers, which take turns, on normal rows with five factors, 30 % missing."""
    rows = []
    for n_columns in widths:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(5000, 5)) @ rng.normal(size=(5, n_columns))
        X += 0.5 * rng.normal(size=X.shape)
        X = np.where(rng.random(X.shape) < 0.3, np.nan, X)
        seconds = {}
        for seed in range(n_rounds):
            for name in (SKAE, "KNNImputer", CLIPPED):
                model = imputers(X[:3500], seed)[name]
                times = [time.perf_counter()]
                for step, part in ((model.fit, X[:3500]), (model.transform, X[3500:])):
                    step(part)
                    times.append(time.perf_counter())
                seconds.setdefault(name, []).append(np.diff(times))
        skae = np.array(seconds[SKAE])
        for name, runs in seconds.items():
            fit, transform = np.median(runs, axis=0)
            row = {"columns": n_columns, "imputer": name, "fit seconds": fit}
            row |= {"transform seconds": transform}
            ratios = np.median(skae / np.array(runs), axis=0)
            row |= {f"{SKAE}'s fit over": ratios[0], f"{SKAE}'s transform over": ratios[1]}
            rows.append({k: v if isinstance(v, str | int) else float(v) for k, v in row.items()})
            report(rows[-1])
    save_part("denoise_speed", {"machine": machine_line(), "rows": rows})


def format_speed(part):
    return [
        "## Speed",
        part["machine"],
        "3500 rows to fit, 1500 to transform, 30 % missing; medians of three rounds.",
        markdown_table(part["rows"]),
    ]


# Images.


def clipped_noise(X, rng):
    """Pixels plus noise of a fifth of their range, clipped to the range."""
    return np.clip(X + 0.2 * rng.normal(size=X.shape), 0, 1)


def strong_noise(X, rng):
    """Pixels plus standard normal noise."""
    return X + rng.normal(size=X.shape)


def measure_images(data):
    """Mean squared errors of pixels, noisy and cleaned in several ways."""
    rows = []
    network = ConvNetwork((1, 28, 28), (16, 8))
    params = {"scaling": "global", "random_state": 0, **short_training()}
    fashion = {
        "MLP, defaults": DenoisingAutoencoder(noise=clipped_noise, **params),
        "ConvNetwork (16, 8)": DenoisingAutoencoder(
            392, network=network, noise=clipped_noise, **params
        ),
    }
    strong = {
        "MLP, defaults": DenoisingAutoencoder(noise="gaussian", noise_level=1.0, **params),
        "MLP, 32 latents": DenoisingAutoencoder(32, noise="gaussian", noise_level=1.0, **params),
    }
    for name, noise, models in (
        ("fashion_mnist", clipped_noise, fashion),
        ("mnist", strong_noise, strong),
    ):
        X, _, X_test, _ = load_images(name, data)
        noisy = noise(X_test, np.random.default_rng(1)).astype(np.float32)
        rows.append(image_row(name, "nothing", noisy, X_test, None))
        rows += classical_filters(name, X, noise, noisy, X_test)
        for label, model in models.items():
            start = time.perf_counter()
            model.fit(X)
            seconds = time.perf_counter() - start
            cleaned = np.clip(model.transform(noisy), 0, 1)
            rows.append(image_row(name, f"{SKAE}, {label}", cleaned, X_test, seconds))
        save_part("denoise_images", {"machine": machine_line(), "rows": rows})
    return rows


def classical_filters(name, X, noise, noisy, X_test):
    """PCA and Gaussian filters, each with the setting that is best on the test rows."""
    start = time.perf_counter()
    pca = PCA(200, random_state=0).fit(noise(X, np.random.default_rng(0)).astype(np.float32))
    seconds = time.perf_counter() - start
    scores = (noisy - pca.mean_) @ pca.components_.T
    best = min(
        (
            float(np.square(scores[:, :k] @ pca.components_[:k] + pca.mean_ - X_test).mean()),
            k,
        )
        for k in range(5, 201, 5)
    )[1]
    cleaned = np.clip(scores[:, :best] @ pca.components_[:best] + pca.mean_, 0, 1)
    rows = [image_row(name, f"PCA, best of {best} components", cleaned, X_test, seconds)]
    images = noisy.reshape(-1, 28, 28)
    blurred = {
        sigma: np.clip(gaussian_filter(images, (0, sigma, sigma)), 0, 1).reshape(X_test.shape)
        for sigma in (0.4, 0.6, 0.8, 1.0, 1.3, 1.6)
    }
    sigma = min(blurred, key=lambda s: np.square(blurred[s] - X_test).mean())
    rows.append(
        image_row(name, f"Gaussian filter, best sigma {sigma}", blurred[sigma], X_test, 0.0)
    )
    return rows


def image_row(name, cleaned_by, cleaned, X_test, seconds):
    row = {
        "images": name,
        "cleaned by": cleaned_by,
        "test MSE": float(np.square(cleaned - X_test).mean()),
        "fit seconds": seconds,
    }
    report(row)
    return row


def format_images(part):
    return [
        "## Images",
        part["machine"],
        "60000 training images. fashion_mnist: noise of 0.2, clipped to [0, 1] (published for a "
        "convolutional autoencoder: 0.0066 after 10 epochs of about 50 s each). mnist: standard "
        "normal noise on each pixel. Cleaned pixels are clipped to [0, 1].",
        markdown_table(part["rows"]),
    ]


# Downstream.


def measure_downstream(data, n_seeds):
    """Accuracy of classifiers after each imputer, 30 % of the cells missing."""
    rows = []
    for name, X, y in labelled_tables(data):
        for seed in range(n_seeds):
            order = np.random.default_rng(seed).permutation(len(X))
            train, test = np.split(order, [int(0.7 * len(X))])
            missing = draw_missing(X, 0.3, np.random.default_rng(seed))
            incomplete = np.where(missing, np.nan, X)
            scaler = StandardScaler().fit(incomplete[train])
            A, B = scaler.transform(incomplete[train]), scaler.transform(incomplete[test])
            for imputer in (SKAE, "mean", "KNNImputer", CLIPPED):
                model = imputers(A, seed)[imputer]
                filled = model.fit_transform(A), model.transform(B)
                row = {"table": name, "seed": seed, "imputer": imputer}
                for label, classifier in classifiers(seed).items():
                    row[label] = classifier.fit(filled[0], y[train]).score(filled[1], y[test])
                rows.append(row)
                report(row)
    save_part("denoise_downstream", {"machine": machine_line(), "rows": rows})
    return rows


def classifiers(seed):
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=100, random_state=seed),
    }


def format_downstream(part):
    rows = part["rows"]
    lines = []
    for name in dict.fromkeys(row["table"] for row in rows):
        for label in classifiers(0):
            row = {"table": name, "classifier": label}
            for imputer in dict.fromkeys(r["imputer"] for r in rows):
                found = [r[label] for r in rows if r["table"] == name and r["imputer"] == imputer]
                row[imputer] = f"{np.mean(found):.3f}"
            lines.append(row)
    means = {"table": "mean", "classifier": ""}
    for imputer in lines[0].keys() - {"table", "classifier"}:
        means[imputer] = f"{np.mean([float(row[imputer]) for row in lines]):.4f}"
    return [
        "## Use downstream",
        part["machine"],
        "Accuracy on the held-out 30 % of the rows, with 30 % of all cells missing; mean over "
        "seeds.",
        markdown_table([*lines, {k: means[k] for k in lines[0]}]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seeds", type=int, default=3)
    args = parse_arguments(parser)
    n_seeds, n_rounds = (1, 1) if args.quick else (args.seeds, 3)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # IterativeImputer does not converge on most tables
    if "tables" in args.only:
        measure_tables(args.data, n_seeds)
    if "speed" in args.only:
        measure_speed(n_rounds, (20,) if args.quick else (20, 60))
    if "images" in args.only:
        with skippable("images"):
            measure_images(args.data)
    if "downstream" in args.only:
        measure_downstream(args.data, n_seeds)
    formatters = {
        "tables": format_tables,
        "speed": format_speed,
        "images": format_images,
        "downstream": format_downstream,
    }
    write_sections("denoise", "# Cleaning and filling", formatters)


if __name__ == "__main__":
    main()
