"""Some segments of a catalog as a separate catalog, which an engine scans like a whole one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Segment, Snapshot
from gpubranches.catalog.reader import CatalogReader, Current
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.embedding_space import digest


@dataclass(frozen=True, eq=False)
class ShardState:
    """Some segments of one generation of a catalog, described so that another process can open them.

    key: differs between states with different rows; path: the catalog's folder; manifest: the catalog's, with only
    these segments and without deleted rows; spans: (m, 2) int64, for each segment the first byte in a bitmap over the
    catalog's positions, and the byte after its last; deleted: bitmap over the shard's own positions, or None.
    """

    key: str
    path: Path
    manifest: dict[str, Any]
    spans: NDArray[np.int64]
    deleted: Bitmap | None

    @classmethod
    def of(cls, snapshot: Snapshot, segments: Sequence[Segment]) -> ShardState:
        """Describe some segments of a snapshot."""
        names = {segment.folder.name for segment in segments}
        entries = [entry for entry in snapshot.manifest["segments"] if Path(entry["name"]).name in names]
        spans = np.array([(each.start, each.start + each.tiles * TILE) for each in segments], np.int64).reshape(-1, 2)
        key = digest(str(snapshot.path), f"/{snapshot.generation}", *(f"/{entry['name']}" for entry in entries))
        state = cls(key, snapshot.path, {**snapshot.manifest, "segments": entries, "deleted": None}, spans // 8, None)
        return state if snapshot.deleted is None else replace(state, deleted=state.own(snapshot.deleted))

    @property
    def rows(self) -> int:
        """Number of rows of the segments, including deleted ones."""
        return sum(entry["n"] for entry in self.manifest["segments"])

    def own(self, bitmap: Bitmap) -> Bitmap:
        """Return the shard's part of a bitmap over the catalog's positions."""
        return np.concatenate([np.zeros(0, np.uint8), *(bitmap[start:stop] for start, stop in self.spans.tolist())])

    def put_into(self, bitmap: Bitmap, own: Bitmap) -> None:
        """Write a bitmap over the shard's positions into a bitmap over the catalog's."""
        at = 0
        for start, stop in self.spans.tolist():
            bitmap[start:stop] = own[at : at + stop - start]
            at += stop - start

    def open(self, generation: int, before: Snapshot | None = None) -> Snapshot:
        """Open the segments. before: an earlier snapshot, whose maps are reused.

        generation: a number that no other state has; engines use it to distinguish states. The catalog's generation is
        not enough, because a generation may later be divided in another way. Raises the errors of `Snapshot.open`.
        """
        manifest = {**self.manifest, "generation": generation}
        return replace(Snapshot.open(self.path, manifest, before), deleted=self.deleted)


class ShardCatalog(CatalogReader):
    """The segments of a shard as a catalog. Only `show` changes it; changes of files on the disk do not."""

    def __init__(self, state: ShardState):
        self._state = state
        self._shown = 0
        super().__init__(state.path)

    def show(self, state: ShardState) -> Snapshot:
        """Open another state of the shard, which is read from now on; return its snapshot."""
        with self._loading:
            self._state = state
            self._current = self._opened(self._current.snapshot)
            return self._current.snapshot

    def refresh(self) -> bool:
        """Return False: only `show` changes what is read."""
        return False

    def _opened(self, before: Snapshot | None) -> Current:
        self._shown += 1
        return Current(self._state.open(self._shown, before), (0, 0, 0))
