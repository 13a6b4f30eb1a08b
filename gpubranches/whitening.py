"""The spread of a catalog's embeddings or codes, taken out before a few of them are learnt from or compared."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import check_array
from gpubranches.errors import NotFittedError, UsageError
from gpubranches.linear import one_thread
from gpubranches.memo import Memo

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

SAMPLE = 10_000
"""Items of a catalog that its spread is learnt from."""

CODE_UNIT = np.float32(127.5)
"""Codes a unit of what a linear model over codes sees."""

ROUNDS = 2
"""How often neighbours are looked up anew, each time after the whitening that the ones before gave."""
_LOCAL_SHRINKAGE = 0.3
_BLOCK = 256

_kept: WeakKeyDictionary[Catalog, Memo[Any]] = WeakKeyDictionary()


class Spread(NamedTuple):
    """How the embeddings of a catalog differ: overall, as any two do; local, as nearest neighbours do."""

    overall: Whitening
    local: Whitening


class Whitening:
    """Evens out how far embeddings spread in different directions.

    z = x S with S = s (C + shrinkage m I)^(-1/2): C a covariance, m the mean of its eigenvalues, s such that the mean
    of |z|^2 is that of |x|^2. With C the covariance of all items, what most images of a catalog differ in counts less
    against what only the marked ones share; a model fitted to z with a plain L2 penalty knows the whole catalog, not
    the marks alone (Hariharan, Malik and Ramanan, Discriminative Decorrelation for Clustering and Classification, ECCV
    2012). With C that of differences between items that belong together, cosines of z tell what belongs together
    (relevant component analysis; Bar-Hillel, Hertz, Shental and Weinshall, Learning Distance Functions using
    Equivalence Relations, ICML 2003). After `fit`: matrix_ (D, D) float32, symmetric.
    """

    def __init__(self, *, shrinkage: float = 1.0):
        self.shrinkage = shrinkage

    def fit(self, centred: NDArray[np.float32], differences: NDArray[np.float32] | None = None) -> Self:
        """Learn from centred embeddings, (n, D) float32. Returns self.

        differences: (m, D) float32, what C is the second moment of; without them the embeddings themselves.
        """
        check_array(centred, "centred", dtype=np.float32, shape=(None, None), finite=True)
        if not len(centred) or not centred.shape[1] or self.shrinkage <= 0:
            raise UsageError(f"expected rows to learn from and shrinkage > 0, got {centred.shape} and {self.shrinkage}")
        if differences is not None:
            check_array(differences, "differences", dtype=np.float32, shape=(None, centred.shape[1]), finite=True)
        with one_thread():
            moment = _second_moment(centred)
            values, vectors = np.linalg.eigh(moment if differences is None else _second_moment(differences))
            values = np.maximum(values, 0)
            scales = 1 / np.sqrt(values + self.shrinkage * max(float(values.mean()), 1e-12))
            lengths = ((vectors.T @ moment) * vectors.T).sum(axis=1)
            scales *= np.sqrt(max(float(lengths.sum()), 1e-12) / max(float(scales**2 @ lengths), 1e-12))
            self.matrix_ = ((vectors * scales) @ vectors.T).astype(np.float32)
        return self

    def transform(self, centred: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z, (n, D) float32, of centred embeddings. Weights w over z are weights matrix_ @ w over x."""
        if not hasattr(self, "matrix_"):
            raise NotFittedError("Whitening: call fit before transform")
        check_array(centred, "centred", dtype=np.float32, shape=(None, len(self.matrix_)), finite=True)
        turned: NDArray[np.float32] = centred @ self.matrix_
        return turned


def local_whitening(centred: NDArray[np.float32], start: Whitening) -> Whitening:
    """Return the whitening of the differences between centred rows, (n, D) float32, and their nearest neighbours.

    Neighbours by cosine after `start`, then once more after the whitening they gave: what makes neighbours differ
    counts less then, and more of them belong together. With fewer than two rows it is `start`.
    """
    if len(centred) < 2:
        return start
    whitening = start
    for _ in range(ROUNDS):
        nearest = _nearest(whitening.transform(centred))
        whitening = Whitening(shrinkage=_LOCAL_SHRINKAGE).fit(centred, centred - centred[nearest])
    return whitening


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
    vectors: NDArray[np.float32] = catalog.take(ids).astype(np.float32) / CODE_UNIT
    return vectors


def _memo(catalog: Catalog) -> Memo[Any]:
    return _kept.setdefault(catalog, Memo(2))


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


def _second_moment(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    moment: NDArray[np.float64] = exact.T @ exact / len(exact)
    return moment


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the row nearest to each by cosine, (n,) intp, itself left out; the same whatever the number of cores."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))

    def of_block(start: int) -> NDArray[np.intp]:
        cosines = unit[start : start + _BLOCK] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -2
        nearest: NDArray[np.intp] = cosines.argmax(axis=1)
        return nearest

    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(of_block, range(0, len(unit), _BLOCK))))
