"""The spread of a catalog's embeddings and codes, learnt once for every state of the catalog."""

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
"""Codes a unit of what a linear model over codes sees."""

_kept: WeakKeyDictionary[Catalog, SingleFlightCache[Any]] = WeakKeyDictionary()


class Spread(NamedTuple):
    """How the embeddings of a catalog differ: overall, as any two do; local, as nearest neighbours do."""

    overall: Whitening
    local: Whitening


def spread_of(catalog: Catalog) -> Spread:
    """Return the whitenings learnt from up to `SAMPLE` items of a catalog, always the same ones; kept until a commit.

    Who asks while another thread learns them waits for it. Raises UsageError for a catalog of codes alone.
    """
    spread: Spread = _memo(catalog).get(("embeddings", catalog.generation), lambda: _learnt_spread(catalog))
    return spread


def code_spread_of(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    """Return mean, (d,) float32, and local whitening of `code_vectors`, learnt and kept as `spread_of` is."""
    spread: tuple[NDArray[np.float32], Whitening] = _memo(catalog).get(
        ("codes", catalog.generation), lambda: _learnt_code_spread(catalog)
    )
    return spread


def code_vectors(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return codes / CODE_UNIT of items, (m, d) float32: what a linear model over codes sees."""
    vectors: NDArray[np.float32] = catalog.codes(ids).astype(np.float32) / CODE_UNIT
    return vectors


def _memo(catalog: Catalog) -> SingleFlightCache[Any]:
    return _kept.setdefault(catalog, SingleFlightCache(2))


def _learnt_spread(catalog: Catalog) -> Spread:
    if catalog.signs is None or not catalog.has_embeddings:
        raise UsageError("expected a catalog with embeddings, this one has codes only")
    sample = catalog.embeddings(catalog.sample_ids(SAMPLE, np.random.default_rng(0))) - catalog.signs.mean_
    overall = Whitening().fit(sample)
    return Spread(overall, local_whitening(sample, overall))


def _learnt_code_spread(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    sample = code_vectors(catalog, catalog.sample_ids(SAMPLE, np.random.default_rng(0)))
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean, local_whitening(sample - mean, Whitening().fit(sample - mean))
