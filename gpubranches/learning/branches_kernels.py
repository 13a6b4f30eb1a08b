"""The numba kernel of the branches: it grows the boxes of one estimator, in integers only, from one 64-bit seed.

Training codes are dimension-major, so that the test of a box reads contiguous bytes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Entry points from C take long to compile, and nothing uses them.
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)
PATIENCE = 32
"""Number of consecutive positives that a box may fail to take in before it stops growing."""
CONTAMINATION = 8
"""A box may contain one negative per this many positives, because random negatives may be positives without a mark."""


@kernel
def random_below(state, bound):
    """Return an integer in 0..bound-1 and advance the splitmix64 generator whose state is state[0], uint64."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.int64(((z >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@kernel
def put(values, array):
    """Write values to the first places of an array: a slice would compile the text of an error, which takes long."""
    for i in range(len(values)):
        array[i] = values[i]


@kernel
def draw(state, n, count):
    """Return `count` distinct numbers of 0..n-1 in random order, int64 (a partial Fisher-Yates shuffle)."""
    numbers = np.arange(n)
    for i in range(count):
        j = i + random_below(state, n - i)
        numbers[i], numbers[j] = numbers[j], numbers[i]
    return numbers[:count]


@kernel
def hold(columns, features, size, low, high, inside):
    """Set inside[i] to 1 if column i of columns, (d, m), lies in the box, else to 0; return the number of ones."""
    m = columns.shape[1]
    for i in range(m):
        inside[i] = 1
    for j in range(size):
        column = columns[features[j]]
        lowest = low[j]
        span = np.uint8(high[j] - lowest)
        for i in range(m):
            inside[i] &= np.uint8(np.uint8(column[i] - lowest) <= span)
    count = 0
    for i in range(m):
        count += inside[i]
    return count


@kernel
def nearest(positives, remaining, seed, dims, size):
    """Order the remaining positives by their L1 distance to the seed over the given dims, nearest (the seed) first."""
    members = np.flatnonzero(remaining)
    distances = np.empty(len(members), np.int64)
    for k in range(len(members)):
        distance = 0
        for j in range(size):
            distance += abs(np.int64(positives[dims[j], members[k]]) - np.int64(positives[dims[j], seed]))
        distances[k] = distance
        if members[k] == seed:
            distances[k] = -1
    return members[np.argsort(distances, kind="mergesort")]


@kernel
def widened(positives, members, dim):
    """Return the interval of the members in a dim, wider by their mean gap and 2 codes, or by 8 for one member."""
    lowest, highest = 255, 0
    for i in members:
        code = np.int64(positives[dim, i])
        lowest = min(lowest, code)
        highest = max(highest, code)
    margin = (highest - lowest) // (len(members) - 1) + 2 if len(members) > 1 else 8
    return max(0, lowest - margin), min(255, highest + margin)


@kernel
def separate(positives, negatives, members, dims, max_dims, exclusions, features):
    """Write to features, greedily, the dims whose intervals exclude most negatives; return their number.

    A negative counts until `exclusions` of the chosen dims exclude it. Without negatives the first dims are taken.
    """
    m = negatives.shape[1]
    if m == 0:
        put(dims[:max_dims], features)
        return min(len(dims), max_dims)
    low = np.empty(len(dims), np.uint8)
    span = np.empty(len(dims), np.uint8)
    for j in range(len(dims)):
        lowest, highest = widened(positives, members, dims[j])
        low[j], span[j] = lowest, highest - lowest
    missing = np.full(m, exclusions, np.uint8)
    left = np.ones(len(dims), np.uint8)
    size = 0
    while size < max_dims:
        best, most = -1, 0
        for j in np.flatnonzero(left):
            column, lowest, width = negatives[dims[j]], low[j], span[j]
            shut = 0
            for i in range(m):
                shut += np.uint8(missing[i] > 0) & np.uint8(np.uint8(column[i] - lowest) > width)
            if shut > most:
                best, most = j, shut
        if best < 0:
            break
        left[best] = 0
        features[size] = dims[best]
        size += 1
        column, lowest, width = negatives[dims[best]], low[best], span[best]
        for i in range(m):
            missing[i] -= np.uint8(missing[i] > 0) & np.uint8(np.uint8(column[i] - lowest) > width)
    return size


@kernel
def purify(positives, negatives, seed, features, size, low, high, inside):
    """Start the box at the code of the seed, and add dims until it contains no negative. Return the number of features.

    No negative may have the seed's code in every dim.
    """
    d = len(positives)
    used = np.zeros(d, np.uint8)
    for j in range(size):
        used[features[j]] = 1
        low[j] = high[j] = positives[features[j], seed]
    while size == 0 or hold(negatives, features, size, low, high, inside) > 0:
        best, most = -1, -1
        for dim in range(d):
            if used[dim]:
                continue
            shut = 0
            for i in range(len(inside)):
                if size == 0 or inside[i]:
                    shut += negatives[dim, i] != positives[dim, seed]
            if shut > most:
                best, most = dim, shut
        used[best] = 1
        features[size] = best
        low[size] = high[size] = positives[best, seed]
        size += 1
    return size


