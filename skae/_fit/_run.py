"""How a fit goes: sizes, starting point, training, and which epoch is kept."""

import warnings
from copy import copy
from math import ceil
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state, gen_batches

from skae._data._scaling import Scaler
from skae._engine._build import build_autoencoder, is_ours, make_link, mlp, pca_of_rows
from skae._engine._joint_training import train_together
from skae._engine._losses import Objective
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._progress import losses_reported_in, remaining_epochs
from skae._engine._rotation import COORDINATES_PER_LATENT, Rotation, refit_output
from skae._engine._runtime import generator, resolve_device, resolve_precision
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS, Compression
from skae.exceptions import TrainingInterruptedWarning

# Latents trained at most where their number is to be found.
MAX_LATENTS = 256
# Share of the variance that n_components="auto" keeps.
AUTO_SHARE = 0.95
MAX_FOLDS = 5
# Parameters that training may go on with when they change; all others shape the network.
MAY_CHANGE = {
    "add_indicator",
    "aggregation",
    "alpha",
    "batch_size",
    "callbacks",
    "contamination",
    "core_fraction",
    "device",
    "early_stopping",
    "keep_empty_features",
    "keep_observed",
    "learning_rate",
    "max_epochs",
    "n_importance_samples",
    "n_iter_no_change",
    "n_mixture_components",
    "n_refits",
    "n_std",
    "noise_level",
    "output",
    "prior",
    "random_state",
    "refine",
    "sample_posterior",
    "threshold",
    "validation_fraction",
    "verbose",
    "warm_start",
}
# partial_fit has no schedule to anneal, so it walks at a constant, lower rate.
PARTIAL_FIT_RATE = 1 / 3


