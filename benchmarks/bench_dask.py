"""A Dask frame of Parquet that is larger than the memory of its workers, and what Dask costs.

    python benchmarks/bench_dask.py --rows 62500000 --workers 2 --memory 1GiB --epochs 1

Needs dask, distributed and pyarrow, and for the default size 20 GB of disk, half of it for the
Parquet files and half for the rows that workers write.
"""

import argparse
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
from _common import (
    curved_table,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    write_markdown,
)
from distributed import Client, LocalCluster

import skae.dask
from skae import AutoencoderTransformer

N_FEATURES, N_FACTORS, N_LATENTS = 20, 4, 4
ROWS_OF_FILE, N_TEST = 500_000, 10_000
SECONDS_APART = 0.1
NOTES = f"""\
- *larger than memory*: `skae.dask.fit` of `AutoencoderTransformer({N_LATENTS})` on
  `dask.dataframe.read_parquet` of files of {ROWS_OF_FILE} rows x {N_FEATURES} columns of float64,
  by workers of one thread each, in processes of their own. *peak of a worker*: largest resident
  memory, looked at each {SECONDS_APART} s. *before*: seconds before the first epoch: files are
  read, rows written, statistics learned. *rows per second*: of an epoch, validation included.
  *restarts*: workers that ended during the fit; *error*: 1 - `score` on {N_TEST} other rows.
- *overhead*: seconds of `skae.dask.fit`, less those of `fit` in memory, both of the clock, on one
  worker with one thread; medians over rounds in which they take turns. Aim: at most 5."""


def rows_of_file(number, n_rows):
    """A frame of rows of one distribution, others for each number."""
    rng = np.random.default_rng(0)
    mixing = [rng.normal(size=size) for size in ((N_FACTORS, 32), (32, N_FEATURES))]
    rng = np.random.default_rng([1, number])
    hidden = np.tanh(rng.normal(size=(n_rows, N_FACTORS)) @ mixing[0])
    X = hidden @ mixing[1] + 0.2 * rng.normal(size=(n_rows, N_FEATURES))
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(N_FEATURES)])


def write_files(folder, n_rows):
    for number, start in enumerate(range(0, n_rows, ROWS_OF_FILE)):
        part = rows_of_file(number, min(ROWS_OF_FILE, n_rows - start))
        part.to_parquet(folder / f"{number:05d}.parquet", compression=None, index=False)


class Peaks:
    """Looks at the memory of the processes of workers."""

    def __init__(self, client):
        self.pids = set(client.run(lambda: __import__("os").getpid()).values())
        self.peaks = dict.fromkeys(self.pids, 0)
        self.ended = set()
        self.is_over = False

    def look(self):
        while not self.is_over:
            for pid in self.pids - self.ended:
                try:
                    self.peaks[pid] = max(self.peaks[pid], psutil.Process(pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    self.ended.add(pid)
            time.sleep(SECONDS_APART)


@contextmanager
def peaks_of(client):
    peaks = Peaks(client)
    thread = threading.Thread(target=peaks.look)
    thread.start()
    try:
        yield peaks
    finally:
        peaks.is_over = True
        thread.join()


@contextmanager
def cluster_of(n_workers, memory, folder):
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "local_directory": str(folder)}
    with (
        LocalCluster(n_workers=n_workers, memory_limit=memory, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


def larger_than_memory(n_rows, n_workers, memory, n_epochs, batch_size, folder):
    files = folder / "rows"
    files.mkdir()
    write_files(files, n_rows)
    size = sum(path.stat().st_size for path in files.iterdir())
    options = {"max_epochs": n_epochs, "batch_size": batch_size, "random_state": 0}
    estimator = AutoencoderTransformer(N_LATENTS, **options)
    with cluster_of(n_workers, memory, folder) as client, peaks_of(client) as peaks:
        before = time.perf_counter()
        model = skae.dask.fit(estimator, dd.read_parquet(files), client)
        seconds = time.perf_counter() - before
    of_epochs = model.net_.history[:, "dur"]
    test = rows_of_file(n_rows, N_TEST)
    return {
        "rows": n_rows,
        "GB of Parquet": f"{size / 1e9:.1f}",
        "batch_size": batch_size,
        "workers": n_workers,
        "memory of each": memory,
        "peak of a worker (MiB)": round(max(peaks.peaks.values()) / 2**20),
        "restarts": len(peaks.ended),
        "seconds": round(seconds),
        "before": round(seconds - sum(of_epochs)),
        "rows per second": round(n_rows / min(of_epochs)),
        "error": f"{1 - model.score(test):.4f}",
    }


def overhead(n_rows, n_rounds, folder):
    X = pd.DataFrame(curved_table(n_rows, 50, N_FACTORS).astype(np.float32))
    X.columns = X.columns.astype(str)
    frame = dd.from_pandas(X, npartitions=4)
    found = []
    with cluster_of(1, "4GiB", folder) as client:
        for seed in range(n_rounds):
            estimator = AutoencoderTransformer(N_LATENTS, random_state=seed)
            times = [time.perf_counter()]
            estimator.fit(X)
            times.append(time.perf_counter())
            skae.dask.fit(estimator, frame, client)
            times.append(time.perf_counter())
            found.append(np.diff(times))
    in_memory, by_dask = np.median(found, axis=0)
    return {
        "rows": n_rows,
        "fit (s)": f"{in_memory:.1f}",
        "skae.dask.fit (s)": f"{by_dask:.1f}",
        "overhead (s)": f"{np.median(np.diff(found)):.1f}",
        "largest overhead (s)": f"{np.max(np.diff(found)):.1f}",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=62_500_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--overhead-rows", type=int, nargs="*", default=[5000, 20_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for files; a temporary folder is made in it")
    args = parse_arguments(parser)
    if args.quick:
        args.rows, args.overhead_rows, args.rounds = 1_000_000, [5000, 20_000], 1
    tables = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        costs = [overhead(n_rows, args.rounds, folder) for n_rows in args.overhead_rows]
        for row in costs:
            report(row)
        if costs:
            tables.append("## Overhead\n\n" + markdown_table(costs))
        if args.rows:
            settings = args.rows, args.workers, args.memory, args.epochs, args.batch_size, folder
            row = larger_than_memory(*settings)
            report(row)
            tables.insert(0, "## Larger than memory\n\n" + markdown_table([row]))
    write_markdown("dask", "# Dask", machine_line(), *tables, NOTES)


if __name__ == "__main__":
    main()
