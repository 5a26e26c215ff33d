"""What every user of a scikit-learn estimator may rely on."""

import copy
import inspect
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.callbacks import Callback, EarlyStopping, EpochScoring
from torch import nn

from skae import AutoencoderTransformer
from skae._data import _chunks
from skae._data._scaling import Scaler
from skae._engine import _batches, _joint_training
from skae._engine._net import AutoencoderNet
from skae._onnx_hooks import ANSWERS
from skae.exceptions import DivergenceError, TrainingInterruptedWarning

SMALL = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


def make(n_components=2, **params):
    return AutoencoderTransformer(n_components, **{**SMALL, **params})


class LinearNetwork:
    """A user's own network, with torch's own dropout and its global generator."""

    def __init__(self, dropout=0.0, n_out=None):
        self.dropout = dropout
        self.n_out = n_out

    def __repr__(self):
        return f"LinearNetwork(dropout={self.dropout})"

    def build(self, n_features, n_components):
        encoder = nn.Sequential(
            nn.Linear(n_features, 6),
            nn.Tanh(),
            nn.Dropout(self.dropout),
            nn.Linear(6, n_components),
        )
        return encoder, nn.Linear(n_components, self.n_out or n_features)


# Data in, data out.


@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", "robust", None])
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_is_dense(container, scaling, table):
    X = table * (table > 3)
    dense = make(scaling=scaling).fit(X)
    model = make(scaling=scaling).fit(container(X))
    S = container(X)
    assert_allclose(model.transform(S), dense.transform(X), rtol=1e-4, atol=1e-5)
    assert_allclose(model.reconstruct(S), dense.reconstruct(X), rtol=1e-4, atol=1e-5)
    assert_allclose(model.reconstruction_error(S), dense.reconstruction_error(X), rtol=1e-3)
    assert_allclose(model.score(S), dense.score(X), rtol=1e-5)
    assert isinstance(model.transform(S), np.ndarray)


@pytest.mark.parametrize("init", ["random", "pca"])
def test_sparse_is_never_densified_whole(init, monkeypatch):
    X = sparse.random(3000, 2000, density=0.001, random_state=0, dtype=np.float32)
    X = sparse.csr_array(X)
    rows_seen, toarray = [], sparse.csr_array.toarray

    def spy(self, *args, **kwargs):
        rows_seen.append(self.shape[0])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(sparse.csr_array, "toarray", spy)
    monkeypatch.setattr(_batches, "MAX_COPY_BYTES", 2**20)
    model = make(init=init, max_epochs=1).fit(X)
    model.transform(X)
    model.score(X)
    assert len(rows_seen) > 20
    assert max(rows_seen) < 3000


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n_rows", [300, 1200])
def test_memmap_gives_the_bits_of_the_array(n_rows, streamed, digits, tmp_path, monkeypatch):
    if streamed:
        monkeypatch.setattr(_batches, "MAX_COPY_BYTES", 0)
        monkeypatch.setattr(_chunks, "RELEASE_BYTES", 1000)
    X = digits[:n_rows]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    a, b = make(4).fit(X), make(4).fit(mapped)
    assert_array_equal(a.transform(X), b.transform(mapped))
    assert_array_equal(a.reconstruct(X), b.reconstruct(mapped))
    assert_array_equal(mapped, X)


@pytest.mark.parametrize("n_rows", [300, 1200])
def test_streamed_rows_train_as_well_as_rows_in_memory(n_rows, digits, monkeypatch):
    X = digits[:n_rows]
    a = make(4, max_epochs=8).fit(X)
    monkeypatch.setattr(_batches, "MAX_COPY_BYTES", 0)
    b = make(4, max_epochs=8).fit(X)
    assert_allclose(a.score(X), b.score(X), atol=0.01)
    assert_allclose(a.loss_curve_, b.loss_curve_, rtol=0.03)


