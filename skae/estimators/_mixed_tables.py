"""The door for tables that hold more than numbers, and what their networks are made of."""

from functools import partial

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skae._data._frames import Columns
from skae._data._mixed import kinds_of_columns
from skae._data._sources import is_source
from skae._data._survey import MissingCellsError
from skae._data._tables import as_table, plain
from skae._data._validation import check_input, rows_with_weight, to_compute_array
from skae._engine._losses import MixedObjective, Objective
from skae.estimators._checks import check_values
from skae.estimators._tables_on_disk import (
    encoded_rows,
    examples_of,
    is_table_of_numbers,
    learned_from,
)
from skae.networks._autoencoder import OutputLink
from skae.networks._levels import MixedOutput


class TablesMixin:
    """How an estimator with the parameter `categorical_features` reads and gives back tables.

    A table of numbers without gaps is read as it is. Any other, a mixed table, becomes rows of
    numbers, ticks of dates and codes of levels, with NaN where a cell is missing. What encodes
    these rows for the network, a scaler, and what the network gives out, is the estimator's affair.
    """

    _columns = None  # of a mixed table
    _reads_gaps = False  # in tables of numbers, too: they are no mixed tables then
    _declared = "gap"  # what a level is that a dtype declares, but no training row had

    @property
    def _keeps_tensors(self):
        return self._columns is None  # columns need NumPy

    @property
    def _may_miss_cells(self):
        return self._columns is not None or super()._may_miss_cells

    def _check_training_rows(self, X, y_or_clean, sample_weight, *, reset):
        may_drop = reset and sample_weight is not None and not is_source(X)
        if may_drop and is_mixed_table(X, self):
            # Levels and dates of rows without weight are not learned.
            X, y_or_clean, sample_weight = rows_with_weight(X, y_or_clean, sample_weight)
        check = super()._check_training_rows
        try:
            return check(X, y_or_clean, sample_weight, reset=reset)
        except MissingCellsError:
            if not reset or not is_table_of_numbers(X):
                raise
        return check(X.with_gaps, y_or_clean, sample_weight, reset=reset)

    def _check_rows(self, X, *, reset):
        """Numbers, ticks and codes of a mixed table; a table of numbers stays as it is."""
        if reset:
            columns = self._learn_table(X)
            vars(self).pop("_columns", None)
            if columns is not None:
                self._columns = columns
        if self._columns is None:
            try:
                return super()._check_rows(X, reset=reset)
            except ValueError as error:
                if reset or self._reads_gaps or "contains NaN" not in str(error):
                    raise
                raise ValueError(
                    "Input X contains NaN, but no cell was missing in fit: fit the estimator to "
                    "rows with missing cells, or fill them before."
                ) from error
        X, _ = to_compute_array(X, keep_tensors=False)
        return numbers_of_columns(self, X, reset=reset, declared=self._declared)

    def _learn_table(self, X):
        """The columns of a mixed table, or None."""
        X, features = as_table(X), self.categorical_features

        def learn(table):
            kinds = kinds_of_columns(table, features, self._reads_gaps)
            return None if kinds is None else learn_columns(self, table, kinds)

        if not is_source(X):
            return learn(X)
        examples = self._examples(X)
        return None if examples is None else learned_from(examples, learn)

    def _examples(self, X):
        """Rows that the columns of a table on disk are learned from; None if all hold numbers."""
        return examples_of(X, self.categorical_features, reads_gaps=self._reads_gaps)

    def _show_number(self, j, number):
        if self._columns is None or not self._columns.is_date(j):
            return super()._show_number(j, number)
        return self._columns.decode_value(j, number)

    def _unscaled(self, pieces, X):
        if self._columns is None:
            return super()._unscaled(pieces, X)
        dtype = X.dtype if holds_numbers(self) else np.float64  # ticks need it
        numbers = np.empty((X.shape[0], self.n_features_in_), dtype)
        for rows, scaled in pieces:
            self._scaler.inverse_transform(scaled, out=numbers[rows])
        return numbers

    def _wrap_output(self, rows, to_input_type, like=None):
        """Rows in the container they came in; a frame keeps the index of the one given."""
        if holds_numbers(self):
            return super()._wrap_output(rows, to_input_type, like)
        restored = self._columns.restore(rows, like)
        return to_input_type(restored) if self._columns.container == "array" else restored


def learn_columns(model, X, kinds):
    """Learn the columns of a table, of which `kinds` says which hold levels."""
    X, _ = to_compute_array(X, keep_tensors=False)
    columns = Columns(X, kinds)
    for column, is_level in zip(columns.columns, kinds or (), strict=False):
        if column.levels and is_level is False:
            named = model.categorical_features
            rule = "reads no levels" if named is None else "must name all columns of levels"
            raise ValueError(
                f"Column {column.name!r} of X holds {plain(column.levels[0])!r}, but must hold "
                f"numbers or dates: categorical_features={named!r} {rule}."
            )
    return columns


def numbers_of_columns(model, X, *, reset, declared, marker=np.nan):
    """Numbers, ticks and codes of a table, by the columns of a model; validated."""
    if is_source(X):
        return encoded_rows(model, X, reset=reset, declared=declared, marker=marker)
    validate_data(model, X, skip_check_array=True, reset=reset)
    numbers = check_input(
        partial(check_array, estimator=model),
        model._columns.to_numbers(X, declared=declared),
        marker=marker,
        ensure_min_samples=2 if reset else 1,
        input_name="X",
    )
    check_values(model, numbers, None if reset else model._largest_read)
    return numbers


def is_mixed_table(X, model):
    """Whether X holds levels, dates or gaps, as the parameters of a model have it."""
    kinds = kinds_of_columns(as_table(X), model.categorical_features, model._reads_gaps)
    return kinds is not None


def holds_numbers(model):
    """Whether the table of `fit` held nothing but numbers, and perhaps gaps."""
    return model._columns is None or not any(
        column.levels or column.origin is not None for column in model._columns.columns
    )


def make_link(model, activation="identity"):
    """What bounds reconstructions, in the units of scaled rows, or gives levels probabilities."""
    scaler = model._scaler
    if model._columns is not None:
        return MixedOutput.of(scaler)
    return OutputLink(activation, scaler.center_, scaler.scale_)


def make_objective(model, *, missing=True, **settings):
    """What training minimises; `missing` says whether cells of tables of numbers may be."""
    if model._columns is not None:
        return MixedObjective(model._scaler.cell_weights, model.n_features_in_, **settings)
    return Objective(missing=missing, **settings)
