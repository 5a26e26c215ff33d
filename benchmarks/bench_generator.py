"""VAEGenerator compared with density models and copulas, for classifiers, and on images.

Mixed tables follow the protocol of published work (see _generator_mixed.py). Others are all of
ADBench with 6 to 64 columns (at most 5000 rows of each), breast_cancer, and two with columns of
levels. Models are fitted on 70 % of the rows and draw as many rows as the other 30 %, with which
these are compared.

    python benchmarks/bench_generator.py [--only SECTION ...] --data DIR
"""

import argparse
import resource
import time
import warnings

import numpy as np
import pandas as pd
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
    results_folder,
    save_part,
    short_training,
    skippable,
    write_sections,
)
from _generator_mixed import format_mixed, measure_mixed
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skae import VAEGenerator
from skae._data._frames import Columns
from skae._stats._fidelity import fidelity

SECTIONS = ("tables", "mixed", "downstream", "images", "speed")
MAX_ROWS, MIN_LARGE = 5000, 1000
MIN_COLUMNS, MAX_COLUMNS = 6, 64
SKAE, PLAIN = "VAEGenerator", "VAEGenerator, refine=False"
MEASURES = {
    "auroc": "AUROC, boosting",
    "auroc_forest": "AUROC, extra trees",
    "excess_ks": "KS beyond real's",
    "zero_share_difference": "zero share off by",
    "correlation_difference": "correlation off by",
    "record_distance_ratio": "record distance",
    "excess_copies": "excess copies",
    "fit_seconds": "fit s",
}
TABLES_NOTES = (
    "AUROC is that of a classifier that separates drawn from held-out rows, in shuffled folds: 0.5 "
    "is ideal. KS is the mean over columns of the Kolmogorov-Smirnov distance (total variation for "
    "levels) from held-out rows, less that of as many training rows. Record distance is the median "
    "distance to the closest training row over that of held-out rows. Density models and copulas "
    "treat the codes of levels as numbers."
)


# Tables.


def tables(data):
    """Yield name and frame of each table."""
    for path in outlier_tables_if_any(data):
        with np.load(path, allow_pickle=False) as file:
            X = file["X"].astype(np.float64)
        X = X[:, X.std(axis=0) > 0]
        if MIN_COLUMNS <= X.shape[1] <= MAX_COLUMNS:
            X = X[np.random.default_rng(0).permutation(len(X))[: at_most(MAX_ROWS)]]
            frame = pd.DataFrame(X).rename(columns=str)
            yield path.stem, frame
            if path.stem == "campaign":
                yield "campaign, levels", with_levels(frame)
    X = load_breast_cancer(as_frame=True).frame
    yield "breast_cancer", X.drop(columns="target")
    levels = X.assign(target=X["target"].map({0: "malignant", 1: "benign"}))
    for name in ("worst radius", "worst texture", "worst concavity"):
        levels[name] = pd.qcut(levels[name], 5, labels=list("abcde"))
    yield "breast_cancer, levels", levels


def with_levels(frame):
    """Merge each run of adjacent flags, of which exactly one is set, into a column of levels."""
    flags = [c for c in frame if frame[c].isin((0, 1)).all()]
    merged, start = {}, 0
    while start < len(flags):
        for end in range(len(flags), start + 1, -1):
            if (frame[flags[start:end]].sum(axis=1) == 1).all():
                merged[f"levels {start}"] = flags[start:end]
                start = end - 1
                break
        start += 1
    levels = {
        name: frame[group].idxmax(axis=1).map(lambda c: f"level {c}")
        for name, group in merged.items()
    }
    others = frame.drop(columns=[flag for group in merged.values() for flag in group])
    return others.assign(**levels)


class StandardizedDensity:
    """A density model of numbers, fitted on standardised columns."""

    def __init__(self, density):
        self.density = density

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        self.density.fit(self.scaler.transform(X))
        return self

    def sample(self, n, seed):
        if isinstance(self.density, KernelDensity):
            drawn = self.density.sample(n, random_state=seed)
        else:
            drawn = self.density.set_params(random_state=seed).sample(n)[0]
        return self.scaler.inverse_transform(drawn)


