"""The search task that codecs are measured on: rows to fit, a base to search, queries, and classes with a name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.core.arrays import unit
from gpubranches.encoders import Embedder, VocabularyEmbedder
from gpubranches.encoders.holdout import split
from gpubranches.encoders.vocabulary import plain_name
from gpubranches.errors import UsageError
from gpubranches.research.quality.concepts import Concept

FEWEST_ROWS = 120
"""The least number of items of a catalog: the first 100 of the base are requested."""
MOST_TEXTS = 2000
"""The default for the largest number of text queries."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Embeddings of one kind, all (m, D) float32, in the forms that codecs read.

    raw: unit length, from the tower; centred: minus the mean of their kind, scaled to unit length; moved: minus the
    mean of their kind plus the mean of images, for heads without a text tower (images do not move); texts: whether they
    are texts.
    """

    raw: Vectors
    centred: Vectors
    moved: Vectors
    texts: bool = False

    def __len__(self) -> int:
        return len(self.raw)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        return Rows(self.raw[rows], self.centred[rows], self.moved[rows], self.texts)


def image_rows(embeddings: Vectors, mean: Vectors) -> Rows:
    """Return images as Rows; embeddings: (m, D) unit; mean: (D,) of images."""
    raw = unit(embeddings)
    return Rows(raw, unit(raw - mean), raw)


def text_rows(embeddings: Vectors, mean: Vectors, image_mean: Vectors) -> Rows:
    """Return texts as Rows; embeddings: (m, D) unit; mean: (D,) of texts; image_mean: (D,) of images."""
    raw = unit(embeddings)
    return Rows(raw, unit(raw - mean), raw - mean + image_mean, texts=True)


@dataclass(frozen=True)
class SearchTask:
    """A catalog's items and the queries.

    ids: (n,) int64 ascending; items: all of them; fit, base, unseen, test: rows of `items`, ascending: what codecs are
    fitted to; what is searched; the part of the base that nothing was fitted to; the image queries. texts: the text
    queries, or None; names: theirs; concepts: the classes whose name is a query of its own; class_texts: those
    queries, or None.
    """

    ids: NDArray[np.int64]
    items: Rows
    fit: NDArray[np.int64]
    base: NDArray[np.int64]
    unseen: NDArray[np.int64]
    test: NDArray[np.int64]
    texts: Rows | None = None
    names: tuple[str, ...] = ()
    concepts: tuple[Concept, ...] = ()
    class_texts: Rows | None = None

    @property
    def queries(self) -> dict[str, Rows]:
        """Queries by kind: images, and texts if there are some."""
        images = {"images": self.items.take(self.test)}
        return images if self.texts is None else {**images, "texts": self.texts}

    @property
    def dims(self) -> int:
        """Embedding dims."""
        return int(self.items.raw.shape[1])


def make_search_task(
    catalog: Catalog,
    embedder: Embedder | None,
    concepts: Sequence[Concept] = (),
    *,
    trained_on: Collection[str] = (),
    most_texts: int = MOST_TEXTS,
) -> SearchTask:
    """Return the task of a catalog.

    Text queries are the names of the embedder's vocabulary, if it is one, else those of the concepts that have a text;
    at most `most_texts` of them, drawn by a fixed seed. trained_on: names that a head was trained on, which are never
    used as queries. Without an embedder of texts there are image queries only. Raises UsageError for a catalog without
    embeddings, of fewer than 120 items, and if no name is left.
    """
    signs = catalog.signs
    if signs is None or not catalog.stores_embeddings:
        raise UsageError(
            "expected a catalog with embeddings to measure codes on, this one has codes only; ingest its embeddings"
        )
    if catalog.n < FEWEST_ROWS:
        raise UsageError(
            f"expected a catalog of {FEWEST_ROWS} items or more to measure codes on, got {catalog.n}; ingest more"
        )
    ids = catalog.ids
    parts = split(ids)
    base = np.setdiff1d(np.arange(len(ids)), parts.test)
    items = image_rows(catalog.embeddings(ids), signs.mean_)
    mean = embedder.text_mean if embedder is not None and catalog.text_mean is None else catalog.text_mean
    if embedder is None or mean is None:
        return SearchTask(ids, items, parts.fit, base, parts.validation, parts.test)
    banned = {plain_name(name) for name in trained_on}
    asked = tuple(concept for concept in concepts if concept.text and plain_name(concept.name) not in banned)
    listed = embedder.names if isinstance(embedder, VocabularyEmbedder) else [concept.name for concept in asked]
    names = _drawn([name for name in dict.fromkeys(listed) if plain_name(name) not in banned], most_texts)
    if not names:
        raise UsageError(
            "texts: expected at least one name that no head was trained on, got none; train it --without-texts "
            "some, or use --embedder none for image queries alone"
        )

    def embedded(texts: Sequence[str]) -> Rows:
        return text_rows(embedder.texts(list(texts)), mean, signs.mean_)

    class_texts = embedded([concept.name for concept in asked]) if asked else None
    return SearchTask(
        ids, items, parts.fit, base, parts.validation, parts.test, embedded(names), names, asked, class_texts
    )


def _drawn(names: list[str], most: int) -> tuple[str, ...]:
    chosen = np.random.default_rng(0).permutation(len(names))[:most]
    return tuple(names[i] for i in sorted(chosen))
