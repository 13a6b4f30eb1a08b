"""A snapshot: the files of one generation of a catalog, opened together and never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.codec import Codec
from gpubranches.catalog.fitted_statistics import FittedStatistics
from gpubranches.catalog.manifest import file_of, listings, own_files
from gpubranches.catalog.segment import Decode, Segment, StoredTable
from gpubranches.catalog.storage import RESTORE, Lease, read_content, require_content, require_file
from gpubranches.catalog.tiles import TILE
from gpubranches.core.arrays import as_ids
from gpubranches.core.bitmaps import Bitmap, has_bits, sample_bitmap, unpack_bitmap
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.errors import CatalogFormatError, UsageError

_SPARSE = 16
"""If there are more ids than this per live item, drawing random ids would mostly hit deleted ones."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One generation of a catalog. It holds leases on its files, which no writer removes as long as it exists.

    segments: in order of position; statistics: fitted once for the catalog; codec: decodes embeddings if the catalog
    stores none, else None; deleted: bitmap of deleted rows, extended to all positions, or None; leases: on the files
    outside segments.
    """

    path: Path
    manifest: dict[str, Any]
    segments: tuple[Segment, ...]
    statistics: FittedStatistics
    codec: Codec | None
    deleted: Bitmap | None
    leases: tuple[Lease, ...]

    @classmethod
    def open(cls, path: Path, manifest: dict[str, Any], before: Snapshot | None = None) -> Snapshot:
        """Open the files of a manifest. before: a snapshot whose unchanged segments are reused.

        The sizes of all files are checked, and the content of those outside segments, except the listings of inputs,
        which only an ingest or append reads. Raises CatalogFormatError with the name of a damaged file.
        """
        leases = tuple(Lease(path / name) for name in own_files(manifest))
        for name, entry in listings(manifest).items():
            require_file(path / name, entry)
        statistics = _statistics(path, manifest, before)
        codec = _decoding_codec(path, manifest, statistics, before)
        segments = tuple(_leased_segments(path, manifest, codec, before))
        deleted = deleted_bitmap(path, manifest["deleted"], sum(segment.tiles for segment in segments) * TILE)
        return cls(path, manifest, segments, statistics, codec, deleted, leases)

    # Counts and identities

    @cached_property
    def generation(self) -> int:
        """Number of the commit."""
        return int(self.manifest["generation"])

    @cached_property
    def space(self) -> EmbeddingSpace:
        """Identities of the models and statistics that made the data."""
        return EmbeddingSpace(**self.manifest["space"])

    @cached_property
    def n_positions(self) -> int:
        """Number of row positions, including padding."""
        return sum(segment.tiles for segment in self.segments) * TILE

    @cached_property
    def n_deleted(self) -> int:
        """Deleted rows."""
        return 0 if self.deleted is None else int(np.bitwise_count(self.deleted).sum())

    @cached_property
    def n(self) -> int:
        """Number of live items."""
        return sum(segment.n for segment in self.segments) - self.n_deleted

    @cached_property
    def filled(self) -> tuple[Segment, ...]:
        """The segments that have rows."""
        return tuple(segment for segment in self.segments if segment.n)

    @cached_property
    def layout(self) -> tuple[str, ...]:
        """Names that identify the layout of rows; snapshots with rows at other positions have other names."""
        return tuple(segment.folder.name for segment in self.filled)

    @cached_property
    def stores_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        kept = self.manifest["D"] > 0 and self.manifest.get("keeps_embeddings", True)
        return kept and all("embeddings.f16" in segment.files for segment in self.filled)

    @property
    def has_embeddings(self) -> bool:
        """Whether there are embeddings, stored or decoded."""
        return self.stores_embeddings or (self.manifest["D"] > 0 and self.codec is not None)

    @property
    def item_tables(self) -> list[StoredTable]:
        """The metadata, in order of position."""
        return [table for segment in self.segments if (table := segment.table("items.parquet")) is not None]

    @property
    def error_tables(self) -> list[StoredTable]:
        """The inputs that could not be read, in order of position."""
        return [table for segment in self.segments if (table := segment.table("errors.parquet")) is not None]

    # Ids and positions

    @cached_property
    def _first_ids(self) -> NDArray[np.int64]:
        return np.array([segment.first_id for segment in self.filled], np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array([segment.start for segment in self.filled], np.int64)

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, (m,) int64, -1 where unknown; deleted rows are found."""
        found = np.full(len(ids), -1, np.int64)
        for index, own in _by_span(self._first_ids, ids):
            segment = self.filled[index]
            at = own[ids[own] <= segment.last_id]
            rows = segment.rows[ids[at] - segment.first_id]
            known = rows != 0xFFFFFFFF
            found[at[known]] = segment.start + rows[known].astype(np.int64)
        return found

    def find_live(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, (m,) int64, -1 where unknown or deleted."""
        positions = self.find(ids)
        if self.deleted is not None:
            known = np.flatnonzero(positions >= 0)
            positions[known[has_bits(self.deleted, positions[known])]] = -1
        return positions

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        wanted = as_ids(ids)
        positions = self.find_live(wanted)
        missing = wanted[positions < 0]
        if len(missing):
            some = missing[:5].tolist()
            raise UsageError(
                f"ids: expected items of the catalog (0..{self.manifest['next_id'] - 1}), {len(missing)} do not exist "
                f"or are deleted, such as {some}; look ids up with search"
            ).because("unknown-items", count=len(some), ids=", ".join(map(str, some)))
        return positions

    def by_segment(self, ids: ArrayLike) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that contains some of the ids, their rows in it, and their indices in ids."""
        positions = self.positions(ids)
        for index, at in _by_span(self._starts, positions):
            yield self.filled[index], positions[at] - self.filled[index].start, at

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of the rows at positions, all of them filled, (m,) int64."""
        ids = np.zeros(len(positions), np.int64)
        for segment, rows, at in self._at(positions):
            ids[at] = segment.ids[rows]
        return ids

    def live_ids(self) -> NDArray[np.int64]:
        """Return the ids of all live items, (n,) int64 ascending."""
        parts = (np.sort(segment.ids) for segment in self.filled)
        return np.concatenate([np.zeros(0, np.int64), *(ids[self.find_live(ids) >= 0] for ids in parts)])

    def deleted_flags(self) -> NDArray[np.bool_]:
        """Return which positions are deleted, (n_positions,) bool."""
        if self.deleted is None:
            return np.zeros(self.n_positions, np.bool_)
        return unpack_bitmap(self.deleted, self.n_positions)

    def live(self, where: Bitmap) -> Bitmap:
        """Return a bitmap without the deleted rows."""
        return where if self.deleted is None else where & ~self.deleted

    def sample_ids(self, count: int, rng: np.random.Generator, where: Bitmap | None = None) -> NDArray[np.int64]:
        """Draw ids of live items uniformly without replacement, (min(count, n),) int64 ascending.

        Ids are drawn, so that the draw does not depend on the layout of the rows; with `where`, positions are drawn.
        """
        if where is not None:
            return np.sort(self.ids_at(sample_bitmap(self.live(where), count, rng)))
        count, next_id = min(count, self.n), int(self.manifest["next_id"])
        if count * 4 < self.n and next_id <= _SPARSE * self.n:
            drawn = np.zeros(0, np.int64)
            while len(drawn) < count:
                more = rng.integers(0, next_id, 2 * count)
                more = more[self.find_live(more) >= 0]
                _, first = np.unique(np.concatenate([drawn, more]), return_index=True)
                drawn = np.concatenate([drawn, more])[np.sort(first)]
            return np.sort(drawn[:count])
        return np.sort(rng.choice(self.live_ids(), count, replace=False))

    # Rows

    def codes(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of items, (m, d) uint8."""
        out = np.zeros((np.size(ids), self.manifest["d"]), np.uint8)
        for segment, rows, at in self.by_segment(ids):
            out[at] = segment.take_codes(rows)
        return out

    def sign_bits(self, ids: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Return sign bits, (m, P/8) uint8, and their scales, (m,) float16, of items of a catalog that has them."""
        bits = np.zeros((np.size(ids), self.manifest["n_bits"] // 8), np.uint8)
        scales = np.zeros(np.size(ids), np.float16)
        for segment, rows, at in self.by_segment(ids):
            if segment.bits is not None and segment.scales is not None:
                bits[at], scales[at] = segment.bits[rows], segment.scales[rows]
        return bits, scales

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of items, (m, D) float32, stored or decoded. Raises UsageError if there are none."""
        if not self.has_embeddings:
            raise UsageError(f"embeddings: {self.path} has none; ingest the embeddings or the images")
        out = np.zeros((np.size(ids), self.manifest["D"]), np.float32)
        for segment, rows, at in self.by_segment(ids):
            out[at] = segment.take_embeddings(rows)
        return out

    def embeddings_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the embeddings at row positions, (m, D) float16, stored or decoded; zeros at padding."""
        out = np.zeros((len(positions), self.manifest["D"]), np.float16)
        for segment, rows, at in self._at(positions):
            out[at] = segment.take_embeddings(rows)
        return out

    def codes_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the codes at row positions, (m, d) uint8; zeros at padding."""
        out = np.zeros((len(positions), self.manifest["d"]), np.uint8)
        for segment, rows, at in self._at(positions):
            out[at] = segment.take_codes(rows)
        return out

    def _at(self, positions: NDArray[np.integer[Any]]) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that has rows at some of the positions, these rows, and their indices in positions."""
        for segment in self.filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            if len(at):
                yield segment, positions[at].astype(np.int64) - segment.start, at


def manifest_segments(path: Path, manifest: dict[str, Any], decode: Decode | None = None) -> Iterator[Segment]:
    """Yield the segments that a manifest names, whether their files exist or not."""
    start = 0
    for entry in manifest["segments"]:
        segment = Segment(
            folder=path / entry["name"],
            start=start,
            n=entry["n"],
            d=manifest["d"],
            n_bits=manifest["n_bits"],
            D=manifest["D"],
            first_id=entry["first_id"],
            last_id=entry["last_id"],
            files=entry["files"],
            decode=decode,
        )
        yield segment
        start += segment.tiles * TILE


def read_statistics(path: Path, manifest: dict[str, Any]) -> FittedStatistics:
    """Return the fitted statistics of a manifest. Raises CatalogFormatError for a damaged file."""
    name = file_of(manifest, "constants")
    assert name is not None  # nosec B101  # `read_manifest` refuses a manifest without this file
    dims = {name: manifest[name] for name in ("d", "D", "n_bits")}
    return FittedStatistics.from_bytes(path / name, read_content(path / name, manifest["files"][name]), **dims)


def deleted_bitmap(path: Path, entry: dict[str, Any] | None, n_positions: int) -> Bitmap | None:
    """Return the bitmap of deleted rows, extended to n_positions, or None."""
    if not entry:
        return None
    bitmap = np.frombuffer(read_content(path / entry["name"], entry), np.uint8)
    deleted = np.zeros(-(-n_positions // 8), np.uint8)
    if len(bitmap) > len(deleted):
        raise CatalogFormatError(
            f"{path / entry['name']}: expected at most {len(deleted):,} bytes, got {len(bitmap):,}; {RESTORE}"
        )
    deleted[: len(bitmap)] = bitmap
    return deleted


def _statistics(path: Path, manifest: dict[str, Any], before: Snapshot | None) -> FittedStatistics:
    """Return the fitted statistics, those of an earlier snapshot if the file is the same."""
    name = file_of(manifest, "constants")
    if before is not None and before.manifest["files"].get(name) == manifest["files"].get(name):
        return before.statistics
    return read_statistics(path, manifest)


def _decoding_codec(
    path: Path, manifest: dict[str, Any], statistics: FittedStatistics, before: Snapshot | None
) -> Codec | None:
    """Return the codec that decodes embeddings if none are stored, else None; a head's content is checked when new."""
    name = file_of(manifest, "head")
    if name is None:
        return None
    stored = manifest.get("keeps_embeddings", True)
    known = before is not None and before.manifest["files"].get(name) == manifest["files"][name]
    if before is not None and known and (stored or before.codec is not None):
        return None if stored else before.codec
    require_content(path / name, manifest["files"][name])
    codec = None if stored else Codec.load(path / name, statistics.scalar)
    return codec if codec is not None and codec.decodes else None


def _leased_segments(
    path: Path, manifest: dict[str, Any], codec: Codec | None, before: Snapshot | None
) -> Iterator[Segment]:
    """Yield the segments of a manifest, each with a lease; unchanged ones are those of the earlier snapshot."""
    known = {} if before is None else {segment.folder: segment for segment in before.segments}
    decode = None if codec is None else codec.decode
    for segment in manifest_segments(path, manifest, decode):
        old = known.get(segment.folder)
        if old == segment and old.decode == decode:  # with its memory maps
            yield old
        else:
            leased = replace(segment, lease=Lease(segment.folder))
            leased.require()
            yield leased


def _by_span(starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each span that contains some of the numbers, and their indices, ascending; starts of spans ascend."""
    owner = np.searchsorted(starts, numbers, "right").astype(np.uint16 if len(starts) < 1 << 16 else np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=len(starts) + 1))
    order = np.argsort(owner, kind="stable")
    for index in np.flatnonzero(np.diff(ends)).tolist():
        yield index, order[ends[index] : ends[index + 1]]