@pytest.mark.parametrize(
    ("dtype", "out"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float64),
        (np.int64, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
        (object, np.float64),
    ],
)
def test_dtypes(dtype, out, digits):
    X = (digits[:60] > 0.5).astype(dtype)
    model = make().fit(X)
    for result in (
        model.transform(X),
        model.reconstruct(X),
        model.reconstruction_error(X),
        model.inverse_transform(model.transform(X)),
    ):
        assert result.dtype == out
        assert np.isfinite(result).all()
    assert 0 < model.score(X) <= 1
    reference = make().fit(X.astype(float))
    assert_allclose(model.transform(X), reference.transform(X.astype(float)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, 1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.tolist(),
        lambda X: X.astype(">f8"),
    ],
    ids=["fortran", "strided", "reversed", "list", "big-endian"],
)
def test_memory_layout_does_not_matter(view, table):
    a, b = make().fit(table), make().fit(view(table))
    assert_allclose(b.transform(view(table)), a.transform(table), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames(frame, table):
    names = [f"c{i}" for i in range(10)]
    X = frame(dict(zip(names, table.T, strict=True)))
    model = make().fit(X)
    assert list(model.feature_names_in_) == names
    out = model.transform(X)
    assert isinstance(out, np.ndarray)
    assert_allclose(out, make().fit(table).transform(table), rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="valid feature names"):
        model.transform(table)
    assert model.score(X) == pytest.approx(make().fit(table).score(table), abs=1e-4)


def test_integer_frame_of_mixed_types(table):
    X = pd.DataFrame({"a": np.arange(120), "b": table[:, 0].astype("f"), "c": table[:, 1] > 3})
    assert make().fit(X).transform(X).dtype == np.float64


def test_input_is_never_written_to(table):
    X = table.copy()
    before = X.copy()
    for scaling in ("global", None):
        model = make(scaling=scaling, input_noise=1.0).fit(X)
        Z = model.transform(X)
        kept = Z.copy()
        model.inverse_transform(Z)
        model.partial_fit(X)
        model.score(X)
        assert_array_equal(Z, kept)
    assert_array_equal(X, before)


def test_one_row_is_that_row_of_a_batch(digits):
    model = make(4).fit(digits[:200])
    Z, back = model.transform(digits), model.reconstruct(digits)
    for i in (0, 7, 1796):
        assert_allclose(model.transform(digits[i : i + 1])[0], Z[i], rtol=1e-4, atol=1e-5)
        assert_allclose(model.reconstruct(digits[i : i + 1])[0], back[i], rtol=1e-4, atol=1e-5)


def test_inference_in_pieces(digits, monkeypatch):
    model = make(4).fit(digits[:200])
    whole = model.transform(digits), model.reconstruct(digits), model.score(digits)
    monkeypatch.setattr("skae._engine._inference.INFERENCE_BYTES", 1)
    assert_allclose(model.transform(digits), whole[0], rtol=1e-4, atol=1e-5)
    assert_allclose(model.reconstruct(digits), whole[1], rtol=1e-4, atol=1e-5)
    assert_allclose(model.score(digits), whole[2], rtol=1e-5)


# Shapes of every kind.


@pytest.mark.parametrize("n_rows", [2, 3, 4, 5, 15, 16, 17, 33])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_any_number_of_rows(n_rows, early_stopping, table):
    """No row is lost in a short last batch, and no batch is empty (PyOD, D3)."""
    model = make(batch_size=16, early_stopping=early_stopping).fit(table[:n_rows])
    assert model.transform(table[:n_rows]).shape == (n_rows, 2)
    assert np.isfinite(model.reconstruct(table)).all()
    assert len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize("n_rows", [1000, 1152, 1153])
def test_around_the_end_of_a_batch(n_rows, digits):
    model = make().fit(digits[:n_rows])
    assert np.isfinite(model.loss_curve_).all()


def test_one_row_is_not_enough(table):
    with pytest.raises(ValueError, match=r"1 sample.*minimum of 2"):
        make().fit(table[:1])


@pytest.mark.parametrize("n_components", [1, 2, 0.9, "auto"])
def test_one_column(n_components, table):
    X = table[:, :1]
    model = make(n_components).fit(X)
    assert model.transform(X).shape == (120, model.n_components_)
    assert model.score(X) > 0.9


@pytest.mark.parametrize("n_components", [2, 0.9])
@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", "robust", None])
def test_constant_columns_come_back(scaling, n_components, table):
    X = table.copy()
    X[:, 2] = 7.5
    model = make(n_components, scaling=scaling, hidden_layer_sizes=(16,)).fit(X)
    back = model.reconstruct(X)
    assert np.isfinite(back).all()
    assert_allclose(back[:, 2], 7.5, atol=0.1)


@pytest.mark.parametrize("n_components", [2, 0.9, "auto"])
def test_identical_rows(n_components, table):
    X = np.repeat(table[:1], 30, axis=0)
    model = make(n_components).fit(X)
    assert np.isfinite(model.transform(X)).all()
    assert_allclose(model.reconstruct(X), X, rtol=1e-4)


def test_two_distinct_rows_many_times(table):
    X = np.tile(table[:2], (30, 1))
    model = make(1, learning_rate=1e-12).fit(X)
    assert_allclose(model.reconstruct(X), X, rtol=1e-3)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(offset, unit, table):
    X = table * unit
    model = make(3).fit(X)
    shifted = make(3).fit(X + offset * unit)
    assert_allclose(model.score(X), make(3).fit(table).score(table), atol=1e-3)
    assert_allclose(shifted.score(X + offset * unit), model.score(X), atol=1e-3)


def test_wide_rows(table):
    X = np.random.default_rng(0).normal(size=(20, 300))
    model = make(3).fit(X)
    assert model.transform(X).shape == (20, 3)
    assert make("auto").fit(X).n_components_ <= 20


# Weights.


@pytest.mark.parametrize("weight", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("n_rows", [120, 1100])
def test_equal_weights_are_none(weight, n_rows, digits):
    X = digits[:n_rows]
    a, b = make().fit(X), make().fit(X, sample_weight=np.full(n_rows, weight))
    assert_array_equal(a.transform(X), b.transform(X))
    assert a.loss_curve_ == b.loss_curve_
    assert a.validation_loss_curve_ == b.validation_loss_curve_


@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", "robust"])
@pytest.mark.parametrize("n_components", [2, 0.8])
def test_zero_weight_is_absence(n_components, scaling, table):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, size=120).astype(float)
    X = table.copy()
    X[weight == 0] *= 1e3  # would be seen anywhere: range, median, mean, validation
    kept = weight > 0
    a = make(n_components, scaling=scaling).fit(X, sample_weight=weight)
    b = make(n_components, scaling=scaling).fit(X[kept], sample_weight=weight[kept])
    assert_array_equal(a.transform(table), b.transform(table))
    assert_array_equal(a.reconstruct(table), b.reconstruct(table))
    assert a.validation_loss_curve_ == b.validation_loss_curve_
    assert_array_equal(a.mean_, b.mean_)


def test_zero_weight_is_absence_in_partial_fit(table):
    weight = np.r_[np.zeros(20), np.ones(100)]
    a = make().partial_fit(table, sample_weight=weight).partial_fit(table, sample_weight=weight)
    b = make().partial_fit(table[20:]).partial_fit(table[20:])
    assert_array_equal(a.transform(table), b.transform(table))


def test_weights_lead_attention():
    """Integer weights equal repeated rows in expectation over seeds.

    Two bent curves in different planes share one latent. The one that counts four times as
    much is told better, and by as much as if its rows stood there four times.
    """
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=100)
    noise = 0.05 * rng.normal(size=(100, 4))
    X = np.column_stack([t, t**2, 0 * t, 0 * t]) + noise
    X[50:] = X[50:, [2, 3, 0, 1]]
    first = np.arange(100) < 50

    def errors(weights, repeated):
        found = []
        for seed in range(6):
            model = AutoencoderTransformer(
                1,
                hidden_layer_sizes=(16,),
                max_epochs=40,
                batch_size=50,
                early_stopping=False,
                learning_rate=5e-3,
                random_state=seed,
            )
            if repeated:
                model.set_params(max_epochs=16)  # as many steps
                model.fit(np.repeat(X, weights, axis=0))
            else:
                model.fit(X, sample_weight=weights)
            each = model.reconstruction_error(X)
            found.append([each[first].mean(), each[~first].mean()])
        return np.array(found)

    weighted = errors(np.where(first, 4, 1), repeated=False)
    repeated = errors(np.where(first, 4, 1), repeated=True)
    plain = errors(np.ones(100, dtype=int), repeated=False)
    spread = np.sqrt((weighted.var(axis=0, ddof=1) + repeated.var(axis=0, ddof=1)) / 6)
    gap = np.abs(weighted.mean(axis=0) - repeated.mean(axis=0))
    assert (gap < 4 * spread + 0.1 * repeated.mean(axis=0)).all(), (weighted, repeated)
    # A sharp test: without the weights it would fail.
    lost = np.abs(plain.mean(axis=0) - repeated.mean(axis=0))
    assert (lost > 2 * (4 * spread + 0.1 * repeated.mean(axis=0))).any(), (plain, repeated)
    assert (weighted[:, 0].mean() < plain[:, 0].mean()) & (
        weighted[:, 1].mean() > plain[:, 1].mean()
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(120), "Negative"),
        (np.ones(119), "shape"),
        (np.full(120, np.nan), "NaN"),
        (np.zeros(120), "zero|positive"),
        (np.eye(120)[0], "positive weight"),
    ],
)
def test_bad_weights(weight, message, table):
    with pytest.raises(ValueError, match=message):
        make().fit(table, sample_weight=weight)


