"""Fits by several processes equal those of one, and are the same on all."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shards
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import FunctionTransformer

import skae
import skae.distributed
import skae.io
from skae._data._scaling import Moments, column_moments
from skae._data._shards import ShardedTable
from skae._engine._group import ALONE, Group
from skae._engine._grouped_steps import GroupedSteps
from skae._engine._runtime import generator
from skae._engine._sharded_rows import ShardedRows, Share

SECONDS = 120


def run_together(size, folder):
    """What each of so many processes has got."""
    paths = [folder / f"{rank}.pickle" for rank in range(size)]
    root = Path(skae.__file__).parents[1]
    paths_of_modules = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths_of_modules}
    script = str(Path(shards.__file__))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(size), str(folder / "store"), str(path)],
            env=settings,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, path in enumerate(paths)
    ]
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "\n".join(errors)
    return [pickle.loads(path.read_bytes()) for path in paths]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    return run_together(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def by_three(tmp_path_factory):
    return run_together(3, tmp_path_factory.mktemp("three"))


def arrays_of(model):
    """Weights of the network, and what the estimator holds besides."""
    weights = [p.detach().numpy() for p in model.net_.module_.parameters()]
    learned = [model.mean_] if isinstance(getattr(model, "mean_", None), np.ndarray) else []
    return [*weights, *learned, np.array(model.loss_curve_)]


def assert_same_bits(models):
    first, *others = map(arrays_of, models)
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert_array_equal(ours, theirs)


def assert_close(ours, theirs):
    assert ours.best_epoch_ == theirs.best_epoch_
    assert ours.n_samples_seen_ == theirs.n_samples_seen_
    for mine, other in zip(arrays_of(ours), arrays_of(theirs), strict=True):
        assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", shards.EQUAL)
def test_two_processes_fit_what_one_does(by_two, name):
    models = [models[name] for models, _ in by_two]
    assert_same_bits(models)
    alone = shards.fitted_by_one(shards.EQUAL[name], 2)
    assert_close(models[0], alone)
    X = shards.EQUAL[name]()[1][:500]
    judge = "score_samples" if name.startswith("detector") else "reconstruction_error"
    ours, theirs = (getattr(model, judge)(X) for model in (models[0], alone))
    assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert getattr(models[0], "offset_", 0) == pytest.approx(getattr(alone, "offset_", 0), rel=1e-4)


def test_detectors_draw_what_one_process_draws(by_two):
    """Of all rows, wherever they lie, so that a plain fit has the same batches."""
    estimator, X, _ = shards.EQUAL["detector"]()
    assert_close(by_two[0][0]["detector"], estimator.fit(X))


@pytest.mark.parametrize("name", ["all rows", "weights", "frame"])
def test_three_processes_one_of_which_has_no_rows(by_three, name):
    models = [models[name] for models, _ in by_three]
    assert_same_bits(models)
    assert_close(models[0], shards.fitted_by_one(shards.EQUAL[name], 3))


def test_tensors_of_several_pieces_are_summed_over_machines(by_three):
    """One process has its machine to itself, and two share theirs."""
    for models, _ in by_three:
        assert models["sum of pieces"].shape == (3, 100_000)
        assert (models["sum of pieces"] == 3).all()


@pytest.mark.parametrize("name", shards.AS_GOOD)
def test_from_pca_and_with_noise_fits_are_as_good(by_two, name):
    models = [models[name] for models, _ in by_two]
    assert_same_bits(models)
    estimator, X, weight = shards.AS_GOOD[name]()
    alone = estimator.fit(X, sample_weight=weight)
    assert (models[0].best_epoch_ == 0) == (alone.best_epoch_ == 0)
    assert_allclose(models[0].loss_curve_[-1:], alone.loss_curve_[-1:], rtol=0.1)
    if isinstance(alone, skae.AutoencoderTransformer):
        assert_allclose(1 - models[0].score(X), 1 - alone.score(X), rtol=0.1)


@pytest.mark.parametrize("name", shards.SMALL)
def test_small_tables_are_fitted_by_the_first_process(by_two, by_three, name):
    together = by_two + by_three if name == "generator" else by_two
    models = [models[f"small {name}"] for models, _ in together]
    assert_same_bits(models)
    estimator, X = shards.SMALL[name]()
    assert_same_bits([models[0], estimator.fit(X)])


ERRORS = {
    "infinite": ("ValueError", "contains infinity", "Process 1 of 2"),
    "columns": ("ValueError", "process 1 have columns 5", ""),
    "weights": ("ValueError", "given on 1 of 2", ""),
    "texts": ("ValueError", "'b' holds texts in process 1, but numbers in process 0", ""),
    "texts in few rows": ("ValueError", "'b' holds texts in process 1, but numbers in", ""),
    "array of texts": ("ValueError", "Column 0 holds texts in process 1, but numbers in", ""),
    "columns of few rows": ("ValueError", "process 1 have columns ['b',", ""),
    "containers": ("ValueError", "process 1 are an array, but those of process 0 are a frame", ""),
    "dimensions": ("ValueError", "X has shape (3150, 3, 2), not rows and columns", "Process 1"),
    "unreadable": ("RuntimeError", "SomeError: this and that", "Process 1 of 2"),
    "negative": ("ValueError", "Negative values", "Process 1 of 2"),
    "variational": ("ValueError", "variational=True", ""),
    "targets": ("ValueError", "conditional=True", ""),
    "relations": ("ValueError", "relations=[Gap(", ""),
    "levels": ("ValueError", "needs numbers in all columns; column 'kind'", "Process 0 of 2"),
    "no weight": ("ValueError", "at least one", ""),
    "pipeline": ("TypeError", "estimator, of type Pipeline, must be an estimator of skae", ""),
    "parameter": ("InvalidParameterError", "'loss' parameter", ""),
    "callbacks": ("ValueError", "callbacks=[1]", ""),
    "sparsity": ("ValueError", "sparsity_penalty='kl'", ""),
}


@pytest.mark.parametrize("name", shards.WRONG)
def test_errors_are_raised_by_all(by_two, name):
    kind, text, note = ERRORS[name]
    for _, errors in by_two:
        found_kind, found, notes = errors[name]
        assert found_kind == kind
        assert text in found
        assert note in "".join(notes)


def test_statistics_are_those_of_all_rows(by_two):
    _, X, weight = shards.AS_GOOD["generator"]()
    models = [models["generator"] for models, _ in by_two]
    alone = skae.VAEGenerator(2, max_epochs=1, refine=False, random_state=0)
    alone.fit(X, sample_weight=weight)
    for mine, other in zip(
        models[0]._scaler.columns_.values(), alone._scaler.columns_.values(), strict=True
    ):
        assert_allclose(mine.shares, other.shares, rtol=1e-6)
    assert models[0].relations == "auto"
    assert_array_equal(*(model.sample(5, random_state=0) for model in models))
    later = pickle.loads(pickle.dumps(models[0])).partial_fit(X[:100])
    assert later.n_samples_seen_ == models[0].n_samples_seen_ + 100
    denoiser = by_two[0][0]["denoiser"]
    _, X, _ = shards.AS_GOOD["denoiser"]()
    assert_allclose(denoiser.mean_, np.nanmean(X, axis=0), rtol=1e-5)
    assert denoiser.missing_columns_.tolist() == [*range(X.shape[1])]


def test_averaging_weights_now_and_then(by_two):
    by_gradients, by_weights = ([m[name] for m, _ in by_two] for name in ("default", "sync"))
    assert_same_bits(by_weights)
    X = shards.table()
    start, gained = by_gradients[0].validation_loss_curve_[0], by_weights[0].score(X)
    assert by_weights[0].validation_loss_curve_[-1] < start
    assert_allclose(1 - gained, 1 - by_gradients[0].score(X), rtol=0.1)
    assert not np.array_equal(*(arrays_of(ms[0])[0] for ms in (by_gradients, by_weights)))


def test_each_process_draws_other_noise_also_after_a_resumption():
    def drawn(rank, n_epochs_done):
        draws = generator(0)
        net = SimpleNamespace(
            corruption=SimpleNamespace(generator=draws),
            optimizer_=SimpleNamespace(values=torch.zeros(1)),
            **{"n_epochs_done": n_epochs_done, "device": "cpu"},
        )
        group = Group()
        group.rank, group.size = rank, 3
        GroupedSteps(net, group)
        return torch.rand(2, generator=draws).tolist()

    noise = [drawn(rank, n) for rank in (1, 2) for n in (0, 1, 2)]
    assert len({*map(tuple, noise)}) == 6
    assert drawn(2, 1) in noise
    assert drawn(0, 0) == torch.rand(2, generator=generator(0)).tolist()


def test_a_process_alone_fits_as_ever():
    estimator = shards.transformer(init="pca")
    X = shards.table(500)
    model = skae.distributed.fit(estimator, X)
    assert not hasattr(estimator, "net_")
    assert_same_bits([model, estimator.fit(X)])


def test_rows_on_disk_are_read_batch_by_batch(tmp_path, set_limits):
    case = shards.EQUAL["all rows"]
    in_memory = shards.fitted_by_one(case, 2)
    np.save(tmp_path / "X.npy", case()[1])
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    set_limits(copy_bytes=0, shuffle_bytes=0)
    assert_same_bits([shards.fitted_by_one(lambda: (case()[0], X, None), 2), in_memory])


@pytest.mark.parametrize("sync_every", [0, 1.5, "2"])
def test_sync_every_is_a_positive_integer(sync_every):
    with pytest.raises(ValueError, match=f"sync_every={sync_every!r}"):
        skae.distributed.fit(shards.transformer(), shards.table(50), sync_every=sync_every)


@pytest.mark.parametrize("sizes", [[10_500], [4000, 6500], [3, 0, 10_490, 7], [100] * 105])
def test_batches_take_their_share_of_each_part(sizes):
    """Each row is in one batch of an epoch, and batches hold about as many rows."""
    X = np.arange(sum(sizes), dtype=np.float32)[:, None]
    own = [part for part in range(len(sizes)) if part % 2 == 0]
    of_own = np.repeat(np.isin(np.arange(len(sizes)), own), sizes)
    everything = ShardedTable(X, range(len(sizes)), sizes, np.float32, ALONE)
    half = ShardedTable(X[of_own], own, sizes, np.float32, ALONE)
    batches = [
        list(Share(ShardedRows(table, FunctionTransformer())).cut(1000, generator(0)))
        for table in (everything, half)
    ]
    seen = torch.cat([x for x, _ in batches[0]])[:, 0].numpy()
    assert_array_equal(np.sort(seen), X[:, 0])
    assert not np.array_equal(seen, X[:, 0])
    n_rows = [len(x) for (x, _) in batches[0]]
    assert max(n_rows) - min(n_rows) <= 2 + len(sizes) // 10
    for (x, _), (mine, _), batch in zip(*batches, batches[1], strict=True):
        expected = x[of_own[x[:, 0].long()]]
        assert_array_equal(np.sort(mine, axis=0), np.sort(expected, axis=0))
        assert batch.share == pytest.approx(len(expected) / len(x))


def test_rows_that_are_repeated():
    """As few rows are in an epoch: each is in it so many times, in batches of any owner."""
    sizes, times, own = [10, 0, 25, 5], 30, [0, 3]
    X = np.arange(40, dtype=np.float32)[:, None]
    is_own = np.repeat(np.isin(range(4), own), sizes)
    everything = ShardedTable(X, range(4), sizes, np.float32, ALONE)
    ours = ShardedTable(X[is_own], own, sizes, np.float32, ALONE)
    weight, numbers = np.arange(1.0, 41.0), np.arange(3, 40)
    rows, some = (
        ShardedRows(table, FunctionTransformer(), numbers, weight).repeated(times)
        for table in (everything, ours)
    )
    assert len(rows) == len(some) == 37 * times
    assert_array_equal(rows.part_sizes, some.part_sizes)
    batches, own_batches = (list(Share(r).cut(100, generator(0))) for r in (rows, some))
    seen, weights = (torch.cat(values).flatten().numpy() for values in zip(*batches, strict=True))
    assert_array_equal(np.sort(seen), np.repeat(X[3:, 0], times))
    assert_array_equal(weights, seen + 1)
    for (x, _), (mine, its_weight) in zip(batches, own_batches, strict=True):
        assert_array_equal(mine[:, 0].sort().values, x[is_own[x[:, 0].long()], 0].sort().values)
        assert_array_equal(its_weight, mine[:, 0] + 1)


@pytest.mark.parametrize("name", shards.ON_DISK)
def test_mixed_tables_on_disk(by_two, name, tmp_path, set_limits):
    """Each process reads a file of its own; one process reads one file, or a frame."""
    pytest.importorskip("pyarrow", reason="reads files")
    models = [models[f"{name} on disk"] for models, _ in by_two]
    assert_same_bits(models)
    frame = shards.sorted_table()
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=1000)
    in_memory = shards.ON_DISK[name]().fit(frame)
    set_limits(bytes_on_disk=1, rows_on_disk=1000)
    on_disk = shards.ON_DISK[name]().fit(skae.io.open_table(tmp_path))
    for alone in (on_disk, in_memory):
        assert models[0]._columns.columns == alone._columns.columns
        for ours, theirs in zip(scaled_by(models[0]), scaled_by(alone), strict=True):
            assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        if name in ("transformer", "detector") or (name == "validated" and alone is on_disk):
            assert_close(models[0], alone)
        else:  # with other noise, or with other rows held out
            assert_allclose(models[0].loss_curve_, alone.loss_curve_, rtol=0.1)
    assert models[0].n_samples_seen_ == len(frame)
    assert_array_equal(models[0].feature_names_in_, [*frame])


def scaled_by(model):
    """What the scaler of a mixed table has learned."""
    scaler = model._scaler
    if isinstance(model, skae.VAEGenerator):
        return [*(column.values for column in scaler.columns_.values()), *scaler.level_shares_]
    return [scaler.numbers_.center_, scaler.numbers_.scale_, scaler.shares_]


def test_moments_of_parts_are_those_of_all_rows():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(500, 4)) * [1, 1e-3, 1e120, 1] + [0, 1e6, 0, 3]
    X[:, 3] = 3.0
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    weight = rng.uniform(size=500)
    spans = [slice(0, 0), slice(0, 10), slice(10, 400), slice(400, 500)]
    parts = [column_moments(X[span], weight[span]) for span in spans]
    merged, whole = Moments.merged(parts), column_moments(X, weight)
    for name in ("mean", "low", "high", "unit", "total"):
        assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-12, err_msg=name)
    assert_allclose(merged.variance, whole.variance, rtol=1e-6)


SCRIPT = """
import os, pickle, sys
import shards, skae.distributed

