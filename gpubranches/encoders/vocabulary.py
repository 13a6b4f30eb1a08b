"""Text embeddings from files with their names, for catalogs whose model is not available."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import open_npy, unit
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import is_text, parse_json
from gpubranches.errors import CatalogFormatError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


_ARTICLES = ("a", "an", "the")
_PLURALS = {"men": "man", "women": "woman", "people": "person", "children": "child", "mice": "mouse", "geese": "goose",
            "feet": "foot", "teeth": "tooth", "leaves": "leaf", "knives": "knife", "wolves": "wolf"}  # fmt: skip
_MEANT = 0.6
"""The least similarity, by `difflib`, of a name that a text may mean: motorcycle for motorbike has .63."""
_LONGEST_NAME = 100
"""Letters of a text that are compared with the names; the time grows with their square."""


class VocabularyEmbedder:
    """Looks up the embeddings of names. names: in the order of the file; text_mean: the mean of all embeddings."""

    reads_images = False
    reads_texts = True

    def __init__(self, embeddings: NDArray[np.float32], names: list[str], spec: str = ""):
        """Store embeddings, (m, D), scaled to unit length, and their m names; the first of equal names counts."""
        self._unit = unit(embeddings).astype(np.float32)
        self.names = names
        self.spec = spec
        self.text_mean: NDArray[np.float32] = self._unit.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.identity = f"vocabulary:{digest(self._unit)}"
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            self._rows.setdefault(plain_name(name), row)
        self._bare: dict[str, int] = {}
        for name, row in self._rows.items():
            self._bare.setdefault(bare_name(name), row)

    @classmethod
    def load(cls, embeddings: str | Path, names: str | Path) -> VocabularyEmbedder:
        """Read a .npy of text embeddings, (m, D) float16 or float32, and a JSON list of their m names.

        Raises CatalogFormatError that names a file with other content.
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
            raise CatalogFormatError(f"{names}: expected {len(array)} names, one per embedding, got {len(words)}")
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
        """Return unit embeddings of texts, (q, D) float32.

        A text gets the embedding of the name equal to it, else of the first name that begins with it. Case, a leading
        article and the plural are ignored, and "_" equals a space. Raises UnknownNameError with
        suggestions if there is no such name.
        """
        rows: NDArray[np.float32] = self._unit[[self._row(text) for text in texts]]
        return rows

    def knows(self, text: str) -> bool:
        """Return whether a text is one of the names."""
        return plain_name(text) in self._rows

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Raise UsageError, because there is no model."""
        raise UsageError("an image needs a model, but a vocabulary has only texts; pass --embedder open_clip:...")

    def preprocess(self, image: Image) -> Any:
        """Raise UsageError, because there is no model."""
        return self.images([image])

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Raise UsageError, because there is no model."""
        return self.images(prepared)

    def _row(self, text: str) -> int:
        wanted = plain_name(text)
        if wanted in self._rows:
            return self._rows[wanted]
        if bare_name(wanted) in self._bare:
            return self._bare[bare_name(wanted)]
        beginning = [name for name in self._rows if wanted and name.startswith(wanted)]
        if beginning:
            return self._rows[min(beginning, key=self._rows.__getitem__)]
        sought = bare_name(wanted)[:_LONGEST_NAME]
        near = difflib.get_close_matches(sought, self._bare, n=5, cutoff=0.5)
        alike = bool(near) and difflib.SequenceMatcher(None, near[0], sought).ratio() >= _MEANT
        near = [plain_name(self.names[self._bare[name]]) for name in near]
        near += [name for name in self._rows if sought and sought in name][:5]
        near = list(dict.fromkeys(near))
        hint = f"perhaps {', '.join(near)}" if near else f"such as {', '.join(self.names[:5])}"
        raise UnknownNameError(
            f"text: expected one of the {len(self.names):,} names that are known here, got {text!r:.80}; {hint}",
            text,
            len(self.names),
            tuple(near),
            near[0] if alike else "",
        )


def bare_name(name: str) -> str:
    """Return a plain name without an article, with its last word in the singular as far as the ending shows."""
    words = name.split()
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    if words:
        words[-1] = _singular(words[-1])
    return " ".join(words)


def _singular(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def plain_name(name: str) -> str:
    """Return a name normalised for comparison: lower case, "_" as a space, single spaces."""
    return " ".join(name.replace("_", " ").lower().split())
