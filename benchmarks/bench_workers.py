"""Seconds of an epoch by several workers: a formula, fitted, checked, and what it says of more.

What one process computes is measured in processor seconds. Reductions are measured between two
and three processes, through the memory of one machine, over the loopback device, and over links
whose latency and bandwidth are set (as the superuser of Linux; otherwise that part is left out).
The formula then predicts whole fits of another network with other batches over other links, which
are measured as well.

    python benchmarks/bench_workers.py [--only compute reduce check batches]
"""

import argparse
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from math import ceil

import numpy as np
import torch
from _common import (
    curved_table,
    load_part,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    write_markdown,
)
from _links import from_group, reason_without_links, set_link
from _worker_model import (
    BYTES,
    LOOPBACK,
    MEMORY,
    TRAINED,
    Job,
    Link,
    computing_seconds,
    efficiency,
    epoch_seconds,
    fitted_costs,
    n_parameters,
    n_steps,
    network_seconds,
    reduction_seconds,
    row_seconds,
    step_seconds,
)
from torch import distributed

from skae import AutoencoderTransformer
from skae._engine._group import ProcessGroup
from skae._engine._net import AutoencoderNet
from skae._engine._shared_sums import shared_sums
from skae.estimators._sharded_fit import Shard, fit_shards

N_FACTORS, N_LATENTS = 8, 16
# Columns and hidden layers.
MEDIUM, LARGE = (200, (128, 64)), (1000, (512, 256))
NETWORKS = (MEDIUM, (50, (64, 32)), (200, (512, 256)), LARGE)
UNSEEN_NETWORK = (400, (256, 128))
BATCHES = (64, 512, 4096)
SIZES = (2, 3)
LINKS = tuple(
    Link(latency, bandwidth, is_emulated=True)
    for latency, bandwidth in ((0.0002, 1e9), (0.001, 1e9), (0.001, 1e8), (0.005, 1e9))
)
N_BYTES = (4_000, 40_000, 300_000, 2_000_000)
N_REDUCTIONS = 8
ROWS_OF_FIT, N_EPOCHS = 12_000, 4  # fewer than 10 000 rows are fitted by one process
UNSEEN_LINKS = (Link(0.0005, 5e8, is_emulated=True), Link(0.003, 2e8, is_emulated=True))
UNSEEN_BATCH, UNSEEN_STEPS = 768, 12
SYNC_EVERY = (1, 5)
NO_LIMIT = 1e15  # bits/s of loopback; JSON has no infinity
MEMORY_LINK = "memory"
ROWS_OF_OTHERS, ROWS_OF_FIRST, COLUMNS_OF_OTHERS = (500_000, 2_500_000), 1000, 4
ROWS_SEEN, EPOCHS_SEEN, N_TEST, SEEN_BATCHES = 40_000, 6, 10_000, (64, 128, 256, 1024, 4096, 16384)

# What is predicted.
LATENCY = 0.00005  # seconds from one machine of a data centre to another
CORES = 16  # of a machine
MANY_ROWS, WORKERS, GBITS, ROWS_IN_ALL = 10**9, (8, 64, 512), (1, 10, 100), 4096
MANY_NETWORKS = tuple(f"{hidden}, {columns} columns" for columns, hidden in (MEDIUM, LARGE))
SETTINGS = {"512 rows": (512, 1), "512 rows, k = 16": (512, 16), "8192 rows": (8192, 1)}
# dmlc/xgboost, issue 10853: three machines of 64 cores and one that coordinates, 50 rounds.
YARDSTICK = {
    "rows": 50_000_000,
    "columns": 19,
    "cores": 256,
    "cores_of_machine": 64,
    "seconds": 45,
    "bits": 20e9,
}


# In the processes of a group.


