"""The layout of codes on disk: the order of rows within a segment, tiles, and zones with minima and maxima."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TILE = 4096
"""Rows of a tile; within a tile the codes are stored dim by dim."""
ZONE = 128
"""Rows of a zone, for which the minimum and maximum of each dim are stored."""
ZONES = TILE // ZONE

_SAMPLE = 4096


def kd_order(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return an order of rows, (n,) int64, that makes zones tight. codes: (n, d) uint8.

    As in a k-d tree, each set of rows is sorted by its dim of the largest variance (over at most 4,096 evenly spaced
    rows) and split at the multiple of ZONE nearest to the middle. Sorting is stable, so the order is the same on every
    machine.
    """
    order = np.arange(len(codes), dtype=np.int64)
    pending = [(0, len(codes))]
    while pending:
        start, stop = pending.pop()
        size = stop - start
        if size <= ZONE:
            continue
        rows = order[start:stop]
        sample = codes[rows[:: max(1, size // _SAMPLE)]].astype(np.float32)
        widest = int(sample.var(axis=0).argmax())
        order[start:stop] = rows[np.argsort(codes[rows, widest], kind="stable")]
        middle = start + max(ZONE, round(size / 2 / ZONE) * ZONE)
        pending += [(start, middle), (middle, stop)]
    return order


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
