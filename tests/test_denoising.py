import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder
from skae._engine._optimizer import FlatAdamW
from skae.networks import ConvNetwork

FAST = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


def make(n_components="auto", **params):
    return DenoisingAutoencoder(n_components, **{**FAST, **params})


@pytest.fixture(scope="module")
def holed():
    """300 rows of 6 correlated columns, on different scales; a fifth of the cells missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(300, 6))
    X = X * [1, 10, 100, 1, 1, 0.1] + [0, 5, 0, -3, 0, 1]
    missing = rng.random(X.shape) < 0.2
    missing[0] = True
    X.flags.writeable = False
    return X, np.where(missing, np.nan, X)


@pytest.fixture(scope="module")
def bent():
    """2000 rows in which one column is the square of another, which no linear map predicts."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    return np.column_stack([x, x[:, 0] ** 2, x[:, 1] + x[:, 0]])


def relative_error(filled, X, holed):
    errors = ((filled - X) / X.std(axis=0))[np.isnan(holed)]
    return float(np.sqrt(np.mean(errors**2)))


# Filling.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observed_cells_keep_their_bits(dtype, holed):
    X = holed[1].astype(dtype)
    out = make().fit(X).transform(X)
    assert out.dtype == dtype
    assert np.isfinite(out).all()
    seen = ~np.isnan(X)
    assert_array_equal(out[seen], X[seen])


def test_complete_rows_come_back_as_they_are(holed):
    X, holes = holed
    assert_array_equal(make().fit(holes).transform(X), X)
    assert_array_equal(make().fit(X).transform(X), X)


def test_fills_better_than_other_imputers_on_correlated_columns(holed):
    X, holes = holed
    error = relative_error(make(max_epochs="auto").fit_transform(holes), X, holes)
    for imputer in (SimpleImputer(), KNNImputer()):
        # 0.33 times the mean's error and 0.44 times the neighbours' over five seeds.
        assert error < 0.9 * relative_error(imputer.fit_transform(holes), X, holes)


def test_starts_at_the_conditional_mean(holed):
    _, holes = holed
    model = make(learning_rate=1e-12).fit(holes)
    conditional_means = model.gaussian_.fill(model._scaler.transform(holes))
    # The network multiplies by the identity, in float32.
    filled = model._scaler.transform(model.transform(holes))
    assert_allclose(filled, conditional_means, rtol=1e-3, atol=1e-4)


def test_network_learns_nonlinear_relations(bent):
    hidden = bent.copy()
    hidden[:, 2] = np.nan
    model = DenoisingAutoencoder(random_state=0).fit(bent[:1500])
    linear = model._scaler.inverse_transform(model.gaussian_.fill(model._scaler.transform(hidden)))
    # 0.989 to 0.999 over five seeds.
    assert model.blend_ > 0.8
    errors = [
        np.square(filled[1500:, 2] - bent[1500:, 2]).mean()
        for filled in (model.transform(hidden), linear)
    ]
    # 0.002 to 0.008 times over five seeds.
    assert errors[0] < 0.2 * errors[1]


def test_blend_is_small_if_the_network_does_not_help():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 8))  # nothing to be learned here
    model = make(max_epochs=60, hidden_layer_sizes=(64,)).fit(noise)
    # 0.00 to 0.03 over five seeds.
    assert 0.0 <= model.blend_ < 0.3
    hidden = np.where(rng.random(noise.shape) < 0.3, np.nan, noise)
    # 0.95 to 0.96 over five seeds.
    assert relative_error(model.transform(hidden), noise, hidden) < 1.15


def test_columns_without_gaps_in_fit_are_filled_too(holed):
    X, holes = holed
    gaps = holes.copy()
    gaps[:, 3] = X[:, 3]
    model = make().fit(gaps)
    row = X[:50].copy()
    row[:, 3] = np.nan
    # 0.12 over five seeds.
    assert relative_error(model.transform(row), X[:50], row) < 0.7
    assert 3 not in model.missing_columns_


def test_gaps_in_transform_only(holed):
    X, holes = holed
    out = make(max_epochs=20).fit(X).transform(holes)
    # 0.32 over five seeds.
    assert relative_error(out[1:], X[1:], holes[1:]) < 0.6


