"""Parquet and Arrow files as tables that are read in parts, and what their columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from gpubranches.catalog.metadata.columns import (
    IMAGE_MEMBER,
    IMAGE_OFFSET,
    IMAGE_ROW,
    IMAGE_SIZE,
    URL,
    renamed_columns,
    repeated_column,
)
from gpubranches.catalog.pictures.parts import PICTURE_NAMES, picture_column, picture_paths
from gpubranches.core import stores
from gpubranches.core.files import escaped_path, parse_json
from gpubranches.errors import CatalogFormatError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".arrow")
_BATCH_ROWS = 64
"""Rows of a Parquet file that are decoded at a time."""
_BUFFER_BYTES = 1 << 20
_SHOWN, _SHOWN_TYPE = 8, 40
"""Columns in a message, and letters of the type of each."""


class TableFile(Protocol):
    """A table in a file, or in one of a store. path; mapped: whether it is memory-mapped; schema; rows: their number.

    A Parquet file in a store is read in place, an Arrow file from a copy on the disk.
    """

    path: str
    mapped: bool
    schema: pa.Schema
    rows: int

    def batches(self, columns: Sequence[str], start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the columns of rows start..stop-1 in parts. Raises CatalogFormatError for a damaged file."""
        ...


def open_table(path: str) -> TableFile:
    """Open a Parquet or Arrow file. Raises CatalogFormatError if it is neither, or if column names repeat."""
    import pyarrow as pa

    try:
        table: TableFile = _ParquetFile(path) if path.lower().endswith(".parquet") else _opened_arrow(path)
        name = repeated_column(table.schema)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last one for a name that is not UTF-8
        raise _damaged(path, error) from error
    if name is not None:
        raise CatalogFormatError(
            f"{escaped_path(path)}: expected columns of distinct names, got {name} twice; rename one"
        )
    return table


def unread_table(path: str) -> str:
    """Return why a table that can be opened is neither one of pictures nor one of embeddings."""
    table = open_table(path)
    if not table.rows:
        return f"{escaped_path(path)}: expected rows, the table is empty"
    shown = [f"{field.name} ({str(field.type)[:_SHOWN_TYPE]})" for field in list(table.schema)[:_SHOWN]]
    more = f" and {len(table.schema) - _SHOWN:,} more" if len(table.schema) > _SHOWN else ""
    advice = "; for addresses of pictures give the tars that img2dataset makes of them"
    return (
        f"{escaped_path(path)}: expected a column of pictures (a struct of bytes and path, or bytes called "
        f"{', '.join(PICTURE_NAMES)}) or of embeddings (lists of floats), got {', '.join(shown)}{more}"
        f"{advice if URL in table.schema.names else ''}"
    )


def _damaged(path: str, error: Exception) -> CatalogFormatError:
    return CatalogFormatError(
        f"{escaped_path(path)}: the file is damaged or of another format ({first_line(error)}); restore it from a copy "
        "or make it again"
    )


