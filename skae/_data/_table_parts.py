"""Write a table part by part, under its name only once all parts are there."""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from skae._data._arrow import frames_of_reader, is_reader
from skae._data._parquet_files import ENDINGS
from skae._data._sources import is_source
from skae._sklearn import num_samples, safe_indexing

# Rows that go through the model at once: so many, of so many bytes at most.
PIECE_ROWS, PIECE_BYTES = 2**15, 16 * 2**20
# A part ends once its results have this size, or took this time.
PART_BYTES, PART_SECONDS = 32 * 2**20, 60.0
# A folder of one of these names would be taken for a file that is no Parquet.
OTHER_FORMATS = {".csv", ".feather", ".arrow", ".json", ".h5", ".zarr", ".npy"}
# Names with an underscore are no part of a table to what reads folders of Parquet files.
STATE = "_call"
# What begins so changes the model, or does not take rows.
NO_METHODS = ("_", "fit", "partial_fit", "set_", "get_", "sample")


class PartsOfTable:
    """The results of a method, in parts.

    Parameters
    ----------
    model : estimator
    method : str
    source : RowSource, stream of record batches, or table in memory
    target : Path
    columns : list of str or None
    """

    def __init__(
        self, model: Any, method: str, source: Any, target: Path, columns: list[str] | None
    ):
        self.model = model
        self.method = method
        self.source = source
        self.target = target
        self.columns = columns
        if not target.name:
            raise ValueError(f"target={str(target)!r} must be the path of a new file or folder.")
        self.folder = target.with_name(target.name + ".partial")
        self._check_source()
        self._check_target()
        n_columns = len(source.schema) if is_reader(source) else source.shape[1]
        self.piece_rows = int(np.clip(PIECE_BYTES // (8 * n_columns), 1, PIECE_ROWS))

    @property
    def n_rows(self) -> int | None:
        """Number of rows, if it is known before they are read."""
        return None if is_reader(self.source) else num_samples(self.source)

    def write(self, show: Callable[[int], object]) -> Path:
        """Write the parts that are missing, and put all of them in place.

        `show` is told of each number of rows that are done.
        """
        call = self._fingerprint()
        self._prepare(call)
        try:
            self._put_in_place(self._write_parts(show))
        except BaseException as error:
            if call is not None and self._part(0).exists():
                folder = str(self.folder)
                error.add_note(f"The same call goes on behind the parts that are in {folder!r}.")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self.target

    def _check_source(self) -> None:
        """Raise if there is no table to read."""
        if is_reader(self.source):
            return
        shape = np.shape(self.source)
        if len(shape) != 2:
            raise ValueError(f"source has {len(shape)} dimensions; a table has 2.")
        for length, name in zip(shape, ("rows", "columns"), strict=True):
            if not length:
                raise ValueError(f"source, {self._label}, has no {name}.")

    @property
    def _label(self) -> str:
        return repr(self.source) if is_source(self.source) else f"a {type(self.source).__name__}"

    def _check_target(self) -> None:
        """Raise if nothing can be written under the target's name."""
        folder = self.source.folder if is_source(self.source) else None
        if folder is not None and self.target.resolve().is_relative_to(folder):
            raise ValueError(
                f"target={str(self.target)!r} lies in the folder that is read, {str(folder)!r}, "
                "whose table it would become a part of: name one outside."
            )
        if self.target.suffix.lower() in OTHER_FORMATS:
            raise ValueError(
                f"target={str(self.target)!r} ends in {self.target.suffix!r}, but Parquet is "
                "written: name a file that ends in '.parquet' or '.pq', or a folder."
            )
        if os.path.lexists(self.target):
            raise FileExistsError(f"{str(self.target)!r} exists: remove it, or name another.")

    def _prepare(self, call: str | None) -> None:
        """Make the folder of parts; those of another call are removed."""
        path = self.folder / STATE
        if path.exists():
            if path.read_text() == call:
                return
            shutil.rmtree(self.folder)
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise FileExistsError(
                f"{str(self.folder)!r} exists, and holds no parts of a table: remove it, or name "
                "another target."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(call or "")

    def _fingerprint(self) -> str | None:
        """What is the same in calls that give the same results; None if that is not known."""
        rows: Any = None
        if is_source(self.source):
            rows = self.source.version and (self.source.names, self.source.version)
        elif not is_reader(self.source):
            rows = _digest(self.source)
        model = _digest(self.model)
        if rows is None or model is None:
            return None
        text = repr((model, self.method, rows, self.columns, self.piece_rows))
        return hashlib.sha256(text.encode()).hexdigest()

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _finished(self) -> tuple[list[Path], int]:
        """Parts that were written before, and the number of their rows."""
        import pyarrow.parquet as pq

        parts = list(takewhile(Path.exists, map(self._part, count())))
        return parts, sum(pq.read_metadata(part).num_rows for part in parts)

    def _write_parts(self, show: Callable[[int], object]) -> list[Path]:
        """Write the parts that are missing; all of them."""
        parts, n_done = self._finished()
        show(n_done)
        waiting: list[Any] = []
        began = time.monotonic()

        def finish() -> None:
            parts.append(_written(waiting, self._part(len(parts))))
            waiting.clear()

        for rows in self._pieces(n_done):
            waiting.append(self._results(rows))
            show(len(waiting[-1]))
            is_late = time.monotonic() - began > PART_SECONDS
            if is_late or sum(table.nbytes for table in waiting) >= PART_BYTES:
                finish()
                began = time.monotonic()
        if waiting:
            finish()
        if not parts:
            raise ValueError(f"source, {self._label}, has no rows. A stream can be read only once.")
        return parts

    def _put_in_place(self, parts: list[Path]) -> None:
        if self.target.suffix.lower() in ENDINGS:
            whole = self.folder / "whole"
            _merge(parts, whole)
            os.replace(whole, self.target)
            shutil.rmtree(self.folder)
        else:
            os.replace(self.folder, self.target)
            (self.target / STATE).unlink()

    def _pieces(self, start: int) -> Iterator[Any]:
        """Yield rows, many at a time, from one on."""
        if is_reader(self.source):
            yield from frames_of_reader(self.source, self.piece_rows)
            return
        stop = num_samples(self.source)
        for at in range(start, stop, self.piece_rows):
            yield self._rows(at, min(at + self.piece_rows, stop))

    def _rows(self, start: int, stop: int) -> Any:
        if not is_source(self.source):
            return safe_indexing(self.source, slice(start, stop))
        rows = self.source[start:stop]
        if self.source.names is None or not hasattr(self.model, "feature_names_in_"):
            return rows
        import pandas as pd

        return pd.DataFrame(rows, columns=self.source.names)

    def _results(self, rows: Any) -> Any:
        """An Arrow table of what the method gives for these rows."""
        import pyarrow as pa

        values = getattr(self.model, self.method)(rows)
        values = values.toarray() if issparse(values) else values
        shape = getattr(values, "shape", None) or np.shape(values)
        fits = len(shape) in (1, 2) and shape[0] == num_samples(rows) and 0 not in shape
        if isinstance(values, tuple) or not fits:
            what = f"shape {shape}" if len(shape) else f"type {type(values).__name__}"
            what = "a tuple" if isinstance(values, tuple) else f"a result of {what}"
            raise ValueError(
                f"method={self.method!r} must give one number or one row for each row, but gave "
                f"{what} for {num_samples(rows)} rows."
            )
        if hasattr(values, "iloc") and len(shape) == 2:
            table = pa.Table.from_pandas(values, self._schema(values), preserve_index=False)
        elif hasattr(values, "to_arrow") and len(shape) == 2:
            table = values.to_arrow()
        else:
            values = np.asarray(values)
            is_single = values.ndim == 1
            values = values[:, None] if is_single else values
            names = self._names(values.shape[1], is_single)
            return pa.table([pa.array(column) for column in values.T], names=names)
        if self.columns is None:
            return table
        return table.rename_columns(self._names(len(table.schema)))

    def _schema(self, frame: Any) -> Any:
        """Types of a frame's columns, the same for all parts, one of which may lack any cell.

        Those of objects are the source's.
        """
        import pyarrow as pa

        schema, known = pa.Schema.from_pandas(frame, preserve_index=False), self._known_schema
        for i, (name, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
            is_object = isinstance(dtype, np.dtype) and dtype.kind == "O"
            if is_object and known is not None and name in known.names:
                schema = schema.set(i, known.field(name))
        return schema

    @cached_property
    def _known_schema(self) -> Any:
        """The Arrow schema of the source, if it has one."""
        if hasattr(self.source, "iloc"):
            import pyarrow as pa

            return pa.Schema.from_pandas(self.source, preserve_index=False)
        is_of_arrow = is_source(self.source) or is_reader(self.source)
        return getattr(self.source, "schema", None) if is_of_arrow else None

    def _names(self, n_columns: int, is_single: bool = False) -> list[str]:
        """Names of so many columns of results; a single one is of a number for each row."""
        if self.columns is not None:
            if len(self.columns) != n_columns:
                raise ValueError(
                    f"columns has {len(self.columns)} names, but {self.method} gives "
                    f"{n_columns} columns."
                )
            return self.columns
        if is_single:
            return [self.method]
        attribute = "names" if is_source(self.source) else "columns"
        names = getattr(self.source, attribute, None)
        return [*map(str, names_of_results(self.model, self.method, n_columns, names))]


def names_of_results(
    model: Any, method: str, n_columns: int, names: Sequence[Any] | None
) -> list[Any]:
    """Names of the columns that a method gives for a table with columns of these names.

    Latents are named by ``get_feature_names_out`` of estimators whose ``transform`` gives them, and
    what ``transform`` gives by that of any. Other results have the names of the columns of rows if
    they are as many. What is left is numbered behind the name of the method.
    """
    found: Any = None
    of_latents = ClassNamePrefixFeaturesOutMixin.get_feature_names_out
    names_latents = getattr(type(model), "get_feature_names_out", None) is of_latents
    if method == "transform" and hasattr(model, "get_feature_names_out"):
        found = model.get_feature_names_out()
    elif method == "encode":
        found = model.get_feature_names_out() if names_latents else None
    elif method not in ("decode", "inverse_transform"):
        found = getattr(model, "feature_names_in_", names)
    else:  # the table holds latents
        found = getattr(model, "feature_names_in_", None)
    if found is not None and len(found) == n_columns:
        return [*found]
    return [f"{method}{j}" for j in range(n_columns)]


def check_method(model: Any, method: Any, **kwargs: Any) -> None:
    """Raise if a model has no such method, it does not take rows alone, or is not fitted.

    Where there are further arguments, the call itself tells what is wrong with them.
    """
    call = getattr(model, method, None) if isinstance(method, str) else None
    if not callable(call):
        raise ValueError(f"method={method!r}: {type(model).__name__} has no such method.")
    takes_rows = not method.startswith(NO_METHODS)
    try:
        inspect.signature(call).bind("rows", **kwargs)
    except TypeError:
        takes_rows = takes_rows and bool(kwargs)
    if not takes_rows:
        advice = ""
        if method == "sample":
            advice = " Drawn rows are in memory: sample(n).to_parquet(target)."
        raise ValueError(
            f"method={method!r} must be one that takes rows, and gives one number or one row for "
            f"each: 'transform', 'predict' or 'score_samples', say.{advice}"
        )
    if hasattr(model, "fit"):
        check_is_fitted(model)


def _digest(value: Any) -> str | None:
    """The same for the same content; None of what cannot be pickled."""
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except (AttributeError, TypeError, pickle.PicklingError):
        return None


def _written(tables: list[Any], path: Path) -> Path:
    """The path of a file with the rows of several tables; if writing fails, there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting = path.with_suffix(".waiting")
    try:
        pq.write_table(pa.concat_tables(tables), waiting)
        os.replace(waiting, path)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{str(path)!r} cannot be written. {error.strerror or error}"
        ) from error
    return path


def _merge(parts: list[Path], path: Path) -> None:
    """One file with the row groups of several."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetWriter(path, pq.read_schema(parts[0])) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, f"{str(path)!r} cannot be written. {error}") from error
