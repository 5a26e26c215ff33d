"""Latents are in the units of PCA's scores, and their variances are what they explain."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC
from torch import nn

from skae import AutoencoderTransformer
from skae._engine import _latent_basis

# Settings under which training hardly moves the weights from PCA.
STILL = {"learning_rate": 1e-12, "max_epochs": 1, "alpha": 0.0, "random_state": 0}
QUICK = {"hidden_layer_sizes": 16, "max_epochs": 10, "random_state": 0}
SCALERS = {"standard": StandardScaler, "robust": RobustScaler, "minmax": MinMaxScaler}


@pytest.fixture(scope="module")
def curved():
    """Rows on a curved surface, with some noise."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(300, 3)) * [3.0, 2.0, 1.0]
    X = np.tanh(flat @ rng.normal(size=(3, 12)) / 3) @ rng.normal(size=(12, 12))
    return 40 + 7 * X + 0.1 * rng.normal(size=X.shape)


def codes(model, X):
    return np.concatenate([part for _, part in model.net_.code_rows(model._rows(X))])


def assert_are_scores(Z, pca, X, rtol=1e-3):
    scores = pca.transform(X)
    assert_allclose(Z, scores, atol=rtol * np.abs(scores).max())


# A linear network gives PCA's scores.


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("scaling", ["global", None])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_start_gives_the_scores_of_pca(scaling, whiten, early_stopping, curved):
    params = {"scaling": scaling, "whiten": whiten, "early_stopping": early_stopping}
    model = AutoencoderTransformer(4, **params, **STILL).fit(curved)
    pca = PCA(4, whiten=whiten).fit(curved)
    assert_are_scores(model.transform(curved), pca, curved)
    assert_allclose(model.explained_variance_, pca.explained_variance_, rtol=1e-3)
    assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-3)
    Z = np.random.default_rng(0).normal(size=(9, 4))
    back = pca.inverse_transform(Z)
    assert_allclose(model.inverse_transform(Z), back, atol=1e-3 * np.abs(back).max())


@pytest.mark.parametrize("scaling", SCALERS)
def test_with_a_scale_for_each_column_they_are_those_of_scaled_rows(scaling, curved):
    X = curved * np.r_[1:13]
    model = AutoencoderTransformer(3, scaling=scaling, **STILL).fit(X)
    scaled = SCALERS[scaling]().fit_transform(X)
    rtol = 0.01 if scaling == "robust" else 1e-3  # quartiles are defined in many ways
    assert_are_scores(model.transform(X), PCA(3).fit(scaled), scaled, rtol)
    ratio = PCA(3).fit(scaled).explained_variance_ratio_
    assert_allclose(model.explained_variance_ratio_, ratio, rtol=rtol)


def test_a_linear_network_that_was_trained_gives_the_scores_of_its_reconstructions(curved):
    params = {"activation": "identity", "init": "random", "hidden_layer_sizes": 8}
    model = AutoencoderTransformer(3, max_epochs=20, random_state=0, **params).fit(curved)
    assert model.best_epoch_ > 0
    R = model.reconstruct(curved)
    scores = PCA(3).fit_transform(R)
    Z = model.transform(curved)
    factor = np.sqrt(Z.var(axis=0).sum() / scores.var(axis=0).sum())
    assert_allclose(Z, factor * scores, atol=1e-3 * np.abs(scores).max())


def test_weighted_rows_count_as_repeated_ones(curved):
    weight = np.arange(len(curved)) % 3
    weighted = AutoencoderTransformer(4, **STILL).fit(curved, sample_weight=weight)
    pca = PCA(4).fit(np.repeat(curved, weight, axis=0))
    assert_are_scores(weighted.transform(curved), pca, curved)
    ratio = pca.explained_variance_ratio_
    assert_allclose(weighted.explained_variance_ratio_, ratio, rtol=1e-3)


# Any network.


