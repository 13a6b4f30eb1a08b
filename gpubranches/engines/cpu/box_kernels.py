"""The numba kernel of the boxes: votes of an ensemble over tiles and zones. It computes the same as Boxes.votes.

Arrays are C-contiguous and flat, and read-only if they are mapped: codes (tiles * d * TILE), zones (tiles * 2 * d *
ZONES). `allowed` has one uint64 word for 64 rows, with a bit for each allowed row and none for padding.
"""

from __future__ import annotations

import numpy as np

from gpubranches.catalog import TILE, ZONE, ZONES
from gpubranches.engines.cpu.order import splitmix
from gpubranches.engines.cpu.vectors import (
    box_rows128,
    box_zones32,
    count64,
    fetch,
    inner,
    kernel,
    lowest_bit,
    popcount,
    reach64,
)

_WORDS = TILE // 64
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inner
def _plan(zones, allowed, tile, d, offsets, features, low, high, plan, needed, ahead):
    """Write to plan, (b, 2) uint64, the zones that each box reads and those entirely in it.

    Write to ahead, (d * ZONES,) int64, where the zones that some box reads begin, from the tile's first byte. Return
    their number, and how many zones the boxes read, each counted for each box. needed: scratch, (d,) uint64.
    """
    live = live_zones(allowed, tile)
    needed[:] = 0
    reads, count = np.int64(0), np.int64(0)
    for box in range(len(plan)):
        start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
        touched, full = box_zones32(zones, tile * 2 * d * ZONES, d, features, low, high, start, stop)
        part = touched & ~full & live
        plan[box, 0], plan[box, 1] = part, full & live
        reads += np.int64(popcount(part))
        for j in range(start, stop):
            needed[features[j]] |= part
    for f in range(d):
        word = needed[f]
        while word != np.uint64(0):
            ahead[count] = f * TILE + np.int64(lowest_bit(word)) * ZONE
            word &= word - np.uint64(1)
            count += 1
    return count, reads


@inner
def box_rows(codes, base, start, stop, features, low, high, part, hit):
    """Add to hit, (64,) uint64, the rows of the zones `part` that lie in the box; return the zones with such rows."""
    some = np.uint64(0)
    while part != np.uint64(0):
        zone = np.int64(lowest_bit(part))
        part &= part - np.uint64(1)
        first, second = box_rows128(codes, base + zone * ZONE, TILE, features, low, high, start, stop)
        hit[2 * zone] |= first
        hit[2 * zone + 1] |= second
        some |= np.uint64((first | second) != np.uint64(0)) << np.uint64(zone)
    return some


@inner
def _fetch_zones(codes, base, ahead, first, stop):
    """Prefetch the zones that begin at ahead[first:stop], counted from base."""
    for i in range(first, stop):
        fetch(codes, base + ahead[i])
        fetch(codes, base + ahead[i] + 64)


@inner
def _tile_votes(codes, base, d, plan, reads, owners, offsets, features, low, high, ahead, count, hit, counts):
    """Count the votes of one tile into counts, (TILE,) uint16, and prefetch `count` zones of the next tile.

    base: the tile's first byte; plan, reads: of this tile, ahead, count: of the next, from `_plan`; hit: scratch.
    A processor waits if it has too many cache lines to prefetch at once, so each read of a zone prefetches a share of
    them.
    """
    counts[:] = 0
    following, fetched = base + d * TILE, np.int64(0)
    share = count // max(reads, 1)
    for e in range(len(owners) - 1):
        some, done = np.uint64(0), np.uint64(0)
        for box in range(owners[e], owners[e + 1]):
            done |= plan[box, 1]
        hit[:] = 0
        for box in range(owners[e], owners[e + 1]):
            start, stop = np.int64(offsets[box]), np.int64(offsets[box + 1])
            part = plan[box, 0] & ~done
            while part != np.uint64(0):
                _fetch_zones(codes, following, ahead, fetched, fetched + share)
                fetched += share
                zone = part & (~part + np.uint64(1))
                some |= box_rows(codes, base, start, stop, features, low, high, zone, hit)
                part ^= zone
        some |= done
        while some != np.uint64(0):
            zone = np.int64(lowest_bit(some))
            some &= some - np.uint64(1)
            whole = _ALL if (done >> np.uint64(zone)) & np.uint64(1) else np.uint64(0)
            count64(counts, zone * ZONE, hit[2 * zone] | whole)
            count64(counts, zone * ZONE + 64, hit[2 * zone + 1] | whole)
    _fetch_zones(codes, following, ahead, fetched, count)


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
    counts, hit = np.empty(TILE, np.uint16), np.empty(_WORDS, np.uint64)
    plans = np.empty((2, len(offsets) - 1, 2), np.uint64)
    needed, ahead = np.empty(d, np.uint64), np.empty(d * ZONES, np.int64)
    tie_keys = np.empty((stop - first) * TILE, np.uint64)
    buckets = np.empty((stop - first) * TILE, np.int32)
    each = 1 << (64 - shift)
    sizes = np.zeros(len(owners) * each, np.int64)
    found, total = 0, np.int64(0)
    _, reads = _plan(zones, allowed, first, d, offsets, features, low, high, plans[first % 2], needed, ahead)
    for tile in range(first, stop):
        own, own_reads, count = plans[tile % 2], reads, np.int64(0)
        if tile + 1 < stop:
            following = plans[(tile + 1) % 2]
            count, reads = _plan(zones, allowed, tile + 1, d, offsets, features, low, high, following, needed, ahead)
        base = tile * d * TILE
        _tile_votes(codes, base, d, own, own_reads, owners, offsets, features, low, high, ahead, count, hit, counts)
        for w in range(_WORDS):
            word = reach64(counts, w * 64, least) & allowed[tile * _WORDS + w]
            total += np.int64(popcount(word))
            if keep > least and word != np.uint64(0):
                word &= reach64(counts, w * 64, keep)
            while word != np.uint64(0):
                at = w * 64 + np.int64(lowest_bit(word))
                word &= word - np.uint64(1)
                tie_key = splitmix(ids[tile * TILE + at])
                bucket = (len(owners) - 1 - np.int64(counts[at])) * each + np.int64(tie_key >> np.uint64(shift))
                tie_keys[found], buckets[found] = tie_key, bucket
                sizes[bucket] += 1
                found += 1
    return tie_keys[:found].copy(), buckets[:found].copy(), sizes, total


@kernel
def held(codes, zones, allowed, d, first, stop, owners, offsets, features, low, high, found):
    """Write to found, a bitmap like `allowed`, which rows of tiles first..stop-1 have a vote."""
    counts, hit = np.empty(TILE, np.uint16), np.empty(_WORDS, np.uint64)
    plan = np.empty((len(offsets) - 1, 2), np.uint64)
    needed, ahead = np.empty(d, np.uint64), np.empty(d * ZONES, np.int64)
    for tile in range(first, stop):
        _plan(zones, allowed, tile, d, offsets, features, low, high, plan, needed, ahead)
        _tile_votes(codes, tile * d * TILE, d, plan, 0, owners, offsets, features, low, high, ahead, 0, hit, counts)
        for w in range(_WORDS):
            at = tile * _WORDS + w
            found[at] = reach64(counts, w * 64, np.uint16(1)) & allowed[at]
