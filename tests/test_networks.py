import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skae import AutoencoderTransformer
from skae._engine._build import build_autoencoder
from skae._engine._runtime import generator
from skae._stats._pca import fit_pca
from skae.networks import ConvNetwork, MLPNetwork
from skae.networks._autoencoder import OutputLink
from skae.networks._layers import ACTIVATIONS, Dropout


def built(network, n_features, n_components):
    torch.manual_seed(0)
    return network.build(n_features, n_components)


@pytest.mark.parametrize("base", [ConvNetwork, MLPNetwork])
def test_networks_that_build_on_ours_have_random_weights(base):
    """Subclasses and networks that delegate get drawn, reproducible weights, too."""
    arguments = {"image_shape": (1, 2, 3), "channels": (4,)} if base is ConvNetwork else {}

    class Inherits(base):
        pass

    class Delegates:
        def build(self, n_features, n_components):
            return base(**arguments).build(n_features, n_components)

    latents = []
    X = np.random.default_rng(0).normal(size=(60, 6))
    for network in (Inherits(**arguments), Delegates(), Inherits(**arguments)):
        model = AutoencoderTransformer(
            2, network=network, init="random", max_epochs=2, random_state=0
        ).fit(X)
        weights = [p for p in model.net_.module_.parameters() if p.ndim > 1]
        assert all(0 < p.abs().max() < 10 for p in weights)
        latents.append(model.transform(X))
    assert_array_equal(latents[0], latents[2])


def plain_link(n_features):
    return OutputLink("identity", np.zeros(n_features), np.ones(n_features))


# The MLP.


@pytest.mark.parametrize("sizes", [(), (5,), (7, 5, 3)])
@pytest.mark.parametrize("tied", [False, True])
def test_mlp_is_symmetrical(sizes, tied):
    encoder, decoder = built(MLPNetwork(sizes, tied_weights=tied), 9, 2)
    assert encoder(torch.randn(4, 9)).shape == (4, 2)
    assert decoder(torch.randn(4, 2)).shape == (4, 9)
    shapes = [tuple(layer.weight.shape) for layer in encoder.layers if hasattr(layer, "weight")]
    assert [n_out for n_out, _ in shapes] == [*sizes, 2]
    if not tied:
        mirrored = [tuple(m.weight.shape) for m in decoder.layers if hasattr(m, "weight")]
        assert mirrored == [shape[::-1] for shape in shapes[::-1]]


def test_tied_mlp_uses_the_transposed_weights():
    encoder, decoder = built(MLPNetwork((5,), "tanh", tied_weights=True), 9, 2)
    z = torch.randn(4, 2, generator=generator(1))
    first, last = encoder.layers[0], encoder.layers[-1]
    expected = torch.tanh(z @ last.weight) @ first.weight
    assert_allclose(decoder(z).detach(), expected.detach(), rtol=1e-5, atol=1e-6)
    assert all(p.ndim == 1 for p in decoder.parameters())  # biases of its own, no weights
    decoder(z).sum().backward()
    assert first.weight.grad is not None


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activations(activation):
    encoder, _ = built(MLPNetwork((5,), activation), 9, 2)
    x = torch.randn(4, 9, generator=generator(1))
    linear = torch.allclose(encoder(2 * x) - encoder(x), encoder(x) - encoder(0 * x), atol=1e-5)
    assert linear == (activation == "identity")


def test_dropout_is_inverted_seeded_and_for_training_only():
    layer = Dropout(0.25)
    layer.generator = generator(0)
    x = torch.ones(200, 100)
    out = layer(x)
    assert abs((out == 0).float().mean() - 0.25) < 0.01
    assert_allclose(out[out != 0], 1 / 0.75, rtol=1e-6)
    layer.generator = generator(0)
    assert torch.equal(layer(x), out)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("network", [MLPNetwork((300,)), ConvNetwork((1, 10, 10), (40,))])
def test_initial_weights_are_those_of_torch(network):
    """Same spread as torch's own initialisation, layer by layer."""
    encoder, _ = built(network, 100, 30)
    layers = [m for m in encoder.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    with torch.random.fork_rng(devices=[]):
        for layer in layers:
            ours = layer.weight.std().item()
            layer.reset_parameters()
            assert_allclose(ours, layer.weight.std().item(), rtol=0.15)


# The convolutional network.


@pytest.mark.parametrize("height", range(1, 10))
@pytest.mark.parametrize("width", [1, 4, 7])
def test_conv_brings_any_size_back(height, width):
    for channels in ((3,), (4, 3), (4, 3, 2)):
        encoder, decoder = built(ConvNetwork((1, height, width), channels), height * width, 2)
        z = encoder(torch.randn(2, height * width))
        assert z.shape == (2, 2)
        assert decoder(z).shape == (2, height * width)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 5, 4), (2, 7, 9)])
def test_conv_kernels_and_channels(image_shape, kernel_size):
    n = math.prod(image_shape)
    network = ConvNetwork(image_shape, (4, 2), kernel_size=kernel_size)
    encoder, decoder = built(network, n, 3)
    assert decoder(encoder(torch.randn(2, n))).shape == (2, n)


