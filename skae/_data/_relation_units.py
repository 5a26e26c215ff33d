"""Numbers of columns as values that can be compared and added up, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._normal_scores import Grid

# Relative errors of sums and formulas that are taken for rounding, of float64 and float32.
TOLERANCE, TOLERANCE_OF_SINGLES = 1e-9, 1e-6
# Kinds of columns that can be added up or compared.
KINDS_OF_VALUES = ("number", "date", "lapse")


@dataclass
class Unit:
    """What the numbers of a column mean: ``offset + scale * number`` is a value.

    Attributes
    ----------
    kind : {"number", "flag", "level", "date", "lapse", "other"}
        Flags are booleans; numbers of other kinds can be equal or not, and nothing else.
    offset, scale : float
        Of dates and durations, so that values of all columns have the same unit and origin.
    decimals : int or None
        Decimals of the numbers; None where they have more than six.
    is_single : bool
        Whether numbers have the precision of float32.
    """

    kind: str
    offset: float = 0.0
    scale: float = 1.0
    decimals: int | None = None
    is_single: bool = False

    def to_values(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Numbers as values."""
        return (
            numbers if self.scale == 1 and not self.offset else self.offset + self.scale * numbers
        )

    def to_numbers(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values as numbers, of as many decimals as the column has."""
        numbers = (
            values if self.scale == 1 and not self.offset else (values - self.offset) / self.scale
        )
        return rounded(numbers, self.decimals)

    def equal(self, numbers: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
        """Where numbers are values, to rounding; NaN equals nothing."""
        known = self.to_values(numbers)
        relative = TOLERANCE_OF_SINGLES if self.is_single else TOLERANCE
        slack = relative * np.maximum(np.abs(known), np.abs(values))
        if self.decimals is not None:
            slack = slack + 0.5 * self.scale * 10.0**-self.decimals
        return np.abs(known - values) <= slack

    def at_least(
        self, values: NDArray[Any], floor: NDArray[Any], *, strictly: bool = False
    ) -> NDArray[Any]:
        """The nearest numbers of the column whose values are not below `floor`, or above it."""
        numbers = self.to_numbers(np.fmax(values, floor))
        back = self.to_values(numbers)
        is_low = back <= floor if strictly else back < floor
        if not is_low.any():
            return numbers
        if self.decimals is None:
            above = np.nextafter(floor, np.inf) if strictly else floor
        else:
            factor = 10.0**self.decimals
            above = (np.rint(numbers * factor) + 1) / factor
        return np.where(is_low, above, numbers)


def rounded(numbers: NDArray[Any], decimals: int | None) -> NDArray[Any]:
    """Numbers of so many decimals."""
    return numbers if decimals is None else np.rint(numbers * 10.0**decimals) / 10.0**decimals


def units_of(columns: Any, X: NDArray[Any]) -> list[Unit]:
    """What the numbers of each column of a table mean.

    Parameters
    ----------
    columns : Columns or PlainColumns
    X : ndarray of shape (n_samples, n_features)
    """
    units = [_unit(columns.meaning(j), X[:, j]) for j in range(X.shape[1])]
    clocks = {j: columns.meaning(j)[1:] for j, u in enumerate(units) if u.kind in ("date", "lapse")}
    if not clocks:
        return units
    # All dates in the coarsest common step, from the first of them: integers, mostly small.
    base = min((origin for j, (origin, _) in clocks.items() if units[j].kind == "date"), default=0)
    origins = {j: origin - base * (units[j].kind == "date") for j, (origin, _) in clocks.items()}
    step = math.gcd(*origins.values(), *(tick for _, tick in clocks.values())) or 1
    for j, (_, tick) in clocks.items():
        units[j].offset, units[j].scale = float(origins[j] // step), float(tick // step)
        reach = abs(units[j].offset) + units[j].scale * np.nanmax(np.abs(X[:, j]), initial=0)
        if reach > 2**53:
            units[j].kind = "other"
    return units


def _unit(meaning: tuple[str, int, int], x: NDArray[Any]) -> Unit:
    kind = meaning[0]
    if kind != "number":
        return Unit(kind, decimals=0)
    known = np.unique(x[~np.isnan(x)])
    if not len(known):
        return Unit("other")
    is_single = x.dtype == np.float32
    known = known.astype(np.float64)
    grid = Grid.of(known)
    return Unit("number", decimals=None if grid is None else grid.decimals, is_single=is_single)
