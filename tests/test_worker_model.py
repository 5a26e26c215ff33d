"""The formula for seconds of epochs by several workers, which benchmarks fit and check."""

import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _worker_model import (
    LOOPBACK,
    Costs,
    Job,
    Link,
    broadcast_seconds,
    computing_seconds,
    efficiency,
    epoch_seconds,
    fitted_costs,
    n_parameters,
    n_steps,
    network_seconds,
    reduction_seconds,
)

from skae import AutoencoderTransformer

COSTS = Costs(1e-4, 2e-9, 1e-6, 1e-9, 1e-10, 1e-4, 5e-5, 1e-9)
FREE = replace(COSTS, call=0.0, message=0.0, byte=0.0)
JOB = Job(n_rows=1_000_000, n_columns=200, n_parameters=76_848, batch_of_worker=512)
LINK = Link(1e-3, 1e9)


@pytest.mark.parametrize("n_workers", [2, 3, 64])
def test_slower_links_never_save_time(n_workers):
    seconds = epoch_seconds(JOB, n_workers, LINK, COSTS)
    for slower in (Link(2e-3, 1e9), Link(1e-3, 5e8), replace(LINK, is_emulated=True)):
        costs = replace(COSTS, emulated_byte=1e-9)
        assert epoch_seconds(JOB, n_workers, slower, costs) > seconds


def test_one_worker_has_no_network():
    assert network_seconds(JOB, 1, LINK, COSTS) == 0
    assert broadcast_seconds(1000, 1, LINK, COSTS) == 0
    assert epoch_seconds(JOB, 1, LINK, COSTS) == computing_seconds(JOB, 1, COSTS)
    assert efficiency(JOB, 1, LINK, COSTS) == 1


def test_averages_now_and_then_divide_the_sums():
    rare = replace(JOB, sync_every=10)
    of_epoch = network_seconds(replace(JOB, sync_every=10**9), 8, LINK, COSTS)
    one_sum = reduction_seconds(4 * JOB.n_parameters, 8, LINK, COSTS)
    n_sums = -(-n_steps(JOB, 8) // 10)
    expected = of_epoch + (n_sums - 1) * one_sum
    assert network_seconds(rare, 8, LINK, COSTS) == pytest.approx(expected)
    assert network_seconds(rare, 8, LINK, COSTS) < network_seconds(JOB, 8, LINK, COSTS)


def test_the_ring_sends_nearly_twice_the_tensor_whatever_the_workers():
    # With next to no latency, seconds are those of the bytes.
    seconds = [reduction_seconds(10**6, n, Link(0.0, 8e6), FREE) for n in (2, 4, 1000)]
    assert seconds == pytest.approx([1.0, 1.5, 1.998])


def test_each_message_takes_two_latencies():
    seconds = [reduction_seconds(10**6, n, Link(1.0, inf), FREE) for n in (2, 3, 64)]
    assert seconds == [4, 8, 252]
    assert [broadcast_seconds(10, n, Link(1.0, inf), FREE) for n in (2, 3, 64)] == [2, 4, 12]


def test_workers_that_share_cores_compute_in_turn():
    alone = computing_seconds(JOB, 4, FREE)
    assert epoch_seconds(JOB, 4, LOOPBACK, FREE, n_cores=2) == pytest.approx(2 * alone)
    assert epoch_seconds(JOB, 4, LOOPBACK, FREE, n_cores=8) == pytest.approx(alone)


def test_costs_are_found_again():
    computed = [
        (job, computing_seconds(job, 1, COSTS))
        for batch in (64, 512, 4096)
        for job in (
            Job(12_000, 50, 13_444, batch),
            Job(12_000, 200, 76_848, batch),
            Job(12_000, 80, 356_544, batch),
        )
    ]
    emulated = replace(COSTS, emulated_byte=3e-9)
    reduced = [
        (n_bytes, size, link, reduction_seconds(n_bytes, size, link, emulated))
        for n_bytes in (4000, 2_000_000)
        for size in (2, 3)
        for link in (LOOPBACK, replace(LINK, is_emulated=True))
    ]
    found = fitted_costs(computed, reduced)
    assert vars(found) == pytest.approx(vars(emulated), rel=1e-6)


def test_parameters_are_those_of_the_network():
    model = AutoencoderTransformer(3, hidden_layer_sizes=(7, 5), max_epochs=1, random_state=0)
    X = [[float((i * j) % 7) for j in range(1, 10)] for i in range(40)]
    module = model.fit(X).net_.module_
    assert sum(p.numel() for p in module.parameters()) == n_parameters(9, (7, 5), 3)
