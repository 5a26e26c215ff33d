"""Tables that compare transformers or outlier detectors, and a choice among candidates."""

import inspect
from collections.abc import Callable
from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_validate

from skae.estimators._latent_sizes import check_positive, latent_size_curve
from skae.estimators._transformer import AutoencoderTransformer

__all__ = ["compare_knn", "compare_outlier_detectors", "latent_size_curve", "smallest_within"]

PASSTHROUGH = "passthrough"
# Columns of the tables by their names in the results of cross_validate.
COLUMNS = {
    "test_n_components": "n_components",
    "test_accuracy": "accuracy",
    "test_reconstruction_error": "reconstruction_error",
    "fit_time": "fit_seconds",
    "test_predict_seconds": "predict_seconds",
}
OUTLIER_COLUMNS = {
    "test_auroc": "auroc",
    "test_average_precision": "average_precision",
    "fit_time": "fit_seconds",
    "test_score_seconds": "score_seconds",
}


def compare_knn(transformers, X, y, *, n_neighbors=7, cv=5):
    """Compare transformers by a nearest-neighbours classifier on their output.

    Each transformer is cloned and fitted on the training rows of every fold, and
    a nearest-neighbours classifier on its output. All columns but
    ``accuracy_std`` are means over the folds, measured on held-out rows.

    Parameters
    ----------
    transformers : list of transformers or of (str, transformer) pairs
        Transformers to compare; ``"passthrough"`` or None stands for X unchanged. The
        name of a transformer without a name is its ``repr``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Class of each row. It is passed to `fit` of the transformers.
    n_neighbors : int, default=7
        Number of neighbours.
    cv : int, cross-validation generator or iterable, default=5
        Number of stratified folds, or another way to split.

    Returns
    -------
    table : pandas.DataFrame
        One row per transformer, in the order given, with the columns

        - ``n_components``: columns of the transformer's output;
        - ``accuracy``, ``accuracy_std``: share of the held-out rows classified
          correctly, and its standard deviation over the folds;
        - ``reconstruction_error``: mean squared error per cell of
          ``inverse_transform``, NaN where there is none; of mixed tables that of
          ``AutoencoderTransformer.reconstruction_error``;
        - ``fit_seconds``: fitting the transformer, transforming the training rows
          and fitting the classifier;
        - ``predict_seconds``: transforming and classifying the held-out rows.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid.

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

    named = _named(transformers, _TRANSFORMER)
    check_positive("n_neighbors", n_neighbors, at_least=1)
    if isinstance(cv, Integral):
        check_positive("cv", cv, at_least=2)
    if y is None:
        raise ValueError("y=None: compare_knn needs one class label per row.")
    splits = cv if isinstance(cv, Integral) or hasattr(cv, "split") else list(cv)
    rows = [_measure(transformer, X, y, n_neighbors, splits) for _, transformer in named]
    index = pd.Index([name for name, _ in named], name="transformer")
    return pd.DataFrame(rows, index=index)


def smallest_within(tolerance=0.01, parameter=None, *, scorer=None):
    """Make a search refit the smallest model that scores nearly as well as the best.

    The share of variance explained, which is the `score` of `AutoencoderTransformer`,
    grows with nearly every latent. A search over `n_components` without labels therefore
    ends at the largest size unless a smaller one may cost some score.

    Parameters
    ----------
    tolerance : float or "one_standard_error", default=0.01
        How far below the best mean test score a candidate may be, in the units of the
        score. ``"one_standard_error"`` stands for the standard error of the best
        candidate's mean, ``std_test_score / sqrt(n_splits)`` [1]_.
    parameter : str, default=None
        Name of the searched parameter that is to be small, such as
        ``"autoencodertransformer__n_components"``. None stands for the one searched
        parameter that is called ``n_components`` or ends in ``__n_components``.
    scorer : str, default=None
        Name of the scorer that counts; needed only if the search has several.

    Returns
    -------
    refit : callable
        A rule for ``GridSearchCV(refit=...)`` or ``RandomizedSearchCV(refit=...)``: takes
        `cv_results_`, returns the index of the candidate to refit.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid. The rule itself raises ValueError, at the
        end of the search, if it does not fit the search: if the parameter or the scorer
        is not found or not unique, if values are neither all integers nor all floats, if
        no mean test score is finite, or if one split is to have a standard error.

    Notes
    -----
    Candidates without the parameter and those whose mean test score is not finite are
    left out. Of several candidates of the smallest size the one with the highest score
    is taken.

    ``"one_standard_error"`` suits scores that level off, such as a classifier's accuracy.
    The share of variance explained approaches 1 and its standard error 0, so that the
    rule ends near the largest size again: for this score, pass a number.

    As with every callable `refit`, the search has `best_index_`, `best_params_` and
    `best_estimator_`, but no `best_score_`. ``HalvingGridSearchCV`` and
    ``HalvingRandomSearchCV`` do not call it: they choose by the score alone.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees",
       Wadsworth, 1984, chapter 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skae import AutoencoderTransformer
    >>> from skae.comparison import smallest_within
    >>> X, _ = load_digits(return_X_y=True)
    >>> transformer = AutoencoderTransformer(max_epochs=2, random_state=0)
    >>> sizes = {"n_components": [4, 16, 32, 48]}
    >>> search = GridSearchCV(transformer, sizes, cv=2, refit=smallest_within(0.05))
    >>> search.fit(X[:300]).best_params_
    {'n_components': 32}
    """
    from skae._stats._model_selection import SmallestWithin  # few programs need it

    return SmallestWithin(tolerance, parameter, scorer)


def compare_outlier_detectors(detectors, X, y, *, n_splits=3):
    """Compare outlier detectors on rows whose outliers are known.

    Each detector is cloned and fitted, without labels, on the training rows of every
    split, and scores the rows left out. All columns are means over the splits.

    Parameters
    ----------
    detectors : list of outlier detectors or of (str, detector) pairs
        Detectors to compare: estimators with ``fit`` and ``score_samples`` or
        ``decision_function``, higher for more normal rows as in scikit-learn. The name of a
        detector without a name is its ``repr``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows, of any type that the detectors accept.
    y : array-like of shape (n_samples,)
        1 for outliers and 0 for inliers, or -1 for outliers and 1 for inliers as ``predict``
        returns them. Used only to split and to measure.
    n_splits : int, default=3
        Number of stratified, shuffled folds (with a fixed seed).

    Returns
    -------
    table : pandas.DataFrame
        One row per detector, in the order given, with the columns

        - ``auroc``: area under the receiver operating characteristic; 0.5 is chance;
        - ``average_precision``: the mean precision over all thresholds; the share of
          outliers is chance;
        - ``fit_seconds`` and ``score_seconds``: fitting on the training rows, scoring
          the others.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.comparison import compare_outlier_detectors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 1)) * [1.0, 1.0, 1.0, 1.0] + 0.1 * rng.normal(size=(300, 4))
    >>> y = np.arange(300) < 15
    >>> X[y] = rng.normal(size=(15, 4))  # each column as ever, but not together
    >>> table = compare_outlier_detectors(
    ...     [
    ...         ("forest", IsolationForest(random_state=0)),
    ...         ("autoencoder", AutoencoderOutlierDetector(random_state=0)),
    ...     ],
    ...     X,
    ...     y,
    ... )
    >>> bool(table.loc["autoencoder", "auroc"] > table.loc["forest", "auroc"])
    True
    """
    import pandas as pd

    named = _named(detectors, _DETECTOR)
    check_positive("n_splits", n_splits, at_least=2)
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=0)
    scoring = {"cv": folds, "scoring": _score_outliers, "error_score": "raise"}
    outlying = _outlying(y, n_splits)
    rows = []
    for _, detector in named:
        measured = cross_validate(_Unsupervised(detector), X, outlying, **scoring)
        rows.append({name: measured[key].mean() for key, name in OUTLIER_COLUMNS.items()})
    index = pd.Index([name for name, _ in named], name="detector")
    return pd.DataFrame(rows, index=index)


class _Unsupervised(BaseEstimator):
    """A detector that is fitted without the labels."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X, y=None):
        self.detector_ = clone(self.detector).fit(X)
        return self


