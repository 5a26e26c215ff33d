"""Ctrl-C ends training with a warning and keeps what was learned."""

import contextlib
import itertools
import signal
import sys
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

import skae
from skae import AutoencoderTransformer
from skae._engine import _joint_training
from skae._engine._callbacks import BestWeights
from skae._engine._joint_training import BestWeightsPerMember
from skae._engine._net import AutoencoderNet
from skae._engine._progress import Progress
from skae._engine._variational_net import VariationalNet
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


# Anywhere: Ctrl-C comes on a line of skae or skorch.

FOLDERS = tuple(str(Path(package.__file__).parent) for package in (skae, skorch))
N_POINTS = 12
MAX_LINES = 8


class CtrlC:
    """Counts calls of functions of skae and skorch, and interrupts one of them.

    Parameters
    ----------
    at_call : int or None
        Number of the call.
    n_lines : int
        Lines of it that run before, or fewer where it has fewer.
    """

    def __init__(self, at_call=None, n_lines=0):
        self.at_call = at_call
        self.n_lines = n_lines
        self.n_calls = 0
        self.place = "nowhere"
        self.closed = None

    def __enter__(self):
        self.outer = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *error):
        sys.settrace(self.outer)

    def trace(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(FOLDERS):
            return None
        self.n_calls += 1
        if self.n_calls != self.at_call:
            return None
        return self.trace_lines

    def trace_lines(self, frame, event, arg):
        if event == "exception" and arg[0] is GeneratorExit:
            # Python ignores whatever is raised while it closes a generator: the next call, then.
            self.at_call, self.closed = self.n_calls + 1, frame
        if frame is self.closed:
            return None
        self.n_lines -= event == "line"
        if self.n_lines >= 0 and event != "return":
            return self.trace_lines
        sys.settrace(self.outer)
        self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
        raise KeyboardInterrupt


def is_unchanged(model, before):
    return vars(model).keys() == before.keys() and all(
        vars(model)[name] is value for name, value in before.items()
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit", "warm_start"])
def test_ctrl_c_anywhere_is_raised_or_leaves_a_usable_estimator(method, case, table):
    X = table[:40, :6]

    made = case.make(max_epochs=2, hidden_layer_sizes=(4,), batch_size=32)
    if method == "warm_start":
        made.fit(X).set_params(warm_start=True)

    def prepared():
        return deepcopy(made)

    def train(model):
        (model.partial_fit if method == "partial_fit" else model.fit)(X)

    complete = prepared()
    with CtrlC() as counted:
        train(complete)
    n_calls = counted.n_calls
    rng = np.random.default_rng(0)
    points = 1 + ((np.arange(N_POINTS) + rng.random(N_POINTS)) * n_calls / N_POINTS).astype(int)
    for at_call, n_lines in zip(points, rng.integers(MAX_LINES, size=N_POINTS), strict=True):
        model = prepared()
        before = vars(model).copy()
        outputs = case.outputs(model, X) if method == "warm_start" else []
        with warnings.catch_warnings(record=True) as caught, CtrlC(at_call, n_lines) as ctrl_c:
            warnings.simplefilter("always")
            try:
                train(model)
            except KeyboardInterrupt:
                is_raised = True
            else:
                is_raised = False
        if is_raised and is_unchanged(model, before):
            if method == "warm_start":
                for output, expected in zip(case.outputs(model, X), outputs, strict=True):
                    assert_array_equal(output, expected, err_msg=ctrl_c.place)
        elif is_raised:  # just before it would have returned
            assert vars(model).keys() == vars(complete).keys(), ctrl_c.place
            case.assert_equal(model, complete, X)
        else:
            assert TrainingInterruptedWarning in {w.category for w in caught}, ctrl_c.place
            check_usable(model, case, X, ctrl_c.place)
    fresh = prepared()
    train(fresh)
    case.assert_equal(fresh, complete, X)


def check_usable(model, case, X, place):
    """Fail unless a fit that was interrupted at `place` left a network and its record."""
    assert all(np.isfinite(out).all() for out in case.outputs(model, X)), place
    assert len(model.loss_curve_) == model.n_iter_, place
    assert 0 <= model.best_epoch_ <= model.n_iter_, place
    curve = model.validation_loss_curve_
    assert curve is None or len(curve) - model.n_iter_ in (0, 1), place
    model.partial_fit(X)


def test_ctrl_c_in_the_first_loss_leaves_the_start(case, table, monkeypatch):
    first_batch_loss, calls = AutoencoderNet.first_batch_loss, []

    def interrupted(net, rows):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return first_batch_loss(net, rows)

    monkeypatch.setattr(AutoencoderNet, "first_batch_loss", interrupted)
    with pytest.warns(TrainingInterruptedWarning, match="after 0 of"):
        model = case.make().fit(table)
    assert model.n_iter_ == 0
    check_usable(model, case, table, "first loss")


@pytest.mark.parametrize("hook", ["on_train_begin", "on_train_end"])
def test_ctrl_c_before_or_after_the_epochs_is_raised(hook, case, table, monkeypatch):
    """Where skorch would catch it, or half the weights were put back."""

    def interrupted(self, net, **kwargs):
        raise KeyboardInterrupt

    model = case.make().fit(table)
    before, outputs = vars(model).copy(), case.outputs(model, table)
    for place in (BestWeights, BestWeightsPerMember):
        monkeypatch.setattr(place, hook, interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table + 1)
    assert is_unchanged(model, before)
    for output, expected in zip(outputs, case.outputs(model, table), strict=True):
        assert_array_equal(output, expected)


def test_ctrl_c_while_training_is_taken_down_is_raised(case, table, monkeypatch):
    """Otherwise, skorch would catch it, and the estimator would be that of fewer epochs."""
    calls = []

    def interrupted(self, stop):
        calls.append(stop)
        raise KeyboardInterrupt

    model = case.make()
    before = vars(model).copy()
    monkeypatch.setattr(Progress, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert vars(model) == before
    assert calls == ["finished"]


class Pressed(Callback):
    """Ctrl-C comes while a user's callback runs, at whatever instruction it is."""

    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


class Asks(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


@pytest.fixture
def heeded():
    """Ctrl-C interrupts: shells start programs in the background with this signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_ctrl_c_in_a_callback_is_not_the_stop_that_callbacks_raise(case, table):
    model = case.make(callbacks=[Pressed()], max_epochs=5)
    with pytest.warns(TrainingInterruptedWarning):
        model.fit(table)
    case.make(callbacks=[Asks()], max_epochs=5).fit(table)  # without a warning, by skorch's rule


def test_gradients_are_on_after_an_interrupt(case, table, monkeypatch):
    """An interrupt may come between entering and leaving ``no_grad``."""
    count = itertools.count()
    enter = torch.no_grad.__enter__

    def interrupted(self):
        enter(self)
        if next(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.no_grad, "__enter__", interrupted)
    with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingInterruptedWarning)
        case.make().fit(table)
    assert next(count) > 2
    assert torch.is_grad_enabled()


def test_ctrl_c_in_a_function_of_c_is_a_plain_one(case, table, monkeypatch):
    """CPython makes a SystemError of an interrupt that a C function did not hand on."""

    def fails(*args, **kwargs):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    model = case.make()
    monkeypatch.setattr(AutoencoderNet, "fit_loop", fails)
    monkeypatch.setattr(VariationalNet, "fit_loop", fails)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert not hasattr(model, "net_")
