import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from skae._data._scaling import Scaler
from skae._engine._batches import Batches, SourceRows, TensorRows, even_batch_size
from skae._engine._runtime import generator


@pytest.fixture(name="X")
def numbered_rows():
    """Rows of consecutive numbers, so that each value identifies its row."""
    return np.arange(70, dtype=np.float64).reshape(35, 2)


@pytest.fixture(params=["tensor", "source", "sparse", "large tensor"])
def rows_of(request, set_limits):
    """Rows in each of the ways in which they are held."""
    if request.param == "large tensor":
        set_limits(shuffle_bytes=1)

    def make(X, sample_weight=None, indices=None):
        source = csr_array(X) if request.param == "sparse" else X
        rows = SourceRows(source, Scaler(None).fit(X), indices, sample_weight)
        return rows.in_memory() if "tensor" in request.param else rows

    return make


@pytest.mark.parametrize("batch_size", [1, 5, 8, 34, 35, 36, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_once(rows_of, X, batch_size, shuffled):
    batches = Batches(rows_of(X), batch_size, generator(0) if shuffled else None)
    found = list(batches)
    assert len(found) == len(batches) == -(-35 // batch_size)
    assert [len(x) for x, _ in found][:-1] == [batch_size] * (len(found) - 1)
    assert all(weight is None for _, weight in found)
    together = torch.cat([x for x, _ in found])
    assert together.dtype == torch.float32
    assert_array_equal(sorted(together[:, 0].tolist()), X[:, 0])
    assert_array_equal(together[:, 1] - together[:, 0], np.ones(35))
    if not shuffled or batch_size < 35:  # rows of one batch may come sorted
        assert np.array_equal(together[:, 0], X[:, 0]) != shuffled


def test_each_epoch_is_shuffled_anew_from_one_seed(rows_of, X):
    def epochs(seed):
        batches = Batches(rows_of(X), 8, generator(seed))
        return [torch.cat([x for x, _ in batches])[:, 0].tolist() for _ in range(2)]

    first, second = epochs(0)
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_all_ways_to_hold_rows_give_the_same_batches(rows_of, X):
    reference = Batches(TensorRows(torch.from_numpy(X).float()), 8, generator(0))
    for (ours, _), (theirs, _) in zip(Batches(rows_of(X), 8, generator(0)), reference, strict=True):
        assert sorted(ours[:, 0].tolist()) == sorted(theirs[:, 0].tolist())


@pytest.mark.parametrize("indices", [None, np.array([3, 5, 20, 34, 1])])
def test_weights_stay_with_their_rows(rows_of, X, indices):
    rows = rows_of(X, sample_weight=X[:, 0] + 0.5, indices=indices)
    expected = X if indices is None else X[indices]
    assert len(rows) == len(expected)
    seen = []
    for x, weight in Batches(rows, 4, generator(0)):
        assert_allclose(weight, x[:, 0] + 0.5)
        seen += x[:, 0].tolist()
    assert sorted(seen) == sorted(expected[:, 0])


def test_global_generator_is_left_alone(rows_of, X):
    state = torch.random.get_rng_state()
    list(Batches(rows_of(X), 4, generator(0)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rows_are_scaled_as_they_are_read(table):
    scaler = Scaler("standard").fit(table)
    rows = SourceRows(table, scaler, np.arange(10, 20))
    assert_array_equal(rows.read(slice(0, 5)), scaler.transform(table[10:15]))
    assert_array_equal(rows.in_memory().X, scaler.transform(table[10:20]))
    other = rows.with_scaler(Scaler(None).fit(table))
    assert_allclose(other.read(slice(0, 5)), table[10:15], rtol=1e-6)
    assert_array_equal(rows.read(slice(0, 5)), scaler.transform(table[10:15]))


@pytest.mark.parametrize("step", [1, 3, 7])
def test_in_memory_in_chunks(X, step, set_limits):
    set_limits(chunk_bytes=8 * 2 * step)
    rows = SourceRows(X, Scaler(None).fit(X))
    assert_array_equal(rows.in_memory().X, X)


def test_too_large_a_copy_is_not_made(X, set_limits):
    rows = SourceRows(X, Scaler(None).fit(X))
    assert isinstance(rows.in_memory(), TensorRows)
    set_limits(copy_bytes=35 * 2 * 4 - 1)
    assert rows.in_memory() is rows


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_of_a_memory_map_are_released_without_loss(mode, tmp_path, set_limits):
    X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
    if mode != "r":
        mapped[0] = 7.0  # not on the disk yet, or never
    expected = np.array(mapped)
    set_limits(release_bytes=100)
    rows = SourceRows(mapped, Scaler(None).fit(mapped))
    for _ in range(2):
        assert_array_equal(torch.cat([x for x, _ in Batches(rows, 64)]), expected)
    assert_array_equal(mapped, expected)


def test_skorch_can_read_one_row(X):
    rows = SourceRows(X, Scaler(None).fit(X))
    for source in (rows, rows.in_memory()):
        x, _ = source[slice(3, 4)]
        assert_array_equal(x, X[3:4])


@pytest.mark.parametrize("n_rows", [1, 2, 35, 96, 97, 300, 1350])
@pytest.mark.parametrize("batch_size", [1, 5, 34, 96, 192, 1000])
def test_even_batches_are_as_many_without_a_short_rest(n_rows, batch_size):
    X = TensorRows(torch.zeros(n_rows, 1))
    plain = Batches(X, batch_size).sizes
    even = Batches(X, even_batch_size(n_rows, batch_size)).sizes
    assert sum(even) == n_rows
    assert len(even) == len(plain)
    assert max(even) <= batch_size
    assert len(set(even[:-1])) <= 1
    assert max(even) - even[-1] < len(even)