def test_whole_rows_get_the_means(holed):
    X, holes = holed
    model = make(learning_rate=1e-12).fit(holes)
    filled = model.transform(np.full((2, 6), np.nan))
    assert_allclose(filled[0], filled[1], rtol=1e-5)
    assert (np.abs(filled[0] - model.mean_) < 0.2 * X.std(axis=0)).all()


@pytest.mark.parametrize("keep", [False, True])
def test_empty_columns(keep, holed):
    _, holes = holed
    X = pd.DataFrame(holes, columns=list("abcdef"))
    X["c"] = np.nan
    model = make(keep_empty_features=keep, add_indicator=True).fit(X)
    filled = X.assign(c=np.where(np.arange(300) < 10, 7.0, np.nan))
    out = model.set_output(transform="pandas").transform(filled)
    names = list("abcdef") if keep else list("abdef")
    assert list(out)[: len(names)] == names
    assert list(out)[len(names) :] == [f"missingindicator_{name}" for name in "abcdef"]
    assert np.isfinite(out.to_numpy()).all()
    if keep:
        for observed in (True, False):
            out = model.set_params(keep_observed=observed).transform(filled)
            assert_array_equal(out["c"], np.where(np.arange(300) < 10, 7.0, 0.0))
        out = model.set_params(keep_observed=True).transform(filled)
    # What an empty column holds now is not known to mean anything.
    other = model.transform(X)
    assert_allclose(other[list("abdef")], out[list("abdef")], rtol=1e-4, atol=1e-5)
    assert model.reconstruct(X).shape == X.shape


def test_indicators_are_scikit_learns(holed):
    X, holes = holed
    gaps = holes.copy()
    gaps[:, 4] = X[:, 4]
    ours, theirs = make(add_indicator=True).fit(gaps), SimpleImputer(add_indicator=True).fit(gaps)
    assert_array_equal(ours.transform(holes)[:, 6:], theirs.transform(holes)[:, 6:])
    assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


def test_the_indicator_is_that_of_scikit_learns_imputers(holed):
    X, holes = holed
    gaps = pd.DataFrame(holes, columns=list("abcdef"))
    gaps["e"] = X[:, 4]
    gaps = gaps.astype("Float64")
    for marker, marked in ((np.nan, gaps), (pd.NA, gaps), (-1, gaps.fillna(-1))):
        ours = make(add_indicator=True, missing_values=marker).fit(marked)
        theirs = SimpleImputer(add_indicator=True, missing_values=marker).fit(marked)
        assert repr(ours.indicator_) == repr(theirs.indicator_)
        assert_array_equal(ours.indicator_.features_, [0, 1, 2, 3, 5])
        assert vars(ours.indicator_).keys() == vars(theirs.indicator_).keys()
        assert_array_equal(
            ours.indicator_.get_feature_names_out(list("abcdef")),
            theirs.indicator_.get_feature_names_out(list("abcdef")),
        )
        mask = np.isnan(holes)
        assert_array_equal(ours.indicator_.transform(mask), theirs.indicator_.transform(mask))
        again = pickle.loads(pickle.dumps(ours))
        assert_array_equal(again.indicator_.features_, ours.indicator_.features_)
        assert ours.set_params(add_indicator=False).indicator_ is None
    assert not hasattr(make(add_indicator=True), "indicator_")


@pytest.mark.parametrize("marker", [pd.NA, None, np.nan, -999.0])
@pytest.mark.parametrize("dtype", ["Float64", "Int64"])
def test_each_marker_marks_the_cells_that_a_frame_misses(dtype, marker, holed):
    _, holes = holed
    holes = np.round(holes) if dtype == "Int64" else holes
    expected = make().fit_transform(holes)
    frame = pd.DataFrame(holes, columns=list("abcdef")).astype(dtype)
    is_number = isinstance(marker, float) and marker < 0
    model = make(missing_values=marker).fit(frame.fillna(marker) if is_number else frame)
    filled = model.transform(frame.fillna(marker) if is_number else frame)
    assert_allclose(filled, expected, rtol=1e-3, atol=1e-4)  # frames lie in another order
    assert filled.dtype == expected.dtype
    assert clone(model).missing_values is marker
    assert make(missing_values=marker).__sklearn_tags__().input_tags.allow_nan == (not is_number)