class Bounded:
    """A network whose codes are within (-1, 1), as a user may build it."""

    def __repr__(self):
        return "Bounded()"  # names of tests must not change from process to process

    def build(self, n_features, n_components):
        encoder = nn.Sequential(nn.Linear(n_features, n_components), nn.Tanh())
        return encoder, nn.Sequential(nn.Linear(n_components, 9), nn.ReLU(), nn.Linear(9, 12))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"scaling": "standard"},
        {"init": "random"},
        {"tied_weights": True},
        {"loss": "huber"},
        {"scaling": "minmax", "output_activation": "relu"},
        {"scaling": "minmax", "loss": "binary_cross_entropy"},
        {"network": Bounded(), "init": "random"},
        {"network": Bounded()},
    ],
    ids=str,
)
def test_latents_are_centred_uncorrelated_and_explain_their_variance(params, curved):
    model = AutoencoderTransformer(4, **QUICK | params).fit(curved)
    Z = model.transform(curved)
    size = np.sqrt(model.explained_variance_.max())
    assert_allclose(Z.mean(axis=0), 0, atol=1e-4 * size)
    assert_allclose(np.cov(Z.T), np.diag(model.explained_variance_), atol=1e-4 * size**2)
    assert (np.diff(model.explained_variance_) <= 0).all()
    if params.get("scaling", "global") == "global":
        total = curved.var(axis=0, ddof=1).sum()
        assert_allclose(model.explained_variance_ratio_, model.explained_variance_ / total)
        assert_allclose(model.explained_variance_ratio_.sum(), model.score(curved), atol=1e-5)
    back = model.inverse_transform(Z)
    assert_allclose(back, model.reconstruct(curved), atol=1e-3 * curved.std())


def test_whitened_latents_have_variance_one(curved):
    plain = AutoencoderTransformer(4, **QUICK).fit(curved)
    white = AutoencoderTransformer(4, whiten=True, **QUICK).fit(curved)
    assert_array_equal(white.explained_variance_, plain.explained_variance_)
    Z = white.transform(curved)
    assert_allclose(np.cov(Z.T), np.eye(4), atol=1e-4)
    expected = plain.transform(curved) / np.sqrt(plain.explained_variance_)
    assert_allclose(Z, expected, atol=1e-4)
    assert_allclose(white.inverse_transform(Z), plain.reconstruct(curved), atol=1e-3)


def test_reconstructions_and_training_do_not_depend_on_the_units(curved, monkeypatch):
    model = AutoencoderTransformer(4, **QUICK).fit(curved)
    with monkeypatch.context() as context:
        context.setattr(_latent_basis, "_roots", lambda gram: (np.eye(4) * 5, np.eye(4) / 5))
        other = AutoencoderTransformer(4, **QUICK).fit(curved)
    assert not np.allclose(other.net_.module_.basis.to_latents, model.net_.module_.basis.to_latents)
    assert_array_equal(other.reconstruct(curved), model.reconstruct(curved))
    assert_array_equal(
        other.partial_fit(curved).reconstruct(curved), model.partial_fit(curved).reconstruct(curved)
    )


def test_a_tuned_classifier_carries_over_from_pca(digits):
    """`gamma` is an inverse square of the unit of the latents."""
    from sklearn.datasets import load_digits

    y = load_digits().target
    accuracies = []
    for reduce in (PCA(8), AutoencoderTransformer(8, max_epochs=30, random_state=0)):
        Z = reduce.fit(digits[:1200]).transform(digits)
        accuracies.append(SVC(gamma=0.001).fit(Z[:1200], y[:1200]).score(Z[1200:], y[1200:]))
    # 0.900 and 0.935 to 0.952 over five seeds; codes, in units of their own: 0.80 to 0.87.
    assert accuracies[1] > accuracies[0]


@pytest.mark.parametrize("container", [sparse.csr_matrix, np.asfortranarray, np.float32])
def test_units_are_the_same_in_all_containers(container, curved):
    X = np.where(curved > 45, np.round(curved), 0.0)
    plain, model = (AutoencoderTransformer(3, **QUICK).fit(table) for table in (X, container(X)))
    assert_allclose(model.explained_variance_, plain.explained_variance_, rtol=1e-3)
    assert_allclose(model.transform(container(X)), plain.transform(X), atol=0.02)


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 60), ("MAX_CELLS", 60 * 12)])
def test_many_rows_are_sampled(limit, value, curved, monkeypatch):
    monkeypatch.setattr(_latent_basis, limit, value)
    monkeypatch.setattr(_latent_basis, "ENOUGH_ROWS", 50)
    model = AutoencoderTransformer(3, **QUICK).fit(curved)
    every_fifth = model.transform(curved[::5])
    assert_allclose(every_fifth.mean(axis=0), 0, atol=1e-3)
    assert_allclose(every_fifth.var(axis=0, ddof=1), model.explained_variance_, rtol=1e-3)


# Degenerate rows and latents.


