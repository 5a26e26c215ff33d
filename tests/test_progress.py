import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tqdm
from numpy.testing import assert_array_equal
from skorch import callbacks as skorch_callbacks

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._engine import _callbacks
from skae._engine._callbacks import InternalCallback
from skae._engine._progress import (
    Progress,
    bar_class,
    current_progress,
    remaining_epochs,
    show_progress,
)
from skae.comparison import latent_size_curve
from skae.estimators._latent_sizes import fit_together
from skae.exceptions import TrainingInterruptedWarning

FITS = {
    "split": AutoencoderTransformer(2, early_stopping=True, callbacks=[], max_epochs=3),
    "folds": AutoencoderTransformer(2, max_epochs=3),
    "folds one by one": AutoencoderTransformer(2, max_epochs=3, ordered=True),
    "no validation": AutoencoderTransformer(2, max_epochs=3, early_stopping=False),
    "core": AutoencoderOutlierDetector(max_epochs=4, early_stopping=True),
    "filling": DenoisingAutoencoder(max_epochs=3),
    "generator": VAEGenerator(max_epochs=3),
}
# How many epochs are trained: folds side by side, or one after the other, and all rows.
N_EPOCHS = {
    "split": 6,
    "folds": 6,
    "folds one by one": 18,
    "no validation": 3,
    "core": 2 + 2 + 4,
    "filling": 6,
    "generator": 3,
}


def frames(text):
    """What a screen shows one after the other in the line of the bar."""
    return [frame for frame in re.split(r"[\r\n]", text) if frame.strip()]


def losses_in(frame):
    return dict(re.findall(r"(loss|val_loss)=([^,\]]+)", frame))


def make(**params):
    return AutoencoderTransformer(2, random_state=0, **params)


class At(InternalCallback):
    """Raise something after an epoch."""

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise self.error


class FitsToo(skorch_callbacks.Callback):
    """Fit something else at the end of each epoch."""

    def __init__(self, fit):
        self.fit = fit

    def on_epoch_end(self, net, **kwargs):
        self.fit()


class Counts(skorch_callbacks.Callback):
    """Count epochs."""

    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


@pytest.fixture
def totals(monkeypatch):
    """The total number of epochs, as known at the start of each training."""
    seen, begin = [], Progress.begin

    def watched(progress, n_epochs):
        begin(progress, n_epochs)
        seen.append(progress.n_total)

    monkeypatch.setattr(Progress, "begin", watched)
    return seen


@pytest.mark.parametrize("name", FITS)
def test_one_bar_for_all_stages(name, table, judged, capsys):
    model = FITS[name].set_params(verbose=1, random_state=0).fit(table)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    shown_frames = frames(captured.out)
    assert all(frame.startswith(type(model).__name__ + " |") for frame in shown_frames)
    assert f" {N_EPOCHS[name]}/{N_EPOCHS[name]} " in shown_frames[-1]
    assert {re.search(r"/(\d+) ", frame)[1] for frame in shown_frames} == {str(N_EPOCHS[name])}
    wanted = {"loss": f"{model.loss_curve_[-1]:.4g}"}
    if model.validation_loss_curve_ is not None:
        wanted["val_loss"] = f"{model.validation_loss_curve_[-1]:.4g}"
    assert losses_in(shown_frames[-1]) == wanted