def test_markers_must_be_numbers():
    for marker in ("?", [1], "NaN"):
        with pytest.raises(ValueError, match="missing_values"):
            make(missing_values=marker).fit(np.eye(5))


def test_observed_cells_can_be_cleaned_too(holed):
    _, holes = holed
    kept, cleaned = (make(keep_observed=k).fit(holes).transform(holes) for k in (True, False))
    seen, gaps = ~np.isnan(holes), np.isnan(holes)
    # Rows without gaps are read in one case only, which moves other rows within a batch.
    assert_allclose(kept[gaps], cleaned[gaps], rtol=1e-4, atol=1e-5)
    assert (kept[seen] != cleaned[seen]).mean() > 0.9
    assert np.abs((kept - cleaned) / np.nanstd(holes, axis=0)).max() < 1


def test_random_start_is_a_plain_denoising_autoencoder(holed):
    X, holes = holed
    model = make(init="random", max_epochs=60, hidden_layer_sizes=(32,)).fit(holes)
    assert model.gaussian_ is None
    assert model.blend_ == 1.0
    error = relative_error(model.transform(holes), X, holes)
    # 0.38 to 0.40, against 1.01, over five seeds.
    assert error < relative_error(SimpleImputer().fit_transform(holes), X, holes)


def test_other_marks_of_missing_cells(holed):
    _, holes = holed
    marked = np.where(np.isnan(holes), -1.0, holes)
    ours, plain = make(missing_values=-1).fit(marked), make().fit(holes)
    assert_array_equal(ours.transform(marked), plain.transform(holes))
    assert_array_equal(make(missing_values=None).fit_transform(holes), plain.transform(holes))
    whole = np.where(np.isnan(holes), -1, np.round(holes)).astype(int)
    out = make(missing_values=-1).fit_transform(whole)
    assert out.dtype == np.float64
    assert_array_equal(out[whole != -1], whole[whole != -1])
    with pytest.raises(ValueError, match="NaN"):
        make(missing_values=-1).fit(holes)
    assert not make(missing_values=-1).__sklearn_tags__().input_tags.allow_nan


@pytest.mark.parametrize("marker", [np.nan, -1])
def test_missing_cells_do_not_count_in_errors(marker, holed):
    _, holes = holed
    seen = ~np.isnan(holes)
    model = make(missing_values=marker).fit(np.where(seen, holes, marker))
    errors = model.reconstruction_error(np.where(seen, holes, marker))
    squares = np.square(model.reconstruct(np.where(seen, holes, marker)) - holes)
    assert_allclose(errors, np.nansum(squares, axis=1) / seen.sum(axis=1).clip(1))


def test_pandas_own_missing_value(holed):
    _, holes = holed
    X = pd.DataFrame(np.round(holes), columns=list("abcdef")).astype("Int64")
    assert X.isna().to_numpy().any()
    out = make().fit(X).transform(X)
    assert_allclose(out, make().fit(np.round(holes)).transform(np.round(holes)), rtol=1e-6)


def test_sparse_rows(holed):
    _, holes = holed
    X = np.where(np.abs(holes) < 0.5, 0.0, holes)
    for container in (sparse.csr_matrix, sparse.csc_array):
        model = make().fit(container(X))
        assert_allclose(model.transform(container(X)), make().fit(X).transform(X), rtol=1e-4)
    with pytest.raises(ValueError, match="missing_values=0"):
        make(missing_values=0).fit(sparse.csr_matrix(np.nan_to_num(X)))
    marked = np.where(np.isnan(X), -1, X)
    out = make(missing_values=-1).fit(sparse.csr_matrix(marked)).transform(marked)
    assert_array_equal(out[marked != -1], marked[marked != -1])


def test_a_mark_that_float32_rounds(holed):
    X = np.where(np.isnan(holed[1]), -999.9, holed[1]).astype(np.float32)
    out = make(missing_values=np.float64(-999.9)).fit_transform(X)
    assert (out > -990).all()


def test_independent_columns_are_filled_with_their_means():
    rng = np.random.default_rng(0)
    for shape in ((40, 300), (100, 30)):
        X = rng.normal(size=shape)
        hidden = np.where(rng.random(shape) < 0.2, np.nan, X)
        # 0.971 to 1.012 over five seeds.
        assert relative_error(make().fit(hidden).transform(hidden), X, hidden) < 1.06


