"""The numba kernel of the classic branches: it grows the boxes of one estimator by Gini impurity.

Counts are integers, and the impurity is one sum of two quotients of them, which every machine rounds in the same way.
"""

from __future__ import annotations

import numpy as np

from gpubranches.learning.branches_kernels import draw, kernel, put, random_below


@kernel
def impurity(counts):
    """Return half the Gini impurity of a split, times the weight of all points.

    counts: (4,) int64, the weights of positives inside, negatives inside, positives outside, negatives outside. With
    p of n positive the impurity of one side is 1 - (p/n)^2 - (1 - p/n)^2 = 2 p (n - p) / n^2; weighted by n and halved
    that is p (n - p) / n.
    """
    inside, outside = counts[0] + counts[1], counts[2] + counts[3]
    total = 0.0
    if inside > 0:
        total += counts[0] * counts[1] / inside
    if outside > 0:
        total += counts[2] * counts[3] / outside
    return total


@kernel
def begin(columns, positive, weight, first, dims, low, high):
    """Set bounds around point `first` so that its first dim excludes all other points; ties are left to the next dims.

    A side without such points reaches to the code of the nearest positive there, or stays at the code of the point.
    """
    m = columns.shape[1]
    tied = weight > 0
    tied[first] = False
    for j in range(len(dims)):
        column = columns[dims[j]]
        code = np.int64(column[first])
        below, above, wanted_below, wanted_above = -1, 256, -1, 256
        for i in range(m):
            other = np.int64(column[i])
            if tied[i] and other != code:
                tied[i] = False
                below = max(below, other) if other < code else below
                above = min(above, other) if other > code else above
            if weight[i] > 0 and positive[i]:
                wanted_below = max(wanted_below, other) if other < code else wanted_below
                wanted_above = min(wanted_above, other) if other > code else wanted_above
        if below < 0:
            low[j] = wanted_below if wanted_below >= 0 else code
        else:
            low[j] = below + 1
        if above > 255:
            high[j] = wanted_above if wanted_above <= 255 else code
        else:
            high[j] = above - 1


@kernel
def push(right, wrong, bound, step, reach, counts):
    """Move one bound to the code with the least impurity; return that code and the next code with a point.

    right, wrong: (256,) int64, the weights of positives and negatives at each code, of the points that all other dims
    include; step: +1 or -1; reach: the largest number of codes with points that are tried; counts: as for `impurity`,
    updated to the new bound. The next code is 256 or -1 if there is none.
    """
    end = 256 if step > 0 else -1
    wanted = 0
    for code in range(bound + step, end, step):
        wanted += right[code]
    taken = bound
    if wanted > 0:
        least, now, tried = impurity(counts), counts.copy(), 0
        for code in range(bound + step, end, step):
            if right[code] + wrong[code] == 0:
                continue
            now[0] += right[code]
            now[1] += wrong[code]
            now[2] -= right[code]
            now[3] -= wrong[code]
            score = impurity(now)
            if score < least:
                least, taken = score, code
                put(now, counts)
            tried += 1
            if tried == reach:
                break
    following = taken + step
    while following != end and right[following] + wrong[following] == 0:
        following += step
    return taken, following


@kernel
def beyond(column, positive, weight, taken, step, last, state):
    """Return a random end for a bound that no point blocks, not far beyond the points.

    In the `last` dim it lies between the bound and the outermost point. In other dims it lies beyond the outermost
    positive by a random part of its distance, or at the bound if no positive lies farther out.
    """
    outermost = taken
    for i in range(len(column)):
        if weight[i] > 0 and (last or positive[i]) and step * np.int64(column[i]) > step * outermost:
            outermost = np.int64(column[i])
    gap = random_below(state, abs(outermost - taken))
    return taken + step * gap if last else min(255, max(0, outermost + step * gap))


@kernel
def grow_box(columns, positive, weight, first, dims, reach, bounded, state, low, high, outside):
    """Grow one box around point `first` over dims, in their order; write its low and high and return its impurity.

    outside: (m,) uint8, written: the number of dims in which a point lies outside the box.
    """
    m, size = columns.shape[1], len(dims)
    begin(columns, positive, weight, first, dims, low, high)
    counts = np.zeros(4, np.int64)
    for i in range(m):
        outside[i] = 0
        for j in range(size):
            outside[i] += np.uint8((columns[dims[j], i] < low[j]) | (columns[dims[j], i] > high[j]))
        counts[2 * (outside[i] > 0) + (1 - positive[i])] += weight[i]
    right, wrong = np.empty(256, np.int64), np.empty(256, np.int64)
    for j in range(size):
        column = columns[dims[j]]
        lowest, highest = np.int64(low[j]), np.int64(high[j])
        right[:] = 0
        wrong[:] = 0
        for i in range(m):
            if outside[i] == np.uint8((column[i] < lowest) | (column[i] > highest)):
                if positive[i]:
                    right[column[i]] += weight[i]
                else:
                    wrong[column[i]] += weight[i]
        last = j == size - 1
        taken, following = push(right, wrong, lowest, -1, reach, counts)
        if following >= 0:
            low[j] = taken - (taken - following) // 2
        else:
            low[j] = beyond(column, positive, weight, taken, -1, last, state) if bounded else 0
        taken, following = push(right, wrong, highest, +1, reach, counts)
        if following <= 255:
            high[j] = taken + (following - taken) // 2
        else:
            high[j] = beyond(column, positive, weight, taken, +1, last, state) if bounded else 255
        for i in range(m):
            was = (column[i] < lowest) | (column[i] > highest)
            outside[i] += np.uint8((column[i] < low[j]) | (column[i] > high[j])) - np.uint8(was)
    return impurity(counts)


@kernel
def grow_classic(columns, positive, weights, key, pool, pool_sizes, options):
    """Return the boxes of one estimator: sizes (b,), features, low, high (b, f), the first `size` of each row valid.

    columns: (d, m) uint8; positive: (m,) uint8; weights: (m,) int64, how often each point was drawn, or 0; key: uint64;
    pool (s, f), pool_sizes (s,): the subsets of dims; options: subsets tried for a box, boxes after which only one is
    tried, reach, bounded (0 or 1).
    """
    tries, patience, reach, bounded = options
    m, f = columns.shape[1], pool.shape[1]
    state = np.full(1, key, np.uint64)
    weight = weights.copy()
    open_ = np.flatnonzero((positive > 0) & (weight > 0))
    p = len(open_)
    sizes, features = np.zeros(p, np.int32), np.empty((p, f), np.int16)
    all_low, all_high = np.empty((p, f), np.uint8), np.empty((p, f), np.uint8)
    low, high = np.empty(f, np.uint8), np.empty(f, np.uint8)
    outside, covered = np.empty(m, np.uint8), np.empty(m, np.uint8)
    b = 0
    while len(open_):
        if weight[positive == 0].sum() == 0:
            for i in range(m):
                if not positive[i]:
                    weight[i] = weights[i]
        first = open_[random_below(state, len(open_))]
        least = np.inf
        for row in draw(state, len(pool), tries if b < patience else 1):
            size = pool_sizes[row]
            dims = pool[row][draw(state, size, size)]
            score = grow_box(columns, positive, weight, first, dims, reach, bounded, state, low, high, outside)
            if score < least or (score == least and size < sizes[b]):
                least, sizes[b] = score, size
                put(dims, features[b])
                put(low, all_low[b])
                put(high, all_high[b])
                put(outside, covered)
        weight[covered == 0] = 0
        open_ = open_[covered[open_] > 0]
        b += 1
    return sizes[:b], features[:b], all_low[:b], all_high[:b]
