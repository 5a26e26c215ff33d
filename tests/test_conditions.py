"""Rows are drawn with given cells, ranges and levels, also where relations determine them."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from test_relations import DAY, QUICK, TABLES, N, table_of

from skae import VAEGenerator
from skae.relations import Formula


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, 600)
    city = np.array(["Bern", "Lima", "Oslo"])[rng.integers(0, 3, 600)]
    income = np.where(rng.random(600) < 0.2, np.nan, 100.0 * age + rng.normal(size=600))
    since = DAY + pd.to_timedelta(rng.integers(0, 900, 600), "D")
    return pd.DataFrame({"age": age, "city": city, "income": income, "since": since})


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "refined"])
def model(table, request):
    params = QUICK | {"max_epochs": 40, "hidden_layer_sizes": (32,)}
    return VAEGenerator(refine=request.param, **params).fit(table)


def test_ranges(model):
    rows = model.sample(300, 0, conditions={"age": (30, 40)})
    assert rows["age"].between(30, 40).all()
    assert rows["age"].nunique() > 5
    # The rest goes with it: 4000 is the income at 40.
    assert rows["income"].median() < 4500
    stamps = ("2020-03-01", pd.Timestamp("2020-04-01"))
    rows = model.sample(100, 0, conditions={"since": stamps, "city": "Oslo"})
    assert rows["since"].between(*stamps).all()
    assert set(rows["city"]) == {"Oslo"}
    assert (model.sample(100, 0, conditions={"age": (60, None)})["age"] >= 60).all()


def test_lists_of_values(model):
    rows = model.sample(300, 0, conditions={"city": ["Bern", "Oslo"], "age": [20, 30, 40]})
    assert set(rows["city"]) == {"Bern", "Oslo"}
    assert set(rows["age"]) <= {20, 30, 40}
    rows = model.sample(100, 0, conditions={"income": [None]})
    assert rows["income"].isna().all()


def test_ranges_keep_the_distribution_within(model):
    """Rows within a range are distributed as those of all draws that lie within."""
    free = model.sample(20_000, 1)
    free = free[free["age"].between(30, 45)]
    rows = model.sample(4000, 0, conditions={"age": (30, 45)})
    assert rows["age"].mean() == pytest.approx(free["age"].mean(), abs=0.4)
    shares = rows["city"].value_counts(normalize=True) - free["city"].value_counts(normalize=True)
    assert shares.abs().max() < 0.06


def test_rows_to_complete(model, table):
    known = table[["city", "age"]][:40].set_index(np.arange(40) + 7)
    for n_samples in (1, 40):
        rows = model.sample(n_samples, 0, conditions=known)
        assert rows[["city", "age"]].equals(known)
        assert rows.dtypes.equals(table.dtypes)
    with_gaps = pd.DataFrame({"income": [np.nan, 3000.0, np.nan], "city": ["Oslo", "Oslo", "Lima"]})
    # Incomes have no decimals to keep.
    with_gaps.loc[1, "income"] = table["income"].median()
    rows = model.sample(conditions=with_gaps, random_state=0)
    assert rows[["income", "city"]].equals(with_gaps)
    with pytest.raises(ValueError, match="n_samples=3 does not fit conditions, which have 40 rows"):
        model.sample(3, conditions=known)


def test_rows_to_complete_of_nullable_columns(model):
    known = pd.DataFrame({"city": ["Oslo", "Bern"], "income": [2000, None]})
    rows = model.sample(conditions=known.astype({"income": "Int64", "city": "string"}))
    assert rows["city"].tolist() == ["Oslo", "Bern"]
    assert rows["income"].isna().tolist() == [False, True]


def test_lists_in_rows_to_complete(model):
    known = pd.DataFrame({"city": [["Oslo"], ["Bern", "Lima"]], "age": [(20, 30), 40]})
    rows = model.sample(conditions=known)
    assert rows["city"][0] == "Oslo"
    assert rows["city"][1] in ("Bern", "Lima")
    assert 20 <= rows["age"][0] <= 30
    assert rows["age"][1] == 40


def test_rows_to_complete_of_polars(table):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"age": table["age"].to_numpy(), "city": table["city"].tolist()})
    rows = VAEGenerator(**QUICK).fit(frame).sample(conditions=frame[:9].select("city"))
    assert rows["city"].to_list() == frame["city"][:9].to_list()


def test_seeds_go_second_as_in_kernel_density(model):
    assert model.sample(5, 3).equals(model.sample(5, random_state=3))
    assert model.sample(5, 3).equals(model.sample(n_samples=5, random_state=3))


def test_rows_for_targets_within_a_range(table):
    X, y = table[["age", "income"]], table["city"]
    model = VAEGenerator(conditional=True, **QUICK).fit(X, y)
    assert model.sample(50, 0, y="Oslo", conditions={"age": (20, 30)})["age"].between(20, 30).all()
    known = X[["age"]][:3]
    assert model.sample(1, 0, y=["Oslo", "Lima", "Oslo"], conditions=known)["age"].equals(
        known["age"].reset_index(drop=True)
    )
    assert len(model.sample(1, 0, conditions=known)) == 3


def test_what_hardly_goes_together(model):
    rare = {"age": (18, 19), "income": (7000.0, 7500.0)}
    with pytest.raises(ValueError, match=r"conditions: of .* rows drawn none meets them"):
        model.sample(5, 0, conditions=rare)


# Columns that relations determine.


def first(X, name):
    return X[name].dropna().iloc[0]


ASKED = {
    "inequality": lambda X: {"end": first(X, "end")},
    "inequality with gaps": lambda X: {"end": first(X, "end")},
    "sum": lambda X: {"total": first(X, "total")},
    "sum with gaps": lambda X: {"total": first(X, "total")},
    "sum of four": lambda X: {"all": 150, "p0": 40},
    "one of": lambda X: {"is_2": 1},
    "one of booleans": lambda X: {"is_1": False},
    "many to one": lambda X: {"state": "X"},
    "equal levels": lambda X: {"right": "b"},
    "quotient": lambda X: {"hour": 13},
    "intervals": lambda X: {"grade": "B"},
    "product": lambda X: {"paid": first(X, "paid"), "quantity": first(X, "quantity")},
    "rate": lambda X: {"tax": first(X, "tax")},
    "units": lambda X: {"fahrenheit": first(X, "fahrenheit")},
    "gaps": lambda X: {"income_0": None, "level": "q"},
    "days": lambda X: {"day": 20200229},
    "pairs": lambda X: {"b": "v"},
}
RANGES = {
    "inequality": lambda X: {"end": (X["end"].quantile(0.2), X["end"].quantile(0.4))},
    "sum": lambda X: {"total": (5000.0, 8000.0)},
    "one of": lambda X: {"is_2": [0]},
    "many to one": lambda X: {"state": ["X", "Y"], "city": ["a", "c", "d", "g"]},
    "quotient": lambda X: {"hour": (7, 9)},
    "product": lambda X: {"paid": (100, 300)},
    "days": lambda X: {"day": (20220215, 20220315)},
    "pairs": lambda X: {"b": ["v", "z"]},
    "gaps": lambda X: {"income_1": (-1.0, 1.0)},
}


@pytest.mark.parametrize("name", ASKED)
def test_cells_that_relations_determine(name):
    X = table_of(name)
    model = VAEGenerator(**QUICK).fit(X)
    conditions = ASKED[name](X)
    rows = model.sample(60, 0, conditions=conditions)
    for column, value in conditions.items():
        if value is None:
            assert rows[column].isna().all()
        elif isinstance(value, float):
            np.testing.assert_allclose(rows[column], value, rtol=1e-9)
        else:
            assert (rows[column] == value).all()
    assert np.isfinite(model.score_samples(rows)).all()
    assert rows["noise"].nunique() > 10


@pytest.mark.parametrize("name", RANGES)
def test_ranges_that_relations_determine(name):
    X = table_of(name)
    conditions = RANGES[name](X)
    rows = VAEGenerator(**QUICK).fit(X).sample(60, 0, conditions=conditions)
    for column, value in conditions.items():
        met = rows[column].between(*value) if isinstance(value, tuple) else rows[column].isin(value)
        assert met.all(), column
    if name != "product":
        assert TABLES[name][2](rows) in (True, None)


def test_rows_that_relations_determine_are_completed():
    X = table_of("inequality")
    model = VAEGenerator(**QUICK).fit(X)
    rows = model.sample(conditions=X[["end", "level"]][:10], random_state=0)
    assert rows[["end", "level"]].equals(X[["end", "level"]][:10])
    assert (rows["start"] <= rows["end"]).all()


def test_solutions_are_distributed_as_the_model_says():
    """Of two equal parts with a given sum, each is half of it in the mean."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, 2 * N))
    X = pd.DataFrame({"total": parts.sum(axis=0), "a": parts[0], "b": parts[1]})
    model = VAEGenerator(**QUICK | {"max_epochs": 60}).fit(X)
    rows = model.sample(2000, 0, conditions={"total": 1.5})
    assert rows["a"].mean() == pytest.approx(0.75, abs=0.15)
    assert rows["a"].std() == pytest.approx(np.sqrt(0.5), rel=0.15)


