"""How the generator draws rows: latents, conditions, targets, candidates."""

from numbers import Integral

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from skae._data._relation_rules import same
from skae._data._targets import target_column
from skae.estimators._conditions import ConditionsMixin
from skae.estimators._guarding import GuardingMixin
from skae.exceptions import warn_user

# Rows and cells drawn at once.
ROWS_AT_ONCE, CELLS_AT_ONCE = 2**16, 2**22
# Rows that are drawn for one that is given out, where a refiner chooses.
CANDIDATES_TO_REFINE = 8
# Latents that are weighed against conditions, per row drawn, and at least and at most.
CANDIDATES_PER_ROW, MIN_CANDIDATES, MAX_CANDIDATES = 20, 20_000, 200_000
# Times that rows are drawn anew where sums, for instance, are beyond all that occur.
MAX_REDRAWS = 8
# The same for each of many targets.
LEAST_CANDIDATES = 500
# Fewer effective candidates per row wanted, or fewer at all, are worth a warning.
MIN_EFFECTIVE_SHARE, MIN_EFFECTIVE_SIZE = 0.5, 10
# Rows that are drawn for one of which cells are solved.
ROWS_PER_SOLVED = 4
# Rows drawn at once to find some that pass tests, and most rows in a search for them.
ROWS_TO_TEST, MAX_ROWS_TO_TEST = 4096, 2**20


