"""How the generator draws rows: latents, conditions, targets, candidates."""

import warnings
from numbers import Integral

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import column_or_1d

# Rows drawn at once.
ROWS_AT_ONCE = 2**16
# Rows that are drawn for one that is given out, where a refiner chooses.
CANDIDATES_TO_REFINE = 8
# Latents that are weighed against conditions, per row wanted, and at least and at most.
CANDIDATES_PER_ROW, MIN_CANDIDATES, MAX_CANDIDATES = 20, 20_000, 200_000
# Fewer effective candidates per row wanted, or fewer at all, are worth a warning.
MIN_EFFECTIVE_SHARE, MIN_EFFECTIVE_SIZE = 0.5, 10


class DrawingMixin:
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
        """Number of rows, checked; that of `y` where one is told for each."""
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive integer.")
        if y is not None and not self.conditional:
            raise ValueError("y is given, but nothing was learned of it: conditional=False.")
        if y is None or np.ndim(y) == 0:
            return int(n_samples)
        n_wanted = len(column_or_1d(y))
        if n_samples not in (1, n_wanted):
            raise ValueError(f"n_samples={n_samples} does not fit y, which has {n_wanted} values.")
        return n_wanted

    def _codes_to_draw(self, n_samples, y, rng):
        """Codes of the targets that rows are drawn for; NaN without targets."""
        if not self.conditional:
            return np.full(n_samples, np.nan)
        targets = self._targets
        if y is None:
            groups = rng.choice(len(targets.shares_), n_samples, p=targets.shares_)
            return targets.typical_[groups]
        return targets.codes(np.broadcast_to(column_or_1d(np.atleast_1d(y)), n_samples))

    @property
    def _n_candidates(self):
        """How many rows are drawn for one that is given out."""
        return 1 if self.refiner_ is None else CANDIDATES_TO_REFINE

    def _draw(self, codes, cells, targets_are_told, rng):
        """Rows for targets; of several candidates for each, one by how real it looks."""
        several = np.repeat(codes, self._n_candidates)
        rows = self._candidates(several, cells, rng, targets_are_told)
        picked = np.arange(0, len(rows), self._n_candidates)
        if self.refiner_ is not None:
            # The largest of log-weights with Gumbel noise is a draw.
            noisy = self.refiner_.log_ratio(rows) + rng.gumbel(size=len(rows))
            picked = picked + noisy.reshape(len(codes), -1).argmax(axis=1)
        return rows[picked, : self.n_features_in_]

    def _candidates(self, codes, cells, rng, targets_are_told=False):
        """Rows as the network draws them, beside the codes of their targets."""
        if cells and targets_are_told:
            z = np.empty((len(codes), self.n_components_))
            for code in np.unique(codes):
                here = codes == code
                z[here], _ = self._latents_given(cells, codes[here], rng)
        elif cells:  # which targets go with the conditions is found with the latents
            z, codes = self._latents_given(cells, codes, rng)
        else:
            z = self._draw_latents(codes, rng)
        X = np.empty((len(z), self.n_features_in_))
        for span, drawn in self.net_.draw_rows(self._given(z, codes), rng.randint(2**31 - 1)):
            X[span] = self._scaler.inverse_transform(drawn)
        X[:, list(cells)] = list(cells.values())
        return np.column_stack([X, codes]) if self.conditional else X

    def _given(self, z, codes):
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
            number = self._columns.number_of(self._columns.names[j], value)
            reason = self._scaler.why_not(j, number)
            if reason is not None:
                raise ValueError(f"conditions: column {name!r} can not be {value!r}; {reason}.")
            cells[j] = number
        return cells

    def _column_number(self, name):
        names = self._columns.names
        if not self._columns.is_frame and hasattr(self, "feature_names_in_"):
            names = self.feature_names_in_.tolist()
        if name not in names:
            raise ValueError(f"conditions: there is no column {name!r}; columns are {names}.")
        return names.index(name)

    def _latents_given(self, cells, codes, rng):
        """Latents (and targets) resampled by how likely they make the cells that are told."""
        n_samples = len(codes)
        n_candidates = np.clip(CANDIDATES_PER_ROW * n_samples, MIN_CANDIDATES, MAX_CANDIDATES)
        codes = codes[rng.randint(n_samples, size=n_candidates)]
        z = self._draw_latents(codes, rng)
        row = self._scaler.partial_row(cells)
        log_weights = self.net_.likelihood_rows(self._given(z, codes), row).astype(np.float64)
        log_weights -= logsumexp(log_weights)
        effective = float(np.exp(-logsumexp(2 * log_weights)))
        n_wanted = n_samples // self._n_candidates
        if effective < max(MIN_EFFECTIVE_SIZE, MIN_EFFECTIVE_SHARE * n_wanted):
            warnings.warn(
                f"Rows with these conditions are rare: {n_wanted} rows come from an effective "
                f"sample of {effective:.0f} latents out of {n_candidates}, so many are alike.",
                UserWarning,
                stacklevel=5,
            )
        picked = rng.choice(n_candidates, n_samples, p=np.exp(log_weights))
        return z[picked], codes[picked]


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
