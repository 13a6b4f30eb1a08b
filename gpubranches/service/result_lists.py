"""Lists of nearest items in pages; they are cached, so that later pages need no further search."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.retrieval.hits import Hits

LONGEST = 10_000
"""Items of the longest list of nearest items. A list of matches has no such limit."""
FIRST = 300
"""Items of the first search, which the first page waits for."""
RANDOM_ITEMS = 300
"""Items of a list of random ones."""
_KEPT = 128


@dataclass(frozen=True, eq=False)
class ResultList:
    """The beginning of a list, nearest first.

    ids: (m,) int64; distances: (m,) float32; source: what answered; inside: how many items the catalog has, or the
    filter admits.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float32]
    source: str
    inside: int

    @property
    def total(self) -> int:
        """The number of items of the complete list."""
        return min(self.inside, LONGEST)

    def extended(self, found: Hits) -> ResultList:
        """Return the list with the new items of a wider search added at its end.

        A wider search compares more candidates and may find an item that belongs before the end. Items that were shown
        keep their place, so that pages neither repeat nor miss an item.
        """
        new = ~np.isin(found.ids, self.ids)
        joined = np.concatenate([self.ids, found.ids[new]]), np.concatenate([self.distances, found.distances[new]])
        return ResultList(*joined, found.source, self.inside)


class ResultLists:
    """The last 128 lists. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: SingleFlightCache[ResultList] = SingleFlightCache(_KEPT)

    def get(self, key: Hashable, stop: int, find: Callable[[int], Hits], count: Callable[[], int]) -> ResultList:
        """Return the list of a key with at least `stop` items, or all it has.

        key: the query, the filter and the catalog's generation; the same key gives the same list, even if it was
        dropped and is searched again. find: searches k items; count: returns how many there are to find.
        """

        def searched() -> ResultList:
            nothing = ResultList(np.zeros(0, np.int64), np.zeros(0, np.float32), "", count())
            return nothing.extended(find(FIRST))

        first = self._kept.get((key, FIRST), searched)
        if stop <= len(first.ids) or len(first.ids) >= first.total:
            return first
        return self._kept.get((key, LONGEST), lambda: first.extended(find(LONGEST)))
