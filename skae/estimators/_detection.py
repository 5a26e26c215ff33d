"""How the detector is fitted: trimmed training of an ensemble, and its threshold."""

import numpy as np
from sklearn.utils import check_random_state

from skae._data._scaling import Scaler, column_moments
from skae._engine._batches import SourceRows
from skae._engine._build import build_members, pca_of_rows
from skae._engine._ensemble_net import MemberNet
from skae._engine._losses import Objective
from skae._fit._defaults import Detection
from skae._fit._plan import (
    NetFactory,
    Seeds,
    check_same_network,
    n_directions,
    n_latents,
    net_settings,
    resolve_network,
)
from skae._fit._trimmed import (
    TrimmedPlan,
    fit_trimmed,
    fit_trimmed_pass,
    held_out_rows,
    size_of_subset,
)
from skae._stats._scoring import CalibrationScores, ScoreRule, held_out_threshold, upper_quantile
from skae._stats._trimming import scale_by_trimmed_subset
from skae.networks._autoencoder import OutputLink

# Columns with a scale of their own are cut off here, in units of this scale.
CLIP = 8.0
# Otherwise scaled ones only so far out that losses would overflow.
CLIP_OTHERWISE = 1e9
# Rows that partial_fit remembers the losses of.
WINDOW = 10_000
LARGEST_SEED = np.iinfo(np.int32).max


class DetectionMixin:
    """How the detector is fitted.

    Its plans are of another kind, ``TrimmedPlan``: members learn from the trimmed subset,
    and rows are held out for the threshold and not to choose an epoch.
    """

    _auto = Detection
    _accepts_missing = True

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        starts = not self._resumes
        if starts:
            self._split_seed = rng.randint(LARGEST_SEED)
        held_out = self._held_out(X.shape[0])
        n_subset = size_of_subset(self.core_fraction, X.shape[0] - held_out.shape[1])
        if starts:
            net = self._build_net(X, sample_weight, rng, n_subset)
        else:
            net = self._fitted_net()
            net.set_params(**net_settings(self, Detection, self.n_features_in_, n_subset))
        self._begin(net, None)
        outcome = fit_trimmed(self._trimmed_plan(X, sample_weight, net, held_out, starts))
        self._finish(outcome, X, sample_weight)
        self._learn_threshold(outcome.measures)
        self._seen = outcome.measures.shuffled(rng).last(WINDOW)

    def _partial_fit(self, X, sample_weight, *, first):
        rng = check_random_state(self.random_state)
        if first:
            net = self._build_net(X, sample_weight, rng, X.shape[0])
            self._split_seed = rng.randint(LARGEST_SEED)
            held_out = self._held_out(X.shape[0])
            size_of_subset(self.core_fraction, X.shape[0] - held_out.shape[1])  # or raises
        else:
            net = self._fitted_net()
            held_out = np.empty((self.n_estimators, 0), dtype=int)
        self._begin(net, None)
        outcome = fit_trimmed_pass(self._trimmed_plan(X, sample_weight, net, held_out, first))
        self._finish(outcome, X, sample_weight)
        seen = outcome.measures if first else self._seen.then(outcome.measures)
        self._seen = seen.last(WINDOW)
        self._learn_threshold(self._seen)

    def _build_net(self, X, sample_weight, rng, n_rows):
        """Learn scaling, sizes and baseline; return a fresh net to be trained on `n_rows`."""
        self._scaler = scaler = fit_scaler(self, X, sample_weight)
        self.mean_ = scaler.mean_
        n_features = self.n_features_in_
        seeds = Seeds.draw(rng)
        pca = None
        if self.init == "pca" or isinstance(self.n_components, float):
            n_wanted = n_directions(self.n_components)
            pca = pca_of_rows(X, scaler, n_wanted, sample_weight, seeds.start)
        k = self.n_components
        k = Detection.n_components(n_features) if isinstance(k, str) else n_latents(k, pca)
        self.n_components_ = k
        network = resolve_network(self, Detection, n_features)
        members = {"n_members": self.n_estimators, "score_method": self.score_method}
        make_net = NetFactory(self, network, seeds, {}, MemberNet, **members)
        module = build_members(
            network,
            n_features,
            k,
            link=OutputLink("identity", scaler.center_, scaler.scale_),
            pca=pca if self.init == "pca" else None,
            variational=self.variational,
            seeds=seeds_of_members(seeds.weights, self.n_estimators),
        )
        # Losses are needed before training. A first `partial_fit` trains with what `initialize`
        # finds here: without weight decay and callbacks, which come with the settings.
        net = make_net(module, objective(self), variational=self.variational).initialize()
        net.set_params(**net_settings(self, Detection, n_features, n_rows))
        net.set_baseline(baseline_row(self, X, sample_weight, scaler))
        return net

    def _fitted_net(self):
        """A copy of the fitted net, if the parameters still fit it."""
        check_same_network(self, self._network_fingerprint)
        return self.net_.copy()

    def _held_out(self, n_rows):
        fraction, seed = self.validation_fraction, self._split_seed
        return held_out_rows(n_rows, self.n_estimators, fraction, seed)

    def _trimmed_plan(self, X, sample_weight, net, held_out, starts):
        return TrimmedPlan(
            net=net,
            rows=SourceRows(X, self._scaler, device=net.device).in_memory(),
            weights=np.ones(X.shape[0]) if sample_weight is None else sample_weight,
            held_out=held_out,
            fraction=self.core_fraction,
            n_refits=self.n_refits,
            keeps_best_epoch=self.early_stopping,
            is_first_fit=starts,
            fits_location=self.score_method == "mahalanobis",
        )

    def _learn_threshold(self, seen):
        share_kept = None
        if self.score_method == "reconstruction":
            share_kept = self.n_components_ / self.n_features_in_
        self._rule = ScoreRule.fit(seen, self.aggregation, share_kept)
        self._calibration_scores = CalibrationScores.of(seen, self._rule)
        if self.threshold == "contamination" and self.contamination != "auto":
            scores = self._rule.scores(seen.raw)
            limit = upper_quantile(scores, self.contamination, seen.weights)
        else:
            rule = "level" if self.threshold == "contamination" else self.threshold
            limit = held_out_threshold(self._calibration_scores, rule, self.n_std)
        self.offset_ = -float(limit)


# What the detector's parameters mean.


def fit_scaler(params, X, sample_weight):
    """The scaling of columns, for robust scaling once more on the trimmed subset."""
    clip = CLIP if params.scaling in ("robust", "standard") else CLIP_OTHERWISE
    scaler = Scaler(params.scaling, clip).fit(X, sample_weight)
    if params.scaling == "robust":
        scale_by_trimmed_subset(scaler, X, sample_weight, params.core_fraction)
    return scaler


def objective(params):
    """The loss of members; raise if the score asks for a prior that they do not have."""
    if params.score_method == "density" and not params.variational:
        raise ValueError(
            "score_method='density' needs variational=True: a plain autoencoder has no "
            "prior to diverge from."
        )
    return Objective(params.loss, kl=float(params.variational), missing=True)


def seeds_of_members(seed, n_members):
    """Seeds of the members' weights."""
    return np.random.RandomState(seed).randint(LARGEST_SEED - 1, size=n_members).tolist()


def baseline_row(params, X, sample_weight, scaler):
    """The scaled row that stands for all: the middle of the trimmed subset, or the mean."""
    if params.scaling == "robust":  # which has moved the middle to zero
        return np.zeros(X.shape[1])
    return column_moments(X, sample_weight, scaler.transform).mean
