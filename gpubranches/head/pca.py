"""PCA: the simplest head."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gpubranches.arrays import check_array
from gpubranches.errors import NotFittedError, UsageError
from gpubranches.space import digest


class PCAHead:
    """The d principal dims of the centred embeddings, scaled to unit length.

    d: wanted code dims; with fewer embedding dims or rows than d, the largest multiple of 4 that fits. After `fit`:
    mean_ (D,) float32; components_ (d, D) float32 with orthonormal rows, the largest entry of each positive.
    """

    kind = "pca"
    code_range = (-1.0, 1.0)
    reads_texts = False
    embedder = ""
    learned_texts = ()

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
        centred = embeddings.astype(np.float64) - mean
        _, vectors = np.linalg.eigh(centred.T @ centred)
        components = vectors[:, ::-1][:, :d].T
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
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        vectors: NDArray[np.float32] = projected / np.maximum(lengths, np.float32(1e-12))
        return vectors

    def transform_texts(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raise UsageError: principal dims know images only."""
        raise UsageError("head pca: it has no tower for texts; train-head makes one, encode uses it")

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
        return f"pca:{digest(self.mean_, self.components_)}"

    def to_bytes(self) -> bytes:
        """Return mean and components as safetensors."""
        self._fitted()
        content: bytes = save({"mean": self.mean_, "components": self.components_}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> PCAHead:
        """Return the head of the tensors that `to_bytes` wrote. Raises ArrayError if they do not fit together."""
        mean = check_array(tensors["mean"], "mean", dtype=np.float32, shape=(None,), finite=True)
        rows = tensors["components"]
        head = cls(len(rows))
        head.mean_ = mean
        head.components_ = check_array(rows, "components", dtype=np.float32, shape=(None, len(mean)), finite=True)
        return head

    def _fitted(self) -> None:
        if not hasattr(self, "components_"):
            raise NotFittedError("PCAHead: call fit before transform")
