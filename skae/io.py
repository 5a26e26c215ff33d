"""Tables on disk in, tables on disk out; both are read and written in pieces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skae._data._arrow import is_reader, table_of_dataset
from skae._data._open import as_source
from skae._data._parquet_files import are_paths, open_dataset
from skae._data._sources import RowSource
from skae._data._table_parts import PartsOfTable, check_method
from skae._data._tables import as_table
from skae._engine._progress import rows_bar

__all__ = ["open_table", "write_table"]


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Parquet files are read and written by pyarrow: pip install "skae[parquet]".'
        ) from error


def _checked_names(columns: Any) -> list[str] | None:
    """Names of columns as a list."""
    if columns is None:
        return None
    is_list = hasattr(columns, "__iter__") and not isinstance(columns, str | bytes)
    names = list(columns) if is_list else [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"columns={columns!r} must be a list of names, or None.")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"columns={columns!r} has {repeated[0]!r} more than once.")
    return names


def open_table(source: Any, columns: Sequence[str] | None = None) -> RowSource:
    """Open a table on disk, to be fitted to and read in pieces.

    Nothing is read but the footers of the files. All estimators take what comes back in the place
    of an array.

    Parameters
    ----------
    source : path, list of paths, pyarrow.dataset.Dataset, h5py.Dataset, zarr.Array or RowSource
        A Parquet file, a folder of them (``*.parquet`` or ``*.pq``, in subfolders too, in the
        order of their names; ``class=a`` in a path is a column), a list of such files, in its
        order, or a two-dimensional array. A table that is open comes back as it is.
    columns : sequence of str, default=None
        Names of the columns to read, in this order. None means all but those that pandas wrote an
        index to. Arrays have no names.

    Returns
    -------
    table : RowSource
        With `n_rows`, `n_features`, `shape`, `names` and `dtypes`. If all columns hold numbers,
        ``table[:5]`` and other selections of rows are arrays: float32 if no column needs more,
        else float64; a missing cell is NaN. Otherwise they are frames, as of
        ``pandas.read_parquet``.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    TypeError
        If a column holds neither numbers nor strings, categories, dates or times, `source` is
        nothing of these, such as a group of arrays, or `columns` is no list of names.
    ValueError
        If a folder has no Parquet files, a list none or a folder, an HDF5 file is closed, the
        schemas of files differ, or a column is unknown or occurs more than once. A column of which
        a file holds no cell may be of another type there; numbers of different types are cast if
        the schema of a ``pyarrow.dataset`` says so.
    OSError
        If a file is not of Parquet, or damaged.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skae import AutoencoderTransformer
    >>> from skae.io import open_table
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(100, 3)), columns=["a", "b", "c"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_parquet(os.path.join(folder, "rows.parquet"))
    ...     table = open_table(folder, columns=["a", "b"])
    ...     Z = AutoencoderTransformer(1, max_epochs=2, random_state=0).fit_transform(table)
    >>> table.shape, table.names, Z.shape
    ((100, 2), ['a', 'b'], (100, 1))
    """
    columns = _checked_names(columns)
    folder = None
    if are_paths(source):
        _require_pyarrow()
        folder = None if isinstance(source, list | tuple) else Path(source)
        table = table_of_dataset(open_dataset(source), columns)
    else:
        table = as_source(source, columns)
    if table is None:
        raise TypeError(
            f"source, of type {type(source).__name__}, must be a path, a list of paths, a data "
            "set of Arrow or an array of h5py or zarr. Tables in memory are fitted as they are."
        )
    if columns is not None and table is source:
        raise ValueError(f"columns={columns!r}: {table!r} is open; choose them when it is opened.")
    if columns is not None and table.names is None:
        raise ValueError(f"columns={columns!r}: the columns of {table.label} have no names.")
    if folder is not None and folder.is_dir():
        table.folder = folder.resolve()
    return table


def write_table(
    model: Any,
    method: str,
    source: Any,
    target: Any,
    columns: Sequence[str] | None = None,
    verbose: int = 0,
) -> Path:
    """Write what a method gives for each row of a table, as Parquet, in the order of the rows.

    Only a part of the rows is in memory. Nothing is under the target's name until all is there.
    Finished parts are kept in the folder ``TARGET.partial``: if the call ends before its time, the
    same call goes on behind them, unless the source was changed in the meantime.

    Parameters
    ----------
    model : estimator
        Fitted.
    method : str
        Name of a method that takes rows and gives one number, or one row, for each: "transform",
        "reconstruct", "predict" or "score_samples", say.
    source : path, list of paths, table on disk, pyarrow.RecordBatchReader or table in memory
        As for ``open_table``. Of a stream, or a table on disk of which no file is known, nothing
        tells whether it is the same again: such a call starts anew. So does one whose model cannot
        be pickled.
    target : str or path-like
        A folder that is made, with a file for each part; or a single file, if it ends in
        ``.parquet`` or ``.pq``. It may not lie in the folder that is read.
    columns : sequence of str, default=None
        Names of the columns to write. None means those of ``get_feature_names_out`` for
        "transform", and for "encode" where that gives the same; those of the frame where the method
        gives one; those of the columns of rows where there are as many; the name of the method
        where it gives one number for each row; and else this name with numbers behind it.
    verbose : int, default=0
        If above 0, a bar shows the rows that are done, rows per second and the time left. It moves
        on after 32 768 rows, or fewer if they are wide.

    Returns
    -------
    target : pathlib.Path

    Raises
    ------
    FileExistsError
        If there is something under the target's name, or another folder under ``TARGET.partial``.
    NotFittedError
        If the model is not fitted.
    OSError
        If a file cannot be read or written.
    TypeError
        If `source` is no table, `target` no path, or `columns` no list of names.
    ValueError
        If the model has no such method, or it is private, trains or draws; the source has no rows,
        the method does not give one row for each, there are more or fewer `columns`, or the target
        lies in the folder of the source or has the ending of another format, such as ``.csv``.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.io import open_table, write_table
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_parquet(os.path.join(folder, "rows.parquet"))
    ...     table = open_table(os.path.join(folder, "rows.parquet"))
    ...     detector = AutoencoderOutlierDetector(random_state=0).fit(table)
    ...     target = os.path.join(folder, "scores.parquet")
    ...     scores = pd.read_parquet(write_table(detector, "score_samples", table, target))
    >>> scores.shape, list(scores.columns)
    ((200, 1), ['score_samples'])
    """
    _require_pyarrow()
    check_method(model, method)
    if are_paths(source):
        source = open_table(source)
    elif not is_reader(source):
        source = as_table(source, "source")
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target={target!r} must be a path.")
    parts = PartsOfTable(model, method, source, Path(target), _checked_names(columns))
    with rows_bar(method, parts.n_rows, verbose) as bar:
        return parts.write(bar.update)
