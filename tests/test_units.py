"""Units and offsets of the data do not matter."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae import AutoencoderTransformer, VAEGenerator
from skae._stats._fidelity import record_distances


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(offset, unit, case, table):
    X = (table + offset) * unit
    model, plain = case.make(n_components=3).fit(X), case.make(n_components=3).fit(table)
    # The generator's loss is the negative logarithm of a density in units of X.
    shift = 10 * np.log(unit) if isinstance(model, VAEGenerator) else 0.0
    assert_allclose(np.subtract(model.loss_curve_, shift), plain.loss_curve_, rtol=1e-3)
    Z = model.encode(X)
    if isinstance(model, AutoencoderTransformer):  # latents have the units of X
        Z = Z / unit
    assert_allclose(Z, plain.encode(table), atol=1e-2)
    errors = model.reconstruction_error(X).mean() / X.var(axis=0).mean()
    expected = plain.reconstruction_error(table).mean() / table.var(axis=0).mean()
    assert_allclose(errors, expected, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exponent", [-1060, -565, 490])
def test_extreme_units_do_not_matter(exponent, case, table):
    """Squares of such values are 0 or infinite in float64."""
    unit = 2.0**exponent
    X = np.rint(1024 * (table - 3.0)) / 1024  # subnormal numbers have few bits
    model, plain = case.make().fit(X * unit), case.make().fit(X)
    for method in set(case.row_methods) - {"reconstruction_error", "predict"}:
        out, expected = getattr(model, method)(X * unit), getattr(plain, method)(X)
        if isinstance(model, VAEGenerator) and method.startswith("score"):
            out = out + 10 * np.log(2.0) * exponent  # of densities
        has_unit = np.shape(out) == X.shape and method != "explain"
        if isinstance(model, AutoencoderTransformer):
            has_unit = np.ndim(out) == 2
        if has_unit:
            out = out / unit
        assert_allclose(out, expected, rtol=1e-3, atol=1e-3, err_msg=method)
    errors, expected = (m.reconstruction_error(r) for m, r in ((model, X * unit), (plain, X)))
    assert_allclose(errors, np.ldexp(expected, 2 * exponent), rtol=1e-3)


@pytest.mark.parametrize("exponent", [-565, 490])
def test_columns_of_extreme_units_count_as_much_as_others(exponent, table):
    unit = np.where(np.arange(10) % 2, 2.0**exponent, 1.0)
    params = {"scaling": "standard", "max_epochs": 3, "random_state": 0}
    model, plain = (AutoencoderTransformer(2, **params).fit(X) for X in (table * unit, table))
    assert_array_equal(model.encode(table * unit), plain.encode(table))


@pytest.mark.parametrize("exponent", [-565, 490])
def test_shares_of_variance_in_extreme_units(exponent, table):
    params = {"ordered": True, "max_epochs": 3, "random_state": 0}
    unit = 2.0**exponent
    model, plain = (AutoencoderTransformer(3, **params).fit(X) for X in (table * unit, table))
    assert_allclose(model.explained_variance_ratio_, plain.explained_variance_ratio_, rtol=1e-6)
    assert_allclose(model.latent_size_curve_, plain.latent_size_curve_, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-565, 490])
def test_distances_of_records_in_extreme_units(exponent, table):
    unit, of_numbers = 2.0**exponent, np.zeros(10, dtype=bool)
    parts = table[:40], table[40:80], table[80:]
    near, plain = (record_distances(*(p * u for p in parts), of_numbers) for u in (unit, 1.0))
    assert near == pytest.approx(plain)


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_bounds_are_in_usual_units(activation, table):
    X = np.abs(table) / 100 * 2.0**-565
    params = {"output_activation": activation, "max_epochs": 2, "random_state": 0}
    with pytest.raises(ValueError, match=r"output_activation=.*scales.*scaling='minmax'"):
        AutoencoderTransformer(2, **params).fit(X)
    model = AutoencoderTransformer(2, scaling="minmax", **params).fit(X)
    assert 0 < model.score(X) < 1


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
