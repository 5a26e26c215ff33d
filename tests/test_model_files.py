"""Files that saving replaces and loading reads: of what sort, how large, and what is left over."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest

import skae
from skae._storage import _files
from skae.exceptions import ModelFileError

X = np.random.default_rng(0).normal(size=(30, 3))


@pytest.fixture(scope="module")
def model():
    return skae.AutoencoderTransformer(2, hidden_layer_sizes=(3,), max_epochs=1).fit(X)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    before = Path.cwd()
    os.chdir(path.parent)  # paths of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def make_link_to_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def make_link_to_device(path):
    path.symlink_to(os.devnull)


@pytest.mark.skipif(os.name != "posix", reason="such files are POSIX's")
@pytest.mark.parametrize(
    "make", [make_pipe, make_socket, make_link_to_pipe, make_link_to_device, Path.mkdir]
)
def test_only_files_are_read_and_replaced(make, model, tmp_path):
    path = tmp_path / "model.skae"
    make(path)
    before = os.stat(path).st_mode
    sentence = r"(A pipe, socket or device|A folder), not a file"
    with pytest.raises(OSError, match=sentence):
        skae.load(path)
    with pytest.raises(OSError, match=sentence):
        skae.save(model, path)
    assert os.stat(path).st_mode == before
    assert not list(tmp_path.glob(".skae-*"))


def test_a_read_only_file_is_not_replaced(model, tmp_path):
    path, link = tmp_path / "model.skae", tmp_path / "link.skae"
    skae.save(model, path)
    before = path.read_bytes()
    path.chmod(0o444)
    try:
        link.symlink_to(path)
        targets = [path, link]
    except OSError:  # without the right to make links
        targets = [path]
    for target in targets:
        with pytest.raises(PermissionError, match=r"read-only.*model\.skae"):
            skae.save(model, target)
    assert path.read_bytes() == before
    assert skae.load(path).n_components_ == 2
    path.chmod(0o644)
    skae.save(model, path)


def test_links_that_lead_nowhere_are_followed_by_saving(model, tmp_path):
    link = tmp_path / "link.skae"
    link.symlink_to("later.skae")
    skae.save(model, link)
    assert link.is_symlink()
    assert (tmp_path / "later.skae").is_file()
    assert skae.load(link).n_components_ == 2


@pytest.mark.parametrize("as_type", [str, os.fsencode, Path])
def test_paths_are_of_any_type(as_type, model, tmp_path):
    path = as_type(tmp_path / "model.skae")
    skae.save(model, path)
    assert skae.load(path).n_components_ == 2


def test_open_files_are_no_paths(model):
    for use in (skae.load, lambda number: skae.save(model, number)):
        with pytest.raises(TypeError):
            use(7)


@pytest.mark.parametrize("n_header", [1000, 2**31, 2**63])
def test_the_header_is_not_longer_than_the_file(n_header, tmp_path, monkeypatch):
    path = tmp_path / "model.skae"
    path.write_bytes(n_header.to_bytes(8, "little") + b"{}" * 50)
    monkeypatch.setattr(_files, "unsealed", None)  # refused before anything is parsed
    with pytest.raises(ModelFileError, match="truncated, or not a file"):
        skae.load(path)


def test_files_beyond_the_limit_are_not_read(model, tmp_path, monkeypatch):
    path = tmp_path / "model.skae"
    skae.save(model, path)
    monkeypatch.setattr(_files, "MAX_BYTES", path.stat().st_size)
    skae.load(path)
    monkeypatch.setattr(_files, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ModelFileError, match="more than"):
        skae.load(path)


def left_over(folder, age, name=".skae-" + 32 * "a"):
    path = folder / name
    path.write_bytes(b"half a model")
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_what_killed_saves_left_behind_is_removed_after_a_day(model, tmp_path):
    day = _files.LEFT_OVER_AFTER
    old = left_over(tmp_path, 1.1 * day)
    kept = [
        left_over(tmp_path, 0.9 * day, ".skae-" + 32 * "b"),  # perhaps of another process
        left_over(tmp_path, 0, ".skae-" + 32 * "c"),
        left_over(tmp_path, 9 * day, ".skae-" + 31 * "a"),
        left_over(tmp_path, 9 * day, ".skae-" + 32 * "A"),
        left_over(tmp_path, 9 * day, "model.skae-" + 32 * "a"),
        left_over(tmp_path, 9 * day, "other.skae"),
    ]
    folder = tmp_path / (".skae-" + 32 * "d")
    folder.mkdir()
    os.utime(folder, (0, 0))
    skae.save(model, tmp_path / "model.skae")
    assert not old.exists()
    assert set(tmp_path.iterdir()) == {*kept, folder, tmp_path / "model.skae"}


def test_left_over_files_that_cannot_be_removed_do_not_matter(model, tmp_path, monkeypatch):
    old = left_over(tmp_path, 9 * _files.LEFT_OVER_AFTER)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(_files.os, "unlink", refuse)
    skae.save(model, tmp_path / "model.skae")
    assert old.exists()
    assert skae.load(tmp_path / "model.skae").n_components_ == 2
