"""Relations between columns are found by documented rules, and hold in every row given out."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import skae
from skae import VAEGenerator
from skae._data._formulas import evaluate, names_in
from skae._data._frames import Columns, PlainColumns
from skae._data._relation_steps import days_of
from skae._data._relations import Relations
from skae.relations import Combination, Formula, Gap, Inequality, OneOf, Sum, YearMonthDay

QUICK = {"max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0, "device": "cpu"}
N = 300
DAY = pd.Timestamp("2020-01-01")


def learned(table, wanted="auto"):
    """Relations of a table, and its numbers."""
    is_frame = isinstance(table, pd.DataFrame)
    columns = Columns(table) if is_frame else PlainColumns(table)
    X = columns.to_numbers(table) if is_frame else table
    return Relations(columns.n_levels).learn(wanted, columns, X), X


def some_missing(values, rng, share=0.1):
    return pd.Series(values).mask(rng.random(len(values)) < share)


# Tables in which a relation holds, that relation, and what says so of any rows.


def dates(rng):
    start = DAY + pd.to_timedelta(rng.integers(0, 900, N), "D")
    end = start + pd.to_timedelta(rng.exponential(9, N).astype(int), "D")
    return {"start": start, "end": end}


def dates_with_gaps(rng):
    columns = dates(rng)
    return {name: some_missing(cells, rng) for name, cells in columns.items()}


def amounts(rng, missing=0.0):
    parts = rng.integers(0, 10**6, (2, N)) / 100
    total = np.round(parts.sum(axis=0), 2)
    columns = {"total": total, "a": parts[0], "b": parts[1]}
    return {name: some_missing(cells, rng, missing) for name, cells in columns.items()}


def four_parts(rng):
    parts = rng.integers(0, 100, (4, N))
    return {**{f"p{i}": part for i, part in enumerate(parts)}, "all": parts.sum(axis=0)}


def flags(rng, dtype=int):
    chosen = rng.integers(0, 4, N)
    return {f"is_{i}": (chosen == i).astype(dtype) for i in range(4)}


def flags_with_gaps(rng):
    gone = rng.random(N) < 0.1
    return {name: pd.Series(cells).mask(gone) for name, cells in flags(rng).items()}


def cities(rng):
    city = rng.integers(0, 8, N)
    return {"city": np.array(list("abcdefgh"))[city], "state": np.array(list("WXYZ"))[city // 2]}


def equal_levels(rng):
    level = np.array(list("abc"))[rng.integers(0, 3, N)]
    return {"left": level, "right": level}


def clock(rng):
    time = 100 * rng.integers(0, 24, N) + rng.integers(0, 60, N)
    return {"time": time, "hour": time // 100}


def grades(rng):
    points = rng.uniform(0, 100, N)
    return {"points": points, "grade": np.array(list("EDCBA"))[(points // 20).astype(int)]}


def purchases(rng):
    quantity, price = rng.integers(1, 20, N), rng.integers(100, 9000, N) / 100
    return {"quantity": quantity, "price": price, "paid": np.round(quantity * price, 2)}


def taxes(rng):
    net = rng.lognormal(5, 1, N).round(2)
    return {"net": net, "tax": np.round(0.19 * net, 2)}


def temperatures(rng):
    celsius = np.round(rng.normal(20, 5, N), 1)
    return {"celsius": celsius, "fahrenheit": 1.8 * celsius + 32}


def applicants(rng):
    kind = rng.integers(0, 3, N)
    income = {f"income_{i}": np.where(kind == 1, np.nan, rng.normal(size=N)) for i in range(2)}
    level = np.array(list("xy"))[rng.integers(0, 2, N)].astype(object)
    return {"kind": np.array(list("abc"))[kind], **income, "also": np.where(kind == 1, None, level)}


def thresholds(rng):
    age, paid = rng.integers(0, 90, N), rng.exponential(size=N)
    start = DAY + pd.to_timedelta(30 * rng.integers(0, 30, N), "D")
    return {
        "age": age,
        "income": np.where(age <= 14, np.nan, rng.normal(size=N)),
        "start": start,
        "end": np.where(start >= DAY + pd.Timedelta("690D"), np.nan, rng.normal(size=N)),
        "paid": np.where(rng.random(N) < 0.6, paid, np.nan),
    }


def with_reasons(rng):
    table = thresholds(rng)
    why = np.array(list("uv"))[rng.integers(0, 2, N)]
    return table | {"why": np.where(np.isnan(table["paid"]), why, None)}


def days(rng):
    stamps = DAY + pd.to_timedelta(rng.integers(0, 3000, N), "D")
    return {"day": stamps.strftime("%Y%m%d").astype(int)}


def pairs(rng):
    a = rng.integers(0, 4, N)
    return {"a": np.array(list("abcd"))[a], "b": np.array(list("vwxyz"))[a + rng.integers(0, 2, N)]}


def assert_sum(rows, tolerance=0.0):
    total, parts = rows["total"], rows["a"] + rows["b"]
    known = total.notna() & parts.notna()
    assert known.any()
    assert_allclose(total[known], np.round(parts[known], 2), rtol=0, atol=tolerance)


TABLES = {
    "inequality": (
        dates,
        [Inequality("start", "end")],
        lambda rows: (rows["start"] <= rows["end"]).all(),
    ),
    "inequality with gaps": (
        dates_with_gaps,
        [Inequality("start", "end")],
        lambda rows: (
            ~(rows["end"] < rows["start"]).any()
            and rows.isna().any(axis=1).any()
            and rows[rows["start"].isna()]["end"].notna().any()
        ),
    ),
    "sum": (amounts, [Sum("total", ["a", "b"])], assert_sum),
    "sum with gaps": (
        lambda rng: amounts(rng, 0.1),
        [Sum("total", ["a", "b"])],
        lambda rows: assert_sum(rows) or rows[rows["a"].isna()]["total"].notna().any(),
    ),
    "sum of four": (
        four_parts,
        [Sum("all", ["p0", "p1", "p2", "p3"])],
        lambda rows: (rows.filter(like="p").sum(axis=1) == rows["all"]).all(),
    ),
    "one of": (
        flags,
        [OneOf([f"is_{i}" for i in range(4)])],
        lambda rows: (rows.filter(like="is_").sum(axis=1) == 1).all(),
    ),
    "one of booleans": (
        lambda rng: flags(rng, bool),
        [OneOf([f"is_{i}" for i in range(4)])],
        lambda rows: (rows.filter(like="is_").sum(axis=1) == 1).all(),
    ),
    "one of, with gaps": (
        flags_with_gaps,
        [OneOf([f"is_{i}" for i in range(4)])],
        lambda rows: rows.filter(like="is_").sum(axis=1, min_count=4).isin([1, np.nan]).all(),
    ),
    "many to one": (
        cities,
        [Formula("state", of="city")],
        lambda rows: (
            rows["city"].map(lambda c: "WXYZ"["abcdefgh".index(c) // 2]) == rows["state"]
        ).all(),
    ),
    "equal levels": (
        equal_levels,
        [Formula("right", of="left")],
        lambda rows: (rows["left"] == rows["right"]).all(),
    ),
    "quotient": (
        clock,
        [Formula("hour", "time // 100")],
        lambda rows: (rows["time"] // 100 == rows["hour"]).all(),
    ),
    "intervals": (
        grades,
        [Formula("grade", of="points")],
        lambda rows: (
            np.array(list("EDCBA"))[(rows["points"] // 20).astype(int)] == rows["grade"]
        ).all(),
    ),
    "product": (
        purchases,
        [Formula("paid", "quantity * price")],
        lambda rows: np.allclose(
            rows["paid"], np.round(rows["quantity"] * rows["price"], 2), atol=0.01001
        ),
    ),
    "rate": (
        taxes,
        [Formula("tax", "0.19 * net")],
        lambda rows: np.allclose(rows["tax"], 0.19 * rows["net"], rtol=0, atol=0.005001),
    ),
    "units": (
        temperatures,
        [Formula("fahrenheit", "1.8 * celsius + 32")],
        lambda rows: np.allclose(rows["fahrenheit"], 1.8 * rows["celsius"] + 32),
    ),
    "gaps": (
        applicants,
        [Gap(name, "kind", ["b"]) for name in ("income_0", "income_1", "also")],
        lambda rows: all(
            (rows[name].isna() == (rows["kind"] == "b")).all()
            for name in ("income_0", "income_1", "also")
        ),
    ),
    "gaps beyond a number": (
        with_reasons,
        [
            Gap("income", "age", (), (None, 14)),
            Gap("end", "start", (), (DAY + pd.Timedelta("690D"), None)),
            Gap("paid", "why", (), (None, None)),
        ],
        lambda rows: (
            (rows["income"].isna() == (rows["age"] <= 14)).all()
            and (rows["end"].isna() == (rows["start"] >= DAY + pd.Timedelta("690D"))).all()
            and (rows["paid"].isna() == rows["why"].notna()).all()
        ),
    ),
    "days": (
        days,
        [YearMonthDay("day")],
        lambda rows: (
            pd.to_datetime(rows["day"].astype(str), format="%Y%m%d", errors="coerce").notna().all()
        ),
    ),
    "pairs": (
        pairs,
        [Combination(["a", "b"])],
        lambda rows: {"av", "aw", "bw", "bx", "cx", "cy", "dy", "dz"} >= set(rows["a"] + rows["b"]),
    ),
}


def table_of(name, seed=0):
    """The table of a relation, beside two columns of noise."""
    rng = np.random.default_rng(seed)
    noise = {"noise": rng.normal(size=N), "level": np.array(list("pqr"))[rng.integers(0, 3, N)]}
    return pd.DataFrame({**TABLES[name][0](rng), **noise})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TABLES)
def test_relations_are_found(name, seed):
    assert set(learned(table_of(name, seed))[0].found) == set(TABLES[name][1])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", TABLES)
def test_reduced_rows_become_whole_again(name, seed):
    relations, X = learned(table_of(name, seed))
    reduced = relations.reduce(X)
    assert reduced.shape[1] == len(relations.n_levels) == len(relations.keys)
    assert_allclose(relations.restore(reduced), X, rtol=1e-12, atol=1e-12)
    assert_allclose(relations.close(reduced), reduced, rtol=1e-12, atol=1e-12)
    assert relations.hold(X).all()


def test_combinations_with_missing_cells_are_learned_once():
    frame = table_of("pairs")
    frame.loc[::4, "a"] = frame.loc[1::5, "b"] = None
    relations, X = learned(frame, [Combination(["a", "b"])])
    n_pairs = len(frame[["a", "b"]].fillna("missing").drop_duplicates())
    assert max(relations.n_levels) == n_pairs
    assert_allclose(relations.restore(relations.reduce(X)), X)


@pytest.mark.parametrize("wanted", ["found", "given"])
@pytest.mark.parametrize("name", TABLES)
def test_relations_hold_in_all_rows_given_out(name, wanted):
    _, relations, holds = TABLES[name]
    for seed in (0,) if wanted == "found" else (1,):
        X = table_of(name, seed)
        model = VAEGenerator(relations="auto" if wanted == "found" else relations, **QUICK).fit(X)
        assert set(model.relations_) == set(relations)
        drawn = model.sample(1000, random_state=seed)
        assert drawn.dtypes.equals(X.dtypes)
        assert holds(drawn) in (True, None)
        for rows in (drawn, model.reconstruct(X), model.inverse_transform(model.transform(X))):
            assert np.isfinite(model.score_samples(rows)).all()


def test_gaps_between_two_numbers():
    rng = np.random.default_rng(0)
    age = rng.integers(20200101, 20200129, N)  # dates, in integers
    X = pd.DataFrame({"when": age, "x": np.where(age >= 20200114, np.nan, rng.normal(size=N))})
    gap = Gap("x", "when", between=(20200114, 20200119))
    with pytest.raises(ValueError, match=r"Gap\(.*does not hold in row \d+ of X, where 'when' is"):
        VAEGenerator(relations=[gap], **QUICK).fit(X)
    X["x"] = X["x"].where(age < 20200120, 0.0)
    for relations in ([gap], [YearMonthDay("when"), gap]):
        rows = VAEGenerator(relations=relations, **QUICK).fit(X).sample(500, random_state=0)
        assert (rows["x"].isna() == rows["when"].between(20200114, 20200119)).all()
    with pytest.raises(ValueError, match=r"between=\(1,\) of Gap must have two ends"):
        Gap("x", "when", between=(1,))
    with pytest.raises(ValueError, match=r"Gap\(.*'when' cannot be|Gap\(.*must hold numbers"):
        VAEGenerator(relations=[Gap("x", "when", between=("a", None))], **QUICK).fit(X)
    with pytest.raises(ValueError, match=r"'level', which holds levels"):
        VAEGenerator(relations=[Gap("x", "level", between=("a", None))], **QUICK).fit(
            X.assign(level=np.array(list("ab"))[age % 2])
        )


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_noise(seed):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(N, 3))
    correlated = factors @ rng.normal(size=(3, 6)) + 0.3 * rng.normal(size=(N, 6))
    table = {f"x{i}": cells for i, cells in enumerate(correlated.T)}
    table["above"] = table["x0"] + np.abs(4 + rng.normal(size=N))
    table |= {f"count_{i}": rng.poisson(np.exp(factors[:, 0]) * i, N) for i in (1, 3)}
    table |= {f"flag_{i}": rng.random(N) < share for i, share in enumerate((0.02, 0.3, 0.5))}
    table |= {f"sum_{i}": np.round(rng.gamma(2, 30, N), 2) for i in range(3)}
    table["level"] = np.array(list("abcdef"))[rng.integers(0, 6, N)]
    table["ordered"] = np.array(list("abcdef"))[np.clip(3 + factors[:, 0].astype(int), 0, 5)]
    table["gaps"] = some_missing(rng.normal(size=N), rng)
    table["class"] = factors[:, 0] + rng.normal(size=N) > 0
    table["date"] = DAY + pd.to_timedelta(rng.integers(0, 900, N), "D")
    table["year"] = rng.integers(1950, 2020, N)
    assert learned(pd.DataFrame(table))[0].found == []
    assert learned(correlated)[0].found == []


def test_amounts_of_many_sizes_are_in_no_order_by_chance():
    """A ratio that is below 1 in one row of 160 is above 1 in all rows of many samples."""
    n_lucky, n_found = 0, {"chance": 0, "rule": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        low = np.exp(rng.normal(3, 1.5, 200))
        ratios = {"chance": rng.normal(1, 0.4, 200), "rule": rng.exponential(0.5, 200)}
        n_lucky += (ratios["chance"] > 0).all()
        for name, ratio in ratios.items():
            X = pd.DataFrame({"low": low, "high": low * np.exp(ratio)})
            n_found[name] += bool(learned(X.round(2))[0].found)
    assert n_lucky > 5
    assert n_found == {"chance": 0, "rule": 40}


def test_few_rows_are_no_evidence():
    assert learned(table_of("sum")[:99])[0].found == []
    assert learned(table_of("sum")[:100])[0].found != []


def test_no_relations_are_wanted():
    X = table_of("sum")
    model = VAEGenerator(relations=None, **QUICK).fit(X)
    assert model.relations_ == []
    rows = model.sample(500, random_state=0)
    assert (np.abs(rows["a"] + rows["b"] - rows["total"]) > 0.01).any()
    noise = X[["noise", "level"]]
    found, none = (VAEGenerator(relations=r, **QUICK).fit(noise) for r in ("auto", None))
    assert found.sample(9, random_state=0).equals(none.sample(9, random_state=0))
    assert_array_equal(found.score_samples(noise), none.score_samples(noise))


@pytest.mark.parametrize("seed", range(2))
def test_relations_go_together(seed):
    rng = np.random.default_rng(seed)
    parts = [make(rng) for make in (dates, flags, cities, clock, applicants, days, purchases)]
    start = parts[0]["start"]
    later = pd.Series(parts[0]["end"]) + pd.to_timedelta(rng.exponential(5, N).astype(int), "D")
    a, b, c = rng.integers(0, 1000, (3, N))
    sums = {"ab": a + b, "a": a, "b": b, "abc": a + b + c, "c": c}
    X = pd.DataFrame({k: v for part in parts for k, v in part.items()} | sums | {"later": later})
    model = VAEGenerator(**QUICK).fit(X)
    rows = model.sample(2000, random_state=seed)
    assert start is not None
    assert (rows["start"] <= rows["end"]).all()
    assert (rows["end"] <= rows["later"]).all()
    assert (rows["a"] + rows["b"] == rows["ab"]).all()
    assert (rows["ab"] + rows["c"] == rows["abc"]).all()
    for name in ("one of", "many to one", "quotient", "gaps", "days", "product"):
        assert TABLES[name][2](rows), name


# Rows that break a relation.


def test_rows_that_break_a_relation_have_density_zero():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({**amounts(rng), **dates(rng), **cities(rng), **applicants(rng)})
    model = VAEGenerator(**QUICK).fit(X)
    bad = X[:6].copy()
    bad.loc[0, "total"] += 1
    bad.loc[1, "end"] = bad.loc[1, "start"] - pd.Timedelta(1, "D")
    bad.loc[2, "state"] = "W" if bad.loc[2, "state"] != "W" else "X"
    bad.loc[3, "income_0"] = 1.0 if bad.loc[3, "kind"] == "b" else np.nan
    broken = np.isin(np.arange(6), range(4))
    assert_array_equal(np.isneginf(model.score_samples(bad)), broken)
    bound = model.elbo(bad)
    assert_array_equal(np.isneginf(bound.elbo), broken)
    assert np.isneginf(model.score(bad))
    assert np.isfinite(model.transform(bad)).all()
    assert np.isfinite(model.score_samples(model.reconstruct(bad))).all()
    with pytest.raises(ValueError, match=r"Row 0 of X breaks one of the relations.*relations=None"):
        model.partial_fit(bad[:1])


BROKEN = {
    "Sum": (Sum("total", ["a"]), r"Sum\(.*does not hold in row 0 of X, where 'total' is"),
    "Inequality": (Inequality("total", "a"), r"Inequality\(.*does not hold in row 0"),
    "OneOf": (OneOf(["flag", "other"]), r"OneOf\(.*fails in \d+ of 300 rows"),
    "Formula": (Formula("a", "2 * b"), r"Formula\(.*does not hold"),
    "table": (Formula("flag", of="level"), r"Formula\(.*'level' is '[pqr]'"),
    "Gap": (Gap("a", "level", ["p"]), r"Gap\(.*does not hold"),
    "YearMonthDay": (YearMonthDay("a"), r"YearMonthDay\(.*does not hold"),
    "no column": (Sum("total", ["a", "none"]), "names the column 'none'; columns are"),
    "no name": (Formula("a", "2 * none"), "names the column 'none'; columns are"),
    "levels": (Inequality("level", "a"), "cannot be of column 'level', which holds levels"),
    "kinds": (Inequality("date", "a"), "cannot be of column 'a', which holds numbers"),
    "constant": (Formula("a", "3"), "reads no column"),
    "code": (Formula("a", "__import__('os')"), "cannot be read"),
    "value": (Gap("a", "level", ["?"]), r"holds '\?', which it did not in fit"),
    "itself": (Formula("a", "a + 1"), "is of a column and itself"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_relations_that_do_not_hold_are_named(name):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({**amounts(rng), "level": np.array(list("pqr"))[rng.integers(0, 3, N)]})
    X["flag"], X["other"] = (rng.random(N) < 0.5).astype(int), (rng.random(N) < 0.5).astype(int)
    X["date"] = DAY
    relation, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        VAEGenerator(relations=[relation], **QUICK).fit(X)


def test_relations_that_do_not_go_together_are_named():
    X = table_of("sum")
    twice = [Sum("total", ["a", "b"]), Formula("total", "a + b")]
    with pytest.raises(ValueError, match="both replace column 'total'"):
        VAEGenerator(relations=twice, **QUICK).fit(X)
    circle = [Formula("total", "a + b"), Formula("a", "total - b")]
    with pytest.raises(ValueError, match="go round in a circle"):
        VAEGenerator(relations=circle, **QUICK).fit(X)
    with pytest.raises(TypeError, match="'sum' must be one of Inequality"):
        VAEGenerator(relations=["sum"], **QUICK).fit(X)
    with pytest.raises(ValueError, match="needs likelihood='auto'"):
        VAEGenerator(relations=[Sum(0, [1, 2])], likelihood="gaussian", **QUICK).fit(X[["a", "b"]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Formula("a"), "either an expression or `of`"),
        (lambda: Formula("a", "b", of="c"), "either an expression or `of`"),
        (lambda: OneOf(["a"]), "at least 2 different columns"),
        (lambda: OneOf(["a", "a"]), "at least 2 different columns"),
        (lambda: Sum("a", "b"), "column_names='b' must be a list"),
    ],
)
def test_what_is_no_relation(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Relations that are given, and not found by themselves.


def test_several_columns_are_below_one():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N, 2)), columns=["a", "b"])
    X["c"] = X.max(axis=1) + rng.exponential(size=N)
    given = [Inequality("a", "c"), Inequality("b", "c", strict_boundaries=True)]
    rows = VAEGenerator(relations=given, **QUICK).fit(X).sample(3000, random_state=0)
    assert (rows["a"] < rows["c"]).all()
    assert (rows["b"] < rows["c"]).all()


def test_a_coarse_column_above_a_fine_one():
    rng = np.random.default_rng(0)
    low = np.round(rng.uniform(0, 9, N), 3)
    X = pd.DataFrame({"low": low, "high": np.ceil(low + rng.exponential(1, N)).astype(int)})
    model = VAEGenerator(relations=[Inequality("low", "high")], **QUICK).fit(X)
    rows = model.sample(3000, random_state=0)
    assert rows["high"].dtype == int
    assert (rows["low"] <= rows["high"]).all()
    assert rows["high"].max() <= X["high"].max()


def test_columns_without_names():
    rng = np.random.default_rng(0)
    X = np.column_stack([*amounts(rng).values(), rng.normal(size=N)])
    model = VAEGenerator(**QUICK).fit(X)
    assert model.relations_ == [Sum(0, [1, 2])]
    rows = model.sample(500, random_state=0)
    assert_allclose(rows[:, 0], rows[:, 1] + rows[:, 2], atol=1e-9)
    given = [Formula(0, "c1 + c2")]
    rows = VAEGenerator(relations=given, **QUICK).fit(X).sample(500, random_state=0)
    assert_allclose(rows[:, 0], rows[:, 1] + rows[:, 2], atol=1e-9)


def test_single_precision():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(N, 2)).astype(np.float32)
    X = np.column_stack([parts, parts.sum(axis=1)])
    model = VAEGenerator(**QUICK).fit(X)
    assert model.relations_ == [Sum(2, [0, 1])]
    rows = model.sample(500, random_state=0)
    assert rows.dtype == np.float32
    assert_allclose(rows[:, 2], rows[:, 0] + rows[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("container", ["polars", "arrow"])
def test_other_frames(container):
    X = table_of("one of booleans")
    if container == "polars":
        X = pytest.importorskip("polars").DataFrame(X.to_dict(orient="list"))
    else:
        X = pytest.importorskip("pyarrow").Table.from_pandas(X)
    model = VAEGenerator(**QUICK).fit(X)
    assert model.relations_ == TABLES["one of"][1]
    rows = model.sample(500, random_state=0)
    rows = rows.to_dict(as_series=False) if container == "polars" else rows
    assert (np.sum([rows[f"is_{i}"] for i in range(4)], axis=0) == 1).all()


# Relations as parts of an estimator.


def test_estimators_with_relations_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    makers = (dates_with_gaps, amounts, flags, cities, clock, grades, applicants, days, pairs)
    X = pd.DataFrame({k: v for make in makers for k, v in make(rng).items()})
    model = VAEGenerator(**QUICK).fit(X)
    given = clone(model).set_params(relations=model.relations_).fit(X)
    assert clone(given).relations == model.relations_ == given.relations_
    for each in (model, given):
        path = tmp_path / "model.skae"
        skae.save(each, path)
        loaded = skae.load(path)
        assert loaded.relations == each.relations
        for other in (loaded, pickle.loads(pickle.dumps(each))):
            assert other.relations_ == each.relations_
            assert other.sample(50, random_state=0).equals(each.sample(50, random_state=0))
            assert_array_equal(other.score_samples(X), each.score_samples(X))
    with pytest.raises(ValueError, match="relations"):
        model.set_params(warm_start=True, relations=None).fit(X)


@pytest.mark.parametrize("change", ["steps", "keys", "expression", "found"])
def test_files_whose_relations_do_not_fit_are_not_made(change, tmp_path):
    model = VAEGenerator(**QUICK).fit(table_of("quotient"))
    kept = model._kept_relations
    if change == "steps":
        kept.steps = []
    elif change == "keys":
        kept.keys = kept.keys[::-1]
    elif change == "found":
        kept.found = ["Sum"]
    else:
        kept.steps[0].rule.expression = "open('x')"
    with pytest.raises(TypeError, match=r"cannot be saved: .*_kept_relations|cannot be read"):
        skae.save(model, tmp_path / "model.skae")


def test_evaluation_is_of_whole_rows():
    X = table_of("sum")
    report = VAEGenerator(relations=[Sum("total", ["a", "b"])], **QUICK).fit(X).evaluate(X)
    assert np.isfinite([report.auroc, report.ks, report.ks_real, report.excess_copies]).all()


def test_conditional_generators():
    X = table_of("sum")
    model = VAEGenerator(conditional=True, **QUICK).fit(X.drop(columns="level"), X["level"])
    assert model.relations_ == TABLES["sum"][1]
    assert_sum(model.sample(500, y="p", random_state=0))
    assert np.isfinite(model.score_samples(X.drop(columns="level"))).all()


# Parts.


def test_days_are_those_of_the_calendar():
    stamps = pd.date_range("1999-12-25", "2024-03-05")
    numbers = stamps.strftime("%Y%m%d").astype(float).to_numpy()
    assert_array_equal(days_of(numbers), (stamps - pd.Timestamp("1970-01-01")).days)
    bad = [20230229, 20231301, 20230100, 20230132, 0, -5, 20230101.5, np.nan, 10**9]
    assert np.isnan(days_of(np.array(bad))).all()


def test_formulas():
    a, b = np.array([4.0, 9.0]), np.array([2.0, -3.0])
    variables = {"a": a, "b c": b}
    assert set(names_in("`b c` + a * a - sqrt(a)")) == {"a", "b c"}
    assert_array_equal(evaluate("-(a - `b c`) * 2 // 3 % 5", variables), -(a - b) * 2 // 3 % 5)
    assert_array_equal(evaluate("maximum(abs(`b c`), sqrt(a))", variables), [2, 3])


@pytest.mark.parametrize(
    "expression",
    [
        "a.b",
        "a[0]",
        "f(a)",
        "a ** 9",
        "lambda: a",
        "'a'",
        "sqrt(a, a)",
        "",
        "a +",
        "True",
        "a if a",
    ],
)
def test_expressions_that_are_more_than_arithmetic(expression):
    with pytest.raises(ValueError, match=r"expression=.* cannot be read"):
        names_in(expression)


def test_missing_cells_and_flags_at_random_within_relations():
    """Gaps of parts, of totals and of lower columns leave dtypes and relations as they are."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(four_parts(rng) | flags(rng) | dates(rng))
    X["p0"], X["is_0"] = some_missing(X["p0"], rng), some_missing(X["is_0"], rng)
    X["start"] = some_missing(X["start"], rng)
    model = VAEGenerator(**QUICK).fit(X)
    assert {type(r) for r in model.relations_} == {Sum, Inequality}
    rows = model.sample(2000, random_state=0)
    assert rows.dtypes.equals(X.dtypes)
    assert_array_equal(rows.isna().any(), X.isna().any())
    assert np.isfinite(model.score_samples(rows)).all()


