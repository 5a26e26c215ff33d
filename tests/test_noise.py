import pytest
import torch

from skae._engine._noise import Corruption
from skae._engine._runtime import generator


def test_nothing_asked_nothing_done():
    x = torch.randn(5, 3, generator=generator(0))
    corruption = Corruption(generator(0))
    assert corruption.inputs(x) is x
    assert corruption.latents(x) is x


@pytest.mark.parametrize("kind", ["inputs", "latents"])
def test_noise_has_the_deviation_asked_for(kind):
    corruption = Corruption(generator(0), input_noise=0.3, latent_noise=0.3)
    x = torch.ones(20_000, 3)
    noise = getattr(corruption, kind)(x) - x
    assert abs(noise.std() - 0.3) < 0.01
    assert abs(noise.mean()) < 0.01
    assert torch.equal(x, torch.ones_like(x))


def test_one_kind_does_not_switch_on_the_other():
    x = torch.ones(5, 3)
    assert Corruption(generator(0), input_noise=0.3).latents(x) is x
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
    z = Corruption(generator(0), ordered=True).latents(torch.ones(8000, 4))
    assert ((z == 0) | (z == 1)).all()
    assert (z.diff(dim=1) <= 0).all()  # a latent is there only if all before it are
    shares = torch.bincount(z.sum(dim=1).long(), minlength=5) / len(z)
    assert shares[0] == 0
    assert torch.allclose(shares[1:], torch.full((4,), 0.25), atol=0.02)
