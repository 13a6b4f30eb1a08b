"""The numba kernels that query a k-d tree: find the leaves of a box, set their rows in a bitmap, add bitmaps to votes.

A bitmap has one uint64 word for 64 positions. The rows of a tree have any positions, so found rows are set in a bitmap
that is read in the order of positions. The union of an estimator's boxes, deleted rows and filters are then operations
on words. Votes are bit-sliced: bit j of counter i of word w is bit i of planes[w * p + j]. `files.Tree` describes the
other arrays.
"""

from __future__ import annotations

import numpy as np

from gpubranches.catalog import TILE, ZONE, ZONES
from gpubranches.engines.cpu.box_kernels import box_rows
from gpubranches.engines.cpu.order import splitmix
from gpubranches.engines.cpu.vectors import (
    at_least32,
    at_most32,
    box_zones32,
    fetch,
    inner,
    inside64,
    kernel,
    lowest_bit,
    popcount,
)
from gpubranches.engines.kdtree.files import LANES, LEAF

_WORDS = TILE // 64
_AHEAD = 16
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_NONE = np.uint64(0)


@inner
def _reach(bounds, at, bound):
    return at_least32(bounds, at, bound) | (at_least32(bounds, at + 32, bound) << np.uint64(32))


@inner
def _stay(bounds, at, bound):
    return at_most32(bounds, at, bound) | (at_most32(bounds, at + 32, bound) << np.uint64(32))


