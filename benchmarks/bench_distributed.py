"""Rows per second of several processes, and what it costs to average weights now and then.

Each fit is carried out by new processes with one thread each, which read their shards from files.

    python benchmarks/bench_distributed.py --rows 200000 --rounds 3
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _common import (
    curved_table,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    write_markdown,
)

import skae.distributed
from skae import AutoencoderTransformer

N_FEATURES, N_FACTORS, N_LATENTS = 200, 8, 16
BATCH_OF_WORKER = 512
# Steps between averages of weights; 1 stands for gradients in each step.
SYNC_EVERY = (1, 8, 64)
SPEED_AIM, N_TEST = 1.6, 10_000
NOTES = f"""\
Fits of `AutoencoderTransformer({N_LATENTS}, hidden_layer_sizes=(128, 64))`, {N_FEATURES} columns,
by `skae.distributed.fit`, {BATCH_OF_WORKER} rows a process in each step, one thread a
process.

- *rows per second*, *over one process*: rows of an epoch over its fastest time, validation
  included; median over rounds, in which the fits take turns. An epoch of a few hundred steps is
  enough for it, and one of 4 million rows has thousands. Aim: at least {SPEED_AIM} with two.
- *processor seconds over one process*: of the first process in the whole fit; where other programs
  use the cores, this says more than the clock. Ideal with two: 0.5.
- *error*: 1 - `score` on {N_TEST} other rows after as many epochs; *over that of gradients*: the
  median over rounds, each with another seed, of ratios to the fit by as many processes that sums
  gradients in each step."""


def train(rank, size, port, folder, settings):
    """The part of one process in a fit; the first writes what is measured."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    X = np.load(folder / "X.npy", mmap_mode="r")
    ends = np.linspace(0, len(X), size + 1).astype(int)
    estimator = AutoencoderTransformer(
        N_LATENTS,
        hidden_layer_sizes=(128, 64),
        batch_size=BATCH_OF_WORKER * size,
        max_epochs=settings["epochs"],
        random_state=settings["seed"],
    )
    shard = np.array(X[ends[rank] : ends[rank + 1]])
    before = time.process_time()
    model = skae.distributed.fit(estimator, shard, sync_every=settings["sync_every"])
    busy = time.process_time() - before
    if rank == 0:
        seconds = min(model.net_.history[:, "dur"])
        error = 1 - model.score(np.load(folder / "test.npy"))
        found = {"rows per second": len(X) / seconds, "error": error, "busy": busy}
        (folder / "found.json").write_text(json.dumps(found))


def fit_by(size, folder, **settings):
    """What is measured of a fit by so many processes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [
        sys.executable,
        __file__,
        "--of-one",
        json.dumps([size, port, str(folder), settings]),
    ]
    processes = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(size)]
    if any(process.wait() for process in processes):
        raise RuntimeError(f"A fit by {size} processes failed.")
    return json.loads((folder / "found.json").read_text())


def measure(n_rows, n_rounds, n_epochs, sizes):
    found = {(size, sync): [] for size in sizes for sync in SYNC_EVERY[: 1 if size == 1 else None]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        X = curved_table(n_rows + N_TEST, N_FEATURES, N_FACTORS)
        np.save(folder / "X.npy", X[:n_rows])
        np.save(folder / "test.npy", X[n_rows:])
        del X
        for seed in range(n_rounds):
            for size, sync_every in found:
                options = {"sync_every": sync_every, "seed": seed, "epochs": n_epochs}
                found[size, sync_every].append(fit_by(size, folder, **options))
    rows = []
    for (size, sync_every), results in found.items():
        pairs = list(zip(results, found[1, 1], found[size, 1], strict=True))
        speed = [mine["rows per second"] / one["rows per second"] for mine, one, _ in pairs]
        busy = [mine["busy"] / one["busy"] for mine, one, _ in pairs]
        error = [mine["error"] / other["error"] for mine, _, other in pairs]
        row = {
            "processes": size,
            "sync_every": sync_every,
            "rows per second": round(np.median([mine["rows per second"] for mine in results])),
            "over one process": f"{np.median(speed):.2f}",
            "processor seconds over one process": f"{np.median(busy):.2f}",
            "error": f"{np.median([mine['error'] for mine in results]):.4f}",
            "over that of gradients": f"{np.median(error):.3f}",
        }
        report(row)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--of-one", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.of_one:
        size, port, folder, settings = json.loads(args.of_one)
        train(args.rank, size, port, Path(folder), settings)
        return
    n_rows, n_rounds, n_epochs = args.rows, args.rounds, args.epochs
    if args.quick:
        n_rows, n_rounds, n_epochs = 12_000, 1, 2
    rows = measure(n_rows, n_rounds, n_epochs, args.processes)
    title = f"# Several processes, {n_rows} rows"
    write_markdown("distributed", title, machine_line(), markdown_table(rows), NOTES)


if __name__ == "__main__":
    main()
