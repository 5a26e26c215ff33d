"""The private half of the generator: its doors, its network, its prior, its draws."""

import warnings
from functools import partial
from numbers import Integral

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_array, gen_batches
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from skae._chunks import SideBySide, as_dense, row_chunks, value_range
from skae._defaults import Generation
from skae._engine._build import build_variational, is_ours, make_output, pca_of_rows
from skae._engine._losses import EvidenceBound
from skae._engine._noise import Corruption
from skae._engine._runtime import generator, resolve_device
from skae._engine._variational import MixturePrior, VariationalNet
from skae._frames import Columns, PlainColumns, is_mixed
from skae._linear import ProbabilisticPCA
from skae._mixture import fit_mixture, join_mixtures
from skae._ranks import Ranks
from skae._ratio import DRAWN_PER_ROW, DensityRatio
from skae._scaling import Scaler
from skae._targets import TargetedReader, Targets
from skae.estimators._doors import checked
from skae.estimators._training import MAX_LATENTS

# Posteriors that the mixture is fitted to, and training rows kept for `evaluate`.
MAX_ROWS_FOR_PRIOR, MAX_ROWS_KEPT = 10_000, 5_000
# Gradients of the bound, in nats per row, are scaled down to this norm.
MAX_NORM = 10.0
# Rows drawn at once.
ROWS_AT_ONCE = 2**16
# Tables with fewer rows are not refined, nor are more rows looked at; and how many
# candidates there are for a row.
MIN_ROWS_TO_REFINE, MAX_ROWS_TO_REFINE, CANDIDATES_TO_REFINE = 200, 20_000, 8
# Latents that are weighed against conditions, per row wanted, and at least and at most.
CANDIDATES_PER_ROW, MIN_CANDIDATES, MAX_CANDIDATES = 20, 20_000, 200_000
# Fewer effective candidates per row wanted, or fewer at all, are worth a warning.
MIN_EFFECTIVE_SHARE, MIN_EFFECTIVE_SIZE = 0.5, 10


