"""Written gradients are those of autograd."""

import copy

import pytest
import torch
from torch import nn

from skae._engine._backprop import (
    DERIVATIVES,
    DropoutPass,
    MemberLinearPass,
    RecordedPass,
    two_way,
)
from skae._engine._losses import LOSSES_OF_ERRORS, Objective
from skae._engine._noise import Corruption
from skae._engine._runtime import generator
from skae.networks import ConvNetwork, MLPNetwork
from skae.networks._autoencoder import OutputLink
from skae.networks._layers import ACTIVATIONS, set_generators
from skae.networks._linear_path import LinearPath
from skae.networks._members import stack_members
from skae.networks._variational import Beside, VariationalEncoder


def mlp(activation="silu", dropout=0.0, n_in=5, n_out=3):
    return MLPNetwork((7, 4), activation, dropout).build(n_in, n_out)[0]


def gated():
    path = LinearPath(nn.Linear(5, 3), mlp(), 3, gated=True)
    nn.init.normal_(path.gain)
    return path


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(2.0)


class Scaled(nn.Module):
    """A layer that nobody knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.scale * x


def stacked():
    return stack_members([LinearPath(nn.Linear(5, 3), mlp(), 3) for _ in range(4)])[0]


def hooked():
    module = mlp()
    module.layers[1].register_forward_hook(lambda _, x, y: 2 * y)
    return module


NETWORKS = {
    **{name: lambda name=name: mlp(name) for name in ACTIVATIONS},
    "linear path": lambda: LinearPath(nn.Linear(5, 3), mlp(), 3),
    "gated": gated,
    "no bias": lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)),
    "side by side": lambda: Beside(mlp(), mlp("tanh")),
    "variational": lambda: VariationalEncoder(mlp(n_out=6)),
    "unknown layer": lambda: nn.Sequential(nn.Linear(5, 4), Scaled(), nn.Linear(4, 3)),
    "in place": lambda: nn.Sequential(nn.Linear(5, 4), InPlace(), nn.ReLU(inplace=True)),
    "in place first": lambda: nn.Sequential(InPlace(), nn.Linear(5, 4)),
    "batch norm": lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
    "hook": hooked,
    "same layer twice": lambda: nn.Sequential(*[nn.Linear(5, 5), nn.ELU(alpha=0.7)] * 2),
    "images": lambda: nn.Sequential(nn.Unflatten(1, (5, 1)), nn.Linear(1, 2), nn.Flatten()),
    "members": stacked,
    "convolutions": lambda: nn.Sequential(
        nn.Linear(5, 64), ConvNetwork((1, 8, 8), channels=(2,)).build(64, 3)[0]
    ),
}


def double(network):
    torch.manual_seed(0)
    module = network().double().train()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return module


def both_ways(module, x, by_output):
    """Output and gradients of a pass, and those of autograd."""
    recorded = copy.deepcopy(module)
    for parameter in recorded.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step = two_way(module, needs_input=True)
    with torch.no_grad():
        output = step.forward(x)
        by_input = step.backward(by_output)
    x = x.clone().requires_grad_()
    expected = recorded(x.clone())
    expected.backward(by_output)
    gradients = [p.grad for p in module.parameters()]
    return (output, by_input, *gradients), (
        expected,
        x.grad,
        *(p.grad for p in recorded.parameters()),
    )


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_gradients(network):
    module = double(network)
    shape = (4, 6, 5) if network is stacked else (6, 5)
    # Far enough out that log-variances leave their bounds.
    x = 9 * torch.randn(shape, generator=generator(0), dtype=torch.float64)
    before = x.clone()
    by_output = torch.randn(module(x.clone()).shape, generator=generator(1), dtype=torch.float64)
    got, expected = both_ways(module, x, by_output)
    assert torch.equal(x, before)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert any(g.any() for g in got[2:]) or not list(module.parameters())


def test_gradients_add_up():
    module = double(mlp)
    step = two_way(module, needs_input=False)
    x = torch.randn(6, 5, dtype=torch.float64)
    sums = []
    with torch.no_grad():
        for _ in range(2):
            assert step.backward(torch.ones_like(step.forward(x))) is None
            sums.append(module.layers[0].weight.grad.clone())
    torch.testing.assert_close(sums[1], 2 * sums[0])


def test_dropout_is_the_same_draw():
    module = double(lambda: mlp(dropout=0.5))
    recorded = copy.deepcopy(module)
    x = torch.randn(6, 5, dtype=torch.float64)
    set_generators(module, generator(3))
    set_generators(recorded, generator(3))
    with torch.no_grad():
        step = two_way(module, needs_input=True)
        torch.testing.assert_close(step.forward(x), recorded(x))
    assert any(isinstance(layer, DropoutPass) for layer in step.passes)


def test_what_is_known_is_not_recorded():
    kinds = [type(step) for step in two_way(mlp("relu"), needs_input=False).passes]
    assert RecordedPass not in kinds
    assert isinstance(two_way(stacked().path, needs_input=False), MemberLinearPass)
    assert set(DERIVATIVES) == set(ACTIVATIONS.values())
    assert isinstance(two_way(Scaled(), needs_input=False), RecordedPass)


@pytest.mark.parametrize("loss", LOSSES_OF_ERRORS)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (3, 6, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_losses(loss, missing, shape, weighted):
    objective = Objective(loss, missing=missing)
    link = OutputLink("identity", torch.zeros(4).numpy(), torch.ones(4).numpy())
    assert objective.written(link)
    x, output = torch.randn(shape), (2 * torch.randn(shape)).requires_grad_()
    weight = torch.rand(shape[:-1]) if weighted else None
    if missing:
        x[..., 0] = torch.nan
    expected = objective.reconstruction(link, output, x, weight)
    expected.backward()
    told, gradient = objective.with_gradient(output.detach(), x, weight)
    torch.testing.assert_close(told, expected.detach())
    torch.testing.assert_close(gradient, output.grad)


def test_other_objectives_are_recorded():
    link = OutputLink("identity", torch.zeros(4).numpy(), torch.ones(4).numpy())
    bounded = OutputLink("logistic", torch.zeros(4).numpy(), torch.ones(4).numpy())
    assert not Objective().written(bounded)
    for options in ({"loss": "binary_cross_entropy"}, {"l1": 0.1}, {"sparsity": 0.1}, {"kl": 1.0}):
        assert not Objective(**options).written(link)


def test_a_diverged_output_is_not_hidden_by_missing_cells():
    loss, _ = Objective(missing=True).with_gradient(
        torch.full((2, 2), torch.nan), torch.ones(2, 2), None
    )
    assert loss.isnan()


@pytest.mark.parametrize(
    "options",
    [{}, {"latent_noise": 0.3}, {"ordered": True, "latent_noise": 0.1}, {"variational": True}],
)
def test_gradient_through_the_corruption_of_latents(options):
    code = torch.randn(6, 4)

    def latents(code):
        return Corruption(generator(0), **options).latents(code)

    z, to_code = latents(code)
    gradient = torch.randn(z.shape)
    # The same draws at shifted codes: finite differences along each axis.
    jacobian = torch.autograd.functional.jacobian(lambda c: (latents(c)[0] * gradient).sum(), code)
    torch.testing.assert_close(to_code(gradient), jacobian)
