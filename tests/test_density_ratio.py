import numpy as np
import pytest
from scipy.stats import norm

from skae._stats._density_ratio import MAX_LOG_RATIO, DensityRatio

RNG = np.random.default_rng(0)
NUMBER = np.zeros(1, dtype=bool)


def test_the_ratio_of_two_normal_distributions():
    real, drawn = RNG.normal(0.5, 1, size=(5000, 1)), RNG.normal(size=(10_000, 1))
    ratio = DensityRatio().fit(real, drawn, NUMBER, None, seed=0).calibrate(drawn)
    x = np.linspace(-1, 2, 50)[:, None]
    true = norm.logpdf(x[:, 0], 0.5) - norm.logpdf(x[:, 0])
    assert np.abs(ratio.log_ratio(x) - true).mean() < 0.15
    # Drawn rows weighed by it have the real rows' mean.
    weight = np.exp(ratio.log_ratio(drawn))
    assert np.average(drawn[:, 0], weights=weight) == pytest.approx(0.5, abs=0.08)
    assert weight.mean() == pytest.approx(1.0)


def test_alike_rows_have_ratios_near_one():
    ratio = DensityRatio().fit(
        RNG.normal(size=(500, 3)), RNG.normal(size=(1000, 3)), np.zeros(3, bool), None, seed=0
    )
    assert np.abs(ratio.log_ratio(RNG.normal(size=(500, 3)))).mean() < 0.4


def test_weights_and_levels_count():
    codes = RNG.integers(0, 2, size=(2000, 1)).astype(float)
    weight = np.where(codes[:, 0] == 1, 3.0, 1.0)
    ratio = DensityRatio().fit(codes, codes, ~NUMBER, weight, seed=0)
    low, high = ratio.log_ratio(np.array([[0.0], [1.0]]))
    assert high - low == pytest.approx(np.log(3), abs=0.2)


def test_odds_are_bounded():
    real, drawn = np.zeros((500, 1)), np.ones((500, 1))
    ratio = DensityRatio().fit(real, drawn, NUMBER, None, seed=0)
    assert np.ptp(ratio.log_ratio(np.array([[0.0], [1.0]]))) <= 2 * MAX_LOG_RATIO
