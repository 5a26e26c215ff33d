"""Seconds and memory of a fit by size of the table, compared with PCA.

Each size is measured in a process of its own, in which the estimators take turns.

    python benchmarks/bench_scaling.py [--threads 1]
"""

import argparse
import json

import numpy as np
import torch
from _common import (
    PeakAbove,
    curved_table,
    from_child,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    results_folder,
    save_part,
    short_training,
    write_sections,
)
from sklearn.base import clone
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer

N_LATENTS = 8
MIB = 2**20
FEW_ROWS = 2000  # of the tables with different numbers of columns
WIDTHS = (20, 200)  # of the tables with different numbers of rows
ROWS = (10**3, 10**4, 10**5, 10**6)
COLUMNS = (10, 10**2, 10**3, 10**4)
QUICK_ROWS, QUICK_COLUMNS = ROWS[:2], COLUMNS[:2]
# Larger tables are fitted once: fits take long and vary little.
MAX_CELLS_FOR_ROUNDS = 2_000_000
# On larger tables, default fits would take longer than everything else here.
MAX_CELLS_FOR_DEFAULTS = 100_000_000
N_ROUNDS = 3

DEFAULT, EPOCH, RANDOM_START = "defaults", "one epoch", "one epoch, random start"
# PCA's error sets the level of input noise; without noise, a random start needs no PCA.
ONE_EPOCH = {"max_epochs": 1, "batch_size": 128, "random_state": 0}
ESTIMATORS = {
    "PCA": PCA(N_LATENTS, random_state=0),
    DEFAULT: AutoencoderTransformer(N_LATENTS, random_state=0),
    EPOCH: AutoencoderTransformer(N_LATENTS, **ONE_EPOCH),
    RANDOM_START: AutoencoderTransformer(N_LATENTS, init="random", input_noise=0.0, **ONE_EPOCH),
}
NOTES = f"""\
Float32 rows near a curved surface of {N_LATENTS} dimensions, {N_LATENTS} latents. Seconds are
medians of {N_ROUNDS} fits up to {MAX_CELLS_FOR_ROUNDS} cells, and of one fit beyond. Memory is the
peak of resident memory during the fit above that before it, which includes X; the largest of these
fits.

- *PCA*: scikit-learn's, with its default solver.
- *defaults*: `AutoencoderTransformer({N_LATENTS})`. It trains for 1500 steps or 12 epochs,
  whichever is more, so seconds hardly grow up to about 16000 rows, and in proportion to rows
  beyond. Left out above {MAX_CELLS_FOR_DEFAULTS} cells, where it takes about 12 times as long as
  *one epoch*.
- *one epoch*: `max_epochs=1`, batches of 128: the same steps per row at every size. Time is linear
  in the number of rows where *µs per row* stays the same.
- *one epoch, random start*: the same with `init="random"` and without input noise, hence without
  PCA.
- *PCA start*: the difference between the last two: PCA of the rows, the linear path in each step,
  and the final regression of the decoder's last layer."""


# In the child process.


def measure_here(n_rows, n_columns, n_rounds):
    """Print seconds and peak memory of every estimator in every round."""
    default = clone(ESTIMATORS[DEFAULT]).set_params(**short_training())
    models = ESTIMATORS | {DEFAULT: default}
    warm_up = curved_table(1000, WIDTHS[0], N_LATENTS)
    for name, model in models.items():
        if name != DEFAULT:  # one epoch runs the same code and is shorter
            clone(model).fit(warm_up)
    if n_rows * n_columns > MAX_CELLS_FOR_DEFAULTS:
        del models[DEFAULT]
    X = curved_table(n_rows, n_columns, N_LATENTS)
    peaks = {name: [] for name in models}
    for _ in range(n_rounds):
        for name, model in models.items():
            with PeakAbove() as fit:
                clone(model).fit(X)
            peaks[name].append(fit.peak)
    print(json.dumps(peaks))


# In the parent process.


