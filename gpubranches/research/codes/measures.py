"""Measures of codes: recall among the nearest, distances, entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import best_first

FIRST = 100
"""The number of true neighbours of a query, and of the answers that are compared with them."""
_CHUNK = 64


def best_rows(keys: Callable[[slice], NDArray[Any]], queries: int, ids: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the k best rows of each query, (q, min(k, n)) int64, ties by splitmix64 of the rows' ids.

    keys: called with a slice of the queries, returns (len, n), higher is better; ids: (n,) int64.
    """
    found = np.zeros((queries, min(k, len(ids))), np.int64)
    for start in range(0, queries, _CHUNK):
        for at, row in enumerate(keys(slice(start, min(start + _CHUNK, queries)))):
            found[start + at] = best_first(row, ids, k)
    return found


def place_of_nearest(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of the true nearest among the results, (q,) int64 from 0, k if it was not found.

    found: (q, k) rows, best first; true: (q, t) rows, nearest first.
    """
    hits = found == true[:, :1]
    places: NDArray[np.int64] = np.where(hits.any(axis=1), hits.argmax(axis=1), found.shape[1])
    return places


def share_found(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of the true neighbours among the same number of first answers, (q,) float64: k-recall@k."""
    k = true.shape[1]
    shares = [len(np.intersect1d(a, b)) / k for a, b in zip(found[:, :k], true, strict=True)]
    return np.array(shares, np.float64)


def nearest_distances(queries: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of each query to the nearest of the base, (q,) float32; all rows of unit length, (., d)."""
    largest = [(queries[i : i + _CHUNK] @ base.T).max(axis=1) for i in range(0, len(queries), _CHUNK)]
    cosines = np.minimum(np.concatenate(largest), np.float32(1))
    distances: NDArray[np.float32] = np.sqrt(2 - 2 * cosines)
    return distances


def code_entropy(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the entropy of the values of each dim, (d,) float64, in bits; codes: (n, d) uint8.

    It is estimated from the shares of the values in n rows, so it is at most log2(n) and too low for few rows.
    """
    shares = _counts(codes) / len(codes)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy: NDArray[np.float64] = np.abs(-(shares * logs).sum(axis=1))
    return entropy


def values_used(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of the 256 values that each dim takes, (d,) float64; codes: (n, d) uint8."""
    used: NDArray[np.float64] = (_counts(codes) > 0).mean(axis=1)
    return used


def _counts(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.stack([np.bincount(column, minlength=256) for column in codes.T])
