"""The numba kernels that build one k-d tree: rows as packed words, median splits by counting, leaves laid out.

A row of a tree is one word, byte j of which is its code in the tree's j-th dim (uint32 for up to 4 dims, uint64 for up
to 8), beside its position, uint32. Both are moved together, so each split reads and writes memory in order.
"""

from __future__ import annotations

import numpy as np

from gpubranches.backends.cpu_vectors import inner, kernel
from gpubranches.backends.kdtree_files import LEAF
from gpubranches.catalog import TILE

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
def _widest(words, start, stop, dims):
    """Return the dim of the largest variance over evenly spaced rows of start..stop-1, in integers."""
    size = stop - start
    wanted = min(max(size // 16, _LEAST_SAMPLE), _MOST_SAMPLE)
    step = max(1, size // wanted)
    best, most = 0, np.int64(-1)
    for j in range(dims):
        shift = type(words[start])(8 * j)
        count, total, squares = np.int64(0), np.int64(0), np.int64(0)
        for i in range(start, stop, step):
            code = _code(words[i], shift)
            count += 1
            total += code
            squares += code * code
        spread = count * squares - total * total
        if spread > most:
            best, most = j, spread
    return best


@inner
def _median(words, start, stop, shift, half, counts):
    """Return the code at rank `half` of rows start..stop-1, and how many rows that have it belong to the left."""
    counts[:] = 0
    pairs = (stop - start) // 2
    for i in range(pairs):
        counts[0, _code(words[start + 2 * i], shift)] += 1
        counts[1, _code(words[start + 2 * i + 1], shift)] += 1
    for i in range(start + 2 * pairs, stop):
        counts[0, _code(words[i], shift)] += 1
    below, code = np.int64(0), np.int64(0)
    while below + counts[0, code] + counts[1, code] < half:
        below += counts[0, code] + counts[1, code]
        code += 1
    return code, half - below


@inner
def _split(words, positions, start, stop, shift, median, quota, half, out, out_positions):
    """Move rows start..stop-1 to the same places of out, the lower `half` first; stable, without branches."""
    left, right = start, start + half
    for i in range(start, stop):
        word = words[i]
        code = _code(word, shift)
        tie = np.int64(code == median) & np.int64(quota > 0)
        goes = np.int64(code < median) | tie
        quota -= tie
        place = right + (left - right) * goes
        out[place] = word
        out_positions[place] = positions[i]
        left += goes
        right += 1 - goes


@kernel
def grow(words, positions, spare, spare_positions, dims):
    """Order words and positions, (n,), as the leaves of a tree over `dims` dims; spare: arrays like them.

    Each range of leaves is cut at its middle leaf, by rank in the dim of the largest variance; rows that tie there are
    cut by position. So all leaves but the last are full, the tree needs no pointers, and positions ascend in a leaf.
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
                words[start:stop] = spare[start:stop]
                positions[start:stop] = spare_positions[start:stop]
            continue
        middle = (first + last) // 2
        half = (middle - first) * LEAF
        source, target = (spare, words) if side else (words, spare)
        rows, moved = (spare_positions, positions) if side else (positions, spare_positions)
        shift = type(source[start])(8 * _widest(source, start, stop, dims))
        median, quota = _median(source, start, stop, shift, half, counts)
        _split(source, rows, start, stop, shift, median, quota, half, target, moved)
        stack[depth, 0], stack[depth, 1], stack[depth, 2] = middle, last, 1 - side
        stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = first, middle, 1 - side
        depth += 2


@kernel
def lay_out(words, positions, dims, blocks, block_positions, bounds):
    """Write leaves and their bounds from rows in the order of `grow`.

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
