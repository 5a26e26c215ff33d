"""Ctrl-C ends training with a warning and keeps what was learned."""

import numpy as np
import pytest

from skae import AutoencoderTransformer
from skae._engine import _joint_training
from skae._engine._net import AutoencoderNet
from skae.exceptions import TrainingInterruptedWarning


def interrupt_at(monkeypatch, step_number):
    """Press Ctrl-C once, in the middle of a step; return a list as long as steps were begun."""
    step, begun = AutoencoderNet._step, []

    def interrupted(self, batch):
        begun.append(1)
        if len(begun) == step_number:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    return begun


@pytest.mark.parametrize("n_rows", [120, 1200])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("at", [1, 5, 25])
def test_ctrl_c_stops_and_keeps_what_was_learned(
    at, early_stopping, n_rows, case, digits, monkeypatch
):
    X = digits[:n_rows, 20:40]
    begun = interrupt_at(monkeypatch, at)
    model = case.make(n_components=4, max_epochs=30, batch_size=64, early_stopping=early_stopping)
    with pytest.warns(TrainingInterruptedWarning, match="interrupted after"):
        model.fit(X)
    assert len(begun) == at  # one Ctrl-C is enough
    assert model.n_iter_ < 30
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))
    model.partial_fit(X)


@pytest.mark.parametrize("n_rows", [120, 1200])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("at", [1, 5, 25])
def test_ctrl_c_keeps_the_best_network(at, early_stopping, n_rows, digits, monkeypatch):
    X = digits[:n_rows]
    interrupt_at(monkeypatch, at)
    model = AutoencoderTransformer(
        4,
        hidden_layer_sizes=(8,),
        max_epochs=30,
        batch_size=128,
        early_stopping=early_stopping,
        random_state=0,
    )
    with pytest.warns(TrainingInterruptedWarning):
        model.fit(X)
    # 0.49 to 0.59 over five seeds.
    assert model.score(X) > 0.3


@pytest.mark.parametrize(
    ("case", "n_rows", "place", "name"),
    [
        ("transformer", 120, _joint_training, "member_losses"),
        ("transformer", 1200, AutoencoderNet, "validation_loss"),
        ("denoiser", 120, _joint_training, "member_losses"),
        ("denoiser", 1200, AutoencoderNet, "validation_loss"),
        ("generator", 120, AutoencoderNet, "validation_loss"),  # fold after fold
        ("generator", 1200, AutoencoderNet, "validation_loss"),
        ("detector", 120, AutoencoderNet, "validation_loss"),
        ("detector", 1200, AutoencoderNet, "validation_loss"),
    ],
    indirect=["case"],
)
def test_ctrl_c_while_validating_ends_training_too(n_rows, place, name, case, digits, monkeypatch):
    X = digits[:n_rows, 20:40]
    validate, calls = getattr(place, name), []

    def interrupted(net, rows):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return validate(net, rows)

    monkeypatch.setattr(place, name, interrupted)
    with pytest.warns(TrainingInterruptedWarning):
        model = case.make(early_stopping=True).fit(X)
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))
    if isinstance(model, AutoencoderTransformer):
        assert model.score(X) > 0.2


def test_ctrl_c_before_training_is_a_plain_one(case, table, monkeypatch):
    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    model = case.make()
    monkeypatch.setattr(AutoencoderNet, "initialize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert not hasattr(model, "net_")
