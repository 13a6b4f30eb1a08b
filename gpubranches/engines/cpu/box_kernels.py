"""The numba kernel of the boxes: votes of an ensemble over tiles and zones. It computes the same as Boxes.votes.

Arrays are C-contiguous and flat, and read-only if they are mapped: codes (tiles * d * TILE), zones (tiles * 2 * d *
ZONES). `allowed` has one uint64 word for 64 rows, with a bit for each allowed row and none for padding.
"""

from __future__ import annotations

import numpy as np

from gpubranches.catalog import TILE, ZONE, ZONES
from gpubranches.engines.cpu.order import splitmix
from gpubranches.engines.cpu.vectors import (
    at_least32,
    at_most32,
    count64,
    fetch,
    inner,
    inside64,
    kernel,
    lowest_bit,
    popcount,
    reach64,
)

_WORDS = TILE // 64
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inner
def box_zones(zones, base, d, start, stop, features, low, high, live):
    """Return two words over the 32 zones of a tile: zones that may have rows in the box, and zones inside the box."""
    touched = live
    full = live
    for j in range(start, stop):
        smallest = base + np.int64(features[j]) * ZONES
        largest = smallest + d * ZONES
        touched &= at_least32(zones, largest, low[j]) & at_most32(zones, smallest, high[j])
        if touched == np.uint64(0):
            break
        full &= at_least32(zones, smallest, low[j]) & at_most32(zones, largest, high[j])
    return touched, full & touched


@inner
def _plan(zones, allowed, tile, d, offsets, features, low, high, plan, needed):
    """Write to plan, (b, 2) uint64, the zones that each box reads and those entirely in it; to needed the reads by dim.

    needed: (d,) uint64.
    """
    live = live_zones(allowed, tile)
    needed[:] = 0
    for box in range(len(plan)):
        start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
        touched, full = box_zones(zones, tile * 2 * d * ZONES, d, start, stop, features, low, high, live)
        plan[box, 0], plan[box, 1] = touched & ~full, full
        for j in range(start, stop):
            needed[features[j]] |= plan[box, 0]


@inner
def _fetch_dims(codes, base, needed, first, stop):
    """Prefetch the needed zones of dims first..stop-1 of the tile at `base`."""
    for f in range(first, stop):
        word = needed[f]
        while word != np.uint64(0):
            at = base + f * TILE + np.int64(lowest_bit(word)) * ZONE
            word &= word - np.uint64(1)
            fetch(codes, at)
            fetch(codes, at + 64)


@inner
def box_rows(codes, base, start, stop, features, low, high, part, listed, words, hit):
    """Add to hit the rows of the zones `part` that lie in the box; return the zones that have such rows.

    It tests one dim after the other on the zones that still have rows, so no branch depends on the codes. words:
    scratch, (64,) uint64; listed: scratch, (33,) int64.
    """
    count = np.int64(0)
    while part != np.uint64(0):
        zone = np.int64(lowest_bit(part))
        part &= part - np.uint64(1)
        words[2 * zone], words[2 * zone + 1] = _ALL, _ALL
        listed[count] = zone
        count += 1
    for j in range(start, stop):
        column = base + np.int64(features[j]) * TILE
        lowest, span = low[j], np.uint8(high[j] - low[j])
        kept = np.int64(0)
        for i in range(count):
            zone = listed[i]
            first = words[2 * zone] & inside64(codes, column + zone * ZONE, lowest, span)
            second = words[2 * zone + 1] & inside64(codes, column + zone * ZONE + 64, lowest, span)
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


