"""faiss over the codes: IndexScalarQuantizer with QT_8bit_direct, which keeps the bytes as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.errors import BackendUnavailableError
from gpubranches.results import Neighbors


class FaissIndex:
    """A flat faiss index of a catalog's codes; exact distances, its own order among ties."""

    def __init__(self, catalog: Catalog):
        """Copy the codes into faiss, a tile's worth of rows at a time; d bytes an item."""
        try:
            import faiss
        except ImportError as error:
            raise BackendUnavailableError(
                f"--nn faiss needs faiss: pip install 'gpubranches[cpu]' ({error})"
            ) from error
        self.generation = catalog.generation
        self._index = faiss.IndexScalarQuantizer(catalog.d, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
        for segment in catalog.segments:
            for start in range(0, segment.n, TILE):
                self._index.add(segment.row_codes(start, min(start + TILE, segment.n)).astype(np.float32))
        self._ids = np.concatenate([np.zeros(0, np.int64), *(segment.ids for segment in catalog.segments)])

    def search(self, queries: NDArray[np.uint8], k: int) -> Neighbors:
        """Return the k nearest of queries, (q, d) uint8."""
        distances, rows = self._index.search(queries.astype(np.float32), k)
        known = np.append(self._ids, -1)
        distances = np.where(rows < 0, np.inf, distances).astype(np.float32)
        return Neighbors(distances=distances, ids=known[rows], source="faiss/codes QT_8bit_direct")
