"""What all benchmarks share: the machine, the data, ratios and the files written."""

import json
import os
import platform
import re
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scikit-learn", "torch", "skorch", "skae")
LABELLED = ("Cardiotocography", "Ionosphere", "Pima", "SpamBase")
OPENML_NAMES = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}


# The machine.


def machine_line():
    """One line that says where and on what the numbers were measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} torch "
        f"threads; Python {platform.python_version()}, {versions}."
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
    X_train, y_train, X_test, y_test = arrays
    return X_train.astype(np.float32) / 255, y_train, X_test.astype(np.float32) / 255, y_test


def fetch_images(name):
    """The same arrays from OpenML, where the last 10000 rows are the test rows."""
    from sklearn.datasets import fetch_openml

    try:
        X, y = fetch_openml(OPENML_NAMES[name], version=1, as_frame=False, return_X_y=True)
    except OSError as error:
        sys.exit(f"{name}.npz is missing: give --data or $SKAE_DATA. OpenML says: {error}")
    return X[:60000], y[:60000], X[60000:], y[60000:]


def outlier_tables(data):
    """Paths of the tables in ``adbench/``, sorted by name."""
    if data is None:
        sys.exit("adbench/*.npz is missing: give --data or $SKAE_DATA.")
    return sorted(existing(Path(data) / "adbench").glob("*.npz"))


def labelled_tables(data):
    """Yield names, rows and classes of tables with labels that can be learned."""
    for path in outlier_tables(data):
        if path.stem in LABELLED:
            with np.load(path, allow_pickle=False) as file:
                yield path.stem, file["X"].astype(np.float64), file["y"]
    for load in (load_breast_cancer, load_digits, load_wine):
        yield load.__name__.removeprefix("load_"), *load(return_X_y=True)


def existing(path):
    """The path, or the end of the program with its name."""
    if not path.exists():
        sys.exit(f"{path} is missing: give another --data or $SKAE_DATA.")
    return path


# Numbers.


def median_ratios(seconds, baseline):
    """Median over runs of each contestant's seconds over the baseline's of the same round."""
    base = np.asarray(seconds[baseline])
    return {name: float(np.median(np.asarray(runs) / base)) for name, runs in seconds.items()}


# What is written.


def save_part(name, part):
    """Keep one section's numbers, so that others can be measured anew without it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(part, indent=1)
    one_line_a_row = re.sub(r"\{[^{}]*\}", lambda row: " ".join(row[0].split()), text)
    (RESULTS / f"{name}.json").write_text(one_line_a_row + "\n")


def load_part(name):
    """A section's numbers, or None where it was never measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown_table(rows):
    """Rows, given as dicts with the same keys, as a markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


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
    write_markdown(name, title, *told)


def write_markdown(name, *blocks):
    """Write ``results/<name>.md`` and print it."""
    text = "\n\n".join(blocks) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
