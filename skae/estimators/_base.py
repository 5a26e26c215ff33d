"""What all estimators share: data doors, the fit, and the verbs on latents."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import skae._defaults as _defaults
from skae._engine._batches import SourceRows
from skae._engine._build import build_autoencoder, make_link, mlp
from skae._engine._losses import Objective
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._rotation import COORDINATES_PER_LATENT, Rotation, refit_output
from skae._engine._runtime import generator, resolve_device
from skae._linear import fit_pca
from skae._scaling import Scaler, as_dense
from skae._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
)
from skae.estimators._doors import as_numpy, output_dtype, unchanged_on_error
from skae.exceptions import TrainingInterruptedWarning
from skae.networks._layers import ACTIVATIONS

# Rows that the PCA start is computed from: exact below, a random sample above.
MAX_ROWS_FOR_PCA = 16_384
# Latents trained at most where their number is to be found.
MAX_LATENTS = 256
# Held-out rows that the latent-size curve is read from.
MAX_ROWS_FOR_CURVE = 2000
# Share of the variance that n_components="auto" keeps.
AUTO_SHARE = 0.95
MAX_FOLDS = 5
# partial_fit has no schedule to anneal, so it walks at a constant, lower rate.
PARTIAL_FIT_RATE = 1 / 3


class BaseAutoencoder(BaseEstimator):
    """Shared machinery; each estimator brings its own ``__init__`` and public verbs."""

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "hidden_layer_sizes": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            StrOptions({"auto"}),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "network": [HasMethods(["build"]), None],
        "init": [StrOptions({"pca", "random"})],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "warm_start": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "callbacks": [list, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Fitting.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn the network from X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows; memory maps and CSR matrices are read batch by batch.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in scaling, training and validation. Only ratios
            count; a row of weight zero has no influence at all.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not what it must be.
        DivergenceError
            If the training loss explodes; the estimator stays as it was.
        """
        with unchanged_on_error(self):
            X = self._check_rows(X, reset=not (self.warm_start and hasattr(self, "net_")))
            self._fit(*self._check_weights(X, sample_weight))
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train one epoch on X, going on from where the network is.

        The first call fixes the scaling and the starting weights from its rows, so
        let it hold a fair sample. There is no validation and no schedule: the
        learning rate is constant, a third of `learning_rate`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on; at least two in the first call.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios within one call count.

        Returns
        -------
        self : object
            The estimator, trained further.
        """
        first = not hasattr(self, "net_")
        with unchanged_on_error(self):
            X = self._check_rows(X, reset=first, min_rows=2 if first else 1)
            X, weight = self._check_weights(X, sample_weight)
            if first:
                _, pca, seeds = self._start(X, weight, check_random_state(self.random_state))
                self._build_net(X.shape, pca, None, seeds)
            else:
                self.net_ = self.net_.copy()
            self._check_target_range(X)
            rows = self._rows(X, sample_weight=weight)
            self.net_.train_on(rows.in_memory())
            self._record_training()
        return self

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        n_rows = X.shape[0]
        if self.warm_start and hasattr(self, "net_"):
            self._continue(n_rows)
            self._check_target_range(X)
            held_out = self._train_with_split(X, sample_weight, rng, rotation=None)
        else:
            rotation, pca, seeds = self._start(X, sample_weight, rng)
            self._check_target_range(X)
            if self.early_stopping and n_rows < _defaults.MIN_ROWS_FOR_SPLIT:
                held_out = self._train_with_folds(X, sample_weight, rng, pca, seeds)
            else:
                self._build_net(X.shape, pca, rotation, seeds)
                held_out = self._train_with_split(X, sample_weight, rng, rotation)
        held_out = held_out[:MAX_ROWS_FOR_CURVE]
        self._finish_fit(X[held_out], None if sample_weight is None else sample_weight[held_out])

    def _start(self, X, sample_weight, rng):
        """Fix the scaling and the sizes; return the way in: rotation, PCA and seeds."""
        self.scaler_ = Scaler(self.scaling).fit(X, sample_weight)
        self.mean_ = self.scaler_.mean_
        seeds = [int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=4)]
        pca = self._fit_pca(X, sample_weight, seeds[0])
        self.n_components_ = self._choose_n_latents(pca)
        rotation = None
        if self._has_plain_output() and X.shape[1] >= _defaults.MIN_WIDE_COLUMNS:
            rotation = Rotation.choose(self.scaler_, pca, self.n_components_)
        return rotation, pca, seeds[1:]

    def _build_net(self, shape, pca, rotation, seeds):
        n_rows, n_features = shape
        network = self._network(n_features)
        link = make_link(*self._link_parameters())
        if rotation is not None:
            n_features, pca, link = rotation.n_coordinates, rotation.pca, rotation.link
        device = resolve_device(self.device)
        module = build_autoencoder(
            network,
            n_features,
            self.n_components_,
            link=link,
            pca=pca if self.init == "pca" else None,
            tied=self._is_tied(),
            seed=seeds[0],
        )
        self.net_ = AutoencoderNet(
            module.to(device),
            self._objective(),
            corruption=self._corruption(generator(seeds[1], device), pca),
            batch_generator=generator(seeds[2]),
            precision=self.precision,
            device=device,
        )
        self._set_training_parameters(n_rows)

    def _set_training_parameters(self, n_rows):
        n_features = self.n_features_in_
        batch_size = _given(self.batch_size) or _defaults.batch_size(n_rows)
        max_epochs = _given(self.max_epochs) or _defaults.max_epochs(n_rows, batch_size)
        rate = _given(self.learning_rate) or _defaults.learning_rate(n_features)
        alpha = _given(self.alpha)
        if alpha is None:
            alpha = _defaults.alpha(n_features, max_epochs * -(-n_rows // batch_size))
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

    def _train_with_folds(self, X, sample_weight, rng, pca, seeds):
        """Choose the epoch by cross-validation, then train on all rows up to it.

        On few rows one split is mostly noise, and its rows are missed in training.
        """
        n_folds = int(np.clip(round(1 / self.validation_fraction), 2, min(MAX_FOLDS, X.shape[0])))
        losses = []
        for fold in np.array_split(rng.permutation(X.shape[0]), n_folds):
            train = np.setdiff1d(np.arange(X.shape[0]), fold)
            self._build_net(X.shape, pca, None, seeds)
            valid = self._rows(X, fold, sample_weight).in_memory()
            self.net_.train(self._rows(X, train, sample_weight).in_memory(), valid)
            if self.net_.stop_ == "interrupted":
                self._record_training()
                return fold
            losses.append(self.net_.validation_losses)
        n_epochs = min(map(len, losses))
        curve = np.mean([fold_losses[:n_epochs] for fold_losses in losses], axis=0)
        self._build_net(X.shape, pca, None, seeds)
        rows = self._rows(X, None, sample_weight)
        self.net_.train(rows.in_memory(), keep_epoch=int(curve.argmin()))
        self._record_training()
        self.validation_loss_curve_ = curve.tolist()
        return np.arange(X.shape[0])

    def _train_with_split(self, X, sample_weight, rng, rotation):
        """Train on a part of the rows and keep the best epoch on the rest."""
        net = self.net_
        train, valid = self._split(X.shape[0], rng)
        rows = self._rows(X, train, sample_weight, rotation)
        valid_rows = None if valid is None else self._rows(X, valid, sample_weight, rotation)
        net.train(rows.in_memory(), None if valid is None else valid_rows.in_memory())
        self._record_training()
        if rotation is not None:
            rows, valid_rows = self._leave_rotation(rotation, rows, valid_rows)
        if valid is None:
            return np.arange(X.shape[0])
        if self._has_plain_output() and not self._is_ordered():
            refit_output(net.module_, rows, valid_rows)
        return valid

    def _leave_rotation(self, rotation, rows, valid_rows):
        """Fold the rotation into the network; return the rows as it reads them now."""
        folded = rotation.fold(self.net_.module_, make_link(*self._link_parameters()))
        self.net_.replace_module(folded)
        rows = rows.with_scaler(self.scaler_)
        self.loss_curve_ = rotation.in_columns(self.loss_curve_, rows)
        if valid_rows is not None:
            valid_rows = valid_rows.with_scaler(self.scaler_)
            curve = rotation.in_columns(self.validation_loss_curve_, valid_rows)
            self.validation_loss_curve_ = curve
        return rows, valid_rows

    def _continue(self, n_rows):
        """Prepare a copy of the fitted network for more training."""
        wanted = self._network(self.n_features_in_)
        changed = (
            isinstance(self.n_components, Integral) and self.n_components != self.n_components_
        )
        if changed or repr(wanted) != self._architecture:
            raise ValueError(
                f"warm_start=True goes on with a network of {self.n_components_} latents and "
                f"{self._architecture}; n_components={self.n_components!r} and {wanted!r} do not "
                "fit it. Keep these parameters, or set warm_start=False."
            )
        self.net_ = self.net_.copy()
        self._set_training_parameters(n_rows)

    def _split(self, n_rows, rng):
        """Row indices to train on and to validate on (None without early stopping)."""
        if not self.early_stopping:
            return None, None
        n_valid = int(np.ceil(self.validation_fraction * n_rows))
        if n_valid >= n_rows:
            raise ValueError(
                f"validation_fraction={self.validation_fraction!r} leaves no rows to train on: "
                f"X has {n_rows} rows. Lower it, or set early_stopping=False."
            )
        order = rng.permutation(n_rows)
        return np.sort(order[n_valid:]), np.sort(order[:n_valid])

    def _needs_pca(self):
        return self.init == "pca" or not isinstance(self.n_components, Integral)

    def _fit_pca(self, X, sample_weight, seed):
        if not self._needs_pca():
            return None
        # All rows, validation rows included, so that the start is the PCA of X; the
        # validation loss then favours the start a little, which is the safe side.
        indices = None
        if X.shape[0] > MAX_ROWS_FOR_PCA:
            draws = np.random.RandomState(seed)
            indices = np.sort(draws.choice(X.shape[0], MAX_ROWS_FOR_PCA, replace=False))
            sample_weight = None if sample_weight is None else sample_weight[indices]
        rows = SourceRows(X, self.scaler_, indices)
        n_directions = MAX_LATENTS
        if isinstance(self.n_components, Integral):
            n_directions = max(n_directions, COORDINATES_PER_LATENT * self.n_components)
        sample = rows.read(slice(0, len(rows))).numpy()
        return fit_pca(sample, n_directions, sample_weight, seed)

    def _choose_n_latents(self, pca):
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        return min(pca.n_directions_for(self._wanted_share()), MAX_LATENTS)

    def _wanted_share(self):
        return AUTO_SHARE if self.n_components == "auto" else self.n_components

    def _hidden_layer_sizes(self, n_features):
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return _defaults.hidden_layer_sizes(n_features)
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
        self._architecture = repr(self._network(self.n_features_in_))

    # What estimators differ in; each has a default that a sibling may replace.

    def _is_tied(self):
        return False

    def _dropout(self):
        return 0.0

    def _objective(self):
        return Objective()

    def _corruption(self, draws, pca):
        return Corruption(draws)

    def _has_plain_output(self):
        """Whether the default network is fitted by squared error without bounds."""
        return False

    def _is_ordered(self):
        return False

    def _link_parameters(self):
        return "identity", self.scaler_.center_, self.scaler_.scale_

    def _check_target_range(self, X):
        """Raise if X can not be reproduced by the output activation."""

    def _finish_fit(self, X, sample_weight):
        """Whatever follows training, on rows that were held out if any were."""

    # Verbs.

    def encode(self, X):
        """Map rows to latents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Latents.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        return give_back(self._encode(X))

    def decode(self, Z):
        """Map latents to rows.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components_)
            Latents.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows, in the units of the training data.

        Raises
        ------
        ValueError
            If Z does not have `n_components_` columns.
        """
        check_is_fitted(self)
        Z, give_back = as_numpy(Z)
        Z = check_array(Z, input_name="Z", dtype=[np.float64, np.float32])
        if Z.shape[1] != self.n_components_:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but {type(self).__name__} was fitted with "
                f"{self.n_components_} latents."
            )
        return give_back(self._decode(Z))

    def reconstruct(self, X):
        """Encode rows and decode them again.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features)
            Reconstructions, in the units of X.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        dtype = output_dtype(X)
        out = np.empty(X.shape, dtype=dtype)
        for rows, scaled in self.net_.reconstruct_rows(self._rows(X)):
            out[rows] = self.scaler_.inverse_transform(scaled, dtype)
        return give_back(out)

    def reconstruction_error(self, X):
        """Mean squared error of each row's reconstruction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        errors : ndarray of shape (n_samples,)
            Mean over the columns of the squared difference, in squared units of X.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        return give_back(self._row_errors(X).astype(output_dtype(X), copy=False))

    def _encode(self, X):
        return self.net_.encode_rows(self._rows(X)).astype(output_dtype(X), copy=False)

    def _decode(self, Z):
        out = np.empty((len(Z), self.n_features_in_), dtype=Z.dtype)
        for rows, scaled in self.net_.decode_rows(Z):
            out[rows] = self.scaler_.inverse_transform(scaled, Z.dtype)
        return out

    def _row_errors(self, X, n_latents=None):
        errors = np.empty(X.shape[0])
        for rows, scaled in self.net_.reconstruct_rows(self._rows(X), n_latents):
            difference = self.scaler_.inverse_transform(scaled) - as_dense(X[rows])
            errors[rows] = np.einsum("ij,ij->i", difference, difference) / X.shape[1]
        return errors

    # Doors for data.

    def _check_rows(self, X, *, reset, min_rows=None):
        """Validate X; integers and memory maps are not copied."""
        X, _ = as_numpy(X)
        if min_rows is None:
            min_rows = 2 if reset else 1
        return validate_data(
            self,
            X,
            reset=reset,
            dtype="numeric",
            accept_sparse="csr",
            ensure_min_samples=min_rows,
        )

    def _open(self, X):
        """Validate X for inference; also return how to hand arrays back."""
        _, give_back = as_numpy(X)
        return self._check_rows(X, reset=False), give_back

    def _check_weights(self, X, sample_weight):
        """Drop rows of weight zero; weights come back with mean one, or None if all equal."""
        if sample_weight is None:
            return X, None
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if not kept.all():
            X, weight = X[kept], weight[kept]
            if X.shape[0] < 2:
                raise ValueError(
                    f"sample_weight leaves {X.shape[0]} rows with a positive weight; at least 2 "
                    "are needed."
                )
        if (weight == weight[0]).all():
            return X, None
        return X, weight / weight.mean()

    def _rows(self, X, indices=None, sample_weight=None, rotation=None):
        return SourceRows(X, rotation or self.scaler_, indices, sample_weight, self.net_.device)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _given(parameter):
    """The parameter, or None where it is "auto"."""
    return None if isinstance(parameter, str) else parameter