# Going on.


def test_partial_fit_learns(digits):
    model = AutoencoderTransformer(8, random_state=0)
    model.partial_fit(digits[:64])
    start = model.score(digits)
    for _ in range(15):
        for batch in np.array_split(digits, 6):
            assert model.partial_fit(batch) is model
    assert model.score(digits) > start + 0.05
    assert model.score(digits) > PCA(8).fit(digits).explained_variance_ratio_.sum()


def test_partial_fit_fixes_the_statistics_at_the_first_call(table):
    model = make().partial_fit(table[:5])
    mean = model.mean_.copy()
    model.partial_fit(100 + table)
    assert_array_equal(model.mean_, mean)
    assert_allclose(mean, table[:5].mean(axis=0))
    assert model.n_features_in_ == 10


def test_partial_fit_from_two_rows_then_one(table):
    model = make().partial_fit(table[:2])
    model.partial_fit(table[:1])
    assert np.isfinite(model.transform(table)).all()
    with pytest.raises(ValueError, match="minimum of 2"):
        make().partial_fit(table[:1])


def test_partial_fit_after_fit_goes_on(table):
    model = make().fit(table)
    before = model.transform(table)
    model.partial_fit(table)
    after = model.transform(table)
    assert not np.array_equal(before, after)
    assert_allclose(before, after, atol=0.5)


