"""The curve of what each number of latents explains, by cross-validation."""

from collections.abc import Iterable
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state

from skae._engine._progress import show_progress
from skae._engine._runtime import initial_settings, one_thread_per_worker
from skae._fit._defaults import MANY_ROWS
from skae._sklearn import callbacks_of, safe_indexing, validate_params
from skae.estimators._base import BaseAutoencoder
from skae.estimators._size_curve import check_table, explained_by_pca
from skae.estimators._size_curve_tasks import measured_by_workers
from skae.estimators._transformer import AutoencoderTransformer


def latent_size_curve(transformer, X, n_components, *, cv=5, client=None):
    """Measure what each number of latents explains of held-out rows, compared with PCA.

    All networks, one for each number of latents and fold, are cloned from `transformer`
    and trained side by side as few batched networks where they are small enough. This takes
    less time than ``GridSearchCV``, which fits them one after the other, each with a
    validation split of its own.

    Parameters
    ----------
    transformer : AutoencoderTransformer or Pipeline that ends in one
        Transformer to clone; its own `n_components` does not matter. Earlier steps of a
        pipeline are fitted on the training rows of each fold.
    X : {array-like, sparse matrix} or table of shape (n_samples, n_features)
        Rows; whatever the first step accepts if there is a pipeline. For columns of different
        units, pass a pipeline of ``StandardScaler`` and the transformer: each fold then learns its
        own scales, and PCA is compared in them, too.
    n_components : iterable of int
        Numbers of latents.
    cv : int, cross-validation generator or iterable, default=5
        Number of folds, or another way to split. If it is a number, rows are shuffled with
        the transformer's `random_state`.
    client : distributed.Client, default=None
        Fits are carried out by the workers of this Dask cluster, to each of which X is sent once.
        None means in this process.

    Returns
    -------
    table : pandas.DataFrame
        One row per number of latents, in the order given, with the columns

        - ``explained``, ``explained_std``: share of the held-out rows' variance about the
          training mean, as ``AutoencoderTransformer.score`` has it: mean and standard
          deviation over the folds;
        - ``pca``: the mean share that as many principal components explain, or those of factor
          analysis of mixed data.

        Of a pipeline, these are shares of what reaches its last step.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid.

    Warns
    -----
    FitFailedWarning
        With a `client`, if fits of a number of latents fail, or end their workers. The table has
        NaN there; if all fail, the first error is raised.

    Notes
    -----
    A single fit first holds rows out to learn how long training pays, as a table may be one that
    PCA compresses best, and then trains on all rows. Here, each network trains once, on all
    training rows of its fold, and the rows left out of the *other* folds tell which of ten
    epochs, or the start, is kept. Up to this and to the order of rows in batches, scores are
    those of ``GridSearchCV`` over the same folds (which it does not shuffle by default).

    Networks that can not be stacked, fits with `callbacks`, `n_iter_no_change` or
    ``ordered=True``, tables of 256 columns or of 10 000 training rows or more, and a single fold
    are left to one fit after the other.

    With a `client`, each number of latents is a task, in which the networks of its folds are
    trained side by side; of what is left to single fits, each number and fold. So a row of the
    table is that of a call with this number alone, however many workers there are. Earlier steps of
    a pipeline are fitted in each task. Progress is shown by the dashboard of the cluster only.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, latent_size_curve
    >>> X, _ = load_digits(return_X_y=True)
    >>> transformer = AutoencoderTransformer(max_epochs=20, random_state=0)
    >>> table = latent_size_curve(transformer, X, [2, 8], cv=3)
    >>> bool((table["explained"] > table["pca"]).all())
    True
    """
    import pandas as pd
    from sklearn.pipeline import Pipeline  # its modules take a while to import

    earlier = None
    if isinstance(transformer, Pipeline):
        earlier, transformer = transformer[:-1], transformer[-1]
    if not isinstance(transformer, AutoencoderTransformer):
        raise TypeError(
            f"transformer={transformer!r} must be an AutoencoderTransformer, or a pipeline that "
            "ends in one."
        )
    validate_params(transformer)
    sizes = _checked_sizes(n_components)
    if client is not None and not hasattr(client, "scatter"):
        raise TypeError(f"client={client!r} must be a distributed.Client or None.")
    if isinstance(cv, Integral):
        check_positive("cv", cv, at_least=2)
        seed = check_random_state(transformer.random_state).randint(2**31 - 1)
        cv = KFold(cv, shuffle=True, random_state=seed)
    check = partial(check_table, transformer)
    X = X if earlier else check(X)
    folds = list(check_cv(cv).split(X))
    if not folds:
        raise ValueError(f"cv={cv!r} holds no fold.")
    measure = partial(_measure, transformer, earlier)
    if client is None:
        explained, by_pca = measure(X, folds, sizes)
    else:
        one = clone(transformer).set_params(n_components=sizes[0], verbose=0)
        together = _are_fitted_together(one, earlier, X, folds)
        measure = partial(_measure, one, earlier)
        explained, by_pca = measured_by_workers(client, measure, X, folds, sizes, together)
    columns = {
        "explained": explained.mean(axis=1),
        "explained_std": explained.std(axis=1),
        "pca": by_pca.mean(axis=1),
    }
    return pd.DataFrame(columns, index=pd.Index(sizes, name="n_components"))


