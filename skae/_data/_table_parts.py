"""Write a table part by part, under its name only once all parts are there."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skae._data._arrow import frames_of_reader, is_reader
from skae._data._sources import is_source
from skae._sklearn import num_samples, safe_indexing

# Size of the rows that a part is computed from, and of a copy of it, in bytes.
PART_BYTES = 32 * 2**20
# A folder of one of these names would be taken for a file that is no Parquet.
OTHER_FORMATS = {".csv", ".feather", ".arrow", ".json", ".h5", ".zarr", ".npy"}
# Names with an underscore are no part of a table to what reads folders of Parquet files.
STATE = "_call"


class PartsOfTable:
    """The results of a method, in parts.

    Parameters
    ----------
    model : estimator
    method : str
    source : RowSource, stream of record batches, or table in memory
    target : Path
    columns : sequence of str or None
    """

    def __init__(
        self, model: Any, method: str, source: Any, target: Path, columns: Sequence[str] | None
    ):
        self.model = model
        self.method = method
        self.source = source
        self.target = target
        self.columns = None if columns is None else list(columns)
        self.folder = target.with_name(target.name + ".partial")
        n_columns = len(source.schema) if is_reader(source) else source.shape[1]
        self.n_rows = max(1, PART_BYTES // (8 * n_columns))

    def write(self) -> Path:
        """Write the parts that are missing, and put all of them in place."""
        self._check_target()
        self._prepare()
        n_parts = 0
        for rows in self._tables():
            part = self._part(n_parts)
            if not part.exists():
                _write(self._results(rows() if callable(rows) else rows), part)
            n_parts += 1
        if not n_parts:
            shutil.rmtree(self.folder)
            raise ValueError(f"{self.source!r} has no rows.")
        if self.target.suffix in (".parquet", ".pq"):
            whole = self.folder / "whole"
            _merge([self._part(i) for i in range(n_parts)], whole)
            os.replace(whole, self.target)
            shutil.rmtree(self.folder)
        else:
            os.replace(self.folder, self.target)
            (self.target / STATE).unlink()
        return self.target

    def _check_target(self) -> None:
        """Raise if nothing can be written under the target's name."""
        folder = getattr(self.source, "folder", None)
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
        if self.target.exists():
            raise FileExistsError(f"{str(self.target)!r} exists: remove it, or name another.")

    def _prepare(self) -> None:
        """Make the folder of parts; those of another call are removed."""
        call, path = self._fingerprint(), self.folder / STATE
        if path.exists():
            if path.read_text() == call:
                return
            shutil.rmtree(self.folder)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise FileExistsError(
                f"{str(self.folder)!r} exists, and holds no parts of a table: remove it, or name "
                "another target."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(call)

    def _fingerprint(self) -> str:
        """What is the same in calls that give the same results."""
        rows: Any = type(self.source).__name__
        if is_source(self.source):
            units = self.source.units
            rows = [(unit.start, unit.stop, unit.label, _time_of(unit.label)) for unit in units]
        elif not is_reader(self.source):
            rows = hashlib.sha256(pickle.dumps(self.source)).hexdigest()
        model = hashlib.sha256(pickle.dumps(self.model)).hexdigest()
        text = repr((model, self.method, rows, self.columns, self.n_rows))
        return hashlib.sha256(text.encode()).hexdigest()

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _tables(self) -> Iterator[Any]:
        """Yield rows for each part, or functions that read them."""
        if is_reader(self.source):
            yield from frames_of_reader(self.source, self.n_rows)
            return
        for start in range(0, num_samples(self.source), self.n_rows):
            yield lambda start=start: self._rows(start)

    def _rows(self, start: int) -> Any:
        stop = min(start + self.n_rows, num_samples(self.source))
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
        n_rows = num_samples(values)
        if n_rows != num_samples(rows):
            raise ValueError(
                f"{self.method} gave {n_rows} rows for {num_samples(rows)}; it must give as many."
            )
        if hasattr(values, "iloc"):
            table = pa.Table.from_pandas(values, self._schema(values), preserve_index=False)
        elif hasattr(values, "to_arrow"):
            table = values.to_arrow()
        else:
            values = np.asarray(values)
            values = values[:, None] if values.ndim == 1 else values
            names = self._names(values.shape[1])
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

    @property
    def _known_schema(self) -> Any:
        """The Arrow schema of the source, if it has one."""
        if hasattr(self.source, "iloc"):
            import pyarrow as pa

            return pa.Schema.from_pandas(self.source, preserve_index=False)
        return getattr(self.source, "schema", None)

    def _names(self, n_columns: int) -> list[str]:
        """Names of so many columns of results."""
        if self.columns is not None:
            if len(self.columns) != n_columns:
                raise ValueError(
                    f"columns has {len(self.columns)} names, but {self.method} gives "
                    f"{n_columns} columns."
                )
            return self.columns
        if self.method == "transform" and hasattr(self.model, "get_feature_names_out"):
            names = list(map(str, self.model.get_feature_names_out()))
            if len(names) == n_columns:
                return names
        if n_columns == 1:
            return [self.method]
        names = getattr(self.source, "names", None) or []
        if len(names) == n_columns:
            return names
        return [f"{self.method}{j}" for j in range(n_columns)]


def _time_of(label: str) -> int:
    """When a file was written last; 0 if it is none."""
    return Path(label).stat().st_mtime_ns if Path(label).is_file() else 0


def _write(table: Any, path: Path) -> None:
    """Write a file; if that fails, there is none."""
    import pyarrow.parquet as pq

    waiting = path.with_suffix(".waiting")
    try:
        pq.write_table(table, waiting)
        os.replace(waiting, path)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{str(path)!r} cannot be written; parts before it are kept, and the same call goes on "
            f"behind them. {error.strerror or error}",
        ) from error


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
