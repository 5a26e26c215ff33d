"""Data sets of Arrow out of paths of Parquet files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ENDINGS = (".parquet", ".pq")
OF_ARRAYS = "An array of HDF5 or zarr is opened by h5py or zarr, and then passed."


def are_paths(X: Any) -> bool:
    """Whether X is a path, or a list of them."""
    paths = X if isinstance(X, list | tuple) else [X]
    return all(isinstance(path, str | os.PathLike) for path in paths)


def is_parquet_path(x: Any) -> bool:
    """Whether x is a path, or a string that ends as one of a Parquet file does."""
    return isinstance(x, os.PathLike) or (isinstance(x, str) and x.lower().endswith(ENDINGS))


def open_dataset(paths: Any) -> Any:
    """The data set of a Parquet file, of all those in a folder, or of those in a list."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    is_list = isinstance(paths, list | tuple)
    files = _listed(paths) if is_list else _found(Path(paths))
    # As pandas reads columns that folders are named for.
    by_folder: dict[str, Any] = {}
    if not is_list and Path(paths).is_dir():
        by_folder["partitioning"] = ds.HivePartitioning.discover(infer_dictionary=True)
        by_folder["partition_base_dir"] = str(paths)
    try:
        return ds.dataset([str(file) for file in files], format="parquet", **by_folder)
    except pa.ArrowTypeError as error:
        raise ValueError(
            f"{str(paths)!r} has a column both in its files and in the names of their folders, of "
            f"two types: {error}"
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        if "duplicate field names" in str(error):
            raise ValueError(_repeated_name(files)) from error
        name = paths[0] if is_list else paths
        raise OSError(f"{str(name)!r} is no table of Parquet: {error} {OF_ARRAYS}") from error


def _listed(paths: Any) -> list[Path]:
    """Files of a list, in its order."""
    if not paths:
        raise ValueError(f"source={paths!r} names no file.")
    for path in map(Path, paths):
        _check_exists(path)
        if path.is_dir():
            raise ValueError(
                f"{str(path)!r} is a folder: pass it alone, or a list of the files in it."
            )
    return [Path(path) for path in paths]


def _found(path: Path) -> list[Path]:
    """A file, or those of a folder, in the order of their names."""
    _check_exists(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
    files = [file for file in files if not file.name.startswith((".", "_"))]
    if not files:
        raise ValueError(
            f"The folder {str(path)!r} has no Parquet files (*.parquet, *.pq). {OF_ARRAYS}"
        )
    return files


def _check_exists(path: Path) -> None:
    if path.exists():
        return
    advice = ""
    if any(mark in str(path) for mark in "*?["):
        advice = " Patterns are not resolved: pass the folder."
    raise FileNotFoundError(f"There is no file or folder {str(path)!r}.{advice}")


def _repeated_name(files: list[Path]) -> str:
    """Which file has several columns of one name."""
    import pyarrow.parquet as pq

    for file in files:
        names = pq.read_schema(file).names
        for name in names:
            if names.count(name) > 1:
                return f"{file} has a column {name!r} more than once; names must differ."
    return "A file has several columns of one name; names must differ."
