"""Attributes that other packages look up in estimators, filled in by modules that import them."""

import sys
from functools import partial

# Functions of an estimator, by the names of these attributes.
IMPLEMENTATIONS = {}


class OptionalMethod:
    """An attribute that only instances have, and only once a package has been imported.

    Parameters
    ----------
    package : str
        The package that looks it up.
    """

    def __init__(self, package):
        self.package = package

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        if instance is None or self.package not in sys.modules or self.name not in IMPLEMENTATIONS:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}")
        return partial(IMPLEMENTATIONS[self.name], instance)

    def __set__(self, instance, value):  # without it, inspect and pydoc show a method
        raise AttributeError(f"{self.name!r} is read-only")
