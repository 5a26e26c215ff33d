"""The flat optimiser takes the steps of ``torch.optim.AdamW``."""

import copy
import pickle

import pytest
import torch
from torch import nn

from skae._engine._flat_layout import flattened, in_flat_order, in_plain_order
from skae._engine._optimizer import FlatAdamW


def make(max_norm=1e9, lr=0.01):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    weights = [module[0].weight, module[2].weight]
    groups = [
        {"params": weights, "weight_decay": 0.1},
        {"params": []},
        {"params": [module[0].bias, module[2].bias], "share": 0.5},
    ]
    return module, FlatAdamW(groups, lr, max_norm)


def accumulate(module, step):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    module(x).square().sum().backward()


def train(module, optimizer, n_steps=5):
    with optimizer.flat():
        for step in range(n_steps):
            optimizer.zero_grad()
            accumulate(module, step)
            optimizer.step()


@pytest.mark.parametrize("max_norm", [1e9, 0.5])
def test_steps_are_those_of_torch(max_norm):
    module, optimizer = make(max_norm)
    other, _ = make()
    torchs = torch.optim.AdamW(
        [
            {"params": [other[0].weight, other[2].weight], "weight_decay": 0.1},
            {"params": [other[0].bias, other[2].bias], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    train(module, optimizer)
    for step in range(5):
        torchs.zero_grad()
        accumulate(other, step)
        nn.utils.clip_grad_norm_(other.parameters(), max_norm)
        torchs.step()
    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_rates_may_be_read_on_the_device():
    reference, other = make(), make()
    train(*reference)
    module, optimizer = other
    with optimizer.flat():
        optimizer.rates = torch.empty(2)
        for step in range(5):
            optimizer.zero_grad()
            accumulate(module, step)
            optimizer.step()
    for ours, theirs in zip(module.parameters(), reference[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_parameters_share_storage_only_while_flat():
    module, optimizer = make()
    parameters = list(module.parameters())
    before = [p.detach().clone() for p in parameters]
    with optimizer.flat():
        storages = {p.untyped_storage().data_ptr() for p in parameters}
        assert len(storages) == 1
        assert list(module.parameters()) == parameters
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == 4
    for parameter, value in zip(parameters, before, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, value)
        assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()


def test_thin_matrices_lie_lengthwise_only_while_flat():
    module, optimizer = make()
    tall, wide = module[0].weight, module[2].weight  # of shapes (5, 4) and (2, 5)
    before = tall.detach().clone()
    with optimizer.flat():
        for parameter, is_turned in ((tall, True), (wide, False)):
            for tensor in (parameter, parameter.grad):
                assert (tensor.T if is_turned else tensor).is_contiguous()
        assert torch.equal(tall, before)
    assert tall.is_contiguous()
    assert torch.equal(tall, before)


def test_parameters_get_their_storage_back_if_training_fails():
    module, optimizer = make()
    with pytest.raises(KeyError), optimizer.flat():
        raise KeyError
    assert len({p.untyped_storage().data_ptr() for p in module.parameters()}) == 4


def test_moments_are_kept_between_trainings():
    module, optimizer = make()
    train(module, optimizer, 2)
    other = copy.deepcopy((module, optimizer))
    third = pickle.loads(pickle.dumps((module, optimizer)))
    for pair in ((module, optimizer), other, third):
        train(*pair, 2)
        for ours, theirs in zip(pair[0].parameters(), module.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    assert optimizer.state[module[0].weight]["step"] == 4


def test_frozen_parameters_stay_where_they_are():
    module, optimizer = make()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    train(module, optimizer)
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(module[2].weight, make()[0][2].weight)


def test_one_type_for_all():
    module, _ = make()
    module[2].double()
    optimizer = FlatAdamW([{"params": list(module.parameters())}], 0.1, 1.0)
    with (
        pytest.raises(TypeError, match=r"torch\.float32.*torch\.float64.*must be of one type"),
        optimizer.flat(),
    ):
        pass


def test_frozen_parameters_do_not_count_in_the_norm():
    module, optimizer = make(max_norm=1.0)
    module[0].weight.requires_grad_(False)
    with optimizer.flat():
        optimizer.zero_grad()
        module[0].weight.grad.fill_(1e6)
        module[2].weight.grad.fill_(0.01)
        optimizer.step()
        assert (module[2].weight.grad == 0.01).all()


def test_the_order_of_parameters_and_that_of_training_lead_to_each_other():
    parameters = [torch.randn(5, 3), torch.randn(3, 5), torch.randn(4), torch.randn(2, 5, 3)]
    flat = torch.cat([flattened(p) for p in parameters])
    plain = in_plain_order(flat, parameters)
    assert torch.equal(plain, torch.cat([p.reshape(-1) for p in parameters]))
    assert torch.equal(in_flat_order(plain, parameters), flat)
