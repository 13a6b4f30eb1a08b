"""The numba kernels of the cpu backend. Each works on a few tiles of one segment in one thread, without the GIL.

Each is the twin of a NumPy definition: `votes` of Boxes.votes, `bit_scores` of WeightPlanes.scores, `code_scores` of
CodeWeights.scores, `near_rows` of the squared L2 over codes. Arrays are C-contiguous and flat, read-only where they are
mapped: codes (tiles * d * TILE), zones (tiles * 2 * d * ZONES), `allowed` one uint64 word for each 64 rows with a bit
for every row that counts, padding never.

Kernels that look for the best keep `limit` rows by (key descending, splitmix64(id) ascending), a total order, so what
they return does not depend on how the rows are cut into tasks. `border`, (1,), is shared by the tasks of a call: no row
with a smaller key can be in the answer. It only grows; a stale value costs time, never the answer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpubranches.backends.cpu_vectors import (
    at_least32,
    at_most32,
    count64,
    differences4,
    inside64,
    lowest_bit,
    popcount,
    reach64,
)

_TILE = 4096
_ZONE = 128
_ZONES = 32
_WORDS = _TILE // 64
_BLOCK = 512
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPARE = 4096


@njit(cache=True, nogil=True)
def _mixed(number):  # type: ignore[no-untyped-def]
    """Return splitmix64 of an id, as gpubranches.arrays.splitmix64."""
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _cut(rows, keys, count, limit, ids, border):  # type: ignore[no-untyped-def]
    """Keep in place the `limit` best of `count` > limit rows, and raise the border to the worst of them."""
    worst = np.partition(keys[:count], count - limit)[count - limit]
    kept, tied = 0, 0
    mixed = np.empty(count, np.uint64)
    for i in range(count):
        if keys[i] > worst:
            kept += 1
        elif keys[i] == worst:
            mixed[tied] = _mixed(ids[rows[i]])
            tied += 1
    last = _ALL
    if kept + tied > limit:
        last = np.partition(mixed[:tied], limit - kept - 1)[limit - kept - 1]
    kept = 0
    for i in range(count):
        if keys[i] > worst or (keys[i] == worst and _mixed(ids[rows[i]]) <= last):
            rows[kept], keys[kept] = rows[i], keys[i]
            kept += 1
    if worst > border[0]:
        border[0] = worst
    return kept


@njit(cache=True, nogil=True)
def _take(word, first, values, at, rows, keys, count):  # type: ignore[no-untyped-def]
    """Append the rows of a word, row i of it being first + i with the key values[at + i]; return the new count."""
    while word != np.uint64(0):
        i = np.int64(lowest_bit(word))
        rows[count] = first + i
        keys[count] = values[at + i]
        count += 1
        word &= word - np.uint64(1)
    return count


@njit(cache=True, nogil=True)
def _box_zones(zones, base, d, start, stop, features, low, high, live):  # type: ignore[no-untyped-def]
    """Return two words over the 32 zones of a tile: where the box may hold rows, and where it holds all."""
    touched = live
    full = live
    for j in range(start, stop):
        smallest = base + np.int64(features[j]) * _ZONES
        largest = smallest + d * _ZONES
        touched &= at_least32(zones, largest, low[j]) & at_most32(zones, smallest, high[j])
        if touched == np.uint64(0):
            break
        full &= at_least32(zones, smallest, low[j]) & at_most32(zones, largest, high[j])
    return touched, full & touched


@njit(cache=True, nogil=True)
def _box_rows(codes, at, start, stop, features, low, high, hit, word):  # type: ignore[no-untyped-def]
    """Add to hit[word] and hit[word + 1] the rows of one zone that lie in the box. at: its first byte of dim 0."""
    first, second = _ALL, _ALL
    for j in range(start, stop):
        column = at + np.int64(features[j]) * _TILE
        span = np.uint8(high[j] - low[j])
        first &= inside64(codes, column, low[j], span)
        second &= inside64(codes, column + 64, low[j], span)
        if (first | second) == np.uint64(0):
            return
    hit[word] |= first
    hit[word + 1] |= second


@njit(cache=True, nogil=True)
def _tile_votes(codes, zones, tile, d, live, owners, offsets, features, low, high, hit, counts):  # type: ignore[no-untyped-def]
    """Count the votes of one tile into counts, (TILE,) uint16, in the zones of `live`."""
    zone_base = np.int64(tile) * 2 * d * _ZONES
    code_base = np.int64(tile) * d * _TILE
    counts[:] = 0
    for e in range(len(owners) - 1):
        hit[:] = 0
        some, done = np.uint64(0), np.uint64(0)
        for box in range(owners[e], owners[e + 1]):
            start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
            touched, full = _box_zones(zones, zone_base, d, start, stop, features, low, high, live & ~done)
            done |= full
            part = touched & ~full
            some |= part
            while part != np.uint64(0):
                zone = np.int64(lowest_bit(part))
                part &= part - np.uint64(1)
                _box_rows(codes, code_base + zone * _ZONE, start, stop, features, low, high, hit, 2 * zone)
        some |= done
        while some != np.uint64(0):
            zone = np.int64(lowest_bit(some))
            bit = some & (~some + np.uint64(1))
            some ^= bit
            whole = _ALL if done & bit else np.uint64(0)
            count64(counts, zone * _ZONE, hit[2 * zone] | whole)
            count64(counts, zone * _ZONE + 64, hit[2 * zone + 1] | whole)


@njit(cache=True, nogil=True)
def _live_zones(allowed, tile):  # type: ignore[no-untyped-def]
    """Return a word over the 32 zones of a tile: those with a row that counts."""
    live = np.uint64(0)
    for zone in range(_ZONES):
        at = tile * _WORDS + 2 * zone
        if (allowed[at] | allowed[at + 1]) != np.uint64(0):
            live |= np.uint64(1) << np.uint64(zone)
    return live


@njit(cache=True, nogil=True)
def votes(codes, zones, allowed, d, first, stop, owners, offsets, features, low, high, least):  # type: ignore[no-untyped-def]
    """Return the rows of tiles first..stop-1 with `least` votes or more, (m,) int32, and their votes, (m,) uint16.

    owners: (e + 1,) int64, estimator i owns boxes owners[i]:owners[i + 1], in the CSR form of Boxes.
    """
    rows = np.empty((stop - first) * _TILE, np.int32)
    keys = np.empty((stop - first) * _TILE, np.uint16)
    counts = np.empty(_TILE, np.uint16)
    hit = np.empty(_WORDS, np.uint64)
    count = 0
    for tile in range(first, stop):
        live = _live_zones(allowed, tile)
        if live == np.uint64(0):
            continue
        _tile_votes(codes, zones, tile, d, live, owners, offsets, features, low, high, hit, counts)
        for w in range(_WORDS):
            word = reach64(counts, w * 64, least) & allowed[tile * _WORDS + w]
            count = _take(word, tile * _TILE + w * 64, counts, w * 64, rows, keys, count)
    return rows[:count].copy(), keys[:count].copy()


@njit(cache=True, nogil=True)
def _select(scores, words, allowed, first, floor, border, rows, keys, count):  # type: ignore[no-untyped-def]
    """Append from a block of scores, (64 * words,), those above floor and border; return count and how many >= floor.

    The block's row 0 is row `first`, a multiple of 64, of the segment.
    """
    reached = np.int64(0)
    cut = max(floor, border[0])
    for w in range(words):
        mine = allowed[first // 64 + w]
        if mine == np.uint64(0):
            continue
        word = reach64(scores, w * 64, cut) & mine
        if cut > floor:
            reached += np.int64(popcount(reach64(scores, w * 64, floor) & mine))
        else:
            reached += np.int64(popcount(word))
        count = _take(word, first + w * 64, scores, w * 64, rows, keys, count)
    return count, reached


@njit(cache=True, nogil=True)
def _block_differences(bits, planes, first, n, allowed, out):  # type: ignore[no-untyped-def]
    """Write sum_j 2^j popc(row ^ plane_j) of the rows first..first + BLOCK - 1 that count, four to a word, to out."""
    width = len(planes[0])
    for group in range(min(_BLOCK, n - first) // 4):
        row = first + 4 * group
        mine = allowed[row // 64] >> np.uint64(row % 64)
        if mine & np.uint64(15):
            out[group] = differences4(bits, row * width, planes)
    rest = (n - first) % 4
    if n - first < _BLOCK and rest:
        last = np.zeros(4 * width, bits.dtype)
        last[: rest * width] = bits[(n - rest) * width :]
        out[(n - first) // 4] = differences4(last, 0, planes)


@njit(cache=True, nogil=True)
def bit_scores(bits, scales, planes, peak, allowed, n, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows first..stop-1, keys and how many reach `floor`: the `limit` best by f32(dot) * f32(scale) >= floor.

    bits: n rows of words (uint64, or uint32 where a row is no whole number of them); scales: (n,) float16 seen as
    uint16; planes: 4 tuples of a row's words; peak: 15 P, so that dot = peak - 2 sum_j 2^j popc(b ^ p_j): the weights
    2u - 15 are sum_j 2^j (2 u_j - 1), and P - 2 popc(b ^ p_j) is the product of two vectors of signs.
    """
    capacity = min(stop - first, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.float32)
    sums = np.zeros(_BLOCK // 4, np.uint64)
    narrow = sums.view(np.uint16)
    scores = np.zeros(_BLOCK, np.float32)
    count, total = 0, 0
    for block in range(first, stop, _BLOCK):
        _block_differences(bits, planes, block, n, allowed, sums)
        size = min(_BLOCK, stop - block)
        for i in range(size):
            scores[i] = np.float32(peak - 2 * np.int32(narrow[i])) * _single(scales[block + i])
        count, reached = _select(scores, (size + 63) // 64, allowed, block, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total


@njit(cache=True, nogil=True)
def _single(half):  # type: ignore[no-untyped-def]
    """Return a finite float16, given as uint16, as float32: move its bits in place and scale by 2^112; exact."""
    wide = np.uint32(half)
    moved = np.uint32(((wide & np.uint32(0x7FFF)) << np.uint32(13)) | ((wide & np.uint32(0x8000)) << np.uint32(16)))
    return moved.view(np.float32) * np.float32(5.192296858534828e33)


@njit(cache=True, nogil=True)
def code_scores(codes, weights, allowed, d, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows of tiles first..stop-1, keys and total like `bit_scores`: exact dots as float32. weights: int8."""
    capacity = min((stop - first) * _TILE, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.float32)
    dots = np.empty(_BLOCK, np.int32)
    scores = np.empty(_BLOCK, np.float32)
    count, total = 0, 0
    for block in range(first * _TILE, stop * _TILE, _BLOCK):
        base = block // _TILE * d * _TILE + block % _TILE
        dots[:] = 0
        for f in range(d):
            column = codes[base + f * _TILE : base + f * _TILE + _BLOCK]
            for i in range(_BLOCK):
                dots[i] += np.int32(np.int16(np.int16(column[i]) * np.int16(weights[f])))
        for i in range(_BLOCK):
            scores[i] = np.float32(dots[i])
        count, reached = _select(scores, _BLOCK // 64, allowed, block, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total


@njit(cache=True, nogil=True)
def zone_bounds(zones, allowed, d, first, stop, query, out):  # type: ignore[no-untyped-def]
    """Write to out, (zones,) int32, minus the least squared L2 a row of each zone of tiles first..stop-1 can have.

    A zone without a row that counts gets the smallest int32.
    """
    for tile in range(first, stop):
        own = out[tile * _ZONES : (tile + 1) * _ZONES]
        own[:] = 0
        for f in range(d):
            at = (tile * 2 * d + f) * _ZONES
            smallest, largest = zones[at : at + _ZONES], zones[at + d * _ZONES : at + (d + 1) * _ZONES]
            value = np.int32(query[f])
            for zone in range(_ZONES):
                away = max(np.int32(smallest[zone]) - value, value - np.int32(largest[zone]), np.int32(0))
                own[zone] -= away * away
        live = _live_zones(allowed, tile)
        for zone in range(_ZONES):
            if not (live >> np.uint64(zone)) & np.uint64(1):
                own[zone] = np.int32(-2147483648)


@njit(cache=True, nogil=True)
def near_rows(codes, allowed, d, chosen, bounds, query, limit, border, ids):  # type: ignore[no-untyped-def]
    """Return the `limit` rows of the chosen zones nearest to query, (d,) uint8, and minus their squared L2, int32.

    chosen: (m,) zone numbers of the segment; bounds: from zone_bounds, those beyond the border are skipped.
    """
    capacity = min(len(chosen) * _ZONE, 2 * limit + _SPARE) + _ZONE
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    away = np.empty(_ZONE, np.int32)
    count = 0
    for zone in chosen:
        if bounds[zone] < border[0]:
            continue
        base = zone // _ZONES * d * _TILE + zone % _ZONES * _ZONE
        away[:] = 0
        for f in range(d):
            column = codes[base + f * _TILE : base + f * _TILE + _ZONE]
            value = np.int16(query[f])
            for i in range(_ZONE):
                step = np.int16(np.int16(column[i]) - value)
                away[i] -= np.int32(np.uint16(np.int16(step * step)))
        for w in range(2):
            word = reach64(away, w * 64, border[0]) & allowed[zone * 2 + w]
            count = _take(word, zone * _ZONE + w * 64, away, w * 64, rows, keys, count)
        if count + _ZONE > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy()


@njit(cache=True, nogil=True, fastmath=True)
def _centred_row(row, mean, query):  # type: ignore[no-untyped-def]
    """Return <x - mean, query> and |x - mean|^2 of one row, (D,) float16 seen as uint16; sums in float32."""
    dot, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        x = _single(row[j]) - mean[j]
        dot += x * query[j]
        square += x * x
    return dot, square


@njit(cache=True, nogil=True)
def embedding_scores(embeddings, mean, query, cosine, allowed, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows first..stop-1, keys and total like `bit_scores`: <x - mean, query>, over |x - mean| if `cosine`.

    embeddings: (n * D) float16 seen as uint16; mean, query: (D,) float32.
    """
    capacity = min(stop - first, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.float32)
    scores = np.zeros(_BLOCK, np.float32)
    count, total = 0, 0
    for block in range(first, stop, _BLOCK):
        size = min(_BLOCK, stop - block)
        for i in range(size):
            row = block + i
            if (allowed[row // 64] >> np.uint64(row % 64)) & np.uint64(1):
                dot, square = _centred_row(embeddings[row * len(query) : (row + 1) * len(query)], mean, query)
                scores[i] = dot / max(np.sqrt(square), np.float32(1e-12)) if cosine else dot
        count, reached = _select(scores, (size + 63) // 64, allowed, block, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total