def test_cells_that_never_go_together():
    model = VAEGenerator(**QUICK).fit(table_of("pairs"))
    with pytest.raises(ValueError, match=r"\['a', 'b'\] never go together.*Combination"):
        model.sample(5, conditions={"a": "a", "b": "z"})
    model = VAEGenerator(**QUICK).fit(table_of("inequality"))
    with pytest.raises(ValueError, match="none meets them"):
        model.sample(5, conditions={"start": DAY + pd.Timedelta(9, "D"), "end": DAY})


def test_what_follows_from_given_cells_is_searched_for_once():
    """A product of two given factors is what it is: no further rows can have another one."""
    X = table_of("product")
    model = VAEGenerator(**QUICK).fit(X)
    asked = first(X[["quantity", "price"]], ["quantity", "price"]).to_dict()
    paid = asked["quantity"] * asked["price"]
    rows = model.sample(20, 0, conditions=asked | {"paid": paid})
    np.testing.assert_allclose(rows["paid"], paid)
    with pytest.raises(ValueError, match=r"of \d{1,5} rows drawn none meets them, .*'paid'"):
        model.sample(20, 0, conditions=asked | {"paid": paid + 1})


def test_cells_solved_for_are_numbers_of_their_columns():
    """A price that is solved for is in cents, whatever the quantity."""
    X = table_of("product")
    model = VAEGenerator(**QUICK).fit(X)
    rows = model.sample(100, 0, conditions={"paid": 100.0})
    assert_array_equal(rows["price"], rows["price"].round(2))
    assert_array_equal(rows["paid"], 100.0)


