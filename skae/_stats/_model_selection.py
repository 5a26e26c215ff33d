"""Rules for the candidate of a parameter search to refit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

ONE_STANDARD_ERROR = "one_standard_error"


@dataclass(frozen=True, repr=False)
class SmallestWithin:
    """The rule of `skae.comparison.smallest_within`; a class, as closures cannot be pickled."""

    tolerance: float | str
    parameter: str | None
    scorer: str | None

    def __post_init__(self) -> None:
        _check_tolerance(self.tolerance)
        for name in ("parameter", "scorer"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name}={value!r} must be a string or None.")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"smallest_within({options})"

    def __call__(self, cv_results: dict[str, Any]) -> int:
        """Index of the candidate to refit."""
        candidates = cv_results["params"]
        parameter = _find_parameter(candidates, self.parameter)
        scorer = _find_scorer(cv_results, self.scorer)
        # Not from cv_results["param_..."], where NumPy makes floats of [2, 0.5].
        sizes = {i: params[parameter] for i, params in enumerate(candidates) if parameter in params}
        _check_comparable(parameter, list(sizes.values()))
        means = np.asarray(cv_results[f"mean_test_{scorer}"])
        scored = [i for i in sizes if np.isfinite(means[i])]
        if not scored:
            raise ValueError(f"no candidate with {parameter} has a finite mean test score.")
        best = max(scored, key=lambda i: means[i])
        tolerance = self.tolerance
        if tolerance == ONE_STANDARD_ERROR:
            tolerance = _standard_error(cv_results, scorer, best)
        # Some units in the last place, as 0.8 - 0.1 > 0.7 in floating point.
        lowest = means[best] - tolerance - 4 * np.spacing(abs(means[best]))
        within = [i for i in scored if means[i] >= lowest]
        return min(within, key=lambda i: (sizes[i], -means[i]))


def _check_tolerance(tolerance: Any) -> None:
    allowed = f"must be a float of at least 0 or {ONE_STANDARD_ERROR!r}."
    is_number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if not is_number and not isinstance(tolerance, str):
        raise TypeError(f"tolerance={tolerance!r} {allowed}")
    # Negated, so that NaN is an error.
    if not (tolerance >= 0 if is_number else tolerance == ONE_STANDARD_ERROR):
        raise ValueError(f"tolerance={tolerance!r} {allowed}")


def _find_parameter(candidates: list[dict[str, Any]], parameter: str | None) -> str:
    searched = sorted({name for params in candidates for name in params})
    if parameter is not None:
        if parameter not in searched:
            raise ValueError(f"parameter={parameter!r} must be one of those searched: {searched}.")
        return parameter
    found = [name for name in searched if name.split("__")[-1] == "n_components"]
    if len(found) != 1:
        raise ValueError(
            f"parameter=None needs exactly one searched parameter called n_components; found "
            f"{found} among {searched}. Name the parameter."
        )
    return found[0]


def _find_scorer(cv_results: dict[str, Any], scorer: str | None) -> str:
    prefix = "mean_test_"
    scorers = [key.removeprefix(prefix) for key in cv_results if key.startswith(prefix)]
    if scorer is None and len(scorers) != 1:
        raise ValueError(f"scorer=None needs a search with one scorer; name one of {scorers}.")
    if scorer is not None and scorer not in scorers:
        raise ValueError(f"scorer={scorer!r} must be one of those of the search: {scorers}.")
    return scorers[0] if scorer is None else scorer


def _check_comparable(parameter: str, sizes: list[Any]) -> None:
    are_integers = {isinstance(size, Integral) for size in sizes}
    are_numbers = all(isinstance(size, Real) and not isinstance(size, bool) for size in sizes)
    if len(are_integers) != 1 or not are_numbers:
        raise ValueError(
            f"{parameter} was searched over {sizes}, which cannot be ordered by size: the values "
            "must be all integers or all floats."
        )


def _standard_error(cv_results: dict[str, Any], scorer: str, index: int) -> float:
    """Standard error of a candidate's mean score over the folds."""
    split = re.compile(rf"split\d+_test_{re.escape(scorer)}")
    n_splits = sum(split.fullmatch(key) is not None for key in cv_results)
    if n_splits < 2:
        raise ValueError(
            f"tolerance={ONE_STANDARD_ERROR!r} needs at least two splits; got {n_splits}."
        )
    return cv_results[f"std_test_{scorer}"][index] / np.sqrt(n_splits)
