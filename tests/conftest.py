import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scipy reads it once, on import

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.datasets import load_wine as _load_wine
from sklearn.preprocessing import scale

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._fit._plan import Schedule
from skae.estimators import _compression

# Sizes at which the library works in pieces, by their names in tests. Whoever imports one by
# name holds a copy, so each is replaced wherever it is held.
LIMITS = {
    "cells_for_quantiles": ("_data._scaling.MAX_CELLS_FOR_QUANTILES",),
    "bytes_on_disk": (
        "_data._survey.MIN_BYTES_ON_DISK",
        "_dask_parts.MIN_BYTES_ON_DISK",
        "estimators._sharded_fit.MIN_BYTES_ON_DISK",
    ),
    "chunk_bytes": (
        "_data._chunks.CHUNK_BYTES",
        "_data._shuffling.CHUNK_BYTES",
        "_data._row_files.CHUNK_BYTES",
        "_data._sources.CHUNK_BYTES",
        "_engine._batches.CHUNK_BYTES",
    ),
    "copy_bytes": ("_engine._batches.MAX_COPY_BYTES",),
    "exact_pca_size": ("_stats._pca.MAX_EXACT_SIZE",),
    "inference_bytes": (
        "_engine._inference.INFERENCE_BYTES",
        "_engine._variational_net.INFERENCE_BYTES",
    ),
    "part_bytes": ("_data._table_parts.PART_BYTES",),
    "part_seconds": ("_data._table_parts.PART_SECONDS",),
    "piece_rows": ("_data._table_parts.PIECE_ROWS",),
    "unit_bytes": ("_data._open.UNIT_BYTES",),
    "most_unit_bytes": ("_data._open.MOST_UNIT_BYTES",),
    "kept_cells": ("estimators._generation.MAX_CELLS_KEPT",),
    "noisy_rows": ("_engine._denoising_net.ROWS_AT_ONCE",),
    "pool_bytes": ("_data._shuffling.POOL_BYTES",),
    "release_bytes": ("_data._chunks.RELEASE_BYTES",),
    "rows_for_ranks": ("_data._normal_scores.MAX_ROWS",),
    "rows_on_disk": ("_data._survey.MIN_ROWS_ON_DISK",),
    "sampled_cells": ("estimators._sampling.CELLS_AT_ONCE",),
    "shuffle_bytes": ("_engine._batches.MAX_SHUFFLE_BYTES",),
    "validation_rows": ("_engine._denoising_net.MAX_VALIDATION_ROWS",),
}


