import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from skae._data._chunks import row_chunks
from skae._data._scaling import Scaler
from skae._sklearn import weighted_percentile

METHODS = ["global", "standard", "minmax", "robust", None]


@pytest.mark.parametrize(
    ("method", "reference"),
    [("standard", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())],
)
def test_agrees_with_sklearn(method, reference, wine):
    X = 3 * wine[:101] + 5  # an odd number of rows has one median
    scaled = Scaler(method).fit(X).transform(X)
    assert scaled.dtype == np.float32
    assert_allclose(scaled, reference.fit_transform(X), atol=2e-5)


def test_global_is_one_number(table):
    scaler = Scaler("global").fit(table)
    assert len(set(scaler.scale_)) == 1
    scaled = scaler.transform(table)
    assert_allclose(scaled.var(axis=0).mean(), 1, rtol=1e-5)
    assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)


def test_none_changes_nothing(table):
    assert_array_equal(Scaler(None).fit(table).transform(table), table.astype(np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back(method, table):
    scaler = Scaler(method).fit(table)
    back = scaler.inverse_transform(scaler.transform(table))
    assert back.dtype == np.float64
    assert_allclose(back, table, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_stay_finite_and_come_back_exactly(method, dtype):
    X = np.column_stack([np.full(7, 0.1), np.arange(7), np.zeros(7)]).astype(dtype)
    scaler = Scaler(method).fit(X)
    scaled = scaler.transform(X)
    assert np.isfinite(scaled).all()
    if method is not None:
        assert_array_equal(scaled[:, [0, 2]], 0)
    assert_allclose(scaler.inverse_transform(scaled), X, rtol=1e-6, atol=1e-6)


def test_a_large_offset_loses_no_digits():
    X = 1e9 + np.arange(50.0)[:, None]
    scaler = Scaler("standard").fit(X)
    assert_allclose(scaler.scale_, np.arange(50).std(), rtol=1e-12)
    assert_allclose(scaler.transform(X), StandardScaler().fit_transform(X), rtol=1e-6)


@pytest.mark.parametrize("method", ["global", "standard"])
def test_integer_weights_equal_repeated_rows(method, table):
    weight = np.random.default_rng(0).integers(1, 4, size=len(table))
    weighted = Scaler(method).fit(table, weight.astype(float))
    repeated = Scaler(method).fit(np.repeat(table, weight, axis=0))
    assert_allclose(weighted.mean_, repeated.mean_)
    assert_allclose(weighted.scale_, repeated.scale_)


@pytest.mark.parametrize("method", METHODS)
def test_sparse_is_dense(method, table):
    X = table * (table > 4)
    dense, sparse = Scaler(method).fit(X), Scaler(method).fit(csr_array(X))
    assert_array_equal(dense.center_, sparse.center_)
    assert_array_equal(dense.scale_, sparse.scale_)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter(method, table, set_limits):
    whole = Scaler(method).fit(table)
    set_limits(chunk_bytes=8 * 10 * 7)
    assert len(list(row_chunks(table))) == 18
    pieces = Scaler(method).fit(table)
    assert_allclose(whole.center_, pieces.center_)
    assert_allclose(whole.scale_, pieces.scale_)


def test_robust_samples_many_rows(set_limits):
    X = np.random.default_rng(0).normal(size=(1000, 2))
    set_limits(cells_for_quantiles=1000)
    sampled = Scaler("robust").fit(X)
    assert_allclose(sampled.center_, np.median(X[::2], axis=0), atol=0.02)


def test_robust_ignores_outliers(table):
    spoiled = table.copy()
    spoiled[0] = 1e6
    assert_allclose(
        Scaler("robust").fit(spoiled).scale_, Scaler("robust").fit(table).scale_, rtol=0.1
    )


def test_robust_falls_back_on_half_the_range():
    """More than half of the values are equal: the interquartile range is zero."""
    X = np.zeros((20, 1))
    X[:3, 0] = 5.0
    assert_allclose(Scaler("robust").fit(X).scale_, 2.5)


@pytest.mark.parametrize("method", METHODS)
def test_missing_cells_do_not_count(method, table, set_limits):
    set_limits(chunk_bytes=8 * 10 * 7)  # seven rows at a time
    holes = np.array(table)
    holes[::3, 2] = holes[5:, 4] = holes[:, 6] = np.nan
    scaler = Scaler(method).fit(holes)
    for j in (2, 4):
        alone = Scaler("standard").fit(table[~np.isnan(holes[:, j])][:, [j]])
        assert_allclose(scaler.mean_[j], alone.mean_, rtol=1e-9)
        if method == "standard":
            assert_allclose(scaler.scale_[j], alone.scale_, rtol=1e-9)
    assert np.isfinite(scaler.center_).all()
    assert (scaler.scale_ > 0).all()
    assert_array_equal(np.isnan(scaler.transform(holes)), np.isnan(holes))


def test_values_beyond_the_cut_grow_by_their_logarithm():
    X = np.column_stack([np.arange(101.0), np.full(101, 3.0)])
    scaler = Scaler("robust", cut=2.0).fit(X)
    far = np.array([[1e9, 7.0], [-1e9, 3.0], [75.0, 3.0], [1e10, 3.0], [np.nan, np.nan]])
    beyond = 2 + np.log1p((1e9 - 50) / 50 - 2)
    scaled = scaler.transform(far)
    assert_allclose(scaled[:3], [[beyond, 0], [-beyond, 0], [0.5, 0]], rtol=1e-6)
    assert scaled[3, 0] > scaled[0, 0] + 2
    assert np.isnan(scaled[4]).all()
    # On the way back, values are clipped.
    assert_allclose(
        scaler.inverse_transform(np.array([[9.0, 0.0], [0.0, 0.0]])), [[150, 3], [50, 3]]
    )


@pytest.mark.parametrize("value", [9999.0, -3.4e38, 1e100, 1e300])
def test_fill_values_do_not_set_the_scale(value):
    X = np.random.default_rng(0).normal(size=(1000, 2))
    clean = Scaler("winsorized", cut=8.0).fit(X)
    X[:30, 0] = value
    scaler = Scaler("winsorized", cut=8.0).fit(X)
    assert clean.scale_[0] <= scaler.scale_[0] < 5 * clean.scale_[0]
    assert np.isfinite(scaler.transform(X)).all()
    assert np.abs(scaler.transform(X)[:30, 0]).min() > 8


def test_rare_values_set_the_scale_of_a_column_of_one_value():
    X = np.zeros((1000, 1))
    X[:5] = 1.0
    assert_allclose(Scaler("winsorized").fit(X).scale_, X.std())


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16])
def test_other_types_are_read_as_numbers(dtype):
    X = np.array([[0, 1], [1, 1], [1, 0]], dtype=dtype)
    scaled = Scaler("standard").fit(X).transform(X)
    assert_allclose(scaled, StandardScaler().fit_transform(X.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [1, 2, 20, 1001])
def test_percentiles_of_unweighted_rows_are_those_of_weighted_ones(n_rows, dtype):
    X = np.random.default_rng(0).normal(size=(n_rows, 5)).round(1).astype(dtype)
    X[: n_rows // 3, 1] = X[:, 2] = np.nan
    for rank in (0, 5, 25, 50, 99, 99.9, 100):
        found = weighted_percentile(X, np.ones(n_rows), rank)
        assert found.dtype == dtype
        assert_array_equal(found, weighted_percentile(X, np.full(n_rows, 2.0), rank))