def test_wide_rows_are_filled():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 300)) + 0.1 * rng.normal(size=(300, 300))
    holes = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    model = make(8).fit(holes)
    # 0.07 over five seeds.
    assert relative_error(model.transform(holes), X, holes) < 0.3
    assert model.gaussian_.loadings_.shape[0] == 300


@pytest.mark.parametrize("init", ["pca", "random"])
def test_rare_values_far_out_do_not_spread(init):
    """A column that hardly varies in fit, or not at all, and is 1e6 deviations off later."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 8))
    X[:, 6] = 0.1
    X[:, 7] = 0.1
    X[700, 7] = 5.0
    model = make(init=init, max_epochs=10).fit(X)
    fresh = X[:200].copy()
    fresh[:, 6:] = 1e6
    fresh[:, 0] = np.nan
    out = model.transform(fresh)
    # 0.6 to 2.1 times over five seeds.
    assert np.abs(out[:, 0]).max() < 10 * np.abs(X[:, 0]).max()
    assert_array_equal(out[:, 6:], 1e6)


# Draws.


@pytest.mark.parametrize("init", ["pca", "random"])
def test_draws_have_the_spread_of_true_values(init, holed):
    X, holes = holed
    fresh = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    model = make(max_epochs=30, init=init).fit(holes)
    expected = model.transform(fresh)
    model.set_params(sample_posterior=True)
    draws = np.stack([model.transform(fresh) for _ in range(40)])
    gaps = np.isnan(fresh)
    # 0.05 to 0.10 over five seeds.
    assert_allclose(((draws.mean(axis=0) - expected) / X.std(axis=0))[gaps].std(), 0, atol=0.25)
    spread = draws.std(axis=0)[gaps]
    misses = (X - expected)[gaps] / spread
    # 0.60 to 0.92 over five seeds and both starts.
    assert (0.7 if init == "pca" else 0.5) < np.sqrt(np.mean(misses**2)) < 1.4


# Noise.


class Spots:
    """A callable that is another one after pickling."""

    def __call__(self, X, rng):
        return X + rng.normal(size=X.shape)


def spotted(X, rng):
    return np.where(rng.random(X.shape) < 0.1, 1 - X, X)


@pytest.mark.parametrize("noise", ["gaussian", "salt_and_pepper", "swap", spotted])
def test_each_noise_is_removed(noise, digits):
    rng = np.random.default_rng(0)
    named = {
        "gaussian": lambda X: X + 0.2 * rng.normal(size=X.shape),
        "salt_and_pepper": lambda X: np.where(
            (u := rng.random(X.shape)) < 0.1, np.where(u < 0.05, 0.0, 1.0), X
        ),
        "swap": lambda X: np.where(rng.random(X.shape) < 0.15, rng.permuted(X, axis=0), X),
    }
    add_noise = named.get(noise) if isinstance(noise, str) else (lambda X: noise(X, rng))
    X = digits[1200:]
    noisy = add_noise(X).astype(np.float32)
    model = DenoisingAutoencoder(noise=noise, scaling=None, max_epochs=15, random_state=0)
    model.fit(digits[:1200])
    cleaned = model.transform(noisy)
    assert cleaned.dtype == np.float32
    # 0.31 to 0.70 times over five seeds and all kinds of noise.
    assert np.square(cleaned - X).mean() < 0.8 * np.square(noisy - X).mean()
    assert model.validation_loss_curve_[model.best_epoch_] <= model.validation_loss_curve_[0]


def test_gaussian_noise_starts_at_the_regression_on_noisy_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 3)) * [3.0, 1.0, 0.5]
    model = make(noise="gaussian", noise_level=1.0, scaling=None, learning_rate=1e-12, max_epochs=1)
    cleaned = model.fit(X).transform(X)
    # Independent columns of variance v: the regression is x v / (v + 1).
    v = X.var(axis=0)
    assert_allclose(cleaned, X.mean(axis=0) + (X - X.mean(axis=0)) * v / (v + 1), atol=0.25)


def test_one_missing_cell_does_not_affect_the_rest():
    """Cleaned cells keep the best epoch and the linear start, gaps or not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 5))
    gap = X.copy()
    gap[0, 0] = np.nan
    params = {"noise": "gaussian", "noise_level": 1.0, "learning_rate": 1e-12}
    cleaned = make(**params).fit(gap).transform(X)
    # 0.0015 to 0.0023 over five seeds.
    assert np.square(cleaned - X / 2).mean() < 0.05
    few = X[:80].copy()
    few[0, 0] = np.nan
    model = make(noise="gaussian", noise_level=0.5, max_epochs=30, hidden_layer_sizes=(64,))
    model.fit(few)
    assert model.best_epoch_ == int(np.argmin(model.validation_loss_curve_))