def train(fits):
    """Print what is measured of fits of own shares of tables."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    found = []
    for fit in fits:
        X = curved_table(fit["n_rows"], fit["columns"], N_FACTORS)
        shard = np.array(np.array_split(X, size)[rank])
        estimator = AutoencoderTransformer(
            N_LATENTS,
            hidden_layer_sizes=fit["hidden"],
            batch_size=fit["batch_of_worker"] * size,
            max_epochs=N_EPOCHS,
            random_state=0,
        )
        use_link(*fit["link"])
        found.append(seconds_of_fit(estimator, shard, fit["sync_every"]))
    print(json.dumps(found))


def use_link(latency, bandwidth):
    """Let all processes go on with this link."""
    if distributed.get_rank() == 0 and bandwidth < NO_LIMIT:
        set_link(latency, bandwidth)
    distributed.barrier()


def seconds_of_fit(estimator, shard, sync_every=1):
    """Seconds of epochs and of all before and after, by the clock and of this process."""
    times, trained = [], {}

    def note():
        times.append((time.perf_counter(), time.process_time()))

    def noting(net, method_name, **arguments):
        notify(net, method_name, **arguments)
        if method_name in ("on_train_begin", "on_epoch_end"):
            note()
            # Wide tables are trained in principal coordinates.
            trained["n_columns"] = next(net.module_.parameters()).shape[-1]
            trained["n_parameters"] = sum(p.numel() for p in net.module_.parameters())

    notify, AutoencoderNet.notify = AutoencoderNet.notify, noting
    with closing(ProcessGroup(sync_every)) as group:
        note()
        # The public function leaves a process that is alone to the fits in memory.
        fit_shards(estimator, lambda: Shard(shard, None, {group.rank: len(shard)}), group)
        note()
    clock, processor = np.diff(times, axis=0).T.tolist()
    return trained | {
        "clock": clock[1:-1],
        "processor": processor[1:-1],
        "around": clock[0] + clock[-1],
        "processor around": processor[0] + processor[-1],
    }


def train_others(n_rows):
    """Hold next to none of the rows; print seconds that those of others take here."""
    X = curved_table(n_rows, COLUMNS_OF_OTHERS, 2)
    shard = X[:ROWS_OF_FIRST] if distributed.get_rank() == 0 else X[ROWS_OF_FIRST:]
    estimator = AutoencoderTransformer(
        1, hidden_layer_sizes=(4,), batch_size=2**17, max_epochs=1, random_state=0
    )
    print(json.dumps(seconds_of_fit(estimator, np.array(shard))))


def reduce(links, sizes):
    """Print seconds of reductions by link, processes and bytes."""
    rows = []
    groups = {size: distributed.new_group([*range(size)]) for size in sizes}
    for link in links:
        use_link(*link)
        for size, group in groups.items():
            if distributed.get_rank() < size:
                send = partial(distributed.all_reduce, group=group)
                rows += seconds_by_bytes(send, group, {"link": link, "size": size})
            distributed.barrier()
    for size, group in groups.items() if [0.0, NO_LIMIT] in links else ():
        if distributed.get_rank() < size:
            sums, _ = shared_sums(distributed.get_rank(), partial(gathered, group=group))
            rows += seconds_by_bytes(sums.add, group, {"link": MEMORY_LINK, "size": size})
            sums.close()
        distributed.barrier()
    print(json.dumps(rows))


def gathered(value, group):
    values = [None] * group.size()
    distributed.all_gather_object(values, value, group)
    return values


def seconds_by_bytes(add, group, row):
    """A row of results for each size of a tensor that is summed."""
    tensors = [torch.zeros(n_bytes // BYTES) for n_bytes in N_BYTES]
    return [
        row | {"n_bytes": BYTES * len(values), "seconds": median_seconds(add, values, group)}
        for values in tensors
    ]


def median_seconds(add, values, group):
    seconds = []
    for _ in range(N_REDUCTIONS + 1):
        distributed.barrier(group)
        start = time.perf_counter()
        add(values)
        seconds.append(time.perf_counter() - start)
    # The last of the processes to be done holds up the next step.
    slowest = torch.tensor(seconds[1:], dtype=torch.float64)
    distributed.all_reduce(slowest, distributed.ReduceOp.MAX, group)
    return float(slowest.median())


TASKS = {"train": train, "train_others": train_others, "reduce": reduce}


def in_group(name, **arguments):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    try:
        TASKS[name](**arguments)
    finally:
        distributed.destroy_process_group()


# In the process that asks for measurements.


def run(task, size, is_linked=False, **arguments):
    command = [sys.executable, __file__, "--task", task, "--arguments", json.dumps(arguments)]
    return from_group(size, command, is_linked)


def kinds_of_links(links):
    """The loopback device, and emulated links, if there can be any here."""
    reason = reason_without_links()
    if reason is not None:
        print(f"Left out emulated links: {reason}", flush=True)
    emulated = [[link.latency, link.bandwidth] for link in links if reason is None]
    return [(False, [[0.0, NO_LIMIT]]), *([(True, emulated)] if emulated else [])]


def fit_of(network, n_rows, batch, link=(0.0, NO_LIMIT), sync_every=1):
    """What the processes are told of a fit."""
    columns, hidden = network
    fit = {"columns": columns, "hidden": hidden, "n_rows": n_rows, "batch_of_worker": batch}
    return fit | {"link": link, "sync_every": sync_every}


def job_of(fit, found):
    counts = found["n_columns"], found["n_parameters"]
    return Job(fit["n_rows"], *counts, fit["batch_of_worker"], fit["sync_every"])


def measure_compute(args):
    """Processor seconds of one process."""
    rows = []
    fits = [
        fit_of(network, ROWS_OF_FIT, batch)
        for network in NETWORKS[: 2 if args.quick else None]
        for batch in BATCHES[:: 2 if args.quick else 1]
    ]
    for fit, found in zip(fits, run("train", 1, fits=fits), strict=True):
        row = asdict(job_of(fit, found)) | {"network": f"{fit['hidden']}, {fit['columns']} columns"}
        row |= {"epoch": float(np.median(found["processor"]))}
        rows.append(row | {"around": found["processor around"]})
        report(rows[-1])
    sizes = [n // (10 if args.quick else 1) for n in ROWS_OF_OTHERS]
    found = [run("train_others", 2, n_rows=n) for n in sizes]
    few, many = (each["processor around"] + sum(each["processor"]) for each in found)
    others = (many - few) / (sizes[1] - sizes[0])
    save_part("workers_compute", {"rows": rows, "others": others})


def measure_reduce(args):
    """Seconds of reductions."""
    rows = []
    sizes = SIZES[: 1 if args.quick else None]
    for is_linked, links in kinds_of_links(LINKS[:: 3 if args.quick else 1]):
        rows += run("reduce", max(sizes), is_linked, links=links, sizes=sizes)
    for row in rows:
        report(row)
    save_part("workers_reduce", {"rows": rows, "machine": machine_line()})


def link_of(row):
    if row["link"] == MEMORY_LINK:
        return MEMORY
    latency, bandwidth = row["link"]
    return LOOPBACK if bandwidth == NO_LIMIT else Link(latency, bandwidth, is_emulated=True)


def costs_of(compute, reduced):
    """Costs that were measured, and the job of each fit."""
    names = Job.__dataclass_fields__
    jobs = [Job(**{name: row[name] for name in names}) for row in compute["rows"]]
    computed = [(job, row["epoch"]) for job, row in zip(jobs, compute["rows"], strict=True)]
    rows = reduced["rows"]
    times = [(row["n_bytes"], row["size"], link_of(row), row["seconds"]) for row in rows]
    return fitted_costs(computed, times), jobs


def link_columns(size, link):
    name = {MEMORY: "memory", LOOPBACK: "loopback"}.get(link)
    name = name or f"{1000 * link.latency:g} ms, {link.bandwidth / 1e6:g} Mbit/s"
    return {"processes": size, "link": name}


def measure_check(args):
    """Fits of another network, with other batches, over other links; predicted and measured."""
    costs, _ = costs_of(load_part("workers_compute"), load_part("workers_reduce"))
    rows = []
    for size in SIZES[: 1 if args.quick else None]:
        n_rows = int(UNSEEN_STEPS * UNSEEN_BATCH * size / TRAINED)
        for is_linked, links in kinds_of_links(UNSEEN_LINKS[: 1 if args.quick else None]):
            fits = [
                fit_of(UNSEEN_NETWORK, n_rows, UNSEEN_BATCH, link, sync_every)
                for link in links
                for sync_every in SYNC_EVERY
            ]
            for fit, found in zip(fits, run("train", size, is_linked, fits=fits), strict=True):
                rows.append(compared(fit, found, size, costs))
                report(rows[-1])
    save_part("workers_check", rows)


def compared(fit, found, size, costs):
    job, link = job_of(fit, found), link_of(fit)
    link = MEMORY if link == LOOPBACK else link  # of one machine
    seconds = float(np.median(found["clock"][1:]))
    predicted = epoch_seconds(job, size, link, costs, len(os.sched_getaffinity(0)))
    row = link_columns(size, link) | {"k": job.sync_every, "predicted, s": predicted}
    row |= {"measured, s": seconds, "predicted over measured": f"{predicted / seconds:.2f}"}
    return row | {"of it on others, s": network_seconds(job, size, link, costs)}


def measure_batches(args):
    """Errors of one process by batch, after as many rows, and after as many steps."""
    columns, hidden = MEDIUM
    n_rows = 2000 if args.quick else ROWS_SEEN
    rows = []
    for seed in range(1 if args.quick else 2):
        X = curved_table(n_rows + N_TEST, columns, N_FACTORS)
        for batch in SEEN_BATCHES[:: 3 if args.quick else 1]:
            model = AutoencoderTransformer(
                N_LATENTS // 2,
                hidden_layer_sizes=hidden,
                batch_size=batch,
                max_epochs=EPOCHS_SEEN,
                random_state=seed,
            )
            error = 1 - model.fit(X[:n_rows]).score(X[n_rows:])
            rows.append({"rows": batch, "seed": seed, "error": error})
            report(rows[-1])
    save_part("workers_batches", rows)


# Results.


COST_NAMES = {
    "step": ("a step, µs", 1e6),
    "parameter_in_step": ("a parameter in a step, ns", 1e9),
    "row": ("a row, µs", 1e6),
    "column_of_row": ("a column of a row, ns", 1e9),
    "parameter_of_row": ("a parameter for a row, ns", 1e9),
    "call": ("a reduction, µs", 1e6),
    "message": ("a message of it, µs", 1e6),
    "byte": ("a byte sent, ns", 1e9),
    "emulated_byte": ("a byte on an emulated link, besides, ns", 1e9),
    "wait": ("a wait in shared memory, µs", 1e6),
    "shared_byte": ("a byte summed in it, ns", 1e9),
}


def format_costs(costs, others):
    found = {name: getattr(costs, key) * unit for key, (name, unit) in COST_NAMES.items()}
    found["a row of others in a fit of one epoch, ns"] = others * 1e9
    rows = [{"cost of": name, "found": f"{value:.3g}"} for name, value in found.items()]
    return ["## What is fitted", markdown_table(rows)]


def format_compute(rows, jobs, costs):
    table = [
        {
            "network": row["network"],
            "trained in": f"{row['n_columns']} columns",
            "parameters": row["n_parameters"],
            "rows in a step": row["batch_of_worker"],
            "an epoch, s": row["epoch"],
            "formula, s": computing_seconds(job, 1, costs),
            "before and after, s": row["around"],
        }
        for row, job in zip(rows, jobs, strict=True)
    ]
    return ["Processor seconds of one process:", markdown_table(table)]


def format_reduce(rows, costs):
    table = {}
    for row in rows:
        columns = link_columns(row["size"], link_of(row))
        by_formula = reduction_seconds(row["n_bytes"], row["size"], link_of(row), costs)
        cells = table.setdefault(tuple(columns.values()), columns)
        name = f"{row['n_bytes'] / 1000:g} kB, ms"
        cells[name] = f"{1000 * row['seconds']:.2f} ({1000 * by_formula:.2f})"
    text = "Milliseconds of a reduction, and in brackets those of the formula:"
    return [text, markdown_table([*table.values()])]


def format_check(rows):
    columns, hidden = UNSEEN_NETWORK
    return [
        f"## Checked on what it has not seen: {hidden}, {columns} columns, {UNSEEN_BATCH} rows of "
        f"a process in each of {UNSEEN_STEPS} steps",
        markdown_table(rows),
    ]


def format_batches(rows):
    table = []
    smallest = {row["seed"]: row["error"] for row in rows if row["rows"] == rows[0]["rows"]}
    for batch in dict.fromkeys(row["rows"] for row in rows):
        errors = {row["seed"]: row["error"] for row in rows if row["rows"] == batch}
        ratios = [error / smallest[seed] for seed, error in errors.items()]
        row = {"rows in each step": batch}
        row |= {"steps": EPOCHS_SEEN * ceil(TRAINED * ROWS_SEEN / batch)}
        row |= {"error": float(np.mean([*errors.values()]))}
        table.append(row | {f"over that of {rows[0]['rows']}": f"{np.mean(ratios):.2f}"})
    return ["## What large batches cost", markdown_table(table)]


def format_predictions(computed, costs):
    rows = []
    for name, row in {row["network"]: row for row in computed}.items():
        if name not in MANY_NETWORKS:
            continue
        job = Job(MANY_ROWS, row["n_columns"], row["n_parameters"], batch_of_worker=0)
        for n_workers in (1, *WORKERS):
            for link_name, link in links_of(n_workers).items():
                row = {"network": name, "workers": n_workers, "machines": link_name}
                for setting, (batch, k) in SETTINGS.items():
                    settled = replace(job, batch_of_worker=batch, sync_every=k)
                    hours = epoch_seconds(settled, n_workers, link, costs) / 3600
                    share = efficiency(settled, n_workers, link, costs)
                    row[f"{setting}: h (efficiency)"] = f"{hours:.3g} ({share:.2f})"
                row["rows for 0.8"] = rows_for(0.8, job, n_workers, link, costs)
                split = replace(job, batch_of_worker=ROWS_IN_ALL / n_workers)
                others = reduction_seconds(BYTES * job.n_parameters, n_workers, link, costs)
                row[f"step of {ROWS_IN_ALL}, ms"] = 1000 * (step_seconds(split, costs) + others)
                rows.append(row)
    return ["## What it says of 10⁹ rows", markdown_table(rows)]


def links_of(n_workers):
    """Machines that workers may be on, by name."""
    if n_workers == 1:
        return {"": MEMORY}
    # Machines of more cores are rare.
    links = {"one": MEMORY} if n_workers < WORKERS[-1] else {}
    for per_machine in (CORES, 1):
        for gbits in GBITS if n_workers > per_machine else ():
            link = Link(LATENCY, gbits * 1e9, per_machine=per_machine)
            links[f"{n_workers // per_machine}, {gbits} Gbit/s"] = link
    return links


def rows_for(share, job, n_workers, link, costs):
    """Rows of a worker in a step for which it computes so much of the time, two digits."""
    others = reduction_seconds(BYTES * job.n_parameters, n_workers, link, costs)
    of_step = step_seconds(replace(job, batch_of_worker=0), costs)
    needed = (share / (1 - share) * others - of_step) / row_seconds(job, costs)
    return int(float(f"{max(needed, 1):.2g}"))


def yardstick(costs):
    """Epochs of the table that XGBoost was timed on, by as many cores."""
    link = Link(LATENCY, YARDSTICK["bits"], per_machine=YARDSTICK["cores_of_machine"])
    rows = []
    for hidden in ((64, 32), (128, 64), (512, 256)):
        size = n_parameters(YARDSTICK["columns"], hidden, 8)
        for batch, k in ((512, 1), (512, 16), (8192, 1)):
            job = Job(YARDSTICK["rows"], YARDSTICK["columns"], size, batch, k)
            seconds = epoch_seconds(job, YARDSTICK["cores"], link, costs)
            row = {"network": str(hidden), "rows of a worker": batch, "k": k}
            row |= {"steps of an epoch": n_steps(job, YARDSTICK["cores"]), "epoch, s": seconds}
            row[f"epochs in {YARDSTICK['seconds']} s"] = YARDSTICK["seconds"] / seconds
            rows.append(row)
    return rows


NOTES = f"""\
Autoencoders with {N_LATENTS} latents, and with these hidden layers and columns; one thread a
process. {TRAINED:.0%} of the rows are for steps, the others for validation. Wide tables are trained
in principal coordinates, fewer than their columns.

