"""How an ensemble learns the core of a table, which it finds as it learns."""

from math import ceil

import numpy as np
from sklearn.utils import check_random_state

from skae._data._scaling import Scaler, column_moments
from skae._engine._build import build_members, make_link
from skae._engine._ensemble_net import MemberNet, MemberRows
from skae._engine._losses import Objective
from skae._engine._noise import Corruption
from skae._engine._progress import remaining_epochs
from skae._fit._defaults import Detection
from skae._stats._scoring import SeenLosses
from skae._stats._trimming import scale_by_trimmed_subset, trimmed_subset

# Columns with a scale of their own are cut off here, in units of this scale.
CLIP = 8.0
# Otherwise scaled ones only so far out that losses would overflow.
CLIP_OTHERWISE = 1e9
# Fits that only prepare the choice of the core take this share of the last one's epochs.
SHARE_OF_REFIT = 1 / 3
# Rows that partial_fit remembers the losses of.
WINDOW = 10_000
# Rows that each member leaves out at most.
MAX_HELD_OUT = 10_000


class CoreTrainingMixin:
    """The private half of the detector's ``fit``: hooks of TrainingMixin, and stages."""

    _auto = Detection
    _net_class = MemberNet
    _accepts_missing = True

    def _n_latents(self):
        return self.net_.n_members * self.n_components_

    def _fit_scaler(self, X, sample_weight):
        clip = CLIP if self.scaling in ("robust", "standard") else CLIP_OTHERWISE
        scaler = Scaler(self.scaling, clip).fit(X, sample_weight)
        if self.scaling == "robust":
            scale_by_trimmed_subset(scaler, X, sample_weight, self.core_fraction)
        return scaler

    def _needs_pca(self):
        return self.init == "pca" or isinstance(self.n_components, float)

    def _choose_n_latents(self, pca):
        if isinstance(self.n_components, str):
            return Detection.n_components(self.n_features_in_)
        return super()._choose_n_latents(pca)

    def _objective(self):
        if self.score_method == "density" and not self.variational:
            raise ValueError(
                "score_method='density' needs variational=True: a plain autoencoder has no "
                "prior to diverge from."
            )
        return Objective(self.loss, kl=float(self.variational), missing=True)

    def _corruption(self, draws, pca):
        return Corruption(draws, variational=self.variational)

    def _make_net(self, n_features, pca, rotation, seeds):
        net = super()._make_net(n_features, pca, rotation, seeds)
        return net.initialize()  # it is asked before it is trained

    def _make_module(self, network, n_features, pca, rotation, seed):
        draws = np.random.RandomState(seed)
        return build_members(
            network,
            n_features,
            self.n_components_,
            link=make_link(*self._link_parameters()),
            pca=pca if self.init == "pca" else None,
            variational=self.variational,
            seeds=draws.randint(np.iinfo(np.int32).max - 1, size=self.n_estimators).tolist(),
        )

    def _net_parameters(self):
        return {"n_members": self.n_estimators, "score_method": self.score_method}

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        going_on = self.warm_start and hasattr(self, "net_")
        if not going_on:
            self._split_seed = rng.randint(np.iinfo(np.int32).max)
        held_out = self._held_out(X.shape[0])
        n_core = self._check_core(X.shape[0] - held_out.shape[1])
        if going_on:
            self._continue(n_core)
        else:
            _, pca, seeds = self._start(X, sample_weight, rng)
            self._build_net(n_core, pca, None, seeds)
            self._set_baseline(X, sample_weight)
        rows = self._rows(X).in_memory()
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        inner = self._train_on_core(rows, weights, held_out, starts=not going_on)
        if self.score_method == "mahalanobis":
            self.net_.locate(rows, inner * weights)
        self._record_training()
        seen = SeenLosses.of(self.net_.raw_losses(rows), weights, held_out)
        self._learn_threshold(seen)
        self._seen = seen.shuffled(rng).last(WINDOW)

    def _train_once(self, X, sample_weight, rng):
        rows = self._rows(X).in_memory()
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        if hasattr(self, "_seen"):
            before = self.net_.raw_losses(rows)
            self._train_pass(rows, np.tile(weights, (self.n_estimators, 1)), starts=False)
            later = SeenLosses.before_and_after(before, self.net_.raw_losses(rows), weights)
            self._seen = self._seen.then(later).last(WINDOW)
        else:
            self._split_seed = rng.randint(np.iinfo(np.int32).max)
            held_out = self._held_out(X.shape[0])
            self._check_core(X.shape[0] - held_out.shape[1])
            self._set_baseline(X, sample_weight)
            inner = self._train_pass(rows, own_weights(weights, held_out), starts=True)
            if self.score_method == "mahalanobis":
                self.net_.locate(rows, inner * weights)
            self._seen = SeenLosses.of(self.net_.raw_losses(rows), weights, held_out).last(WINDOW)
        self._learn_threshold(self._seen)

    def _train_pass(self, rows, own, starts):
        inner = self._choose_core(rows, own, starts)
        self.net_.train_on(MemberRows(rows, own * inner))
        return inner

    def _held_out(self, n_rows):
        """Numbers of the rows that each member does not train on, different ones if possible.

        The same for as many rows again: training may go on with rows that were in an
        earlier fit, and what was held out is to stay so.
        """
        n_held_out = min(int(self.validation_fraction * n_rows), MAX_HELD_OUT)
        n_held_out = min(max(n_held_out, int(n_rows >= 4)), n_rows - 2) if n_rows > 2 else 0
        rng = np.random.RandomState(self._split_seed)
        places = np.arange(self.n_estimators * n_held_out) % n_rows
        return rng.permutation(n_rows)[places].reshape(self.n_estimators, n_held_out)

    def _check_core(self, n_rows):
        """Number of rows in the core; raise if there are not two."""
        n_core = int(np.ceil(self.core_fraction * n_rows - 1e-9))
        if n_core < 2:
            raise ValueError(
                f"core_fraction={self.core_fraction!r} leaves {n_core} of {n_rows} rows to "
                "train on; at least 2 are needed. Raise it, or fit on more rows."
            )
        return n_core

    def _set_baseline(self, X, sample_weight):
        baseline = np.zeros(X.shape[1])  # of the core, which robust scaling has moved here
        if self.scaling != "robust":
            baseline = column_moments(X, sample_weight, self._scaler.transform).mean
        self.net_.set_baseline(baseline)

    def _train_on_core(self, rows, weights, held_out, starts):
        """Train on the rows with the lowest losses, which training then says anew."""
        net = self.net_
        own = own_weights(weights, held_out)
        valid = None
        if self.early_stopping and held_out.size:
            valid = MemberRows(rows, np.tile(weights, (len(own), 1)) - own)
        n_epochs = net.max_epochs
        n_refits = 0 if self.core_fraction == 1 else self.n_refits
        for left in range(n_refits, -1, -1):
            net.set_params(max_epochs=n_epochs if left == 0 else ceil(n_epochs * SHARE_OF_REFIT))
            inner = self._choose_core(rows, own, starts and left == n_refits)
            n_later = n_epochs + (left - 1) * ceil(n_epochs * SHARE_OF_REFIT) if left else 0
            with remaining_epochs(n_later):
                net.train(MemberRows(rows, own * inner), valid)
            if net.stop_ == "interrupted":
                break
        return inner

    def _choose_core(self, rows, own_weights, starts):
        """Masks of the rows that members reproduce best; before training, the centre says."""
        *members, baseline = self.net_.row_losses(rows)
        losses = [baseline] * len(members) if starts else members
        pairs = zip(losses, own_weights, strict=True)
        return np.stack([trimmed_subset(loss, own, self.core_fraction) for loss, own in pairs])


def own_weights(weights, held_out):
    """Weights of the rows for each member, zero for those that it does not train on."""
    own = np.tile(weights, (len(held_out), 1))
    np.put_along_axis(own, held_out, 0.0, axis=1)
    return own
