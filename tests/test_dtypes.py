"""float32 rows give float32 results; rows of any other dtype, float64."""

import numpy as np
import pytest

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, VAEGenerator

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
