import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.callbacks import Callback

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._engine._net import AutoencoderNet
from skae._fit._defaults import Compression
from skae.comparison import (
    compare_knn,
    compare_outlier_detectors,
    latent_size_curve,
    smallest_within,
)
from skae.estimators import _compression
from skae.estimators._latent_sizes import are_apart, fit_together

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
def test_invalid_labels(y, outliers):
    with pytest.raises(ValueError, match="y must hold 1 for outliers and 0 for inliers"):
        compare_outlier_detectors([IsolationForest()], outliers[0], y)


@pytest.mark.parametrize(
    "detectors", [[], "forest", [StandardScaler()], [IsolationForest], [None], 3]
)
def test_invalid_detectors(detectors, outliers):
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
    residual = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    return 1 - residual / np.square(test - pca.mean_).sum()


FEW_EPOCHS = {"hidden_layer_sizes": 16, "max_epochs": 15, "random_state": 0}


def test_latent_size_curve(curved, trainings, judged):
    model = AutoencoderTransformer(**FEW_EPOCHS)
    table = latent_size_curve(model, curved, [1, 5, 3], cv=4)
    assert len(trainings) == 2  # of twelve networks, each on all rows of its fold
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


SPLITS = [
    (np.arange(1100), np.arange(1100, 1400)),
    (np.arange(300, 1400), np.arange(300)),
]


@pytest.mark.parametrize(
    ("params", "splits"),
    [
        ({"early_stopping": False}, SPLITS),
        ({"callbacks": [Callback()]}, SPLITS),
        ({"n_iter_no_change": 2}, SPLITS),
        ({"ordered": True}, SPLITS),
        ({}, SPLITS[:1]),
    ],
)
def test_curves_without_joint_training_are_those_of_single_fits(curved, params, splits):
    model = AutoencoderTransformer(**FEW_EPOCHS, **params)
    table = latent_size_curve(model, curved, [2], cv=splits)
    alone = clone(model).set_params(n_components=2)
    scores = [alone.fit(curved[train]).score(curved[test]) for train, test in splits]
    assert table["explained"].item() == pytest.approx(np.mean(scores))


@pytest.mark.filterwarnings("ignore:n_components=12 is more than the 10 columns")
def test_networks_of_few_rows_are_trained_at_once(table, trainings, judged):
    curve = latent_size_curve(AutoencoderTransformer(**FEW_EPOCHS), table, [2, 12], cv=2)
    assert len(trainings) == 1
    assert curve["pca"][12] == pytest.approx(1)
    assert np.isfinite(curve).all().all()


def test_where_training_does_not_pay_the_curve_is_that_of_pca(monkeypatch):
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: "open")
    X = np.random.default_rng(0).normal(size=(300, 8)) * np.linspace(1, 2, 8)
    curve = latent_size_curve(AutoencoderTransformer(random_state=0), X, [2, 6], cv=2)
    assert_allclose(curve["explained"], curve["pca"], rtol=1e-5)


@pytest.mark.parametrize("prospect", ["open", "nonlinear"])
def test_rows_that_a_fold_leaves_out_judge_the_others_only(curved, prospect, monkeypatch):
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: prospect)
    models = [AutoencoderTransformer(2, random_state=0) for _ in range(2)]
    usual, unlike = curved[300:], 5 * np.random.default_rng(1).normal(size=(300, 8))
    parts = [(curved[:300], usual), (curved[:300], unlike)]
    fit_together(models, parts, "folds", can_share=True)
    # What is learned pays on usual rows, but costs on those unlike all that it is learned from.
    start = AutoencoderTransformer(2, hidden_layer_sizes=()).fit(curved[:300])
    assert models[1].best_epoch_ == models[1].n_iter_ > 0
    assert models[1].score(usual) > start.score(usual)
    assert models[1].score(unlike) < start.score(unlike)
    if prospect == "open":
        assert models[0].best_epoch_ == 0
        assert models[0].score(usual) == pytest.approx(start.score(usual))
    else:
        assert models[0].best_epoch_ == models[0].n_iter_


def test_folds_whose_schedules_differ_in_length_choose_shares_of_them(curved, monkeypatch):
    prospects = iter(["nonlinear", "open"])
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: next(prospects))
    models = [AutoencoderTransformer(2, random_state=0) for _ in range(2)]
    monkeypatch.setattr(Compression, "max_epochs", staticmethod(lambda *args: 3))
    parts = [(curved[:300], curved[300:]), (curved[300:600], curved[:300])]
    fit_together(models, parts, "folds", can_share=True)
    assert [model.n_iter_ for model in models] == [3, 6]
    assert models[0].best_epoch_ == 3


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ([[0, 1], [2, 3]], True),
        ([[0, 1]], False),
        ([[0, 1], [1, 2]], False),
    ],
)
def test_only_rows_held_out_of_one_fold_judge_others(folds, expected):
    assert are_apart([(None, np.array(test)) for test in folds]) == expected


