"""Mixed tables in the denoiser: levels, dates and gaps are filled, drawn and cleaned."""

import datetime
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import get_tags

import skae
import skae.plotting
from skae import DenoisingAutoencoder
from skae._data._mixed import MixedScaler
from skae._engine._mixed_noise import MixedNoise

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
LEVELS, NUMBERS = ["colour", "is_new", "kind"], ["size", "weight", "day", "count"]


def quick(**params):
    return DenoisingAutoencoder(**QUICK | params)


@pytest.fixture(scope="module")
def frame(mixed_table):
    return mixed_table(300, noise=0.2, n_steps=20, days=7).set_index(pd.RangeIndex(1000, 1300))


@pytest.fixture(scope="module")
def holed(frame):
    """The same with a fifth of the cells missing, and the mask of these."""
    hidden = np.random.default_rng(1).random(frame.shape) < 0.2
    return frame.astype({"is_new": "boolean", "count": "Int64"}).mask(hidden), hidden


@pytest.fixture(scope="module")
def filled(holed):
    """The table as it is filled with defaults, but fewer epochs."""
    return DenoisingAutoencoder(max_epochs=20, random_state=0).fit_transform(holed[0])


@pytest.fixture(scope="module")
def fitted(holed):
    return quick().fit(holed[0])


def cells_by_column(frame):
    return {name: [None if pd.isna(c) else c for c in frame[name]] for name in frame}


def as_numbers(frame):
    """Numbers and dates, standardised."""
    numbers = frame[NUMBERS].apply(lambda column: pd.to_numeric(column).astype(float))
    return (numbers - numbers.mean()) / numbers.std()


# Filling.


def test_fills_beat_the_most_frequent_level_and_the_mean(frame, holed, filled):
    _, hidden = holed
    for name in LEVELS:
        rows = hidden[:, list(frame).index(name)]
        truth = frame[name].astype(object)[rows]
        most_frequent = truth.value_counts(normalize=True).iloc[0]
        right = (filled[name].astype(object)[rows] == truth).mean()
        assert right > most_frequent + 0.2, name
    scale = as_numbers(frame)
    errors = as_numbers(pd.concat([filled, frame])).iloc[: len(frame)] - scale
    for name in NUMBERS:
        rows = hidden[:, list(frame).index(name)]
        assert np.square(errors[name][rows]).mean() < 0.5 * np.square(scale[name][rows]).mean()


def test_the_table_comes_back(frame, holed, filled):
    X, hidden = holed
    assert filled.dtypes.equals(X.dtypes)
    assert filled.index.equals(X.index)
    assert not filled.isna().any(axis=None)
    same = filled.astype(object) == frame.astype(object)
    assert same.to_numpy()[~hidden].all()


def test_integers_and_dates_stay_on_their_steps(frame, holed, filled):
    days = (filled["day"] - frame["day"].min()).dt.total_seconds() / 86400
    assert (days % 7 == 0).all()
    # A column of integers with gaps is one of floats in pandas; so is one of flags.
    X = holed[0].astype({"count": float}).assign(flag=np.where(frame["weight"] > 0, 1.0, 0.0))
    X.loc[X.index[::5], "flag"] = np.nan
    for draws in (False, True):
        out = quick(sample_posterior=draws).fit_transform(X)
        assert (out["count"] % 1 == 0).all()
        assert set(out["flag"]) == {0.0, 1.0}
        assert set(out["is_new"]) <= {False, True}
        assert (out["size"] % 1 != 0).all()


