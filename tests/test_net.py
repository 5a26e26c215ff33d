import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, Freezer, Unfreezer

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
    save,
)
from skae._data._scaling import Scaler
from skae._engine._batches import SourceRows
from skae._engine._build import build_autoencoder
from skae._engine._losses import Objective
from skae._engine._net import WHILE_TRAINING, AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._optimizer import trapezoid
from skae._engine._runtime import generator
from skae._stats._pca import fit_pca
from skae.networks import MLPNetwork
from skae.networks._autoencoder import OutputLink


class SeesBatches(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


@pytest.fixture
def data(table):
    scaler = Scaler("global").fit(table)

    def rows(indices, weight=None):
        return SourceRows(table, scaler, indices, weight).in_memory()

    return rows


@pytest.fixture
def make_net(table):
    def make(**params):
        scaled = Scaler("global").fit(table).transform(table)
        link = OutputLink("identity", np.zeros(10), np.ones(10))
        module = build_autoencoder(
            MLPNetwork((8,), dropout=0.1),
            10,
            3,
            link=link,
            pca=fit_pca(scaled, 3),
            tied=False,
            seed=0,
        )
        params = {"max_epochs": 4, "batch_size": 16, "verbose": 0, **params}
        return AutoencoderNet(
            module,
            Objective(),
            corruption=Corruption(generator(1), latent_noise=0.1),
            batch_generator=generator(2),
            **params,
        )

    return make


TRAIN, VALID = np.arange(100), np.arange(100, 120)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()]).numpy().copy()


def test_history(make_net, data):
    net = make_net()
    net.train(data(TRAIN), data(VALID))
    assert isinstance(net, NeuralNet)
    assert len(net.history) == net.n_epochs_done == 4
    for epoch in net.history:
        assert {"epoch", "train_loss", "valid_loss", "valid_loss_best"} <= epoch.keys()
        assert 0 <= epoch["dur"] < 600  # seconds, as in skorch
        assert len(epoch["batches"]) == 1  # nothing is kept per batch unless somebody asks
    assert net.training_losses == list(net.history[:, "train_loss"])
    assert net.validation_losses[1:] == list(net.history[:, "valid_loss"])
    assert net.stop_ == "finished"
    assert all(isinstance(loss, float) for loss in net.training_losses)


@pytest.mark.parametrize("weighted", [False, True])
def test_fast_epochs_equal_epochs_with_callbacks(make_net, data, weighted):
    weight = np.linspace(0.5, 1.5, 120) if weighted else None
    fast, slow = make_net(), make_net(callbacks=[SeesBatches()])
    for net in (fast, slow):
        net.train(data(TRAIN, weight), data(VALID, weight))
    assert_allclose(fast.training_losses, slow.training_losses, rtol=1e-5)
    assert_allclose(fast.validation_losses, slow.validation_losses, rtol=1e-5)
    assert_array_equal(weights(fast), weights(slow))
    assert len(slow.history[-1, "batches"]) > 0


def test_the_best_epoch_is_in_the_module(make_net, data):
    net = make_net(max_epochs=12, learning_rate=0.05)
    net.train(data(TRAIN), data(VALID))
    assert net.best_epoch == np.argmin(net.validation_losses)
    assert_allclose(net.validation_loss(data(VALID)), min(net.validation_losses), rtol=1e-5)


def test_epoch_zero_counts(make_net, data):
    start = make_net()
    start.initialize()
    at_start = weights(start)
    net = make_net(max_epochs=3, learning_rate=0.3)
    net.train(data(TRAIN), data(VALID))
    assert net.best_epoch == 0
    assert_array_equal(weights(net), at_start)


def test_validation_loss_is_the_mean_over_rows(make_net, data, table):
    net = make_net()
    net.initialize()
    rows = data(VALID)
    with torch.no_grad():
        module = net.module_.eval()
        cells = (module.decode(module.encode(rows.X)) - rows.X) ** 2
    assert_allclose(net.validation_loss(rows), cells.mean(), rtol=1e-5)
    weight = np.zeros(120)
    weight[100:] = np.arange(20) + 1.0
    weighted = np.average(cells.mean(dim=1), weights=weight[100:])
    assert_allclose(net.validation_loss(data(VALID, weight)), weighted, rtol=1e-4)
    net.set_params(batch_size=7)  # 20 rows: the last batch is short
    assert_allclose(net.validation_loss(rows), cells.mean(), rtol=1e-5)
    assert_allclose(net.validation_loss(data(VALID, weight)), weighted, rtol=1e-4)


def test_schedule_is_a_trapezoid():
    rates = np.array(trapezoid(1000, 2.0))
    assert len(rates) == 1000
    assert rates.max() == 2.0
    assert (rates > 0).all()
    assert rates[0] < 0.05
    assert rates[-1] < 0.05
    top = np.flatnonzero(rates == 2.0)
    assert_array_equal(top, np.arange(top[0], top[-1] + 1))
    assert (np.diff(rates[: top[0]]) > 0).all()
    assert (np.diff(rates[top[-1] :]) < 0).all()
    assert len(trapezoid(1, 2.0)) == 1


def test_weight_decay_spares_biases(make_net, data):
    net = make_net(alpha=0.5)
    net.initialize()
    for group in net.optimizer_.param_groups:
        dims = {p.ndim > 1 for p in group["params"]}
        assert dims == {group["weight_decay"] > 0}
    n = sum(len(group["params"]) for group in net.optimizer_.param_groups)
    assert n == len(list(net.module_.parameters()))