def test_a_size_that_is_given_twice_is_not_judged_by_its_own_rows(curved):
    transformer = AutoencoderTransformer(random_state=0, max_epochs=12)
    once = latent_size_curve(transformer, curved[:400], [2], cv=2)
    twice = latent_size_curve(transformer, curved[:400], [2, 2], cv=2)
    assert_allclose(twice["explained"], 2 * once["explained"].tolist(), atol=0.02)


def test_a_curve_that_is_interrupted_is_none(curved, monkeypatch):
    step = AutoencoderNet._step

    def interrupted(net, batch):
        if len(net.history) == 2:
            raise KeyboardInterrupt
        return step(net, batch)

    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        latent_size_curve(AutoencoderTransformer(**FEW_EPOCHS), curved, [1, 2], cv=2)


def test_the_curve_of_a_pipeline_fits_its_first_steps_in_each_fold():
    rng = np.random.default_rng(0)
    kinds = rng.choice(["a", "b", "c"], 240)
    X = pd.DataFrame({"kind": kinds, "x": rng.normal(size=240), "y": rng.gamma(1.0, size=240)})
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["kind"]),
        (StandardScaler(), ["x", "y"]),
    )
    pipeline = make_pipeline(encode, StandardScaler(), AutoencoderTransformer(**FEW_EPOCHS))
    splits = [(np.arange(160), np.arange(160, 240))]
    curve = latent_size_curve(pipeline, X, [1, 3], cv=splits)
    for size, row in curve.iterrows():
        alone = clone(pipeline).set_params(autoencodertransformer__n_components=size)
        alone.fit(X.iloc[:160])
        assert row["explained"] == pytest.approx(alone.score(X.iloc[160:]))
        train, test = (alone[:-1].transform(part) for part in (X.iloc[:160], X.iloc[160:]))
        assert row["pca"] == pytest.approx(share_of_pca(size, train, test), abs=1e-5)
    assert not hasattr(pipeline[0], "transformers_")


def test_a_pipeline_of_one_step_is_that_step(curved):
    model = AutoencoderTransformer(**FEW_EPOCHS)
    curves = [
        latent_size_curve(transformer, curved[:300].tolist(), [2], cv=2)
        for transformer in (model, make_pipeline(model))
    ]
    pd.testing.assert_frame_equal(*curves)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"transformer": PCA(2)}, TypeError, r"transformer=PCA.* must be an AutoencoderTransf"),
        ({"transformer": make_pipeline(PCA(2))}, TypeError, r"=PCA.* a pipeline that ends in one"),
        ({"n_components": []}, ValueError, r"n_components=\[\]"),
        ({"n_components": 4}, TypeError, r"n_components=4 must be a list"),
        ({"n_components": "24"}, TypeError, r"n_components='24' must be a list"),
        ({"cv": []}, ValueError, r"cv=\[\] holds no fold"),
        ({"n_components": [2, 0]}, ValueError, r"n_components=0"),
        ({"n_components": [2, 0.5]}, TypeError, r"n_components=0\.5"),
        ({"cv": 1}, ValueError, r"cv=1 must be at least 2"),
        ({"X": [[1.0, np.inf], [0.0, 1.0]]}, ValueError, r"Input X contains infinity"),
    ],
)
def test_bad_input_of_the_curve(change, error, message, curved):
    params = {"transformer": AutoencoderTransformer(), "X": curved, "n_components": [2]} | change
    with pytest.raises(error, match=message):
        latent_size_curve(params.pop("transformer"), params.pop("X"), **params)


# The smallest size that scores nearly as well as the best.


def results_of(sizes, scores, scorer="score", parameter="n_components"):
    """What a search keeps in cv_results_; scores are one per candidate, or one per fold too."""
    folds = np.asarray(scores, dtype=float)
    folds = folds if folds.ndim == 2 else np.column_stack([folds, folds])
    results = {f"split{i}_test_{scorer}": fold for i, fold in enumerate(folds.T)}
    results[f"mean_test_{scorer}"] = folds.mean(axis=1)
    with np.errstate(invalid="ignore"):  # infinite scores
        results[f"std_test_{scorer}"] = folds.std(axis=1)
    return results | {"params": [{} if size is None else {parameter: size} for size in sizes]}


@pytest.fixture(name="drawn", params=range(10))
def drawn_results(request):
    rng = np.random.default_rng(request.param)
    sizes = rng.integers(1, 8, size=12).tolist()
    return sizes, rng.normal(size=(12, 4))


