import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._engine._net import AutoencoderNet
from skae.comparison import compare_knn, compare_outlier_detectors, latent_size_curve

COLUMNS = [
    "n_components",
    "accuracy",
    "accuracy_std",
    "reconstruction_error",
    "fit_seconds",
    "predict_seconds",
]


@pytest.fixture(scope="module", name="Xy")
def images_and_classes():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def test_table(Xy):
    model = AutoencoderTransformer(3, hidden_layer_sizes=4, max_epochs=1, random_state=0)
    table = compare_knn(["passthrough", ("linear", PCA(4)), model, None], *Xy, cv=3)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == COLUMNS
    assert list(table.index)[:2] == ["passthrough", "linear"]
    assert "AutoencoderTransformer" in table.index[2]
    assert list(table["n_components"]) == [64, 4, 3, 64]
    assert table["accuracy"].between(0, 1).all()
    assert (table[["fit_seconds", "predict_seconds"]] > 0).all(axis=None)
    assert not hasattr(model, "net_")  # it was cloned


def test_accuracy_is_cross_validated(Xy):
    cv = StratifiedKFold(4)
    table = compare_knn([PCA(5, random_state=0)], *Xy, n_neighbors=3, cv=cv)
    pipe = make_pipeline(PCA(5, random_state=0), KNeighborsClassifier(3))
    scores = cross_val_score(pipe, *Xy, cv=cv)
    assert_allclose(table["accuracy"].iloc[0], scores.mean())
    assert_allclose(table["accuracy_std"].iloc[0], scores.std())


def test_reconstruction_error_is_of_held_out_rows(Xy):
    X, y = Xy
    expected = []
    for train, test in KFold(3).split(X):
        pca = PCA(5, random_state=0).fit(X[train])
        expected.append(np.mean((X[test] - pca.inverse_transform(pca.transform(X[test]))) ** 2))
    table = compare_knn([PCA(5, random_state=0), "passthrough"], X, y, cv=KFold(3))
    assert_allclose(table["reconstruction_error"], [np.mean(expected), 0.0], atol=1e-12)


def test_no_way_back_is_nan(Xy):
    class OneWay(StandardScaler):
        inverse_transform = property()

    table = compare_knn([OneWay()], *Xy, cv=2)
    assert np.isnan(table["reconstruction_error"].iloc[0])


def test_cv_may_be_a_list_of_splits(Xy):
    splits = KFold(2).split(*Xy)  # a generator is used up after one transformer
    table = compare_knn([PCA(2, random_state=0)] * 2, *Xy, cv=splits)
    assert table["accuracy"].nunique() == 1


@pytest.mark.parametrize(
    ("transformers", "params", "error", "message"),
    [
        ([], {}, TypeError, "transformers="),
        (PCA(2), {}, TypeError, "transformers="),
        ([PCA], {}, TypeError, r"transformers\[0\]"),
        (["scale"], {}, TypeError, r"transformers\[0\]='scale'"),
        ([PCA(2)], {"n_neighbors": 0}, ValueError, "n_neighbors=0"),
        ([PCA(2)], {"n_neighbors": 2.5}, TypeError, "n_neighbors=2.5"),
        ([PCA(2)], {"cv": 1}, ValueError, "cv=1"),
    ],
)
def test_bad_input(transformers, params, error, message, Xy):
    with pytest.raises(error, match=message):
        compare_knn(transformers, *Xy, **params)


def test_labels_are_needed(Xy):
    with pytest.raises(ValueError, match="y=None"):
        compare_knn([PCA(2)], Xy[0], None)


# Outlier detectors.


@pytest.fixture(scope="module", name="outliers")
def rows_and_outliers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4))
    X[:15] += 6
    return X, np.arange(150) < 15


def test_outlier_table(outliers):
    X, outlying = outliers
    detectors = [
        ("forest", IsolationForest(random_state=0)),
        LocalOutlierFactor(novelty=True),
        ("ours", AutoencoderOutlierDetector(max_epochs=5, random_state=0)),
    ]
    table = compare_outlier_detectors(detectors, X, outlying)
    assert list(table.columns) == ["auroc", "average_precision", "fit_seconds", "score_seconds"]
    assert list(table.index) == ["forest", "LocalOutlierFactor(novelty=True)", "ours"]
    assert (table.loc[["forest", "ours"], "auroc"] > 0.95).all()
    assert (table[["fit_seconds", "score_seconds"]] > 0).all(axis=None)


def test_outlier_table_is_measured_on_held_out_rows(outliers):
    X, outlying = outliers
    table = compare_outlier_detectors([IsolationForest(random_state=0)], X, outlying, n_splits=2)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    expected = [
        roc_auc_score(
            outlying[test], -IsolationForest(random_state=0).fit(X[train]).score_samples(X[test])
        )
        for train, test in folds.split(X, outlying)
    ]
    assert_allclose(table["auroc"].iloc[0], np.mean(expected))


def test_both_conventions_for_labels(outliers):
    X, outlying = outliers
    detectors = [IsolationForest(random_state=0)]
    tables = [
        compare_outlier_detectors(detectors, X, y)
        for y in (outlying, outlying.astype(int), np.where(outlying, -1, 1), pd.Series(outlying))
    ]
    assert len({table["auroc"].iloc[0] for table in tables}) == 1


