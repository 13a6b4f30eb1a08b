"""Reading a catalog: what one generation of it holds, by id and by position."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.about import About
from gpubranches.catalog.info import info_of
from gpubranches.catalog.manifest import looks_of, read_manifest
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.state import State
from gpubranches.catalog.verify import problems
from gpubranches.core.arrays import Bitmap, PlacedBitmap, as_ids, check_bitmap, pack_bitmap, sample_bitmap
from gpubranches.core.files import require_text
from gpubranches.core.single_flight import Memo
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from gpubranches.catalog.table import Column, Table

_SPARSE = 16
"""Ids ever given for each item there is, beyond which few ids drawn would be those of an item."""
_FILTERS = 16
"""Bitmaps of filters that are kept: 2 bytes an item, where all else that is read takes some 100."""


class _Pinned(threading.local):
    """The state that a thread has pinned."""

    state: State | None = None


class CatalogReader(About):
    """A folder with the three tiers of n items, memory-mapped; see docs/format.md.

    Every call sees one state of the catalog from its beginning to its end, whatever other threads commit and refresh;
    the opened state is kept until `refresh`, and its files are not removed. Put calls that must see the same state into
    one block of `pinned`. Bitmaps of `where` are valid until a commit moves rows, and are refused after it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._loading = threading.RLock()
        self._pinned = _Pinned()
        self._described: Memo[list[Column]] = Memo(1)
        self._filtered: Memo[Bitmap] = Memo(_FILTERS)
        self._newest: State | None = None
        self._load()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a catalog. Raises CatalogNotFoundError, or CatalogFormatError naming the file that is wrong."""
        folder = Path(path)
        require_text(folder)
        if not (folder / "manifest.json").is_file():
            raise CatalogNotFoundError(f"{folder}: expected a catalog (manifest.json), found none; ingest one first")
        return cls(folder)

    def changed(self) -> bool:
        """Return whether another manifest lies there than the one that was read, without reading it."""
        return looks_of(self.path) != self._looks

    def refresh(self) -> bool:
        """Read the manifest again; return whether another process or object has committed since.

        A thread that has pinned a state keeps it.
        """
        with self._loading:
            looks = looks_of(self.path)
            if self._newest is not None and read_manifest(self.path)["generation"] == self._newest.generation:
                self._looks = looks
                return False
            self._load()
            return True

    @contextmanager
    def pinned(self, state: State | None = None) -> Iterator[State]:
        """Let this thread see one state in all calls of the block, also those of backends over this catalog.

        state: a state that another thread has pinned; by default the one that this thread has pinned, else the present
        one.
        """
        before = self._pinned.state
        self._pinned.state = state or self._state
        try:
            yield self._pinned.state
        finally:
            self._pinned.state = before

    @contextmanager
    def _unpinned(self) -> Iterator[None]:
        before, self._pinned.state = self._pinned.state, None
        try:
            yield
        finally:
            self._pinned.state = before

    # Ids and positions

    def alive(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Return which ids are in the catalog and not deleted, (m,) bool."""
        return self._state.find_live(as_ids(ids)) >= 0

    def live_positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of those ids that are in the catalog and not deleted, in their order."""
        positions = self._state.find_live(as_ids(ids))
        return positions[positions >= 0]

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        return self._state.positions(ids)

    def inside(self, ids: ArrayLike, where: Bitmap) -> NDArray[np.bool_]:
        """Return which ids a bitmap of `where` holds, (m,) bool. Unknown or deleted ids raise UsageError."""
        with self.pinned() as state:
            check_bitmap(where, "where", state.n_positions, state.places)
            at = state.positions(ids)
        held: NDArray[np.bool_] = (where[at // 8] >> (at % 8).astype(np.uint8)) & 1 == 1
        return held

    def by_segment(self, ids: ArrayLike) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that holds some of ids, their rows in it, and their places in ids."""
        return self._state.by_segment(ids)

    # Reading

    def take(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of items, (m, d) uint8."""
        with self.pinned() as state:
            out = np.zeros((np.size(ids), self.d), np.uint8)
            for segment, rows, at in state.by_segment(ids):
                out[at] = segment.take_codes(rows)
            return out

    def take_bits(self, ids: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Return sign bits, (m, P/8) uint8, and their scales, (m,) float16, of items of a catalog that has them."""
        with self.pinned() as state:
            bits, scales = np.zeros((np.size(ids), self.n_bits // 8), np.uint8), np.zeros(np.size(ids), np.float16)
            for segment, rows, at in state.by_segment(ids):
                if segment.bits is not None and segment.scales is not None:
                    bits[at], scales[at] = segment.bits[rows], segment.scales[rows]
            return bits, scales

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of items, (m, D) float32, stored or decoded. Raises UsageError if there are none."""
        with self.pinned() as state:
            if not self.has_embeddings:
                raise UsageError(f"embeddings: {self.path} has none; ingest the embeddings or the images")
            out = np.zeros((np.size(ids), self.D), np.float32)
            for segment, rows, at in state.by_segment(ids):
                out[at] = segment.take_embeddings(rows)
            return out

    def embeddings_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the embeddings at row positions, (m, D) float16, stored or decoded; zeros at padding."""
        with self.pinned() as state:
            out = np.zeros((len(positions), self.D), np.float16)
            for segment in state.filled:
                at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
                if len(at):
                    out[at] = segment.take_embeddings(positions[at].astype(np.int64) - segment.start)
            return out

    def items(self, ids: ArrayLike) -> list[dict[str, Any]]:
        """Return the metadata of items, in their order, each a dict with at least `id`."""
        from gpubranches.catalog.items import read_items

        wanted = as_ids(ids)
        rows: dict[int, dict[str, Any]] = {}
        with self.pinned() as state:
            for segment, _, at in state.by_segment(wanted):
                table = segment.table("items.parquet")
                if table is not None:
                    rows |= read_items(table, wanted[at])
        return [rows.get(int(i), {"id": int(i)}) for i in wanted]

    @property
    def columns(self) -> list[str]:
        """Names of the metadata columns, `id` first."""
        from gpubranches.catalog.items import column_names

        with self.pinned():
            return column_names(self.item_tables)

    def item_schema(self) -> pa.Schema:
        """Return the metadata columns with their types, `id` first; a column of unlike types is text."""
        from gpubranches.catalog.items import unified_schema

        with self.pinned():
            return unified_schema(self.item_tables)

    def item_table(self, ids: ArrayLike, schema: pa.Schema) -> pa.Table:
        """Return the metadata of items, in their order, as a table with the columns of `item_schema`.

        A schema of an older generation serves as well: columns that are gone are null.
        """
        from gpubranches.catalog.items import read_table

        wanted = as_ids(ids)
        with self.pinned() as state:
            parts = [
                (table, wanted[at])
                for segment, _, at in state.by_segment(wanted)
                if (table := segment.table("items.parquet")) is not None
            ]
            return read_table(parts, wanted, schema)

    def where(self, condition: str) -> Bitmap:
        """Return the positions whose metadata meet a condition of `conditions.parse`, as a bitmap; not to be changed.

        The last bitmaps are kept. Raises UsageError for another text, an unknown column, a comparison with a value of
        another kind.
        """
        with self.pinned() as state:
            return self._filtered.get((state.generation, condition), lambda: self._where(state, condition))

    def count(self, where: Bitmap | None = None) -> int:
        """Return how many items there are in a bitmap of `where`, or in all."""
        with self.pinned() as state:
            if where is None:
                return state.n
            check_bitmap(where, "where", state.n_positions, state.places)
            return int(np.bitwise_count(where if state.deleted is None else where & ~state.deleted).sum())

    def described_columns(self) -> list[Column]:
        """Return the columns of the metadata, with the most frequent values of those that hold few."""
        with self.pinned() as state:
            return self._described.get(state.generation, self._describe) if self.item_tables else []

    def sample_ids(self, count: int, rng: np.random.Generator, where: Bitmap | None = None) -> NDArray[np.int64]:
        """Draw ids of live items uniformly without replacement, (min(count, n),) int64 ascending.

        Ids are drawn, not positions, so the draw is the same however the rows lie; not so from among `where`.
        """
        with self.pinned() as state:
            if where is not None:
                check_bitmap(where, "where", state.n_positions, state.places)
                positions = sample_bitmap(where if state.deleted is None else where & ~state.deleted, count, rng)
                return np.sort(state.ids_at(positions))
            count = min(count, state.n)
            if count * 4 < state.n and self.next_id <= _SPARSE * state.n:
                drawn = np.zeros(0, np.int64)
                while len(drawn) < count:
                    more = rng.integers(0, self.next_id, 2 * count)
                    more = more[self.alive(more)]
                    _, first = np.unique(np.concatenate([drawn, more]), return_index=True)
                    drawn = np.concatenate([drawn, more])[np.sort(first)]
                return np.sort(drawn[:count])
            ids = np.sort(np.concatenate([np.zeros(0, np.int64), *(segment.ids for segment in state.filled)]))
            return np.sort(rng.choice(ids[self.alive(ids)], count, replace=False))

    @property
    def n_errors(self) -> int:
        """Number of inputs that could not be read, without those that were ingested later."""
        from gpubranches.catalog.items import count_rows

        with self.pinned():
            return count_rows(self.error_tables) - len(self._mended())

    def errors(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the inputs that could not be read, or the first of them: dicts of id, path, reason.

        Inputs that were repaired and ingested later, under other ids, are left out.
        """
        from gpubranches.catalog.items import read_errors

        with self.pinned():
            errors, mended = read_errors(self.error_tables), self._mended()
        if mended:
            errors = errors.filter(~np.isin(errors["id"].to_numpy(), mended))
        return list(errors[:limit].to_pylist())

    def info(self) -> dict[str, Any]:
        """Return what the catalog holds, as JSON."""
        with self.pinned():
            return info_of(self)

    def verify(self) -> list[str]:
        """Check every checksum and the consistency of the files; one line a problem, empty if all is sound."""
        with self.pinned() as state:
            return problems(self.path, state.manifest)

    # Inside

    @property
    def _state(self) -> State:
        pinned = self._pinned.state
        if pinned is not None:
            return pinned
        assert self._newest is not None  # nosec B101  # `__init__` loads it, or raises
        return self._newest

    def _load(self) -> None:
        """Open the files of the manifest and swap the state by one assignment; on an error the old state stays."""
        with self._loading:
            while True:
                looks = looks_of(self.path)
                manifest = read_manifest(self.path)
                try:
                    self._newest = State.open(self.path, manifest, self._newest)
                except CatalogFormatError:
                    # A writer may have removed the files of a generation before this reader locked them.
                    if read_manifest(self.path)["generation"] == manifest["generation"]:
                        raise
                else:
                    self._looks = looks
                    return

    def _mended(self) -> list[int]:
        """Return the ids of inputs that could not be read and were ingested later under other ids."""
        return [item for record in self.source.get("inputs", ()) for item in record.get("mended", ())]

    def _items_table(self) -> Table:
        from gpubranches.catalog.table import Table

        if not self.item_tables:
            raise UsageError(f"where: {self.path} has no metadata to filter by")
        bare = [segment.ids[: segment.n] for segment in self._state.filled if "items.parquet" not in segment.files]
        return Table(self.item_tables, np.concatenate([np.zeros(0, np.int64), *bare]))

    def _where(self, state: State, condition: str) -> Bitmap:
        positions = state.find(self._items_table().select(condition))
        flags = np.zeros(state.n_positions, np.bool_)
        flags[positions[positions >= 0]] = True
        return PlacedBitmap.of(pack_bitmap(flags), state.places)

    def _describe(self) -> list[Column]:
        state = self._state
        return self._items_table().columns(state.ids_at(np.flatnonzero(state.deleted_flags())))
