"""How the detector is fitted (views of the rows, a threshold), and how its parts judge rows."""

from copy import deepcopy
from functools import partial

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import (
    as_precise_as,
    empty,
    is_tensor,
    namespace,
    widest_float,
    write_pieces,
)
from skae._data._chunks import as_dense, dense_rows, row_chunks
from skae._data._fitted_arrays import FittedArray
from skae._data._judged import JudgedScaler
from skae._data._scaling import Scaler, column_moments, unchanged
from skae._data._shards import is_sharded
from skae._data._shuffling import grouped, shuffled_rows
from skae._data._sources import is_source, studied
from skae._data._tables import as_table
from skae._engine._build import build_members, pca_of_rows
from skae._engine._ensemble_net import MemberNet
from skae._engine._learn_mixed_views import MixedTable
from skae._engine._learn_views import PLAIN, learn_views
from skae._engine._views import VIEWS
from skae._fit._defaults import Detection
from skae._fit._plan import (
    Feed,
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
from skae._stats._gross import GrossRule
from skae._stats._scoring import (
    CalibrationScores,
    ScoreRule,
    SeenLosses,
    calibrated_threshold,
    limit_of_share,
    unseen_losses,
)
from skae.estimators._checks import check_holds_cells
from skae.estimators._mixed_tables import make_link, make_objective
from skae.exceptions import warn_user

# Cells beyond this many deviations of their column grow by their logarithm only.
CUT = 8.0
# Otherwise scaled ones only so far out that losses would overflow.
CUT_OTHERWISE = 1e9
# Rows and cells that the views and the threshold are learned from, at most. `partial_fit`
# remembers the losses of so many rows, whatever their cells.
MAX_STUDIED, MAX_STUDIED_CELLS = 10_000, 2**23
# Of a table on disk, `partial_fit` takes at least so many rows at a time.
MIN_ROWS_AT_ONCE = 20_000
LARGEST_SEED = np.iinfo(np.int32).max


class DetectionMixin:
    """How the detector is fitted, and how its fitted parts work together.

    Its plans are of another kind, ``TrimmedPlan``: members learn from the trimmed subset,
    and rows are held out for the threshold and not to choose an epoch.
    """

    _auto = Detection
    mean_ = FittedArray()
    _accepts_missing = True
    _reads_gaps = True
    _declared = "level"

    def _fit(self, X, sample_weight):
        n_rows = X.shape[0]
        # Members draw rows one by one from all, and few passes over the sample are many steps.
        X, sample_weight = studied(X, sample_weight)
        counts = views_that_count(self.views)
        rng = check_random_state(self.random_state)
        weight_of_all = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        weight = without_gross_outliers(numbers_of(self, X), weight_of_all, rng)
        starts = not self._resumes
        if starts:
            self._split_seed = rng.randint(LARGEST_SEED)
        held_out = self._held_out(X.shape[0])
        n_subset = size_of_subset(self.core_fraction, X.shape[0] - held_out.shape[1])
        if starts:
            net = self._build_net(X, weight, rng, n_subset)
        else:
            net = self._fitted_net()
            net.set_params(**net_settings(self, Detection, self.n_features_in_, n_subset))
        self._begin(net, None)

        def finish(model, outcome, rng):
            model._finish(outcome, X, sample_weight)
            model._seen = model._learn_views(X, weight, held_out, rng)
            model._learn_threshold(counts)
            if model._flags_share:
                model._flag_share(model._scores(X), weight_of_all)

        def attributes_after(outcome):
            return self._attributes_of_copy(partial(finish, outcome=outcome, rng=deepcopy(rng)))

        plan = self._trimmed_plan(X, weight, net, held_out, starts, attributes_after)
        finish(self, fit_trimmed(plan), rng)
        self.n_samples_seen_ = n_rows

    def _partial_fit(self, X, sample_weight, *, first):
        if is_source(X):
            self._partial_fit_on_disk(X, sample_weight, first)
            return
        counts = views_that_count(self.views)
        rng = check_random_state(self.random_state)
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        weight = without_gross_outliers(numbers_of(self, X), weight, rng)
        if first:
            net = self._build_net(X, weight, rng, X.shape[0])
            self._split_seed = rng.randint(LARGEST_SEED)
            held_out = self._held_out(X.shape[0])
            size_of_subset(self.core_fraction, X.shape[0] - held_out.shape[1])  # or raises
        else:
            net = self._fitted_net()
            held_out = np.empty((self.n_estimators, 0), dtype=int)
            before = net.raw_losses(self._rows(X))
        self._begin(net, None)
        outcome = fit_trimmed_pass(self._trimmed_plan(X, weight, net, held_out, first))
        self._finish(outcome, X, sample_weight)
        if first:
            self._seen = self._learn_views(X, weight, held_out, rng)
        else:
            later = SeenLosses(net.raw_losses(self._rows(X)), before, weight)
            self._seen = self._seen.then(later).last(MAX_STUDIED)
        self._learn_threshold(counts)
        if self._flags_share:
            self._flag_share(self._rule.scores(self._seen.raw), self._seen.weights)

    def _partial_fit_on_disk(self, X, sample_weight, first):
        """Train on all rows of a table on disk once, many at a time."""
        seed = check_random_state(self.random_state).randint(LARGEST_SEED)
        for rows, numbers in grouped(shuffled_rows(X, unchanged, None, seed), MIN_ROWS_AT_ONCE):
            weight = None if sample_weight is None else sample_weight[numbers]
            self._partial_fit(rows, weight, first=first)
            first = False
        self.n_samples_seen_ = X.shape[0]

    def _build_net(self, X, sample_weight, rng, n_rows):
        """Learn scaling, sizes and baseline; return a fresh net to be trained on `n_rows`."""
        check_holds_cells(X)
        self._scaler = scaler = make_scaler(self).fit(X, sample_weight)
        self.mean_ = scaler.mean_
        n_features = scaler.n_inputs
        seeds = Seeds.draw(rng)
        pca = None
        if self.init == "pca" or isinstance(self.n_components, float):
            n_wanted = n_directions(self.n_components)
            pca = pca_of_rows(X, scaler, n_wanted, sample_weight, seeds.start)
        k = self.n_components
        k = Detection.n_components(self.n_features_in_) if isinstance(k, str) else n_latents(k, pca)
        self.n_components_ = k
        network = resolve_network(self, Detection, n_features)
        members = {"n_members": self.n_estimators}
        make_net = NetFactory(self, network, seeds, {}, MemberNet, **members)
        module = build_members(
            network,
            n_features,
            k,
            link=make_link(self),
            pca=pca if self.init == "pca" else None,
            variational=self.variational,
            seeds=seeds_of_members(seeds.weights, self.n_estimators),
        )
        # Losses are needed before training. A first `partial_fit` trains with what `initialize`
        # finds here: without weight decay and callbacks, which come with the settings.
        objective = make_objective(self, loss=self.loss, kl=float(self.variational))
        net = make_net(module, objective, variational=self.variational).initialize()
        net.set_params(**net_settings(self, Detection, n_features, n_rows))
        net.set_baseline(baseline_of(scaler, X, sample_weight))
        return net

    def _fitted_net(self):
        """A copy of the fitted net, if the parameters still fit it."""
        check_same_network(self, self._network_fingerprint)
        return self.net_.copy()

    def _held_out(self, n_rows):
        fraction, seed = self.validation_fraction, self._split_seed
        return held_out_rows(n_rows, self.n_estimators, fraction, seed)

    def _trimmed_plan(self, X, weight, net, held_out, starts, attributes_after=None):
        return TrimmedPlan(
            net=net,
            rows=Feed(self._scaler, net.device).rows(X, None, None).in_memory(),
            weights=weight,
            held_out=held_out,
            fraction=self.core_fraction,
            n_refits=self.n_refits,
            keeps_best_epoch=self.early_stopping,
            is_first_fit=starts,
            attributes_after=attributes_after,
        )

    def _learn_views(self, X, weight, held_out, rng):
        """Learn the other views; return the losses of the rows that they were learned from."""
        studied = rows_to_study(weight, X.shape[1], rng)
        rows, weight = self._rows(X, studied), weight[studied]
        scaled = rows.read_all().cpu().numpy()
        layout = getattr(self.net_.module_.link, "layout", None)
        table = PLAIN if layout is None else MixedTable(layout)
        self.net_.views_, conditional = learn_views(scaled, weight, rng, table)
        raw = self.net_.raw_losses(rows)
        unseen = raw.copy()
        is_held_out = np.stack([np.isin(studied, numbers) for numbers in held_out])
        n_members = len(held_out)
        unseen[:n_members] = unseen_losses(raw[:n_members], is_held_out, weight)
        unseen[n_members + 1] = conditional
        return SeenLosses(raw, unseen, weight)

    def _learn_threshold(self, counts):
        self._rule = ScoreRule.fit(self._seen, self.n_components_ / self.n_features_in_, counts)
        self._calibration_scores = CalibrationScores.of(self._seen, self._rule)
        rule = "level" if self.threshold == "contamination" else self.threshold
        limit = calibrated_threshold(self._calibration_scores, rule, self.n_std)
        self.offset_ = -float(limit)

    @property
    def _flags_share(self):
        """Whether a share of the training rows is to be flagged, and not what is rare."""
        return self.threshold == "contamination" and self.contamination != "auto"

    def _flag_share(self, scores, weight):
        """Set the threshold so that a share of these rows are outliers."""
        limit, share = limit_of_share(scores, self.contamination, weight)
        self.offset_ = -limit
        if abs(share - self.contamination) > max(self.contamination, 1 / len(scores)) / 2:
            warn_user(
                f"contamination={self.contamination!r} asks for a share of outliers that equal "
                f"scores do not allow: {share:.3g} of the rows are beyond the threshold."
            )

    # What computes, of the fitted parts together.

    def _score_cells(self, raw, cells):
        """Which rows are outliers, and what each cell contributes to the score."""
        return -self._rule.scores(raw) < self.offset_, self._contributions(raw, cells)

    def _scores(self, X):
        return self._of_raw_losses(self._rule.scores, X)

    def _one_per_row(self, compute, X):
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        return to_input_type(as_precise_as(X, compute(X)))

    def _of_raw_losses(self, rule, X):
        """One number per row, by a rule that reads raw losses."""
        if is_sharded(X):
            return X.of_rows(partial(self._of_raw_losses, rule))
        raw = self.net_.raw_losses_in_pieces(self._rows(X))
        out = empty(X.shape[0], X, widest_float(X))
        return write_pieces(out, ((span, rule(losses)) for span, losses in raw))

    def _pvalues(self, raw):
        return self._calibration_scores.pvalues(self._rule.scores(raw))

    def _contributions(self, raw, cells):
        """Of each column, in the order of the net's."""
        return namespace(raw).einsum("mn,mnd->nd", self._rule.factors(raw), cells)

    def _corrected(self, X, anomalous):
        """Rows with anomalous cells, in the order of the net's columns, replaced."""
        corrected, scaler = empty(X.shape, X), self._scaler.on_device_of(X)
        corrected[:] = as_dense(X)
        for span, scaled in self.net_.imputed_rows(self._rows(X), anomalous):
            values = scaler.inverse_transform(scaled, corrected.dtype)
            mask = self._of_table(anomalous[span])
            corrected[span][mask] = values[mask]
        return corrected

    def _of_table(self, cells):
        """Cells in the order of the table's columns, from the net's."""
        return cells if self._columns is None else cells[:, np.argsort(self._scaler.order)]

    def _of_net(self, columns):
        """Columns in the order of the net's, from the table's."""
        return columns if self._columns is None else columns[self._scaler.order]

    def _named(self, cells, X, to_input_type):
        """A DataFrame where the columns' names are known, indexed as X is; else like X."""
        if not hasattr(self, "feature_names_in_") or is_tensor(cells):
            return to_input_type(cells)
        import pandas as pd

        X = as_table(X)
        if type(X).__module__.startswith("polars"):
            return type(X)(cells, schema=self.feature_names_in_.tolist())
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(cells, columns=self.feature_names_in_, index=index)


def make_scaler(model):
    """The scaler of numbers, or of a mixed table, before it is fitted."""
    cut = CUT if model.scaling in ("robust", "standard") else CUT_OTHERWISE
    method = "winsorized" if model.scaling == "robust" else model.scaling
    if model._columns is None:
        return Scaler(method, cut)
    return JudgedScaler(model._columns.n_levels, method, cut)


def baseline_of(scaler, X, sample_weight):
    """The scaled row that reconstructs all rows alike: means, and shares of levels."""
    if isinstance(scaler, JudgedScaler):
        return scaler.baseline
    return column_moments(X, sample_weight, scaler.transform).mean


def numbers_of(model, X):
    """Rows with zero in columns of levels, which are never far from others."""
    if model._columns is None:
        return X
    if is_sharded(X):
        return X.of_own(partial(numbers_of, model))
    return np.where(np.asarray(model._columns.n_levels) > 0, 0.0, X)


def views_that_count(views):
    """Mask of the views that the parameter names; raise ValueError if it is not valid."""
    if isinstance(views, str):
        return np.ones(len(VIEWS), dtype=bool)
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        named = f" has {unknown[0]!r}: it" if unknown else ""
        raise ValueError(f"views={views!r}{named} must be 'auto' or names out of {VIEWS}.")
    return np.isin(VIEWS, views)


def rows_to_study(weight, n_features, rng):
    """Numbers of a sample of the rows of positive weight."""
    rows = np.flatnonzero(weight > 0)
    n_rows = min(MAX_STUDIED, max(MAX_STUDIED_CELLS // n_features, 500))
    if len(rows) <= n_rows:
        return rows
    return np.sort(rng.choice(rows, n_rows, replace=False))


def without_gross_outliers(X, weight, rng):
    """Weights of the rows, zero for gross outliers."""
    weight = weight.astype(np.float64)
    studied = rows_to_study(weight, X.shape[1], rng)
    rule = GrossRule.fit(dense_rows(X, studied), weight[studied], rng)
    if np.isinf(rule.limit):
        return weight
    return weight * ~is_gross(X, rule)


def is_gross(X, rule):
    """Mask of the gross outliers."""
    if is_sharded(X):
        return X.of_rows(partial(is_gross, rule=rule)) > 0
    parts = [rule(chunk.astype(np.float64)) for _, chunk in row_chunks(X)]
    return np.concatenate([*parts, np.empty(0, dtype=bool)])


def seeds_of_members(seed, n_members):
    """Seeds of the members' weights."""
    return np.random.RandomState(seed).randint(LARGEST_SEED - 1, size=n_members).tolist()
