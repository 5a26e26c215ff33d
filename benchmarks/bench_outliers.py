"""Outlier detectors on tables with labels: quality, time and memory.

    python benchmarks/bench_outliers.py --data DIR
    python benchmarks/bench_outliers.py --only speed
    python benchmarks/bench_outliers.py --data DIR --only tables --detectors skae
    python benchmarks/bench_outliers.py --data DIR --only unseen [--half report]

Protocol: at most 5000 rows of each table (stratified, seed 0) are split 70/30 (stratified, seeds 0
and 1); detectors are fitted on the contaminated training rows without labels, and measured on the
others. Columns are scaled to [0, 1] by the training rows for PyOD's detectors, and standardised
for neighbours and LocalOutlierFactor. PyOD's detectors are left out if PyOD is not installed
(``pip install pyod``).
"""

import argparse
import json
from functools import partial

import numpy as np
import torch
from _common import (
    PeakAbove,
    add_data_argument,
    at_most,
    from_child,
    in_turn,
    load_part,
    machine_line,
    markdown_table,
    median_ratios,
    outlier_tables,
    parse_arguments,
    report,
    save_part,
    seconds_of,
    skippable,
    unseen_outlier_tables,
    write_sections,
)
from _outlier_peers import (
    FOREST,
    NEIGHBOURS,
    NETWORKS,
    SKAE,
    WITHOUT_PYOD,
    detectors,
    measure_all,
    quality,
)
from _outlier_thresholds import format_thresholds, measure_thresholds
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skae import AutoencoderOutlierDetector
from skae.estimators._detection import VIEWS

MAX_ROWS = 5000
SPLIT_SEEDS = (0, 1)
# Outliers among the training rows of a contaminated table: at most, and fixed shares.
MAX_CONTAMINATION = 0.08
SHARES = (0.01, 0.03, 0.1, 0.2)
# Differences in AUROC and AP below it are ties.
TIE = 0.005
N_RESAMPLES = 10_000
# Rounds, rows of the large fit and rows scored.
FULL_SPEED, QUICK_SPEED = (5, 50_000, 10**6), (1, 10_000, 10**5)
HALVES = {
    "decide": "The half that choices are made on",
    "report": "The other half, measured when the choices were made",
}
BOOTSTRAP = (
    f"A difference of at most {TIE} is no win. *skae better by* is the mean difference with the "
    "95 % interval of a bootstrap over tables."
)


# Tables of ADBench.


def load_table(path):
    with np.load(path, allow_pickle=False) as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(int)
    n_rows = at_most(MAX_ROWS)
    if len(X) > n_rows:
        X, _, y, _ = train_test_split(X, y, train_size=n_rows, stratify=y, random_state=0)
    return X, y


def splits(path, seeds):
    """{seed: (training rows, test rows, labels of the test rows)} of a table."""
    X, y = load_table(path)
    found = {}
    for seed in seeds:
        parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
        found[seed] = parts[0], parts[1], parts[3]
    return found


def measure_tables(data, chosen, seeds):
    """AUROC, AP and seconds of the detectors on every table, means over the splits."""
    rows = []
    for path in outlier_tables(data):
        measured = [
            measure_all(detectors(seed), chosen, split)
            for seed, split in splits(path, seeds).items()
        ]
        for name in measured[0]:
            auroc, ap, fit, score = np.mean([split[name] for split in measured], axis=0)
            row = {"table": path.stem, "detector": name, "auroc": auroc, "ap": ap}
            rows.append(row | {"fit_s": fit, "score_s": score})
            report(rows[-1])
    return rows


def by_detector(rows, key):
    """{detector: values of all tables}, with the tables in the same order."""
    names = dict.fromkeys(row["detector"] for row in rows)
    return {n: np.array([row[key] for row in rows if row["detector"] == n]) for n in names}


def comparison(rows):
    """{detector: means, and how skae compares}, by descending mean AUROC."""
    auroc, ap = by_detector(rows, "auroc"), by_detector(rows, "ap")
    lines = {}
    for name in sorted(auroc, key=lambda name: -auroc[name].mean()):
        line = {"detector": name, "AUROC": round(auroc[name].mean(), 3)}
        line["AP"] = round(ap[name].mean(), 3)
        for key, values in (("AUROC", auroc), ("AP", ap)):
            differences = values[SKAE] - values[name]
            wins = f"{(differences > TIE).sum()} to {(differences < -TIE).sum()}"
            line[f"skae better by, {key}"] = "" if name == SKAE else interval(differences)
            line[f"skae wins, {key}"] = "" if name == SKAE else wins
        lines[name] = line
    return lines


