"""Near duplicates among some items, by their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import unit

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

SAME = 0.94
"""The cosine from which on two items count as the same picture, as in clip-retrieval."""
COMPARED = 2000
"""Items that are compared with each other; the memory for it grows with their square."""


def without_near_duplicates(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows of ids without those whose embedding has a cosine of `SAME` or more with one of an earlier row.

    ids: (m,); the first `COMPARED` are compared, the others stay. Without stored embeddings all stay, because decoded
    ones do not tell near duplicates apart. Raises UsageError for unknown and deleted ids.
    """
    if not catalog.stores_embeddings:
        return np.arange(len(ids))
    vectors = unit(catalog.embeddings(ids[:COMPARED]))
    similar = vectors @ vectors.T >= SAME
    kept: list[int] = []
    for row in range(len(vectors)):
        if not similar[row, kept].any():
            kept.append(row)
    return np.append(np.array(kept, np.intp), np.arange(len(vectors), len(ids)))
