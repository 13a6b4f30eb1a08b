"""How the cpu backend's kernels order answers: keys, the best of many rows, and ids by splitmix64.

A kernel that searches for the best rows keeps `limit` of them by (key descending, splitmix64(id) ascending). This is a
total order, so the answer does not depend on how the rows are divided into tasks. The tasks of a call share `cutoff`,
(1,): no row with a smaller key can be in the answer. It only grows. A task that reads an old value does more work but
finds the same answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.engines.cpu.vectors import inner, kernel, lowest_bit

_LOW31 = np.int32(0x7FFFFFFF)


@inner
def key(number):
    """Return a float32 as an int32 key with the same order; -0 equals 0. `float_keys` does the same in NumPy."""
    bits = np.float32(number + np.float32(0)).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & _LOW31)


def float_keys(numbers: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the int32 keys of float32 numbers, which have the same order; see `key`."""
    bits = (numbers + np.float32(0)).view(np.int32)
    return bits ^ ((bits >> 31) & _LOW31)


def key_floats(keys: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the numbers of int32 keys."""
    return (keys ^ ((keys >> 31) & _LOW31)).view(np.float32)


@inner
def splitmix(number):
    """Return splitmix64 of an id, uint64; see gpubranches.core.tie_order.splitmix64."""
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def signed_tie_key(number):
    """Return splitmix64 of an id as an int64 with the same order."""
    return np.int64(splitmix(number) ^ np.uint64(0x8000000000000000))


@inner
def _nth(values, k):
    """Return the k-th smallest of values, (m,) int64, which are reordered. Source: Hoare, Find (CACM 1961)."""
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


@inner
def keep_best(rows, keys, count, limit, ids, cutoff):
    """Keep in place the `limit` best of `count` > limit rows, and raise the cutoff to the worst of them."""
    values = np.empty(count, np.int64)
    for i in range(count):
        values[i] = keys[i]
    worst = _nth(values, count - limit)
    above, tied = 0, 0
    for i in range(count):
        above += keys[i] > worst
        if keys[i] == worst:
            values[tied] = signed_tie_key(ids[rows[i]])
            tied += 1
    last = _nth(values[:tied], limit - above - 1)
    kept = 0
    for i in range(count):
        if keys[i] > worst or (keys[i] == worst and signed_tie_key(ids[rows[i]]) <= last):
            rows[kept], keys[kept] = rows[i], keys[i]
            kept += 1
    cutoff[0] = max(cutoff[0], worst)
    return kept


@inner
def append_rows(word, first, values, at, rows, keys, count):
    """Append the rows of a word and return the new count. Bit i is row first + i, with the key values[at + i]."""
    while word != np.uint64(0):
        i = np.int64(lowest_bit(word))
        rows[count] = first + i
        keys[count] = values[at + i]
        count += 1
        word &= word - np.uint64(1)
    return count


@kernel
def scatter(tie_keys, buckets, places, out):
    """Write each of tie_keys, (m,) uint64, to the next place of its bucket in out; places, (buckets,) int64, advance.

    Values whose place is beyond the end of out are skipped.
    """
    for i in range(len(tie_keys)):
        place = places[buckets[i]]
        if place < len(out):
            out[place] = tie_keys[i]
            places[buckets[i]] = place + 1


@inner
def _id_of(tie_key):
    """Return the id, int64, of a tie key, uint64, by inverting splitmix64."""
    z = tie_key
    z = (z ^ (z >> np.uint64(31)) ^ (z >> np.uint64(62))) * np.uint64(0x319642B2D24D8EC3)
    z = (z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))) * np.uint64(0x96DE1B173F119089)
    z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    return np.int64(z - np.uint64(0x9E3779B97F4A7C15))


@kernel
def ids_of(tie_keys, out):
    """Write the ids of tie keys, (m,) uint64, to out, (m,) int64."""
    for i in range(len(tie_keys)):
        out[i] = _id_of(tie_keys[i])


@kernel
def falling_words(scores, low, high):
    """Return a word for each row with low <= score < high, (m,) uint64: its key upside down, then the row in 32 bits.

    scores: (n,) float32, n below 2^32. In ascending order of the words the best scores come first. An infinite `high`
    lets in all scores from `low` on.
    """
    count = 0
    for i in range(len(scores)):
        count += scores[i] >= low and (scores[i] < high or high == np.inf)
    words = np.empty(count, np.uint64)
    count = 0
    for i in range(len(scores)):
        if scores[i] >= low and (scores[i] < high or high == np.inf):
            falling = np.uint64(np.int64(_LOW31) - np.int64(key(scores[i])))
            words[count] = falling << np.uint64(32) | np.uint64(i)
            count += 1
    return words


@kernel
def unpack_ranked(words, ids, out_ids, out_scores):
    """Write ids and scores of sorted words of `falling_words`, those of equal scores in the order of splitmix64(id).

    ids: (n,) int64, by row; out_ids: (m,) int64; out_scores: (m,) float32. A score of -0 is written as 0.
    """
    for i in range(len(words)):
        out_ids[i] = ids[words[i] & np.uint64(0xFFFFFFFF)]
        bits = np.int64(_LOW31) - np.int64(words[i] >> np.uint64(32))
        out_scores[i] = np.int32(bits ^ ((bits >> 31) & np.int64(_LOW31))).view(np.float32)
    start = 0
    while start + 1 < len(words):
        stop = start + 1
        while stop < len(words) and words[stop] >> np.uint64(32) == words[start] >> np.uint64(32):
            stop += 1
        if stop - start == 2:
            first, last = out_ids[start], out_ids[start + 1]
            if splitmix(first) > splitmix(last):
                out_ids[start], out_ids[start + 1] = last, first
        elif stop - start > 2:
            ties = np.empty(stop - start, np.uint64)
            for i in range(len(ties)):
                ties[i] = splitmix(out_ids[start + i])
            ties.sort()
            for i in range(len(ties)):
                out_ids[start + i] = _id_of(ties[i])
        start = stop
