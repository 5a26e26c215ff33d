"""The sample of a table on disk, as far as training and what follows it go by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._shards import is_sharded
from skae._data._sources import is_on_disk
from skae._engine._batches import SourceRows
from skae._engine._group import ALONE
from skae._engine._rotation import Rotation
from skae._fit._plan import Feed, Weights


def places_in_sample(X: Any, numbers: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Where rows are in the sample of a table on disk; None if some are not in one."""
    if not is_on_disk(X) or X.sample is None:
        return None
    known = X.sample_numbers
    places = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return places if np.array_equal(known[places], numbers) else None


def rows_of_sample(
    feed: Feed, X: Any, places: NDArray[np.intp], sample_weight: Weights, rotation: Rotation | None
) -> SourceRows:
    """Rows in the sample of a table on disk; of one on several processes, a share on each."""
    group = X.group if is_sharded(X) else ALONE
    weight = None if sample_weight is None else sample_weight[X.sample_numbers]
    rows = feed.rows(X.sample, places[group.rank :: group.size], weight, rotation)
    rows.group = group
    return rows
