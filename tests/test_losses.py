import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

from skae._engine._losses import CELL_LOSSES, Objective, mean_over_rows
from skae.networks._autoencoder import OutputLink

IDENTITY = OutputLink("identity", np.zeros(3), np.ones(3))


@pytest.fixture
def x_and_output():
    rng = np.random.default_rng(0)
    return (
        torch.from_numpy(rng.uniform(size=(6, 3)).astype("f")),
        torch.from_numpy(2 * rng.normal(size=(6, 3)).astype("f")),
    )


def test_losses_are_their_formulas(x_and_output):
    x, out = x_and_output
    cells = {name: loss(IDENTITY, out, x).numpy() for name, loss in CELL_LOSSES.items()}
    x, out = x.double().numpy(), out.double().numpy()
    assert_allclose(cells["squared_error"].mean(), mean_squared_error(x, out), rtol=1e-5)
    assert_allclose(cells["absolute_error"].mean(), mean_absolute_error(x, out), rtol=1e-5)
    r = np.abs(out - x)
    assert (r > 1).any()
    assert (r < 1).any()
    assert_allclose(cells["huber"], np.where(r < 1, r**2 / 2, r - 0.5), rtol=1e-5, atol=1e-6)
    p = 1 / (1 + np.exp(-4 * (out - 0.5)))
    bce = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    assert_allclose(cells["binary_cross_entropy"], bce, rtol=1e-4, atol=1e-5)
    one_row = log_loss([1, 0], [[1 - p[0, 0], p[0, 0]]] * 2, labels=[0, 1])
    one = CELL_LOSSES["binary_cross_entropy"](
        IDENTITY, torch.tensor(out[[0, 0]]).float(), torch.tensor([[1.0] * 3, [0.0] * 3])
    )
    assert_allclose(one[:, 0].mean(), one_row, rtol=1e-4)


def test_cross_entropy_is_counted_in_the_units_of_the_data(x_and_output):
    """Scaled rows and outputs mean the same as rows in [0, 1]."""
    x, out = x_and_output
    center, scale = np.array([0.2, 0.5, 0.1]), np.array([2.0, 0.5, 1.0])
    link = OutputLink("logistic", center, scale)
    scaled_x, scaled_out = (x - link.center) / link.scale, (out - link.center) / link.scale
    loss = CELL_LOSSES["binary_cross_entropy"]
    assert_allclose(loss(link, scaled_out, scaled_x), loss(IDENTITY, out, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CELL_LOSSES))
def test_no_loss_below_that_of_the_truth(name, x_and_output):
    x, out = x_and_output
    best = torch.logit(x) / 4 + 0.5 if name == "binary_cross_entropy" else x
    loss = CELL_LOSSES[name]
    assert (loss(IDENTITY, out, x) >= loss(IDENTITY, best, x) - 1e-6).all()


def test_cross_entropy_survives_certainty():
    x = torch.tensor([[0.0, 1.0, 1.0]])
    out = torch.tensor([[1e4, -1e4, 1e4]])
    loss = CELL_LOSSES["binary_cross_entropy"](IDENTITY, out, x)
    assert torch.isfinite(loss).all()
    assert loss[0, 2] == 0


def test_weighted_mean_over_rows(x_and_output):
    cells = (x_and_output[0] - x_and_output[1]) ** 2
    weight = np.array([1, 2, 3, 1, 1, 1.0])
    mean = mean_over_rows(cells, torch.from_numpy(weight / weight.mean()).float())
    assert_allclose(mean, np.average(cells.mean(1), weights=weight), rtol=1e-5)
    assert_allclose(mean_over_rows(cells, torch.ones(6)), mean_over_rows(cells, None), rtol=1e-6)


def test_penalties_are_off_by_default(x_and_output):
    assert Objective().penalty(torch.nn.Linear(3, 2), x_and_output[0]) == 0.0


def test_l1_counts_weights_and_not_biases(x_and_output):
    layer = torch.nn.Linear(3, 2)
    penalty = Objective(l1=0.5).penalty(layer, x_and_output[0])
    assert_allclose(penalty.item(), 0.5 * layer.weight.abs().sum().item(), rtol=1e-6)


def test_sparsity_l1_is_the_mean_absolute_latent(x_and_output):
    z = x_and_output[1]
    penalty = Objective(sparsity=2.0).penalty(torch.nn.Identity(), z)
    assert_allclose(penalty, 2 * z.abs().mean(), rtol=1e-6)


def test_sparsity_kl_is_zero_at_its_target_only():
    def penalty(activity):
        z = torch.full((4, 3), float(np.arctanh(activity)))
        return float(
            Objective(sparsity=1.0, sparsity_penalty="kl", sparsity_target=0.2).penalty(
                torch.nn.Identity(), z
            )
        )

    assert_allclose(penalty(0.2), 0, atol=1e-6)
    expected = 3 * (0.2 * np.log(0.2 / 0.6) + 0.8 * np.log(0.8 / 0.4))
    assert_allclose(penalty(0.6), expected, rtol=1e-4)
    assert penalty(0.01) > 0
    assert np.isfinite(penalty(0.0))
    assert np.isfinite(penalty(1 - 1e-12))
