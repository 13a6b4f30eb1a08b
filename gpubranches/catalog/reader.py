"""Reading a catalog: every call takes one snapshot at its beginning and reads nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.manifest import VERSION, manifest_stamp, read_manifest
from gpubranches.catalog.properties import CatalogProperties
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.catalog.steady_sample import SteadySample
from gpubranches.catalog.verify import problems
from gpubranches.core.arrays import as_ids
from gpubranches.core.bitmaps import Bitmap, LayoutBitmap, check_bitmap, has_bits, pack_bitmap
from gpubranches.core.deprecation import warn_renamed
from gpubranches.core.files import require_text
from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.encoders.joint import split
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from gpubranches.catalog.metadata_table import Column, MetadataTable

_FILTERS = 16
"""Bitmaps of filters that are cached, 2 bytes per item; everything else that is read takes about 100."""


@dataclass(frozen=True)
class Current:
    """The newest snapshot that was opened, and the stamp of its manifest."""

    snapshot: Snapshot
    stamp: tuple[int, int, int]


class _Pinned(threading.local):
    """The snapshot that a thread has pinned."""

    snapshot: Snapshot | None = None


class CatalogReader(CatalogProperties):
    """A folder with the three tiers of n items, memory-mapped; see docs/format.md.

    Every call reads one snapshot, whatever other threads commit and refresh meanwhile. A new snapshot takes the place
    of the old one in a single assignment, by `refresh` or by a commit of this object; the files of a snapshot in use
    are not removed. Put calls that must read the same snapshot into one block of `pinned`. Bitmaps of `where` are valid
    until a commit moves rows, and are refused after it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._loading = threading.RLock()
        self._pinned = _Pinned()
        self._columns: SingleFlightCache[list[Column]] = SingleFlightCache(1)
        self._filters: SingleFlightCache[Bitmap] = SingleFlightCache(_FILTERS)
        self._current = self._opened(None)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a catalog. Raises CatalogNotFoundError, or CatalogFormatError naming the file that is wrong."""
        folder = Path(path)
        require_text(folder)
        if not (folder / "manifest.json").is_file():
            raise CatalogNotFoundError(f"{folder}: expected a catalog (manifest.json), found none; ingest one first")
        return cls(folder)

    # Snapshots

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that calls of this thread read: the pinned one, else the newest that was opened."""
        return self._pinned.snapshot or self._current.snapshot

    def changed(self) -> bool:
        """Return whether the manifest on the disk differs from the newest that was read, without reading it."""
        return manifest_stamp(self.path) != self._current.stamp

    def refresh(self) -> bool:
        """Read the manifest again; return whether another process or object has committed since.

        A thread that has pinned a snapshot keeps it.
        """
        with self._loading:
            before = self._current.snapshot
            stamp = manifest_stamp(self.path)
            if read_manifest(self.path)["generation"] == before.generation:
                self._current = Current(before, stamp)
                return False
            self._current = self._opened(before)
            return True

    @contextmanager
    def pinned(self, snapshot: Snapshot | None = None) -> Iterator[Snapshot]:
        """Let all calls of this thread within the block read one snapshot, also those of backends over this catalog.

        snapshot: one that another thread has pinned; by default the one of `snapshot`.
        """
        before = self._pinned.snapshot
        self._pinned.snapshot = snapshot or self.snapshot
        try:
            yield self._pinned.snapshot
        finally:
            self._pinned.snapshot = before

    @contextmanager
    def _unpinned(self) -> Iterator[None]:
        before, self._pinned.snapshot = self._pinned.snapshot, None
        try:
            yield
        finally:
            self._pinned.snapshot = before

    def _opened(self, before: Snapshot | None) -> Current:
        """Open the files of the manifest on the disk. before: an earlier snapshot, whose segments are reused."""
        while True:
            stamp = manifest_stamp(self.path)
            manifest = read_manifest(self.path)
            try:
                return Current(Snapshot.open(self.path, manifest, before), stamp)
            except CatalogFormatError:
                # A writer may have removed the files of a generation before this reader locked them.
                if read_manifest(self.path)["generation"] == manifest["generation"]:
                    raise

    # Ids and positions

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of all items, ascending, (n,) int64."""
        return self.snapshot.live_ids()

    def alive(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Return which ids are in the catalog and not deleted, (m,) bool."""
        return self.snapshot.find_live(as_ids(ids)) >= 0

    def live_positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of those ids that are in the catalog and not deleted, in their order."""
        positions = self.snapshot.find_live(as_ids(ids))
        return positions[positions >= 0]

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        return self.snapshot.positions(ids)

    def inside(self, ids: ArrayLike, where: str | Bitmap) -> NDArray[np.bool_]:
        """Return which items meet a condition, (m,) bool; where: its text, or the bitmap of `where`.

        Unknown or deleted ids raise UsageError.
        """
        snapshot = self.snapshot
        bitmap = self._bitmap(snapshot, where)
        return has_bits(bitmap, snapshot.positions(ids))

    def sample_ids(self, count: int, rng: np.random.Generator, where: str | Bitmap | None = None) -> NDArray[np.int64]:
        """Draw ids of live items uniformly without replacement, (min(count, n),) int64 ascending.

        where: the text of a condition that the items meet, or the bitmap of `where`; without one, the draw does not
        depend on the layout of the rows.
        """
        snapshot = self.snapshot
        return snapshot.sample_ids(count, rng, None if where is None else self._bitmap(snapshot, where))

    def steady_sample(self) -> SteadySample:
        """Return a sample of the rows that stays the same while the catalog changes little."""
        return SteadySample(self.snapshot)

    # Rows

    def codes(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of items, (m, d) uint8. Unknown or deleted ids raise UsageError."""
        return self.snapshot.codes(ids)

    def take(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Call `codes` by its old name. Deprecated."""
        warn_renamed("Catalog.take", "codes")
        return self.codes(ids)

    def sign_bits(self, ids: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Return sign bits, (m, P/8) uint8, and their scales, (m,) float16, of items of a catalog that has them."""
        return self.snapshot.sign_bits(ids)

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of items, (m, D) float32, stored or decoded. Raises UsageError if there are none."""
        return self.snapshot.embeddings(ids)

    def embeddings_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the embeddings at row positions, (m, D) float16, stored or decoded; zeros at padding."""
        return self.snapshot.embeddings_at(positions)

    # Metadata

    def items(self, ids: ArrayLike) -> list[dict[str, Any]]:
        """Return the metadata of items, in their order, each a dict with at least `id`."""
        from gpubranches.catalog.items import read_items

        wanted, snapshot = as_ids(ids), self.snapshot
        rows: dict[int, dict[str, Any]] = {}
        for segment, _, at in snapshot.by_segment(wanted):
            table = segment.table("items.parquet")
            if table is not None:
                rows |= read_items(table, wanted[at])
        return [rows.get(int(i), {"id": int(i)}) for i in wanted]

    def item_table(self, ids: ArrayLike, schema: pa.Schema) -> pa.Table:
        """Return the metadata of items, in their order, as a table with the columns of `item_schema`.

        A schema of an older generation is valid, too: columns that no longer exist are null.
        """
        from gpubranches.catalog.items import read_table

        wanted, snapshot = as_ids(ids), self.snapshot
        parts = [
            (table, wanted[at])
            for segment, _, at in snapshot.by_segment(wanted)
            if (table := segment.table("items.parquet")) is not None
        ]
        return read_table(parts, wanted, schema)

    def item_schema(self) -> pa.Schema:
        """Return the metadata columns with their types, `id` first; a column of different types is text."""
        from gpubranches.catalog.items import unified_schema

        return unified_schema(self.snapshot.item_tables)

    @property
    def columns(self) -> list[str]:
        """Names of the metadata columns, `id` first."""
        from gpubranches.catalog.items import column_names

        return column_names(self.snapshot.item_tables)

    def described_columns(self) -> list[Column]:
        """Return the columns of the metadata, with the most frequent values of columns with few distinct ones."""
        snapshot = self.snapshot
        return self._columns.get(snapshot.generation, lambda: _described(snapshot)) if snapshot.item_tables else []

    def where(self, condition: str) -> Bitmap:
        """Return the positions whose metadata meet a condition of `conditions.parse`, as a bitmap; not to be changed.

        The last bitmaps are cached. Raises UsageError for a text that is no condition, an unknown column, or a
        comparison with a value of another kind.
        """
        return self._bitmap(self.snapshot, condition)

    def count(self, where: str | Bitmap | None = None) -> int:
        """Return how many live items meet a condition, given as a text or as the bitmap of `where`; None for all."""
        snapshot = self.snapshot
        if where is None:
            return snapshot.n
        return int(np.bitwise_count(snapshot.live(self._bitmap(snapshot, where))).sum())

    # Inputs that could not be read

    @property
    def n_errors(self) -> int:
        """Number of inputs that could not be read; those that were ingested later do not count."""
        from gpubranches.catalog.items import count_rows

        snapshot = self.snapshot
        return count_rows(snapshot.error_tables) - len(_repaired_ids(snapshot))

    def errors(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the inputs that could not be read, or the first of them: dicts of id, path, reason.

        Inputs that were repaired and ingested later, under other ids, are left out.
        """
        from gpubranches.catalog.items import read_errors

        snapshot = self.snapshot
        errors, repaired = read_errors(snapshot.error_tables), _repaired_ids(snapshot)
        if repaired:
            errors = errors.filter(~np.isin(errors["id"].to_numpy(), repaired))
        return list(errors[:limit].to_pylist())

    # The whole catalog

    def info(self) -> dict[str, Any]:
        """Return counts, dims, tiers, space and bytes of the catalog, as JSON."""
        with self.pinned() as snapshot:
            specs = split(self.embedder)
            tiers = {"codes": True, "bits": self.has_bits, "embeddings": self.stores_embeddings}
            return {
                "path": str(self.path),
                "version": VERSION,
                "n": self.n,
                "deleted": self.n_deleted,
                "broken": self.n_errors,
                "d": self.d,
                "D": self.D,
                "tiers": [tier for tier, there in tiers.items() if there],
                "embeddings": "stored" if self.stores_embeddings else "decoded" if self.has_embeddings else "none",
                "columns": self.columns if snapshot.item_tables else [],
                "embedder": specs[0] if len(specs) == 1 else specs,
                **({"parts": [part.stop - part.start for part in self.parts]} if len(specs) > 1 else {}),
                "space": self.space.to_json(),
                "segments": len(self.segments),
                "generation": self.generation,
                "bytes": sum(entry["bytes"] for segment in self.segments for entry in segment.files.values()),
            }

    def verify(self) -> list[str]:
        """Check every checksum and the consistency of the files; one line per problem, empty if there is none."""
        return problems(self.path, self.snapshot.manifest)

    def _bitmap(self, snapshot: Snapshot, where: str | Bitmap) -> Bitmap:
        """Return the bitmap of a condition, or a bitmap of that snapshot. Errors as of `where`."""
        if isinstance(where, str):
            return self._filters.get((snapshot.layout, where), lambda: _filtered(snapshot, where))
        check_bitmap(where, "where", snapshot.n_positions, snapshot.layout)
        return where


def _metadata(snapshot: Snapshot) -> MetadataTable:
    from gpubranches.catalog.metadata_table import MetadataTable

    if not snapshot.item_tables:
        raise UsageError(f"where: {snapshot.path} has no metadata to filter by")
    bare = [segment.ids[: segment.n] for segment in snapshot.filled if "items.parquet" not in segment.files]
    return MetadataTable(snapshot.item_tables, np.concatenate([np.zeros(0, np.int64), *bare]))


def _filtered(snapshot: Snapshot, condition: str) -> Bitmap:
    positions = snapshot.find(_metadata(snapshot).select(condition))
    flags = np.zeros(snapshot.n_positions, np.bool_)
    flags[positions[positions >= 0]] = True
    return LayoutBitmap.of(pack_bitmap(flags), snapshot.layout)


def _described(snapshot: Snapshot) -> list[Column]:
    return _metadata(snapshot).columns(snapshot.ids_at(np.flatnonzero(snapshot.deleted_flags())))


def _repaired_ids(snapshot: Snapshot) -> list[int]:
    """Return the ids of inputs that could not be read and were ingested later under other ids."""
    inputs = snapshot.manifest["source"].get("inputs", ())
    return [item for record in inputs for item in record.get("mended", ())]
