"""The numba kernels of the cpu backend, over the arrays of one segment.

Each is the twin of a NumPy definition: `votes` of Boxes.votes, `bit_scores` of WeightPlanes.scores, `near_rows` of the
squared L2 over codes, `code_dots` of CodeWeights.scores. Inner loops run over the 128 rows of a zone, a fixed count,
so that LLVM turns them into whole vector instructions; byte ranges are one subtraction and one unsigned compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.extending import intrinsic
from numpy.typing import NDArray

_TILE = 4096
_ZONE = 128
_ZONES = 32


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Count the set bits of an unsigned word: one POPCNT, or VPOPCNT where a loop over it is vectorised."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), generate


@njit(inline="always")
def _zone_relation(zones, tile, zone, start, stop, features, low, high):  # type: ignore[no-untyped-def]
    """Return 0 if no row of the zone can be in the box, 2 if all must be, else 1."""
    relation = 2
    for j in range(start, stop):
        smallest = zones[tile, 0, features[j], zone]
        largest = zones[tile, 1, features[j], zone]
        if smallest > high[j] or largest < low[j]:
            return 0
        if smallest < low[j] or largest > high[j]:
            relation = 1
    return relation


@njit(inline="always")
def _hit_rows(codes, tile, at, start, stop, features, low, high, inside, hit):  # type: ignore[no-untyped-def]
    """Set hit[i] for the rows at + i of the tile that lie in the box."""
    for i in range(_ZONE):
        inside[i] = 1
    for j in range(start, stop):
        column = codes[tile, features[j], at : at + _ZONE]
        lowest = low[j]
        span = np.uint8(high[j] - lowest)
        for i in range(_ZONE):
            inside[i] &= np.uint8(np.uint8(column[i] - lowest) <= span)
    for i in range(_ZONE):
        hit[i] |= inside[i]


@njit(inline="always")
def _estimator_hits(codes, zones, tile, zone, first, last, offsets, features, low, high, inside, hit):  # type: ignore[no-untyped-def]
    """Evaluate the boxes first..last-1 of one estimator on a zone; return 0: no row, 2: all rows, 1: see hit."""
    touched = 0
    for box in range(first, last):
        start, stop = offsets[box], offsets[box + 1]
        relation = _zone_relation(zones, tile, zone, start, stop, features, low, high)
        if relation == 2:
            return 2
        if relation == 1:
            if touched == 0:
                hit[:] = 0
            touched = 1
            _hit_rows(codes, tile, zone * _ZONE, start, stop, features, low, high, inside, hit)
    return touched


@njit(parallel=True, cache=True, nogil=True)
def votes(codes, zones, n, owners, offsets, features, low, high):  # type: ignore[no-untyped-def]
    """Return votes, (tiles * TILE,) uint16; padding rows may have votes too.

    codes: (tiles, d, TILE) uint8; zones: (tiles, 2, d, ZONES) uint8; owners: (e + 1,) int64, estimator i owns the
    boxes owners[i]:owners[i + 1]; the boxes in the CSR form of Boxes.
    """
    tiles = codes.shape[0]
    out = np.zeros(tiles * _TILE, np.uint16)
    for tile in prange(tiles):
        inside = np.empty(_ZONE, np.uint8)
        hit = np.empty(_ZONE, np.uint8)
        for zone in range(min(_ZONES, (n - tile * _TILE + _ZONE - 1) // _ZONE)):
            at = tile * _TILE + zone * _ZONE
            count = out[at : at + _ZONE]
            for e in range(len(owners) - 1):
                touched = _estimator_hits(
                    codes, zones, tile, zone, owners[e], owners[e + 1], offsets, features, low, high, inside, hit
                )
                if touched == 2:
                    for i in range(_ZONE):
                        count[i] += np.uint16(1)
                elif touched == 1:
                    for i in range(_ZONE):
                        count[i] += np.uint16(hit[i])
    return out


@njit(parallel=True, cache=True, nogil=True)
def rows_at_least(keys, n, floor, mask, has_mask):  # type: ignore[no-untyped-def]
    """Return the rows i < n with keys[i] >= floor (and mask[i]), ascending, (m,) int64."""
    parts = (n + _TILE - 1) // _TILE
    offsets = np.zeros(parts + 1, np.int64)
    for part in prange(parts):
        found = 0
        for i in range(part * _TILE, min(n, (part + 1) * _TILE)):
            found += (keys[i] >= floor) & ((not has_mask) or mask[i])
        offsets[part + 1] = found
    for part in range(parts):
        offsets[part + 1] += offsets[part]
    rows = np.empty(offsets[parts], np.int64)
    for part in prange(parts):
        at = offsets[part]
        if offsets[part + 1] > at:
            for i in range(part * _TILE, min(n, (part + 1) * _TILE)):
                if keys[i] >= floor and ((not has_mask) or mask[i]):
                    rows[at] = i
                    at += 1
    return rows


@njit(parallel=True, cache=True, nogil=True)
def bit_scores(words, scales, planes, constant):  # type: ignore[no-untyped-def]
    """Return f32(dot) * scale, (n,) float32.

    words: (n, W) uint32 or uint64, the sign bits; scales: (n,) float32; planes: 4 tuples of W words (tuples, so that
    W is known when compiling and the loop over it unrolls); constant: 15 D - 2 sum(u).
    """
    n = len(words)
    out = np.empty(n, np.float32)
    p0, p1, p2, p3 = planes
    for part in prange((n + _TILE - 1) // _TILE):
        for row in range(part * _TILE, min(n, (part + 1) * _TILE)):
            total = np.int64(0)
            for w in range(len(p0)):
                b = words[row, w]
                levels = np.int64(_popcount(b & p0[w])) + 2 * np.int64(_popcount(b & p1[w]))
                levels += 4 * np.int64(_popcount(b & p2[w])) + 8 * np.int64(_popcount(b & p3[w]))
                total += 4 * levels - 30 * np.int64(_popcount(b))
            out[row] = np.float32(total + constant) * scales[row]
    return out


@njit(parallel=True, cache=True, nogil=True)
def code_dots(codes, weights):  # type: ignore[no-untyped-def]
    """Return exact integer dots, (tiles * TILE,) int32, of codes (tiles, d, TILE) uint8 and weights (d,) int32."""
    tiles, d, _ = codes.shape
    out = np.zeros(tiles * _TILE, np.int32)
    for tile in prange(tiles):
        own = out[tile * _TILE : (tile + 1) * _TILE]
        for f in range(d):
            weight = weights[f]
            column = codes[tile, f]
            for i in range(_TILE):
                own[i] += np.int32(column[i]) * weight
    return out


@njit(parallel=True, cache=True, nogil=True)
def zone_bounds(zones, query):  # type: ignore[no-untyped-def]
    """Return a lower bound, (tiles * ZONES,) int32, of the squared L2 from query, (d,) int32, to each zone's rows."""
    tiles, _, d, _ = zones.shape
    out = np.zeros(tiles * _ZONES, np.int32)
    for tile in prange(tiles):
        own = out[tile * _ZONES : (tile + 1) * _ZONES]
        for f in range(d):
            for zone in range(_ZONES):
                below = np.int32(zones[tile, 0, f, zone]) - query[f]
                above = query[f] - np.int32(zones[tile, 1, f, zone])
                away = max(below, above, np.int32(0))
                own[zone] += away * away
    return out


