import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae._stats._scoring import (
    CalibrationScores,
    ScoreRule,
    SeenLosses,
    baseline_weight,
    calibrated_threshold,
    limit_of_share,
    unseen_losses,
)
from skae._stats._surprise import Surprises, log_ranks, weighted_ranks
from skae._stats._trimming import trimmed_subset

N_VIEWS = 3


@pytest.fixture
def raw():
    """Losses of two members, the baseline and two other views."""
    return np.random.default_rng(0).exponential(size=(5, 200))


def rule_of(raw, counts=(True,) * N_VIEWS, share_kept=0.3):
    seen = SeenLosses(raw, 1.1 * raw, np.ones(raw.shape[1]))
    return ScoreRule.fit(seen, share_kept, np.array(counts)), seen


# Surprises.


def test_surprises_are_logarithms_of_tail_shares():
    losses = np.random.default_rng(0).gamma(2.0, size=(1, 50_000))
    surprises = Surprises.fit(losses, np.ones(50_000))(losses)[0]
    expected = -np.log(1 - losses[0].argsort().argsort() / 50_000)
    bulk = expected < 4
    assert np.abs(surprises - expected)[bulk].max() < 0.15
    assert surprises.mean() == pytest.approx(1.0, abs=0.03)


def test_surprises_rise_for_ever_and_never_fall():
    losses = np.random.default_rng(0).normal(size=(2, 300))
    surprises = Surprises.fit(losses, np.ones(300))
    grid = np.tile(np.r_[np.linspace(-5, 5, 1001), np.logspace(1, 30, 100)], (2, 1))
    found = surprises(grid)
    assert (np.diff(found, axis=1) >= -1e-12).all()
    assert (np.diff(found[:, -400:], axis=1) > 0).all()
    assert (found[:, 0] == 0).all()


@pytest.mark.parametrize("share", [0.3, 0.8, 0.9, 1.0])
def test_surprises_of_many_equal_losses(share):
    losses = np.random.default_rng(0).exponential(size=(1, 1000))
    losses[0, : int(share * 1000)] = 0.0
    surprises = Surprises.fit(losses, np.ones(1000))
    least, beyond = surprises(np.array([[0.0, 3.0]]))[0]
    assert least == 0
    # 3.0 is exceeded by a share of (1 - share) * exp(-3) of the rows.
    expected = 3.0 - np.log(1 - share) if share < 1 else 3.0 / 0.01
    assert beyond == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("rounding", [1e-16, 1e-8, 1e-7])
def test_rounding_is_no_surprise(rounding):
    rng = np.random.default_rng(0)
    losses = np.where(rng.uniform(size=(1, 1000)) < 0.9, 1.0, 1.0 + rng.exponential(size=(1, 1000)))
    rounded = losses * (1 + rounding * rng.normal(size=(1, 1000)))
    surprises = Surprises.fit(rounded, np.ones(1000))(rounded)[0]
    assert np.ptp(surprises[losses[0] == 1]) < 1e-3
    nearly_zero = 1e-30 * rng.exponential(size=(1, 1000))
    grid = np.logspace(-32, 3, 300)[None]
    found = Surprises.fit(nearly_zero, np.ones(1000))(grid)
    assert (np.diff(found) >= 0).all()
    assert (found >= 0).all()


def test_weights_of_surprises_are_repetitions():
    rng = np.random.default_rng(0)
    losses, weights = rng.exponential(size=(2, 300)), rng.integers(1, 4, size=300)
    weighted = Surprises.fit(losses, weights.astype(float))
    plain = Surprises.fit(np.repeat(losses, weights, axis=1), np.ones(weights.sum()))
    assert_allclose(weighted(losses), plain(losses), rtol=1e-9)


def test_ranks_of_equal_values_are_equal():
    values = np.array([3.0, 1.0, 3.0, 2.0])
    assert_array_equal(weighted_ranks(values, np.ones(4)), [1, 0.25, 1, 0.5])
    assert_allclose(log_ranks(values, np.ones(4)), -np.log([0.5, 1, 0.5, 0.75]))
    assert_array_equal(weighted_ranks(values, np.array([1, 2, 1, 0.0])), [1, 0.5, 1, 0.5])


# Scores.


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 0, 0), (0, 1, 1)])
def test_factors_make_the_score(counts, raw):
    rule, _ = rule_of(raw, np.array(counts, dtype=bool))
    assert_allclose((rule.factors(raw) * raw).sum(axis=0), rule.scores(raw))


def test_factors_of_losses_that_are_zero(raw):
    rule, _ = rule_of(raw)
    raw[:, :3] = 0.0
    assert np.isfinite(rule.factors(raw)).all()
    assert_allclose((rule.factors(raw) * raw).sum(axis=0), rule.scores(raw))


def test_the_score_is_the_root_mean_square_of_surprises(raw):
    rule, _ = rule_of(raw)
    surprises = rule.surprises(rule.view_losses(raw))
    assert_allclose(rule.scores(raw), np.sqrt(np.square(surprises).mean(axis=0)))
    others = rule_of(raw, np.array([False, True, True]))[0]
    assert_allclose(others.scores(raw), np.sqrt(np.square(surprises[1:]).mean(axis=0)))
    one = rule_of(raw, np.array([False, True, False]))[0]
    assert_allclose(one.scores(raw), surprises[1])


