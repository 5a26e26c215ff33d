"""Distributions of cells given the cells before them in a row, as the leaves of trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Fewest training rows in a leaf: draws from smaller ones would repeat rows.
LEAST_LEAF = 10
# A value of so many rows is drawn as it is; others are drawn between the values of two rows.
SHARED_BY = 10
# Columns of no more values than this are predicted as classes.
MAX_CLASSES = 20

Array = NDArray[Any]


@dataclass
class CellTree:
    """A tree whose leaves hold values of one column.

    Attributes
    ----------
    features : ndarray of shape (n_nodes,)
        What is compared in each node; negative in a leaf.
    thresholds : ndarray of shape (n_nodes,)
        Larger numbers go right.
    left, right : ndarray of shape (n_nodes,)
        Children; that of lower number is larger than its parent's.
    gaps_left : ndarray of bool of shape (n_nodes,)
        Whether missing numbers go left.
    starts : ndarray of shape (n_nodes + 1,)
        Where the values of each node begin in `values`; only leaves have some.
    values : ndarray of shape (n_rows,)
        Ascending in each leaf, missing cells last.
    is_shared : ndarray of bool of shape (n_rows,)
        Values that are drawn as they are.
    """

    features: Array
    thresholds: Array
    left: Array
    right: Array
    gaps_left: Array
    starts: Array
    values: Array
    is_shared: Array

    @classmethod
    def of(cls, read: Array, x: Array, targets: Array, is_class: bool, seed: int) -> CellTree:
        """The tree that predicts `targets` of cells `x` from what is `read` of their rows."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeClassifier if is_class else DecisionTreeRegressor
        tree = kind(min_samples_leaf=LEAST_LEAF, random_state=seed).fit(read, targets).tree_
        leaves = tree.apply(read.astype(np.float32))
        order = np.lexsort((x, leaves))
        values, inverse, counts = np.unique(x[order], return_inverse=True, return_counts=True)
        is_leaf = tree.children_left < 0
        return cls(
            np.where(is_leaf, -1, tree.feature).astype(np.int32),
            np.where(is_leaf, 0.0, tree.threshold),
            np.where(is_leaf, 0, tree.children_left).astype(np.int32),
            np.where(is_leaf, 0, tree.children_right).astype(np.int32),
            tree.missing_go_to_left.astype(bool),
            np.searchsorted(leaves[order], np.arange(tree.node_count + 1)).astype(np.int64),
            values[inverse].astype(np.float64),
            (counts[inverse] >= SHARED_BY) | np.isnan(x[order]),
        )

    def leaves(self, read: Array) -> Array:
        """The leaf that each row falls in."""
        read = read.astype(np.float32)  # as trees compare
        node = np.zeros(len(read), dtype=np.int32)
        inside = np.flatnonzero(self.features[node] >= 0)
        while len(inside):
            at = node[inside]
            number = read[inside, self.features[at]]
            goes_left = np.where(
                np.isnan(number), self.gaps_left[at], number <= self.thresholds[at]
            )
            node[inside] = np.where(goes_left, self.left[at], self.right[at])
            inside = inside[self.features[node[inside]] >= 0]
        return node

    def draw(self, read: Array, column: Any, rng: np.random.RandomState) -> Array:
        """Cells for rows: values of the leaves, or numbers between two of them.

        `column` ranks the numbers of the column; None for codes.
        """
        leaf = self.leaves(read)
        first, last = self.starts[leaf], self.starts[leaf + 1] - 1
        picked = first + (rng.uniform(size=len(leaf)) * (last + 1 - first)).astype(int)
        cells = self.values[picked]
        if column is None:
            return cells
        next_to = np.clip(picked + rng.choice((-1, 1), len(leaf)), first, last)
        between = ~(self.is_shared[picked] | self.is_shared[next_to])
        score, other = (column.intervals(self.values[at[between]])[0] for at in (picked, next_to))
        # Half of the way at most, so that on the whole draws are as dense as the values.
        share = rng.uniform(0.0, 0.5, size=len(score))
        cells[between] = column.values_of(score + share * (other - score))
        return cells

    def check(self, n_read: int) -> None:
        """Raise ValueError unless all numbers of nodes and rows are within bounds."""
        n_nodes, inner = len(self.features), self.features >= 0
        at = np.arange(n_nodes)
        n_values = np.diff(self.starts)
        is_valid = (
            n_nodes > 0
            and len(self.starts) == n_nodes + 1
            and (self.features < n_read).all()
            # Children come after their parents, so no path is endless.
            and all(
                ((at < side) & (side < n_nodes))[inner].all() for side in (self.left, self.right)
            )
            and self.starts[0] == 0
            and self.starts[-1] == len(self.values)
            and (n_values >= 0).all()
            and (n_values[~inner] > 0).all()
        )
        if not is_valid:
            raise ValueError("trees refer to nodes, columns or values that do not exist")


