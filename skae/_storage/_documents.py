"""Values as JSON and named arrays, and back; nothing but known kinds goes either way.

Texts, numbers, truth values, None and lists stand for themselves. All else is an object whose
key "is" names its kind, and whose other keys are fixed for each kind.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

# Deeper documents are not ours.
MAX_DEPTH = 100


class Kind(NamedTuple):
    """One kind of value: whether it holds one, to a dict of nodes, and back from it."""

    keys: tuple[str, ...]
    holds: Callable[[Any], bool]
    write: Callable[..., tuple]
    read: Callable[..., Any]


class DocumentEncoder:
    """Turns values into nodes of a document, and collects their arrays.

    Parameters
    ----------
    kinds : dict of Kind
        By name; the first that holds a value writes it.

    Attributes
    ----------
    arrays : dict of array
        By their paths in the document.
    notes : dict
        What kinds remember from one value to the next.
    """

    def __init__(self, kinds):
        self.kinds = kinds
        self.arrays = {}
        self.notes = {}

    def write(self, value, path):
        """The node of a value that stands at `path`."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and math.isfinite(value):
            return value
        if type(value) is list:
            return [self.write(item, f"{path}.{i}") for i, item in enumerate(value)]
        for name, kind in self.kinds.items():
            if kind.holds(value):
                parts = kind.write(self, value, path)
                return {"is": name, **dict(zip(kind.keys, parts, strict=True))}
        raise TypeError(
            f"{path} is of type {type(value).__module__}.{type(value).__qualname__}, which can not "
            "be saved."
        )

    def add(self, array, path):
        """Put an array away; return its name."""
        assert path not in self.arrays, path
        self.arrays[path] = array
        return path


class DocumentDecoder:
    """Turns nodes back into values; raises ValueError on whatever it does not know.

    Parameters
    ----------
    kinds : dict of Kind
    arrays : dict of array
        Each must be asked for once.
    **notes : dict
        What kinds must know beforehand.
    """

    def __init__(self, kinds, arrays, **notes):
        self.kinds = kinds
        self.arrays = dict(arrays)
        self.notes = notes
        self.depth = 0

    def read(self, node):
        """The value of a node."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"its document is more than {MAX_DEPTH} levels deep")
        try:
            if isinstance(node, list):
                return [self.read(item) for item in node]
            return self._read_kind(node) if isinstance(node, dict) else node
        finally:
            self.depth -= 1

    def _read_kind(self, node):
        name = node.get("is")
        kind = self.kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError(f"it holds a value of the unknown kind {name!r}")
        if set(node) != {"is", *kind.keys}:
            raise ValueError(f"a value of kind {name!r} has the keys {sorted(node)}")
        return kind.read(self, *(node[key] for key in kind.keys))

    def take(self, name):
        """The array of that name."""
        if not isinstance(name, str) or name not in self.arrays:
            raise ValueError(f"it has no array {name!r} (left)")
        return self.arrays.pop(name)


def expect(value, *types):
    """The value, if it is of one of the types."""
    if type(value) not in types:
        raise ValueError(f"it holds {value!r:.60} where {types[0].__name__} was expected")
    return value


def is_exactly(*types):
    """Whether a value is of a type; heirs are something else."""
    return lambda value: type(value) in types


def as_text(cls, parse, tell=str):
    """A kind of values that are told by a text."""
    return Kind(
        ("text",),
        is_exactly(cls),
        lambda encoder, value, path: (tell(value),),
        lambda decoder, text: parse(expect(text, str)),
    )


def record(cls, fields, check=None):
    """A kind of objects that are their attributes, made without calling anything of theirs.

    Parameters
    ----------
    cls : type
    fields : str
        Attributes that such an object may have, with spaces between; ``now:then`` is one
        that files know by an older name.
    check : callable, default=None
        Raises ValueError if an object that was read must not be used.
    """
    names = {now: then or now for now, _, then in (f.partition(":") for f in fields.split())}
    names_now = {then: now for now, then in names.items()}

    def write(encoder, value, path):
        unknown = sorted(set(vars(value)) - set(names))
        if unknown:
            raise TypeError(f"{path} has the attributes {unknown}, which can not be saved.")
        items = {names[name]: item for name, item in vars(value).items()}
        return ([[name, encoder.write(item, f"{path}.{name}")] for name, item in items.items()],)

    def read(decoder, items):
        state = {expect(name, str): decoder.read(node) for name, node in expect(items, list)}
        unknown = sorted(set(state) - set(names_now))
        if unknown:
            raise ValueError(f"a {cls.__name__} has the attributes {unknown}")
        value = cls.__new__(cls)
        vars(value).update({names_now[name]: item for name, item in state.items()})
        if check is not None:
            check(value)
        return value

    return Kind(("items",), is_exactly(cls), write, read)