def test_cells_of_all_kinds_are_filled():
    n = np.random.default_rng(0).integers(9, size=120)
    X = pd.DataFrame(
        {
            "level": np.array(list("abc"))[n % 3],
            "zone": pd.Timestamp("2026-01-01", tz="Asia/Tokyo") + pd.to_timedelta(n, unit="D"),
            "lapse": pd.to_timedelta(15 * n, unit="m"),
            "date": [datetime.date(2026, 1, 1 + i) for i in n],
            "time": [datetime.time(i, 30) for i in n],
            "price": [Decimal(int(i)) / 4 for i in n],
            "large": [2**60 + 3 * int(i) for i in n],
            "flag": [bool(i % 2) for i in n],
            "small": n.astype(np.uint8),
        }
    )
    gaps = X.astype(dict.fromkeys(list(X)[3:8], object) | {"small": "UInt8"})
    for j, name in enumerate(X):
        gaps.loc[j::10, name] = None
    for draws in (False, True):
        out = quick(sample_posterior=draws, min_value="observed").fit_transform(gaps)
        assert out.dtypes.equals(gaps.dtypes)
        assert not out.isna().any(axis=None)
        same = out.astype(object) == X.astype(object)
        assert same.where(gaps.notna(), True).all(axis=None)
        assert {type(cell) for cell in out["date"]} == {datetime.date}
        assert {type(cell) for cell in out["price"]} == {Decimal}
        assert {(cell - 2**60) % 3 for cell in out["large"]} == {0}
        assert (out["lapse"] % pd.Timedelta("15min") == pd.Timedelta(0)).all()
        assert {cell.minute for cell in out["time"]} == {30}
        assert {cell.hour for cell in out["zone"]} == {0}


def test_cells_are_filled_whatever_the_gaps_are_spelled(frame, fitted):
    row = frame.astype({"is_new": "boolean", "count": "Int64"}).iloc[[5]]
    gaps = [row.assign(colour=[gap], kind=[gap], day=[pd.NaT]) for gap in (None, np.nan, pd.NA)]
    outputs = [fitted.transform(table) for table in gaps]
    for out in outputs:
        assert out.equals(outputs[0])
        assert out["size"].iloc[0] == row["size"].iloc[0]


def test_a_declared_level_is_filled_like_a_gap(holed):
    levels = pd.CategoricalDtype(["p", "q", "r"])
    X = holed[0].astype({"kind": levels})
    model = quick(add_indicator=True).fit(X)
    row = X.iloc[[3]].assign(kind=pd.Categorical(["r"], dtype=levels))
    gap = X.iloc[[3]].assign(kind=pd.Categorical([None], dtype=levels))
    assert model.transform(row).equals(model.transform(gap))
    assert model.transform(row)["missingindicator_kind"].iloc[0] == 1
    with pytest.raises(ValueError, match=r"'kind' of X holds 's'.*allowed are 'p', 'q'.*declare"):
        model.transform(X.iloc[[3]].assign(kind=["s"]))


# Draws.


def conditional_table(n_rows):
    """A level whose shares are (0.7, 0.2, 0.1) beside "a", and (0.1, 0.1, 0.8) beside "b"."""
    rng = np.random.default_rng(2)
    is_a = rng.random(n_rows) < 0.5
    u = rng.random(n_rows)
    codes = np.where(is_a, np.digitize(u, [0.7, 0.9]), np.digitize(u, [0.1, 0.2]))
    level = np.array(["x", "y", "z"])[codes]
    return pd.DataFrame({"side": np.where(is_a, "a", "b"), "level": level, "copy": level})


def test_levels_are_drawn_by_their_probabilities():
    X = conditional_table(1500)
    hidden = np.arange(1500) % 2 == 0
    X.loc[hidden, ["level", "copy"]] = None
    model = DenoisingAutoencoder(sample_posterior=True, max_epochs=40, random_state=0).fit(X)
    out = model.transform(X)
    drawn = out[hidden]
    for side, expected in (("a", (0.7, 0.2, 0.1)), ("b", (0.1, 0.1, 0.8))):
        shares = drawn["level"][drawn["side"] == side].value_counts(normalize=True)
        # Sampling errors of fit and draws: 750 rows each, 375 a side.
        assert_allclose(shares[["x", "y", "z"]], expected, atol=0.09)
    # Levels that depend on each other are drawn together.
    assert (drawn["level"] == drawn["copy"]).mean() > 0.9
    assert not model.transform(X).equals(out)


