"""Whitening: embeddings scaled to the same variance in all directions, before comparisons and training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array, unit
from gpubranches.core.threads import one_thread
from gpubranches.errors import NotFittedError, UsageError

SAMPLE = 10_000
"""Items whose nearest neighbours are searched."""

ROUNDS = 2
"""How often neighbours are searched, each time after the whitening that the previous neighbours gave."""
_LOCAL_SHRINKAGE = 0.3
_BLOCK = 256


class Whitening:
    """Scales embeddings so that they have the same variance in all directions.

    z = x S with S = s (C + shrinkage m I)^(-1/2): C a covariance, m the mean of its eigenvalues, s such that the mean
    of |z|^2 equals that of |x|^2. With C the covariance of all items, directions in which most images of a catalog
    differ count less than those that only the marked images share; a model fitted to z with a plain L2 penalty then
    uses the statistics of the whole catalog, not of the marks alone (Hariharan, Malik and Ramanan, Discriminative
    Decorrelation for Clustering and Classification, ECCV 2012). With C the covariance of differences between items that
    belong together, the cosine of two z measures whether the items belong together (relevant component analysis;
    Bar-Hillel, Hertz, Shental and Weinshall, Learning Distance Functions using Equivalence Relations, ICML 2003).
    parts: the dims of embeddings by several models; each part is whitened by its own covariance. After `fit`: matrix_
    (D, D) float32, symmetric unless `scaled`.
    """

    def __init__(self, *, shrinkage: float = 1.0, parts: Sequence[slice] = (slice(None),)):
        self.shrinkage = shrinkage
        self.parts = parts

    def fit(self, centred: NDArray[np.float32], differences: NDArray[np.float32] | None = None) -> Self:
        """Learn from centred embeddings, (n, D) float32. Returns self.

        differences: (m, D) float32, whose second moment is C; None: C is that of the embeddings.
        """
        check_array(centred, "centred", dtype=np.float32, shape=(None, None), finite=True)
        if not len(centred) or not centred.shape[1] or self.shrinkage <= 0:
            raise UsageError(f"expected rows to learn from and shrinkage > 0, got {centred.shape} and {self.shrinkage}")
        if differences is not None:
            check_array(differences, "differences", dtype=np.float32, shape=(None, centred.shape[1]), finite=True)
        matrices = [
            self._fit_part(centred[:, part], None if differences is None else differences[:, part])
            for part in self.parts
        ]
        self.matrix_ = matrices[0]
        if len(matrices) > 1:
            self.matrix_ = np.zeros((centred.shape[1], centred.shape[1]), np.float32)
            for part, matrix in zip(self.parts, matrices, strict=True):
                self.matrix_[part, part] = matrix
        return self

    def _fit_part(self, centred: NDArray[np.float32], differences: NDArray[np.float32] | None) -> NDArray[np.float32]:
        with one_thread():
            moment = _second_moment(centred)
            values, vectors = np.linalg.eigh(moment if differences is None else _second_moment(differences))
            values = np.maximum(values, 0)
            scales = 1 / np.sqrt(values + self.shrinkage * max(float(values.mean()), 1e-12))
            lengths = ((vectors.T @ moment) * vectors.T).sum(axis=1)
            scales *= np.sqrt(max(float(lengths.sum()), 1e-12) / max(float(scales**2 @ lengths), 1e-12))
            matrix: NDArray[np.float32] = ((vectors * scales) @ vectors.T).astype(np.float32)
        return matrix

    def transform(self, centred: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z, (n, D) float32, of centred embeddings. Weights w over z are weights matrix_ @ w over x."""
        if not hasattr(self, "matrix_"):
            raise NotFittedError("Whitening: call fit before transform")
        check_array(centred, "centred", dtype=np.float32, shape=(None, len(self.matrix_)), finite=True)
        turned: NDArray[np.float32] = centred @ self.matrix_
        return turned

    def scaled(self, scales: NDArray[np.float32]) -> Whitening:
        """Return this whitening followed by a scale for each dim, (D,) float32."""
        found = Whitening(shrinkage=self.shrinkage, parts=self.parts)
        found.matrix_ = self.matrix_ * scales
        return found


def local_whitening(centred: NDArray[np.float32], start: Whitening) -> Whitening:
    """Return the whitening of the differences between centred rows, (n, D) float32, and their nearest neighbours.

    Neighbours are found by cosine after the whitening `start`, and then again after the resulting whitening. Directions
    in which neighbours differ then count less, and more of the neighbours belong together. With fewer than two rows the
    result is `start`.
    """
    if len(centred) < 2:
        return start
    whitening = start
    for _ in range(ROUNDS):
        nearest = _nearest(whitening.transform(centred))
        whitening = Whitening(shrinkage=_LOCAL_SHRINKAGE, parts=start.parts).fit(centred, centred - centred[nearest])
    return whitening


def _second_moment(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    moment: NDArray[np.float64] = exact.T @ exact / len(exact)
    return moment


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the nearest other row of each row by cosine, (n,) intp; it does not depend on the number of cores."""
    directions = unit(vectors)

    def of_block(start: int) -> NDArray[np.intp]:
        cosines = directions[start : start + _BLOCK] @ directions.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -2
        nearest: NDArray[np.intp] = cosines.argmax(axis=1)
        return nearest

    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(of_block, range(0, len(directions), _BLOCK))))
