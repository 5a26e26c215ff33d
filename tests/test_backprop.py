"""Manual gradients are those of autograd."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._engine import _products, _steps
from skae._engine._backprop import Pass, has_manual_grad
from skae._engine._losses import ERROR_LOSSES, Objective
from skae._engine._noise import Corruption
from skae._engine._runtime import generator
from skae.networks import ConvNetwork, MLPNetwork
from skae.networks._autoencoder import OutputLink
from skae.networks._layers import ACTIVATIONS, set_generators
from skae.networks._linear_path import LinearPath
from skae.networks._stacked import stack_members
from skae.networks._variational import ConcatOutputs, VariationalEncoder


def mlp(activation="silu", dropout=0.0, n_in=5, n_out=3):
    return MLPNetwork((7, 4), activation, dropout).build(n_in, n_out)[0]


def gated():
    path = LinearPath(nn.Linear(5, 3), mlp(), 3, gated=True)
    nn.init.normal_(path.gain)
    return path


def stacked():
    return stack_members([LinearPath(nn.Linear(5, 3), mlp(), 3) for _ in range(4)])[0]


WRITTEN = {
    **{name: lambda name=name: mlp(name) for name in ACTIVATIONS},
    "linear path": lambda: LinearPath(nn.Linear(5, 3), mlp(), 3),
    "gated": gated,
    "no bias": lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)),
    "side by side": lambda: ConcatOutputs(mlp(), mlp("tanh")),
    "variational": lambda: VariationalEncoder(mlp(n_out=6)),
    "same layer twice": lambda: nn.Sequential(*[nn.Linear(5, 5), nn.ELU(alpha=0.7)] * 2),
    "members": stacked,
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
    step = Pass(module, needs_input=True)
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


@pytest.mark.parametrize("network", WRITTEN.values(), ids=WRITTEN)
def test_gradients(network):
    module = double(network)
    assert has_manual_grad(module)
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
    step = Pass(module, needs_input=False)
    x = torch.randn(6, 5, dtype=torch.float64)
    sums = []
    with torch.no_grad():
        for _ in range(2):
            assert step.backward(torch.ones_like(step.forward(x))) is None
            sums.append(module.layers[0].weight.grad.clone())
    torch.testing.assert_close(sums[1], 2 * sums[0])


@pytest.mark.parametrize("network", [mlp, gated, stacked, WRITTEN["same layer twice"]])
def test_gradients_are_replaced(network):
    """Also those of a layer that is used twice, to which both uses add."""
    module = double(network)
    x = torch.randn((4, 6, 5) if network is stacked else (6, 5), dtype=torch.float64)
    by_output = torch.randn_like(module(x))
    gradients = []
    with torch.no_grad():
        for adds in (True, False):
            for parameter in module.parameters():
                parameter.grad = torch.full_like(parameter, 0.0 if adds else 7.0)
            step = Pass(module, needs_input=False, adds=adds)
            step.forward(x)
            step.backward(by_output)
            gradients.append([p.grad for p in module.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_rows", [3, 200])
def test_products_of_both_libraries_agree(n_rows, monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")
    module = nn.Sequential(nn.Linear(120, 110), nn.Tanh(), nn.Linear(110, 100))
    x = torch.randn(n_rows, 120)
    by_output = torch.randn(n_rows, 100)
    results = []
    for is_wide in (False, True):
        monkeypatch.setattr(_products, "has_wide_products", lambda is_wide=is_wide: is_wide)
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step = Pass(module, needs_input=True)
        with torch.no_grad():
            outputs = step.forward(x).clone(), step.backward(by_output).clone()
        results.append([*outputs, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_passes_of_several_shapes():
    module = double(mlp)
    step = Pass(module, needs_input=True, adds=False)
    for n_rows in (6, 2, 6):
        x = torch.randn(n_rows, 5, dtype=torch.float64, requires_grad=True)
        expected = module(x)
        (by_input,) = torch.autograd.grad(expected.sum(), x)
        with torch.no_grad():
            torch.testing.assert_close(step.forward(x), expected.detach())
            torch.testing.assert_close(step.backward(torch.ones_like(expected)), by_input)


def memory_of(step):
    """Bytes of all buffers that a pass holds."""
    found = {}
    for tape in step.tapes.values():
        tensors = [tape.x, tape.y, tape.by_x, tape.by_y]
        for call in [*tape.forward, *tape.backward]:
            closure = [cell.cell_contents for cell in getattr(call, "__closure__", None) or ()]
            held = [*getattr(call, "args", ()), *getattr(call, "keywords", {}).values(), *closure]
            tensors += [value for value in held if isinstance(value, torch.Tensor)]
        for tensor in tensors:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_passes_of_many_shapes_share_their_memory(dropout):
    """Batches of several processes have many sizes; the largest may come at any time."""
    sizes = [1000, *range(960, 1040), 1000]
    module = mlp(dropout=dropout).train()
    set_generators(module, generator(0))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step, alone = (Pass(module, needs_input=True, adds=False) for _ in range(2))
    with torch.no_grad():
        for n_rows in sizes:
            step.forward(torch.ones(n_rows, 5))
            step.backward(torch.ones(n_rows, 3))
        alone.forward(torch.ones(max(sizes), 5))
    assert memory_of(step) < 3 * memory_of(alone)
    assert memory_of(alone) > 2**16


def test_dropout_is_the_same_draw():
    module = double(lambda: mlp(dropout=0.5))
    recorded = copy.deepcopy(module)
    x = torch.randn(6, 5, dtype=torch.float64)
    set_generators(module, generator(3))
    set_generators(recorded, generator(3))
    with torch.no_grad():
        step = Pass(module, needs_input=True)
        torch.testing.assert_close(step.forward(x), recorded(x))


# Networks that are left to autograd.


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(2.0)


class Last(nn.Module):
    def forward(self, sequence):
        return sequence[0][:, -1]


class Kept(nn.Module):
    """Keeps what passes, for another layer to add."""

    def forward(self, x):
        self.seen = x.tanh()
        return x


class Added(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.kept = (kept,)

    def forward(self, x):
        return x + self.kept[0].seen


class Deaf(nn.Module):
    """A decoder that ignores its input."""

    def __init__(self, n_out):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, z):
        return self.bias.expand(len(z), -1)


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


def hooked(hook):
    module = mlp(n_in=10, n_out=2)
    hook(module.layers[2])
    return module


def skipping():
    kept = Kept()
    return nn.Sequential(nn.Linear(10, 4), kept, nn.Linear(4, 4), Added(kept), nn.Linear(4, 2))


RECORDED = {
    "in place": lambda: nn.Sequential(nn.Linear(10, 2), nn.ReLU(inplace=True)),
    "writes in place": lambda: nn.Sequential(nn.Linear(10, 2), InPlace()),
    "batch norm": lambda: nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "recurrent": lambda: nn.Sequential(
        nn.Unflatten(1, (10, 1)), nn.LSTM(1, 3, batch_first=True), Last(), nn.Linear(3, 2)
    ),
    "skip": skipping,
    "detached": lambda: nn.Sequential(nn.Linear(10, 4), Detached(), nn.Linear(4, 2)),
    "images": lambda: ConvNetwork((1, 2, 5), channels=(2,)).build(10, 2)[0],
    "forward hook": lambda: hooked(lambda layer: layer.register_forward_hook(lambda *a: None)),
    "backward hook": lambda: hooked(
        lambda layer: layer.register_full_backward_pre_hook(lambda *a: None)
    ),
    "masked weight": lambda: hooked(lambda layer: layer.weight.register_hook(lambda g: 0 * g)),
}


class Custom:
    def __init__(self, encoder, decoder=None):
        self.encoder = encoder
        self.decoder = decoder or nn.Linear

    def build(self, n_features, n_components):
        return self.encoder(), self.decoder(n_components, n_features)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("encoder", RECORDED.values(), ids=RECORDED)
def test_other_networks_use_autograd(encoder, init, table):
    assert not has_manual_grad(encoder())
    params = {"max_epochs": 4, "random_state": 0, "init": init, "early_stopping": False}
    model = AutoencoderTransformer(2, network=Custom(encoder), **params).fit(table)
    assert np.isfinite(model.transform(table)).all()
    if init == "random":
        assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_hooks_on_weights_are_called(table):
    params = {"max_epochs": 4, "random_state": 0, "init": "random", "early_stopping": False}
    network = Custom(RECORDED["masked weight"])
    masked = AutoencoderTransformer(2, network=network, **params).fit(table)
    start = clone(masked).set_params(learning_rate=1e-12).fit(table)
    weights = [m.net_.module_.encoder.layers[2].weight for m in (masked, start)]
    torch.testing.assert_close(*weights)


def test_a_decoder_may_ignore_the_latents(table):
    network = Custom(lambda: nn.Linear(10, 2), lambda n_in, n_out: Deaf(n_out))
    AutoencoderTransformer(2, network=network, init="random", max_epochs=2).fit(table)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(2, ordered=True),
        AutoencoderTransformer(2, dropout=0.3, sparsity=0.1, l1=1e-3),
        AutoencoderTransformer(2, loss="huber"),
        AutoencoderOutlierDetector(variational=True),
        AutoencoderOutlierDetector(),
        DenoisingAutoencoder(),
        VAEGenerator(2, refine=False),
    ],
    ids=repr,
)
def test_training_is_the_same_either_way(estimator, table, monkeypatch):
    params = {"hidden_layer_sizes": 4, "max_epochs": 2, "random_state": 0, "batch_size": 32}
    has_manual_grad = clone(estimator).set_params(**params).fit(table)
    monkeypatch.setattr("skae._engine._steps.has_manual_grad", lambda module: False)
    recorded = clone(estimator).set_params(**params).fit(table)
    pairs = zip(*(m.net_.module_.parameters() for m in (has_manual_grad, recorded)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


# Losses and noise.


@pytest.mark.parametrize("loss", ERROR_LOSSES)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (3, 6, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_losses(loss, missing, shape, weighted):
    objective = Objective(loss, missing=missing)
    link = OutputLink("identity", torch.zeros(4).numpy(), torch.ones(4).numpy())
    assert objective.has_manual_grad(link)
    x, output = torch.randn(shape), (2 * torch.randn(shape)).requires_grad_()
    weight = torch.rand(shape[:-1]) if weighted else None
    if missing:
        x[..., 0] = torch.nan
    expected = objective.reconstruction(link, output, x, weight)
    expected.backward()
    value, gradient = objective.with_gradient(link, output.detach(), x, weight)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, output.grad)


def test_other_objectives_use_autograd():
    link = OutputLink("identity", torch.zeros(4).numpy(), torch.ones(4).numpy())
    bounded = OutputLink("logistic", torch.zeros(4).numpy(), torch.ones(4).numpy())
    assert not Objective().has_manual_grad(bounded)
    for options in ({"loss": "binary_cross_entropy"}, {"l1": 0.1}, {"sparsity": 0.1}, {"kl": 1.0}):
        assert not Objective(**options).has_manual_grad(link)


def test_a_diverged_output_is_not_hidden_by_missing_cells():
    link = OutputLink("identity", torch.zeros(2).numpy(), torch.ones(2).numpy())
    loss, _ = Objective(missing=True).with_gradient(
        link, torch.full((2, 2), torch.nan), torch.ones(2, 2), None
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


class OneLayerForBoth:
    """A network whose decoder reads its latents with a layer of the encoder."""

    def build(self, n_features, n_components):
        shared = nn.Linear(4, 4)
        encoder = nn.Sequential(nn.Linear(n_features, 4), shared, nn.Linear(4, n_components))
        return encoder, nn.Sequential(nn.Linear(n_components, 4), shared, nn.Linear(4, n_features))


def test_a_layer_of_encoder_and_decoder_gets_the_gradients_of_both(table, monkeypatch):
    params = {"network": OneLayerForBoth(), "init": "random", "max_epochs": 2, "random_state": 0}
    by_hand = AutoencoderTransformer(2, **params).fit(table)
    monkeypatch.setattr(_steps, "has_manual_grad", lambda module: False)
    by_autograd = AutoencoderTransformer(2, **params).fit(table)
    np.testing.assert_allclose(by_hand.loss_curve_, by_autograd.loss_curve_, rtol=1e-4)
