"""Outlier detectors on tables with labels: quality, time and memory.

    python benchmarks/bench_outliers.py --data DIR
    python benchmarks/bench_outliers.py --only speed
    python benchmarks/bench_outliers.py --data DIR --only tables --detectors skae
    python benchmarks/bench_outliers.py --data DIR --only unseen [--half report]

Protocol: at most 5000 rows of each table (stratified, seed 0) are split 70/30 (stratified, seeds 0
and 1); detectors are fitted on the contaminated training rows without labels, and measured on the
others. Columns are scaled to [0, 1] by the training rows, but not for IsolationForest, which needs
no scaling, and skae's detector, which scales columns itself. PyOD's detectors are left out if PyOD
is not installed (``pip install pyod``).
"""

import argparse
import contextlib
import io
import json
import logging
import warnings
from time import perf_counter

import numpy as np
import torch
from _common import (
    PeakAbove,
    add_data_argument,
    at_most,
    from_child,
    load_part,
    machine_line,
    markdown_table,
    outlier_tables,
    parse_arguments,
    report,
    save_part,
    seconds_of,
    skippable,
    unseen_outlier_tables,
    write_sections,
)
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

from skae import AutoencoderOutlierDetector
from skae._data._scaling import Scaler
from skae._stats._trimming import scale_by_trimmed_subset

MAX_ROWS = 5000
SPLIT_SEEDS = (0, 1)
FOREST_SEEDS = range(5)
# Outliers among the training rows of a contaminated table, at most.
MAX_CONTAMINATION = 0.08
# Differences in AUROC and AP below it are ties.
TIE = 0.005
SKAE, FOREST, CONTROL = "skae", "IsolationForest", "no network"
NEIGHBOURS = "5 nearest neighbours"
PYOD = {
    "ECOD": "ecod",
    "COPOD": "copod",
    "HBOS": "hbos",
    "KNN": "knn",
    "PCA": "pca",
    "AutoEncoder": "auto_encoder",
    "VAE": "vae",
    "DeepSVDD": "deep_svdd",
}
N_RESAMPLES = 10_000
# Rounds, rows of the large fit and rows scored.
FULL_SPEED, QUICK_SPEED = (5, 50_000, 10**6), (1, 10_000, 10**5)


class NoNetwork:
    """skae's scaling, trimmed subset and loss, with the same reconstruction for all rows."""

    def fit(self, X):
        self.scaler = Scaler("robust", clip=8.0).fit(X)
        scale_by_trimmed_subset(self.scaler, X, None, 0.7)
        return self

    def score_samples(self, X):
        return -np.log1p(self.scaler.transform(X) ** 2).mean(axis=1)


class Neighbours:
    """Mean distance to the 5 nearest training rows, in standardised columns."""

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        self.index = NearestNeighbors(n_neighbors=min(5, len(X) - 1)).fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        return -self.index.kneighbors(self.scaler.transform(X))[0].mean(axis=1)


class FromPyOD:
    """A detector of PyOD with its defaults; normal rows have higher scores, as in scikit-learn."""

    def __init__(self, name):
        module = __import__(f"pyod.models.{PYOD[name]}", fromlist=[name])
        self.build = getattr(module, name)
        self.name = name

    def fit(self, X):
        self.scaler = MinMaxScaler().fit(X)
        needs = {"n_features": X.shape[1]} if self.name == "DeepSVDD" else {}
        with quiet():
            self.detector = self.build(**needs).fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        with quiet():
            return -self.detector.decision_function(self.scaler.transform(X))