@pytest.mark.parametrize("tolerance", [0, 0.1, 0.5, 2.0])
def test_no_smaller_size_is_within_the_tolerance(drawn, tolerance):
    sizes, scores = drawn
    means = scores.mean(axis=1)
    chosen = smallest_within(tolerance)(results_of(*drawn))
    within = [i for i in range(12) if means[i] >= means.max() - tolerance]
    assert chosen in within
    assert sizes[chosen] == min(sizes[i] for i in within)
    assert means[chosen] == max(means[i] for i in within if sizes[i] == sizes[chosen])


def test_extreme_tolerances(drawn):
    sizes, scores = drawn
    assert smallest_within(0)(results_of(*drawn)) == scores.mean(axis=1).argmax()
    assert sizes[smallest_within(np.inf)(results_of(*drawn))] == min(sizes)


def test_one_standard_error_is_that_of_the_best(drawn):
    _, scores = drawn
    best = scores[scores.mean(axis=1).argmax()]
    # Other scorers' folds are not counted.
    results = results_of(*drawn, "other") | results_of(*drawn)
    chosen = smallest_within("one_standard_error", scorer="score")(results)
    assert chosen == smallest_within(best.std() / np.sqrt(4))(results_of(*drawn))


def test_standard_error_shrinks_with_the_number_of_folds():
    scores = [[0.74, 0.74], [0.70, 0.90]]
    rule = smallest_within("one_standard_error")
    assert rule(results_of([2, 4], scores)) == 0  # 0.80 - 0.1 / sqrt(2) < 0.74
    assert rule(results_of([2, 4], np.tile(scores, 4))) == 1  # 0.80 - 0.1 / sqrt(8) > 0.74


def test_a_score_at_the_very_bound_is_within():
    assert 0.8 - 0.1 > 0.7  # rounding
    assert smallest_within(0.1)(results_of([2, 4], [0.7, 0.8])) == 0


def test_of_equal_candidates_the_first_is_taken():
    assert smallest_within(0)(results_of([4, 2, 2, 3], [0.5, 0.5, 0.5, 0.5])) == 1


@pytest.mark.parametrize("failed", [np.nan, -np.inf, np.inf])
def test_candidates_that_failed_are_left_out(failed):
    results = results_of([1, 2, 4], [failed, 0.85, 0.9])
    assert smallest_within(0.1)(results) == 1
    assert smallest_within(0.01)(results) == 2


def test_candidates_without_the_parameter_are_left_out():
    results = results_of([None, 2, 4], [0.99, 0.85, 0.9])
    assert smallest_within(0.1)(results) == 1
    assert smallest_within(0)(results) == 2


def test_shares_are_sizes_too():
    assert smallest_within(0.1)(results_of([0.9, 0.5, 0.8], [0.9, 0.6, 0.85])) == 2


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([2, 0.5], {}, r"n_components.*\[2, 0\.5\].*all integers or all floats"),
        (["auto", 8], {}, r"\['auto', 8\].*all integers or all floats"),
        ([True, 8], {}, r"\[True, 8\].*all integers or all floats"),
        ([2, 4], {"parameter": "alpha"}, r"parameter='alpha'.*\['n_components'\]"),
        ([2, 4], {"scorer": "r2"}, r"scorer='r2'.*\['score'\]"),
    ],
)
def test_searches_that_the_rule_does_not_fit(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        smallest_within(**options)(results_of(sizes, [0.1, 0.2]))


def test_no_finite_score():
    with pytest.raises(ValueError, match=r"no candidate.*n_components.*finite"):
        smallest_within()(results_of([None, 2, 4], [0.5, np.nan, np.nan]))


def test_one_fold_has_no_standard_error():
    results = results_of([2, 4], [[0.8], [0.9]])
    assert smallest_within(0.2)(results) == 0
    with pytest.raises(ValueError, match=r"tolerance='one_standard_error' needs .* got 1"):
        smallest_within("one_standard_error")(results)


def test_one_parameter_is_found_by_its_name():
    names = ["pca__n_components", "n_components_min", "alpha"]
    results = results_of([None, None], [0.85, 0.9])
    results["params"] = [dict.fromkeys(names, value) for value in (2, 4)]
    assert smallest_within(0.1)(results) == 0
    for found in ([], ["pca__n_components", "n_components"]):
        results["params"] = [dict.fromkeys([*found, "alpha"], value) for value in (2, 4)]
        with pytest.raises(ValueError, match=r"parameter=None") as caught:
            smallest_within(0.1)(results)
        assert all(repr(name) in str(caught.value) for name in [*found, "alpha"])
    # The same results again, and the name given.
    assert smallest_within(0.1, "pca__n_components")(results) == 0


def test_one_of_several_scorers():
    results = results_of([2, 4], [0.85, 0.9], "r2") | results_of([2, 4], [0.5, 0.9], "accuracy")
    with pytest.raises(ValueError, match=r"scorer=None.*\['r2', 'accuracy'\]"):
        smallest_within(0.1)(results)
    assert smallest_within(0.1, scorer="r2")(results) == 0
    assert smallest_within(0.1, scorer="accuracy")(results) == 1
    assert smallest_within(0.1)(results_of([2, 4], [0.85, 0.9], "r2")) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tolerance": -0.1}, ValueError, r"tolerance=-0\.1"),
        ({"tolerance": np.nan}, ValueError, r"tolerance=nan"),
        ({"tolerance": "1se"}, ValueError, r"tolerance='1se'.*one_standard_error"),
        ({"tolerance": None}, TypeError, r"tolerance=None"),
        ({"tolerance": True}, TypeError, r"tolerance=True"),
        ({"parameter": 3}, TypeError, r"parameter=3"),
        ({"scorer": len}, TypeError, r"scorer=<built-in"),
    ],
)
def test_bad_options_are_found_before_the_search(options, error, message):
    with pytest.raises(error, match=message):
        smallest_within(**options)


