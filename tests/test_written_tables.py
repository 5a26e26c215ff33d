"""Results of tables written as Parquet, part by part."""

import os
import re
import resource
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from files_of_rows import ds, pa, pq, write_files
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from tqdm import tqdm

from skae import AutoencoderTransformer, VAEGenerator
from skae.io import open_table, write_table


@pytest.fixture(scope="module")
def frame():
    rows = np.random.default_rng(0).normal(size=(6000, 6)) @ np.ones((6, 6))
    return pd.DataFrame(rows.astype(np.float32), columns=list("abcdef"))


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The rows in three files, of several row groups each."""
    return write_files(frame, tmp_path_factory.mktemp("table"), 3, row_group_size=700)


@pytest.fixture(name="model", scope="module")
def fitted_model(frame):
    return AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(frame)


@pytest.fixture
def small_parts(set_limits):
    """Each part is of 500 rows."""
    set_limits(piece_rows=500, part_bytes=1)


def test_columns_may_have_the_names_of_attributes(frame, tmp_path):
    """Of tables on disk: the folder they lie in, for instance."""
    X = frame[:20].set_axis(["folder", "names", "schema", "version", "label", "units"], axis=1)
    model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(X)
    written = write_table(model, "reconstruct", X, tmp_path / "out.parquet")
    assert [*pd.read_parquet(written)] == [*X]


def files_below(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("kind", ["path", "paths", "table", "frame", "array", "reader"])
def test_results_are_written_in_order(name, kind, model, folder, frame, tmp_path):
    sources = {
        "path": lambda: folder,
        "paths": lambda: sorted(map(str, folder.iterdir())),
        "table": lambda: open_table(folder),
        "frame": lambda: frame,
        "array": lambda: frame.to_numpy(),
        "reader": lambda: ds.dataset(folder).scanner(batch_size=333).to_reader(),
    }
    if kind == "array":
        model = AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(frame.to_numpy())
    target = write_table(model, "transform", sources[kind](), tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert target.is_file() == (name != "out")
    written = pd.read_parquet(target)
    assert list(written) == model.get_feature_names_out().tolist()
    assert_allclose(
        written, model.transform(frame if kind != "array" else frame.to_numpy()), atol=1e-5
    )
    assert open_table(target).shape == (len(frame), 2)


@pytest.mark.usefixtures("small_parts")
def test_names_of_written_columns(model, folder, frame, tmp_path):
    rows = write_table(model, "reconstruct", folder, tmp_path / "rows")
    assert list(pd.read_parquet(rows)) == list(frame)
    errors = write_table(model, "reconstruction_error", folder, tmp_path / "errors")
    assert list(pd.read_parquet(errors)) == ["reconstruction_error"]
    named = write_table(model, "encode", folder, tmp_path / "codes", columns=["u", "v"])
    assert list(pd.read_parquet(named)) == ["u", "v"]
    of_latents = write_table(model, "encode", folder, tmp_path / "latents")
    assert list(pd.read_parquet(of_latents)) == list(model.get_feature_names_out())
    with pytest.raises(ValueError, match="columns has 1 names, but encode gives 2"):
        write_table(model, "encode", folder, tmp_path / "other", columns=["u"])
    with pytest.raises(FileExistsError, match="codes"):
        write_table(model, "encode", folder, tmp_path / "codes")


class Failing:
    """A model that fails after some calls."""

    n_left = 10**6
    n_calls = 0

    def predict(self, X):
        if not Failing.n_left:
            raise RuntimeError("failed")
        Failing.n_left -= 1
        Failing.n_calls += 1
        return np.asarray(X)[:, 0]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_writing_goes_on_where_it_ended(name, folder, frame, tmp_path, monkeypatch):
    target = tmp_path / name
    monkeypatch.setattr(Failing, "n_left", 5)
    monkeypatch.setattr(Failing, "n_calls", 0)
    with pytest.raises(RuntimeError, match="failed"):
        write_table(Failing(), "predict", folder, target)
    assert not target.exists()
    Failing.n_left = 100
    write_table(Failing(), "predict", folder, target)
    assert Failing.n_calls == 12
    assert_array_equal(pd.read_parquet(target)["predict"], frame["a"])
    assert os.listdir(tmp_path) == [name]


@pytest.mark.usefixtures("small_parts")
def test_parts_of_another_call_are_not_kept(model, folder, tmp_path, monkeypatch):
    target = tmp_path / "out"
    monkeypatch.setattr(Failing, "n_left", 5)
    with pytest.raises(RuntimeError, match="failed"):
        write_table(Failing(), "predict", folder, target)
    write_table(model, "reconstruction_error", folder, target)
    assert list(pd.read_parquet(target)) == ["reconstruction_error"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("kind", ["path", "reader"])
def test_a_full_disk(kind, name, model, folder, frame, tmp_path, monkeypatch):
    """The limit of a file's size stands for the end of the disk; parts are kept if they help."""
    target, partial = tmp_path / name, tmp_path / f"{name}.partial"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def source():
        return folder if kind == "path" else ds.dataset(folder).scanner().to_reader()

    def transform(rows):
        if transform.n_calls == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        transform.n_calls += 1
        return type(model).transform(model, rows)

    transform.n_calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(model, "transform", transform, raising=False)
        patch.setattr("skae._data._table_parts.pickle.dumps", lambda value: b"model")
        try:
            with pytest.raises(OSError, match=r"part-000003\.parquet' cannot be written") as caught:
                write_table(model, "transform", source(), target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not target.exists()
        assert partial.exists() == (kind == "path")
        if kind == "path":
            assert "the parts that are in" in caught.value.__notes__[0]
            assert "part-000003.waiting" not in os.listdir(partial)
        write_table(model, "transform", source(), target)
    assert transform.n_calls == 4 + (9 if kind == "path" else 12)
    assert_allclose(pd.read_parquet(target), model.transform(frame), atol=1e-5)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.usefixtures("small_parts")
def test_a_full_disk_from_the_start(model, folder, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"part-000000\.parquet' cannot be written"):
            write_table(model, "reconstruct", folder, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures("small_parts")
def test_writing_goes_on_after_an_end_at_any_point(model, folder, frame, tmp_path):
    partial, target = tmp_path / "out.partial", tmp_path / "out"
    partial.mkdir()
    (partial / "photo.png").touch()
    with pytest.raises(FileExistsError, match=r"out\.partial' exists"):
        write_table(model, "encode", folder, target)
    (partial / "photo.png").unlink()
    for cut_off in (None, "", "abc"):  # the folder is made, or what says whose it is
        if cut_off is not None:
            partial.mkdir()
            (partial / "_call").write_text(cut_off)
            (partial / "part-000000.parquet").touch()
        write_table(model, "encode", folder, target)
        assert len(pd.read_parquet(target)) == len(frame)
        assert os.listdir(tmp_path) == ["out"]
        shutil.rmtree(target)


def test_what_cannot_be_written(model, tmp_path):
    pq.write_table(
        pa.table({name: pa.array([], pa.float32()) for name in "abcdef"}), tmp_path / "a.parquet"
    )
    with pytest.raises(ValueError, match="has no rows"):
        write_table(model, "transform", tmp_path / "a.parquet", tmp_path / "out")
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        model.fit(open_table(tmp_path / "a.parquet"))
    assert os.listdir(tmp_path) == ["a.parquet"]


def test_missing_package(model, frame, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "skae\[parquet\]"'):
        open_table(folder)
    with pytest.raises(ImportError, match=r'pip install "skae\[parquet\]"'):
        write_table(model, "transform", frame, tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("target", [".", "out", "out.parquet", "deeper/out", "../rows/out"])
@pytest.mark.parametrize("opens", [open_table, str])
def test_nothing_is_written_into_the_folder_that_is_read(target, opens, model, frame, tmp_path):
    folder = write_files(frame, tmp_path / "rows", 2)
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=r"target=.*rows.* lies in the folder .*rows'"):
        write_table(model, "transform", opens(folder), folder / target)
    assert files_below(tmp_path) == before
    write_table(model, "transform", opens(folder), tmp_path / "rows2")  # beside it


@pytest.mark.parametrize("name", ["scores.csv", "scores.NPY"])
def test_the_ending_of_another_format(name, model, folder, tmp_path):
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=rf"target=.*{name}' ends in .* but Parquet is written"):
        write_table(model, "transform", folder, tmp_path / name)
    assert files_below(tmp_path) == before
    assert write_table(model, "transform", folder, tmp_path / "v1.2").is_dir()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nothing", ": AutoencoderTransformer has no such method"),
        ("verbose", ": AutoencoderTransformer has no such method"),
        (None, ": AutoencoderTransformer has no such method"),
        ("_encode", " must be one that takes rows"),
        ("fit", " must be one that takes rows"),
        ("fit_transform", " must be one that takes rows"),
        ("set_params", " must be one that takes rows"),
        ("score", " must give .* but gave a result of type float for 6000 rows"),
    ],
)
def test_methods_that_give_no_rows(method, message, model, folder, frame, tmp_path):
    before = model.reconstruct(frame[:9])
    with pytest.raises(ValueError, match=f"method={method!r}{message}"):
        write_table(model, method, folder, tmp_path / "out")
    assert_array_equal(model.reconstruct(frame[:9]), before)
    assert not os.listdir(tmp_path)


