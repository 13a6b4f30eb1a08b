"""The uint32 keys by which scans rank rows, smaller for better rows, and their conversion to scores and votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Candidates
from gpubranches.engines.gpu.selection import TopRows

NOTHING = TopRows(np.zeros(0, np.int64), np.zeros(0, np.uint32), 0)

VOTE_BITS = 16
"""Bits of the keys of votes."""


def squared_bits(d: int) -> int:
    """Return the number of key bits of nearest neighbours, enough for the largest squared distance over d dims."""
    return (d * 255**2).bit_length()


def score_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the keys of scores, smaller for larger scores. It computes the same as score_key in kernels/common.cuh."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))


def key_scores(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the scores of keys."""
    return np.where(keys >> 31, keys, ~keys & np.uint32(0x7FFFFFFF)).view(np.float32)


def max_key(min_score: np.float32) -> int:
    """Return the largest key of rows that score at least min_score."""
    return int(score_keys(np.array([min_score], np.float32))[0])


def as_scores(one: TopRows) -> Candidates:
    """Return the answer of a scan by scores, converted from its keys."""
    return Candidates(ids=one.ids, scores=key_scores(one.keys), total=one.total)


def as_votes(one: TopRows) -> Candidates:
    """Return the answer of a scan whose keys are 65,535 - votes."""
    return Candidates(ids=one.ids, votes=(65535 - one.keys).astype(np.uint16), total=one.total)
