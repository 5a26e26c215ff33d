"""The plan of the transformer's fit."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from skae._data._chunks import value_range
from skae._data._fitted_arrays import FittedArray
from skae._data._scaling import LARGEST_READ, Scaler
from skae._engine._batches import SourceRows
from skae._engine._build import build_autoencoder, pca_of_rows
from skae._engine._losses import Objective
from skae._engine._progress import show_progress
from skae._engine._rotation import Rotation
from skae._engine._row_errors import distances_to, row_errors
from skae._engine._runtime import initial_settings, one_thread_per_worker
from skae._fit._defaults import MIN_WIDE_COLUMNS, Compression
from skae._fit._plan import (
    Feed,
    NetFactory,
    Plan,
    Schedule,
    Seeds,
    measure_nothing,
    n_directions,
    n_latents,
    n_rows_held_out,
    net_settings,
    resolve_network,
    wanted_share,
)
from skae._sklearn import callbacks_of, validate_params
from skae._stats._scoring import share_explained
from skae.estimators._base import BaseAutoencoder
from skae.networks._autoencoder import OutputLink

# Held-out rows that the latent-size curve is read from.
MAX_ROWS_FOR_CURVE = 2000


class CompressionMixin:
    """How the transformer is fitted."""

    _auto = Compression
    mean_, latent_size_curve_ = FittedArray(), FittedArray()
    explained_variance_ratio_ = FittedArray()

    def _make_plan(self, X, sample_weight, rng):
        """Learn the scaling, the start and the number of latents; plan the rest."""
        self._scaler = scaler = Scaler(self.scaling).fit(X, sample_weight)
        self._check_range(X)
        self.mean_ = scaler.mean_
        n_features = self.n_features_in_
        seeds = Seeds.draw(rng)
        pca = None
        if self.init == "pca" or self.input_noise == "auto" or is_ordered(self):
            pca = pca_of_rows(
                X, scaler, n_directions(self.n_components), sample_weight, seeds.start
            )
        self.n_components_ = k = n_latents(self.n_components, pca)
        chosen = None
        if has_plain_output(self) and n_features >= MIN_WIDE_COLUMNS:
            chosen = Rotation.choose(scaler, pca, k)
        tied = are_weights_tied(self)
        network = resolve_network(self, Compression, n_features, self.dropout, tied)
        settings = net_settings(self, Compression, n_features, X.shape[0])
        make_net = NetFactory(self, network, seeds, settings)
        losses = self.loss, self.l1, self.sparsity, self.sparsity_penalty, self.sparsity_target
        input_noise = self.input_noise
        if input_noise == "auto":
            input_noise = 0.5 * pca.residual_deviation(k)
        corruption = {"latent_noise": self.latent_noise, "ordered": is_ordered(self)}
        starts_at_pca = self.init == "pca"

        def build(rotation):
            width, start, link = n_features, pca, self._link()
            if rotation is not None:
                width, start, link = rotation.n_coordinates, rotation.pca, rotation.link
            module = build_autoencoder(
                network,
                width,
                k,
                link=link,
                pca=start if starts_at_pca else None,
                tied=tied,
                seed=seeds.weights,
            )
            return make_net(module, Objective(*losses), input_noise=input_noise, **corruption)

        max_epochs, link = settings["max_epochs"], self._link() if chosen else None
        return self._plan(build, max_epochs, make_net.device, rotation=chosen, link=link)

    def _plan(self, build, max_epochs, device, **fields):
        measure = measure_nothing
        if is_ordered(self):
            measure = partial(
                residual_squares, n_latents=self.n_components_, mean=self._scaler.mean_
            )
        return Plan.of(
            self,
            build=build,
            feed=Feed(self._scaler, device),
            measure=measure,
            begin=self._begin,
            attributes_after=self._attributes_after,
            max_epochs=max_epochs,
            **folds_and_refit(self),
            **fields,
        )

    def _check_range(self, X):
        super()._check_range(X)
        check_target_range(self, self._scaler, X)

    def _finish(self, outcome, X, sample_weight):
        super()._finish(outcome, X, sample_weight)
        if outcome.measures is None:
            return
        if not is_ordered(self):
            vars(self).pop("latent_size_curve_", None)
            vars(self).pop("explained_variance_ratio_", None)
            return
        *residuals, total = np.sum(outcome.measures, axis=0)
        curve = np.array([share_explained(residual, total) for residual in residuals])
        self.latent_size_curve_ = curve
        if not isinstance(self.n_components, Integral):
            enough = np.flatnonzero(curve >= wanted_share(self.n_components))
            self.n_components_ = int(enough[0]) + 1 if len(enough) else len(residuals)
            self.net_.keep_latents(self.n_components_)
        shares = np.diff(curve, prepend=0.0)
        self.explained_variance_ratio_ = shares[: self.n_components_]

    def _job(self, X):
        """A fresh fit that may be carried out with others."""
        from skae._fit._many import Job

        n_features = X.shape[1]
        max_epochs = net_settings(self, Compression, n_features, X.shape[0])["max_epochs"]
        return Job(
            Schedule.of(self, max_epochs=max_epochs, **folds_and_refit(self)),
            X,
            fit_alone=lambda: self.fit(X).net_,
            make_plan=partial(self._plan_to_share, X),
            finish=lambda outcome: self._finish(outcome, X, None),
        )

    def _plan_to_share(self, X):
        validate_params(self)
        X, _ = self._check_training_rows(X, None, None, reset=True)
        rng = check_random_state(self.random_state)
        n_rows_held_out(self, X.shape[0])  # raises before anything is learned
        return self._make_plan(X, None, rng), X, rng

    def _link(self):
        """What bounds reconstructions, in the units of scaled rows."""
        activation = output_activation(self)
        if self.scaling == "minmax":  # scaled columns fill [0, 1]: bounds speak of them
            ones = np.ones_like(self._scaler.mean_)
            return OutputLink(activation, 0 * ones, ones)
        return OutputLink(activation, self._scaler.center_, self._scaler.scale_)


# What the transformer's parameters mean.


def is_ordered(params):
    """Whether latents are trained in order of importance."""
    return params.ordered or not isinstance(params.n_components, Integral)


def has_plain_output(params):
    """Whether the default network is fitted by squared error without bounds."""
    return (
        params.network is None
        and params.init == "pca"
        and params.loss == "squared_error"
        and output_activation(params) == "identity"
        and not params.tied_weights
        and params.l1 == 0
        and params.sparsity == 0
    )


def folds_and_refit(params):
    """Whether folds train as one network, and whether the last layer is refitted."""
    is_refitted = has_plain_output(params) and not is_ordered(params)
    stacks_folds = is_refitted and params.precision == "float32"
    return {"refits_output": is_refitted, "stacks_folds": stacks_folds}


def are_weights_tied(params):
    """Whether the decoder uses the encoder's weights; raise if it cannot."""
    if params.tied_weights and params.network is not None:
        raise ValueError(
            f"tied_weights=True needs the default network; with network={params.network!r} "
            "set tied_weights=False."
        )
    return params.tied_weights


