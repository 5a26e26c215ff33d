"""Pairs of noisy and clean rows, and training on them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skae import DenoisingAutoencoder
from skae._data._chunks import ColumnStack
from skae._data._scaling import Scaler
from skae._engine._batches import Batches, SourceRows, TensorRows
from skae._engine._denoising_net import InputTransform, NoisyRows, PairTransform
from skae._engine._noise import CellNoise
from skae._engine._runtime import generator
from skae._stats._gaussian import Gaussian

EMPTY = np.zeros(4, dtype=bool)


@pytest.fixture(scope="module")
def holed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4)) + 2
    return np.where(rng.random(X.shape) < 0.2, np.nan, X)


def noisy_rows(X, kind="gaussian", level=0.1, masked=0.0, append_mask=True, seed=0):
    scaler = Scaler("standard").fit(X)
    gaussian = Gaussian().fit(scaler.transform(X).astype(float))
    input_transform = InputTransform(scaler, gaussian.fill, append_mask, EMPTY)
    noise = CellNoise(kind, level, masked, scaler=scaler, generator=generator(seed))
    return NoisyRows(SourceRows(X, scaler).in_memory(), noise, input_transform)


def test_input_transform_fills_and_appends_a_mask(holed):
    scaler = Scaler("standard").fit(holed)
    read = InputTransform(scaler, np.nan_to_num, True, EMPTY).transform(holed)
    assert read.dtype == np.float32
    assert_array_equal(read[:, 4:], np.isnan(holed))
    assert_allclose(read[:, :4], np.nan_to_num(scaler.transform(holed)))
    empty = np.array([True, False, False, False])
    read = InputTransform(scaler, np.nan_to_num, True, empty).transform(holed)
    assert_array_equal(read[:, 0], 0)
    assert_array_equal(read[:, 4], 1)


def test_pairs_hold_inputs_and_targets(holed):
    rows = noisy_rows(holed, "masking", 0.3)
    (pairs, weight), *_ = Batches(rows, 50)
    assert weight is None
    inputs, mask, target = pairs.split([4, 4, 4], dim=1)
    assert not inputs.isnan().any()
    assert_array_equal(target, rows.rows.X)
    assert mask.bool()[target.isnan()].all()
    seen = ~mask.bool()
    assert_array_equal(inputs[seen], target[seen])
    assert 0.1 < mask[~target.isnan()].mean() < 0.5


def test_noise_is_fresh_and_validation_is_not(holed):
    rows = noisy_rows(holed)
    first, second = (next(iter(Batches(rows, 50)))[0] for _ in range(2))
    assert not torch.equal(first[:, :4], second[:, :4])
    frozen = rows.frozen()
    assert isinstance(frozen, TensorRows)
    a, b = (next(iter(Batches(frozen, 50)))[0].nan_to_num() for _ in range(2))
    assert torch.equal(a, b)


def test_passes_share_a_draw_of_noise_in_another_order(holed):
    rows = noisy_rows(holed)
    rows.n_passes = 3
    rows.rows.sample_weight = rows.rows.X[:, 0].nan_to_num()
    order = generator(0)
    passes = [
        [torch.cat(parts) for parts in zip(*Batches(rows, 16, order), strict=True)]
        for _ in range(4)
    ]
    pairs, weights = zip(*passes, strict=True)
    ordered = [torch.stack(sorted(p.nan_to_num(-9.0), key=tuple)) for p in pairs]
    assert torch.equal(ordered[0], ordered[1])
    assert torch.equal(ordered[0], ordered[2])
    assert not torch.equal(ordered[0], ordered[3])
    assert not torch.equal(pairs[0].nan_to_num(), pairs[1].nan_to_num())
    for pair, weight in zip(pairs, weights, strict=True):
        assert torch.equal(pair[:, 8].nan_to_num(), weight)  # targets stay beside their weights


@pytest.mark.parametrize("batch_size", [7, 16, 64])
def test_each_row_comes_once_an_epoch_whatever_is_read_at_once(batch_size, holed, set_limits):
    set_limits(noisy_rows=20)
    rows = noisy_rows(holed)
    rows.rows.sample_weight = rows.rows.X[:, 0].nan_to_num()
    batches = list(Batches(rows, batch_size, generator(0)))
    assert [len(x) for x, _ in batches] == Batches(rows, batch_size).sizes
    targets = torch.cat([x[:, -4:] for x, _ in batches]).nan_to_num()
    weights = torch.cat([weight for _, weight in batches])
    assert_array_equal(weights, targets[:, 0])
    assert_array_equal(np.sort(targets[:, 1]), np.sort(rows.rows.X[:, 1].nan_to_num()))


def test_validation_looks_at_so_many_rows_only(holed, set_limits):
    set_limits(validation_rows=20)
    rows = noisy_rows(holed)
    rows.rows.sample_weight = torch.arange(50.0)
    frozen = rows.frozen()
    assert len(frozen) == len(frozen.sample_weight) == 17
    assert_array_equal(frozen.sample_weight, torch.arange(0, 50, 3))


def test_clean_rows_follow_noisy_ones(holed):
    clean = np.nan_to_num(holed)
    source = ColumnStack(holed, clean)
    assert source.shape == (50, 8)
    scaler = Scaler("standard").fit(clean)
    input_transform = PairTransform(InputTransform(scaler, np.nan_to_num, True, EMPTY))
    read = SourceRows(source, input_transform, np.array([3, 1])).read(slice(0, 2))
    assert read.shape == (2, 12)
    assert_allclose(read[:, 8:], scaler.transform(clean[[3, 1]]))


def test_loss_ignores_missing_cells():
    """A column without any value has no effect on what is learned about the others."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    X[:, 2] = np.nan
    model = DenoisingAutoencoder(hidden_layer_sizes=4, max_epochs=2, random_state=0).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.validation_loss_curve_).all()


def test_the_last_epoch_is_kept_if_there_is_a_blend(table):
    holes = np.where(np.random.default_rng(0).random(table.shape) < 0.2, np.nan, table)
    params = {"hidden_layer_sizes": 4, "max_epochs": 6, "random_state": 0}
    assert DenoisingAutoencoder(**params).fit(holes).best_epoch_ == 6
    patient = DenoisingAutoencoder(n_iter_no_change=6, **params).fit(holes)
    assert patient.best_epoch_ == int(np.argmin(patient.validation_loss_curve_))


def test_wide_rows_move_the_linear_path_slowly():
    X = np.random.default_rng(0).normal(size=(40, 128))
    params = {"hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}
    net = DenoisingAutoencoder(4, **params).fit(X).net_
    shares = [group["share"] for group in net.optimizer_.param_groups]
    assert shares == [1.0, 1.0, 0.5]
    n_parameters = sum(len(group["params"]) for group in net.optimizer_.param_groups)
    assert n_parameters == len(list(net.module_.parameters()))
