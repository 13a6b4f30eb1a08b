"""The plan for a model: which tree answers each box, and its estimated cost compared with a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.boxes import Boxes
from gpubranches.engines.kdtree import query
from gpubranches.engines.kdtree.files import LANES, KdIndex, Tree, padded_leaves

# Nanoseconds on one core, measured at 10 million rows; only their ratios matter.
_NS_STEP = 3e4
_NS_GROUP = 4.0
_NS_TESTED = 0.25
_NS_MARKED = 3.5
_NS_VERIFIED = 5.0
_NS_FOLDED = 4.0
_NS_SCANNED = 0.4
_NS_SCANNED_MODEL = 2.0, 0.12


@dataclass(frozen=True, eq=False)
class Limits:
    """Some dims of a box: features (f,) int64, of the codes or places in a tree; low, high (f,) uint8."""

    features: NDArray[np.int64]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]

    def those(self, which: NDArray[np.bool_]) -> Limits:
        """Return some of the dims, which: (f,)."""
        return Limits(self.features[which], self.low[which], self.high[which])


_NO_LIMITS = Limits(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint8))


@dataclass(frozen=True, eq=False)
class Step:
    """The way in which one box is answered.

    tree: the tree, None for a scan of the codes; own: the tree's dims that the box restricts, by their index in the
    tree, or for a scan all dims of the box; rest: the other dims, which are verified on the catalog's codes; leaves:
    (2, groups) uint64, the leaves that the box cuts and those it holds whole; cut_rows, whole_rows: the numbers of
    their rows; cost_ns: the estimated time.
    """

    tree: Tree | None
    own: Limits
    rest: Limits
    cost_ns: float
    cut_rows: int = 0
    whole_rows: int = 0
    leaves: NDArray[np.uint64] | None = None


def plan(index: KdIndex, boxes: Boxes, index_only: bool) -> list[Step]:
    """Return how each box is answered: by the tree that excludes most rows, or by a scan if that is cheaper.

    index_only: use the tree even if a scan is cheaper.
    """
    numbers = choose_trees(index, boxes)
    groups = padded_leaves(index.n) // LANES
    places, rows = np.zeros(len(boxes.features), np.int64), np.zeros((len(boxes), 2), np.int64)
    leaves = np.empty((len(boxes), 2, groups), np.uint64)
    tables = index.bounds, index.starts, index.subsets, index.sizes, index.n, numbers
    query.survey(*tables, boxes.offsets, boxes.features, boxes.low, boxes.high, places, leaves, rows)
    features, offsets = boxes.features.astype(np.int64), boxes.offsets.tolist()
    steps = []
    for i, (number, (cut, whole)) in enumerate(zip(numbers.tolist(), rows.tolist(), strict=True)):
        entries = slice(offsets[i], offsets[i + 1])
        box = Limits(features[entries], boxes.low[entries], boxes.high[entries])
        scanned = Step(None, box, _NO_LIMITS, _NS_SCANNED * index.n * max(1, len(box.features)))
        if number < 0:
            steps.append(scanned)
            continue
        own, rest = Limits(places[entries], box.low, box.high), _NO_LIMITS
        missing = places[entries] < 0
        if missing.any():
            own, rest = own.those(~missing), box.those(missing)
        cost = _NS_GROUP * groups + _NS_TESTED * cut * len(own.features) + _NS_MARKED * (whole + cut / 2)
        cost += _NS_VERIFIED * min(whole + cut / 2, index.n / 64) * len(rest.features)
        through = Step(index.trees[number], own, rest, cost, cut, whole, leaves[i])
        steps.append(through if index_only or cost < scanned.cost_ns else scanned)
    return steps


def choose_trees(index: KdIndex, boxes: Boxes) -> NDArray[np.int64]:
    """Return for each box the tree that is expected to leave the fewest rows, (b,) int64, -1 if no tree helps.

    The expectation is the product, over the dims of the tree that the box restricts, of the share of rows within the
    box's interval. Of equal trees the one with the fewest dims is taken.
    """
    inside = index.below[boxes.features, boxes.high.astype(np.int64) + 1] - index.below[boxes.features, boxes.low]
    shares = np.zeros((len(boxes), len(index.below)))
    shares[np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets)), boxes.features] = np.log(
        (inside + 0.5) / (index.n + 0.5)
    )
    left = shares @ index.members
    numbers = np.argmin(left + 1e-6 * index.sizes, axis=1)
    return np.where(left[np.arange(len(boxes)), numbers] < 0, numbers, -1)


def index_cost_ns(n: int, steps: list[Step], n_estimators: int) -> float:
    """Return the estimated nanoseconds of the steps, and of adding up the votes of several estimators."""
    folded = n / 64 * n_estimators if n_estimators > 1 else 0
    return sum(step.cost_ns for step in steps) + _NS_STEP * len(steps) + _NS_FOLDED * folded


def scan_cost_ns(n: int, n_boxes: int) -> float:
    """Return the estimated nanoseconds of one pass over the codes with all boxes, as the cpu backend makes it."""
    base, each = _NS_SCANNED_MODEL
    return n * (base + each * n_boxes)