def test_drawn_rows_are_in_memory(frame, tmp_path):
    generator = VAEGenerator(1, max_epochs=1, refine=False, relations=None).fit(frame)
    with pytest.raises(ValueError, match=r"method='sample'.* sample\(n\)\.to_parquet"):
        write_table(generator, "sample", 1000, tmp_path / "out")
    with pytest.raises(ValueError, match="method='interpolate' must be one that takes rows"):
        write_table(generator, "interpolate", frame, tmp_path / "out")


RESULTS = {
    "tuple": (lambda n: (np.zeros(n), np.zeros(n)), "a tuple"),
    "pair of a pair": (lambda n: (1.0, 2.0), "a tuple"),
    "number": (lambda n: 1.0, "a result of type float"),
    "nothing": (lambda n: None, "a result of type NoneType"),
    "deep": (lambda n: np.zeros((n, 2, 2)), r"a result of shape \(.*, 2, 2\)"),
    "short": (lambda n: np.zeros(n - 1), r"a result of shape \(1,\)"),
    "empty": (lambda n: np.zeros((n, 0)), r"a result of shape \(2, 0\)"),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_that_are_no_rows(kind, tmp_path):
    make, message = RESULTS[kind]

    class Model:
        def predict(self, X):
            return make(len(X))

    with pytest.raises(ValueError, match=rf"method='predict' must give .* gave {message} for 2 r"):
        write_table(Model(), "predict", np.ones((2, 3)), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_results_in_other_containers(tmp_path):
    class Model:
        def series(self, X):
            return pd.Series(X[:, 0])

        def sparse(self, X):
            return csr_array(X)

        def words(self, X):
            return ["a"] * len(X)

    X = np.arange(12.0).reshape(4, 3)
    expected = {"series": X[:, :1], "sparse": X, "words": [["a"]] * 4}
    for method, rows in expected.items():
        written = pd.read_parquet(write_table(Model(), method, X, tmp_path / method))
        assert written.to_numpy().tolist() == np.asarray(rows).tolist()


def test_models_that_are_not_fitted(folder, tmp_path):
    with pytest.raises(NotFittedError, match="AutoencoderTransformer instance is not fitted"):
        write_table(AutoencoderTransformer(), "transform", folder, tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (1000, TypeError, "source=1000 must be a table"),
        (None, TypeError, "source=None must be a table"),
        ([], ValueError, r"source=\[\] names no file"),
        (np.ones(5), ValueError, "source has 1 dimensions"),
        (np.ones((0, 6)), ValueError, "source, a ndarray, has no rows"),
        (np.ones((6, 0)), ValueError, "source, a ndarray, has no columns"),
        (iter([]), TypeError, "source is a list_iterator"),
        ("nowhere", FileNotFoundError, "'nowhere'"),
    ],
)
def test_sources_that_are_no_tables(source, error, message, model, tmp_path):
    with pytest.raises(error, match=message):
        write_table(model, "transform", source, tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_a_stream_that_was_read(model, folder, tmp_path):
    reader = ds.dataset(folder).scanner().to_reader()
    write_table(model, "transform", reader, tmp_path / "out")
    with pytest.raises(ValueError, match=r"RecordBatchReader, has no rows\. A stream can be"):
        write_table(model, "transform", reader, tmp_path / "again")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, TypeError, "target=None must be a path"),
        (3, TypeError, "target=3 must be a path"),
        ("", ValueError, "target='.' must be the path of a new file"),
        (".", ValueError, "target='.' must be the path of a new file"),
        ("..", FileExistsError, "'..' exists"),
        ("file", FileExistsError, "'file' exists"),
        ("link", FileExistsError, "'link' exists"),
        ("file/out", NotADirectoryError, "file/out"),
        ("taken", FileExistsError, "'taken.partial' exists"),
    ],
)
def test_targets_that_are_no_new_files(target, error, message, model, frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken.partial").touch()
    (tmp_path / "link").symlink_to("nothing")
    before = files_below(tmp_path)
    with pytest.raises(error, match=message):
        write_table(model, "transform", frame, target)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ("uv", TypeError, "columns='uv' must be a list of names"),
        ([1, 2], TypeError, r"columns=\[1, 2\] must be a list of names"),
        (["u", "u"], ValueError, "has 'u' more than once"),
        (["u"], ValueError, "columns has 1 names, but transform gives 2"),
        ([], ValueError, "columns has 0 names"),
    ],
)
def test_names_that_cannot_be_written(columns, error, message, model, folder, tmp_path):
    with pytest.raises(error, match=message):
        write_table(model, "transform", folder, tmp_path / "out", columns=columns)
    assert not os.listdir(tmp_path)


