"""The protocols of models: `Encoder`, which a package can implement, and `Embedder`, which the program uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


BATCH_SIZE = 64
"""Pictures that are embedded together if an encoder has no `batch_size`."""


class Encoder(Protocol):
    """A model that embeds pictures, and optionally texts, into one space of `dim` dims.

    A package only has to implement this protocol to add its own model; see docs/encoders.md. `ModelEmbedder` turns it
    into an `Embedder`, with unit rows, checks and the mean of texts. All methods are called from several threads.

    A model that also embeds texts has a method `texts(texts: list[str])`, which returns (q, dim) floats. A model of
    pictures alone has no such method, or has None in its place. A model may have `batch_size`, the best number of
    pictures to embed at a time.

    name: short, for messages; identity: a digest of the weights, the configuration and the preprocessing. Equal
    identities promise equal embeddings: a catalog refuses a model with another identity.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102

    def preprocess(self, image: Image) -> Any:
        """Return the model's input for one RGB picture. Many inputs are kept in memory, so they should be small."""
        ...

    def images(self, batch: list[Any]) -> NDArray[np.floating[Any]]:
        """Return embeddings of any length, (m, dim) floats, of m >= 1 results of `preprocess`."""
        ...


class Embedder(Protocol):
    """Turns texts and images into unit embeddings.

    identity: digest of the model, for EmbeddingSpace; D: embedding dims; spec: the text that `open_embedder` opens it
    by; text_mean: (D,) float32, the mean of the unit text embeddings of many names, None if it reads no texts;
    training_texts: texts like those of users, to train a head with, or none; reads_images, reads_texts: whether it
    embeds pictures and texts.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def D(self) -> int: ...  # noqa: D102
    @property
    def spec(self) -> str: ...  # noqa: D102
    @property
    def text_mean(self) -> NDArray[np.float32] | None: ...  # noqa: D102
    @property
    def training_texts(self) -> list[str]: ...  # noqa: D102
    @property
    def reads_images(self) -> bool: ...  # noqa: D102
    @property
    def reads_texts(self) -> bool: ...  # noqa: D102

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
        """Return unit embeddings, (m, D) float32, of prepared pictures; safe to call from several threads."""
        ...
