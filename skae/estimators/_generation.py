"""How the generator is fitted, and how its fitted parts judge and draw rows."""

from copy import copy
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from scipy.special import logsumexp
from sklearn.utils.validation import check_consistent_length

from skae._data._arrays import (
    as_array,
    as_precise_as,
    asarray_like,
    empty,
    namespace,
    widest_float,
    write_pieces,
)
from skae._data._chunks import ColumnStack, as_dense, row_chunks, value_range
from skae._data._fitted_arrays import PrivateArray
from skae._data._frames import PlainColumns, has_columns
from skae._data._mixed import kinds_of_columns
from skae._data._normal_scores import NormalScores
from skae._data._scaling import LARGEST_TRAINED, Scaler
from skae._data._shards import is_sharded
from skae._data._sources import is_source, studied
from skae._data._tables import as_table
from skae._data._targets import TargetedTransform, Targets
from skae._data._validation import (
    as_numpy_table,
    drop_zero_weight_rows,
    rows_with_weight,
)
from skae._engine._build import build_variational, make_output, pca_of_rows
from skae._engine._losses import EvidenceBound
from skae._engine._progress import current_progress
from skae._engine._row_errors import mean_squares
from skae._engine._variational_net import MixturePrior, VariationalNet
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS, Generation, TableGeneration
from skae._fit._plan import (
    MAX_LATENTS,
    Feed,
    NetFactory,
    Plan,
    Seeds,
    check_same_network,
    n_latents,
    net_settings,
    resolve_network,
)
from skae._stats._mixture import fit_mixture, join_mixtures
from skae._stats._pca import ProbabilisticPCA
from skae.estimators._guarding import check_in_memory
from skae.estimators._mixed_tables import learn_columns, numbers_of_columns
from skae.estimators._refining import RefiningMixin, some_rows
from skae.estimators._relating import RelationsMixin
from skae.estimators._sampling import SamplingMixin
from skae.estimators._tables_on_disk import examples_of, learned_from

# Posteriors that the mixture is fitted to, and training rows kept for `evaluate`.
MAX_ROWS_FOR_PRIOR, MAX_ROWS_KEPT, MAX_CELLS_KEPT = 10_000, 5_000, 2**21
# Gradients of the bound, in nats per row, are scaled down to this norm.
MAX_NORM = 10.0
# Draws that the most likely target of a row is estimated from.
DRAWS_FOR_TARGETS = 8
ALL = slice(None)


