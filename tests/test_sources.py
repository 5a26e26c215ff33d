"""Tables on disk, piece by piece and in random order."""

import pickle
import threading
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import check_random_state

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._data._chunks import as_dense, row_chunks
from skae._data._open import opened
from skae._data._row_files import FilesOfRows, write_rows
from skae._data._scaling import Scaler, check_magnitudes, column_moments
from skae._data._shuffling import USUAL_VISITS, Pool, shuffled_rows, visits_of
from skae._data._sources import AllBut, RowSource, Unit, ahead, spread_numbers, studied
from skae._data._survey import check_source, numbers_to_hold_out, surveyed, to_learn_from
from skae._engine._batches import Batches, SourceRows
from skae._engine._runtime import generator
from skae.io import open_table


class Blocks(RowSource):
    """An array in blocks; it counts how often each is read."""

    def __init__(self, X, sizes, names=None, at_once=3):
        stops = np.cumsum(sizes).tolist()
        starts = [0, *stops[:-1]]
        units = [
            Unit(a, b, f"block {i}") for i, (a, b) in enumerate(zip(starts, stops, strict=True))
        ]
        super().__init__(units, X.shape[1], X.dtype, names)
        self.X, self.at_once = X, at_once
        self.n_read = dict.fromkeys(starts, 0)

    def _read(self, unit):
        self.n_read[unit.start] += 1
        for start in range(unit.start, unit.stop, self.at_once):
            yield self.X[start : min(start + self.at_once, unit.stop)]


@pytest.fixture(name="X")
def numbered_rows():
    return np.arange(140, dtype=np.float32).reshape(70, 2)


@pytest.fixture(name="source")
def source_of_rows(X):
    return Blocks(X, [10, 25, 1, 30, 4])


@pytest.mark.parametrize(
    "selection",
    [
        slice(None),
        slice(5, 40),
        slice(12, 12),
        slice(60, 1000),
        slice(3, 60, 7),
        slice(50, 2, -9),
        [69, 0, 0, 35, 34],
        np.arange(70)[::-1],
        np.arange(70) % 9 == 2,
        [-1, 3],
        np.array([], dtype=int),
    ],
)
def test_selections_are_those_of_the_array(source, X, selection):
    by = selection if isinstance(selection, slice) else np.array(selection)
    assert_array_equal(source[selection], X[by])
    assert source[selection].dtype == X.dtype


def test_spans_in_any_order(source, X):
    rng = np.random.default_rng(0)
    for start in rng.integers(0, 70, 200):
        stop = int(start + rng.integers(0, 30))
        assert_array_equal(source[start:stop], X[start:stop])


def test_reading_on_reads_nothing_twice(source, X):
    for start in range(0, 70, 7):
        assert_array_equal(source[start : start + 7], X[start : start + 7])
        assert_array_equal(source[start : start + 7], X[start : start + 7])
    assert set(source.n_read.values()) == {1}


def test_only_blocks_of_wanted_rows_are_read(source):
    source[[12, 68]]
    assert source.n_read == {0: 0, 10: 1, 35: 0, 36: 0, 66: 1}


@pytest.mark.parametrize("selection", [(0, 1), np.zeros((2, 2), dtype=int), [70], ["a"], 1.5])
def test_what_selects_no_rows(source, selection):
    with pytest.raises(IndexError):
        source[selection]


@pytest.mark.parametrize(("selection", "number"), [([-71, 69], -71), ([0, 70, 3], 70)])
def test_rows_that_are_not_there_are_named(source, selection, number):
    with pytest.raises(IndexError, match=f"has no row {number}"):
        source[selection]


def test_a_source_that_failed_is_read_again(X):
    fails = [True]

    class Unsteady(Blocks):
        def _read(self, unit):
            if fails.pop():
                raise OSError("the disk is away")
            fails.append(False)
            return super()._read(unit)

    source = Unsteady(X, [10, 60])
    with pytest.raises(OSError, match="away"):
        source[:5]
    fails.append(False)
    assert_array_equal(source[:5], X[:5])


def test_a_source_is_no_array_by_accident(source):
    with pytest.raises(TypeError, match=r"read_all\(\) .*table\[::100\] a sample"):
        np.asarray(source)
    assert_array_equal(as_dense(source), source.X)
    copied = pickle.loads(pickle.dumps(source))
    assert_array_equal(copied[3:50], source.X[3:50])


def test_chunks_and_statistics(source, X):
    chunks = list(row_chunks(source))
    assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), X)
    assert [rows.stop for rows, _ in chunks][-1] == 70
    assert all(a.stop == b.start for (a, _), (b, _) in pairwise(chunks))
    ours, theirs = column_moments(source), column_moments(X)
    assert_allclose(ours.mean, theirs.mean)
    assert_allclose(ours.variance, theirs.variance)