def test_draws_repeat_after_a_fit_with_the_same_seed(holed):
    X = holed[0]
    first, second = (quick(sample_posterior=True).fit(X) for _ in range(2))
    for _ in range(2):
        assert first.transform(X).equals(second.transform(X))


# Limits.


def test_limits_of_filled_cells(holed):
    X, hidden = holed
    free = quick(sample_posterior=True).fit(X[:60]).transform(X[60:])
    model = quick(sample_posterior=True, min_value="observed", max_value="observed").fit(X[:60])
    rows = X[60:].mask(hidden[60:] | (np.arange(240) % 2 == 0)[:, None])
    out, known = model.transform(rows), X[:60][NUMBERS]
    assert ((free[NUMBERS] > known.max()) | (free[NUMBERS] < known.min())).any(axis=None)
    is_out = (out[NUMBERS] > known.max()) | (out[NUMBERS] < known.min())
    assert not (is_out & rows[NUMBERS].isna()).any(axis=None)
    by_column = [11.0, None, -np.inf, 5, None, pd.Timestamp("2026-03-04"), 2.5]
    out = quick(min_value=by_column).fit(X).transform(X)
    gaps = pd.DataFrame(hidden, X.index, list(X))
    assert out["size"][gaps["size"]].min() == 11.0
    assert out["size"].min() < 11.0  # observed cells stay
    assert out["count"][gaps["count"]].min() == 3  # integers within the limit
    assert out["day"][gaps["day"]].min() >= pd.Timestamp("2026-03-04")
    scalar = quick(max_value=0).fit(X).transform(X)
    assert scalar["size"][gaps["size"]].max() == 0
    assert scalar["day"].equals(quick().fit(X).transform(X)["day"])