class TrainingMixin:
    """The private half of every estimator's ``fit``; the last methods are its hooks."""

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        n_rows = X.shape[0]
        if self.warm_start and hasattr(self, "net_"):
            self._continue(n_rows)
            self._check_target_range(X)
            measures = self._train_with_split(X, sample_weight, rng, rotation=None)
        else:
            self._check_validation_fraction(n_rows)
            rotation, pca, seeds = self._start(X, sample_weight, rng)
            self._check_target_range(X)
            if self._takes_folds(n_rows):
                measures = self._train_with_folds(X, sample_weight, rng, pca, seeds)
            else:
                self._build_net(X.shape[0], pca, rotation, seeds)
                measures = self._train_with_split(X, sample_weight, rng, rotation)
        self._finish_fit(measures)

    def _partial_fit(self, X, sample_weight, first):
        rng = check_random_state(self.random_state)
        if first:
            _, pca, seeds = self._start(X, sample_weight, rng)
            self._build_net(X.shape[0], pca, None, seeds)
        else:
            self._check_same_network()
            self.net_ = self.net_.copy()
        self._check_target_range(X)
        self._train_once(X, sample_weight, rng)
        self._record_training()

    def _takes_folds(self, n_rows):
        """Whether folds choose the epoch; callbacks watch one training, so they get one split."""
        return self.early_stopping and n_rows < MIN_ROWS_FOR_SPLIT and not self.callbacks

    def _start(self, X, sample_weight, rng):
        """Fix the scaling and the sizes; return the way in: rotation, PCA and seeds."""
        self._learn_scaling(X, sample_weight)
        seeds = [int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=4)]
        pca = self._fit_pca(X, sample_weight, seeds[0])
        self.n_components_ = self._choose_n_latents(pca)
        rotation = None
        if self._has_plain_output() and X.shape[1] >= MIN_WIDE_COLUMNS:
            rotation = Rotation.choose(self._scaler, pca, self.n_components_)
        return rotation, pca, seeds[1:]

    def _build_net(self, n_rows, pca, rotation, seeds):
        self.net_ = self._make_net(self.n_features_in_, pca, rotation, seeds)
        self._description = self._describe()
        self._set_training_parameters(n_rows)

    def _make_net(self, n_features, pca, rotation, seeds):
        network = self._network(n_features)
        device = resolve_device(self.device)
        module = self._make_module(network, n_features, pca, rotation, seeds[0])
        return self._net_class(
            module.to(device),
            self._objective(),
            corruption=self._corruption(generator(seeds[1], device), pca),
            batch_generator=generator(seeds[2], device),
            precision=resolve_precision(self.precision, device),
            device=device,
            global_seed=None if is_ours(network) else seeds[0],
            **self._net_parameters(),
        )

    def _set_training_parameters(self, n_rows):
        n_features = self.n_features_in_
        batch_size, max_epochs = self._batch_size_and_epochs(n_rows)
        rate = none_if_auto(self.learning_rate) or self._auto.learning_rate(n_features, n_rows)
        alpha = none_if_auto(self.alpha)
        if alpha is None:
            alpha = self._auto.alpha(n_features, max_epochs * -(-n_rows // batch_size))
        self.net_.set_params(
            learning_rate=rate,
            partial_rate=PARTIAL_FIT_RATE * rate,
            alpha=alpha,
            batch_size=batch_size,
            max_epochs=max_epochs,
            patience=self.n_iter_no_change,
            callbacks=self.callbacks,
            verbose=int(self.verbose),
        )

    def _batch_size_and_epochs(self, n_rows):
        batch_size = none_if_auto(self.batch_size) or self._auto.batch_size(n_rows)
        return batch_size, none_if_auto(self.max_epochs) or self._auto.max_epochs(
            n_rows, batch_size
        )

    def _n_epochs_at_most(self, n_rows, n_features):
        """How many epochs a fit shows: those of folds that train as one count once."""
        n_epochs = self._batch_size_and_epochs(n_rows)[1]
        if not self._takes_folds(n_rows):
            return n_epochs
        n_folds, at_once = self._folds(n_rows, n_features)
        return n_epochs * (1 + (ceil(n_folds / at_once) if self._is_stackable() else n_folds))

    def _folds(self, n_rows, n_features):
        """The number of folds, and how many of them are trained at once."""
        n_folds = round(1 / self.validation_fraction)
        n_folds = int(np.clip(n_folds, 2, min(self._max_folds, n_rows)))
        # Wide networks gain nothing from training at once, and take memory.
        return n_folds, n_folds if n_features < MIN_WIDE_COLUMNS else 1

    def _train_once(self, X, sample_weight, rng):
        """One pass over the rows of ``partial_fit``."""
        self.net_.train_on(self._to_train_on(self._fit_rows(X, None, sample_weight)))

    def _train_with_folds(self, X, sample_weight, rng, pca, seeds):
        """Choose the epoch by cross-validation, then train on all rows up to it.

        On few rows one split is mostly noise, and its rows are missed in training.
        """
        n_folds, at_once = self._folds(*X.shape)
        folds = np.array_split(rng.permutation(X.shape[0]), n_folds)
        keep_last = self._keeps_last_epoch()
        losses, measures = [], []
        for some in gen_batches(len(folds), at_once):
            # Each fold is learned by a copy of the estimator.
            copies = [copy(self) for _ in folds[some]]
            parts = [
                own._prepare_fold(X, fold, sample_weight, pca, seeds)
                for own, fold in zip(copies, folds[some], strict=True)
            ]
            nets = [own.net_ for own in copies]
            n_later = (len(folds) - some.stop + 1) * nets[0].max_epochs
            with remaining_epochs(n_later):
                n_trained = train_together(
                    nets, *zip(*parts, strict=True), keep_last=keep_last, until=any
                )
            for own, fold in zip(copies[:n_trained], folds[some], strict=False):
                measures.append(own._measure(X, fold, sample_weight))
                losses.append(own.net_.validation_losses)
            last = copies[n_trained - 1]
            if last.net_.stop_ == "interrupted":
                vars(self).update(vars(last))
                self._record_training()
                return measures
        n_epochs = min(map(len, losses)) - 1
        curve = np.mean([fold_losses[: n_epochs + 1] for fold_losses in losses], axis=0).tolist()
        self._before_training(X, None, sample_weight)
        self._build_net(X.shape[0], pca, None, seeds)
        rows = self._to_train_on(self._fit_rows(X, None, sample_weight))
        best = n_epochs if keep_last else int(np.argmin(curve))
        self.net_.train(rows, keep_epoch=best, n_epochs=n_epochs, known_losses=curve)
        self._record_training()
        self.validation_loss_curve_ = curve
        return measures

    def _prepare_fold(self, X, fold, sample_weight, pca, seeds):
        """Rows to train on without a fold, and those of the fold."""
        train = np.setdiff1d(np.arange(X.shape[0]), fold)
        self._before_training(X, train, sample_weight)
        self._build_net(X.shape[0], pca, None, seeds)
        rows, valid = (self._fit_rows(X, part, sample_weight) for part in (train, fold))
        return self._to_train_on(rows), self._to_validate_on(valid)

    def _train_with_split(self, X, sample_weight, rng, rotation):
        """Train on a part of the rows and keep the best epoch on the rest."""
        rows, valid_rows, held_out = self._prepare_split(X, sample_weight, rng, rotation)
        with losses_reported_in(self._units(rotation, rows, valid_rows)):
            self.net_.train(
                self._to_train_on(rows),
                None if valid_rows is None else self._to_validate_on(valid_rows),
                keep_last=self._keeps_last_epoch(),
            )
        return self._finish_split(X, sample_weight, rows, valid_rows, held_out, rotation)

    def _units(self, rotation, rows, valid_rows):
        """What leads from losses in a rotation to those in columns, if they are shown."""
        if rotation is None or not self.verbose:
            return {}
        parts = {"train_loss": rows, "valid_loss": valid_rows}
        return {
            key: rotation.in_columns(part.with_scaler(self._scaler))
            for key, part in parts.items()
            if part is not None
        }

    def _prepare_split(self, X, sample_weight, rng, rotation):
        """Rows to train on, those to validate on and the latter's numbers, or None."""
        train, held_out = self._split(X.shape[0], rng)
        self._before_training(X, train, sample_weight)
        rows = self._fit_rows(X, train, sample_weight, rotation)
        if held_out is None:
            return rows, None, None
        return rows, self._fit_rows(X, held_out, sample_weight, rotation), held_out

    def _finish_split(self, X, sample_weight, rows, valid_rows, held_out, rotation):
        """What follows training on a split; the measures of what was held out."""
        self._record_training()
        if rotation is not None:
            rows, valid_rows = self._leave_rotation(rotation, rows, valid_rows)
        if valid_rows is not None and self._has_plain_output() and not self._is_ordered():
            refit_output(self.net_.module_, rows, valid_rows)
        return [self._measure(X, held_out, sample_weight)]

    def _leave_rotation(self, rotation, rows, valid_rows):
        """Fold the rotation into the network; return the rows as it reads them now."""
        folded = rotation.fold(self.net_.module_, make_link(*self._link_parameters()))
        self.net_.replace_module(folded)
        rows = rows.with_scaler(self._scaler)
        self.loss_curve_ = [*map(rotation.in_columns(rows), self.loss_curve_)]
        self.net_.rewrite_history("train_loss", self.loss_curve_)
        if valid_rows is not None:
            valid_rows = valid_rows.with_scaler(self._scaler)
            curve = [*map(rotation.in_columns(valid_rows), self.validation_loss_curve_)]
            self.validation_loss_curve_ = curve
            self.net_.rewrite_history("valid_loss", curve[1:])
        return rows, valid_rows

    def _continue(self, n_rows):
        """Prepare a copy of the fitted network for more training."""
        self._check_same_network()
        self.net_ = self.net_.copy()
        self._set_training_parameters(n_rows)

    def _check_validation_fraction(self, n_rows):
        """The number of rows held out; raise if none would be left."""
        n_valid = int(np.ceil(self.validation_fraction * n_rows))
        if self.early_stopping and n_valid >= n_rows:
            raise ValueError(
                f"validation_fraction={self.validation_fraction!r} leaves no rows to train on: "
                f"X has {n_rows} rows. Lower it, or set early_stopping=False."
            )
        return n_valid

    def _split(self, n_rows, rng):
        """Row indices to train on and to validate on (None without early stopping)."""
        if not self.early_stopping:
            return None, None
        n_valid = self._check_validation_fraction(n_rows)
        order = rng.permutation(n_rows)
        return np.sort(order[n_valid:]), np.sort(order[:n_valid])

    def _needs_pca(self):
        return self.init == "pca" or not isinstance(self.n_components, Integral)

    def _fit_pca(self, X, sample_weight, seed):
        if not self._needs_pca():
            return None
        n_directions = MAX_LATENTS
        if isinstance(self.n_components, Integral):
            n_directions = max(n_directions, COORDINATES_PER_LATENT * self.n_components)
        return pca_of_rows(X, self._scaler, n_directions, sample_weight, seed)

    def _choose_n_latents(self, pca):
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        return min(pca.n_directions_for(self._wanted_share()), MAX_LATENTS)

    def _wanted_share(self):
        return AUTO_SHARE if self.n_components == "auto" else self.n_components

    def _hidden_layer_sizes(self, n_features):
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return self._auto.hidden_layer_sizes(n_features)
        sizes = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
        if not all(isinstance(size, Integral) and size >= 1 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} must hold positive integers only."
            )
        return tuple(int(size) for size in sizes)

    def _network(self, n_features):
        if self.network is None:
            sizes = self._hidden_layer_sizes(n_features)
            return mlp(sizes, self.activation, self._dropout(), self._is_tied())
        if isinstance(self.network, type):
            raise ValueError(
                f"network={self.network.__name__} is a class; it must be an object with a method "
                f"build, such as {self.network.__name__}(...)."
            )
        return self.network

    def _record_training(self):
        net = self.net_
        if net.stop_ == "interrupted":
            best = net.best_epoch
            kept = "the last weights are" if best is None else f"the best network (epoch {best}) is"
            warnings.warn(
                f"Training was interrupted after {net.n_epochs_done} of {net.max_epochs} epochs; "
                f"{kept} kept.",
                TrainingInterruptedWarning,
                stacklevel=4,
            )
        self.n_iter_ = net.n_epochs_done
        self.loss_curve_ = net.training_losses
        self.validation_loss_curve_ = net.validation_losses
        self.best_epoch_ = self.n_iter_ if net.best_epoch is None else net.best_epoch

    def _describe(self):
        """All parameters that a fitted network can not follow when they change."""
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in MAY_CHANGE}
        if params["network"] is not None and not is_ours(params["network"]):
            params["network"] = type(params["network"]).__qualname__
        # A copy of a function, in another process, say, is another object.
        named = {k: v for k, v in params.items() if callable(v)}
        names = {k: getattr(v, "__qualname__", type(v).__qualname__) for k, v in named.items()}
        return {name: names.get(name, repr(value)) for name, value in params.items()}

    def _check_same_network(self):
        now = self._describe()
        changed = [name for name in now if now[name] != self._description.get(name)]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{name}={now[name]} does not fit the network that training would go on with, "
                f"which was built with {name}={self._description.get(name)}. Set it back, or "
                "start afresh with fit and warm_start=False."
            )

    # What estimators differ in; each has a default that a sibling may replace.

    _auto = Compression
    _max_folds = MAX_FOLDS
    _accepts_missing = False  # whether NaN may come in
    _keeps_tensors = True  # or they are taken to NumPy, and results back
    _net_class = AutoencoderNet

    @property
    def _knows_gaps(self):
        """Whether cells may be missing, whatever marks them where they come in."""
        return self._accepts_missing

    def _n_inputs(self):
        """Columns that the encoder reads, where they are not those of X."""
        return None

    def _n_latents(self):
        return self.n_components_

    def _keeps_last_epoch(self):
        """Whether the last epoch is kept, and not the one that validation likes best."""
        return False

    def _before_training(self, X, train, sample_weight):
        """Whatever is to be learned of the rows that training sees before it begins."""

    def _fit_rows(self, X, indices, sample_weight, rotation=None):
        """Scaled rows of the training data."""
        return self._rows(X, indices, sample_weight, rotation)

    def _to_train_on(self, rows):
        return rows.in_memory()

    def _to_validate_on(self, rows):
        return rows.in_memory()

    def _learn_scaling(self, X, sample_weight):
        self._scaler = self._fit_scaler(X, sample_weight)
        self.mean_ = self._scaler.mean_

    def _fit_scaler(self, X, sample_weight):
        return Scaler(self.scaling).fit(X, sample_weight)

    def _is_tied(self):
        return False

    def _dropout(self):
        return 0.0

    def _make_module(self, network, n_features, pca, rotation, seed):
        """The initialised module that the net trains."""
        link = make_link(*self._link_parameters())
        if rotation is not None:
            n_features, pca, link = rotation.n_coordinates, rotation.pca, rotation.link
        return build_autoencoder(
            network,
            n_features,
            self.n_components_,
            link=link,
            pca=pca if self.init == "pca" else None,
            tied=self._is_tied(),
            seed=seed,
            n_inputs=self._n_inputs(),
        )

    def _net_parameters(self):
        """What the net is told besides."""
        return {}

    def _objective(self):
        return Objective()

    def _corruption(self, draws, pca):
        return Corruption(draws)

    def _has_plain_output(self):
        """Whether the default network is fitted by squared error without bounds."""
        return False

    def _is_ordered(self):
        return False

    def _is_stackable(self):
        """Whether it is known before they are built that networks of folds train as one."""
        return False

    def _link_parameters(self):
        return "identity", self._scaler.center_, self._scaler.scale_

    def _check_target_range(self, X):
        """Raise if X can not be reproduced by the output activation."""

    def _measure(self, X, held_out, sample_weight):
        """What a sibling wants to know of the trained net on rows it did not see."""

    def _finish_fit(self, measures):
        """Whatever follows training; there is one measure, or one per fold."""


def none_if_auto(parameter):
    """The parameter, or None where it is "auto"."""
    return None if isinstance(parameter, str) else parameter
