"""Fits of a table on disk against fits in memory: rows per second, memory, error.

The table is a folder of Parquet files of float32 rows on a bent surface, in classes, sorted by
class; each file is one row group. Each fit runs in a process of its own:

- *folder*: the folder as `skae.io.open_table` opens it;
- *memory*: as many of its rows as fit in memory, evenly spread, as one array;
- *sample*: an array of about a million of its rows, evenly spread, trained for so many epochs that
  it takes as many steps as the folder.

The table *rich* is wide and has many factors and classes, so that more rows tell more: its sample
has as many rows as a fit in memory within 600 MiB can have, 150 thousand.

    python benchmarks/bench_streaming.py --seeds 4
    python benchmarks/bench_streaming.py --table rich --kinds folder,sample
    python benchmarks/bench_streaming.py --rows 100000000 --kinds folder,sample --folder /large/disk
"""

import argparse
import json
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from time import process_time

import numpy as np
from _common import (
    PeakAbove,
    from_child,
    load_part,
    machine_line,
    markdown_table,
    parse_arguments,
    save_part,
    write_markdown,
)

MIB = 2**20
QUICK_ROWS, ROWS_IN_MEMORY, TEST_ROWS = 2_500_000, 6_000_000, 100_000


@dataclass(frozen=True)
class Table:
    """Rows of classes on a bent surface.

    Attributes
    ----------
    n_rows, n_features, n_factors, n_units, n_classes : int
        Default number of rows, columns, dimensions of the surface, its bends, and classes.
    sampled_rows : int
        About the rows of the sample.
    rows_per_file : int
    """

    n_rows: int
    n_features: int
    n_factors: int
    n_units: int
    n_classes: int
    sampled_rows: int
    rows_per_file: int

    def rows_of(self, classes, seed):
        """Rows of classes, with a little noise."""
        fixed = np.random.default_rng(0)
        shape = self.n_factors, self.n_units
        centers = 1.5 * fixed.normal(size=(self.n_classes, self.n_factors))
        bend, spread = fixed.normal(size=shape), fixed.normal(size=(shape[1], self.n_features))
        bend *= (6 / self.n_factors) ** 0.5
        spread *= (24 / self.n_units) ** 0.5
        rng = np.random.default_rng(seed)
        Z = centers[classes] + 0.7 * rng.standard_normal((len(classes), self.n_factors))
        X = np.tanh(Z @ bend) @ spread / 4
        X += 0.1 * rng.standard_normal(X.shape)
        return X.astype(np.float32)

    def test_rows(self):
        """Fresh rows of all classes."""
        n_rows = TEST_ROWS if self.n_features < 100 else TEST_ROWS // 5
        return self.rows_of(np.arange(n_rows) % self.n_classes, SEED_OF_TEST + 1)


TABLES = {
    "bent": Table(6_000_000, 20, 6, 24, 10, 1_000_000, 2**20),
    "rich": Table(1_000_000, 400, 40, 160, 2000, 150_000, 2**15),
}
# Results of the first table are kept under the nearest of these numbers of rows.
SIZES = QUICK_ROWS, TABLES["bent"].n_rows, 20_000_000, 100_000_000
SEED_OF_TEST = 10**6
KINDS = "folder", "memory", "sample"
ERROR = "error over the sample's"
# Aims: peak of anonymous memory of a fit, rows per second of memory's, error of the sample's.
MOST_MEMORY, LEAST_SPEED, MOST_ERROR = 600 * MIB, 0.7, 1.02
NOTES = """\
Every line is `AutoencoderTransformer` with as many latents as the surface has dimensions and other
parameters at their defaults, but that *sample* is trained for as many epochs as it takes to be
trained on as many rows as *folder* of the same table. Fits of each seed are a process each, with
one thread for computation; reading ahead has another; kinds alternate. *Rows per second* are those
trained on, with repetitions, in the time of the whole fit, with all that comes before and after
training; of processors, in the time that they spent on it; medians of the seeds. *Anonymous memory*
is RssAnon, sampled every 5 ms: the peak in `fit` above that before it (in *memory* and *sample*,
when the array exists), and the peak of the whole process; the largest of the seeds. *Error* is the
mean squared error of the reconstruction of fresh rows of all classes, mean and standard deviation
of the seeds. The error over the sample's is the mean ratio of the seeds, with its standard
error; of one seed, a ratio within the aim does not show that it is met."""