- *What is fitted*: to processor seconds of an epoch of one process on {ROWS_OF_FIT} rows, and to
  the clock of sums in shared memory and of gloo's `all_reduce`, the median of {N_REDUCTIONS} calls,
  until the last process is done; three processes share two cores. Least squares of relative errors,
  no cost below zero. *A row of others*: what a row on another process costs one that trains on next
  to none. It is measured, and not part of the formula.
- *Emulated links*: a network namespace for each process, and a program that hands packets over.
  Two or three processes and this program share the cores.
- *Checked*: seconds of an epoch by the clock, the median of {N_EPOCHS - 1}. *k* is `sync_every`. If
  there are more processes than cores, the formula lets them compute in turn. *Of it on others*:
  what the formula gives to reductions.
- *What large batches cost*: one process, {ROWS_SEEN} rows, {EPOCHS_SEEN} epochs whatever the
  batch, errors are 1 - `score` on {N_TEST} other rows, means over two seeds.
- *What it says*: one thread a worker, {LATENCY * 1e6:.0f} µs from one machine to another, each with
  memory that is fast enough for its workers. *Rows* are those of each worker in a step. *h*: hours
  of an epoch. *Efficiency*: hours of one worker with as many rows in a step, over those of all,
  added up. *Rows for 0.8*: of a worker in each step, for this efficiency with `sync_every=1`. *Step
  of {ROWS_IN_ALL}*: milliseconds of a step with so many rows in all.
