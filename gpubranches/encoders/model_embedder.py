"""An `Embedder` made of any `Encoder`: it checks and normalises rows, and computes the mean of texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import unit
from gpubranches.encoders.protocol import BATCH_SIZE, Encoder
from gpubranches.errors import DataError, GpuBranchesError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

_NOUNS = Path(__file__).with_name("nouns.txt")
_TEXTS_AT_ONCE = 512
MOST_RATIO = 100
"""The longest picture that a model is given, in lengths of its shorter side; of a longer one it gets the middle."""
Given = TypeVar("Given")
Result = TypeVar("Result")


class ModelEmbedder:
    """Turns an encoder into an embedder.

    encoder: the model; spec: the text that opens it; kind: the word before the colon of the spec, with which identities
    begin. batch_size: the best number of pictures to embed at a time. text_mean: (D,) float32, the mean of the unit
    embeddings of "a photo of a {noun}" over the nouns of nouns.txt; computed on first use. Raises DataError for an
    encoder without dims or identity.
    """

    reads_images = True

    def __init__(self, encoder: Encoder, spec: str, kind: str):
        self.encoder = encoder
        self.spec = spec
        dim, identity = getattr(encoder, "dim", None), getattr(encoder, "identity", None)
        if not isinstance(dim, int) or dim < 1 or not isinstance(identity, str) or not identity:
            raise DataError(
                f"{spec}: expected an encoder with a positive int `dim` and a text `identity`, got {dim!r} and "
                f"{identity!r}; see docs/encoders.md"
            )
        self.D = dim
        self.identity = f"{kind}:{identity}"
        self.batch_size: int = getattr(encoder, "batch_size", BATCH_SIZE)
        self._texts = getattr(encoder, "texts", None)

    @property
    def reads_texts(self) -> bool:
        """Whether it embeds texts."""
        return self._texts is not None

    @property
    def training_texts(self) -> list[str]:
        """The texts "a photo of a {noun}", one for each noun; none for a model of pictures alone."""
        return [f"a photo of a {noun}" for noun in nouns()] if self.reads_texts else []

    @cached_property
    def text_mean(self) -> NDArray[np.float32] | None:
        """The mean, (D,) float32, of the embeddings of `training_texts`; None for a model of pictures alone."""
        return self.texts(self.training_texts).mean(axis=0) if self.reads_texts else None

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit embeddings of texts, (q, D) float32; long texts are truncated to the model's context.

        Raises UsageError for a model of pictures alone.
        """
        if self._texts is None:
            raise UsageError(
                f"text: the model {self.encoder.name} reads pictures only; search by a picture or by an item such as "
                "#17, and mark what is right"
            )
        parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        rows = [self._unit(self._asked(self._texts, part, "texts"), len(part), "text") for part in parts]
        return np.concatenate(rows) if rows else np.zeros((0, self.D), np.float32)

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Return unit embeddings of RGB pictures, (m, D) float32."""
        return self.encode([self.preprocess(image) for image in images])

    def preprocess(self, image: Image) -> Any:
        """Return the model's input for one picture, of one that is longer than `MOST_RATIO` widths of its middle."""
        return self._asked(self.encoder.preprocess, _middle(image), "the picture")

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit embeddings, (m, D) float32, of preprocessed pictures.

        Raises DataError unless the encoder returns m finite rows of D dims.
        """
        if not prepared:
            return np.zeros((0, self.D), np.float32)
        return self._unit(self._asked(self.encoder.images, prepared, "pictures"), len(prepared), "picture")

    def _asked(self, call: Callable[[Given], Result], given: Given, what: str) -> Result:
        """Return what a method of the encoder returns; the errors of its libraries become a DataError."""
        try:
            return call(given)
        except GpuBranchesError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise DataError(
                f"{self.spec}: the model cannot embed {what} ({type(error).__name__}: {reason}); its files are "
                "damaged, or do not belong together"
            ) from error

    def _unit(self, rows: Any, count: int, what: str) -> NDArray[np.float32]:
        array = np.asarray(rows, np.float32)
        if array.shape != (count, self.D) or not np.isfinite(array).all():
            got = f"{array.shape}" if array.shape != (count, self.D) else "NaN or infinity"
            raise DataError(
                f"{self.spec}: expected {self.D} finite numbers for each of {count} {what}s, got {got}; the model's "
                "files are damaged, or do not belong together"
            )
        return unit(array)


def _middle(image: Image) -> Image:
    """Return a picture, or the middle of one with extreme sides: models first scale the shorter side to their input."""
    most = MOST_RATIO * min(image.size)
    if max(image.size) <= most:
        return image
    width, height = (min(side, most) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def nouns() -> list[str]:
    """Return common nouns; the mean of their embeddings is the text mean."""
    return _NOUNS.read_text(encoding="utf-8").split("\n")[:-1]