def interval(differences):
    """Mean difference, and the 95 % interval of a bootstrap over tables."""
    draws = np.random.default_rng(0).choice(differences, (N_RESAMPLES, len(differences)))
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def summary(rows):
    """The comparison with mean ranks and seconds."""
    auroc, fit, score = (by_detector(rows, key) for key in ("auroc", "fit_s", "score_s"))
    ranks = (-np.array(list(auroc.values()))).argsort(axis=0).argsort(axis=0) + 1
    mean_ranks = dict(zip(auroc, ranks.mean(axis=1), strict=True))
    lines = []
    for name, line in comparison(rows).items():
        line["mean rank"] = round(float(mean_ranks[name]), 1)
        line["fit s"] = round(fit[name].mean(), 2)
        line["score s"] = round(score[name].mean(), 3)
        lines.append(line)
    return lines


def per_table(rows):
    auroc, ap = by_detector(rows, "auroc"), by_detector(rows, "ap")
    shown = [name for name in (SKAE, FOREST, NEIGHBOURS) if name in auroc]
    lines = []
    for i, table in enumerate(dict.fromkeys(row["table"] for row in rows)):
        line = {"table": table}
        line |= {f"{name}, AUROC": round(auroc[name][i], 3) for name in shown}
        line |= {f"{name}, AP": round(ap[name][i], 3) for name in shown}
        lines.append(line)
    return lines


def format_tables(part):
    n_tables = len({row["table"] for row in part["rows"]})
    protocol = " ".join(__doc__.split("Protocol: ")[1].split())
    return [
        f"## {n_tables} tables of ADBench",
        f"{protocol[0].upper()}{protocol[1:]} {BOOTSTRAP} Seconds are means per split.",
        markdown_table(summary(part["rows"])),
        markdown_table(per_table(part["rows"])),
        *peers_missing(part["rows"]),
        part["machine"],
    ]


def peers_missing(rows):
    return [] if any("PyOD" in row["detector"] for row in rows) else [WITHOUT_PYOD]


# Tables of OddBench and OvRBench.


def measure_unseen(data, half, chosen):
    """AUROC and AP on each table of a half, trained on rows with different shares of outliers."""
    rows = []
    for path in unseen_outlier_tables(data, half):
        for protocol, split in training_sets(*load_parts(path)).items():
            pyod = ("ECOD",) if is_share(protocol) else ("ECOD", *NETWORKS)
            for name, (auroc, ap, *_) in measure_all(detectors(0, pyod), chosen, split).items():
                row = {"half": half, "protocol": protocol, "table": path.stem, "detector": name}
                rows.append(row | {"auroc": auroc, "ap": ap})
                report(rows[-1])
    return rows


def load_parts(path):
    """Clean training rows, test rows and their labels."""
    with np.load(path, allow_pickle=False) as file:
        train, test = (file[key].astype(np.float64) for key in ("train", "test"))
        return train, test, file["test_labels"].astype(int)


def training_sets(train, test, labels):
    """{protocol: (training rows, test rows, labels)}, without shares that outliers are too few for.

    Outliers among the training rows are taken from the test rows, half of them at most.
    """
    n_available = labels.sum() // 2
    n_moved = min(n_available, n_outliers(MAX_CONTAMINATION, train))
    found = {
        "clean": (train, test, labels),
        "contaminated": with_outliers(train, test, labels, n_moved),
    }
    for share in SHARES:
        n_moved = n_outliers(share, train)
        if n_moved <= n_available:
            found[f"{100 * share:.0f} %"] = with_outliers(train, test, labels, n_moved)
    return found


def is_share(protocol):
    return protocol.endswith("%")


def n_outliers(share, train):
    """How many outliers, added to the clean rows, are at most this share of all."""
    return int(share / (1 - share) * len(train))


def with_outliers(train, test, labels, n_moved):
    """The table with outliers, in a seeded order, moved from the test to the training rows."""
    moved = np.random.default_rng(0).permutation(np.flatnonzero(labels))[:n_moved]
    left = np.setdiff1d(np.arange(len(test)), moved)
    return np.vstack([train, test[moved]]), test[left], labels[left]


