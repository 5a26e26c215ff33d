"""The private half of the denoiser: noise, pairs and the best linear answer."""

import warnings

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

from skae._data._arrays import (
    as_array,
    constant,
    empty,
    filled,
    is_tensor,
    namespace,
    output_dtype,
)
from skae._data._chunks import ColumnStack, as_dense, row_chunks
from skae._data._scaling import Scaler
from skae._data._validation import as_numpy_table, check_input, drop_weightless, to_compute_array
from skae._engine._batches import SourceRows
from skae._engine._build import linear_denoiser, pca_of_rows
from skae._engine._denoising_net import (
    DenoisingNet,
    InputTransform,
    NoisyRows,
    PairTransform,
)
from skae._engine._losses import Objective
from skae._engine._noise import CellNoise, call_noise
from skae._engine._runtime import generator
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_ROWS_PER_EPOCH, Cleaning, Filling
from skae._fit._run import MAX_FOLDS, MAX_LATENTS
from skae._sklearn import is_scalar_nan
from skae._stats._gaussian import choose_shrinkage, fit_gaussian

# The normal distribution is learned from so many cells, or from a thousand rows.
MAX_CELLS_FOR_GAUSSIAN, MIN_ROWS_FOR_GAUSSIAN = 2**20, 1000
# Held-out rows that the network's weight is learned from; fewer are made noisy several times.
ROWS_FOR_BLEND = 2000
# What the encoder reads is cut off at so many standard deviations, where cells are filled.
REACH = 8.0
# Squares of larger values overflow.
LARGEST = 1e150
# Rows that tell whether a callable takes cells away.
ROWS_FOR_PROBE = 100
# Above this many columns training begins at PCA: a regression would cost more than it.
MAX_REGRESSED = 1024


def warn_of_targets(X, y):
    """Clean rows given as the second argument would be ignored, as y is everywhere."""
    shape = getattr(y, "shape", ())
    if len(shape) == 2 and shape[1] > 1 and shape == getattr(X, "shape", ()):
        warnings.warn(
            "y is ignored, but it has the shape of X. To learn from pairs of noisy and clean "
            "rows, write fit(X, X_clean=...).",
            UserWarning,
            stacklevel=5,
        )


def gaps_per_column(X):
    """Masks of the columns that miss some cells, and of those that miss all."""
    some, all_ = np.zeros(X.shape[1], dtype=bool), np.ones(X.shape[1], dtype=bool)
    for _, chunk in row_chunks(X):
        missing = np.isnan(chunk)
        some |= missing.any(axis=0)
        all_ &= missing.all(axis=0)
    return some, all_


