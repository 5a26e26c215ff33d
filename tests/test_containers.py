"""Rows may come as arrays of any layout, lists, data frames, sparse matrices or memory maps."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skae import DenoisingAutoencoder

SCALINGS = ["global", "standard", "minmax", "robust", None]
# The generator reads normal scores and has no scaling.
SCALED = [
    *(("transformer", {"scaling": scaling}) for scaling in SCALINGS),
    *(("denoiser", {"scaling": scaling}) for scaling in SCALINGS),
    *(("detector", {"scaling": scaling}) for scaling in SCALINGS),
    ("generator", {}),
]


@pytest.mark.parametrize(("case", "params"), SCALED, indirect=["case"])
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_rows_are_read_as_dense_ones(container, case, params, table):
    X = table * (table > 3)
    S = container(X)
    dense, model = case.make(**params).fit(X), case.make(**params).fit(S)
    for method in case.row_methods:
        out, expected = (getattr(m, method)(rows) for m, rows in ((model, S), (dense, X)))
        assert isinstance(out, (np.ndarray, float))
        assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "init"),
    [
        ("transformer", "random"),
        ("transformer", "pca"),
        ("denoiser", "pca"),
        ("generator", "pca"),
        ("detector", "random"),
    ],
    indirect=["case"],
)
def test_sparse_rows_are_never_densified_whole(init, case, monkeypatch, set_limits):
    n_rows, n_columns = 5000, 260
    X = sparse.csr_array(
        sparse.random(n_rows, n_columns, density=0.01, random_state=0, dtype=np.float32)
    )
    sizes = []
    for container in (sparse.csr_array, sparse.csc_array):  # the generator reads columns

        def watched(self, *args, toarray=container.toarray, **kwargs):
            sizes.append(self.shape[0] * self.shape[1])
            return toarray(self, *args, **kwargs)

        monkeypatch.setattr(container, "toarray", watched)
    set_limits(copy_bytes=2**10, shuffle_bytes=2**10, cells_for_quantiles=2**15, kept_cells=2**15)
    set_limits(chunk_bytes=8 * n_columns * 1000, inference_bytes=4 * n_columns * 1000)
    model = case.make(init=init, max_epochs=1).fit(X)
    case.outputs(model, X)
    model.reconstruction_error(X)
    assert len(sizes) > 20
    assert max(sizes) < n_rows * n_columns


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n_rows", [300, 1200])
def test_memmap_gives_the_bits_of_the_array(n_rows, streamed, case, digits, tmp_path, set_limits):
    if streamed:
        set_limits(copy_bytes=0, release_bytes=1000)
    X = digits[:n_rows, 20:40]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    a, b = case.make().fit(X), case.make().fit(mapped)
    for out, expected in zip(case.outputs(b, mapped), case.outputs(a, X), strict=True):
        assert_array_equal(out, expected)
    assert_array_equal(mapped, X)


@pytest.mark.parametrize("n_rows", [300, 1200])
def test_streamed_rows_train_as_well_as_rows_in_memory(n_rows, case, digits, set_limits):
    X = digits[:n_rows, 20:40]
    a = case.make(n_components=4, max_epochs=8).fit(X)
    set_limits(copy_bytes=0)
    b = case.make(n_components=4, max_epochs=8).fit(X)
    # Cells are hidden batch by batch, so the denoiser's batches differ in more than their order.
    rtol = 0.1 if isinstance(a, DenoisingAutoencoder) else 0.03
    assert_allclose(a.loss_curve_, b.loss_curve_, rtol=rtol)
    if hasattr(a, "score"):
        assert_allclose(a.score(X), b.score(X), rtol=0.01, atol=0.01)
    assert_allclose(a.reconstruction_error(X).mean(), b.reconstruction_error(X).mean(), rtol=0.05)


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, 1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.tolist(),
        lambda X: X.astype(">f8"),
    ],
    ids=["fortran", "strided", "reversed", "list", "big-endian"],
)
def test_memory_layout_does_not_matter(view, case, table):
    a, b = case.make().fit(table), case.make().fit(view(table))
    case.assert_close(b, view(table), a, table)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames(frame, case, table):
    names = [f"c{i}" for i in range(10)]
    X = frame(dict(zip(names, table.T, strict=True)))
    model, plain = case.make().fit(X), case.make().fit(table)
    assert list(model.feature_names_in_) == names
    assert isinstance(model.encode(X), np.ndarray)
    case.assert_close(model, X, plain, table)
    if hasattr(model, "score"):
        assert model.score(X) == pytest.approx(plain.score(table), abs=1e-4)
    with pytest.warns(UserWarning, match="valid feature names"):
        model.encode(table)


def test_a_frame_of_several_dtypes(case, table):
    X = pd.DataFrame({"a": np.arange(120), "b": table[:, 0].astype("f"), "c": table[:, 1] > 3})
    model = case.make().fit(X)
    assert model.encode(X).dtype == np.float64
    assert all(np.isfinite(out).all() for out in case.outputs(model, X))


def test_input_is_never_written_to(case, table):
    X = table.copy()
    model = case.make().fit(X)
    Z = model.encode(X)
    kept = Z.copy()
    model.decode(Z)
    model.partial_fit(X)
    for method in case.row_methods:
        getattr(model, method)(X)
    assert_array_equal(Z, kept)
    assert_array_equal(X, table)


@pytest.mark.parametrize("case", ["transformer"], indirect=True)  # only it scales noisy rows
@pytest.mark.parametrize("scaling", ["global", None])
def test_input_noise_is_not_added_in_place(scaling, case, table):
    X = table.copy()
    case.make(scaling=scaling, input_noise=1.0).fit(X).partial_fit(X)
    assert_array_equal(X, table)


def test_one_row_is_that_row_of_a_batch(case, digits):
    X = digits[:, 20:40]
    model = case.make(n_components=4).fit(X[:200])
    whole = case.outputs(model, X)
    for i in (0, 7, 1796):
        for alone, out in zip(case.outputs(model, X[i : i + 1]), whole, strict=True):
            assert_allclose(alone[0], out[i], rtol=1e-4, atol=1e-5)


def test_inference_in_pieces(case, digits, set_limits):
    X = digits[:400, 20:40]
    model = case.make(n_components=4).fit(X[:200])
    whole = {method: getattr(model, method)(X) for method in case.row_methods}
    set_limits(inference_bytes=1)
    for method, expected in whole.items():
        assert_allclose(getattr(model, method)(X), expected, rtol=1e-4, atol=1e-5)
