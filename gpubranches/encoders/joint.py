"""Two models as one embedder: the embedding of an item holds an embedding by each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.files import parse_json
from gpubranches.encoders.protocol import BATCH_SIZE, Embedder
from gpubranches.encoders.quantizers import MAX_BITS
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
_SHARE = np.float32(0.5**0.5)


class JointEmbedder:
    """Embeds by two models and joins their unit embeddings, each divided by the root of two.

    So the dot of two joint embeddings is the mean of the models' cosines. A model that reads no texts has zeros in the
    embedding of a text. identity, spec: those of the models as a JSON list, see `joined`; D: the sum of their dims;
    batch_size: the smallest of theirs. Raises UsageError unless there are two different models of 2,048 dims together
    at most.
    """

    def __init__(self, embedders: Sequence[Embedder]):
        require_two(embedders)
        if embedders[0].identity == embedders[1].identity:
            raise UsageError(f"embedder: expected two different models, got {embedders[0].spec} twice; name it once")
        self.embedders = tuple(embedders)
        self.spec = joined([each.spec for each in embedders])
        self.identity = joined([each.identity for each in embedders])
        self.D = sum(each.D for each in embedders)
        if self.D > MAX_BITS:
            dims = " and ".join(f"{each.D:,}" for each in embedders)
            raise UsageError(
                f"embedder: expected two models of {MAX_BITS:,} dims together at most, got {dims}; choose smaller ones"
            )
        self.batch_size: int = min(getattr(each, "batch_size", BATCH_SIZE) for each in embedders)

    @property
    def reads_images(self) -> bool:
        """Whether all models embed pictures."""
        return all(each.reads_images for each in self.embedders)

    @property
    def reads_texts(self) -> bool:
        """Whether at least one model embeds texts."""
        return any(each.reads_texts for each in self.embedders)

    @property
    def training_texts(self) -> list[str]:
        """The training texts of the first model that reads texts; none for models of pictures alone."""
        return next((each.training_texts for each in self.embedders if each.reads_texts), [])

    @property
    def text_mean(self) -> NDArray[np.float32] | None:
        """The means of texts of the models, (D,) float32, zeros for a model of pictures; None if no model has one."""
        means = [each.text_mean for each in self.embedders]
        if all(mean is None for mean in means):
            return None
        parts = zip(self.embedders, means, strict=True)
        return _joined_rows([np.zeros(each.D, np.float32) if mean is None else mean for each, mean in parts])

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings, (q, D) float32; of unit length if all models read texts. Raises UsageError if none does.

        A text that one of the models cannot embed raises that model's UsageError.
        """
        if not self.reads_texts:
            raise UsageError("text: the models read pictures only; search by a picture or by an item such as #17")
        return _joined_rows(
            [
                each.texts(texts) if each.reads_texts else np.zeros((len(texts), each.D), np.float32)
                for each in self.embedders
            ]
        )

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Return unit embeddings of RGB pictures, (m, D) float32."""
        return self.encode([self.preprocess(image) for image in images])

    def preprocess(self, image: Image) -> tuple[Any, ...]:
        """Return the inputs of all models for one picture, which is decoded once."""
        return tuple(each.preprocess(image) for each in self.embedders)

    def encode(self, prepared: list[tuple[Any, ...]]) -> NDArray[np.float32]:
        """Return unit embeddings, (m, D) float32, of prepared pictures; one model runs after the other."""
        rows = [each.encode([inputs[at] for inputs in prepared]) for at, each in enumerate(self.embedders)]
        return _joined_rows(rows)


def require_two(models: Sequence[object]) -> None:
    """Raise UsageError unless there are two models or specs."""
    if len(models) != 2:
        raise UsageError(f"embedder: expected one model or two, got {len(models)}; leave the others out")


def part_dims(embedder: Embedder | None) -> tuple[int, ...]:
    """Return the dims of each model of a joint embedder, in their order; () for one model or none."""
    return tuple(each.D for each in embedder.embedders) if isinstance(embedder, JointEmbedder) else ()


def joined(texts: Sequence[str]) -> str:
    """Return specs or identities as one text: a single one as it is, several as a JSON list. The inverse of `split`."""
    return texts[0] if len(texts) == 1 else json.dumps(list(texts), ensure_ascii=False)


def split(text: str) -> list[str]:
    """Return the specs or identities in a text, which is one of them, or a JSON list. Raises UsageError for another."""
    if not text.startswith("["):
        return [text]
    try:
        found = parse_json(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) and each[:1] != "[" for each in found):
        raise UsageError(f"embedder: expected the spec of a model, or a JSON list of two, got {text!r:.80}")
    return found


def _joined_rows(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    whole: NDArray[np.float32] = np.concatenate(parts, axis=-1) * _SHARE
    return whole
