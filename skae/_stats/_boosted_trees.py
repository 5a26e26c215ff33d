"""Gradient-boosted trees that scikit-learn grows, stored as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._sklearn import tree_node_dtype, tree_values

# Largest number of trees; early stopping on held-out rows takes fewer.
MAX_TREES = 200
# Bits in a set of levels; scikit-learn fixes this number.
MAX_LEVELS = 256
# Bins of a column of numbers; scikit-learn has one more for missing cells.
MAX_BINS = 255


class BoostedTrees:
    """A binary classifier: the log-odds of class 1 are a sum over trees.

    ``HistGradientBoostingClassifier`` grows the trees. Only what prediction needs is kept of
    it: no generator of random numbers, no bins of the training rows.

    Attributes
    ----------
    order_ : ndarray of shape (n_features,)
        Columns in the order of the trees: those of levels come first.
    levels_ : list of ndarray
        Sorted levels of each column of levels; others count as missing.
    baseline_ : float
        Log-odds before the first tree.
    nodes_ : structured ndarray of shape (n_nodes,)
        Nodes of all trees, one tree after the other.
    level_sets_ : ndarray of uint32 of shape (n_splits, 8)
        At splits of columns of levels: the levels that go left, one bit each.
    n_nodes_, n_sets_ : ndarray of shape (n_trees,)
        Number of nodes and of level sets of each tree.
    """

    def fit(
        self,
        X: NDArray[Any],
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        is_level: NDArray[np.bool_],
        seed: int,
    ) -> BoostedTrees:
        """Fit rows with missing cells to classes 0 and 1; `is_level` is a mask of columns."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.order_ = np.r_[np.flatnonzero(is_level), np.flatnonzero(~is_level)]
        columns = [X[:, j] for j in np.flatnonzero(is_level)]
        self.levels_ = [np.unique(column[~np.isnan(column)]) for column in columns]
        coded = self._coded(X)
        thresholds = [_thresholds(column, sample_weight) for column in coded.T[len(self.levels_) :]]
        classifier = HistGradientBoostingClassifier(
            max_iter=MAX_TREES,
            early_stopping=True,
            categorical_features=np.arange(len(is_level)) < len(self.levels_),
            random_state=seed,
        ).fit(self._binned(coded, thresholds), y, sample_weight=sample_weight)
        trees = [tree for (tree,) in classifier._predictors]
        self.baseline_ = float(classifier._baseline_prediction[0, 0])
        self.nodes_: Any = np.concatenate([tree.nodes for tree in trees])
        self.level_sets_ = np.concatenate([tree.raw_left_cat_bitsets for tree in trees])
        self._unbin(thresholds)
        self.n_nodes_ = np.array([len(tree.nodes) for tree in trees])
        self.n_sets_ = np.array([len(tree.raw_left_cat_bitsets) for tree in trees])
        return self

    def _binned(self, coded: NDArray[Any], thresholds: list[NDArray[Any]]) -> NDArray[Any]:
        """Numbers as the numbers of their bins; levels and missing cells stay."""
        binned = coded.copy()
        for j, edges in enumerate(thresholds, start=len(self.levels_)):
            is_known = ~np.isnan(coded[:, j])
            binned[is_known, j] = np.searchsorted(edges, coded[is_known, j])
        return binned

    def _unbin(self, thresholds: list[NDArray[Any]]) -> None:
        """Replace bins at the splits of numbers by the upper ends of the last one that goes left.

        Splits at infinity tell missing cells from others.
        """
        nodes = self.nodes_
        is_number = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)
        for i in np.flatnonzero(is_number & np.isfinite(nodes["num_threshold"])):
            edges = thresholds[nodes["feature_idx"][i] - len(self.levels_)]
            nodes["num_threshold"][i] = edges[int(nodes["num_threshold"][i])]

    def log_odds(self, X: NDArray[Any]) -> NDArray[Any]:
        """Log-odds of class 1 against class 0, per row."""
        coded = self._coded(X)
        n_levels = np.array([len(levels) for levels in self.levels_], dtype=int)
        bits = np.arange(MAX_LEVELS) < n_levels[:, None]
        known = np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32)
        row_of_column = np.zeros(len(self.order_), dtype=np.uint32)
        row_of_column[: len(n_levels)] = np.arange(len(n_levels))
        sums = np.full(len(X), self.baseline_)
        for nodes, sets in zip(
            np.split(self.nodes_, np.cumsum(self.n_nodes_)[:-1]),
            np.split(self.level_sets_, np.cumsum(self.n_sets_)[:-1]),
            strict=True,
        ):
            sums += tree_values(nodes, sets, coded, known, row_of_column)
        return sums

    def _coded(self, X: NDArray[Any]) -> NDArray[Any]:
        """Columns in the order of the trees, levels as ranks."""
        coded = np.ascontiguousarray(X[:, self.order_], dtype=np.float64)
        for j, levels in enumerate(self.levels_):
            column = coded[:, j]
            rank = np.searchsorted(levels, column).clip(max=len(levels) - 1)
            coded[:, j] = np.where(levels[rank] == column, rank, np.nan)
        return coded

    def check(self) -> None:
        """Raise ValueError unless all indices in the nodes are within bounds.

        scikit-learn's compiled code follows them without a check.
        """
        if not (self._counts_are_valid() and self._indices_are_valid()):
            raise ValueError("trees refer to nodes, columns or levels that do not exist")

    def _counts_are_valid(self) -> bool:
        """Whether each node and each level set belongs to exactly one tree."""
        counted = ((self.n_nodes_, self.nodes_, 1), (self.n_sets_, self.level_sets_, 0))
        is_plain = all(counts.ndim == 1 and counts.dtype.kind == "i" for counts, _, _ in counted)
        return (
            is_plain
            and 0 < len(self.n_nodes_) == len(self.n_sets_)
            and all(counts.min() >= least for counts, _, least in counted)
            # Of Python integers, as the sum of an array may overflow.
            and all(sum(map(int, counts)) == len(items) for counts, items, _ in counted)
            and self.level_sets_.dtype == np.uint32
            and self.level_sets_.shape[1:] == (8,)
        )

    def _indices_are_valid(self) -> bool:
        given = self.nodes_
        self.nodes_ = np.empty(len(given), dtype=tree_node_dtype())
        for name in self.nodes_.dtype.names:
            self.nodes_[name] = given[name]
        n_columns = len(self.order_)
        is_split = self.nodes_["is_leaf"] == 0
        is_level = is_split & (self.nodes_["is_categorical"] != 0)
        indices = np.concatenate([np.arange(count) for count in self.n_nodes_])
        ends = np.repeat(self.n_nodes_, self.n_nodes_)
        n_sets = np.repeat(self.n_sets_, self.n_nodes_)
        columns = self.nodes_["feature_idx"]
        return (
            self.order_.dtype.kind == "i"
            and sorted(self.order_.tolist()) == list(range(n_columns))
            and type(self.baseline_) is float
            and all(np.array_equal(np.unique(levels), levels) for levels in self.levels_)
            and all(0 < len(levels) <= MAX_LEVELS for levels in self.levels_)
            # Children come after their parents, so no path is endless.
            and all(
                ((indices < self.nodes_[side]) & (self.nodes_[side] < ends))[is_split].all()
                for side in ("left", "right")
            )
            and ((columns >= 0) & (columns < n_columns))[is_split].all()
            and (columns < len(self.levels_))[is_level].all()
            and (self.nodes_["bitset_idx"] < n_sets)[is_level].all()
        )


def _thresholds(column: NDArray[Any], sample_weight: NDArray[Any] | None) -> NDArray[Any]:
    """Increasing ends of bins of equal weight, in the middle between distinct values.

    scikit-learn's sort a column anew for each bin if rows have weights.
    """
    is_used = ~np.isnan(column)
    if sample_weight is not None:
        is_used &= sample_weight > 0
    values, inverse = np.unique(column[is_used], return_inverse=True)
    ends = np.arange(len(values) - 1)
    if len(values) > MAX_BINS:
        weight = None if sample_weight is None else sample_weight[is_used]
        sums = np.cumsum(np.bincount(inverse, weight))
        shares = np.arange(1, MAX_BINS) / MAX_BINS
        ends = np.unique(np.searchsorted(sums, shares * sums[-1]).clip(max=len(values) - 2))
    return (values[ends] + values[ends + 1]) / 2
