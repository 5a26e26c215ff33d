"""Estimators work in scikit-learn's pipelines, searches and column transformers."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer


def make(n_components=2, **params):
    small = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
    return AutoencoderTransformer(n_components, **{**small, **params})


def test_pipeline_and_searches():
    X, y = load_digits(return_X_y=True)
    X, y = X[:150], y[:150]
    pipe = make_pipeline(StandardScaler(), make(), KNeighborsClassifier())
    grid = {"autoencodertransformer__n_components": [1, 6]}
    search = GridSearchCV(pipe, grid, cv=3, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"autoencodertransformer__n_components": 6}
    # 0.93 over five seeds.
    assert search.best_score_ > 0.5
    # The processes computed what this one computes.
    here = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    assert_array_equal(here.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    scores = cross_val_score(pipe, X, y, cv=3)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


def test_grid_search_without_labels_or_scorer(table):
    search = GridSearchCV(make(), {"n_components": [1, 2, 3]}, cv=3, n_jobs=2).fit(table)
    assert search.best_params_ == {"n_components": 3}
    assert (np.diff(search.cv_results_["mean_test_score"]) > 0).all()


def test_halving_search(table):
    search = HalvingGridSearchCV(
        make(), {"n_components": [1, 3]}, cv=2, min_resources=20, random_state=0
    ).fit(table)
    assert search.best_params_ == {"n_components": 3}


def test_column_transformer_and_feature_union(table):
    frame = pd.DataFrame(table, columns=[f"c{i}" for i in range(10)])
    frame["kind"] = np.where(table[:, 0] > 3, "a", "b")
    columns = ColumnTransformer(
        [("latents", make(), [f"c{i}" for i in range(10)]), ("kind", OneHotEncoder(), ["kind"])]
    )
    assert columns.fit_transform(frame).shape == (120, 4)
    assert list(columns.get_feature_names_out())[:2] == [
        "latents__autoencodertransformer0",
        "latents__autoencodertransformer1",
    ]
    union = FeatureUnion([("pca", PCA(2)), ("latents", make(3))])
    assert union.fit_transform(table).shape == (120, 5)


def test_last_in_a_pipeline(case, table):
    pipeline = make_pipeline(StandardScaler(), case.make()).fit(table)
    alone = case.make().fit(StandardScaler().fit_transform(table))
    for method in set(case.row_methods) & set(dir(pipeline)):
        expected = getattr(alone, method)(StandardScaler().fit_transform(table))
        assert_array_equal(getattr(pipeline, method)(table), expected)


# The detector is searched with a scorer on labels; it has no score of its own.
@pytest.mark.parametrize("case", ["transformer", "denoiser", "generator"], indirect=True)
def test_searches_without_labels_or_scorer(case, table):
    search = GridSearchCV(case.make(), {"n_components": [1, 3]}, cv=2).fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.n_components_ == search.best_params_["n_components"]


# The detector is no transformer.
@pytest.mark.parametrize("case", ["transformer", "denoiser", "generator"], indirect=True)
def test_in_a_column_transformer(case, table):
    columns = ColumnTransformer([("one", case.make(), [0, 1, 2, 3]), ("two", "passthrough", [4])])
    out = columns.fit_transform(table)
    model = columns.named_transformers_["one"]
    assert_array_equal(out[:, :-1], model.transform(table[:, :4]))
    names = [f"one__{name}" for name in model.get_feature_names_out()]
    assert list(columns.get_feature_names_out())[:-1] == names
