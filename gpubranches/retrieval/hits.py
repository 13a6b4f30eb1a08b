"""The result of a search: ids with their distances, nearest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.results import Neighbors


class Hit(NamedTuple):
    """One item that a search found. distance: smaller is nearer, in the unit of its `Hits`."""

    id: int
    distance: float


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """The items nearest to one query, nearest first; there are fewer than k where fewer exist.

    ids: (m,) int64; distances: (m,) float32: squared L2 if codes are compared, the distance of `fuse` in a catalog of
    two models, else 1 - cosine of vectors centred on their mean, see `Backend.search`; source: what computed it, e.g.
    "cpu/bits+embeddings"; catalog: the catalog of the items. Iterating yields a `Hit` for each item.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float32]
    source: str
    catalog: Catalog

    @classmethod
    def of(cls, neighbors: Neighbors, catalog: Catalog) -> Hits:
        """Return the hits of the first query of `neighbors`, without the padding."""
        found = neighbors.ids[0] >= 0
        return cls(neighbors.ids[0][found], neighbors.distances[0][found], neighbors.source, catalog)

    def __repr__(self) -> str:
        return f"<Hits: {len(self):,} items by {self.source}>"

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Hit]:
        return map(Hit, self.ids.tolist(), self.distances.tolist())

    def items(self) -> list[dict[str, Any]]:
        """Return the metadata of the items, in the order of `ids`, each a dict with at least `id`.

        Raises UsageError if an item was deleted since the search.
        """
        return self.catalog.items(self.ids)