def test_gradients_are_clipped(make_net, data):
    net = make_net(max_norm=1e-3)
    norms = []

    class Norm(Callback):
        def on_batch_end(self, net, training=None, **kwargs):
            norms.append(torch.cat([p.grad.flatten() for p in net.module_.parameters()]).norm())

    net.set_params(callbacks=[Norm()])
    net.train(data(TRAIN))
    assert norms
    assert max(norms) < 1.01e-3


@pytest.mark.parametrize(
    "round_trip", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n)), AutoencoderNet.copy]
)
def test_copies_train_alike_and_independently(round_trip, make_net, data):
    net = make_net()
    net.train(data(TRAIN), data(VALID))
    other = round_trip(net)
    before = weights(net)
    assert_array_equal(weights(other), before)
    other.train_on(data(TRAIN))
    assert_array_equal(weights(net), before)
    net.train_on(data(TRAIN))
    assert_array_equal(weights(net), weights(other))
    assert not np.array_equal(weights(net), before)
    assert other.module is other.module_


def test_clones_have_the_weights_and_no_history(make_net, data):
    net = make_net(patience=7)
    net.train(data(TRAIN), data(VALID))
    before = weights(net)
    other = clone(net)
    assert other.patience == 7
    assert not other.initialized_
    other.train(data(TRAIN), data(VALID))
    assert len(other.history) == 4
    assert_array_equal(weights(net), before)
    # Generators are copied in their current state.
    net.train(data(TRAIN), data(VALID))
    assert_array_equal(weights(other), weights(net))


def test_clones_of_fitted_nets(table):
    for estimator in (
        AutoencoderOutlierDetector,
        AutoencoderTransformer,
        DenoisingAutoencoder,
        VAEGenerator,
    ):
        net = estimator(hidden_layer_sizes=4, max_epochs=1, random_state=0).fit(table).net_
        other = clone(net)
        assert type(other) is type(net)
        assert other.get_params(deep=False).keys() == net.get_params(deep=False).keys()
        assert_array_equal(weights(other.initialize()), weights(net))


def test_parameters_of_callbacks_can_be_set(table, tmp_path):
    """Results of the last training stay; the next one has the new parameter."""
    params = {"hidden_layer_sizes": 4, "max_epochs": 40, "learning_rate": 0.1, "random_state": 0}
    X = np.tile(table, (9, 1)) + np.random.default_rng(0).normal(size=(1080, 10))
    model = AutoencoderTransformer(2, **params).fit(X)
    net, losses = model.net_, model.net_.validation_losses
    net.set_params(callbacks__best_weights__patience=1)
    assert net.best_epoch == model.best_epoch_
    assert net.validation_losses == losses
    save(model, tmp_path / "model")
    patient = model.set_params(warm_start=True).fit(X).n_iter_
    net = model.net_.set_params(callbacks__best_weights__patience=None)
    assert patient < model.fit(X).n_iter_
    with pytest.raises(ValueError, match="callback weights which does not exist"):
        net.set_params(callbacks__weights__patience=3)


def test_training_without_validation_keeps_the_last_or_the_epoch_asked_for(make_net, data):
    last, third, all_of_it = make_net(), make_net(), make_net(max_epochs=4)
    last.train(data(TRAIN))
    assert last.validation_losses is None
    third.train(data(TRAIN), keep_epoch=3)
    all_of_it.train(data(TRAIN), keep_epoch=4)
    assert_array_equal(weights(last), weights(all_of_it))
    assert not np.array_equal(weights(third), weights(last))


def test_no_reference_to_the_data_is_kept(digits):
    """A fitted estimator pickles small, however many rows it saw."""
    params = {"hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}
    sizes = [
        len(pickle.dumps(AutoencoderTransformer(2, **params).fit(digits[:n]))) for n in (1000, 1797)
    ]
    assert abs(sizes[0] - sizes[1]) < 2000


@pytest.mark.parametrize("watched", [False, True])
def test_layers_can_be_frozen_and_unfrozen(watched, make_net, data):
    watcher = [SeesBatches()] if watched else []
    start = weights(make_net().initialize())
    frozen = make_net(callbacks=[Freezer("*"), *watcher])
    frozen.train(data(TRAIN))
    assert_array_equal(weights(frozen), start)
    thawed = make_net(callbacks=[Freezer("*"), Unfreezer("*", at=3), *watcher])
    thawed.train(data(TRAIN))
    assert not np.array_equal(weights(thawed), start)


class Copies(Callback):
    """Copies the net in the middle of its training."""

    def __init__(self, how):
        self.how = how
        self.copies = []

    def on_epoch_end(self, net, **kwargs):
        self.copies.append((self.how(net), weights(net)))

    def __reduce__(self):
        return Callback, ()


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_copies_from_the_middle_of_training_are_complete(how, make_net, data):
    copies = Copies(how)
    net = make_net(callbacks=[copies])  # with dropout
    net.train(data(TRAIN), data(VALID))
    other, seen = copies.copies[1]
    assert_array_equal(weights(other), seen)
    rows = data(VALID)
    assert other.validation_loss(rows) == other.validation_loss(rows)
    assert not set(WHILE_TRAINING) & vars(other).keys()
    assert len(pickle.dumps(other)) < 1.5 * len(pickle.dumps(net))
    other.train_on(data(TRAIN))
    assert not np.array_equal(weights(other), seen)
