"""Layouts of what the generator has learned of relations."""

from __future__ import annotations

import numpy as np

import skae._data._relation_rules as rules
import skae._data._relation_steps as steps
from skae._data._formulas import names_in
from skae._data._relation_units import Unit
from skae._data._relations import Relations
from skae._storage._layouts import (
    Attributes,
    Optional,
    array,
    flag,
    listing,
    maybe,
    number,
    of_type,
    one_of,
    text,
    whole,
)
from skae.relations import RELATIONS

KEY = whole(0)
KEYS = listing(KEY)


def _unit(value, path, sizes):
    of_type(Unit)(value, path, sizes)
    UNIT(value, path, sizes)


def _rule(value, path, sizes):
    of_type(*RULES)(value, path, sizes)
    RULES[type(value)](value, path, sizes)


def _step(value, path, sizes):
    of_type(*STEPS)(value, path, sizes)
    STEPS[type(value)](value, path, sizes)


def _formula_is_read(rule, path, sizes):
    if names_in(rule.expression) != rule.names or len(rule.names) != len(rule.keys):
        raise ValueError(f"{path}.names must be those in the expression {rule.expression!r:.60}")


def _has_unit_for_each(rule, path, sizes):
    keys, units = (rule.keys, rule.units) if hasattr(rule, "units") else (rule.lows, rule.low_units)
    if len(keys) != len(units) or not keys:
        raise ValueError(f"{path} must have a unit for each column; it has {len(units)}")


def _intervals_ascend(rule, path, sizes):
    ends = np.column_stack([rule.lows, rule.highs]).ravel()
    if not len(ends) or not (np.diff(ends) >= 0).all():
        raise ValueError(f"{path}.lows and {path}.highs must be ends of intervals in order")


def _combines(step, path, sizes):
    if step.combinations.shape[1] != len(step.keys) or not len(step.combinations):
        raise ValueError(f"{path}.combinations must have {len(step.keys)} columns and some rows")


UNIT = Attributes(
    {
        "kind": one_of("number", "flag", "level", "date", "lapse", "other"),
        "offset": number(),
        "scale": number(1e-300),
        "decimals": maybe(whole(0, 6)),
        "is_single": flag,
    }
)
RULES = {
    rules.SumRule: Attributes({"keys": KEYS, "units": listing(_unit)}, _has_unit_for_each),
    rules.FormulaRule: Attributes(
        {"expression": text, "keys": KEYS, "names": listing(text)}, _formula_is_read
    ),
    rules.LookupRule: Attributes(
        {
            "key": KEY,
            "lows": array("f8", "n_intervals"),
            "highs": array("f8", "n_intervals"),
            "results": array("f8", "n_intervals", special="nan"),
            "at_missing": number(finite=False),
        },
        _intervals_ascend,
    ),
}
STEPS = {
    steps.DerivedStep: Attributes(
        {
            "key": KEY,
            "unit": _unit,
            "rule": _rule,
            "alone": maybe(KEY),
            "gap": maybe(KEY),
            "met": maybe(array("f8", "n_met", special="nan")),
            "ends": Optional(maybe(array("f8", 2))),
        }
    ),
    steps.InequalityStep: Attributes(
        {
            "key": KEY,
            "lows": KEYS,
            "unit": _unit,
            "low_units": listing(_unit),
            "strictly": flag,
            "top": number(finite=False),
            "decimals": maybe(whole(0, 6)),
            "alone": maybe(KEY),
            "gap": maybe(KEY),
            "has_gaps": flag,
            "is_lifted": flag,
        },
        _has_unit_for_each,
    ),
    steps.CombinationStep: Attributes(
        {"keys": KEYS, "combinations": array("f8", "n_combinations", "n_columns", special="nan")},
        _combines,
    ),
    steps.GapStep: Attributes(
        {
            "key": KEY,
            "by": KEY,
            "values": array("f8", "n_values", special="nan"),
            "low": Optional(number(finite=False)),
            "high": Optional(number(finite=False)),
        }
    ),
    steps.DayStep: Attributes({"key": KEY}),
}


def _steps_fit(relations, path, sizes):
    """Each step finds its columns, and what is left is what the model learns."""
    keys = dict.fromkeys(range(relations.n_features))
    for i, step in enumerate(relations.steps):
        added = {getattr(step, "alone", None), getattr(step, "gap", None)} - {None}
        if not set(keys) >= {*step.reads, *step.derives} or added & set(keys):
            raise ValueError(f"{path}.steps.{i} reads columns that there are not")
        gone = step.derives if isinstance(step, steps.DerivedStep) else []
        gone = step.keys[1:] if isinstance(step, steps.CombinationStep) else gone
        for key in gone:
            del keys[key]
        keys |= dict.fromkeys(sorted(added))
    if list(keys) != relations.keys or len(relations.n_levels) != len(keys):
        raise ValueError(f"{path}.keys must be {list(keys)}, as the steps leave them")


RELATION_LAYOUTS = {
    Relations: Attributes(
        {
            "found": listing(of_type(*RELATIONS)),
            "steps": listing(_step),
            "n_features": whole(1, size="d"),
            "n_levels": listing(whole(0)),
            "keys": KEYS,
            "unflagged": KEYS,
        },
        _steps_fit,
    ),
    Unit: UNIT,
    **RULES,
    **STEPS,
}
FIELDS_OF_RELATIONS = {cls.__name__: (cls, tuple(cls.__dataclass_fields__)) for cls in RELATIONS}
