"""Weight matrices are moved by orthogonalised momentum, all else by Adam."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skae import AutoencoderTransformer
from skae._engine._net import AutoencoderNet
from skae._engine._optimizer import FlatAdamW
from skae._engine._orthogonal import STEPS_PER_ROOT, UPDATE_SIZE, inverse_root, matrices_of
from skae.networks import ConvNetwork
from skae.networks._layers import weights_of
from skae.networks._linear_path import LinearPath
from skae.networks._mlp import MLP
from skae.networks._stacked import MemberLinear

SHAPES = [(5, 12), (12, 5), (8, 8), (3, 6, 4)]


def draw(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make(shapes=SHAPES, lr=0.1, max_norm=1e9, dtype=torch.float32, weight_decay=0.0):
    parameters = [nn.Parameter(draw(shape, i, dtype)) for i, shape in enumerate(shapes)]
    groups = [{"params": parameters, "orthogonal": True, "weight_decay": weight_decay}]
    return parameters, FlatAdamW(groups, lr, max_norm)


def step(parameters, optimizer, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad.copy_(gradient)
    optimizer.step()


def gradients_of(parameters, seed):
    return [draw(p.shape, seed + i, p.dtype) for i, p in enumerate(parameters)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_updates_are_nearly_orthogonal(dtype, size):
    parameters, optimizer = make(dtype=dtype)
    for p in parameters:
        p.data.zero_()
    gradients = [size * g for g in gradients_of(parameters, 10)]
    with optimizer.flat():
        step(parameters, optimizer, gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        unit = 0.1 * UPDATE_SIZE * max(parameter.shape[-2:]) ** 0.5
        moves = -parameter.detach().double() / unit
        singular = torch.linalg.svdvals(moves)
        assert singular.max() < 1.3
        assert singular.min() > 0.5
        u, _, v = torch.linalg.svd(gradient.double(), full_matrices=False)
        nearest = u @ v
        cosine = (moves * nearest).sum() / moves.norm() / nearest.norm()
        assert cosine > 0.97


def test_inverse_root_of_what_has_not_moved_is_zero():
    roots = inverse_root(torch.stack([torch.zeros(4, 4), torch.eye(4)]))
    assert (roots[0] == 0).all()
    assert torch.linalg.eigvalsh(roots[1]).sub(1.0).abs().max() < 0.4


def test_members_are_moved_as_if_they_were_alone():
    (stacked,), optimizer = make([(3, 6, 4)], weight_decay=0.1)
    alone = [make([(6, 4)], weight_decay=0.1) for _ in range(3)]
    for i, ((parameter,), _) in enumerate(alone):
        parameter.data.copy_(stacked[i].detach())
    draws = [draw((3, 6, 4), t) * torch.tensor([1.0, 30.0**t, 1e-3])[:, None, None] for t in (0, 1)]
    draws += [draw((3, 6, 4), t) for t in range(2, 2 * STEPS_PER_ROOT)]
    with optimizer.flat():
        for gradient in draws:
            step([stacked], optimizer, [gradient])
    for i, (parameters, other) in enumerate(alone):
        with other.flat():
            for gradient in draws:
                step(parameters, other, [gradient[i]])
        torch.testing.assert_close(parameters[0], stacked[i], rtol=1e-4, atol=1e-5)


def test_an_update_in_a_new_direction_is_no_larger_than_an_orthogonal_one():
    (weight,), optimizer = make([(6, 9)])
    first = torch.zeros(6, 9)
    first[0, 0] = 1e-3
    with optimizer.flat():
        step([weight], optimizer, [first])
        before = weight.detach().clone()
        step([weight], optimizer, [1e3 * draw((6, 9), 5)])  # the root knows one direction
        move = (weight - before).norm()
    assert 0 < move <= 1.001 * 0.1 * UPDATE_SIZE * (6 * 9) ** 0.5


def test_a_matrix_without_gradient_stays_and_may_begin_to_move():
    (weight,), optimizer = make([(4, 4)])
    start = weight.detach().clone()
    with optimizer.flat():
        for _ in range(3):
            step([weight], optimizer, [torch.zeros(4, 4)])
        assert torch.equal(weight, start)
        for t in range(STEPS_PER_ROOT):
            step([weight], optimizer, [draw((4, 4), t)])
    assert weight.isfinite().all()
    assert 0 < (weight - start).norm() < 0.1 * UPDATE_SIZE * 4 * STEPS_PER_ROOT


def test_weight_decay_is_decoupled():
    (weight,), optimizer = make([(4, 5)], weight_decay=0.5)
    start = weight.detach().clone()
    with optimizer.flat():
        step([weight], optimizer, [torch.zeros(4, 5)])
    torch.testing.assert_close(weight.detach(), start * (1 - 0.1 * 0.5))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def train(module, optimizer, n_steps=10):
    with optimizer.flat():
        for t in range(n_steps):
            optimizer.zero_grad()
            module(draw((8, 4), t)).square().sum().backward()
            optimizer.step()


def optimizer_of(module):
    matrices = matrices_of(module)
    others = [p for p in module.parameters() if p.ndim == 1]
    return FlatAdamW([{"params": others}, {"params": matrices, "orthogonal": True}], 0.05, 1e9)


def test_vectors_follow_adam():
    bias, weight = nn.Parameter(draw(7)), nn.Parameter(draw((3, 4)))
    expected = nn.Parameter(bias.detach().clone())
    torchs = torch.optim.AdamW([expected], lr=0.05, weight_decay=0.0)
    groups = [{"params": [bias]}, {"params": [weight], "orthogonal": True}]
    optimizer = FlatAdamW(groups, 0.05, 1e9)
    with optimizer.flat():
        for t in range(6):
            step([bias, weight], optimizer, [draw(7, t), draw((3, 4), t)])
            expected.grad = draw(7, t)
            torchs.step()
    torch.testing.assert_close(bias, expected, rtol=1e-5, atol=1e-6)


def test_frozen_matrices_stay_where_they_are():
    module = network()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    train(module, optimizer_of(module))
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(module[2].weight, network()[2].weight)


def test_momentum_is_kept_between_trainings():
    module = network()
    optimizer = optimizer_of(module)
    train(module, optimizer, STEPS_PER_ROOT)
    other, afresh = copy.deepcopy((module, optimizer)), copy.deepcopy(module)
    for pair in ((module, optimizer), other, (afresh, optimizer_of(afresh))):
        train(*pair, 3)
    assert torch.equal(module[0].weight, other[0][0].weight)
    assert not torch.equal(module[0].weight, afresh[0].weight)


def test_matrices_are_found():
    path = LinearPath(nn.Linear(4, 2), MLP([4, 8, 2], "tanh"), 2)
    assert [tuple(p.shape) for p in matrices_of(path)] == [(8, 4), (2, 8)]
    members = nn.Sequential(MemberLinear([nn.Linear(4, 2), nn.Linear(4, 2)]), nn.SiLU())
    assert [tuple(p.shape) for p in matrices_of(members)] == [(2, 4, 2)]
    encoder, decoder = ConvNetwork((1, 8, 8)).build(64, 3)
    for part in (encoder, decoder):
        assert {p.ndim for p in matrices_of(part)} == {2}
        assert {p.ndim for p in weights_of(part)} == {2, 4}


def test_the_transformer_moves_its_matrices_so():
    X = np.random.default_rng(0).normal(size=(80, 6))
    net = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(X).net_
    net.initialize()
    moved = [p for g in net.optimizer_.param_groups if g["orthogonal"] for p in g["params"]]
    assert {id(p) for p in moved} == {id(p) for p in matrices_of(net.module_)}
    every = [p for g in net.optimizer_.param_groups for p in g["params"]]
    assert sorted(map(id, every)) == sorted(map(id, net.module_.parameters()))


@pytest.mark.parametrize(("loss", "sizes"), [("squared_error", [65, 65]), ("huber", [128, 2])])
def test_no_step_is_taken_on_a_rest_of_a_few_rows(loss, sizes, monkeypatch):
    """An orthogonalised update is as long whatever the rows: those of a few only add noise."""
    seen = []
    step = AutoencoderNet._step

    def noted(net, batch):
        seen.append(len(batch[0]))
        return step(net, batch)

    monkeypatch.setattr(AutoencoderNet, "_step", noted)
    X = draw((130, 6)).numpy()
    params = {"batch_size": 128, "max_epochs": 1, "early_stopping": False, "random_state": 0}
    AutoencoderTransformer(2, loss=loss, **params).fit(X)
    assert seen == sizes
