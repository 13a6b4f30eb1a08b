"""Statistics of a catalog's embeddings and codes: means and whitenings, computed once for each state of the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.core.whitening import SAMPLE, Whitening, local_whitening
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

CODE_UNIT = np.float32(127.5)
"""Codes are divided by this to be the vectors of a linear model."""

_cached: WeakKeyDictionary[Catalog, SingleFlightCache[Any]] = WeakKeyDictionary()


class EmbeddingStatistics(NamedTuple):
    """Whitenings of a catalog's embeddings: overall by their covariance, local by nearest neighbours' differences."""

    overall: Whitening
    local: Whitening


def embedding_statistics(catalog: Catalog) -> EmbeddingStatistics:
    """Return the whitenings learnt from up to `SAMPLE` items of a catalog. They are cached until a commit.

    If another thread is learning them, the call waits for its result. Raises UsageError for a catalog of codes alone.
    """
    found: EmbeddingStatistics = _cache(catalog).get(
        ("embeddings", catalog.generation), lambda: _learn_embedding_statistics(catalog)
    )
    return found


def code_statistics(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    """Return the mean, (d,) float32, and the local whitening of `code_vectors`; cached like `embedding_statistics`."""
    found: tuple[NDArray[np.float32], Whitening] = _cache(catalog).get(
        ("codes", catalog.generation), lambda: _learn_code_statistics(catalog)
    )
    return found


def code_vectors(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return codes / CODE_UNIT of items, (m, d) float32, the vectors of a linear model over codes."""
    vectors: NDArray[np.float32] = catalog.codes(ids).astype(np.float32) / CODE_UNIT
    return vectors


def _cache(catalog: Catalog) -> SingleFlightCache[Any]:
    return _cached.setdefault(catalog, SingleFlightCache(2))


def _learn_embedding_statistics(catalog: Catalog) -> EmbeddingStatistics:
    if catalog.signs is None or not catalog.has_embeddings:
        raise UsageError("expected a catalog with embeddings, this one has codes only")
    sample = catalog.embeddings(catalog.sample_ids(SAMPLE, np.random.default_rng(0))) - catalog.signs.mean_
    overall = Whitening().fit(sample)
    return EmbeddingStatistics(overall, local_whitening(sample, overall))


def _learn_code_statistics(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    sample = code_vectors(catalog, catalog.sample_ids(SAMPLE, np.random.default_rng(0)))
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean, local_whitening(sample - mean, Whitening().fit(sample - mean))
