"""Mixed tables with gaps, filled by DenoisingAutoencoder and by other imputers.

Tables are those of `bench_mixed.py`, 1000 complete rows of each, without their outcomes. A fifth of
the cells is hidden ("uniform"), or each row gets the gaps of another row of the table ("copied",
where enough rows of the table have any). All imputers are fitted to the table with gaps and fill
it. Levels are judged by the share of hidden ones that are found, numbers by their errors in
standard deviations of the column, and drawn cells by the energy distance of rows with gaps from
the true ones. Settings were chosen on tables at even places; those at odd places are for the
report.

    python benchmarks/bench_impute_mixed.py --data DIR
    python benchmarks/bench_impute_mixed.py --half even

miceforest is left out if it is not installed; results are of `miceforest==6.0.5` and
`lightgbm==4.5.0` (pip install --no-deps --target DIR, and DIR on PYTHONPATH, keeps other packages).
"""

import argparse
import warnings
from importlib.metadata import PackageNotFoundError, version
from time import process_time

import numpy as np
import pandas as pd
import torch
from _common import (
    add_data_argument,
    at_most,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    short_training,
    skippable,
    write_sections,
)
from bench_mixed import HALVES, TABLES, load, load_raw
from scipy.spatial.distance import cdist
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skae import DenoisingAutoencoder

MAX_ROWS, SHARE, MIN_ROWS_WITH_GAPS = 1000, 0.2, 30
SKAE, PEER = "DenoisingAutoencoder", "miceforest"
DRAWN, POINT = f"{SKAE}, drawn", f"{PEER}, without matching"
TREES = "IterativeImputer, trees"


# Gaps.


def uniform_gaps(X, rng):
    """Mask of the cells to hide; none of the rows and columns is empty."""
    hidden = rng.random(X.shape) < SHARE
    hidden[hidden.all(axis=1), 0] = False
    return hidden


def copied_gaps(table, X, data, rng):
    """Gaps of rows of the table that have some, for half of the rows; None if there are few."""
    gaps = load_raw(table, data)[list(X)].replace("?", np.nan).isna().to_numpy()
    gaps = gaps[gaps.any(axis=1) & ~gaps.all(axis=1)]
    if len(gaps) < MIN_ROWS_WITH_GAPS:
        return None
    hidden = gaps[rng.integers(len(gaps), size=len(X))]
    return hidden & (rng.random((len(X), 1)) < 0.5)


# Imputers: from a frame with gaps to one without.


def imputers(seed):
    found = {
        SKAE: fill_by_skae(seed),
        DRAWN: fill_by_skae(seed, sample_posterior=True),
        "mean, most frequent": fill_by_most_frequent,
        "KNNImputer": fill_by_neighbours,
        TREES: fill_by_trees(seed),
    }
    try:
        version(PEER)
    except PackageNotFoundError as missing:
        print(f"{PEER} is left out: {missing}", flush=True)
        return found
    return found | {PEER: fill_by_peer(seed), POINT: fill_by_peer(seed, mean_match_candidates=0)}


def fill_by_skae(seed, **params):
    def fill(X):
        model = DenoisingAutoencoder(random_state=seed, **short_training(), **params)
        return model.fit_transform(X)

    return fill


def fill_by_most_frequent(X):
    filled = X.copy()
    for name in X:
        strategy = "mean" if is_number(X[name]) else "most_frequent"
        column = SimpleImputer(strategy=strategy).fit_transform(X[[name]].astype(object))
        filled[name] = pd.Series(column[:, 0], X.index).astype(X[name].dtype)
    return filled


def fill_by_neighbours(X):
    """KNNImputer on standardised numbers and one-hot levels; the largest indicator is the level."""
    parts = {name: encoded(X[name]) for name in X}
    filled = KNNImputer().fit_transform(np.hstack(list(parts.values())))
    columns, start = {}, 0
    for name, part in parts.items():
        columns[name] = decoded(filled[:, start : start + part.shape[1]], X[name])
        start += part.shape[1]
    return pd.DataFrame(columns, X.index)


