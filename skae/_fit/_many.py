"""Many estimators fitted at once."""

from functools import partial
from itertools import groupby

from sklearn.utils import check_random_state

from skae._engine._joint_training import SETTINGS, train_together
from skae._engine._progress import remaining_epochs, show_progress
from skae._engine._runtime import one_thread_per_worker
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS
from skae.estimators._base import BaseAutoencoder

# Networks that are trained as one at most, and cells of the rows of each: where products
# are large, nothing is gained.
MAX_TOGETHER = 16
MAX_CELLS = 2**22


def fit_together(estimators, tables, name):
    """Fit each estimator on its own rows as ``fit`` would, at once where that is faster.

    With `verbose`, all of them show one bar under a `name`.
    """
    steps, prepared = [], []
    for estimator, X in zip(estimators, tables, strict=True):
        if _can_share(estimator, X):
            prepared.append(_prepare(estimator, X))
        else:
            steps.append((estimator._n_epochs_at_most(*X.shape), partial(_fit, estimator, X)))
    prepared.sort(key=_settings)
    for _, group in groupby(prepared, key=_settings):
        group = list(group)
        for start in range(0, len(group), MAX_TOGETHER):
            some = group[start : start + MAX_TOGETHER]
            steps.append((some[0][0].net_.max_epochs, partial(_train, some)))
    n_left = sum(n_epochs for n_epochs, _ in steps)
    with one_thread_per_worker(), show_progress(name, int(estimators[0].verbose), is_search=True):
        for n_epochs, train in steps:
            n_left -= n_epochs
            with remaining_epochs(n_left):
                train()


def _fit(estimator, X):
    _raise_interruption(estimator.fit(X))


def _can_share(estimator, X):
    """Whether a fit is one training on rows as they are, with others left out."""
    if type(estimator).fit is not BaseAutoencoder.fit:
        return False
    n_rows, n_features = X.shape
    is_split = n_rows >= MIN_ROWS_FOR_SPLIT and estimator.early_stopping
    is_small = n_features < MIN_WIDE_COLUMNS and n_rows * n_features <= MAX_CELLS
    return is_split and is_small and not estimator.callbacks


def _prepare(estimator, X):
    """An estimator with the net that is to be trained, its rows and their split."""
    estimator._validate_params()
    X = estimator._check_rows(X, reset=True)
    rng = check_random_state(estimator.random_state)
    _, pca, seeds = estimator._start(X, None, rng)
    estimator._check_target_range(X)
    estimator._build_net(X.shape[0], pca, None, seeds)
    return estimator, X, estimator._prepare_split(X, None, rng, None)


def _settings(prepared):
    net = prepared[0].net_
    return [str(getattr(net, name)) for name in SETTINGS]


def _train(group):
    nets = [estimator.net_ for estimator, *_ in group]
    rows = [estimator._to_train_on(split[0]) for estimator, _, split in group]
    valid = [estimator._to_validate_on(split[1]) for estimator, _, split in group]
    n_trained = train_together(nets, rows, valid)
    _raise_interruption(group[n_trained - 1][0])
    for estimator, X, split in group:
        estimator._finish_fit(estimator._finish_split(X, None, *split, None))


def _raise_interruption(estimator):
    """A fit keeps what it has when a key is pressed; of a search, nothing is worth keeping."""
    if estimator.net_.stop_ == "interrupted":
        raise KeyboardInterrupt
