"""Matched items as Parquet: with all columns, and as a list for img2dataset."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from gpubranches.catalog.metadata.columns import CAPTIONS, IMAGE_PATH, IMAGE_TARGET, PARTS, URL, caption_of, url_of
from gpubranches.errors import UsageError
from gpubranches.service.export.item_table import ItemTable, free_names
from gpubranches.service.export.pictures import can_have_pictures

if TYPE_CHECKING:
    import pyarrow as pa

_READ = ("url", "caption", "key")
"""Columns that img2dataset adds itself."""
_KEY_DIGITS = 9


class Outflow:
    """A file in memory whose content is taken out while it is written, for writers that never seek."""

    closed = False

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes) -> int:
        """Append data; return its number of bytes."""
        self._held.append(bytes(data))
        self._size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._size_bytes

    def flush(self) -> None:
        """Do nothing, because written data is available at once."""

    def close(self) -> None:
        """Do nothing, because the rest can still be taken."""

    def take(self) -> bytes:
        """Return and remove the data written since the last call."""
        taken = b"".join(self._held)
        self._held.clear()
        return taken


def write_parquet(table: ItemTable) -> Generator[bytes, None, int]:
    """Yield a file with one row group per batch, each as soon as it is complete; return the number of items."""
    return (yield from _file(table.schema, table.batches()))


def write_img2dataset(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of the list that `img2dataset --input_format parquet` loads, like `write_parquet`.

    The columns are url (of the item, else of its file), caption (a text from its columns), key (the name that
    img2dataset gives to the files of the row, with 10,000 rows per shard), and those of the table, where `key` becomes
    `item_key`. Items with neither url nor picture are left out. Raises UsageError if no item can have either.
    """
    if URL not in table.columns and not can_have_pictures(table):
        raise UsageError("img2dataset: expected items with a column `url` or pictures in a folder, got neither")
    return _img2dataset(table)


def _img2dataset(table: ItemTable) -> Generator[bytes, None, int]:
    import pyarrow as pa

    # Text columns named url or caption are left out, because the columns url and caption are made of them.
    others = [field for field in table.schema if not (field.name in ("url", "caption") and _is_text(field.type))]
    names = free_names([field.name for field in others], _READ)
    fields = [pa.field(name, pa.string()) for name in _READ]
    schema = pa.schema([*fields, *(field.with_name(name) for field, name in zip(others, names, strict=True))])
    kept = [field.name for field in others]
    return (yield from _file(schema, _listed(table, kept, schema)))


def _listed(table: ItemTable, kept: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    from gpubranches.catalog.metadata.tables import json_rows
    from gpubranches.catalog.pictures.image_files import picture_of

    looked_at = [name for name in table.columns if name in (*CAPTIONS, URL, IMAGE_PATH, IMAGE_TARGET, *PARTS, "input")]
    n = 0
    for batch in table.batches():
        items = json_rows(batch.select(looked_at))
        urls = [url_of(item) for item in items]
        for row, item in enumerate(items):
            if urls[row] is None and (picture := picture_of(table.source, item)) and picture.is_file:
                urls[row] = picture.path if isinstance(picture.path, str) else picture.path.as_uri()
        rows = [row for row, url in enumerate(urls) if url is not None]
        own = [
            pa.array([urls[row] for row in rows], pa.string()),
            pa.array([caption_of(items[row]) for row in rows], pa.string()),
            pa.array([f"{number:0{_KEY_DIGITS}d}" for number in range(n, n + len(rows))], pa.string()),
        ]
        n += len(rows)
        yield pa.table([*own, *batch.select(kept).take(pa.array(rows, pa.int64())).columns], schema=schema)


def _file(schema: pa.Schema, tables: Iterable[pa.Table]) -> Generator[bytes, None, int]:
    import pyarrow.parquet as pq

    out, written = Outflow(), 0
    with pq.ParquetWriter(out, schema) as writer:
        for table in tables:
            writer.write_table(table)
            written += table.num_rows
            yield out.take()
    yield out.take()
    return written


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
