import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae._data._scaling import Scaler
from skae._stats._scoring import (
    CalibrationScores,
    Location,
    ScoreRule,
    SeenLosses,
    baseline_weight,
    held_out_threshold,
    upper_quantile,
)
from skae._stats._trimming import scale_by_trimmed_subset, trimmed_subset


@pytest.fixture
def raw():
    return np.random.default_rng(0).exponential(size=(5, 200))  # four members and the baseline


def rule_of(raw, aggregation="mean", share_kept=0.3):
    n_members = len(raw) - 1
    held_out = np.arange(20 * n_members).reshape(n_members, 20)
    seen = SeenLosses.of(raw, np.ones(200), held_out)
    return ScoreRule.fit(seen, aggregation, share_kept), seen


@pytest.mark.parametrize("aggregation", ["mean", "median", "max"])
@pytest.mark.parametrize("n_members", [1, 2, 3, 4])
def test_factors_make_the_score(aggregation, n_members, raw):
    raw = raw[-1 - n_members :]
    rule, _ = rule_of(raw, aggregation)
    assert_allclose((rule.factors(raw) * raw).sum(axis=0), rule.scores(raw))


@pytest.mark.parametrize(
    ("aggregation", "function"), [("mean", np.mean), ("median", np.median), ("max", np.max)]
)
def test_aggregations(aggregation, function, raw):
    rule, _ = rule_of(raw, aggregation)
    members = rule.member_scores(raw[:-1], raw[-1])
    assert_allclose(rule.scores(raw), function(members, axis=0))


def test_members_count_equally(raw):
    """A member whose errors are all larger by one factor gives the same scores."""
    rule, _ = rule_of(raw, share_kept=None)
    louder = raw * [[10], [1], [1], [1], [100]]
    assert_allclose(rule_of(louder, share_kept=None)[0].scores(louder), rule.scores(raw))
    assert_allclose(rule.scores(raw).mean(), 1)


def test_the_baseline_counts_where_there_is_no_structure():
    assert baseline_weight(0.7, 1.0, 0.3) == 1  # as of independent columns
    assert baseline_weight(0.07, 1.0, 0.3) == pytest.approx(0.01)
    assert baseline_weight(5.0, 1.0, 0.3) == 1
    assert baseline_weight(0.1, 1.0, 1.0) == 1


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.333, 0.5])
@pytest.mark.parametrize("n", [2, 10, 101, 1000])
def test_limit_to_within_one_row(share, n):
    scores = np.random.default_rng(0).normal(size=n)
    above = (scores > upper_quantile(scores, share, np.ones(n))).sum()
    assert abs(above - share * n) <= 0.5 + 1e-9


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    scores, weights = rng.normal(size=50), rng.integers(1, 5, size=50)
    repeated = np.repeat(scores, weights)
    for rule in ("std", "mad", "level"):
        weighted = CalibrationScores(scores[None], weights[None].astype(float))
        plain = CalibrationScores(repeated[None], np.ones((1, len(repeated))))
        # A cut in the middle of a row's repetitions is one row off.
        tolerance = 0.01 if rule == "level" else 1e-7
        expected = held_out_threshold(plain, rule, 2)
        assert held_out_threshold(weighted, rule, 2) == pytest.approx(expected, rel=tolerance)


def test_thresholds_of_known_scores():
    scores = np.random.default_rng(0).normal(3, 2, size=(4, 50_000))
    held_out = CalibrationScores(np.sort(scores), np.ones(scores.shape))
    assert held_out_threshold(held_out, "std", 1.5) == pytest.approx(6, abs=0.05)
    assert held_out_threshold(held_out, "mad", 1.5) == pytest.approx(6, abs=0.05)
    assert held_out_threshold(held_out, "level", 1.5) == pytest.approx(3 + 2 * 1.645, abs=0.05)


