"""How the generator keeps relations between the columns of a table."""

import numpy as np

from skae._data._chunks import is_memory_map
from skae._data._relations import Relations
from skae._data._relations_on_disk import relations_on_disk
from skae._data._sources import is_source
from skae._data._tables import as_table
from skae._stats._fidelity import MAX_ROWS, fidelity


class RelationsMixin:
    """What the generator learns of relations, and what it says of them."""

    @property
    def _relations(self):
        """What was learned of relations; files and pickles of earlier versions lack it."""
        return vars(self).get("_kept_relations") or Relations(self._columns.n_levels)

    @property
    def relations_(self):
        """Relations that all rows obey."""
        return list(self._relations.found)

    def _unless_broken(self, X, log_density):
        """Log-densities of rows; minus infinity where a row breaks a relation.

        A level that was declared, but in no training row, counts as one that one row had.
        """
        if self._columns.is_frame and self._columns.declares_more:
            n_unseen = self._columns.n_unseen(as_table(X))
            log_density = log_density - n_unseen * np.log(self.n_samples_seen_)
        if not self._relations.steps:
            return log_density
        return np.where(
            self._relations.hold(self._check_table(X, reset=False)), log_density, -np.inf
        )

    @property
    def _names_of_table(self):
        """Names of the columns of the table, or their numbers."""
        if not self._columns.is_frame and hasattr(self, "feature_names_in_"):
            return self.feature_names_in_.tolist()
        return self._columns.names

    @property
    def _names_read(self):
        """Names of the columns that are learned, after the columns that they stand for."""
        names = super()._names_read
        sources = self._relations.sources
        return sources if names is None else [names[j] for j in sources]

    def _show_number(self, j, number):
        key = self._relations.keys[j]
        if key in self._relations.plain and self._columns.is_date(key):
            return self._columns.decode_value(key, number)
        return super()._show_number(j, number)

    def _learn_relations(self, numbers):
        """Relations that are given, or found; none in images, sparse rows and files of arrays."""
        if self.relations is None:
            return None
        is_array = isinstance(numbers, np.ndarray) and not is_memory_map(numbers)
        is_dense = is_array or (is_source(numbers) and self._columns.is_frame)
        if isinstance(self.relations, str):
            if self.likelihood != "auto" or not is_dense:
                return None
        elif self.relations and self.likelihood != "auto":
            raise ValueError(
                f"relations={self.relations!r} needs likelihood='auto'; got "
                f"likelihood={self.likelihood!r}."
            )
        if is_source(numbers):
            return relations_on_disk(self.relations, self._columns, numbers)
        relations = Relations(self._columns.n_levels)
        relations.learn(self.relations, self._columns, numbers)
        return relations if relations.steps else None

    def _fidelity(self, X_held_out, X_train, rng):
        """Compare whole rows that are drawn with held-out ones."""
        held_out = self._numbers(X_held_out)
        train = getattr(self, "_rows_kept", None)
        if X_train is not None:
            train = self._numbers(X_train)
        elif train is not None:
            train = self._relations.restore(train)
        new = self._numbers(self.sample(min(len(held_out), MAX_ROWS), random_state=rng))
        return fidelity(new, held_out, train, np.asarray(self._columns.n_levels) > 0, rng)