@inner
def _survey(bounds, n, f, places, low, high, first, stop, plan):
    """Write to plan, (2, groups), the leaves that a box cuts and those entirely in it; return the rows of both.

    The box has the entries first..stop-1.
    """
    leaves = (n + LEAF - 1) // LEAF
    padded = (leaves + LANES - 1) // LANES * LANES
    cut_rows, whole_rows = np.int64(0), np.int64(0)
    for group in range(padded // LANES):
        live = _ALL
        if (group + 1) * LANES > leaves:
            live = (_ONE << np.uint64(leaves - group * LANES)) - _ONE
        touched, whole = live, live
        for j in range(first, stop):
            if places[j] < 0:
                continue
            least = places[j] * padded + group * LANES
            most = least + f * padded
            touched &= _reach(bounds, most, low[j]) & _stay(bounds, least, high[j])
            if touched == _NONE:
                break
            whole &= _reach(bounds, least, low[j]) & _stay(bounds, most, high[j])
        whole &= touched
        plan[0, group], plan[1, group] = touched & ~whole, whole
        cut_rows += np.int64(popcount(touched & ~whole)) * LEAF
        whole_rows += np.int64(popcount(whole)) * LEAF
    if leaves and n % LEAF:
        last = np.uint64((leaves - 1) % LANES)
        cut_rows -= np.int64((plan[0, (leaves - 1) // LANES] >> last) & _ONE) * (LEAF - n % LEAF)
        whole_rows -= np.int64((plan[1, (leaves - 1) // LANES] >> last) & _ONE) * (LEAF - n % LEAF)
    return cut_rows, whole_rows


@kernel
def survey(bounds, starts, subsets, sizes, n, numbers, offsets, features, low, high, places, plans, rows):
    """Find the leaves of all boxes by the bounds of their trees.

    bounds: of all trees, flat; starts: (t,), where the bounds of each tree begin; subsets: (t, 8), its dims; sizes:
    (t,), their number; numbers: (b,), the tree of each box, -1 for none; offsets, features, low, high: the boxes in CSR
    form. Written: places, int64, for each entry the index of its dim in the tree, -1 if the tree lacks it; plans, (b,
    2, groups) uint64, the leaves that the box cuts and those it holds whole; rows, (b, 2) int64, their rows.
    """
    for box in range(len(numbers)):
        tree = numbers[box]
        for j in range(offsets[box], offsets[box + 1]):
            places[j] = -1
            if tree >= 0:
                for i in range(sizes[tree]):
                    if subsets[tree, i] == features[j]:
                        places[j] = i
        if tree >= 0:
            own = bounds[starts[tree] :]
            found = _survey(own, n, sizes[tree], places, low, high, offsets[box], offsets[box + 1], plans[box])
            rows[box, 0], rows[box, 1] = found


@inner
def _leaf_word(blocks, base, rows, word, columns, low, high):
    """Return which of the 64 rows from 64 * word on lie in the box, of the leaf at `base` with `rows` rows."""
    left = rows - 64 * word
    if left <= 0:
        return _NONE
    found = _ALL if left >= 64 else (_ONE << np.uint64(left)) - _ONE
    for j in range(len(columns)):
        found &= inside64(blocks, base + columns[j] * LEAF + 64 * word, low[j], np.uint8(high[j] - low[j]))
        if found == _NONE:
            break
    return found


@kernel
def mark(blocks, positions, n, f, columns, low, high, plan, first, stop, bitmap):
    """Set the bits of the rows in the box, in the leaves of groups first..stop-1 of a plan by `survey`.

    Returns False if a position lies outside the bitmap: then the tree is damaged.
    """
    size = len(bitmap)
    for group in range(first, stop):
        word = plan[1, group]
        while word != _NONE:
            leaf = group * LANES + np.int64(lowest_bit(word))
            word &= word - _ONE
            at = (leaf * (f + 4) + f) * (LEAF // 4)
            for i in range(at, at + min(LEAF, n - leaf * LEAF)):
                place = np.int64(positions[i] >> np.uint32(6))
                if place >= size:
                    return False
                bitmap[place] |= _ONE << np.uint64(positions[i] & np.uint32(63))
        word = plan[0, group]
        while word != _NONE:
            leaf = group * LANES + np.int64(lowest_bit(word))
            word &= word - _ONE
            if word != _NONE:
                following = (group * LANES + np.int64(lowest_bit(word))) * (f + 4) * LEAF
                for j in range(f + 4):
                    fetch(blocks, following + j * LEAF)
            rows = min(LEAF, n - leaf * LEAF)
            for part in range(LEAF // 64):
                found = _leaf_word(blocks, leaf * (f + 4) * LEAF, rows, part, columns, low, high)
                at = (leaf * (f + 4) + f) * (LEAF // 4) + 64 * part
                while found != _NONE:
                    position = positions[at + np.int64(lowest_bit(found))]
                    found &= found - _ONE
                    place = np.int64(position >> np.uint32(6))
                    if place >= size:
                        return False
                    bitmap[place] |= _ONE << np.uint64(position & np.uint32(63))
    return True


@kernel
def count(blocks, n, f, columns, low, high, plan):
    """Return how many rows of the leaves that a plan cuts lie in the box."""
    found = np.int64(0)
    for group in range(plan.shape[1]):
        word = plan[0, group]
        while word != _NONE:
            leaf = group * LANES + np.int64(lowest_bit(word))
            word &= word - _ONE
            rows = min(LEAF, n - leaf * LEAF)
            for part in range(LEAF // 64):
                own = _leaf_word(blocks, leaf * (f + 4) * LEAF, rows, part, columns, low, high)
                found += np.int64(popcount(own))
    return found


@kernel
def verify(marked, codes, d, features, low, high, bitmap):
    """Move the bits of marked to bitmap if the rows also lie within the limits of further dims; clear marked.

    marked, bitmap: words of one segment; codes: its tiles, flat, which are read in the order of positions.
    """
    for w in range(len(marked)):
        word = marked[w]
        if word == _NONE:
            continue
        marked[w] = _NONE
        base = w // _WORDS * d * TILE + w % _WORDS * 64
        for j in range(len(features)):
            word &= inside64(codes, base + features[j] * TILE, low[j], np.uint8(high[j] - low[j]))
            if word == _NONE:
                break
        bitmap[w] |= word


@kernel
def scan(codes, zones, d, first, stop, features, low, high, bitmap):
    """Set the bits of the rows in the box in tiles first..stop-1 of a segment, without a tree; also of padding."""
    for tile in range(first, stop):
        touched, whole = box_zones32(zones, tile * 2 * d * ZONES, d, features, low, high, 0, len(features))
        hit = bitmap[tile * _WORDS : (tile + 1) * _WORDS]
        box_rows(codes, tile * d * TILE, 0, len(features), features, low, high, touched & ~whole, hit)
        while whole != _NONE:
            zone = np.int64(lowest_bit(whole))
            whole &= whole - _ONE
            for w in range(zone * ZONE // 64, (zone + 1) * ZONE // 64):
                hit[w] = _ALL


@kernel
def fold(bitmap, planes, p):
    """Add an estimator's bitmap to the votes, 64 counters at once by ripple-carry addition, and clear the bitmap."""
    for w in range(len(bitmap)):
        carry = bitmap[w]
        if carry == _NONE:
            continue
        bitmap[w] = _NONE
        for j in range(w * p, w * p + p):
            both = planes[j] & carry
            planes[j] ^= carry
            carry = both
            if carry == _NONE:
                break


@kernel
def join(planes, others, p):
    """Add the votes of others to planes, and clear others. For p = 1 this is the union of two bitmaps."""
    if p == 1:
        for w in range(len(planes)):
            planes[w] |= others[w]
            others[w] = _NONE
        return
    for w in range(0, len(planes), p):
        carry = _NONE
        for j in range(w, w + p):
            a, b = planes[j], others[j]
            planes[j] = a ^ b ^ carry
            carry = (a & b) | (carry & (a ^ b))
            others[j] = _NONE


@kernel
def reach(planes, p, allowed, least, reached):
    """Write to reached, (words,) uint64, the allowed rows with at least `least` votes, 1 or more; return their number.

    64 counters are compared at once, from the lowest bit up.
    """
    for w in range(len(reached)):
        word = planes[w * p]
        for j in range(w * p + 1, w * p + p):
            word |= planes[j]
        reached[w] = word
    if least > 1:
        for w in range(len(reached)):
            if reached[w] == _NONE:
                continue
            word = _ALL
            for j in range(p):
                if (least >> j) & 1:
                    word &= planes[w * p + j]
                else:
                    word |= planes[w * p + j]
            reached[w] = word
    total = np.int64(0)
    for w in range(len(reached)):
        reached[w] &= allowed[w]
        total += np.int64(popcount(reached[w]))
    return total


@kernel
def emit(planes, p, allowed, least, estimators, ids, shift):
    """Return tie keys, buckets and bucket sizes as `box_kernels.votes` does, for some whole tiles of a segment.

    planes, allowed, ids: of these tiles. Rows are listed first, so that their ids can be prefetched.
    """
    each = 1 << (64 - shift)
    sizes = np.zeros((estimators + 1) * each, np.int64)
    reached = np.empty(len(allowed), np.uint64)
    total = reach(planes, p, allowed, least, reached)
    tie_keys = np.empty(total, np.uint64)
    buckets = np.empty(total, np.int32)
    rows = np.empty(total + _AHEAD, np.int32)
    count = 0
    for w in range(len(reached)):
        word = reached[w]
        while word != _NONE:
            i = lowest_bit(word)
            word &= word - _ONE
            votes = np.int64(1)
            if p > 1:
                votes = np.int64(0)
                for j in range(p):
                    votes |= np.int64((planes[w * p + j] >> i) & _ONE) << j
            rows[count] = w * 64 + np.int64(i)
            buckets[count] = (estimators - votes) * each
            count += 1
    rows[total:] = rows[total - 1] if total else 0
    for i in range(total):
        fetch(ids, np.int64(rows[i + _AHEAD]))
        value = splitmix(ids[rows[i]])
        bucket = np.int64(buckets[i]) + np.int64(value >> np.uint64(shift))
        tie_keys[i], buckets[i] = value, bucket
        sizes[bucket] += 1
    return tie_keys, buckets, sizes
