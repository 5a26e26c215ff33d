"""Mixed tables: levels, dates and gaps in the transformer."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

import skae
import skae.plotting
from skae import AutoencoderTransformer
from skae._data._mixed import MixedScaler, kinds_of_columns
from skae._engine._losses import MixedObjective
from skae._stats._pca import fit_pca, fit_pca_with_gaps
from skae.comparison import compare_knn
from skae.networks._levels import MixedOutput

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
# So small a rate changes nothing: the start is kept.
START = {"max_epochs": 1, "learning_rate": 1e-30, "random_state": 0}


@pytest.fixture
def frame(mixed_table):
    return mixed_table(240, noise=0.3, n_steps=50, days=1)


def with_gaps(frame):
    """The same with a fifth of the cells of most columns missing."""
    X, rng = frame.copy(), np.random.default_rng(1)
    for name, gap in (("size", np.nan), ("colour", None), ("kind", None), ("day", pd.NaT)):
        X.loc[rng.random(len(X)) < 0.2, name] = gap
    return X


def quick(*args, **params):
    return AutoencoderTransformer(*args, **QUICK | params)


# The start, and what it is compared with.


def famd(X, k):
    """Row coordinates and eigenvalues of factor analysis of mixed data, by one SVD."""
    columns = []
    for name in X:
        if pd.api.types.is_numeric_dtype(X[name]) and X[name].dtype != bool:
            columns.append((X[name] - X[name].mean()) / X[name].std(ddof=0))
        else:
            indicators = pd.get_dummies(X[name]).astype(float)
            columns += [(i - i.mean()) / np.sqrt(i.mean()) for _, i in indicators.items()]
    U, s, _ = np.linalg.svd(np.column_stack(columns), full_matrices=False)
    return (U * s)[:, :k], s[:k] ** 2 / len(X)


def test_the_start_is_factor_analysis_of_mixed_data(frame):
    X = frame.drop(columns="day")
    model = AutoencoderTransformer(3, **START).fit(X)
    assert model.best_epoch_ == 0
    Z, (expected, eigenvalues) = model.transform(X), famd(X, 3)
    signs = np.sign((Z * expected).sum(axis=0))
    assert_allclose(Z, signs * expected, atol=2e-5)
    n_levels = X.drop(columns=["size", "weight", "count"]).nunique().sum()
    inertia = 3 + n_levels - 3
    assert_allclose(model.explained_variance_ratio_, eigenvalues / inertia, rtol=1e-4)
    n_rows = len(X)
    assert_allclose(model.explained_variance_, eigenvalues * n_rows / (n_rows - 1), rtol=1e-4)


def test_the_start_has_the_latents_of_prince(frame):
    prince = pytest.importorskip("prince")
    X = frame.drop(columns="day").astype({"is_new": str, "kind": str, "count": float})
    Z = AutoencoderTransformer(3, **START).fit_transform(X)
    expected = prince.FAMD(n_components=3).fit(X).row_coordinates(X).to_numpy()
    assert_allclose(np.abs(Z), np.abs(expected), atol=1e-4)


def test_training_explains_more_than_the_start(frame):
    start = AutoencoderTransformer(2, **START).fit(frame)
    model = AutoencoderTransformer(2, max_epochs=60, random_state=0).fit(frame)
    assert model.best_epoch_ > 0
    assert 1 - model.score(frame) < 0.5 * (1 - start.score(frame))
    assert (model.reconstruct(frame)["kind"] == frame["kind"]).mean() > 0.9


# Encoding, output and losses.


def mixed_scaler(method="standard"):
    X = np.array([[1.0, 0, 5, 1], [2, 1, 5, 0], [4, 2, 7, 1], [9, 0, np.nan, np.nan], [1, 1, 9, 0]])
    return MixedScaler([0, 3, 0, 2], method).fit(X), X


@pytest.mark.parametrize("method", ["standard", "global", "minmax", "robust", None])
def test_encoding_and_back(method):
    scaler, X = mixed_scaler(method)
    encoded = scaler.transform(X)
    assert encoded.shape == (5, scaler.n_inputs) == (5, 7)
    back = scaler.inverse_transform(np.nan_to_num(encoded))
    known = ~np.isnan(X)
    assert_allclose(back[known], X[known], rtol=1e-6)
    assert_array_equal(np.isnan(scaler.column_errors(encoded)), ~known)
    total = np.nansum(scaler.column_errors(encoded - scaler.baseline), axis=0)
    if method == "standard":  # each column has variance, or impurity, one
        assert_allclose(total / known.sum(axis=0), 1.0, rtol=1e-6)


link_of = MixedOutput.of


def test_outputs_are_probabilities_and_linear_at_first():
    scaler, _ = mixed_scaler()
    link, output = link_of(scaler), torch.randn(50, 7)
    linear = torch.tensor(scaler.level_scales, dtype=torch.float32)
    probabilities = (link(output)[:, 2:] * linear + link.shares).clamp(min=0)
    assert_allclose(probabilities[:, :2].sum(1), 1.0, rtol=1e-5)
    assert_allclose(probabilities[:, 2:].sum(1), 1.0, rtol=1e-5)
    # Indicators less shares, which sum to zero in each column.
    sizes = torch.tensor([[0.3, -0.3, 0.4, -0.1, -0.3]])
    for step in (1e-2, 1e-3):
        small = torch.cat([torch.zeros(1, 2), step * sizes / linear], dim=1)
        assert_allclose(link(small), small, atol=5 * step**2)


def test_a_rare_level_does_not_take_all_of_the_probability():
    link = MixedOutput(0, [2], np.array([0.001, 0.999]), np.sqrt([0.001, 0.999]))
    predicted = torch.tensor([[0.05, -0.05]])  # of the indicators, less the shares
    out = link(predicted / link.scales) * link.scales
    assert_allclose(out, predicted, atol=5e-3)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
@pytest.mark.parametrize("shape", [(6,), (3, 6)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_mixed_losses(loss, shape, weighted):
    scaler, X = mixed_scaler()
    link = link_of(scaler)
    objective = MixedObjective(scaler.cell_weights, 4, loss=loss)
    assert objective.has_manual_grad(link)
    x = torch.from_numpy(scaler.transform(X))[[0, 1, 2, 3, 4, 0]].expand(*shape, 7)
    output = (2 * torch.randn(*shape, 7)).requires_grad_()
    weight = torch.rand(shape) if weighted else None
    expected = objective.reconstruction(link, output, x, weight)
    expected.backward()
    value, gradient = objective.with_gradient(link, output.detach(), x, weight)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, output.grad)


def test_score_and_errors_by_their_formulas(frame):
    X = with_gaps(frame)
    model = quick(2).fit(X)
    numbers = model._columns.to_numbers(X)
    scaler = model._scaler
    parts = [part for _, part in model.net_.reconstruct_rows(model._rows(numbers))]
    scaled = np.concatenate(parts).astype(float)
    errors, totals = [], []
    place = 0
    for j in [*scaler.of_numbers, *scaler.of_codes]:
        column, known = numbers[:, j], ~np.isnan(numbers[:, j])
        if scaler.n_levels[j] == 0:
            mean, deviation = np.nanmean(column), np.nanstd(column)
            back = scaled[:, place] * deviation + mean
            errors.append((column - back) ** 2 / deviation**2)
            totals.append((column - mean) ** 2 / deviation**2)
            place += 1
            continue
        indicators = np.eye(scaler.n_levels[j])[np.nan_to_num(column).astype(int)]
        shares = indicators[known].mean(axis=0)
        part = scaled[:, place : place + len(shares)] * np.sqrt(shares) + shares
        gini = 1 - np.sum(shares**2)
        for found, given in ((errors, part), (totals, shares)):
            squares = np.sum((indicators - given) ** 2, axis=1) / gini
            found.append(np.where(known, squares, np.nan))
        place += len(shares)
    expected = 1 - np.nansum(errors) / np.nansum(totals)
    assert_allclose(model.score(X), expected, rtol=1e-5)
    assert_allclose(model.reconstruction_error(X), np.nanmean(errors, axis=0), rtol=1e-4)


# Tables in and out.


def test_tables_come_back_as_they_were(frame):
    X = frame.assign(
        zone=frame["day"].dt.tz_localize("Europe/Berlin"),
        number=frame["count"].astype("Int64"),
        flag=frame["is_new"].astype("boolean"),
        lapse=frame["day"] - frame["day"].min(),
    ).set_axis(np.arange(len(frame)) + 7)
    for table in (X, with_gaps(X)):
        back = quick(3).fit(table).reconstruct(table)
        assert back.dtypes.equals(X.dtypes)
        assert back.index.equals(X.index)
        assert not back.isna().any().any()
        assert set(back["colour"]) <= set(X["colour"])
        whole = back["day"] - pd.Timestamp("2026-01-01")
        assert (whole % pd.Timedelta("1D") == pd.Timedelta(0)).all()


def test_latents_are_plain_and_lead_back_to_tables(frame):
    model = quick(2).fit(frame)
    Z = model.transform(frame)
    assert isinstance(Z, np.ndarray)
    assert Z.dtype == np.float64
    back = model.inverse_transform(Z)
    assert back.dtypes.equals(frame.dtypes)
    assert (back["colour"] == model.reconstruct(frame)["colour"]).all()
    model.set_output(transform="pandas")
    assert model.transform(frame).columns.tolist() == model.get_feature_names_out().tolist()
    assert model.feature_names_in_.tolist() == frame.columns.tolist()


def test_polars_and_arrays_of_objects(frame):
    polars = pytest.importorskip("polars")
    X = frame[["size", "colour", "is_new", "count"]]
    tables = [
        polars.DataFrame({name: X[name].tolist() for name in X}),
        X.to_numpy(dtype=object),
        X.to_numpy(dtype=object).tolist(),
    ]
    expected = quick(2).fit(X).transform(X)
    for table in tables:
        model = quick(2).fit(table)
        assert_allclose(model.transform(table), expected, rtol=1e-4, atol=1e-5)
        back = model.reconstruct(table)
        assert type(back) is (polars.DataFrame if table is tables[0] else np.ndarray)
        if table is tables[0]:
            assert back.schema == table.schema


def test_numbers_alone_are_no_mixed_table(frame):
    X = frame[["size", "weight", "count", "is_new"]]
    for table in (X, X.to_numpy(float), X.astype(object), csr_array(X.to_numpy(float))):
        assert kinds_of_columns(table, "from_dtype") is None
    expected = quick(2).fit(X.astype(float)).transform(X.astype(float))
    assert_array_equal(quick(2).fit(X).transform(X), expected)
    assert quick(2).fit(X)._scaler.method == "global"


def test_categories_of_numbers_are_levels(frame):
    X = frame[["size", "weight"]].assign(zip=pd.Categorical(frame["count"] % 3))
    model = quick(2).fit(X)
    assert model._columns.n_levels == [0, 0, 3]
    assert model.reconstruct(X).dtypes.equals(X.dtypes)


@pytest.mark.parametrize("columns", [["zip"], [2], [False, False, True], np.array([0, 0, 1]) == 1])
def test_columns_of_levels_by_name_number_and_mask(columns, frame):
    X = frame[["size", "weight"]].assign(zip=frame["count"] % 3)
    of_categories = X.assign(zip=pd.Categorical(X["zip"]))
    model = quick(2, categorical_features=columns).fit(X)
    expected = quick(2).fit(of_categories).transform(of_categories)
    assert_array_equal(model.transform(X), expected)
    assert model.reconstruct(X)["zip"].dtype == X["zip"].dtype
    if not isinstance(columns[0], str):
        array = X.to_numpy(float)
        of_array = quick(2, categorical_features=columns).fit(array)
        assert_array_equal(of_array.transform(array), model.transform(X))
        assert set(of_array.reconstruct(array)[:, 2]) <= {0.0, 1.0, 2.0}


def test_tensors_of_levels(frame):
    array = frame[["size", "weight", "count"]].to_numpy(float)
    array[:, 2] %= 3
    expected = quick(2, categorical_features=[2]).fit(array)
    with sklearn.config_context(array_api_dispatch=True):
        X = torch.from_numpy(array)
        model = quick(2, categorical_features=[2]).fit(X)
        assert_array_equal(model.transform(X).numpy(), expected.transform(array))
        assert_array_equal(model.reconstruct(X).numpy(), expected.reconstruct(array))


def test_tags_say_what_is_read():
    tags = get_tags(quick()).input_tags
    assert tags.categorical
    assert tags.string
    assert tags.allow_nan
    assert not get_tags(quick(categorical_features=None)).input_tags.string


# Gaps and levels that were not seen.


def test_gaps_are_neither_read_nor_scored(frame):
    X = with_gaps(frame)
    model = quick(2).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.transform(X)).all()
    row = X.iloc[[0]].copy()
    row["colour"], row["size"] = None, np.nan
    others = [row.assign(colour=[gap]) for gap in (np.nan, pd.NA)]
    for other in others:
        assert_array_equal(model.transform(other), model.transform(row))
    # A missing number is read as the mean.
    at_mean = row.assign(size=X["size"].mean())
    assert_allclose(model.transform(at_mean), model.transform(row), atol=1e-4)


def test_a_declared_level_is_read_as_a_gap(frame):
    levels = pd.CategoricalDtype(["p", "q", "r"])
    X = frame.astype({"kind": levels})
    model = quick(2).fit(X)
    row = X.iloc[[3]].assign(kind=pd.Categorical(["r"], dtype=levels))
    gap = X.iloc[[3]].assign(kind=pd.Categorical([None], dtype=levels))
    for method in ("transform", "reconstruction_error"):
        assert_array_equal(getattr(model, method)(row), getattr(model, method)(gap))
    with pytest.raises(ValueError, match=r"'kind' of X holds 's'.*allowed are 'p', 'q'.*declare"):
        model.transform(X.iloc[[3]].assign(kind=["s"]))


# Errors.


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        (
            {"loss": "binary_cross_entropy"},
            {},
            "loss='binary_cross_entropy' needs numbers in all cells",
        ),
        ({"output_activation": "relu"}, {}, "output_activation='relu' needs numbers in all cells"),
        ({"categorical_features": ["shape"]}, {}, "categorical_features=.*'shape' must be one of"),
        ({"categorical_features": ["kind"]}, {}, "'colour' of X holds 'blue'.*must name all"),
        ({"categorical_features": None}, {}, "'colour' of X holds 'blue'.*features=None"),
        ({}, {"colour": [["a"]] * 240}, r"'colour' of X holds \['a'\] in row 0"),
        ({}, {"size": np.inf}, "'size' of X contains infinity"),
    ],
)
def test_errors_name_column_and_value(params, change, message, frame):
    X = frame.assign(**change)
    model = quick(2, **params)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X)
    assert not hasattr(model, "net_")


def test_other_errors_and_warnings(frame):
    twice = frame.set_axis(["a", "a", *frame.columns[2:]], axis=1)
    with pytest.raises(ValueError, match=r"'a'.* names must differ"):
        quick(2).fit(twice)
    with pytest.raises(TypeError, match=r"needs a dense X.*X\.toarray\(\)"):
        quick(2, categorical_features=[0]).fit(csr_array(np.eye(4)))
    with pytest.warns(UserWarning, match=r"'id' of X holds 240 levels in 240 rows\. If it names"):
        quick(2).fit(frame.assign(id=[f"P{i}" for i in range(240)]))
    model = quick(2).fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match="'size' of X holds"):
        model.transform(frame.assign(size=1e200))


# What else works.


def test_rows_without_weight_are_not_learned_from(frame):
    X = frame.assign(colour=frame["colour"].where(frame.index >= 20, "violet"))
    weight = np.where(X.index < 20, 0.0, 1.0)
    model, expected = quick(2).fit(X, sample_weight=weight), quick(2).fit(X[20:])
    assert_array_equal(model.transform(X[20:]), expected.transform(X[20:]))
    halves = quick(2).fit(X, sample_weight=np.where(X.index < 120, 0.1, 1.0))
    assert np.abs(halves.transform(X) - quick(2).fit(X).transform(X)).max() > 1e-3


def test_training_goes_on(frame):
    X = with_gaps(frame)
    model = quick(2).partial_fit(X)
    before = model.score(X)
    for _ in range(5):
        model.partial_fit(X[:200]).partial_fit(X[40:])
    assert model.score(X) > before
    warm = quick(2, warm_start=True).fit(X)
    assert warm.fit(X).n_iter_ == 2
    with pytest.raises(ValueError, match="holds 'violet'"):
        model.partial_fit(X.assign(colour="violet"))


def test_a_later_fit_may_be_of_another_kind(frame):
    numbers = frame[["size", "weight"]]
    model = quick(1).fit(frame).fit(numbers)
    assert_array_equal(model.transform(numbers), quick(1).fit(numbers).transform(numbers))
    assert isinstance(model.fit(frame).reconstruct(frame), pd.DataFrame)


def test_copies_pickles_and_files(frame, tmp_path):
    X = with_gaps(frame)
    model = quick(2, categorical_features="from_dtype").fit(X)
    skae.save(model, tmp_path / "model.skae")
    for again in (pickle.loads(pickle.dumps(model)), skae.load(tmp_path / "model.skae")):
        assert_array_equal(again.transform(X), model.transform(X))
        assert again.reconstruct(X).equals(model.reconstruct(X))
        assert again.score(X) == model.score(X)
    assert_array_equal(clone(model).fit(X).transform(X), model.transform(X))
    assert "Linear" in model._repr_html_() or "latents" in model._repr_html_()


@pytest.mark.parametrize("columns", [["day"], ["colour"], ["colour", "kind"], ["size", "day"]])
def test_tables_of_levels_or_dates_alone(columns, frame, tmp_path):
    X = with_gaps(frame)[columns]
    model = quick(1).fit(X)
    skae.save(model, tmp_path / "model.skae")
    again = skae.load(tmp_path / "model.skae")
    assert again.reconstruct(X).equals(model.reconstruct(X))
    assert again.reconstruct(X).dtypes.equals(X.dtypes)


def test_files_that_do_not_fit_together_are_refused(frame, tmp_path):
    model = quick(2).fit(frame)
    model._scaler.shares_ = model._scaler.shares_[::-1].copy()
    with pytest.raises(TypeError, match="shares_ must sum to 1"):
        skae.save(model, tmp_path / "model.skae")


@pytest.mark.parametrize(
    "params",
    [
        {"n_components": "auto"},
        {"n_components": 0.8},
        {"n_components": None},
        {"ordered": True},
        {"whiten": True},
        {"sparsity": 0.1},
        {"l1": 1e-4},
        {"init": "random"},
        {"tied_weights": True},
        {"loss": "huber"},
        {"scaling": "robust"},
        {"scaling": "minmax"},
        {"early_stopping": False},
        {"n_iter_no_change": 2},
    ],
    ids=lambda params: "-".join(map(str, *params.items())),
)
def test_parameters_work_with_levels(params, frame):
    X = with_gaps(frame)
    model = AutoencoderTransformer(**{"n_components": 2} | QUICK | params).fit(X)
    assert model.transform(X).shape == (len(X), model.n_components_)
    assert np.isfinite(model.score(X))
    assert model.reconstruct(X).dtypes.equals(X.dtypes)
    if params.get("ordered") or isinstance(params.get("n_components", 2), float):
        assert (np.diff(model.latent_size_curve_) > -0.2).all()
    if params.get("whiten"):
        assert_allclose(model.transform(X).std(axis=0, ddof=1), 1.0, rtol=1e-3)


def test_many_rows_are_split(frame):
    X = pd.concat([with_gaps(frame)] * 5, ignore_index=True)
    model = quick(2).fit(X)
    assert len(model.validation_loss_curve_) == 3
    assert model.score(X) > 0.3


def test_searches_and_pipelines(frame):
    X, y = frame.drop(columns="kind"), frame["kind"]
    model = make_pipeline(quick(3), LogisticRegression()).fit(X, y)
    assert model.score(X, y) > 0.4
    search = GridSearchCV(quick(), {"n_components": [1, 3]}, cv=2).fit(X)
    assert search.best_params_ == {"n_components": 3}


# Tables of numbers with gaps.


def curved(n_rows=400, share=0.15):
    """Numbers on a plane with little noise, and the same with gaps."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(n_rows, 6))
    return X, np.where(rng.random(X.shape) < share, np.nan, X)


