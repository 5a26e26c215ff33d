import numpy as np
import pytest

from skae._stats._fidelity import (
    column_distance,
    correlation_difference,
    fidelity,
    record_distances,
    two_sample_auroc,
    zero_share_difference,
)

RNG = np.random.default_rng(0)
NUMBERS, CODES = np.zeros(3, dtype=bool), np.ones(1, dtype=bool)


def rows(n=400, shift=0.0):
    X = RNG.normal(size=(n, 3)) + shift
    X[:, 2] += X[:, 0]
    return X


def test_similar_tables_cannot_be_separated():
    auroc = two_sample_auroc(rows(), rows(), NUMBERS, np.random.RandomState(0))
    assert auroc == pytest.approx(0.5, abs=0.08)


def test_other_tables_can():
    auroc = two_sample_auroc(rows(), rows(shift=2.0), NUMBERS, np.random.RandomState(0))
    assert auroc > 0.9
    assert np.isnan(two_sample_auroc(rows(3), rows(3), NUMBERS, np.random.RandomState(0)))


def test_distances_of_columns():
    a = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert column_distance(a, a, ~CODES) == 0
    assert column_distance(a, a + 2, ~CODES) == 0.5
    assert column_distance(a, a + 10, CODES) == 1
    levels = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert column_distance(levels, 1 - levels, CODES) == 0.5
    gaps = np.array([[np.nan], [np.nan], [2.0], [3.0]])
    assert column_distance(a, gaps, ~CODES) == 0.5


def test_differences_of_correlations_and_zeros():
    a = rows(5000)
    b = np.column_stack([RNG.permutation(x) for x in a.T])
    # One of three pairs goes along, with a correlation of about 0.7.
    assert correlation_difference(a, b) == pytest.approx(0.7 / 3, abs=0.03)
    assert correlation_difference(a, a) == 0
    assert np.isnan(correlation_difference(a[:, :1], a[:, :1]))
    holes = np.where(RNG.random(a.shape) < 0.3, np.nan, a)
    assert correlation_difference(a, holes) < 0.05
    zeros = np.where(RNG.random(a.shape) < 0.5, 0.0, a)
    assert zero_share_difference(zeros, a) == pytest.approx(0.5, abs=0.03)


def test_copies_are_close_records():
    train, held_out = rows(), rows()
    ratio, copies = record_distances(train[:100], held_out, train, NUMBERS)
    assert ratio == 0
    assert copies == 1
    ratio, copies = record_distances(rows(), held_out, train, NUMBERS)
    assert ratio == pytest.approx(1, abs=0.2)
    assert copies == 0
    gaps = np.where(RNG.random(train.shape) < 0.2, np.nan, train)
    assert record_distances(gaps[:50], held_out, gaps, NUMBERS)[1] == 1


def test_without_training_rows_parts_of_the_report_are_nan():
    report = fidelity(rows(50), rows(50), None, NUMBERS, np.random.RandomState(0))
    missing = {name for name, value in report.items() if np.isnan(value)}
    assert missing == {"ks_real", "record_distance_ratio", "excess_copies"}
