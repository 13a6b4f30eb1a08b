"""Statistics of a catalog's embeddings and codes: means and whitenings, learnt from a sample that rarely changes."""

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

_KEPT = 4
"""Statistics of a catalog that are cached: those of embeddings and codes, of two states while requests run on both."""

_cached: WeakKeyDictionary[Catalog, SingleFlightCache[Any]] = WeakKeyDictionary()


class EmbeddingStatistics(NamedTuple):
    """Whitenings of a catalog's embeddings: overall by their covariance, local by nearest neighbours' differences."""

    overall: Whitening
    local: Whitening


def embedding_statistics(catalog: Catalog) -> EmbeddingStatistics:
    """Return the whitenings learnt from a steady sample of up to `SAMPLE` rows of a catalog.

    They are cached until the sample changes, see `SteadySample`. If another thread is learning them, the call waits for
    its result. Raises UsageError for a catalog of codes alone.
    """
    sample, signs = catalog.steady_sample(), catalog.signs
    if signs is None:
        raise UsageError("expected a catalog with embeddings, this one has codes only")

    def learn() -> EmbeddingStatistics:
        centred = sample.embeddings(SAMPLE) - signs.mean_
        overall = Whitening(parts=catalog.parts).fit(centred)
        return EmbeddingStatistics(overall, local_whitening(centred, overall))

    found: EmbeddingStatistics = _cache(catalog).get(("embeddings", sample.key), learn)
    return found


def code_statistics(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    """Return the mean, (d,) float32, and the local whitening of `code_vectors`; cached like `embedding_statistics`."""
    sample = catalog.steady_sample()

    def learn() -> tuple[NDArray[np.float32], Whitening]:
        vectors = _as_vectors(sample.codes(SAMPLE))
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean, local_whitening(vectors - mean, Whitening().fit(vectors - mean))

    found: tuple[NDArray[np.float32], Whitening] = _cache(catalog).get(("codes", sample.key), learn)
    return found


def code_vectors(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return codes / CODE_UNIT of items, (m, d) float32, the vectors of a linear model over codes."""
    return _as_vectors(catalog.codes(ids))


def _cache(catalog: Catalog) -> SingleFlightCache[Any]:
    return _cached.setdefault(catalog, SingleFlightCache(_KEPT))


def _as_vectors(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = codes.astype(np.float32) / CODE_UNIT
    return vectors
