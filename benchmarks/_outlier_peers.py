"""The detectors that skae's is compared with, and how all of them are measured."""

import contextlib
import io
import logging
import warnings
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from _common import short_training
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderOutlierDetector

FOREST_SEEDS = range(5)
SKAE, FOREST = "skae", "IsolationForest"
NEIGHBOURS, LOF = "5 nearest neighbours", "LocalOutlierFactor"
# Modules of PyOD's detectors.
PYOD = {
    "ECOD": "ecod",
    "COPOD": "copod",
    "HBOS": "hbos",
    "KNN": "knn",
    "PCA": "pca",
    "AutoEncoder": "auto_encoder",
    "VAE": "vae",
}
NETWORKS = ("AutoEncoder", "VAE")  # which take seconds to minutes to fit
WITHOUT_PYOD = "PyOD is not installed: its detectors are left out."


class Neighbours:
    """Mean distance to the 5 nearest training rows, in standardised columns."""

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        self.index = NearestNeighbors(n_neighbors=min(5, len(X) - 1)).fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        return -self.index.kneighbors(self.scaler.transform(X))[0].mean(axis=1)


class LocalOutliers:
    """LocalOutlierFactor of 20 neighbours, in standardised columns."""

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        factor = LocalOutlierFactor(n_neighbors=min(20, len(X) - 1), novelty=True)
        with quiet():  # many equal rows are warned of
            self.factor = factor.fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        return self.factor.score_samples(self.scaler.transform(X))


class FromPyOD:
    """A detector of PyOD with its defaults; normal rows have higher scores, as in scikit-learn."""

    def __init__(self, name):
        module = __import__(f"pyod.models.{PYOD[name]}", fromlist=[name])
        self.build = getattr(module, name)
        shorter = short_training() if name in NETWORKS else {}
        self.params = {"epoch_num": shorter["max_epochs"]} if shorter else {}

    def fit(self, X):
        self.scaler = MinMaxScaler().fit(X)
        with quiet():
            self.detector = self.build(**self.params).fit(self.scaler.transform(X))
        return self

    def score_samples(self, X):
        with quiet():
            return -self.detector.decision_function(self.scaler.transform(X))


@contextlib.contextmanager
def quiet():
    """Without prints, progress bars, logs and warnings."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(logging.NOTSET)


def detectors(seed, pyod=tuple(PYOD)):
    """Lists of detectors by name, with these of PyOD; results are means over a list."""
    found = {
        SKAE: [AutoencoderOutlierDetector(random_state=seed)],
        FOREST: [IsolationForest(random_state=s) for s in FOREST_SEEDS],
        NEIGHBOURS: [Neighbours()],
        LOF: [LocalOutliers()],
    }
    if find_spec("pyod") is None:
        return found
    return found | {f"PyOD {name}": [FromPyOD(name)] for name in pyod}


def measure_all(found, chosen, split):
    """{name: mean AUROC, AP and seconds of fit and scoring} on one split; `chosen` may be None."""
    return {
        name: np.mean([measure(each, *split) for each in repeats], axis=0)
        for name, repeats in found.items()
        if not chosen or name in chosen
    }


def measure(detector, X_train, X_test, y_test):
    start = perf_counter()
    detector.fit(X_train)
    fitted = perf_counter()
    scores = np.nan_to_num(-detector.score_samples(X_test))  # some of PyOD's overflow
    seconds = fitted - start, perf_counter() - fitted
    return *quality(y_test, scores), *seconds


def quality(labels, scores):
    """AUROC and average precision."""
    return roc_auc_score(labels, scores), average_precision_score(labels, scores)
