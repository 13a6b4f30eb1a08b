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
from numpy.typing import NDArray

from gpubranches.backends.cpu_vectors import (
    at_least32,
    at_most32,
    count64,
    differences4,
    fetch,
    inside64,
    lowest_bit,
    popcount,
    reach64,
    zone_dots,
    zone_squares,
)

_TILE = 4096
_ZONE = 128
_ZONES = 32
_WORDS = _TILE // 64
_BLOCK = 512
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPARE = 4096
_LOW31 = np.int32(0x7FFFFFFF)

# What only kernels call is compiled into them, without the entry points from Python and C that cost as much again.
_kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)
_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
_fast_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath=True)


@_inner
def _key(number):  # type: ignore[no-untyped-def]
    """Return a float32 as int32 in the same order; -0 equals 0. Its twin is `float_keys`."""
    bits = np.float32(number + np.float32(0)).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & _LOW31)


def float_keys(numbers: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return float32 numbers as the int32 keys of the kernels, which have the same order."""
    bits = (numbers + np.float32(0)).view(np.int32)
    return bits ^ ((bits >> 31) & _LOW31)


def key_floats(keys: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the numbers of int32 keys."""
    return (keys ^ ((keys >> 31) & _LOW31)).view(np.float32)


@_inner
def _splitmix(number):  # type: ignore[no-untyped-def]
    """Return splitmix64 of an id, uint64, as gpubranches.arrays.splitmix64."""
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_inner
def _mixed(number):  # type: ignore[no-untyped-def]
    """Return splitmix64 of an id shifted into int64, in the same order."""
    return np.int64(_splitmix(number) ^ np.uint64(0x8000000000000000))


@_inner
def _nth(values, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of values, (m,) int64, which are moved about. Source: Hoare, Find (CACM 1961)."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@_inner
def _cut(rows, keys, count, limit, ids, border):  # type: ignore[no-untyped-def]
    """Keep in place the `limit` best of `count` > limit rows, and raise the border to the worst of them."""
    values = np.empty(count, np.int64)
    for i in range(count):
        values[i] = keys[i]
    worst = _nth(values, count - limit)
    above, tied = 0, 0
    for i in range(count):
        above += keys[i] > worst
        if keys[i] == worst:
            values[tied] = _mixed(ids[rows[i]])
            tied += 1
    last = _nth(values[:tied], limit - above - 1)
    kept = 0
    for i in range(count):
        if keys[i] > worst or (keys[i] == worst and _mixed(ids[rows[i]]) <= last):
            rows[kept], keys[kept] = rows[i], keys[i]
            kept += 1
    border[0] = max(border[0], worst)
    return kept


@_inner
def _take(word, first, values, at, rows, keys, count):  # type: ignore[no-untyped-def]
    """Append the rows of a word, row i of it being first + i with the key values[at + i]; return the new count."""
    while word != np.uint64(0):
        i = np.int64(lowest_bit(word))
        rows[count] = first + i
        keys[count] = values[at + i]
        count += 1
        word &= word - np.uint64(1)
    return count


@_inner
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


@_inner
def _plan(zones, allowed, tile, d, offsets, features, low, high, plan, needed):  # type: ignore[no-untyped-def]
    """Write the zones each box reads and those it holds whole to plan, (b, 2) uint64, by dim to needed, (d,) uint64."""
    live = _live_zones(allowed, tile)
    needed[:] = 0
    for box in range(len(plan)):
        start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
        touched, full = _box_zones(zones, tile * 2 * d * _ZONES, d, start, stop, features, low, high, live)
        plan[box, 0], plan[box, 1] = touched & ~full, full
        for j in range(start, stop):
            needed[features[j]] |= plan[box, 0]


@_inner
def _fetch_dims(codes, base, needed, first, stop):  # type: ignore[no-untyped-def]
    """Ask for the zones of dims first..stop-1 that are needed of the tile at `base`."""
    for f in range(first, stop):
        word = needed[f]
        while word != np.uint64(0):
            at = base + f * _TILE + np.int64(lowest_bit(word)) * _ZONE
            word &= word - np.uint64(1)
            fetch(codes, at)
            fetch(codes, at + 64)


@_inner
def _box_rows(codes, base, start, stop, features, low, high, part, listed, words, hit):  # type: ignore[no-untyped-def]
    """Add to hit the rows that lie in the box, in the zones of `part`; return the zones that have some.

    One dim after the other over the zones that still have rows: no branch depends on the codes. words: scratch,
    (64,) uint64; listed: scratch, (33,) int64.
    """
    count = np.int64(0)
    while part != np.uint64(0):
        zone = np.int64(lowest_bit(part))
        part &= part - np.uint64(1)
        words[2 * zone], words[2 * zone + 1] = _ALL, _ALL
        listed[count] = zone
        count += 1
    for j in range(start, stop):
        column = base + np.int64(features[j]) * _TILE
        lowest, span = low[j], np.uint8(high[j] - low[j])
        kept = np.int64(0)
        for i in range(count):
            zone = listed[i]
            first = words[2 * zone] & inside64(codes, column + zone * _ZONE, lowest, span)
            second = words[2 * zone + 1] & inside64(codes, column + zone * _ZONE + 64, lowest, span)
            words[2 * zone], words[2 * zone + 1] = first, second
            listed[kept] = zone
            kept += np.int64((first | second) != np.uint64(0))
        count = kept
    some = np.uint64(0)
    for i in range(count):
        zone = listed[i]
        hit[2 * zone] |= words[2 * zone]
        hit[2 * zone + 1] |= words[2 * zone + 1]
        some |= np.uint64(1) << np.uint64(zone)
    return some


@_inner
def _tile_votes(codes, base, plan, owners, offsets, features, low, high, needed, scratch, counts):  # type: ignore[no-untyped-def]
    """Count the votes of one tile into counts, (TILE,) uint16, and ask for what the next tile needs on the way.

    base: the tile's first byte; plan: from `_plan`; needed: of the next tile, zeros if there is none.
    """
    listed, words, hit = scratch
    counts[:] = 0
    d, estimators = len(needed), len(owners) - 1
    for e in range(estimators):
        _fetch_dims(codes, base + d * _TILE, needed, e * d // estimators, (e + 1) * d // estimators)
        some, done = np.uint64(0), np.uint64(0)
        for box in range(owners[e], owners[e + 1]):
            done |= plan[box, 1]
        hit[:] = 0
        for box in range(owners[e], owners[e + 1]):
            part = plan[box, 0] & ~done
            if part != np.uint64(0):
                start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
                some |= _box_rows(codes, base, start, stop, features, low, high, part, listed, words, hit)
        some |= done
        while some != np.uint64(0):
            zone = np.int64(lowest_bit(some))
            some &= some - np.uint64(1)
            whole = _ALL if (done >> np.uint64(zone)) & np.uint64(1) else np.uint64(0)
            count64(counts, zone * _ZONE, hit[2 * zone] | whole)
            count64(counts, zone * _ZONE + 64, hit[2 * zone + 1] | whole)


@_inner
def _live_zones(allowed, tile):  # type: ignore[no-untyped-def]
    """Return a word over the 32 zones of a tile: those with a row that counts."""
    live = np.uint64(0)
    for zone in range(_ZONES):
        at = tile * _WORDS + 2 * zone
        if (allowed[at] | allowed[at + 1]) != np.uint64(0):
            live |= np.uint64(1) << np.uint64(zone)
    return live


@_kernel
def votes(codes, zones, allowed, d, first, stop, owners, offsets, features, low, high, least, ids, shift):  # type: ignore[no-untyped-def]
    """Return splitmix64 of the ids with `least` votes or more in tiles first..stop-1, their buckets, and bucket sizes.

    owners: (e + 1,) int64, estimator i owns boxes owners[i]:owners[i + 1], in the CSR form of Boxes. Buckets are in the
    order of answers: by votes from e down to 0, then by the highest 64 - shift bits of splitmix64(id). While one tile
    is read, the bytes the next one needs are on their way: memory is read by zones, which no hardware foresees.
    """
    counts = np.empty(_TILE, np.uint16)
    scratch = np.empty(_ZONES + 1, np.int64), np.empty(_WORDS, np.uint64), np.empty(_WORDS, np.uint64)
    plans = np.empty((2, len(offsets) - 1, 2), np.uint64)
    needed = np.empty(d, np.uint64)
    mixed = np.empty((stop - first) * _TILE, np.uint64)
    buckets = np.empty((stop - first) * _TILE, np.int32)
    each = 1 << (64 - shift)
    sizes = np.zeros(len(owners) * each, np.int64)
    _plan(zones, allowed, first, d, offsets, features, low, high, plans[first % 2], needed)
    count = 0
    for tile in range(first, stop):
        if tile + 1 < stop:
            following = plans[(tile + 1) % 2]
            _plan(zones, allowed, tile + 1, d, offsets, features, low, high, following, needed)
        else:
            needed[:] = 0
        own = plans[tile % 2]
        _tile_votes(codes, tile * d * _TILE, own, owners, offsets, features, low, high, needed, scratch, counts)
        for w in range(_WORDS):
            word = reach64(counts, w * 64, least) & allowed[tile * _WORDS + w]
            while word != np.uint64(0):
                at = w * 64 + np.int64(lowest_bit(word))
                word &= word - np.uint64(1)
                mixed[count] = _splitmix(ids[tile * _TILE + at])
                bucket = (len(owners) - 1 - np.int64(counts[at])) * each + np.int64(mixed[count] >> np.uint64(shift))
                buckets[count] = bucket
                sizes[bucket] += 1
                count += 1
    return mixed[:count].copy(), buckets[:count].copy(), sizes


@_kernel
def scatter(mixed, buckets, places, out):  # type: ignore[no-untyped-def]
    """Write each of mixed, (m,) uint64, to the next place of its bucket in out; places, (buckets,) int64, advance.

    Buckets that would begin behind the end of out are left out.
    """
    for i in range(len(mixed)):
        place = places[buckets[i]]
        if place < len(out):
            out[place] = mixed[i]
            places[buckets[i]] = place + 1


@_kernel
def unmixed(mixed, out):  # type: ignore[no-untyped-def]
    """Write to out, (m,) int64, the ids whose splitmix64 is mixed, (m,) uint64: the steps of splitmix64 undone."""
    for i in range(len(mixed)):
        z = mixed[i]
        z = (z ^ (z >> np.uint64(31)) ^ (z >> np.uint64(62))) * np.uint64(0x319642B2D24D8EC3)
        z = (z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))) * np.uint64(0x96DE1B173F119089)
        z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
        out[i] = np.int64(z - np.uint64(0x9E3779B97F4A7C15))


@_inner
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


@_inner
def _block_differences(bits, planes, first, n, allowed, out):  # type: ignore[no-untyped-def]
    """Write sum_j 2^j popc(row ^ plane_j) of the rows first..first + BLOCK - 1 that count to out, (BLOCK / 4,) uint64.

    Four rows to a word, the first lowest; the last n % 4 one by one, for there may be no memory behind them.
    """
    width = len(planes[0])
    for group in range(min(_BLOCK, n - first) // 4):
        row = first + 4 * group
        mine = allowed[row // 64] >> np.uint64(row % 64)
        if mine & np.uint64(15):
            out[group] = differences4(bits, row * width, planes)
    if n - first < _BLOCK:
        out[(n - first) // 4] = 0
        for row in range(n - n % 4, n):
            total = np.uint64(0)
            for j in range(4):
                for w in range(width):
                    total += np.uint64(popcount(bits[row * width + w] ^ planes[j][w])) << np.uint64(j)
            out[(row - first) // 4] |= total << np.uint64(16 * (row % 4))


@_kernel
def bit_scores(bits, scales, planes, peak, allowed, n, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows first..stop-1, keys and how many reach `floor`: the `limit` best by f32(dot) * f32(scale) >= floor.

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
        for i in range(size):
            scores[i] = _key(np.float32(peak - 2 * np.int32(narrow[i])) * _single(scales[block + i]))
        count, reached = _select(scores, (size + 63) // 64, allowed, block, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total


@_inner
def _single(half):  # type: ignore[no-untyped-def]
    """Return a finite float16, given as uint16, as float32: move its bits in place and scale by 2^112; exact."""
    wide = np.uint32(half)
    moved = np.uint32(((wide & np.uint32(0x7FFF)) << np.uint32(13)) | ((wide & np.uint32(0x8000)) << np.uint32(16)))
    return moved.view(np.float32) * np.float32(5.192296858534828e33)


@_inner
def _zone_start(zone, d):  # type: ignore[no-untyped-def]
    """Return where the codes of dim 0 of a zone begin."""
    return zone // _ZONES * d * _TILE + zone % _ZONES * _ZONE


@_kernel
def code_scores(codes, weights, allowed, d, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows of tiles first..stop-1, keys and total like `bit_scores`: exact dots as float32. weights: int16."""
    capacity = min((stop - first) * _TILE, 2 * limit + _SPARE) + _BLOCK
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    dots = np.empty(_ZONE, np.int32)
    scores = np.empty(_ZONE, np.int32)
    count, total = 0, 0
    for zone in range(first * _ZONES, stop * _ZONES):
        following = min(zone + 1, stop * _ZONES - 1)
        zone_dots(codes, _zone_start(zone, d), _zone_start(following, d), _TILE, weights, dots)
        for i in range(_ZONE):
            scores[i] = _key(np.float32(dots[i]))
        count, reached = _select(scores, _ZONE // 64, allowed, zone * _ZONE, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total


@_kernel
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


@_kernel
def near_rows(codes, allowed, d, chosen, bounds, query, limit, border, ids):  # type: ignore[no-untyped-def]
    """Return the `limit` rows of the chosen zones nearest to query, (d,) int16, and minus their squared L2, int32.

    chosen: (m,) zone numbers of the segment; bounds: from zone_bounds, zones beyond the border are skipped.
    """
    capacity = min(len(chosen) * _ZONE, 2 * limit + _SPARE) + _ZONE
    rows = np.empty(capacity, np.int32)
    keys = np.empty(capacity, np.int32)
    away = np.empty(_ZONE, np.int32)
    count = 0
    for index in range(len(chosen)):
        zone = chosen[index]
        if bounds[zone] < border[0]:
            continue
        following = chosen[min(index + 1, len(chosen) - 1)]
        zone_squares(codes, _zone_start(zone, d), _zone_start(following, d), _TILE, query, away)
        for w in range(2):
            word = reach64(away, w * 64, border[0]) & allowed[zone * 2 + w]
            count = _take(word, zone * _ZONE + w * 64, away, w * 64, rows, keys, count)
        if count + _ZONE > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy()


@_fast_inner
def _centred_row(row, mean, query):  # type: ignore[no-untyped-def]
    """Return <x - mean, query> and |x - mean|^2 of one row, (D,) float16 seen as uint16; sums in float32."""
    dot, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        x = _single(row[j]) - mean[j]
        dot += x * query[j]
        square += x * x
    return dot, square


@_kernel
def embedding_scores(embeddings, mean, query, cosine, allowed, first, stop, limit, floor, border, ids):  # type: ignore[no-untyped-def]
    """Return rows first..stop-1, keys and total like `bit_scores`: <x - mean, query>, over |x - mean| if `cosine`.

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
                scores[i] = _key(dot / max(np.sqrt(square), np.float32(1e-12)) if cosine else dot)
        count, reached = _select(scores, (size + 63) // 64, allowed, block, floor, border, rows, keys, count)
        total += reached
        if count + _BLOCK > capacity and count > limit:
            count = _cut(rows, keys, count, limit, ids, border)
    if count > limit:
        count = _cut(rows, keys, count, limit, ids, border)
    return rows[:count].copy(), keys[:count].copy(), total