rank = int(os.environ["RANK"])
X = shards.table()[shards.numbers_of_parts(shards.N_ROWS, 2)[rank]]
model = skae.distributed.fit(shards.transformer(), X)
again = skae.distributed.fit(shards.transformer(), X[:50])
if rank == 0:
    pickle.dump((model, again), open(sys.argv[1], "wb"))
"""


def test_launchers_tell_of_the_other_processes(tmp_path):
    script, result = tmp_path / "train.py", tmp_path / "models.pickle"
    script.write_text(SCRIPT)
    folders = [str(Path(skae.__file__).parents[1]), str(Path(shards.__file__).parent)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, str(script), str(result)], env=settings, check=True, timeout=SECONDS)
    model, again = pickle.loads(result.read_bytes())
    assert_close(
        model, shards.fitted_by_one(lambda: (shards.transformer(), shards.table(), None), 2)
    )
    assert again.n_samples_seen_ == 100


def test_values_are_private_by_the_rows_of_all_processes(by_two):
    """A level, or number, of few rows here is not rare if others have it, and the reverse."""
    estimator, X, _ = shards.AS_GOOD["private levels"]()
    alone = estimator.set_params(max_epochs=1, relations=None).fit(X)._guards
    ours = by_two[0][0]["private levels"]._guards
    for j, counts in alone.level_counts.items():
        assert_array_equal(ours.level_counts[j], counts)
    assert ours.columns.keys() == alone.columns.keys()
    for j, column in alone.columns.items():
        assert_array_equal(ours.columns[j].values, column.values)
        assert_array_equal(ours.columns[j].counts, column.counts)
    drawn = by_two[0][0]["private levels"].sample(300, random_state=0)
    assert "rare" not in set(drawn["level"])


@pytest.mark.parametrize("name", ["mixed", "detector", "denoiser", "generated levels"])
def test_models_are_saved_as_ever(by_two, name, tmp_path):
    model, X = by_two[0][0][name], (shards.EQUAL | shards.AS_GOOD)[name]()[1][:200]
    skae.save(model, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    judge = "score" if name == "denoiser" else "score_samples"
    judge = "reconstruction_error" if name == "mixed" else judge
    assert_array_equal(getattr(loaded, judge)(X), getattr(model, judge)(X))
