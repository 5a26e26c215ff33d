"""Encode values of known kinds as JSON and named arrays, and decode them.

Strings, numbers, booleans, None and lists are themselves in JSON. Everything else is an object
whose key "is" names its kind; its other keys are fixed for each kind.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

# No document that is written is nested more deeply.
MAX_DEPTH = 100
# Memory that values may take beyond that of the file: so much, and so many times its size.
FREE_BYTES, MAX_EXPANSION = 8_000_000, 32


class Kind(NamedTuple):
    """One kind of value.

    Parameters
    ----------
    keys : tuple of str
        Keys of its objects besides "is".
    holds : callable
        Whether a value is of this kind.
    write : callable
        From an encoder, a value and its path to the nodes of the keys.
    read : callable
        From a decoder and the nodes of the keys to a value.
    n_bytes : int
        Memory of such a value where it is much more than its text takes in a file.
    """

    keys: tuple[str, ...]
    holds: Callable[[Any], bool]
    write: Callable[..., tuple]
    read: Callable[..., Any]
    n_bytes: int = 0


class DocumentEncoder:
    """Encodes values as nodes of a document, and collects their arrays.

    Parameters
    ----------
    kinds : dict of Kind
        By name; the first that holds a value writes it.

    Attributes
    ----------
    arrays : dict of array
        By their paths in the document.
    notes : dict
        What the functions of kinds remember from one value to the next.
    """

    takes_objects = False  # or what has no kind is kept as it is

    def __init__(self, kinds):
        self.kinds = kinds
        self.arrays = {}
        self.notes = {}

    def write(self, value, path):
        """The node of a value at `path`."""
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
            f"{path} is of type {type(value).__module__}.{type(value).__qualname__}, which cannot "
            "be saved."
        )

    def add(self, array, path):
        """Store an array under its path, which becomes its name."""
        assert path not in self.arrays, path
        self.arrays[path] = array
        return path


class DocumentDecoder:
    """Decodes nodes; raises ValueError for everything that it does not know.

    Parameters
    ----------
    kinds : dict of Kind
    arrays : dict of array
        Each can be taken once; those that are left have not been read.
    n_bytes : int
        Size of the file: the values of a small one must not fill the memory.
    **notes : dict
        What the functions of kinds need to know.
    """

    def __init__(self, kinds, arrays, n_bytes=0, **notes):
        self.kinds = kinds
        self.arrays = dict(arrays)
        self.n_values = sum(array.size for array in arrays.values())
        self.n_bytes_left = FREE_BYTES + MAX_EXPANSION * n_bytes
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
        self.spend(kind.n_bytes)
        return kind.read(self, *(node[key] for key in kind.keys))

    def spend(self, n_bytes):
        """Count the memory of values; raise ValueError if it is too much for the file."""
        self.n_bytes_left -= n_bytes
        if self.n_bytes_left < 0:
            raise ValueError("its values would take far more memory than the file")

    def take(self, name):
        """The array of a name, which is removed from those that are left."""
        if not isinstance(name, str) or name not in self.arrays:
            raise ValueError(f"it has no unread array {name!r}")
        return self.arrays.pop(name)


def expect(value, *types):
    """Return the value if its type is one of `types`, else raise ValueError."""
    if type(value) not in types:
        raise ValueError(f"it holds {value!r:.60} where {types[0].__name__} was expected")
    return value


def is_exactly(*types):
    """A function that says whether the type of a value is one of `types`, not a subclass."""
    return lambda value: type(value) in types


def as_text(cls, parse, format_value=str):
    """A kind of values that are written as text."""
    return Kind(
        ("text",),
        is_exactly(cls),
        lambda encoder, value, path: (format_value(value),),
        lambda decoder, text: parse(expect(text, str)),
    )


class FileNames:
    """Translates attributes that were renamed after their names in files were fixed.

    Parameters
    ----------
    renamed : dict of str to str
        Names in files by names in code, where they differ.

    Notes
    -----
    Cached properties are written to files, and left out of states, which use must not change.
    """

    def __init__(self, renamed):
        self.in_files = dict(renamed)
        self.in_code = {old: new for new, old in renamed.items()}

    def to_file(self, named):
        """The same dict with the names of files."""
        return {self.in_files.get(name, name): value for name, value in named.items()}

    def from_file(self, named):
        """The same dict with the names of code; names that no file has raise ValueError."""
        unknown = sorted(set(named) & set(self.in_files) - set(self.in_code))
        if unknown:
            raise ValueError(f"it holds the unknown names {unknown}")
        return {self.in_code.get(name, name): value for name, value in named.items()}


def record(cls, names, renamed=None):
    """A kind of objects that are given by their attributes, read without calling their code.

    Parameters
    ----------
    cls : type
    names : iterable of str
        Attributes that an object may have.
    renamed : dict of str to str, default=None
        Names in files by names in code, where they differ.

    Notes
    -----
    Cached properties are written to files, and left out of states, which use must not change.
    """
    known, in_files = set(names), FileNames(renamed or {})
    cached = {name for name in known if isinstance(getattr(cls, name, None), cached_property)}

    def write(encoder, value, path):
        unknown = sorted(set(vars(value)) - known)
        if unknown:
            raise TypeError(f"{path} has the attributes {unknown}, which cannot be saved.")
        skipped = cached if encoder.takes_objects else ()  # files of all versions hold them
        items = {name: item for name, item in vars(value).items() if name not in skipped}
        items = in_files.to_file(items)
        return ([[name, encoder.write(item, f"{path}.{name}")] for name, item in items.items()],)

    def read(decoder, items):
        state = in_files.from_file(read_pairs(decoder, items))
        unknown = sorted(set(state) - known)
        if unknown:
            raise ValueError(f"a {cls.__name__} has the attributes {unknown}")
        value = cls.__new__(cls)
        vars(value).update(state)
        return value

    return Kind(("items",), is_exactly(cls), write, read)


def read_pairs(decoder, pairs):
    """A dict of values by their names; raise ValueError if one occurs twice."""
    for pair in expect(pairs, list):
        if len(expect(pair, list)) != 2:
            raise ValueError(f"it holds {pair!r:.60} where a name and a value were expected")
    named = {expect(name, str): decoder.read(node) for name, node in pairs}
    if len(named) < len(pairs):
        raise ValueError("it holds a name twice")
    return named