def test_noise_that_takes_cells_away_is_known_as_such():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6))

    def lose_a_block(rows, rng):
        lost = np.zeros(rows.shape, dtype=bool)
        lost[:, :2] = rng.random((len(rows), 1)) < 0.5
        return np.where(lost, np.nan, rows)

    model = make(noise=lose_a_block, max_epochs=20).fit(X)
    hidden = X.copy()
    hidden[:, :2] = np.nan
    # 0.0001 or less over five seeds.
    assert relative_error(model.transform(hidden), X, hidden) < 0.3
    assert model._reads_mask


@pytest.mark.parametrize("noise", ["masking", "gaussian"])
def test_share_of_variance_is_of_the_rows_without_noise(noise, digits):
    n_latents = [
        make(0.9, noise=kind, noise_level=0.5, max_epochs=1).fit(digits[:300]).n_components_
        for kind in (noise, "swap")
    ]
    assert n_latents[0] == n_latents[1] < 64


def test_noise_level_per_column(holed):
    X = holed[0]
    level = np.array([0.0, 0, 0, 0, 0, 2.0])
    model = make(noise="gaussian", noise_level=level, learning_rate=1e-12).fit(X)
    moved = np.abs(model.transform(X) - X) / X.std(axis=0)
    # 0.03 times over five seeds.
    assert moved[:, :5].mean() < 0.1 * moved[:, 5].mean()


def test_auto_noise(holed, digits):
    X, _ = holed
    assert make().fit(X).noise_ == "masking"
    images = make(4, network=ConvNetwork((1, 8, 8), channels=(4,)), max_epochs=1)
    assert images.fit(digits[:100]).noise_ == "gaussian"
    gaps = digits[:100].copy()
    gaps[0, 0] = np.nan
    assert images.fit(gaps).noise_ == "masking"
    assert np.isfinite(images.transform(gaps)).all()


def test_gaps_and_noise_together(holed):
    X, holes = holed
    model = make(noise="gaussian").fit(holes)
    out = model.transform(holes)
    assert np.isfinite(out).all()
    # 0.33 over five seeds.
    assert relative_error(out[1:], X[1:], holes[1:]) < 1.0


# Pairs of noisy and clean rows.


def test_pairs_are_learned(digits):
    noisy = np.clip(digits[:, ::-1] * 0.5 + 0.1, 0, 1)  # mirrored, faint and grey
    model = DenoisingAutoencoder(scaling="global", max_epochs=5, random_state=0)
    model.fit(noisy[:1200], X_clean=digits[:1200])
    # 0.000005 over five seeds.
    assert np.square(model.transform(noisy[1200:]) - digits[1200:]).mean() < 1e-3
    assert_allclose(model.mean_, digits[:1200].mean(axis=0), atol=1e-6)
    # 1.00 over five seeds.
    assert model.score(noisy[1200:], X_clean=digits[1200:]) > 0.95


@pytest.mark.parametrize("n_rows", [60, 100, 150])
def test_few_pairs_start_at_a_regression_that_is_not_overfitted(n_rows):
    """As many rows as columns is where plain least squares is at its worst."""
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 100))
    noisy = clean + rng.normal(size=clean.shape)
    model = make(learning_rate=1e-12, max_epochs=1)
    model.fit(noisy[:n_rows], X_clean=clean[:n_rows])
    errors = np.square(model.transform(noisy[200:]) - clean[200:]).mean()
    best = RidgeCV(np.logspace(-2, 5, 15)).fit(noisy[:n_rows], clean[:n_rows])
    # 1.28 to 1.39 times over five seeds.
    assert errors < 1.5 * np.square(best.predict(noisy[200:]) - clean[200:]).mean()


