"""A second, simple implementation of the scans in CuPy expressions, to compare with the kernels.

It is slow: the kernels compute in one pass what these expressions compute in many, over arrays of the size of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpubranches.catalog import TILE
from gpubranches.core.boxes import Boxes
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.gpu.keys import score_keys

_ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Plain:
    """The scans in expressions of the array module xp, CuPy or NumPy, over pages of codes, zones, bits, scales, ids."""

    xp: Any
    to_host: Callable[[Any], Any]
    pages: Sequence[Sequence[Any]]

    def votes_total(self, boxes: Boxes, min_votes: int) -> int:
        """Return how many rows have at least min_votes."""
        xp, total = self.xp, 0
        for codes, *_ in self.pages:
            votes = xp.zeros((len(codes), TILE), xp.uint16)
            for estimator in range(boxes.n_estimators):
                hit = xp.zeros(votes.shape, xp.bool_)
                for box in (boxes[int(i)] for i in np.flatnonzero(boxes.estimator == estimator)):
                    inside = xp.ones(votes.shape, xp.bool_)
                    for dim, low, high in zip(box.features.tolist(), box.low.tolist(), box.high.tolist(), strict=True):
                        inside &= (codes[:, dim, :] >= low) & (codes[:, dim, :] <= high)
                    hit |= inside
                votes += hit
            total += int((votes >= min_votes).sum())
        return total

    def nearest_keys(self, query: Any, k: int) -> list[int]:
        """Return the k smallest squared distances over codes, ascending."""
        wanted = self.xp.asarray(query.reshape(1, -1, 1).astype(np.int32))

        def distances(codes: Any) -> Any:
            away = codes.astype(self.xp.int32) - wanted
            return (away * away).sum(axis=1).reshape(-1)

        return [int(value) for value in self._smallest((distances(codes) for codes in self._codes()), k)]

    def linear_keys(self, model: CodeWeights, k: int) -> list[int]:
        """Return the k best keys of a linear model over the codes, ascending."""
        weights = self.xp.asarray(model.weights.reshape(1, -1, 1).astype(np.int32))
        dots = ((codes.astype(self.xp.int32) * weights).sum(axis=1).reshape(-1) for codes in self._codes())
        return _keys(self._smallest((-one for one in dots), k))

    def bits_keys(self, model: WeightPlanes, k: int) -> list[int]:
        """Return the k best keys of a linear model over the sign bits, ascending."""
        u = sum(np.unpackbits(model.planes[j], bitorder="little").astype(np.float32) * (1 << j) for j in range(4))
        weights, shifts = self.xp.asarray(np.asarray(2 * u - 15, np.float32)), self.xp.arange(32, dtype=np.uint32)

        def scores() -> Any:
            for _, _, bits, scales, _ in self.pages:
                for start in range(0, len(bits), _ROWS_AT_ONCE):
                    own = bits[start : start + _ROWS_AT_ONCE]
                    signs = ((own[:, :, None] >> shifts) & 1).reshape(len(own), -1).astype(np.float32) * 2 - 1
                    # Whole numbers below 2^24: float32 sums of them are exact in any order.
                    dots = (signs * weights).sum(axis=1)
                    yield -dots * scales[start : start + len(own)].view(np.float16).astype(np.float32)

        return _keys(self._smallest(scores(), k))

    def _codes(self) -> Any:
        """Yield the codes of a few tiles at a time, to bound the memory of computations on them."""
        for codes, *_ in self.pages:
            for start in range(0, len(codes), _ROWS_AT_ONCE // TILE):
                yield codes[start : start + _ROWS_AT_ONCE // TILE]

    def _smallest(self, parts: Any, k: int) -> Any:
        best = None
        for part in parts:
            best = self.xp.sort(part if best is None else self.xp.concatenate([best, part]))[:k]
        return self.to_host(best)


def _keys(negated: Any) -> list[int]:
    return [int(key) for key in score_keys((-negated).astype(np.float32))]
