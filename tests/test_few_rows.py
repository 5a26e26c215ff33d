"""Wide tables of few rows: what keeps networks from memorising them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, load, save
from skae._data._scaling import Scaler
from skae._engine._batches import SourceRows
from skae._engine._net import AutoencoderNet
from skae._engine._rotation import Rotation
from skae._engine._row_errors import row_losses
from skae._fit import _few_rows
from skae._fit._few_rows import is_clear
from skae._stats._pca import fit_pca
from skae.estimators import _compression
from skae.exceptions import TrainingInterruptedWarning
from skae.networks._layers import Dropout

N_COLUMNS = 300


def images():
    """Digits of 16 x 16 pixels: a few rows to train on, and many others."""
    digits = load_digits().images[np.random.default_rng(0).permutation(1797)] / 16
    X = zoom(digits, (1, 2, 2), order=1).reshape(len(digits), -1)
    return X[:250], X[250:]


def curved(n_rows=300, n_more=500):
    """Rows on a smooth surface of four dimensions."""
    rng = np.random.default_rng(0)
    W1, W2 = 0.5 * rng.normal(size=(4, 40)), rng.normal(size=(40, N_COLUMNS))
    X = np.tanh(rng.normal(size=(n_rows + n_more, 4)) @ W1) @ W2
    return X[:n_rows], X[n_rows:]


def noisy(n_rows=250, n_more=500):
    """Normal rows, of which PCA is the best answer."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows + n_more, 10)) @ rng.normal(size=(10, N_COLUMNS))
    X += rng.normal(size=X.shape)
    return X[:n_rows], X[n_rows:]


def dropouts(model):
    return [layer.p for layer in model.net_.module_.modules() if isinstance(layer, Dropout)]


def differences(X, X_test, model, k):
    pca = PCA(k, svd_solver="full").fit(X)
    by_pca = pca.inverse_transform(pca.transform(X_test)) - X_test
    return model.reconstruct(X_test) - X_test, by_pca


@pytest.fixture(scope="module")
def of_images():
    X, _ = images()
    return AutoencoderTransformer(16, random_state=0).fit(X)


def test_few_images_are_learned_with_dropout(of_images):
    own, by_pca = differences(*images(), of_images, 16)
    assert np.abs(own).mean() < 0.97 * np.abs(by_pca).mean()
    assert np.square(own).mean() < 0.95 * np.square(by_pca).mean()
    assert set(dropouts(of_images)) == {0.3}
    assert of_images.best_epoch_ == of_images.n_iter_ == of_images.net_.max_epochs


def test_a_smooth_surface_is_learned_without_dropout():
    X, X_test = curved()
    model = AutoencoderTransformer(4, hidden_layer_sizes=64, random_state=0).fit(X)
    own, by_pca = differences(X, X_test, model, 4)
    assert np.square(own).mean() < 0.3 * np.square(by_pca).mean()
    assert dropouts(model) == []


def test_normal_rows_end_at_pca_within_a_tenth_of_the_schedule():
    X, X_test = noisy()
    model = AutoencoderTransformer(10, random_state=0).fit(X)
    own, by_pca = differences(X, X_test, model, 10)
    assert_allclose(own, by_pca, atol=1e-3)
    assert model.best_epoch_ == 0
    assert 1 <= model.n_iter_ <= 0.1 * model.net_.max_epochs
    assert len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_share_that_is_set_is_kept(dropout):
    X, _ = images()
    model = AutoencoderTransformer(16, dropout=dropout, max_epochs=5, random_state=0).fit(X)
    assert set(dropouts(model)) <= {dropout} - {0.0}


@pytest.mark.parametrize(
    "params", [{"early_stopping": False}, {"n_iter_no_change": 3}, {"loss": "absolute_error"}]
)
def test_there_is_no_dropout_where_held_out_rows_do_not_choose_it(params):
    X, _ = images()
    model = AutoencoderTransformer(16, max_epochs=2, random_state=0, **params).fit(X)
    assert dropouts(model) == []


def test_losses_start_at_those_of_the_pca_of_other_rows():
    X, X_test = noisy()
    model = AutoencoderTransformer(40, random_state=0, max_epochs=3).fit(X)
    _, by_pca = differences(X, X_test, model, 40)
    _, of_own_rows = differences(X, X, model, 40)
    start = model.validation_loss_curve_[0] * model._scaler.scale_[0] ** 2
    assert_allclose(start, np.square(by_pca).mean(), rtol=0.05)
    assert start > 1.2 * np.square(of_own_rows).mean()


