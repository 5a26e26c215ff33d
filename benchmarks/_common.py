"""What all benchmarks share: options, machine, data, measures and the files written.

After ``--quick``, images and tables are loaded in part, estimators train for few epochs, what
needs data that are not there is skipped, and all is written to ``results/quick``:
`parse_arguments` decides it for all.
"""

import ctypes
import gc
import json
import os
import platform
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scikit-learn", "torch", "skorch", "skae")
LABELLED = ("Cardiotocography", "Ionosphere", "Pima", "SpamBase")
OPENML_NAMES = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}
QUICK_ROWS = 1000  # of each table and each part of an image set
QUICK_TABLES = slice(None, None, 11)  # of those in adbench/
QUICK_EPOCHS = 5
QUICK_NOTE = (
    f"A quick run, to see that all works: few rows, few rounds and {QUICK_EPOCHS} epochs at most, "
    "whatever is said below. Its numbers are no results."
)
SAMPLING_SECONDS = 0.005


# The options.


def parse_arguments(parser):
    """Add ``--quick`` and parse; from here on loads are small and writes go aside."""
    parser.add_argument(
        "--quick", action="store_true", help="small, within two minutes, into results/quick"
    )
    arguments = parser.parse_args()
    _options["quick"] = arguments.quick
    return arguments


_options = {"quick": False}


def short_training():
    """Parameters that keep an estimator's training short in a quick run, else none."""
    return {"max_epochs": QUICK_EPOCHS} if _options["quick"] else {}


def at_most(limit):
    """How many rows or cells a contestant is given at most: fewer in a quick run."""
    return min(limit, QUICK_ROWS) if _options["quick"] else limit


class MissingDataError(SystemExit):
    """Data that are not there: the end of a full run, or of a section of a quick one."""


@contextmanager
def skippable(section):
    """In a quick run, say in one line that data are missing, and go on after the block."""
    try:
        yield
    except MissingDataError as missing:
        if not _options["quick"]:
            raise
        print(f"Skipped {section}: {missing}", flush=True)


# The machine.


def machine_line():
    """One line that says where and on what the numbers were measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} torch "
        f"threads; Python {platform.python_version()}, {versions}; {date.today()}."
    )


def cpu_model():
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@contextmanager
def threads(n_threads):
    """In the block, torch and the libraries behind numpy use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(before)


# The data.


def add_data_argument(parser):
    """Add ``--data``, the folder of the evaluation data."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKAE_DATA"),
        help="folder with mnist.npz, fashion_mnist.npz and adbench/ (default: $SKAE_DATA; "
        "without it images are fetched from OpenML)",
    )


def load_images(name, data):
    """X_train, y_train, X_test, y_test of an image set; float32 pixels in [0, 1]."""
    if data is None:
        arrays = fetch_images(name)
    else:
        with np.load(existing(Path(data) / f"{name}.npz"), allow_pickle=False) as file:
            arrays = [file[key] for key in ("X_train", "y_train", "X_test", "y_test")]
    X_train, y_train, X_test, y_test = few_rows(arrays) if _options["quick"] else arrays
    return X_train.astype(np.float32) / 255, y_train, X_test.astype(np.float32) / 255, y_test


def few_rows(arrays):
    """Some shuffled rows of each array; X and y of a part are shuffled alike."""
    orders = [np.random.default_rng(0).permutation(len(array)) for array in arrays]
    return [array[order[:QUICK_ROWS]] for array, order in zip(arrays, orders, strict=True)]


def fetch_images(name):
    """The same arrays from OpenML, where the last 10000 rows are the test rows."""
    from sklearn.datasets import fetch_openml

    if _options["quick"]:
        raise MissingDataError(f"{name}.npz is missing: give --data or $SKAE_DATA.")

    try:
        X, y = fetch_openml(OPENML_NAMES[name], version=1, as_frame=False, return_X_y=True)
    except OSError as error:
        raise MissingDataError(
            f"{name}.npz is missing: give --data or $SKAE_DATA. OpenML says: {error}"
        ) from error
    return X[:60000], y[:60000], X[60000:], y[60000:]


def outlier_tables(data):
    """Paths of the tables in ``adbench/``, sorted by name."""
    paths = sorted(existing(data_folder(data) / "adbench").glob("*.npz"))
    return paths[QUICK_TABLES] if _options["quick"] else paths


def outlier_tables_beside_others(data):
    """The same, or none where a quick run has no data and goes on with scikit-learn's tables."""
    with skippable("tables of ADBench"):
        return outlier_tables(data)
    return []