def test_threads_read_one_source(source, X):
    wrong = []

    def read():
        for start in range(0, 66, 3):
            if not np.array_equal(source[start : start + 5], X[start : start + 5]):
                wrong.append(start)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_block_that_became_shorter_is_named(source):
    source.X = source.X[:50]
    with pytest.raises(OSError, match="block 3 has 14 rows where it had 30"):
        source.read_all()


def test_what_is_read_ahead_fails_where_it_is_asked_for():
    def items():
        yield 1
        raise ValueError("second")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="second"):
        next(coming)


# Surveys.


def test_a_survey_is_one_pass(source, X):
    seen = surveyed(source)
    assert set(source.n_read.values()) == {1}
    assert_array_equal(seen.sample, X[seen.sample_numbers])
    assert_allclose(seen.moments.mean, X.mean(axis=0))
    Scaler("robust").fit(seen)
    check_magnitudes(seen, None)
    assert set(source.n_read.values()) == {1}
    with pytest.raises(ValueError, match="Column 1 of X holds 1"):
        check_magnitudes(seen, None, reach=138.5)
    weight = np.arange(70.0)
    rows, weights = studied(seen, weight)
    assert_array_equal(weights, weight[seen.sample_numbers])
    assert rows is seen.sample
    assert studied(X, weight) == (X, weight)
    assert_allclose(column_moments(seen, weight).mean, np.average(X, axis=0, weights=weight))


@pytest.mark.parametrize(
    ("n_rows", "n_wanted"), [(70, 70), (70, 7), (70, 100), (1000, 999), (3, 1)]
)
def test_a_sample_is_spread_over_the_rows(n_rows, n_wanted):
    numbers = spread_numbers(n_rows, n_wanted, 0)
    n = min(n_rows, n_wanted)
    assert len(np.unique(numbers)) == len(numbers) == n
    edges = np.linspace(0, n_rows, n + 1).astype(int)
    assert ((numbers >= edges[:-1]) & (numbers < edges[1:])).all()
    assert_array_equal(numbers, spread_numbers(n_rows, n_wanted, 0))


def test_quantiles_of_a_sample_are_near_those_of_all_rows():
    X = np.sort(np.random.default_rng(0).exponential(size=10**5))
    sample = X[spread_numbers(10**5, 2000, 0)]
    shares = np.searchsorted(X, np.quantile(sample, [0.25, 0.5, 0.75])) / 10**5
    # Of a sorted table a spread sample is nearly a grid: far better than rows at random.
    assert_allclose(shares, [0.25, 0.5, 0.75], atol=1 / 1000)


def test_small_tables_are_read(source, set_limits):
    assert isinstance(to_learn_from(source), np.ndarray)
    set_limits(rows_on_disk=10)
    assert isinstance(to_learn_from(source), np.ndarray)
    set_limits(bytes_on_disk=10)
    assert to_learn_from(source).sample is not None


@pytest.mark.parametrize(
    ("cell", "marker", "message"),
    [
        (np.nan, None, "contains NaN"),
        (np.inf, np.nan, "contains infinity"),
        (7.0, np.nan, "too much"),
    ],
)
def test_wrong_cells_are_named_by_block(X, cell, marker, message):
    def check_values(rows):
        if (rows == 7).any():
            raise ValueError("too much")

    X[X == 7] = 8.0
    X[40, 1] = cell
    checked = check_source(Blocks(X, [30, 40]), marker, check_values)
    with pytest.raises(ValueError, match=rf"(?s){message}.*\(block 1, row 40 of the table\)"):
        surveyed(checked)


@pytest.mark.parametrize("numbers", [slice(None), [150]])
def test_wrong_cells_in_files_are_named_by_partition(numbers, tmp_path):
    X = np.ones((200, 2))
    X[150, 0] = np.inf
    files = [write_rows(part, str(tmp_path / str(i))) for i, part in enumerate((X[:100], X[100:]))]
    rows = FilesOfRows(files, ["partition 0", "partition 1"], None)
    checked = check_source(rows, np.nan, lambda rows: None)
    with pytest.raises(ValueError, match=r"infinity.*\(partition 1, row 150 of the table\)"):
        checked[numbers]


@pytest.mark.parametrize("marker", [np.nan, -1.0])
def test_markers_of_missing_cells(X, marker):
    X[5, 0] = marker
    checked = check_source(Blocks(X, [70]), marker, lambda rows: None)
    for source in (checked, surveyed(checked)):
        assert_array_equal(np.argwhere(np.isnan(source.read_all())), [[5, 0]])


