"""Parquet and Arrow files with embeddings in a column of lists, and metadata in the other columns."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.pictures.parts import picture_column
from gpubranches.catalog.row_source import Kind as RowKind
from gpubranches.core.arrays import open_npy
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import atomic_file, escaped_path
from gpubranches.errors import CatalogFormatError
from gpubranches.ingestion.picture_roots import PictureRoot, find_root, named_paths
from gpubranches.ingestion.picture_tables import with_own
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Progress
from gpubranches.ingestion.table_files import ENDINGS, TableFile, metadata, notes_on, open_table, picture_places

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = ("embedding", "embeddings", "image_embedding", "clip_embedding", "emb", "vector", "vectors", "features")
"""Names of columns of embeddings; the first that a table has is used."""
_FEWEST_DIMS = 8
"""Shorter lists, such as bounding boxes, are not embeddings."""
_SAMPLED = 64
"""Lists of a column that are measured."""


class EmbeddingTables:
    """Rows of embeddings in Parquet and Arrow files, with their metadata; a `RowSource` after `spool`.

    A row without an embedding of `dim` numbers has no item, and gets a reason. float64 is converted to float32.
    """

    kind: RowKind = "embeddings"

    def __init__(self, pieces: Sequence[Piece], tables: Sequence[TableFile], columns: Sequence[str], dim: int):
        self._pieces, self._tables, self._columns, self.dim = pieces, tables, columns, dim
        self._starts = np.cumsum([0, *(piece.rows for piece in pieces)])
        self.n = int(self._starts[-1])
        self.roots: dict[str, str] = {}
        self._arrays: list[NDArray[Any]] = []

    def spool(self, folder: Path, progress: Progress) -> None:
        """Copy the embeddings into a folder as .npy, one per file; a complete copy of the same file is used again."""
        folder.mkdir(parents=True, exist_ok=True)
        self._arrays, done = [], 0
        for piece, table, column in zip(self._pieces, self._tables, self._columns, strict=True):
            path = folder / f"{digest(repr((piece.path, piece.files[0].state, column)))}.npy"
            if not path.exists():
                dtype = np.dtype(np.float16 if _dtype(table, column) == np.float16 else np.float32)
                with atomic_file(path) as file:
                    header = {"descr": dtype.str, "fortran_order": False, "shape": (piece.rows, self.dim)}
                    np.lib.format.write_array_header_1_0(file, header)
                    for block in self._blocks(table, column):
                        file.write(np.ascontiguousarray(block, dtype))
                        done += len(block)
                        progress("reading", done, self.n)
            self._arrays.append(open_npy(path))

    def _blocks(self, table: TableFile, column: str) -> Iterator[NDArray[Any]]:
        for batch in table.batches([column], 0, table.rows):
            yield _rows(batch.column(0), self.dim)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim) float32."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        out = np.zeros((len(rows), self.dim), np.float32)
        for index in np.unique(owner):
            at = owner == index
            out[at] = self._arrays[index][rows[at] - self._starts[index]]
        return out

    def items(self, start: int, stop: int) -> pa.Table:
        """Return the metadata of rows start..stop-1, with the positions of pictures if a column has some."""
        from gpubranches.catalog.metadata.tables import unify_tables

        return unify_tables([self._items(*part) for part in self._parts(start, stop)])

    def _items(self, index: int, start: int, stop: int) -> pa.Table:
        import pyarrow as pa

        table, picture = self._tables[index], picture_column(self._tables[index].schema)
        items = metadata(table, start, stop, [self._columns[index], picture])
        if picture is None:
            return items
        name = pa.array([escaped_path(self._pieces[index].name)] * (stop - start), pa.string())
        return with_own({IMAGE_PATH: name, **picture_places(table, start, stop)}, items)

    def reasons(self, start: int, stop: int) -> Sequence[str | None]:
        """Return why rows start..stop-1 have no embedding."""
        reasons: list[str | None] = []
        for index, low, high in self._parts(start, stop):
            lacking = np.isnan(self._arrays[index][low:high]).all(axis=1)
            reasons += [f"the row has no embedding of {self.dim} numbers" if no else None for no in lacking.tolist()]
        return reasons

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        for index, first in enumerate(self._starts[:-1].tolist()):
            low, high = max(start - first, 0), min(stop - first, self._pieces[index].rows)
            if low < high:
                yield index, low, high


def _rows(values: pa.Array, dim: int) -> NDArray[Any]:
    """Return lists of numbers as rows, (m, dim); a list that is missing or has another length gives NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), -1))
    good = lengths == dim
    kept = values.filter(pa.array(good))
    numbers = np.asarray(kept.flatten().to_numpy(zero_copy_only=False))
    out = np.full((len(values), dim), np.nan, numbers.dtype)
    out[good] = numbers.reshape(-1, dim)
    return out


