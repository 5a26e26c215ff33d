"""Tables of Arrow: Parquet files and other data sets, and streams of record batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skae._data._sources import RowSource, Unit, ahead

# Rows that are decoded at once: few enough for the columns to be put side by side in the cache.
ROWS_AT_ONCE = 16_384
# Of each column chunk, so much is read from the file at once; less where there are many.
READ_BYTES, READ_BYTES_OF_ALL, LEAST_READ_BYTES = 2**18, 2**23, 2**14
ADVICE = "Leave it out by columns=[...] of skae.io.open_table, or encode it before."


class ArrowSource(RowSource):
    """Rows of numbers of a data set of Arrow.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
    columns : sequence of str, default=None
        Names of the columns to read; None means all but those that pandas would make an index.
    may_cast : bool, default=False
        Whether numbers of a file may be of another type than the data set declares.
    """

    def __init__(self, dataset: Any, columns: Sequence[str] | None = None, may_cast: bool = False):
        import pyarrow as pa

        self.schema = fields_of(dataset.schema, columns)
        try:
            fragments = list(dataset.get_fragments())
        except ValueError as error:
            raise TypeError(
                "X is a data set with a filter: write the rows that it leaves by "
                "pyarrow.dataset.write_dataset, and read those."
            ) from error
        units: list[Unit] = []
        self.has_gaps = False
        for fragment in fragments:
            _check_schema(fragment, self.schema, dataset.schema, may_cast)
            start = units[-1].stop if units else 0
            units += _units(fragment, start)
            # Of a file that holds no cell of a column, the footer does not say that they miss.
            self.has_gaps |= any(map(pa.types.is_null, fragment.physical_schema.types))
            self.has_gaps |= None in _partition_values(fragment).values()
        files = set(map(_label, fragments))
        label = files.pop() if len(files) == 1 else f"data set of {len(fragments)} files"
        super().__init__(units, len(self.schema), _dtype(self.schema), self.schema.names, label)

    @property
    def frame_bytes(self) -> int:
        """About the size of all rows as a frame."""
        return self.n_rows * sum(map(_cell_bytes, self.schema.types))

    @property
    def header(self) -> Any:
        return self.schema.empty_table().to_pandas()

    @property
    def with_gaps(self) -> Self:
        """The same rows, known to miss some cells: NaN is no gap to footers."""
        other = copy(self)
        other.has_gaps = True
        return other

    def misses_cells(self) -> bool:
        """Whether some cells are known to be missing, or the footers of Parquet files say so."""
        return self.has_gaps or any(_tells_of_nulls(unit, self.schema.names) for unit in self.units)

    @property
    def version(self) -> Any:
        files: dict[str, Any] = {}
        for fragment, _ in (unit.place for unit in self.units):
            if not hasattr(fragment, "filesystem"):
                return None  # rows in memory
            if fragment.path not in files:
                files[fragment.path] = fragment.filesystem.get_file_info(fragment.path)
        times = [(path, info.size, info.mtime_ns) for path, info in files.items()]
        return None if any(time is None for _, _, time in times) else times

    def batches(self, unit: Unit, n_rows: int) -> Iterator[Any]:
        """Yield record batches of a unit, each with the schema of all."""
        import pyarrow as pa

        try:
            yield from _batches(unit, self.schema, min(ROWS_AT_ONCE, n_rows))
            pa.default_memory_pool().release_unused()  # it would keep what it decoded to
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise OSError(f"{unit.label} cannot be read: {error}") from error

    def all_batches(self) -> Iterator[Any]:
        """Yield record batches of all units, the next of which is on its way."""
        units = (self.batches(unit, self.rows_per_piece) for unit in self.units)
        yield from ahead(chain.from_iterable(units))

    def read_frames(self, unit: Unit, n_rows: int) -> Iterator[Any]:
        for batch in self.batches(unit, n_rows):
            yield batch.to_pandas()

    def read_frame(self) -> Any:
        """All rows as a frame of pandas."""
        return self.frame_of(list(self.all_batches()))

    def ends(self) -> Any:
        """A frame of pandas of the first row and the last."""
        first = next(self.batches(self.units[0], 1))
        *_, last = self.batches(self.units[-1], self.rows_per_piece)
        return self.frame_of([first, last.slice(len(last) - 1)])

    def frame_of(self, batches: list[Any]) -> Any:
        """The rows of some record batches as a frame of pandas."""
        import pyarrow as pa

        return pa.Table.from_batches(batches, self.schema).to_pandas()

    def _read(self, unit: Unit) -> Iterator[Any]:
        yield from map(self._piece, self.batches(unit, self.rows_per_piece))

    def _read_wanted(self, unit: Unit, is_wanted: Any) -> Iterator[tuple[int, Any]]:
        import pyarrow as pa

        start = 0
        for batch in self.batches(unit, self.rows_per_piece):
            chosen = batch
            if is_wanted is not None:  # before columns are put side by side: that takes as long
                here = is_wanted[start : start + len(batch)]
                chosen = batch.slice(0, len(here)).filter(pa.array(here))
            yield len(batch), self._piece(chosen)
            start += len(batch)

    def _piece(self, batch: Any) -> Any:
        return as_matrix(batch, self.schema.names, self.dtype)


class ArrowFrames(ArrowSource):
    """Rows of a data set of Arrow that hold more than numbers; they come out as frames."""

    @property
    def dtypes(self) -> dict[Any, Any]:
        """The dtype of each column."""
        return dict(self.header.dtypes)

    def read_all(self) -> Any:
        """All rows, in memory."""
        return self.read_frame()

    def _piece(self, batch: Any) -> Any:
        return Piece(batch)

    def _take(self, numbers: NDArray[np.intp]) -> Any:
        order = np.argsort(numbers, kind="stable")
        taken = self._pieces_with(numbers[order])
        rows = self._joined([piece[places] for _, places, piece in taken])
        return rows.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)

    def _joined(self, parts: list[Any]) -> Any:
        return self.frame_of([part.batch for part in parts])


@dataclass(frozen=True)
class Piece:
    """Rows of a record batch, indexed as those of an array are."""

    batch: Any

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, selection: Any) -> Piece:
        if isinstance(selection, slice):
            start, stop, _ = selection.indices(len(self))
            return Piece(self.batch.slice(start, max(0, stop - start)))
        return Piece(self.batch.take(np.asarray(selection)))


def table_of_dataset(
    dataset: Any, columns: Sequence[str] | None = None, may_cast: bool = False
) -> ArrowSource:
    """The rows of a data set of Arrow: arrays, if all columns hold numbers."""
    dataset = _with_known_types(dataset)
    fields = fields_of(dataset.schema, columns)
    holds_numbers = all(map(_may_be_number, fields.types))
    return (ArrowSource if holds_numbers else ArrowFrames)(dataset, columns, may_cast)


def _with_known_types(dataset: Any) -> Any:
    """A data set whose first file may hold no cell of a column: its type is that of the others."""
    import pyarrow as pa

    schema = dataset.schema
    if not any(map(pa.types.is_null, schema.types)):
        return dataset
    try:
        others = [fragment.physical_schema for fragment in dataset.get_fragments()]
    except (OSError, ValueError):
        return dataset  # which is an error where the files are looked at
    for j, field in enumerate(schema):
        found = [other.field(field.name) for other in others if field.name in other.names]
        kinds = [field.type for field in found if not pa.types.is_null(field.type)]
        if pa.types.is_null(field.type) and kinds:
            schema = schema.set(j, field.with_type(kinds[0]))
    return dataset.replace_schema(schema)


def is_reader(X: Any) -> bool:
    """Whether X is a stream of record batches, which can be read once."""
    return type(X).__module__.partition(".")[0] == "pyarrow" and hasattr(X, "read_next_batch")


def frames_of_reader(reader: Any, n_rows: int) -> Iterator[Any]:
    """Yield the rows of a stream as frames, `n_rows` at a time."""
    import pyarrow as pa

    schema = fields_of(reader.schema, None)
    waiting: list[Any] = []
    for batch in reader:
        waiting.append(_with_schema(batch, schema))
        while sum(map(len, waiting)) >= n_rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, n_rows).to_pandas()
            waiting = table.slice(n_rows).to_batches()
    if sum(map(len, waiting)):
        yield pa.Table.from_batches(waiting).to_pandas()


def as_matrix(batch: Any, names: Sequence[str], dtype: Any) -> NDArray[Any]:
    """Columns of a record batch side by side, NaN where a cell is missing."""
    out = np.empty((len(batch), len(names)), dtype)
    for j, name in enumerate(names):
        out[:, j] = _numbers(batch.column(name))
    return out


def _numbers(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    needs_cast = (pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if any(is_kind(column.type) for is_kind in needs_cast):
        column = column.cast(pa.float64())
    return column.to_numpy(zero_copy_only=False)  # of integers with gaps, floats


def fields_of(schema: Any, columns: Sequence[str] | None) -> Any:
    """The schema of some columns, or of all; raise if one is unknown, or of no use."""
    import pyarrow as pa

    known = _pandas_metadata(schema)
    names = list(columns) if columns is not None else _names_without_index(schema, known)
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise ValueError(f"columns has {unknown[0]!r}, but the table has {schema.names}.")
    repeated = [name for name in names if schema.names.count(name) > 1]
    if repeated or not names:
        what = f"{repeated[0]!r} more than once" if repeated else "no column"
        raise ValueError(f"The table has {what}; a table has columns of different names.")
    fields = [schema.field(name) for name in names]
    for field in fields:
        if not _is_number(field.type) and not _is_mixed(field.type):
            raise TypeError(
                f"Column {field.name!r} has type {field.type}, but must hold numbers, strings, "
                f"categories, dates or times. {ADVICE}"
            )
    fields = [field.with_type(_common_type(field.type)) for field in fields]
    if known is None:
        return pa.schema(fields)
    kept = [column for column in known["columns"] if column["name"] in names]
    known = known | {"columns": kept, "index_columns": [], "column_indexes": []}
    return pa.schema(fields, {b"pandas": json.dumps(known).encode()})


def _pandas_metadata(schema: Any) -> Any:
    """What pandas notes in files of the dtypes of its frames, or None."""
    text = (schema.metadata or {}).get(b"pandas")
    return None if text is None else json.loads(text)


def _names_without_index(schema: Any, known: Any) -> list[str]:
    index = [] if known is None else known.get("index_columns", [])
    return [name for name in schema.names if name not in index]


def check_holds_numbers(source: Any) -> None:
    """Raise TypeError that names a column of a table on disk that holds no numbers."""
    for field in getattr(source, "schema", ()):
        if not _may_be_number(field.type):
            raise TypeError(
                f"Column {field.name!r} of {source.label} has type {field.type}, but must hold "
                f"numbers. {ADVICE}"
            )


def holds_floats(source: ArrowSource) -> bool:
    """Whether all columns are floats, of which nothing is learned but their dtypes."""
    import pyarrow as pa

    return all(map(pa.types.is_floating, source.schema.types))


def _is_number(kind: Any) -> bool:
    import pyarrow.types as of

    return any(is_kind(kind) for is_kind in (of.is_integer, of.is_floating, of.is_boolean)) or (
        of.is_decimal(kind)
    )


def _may_be_number(kind: Any) -> bool:
    """Whether cells are numbers, or all missing."""
    import pyarrow.types as of

    return _is_number(kind) or of.is_null(kind)


def _is_mixed(kind: Any) -> bool:
    import pyarrow.types as of

    if of.is_dictionary(kind):
        return _is_mixed(kind.value_type) or _is_number(kind.value_type)
    kinds = (of.is_string, of.is_large_string, of.is_string_view, of.is_null)
    is_text = any(is_kind(kind) for is_kind in kinds)
    return is_text or (of.is_temporal(kind) and not of.is_interval(kind))


def _cell_bytes(kind: Any) -> int:
    """About the size of a cell in memory; of objects and strings, more."""
    import pyarrow.types as of

    if of.is_integer(kind) or of.is_floating(kind):
        return int(kind.bit_width // 8)
    if of.is_date(kind) or of.is_time(kind) or of.is_decimal(kind):
        return 64
    return 8 if of.is_boolean(kind) or of.is_timestamp(kind) or of.is_duration(kind) else 32


def _tells_of_nulls(unit: Unit, names: Sequence[str]) -> bool:
    """Whether the footer says that cells of a row group are missing."""
    fragment, group = unit.place
    if group is None:
        return False
    chunks = fragment.metadata.row_group(group)
    for j in range(chunks.num_columns):
        column = chunks.column(j)
        known = column.statistics if column.path_in_schema in names else None
        if known is not None and known.has_null_count and known.null_count:
            return True
    return False


def _dtype(schema: Any) -> Any:
    """float32 if no column needs more."""
    is_single = all(str(field.type) in ("float", "halffloat") for field in schema)
    return np.float32 if is_single else np.float64


def _check_schema(fragment: Any, wanted: Any, declared: Any, may_cast: bool) -> None:
    """Raise if the file of a fragment lacks a column, or has it of another type."""
    import pyarrow as pa

    try:
        schema = fragment.physical_schema
    except (OSError, pa.ArrowInvalid) as error:
        raise OSError(f"{_label(fragment)} cannot be read: {error}") from error
    given = _partition_values(fragment)
    for field in wanted:
        if field.name in given:
            continue
        if field.name not in schema.names:
            raise ValueError(
                f"{_label(fragment)} has no column {field.name!r}, which other files of the table "
                "have."
            )
        other = schema.field(field.name).type
        is_cast = may_cast and _is_number(other) and _is_number(field.type)
        if _common_type(other) != field.type and not is_cast and not pa.types.is_null(other):
            raise ValueError(
                f"Column {field.name!r} has type {other} in {_label(fragment)}, but {field.type} "
                "in other files of the table. To cast it, pass pyarrow.dataset.dataset(folder, "
                "schema=...)."
            )
    more = [name for name in schema.names if name not in declared.names]
    if more:
        raise ValueError(
            f"{_label(fragment)} has a column {more[0]!r}, which other files of the table lack."
        )


def _units(fragment: Any, start: int) -> list[Unit]:
    """A unit for each row group, or for a whole file of another format."""
    label, units = _label(fragment), []
    counts = [(None, None)]
    if hasattr(fragment, "row_groups"):
        counts = [(group.id, group.num_rows) for group in fragment.row_groups]
    for group, n_rows in counts:
        n_rows = fragment.count_rows() if n_rows is None else n_rows
        if n_rows:
            units.append(Unit(start, start + n_rows, label, (fragment, group)))
            start += n_rows
    return units


def _batches(unit: Unit, schema: Any, size: int) -> Iterator[Any]:
    """Yield record batches of a unit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fragment, group = unit.place
    if group is None:
        own = fragment.physical_schema
        known = pa.schema([own.field(f.name) if f.name in own.names else f for f in schema])
        coming = fragment.to_batches(
            schema=known, columns=schema.names, batch_size=size, use_threads=False
        )
        yield from (_with_schema(batch, schema) for batch in coming)
        return
    given = _partition_values(fragment)
    names = [name for name in schema.names if name not in given]
    buffer_bytes = min(READ_BYTES, max(LEAST_READ_BYTES, READ_BYTES_OF_ALL // len(schema)))
    # Not mapped: what is cut off from a file that is mapped ends the process.
    with fragment.filesystem.open_input_file(fragment.path) as file:
        opened = pq.ParquetFile(
            file, metadata=fragment.metadata, buffer_size=buffer_bytes, pre_buffer=False
        )
        for batch in opened.iter_batches(size, [group], names, use_threads=False):
            for name in schema.names:
                if name in given:
                    cells = _repeated(given[name], len(batch), schema.field(name).type)
                    batch = batch.append_column(name, cells)
            yield _with_schema(batch, schema)


def _repeated(value: Any, n_rows: int, kind: Any) -> Any:
    """A column of one value."""
    import pyarrow as pa

    if value is None:
        return pa.nulls(n_rows, kind)
    cells = pa.repeat(pa.scalar(value), n_rows)
    return (cells.dictionary_encode() if pa.types.is_dictionary(kind) else cells).cast(kind)


def _with_schema(batch: Any, schema: Any) -> Any:
    """The columns of a schema, in its order, of its types and with what pandas notes of them."""
    import pyarrow as pa

    cells = [batch.column(name) for name in schema.names]
    pairs = zip(cells, schema.types, strict=True)
    cells = [column if column.type == kind else column.cast(kind) for column, kind in pairs]
    return pa.RecordBatch.from_arrays(cells, schema=schema)


def _common_type(kind: Any) -> Any:
    """What types become that differ from file to file, though pandas would not tell them apart."""
    import pyarrow as pa
    import pyarrow.types as of

    if of.is_dictionary(kind):
        return pa.dictionary(pa.int32(), _common_type(kind.value_type), kind.ordered)
    is_text = of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind)
    return pa.large_string() if is_text else kind


def _partition_values(fragment: Any) -> dict[str, Any]:
    """Values of the columns that the path of a file stands for."""
    from pyarrow.dataset import get_partition_keys

    return get_partition_keys(fragment.partition_expression)


def _label(fragment: Any) -> str:
    return str(getattr(fragment, "path", "data set"))