@contextlib.contextmanager
def quiet():
    """Without prints, progress bars, logs and warnings."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        logging.disable(logging.NOTSET)


def detectors(seed):
    """Lists of detectors by name; results are means over a list."""
    found = {
        SKAE: [AutoencoderOutlierDetector(random_state=seed)],
        FOREST: [IsolationForest(random_state=s) for s in FOREST_SEEDS],
        CONTROL: [NoNetwork()],
    }
    try:
        import pyod  # noqa: F401
    except ImportError:
        print("PyOD is not installed: its detectors are left out.")
        return found
    return found | {f"PyOD {name}": [FromPyOD(name)] for name in PYOD}


# Quality.


def load_table(path):
    with np.load(path, allow_pickle=False) as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(int)
    n_rows = at_most(MAX_ROWS)
    if len(X) > n_rows:
        X, _, y, _ = train_test_split(X, y, train_size=n_rows, stratify=y, random_state=0)
    return X, y


def measure_tables(data, chosen, split_seeds):
    """AUROC, AP and seconds of the detectors on every table, means over the splits."""
    rows = []
    for path in outlier_tables(data):
        X, y = load_table(path)
        measured = [measure_split(X, y, seed, chosen) for seed in split_seeds]
        for name in measured[0]:
            auroc, ap, fit, score = np.mean([split[name] for split in measured], axis=0)
            row = {"table": path.stem, "detector": name, "auroc": auroc, "ap": ap}
            rows.append(row | {"fit_s": fit, "score_s": score})
            report(rows[-1])
    return rows


def measure_split(X, y, seed, chosen):
    X_train, X_test, _, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    measured = {}
    for name, repeats in detectors(seed).items():
        if chosen and name not in chosen:
            continue
        runs = [measure(detector, X_train, X_test, y_test) for detector in repeats]
        measured[name] = np.mean(runs, axis=0)
    return measured


def measure(detector, X_train, X_test, y_test):
    start = perf_counter()
    detector.fit(X_train)
    fitted = perf_counter()
    scores = np.nan_to_num(-detector.score_samples(X_test))  # some of PyOD's overflow
    seconds = fitted - start, perf_counter() - fitted
    return roc_auc_score(y_test, scores), average_precision_score(y_test, scores), *seconds


def by_detector(rows, key):
    """{detector: values of all tables}, with the tables in the same order."""
    names = dict.fromkeys(row["detector"] for row in rows)
    return {n: np.array([row[key] for row in rows if row["detector"] == n]) for n in names}


def summary(rows):
    """One line per detector, ordered by mean AUROC."""
    auroc, ap, fit, score = (by_detector(rows, key) for key in ("auroc", "ap", "fit_s", "score_s"))
    ranks = (-np.array(list(auroc.values()))).argsort(axis=0).argsort(axis=0) + 1
    lines = []
    for name, rank in zip(auroc, ranks, strict=True):
        line = {
            "detector": name,
            "AUROC": round(auroc[name].mean(), 3),
            "AP": round(ap[name].mean(), 3),
            "mean rank": round(float(rank.mean()), 1),
        }
        for key, values in (("AUROC", auroc), ("AP", ap)):
            differences = values[SKAE] - values[name]
            n_better, n_worse = (differences > 0).sum(), (differences < 0).sum()
            line[f"skae better by, {key}"] = "" if name == SKAE else interval(differences)
            line[f"skae wins, {key}"] = "" if name == SKAE else f"{n_better} to {n_worse}"
        line["fit s"] = round(fit[name].mean(), 2)
        line["score s"] = round(score[name].mean(), 3)
        lines.append(line)
    return sorted(lines, key=lambda line: -line["AUROC"])


def interval(differences):
    """Mean difference, and the 95 % interval of a bootstrap over tables."""
    draws = np.random.default_rng(0).choice(differences, (N_RESAMPLES, len(differences)))
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def per_table(rows):
    auroc, ap = by_detector(rows, "auroc"), by_detector(rows, "ap")
    shown = [name for name in (SKAE, FOREST, CONTROL) if name in auroc]
    lines = []
    for i, table in enumerate(dict.fromkeys(row["table"] for row in rows)):
        line = {"table": table}
        line |= {f"{name}, AUROC": round(auroc[name][i], 3) for name in shown}
        line |= {f"{name}, AP": round(ap[name][i], 3) for name in shown}
        lines.append(line)
    return lines


# Quality on tables that chose nothing.


def measure_unseen(data, half):
    """AUROC and AP on each table: trained on clean rows, and on rows with some outliers."""
    rows = []
    for path in unseen_outlier_tables(data, half):
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[key].astype(np.float64) for key in ("train", "test")]
            labels = file["test_labels"].astype(int)
        for protocol in ("clean", "contaminated"):
            split = (*arrays, labels) if protocol == "clean" else contaminated(*arrays, labels)
            for name, repeats in detectors_of_unseen().items():
                auroc, ap, *_ = np.mean([measure(each, *split) for each in repeats], axis=0)
                row = {"table": path.stem, "detector": name, "auroc": auroc, "ap": ap}
                rows.append({"half": half, "protocol": protocol, **row})
                report(rows[-1])
    return rows


def contaminated(train, test, labels):
    """The same table with outliers of the test rows among the training rows.

    Half of the outliers at most, in a seeded order, and a share `MAX_CONTAMINATION` of the
    training rows at most.
    """
    outliers = np.random.default_rng(0).permutation(np.flatnonzero(labels))
    n_moved = int(MAX_CONTAMINATION / (1 - MAX_CONTAMINATION) * len(train))
    moved = outliers[: min(len(outliers) // 2, n_moved)]
    left = np.setdiff1d(np.arange(len(test)), moved)
    return np.vstack([train, test[moved]]), test[left], labels[left]


def detectors_of_unseen():
    return {
        SKAE: [AutoencoderOutlierDetector(random_state=0)],
        FOREST: [IsolationForest(random_state=seed) for seed in FOREST_SEEDS],
        NEIGHBOURS: [Neighbours()],
    }


def unseen_summary(rows):
    """One line per detector: means, and how skae compares."""
    auroc, ap = by_detector(rows, "auroc"), by_detector(rows, "ap")
    lines = []
    for name in auroc:
        line = {"detector": name, "AUROC": round(auroc[name].mean(), 3)}
        line["AP"] = round(ap[name].mean(), 3)
        for key, values in (("AUROC", auroc), ("AP", ap)):
            differences = values[SKAE] - values[name]
            wins = f"{(differences > TIE).sum()} to {(differences < -TIE).sum()}"
            line[f"skae better by, {key}"] = "" if name == SKAE else interval(differences)
            line[f"skae wins, {key}"] = "" if name == SKAE else wins
        lines.append(line)
    return lines


# Speed.


def factors_table(n_rows, seed=0):
    """Float32 rows of 20 columns: five factors and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5)) @ rng.normal(size=(5, 20))
    return (X + 0.3 * rng.normal(size=X.shape)).astype(np.float32)