# Orders.


@pytest.mark.parametrize("left_out", [[], [0], [69], [3, 4, 5, 30], list(range(0, 70, 2))])
def test_numbers_of_all_rows_but_some(left_out):
    left_out = np.array(left_out, dtype=int)
    expected = np.setdiff1d(np.arange(70), left_out)
    others = AllBut(70, left_out)
    assert len(others) == len(expected)
    assert_array_equal(others[:], expected)
    assert_array_equal(others[5:20], expected[5:20])
    places = np.array([3, 0, 11])
    assert_array_equal(others[places], expected[places])
    assert_array_equal(others.places(expected), np.arange(len(expected)))
    assert_array_equal(others.of(np.arange(70)), expected)


@pytest.mark.parametrize("left_out", [None, [0, 7, 40, 41, 69]])
@pytest.mark.parametrize("pool_rows", [2, 12, 64, 1000])
def test_each_row_once_in_another_order(source, X, left_out, pool_rows, set_limits):
    set_limits(pool_bytes=4 * 2 * pool_rows)
    indices = None if left_out is None else AllBut(70, np.array(left_out))
    expected = np.arange(70) if indices is None else indices[:]

    def order(seed):
        parts = list(shuffled_rows(source, lambda rows: rows + 1, indices, seed))
        numbers = np.concatenate([numbers for _, numbers in parts])
        assert_array_equal(np.concatenate([rows for rows, _ in parts]), X[numbers] + 1)
        return numbers.tolist()

    first = order(0)
    assert sorted(first) == expected.tolist()
    assert first != expected.tolist()
    assert order(0) == first
    assert order(1) != first


def test_a_pool_gives_back_the_rows_that_wait_in_it():
    """However many there are, and in whatever order they come and go."""
    rng = np.random.default_rng(0)
    pool = Pool(5)
    held = {}
    for n_before in range(300):
        rows = rng.normal(size=(rng.integers(0, 12), 3))
        numbers = 1000 * n_before + np.arange(len(rows))
        held |= dict(zip(pool.put(rows, numbers), zip(numbers, rows, strict=True), strict=True))
        slots = rng.permutation(list(held))[: rng.integers(0, 12)].astype(np.int32)
        got, numbers = pool.take(slots)
        expected = [held.pop(slot) for slot in slots]
        assert numbers.tolist() == [number for number, _ in expected]
        assert_array_equal(got.reshape(-1, 3), np.reshape([row for _, row in expected], (-1, 3)))


def test_some_rows_of_a_block(source, X):
    source.check = lambda rows: rows + 1
    unit = source.units[1]
    is_wanted = np.random.default_rng(0).random(25) < 0.3
    is_wanted[:6] = False  # nothing of the first pieces
    rows = list(source.read(unit, is_wanted))
    assert all(map(len, rows))
    assert_array_equal(np.concatenate(rows), X[10:35][is_wanted] + 1)


