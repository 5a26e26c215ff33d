"""Mixed tables: levels, dates and gaps in the outlier detector."""

import pickle
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import skae
from skae import AutoencoderOutlierDetector
from skae.interchange import PyODDetector, to_onnx

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


def quick(**params):
    return AutoencoderOutlierDetector(**QUICK | params)


def linked(n_rows, seed, rare=8):
    """Two columns of levels that go together, one with a rare level, beside others."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 3, n_rows)
    city, country = np.array(["Rome", "Oslo", "Bonn"])[state], np.array(list("IND"))[state]
    city, country = city.astype(object), country.astype(object)
    city[:rare], country[:rare] = "Pisa", "I"
    return pd.DataFrame(
        {
            "size": rng.normal(size=n_rows),
            "city": city,
            "kind": rng.choice(list("pqr"), n_rows, p=[0.6, 0.3, 0.1]),
            "country": country,
            "day": pd.Timestamp("2026-01-01")
            + pd.to_timedelta(rng.integers(0, 60, n_rows), unit="D"),
            "count": rng.integers(0, 9, n_rows),
        }
    )


@pytest.fixture(scope="module")
def frame():
    return linked(300, 0)


@pytest.fixture(scope="module")
def detector(frame):
    return AutoencoderOutlierDetector(random_state=0).fit(frame)


def with_gaps(frame):
    X, rng = frame.copy(), np.random.default_rng(1)
    for name, gap in (("size", np.nan), ("city", None), ("kind", None), ("day", pd.NaT)):
        X.loc[rng.random(len(X)) < 0.15, name] = gap
    return X


# What is judged.


@pytest.mark.parametrize("seed", range(3))
def test_a_rare_combination_of_common_levels_is_odder_than_a_rare_level(seed):
    detector = AutoencoderOutlierDetector(random_state=seed).fit(linked(800, seed))
    new = linked(100, seed + 50, rare=0)
    contradictory = detector.score_samples(new.assign(city="Rome", country="N"))
    rare = detector.score_samples(new.assign(city="Pisa", country="I"))
    usual = detector.score_samples(new.assign(city="Rome", country="I"))
    assert np.mean(contradictory) < np.mean(rare) < np.mean(usual)
    assert np.mean(contradictory < rare) > 0.6
    assert np.mean(contradictory < detector.offset_) > 0.95


def test_contributions_name_the_columns_that_contradict(frame, detector):
    rows = frame[100:150].assign(city="Rome", country="N")
    contributions = detector.explain(rows)
    assert contributions.columns.tolist() == frame.columns.tolist()
    assert contributions.index.equals(rows.index)
    assert set(contributions.mean().nlargest(2).index) == {"city", "country"}
    all_rows = detector.explain(frame)
    assert (all_rows.to_numpy() >= 0).all()
    assert_allclose(all_rows.sum(axis=1), -detector.score_samples(frame), rtol=1e-5, atol=1e-6)


def test_names_and_order_of_columns_do_not_matter(frame):
    X = frame[["size", "city", "country"]]
    model = quick().fit(X)
    # The same levels by other names, in the same order, and columns of levels before numbers.
    names = {"Bonn": "a", "Oslo": "b", "Pisa": "c", "Rome": "d"}
    other = X.assign(city=X["city"].map(names))[["city", "size", "country"]]
    again = quick().fit(other)
    assert_allclose(again.score_samples(other), model.score_samples(X), rtol=1e-4, atol=1e-4)
    assert_allclose(again.explain(other)["city"], model.explain(X)["city"], rtol=1e-3, atol=1e-3)


def test_contradictory_rows_are_found_among_training_rows():
    X = linked(600, 3, rare=0)
    odd = np.arange(0, 600, 30)
    X.loc[odd, "country"] = X.loc[odd, "country"].map({"I": "N", "N": "D", "D": "I"})
    scores = AutoencoderOutlierDetector(random_state=0).fit(X).score_samples(X)
    others = np.setdiff1d(np.arange(600), odd)
    assert np.mean(scores[odd][:, None] < scores[others]) > 0.95


# Levels that were not seen, and gaps.


def test_a_declared_level_is_an_improbable_one(frame):
    X = frame.astype({"kind": pd.CategoricalDtype(list("pqrz"))})
    model = quick().fit(X)
    rows = X[50:90]
    unseen = rows.assign(kind=pd.Categorical(["z"] * len(rows), dtype=X["kind"].dtype))
    assert (model.score_samples(unseen) < model.score_samples(rows)).all()
    assert (model.explain(unseen).idxmax(axis=1) == "kind").mean() > 0.8
    back = model.correct(unseen)
    assert set(back["kind"]) <= set("pqrz")
    assert back["kind"].dtype == X["kind"].dtype
    kept = model.correct(unseen, columns=["size"])
    assert kept.drop(columns="size").equals(unseen.drop(columns="size"))
    replaced = model.correct(unseen, columns=["kind"])
    assert set(replaced["kind"]) <= set("pqr")
    with pytest.raises(ValueError, match=r"'kind' of X holds 's'.*allowed are 'p', 'q', 'r'"):
        model.score_samples(frame.assign(kind="s"))


def test_the_probability_of_an_unseen_level(frame):
    X = frame[["kind", "city"]].astype({"kind": pd.CategoricalDtype(list("pqrz"))})
    model = quick().fit(X)
    views = model.net_.views_
    conditional = views.on(model.net_.device).conditional
    at = [*model._scaler.of_codes].index(0)
    n, k = views.n_known[at], 3
    assert_allclose(conditional.unseen[at], 0.5 / (n + 0.5 * (k + 1)), rtol=1e-5)
    rows = model._rows(model._columns.to_numbers(X)).read_all()
    probabilities = conditional.probabilities(conditional.filled(rows))
    assert (probabilities >= conditional.added - 1e-9).all()
    totals = conditional.layout.level_sums(probabilities) + conditional.unseen
    assert_allclose(totals, 1.0, rtol=1e-5)


def test_gaps_add_nothing_and_are_not_read(frame):
    X = with_gaps(frame)
    model = quick().fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    contributions = model.explain(X)
    assert (contributions.to_numpy()[X.isna().to_numpy()] == 0).all()
    assert model.correct(X).isna().equals(X.isna())
    filled = model.correct(X, columns=["city", "size"])
    assert not filled[["city", "size"]].isna().any().any()
    row = X.iloc[[5]].assign(city=[None])
    for gap in (np.nan, pd.NA):
        assert_array_equal(model.score_samples(row.assign(city=[gap])), model.score_samples(row))
    nothing = pd.DataFrame({name: [None] for name in X}).astype({"day": X["day"].dtype})
    assert model.predict(nothing) == [1]


def test_numbers_with_gaps_are_read_as_before(frame):
    numbers = with_gaps(frame)[["size", "count"]]
    model = quick().fit(numbers)
    assert model._columns is None
    array = numbers.to_numpy()
    assert_array_equal(model.score_samples(numbers), quick().fit(array).score_samples(array))


# Tables in and out.


def test_correct_gives_back_the_table(frame, detector):
    X = frame.set_axis(np.arange(len(frame)) + 7).astype({"kind": "category"})
    X["when"] = X["day"].dt.tz_localize("Europe/Berlin")
    X["flag"] = X["count"] > 4
    X["whole"] = X["count"].astype("Int64")
    model = quick().fit(X)
    back = model.correct(X, columns=["country", "day", "count", "when", "flag", "whole"])
    assert back.dtypes.equals(X.dtypes)
    assert back.index.equals(X.index)
    assert back[["size", "city", "kind"]].equals(X[["size", "city", "kind"]])
    assert set(back["country"]) <= set(X["country"])
    whole = back["day"] - pd.Timestamp("2026-01-01")
    assert (whole % pd.Timedelta("1D") == pd.Timedelta(0)).all()
    odd = frame.iloc[[100]].assign(city="Rome", country="N")
    fixed = detector.correct(odd).iloc[0]
    assert (fixed["city"], fixed["country"]) in {("Rome", "I"), ("Oslo", "N")}


def test_polars_arrow_and_objects(frame):
    polars = pytest.importorskip("polars")
    X = frame[["size", "city", "count", "country"]]
    expected = quick().fit(X).score_samples(X)
    tables = [
        polars.DataFrame({name: X[name].tolist() for name in X}),
        X.to_numpy(dtype=object),
        X.convert_dtypes(),
    ]
    if find_spec("pyarrow"):
        tables.append(X.convert_dtypes(dtype_backend="pyarrow"))
    for table in tables:
        model = quick().fit(table)
        assert_allclose(model.score_samples(table), expected, rtol=1e-4, atol=1e-4)
        assert_array_equal(model.predict(table), quick().fit_predict(table))
        back = model.correct(table, columns=[1])
        assert type(back) is type(table)
        assert np.shape(model.explain(table)) == X.shape
        assert len(model.pvalues(table)) == len(X)


@pytest.mark.parametrize("columns", [["zip"], [1], [False, True]])
def test_columns_of_levels_by_name_number_and_mask(columns, frame):
    X = frame[["size"]].assign(zip=frame["count"] % 3)
    of_categories = X.astype({"zip": "category"})
    model = quick(categorical_features=columns).fit(X)
    expected = quick().fit(of_categories).score_samples(of_categories)
    assert_array_equal(model.score_samples(X), expected)
    assert model.correct(X, columns=[1])["zip"].dtype == X["zip"].dtype


def test_tables_of_levels_alone(frame):
    X = frame[["city", "kind", "country"]]
    model = quick().fit(X)
    odd = X.iloc[[100]].assign(city="Rome", country="N")
    usual = X.iloc[[100]].assign(city="Rome", country="I")
    assert model.score_samples(odd)[0] < model.score_samples(usual)[0]
    assert np.isfinite(model.score_samples(X)).all()


def test_levels_that_an_enum_declares(frame):
    polars = pytest.importorskip("polars")
    levels = polars.Enum(["p", "q", "r", "z"])
    X = polars.DataFrame({"size": frame["size"].tolist(), "kind": frame["kind"].tolist()})
    X = X.with_columns(polars.col("kind").cast(levels))
    model = quick().fit(X)
    unseen = X.with_columns(polars.Series("kind", ["z"] * len(X), dtype=levels))
    assert (model.score_samples(unseen) < model.score_samples(X)).all()
    back = model.correct(unseen, columns=["size"])
    assert back.schema == X.schema
    assert set(back["kind"]) == {"z"}


# What else works.


def test_rows_without_weight_are_not_learned_from(frame):
    X = frame.assign(city=frame["city"].where(frame.index >= 20, "Nice"))
    weight = np.where(X.index < 20, 0.0, 1.0)
    model, expected = quick().fit(X, sample_weight=weight), quick().fit(X[20:])
    assert_array_equal(model.score_samples(X[20:]), expected.score_samples(X[20:]))


def test_training_goes_on(frame):
    X = with_gaps(frame).astype({"kind": pd.CategoricalDtype(list("pqrz"))})
    model = quick().partial_fit(X[:200])
    unseen = X[200:].assign(kind=pd.Categorical(["z"] * 100, dtype=X["kind"].dtype))
    model.partial_fit(X[200:]).partial_fit(unseen)
    assert np.isfinite(model.score_samples(unseen)).all()
    warm = quick(warm_start=True).fit(X)
    assert warm.fit(X).n_iter_ == 3


@pytest.mark.parametrize(
    "params",
    [
        {"variational": True},
        {"init": "pca"},
        {"n_components": 0.8},
        {"scaling": None},
        {"scaling": "minmax"},
        {"scaling": "standard", "loss": "squared_error"},
        {"views": ["conditional", "neighbors"]},
        {"contamination": 0.1},
        {"threshold": "mad"},
        {"early_stopping": True},
    ],
)
def test_parameters(params, frame):
    X = with_gaps(frame)
    model = quick(**params).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    share = np.mean(model.predict(X) == -1)
    assert share == pytest.approx(0.1, abs=0.01) if "contamination" in params else share < 0.4


def test_copies_pickles_and_files(frame, tmp_path):
    X = with_gaps(frame)
    model = quick().fit(X)
    skae.save(model, tmp_path / "model.skae")
    for again in (pickle.loads(pickle.dumps(model)), skae.load(tmp_path / "model.skae")):
        assert_array_equal(again.score_samples(X), model.score_samples(X))
        assert again.correct(X).equals(model.correct(X))
        assert again.explain(X).equals(model.explain(X))
    assert_array_equal(clone(model).fit(X).score_samples(X), model.score_samples(X))
    assert "latents" in model._repr_html_()
    assert again.partial_fit(X).n_samples_seen_ == 2 * len(X)


def test_a_later_fit_may_be_of_another_kind(frame):
    numbers = frame[["size", "count"]]
    model = quick().fit(frame).fit(numbers)
    assert_array_equal(model.score_samples(numbers), quick().fit(numbers).score_samples(numbers))


def test_other_libraries(frame):
    adapter = PyODDetector(quick(), contamination=0.1).fit(frame)
    assert adapter.labels_.sum() == pytest.approx(0.1 * len(frame), abs=2)
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"cannot be written as ONNX.*levels, dates or missing"):
        to_onnx(quick().fit(frame), method="score_samples")