def _score_outliers(fitted, X, outlying):
    """All measures on the held-out rows of one split."""
    detector = fitted.detector_
    start = perf_counter()
    scores = getattr(detector, "score_samples", None) or detector.decision_function
    abnormal = -np.asarray(scores(X))
    seconds = perf_counter() - start
    return {
        "auroc": roc_auc_score(outlying, abnormal),
        "average_precision": average_precision_score(outlying, abnormal),
        "score_seconds": seconds,
    }


def _outlying(y, n_splits):
    """Mask of the outliers from either convention, enough of them for the splits."""
    labels = np.asarray(y)
    values = set(np.unique(labels).tolist()) if labels.ndim == 1 else set()
    if values not in ({0, 1}, {-1, 1}):
        raise ValueError(
            f"y must hold 1 for outliers and 0 for inliers, or -1 for outliers and 1 for inliers, "
            f"and both of them; got shape {labels.shape} with values {sorted(values)[:10]}."
        )
    outlying = labels == (-1 if -1 in values else 1)
    fewest = min(outlying.sum(), (~outlying).sum())
    if fewest < n_splits:
        raise ValueError(
            f"n_splits={n_splits} is more than the {fewest} rows of the smaller kind in y: "
            "every split needs outliers and inliers."
        )
    return outlying