@dataclass(frozen=True)
class Case:
    """An estimator with small settings, and the methods that two fits are compared by.

    Together, `compared` read every weight of the network. `row_methods` are all that take rows.
    """

    estimator: type
    params: dict
    compared: tuple
    row_methods: tuple

    def make(self, **params):
        small = {"n_components": 2, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
        return self.estimator(**{**small, **self.params, **params})

    def outputs(self, model, X):
        """What each of the compared methods returns, as arrays."""
        return [np.asarray(getattr(model, method)(X)) for method in self.compared]

    def assert_equal(self, a, b, X):
        """Compare two fitted estimators to the bit."""
        for left, right in zip(self.outputs(a, X), self.outputs(b, X), strict=True):
            assert_array_equal(left, right)

    def assert_close(self, a, X_a, b, X_b, rtol=1e-4, atol=1e-5):
        """Compare two fitted estimators, each on its own version of the rows."""
        for left, right in zip(self.outputs(a, X_a), self.outputs(b, X_b), strict=True):
            assert_allclose(left, right, rtol=rtol, atol=atol)


CASES = {
    "transformer": Case(
        AutoencoderTransformer,
        {},
        compared=("transform", "reconstruct"),
        row_methods=("transform", "encode", "reconstruct", "reconstruction_error", "score"),
    ),
    # Its transform returns complete rows as they are.
    "denoiser": Case(
        DenoisingAutoencoder,
        {},
        compared=("encode", "reconstruct"),
        row_methods=("transform", "encode", "reconstruct", "reconstruction_error", "score"),
    ),
    "generator": Case(
        VAEGenerator,
        {"n_importance_samples": 5, "refine": False},
        compared=("transform", "score_samples"),
        row_methods=(
            "transform",
            "encode",
            "reconstruct",
            "reconstruction_error",
            "score",
            "score_samples",
        ),
    ),
    "detector": Case(
        AutoencoderOutlierDetector,
        {"n_estimators": 2},
        compared=("encode", "score_samples"),
        row_methods=(
            "predict",
            "decision_function",
            "score_samples",
            "pvalues",
            "encode",
            "reconstruct",
            "reconstruction_error",
            "explain",
            "correct",
        ),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """Each estimator in turn; ``parametrize(..., indirect=True)`` takes some of them."""
    return CASES[request.param]


def _frozen(X):
    X.flags.writeable = False  # a user's array must not be written to
    return X


@pytest.fixture(scope="session")
def digits():
    """1797 images of 8 x 8 pixels as float32 rows in [0, 1]."""
    return _frozen((load_digits().data / 16).astype(np.float32))


@pytest.fixture(scope="session")
def wine():
    """178 standardised rows of 13 columns: too few for an unchecked autoencoder."""
    return _frozen(scale(_load_wine().data))


@pytest.fixture(scope="session")
def table():
    """120 rows of 10 columns: three factors, one of them bent, and a little noise."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(120, 3))
    Z = np.column_stack([Z, np.sin(2 * Z[:, 0]), Z[:, 1] ** 2])
    X = Z @ rng.normal(size=(5, 10)) + 0.05 * rng.normal(size=(120, 10)) + 3.0
    return _frozen(X)


@pytest.fixture(scope="session")
def mixed_table():
    """A function that returns a table of columns of all kinds, which depend on two latents."""

    def make(n_rows, noise, n_steps, days):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(n_rows, 2))
        noisy = z + noise * rng.normal(size=z.shape)  # in ways that no linear map represents
        steps = np.rint(n_steps * z[:, 1]).astype(int)
        return pd.DataFrame(
            {
                "size": 3 * noisy[:, 0] + 10,
                "colour": np.array(["red", "green", "blue"])[np.digitize(z[:, 0], [-0.5, 0.5])],
                "weight": noisy[:, 1],
                "is_new": noisy[:, 1] > 0,
                "kind": pd.Categorical(np.where(z[:, 0] * z[:, 1] > 0, "p", "q")),
                "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(days * steps, unit="D"),
                "count": np.rint(5 * noisy[:, 0]).astype(int),
            }
        )

    return make


@pytest.fixture
def fast():
    """Settings for tests that do not ask how good the network is."""
    return {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


@pytest.fixture
def judged(monkeypatch):
    """Held-out rows judge transformers, whatever the rows promise; the last epoch is kept."""
    monkeypatch.setattr(_compression, "prospect_of", lambda *args: "open")
    monkeypatch.setattr(Schedule, "epoch_to_keep", lambda schedule, curve: len(curve) - 1)


@pytest.fixture
def set_limits(monkeypatch):
    """Function that sets limits of the library, named as in ``LIMITS``, until the test ends."""

    def set_to(**limits):
        for name, value in limits.items():
            places = {f"skae.{place}" for place in LIMITS[name]}
            assert _holders(next(iter(places))) <= places, f"LIMITS lacks a copy of {name}"
            for place in places:
                monkeypatch.setattr(place, value)

    return set_to


def _holders(place):
    """Names of a module's constant, there and wherever it was imported by name."""
    home, _, constant = place.rpartition(".")
    value = getattr(import_module(home), constant)
    modules = [module for name, module in sys.modules.items() if name.startswith("skae.")]
    return {f"{m.__name__}.{constant}" for m in modules if vars(m).get(constant) is value}


@pytest.fixture(scope="session")
def skae_data():
    """Folder of the evaluation data."""
    folder = Path(os.environ.get("SKAE_DATA", "/nonexistent"))
    if not (folder / "mnist.npz").exists():
        pytest.skip("SKAE_DATA does not name the folder of the evaluation data")
    return folder


@pytest.fixture(scope="session")
def repository():
    """Folder of the repository; tests of what is not installed are skipped elsewhere."""
    folder = Path(__file__).parents[1]
    if not (folder / "setup.cfg").exists():
        pytest.skip("the tests are not run from the repository")
    return folder
