"""Models of boxes in the layout of the boxes kernel: chunks of boxes, ranges ordered by dim, bounds as bit masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.boxes import Boxes

MOST_BOXES = 80
"""The largest number of boxes in a chunk. Each warp keeps a chunk in shared memory, BOX_BYTES per box."""
BOX_BYTES = 132
MOST_MODELS = 64
_PLANES = (5, 9, 16)


@dataclass(frozen=True)
class Program:
    """Arrays of the boxes kernel, see kernels/boxes.cu.

    vote_planes: number of bits that count the estimators of every model; room: number of boxes of the largest chunk.
    """

    models: NDArray[np.uint32]
    chunks: NDArray[np.uint32]
    runs: NDArray[np.uint32]
    ranges: NDArray[np.uint32]
    masks: NDArray[np.uint32]
    ends: NDArray[np.uint8]
    vote_planes: int
    room: int


def compile_boxes(models: Sequence[Boxes], min_votes: int) -> Program:
    """Lay out at most MOST_MODELS models for one launch of the boxes kernel."""
    parts: list[_Chunk] = []
    heads = []
    first_box = first_range = first_run = 0
    for boxes in models:
        first = len(parts)
        count = -(-len(boxes) // MOST_BOXES)
        for start, stop in zip(*_even(len(boxes), count), strict=True):
            part = _Chunk.of(boxes, start, stop, first_box, first_range, first_run)
            parts.append(part)
            first_box, first_range, first_run = first_box + stop - start, first_range + len(part.ranges), part.last_run
        heads.append((first, len(parts), min(min_votes, 1 << 16), 0))
    most = max([boxes.n_estimators for boxes in models], default=1)
    ends = np.concatenate([np.zeros(0, np.uint8), *(_ends(boxes) for boxes in models)])
    return Program(
        models=np.array(heads, np.uint32).reshape(-1, 4),
        chunks=_stacked([part.head for part in parts], (0, 8)),
        runs=_stacked([row for part in parts for row in part.runs], (0, 4)),
        ranges=np.concatenate([np.zeros((0, 2), np.uint32), *(part.ranges for part in parts)]),
        masks=np.concatenate([np.zeros((0, 16), np.uint32), *(part.masks for part in parts)]),
        ends=ends,
        vote_planes=next(planes for planes in _PLANES if most < 1 << planes),
        room=max((int(part.head[5]) for part in parts), default=0),
    )


@dataclass(frozen=True)
class _Chunk:
    head: NDArray[np.uint32]
    runs: list[tuple[int, int, int, int]]
    ranges: NDArray[np.uint32]
    masks: NDArray[np.uint32]
    last_run: int

    @classmethod
    def of(cls, boxes: Boxes, start: int, stop: int, first_box: int, first_range: int, first_run: int) -> _Chunk:
        """Lay out boxes start..stop-1 of a model; `first_*`: the first rows of their entries in the program."""
        own = slice(int(boxes.offsets[start]), int(boxes.offsets[stop]))
        owner = np.repeat(np.arange(stop - start), np.diff(boxes.offsets[start : stop + 1]))
        order = np.argsort(boxes.features[own], kind="stable")
        dims = boxes.features[own][order].astype(np.uint32)
        low, high = boxes.low[own][order].astype(np.uint32), boxes.high[own][order].astype(np.uint32)
        ranges = np.stack([owner[order].astype(np.uint32) | dims << 16, low | high << 8], axis=1).reshape(-1, 2)
        used, begin = np.unique(dims, return_index=True)
        bounds = [*begin.tolist(), len(dims)]
        runs = [
            (int(dim), first_range + bounds[i], first_range + bounds[i + 1], 0) for i, dim in enumerate(used.tolist())
        ]
        last_run = first_run + len(runs)
        head = [first_run, last_run, first_range, first_range + len(dims), first_box, stop - start, 0, 0]
        bit = np.arange(8, dtype=np.uint32)
        masks = np.concatenate([_bit_masks(low, bit), _bit_masks(high, bit)], axis=1)
        return cls(np.array(head, np.uint32), runs, ranges.astype(np.uint32), masks, last_run)


def _bit_masks(bound: NDArray[np.uint32], bit: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return a word for each bit of each bound, (m, 8): all ones if the bit is 0."""
    return (((bound[:, None] >> bit) & np.uint32(1)) - np.uint32(1)).astype(np.uint32)


def _even(total: int, count: int) -> tuple[list[int], list[int]]:
    """Return starts and stops of `count` runs of 0..total-1 of nearly equal length."""
    cuts = [total * i // max(count, 1) for i in range(count + 1)]
    return cuts[:-1], cuts[1:]


def _ends(boxes: Boxes) -> NDArray[np.uint8]:
    """Return 1 for each box that is the last of its estimator."""
    last = np.ones(len(boxes), np.uint8)
    last[:-1] = boxes.estimator[1:] != boxes.estimator[:-1]
    return last


def _stacked(rows: list[Any], empty: tuple[int, int]) -> NDArray[np.uint32]:
    return np.array(rows, np.uint32) if rows else np.zeros(empty, np.uint32)
