"""How the fitted parts of a denoiser clean rows."""

import threading

import numpy as np

from skae._data._arrays import (
    as_array,
    asarray_like,
    empty,
    namespace,
    output_dtype,
    write_pieces,
)
from skae._data._chunks import as_dense, row_chunks
from skae._data._fitted_arrays import numpy_array
from skae._stats._scoring import share_explained
from skae.estimators._limits import limits_of_columns
from skae.estimators._table_cleaning import N_SCORE_ROUNDS, clean_table, share_filled

_count_lock = threading.Lock()


class CleaningMixin:
    """What the fitted parts of a denoiser compute together, and what its parameters mean there."""

    @property
    def _keeps_observed(self):
        """Whether observed cells come back as they are."""
        return self._only_fills if self.keep_observed == "auto" else self.keep_observed

    @property
    def _kept_columns(self):
        """Numbers of the columns that ``transform`` returns."""
        return np.flatnonzero(~self._empty | self.keep_empty_features)

    def _denoise(self, X, draws=None):
        """Rows without gaps, all columns; missing cells are drawn if `draws` is a generator."""
        if self._columns is not None:
            return clean_table(self, X, draws)
        xp, scaler = namespace(X), self._scaler.on_device_of(X)
        out = empty(X.shape, X)
        out[:] = as_dense(X)
        missing = xp.isnan(out)
        keep = self._keeps_observed
        # Rows without gaps are skipped where they come back as they are.
        wanted = xp.any(missing, axis=1) if keep else xp.ones_like(missing[:, 0])
        chosen = xp.nonzero(wanted)[0]
        kept = asarray_like(keep | self._empty, X)
        equal = scaler.data_min_ == scaler.data_max_
        equals = asarray_like(
            scaler.data_min_[equal], X, out.dtype
        )  # zero where there was no value
        doubt = asarray_like(1 - numpy_array(self, "observed_blend_"), X, out.dtype)
        feed = self._feed(None)
        for span, inputs, output in self.net_.denoised_rows(self._rows(X, chosen)):
            rows = chosen[span]
            gaps = missing[rows]
            fill = feed.input_transform.filled(inputs)
            cleaned = xp.where(gaps, fill + self.blend_ * (output - fill), output)
            if draws is not None:
                scaled = as_array(scaler.transform(as_dense(X[rows])))
                cleaned += asarray_like(self._spread * feed.deviations(scaled, draws), X)
            cleaned = scaler.inverse_transform(cleaned, out.dtype)
            if not self._only_fills:
                cleaned += xp.where(gaps, 0.0, doubt * (out[rows] - cleaned))
            cleaned[:, equal] = equals
            out[rows] = xp.where(~gaps & kept, out[rows], cleaned)
        limits = limits_of_columns(self)
        if limits is None:
            return out
        low, high = (asarray_like(limit, X, out.dtype) for limit in limits)
        return xp.where(missing, xp.clip(out, low, high), out)

    def _share_explained(self, X, clean, sample_weight):
        """Share explained of the cells that are hidden in turn, or of `clean` rows if given."""
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        if self._columns is not None:
            return share_filled(self, X, clean, weights)
        sums, draws = np.zeros(2), np.random.RandomState(0)
        for span, rows in row_chunks(X):
            truth = as_dense((X if clean is None else clean)[span]).astype(np.float64)
            output = self._fill_hidden(rows, draws) if clean is None else self._denoise(rows)
            for i, guess in enumerate((output, self._scaler.mean_)):
                # Cells whose truth is unknown do not count.
                errors = np.nan_to_num(truth - guess)[:, ~self._empty] / self._scaler.unit
                sums[i] += weights[span] @ np.square(errors).sum(axis=1)
        return share_explained(*sums)

    def _fill_hidden(self, rows, draws):
        """Each cell as it is filled when it and a fifth of the others are hidden."""
        rows = rows.astype(output_dtype(rows), copy=False)
        rounds = draws.randint(N_SCORE_ROUNDS, size=rows.shape)
        out = rows.copy()
        for hidden in (rounds == i for i in range(N_SCORE_ROUNDS)):
            out[hidden] = self._denoise(np.where(hidden, np.nan, rows))[hidden]
        return out

    def _new_draws(self):
        """A generator of its own for each call: calls differ, and threads share none."""
        with _count_lock:
            n_before, self._n_draws = self._n_draws, self._n_draws + 1
        return np.random.default_rng([self._draw_seed, n_before])

    def _activations(self, X):
        out = empty((X.shape[0], self._n_hidden(X[:1])), X)
        return write_pieces(out, self.net_.hidden_rows(self._rows(X)))

    def _indicators(self, X):
        out, columns = empty((X.shape[0], len(self._columns_with_gaps)), X), self._columns_with_gaps
        missing = ((span, namespace(X).isnan(chunk[:, columns])) for span, chunk in row_chunks(X))
        return write_pieces(out, missing)

    def _n_hidden(self, row):
        return sum(hidden.shape[1] for _, hidden in self.net_.hidden_rows(self._rows(row)))