def test_units_of_views_do_not_count(raw):
    """A member or view whose losses are all larger by one factor gives the same scores."""
    scores = rule_of(raw)[0].scores(raw)
    for factors in ([10, 10, 10, 1, 1], [1, 1, 1, 1e-1, 1e4]):
        other = raw * np.array(factors)[:, None]
        assert_allclose(rule_of(other)[0].scores(other), scores, rtol=1e-6)


def test_members_that_reproduce_all_rows_do_not_blow_up_scores(raw):
    raw[0] *= 1e-20
    rule, _ = rule_of(raw)
    assert rule.scores(np.full((5, 1), 10.0))[0] < 1e5


def test_the_baseline_counts_where_there_is_no_structure():
    assert baseline_weight(0.7, 1.0, 0.3) == 1  # as of independent columns
    assert baseline_weight(0.07, 1.0, 0.3) == pytest.approx(0.01)
    assert baseline_weight(5.0, 1.0, 0.3) == 1
    assert baseline_weight(0.1, 1.0, 1.0) == 1


def test_losses_of_rows_that_a_member_learned_from_are_raised():
    rng = np.random.default_rng(0)
    fresh = rng.exponential(size=(2, 2000))
    held_out = rng.uniform(size=(2, 2000)) < 0.2
    unseen = unseen_losses(np.where(held_out, fresh, 0.5 * fresh), held_out, np.ones(2000))
    assert_allclose(unseen, fresh, rtol=0.15)
    # Held-out rows are left alone, and nothing is made smaller.
    assert_array_equal(unseen[held_out], fresh[held_out])
    assert (unseen_losses(fresh, held_out, np.ones(2000)) >= fresh).all()
    nothing = np.zeros((2, 2000), dtype=bool)
    assert_array_equal(unseen_losses(fresh, nothing, np.ones(2000)), fresh)


def test_seen_losses_slide(raw):
    _, seen = rule_of(raw)
    both = seen.then(seen).last(250)
    assert both.raw.shape == both.unseen.shape == (5, 250)
    assert_array_equal(both.raw[:, -200:], raw)
    assert both.weights.shape == (250,)


# Thresholds.


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.333, 0.5])
@pytest.mark.parametrize("n", [2, 4, 10, 101, 1000])
def test_limit_to_within_half_a_row(share, n):
    scores = np.random.default_rng(0).normal(size=n)
    limit, above = limit_of_share(scores, share, np.ones(n))
    assert above == (scores > limit).mean()
    assert abs(above - share) <= 0.5 / n + 1e-9


def test_equal_scores_are_on_one_side():
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(size=20), 10)
    rounded = scores * (1 + 1e-7 * rng.normal(size=200))
    for share in (0.01, 0.04, 0.1, 0.28, 0.5):
        limit, above = limit_of_share(rounded, share, np.ones(200))
        n_flagged = (rounded > limit).reshape(20, 10).sum(axis=1)
        assert set(n_flagged) <= {0, 10}
        assert abs(above - share) <= 0.025 + 1e-9


def test_a_limit_above_all_scores():
    limit, above = limit_of_share(np.ones(50), 0.1, np.ones(50))
    assert above == 0
    assert limit > 1
    assert limit_of_share(np.ones(50), 0.9, np.ones(50))[1] == 0


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    scores, weights = np.sort(rng.normal(size=50)), rng.integers(1, 5, size=50)
    repeated = np.repeat(scores, weights)
    for rule in ("std", "mad", "level"):
        weighted = CalibrationScores(scores, weights.astype(float))
        plain = CalibrationScores(repeated, np.ones(len(repeated)))
        expected = calibrated_threshold(plain, rule, 2)
        assert calibrated_threshold(weighted, rule, 2) == pytest.approx(expected, rel=1e-7)


def test_thresholds_of_known_scores():
    scores = np.sort(np.random.default_rng(0).normal(3, 2, size=200_000))
    calibration = CalibrationScores(scores, np.ones(scores.shape))
    assert calibrated_threshold(calibration, "std", 1.5) == pytest.approx(6, abs=0.05)
    assert calibrated_threshold(calibration, "mad", 1.5) == pytest.approx(6, abs=0.05)
    assert calibrated_threshold(calibration, "level", 1.5) == pytest.approx(3 + 2 * 1.685, abs=0.05)


def test_pvalues_are_shares(raw):
    rule, seen = rule_of(raw)
    calibration = CalibrationScores.of(seen, rule)
    unseen = rule.scores(seen.unseen)
    new = rule.scores(raw)[:9]
    above = (unseen[:, None] >= new).sum(axis=0)
    assert_allclose(calibration.pvalues(new), (1 + above) / 201)
    assert_array_equal(calibration.pvalues(np.array([np.inf, -np.inf])), [1 / 201, 1])


def test_weights_of_pvalues_are_repetitions():
    rng = np.random.default_rng(0)
    scores, weights = np.sort(rng.normal(size=30)), rng.integers(0, 4, size=30)
    new = rng.normal(size=9)
    expected = (1 + weights @ (scores[:, None] >= new)) / (1 + weights.sum())
    assert_allclose(CalibrationScores(scores, weights.astype(float)).pvalues(new), expected)


def test_trimmed_subset():
    distances = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert_array_equal(trimmed_subset(distances, np.ones(5), 0.6), [0, 1, 0, 1, 1])
    assert_array_equal(trimmed_subset(distances, np.array([1, 0, 1, 1, 1.0]), 0.5), [0, 0, 0, 1, 1])
    assert_array_equal(trimmed_subset(distances, np.array([1.0, 3, 1, 1, 1]), 0.4), [0, 1, 0, 0, 0])
    assert trimmed_subset(distances, np.ones(5), 1.0).all()
