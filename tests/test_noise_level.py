"""The level of noise is in the units of X, whatever the scaling, in any column."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skae import DenoisingAutoencoder
from skae._fit._noise_levels import column_spreads, input_divisor

SCALINGS = ["global", "standard", "minmax", "robust", None]
PER_COLUMN = ["standard", "minmax", "robust"]
FAST = {"noise": "gaussian", "hidden_layer_sizes": (16,), "max_epochs": 4, "random_state": 0}


def make(**params):
    return DenoisingAutoencoder(**{**FAST, **params})


@pytest.fixture(scope="module")
def related():
    """1400 rows of 6 columns of about the same spread, which two factors explain."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1400, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(1400, 6))
    return X / X.std(axis=0)


def with_noise(X, level, seed=1):
    return X + level * np.random.default_rng(seed).normal(size=X.shape)


def share_left(model, X, level):
    """What is left of the squared noise in each column after cleaning."""
    noisy = with_noise(X, level)
    left = np.square(model.transform(noisy) - X).mean(axis=0)
    return left / np.square(noisy - X).mean(axis=0)


# In the units of X.


@pytest.mark.parametrize(("scaling", "unit"), [(None, 1.0), *((s, 16.0) for s in SCALINGS)])
def test_noise_of_that_level_is_removed_whatever_the_scaling(scaling, unit, digits):
    X, level = digits * unit, 0.2 * unit
    model = DenoisingAutoencoder(
        noise="gaussian", noise_level=level, scaling=scaling, max_epochs=8, random_state=0
    ).fit(X[:1200])
    noisy = with_noise(X[1200:], level)
    left = np.square(model.transform(noisy) - X[1200:]).mean()
    # 0.37 to 0.38 times over five seeds and the scalings.
    assert left < 0.5 * np.square(noisy - X[1200:]).mean()
    assert_array_equal(model.noise_level_, np.full(64, level))


@pytest.mark.parametrize("level", [0.5, "auto"])
@pytest.mark.parametrize("scaling", PER_COLUMN)
def test_another_unit_of_a_column_changes_nothing_but_its_unit(scaling, level, related):
    units = 10.0 ** np.array([-6, -3, 0, 1, 3, 6])
    plain = make(noise_level=level, scaling=scaling).fit(related[:1100])
    level_there = level if level == "auto" else level * units
    other = make(noise_level=level_there, scaling=scaling).fit(related[:1100] * units)
    assert_allclose(other.noise_level_, plain.noise_level_ * units, rtol=1e-6)
    noisy = with_noise(related[1100:], 0.5)
    assert_allclose(other.transform(noisy * units) / units, plain.transform(noisy), atol=0.02)


@pytest.mark.parametrize("level", [0.5, "auto"])
@pytest.mark.parametrize("scaling", ["global", *PER_COLUMN])
def test_another_unit_of_all_columns_changes_nothing_but_the_unit(scaling, level, related):
    plain = make(noise_level=level, scaling=scaling).fit(related[:1100])
    level_there = level if level == "auto" else level * 1e4
    other = make(noise_level=level_there, scaling=scaling).fit(related[:1100] * 1e4)
    noisy = with_noise(related[1100:], 0.5)
    assert_allclose(other.transform(noisy * 1e4) / 1e4, plain.transform(noisy), atol=0.02)


@pytest.mark.parametrize("scaling", ["global", *PER_COLUMN])
def test_columns_in_which_noise_is_too_little_to_matter_stay_as_good_as_they_came(scaling, related):
    X = related * 10.0 ** np.array([-6, -3, 0, 1, 3, 6])
    model = make(noise_level=1.0, scaling=scaling, max_epochs=8).fit(X[:1100])
    left = share_left(model, X[1100:], 1.0)
    # At most 1.007 over five seeds and the scalings.
    assert (left < 1.02).all()
    assert (model.observed_blend_[4:] < 0.05).all()
    if scaling != "global":
        assert (left[:2] < 1e-4).all()


