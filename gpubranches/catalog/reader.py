"""Reading a catalog: what one generation of it holds, by id and by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.arrays import Bitmap, as_ids, pack_bitmap, sample_bitmap
from gpubranches.catalog.constants import Constants
from gpubranches.catalog.decoder import Decoder
from gpubranches.catalog.info import info_of
from gpubranches.catalog.manifest import file_of, looks_of, open_segments, own_files, problems, read_manifest
from gpubranches.catalog.order import TILE
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.storage import Lease, require_file
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError
from gpubranches.files import require_text
from gpubranches.memo import Memo
from gpubranches.space import Space

if TYPE_CHECKING:
    import pyarrow as pa

    from gpubranches.catalog.table import Column, Table

_SPARSE = 16
"""Ids ever given for each item there is, beyond which few ids drawn would be those of an item."""
_FILTERS = 16
"""Bitmaps of filters that are kept: 2 bytes an item, where all else that is read takes some 100."""


class CatalogReader:
    """A folder with the three tiers of n items, memory-mapped; see docs/format.md.

    d: code dims; D: embedding dims, 0 for codes alone; n: live items; n_positions: row positions including padding;
    next_id: the id the next item gets; generation: grows by one with every commit; segments: in order of position;
    keeps_embeddings: whether embeddings that are appended are stored.
    The state that was opened is kept until `refresh`, whatever is committed meanwhile: its files are not removed.
    """

    def __init__(self, path: Path):
        self.path = path
        self._decoder: Decoder | None = None
        self._decodes: str | None = None
        self._described: Memo[list[Column]] = Memo(1)
        self._filtered: Memo[Bitmap] = Memo(_FILTERS)
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
        """Read the manifest again; return whether another process or object committed something since."""
        looks = looks_of(self.path)
        if read_manifest(self.path)["generation"] == self.generation:
            self._looks = looks
            return False
        self._load()
        return True

    # Reading

    @property
    def has_bits(self) -> bool:
        """Whether the sign bits are stored."""
        return self.D > 0

    @property
    def has_embeddings(self) -> bool:
        """Whether there are embeddings: stored ones, or such as are decoded from the codes."""
        return self.stores_embeddings or (self.D > 0 and self._decoder is not None)

    @property
    def stores_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        return self.D > 0 and self.keeps_embeddings and all("embeddings.f16" in s.files for s in self.segments if s.n)

    @property
    def embeddings_source(self) -> str:
        """What an answer by embeddings is by: "embeddings" where they are stored, else "decoded"."""
        return "embeddings" if self.stores_embeddings else "decoded"

    @property
    def coding(self) -> tuple[str, str, int]:
        """What the codes are: the identities of head and quantizer, and d. Boxes are good for one coding only."""
        return self.space.head, self.space.quantizer, self.d

    @property
    def head_path(self) -> Path | None:
        """Path of the head that made the vectors, or None."""
        name = file_of(self._manifest, "head")
        return None if name is None else self.path / name

    @property
    def columns(self) -> list[str]:
        """Names of the metadata columns, `id` first."""
        from gpubranches.catalog.items import column_names

        return column_names(self.item_paths)

    @property
    def item_paths(self) -> list[Path]:
        """Parquet files of the metadata, in order of position."""
        return [segment.items_path for segment in self.segments if segment.items_path is not None]

    @property
    def error_paths(self) -> list[Path]:
        """Parquet files of the inputs that could not be read, in order of position."""
        return [segment.errors_path for segment in self.segments if segment.errors_path is not None]

    @property
    def n_bits(self) -> int:
        """Sign bits an item, D padded to a multiple of 32; 0 without bits."""
        bits: int = self._manifest["n_bits"]
        return bits

    def alive(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Return which ids are in the catalog and not deleted, (m,) bool."""
        return self._find_live(as_ids(ids)) >= 0

    def live_positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of those ids that are in the catalog and not deleted, in their order."""
        positions = self._find_live(as_ids(ids))
        return positions[positions >= 0]

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        wanted = as_ids(ids)
        positions = self._find_live(wanted)
        missing = wanted[positions < 0]
        if len(missing):
            raise UsageError(
                f"ids: expected items of the catalog (0..{self.next_id - 1}), {len(missing)} are not there or are "
                f"deleted, such as {missing[:5].tolist()}; look ids up with search"
            )
        return positions

    def inside(self, ids: ArrayLike, where: Bitmap) -> NDArray[np.bool_]:
        """Return which ids a bitmap of `where` holds, (m,) bool. Unknown or deleted ids raise UsageError."""
        at = self.positions(ids)
        held: NDArray[np.bool_] = (where[at // 8] >> (at % 8).astype(np.uint8)) & 1 == 1
        return held

    def take(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of items, (m, d) uint8."""
        out = np.zeros((np.size(ids), self.d), np.uint8)
        for segment, rows, at in self.by_segment(ids):
            out[at] = segment.take_codes(rows)
        return out

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of items, (m, D) float32, stored or decoded. Raises UsageError if there are none."""
        if not self.has_embeddings:
            raise UsageError(f"embeddings: {self.path} has none; ingest the embeddings or the images")
        out = np.zeros((np.size(ids), self.D), np.float32)
        for segment, rows, at in self.by_segment(ids):
            out[at] = segment.take_embeddings(rows)
        return out

    def embeddings_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the embeddings at row positions, (m, D) float16, stored or decoded; zeros at padding."""
        out = np.zeros((len(positions), self.D), np.float16)
        for segment in self._filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            if len(at):
                out[at] = segment.take_embeddings(positions[at].astype(np.int64) - segment.start)
        return out

    def items(self, ids: ArrayLike) -> list[dict[str, Any]]:
        """Return the metadata of items, in their order, each a dict with at least `id`."""
        from gpubranches.catalog.items import read_items

        wanted = as_ids(ids)
        rows: dict[int, dict[str, Any]] = {}
        for segment, _, at in self.by_segment(wanted):
            if segment.items_path is not None:
                rows |= read_items(segment.items_path, wanted[at])
        return [rows.get(int(i), {"id": int(i)}) for i in wanted]

    def item_schema(self) -> pa.Schema:
        """Return the metadata columns with their types, `id` first; a column of unlike types is text."""
        from gpubranches.catalog.items import unified_schema

        return unified_schema(self.item_paths)

    def item_table(self, ids: ArrayLike, schema: pa.Schema) -> pa.Table:
        """Return the metadata of items, in their order, as a table with the columns of `item_schema`.

        A schema of an older generation serves as well: columns that are gone are null.
        """
        from gpubranches.catalog.items import read_table

        wanted = as_ids(ids)
        parts = [
            (segment.items_path, wanted[at])
            for segment, _, at in self.by_segment(wanted)
            if segment.items_path is not None
        ]
        return read_table(parts, wanted, schema)

    def by_segment(self, ids: ArrayLike) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that holds some of ids, their rows in it, and their places in ids."""
        positions = self.positions(ids)
        for index, at in _by_owner(self._starts, positions):
            yield self._filled[index], positions[at] - self._filled[index].start, at

    def where(self, condition: str) -> Bitmap:
        """Return the positions whose metadata meet a condition of `conditions.parse`, as a bitmap; not to be changed.

        The last bitmaps are kept. Raises UsageError for another text, an unknown column, a comparison with a value of
        another kind.
        """
        return self._filtered.get((self.generation, condition), lambda: self._where(condition))

    def count(self, where: Bitmap | None = None) -> int:
        """Return how many items there are in a bitmap of `where`, or in all."""
        if where is None:
            return self.n
        return int(np.bitwise_count(where if self.deleted is None else where & ~self.deleted).sum())

    def described_columns(self) -> list[Column]:
        """Return the columns of the metadata, with the most frequent values of those that hold few."""
        if not self.item_paths:
            return []
        return self._described.get(self.generation, self._describe)

    def sample_ids(self, count: int, rng: np.random.Generator, where: Bitmap | None = None) -> NDArray[np.int64]:
        """Draw ids of live items uniformly without replacement, (min(count, n),) int64 ascending.

        Ids are drawn, not positions, so the draw is the same however the rows lie; not so from among `where`.
        """
        if where is not None:
            positions = sample_bitmap(where if self.deleted is None else where & ~self.deleted, count, rng)
            return np.sort(self._ids_at(positions))
        count = min(count, self.n)
        if count * 4 < self.n and self.next_id <= _SPARSE * self.n:
            drawn = np.zeros(0, np.int64)
            while len(drawn) < count:
                more = rng.integers(0, self.next_id, 2 * count)
                more = more[self.alive(more)]
                _, first = np.unique(np.concatenate([drawn, more]), return_index=True)
                drawn = np.concatenate([drawn, more])[np.sort(first)]
            return np.sort(drawn[:count])
        ids = np.sort(np.concatenate([np.zeros(0, np.int64), *(segment.ids for segment in self._filled)]))
        return np.sort(rng.choice(ids[self.alive(ids)], count, replace=False))

    @property
    def n_errors(self) -> int:
        """How many inputs could not be read, but for those that were taken in later."""
        from gpubranches.catalog.items import count_rows

        return count_rows(self.error_paths) - len(self._mended())

    def errors(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the inputs that could not be read, or the first of them: dicts of id, path, reason.

        Those that were repaired and taken in later, under other ids, are left out.
        """
        from gpubranches.catalog.items import read_errors

        errors, mended = read_errors(self.error_paths), self._mended()
        if mended:
            errors = errors.filter(~np.isin(errors["id"].to_numpy(), mended))
        return list(errors[:limit].to_pylist())

    def info(self) -> dict[str, Any]:
        """Return what the catalog holds, as JSON."""
        return info_of(self)

    def verify(self) -> list[str]:
        """Check every checksum and the consistency of the files; one line a problem, empty if all is sound."""
        return problems(self.path, self._manifest, self.segments)

    # Inside

    def _load(self) -> None:
        while True:
            looks = looks_of(self.path)
            manifest = read_manifest(self.path)
            try:
                self._take(manifest)
            except CatalogFormatError:
                # A writer may have removed the files of a generation before they were held.
                if read_manifest(self.path)["generation"] == manifest["generation"]:
                    raise
            else:
                self._looks = looks
                return

    def _take(self, manifest: dict[str, Any]) -> None:
        """Open what a manifest names; on an error the state stays as it was."""
        try:
            segments = tuple(open_segments(self.path, manifest))
            files = own_files(manifest)
            leases = [Lease(self.path / name) for name in files]
            for name, entry in files.items():
                require_file(self.path / name, entry)
            for segment in segments:
                segment.require()
            n_positions = sum(segment.tiles * TILE for segment in segments)
            deleted = self._read_deleted(manifest["deleted"], n_positions)
            n_deleted = 0 if deleted is None else int(np.bitwise_count(deleted).sum())
            space = Space(**manifest["space"])
            named = file_of(manifest, "constants")
            if named is None:
                raise KeyError("constants.safetensors")
            constants = Constants.read(self.path / named)
            keeps_embeddings: bool = manifest.get("keeps_embeddings", True)
            head = None if keeps_embeddings else file_of(manifest, "head")
            decoder = self._decoder if head == self._decodes else None
            if head is not None and decoder is None:
                decoder = Decoder.of(self.path / head, constants.scalar)
            segments = tuple(replace(segment, decode=decoder) for segment in segments)
        except (KeyError, TypeError) as error:
            raise CatalogFormatError(f"{self.path / 'manifest.json'}: an entry is missing or wrong: {error}") from error
        self._manifest, self._leases = manifest, leases
        self.keeps_embeddings, self._decoder, self._decodes = keeps_embeddings, decoder, head
        self.space = space
        self.d: int = manifest["d"]
        self.D: int = manifest["D"]
        self.next_id: int = manifest["next_id"]
        self.embedder: str = manifest["embedder"]
        self.source: dict[str, Any] = manifest["source"]
        self.segments = segments
        self.signs, self.scalar, self.text_mean = constants.signs, constants.scalar, constants.text_mean
        self.n_positions, self.deleted, self.n_deleted = n_positions, deleted, n_deleted
        self.n = sum(segment.n for segment in segments) - n_deleted
        self._filled = [segment for segment in segments if segment.n]
        self._first_ids = np.array([segment.first_id for segment in self._filled], np.int64)
        self._starts = np.array([segment.start for segment in self._filled], np.int64)
        # Last, so that who sees the new number sees what belongs to it.
        self.generation: int = manifest["generation"]

    def _read_deleted(self, entry: dict[str, Any] | None, n_positions: int) -> Bitmap | None:
        """Return the bitmap of deleted rows, grown to the rows there are now, or None."""
        if not entry:
            return None
        bitmap = np.fromfile(self.path / entry["name"], np.uint8)
        deleted = np.zeros(-(-n_positions // 8), np.uint8)
        deleted[: len(bitmap)] = bitmap
        return deleted

    def _mended(self) -> list[int]:
        """Return the ids of inputs that could not be read and were taken in later under others."""
        return [item for record in self.source.get("inputs", ()) for item in record.get("mended", ())]

    def _items_table(self) -> Table:
        from gpubranches.catalog.table import Table

        if not self.item_paths:
            raise UsageError(f"where: {self.path} has no metadata to filter by")
        bare = [segment.ids[: segment.n] for segment in self._filled if segment.items_path is None]
        return Table(self.item_paths, np.concatenate([np.zeros(0, np.int64), *bare]))

    def _where(self, condition: str) -> Bitmap:
        positions = self._find(self._items_table().select(condition))
        flags = np.zeros(self.n_positions, np.bool_)
        flags[positions[positions >= 0]] = True
        return pack_bitmap(flags)

    def _describe(self) -> list[Column]:
        return self._items_table().columns(self._ids_at(np.flatnonzero(self._deleted_flags())))

    def _find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, -1 where unknown; deleted rows are found."""
        found = np.full(len(ids), -1, np.int64)
        for index, own in _by_owner(self._first_ids, ids):
            segment = self._filled[index]
            at = own[ids[own] <= segment.last_id]
            rows = segment.rows[ids[at] - segment.first_id]
            known = rows != 0xFFFFFFFF
            found[at[known]] = segment.start + rows[known].astype(np.int64)
        return found

    def _ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of the rows at positions, all of them filled, (m,) int64."""
        ids = np.zeros(len(positions), np.int64)
        for segment in self._filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            ids[at] = segment.ids[positions[at] - segment.start]
        return ids

    def _find_live(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, -1 where unknown or deleted."""
        positions = self._find(ids)
        if self.deleted is not None:
            known = np.flatnonzero(positions >= 0)
            at = positions[known]
            positions[known[(self.deleted[at // 8] >> (at % 8).astype(np.uint8)) & 1 == 1]] = -1
        return positions

    def _deleted_flags(self) -> NDArray[np.bool_]:
        if self.deleted is None:
            return np.zeros(self.n_positions, np.bool_)
        return np.unpackbits(self.deleted, count=self.n_positions, bitorder="little").astype(np.bool_)


def _by_owner(starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each span that holds some of the numbers, and their places, ascending; starts: of the spans, ascending."""
    owner = np.searchsorted(starts, numbers, "right").astype(np.uint16 if len(starts) < 1 << 16 else np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=len(starts) + 1))
    order = np.argsort(owner, kind="stable")
    for index in np.flatnonzero(np.diff(ends)).tolist():
        yield index, order[ends[index] : ends[index + 1]]