def test_limits_in_tables_of_numbers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 4))
    holes = rng.random(X.shape) < 0.3
    X[holes] = np.nan
    free = quick().fit_transform(X)
    low = np.array([-0.5, -np.inf, -np.inf, 0.0])
    out = quick(min_value=low, max_value=0.5).fit_transform(X)
    assert_array_equal(out, np.where(holes, free.clip(low, 0.5), X))
    drawn = quick(sample_posterior=True, min_value="observed", max_value="observed")
    out = drawn.fit_transform(X)
    assert (out >= np.nanmin(X, axis=0)).all()
    assert (out <= np.nanmax(X, axis=0)).all()
    explicit = quick(min_value=-np.inf, max_value=None).fit_transform(X)
    assert_array_equal(explicit, free)
    with sklearn.config_context(array_api_dispatch=True):
        tensors = quick(min_value=low, max_value=0.5).fit_transform(torch.from_numpy(X))
    assert isinstance(tensors, torch.Tensor)
    assert_allclose(tensors.numpy(), np.where(holes, free.clip(low, 0.5), X), rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"min_value": 3, "max_value": 2}, "min_value=3 is above max_value=2 for column 'size'"),
        ({"min_value": [0, 1]}, r"min_value has shape \(2,\).*the 7 columns"),
        ({"max_value": [0, 0, 0, 0, 0, 5, 0]}, "max_value is 5 for column 'day'.*a date"),
        ({"max_value": [0, 0, "x", 0, 0, None, 0]}, "'x' for column 'weight'.*a number"),
        ({"max_value": [np.nan] * 7}, "max_value is nan for column 'size'"),
        ({"min_value": "seen"}, "'min_value' parameter"),
    ],
)
def test_limits_that_are_refused(params, message, holed):
    model = quick(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(holed[0])
    assert not hasattr(model, "net_")


# Cleaning.


@pytest.mark.parametrize("noise", ["swap", "gaussian", "salt_and_pepper"])
def test_wrong_levels_are_put_right(noise, frame):
    rng = np.random.default_rng(3)
    wrong = frame.copy()
    rows = rng.random(len(frame)) < 0.15
    wrong.loc[rows, "is_new"] = ~frame.loc[rows, "is_new"]
    model = DenoisingAutoencoder(noise=noise, max_epochs=20, random_state=0).fit(frame)
    out = model.transform(wrong)
    assert out.dtypes.equals(frame.dtypes)
    assert (out["is_new"] == frame["is_new"])[rows].mean() > 0.4
    assert (out["is_new"] == frame["is_new"])[~rows].mean() > 0.95
    kept = model.set_params(keep_observed=True).transform(wrong)
    assert kept.equals(wrong)


def test_noise_is_about_columns_of_the_table():
    codes = np.random.default_rng(0).integers(3, size=(400, 2)).astype(float)
    X = np.column_stack([np.arange(400.0), codes])
    scaler = MixedScaler([0, 3, 3]).fit(X)
    encoded = torch.from_numpy(scaler.transform(X))

    def noise(kind, level, masked=0.0):
        draws = torch.Generator().manual_seed(0)
        return MixedNoise(kind, level, masked, scaler=scaler, generator=draws)(encoded).numpy()

    hidden = np.isnan(noise("masking", 0.25))
    for start in (1, 4):
        group = hidden[:, start : start + 3]
        assert (group.all(axis=1) == group.any(axis=1)).all()
        assert 0.2 < group.any(axis=1).mean() < 0.3
    swapped = scaler.inverse_transform(noise("swap", np.array([0.0, 0.6, 0.0])))
    assert_array_equal(swapped[:, [0, 2]].round(4), X[:, [0, 2]])
    assert 0.3 < (swapped[:, 1] != X[:, 1]).mean() < 0.5
    moved = scaler.inverse_transform(noise("gaussian", np.array([5.0, 0.0, 0.0])))
    assert_array_equal(moved[:, 1:], X[:, 1:])
    assert 4.5 < (moved[:, 0] - X[:, 0]).std() < 5.5
    assert np.isnan(noise("gaussian", 0.0, masked=0.2)).mean() > 0.15


def test_levels_of_noise(frame, holed):
    model = quick(noise="gaussian", noise_level=0.5, noise_unit="std").fit(frame)
    at = model.noise_level_
    assert_allclose(at[[0, 2]], 0.5 * frame[["size", "weight"]].std(ddof=0), rtol=1e-6)
    assert_allclose(at[[1, 3, 4]], 0.15)
    by_column = np.full(7, 0.25)
    at = quick(noise="gaussian", noise_level=by_column).fit(holed[0]).noise_level_
    assert_array_equal(at, by_column)
    with pytest.raises(
        ValueError, match=r"noise_level=3\.0 for column 'colour' must be from 0 to 1"
    ):
        quick(noise="gaussian", noise_level=np.full(7, 3.0)).fit(frame)


def test_pairs_of_noisy_and_clean_tables(frame):
    rng = np.random.default_rng(4)
    noisy = frame.copy()
    rows = rng.random(len(frame)) < 0.3
    noisy["colour"] = frame["colour"].mask(rows, "grey")  # a level that no clean row has
    model = DenoisingAutoencoder(max_epochs=20, random_state=0).fit(noisy, X_clean=frame)
    out = model.transform(noisy)
    assert (out["colour"] == frame["colour"]).mean() > 0.9
    assert model.score(noisy, X_clean=frame) > 0.8
    with pytest.raises(ValueError, match=r"'colour' of X_clean holds 'teal'.*did not in X"):
        quick().fit(frame, X_clean=frame.assign(colour="teal"))


# What goes in and comes out.


def test_containers(holed, fitted):
    polars = pytest.importorskip("polars")
    X = holed[0][["size", "colour", "kind", "day", "count"]]
    frame = X.astype({"kind": str}).where(X.notna(), None)
    expected = quick().fit(frame).transform(frame)
    table = polars.DataFrame(cells_by_column(frame), strict=False)
    out = quick().fit(table).transform(table)
    assert isinstance(out, polars.DataFrame)
    assert out.schema == table.schema
    assert out.null_count().sum_horizontal().item() == 0
    assert out["colour"].to_list() == expected["colour"].tolist()
    array = frame[["size", "colour", "kind"]].to_numpy(dtype=object)
    out = quick().fit(array).transform(array)
    assert isinstance(out, np.ndarray)
    assert out.dtype == object
    assert not pd.isna(out).any()


def test_arrow_frames(holed):
    pytest.importorskip("pyarrow")
    X = holed[0].astype({"kind": object}).convert_dtypes(dtype_backend="pyarrow")
    out = quick(sample_posterior=True).fit(X).transform(X)
    assert out.dtypes.equals(X.dtypes)
    assert not out.isna().any(axis=None)


def test_columns_of_levels_in_arrays(holed):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=300), rng.integers(3, size=300)]).astype(float)
    X[::4, 1] = X[::3, 0] = np.nan
    out = quick(categorical_features=[1]).fit(X).transform(X)
    assert set(out[:, 1]) == {0.0, 1.0, 2.0}
    with sklearn.config_context(array_api_dispatch=True):
        tensor = quick(categorical_features=[1]).fit_transform(torch.from_numpy(X))
    assert_array_equal(tensor.numpy(), out)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(container, holed):
    library = pytest.importorskip(container)
    X = holed[0].astype({"kind": object})
    model = quick(add_indicator=True).set_output(transform=container).fit(X)
    out = model.transform(X)
    assert isinstance(out, library.DataFrame)
    assert list(out.columns) == list(model.get_feature_names_out())
    assert len(out.columns) == 14
    plain = quick(add_indicator=True).fit(X).transform(X)
    assert list(out["colour"]) == list(plain["colour"])


