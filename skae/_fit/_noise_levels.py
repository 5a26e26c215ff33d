"""How strong the noise of training is, in the units of X, and what it takes to read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data._mixed import MixedScaler
from skae._data._scaling import LARGEST_READ, column_moments
from skae._fit._defaults import Cleaning
from skae._fit._plan import Weights
from skae._sklearn import weighted_percentile

# Largest levels of noise that has one; others are shares of the cells.
MOST = {"gaussian": np.inf, "masking": 0.5}


# Standard deviations of columns, and those of the cells that differ from a column's median.
Spreads = tuple[NDArray[np.float64], NDArray[np.float64]]


def column_spreads(
    X: Any, sample_weight: Weights, sample: NDArray[Any], weight: Weights
) -> Spreads:
    """How far cells are from their column's mean, in the units of X.

    Where most cells are one value, as in a pixel at an image's border, the second tells what
    the others are like.

    Parameters
    ----------
    sample, weight : ndarray
        Some rows of X, scaled, and their weights.
    """
    deviations = column_moments(X, sample_weight).deviation
    weight = np.ones(len(sample)) if weight is None else weight
    is_known = ~np.isnan(sample)
    changes = weight @ (is_known & (sample != weighted_percentile(sample, weight, 50)))
    share = np.ones(X.shape[1])
    np.divide(changes, weight @ is_known, out=share, where=changes > 0)
    return deviations, deviations / np.sqrt(share)


def check_noise_level(model: Any) -> None:
    """Raise unless a denoiser's `noise_level` is one that its noise may have."""
    if not isinstance(model.noise_, str) or isinstance(model.noise_level, str):
        return
    try:
        level = np.asarray(model.noise_level, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"noise_level={model.noise_level!r} must hold numbers.") from error
    n_features = model.n_features_in_
    if level.shape not in ((), (n_features,)):
        raise ValueError(
            f"noise_level has shape {level.shape}; it must be a number or hold one for each "
            f"of the {n_features} columns of X."
        )
    most = MOST.get(model.noise_, 1.0)
    wrong = np.flatnonzero(~((level >= 0) & (level <= most) & (level < np.inf)))
    if not wrong.size:
        return
    of_column = ""
    if level.ndim:
        of_column = f" for column {_name(model, wrong[0])!r}"
    allowed = "finite and at least 0" if most == np.inf else f"from 0 to {most:g}"
    raise ValueError(
        f"noise_level={float(level.flat[wrong[0]])!r}{of_column} must be {allowed} where "
        f"noise={model.noise_!r}."
    )


def level_varies(model: Any) -> bool:
    """Whether each row has its own level of Gaussian noise: the one to be met is not known."""
    return bool(model.noise_ == "gaussian" and isinstance(model.noise_level, str))


def noise_level(model: Any, spreads: Spreads | None) -> Any:
    """The level of a denoiser's noise, that of Gaussian noise for each column in units of X."""
    if not isinstance(model.noise_, str):
        return None
    check_noise_level(model)
    is_auto = isinstance(model.noise_level, str)
    level = Cleaning.noise_levels[model.noise_] if is_auto else model.noise_level
    level = np.asarray(level, dtype=np.float64)
    if spreads is None:
        return level if level.ndim else float(level)
    if isinstance(model._scaler, MixedScaler):
        return _mixed_gaussian_level(model, level, spreads, is_auto)
    return _gaussian_level(model, level, spreads, is_auto, model._scaler)


def _mixed_gaussian_level(model: Any, level: Any, spreads: Spreads, is_auto: bool) -> Any:
    """Deviations of numbers, and shares of levels that are swapped for those of other rows."""
    scaler = model._scaler
    numbers, codes = scaler.of_numbers, scaler.of_codes
    of_all = np.full(len(scaler.n_levels), Cleaning.noise_levels["swap"])
    if level.ndim:
        of_all[codes] = level[codes]
        wrong = np.sort(codes[level[codes] > 1])
        if wrong.size:
            share, name = float(level[wrong[0]]), _name(model, wrong[0])
            raise ValueError(
                f"noise_level={share!r} for column {name!r} must be from 0 to 1: it is the share "
                "of the levels that are swapped."
            )
        level = level[numbers]
    if len(numbers):
        of_numbers = _gaussian_level(model, level, spreads, is_auto, scaler.numbers_, numbers)
        of_all[numbers] = of_numbers
    return of_all


def _gaussian_level(
    model: Any, level: Any, spreads: Spreads, is_auto: bool, scaler: Any, columns: Any = None
) -> Any:
    """Standard deviations of Gaussian noise in the units of columns of numbers."""
    deviations, of_changes = spreads
    if is_auto and model.scaling in ("global", None):  # the columns share a unit
        unit = deviations.max() or 1.0  # squares of the deviations may overflow
        level = level * np.sqrt(np.square(deviations / unit).mean()) * unit
    elif is_auto:
        level = level * of_changes
    elif model.noise_unit == "std":
        level = level * deviations
    level = np.broadcast_to(level, deviations.shape).copy()
    scaled = level / scaler.scale_
    if scaled.max() > LARGEST_READ:
        column = scaled.argmax()
        name = _name(model, column if columns is None else columns[column])
        raise ValueError(
            f"noise_level={level[column]:.3g} for column {name!r} is more than "
            f"{LARGEST_READ:g} times the scale of its values; give it in the units of X."
        )
    return level


def _name(model: Any, column: int) -> Any:
    return getattr(model, "feature_names_in_", np.arange(model.n_features_in_)).tolist()[column]


def input_divisor(
    scaling: str | None, noisy: NDArray[Any], sample_weight: Weights
) -> NDArray[np.float32] | None:
    """What brings scaled noisy columns to a root mean square of at most 1.

    Noise that is far larger than a (nearly) constant column is by then far larger than all other
    inputs. Columns that share one scale share one divisor; where there is no scaling,
    there is none.
    """
    if scaling is None:
        return None
    weight = np.ones(len(noisy)) if sample_weight is None else sample_weight
    total = weight @ ~np.isnan(noisy)
    squares = weight @ np.square(np.nan_to_num(noisy)) / np.where(total > 0, total, 1.0)
    if scaling == "global":
        squares = np.full_like(squares, squares.mean())
    return np.maximum(np.sqrt(squares), 1.0).astype(np.float32)