def measure_speed(n_rounds, n_fitted, n_scored):
    X = factors_table(5000)
    members = {m: AutoencoderOutlierDetector(n_estimators=m, random_state=0) for m in (1, 4, 8)}
    members[1].fit(X)
    rounds = [{m: seconds_of(d.fit, X) for m, d in members.items()} for _ in range(n_rounds)]
    median = {m: float(np.median([r[m] for r in rounds])) for m in members}
    ratio = float(np.median([r[8] / r[1] for r in rounds]))
    large = factors_table(n_fitted)
    fit_large = seconds_of(members[4].fit, large)
    forest = IsolationForest(random_state=0).fit(large)
    larger = factors_table(n_scored)
    ratios = []
    for _ in range(min(n_rounds, 3)):
        skae = seconds_of(members[4].score_samples, larger)
        ratios.append(skae / seconds_of(forest.score_samples, larger))
    memory = from_child(__file__, "--memory", n_scored)
    return [
        line("fit 5000x20, default (4 members), one core, s", median[4], "3"),
        line("fit 5000x20, 8 members over 1, ratio", ratio, "3"),
        line(f"fit {n_fitted}x20, one core, s", fit_large, "15"),
        line(f"score {n_scored}x20, one core, s", skae, ""),
        line(f"score {n_scored}x20 over IsolationForest's, ratio", float(np.median(ratios)), "1"),
        line(f"score {n_scored}x20, MiB above the data", memory["resident"] / 2**20, "500"),
    ]


