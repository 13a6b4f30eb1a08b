"""Changing a catalog: the lock of the one writer, and changes that are each one commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.fitted_statistics import FittedStatistics
from gpubranches.catalog.manifest import (
    is_numbered,
    listings,
    manifest_stamp,
    new_manifest,
    numbered,
    own_files,
    require_code_dims,
    write_manifest,
)
from gpubranches.catalog.reader import CatalogReader, Current
from gpubranches.catalog.segment import MOST_IDS, SEGMENT_ROWS, Gather, Rows, add_segment
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.catalog.storage import disk_errors, exclusive, read_content, remove_unheld
from gpubranches.core.arrays import as_ids, check_array
from gpubranches.core.bitmaps import pack_bitmap
from gpubranches.core.deprecation import warn_renamed
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.files import make_folder, replace_file, sync_folder
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer
from gpubranches.errors import ArrayError, DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class CatalogWriter(CatalogReader):
    """A catalog that can be changed. A writer holds an exclusive lock; other readers keep their snapshot."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._writer = threading.RLock()
        self._writing = 0

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        space: EmbeddingSpace,
        d: int,
        signs: SignQuantizer | None = None,
        scalar: ScalarQuantizer | None = None,
        head: bytes | None = None,
        text_mean: NDArray[np.float32] | None = None,
        embedder: str = "",
        parts: Sequence[int] = (),
        source: dict[str, Any] | None = None,
        listing: tuple[str, bytes] | None = None,
        keep_embeddings: bool = True,
        next_id: int = 0,
    ) -> Self:
        """Make an empty catalog. Raises UsageError if there is one, DataError if the folder cannot be written.

        d: code dims, a multiple of 4 up to 1,024; signs, scalar: the fitted quantizers; head: the bytes of
        head.safetensors; text_mean: (D,) float32, the mean of text embeddings; embedder: the spec that opens the
        embedder; parts: the dims of each model if there are two; source: JSON that describes the inputs; listing: see
        `set_source`. keep_embeddings: False to store none, for a head that decodes them from the codes. next_id: the
        first id.
        """
        folder = Path(path)
        require_code_dims(d)
        if (folder / "manifest.json").exists():
            raise UsageError(f"{folder}: there is a catalog already; append to it, or choose another folder")
        with disk_errors(folder):
            make_folder(folder)
            statistics = FittedStatistics(signs=signs, scalar=scalar, text_mean=text_mean)
            files = {**write_statistics(folder, 0, statistics, head), **_write_listing(folder, listing)}
            manifest = new_manifest(
                space=space,
                d=d,
                signs=signs,
                embedder=embedder,
                parts=parts,
                source=source or {},
                files=files,
                keep_embeddings=keep_embeddings,
                next_id=next_id,
            )
            write_manifest(folder, manifest)
        return cls(folder)

    @classmethod
    def create_like(
        cls,
        path: str | Path,
        model: CatalogReader,
        *,
        source: dict[str, Any] | None = None,
        listing: tuple[str, bytes] | None = None,
        next_id: int = 0,
    ) -> Self:
        """Make an empty catalog with the head, fitted statistics, embedder and tiers of another one.

        source, listing, next_id, errors: as of `create`.
        """
        with model.pinned() as snapshot:
            head, manifest = model.head_path, snapshot.manifest
            return cls.create(
                path,
                space=snapshot.space,
                d=model.d,
                signs=snapshot.statistics.signs,
                scalar=snapshot.statistics.scalar,
                head=None if head is None else read_content(head, manifest["files"][head.name]),
                text_mean=snapshot.statistics.text_mean,
                embedder=model.embedder,
                parts=snapshot.manifest.get("parts", ()),
                source=source,
                listing=listing,
                keep_embeddings=model.keeps_embeddings,
                next_id=next_id,
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock over several changes. Raises DataError if another process or object holds it.

        Another thread that writes through this object waits. After an error the uncommitted files are removed at once;
        the files of a killed process are removed by the next writer. The thread reads the newest snapshot, even if it
        has pinned another.
        """
        with self._writer, self._unpinned():
            if not self._writing:
                with exclusive(self.path):
                    with disk_errors(self.path):
                        self.refresh()
                        self._remove_orphans()
                    yield from self._locked()
                return
            self._writing += 1
            try:
                yield
            finally:
                self._writing -= 1

    def _locked(self) -> Iterator[None]:
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
        called if the catalog stores none; items: metadata, row i of ids[i]; errors: columns id, path, reason; next_id:
        the catalog's next id afterwards.
        """
        self._check_rows(codes, ids, bits, scales)
        with self.writing(), disk_errors(self.path):
            if len(ids) and ids[0] < self.next_id:
                raise UsageError(f"ids: expected {self.next_id} and more, got {ids[0]}; ids are never used again")
            embeddings = embeddings if self.keeps_embeddings else None
            after = max(self.next_id, int(ids[-1]) + 1 if len(ids) else 0, next_id or 0)
            rows = Rows(codes, ids, bits, scales, embeddings, items)
            entry = add_segment(self.path, len(self.segments), rows, errors)
            self._commit(segments=[*self.snapshot.manifest["segments"], entry], next_id=after)

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
            raise ArrayError(f"codes: expected at most {SEGMENT_ROWS} rows per segment, got {n}; append them in parts")
        if (np.diff(ids) <= 0).any():
            raise ArrayError("ids: expected ascending distinct ids; sort the rows by id first")
        if n and int(ids[-1]) - int(ids[0]) >= MOST_IDS:
            raise ArrayError(f"ids: expected them within {MOST_IDS:,} of each other; append them in parts")
        if self.D:
            check_array(bits, "bits", dtype=np.uint8, shape=(n, self.n_bits // 8))
            check_array(scales, "scales", dtype=np.float16, shape=(n,))
        elif bits is not None or scales is not None:
            raise UsageError("bits: the catalog was created without sign bits; create it with a SignQuantizer")

    def delete(self, ids: ArrayLike, source: dict[str, Any] | None = None) -> int:
        """Delete items; return how many. Unknown or deleted ids raise UsageError and nothing is deleted.

        source: replaces the JSON that describes the inputs in the same commit; None: it stays.
        """
        with self.writing(), disk_errors(self.path):
            positions = np.unique(self.positions(as_ids(ids)))
            entries: dict[str, Any] = {} if source is None else {"source": source}
            if len(positions):
                flags = self.snapshot.deleted_flags()
                flags[positions] = True
                self._commit(flags, **entries)
            elif entries:
                self._commit(**entries)
            return len(positions)

    def set_source(self, source: dict[str, Any], listing: tuple[str, bytes] | None = None) -> None:
        """Replace the JSON that describes the inputs of the catalog.

        listing: name (`inputs-G.parquet`) and content of a file that its `inputs` name; the next writer removes
        listings that they do not name.
        """
        with self.writing(), disk_errors(self.path):
            files = {**self.snapshot.manifest["files"], **_write_listing(self.path, listing)}
            named = {record["listing"] for record in source.get("inputs", ())}
            dropped = listings({"files": files}).keys() - named
            self._commit(source=source, files={name: files[name] for name in files if name not in dropped})

    def describe(self, source: dict[str, Any], listing: tuple[str, bytes] | None = None) -> None:
        """Call `set_source` by its old name. Deprecated."""
        warn_renamed("Catalog.describe", "set_source")
        self.set_source(source, listing)

    def _commit(self, flags: NDArray[np.bool_] | None = None, **entries: Any) -> None:
        """Write the manifest of the next generation, with other entries; flags: which positions are deleted now.

        The new snapshot is opened before the commit, so that no unreadable manifest is committed.
        """
        manifest = {**self.snapshot.manifest, **entries, "generation": self.generation + 1}
        if flags is not None:
            manifest["deleted"] = None
            if flags.any():
                name = f"deleted-{self.generation + 1}.bitmap"
                manifest["deleted"] = {"name": name, **replace_file(self.path / name, pack_bitmap(flags).tobytes())}
        with self._loading:
            snapshot = Snapshot.open(self.path, manifest, self.snapshot)
            try:
                write_manifest(self.path, manifest)
            except BaseException:
                del snapshot  # it holds leases on the new files, which must be removed
                raise
            self._current = Current(snapshot, manifest_stamp(self.path))

    def _remove_orphans(self) -> None:
        """Remove files of stopped writers and older generations that no reader holds; needs the lock.

        Call it only after the commit that no longer names these files is on the disk.
        """
        sync_folder(self.path)
        kept = {Path(entry["name"]).name for entry in self.snapshot.manifest["segments"]}
        kept |= set(own_files(self.snapshot.manifest))
        named = [path for path in self.path.glob("*") if is_numbered(path.name)]
        for path in [*named, *(self.path / "segments").glob("*")]:
            if path.name not in kept:
                remove_unheld(path)


def write_statistics(folder: Path, generation: int, statistics: FittedStatistics, head: bytes | None) -> dict[str, Any]:
    """Write the statistics and the head under names of a generation; return their entries in the manifest."""
    name = numbered("constants", generation)
    files = {name: replace_file(folder / name, statistics.to_bytes())}
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