class _ParquetFile:
    mapped = False

    def __init__(self, path: str):
        from gpubranches.catalog.metadata.tables import ParquetFile

        self.path = path
        with _opened(path) as file, ParquetFile(file) as opened:
            self.schema, self.rows = opened.schema_arrow, opened.metadata.num_rows

    def batches(self, columns: Sequence[str], start: int, stop: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from gpubranches.catalog.metadata.tables import ParquetFile

        try:
            with _opened(self.path) as file, ParquetFile(file, buffer_size=_BUFFER_BYTES) as opened:
                first, groups, left = 0, [], stop - start
                for group in range(opened.metadata.num_row_groups):
                    rows = opened.metadata.row_group(group).num_rows
                    if first < stop and first + rows > start:
                        groups.append((group, first))
                    first += rows
                at = groups[0][1] if groups else 0
                for batch in opened.iter_batches(_BATCH_ROWS, [group for group, _ in groups], list(columns)):
                    low, high = max(start - at, 0), min(stop - at, len(batch))
                    if low < high:
                        yield batch.slice(low, high - low)
                        left -= high - low
                    at += len(batch)
                if left:
                    raise pa.ArrowInvalid(f"{left:,} of {stop - start:,} rows are missing")
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from error


def _opened(path: str) -> IO[bytes]:
    return stores.open_file(path) if stores.is_url(path) else open(path, "rb")


def _opened_arrow(path: str) -> _ArrowFile:
    if not stores.is_url(path):
        return _ArrowFile(path, path)
    with stores.on_disk(path) as copied:  # the memory map keeps the copy until the table is dropped
        return _ArrowFile(path, str(copied))


class _ArrowFile:
    """An Arrow file, or a stream of batches as Hugging Face writes it; it is memory-mapped. copied: what is mapped."""

    mapped = True

    def __init__(self, path: str, copied: str):
        import pyarrow as pa

        self.path = path
        with open(copied, "rb") as file:
            self._is_file = file.read(6) == b"ARROW1"
        self._map = pa.memory_map(copied)
        self.buffer = self._map.read_buffer()
        reader = self._reader()
        self.schema = reader.schema
        self.rows = sum(len(batch) for batch in self._all(reader))

    def batches(self, columns: Sequence[str], start: int, stop: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        at = 0
        try:
            for batch in self._all(self._reader()):
                low, high = max(start - at, 0), min(stop - at, len(batch))
                if low < high:
                    yield batch.select(list(columns)).slice(low, high - low)
                at += len(batch)
                if at >= stop:
                    return
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from error

    def _reader(self) -> Any:
        import pyarrow as pa

        return (pa.ipc.open_file if self._is_file else pa.ipc.open_stream)(self.buffer)

    @staticmethod
    def _all(reader: Any) -> Iterator[pa.RecordBatch]:
        """Yield the batches after a check: offsets outside a buffer would crash the process later."""
        if hasattr(reader, "num_record_batches"):
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(reader)
        for batch in batches:
            batch.validate(full=True)
            yield batch


def picture_places(table: TableFile, start: int, stop: int) -> dict[str, pa.Array]:
    """Return the columns with the positions of the pictures of rows start..stop-1 in their file.

    Raises CatalogFormatError for a damaged file, and for a compressed Arrow file.
    """
    import pyarrow as pa

    column = str(picture_column(table.schema))
    kind = table.schema.field(column).type
    members: list[Any] = []
    spans: list[tuple[int | None, int | None]] = []
    has_paths = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    if isinstance(table, _ArrowFile):
        for batch in table.batches([column], start, stop):
            spans += _byte_ranges(table, batch.column(0))
            members += picture_paths(batch.column(0))
    elif has_paths:
        for batch in table.batches([f"{column}.path"], start, stop):
            members += picture_paths(batch.column(0))
    found = {}
    if any(isinstance(name, str) for name in members):
        names = [escaped_path(name) if isinstance(name, str) else None for name in members]
        found[IMAGE_MEMBER] = pa.array(names, pa.string())
    if not table.mapped:
        return found | {IMAGE_ROW: pa.array(range(start, stop), pa.int64())}
    offsets, sizes = zip(*spans, strict=True) if spans else ((), ())
    return found | {IMAGE_OFFSET: pa.array(offsets, pa.int64()), IMAGE_SIZE: pa.array(sizes, pa.int64())}


def _byte_ranges(table: _ArrowFile, values: pa.Array) -> list[tuple[int | None, int | None]]:
    """Return the position of each picture's bytes in its file, (start, size), or None for a row without a picture."""
    import pyarrow as pa

    if pa.types.is_struct(values.type):
        values = values.field("bytes")
    if values.type not in (pa.binary(), pa.large_binary()):
        raise CatalogFormatError(
            f"{escaped_path(table.path)}: expected pictures of the type binary or large_binary in an Arrow file, got "
            f"{values.type}; write it as Parquet"
        )
    _, offsets, data = values.buffers()
    wide = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    ends = np.frombuffer(offsets, wide, values.offset + len(values) + 1)[values.offset :].astype(np.int64)
    starts = ends[:-1] + (0 if data is None else data.address - table.buffer.address)
    if len(starts) and (starts.min() < 0 or (starts + np.diff(ends)).max() > table.buffer.size):
        raise CatalogFormatError(
            f"{escaped_path(table.path)}: expected an Arrow file without compression, whose pictures can be shown in "
            "place; write it as Parquet"
        )
    spans = zip(starts.tolist(), np.diff(ends).tolist(), values.is_valid().to_pylist(), strict=True)
    return [(at, size) if known else (None, None) for at, size, known in spans]


def metadata_columns(schema: pa.Schema, without: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """Return the columns of a table that are metadata, and the columns with bytes, which are left out.

    without: columns to leave out of both.
    """
    names = [name for name in schema.names if name not in without]
    heavy = [name for name in names if _has_bytes(schema.field(name).type)]
    return [name for name in names if name not in heavy], heavy


def _has_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_fixed_size_binary(kind) or kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        return True
    return any(_has_bytes(kind.field(at).type) for at in range(kind.num_fields))


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes of columns of numbers; Hugging Face writes them in the schema."""
    try:
        features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            str(column): [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list) and column in schema.names
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def metadata(table: TableFile, start: int, stop: int, without: Sequence[str | None]) -> pa.Table:
    """Return the metadata of rows start..stop-1; columns with the program's own names are renamed.

    For a column of classes such as `label`, a column `label_name` with the names is added.
    """
    import pyarrow as pa

    names, _ = metadata_columns(table.schema, without)
    schema = pa.schema([table.schema.field(name) for name in names])
    if not names:
        return pa.table({"id": pa.nulls(stop - start)}).drop_columns(["id"])
    read = pa.Table.from_batches(list(table.batches(names, start, stop)), schema)
    for column, classes in class_names(table.schema).items():
        if column in names and pa.types.is_integer(read[column].type) and f"{column}_name" not in read.column_names:
            numbers = read[column].to_pylist()
            told = [classes[at] if at is not None and 0 <= at < len(classes) else None for at in numbers]
            read = read.append_column(f"{column}_name", pa.array(told, pa.string()))
    kept = renamed_columns(read.column_names)
    return read.rename_columns([kept.get(name, name) for name in read.column_names])


def notes_on(tables: Sequence[TableFile], path: Path | str, without: Sequence[str | None]) -> list[str]:
    """Return messages about columns that are left out or renamed, one sentence each."""
    kept: dict[str, str] = {}
    heavy: dict[str, None] = {}
    for table in tables:
        names, its = metadata_columns(table.schema, without)
        kept |= renamed_columns(names)
        heavy |= dict.fromkeys(its)
    notes = [
        f"{escaped_path(str(path))}: the column `{name}` is kept as `{other}`, because the program has its own column "
        "of that name"
        for name, other in kept.items()
    ]
    return notes + [f"{escaped_path(str(path))}: the column `{name}` contains bytes and is left out" for name in heavy]
