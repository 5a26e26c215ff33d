import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skae._data._scaling import Scaler
from skae._engine._noise import CellNoise, Corruption
from skae._engine._runtime import generator


def test_no_noise_by_default():
    x = torch.randn(5, 3, generator=generator(0))
    corruption = Corruption(generator(0))
    assert corruption.inputs(x) is x
    assert corruption.latents(x)[0] is x


@pytest.mark.parametrize("kind", ["inputs", "latents"])
def test_noise_has_the_deviation_asked_for(kind):
    corruption = Corruption(generator(0), input_noise=0.3, latent_noise=0.3)
    x = torch.ones(20_000, 3)
    out = getattr(corruption, kind)(x)
    noise = (out if kind == "inputs" else out[0]) - x
    assert abs(noise.std() - 0.3) < 0.01
    assert abs(noise.mean()) < 0.01
    assert torch.equal(x, torch.ones_like(x))


def test_input_and_latent_noise_are_independent():
    x = torch.ones(5, 3)
    assert Corruption(generator(0), input_noise=0.3).latents(x)[0] is x
    assert Corruption(generator(0), latent_noise=0.3).inputs(x) is x


def test_same_seed_same_noise():
    x = torch.zeros(4, 3)
    a, b, c = (Corruption(generator(s), input_noise=1.0).inputs(x) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    corruption = Corruption(generator(0), 1.0, 1.0, ordered=True)
    corruption.latents(corruption.inputs(torch.zeros(4, 3)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nested_dropout_keeps_prefixes_of_all_sizes_alike():
    z, _ = Corruption(generator(0), ordered=True).latents(torch.ones(8000, 4))
    assert ((z == 0) | (z == 1)).all()
    assert (z.diff(dim=1) <= 0).all()  # a latent is there only if all before it are
    shares = torch.bincount(z.sum(dim=1).long(), minlength=5) / len(z)
    assert shares[0] == 0
    assert torch.allclose(shares[1:], torch.full((4,), 0.25), atol=0.02)


# Noise on cells.


def cell_noise(kind, level, masked=0.0, X=None):
    X = np.random.default_rng(0).normal(size=(4000, 3)) if X is None else X
    scaler = Scaler(None).fit(X)
    noise = CellNoise(kind, level, masked, scaler=scaler, generator=generator(0))
    return torch.from_numpy(X.astype(np.float32)), noise


def test_gaussian_has_a_deviation_per_column():
    x, noise = cell_noise("gaussian", np.array([0.0, 0.5, 2.0]))
    assert_allclose((noise(x) - x).std(dim=0), [0, 0.5, 2.0], rtol=0.05)


def test_masking_has_a_share_per_row():
    x, noise = cell_noise("masking", 0.3, X=np.ones((2000, 50)))
    shares = noise(x).isnan().float().mean(dim=1)
    assert abs(shares.mean() - 0.3) < 0.02
    assert shares.min() < 0.05
    assert 0.55 < shares.max() < 0.8


def test_salt_and_pepper_are_the_extremes():
    x, noise = cell_noise("salt_and_pepper", 0.2)
    noisy = noise(x)
    hit = noisy != x
    low, high = x.min(dim=0).values, x.max(dim=0).values
    assert abs(hit.float().mean() - 0.2) < 0.02
    assert ((noisy == low) | (noisy == high))[hit].all()
    assert abs((noisy == low).float().mean() - 0.1) < 0.02


def test_swap_takes_from_the_same_column():
    x, noise = cell_noise("swap", 0.3)
    noisy = noise(x)
    assert abs((noisy != x).float().mean() - 0.3) < 0.02
    for j in range(3):
        assert np.isin(noisy[:, j], x[:, j]).all()


def test_a_callable_gets_rows_in_the_units_of_the_data():
    X = np.random.default_rng(0).normal(size=(50, 3)) * 5 + 100
    seen = []

    def double(rows, rng):
        seen.append((rows, rng.random()))
        return 2 * rows

    scaler = Scaler("standard").fit(X)
    noise = CellNoise(double, 0.0, 0.0, scaler=scaler, generator=generator(0))
    x = torch.from_numpy(scaler.transform(X))
    assert_allclose(scaler.inverse_transform(noise(x).numpy()), 2 * X, rtol=1e-5)
    noise(x)
    assert_allclose(seen[0][0], X, rtol=1e-5)
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt_and_pepper", "swap"])
def test_missing_cells_stay_missing_and_more_are_masked(kind):
    X = np.random.default_rng(0).normal(size=(4000, 3))
    X[::5] = np.nan
    x, noise = cell_noise(kind, 0.1, X=X)
    assert noise(x)[::5].isnan().all()
    x, noise = cell_noise(kind, 0.0, masked=0.25, X=X)
    assert abs(noise(x)[1::5].isnan().float().mean() - 0.25) < 0.03
