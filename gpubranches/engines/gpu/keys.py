"""The keys that scans keep rows by, uint32, smaller for better rows, and the answers they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Candidates
from gpubranches.engines.gpu.selection import Best

NOTHING = Best(np.zeros(0, np.int64), np.zeros(0, np.uint32), 0)

VOTE_BITS = 16
"""Bits of the keys of votes."""


def squared_bits(d: int) -> int:
    """Return the number of key bits of nearest neighbours: those of the largest squared distance of codes of d dims."""
    return (d * 255**2).bit_length()


def score_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the keys of scores, smaller for larger scores: the twin of score_key in kernels/common.cuh."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))


def key_scores(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the scores of keys."""
    return np.where(keys >> 31, keys, ~keys & np.uint32(0x7FFFFFFF)).view(np.float32)


def floor_key(floor: np.float32) -> int:
    """Return the key that rows of at least a score do not exceed."""
    return int(score_keys(np.array([floor], np.float32))[0])


def scored(one: Best) -> Candidates:
    """Return the answer whose keys are those of scores."""
    return Candidates(ids=one.ids, scores=key_scores(one.keys), total=one.total)


def voted(one: Best) -> Candidates:
    """Return the answer whose keys are what votes lack of 65,535."""
    return Candidates(ids=one.ids, votes=(65535 - one.keys).astype(np.uint16), total=one.total)
