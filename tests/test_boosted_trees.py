"""Boosted trees as plain arrays."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from skae._stats._boosted_trees import MAX_TREES, BoostedTrees

RNG = np.random.default_rng(0)


def mixed_rows(n_rows=2000):
    """Numbers, levels with gaps between their codes, and missing cells in both."""
    X = np.column_stack(
        [
            RNG.normal(size=n_rows),
            RNG.choice([0.0, 3.0, 7.0, 200.0], size=n_rows),
            RNG.normal(size=n_rows),
            RNG.choice([1.0, 2.0], size=n_rows),
        ]
    )
    X[RNG.random(X.shape) < 0.05] = np.nan
    is_level = np.array([False, True, False, True])
    signal = np.nan_to_num(X[:, 0]) + 2 * np.isin(X[:, 1], [3.0, 200.0]) - X[:, 3]
    return X, is_level, (np.nan_to_num(signal) > 0.3).astype(int)


def rounded_rows(n_rows=2000):
    """So few values that scikit-learn finds the same bins, whichever rows it holds out."""
    X, is_level, y = mixed_rows(n_rows)
    return X.round(1).clip(-2.0, 200.0), is_level, y


@pytest.mark.parametrize("with_levels", [True, False])
def test_trees_agree_with_the_classifier(with_levels):
    X, is_level, y = rounded_rows()
    is_level &= with_levels
    weight = RNG.random(len(X))
    trees = BoostedTrees().fit(X, y, weight, is_level, seed=0)
    classifier = HistGradientBoostingClassifier(
        max_iter=MAX_TREES, early_stopping=True, categorical_features=is_level, random_state=0
    ).fit(X, y, weight)
    new, _, _ = rounded_rows(500)
    new[:20, 1] = 99.0  # a level that was not in fit
    np.testing.assert_array_equal(trees.log_odds(new), classifier.decision_function(new))


def test_bins_of_equal_weight():
    X = RNG.normal(size=(3000, 2))
    y = RNG.random(3000) < 1 / (1 + np.exp(-2 * X[:, 0] * np.abs(X[:, 1])))
    weight = RNG.choice([0.0, 1.0, 2.0], size=3000)
    no_levels = np.zeros(2, dtype=bool)
    trees = BoostedTrees().fit(X[:2000], y[:2000], weight[:2000], no_levels, seed=0)
    classifier = HistGradientBoostingClassifier(early_stopping=True, random_state=0)
    classifier.fit(X[:2000], y[:2000], weight[:2000])

    def loss(log_odds):
        return np.log1p(np.exp(np.where(y[2000:], -log_odds, log_odds))).mean()

    assert loss(trees.log_odds(X[2000:])) < 1.05 * loss(classifier.decision_function(X[2000:]))
    # In the units of the rows, between two of them.
    splits = trees.nodes_[trees.nodes_["is_leaf"] == 0]
    for column in range(2):
        ends = splits["num_threshold"][splits["feature_idx"] == column]
        used = X[:2000, column][weight[:2000] > 0]
        assert used.min() < ends.min() < ends.max() < used.max()
        assert not np.isin(ends, used).any()


def test_valid_trees_pass_the_check():
    X, is_level, y = mixed_rows()
    trees = BoostedTrees().fit(X, y, None, is_level, seed=0)
    before = trees.log_odds(X)
    trees.check()
    np.testing.assert_array_equal(trees.log_odds(X), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("left", 0), ("right", 10**6), ("feature_idx", -1), ("feature_idx", 4), ("bitset_idx", 999)],
)
def test_trees_with_invalid_links_are_refused(name, value):
    X, is_level, y = mixed_rows()
    trees = BoostedTrees().fit(X, y, None, is_level, seed=0)
    inner = np.flatnonzero((trees.nodes_["is_leaf"] == 0) & (trees.nodes_["is_categorical"] == 1))
    trees.nodes_[name][inner[0]] = value
    with pytest.raises(ValueError, match="do not exist"):
        trees.check()
