"""An outlier detector of scikit-learn with the attributes and methods of PyOD's detectors."""

from numbers import Real

import numpy as np
from scipy import special
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_outlier_detector
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skae._engine._tasks import current_tasks, given_to_fit, tasks_of_fit
from skae._sklearn import CallbackSupportMixin, HasMethods, Interval, fit_context
from skae._storage._states import PlainStateMixin


class PyODDetector(PlainStateMixin, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """An outlier detector of scikit-learn with the attributes and methods of PyOD's detectors.

    It stands where a detector of PyOD is expected: in the ensembles of PyOD and SUOD, and in
    the adapters of aeon and sktime. There, higher scores are more abnormal, outliers are
    1 and inliers 0, and scores of the training rows are kept.

    Parameters
    ----------
    detector : estimator
        An outlier detector of scikit-learn with ``decision_function``, such as
        :class:`~skae.AutoencoderOutlierDetector`, or a pipeline that ends in one. It is cloned
        before it is fitted. PyOD's own detectors need no adapter and are refused.
    contamination : float, default=0.1
        Share of the training rows that are to be outliers, in (0, 0.5]. It sets `threshold_`,
        whatever the threshold of `detector` is.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.
    decision_scores_ : ndarray of shape (n_samples,)
        Scores of the training rows; higher is more abnormal.
    threshold_ : float
        Rows with a score above it are outliers.
    labels_ : ndarray of shape (n_samples,)
        Labels of the training rows: 1 for outliers, 0 for inliers.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.

    See Also
    --------
    skae.AutoencoderOutlierDetector : The detector itself, with the signs of scikit-learn.

    Notes
    -----
    Scores are those of the detector's ``decision_function`` with the opposite sign, so 0 is the
    detector's own threshold.

    PyOD is not needed. Where it is installed, the first object made imports ``pyod.models.base``
    and registers the class as a virtual subclass of its ``BaseDetector``, which aeon and
    some classes of PyOD ask for by ``isinstance``. Of the methods of ``BaseDetector``,
    ``predict_with_rejection``, ``compute_rejection_stats`` and ``fit_predict_score`` are missing.
    The thresholds of PyThresh cannot be used as `contamination`.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.interchange import PyODDetector
    >>> X, _ = load_wine(return_X_y=True)
    >>> autoencoder = AutoencoderOutlierDetector(random_state=0)
    >>> detector = PyODDetector(autoencoder, contamination=0.05).fit(X)
    >>> int(detector.labels_.sum())
    9
    >>> detector.predict_proba(X).shape
    (178, 2)
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods(["fit", "decision_function"])],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(self, detector, contamination=0.1):
        self.detector = detector
        self.contamination = contamination
        register_with_pyod()

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Fit a clone of the detector, score the training rows and set the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, as the detector takes them.
        y : None
            Ignored.

        Returns
        -------
        self : PyODDetector
            The fitted adapter.

        Raises
        ------
        ValueError
            If a parameter has a wrong value, or `detector` is not an outlier detector of
            scikit-learn.
        """
        if not is_outlier_detector(self.detector):
            raise ValueError(
                f"detector={self.detector!r} is not an outlier detector of scikit-learn. Those of "
                "PyOD need no adapter."
            )
        with tasks_of_fit(self, given_to_fit(X, y)):
            current_tasks().begin(1)
            self.detector_ = clone(self.detector)
            with current_tasks().fit_of(self.detector_, "fit-detector"):
                self.detector_.fit(X)
            self.decision_scores_ = self.decision_function(X)
            self.threshold_ = float(np.quantile(self.decision_scores_, 1 - self.contamination))
            self.labels_ = self._labels(self.decision_scores_)
        return self

    def decision_function(self, X):
        """How abnormal rows are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is more abnormal.
        """
        check_is_fitted(self)
        return -np.asarray(self.detector_.decision_function(X), dtype=np.float64).ravel()

    def predict(self, X, return_confidence=False):
        """Tell outliers from inliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        return_confidence : bool, default=False
            Whether ``predict_confidence`` is returned too.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for outliers, 0 for inliers.
        confidence : ndarray of shape (n_samples,)
            With `return_confidence` only.
        """
        scores = self.decision_function(X)
        labels = self._labels(scores)
        return (labels, self._confidence(scores)) if return_confidence else labels

    def predict_proba(self, X, method="linear", return_confidence=False):
        """Scores between 0 and 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        method : {"linear", "unify"}, default="linear"
            ``"linear"`` is the place between the lowest and the highest score of the
            training rows, ``"unify"`` the error function of standardised scores [1]_.
        return_confidence : bool, default=False
            Whether ``predict_confidence`` is returned too.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
            Of being an inlier, and of being an outlier.
        confidence : ndarray of shape (n_samples,)
            With `return_confidence` only.

        Raises
        ------
        ValueError
            If there is no such method.

        References
        ----------
        .. [1] Kriegel, Kröger, Schubert & Zimek, "Interpreting and unifying outlier scores",
           SDM 2011.
        """
        if method not in ("linear", "unify"):
            raise ValueError(f"method={method!r} must be 'linear' or 'unify'.")
        scores = self.decision_function(X)
        seen = self.decision_scores_
        if method == "linear":
            outlier = (scores - seen.min()) / (np.ptp(seen) or 1.0)
        else:
            outlier = special.erf((scores - seen.mean()) / ((seen.std() or 1.0) * np.sqrt(2)))
        outlier = outlier.clip(0, 1)
        probabilities = np.column_stack([1 - outlier, outlier])
        return (probabilities, self._confidence(scores)) if return_confidence else probabilities

    def predict_confidence(self, X):
        """How often a fit on other rows of the same kind would give the same labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        confidence : ndarray of shape (n_samples,)
            Between 0 and 1 [1]_.

        References
        ----------
        .. [1] Perini, Vercruyssen & Davis, "Quantifying the confidence of anomaly detectors
           in their example-wise predictions", ECML PKDD 2020.
        """
        return self._confidence(self.decision_function(X))

    def _labels(self, scores):
        return (scores > self.threshold_).astype(int)

    def _confidence(self, scores):
        n = len(self.decision_scores_)
        n_below = np.searchsorted(np.sort(self.decision_scores_), scores, side="right")
        n_inliers = n - int(n * self.contamination)
        # P(the row is among the outliers of n rows), each below it with this probability.
        as_outlier = 1 - special.bdtr(n_inliers, n, (1 + n_below) / (2 + n))
        return np.where(self._labels(scores) == 1, as_outlier, 1 - as_outlier)

    @property
    def n_features_in_(self):
        return self.detector_.n_features_in_

    @property
    def feature_names_in_(self):
        return self.detector_.feature_names_in_

    def __setstate__(self, state):
        super().__setstate__(state)
        register_with_pyod()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.detector).input_tags
        return tags


def register_with_pyod():
    """Let ``isinstance`` find `PyODDetector` among PyOD's detectors, where PyOD is installed."""
    try:
        from pyod.models.base import BaseDetector
    except ImportError:
        return
    BaseDetector.register(PyODDetector)
