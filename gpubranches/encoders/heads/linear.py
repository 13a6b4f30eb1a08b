"""The linear heads: principal component analysis, and relevant component analysis of nearest neighbours."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gpubranches.core.arrays import check_array, unit
from gpubranches.core.embedding_space import digest
from gpubranches.core.threads import one_thread
from gpubranches.core.whitening import SAMPLE, Whitening, local_whitening
from gpubranches.encoders.heads.protocol import TextlessHead
from gpubranches.errors import NotFittedError, UsageError


class PCAHead(TextlessHead):
    """The d principal dims of the centred embeddings, scaled to unit length.

    d: wanted code dims; with fewer embedding dims or rows than d, the largest multiple of 4 that fits. After `fit`:
    mean_ (D,) float32; components_ (d, D) float32 with orthonormal rows, the largest entry of each positive.
    """

    kind = "pca"
    code_range = (-1.0, 1.0)

    def __init__(self, d: int = 32):
        self._wanted = d

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn from embeddings, (n, D) float32, D >= 4. Returns self."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, None), finite=True)
        dims = embeddings.shape[1]
        if self._wanted % 4 or self._wanted < 4:
            raise UsageError(f"d: expected a multiple of 4, got {self._wanted}")
        if dims < 4 or len(embeddings) == 0:
            raise UsageError(f"embeddings: expected at least one row of 4 dims or more, got {embeddings.shape}")
        d = min(self._wanted, dims) // 4 * 4
        mean = embeddings.mean(axis=0, dtype=np.float64)
        turn = self._turn(embeddings, mean.astype(np.float32))
        centred = embeddings.astype(np.float64)
        centred -= mean
        with one_thread():
            _, vectors = np.linalg.eigh(turn.T @ (centred.T @ centred) @ turn)
            components = vectors[:, ::-1][:, :d].T @ turn.T
        largest = np.abs(components).argmax(axis=1)
        components = components * np.sign(components[np.arange(d), largest])[:, None]
        self.mean_ = mean.astype(np.float32)
        self.components_ = np.ascontiguousarray(components, np.float32)
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors, (n, d) float32; an embedding at the mean gives zeros."""
        self._fitted()
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, len(self.mean_)))
        projected = (embeddings - self.mean_) @ self.components_.T
        return unit(projected)

    @property
    def D(self) -> int:
        """Embedding dims."""
        self._fitted()
        return len(self.mean_)

    @property
    def d(self) -> int:
        """Code dims."""
        self._fitted()
        return len(self.components_)

    @property
    def identity(self) -> str:
        """Digest of mean and components."""
        self._fitted()
        return f"{self.kind}:{digest(self.mean_, self.components_)}"

    def to_bytes(self) -> bytes:
        """Return mean and components as safetensors."""
        self._fitted()
        content: bytes = save({"mean": self.mean_, "components": self.components_}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> Self:
        """Return the head of the tensors that `to_bytes` wrote. Raises ArrayError if they do not fit together."""
        mean = check_array(tensors["mean"], "mean", dtype=np.float32, shape=(None,), finite=True)
        rows = tensors["components"]
        head = cls(len(rows))
        head.mean_ = mean
        head.components_ = check_array(rows, "components", dtype=np.float32, shape=(None, len(mean)), finite=True)
        return head

    def _turn(self, embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the matrix by which centred embeddings are multiplied first, (D, D)."""
        return np.eye(len(mean))

    def _fitted(self) -> None:
        if not hasattr(self, "components_"):
            raise NotFittedError(f"{type(self).__name__}: call fit before transform")


class RCAHead(PCAHead):
    """The d dims with the largest variance of items relative to that of nearest neighbours, scaled to unit length.

    Relevant component analysis with fewer dims (Bar-Hillel, Hertz, Shental and Weinshall, Learning Distance Functions
    using Equivalence Relations, ICML 2003), nearest neighbours in place of items that a person grouped: the
    principal dims after `local_whitening`. Principal dims alone are those of the largest variance, even if it is
    between images of the same thing; `benchmarks.codes` compares both. After `fit`: mean_ (D,) and components_ (d, D)
    float32, whose rows are neither orthogonal nor of one length.
    """

    kind = "rca"
    default_quantizer = "quantile"

    def _turn(self, embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = np.linspace(0, len(embeddings) - 1, min(len(embeddings), SAMPLE)).round().astype(np.int64)
        sample = embeddings[rows] - mean
        turn: NDArray[np.float64] = local_whitening(sample, Whitening().fit(sample)).matrix_.astype(np.float64)
        return turn
