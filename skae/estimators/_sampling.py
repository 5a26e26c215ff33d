"""How the generator draws rows: latents, conditions, targets, candidates."""

from dataclasses import dataclass, field
from functools import partial
from numbers import Integral

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from skae._data._targets import target_column
from skae.exceptions import warn_user

# Rows and cells drawn at once.
ROWS_AT_ONCE, CELLS_AT_ONCE = 2**16, 2**22
# Rows that are drawn for one that is given out, where a refiner chooses.
CANDIDATES_TO_REFINE = 8
# Latents that are weighed against conditions, per row drawn, and at least and at most.
CANDIDATES_PER_ROW, MIN_CANDIDATES, MAX_CANDIDATES = 20, 20_000, 200_000
# The same for each of many targets.
LEAST_CANDIDATES = 500
# Fewer effective candidates per row wanted, or fewer at all, are worth a warning.
MIN_EFFECTIVE_SHARE, MIN_EFFECTIVE_SIZE = 0.5, 10


@dataclass
class Request:
    """What the rows of one call of ``sample`` have in common.

    Attributes
    ----------
    cells : dict of int to float
        Numbers and codes that are fixed, by column.
    targets_are_given : bool
        Whether the user chose the targets that rows are for.
    effective : list of float
        Effective sample sizes of the latents that went with `cells`, batch by batch.
    """

    cells: dict = field(default_factory=dict)
    targets_are_given: bool = False
    effective: list = field(default_factory=list)


