"""With ``private_values=True`` drawn rows show no number or level of few training rows."""

import numpy as np
import pandas as pd
import pytest

import skae
from skae import VAEGenerator
from skae._data._guarded_values import LEAST_SHARED, GuardedColumn
from skae.relations import Formula

QUICK = {"private_values": True, "max_epochs": 10, "random_state": 0}


@pytest.fixture(scope="module")
def people():
    """Wages of float64, amounts in whole units, ages and zeros that rows share, rare levels."""
    rng = np.random.default_rng(0)
    n = 1500
    age = np.clip(np.round(rng.gamma(20, 2, n)), 18, 90)
    job = rng.choice(["nurse", "clerk", "cook"], n, p=[0.4, 0.3, 0.3])
    job[:10] = ["pope"] * 2 + ["judge"] * 8
    wage = rng.lognormal(7, 0.5, n) * (1 + 0.2 * (job == "nurse"))
    loan = np.where(rng.random(n) < 0.4, 0, np.round(rng.lognormal(8, 1, n)))
    frame = pd.DataFrame(
        {"age": age.astype(int), "job": job, "wage": wage, "loan": loan.astype(int)}
    )
    frame["total"] = frame["loan"] + frame["age"]
    return frame


@pytest.fixture(scope="module")
def fitted(people):
    return VAEGenerator(**QUICK).fit(people)


def rare(column):
    """Values of fewer rows than must share one."""
    counts = column.value_counts()
    return counts.index[counts < LEAST_SHARED]


def assert_shows_nothing_rare(drawn, real):
    for name in real:
        assert not drawn[name].isin(rare(real[name])).any(), name


def test_no_rare_value_or_level_is_drawn(people, fitted):
    assert {len(rare(people[name])) > 0 for name in people} == {True}
    drawn = fitted.sample(4000, random_state=0)
    assert_shows_nothing_rare(drawn, people)
    assert not drawn["wage"].isin(people["wage"]).any()
    assert set(drawn["job"]) == {"nurse", "clerk", "cook"}
    # What rows share is drawn as often as without.
    assert abs((drawn["loan"] == 0).mean() - (people["loan"] == 0).mean()) < 0.04
    assert drawn["age"].isin(people["age"]).mean() > 0.95
    assert drawn.dtypes.equals(people.dtypes)


def test_without_it_such_values_are_drawn(people):
    drawn = (
        VAEGenerator(**QUICK | {"private_values": False}).fit(people).sample(4000, random_state=0)
    )
    assert drawn["loan"].isin(rare(people["loan"])).any()
    assert drawn["job"].isin(rare(people["job"])).any()


def test_relations_still_hold(people, fitted):
    assert [relation.column_name for relation in fitted.relations_] == ["total"]
    drawn = fitted.sample(1000, random_state=1)
    assert (drawn["total"] == drawn["loan"] + drawn["age"]).all()


def test_conditions_hold_and_rare_levels_are_refused(people, fitted):
    drawn = fitted.sample(200, conditions={"job": "cook", "age": (30, 45)}, random_state=0)
    assert (drawn["job"] == "cook").all()
    assert drawn["age"].between(30, 45).all()
    assert_shows_nothing_rare(drawn, people)
    # A number that is asked for tells nothing about rows.
    wage = people["wage"].iloc[0]
    assert (fitted.sample(20, conditions={"wage": wage}, random_state=0)["wage"] == wage).all()
    with pytest.raises(ValueError, match=r"'job' cannot be 'pope'.*fewer than 10 rows"):
        fitted.sample(5, conditions={"job": "pope"})
    with pytest.raises(ValueError, match="'job' cannot be"):
        fitted.sample(5, conditions={"job": ["pope", "cook"]})


def test_no_more_rows_are_copied_than_held_out_rows_are(people):
    table = people.assign(loan=people["loan"] // 4000).drop(columns="wage")
    report = VAEGenerator(**QUICK).fit(table.iloc[:1000]).evaluate(table.iloc[1000:])
    assert report.excess_copies < 0.09  # three standard errors
    wages = people[["age", "wage"]]
    report = VAEGenerator(**QUICK).fit(wages.iloc[:1000]).evaluate(wages.iloc[1000:])
    assert report.excess_copies == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_of_numbers(dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)).astype(dtype)
    X[::3, 2] = 0
    model = VAEGenerator(**QUICK | {"refine": True}).fit(X)
    drawn = model.sample(3000, random_state=0)
    assert drawn.dtype == dtype
    for j in range(2):
        assert not np.isin(drawn[:, j], X[:, j]).any()
        # The nine smallest and largest numbers stay out of reach.
        assert drawn[:, j].min() >= np.sort(X[:, j])[9]
        assert drawn[:, j].max() <= np.sort(X[:, j])[-10]
    assert abs((drawn[:, 2] == 0).mean() - 1 / 3) < 0.08
    assert not np.isin(drawn[drawn[:, 2] != 0, 2], X[:, 2]).any()