def test_constant_columns_are_filled_with_their_value(holed):
    X = np.column_stack([holed[1], np.full(300, 5.1)])
    X[3, 6] = np.nan
    assert make().fit_transform(X)[3, 6] == 5.1


def test_pairs_with_gaps(holed):
    X, holes = holed
    model = make(max_epochs=20).fit(holes, X_clean=X)
    out = model.transform(holes)
    # 0.32 over five seeds.
    assert relative_error(out[1:], X[1:], holes[1:]) < 0.6


def test_clean_rows_pass_through_a_pipeline(holed):
    X, holes = holed
    with config_context(enable_metadata_routing=True):
        denoiser = make().set_fit_request(X_clean=True)
        pipeline = make_pipeline(denoiser, StandardScaler()).fit(holes, X_clean=X)
        direct = make().fit(holes, X_clean=X)
        assert_allclose(
            pipeline.transform(holes), StandardScaler().fit_transform(direct.transform(holes))
        )


def test_wrong_clean_rows(holed):
    X, holes = holed
    with pytest.raises(ValueError, match=r"X_clean has shape \(299, 6\).*X has \(300, 6\)"):
        make().fit(holes, X_clean=X[1:])
    with pytest.raises(ValueError, match=r"X_clean misses the cell in row \d+, column \d"):
        make().fit(X, X_clean=holes)
    with pytest.raises(ValueError, match=r"X_clean.*infinity"):
        make().fit(X, X_clean=np.where(X > 3, np.inf, X))
    with pytest.warns(UserWarning, match=r"fit\(X, X_clean=...\)"):
        make().fit(X, X)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(ValueError, match="X_clean has columns"):
        make().fit(frame, X_clean=frame[list("fedcba")])
    model = make().fit(X)
    with pytest.raises(ValueError, match="whenever training goes on or never"):
        model.partial_fit(X, X_clean=X)


# What comes out.


def test_latents_there_and_back(holed):
    X, _ = holed
    model = make(3, output="latent").fit(X)
    Z = model.transform(X)
    assert Z.shape == (300, 3)
    assert_array_equal(Z, model.encode(X))
    assert_allclose(model.inverse_transform(Z), model.reconstruct(X), rtol=1e-4, atol=1e-4)
    assert_array_equal(
        model.get_feature_names_out(), [f"denoisingautoencoder{i}" for i in range(3)]
    )
    assert not hasattr(make(), "inverse_transform")
    with pytest.raises(AttributeError, match="inverse_transform"):
        make().fit(X).inverse_transform(Z)


@pytest.mark.parametrize("network", [None, ConvNetwork((1, 2, 3), channels=(4,))])
def test_deep_features_are_all_activations(network, holed):
    X, _ = holed
    model = make(2, output="deep", hidden_layer_sizes=(8, 5), network=network, max_epochs=1).fit(X)
    out = model.set_output(transform="pandas").transform(X)
    n_hidden = 2 * (8 + 5) if network is None else 2 * 4 * 2
    assert out.shape == (300, n_hidden + 2)
    assert len(model.get_feature_names_out()) == out.shape[1]
    middle = out.to_numpy()[:, n_hidden // 2 : n_hidden // 2 + 2]
    assert_allclose(middle, model.encode(X), rtol=1e-5)


def test_deep_features_in_threads(holed):
    X, _ = holed
    model = make(2, output="deep", max_epochs=1).fit(X)
    sizes = [300, 100, 17, 200] * 5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: model.transform(X[:n]), sizes))
    for n, out in zip(sizes, found, strict=True):
        assert_array_equal(out, model.transform(X[:n]))


def test_latents_with_indicators_there_and_back(holed):
    _, holes = holed
    model = make(2, output="latent", add_indicator=True).fit(holes)
    out = model.transform(holes)
    assert out.shape == (300, 2 + 6)
    assert_array_equal(model.inverse_transform(out), model.decode(out[:, :2]))


def test_methods_take_rows_with_gaps(holed):
    _, holes = holed
    model = make(3).fit(holes)
    assert np.isfinite(model.encode(holes)).all()
    assert np.isfinite(model.reconstruct(holes)).all()
    assert np.isfinite(model.reconstruction_error(holes)).all()
    assert model.decode(model.encode(holes)).shape == holes.shape