def write_folder(path, table, n_rows):
    """Write the rows, sorted by class, file by file; those that are there are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir(parents=True, exist_ok=True)
    for i, start in enumerate(range(0, n_rows, table.rows_per_file)):
        file = path / f"part-{i:05d}.parquet"
        if file.exists():
            continue
        numbers = np.arange(start, min(start + table.rows_per_file, n_rows))
        X = table.rows_of(numbers * table.n_classes // n_rows, i)
        columns = {f"x{j}": X[:, j] for j in range(table.n_features)}
        waiting = file.with_suffix(".waiting")
        pq.write_table(pa.table(columns), waiting)
        os.replace(waiting, file)


# In the child process.


def run_child(path, table, kind, seed, epochs, n_to_train):
    """Fit, and print what it took."""
    import torch

    from skae import AutoencoderTransformer
    from skae.io import open_table

    torch.set_num_threads(1)
    warm_up = table.rows_of(np.arange(2000) % table.n_classes, SEED_OF_TEST)
    AutoencoderTransformer(2, max_epochs=1).fit(warm_up)
    X = open_table(path)
    model = AutoencoderTransformer(table.n_factors, random_state=seed)
    n_rows = X.n_rows
    if kind == "memory":
        n_rows = min(n_rows, ROWS_IN_MEMORY)
    if kind == "sample":
        n_rows = min(n_rows, table.sampled_rows)
        if n_to_train is not None:
            share = 1 - model.validation_fraction
            epochs = math.ceil(n_to_train / (n_rows * share))
            n_rows = round(n_to_train / (epochs * share))
    if kind != "folder" and n_rows == X.n_rows:
        X = X.read_all()
    elif kind != "folder":
        X = X[np.linspace(0, X.n_rows, n_rows, endpoint=False).astype(int)]
    if epochs is not None:
        model.set_params(max_epochs=epochs)
    before = process_time()
    with PeakAbove() as fit:
        model.fit(X)
    seconds_of_processor = process_time() - before
    n_trained = model.net_.history[-1, "batches", -1, "train_batch_size"] * model.n_iter_
    test = table.test_rows()
    print(
        json.dumps(
            {
                "rows": X.shape[0],
                "trained": n_trained,
                "processor": seconds_of_processor,
                "seconds": fit.peak["seconds"],
                "above": fit.peak["anonymous"],
                "whole": fit.highest,
                "error": float(model.reconstruction_error(test).mean(dtype=float)),
            }
        )
    )


# In the parent process.


def measured(path, name, kinds, n_seeds, epochs):
    """What each fit of each kind took; those of the sample take as many steps as the folder's."""
    results = {kind: [] for kind in kinds}
    for seed in range(n_seeds):
        for kind in kinds:
            options = ["--child", path, "--table", name, "--kind", kind, "--seed", seed]
            if kind != "sample" and epochs is not None:
                options += ["--epochs", epochs]
            if kind == "sample" and "folder" in results:
                options += ["--train", results["folder"][seed]["trained"]]
            results[kind].append(from_child(__file__, *options))
            print(kind, results[kind][-1], flush=True)
    return results


def line_of(kind, part):
    fits = part["results"][kind]
    errors = [fit["error"] for fit in fits]
    spread = f" ± {stdev(errors):.5f}" if len(errors) > 1 else ""
    return {
        "table": part["table"],
        "rows": f"{part['rows']:.3g}",
        "Parquet, GiB": f"{part['bytes'] / 2**30:.2f}",
        "rows from": kind,
        "rows there": f"{fits[0]['rows']:.3g}",
        "trained on": f"{fits[0]['trained']:.3g}",
        "seeds": len(fits),
        "seconds": f"{median(fit['seconds'] for fit in fits):.0f}",
        "rows per second": f"{median(speed(fit, 'seconds') for fit in fits):.3g}",
        "of processors": f"{median(map(speed, fits)):.3g}",
        "anonymous memory of fit, MiB": f"{max(fit['above'] for fit in fits) / MIB:.0f}",
        "of the process, MiB": f"{max(fit['whole'] for fit in fits) / MIB:.0f}",
        "error": f"{mean(errors):.5f}{spread}",
    }