@inner
def _tile_votes(codes, base, plan, owners, offsets, features, low, high, needed, scratch, counts):
    """Count the votes of one tile into counts, (TILE,) uint16, and prefetch the data of the next tile.

    base: the tile's first byte; plan: from `_plan`; needed: of the next tile, zeros if there is none.
    """
    listed, words, hit = scratch
    counts[:] = 0
    d, estimators = len(needed), len(owners) - 1
    for e in range(estimators):
        _fetch_dims(codes, base + d * TILE, needed, e * d // estimators, (e + 1) * d // estimators)
        some, done = np.uint64(0), np.uint64(0)
        for box in range(owners[e], owners[e + 1]):
            done |= plan[box, 1]
        hit[:] = 0
        for box in range(owners[e], owners[e + 1]):
            part = plan[box, 0] & ~done
            if part != np.uint64(0):
                start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
                some |= box_rows(codes, base, start, stop, features, low, high, part, listed, words, hit)
        some |= done
        while some != np.uint64(0):
            zone = np.int64(lowest_bit(some))
            some &= some - np.uint64(1)
            whole = _ALL if (done >> np.uint64(zone)) & np.uint64(1) else np.uint64(0)
            count64(counts, zone * ZONE, hit[2 * zone] | whole)
            count64(counts, zone * ZONE + 64, hit[2 * zone + 1] | whole)


@inner
def live_zones(allowed, tile):
    """Return a word over the 32 zones of a tile, with a bit for each zone with an allowed row."""
    live = np.uint64(0)
    for zone in range(ZONES):
        at = tile * _WORDS + 2 * zone
        if (allowed[at] | allowed[at + 1]) != np.uint64(0):
            live |= np.uint64(1) << np.uint64(zone)
    return live


@kernel
def votes(codes, zones, allowed, d, first, stop, owners, offsets, features, low, high, least, keep, ids, shift):
    """Find the rows with at least `keep` votes in tiles first..stop-1; return tie keys, buckets and bucket sizes.

    Return also how many rows have at least `least` votes; keep >= least. A tie key is splitmix64(id). owners: (e + 1,)
    int64, estimator i owns boxes owners[i]:owners[i + 1], in the CSR form of Boxes. Buckets are in the order of
    answers: by votes from e down to 0, then by the highest 64 - shift bits of the tie key. While one tile is read, the
    bytes of the next one are prefetched: memory is read by zones, a pattern that no hardware predicts.
    """
    counts = np.empty(TILE, np.uint16)
    scratch = np.empty(ZONES + 1, np.int64), np.empty(_WORDS, np.uint64), np.empty(_WORDS, np.uint64)
    plans = np.empty((2, len(offsets) - 1, 2), np.uint64)
    needed = np.empty(d, np.uint64)
    tie_keys = np.empty((stop - first) * TILE, np.uint64)
    buckets = np.empty((stop - first) * TILE, np.int32)
    each = 1 << (64 - shift)
    sizes = np.zeros(len(owners) * each, np.int64)
    _plan(zones, allowed, first, d, offsets, features, low, high, plans[first % 2], needed)
    count, total = 0, np.int64(0)
    for tile in range(first, stop):
        if tile + 1 < stop:
            following = plans[(tile + 1) % 2]
            _plan(zones, allowed, tile + 1, d, offsets, features, low, high, following, needed)
        else:
            needed[:] = 0
        own = plans[tile % 2]
        _tile_votes(codes, tile * d * TILE, own, owners, offsets, features, low, high, needed, scratch, counts)
        for w in range(_WORDS):
            word = reach64(counts, w * 64, least) & allowed[tile * _WORDS + w]
            total += np.int64(popcount(word))
            if keep > least and word != np.uint64(0):
                word &= reach64(counts, w * 64, keep)
            while word != np.uint64(0):
                at = w * 64 + np.int64(lowest_bit(word))
                word &= word - np.uint64(1)
                tie_keys[count] = splitmix(ids[tile * TILE + at])
                bucket = (len(owners) - 1 - np.int64(counts[at])) * each + np.int64(tie_keys[count] >> np.uint64(shift))
                buckets[count] = bucket
                sizes[bucket] += 1
                count += 1
    return tie_keys[:count].copy(), buckets[:count].copy(), sizes, total


@kernel
def held(codes, zones, allowed, d, first, stop, owners, offsets, features, low, high, found):
    """Write to found, a bitmap like `allowed`, which rows of tiles first..stop-1 have a vote."""
    counts = np.empty(TILE, np.uint16)
    scratch = np.empty(ZONES + 1, np.int64), np.empty(_WORDS, np.uint64), np.empty(_WORDS, np.uint64)
    plan = np.empty((len(offsets) - 1, 2), np.uint64)
    needed, none = np.empty(d, np.uint64), np.zeros(d, np.uint64)
    for tile in range(first, stop):
        _plan(zones, allowed, tile, d, offsets, features, low, high, plan, needed)
        _tile_votes(codes, tile * d * TILE, plan, owners, offsets, features, low, high, none, scratch, counts)
        for w in range(_WORDS):
            at = tile * _WORDS + w
            found[at] = reach64(counts, w * 64, np.uint16(1)) & allowed[at]
