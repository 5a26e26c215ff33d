"""A fit that fails leaves the estimator as it was."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skae._engine._net import AutoencoderNet


def test_a_first_fit_that_fails_leaves_nothing(case, table, monkeypatch):
    model = case.make()
    before = vars(model).copy()
    for X in (np.where(np.arange(10) == 3, np.inf, table), table[:1]):
        with pytest.raises(ValueError, match=r"infinity|minimum of 2"):
            model.fit(X)
        assert vars(model) == before

    def fail(self, batch):
        raise RuntimeError("something else")

    monkeypatch.setattr(AutoencoderNet, "_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        model.fit(table)
    assert vars(model) == before


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_later_fit_that_fails_leaves_the_earlier_one(
    method, warm_start, case, table, monkeypatch
):
    model = case.make(warm_start=warm_start, batch_size=32).fit(table)
    outputs, before = case.outputs(model, table), vars(model).copy()

    step, done = AutoencoderNet._step, []

    def fail(self, batch):
        if done:
            raise RuntimeError("something else")
        done.append(step(self, batch))
        return done[0]

    def assert_unchanged():
        assert vars(model).keys() == before.keys()
        for out, expected in zip(case.outputs(model, table), outputs, strict=True):
            assert_array_equal(out, expected)

    monkeypatch.setattr(AutoencoderNet, "_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        getattr(model, method)(table + 5)
    assert_unchanged()
    with pytest.raises(ValueError, match="infinity"):
        getattr(model, method)(np.where(np.arange(10) == 3, np.inf, table))
    with pytest.raises(ValueError, match=r"features|minimum"):
        model.partial_fit(table[:, :3])
    assert_unchanged()
