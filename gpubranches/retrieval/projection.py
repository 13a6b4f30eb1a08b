"""A projection of items to two dims: the directions in which groups of items differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.threads import one_thread
from gpubranches.retrieval.catalog_statistics import code_statistics, code_vectors, embedding_statistics

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

FITTED = 4_000
"""The largest number of items of a group that a plane is fitted to."""
_BLOCK = 8_192
"""Number of items that are projected at a time."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A linear map of a catalog's items to two coordinates.

    mean: (D,) float32, of embeddings, or (d,) of codes; axes: (D, 2) float32, or (d, 2). Made by `fit_plane`.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    def points(self, catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the coordinates of items, (m, 2) float32. Raises UsageError for unknown or deleted ids."""
        found = np.empty((len(ids), 2), np.float32)
        with one_thread():
            for start in range(0, len(ids), _BLOCK):
                part = slice(start, start + _BLOCK)
                found[part] = (_vectors(catalog, ids[part]) - self.mean) @ self.axes
        return found


def fit_plane(catalog: Catalog, groups: Sequence[NDArray[np.int64]]) -> Plane:
    """Return the plane in which groups of items, and the clusters within them, are farthest apart.

    groups: ids, (m,) int64 each; the first `FITTED` of each are used, so pass them in random order. Each group has the
    same weight, whatever its size. The axes are the first two principal components after the local whitening, which
    makes the differences between nearest neighbours equal in all directions. So a large distance means another kind of
    item, as in linear discriminant analysis, but without labels. The first group lies towards positive coordinates. The
    same groups give the same plane. Without any item, the axes are the first two dims.
    """
    taken = [ids[:FITTED] for ids in groups if len(ids)]
    if catalog.has_embeddings:
        whitening = embedding_statistics(catalog).local.matrix_
    else:
        whitening = code_statistics(catalog)[1].matrix_
    if not taken:
        return Plane(np.zeros(len(whitening), np.float32), whitening[:, :2])
    rows = [_vectors(catalog, ids) for ids in taken]
    mean = np.mean([part.mean(axis=0, dtype=np.float64) for part in rows], axis=0).astype(np.float32)
    with one_thread():
        moment = np.zeros((len(mean), len(mean)))
        for part in rows:
            whitened = ((part - mean) @ whitening).astype(np.float64)
            moment += whitened.T @ whitened / len(part)
        axes = np.linalg.eigh(moment)[1][:, :-3:-1]
        first = (rows[0].mean(axis=0, dtype=np.float64) - mean) @ whitening @ axes
        axes = axes * np.where(first < 0, -1.0, 1.0)
        return Plane(mean, (whitening @ axes).astype(np.float32))


def _vectors(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return catalog.embeddings(ids) if catalog.has_embeddings else code_vectors(catalog, ids)