class SamplingMixin(GuardingMixin, ConditionsMixin):
    """Rows out of latents, of the fitted parts together."""

    def _draw_latents(self, codes, rng):
        """One latent for each target, from its mixture."""
        z = rng.normal(size=(len(codes), self.n_components_))
        if self.prior_ is None:
            return z
        groups = np.zeros(len(codes), dtype=int)
        if self.conditional:
            groups = self._targets.groups(codes)
        cumulative = np.cumsum(self._group_weights, axis=1)[groups]
        component = (rng.uniform(size=(len(groups), 1)) > cumulative[:, :-1]).sum(axis=1)
        roots = np.linalg.cholesky(self.prior_.covariances_)
        for c in np.unique(component):
            z[component == c] = self.prior_.means_[c] + z[component == c] @ roots[c].T
        return z

    def _sample(self, n_samples, y, conditions, rng):
        """Rows as the user gets them."""
        self._check_is_guarded()
        n_rows = self._number_to_draw(n_samples, y, conditions)
        requests = self._requests(conditions, y is not None)
        codes = self._codes_to_draw(n_rows, y, rng)
        X = np.empty((n_rows, self._n_learned))
        for rows, request in requests:
            X[rows] = self._draw(codes[rows], request, rng)
        warn_if_rare([size for _, request in requests for size in request.effective], n_rows)
        return self._wrap_output(X, like=conditions if len(requests) > 1 else None)

    def _number_to_draw(self, n_samples, y, conditions):
        """Number of rows, checked; that of `y` or `conditions` with a value for each row."""
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive integer.")
        self._check_targets_are_known(y)
        n_rows = int(n_samples)
        wanted = {}
        if y is not None and np.ndim(y):
            wanted["y, which has {} values"] = len(target_column(y))
        if hasattr(conditions, "columns") and len(conditions) != 1:
            wanted["conditions, which have {} rows"] = len(conditions)
        for what, n_wanted in wanted.items():
            if n_rows not in (1, n_wanted):
                raise ValueError(f"n_samples={n_rows} does not fit {what.format(n_wanted)}.")
            n_rows = n_wanted
        if not n_rows:
            raise ValueError("conditions have no row.")
        return n_rows

    def _check_targets_are_known(self, y):
        if y is not None and not self.conditional:
            raise ValueError(
                "y is given, but the model was fitted without it: fit again with conditional=True."
            )

    def _codes_to_draw(self, n_samples, y, rng):
        """Codes of the targets that rows are drawn for; NaN without targets."""
        if not self.conditional:
            return np.full(n_samples, np.nan)
        if y is None:
            return self._targets.draw(n_samples, rng)
        return self._targets.codes(np.broadcast_to(target_column(y), n_samples))

    @property
    def _n_learned(self):
        """Number of columns that the model learns, without what relations make redundant."""
        return len(self._relations.keys)

    @property
    def _ratio_to_drawn(self):
        """How much likelier real rows are than candidates, where one of several is chosen."""
        return vars(self).get("_candidate_ratio") or self.refiner_

    @property
    def _n_candidates(self):
        """How many rows are drawn for one that is given out."""
        return 1 if self._ratio_to_drawn is None else CANDIDATES_TO_REFINE

    def _batches_of(self, n_rows, times=1):
        """Slices of rows, so many that a batch of them stays small when taken several times."""
        step = np.clip(CELLS_AT_ONCE // self.n_features_in_, 1000, ROWS_AT_ONCE)
        return gen_batches(n_rows, int(step) // times)

    def _draw(self, codes, request, rng):
        """Rows for targets; of several candidates for each, one by how real it looks."""
        X = np.empty((len(codes), self._n_learned))
        for batch in self._batches_of(len(codes), self._n_candidates):
            rows = self._tested(np.repeat(codes[batch], self._n_candidates), request, rng)
            request.weighed.clear()
            picked = np.arange(0, len(rows), self._n_candidates)
            if self._ratio_to_drawn is not None:
                # The largest of log-weights with Gumbel noise is a draw.
                noisy = self._ratio_to_drawn.log_ratio(rows) + rng.gumbel(size=len(rows))
                picked = picked + noisy.reshape(len(picked), -1).argmax(axis=1)
            X[batch] = rows[picked, : self._n_learned]
        return X

    def _tested(self, codes, request, rng):
        """Candidates that pass the tests of a request; others stand in for those that fail."""
        if not request.tests and self._guards is None:
            return self._candidates(codes, request, rng)
        rows = np.empty((len(codes), self._n_learned + bool(self.conditional)))
        todo, n_drawn, passed = np.arange(len(codes)), 0, np.array([], dtype=int)
        while len(todo) and n_drawn < max(MAX_ROWS_TO_TEST, 4 * len(codes)):
            places = np.resize(todo, max(len(todo), ROWS_TO_TEST))
            drawn = self._candidates(codes[places], request, rng)
            whole = self._relations.restore(drawn[:, : self._n_learned])
            met = np.flatnonzero(request.met(whole) & self._may_be_shown(whole, request))
            places, first = np.unique(places[met], return_index=True)
            rows[places] = drawn[met[first]]
            passed = np.r_[passed, places]
            todo = np.setdiff1d(todo, places)
            n_drawn += len(drawn) * (ROWS_PER_SOLVED if request.solved else 1)
        request.check_some_pass(len(passed), n_drawn, self._reason_of_guards())
        if len(todo):  # rare rows are given out more than once
            rows[todo] = rows[rng.choice(passed, len(todo))]
            request.effective.append(len(passed) / self._n_candidates)
        return rows

    def _candidates(self, codes, request, rng):
        """Rows as the network draws them, beside the codes of their targets."""
        if request.solved:
            return self._solved(codes, request, rng)
        rows = self._network_rows(*self._latents_for(codes, request, rng), request, rng)
        n_effective = len(request.effective)
        for _ in range(MAX_REDRAWS if self._relations.has_limits else 0):
            again = np.flatnonzero(~self._relations.is_met(rows[:, : self._n_learned]))
            if not len(again):
                break
            latents = self._latents_for(codes[again], request, rng)
            rows[again] = self._network_rows(*latents, request, rng)
        del request.effective[n_effective:]  # those of rows drawn anew are of the same latents
        rows[:, : self._n_learned] = self._relations.close(rows[:, : self._n_learned])
        return rows

    def _solved(self, codes, request, rng):
        """Candidates of which some cells are solved for those that relations determine.

        The rest of each is drawn first; then rows are picked by how likely their latents make
        the cells solved for.
        """
        relations, n_rows = self._relations, len(codes)
        n_drawn = int(np.clip(ROWS_PER_SOLVED * n_rows, ROWS_TO_TEST, MAX_CANDIDATES))
        z, codes = self._latents_for(np.resize(codes, n_drawn), request, rng)
        rows = self._network_rows(z, codes, request, rng)
        rows[:, : self._n_learned] = relations.close(rows[:, : self._n_learned])
        learned = rows[:, : self._n_learned]
        log_weights = np.zeros(len(rows))
        fixed = {relations.keys[i] for i in request.cells}
        for key, number in request.solved:
            learned, log_slopes = relations.solve(learned, key, number, fixed)
            log_weights -= log_slopes
        changed = np.flatnonzero(~same(learned, rows[:, : self._n_learned]).all(axis=0))
        met = np.isfinite(log_weights)
        for j in changed:
            column = self._scaler.columns_.get(j)
            if column is not None:
                if column.grid is not None:
                    learned[:, j] = column.grid.snap(learned[:, j])
                low, high = column.values[[0, -1]]
                met &= np.isnan(learned[:, j]) | ((learned[:, j] >= low) & (learned[:, j] <= high))
        whole = relations.restore(learned)
        for key, _ in request.solved:  # what was solved for may be beside the grid of its column
            met &= request.tests[key].met(whole[:, key])
        request.check_some_pass(met.sum(), len(rows), self._reason_of_guards())
        given = self._scaler.partial_rows(learned[met], changed)
        likely = self.net_.likelihood_rows(self._with_target_columns(z[met], codes[met]), given)
        log_weights = log_weights[met] + likely.astype(np.float64)
        log_weights -= logsumexp(log_weights)
        request.effective.append(float(np.exp(-logsumexp(2 * log_weights))))
        picked = np.flatnonzero(met)[rng.choice(met.sum(), n_rows, p=np.exp(log_weights))]
        rows[:, : self._n_learned] = relations.close(learned)
        return rows[picked]

    def _latents_for(self, codes, request, rng):
        """Latents, and the codes of their targets."""
        if not request.cells:
            z = self._draw_latents(codes, rng)
        elif request.targets_are_given:
            z = np.empty((len(codes), self.n_components_))
            distinct = np.unique(codes)
            for code in distinct:
                mask = codes == code
                z[mask], _ = self._latents_given(
                    request, codes[mask], rng, len(distinct) * request.n_parts
                )
        else:  # which targets go with the cells is found with the latents
            z, codes = self._latents_given(request, codes, rng, request.n_parts)
        return z, codes

    def _network_rows(self, z, codes, request, rng):
        """Rows at latents, beside the codes of their targets."""
        given = self._with_target_columns(z, codes)
        if vars(self).get("_cell_trees") is not None:
            X = self._drawn_by_trees(given, request.cells, rng)
        else:
            X = np.empty((len(z), self._n_learned))
            for span, drawn in self.net_.draw_rows(given, rng.randint(2**31 - 1)):
                X[span] = self._scaler.inverse_transform(drawn)
        if self._guards is not None:
            self._replace_rare(X, rng)
        X[:, list(request.cells)] = list(request.cells.values())
        return np.column_stack([X, codes]) if self.conditional else X

    def _with_target_columns(self, z, codes):
        """Latents beside what the decoder reads of the targets."""
        return np.hstack([z, self._targets.columns(codes)]) if self.conditional else z

    def _latents_given(self, request, codes, rng, n_parts=1):
        """Latents (and targets) resampled by how likely they make the fixed cells."""
        n_samples = len(codes)
        target = codes[0] if request.targets_are_given else None
        if target not in request.weighed:
            request.weighed[target] = self._weighed(request, codes, rng, n_parts)
        z, codes, shares = request.weighed[target]
        picked = rng.choice(len(z), n_samples, p=shares)
        return z[picked], codes[picked]

    def _weighed(self, request, codes, rng, n_parts):
        """Candidates of latents, their targets, and how likely they make the fixed cells."""
        n_samples = len(codes)
        least = max(MIN_CANDIDATES // n_parts, LEAST_CANDIDATES)
        n_candidates = np.clip(CANDIDATES_PER_ROW * n_samples, least, MAX_CANDIDATES)
        codes = codes[rng.randint(n_samples, size=n_candidates)]
        z = self._draw_latents(codes, rng)
        row = self._scaler.partial_row(request.cells)
        log_weights = self.net_.likelihood_rows(self._with_target_columns(z, codes), row).astype(
            np.float64
        )
        log_weights -= logsumexp(log_weights)
        request.effective.append(float(np.exp(-logsumexp(2 * log_weights))))
        return z, codes, np.exp(log_weights)


def warn_if_rare(effective, n_samples):
    """Warn if few latents stand behind the rows of a call of ``sample``.

    `effective` holds the effective sample sizes of batches of rows.
    """
    effective = sum(effective) if effective else np.inf
    if effective < max(MIN_EFFECTIVE_SIZE, MIN_EFFECTIVE_SHARE * n_samples):
        warn_user(
            f"Rows with these conditions are rare: {n_samples} rows come from an effective sample "
            f"of {effective:.0f} latents, so many are alike.",
        )
