"""Trials on held-out rows: more where few rows decide, and PCA only where training spoils it."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from skae import AutoencoderTransformer
from skae._fit import _run
from skae._fit._plan import OPEN_TRIAL, Seeds
from skae._stats._significance import self_normalised_sum


@pytest.fixture
def trainings(monkeypatch):
    """Splits and epochs of each training of splits."""
    seen = []

    def train(splits, **options):
        seen.append((len(splits), splits[0].net.max_epochs))
        return original(splits, **options)

    original = _run.train_splits
    monkeypatch.setattr(_run, "train_splits", train)
    return seen


def ring(n_rows):
    """Rows near an ellipse: one latent of PCA tells nothing of the other direction."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(10, 10)))[0][:2]
    angle = rng.uniform(0, 2 * np.pi, n_rows)
    points = np.c_[np.cos(angle), 0.8 * np.sin(angle)]
    return points @ plane + 0.05 * rng.normal(size=(n_rows, 10))


def first_held_out(n_rows):
    """A row that a fit with ``random_state=0`` holds out first."""
    rng = check_random_state(0)
    Seeds.draw(rng)
    return rng.permutation(n_rows)[0]


def with_far_row(X):
    """One row so far from the ellipse's plane that it outweighs all others."""
    X = X.copy()
    direction = np.random.default_rng(1).normal(size=X.shape[1])
    X[first_held_out(len(X))] = 15 * direction / np.linalg.norm(direction)
    return X


def error_of(model, X):
    return np.mean((model.inverse_transform(model.transform(X)) - X) ** 2)


def fitted(X, **params):
    return AutoencoderTransformer(1, random_state=0, **params).fit(X)


def test_a_clear_table_is_tried_on_one_split_for_a_part_of_the_schedule(trainings):
    model = fitted(ring(1200))
    n_epochs = model.net_.max_epochs
    assert trainings == [(1, int(OPEN_TRIAL * n_epochs))]
    assert model.best_epoch_ == model.n_iter_ == n_epochs


def test_few_rows_are_tried_on_all_folds_at_once(trainings):
    model = fitted(ring(300))
    assert trainings == [(5, int(OPEN_TRIAL * model.net_.max_epochs))]


def test_where_one_far_row_decides_more_rows_are_held_out(trainings):
    X = with_far_row(ring(1200))
    model = fitted(X)
    assert [n_splits for n_splits, _ in trainings][:2] == [1, 4]
    assert model.best_epoch_ == model.n_iter_
    X_test = ring(2000)[1200:]
    whole = fitted(X, early_stopping=False)
    by_pca = error_of(PCA(1).fit(X), X_test)
    assert error_of(model, X_test) <= 1.03 * min(by_pca, error_of(whole, X_test))
    assert error_of(model, X_test) < 0.5 * by_pca


def test_the_start_stays_only_after_a_trial_of_the_whole_schedule(trainings):
    X = np.random.default_rng(0).normal(size=(40, 8))
    model = fitted(X)
    n_epochs = model.net_.max_epochs
    assert trainings == [(5, int(OPEN_TRIAL * n_epochs)), (5, n_epochs)]
    assert (model.best_epoch_, model.n_iter_) == (0, n_epochs)
    assert len(model.validation_loss_curve_) == n_epochs + 1


# Sums and their standard errors.


def values_and_weights(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 1.0, size=80), rng.uniform(0.1, 3.0, size=80)


@pytest.mark.parametrize("seed", range(3))
def test_units_and_signs_only_change_the_sign(seed):
    values, weight = values_and_weights(seed)
    t = self_normalised_sum(values, weight)
    assert self_normalised_sum(-3 * values, weight) == pytest.approx(-t)
    assert self_normalised_sum(values, 1e300 * weight) == pytest.approx(t)
    assert self_normalised_sum(1e-200 * values, weight) == pytest.approx(t)


def test_with_equal_weights_it_tells_the_t_statistic():
    values, _ = values_and_weights(0)
    n = len(values)
    t = values.mean() / (values.std(ddof=1) / np.sqrt(n))
    expected = t / np.sqrt(1 + (t**2 - 1) / n)
    assert self_normalised_sum(values, np.full(n, 7.0)) == pytest.approx(expected)


@pytest.mark.parametrize("n_few", [1, 2, 4])
def test_few_far_or_heavy_values_are_as_sure_as_they_are_many(n_few):
    values, weight = values_and_weights(0)
    far, heavy = values.copy(), weight.copy()
    far[:n_few] = -1e6
    assert self_normalised_sum(far, np.ones(80)) == pytest.approx(-np.sqrt(n_few), rel=0.05)
    values[:n_few], heavy[:n_few] = 1.0, 1e6
    assert self_normalised_sum(values, heavy) == pytest.approx(np.sqrt(n_few), rel=0.05)


def test_one_value_is_never_sure():
    assert self_normalised_sum(np.zeros(3), np.ones(3)) == 0
    assert self_normalised_sum(np.array([-2.0]), np.ones(1)) == -1


def test_one_row_held_out_does_not_decide(trainings):
    model = fitted(ring(1200), validation_fraction=5e-4)
    assert [n_splits for n_splits, _ in trainings][:2] == [1, 4]
    assert model.best_epoch_ == model.n_iter_ > 0


def test_no_dropout_is_the_default_of_narrow_tables(trainings):
    X = ring(300)
    assert fitted(X, dropout=0.0).score(X) == fitted(X).score(X)
    assert trainings[0] == trainings[1]
