"""How the denoiser validates its rows and is fitted."""

import numpy as np
from sklearn.utils import check_array

from skae._data._chunks import ColumnStack, as_dense, row_chunks
from skae._data._fitted_arrays import FittedArray, PrivateArray, numpy_array
from skae._data._open import opened
from skae._data._scaling import check_magnitudes
from skae._data._sources import is_source, studied
from skae._data._survey import in_memory_if_small
from skae._data._tables import NO_CELLS
from skae._data._validation import (
    as_numpy_table,
    check_input,
    drop_zero_weight_rows,
    to_compute_array,
)
from skae._engine._build import build_autoencoder, linear_denoiser, pca_of_rows
from skae._engine._denoising_net import DenoisingNet, NoisyRows, PairTransform
from skae._engine._noise import call_noise
from skae._engine._runtime import generator
from skae._engine._tasks import given_to_fit
from skae._fit._defaults import Cleaning, Filling, TableFilling
from skae._fit._feeds import (
    NoisyFeed,
    blend_measure,
    clean_rows,
    cross_validated_shrinkage,
    noisy_rows,
)
from skae._fit._noise_levels import (
    check_noise_level,
    column_spreads,
    input_divisor,
    level_varies,
    noise_level,
)
from skae._fit._plan import (
    MAX_LATENTS,
    NetFactory,
    Plan,
    Seeds,
    n_latents,
    net_settings,
    resolve_network,
)
from skae._sklearn import fit_context, fitted_indicator, is_pandas_na, is_scalar_nan
from skae.estimators._cleaning import CleaningMixin
from skae.estimators._imputation_parts import (
    check_for_table,
    clean_numbers,
    fitted_scaler,
    gaps_per_column,
    in_encoded_columns,
    warn_of_targets,
)
from skae.estimators._limits import limits_of_columns
from skae.estimators._mixed_tables import make_link, make_objective
from skae.estimators._public import PublicMethodsMixin
from skae.estimators._table_cleaning import whole_columns

# Where cells are filled, the encoder's inputs are cut off at this many standard deviations.
REACH = 8.0
# Rows that a noise function is tried on, to see whether it hides cells.
ROWS_FOR_PROBE = 100
# Above this many columns training begins at PCA: a regression would cost more than it.
MAX_REGRESSED = 1024
MAX_FOLDS_OF_FIT = 3