def embedding_column(table: TableFile) -> str | None:
    """Return the column of embeddings: lists of floats with a known name, or the only such column, or None.

    Raises CatalogFormatError if there are several, and none has a known name.
    """
    names = [str(field.name) for field in table.schema if _number_type(field.type) is not None]
    known = [name for name in _NAMES if name in (each.lower() for each in names)]
    if known:
        return next(name for name in names if name.lower() == known[0])
    wide = [name for name in names if _dims(table, name, among=1.0) >= _FEWEST_DIMS]
    if len(wide) > 1:
        raise CatalogFormatError(
            f"{escaped_path(table.path)}: expected one column of embeddings, got {', '.join(wide)}; name the right one "
            "`embedding`"
        )
    return wide[0] if wide else None


def _number_type(kind: pa.DataType) -> np.dtype[Any] | None:
    """Return the type of the floats in a type of lists, or None for other types."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.storage_type if len(kind.shape) == 1 else kind.value_type
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or views):
        return None
    return np.dtype(kind.value_type.to_pandas_dtype()) if pa.types.is_floating(kind.value_type) else None


def _dtype(table: TableFile, column: str) -> np.dtype[Any] | None:
    return _number_type(table.schema.field(column).type)


def _dims(table: TableFile, column: str, among: float = 0.5) -> int:
    """Return the length of the lists of a column: from its type, else that of most of its first lists, or 0.

    among: the share of these lists that must have this length; empty lists do not count.
    """
    kind = table.schema.field(column).type
    kind = getattr(kind, "storage_type", kind)
    if hasattr(kind, "list_size"):
        return int(kind.list_size)
    lengths: Counter[int] = Counter()
    for batch in table.batches([column], 0, table.rows):
        lengths.update(len(value) for value in batch.column(0) if value.is_valid and len(value))
        if lengths.total() >= _SAMPLED:
            break
    dims, count = lengths.most_common(1)[0] if lengths else (0, 0)
    return dims if count >= among * lengths.total() else 0


def _dim(tables: Sequence[TableFile], columns: Sequence[str]) -> int:
    """Return the dims that most of the tables have. Raises CatalogFormatError if they differ."""
    found = {_dims(table, column): table.path for table, column in zip(tables, columns, strict=True)}
    if len(found) > 1 or 0 in found:
        told = ", ".join(f"{dim or 'lists of several lengths'} in {escaped_path(path)}" for dim, path in found.items())
        raise CatalogFormatError(f"expected embeddings of equal dims, got {told}; leave out those of other dims")
    return next(iter(found))


def _open_input(given: InputFiles) -> Input | None:
    tables, columns, notes = list[TableFile](), list[str](), list[str]()
    pieces, first = list[Piece](), 0
    for number, (name, path) in enumerate(given.files):
        given.progress("scanning", number, len(given.files))
        try:
            table = open_table(path)
        except CatalogFormatError as error:
            if len(given.files) == 1:
                raise
            notes.append(f"{error}; skipped")
            continue
        column = embedding_column(table)
        if column is None:
            notes.append(f"{escaped_path(path)}: the table has no embeddings and is skipped")
        elif table.rows:
            pieces.append(Piece(name, (given.state(path),), first, table.rows))
            tables.append(table)
            columns.append(column)
            first += table.rows
    if not pieces:
        return None
    source = EmbeddingTables(pieces, tables, columns, _dim(tables, columns))
    notes += _words(given, tables, columns)
    root = _root(given, tables)
    if root is not None:
        source.roots = {"": root.folder}
        notes += root.notes
    moves = () if root is None else root.moves
    return Input(given.place, tuple(pieces), source, notes=tuple(notes), moves=moves)


def _words(given: InputFiles, tables: Sequence[TableFile], columns: Sequence[str]) -> list[str]:
    """Return messages about conversions and columns, one sentence each."""
    without = [*columns, *(picture_column(table.schema) for table in tables)]
    notes = notes_on(tables, given.path, without)
    if any(_dtype(table, column) == np.float64 for table, column in zip(tables, columns, strict=True)):
        notes.append(f"{escaped_path(str(given.path))}: embeddings of float64 are rounded to float32")
    return notes


def _root(given: InputFiles, tables: Sequence[TableFile]) -> PictureRoot | None:
    """Return the folder of the pictures: that of the files if they contain pictures, else the one of `image_path`."""
    if any(picture_column(table.schema) is not None for table in tables):
        return PictureRoot(given.place)
    named = [table for table in tables if IMAGE_PATH in table.schema.names]
    if not named:
        return None

    return find_root(
        str(given.path),
        given.place,
        [functools.partial(_paths, table) for table in named],
        given.options.pictures,
    )


def _paths(table: TableFile) -> list[str]:
    import pyarrow as pa

    columns = [batch.column(0) for batch in table.batches([IMAGE_PATH], 0, table.rows)]
    return named_paths(pa.chunked_array(columns, table.schema.field(IMAGE_PATH).type))


KIND = Kind(
    "tables of embeddings",
    "a .parquet or .arrow with a column of embeddings (lists of float16, float32 or float64), or a folder of them",
    ENDINGS,
    _open_input,
)
