"""Arithmetic of columns, written as text: parsed and computed without running its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

MAX_LENGTH = 1000
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
}
FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    **{name: (getattr(np, name), 1) for name in ("abs", "floor", "ceil", "sqrt", "exp", "log")},
    "round": (np.rint, 1),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
}


def quoted(name: str) -> str:
    """A name of a column as it is written in an expression."""
    return name if name.isidentifier() and name not in FUNCTIONS else f"`{name}`"


def names_in(expression: str) -> list[str]:
    """Names of the columns in an expression, in the order they occur."""
    tree, names = parsed(expression)
    found = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in FUNCTIONS]
    return list(dict.fromkeys(names.get(name, name) for name in found))


def evaluate(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression of arrays by their names."""
    tree, names = parsed(expression)

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return variables[names.get(name, name)]
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(op=op, operand=operand):
                return OPERATORS[type(op)](value(operand))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return FUNCTIONS[name][0](*map(value, arguments))
        raise AssertionError(node)  # `parsed` has refused it

    with np.errstate(all="ignore"):
        return value(tree)


@cache
def parsed(expression: str) -> tuple[ast.AST, dict[str, str]]:
    """The tree of an expression, and names in backticks by what stands for them.

    Raise ValueError if there is more in it than `OPERATORS`, `FUNCTIONS`, names and numbers.
    """
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        return next((k for k, v in names.items() if v == match[1]), None) or _add(names, match[1])

    text = re.sub(r"`([^`]*)`", stand_in, expression)
    try:
        if len(expression) > MAX_LENGTH:
            raise ValueError(f"it has more than {MAX_LENGTH} characters")
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"expression={expression!r} cannot be read: {error}.") from None
    return tree, names


def _add(names: dict[str, str], name: str) -> str:
    key = f"__quoted_{len(names)}"
    names[key] = name
    return key


def _check(node: ast.AST) -> None:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if not np.isfinite(float(number)):
                raise ValueError(f"{number} is not finite")
            return
        case ast.Name(id=name) if name not in FUNCTIONS:
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            _check(left)
            _check(right)
            return
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            _check(operand)
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) != FUNCTIONS[name][1]:
                raise ValueError(f"{name} takes {FUNCTIONS[name][1]} arguments")
            for argument in arguments:
                _check(argument)
            return
    raise ValueError(
        f"{ast.unparse(node)!r} is none of numbers, columns, + - * / // %, and the functions "
        f"{sorted(FUNCTIONS)}"
    )