def aims(parts):
    """What was aimed at, and what came out, for each table."""
    table = []
    for part in parts:
        folder, sample = (part["results"].get(kind) for kind in ("folder", "sample"))
        if folder is None:
            continue
        highest = max(fit["above"] for fit in folder) / MIB
        reached = [("memory of fit, MiB", highest, "", MOST_MEMORY / MIB, True)]
        memory = part["results"].get("memory", [])
        for clock, name in (("processor", "processors"), ("seconds", "the clock")):
            pairs = list(zip(folder, memory, strict=False))  # of runs that alternated
            ratios = [speed(a, clock) / speed(b, clock) for a, b in pairs]
            if ratios:
                name = f"rows per second of {name} over memory's"
                reached.append((name, mean(ratios), "", LEAST_SPEED, False))
        if sample is not None:
            ratios = [a["error"] / b["error"] for a, b in zip(folder, sample, strict=True)]
            spread = f" ± {stdev(ratios) / len(ratios) ** 0.5:.3f}" if len(ratios) > 1 else ""
            most = MOST_ERROR if part["table"] == "bent" else 1.0
            reached.append((ERROR, mean(ratios), spread, most, True))
        for name, value, spread, limit, is_most in reached:
            is_met = value <= limit if is_most else value >= limit
            aim = f"at {'most' if is_most else 'least'} {limit:.3g}"
            line = {"table": part["table"], "rows": f"{part['rows']:.3g}", "what": name}
            line |= {"aim": aim, "reached": f"{value:.{3 if value < 10 else 0}f}{spread}"}
            shown = "by one seed only" if name == ERROR and len(folder) == 1 else "yes"
            table.append(line | {"met": shown if is_met else "no"})
    return table


def speed(fit, clock="processor"):
    return fit["trained"] / fit[clock]


def write_results():
    """Write what was measured of all sizes of tables."""
    parts = [load_part(f"streaming_{name}") for name in (*SIZES, "rich")]
    parts = [part for part in parts if part is not None]
    lines = [line_of(kind, part) for part in parts for kind in part["results"]]
    blocks = [part["machine"] for part in parts] + [markdown_table(lines), NOTES]
    if goals := aims(parts):
        blocks += ["## Aims", markdown_table(goals)]
    blocks += [part["remark"] for part in parts if "remark" in part]  # written by hand
    write_markdown("streaming", "# Tables on disk", *dict.fromkeys(blocks))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the table is kept, to be used again")
    parser.add_argument("--table", choices=TABLES, default="bent")
    parser.add_argument("--rows", type=int, help="default: six millions, or one of the rich table")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", type=int, default=1, help="fits of each kind")
    parser.add_argument("--epochs", type=int, help="of folder and memory (default: the rule's)")
    for name in ("--child", "--kind", "--seed", "--train"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    table = TABLES[args.table]
    if args.child is not None:
        n_to_train = None if args.train is None else float(args.train)
        run_child(args.child, table, args.kind, int(args.seed), args.epochs, n_to_train)
        return
    n_rows = args.rows or (QUICK_ROWS if args.quick else table.n_rows)
    if args.quick and args.table == "rich":
        n_rows = table.n_rows // 5
    folder = args.folder or Path(tempfile.mkdtemp())
    path = folder / f"{args.table}-{n_rows}"
    try:
        write_folder(path, table, n_rows)
        part = {
            "table": args.table,
            "rows": n_rows,
            "bytes": sum(file.stat().st_size for file in path.iterdir()),
            "machine": machine_line(),
            "results": measured(path, args.table, args.kinds.split(","), args.seeds, args.epochs),
        }
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    size = min(SIZES, key=lambda n: abs(n - n_rows))
    save_part("streaming_rich" if args.table == "rich" else f"streaming_{size}", part)
    write_results()


if __name__ == "__main__":
    main()