def share_explained(pca, X, y=None):
    """Share of the variance explained, which grows with every component."""
    residual = np.square(X - pca.inverse_transform(pca.transform(X))).sum()
    return 1 - residual / np.square(X - pca.mean_).sum()


@pytest.mark.parametrize(
    ("search", "options"), [(GridSearchCV, {}), (RandomizedSearchCV, {"n_iter": 4})]
)
def test_search_refits_the_smallest(search, options, Xy):
    options = options | {"cv": 3, "scoring": share_explained}
    args = PCA(random_state=0), {"n_components": [32, 16, 4, 24]}
    largest = search(*args, **options).fit(Xy[0])
    assert largest.best_params_ == {"n_components": 32}
    chosen = search(*args, refit=smallest_within(0.1), **options).fit(Xy[0])
    means = chosen.cv_results_["mean_test_score"]
    sizes = np.array([candidate["n_components"] for candidate in chosen.cv_results_["params"]])
    size = sizes[means >= means.max() - 0.1].min()
    assert 4 < size < 32
    assert chosen.best_params_ == {"n_components": size}
    assert chosen.best_params_ == chosen.cv_results_["params"][chosen.best_index_]
    assert chosen.transform(Xy[0]).shape == (300, size)
    assert not hasattr(chosen, "best_score_")


def test_search_over_a_list_of_grids_and_several_scorers(Xy):
    pipeline = make_pipeline(PCA(random_state=0), KNeighborsClassifier())
    search = GridSearchCV(
        pipeline,
        [{"pca": ["passthrough"]}, {"pca__n_components": [2, 8, 16]}],
        cv=3,
        scoring=["accuracy", "f1_macro"],
        refit=smallest_within(0.05, scorer="accuracy"),
    ).fit(*Xy)
    accuracy = search.cv_results_["mean_test_accuracy"]
    within = accuracy[1:] >= accuracy[1:].max() - 0.05
    assert search.best_params_ == {"pca__n_components": [2, 8, 16][within.argmax()]}


def test_integers_and_shares_do_not_mix_in_a_search(Xy):
    search = GridSearchCV(
        PCA(svd_solver="full"), {"n_components": [2, 0.5]}, cv=2, refit=smallest_within()
    )
    with pytest.raises(ValueError, match=r"\[2, 0\.5\].*all integers or all floats"):
        search.fit(Xy[0])


def test_search_by_one_split(Xy):
    search = GridSearchCV(
        AutoencoderTransformer(hidden_layer_sizes=4, max_epochs=1, random_state=0),
        {"n_components": [2, 3]},
        cv=ShuffleSplit(1, random_state=0),
        refit=smallest_within(1.0),
    ).fit(Xy[0])
    assert search.best_estimator_.n_components == 2


@pytest.mark.parametrize(
    "rule", [smallest_within(), smallest_within("one_standard_error", "pca__n_components")]
)
def test_rule_is_a_parameter_like_others(rule, Xy):
    search = GridSearchCV(PCA(), {"n_components": [2, 4]}, refit=rule)
    results = results_of([2, 4], [0.85, 0.9], parameter="pca__n_components")
    for copied in (clone(search), pickle.loads(pickle.dumps(search))):
        assert copied.refit == rule
        assert copied.refit(results) == rule(results)
    assert repr(rule) in repr(search.get_params())
    assert eval(repr(rule)) == rule
    assert rule != smallest_within(0.5)
    assert hash(rule) == hash(clone(rule, safe=False))