def test_later_rows_count_too(people):
    model = VAEGenerator(**QUICK | {"relations": None}).fit(people.iloc[:700])
    model.partial_fit(people.iloc[700:])
    drawn = model.sample(2000, random_state=0)
    assert not drawn["wage"].isin(people["wage"]).any()
    assert not drawn["loan"].isin(rare(people["loan"])).any()


def test_flags_of_few_rows_are_pooled():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "flag": np.arange(300) < 6})
    drawn = VAEGenerator(**QUICK).fit(frame).sample(2000, random_state=0)
    assert not drawn["flag"].any()


def test_functions_of_columns_show_nothing_rare():
    rng = np.random.default_rng(0)
    minute = rng.integers(0, 24 * 60, 1200)
    frame = pd.DataFrame({"minute": minute, "hour": minute // 60, "x": rng.normal(size=1200)})
    frame = frame[(frame["hour"] != 5) | (np.arange(1200) < 100)]
    model = VAEGenerator(relations=[Formula("hour", "minute // 60")], **QUICK).fit(frame)
    drawn = model.sample(1000, random_state=0)
    assert len(rare(frame["hour"])) == 1
    assert_shows_nothing_rare(drawn, frame)
    assert (drawn["hour"] == drawn["minute"] // 60).all()


def test_scores_pool_rare_levels(people, fitted):
    row = people[people["job"] == "pope"].head(1)
    scores = [fitted.score_samples(row.assign(job=job))[0] for job in ("pope", "judge", "nurse")]
    assert scores[0] == scores[1] == scores[2]


def test_a_loaded_model_keeps_values_private(fitted, people, tmp_path):
    skae.save(fitted, tmp_path / "model.skae")
    again = skae.load(tmp_path / "model.skae")
    assert again.private_values
    drawn = again.sample(300, random_state=5)
    pd.testing.assert_frame_equal(drawn, fitted.sample(300, random_state=5))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([f"P{i}" for i in range(60)], "no level of column 'who' has 10 rows"),
        (np.arange(60), "'who' has no number that 10 rows share"),
    ],
)
@pytest.mark.filterwarnings("ignore:Column 'who'")
def test_columns_without_a_value_to_draw_are_named(column, message):
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60), "who": column})
    with pytest.raises(ValueError, match=message):
        VAEGenerator(**QUICK).fit(frame)


def test_few_rows_and_images_are_refused():
    X = np.random.default_rng(0).random((19, 3))
    with pytest.raises(ValueError, match="It holds 19 numbers"):
        VAEGenerator(**QUICK).fit(X)
    with pytest.raises(ValueError, match="needs likelihood='auto'; got likelihood='bernoulli'"):
        VAEGenerator(likelihood="bernoulli", **QUICK).fit(X)


def test_numbers_are_replaced_from_among_the_rows_around():
    values = np.arange(0.0, 1000.0)  # each once: no whole number is free
    column = GuardedColumn.of(np.r_[values, np.full(12, 500.0)], np.ones(1012))
    rng = np.random.RandomState(0)
    assert (column.replaced(np.full(20, 503.0), rng) == 500.0).all()
    column = GuardedColumn.of(values / np.pi, np.ones(1000))
    replaced = column.replaced(np.full(500, 300 / np.pi), rng) * np.pi
    assert not np.isin(replaced / np.pi, column.values).any()
    assert np.abs(replaced - 300).max() < 2 * LEAST_SHARED


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("decimals", [2, 9])
def test_numbers_are_rare_as_their_dtype_shows_them(precision, decimals):
    rng = np.random.default_rng(0)
    prices = rng.lognormal(1, 0.5, 600).round(decimals).astype(precision)
    frame = pd.DataFrame({"price": prices, "kind": rng.choice(["a", "b"], 600)})
    generator = VAEGenerator(**{**QUICK, "max_epochs": 2}).fit(frame)
    assert_shows_nothing_rare(generator.sample(2000, random_state=0), frame)


def test_setting_it_after_fit_is_refused(people):
    model = VAEGenerator(max_epochs=1, refine=False).fit(people)
    model.set_params(private_values=True)
    with pytest.raises(ValueError, match="was set after fit"):
        model.sample(5)


def test_error_where_relations_tie_rare_values_together():
    a, b = np.meshgrid(1000 * np.arange(20), np.arange(20))  # each shared, but no total
    frame = pd.DataFrame({"a": np.repeat(a, 4), "b": np.repeat(b, 4)})
    frame["total"] = frame["a"] + frame["b"]
    model = VAEGenerator(**{**QUICK, "max_epochs": 1, "refine": False}).fit(frame)
    with pytest.raises(ValueError, match=r"private_values=True: of .* none may be shown"):
        model.sample(5)
