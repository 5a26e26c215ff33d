"""Outlier detectors with the interface of PyOD's, alone and where PyOD's are expected."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_estimator

from skae import AutoencoderOutlierDetector
from skae.interchange import PyODDetector

AUTOENCODER = AutoencoderOutlierDetector(max_epochs=2, random_state=0)
DETECTORS = [
    AUTOENCODER,
    IsolationForest(n_estimators=10, random_state=0),
    LocalOutlierFactor(novelty=True),
    OneClassSVM(),
    make_pipeline(StandardScaler(), AUTOENCODER),
]
N_OUTLIERS = 6


@pytest.fixture(name="X", scope="module")
def make_rows():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(120, 5))
    X[:, 3] = X[:, 0]
    X[:N_OUTLIERS] += rng.choice([-9, 9], size=(N_OUTLIERS, 5))
    return X


@pytest.fixture(scope="module")
def fitted(X):
    return PyODDetector(AUTOENCODER, contamination=N_OUTLIERS / len(X)).fit(X)


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_scores_have_the_opposite_sign(detector, X):
    adapter = PyODDetector(detector, contamination=0.1).fit(X)
    alone = clone(detector).fit(X)
    assert_array_equal(adapter.decision_function(X), -alone.decision_function(X))
    assert_array_equal(adapter.decision_scores_, adapter.decision_function(X))
    assert adapter.decision_scores_.shape == (len(X),)
    assert not hasattr(detector, "n_features_in_")


def test_labels(fitted, X):
    assert_array_equal(fitted.labels_, np.arange(len(X)) < N_OUTLIERS)
    assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)
    assert_array_equal(fitted.predict(X), fitted.labels_)
    assert set(fitted.predict(X)) == {0, 1}


@pytest.mark.parametrize("contamination", [0.01, 0.25, 0.5])
def test_contamination_is_a_share_of_the_training_rows(contamination, X):
    adapter = PyODDetector(IsolationForest(random_state=0), contamination).fit(X)
    assert adapter.labels_.mean() == pytest.approx(contamination, abs=1 / len(X))


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities(method, fitted, X):
    probabilities = fitted.predict_proba(X, method=method)
    assert probabilities.shape == (len(X), 2)
    assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.min() >= 0
    order = np.argsort(fitted.decision_scores_)
    assert (np.diff(probabilities[order, 1]) >= 0).all()


def test_rows_beyond_the_training_rows_are_certain(fitted, X):
    assert_array_equal(fitted.predict_proba(X[:1] + 100), [[0, 1]])


def test_confidence(fitted, X):
    labels, confidence = fitted.predict(X, return_confidence=True)
    assert_array_equal(labels, fitted.labels_)
    assert_array_equal(confidence, fitted.predict_confidence(X))
    assert_array_equal(confidence, fitted.predict_proba(X, return_confidence=True)[1])
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert confidence[labels == 0].mean() > 0.9


def test_equal_scores():
    X = np.zeros((20, 2))
    adapter = PyODDetector(IsolationForest(n_estimators=2, random_state=0)).fit(X)
    assert not adapter.labels_.any()
    for method in ("linear", "unify"):
        assert_array_equal(adapter.predict_proba(X, method=method)[:, 1], 0)


def test_parameters():
    adapter = PyODDetector(AUTOENCODER)
    assert adapter.get_params()["detector__max_epochs"] == 2
    copy = clone(adapter).set_params(contamination=0.2, detector__max_epochs=3)
    assert (copy.contamination, copy.detector.max_epochs) == (0.2, 3)
    assert (adapter.contamination, adapter.detector.max_epochs) == (0.1, 2)


def test_pickle(fitted, X):
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict(X), fitted.predict(X))


def test_frames_and_missing_cells(X):
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame.loc[50, "b"] = np.nan
    adapter = PyODDetector(AUTOENCODER).fit(frame)
    assert np.isfinite(adapter.decision_scores_).all()
    assert adapter.n_features_in_ == 5
    assert list(adapter.feature_names_in_) == list("abcde")
    assert adapter.__sklearn_tags__().input_tags.allow_nan


def test_unfitted(X):
    adapter = PyODDetector(AUTOENCODER)
    assert not hasattr(adapter, "n_features_in_")
    with pytest.raises(NotFittedError):
        adapter.predict(X)


@pytest.mark.parametrize("contamination", [0, 0.6, "auto"])
def test_wrong_contamination(contamination, X):
    with pytest.raises(ValueError, match="'contamination' parameter of PyODDetector"):
        PyODDetector(AUTOENCODER, contamination).fit(X)


def test_wrong_detectors(X):
    with pytest.raises(ValueError, match="'detector' parameter of PyODDetector must be"):
        PyODDetector(PCA()).fit(X)
    # The signs of another adapter, as those of PyOD, would be turned twice.
    with pytest.raises(ValueError, match="is not an outlier detector of scikit-learn"):
        PyODDetector(PyODDetector(AUTOENCODER)).fit(X)


def test_wrong_method(fitted, X):
    with pytest.raises(ValueError, match="method='rank' must be 'linear' or 'unify'"):
        fitted.predict_proba(X, method="rank")


def test_checks_of_scikit_learn():
    reason = "takes whatever has predict_proba for a classifier"
    names = ("check_estimator_sparse_array", "check_estimator_sparse_matrix")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(
            PyODDetector(IsolationForest(n_estimators=5, random_state=0)),
            expected_failed_checks=dict.fromkeys(names, reason),
        )


# With the packages themselves, where they are installed.


def test_is_a_detector_of_pyod(fitted):
    """Also in a process that imports PyOD later, or gets the detector as a pickle."""
    pytest.importorskip("pyod", exc_type=ImportError)
    code = (
        "import pickle, sys; detector = pickle.load(sys.stdin.buffer); "
        "from pyod.models.base import BaseDetector; assert isinstance(detector, BaseDetector)"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(fitted), check=True)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_pyod(X, fitted):
    """PyOD computes the same from the same scores."""
    base = pytest.importorskip("pyod.models.base")

    class Same(base.BaseDetector):
        def __init__(self, contamination):
            super().__init__(contamination=contamination)

        def fit(self, X, y=None):
            self._set_n_classes(y)
            self.decision_scores_ = fitted.decision_scores_
            self._process_decision_scores()
            return self

        def decision_function(self, X):
            return fitted.decision_function(X)

    same = Same(fitted.contamination).fit(X)
    assert same.threshold_ == pytest.approx(fitted.threshold_)
    assert_array_equal(same.labels_, fitted.labels_)
    assert_allclose(same.predict_confidence(X), fitted.predict_confidence(X), atol=1e-12)
    for method in ("linear", "unify"):
        assert_allclose(same.predict_proba(X, method), fitted.predict_proba(X, method), atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_ensembles_of_pyod(X):
    pytest.importorskip("pyod")
    from pyod.models.feature_bagging import FeatureBagging
    from pyod.models.lscp import LSCP

    adapter = PyODDetector(AUTOENCODER)
    isolation = PyODDetector(IsolationForest(random_state=0))
    for ensemble in (
        LSCP([adapter, isolation], random_state=0),
        FeatureBagging(adapter, n_estimators=2, random_state=0),
    ):
        scores = ensemble.fit(X).decision_scores_
        assert set(scores.argsort()[-N_OUTLIERS:]) == set(range(N_OUTLIERS))
        assert ensemble.predict(X)[:N_OUTLIERS].all()
    # Random states are set through the adapter.
    seeds = [member.detector.random_state for member in ensemble.estimators_]
    assert len({0, *seeds}) == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["pyod", "aeon"])
def test_series(package):
    pytest.importorskip(package)
    rng = np.random.RandomState(0)
    series = np.sin(np.arange(200) / 5) + 0.05 * rng.normal(size=200)
    series[100:104] += 4
    adapter = PyODDetector(AUTOENCODER)
    if package == "pyod":
        from pyod.models.ts_od import TimeSeriesOD

        scores = TimeSeriesOD(adapter, window_size=8).fit(series).decision_scores_
    else:
        from aeon.anomaly_detection.series import PyODAdapter

        scores = PyODAdapter(adapter, window_size=8).fit_predict(series)
    assert 92 <= scores.argmax() <= 111