def test_conv_halves_and_sees_neighbours_only():
    encoder, _ = built(ConvNetwork((1, 8, 8), (4, 2)), 64, 3)
    x = torch.zeros(1, 64)
    x[0, 0] = 1.0
    unflatten, conv = encoder[0], encoder[1]
    maps = conv(unflatten(x)) - conv(unflatten(0 * x))
    assert maps.shape == (1, 4, 4, 4)
    assert maps[0, :, 2:].abs().max() == 0
    assert maps[0, :, 0, 0].abs().max() > 0


def test_conv_reads_pixels_in_the_order_of_image_shape():
    """Rows hold channel after channel, each row by row."""
    encoder, _ = built(ConvNetwork((2, 3, 4)), 24, 2)
    x = torch.arange(24.0)[None]
    assert torch.equal(encoder[0](x)[0], torch.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"image_shape": (1, 8, 9)}, "image_shape"),
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (-1, 8, -8)}, "image_shape"),
        ({"channels": ()}, "channels"),
        ({"channels": (4, 0)}, "channels"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": -1}, "kernel_size"),
        ({"activation": "sin"}, "activation"),
    ],
)
def test_conv_errors_name_the_parameter(params, name, digits):
    network = ConvNetwork(**{"image_shape": (1, 8, 8), **params})
    with pytest.raises(ValueError, match=rf"{name}=") as caught:
        AutoencoderTransformer(2, network=network, max_epochs=1).fit(digits[:20])
    assert repr(params[name]) in str(caught.value)


def test_conv_learns(digits):
    model = AutoencoderTransformer(
        6, network=ConvNetwork((1, 8, 8), (16, 8)), max_epochs=20, random_state=0
    ).fit(digits[:1200])
    assert model.best_epoch_ > 0
    assert model.validation_loss_curve_[model.best_epoch_] < 0.9 * model.validation_loss_curve_[0]


# A network of the user's own.


class Own:
    """The protocol: one method."""

    def __init__(self, d_in=0, d_latent=0, d_z=0, d_out=0):
        self.wrong = d_in, d_latent, d_z, d_out

    def build(self, n_features, n_components):
        d_in, d_latent, d_z, d_out = self.wrong
        return (
            nn.Sequential(
                nn.Linear(n_features + d_in, 5), nn.Tanh(), nn.Linear(5, n_components + d_latent)
            ),
            nn.Sequential(
                nn.Linear(n_components + d_z, 5), nn.Tanh(), nn.Linear(5, n_features + d_out)
            ),
        )


@pytest.mark.parametrize("init", ["pca", "random"])
def test_own_network_learns(init, table):
    model = AutoencoderTransformer(
        3, network=Own(), init=init, max_epochs=60, early_stopping=False, random_state=0
    ).fit(table)
    assert model.transform(table).shape == (120, 3)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    modules = [type(m).__name__ for m in model.net_.module_.modules()]
    assert "Tanh" in modules


def test_own_network_starts_as_pca(table):
    model = AutoencoderTransformer(
        3, network=Own(), learning_rate=1e-12, max_epochs=1, random_state=0
    ).fit(table)
    plain = AutoencoderTransformer(3, learning_rate=1e-12, max_epochs=1, random_state=0).fit(table)
    assert_allclose(model.reconstruct(table), plain.reconstruct(table), atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"d_latent": 1}, r"encoder maps \(2, 10\) to \(2, 4\).*must map to \(2, 3\)"),
        ({"d_out": 2}, r"decoder maps \(2, 3\) to \(2, 12\).*must map to \(2, 10\)"),
    ],
)
def test_own_network_of_the_wrong_shape(wrong, message, table):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(3, network=Own(**wrong), max_epochs=1).fit(table)


@pytest.mark.parametrize("wrong", [{"d_in": 1}, {"d_z": 1}])
def test_own_network_that_cannot_read_its_input(wrong, table):
    with pytest.raises((ValueError, RuntimeError), match=r"network=|shapes"):
        AutoencoderTransformer(3, network=Own(**wrong), max_epochs=1).fit(table)


def test_own_network_that_returns_no_pair(table):
    class Single:
        def build(self, n_features, n_components):
            return nn.Linear(n_features, n_components)

    with pytest.raises((TypeError, ValueError), match=r"."):
        AutoencoderTransformer(3, network=Single(), max_epochs=1).fit(table)


def test_own_network_is_trained_on_its_own_copy(table):
    """A builder that hands out one module twice is still one fit per fit."""
    model = AutoencoderTransformer(3, network=Own(), max_epochs=2, random_state=0)
    a = model.fit(table).transform(table)
    assert_allclose(model.fit(table).transform(table), a)