@pytest.mark.parametrize("n_components", [2, 0.8])
def test_partial_fit_after_fit_adds_to_the_curves(n_components):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1100, 6)) @ rng.normal(size=(6, 60)) + 0.1 * rng.normal(size=(1100, 60))
    model = make(n_components).fit(X)
    curve = list(model.loss_curve_)
    model.partial_fit(X)
    assert_allclose(model.loss_curve_[:3], curve)
    assert len(model.loss_curve_) == model.n_iter_ == 4
    assert model.loss_curve_[3] < 2 * curve[-1]


def test_partial_fit_calls_are_one_network(table):
    """Two calls are not one call, and a fit starts anew."""
    once = make().partial_fit(table)
    twice = copy.deepcopy(once).partial_fit(table)
    assert not np.array_equal(once.transform(table), twice.transform(table))
    assert_array_equal(twice.fit(table).transform(table), make().fit(table).transform(table))


@pytest.mark.parametrize("method", ["transform", "partial_fit", "reconstruct", "score"])
def test_number_of_features_must_agree(method, table):
    model = make().fit(table)
    with pytest.raises(ValueError, match=r"9 features.*10 features"):
        getattr(model, method)(table[:, :9])


@pytest.mark.parametrize("n_rows", [120, 1200])
def test_warm_start_goes_on_from_where_it_was(n_rows, digits):
    X = digits[:n_rows]
    model = AutoencoderTransformer(
        4, hidden_layer_sizes=32, warm_start=True, max_epochs=15, random_state=0
    ).fit(X)
    before = model.score(X)
    model.set_params(learning_rate=1e-12, max_epochs=1).fit(X)
    assert model.score(X) > before - 0.01
    model.set_params(learning_rate="auto", max_epochs=15).fit(X)
    assert model.score(X) > before
    cold = clone(model).fit(X)
    assert cold.score(X) < model.score(X)


def test_warm_start_keeps_scaling(table):
    model = make(warm_start=True).fit(table)
    mean = model.mean_
    model.fit(table + 1)
    assert_array_equal(model.mean_, mean)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_components": 3}, "n_components=3"), ({"hidden_layer_sizes": (9,)}, "warm_start")],
)
def test_warm_start_with_another_network(params, message, table):
    model = make(warm_start=True).fit(table)
    Z = model.transform(table)
    with pytest.raises(ValueError, match=message):
        model.set_params(**params).fit(table)
    assert_array_equal(model.transform(table), Z)
    with pytest.raises(ValueError, match="9 features"):
        make(warm_start=True).fit(table).fit(table[:, :9])


def test_refit_forgets(table, wine):
    model = make().fit(wine)
    model.fit(table)
    assert model.n_features_in_ == 10
    assert_array_equal(model.transform(table), make().fit(table).transform(table))


# In scikit-learn's company.


def test_pipeline_and_searches():
    X, y = load_digits(return_X_y=True)
    X, y = X[:150], y[:150]
    pipe = make_pipeline(StandardScaler(), make(), KNeighborsClassifier())
    grid = {"autoencodertransformer__n_components": [1, 6]}
    search = GridSearchCV(pipe, grid, cv=3, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"autoencodertransformer__n_components": 6}
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


def test_clone_leaves_parameters_and_takes_no_fit(table):
    network = LinearNetwork()
    model = make(network=network, callbacks=[]).fit(table)
    other = clone(model)
    assert {k: repr(v) for k, v in other.get_params().items() if k != "network"} == {
        k: repr(v) for k, v in model.get_params().items() if k != "network"
    }
    with pytest.raises(NotFittedError):
        other.transform(table)


