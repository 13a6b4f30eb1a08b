"""The numba kernels of scores and distances. Each computes the same as a NumPy definition.

`bit_scores` computes WeightPlanes.scores, `code_scores` CodeWeights.scores, `near_rows` the squared L2 over codes. Each
works on a few tiles of one segment in one thread, without the GIL. `box_kernels` describes the arrays, `order` the
order of answers.
"""

from __future__ import annotations

import numpy as np

from gpubranches.catalog import TILE, ZONE, ZONES
from gpubranches.engines.cpu.box_kernels import live_zones
from gpubranches.engines.cpu.order import append_rows, keep_best, key
from gpubranches.engines.cpu.vectors import (
    differences4,
    fast_inner,
    fetch,
    inner,
    kernel,
    popcount,
    reach64,
    zone_dots,
    zone_squares,
)

_BLOCK = 512
_SPARE = 1024
_AHEAD = 192
"""How many rows ahead the bits are prefetched, because hardware does not prefetch beyond a page."""


@inner
def _select(scores, words, allowed, first, min_key, cutoff, rows, keys, count):
    """Append the rows of a block of scores, (64 * words,), that reach min_key and the cutoff.

    Return the new count and how many rows reach min_key. The block begins at row `first` of the segment, a multiple of
    64.
    """
    reached = np.int64(0)
    lowest = max(min_key, cutoff[0])
    for w in range(words):
        mine = allowed[first // 64 + w]
        if mine == np.uint64(0):
            continue
        word = reach64(scores, w * 64, lowest) & mine
        if lowest > min_key:
            reached += np.int64(popcount(reach64(scores, w * 64, min_key) & mine))
        else:
            reached += np.int64(popcount(word))
        count = append_rows(word, first + w * 64, scores, w * 64, rows, keys, count)
    return count, reached


@inner
def _block_differences(bits, planes, first, n, allowed, out):
    """Write sum_j 2^j popc(row ^ plane_j) of the allowed rows of first..first + BLOCK - 1 to out, (BLOCK / 4,) uint64.

    A word holds four rows, the first in its lowest bits. The last n % 4 rows are computed one by one, because the
    memory may end after them.
    """
    width = len(planes[0])
    for group in range(min(_BLOCK, n - first) // 4):
        row = first + 4 * group
        mine = allowed[row // 64] >> np.uint64(row % 64)
        if mine & np.uint64(15):
            out[group] = differences4(bits, row * width, planes)
            ahead = min((row + _AHEAD) * width, len(bits) - 4 * width)
            for line in range(0, 4 * width, 8):
                fetch(bits, ahead + line)
    if n - first < _BLOCK:
        out[(n - first) // 4] = 0
        for row in range(n - n % 4, n):
            total = np.uint64(0)
            for j in range(4):
                for w in range(width):
                    total += np.uint64(popcount(bits[row * width + w] ^ planes[j][w])) << np.uint64(j)
            out[(row - first) // 4] |= total << np.uint64(16 * (row % 4))


@kernel
def bit_scores(bits, scales, planes, peak, allowed, n, first, stop, limit, min_key, cutoff, ids):
    """Return the `limit` best rows of first..stop-1 by f32(dot) * f32(scale), their keys, and how many reach `min_key`.

    bits: n rows of words (uint64, or uint32 where a row is no whole number of them); scales: (n,) float16 seen as
    uint16; planes: 4 tuples of a row's words; peak: 15 P, so that dot = peak - 2 sum_j 2^j popc(b ^ p_j): the weights
    2u - 15 are sum_j 2^j (2 u_j - 1), and P - 2 popc(b ^ p_j) is the product of two vectors of signs.
    """
    capacity = min(stop - first, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    sums = np.zeros(_BLOCK // 4, np.uint64)
    narrow = sums.view(np.uint16)
    scores = np.zeros(_BLOCK, np.int32)
    count, total = 0, 0
    for block in range(first, stop, _BLOCK):
        _block_differences(bits, planes, block, n, allowed, sums)
        size = min(_BLOCK, stop - block)
        own = scales[block : block + size]  # LLVM vectorises a loop that begins at 0
        for i in range(size):
            scores[i] = key(np.float32(peak - np.int32(2) * np.int32(narrow[i])) * _single(own[i]))
        count, reached = _select(scores, (size + 63) // 64, allowed, block, min_key, cutoff, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = keep_best(rows, keys, count, limit, ids, cutoff)
    if count > limit:
        count = keep_best(rows, keys, count, limit, ids, cutoff)
    return rows[:count].copy(), keys[:count].copy(), total


@inner
def _single(half):
    """Return a finite float16, given as uint16, as float32. Moving its bits and scaling by 2^112 is exact."""
    wide = np.uint32(half)
    moved = np.uint32(((wide & np.uint32(0x7FFF)) << np.uint32(13)) | ((wide & np.uint32(0x8000)) << np.uint32(16)))
    return moved.view(np.float32) * np.float32(5.192296858534828e33)


@inner
def _zone_start(zone, d):
    """Return the offset at which the codes of dim 0 of a zone begin."""
    return zone // ZONES * d * TILE + zone % ZONES * ZONE


@kernel
def code_scores(codes, weights, allowed, d, first, stop, limit, min_key, cutoff, ids):
    """Return rows, keys and total of tiles first..stop-1 as `bit_scores` does, by exact dots as float32.

    weights: (d,) int16.
    """
    capacity = min((stop - first) * TILE, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    dots = np.empty(ZONE, np.int32)
    scores = np.empty(ZONE, np.int32)
    count, total = 0, 0
    for zone in range(first * ZONES, stop * ZONES):
        following = min(zone + 1, stop * ZONES - 1)
        zone_dots(codes, _zone_start(zone, d), _zone_start(following, d), TILE, weights, dots)
        for i in range(ZONE):
            scores[i] = key(np.float32(dots[i]))
        count, reached = _select(scores, ZONE // 64, allowed, zone * ZONE, min_key, cutoff, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = keep_best(rows, keys, count, limit, ids, cutoff)
    if count > limit:
        count = keep_best(rows, keys, count, limit, ids, cutoff)
    return rows[:count].copy(), keys[:count].copy(), total


@kernel
def zone_bounds(zones, allowed, d, first, stop, query, out):
    """Write to out, (zones,) int32, minus the least squared L2 that a row of each zone of tiles first..stop-1 can have.

    A zone without an allowed row gets the smallest int32.
    """
    for tile in range(first, stop):
        own = out[tile * ZONES : (tile + 1) * ZONES]
        own[:] = 0
        for f in range(d):
            at = (tile * 2 * d + f) * ZONES
            smallest, largest = zones[at : at + ZONES], zones[at + d * ZONES : at + (d + 1) * ZONES]
            value = np.int32(query[f])
            for zone in range(ZONES):
                away = max(np.int32(smallest[zone]) - value, value - np.int32(largest[zone]), np.int32(0))
                own[zone] -= away * away
        live = live_zones(allowed, tile)
        for zone in range(ZONES):
            if not (live >> np.uint64(zone)) & np.uint64(1):
                own[zone] = np.int32(-2147483648)


@kernel
def near_rows(codes, allowed, d, chosen, bounds, queries, limit, cutoffs, ids):
    """Return the `limit` rows of the chosen zones nearest to each query, minus their squared L2, and their number.

    chosen: (m,) zone numbers of the segment; bounds: (q, zones), a line for each query, from zone_bounds; queries: (q,
    d) int16; cutoffs: (q,) int32. Zones whose bound is below the cutoff are skipped. A zone is read from memory once
    for all queries. Returns rows and keys, (q, capacity) int32, and counts, (q,) int64.
    """
    capacity = min(len(chosen) * ZONE, 2 * limit + _SPARE) + ZONE
    rows = np.empty((len(queries), capacity), np.int32)
    keys = np.empty((len(queries), capacity), np.int32)
    counts = np.zeros(len(queries), np.int64)
    away = np.empty(ZONE, np.int32)
    for index in range(len(chosen)):
        zone = chosen[index]
        following = chosen[min(index + 1, len(chosen) - 1)]
        for q in range(len(queries)):
            cutoff, count = cutoffs[q : q + 1], counts[q]
            if bounds[q, zone] < cutoff[0]:
                continue
            zone_squares(codes, _zone_start(zone, d), _zone_start(following, d), TILE, queries[q], away)
            for w in range(2):
                word = reach64(away, w * 64, cutoff[0]) & allowed[zone * 2 + w]
                count = append_rows(word, zone * ZONE + w * 64, away, w * 64, rows[q], keys[q], count)
            if count + ZONE > capacity and count > limit:
                count = keep_best(rows[q], keys[q], count, limit, ids, cutoff)
            counts[q] = count
    for q in range(len(queries)):
        if counts[q] > limit:
            counts[q] = keep_best(rows[q], keys[q], counts[q], limit, ids, cutoffs[q : q + 1])
    return rows, keys, counts


@fast_inner
def _centred_row(row, mean, query):
    """Return <x - mean, query> and |x - mean|^2 of one row, (D,) float16 seen as uint16; sums in float32."""
    dot, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        x = _single(row[j]) - mean[j]
        dot += x * query[j]
        square += x * x
    return dot, square


@kernel
def embedding_scores(embeddings, mean, query, cosine, allowed, first, stop, limit, min_key, cutoff, ids):
    """Return rows, keys and total as `bit_scores` does, by <x - mean, query>, divided by |x - mean| if `cosine`.

    embeddings: (n * D) float16 seen as uint16; mean, query: (D,) float32.
    """
    capacity = min(stop - first, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    scores = np.zeros(_BLOCK, np.int32)
    count, total = 0, 0
    for block in range(first, stop, _BLOCK):
        size = min(_BLOCK, stop - block)
        for i in range(size):
            row = block + i
            if (allowed[row // 64] >> np.uint64(row % 64)) & np.uint64(1):
                dot, square = _centred_row(embeddings[row * len(query) : (row + 1) * len(query)], mean, query)
                scores[i] = key(dot / max(np.sqrt(square), np.float32(1e-12)) if cosine else dot)
        count, reached = _select(scores, (size + 63) // 64, allowed, block, min_key, cutoff, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = keep_best(rows, keys, count, limit, ids, cutoff)
    if count > limit:
        count = keep_best(rows, keys, count, limit, ids, cutoff)
    return rows[:count].copy(), keys[:count].copy(), total