# The linear path.


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_components", [1, 3, 10, 14])
def test_linear_path_is_pca(n_components, tied, table):
    pca = fit_pca(table, n_components)
    module = build_autoencoder(
        MLPNetwork((6,), tied_weights=tied),
        10,
        n_components,
        link=plain_link(10),
        pca=pca,
        tied=tied,
        seed=0,
    ).eval()
    x = torch.tensor(table).float()
    with torch.no_grad():
        back = module.decode(module.encode(x)).numpy()
    centred = table - pca.mean
    directions = pca.directions[:n_components]
    assert_allclose(back, centred @ directions.T @ directions + pca.mean, atol=1e-4)


def test_surplus_latents_have_no_effect_on_the_output(table):
    pca = fit_pca(table, 10)
    module = build_autoencoder(
        MLPNetwork((6,)), 10, 14, link=plain_link(10), pca=pca, tied=False, seed=0
    )
    x = torch.tensor(table).float()
    z = module.encode(x).detach()
    assert (z[:, 10:].std(dim=0) > 0).all()
    silenced = z.clone()
    silenced[:, 10:] = 0
    assert torch.equal(module.decode(z), module.decode(silenced))


@pytest.mark.parametrize("activation", ["identity", "relu", "logistic"])
def test_output_link_bounds_in_units_of_the_data(activation):
    center, scale = np.array([0.3, 0.5]), np.array([2.0, 0.1])
    link = OutputLink(activation, center, scale)
    raw = 10 * torch.randn(500, 2, generator=generator(0))
    back = link.unscale(link(raw)).numpy()
    low = {"identity": -np.inf, "relu": 0, "logistic": 0}[activation]
    high = {"identity": np.inf, "relu": np.inf, "logistic": 1}[activation]
    assert back.min() >= low - 1e-5
    assert back.max() <= high + 1e-5
    inside = (torch.tensor([[0.5, 0.5]]) - link.center) / link.scale
    assert_allclose(link(inside), inside, atol=1e-6)  # the middle is not moved


def test_a_class_is_no_network(digits):
    with pytest.raises(ValueError, match=r"network=ConvNetwork is a class.*ConvNetwork\(\.\.\.\)"):
        AutoencoderTransformer(2, network=ConvNetwork).fit(digits[:50])


def test_channels_are_a_tuple(digits):
    with pytest.raises(ValueError, match=r"channels=4 must be a tuple of positive ints"):
        AutoencoderTransformer(2, network=ConvNetwork((1, 8, 8), 4)).fit(digits[:50])


# Variational networks.


def test_a_variational_start_is_probabilistic_pca():
    from skae._data._scaling import Scaler
    from skae._engine._build import build_variational, make_output
    from skae._stats._pca import ProbabilisticPCA

    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    scaler = Scaler("standard").fit(X)
    rows = scaler.transform(X)
    pca = fit_pca(rows, 6)
    linear = ProbabilisticPCA.of(pca, 3, 6, n_conditions=2)
    link, slopes, biases = make_output("gaussian", scaler, linear.deviations, pca.mean, False)
    module = build_variational(
        MLPNetwork((8,)),
        link,
        6,
        3,
        linear=linear,
        slopes=slopes,
        biases=biases,
        n_conditions=2,
        seed=0,
    )
    x = torch.from_numpy(np.hstack([rows, np.ones((300, 2))]).astype("f"))
    mean, log_variance = module.code(x).chunk(2, dim=1)
    expected = (rows - pca.mean) @ linear.projection.T
    assert_allclose(mean.detach().numpy(), expected, atol=1e-5)
    assert_allclose(
        log_variance.detach().numpy(), np.tile(linear.log_variances, (300, 1)), atol=1e-5
    )
    output = module.reconstruct(x).detach().numpy()
    assert_allclose(output, expected @ linear.loadings + pca.mean, atol=1e-5)


def test_log_variances_are_clamped():
    from skae.networks._variational import MAX_LOG_VARIANCE, VariationalEncoder

    encoder = VariationalEncoder(nn.Linear(1, 4))
    code = encoder(torch.tensor([[1e6], [-1e6]]))
    assert code.shape == (2, 4)
    assert code[:, 2:].abs().max() <= MAX_LOG_VARIANCE


def test_draws_follow_the_outputs():
    from skae.networks._variational import BernoulliOutput, TableOutput

    draws = torch.Generator().manual_seed(0)
    link = TableOutput(np.array([0.5]), [3], n_continuous=1)
    output = torch.tensor([[2.0, 0.0, np.log(2.0), -20.0]]).expand(20_000, -1)
    drawn = link.draw(output, draws)
    assert drawn[:, 0].mean().item() == pytest.approx(2, abs=0.02)
    assert drawn[:, 0].std().item() == pytest.approx(0.5, abs=0.02)
    shares = drawn[:, 1].long().bincount(minlength=3) / 20_000
    assert_allclose(shares.numpy(), [1 / 3, 2 / 3, 0], atol=0.02)
    assert link(output)[0].tolist() == [2.0, 1.0]
    bits = BernoulliOutput(is_binary=True).draw(torch.full((5000, 1), np.log(3.0)), draws)
    assert bits.mean().item() == pytest.approx(0.75, abs=0.03)
    assert BernoulliOutput(is_binary=False).draw(torch.zeros(2, 1), draws).tolist() == [
        [0.5],
        [0.5],
    ]
