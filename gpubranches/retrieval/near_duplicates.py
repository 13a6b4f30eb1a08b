"""Near duplicates among some items, by their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog


def without_near_duplicates(catalog: Catalog, ids: NDArray[np.int64], cosine: float, most: int) -> NDArray[np.intp]:
    """Return the rows of ids without those whose embedding has that cosine, or more, with one of an earlier row.

    ids: (m,); the first `most` are compared, the others stay. Without stored embeddings all stay, because decoded ones
    do not tell near duplicates apart. Raises UsageError for unknown and deleted ids.
    """
    if not catalog.stores_embeddings:
        return np.arange(len(ids))
    vectors = catalog.embeddings(ids[:most])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similar = vectors @ vectors.T >= cosine
    kept: list[int] = []
    for row in range(len(vectors)):
        if not similar[row, kept].any():
            kept.append(row)
    return np.append(np.array(kept, np.intp), np.arange(len(vectors), len(ids)))