# Sources that change between two calls.


def open_h5py(folder, X):
    h5py = pytest.importorskip("h5py", reason="skae[arrays] is not installed")
    if X is not None:
        with h5py.File(folder / "rows.h5", "w") as file:
            file["X"] = X
    return h5py.File(folder / "rows.h5", "r")["X"]


def open_zarr(folder, X):
    zarr = pytest.importorskip("zarr", reason="skae[arrays] is not installed")
    if X is not None:
        rows = zarr.create_array(folder / "z", shape=X.shape, dtype="f8", chunks=(500, 6))
        rows[:] = X
    return zarr.open_array(folder / "z", mode="r")


def open_parquet(folder, X):
    if X is not None:
        write_files(pd.DataFrame(X, columns=list("abcdef")), folder / "p", 3)
    return folder / "p"


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("opens", [open_h5py, open_zarr, open_parquet])
@pytest.mark.parametrize("is_changed", [False, True])
def test_no_half_of_an_old_source(opens, is_changed, frame, tmp_path, monkeypatch):
    X = frame.to_numpy(np.float64)
    monkeypatch.setattr(Failing, "n_left", 5)
    monkeypatch.setattr(Failing, "n_calls", 0)
    with pytest.raises(RuntimeError, match="failed"):
        write_table(Failing(), "predict", opens(tmp_path, X), tmp_path / "out")
    Failing.n_left = 100
    if is_changed:
        shutil.rmtree(tmp_path / "z", ignore_errors=True)
        X = X + 1
    source = opens(tmp_path, X if is_changed else None)
    written = pd.read_parquet(write_table(Failing(), "predict", source, tmp_path / "out"))
    assert_allclose(written["predict"], X[:, 0])
    assert Failing.n_calls == (17 if is_changed else 12)


