"""Nets trained as one are the same as if each had been trained alone."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._engine import _joint_training
from skae._engine._batches import Batches, TensorRows
from skae._engine._build import build_autoencoder
from skae._engine._callbacks import should_stop
from skae._engine._joint_training import (
    Snapshots,
    StackedRows,
    can_train_as_one,
    train_as_one,
    train_together,
)
from skae._engine._losses import Objective
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._runtime import generator
from skae._stats._pca import fit_pca
from skae.networks import ConvNetwork, MLPNetwork
from skae.networks._autoencoder import OutputLink


@pytest.fixture
def make_net(table):
    scaled = ((table - table.mean(axis=0)) / table.std()).astype(np.float32)

    def make(
        n_latents=3, network=None, loss="squared_error", corruption=None, start=True, **params
    ):
        network = MLPNetwork((8,)) if network is None else network
        module = build_autoencoder(
            network,
            10,
            n_latents,
            link=OutputLink("identity", np.zeros(10), np.ones(10)),
            pca=fit_pca(scaled, n_latents) if start else None,
            tied=False,
            seed=n_latents,
        )
        params = {"max_epochs": 30, "batch_size": 200, "verbose": 0, "alpha": 0.1, **params}
        return AutoencoderNet(
            module,
            Objective(loss),
            corruption=Corruption(generator(1), **(corruption or {})),
            batch_generator=generator(2),
            **params,
        )

    return make


@pytest.fixture
def rows(table):
    scaled = ((table - table.mean(axis=0)) / table.std()).astype(np.float32)

    def make(indices, weight=None):
        weight = None if weight is None else torch.from_numpy(weight.astype(np.float32))
        return TensorRows(torch.from_numpy(scaled[indices]), weight)

    return make


SPLITS = [
    (range(100), range(100, 120)),
    (range(20, 120), range(20)),
    (range(10, 75), range(90, 120)),
]


def splits(rows):
    return [[rows(list(part)) for part in parts] for parts in zip(*SPLITS, strict=True)]


def test_validation_losses_of_members_are_those_of_their_nets(make_net, rows):
    nets = [make_net(k).initialize() for k in (3, 5, 2)]
    weight = np.linspace(0.5, 1.5, 20)
    valid = [rows(range(100, 120), weight), rows(range(13)), rows(range(90, 120))]
    joint = make_net().initialize()
    joint.replace_module(_joint_training._joint_module(nets))
    losses = _joint_training.member_losses(joint, StackedRows(valid))
    alone = [net.validation_loss(part) for net, part in zip(nets, valid, strict=True)]
    assert_allclose(losses, alone, rtol=1e-5)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 5, 3)])
def test_members_are_trained_as_if_alone(make_net, rows, sizes, start):
    """One batch an epoch, so that the order of the rows does not matter."""
    params = {"start": start, "learning_rate": 3e-4}
    together, alone = ([make_net(k, **params) for k in sizes] for _ in range(2))
    train, valid = splits(rows)
    assert train_together(together, train, valid) == 3
    for net, other, own_train, own_valid in zip(together, alone, train, valid, strict=True):
        other.train(own_train, own_valid)
        assert_allclose(net.validation_losses, other.validation_losses, rtol=2e-2)
        assert net.stop_ == other.stop_
        assert len(net.history) == len(other.history)
        assert_allclose(net.validation_loss(own_valid), min(net.validation_losses), rtol=1e-4)
        pairs = zip(net.module_.parameters(), other.module_.parameters(), strict=True)
        for ours, theirs in pairs:
            assert_allclose(ours.detach(), theirs.detach(), atol=5e-3)


def test_snapshots_of_members_are_their_epochs(make_net, rows):
    """One batch an epoch, so that the order of the rows does not matter."""
    params = {"learning_rate": 3e-4, "max_epochs": 4}
    together, alone = ([make_net(k, **params) for k in (2, 5, 3)] for _ in range(2))
    train, valid = splits(rows)
    snapshots = Snapshots(StackedRows(valid), [0, 2, 2, 4])
    joint = train_as_one(together, train, snapshots)
    for i, (net, other) in enumerate(zip(together, alone, strict=True)):
        other.train(train[i], valid[i])
        losses = [losses[i] for losses in snapshots.losses]
        assert_allclose(losses, np.array(other.validation_losses)[snapshots.epochs], rtol=2e-2)
        for number, epoch in [(0, 0), (1, 2), (2, 2), (-1, 4)]:
            snapshots.keep(net, joint, i, number)
            assert net.best_epoch == epoch
            assert_allclose(net.validation_loss(valid[i]), losses[number], rtol=1e-4)


def test_members_stop_apart(make_net, rows):
    """A member that has run out of patience keeps what it had."""
    nets = [make_net(3, patience=4, learning_rate=0.05, max_epochs=60) for _ in range(3)]
    train, valid = splits(rows)
    train_together(nets, train, valid)
    for net, own in zip(nets, valid, strict=True):
        curve = net.validation_losses
        assert net.best_epoch == np.argmin(curve)
        assert_allclose(net.validation_loss(own), min(curve), rtol=1e-4)
        assert len(curve) - 1 - net.best_epoch <= 4
    first = [make_net(3, patience=4, learning_rate=0.05, max_epochs=60) for _ in range(3)]
    train_together(first, train, valid, until=any)
    lengths = [len(net.validation_losses) for net in nets]
    assert {len(net.validation_losses) for net in first} == {min(lengths)}


def test_the_last_epoch_can_be_kept(make_net, rows):
    nets = [make_net(3, max_epochs=5) for _ in range(3)]
    train_together(nets, *splits(rows), keep_last=True)
    assert [net.best_epoch for net in nets] == [5, 5, 5]


def test_padded_latents_stay_zero(make_net, rows, monkeypatch):
    joints = []
    train = AutoencoderNet.train
    monkeypatch.setattr(
        AutoencoderNet, "train", lambda net, *a: (joints.append(net), train(net, *a))
    )
    nets = [make_net(k, corruption={"latent_noise": 0.2}, batch_size=16) for k in (2, 5, 3)]
    train_together(nets, *splits(rows))
    (joint,) = joints
    path = joint.module_.decoder.path.weight
    assert path.shape == (3, 5, 10)
    assert not path[0, 2:].any()
    assert not path[2, 3:].any()
    assert path[1].any()


def test_members_have_different_noise():
    parts = [Corruption(generator(0), 0.0, 0.5), Corruption(generator(0), 2.0, 0.1)]
    joint = _joint_training._joint_corruption(parts, [3, 2])
    deviations = joint.inputs(torch.zeros(2, 4000, 4)).std(dim=1)
    assert_allclose(deviations, [[0.0] * 4, [2.0] * 4], rtol=0.1)
    deviations = joint.latents(torch.zeros(2, 4000, 3))[0].std(dim=1)
    assert_allclose(deviations, [[0.5] * 3, [0.1, 0.1, 0.0]], rtol=0.1)


def test_short_members_are_padded_with_rows_of_zero_weight(rows):
    weight = np.linspace(0.5, 1.5, 10)
    parts = StackedRows([rows(range(10), weight), rows(range(7)), rows(range(3))])
    batches = list(Batches(parts, 4))
    assert [x.shape for x, _ in batches] == [(3, 4, 10), (3, 4, 10), (3, 2, 10)]
    weights = torch.cat([w for _, w in batches], dim=1)
    assert_allclose(weights[0], weight, rtol=1e-6)
    assert weights.sum(dim=1).tolist() == [10, 7, 3]
    plain = list(Batches(StackedRows([rows(range(8)), rows(range(8))]), 4))
    assert all(w is None for _, w in plain)


class Watching(Callback):
    pass


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "binary_cross_entropy"},
        {"corruption": {"ordered": True}},
        {"callbacks": [Watching()]},
        {"network": ConvNetwork((1, 2, 5), channels=(2,))},
        {"network": MLPNetwork((8,), tied_weights=True), "start": False},
    ],
)
def test_nets_that_cannot_be_stacked_are_trained_in_turn(make_net, rows, params):
    nets = [make_net(3, **params, max_epochs=2) for _ in range(3)]
    assert not can_train_as_one(nets)
    assert train_together(nets, *splits(rows)) == 3
    assert all(len(net.validation_losses) == 3 for net in nets)


class Shaped:
    """A network whose hidden layer depends on the number of latents."""

    def build(self, n_features, n_components):
        def half(n_in, n_out):
            hidden = nn.Linear(n_in, 4 * n_components)
            return nn.Sequential(hidden, nn.Sigmoid(), nn.Linear(4 * n_components, n_out))

        return half(n_features, n_components), half(n_components, n_features)


class Shared:
    """A network with one parameter in two layers."""

    def build(self, n_features, n_components):
        encoder = nn.Sequential(nn.Linear(n_features, 6), nn.Tanh(), nn.Linear(6, 6))
        encoder.append(nn.Linear(6, n_components))
        encoder[2].weight = nn.Parameter(torch.eye(6))
        decoder = nn.Sequential(nn.Linear(n_components, 6), nn.Tanh(), nn.Linear(6, 6))
        decoder[2].weight = encoder[2].weight
        return encoder, decoder.append(nn.Linear(6, n_features))


def custom(make_net, network, *sizes):
    return [make_net(k, network=network, start=False, global_seed=0) for k in sizes]


def test_only_networks_of_one_shape_are_stacked(make_net):
    assert not can_train_as_one(custom(make_net, Shaped(), 2, 5))
    assert can_train_as_one(custom(make_net, Shaped(), 2, 2))
    assert not can_train_as_one(custom(make_net, Shared(), 2, 2))
    nets = [make_net(3, network=MLPNetwork((8,), kind)) for kind in ("tanh", "relu")]
    assert not can_train_as_one(nets)
    assert not can_train_as_one([make_net(3), make_net(3, network=MLPNetwork((9,)))])


def test_nets_with_different_settings_are_trained_in_turn(make_net):
    assert not can_train_as_one([make_net(), make_net(alpha=0.2)])
    assert can_train_as_one([make_net(), make_net()])


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAutoencoder])
def test_folds_are_trained_as_one(estimator, table, judged, monkeypatch):
    n_trainings = []
    train = AutoencoderNet.train
    monkeypatch.setattr(
        AutoencoderNet, "train", lambda net, *a, **k: (n_trainings.append(1), train(net, *a, **k))
    )
    params = {"hidden_layer_sizes": 4, "max_epochs": 3, "random_state": 0}
    estimator(n_components=2, **params).fit(table)
    assert len(n_trainings) == 2  # the folds, and all rows


def test_folds_are_interrupted_as_one(table, monkeypatch):
    step = AutoencoderNet._step

    def interrupted(net, batch):
        if len(net.history) == 2:
            raise KeyboardInterrupt
        return step(net, batch)

    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    model = AutoencoderTransformer(2, hidden_layer_sizes=4, max_epochs=9, random_state=0)
    with pytest.warns(UserWarning, match=r"interrupted after 1 of 9 epochs"):
        model.fit(table)
    assert np.isfinite(model.transform(table)).all()
    monkeypatch.undo()
    model.partial_fit(table)


@pytest.mark.parametrize(
    ("losses", "best", "patience", "stops"),
    [
        ([1.0], 0, 1, False),
        ([1.0, 0.9, 0.95], 1, 1, True),
        ([1.0, 0.9, 0.95], 1, 2, False),
        ([1.0, 0.9, 0.95], 1, None, False),
        ([1.0, 9.0, 9.0], 0, None, False),  # at its peak, the rate says nothing of the end
        ([1.0, 9.0, 9.0], 0, 2, True),
    ],
)
def test_when_training_stops(losses, best, patience, stops):
    assert should_stop(losses, best, patience) is stops