def test_indicators_and_empty_columns(holed):
    X = holed[0].assign(blank=np.nan, nothing=pd.Categorical([None] * 300, ["a"]), gone=pd.NaT)
    model = quick(add_indicator=True).fit(X)
    out = model.transform(X)
    names = [*list(holed[0]), *(f"missingindicator_{name}" for name in X)]
    assert list(out) == list(model.get_feature_names_out()) == names
    marks = out[[f"missingindicator_{name}" for name in X]].to_numpy()
    assert_array_equal(marks, X.isna().to_numpy())
    kept = quick(keep_empty_features=True).fit(X).transform(X)
    assert (kept["blank"] == 0).all()
    assert kept[["nothing", "gone"]].isna().all(axis=None)
    assert kept.dtypes.equals(X.dtypes)
    assert np.isfinite(model.score(X))


def test_latents_and_hidden_activations(frame, holed):
    X = holed[0]
    latents = quick(output="latent", n_components=3, add_indicator=True).fit(X)
    Z = latents.transform(X)
    assert Z.shape == (300, 3 + 7)
    assert latents.inverse_transform(Z).dtypes.equals(X.dtypes)
    deep = quick(output="deep").fit(X)
    assert deep.transform(X).shape == (300, len(deep.get_feature_names_out()))
    assert np.isfinite(deep.transform(X)).all()


def test_reconstructions_and_scores(frame, holed, fitted):
    X = holed[0]
    assert fitted.reconstruct(X).dtypes.equals(X.dtypes)
    assert np.isfinite(fitted.reconstruction_error(X)).all()
    model = DenoisingAutoencoder(max_epochs=20, random_state=0).fit(frame)
    assert 0.6 < model.score(frame) < 1
    shuffled = frame.apply(lambda c: c.sample(frac=1, random_state=len(c.name)).to_numpy())
    assert model.score(shuffled.set_index(frame.index)) < 0.1
    assert np.isfinite(cross_val_score(quick(), X, cv=2)).all()


# What else works.


