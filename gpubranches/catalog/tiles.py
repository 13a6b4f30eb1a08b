"""The layout of codes on disk: the order of rows within a segment, tiles, and zones with minima and maxima."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.threads import map_ahead

TILE = 4096
"""Rows of a tile; within a tile the codes are stored dim by dim."""
ZONE = 128
"""Rows of a zone, for which the minimum and maximum of each dim are stored."""
ZONES = TILE // ZONE

_SAMPLE = 4096
_LEAST_ALONE = 1 << 14
"""The least number of rows for a thread; with fewer it would wait for Python's lock longer than it works."""
_Span = tuple[int, int]


def kd_order(codes: NDArray[np.uint8], threads: int = 1) -> NDArray[np.int64]:
    """Return an order of rows, (n,) int64, in which the codes of a zone differ little. codes: (n, d) uint8.

    As in a k-d tree, each set of rows is sorted by its dim of the largest variance (over at most 4,096 evenly spaced
    rows) and split at the multiple of ZONE nearest to the middle. Sorting is stable, so the order is the same on every
    machine, and with any number of threads: the sets of one level are disjoint.
    """
    order = np.arange(len(codes), dtype=np.int64)
    large = max(len(codes) // (4 * threads), _LEAST_ALONE) if threads > 1 else len(codes)
    level, alone = [(0, len(codes))], list[_Span]()
    while level:
        alone += [span for span in level if span[1] - span[0] <= large]
        above = [span for span in level if span[1] - span[0] > large]
        level = [part for parts in map_ahead(lambda span: _split(codes, order, span), above, threads) for part in parts]
    for _ in map_ahead(lambda span: _split_whole(codes, order, span), alone, threads):
        pass
    return order


def _split_whole(codes: NDArray[np.uint8], order: NDArray[np.int64], span: _Span) -> None:
    pending = [span]
    while pending:
        pending += _split(codes, order, pending.pop())


def _split(codes: NDArray[np.uint8], order: NDArray[np.int64], span: _Span) -> list[_Span]:
    """Sort the rows of a span of the order by their widest dim; return its two halves, or none for a single zone."""
    start, stop = span
    size = stop - start
    if size <= ZONE:
        return []
    rows = order[start:stop]
    sample = codes[rows[:: max(1, size // _SAMPLE)]].astype(np.float32)
    widest = int(sample.var(axis=0).argmax())
    order[start:stop] = rows[np.argsort(codes[rows, widest], kind="stable")]
    middle = start + max(ZONE, round(size / 2 / ZONE) * ZONE)
    return [(start, middle), (middle, stop)]


def to_tiles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return codes, (n, d) uint8, as tiles, (ceil(n / TILE), d, TILE) uint8, padded with zeros."""
    n, d = codes.shape
    tiles = -(-n // TILE)
    padded = np.zeros((tiles * TILE, d), np.uint8)
    padded[:n] = codes
    return np.ascontiguousarray(padded.reshape(tiles, TILE, d).transpose(0, 2, 1))


def zones_of(tiles: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Return the zones, (tiles, 2, d, ZONES) uint8: minimum and maximum of each dim over the zone's real rows.

    tiles: (tiles, d, TILE) uint8 with n real rows. A zone without real rows has minimum 255 and maximum 0.
    """
    count, d, _ = tiles.shape
    zones = np.empty((count, 2, d, ZONES), np.uint8)
    grouped = tiles.reshape(count, d, ZONES, ZONE)
    zones[:, 0] = grouped.min(axis=3, initial=255)
    zones[:, 1] = grouped.max(axis=3, initial=0)
    if n % TILE:
        last, rows = count - 1, n % TILE
        full, rest = divmod(rows, ZONE)
        zones[last, 0, :, full:] = 255
        zones[last, 1, :, full:] = 0
        if rest:
            real = grouped[last, :, full, :rest]
            zones[last, 0, :, full], zones[last, 1, :, full] = real.min(axis=1), real.max(axis=1)
    return zones
