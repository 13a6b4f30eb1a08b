"""Readers of embeddings and codes in the layouts of the field, memory-mapped; and writers of some of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError
from gpubranches.files import output, whole_file, whole_folder, write_npy
from gpubranches.space import digest

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["embeddings", "codes"]
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

    @property
    def fingerprint(self) -> str:
        """Digest of what is read: paths and sizes."""
        ...

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as stored, (m, dim)."""
        ...

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        ...


class ArrayFile:
    """One array of rows: .npy (uint8 codes, float16 or float32 embeddings), .u8bin (codes) or .fbin (embeddings)."""

    def __init__(self, path: Path, array: NDArray[Any]):
        if array.ndim != 2:
            raise CatalogFormatError(f"{path}: expected an array of shape (n, dims), got {array.shape}")
        if array.dtype not in (np.uint8, np.float16, np.float32):
            raise CatalogFormatError(
                f"{path}: expected uint8 codes, or float16 or float32 embeddings, got {array.dtype}; convert it first"
            )
        self.path = path
        self.kind: Kind = "codes" if array.dtype == np.uint8 else "embeddings"
        self.n, self.dim = array.shape
        self.roots: dict[str, str] = {}
        self._array = array

    @classmethod
    def open(cls, path: Path) -> ArrayFile:
        """Map a file. Raises CatalogFormatError if it is not what its ending says."""
        if path.suffix == ".npy":
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise CatalogFormatError(f"{path}: expected a .npy array: {error}") from error
            return cls(path, array)
        dtype = np.dtype(np.uint8 if path.suffix == ".u8bin" else np.float32)
        header = np.fromfile(path, np.uint32, 2)
        size = path.stat().st_size
        if len(header) < 2 or size != 8 + int(header[0]) * int(header[1]) * dtype.itemsize:
            raise CatalogFormatError(
                f"{path}: expected a header of two uint32 (n, dims) and n x dims of {dtype}, got {size:,} bytes"
                + (f" for a header of {header.tolist()}" if len(header) == 2 else "")
            )
        shape = (int(header[0]), int(header[1]))
        empty = 0 in shape
        return cls(path, np.zeros(shape, dtype) if empty else np.memmap(path, dtype, "r", 8, shape))

    @property
    def fingerprint(self) -> str:
        """Digest of path, size and shape."""
        return digest(f"{self.path.resolve()} {self.path.stat().st_size} {self._array.shape}")

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        return np.asarray(self._array[rows])

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return None: an array has no metadata."""
        return None


class ClipRetrieval:
    """A clip-retrieval folder: img_emb/img_emb_K.npy beside metadata/metadata_K.parquet, row i beside row i.

    Partitions are in numeric order. Pictures are found by the column `image_path`, relative to the folder.
    """

    kind: Kind = "embeddings"

    def __init__(self, folder: Path):
        """Map all partitions. Raises CatalogFormatError naming the files that do not fit together."""
        arrays = sorted((folder / "img_emb").glob("img_emb_*.npy"), key=_number)
        if not arrays:
            raise CatalogFormatError(f"{folder}: expected img_emb/img_emb_0.npy and so on, found none")
        self.folder = folder
        self._parts = [ArrayFile.open(path) for path in arrays]
        self._tables = [folder / "metadata" / f"metadata_{_number(path)}.parquet" for path in arrays]
        self.dim = self._parts[0].dim
        self._names_pictures = False
        for part, table in zip(self._parts, self._tables, strict=True):
            self._check(part, table)
        self._starts = np.cumsum([0, *(part.n for part in self._parts)])
        self.n = int(self._starts[-1])
        self.roots = {"": str(folder.resolve())} if self._names_pictures else {}

    @property
    def fingerprint(self) -> str:
        """Digest of all partitions' paths and sizes."""
        return digest(*(part.fingerprint for part in self._parts))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        out = np.zeros((len(rows), self.dim), np.float32)
        for index in np.unique(owner):
            at = owner == index
            out[at] = self._parts[index].take(rows[at] - self._starts[index])
        return out

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, columns united over the partitions; None if there is none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from gpubranches.metadata.tables import united

        tables = []
        for first, part, path in zip(self._starts, self._parts, self._tables, strict=False):
            low, high = max(start - first, 0), min(stop - first, part.n)
            if low >= high:
                continue
            if path.exists():
                tables.append(pq.read_table(path).slice(low, high - low))
            else:
                tables.append(pa.table({"caption": pa.nulls(high - low, pa.string())}))
        if not tables or not any(path.exists() for path in self._tables):
            return None
        return united(tables)

    def _check(self, part: ArrayFile, table: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if part.kind != "embeddings" or part.dim != self.dim:
            raise CatalogFormatError(f"{part.path}: expected float embeddings of {self.dim} dims, got {part.dim}")
        if not table.exists():
            return
        try:
            told = pq.read_metadata(table)
        except (OSError, pa.ArrowException) as error:
            raise CatalogFormatError(f"{table}: expected a Parquet file: {error}") from error
        if told.num_rows != part.n:
            raise CatalogFormatError(f"{table}: expected {part.n} rows as in {part.path}, got {told.num_rows}")
        self._names_pictures |= "image_path" in told.schema.names


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

    @property
    def fingerprint(self) -> str:
        """Digest of all sources' fingerprints."""
        return digest(*(source.fingerprint for source in self._sources))

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

        from gpubranches.metadata.tables import united

        tables = []
        for first, source, name in zip(self._starts, self._sources, self._names, strict=False):
            low, high = max(start - int(first), 0), min(stop - int(first), source.n)
            if low < high:
                columns = {"input": pa.array([name] * (high - low))}
                table = source.items(low, high)
                if table is not None:
                    columns |= {column: table[column] for column in table.column_names if column != "input"}
                tables.append(pa.table(columns))
        return united(tables) if tables else None


def is_image_folder(path: Path) -> bool:
    """Return whether a folder is to be read as pictures: it has no img_emb folder."""
    return path.is_dir() and not (path / "img_emb").is_dir()


def open_dataset(path: Path) -> Source:
    """Open a file or a clip-retrieval folder by what it is. Raises CatalogNotFoundError or CatalogFormatError."""
    if path.is_dir():
        return ClipRetrieval(path)
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


def _number(path: Path) -> int:
    found = re.search(r"_(\d+)$", path.stem)
    if found is None:
        raise CatalogFormatError(f"{path}: expected a partition number at the end of the name, such as img_emb_0.npy")
    return int(found.group(1))