def output_activation(params):
    """The activation that bounds reconstructions; raise if it does not go with the loss."""
    is_bounded = params.loss == "binary_cross_entropy"
    if params.output_activation == "auto":
        return "logistic" if is_bounded else "identity"
    if is_bounded and params.output_activation != "logistic":
        raise ValueError(
            "loss='binary_cross_entropy' needs output_activation='logistic' or 'auto'; got "
            f"output_activation={params.output_activation!r}."
        )
    return params.output_activation


def check_target_range(params, scaler, X):
    """Raise if X cannot be reproduced by the output activation."""
    activation = output_activation(params)
    if activation == "identity":
        return
    if params.scaling == "minmax":
        low, high = value_range(X, scaler.transform)
        low, high = round(low, 6), round(high, 6)  # the scaling rounds to float32
    else:
        low, high = value_range(X)
    name = "loss" if params.loss == "binary_cross_entropy" else "output_activation"
    setting = f"{name}={getattr(params, name)!r}"
    least, most = scaler.scale_.min(), scaler.scale_.max()
    if params.scaling != "minmax" and not (least > 1 / LARGEST_READ and most < LARGEST_READ):
        raise ValueError(
            f"{setting} needs columns whose scales are from {1 / LARGEST_READ:g} to "
            f"{LARGEST_READ:g}; they are from {least:.3g} to {most:.3g}. Rescale X, or set "
            "scaling='minmax'."
        )
    if activation == "logistic" and (low < 0 or high > 1):
        raise ValueError(
            f"{setting} needs X in [0, 1]; X is in [{low:g}, {high:g}]. Rescale X, set "
            "scaling='minmax', or choose another value."
        )
    if activation == "relu" and low < 0:
        raise ValueError(
            f"{setting} needs X without negative values; X is in [{low:g}, {high:g}]. "
            "Shift X, set scaling='minmax', or choose another value."
        )


def residual_squares(net, feed, X, held_out, sample_weight, *, n_latents, mean):
    """Squared errors left by the first 1, 2, ... latents, and the squares about the mean.

    Returns
    -------
    squares : ndarray of shape (n_latents + 1,)
    """
    rows = np.arange(X.shape[0]) if held_out is None else held_out
    rows = rows[:: -(-len(rows) // MAX_ROWS_FOR_CURVE)]
    weight = np.ones(len(rows)) if sample_weight is None else sample_weight[rows]
    part = X[rows]
    scaled = SourceRows(part, feed.transform, device=net.device)
    residuals = [
        weight @ row_errors(net, scaled, feed.transform, part, k + 1) for k in range(n_latents)
    ]
    return np.array([*residuals, weight @ distances_to(mean, part, feed.transform.unit)])


def fit_together(estimators, tables, name):
    """Fit each transformer on its own rows as ``fit`` would, at once where that is faster.

    With `verbose`, all of them show one progress bar under a `name`.
    """
    # Imported here to keep `import skae` fast.
    from skae._fit._many import can_stack, fit_many

    alone, together = [], []
    for estimator, X in zip(estimators, tables, strict=True):
        job = estimator._job(X)
        is_own_fit = type(estimator).fit is not BaseAutoencoder.fit
        is_watched = bool(callbacks_of(estimator))  # each fit has its own tasks
        stacks = can_stack(job.schedule, *X.shape) and not is_own_fit and not is_watched
        (together if stacks else alone).append(job)
    with (
        initial_settings(),
        one_thread_per_worker(),
        show_progress(name, int(estimators[0].verbose), is_search=True),
    ):
        fit_many(alone, together)
