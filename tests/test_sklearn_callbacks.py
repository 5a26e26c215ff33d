"""scikit-learn's callbacks see the tasks of a fit, and change nothing by watching."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._engine._net import AutoencoderNet
from skae.comparison import compare_knn, compare_outlier_detectors, latent_size_curve
from skae.exceptions import DivergenceError, TrainingInterruptedWarning
from skae.interchange import PyODDetector

sklearn_callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")

SMALL = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
# Trees of tasks by kind of fit: a task is its name, or that with the tasks below it.
EPOCHS = ["epoch"] * 3
SPLIT = ("fit", EPOCHS)
FOLDS = ("fit", [("cross-validation", EPOCHS), ("all-rows", EPOCHS)])
ONE_BY_ONE = ("fit", [("cross-validation", [("fold", EPOCHS)] * 5), ("all-rows", EPOCHS)])
TRIMMED = ("fit", [("trimmed-fit", ["epoch"]), ("trimmed-fit", ["epoch"]), ("trimmed-fit", EPOCHS)])


def with_gaps(X):
    return np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)


def many(X):
    """Enough rows for one split."""
    return np.tile(X, (10, 1))


def wide(X):
    """Enough columns for folds to be trained alone, and a split in a rotation."""
    return np.tile(X, 30)


# Name: an estimator, what it is fitted on, made of the table, and the tree.
FITS = {
    "no validation": (AutoencoderTransformer(2, early_stopping=False), None, SPLIT),
    "folds": (AutoencoderTransformer(2, init="random"), None, FOLDS),
    "folds one by one": (
        AutoencoderTransformer(2, ordered=True, init="random"),
        None,
        ONE_BY_ONE,
    ),
    "wide folds": (AutoencoderTransformer(2, init="random"), wide, ONE_BY_ONE),
    "split": (AutoencoderTransformer("auto", init="random"), many, SPLIT),
    "rotation": (
        AutoencoderTransformer(2, early_stopping=False),
        lambda X: many(wide(X)),
        SPLIT,
    ),
    "denoiser": (DenoisingAutoencoder(2, init="random"), with_gaps, FOLDS),
    "denoiser of noise": (DenoisingAutoencoder(2, noise="gaussian"), many, SPLIT),
    "generator": (VAEGenerator(2, n_importance_samples=5), None, SPLIT),
    "generator with validation": (
        VAEGenerator(2, n_importance_samples=5, early_stopping=True, init="random"),
        None,
        ONE_BY_ONE,
    ),
    "detector": (
        AutoencoderOutlierDetector(contamination=0.1, early_stopping=True),
        None,
        TRIMMED,
    ),
}


def fit_of(name, table):
    """A fresh estimator of this name and its rows."""
    estimator, make_rows, _ = FITS[name]
    X = table if make_rows is None else make_rows(table)
    return clone(estimator).set_params(**SMALL), X


def score_of(model, X, y=None, metadata=None):
    """The score, or that of rows where there is none."""
    if not hasattr(model, "score"):
        return model.score_samples(X).mean()
    return model.score(X, y, **metadata or {})


def path_of(context):
    parent = () if context.parent is None else path_of(context.parent)
    return (*parent, (context.task_name, context.task_id))


class Recorder:
    """Note all calls; `act` is called with each step, the context and what else is told."""

    def __init__(self, act=lambda step, context, told: None):
        self.act = act
        self.calls = []
        self.root = None

    def _note(self, step, context, told):
        self.calls.append((step, *path_of(context)))
        return self.act(step, context, told)

    def setup(self, estimator, context):
        self.root = context
        self._note("setup", context, {"estimator": estimator})

    def teardown(self, estimator, context):
        self._note("teardown", context, {"estimator": estimator})

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._note("begin", context, told)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        return self._note("end", context, told | {"fitted": fitted_estimator})

    @property
    def epochs(self):
        """Paths of all epochs that have ended."""
        return [path for step, *path in self.calls if step == "end" and path[-1][0] == "epoch"]


class Propagated(Recorder):
    max_propagation_depth = None


def tree_of(context):
    children = [tree_of(child) for child in context._children_map.values()]
    assert context.max_subtasks == len(children)
    return (context.task_name, children) if children else context.task_name


def raise_at(n, error):
    """What raises an error when the n-th epoch ends."""
    seen = []

    def act(step, context, told):
        if step == "end" and context.task_name == "epoch":
            seen.append(1)
            if len(seen) == n:
                raise error

    return act


@pytest.mark.parametrize("name", FITS)
def test_the_tree_of_tasks_is_what_is_trained(name, table):
    recorder = Recorder()
    model, X = fit_of(name, table)
    model.set_callbacks(recorder).fit(X)
    assert tree_of(recorder.root) == FITS[name][2]
    assert recorder.calls[0][0] == "setup"
    assert recorder.calls[-1][0] == "teardown"
    open_tasks = []
    for step, *path in recorder.calls[1:-1]:
        if step == "begin":
            assert path[:-1] == (open_tasks[-1] if open_tasks else [])
            open_tasks.append(path)
        else:
            assert open_tasks.pop() == path
    assert not open_tasks
    assert {name for name in vars(model) if "callback" in name} == {"callbacks", "_skl_callbacks"}


@pytest.mark.parametrize("name", FITS)
def test_after_each_epoch_there_is_the_estimator_of_a_fit_that_stopped_there(name, table):
    seen = []

    def ask(step, context, told):
        if step == "end" and told["fitted"] is not None:
            seen.append((path_of(context), score_of(told["fitted"], told["X"])))

    model, X = fit_of(name, table)
    watched = clone(model).set_callbacks(Recorder(ask)).fit(X)
    plain = model.fit(X)
    assert score_of(watched, X) == score_of(plain, X) == seen[-1][1]
    assert watched.loss_curve_ == plain.loss_curve_
    assert seen.pop()[0] == (("fit", 0),)
    in_folds = [path for path, _ in seen if "cross-validation" in dict(path)]
    assert len(seen) >= 3
    assert len({score for _, score in seen}) > 1
    assert not in_folds
    for path, score in seen:

        def stop(step, context, told, path=path):
            if step == "end" and path_of(context) == path:
                raise KeyboardInterrupt

        stopped = clone(model).set_callbacks(Recorder(stop))
        with pytest.warns(TrainingInterruptedWarning):
            stopped.fit(X)
        assert score_of(stopped, X) == score


@pytest.mark.parametrize("name", ["folds", "split", "generator", "detector"])
def test_a_callback_stops_a_training_without_a_warning(name, table):
    model, X = fit_of(name, table)
    scores = []

    def stop(step, context, told):
        if step == "end" and context.task_name == "epoch" and told["fitted"] is not None:
            scores.append(score_of(told["fitted"], X))
            return context.task_id == 1
        return None

    recorder = Recorder(stop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_callbacks(recorder).fit(X)
    assert model.n_iter_ == 2
    assert score_of(model, X) == scores[-1]
    assert recorder.calls[-2:] == [("end", ("fit", 0)), ("teardown", ("fit", 0))]


def test_a_fold_that_is_stopped_shortens_the_training_on_all_rows(table):
    def stop(step, context, told):
        return step == "end" and path_of(context)[1:] == (("cross-validation", 0), ("epoch", 1))

    recorder = Recorder(stop)
    model, X = fit_of("folds", table)
    model.set_callbacks(recorder).fit(X)
    assert model.n_iter_ == 2
    assert len(recorder.epochs) == 2 + 2


def test_tasks_end_where_training_stops_early(table):
    recorder = Recorder()
    rate = {"learning_rate": 1.0, "max_epochs": 30, "n_iter_no_change": 2}
    model, X = fit_of("split", table)
    model.set_params(**rate).set_callbacks(recorder).fit(X)
    assert model.n_iter_ < 30
    assert len(recorder.epochs) == model.n_iter_
    assert recorder.root.max_subtasks == 30


def test_the_epoch_at_which_a_callback_of_skorch_stops_counts(table):
    stop = EarlyStopping("train_loss", 1, threshold=9e9, threshold_mode="abs", sink=lambda _: None)
    asked = []

    def ask(step, context, told):
        if step == "end" and context.task_name == "epoch":
            asked.append(score_of(told["fitted"], told["X"]))

    model, X = fit_of("no validation", table)
    model.set_params(max_epochs=30, callbacks=[stop]).set_callbacks(Recorder(ask)).fit(X)
    assert len(asked) == model.n_iter_ < 30
    assert asked[-1] == score_of(model, X)


def test_an_interrupted_epoch_ends_without_an_estimator(table, monkeypatch):
    ends = []

    def note(step, context, told):
        if step == "end":
            ends.append((context.task_name, told["fitted"] is None))

    record = AutoencoderNet._record_loss

    def press(net, prefix, *args):
        if len(net.history) == 2:
            raise KeyboardInterrupt
        record(net, prefix, *args)

    monkeypatch.setattr(AutoencoderNet, "_record_loss", press)
    recorder = Recorder(note)
    model, X = fit_of("no validation", table)
    with pytest.warns(TrainingInterruptedWarning):
        model.set_callbacks(recorder).fit(X)
    assert ends == [("epoch", False), ("epoch", True), ("fit", False)]
    assert recorder.calls[-1][0] == "teardown"
    assert model.n_iter_ == 1


@pytest.mark.parametrize(
    ("verb", "step"),
    [
        *(("fit", step) for step in ("setup", "begin", "end", "teardown")),
        ("partial_fit", "end"),
    ],
)
def test_a_callback_that_fails_is_torn_down_and_the_fit_undone(case, step, verb, table):
    def fail(now, context, told):
        if now == step:
            raise RuntimeError("mine")

    recorder = Recorder(fail)
    model = case.make(early_stopping=False).fit(table[:60])
    before = dict(vars(model))
    model.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="mine"):
        getattr(model, verb)(table[:60])
    assert [call[0] for call in recorder.calls].count("teardown") == 1
    model.set_callbacks()
    assert set(vars(model)) == set(before)
    if step != "teardown":  # that comes after the fit
        assert all(vars(model)[k] is v for k, v in before.items())


def test_callbacks_are_torn_down_where_training_diverges(table):
    recorder = Recorder()
    model = AutoencoderTransformer(2, learning_rate=1e9, **SMALL).set_callbacks(recorder)
    with pytest.raises(DivergenceError):
        model.fit(table)
    assert recorder.calls[-1] == ("teardown", ("fit", 0))
    assert not hasattr(model, "net_")
    assert "_callback_fit_ctx" not in vars(model)


def test_nothing_is_set_up_for_rows_that_are_refused(case, table):
    recorder = Recorder()
    with pytest.raises(ValueError, match="infinity"):
        case.make().set_callbacks(recorder).fit(np.where(table > 4, np.inf, table))
    assert recorder.calls == []


def test_partial_fit_is_one_task(case, table):
    recorder, fitted = Recorder(), []
    recorder.act = lambda step, context, told: step == "end" and fitted.append(told["fitted"])
    model = case.make().set_callbacks(recorder)
    for _ in range(2):
        model.partial_fit(table)
        assert [call[0] for call in recorder.calls] == ["setup", "begin", "end", "teardown"]
        assert {call[1:] for call in recorder.calls} == {(("partial-fit", 0),)}
        case.assert_equal(fitted.pop(), model, table)
        recorder.calls.clear()


def test_a_warm_start_has_epochs_alone(table):
    recorder = Recorder()
    model = AutoencoderTransformer(2, warm_start=True, **SMALL).fit(table)
    model.set_callbacks(recorder).fit(table)
    assert tree_of(recorder.root) == SPLIT


def test_callbacks_are_told_what_fit_was_called_with(table, judged):
    told_of = {}

    def note(step, context, told):
        if step in ("begin", "end"):
            told_of[step, context.task_name] = told

    frame = pd.DataFrame(table).add_prefix("column ")
    weight, y = np.ones(len(frame)), np.arange(len(frame)) % 2
    names = {"X_clean": frame, "sample_weight": weight}
    for model, given in (
        (AutoencoderTransformer(2, **SMALL), {"sample_weight": weight}),
        (DenoisingAutoencoder(2, **SMALL), names),
        (VAEGenerator(2, conditional=True, refine=False, **SMALL), {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # rows without the names of columns, say
            model.set_callbacks(Recorder(note)).fit(frame, y, **given)
            for (step, name), told in told_of.items():
                is_of_folds = name == "cross-validation" or told["X"] is None
                if is_of_folds:
                    continue
                assert told["X"] is frame
                assert told["y"] is y
                assert (told["metadata"] or {}).keys() == given.keys()
                if step == "end" and told["fitted"] is not None:
                    score_of(told["fitted"], frame, y, told["metadata"])
        assert told_of["end", "epoch"]["X"] is frame
        told_of.clear()


def test_without_callbacks_there_is_no_task_but_the_root(case, table, monkeypatch):
    made = []
    of_parent = sklearn_callback.CallbackContext._from_parent
    monkeypatch.setattr(
        sklearn_callback.CallbackContext,
        "_from_parent",
        lambda *args, **kwargs: made.append(1) or of_parent(*args, **kwargs),
    )
    case.make().fit(table)
    assert not made
    case.make().set_callbacks(Recorder()).fit(table)
    assert made


def test_fits_need_no_callbacks_of_scikit_learn(case, table, monkeypatch):
    """Before 1.9 there are none."""
    new = case.make().fit(table)
    for name in ("_init_callback_context", "set_callbacks"):
        monkeypatch.delattr(sklearn_callback.CallbackSupportMixin, name)
    old = case.make().fit(table)
    assert not hasattr(old, "set_callbacks")
    case.assert_equal(old.partial_fit(table), new.partial_fit(table), table)


def test_fits_within_a_callback_are_none_of_its_tasks(table):
    inner = AutoencoderTransformer(2, early_stopping=False, **SMALL)
    twice = np.vstack([many(table), many(table)])

    def fit_more(step, context, told):
        if step == "end" and context.task_name == "epoch":
            clone(inner).fit(table)
            if context.task_id == 0:
                latent_size_curve(AutoencoderTransformer(**SMALL), twice, [1, 2], cv=2)

    recorder = Recorder(fit_more)
    clone(inner).set_callbacks(recorder).fit(table)
    assert tree_of(recorder.root) == SPLIT


# In scikit-learn's own machinery.


def test_one_tree_reaches_from_a_search_into_epochs(table, judged):
    recorder = Propagated()
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(2, **SMALL))
    sizes = {"autoencodertransformer__n_components": [1, 2]}
    GridSearchCV(pipeline, sizes, cv=2).set_callbacks(recorder).fit(table)
    search, refit = recorder.root._children_map.values()
    fits = [*search._children_map.values(), refit]
    assert len(fits) == 2 * 2 + 1
    for of_pipeline in fits:
        scaling, autoencoder = of_pipeline._children_map.values()
        assert scaling.estimator_name == "StandardScaler"
        assert autoencoder.estimator_name == "AutoencoderTransformer"
        assert tree_of(autoencoder) == FOLDS


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_scores_of_epochs_come_back_from_workers(backend, table):
    y = np.arange(len(table)) % 2

    def logs(n_jobs):
        monitor = sklearn_callback.ScoringMonitor(scoring=explained)
        model = AutoencoderTransformer(early_stopping=False, **SMALL).set_callbacks(monitor)
        search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=n_jobs)
        with parallel_config(backend):
            search.fit(table, y)
        return [(row["task_id_path"], row["explained"]) for row in monitor.get_logs().data]

    at_once, in_turn = logs(2), logs(1)
    assert len(in_turn) == (2 * 2 + 1) * (3 + 1)
    assert [path for path, _ in at_once] == [path for path, _ in in_turn]
    np.testing.assert_allclose([s for _, s in at_once], [s for _, s in in_turn], rtol=1e-4)


def explained(estimator, X, y):
    return {"explained": estimator.score(X)}


def test_bars_of_a_search_reach_into_epochs(table, capsys, monkeypatch):
    rich = pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with rich")
    monkeypatch.setattr(rich, "_console", None)  # an earlier one keeps its width
    monkeypatch.setenv("COLUMNS", "200")
    model = AutoencoderTransformer(early_stopping=False, verbose=1, **SMALL)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2)
    search.set_callbacks(sklearn_callback.ProgressBar()).fit(table)
    lines = capsys.readouterr().out.splitlines()
    bars = [line for line in lines if "| AutoencoderTransformer - fit" in line and "100%" in line]
    assert len({line.split("━")[0] for line in bars}) == 2 * 2 + 1
    assert sum("AutoencoderTransformer |" in line for line in lines) >= 2 * 2 + 1  # tqdm's


def test_callbacks_follow_clones_and_pickles(case, table):
    monitor = sklearn_callback.ScoringMonitor(scoring=rows_scored)
    y = np.arange(len(table)) % 2
    model = case.make(early_stopping=False).set_callbacks(monitor)
    clone(model).fit(table, y)
    assert len(monitor.get_logs(select="all")) == 1
    model.fit(table, y)
    assert len(monitor.get_logs(select="all")) == 2
    copy = pickle.loads(pickle.dumps(model))
    case.assert_equal(copy, model, table)
    copy.fit(table, y)
    (theirs,) = copy._skl_callbacks
    assert len(theirs.get_logs(select="all")) == 3
    assert len(monitor.get_logs(select="all")) == 2


def rows_scored(estimator, X, y):
    return {"score": score_of(estimator, X)}


def test_an_estimator_can_be_pickled_while_callbacks_watch_it(case, table):
    """Callbacks in workers may send it to the main process."""
    copies = []

    def keep(step, context, told):
        both = told["estimator"], told.get("fitted")
        copies.append(pickle.loads(pickle.dumps(both)))

    recorder = Forgetful(keep)
    model = case.make(early_stopping=False).set_callbacks(recorder).fit(table)
    assert len(copies) == len(recorder.calls)
    case.assert_equal(copies[-1][0], model, table)
    case.assert_equal(copies[-2][1], model, table)


class Forgetful(Recorder):
    """Is pickled without what it calls and what it has noted."""

    def __getstate__(self):
        return {}


def test_saved_files_hold_no_callbacks(case, table, tmp_path):
    model = case.make().set_callbacks(Recorder()).fit(table)
    with pytest.warns(UserWarning, match="set_callbacks"):
        skae.save(model, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    assert not hasattr(loaded, "_skl_callbacks")
    case.assert_equal(loaded, model, table)


def test_comparisons_of_sizes_call_the_callbacks_of_each_fit(table, judged):
    recorder = Recorder()
    X = np.vstack([many(table), many(table)])
    plain = AutoencoderTransformer(**SMALL)
    curve = latent_size_curve(clone(plain).set_callbacks(recorder), X, [1, 2], cv=2)
    assert [call[0] for call in recorder.calls].count("setup") == 2 * 2
    assert len(recorder.epochs) == 2 * 2 * 2 * 3  # on a part of the rows, and on all
    expected = latent_size_curve(plain, X, [1, 2], cv=2)
    np.testing.assert_allclose(curve["explained"], expected["explained"], atol=0.02)


def test_comparisons_of_transformers_call_the_callbacks_of_each_fit(table):
    recorder = Propagated()  # a pipeline would refuse it
    transformers = ["passthrough", AutoencoderTransformer(2, **SMALL).set_callbacks(recorder)]
    compare_knn(transformers, table, np.arange(len(table)) % 2, cv=2)
    assert [call[0] for call in recorder.calls].count("teardown") == 2


def test_comparisons_of_detectors_call_the_callbacks_of_each_fit(table):
    recorder = Propagated()
    detector = AutoencoderOutlierDetector(**SMALL).set_callbacks(recorder)
    compare_outlier_detectors([detector], table, np.arange(len(table)) < 10, n_splits=2)
    assert [call[0] for call in recorder.calls].count("teardown") == 2


def test_the_adapter_for_pyod_hands_callbacks_on(table):
    recorder = Propagated()
    adapter = PyODDetector(AutoencoderOutlierDetector(**SMALL))
    adapter.set_callbacks(recorder).fit(table)
    (part,) = recorder.root._children_map.values()
    assert tree_of(part) == TRIMMED
    assert part.source_estimator_name == "PyODDetector"
    assert "_skl_callbacks" not in vars(adapter.detector_)
    assert_array_equal(
        adapter.decision_scores_, PyODDetector(adapter.detector).fit(table).decision_scores_
    )