def check_comes_back(model, X):
    Z = model.transform(X)
    assert np.isfinite(Z).all()
    assert np.isfinite(model.explained_variance_ratio_).all()
    assert (model.explained_variance_ >= 0).all()
    back = model.inverse_transform(Z)
    assert_allclose(back, model.reconstruct(X), atol=1e-3 * (X.std() or 1))


@pytest.mark.parametrize("params", [{}, {"init": "random"}, {"whiten": True}, {"ordered": True}])
@pytest.mark.parametrize("rows", ["constant", "rank two", "one column", "two rows", "dead latents"])
def test_degenerate_rows(rows, params, curved):
    k = 3
    if rows == "constant":
        X = np.full((40, 5), 7.0)
    elif rows == "rank two":
        X = curved[:, :2] @ np.random.default_rng(0).normal(size=(2, 12))
    elif rows == "one column":
        X, k = curved[:, :1], 1
    elif rows == "two rows":
        X = curved[:2]
    else:
        X = curved * (np.arange(12) < 1)
    model = AutoencoderTransformer(k, **QUICK | params).fit(X)
    check_comes_back(model, X)
    if rows == "constant" and "ordered" not in params:
        assert_array_equal(model.explained_variance_ratio_, np.zeros(k))


def test_one_latent(curved):
    model = AutoencoderTransformer(1, **QUICK).fit(curved)
    check_comes_back(model, curved)
    assert_allclose(model.explained_variance_ratio_[0], model.score(curved), atol=1e-5)


# Ordered and sparse latents.


def test_ordered_latents_are_not_mixed(curved):
    model = AutoencoderTransformer(5, ordered=True, **QUICK).fit(curved)
    Z, C = model.transform(curved), codes(model, curved)
    correlations = np.corrcoef(Z.T, C.T)[:5, 5:]
    assert_allclose(correlations.diagonal(), 1, atol=1e-5)
    for k in (1, 3):  # latents that are cut off, or zero, are codes of zero, as in training
        net, rows = model.net_, model._rows(curved)
        expected = np.concatenate([part for _, part in net.reconstruct_rows(rows, k)])
        found = np.concatenate([part for _, part in net.decode_rows(Z[:, :k] / model._latent_unit)])
        assert_allclose(found, expected, atol=1e-4)
        found = model._scaler.transform(model.inverse_transform(Z * (np.arange(5) < k)))
        assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("whiten", [False, True])
def test_variances_of_ordered_latents_are_what_they_add(whiten, curved):
    model = AutoencoderTransformer(3, ordered=True, whiten=whiten, **QUICK).fit(curved)
    assert_allclose(model.explained_variance_ratio_, np.diff(model.latent_size_curve_, prepend=0))
    total = curved.var(axis=0, ddof=1).sum()
    assert_allclose(model.explained_variance_, model.explained_variance_ratio_ * total, rtol=1e-5)
    variances = model.transform(curved).var(axis=0, ddof=1)
    assert_allclose(variances, 1 if whiten else model.explained_variance_, rtol=1e-4)


def test_a_share_keeps_the_variances_of_what_is_kept(curved):
    model = AutoencoderTransformer(0.8, **QUICK).fit(curved)
    k = model.n_components_
    assert model.explained_variance_.shape == model.explained_variance_ratio_.shape == (k,)
    assert_allclose(model.explained_variance_ratio_.sum(), model.latent_size_curve_[k - 1])
    check_comes_back(model, curved)


def test_sparse_latents_keep_their_zeros(curved):
    class Rectified:
        def build(self, n_features, n_components):
            encoder = nn.Sequential(nn.Linear(n_features, n_components), nn.ReLU())
            return encoder, nn.Linear(n_components, n_features)

    params = {"network": Rectified(), "init": "random", "sparsity": 0.1}
    model = AutoencoderTransformer(6, **QUICK | params).fit(curved)
    Z, C = model.transform(curved), codes(model, curved)
    assert 0 < (Z == 0).mean() < 1
    assert_array_equal(Z == 0, C == 0)
    ratio = model.explained_variance_ratio_.sum()
    assert_allclose(ratio, model.score(curved), atol=1e-5)


# Training that goes on.


