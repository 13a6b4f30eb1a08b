"""The catalog: create, open, append, delete, compact, verify, and reading by id."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.arrays import Bitmap, as_ids, check_array, pack_bitmap
from gpubranches.catalog.constants import Constants
from gpubranches.catalog.manifest import VERSION, new_manifest, open_segments, read_manifest, write_manifest
from gpubranches.catalog.order import TILE
from gpubranches.catalog.segment import SEGMENT_ROWS, Gather, Rows, Segment, write_segment
from gpubranches.catalog.storage import checksum, disk_errors, exclusive, record, replace_file, require_file
from gpubranches.errors import ArrayError, CatalogFormatError, CatalogNotFoundError, UsageError
from gpubranches.quantize import ScalarQuantizer, SignQuantizer
from gpubranches.space import Space

if TYPE_CHECKING:
    import pyarrow as pa


class Catalog:
    """A folder with the three tiers of n items, memory-mapped; see docs/format.md.

    d: code dims; D: embedding dims, 0 for codes alone; n: live items; n_positions: row positions including padding;
    next_id: the id the next item gets; generation: grows by one with every commit; segments: in order of position.
    Readers keep the state they opened until `refresh`. Writers take an exclusive lock.
    """

    def __init__(self, path: Path):
        self.path = path
        self._writing = 0
        self._load()

    # Making and opening

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        space: Space,
        d: int,
        signs: SignQuantizer | None = None,
        scalar: ScalarQuantizer | None = None,
        head: bytes | None = None,
        text_mean: NDArray[np.float32] | None = None,
        embedder: str = "",
        source: dict[str, Any] | None = None,
    ) -> Catalog:
        """Make an empty catalog. Raises UsageError if there is one, DataError if the folder cannot be written.

        d: code dims, a multiple of 4 up to 1,024; signs, scalar: the fitted quantizers; head: the bytes of
        head.safetensors; text_mean: (D,) float32, the mean of text embeddings; embedder: the spec that opens the
        embedder; source: what it was made from, free JSON.
        """
        folder = Path(path)
        if d % 4 or not 4 <= d <= 1024:
            raise UsageError(f"d: expected a multiple of 4 from 4 to 1,024, got {d}")
        if (folder / "manifest.json").exists():
            raise UsageError(f"{folder}: there is a catalog already; append to it, or choose another folder")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            constants = Constants(signs=signs, scalar=scalar, text_mean=text_mean)
            constants.write(folder / "constants.safetensors")
            files = {"constants.safetensors": record(folder / "constants.safetensors")}
            if head is not None:
                replace_file(folder / "head.safetensors", head)
                files["head.safetensors"] = record(folder / "head.safetensors")
            manifest = new_manifest(space=space, d=d, signs=signs, embedder=embedder, source=source or {}, files=files)
            write_manifest(folder, manifest)
        return cls(folder)

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Open a catalog. Raises CatalogNotFoundError, or CatalogFormatError naming the file that is wrong."""
        folder = Path(path)
        if not (folder / "manifest.json").is_file():
            raise CatalogNotFoundError(f"{folder}: expected a catalog (manifest.json), found none; ingest one first")
        return cls(folder)

    def refresh(self) -> bool:
        """Read the manifest again; return whether another process or object committed something since."""
        if read_manifest(self.path)["generation"] == self.generation:
            return False
        self._load()
        return True

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock over several changes. Raises DataError if another process holds it."""
        if self._writing:
            self._writing += 1
            try:
                yield
            finally:
                self._writing -= 1
            return
        with exclusive(self.path):
            self.refresh()
            self._remove_orphans()
            self._writing = 1
            try:
                yield
            finally:
                self._writing = 0

    def append(
        self,
        codes: NDArray[np.uint8],
        *,
        ids: NDArray[np.int64],
        bits: NDArray[np.uint8] | None = None,
        scales: NDArray[np.float16] | None = None,
        embeddings: Gather | None = None,
        items: pa.Table | None = None,
        errors: pa.Table | None = None,
        next_id: int | None = None,
    ) -> None:
        """Append one segment, committed as a whole.

        codes: (n, d) uint8, n <= SEGMENT_ROWS; ids: (n,) int64 ascending, from next_id on; bits: (n, P/8) uint8 and
        scales: (n,) float16; embeddings: function of rows, (m,) int64, to (m, D) float16; items: metadata, row i
        of ids[i]; errors: columns id, path, reason; next_id: the catalog's next id afterwards.
        """
        self._check_rows(codes, ids, bits, scales)
        with self.writing(), disk_errors(self.path):
            if len(ids) and ids[0] < self.next_id:
                raise UsageError(f"ids: expected {self.next_id} and more, got {ids[0]}; ids are never used again")
            after = max(self.next_id, int(ids[-1]) + 1 if len(ids) else 0, next_id or 0)
            entry = self._write_segment(Rows(codes, ids, bits, scales, embeddings, items), errors)
            self._commit(segments=[*self._manifest["segments"], entry], next_id=after)

    def delete(self, ids: ArrayLike) -> int:
        """Delete items; return how many. Unknown or deleted ids raise UsageError and nothing is deleted."""
        with self.writing(), disk_errors(self.path):
            positions = np.unique(self.positions(as_ids(ids)))
            if len(positions) == 0:
                return 0
            flags = self._deleted_flags()
            flags[positions] = True
            self._commit(segments=self._manifest["segments"], flags=flags)
            return len(positions)

    def compact(self) -> None:
        """Rewrite the catalog without deleted rows and with small segments joined; ids stay."""
        from gpubranches.catalog.rewrite import gather_rows

        with self.writing(), disk_errors(self.path):
            live = np.concatenate([np.zeros(0, np.int64), *(np.sort(segment.ids) for segment in self.segments)])
            live = live[self.alive(live)]
            errors = self._errors_table()
            entries = []
            for start in range(0, max(len(live), 1), SEGMENT_ROWS):
                ids = live[start : start + SEGMENT_ROWS]
                entries.append(self._write_segment(gather_rows(self, ids), errors if start == 0 else None))
            self._commit(segments=entries, flags=np.zeros(0, np.bool_))
            self._remove_orphans()

    def describe(self, source: dict[str, Any]) -> None:
        """Replace the JSON that tells what the catalog was made from."""
        with self.writing(), disk_errors(self.path):
            self._commit(segments=self._manifest["segments"], source=source)

    # Reading

    @property
    def has_bits(self) -> bool:
        """Whether the sign bits are stored."""
        return self.D > 0

    @property
    def has_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        return self.D > 0 and all("embeddings.f16" in segment.files for segment in self.segments if segment.n)

    @property
    def head_path(self) -> Path | None:
        """Path of head.safetensors, or None."""
        return self.path / "head.safetensors" if "head.safetensors" in self._manifest["files"] else None

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
    def n_bits(self) -> int:
        """Sign bits an item, D padded to a multiple of 32; 0 without bits."""
        bits: int = self._manifest["n_bits"]
        return bits

    def alive(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Return which ids are in the catalog and not deleted, (m,) bool."""
        positions = self._find(as_ids(ids))
        alive = positions >= 0
        if self.deleted is not None:
            gone = (self.deleted[positions[alive] // 8] >> (positions[alive] % 8).astype(np.uint8)) & 1
            alive[alive] = gone == 0
        return alive

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row positions of ids, (m,) int64. Unknown or deleted ids raise UsageError."""
        wanted = as_ids(ids)
        alive = self.alive(wanted)
        if not alive.all():
            missing = wanted[~alive]
            raise UsageError(
                f"ids: expected items of the catalog (0..{self.next_id - 1}), {len(missing)} are not there or are "
                f"deleted, such as {missing[:5].tolist()}; look ids up with search"
            )
        return self._find(wanted)

    def take(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of items, (m, d) uint8."""
        out = np.zeros((np.size(ids), self.d), np.uint8)
        for segment, rows, at in self.by_segment(ids):
            out[at] = segment.take_codes(rows)
        return out

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the embeddings of items, (m, D) float32. Raises UsageError if the catalog has none."""
        if not self.has_embeddings:
            raise UsageError(f"embeddings: {self.path} has none; ingest the embeddings or the images")
        out = np.zeros((np.size(ids), self.D), np.float32)
        for segment, rows, at in self.by_segment(ids):
            if segment.embeddings is not None:
                out[at] = segment.embeddings[rows]
        return out

    def stored_embeddings(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return the embeddings at row positions as they are stored, (m, D) float16; zeros at padding."""
        out = np.zeros((len(positions), self.D), np.float16)
        for segment in self._filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            if len(at) and segment.embeddings is not None:
                out[at] = segment.embeddings[positions[at].astype(np.int64) - segment.start]
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

    def by_segment(self, ids: ArrayLike) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.intp]]]:
        """Yield each segment that holds some of ids, their rows in it, and their places in ids."""
        positions = self.positions(ids)
        for segment in self._filled:
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            if len(at):
                yield segment, positions[at] - segment.start, at

    def where(self, condition: str) -> Bitmap:
        """Return the positions whose metadata meet an SQL condition, as a bitmap. Bad SQL raises UsageError."""
        from gpubranches.catalog.items import select_ids

        paths = self.item_paths
        if not paths:
            raise UsageError(f"where: {self.path} has no metadata to filter by")
        positions = self._find(select_ids(paths, condition))
        flags = np.zeros(self.n_positions, np.bool_)
        flags[positions[positions >= 0]] = True
        return pack_bitmap(flags)

    def sample_ids(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ids of live items uniformly without replacement, (min(count, n),) int64 ascending.

        Ids are drawn, not positions, so the draw is the same however the rows lie.
        """
        count = min(count, self.n)
        if count * 4 < self.n:
            drawn = np.zeros(0, np.int64)
            while len(drawn) < count:
                more = rng.integers(0, self.next_id, 2 * count)
                more = more[self.alive(more)]
                _, first = np.unique(np.concatenate([drawn, more]), return_index=True)
                drawn = np.concatenate([drawn, more])[np.sort(first)]
            return np.sort(drawn[:count])
        everything = np.arange(self.next_id)
        live = everything[self.alive(everything)]
        return np.sort(rng.choice(live, count, replace=False))

    def errors(self) -> list[dict[str, Any]]:
        """Return the inputs that could not be read: dicts of id, path, reason."""
        table = self._errors_table()
        return [] if table is None else list(table.to_pylist())

    def info(self) -> dict[str, Any]:
        """Return what the catalog holds, as JSON."""
        errors = self._errors_table()
        return {
            "path": str(self.path),
            "version": VERSION,
            "n": self.n,
            "deleted": self.n_deleted,
            "broken": 0 if errors is None else len(errors),
            "d": self.d,
            "D": self.D,
            "tiers": ["codes", *(["bits"] if self.has_bits else []), *(["embeddings"] if self.has_embeddings else [])],
            "columns": self.columns if self.item_paths else [],
            "embedder": self.embedder,
            "space": self.space.to_json(),
            "segments": len(self.segments),
            "generation": self.generation,
            "bytes": sum(entry["bytes"] for segment in self.segments for entry in segment.files.values()),
        }

    def verify(self) -> list[str]:
        """Check every checksum and the consistency of the files; one line a problem, empty if all is sound."""
        entries = {**self._manifest["files"]}
        if self._manifest["deleted"]:
            entries[self._manifest["deleted"]["name"]] = self._manifest["deleted"]
        found = [
            f"{self.path / name}: its content is not what was written (SHA-256 differs)"
            for name, entry in entries.items()
            if checksum(self.path / name) != entry["sha256"]
        ]
        last = -1
        for segment in self.segments:
            found += segment.problems()
            if segment.n and segment.first_id <= last:
                found.append(f"{segment.folder}: ids overlap those of the segment before")
            last = max(last, segment.last_id)
        return found

    # Inside

    def _load(self) -> None:
        manifest = read_manifest(self.path)
        try:
            self._manifest = manifest
            self.space = Space(**manifest["space"])
            self.d: int = manifest["d"]
            self.D: int = manifest["D"]
            self.next_id: int = manifest["next_id"]
            generation: int = manifest["generation"]
            self.embedder: str = manifest["embedder"]
            self.source: dict[str, Any] = manifest["source"]
            self.segments = tuple(open_segments(self.path, manifest))
            for name, entry in manifest["files"].items():
                require_file(self.path / name, entry)
            for segment in self.segments:
                segment.require()
            constants = Constants.read(self.path / "constants.safetensors")
            self.signs, self.scalar, self.text_mean = constants.signs, constants.scalar, constants.text_mean
            self.n_positions = sum(segment.tiles * TILE for segment in self.segments)
            self.deleted: Bitmap | None = None
            self.n_deleted = 0
            if manifest["deleted"]:
                require_file(self.path / manifest["deleted"]["name"], manifest["deleted"])
                bitmap = np.fromfile(self.path / manifest["deleted"]["name"], np.uint8)
                self.deleted = np.zeros(-(-self.n_positions // 8), np.uint8)
                self.deleted[: len(bitmap)] = bitmap
                self.n_deleted = int(np.bitwise_count(self.deleted).sum())
        except (KeyError, TypeError) as error:
            raise CatalogFormatError(f"{self.path / 'manifest.json'}: an entry is missing or wrong: {error}") from error
        self.n = sum(segment.n for segment in self.segments) - self.n_deleted
        self._first_ids = np.array([s.first_id for s in self.segments if s.n], np.int64)
        self._filled = [s for s in self.segments if s.n]
        # Last, so that who sees the new number sees what belongs to it.
        self.generation = generation

    def _find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of ids, -1 where unknown; deleted rows are found."""
        found = np.full(len(ids), -1, np.int64)
        owner = np.searchsorted(self._first_ids, ids, "right") - 1
        for index in np.unique(owner[owner >= 0]):
            segment = self._filled[index]
            at = np.flatnonzero((owner == index) & (ids <= segment.last_id))
            rows = segment.rows[ids[at] - segment.first_id]
            known = rows != 0xFFFFFFFF
            found[at[known]] = segment.start + rows[known].astype(np.int64)
        return found

    def _check_rows(
        self,
        codes: NDArray[np.uint8],
        ids: NDArray[np.int64],
        bits: NDArray[np.uint8] | None,
        scales: NDArray[np.float16] | None,
    ) -> None:
        check_array(codes, "codes", dtype=np.uint8, shape=(None, self.d))
        n = len(codes)
        check_array(ids, "ids", dtype=np.int64, shape=(n,))
        if n > SEGMENT_ROWS:
            raise ArrayError(f"codes: expected at most {SEGMENT_ROWS} rows a segment, got {n}; append them in parts")
        if (np.diff(ids) <= 0).any():
            raise ArrayError("ids: expected ascending distinct ids; sort the rows by id first")
        if self.D:
            check_array(bits, "bits", dtype=np.uint8, shape=(n, self.n_bits // 8))
            check_array(scales, "scales", dtype=np.float16, shape=(n,))
        elif bits is not None or scales is not None:
            raise UsageError("bits: the catalog was created without sign bits; create it with a SignQuantizer")

    def _write_segment(self, rows: Rows, errors: pa.Table | None) -> dict[str, Any]:
        name = f"segments/{len(self.segments):06d}-{uuid.uuid4().hex[:8]}"
        files = write_segment(self.path / name, rows, errors)
        first, last = (int(rows.ids[0]), int(rows.ids[-1])) if len(rows.ids) else (0, -1)
        return {"name": name, "n": len(rows.ids), "first_id": first, "last_id": last, "files": files}

    def _errors_table(self) -> pa.Table | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = [s.folder / "errors.parquet" for s in self.segments if "errors.parquet" in s.files]
        return pa.concat_tables([pq.read_table(path) for path in paths]) if paths else None

    def _deleted_flags(self) -> NDArray[np.bool_]:
        if self.deleted is None:
            return np.zeros(self.n_positions, np.bool_)
        return np.unpackbits(self.deleted, count=self.n_positions, bitorder="little").astype(np.bool_)

    def _commit(
        self,
        *,
        segments: Sequence[dict[str, Any]],
        next_id: int | None = None,
        flags: NDArray[np.bool_] | None = None,
        source: dict[str, Any] | None = None,
    ) -> None:
        manifest = {**self._manifest, "segments": list(segments), "generation": self.generation + 1}
        if source is not None:
            manifest["source"] = source
        if next_id is not None:
            manifest["next_id"] = next_id
        if flags is not None:
            manifest["deleted"] = None
            if flags.any():
                name = f"deleted-{self.generation + 1}.bitmap"
                replace_file(self.path / name, pack_bitmap(flags).tobytes())
                manifest["deleted"] = {"name": name, **record(self.path / name)}
        write_manifest(self.path, manifest)
        self._load()

    def _remove_orphans(self) -> None:
        """Remove what a stopped writer or an older generation left behind; needs the lock."""
        kept = {Path(entry["name"]).name for entry in self._manifest["segments"]}
        for folder in (self.path / "segments").glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        current = self._manifest["deleted"]["name"] if self._manifest["deleted"] else None
        for bitmap in self.path.glob("deleted-*.bitmap*"):
            if bitmap.name != current:
                bitmap.unlink(missing_ok=True)