class CellTrees:
    """Draws the cells of rows one after the other, each given those before it [1]_.

    Trees also read what else is known of a row: its latents, and what a decoder makes of them
    for the cell. If these have the distribution of training rows' and the trees are exact,
    so have the rows drawn.

    Attributes
    ----------
    trees_ : list of CellTree
        For each column.
    is_code_ : ndarray of bool of shape (n_columns,)

    References
    ----------
    .. [1] Reiter, "Using CART to generate partially synthetic public use microdata",
       Journal of Official Statistics 21, 2005.
    """

    def fit(
        self,
        X: Array,
        given: Array,
        own: list[Array],
        scaler: Any,
        unflagged: list[int],
        seed: int,
    ) -> CellTrees:
        """Grow a tree for each column.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns)
            Numbers and codes.
        given : ndarray of shape (n_rows, n_given)
            What all trees read.
        own : list of ndarray of shape (n_rows, n_own)
            What the tree of each column reads besides.
        scaler : NormalScores
            Its columns rank numbers.
        unflagged : list of int
            Columns of which others say where cells are missing: these are drawn in all rows.
        seed : int
        """
        self.is_code_ = np.asarray(scaler.n_levels) > 0
        self.trees_ = []
        ranks = np.column_stack([self._ranks(x, j, scaler) for j, x in enumerate(X.T)])
        for j, x in enumerate(X.T):
            read = _read(ranks, j, given, own[j])
            used = np.ones(len(x), dtype=bool)
            if j in unflagged and not np.isnan(x).all():
                used = ~np.isnan(x)
            targets = self._targets(x[used], j, scaler)
            is_class = bool(self.is_code_[j]) or len(np.unique(targets)) <= MAX_CLASSES
            if is_class:
                targets = np.unique(targets, return_inverse=True)[1]
            self.trees_.append(CellTree.of(read[used], x[used], targets, is_class, seed))
        return self

    def draw(
        self,
        given: Array,
        own: list[Array],
        scaler: Any,
        cells: dict[int, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Rows for what is given of them; `cells` are the numbers of columns that are fixed."""
        X = np.empty((len(given), len(self.trees_)))
        ranks = np.empty_like(X)
        for j, tree in enumerate(self.trees_):
            if j in cells:
                X[:, j] = cells[j]
            else:
                X[:, j] = tree.draw(_read(ranks, j, given, own[j]), scaler.columns_.get(j), rng)
            ranks[:, j] = self._ranks(X[:, j], j, scaler)
        return X

    def _ranks(self, x: Array, j: int, scaler: Any) -> Array:
        """Places of numbers among those of their column; codes as they are."""
        column = scaler.columns_.get(j)
        if column is None:
            return x
        return np.where(np.isnan(x), np.nan, np.searchsorted(column.values, x))

    def _targets(self, x: Array, j: int, scaler: Any) -> Array:
        """What trees predict: shares of rows below numbers, or codes; less for missing cells."""
        column = scaler.columns_.get(j)
        if column is not None:
            middles = (column.shares[:-1] + column.shares[1:]) / 2
            x = np.where(np.isnan(x), np.nan, np.interp(x, column.values, middles))
        return np.nan_to_num(x, nan=-0.1)

    def check(self, n_read: list[int]) -> None:
        """Raise ValueError unless the trees fit tables of which they read so many columns."""
        if len(self.trees_) != len(n_read) or len(self.is_code_) != len(n_read):
            raise ValueError(f"there must be trees for {len(n_read)} columns")
        for tree, n in zip(self.trees_, n_read, strict=True):
            tree.check(n)


def _read(ranks: Array, j: int, given: Array, own: Array) -> Array:
    """What the tree of a column reads of rows."""
    return np.hstack([ranks[:, :j], given, own])


def columns_of_outputs(scaler: Any) -> Iterator[list[int]]:
    """For each column, the decoder's outputs for its numbers or levels."""
    numbers, codes = list(scaler.columns_), scaler.of_codes.tolist()
    ends = scaler.n_scores + np.cumsum([0, *scaler.level_counts])
    for j in range(len(scaler.n_levels)):
        if j in codes:
            yield list(range(ends[codes.index(j)], ends[codes.index(j) + 1]))
        else:
            yield [numbers.index(j)] if j in numbers else []