def test_partial_fit_learns_the_units_once(curved):
    model = AutoencoderTransformer(3, **QUICK).partial_fit(curved[:100])
    Z = model.transform(curved[:100])
    assert_allclose(Z.var(axis=0, ddof=1), model.explained_variance_, rtol=1e-4)
    ratio = model.explained_variance_ratio_
    assert_allclose(ratio.sum(), model.score(curved[:100]), atol=1e-5)
    model.partial_fit(curved[100:])
    assert_array_equal(model.explained_variance_ratio_, ratio)
    moved = model.transform(curved[:100])
    assert not np.array_equal(moved, Z)
    assert_allclose(moved, Z, atol=0.5 * Z.std())


def test_a_first_piece_of_few_rows_leaves_no_latent_out(curved):
    """Two rows vary along one axis; of the others, they do not say how long a step is."""
    model = AutoencoderTransformer(4, **STILL).partial_fit(curved[:2])
    Z, scores = model.transform(curved), PCA(4, svd_solver="full").fit(curved).transform(curved)
    assert Z.var(axis=0).min() > 0.1 * scores.var(axis=0).min()


def test_partial_fit_of_ordered_latents_measures_its_first_rows(curved):
    model = AutoencoderTransformer(3, ordered=True, **QUICK).partial_fit(curved)
    assert_allclose(model.latent_size_curve_[-1], model.score(curved), atol=1e-5)
    curve = model.explained_variance_ratio_.cumsum()
    assert_allclose(curve, model.latent_size_curve_)


def test_warm_start_learns_the_units_anew(curved):
    model = AutoencoderTransformer(3, warm_start=True, **QUICK).fit(curved)
    other = 40 + 3 * (curved - 40)
    model.fit(other)
    Z = model.transform(other)
    assert_allclose(Z.mean(axis=0), 0, atol=1e-3)
    assert_allclose(Z.var(axis=0, ddof=1), model.explained_variance_, rtol=1e-4)
    assert_allclose(model.explained_variance_ratio_.sum(), model.score(other), atol=1e-5)
    assert_allclose(model.mean_, other.mean(axis=0))


@pytest.mark.parametrize("whiten", [False, True])
def test_warm_start_follows_whiten(whiten, curved):
    model = AutoencoderTransformer(3, warm_start=True, whiten=not whiten, **QUICK).fit(curved)
    model.set_params(whiten=whiten).fit(curved)
    expected = np.ones(3) if whiten else model.explained_variance_
    assert_allclose(model.transform(curved).var(axis=0, ddof=1), expected, rtol=1e-3)
    rebuilt = model.inverse_transform(model.transform(curved))
    assert_allclose(rebuilt, model.reconstruct(curved), atol=1e-3)


def test_whiten_must_stay_while_the_units_do(curved):
    """``partial_fit`` keeps the units of its first call."""
    model = AutoencoderTransformer(3, **QUICK).fit(curved)
    before = model.transform(curved)
    with pytest.raises(ValueError, match=r"whiten=True does not fit the network.*whiten=False"):
        model.set_params(whiten=True).partial_fit(curved)
    assert_allclose(model.transform(curved), before)
    model.set_params(whiten=False).partial_fit(curved)


# The number of latents.


def test_none_keeps_as_many_latents_as_pca(curved):
    for X in (curved, curved[:7]):
        model = AutoencoderTransformer(None, **STILL).fit(X)
        pca = PCA().fit(X)
        assert model.n_components_ == pca.n_components_ == min(X.shape)
        assert not hasattr(model, "latent_size_curve_")
        assert_allclose(model.score(X), 1, atol=1e-5)
        variances = pca.explained_variance_
        assert_allclose(model.explained_variance_, variances, atol=1e-3 * variances[0])


def test_noise_keeps_none_from_copying(curved):
    params = QUICK | {"max_epochs": 60, "input_noise": 0.5}
    model = AutoencoderTransformer(None, **params).fit(curved)
    assert model.n_components_ == 12
    assert np.isfinite(model.transform(curved)).all()


@pytest.mark.parametrize(
    "params",
    [{"sparsity": 0.1}, {"l1": 1e-4}, {"input_noise": 0.3}, {"latent_noise": 0.5}, {"alpha": 0.1}],
    ids=str,
)
def test_more_latents_than_columns_warn_unless_something_holds_them(params, curved):
    X = curved[:, :4]
    with pytest.warns(UserWarning, match="n_components=6 is more than the 4 columns") as warned:
        AutoencoderTransformer(6, **QUICK).fit(X)
    assert len(warned) == 1
    AutoencoderTransformer(6, **QUICK, **params).fit(X)
    AutoencoderTransformer(4, **QUICK).fit(X)