def _measure(transformer, earlier, X, folds, sizes):
    """Shares that networks and components explain, both of shape (n_sizes, n_folds)."""
    parts = [[safe_indexing(X, rows) for rows in fold] for fold in folds]
    if earlier:
        check = partial(check_table, transformer)
        parts = [[*map(check, _transformed(earlier, *part))] for part in parts]
    clones = [clone(transformer).set_params(n_components=size) for size in sizes for _ in folds]
    fit_together(clones, len(sizes) * parts, "latent_size_curve", can_share=are_apart(folds))
    explained = [
        fitted.score(test) for fitted, (_, test) in zip(clones, len(sizes) * parts, strict=True)
    ]
    of_folds = zip(clones[: len(folds)], parts, strict=True)
    by_pca = [explained_by_pca(model, *part, sizes) for model, part in of_folds]
    return np.reshape(explained, (len(sizes), len(folds))), np.transpose(by_pca)


def _are_fitted_together(transformer, earlier, X, folds):
    """Whether the folds of one size are, as far as can be told before earlier steps are fitted."""
    n_rows = max(len(train) for train, _ in folds)
    if earlier:
        return are_apart(folds) and n_rows < MANY_ROWS
    return are_apart(folds) and _can_share(transformer, transformer._job(X, None).schedule, n_rows)


def _can_share(estimator, schedule, n_rows):
    """Whether fits to so many rows may learn from each other how long training pays."""
    from skae._fit._many import can_share_judges

    return (
        can_share_judges(schedule, n_rows)
        and type(estimator).fit is BaseAutoencoder.fit
        # Each fit would have its own tasks, or its own losses to lose patience at.
        and not callbacks_of(estimator)
        and estimator.n_iter_no_change is None
    )


def are_apart(folds):
    """Whether there are several folds, and no row is held out of two of them."""
    held_out = np.concatenate([test for _, test in folds])
    return len(folds) > 1 and len(np.unique(held_out)) == len(held_out)


def fit_together(estimators, parts, name, *, can_share):
    """Fit transformers nearly as ``fit`` would, at once where that is faster.

    Parameters
    ----------
    estimators : list of AutoencoderTransformer
        Of each number of latents as many as there are folds.
    parts : list of (array or table, array or table)
        Training rows of each, and rows that it leaves out.
    name : str
        Of the one progress bar that all of them show with `verbose`.
    can_share : bool
        Whether the rows that a fold leaves out may choose the epochs of others.
    """
    # Imported here to keep `import skae` fast.
    from skae._fit._many import fit_many

    alone, together = [], []
    for estimator, (X, left_out) in zip(estimators, parts, strict=True):
        job = estimator._job(X, left_out)
        is_shared = can_share and _can_share(estimator, job.schedule, X.shape[0])
        (together if is_shared else alone).append(job)
    with (
        initial_settings(),
        one_thread_per_worker(),
        show_progress(name, int(estimators[0].verbose), is_search=True),
    ):
        fit_many(alone, together)


def check_positive(name, value, at_least):
    """Raise unless a parameter is an integer of a size."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be an integer of at least {at_least}.")
    if value < at_least:
        raise ValueError(f"{name}={value!r} must be at least {at_least}.")


def _checked_sizes(n_components):
    if not isinstance(n_components, Iterable) or isinstance(n_components, str):
        raise TypeError(f"n_components={n_components!r} must be a list of numbers of latents.")
    sizes = list(n_components)
    if not sizes:
        raise ValueError("n_components=[] must hold one number of latents at least.")
    for size in sizes:
        check_positive("n_components", size, at_least=1)
    return sizes


def _transformed(earlier, train, test):
    """What the steps before the last make of training and held-out rows."""
    earlier = clone(earlier)
    return earlier.fit_transform(train), earlier.transform(test)
