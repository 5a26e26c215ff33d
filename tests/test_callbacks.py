"""skorch's callbacks watch each training, and change nothing by watching."""

import pickle
import warnings

import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from skae import AutoencoderOutlierDetector


class Recorder(Callback):
    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def initialize(self):
        self.calls_ = []
        return self

    def on_train_begin(self, net, **kwargs):
        self.calls_.append("begin")

    def on_epoch_end(self, net, **kwargs):
        self.calls_.append("epoch")
        if self.stop_at == self.calls_.count("epoch"):
            raise KeyboardInterrupt

    def on_train_end(self, net, **kwargs):
        self.calls_.append("end")


class BatchRecorder(Recorder):
    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.calls_.append("batch" if training else "validation")

    def on_batch_end(self, net, batch=None, training=None, **kwargs):
        self.calls_.append("after")

    def on_grad_computed(self, net, named_parameters=None, **kwargs):
        assert dict(named_parameters)
        self.calls_.append("grad")


@pytest.fixture
def fit_and_record(case, table):
    """Function that fits on 120 rows in batches of 50 and returns the calls of a callback."""

    def fit(callback, **params):
        params = {"early_stopping": False, "batch_size": 50, **params}
        if case.estimator is AutoencoderOutlierDetector:
            params |= {"n_refits": 0, "core_fraction": 1.0}  # one training, on all rows
        model = case.make(callbacks=[callback], **params).fit(table)
        recorder = next(c for _, c in model.net_.callbacks_ if isinstance(c, Recorder))
        return model, recorder.calls_

    return fit


def test_epoch_callbacks(fit_and_record):
    _, calls = fit_and_record(Recorder())
    assert calls == ["begin", "epoch", "epoch", "epoch", "end"]


def test_batch_callbacks_and_the_same_bits(fit_and_record, case, table):
    model, calls = fit_and_record(BatchRecorder())
    plain, _ = fit_and_record(Recorder())
    n_steps = calls.count("batch")
    assert n_steps > len(model.loss_curve_)
    assert n_steps == calls.count("grad") == calls.count("after")
    case.assert_equal(model, plain, table)
    assert_allclose(model.loss_curve_, plain.loss_curve_, rtol=1e-5)


@pytest.mark.parametrize("case", ["transformer"], indirect=True)  # others repeat or hold out rows
def test_number_of_batches(fit_and_record, case):
    _, calls = fit_and_record(BatchRecorder())
    assert calls.count("batch") == 3 * 3


def test_batch_callbacks_with_validation(case, digits):
    X = digits[:1100, 20:40]
    plain = case.make(early_stopping=True, callbacks=[Callback()]).fit(X)
    watched = case.make(early_stopping=True, callbacks=[BatchRecorder()]).fit(X)
    case.assert_equal(watched, plain, X)
    assert_allclose(watched.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-5)


def test_callbacks_watch_one_training_on_few_rows(case, digits):
    """One split and no folds: the validation loss is there for skorch's EarlyStopping."""
    params = {"early_stopping": True, "max_epochs": 4, "callbacks": [Recorder(), EarlyStopping()]}
    model = case.make(**params).fit(digits[:100, 20:40])
    assert len(model.validation_loss_curve_) == model.n_iter_ + 1
    assert len(model.loss_curve_) == model.n_iter_


def test_a_callback_may_stop_training(fit_and_record):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no interruption
        model, calls = fit_and_record(Recorder(stop_at=2), max_epochs=10)
    assert calls == ["begin", "epoch", "epoch", "end"]
    assert model.n_iter_ == 2


def test_callback_instances_belong_to_the_user(case, table):
    callback = Recorder()
    model = case.make(callbacks=[("mine", callback)]).fit(table)
    assert model.callbacks == [("mine", callback)]
    clone(model).fit(table)
    assert_array_equal(pickle.loads(pickle.dumps(model)).encode(table), model.encode(table))


def test_skorch_scoring_sees_history(case, table):
    seen = []
    scoring = EpochScoring(lambda net, X, y: seen.append(1) or 0.5, name="mine", use_caching=False)
    model = case.make(callbacks=[scoring], early_stopping=False).fit(table)
    assert "train_loss" in model.net_.history[-1]


class AsksItsEstimator(Callback):
    """Notes what the estimator that is being fitted says of rows."""

    def __init__(self, X):
        self.X = X
        self.errors = []

    def on_epoch_end(self, net, **kwargs):
        self.errors.append(self.estimator.reconstruction_error(self.X).mean())


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_callbacks_may_ask_the_estimator_that_is_fitted(case, verb, table):
    """They meet the network in training, not none and not the one of an earlier fit."""
    asks = AsksItsEstimator(table)
    model = case.make(callbacks=[asks], init="random", warm_start=True, learning_rate=0.05)
    asks.estimator = model
    for n_calls in (1, 2):
        getattr(model, verb)(table)
        if verb == "fit":
            assert len(asks.errors) >= 3 * n_calls
    getattr(model, verb)(table)
    first_pass_is_silent = case.estimator is AutoencoderOutlierDetector and verb == "partial_fit"
    assert len(set(asks.errors)) == len(asks.errors) or first_pass_is_silent
