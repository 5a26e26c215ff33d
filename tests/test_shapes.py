"""Tables of any shape are learned from: few rows, one column, wide rows, constant columns."""

import numpy as np
import pytest
from numpy.testing import assert_allclose


@pytest.mark.parametrize("n_rows", [2, 3, 4, 5, 15, 16, 17, 33])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_any_number_of_rows(n_rows, early_stopping, case, table):
    """No row is lost in a short last batch, and no batch is empty."""
    model = case.make(batch_size=16, early_stopping=early_stopping).fit(table[:n_rows])
    assert len(model.encode(table[:n_rows])) == n_rows
    assert all(np.isfinite(out).all() for out in case.outputs(model, table))
    assert len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize("n_rows", [1000, 1152, 1153])
def test_around_the_end_of_a_batch(n_rows, case, digits):
    model = case.make().fit(digits[:n_rows, 20:30])
    assert np.isfinite(model.loss_curve_).all()


def test_one_row_is_not_enough(case, table):
    with pytest.raises(ValueError, match=r"1 sample.*minimum of 2"):
        case.make().fit(table[:1])


@pytest.mark.filterwarnings("ignore:n_components=2 is more than the 1 columns")
@pytest.mark.parametrize("n_components", [1, 2, 0.9, "auto"])
def test_one_column(n_components, case, table):
    X = table[:, :1]
    model = case.make(n_components=n_components).fit(X)
    assert len(model.encode(X)) == 120
    assert model.reconstruct(X).shape == (120, 1)
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))


@pytest.mark.filterwarnings("ignore:n_components=2 is more than the 1 columns")
@pytest.mark.parametrize("n_components", [1, 2, 0.9, "auto"])
@pytest.mark.parametrize("case", ["transformer"], indirect=True)
def test_one_column_is_explained(n_components, case, table):
    X = table[:, :1]
    model = case.make(n_components=n_components).fit(X)
    assert model.transform(X).shape == (120, model.n_components_)
    # 1.00 over five seeds.
    assert model.score(X) > 0.9


@pytest.mark.parametrize("n_components", [2, 0.9])
def test_constant_columns_come_back(n_components, case, table):
    X = table.copy()
    X[:, 2] = 7.5
    back = case.make(n_components=n_components, hidden_layer_sizes=(16,)).fit(X).reconstruct(X)
    assert np.isfinite(back).all()
    assert_allclose(back[:, 2], 7.5, atol=0.1)


@pytest.mark.parametrize("n_components", [2, 0.9])
@pytest.mark.parametrize(
    ("case", "scaling"),
    [
        *(("transformer", scaling) for scaling in ("global", "standard", "minmax", "robust", None)),
        *(("denoiser", scaling) for scaling in ("global", "standard", "minmax", "robust", None)),
        # Without scaling, its random start would have to learn the value; the generator has none.
        *(("detector", scaling) for scaling in ("global", "standard", "minmax", "robust")),
    ],
    indirect=["case"],
)
def test_constant_columns_come_back_from_each_scaling(scaling, n_components, case, table):
    X = table.copy()
    X[:, 2] = 7.5
    model = case.make(n_components=n_components, scaling=scaling, hidden_layer_sizes=(16,)).fit(X)
    back = model.reconstruct(X)
    assert np.isfinite(back).all()
    assert_allclose(back[:, 2], 7.5, atol=0.1)


@pytest.mark.parametrize("n_components", [2, 0.9, "auto"])
def test_identical_rows(n_components, case, table):
    X = np.repeat(table[:1], 30, axis=0)
    model = case.make(n_components=n_components).fit(X)
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))
    assert_allclose(model.reconstruct(X), X, rtol=1e-4)


# Steps too small to move a weight show the start, which random weights do not find.
@pytest.mark.parametrize("case", ["transformer", "denoiser"], indirect=True)
def test_two_distinct_rows_many_times(case, table):
    X = np.tile(table[:2], (30, 1))
    model = case.make(n_components=1, learning_rate=1e-12).fit(X)
    assert_allclose(model.reconstruct(X), X, rtol=1e-3)


def test_wide_rows(case):
    X = np.random.default_rng(0).normal(size=(20, 300))
    model = case.make(n_components=3).fit(X)
    assert all(len(out) == 20 and np.isfinite(out).all() for out in case.outputs(model, X))


# The others' "auto" is a rule in the number of columns.
@pytest.mark.parametrize("case", ["transformer", "generator"], indirect=True)
def test_no_more_latents_than_rows(case):
    X = np.random.default_rng(0).normal(size=(20, 300))
    assert case.make(n_components="auto").fit(X).n_components_ <= 20
