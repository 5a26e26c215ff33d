"""Gradient-boosted trees that scikit-learn grew, as plain arrays."""

import numpy as np

from skae._sklearn import tree_node_dtype, tree_values

# Held-out rows say how many trees serve; this many at most.
MAX_TREES = 200
# Bits in a set of levels.
MAX_LEVELS = 256


class BoostedTrees:
    """The logarithm of the odds of one class against another, a sum over trees.

    scikit-learn's classifier grows the trees. Of it, only what tells is kept: no
    generator, no bins of the training rows.

    Attributes
    ----------
    order_ : ndarray of shape (n_features,)
        Columns as the trees count them: those of levels come first.
    levels_ : list of ndarray
        Sorted levels of each of those columns; another one counts as missing.
    baseline_ : float
        Where the sum begins.
    nodes_ : structured ndarray of shape (n_nodes,)
        Nodes of all trees, one tree after the other.
    level_sets_ : ndarray of uint32 of shape (n_splits, 8)
        Which levels go left, a bit each, at splits of columns of levels.
    n_nodes_, n_sets_ : ndarray of shape (n_trees,)
        How many of them are each tree's.
    """

    def fit(self, X, y, sample_weight, is_level, seed):
        """Learn to tell `y` 1 from 0 by rows with missing cells; `is_level` marks columns."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.order_ = np.r_[np.flatnonzero(is_level), np.flatnonzero(~is_level)]
        columns = [X[:, j] for j in np.flatnonzero(is_level)]
        self.levels_ = [np.unique(column[~np.isnan(column)]) for column in columns]
        classifier = HistGradientBoostingClassifier(
            max_iter=MAX_TREES,
            early_stopping=True,
            categorical_features=np.arange(len(is_level)) < len(self.levels_),
            random_state=seed,
        ).fit(self._coded(X), y, sample_weight=sample_weight)
        trees = [tree for (tree,) in classifier._predictors]
        self.baseline_ = float(classifier._baseline_prediction[0, 0])
        self.nodes_ = np.concatenate([tree.nodes for tree in trees])
        self.level_sets_ = np.concatenate([tree.raw_left_cat_bitsets for tree in trees])
        self.n_nodes_ = np.array([len(tree.nodes) for tree in trees])
        self.n_sets_ = np.array([len(tree.raw_left_cat_bitsets) for tree in trees])
        return self

    def log_odds(self, X):
        """Of class 1 against class 0, per row."""
        coded = self._coded(X)
        n_levels = np.array([len(levels) for levels in self.levels_], dtype=int)
        bits = np.arange(MAX_LEVELS) < n_levels[:, None]
        known = np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32)
        places = np.zeros(len(self.order_), dtype=np.uint32)
        places[: len(n_levels)] = np.arange(len(n_levels))
        sums = np.full(len(X), self.baseline_)
        for nodes, sets in zip(
            np.split(self.nodes_, np.cumsum(self.n_nodes_)[:-1]),
            np.split(self.level_sets_, np.cumsum(self.n_sets_)[:-1]),
            strict=True,
        ):
            sums += tree_values(nodes, sets, coded, known, places)
        return sums

    def _coded(self, X):
        """Columns in the order of the trees, levels by their rank."""
        coded = np.ascontiguousarray(X[:, self.order_], dtype=np.float64)
        for j, levels in enumerate(self.levels_):
            column = coded[:, j]
            rank = np.searchsorted(levels, column).clip(max=len(levels) - 1)
            coded[:, j] = np.where(levels[rank] == column, rank, np.nan)
        return coded

    def check(self):
        """Raise ValueError unless all places that nodes point to are there.

        Compiled code follows them without looking.
        """
        if not (self._counts_are_sound() and self._places_are_sound()):
            raise ValueError("trees point to nodes, columns or levels that are not there")

    def _counts_are_sound(self):
        """Whether nodes and sets are shared out whole; sums of arrays might overflow."""
        shared_out = ((self.n_nodes_, self.nodes_, 1), (self.n_sets_, self.level_sets_, 0))
        is_plain = all(counts.ndim == 1 and counts.dtype.kind == "i" for counts, _, _ in shared_out)
        return (
            is_plain
            and 0 < len(self.n_nodes_) == len(self.n_sets_)
            and all(counts.min() >= least for counts, _, least in shared_out)
            and all(sum(map(int, counts)) == len(all_) for counts, all_, _ in shared_out)
            and self.level_sets_.dtype == np.uint32
            and self.level_sets_.shape[1:] == (8,)
        )

    def _places_are_sound(self):
        told = self.nodes_
        self.nodes_ = np.empty(len(told), dtype=tree_node_dtype())
        for name in self.nodes_.dtype.names:
            self.nodes_[name] = told[name]
        n_columns = len(self.order_)
        is_split = self.nodes_["is_leaf"] == 0
        is_level = is_split & (self.nodes_["is_categorical"] != 0)
        places = np.concatenate([np.arange(count) for count in self.n_nodes_])
        ends = np.repeat(self.n_nodes_, self.n_nodes_)
        n_sets = np.repeat(self.n_sets_, self.n_nodes_)
        columns = self.nodes_["feature_idx"]
        return (
            self.order_.dtype.kind == "i"
            and sorted(self.order_.tolist()) == list(range(n_columns))
            and type(self.baseline_) is float
            and all(np.array_equal(np.unique(levels), levels) for levels in self.levels_)
            and all(0 < len(levels) <= MAX_LEVELS for levels in self.levels_)
            # Children stand behind their parents: no way through a tree is endless.
            and all(
                ((places < self.nodes_[side]) & (self.nodes_[side] < ends))[is_split].all()
                for side in ("left", "right")
            )
            and ((columns >= 0) & (columns < n_columns))[is_split].all()
            and (columns < len(self.levels_))[is_level].all()
            and (self.nodes_["bitset_idx"] < n_sets)[is_level].all()
        )
