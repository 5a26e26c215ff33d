"""Fits of a table on disk against fits in memory: rows per second, memory, error.

The table is a folder of Parquet files of float32 rows on a bent surface of six dimensions, in ten
classes, sorted by class; each file is one row group. Each fit runs in a process of its own:

- *folder*: the folder as `skae.io.open_table` opens it;
- *memory*: as many of its rows as fit in memory, evenly spread, as one array;
- *sample*: an array of a million of its rows, evenly spread, trained for so many epochs that it
  takes as many steps as the folder.

    python benchmarks/bench_streaming.py
    python benchmarks/bench_streaming.py --rows 100000000 --kinds folder,sample --folder /large/disk
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
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
N_FEATURES, N_FACTORS, N_CLASSES = 20, 6, 10
ROWS_PER_FILE = 2**20
ROWS, QUICK_ROWS, SAMPLED_ROWS, TEST_ROWS = 6_000_000, 2_500_000, 1_000_000, 100_000
ROWS_IN_MEMORY = 6_000_000
# Results are kept under the nearest of these numbers of rows.
SIZES = QUICK_ROWS, ROWS, 100_000_000
SEED_OF_TEST = 10**6
KINDS = "folder", "memory", "sample"
# Aims: peak of anonymous memory of a fit, rows per second of memory's, error of the sample's.
MOST_MEMORY, LEAST_SPEED, MOST_ERROR = 600 * MIB, 0.7, 1.02
NOTES = """\
Every line is `AutoencoderTransformer(n_components=6, random_state=0)` with other parameters at
their defaults, but that *sample* is trained for as many epochs as it takes to be trained on as many
rows as *folder* of the same table. Each is a process of its own with one thread for computation;
reading ahead has another. *Rows per second* are those trained on, with repetitions, in the time of
the whole fit, with all that comes before and after training; of processors, in the time that they
spent on it. *Anonymous memory* is RssAnon, sampled every 5 ms: the peak in `fit` above that before
it (in *memory* and *sample*, when the array exists), and the peak of the whole process. *Error* is
the mean squared error of the reconstruction of 100 000 fresh rows of all classes; noise that no
model can explain makes up 0.0070 of it."""


def rows_of(classes, seed):
    """Rows of classes, on a bent surface with a little noise."""
    fixed = np.random.default_rng(0)
    centers = 1.5 * fixed.normal(size=(N_CLASSES, N_FACTORS))
    bend, spread = fixed.normal(size=(N_FACTORS, 24)), fixed.normal(size=(24, N_FEATURES))
    rng = np.random.default_rng(seed)
    Z = centers[classes] + 0.7 * rng.standard_normal((len(classes), N_FACTORS))
    X = np.tanh(Z @ bend) @ spread / 4
    X += 0.1 * rng.standard_normal(X.shape)
    return X.astype(np.float32)


def write_folder(path, n_rows):
    """Write the rows, sorted by class, file by file; those that are there are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir(parents=True, exist_ok=True)
    for i, start in enumerate(range(0, n_rows, ROWS_PER_FILE)):
        file = path / f"part-{i:05d}.parquet"
        if file.exists():
            continue
        numbers = np.arange(start, min(start + ROWS_PER_FILE, n_rows))
        X = rows_of(numbers * N_CLASSES // n_rows, i)
        columns = {f"x{j}": X[:, j] for j in range(N_FEATURES)}
        waiting = file.with_suffix(".waiting")
        pq.write_table(pa.table(columns), waiting)
        os.replace(waiting, file)


# In the child process.


def run_child(path, kind, epochs, n_to_train):
    """Fit, and print what it took."""
    import torch

    from skae import AutoencoderTransformer
    from skae.io import open_table

    torch.set_num_threads(1)
    warm_up = rows_of(np.arange(2000) % N_CLASSES, SEED_OF_TEST)
    AutoencoderTransformer(2, max_epochs=1).fit(warm_up)
    table = open_table(path)
    X = table
    if kind != "folder":
        n_rows = SAMPLED_ROWS if kind == "sample" else ROWS_IN_MEMORY
        X = table[:: max(1, table.n_rows // n_rows)]
    model = AutoencoderTransformer(N_FACTORS, random_state=0)
    if n_to_train is not None:
        epochs = max(1, round(n_to_train / (len(X) * (1 - model.validation_fraction))))
    if epochs is not None:
        model.set_params(max_epochs=epochs)
    before = process_time()
    with PeakAbove() as fit:
        model.fit(X)
    seconds_of_processor = process_time() - before
    n_trained = model.net_.history[-1, "batches", -1, "train_batch_size"] * model.n_iter_
    test = rows_of(np.arange(TEST_ROWS) % N_CLASSES, SEED_OF_TEST + 1)
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


def measured(path, kinds, epochs):
    """What the fit of each kind took; that of the sample takes as many steps as the folder's."""
    results = {}
    for kind in kinds:
        options = ["--child", path, "--kind", kind]
        if kind != "sample" and epochs is not None:
            options += ["--epochs", epochs]
        if kind == "sample" and "folder" in results:
            options += ["--train", results["folder"]["trained"]]
        results[kind] = from_child(__file__, *options)
        print(kind, results[kind], flush=True)
    return results


def line_of(kind, part):
    result = part["results"][kind]
    return {
        "table, rows": f"{part['rows']:.3g}",
        "Parquet, GiB": f"{part['bytes'] / 2**30:.2f}",
        "rows from": kind,
        "rows": f"{result['rows']:.3g}",
        "trained on": f"{result['trained']:.3g}",
        "seconds": f"{result['seconds']:.0f}",
        "rows per second": f"{result['trained'] / result['seconds']:.3g}",
        "of processors": f"{result['trained'] / result['processor']:.3g}",
        "anonymous memory of fit, MiB": f"{result['above'] / MIB:.0f}",
        "of the process, MiB": f"{result['whole'] / MIB:.0f}",
        "error": f"{result['error']:.5f}",
    }


def aims(parts):
    """What was aimed at, and what came out, for each table."""
    of_memory = [part["results"]["memory"] for part in parts if "memory" in part["results"]]
    table = []
    for part in parts:
        folder, sample = (part["results"].get(kind) for kind in ("folder", "sample"))
        if folder is None:
            continue
        pairs = [("memory of fit, MiB", folder["above"] / MIB, MOST_MEMORY / MIB, True)]
        if of_memory:
            ratio = speed(folder) / speed(of_memory[0])
            pairs.append(("rows per second of processors over memory's", ratio, LEAST_SPEED, False))
        if sample is not None:
            ratio = folder["error"] / sample["error"]
            pairs.append(("error over the sample's", ratio, MOST_ERROR, True))
        for name, value, limit, is_most in pairs:
            is_met = value <= limit if is_most else value >= limit
            aim = f"at {'most' if is_most else 'least'} {limit:.3g}"
            of_table = {"table, rows": f"{part['rows']:.3g}", "what": name}
            reached = {"reached": f"{value:.3g}", "met": "yes" if is_met else "no"}
            table.append(of_table | {"aim": aim} | reached)
    return table


def speed(result):
    return result["trained"] / result["processor"]


def write_results():
    """Write what was measured of all sizes of tables."""
    parts = [load_part(f"streaming_{n}") for n in SIZES]
    parts = [part for part in parts if part is not None]
    lines = [line_of(kind, part) for part in parts for kind in part["results"]]
    blocks = [part["machine"] for part in parts] + [markdown_table(lines), NOTES]
    if goals := aims(parts):
        blocks += ["## Aims", markdown_table(goals)]
    write_markdown("streaming", "# Tables on disk", *dict.fromkeys(blocks))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the table is kept, to be used again")
    parser.add_argument("--rows", type=int, help="default: six millions")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--epochs", type=int, help="of folder and memory (default: the rule's)")
    for name in ("--child", "--kind", "--train"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.child is not None:
        n_to_train = None if args.train is None else float(args.train)
        run_child(args.child, args.kind, args.epochs, n_to_train)
        return
    n_rows = args.rows or (QUICK_ROWS if args.quick else ROWS)
    folder = args.folder or Path(tempfile.mkdtemp())
    path = folder / f"rows-{n_rows}"
    try:
        write_folder(path, n_rows)
        part = {
            "rows": n_rows,
            "bytes": sum(file.stat().st_size for file in path.iterdir()),
            "machine": machine_line(),
            "results": measured(path, args.kinds.split(","), args.epochs),
        }
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    size = min(SIZES, key=lambda n: abs(n - n_rows))
    save_part(f"streaming_{size}", part)
    write_results()


if __name__ == "__main__":
    main()
