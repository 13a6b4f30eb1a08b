"""Propagation of scores among nearest neighbours: items among high scores score higher, isolated items lower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.threads import one_thread
from gpubranches.errors import ArrayError, NotFittedError, UsageError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Diffusion:
    """Propagates scores over a graph of nearest neighbours: f <- (1 - share) s + share P f, `steps` times from f = s.

    P is a random walk. It connects two vectors if one is among the n_neighbors nearest of the other by cosine (or as
    near as the last of these), with probabilities proportional to max(cosine, .001)^sharpness. A linear model trained
    on few marks gives a direction; the graph shows which items belong together, so a group that the marks reach is
    found whole. Sources: Zhou, Weston, Gretton, Bousquet and Schölkopf, Ranking on Data Manifolds (NIPS 2003); Iscen,
    Tolias, Avrithis, Furon and Chum, Efficient Diffusion on Region Manifolds (CVPR 2017). Here the rows of P sum to
    one, so that scores keep their unit.

    After `fit`: walk_, (n, n) float32 in CSR form. It runs in one thread, so the number of cores does not change the
    graph.
    """

    def __init__(self, *, n_neighbors: int = 10, sharpness: float = 8.0, share: float = 0.7, steps: int = 8):
        self.n_neighbors = n_neighbors
        self.sharpness = sharpness
        self.share = share
        self.steps = steps

    def fit(self, vectors: NDArray[np.float32]) -> Self:
        """Build the graph of vectors, (n, D) float32; time and memory grow with n^2. Returns self."""
        from scipy.sparse import csr_array

        check_array(vectors, "vectors", dtype=np.float32, shape=(None, None), finite=True)
        if self.n_neighbors < 1 or not 0 <= self.share < 1:
            raise UsageError(f"expected n_neighbors >= 1 and share in [0, 1), got {self.n_neighbors} and {self.share}")
        n = len(vectors)
        count = min(self.n_neighbors, n - 1)
        if count < 1:
            self.walk_: csr_array = csr_array(np.eye(n, dtype=np.float32))
            return self
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        with one_thread():
            cosines = (vectors / lengths) @ (vectors / lengths).T
        np.fill_diagonal(cosines, -2)
        farthest = np.partition(cosines, n - count, axis=1)[:, n - count, None]
        rows, nearest = np.nonzero(cosines >= farthest)
        weights = np.maximum(cosines[rows, nearest], np.float32(1e-3)) ** np.float32(self.sharpness)
        graph = csr_array((weights, nearest, np.searchsorted(rows, np.arange(n + 1))), shape=(n, n))
        graph = (graph + graph.T).tocsr()
        self.walk_ = csr_array(graph.multiply(1 / graph.sum(axis=1)[:, None]), dtype=np.float32)
        return self

    def propagate(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Return the propagated scores, float32, of scores (n,) or columns of scores (n, c)."""
        if not hasattr(self, "walk_"):
            raise NotFittedError("Diffusion: call fit before propagate")
        if scores.ndim not in (1, 2) or len(scores) != self.walk_.shape[0]:
            raise ArrayError(f"scores: expected one per vector, {self.walk_.shape[0]}, got shape {scores.shape}")
        own = scores.astype(np.float32)
        share = np.float32(self.share)
        found: NDArray[np.float32] = own
        for _ in range(self.steps):
            found = (1 - share) * own + share * (self.walk_ @ found)
        return found
