"""Ensembles as one batched network."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skae import AutoencoderOutlierDetector
from skae._data._scaling import Scaler
from skae._engine._batches import Batches, SourceRows, TensorRows
from skae._engine._build import build_members
from skae._engine._ensemble_net import MemberRows
from skae._engine._losses import Objective, kl_to_standard_normal
from skae._engine._noise import Corruption
from skae._engine._runtime import generator
from skae._stats._pca import fit_pca
from skae.networks import ConvNetwork, MLPNetwork
from skae.networks._autoencoder import OutputLink
from skae.networks._stacked import MemberLinear, OneByOne, stack_members

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
LINK = OutputLink("identity", np.zeros(6), np.ones(6))


class Normed:
    """Layers that are not known to be stackable."""

    def build(self, n_features, n_components):
        encoder = nn.Sequential(nn.Linear(n_features, n_components), nn.LayerNorm(n_components))
        return encoder, nn.Linear(n_components, n_features, bias=False)


NETWORKS = {
    "mlp": (MLPNetwork((8, 4)), None, MemberLinear),
    "dropout": (MLPNetwork((8,), dropout=0.5), None, MemberLinear),
    "pca": (MLPNetwork((8,)), fit_pca(X, 3), MemberLinear),
    "own": (Normed(), None, OneByOne),
    "own, pca": (Normed(), fit_pca(X, 3), OneByOne),
    "convolutions": (ConvNetwork((1, 2, 3), channels=(2,)), None, OneByOne),
}


@pytest.mark.parametrize(("network", "pca", "kind"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("variational", [False, True])
def test_stacked_members_have_the_same_outputs_as_alone(network, pca, kind, variational):
    def build(seeds):
        options = {"link": LINK, "pca": pca, "variational": variational, "seeds": seeds}
        return build_members(network, 6, 3, **options).eval()

    together = build([3, 4, 5])
    assert any(isinstance(module, kind) for module in together.modules())
    x = torch.from_numpy(X)
    with torch.no_grad():
        output, _ = together(x.expand(3, -1, -1))
        alone = [build([seed])(x.expand(1, -1, -1))[0][0] for seed in (3, 4, 5)]
    assert output.shape == (3, 40, 6)
    assert_allclose(output, torch.stack(alone), atol=1e-5)
    assert len({float(member.sum()) for member in output}) == 3 or pca is not None


def test_gradients_of_members_do_not_mix():
    (layer,) = stack_members([nn.Linear(4, 2), nn.Linear(4, 2)])
    layer(torch.randn(2, 5, 4))[0].sum().backward()
    assert layer.weight.grad[0].abs().sum() > 0
    assert layer.weight.grad[1].abs().sum() == 0


@pytest.mark.parametrize("rows_of", [TensorRows, None], ids=["tensor", "source"])
def test_members_draw_their_own_rows(rows_of):
    numbers = np.arange(50, dtype=np.float32)[:, None]
    scaler = Scaler(None).fit(numbers)
    rows = TensorRows(torch.from_numpy(numbers)) if rows_of else SourceRows(numbers, scaler)
    weights = np.zeros((2, 50))
    weights[0, :30], weights[1, 10:40] = 1, 1
    weights[1, 10] = 20  # as often as twenty others
    member_rows = MemberRows(rows, weights)
    assert len(member_rows) == 30
    drawn = [torch.cat([x for x, _ in Batches(member_rows, 7, generator(s))], 1) for s in range(80)]
    drawn = torch.cat(drawn, dim=1)[:, :, 0].numpy()
    assert drawn.shape == (2, 80 * 30)
    assert set(drawn[0]) == set(range(30))
    assert set(drawn[1]) == set(range(10, 40))
    assert (drawn[1] == 10).mean() == pytest.approx(20 / 49, abs=0.04)
    in_order = torch.cat([x for x, _ in Batches(MemberRows(rows, weights[:1]), 7)], 1)
    assert in_order.flatten().tolist() == list(range(30))  # without a generator: each once


def test_missing_cells_have_no_loss_and_no_gradient():
    objective = Objective("cauchy", missing=True)
    output = torch.randn(3, 6, requires_grad=True)
    x = torch.randn(3, 6)
    x[1, 2] = torch.nan
    cells = objective.cells(LINK, output, x)
    cells.sum().backward()
    assert cells[1, 2] == 0
    assert output.grad[1, 2] == 0
    assert torch.isfinite(output.grad).all()
    assert (output.grad != 0).sum() == 17


def test_cauchy_loss():
    x = torch.tensor([[0.0, 1.0, 3.0]])
    cells = Objective("cauchy").cells(LINK, torch.zeros(1, 3), x)
    assert_allclose(cells, np.log([[1.0, 2.0, 10.0]]), rtol=1e-6)


def test_divergence_from_the_prior_is_its_formula():
    mean, log_variance = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, np.log(4.0)]])
    divergence = float(kl_to_standard_normal(torch.cat([mean, log_variance], dim=1)))
    assert divergence == pytest.approx(12.5 + 0.5 * (4 - 1 - np.log(4.0)))
    assert float(kl_to_standard_normal(torch.zeros(1, 4))) == 0


def test_posterior_samples_have_the_variance_of_the_code():
    noise = Corruption(generator(0), variational=True)
    code = torch.cat([torch.full((20_000, 1), 3.0), torch.full((20_000, 1), np.log(4.0))], dim=1)
    z, _ = noise.latents(code)
    assert z.shape == (20_000, 1)
    assert float(z.mean()) == pytest.approx(3, abs=0.1)
    assert float(z.var()) == pytest.approx(4, rel=0.05)


def test_variational_training_shrinks_towards_the_prior(table):
    def spread(variational):
        options = {"variational": variational, "n_components": 3, "random_state": 0}
        return AutoencoderOutlierDetector(**options).fit(table).encode(table).var(axis=0)

    # The variance of the means and the mean of the variances sum to the prior's, one.
    assert spread(True).max() < 1.1 < spread(False).max()


def repeated():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def frozen():
    return nn.Linear(4, 4).requires_grad_(False)


def hooked():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, args, out: 2 * out)
    return layer


@pytest.mark.parametrize("build", [repeated, frozen, hooked])
def test_members_that_cannot_be_stacked_run_one_by_one(build):
    members = [build(), build()]
    (stacked,) = stack_members(members)
    x = torch.randn(2, 5, 4)
    assert isinstance(stacked, OneByOne)
    assert torch.equal(
        stacked(x), torch.stack([m(rows) for m, rows in zip(members, x, strict=True)])
    )


def test_tied_networks_stay_tied():
    encoders = [nn.Linear(4, 4), nn.Linear(4, 4)]
    decoders = [nn.Sequential(encoder, nn.Tanh()) for encoder in encoders]
    encoder, decoder = stack_members(encoders, decoders)
    assert {id(p) for p in encoder.parameters()} == {id(p) for p in decoder.parameters()}


def test_weight_decay_spares_the_members_biases(table):
    detector = AutoencoderOutlierDetector(alpha=0.1, max_epochs=1, random_state=0).fit(table)
    decayed, plain = detector.net_.optimizer_.param_groups
    assert {p.shape[1] for p in plain["params"]} == {1}
    assert len(decayed["params"]) == len(plain["params"]) == 4


def test_short_batches_count_less(table):
    rows = TensorRows(torch.from_numpy(np.r_[np.zeros((128, 10)), np.full((2, 10), 9)]).float())
    net = AutoencoderOutlierDetector(max_epochs=1, random_state=0).fit(table).net_
    member_rows = MemberRows(rows, np.ones((2, 130)))
    assert net.validation_loss(member_rows) == pytest.approx(
        net.row_losses(rows)[:-1].mean(), rel=1e-5
    )


def test_the_spread_of_posteriors_does_not_start_at_pca():
    options = {"link": LINK, "pca": fit_pca(X, 3), "variational": True, "seeds": [0]}
    module = build_members(MLPNetwork((8,)), 6, 3, **options)
    with torch.no_grad():
        mean, log_variance = module.code(torch.from_numpy(X)[None])[0].chunk(2, dim=1)
    assert np.abs(np.corrcoef(mean[:, 0], log_variance[:, 0])[0, 1]) < 0.95
