"""Tables that show what a transformer is worth."""

import inspect
from numbers import Integral
from time import perf_counter

import numpy as np
from sklearn.model_selection import cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

PASSTHROUGH = "passthrough"
# What cross_validate calls a column, and what the table calls it.
COLUMNS = {
    "test_n_components": "n_components",
    "test_accuracy": "accuracy",
    "test_reconstruction_error": "reconstruction_error",
    "fit_time": "fit_seconds",
    "test_predict_seconds": "predict_seconds",
}


def compare_knn(transformers, X, y, *, n_neighbors=7, cv=5):
    """Compare transformers by nearest neighbours on what they make of X.

    Each transformer is cloned and fitted on the training rows of every fold, and
    a nearest-neighbours classifier on its output. All columns but
    ``accuracy_std`` are means over the folds, read from held-out rows.

    Parameters
    ----------
    transformers : list of transformers or of (str, transformer) pairs
        What to compare; ``"passthrough"`` or None stands for X as it is. A
        transformer without a name is called what it prints as.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Class of each row. The transformers are handed it in `fit`.
    n_neighbors : int, default=7
        Neighbours that vote.
    cv : int, cross-validation generator or iterable, default=5
        Number of stratified folds, or how else to split.

    Returns
    -------
    table : pandas.DataFrame
        One row per transformer, in the order given, with the columns

        - ``n_components``: columns of the transformer's output;
        - ``accuracy``, ``accuracy_std``: share of the held-out rows classified
          correctly, and its standard deviation over the folds;
        - ``reconstruction_error``: mean squared error per cell of
          ``inverse_transform``, NaN where there is none;
        - ``fit_seconds``: fitting the transformer, transforming the training rows
          and fitting the classifier;
        - ``predict_seconds``: transforming and classifying the held-out rows.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not what it must be.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skae.comparison import compare_knn
    >>> X, y = load_iris(return_X_y=True)
    >>> table = compare_knn(["passthrough", ("PCA", PCA(2))], X, y)
    >>> table.iloc[:, [0, 1, 3]].round(3)  # doctest: +NORMALIZE_WHITESPACE
                 n_components  accuracy  reconstruction_error
    transformer
    passthrough             4     0.980                 0.000
    PCA                     2     0.967                 0.027
    """
    import pandas as pd

    named = _named(transformers)
    _check_positive("n_neighbors", n_neighbors, at_least=1)
    if isinstance(cv, Integral):
        _check_positive("cv", cv, at_least=2)
    if y is None:
        raise ValueError("y=None: compare_knn needs one class label per row.")
    splits = cv if isinstance(cv, Integral) or hasattr(cv, "split") else list(cv)
    rows = [_measure(transformer, X, y, n_neighbors, splits) for _, transformer in named]
    index = pd.Index([name for name, _ in named], name="transformer")
    return pd.DataFrame(rows, index=index)


def _measure(transformer, X, y, n_neighbors, cv):
    classifier = KNeighborsClassifier(n_neighbors)
    pipeline = Pipeline([("transformer", transformer), ("classifier", classifier)])
    folds = cross_validate(pipeline, X, y, cv=cv, scoring=_score, error_score="raise")
    row = {name: folds[key].mean() for key, name in COLUMNS.items()}
    row["n_components"] = round(row["n_components"])
    row["accuracy_std"] = folds["test_accuracy"].std()
    order = ["n_components", "accuracy", "accuracy_std"]
    return {name: row[name] for name in [*order, *row]}


def _score(pipeline, X, y):
    """Everything that is read from the held-out rows of one fold."""
    transformer, classifier = pipeline[:-1], pipeline[-1]
    start = perf_counter()
    Z = transformer.transform(X)
    predicted = classifier.predict(Z)
    seconds = perf_counter() - start
    return {
        "n_components": Z.shape[1],
        "accuracy": np.mean(predicted == np.asarray(y)),
        "reconstruction_error": _reconstruction_error(transformer, X, Z),
        "predict_seconds": seconds,
    }


def _reconstruction_error(transformer, X, Z):
    if not hasattr(transformer, "inverse_transform"):
        return np.nan
    back, X = (_dense(rows) for rows in (transformer.inverse_transform(Z), X))
    return np.mean((back - X) ** 2, dtype=np.float64) if back.shape == X.shape else np.nan


def _dense(rows):
    rows = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


def _named(transformers):
    """(name, transformer) pairs, checked."""
    if not isinstance(transformers, list | tuple) or not transformers:
        raise TypeError(
            f"transformers={transformers!r} must be a list, not empty, of transformers or of "
            "(name, transformer) pairs."
        )
    return [_name_and_check(position, entry) for position, entry in enumerate(transformers)]


def _name_and_check(position, entry):
    is_pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
    name, transformer = entry if is_pair else (None, entry)
    if transformer is None:
        transformer = PASSTHROUGH
    is_transformer = hasattr(transformer, "fit") and hasattr(transformer, "transform")
    if inspect.isclass(transformer) or not (is_transformer or transformer == PASSTHROUGH):
        raise TypeError(
            f"transformers[{position}]={entry!r} must be a transformer with fit and transform, "
            "'passthrough', None, or a (name, transformer) pair of these."
        )
    if name is None:
        name = transformer if isinstance(transformer, str) else " ".join(repr(transformer).split())
    return name, transformer


def _check_positive(name, value, at_least):
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be an integer of at least {at_least}.")
    if value < at_least:
        raise ValueError(f"{name}={value!r} must be at least {at_least}.")
