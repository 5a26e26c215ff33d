"""Fits never fall back to PCA where training pays, and soon do where it does not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from skae import AutoencoderTransformer, latent_size_curve
from skae._stats._nonlinearity import prospect_of, share_predicted

# Rows.


def tanh_rows(rng):
    inner, outer = rng.normal(size=(6, 30)) * 0.3, rng.normal(size=(30, 40))
    return lambda n: np.tanh(rng.normal(size=(n, 6)) @ inner) @ outer


def network_rows(rng):
    inner, outer = rng.normal(size=(4, 50)), rng.normal(size=(50, 20)) / 7
    return lambda n: (
        np.tanh(rng.normal(size=(n, 4)) @ inner) @ outer + 0.1 * rng.normal(size=(n, 20))
    )


def parabola_rows(rng):
    """A bent sheet: one column is a function of two others."""

    def draw(n):
        Z = rng.normal(size=(n, 2))
        return np.c_[2 * Z, Z[:, 0] ** 2, Z[:, 1] ** 2] + 0.05 * rng.normal(size=(n, 4))

    return draw


def ring_rows(rng):
    plane = np.linalg.qr(rng.normal(size=(10, 10)))[0][:2]

    def draw(n):
        angle = rng.uniform(0, 2 * np.pi, n)
        ring = np.c_[np.cos(angle), 0.8 * np.sin(angle)] @ plane
        return ring + 0.05 * rng.normal(size=(n, 10))

    return draw


def swiss_roll_rows(rng):
    def draw(n):
        angle, height = 1.5 * np.pi * (1 + 2 * rng.uniform(size=n)), rng.uniform(size=n)
        roll = np.c_[angle * np.cos(angle) / 10, height, angle * np.sin(angle) / 10]
        return roll + 0.03 * rng.normal(size=(n, 3))

    return draw


def noise_rows(rng):
    return lambda n: rng.normal(size=(n, 12))


def factor_rows(rng):
    loadings = rng.normal(size=(4, 12))
    return lambda n: rng.normal(size=(n, 4)) @ loadings + 0.5 * rng.normal(size=(n, 12))


def drawn(family, *sizes, seed=0):
    draw = family(np.random.default_rng(seed))
    return [draw(n) for n in sizes] if len(sizes) > 1 else draw(*sizes)


# What is told without training.


def coordinates_of(X, weight=None):
    """All principal coordinates of rows, and their squared norms."""
    centred = X - np.average(X, axis=0, weights=weight)
    scatter = centred.T * (1.0 if weight is None else weight) @ centred
    directions = np.linalg.eigh(scatter)[1][:, ::-1]
    coordinates = centred @ directions
    return coordinates, np.square(coordinates).sum(axis=1)


def told_of(X, n_latents, weight=None, seed=0):
    coordinates, squares = coordinates_of(X, weight)
    weight = np.ones(len(X)) if weight is None else weight
    return prospect_of(coordinates, weight, n_latents, squares, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", [noise_rows, factor_rows])
@pytest.mark.parametrize("n_rows", [300, 1500])
def test_independent_normal_coordinates_are_poor(family, n_rows, seed):
    assert told_of(drawn(family, n_rows, seed=seed), 3, seed=seed) == "poor"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("family", "n_latents"),
    [(ring_rows, 1), (ring_rows, 2), (swiss_roll_rows, 2), (tanh_rows, 8), (network_rows, 5)],
)
def test_curved_rows_are_not_poor(family, n_latents, seed):
    assert told_of(drawn(family, 300, seed=seed), n_latents, seed=seed) in ("open", "nonlinear")


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_a_decoder_of_principal_components_bends_to_are_nonlinear(seed):
    assert told_of(drawn(parabola_rows, 400, seed=seed), 2, seed=seed) == "nonlinear"


def test_rows_that_principal_components_hold_are_linear():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, 3)) @ rng.normal(size=(3, 8))
    assert told_of(X, 3) == "linear"
    assert told_of(X, 2) != "linear"


def test_too_few_rows_are_open():
    assert told_of(drawn(noise_rows, 100), 3) == "open"


@pytest.mark.parametrize(
    ("family", "n_latents"), [(parabola_rows, 2), (noise_rows, 3), (ring_rows, 1)]
)
def test_weights_stand_for_repeated_rows(family, n_latents):
    X = drawn(family, 300)
    times = np.random.default_rng(1).integers(1, 3, size=300)
    assert told_of(X, n_latents, times.astype(float)) == told_of(X, n_latents)
    weighted, repeated = X, np.repeat(X, times, axis=0)
    shares = []
    for rows, weight in ((weighted, times.astype(float)), (repeated, np.ones(len(repeated)))):
        coordinates, _ = coordinates_of(rows, weight)
        latents, residuals = coordinates[:, :n_latents], coordinates[:, n_latents:]
        shares.append(share_predicted(latents, residuals, weight, 0.0, 0))
    assert shares[0] == pytest.approx(shares[1], abs=0.1)


@pytest.mark.parametrize("tiny", [0.0, 1e-9])
@pytest.mark.parametrize(
    ("family", "n_latents", "told"),
    [(parabola_rows, 2, "nonlinear"), (noise_rows, 3, "poor"), (ring_rows, 1, "open")],
)
def test_rows_without_weight_do_not_matter(family, n_latents, told, tiny):
    X = drawn(family, 300)
    assert told_of(X, n_latents) == told
    # As many rows of another kind, far away, one coordinate a function of another.
    others = np.random.default_rng(1).exponential(20.0, size=X.shape)
    others[:, 1] = others[:, 0] ** 2 / 20
    weight = np.repeat([1.0, tiny], 300)
    assert told_of(np.vstack([X, others]), n_latents, weight) == told


@pytest.mark.parametrize("unit", [1e-30, 1e30, 1e150])
@pytest.mark.parametrize(
    ("family", "n_latents", "told"),
    [(parabola_rows, 2, "nonlinear"), (noise_rows, 3, "poor"), (ring_rows, 1, "open")],
)
def test_only_ratios_of_weights_matter(family, n_latents, told, unit):
    X = drawn(family, 300)
    assert told_of(X, n_latents, np.full(300, unit)) == told
    assert told_of(X, n_latents, np.r_[1e-30, np.ones(299)] * unit) == told


@pytest.mark.parametrize("family", [noise_rows, tanh_rows])
def test_weights_may_be_as_large_as_numbers_are(family):
    X = drawn(family, 300)
    coordinates, squares = coordinates_of(X, np.r_[300.0, np.ones(299)])
    with np.errstate(over="raise", invalid="raise"):
        prospect_of(coordinates, np.r_[1e160, np.ones(299)], 3, squares, 0)


@pytest.mark.parametrize("family", [parabola_rows, tanh_rows, noise_rows])
def test_only_the_space_of_residuals_matters(family):
    coordinates, _ = coordinates_of(drawn(family, 300))
    latents, residuals = coordinates[:, :2], coordinates[:, 2:]
    weight = np.random.default_rng(1).uniform(size=300)
    expected = share_predicted(latents, residuals, weight, 0.1, 0)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(residuals.shape[1],) * 2))[0]
    for turned in (residuals @ rotation, residuals[:, ::-1], -residuals):
        actual = share_predicted(latents, turned, weight, 0.1, 0)
        assert actual == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("family", "n_latents"), [(parabola_rows, 2), (noise_rows, 3), (ring_rows, 1), (tanh_rows, 8)]
)
def test_signs_and_the_order_of_residuals_do_not_matter(family, n_latents):
    coordinates, squares = coordinates_of(drawn(family, 300))
    weight, n_features = np.ones(300), coordinates.shape[1]
    expected = prospect_of(coordinates, weight, n_latents, squares, 0)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        signs = rng.choice([-1.0, 1.0], size=n_features)
        order = np.r_[:n_latents, n_latents + rng.permutation(n_features - n_latents)]
        changed = (coordinates * signs)[:, order]
        assert prospect_of(changed, weight, n_latents, squares, 0) == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_of_the_rows_does_not_decide_that_nothing_is_left_out(seed):
    """Rows near a curve of which PCA leaves half a percent."""
    t = np.random.default_rng(seed).normal(size=(9000, 1))
    X = np.hstack([10 * t, np.sin(3 * t), np.cos(3 * t)])
    X += 0.01 * np.random.default_rng(1).normal(size=X.shape)
    model = AutoencoderTransformer(1, max_epochs=1, random_state=seed).fit(X)
    assert model.n_iter_ > 0


# What comes of it.


def error_of(model, X):
    return np.mean((model.inverse_transform(model.transform(X)) - X) ** 2)


def pca_of(X, n_latents):
    return PCA(n_latents, svd_solver="full").fit(X)


def assert_is_pca(model, X, n_latents):
    pca = pca_of(X, n_latents)
    expected = pca.inverse_transform(pca.transform(X))
    assert_allclose(model.reconstruct(X), expected, rtol=1e-4, atol=1e-4 * np.abs(X).max())


@pytest.mark.parametrize("n_rows", [300, 1100])
@pytest.mark.parametrize("family", [noise_rows, factor_rows])
def test_a_fit_of_noise_soon_ends_at_pca(family, n_rows):
    X = drawn(family, n_rows)
    model = AutoencoderTransformer(4, random_state=0).fit(X)
    assert model.best_epoch_ == 0
    assert 1 <= model.n_iter_ <= 0.1 * model.net_.max_epochs
    assert len(model.validation_loss_curve_) == model.n_iter_ + 1
    assert_is_pca(model, X, 4)


def test_a_fit_of_few_wide_rows_is_pca_at_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 2000)) + rng.normal(size=(40, 2000))
    model = AutoencoderTransformer(5, random_state=0).fit(X)
    assert (model.n_iter_, model.best_epoch_) == (0, 0)
    assert_is_pca(model, X, 5)


def test_a_fit_of_rows_that_pca_holds_is_pca_at_once():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, 3)) @ rng.normal(size=(3, 8))
    model = AutoencoderTransformer(3, random_state=0).fit(X)
    assert (model.n_iter_, model.best_epoch_) == (0, 0)
    assert_is_pca(model, X, 3)


FAMILIES = {
    "tanh": (tanh_rows, 8),
    "network": (network_rows, 5),
    "ring": (ring_rows, 1),
    "swiss roll": (swiss_roll_rows, 2),
    "factors": (factor_rows, 4),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_default_fit_is_no_worse_than_pca_or_a_whole_schedule(name):
    family, k = FAMILIES[name]
    X, X_test = drawn(family, 300, 500)
    default = AutoencoderTransformer(k, random_state=0).fit(X)
    whole = AutoencoderTransformer(k, random_state=0, early_stopping=False).fit(X)
    assert whole.n_iter_ == whole.net_.max_epochs
    by_pca = error_of(pca_of(X, k), X_test)
    error = error_of(default, X_test)
    assert error <= 1.03 * min(by_pca, error_of(whole, X_test))
    if name == "tanh":
        assert default.best_epoch_ > 0
        assert error < 0.6 * by_pca


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("family", [noise_rows, parabola_rows])
def test_a_fit_that_ended_at_its_start_says_so(family, verbose, capsys):
    AutoencoderTransformer(2, max_epochs=10, random_state=0, verbose=verbose).fit(
        drawn(family, 300)
    )
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    is_said = verbose > 0 and family is noise_rows
    assert printed.count("no epoch is better than the start") == is_said


@pytest.mark.parametrize("shape", [(300, 12), (20, 100)])
def test_without_early_stopping_all_epochs_are_run(shape):
    X = np.random.default_rng(0).normal(size=shape)
    model = AutoencoderTransformer(2, max_epochs=7, random_state=0, early_stopping=False).fit(X)
    assert model.n_iter_ == 7
    assert model.best_epoch_ == 7


@pytest.mark.parametrize("params", [{"ordered": True}, {"n_components": 0.5}])
def test_ordered_latents_of_noise_have_a_curve(params):
    X = drawn(noise_rows, 300)
    model = AutoencoderTransformer(random_state=0).set_params(**{"n_components": 4} | params).fit(X)
    curve = model.latent_size_curve_
    assert len(curve) >= model.n_components_
    assert (np.diff(curve) > 0).all()
    pca = pca_of(X, len(curve))
    assert_allclose(curve, np.cumsum(pca.explained_variance_ratio_), atol=0.02)


# Searches tell the same as fits.

SHORT = {"hidden_layer_sizes": 16, "max_epochs": 12, "random_state": 0}


@pytest.mark.parametrize(
    ("family", "n_latents", "told"),
    [
        (factor_rows, 4, "poor"),
        (parabola_rows, 2, "nonlinear"),
        (parabola_rows, 4, "linear"),
        (swiss_roll_rows, 2, "open"),
        (ring_rows, 1, "open"),
    ],
)
def test_searches_tell_the_same_as_fits(family, n_latents, told):
    X = drawn(family, 1500)
    model = AutoencoderTransformer(n_latents, **SHORT)
    # Networks that are trained as one share the order of rows.
    for n_splits, rtol in ((1, 1e-4), (2, 0.1)):
        cv = ShuffleSplit(n_splits, test_size=0.3, random_state=0)
        left_out = []
        for train, test in cv.split(X):
            assert told_of(X[train], n_latents) == told
            left_out.append(1 - model.fit(X[train]).score(X[test]))
        curve = latent_size_curve(model, X, [n_latents], cv=cv)
        assert_allclose(1 - curve["explained"], np.mean(left_out), rtol=rtol, atol=1e-9)
        search = GridSearchCV(model, {"n_components": [n_latents]}, cv=cv, refit=False).fit(X)
        found = 1 - search.cv_results_["mean_test_score"]
        assert_allclose(found, np.mean(left_out), rtol=1e-4, atol=1e-9)