def test_blocks_are_spread_over_any_part_of_an_epoch():
    """Of a sorted table, any stretch of visits has as many from each quarter as it can."""
    units = [Unit(1000 * i, 1000 * (i + 1), "") for i in range(100)]
    for seed in range(5):
        visits = visits_of(units, 16_000, np.random.default_rng(seed))
        numbers = np.array([visit.number for visit in visits])
        assert sorted(numbers) == list(range(100))
        for start in range(0, 80):
            counts = np.bincount(numbers[start : start + 20] // 25, minlength=4)
            assert counts.min() >= 3
    large = visits_of([Unit(0, 10_000, ""), Unit(10_000, 10_100, "")], 1000, check_random_state(0))
    assert sorted((v.number, v.part) for v in large) == [
        *((0, i) for i in range(40)),
        (1, 0),
    ]
    # Each visit decodes a block: a block comes once where its rows mix with enough others.
    n_visits = [
        len(visits_of([Unit(0, n, "")], 1300, check_random_state(0))) for n in (200, 201, 1300)
    ]
    assert n_visits == [1, 2, 7]


def test_batches_of_a_source(source, X):
    weight = np.arange(1.0, 71.0)
    indices = AllBut(70, np.array([2, 3, 50]))
    rows = SourceRows(source, Scaler(None).fit(X), indices, weight)
    assert rows.n_features == 2
    for shuffled in (False, True):
        seen = []
        for x, w in Batches(rows, 8, generator(0) if shuffled else None):
            assert_allclose(w, x[:, 0] / 2 + 1)
            seen.append(x[:, 0].numpy())
        assert [len(part) for part in seen] == [8] * 8 + [3]
        assert_array_equal(np.sort(np.concatenate(seen)), X[indices[:], 0])
        assert (np.diff(np.concatenate(seen)) > 0).all() != shuffled


@pytest.mark.parametrize("indices", [None, AllBut(70, np.array([2, 3, 50]))])
def test_rows_of_weight_zero_are_left_out(source, X, indices):
    weight = np.repeat([0.0, 1.0, 2.0, 0.0], [30, 1, 20, 19])
    rows = SourceRows(source, Scaler(None).fit(X), indices, weight)
    kept = [i for i in range(30, 51) if indices is None or i != 50]
    for some, times in ((rows, 1), (rows.repeated(2), 2)):
        seen, weights = zip(*Batches(some, 8, generator(0)), strict=True)
        numbers = np.concatenate(seen)[:, 0] / 2
        assert_array_equal(np.sort(numbers), np.sort(kept * times))
        assert_array_equal(np.concatenate(weights), weight[numbers.astype(int)])


def bent_rows(n_rows):
    """Rows on a bent surface, in order."""
    z = np.random.default_rng(0).normal(size=(n_rows, 2))
    z = z[np.argsort(z[:, 0])]
    columns = [z[:, 0], z[:, 1], z[:, 0] * z[:, 1], z[:, 0] ** 2 - z[:, 1] ** 2]
    return np.stack(columns, axis=1).astype(np.float32)


def test_a_fit_reads_rows_to_survey_and_to_train_and_never_else(set_limits):
    """What is held out, and what the last layer is refitted on, are in the sample."""
    set_limits(bytes_on_disk=1, shuffle_bytes=1)
    table = Blocks(bent_rows(12_000), [1000] * 12, at_once=1000)
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(table)
    assert len(model.validation_loss_curve_) == 4
    n_read = [*table.n_read.values()]
    # The first rows are read once more, and the next ahead, to see whether training has diverged.
    assert max(n_read[:2]) <= 1 + 3 + 1
    assert set(n_read[2:]) == {1 + 3}


def test_last_layer_is_refitted_after_training_on_a_table_on_disk(set_limits, monkeypatch):
    """By default, of rows that training is sure to pay for, too."""
    set_limits(bytes_on_disk=1)
    X = bent_rows(12_000)
    table = Blocks(X, [1000] * 12, at_once=1000)
    model = AutoencoderTransformer(2, random_state=0)
    error = model.fit(table).reconstruction_error(X).mean()
    monkeypatch.setattr("skae._fit._run.refit_output", lambda *args: None)
    assert error < model.fit(table).reconstruction_error(X).mean()


@pytest.mark.parametrize("counted", [None, slice(0, 30_000), slice(10, 20), slice(10, 2000)])
def test_rows_held_out_are_in_the_sample_if_it_has_enough(counted):
    X = np.zeros((50_000, 1), dtype=np.float32)
    source = surveyed(Blocks(X, [5000] * 10, at_once=5000), 10_000)
    weight = None
    if counted is not None:
        weight = np.zeros(len(X))
        weight[counted] = 1.0
    n_counted = len(X) if weight is None else int(weight.sum())
    numbers = numbers_to_hold_out(source, weight, n_counted // 10, 0)
    assert weight is None or weight[numbers].all()
    is_in_sample = np.isin(numbers, source.sample_numbers).all()
    assert is_in_sample == (counted is None or counted.stop == 30_000)
    assert len(numbers) == {50_000: 2500, 30_000: 1500}.get(n_counted, n_counted // 10)
    # Evenly spread: the gaps between them are about the same.
    gaps = np.diff(numbers)
    assert gaps.max(initial=1) <= 4 * n_counted / len(numbers)


@pytest.mark.parametrize("n_counted", [30, 2000])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer(1), DenoisingAutoencoder(1)])
def test_few_rows_at_the_end_that_count(estimator, n_counted, set_limits):
    set_limits(bytes_on_disk=1, pool_bytes=4 * 2 * 1000)
    X = np.random.default_rng(0).normal(size=(10_000, 2)).astype(np.float32)
    weight = np.repeat([0.0, 1.0], [10_000 - n_counted, n_counted])
    X[weight == 0] *= 100
    table = Blocks(X, [500] * 20)
    model = clone(estimator).set_params(max_epochs=2, random_state=0)
    model.fit(table, sample_weight=weight)
    assert np.abs(model.reconstruct(X[-n_counted:])).max() < 10


# Arrays on disk.


@pytest.mark.parametrize("kind", ["h5py", "zarr"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_arrays_on_disk(kind, dtype, table, tmp_path):
    package = pytest.importorskip(kind, reason="skae[arrays] is not installed")
    values = (10 * table).astype(dtype)
    if kind == "h5py":
        with package.File(tmp_path / "rows.h5", "w") as file:
            file.create_dataset("X", data=values, chunks=(50, 4))
        array = package.File(tmp_path / "rows.h5", "r")["X"]
    else:
        options = {"shape": values.shape, "dtype": dtype, "chunks": (50, 4)}
        array = package.open_array(store=str(tmp_path / "rows.zarr"), mode="w", **options)
        array[:] = values
    source = opened(array)
    assert source.dtype == ("float32" if dtype == "float32" else "float64")
    assert_array_equal(source.read_all(), values)
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0)
    expected = model.fit_transform(values)
    assert_array_equal(model.fit(array).transform(values), expected)
    assert_array_equal(model.transform(array), expected)


@pytest.mark.parametrize("columns", [4, 2])
def test_chunks_are_decompressed_once(columns, tmp_path, set_limits):
    """Though rows are handed on in smaller pieces; an epoch reads a large unit several times."""
    zarr = pytest.importorskip("zarr", reason="skae[arrays] is not installed")
    n_read = Counter()

    class Store(zarr.storage.LocalStore):
        async def get(self, key, *args, **kwargs):
            n_read[key] += "c/" in key
            return await super().get(key, *args, **kwargs)

    X = np.random.default_rng(0).normal(size=(1000, 4))
    array = zarr.create_array(Store(tmp_path), shape=X.shape, dtype="f8", chunks=(200, columns))
    array[:] = X
    set_limits(chunk_bytes=8 * 4 * 16, unit_bytes=100, pool_bytes=8 * 4 * 300)
    source = opened(array)
    n_read.clear()
    assert_array_equal(np.concatenate([rows for _, rows in source.chunks()]), X)
    assert sorted(n_read.values())[-5 * 4 // columns :] == [1] * (5 * 4 // columns)
    n_read.clear()
    for _ in shuffled_rows(surveyed(source), lambda rows: rows, None, 0):
        pass
    assert max(n_read.values()) <= 1 + USUAL_VISITS


def test_tall_chunks_are_read_in_bounded_memory(tmp_path, set_limits):
    h5py = pytest.importorskip("h5py", reason="skae[arrays] is not installed")
    X = np.random.default_rng(0).normal(size=(1000, 4))
    set_limits(most_unit_bytes=8 * 4 * 30)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        tall = opened(file.create_dataset("tall", data=X, chunks=(500, 1)))
        wide = opened(file.create_dataset("wide", data=X, chunks=(500, 4)))
        assert max(unit.n_rows for unit in tall.units) == 500 // 4  # a chunk is of so many bytes
        assert max(unit.n_rows for unit in wide.units) == 500
        assert_array_equal(tall.read_all(), X)
        assert_array_equal(wide[[999, 3]], X[[999, 3]])


def test_what_is_no_array_on_disk(tmp_path, table):
    h5py = pytest.importorskip("h5py", reason="skae[arrays] is not installed")
    zarr = pytest.importorskip("zarr", reason="skae[arrays] is not installed")
    model = AutoencoderTransformer(1, max_epochs=1)
    file = h5py.File(tmp_path / "rows.h5", "w")
    rows, empty = (
        file.create_dataset("X", data=table),
        file.create_dataset("e", shape=(9, 0), dtype="f4"),
    )
    for group, name in [
        (file, "File of h5py"),
        (file.create_group("g"), "Group of h5py"),
        (zarr.open_group(tmp_path / "z"), "Group of zarr"),
    ]:
        for takes in (model.fit, model.partial_fit, open_table):
            with pytest.raises(TypeError, match=f"X is a {name}: pass one of the arrays in it"):
                takes(group)
    with pytest.raises(ValueError, match=r"rows\.h5/e has no columns"):
        model.fit(empty)
    source = open_table(rows)
    file.close()
    with pytest.raises(ValueError, match="Dataset of an HDF5 file that is closed"):
        model.fit(rows)
    with pytest.raises(OSError, match=r"rows\.h5/X cannot be read"):
        model.fit(source)
    assert not hasattr(model, "net_")


def test_moments_take_no_memory_by_the_row():
    """Of more rows than there is memory for one number each."""

    class Endless:
        shape = (10**14, 2)

        def chunks(self):
            yield slice(0, 2), np.array([[1.0, 2.0], [3.0, 2.0]])
            yield slice(10**14 - 1, 10**14), np.array([[5.0, 2.0]])

    moments = column_moments(Endless())
    assert_allclose(moments.mean, [3, 2])
    assert_allclose(moments.variance, [8 / 3, 0])
