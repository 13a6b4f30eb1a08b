"""Embedders: texts and images to unit vectors of one space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.vocabulary import VocabularyEmbedder
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Embedder", "VocabularyEmbedder", "open_embedder"]


class Embedder(Protocol):
    """Turns texts and images into embeddings.

    identity: digest of the model, for EmbeddingSpace; D: embedding dims; spec: the text that `open_embedder` opens it
    by; text_mean: (D,) float32, the mean of the unit text embeddings of many names; training_texts: texts like those
    that users ask for, to train a head with, or none; reads_images: whether it embeds pictures.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def D(self) -> int: ...  # noqa: D102
    @property
    def spec(self) -> str: ...  # noqa: D102
    @property
    def text_mean(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def training_texts(self) -> list[str]: ...  # noqa: D102
    @property
    def reads_images(self) -> bool: ...  # noqa: D102

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit embeddings, (q, D) float32. Raises UsageError for a text it cannot embed."""
        ...

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Return unit embeddings, (m, D) float32, of RGB pictures: `encode` of each one's `preprocess`."""
        ...

    def preprocess(self, image: Image) -> Any:
        """Prepare one RGB picture for `encode`; safe to call from worker threads."""
        ...

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit embeddings, (m, D) float32, of prepared pictures."""
        ...


def open_embedder(spec: str, *, device: str = "auto") -> Embedder:
    """Open an embedder by its spec.

    "open_clip:MODEL/PRETRAINED" or "open_clip:MODEL,FILE" (.pt, .safetensors); "vocabulary:TEXT_EMB.npy,NAMES.json";
    "demo". device: "auto", "cpu" or "cuda". Raises UsageError for another spec, BackendUnavailableError without
    the packages it needs.
    """
    kind, _, rest = spec.partition(":")
    if kind == "demo" and not rest:
        from gpubranches.encoders.demo import DemoEmbedder

        return DemoEmbedder(device)
    if kind == "vocabulary" and rest.count(",") == 1:
        return VocabularyEmbedder.load(*rest.split(","))
    if kind == "open_clip" and rest:
        from gpubranches.encoders.open_clip import OpenClipEmbedder

        return OpenClipEmbedder.load(rest, device=device)
    raise UsageError(
        "embedder: expected open_clip:MODEL/PRETRAINED, open_clip:MODEL,FILE, "
        f"vocabulary:TEXT_EMB.npy,NAMES.json or demo, got {spec!r}"
    )
