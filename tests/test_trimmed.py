"""Trimmed training: which rows are held out, and which are learned from."""

import numpy as np
import pytest

from skae import AutoencoderOutlierDetector
from skae._engine._batches import SourceRows
from skae._fit._trimmed import (
    choose_subset,
    held_out_rows,
    size_of_subset,
    weights_of_members,
)


@pytest.mark.parametrize("n_rows", [4, 25, 400])
@pytest.mark.parametrize("n_members", [1, 4])
def test_held_out_rows(n_rows, n_members):
    held_out = held_out_rows(n_rows, n_members, 0.2, seed=0)
    assert held_out.shape == (n_members, max(1, n_rows // 5))
    assert held_out.min() >= 0
    assert held_out.max() < n_rows
    for rows in held_out:
        assert len(set(rows)) == len(rows)
    if held_out.size <= n_rows:  # each row at most once
        assert len(set(held_out.flat)) == held_out.size
    np.testing.assert_array_equal(held_out, held_out_rows(n_rows, n_members, 0.2, seed=0))


@pytest.mark.parametrize("n_rows", [2, 3])
def test_two_rows_are_left_to_train_on(n_rows):
    assert held_out_rows(n_rows, 4, 0.9, seed=0).shape[1] <= n_rows - 2


def test_size_of_the_subset():
    assert size_of_subset(0.7, 10) == 7
    assert size_of_subset(0.71, 10) == 8
    assert size_of_subset(1.0, 2) == 2
    with pytest.raises(ValueError, match=r"core_fraction=0\.1 leaves 1 of 10 rows"):
        size_of_subset(0.1, 10)


def test_members_do_not_learn_from_rows_they_hold_out():
    weights = np.array([1.0, 2.0, 3.0])
    held_out = np.array([[0], [2]])
    expected = [[0.0, 2.0, 3.0], [1.0, 2.0, 0.0]]
    np.testing.assert_array_equal(weights_of_members(weights, held_out), expected)


def test_outliers_are_left_out_of_the_subset():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(200, 6))
    X[:20] += 10 * rng.normal(size=(20, 6))
    model = AutoencoderOutlierDetector(random_state=0).fit(X)
    rows = SourceRows(X, model._scaler)
    weights = np.ones((model.n_estimators, 200))
    subset = choose_subset(model.net_, rows, weights, 0.7, from_baseline=False)
    assert subset.shape == (model.n_estimators, 200)
    assert subset.sum(axis=1).tolist() == [140] * model.n_estimators
    assert not subset[:, :20].any()
