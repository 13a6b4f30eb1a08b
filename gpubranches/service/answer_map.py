"""A map of an answer and other items: which items are drawn, their positions, and their kinds."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.results import TIERS
from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.core.tie_order import splitmix64
from gpubranches.retrieval.projection import Plane, fit_plane

if TYPE_CHECKING:
    from gpubranches.service.answer import Answer

MOST_POINTS = 100_000
"""The largest number of points of a map, without marked items."""
KINDS = ("rest", "below", *reversed(TIERS), "match")
"""The kinds of points: any other item; a ranked item that does not match; a match of each tier, or without one."""
EXTENT = 10_000
"""The coordinates of most points lie within this distance of 0."""
_SHARE = 5
"""Items below the cut, and other items, are each at most one in this many of the points."""
_KEPT = 2
"""Number of samples of an answer that are kept: the page's, and one of another size for a program."""

Area = Sequence[tuple[int, int]]
"""A polygon, given by its corners (x, y)."""


@dataclass(frozen=True, eq=False)
class AnswerMap:
    """The points of a map: ranked items best first, then others in random order.

    ids: (m,) int64; places: (m, 2) int32, positions to the right and up; kinds: (m,) uint8, indices of KINDS, under the
    present marks; totals: how many items each group has, drawn or not: matches, below, rest. version: identifies the
    positions; a selected area of another version contains other items.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    totals: dict[str, int]
    version: str

    @property
    def drawn(self) -> dict[str, int]:
        """The number of items of each group that are drawn."""
        rest, below = (int(np.count_nonzero(self.kinds == kind)) for kind in (0, 1))
        return {"matches": len(self.ids) - rest - below, "below": below, "rest": rest}

    def within(self, areas: Sequence[Area], kinds: str = "") -> NDArray[np.int64]:
        """Return the ids of the points inside one of some areas, in the order of the map, (m,) int64.

        kinds: only points of these kinds, given as digits that are indices of KINDS; "" for all.
        """
        chosen = np.zeros(len(self.ids), np.bool_)
        for area in areas:
            chosen |= inside(self.places, area)
        if kinds:
            chosen &= np.isin(self.kinds, [int(kind) for kind in kinds])
        return self.ids[chosen]

    def to_json(self) -> dict[str, Any]:
        """Return the map as a dict for JSON, with one list per column."""
        return {
            "version": self.version,
            "kind_names": list(KINDS),
            "totals": self.totals,
            "ids": self.ids.tolist(),
            "x": self.places[:, 0].tolist(),
            "y": self.places[:, 1].tolist(),
            "kinds": self.kinds.tolist(),
        }


@dataclass(frozen=True, eq=False)
class _Sample:
    """The items of a map that are drawn with any marks.

    centre: (2,) float32, of the plane; unit: the step of coordinates.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int32]
    plane: Plane
    centre: NDArray[np.float32]
    unit: float


class AnswerMaps:
    """The maps of answers. The sample of an answer is drawn once, and kept as long as the answer. Thread-safe."""

    def __init__(self) -> None:
        self._samples: WeakKeyDictionary[Answer, SingleFlightCache[_Sample]] = WeakKeyDictionary()

    def get(self, found: Answer, answer: Answer, most: int = MOST_POINTS) -> AnswerMap:
        """Return the map of an answer, with at most `most` points and all marked items.

        found: the answer under the marks of its find all, which the sample depends on; answer: the same answer under
        the present marks.
        """
        kept = self._samples.setdefault(found, SingleFlightCache(_KEPT))
        generation = found.catalog.generation
        sample = kept.get((generation, most), lambda: _drawn(found, most))
        marked = np.fromiter(answer.marks or answer.completeness.marks, np.int64)
        further = marked[~among(marked, sample.ids)]
        further = further[found.catalog.alive(further)]
        ids, places = sample.ids, sample.places
        if len(further):
            ids = np.concatenate([ids, further])
            placed = _placed(sample.plane.points(found.catalog, further), sample.centre, sample.unit)
            places = np.concatenate([places, placed])
        listed = answer.listed
        universe = found.catalog.count(found.options.where)
        totals = {
            "matches": listed.total,
            "below": len(listed.ids) - listed.total,
            "rest": max(0, universe - len(listed.ids)),
        }
        version = f"{zlib.crc32(sample.places.tobytes()):08x}"
        return AnswerMap(ids, places, _kinds(answer, ids), totals, version)


def inside(places: NDArray[np.int32], area: Area) -> NDArray[np.bool_]:
    """Return which points lie within a polygon by the even-odd rule, (m,) bool. places: (m, 2) int32.

    The page selects by the same arithmetic on doubles (`web/static/map_points.js`), so both find the same items.
    """
    x, y = places[:, 0].astype(np.float64), places[:, 1].astype(np.float64)
    found = np.zeros(len(places), np.bool_)
    for (x1, y1), (x2, y2) in zip(area, [*area[1:], *area[:1]], strict=True):
        if y1 != y2:
            found ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return found


def _drawn(found: Answer, most: int) -> _Sample:
    """Draw the sample of an answer: an even sample of its matches, the best below the cut, an even sample of the rest.

    The plane is fitted to the matches and to the items below the cut, where a second group would be.
    """
    catalog, ranking = found.catalog, found.ranking
    alive = catalog.alive(ranking.ids)
    matches, below = (ranking.ids[rows & alive] for rows in (ranking.matched, ~ranking.matched))
    below = below[: most // _SHARE]
    rest = catalog.sample_ids(most // _SHARE, np.random.default_rng(0), found.options.where)
    rest = _in_random_order(rest[~among(rest, ranking.ids)])
    mixed = _in_random_order(matches)
    taken = mixed[: most - len(below) - len(rest)]
    plane = fit_plane(catalog, [mixed, _in_random_order(below)] if len(ranking.ids) else [rest])
    if len(taken) < len(matches):
        matches = matches[among(matches, taken)]
    ids = np.concatenate([matches, below, rest])
    points = plane.points(catalog, ids)
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.ones(2))
    centre = ((low + high) / 2).astype(np.float32)
    unit = max(float((high - low).max()) / 2 / EXTENT, 1e-9)
    return _Sample(ids, _placed(points, centre, unit), plane, centre, unit)


def _placed(points: NDArray[np.float32], centre: NDArray[np.float32], unit: float) -> NDArray[np.int32]:
    places: NDArray[np.int32] = np.rint((points - centre) / np.float32(unit)).astype(np.int32)
    return places


def _in_random_order(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    shuffled: NDArray[np.int64] = ids[np.argsort(splitmix64(ids))]
    return shuffled


def _kinds(answer: Answer, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the kinds of items under the marks of an answer, (m,) uint8, indices of KINDS."""
    listed = answer.listed
    kinds = np.zeros(len(ids), np.uint8)
    rows = np.flatnonzero(among(listed.ids, ids))
    ranked = listed.ids[rows]
    of = np.full(len(rows), KINDS.index("match"), np.uint8)
    if listed.tiers is not None:
        by_tier = np.array([KINDS.index(tier) for tier in TIERS], np.uint8)
        of = by_tier[listed.tiers[rows]]
    of[~listed.matched[rows]] = KINDS.index("below")
    order = np.argsort(ids)
    kinds[order[np.searchsorted(ids, ranked, sorter=order)]] = of
    return kinds