def labelled_tables(data):
    """Yield names, rows and classes of tables with labels that can be learned."""
    for path in outlier_tables_beside_others(data):
        if path.stem in LABELLED:
            with np.load(path, allow_pickle=False) as file:
                yield path.stem, file["X"].astype(np.float64), file["y"]
    bundled = (load_breast_cancer, load_digits, load_wine)
    for load in bundled[::2] if _options["quick"] else bundled:  # digits are the wide ones
        yield load.__name__.removeprefix("load_"), *load(return_X_y=True)


def data_folder(data):
    """The folder of the evaluation data, where it was given."""
    if data is None:
        raise MissingDataError("the folder of the data is missing: give --data or $SKAE_DATA.")
    return Path(data)


def existing(path):
    """The path, or the end of the program with its name."""
    if not path.exists():
        raise MissingDataError(f"{path} is missing: give another --data or $SKAE_DATA.")
    return path


def curved_table(n_rows, n_features, n_factors):
    """Float32 rows near a curved surface of a few dimensions."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((n_rows, n_factors), dtype=np.float32)
    X = latents @ rng.standard_normal((n_factors, n_features), dtype=np.float32)
    np.tanh(X, out=X)
    X += 0.1 * rng.standard_normal(X.shape, dtype=np.float32)
    return X


# Memory and processes.


class PeakAbove:
    """Seconds, and peak memory of the block above what was there at its start, in bytes."""

    def __enter__(self):
        hand_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # set VmHWM back to VmRSS
        self.resident_before, self.anonymous_before = memory("VmRSS"), memory("RssAnon")
        self.highest = self.anonymous_before
        self.done = threading.Event()
        self.sampler = threading.Thread(target=self.sample)
        self.sampler.start()
        self.start = perf_counter()
        return self

    def sample(self):
        while not self.done.wait(SAMPLING_SECONDS):
            self.highest = max(self.highest, memory("RssAnon"))

    def __exit__(self, *exception):
        seconds = perf_counter() - self.start
        self.done.set()
        self.sampler.join()
        self.peak = {
            "resident": memory("VmHWM") - self.resident_before,
            "anonymous": self.highest - self.anonymous_before,
            "seconds": seconds,
        }


def memory(field):
    """A memory field of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def hand_back_freed_memory():
    """Or memory that an earlier call freed would hide what the next one takes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def from_child(script, *options):
    """What a script prints as json in a process of its own, started with these options."""
    command = [sys.executable, script, *map(str, options)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# Numbers.


def seconds_of(function, *args):
    """Seconds of one call."""
    start = perf_counter()
    function(*args)
    return perf_counter() - start


def in_turn(contestants, n_rounds):
    """What each contestant's calls return, one call a round, all in turn in each round."""
    told = {name: [] for name in contestants}
    for _ in range(n_rounds):
        for name, call in contestants.items():
            told[name].append(call())
    return told


def median_ratios(seconds, baseline):
    """Median over runs of each contestant's seconds over the baseline's of the same round."""
    base = np.asarray(seconds[baseline])
    return {name: float(np.median(np.asarray(runs) / base)) for name, runs in seconds.items()}


# What is written.


def results_folder():
    """Where this run writes: what a quick run measures is kept apart."""
    path = RESULTS / "quick" if _options["quick"] else RESULTS
    path.mkdir(parents=True, exist_ok=True)
    return path


def save_part(name, part):
    """Keep one section's numbers, so that others can be measured anew without it."""
    text = json.dumps(part, indent=1)
    one_line_a_row = re.sub(r"\{[^{}]*\}", lambda row: " ".join(row[0].split()), text)
    (results_folder() / f"{name}.json").write_text(one_line_a_row + "\n")
    _saved.add(name)


_saved = set()  # names of the parts that this run has measured


def load_part(name):
    """A section's numbers, or None where it was not measured: ever, or in this quick run."""
    if _options["quick"] and name not in _saved:
        return None
    path = results_folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown_table(rows):
    """Rows, given as dicts with the same keys, as a markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def yes_no(kept):
    """Whether an aim is kept, as text."""
    return "yes" if kept else "no"


def report(row):
    """Print a row while the next one is measured."""
    print(", ".join(f"{name}: {cell(value)}" for name, value in row.items()), flush=True)


def cell(value):
    """A value as text: four digits of a float, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_sections(name, title, tellers):
    """Write what was measured, now or before; `tellers` make blocks of a section's numbers."""
    parts = {section: load_part(f"{name}_{section}") for section in tellers}
    told = [block for section, part in parts.items() if part for block in tellers[section](part)]
    if told:
        write_markdown(name, title, *told)


def write_markdown(name, title, *blocks):
    """Write ``results/<name>.md``, or ``results/quick/<name>.md``, and print it."""
    notes = [QUICK_NOTE] if _options["quick"] else []
    text = "\n\n".join([title, *notes, *blocks]) + "\n"
    (results_folder() / f"{name}.md").write_text(text)
    print(text)