@pytest.mark.parametrize("tiny", [1e-2, 1e-9])
@pytest.mark.parametrize("scaling", ["global", "standard", "robust"])
def test_noise_on_nearly_constant_columns_is_removed_and_leaves_others_alone(
    scaling, tiny, related
):
    rng = np.random.default_rng(2)
    almost = np.column_stack([5 + tiny * rng.normal(size=1400), np.full(1400, 3.0)])
    X = np.column_stack([related, almost])
    model = make(noise_level=0.5, scaling=scaling, max_epochs=8).fit(X[:1100])
    left = share_left(model, X[1100:], 0.5)
    assert (left[6:] < 0.01).all()
    # 0.32 to 0.33 over five seeds, and 0.36 without these columns.
    assert left[:6].mean() < 0.5


@pytest.mark.parametrize(
    "noise", ["salt_and_pepper", "swap", lambda X, rng: X + 0.5 * rng.normal(size=X.shape), None]
)
def test_other_noise_and_pairs_on_nearly_constant_columns(noise, related):
    rng = np.random.default_rng(2)
    rare = (rng.random((1400, 1)) < 0.002) + 1e-7 * rng.normal(size=(1400, 1))
    X = np.column_stack([related, rare])
    noisy = with_noise(X, 0.5)
    if noise is None:
        model = make(noise="auto", max_epochs=8).fit(noisy[:1100], X_clean=X[:1100])
    else:
        model = make(noise=noise, max_epochs=8).fit(X[:1100])
    if isinstance(noise, str):
        hit = rng.random((300, 7)) < (0.1 if noise == "salt_and_pepper" else 0.15)
        donors = rng.permuted(X[1100:], axis=0)
        if noise == "salt_and_pepper":
            donors = np.where(rng.random((300, 7)) < 0.5, X.min(axis=0), X.max(axis=0))
        noisy[1100:] = np.where(hit, donors, X[1100:])
    left = np.square(model.transform(noisy[1100:]) - X[1100:]).mean(axis=0)
    before = np.square(noisy[1100:] - X[1100:]).mean(axis=0)
    # 0.28 to 0.45 times, and 1.01 at most, over five seeds.
    assert left[:6].mean() < 0.7 * before[:6].mean()
    assert left[6] < 1.05 * before[6]  # what is rare cannot be known


def test_a_level_for_each_column(related):
    level = np.array([0.0, 0.1, 0.2, 0.5, 1.0, 3.0])
    model = make(noise_level=level, max_epochs=8).fit(related[:1100])
    noisy = with_noise(related[1100:], level)
    left = np.square(model.transform(noisy) - related[1100:]).mean(axis=0)
    assert (left[1:] < np.square(level[1:])).all()
    assert left[0] < 1e-6  # it is not noisy, so it stays as it is
    assert_array_equal(model.noise_level_, level)


def test_no_noise_leaves_rows_as_they_are(related):
    model = make(noise_level=0.0).fit(related[:1100])
    assert_allclose(model.transform(related[1100:]), related[1100:], atol=1e-6)


# In standard deviations.


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_level_in_standard_deviations(scaling, related):
    X = related * np.array([1.0, 2, 3, 4, 5, 6])
    in_deviations = make(noise_level=0.5, noise_unit="std", scaling=scaling).fit(X)
    in_units = make(noise_level=0.5 * X.std(axis=0), scaling=scaling).fit(X)
    assert_allclose(in_deviations.noise_level_, in_units.noise_level_)
    assert_allclose(in_deviations.transform(X), in_units.transform(X), atol=1e-3)


def test_standard_deviations_are_weighted_and_of_the_clean_rows(related):
    weight = np.r_[np.ones(600), np.full(800, 2.0)]
    twice = np.vstack([related, related[600:]])
    model = make(noise_level=1.0, noise_unit="std").fit(related, sample_weight=weight)
    assert_allclose(model.noise_level_, twice.std(axis=0))
    gaps = related.copy()
    gaps[:300, 0] = np.nan
    model = make(noise_level=1.0, noise_unit="std").fit(gaps)
    assert_allclose(model.noise_level_, np.nanstd(gaps, axis=0))


