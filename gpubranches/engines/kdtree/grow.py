"""The numba kernels that build one k-d tree: rows as packed words, median splits by counting, leaves laid out.

A row of a tree is one word (uint32 for up to 4 dims, uint64 for up to 8), byte j of which is its code in the tree's
j-th dim, and its position, uint32. Both are moved together, so each split reads and writes memory in order.
"""

from __future__ import annotations

import numpy as np

from gpubranches.catalog import TILE
from gpubranches.engines.cpu.vectors import inner, kernel
from gpubranches.engines.kdtree.files import LEAF

_LEAST_SAMPLE, _MOST_SAMPLE = 64, 1024


@kernel
def count_codes(codes, d, n, counts):
    """Add to counts, (d, 256) int64, how often each code occurs in each dim of a segment of n rows."""
    for tile in range((n + TILE - 1) // TILE):
        rows = min(TILE, n - tile * TILE)
        for f in range(d):
            base = (tile * d + f) * TILE
            for i in range(rows):
                counts[f, codes[base + i]] += 1


@kernel
def pack(codes, d, n, start, features, words, positions):
    """Write the rows of a segment that starts at position `start`: words, (n,), and positions, (n,) uint32."""
    width = words.itemsize
    out = words.view(np.uint8)
    for tile in range((n + TILE - 1) // TILE):
        rows = min(TILE, n - tile * TILE)
        for j in range(len(features)):
            base = (tile * d + features[j]) * TILE
            at = tile * TILE * width + j
            for i in range(rows):
                out[at + i * width] = codes[base + i]
        for i in range(rows):
            positions[tile * TILE + i] = np.uint32(start + tile * TILE + i)


@inner
def _code(word, shift):
    return np.int64((word >> shift) & type(word)(255))


@inner
def _widest(words, dims):
    """Return the dim of the largest variance over evenly spaced rows, in integers."""
    size = len(words)
    wanted = min(max(size // 16, _LEAST_SAMPLE), _MOST_SAMPLE)
    step = max(1, size // wanted)
    widest, most = 0, np.int64(-1)
    for j in range(dims):
        shift = type(words[0])(8 * j)
        count, total, squares = np.int64(0), np.int64(0), np.int64(0)
        for i in range(0, size, step):
            code = _code(words[i], shift)
            count += 1
            total += code
            squares += code * code
        variance = count * squares - total * total
        if variance > most:
            widest, most = j, variance
    return widest


@inner
def _median(words, shift, half, counts):
    """Return the code at rank `half` of the rows, and how many rows with this code belong to the left.

    It uses two tables of counts, so that consecutive equal codes do not wait for each other.
    """
    counts[:] = 0
    for i in range(len(words) // 2):
        counts[0, _code(words[2 * i], shift)] += 1
        counts[1, _code(words[2 * i + 1], shift)] += 1
    if len(words) % 2:
        counts[0, _code(words[len(words) - 1], shift)] += 1
    below, code = np.int64(0), np.int64(0)
    while below + counts[0, code] + counts[1, code] < half:
        below += counts[0, code] + counts[1, code]
        code += 1
    return code, half - below


@inner
def _split(words, positions, shift, median, quota, half, out, out_positions):
    """Move the rows to out, the lower `half` first, stably; the first `quota` rows of the median code belong to it.

    The place of a row is computed without a branch, which would be mispredicted every other time.
    """
    left, right, i = np.int64(0), half, 0
    while i < len(words) and quota > 0:
        code = _code(words[i], shift)
        goes = np.int64(code <= median)
        quota -= np.int64(code == median)
        place = np.uint64(right + ((left - right) & -goes))
        out[place], out_positions[place] = words[i], positions[i]
        left += goes
        right += 1 - goes
        i += 1
    for k in range(i, len(words)):
        goes = np.int64(_code(words[k], shift) < median)
        place = np.uint64(right + ((left - right) & -goes))
        out[place], out_positions[place] = words[k], positions[k]
        left += goes
        right += 1 - goes


@kernel
def grow(words, positions, spare, spare_positions, dims):
    """Order words and positions, (n,), as the leaves of a tree over `dims` dims; spare: arrays like them.

    Each range of leaves is split at its middle leaf, by rank in the dim of the largest variance, ties by position. So
    all leaves but the last are full, the tree needs no pointers, and positions ascend in a leaf.
    """
    n = len(words)
    counts = np.zeros((2, 256), np.int64)
    stack = np.empty((128, 3), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, (n + LEAF - 1) // LEAF, 0
    depth = 1 if n else 0
    while depth:
        depth -= 1
        first, last, side = stack[depth, 0], stack[depth, 1], stack[depth, 2]
        start, stop = first * LEAF, min(last * LEAF, n)
        if last - first == 1:
            if side:
                for i in range(start, stop):  # slices would compile the text of an error, which takes long
                    words[i], positions[i] = spare[i], spare_positions[i]
            continue
        middle = (first + last) // 2
        half = (middle - first) * LEAF
        source, target = (spare, words) if side else (words, spare)
        rows, moved = (spare_positions, positions) if side else (positions, spare_positions)
        own = source[start:stop]
        shift = type(own[0])(8 * _widest(own, dims))
        median, quota = _median(own, shift, half, counts)
        _split(own, rows[start:stop], shift, median, quota, half, target[start:stop], moved[start:stop])
        stack[depth, 0], stack[depth, 1], stack[depth, 2] = middle, last, 1 - side
        stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = first, middle, 1 - side
        depth += 2


@kernel
def lay_out(words, positions, dims, blocks, block_positions, bounds):
    """Write the leaves and their bounds from rows in the order of `grow`.

    blocks: (leaves, dims * LEAF + 4 * LEAF) uint8, a leaf's codes dim by dim, then its positions; block_positions: the
    same memory as uint32, flat; bounds: (2, dims, padded leaves) uint8, minima, then maxima. Rows and leaves that are
    only padding are zero.
    """
    n, width = len(words), words.itemsize
    codes = words.view(np.uint8)
    for leaf in range(len(blocks)):
        start = leaf * LEAF
        rows = min(LEAF, n - start)
        for j in range(dims):
            lowest, highest = np.uint8(255), np.uint8(0)
            for i in range(rows):
                code = codes[(start + i) * width + j]
                blocks[leaf, j * LEAF + i] = code
                lowest, highest = min(lowest, code), max(highest, code)
            for i in range(rows, LEAF):
                blocks[leaf, j * LEAF + i] = 0
            bounds[0, j, leaf], bounds[1, j, leaf] = lowest, highest
        at = (leaf * (dims + 4) + dims) * (LEAF // 4)
        for i in range(rows):
            block_positions[at + i] = positions[start + i]
        for i in range(rows, LEAF):
            block_positions[at + i] = 0