class GenerationMixin(RelationsMixin, RefiningMixin, SamplingMixin):
    """How the generator validates its rows and is fitted, and how its parts work together."""

    _auto = Generation
    _group_weights, _rows_kept = PrivateArray(), PrivateArray()
    _largest_read = LARGEST_TRAINED  # densities square them
    _left_behind = ("_rows_kept",)

    @property
    def _accepts_missing(self):
        return self.likelihood == "auto"

    @property
    def _keeps_tensors(self):
        # Ranks, targets and the columns of frames need NumPy.
        of_frame = "_columns" in vars(self) and self._columns.is_frame
        return self.likelihood != "auto" and not self.conditional and not of_frame

    # Input validation.

    def _check_rows(self, X, *, reset):
        """Numbers, ticks and codes of a table, without what relations make redundant."""
        numbers = self._check_table(X, reset=reset)
        if reset:
            self._kept_relations = self._learn_relations(numbers)
            self._guarded = self._learn_guarded(numbers)
        return self._reduced(numbers)

    def _check_table(self, X, *, reset, is_trained=False):
        """Numbers, ticks and codes of a table; a plain array stays as it is."""
        X = as_table(X)
        columns = self._learn_table(X) if reset else self._columns
        if columns is None or not columns.is_frame:
            numbers = super()._check_rows(X, reset=reset)
            if reset:
                self._columns = PlainColumns(numbers)
            return numbers
        self._columns = columns
        declared = None if reset or is_trained else "gap"
        return numbers_of_columns(self, X, reset=reset, declared=declared, marker=self._marker)

    def _kinds(self, X):
        """Which columns `categorical_features` says to hold levels; None if dtypes say it."""
        features = self.categorical_features
        if isinstance(features, str):
            return None
        if features is None:
            return [False] * X.shape[1] if has_columns(X) else None
        return kinds_of_columns(X, features, reads_gaps=True)

    def _learn_table(self, X):
        """The columns of a table, or None of a plain array."""
        if is_source(X):
            examples = self._examples(X)
            return None if examples is None else learned_from(examples, self._learn_table)
        kinds = self._kinds(X)
        return self._learn_columns(X, kinds) if has_columns(X) or kinds else None

    def _examples(self, X):
        return examples_of(X, self.categorical_features, is_frame=True)

    def _learn_columns(self, X, kinds):
        columns = learn_columns(self, X, kinds)
        coded = [name for name, n in zip(columns.names, columns.n_levels, strict=True) if n]
        if coded and self.likelihood != "auto":
            raise ValueError(
                f"likelihood={self.likelihood!r} needs numbers in all columns; column "
                f"{coded[0]!r} holds levels, which likelihood='auto' accepts."
            )
        return columns

    def _check_training_rows(self, X, y, sample_weight, *, reset):
        if reset:  # levels, dates and classes of rows without weight are not learned
            X, y, sample_weight = rows_with_weight(X, y, sample_weight)
            X = as_numpy_table(self._check_rows(X, reset=True), sample_weight)
        else:
            table = self._check_table(X, reset=False, is_trained=True)
            self._relations.check(table)
            if self._guards is not None:
                check_in_memory(table)
                self._guards.learn(table, self._columns.n_levels)
            X = as_numpy_table(self._reduced(table), sample_weight)
            check_same_network(self, self._network_fingerprint)
        if self.conditional:
            if is_source(X):
                raise TypeError(
                    f"X is {X!r}: conditional=True needs rows in memory. Pass X.read_all()."
                )
            if y is None:
                raise ValueError("y=None: conditional=True requires y to be passed to fit.")
            if reset:
                self._targets = Targets().fit(y)
            X = self._with_targets(X, y)
        return drop_zero_weight_rows(X, sample_weight, min_rows=2 if reset else 1)

    def _with_targets(self, X, y=None):
        """Rows beside the codes of their targets (NaN where there are none)."""
        self._check_targets_are_known(y)
        if not self.conditional:
            return X
        if y is None:
            return ColumnStack(X, np.full((X.shape[0], 1), np.nan))
        codes = self._targets.codes(y)
        check_consistent_length(X, codes)
        return ColumnStack(X, codes[:, None])

    def _cells(self, X):
        """Rows without the codes of their targets."""
        return X.left if self.conditional else X

    def _validate_input(self, X, y=None):
        X, to_input_type = super()._validate_input(X)
        self._check_pixels(X)
        return self._with_targets(X, y), to_input_type

    def _input_transform(self):
        return TargetedTransform(self._scaler, self._targets) if self.conditional else self._scaler

    def _numbers(self, X):
        """Rows as a dense array of numbers and codes of all columns of the table."""
        return as_array(as_dense(self._check_table(X, reset=False))).astype(np.float64)

    def _encode_one(self, row, name):
        """What is decoded of one row, which may come without its second axis."""
        table = row
        if hasattr(row, "to_frame") and self._columns.is_frame:
            table = row.to_frame().T  # a row of a pandas frame
        elif not hasattr(row, "columns") and not issparse(row):
            table = np.asanyarray(row)  # with its mask
            table = table[None] if table.ndim == 1 else table
        if table.shape[0] != 1:
            raise ValueError(f"{name} must be one row; got {table.shape[0]} rows.")
        return self._encode_with_target(self._validate_input(table)[0])

    def _wrap_output(self, numbers, to_input_type=lambda out: out, like=None):
        """Whole rows in the container they came in; a frame keeps the index of the one given."""
        numbers = self._relations.restore(numbers)
        if self._columns.is_frame:
            return self._columns.restore(numbers, like)
        return to_input_type(self._columns.restore(numbers))

    def _reconstruct(self, X):
        return self._decode(*self._encode_with_target(X))

    # The fit.

    def _fit(self, X, sample_weight):
        if self.conditional:
            self._targets = copy(self._targets).weigh(as_dense(X.right)[:, 0], sample_weight)
        super()._fit(X, sample_weight)

    def _make_plan(self, X, sample_weight, rng):
        """Learn scaling and start, and settle on the output; plan the rest."""
        cells = self._cells(X)
        self._learn_scaling(cells, sample_weight)
        self._check_range(X)
        scaler, n_features = self._scaler, cells.shape[1]
        is_table = self.likelihood == "auto"
        n_inputs = scaler.n_inputs if is_table else n_features
        n_directions = max(1, scaler.n_directions if is_table else n_features)
        seeds = Seeds.draw(rng)
        self._draw_seed = seeds.weights
        n_fitted = MAX_LATENTS
        if isinstance(self.n_components, Integral):
            n_fitted = max(n_fitted, self.n_components)
        n_fitted = min(n_inputs, n_fitted)
        pca = pca_of_rows(cells, scaler, n_fitted, sample_weight, seeds.start, n_inputs)
        k = self.n_components
        k = Generation.n_components(n_directions) if k == "auto" else n_latents(k, pca)
        self.n_components_ = k
        network = resolve_network(self, Generation, n_features)
        auto = rules_of(self, X.shape[0], n_features)
        settings = net_settings(self, auto, n_features, X.shape[0])
        max_norm = MAX_NORM * np.sqrt(max(1.0, n_inputs / 16))
        more = {"max_norm": max_norm, "orthogonal": auto is TableGeneration}
        make_net = NetFactory(self, network, seeds, settings, VariationalNet, **more)
        n_conditions = self._targets.n_columns if self.conditional else 0
        linear = ProbabilisticPCA.of(pca, k, n_directions, n_conditions)
        starts_at_pca = self.init == "pca"
        deviations = linear.deviations if starts_at_pca else np.sqrt(pca.column_variances)
        is_binary = getattr(self, "_is_binary", None)

        def build(rotation):
            link, slopes, biases = make_output(
                self.likelihood, scaler, deviations, pca.mean, is_binary
            )
            module = build_variational(
                network,
                link,
                n_inputs,
                k,
                linear=linear if starts_at_pca else None,
                slopes=slopes,
                biases=biases,
                n_conditions=n_conditions,
                seed=seeds.weights,
            )
            return make_net(module, EvidenceBound(self.beta, self.kl_warmup), variational=True)

        return self._plan(build, settings["max_epochs"], make_net.device)

    def _resume_plan(self, X, sample_weight, settings=None):
        if settings is not None:
            auto = rules_of(self, X.shape[0], self.n_features_in_)
            settings |= net_settings(self, auto, self.n_features_in_, X.shape[0])
        return super()._resume_plan(X, sample_weight, settings)

    def _plan(self, build, max_epochs, device, **fields):
        return Plan.of(
            self,
            build=build,
            feed=Feed(self._input_transform(), device),
            begin=self._begin,
            attributes_after=self._attributes_after,
            max_epochs=max_epochs,
            **fields,
        )

    def _check_range(self, X):
        super()._check_range(self._cells(X))
        self._check_pixels(self._cells(X))

    def _finish(self, outcome, X, sample_weight):
        super()._finish(outcome, X, sample_weight)
        rng = np.random.RandomState(self._draw_seed)
        X, sample_weight = studied(X, sample_weight)
        current_progress().set_note("fitting the prior")
        self._fit_prior(X, sample_weight, rng)
        n_kept = min(MAX_ROWS_KEPT, max(100, MAX_CELLS_KEPT // X.shape[1]))
        kept = some_rows(X.shape[0], n_kept, None, rng)
        self._rows_kept = as_dense(self._cells(X)[kept]).astype(np.float64)
        current_progress().set_note("refining")
        self._fit_refiners(X, sample_weight, rng)

    def _learn_scaling(self, cells, sample_weight):
        if self.likelihood == "auto":
            relations = self._relations
            self._scaler = NormalScores(relations.n_levels)
            self._scaler.fit(cells, sample_weight, unflagged=relations.unflagged)
            return
        self._scaler = Scaler("standard" if self.likelihood == "gaussian" else None)
        self._scaler.fit(cells, sample_weight)
        if self.likelihood == "bernoulli":
            self._is_binary = holds_bits(cells)

    def _check_pixels(self, X):
        if self.likelihood != "bernoulli":
            return
        low, high = value_range(X)
        if low < 0 or high > 1:
            raise ValueError(
                f"likelihood='bernoulli' needs X in [0, 1]; X is in [{low:g}, {high:g}]. "
                "Rescale X, or choose another likelihood."
            )

    # What is learned around the network: the prior of the latents.

    def _fit_prior(self, X, sample_weight, rng):
        """Fit a mixture to the posteriors, for each target one."""
        chosen = some_rows(X.shape[0], MAX_ROWS_FOR_PRIOR, sample_weight, rng)
        groups, shares = np.zeros(len(chosen), dtype=int), np.ones(1)
        if self.conditional:
            groups = self._targets.groups(as_dense(X.right[chosen])[:, 0])
            shares = self._targets.shares_
        self.prior_, self._group_weights = None, np.ones((len(shares), 1))
        if self.prior == "mixture":
            posteriors = self.net_.posterior_rows(self._rows(X, chosen))
            mixtures = [self._mixture(posteriors, groups == g, rng) for g in range(len(shares))]
            self.prior_, self._group_weights = join_mixtures(mixtures, shares)

    def _mixture(self, posteriors, mask, rng):
        """The mixture of the rows of a target, which gets its share of the components."""
        # A class may be missing in later calls of partial_fit.
        mask = mask if mask.any() else np.ones_like(mask)
        mean, deviation = (part[mask] for part in posteriors)
        wanted = self.n_mixture_components
        if wanted == "auto":
            wanted = self._auto.n_mixture_components(len(mask))
        n_components = max(1, round(wanted * mask.mean()))
        n_distinct = len(np.unique(mean, axis=0))
        return fit_mixture(mean, np.square(deviation), min(n_components, n_distinct), rng)

    # What computes, behind the public methods.

    def _log_density(self, rows, targets_are_given):
        n_draws = self.n_importance_samples
        if not self.conditional:
            return self._evidence(rows, n_draws)[:, 0] + self._log_ratio(rows)
        if targets_are_given:
            groups = self._targets.groups(rows.right[:, 0])
            evidence = self._evidence(rows, n_draws)[np.arange(len(groups)), groups]
            return evidence + self._log_ratio(rows)
        return logsumexp(self._joint_log_density(rows, n_draws), axis=1)

    def _joint_log_density(self, rows, n_draws):
        """Log-densities of rows and each target together."""
        targets = self._targets
        log_densities = np.empty((rows.shape[0], len(targets.representatives_)))
        for group, code in enumerate(targets.representatives_):
            given = ColumnStack(rows.left, np.full((rows.shape[0], 1), code))
            evidence = self._evidence(given, n_draws, [group])[:, 0]
            log_densities[:, group] = evidence + self._log_ratio(given)
        return log_densities + np.log(targets.shares_)

    def _bound(self, rows):
        """The evidence lower bound of each row, and its two parts."""
        pieces = self.net_.bound_rows(self._rows(rows), self.n_importance_samples)
        parts = write_pieces(empty((rows.shape[0], 2), rows, widest_float(rows)), pieces)
        reconstruction, kl = parts.T
        return [as_precise_as(rows, part) for part in (reconstruction - kl, reconstruction, kl)]

    def _log_ratio(self, rows):
        """Log-ratio of real to drawn densities, by the refiner; zero without one."""
        if self.refiner_ is None:
            return 0.0
        ratios = [self.refiner_.log_ratio(as_array(chunk)) for _, chunk in row_chunks(rows)]
        return asarray_like(np.concatenate(ratios), rows)

    def _evidence(self, rows, n_draws, groups=ALL):
        """Log-densities of rows under the network, for each of some groups of targets."""
        shape = rows.shape[0], len(self._group_weights[groups])
        prior = latent_prior(self, groups)
        pieces = self.net_.evidence_rows(self._rows(rows), prior, n_draws)
        return write_pieces(empty(shape, rows, widest_float(rows)), pieces)

    def _decode(self, Z, given=None):
        """Most likely rows; without what the decoder is given, the most probable targets."""
        if self.conditional:
            Z = np.hstack([Z, self._targets_at(Z) if given is None else given])
        out = empty((len(Z), self._n_learned), Z, widest_float(Z))
        pieces = self.net_.decode_rows(Z)
        return write_pieces(out, ((rows, self._scaler.inverse_transform(x)) for rows, x in pieces))

    def _targets_at(self, Z):
        """What the decoder reads of the most probable targets at latents."""
        joint = self.net_.prior_rows(Z, latent_prior(self)) + np.log(self._targets.shares_)
        return self._targets.columns(self._targets.representatives_[joint.argmax(axis=1)])

    def _encode_with_target(self, X):
        """Latents of rows, and what the decoder reads of the targets they are likely for."""
        if not self.conditional:
            return self._encode(X), None
        likely = self._joint_log_density(X, DRAWS_FOR_TARGETS).argmax(axis=1)
        return self._encode(X), self._targets.columns(self._targets.representatives_[likely])

    def _on_line(self, a, b, n):
        """Rows at `n` latents from that of a row to that of another."""
        if not isinstance(n, Integral) or n < 2:
            raise ValueError(f"n={n!r} must be an integer of at least 2.")
        (z_a, given_a), (z_b, given_b) = self._encode_one(a, "a"), self._encode_one(b, "b")
        share = np.linspace(0.0, 1.0, n)[:, None]
        given = (1 - share) * given_a + share * given_b if self.conditional else None
        return self._decode((1 - share) * z_a + share * z_b, given)

    def _row_errors(self, X):
        """Mean squared difference of whole rows; a level that differs counts as one."""
        xp, whole = namespace(X), self._relations.restore
        is_code = np.asarray(self._columns.n_levels) > 0
        errors = empty(X.shape[0], X, widest_float(X))
        for rows, chunk in row_chunks(self._cells(X)):
            difference = whole(self._reconstruct(self._with_targets(chunk))) - whole(chunk)
            if is_code.any():
                missing = xp.isnan(difference)
                difference[:, is_code] = difference[:, is_code] != 0
                difference[missing] = xp.nan
            errors[rows] = mean_squares(difference, may_miss=True)
        return errors


def holds_bits(X):
    """Whether all cells are 0 or 1."""
    if is_sharded(X):
        return all(X.on_each(holds_bits))
    return all(np.isin(chunk, (0, 1)).all() for _, chunk in row_chunks(X))


def rules_of(params, n_rows, n_features):
    """What "auto" means: few rows would be memorised by orthogonal steps."""
    is_default = params.network is None and params.likelihood == "auto"
    is_table = n_rows >= MIN_ROWS_FOR_SPLIT and n_features < MIN_WIDE_COLUMNS
    return TableGeneration if is_default and is_table else Generation


def latent_prior(model, groups=ALL):
    """The prior of the latents for each of some groups of targets."""
    if model.prior_ is None:
        k = model.n_components_
        means, whitening = np.zeros((1, k)), np.eye(k)[None]
    else:
        means, whitening = model.prior_.means_, model.prior_.precisions_cholesky_
    weights = model._group_weights[groups]
    return MixturePrior(weights, means, whitening, device=model.net_.device)
