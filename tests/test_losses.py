import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

from skae._engine._losses import (
    CELL_LOSSES,
    EvidenceBound,
    Objective,
    interval_log_likelihood,
    kl_to_standard_normal,
    log_likelihood,
    mean_over_rows,
)
from skae.networks._autoencoder import OutputLink
from skae.networks._variational import BernoulliOutput, GaussianOutput, TableOutput

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
def test_no_loss_is_below_that_of_the_true_values(name, x_and_output):
    x, out = x_and_output
    best = torch.logit(x) / 4 + 0.5 if name == "binary_cross_entropy" else x
    loss = CELL_LOSSES[name]
    assert (loss(IDENTITY, out, x) >= loss(IDENTITY, best, x) - 1e-6).all()


def test_cross_entropy_of_certain_predictions_is_finite():
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


# Likelihoods and the evidence bound.


def interval_cells():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(60, dtype=torch.float64, generator=generator)
    high = low + 2 * torch.rand(60, dtype=torch.float64, generator=generator)
    low[:5], high[5:10] = -30.0, 30.0
    low[10], high[10] = -30.0, 30.0
    high[11:20] = low[11:20]
    high[20:25] = low[20:25] + 1e-4
    mean = torch.randn(60, dtype=torch.float64, generator=generator)
    deviation = 0.05 + torch.rand(60, dtype=torch.float64, generator=generator)
    return mean, deviation, low, high


def test_interval_likelihood_is_the_normal_probability():
    mean, deviation, low, high = interval_cells()
    values = interval_log_likelihood(mean, deviation, low, high).numpy()
    normal = norm(mean.numpy(), deviation.numpy())
    share = normal.cdf(high.numpy()) - normal.cdf(low.numpy())
    point = (low == high).numpy()
    np.testing.assert_allclose(values[point], normal.logpdf(low.numpy())[point])
    believable = ~point & (share > 1e-12)
    np.testing.assert_allclose(values[believable], np.log(share[believable]), atol=1e-4)
    assert values[10] == pytest.approx(0, abs=1e-6)  # all there is


def test_interval_likelihood_has_the_right_gradient():
    mean, deviation, low, high = interval_cells()
    mean.requires_grad_()
    deviation.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, s: interval_log_likelihood(m, s, low, high), (mean, deviation)
    )


def test_interval_likelihood_has_the_derivatives_of_its_formula():
    mean, deviation, low, high = (cells.numpy() for cells in interval_cells())
    a, b = (low - mean) / deviation, (high - mean) / deviation
    wide = (b - a > 0.05) & (norm.cdf(b) - norm.cdf(a) > 1e-9)
    a, b, s = a[wide], b[wide], deviation[wide]
    p = norm.cdf(b) - norm.cdf(a)
    inputs = [torch.from_numpy(cells[wide]) for cells in (mean, deviation, low, high)]
    for parameter in inputs[:2]:
        parameter.requires_grad_()
    interval_log_likelihood(*inputs).sum().backward()
    assert_allclose(inputs[0].grad, (norm.pdf(a) - norm.pdf(b)) / (s * p), rtol=1e-6, atol=1e-9)
    d_deviation = (a * norm.pdf(a) - b * norm.pdf(b)) / (s * p)
    assert_allclose(inputs[1].grad, d_deviation, rtol=1e-6, atol=1e-9)
    assert len(p) > 20
    assert {True, False} == set((a + b > 0).tolist())  # both tails


def test_far_intervals_have_finite_likelihoods_and_gradients():
    mean = torch.tensor([0.0, 5.0, -5.0], requires_grad=True)
    low, high = torch.tensor([-30.0, -30.0, 4.0]), torch.tensor([30.0, -4.0, 30.0])
    values = interval_log_likelihood(mean, torch.full((3,), 0.02), low, high)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(mean.grad).all()
    assert mean.grad.tolist()[1] < 0 < mean.grad.tolist()[2]


def test_divergence_of_known_means_and_variances():
    code = torch.tensor([[1.0, -2.0, 0.0, np.log(4.0)], [0.0, 0.0, 0.0, 0.0]])
    # 0.5 * (1 + 1 - 1 - 0) + 0.5 * (4 + 4 - 1 - log 4)
    expected = [0.5 + 0.5 * (7 - np.log(4.0)), 0.0]
    np.testing.assert_allclose(kl_to_standard_normal(code).numpy(), expected, rtol=1e-6)


def test_the_warm_up_ends():
    bound = EvidenceBound(beta=2.0, warmup=0.5)
    bound.begin(8)
    assert [bound.step() for _ in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    bound.begin(0)
    assert bound.step() == 2.0


def test_likelihood_of_a_row_of_scores_and_codes():
    link = TableOutput(np.array([1.0, 0.5]), [3], n_continuous=1).requires_grad_(False)
    output = torch.tensor([[0.3, -0.2, 0.1, 0.2, 0.3]])
    row = torch.tensor([[9.0, 9, 9, 9, 9, 1.0, -1.0, 1.0, 0.5, 2.0, 0.7]])
    deviation = link.deviation.numpy()
    expected = (
        norm(0.3, deviation[0]).logpdf(1.0)
        + np.log(norm(-0.2, deviation[1]).cdf(0.5) - norm(-0.2, deviation[1]).cdf(-1.0))
        + 0.3
        - np.log(np.exp([0.1, 0.2, 0.3]).sum())
        + 0.7
    )
    assert float(log_likelihood(link, output, row)) == pytest.approx(expected, rel=1e-5)
    # A code of -1 and a wide interval have no effect.
    row[0, [5, 7]], row[0, 9] = torch.tensor([-30.0, 30.0]), -1.0
    row[0, [6, 8]] = torch.tensor([-30.0, 30.0])
    assert float(log_likelihood(link, output, row)) == pytest.approx(0.7, abs=1e-6)


def test_likelihood_of_bits_and_of_normal_cells():
    output, x = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    value = float(log_likelihood(BernoulliOutput(True), output, x))
    assert value == pytest.approx(np.log(0.5) + np.log(1 - 1 / (1 + np.exp(-2))), rel=1e-5)
    link = GaussianOutput(np.array([1.0, 2.0]), log_slope=0.25).requires_grad_(False)
    value = float(log_likelihood(link, output, x))
    s = link.deviation.numpy()
    assert value == pytest.approx(
        norm(0, s[0]).logpdf(1) + norm(2, s[1]).logpdf(0) + 0.25, rel=1e-5
    )
    np.testing.assert_allclose(s, [1.0, 2.0], rtol=1e-5)