def test_tables_of_numbers_keep_their_bits():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((120, 4)) < 0.2, np.nan, rng.normal(size=(120, 4)))
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = quick().fit(frame)
    out = model.transform(frame)
    assert model._columns is None
    assert isinstance(out, np.ndarray)
    assert_array_equal(quick(categorical_features=[]).fit_transform(frame), out)
    for table in (frame.astype("Float64"), frame.astype(object), X):
        assert_allclose(quick().fit(table).transform(table), out, rtol=1e-12)
    sparse = csr_array(np.nan_to_num(X))
    assert quick().fit(sparse).transform(sparse).shape == X.shape
    strict = quick(categorical_features=None).fit(frame)
    assert_array_equal(strict.transform(frame), out)


def test_rows_without_weight_are_not_learned_from(holed):
    X = holed[0].copy()
    X["colour"] = X["colour"].where(np.arange(300) >= 30, "violet")
    weight = np.where(np.arange(300) < 30, 0.0, 1.0)
    model, expected = quick().fit(X, sample_weight=weight), quick().fit(X[30:])
    assert model.transform(X[30:]).equals(expected.transform(X[30:]))
    halves = quick().fit(X, sample_weight=np.where(weight == 0, 0.1, 1.0))
    assert not halves.transform(X[30:]).equals(expected.transform(X[30:]))


def test_training_goes_on(holed):
    X = holed[0]
    model = quick().partial_fit(X)
    before = model.score(X)
    for _ in range(4):
        model.partial_fit(X[:200]).partial_fit(X[100:])
    assert model.score(X) > before - 0.05
    with pytest.raises(ValueError, match="holds 'violet'"):
        model.partial_fit(X.assign(colour="violet"))
    warm = quick(warm_start=True).fit(X)
    assert warm.fit(X).n_iter_ == 2
    numbers = X[["size", "weight"]]
    assert_array_equal(
        warm.set_params(warm_start=False).fit(numbers).transform(numbers),
        quick().fit(numbers).transform(numbers),
    )


@pytest.mark.parametrize("noise", ["masking", "gaussian"])
def test_copies_pickles_and_files(noise, holed, tmp_path):
    X = holed[0]
    model = quick(noise=noise, sample_posterior=True, max_value="observed").fit(X)
    skae.save(model, tmp_path / "model.skae")
    again = pickle.loads(pickle.dumps(model)), skae.load(tmp_path / "model.skae")
    expected = model.transform(X)
    for other in (*again, clone(model).fit(X)):
        assert other.transform(X).equals(expected)
        assert other.reconstruct(X).equals(model.reconstruct(X))
        assert other.score(X) == model.score(X)


def test_files_that_do_not_fit_together_are_refused(fitted, tmp_path):
    broken = pickle.loads(pickle.dumps(fitted))
    broken._whole = None
    with pytest.raises(TypeError, match="_whole must say"):
        skae.save(broken, tmp_path / "model.skae")


@pytest.mark.parametrize(
    "params",
    [
        {"init": "random", "sample_posterior": True},
        {"n_components": 0.8},
        {"loss": "huber"},
        {"loss": "absolute_error"},
        {"scaling": "robust"},
        {"scaling": "minmax"},
        {"scaling": None},
        {"early_stopping": False},
        {"noise": "swap", "n_iter_no_change": 2},
        {"missing_values": None},
        {"missing_values": pd.NA},
    ],
    ids=lambda params: "-".join(map(str, params.items())),
)
def test_parameters_work_with_levels(params, holed):
    X = holed[0]
    model = quick(**params).fit(X)
    out = model.transform(X)
    assert out.dtypes.equals(X.dtypes)
    assert not out.isna().any(axis=None)
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("columns", [["colour"], ["day"], ["colour", "kind"], ["size", "day"]])
def test_tables_of_levels_or_dates_alone(columns, holed, tmp_path):
    X = holed[0][columns]
    for params in ({"sample_posterior": True}, {"noise": "gaussian"}):
        model = quick(**params).fit(X)
        out = model.transform(X)
        assert not out.isna().any(axis=None)
        skae.save(model, tmp_path / "model.skae")
        assert skae.load(tmp_path / "model.skae").reconstruct(X).equals(model.reconstruct(X))


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({"noise": lambda X, rng: X}, {}, "noise=.*needs numbers in all cells.*levels or dates"),
        ({"missing_values": -1}, {}, "missing_values=-1 needs numbers in all cells"),
        ({"categorical_features": ["shape"]}, {}, "categorical_features=.*'shape' must be one of"),
        ({"categorical_features": ["kind"]}, {}, "'colour' of X holds 'blue'.*must name all"),
        ({}, {"colour": [["a"]] * 300}, r"'colour' of X holds \['a'\] in row 0"),
        ({}, {"size": np.inf}, "'size' of X contains infinity"),
    ],
)
def test_errors_name_column_and_value(params, change, message, holed):
    model = quick(**params)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(holed[0].assign(**change))
    assert not hasattr(model, "net_")


