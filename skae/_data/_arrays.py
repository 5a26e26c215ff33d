"""Array functions that work on NumPy arrays and torch tensors alike."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from skae._sklearn import get_namespace_and_device, max_precision_float_dtype

NUMPY, _, _ = get_namespace_and_device()


def is_tensor(X: Any) -> bool:
    """Whether X is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def is_sparse_tensor(X: Any) -> bool:
    """Whether X is a torch tensor of any layout but the dense one."""
    return is_tensor(X) and str(X.layout) != "torch.strided"


def namespace(X: Any) -> Any:
    """Functions for arrays like X; for tensors, array-API dispatch must be on."""
    return get_namespace_and_device(X)[0] if is_tensor(X) else NUMPY


def widest_float(X: Any) -> Any:
    """float64, or the widest float that the device of a tensor supports."""
    if not is_tensor(X):
        return np.float64
    xp, _, device = get_namespace_and_device(X)
    return max_precision_float_dtype(xp, device)


def output_dtype(X: Any) -> Any:
    """float32 stays float32; everything else comes back as float64."""
    xp = namespace(X)
    return xp.float32 if X.dtype == xp.float32 else widest_float(X)


def as_precise_as(X: Any, values: Any) -> Any:
    """Results of rows X in their output dtype."""
    return namespace(values).astype(values, output_dtype(X), copy=False)


def as_array(X: Any) -> Any:
    """X as a NumPy array, for functions that do not take tensors."""
    return X.cpu().numpy() if is_tensor(X) else X


def empty(shape: int | tuple[int, ...], X: Any, dtype: Any = None) -> Any:
    """An uninitialised array on the device of X, by default of its output dtype."""
    dtype = output_dtype(X) if dtype is None else dtype
    return namespace(X).empty(shape, dtype=dtype, **_device_option(X))


def asarray_like(values: Any, X: Any, dtype: Any = None) -> Any:
    """`values` as an array of the kind of X, on its device."""
    return namespace(X).asarray(values, dtype=dtype, **_device_option(X))


def stable_order(X: Any) -> Any:
    """Indices that sort each column; equal cells keep their order."""
    options = {"dim": 0, "stable": True} if is_tensor(X) else {"axis": 0, "kind": "stable"}
    return X.argsort(**options)


def write_pieces(out: Any, pieces: Iterable[tuple[Any, Any]]) -> Any:
    """Write `pieces`, pairs of rows and their values, into `out`."""
    for rows, values in pieces:
        out[rows] = values
    return out


def _device_option(X: Any) -> dict[str, Any]:
    return {"device": X.device} if is_tensor(X) else {}
