"""Lists of nearest items, the last that were asked for, so that their later pages need no search of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.retrieval.hits import Hits

LONGEST = 10_000
"""Nearest items that can be paged through; what matches is listed whole."""
FIRST = 300
"""Items of the first search, which a first page waits for."""
_HELD = 128


@dataclass(frozen=True, eq=False)
class Nearest:
    """The beginning of a list: ids, (m,) int64, with their distances, (m,) float32, nearest first.

    source: what answered; inside: how many items there are to list, of the catalog or of what a filter lets in.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float32]
    source: str
    inside: int

    @property
    def total(self) -> int:
        """How many items the list has when it is whole."""
        return min(self.inside, LONGEST)

    def extended(self, found: Hits) -> Nearest:
        """Return the list with what a wider search found added at its end.

        A wider search looks at more candidates and may find an item that belongs before the end; what has been shown
        stays where it was, so that pages neither repeat nor miss an item.
        """
        new = ~np.isin(found.ids, self.ids)
        joined = np.concatenate([self.ids, found.ids[new]]), np.concatenate([self.distances, found.distances[new]])
        return Nearest(*joined, found.source, self.inside)


class Lists:
    """The last lists by what was asked. Safe to use from several threads."""

    def __init__(self) -> None:
        self._held: SingleFlightCache[Nearest] = SingleFlightCache(_HELD)

    def get(self, key: Hashable, stop: int, find: Callable[[int], Hits], count: Callable[[], int]) -> Nearest:
        """Return a list of at least `stop` items, or all it has.

        key: what was asked, of which catalog generation; find: searches k items; count: how many there are to find.
        The same key gives the same list, also when it is searched anew.
        """

        def searched() -> Nearest:
            nothing = Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32), "", count())
            return nothing.extended(find(FIRST))

        first = self._held.get((key, FIRST), searched)
        if stop <= len(first.ids) or len(first.ids) >= first.total:
            return first
        return self._held.get((key, LONGEST), lambda: first.extended(find(LONGEST)))