def test_score_is_of_hidden_cells(holed):
    X, holes = holed
    rng = np.random.default_rng(0)
    good = make(max_epochs=20).fit(holes).score(holes)
    unrelated = rng.permuted(X, axis=0)
    # 0.73 to 0.74, and 0.00 for unrelated columns, over five seeds.
    assert 0.5 < good < 1
    assert make().fit(unrelated).score(unrelated) < 0.2
    drawn = make(max_epochs=20).fit(holes).set_params(sample_posterior=True)
    assert drawn.score(holes) == good  # of what is expected, not of a draw
    weight = np.zeros(300)
    weight[:100] = 1
    model = make().fit(X)
    assert_allclose(model.score(X, sample_weight=weight), model.score(X[:100]))


def test_searches_over_noise(holed):
    _, holes = holed
    grid = {"noise": ["masking", "swap"], "noise_level": [0.1, 0.4]}
    search = GridSearchCV(make(max_epochs=1), grid, cv=2).fit(holes)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_between_scaler_and_classifier():
    X, y = load_digits(return_X_y=True)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    pipeline = make_pipeline(
        StandardScaler(),
        DenoisingAutoencoder(max_epochs=3, random_state=0),
        LogisticRegression(max_iter=500),
    )
    # 0.883 to 0.884 over five seeds.
    assert pipeline.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.85


# Contract.


def test_same_seed_same_bits(holed):
    _, holes = holed
    filled = [make().fit(holes).transform(holes) for _ in range(2)]
    assert_array_equal(*filled)
    with ThreadPoolExecutor(2) as pool:
        models = list(pool.map(lambda _: make().fit(holes), range(2)))
    for model in models:
        assert_array_equal(model.transform(holes), filled[0])
    assert (make(random_state=1).fit(holes).transform(holes) != filled[0]).any()


def test_a_row_alone_is_that_row_of_the_batch(holed):
    _, holes = holed
    model = make().fit(holes)
    whole = model.transform(holes)
    alone = np.vstack([model.transform(holes[i : i + 1]) for i in range(20)])
    assert_allclose(alone, whole[:20], rtol=1e-6, atol=1e-6)


def test_pickle(holed):
    _, holes = holed
    model = make(sample_posterior=True, add_indicator=True).fit(holes)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.transform(holes), model.transform(holes))


@pytest.mark.parametrize("n_rows", [300, 1500])
@pytest.mark.parametrize("streamed", [False, True])
def test_memory_maps(n_rows, streamed, digits, tmp_path, set_limits):
    if streamed:
        set_limits(copy_bytes=0)
    X = digits[:n_rows].copy()
    X[::7, 20:30] = np.nan
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    a, b = make(8).fit(X), make(8).fit(mapped)
    assert_array_equal(a.transform(X), b.transform(mapped))


@pytest.mark.parametrize("paired", [False, True])
def test_streamed_rows_train_as_well(paired, holed, set_limits):
    X, holes = holed
    errors = []
    for limit in (2**29, 0):
        set_limits(copy_bytes=limit)
        model = make(max_epochs=15).fit(holes, X_clean=X if paired else None)
        errors.append(relative_error(model.transform(holes)[1:], X[1:], holes[1:]))
    # Differences below 0.001 over five seeds.
    assert_allclose(*errors, atol=0.05)
    rows = sparse.csr_array(sparse.random(300, 400, density=0.01, random_state=0))
    assert np.isfinite(make(4).fit(rows).transform(rows)).all()


