"""What every head is."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Head(Protocol):
    """Maps embeddings, (n, D) float32, to vectors, (n, d) float32."""

    @property
    def identity(self) -> str:
        """Digest of what it is, for EmbeddingSpace."""
        ...

    @property
    def D(self) -> int:
        """Embedding dims after `fit`."""
        ...

    @property
    def d(self) -> int:
        """Code dims after `fit`."""
        ...

    @property
    def embedder(self) -> str:
        """Identity of what made the embeddings it takes, "" where any will do."""
        ...

    @property
    def learned_texts(self) -> tuple[str, ...]:
        """Texts it was trained on, which tell nothing of how it does on others."""
        ...

    @property
    def code_range(self) -> tuple[float, float] | None:
        """Range of its vectors that the codes cover; None: to be learned from a sample."""
        ...

    @property
    def default_quantizer(self) -> str:
        """Name of the quantizer, see `scalar_quantizer`, that serves its vectors best."""
        ...

    @property
    def has_text_tower(self) -> bool:
        """Whether it maps texts by a tower of their own, `transform_texts`."""
        ...

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn from a sample, (n, D) float32."""
        ...

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, (n, d) float32."""
        ...

    def transform_texts(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, (q, d) float32, of text embeddings, (q, D) float32. UsageError unless `has_text_tower`."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether it gives embeddings back from vectors, `inverse_transform`."""
        ...

    def inverse_transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit embeddings, (n, D) float32, like those of vectors, (n, d). UsageError unless `decodes`."""
        ...

    def to_bytes(self) -> bytes:
        """Return the content of head.safetensors."""
        ...
