"""Text embeddings that are at hand with their names, for catalogs whose model is not."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import open_npy
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import is_text, parse_json
from gpubranches.errors import CatalogFormatError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


class VocabularyEmbedder:
    """Answers the texts it has an embedding for. names: in the file's order; text_mean: of all of them."""

    reads_images = False

    def __init__(self, embeddings: NDArray[np.float32], names: list[str], spec: str = ""):
        """embeddings: (m, D), scaled to unit rows; names: m of them, the first of equal names counts."""
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        self._unit = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
        self.names = names
        self.spec = spec
        self.text_mean: NDArray[np.float32] = self._unit.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.identity = f"vocabulary:{digest(self._unit)}"
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            self._rows.setdefault(plain_name(name), row)

    @classmethod
    def load(cls, embeddings: str | Path, names: str | Path) -> VocabularyEmbedder:
        """Read a .npy of text embeddings, (m, D) float16 or float32, and a JSON list of their m names.

        Raises CatalogFormatError naming the file that is not as expected.
        """
        array = open_npy(Path(embeddings))
        try:
            words = parse_json(Path(names).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CatalogFormatError(f"{names}: expected a JSON list of names: {error}") from error
        if not isinstance(words, list) or not all(isinstance(word, str) and is_text(word) for word in words):
            raise CatalogFormatError(f"{names}: expected a JSON list of strings, got {type(words).__name__}")
        if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
            raise CatalogFormatError(
                f"{embeddings}: expected floats of shape (m, D), got {array.dtype} of {array.shape}"
            )
        if len(words) != len(array):
            raise CatalogFormatError(f"{names}: expected {len(array)} names, one an embedding, got {len(words)}")
        if not np.isfinite(array).all():
            raise CatalogFormatError(f"{embeddings}: expected finite numbers, got NaN or infinity")
        spec = f"vocabulary:{Path(embeddings).resolve()},{Path(names).resolve()}"
        return cls(array.astype(np.float32), words, spec)

    @property
    def D(self) -> int:
        """Embedding dims."""
        return int(self._unit.shape[1])

    @property
    def training_texts(self) -> list[str]:
        """The names."""
        return self.names

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit embeddings, (q, D) float32: the name itself, else the first name that begins so.

        Case does not count, "_" reads as space. Raises UsageError with suggestions if there is none.
        """
        rows: NDArray[np.float32] = self._unit[[self._row(text) for text in texts]]
        return rows

    def knows(self, text: str) -> bool:
        """Tell whether a text is one of the names."""
        return plain_name(text) in self._rows

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Raise UsageError: there is no model here."""
        raise UsageError("an image needs a model, the vocabulary has texts only; pass --embedder open_clip:...")

    def preprocess(self, image: Image) -> Any:
        """Raise UsageError: there is no model here."""
        return self.images([image])

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Raise UsageError: there is no model here."""
        return self.images(prepared)

    def _row(self, text: str) -> int:
        wanted = plain_name(text)
        if wanted in self._rows:
            return self._rows[wanted]
        beginning = [name for name in self._rows if wanted and name.startswith(wanted)]
        if beginning:
            return self._rows[min(beginning, key=self._rows.__getitem__)]
        near = difflib.get_close_matches(wanted, self._rows, n=5, cutoff=0.5)
        near += [name for name in self._rows if wanted and wanted in name][:5]
        hint = f"perhaps {', '.join(dict.fromkeys(near))}" if near else f"such as {', '.join(self.names[:5])}"
        raise UsageError(
            f"text: expected one of the {len(self.names):,} names that are known here, got {text!r}; {hint}"
        )


def plain_name(name: str) -> str:
    """Return a name as it is compared: lower case, "_" as space, single spaces."""
    return " ".join(name.replace("_", " ").lower().split())