def test_numbers_with_gaps_are_numbers():
    _, X = curved()
    model = quick(2).fit(X)
    back = model.reconstruct(X)
    assert back.shape == X.shape
    assert np.isfinite(back).all()
    names = pd.DataFrame(X, columns=list("abcdef"))
    masked = np.ma.masked_invalid(X)
    for table in (names, masked, X.tolist(), names.astype("Float64").replace(np.nan, pd.NA)):
        other = quick(2).fit(table)
        assert_array_equal(other.transform(table), model.transform(X))
        assert isinstance(other.reconstruct(table), np.ndarray)


def test_single_precision_of_numbers_with_gaps():
    _, X = curved()
    single = X.astype(np.float32)
    model = quick(2).fit(single)
    assert model.transform(single).dtype == model.reconstruct(single).dtype == np.float32
    assert_allclose(model.transform(single), quick(2).fit(X).transform(X), atol=1e-3)


def test_scaling_of_numbers_with_gaps_is_that_of_numbers():
    complete, X = curved()
    X[:, 0] *= 100
    complete[:, 0] *= 100
    for k in (1, 2):
        score = AutoencoderTransformer(k, **START).fit(complete).score(complete)
        one_gap = np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, complete)
        assert abs(AutoencoderTransformer(k, **START).fit(one_gap).score(one_gap) - score) < 1e-3


