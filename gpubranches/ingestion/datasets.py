"""Inputs of any kind as one sequence of rows; and writers of some common layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.files import output, whole_file, whole_folder, write_npy
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError
from gpubranches.ingestion.array_file import ArrayFile, Kind
from gpubranches.ingestion.clip_retrieval import ClipRetrieval

if TYPE_CHECKING:
    import pyarrow as pa

_WRITE_ROWS = 8192
_GROUP_ROWS = 1 << 17


class Source(Protocol):
    """Rows of embeddings (float16 or float32) or codes (uint8), with metadata.

    kind; n rows; dim columns; roots: folders of pictures by the input's name.
    """

    kind: Kind
    n: int
    dim: int
    roots: dict[str, str]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as stored, (m, dim)."""
        ...

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        ...

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return why rows start..stop-1 could not be read, None for those that could; None if all could."""
        ...


class Ranges:
    """Some ranges (start, stop) of rows of a source, one after the other."""

    def __init__(self, source: Source, ranges: Sequence[tuple[int, int]]):
        self._source, self._ranges = source, ranges
        self.kind, self.dim, self.roots = source.kind, source.dim, source.roots
        self._starts = np.cumsum([0, *(stop - start for start, stop in ranges)])
        self.n = int(self._starts[-1])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        firsts = np.array([start for start, _ in self._ranges], np.int64)
        return self._source.take(firsts[owner] + rows - self._starts[owner])

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        from gpubranches.catalog.metadata.tables import united

        tables = [self._source.items(low, high) for low, high in self._parts(start, stop)]
        there = [table for table in tables if table is not None]
        return united(there) if there else None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return the source's reasons why rows could not be read."""
        told: list[str | None] = []
        for low, high in self._parts(start, stop):
            told += self._source.reasons(low, high) or [None] * (high - low)
        return told

    def _parts(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges of the source that rows start..stop-1 come from."""
        parts = []
        for first, (low, high) in zip(self._starts.tolist(), self._ranges, strict=False):
            part = max(low, low + start - first), min(high, low + stop - first)
            if part[0] < part[1]:
                parts.append(part)
        return parts


class Joined:
    """Several sources as one: rows run on, and a column `input` names where each came from."""

    def __init__(self, sources: Sequence[Source], names: Sequence[str]):
        kinds = {source.kind for source in sources}
        dims = {source.dim for source in sources}
        if len(kinds) > 1 or len(dims) > 1:
            raise UsageError(f"inputs: expected all embeddings or all codes of equal dims, got {kinds} and {dims}")
        self._sources, self._names = sources, names
        self.kind: Kind = sources[0].kind
        self.dim = sources[0].dim
        self._starts = np.cumsum([0, *(source.n for source in sources)])
        self.n = int(self._starts[-1])
        self.roots = {name: root for name, source in zip(names, sources, strict=True) for root in source.roots.values()}

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        out = np.zeros((len(rows), self.dim), np.uint8 if self.kind == "codes" else np.float32)
        for index in np.unique(owner):
            at = owner == index
            out[at] = self._sources[index].take(rows[at] - self._starts[index])
        return out

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1 with the column `input`."""
        import pyarrow as pa

        from gpubranches.catalog.metadata.tables import united

        tables = []
        for first, source, name in zip(self._starts, self._sources, self._names, strict=False):
            low, high = max(start - int(first), 0), min(stop - int(first), source.n)
            if low < high:
                columns = {"input": pa.array([name] * (high - low))}
                table = source.items(low, high)
                if table is not None:
                    columns |= {column: table[column] for column in table.column_names}
                tables.append(pa.table(columns))
        return united(tables) if tables else None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return why rows start..stop-1 could not be read."""
        told: list[str | None] = []
        for first, source in zip(self._starts.tolist(), self._sources, strict=False):
            low, high = max(start - first, 0), min(stop - first, source.n)
            if low < high:
                told += source.reasons(low, high) or [None] * (high - low)
        return told


def is_image_folder(path: Path) -> bool:
    """Return whether a folder is to be read as pictures: it has no img_emb folder."""
    return path.is_dir() and not (path / "img_emb").is_dir()


def open_dataset(path: Path, pictures: Path | None = None) -> ArrayFile | ClipRetrieval:
    """Open a file or a clip-retrieval folder. Raises CatalogNotFoundError or CatalogFormatError.

    pictures: the folder of the pictures that the metadata name; by default it is searched.
    """
    if path.is_dir():
        return ClipRetrieval(path, pictures)
    if not path.exists():
        raise CatalogNotFoundError(f"{path}: expected a file or folder to ingest, found none")
    if not path.is_file():
        raise CatalogFormatError(f"{path}: expected a folder or a file, got a pipe, a socket or a device")
    if path.suffix not in (".npy", ".u8bin", ".fbin"):
        raise CatalogFormatError(
            f"{path}: expected a folder, .npy, .u8bin or .fbin, got {path.suffix or 'no ending'!r}"
        )
    return ArrayFile.open(path)


class Rows(Protocol):
    """What the writers read from: a catalog."""

    @property
    def d(self) -> int: ...  # noqa: D102
    @property
    def D(self) -> int: ...  # noqa: D102
    def take(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]: ...  # noqa: D102
    def embeddings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]: ...  # noqa: D102
    def items(self, ids: NDArray[np.int64]) -> list[dict[str, Any]]: ...  # noqa: D102


def write_u8bin(path: Path, rows: Rows, ids: NDArray[np.int64]) -> None:
    """Write the codes of items as .u8bin: two uint32 (n, d), then n x d uint8."""
    with whole_file(path) as file:
        file.write(np.array([len(ids), rows.d], np.uint32))
        for start in range(0, len(ids), _WRITE_ROWS):
            file.write(rows.take(ids[start : start + _WRITE_ROWS]))


def write_codes_parquet(path: Path, rows: Rows, ids: NDArray[np.int64]) -> None:
    """Write the codes of items as Parquet with columns id int64 and c0, c1, ... uint8: what `Boxes.to_sql` reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), *((f"c{dim}", pa.uint8()) for dim in range(rows.d))])
    with whole_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(ids), _GROUP_ROWS):
            part = ids[start : start + _GROUP_ROWS]
            columns = [part, *np.ascontiguousarray(rows.take(part).T)]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))


def write_clip_retrieval(folder: Path, rows: Rows, ids: NDArray[np.int64], *, partition: int = 100_000) -> None:
    """Write embeddings (float16) and metadata of items as a clip-retrieval folder, `partition` rows a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole_folder(folder) as made:
        for name in ("img_emb", "metadata"):
            (made / name).mkdir()
        for number, start in enumerate(range(0, len(ids), partition)):
            part = ids[start : start + partition]
            with output(made / f"img_emb/img_emb_{number}.npy") as file:
                write_npy(file, rows.embeddings(part).astype(np.float16))
            with output(made / f"metadata/metadata_{number}.parquet") as file:
                pq.write_table(pa.Table.from_pylist(rows.items(part)), file)