@pytest.mark.parametrize(("n_rows", "n_folds"), [(70, 5), (250, 2), (700, 1)])
def test_folds_are_taken_until_enough_rows_have_judged(n_rows, n_folds, monkeypatch):
    judged = []
    train_fold = _few_rows._Race.train_fold

    def counted(race, candidate, fold, n_epochs):
        judged.append(tuple(fold))
        train_fold(race, candidate, fold, n_epochs)

    monkeypatch.setattr(_few_rows._Race, "train_fold", counted)
    monkeypatch.setattr(_few_rows, "is_clear", lambda *args: False)
    X = np.random.default_rng(0).normal(size=(n_rows, 256))
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: "open")
    AutoencoderTransformer(3, max_epochs=1, random_state=0).fit(X)
    assert len(judged) == 2 * n_folds  # with dropout and without
    assert len(set(judged)) == n_folds


def test_a_clear_difference_ends_the_judging(monkeypatch):
    n_judged = []
    train_fold = _few_rows._Race.train_fold
    monkeypatch.setattr(
        _few_rows._Race, "train_fold", lambda *args: n_judged.append(1) or train_fold(*args)
    )
    X, _ = curved()
    AutoencoderTransformer(4, hidden_layer_sizes=64, random_state=0).fit(X)
    assert len(n_judged) == 2


def test_a_mean_is_clear_beyond_its_standard_error():
    rng = np.random.default_rng(0)
    sample = rng.normal(size=100)
    sample = (sample - sample.mean()) / sample.std()
    weight = np.ones(100)
    for mean, expected in ((0.0, False), (0.31, False), (0.32, True), (-0.32, True)):
        assert is_clear(sample + mean, weight) == expected
    assert not is_clear(np.zeros(5), weight[:5])


@pytest.mark.parametrize(("k", "n_coordinates"), [(2, 100), (70, 140), (150, 249), (249, None)])
def test_coordinates_of_few_rows(k, n_coordinates):
    X = np.random.default_rng(0).normal(size=(250, N_COLUMNS))
    X *= np.arange(1, N_COLUMNS + 1) ** -1.0
    scaler = Scaler("global").fit(X)
    pca = fit_pca(scaler.transform(X), 249)
    rotation = Rotation.of_few_rows(scaler, pca, k)
    assert (rotation and rotation.n_coordinates) == n_coordinates


def test_losses_of_rows(of_images):
    X, scaler = images()[1][:20], of_images._scaler
    losses = row_losses(of_images.net_, SourceRows(X, scaler))
    expected = of_images.reconstruction_error(X) / scaler.scale_[0] ** 2
    assert_allclose(losses, expected, rtol=1e-3)


def test_the_fit_is_saved_and_goes_on(of_images, tmp_path):
    X, X_test = images()
    save(of_images, tmp_path / "model.skae")
    loaded = load(tmp_path / "model.skae")
    assert_allclose(loaded.transform(X_test), of_images.transform(X_test), rtol=1e-5, atol=1e-5)
    assert loaded.dropout == "auto"
    before = loaded.score(X_test)
    loaded.partial_fit(X)
    assert loaded.score(X_test) > before - 0.1


class Watch:
    """A callback of scikit-learn that notes tasks, and scores on X after each epoch."""

    def __init__(self, X):
        self.X, self.tasks, self.scores = X, [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **told):
        self.tasks.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **told):
        if fitted_estimator is not None and context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(self.X))


def test_callbacks_see_the_folds_and_the_estimator_after_each_epoch():
    pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")

    X, _ = curved()
    watch = Watch(X)
    model = AutoencoderTransformer(4, hidden_layer_sizes=64, dropout=0.0, random_state=0)
    model.set_callbacks(watch).fit(X)
    n_epochs = model.n_iter_
    assert [name for name in watch.tasks if name != "epoch"] == [
        *("fit", "cross-validation", "fold", "all-rows")
    ]
    assert watch.tasks.count("epoch") == 2 * n_epochs
    assert len(watch.scores) == n_epochs
    assert watch.scores[-1] == model.score(X) > watch.scores[0]


def test_callbacks_are_not_told_of_a_short_trial():
    pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")
    X, _ = noisy()
    watch = Watch(X)
    model = AutoencoderTransformer(10, random_state=0).set_callbacks(watch).fit(X)
    assert model.best_epoch_ == 0
    assert watch.tasks == ["fit"]


@pytest.mark.parametrize("prospect", ["poor", "open"])
def test_what_an_interrupted_race_keeps_is_the_start(prospect, monkeypatch):
    def interrupted(net, batch):
        raise KeyboardInterrupt

    X, X_test = noisy(120)
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: prospect)
    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    with pytest.warns(TrainingInterruptedWarning, match=r"after 0 of 1\d\d .* \(epoch 0\)"):
        model = AutoencoderTransformer(10, random_state=0).fit(X)
    own, by_pca = differences(X, X_test, model, 10)
    assert_allclose(own, by_pca, atol=1e-3)


def test_a_heavy_row_alone_is_not_clear():
    weight = np.r_[1e6, np.ones(30)]
    assert not is_clear(np.r_[1.0, np.zeros(30)], weight)