class FillingMixin:
    """Doors for pairs, hooks of TrainingMixin, and what the fitted parts say together."""

    _net_class = DenoisingNet
    _max_folds = 3
    _knows_gaps = True

    # Doors: noisy rows, and clean ones beside them.

    def _take_in(self, X, X_clean, sample_weight, reset):
        """Validated rows, beside their clean versions if given, and their weights."""
        if not reset and self._is_paired != (X_clean is not None):
            raise ValueError(
                "X_clean must be given whenever training goes on or never; "
                f"{'it was' if self._is_paired else 'none was'} given at first."
            )
        rows = as_numpy_table(self._check_rows(X, reset=reset))
        min_rows = 2 if reset else 1
        kept, weight = drop_weightless(rows, sample_weight, min_rows)
        if X_clean is None:
            return kept, weight
        clean = self._check_clean(X_clean, rows)
        return ColumnStack(kept, drop_weightless(clean, sample_weight, min_rows)[0]), weight

    def _check_clean(self, X_clean, rows):
        names = [str(name) for name in getattr(X_clean, "columns", ())]
        if names and names != list(getattr(self, "feature_names_in_", names)):
            raise ValueError(
                f"X_clean has columns {names}, but X has {self.feature_names_in_.tolist()}."
            )
        clean, _ = to_compute_array(X_clean, name="X_clean")
        allow_nan = self._accepts_missing
        clean = check_input(check_array, clean, allow_nan=allow_nan, input_name="X_clean")
        clean = as_numpy_table(self._mark_missing(clean))
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

    def _check_rows(self, X, *, reset):
        return self._mark_missing(super()._check_rows(X, reset=reset))

    def _mark_missing(self, X):
        """Put NaN where `missing_values` stands."""
        if self._accepts_missing:
            return X
        if is_tensor(X):
            return namespace(X).where(float(self.missing_values) == X, np.nan, X)
        if issparse(X):
            if self.missing_values == 0:
                raise ValueError(
                    "missing_values=0 can not be told from the zeros that a sparse X leaves out; "
                    "give a dense X."
                )
            X = X.astype(output_dtype(X))  # a copy
            X.data[X.data == X.dtype.type(self.missing_values)] = np.nan
            return X
        marker = X.dtype.type(self.missing_values)
        if marker != self.missing_values and X.dtype.kind != "f":
            return X  # an integer is never one and a half
        return np.where(marker == X, np.nan, X).astype(output_dtype(X), copy=False)

    @property
    def _accepts_missing(self):
        return self.missing_values is None or is_scalar_nan(self.missing_values)

    # What is learned: decided before anything else.

    def _learn_kind(self, X):
        """Note which columns miss cells, and settle on the noise."""
        clean = X.right if isinstance(X, ColumnStack) else X
        rows = X.left if isinstance(X, ColumnStack) else X
        some, none = gaps_per_column(rows)
        if clean is not rows:
            _, none = gaps_per_column(clean)
        if none.all():
            raise ValueError("All columns of X are empty: there is nothing to learn from.")
        self._empty = none
        self.missing_columns_ = np.flatnonzero(some)
        self._is_paired = isinstance(X, ColumnStack)
        self.noise_ = None if self._is_paired else self.noise
        if self.noise_ == "auto":
            on_gaps = self.network is None or len(self.missing_columns_)
            self.noise_ = "masking" if on_gaps else "gaussian"
        self._check_noise_level()
        self._hides = self._learn_whether_cells_are_hidden(rows)

    def _learn_whether_cells_are_hidden(self, X):
        """Whether training takes cells away, so that the network learns to fill them."""
        if len(self.missing_columns_) or self._is_paired:
            return len(self.missing_columns_) > 0
        if not callable(self.noise_):
            return self.noise_ == "masking"
        rows = np.array(as_dense(X[:ROWS_FOR_PROBE]), dtype=np.float64)
        return bool(np.isnan(call_noise(self.noise_, rows, np.random.default_rng(0))).any())

    @property
    def _only_fills(self):
        """Whether the network is about missing cells and nothing else."""
        return self.noise_ == "masking"

    @property
    def _auto(self):
        return Filling if self._only_fills else Cleaning

    def _check_noise_level(self):
        if isinstance(self.noise_level, str) or callable(self.noise_) or self.noise_ is None:
            self._level = Cleaning.noise_levels.get(self.noise_, 0.0)
            return
        level = np.asarray(self.noise_level, dtype=np.float64)
        if level.shape not in ((), (self.n_features_in_,)):
            raise ValueError(
                f"noise_level has shape {level.shape}; it must be a number or hold one for each "
                f"of the {self.n_features_in_} columns of X."
            )
        most = {"gaussian": np.inf, "masking": 0.5}.get(self.noise_, 1.0)
        wrong = level[~((level >= 0) & (level <= most))]
        if wrong.size:
            raise ValueError(
                f"noise_level={float(wrong.flat[0])!r} must be from 0 to {most:g} where "
                f"noise={self.noise_!r}."
            )
        self._level = level

    def _keeps_observed(self):
        return self._only_fills if self.keep_observed == "auto" else self.keep_observed

    def _tells_missing(self):
        return self._hides and self.network is None

    # Hooks.

    def _start(self, X, sample_weight, rng):
        self._learn_kind(X)
        vars(self).pop("gaussian_", None)
        start = super()._start(X, sample_weight, rng)
        rows, weight = self._sample_rows(X, None, sample_weight)
        self._shrinkage = self._choose_shrinkage(rows, weight, rng)
        self._learn_spread(rows)
        return start

    def _learn_spread(self, rows):
        """How far values are from their column's mean, and how far the encoder looks."""
        n_observed = np.maximum((~np.isnan(rows)).sum(axis=0), 1)
        mean = np.nansum(rows, axis=0) / n_observed
        squares = np.nansum(np.square(rows - mean), axis=0)
        self._unknown_spread = np.sqrt(squares / n_observed)
        reach = REACH * self._unknown_spread
        # A rare value far out would be carried on by the network into other cells; noise and
        # pairs may be far from clean rows.
        bounds = (mean - reach).astype(np.float32), (mean + reach).astype(np.float32)
        self._bounds = bounds if self._only_fills else None

    def _check_same_network(self):
        super()._check_same_network()
        self._check_noise_level()

    def _fit_scaler(self, X, sample_weight):
        clean = X.right if self._is_paired else X
        scaler = Scaler(self.scaling).fit(clean, sample_weight)
        largest = np.maximum(-scaler.least_, scaler.most_)
        if largest.max() > LARGEST:
            raise ValueError(
                f"Column {largest.argmax()} of X holds {largest.max():.3g}; values up to "
                f"{LARGEST:g} can be squared. Change its unit."
            )
        return scaler

    def _fit_pca(self, X, sample_weight, seed):
        """Where to begin; also settles the number of latents, which noise has no say in."""
        n_features, clean = self.n_features_in_, X.right if self._is_paired else X
        self._n_latents_to_learn = self.n_components
        if self.n_components == "auto":
            self._n_latents_to_learn = self._auto.n_components(n_features)
        on_share = isinstance(self._n_latents_to_learn, float)
        if self.init == "random" and not on_share:
            return None
        n_directions = MAX_LATENTS if on_share else self._n_latents_to_learn
        regress = self.init == "pca" and not self._only_fills and n_features <= MAX_REGRESSED
        if on_share or not regress:
            pca = pca_of_rows(clean, self._scaler, n_directions, sample_weight, seed)
        if on_share:
            n_directions = self._n_latents_to_learn = super()._choose_n_latents(pca)
        if regress:
            pca = self._regress(X, n_directions, sample_weight, seed)
        elif self._tells_missing():
            pca = pca.with_more_inputs(n_features)
        return pca.whitened()

    def _regress(self, X, n_directions, sample_weight, seed):
        """The linear map from noisy rows to clean ones; gaps are read as means here."""
        input_transform = InputTransform(
            self._scaler, np.nan_to_num, self._tells_missing(), self._empty
        )
        if self._is_paired:
            source, pairs_of = PairTransform(input_transform), lambda pairs: pairs
        else:
            # Rows to be made noisy are only scaled when they are read.
            source, noise = self._scaler, self._noise(generator(seed))
            pairs_of = NoisyRows(None, noise, input_transform).pairs
        return linear_denoiser(
            X, source, pairs_of, self.n_features_in_, n_directions, sample_weight, seed
        )

    def _choose_n_latents(self, pca):
        return int(self._n_latents_to_learn)

    def _n_inputs(self):
        return 2 * self.n_features_in_ if self._tells_missing() else None

    def _objective(self):
        return Objective(self.loss, missing=True)

    def _keeps_last_epoch(self):
        # The blend does what the choice of an epoch does elsewhere.
        return self._only_fills and self.n_iter_no_change is None and self.init == "pca"

    def _before_training(self, X, train, sample_weight):
        self.gaussian_ = None
        if self.init == "pca":
            rows, weight = self._sample_rows(X, train, sample_weight)
            self.gaussian_ = fit_gaussian(rows, weight, self._shrinkage)

    def _train_once(self, X, sample_weight, rng):
        if not hasattr(self, "gaussian_"):
            self._before_training(X, None, sample_weight)
            self._finish_fit([])
        self.net_.train_on(self._noisy(self._fit_rows(X, None, sample_weight)))

    def _fit_rows(self, X, indices, sample_weight, rotation=None):
        input_transform = (
            PairTransform(self._input_transform()) if self._is_paired else self._scaler
        )
        return self._rows(X, indices, sample_weight, input_transform)

    def _to_train_on(self, rows):
        times = -(-MIN_ROWS_PER_EPOCH // len(rows))
        return self._noisy(rows if times == 1 else rows.repeated(times))

    def _noisy(self, rows):
        """Pairs of inputs and targets, with fresh noise unless there are clean rows."""
        rows = rows.in_memory()
        if self._is_paired:
            return rows
        return NoisyRows(rows, self._noise(self.net_.corruption.generator), self._input_transform())

    def _to_validate_on(self, rows):
        if self._is_paired:
            return rows.in_memory()
        draws = self.net_.corruption.generator
        fixed = generator(draws.initial_seed() + 1, draws.device)
        return NoisyRows(rows, self._noise(fixed), self._input_transform()).frozen()

    def _measure(self, X, held_out, sample_weight):
        """Squared gaps between truth and fill, what the network would close, and draws."""
        if held_out is None or not self._hides:
            return None
        x, hidden, weight = self._hidden_and_true(X, held_out, sample_weight)
        hit = np.isnan(hidden) & ~np.isnan(x)
        inputs = self._input_transform().inputs(hidden)
        told, fill = self.net_.denoised(inputs), inputs[:, : x.shape[1]]
        gap, step = (np.where(hit, part - fill, 0.0) for part in (x, told))
        draws = np.where(hit, self._deviations(hidden, np.random.default_rng(0)), 0.0)
        products = (gap * gap, gap * step, step * step, draws * draws)
        return np.stack([weight @ product for product in products])

    def _finish_fit(self, measures):
        is_plain = self.gaussian_ is None
        self.blend_ = 1.0
        self._spread = self._unknown_spread if is_plain else np.ones(self.n_features_in_)
        measures = [measure for measure in measures if measure is not None]
        if not measures:
            return
        gap, mixed, network, drawn = np.sum(measures, axis=0)
        if not is_plain:
            # What was never seen to help is not trusted.
            best = mixed.sum() / network.sum() if network.sum() > 0 else 0.0
            self.blend_ = float(np.clip(best, 0.0, 1.0))
        self._spread = self._spread.copy()
        left = np.maximum(gap - 2 * self.blend_ * mixed + self.blend_**2 * network, 0.0)
        known = drawn > 0
        self._spread[known] = np.sqrt(left[known] / drawn[known])

    # What the hooks share.

    def _input_transform(self):
        fill = np.nan_to_num if self.gaussian_ is None else self.gaussian_.fill
        return InputTransform(self._scaler, fill, self._tells_missing(), self._empty, self._bounds)

    def _noise(self, draws):
        hides_besides = self.noise_ != "masking" and len(self.missing_columns_) > 0
        return CellNoise(
            self.noise_,
            self._level,
            self._auto.noise_levels["masking"] if hides_besides else 0.0,
            scaler=self._scaler,
            generator=draws,
        )

    def _sample_rows(self, X, indices, sample_weight):
        """Some clean scaled rows, NaN where a cell is missing, and their weights."""
        clean = X.right if self._is_paired else X
        rows = SourceRows(clean, self._scaler, indices, sample_weight)
        n_rows = max(MIN_ROWS_FOR_GAUSSIAN, MAX_CELLS_FOR_GAUSSIAN // self.n_features_in_)
        chosen = np.arange(0, len(rows), -(-len(rows) // n_rows))
        weight = None if rows.sample_weight is None else rows.sample_weight.numpy()[chosen]
        return rows.read(chosen).numpy().astype(np.float64), weight

    def _choose_shrinkage(self, rows, weight, rng):
        if self.init == "random":
            return 0.0
        share = 2 * self._auto.noise_levels["masking"] * rng.uniform(size=(len(rows), 1))
        hidden = np.where(rng.uniform(size=rows.shape) < share, np.nan, rows)
        folds = np.array_split(rng.permutation(len(rows)), min(MAX_FOLDS, len(rows)))
        folds = folds if len(rows) < MIN_ROWS_FOR_SPLIT else folds[:1]
        return choose_shrinkage(rows, hidden, folds, weight)

    def _hidden_and_true(self, X, held_out, sample_weight):
        """Held-out rows, a version with more cells missing, and weights; all scaled."""
        held_out = held_out[:: -(-len(held_out) // ROWS_FOR_BLEND)]
        weight = np.ones(len(held_out)) if sample_weight is None else sample_weight[held_out]
        if self._is_paired:
            noisy, clean = (
                SourceRows(rows, self._scaler, held_out).read_all().numpy()
                for rows in (X.left, X.right)
            )
            return clean, noisy, weight
        times = max(1, ROWS_FOR_BLEND // len(held_out))
        x = SourceRows(X, self._scaler, np.tile(held_out, times)).read_all()
        draws = generator(self.net_.corruption.generator.initial_seed() + 2)
        return x.numpy(), self._noise(draws)(x).numpy(), np.tile(weight, times)

    # What the fitted parts say together.

    def _denoise(self, X, draws=None):
        """Rows without gaps, all columns; missing cells drawn if there is what to draw from."""
        xp, scaler = namespace(X), self._scaler.on_device_of(X)
        out = empty(X.shape, X)
        out[:] = as_dense(X)
        missing = xp.isnan(out)
        keep = self._keeps_observed()
        # Rows without gaps are not looked at where they come back as they are.
        wanted = xp.any(missing, axis=1) if keep else xp.ones_like(missing[:, 0])
        chosen = xp.nonzero(wanted)[0]
        kept = constant(keep | self._empty, X)
        equal = scaler.least_ == scaler.most_
        equals = constant(scaler.least_[equal], X, out.dtype)  # zero where there was no value
        for span, inputs, told in self.net_.denoised_rows(self._rows(X, chosen)):
            rows = chosen[span]
            gaps = missing[rows]
            fill = inputs[:, : self.n_features_in_]
            told = xp.where(gaps, fill + self.blend_ * (told - fill), told)
            if draws is not None:
                scaled = as_array(scaler.transform(as_dense(X[rows])))
                told += constant(self._spread * self._deviations(scaled, draws), X)
            told = scaler.inverse_transform(told, out.dtype)
            told[:, equal] = equals
            out[rows] = xp.where(~gaps & kept, out[rows], told)
        return out

    def _deviations(self, scaled, rng):
        """How far draws are from what is expected, zero in observed cells."""
        if self.gaussian_ is not None:
            return self.gaussian_.deviations(scaled, rng)
        return np.where(np.isnan(scaled), rng.standard_normal(scaled.shape), 0.0)

    def _activations(self, X):
        room = empty((X.shape[0], self._n_hidden(X[:1])), X)
        return filled(room, self.net_.hidden_rows(self._rows(X)))

    def _indicators(self, X):
        room, columns = empty((X.shape[0], len(self.missing_columns_)), X), self.missing_columns_
        missing = ((span, namespace(X).isnan(chunk[:, columns])) for span, chunk in row_chunks(X))
        return filled(room, missing)

    def _n_hidden(self, row):
        return sum(hidden.shape[1] for _, hidden in self.net_.hidden_rows(self._rows(row)))