def format_unseen(part):
    rows = part["rows"]
    blocks = [
        "## Tables of OddBench and OvRBench",
        "Tables (arXiv 2602.09329) with at most 100 columns and 2500 training rows. *clean*: "
        "fitted on normal rows. *contaminated*: outliers of the test rows are mixed into the "
        "training rows, half of them at most and at most "
        f"{100 * MAX_CONTAMINATION:.0f} % of the rows. With fixed shares, the outliers are this "
        "share of the training rows, and tables are left out where that takes more than half of "
        "their outliers. Defaults of all detectors; IsolationForest is the mean of five seeds, "
        f"neighbours are the mean distance in standardised columns. {BOOTSTRAP}",
    ]
    for half, title in HALVES.items():
        if of_half := [row for row in rows if row["half"] == half]:
            n_tables = len({row["table"] for row in of_half})
            blocks += [f"### {title}: {n_tables} tables", *format_half(of_half)]
    return [*blocks, *peers_missing(rows), part["machine"]]


def format_half(rows):
    blocks = []
    for protocol in ("clean", "contaminated"):
        shown = [row for row in rows if row["protocol"] == protocol]
        lines = list(comparison(shown).values())
        blocks += [f"Training rows: {protocol}.", markdown_table(lines)]
    lines = []
    for share in sorted({row["protocol"] for row in rows if is_share(row["protocol"])}, key=number):
        shown = [row for row in rows if row["protocol"] == share]
        n_tables = len({row["table"] for row in shown})
        start = {"outliers": share, "tables": n_tables}
        lines += [start | line for line in comparison(shown).values()]
    return [*blocks, "Training rows: fixed shares of outliers.", markdown_table(lines)]


def number(share):
    return int(share.removesuffix(" %"))


# Views.

VIEW_SETS = {
    "all": np.ones(len(VIEWS), dtype=bool),
    **{f"{view} alone": np.array(VIEWS) == view for view in VIEWS},
    **{f"all but {view}": np.array(VIEWS) != view for view in VIEWS},
}


def measure_ablation(data, seeds):
    """AUROC and AP by some of the views; each table is fitted once in each protocol."""
    rows = []
    for path in outlier_tables(data):
        measured = [quality_by_views(seed, *split) for seed, split in splits(path, seeds).items()]
        rows += rows_by_views("ADBench", path.stem, np.mean(measured, axis=0))
    for path in unseen_outlier_tables(data, "decide"):
        for protocol, split in training_sets(*load_parts(path)).items():
            if not is_share(protocol):
                rows += rows_by_views(protocol, path.stem, quality_by_views(0, *split))
    return rows


def quality_by_views(seed, X_train, X_test, y_test):
    """AUROC and AP of each set of views: the score is the root mean square of their surprises."""
    detector = AutoencoderOutlierDetector(random_state=seed).fit(X_train)
    rule = detector._rule
    raw = detector.net_.raw_losses(detector._rows(X_test))
    squares = np.square(rule.surprises(rule.view_losses(raw)))
    return [quality(y_test, squares[mask].mean(axis=0)) for mask in VIEW_SETS.values()]


def rows_by_views(protocol, table, measured):
    rows = []
    for name, (auroc, ap) in zip(VIEW_SETS, measured, strict=True):
        row = {"protocol": protocol, "table": table, "detector": name}
        rows.append(row | {"auroc": float(auroc), "ap": float(ap)})
    report(rows[0])
    return rows


def ablation_summary(rows):
    """Means in each protocol, and how all views compare over all tables."""
    protocols = dict.fromkeys(row["protocol"] for row in rows)
    lines = []
    for name in VIEW_SETS:
        line = {"views": name}
        for protocol in protocols:
            shown = [row for row in rows if row["protocol"] == protocol and row["detector"] == name]
            line[f"{protocol}, AUROC"] = round(float(np.mean([row["auroc"] for row in shown])), 3)
            line[f"{protocol}, AP"] = round(float(np.mean([row["ap"] for row in shown])), 3)
        for key in ("auroc", "ap"):
            differences = means_of_tables(rows, key, "all") - means_of_tables(rows, key, name)
            line[f"all better by, {key.upper()}"] = "" if name == "all" else interval(differences)
        lines.append(line)
    return lines


def means_of_tables(rows, key, name):
    """Means over the protocols of each table."""
    values = {}
    for row in rows:
        if row["detector"] == name:
            values.setdefault(row["table"], []).append(row[key])
    return np.array([np.mean(of_table) for of_table in values.values()])