class Copula:
    """A normal distribution or a mixture of normal scores; quantiles map draws back to columns."""

    def __init__(self, n_components):
        self.n_components = n_components

    def fit(self, X):
        self.sorted = np.sort(X, axis=0)
        scores = ndtri((rankdata(X, axis=0) - 0.5) / len(X))
        self.mixture = GaussianMixture(self.n_components, reg_covar=1e-4, random_state=0)
        self.mixture.fit(scores)
        return self

    def sample(self, n, seed):
        shares = ndtr(self.mixture.set_params(random_state=seed).sample(n)[0])
        chosen = (shares * len(self.sorted)).astype(int).clip(0, len(self.sorted) - 1)
        return np.take_along_axis(self.sorted, chosen, axis=0)


def other_generators(n_rows):
    """Generators that draw numbers only."""
    n_components = 10 if n_rows >= 100 else 3
    return {
        "GaussianMixture": StandardizedDensity(
            GaussianMixture(n_components, reg_covar=1e-4, random_state=0)
        ),
        "KernelDensity": StandardizedDensity(KernelDensity(bandwidth="scott")),
        "Gaussian copula": Copula(1),
        "copula + mixture": Copula(n_components),
        **optional_generators(),
    }


def optional_generators():
    """TVAE, if ctgan is installed."""
    try:
        from ctgan import TVAE
    except ImportError:
        return {}

    class Tvae:
        def fit(self, X):
            self.model = TVAE()
            self.model.fit(pd.DataFrame(X).rename(columns=str))
            return self

        def sample(self, n, seed):
            self.model.set_random_state(seed)
            return self.model.sample(n).to_numpy()

    return {"TVAE": Tvae()}


def measure_tables(data, n_seeds):
    """One row of results for each table, seed and generator."""
    rows = []
    for name, frame in tables(data):
        for seed in range(n_seeds):
            rows += measure_table(name, frame, seed)
        save_part("generator_tables", {"machine": machine_line(), "rows": rows})
    return rows


def measure_table(name, frame, seed):
    """Results of all generators on one split of a table."""
    order = np.random.default_rng(seed).permutation(len(frame))
    train, test = (frame.iloc[part] for part in np.split(order, [int(0.7 * len(frame))]))
    columns = Columns(frame)
    is_code = np.asarray(columns.n_levels) > 0
    A, B = columns.to_numbers(train), columns.to_numbers(test)
    params = {"random_state": seed, **short_training()}
    skae_models = {SKAE: VAEGenerator(**params), PLAIN: VAEGenerator(refine=False, **params)}
    rows = []
    for label, model in {**skae_models, **other_generators(len(A))}.items():
        started = time.perf_counter()
        if label in skae_models:
            model.fit(train)
        else:
            model.fit(A)
        seconds = time.perf_counter() - started
        if label in skae_models:
            drawn = columns.to_numbers(model.sample(len(B), random_state=seed))
        else:
            drawn = model.sample(len(B), seed)
            n_levels = np.asarray(columns.n_levels)[is_code]
            # Drawn numbers become the nearest codes.
            drawn[:, is_code] = np.clip(np.rint(drawn[:, is_code]), 0, n_levels - 1)
        measures = fidelity(drawn, B, A, is_code, np.random.RandomState(seed))
        row = {"table": name, "rows": len(A), "columns": A.shape[1], "seed": seed, "by": label}
        row |= {key: float(value) for key, value in measures.items()}
        row["excess_ks"] = row["ks"] - row["ks_real"]
        if label in (SKAE, PLAIN, "copula + mixture"):
            row["auroc_forest"] = forest_auroc(drawn, B, seed)
        row["fit_seconds"] = seconds
        rows.append(row)
        report({k: row[k] for k in ("table", "seed", "by", "auroc", "excess_ks")})
    return rows


