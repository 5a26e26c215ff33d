"""How the generator corrects what its network draws, by trees that are grown on real rows."""

import numpy as np

from skae._data._chunks import as_dense
from skae._fit._defaults import MIN_WIDE_COLUMNS
from skae._stats._cell_trees import CellTrees, columns_of_outputs
from skae._stats._density_ratio import DRAWN_PER_ROW, DensityRatio
from skae.estimators._conditions import Request

# Tables with fewer rows are not refined; no more rows and cells are read for it.
MIN_ROWS_TO_REFINE, MAX_ROWS_TO_REFINE, MAX_CELLS_TO_REFINE = 1000, 20_000, 2**22
# Cells are drawn by trees in tables of at most so many columns, and grown on so many rows that
# all trees together read about so many cells: these take a third of the seconds of a fit.
MAX_COLUMNS_OF_TREES, MAX_ROWS_OF_TREES, MAX_CELLS_OF_TREES = 64, 2**15, 2**24


class RefiningMixin:
    """Trees that draw cells, and trees that choose among rows."""

    def _fit_refiners(self, X, sample_weight, rng):
        """Learn where the network errs, and then to draw without these errors."""
        self.refiner_ = self._cell_trees = self._candidate_ratio = None
        wanted = self.refine
        if wanted == "auto":
            wanted = (
                self.likelihood == "auto"
                and X.shape[0] >= MIN_ROWS_TO_REFINE
                and self.n_features_in_ < MIN_WIDE_COLUMNS
            )
        if not wanted:
            return
        self.refiner_ = self._fit_ratio(X, sample_weight, rng, is_density=True)
        if self.likelihood == "auto" and self._n_learned <= MAX_COLUMNS_OF_TREES:
            self._cell_trees = self._fit_cell_trees(X, sample_weight, rng)
            self._candidate_ratio = self._fit_ratio(X, sample_weight, rng, is_density=False)

    def _fit_ratio(self, X, sample_weight, rng, is_density):
        """A classifier of real rows (beside their targets) against drawn ones."""
        n_real = min(MAX_ROWS_TO_REFINE, max(1000, MAX_CELLS_TO_REFINE // X.shape[1]))
        chosen = some_rows(X.shape[0], n_real, None, rng)
        real = as_dense(X[chosen]).astype(np.float64)
        weight = None if sample_weight is None else sample_weight[chosen]

        def drawn(n_drawn):
            codes = np.full(n_drawn, np.nan)
            if self.conditional:  # those of real rows: targets must not give drawn rows away
                shares = None if weight is None else weight / weight.sum()
                codes = real[rng.choice(len(real), n_drawn, p=shares), -1]
            parts = [
                self._candidates(codes[rows], Request(), rng) for rows in self._batches_of(n_drawn)
            ]
            return np.vstack(parts)

        is_code = self._is_code
        if self.conditional:
            is_code = np.r_[is_code, self._targets.classes_ is not None]
        ratio = DensityRatio()
        n_drawn = (DRAWN_PER_ROW if is_density else 1) * len(real)
        ratio.fit(real, drawn(n_drawn), is_code, weight, rng.randint(2**31 - 1))
        return ratio.calibrate(drawn(len(real))) if is_density else ratio

    @property
    def _is_code(self):
        """Which columns that are learned hold codes of levels."""
        return np.asarray(self._relations.n_levels) > 0

    def _fit_cell_trees(self, X, sample_weight, rng):
        """Trees that draw each cell, given latents and the cells before it."""
        n_read = self._n_learned // 2 + self.n_components_
        n_rows = int(min(MAX_ROWS_OF_TREES, MAX_CELLS_OF_TREES / (self._n_learned * n_read)))
        chosen = some_rows(X.shape[0], n_rows, sample_weight, rng)
        rows = as_dense(X[chosen]).astype(np.float64)
        cells, codes = rows[:, : self._n_learned], rows[:, -1]
        mean, deviation = self.net_.posterior_rows(self._rows(X, chosen))
        given = self._with_target_columns(mean + deviation * rng.normal(size=mean.shape), codes)
        unflagged = self._relations.unflagged
        seed = rng.randint(2**31 - 1)
        return CellTrees().fit(
            cells, given, self._outputs_by_column(given), self._scaler, unflagged, seed
        )

    def _drawn_by_trees(self, given, cells, rng):
        own = self._outputs_by_column(given)
        return self._cell_trees.draw(given, own, self._scaler, cells, rng)

    def _outputs_by_column(self, given):
        """The decoder's outputs for the cells of each column."""
        outputs = self.net_.output_rows(given).astype(np.float64)
        return [outputs[:, at] for at in columns_of_outputs(self._scaler)]


def some_rows(n_rows, at_most, sample_weight, rng):
    """Numbers of all rows, or of some of them; heavy ones several times if there are weights."""
    if sample_weight is not None:
        shares = sample_weight / sample_weight.sum()
        return np.sort(rng.choice(n_rows, min(n_rows, at_most), p=shares))
    if n_rows <= at_most:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, at_most, replace=False))
