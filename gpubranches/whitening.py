"""The spread of a catalog's embeddings or codes, taken out before a linear model is fitted to a few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import check_array
from gpubranches.errors import NotFittedError, UsageError
from gpubranches.linear import one_thread

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

SAMPLE = 10_000
"""Items of a catalog that its spread is learnt from."""

CODE_UNIT = np.float32(127.5)
"""Codes a unit of what a linear model over codes sees."""

_kept: WeakKeyDictionary[Catalog, tuple[int, Whitening]] = WeakKeyDictionary()
_kept_codes: WeakKeyDictionary[Catalog, tuple[int, NDArray[np.float32], Whitening]] = WeakKeyDictionary()


class Whitening:
    """Evens out how far embeddings spread in different directions.

    z = x S with S = s (C + shrinkage m I)^(-1/2): C the covariance of centred embeddings, m the mean of its
    eigenvalues, s such that the mean of |z|^2 is that of |x|^2. What most images of a catalog differ in then counts
    less against what only the marked ones share; a model fitted to z with a plain L2 penalty knows the whole catalog,
    not the marks alone. Source: Hariharan, Malik and Ramanan, Discriminative Decorrelation for Clustering and
    Classification (ECCV 2012). After `fit`: matrix_ (D, D) float32, symmetric.
    """

    def __init__(self, *, shrinkage: float = 1.0):
        self.shrinkage = shrinkage

    def fit(self, centred: NDArray[np.float32]) -> Self:
        """Learn from centred embeddings, (n, D) float32. Returns self."""
        check_array(centred, "centred", dtype=np.float32, shape=(None, None), finite=True)
        if not len(centred) or not centred.shape[1] or self.shrinkage <= 0:
            raise UsageError(f"expected rows to learn from and shrinkage > 0, got {centred.shape} and {self.shrinkage}")
        with one_thread():
            rows = centred.astype(np.float64)
            values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
            values = np.maximum(values, 0)
            even = max(float(values.mean()), 1e-12)
            scales = 1 / np.sqrt(values + self.shrinkage * even)
            scales *= np.sqrt(even * len(values) / max(float((scales**2 * values).sum()), 1e-12))
            self.matrix_ = ((vectors * scales) @ vectors.T).astype(np.float32)
        return self

    def transform(self, centred: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z, (n, D) float32, of centred embeddings. Weights w over z are weights matrix_ @ w over x."""
        if not hasattr(self, "matrix_"):
            raise NotFittedError("Whitening: call fit before transform")
        check_array(centred, "centred", dtype=np.float32, shape=(None, len(self.matrix_)), finite=True)
        turned: NDArray[np.float32] = centred @ self.matrix_
        return turned


def whitening_of(catalog: Catalog) -> Whitening:
    """Return the whitening learnt from up to `SAMPLE` items of a catalog, always the same ones; kept until a commit."""
    kept = _kept.get(catalog)
    if kept is None or kept[0] != catalog.generation:
        if catalog.signs is None or not catalog.has_embeddings:
            raise UsageError("expected a catalog with embeddings, this one has codes only")
        generation = catalog.generation
        sample = catalog.embeddings(catalog.sample_ids(SAMPLE, np.random.default_rng(0)))
        kept = _kept[catalog] = generation, Whitening().fit(sample - catalog.signs.mean_)
    return kept[1]


def code_spread_of(catalog: Catalog) -> tuple[NDArray[np.float32], Whitening]:
    """Return mean, (d,) float32, and whitening of `code_vectors`, learnt as `whitening_of` is."""
    kept = _kept_codes.get(catalog)
    if kept is None or kept[0] != catalog.generation:
        generation = catalog.generation
        sample = code_vectors(catalog, catalog.sample_ids(SAMPLE, np.random.default_rng(0)))
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        kept = _kept_codes[catalog] = generation, mean, Whitening().fit(sample - mean)
    return kept[1:]


def code_vectors(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return codes / CODE_UNIT of items, (m, d) float32: what a linear model over codes sees."""
    vectors: NDArray[np.float32] = catalog.take(ids).astype(np.float32) / CODE_UNIT
    return vectors