def test_unseen_levels_and_onnx(holed, fitted):
    with pytest.raises(ValueError, match=r"'colour' of X holds 'violet'.*allowed are 'blue'"):
        fitted.transform(holed[0].assign(colour="violet"))
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"cannot be written as ONNX.*levels, dates or missing"):
        skae.to_onnx(fitted)


def test_limits_in_onnx():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    X = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    X[::3, 0] = X[1::3, 1] = np.nan
    model = quick(min_value=0.25, max_value=[0.5, np.inf, 1.0]).fit(X)
    written = skae.to_onnx(model).SerializeToString()
    session = runtime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"X": X})
    assert out[::3, 0].min() == 0.25
    assert_allclose(out, model.transform(X), rtol=1e-4, atol=1e-5)


def test_displays(holed, fitted):
    pytest.importorskip("matplotlib")
    skae.plotting.LossCurveDisplay.from_estimator(fitted)
    with pytest.raises(ValueError, match="must hold numbers only"):
        skae.plotting.ReconstructionDisplay.from_estimator(fitted, holed[0])
    assert "latents" in fitted._repr_html_()


def test_before_other_models(holed):
    X, y = holed[0][["colour", "kind", "is_new"]], holed[0]["count"].fillna(0) > 0
    model = make_pipeline(quick(), OneHotEncoder(), LogisticRegression()).fit(X, y)
    assert model.score(X, y) > 0.7


def test_tags_say_what_is_read():
    tags = get_tags(quick()).input_tags
    assert tags.categorical
    assert tags.string
    assert tags.allow_nan
    assert not get_tags(quick(categorical_features=None)).input_tags.string


def test_limits_between_whole_numbers_are_refused():
    X = pd.DataFrame({"size": np.arange(80) % 9, "kind": ["a", None, "b", "b"] * 20})
    model = quick(min_value=2.25, max_value=2.75)
    with pytest.raises(ValueError, match=r"lies none of .* column 'size'"):
        model.fit(X)
    assert not hasattr(model, "net_")


def test_limits_may_be_decimals():
    rng = np.random.default_rng(0)
    prices = [None if i % 5 == 0 else Decimal(int(rng.integers(100, 900))) / 100 for i in range(80)]
    X = pd.DataFrame({"price": prices, "kind": rng.choice(["a", "b"], 80)})
    out = quick(min_value=[Decimal("7.5"), None]).fit(X).transform(X)
    assert min(out["price"][::5]) >= Decimal("7.5")


def test_indicators_beside_columns_without_names():
    X = pd.DataFrame([[i % 7 + 0.5, "ab"[i % 2]] for i in range(60)])
    X.loc[::5, 1] = None
    model = quick(add_indicator=True).fit(X)
    out = model.transform(X)
    assert list(out) == list(model.get_feature_names_out()) == ["x0", "x1", "missingindicator_x1"]
    assert (out["missingindicator_x1"] == X[1].isna()).all()
