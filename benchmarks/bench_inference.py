"""How close transform, reconstruct and score_samples come to the speed of matrix products.

The floating-point operations per second of their dense layers are compared with the best rate of
`torch.mm` in float32 on as many threads, measured in turn with them in one process. Memory beyond
input and output is measured in a process of its own for each.

    python benchmarks/bench_inference.py --threads 1 2
"""

import argparse
import json
from functools import partial

import numpy as np
import torch
from _common import (
    PeakAbove,
    from_child,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    seconds_of,
    threads,
    write_markdown,
    yes_no,
)

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

N_FEATURES, HIDDEN, CODE = 784, (256, 64), 16
N_ROWS, MEMORY_ROWS = 60_000, (60_000, 600_000)
QUICK_ROWS = 6_000
CHUNK_ROWS, FIT_ROWS = 10_000, 2_000
RATE_AIM, MEMORY_AIM = 0.70, 64  # share of torch.mm's rate, MiB
MM_SHAPES = [(1024, 1024, 1024), (2048, 2048, 2048), (8192, 784, 256), (2048, 784, 2048)]
N_MM_RUNS = 5
MIB = 2**20
NOTES = f"""\
Rows of {N_FEATURES} float32 columns; `AutoencoderTransformer({CODE}, hidden_layer_sizes={HIDDEN})`
and `AutoencoderOutlierDetector` with the same sizes and its default of four members, fitted for
one epoch on {FIT_ROWS} rows, as the time of inference does not depend on the values of weights.
Counted are two operations per row and entry of a weight matrix, linear paths included. Activations,
scaling, validation of X and scores are part of the time, but not of the count.

- *share of torch.mm*: operations per second over the best rate of `torch.mm` in the same round,
  among the shapes {", ".join("x".join(map(str, shape)) for shape in MM_SHAPES)}; medians over
  rounds. Aim: at least {RATE_AIM}.
- *extra memory*: peak memory of the process above that just before the call, less the arrays that
  the call returns; measured as in `memory.md`, the larger of resident and anonymous memory, after
  a first call on {FIT_ROWS} rows. Aim: at most {MEMORY_AIM} MiB."""


def make_rows(n_rows):
    """Rows in memory, drawn in chunks."""
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, N_FEATURES), np.float32)
    for start in range(0, n_rows, CHUNK_ROWS):
        rng.standard_normal(out=X[start : start + CHUNK_ROWS], dtype=np.float32)
    return X


def fitted(estimator):
    """A fitted estimator of the class, with the sizes of this benchmark."""
    params = {"hidden_layer_sizes": HIDDEN, "n_components": CODE, "max_epochs": 1}
    return estimator(**params, random_state=0).fit(make_rows(FIT_ROWS))


def prepare(verb, X):
    """A call without arguments, and the number of weights that each row is multiplied by."""
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
    """Number of entries of all weight matrices, of all members."""
    # The biases of members have three axes, too, the second of length one.
    return sum(p.numel() for p in module.parameters() if p.ndim > 1 and p.shape[-2] > 1)


# Speed.


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
    """Yield the rows of the table of speeds."""
    X = make_rows(n_rows)
    with threads(n_threads):
        calls = {verb: prepare(verb, X) for verb in VERBS}
        for call, _ in calls.values():
            call()
        rates = [measure_round(calls, n_rows) for _ in range(n_rounds)]
    for verb in VERBS:
        share = float(np.median([rate[verb] / rate["mm"] for rate in rates]))
        row = {
            "call": verb,
            "rows": n_rows,
            "threads": n_threads,
            "GFLOP/s": float(np.median([rate[verb] for rate in rates])) / 1e9,
            "torch.mm, GFLOP/s": float(np.median([rate["mm"] for rate in rates])) / 1e9,
            "share of torch.mm": f"{share:.2f}",
            f"at least {RATE_AIM}": yes_no(share >= RATE_AIM),
        }
        report(row)
        yield row


def measure_round(calls, n_rows):
    """Operations per second of each call and of matrix products."""
    rates = {verb: 2 * n_rows * n / seconds_of(call) for verb, (call, n) in calls.items()}
    return rates | {"mm": mm_rate()}


# Memory, in a child process.


def run_child(verb, n_rows):
    """Print the MiB that one call takes beyond input and output."""
    prepare(verb, make_rows(FIT_ROWS))[0]()
    call, _ = prepare(verb, make_rows(n_rows))
    with PeakAbove() as above:
        out = call()
    peak = max(above.peak["resident"], above.peak["anonymous"])
    print(json.dumps((peak - out.nbytes) / MIB))


def measure_memory(verb, n_rows, n_threads):
    """One row of the table of memory."""
    mib = from_child(__file__, "--child", verb, "--rows", n_rows, "--threads", n_threads)
    row = {
        "call": verb,
        "rows": n_rows,
        "threads": n_threads,
        "extra memory, MiB": f"{mib:.0f}",
        f"at most {MEMORY_AIM} MiB": yes_no(mib <= MEMORY_AIM),
    }
    report(row)
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.child:
        with threads(args.threads[0]):
            run_child(args.child, args.rows)
        return
    n_rows, thread_counts, n_rounds = N_ROWS, args.threads, args.rounds
    cases = [(verb, n) for verb in VERBS for n in MEMORY_ROWS]
    if args.quick:
        n_rows, thread_counts, n_rounds = QUICK_ROWS, args.threads[:1], 2
        cases = [(verb, QUICK_ROWS) for verb in VERBS[::3]]
    speed = [row for n in thread_counts for row in measure_speed(n_rows, n, n_rounds)]
    memory = [measure_memory(*case, max(thread_counts)) for case in cases]
    tables = markdown_table(speed), markdown_table(memory)
    write_markdown("inference", "# Inference", machine_line(), *tables, NOTES)


if __name__ == "__main__":
    main()
