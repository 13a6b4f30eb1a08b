"""Which tree answers a box, and what that costs beside a scan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.backends import kdtree_query
from gpubranches.backends.kdtree_files import LANES, KdIndex, Tree, padded_leaves
from gpubranches.boxes import Boxes

# Nanoseconds on one core, measured at 10 million rows; only their ratios matter.
_NS_GROUP = 4.0
_NS_TESTED = 0.15
_NS_MARKED = 2.0
_NS_VERIFIED = 3.0
_NS_SCANNED = 0.4
_NS_SCANNED_MODEL = 1.0, 0.3


@dataclass(frozen=True, eq=False)
class Limits:
    """Some dims of a box: features (f,) int64, of the codes or of a tree; low, high (f,) uint8."""

    features: NDArray[np.int64]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Step:
    """How one box is answered.

    tree: the tree, None for a scan of the codes; own: the tree's dims that the box restricts, by their place in it, or
    for a scan all dims of the box; rest: the other dims, verified on the catalog's codes; leaves: (2, groups) uint64,
    those the box cuts and those it holds whole; cut_rows, whole_rows: their rows; cost_ns: estimated.
    """

    tree: Tree | None
    own: Limits
    rest: Limits
    cost_ns: float
    cut_rows: int = 0
    whole_rows: int = 0
    leaves: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((2, 0), np.uint64))


def plan_box(
    index: KdIndex, number: int, features: NDArray[np.int16], low: NDArray[np.uint8], high: NDArray[np.uint8]
) -> Step:
    """Return how a box is answered by tree `number`, or by a scan if that is cheaper or the number is -1."""
    box = Limits(features.astype(np.int64), low, high)
    none = Limits(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    scanned = Step(None, box, none, _NS_SCANNED * index.n * max(1, len(features)))
    if number < 0:
        return scanned
    tree = index.trees[number]
    shared = np.isin(box.features, tree.features)
    own = Limits(np.searchsorted(tree.features, box.features[shared]), low[shared], high[shared])
    rest = Limits(box.features[~shared], low[~shared], high[~shared])
    groups = padded_leaves(index.n) // LANES
    leaves = np.zeros((2, groups), np.uint64)
    f = len(tree.features)
    cut, whole = kdtree_query.survey(tree.bounds, index.n, f, own.features, own.low, own.high, leaves)
    hits = whole + cut / 2
    cost = _NS_GROUP * groups + _NS_TESTED * cut * len(own.features) + _NS_MARKED * hits
    if len(rest.features):
        cost += _NS_VERIFIED * min(hits, index.n / 64) * len(rest.features)
    if cost >= scanned.cost_ns:
        return scanned
    return Step(tree, own, rest, cost, cut, whole, leaves)


def choose_trees(index: KdIndex, boxes: Boxes) -> NDArray[np.int64]:
    """Return for each box the tree whose dims are expected to leave the fewest rows, (b,) int64, -1 where none helps.

    The expectation is the product, over the dims a tree shares with the box, of the share of rows within its interval;
    among equals the tree of fewest dims is taken.
    """
    d = len(index.marginals)
    below = np.zeros((d, 257))
    np.cumsum(index.marginals, axis=1, out=below[:, 1:])
    inside = below[boxes.features, boxes.high.astype(np.int64) + 1] - below[boxes.features, boxes.low]
    shares = np.zeros((len(boxes), d))
    owner = np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets))
    shares[owner, boxes.features] = np.log((inside + 0.5) / (index.n + 0.5))
    members = np.zeros((d, len(index.trees)))
    for number, tree in enumerate(index.trees):
        members[tree.features, number] = 1
    left = shares @ members + 1e-6 * members.sum(axis=0)
    best = np.argmin(left, axis=1)
    helped = (shares @ members)[np.arange(len(boxes)), best] < 0
    return np.where(helped, best, -1)


def scan_cost_ns(n: int, n_boxes: int) -> float:
    """Return the estimated nanoseconds of one pass over the codes with all boxes, as the cpu backend makes it."""
    base, each = _NS_SCANNED_MODEL
    return n * (base + each * n_boxes)
