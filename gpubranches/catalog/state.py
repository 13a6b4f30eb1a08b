"""The immutable state of a catalog: the opened files of one manifest, which a reader sees as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.constants import Constants
from gpubranches.catalog.decoder import Decoder
from gpubranches.catalog.manifest import file_of, listings, own_files
from gpubranches.catalog.order import TILE
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.storage import RESTORE, Lease, read_content, require_content, require_file
from gpubranches.core.arrays import Bitmap, as_ids
from gpubranches.core.embedding_space import Space
from gpubranches.errors import CatalogFormatError, UsageError


@dataclass(frozen=True, eq=False)
class State:
    """A generation of a catalog; it holds leases on its files as long as it exists.

    segments: in order of position; deleted: bitmap of deleted rows, extended to all positions, or None; leases: on the
    files outside segments.
    """

    path: Path
    manifest: dict[str, Any]
    segments: tuple[Segment, ...]
    constants: Constants
    decoder: Decoder | None
    deleted: Bitmap | None
    leases: tuple[Lease, ...]

    @classmethod
    def open(cls, path: Path, manifest: dict[str, Any], before: State | None = None) -> State:
        """Open the files of a manifest. before: a state whose segments are reused where they are the same.

        The sizes of all files are checked, and the content of those outside segments, except the listings of inputs,
        which only an ingest or append reads. Raises CatalogFormatError with the name of a damaged file.
        """
        leases = tuple(Lease(path / name) for name in own_files(manifest))
        for name, entry in listings(manifest).items():
            require_file(path / name, entry)
        named = file_of(manifest, "constants")
        assert named is not None  # nosec B101  # a manifest without constants is refused
        if before is not None and before.manifest["files"].get(named) == manifest["files"][named]:
            constants = before.constants
        else:
            dims = {name: manifest[name] for name in ("d", "D", "n_bits")}
            constants = Constants.from_bytes(path / named, read_content(path / named, manifest["files"][named]), **dims)
        decoder = _decoder(path, manifest, constants, before)
        segments = tuple(_segments(path, manifest, decoder, before))
        deleted = deleted_bitmap(path, manifest["deleted"], sum(segment.tiles for segment in segments) * TILE)
        return cls(path, manifest, segments, constants, decoder, deleted, leases)

    @cached_property
    def generation(self) -> int:
        """Number of the commit."""
        return int(self.manifest["generation"])

    @cached_property
    def space(self) -> Space:
        """Identities of the models and constants that made the data."""
        return Space(**self.manifest["space"])

    @cached_property
    def n_positions(self) -> int:
        """Row positions including padding."""
        return sum(segment.tiles for segment in self.segments) * TILE

    @cached_property
    def n_deleted(self) -> int:
        """Deleted rows."""
        return 0 if self.deleted is None else int(np.bitwise_count(self.deleted).sum())

    @cached_property
    def n(self) -> int:
        """Live items."""
        return sum(segment.n for segment in self.segments) - self.n_deleted

    @cached_property
    def stores_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        kept = self.manifest["D"] > 0 and self.manifest.get("keeps_embeddings", True)
        return kept and all("embeddings.f16" in segment.files for segment in self.filled)

    @property
    def has_embeddings(self) -> bool:
        """Whether there are embeddings, stored or decoded."""
        return self.stores_embeddings or (self.manifest["D"] > 0 and self.decoder is not None)

    @cached_property
    def filled(self) -> tuple[Segment, ...]:
        """The segments that have rows."""
        return tuple(segment for segment in self.segments if segment.n)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Names that identify the layout of rows; states with rows at other positions have other names."""
        return tuple(segment.folder.name for segment in self.filled)

    @cached_property
    def _first_ids(self) -> NDArray[np.int64]:
        return np.array([segment.first_id for segment in self.filled], np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array([segment.start for segment in self.filled], np.int64)

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, (m,) int64, -1 where unknown; deleted rows are found."""
        found = np.full(len(ids), -1, np.int64)
        for index, own in _by_owner(self._first_ids, ids):
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
            at = positions[known]
            positions[known[(self.deleted[at // 8] >> (at % 8).astype(np.uint8)) & 1 == 1]] = -1
        return positions

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        wanted = as_ids(ids)
        positions = self.find_live(wanted)
        missing = wanted[positions < 0]
        if len(missing):
            raise UsageError(
                f"ids: expected items of the catalog (0..{self.manifest['next_id'] - 1}), {len(missing)} do not exist "
                f"or are deleted, such as {missing[:5].tolist()}; look ids up with search"
            )
        return positions

    def by_segment(self, ids: ArrayLike) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that holds some of ids, their rows in it, and their places in ids."""
        positions = self.positions(ids)
        for index, at in _by_owner(self._starts, positions):
            yield self.filled[index], positions[at] - self.filled[index].start, at

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of the rows at positions, all of them filled, (m,) int64."""
        ids = np.zeros(len(positions), np.int64)
        for segment in self.filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            ids[at] = segment.ids[positions[at] - segment.start]
        return ids

    def deleted_flags(self) -> NDArray[np.bool_]:
        """Return which positions are deleted, (n_positions,) bool."""
        if self.deleted is None:
            return np.zeros(self.n_positions, np.bool_)
        return np.unpackbits(self.deleted, count=self.n_positions, bitorder="little").astype(np.bool_)


def named_segments(path: Path, manifest: dict[str, Any], decoder: Decoder | None = None) -> Iterator[Segment]:
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
            decode=decoder,
        )
        yield segment
        start += segment.tiles * TILE


def _segments(path: Path, manifest: dict[str, Any], decoder: Decoder | None, before: State | None) -> Iterator[Segment]:
    """Yield the segments of a manifest, each with a lease as long as it is used."""
    known = {} if before is None else {segment.folder: segment for segment in before.segments}
    for segment in named_segments(path, manifest, decoder):
        old = known.get(segment.folder)
        if old == segment and old.decode is decoder:  # with its memory maps
            yield old
        else:
            held = replace(segment, lease=Lease(segment.folder))
            held.require()
            yield held


def _decoder(path: Path, manifest: dict[str, Any], constants: Constants, before: State | None) -> Decoder | None:
    """Return the decoder of embeddings where none are stored; the content of a head is always checked."""
    name = file_of(manifest, "head")
    if name is None:
        return None
    stored = manifest.get("keeps_embeddings", True)
    known = before is not None and before.manifest["files"].get(name) == manifest["files"][name]
    if before is not None and known and (stored or before.decoder is not None):
        return None if stored else before.decoder
    require_content(path / name, manifest["files"][name])
    return None if stored else Decoder.of(path / name, constants.scalar)


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


def _by_owner(starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each span that holds some of the numbers, and their indices, ascending; starts of spans ascend."""
    owner = np.searchsorted(starts, numbers, "right").astype(np.uint16 if len(starts) < 1 << 16 else np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=len(starts) + 1))
    order = np.argsort(owner, kind="stable")
    for index in np.flatnonzero(np.diff(ends)).tolist():
        yield index, order[ends[index] : ends[index + 1]]