def test_shares_of_cells_have_no_unit(related):
    one, other = (make(noise="swap", noise_unit=unit).fit(related) for unit in ("data", "std"))
    assert one.noise_level_ == other.noise_level_ == 0.15
    assert_array_equal(one.transform(related), other.transform(related))


# "auto".


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_auto_comes_close_to_the_level_that_fits(share, related):
    X = related * 10.0 ** np.array([-6, -3, 0, 1, 3, 6])
    level = share * X.std(axis=0)
    auto = share_left(make(max_epochs=12).fit(X[:1100]), X[1100:], level).mean()
    told = share_left(make(noise_level=level, max_epochs=12).fit(X[:1100]), X[1100:], level).mean()
    # 0.36 to 0.50, and 1.00 to 1.06 times, over five seeds.
    assert told < 0.6
    assert auto < 1.2 * told


@pytest.mark.parametrize(("scaling", "level"), [("global", 0.1), (None, 0.2)])
def test_auto_comes_close_on_images(scaling, level, digits):
    params = {"noise": "gaussian", "scaling": scaling, "max_epochs": 10, "random_state": 0}
    auto = DenoisingAutoencoder(**params).fit(digits[:1200])
    told = DenoisingAutoencoder(noise_level=level, **params).fit(digits[:1200])
    noisy = with_noise(digits[1200:], level)
    error = [np.square(m.transform(noisy) - digits[1200:]).mean() for m in (auto, told)]
    # 1.01 to 1.49 times, and 0.52 to 0.58 of the noise, over five seeds.
    assert error[0] < 1.7 * error[1]
    assert error[0] < 0.7 * level**2
    mean = 0.25 * np.sqrt(digits[:1200].var(axis=0).mean())
    assert_allclose(auto.noise_level_, np.full(64, mean), rtol=1e-5)


def test_auto_is_not_fooled_by_pixels_that_are_mostly_zero(digits):
    model = DenoisingAutoencoder(noise="gaussian", max_epochs=10, random_state=0)
    model.fit(digits[:1200])
    noisy = with_noise(digits[1200:], 0.15)
    # 0.58 to 0.60 times over five seeds.
    assert np.square(model.transform(noisy) - digits[1200:]).mean() < 0.8 * 0.15**2


def test_spreads_of_columns_that_are_mostly_one_value():
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(4000) < 0.01, 8.0, 0.0)
    X = np.column_stack([rng.normal(size=4000), rare, np.full(4000, 2.0), np.full(4000, np.nan)])
    deviations, of_changes = column_spreads(X, None, X, None)
    assert_allclose(deviations[:2], X[:, :2].std(axis=0))
    assert_allclose(of_changes[0], deviations[0], rtol=1e-3)
    assert_allclose(of_changes[1], 8, rtol=0.02)
    assert_array_equal(deviations[2:], 0)
    assert_array_equal(of_changes[2:], 0)


def test_divisors():
    X = np.random.default_rng(0).normal(size=(500, 3)) * [0.1, 1.0, 100.0]
    X[::5, 2] = np.nan
    deviation = np.sqrt(np.nanmean(np.square(X), axis=0))
    expected = np.maximum(deviation, 1)
    assert_allclose(input_divisor("standard", X, None), expected, rtol=1e-6)
    common = input_divisor("global", X, None)
    assert len(set(common.tolist())) == 1
    assert input_divisor(None, X, None) is None
    weight = np.r_[np.ones(250), np.zeros(250)]
    assert_allclose(
        input_divisor("standard", X, weight), input_divisor("standard", X[:250], None), rtol=1e-6
    )


# Beside gaps, in other containers, in training that goes on.


