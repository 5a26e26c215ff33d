"""What is learned of a table on disk in one pass, before a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite

from skae._data._scaling import column_moments
from skae._data._sources import AllBut, RowSource, spread_numbers

# Tables of fewer rows, or of fewer bytes, are read into memory as a whole.
MIN_ROWS_ON_DISK, MIN_BYTES_ON_DISK = 10_000, 128 * 2**20
# Cells of the sample; of wide rows more, for as many rows as PCA needs.
SAMPLED_CELLS, SAMPLED_ROWS, MOST_SAMPLED_CELLS, LEAST_SAMPLED_ROWS = 2**23, 2**14, 2**25, 1000
SEED = 0
# Of the sample, one row in so many is held out at most, unless this leaves too few.
HELD_OUT_OF_SAMPLE, LEAST_HELD_OUT_OF_SAMPLE = 4, 1000


def is_small(source: RowSource) -> bool:
    """Whether a table is to be read into memory."""
    return _is_small(source.n_rows, source.nbytes)


def _is_small(n_rows: int, n_bytes: int) -> bool:
    return n_rows < MIN_ROWS_ON_DISK or n_bytes < MIN_BYTES_ON_DISK


def check_source(
    source: RowSource,
    marker: float | None,
    check_values: Callable[[Any], None],
    min_rows: int = 1,
) -> RowSource:
    """A table on disk whose cells are checked when they are read.

    Parameters
    ----------
    marker : float or None
        What stands for a missing cell, and becomes NaN; None where none may be missing.
    check_values : callable
        Takes rows, and raises ValueError if a cell is too large.
    min_rows : int, default=1
    """
    check_n_rows(source, min_rows)
    return source.with_check(CellCheck(marker, check_values))


def check_n_rows(source: RowSource, min_rows: int) -> None:
    """Raise ValueError if a table on disk has fewer rows."""
    if source.n_rows < min_rows:
        raise ValueError(
            f"Found array with {source.n_rows} sample(s) (shape={source.shape}) while a minimum "
            f"of {min_rows} is required: {source.label}."
        )


class MissingCellsError(ValueError):
    """Cells of a table on disk are missing where none may be."""


@dataclass(frozen=True)
class CellCheck:
    """Checks the cells of rows; `check_values` is None once this was done."""

    marker: float | None
    check_values: Callable[[Any], None] | None

    @property
    def trusting(self) -> CellCheck:
        """What is left to do with cells that have been checked."""
        return replace(self, check_values=None)

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        is_nan = self.marker is not None and bool(np.isnan(self.marker))
        if self.check_values is not None:
            try:
                assert_all_finite(rows, allow_nan=is_nan, input_name="X")
            except ValueError as error:
                misses = not is_nan and np.isnan(rows).any()
                raise (MissingCellsError if misses else ValueError)(str(error)) from error
            self.check_values(rows)
        if self.marker is None or is_nan:
            return rows
        return np.where(rows == self.marker, np.nan, rows).astype(rows.dtype, copy=False)


def in_memory_if_small(source: Any) -> Any:
    """A table of Arrow as a frame, if it is small and has rows; anything else as it is."""
    if not hasattr(source, "read_frame") or source.n_rows < 2:
        return source
    return source.read_frame() if _is_small(source.n_rows, source.frame_bytes) else source


def to_learn_from(source: RowSource, weight: NDArray[Any] | None = None) -> Any:
    """The rows of a fit: all of them in memory, or the source once it was surveyed."""
    return source.read_all() if is_small(source) else surveyed(source, weight=weight)


def n_sampled(n_features: int) -> int:
    """Rows in the sample of a table on disk."""
    n_usual = min(SAMPLED_ROWS, MOST_SAMPLED_CELLS // n_features)
    return max(SAMPLED_CELLS // n_features, n_usual, LEAST_SAMPLED_ROWS)


def surveyed(
    source: RowSource, n_wanted: int | None = None, weight: NDArray[Any] | None = None
) -> RowSource:
    """The source with moments of its columns and a sample of its rows, from one pass.

    The sample is of the rows of positive weight.
    """
    n_wanted = n_sampled(source.width) if n_wanted is None else n_wanted
    if weight is None or weight.all():
        numbers = spread_numbers(source.n_rows, n_wanted, SEED)
    else:
        kept = np.flatnonzero(weight)
        numbers = kept[spread_numbers(len(kept), n_wanted, SEED)]
    survey = _Survey(source, numbers)
    moments = column_moments(survey)
    other = source.trusted()
    other.sample, other.sample_numbers, other.moments = survey.sample, survey.numbers, moments
    other.level_counts = survey.counts
    return other


def numbers_to_hold_out(
    X: Any, sample_weight: NDArray[np.float64] | None, n_wanted: int, seed: int
) -> NDArray[np.intp]:
    """Numbers of rows of positive weight, evenly spread over a table on disk.

    They are in its sample, and so in memory, if that has enough.
    """
    known = np.empty(0, dtype=np.intp) if X.sample is None else X.sample_numbers
    if sample_weight is not None:
        known = known[sample_weight[known] > 0]
    n_most = len(known) // HELD_OUT_OF_SAMPLE
    if n_most >= min(n_wanted, LEAST_HELD_OUT_OF_SAMPLE):
        return known[spread_numbers(len(known), min(n_wanted, n_most), seed)]
    without: Any = [] if sample_weight is None else np.flatnonzero(sample_weight == 0)
    rows = AllBut(X.shape[0], np.asarray(without, dtype=np.intp))
    return rows[spread_numbers(len(rows), n_wanted, seed)]


class _Survey:
    """Rows of a source; as they pass by, some of them are kept, and codes are counted."""

    def __init__(self, source: RowSource, numbers: NDArray[np.intp]):
        self.source = source
        self.shape = source.shape
        self.numbers = numbers
        self.sample = np.empty((len(numbers), source.n_features), source.dtype)
        self.counts = [np.zeros(n, dtype=np.int64) for n in source.n_levels or ()]

    def chunks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        for rows, chunk in self.source.chunks():
            here = slice(*np.searchsorted(self.numbers, (rows.start, rows.stop)))
            self.sample[here] = chunk[self.numbers[here] - rows.start]
            for j, counts in enumerate(self.counts):
                if len(counts):
                    codes = chunk[:, j][~np.isnan(chunk[:, j])].astype(int)
                    counts += np.bincount(codes, minlength=len(counts))[: len(counts)]
            yield rows, chunk
