"""Scores evened out among neighbours: what lies among likely items becomes likelier, what stands alone less so."""

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
    """Spreads scores over a graph of nearest neighbours.

    f <- (1 - share) s + share P f, `steps` times from f = s. P: a random walk between vectors that are among each
    other's or either's n_neighbors nearest by cosine (and those as near as the last of them), with probabilities in
    proportion to max(cosine, .001)^sharpness.
    A linear model trained on a few marks knows a direction; the graph knows which items belong together, so a group
    that the marks reach is found whole. Sources: Zhou, Weston, Gretton, Bousquet and Schölkopf, Ranking on Data
    Manifolds (NIPS 2003); Iscen, Tolias, Avrithis, Furon and Chum, Efficient Diffusion on Region Manifolds (CVPR 2017);
    here the rows of P sum to one, so that scores keep their unit.

    After `fit`: walk_, (n, n) float32 in CSR form. In one thread, so the same vectors give the same graph whatever the
    number of cores.
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
        """Return the scores spread, float32, of scores (n,) or columns of scores (n, c)."""
        if not hasattr(self, "walk_"):
            raise NotFittedError("Diffusion: call fit before propagate")
        if scores.ndim not in (1, 2) or len(scores) != self.walk_.shape[0]:
            raise ArrayError(f"scores: expected one a vector, {self.walk_.shape[0]}, got shape {scores.shape}")
        own = scores.astype(np.float32)
        share = np.float32(self.share)
        spread = own
        for _ in range(self.steps):
            spread = (1 - share) * own + share * (self.walk_ @ spread)
        result: NDArray[np.float32] = spread
        return result
