"""Seconds of an epoch that several workers take together, as a formula.

A step costs its worker ``a + n b`` seconds for n rows, with a and b linear in the number of
parameters. Then the gradient is summed, or weights every k steps. V workers of one machine write it
into memory that they share, where they wait for each other ``2 log2(V)`` times. One worker of each
of M machines sums with those of others by the ring of gloo [1]_: it sends ``2 (M - 1)`` messages,
``2 (M - 1) / M`` of the tensor in all. A message waits for the notice that its receiver is ready,
so it takes two latencies [2]_. Nothing overlaps.

References
----------
.. [1] https://github.com/pytorch/gloo/blob/main/gloo/allreduce.cc
.. [2] https://github.com/pytorch/gloo/blob/main/gloo/transport/tcp/pair.cc
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf

import numpy as np
from scipy.optimize import nnls

from skae._engine._shared_sums import PIECE_BYTES

BYTES = 4  # of a parameter
TRAINED = 0.9  # of the rows; losses of the others are taken after each epoch
NUMBERS_OF_EPOCH = 3  # losses and their weights are summed, each by a reduction of its own
BYTES_OF_NUMBERS = 16
# Costs whose counts `reduction_terms` gives.
OF_REDUCTION = ("call", "message", "byte", "emulated_byte", "wait", "shared_byte")


@dataclass(frozen=True)
class Link:
    """What connects each machine to all others.

    Attributes
    ----------
    latency : float
        Seconds from one machine to another.
    bandwidth : float
        Bits per second of each machine, in both directions at once.
    is_emulated : bool
        By a program that hands packets over, which takes time of its own.
    per_machine : float
        Workers of a machine, which share its memory.
    """

    latency: float
    bandwidth: float
    is_emulated: bool = False
    per_machine: float = 1


LOOPBACK = Link(0.0, inf)  # for processes that share no memory, of containers for instance
MEMORY = Link(0.0, inf, per_machine=inf)


@dataclass(frozen=True)
class Costs:
    """Seconds on one core.

    Attributes
    ----------
    step, parameter_in_step : float
        Of a step, whatever its rows, and of each parameter in it.
    row, column_of_row, parameter_of_row : float
        Of a row, validation included, and of each column and parameter for it.
    call, message, byte : float
        Of a reduction, of each of its messages in turn, and of each byte that a worker sends,
        beside the time on the link.
    emulated_byte : float
        Of each byte on an emulated link, in addition.
    wait, shared_byte : float
        Of each wait for others in shared memory, and of each byte of the tensor in it.
    """

    step: float
    parameter_in_step: float
    row: float
    column_of_row: float
    parameter_of_row: float
    call: float
    message: float
    byte: float
    emulated_byte: float = 0.0
    wait: float = 0.0
    shared_byte: float = 0.0


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes
    ----------
    n_rows, n_columns : int
        Of the whole table.
    n_parameters : int
    batch_of_worker : int
        Rows of each worker in a step.
    sync_every : int
        Steps between averages of weights; with 1, gradients are summed in each.
    """

    n_rows: int
    n_columns: int
    n_parameters: int
    batch_of_worker: int
    sync_every: int = 1


def n_parameters(n_columns, hidden, n_latents):
    """Parameters of a dense autoencoder with a linear path beside it."""
    sizes = [n_columns, *hidden, n_latents, *hidden[::-1], n_columns]
    paths = [sizes, [n_columns, n_latents, n_columns]]
    return sum((before + 1) * after for path in paths for before, after in pairwise(path))


def n_steps(job, n_workers):
    """Steps of an epoch."""
    return ceil(TRAINED * job.n_rows / (job.batch_of_worker * n_workers))


def reduction_terms(n_bytes, n_workers, link):
    """Seconds on the link, and what is multiplied by each of the costs named above."""
    n_here = min(n_workers, link.per_machine)
    n_machines = ceil(n_workers / n_here)
    # In shared memory, tensors are summed piece by piece.
    n_pieces = ceil(n_bytes / PIECE_BYTES) if n_here > 1 else 1
    n_messages = 2 * (n_machines - 1) * n_pieces
    sent = 2 * (n_machines - 1) / n_machines * n_bytes
    on_link = n_messages * 2 * link.latency + 8 * sent / link.bandwidth
    n_waits = (2 + (n_machines > 1)) * ceil(np.log2(n_here)) * n_pieces
    between = [(n_machines > 1) * n_pieces, n_messages, sent, sent * link.is_emulated]
    return on_link, np.array([*between, n_waits, n_bytes * (n_here > 1)], dtype=float)