def test_gaps_after_a_fit_without_any():
    complete, X = curved()
    with pytest.raises(ValueError, match="contains NaN, but no cell was missing in fit"):
        quick(2).fit(complete).transform(X)


@pytest.mark.parametrize("weighted", [False, True])
def test_directions_of_rows_with_gaps(weighted):
    """They are nearer to those of the complete rows than if gaps are the mean."""
    complete, X = curved(share=0.3)
    weight = np.linspace(0.1, 1.9, len(X)) if weighted else None
    truth = fit_pca(complete, 2, weight).directions
    scaled = X - np.nanmean(X, axis=0)
    found = fit_pca_with_gaps(scaled, 2, 2, weight).directions
    at_mean = fit_pca(np.nan_to_num(scaled), 2, weight).directions
    errors = [2 - np.square(d @ truth.T).sum() for d in (found, at_mean)]
    assert errors[0] < 0.6 * errors[1]
    assert_array_equal(fit_pca_with_gaps(complete, 2, 2, weight).directions, truth)


def test_the_start_knows_more_than_the_means():
    complete, X = curved(share=0.3)
    model = AutoencoderTransformer(2, scaling=None, **START).fit(X)
    directions = np.linalg.qr((model.inverse_transform(np.eye(2)) - model.decode([[0, 0]])).T)[0]
    truth = fit_pca(complete, 2).directions
    assert np.square(directions.T @ truth.T).sum() > 1.99


