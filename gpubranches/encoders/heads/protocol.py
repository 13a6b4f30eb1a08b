"""The protocol of heads, and the common part of those that are fitted to any embeddings."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError


class Head(Protocol):
    """Maps embeddings, (n, D) float32, to vectors, (n, d) float32."""

    @property
    def identity(self) -> str:
        """Digest of kind and weights, for EmbeddingSpace."""
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
        """Identity of the embedder that it was trained for, "" if it accepts embeddings of any."""
        ...

    @property
    def learned_texts(self) -> tuple[str, ...]:
        """Texts that it was trained on, which an evaluation must leave out."""
        ...

    @property
    def code_range(self) -> tuple[float, float] | None:
        """Range of its vectors that the codes cover; None: it is fitted to a sample."""
        ...

    @property
    def default_quantizer(self) -> str:
        """Name of the default quantizer of its vectors, see `scalar_quantizer`."""
        ...

    @property
    def has_text_tower(self) -> bool:
        """Whether it has a tower for texts, see `transform_texts`."""
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
        """Whether it has a decoder, see `inverse_transform`."""
        ...

    def inverse_transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return approximate unit embeddings, (n, D) float32, of vectors, (n, d). UsageError unless `decodes`."""
        ...

    def to_bytes(self) -> bytes:
        """Return the content of head.safetensors."""
        ...


class TextlessHead:
    """The part of heads that accept embeddings of any model and have neither a text tower nor a decoder."""

    kind: str
    code_range: tuple[float, float] | None = None
    default_quantizer = "uniform"
    has_text_tower = False
    decodes = False
    embedder = ""
    learned_texts: tuple[str, ...] = ()

    def transform_texts(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raise UsageError, because there is no text tower."""
        raise UsageError(f"head {self.kind}: it has no tower for texts; train-head makes one, encode uses it")

    def inverse_transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raise UsageError, because there is no decoder."""
        raise UsageError(f"head {self.kind}: it has no decoder; train-head makes one, encode uses it")