@njit(inline="always")
def _squared(codes, tile, at, query, out):  # type: ignore[no-untyped-def]
    """Write the squared L2 of the zone's 128 rows to out, (128,) int32."""
    for i in range(_ZONE):
        out[i] = 0
    for f in range(codes.shape[1]):
        column = codes[tile, f, at : at + _ZONE]
        value = np.int16(query[f])
        for i in range(_ZONE):
            away = np.int16(np.int16(column[i]) - value)
            out[i] += np.int32(np.uint16(np.int16(away * away)))


@njit(parallel=True, cache=True, nogil=True)
def zone_distances(codes, chosen, query):  # type: ignore[no-untyped-def]
    """Return the squared L2 of all rows of the chosen zones, (m, ZONE) int32. chosen: (m,) int64 zone numbers."""
    out = np.empty((len(chosen), _ZONE), np.int32)
    for index in prange(len(chosen)):
        _squared(codes, chosen[index] // _ZONES, chosen[index] % _ZONES * _ZONE, query, out[index])
    return out


@njit(cache=True, nogil=True)
def _keep_best(rows, keys, count, k):  # type: ignore[no-untyped-def]
    """Keep in place the rows with keys up to the k-th smallest; return (new count, that key)."""
    border = np.partition(keys[:count], k - 1)[k - 1]
    kept = 0
    for i in range(count):
        if keys[i] <= border:
            rows[kept], keys[kept] = rows[i], keys[i]
            kept += 1
    return kept, border


@njit(cache=True, nogil=True)
def _near_rows_of(codes, bounds, first, last, query, k, border, n, mask, has_mask):  # type: ignore[no-untyped-def]
    """Return (rows, keys) of zones first..last-1: the k nearest with all ties, none farther than border."""
    capacity = max(4 * k, 4096)
    rows = np.empty(capacity, np.int64)
    keys = np.empty(capacity, np.int32)
    squared = np.empty(_ZONE, np.int32)
    count = 0
    for zone in range(first, last):
        if bounds[zone] > border:
            continue
        _squared(codes, zone // _ZONES, zone % _ZONES * _ZONE, query, squared)
        start = zone * _ZONE
        nearest = squared[0]
        for i in range(_ZONE):
            nearest = min(nearest, squared[i])
        if nearest > border:
            continue
        if count + _ZONE > capacity:
            count, border = _keep_best(rows, keys, count, k)
            if count + _ZONE > capacity:  # ties fill the buffer: every one of them may be in the answer
                capacity *= 2
                rows = np.append(rows, np.empty(capacity - len(rows), np.int64))
                keys = np.append(keys, np.empty(capacity - len(keys), np.int32))
        for i in range(min(_ZONE, n - start)):
            if squared[i] <= border and ((not has_mask) or mask[start + i]):
                rows[count], keys[count] = start + i, squared[i]
                count += 1
    return rows[:count], keys[:count]


@njit(parallel=True, cache=True, nogil=True)
def near_rows(codes, bounds, query, k, border, n, mask, has_mask, parts):  # type: ignore[no-untyped-def]
    """Return lists of rows and squared L2: a superset of the k nearest rows with all ties of the last.

    codes: (tiles, d, TILE) uint8; bounds: from zone_bounds; query: (d,) int32; border: no row of the answer is
    farther; parts: how many parts of the zones run side by side.
    """
    rows = [np.empty(0, np.int64) for _ in range(parts)]
    keys = [np.empty(0, np.int32) for _ in range(parts)]
    zones = (n + _ZONE - 1) // _ZONE
    for part in prange(parts):
        first, last = zones * part // parts, zones * (part + 1) // parts
        own_rows, own_keys = _near_rows_of(codes, bounds, first, last, query, k, border, n, mask, has_mask)
        rows[part] = own_rows
        keys[part] = own_keys
    return rows, keys


def word_planes(planes: NDArray[np.uint8], word: type) -> tuple[tuple[Any, ...], ...]:
    """Return weight planes, (4, D/8) uint8, as 4 tuples of words."""
    return tuple(tuple(row) for row in planes.view(word))
