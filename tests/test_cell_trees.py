"""Trees that draw cells, alone and in the generator."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import ks_2samp

import skae
from skae import VAEGenerator
from skae._data._normal_scores import NormalScores
from skae._stats._cell_trees import LEAST_LEAF, CellTree, CellTrees

FEW_STEPS = {"max_epochs": 20, "random_state": 0}


@pytest.fixture(scope="module")
def bills():
    """Bills that are paid in full, or hardly change; a gap where nothing was ordered."""
    rng = np.random.default_rng(0)
    n = 1600
    plan = rng.choice(["full", "rolling", "none"], n, p=[0.3, 0.5, 0.2])
    first = np.round(rng.lognormal(8, 1.2, n))
    second = np.where(
        plan == "rolling", np.round(first * rng.uniform(0.98, 1.02, n)), rng.permutation(first)
    )
    second[plan == "none"] = np.nan
    paid = np.where(plan == "full", first, np.where(plan == "rolling", 0.0, 1000.0))
    return pd.DataFrame({"plan": plan, "first": first, "second": second, "paid": paid})


@pytest.fixture(scope="module")
def fitted(bills):
    return VAEGenerator(relations=None, **FEW_STEPS).fit(bills)


def near(frame):
    """Share of rows whose second amount is within a tenth of the first."""
    return ((frame["second"] / frame["first"] - 1).abs() < 0.1).mean()


def test_leaves_are_those_of_scikit_learn_with_gaps():
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    read = rng.normal(size=(500, 3))
    read[rng.random((500, 3)) < 0.2] = np.nan
    x = np.nan_to_num(read[:, 0], nan=2.0) + rng.normal(scale=0.1, size=500)
    tree = CellTree.of(read, x, x, False, seed=0)
    peer = DecisionTreeRegressor(min_samples_leaf=LEAST_LEAF, random_state=0).fit(read, x)
    new = np.where(rng.random((200, 3)) < 0.3, np.nan, rng.normal(size=(200, 3)))
    assert_array_equal(tree.leaves(new), peer.apply(new))
    assert np.diff(tree.starts)[tree.features < 0].min() >= LEAST_LEAF


def test_rows_that_trees_draw_are_distributed_as_real_ones():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(4000, 1))
    x = z[:, 0] + rng.normal(scale=0.3, size=4000)
    X = np.column_stack([x, np.abs(x) + rng.normal(scale=0.2, size=4000)])
    scaler = NormalScores([0, 0]).fit(X)
    nothing = [np.empty((4000, 0))] * 2
    trees = CellTrees().fit(X, z, nothing, scaler, [], seed=0)
    new = trees.draw(rng.normal(size=(4000, 1)), nothing, scaler, {}, np.random.RandomState(0))
    for contrast in ([1, 0], [0, 1], [1, 1], [1, -1]):
        assert ks_2samp(new @ contrast, X @ contrast).pvalue > 1e-3
    # Numbers that few rows share are not given out as they are.
    assert np.isin(new[:, 0], X[:, 0]).mean() < 0.05


def test_draws_follow_what_the_network_alone_blurs(bills, fitted):
    drawn = fitted.sample(4000, random_state=0)
    plain = VAEGenerator(relations=None, refine=False, **FEW_STEPS).fit(bills)
    blurred = plain.sample(4000, random_state=0)
    assert near(blurred) < 0.3 * near(bills)
    assert near(drawn) > 0.5 * near(bills)


def test_cells_are_missing_where_a_level_says_so(bills, fitted):
    drawn = fitted.sample(4000, random_state=1)
    wrong = drawn["second"].isna() != (drawn["plan"] == "none")
    assert wrong.mean() < 0.015  # of the network alone: 0.036


def test_conditions_hold_and_shape_the_other_cells(bills, fitted):
    rolling = fitted.sample(500, conditions={"plan": "rolling"}, random_state=0)
    assert (rolling["plan"] == "rolling").all()
    assert near(rolling) > 0.65
    assert (rolling["paid"] == 0).mean() > 0.95
    high = fitted.sample(300, conditions={"first": (5000, 9000)}, random_state=0)
    assert high["first"].between(5000, 9000).all()


def test_the_density_is_that_of_the_network_and_its_ratio(bills, fitted):
    assert fitted._candidate_ratio is not fitted.refiner_
    before = fitted.score_samples(bills[:50])
    trees, fitted._cell_trees = fitted._cell_trees, None
    try:
        assert_array_equal(fitted.score_samples(bills[:50]), before)
    finally:
        fitted._cell_trees = trees


def test_rows_are_drawn_for_classes(bills):
    model = VAEGenerator(conditional=True, relations=None, **FEW_STEPS)
    model.fit(bills.drop(columns="plan"), bills["plan"])
    drawn = model.sample(1000, y="none", random_state=0)
    assert drawn["second"].isna().mean() > 0.97
    assert model.sample(1000, y="rolling", random_state=0)["second"].isna().mean() < 0.02


def test_a_loaded_model_draws_the_same_rows(fitted, tmp_path):
    skae.save(fitted, tmp_path / "model.skae")
    again = skae.load(tmp_path / "model.skae")
    pd.testing.assert_frame_equal(
        again.sample(50, random_state=0), fitted.sample(50, random_state=0)
    )


@pytest.mark.parametrize(
    ("part", "index", "value"),
    [("left", 0, 0), ("right", 0, 10**6), ("features", 0, 99), ("starts", -1, 7)],
)
def test_trees_that_lead_nowhere_are_refused(part, index, value):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    tree = CellTree.of(x[:, None], x, x, False, seed=0)
    tree.check(1)
    getattr(tree, part)[index] = value
    with pytest.raises(ValueError, match="do not exist"):
        tree.check(1)


def test_many_columns_are_left_to_the_network():
    X = np.random.default_rng(0).normal(size=(1000, 65))
    model = VAEGenerator(max_epochs=1, random_state=0).fit(X)
    assert model.refiner_ is not None
    assert model._cell_trees is None