def fill_by_trees(seed):
    """The scheme of MissForest: each column in turn is predicted by trees from the others."""

    def fill(X):
        codes = X.copy()
        for name in levels_of(X):
            codes[name] = X[name].cat.codes.where(X[name].notna())
        trees = ExtraTreesRegressor(50, min_samples_leaf=2, random_state=seed)
        imputer = IterativeImputer(trees, max_iter=5, random_state=seed)
        filled = pd.DataFrame(imputer.fit_transform(codes.astype(float)), X.index, X.columns)
        for name in levels_of(X):
            of_dtype = X[name].cat.categories
            codes = filled[name].round().clip(0, len(of_dtype) - 1).astype(int)
            filled[name] = pd.Categorical.from_codes(codes, dtype=X[name].dtype)
        return filled

    return fill


def fill_by_peer(seed, **params):
    def fill(X):
        import miceforest

        # It refuses categories that no row has, and names that are no strings.
        table = X.apply(lambda c: c if is_number(c) else c.cat.remove_unused_categories())
        table.columns = X.columns.astype(str)
        kernel = miceforest.ImputationKernel(table, num_datasets=1, random_state=seed, **params)
        kernel.mice(5)
        return kernel.complete_data(0).set_axis(X.columns, axis=1)

    return fill


# Measures.

MEASURES = ("accuracy", "rmse", "mae", "energy")


def is_number(column):
    return pd.api.types.is_numeric_dtype(column)


def levels_of(X):
    return [name for name in X if not is_number(X[name])]


def encoded(column, of=None):
    """A column standardised, or as indicators over the root of two; as `of` was, if given."""
    of = column if of is None else of
    if is_number(of):
        return ((column.astype(float) - of.mean()) / of.std(ddof=0)).to_numpy()[:, None]
    codes = of.cat.categories.get_indexer(column.astype(object))
    indicators = np.eye(len(of.cat.categories))[codes] / np.sqrt(2)
    indicators[codes < 0] = np.nan
    return indicators


def decoded(part, of):
    if is_number(of):
        return part[:, 0] * of.std(ddof=0) + of.mean()
    return pd.Categorical.from_codes(part.argmax(axis=1), dtype=of.dtype)


def errors_of(filled, X, hidden):
    """Accuracy of levels, errors of numbers, and the energy distance of rows with gaps."""
    right, errors = [], []
    for j, name in enumerate(X):
        rows = hidden[:, j]
        if is_number(X[name]):
            difference = encoded(filled[name], X[name]) - encoded(X[name])
            errors.append(difference[rows, 0])
        else:
            right.append((filled[name].astype(object) == X[name].astype(object))[rows])
    errors = np.concatenate([*errors, []])
    rows = hidden.any(axis=1)
    tables = [np.hstack([encoded(T[name], X[name]) for name in X])[rows] for T in (filled, X)]
    return {
        "accuracy": float(np.concatenate(right).mean()) if sum(map(len, right)) else np.nan,
        "rmse": float(np.sqrt(np.mean(errors**2))) if len(errors) else np.nan,
        "mae": float(np.abs(errors).mean()) if len(errors) else np.nan,
        "energy": energy_distance(*tables),
    }


def energy_distance(A, B):
    """Of two samples (Szekely & Rizzo, 2013), over the mean distance of rows of the second."""
    between, within = cdist(A, B).mean(), [cdist(T, T).mean() for T in (A, B)]
    return float((2 * between - sum(within)) / within[1])


def tables(args):
    found = TABLES[HALVES[args.half]][: 2 if args.quick else None]
    for table in found:
        with skippable(table.name):
            try:
                X, _ = load(table, args.data)
            except ImportError as missing:
                print(f"{table.name} is left out: {missing}", flush=True)
                continue
            X = X[(X != "?").all(axis=1)][: at_most(MAX_ROWS)].reset_index(drop=True)
            yield table, X.loc[:, X.nunique() > 1]


