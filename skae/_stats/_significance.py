"""Whether a sum differs from zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def self_normalised_sum(values: NDArray[Any], weight: NDArray[Any]) -> float:
    """Weighted sum of independent values over the root of their sum of squares.

    With a sum of ``w x``, squares of ``(w x)^2`` and Student's t of n values of equal weight, it is
    ``t / sqrt(1 + (t^2 - 1) / n)`` [1]_: of many values t, and never more than the root of the
    number of those that carry the sum. Zero if no value differs from zero.

    References
    ----------
    .. [1] V. H. de la Pena, T. L. Lai, Q.-M. Shao, "Self-normalized processes", Springer 2009.
    """
    # Relative to the largest: squares neither overflow nor vanish.
    terms = weight * values
    largest = np.abs(terms).max(initial=0.0)
    if not largest > 0:
        return 0.0
    terms /= largest
    return float(terms.sum() / np.linalg.norm(terms))