class Nosy(IsolationForest):
    def fit(self, X, y=None, sample_weight=None):
        assert y is None
        return super().fit(X)


def test_detectors_see_no_labels_and_stay_unfitted(outliers):
    detector = Nosy(n_estimators=5)
    compare_outlier_detectors([detector], *outliers)
    assert not hasattr(detector, "estimators_")


@pytest.mark.parametrize("y", [np.zeros(150), np.arange(150), np.ones((150, 1)), ["a"] * 150])
def test_labels_that_say_nothing(y, outliers):
    with pytest.raises(ValueError, match="y must hold 1 for outliers and 0 for inliers"):
        compare_outlier_detectors([IsolationForest()], outliers[0], y)


@pytest.mark.parametrize(
    "detectors", [[], "forest", [StandardScaler()], [IsolationForest], [None], 3]
)
def test_what_is_no_detector(detectors, outliers):
    with pytest.raises(TypeError, match="detectors"):
        compare_outlier_detectors(detectors, *outliers)


@pytest.mark.parametrize(
    ("n_splits", "error"), [(1, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_bad_number_of_splits(n_splits, error, outliers):
    with pytest.raises(error, match="n_splits"):
        compare_outlier_detectors([IsolationForest()], *outliers, n_splits=n_splits)


def test_too_few_outliers_for_the_splits(outliers):
    X, _ = outliers
    with pytest.raises(ValueError, match="n_splits=3 is more than the 2 rows"):
        compare_outlier_detectors([IsolationForest()], X, np.arange(150) < 2)


# The latent-size curve.


@pytest.fixture(scope="module", name="curved")
def _curved():
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(1400, 3)) @ rng.normal(size=(3, 8)))
    return X + 0.1 * rng.normal(size=X.shape)


@pytest.fixture
def trainings(monkeypatch):
    seen = []
    train = AutoencoderNet.train

    def noted(net, *args, **kwargs):
        seen.append(net)
        return train(net, *args, **kwargs)

    monkeypatch.setattr(AutoencoderNet, "train", noted)
    return seen


def share_of_pca(size, train, test):
    pca = PCA(size).fit(train)
    left = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    return 1 - left / np.square(test - pca.mean_).sum()


FEW_EPOCHS = {"hidden_layer_sizes": 16, "max_epochs": 15, "random_state": 0}


def test_latent_size_curve(curved, trainings):
    model = AutoencoderTransformer(**FEW_EPOCHS)
    table = latent_size_curve(model, curved, [1, 5, 3], cv=4)
    assert len(trainings) == 1  # all twelve networks at once
    assert list(table.index) == [1, 5, 3]
    assert list(table.columns) == ["explained", "explained_std", "pca"]
    cv = KFold(4, shuffle=True, random_state=np.random.RandomState(0).randint(2**31 - 1))
    for size, row in table.iterrows():
        alone = cross_val_score(AutoencoderTransformer(size, **FEW_EPOCHS), curved, cv=cv)
        assert row["explained"] == pytest.approx(alone.mean(), abs=0.02)
        by_pca = [
            share_of_pca(size, curved[train], curved[test]) for train, test in cv.split(curved)
        ]
        assert row["pca"] == pytest.approx(np.mean(by_pca), abs=1e-6)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    "params", [{"early_stopping": False}, {"callbacks": [Callback()]}, {"ordered": True}]
)
def test_curves_of_other_fits_are_the_fits(curved, params):
    model = AutoencoderTransformer(**FEW_EPOCHS, **params)
    splits = [(np.arange(1100), np.arange(1100, 1400))]
    table = latent_size_curve(model, curved, [2], cv=splits)
    alone = clone(model).set_params(n_components=2).fit(curved[:1100])
    assert table["explained"].item() == pytest.approx(alone.score(curved[1100:]))


def test_few_rows_are_fitted_one_by_one(table, trainings):
    told = latent_size_curve(AutoencoderTransformer(**FEW_EPOCHS), table, [2, 12], cv=2)
    assert len(trainings) == 2 * 4  # the folds of each fit, then all its rows
    assert told["pca"][12] == pytest.approx(1)
    assert np.isfinite(told).all().all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"transformer": PCA(2)}, TypeError, r"transformer=PCA.* must be an AutoencoderTransf"),
        ({"n_components": []}, ValueError, r"n_components=\[\]"),
        ({"n_components": 4}, TypeError, r"n_components=4 must be a list"),
        ({"n_components": "24"}, TypeError, r"n_components='24' must be a list"),
        ({"cv": []}, ValueError, r"cv=\[\] holds no fold"),
        ({"n_components": [2, 0]}, ValueError, r"n_components=0"),
        ({"n_components": [2, 0.5]}, TypeError, r"n_components=0\.5"),
        ({"cv": 1}, ValueError, r"cv=1 must be at least 2"),
        ({"X": [[1.0, np.nan], [0.0, 1.0]]}, ValueError, r"Input X contains NaN"),
    ],
)
def test_bad_input_of_the_curve(change, error, message, curved):
    params = {"transformer": AutoencoderTransformer(), "X": curved, "n_components": [2]} | change
    with pytest.raises(error, match=message):
        latent_size_curve(params.pop("transformer"), params.pop("X"), **params)
