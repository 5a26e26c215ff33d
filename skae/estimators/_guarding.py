"""How the generator keeps values of few rows out of those that it draws."""

import numpy as np

from skae._data._encoded_rows import MappedRows
from skae._data._guarded_values import LEAST_SHARED, GuardedValues
from skae._data._sources import is_source


class GuardingMixin:
    """What becomes of values and levels of few rows with ``private_values=True``."""

    @property
    def _guards(self):
        """What may be drawn, or None; files and pickles of earlier versions lack it."""
        return vars(self).get("_guarded")

    def _learn_guarded(self, numbers):
        """Count the values of a table, if `private_values` asks for it."""
        return self._guarded_by([self._values_of(numbers)]) if self.private_values else None

    def _values_of(self, numbers):
        """The values of a table, or of a part of it, counted."""
        if self.likelihood != "auto":
            raise ValueError(
                f"private_values=True needs likelihood='auto'; got likelihood={self.likelihood!r}."
            )
        check_in_memory(numbers)
        return GuardedValues().learn(numbers, self._columns.n_levels)

    def _guarded_by(self, parts):
        """What may be drawn, by the values of all parts of a table."""
        guarded = GuardedValues.merged(parts)
        guarded.check(self._names_of_table)
        return guarded

    def _check_is_guarded(self):
        """Raise ValueError if `private_values` was set after ``fit``, which would do nothing."""
        if self.private_values and self._guards is None:
            raise ValueError(
                "private_values=True was set after fit, which did not count the values: fit again."
            )

    def _plain_columns(self):
        """Columns that are learned as they are: numbers of learned ones, and of the table's."""
        relations = self._relations
        plain = relations.plain - relations.lifted
        return [(i, key) for i, key in enumerate(relations.keys) if key in plain]

    def _reduced(self, numbers):
        """Rows as they are learned, the commonest level in place of those of few rows."""
        if is_source(numbers):
            if not self._relations.steps and self._guards is None:
                return numbers
            return MappedRows(numbers, self._reduced, len(self._relations.keys))
        reduced = self._relations.reduce(numbers)
        if self._guards is not None:
            coded = [pair for pair in self._plain_columns() if pair[1] in self._guards.level_counts]
            reduced = reduced.copy() if coded else reduced
            for i, key in coded:
                reduced[:, i] = self._guards.pooled(key, reduced[:, i])
        return reduced

    def _replace_rare(self, learned, rng):
        """Put other values in place of rare ones, in columns that are learned as they are."""
        for i, key in self._plain_columns():
            learned[:, i] = self._guards.replaced(key, learned[:, i], rng)

    def _may_be_shown(self, whole, request):
        """Which whole rows show no value or level of few rows that was not asked for."""
        if self._guards is None:
            return np.ones(len(whole), dtype=bool)
        return self._guards.allowed(whole, request.given)

    def _check_may_be_shown(self, j, name, value, wanted):
        """Raise ValueError if a condition asks for a level of few rows."""
        if self._guards is None or j not in self._guards.level_counts:
            return
        codes = np.array([wanted.low]) if wanted.values is None else wanted.values
        if self._guards.is_rare_level(j, codes).any():
            raise ValueError(
                f"conditions: column {name!r} cannot be {value!r}; with private_values=True, "
                f"levels of fewer than {LEAST_SHARED} rows are not drawn."
            )

    def _reason_of_guards(self):
        """What kept rows out besides conditions; the end of a sentence."""
        if self._guards is None:
            return "."
        return (
            f", or with private_values=True, which keeps out what {LEAST_SHARED} rows do not share."
        )


def check_in_memory(numbers):
    """Raise TypeError if the values to be counted are on disk."""
    if is_source(numbers):
        raise TypeError(
            f"X is {numbers!r}: private_values=True needs rows in memory. Pass X.read_all()."
        )