def line(what, measured, limit):
    row = {"what": what, "measured": round(measured, 2), "at most": limit}
    report(row)
    return row


def print_memory(n_scored):
    """Print the peak memory of scoring, in a process of its own."""
    detector = AutoencoderOutlierDetector(random_state=0, max_epochs=1).fit(factors_table(5000))
    X = factors_table(n_scored)
    detector.score_samples(X[: n_scored // 10])
    with PeakAbove() as scoring:
        detector.score_samples(X)
    print(json.dumps(scoring.peak))


# All sections.


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--only", choices=["tables", "unseen", "speed"])
    parser.add_argument(
        "--half",
        choices=["decide", "report"],
        default="decide",
        help="of the unseen tables: the half to choose by, or the one to look at once",
    )
    parser.add_argument(
        "--detectors", nargs="+", help="measure only these and keep the others' numbers"
    )
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    arguments = parse_arguments(parser)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        if arguments.memory:
            print_memory(arguments.memory)
            return
        if arguments.only in (None, "speed"):
            rows = measure_speed(*QUICK_SPEED if arguments.quick else FULL_SPEED)
            save_part("outliers_speed", {"machine": machine_line(), "rows": rows})
        if arguments.only in (None, "tables"):
            with skippable("tables"):
                split_seeds = SPLIT_SEEDS[:1] if arguments.quick else SPLIT_SEEDS
                rows = measure_tables(arguments.data, arguments.detectors, split_seeds)
                if arguments.detectors and not arguments.quick:
                    old = load_part("outliers_tables")["rows"]
                    rows += [row for row in old if row["detector"] not in arguments.detectors]
                save_part("outliers_tables", {"machine": machine_line(), "rows": rows})
        if arguments.only in (None, "unseen"):
            with skippable("unseen"):
                rows = measure_unseen(arguments.data, arguments.half)
                save_part("outliers_unseen", {"machine": machine_line(), "rows": rows})
    formatters = {"tables": format_tables, "unseen": format_unseen, "speed": format_speed}
    write_sections("outliers", "# Outlier detectors", formatters)


def format_tables(part):
    n_tables = len({row["table"] for row in part["rows"]})
    return [
        f"## {n_tables} tables of ADBench",
        __doc__.split("Protocol: ")[1].strip() + " *skae better by* is the mean difference "
        "with the 95 % interval of a bootstrap over tables; *no network* is skae's scaling, "
        "trimmed subset and loss without a network. Seconds are means per split.",
        markdown_table(summary(part["rows"])),
        markdown_table(per_table(part["rows"])),
        part["machine"],
    ]


def format_unseen(part):
    rows = part["rows"]
    n_tables = len({row["table"] for row in rows})
    blocks = [
        f"## {n_tables} tables that chose nothing",
        "Tables of OddBench and OvRBench (arXiv 2602.09329) with at most 100 columns and 2500 "
        "training rows; none of them was looked at when the present defaults were chosen. *clean*: "
        "fitted on normal rows. *contaminated*: outliers of the test rows are mixed into the "
        "training rows, half of them at most and at most 8 % of the rows. Defaults of all "
        "detectors; IsolationForest is the mean of five seeds, neighbours are the mean distance in "
        f"standardised columns. A difference below {TIE} is no win. *skae better by* is the mean "
        "difference with the 95 % interval of a bootstrap over tables.",
    ]
    for protocol in ("clean", "contaminated"):
        shown = [row for row in rows if row["protocol"] == protocol]
        blocks += [f"### Training rows: {protocol}", markdown_table(unseen_summary(shown))]
    half = {"decide": "the half that choices are made on", "report": "the other half"}
    return [*blocks, f"Half: {half[rows[0]['half']]}. {part['machine']}"]


def format_speed(part):
    return ["## Cost", markdown_table(part["rows"]), part["machine"]]


if __name__ == "__main__":
    main()