def reduction_seconds(n_bytes, n_workers, link, costs):
    """Seconds to sum a tensor over workers."""
    on_link, counts = reduction_terms(n_bytes, n_workers, link)
    return on_link + float(counts @ [getattr(costs, name) for name in OF_REDUCTION])


def broadcast_seconds(n_bytes, n_workers, link, costs):
    """Seconds to send a tensor from one worker to all by gloo, along a binomial tree."""
    depth = ceil(np.log2(n_workers))
    on_link = depth * (2 * link.latency + 8 * n_bytes / link.bandwidth)
    of_byte = costs.byte + costs.emulated_byte * link.is_emulated
    return on_link + (depth > 0) * costs.call + depth * (costs.message + n_bytes * of_byte)


def step_seconds(job, costs):
    """Seconds of a worker for a step, without those for others."""
    of_step = costs.step + costs.parameter_in_step * job.n_parameters
    return of_step + job.batch_of_worker * row_seconds(job, costs)


def row_seconds(job, costs):
    """Seconds of a worker for a row, validation included."""
    of_columns = costs.column_of_row * job.n_columns
    return costs.row + of_columns + costs.parameter_of_row * job.n_parameters


def computing_seconds(job, n_workers, costs):
    """Seconds of an epoch for each worker, without those for others."""
    n_rows_of_worker = TRAINED * job.n_rows / n_workers
    of_steps = n_steps(job, n_workers) * step_seconds(replace(job, batch_of_worker=0), costs)
    return of_steps + n_rows_of_worker * row_seconds(job, costs)


def network_seconds(job, n_workers, link, costs):
    """Seconds of an epoch that each worker spends on others."""
    n_bytes = BYTES * job.n_parameters
    n_reductions = ceil(n_steps(job, n_workers) / job.sync_every)
    numbers = NUMBERS_OF_EPOCH * reduction_seconds(BYTES_OF_NUMBERS, n_workers, link, costs)
    weights = broadcast_seconds(n_bytes, n_workers, link, costs)
    return n_reductions * reduction_seconds(n_bytes, n_workers, link, costs) + numbers + weights


def epoch_seconds(job, n_workers, link, costs, n_cores=inf):
    """Seconds of an epoch; workers that have to share cores compute in turn."""
    computing = computing_seconds(job, n_workers, costs) * max(1.0, n_workers / n_cores)
    return computing + network_seconds(job, n_workers, link, costs)


def efficiency(job, n_workers, link, costs):
    """Seconds of one worker with as many rows in a step, over those of all workers, added up."""
    alone = epoch_seconds(job, 1, link, costs)
    return alone / (n_workers * epoch_seconds(job, n_workers, link, costs))


def fitted_costs(computed, reduced):
    """Costs that fit measurements; relative errors count, and no cost is negative.

    Parameters
    ----------
    computed : list of (Job, seconds)
        Seconds of an epoch on one core by one worker.
    reduced : list of (n_bytes, n_workers, Link, seconds)
    """
    rows = []
    for job, _ in computed:
        steps, trained = n_steps(job, 1), TRAINED * job.n_rows
        of_row = np.array([1, job.n_columns, job.n_parameters])
        rows.append([steps, steps * job.n_parameters, *(trained * of_row)])
    of_computing = _least_relative_squares(rows, [seconds for _, seconds in computed])
    on_link, counts = zip(*(reduction_terms(*args) for *args, _ in reduced), strict=True)
    seconds = np.array([seconds for *_, seconds in reduced])
    rest = np.maximum(seconds - on_link, 0.0)
    return Costs(*of_computing, *_least_relative_squares(counts, rest, seconds))


def _least_relative_squares(rows, seconds, scale=None):
    rows, seconds = np.asarray(rows, dtype=float), np.asarray(seconds, dtype=float)
    scale = seconds if scale is None else scale
    columns = np.abs(rows).max(axis=0)  # costs differ by many orders of magnitude
    columns[columns == 0] = 1.0  # without emulated links, say
    found, _ = nnls(rows / columns / scale[:, None], seconds / scale)
    return [float(value) for value in found / columns]
