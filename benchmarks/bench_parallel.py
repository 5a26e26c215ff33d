"""Time of a detector by number of members, and of a grid search by number of workers.

The calls compared take turns in one process; results are medians over rounds of ratios of seconds
in the same round.

    python benchmarks/bench_parallel.py --threads 1 2
"""

import argparse
from functools import partial

import joblib
import numpy as np
import torch
from _common import (
    at_most,
    curved_table,
    in_turn,
    machine_line,
    markdown_table,
    median_ratios,
    parse_arguments,
    report,
    seconds_of,
    short_training,
    threads,
    write_markdown,
    yes_no,
)
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

N_FEATURES, N_FACTORS = 20, 4
MEMBERS_ROWS, SEARCH_ROWS = 10_000, 2_000
N_MEMBERS, MEMBERS_AIM = 8, 2.0
N_COMPONENTS, N_FOLDS = (2, 3, 4, 6, 8, 12), 4
N_WORKERS, WORKERS_AIM = 2, 0.6
MAX_EPOCHS = 20
NOTES = f"""\
*Threads* is the number used by torch and BLAS in the measuring process.

- *{N_MEMBERS} members over one*: `AutoencoderOutlierDetector(n_estimators={N_MEMBERS})` over
  `n_estimators=1`, whole fits on {MEMBERS_ROWS}x{N_FEATURES}. Aim: at most {MEMBERS_AIM}.
- *processes*, *threads over serial*: `GridSearchCV` of {len(N_COMPONENTS)} sizes of the code by
  {N_FOLDS} folds, without refitting, of `AutoencoderTransformer(max_epochs={MAX_EPOCHS})` on
  {SEARCH_ROWS}x{N_FEATURES}, with `n_jobs={N_WORKERS}` over `n_jobs=1`. Processes are joblib's
  (loky; each worker uses its share of the cores as threads). They are started by a first search,
  whose seconds are given separately. Aim on two cores: at most {WORKERS_AIM}.
- *torch threads*: `torch.get_num_threads()` before and after, which should be equal."""


def fit_detector(X, n_members):
    params = short_training()
    AutoencoderOutlierDetector(n_estimators=n_members, random_state=0, **params).fit(X)


def search(X, grid, n_jobs, backend):
    """A grid search without refitting."""
    params = {"max_epochs": MAX_EPOCHS} | short_training()
    model = AutoencoderTransformer(random_state=0, **params)
    with joblib.parallel_config(backend=backend):
        GridSearchCV(model, grid, cv=N_FOLDS, n_jobs=n_jobs, refit=False).fit(X)


def measure_members(n_rounds):
    """Time of a fit with more members."""
    X = curved_table(at_most(MEMBERS_ROWS), N_FEATURES, N_FACTORS)
    fits = {n: partial(seconds_of, fit_detector, X, n) for n in (1, N_MEMBERS)}
    fit_detector(X[:500], 1)
    seconds = in_turn(fits, n_rounds)
    ratio = median_ratios(seconds, 1)[N_MEMBERS]
    return {
        "one member, s": float(np.median(seconds[1])),
        f"{N_MEMBERS} members over one": f"{ratio:.2f}",
        f"at most {MEMBERS_AIM}": yes_no(ratio <= MEMBERS_AIM),
    }


def measure_search(n_rounds, n_sizes):
    """Time of a grid search with two workers."""
    X = curved_table(at_most(SEARCH_ROWS), N_FEATURES, N_FACTORS)
    grid = {"n_components": N_COMPONENTS[:n_sizes]}
    searches = {
        "serial": partial(seconds_of, search, X, grid, 1, "loky"),
        "processes": partial(seconds_of, search, X, grid, N_WORKERS, "loky"),
        "threads": partial(seconds_of, search, X, grid, N_WORKERS, "threading"),
    }
    first = searches["processes"]()
    seconds = in_turn(searches, n_rounds)
    ratios = median_ratios(seconds, "serial")
    row = {
        "fits": n_sizes * N_FOLDS,
        "serial, s": float(np.median(seconds["serial"])),
        "first search in processes, s": first,
    }
    for name in ("processes", "threads"):
        row[f"{name} over serial"] = f"{ratios[name]:.2f}"
        row[f"{name} at most {WORKERS_AIM}"] = yes_no(ratios[name] <= WORKERS_AIM)
    return row


def measure(n_threads, measure_row, *args):
    """One line of a table, with torch's threads before and after."""
    with threads(n_threads):
        row = {"threads": n_threads} | measure_row(*args)
        row["torch threads"] = f"{n_threads} -> {torch.get_num_threads()}"
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    args = parse_arguments(parser)
    thread_counts, n_rounds, n_sizes = args.threads, args.rounds, len(N_COMPONENTS)
    if args.quick:
        thread_counts, n_rounds, n_sizes = args.threads[:1], 1, 1
    members = [measure(n, measure_members, n_rounds) for n in thread_counts]
    searches = [measure(n, measure_search, n_rounds, n_sizes) for n in thread_counts]
    tables = markdown_table(members), markdown_table(searches)
    write_markdown("parallel", "# Members and workers", machine_line(), *tables, NOTES)


if __name__ == "__main__":
    main()