- *XGBoost on Dask*: reported in issue 10853 of dmlc/xgboost, for about 50 million rows and 19
  columns: 50 rounds in about {YARDSTICK["seconds"]} s on {YARDSTICK["cores"]} cores, without the
  network; {YARDSTICK["bits"] / 1e9:.0f} Gbit/s is assumed. Trees predict one column from the
  others, so seconds compare sizes, not models."""

SECTIONS = {
    "compute": measure_compute,
    "reduce": measure_reduce,
    "check": measure_check,
    "batches": measure_batches,
}


def write_results():
    compute, reduced = load_part("workers_compute"), load_part("workers_reduce")
    if compute is None or reduced is None:
        return
    costs, jobs = costs_of(compute, reduced)
    blocks = [reduced["machine"], *format_costs(costs, compute["others"])]
    blocks += format_compute(compute["rows"], jobs, costs) + format_reduce(reduced["rows"], costs)
    for name, format_part in (("check", format_check), ("batches", format_batches)):
        if part := load_part(f"workers_{name}"):
            blocks += format_part(part)
    blocks += [
        *format_predictions(compute["rows"], costs),
        "## XGBoost on Dask",
        markdown_table(yardstick(costs)),
    ]
    write_markdown("workers", "# Several workers, on paper", *blocks, NOTES)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS])
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.task:
        in_group(args.task, **args.arguments)
        return
    torch.set_num_threads(1)
    for name in args.only:
        SECTIONS[name](args)
    write_results()


if __name__ == "__main__":
    main()
