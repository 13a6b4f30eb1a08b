"""The catalog: create, append, delete, compact, encode anew; each change is one commit. Reading is in `reader`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.constants import Constants
from gpubranches.catalog.decoder import Decoder
from gpubranches.catalog.manifest import (
    MOST_DIMS,
    is_numbered,
    listings,
    looks_of,
    new_manifest,
    numbered,
    own_files,
    write_manifest,
)
from gpubranches.catalog.reader import CatalogReader
from gpubranches.catalog.rewrite import Encode, Report, gather_rows, parts_of, recoded
from gpubranches.catalog.segment import MOST_IDS, SEGMENT_ROWS, Gather, Rows, add_segment
from gpubranches.catalog.state import State
from gpubranches.catalog.storage import disk_errors, exclusive, remove_unheld, require_content, require_space
from gpubranches.core.arrays import as_ids, check_array, pack_bitmap
from gpubranches.core.embedding_space import Space
from gpubranches.core.files import make_folder, replace_file, sync_folder
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer
from gpubranches.errors import ArrayError, DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class Catalog(CatalogReader):
    """A catalog that can be changed. Writers take an exclusive lock; other readers keep the state they opened."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._writer = threading.RLock()
        self._writing = 0

    # Making

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
        listing: tuple[str, bytes] | None = None,
        keep_embeddings: bool = True,
    ) -> Catalog:
        """Make an empty catalog. Raises UsageError if there is one, DataError if the folder cannot be written.

        d: code dims, a multiple of 4 up to 1,024; signs, scalar: the fitted quantizers; head: the bytes of
        head.safetensors; text_mean: (D,) float32, the mean of text embeddings; embedder: the spec that opens the
        embedder; source: JSON on the inputs; listing: see `describe`. keep_embeddings: False to store none, for a head
        that decodes them from the codes.
        """
        folder = Path(path)
        require_code_dims(d)
        if (folder / "manifest.json").exists():
            raise UsageError(f"{folder}: there is a catalog already; append to it, or choose another folder")
        with disk_errors(folder):
            make_folder(folder)
            constants = Constants(signs=signs, scalar=scalar, text_mean=text_mean)
            files = {**_write_files(folder, 0, constants, head), **_write_listing(folder, listing)}
            manifest = new_manifest(
                space=space,
                d=d,
                signs=signs,
                embedder=embedder,
                source=source or {},
                files=files,
                keep_embeddings=keep_embeddings,
            )
            write_manifest(folder, manifest)
        return cls(folder)

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock over several changes. Raises DataError if another process or object holds it.

        Another thread that writes through this object waits. After an error the uncommitted files are removed at once;
        the files of a killed process are removed by the next writer. The thread sees the newest state, even if it has
        pinned another.
        """
        with self._writer, self._unpinned():
            if not self._writing:
                with exclusive(self.path):
                    with disk_errors(self.path):
                        self.refresh()
                        self._remove_orphans()
                    yield from self._held()
                return
            self._writing += 1
            try:
                yield
            finally:
                self._writing -= 1

    def _held(self) -> Iterator[None]:
        self._writing = 1
        try:
            yield
        except BaseException:
            with suppress(DataError, OSError):
                self.refresh()
                self._remove_orphans()
            raise
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

        codes: (n, d) uint8, n <= SEGMENT_ROWS; ids: (n,) int64 ascending, from next_id on, less than MOST_IDS apart;
        bits: (n, P/8) uint8 and scales: (n,) float16; embeddings: function of rows, (m,) int64, to (m, D) float16, not
        asked if the catalog keeps none;
        items: metadata, row i of ids[i]; errors: columns id, path, reason; next_id: the catalog's next id afterwards.
        """
        self._check_rows(codes, ids, bits, scales)
        with self.writing(), disk_errors(self.path):
            if len(ids) and ids[0] < self.next_id:
                raise UsageError(f"ids: expected {self.next_id} and more, got {ids[0]}; ids are never used again")
            embeddings = embeddings if self.keeps_embeddings else None
            after = max(self.next_id, int(ids[-1]) + 1 if len(ids) else 0, next_id or 0)
            entry = add_segment(
                self.path, len(self.segments), Rows(codes, ids, bits, scales, embeddings, items), errors
            )
            self._commit(segments=[*self._state.manifest["segments"], entry], next_id=after)

    def delete(self, ids: ArrayLike) -> int:
        """Delete items; return how many. Unknown or deleted ids raise UsageError and nothing is deleted."""
        with self.writing(), disk_errors(self.path):
            positions = np.unique(self.positions(as_ids(ids)))
            if len(positions) == 0:
                return 0
            flags = self._state.deleted_flags()
            flags[positions] = True
            self._commit(flags)
            return len(positions)

    def compact(self, *, keep_embeddings: bool = True) -> None:
        """Rewrite the catalog without deleted rows and with small segments joined; ids stay.

        keep_embeddings: False to drop the embeddings for good, and to decode them from the codes. Raises UsageError if
        the catalog's head does not decode, CatalogFormatError if a file is damaged, since damage is not copied.
        """
        from gpubranches.catalog.items import read_errors

        with self.writing(), disk_errors(self.path):
            if not keep_embeddings and Decoder.of(self.head_path, self.scalar) is None:
                raise UsageError(
                    f"embeddings: {self.path} has no head that decodes them from codes; make one by train-head, "
                    "and codes by encode"
                )
            self._require_sound()
            live = np.concatenate([np.zeros(0, np.int64), *(np.sort(segment.ids) for segment in self.segments)])
            live = live[self.alive(live)]
            errors = read_errors(self.error_tables)
            entries: list[dict[str, Any]] = []
            for part in parts_of(live):
                rows = gather_rows(self, part, keep_embeddings=keep_embeddings and self.keeps_embeddings)
                entries.append(add_segment(self.path, len(entries), rows, None if entries else errors))
            changed = {} if keep_embeddings else {"keeps_embeddings": False}
            self._commit(np.zeros(0, np.bool_), segments=entries, **changed)
            self._remove_orphans()

    def recode(
        self,
        encode: Encode,
        *,
        d: int,
        space: Space,
        scalar: ScalarQuantizer,
        head: bytes,
        report: Report | None = None,
    ) -> None:
        """Rebuild the codes of all items from their embeddings, in one commit; everything else stays.

        encode: function from embeddings to codes; d: dims of the codes; space: the catalog's with the new head and
        quantizer; scalar, head: as in `create`; report: called with (encoded, total) rows. Segments are written one
        after the other beside the old ones, each with its rows in a new order; deleted rows stay deleted. Raises
        UsageError for a catalog without embeddings, DataError if the disk has no space for a second copy of the
        segments, CatalogFormatError if a file is damaged.
        """
        require_code_dims(d)
        with self.writing(), disk_errors(self.path):
            if not self.stores_embeddings:
                raise UsageError(f"codes: {self.path} keeps no embeddings to make them from; ingest the embeddings")
            held = sum(entry["bytes"] for segment in self.segments for entry in segment.files.values())
            require_space(self.path, held + self.n_positions * max(0, d - self.d), "the new codes")
            self._require_sound()
            entries, flags = self._recoded(encode, d, report)
            constants = Constants(signs=self.signs, scalar=scalar, text_mean=self.text_mean)
            files = {**listings(self._state.manifest), **_write_files(self.path, self.generation + 1, constants, head)}
            self._commit(flags, segments=entries, files=files, d=d, space=space.to_json())
            self._remove_orphans()

    def describe(self, source: dict[str, Any], listing: tuple[str, bytes] | None = None) -> None:
        """Replace the JSON on the inputs of the catalog.

        listing: name (`inputs-G.parquet`) and content of a file that its `inputs` name; the next writer removes
        listings that they do not name.
        """
        with self.writing(), disk_errors(self.path):
            files = {**self._state.manifest["files"], **_write_listing(self.path, listing)}
            named = {record["listing"] for record in source.get("inputs", ())}
            dropped = listings({"files": files}).keys() - named
            self._commit(source=source, files={name: files[name] for name in files if name not in dropped})

    # Inside

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
        if n and int(ids[-1]) - int(ids[0]) >= MOST_IDS:
            raise ArrayError(f"ids: expected them within {MOST_IDS:,} of each other; append them in parts")
        if self.D:
            check_array(bits, "bits", dtype=np.uint8, shape=(n, self.n_bits // 8))
            check_array(scales, "scales", dtype=np.float16, shape=(n,))
        elif bits is not None or scales is not None:
            raise UsageError("bits: the catalog was created without sign bits; create it with a SignQuantizer")

    def _require_sound(self) -> None:
        for segment in self.segments:
            segment.require_sound()
        for name, entry in listings(self._state.manifest).items():
            require_content(self.path / name, entry)

    def _recoded(self, encode: Encode, d: int, report: Report | None) -> tuple[list[dict[str, Any]], NDArray[np.bool_]]:
        """Write all segments with new codes; return their entries, and which of their positions are deleted."""
        entries, done = [], 0
        before, after = self._state.deleted_flags(), np.zeros(self.n_positions, np.bool_)
        total = sum(segment.n for segment in self.segments)
        for number, segment in enumerate(self.segments):
            own = slice(segment.start, segment.start + segment.n)
            at = done

            def told(rows: int, at: int = at) -> None:
                if report is not None:
                    report(at + rows, total)

            tables = {
                segment.folder / name: entry for name, entry in segment.files.items() if name.endswith(".parquet")
            }
            entries.append(add_segment(self.path, number, recoded(segment, encode, d, told), None, tables))
            ids = np.fromfile(self.path / entries[-1]["name"] / "ids.i64", np.int64)
            after[own] = np.isin(ids, segment.ids[before[own]])
            done += segment.n
        return entries, after

    def _commit(self, flags: NDArray[np.bool_] | None = None, **entries: Any) -> None:
        """Write the manifest of the next generation, with other entries; flags: which positions are deleted now.

        The new state is opened before the commit, so that no unreadable manifest is committed.
        """
        manifest = {**self._state.manifest, **entries, "generation": self.generation + 1}
        if flags is not None:
            manifest["deleted"] = None
            if flags.any():
                name = f"deleted-{self.generation + 1}.bitmap"
                manifest["deleted"] = {"name": name, **replace_file(self.path / name, pack_bitmap(flags).tobytes())}
        with self._loading:
            state = State.open(self.path, manifest, self._state)
            try:
                write_manifest(self.path, manifest)
            except BaseException:
                del state  # it holds leases on the new files, which must be removed
                raise
            self._newest, self._looks = state, looks_of(self.path)

    def _remove_orphans(self) -> None:
        """Remove files of stopped writers and older generations that no reader holds; needs the lock.

        Call it only after the commit that no longer names these files is on the disk.
        """
        sync_folder(self.path)
        kept = {Path(entry["name"]).name for entry in self._state.manifest["segments"]}
        kept |= set(own_files(self._state.manifest))
        named = [path for path in self.path.glob("*") if is_numbered(path.name)]
        for path in [*named, *(self.path / "segments").glob("*")]:
            if path.name not in kept:
                remove_unheld(path)


def require_code_dims(d: int) -> None:
    """Raise UsageError unless d is a number of code dims that a catalog can have."""
    if d % 4 or not 4 <= d <= MOST_DIMS:
        raise UsageError(f"d: expected a multiple of 4 from 4 to 1,024, got {d}")


def _write_files(folder: Path, generation: int, constants: Constants, head: bytes | None) -> dict[str, Any]:
    """Write the constants and the head under names of a generation; return their entries in the manifest."""
    name = numbered("constants", generation)
    files = {name: replace_file(folder / name, constants.to_bytes())}
    if head is not None:
        name = numbered("head", generation)
        files[name] = replace_file(folder / name, head)
    return files


def _write_listing(folder: Path, listing: tuple[str, bytes] | None) -> dict[str, Any]:
    """Write a listing of inputs; return its entry in the manifest by name, {} for None."""
    if listing is None:
        return {}
    name, content = listing
    return {name: replace_file(folder / name, content)}