def joblib_round_trip(model):
    buffer = BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tied_weights": True},
        {"n_components": 0.7},
        {"network": LinearNetwork()},
        {"dropout": 0.2},
        {"early_stopping": False},
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "round_trip",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, joblib_round_trip],
    ids=["pickle", "deepcopy", "joblib"],
)
def test_copies_transform_alike(round_trip, params, table):
    model = make(**params).fit(table)
    other = round_trip(model)
    assert_array_equal(other.transform(table), model.transform(table))
    assert_array_equal(other.reconstruct(table), model.reconstruct(table))
    assert other.get_params().keys() == model.get_params().keys()
    other.partial_fit(table)
    reference = copy.deepcopy(model).partial_fit(table)
    assert_array_equal(other.transform(table), reference.transform(table))


def test_copies_are_independent(table):
    model = make().fit(table)
    Z = model.transform(table)
    other = copy.deepcopy(model)
    other.partial_fit(table)
    shallow = copy.copy(model)
    shallow.partial_fit(table)
    assert_array_equal(model.transform(table), Z)


def test_pickle_is_small(table):
    """One copy of the weights and no optimiser state of a network nobody trains."""
    model = make().fit(table)
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    assert len(pickle.dumps(model)) < 4 * 4 * n_weights + 40_000


def test_surface_is_small():
    """Skorch's names stay inside ``net_``."""
    public = {n for n in dir(AutoencoderTransformer()) if not n.startswith("_")}
    attributes = public - set(AutoencoderTransformer().get_params()) - set(ANSWERS)
    assert attributes == {
        "fit",
        "partial_fit",
        "fit_transform",
        "transform",
        "inverse_transform",
        "encode",
        "decode",
        "reconstruct",
        "reconstruction_error",
        "score",
        "get_feature_names_out",
        "set_output",
        "get_params",
        "set_params",
        "get_metadata_routing",
        "set_fit_request",
        "set_partial_fit_request",
        "set_score_request",
    }


# Randomness.

NETWORKS = {
    "default": {},
    "dropout": {"dropout": 0.3},
    "ordered": {"n_components": 0.8},
    "own": {"network": LinearNetwork()},
    "own dropout": {"network": LinearNetwork(dropout=0.3)},
}


@pytest.mark.parametrize("params", NETWORKS.values(), ids=NETWORKS)
def test_global_generators_are_left_alone(params, table):
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    model = make(**params).fit(table)
    model.partial_fit(table)
    model.transform(table)
    assert_array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


@pytest.mark.parametrize("n_rows", [150, 1100])
@pytest.mark.parametrize("params", NETWORKS.values(), ids=NETWORKS)
def test_same_seed_same_bits(params, n_rows, digits):
    X = digits[:n_rows]
    first = make(early_stopping=n_rows > 1000, **params).fit(X)
    torch.rand(3)
    second = make(early_stopping=n_rows > 1000, **params).fit(X)
    assert_array_equal(first.transform(X), second.transform(X))
    assert first.loss_curve_ == second.loss_curve_


def test_seeds_matter(table):
    def fit(seed):
        return make(init="random", random_state=seed).fit(table).transform(table)

    assert not np.array_equal(fit(0), fit(1))
    assert not np.array_equal(fit(None), fit(None))
    rng = np.random.RandomState(0)
    assert not np.array_equal(fit(rng), fit(rng))
    assert_array_equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))


def fit_transform(seed, X, params):
    return make(random_state=seed, early_stopping=False, **params).fit_transform(X)


@pytest.mark.parametrize("params", NETWORKS.values(), ids=NETWORKS)
def test_same_bits_from_threads(params, digits):
    X = digits[:400]
    alone = [fit_transform(seed, X, params) for seed in (0, 1)]
    start = threading.Barrier(2)

    def run(seed):
        start.wait()
        return fit_transform(seed, X, params)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            for together, expected in zip(pool.map(run, (0, 1)), alone, strict=True):
                assert_array_equal(together, expected)


def test_same_bits_from_processes(digits):
    X = digits[:300]
    there = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(fit_transform)(seed, X, {}) for seed in (0, 1)
    )
    for seed in (0, 1):
        assert_array_equal(there[seed], fit_transform(seed, X, {}))


def test_scores_are_not_random(table):
    """No method draws after training (PyOD D2, pythae D14)."""
    model = make(dropout=0.5, latent_noise=1.0, input_noise=1.0, n_components=0.9).fit(table)
    for method in (model.transform, model.reconstruct, model.reconstruction_error, model.score):
        assert_array_equal(method(table), method(table))


# Failing.

