"""What rows to draw are asked for: cells, ranges, levels, and rows to complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from skae._data._tables import as_table

# Values of conditions on columns that relations determine are met to this relative error.
TOLERANCE = 1e-9


@dataclass
class Wanted:
    """What the numbers of a column may be.

    Attributes
    ----------
    low, high : float
        Both ends are allowed; NaN asks for missing cells.
    values : ndarray or None
        The numbers allowed, in place of the ends.
    """

    low: float = -np.inf
    high: float = np.inf
    values: np.ndarray | None = None

    @property
    def is_one(self):
        """Whether one number is wanted, or a missing cell."""
        return self.values is None and (self.low == self.high or np.isnan(self.low))

    def met(self, x):
        """Which of some numbers are wanted."""
        if self.values is not None:
            return np.isin(x, self.values) | (np.isnan(x) & np.isnan(self.values).any())
        if np.isnan(self.low):
            return np.isnan(x)
        slack = TOLERANCE * abs(self.low) if self.is_one else 0.0
        return (x >= self.low - slack) & (x <= self.high + slack)


@dataclass
class Request:
    """What the rows of one call of ``sample`` have in common.

    Attributes
    ----------
    cells : dict of int to float
        Numbers and codes that are fixed, by column that the model learns.
    solved : list of (int, float)
        Columns that relations determine, and the numbers that others are solved for.
    tests : dict of int to Wanted
        What else is asked of columns of the table.
    given : set of int
        Columns of the table of which values are given, not only ranges.
    targets_are_given : bool
        Whether the user chose the targets that rows are for.
    effective : list of float
        Effective sample sizes of what went with `cells` and `solved`, batch by batch.
    n_parts : int
        Number of requests that rows are drawn for.
    asked : dict
        The conditions as the user gave them.
    weighed : dict
        Latents weighed against `cells` for the present batch, so that rows drawn anew cost little.
    """

    cells: dict = field(default_factory=dict)
    solved: list = field(default_factory=list)
    tests: dict = field(default_factory=dict)
    given: set = field(default_factory=set)
    targets_are_given: bool = False
    effective: list = field(default_factory=list)
    n_parts: int = 1
    asked: dict = field(default_factory=dict)
    weighed: dict = field(default_factory=dict)

    def check_some_pass(self, n_passed, n_drawn, end="."):
        """Raise ValueError that says what none of the rows drawn is, and ends as given."""
        if not n_passed and not self.asked:
            raise ValueError(
                f"private_values=True: of {n_drawn} rows drawn none may be shown, as relations tie "
                "rare values together. Leave columns of rare values out, round them, or set "
                "relations=None."
            )
        if not n_passed:
            raise ValueError(
                f"conditions: of {n_drawn} rows drawn none meets them, {self.asked!r:.500}; they "
                f"hardly go together{end}"
            )

    def met(self, rows):
        """Which whole rows pass the tests."""
        out = np.ones(len(rows), dtype=bool)
        for j, wanted in self.tests.items():
            out &= wanted.met(rows[:, j])
        return out


def _key(cell):
    """What equal cells of rows share; missing ones are equal, and lists may be keys."""
    if np.ndim(cell) or isinstance(cell, set | frozenset):
        return type(cell), tuple(map(_key, cell))
    same = cell == cell
    return cell if isinstance(same, bool | np.bool_) and same else None


class ConditionsMixin:
    """Reads conditions on columns of the table, and says what they mean for those learned."""

    def _requests(self, conditions, targets_are_given):
        """Pairs of the rows of the result and what is asked of them."""
        if conditions is None:
            return [(slice(None), Request(targets_are_given=targets_are_given))]
        self._check_conditions_are_taken()
        if not isinstance(conditions, Mapping):
            conditions = as_table(conditions, "conditions")
        if not hasattr(conditions, "columns"):
            if not hasattr(conditions, "items"):
                raise TypeError(
                    f"conditions={conditions!r} must be a dict of columns to values, or a frame."
                )
            rows = [tuple(conditions.values())]
            names = list(conditions)
        else:
            names = list(conditions.columns)
            is_polars = hasattr(conditions, "rows")
            rows = (
                conditions.rows()
                if is_polars
                else list(zip(*(conditions[name] for name in names), strict=True))
            )
        if len(rows) == 1:
            request = self._request(names, rows[0])
            request.targets_are_given = targets_are_given
            return [(slice(None), request)]
        groups = {}
        for i, row in enumerate(rows):
            groups.setdefault(tuple(map(_key, row)), []).append(i)
        requests = [(np.array(at), self._request(names, rows[at[0]])) for at in groups.values()]
        for _, request in requests:
            request.targets_are_given, request.n_parts = targets_are_given, len(requests)
        return requests

    def _check_conditions_are_taken(self):
        if self.likelihood != "auto":
            raise ValueError(
                f"conditions need likelihood='auto'; got likelihood={self.likelihood!r}."
            )

    def _request(self, names, row):
        """What is asked of rows by the values of some columns."""
        request = Request(asked=dict(zip(names, row, strict=True)))
        relations = self._relations
        by_column = {}
        for name, value in zip(names, row, strict=True):
            j = self._column_number(name)
            by_column[j] = name, value, self._wanted(j, name, value)
        for j, (name, value, wanted) in by_column.items():
            self._check_may_be_shown(j, name, value, wanted)
            if wanted.is_one or wanted.values is not None:
                request.given.add(j)
            is_learned = j in relations.plain
            if is_learned:
                self._check_can_be(relations.keys.index(j), j, name, value, wanted)
            if is_learned and wanted.is_one:
                request.cells[relations.keys.index(j)] = wanted.low
                if j not in relations.lifted:
                    continue
            request.tests[j] = wanted
            if wanted.is_one and not np.isnan(wanted.low) and relations.can_solve(j):
                request.solved.append((j, wanted.low))
        wanted_of = {j: wanted.met for j, (_, _, wanted) in by_column.items()}
        for key, codes in relations.codes_where(wanted_of):
            if not len(codes):
                raise ValueError(
                    f"conditions: the values of {[name for name, *_ in by_column.values()]} "
                    f"never go together, as {relations.found} say."
                )
            if len(codes) == 1:
                request.cells[relations.keys.index(key)] = float(codes[0])
        return request

    def _wanted(self, j, name, value):
        """What a condition asks of column `j`."""
        is_level = bool(self._columns.levels(j))
        if isinstance(value, slice | dict):
            raise ValueError(
                f"conditions: column {name!r} must get a value, a tuple (low, high) or a list of "
                f"values; got {value!r}."
            )
        try:
            encode = partial(self._columns.encode_value, j)
            if isinstance(value, tuple) and not is_level:
                if len(value) != 2:
                    raise ValueError(
                        f"a range of column {name!r} must have two ends; got {value!r}"
                    )
                low, high = (
                    bound
                    if end is None or (isinstance(end, float) and end == bound)
                    else encode(end)
                    for end, bound in zip(value, (-np.inf, np.inf), strict=True)
                )
                if not low <= high:
                    raise ValueError(f"the range {value!r} of column {name!r} is empty")
                return Wanted(low, high)
            if np.ndim(value) or isinstance(value, set | frozenset):
                numbers = np.array([encode(each) for each in value], dtype=float)
                if not len(numbers):
                    raise ValueError(f"column {name!r} must get a value; got {value!r}")
                return Wanted(values=numbers) if len(numbers) > 1 else Wanted(*2 * numbers.tolist())
            number = encode(value)
            return Wanted(number, number)
        except (TypeError, ValueError) as error:
            raise ValueError(f"conditions: {error}") from error

    def _check_can_be(self, position, j, name, value, wanted):
        """Raise ValueError if a learned column cannot hold any of the numbers wanted."""
        decode = partial(self._columns.decode_value, j)
        if wanted.values is None and not wanted.is_one:
            column = self._scaler.columns_.get(position)
            if column is None or not wanted.met(column.values[[0, -1]]).any():
                inside = column is not None and wanted.low > column.values[0]
                if not (inside and wanted.high < column.values[-1]):
                    ends = [] if column is None else map(decode, column.values[[0, -1]])
                    raise ValueError(
                        f"conditions: column {name!r} cannot be in {value!r}; its numbers go from "
                        + " to ".join(ends)
                    )
            return
        numbers = [wanted.low] if wanted.is_one else wanted.values
        for number in numbers:
            reason = self._scaler.reason_invalid(position, number, decode)
            if reason is not None:
                raise ValueError(f"conditions: column {name!r} cannot be {value!r}; {reason}.")

    def _column_number(self, name):
        names = self._names_of_table
        if name not in names:
            raise ValueError(f"conditions: there is no column {name!r}; columns are {names}.")
        return names.index(name)
