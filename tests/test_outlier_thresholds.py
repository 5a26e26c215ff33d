"""Which rows AutoencoderOutlierDetector calls outliers, and with what p-values."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import false_discovery_control

from skae import AutoencoderOutlierDetector

N_ROWS, N_COLUMNS = 500, 6
N_SEEDS = 20
FAST = {"n_estimators": 1, "max_epochs": 2, "n_refits": 0}


def detector(seed, **options):
    return AutoencoderOutlierDetector(random_state=seed, **FAST | options)


def far(rng, rows):
    return rng.uniform(40, 400, rows.shape)


def saturated(rng, rows):
    return np.full(rows.shape, 100.0)


def mild(rng, rows):
    return rows + 6


CLEAN = {
    "normal": lambda rng: rng.normal(size=(N_ROWS, 8)),
    "skewed": lambda rng: rng.lognormal(size=(N_ROWS, 8)),
    "heavy tails": lambda rng: rng.standard_t(3, size=(N_ROWS, 8)),
    "two clusters": lambda rng: rng.normal(size=(N_ROWS, 8)) + 8 * (np.arange(N_ROWS) % 2)[:, None],
    "counts": lambda rng: rng.poisson(1.0, (N_ROWS, 8)).astype(float),
}


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.2, 0.3])
@pytest.mark.parametrize(("kind", "least"), [(far, 0.95), (saturated, 0.95), (mild, 0.8)])
def test_auto_finds_the_share_of_outliers(kind, least, share):
    n = int(share * N_ROWS)
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(N_ROWS, N_COLUMNS))
        X[:n] = kind(rng, X[:n])
        flagged = detector(seed).fit_predict(X) == -1
        assert flagged[:n].mean() >= least
        assert flagged[n:].mean() <= 0.05


@pytest.mark.parametrize("kind", CLEAN)
def test_auto_flags_few_rows_of_clean_tables(kind):
    for seed in range(N_SEEDS):
        X = CLEAN[kind](np.random.default_rng(seed))
        assert (detector(seed).fit_predict(X) == -1).mean() <= 0.05


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.3])
def test_gross_outliers_do_not_tie(share):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    X[:100] = rng.uniform(40, 400, (100, 4))
    model = detector(0, contamination=share).fit(X)
    assert len(set(model.score_samples(X[:100]))) == 100
    flagged = model.predict(X) == -1
    assert flagged.sum() == round(share * 1000)
    assert flagged[:100].mean() == pytest.approx(min(1.0, share / 0.1))


def test_scores_fall_for_ever():
    model = detector(0).fit(np.random.default_rng(0).normal(size=(300, 3)))
    rows = np.full((40, 3), 0.5)
    rows[:, 1] = np.logspace(0.5, 30, 40)
    assert (np.diff(model.score_samples(rows)) < 0).all()
    assert (np.diff(model.score_samples(-rows)) < 0).all()


@pytest.mark.parametrize("threshold", ["std", "mad"])
@pytest.mark.parametrize("kind", [far, saturated, mild])
def test_other_thresholds_stand_fifteen_percent(threshold, kind):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(N_ROWS, N_COLUMNS))
        X[:75] = kind(rng, X[:75])
        flagged = detector(seed, threshold=threshold).fit_predict(X) == -1
        assert flagged[:75].mean() >= 0.95
        # "mad" flags more: scores are skewed.
        assert flagged[75:].mean() <= (0.05 if threshold == "std" else 0.1)


@pytest.mark.parametrize("n_rows", [4, 5, 8, 13, 30])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_share_of_few_rows(share, n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        n_flagged = (detector(0, contamination=share).fit_predict(X) == -1).sum()
    assert abs(n_flagged - share * n_rows) <= 0.5


def test_equal_rows_have_one_label():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(30, 4)), 10, axis=0)
    for share in (0.03, 0.1, 0.25, "auto"):
        model = detector(0, contamination=share).fit(X)
        labels = model.predict(X).reshape(30, 10)
        assert_array_equal(labels, labels[:, :1] * np.ones((1, 10)))
        alone = np.concatenate([model.predict(X[[i]]) for i in range(0, 300, 10)])
        assert_array_equal(alone, labels[:, 0])


def test_a_share_that_ties_do_not_allow():
    X = np.vstack([np.zeros((60, 3)), np.ones((40, 3))]) + 0.0
    with pytest.warns(UserWarning, match=r"contamination=0\.1 .*: 0 of the rows"):
        model = detector(0, contamination=0.1).fit(X)
    assert set(model.predict(X)) == {1}


def test_eight_rows_have_the_same_verdict_over_seeds():
    X = np.vstack([np.random.default_rng(0).normal(size=(7, 3)), [[9.0, 9.0, 9.0]]])
    for share in ("auto", 0.125, 0.25):
        verdicts = [
            AutoencoderOutlierDetector(contamination=share, random_state=seed).fit_predict(X)
            for seed in range(5)
        ]
        assert_array_equal(verdicts, verdicts[:1] * 5)
    assert verdicts[0][-1] == -1


def test_three_rows_have_bounded_scores():
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(3, 4))
        model = AutoencoderOutlierDetector(random_state=seed).fit(X)
        rows = np.vstack([X, np.full((1, 4), 1e6), np.full((1, 4), -1e150)])
        assert model.score_samples(rows).min() > -1e6


# p-values.


def correlated(rng, n):
    return rng.normal(size=(n, 3)) @ np.full((3, 6), 0.4) + rng.normal(size=(n, 6))


@pytest.mark.parametrize("n_rows", [1000, 5000])
def test_pvalues_are_uniform(n_rows):
    shares = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        model = AutoencoderOutlierDetector(random_state=seed).fit(correlated(rng, n_rows))
        pvalues = model.pvalues(correlated(rng, 4000))
        shares.append([(pvalues <= level).mean() for level in (0.01, 0.05, 0.2)])
    # Three standard errors of a share of so many rows of training, over six seeds.
    levels = np.array([0.01, 0.05, 0.2])
    tolerance = 3 * np.sqrt(levels * (1 - levels) * (1 / n_rows + 1 / 4000) / 6)
    assert (np.abs(np.mean(shares, axis=0) - levels) <= tolerance + 1 / n_rows).all()


def test_the_false_discovery_rate_is_kept():
    false, found = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        model = detector(seed).fit(correlated(rng, 1000))
        fresh = correlated(rng, 500)
        fresh[:50] += 8
        outliers = false_discovery_control(model.pvalues(fresh)) < 0.1
        false.append(outliers[50:].sum() / max(outliers.sum(), 1))
        found.append(outliers[:50].mean())
    # Expected at 0.09, with a standard error of 0.01.
    assert np.mean(false) <= 0.12
    assert np.mean(found) > 0.95


def test_gross_outliers_do_not_spoil_pvalues():
    rng = np.random.default_rng(0)
    X = correlated(rng, 1000)
    X[:200] = far(rng, X[:200])
    model = detector(0).fit(X)
    assert model.pvalues(X[:200]).max() < 0.01
    assert (model.pvalues(correlated(rng, 4000)) <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
