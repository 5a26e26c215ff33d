"""Peak memory of fit and transform above the memory before the call.

Each measurement runs in a process of its own, which reads two numbers from `/proc/self/status`,
as differences from their values just before the call:

- *resident*: VmHWM, the peak resident memory (what ru_maxrss reports, but reset before the call),
  including pages of mapped files;
- *anonymous*: RssAnon, sampled every 5 ms, without pages of mapped files, which the system can
  reclaim at any time.

    python benchmarks/bench_memory.py
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from _common import (
    PeakAbove,
    from_child,
    machine_line,
    markdown_table,
    parse_arguments,
    write_markdown,
    yes_no,
)

GIB = 2**30
N_FEATURES = 1024
CHUNK_ROWS = 4096
# Size of each kind of input, and the limit for fit, in GiB.
INPUTS = {"float32 array": (1.0, 1.3), "numpy.memmap, float32": (4.0, 1.0)}
NOTES = """\
Every line is `AutoencoderTransformer(n_components=8, max_epochs=1)` with other parameters at their
defaults, in a process of its own. Numbers are GiB above the memory just before the call, when the
array exists or the memory map is open. *Resident* is the peak of resident memory (VmHWM, reset
before the call), including pages of mapped files; *anonymous* is RssAnon, sampled every 5 ms. The
limit applies to the larger of both."""


# In the child process.


def run_child(path, gib):
    """Fit and transform; print the peaks."""
    from skae import AutoencoderTransformer

    warm_up = np.random.default_rng(0).standard_normal((300, N_FEATURES), dtype=np.float32)
    AutoencoderTransformer(8, max_epochs=1).fit(warm_up).transform(warm_up)
    X = np.memmap(path, np.float32, "r", shape=shape(gib)) if path else make_array(gib)
    model = AutoencoderTransformer(n_components=8, max_epochs=1, random_state=0)
    with PeakAbove() as fit:
        model.fit(X)
    with PeakAbove() as transform:
        model.transform(X)
    print(json.dumps({"fit": fit.peak, "transform": transform.peak}))


def shape(gib):
    return int(gib * GIB) // (4 * N_FEATURES), N_FEATURES


def chunks(gib):
    """Yield rows with a few directions of high variance in chunks, with their slices."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((16, N_FEATURES), dtype=np.float32)
    for start in range(0, shape(gib)[0], CHUNK_ROWS):
        n_rows = min(CHUNK_ROWS, shape(gib)[0] - start)
        rows = rng.standard_normal((n_rows, 16), dtype=np.float32) @ directions
        rows += rng.standard_normal(rows.shape, dtype=np.float32)
        yield slice(start, start + n_rows), rows


def make_array(gib):
    X = np.empty(shape(gib), np.float32)
    for rows, chunk in chunks(gib):
        X[rows] = chunk
    return X


# In the parent process.


def measure(kind, gib, folder):
    """Peaks of one kind of input, from a child process."""
    path = Path(folder) / "rows.float32" if "memmap" in kind else None
    if path:
        with path.open("wb") as file:
            for _, chunk in chunks(gib):
                chunk.tofile(file)
    return from_child(__file__, "--child", path or "", "--gib", gib)


def rows_of_table(kind, gib, limit, peaks):
    for verb, peak in peaks.items():
        limit_of_verb = limit if verb == "fit" else None
        resident, anonymous = peak["resident"] / GIB, peak["anonymous"] / GIB
        highest = max(resident, anonymous)
        yield {
            "input": kind,
            "rows x columns": "{}x{}".format(*shape(gib)),
            "size, GiB": gib,
            "call": verb,
            "resident, GiB above": f"{resident:.2f}",
            "anonymous, GiB above": f"{anonymous:.2f}",
            "limit": limit_of_verb,
            "kept": limit_of_verb and yes_no(highest <= limit_of_verb),
            "seconds": f"{peak['seconds']:.0f}",
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tmp", help="folder for the 4 GiB file (default: the system's)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--gib", type=float, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.child is not None:
        run_child(args.child, args.gib)
        return
    table = []
    for kind, (gib, limit) in INPUTS.items():
        gib = gib / 16 if args.quick else gib
        with tempfile.TemporaryDirectory(dir=args.tmp) as folder:
            table += rows_of_table(kind, gib, limit, measure(kind, gib, folder))
        print(markdown_table(table[-2:]), flush=True)
    write_markdown("memory", "# Peak memory", machine_line(), markdown_table(table), NOTES)


if __name__ == "__main__":
    main()