def test_gaps_beside_strong_noise_are_filled_from_what_noise_leaves(related):
    gaps = np.random.default_rng(3).random(related.shape) < 0.2
    holes = np.where(gaps, np.nan, related)
    model = make(noise_level=1.0, max_epochs=8).fit(holes[:1100])
    noisy = with_noise(holes[1100:], 1.0)
    errors = (model.transform(noisy) - related[1100:])[gaps[1100:]]
    # The best that is possible: the conditional mean, given cells with noise of variance 1.
    covariance = np.cov(related[:1100].T)
    best = []
    for row, missing in zip(noisy, gaps[1100:], strict=True):
        known = covariance[np.ix_(~missing, ~missing)] + np.eye((~missing).sum())
        best.extend(covariance[np.ix_(missing, ~missing)] @ np.linalg.solve(known, row[~missing]))
    least = np.square(np.array(best) - related[1100:][gaps[1100:]]).mean()
    # 0.99 to 1.00 times over five seeds.
    assert np.square(errors).mean() < 1.2 * least


def test_sparse_rows_give_the_same(digits):
    X = digits[:300]
    dense, read = (
        make(noise_level=0.2, max_epochs=2).fit(rows) for rows in (X, sparse.csr_array(X))
    )
    assert_allclose(read.transform(sparse.csr_array(X)), dense.transform(X), atol=1e-4)
    assert_array_equal(read.noise_level_, dense.noise_level_)


def test_training_that_goes_on_follows_the_level(related):
    model = make(noise_level=0.5, warm_start=True).fit(related)
    model.set_params(noise_level=0.25, noise_unit="std").fit(related)
    assert_allclose(model.noise_level_, 0.25 * related.std(axis=0))
    model.set_params(noise_level=0.1, noise_unit="data").partial_fit(related)
    assert_array_equal(model.noise_level_, np.full(6, 0.1))
    assert make(noise_level=0.5).partial_fit(related).transform(related).shape == related.shape


def test_functions_and_pairs_have_no_level(related):
    assert make(noise=lambda X, rng: X, max_epochs=1).fit(related).noise_level_ is None
    assert make(max_epochs=1).fit(related, X_clean=related).noise_level_ is None


@pytest.mark.parametrize("bad", [-1.0, np.inf, np.nan])
def test_errors_name_the_column(bad, related):
    frame = pd.DataFrame(related, columns=list("abcdef"))
    level = [0.1, 0.1, bad, 0.1, 0.1, 0.1]
    message = rf"noise_level={bad!r} for column 'c' must be finite and at least 0"
    with pytest.raises(ValueError, match=message):
        make(noise_level=level).fit(frame)
    with pytest.raises(ValueError, match="for column 2 must be"):
        make(noise_level=level).fit(related)
    with pytest.raises(ValueError, match=r"noise_level has shape \(5,\).*6 columns"):
        make(noise_level=level[1:]).fit(related)
    model = make(noise_level=0.1, warm_start=True).fit(related)
    with pytest.raises(ValueError, match="column 2"):
        model.set_params(noise_level=level).fit(related)
    assert_array_equal(model.noise_level_, np.full(6, 0.1))


def test_empty_and_constant_columns_raise_no_warnings(related):
    X = np.column_stack([related, np.full(1400, np.nan), np.full(1400, 2.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for level in ("auto", 0.5):
            out = make(noise_level=level, keep_empty_features=True).fit(X).transform(X)
            assert_array_equal(out[:, 6:], np.tile([0.0, 2.0], (1400, 1)))


@pytest.mark.parametrize("bad", [1e40, 1e200])
def test_levels_far_beyond_the_values_are_refused(bad, related):
    frame = pd.DataFrame(related, columns=list("abcdef"))
    with pytest.raises(ValueError, match=r"noise_level=.* for column '[a-f]'.* units of X"):
        make(noise_level=bad).fit(frame)


def test_levels_that_are_no_numbers_are_named(related):
    with pytest.raises(ValueError, match=r"noise_level=\['a'.* must hold numbers"):
        make(noise_level=["a", "b", "c", "d", "e", "f"]).fit(related)
