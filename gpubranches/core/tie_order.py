"""The order of answers: best first, ties by splitmix64 of the id, never by id or position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NEARLY = 16
"""If fewer than one in this many rows are out of order, a stable sort, which merges ordered runs, is fastest."""


def splitmix64(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Mix ids into tie-breaking keys, uint64, same shape; a bijection, so keys of different ids differ.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), as in
    Vigna's splitmix64.c: the state is id + the golden gamma.
    """
    z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def best_first(keys: NDArray[Any], ids: NDArray[np.int64], limit: int | None = None) -> NDArray[np.intp]:
    """Order rows by key descending, ties by splitmix64(id) ascending; return their indices, at most `limit`.

    keys: (m,) any real dtype without NaN; ids: (m,) int64, distinct.
    """
    m = len(keys)
    if limit is not None and limit < m:
        if limit <= 0:
            return np.zeros(0, np.intp)
        border = np.partition(keys, m - limit)[m - limit]
        above = np.flatnonzero(keys > border)
        tied = np.flatnonzero(keys == border)
        tied = tied[np.argsort(splitmix64(ids[tied]), kind="stable")[: limit - len(above)]]
        chosen = np.concatenate([above, tied])
        return chosen[best_first(keys[chosen], ids[chosen])]
    mixed = splitmix64(ids)
    if keys.dtype.itemsize > 4:
        order = np.argsort(mixed)
        rising = keys[order]
        return order[np.argsort(-rising if keys.dtype.kind == "f" else ~rising, kind="stable")]
    # One word holds a key and the upper half of splitmix64; only rows with equal words are compared further.
    words = _falling(keys)
    words <<= np.uint64(32)
    words |= mixed >> np.uint64(32)
    in_order = np.count_nonzero(words[1:] >= words[:-1]) * _NEARLY > m * (_NEARLY - 1)
    order = np.argsort(words, kind="stable" if in_order else None)
    words = words[order]
    alike = words[1:] == words[:-1]
    if alike.any():
        tied = np.flatnonzero(np.append(alike, False) | np.append(False, alike))
        rows = order[tied]
        order[tied] = rows[np.lexsort((mixed[rows], words[tied]))]
    return order


def _falling(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """Return numbers below 2^32, (m,), in the reverse order of keys of at most 4 bytes."""
    if keys.dtype.kind == "f":
        bits = (keys.astype(np.float32) + np.float32(0)).view(np.int32)
        keys = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    highest = np.iinfo(keys.dtype).max
    return (highest - keys.astype(np.int64)).astype(np.uint64)