# Functions and displays around it.


def test_compared_by_nearest_neighbours(frame):
    X, y = with_gaps(frame).drop(columns="kind"), frame["kind"]
    table = compare_knn([("mixed", quick(3))], X, y, cv=2)
    assert table.loc["mixed", "accuracy"] > 0.4
    assert 0 < table.loc["mixed", "reconstruction_error"] < 1


def test_latent_size_curves_of_mixed_tables(frame):
    """Networks of folds, whose links differ, are as good as if each were fitted alone."""
    X = pd.concat([with_gaps(frame)] * 10, ignore_index=True)
    model = quick(learning_rate=1e-30)
    table = skae.latent_size_curve(model, X, [1, 4], cv=KFold(2))
    expected = cross_val_score(clone(model).set_params(n_components=4), X, cv=KFold(2)).mean()
    assert_allclose(table.loc[4, "explained"], expected, rtol=1e-3)
    assert abs(table.loc[4, "explained"] - table.loc[4, "pca"]) < 0.1  # softmax against linear
    assert table.loc[1, "explained"] < table.loc[4, "explained"]


def test_links_of_other_shares_are_not_trained_as_one():
    scaler, X = mixed_scaler()
    other = MixedScaler(scaler.n_levels).fit(X[:4])
    assert link_of(scaler).extra_repr() == link_of(scaler).extra_repr()
    assert link_of(scaler).extra_repr() != link_of(other).extra_repr()


def test_displays_of_mixed_tables(frame):
    pytest.importorskip("matplotlib")
    model = quick(3, ordered=True).fit(frame)
    display = skae.plotting.LatentSizeDisplay.from_estimator(model, frame)
    assert display.pca is None
    assert len(display.explained) == 3
    skae.plotting.LatentSpaceDisplay.from_estimator(model, frame)
    with pytest.raises(ValueError, match="must hold numbers only"):
        skae.plotting.ReconstructionDisplay.from_estimator(model, frame)


def test_onnx_is_for_numbers(frame):
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"cannot be written as ONNX.*levels, dates or missing"):
        skae.to_onnx(quick(2).fit(frame))
