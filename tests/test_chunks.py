"""Rows piece by piece."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from skae import AutoencoderTransformer
from skae._data._chunks import check_finite, is_memory_map, row_chunks, value_range


@pytest.fixture
def mapped(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 4))
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.mark.parametrize("convert", [np.asarray, csr_array])
def test_chunks_are_the_rows(convert, mapped, set_limits):
    set_limits(chunk_bytes=8 * 4 * 7)
    pieces = list(row_chunks(convert(mapped)))
    assert len(pieces) == 15
    assert_array_equal(np.concatenate([chunk for _, chunk in pieces]), mapped)
    assert all(chunk.shape[0] == rows.stop - rows.start for rows, chunk in pieces)


@pytest.mark.parametrize("convert", [np.asarray, csr_array])
def test_value_range(convert):
    assert value_range(convert(np.array([[0.0, 3.0], [-1.0, 0.0]]))) == (-1.0, 3.0)


def test_a_view_of_a_map_is_a_map(mapped):
    assert all(map(is_memory_map, (mapped, mapped[2:], np.asarray(mapped)[:, :2])))
    assert not is_memory_map(np.array(mapped))
    assert not is_memory_map(csr_array(mapped))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_is_searched_for_what_is_not_finite(value, tmp_path, set_limits):
    set_limits(chunk_bytes=8 * 2 * 10)
    X = np.ones((100, 2))
    check_finite(X)
    X[-1, 1] = value
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="Input X contains"):
        check_finite(mapped)
    with pytest.raises(ValueError, match="Input X contains"):
        AutoencoderTransformer(1, max_epochs=1).fit(mapped)