@pytest.mark.parametrize("name", FITS)
def test_nothing_at_all_unless_asked(name, table, capsys):
    FITS[name].set_params(verbose=0, random_state=0).fit(table)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_line_an_epoch_with_the_curves(table, judged, capsys):
    model = make(max_epochs=3, verbose=2).fit(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/6" for i in range(1, 7)]
    losses = [re.findall(r"loss=(\S+),", line) for line in lines[3:]]
    pairs = zip(model.loss_curve_, model.validation_loss_curve_[1:], strict=True)
    assert losses == [[f"{loss:.6g}" for loss in pair] for pair in pairs]


def test_losses_of_wide_tables_are_those_of_columns(digits, capsys):
    wide = np.repeat(digits[:1100], 2, axis=1)
    model = make(max_epochs=2, verbose=1).fit(wide)
    losses = losses_in(frames(capsys.readouterr().out)[-1])
    assert losses["loss"] == f"{model.loss_curve_[-1]:.4g}"
    assert losses["val_loss"] == f"{model.validation_loss_curve_[-1]:.4g}"


def test_the_bar_ends_where_training_stops(table, capsys):
    stop = skorch_callbacks.EarlyStopping(
        "train_loss", patience=2, threshold=1e9, threshold_mode="abs", sink=lambda text: None
    )
    model = make(max_epochs=50, callbacks=[stop], verbose=1).fit(table)
    last = frames(capsys.readouterr().out)[-1]
    assert model.n_iter_ < 50
    assert f" {model.n_iter_}/{model.n_iter_} " in last
    assert "stopped early" in last


def test_an_interrupted_bar_stays_where_it_was(table, capsys):
    with pytest.warns(TrainingInterruptedWarning):
        make(max_epochs=9, callbacks=[At(2, KeyboardInterrupt())], verbose=1).fit(table)
    output = capsys.readouterr().out
    assert " 2/9 " in frames(output)[-1]
    assert "interrupted" in frames(output)[-1]
    assert output.endswith("\n")


def test_a_failed_fit_closes_its_bar(table, capsys):
    with pytest.raises(RuntimeError, match="mine"):
        make(max_epochs=9, callbacks=[At(3, RuntimeError("mine"))], verbose=1).fit(table)
    output = capsys.readouterr().out
    assert " 3/9 " in frames(output)[-1]
    assert "failed" in frames(output)[-1]
    assert output.endswith("\n")
    assert not tqdm.tqdm._instances
    assert current_progress().verbose == 0


def test_below_a_bar_of_the_users_own_none_is_left(table, capsys):
    with tqdm.tqdm(total=1, file=sys.stdout) as outer:
        make(max_epochs=2, verbose=1).fit(table)
        outer.update()
    assert frames(capsys.readouterr().out)[-1].startswith("100%")


def test_a_search_shows_one_bar(table, digits, judged, capsys):
    transformer = AutoencoderTransformer(max_epochs=2, random_state=0, verbose=1)
    many = np.vstack([digits, digits])[:, 10:30]
    for X in (table, many):
        latent_size_curve(transformer, X, [1, 2], cv=2)
        output = capsys.readouterr().out
        assert output.count("\n") == 1
        assert " 2/2 " in frames(output)[-1]


@pytest.mark.parametrize(
    ("params", "n_columns", "is_known"),
    [
        ({}, 10, True),
        ({}, 300, False),
        ({"validation_fraction": 0.34}, 300, False),
        ({"loss": "huber"}, 10, False),
        ({"ordered": True}, 10, True),
        ({"tied_weights": True, "init": "random"}, 10, True),
    ],
)
def test_the_total_of_a_search_never_grows(params, n_columns, is_known, totals, judged, capsys):
    X = np.random.default_rng(0).normal(size=(200, n_columns))
    small = AutoencoderTransformer(
        max_epochs=2, batch_size=100, hidden_layer_sizes=4, random_state=0, verbose=1, **params
    )
    latent_size_curve(small, X, [1, 2], cv=2)
    assert totals == sorted(totals, reverse=True)
    ((n_done, total),) = re.findall(r" (\d+)/(\d+) ", frames(capsys.readouterr().out)[-1])
    assert n_done == total
    # Of few wide rows, it may be the last folds that need not be trained.
    assert int(total) == totals[-1] or (n_columns == 300 and int(total) < totals[-1])
    if is_known:
        assert len(set(totals)) == 1


def test_the_units_of_a_training_are_its_own(table, digits, judged, capsys):
    wide, narrow = np.repeat(digits[:1100], 4, axis=1), np.tile(table, (10, 1))
    models = [make(max_epochs=1, hidden_layer_sizes=4, verbose=2) for _ in range(3)]
    tables = [wide, narrow, narrow.copy()]
    fit_together(models, [(part, part) for part in tables], "all", can_share=True)
    lines = capsys.readouterr().out.splitlines()
    losses = [re.findall(r"loss=([^,]+),", line) for line in lines if line.startswith("epoch")]
    alone, together = models[0], models[1]
    assert losses == [
        [f"{alone.loss_curve_[0]:.6g}", f"{alone.validation_loss_curve_[1]:.6g}"],
        [f"{together.loss_curve_[0]:.6g}"],
    ]


@pytest.mark.parametrize(("verbose", "inner_verbose"), [(1, 0), (1, 1), (2, 2)])
def test_a_fit_within_a_fit_shows_nothing(verbose, inner_verbose, table, capsys):
    def fit():
        inner = make(max_epochs=2, verbose=inner_verbose).fit(table)
        latent_size_curve(inner, table, [1], cv=2)

    def output_of(fit):
        outer = make(max_epochs=2, verbose=verbose, callbacks=[FitsToo(fit)])
        outer.fit(table)
        latent_size_curve(outer, table, [1], cv=2)
        lasting = [line.split("\r")[-1] for line in capsys.readouterr().out.split("\n")]
        return [re.sub(r"\[\d+:\d+|[\d.]+ s\b", "", line).rstrip() for line in lasting]

    assert output_of(fit) == output_of(lambda: None)


def test_a_fit_within_one_that_shows_nothing_shows_itself(table, capsys):
    callbacks = [FitsToo(lambda: make(max_epochs=1, verbose=2, early_stopping=False).fit(table))]
    make(max_epochs=2, callbacks=callbacks).fit(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/1"] * 2


@pytest.mark.parametrize("verbose", [1, 2])
def test_without_a_screen(verbose, table, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert make(max_epochs=2, verbose=verbose, n_iter_no_change=1).fit(table).n_iter_ >= 1


def test_the_total_counts_what_comes_later(capsys):
    with show_progress("all", 2, is_search=True):
        with remaining_epochs(3), remaining_epochs(2):
            current_progress().begin(1)
            current_progress().update({"train_loss": 1.0})
        with remaining_epochs(2):
            current_progress().begin(3)
            current_progress().update({"train_loss": 0.5})
            current_progress().end("stopped")
        with show_progress("within", 1):  # is a part of it
            current_progress().begin(2)
            current_progress().update({"train_loss": 0.25})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["epoch 1/6", "epoch 2/6", "epoch 3/4"]
    assert lines[3].startswith("all: 3 epochs")
    assert "stopped early" in lines[3]


SEARCHES = """
import numpy as np
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from skae import AutoencoderTransformer

X = np.random.default_rng(0).normal(size=(60, 5))
for backend, verbose in (("loky", 1), ("threading", 1), ("threading", 2)):
    print(backend, verbose, flush=True)
    model = AutoencoderTransformer(max_epochs=3, random_state=0, verbose=verbose)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=2, refit=False)
    with parallel_config(backend):
        search.fit(X)
"""


def test_workers_write_whole_lines():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SEARCHES]
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    by_processes, by_threads, by_epochs = (
        part.splitlines()[1:]
        for part in re.split(r"^(?=loky|threading)", process.stdout, flags=re.M)[1:]
    )
    at_the_end = r"AutoencoderTransformer: \d+ epochs in [\d.]+ s, .*loss=\S+, val_loss=\S+"
    for lines in (by_processes, by_threads):
        assert len(lines) == 4
        assert all(re.fullmatch(at_the_end, line) for line in lines)
    an_epoch = r"epoch \d/\d: loss=\S+, val_loss=\S+, [\d.]+ s"
    assert len(by_epochs) >= 4
    assert all(re.fullmatch(f"{an_epoch}|{at_the_end}", line) for line in by_epochs)
    assert process.stderr == ""


def test_a_notebook_without_widgets_gets_text_and_no_warning(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tqdm.auto")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tqdm.notebook", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shell = type("Shell", (), {"get_ipython": staticmethod(lambda: None)})
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shell)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert not any("notebook" in own.__module__ for own in bar_class().__mro__)
    assert not seen


# skorch's callbacks.


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_callbacks_are_notified_of_every_epoch(patience, table):
    n_epochs = []
    for seed in range(4):
        counts = Counts()
        model = make(
            max_epochs=12, learning_rate=0.1, n_iter_no_change=patience, callbacks=[counts]
        )
        model.set_params(random_state=seed).fit(table)
        assert counts.n_epochs == model.n_iter_ == len(model.net_.history)
        n_epochs.append(model.n_iter_)
    assert min(n_epochs) < 12


def test_callbacks_are_notified_of_the_epoch_that_stops(table, monkeypatch):
    monkeypatch.setattr(_callbacks, "should_stop", lambda *args: True)
    counts = Counts()
    assert make(max_epochs=9, callbacks=[counts]).fit(table).n_iter_ == counts.n_epochs == 1


def test_checkpoint(table, tmp_path):
    checkpoint = skorch_callbacks.Checkpoint(
        dirname=str(tmp_path), f_params="{last_epoch[epoch]}.pt", f_pickle="net.pkl", monitor=None
    )
    model = make(max_epochs=3, callbacks=[checkpoint]).fit(table)
    assert {"1.pt", "2.pt", "3.pt", "net.pkl", "history.json"} <= set(os.listdir(tmp_path))
    assert model.net_.history[:, "event_cp"] == [True] * 3
    wanted = model.net_.copy()
    wanted.load_params(f_params=str(tmp_path / "3.pt"))


def test_checkpoint_loads_the_best_of_the_history(table, tmp_path):
    checkpoint = skorch_callbacks.Checkpoint(dirname=str(tmp_path), load_best=True)
    model = make(max_epochs=4, callbacks=[checkpoint]).fit(table)
    losses = model.net_.history[:, "valid_loss"]
    flags = model.net_.history[:, "valid_loss_best"]
    assert flags == [loss == min(losses[: i + 1]) for i, loss in enumerate(losses)]
    rows = model._rows(table)
    assert np.isfinite(model.net_.validation_loss(rows))


def test_train_end_checkpoint_and_initial_state(table, tmp_path):
    save = skorch_callbacks.TrainEndCheckpoint(dirname=str(tmp_path))
    first = make(max_epochs=2, callbacks=[save], early_stopping=False).fit(table)
    load = skorch_callbacks.LoadInitState(save)
    second = make(max_epochs=2, callbacks=[load], early_stopping=False).fit(table)
    assert second.loss_curve_[:2] == first.loss_curve_
    assert second.n_iter_ == 4


def test_an_epoch_is_one_batch_to_callbacks(table):
    passed = skorch_callbacks.PassthroughScoring("train_loss", on_train=True)
    model = make(max_epochs=3, callbacks=[passed]).fit(table)
    assert model.net_.history[:, "train_loss"] == model.loss_curve_
    (batch,) = model.net_.history[-1, "batches"]
    assert batch["train_loss"] == model.loss_curve_[-1]
    assert batch["valid_loss"] == model.validation_loss_curve_[-1]
    assert batch["train_batch_size"] + batch["valid_batch_size"] == len(table)


@pytest.mark.parametrize(
    "callback",
    [
        skorch_callbacks.EpochScoring(lambda net, X, y: 1.0, name="mine", use_caching=False),
        skorch_callbacks.EpochTimer(),
        skorch_callbacks.GradientNormClipping(1.0),
        skorch_callbacks.PrintLog(sink=lambda text: None),
        skorch_callbacks.LRScheduler("StepLR", step_size=1, gamma=0.1),
        skorch_callbacks.LRScheduler("ReduceLROnPlateau", monitor="train_loss"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_that_only_watch_change_nothing(callback, table):
    plain = make(max_epochs=3, callbacks=[InternalCallback()]).fit(table)
    watched = make(max_epochs=3, callbacks=[callback]).fit(table)
    if not isinstance(callback, skorch_callbacks.GradientNormClipping):
        assert_array_equal(watched.transform(table), plain.transform(table))
    assert watched.n_iter_ == 3
