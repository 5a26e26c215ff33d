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


@pytest.mark.parametrize("with_levels", [True, False])
def test_trees_agree_with_the_classifier(with_levels):
    X, is_level, y = mixed_rows()
    is_level &= with_levels
    weight = RNG.random(len(X))
    trees = BoostedTrees().fit(X, y, weight, is_level, seed=0)
    classifier = HistGradientBoostingClassifier(
        max_iter=MAX_TREES, early_stopping=True, categorical_features=is_level, random_state=0
    ).fit(X, y, weight)
    new, _, _ = mixed_rows(500)
    new[:20, 1] = 99.0  # a level that was not in fit
    np.testing.assert_array_equal(trees.log_odds(new), classifier.decision_function(new))


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
