"""The plan of the transformer's fit."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from skae._data._chunks import value_range
from skae._data._fitted_arrays import FittedArray, numpy_array
from skae._data._scaling import LARGEST_READ, column_moments
from skae._data._shards import of_first
from skae._data._sources import is_on_disk, studied
from skae._engine._batches import SourceRows
from skae._engine._build import build_autoencoder, coordinates_of_rows, pca_of_rows
from skae._engine._latent_basis import Recipe, learn_basis, spread_rows
from skae._engine._progress import current_progress
from skae._engine._rotation import Rotation
from skae._engine._row_errors import distances_to, row_errors
from skae._fit._defaults import (
    MANY_ROWS,
    MIN_ROWS_FOR_SPLIT,
    MIN_WIDE_COLUMNS,
    ClassicCompression,
    Compression,
)
from skae._fit._few_rows import fit_few_rows
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
    none_if_auto,
    resolve_network,
    wanted_share,
)
from skae._sklearn import validate_params
from skae._stats._nonlinearity import prospect_of
from skae._stats._scoring import share_explained
from skae.estimators._compression_parts import bounded_link, fit_pca, make_scaler
from skae.estimators._mixed_tables import is_mixed_table, make_objective
from skae.exceptions import warn_user

# Held-out rows that the latent-size curve is read from.
MAX_ROWS_FOR_CURVE = 2000
# Columns per row from which rows are too few for a network.
WIDE = 4
# Standard deviation of the noise on latents unless it is set.
LATENT_NOISE = 0.1
# Parameters of the objective.
OF_OBJECTIVE = "loss", "l1", "sparsity", "sparsity_penalty", "sparsity_target"
# What is learned with the basis of the latents.
OF_BASIS = "_latent_unit", "explained_variance_", "explained_variance_ratio_"


class CompressionMixin:
    """How the transformer is fitted."""

    _auto = property(lambda self: rules_of(self))
    mean_, latent_size_curve_ = FittedArray(), FittedArray()
    explained_variance_, explained_variance_ratio_ = FittedArray(), FittedArray()

    def _partial_fit(self, X, sample_weight, *, first):
        super()._partial_fit(X, sample_weight, first=first)
        if first:
            feed = Feed(self._scaler, self.net_.device)
            measure = self._measure()(self.net_, feed, X, None, sample_weight)
            self._learn_latents(self.net_, [measure], X, sample_weight)

    def _resume_plan(self, X, sample_weight, settings=None):
        """The mean follows all rows since the last ``fit`` began."""
        if settings is not None and self.max_epochs == "auto":
            n_features, n_rows = self._scaler.n_inputs, X.shape[0]
            most = self._auto.effort(n_features, "open")
            settings |= net_settings(self, self._auto, n_features, n_rows, most)
        if settings is not None:  # the latents' units are learned anew
            self._network_fingerprint = self._network_fingerprint | {"whiten": repr(self.whiten)}
        mean, share = numpy_array(self, "mean_"), 1.0
        if settings is None:
            seen = getattr(self, "n_samples_seen_", np.inf)  # files of early versions lack it
            share = X.shape[0] / (seen + X.shape[0])
        if self._columns is None:  # the shares of levels stay, and so do means
            self.mean_ = mean + share * (column_moments(X, sample_weight).mean - mean)
        return super()._resume_plan(X, sample_weight, settings)

    def _make_plan(self, X, sample_weight, rng):
        """Learn the scaling, the start and the number of latents; plan the rest."""
        for name in OF_BASIS:  # the latents of a net in training are codes
            vars(self).pop(name, None)
        self._scaler = scaler = make_scaler(self).fit(X, sample_weight)
        self._check_range(X)
        self.mean_ = scaler.mean_
        n_features = self._scaler.n_inputs
        size = self.n_components
        size = min(X.shape[0], n_features) if size is None else size
        seeds = Seeds.draw(rng)
        pca = None
        if self.init == "pca" or self.input_noise == "auto" or is_ordered(self):
            pca = of_first(X, fit_pca(self, X, size, sample_weight, seeds.start))
        self.n_components_ = k = n_latents(size, pca)
        warn_if_it_may_copy(self, n_features)
        told = of_first(X, self._told_before(X, pca, sample_weight, seeds.start))
        tied = are_weights_tied(self)
        dropout = none_if_auto(self.dropout) or 0.0
        network = resolve_network(self, self._auto, n_features, dropout, tied)
        effort = self._auto.effort(n_features, told)
        settings = net_settings(self, self._auto, n_features, X.shape[0], effort)
        moves = {"orthogonal": self._auto is Compression}
        make_net = NetFactory(self, network, seeds, settings, **moves)
        input_noise = self.input_noise
        if input_noise == "auto":
            input_noise = 0.5 * pca.residual_deviation(k)
        corruption = {"latent_noise": self.latent_noise, "ordered": is_ordered(self)}
        of_objective = {name: getattr(self, name) for name in OF_OBJECTIVE}
        starts_at_pca = self.init == "pca"

        def build(rotation, network=network):
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
            module.missing = self._columns is not None
            objective = make_objective(self, missing=False, **of_objective)
            return make_net(module, objective, input_noise=input_noise, **corruption)

        fields = self._rotation(X.shape, pca)
        fields["prospect"] = told if goes_by(self, told, X) else "unknown"
        fields["course"] = self._course_of_few_rows(X, sample_weight, build, seeds.start)
        return self._plan(build, settings["max_epochs"], make_net.device, **fields)

    def _rotation(self, shape, pca):
        """The principal coordinates that wide rows are trained in, and what leads out of them."""
        chosen = None
        if has_plain_output(self) and self._columns is None and shape[1] >= MIN_WIDE_COLUMNS:
            is_few = has_few_wide_rows(self, *shape)
            choose = Rotation.of_few_rows if is_few else Rotation.choose
            chosen = choose(self._scaler, pca, self.n_components_)
        return {"rotation": chosen, "link": self._link() if chosen else None}

    def _course_of_few_rows(self, X, sample_weight, build, seed):
        """How few wide rows are fitted: with dropout or without, as held-out rows decide."""
        if self._columns is not None or not has_few_wide_rows(self, *X.shape):
            return None
        builds = (build,)
        if none_if_auto(self.dropout) is None:
            share = self._auto.dropout_of_few_rows
            network = resolve_network(self, self._auto, X.shape[1], share)
            builds = (partial(build, network=network), build)

        def rotation_of(train):
            part, weight = X[train], None if sample_weight is None else sample_weight[train]
            n_wanted = n_directions(self.n_components_)
            pca = pca_of_rows(part, self._scaler, n_wanted, weight, seed)
            return Rotation.of_few_rows(self._scaler, pca, self.n_components_)

        return partial(fit_few_rows, builds=builds, rotation_of=rotation_of)

    def _told_before(self, X, pca, sample_weight, seed):
        """The prospect of the rows, where the start is the best linear answer; else "unknown"."""
        if not has_plain_output(self):
            return "unknown"
        # PCA is the best of linear networks. And where rows so few do not span what others vary
        # in, no decoder can learn it from them.
        has_few_rows = self._scaler.n_inputs > WIDE * X.shape[0]
        if has_few_rows or (is_linear(self) and self._columns is None):
            return "linear"
        if self._columns is not None:  # the error of levels is not that of principal coordinates
            return "unknown"
        coordinates, squares, weight = coordinates_of_rows(
            X, self._scaler, pca, sample_weight, seed
        )
        told = prospect_of(coordinates, weight, self.n_components_, squares, seed)
        # A part of one pass over a table on disk would have to be one pass.
        return "unknown" if told == "poor" and is_on_disk(X) else told

    def _plan(self, build, max_epochs, device, **fields):
        return Plan.of(
            self,
            build=build,
            feed=Feed(self._scaler, device),
            measure=self._measure(),
            begin=self._begin,
            attributes_after=self._attributes_after,
            max_epochs=max_epochs,
            **folds_and_refit(self, self._scaler.n_inputs, self._columns is not None),
            **fields,
        )

    def _measure(self):
        """What is measured of a trained net: how much its first latents explain, if ordered."""
        if not is_ordered(self):
            return measure_nothing
        mean = numpy_array(self, "mean_")
        return partial(residual_squares, n_latents=self.n_components_, mean=mean)

    def _check_range(self, X):
        super()._check_range(X)
        check_target_range(self, self._scaler, X)

    def _finish(self, outcome, X, sample_weight):
        if outcome.measures is not None:
            is_start = outcome.best_epoch == 0 and self.init == "pca"
            self._learn_latents(outcome.net, outcome.measures, X, sample_weight, is_start)
            progress = current_progress()
            if is_start and not progress.is_search:
                progress.conclude("no epoch is better than the start")
        super()._finish(outcome, X, sample_weight)

    def _learn_latents(self, net, measures, X, sample_weight, is_start=False):
        """Learn how many latents there are, their basis and what each explains."""
        shares = None
        if is_ordered(self):
            shares = self._learn_order(net, measures)
        else:
            vars(self).pop("latent_size_curve_", None)
        scaler = self._scaler
        X, sample_weight = studied(X, sample_weight)
        rows = SourceRows(X, scaler, spread_rows(*X.shape), sample_weight, net.device)
        # A zero means that an ordered latent is left out, and that a sparse one is silent.
        recipe = Recipe(
            keeps_zeros=self.sparsity > 0 or shares is not None,
            whitens=self.whiten,
            shares=shares,
            is_linear=self._columns is not None and is_start,
        )
        learned = learn_basis(net, rows, recipe)
        net.module_.set_basis(learned.basis)
        has_unit = scaler.method == "global" and self._columns is None
        unit = float(scaler.scale_[0]) if has_unit else 1.0
        self._latent_unit = 1.0 if self.whiten else unit
        self.explained_variance_ = learned.variances * unit**2
        if shares is None:
            total = learned.total_variance
            shares = learned.variances / (total if total > 0 else 1.0)
        self.explained_variance_ratio_ = shares

    def _learn_order(self, net, measures):
        """Keep as many latents as are needed; return the share that each adds."""
        *residuals, total = np.sum(measures, axis=0)
        curve = np.array([share_explained(residual, total) for residual in residuals])
        self.latent_size_curve_ = curve
        if is_size_found(self.n_components):
            enough = np.flatnonzero(curve >= wanted_share(self.n_components))
            self.n_components_ = int(enough[0]) + 1 if len(enough) else len(residuals)
            net.keep_latents(self.n_components_)
        return np.diff(curve, prepend=0.0)[: self.n_components_]

    def _job(self, X, held_out):
        """A fresh fit that may be carried out with those of other folds and sizes."""
        from skae._fit._many import Job

        n_features, is_mixed = X.shape[1], is_mixed_table(X, self)
        most = self._auto.effort(n_features, "open")
        settings = net_settings(self, self._auto, n_features, X.shape[0], most)
        max_epochs = settings["max_epochs"]
        return Job(
            Schedule.of(self, max_epochs=max_epochs, **folds_and_refit(self, n_features, is_mixed)),
            X,
            fit_alone=lambda: self.fit(X).net_,
            make_plan=partial(self._plan_to_share, X, held_out),
            finish=partial(self._finish, sample_weight=None),
            candidate=self.n_components,
            held_out=held_out,
        )

    def _plan_to_share(self, X, held_out):
        validate_params(self)
        X, _ = self._check_training_rows(X, None, None, reset=True)
        rng = check_random_state(self.random_state)
        n_rows_held_out(self, X.shape[0])  # raises before anything is learned
        plan = self._make_plan(X, None, rng)
        return plan, X, self._check_rows(held_out, reset=False), rng

    def _link(self):
        return bounded_link(self, output_activation(self))


# What the transformer's parameters mean.


def is_size_found(n_components):
    """Whether the number of latents is found from a share of the variance."""
    return n_components is not None and not isinstance(n_components, Integral)


def is_ordered(params):
    """Whether latents are trained in order of importance."""
    return params.ordered or is_size_found(params.n_components)


def warn_if_it_may_copy(params, n_features):
    """Warn of more latents than columns, unless something was set that keeps from copying."""
    size = params.n_components
    if not isinstance(size, Integral) or size <= n_features:
        return
    own_noise = params.latent_noise not in (0, LATENT_NOISE)
    penalties = params.sparsity, params.l1, params.dropout, params.input_noise, params.alpha
    if own_noise or any(not isinstance(value, str) and value > 0 for value in penalties):
        return
    columns = "columns of X" if params._columns is None else "columns of X after encoding"
    warn_user(
        f"n_components={size} is more than the {n_features} {columns}: the network can copy them. "
        f"Lower it to {n_features - 1 or 1} or less, or set sparsity, input_noise or "
        "another penalty."
    )


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


def has_few_wide_rows(params, n_rows, n_features):
    """Whether held-out rows decide how wide rows are fitted, in principal coordinates."""
    is_few_and_wide = n_rows < MIN_ROWS_FOR_SPLIT and n_features >= MIN_WIDE_COLUMNS
    return is_few_and_wide and rules_of(params) is Compression and lets_rows_decide(params)


def lets_rows_decide(params):
    """Whether a fit may choose its course by the rows, not by what a user wants to see of it."""
    return params.early_stopping and not params.callbacks and params.n_iter_no_change is None


def is_trained_by_default(params):
    """Whether nothing that could spoil the training is set by hand."""
    names = (
        "hidden_layer_sizes",
        "input_noise",
        "alpha",
        "learning_rate",
        "batch_size",
        "max_epochs",
    )
    is_auto = all(isinstance(getattr(params, name), str) for name in names)
    has_dropout = bool(none_if_auto(params.dropout))
    return is_auto and not has_dropout and params.latent_noise <= LATENT_NOISE


def goes_by(params, prospect, X):
    """Whether a fit goes by the prospect; if not, it shows losses on held-out rows or runs on."""
    if not lets_rows_decide(params):
        return False
    if prospect in ("linear", "poor"):
        return True
    # Only held-out rows tell what ordered latents are worth, one after the other, and whether
    # settings by hand spoil the training.
    if is_ordered(params) or not is_trained_by_default(params):
        return False
    # Those of wide rows choose the refit of the last layer, after training in principal
    # coordinates; and of many rows, those held out are not missed. Of a table on disk they are
    # in memory, and so are rows for the refit.
    is_sure = prospect == "nonlinear" or (prospect == "open" and X.shape[0] < MANY_ROWS)
    return X.shape[1] < MIN_WIDE_COLUMNS and is_sure and not is_on_disk(X)


def rules_of(params):
    """What "auto" means: the default network has rules of its own."""
    is_default = has_plain_output(params) and not is_ordered(params)
    return Compression if is_default else ClassicCompression


def is_linear(params):
    """Whether the default network is linear."""
    return params.activation == "identity" or np.size(params.hidden_layer_sizes) == 0


def folds_and_refit(params, n_features, is_mixed):
    """How the fits that train on a split, on folds and on all rows go."""
    is_refitted = rules_of(params) is Compression
    is_narrow = n_features < MIN_WIDE_COLUMNS
    stacks_folds = is_refitted and params.precision == "float32"
    is_raced = not is_narrow and lets_rows_decide(params) and none_if_auto(params.dropout) is None
    return {
        "refits_output": is_refitted and not is_mixed,  # levels are no linear function of a layer
        "stacks_folds": stacks_folds,
        "n_candidates": 2 if is_refitted and is_raced else 1,
        # Wide rows are trained in principal coordinates, which need held-out rows afterwards.
        "keeps_all_rows": is_narrow and not is_ordered(params),
        "may_try": is_narrow and is_refitted and is_trained_by_default(params),
    }


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
    return np.array([*residuals, weight @ distances_to(mean, part, feed.transform)])
