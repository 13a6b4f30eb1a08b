"""A synthetic catalog of any size: every row is a hash of its number, so it can be made on the host or on a device.

kernels/synthetic.cu computes the same rows. `SyntheticCatalog` has the interface of a catalog that backends and
sessions use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog import TILE, ZONES
from gpubranches.catalog.tiles import to_tiles, zones_of
from gpubranches.core.arrays import as_ids
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import output
from gpubranches.core.threads import cores
from gpubranches.core.tie_order import splitmix64
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.device import Device, DeviceArray
from gpubranches.engines.gpu.launchers import Resident
from gpubranches.engines.gpu.memory import MemoryPlan
from gpubranches.errors import UsageError

CLUSTERS = 4096
PERIOD = 1 << 24
"""Number of runs of 512 rows after which the clusters repeat, unless a file of embeddings gives another number."""
_RUN = 512
_PAGE_TILES = 1024
_ROWS_AT_ONCE = 1 << 16


def _drawn(stream: int, x: NDArray[Any]) -> NDArray[np.uint64]:
    return splitmix64(np.uint64(stream << 48) ^ x.astype(np.uint64))


def codes_of(rows: NDArray[np.integer[Any]], d: int, clusters: int, period: int) -> NDArray[np.uint8]:
    """Return the codes of rows, (m, d) uint8."""
    numbers, dims = rows.astype(np.uint64)[:, None], np.arange(d, dtype=np.uint64)
    hashes = _drawn(3, np.asarray(numbers * np.uint64(d) + dims, np.uint64))
    if not clusters:
        return (hashes & np.uint64(255)).astype(np.uint8)
    cluster = cluster_of(rows, clusters, period).astype(np.uint64)[:, None]
    parts = sum((hashes >> np.uint64(shift)) & np.uint64(255) for shift in (0, 8, 16, 24))
    places = np.asarray(cluster * np.uint64(1024) + dims, np.uint64)
    centre = (_drawn(2, places) % np.uint64(176)).astype(np.int64)
    noise = (np.asarray(parts) >> np.uint64(3)).astype(np.int64) - 63
    codes: NDArray[np.uint8] = np.clip(40 + centre + noise, 0, 255).astype(np.uint8)
    return codes


def cluster_of(rows: NDArray[np.integer[Any]], clusters: int, period: int) -> NDArray[np.int64]:
    """Return the cluster of rows, (m,) int64."""
    runs = rows.astype(np.uint64) // np.uint64(_RUN) % np.uint64(period)
    return (_drawn(1, runs) % np.uint64(clusters)).astype(np.int64)


def bits_of(rows: NDArray[np.integer[Any]], words: int, clusters: int, period: int) -> NDArray[np.uint8]:
    """Return the sign bits of rows, (m, 4 words) uint8."""
    own, place = rows.astype(np.uint64)[:, None] * np.uint64(words), np.arange(words, dtype=np.uint64)
    hashes = _drawn(5, np.asarray(own + place))
    if clusters:
        cluster = cluster_of(rows, clusters, period).astype(np.uint64)[:, None]
        turned = hashes & (hashes >> np.uint64(32))
        hashes = _drawn(4, np.asarray(cluster * np.uint64(words) + place)) ^ turned
    return np.ascontiguousarray(hashes.astype(np.uint32)).view(np.uint8)


@dataclass(frozen=True)
class SyntheticSegment:
    """Host rows start .. start + n - 1, made on first use; the arrays of a Segment."""

    start: int
    n: int
    d: int
    words: int
    clusters: int
    period: int
    embeddings: NDArray[np.float16] | None = None

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.n // TILE

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """The entry of the codes, whose checksum is of the numbers that they are made from."""
        made = f"{self.start} {self.n} {self.d} {self.clusters} {self.period}"
        return {"codes.u8": {"bytes": self.n * self.d, "sha256": digest(made)}}

    def require_allowed(self, start: int, allowed: NDArray[np.uint64]) -> None:
        """Do nothing, because there are no files."""

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """Codes as tiles, (tiles, d, TILE)."""
        return np.concatenate([to_tiles(codes_of(rows, self.d, self.clusters, self.period)) for rows in self._blocks()])

    @cached_property
    def zones(self) -> NDArray[np.uint8]:
        """Zones, (tiles, 2, d, ZONES)."""
        return zones_of(self.codes, self.n)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """Sign bits, (n, 4 words)."""
        return np.concatenate([bits_of(rows, self.words, self.clusters, self.period) for rows in self._blocks()])

    @cached_property
    def scales(self) -> NDArray[np.float16]:
        """Scales, (n,)."""
        return np.full(self.n, scale_of(32 * self.words), np.float16)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Ids, which are positions."""
        return np.arange(self.start, self.start + self.n)

    def make(self) -> None:
        """Make the arrays now."""
        _ = self.zones, self.bits, self.scales, self.ids

    def row_codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows start..stop-1 as row-major codes."""
        return codes_of(np.arange(self.start + start, self.start + stop), self.d, self.clusters, self.period)

    def _blocks(self) -> list[NDArray[np.int64]]:
        stop = self.start + self.n
        return [np.arange(at, min(at + _ROWS_AT_ONCE, stop)) for at in range(self.start, stop, _ROWS_AT_ONCE)]


class SyntheticCatalog:
    """Rows whose id is their position, with no deletions; the number of rows is rounded up to whole tiles.

    clusters: 0 for uniform codes. stand_in: a file of embeddings from `write_stand_in`; its rows are repeated for all
    rows, and the clusters repeat with it. The mean is 0 and the rotation is the identity, so signs are the embeddings'
    own. d: a multiple of 4 up to 1,024; D: a multiple of 32 up to 2,048. Raises UsageError.
    """

    deleted = None
    layout = None
    text_mean = None
    generation = 1
    coding = "", "", 0

    def __init__(self, rows: int, *, d: int = 32, D: int = 512, clusters: int = CLUSTERS, stand_in: Path | None = None):
        if d % 4 or not 4 <= d <= 1024 or D % 32 or not 32 <= D <= 2048:
            raise UsageError(
                "expected code dims d in steps of 4 up to 1,024 and embedding dims D in steps of 32 up to 2,048, got "
                f"{d} and {D}"
            )
        self.n = self.n_positions = -(-rows // TILE) * TILE
        self.d, self.D, self.n_bits, self.clusters = d, D, D, clusters
        self.parts = (slice(0, D),)
        self.signs = SignQuantizer()
        self.signs.mean_, self.signs.rotation_ = np.zeros(D, np.float32), np.eye(D, dtype=np.float32)
        self._stand_in = None if stand_in is None else np.memmap(stand_in, np.float16, "r").reshape(-1, D)
        self.period = PERIOD if self._stand_in is None else max(1, len(self._stand_in) // _RUN)
        page = TILE * _PAGE_TILES
        self.segments = tuple(self._segment(at, min(page, self.n - at)) for at in range(0, self.n, page))

    @property
    def has_bits(self) -> bool:
        """True: bits are synthetic, too."""
        return True

    @property
    def has_embeddings(self) -> bool:
        """Whether there is a stand-in file of embeddings."""
        return self._stand_in is not None

    @property
    def stores_embeddings(self) -> bool:
        """Whether there is a stand-in file of embeddings."""
        return self.has_embeddings

    @property
    def embeddings_source(self) -> str:
        """The source that an answer by embeddings names."""
        return "embeddings"

    @property
    def has_own_embeddings(self) -> bool:
        """Whether each row has a row of the file to itself, which a scan of all embeddings needs."""
        return self._stand_in is not None and len(self._stand_in) >= self.n

    def _segment(self, start: int, n: int) -> SyntheticSegment:
        own = self._stand_in[start : start + n] if self.has_own_embeddings and self._stand_in is not None else None
        return SyntheticSegment(start, n, self.d, self.D // 32, self.clusters, self.period, own)

    @contextmanager
    def pinned(self, state: None = None) -> Iterator[None]:
        """Do nothing, because there is only one state."""
        yield

    def count(self, where: Bitmap | None = None) -> int:
        """Return how many rows a bitmap holds, all by default."""
        return self.n if where is None else int(np.bitwise_count(where).sum())

    def alive(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Return which ids exist."""
        return as_ids(ids) < self.n

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return ids, which are positions."""
        return as_ids(ids)

    def live_positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return those ids that are rows; they are positions, too."""
        rows = as_ids(ids)
        return rows[rows < self.n]

    def codes(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return codes, (m, d) uint8."""
        return codes_of(as_ids(ids), self.d, self.clusters, self.period)

    def embeddings(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return rows of the stand-in file, (m, D) float32."""
        return self.embeddings_at(as_ids(ids)).astype(np.float32)

    def embeddings_at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
        """Return rows of the stand-in file for positions, (m, D) float16."""
        if self._stand_in is None:
            raise ValueError("expected a file that stands in for the embeddings, got none")
        return np.asarray(self._stand_in[positions.astype(np.int64) % len(self._stand_in)])

    def sample_ids(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ids, ascending."""
        return np.unique(rng.integers(0, self.n, count))

    def steady_sample(self) -> SyntheticSample:
        """Return rows that are always the same."""
        return SyntheticSample(self)

    def items_of(self, cluster: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw up to count ids of a cluster."""
        runs = np.arange(self.n // _RUN)
        own = runs[cluster_of(runs * _RUN, self.clusters, self.period) == cluster]
        rows = (own[:, None] * _RUN + rng.integers(0, _RUN, (len(own), 8))).reshape(-1)
        return np.sort(rng.choice(rows, min(count, len(rows)), replace=False)) if len(rows) else rows


@dataclass(frozen=True)
class SyntheticSample:
    """Rows of a catalog, with the interface of a SteadySample."""

    catalog: SyntheticCatalog
    key: int = 0

    def embeddings(self, count: int) -> NDArray[np.float32]:
        """Return up to count rows of the stand-in file."""
        return self.catalog.embeddings(self._ids(count))

    def codes(self, count: int) -> NDArray[np.uint8]:
        """Return the codes of up to count rows."""
        return self.catalog.codes(self._ids(count))

    def _ids(self, count: int) -> NDArray[np.int64]:
        return self.catalog.sample_ids(count, np.random.default_rng(0))


class SyntheticResidence:
    """The rows of a SyntheticCatalog, made on the device page by page, with the interface of a Residence."""

    def __init__(self, device: Device, catalog: SyntheticCatalog, *, tiers: tuple[str, ...] = ("codes", "bits")):
        n_tiles, d = catalog.n // TILE, catalog.d
        signed = catalog.D // 32 if "bits" in tiers else 0
        words = -(-signed // 4) * 4
        self.device = device
        self.generation = catalog.generation
        parts = {"codes": catalog.n * d, "zones": catalog.n * d // 64, "ids": 4 * catalog.n}
        if words:
            parts["bits"] = (4 * words + 2) * catalog.n
        self.plan = MemoryPlan(parts | {"working": 512 << 20}, {}, *device.memory(), d, words, 0).require()
        entries = np.zeros((n_tiles, 8), np.uint64)
        self.pages: list[list[DeviceArray]] = []
        for first in range(0, n_tiles, _PAGE_TILES):
            tiles = min(_PAGE_TILES, n_tiles - first)
            made = catalog.clusters, catalog.period, scale_of(catalog.D)
            page = launchers.synthesize(device, first * TILE, tiles, d, signed, *made)
            self.pages.append(page)
            each = [d * TILE, 2 * d * ZONES, 4 * words * TILE, 2 * TILE, 4 * TILE]
            for i, (array, step) in enumerate(zip(page, each, strict=True)):
                own = device.address(array) + step * np.arange(tiles, dtype=np.uint64)
                entries[first : first + tiles, i] = own
            entries[first : first + tiles, 6] = first * TILE
        self.resident = Resident(device, device.put(entries), n_tiles, d, words, 0)
        self.live = device.put(np.full(catalog.n // 64, ~np.uint64(0)))
        self.n_live = catalog.n
        device.synchronize()

    def refresh(self) -> None:
        """Nothing changes."""

    def close(self) -> None:
        """Free the pages."""
        self.pages.clear()


def scale_of(D: int) -> float:
    """Return the size of each component of a unit embedding of D equal components."""
    return float(1 / np.sqrt(D))


def write_stand_in(
    path: Path, size_bytes: int, D: int, clusters: int, report: Callable[[str, int, int], None] | None = None
) -> None:
    """Write about size_bytes of embeddings, signs times their scale, unless a file of that size is there."""
    rows = max(1, size_bytes // (2 * D * _ROWS_AT_ONCE)) * _ROWS_AT_ONCE
    if path.exists() and path.stat().st_size == rows * 2 * D:
        return
    signs = np.array([-1, 1], np.float16) * np.float16(scale_of(D))

    def made(start: int) -> NDArray[np.float16]:
        bits = bits_of(np.arange(start, start + _ROWS_AT_ONCE), D // 32, clusters, rows // _RUN)
        part: NDArray[np.float16] = signs[np.unpackbits(bits, axis=1, bitorder="little")]
        return part

    makers = min(16, cores())
    with output(path) as file, ThreadPoolExecutor(makers, "gpubranches-stand-in") as pool:
        for first in range(0, rows, makers * _ROWS_AT_ONCE):
            last = min(first + makers * _ROWS_AT_ONCE, rows)
            for part in pool.map(made, range(first, last, _ROWS_AT_ONCE)):
                file.write(part)
            if report is not None:
                report("writing embeddings", last, rows)
