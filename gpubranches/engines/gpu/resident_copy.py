"""The resident copy: the segments of a catalog in device memory, and a bitmap of the rows that are not deleted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, ZONES, Catalog, Segment
from gpubranches.core.files import checksum
from gpubranches.engines.gpu.device import Device, DeviceArray
from gpubranches.engines.gpu.launchers import Resident
from gpubranches.engines.gpu.memory import MemoryPlan, bits_words
from gpubranches.engines.host import live_words
from gpubranches.errors import CatalogFormatError, UsageError

Report = Callable[[str, int, int], None]
_FILES = {
    "codes": ("codes.u8", "zones.u8", "ids.i64"),
    "bits": ("bits.u8", "scales.f16"),
    "embeddings": ("embeddings.f16",),
}
_VERIFIERS = 8
_AHEAD = 4
"""Number of segments whose files are read ahead of the upload: enough for all verifiers, few enough for the page
cache."""


@dataclass(frozen=True)
class Page:
    """One segment on the device; arrays by name as in struct Tile of kernels/common.cuh."""

    arrays: dict[str, DeviceArray]
    tiles: int
    rows: int
    first_id: int

    def directory(self, device: Device, bytes_a_tile: dict[str, int]) -> NDArray[np.uint64]:
        """Return struct Tile for each tile, (tiles, 8) uint64."""
        entries = np.zeros((self.tiles, 8), np.uint64)
        for i, name in enumerate(("codes", "zones", "bits", "scales", "ids", "embeddings")):
            if name in self.arrays:
                step = bytes_a_tile[name]
                entries[:, i] = device.address(self.arrays[name]) + step * np.arange(self.tiles, dtype=np.uint64)
        entries[:, 6] = np.uint64(self.first_id)
        entries[:, 7] = np.minimum(TILE, self.rows - TILE * np.arange(self.tiles))
        return entries


class Residence:
    """Keeps a device's copy of a catalog up to date: uploads new segments, frees removed ones, and keeps the others.

    verify: check the checksum of every file before it is uploaded; a damaged file raises CatalogFormatError. While a
    segment is uploaded, the files of the next ones are checked.
    """

    def __init__(self, device: Device, catalog: Catalog, *, verify: bool = True, report: Report | None = None):
        self.device = device
        self.catalog = catalog
        self.verify = verify
        self.generation = -1
        self.plan = MemoryPlan.of(catalog, *device.memory()).require()
        self.pages: dict[str, Page] = {}
        self._report = report
        self.refresh()

    def refresh(self) -> None:
        """Update the copy to the present generation of the catalog."""
        if self.generation == self.catalog.generation:
            return
        generation, segments = self.catalog.generation, [s for s in self.catalog.segments if s.n]
        names = {segment.folder.name for segment in segments}
        for name in [name for name in self.pages if name not in names]:
            del self.pages[name]
        self._upload([segment for segment in segments if segment.folder.name not in self.pages])
        words = bits_words(self.catalog) if "bits" in self.plan.tiers else 0
        width = self.catalog.D if "embeddings" in self.plan.tiers else 0
        d = self.catalog.d
        sizes = {"codes": d, "bits": 4 * words, "scales": 2, "ids": 4, "embeddings": 2 * width}
        sizes = {name: size * TILE for name, size in sizes.items()} | {"zones": 2 * d * ZONES}
        pages = [self.pages[segment.folder.name] for segment in segments]
        entries = [page.directory(self.device, sizes) for page in pages]
        tiles = np.concatenate([np.zeros((0, 8), np.uint64), *entries])
        live = [np.zeros(0, np.uint64), *(live_words(segment, self.catalog.deleted) for segment in segments)]
        self.resident = Resident(self.device, self.device.put(tiles), len(tiles), d, words, width)
        self.live = self.device.put(np.concatenate(live))
        self.n_live = int(sum(np.bitwise_count(words).sum() for words in live))
        self.generation = generation

    @property
    def all_live(self) -> bool:
        """Whether no resident row is deleted."""
        return self.n_live == sum(page.rows for page in self.pages.values())

    def in_order(self) -> list[tuple[str, Page, int]]:
        """Return name, page, and the position of its first row, of every segment with rows."""
        segments = [segment for segment in self.catalog.segments if segment.n]
        return [(one.folder.name, self.pages[one.folder.name], one.start) for one in segments]

    def close(self) -> None:
        """Free the copy; `refresh` would upload it again."""
        self.pages.clear()
        del self.resident, self.live
        self.generation = -1

    def _upload(self, segments: list[Segment]) -> None:
        if self.generation >= 0 and segments:
            free, total = self.device.memory()
            tiers = self.plan.tiers
            MemoryPlan.of(self.catalog, free, total, tiers=tiers, new=segments).require()
            held = sum(array.nbytes for page in self.pages.values() for array in page.arrays.values())
            self.plan = MemoryPlan.of(self.catalog, free + held, total, tiers=tiers)
        total = sum(self.plan.segment_bytes(segment) for segment in segments)
        done = 0
        with closing(self._verified(segments)) as verified:
            for segment in verified:
                self.pages[segment.folder.name] = self._page(segment)
                done += self.plan.segment_bytes(segment)
                if self._report is not None:
                    self._report("uploading", done, total)

    def _verified(self, segments: list[Segment]) -> Generator[Segment, None, None]:
        """Yield the segments in order, with checked files; check the next _AHEAD segments in parallel.

        So the upload of a segment reads from the page cache, because its check has just read the files from the disk.
        """
        if not self.verify:
            yield from segments
            return
        pool = ThreadPoolExecutor(_VERIFIERS, "gpubranches-verify")
        waiting: deque[tuple[Segment, list[Future[None]]]] = deque()
        following = iter(segments)
        try:
            for segment in segments:
                while len(waiting) <= _AHEAD and (ahead := next(following, None)) is not None:
                    waiting.append((ahead, [pool.submit(_check, ahead, name) for name in self._files(ahead)]))
                for file in waiting.popleft()[1]:
                    file.result()
                yield segment
        finally:
            pool.shutdown(cancel_futures=True)

    def _files(self, segment: Segment) -> list[str]:
        """Return the names of a segment's files that are uploaded, the largest first."""
        names = [name for tier in self.plan.tiers for name in _FILES[tier]]
        return sorted(names, key=lambda name: -segment.files[name]["bytes"])

    def _page(self, segment: Segment) -> Page:
        span = segment.last_id - segment.first_id
        if span >= 1 << 32:
            raise UsageError(f"{segment.folder}: expected ids within 2^32 of each other, got a span of {span}; compact")
        own: dict[str, NDArray[Any]] = {"codes": segment.codes, "zones": segment.zones}
        own["ids"] = (np.asarray(segment.ids) - segment.first_id).astype(np.uint32)
        if "bits" in self.plan.tiers and segment.bits is not None and segment.scales is not None:
            own["bits"], own["scales"] = _padded(segment.bits), segment.scales
        if "embeddings" in self.plan.tiers and segment.embeddings is not None:
            own["embeddings"] = segment.embeddings
        arrays = {}
        for name, array in own.items():
            arrays[name] = self.device.empty(array.shape, array.dtype)
            self.device.upload(array, arrays[name])
        return Page(arrays, segment.tiles, segment.n, segment.first_id)


def _check(segment: Segment, name: str) -> None:
    if checksum(segment.folder / name) != segment.files[name]["sha256"]:
        raise CatalogFormatError(
            f"{segment.folder / name}: expected the checksum of the manifest, its content is another; restore "
            "the file, or make the catalog anew"
        )


def _padded(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows of bits padded with zeros to whole 16 bytes."""
    return bits if bits.shape[1] % 16 == 0 else np.pad(bits, ((0, 0), (0, -bits.shape[1] % 16)))