def test_graphs_keep_no_relations():
    pytest.importorskip("onnx")
    model = VAEGenerator(**QUICK).fit(
        np.column_stack([*amounts(np.random.default_rng(0)).values()])
    )
    with pytest.raises(ValueError, match=r"keeps no relations.*Sum\(.*relations=None"):
        skae.to_onnx(model, "encode")


def test_higher_columns_keep_their_values():
    """A bound of few values, far above the other one, is drawn from these and no others."""
    rng = np.random.default_rng(0)
    steps = np.array([0, 2, 5, 20, 50, 100, 250])
    low = rng.integers(0, 6, N)
    high = np.minimum(low + rng.integers(0, 5, N), 6)
    X = pd.DataFrame({"low": steps[low], "high": steps[high]})
    model = VAEGenerator(relations=[Inequality("low", "high")], **QUICK).fit(X)
    rows = model.sample(2000, random_state=0)
    assert (rows["low"] <= rows["high"]).all()
    assert set(rows["high"]) <= set(steps)
    fixed = model.sample(50, 0, conditions={"high": 20})
    assert (fixed["high"] == 20).all()
    assert (fixed["low"] <= 20).all()


def test_sums_of_few_values_are_values_that_occur():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, N))
    X = pd.DataFrame({"all": 10 * (a + b), "a": 10 * a, "b": 10 * b})
    X = X[X["all"] != 20].reset_index(drop=True)
    model = VAEGenerator(relations=[Sum("all", ["a", "b"])], **QUICK).fit(X)
    rows = model.sample(1000, random_state=0)
    assert (rows["a"] + rows["b"] == rows["all"]).all()
    assert (rows["all"] == 20).mean() < 0.01  # a third without it


def test_differences_stay_within_the_range_they_had():
    """What is open is never negative: neither is what is drawn."""
    rng = np.random.default_rng(0)
    total = rng.lognormal(5, 1.5, N).round(2)
    paid = (rng.random(N) * total).round(2)
    X = pd.DataFrame({"total": total, "paid": paid, "open": (total - paid).round(2)})
    model = VAEGenerator(relations=[Formula("open", "total - paid")], **QUICK).fit(X)
    rows = model.sample(500, random_state=0)
    assert (rows["open"] >= X["open"].min()).all()
    assert (rows["open"] <= X["open"].max()).all()
