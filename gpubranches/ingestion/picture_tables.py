"""Parquet and Arrow files with a column of pictures, such as Hugging Face's data sets."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.pictures.parts import picture_bytes, picture_column, picture_paths
from gpubranches.core.files import escaped_path
from gpubranches.errors import CatalogFormatError
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Opener, Part
from gpubranches.ingestion.table_files import ENDINGS, TableFile, metadata, notes_on, open_table, picture_places

if TYPE_CHECKING:
    import pyarrow as pa


class PictureTables:
    """The pictures of Parquet and Arrow files.

    Items have `image_path` (the file), `image_member` (the path that the table gives to the picture), `image_row` in a
    Parquet file or `image_offset` and `image_size` in an Arrow file, and the other columns of the table. A file that
    cannot be read is one row with a reason.
    """

    whole_files = False

    def __init__(self, root: str, tables: Mapping[str, TableFile], broken: Mapping[str, str]):
        self.root, self._tables, self._broken = root, tables, broken

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield an opener for each of these rows; an opener holds the bytes of its picture."""
        if piece.path in self._broken:
            yield Opener.broken("", self._broken[piece.path])
            return
        table, wanted, at = self._tables[piece.path], set(rows), rows[0]
        for batch in table.batches([str(picture_column(table.schema))], at, rows[-1] + 1):
            column = batch.column(0)
            for data, name in zip(picture_bytes(column), picture_paths(column), strict=True):
                if at in wanted:
                    yield _opener(at, data.as_py(), name)
                at += 1

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of rows, and where their pictures are."""
        from gpubranches.catalog.metadata.tables import unify_tables

        return unify_tables([self._items(*part) for part in parts])

    def _items(self, piece: Piece, start: int, stop: int) -> pa.Table:
        import pyarrow as pa

        own = {IMAGE_PATH: pa.array([escaped_path(piece.name)] * (stop - start), pa.string())}
        if piece.path in self._broken:
            return pa.table(own)
        table = self._tables[piece.path]
        own |= picture_places(table, start, stop)
        return with_own(own, metadata(table, start, stop, [picture_column(table.schema)]))


def with_own(own: Mapping[str, pa.Array], items: pa.Table) -> pa.Table:
    """Return the program's columns and the metadata; a column with one of their names gets the prefix `source_`."""
    import pyarrow as pa

    names = [f"source_{name}" if name in own else name for name in items.column_names]
    return pa.table({**own, **dict(zip(names, items.columns, strict=True))})


def _opener(row: int, data: bytes | None, named: Any) -> Opener:
    name = f"row {row}" + (f" ({named})" if isinstance(named, str) and named else "")
    if data is None:
        return Opener.broken(name, "the row has no bytes of a picture")
    return Opener(name, functools.partial(io.BytesIO, data))


def _open_input(given: InputFiles) -> Input | None:
    tables: dict[str, TableFile] = {}
    broken: dict[str, str] = {}
    notes, pieces, first = list[str](), list[Piece](), 0
    for number, (name, path) in enumerate(given.files):
        rows = 1
        try:
            table = open_table(path)
            if picture_column(table.schema) is None:
                notes.append(f"{escaped_path(path)}: the table has no pictures and is skipped")
                continue
            if table.mapped and table.rows:
                picture_places(table, 0, 1)  # a compressed file is refused before its pictures are embedded
            tables[path], rows = table, table.rows
        except CatalogFormatError as error:
            broken[path] = str(error).removeprefix(f"{escaped_path(path)}: ")
        finally:
            given.progress("scanning", number + 1, len(given.files))
        if rows:
            pieces.append(Piece(name, (given.state(path),), first, rows))
            first += rows
    if not tables:
        for path, reason in broken.items():
            raise CatalogFormatError(f"{escaped_path(path)}: {reason}")
        return None
    notes += notes_on(list(tables.values()), given.path, [picture_column(table.schema) for table in tables.values()])
    return Input(given.place, tuple(pieces), pictures=PictureTables(given.place, tables, broken), notes=tuple(notes))


KIND = Kind(
    "tables of pictures",
    "a .parquet or .arrow with a column of pictures, or a folder of them, such as a data set of Hugging Face that was "
    "saved or downloaded",
    ENDINGS,
    _open_input,
)