@pytest.mark.parametrize("n_rows", [200, 1200])
def test_weightless_rows_do_not_count(n_rows, digits):
    X = digits[:n_rows].copy()
    X[::3, 27] = np.nan
    weight = np.ones(n_rows)
    weight[n_rows // 2 :] = 0
    a = make(4).fit(X, sample_weight=weight)
    b = make(4).fit(X[: n_rows // 2])
    assert_array_equal(a.transform(X), b.transform(X))
    heavy = np.where(np.arange(n_rows) % 2, 100.0, 0.01)
    heavy_mean = make(4).fit(X, sample_weight=heavy).mean_
    assert np.abs(heavy_mean - X[1::2].mean(axis=0))[:20].max() < 0.01


@pytest.mark.parametrize("paired", [False, True])
def test_partial_fit(paired, holed):
    X, holes = holed
    clean = {"X_clean": X} if paired else {}
    model = make(max_epochs="auto")
    for _ in range(3):
        model.partial_fit(holes, **clean)
    assert np.isfinite(model.transform(holes)).all()
    # 0.33 to 0.34 over five seeds.
    assert relative_error(model.transform(holes)[1:], X[1:], holes[1:]) < 0.7
    assert model.n_iter_ == 3
    model.partial_fit(X[:1], **({"X_clean": X[:1]} if paired else {}))


@pytest.mark.parametrize("paired", [False, True])
def test_few_rows_come_often_in_fit_and_once_in_partial_fit(paired, holed, monkeypatch):
    steps = []
    step = FlatAdamW.update
    monkeypatch.setattr(FlatAdamW, "update", lambda self: steps.append(step(self)))
    X = holed[0][:100]
    clean = {"X_clean": X} if paired else {}
    make(max_epochs=2, early_stopping=False).fit(X, **clean)
    assert len(steps) == 2 * -(-1000 // 64)
    make().partial_fit(X, **clean)
    assert len(steps) == 2 * -(-1000 // 64) + 2


def test_training_goes_on_after_pickling(holed):
    X = holed[0]
    model = make(noise=Spots(), max_epochs=1).partial_fit(X)
    pickle.loads(pickle.dumps(model)).partial_fit(X)


def test_warm_start_goes_on(holed):
    _, holes = holed
    model = make(warm_start=True).fit(holes)
    before, filled = model.net_, model.transform(holes)
    model.fit(holes)
    assert model.net_ is not before
    assert (model.transform(holes) != filled)[np.isnan(holes)].all()
    model.set_params(noise_level=0.4).fit(holes)
    assert model.noise_level_ == 0.4
    with pytest.raises(ValueError, match=r"noise_level=7\.0 must be from 0 to 0\.5"):
        model.set_params(noise_level=7.0).fit(holes)
    model.set_params(noise_level=0.3)
    with pytest.raises(ValueError, match="n_components=2"):
        model.set_params(n_components=2).fit(holes)


def test_fit_leaves_x_alone(holed):
    _, holes = holed
    X = holes.copy()
    make().fit(X).transform(X)
    assert_array_equal(X, holes)


# Bad input.


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"noise": "pepper"}, "'noise' parameter of DenoisingAutoencoder must be.*'pepper'"),
        ({"noise_level": -1.0}, "'noise_level' parameter of DenoisingAutoencoder"),
        (
            {"noise_level": 1.5},
            r"noise_level=.*1\.5.* must be from 0 to 0\.5 where noise='masking'",
        ),
        ({"noise_level": [0.1, 0.2]}, r"noise_level has shape \(2,\).*6 columns"),
        ({"noise_level": [0.1, 0.2, np.nan, 0, 0, 0]}, "noise_level=.*nan"),
        (
            {"noise": lambda X, rng: X[:, :2], "noise_level": 0.1},
            r"into \(\d+, 2\).*shape must stay",
        ),
        ({"output": "cleaned"}, "'output' parameter of DenoisingAutoencoder"),
        ({"missing_values": "?"}, "'missing_values' parameter of DenoisingAutoencoder"),
    ],
)
def test_bad_parameters(params, message, holed):
    model = make(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(holed[0])
    assert not hasattr(model, "net_")
    assert not [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]


def test_bad_rows(holed):
    X, holes = holed
    with pytest.raises(ValueError, match="infinity"):
        make().fit(np.where(X > 3, np.inf, X))
    with pytest.raises(ValueError, match="All cells of X are missing"):
        make().fit(np.full((10, 3), np.nan))
    with pytest.raises(ValueError, match="Column 0 of X holds 'a', but must hold numbers"):
        make(categorical_features=None).fit(np.array([["a", "b"], ["c", "d"]], dtype=object))
    with pytest.raises(ValueError, match="Column 2 of X holds 1e"):
        make().fit(np.where(np.arange(6) == 2, 1e200, X))
    model = make().fit(holes)
    before = model.transform(holes)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.where(X > 3, np.inf, X))
    with pytest.raises(ValueError, match="7 features"):
        model.transform(np.ones((3, 7)))
    assert_array_equal(model.transform(holes), before)


def test_clone_keeps_the_parameters():
    model = make(noise="swap", noise_level=0.3, missing_values=-1)
    assert clone(model).get_params() == model.get_params()