def sizes(quick):
    """Numbers of rows and columns of the tables."""
    row_counts, column_counts = (QUICK_ROWS, QUICK_COLUMNS) if quick else (ROWS, COLUMNS)
    return [(n, d) for d in WIDTHS for n in row_counts] + [(FEW_ROWS, d) for d in column_counts]


def measure(n_rows, n_columns, args):
    """Medians of seconds and highest peaks of memory, from a child process."""
    once = args.quick or n_rows * n_columns > MAX_CELLS_FOR_ROUNDS
    options = ["--child", n_rows, n_columns, "--rounds", 1 if once else args.rounds]
    options += ["--threads", args.threads, *(["--quick"] if args.quick else [])]
    peaks = from_child(__file__, *options)
    row = {"rows": n_rows, "columns": n_columns}
    for name, fits in peaks.items():
        row[f"{name}, s"] = float(np.median([fit["seconds"] for fit in fits]))
        row[f"{name}, MiB"] = max(fit["resident"] for fit in fits) / MIB
    report(row)
    return row


def format_sizes(part):
    rows = part["rows"]
    return [
        part["machine"],
        "![Seconds of a fit by rows and by columns](scaling.png)",
        "## Seconds",
        markdown_table([seconds_line(row) for row in rows]),
        "## Memory",
        markdown_table([memory_line(row) for row in rows]),
        NOTES,
    ]


def seconds_line(row):
    line = {"rows": row["rows"], "columns": row["columns"]}
    line |= {f"{name}, s": row.get(f"{name}, s") for name in ESTIMATORS}
    line["one epoch, µs per row"] = 1e6 * row[f"{EPOCH}, s"] / row["rows"]
    line["PCA start, s"] = row[f"{EPOCH}, s"] - row[f"{RANDOM_START}, s"]
    default = row.get(f"{DEFAULT}, s")
    return line | {"defaults over PCA": default and default / row["PCA, s"]}


def memory_line(row):
    line = {"rows": row["rows"], "columns": row["columns"]}
    line["X, MiB"] = 4 * row["rows"] * row["columns"] / MIB
    return line | {f"{name}, MiB above": row.get(f"{name}, MiB") for name in ESTIMATORS}


# Picture.


def draw(rows):
    """Draw seconds by rows and by columns, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True, layout="constrained")
    for width, style in zip(WIDTHS, ("--", "-"), strict=True):
        by_rows = [row for row in rows if row["columns"] == width and row["rows"] in ROWS]
        lines = draw_lines(axes[0], by_rows, "rows", style)
        axes[0].plot([], [], style, color="0.4", label=f"{width} columns")
    draw_lines(axes[1], [row for row in rows if row["rows"] == FEW_ROWS], "columns", "-")
    axes[0].set(xlabel="rows", ylabel="fit, seconds", title="By rows")
    axes[1].set(xlabel="columns", title=f"By columns, {FEW_ROWS} rows")
    for ax in axes:
        ax.set(xscale="log", yscale="log")
        ax.grid(color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(handles=axes[0].lines[len(lines) :: len(lines) + 1], frameon=False)
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    figure.savefig(results_folder() / "scaling.png", dpi=130)
    plt.close(figure)


def draw_lines(ax, rows, size, style):
    """Draw one line for each estimator, and return the lines."""
    lines = []
    for i, name in enumerate(ESTIMATORS):
        fitted = [row for row in rows if f"{name}, s" in row]
        sizes_fitted = [row[size] for row in fitted]
        seconds = [row[f"{name}, s"] for row in fitted]
        lines += ax.plot(sizes_fitted, seconds, style, marker=".", color=f"C{i}", label=name)
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, help="of small tables")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    torch.set_num_threads(args.threads)
    if args.child:
        with threadpool_limits(args.threads):
            measure_here(*args.child, args.rounds)
        return
    rows = []
    for size in sizes(args.quick):
        rows.append(measure(*size, args))
        save_part("scaling_sizes", {"machine": machine_line(), "rows": rows})
    draw(rows)
    write_sections("scaling", "# Seconds and memory by size", {"sizes": format_sizes})


if __name__ == "__main__":
    main()