class GeneratingMixin:
    """Doors for mixed columns and targets, hooks of TrainingMixin, and draws."""

    _net_class = VariationalNet
    _auto = Generation

    @property
    def _accepts_missing(self):
        return self.likelihood == "auto"

    # Doors.

    def _check_rows(self, X, *, reset):
        """Numbers, ticks and codes of a table; a plain array stays as it is."""
        as_frame = is_mixed(X) if reset else self._columns.is_frame
        if not as_frame:
            numbers = super()._check_rows(X, reset=reset)
            if reset:
                self._columns = PlainColumns(numbers)
            return numbers
        validate_data(self, X, skip_check_array=True, reset=reset)
        if reset:
            self._columns = self._learn_columns(X)
        return checked(
            partial(check_array, estimator=self),
            self._columns.to_numbers(X),
            allow_nan=self._accepts_missing,
            ensure_min_samples=2 if reset else 1,
            input_name="X",
        )

    def _learn_columns(self, X):
        columns = Columns(X)
        coded = [name for name, n in zip(columns.names, columns.n_levels, strict=True) if n]
        if coded and self.likelihood != "auto":
            raise ValueError(
                f"likelihood={self.likelihood!r} needs numbers in all columns; column "
                f"{coded[0]!r} holds levels, which likelihood='auto' accepts."
            )
        return columns

    def _beside_targets(self, X, y, reset):
        if not self.conditional:
            return X
        if y is None:
            raise ValueError("y=None: conditional=True requires y to be passed to fit.")
        y = column_or_1d(y)
        check_consistent_length(X, y)
        if reset:
            self._targets = Targets().fit(y)
        return SideBySide(X, self._targets.codes(y)[:, None])

    def _with_targets(self, X, y=None):
        """Rows beside the codes of their targets (NaN where there are none)."""
        if y is not None and not self.conditional:
            raise ValueError("y is given, but nothing was learned of it: conditional=False.")
        if not self.conditional or y is not None:
            return self._beside_targets(X, y, reset=False)
        return SideBySide(X, np.full((X.shape[0], 1), np.nan))

    def _open(self, X, y=None):
        X, give_back = super()._open(X)
        return self._with_targets(X, y), give_back

    def _reader(self):
        return TargetedReader(self._scaler, self._targets) if self.conditional else self._scaler

    def _numbers(self, X):
        """Rows as a dense array of numbers and codes."""
        return as_dense(self._check_rows(X, reset=False)).astype(np.float64)

    def _encode_one(self, row, name):
        """Latents of one row, which may come without its second axis."""
        table = row
        if not hasattr(row, "columns"):
            table = np.asarray(row)
            table = table[None] if table.ndim == 1 else table
        if len(table) != 1:
            raise ValueError(f"{name} must be one row; got {len(table)} rows.")
        return self._encode(self._open(table)[0])

    def _rows_out(self, numbers, give_back=None, like=None):
        """Rows in the container they came in; a frame keeps the index of the one given."""
        return self._columns.restore(numbers, like.index if hasattr(like, "iloc") else None)

    def _reconstruct(self, X):
        return self._decode(self._encode(X))

    def __getstate__(self):
        # Training rows stay where they are.
        return {k: v for k, v in super().__getstate__().items() if k != "_rows_kept"}

    # Hooks of TrainingMixin.

    def _start(self, X, sample_weight, rng):
        rotation, pca, seeds = super()._start(X, sample_weight, rng)
        self._draw_seed = seeds[0]
        return rotation, pca, seeds

    def _fit(self, X, sample_weight):
        super()._fit(X, sample_weight)
        self._learn_around(X, sample_weight)

    def _partial_fit(self, X, sample_weight, first):
        super()._partial_fit(X, sample_weight, first)
        self._learn_around(X, sample_weight)

    def _learn_scaling(self, X, sample_weight):
        cells = X.left if self.conditional else X
        if self.likelihood == "auto":
            self._scaler = Ranks(self._columns.n_levels).fit(cells, sample_weight)
            return
        self._scaler = Scaler("standard" if self.likelihood == "gaussian" else None)
        self._scaler.fit(cells, sample_weight)
        if self.likelihood == "bernoulli":
            self._is_binary = all(np.isin(chunk, (0, 1)).all() for _, chunk in row_chunks(cells))

    def _n_inputs(self):
        return self._scaler.n_inputs if self.likelihood == "auto" else self.n_features_in_

    def _fit_pca(self, X, sample_weight, seed):
        n_inputs = self._n_inputs()
        cells = X.left if self.conditional else X
        n_directions = min(n_inputs, MAX_LATENTS)
        if isinstance(self.n_components, Integral):
            n_directions = min(n_inputs, max(MAX_LATENTS, self.n_components))
        return pca_of_rows(cells, self._scaler, n_directions, sample_weight, seed, n_inputs)

    def _n_directions(self):
        return self._scaler.n_directions if self.likelihood == "auto" else self.n_features_in_

    def _choose_n_latents(self, pca):
        if self.n_components == "auto":
            return max(1, self._auto.n_components(self._n_directions()))
        return super()._choose_n_latents(pca)

    def _needs_pca(self):
        return True

    def _make_net(self, n_features, pca, rotation, seeds):
        network = self._network(n_features)
        n_conditions = self._targets.n_columns if self.conditional else 0
        linear = ProbabilisticPCA.of(
            pca, self.n_components_, max(1, self._n_directions()), n_conditions
        )
        deviations = linear.deviations if self.init == "pca" else np.sqrt(pca.column_variances)
        link, slopes, biases = make_output(
            self.likelihood, self._scaler, deviations, pca.mean, getattr(self, "_is_binary", None)
        )
        device = resolve_device(self.device)
        module = build_variational(
            network,
            link,
            self._n_inputs(),
            self.n_components_,
            linear=linear if self.init == "pca" else None,
            slopes=slopes,
            biases=biases,
            n_conditions=n_conditions,
            seed=seeds[0],
        )
        return self._net_class(
            module.to(device),
            EvidenceBound(self.beta, self.kl_warmup),
            corruption=Corruption(generator(seeds[1], device), variational=True),
            batch_generator=generator(seeds[2]),
            max_norm=MAX_NORM * np.sqrt(max(1.0, self._n_inputs() / 16)),
            precision=self.precision,
            device=device,
            global_seed=None if is_ours(network) else seeds[0],
        )

    def _check_target_range(self, X):
        if self.likelihood != "bernoulli":
            return
        low, high = value_range(X.left if self.conditional else X)
        if low < 0 or high > 1:
            raise ValueError(
                f"likelihood='bernoulli' needs X in [0, 1]; X is in [{low:g}, {high:g}]. "
                "Rescale X, or choose another likelihood."
            )

    # What is learned around the network: the prior, and where the model errs.

    def _learn_around(self, X, sample_weight):
        rng = np.random.RandomState(self._draw_seed)
        self._learn_prior(X, sample_weight, rng)
        kept = _some_rows(X.shape[0], MAX_ROWS_KEPT, None, rng)
        cells = X.left if self.conditional else X
        self._rows_kept = as_dense(cells[kept]).astype(np.float64)
        self.refiner_ = None
        wanted = self.refine
        if wanted == "auto":
            wanted = self.likelihood == "auto" and X.shape[0] >= MIN_ROWS_TO_REFINE
        if wanted:
            self.refiner_ = self._learn_ratio(X, sample_weight, rng)

    def _learn_ratio(self, X, sample_weight, rng):
        """What tells real rows (beside their targets) from drawn ones."""
        chosen = _some_rows(X.shape[0], MAX_ROWS_TO_REFINE, None, rng)
        real = as_dense(X[chosen]).astype(np.float64)
        weight = None if sample_weight is None else sample_weight[chosen]
        n_drawn = DRAWN_PER_ROW * len(real)
        drawn = np.empty((n_drawn, real.shape[1]))
        codes = self._codes_to_draw(n_drawn, None, rng)
        for rows in gen_batches(n_drawn, ROWS_AT_ONCE):
            drawn[rows] = self._candidates(codes[rows], {}, rng)
        is_code = np.r_[self._is_code, np.repeat(self._has_classes, self.conditional)]
        return DensityRatio().fit(real, drawn, is_code, weight, rng.randint(2**31 - 1))

    @property
    def _is_code(self):
        """Which columns hold codes of levels."""
        return np.asarray(self._columns.n_levels) > 0

    @property
    def _has_classes(self):
        return self.conditional and self._targets.classes_ is not None

    def _learn_prior(self, X, sample_weight, rng):
        """Fit a mixture to the posteriors, for each target one."""
        chosen = _some_rows(X.shape[0], MAX_ROWS_FOR_PRIOR, sample_weight, rng)
        groups, shares = np.zeros(len(chosen), dtype=int), np.ones(1)
        if self.conditional:
            groups = self._targets.groups(as_dense(X.right[chosen])[:, 0])
            shares = self._targets.shares_
        self.prior_, self._group_weights = None, np.ones((len(shares), 1))
        if self.prior == "mixture":
            posteriors = self.net_.posterior_rows(self._rows(X, chosen))
            mixtures = [self._mixture(posteriors, groups == g, rng) for g in range(len(shares))]
            self.prior_, self._group_weights = join_mixtures(mixtures, shares)

    def _mixture(self, posteriors, here, rng):
        """The mixture of the rows of a target, which gets its share of the components."""
        # A class may be missing in later calls of partial_fit.
        here = here if here.any() else np.ones_like(here)
        mean, deviation = (part[here] for part in posteriors)
        wanted = self.n_mixture_components
        if wanted == "auto":
            wanted = self._auto.n_mixture_components(len(here))
        n_components = max(1, round(wanted * here.mean()))
        n_distinct = len(np.unique(mean, axis=0))
        return fit_mixture(mean, np.square(deviation), min(n_components, n_distinct), rng)

    def _latent_prior(self):
        k, device = self.n_components_, self.net_.device
        if self.prior_ is None:
            return MixturePrior(
                self._group_weights, np.zeros((1, k)), np.eye(k)[None], device=device
            )
        prior = self.prior_
        return MixturePrior(
            self._group_weights, prior.means_, prior.precisions_cholesky_, device=device
        )

    # Twins of the public uses.

    def _log_density(self, rows, targets_are_told):
        if not self.conditional:
            return self._evidence(rows)[:, 0] + self._log_ratio(rows)
        if targets_are_told:
            groups = self._targets.groups(rows.right[:, 0])
            told = self._evidence(rows)[np.arange(len(groups)), groups]
            return told + self._log_ratio(rows)
        log_density = np.empty((rows.shape[0], len(self._targets.typical_)))
        for group, code in enumerate(self._targets.typical_):
            given = SideBySide(rows.left, np.full((rows.shape[0], 1), code))
            log_density[:, group] = self._evidence(given)[:, group] + self._log_ratio(given)
        return logsumexp(log_density, axis=1, b=self._targets.shares_)

    def _log_ratio(self, rows):
        """What the network's log-densities miss, as far as the refiner knows."""
        if self.refiner_ is None:
            return 0.0
        told = [self.refiner_.log_ratio(chunk) for _, chunk in row_chunks(rows)]
        return np.concatenate(told)

    def _evidence(self, rows):
        """Log-densities of rows under the network, for each group of targets."""
        prior, n_draws = self._latent_prior(), self.n_importance_samples
        evidence = np.empty((rows.shape[0], len(self._group_weights)))
        for span, told in self.net_.evidence_rows(self._rows(rows), prior, n_draws):
            evidence[span] = told
        return evidence

    def _decode(self, Z):
        out = np.empty((len(Z), self.n_features_in_))
        given = np.hstack([Z, self._likely_targets(Z)]) if self.conditional else Z
        for rows, told in self.net_.decode_rows(given):
            out[rows] = self._scaler.inverse_transform(told)
        return out

    def _likely_targets(self, Z):
        """What the decoder reads of the most probable targets at latents."""
        told = self.net_.prior_rows(Z, self._latent_prior()) + np.log(self._targets.shares_)
        return self._targets.columns(self._targets.typical_[told.argmax(axis=1)])

    def _row_errors(self, X, n_latents=None):
        """Mean squared difference; a level that differs counts as one."""
        cells = X.left if self.conditional else X
        is_code = self._is_code
        errors = np.empty(X.shape[0])
        for rows, chunk in row_chunks(cells):
            told = self._reconstruct(self._with_targets(chunk))
            difference = told - chunk
            missing = np.isnan(difference)
            difference[:, is_code] = difference[:, is_code] != 0
            difference[missing] = 0.0
            n_both = np.maximum((~missing).sum(axis=1), 1)
            errors[rows] = np.einsum("ij,ij->i", difference, difference) / n_both
        return errors

    # Draws.

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


def _some_rows(n_rows, at_most, sample_weight, rng):
    """Numbers of all rows, or of some of them; heavy ones several times if there are weights."""
    if sample_weight is not None:
        shares = sample_weight / sample_weight.sum()
        return np.sort(rng.choice(n_rows, min(n_rows, at_most), p=shares))
    if n_rows <= at_most:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, at_most, replace=False))


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
