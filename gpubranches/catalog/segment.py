"""One immutable segment: up to 2^20 rows of every tier, memory-mapped."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.blocks import SUMS, Blocks, Reader, count_of
from gpubranches.catalog.storage import (
    RESTORE,
    Lease,
    copy_file,
    read_content,
    require_content,
    require_file,
    unreadable,
)
from gpubranches.catalog.tiles import TILE, ZONES, kd_order, to_tiles, zones_of
from gpubranches.core.files import BLOCK_BYTES, Output, make_folder, open_regular, output, sync_folder
from gpubranches.core.threads import cores, map_ahead
from gpubranches.errors import CatalogFormatError

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT_ROWS = 1 << 20
MOST_IDS = 1 << 28
"""Largest span of the ids of a segment: `rows.u32` has 4 bytes for each id in the span, also for missing ones."""
ITEM_GROUP = 4096
Gather = Callable[[NDArray[np.int64]], NDArray[np.float16]]
Decode = Callable[[NDArray[np.uint8]], NDArray[np.float16]]
"""Function of codes, (m, d) uint8, to embeddings, (m, D) float16."""
REQUIRED = ("codes.u8", "zones.u8", "ids.i64", "rows.u32")
SIGNS = ("bits.u8", "scales.f16")
LARGE = ("embeddings.f16", "items.parquet")
"""Files that are checked block by block while they are read; the others are checked whole when first used."""
_NO_ROW = np.uint32(0xFFFFFFFF)
_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Segment:
    """Rows of a catalog between two tile boundaries; positions start + 0 .. start + n - 1.

    codes: (tiles, d, TILE) uint8; zones: (tiles, 2, d, ZONES) uint8; bits: (n, P/8) uint8 or None; scales: (n,) float16
    or None; embeddings: (n, D) float16 or None; ids: (n,) int64, the id of each row; rows: (last_id - first_id + 1,)
    uint32, the row of each id, 0xFFFFFFFF for ids without a row; lease: keeps the files from being removed by the
    writer of another generation; decode: returns embeddings if none are stored, or None.
    """

    folder: Path
    start: int
    n: int
    d: int
    n_bits: int
    D: int
    first_id: int
    last_id: int
    files: dict[str, dict[str, Any]]
    lease: Lease | None = field(default=None, repr=False, compare=False)
    decode: Decode | None = field(default=None, repr=False, compare=False)
    _opened: dict[str, Blocks] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tiles(self) -> int:
        """Number of tiles, the last one padded."""
        return -(-self.n // TILE)

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """Codes as tiles."""
        return self._map("codes.u8", np.uint8, (self.tiles, self.d, TILE))

    @cached_property
    def zones(self) -> NDArray[np.uint8]:
        """Minima and maxima by zone."""
        return self._map("zones.u8", np.uint8, (self.tiles, 2, self.d, ZONES))

    @cached_property
    def bits(self) -> NDArray[np.uint8] | None:
        """Sign bits, or None."""
        return self._map("bits.u8", np.uint8, (self.n, self.n_bits // 8)) if "bits.u8" in self.files else None

    @cached_property
    def scales(self) -> NDArray[np.float16] | None:
        """Scales of the sign bits, or None."""
        return self._map("scales.f16", np.float16, (self.n,)) if "scales.f16" in self.files else None

    @cached_property
    def embeddings(self) -> NDArray[np.float16] | None:
        """The stored embeddings, (n, D) float16, or None; call `require_rows` before reading rows of this array."""
        return self._map("embeddings.f16", np.float16, (self.n, self.D)) if "embeddings.f16" in self.files else None

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Id of each row."""
        return self._map("ids.i64", np.int64, (self.n,))

    @cached_property
    def rows(self) -> NDArray[np.uint32]:
        """Row of each id from first_id on."""
        return self._map("rows.u32", np.uint32, (self.last_id - self.first_id + 1 if self.n else 0,))

    def table(self, name: str) -> StoredTable | None:
        """Return the table of a file, items.parquet (the metadata, ascending by id) or errors.parquet, or None."""
        return StoredTable(self, name) if name in self.files else None

    def row_codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows start..stop-1 as row-major codes, (stop - start, d) uint8."""
        first, last = start // TILE, -(-stop // TILE)
        rows = self.codes[first:last].transpose(0, 2, 1).reshape(-1, self.d)
        return np.ascontiguousarray(rows[start - first * TILE : stop - first * TILE])

    def take_embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return embeddings of rows, (m, D) float16: stored ones, else decoded ones, else zeros."""
        if self.embeddings is not None:
            self.require_rows(rows)
            return np.asarray(self.embeddings[rows])
        if self.decode is not None:
            return self.decode(self.take_codes(rows))
        return np.zeros((len(rows), self.D), np.float16)

    def take_codes(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return codes of rows, (m, d) uint8."""
        return np.asarray(self.codes[rows // TILE, :, rows % TILE])

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file of numbers by its name, as n, d, n_bits and D determine them."""
        span = self.last_id - self.first_id + 1 if self.n else 0
        return {
            "codes.u8": self.tiles * self.d * TILE,
            "zones.u8": self.tiles * 2 * self.d * ZONES,
            "ids.i64": 8 * self.n,
            "rows.u32": 4 * span,
            "bits.u8": self.n * self.n_bits // 8,
            "scales.f16": 2 * self.n,
            "embeddings.f16": 2 * self.n * self.D,
            SUMS: 4 * sum(count_of(entry["bytes"]) for name, entry in self.files.items() if name != SUMS),
        }

    def require(self) -> None:
        """Raise CatalogFormatError with the name of a file that is missing, not a regular file or of another size."""
        for problem in self.misnamed():
            raise CatalogFormatError(f"{problem}; {RESTORE}")
        for name, entry in self.files.items():
            require_file(self.folder / name, entry)

    def require_sound(self) -> None:
        """Raise CatalogFormatError with the name of the first file that is damaged or contradicts the others."""
        for problem in self.problems():
            raise CatalogFormatError(f"{problem}; {RESTORE}")

    def problems(self) -> list[str]:
        """Check checksums and consistency; one line per problem, each naming the file."""
        found = [*self.misnamed(), *problems_of(self.folder, self.files)]
        if SUMS in self.files and not found:
            wrong = [name for name in self.sums if self._blocks(name).damaged()]
            found += [f"{self.folder / SUMS}: the checksums of {name} do not match the file" for name in wrong]
        if found or not self.n:
            return found
        ids = np.asarray(self.ids)
        if ids.min() != self.first_id or ids.max() != self.last_id or len(np.unique(ids)) != self.n:
            found.append(f"{self.folder / 'ids.i64'}: expected distinct ids from {self.first_id} to {self.last_id}")
        elif not np.array_equal(self.rows[ids - self.first_id], np.arange(self.n)):
            found.append(f"{self.folder / 'rows.u32'}: not the inverse of ids.i64")
        if not np.array_equal(zones_of(self.codes, self.n), self.zones):
            found.append(f"{self.folder / 'zones.u8'}: not the minima and maxima of codes.u8")
        return found

    def misnamed(self) -> list[str]:
        """Return the problems of the files' entries in the manifest, one line per file."""
        found = []
        for name, entry in self.files.items():
            wanted = self.sizes.get(name, entry["bytes"])
            if entry["bytes"] != wanted:
                found.append(
                    f"{self.folder / name}: expected {wanted:,} bytes for {self.n:,} rows, the manifest names "
                    f"{entry['bytes']:,}"
                )
        for name in REQUIRED if not self.n_bits else (*REQUIRED, *SIGNS):
            if name not in self.files:
                found.append(f"{self.folder / name}: expected an entry in the manifest, got none")
        return found

    def require_rows(self, rows: NDArray[np.int64]) -> None:
        """Raise CatalogFormatError if the stored embeddings of rows, (m,) int64, are damaged."""
        blocks = self._blocks("embeddings.f16")
        if not blocks.all_sound:
            self.require_blocks("embeddings.f16", blocks.of_rows(rows, 2 * self.D))

    def require_allowed(self, start: int, allowed: NDArray[np.uint64]) -> None:
        """Do as `require_rows` for the rows of set bits, (words,) uint64: bit p of word w is row start + 64 w + p."""
        if not self._blocks("embeddings.f16").all_sound:
            bits = np.unpackbits(allowed.view(np.uint8), bitorder="little")
            self.require_rows(start + np.flatnonzero(bits))

    def require_blocks(self, name: str, blocks: Iterable[int] | None = None) -> None:
        """Raise CatalogFormatError if some blocks of a file are damaged; None: if any block is damaged.

        A block is compared once. Segments of version 1 have no checksums of blocks: only `verify` checks their `LARGE`
        files; the others are compared whole.
        """
        for block in self._blocks(name).damaged(blocks):
            raise CatalogFormatError(
                f"{self.folder / name}: damaged: the bytes from {block * BLOCK_BYTES:,} on have changed; {RESTORE}"
            )

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
        """Map a file of numbers, compared with its checksums first unless it is one of the `LARGE`."""
        if 0 in shape:
            return np.zeros(shape, dtype)
        if name not in LARGE:
            self.require_blocks(name)
        return self._blocks(name).content.view(dtype).reshape(shape)

    def _blocks(self, name: str) -> Blocks:
        held = self._opened.get(name)
        if held is None:
            content = self._content(name)
            if SUMS in self.files:
                held = Blocks(content, self.sums[name])
            else:
                if name not in LARGE:
                    require_content(self.folder / name, self.files[name], hashlib.sha256(content.data).hexdigest())
                held = Blocks(content, np.zeros(0, np.uint32))
            self._opened[name] = held
        return held

    def _content(self, name: str) -> NDArray[np.uint8]:
        """Map the bytes of a file."""
        path, size = self.folder / name, self.files[name]["bytes"]
        if not size:
            return np.zeros(0, np.uint8)
        try:
            with open(open_regular(path), "rb") as file:
                # As a plain array: a slice of it costs no more than its rows.
                return np.memmap(file, np.uint8, "r", shape=(size,)).view(np.ndarray)
        except OSError as error:
            raise unreadable(path, error) from error
        except ValueError as error:  # the file has become shorter
            raise CatalogFormatError(f"{path}: cannot be mapped: {error}; {RESTORE}") from error

    @cached_property
    def sums(self) -> dict[str, NDArray[np.uint32]]:
        """The checksums of blocks by file, (blocks,) uint32 each. Raises CatalogFormatError if they are damaged."""
        every = np.frombuffer(read_content(self.folder / SUMS, self.files[SUMS]), np.uint32)
        names = sorted(name for name in self.files if name != SUMS)
        ends = np.cumsum([count_of(self.files[name]["bytes"]) for name in names])
        return dict(zip(names, np.split(every, ends[:-1]), strict=True))


@dataclass(frozen=True)
class StoredTable:
    """A Parquet file of a segment."""

    segment: Segment
    name: str

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.segment.folder / self.name

    def open(self) -> io.RawIOBase:
        """Return the content as a file; each block is compared with its checksum when it is read."""
        blocks = self.segment._blocks(self.name)
        return Reader(blocks.content, lambda requested: self.segment.require_blocks(self.name, requested))


def problems_of(folder: Path, files: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the problems of some files by their entries in a manifest, one line per file."""
    found = []
    for name, entry in files.items():
        try:
            require_content(folder / name, entry)
        except CatalogFormatError as error:
            found.append(str(error).removesuffix(f"; {RESTORE}"))
    return found


@dataclass(frozen=True)
class Rows:
    """The rows of a segment, ascending by id.

    codes: (n, d) uint8; ids: (n,) int64; bits: (n, P/8) uint8 and scales: (n,) float16, or None; embeddings: function
    of rows, (m,) int64, to (m, D) float16, or None; items: metadata, row i of ids[i], or None.
    """

    codes: NDArray[np.uint8]
    ids: NDArray[np.int64]
    bits: NDArray[np.uint8] | None = None
    scales: NDArray[np.float16] | None = None
    embeddings: Gather | None = None
    items: pa.Table | None = None


def write_segment(
    folder: Path, new: Rows, errors: pa.Table | None, kept: Mapping[Path, dict[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Write one segment's files into a new folder, on the disk when this returns; return {file name: {bytes, sha256}}.

    Rows are reordered. The embeddings are requested some thousand rows at a time, by several threads and little ahead,
    so peak memory does not grow with D. One thread writes all files, one after another.
    kept: files of tables that are copied unchanged, with their entries in the manifest; a damaged one raises
    CatalogFormatError. Raises OSError if a file cannot be written.
    """
    codes, ids = new.codes, new.ids
    threads = cores()
    order = kd_order(codes, threads)
    make_folder(folder.parent)
    folder.mkdir()
    tiles = to_tiles(codes[order])
    first = int(ids[0]) if len(ids) else 0
    rows = np.full(int(ids[-1]) - first + 1 if len(ids) else 0, _NO_ROW)
    rows[ids[order] - first] = np.arange(len(ids), dtype=np.uint32)
    stored: dict[str, list[NDArray[Any]]] = {
        "codes.u8": [tiles],
        "zones.u8": [zones_of(tiles, len(codes))],
        "ids.i64": [ids[order]],
        "rows.u32": [rows],
    }
    if new.bits is not None and new.scales is not None:
        stored |= {"bits.u8": [new.bits[order]], "scales.f16": [new.scales[order]]}
    written = {name: _store(folder / name, parts) for name, parts in stored.items()}
    if new.embeddings is not None:
        each = (order[start : start + _CHUNK_ROWS] for start in range(0, len(order), _CHUNK_ROWS))
        written["embeddings.f16"] = _store(folder / "embeddings.f16", map_ahead(new.embeddings, each, threads))
    written |= _write_tables(folder, new, errors)
    for path, entry in (kept or {}).items():
        written[path.name] = copy_file(path, entry, folder / path.name)
    sums = [np.array(written[name].sums, np.uint32) for name in sorted(written)]
    written[SUMS] = _store(folder / SUMS, sums)
    sync_folder(folder)
    sync_folder(folder.parent)
    return {name: written[name].entry for name in sorted(written)}


def add_segment(
    path: Path,
    number: int,
    rows: Rows,
    errors: pa.Table | None,
    kept: Mapping[Path, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write a segment of a catalog, see `write_segment`; return its entry in the manifest."""
    name = f"segments/{number:06d}-{uuid.uuid4().hex[:8]}"
    files = write_segment(path / name, rows, errors, kept)
    first, last = (int(rows.ids[0]), int(rows.ids[-1])) if len(rows.ids) else (0, -1)
    return {"name": name, "n": len(rows.ids), "first_id": first, "last_id": last, "files": files}


def _store(path: Path, parts: Iterable[NDArray[Any]]) -> Output:
    with output(path) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part))
    return file


def _write_tables(folder: Path, new: Rows, errors: pa.Table | None) -> dict[str, Output]:
    """Write metadata and errors if there are any; pyarrow is imported only then."""
    written = {}
    if new.items is not None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        own = {name: new.items[name] for name in new.items.column_names if name != "id"}
        with output(folder / "items.parquet") as file:
            pq.write_table(pa.table({"id": pa.array(new.ids), **own}), file, row_group_size=ITEM_GROUP)
        written["items.parquet"] = file
    if errors is not None and len(errors):
        import pyarrow.parquet as pq

        with output(folder / "errors.parquet") as file:
            pq.write_table(errors, file)
        written["errors.parquet"] = file
    return written
