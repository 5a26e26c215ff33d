"""Layouts: what a value must be, its type, shape and range, to be compared with what files hold.

A layout is a function of a value, its path and the sizes known so far; it raises ValueError
where the value does not fit. The first array that has a size by some name sets it, and all
others must have the same: ``array("f8", "d")`` and ``array("f8", "n_rows", "d")`` share ``d``.
Sizes of one letter are the same in a whole estimator, others within one object.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

Sizes = MutableMapping[str, int]
Layout = Callable[[Any, str, Sizes], None]


class Optional(NamedTuple):
    """The layout of an attribute that may be missing."""

    layout: Layout


def refuse(path: str, expected: str, value: Any) -> None:
    """Raise ValueError that names a value, what it is and what it must be."""
    found = f"an array of {value.dtype} of shape {value.shape}" if hasattr(value, "dtype") else ""
    raise ValueError(f"{path} must be {expected}; it is {found or f'{value!r:.60}'}")


def array(kind: str, *shape: str | int, low: float = -math.inf, special: str = "") -> Layout:
    """Arrays of a dtype ("f8", or "i" for all integers) and shape.

    A size is a number, a name, or a name plus a number, as in ``"n+1"``. Values are no less than
    `low`. All are finite unless `special` allows "inf", or "nan" and "inf".
    """

    def check(value: Any, path: str, sizes: Sizes) -> None:
        wanted = [_resolved(size, sizes) for size in shape]
        text = f"({', '.join(str(n) for n in wanted)})"
        expected = f"an array of {kind} of shape {text}"
        if type(value) is not np.ndarray or value.ndim != len(shape):
            refuse(path, expected, value)
        if kind not in (value.dtype.kind, f"{value.dtype.kind}{value.dtype.itemsize}"):
            refuse(path, expected, value)
        for size, n, found in zip(shape, wanted, value.shape, strict=True):
            if isinstance(n, str) and n == size:
                sizes[n] = found
            elif n != found:
                refuse(path, expected, value)
        allowed = {"": np.isfinite, "inf": lambda v: ~np.isnan(v), "nan": lambda v: True}
        with np.errstate(invalid="ignore"):
            if value.dtype.kind == "f" and not np.all(allowed[special](value)):
                raise ValueError(f"{path} holds values that are not finite")
            if low > -math.inf and not np.all(value >= low):
                raise ValueError(f"{path} holds values below {low:g}")

    return check


def _resolved(size: str | int, sizes: Sizes) -> str | int:
    """The number that a size stands for; its name if that is not known yet."""
    if isinstance(size, int):
        return size
    name, _, more = size.partition("+")
    return sizes[name] + int(more or 0) if name in sizes else size


def number(low: float = -math.inf, high: float = math.inf, finite: bool = True) -> Layout:
    """Numbers within bounds."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        if not is_number or (finite and not (math.isfinite(value) and low <= value <= high)):
            refuse(path, f"a finite number{_bounds(low, high)}" if finite else "a number", value)

    return check


def _bounds(low: float, high: float) -> str:
    least = f" of at least {low:g}" if low > -math.inf else ""
    return least if high == math.inf else f"{least}{' and' if least else ' of'} at most {high:g}"


def whole(low: float = -math.inf, high: float = math.inf, size: str = "") -> Layout:
    """Integers within bounds, and equal to a size if that is named."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or not low <= value <= high:
            refuse(path, f"an integer{_bounds(low, high)}", value)
        if size and sizes.setdefault(size, int(value)) != value:
            refuse(path, f"{sizes[size]}, as arrays are", value)

    return check


def of_type(*types: type) -> Layout:
    """Values of these types."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        if not isinstance(value, types):
            refuse(path, " or ".join(t.__name__ for t in types), value)

    return check


def one_of(*values: Any) -> Layout:
    """One of some texts or None."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        if not any(type(value) is type(each) and value == each for each in values):
            refuse(path, f"one of {values}", value)

    return check


flag, text = of_type(bool), of_type(str)


def anything(value: Any, path: str, sizes: Sizes) -> None:
    """Whatever is of a kind that files may hold."""


def maybe(layout: Layout) -> Layout:
    """None, or what fits the layout."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        if value is not None:
            layout(value, path, sizes)

    return check


def listing(layout: Layout, size: str = "") -> Layout:
    """Lists of values that fit the layout, as many as a size if that is named."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        of_type(list)(value, path, sizes)
        if size and sizes.setdefault(size, len(value)) != len(value):
            raise ValueError(f"{path} must hold {sizes[size]} values; it holds {len(value)}")
        for i, item in enumerate(value):
            layout(item, f"{path}.{i}", sizes)

    return check


def row(*layouts: Layout) -> Layout:
    """Tuples with a layout for each item."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        if type(value) is not tuple or len(value) != len(layouts):
            refuse(path, f"a tuple of {len(layouts)}", value)
        for i, (layout, item) in enumerate(zip(layouts, value, strict=True)):
            layout(item, f"{path}.{i}", sizes)

    return check


def mapping(keys: Layout, values: Layout) -> Layout:
    """Dicts."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        of_type(dict)(value, path, sizes)
        for key, item in value.items():
            keys(key, f"a key of {path}", sizes)
            values(item, f"{path}.{key}", sizes)

    return check


def apart(layout: Layout) -> Layout:
    """Values whose sizes, if they are not known before, are theirs alone."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        layout(value, path, ChainMap({}, sizes))

    return check


class Attributes(NamedTuple):
    """The layout of objects with these attributes and no others.

    `also` raises for the whole, given its path and the sizes.
    """

    named: dict[str, Any]
    also: Layout | None = None

    def __call__(self, value: Any, path: str, sizes: Sizes) -> None:
        """Compare an object with the layout."""
        inner = {name: size for name, size in sizes.items() if len(name) == 1}
        check_named(vars(value), self.named, path, inner)
        if self.also is not None:
            self.also(value, path, inner)
        sizes.update({name: size for name, size in inner.items() if len(name) == 1})


def check_named(values: Any, named: dict[str, Any], path: str, sizes: Sizes) -> None:
    """Compare values by their names with layouts by theirs."""
    prefix = f"{path}." if path else ""
    for name in sorted(set(values) - set(named)):
        raise ValueError(f"{path or 'it'} has no attribute {name!r:.60}")
    for name, layout in named.items():
        if name in values:
            of_value = layout.layout if isinstance(layout, Optional) else layout
            of_value(values[name], f"{prefix}{name}", sizes)
        elif not isinstance(layout, Optional):
            raise ValueError(f"{prefix}{name} is missing")