def forest_auroc(drawn, held_out, seed):
    """AUROC of another kind of classifier that separates drawn from held-out rows."""
    X = np.vstack([drawn, held_out])
    is_real = np.repeat([0, 1], [len(drawn), len(held_out)])
    trees = ExtraTreesClassifier(100, min_samples_leaf=2, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(trees, X, is_real, cv=folds, method="predict_proba")
    return roc_auc_score(is_real, probabilities[:, 1])


def format_tables(part):
    rows = pd.DataFrame(part["rows"])
    order = list(dict.fromkeys(rows["by"]))
    blocks = ["## Tables", part["machine"], TABLES_NOTES]
    for title, mask in (
        (f"{MIN_LARGE} rows and more", rows["rows"] >= 0.7 * MIN_LARGE),
        ("fewer rows", rows["rows"] < 0.7 * MIN_LARGE),
    ):
        part_rows = rows[mask]
        if part_rows.empty:
            continue
        means = part_rows.groupby("by")[list(MEASURES)].mean().loc[order].rename(columns=MEASURES)
        n_tables = part_rows["table"].nunique()
        lines = [{"": by, **row} for by, row in means.to_dict("index").items()]
        blocks += [f"### {n_tables} tables with {title}: means", markdown_table(lines)]
    by_table = rows.pivot_table(index=["table", "rows", "columns"], columns="by", values="auroc")
    by_table = by_table[order].reset_index()
    blocks += [
        "### AUROC of gradient boosting by table",
        markdown_table(by_table.to_dict("records")),
    ]
    return blocks


# Downstream.


def measure_downstream(data, n_seeds):
    """Accuracy on real rows of trees fitted on real rows and of trees fitted on drawn ones."""
    rows = []
    for name, X, y in labelled_tables(data):
        for seed in range(n_seeds):
            order = np.random.default_rng(seed).permutation(len(X))
            train, test = np.split(order, [int(0.7 * len(X))])
            trees = HistGradientBoostingClassifier(random_state=seed)
            params = {"random_state": seed, **short_training()}
            row = {"table": name, "seed": seed, "rows": len(train)}
            row["real"] = trees.fit(X[train], y[train]).score(X[test], y[test])
            model = VAEGenerator(conditional=True, **params).fit(X[train], y[train])
            drawn = model.sample(y=y[train], random_state=seed)
            row["drawn given y"] = trees.fit(drawn, y[train]).score(X[test], y[test])
            frame = (
                pd.DataFrame(X[train])
                .rename(columns=str)
                .assign(y=[f"class {label}" for label in y[train]])
            )
            both = VAEGenerator(**params).fit(frame).sample(len(train), random_state=seed)
            labels = both["y"].str.removeprefix("class ").astype(int)
            trees.fit(both.drop(columns="y").to_numpy(), labels)
            row["drawn with y"] = trees.score(X[test], y[test])
            rows.append(row)
            report(row)
    save_part("generator_downstream", {"machine": machine_line(), "rows": rows})
    return rows


def format_downstream(part):
    rows = pd.DataFrame(part["rows"]).drop(columns="seed")
    means = rows.groupby("table").mean().reset_index()
    means = pd.concat([means, means.drop(columns="table").mean().to_frame().T.assign(table="mean")])
    for name in ("drawn given y", "drawn with y"):
        means[f"{name} / real"] = means[name] / means["real"]
    return [
        "## Trained on drawn rows, tested on real ones",
        part["machine"],
        "Accuracy of gradient boosting on the held-out 30 % of the rows, mean over seeds; it is "
        'fitted on as many drawn rows as there are real ones. "Given y": `conditional=True`; "with '
        'y": the class is a column of the table.',
        markdown_table(means.to_dict("records")),
    ]


# Images.


def measure_images(data, epochs):
    """Bounds of the likelihood of MNIST's test digits, binarised once at random, and a picture."""
    X, _, T, _ = load_images("mnist", data)
    T = (np.random.default_rng(0).random(T.shape) < T).astype(np.float32)
    T = T[np.random.default_rng(1).permutation(len(T))]
    model = VAEGenerator(likelihood="bernoulli", max_epochs=epochs, random_state=0)
    started = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - started
    draw_digits(model, T)
    parts = model.set_params(n_importance_samples=1).elbo(T)
    bound = model.set_params(n_importance_samples=100).score(T[:2000])
    row = {
        "fit seconds": seconds,
        "epochs": epochs,
        "negative ELBO": -float(parts.elbo.mean()),
        "of which KL": float(parts.kl.mean()),
        "100 importance samples, mixture prior": -bound,
    }
    model.prior_, model._group_weights = None, np.ones((1, 1))
    row["100 importance samples, standard prior"] = -model.score(T[:2000])
    report(row)
    save_part("generator_images", {"machine": machine_line(), "rows": [row]})


def draw_digits(model, T):
    """Draw a picture of drawn digits and of interpolations between two test digits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn = model.sample(60, random_state=0)
    paths = np.vstack([model.interpolate(T[2 * i], T[2 * i + 1], 10) for i in range(4)])
    images = np.vstack([drawn, paths]).reshape(10, 10, 28, 28)
    figure, axes = plt.subplots(2, 1, figsize=(6, 6.5), height_ratios=[6, 4], layout="constrained")
    parts = {"Drawn digits": images[:6], "Interpolations between two test digits": images[6:]}
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        ax.imshow(part.transpose(0, 2, 1, 3).reshape(-1, 280), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], title=title)
    figure.savefig(results_folder() / "generator_digits.png", dpi=110)
    plt.close(figure)


def format_images(part):
    return [
        "## MNIST",
        part["machine"],
        "Nats per digit. Training pixels in [0, 1] are binarised at random in each epoch, test "
        "digits once (seed 0). The ELBO is the mean over all 10000 test digits with one draw each, "
        "the importance-weighted bounds are means over 2000 of them.",
        markdown_table(part["rows"]),
        "![Drawn digits, and interpolations between test digits](generator_digits.png)",
    ]


# Speed.


def measure_speed(n_drawn, n_rounds):
    """Seconds of a fit, of draws and of scores, and the memory of draws."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3500, 20)) @ rng.normal(size=(20, 20))
    VAEGenerator(max_epochs=1).fit(X)  # warm-up: imports and first calls are not measured
    rows = []
    for refine in (True, False):
        seconds = []
        for _ in range(n_rounds):
            started = time.perf_counter()
            model = VAEGenerator(refine=refine, random_state=0, **short_training()).fit(X)
            seconds.append(time.perf_counter() - started)
        row = {"refine": str(refine), "fit 3500x20, s": float(np.median(seconds))}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        drawn = model.sample(n_drawn, random_state=0)
        row[f"{n_drawn} rows, s"] = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        row["MiB above the rows and the peak before"] = round(peak / 1024 - drawn.nbytes / 2**20)
        started = time.perf_counter()
        model.score_samples(X)
        row["score 3500 rows, s"] = time.perf_counter() - started
        rows.append(row)
        report(row)
    save_part("generator_speed", {"machine": machine_line(), "rows": rows})


def format_speed(part):
    return ["## Speed", part["machine"], markdown_table(part["rows"])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24, help="of the image model")
    parser.add_argument("--threads", type=int, default=1)
    args = parse_arguments(parser)
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    n_seeds = 1 if args.quick else args.seeds
    if "tables" in args.only:
        measure_tables(args.data, n_seeds)
    if "mixed" in args.only:
        measure_mixed(args.data, n_seeds)
    if "downstream" in args.only:
        measure_downstream(args.data, n_seeds)
    if "images" in args.only:
        with skippable("images"):
            measure_images(args.data, args.epochs)
    if "speed" in args.only:
        measure_speed(*(10_000, 1) if args.quick else (1_000_000, 3))
    formatters = {
        "tables": format_tables,
        "mixed": format_mixed,
        "downstream": format_downstream,
        "images": format_images,
        "speed": format_speed,
    }
    write_sections("generator", "# Drawing rows", formatters)


if __name__ == "__main__":
    main()
