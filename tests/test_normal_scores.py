import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.special import ndtr, ndtri

from skae._data._normal_scores import MAX_SCORE, Grid, NormalScores, RankedColumn

RNG = np.random.default_rng(0)
COLUMNS = {
    "normal": RNG.normal(size=2000),
    "lognormal": np.exp(2 * RNG.normal(size=2000)),
    "integers": RNG.poisson(3, size=2000).astype(float),
    "binary": (RNG.random(2000) < 0.1).astype(float),
    "zero-inflated": np.where(RNG.random(2000) < 0.4, 0.0, RNG.exponential(size=2000)),
    "rounded": np.round(RNG.normal(size=2000), 2),
    "constant": np.full(2000, 7.0),
    "few rows": RNG.normal(size=3),
    "two rows": np.array([1.0, 2.0]),
    "rare flag": np.r_[np.zeros(1999), 1.0],
}


def ranked(x, weight=None):
    return RankedColumn(x, np.ones(len(x)) if weight is None else weight)


@pytest.fixture(params=COLUMNS)
def x(request):
    return COLUMNS[request.param]


def test_intervals_hold_their_score_and_cover_the_shares(x):
    column = ranked(x)
    score, low, high, slope = column.intervals(x)
    assert (low <= score).all()
    assert (score <= high).all()
    assert np.isfinite(slope).all()
    # An atom's interval has the probability with which it was met.
    for value in column.values[column.is_atom]:
        here = np.flatnonzero(x == value)[0]
        share = ndtr(high[here]) - ndtr(low[here])
        assert share == pytest.approx((x == value).mean(), abs=1e-9)


def test_draws_have_the_distribution_of_the_column(x):
    column = ranked(x)
    drawn = column.values_of(ndtri((np.arange(20_000) + 0.5) / 20_000))
    assert drawn.min() >= x.min()
    assert drawn.max() <= x.max()
    points = np.unique(np.r_[x, drawn])
    below = [np.searchsorted(np.sort(s), points, side="right") / len(s) for s in (x, drawn)]
    assert np.abs(below[0] - below[1]).max() <= 0.5 / len(x) + 1e-3 + (len(x) < 5)


def test_zeros_come_back_as_zeros():
    x = COLUMNS["zero-inflated"]
    column = ranked(x)
    drawn = column.values_of(RNG.normal(size=50_000))
    assert (drawn == 0).mean() == pytest.approx((x == 0).mean(), abs=0.01)
    assert len(np.unique(drawn)) > 20_000  # the rest is a continuum


def test_the_density_of_a_continuous_column_integrates_to_one():
    for name in ("normal", "lognormal"):
        x = COLUMNS[name]
        grid = np.linspace(x.min() - 5, x.max() + 5, 2_000_001)
        score, low, high, slope = ranked(x).intervals(grid)
        assert (low == high).all()
        density = np.exp(slope - 0.5 * score**2) / np.sqrt(2 * np.pi)
        assert trapezoid(density, grid) == pytest.approx(1.0, abs=0.02)


def test_unseen_values_have_finite_likelihoods(x):
    column = ranked(x)
    unmet = np.array([-1e12, x.min() - 1, x.mean() + 0.1234567, x.max() + 1, 1e12])
    for part in column.intervals(unmet):
        assert np.isfinite(part).all()
        assert (np.abs(part) <= max(MAX_SCORE, 40)).all()


def test_huge_values_stay_in_their_range():
    x = np.where(np.arange(60) % 2, 1e308, -1e308) * np.linspace(0.1, 1, 60)
    with np.errstate(over="ignore"):
        drawn = ranked(x).values_of(RNG.normal(size=500))
    assert x.min() <= drawn.min() <= drawn.max() <= x.max()


def test_weights_stand_for_repeated_rows():
    x, times = np.array([1.0, 2.0, 5.0]), np.array([2, 1, 3])
    weighted, repeated = ranked(x, times.astype(float)), ranked(np.repeat(x, times))
    np.testing.assert_allclose(weighted.shares, repeated.shares)


@pytest.mark.parametrize(
    ("values", "width"),
    [([0, 5, 20], 5), ([0.25, 1.5], 1.25), ([1.1, 1.2, 1.5], 0.1), ([0.1234567, 2.0], None)],
)
def test_grid(values, width):
    grid = Grid.of(np.array(values, dtype=float))
    if width is None:
        assert grid is None
        return
    assert grid.width == pytest.approx(width)
    np.testing.assert_array_equal(grid.snap(np.array(values, dtype=float)), values)
    snapped = grid.snap(RNG.uniform(values[0], values[-1], 100))
    np.testing.assert_array_equal(grid.snap(snapped), snapped)


def test_single_precision_has_decimals():
    values = np.unique(np.round(RNG.normal(size=500), 2)).astype(np.float32).astype(np.float64)
    assert Grid.of(values).width == pytest.approx(0.01)


def table():
    codes = RNG.integers(0, 3, 500).astype(float)
    codes[:50] = np.nan
    holes = np.where(RNG.random(500) < 0.2, np.nan, RNG.normal(size=500))
    return np.column_stack([RNG.poisson(2, 500), holes, codes, np.full(500, np.nan)])


def test_rows_there_and_back():
    X = table()
    ranks = NormalScores([0, 0, 3, 0]).fit(X)
    rows = ranks.transform(X)
    n = ranks.n_scores
    assert rows.shape[1] == ranks.n_inputs + 2 * n + 1 + 1
    assert rows.dtype == np.float32
    assert ranks.level_counts == [4]  # three levels, and missing
    drawn = np.hstack([rows[:, :n], rows[:, [-2]]])
    back = ranks.inverse_transform(drawn)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(X))
    np.testing.assert_array_equal(back[:, [0, 2]], X[:, [0, 2]])
    # Scores are read from a smooth curve and drawn from the quantiles themselves.
    off = np.abs(back[:, 1] - X[:, 1])
    assert np.nanmedian(off) < 0.02
    assert np.nanmax(off) < 0.6


def test_a_partial_row_constrains_only_given_cells():
    ranks = NormalScores([0, 0, 3, 0]).fit(table())
    n, n_inputs = ranks.n_scores, ranks.n_inputs
    order = list(ranks.columns_)
    row = ranks.partial_row({0: 2.0})
    low, high = row[n_inputs : n_inputs + n], row[n_inputs + n : n_inputs + 2 * n]
    is_given = high - low < MAX_SCORE
    assert is_given.tolist() == [j == 0 for j in order] + [False]
    assert row[-2] == -1
    missing = ranks.partial_row({1: np.nan, 2: 1.0})
    assert missing[-2] == 1
    assert missing[n_inputs + n - 1] > -MAX_SCORE  # the cell is given as missing


def test_large_tables_are_sampled(set_limits):
    set_limits(rows_for_ranks=100)
    ranks = NormalScores([0]).fit(RNG.normal(size=(5000, 1)), seed=1)
    assert ranks.columns_[0].n_rows == 100
