"""float32 rows give float32 results; rows of any other dtype, float64."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn import config_context

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)

DTYPES = [np.float32, np.float64, np.float16, np.int64, np.uint8, bool, object]
# Objects of Python's True and False are levels to the generator, not numbers.
DTYPES_OF_CASES = [
    (name, dtype)
    for name in ("transformer", "denoiser", "generator", "detector")
    for dtype in DTYPES
    if (name, dtype) != ("generator", object)
]


@pytest.fixture
def bits(table):
    """Cells that any dtype can hold."""
    return table > 3


@pytest.mark.parametrize(("case", "dtype"), DTYPES_OF_CASES, indirect=["case"])
def test_results_are_as_precise_as_the_rows(dtype, case, bits):
    X = bits.astype(dtype)
    model = case.make().fit(X)
    expected = np.float32 if dtype == np.float32 else np.float64
    Z = model.encode(X)
    results = [Z, model.reconstruction_error(X), model.decode(Z), model.reconstruct(X)]
    if isinstance(model, VAEGenerator):  # rows that it makes look like those it saw
        assert {rows.dtype for rows in results[2:]} == {
            X.dtype if dtype != np.float16 else np.dtype(np.float64)
        }
        results = results[:2]
    for result in results:
        assert result.dtype == expected
        assert np.isfinite(result).all()
    if isinstance(model, AutoencoderTransformer):
        assert 0 < model.score(X) <= 1


@pytest.mark.parametrize(("case", "dtype"), DTYPES_OF_CASES, indirect=["case"])
def test_the_dtype_of_rows_does_not_matter(dtype, case, bits):
    X = bits.astype(dtype)
    model, reference = case.make().fit(X), case.make().fit(bits.astype(float))
    # Ties of equal rows, of which a table of bits is full, may be broken otherwise.
    atol = 0.05 if case.estimator is AutoencoderOutlierDetector else 1e-5
    case.assert_close(model, X, reference, bits.astype(float), atol=atol)


def back(model, X):
    return model.inverse_transform(model.transform(X))


def bounds(model, X):
    return np.column_stack(list(model.elbo(X).values()))


def columns_corrected(model, X):
    return model.correct(X, columns=[1])


# Beside those of conftest.
METHODS = {
    AutoencoderTransformer: (back,),
    DenoisingAutoencoder: (),
    VAEGenerator: (back, bounds),
    AutoencoderOutlierDetector: (columns_corrected,),
}


def results(case, model, X):
    """What all methods that take rows return, by name."""
    found = {}
    for method in (*case.row_methods, *METHODS[case.estimator]):
        name = getattr(method, "__name__", method)
        found[name] = method(model, X) if callable(method) else getattr(model, method)(X)
    found["decode"] = model.decode(model.encode(X))
    return found


CONTAINERS = {
    "array": np.asarray,
    "frame": lambda X: pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]),
    "csr": csr_array,
    "tensor": torch.tensor,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_result_of_float32_rows_is_float32(container, case, table):
    X = table.astype(np.float32)
    make = CONTAINERS[container]
    with config_context(array_api_dispatch=container == "tensor"):
        model = case.make().fit(make(X))
        narrow, wide = results(case, model, make(X)), results(case, model, make(X.astype(float)))
    assert narrow.keys() == wide.keys()
    for name, found in narrow.items():
        if isinstance(found, float):  # a score of all rows
            assert found == pytest.approx(wide[name], rel=1e-4)
            continue
        dtypes = {str(d).removeprefix("torch.") for d in np.atleast_1d(dtypes_of(found))}
        assert dtypes == ({"int64"} if name == "predict" else {"float32"}), name
        assert_allclose(np.asarray(found), np.asarray(wide[name]), rtol=0.1, atol=0.05)


def dtypes_of(rows):
    return rows.dtypes.to_numpy() if isinstance(rows, pd.DataFrame) else str(rows.dtype)


@pytest.mark.parametrize("case", ["generator"], indirect=True)
def test_rows_drawn_after_float32_rows_are_float32(case, table):
    model = case.make().fit(table.astype(np.float32))
    assert model.sample(3, random_state=0).dtype == np.float32
    assert model.interpolate(table[0], table[1], 3).dtype == np.float32


@pytest.mark.parametrize("container", ["array", "tensor"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ["detector"], indirect=True)
def test_labels_follow_the_sign_of_decisions_on_the_very_threshold(case, dtype, container, table):
    X = table.astype(dtype)
    model = case.make().fit(X)
    assert (model.predict(X) == -1).any()
    with config_context(array_api_dispatch=container == "tensor"):
        rows = CONTAINERS[container](X)
        scores = np.asarray(-model._scores(rows))  # in float64
        for threshold in scores[:5]:
            for offset in (np.nextafter(threshold, -9), threshold, np.nextafter(threshold, 9)):
                model.offset_ = float(offset)
                expected = np.where(scores < offset, -1, 1)
                assert_array_equal(np.asarray(model.predict(rows)), expected)
                decisions = np.asarray(model.decision_function(rows))
                assert decisions.dtype == dtype
                assert_array_equal(np.where(decisions < 0, -1, 1), expected)
