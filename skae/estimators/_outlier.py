"""The autoencoder that stands in for IsolationForest."""

from math import ceil
from numbers import Integral, Real

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._chunks import as_dense
from skae._core import inner_rows, scale_by_core
from skae._defaults import Detection
from skae._engine._build import build_members, is_ours, make_link
from skae._engine._losses import Objective
from skae._engine._members import MemberNet, MemberRows
from skae._engine._noise import Corruption
from skae._engine._runtime import generator, resolve_device
from skae._scaling import Scaler, column_moments
from skae._scoring import HeldOut, ScoreRule, SeenLosses, held_out_threshold, quantile
from skae._sklearn import Interval, StrOptions
from skae.estimators._base import BaseAutoencoder
from skae.estimators._doors import output_dtype

# Robustly scaled values are cut off here, in interquartile ranges.
CLIP = 8.0
# Fits that only prepare the choice of the core take this share of the last one's epochs.
SHARE_OF_REFIT = 1 / 3
# Rows that partial_fit remembers the losses of.
WINDOW = 10_000
# Rows that each member leaves out at most.
MAX_HELD_OUT = 10_000


class AutoencoderOutlierDetector(OutlierMixin, BaseAutoencoder):
    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "threshold": [StrOptions({"contamination", "std", "mad"})],
        "n_std": [Interval(Real, 0, None, closed="left")],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "aggregation": [StrOptions({"mean", "median", "max"})],
        "core_fraction": [Interval(Real, 0, 1, closed="right")],
        "n_refits": [Interval(Integral, 0, None, closed="left")],
        "score_method": [StrOptions({"reconstruction", "mahalanobis", "density"})],
        "variational": ["boolean"],
        "loss": [StrOptions({"absolute_error", "cauchy", "huber", "squared_error"})],
        "scaling": [StrOptions({"global", "standard", "minmax", "robust"}), None],
    }

    def __init__(
        self,
        *,
        contamination="auto",
        threshold="contamination",
        n_std=3.0,
        n_estimators=4,
        aggregation="mean",
        core_fraction=0.7,
        n_refits=2,
        score_method="reconstruction",
        variational=False,
        loss="cauchy",
        scaling="robust",
        n_components="auto",
        hidden_layer_sizes="auto",
        activation="tanh",
        network=None,
        init="random",
        alpha="auto",
        learning_rate="auto",
        batch_size="auto",
        max_epochs="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=None,
        warm_start=False,
        device="auto",
        precision="float32",
        callbacks=None,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.threshold = threshold
        self.n_std = n_std
        self.n_estimators = n_estimators
        self.aggregation = aggregation
        self.core_fraction = core_fraction
        self.n_refits = n_refits
        self.score_method = score_method
        self.variational = variational
        self.loss = loss
        self.scaling = scaling
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.init = init
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    # What this estimator brings to the shared fit.

    _auto = Detection
    _accepts_missing = True

    def _n_latents(self):
        return self.n_estimators * self.n_components_

    def _fit_scaler(self, X, sample_weight):
        if self.scaling != "robust":
            return Scaler(self.scaling).fit(X, sample_weight)
        scaler = Scaler("robust", clip=CLIP).fit(X, sample_weight)
        scale_by_core(scaler, X, sample_weight, self.core_fraction)
        return scaler

    def _needs_pca(self):
        return self.init == "pca" or isinstance(self.n_components, float)

    def _choose_n_latents(self, pca):
        if isinstance(self.n_components, str):
            return Detection.n_components(self.n_features_in_)
        return super()._choose_n_latents(pca)

    def _objective(self):
        return Objective(self.loss, kl=float(self.variational), missing=True)

    def _make_net(self, n_features, pca, rotation, seeds):
        network = self._network(n_features)
        device = resolve_device(self.device)
        draws = np.random.RandomState(seeds[0])
        module = build_members(
            network,
            n_features,
            self.n_components_,
            link=make_link(*self._link_parameters()),
            pca=pca if self.init == "pca" else None,
            variational=self.variational,
            seeds=draws.randint(np.iinfo(np.int32).max - 1, size=self.n_estimators).tolist(),
        )
        net = MemberNet(
            module.to(device),
            self._objective(),
            n_members=self.n_estimators,
            score_method=self.score_method,
            corruption=Corruption(generator(seeds[1], device), variational=self.variational),
            batch_generator=generator(seeds[2]),
            precision=self.precision,
            device=device,
            global_seed=None if is_ours(network) else seeds[0],
        )
        return net.initialize()  # it is asked before it is trained

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        held_out = self._held_out(X.shape[0], rng)
        n_core = self._check_core(X.shape[0] - held_out.shape[1])
        going_on = self.warm_start and hasattr(self, "net_")
        if going_on:
            self._continue(n_core)
        else:
            _, pca, seeds = self._start(X, sample_weight, rng)
            self._build_net(n_core, pca, None, seeds)
            self._place_centre(X, sample_weight)
        rows = self._rows(X).in_memory()
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        inner = self._train_on_core(rows, weights, held_out, starts=not going_on)
        if self.score_method == "mahalanobis":
            self.net_.locate(rows, inner)
        self._record_training()
        seen = SeenLosses.of(self.net_.raw_losses(rows), weights, held_out)
        self._learn_threshold(seen)
        self._seen = seen.last(WINDOW)

    def _train_once(self, X, sample_weight, rng):
        if self.score_method == "mahalanobis":
            raise ValueError(
                "score_method='mahalanobis' needs all rows at once: use fit, or another "
                "score_method with partial_fit."
            )
        starts = not hasattr(self, "_seen")
        held_out = self._held_out(X.shape[0], rng)
        if starts:
            self._check_core(X.shape[0] - held_out.shape[1])
            self._place_centre(X, sample_weight)
        rows = self._rows(X).in_memory()
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        own = own_weights(weights, held_out)
        inner = self._choose_core(rows, own, starts)
        self.net_.train_on(MemberRows(rows, own * inner))
        seen = SeenLosses.of(self.net_.raw_losses(rows), weights, held_out)
        self._seen = (seen if starts else self._seen.then(seen)).last(WINDOW)
        self._learn_threshold(self._seen)

    def _held_out(self, n_rows, rng):
        """Numbers of the rows that each member does not train on, different ones if possible."""
        n_held_out = min(int(self.validation_fraction * n_rows), MAX_HELD_OUT)
        n_held_out = min(max(n_held_out, int(n_rows >= 4)), n_rows - 2) if n_rows > 2 else 0
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

    def _place_centre(self, X, sample_weight):
        self.net_.place_centre(column_moments(X, sample_weight, self._scaler.transform).mean)

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
            net.train(MemberRows(rows, own * inner), valid)
            if net.stop_ == "interrupted":
                break
        return inner

    def _choose_core(self, rows, own_weights, starts):
        """Masks of the rows that members reproduce best; before training, the centre says."""
        *members, centre = self.net_.row_losses(rows)
        losses = [centre] * len(members) if starts else members
        pairs = zip(losses, own_weights, strict=True)
        return np.stack([inner_rows(loss, own, self.core_fraction) for loss, own in pairs])

    def _learn_threshold(self, seen):
        share_kept = None
        if self.score_method == "reconstruction":
            share_kept = self.n_components_ / self.n_features_in_
        self._rule = ScoreRule.fit(seen, self.aggregation, share_kept)
        self._held_out_scores = HeldOut.of(seen, self._rule)
        if self.threshold == "contamination" and self.contamination != "auto":
            scores = self._rule.scores(seen.raw)
            limit = quantile(scores, 1.0 - self.contamination, seen.weights)
        else:
            rule = "fence" if self.threshold == "contamination" else self.threshold
            limit = held_out_threshold(self._held_out_scores, rule, self.n_std)
        self.offset_ = -float(limit)

    # Public uses.

    def predict(self, X):
        """Tell outliers from inliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN is a missing cell.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, +1 for inliers.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        return give_back(np.where(-self._scores(X) < self.offset_, -1, 1))

    def decision_function(self, X):
        """How far rows are on the inliers' side of the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        decisions : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def score_samples(self, X):
        """How normal rows are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is more normal. With ``score_method="reconstruction"``, 0 is a row that
            is reproduced exactly and -1 the mean of the training rows.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        return give_back(-self._scores(X))

    def pvalues(self, X):
        """Conformal p-values: how often a normal row would score as badly.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        pvalues : ndarray of shape (n_samples,)
            In (0, 1], uniform on rows like those of ``fit``.
        """
        check_is_fitted(self)
        X, give_back = self._open(X)
        raw = self.net_.raw_losses(self._rows(X))
        return give_back(self._held_out_scores.pvalues(self._rule.member_scores(raw[:-1], raw[-1])))

    def explain(self, X):
        """Contribution of each column to each row's score.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            They sum to ``-score_samples(X)`` in each row; a missing cell contributes
            nothing. A DataFrame where the columns' names are known.
        """
        check_is_fitted(self)
        rows, _ = self._open(X)
        contributions = np.empty(rows.shape)
        for span, raw, cells in self.net_.cell_losses(self._rows(rows)):
            contributions[span] = self._contributions(raw, cells)
        return self._named(contributions, X)

    def correct(self, X, columns=None):
        check_is_fitted(self)
        allowed = self._column_mask(columns)
        rows, _ = self._open(X)
        dtype = output_dtype(rows)
        limit = -self.offset_ / self.n_features_in_

        def find_guilty(raw, cells):
            outlying = -self._rule.scores(raw) < self.offset_
            return outlying[:, None] & allowed & (self._contributions(raw, cells) > limit)

        corrected = np.array(as_dense(rows), dtype=dtype)
        for span, guilty, scaled in self.net_.repaired_rows(self._rows(rows), find_guilty):
            told = self._scaler.inverse_transform(scaled, dtype)
            corrected[span][guilty] = told[guilty]
        return self._named(corrected, X)

    def _scores(self, X):
        return self._rule.scores(self.net_.raw_losses(self._rows(X)))

    def _contributions(self, raw, cells):
        return np.einsum("mn,mnd->nd", self._rule.factors(raw), cells)

    def _column_mask(self, columns):
        """Mask of the columns that are named or numbered; all of them for None."""
        if columns is None:
            return np.ones(self.n_features_in_, dtype=bool)
        names = list(getattr(self, "feature_names_in_", ()))
        mask = np.zeros(self.n_features_in_, dtype=bool)
        for column in [columns] if isinstance(columns, str | Integral) else columns:
            if column in names:
                mask[names.index(column)] = True
            elif isinstance(column, Integral) and 0 <= column < self.n_features_in_:
                mask[column] = True
            else:
                known = f"one of {names}, or " if names else ""
                raise ValueError(
                    f"columns={columns!r}: {column!r} must be {known}an integer from 0 to "
                    f"{self.n_features_in_ - 1}."
                )
        return mask

    def _named(self, cells, X):
        """A DataFrame where the columns' names are known, indexed as X is."""
        if not hasattr(self, "feature_names_in_"):
            return cells
        import pandas as pd

        return pd.DataFrame(cells, columns=self.feature_names_in_, index=getattr(X, "index", None))


def own_weights(weights, held_out):
    """Weights of the rows for each member, zero for those that it does not train on."""
    own = np.tile(weights, (len(held_out), 1))
    np.put_along_axis(own, held_out, 0.0, axis=1)
    return own