BAD_X = {
    "NaN": (lambda X: np.where(X.max() - 1e-9 < X, np.nan, X), "NaN"),
    "infinity": (lambda X: np.where(X.max() - 1e-9 < X, np.inf, X), "infinity"),
    "1-D": (lambda X: X[:, 0], "2D array"),
    "3-D": (lambda X: X[None], "3"),
    "strings": (lambda X: X.astype(str).astype(object) + "a", "string|convert|numeric"),
    "complex": (lambda X: X + 1j, "[Cc]omplex"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_X.values(), ids=BAD_X)
def test_bad_rows(spoil, message, table):
    for method in ("fit", "partial_fit", "fit_transform"):
        with pytest.raises(ValueError, match=message):
            getattr(make(), method)(spoil(table))
    model = make().fit(table)
    for method in ("transform", "score", "reconstruct", "reconstruction_error"):
        with pytest.raises(ValueError, match=rf"{message}|features"):
            getattr(model, method)(spoil(table))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_latents(value, table):
    model = make().fit(table)
    with pytest.raises(ValueError, match=r"Z contains|contains (NaN|infinity)"):
        model.inverse_transform(np.full((2, 2), value))


BAD_PARAMETERS = [
    ("n_components", 0),
    ("n_components", -3),
    ("n_components", 1.0),
    ("n_components", 1.5),
    ("n_components", 0.0),
    ("n_components", "all"),
    ("n_components", None),
    ("hidden_layer_sizes", 0),
    ("hidden_layer_sizes", "wide"),
    ("activation", "sin"),
    ("network", "mlp"),
    ("init", "zeros"),
    ("loss", "mse"),
    ("output_activation", "softmax"),
    ("tied_weights", "yes"),
    ("l1", -1),
    ("sparsity", -0.1),
    ("sparsity_penalty", "l2"),
    ("sparsity_target", 0.0),
    ("sparsity_target", 1.0),
    ("input_noise", -1),
    ("latent_noise", -1),
    ("dropout", 1.0),
    ("dropout", -0.1),
    ("scaling", "unit"),
    ("ordered", "yes"),
    ("alpha", -1),
    ("learning_rate", 0),
    ("learning_rate", np.nan),
    ("batch_size", 0),
    ("max_epochs", 0),
    ("max_epochs", 2.5),
    ("early_stopping", 3),
    ("validation_fraction", 0.0),
    ("validation_fraction", 1.0),
    ("n_iter_no_change", 0),
    ("warm_start", "no"),
    ("device", 3),
    ("device", "abacus"),
    ("precision", "float8"),
    ("callbacks", "print"),
    ("random_state", "x"),
    ("verbose", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD_PARAMETERS)
def test_bad_parameters_are_named(name, value, table):
    with pytest.raises(ValueError, match=name) as caught:
        make(**{name: value}).fit(table)
    assert repr(value) in str(caught.value)


def test_every_parameter_has_a_bad_value():
    assert {name for name, _ in BAD_PARAMETERS} == set(AutoencoderTransformer().get_params())


@pytest.mark.parametrize("n_rows", [5, 1000])
def test_validation_that_leaves_no_rows(n_rows, digits):
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9999"):
        make(validation_fraction=0.9999).fit(digits[:n_rows])


@pytest.mark.parametrize("n_rows", [120, 1200])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_divergence_says_what_to_lower(n_rows, early_stopping, loss, digits):
    model = make(learning_rate=1e6, loss=loss, early_stopping=early_stopping)
    with pytest.raises(DivergenceError, match=r"learning_rate=1000000\.0.*Lower learning_rate"):
        model.fit(digits[:n_rows])
    assert not hasattr(model, "net_")


@pytest.mark.parametrize("rate", [1e6, 1e30, 1e38])
def test_divergence_in_the_last_step_is_seen(rate, table):
    model = make(learning_rate=rate, max_epochs=1, batch_size=200, early_stopping=False)
    with pytest.raises(DivergenceError, match="learning_rate"):
        model.fit(table)
    assert not hasattr(model, "net_")


def test_divergence_in_partial_fit(table):
    model = make(learning_rate=1e12, batch_size=16)
    with pytest.raises(DivergenceError, match="learning_rate"):
        model.partial_fit(table)


def test_values_too_large_for_float32_never_give_nan(table):
    X = table * 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow in the variance
        try:
            Z = make().fit_transform(X)
        except ValueError:
            return
    assert np.isfinite(Z).all()


def test_a_first_fit_that_fails_leaves_nothing(table):
    model = make(learning_rate=1e6)
    before = vars(model).copy()
    for X in (table, table * np.nan, table[:1]):
        with pytest.raises(ValueError, match=r"."):
            model.fit(X)
        assert vars(model) == before


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_later_fit_that_fails_leaves_the_earlier_one(method, warm_start, table, monkeypatch):
    model = make(warm_start=warm_start).fit(table)
    Z, before = model.transform(table), vars(model).copy()

    step, done = AutoencoderNet._step, []

    def fail(self, batch):
        if done:
            raise RuntimeError("out of memory")
        done.append(step(self, batch))
        return done[0]

    monkeypatch.setattr(AutoencoderNet, "_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        getattr(model, method)(table + 5)
    assert vars(model).keys() == before.keys()
    assert_array_equal(model.transform(table), Z)
    with pytest.raises(ValueError, match="NaN"):
        getattr(model, method)(table * np.nan)
    with pytest.raises(ValueError, match=r"features|minimum"):
        model.partial_fit(table[:, :3])
    assert_array_equal(model.transform(table), Z)


def test_y_is_ignored(table):
    plain = make().fit(table)
    for y in (np.arange(120), ["a", "b"] * 60, "anything", np.full(3, np.nan)):
        model = make().fit(table, y)
        assert_array_equal(model.transform(table), plain.transform(table))
        assert model.score(table, y) == plain.score(table)


def test_unfitted(table):
    for method in (
        "transform",
        "inverse_transform",
        "encode",
        "decode",
        "reconstruct",
        "score",
        "reconstruction_error",
    ):
        with pytest.raises(NotFittedError, match="AutoencoderTransformer"):
            getattr(AutoencoderTransformer(), method)(table)


# Interrupting, watching, telling.


def interrupt_at(monkeypatch, step_number):
    """Ctrl-C, once, in the middle of a step; how many steps were begun is counted."""
    step, begun = AutoencoderNet._step, []

    def interrupted(self, batch):
        begun.append(1)
        if len(begun) == step_number:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    return begun


@pytest.mark.parametrize("n_rows", [120, 1200])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("at", [1, 5, 25])
def test_ctrl_c_keeps_the_best_network_and_stops(at, early_stopping, n_rows, digits, monkeypatch):
    X = digits[:n_rows]
    begun = interrupt_at(monkeypatch, at)
    model = make(4, max_epochs=30, batch_size=128)
    model.set_params(early_stopping=early_stopping)
    with pytest.warns(TrainingInterruptedWarning, match="interrupted after"):
        model.fit(X)
    assert len(begun) == at  # one Ctrl-C is enough
    assert model.n_iter_ < 30
    assert model.transform(X).shape == (n_rows, 4)
    assert model.score(X) > 0.3
    model.partial_fit(X)


@pytest.mark.parametrize(
    ("n_rows", "place", "name"),
    [(120, _joint_training, "member_losses"), (1200, AutoencoderNet, "validation_loss")],
)
def test_ctrl_c_while_validating_is_told_too(n_rows, place, name, digits, monkeypatch):
    validate, calls = getattr(place, name), []

    def interrupted(net, rows):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return validate(net, rows)

    monkeypatch.setattr(place, name, interrupted)
    with pytest.warns(TrainingInterruptedWarning):
        model = make().fit(digits[:n_rows])
    assert model.score(digits) > 0.2


def test_ctrl_c_before_training_is_a_plain_one(table, monkeypatch):
    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Scaler, "fit", interrupted)
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert not hasattr(model, "net_")


class Recorder(Callback):
    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def initialize(self):
        self.calls_ = []
        return self

    def on_train_begin(self, net, **kwargs):
        self.calls_.append("begin")

    def on_epoch_end(self, net, **kwargs):
        self.calls_.append("epoch")
        if self.stop_at == self.calls_.count("epoch"):
            raise KeyboardInterrupt

    def on_train_end(self, net, **kwargs):
        self.calls_.append("end")


class BatchRecorder(Recorder):
    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.calls_.append("batch" if training else "validation")

    def on_batch_end(self, net, batch=None, training=None, **kwargs):
        self.calls_.append("after")

    def on_grad_computed(self, net, named_parameters=None, **kwargs):
        assert dict(named_parameters)
        self.calls_.append("grad")


@pytest.fixture
def history_of(table):
    def fit(callback, **params):
        model = make(callbacks=[callback], early_stopping=False, batch_size=50, **params)
        model.fit(table)
        recorder = next(c for _, c in model.net_.callbacks_ if isinstance(c, Recorder))
        return model, recorder.calls_

    return fit


def test_epoch_callbacks(history_of):
    _, calls = history_of(Recorder())
    assert calls == ["begin", "epoch", "epoch", "epoch", "end"]


def test_batch_callbacks_and_the_same_bits(history_of, table):
    model, calls = history_of(BatchRecorder())
    assert calls.count("batch") == calls.count("grad") == 3 * 3
    assert calls.count("after") == 9
    plain, _ = history_of(Recorder())
    assert_array_equal(model.transform(table), plain.transform(table))
    assert_allclose(model.loss_curve_, plain.loss_curve_, rtol=1e-5)


def test_batch_callbacks_with_validation(digits):
    X = digits[:1100]
    watched, plain = make(callbacks=[BatchRecorder()]).fit(X), make().fit(X)
    assert_array_equal(watched.transform(X), plain.transform(X))
    assert_allclose(watched.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-5)


def test_callbacks_watch_one_training_on_few_rows(digits):
    """One split and no folds: the validation loss is there for skorch's EarlyStopping."""
    recorder = Recorder()
    model = make(callbacks=[recorder, EarlyStopping()], max_epochs=4).fit(digits[:100])
    assert len(model.validation_loss_curve_) == model.n_iter_ + 1
    assert len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize(
    "change",
    [{"init": "random"}, {"loss": "huber"}, {"latent_noise": 1.0}, {"n_components": 3}],
)
def test_training_goes_on_only_with_the_same_network(change, table):
    name = next(iter(change))
    model = make(2, warm_start=True).fit(table)
    before = model.transform(table)
    model.set_params(**change)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=f"^{name}="):
            method(table)
    assert_array_equal(model.set_params(warm_start=False).transform(table), before)


def test_one_weighted_row_is_enough_later(table):
    model = make(2).partial_fit(table)
    model.partial_fit(table[:2], sample_weight=[1.0, 0.0])
    assert model.n_iter_ == 2


def test_a_callback_may_stop_training(history_of):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no interruption
        model, calls = history_of(Recorder(stop_at=2), max_epochs=10)
    assert calls == ["begin", "epoch", "epoch", "end"]
    assert model.n_iter_ == 2


def test_callback_instances_belong_to_the_user(table):
    callback = Recorder()
    model = make(callbacks=[("mine", callback)]).fit(table)
    assert model.callbacks == [("mine", callback)]
    clone(model).fit(table)
    pickle.loads(pickle.dumps(model)).transform(table)


def test_skorch_scoring_sees_history(table):
    seen = []
    scoring = EpochScoring(lambda net, X, y: seen.append(1) or 0.5, name="mine", use_caching=False)
    model = make(callbacks=[scoring], early_stopping=False).fit(table)
    assert "train_loss" in model.net_.history[-1]


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("n_rows", [120, 1100])
def test_verbose(verbose, n_rows, digits, capsys):
    make(verbose=verbose, max_epochs=2).fit(digits[:n_rows])
    captured = capsys.readouterr()
    if verbose == 0:
        assert captured.out == captured.err == ""
        return
    told = captured.out + captured.err
    assert "loss" in told
    n_epochs = 2 if n_rows > 1000 else 4  # of folds, and of all rows
    assert f"{n_epochs}/{n_epochs}" in told
    if verbose == 2:
        assert told.count("epoch") >= 2
        assert told.count("\n") >= 2


# What peers get wrong (peers.md, section 0), as far as an autoencoder can.


def test_construction_does_nothing(table):
    """D4: no seeding, no work, no rewriting in ``__init__``."""
    state = torch.random.get_rng_state()
    sentinel = object()
    names = list(inspect.signature(AutoencoderTransformer).parameters)
    model = AutoencoderTransformer(sentinel, **dict.fromkeys(names[1:], sentinel))
    assert all(getattr(model, name) is sentinel for name in names)
    assert vars(model).keys() == set(names)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fit_rewrites_no_parameter(table):
    """D4, D6: parameters are the user's."""
    model = make(device="auto", n_components=0.5, hidden_layer_sizes=[4])
    before = model.get_params()
    assert model.fit(table).get_params() == before


def test_target_is_the_row_itself():
    """D8: skorch's net without y learns towards zero."""
    X = np.random.default_rng(0).normal(5, 1, size=(200, 4))
    model = AutoencoderTransformer(
        2, scaling=None, init="random", max_epochs=60, learning_rate=1e-2, random_state=0
    ).fit(X)
    assert_allclose(model.reconstruct(X).mean(axis=0), 5, atol=0.3)


def test_data_outside_the_unit_interval_converge():
    """D14: no hidden sigmoid on the output."""
    X = 100 + 50 * np.random.default_rng(0).normal(size=(200, 3))
    assert AutoencoderTransformer(3, max_epochs=30, random_state=0).fit(X).score(X) > 0.95


def test_transform_is_there_and_fit_returns_self(table):
    """D12, D13: the encoder is kept; fit says what it returns."""
    model = make()
    assert model.fit(table) is model
    assert model.partial_fit(table) is model
    assert hasattr(model, "transform")