def measure(args):
    rows = []
    for table, X in tables(args):
        rng = np.random.default_rng(0)
        gaps = {"uniform": uniform_gaps(X, rng), "copied": copied_gaps(table, X, args.data, rng)}
        for pattern, hidden in gaps.items():
            if hidden is None:
                continue
            for name, fill in imputers(0).items():
                if args.methods and name not in args.methods:
                    continue
                start = process_time()
                try:
                    filled = fill(X.mask(hidden))
                except ValueError as error:  # of peers: levels that few rows have
                    print(f"{name} fails on {table.name}: {error}", flush=True)
                    continue
                row = {"table": table.name, "rows": len(X), "columns": X.shape[1]}
                row |= {"gaps": pattern, "imputer": name, "seconds": process_time() - start}
                rows.append(row | errors_of(filled, X, hidden))
                report(rows[-1])
        save_part(f"impute_mixed_{args.half}", {"machine": machine_and_peers(), "rows": rows})


def machine_and_peers():
    """The line about the machine, with the versions of the peer."""
    try:
        peers = ", ".join(f"{name} {version(name)}" for name in (PEER, "lightgbm"))
    except PackageNotFoundError:
        return machine_line()
    return f"{machine_line()} Also {peers}. Seconds are the processor's."


# The report.


def format_half(half):
    def format_part(part):
        rows = pd.DataFrame(part["rows"])
        blocks = [f"## Tables at {half} places", part["machine"]]
        for pattern, some in rows.groupby("gaps", sort=False):
            n_imputers = some["imputer"].nunique()
            full = some.groupby("table").filter(lambda part, n=n_imputers: len(part) == n)
            n_tables, n_left_out = full["table"].nunique(), some["table"].nunique()
            n_left_out -= n_tables
            means = full.pivot_table(
                index="imputer",
                values=[*MEASURES, "seconds"],
                sort=False,
            )
            lines = [
                {"imputer": name}
                | {key: f"{row[key]:.4f}" for key in MEASURES if key in row}  # no level is missing
                | {"seconds": f"{row['seconds']:.1f}"}
                for name, row in means.iterrows()
            ]
            title = f"Gaps: {pattern}; means over {n_tables} tables."
            if n_left_out:
                title += f" On {n_left_out} more an imputer fails: they are left out here."
            blocks += [title, markdown_table(lines)]
            if pattern == "uniform":
                blocks += [*better_on(some), by_table(some)]
        return blocks

    return format_part


def better_on(rows):
    """On how many tables each other imputer is worse than this one."""
    lines = []
    ours = rows[rows["imputer"] == SKAE].set_index("table")
    for name, part in rows.groupby("imputer", sort=False):
        if name in (SKAE, DRAWN):
            continue
        part = part.set_index("table")
        line = {f"{SKAE} is better than": name}
        for key, sign in (("accuracy", 1), ("rmse", -1), ("mae", -1)):
            difference = (sign * (ours[key] - part[key])).dropna()
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            line[key] = f"{difference.mean():+.4f} ± {error:.4f}"
            line[f"{key}, on"] = f"{(difference > 0).sum()} of {len(difference)}"
        seconds = ours["seconds"][part.index].mean() / part["seconds"].mean()
        line["seconds, ratio of means"] = f"{seconds:.2f}"
        lines.append(line)
    title = "Differences, with their standard errors over all tables that the other one fills:"
    return [title, markdown_table(lines)]


def by_table(rows):
    lines = []
    for table, part in rows.groupby("table", sort=False):
        part = part.set_index("imputer")
        line = {"table": table, "columns": int(part["columns"].iloc[0])}
        for key in ("accuracy", "rmse"):
            for name in (SKAE, POINT, TREES):
                if name in part.index:
                    line[f"{key}, {name}"] = f"{part.loc[name, key]:.3f}"
        lines.append(line)
    return markdown_table(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_argument(parser)
    parser.add_argument("--half", choices=("even", "odd"), default="odd", help="half of the tables")
    parser.add_argument("--methods", nargs="+", help="only these imputers")
    args = parse_arguments(parser)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # IterativeImputer does not converge on most tables
    measure(args)
    sections = {half: format_half(half) for half in ("odd", "even")}
    write_sections("impute_mixed", "# Mixed tables with gaps", sections)


if __name__ == "__main__":
    main()
