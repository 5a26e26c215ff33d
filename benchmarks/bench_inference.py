"""How close transform, reconstruct and score_samples come to the speed of matrix products.

Their dense layers' floating-point operations per second are held against the best rate
of `torch.mm` in float32 with the same threads, measured in turn with them in one process. What
they take of memory beyond input and output is measured in a process for each.

    python benchmarks/bench_inference.py --threads 1 2
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from time import perf_counter

import numpy as np
import torch
from _common import machine_line, markdown_table, report, threads, write_markdown
from bench_memory import PeakAbove

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

N_FEATURES, HIDDEN, CODE = 784, (256, 64), 16
N_ROWS, MEMORY_ROWS = 60_000, (60_000, 600_000)
CHUNK_ROWS, FIT_ROWS = 10_000, 2_000
RATE_AIM, MEMORY_AIM = 0.70, 64  # share of torch.mm's rate, MiB
MM_SHAPES = [(1024, 1024, 1024), (2048, 2048, 2048), (8192, 784, 256), (2048, 784, 2048)]
N_MM_RUNS = 5
MIB_PER_GIB = 1024
NOTES = f"""\
Rows of {N_FEATURES} float32 columns; `AutoencoderTransformer({CODE}, hidden_layer_sizes={HIDDEN})`
and `AutoencoderOutlierDetector` with the same sizes and its default of four members, fitted for
an epoch on {FIT_ROWS} rows: weights do not change what inference costs. Operations are two for
each weight matrix's cell and row, linear paths included; activations, scaling, validation of X and
scores are not counted, only timed.

- *share of torch.mm*: operations per second over the best rate of `torch.mm` over shapes
  {", ".join("x".join(map(str, shape)) for shape in MM_SHAPES)}, of the same round; medians over
  rounds. Aim: at least {RATE_AIM}.
- *extra memory*: peak above the process just before the call, without the arrays
  that the call returns; measured as in `memory.md`, the larger of resident and anonymous, after a
  call on {FIT_ROWS} rows. Aim: at most {MEMORY_AIM} MiB."""


def make_rows(n_rows):
    """Rows in memory, drawn piece by piece."""
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, N_FEATURES), np.float32)
    for start in range(0, n_rows, CHUNK_ROWS):
        rng.standard_normal(out=X[start : start + CHUNK_ROWS], dtype=np.float32)
    return X


def fitted(estimator):
    params = {"hidden_layer_sizes": HIDDEN, "n_components": CODE, "max_epochs": 1}
    return estimator(**params, random_state=0).fit(make_rows(FIT_ROWS))


def prepare(verb, X):
    """What is called, without arguments, and the weights that each row meets in it."""
    if verb == "score_samples":
        detector = fitted(AutoencoderOutlierDetector)
        return partial(detector.score_samples, X), n_weights(detector.net_.module_)
    model = fitted(AutoencoderTransformer)
    module = model.net_.module_
    if verb == "transform":
        return partial(model.transform, X), n_weights(module.encoder)
    if verb == "inverse_transform":
        Z = model.transform(X)
        return partial(model.inverse_transform, Z), n_weights(module.decoder)
    return partial(model.reconstruct, X), n_weights(module)


VERBS = ("transform", "inverse_transform", "reconstruct", "score_samples")


def n_weights(module):
    """Cells of all weight matrices, those of all members."""
    # Members' biases have three axes too, the second of length one.
    return sum(p.numel() for p in module.parameters() if p.ndim > 1 and p.shape[-2] > 1)


# Speed.


def seconds_of(call):
    start = perf_counter()
    call()
    return perf_counter() - start


def mm_rate():
    """Best floating-point operations per second of matrix products."""
    rates = []
    for n, k, m in MM_SHAPES:
        a, b = torch.randn(n, k), torch.randn(k, m)
        out = torch.empty(n, m)
        best = min(seconds_of(partial(torch.mm, a, b, out=out)) for _ in range(N_MM_RUNS))
        rates.append(2 * n * k * m / best)
    return max(rates)


def measure_speed(n_rows, n_threads, n_rounds):
    """Lines of the table of speeds."""
    X = make_rows(n_rows)
    with threads(n_threads):
        calls = {verb: prepare(verb, X) for verb in VERBS}
        for call, _ in calls.values():
            call()
        rates = [play_round(calls, n_rows) for _ in range(n_rounds)]
    for verb in VERBS:
        share = float(np.median([rate[verb] / rate["mm"] for rate in rates]))
        row = {
            "call": verb,
            "rows": n_rows,
            "threads": n_threads,
            "GFLOP/s": float(np.median([rate[verb] for rate in rates])) / 1e9,
            "torch.mm, GFLOP/s": float(np.median([rate["mm"] for rate in rates])) / 1e9,
            "share of torch.mm": f"{share:.2f}",
            f"at least {RATE_AIM}": "yes" if share >= RATE_AIM else "no",
        }
        report(row)
        yield row


def play_round(calls, n_rows):
    """Operations per second of all calls and of matrix products."""
    rates = {verb: 2 * n_rows * n / seconds_of(call) for verb, (call, n) in calls.items()}
    return rates | {"mm": mm_rate()}


# Memory, in a child process.


def run_child(verb, n_rows):
    """Call once; print MiB beyond input and output."""
    prepare(verb, make_rows(FIT_ROWS))[0]()
    call, _ = prepare(verb, make_rows(n_rows))
    with PeakAbove() as above:
        out = call()
    peak = MIB_PER_GIB * max(above.peak["resident"], above.peak["anonymous"])
    print(json.dumps(peak - out.nbytes / 2**20))


def measure_memory(verb, n_rows, n_threads):
    """A line of the table of memory."""
    command = [sys.executable, __file__, "--child", verb, "--rows", str(n_rows)]
    command += ["--threads", str(n_threads)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    mib = json.loads(answer)
    row = {
        "call": verb,
        "rows": n_rows,
        "threads": n_threads,
        "extra memory, MiB": f"{mib:.0f}",
        f"at most {MEMORY_AIM} MiB": "yes" if mib <= MEMORY_AIM else "no",
    }
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few rows; writes no file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        with threads(args.threads[0]):
            run_child(args.child, args.rows)
        return
    if args.quick:
        list(measure_speed(N_ROWS // 10, args.threads[0], 2))
        measure_memory("transform", MEMORY_ROWS[0] // 10, args.threads[0])
        return
    speed = [row for n in args.threads for row in measure_speed(N_ROWS, n, args.rounds)]
    memory = [measure_memory(v, n, max(args.threads)) for v in VERBS for n in MEMORY_ROWS]
    tables = markdown_table(speed), markdown_table(memory)
    write_markdown("inference", "# Inference", machine_line(), *tables, NOTES)


if __name__ == "__main__":
    main()
