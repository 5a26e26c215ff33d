"""Files of models: safetensors with a document and a checksum, read with care, replaced whole."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import uuid

from skae._storage._documents import expect
from skae.exceptions import ModelFileError

# To be raised when files of earlier versions can no longer be read as they are.
FORMAT = 3
# Key of the JSON document in the metadata of the safetensors file.
ENTRY = "skae"
# In the header of the file, where quotes are escaped.
CHECKSUM = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')
NO_CHECKSUM = "0" * 64
# The header's length comes first, in this many bytes. That of safetensors is limited likewise.
LENGTH_BYTES, MAX_HEADER_BYTES = 8, 100_000_000
# Larger files are not read: no network of ours is as large.
MAX_BYTES = 2**35
# Names of temporary files, and the age at which they count as left over, in seconds.
TEMPORARY, LEFT_OVER_AFTER = re.compile(r"\.skae-[0-9a-f]{32}"), 24 * 3600


def read_file(path):
    """The bytes of a file that may be one of ours; its size is checked before it is read."""
    path = os.fsdecode(path)
    _check_is_regular(path, os.stat(path))
    # Without waiting for a writer, should the file have become a named pipe by now.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        _check_is_regular(path, status)
        start = file.read(LENGTH_BYTES)
        n_left = status.st_size - LENGTH_BYTES
        n_header = int.from_bytes(start, "little")
        if n_header > min(n_left, MAX_HEADER_BYTES):
            raise ModelFileError(
                f"{path} cannot be loaded: it is truncated, or not a file that skae.save wrote."
            )
        if status.st_size > MAX_BYTES:
            raise ModelFileError(
                f"{path} cannot be loaded: it has {status.st_size} bytes, more than {MAX_BYTES}."
            )
        # A file that grows meanwhile is not read on.
        return start + file.read(n_left)


def _check_is_regular(path, status):
    """Raise OSError if it is a folder, named pipe, socket or device, which may never end."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "A folder, not a file", path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "A pipe, socket or device, not a file", path)


def sealed(document, arrays):
    """The bytes of a file: its checksum is that of the whole with zeros in its place."""
    from safetensors.numpy import save as tensors_to_bytes

    text = json.dumps(document | {"sha256": NO_CHECKSUM}, allow_nan=False)
    content = bytearray(tensors_to_bytes(arrays, metadata={ENTRY: text}))
    checksum = CHECKSUM.search(content)
    content[slice(*checksum.span(1))] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def unsealed(content):
    """The document and the arrays of a file's bytes."""
    from safetensors.numpy import load as tensors_from_bytes

    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    header = content[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(content) < LENGTH_BYTES or len(header) < length:
        raise ModelFileError("it is truncated, or not a file that skae.save wrote")
    checksums = list(CHECKSUM.finditer(header))
    if len(checksums) != 1:
        raise ModelFileError(
            "it has no checksum: it is damaged, or not a file that skae.save wrote"
        )
    start, end = (LENGTH_BYTES + position for position in checksums[0].span(1))
    rest = hashlib.sha256(content[:start] + NO_CHECKSUM.encode())
    rest.update(memoryview(content)[end:])
    if rest.hexdigest().encode() != content[start:end]:
        raise ModelFileError("its checksum is wrong: it is damaged")
    metadata = json.loads(header).get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {ENTRY}:
        raise ModelFileError(f"its metadata must hold {ENTRY!r} only")
    document = expect(json.loads(metadata[ENTRY]), dict)
    number = document.get("format")
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise ModelFileError(
            f"it has format {number!r:.20}, written by {document.get('versions')!r:.200}; this "
            f"version of skae reads formats up to {FORMAT}"
        )
    # Arrays are views of the file's bytes, which are read-only.
    arrays = {name: array.copy() for name, array in tensors_from_bytes(content).items()}
    return document, arrays


def replace_file(path, content):
    """Write a temporary file beside `path` and rename it; remove it if anything fails.

    So do files of that kind that other calls left behind, when they are a day old.
    """
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "No such folder to save in", folder)
    mode = _mode_to_keep(target)
    temporary = os.path.join(folder, f".skae-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            now = os.fstat(file.fileno()).st_mtime
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _remove_left_over(folder, now)


def _mode_to_keep(target):
    """Permissions of the file to be replaced, None if there is none; raise if it may not be."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    _check_is_regular(target, status)
    # The superuser may write to any file, but it was made read-only for a reason.
    if not (status.st_mode & 0o222 and os.access(target, os.W_OK)):
        raise PermissionError(errno.EACCES, "A read-only file, which is not replaced", target)
    return status.st_mode & 0o777


def _remove_left_over(folder, now):
    """Remove temporary files of processes that were killed; `now` is by the clock of the disk."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > LEFT_OVER_AFTER:
                        os.unlink(entry.path)