def test_pvalues_are_shares(raw):
    rule, seen = rule_of(raw)
    held_out = CalibrationScores.of(seen, rule)
    calibration = rule.member_scores(seen.held_out, seen.held_out_baseline)
    new = rule.member_scores(raw[:-1], raw[-1])[:, [7]]
    above = (calibration >= new).sum()
    assert held_out.pvalues(new) == pytest.approx((1 + above) / 81)
    assert_array_equal(held_out.pvalues(np.full((4, 1), np.inf)), [1 / 81])
    assert_array_equal(held_out.pvalues(np.full((4, 1), -np.inf)), [1])


def test_weights_of_pvalues_are_repetitions():
    rng = np.random.default_rng(0)
    scores, weights = np.sort(rng.normal(size=(2, 30))), rng.integers(0, 4, size=(2, 30))
    new = rng.normal(size=(2, 9))
    above = [w @ (s[:, None] >= x) for s, w, x in zip(scores, weights, new, strict=True)]
    expected = (1 + sum(above)) / (1 + weights.sum())
    assert_allclose(CalibrationScores(scores, weights.astype(float)).pvalues(new), expected)


def test_seen_losses_slide(raw):
    _, seen = rule_of(raw)
    both = seen.then(seen).last(250)
    assert both.raw.shape == (5, 250)
    assert_array_equal(both.raw[:, -200:], raw)
    assert both.held_out.shape == (4, 40)


def test_location_is_mahalanobis():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 3)) * [1, 10, 0.1] + 5
    location = Location.of(points, np.ones(20_000))
    points[:50, 2] = np.abs(points[:50, 2] - 5) + 5  # below the mean, the last column counts zero
    assert_allclose(
        location.distances(points[:50]),
        (((points[:50] - 5) / [1, 10, 0.1]) ** 2).sum(1),
        rtol=0.3,
        atol=0.2,
    )
    assert np.isfinite(Location.of(np.ones((5, 3)), np.ones(5)).precision).all()


def test_trimmed_subset():
    distances = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert_array_equal(trimmed_subset(distances, np.ones(5), 0.6), [0, 1, 0, 1, 1])
    assert_array_equal(trimmed_subset(distances, np.array([1, 0, 1, 1, 1.0]), 0.5), [0, 0, 0, 1, 1])
    assert_array_equal(trimmed_subset(distances, np.array([1.0, 3, 1, 1, 1]), 0.4), [0, 1, 0, 0, 0])
    assert trimmed_subset(distances, np.ones(5), 1.0).all()


def test_the_trimmed_subset_excludes_outliers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) * [1, 10, 100, 1000]
    X[:20] += 40 * X.std(axis=0)
    scaler = Scaler("robust", clip=8.0).fit(X)
    scale_by_trimmed_subset(scaler, X, None, 0.7)
    inliers = scaler.transform(X[20:])
    assert np.abs(inliers.mean(axis=0)).max() < 0.5
    assert (np.abs(np.log(inliers.std(axis=0))) < 0.6).all()
    assert scaler.transform(X[:20]).min() > 5


def test_the_subset_has_mean_zero_and_unit_variance():
    """There is no consistency factor: over all rows of a normal distribution it is more."""
    X = np.random.default_rng(0).normal(size=(2000, 4)) * [1, 10, 100, 1000]
    scaler = Scaler("standard").fit(X)
    distances = np.log1p(np.square(scaler.transform(X))).mean(axis=1)
    subset = trimmed_subset(distances, np.ones(2000), 0.7)
    scale_by_trimmed_subset(scaler, X, None, 0.7)
    assert_allclose(scaler.transform(X)[subset].mean(axis=0), 0, atol=1e-3)
    assert_allclose(scaler.transform(X)[subset].var(axis=0), 1, atol=1e-3)
    assert (scaler.transform(X).var(axis=0) > 1.2).all()


def test_location_uses_weights():
    points = np.random.default_rng(0).normal(size=(500, 2))
    weights = np.where(np.arange(500) < 250, 1.0, 3.0)
    repeated = np.repeat(points, weights.astype(int), axis=0)
    weighted, plain = Location.of(points, weights), Location.of(repeated, np.ones(1000))
    assert_allclose(weighted.mean, plain.mean, atol=0.05)
    assert_allclose(weighted.precision, plain.precision, atol=0.15)
    assert_allclose(Location.of(points, weights > 2).mean, points[250:].mean(axis=0))