def format_ablation(part):
    return [
        "## Views",
        "The detector with some of its views: one fit per table and protocol, of which the views' "
        "surprises are joined. *clean* and *contaminated* are on the half of OddBench and OvRBench "
        "that choices are made on. *all better by* is the mean difference over the tables of all "
        "protocols with the 95 % interval of a bootstrap over tables.",
        markdown_table(ablation_summary(part["rows"])),
        part["machine"],
    ]


# Speed.


def factors_table(n_rows, seed=0):
    """Float32 rows of 20 columns: five factors and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5)) @ rng.normal(size=(5, 20))
    return (X + 0.3 * rng.normal(size=X.shape)).astype(np.float32)


def measure_speed(n_rounds, n_fitted, n_scored):
    ours, forest = AutoencoderOutlierDetector(random_state=0), IsolationForest(random_state=0)
    small, large, scored = (factors_table(n) for n in (5000, n_fitted, n_scored))
    ours.fit(small)
    fit = seconds_in_turn("fit", ours, forest, small, n_rounds)
    fit_large = seconds_in_turn("fit", ours, forest, large, n_rounds)
    score = seconds_in_turn("score_samples", ours, forest, scored, min(n_rounds, 3))
    memory = from_child(__file__, "--memory", n_scored)
    ratio_of_fits, ratio = (median_ratios(each, FOREST)[SKAE] for each in (fit, score))
    return [
        line("fit 5000x20, one core, s", np.median(fit[SKAE]), "1.5"),
        line("fit 5000x20 over IsolationForest's, ratio", ratio_of_fits, ""),
        line(f"fit {n_fitted}x20, one core, s", np.median(fit_large[SKAE]), "6"),
        line(f"score {n_scored}x20, one core, s", np.median(score[SKAE]), ""),
        line(f"score {n_scored}x20 over IsolationForest's, ratio", ratio, "1"),
        line(f"score {n_scored}x20, MiB above the data", memory["resident"] / 2**20, "300"),
    ]


def seconds_in_turn(method, ours, forest, X, n_rounds):
    """Seconds of each round, in which the two detectors take turns."""
    functions = {SKAE: getattr(ours, method), FOREST: getattr(forest, method)}
    calls = {name: partial(seconds_of, function, X) for name, function in functions.items()}
    return in_turn(calls, n_rounds)


def line(what, measured, limit):
    row = {"what": what, "measured": round(float(measured), 2), "at most": limit}
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


def format_speed(part):
    return ["## Cost", markdown_table(part["rows"]), part["machine"]]


# All sections.

FORMATTERS = {
    "tables": format_tables,
    "unseen": format_unseen,
    "ablation": format_ablation,
    "thresholds": format_thresholds,
    "speed": format_speed,
}


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--only", choices=FORMATTERS)
    parser.add_argument(
        "--half",
        choices=HALVES,
        default="decide",
        help="of the unseen tables: the half to choose by, or the one to look at once;\n"
        "the numbers of the other one are kept",
    )
    parser.add_argument(
        "--detectors", nargs="+", help="measure only these and keep the others' numbers"
    )
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    return parse_arguments(parser)


def measure_section(section, arguments):
    """Rows of a section, with those of earlier runs that this one does not replace."""
    data, chosen, half = arguments.data, arguments.detectors, arguments.half
    seeds = SPLIT_SEEDS[:1] if arguments.quick else SPLIT_SEEDS
    if section == "speed":
        return measure_speed(*QUICK_SPEED if arguments.quick else FULL_SPEED)
    if section == "thresholds":
        return measure_thresholds(1 if arguments.quick else 5)
    if section == "ablation":
        return measure_ablation(data, seeds)
    if section == "tables":
        return kept(section, chosen) + measure_tables(data, chosen, seeds)
    return kept(section, chosen, half) + measure_unseen(data, half, chosen)


def kept(section, chosen, half=None):
    """Rows of an earlier run: of other detectors, or of the other half."""
    part = load_part(f"outliers_{section}") or {"rows": []}
    return [
        row
        for row in part["rows"]
        if row.get("half") != half or (chosen and row["detector"] not in chosen)
    ]


def main():
    arguments = parse()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        if arguments.memory:
            print_memory(arguments.memory)
            return
        for section in FORMATTERS if arguments.only is None else [arguments.only]:
            with skippable(section):
                rows = measure_section(section, arguments)
                save_part(f"outliers_{section}", {"machine": machine_line(), "rows": rows})
    write_sections("outliers", "# Outlier detectors", FORMATTERS)


if __name__ == "__main__":
    main()
