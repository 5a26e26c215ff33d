"""What more members of a detector cost, and what two workers gain in a grid search.

Contestants take turns in one process; numbers are medians over rounds of ratios of
seconds within a round.

    python benchmarks/bench_parallel.py --threads 1 2
"""

import argparse
from functools import partial
from time import perf_counter

import joblib
import numpy as np
import torch
from _common import machine_line, markdown_table, median_ratios, report, threads, write_markdown
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

N_FEATURES = 20
MEMBERS_ROWS, SEARCH_ROWS = 10_000, 2_000
N_MEMBERS, MEMBERS_AIM = 8, 2.0
N_COMPONENTS, N_FOLDS = (2, 3, 4, 6, 8, 12), 4
N_FITS = N_FOLDS * len(N_COMPONENTS)
N_WORKERS, WORKERS_AIM = 2, 0.6
MAX_EPOCHS = 20
NOTES = f"""\
*Threads* are torch's and the BLAS library's in the process that measures.

- *{N_MEMBERS} members over one*: `AutoencoderOutlierDetector(n_estimators={N_MEMBERS})` over
  `n_estimators=1`, whole fits on {MEMBERS_ROWS}x{N_FEATURES}. Aim: at most {MEMBERS_AIM}.
- *processes*, *threads over serial*: `GridSearchCV` of {len(N_COMPONENTS)} sizes of the code by
  {N_FOLDS} folds, without the last fit, of `AutoencoderTransformer(max_epochs={MAX_EPOCHS})` on
  {SEARCH_ROWS}x{N_FEATURES}, with `n_jobs={N_WORKERS}` over `n_jobs=1`. Processes are joblib's
  (loky; each worker gets its share of the cores as threads); they were started in a first search,
  whose seconds are told apart. Aim on two cores: at most {WORKERS_AIM}.
- *torch threads*: `torch.get_num_threads()` before and after, which should be the same."""


def make_table(n_rows):
    """Rows near a curved surface of a few dimensions, standardised."""
    rng = np.random.default_rng(0)
    X = np.tanh(rng.standard_normal((n_rows, 4)) @ rng.standard_normal((4, N_FEATURES)))
    X += 0.1 * rng.standard_normal(X.shape)
    return np.float32((X - X.mean(axis=0)) / X.std(axis=0))


def fit_detector(X, n_members, **params):
    AutoencoderOutlierDetector(n_estimators=n_members, random_state=0, **params).fit(X)


def search(X, n_jobs, backend, n_fits, max_epochs):
    """A grid search of so many fits."""
    model = AutoencoderTransformer(max_epochs=max_epochs, random_state=0)
    grid = {"n_components": N_COMPONENTS[: n_fits // N_FOLDS]}
    with joblib.parallel_config(backend=backend):
        GridSearchCV(model, grid, cv=N_FOLDS, n_jobs=n_jobs, refit=False).fit(X)


def seconds_of(call):
    start = perf_counter()
    call()
    return perf_counter() - start


def alternate(contestants, n_rounds):
    """Seconds of all contestants in all rounds."""
    seconds = {name: [] for name in contestants}
    for _ in range(n_rounds):
        for name, call in contestants.items():
            seconds[name].append(seconds_of(call))
    return seconds


def measure_members(n_rounds, **params):
    """What more members cost."""
    X = make_table(MEMBERS_ROWS)
    contestants = {n: partial(fit_detector, X, n, **params) for n in (1, N_MEMBERS)}
    fit_detector(X[:500], 1, **params)
    seconds = alternate(contestants, n_rounds)
    ratio = median_ratios(seconds, 1)[N_MEMBERS]
    return {
        "one member, s": float(np.median(seconds[1])),
        f"{N_MEMBERS} members over one": f"{ratio:.2f}",
        f"at most {MEMBERS_AIM}": yes_no(ratio <= MEMBERS_AIM),
    }


def measure_search(n_rounds, n_fits=N_FITS, max_epochs=MAX_EPOCHS):
    """What workers gain."""
    X = make_table(SEARCH_ROWS)
    searches = {
        "serial": partial(search, X, 1, "loky", n_fits, max_epochs),
        "processes": partial(search, X, N_WORKERS, "loky", n_fits, max_epochs),
        "threads": partial(search, X, N_WORKERS, "threading", n_fits, max_epochs),
    }
    first = seconds_of(searches["processes"])
    seconds = alternate(searches, n_rounds)
    ratios = median_ratios(seconds, "serial")
    row = {
        "fits": n_fits,
        "serial, s": float(np.median(seconds["serial"])),
        "first search in processes, s": first,
    }
    for name in ("processes", "threads"):
        row[f"{name} over serial"] = f"{ratios[name]:.2f}"
        row[f"{name} at most {WORKERS_AIM}"] = yes_no(ratios[name] <= WORKERS_AIM)
    return row


def yes_no(kept):
    return "yes" if kept else "no"


def measure(what, n_threads, **params):
    """One line of a table, with torch's threads before and after."""
    with threads(n_threads):
        row = {"threads": n_threads} | what(**params)
        row["torch threads"] = f"{n_threads} -> {torch.get_num_threads()}"
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few fits; writes no file")
    args = parser.parse_args()
    if args.quick:
        measure(measure_members, args.threads[0], n_rounds=1, max_epochs=1)
        measure(measure_search, args.threads[0], n_rounds=1, n_fits=N_FOLDS, max_epochs=2)
        return
    members = [measure(measure_members, n, n_rounds=args.rounds) for n in args.threads]
    searches = [measure(measure_search, n, n_rounds=args.rounds) for n in args.threads]
    tables = markdown_table(members), markdown_table(searches)
    write_markdown("parallel", "# Members and workers", machine_line(), *tables, NOTES)


if __name__ == "__main__":
    main()