@pytest.mark.usefixtures("small_parts")
def test_a_stream_starts_anew(folder, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "n_left", 5)
    monkeypatch.setattr(Failing, "n_calls", 0)
    with pytest.raises(RuntimeError, match="failed"):
        write_table(Failing(), "predict", ds.dataset(folder).scanner().to_reader(), tmp_path / "o")
    assert not os.listdir(tmp_path)
    Failing.n_left = 100
    target = write_table(
        Failing(), "predict", ds.dataset(folder).scanner().to_reader(), tmp_path / "o"
    )
    assert Failing.n_calls == 17
    assert_array_equal(pd.read_parquet(target)["predict"], frame["a"])


def test_parts_of_slow_methods_are_short(frame, tmp_path, set_limits, monkeypatch):
    """Many pieces are one part, unless it takes long."""
    monkeypatch.setattr(Failing, "n_left", 100)
    set_limits(piece_rows=500)
    assert len(os.listdir(write_table(Failing(), "predict", frame, tmp_path / "fast"))) == 1
    set_limits(part_seconds=0.0)
    assert len(os.listdir(write_table(Failing(), "predict", frame, tmp_path / "slow"))) == 12
    assert open_table(tmp_path / "slow").shape == open_table(tmp_path / "fast").shape


def test_progress_within_a_part(folder, tmp_path, set_limits, monkeypatch, capsys):
    shown = []

    class Model:
        def predict(self, X):
            shown.append(bar.n)
            return np.asarray(X)[:, 0]

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            nonlocal bar
            bar = self
            super().__init__(*args, **kwargs)

    bar = None
    monkeypatch.setattr("skae._engine._progress.bar_class", lambda: Bar)
    set_limits(piece_rows=2000)
    write_table(Model(), "predict", folder, tmp_path / "out", verbose=1)
    assert shown == [0, 2000, 4000]
    assert re.search(r"predict: 100%.*6\.00k/6\.00k .* rows/s", capsys.readouterr().out)
    write_table(Model(), "predict", folder, tmp_path / "quiet")
    assert capsys.readouterr().out == ""
