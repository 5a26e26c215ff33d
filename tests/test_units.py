"""Units and offsets of the data do not matter."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skae import AutoencoderTransformer, VAEGenerator


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(offset, unit, case, table):
    X = (table + offset) * unit
    model, plain = case.make(n_components=3).fit(X), case.make(n_components=3).fit(table)
    # The generator's loss is the negative logarithm of a density in units of X.
    shift = 10 * np.log(unit) if isinstance(model, VAEGenerator) else 0.0
    assert_allclose(np.subtract(model.loss_curve_, shift), plain.loss_curve_, rtol=1e-3)
    assert_allclose(model.encode(X), plain.encode(table), atol=1e-2)
    errors = model.reconstruction_error(X).mean() / X.var(axis=0).mean()
    expected = plain.reconstruction_error(table).mean() / table.var(axis=0).mean()
    assert_allclose(errors, expected, atol=1e-3)


def test_target_is_the_row_itself():
    """Without y, skorch's net would learn towards zero."""
    X = np.random.default_rng(0).normal(5, 1, size=(200, 4))
    model = AutoencoderTransformer(
        2, scaling=None, init="random", max_epochs=60, learning_rate=1e-2, random_state=0
    ).fit(X)
    # Off by 0.07 to 0.22 over five seeds.
    assert_allclose(model.reconstruct(X).mean(axis=0), 5, atol=0.3)


def test_data_outside_the_unit_interval_converge():
    """No sigmoid is hidden in the output."""
    X = 100 + 50 * np.random.default_rng(0).normal(size=(200, 3))
    # 1.00 over five seeds.
    assert AutoencoderTransformer(3, max_epochs=30, random_state=0).fit(X).score(X) > 0.95
