"""Pictures inside larger files: a range of bytes of a tar or Arrow file, or a row of a Parquet file."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gpubranches.core import stores
from gpubranches.core.byte_ranges import ByteRange
from gpubranches.errors import DataError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

PICTURE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""Names of columns of bytes that contain pictures."""
_BATCH_ROWS = 8
_BUFFER_BYTES = 1 << 20


class FileRange(ByteRange):
    """The bytes start..start+size-1 of a file as a file of their own, read only. Raises OSError as `open`."""

    def __init__(self, path: str | Path, start: int, size: int):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close
        handle = self._file.fileno()
        super().__init__(
            lambda at, wanted: os.pread(handle, wanted, start + at), min(size, os.fstat(handle).st_size - start)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def open_range(path: str | Path, start: int, size: int) -> IO[bytes]:
    """Open a range of bytes of a file, which may be in a store. Raises OSError if the file cannot be opened."""
    if stores.is_url(path):
        return stores.open_range(str(path), start, size)
    return io.BufferedReader(FileRange(path, start, size))


def picture_column(schema: pa.Schema) -> str | None:
    """Return the column of pictures: the first struct with `bytes`, as of Hugging Face, or bytes of a known name.

    None if there is none.
    """
    import pyarrow as pa

    for field in schema:
        if pa.types.is_struct(field.type) and _is_bytes(_field(field.type, "bytes")):
            return str(field.name)
    named = {field.name.lower(): field.name for field in schema if _is_bytes(field.type)}
    return next((named[name] for name in PICTURE_NAMES if name in named), None)


def _field(kind: pa.DataType, name: str) -> pa.DataType | None:
    at = kind.get_field_index(name)
    return kind.field(at).type if at >= 0 else None


def _is_bytes(kind: pa.DataType | None) -> bool:
    import pyarrow as pa

    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def picture_bytes(column: pa.Array) -> pa.Array:
    """Return the bytes in a column of pictures; null for a row without a picture."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def picture_paths(column: pa.Array) -> list[Any]:
    """Return the paths beside the bytes in a column of pictures, of any type, None for none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from gpubranches.catalog.metadata.tables import json_values

    if not pa.types.is_struct(column.type) or column.type.get_field_index("path") < 0:
        return [None] * len(column)
    return json_values(pa.chunked_array([pc.struct_field(column, "path")]))


def open_row(path: Path | str, row: int) -> IO[bytes]:
    """Open the picture in a row of a Parquet file, which may be in a store. Raises DataError if there is none."""
    stat = stores.stat(path) if isinstance(path, str) else os.stat(path)
    key = (str(path), stat if isinstance(stat, stores.StoredFile) else (stat.st_mtime_ns, stat.st_size), row)
    data = _recent.get(key)
    if data is None:
        data = _read_row(path, row)
        _recent.put(key, data)
    return io.BytesIO(data)


def _read_row(path: Path | str, row: int) -> bytes:
    import pyarrow as pa

    from gpubranches.catalog.metadata.tables import ParquetFile

    try:
        with (
            stores.open_file(path) if isinstance(path, str) else path.open("rb") as opened,
            ParquetFile(opened, buffer_size=_BUFFER_BYTES) as file,
        ):
            column, first = picture_column(file.schema_arrow), 0
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if column is not None and first <= row < first + rows:
                    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
                        if row < first + len(batch):
                            data = picture_bytes(batch.column(0))[row - first].as_py()
                            if data is not None:
                                return bytes(data)
                            break
                        first += len(batch)
                    break
                first += rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot read row {row}: {first_line(error)}") from error
    raise DataError(f"{path}: row {row} has no picture")


class _Recent:
    """The pictures read last from Parquet files, at most `limit_bytes`: a page needs the size, then the picture."""

    def __init__(self, limit_bytes: int):
        self._limit_bytes, self._bytes, self._lock = limit_bytes, 0, threading.Lock()
        self._held: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            return self._held.get(key)

    def put(self, key: Hashable, data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._held.pop(key, b""))
            self._held[key] = data
            while self._bytes > self._limit_bytes:
                self._bytes -= len(self._held.popitem(last=False)[1])


_recent = _Recent(64 << 20)
