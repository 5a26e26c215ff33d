"""Training that goes on with rows far from those that fixed the scaling warns, once."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_iris

from skae import AutoencoderTransformer, VAEGenerator, load, save
from skae._data._drift import MIN_ROWS, warn_if_far
from skae._data._normal_scores import NormalScores
from skae._data._scaling import Scaler

METHODS = ["global", "standard", "robust", "minmax", "winsorized", None]


@pytest.fixture(scope="module")
def iris():
    """Rows sorted by species, whose petals differ."""
    return load_iris(as_frame=True).data


def messages(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(warning.message) for warning in caught]


def feed_in_pieces(model, X):
    for start in range(0, len(X), 10):
        model.partial_fit(X[start : start + 10])


def test_sorted_rows_warn_once(case, iris):
    model = case.make()
    (message,) = messages(lambda: feed_in_pieces(model, iris))
    assert "'petal length (cm)'" in message
    assert "above 4.55, far from those that fixed the scaling, 1.3 to 1.7" in message


def test_shuffled_rows_do_not_warn(case, iris):
    shuffled = iris.sample(frac=1, random_state=0)
    assert messages(lambda: feed_in_pieces(case.make(), shuffled)) == []


def test_the_score_of_sorted_rows_is_about_the_mean_of_all(iris):
    X = iris.to_numpy()
    model = AutoencoderTransformer(2, random_state=0)
    messages(lambda: feed_in_pieces(model, X))
    np.testing.assert_allclose(model.mean_, X.mean(axis=0))
    left = np.square(X - model.reconstruct(X)).sum()
    share = 1 - left / np.square(X - X.mean(axis=0)).sum()
    assert model.score(X) == pytest.approx(share)
    # About the mean of the first ten rows it would be 0.80.
    assert share < 0.6


def test_a_warm_start_warns_too(case, iris):
    model = case.make(warm_start=True).fit(iris[:50])
    with pytest.warns(UserWarning, match="far from those that fixed the scaling"):
        model.fit(iris[100:])
    assert messages(lambda: model.fit(iris[100:])) == []
    model.set_params(warm_start=False).fit(iris[:50])  # a new scaling
    with pytest.warns(UserWarning, match="far from those that fixed the scaling"):
        model.partial_fit(iris[100:])


def test_files_and_copies_warn_as_the_estimator_would(iris, tmp_path):
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(iris[:50])
    save(model, tmp_path / "model.skae")
    for other in (copy.deepcopy(model), load(tmp_path / "model.skae")):
        with pytest.warns(UserWarning, match="far from"):
            other.partial_fit(iris[100:])


def test_a_warning_that_is_an_error_leaves_the_model_as_it_was(iris):
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(iris[:50])
    Z, mean = model.transform(iris), model.mean_
    with pytest.raises(UserWarning, match="far from"):
        model.partial_fit(iris[100:])
    np.testing.assert_array_equal(model.transform(iris), Z)
    np.testing.assert_array_equal(model.mean_, mean)


@pytest.mark.parametrize("method", METHODS)
def test_random_pieces_do_not_warn(method):
    rng = np.random.default_rng(0)
    tables = [
        rng.normal(size=(2000, 20)),
        rng.exponential(size=(2000, 20)),
        rng.random((2000, 20)) < 0.05,
        rng.poisson(0.3, (2000, 20)),
        load_iris().data,
    ]
    for X in tables:
        X = X.astype(float)
        for _ in range(4):
            order = rng.permutation(len(X))
            scaler = Scaler(method).fit(X[order[:MIN_ROWS]])
            for start in range(MIN_ROWS, 130, 10):
                assert not warn_if_far(X[order[start : start + 10]], scaler, None)


@pytest.mark.parametrize("make", [*(lambda m=m: Scaler(m) for m in METHODS), None])
@pytest.mark.parametrize("shift", [-60.0, 60.0])
def test_a_shift_of_one_column_warns(make, shift):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    scaler = NormalScores([0] * 6).fit(X) if make is None else make().fit(X)
    far = rng.normal(size=(50, 6)) + shift * (np.arange(6) == 4)
    side = "above" if shift > 0 else "below"
    for rows in (far, sparse.csr_matrix(far), np.where(rng.random(far.shape) < 0.3, np.nan, far)):
        with pytest.warns(UserWarning, match=f"column 4 of X are {side}"):
            assert warn_if_far(rows, scaler, None)
    few = far[: MIN_ROWS - 1]
    far[:, 4] = np.nan  # nothing is known of it
    assert not warn_if_far(far, scaler, None)
    assert not warn_if_far(few, scaler, None)


@pytest.mark.filterwarnings("error")
def test_a_level_column_of_gaps_does_not_warn():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20})
    model = VAEGenerator(2, hidden_layer_sizes=4, random_state=0).partial_fit(frame)
    model.partial_fit(frame.assign(b=pd.Series([None] * 40, dtype=object)))


def test_few_first_rows_say_nothing_of_others(iris):
    model = AutoencoderTransformer(2, random_state=0).partial_fit(iris[: MIN_ROWS - 1])
    assert messages(lambda: model.partial_fit(iris[100:])) == []