def _measure(transformer, X, y, n_neighbors, cv):
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import FunctionTransformer

    if isinstance(transformer, str):  # it is "passthrough"
        transformer = FunctionTransformer()
    classified = _Classified(transformer, KNeighborsClassifier(n_neighbors))
    folds = cross_validate(classified, X, y, cv=cv, scoring=_score, error_score="raise")
    row = {name: folds[key].mean() for key, name in COLUMNS.items()}
    row["n_components"] = round(row["n_components"])
    row["accuracy_std"] = folds["test_accuracy"].std()
    order = ["n_components", "accuracy", "accuracy_std"]
    return {name: row[name] for name in [*order, *row]}


class _Classified(ClassifierMixin, BaseEstimator):
    """A transformer, and a classifier of its output; in a pipeline, it could not show progress."""

    def __init__(self, transformer, classifier):
        self.transformer = transformer
        self.classifier = classifier

    def fit(self, X, y):
        self.transformer_ = transformer = clone(self.transformer)
        at_once = getattr(transformer, "fit_transform", None)
        Z = at_once(X, y) if at_once else transformer.fit(X, y).transform(X)
        self.classifier_ = clone(self.classifier).fit(Z, y)
        return self


def _score(fitted, X, y):
    """All measures on the held-out rows of one fold."""
    transformer, classifier = fitted.transformer_, fitted.classifier_
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
    is_ours = isinstance(transformer, AutoencoderTransformer)
    if is_ours and transformer._columns is not None:
        return transformer.reconstruction_error(X).mean()
    if not hasattr(transformer, "inverse_transform"):
        return np.nan
    back, X = (_dense(rows) for rows in (transformer.inverse_transform(Z), X))
    return np.mean((back - X) ** 2, dtype=np.float64) if back.shape == X.shape else np.nan


def _dense(rows):
    rows = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


class _Kind(NamedTuple):
    """A kind of estimators to compare: its name, a description, and a check."""

    name: str
    description: str
    is_valid: Callable[[Any], bool]


def _is_transformer(entry):
    has_both = hasattr(entry, "fit") and hasattr(entry, "transform")
    return has_both or (isinstance(entry, str) and entry == PASSTHROUGH)


def _is_detector(entry):
    scores = hasattr(entry, "score_samples") or hasattr(entry, "decision_function")
    return hasattr(entry, "fit") and scores


_TRANSFORMER = _Kind(
    "transformer",
    "a transformer with fit and transform, 'passthrough', None",
    _is_transformer,
)
_DETECTOR = _Kind(
    "detector", "a detector with fit and score_samples or decision_function", _is_detector
)


def _named(entries, kind):
    """(name, estimator) pairs, checked."""
    if not isinstance(entries, list | tuple) or not entries:
        raise TypeError(
            f"{kind.name}s={entries!r} must be a list, not empty, of {kind.name}s or of "
            f"(name, {kind.name}) pairs."
        )
    return [_name_and_check(position, entry, kind) for position, entry in enumerate(entries)]


def _name_and_check(position, entry, kind):
    is_pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
    name, estimator = entry if is_pair else (None, entry)
    if estimator is None and kind is _TRANSFORMER:
        estimator = PASSTHROUGH
    if inspect.isclass(estimator) or not kind.is_valid(estimator):
        raise TypeError(
            f"{kind.name}s[{position}]={entry!r} must be {kind.description}, or a "
            f"(name, {kind.name}) pair of these."
        )
    if name is None:
        name = estimator if isinstance(estimator, str) else " ".join(repr(estimator).split())
    return name, estimator