@kernel
def grow(positives, negatives, order, features, size, low, high, held, inside):
    """Widen the box over the positives, in the given order, as long as it contains few enough negatives."""
    new_low, new_high = low.copy(), high.copy()
    failures = 0
    for i in order:
        within = True
        for j in range(size):
            code = positives[features[j], i]
            new_low[j], new_high[j] = min(low[j], code), max(high[j], code)
            within &= low[j] <= code <= high[j]
        if within:
            continue
        wrong = hold(negatives, features, size, new_low, new_high, inside)
        if wrong == 0 or wrong * CONTAMINATION <= hold(positives, features, size, new_low, new_high, held):
            put(new_low[:size], low)
            put(new_high[:size], high)
            failures = 0
        else:
            failures += 1
            if failures == PATIENCE:
                break


@kernel
def expand(negatives, state, features, size, low, high, inside, expansion, reach):
    """Move each side, in random order, `expansion` percent of the way to the nearest negative that blocks it.

    A side moves by at most `reach` percent of the box's width in its dim, plus 16 codes.
    """
    for side in draw(state, 2 * size, 2 * size):
        j = side // 2
        column = negatives[features[j]]
        lowest, highest = np.int64(low[j]), np.int64(high[j])
        low[j], high[j] = 0, 255
        hold(negatives, features, size, low, high, inside)
        low[j], high[j] = lowest, highest
        blocked_low, blocked_high = -1, 256
        for i in range(len(column)):
            if inside[i]:
                code = np.int64(column[i])
                if code < lowest:
                    blocked_low = max(blocked_low, code)
                elif code > highest:
                    blocked_high = min(blocked_high, code)
        most = (highest - lowest) * reach // 100 + 16
        if side % 2 == 0:
            low[j] = lowest - min((lowest - blocked_low - 1) * expansion // 100, most)
        else:
            high[j] = highest + min((blocked_high - highest - 1) * expansion // 100, most)


@kernel
def grow_estimator(positives, negatives, seed, pool, pool_sizes, options):
    """Return the boxes of one estimator: sizes (b,), features, low, high (b, d), the first `size` of each row valid.

    positives (d, p), negatives (d, m): uint8, no column in both; seed: uint64; pool (s, f) with pool_sizes (s,):
    the subsets to draw from, or s = 0 to choose dims by separation; options: considered dims, most dims, exclusions,
    trials, expansion, reach.
    """
    considered, max_dims, exclusions, trials, expansion, reach = options
    d, p = positives.shape
    state = np.full(1, seed, np.uint64)
    held, inside = np.empty(p, np.uint8), np.empty(negatives.shape[1], np.uint8)
    remaining = np.ones(p, np.uint8)
    features, low, high = np.empty(d, np.int16), np.empty(d, np.uint8), np.empty(d, np.uint8)
    sizes = np.zeros(p, np.int32)
    all_features, all_low, all_high = np.empty((p, d), np.int16), np.empty((p, d), np.uint8), np.empty((p, d), np.uint8)
    b = 0
    while remaining.any():
        most = 0
        for _ in range(max(1, min(trials, 8192 // p))):
            open_ = np.flatnonzero(remaining)
            first = open_[random_below(state, len(open_))]
            if len(pool):
                row = random_below(state, len(pool))
                size = pool_sizes[row]
                put(pool[row, :size], features)
            else:
                dims = draw(state, d, considered)
                percent = 30 + random_below(state, 71)
                members = nearest(positives, remaining, first, dims, considered)[: (len(open_) * percent + 99) // 100]
                size = separate(positives, negatives, members, dims, max_dims, exclusions, features)
            size = purify(positives, negatives, first, features, size, low, high, inside)
            order = nearest(positives, np.ones(p, np.uint8), first, features, size)
            grow(positives, negatives, order, features, size, low, high, held, inside)
            hold(positives, features, size, low, high, held)
            new = (held & remaining).sum()
            if new > most:
                most, sizes[b] = new, size
                put(features, all_features[b])
                put(low, all_low[b])
                put(high, all_high[b])
        hold(positives, all_features[b], sizes[b], all_low[b], all_high[b], held)
        remaining[np.flatnonzero(held)] = 0
        if negatives.shape[1]:
            expand(negatives, state, all_features[b], sizes[b], all_low[b], all_high[b], inside, expansion, reach)
        else:
            members = np.flatnonzero(held)
            for j in range(sizes[b]):
                all_low[b, j], all_high[b, j] = widened(positives, members, all_features[b, j])
        b += 1
    return sizes[:b], all_features[:b], all_low[:b], all_high[:b]
