"""Code shared by all benchmarks: options, machine, data, measurements and results.

With ``--quick``, only part of the images and tables is loaded, estimators train for a few epochs,
sections whose data are missing are skipped, and results are written to ``results/quick``.
`parse_arguments` sets this for all functions here.
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
    f"A quick run, which only shows that the script works: few rows, few rounds and at most "
    f"{QUICK_EPOCHS} epochs, whatever the text below states. Its numbers are not results."
)
SAMPLING_SECONDS = 0.005


# Options.


def parse_arguments(parser):
    """Add ``--quick`` and parse; afterwards all functions here know whether the run is quick."""
    parser.add_argument(
        "--quick", action="store_true", help="small, within two minutes, into results/quick"
    )
    arguments = parser.parse_args()
    _options["quick"] = arguments.quick
    return arguments


_options = {"quick": False}


def short_training():
    """Parameters that shorten the training of an estimator in a quick run; empty in a full one."""
    return {"max_epochs": QUICK_EPOCHS} if _options["quick"] else {}


def at_most(limit):
    """The limit of rows or cells, or a smaller one in a quick run."""
    return min(limit, QUICK_ROWS) if _options["quick"] else limit


class MissingDataError(SystemExit):
    """Missing data end a full run, but only the section in a quick run."""


@contextmanager
def skippable(section):
    """In a quick run, if data are missing, print one line and continue after the block."""
    try:
        yield
    except MissingDataError as missing:
        if not _options["quick"]:
            raise
        print(f"Skipped {section}: {missing}", flush=True)


# Machine.


def machine_line():
    """Machine, versions and date of the measurement, in one line."""
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
    """Within the block, torch and the libraries behind NumPy use this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(before)


# Data.


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
    """A few shuffled rows of each array; X and y of a part keep the same order."""
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
            f"{name}.npz is missing: give --data or $SKAE_DATA. OpenML: {error}"
        ) from error
    return X[:60000], y[:60000], X[60000:], y[60000:]


def outlier_tables(data):
    """Paths of the tables in ``adbench/``, sorted by name."""
    paths = sorted(existing(data_folder(data) / "adbench").glob("*.npz"))
    return paths[QUICK_TABLES] if _options["quick"] else paths


def unseen_outlier_tables(data, half):
    """Paths of the half of ``odd/`` that defaults are decided on, or of the one to "report"."""
    paths = sorted(existing(data_folder(data) / "odd").glob("*.npz"))[half == "report" :: 2]
    return paths[QUICK_TABLES] if _options["quick"] else paths


def outlier_tables_if_any(data):
    """The same, or none in a quick run without data, which only uses scikit-learn's tables."""
    with skippable("tables of ADBench"):
        return outlier_tables(data)
    return []


def labelled_tables(data):
    """Yield name, rows and classes of each table for classification."""
    for path in outlier_tables_if_any(data):
        if path.stem in LABELLED:
            with np.load(path, allow_pickle=False) as file:
                yield path.stem, file["X"].astype(np.float64), file["y"]
    bundled = (load_breast_cancer, load_digits, load_wine)
    for load in bundled[::2] if _options["quick"] else bundled:  # not digits, which is wide
        yield load.__name__.removeprefix("load_"), *load(return_X_y=True)


def data_folder(data):
    """The folder of the evaluation data, which must have been given."""
    if data is None:
        raise MissingDataError("the folder of the data is missing: give --data or $SKAE_DATA.")
    return Path(data)


def existing(path):
    """The path, which must exist."""
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
    """Seconds of a block, and its peak memory above that at its start, in bytes."""

    def __enter__(self):
        release_freed_memory()
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


def release_freed_memory():
    """Return freed memory to the system; reused memory would not show in the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def from_child(script, *options):
    """Run a script with these options in a child process; return the JSON that it prints."""
    command = [sys.executable, script, *map(str, options)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# Numbers.


def seconds_of(function, *args):
    """Seconds of one call."""
    start = perf_counter()
    function(*args)
    return perf_counter() - start


def in_turn(calls, n_rounds):
    """Results of each call by name, one a round; within a round the calls take turns."""
    results = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            results[name].append(call())
    return results


def median_ratios(seconds, baseline):
    """Median over rounds of the ratio of seconds to the baseline's in the same round."""
    base = np.asarray(seconds[baseline])
    return {name: float(np.median(np.asarray(runs) / base)) for name, runs in seconds.items()}


# Results.


def results_folder():
    """The folder that this run writes to; quick runs have one of their own."""
    path = RESULTS / "quick" if _options["quick"] else RESULTS
    path.mkdir(parents=True, exist_ok=True)
    return path


def save_part(name, part):
    """Save the numbers of one section, so that others can be repeated without it."""
    text = json.dumps(part, indent=1)
    one_line_a_row = re.sub(r"\{[^{}]*\}", lambda row: " ".join(row[0].split()), text)
    (results_folder() / f"{name}.json").write_text(one_line_a_row + "\n")
    _saved.add(name)


_saved = set()  # names of the parts that this run has measured


def load_part(name):
    """Numbers of a section, or None; a quick run reads only those that it measured itself."""
    if _options["quick"] and name not in _saved:
        return None
    path = results_folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown_table(rows):
    """A Markdown table of rows, which are dicts with the same keys."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def yes_no(is_met):
    """Whether an aim is met, as text."""
    return "yes" if is_met else "no"


def report(row):
    """Print a row as soon as it is measured."""
    print(", ".join(f"{name}: {cell(value)}" for name, value in row.items()), flush=True)


def cell(value):
    """A value as text: a float with four digits, None as an empty string."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_sections(name, title, formatters):
    """Write all sections measured so far; a formatter turns numbers into blocks of Markdown."""
    blocks = []
    for section, format_part in formatters.items():
        if part := load_part(f"{name}_{section}"):
            blocks += format_part(part)
    if blocks:
        write_markdown(name, title, *blocks)


def write_markdown(name, title, *blocks):
    """Write ``results/<name>.md``, or ``results/quick/<name>.md``, and print it."""
    notes = [QUICK_NOTE] if _options["quick"] else []
    text = "\n\n".join([title, *notes, *blocks]) + "\n"
    (results_folder() / f"{name}.md").write_text(text)
    print(text)