class SamplingMixin:
    """Rows out of latents, of the fitted parts together."""

    def _draw_latents(self, codes, rng):
        """One latent for each target, from its mixture."""
        z = rng.normal(size=(len(codes), self.n_components_))
        if self.prior_ is None:
            return z
        groups = np.zeros(len(codes), dtype=int)
        if self.conditional:
            groups = self._targets.groups(codes)
        cumulative = np.cumsum(self._group_weights, axis=1)[groups]
        component = (rng.uniform(size=(len(groups), 1)) > cumulative[:, :-1]).sum(axis=1)
        roots = np.linalg.cholesky(self.prior_.covariances_)
        for c in np.unique(component):
            z[component == c] = self.prior_.means_[c] + z[component == c] @ roots[c].T
        return z

    def _number_to_draw(self, n_samples, y):
        """Number of rows, checked; that of `y` where it has a value for each row."""
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive integer.")
        self._check_targets_are_known(y)
        if y is None or np.ndim(y) == 0:
            return int(n_samples)
        n_wanted = len(target_column(y))
        if n_samples not in (1, n_wanted):
            raise ValueError(f"n_samples={n_samples} does not fit y, which has {n_wanted} values.")
        return n_wanted

    def _check_targets_are_known(self, y):
        if y is not None and not self.conditional:
            raise ValueError(
                "y is given, but the model was fitted without it: fit again with conditional=True."
            )

    def _codes_to_draw(self, n_samples, y, rng):
        """Codes of the targets that rows are drawn for; NaN without targets."""
        if not self.conditional:
            return np.full(n_samples, np.nan)
        if y is None:
            return self._targets.draw(n_samples, rng)
        return self._targets.codes(np.broadcast_to(target_column(y), n_samples))

    @property
    def _n_candidates(self):
        """How many rows are drawn for one that is given out."""
        return 1 if self.refiner_ is None else CANDIDATES_TO_REFINE

    def _batches_of(self, n_rows, times=1):
        """Slices of rows, so many that a batch of them stays small when taken several times."""
        step = np.clip(CELLS_AT_ONCE // self.n_features_in_, 1000, ROWS_AT_ONCE)
        return gen_batches(n_rows, int(step) // times)

    def _draw(self, codes, request, rng):
        """Rows for targets; of several candidates for each, one by how real it looks."""
        X = np.empty((len(codes), self.n_features_in_))
        for batch in self._batches_of(len(codes), self._n_candidates):
            rows = self._candidates(np.repeat(codes[batch], self._n_candidates), request, rng)
            picked = np.arange(0, len(rows), self._n_candidates)
            if self.refiner_ is not None:
                # The largest of log-weights with Gumbel noise is a draw.
                noisy = self.refiner_.log_ratio(rows) + rng.gumbel(size=len(rows))
                picked = picked + noisy.reshape(len(picked), -1).argmax(axis=1)
            X[batch] = rows[picked, : self.n_features_in_]
        return X

    def _candidates(self, codes, request, rng):
        """Rows as the network draws them, beside the codes of their targets."""
        if not request.cells:
            z = self._draw_latents(codes, rng)
        elif request.targets_are_given:
            z = np.empty((len(codes), self.n_components_))
            distinct = np.unique(codes)
            for code in distinct:
                mask = codes == code
                z[mask], _ = self._latents_given(request, codes[mask], rng, len(distinct))
        else:  # which targets go with the cells is found with the latents
            z, codes = self._latents_given(request, codes, rng)
        X = np.empty((len(z), self.n_features_in_))
        for span, drawn in self.net_.draw_rows(
            self._with_target_columns(z, codes), rng.randint(2**31 - 1)
        ):
            X[span] = self._scaler.inverse_transform(drawn)
        X[:, list(request.cells)] = list(request.cells.values())
        return np.column_stack([X, codes]) if self.conditional else X

    def _with_target_columns(self, z, codes):
        """Latents beside what the decoder reads of the targets."""
        return np.hstack([z, self._targets.columns(codes)]) if self.conditional else z

    def _condition_cells(self, conditions):
        """Numbers and codes that `conditions` asks for, by column."""
        if self.likelihood != "auto":
            raise ValueError(
                f"conditions need likelihood='auto'; got likelihood={self.likelihood!r}."
            )
        cells = {}
        for name, value in _items(conditions):
            j = self._column_number(name)
            if np.ndim(value) or isinstance(value, slice | set | dict):
                raise ValueError(f"conditions: column {name!r} must get one value; got {value!r}.")
            try:
                number = self._columns.encode_value(j, value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"conditions: {error}") from error
            reason = self._scaler.reason_invalid(j, number, partial(self._columns.decode_value, j))
            if reason is not None:
                raise ValueError(f"conditions: column {name!r} cannot be {value!r}; {reason}.")
            cells[j] = number
        return cells

    def _column_number(self, name):
        names = self._columns.names
        if not self._columns.is_frame and hasattr(self, "feature_names_in_"):
            names = self.feature_names_in_.tolist()
        if name not in names:
            raise ValueError(f"conditions: there is no column {name!r}; columns are {names}.")
        return names.index(name)

    def _latents_given(self, request, codes, rng, n_parts=1):
        """Latents (and targets) resampled by how likely they make the fixed cells."""
        n_samples = len(codes)
        least = max(MIN_CANDIDATES // n_parts, LEAST_CANDIDATES)
        n_candidates = np.clip(CANDIDATES_PER_ROW * n_samples, least, MAX_CANDIDATES)
        codes = codes[rng.randint(n_samples, size=n_candidates)]
        z = self._draw_latents(codes, rng)
        row = self._scaler.partial_row(request.cells)
        log_weights = self.net_.likelihood_rows(self._with_target_columns(z, codes), row).astype(
            np.float64
        )
        log_weights -= logsumexp(log_weights)
        request.effective.append(float(np.exp(-logsumexp(2 * log_weights))))
        picked = rng.choice(n_candidates, n_samples, p=np.exp(log_weights))
        return z[picked], codes[picked]


def warn_if_rare(request, n_samples):
    """Warn if few latents stand behind the rows of a call of ``sample``."""
    effective = sum(request.effective)
    if request.cells and effective < max(MIN_EFFECTIVE_SIZE, MIN_EFFECTIVE_SHARE * n_samples):
        warn_user(
            f"Rows with these conditions are rare: {n_samples} rows come from an effective sample "
            f"of {effective:.0f} latents, so many are alike.",
        )


def _items(conditions):
    """Names and values of a dict or of a frame of one row."""
    if hasattr(conditions, "columns"):
        if len(conditions) != 1:
            raise ValueError(f"conditions must be one row; got {len(conditions)} rows.")
        row = conditions.rows()[0] if hasattr(conditions, "rows") else conditions.iloc[0]
        return list(zip(conditions.columns, list(row), strict=True))
    if not hasattr(conditions, "items"):
        raise TypeError(
            f"conditions={conditions!r} must be a dict of columns to values, or a frame of one row."
        )
    return list(conditions.items())
