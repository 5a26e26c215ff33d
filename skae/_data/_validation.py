"""Validate input, and convert results back to arrays like the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skae._data._arrays import (
    is_sparse_tensor,
    is_tensor,
    namespace,
    output_dtype,
    widest_float,
)
from skae._data._chunks import ColumnStack, TensorTable, check_finite, is_memory_map
from skae._data._sources import is_source
from skae._data._survey import to_learn_from
from skae._data._tables import as_table, numbers_of_table, without_mask
from skae._sklearn import (
    MAY_ALL_BE_ZERO,
    check_sample_weight,
    convert_to_numpy,
    get_namespace_and_device,
    is_numpy_namespace,
    num_samples,
    safe_indexing,
)


def to_compute_array(
    X: Any, keep_tensors: bool = True, name: str = "X"
) -> tuple[Any, Callable[[Any], Any]]:
    """X as an array to compute with, and a function that makes results arrays like X.

    Floating-point tensors stay on their device if `keep_tensors`; other tensors and other
    array-API arrays become NumPy arrays.
    """
    X = as_table(X, name)
    if is_sparse_tensor(X):
        raise TypeError(
            f"{name} is a tensor of layout {X.layout}, but must be a dense one: pass "
            f"{name}.to_dense()."
        )
    xp, is_array_api, device = get_namespace_and_device(X)
    if not is_array_api or is_numpy_namespace(xp):
        return X, lambda out: out
    if getattr(X, "requires_grad", False):
        raise ValueError(
            f"{name} requires a gradient, but results of this estimator have none: pass "
            f"{name}.detach()."
        )
    if keep_tensors and is_tensor(X) and X.is_floating_point():
        return X, lambda out: out
    if is_tensor(X) and X.is_floating_point() and X.element_size() < 4:
        X = X.to(widest_float(X))  # NumPy has no bfloat16
    return convert_to_numpy(X, xp), lambda out: xp.asarray(out, device=device)


def check_input(
    check: Callable[..., Any],
    X: Any,
    *,
    marker: float | None,
    dtype: Any = "numeric",
    accept_sparse: str | bool = "csr",
    **kwargs: Any,
) -> Any:
    """Validate X by scikit-learn's `check`; integers and memory maps are not copied.

    `marker` is what stands for a missing cell, which becomes NaN; None where none may be missing.
    """
    name = kwargs.get("input_name", "X")
    X = numbers_of_table(without_mask(X, marker, name), name)
    allow_nan = marker is not None and np.isnan(marker)
    on_disk = is_memory_map(X)
    finite = "allow-nan" if allow_nan else True
    # scikit-learn's check would read the whole file into memory.
    finite = False if on_disk else finite
    if is_tensor(X):
        dtype = [widest_float(X), namespace(X).float32]
    kwargs |= {"dtype": dtype, "accept_sparse": accept_sparse, "ensure_all_finite": finite}
    try:
        X = check(X, **kwargs)
    except ValueError as error:
        if "contains infinity" not in str(error) or (cell := _infinite_cell(X)) is None:
            raise
        raise ValueError(f"{error} It is in column {cell[1]!r}, row {cell[0]}.") from None
    if on_disk:
        check_finite(X, allow_nan=allow_nan)
    return X if marker is None or allow_nan else _mark_missing(X, marker)


def _infinite_cell(X: Any) -> tuple[int, Any] | None:
    """Row and column of the first infinite cell of a table of numbers in memory."""
    if is_tensor(X) or issparse(X) or np.ndim(X) != 2:
        return None
    is_infinite = np.abs(np.asarray(X, dtype=np.float64)) == np.inf
    if not is_infinite.any():
        return None
    row, j = np.argwhere(is_infinite)[0].tolist()
    return row, X.columns[j] if hasattr(X, "columns") else j


def _mark_missing(X: Any, marker: float) -> Any:
    """Put NaN where the marker of missing cells stands."""
    if is_tensor(X):
        return namespace(X).where(float(marker) == X, np.nan, X)
    if issparse(X):
        if marker == 0:
            raise ValueError(
                "missing_values=0 cannot be distinguished from the zeros that a sparse X "
                "leaves out; give a dense X."
            )
        X = X.astype(output_dtype(X))  # a copy
        X.data[X.data == _of_dtype(marker, X.dtype)] = np.nan
        return X
    value = _of_dtype(marker, X.dtype)
    if value is None:
        return X
    return np.where(value == X, np.nan, X).astype(output_dtype(X), copy=False)


def _of_dtype(marker: float, dtype: Any) -> Any:
    """The marker among values of a dtype; None if no integer equals it."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        is_held = info.min <= marker <= info.max and marker == int(marker)
        return dtype.type(marker) if is_held else None
    with np.errstate(over="ignore"):
        value = dtype.type(marker)
    return value if dtype.kind == "f" or value == marker else None


def as_numpy_table(X: Any, sample_weight: Any = None) -> Any:
    """Rows to learn from, for code that needs NumPy.

    Those of a tensor become NumPy arrays chunk by chunk; a table on disk is read if it is small,
    and surveyed otherwise.
    """
    if is_source(X):
        return to_learn_from(X, checked_weight(sample_weight, X.n_rows))
    return TensorTable(X) if is_tensor(X) else X


def checked_weight(
    sample_weight: Any, n_rows: int, may_all_be_zero: bool = False
) -> NDArray[Any] | None:
    """One weight per row, as a NumPy array of float64; None if no weights are given."""
    if sample_weight is None:
        return None
    weight, _ = to_compute_array(sample_weight, keep_tensors=False, name="sample_weight")
    weight = without_mask(weight, None, "sample_weight")
    return check_sample_weight(
        weight,
        np.empty(n_rows),
        dtype=np.float64,
        ensure_non_negative=True,
        **(MAY_ALL_BE_ZERO if may_all_be_zero else {}),
    )


def rows_with_weight(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Rows of any table that have a positive weight, their targets and weights."""
    X = as_table(X)
    weight = checked_weight(sample_weight, num_samples(X))
    if weight is None or is_source(X):
        return X, y, weight
    kept = np.flatnonzero(weight)
    if len(kept) in (0, 1, len(weight)):  # too few are an error later
        return X, y, weight
    y = None if y is None else safe_indexing(y, kept)
    return safe_indexing(X, kept), y, weight[kept]


def drop_zero_weight_rows(
    X: Any, sample_weight: Any, min_rows: int = 2
) -> tuple[Any, NDArray[Any] | None]:
    """Drop rows of weight zero; weights come back with mean one, or None if all equal.

    Those of a table on disk stay, and do not count in the mean.
    """
    weight = checked_weight(sample_weight, X.shape[0])
    if weight is None:
        return X, None
    has_weight = weight > 0
    if not has_weight.all() and not (is_source(X) and has_weight.sum() >= min_rows):
        is_table = isinstance(X, ColumnStack | TensorTable)
        X = X.rows(has_weight) if is_table else X[has_weight]
        weight = weight[has_weight]
        if X.shape[0] < min_rows:
            raise ValueError(
                f"sample_weight leaves {X.shape[0]} rows with a positive weight; at least "
                f"{min_rows} are needed."
            )
    if (weight == weight[0]).all():
        return X, None
    return X, weight / weight[weight > 0].mean()