def test_conditions_reach_through_several_formulas():
    celsius, noise = np.random.default_rng(0).normal(20, 3, (2, N))
    X = pd.DataFrame({"celsius": celsius, "copy": celsius, "kelvin": celsius + 273.15})
    X["noise"] = noise
    chain = [Formula("kelvin", "copy + 273.15"), Formula("copy", "celsius")]
    model = VAEGenerator(relations=chain, **QUICK).fit(X)
    for name in ("celsius", "copy", "kelvin"):
        asked = X[name].median()
        rows = model.sample(20, 0, conditions={name: asked})
        np.testing.assert_allclose(rows[name], asked)
        assert rows["noise"].nunique() > 10
        assert model._relations.hold(rows.to_numpy()).all()


def test_latents_are_weighed_once_for_all_rows_tried(model, table, monkeypatch):
    """Cells that are given are the same in rows that are drawn anew for the sake of a range."""
    n_weighed = []
    weigh = type(model.net_).likelihood_rows

    def counting(self, z, row):
        n_weighed.append(len(z))
        return weigh(self, z, row)

    monkeypatch.setattr(type(model.net_), "likelihood_rows", counting)
    rare = {"city": "Bern", "age": (18, 19), "income": (7000.0, 7500.0)}
    with pytest.raises(ValueError, match=r"none meets them, .*Bern"):
        model.sample(5, 0, conditions=rare)
    assert len(n_weighed) == 1


def test_infinity_ends_no_range(model, table):
    rows = model.sample(200, 0, conditions={"age": (-np.inf, 40), "income": (2000, np.inf)})
    assert rows["age"].max() <= 40
    assert rows["income"].min() >= 2000


def test_conditions_alone_give_the_bits_they_gave(model):
    conditions = {"city": "Oslo", "age": 30}
    a, b = (model.sample(9, 0, conditions=c) for c in (conditions, pd.DataFrame([conditions])))
    assert a.equals(b)
    assert_array_equal(a["age"], 30)