class ImputationMixin(PublicMethodsMixin, CleaningMixin):
    """How the denoiser validates its rows and is fitted."""

    _may_miss_cells = True
    mean_, missing_columns_ = FittedArray(), FittedArray()
    noise_level_, observed_blend_ = FittedArray(), FittedArray()
    _empty, _spread, _unknown_spread = PrivateArray(), PrivateArray(), PrivateArray()
    _divisor, _spreads, _whole = PrivateArray(), PrivateArray(), PrivateArray()

    # The fit family: the shared one, with clean versions of the rows beside.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_clean=None, sample_weight=None):
        """Learn to clean rows like those of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows, clean unless there is `X_clean`; memory maps and CSR matrices are
            read batch by batch.
        y : Ignored
            Present for API consistency.
        X_clean : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            What the rows of X should be. It may miss only cells that X misses. In a
            :class:`~sklearn.pipeline.Pipeline` ask for it by ``set_fit_request``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios count.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, X_clean or a parameter is not what it must be.
        DivergenceError
            If the training loss explodes; the estimator stays as it was.
        """
        warn_of_targets(X, y)
        given = given_to_fit(X, y, X_clean=X_clean, sample_weight=sample_weight)
        return self._fit_guarded(X, X_clean, sample_weight, given)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, *, X_clean=None, sample_weight=None):
        """Train one epoch on X, going on from where the network is.

        The first call fixes the scaling, the normal distribution, which columns count as
        missing and the starting weights, so it should be a
        representative sample. There is no
        validation and no schedule: the learning rate is constant, a third of
        `learning_rate`, and `blend_` stays as it was (1 where there was no ``fit``).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on; at least two in the first call.
        y : Ignored
            Present for API consistency.
        X_clean : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            What the rows of X should be; in every call or in none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios within one call count.

        Returns
        -------
        self : object
            The estimator, trained further.
        """
        given = given_to_fit(X, y, X_clean=X_clean, sample_weight=sample_weight)
        return self._partial_fit_guarded(X, X_clean, sample_weight, given)

    # Input validation: noisy rows, and clean ones beside them.

    def _check_training_rows(self, X, X_clean, sample_weight, *, reset):
        """Validated rows, beside their clean versions if given, and their weights."""
        if not reset and self._is_paired != (X_clean is not None):
            raise ValueError(
                "X_clean must be given whenever training goes on or never; "
                f"{'it was' if self._is_paired else 'none was'} given at first."
            )
        rows = as_numpy_table(self._check_rows(X, reset=reset), sample_weight)
        min_rows = 2 if reset else 1
        kept, weight = drop_zero_weight_rows(rows, sample_weight, min_rows)
        if X_clean is None:
            return kept, weight
        if is_source(rows):
            raise TypeError(f"X is {rows!r}: X_clean needs rows in memory. Pass X.read_all().")
        clean = self._check_clean(X_clean, rows)
        return ColumnStack(kept, drop_zero_weight_rows(clean, sample_weight, min_rows)[0]), weight

    def _check_clean(self, X_clean, rows):
        X_clean = in_memory_if_small(opened(X_clean))
        names = [str(name) for name in getattr(X_clean, "columns", ())]
        if names and names != list(getattr(self, "feature_names_in_", names)):
            raise ValueError(
                f"X_clean has columns {names}, but X has {self.feature_names_in_.tolist()}."
            )
        clean, _ = to_compute_array(X_clean, self._keeps_tensors, name="X_clean")
        if self._columns is not None:
            clean = clean_numbers(self._columns, clean, rows.shape)
        clean = as_numpy_table(
            check_input(check_array, clean, marker=self._marker, input_name="X_clean")
        )
        names = getattr(self, "feature_names_in_", None)
        check_magnitudes(clean, names, name="X_clean")
        if clean.shape != rows.shape:
            raise ValueError(
                f"X_clean has shape {clean.shape}, but X has {rows.shape}; each row of X needs "
                "its clean version."
            )
        for span, chunk in row_chunks(clean):
            unknown = np.isnan(chunk) & ~np.isnan(as_dense(rows[span]))
            if unknown.any():
                row, column = np.argwhere(unknown)[0]
                raise ValueError(
                    f"X_clean misses the cell in row {span.start + row}, column {column}, which X "
                    "does not miss; a clean version must be known where a noisy one is."
                )
        return clean

    @property
    def _accepts_missing(self):
        return marks_as_nan(self.missing_values)

    @property
    def indicator_(self):
        # Without a docstring of its own, numpydoc shows that in the class's.
        misses_cells = np.zeros(self.n_features_in_, dtype=bool)
        misses_cells[self._columns_with_gaps] = True
        if not self.add_indicator:
            return None
        return fitted_indicator(self.missing_values, misses_cells)

    @property
    def _columns_with_gaps(self):
        return numpy_array(self, "missing_columns_")

    @property
    def _marker(self):
        return np.nan if self._accepts_missing else self.missing_values

    # The fit.

    def _make_plan(self, X, sample_weight, rng):
        """Learn kinds of noise and gaps, scaling, start and statistics; plan the rest."""
        self._learn_noise_and_gaps(X)
        self.gaussian_, self._bounds, self._divisor, self._shrinkage = None, None, None, 0.0
        self.noise_level_ = None
        self._scaler = scaler = fitted_scaler(self, X, sample_weight)
        n_features = scaler.n_inputs
        self._whole = None if self._columns is None else whole_columns(self, clean_rows(X))
        limits_of_columns(self)  # raises where they contradict each other
        self._check_range(X)
        self.mean_ = scaler.mean_
        seeds = Seeds.draw(rng)
        self._draw_seed, self._n_draws = seeds.weights, 0
        some = studied(X, sample_weight)
        self._learn_levels(*some)
        pca = self._fit_start(*some, seeds.start)
        self.n_components_ = k = int(self._n_latents_to_learn)
        self._learn_shrinkage_and_spread(*some, rng)
        network = resolve_network(self, self._auto, n_features)
        settings = net_settings(self, self._auto, n_features, X.shape[0])
        make_net = NetFactory(self, network, seeds, settings, DenoisingNet)
        n_inputs = n_features + self.n_features_in_ if self._reads_mask else None
        start = pca if self.init == "pca" else None

        def build(rotation):
            module = build_autoencoder(
                network,
                n_features,
                k,
                link=make_link(self),
                pca=start,
                tied=False,
                seed=seeds.weights,
                n_inputs=n_inputs,
            )
            return make_net(module, make_objective(self, loss=self.loss))

        return self._plan(build, settings["max_epochs"], make_net.device)

    def _check_range(self, X):
        for rows in (noisy_rows(X), clean_rows(X)) if self._is_paired else (X,):
            super()._check_range(rows)

    def _plan(self, build, max_epochs, device, **fields):
        self.noise_level_ = noise_level(self, self._spreads)
        return Plan.of(
            self,
            build=build,
            feed=self._feed(device),
            measure=blend_measure,
            begin=self._begin,
            attributes_after=self._attributes_after,
            max_epochs=max_epochs,
            max_folds=MAX_FOLDS_OF_FIT,
            keep_last=keeps_last_epoch(self),
            **fields,
        )

    def _feed(self, device):
        """What training and the encoder read, of the fitted parts."""
        hides_more = not self._only_fills and len(self._columns_with_gaps) > 0
        level = numpy_array(self, "noise_level_")
        return NoisyFeed(
            scaler=self._scaler,
            device=device,
            noise=self.noise_,
            level=0.0 if level is None else level,
            level_varies=level_varies(self),
            hidden_share=self._auto.noise_levels["masking"] if hides_more else 0.0,
            is_paired=self._is_paired,
            reads_mask=self._reads_mask,
            empty=in_encoded_columns(self, self._empty),
            bounds=self._bounds,
            divisor=self._divisor,
            shrinkage=self._shrinkage if self.init == "pca" else None,
            gaussian=self.gaussian_,
        )

    def _begin(self, net, feed):
        super()._begin(net, feed)
        self.gaussian_ = feed.gaussian

    def _finish(self, outcome, X, sample_weight):
        super()._finish(outcome, X, sample_weight)
        if outcome.measures is None and hasattr(self, "blend_"):
            return
        measures = [m for m in outcome.measures or [] if m is not None]
        self._learn_blend(measures)

    def _learn_blend(self, measures):
        """Weigh the network against the fill, and find how far truth is from the blend.

        With the truth x, the fill f and the network's output n of hidden cells, and sums S
        over these cells, the weight b that minimises ``S[((x - f) - b (n - f))**2]`` is
        ``S[(x - f) (n - f)] / S[(n - f)**2]``: least squares through the origin, kept in
        [0, 1], as in the stacking of two predictors (Breiman, "Stacked regressions", Machine
        Learning 24, 1996). Without a normal distribution the fill is a mean and b is 1. In
        each column, draws with deviations e are multiplied by the root of
        ``S[((x - f) - b (n - f))**2] / S[e**2]``, so that they are as far from the blend as the
        truth was on rows held out.
        """
        is_plain = self.gaussian_ is None
        self.blend_ = 1.0
        self.observed_blend_ = np.ones(self.n_features_in_)
        self._spread = self._unknown_spread if is_plain else np.ones(self._scaler.n_inputs)
        if not measures:
            return
        gap_sq, cross, step_sq, draw_sq, *observed = np.sum(measures, axis=0)
        weights = 1.0
        if self._columns is not None:  # each column of the table counts once
            weights, column_of = self._scaler.cell_weights, self._scaler.column_of
            observed = [np.bincount(column_of, weights * part) for part in observed]
        if not self._only_fills:
            self.observed_blend_ = column_weights(*observed)
        if self._learns_to_fill and not is_plain:
            # What was never seen to help is not trusted.
            steps = (weights * step_sq).sum()
            best = (weights * cross).sum() / steps if steps > 0 else 0.0
            self.blend_ = float(np.clip(best, 0.0, 1.0))
        self._spread = self._spread.copy()
        unexplained = gap_sq - 2 * self.blend_ * cross + self.blend_**2 * step_sq
        unexplained = np.maximum(unexplained, 0.0)
        known = draw_sq > 0
        self._spread[known] = np.sqrt(unexplained[known] / draw_sq[known])

    # What is learned before the plan.

    def _learn_noise_and_gaps(self, X):
        """Note which columns miss cells, and settle on the noise."""
        some, none = gaps_per_column(noisy_rows(X))
        self._is_paired = isinstance(X, ColumnStack)
        if self._is_paired:
            _, none = gaps_per_column(X.right)
        if none.all():
            raise ValueError(NO_CELLS)
        self._empty = none
        self.missing_columns_ = np.flatnonzero(some)
        self.noise_ = None if self._is_paired else self.noise
        if self.noise_ == "auto":
            on_gaps = self.network is None or len(self._columns_with_gaps)
            self.noise_ = "masking" if on_gaps else "gaussian"
        check_for_table(self)
        check_noise_level(self)
        self._learns_to_fill = self._hides_cells(noisy_rows(X))

    def _hides_cells(self, X):
        """Whether cells are missing in training, by themselves or by noise."""
        if len(self._columns_with_gaps) or self._is_paired:
            return len(self._columns_with_gaps) > 0
        if not callable(self.noise_):
            return self._only_fills
        rows = np.array(as_dense(X[:ROWS_FOR_PROBE]), dtype=np.float64)
        return bool(np.isnan(call_noise(self.noise_, rows, np.random.default_rng(0))).any())

    @property
    def _only_fills(self):
        """Whether noise is missing cells and nothing else; observed cells are right then."""
        return self.noise_ == "masking"

    @property
    def _reads_mask(self):
        return self._learns_to_fill and self.network is None

    @property
    def _auto(self):
        if not self._only_fills:
            return Cleaning
        return Filling if self._columns is None else TableFilling

    def _learn_levels(self, X, sample_weight):
        """Find how strong noise is, and what makes inputs small where it is strong."""
        self._spreads = None
        if self.noise_ == "gaussian":
            rows, weight = self._feed(None).clean_sample(X, None, sample_weight)
            clean = clean_rows(X)
            if self._columns is not None:
                clean = clean[:, self._scaler.of_numbers]
                rows = rows[:, : self._scaler.n_scores]
            if clean.shape[1]:
                self._spreads = column_spreads(clean, sample_weight, rows, weight)
        self.noise_level_ = noise_level(self, self._spreads)
        if not self._only_fills:
            noisy, weight = self._feed(None).read_sample(X, None, sample_weight)
            self._divisor = input_divisor(self.scaling, noisy, weight)

    def _learn_shrinkage_and_spread(self, X, sample_weight, rng):
        """Of the distribution of missing cells; also how far the encoder looks."""
        feed = self._feed(None)
        if self.init == "pca":
            rows, weight = feed.sample_to_fill(X, None, sample_weight)
            hidden_share = self._auto.noise_levels["masking"]
            self._shrinkage = cross_validated_shrinkage(
                rows, weight, hidden_share, self._scaler, rng
            )
        rows, _ = feed.clean_sample(X, None, sample_weight)
        n_observed = np.maximum((~np.isnan(rows)).sum(axis=0), 1)
        mean = np.nansum(rows, axis=0) / n_observed
        squares = np.nansum(np.square(rows - mean), axis=0)
        self._unknown_spread = np.sqrt(squares / n_observed)
        reach = REACH * self._unknown_spread
        # A rare value far out would be carried on by the network into other cells; noise and
        # pairs may be far from clean rows.
        bounds = (mean - reach).astype(np.float32), (mean + reach).astype(np.float32)
        self._bounds = bounds if self._only_fills else None

    def _fit_start(self, X, sample_weight, seed):
        """The linear start, if any; also settles the number of latents."""
        n_features = self._scaler.n_inputs
        self._n_latents_to_learn = self.n_components
        if self.n_components == "auto":
            self._n_latents_to_learn = self._auto.n_components(n_features)
        on_share = isinstance(self._n_latents_to_learn, float)
        if self.init == "random" and not on_share:
            return None
        n_directions = MAX_LATENTS if on_share else self._n_latents_to_learn
        regress = self.init == "pca" and not self._only_fills and n_features <= MAX_REGRESSED
        if on_share or not regress:
            pca = pca_of_rows(clean_rows(X), self._scaler, n_directions, sample_weight, seed)
        if on_share:
            n_directions = self._n_latents_to_learn = n_latents(self.n_components, pca)
        if regress:
            pca = self._regress(X, n_directions, sample_weight, seed)
        elif self._reads_mask:
            pca = pca.with_more_inputs(self.n_features_in_)
        return pca.whitened()

    def _regress(self, X, n_directions, sample_weight, seed):
        """The linear map from noisy rows to clean ones; gaps are read as means here."""
        feed = self._feed(None)
        if self._is_paired:
            source, pairs_of = PairTransform(feed.input_transform), lambda pairs: pairs
        else:
            # Rows to be made noisy are only scaled when they are read.
            source, noise = self._scaler, feed.cell_noise(generator(seed))
            pairs_of = NoisyRows(None, noise, feed.input_transform).pairs
        return linear_denoiser(
            X, source, pairs_of, self._scaler.n_inputs, n_directions, sample_weight, seed
        )

    def _input_transform(self):
        return self._feed(None).input_transform


# What parameters of a denoiser mean.


def marks_as_nan(missing_values):
    """Whether cells with this marker are NaN once rows are an array of numbers."""
    return missing_values is None or is_scalar_nan(missing_values) or is_pandas_na(missing_values)


def column_weights(cross, step_sq):
    """Weights of the network beside the cells that it cleans, by least squares in [0, 1]."""
    weights = np.ones_like(cross)
    np.divide(cross, step_sq, out=weights, where=step_sq > 0)
    return np.clip(weights, 0.0, 1.0)


def keeps_last_epoch(model):
    """Whether the last epoch is kept: the blend does what the choice of one does elsewhere."""
    return model._only_fills and model.n_iter_no_change is None and model.init == "pca"
