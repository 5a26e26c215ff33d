"""Fitted attributes that hold arrays: NumPy's inside, and outside like the rows of ``fit``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._sklearn import (
    get_namespace_and_device,
    is_numpy_namespace,
    max_precision_float_dtype,
)


@dataclass(frozen=True)
class ArrayKind:
    """Namespace and device of arrays.

    Attributes
    ----------
    namespace : str
        Name of the module.
    device : object
    """

    namespace: str
    device: Any

    def asarray(self, values: NDArray[Any]) -> Any:
        """A copy of a NumPy array, of this kind."""
        xp = import_module(self.namespace)
        dtype = None
        if values.dtype.kind == "f":
            dtype = max_precision_float_dtype(xp, self.device)
        return xp.asarray(values.copy(), dtype=dtype, device=self.device)


class _StoredArray:
    """An attribute that the instance holds under its name, as a NumPy array."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __delete__(self, model: Any) -> None:
        del vars(model)[self.name]


class FittedArray(_StoredArray):
    """A public attribute: an array of the kind of the rows that the estimator was fitted to.

    The instance holds NumPy's (so do its pickles and files), and ``_kind_of_rows`` says what users
    get; code of the library reads ``numpy_array``.
    """

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        kind = vars(model).get("_kind_of_rows")
        values = numpy_array(model, self.name)
        is_plain = kind is None or not isinstance(values, np.ndarray)
        return values if is_plain else kind.asarray(values)

    def __set__(self, model: Any, values: NDArray[Any]) -> None:
        vars(model)[self.name] = values


class PrivateArray(_StoredArray):
    """An attribute of code of the library: always NumPy's, whatever the rows were.

    It is boxed, since scikit-learn's check of array-API support takes all arrays among the
    instance's attributes for fitted ones, which are to be like the rows.
    """

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        return self if model is None else numpy_array(model, self.name)

    def __set__(self, model: Any, values: NDArray[Any]) -> None:
        # Boxed ones come from the attributes of a copy.
        vars(model)[self.name] = values if isinstance(values, _Box) else _Box(values)


@dataclass(frozen=True, eq=False)
class _Box:
    values: NDArray[Any]


def numpy_array(model: Any, name: str) -> NDArray[Any]:
    """What a `FittedArray` or `PrivateArray` holds; AttributeError if there is nothing."""
    try:
        values = vars(model)[name]
    except KeyError:
        raise AttributeError(
            f"{type(model).__name__!r} object has no attribute {name!r}", name=name, obj=model
        ) from None
    return values.values if isinstance(values, _Box) else values


def note_kind_of_rows(model: Any, X: Any) -> None:
    """From now on, let public arrays of a model be like X."""
    xp, is_array_api, device = get_namespace_and_device(X)
    vars(model).pop("_kind_of_rows", None)
    if is_array_api and not is_numpy_namespace(xp):
        model._kind_of_rows = ArrayKind(xp.__name__, device)


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an estimator with NumPy arrays only, so that it is of use on any machine."""
    return {
        name: value.values if isinstance(value, _Box) else value
        for name, value in state.items()
        if name != "_kind_of_rows"
    }
