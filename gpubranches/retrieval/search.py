"""The first page: the items nearest to a text, a picture, an item or a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.codec import Coder
from gpubranches.core.arrays import as_ids, check_array
from gpubranches.core.embedding_space import Space
from gpubranches.core.results import Neighbors
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import Item, Picture, Query, Term, Words, combine, of_kind, parse, unit

if TYPE_CHECKING:
    from PIL.Image import Image

    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend


class Searcher:
    """Searches a catalog for nearest items. It has no state of its own, so any number of threads may use it.

    embedder: turns texts and images into queries; SpaceMismatchError if it is not the one the catalog was made with.
    pictures: returns the unit embedding, (D,) float32, of an uploaded picture by its name, or raises UsageError. All
    answers are Neighbors with q = 1. k: number of items; where: a condition over the items' metadata, see
    `conditions.parse`.
    """

    def __init__(
        self,
        catalog: Catalog,
        backend: Backend,
        embedder: Embedder | None = None,
        pictures: Callable[[str], NDArray[np.float32]] | None = None,
    ):
        if embedder is not None:
            require_embedder(catalog, embedder)
        self.catalog = catalog
        self.backend = backend
        self.embedder = embedder
        self.pictures = _no_picture if pictures is None else pictures

    def ask(self, text: str, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Neighbors:
        """Return the k items nearest to a query: words, or terms such as `dog + #17 - sketch`.

        `queries.parse` defines the grammar, and `queries.combine` how terms are combined; each term is centred on the
        mean of its kind and scaled to unit length. A single term is searched as `text`, `like` or `vector`. by_codes:
        search the codes alone, by one term. Raises UsageError for a query that cannot be parsed, and for terms that the
        catalog or the embedder cannot compare.
        """
        query = parse(text)
        if not self.catalog.D and not isinstance(query.single, Item):
            raise UsageError("text: the catalog has codes alone, by which one item can be asked; write such as #17")
        match query.single:
            case Words(words):
                return self.text(words, k, where=where, by_codes=by_codes)
            case Item(item):
                return self.like(item, k, where=where, by_codes=by_codes)
            case Picture(name) if not by_codes:
                return self.vector(self.pictures(name), k, where=where)
        if by_codes:
            raise UsageError("by_codes: expected one text or one item, got several terms or a picture; search without")
        return self._search(self._direction(query)[None], k, where)

    def words(self, text: str) -> NDArray[np.float32] | None:
        """Return the direction, (D,) float32, of a query with added words; None for "" and queries without words.

        Raises UsageError as `ask` does.
        """
        query = parse(text) if text else None
        if query is None or not of_kind(Words, query.added):
            return None
        return self._words(query.added)[0] if query.single else self._direction(query)

    def text(self, text: str, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Neighbors:
        """Return the k items nearest to a text; signs in it have no meaning.

        The text is centred on the mean of texts and the items on the mean of images, because the two lie in different
        regions of the embedding space. by_codes: search the codes alone, with the text tower of the catalog's head.
        Raises UsageError without an embedder, or without that tower.
        """
        if not text.strip():
            raise UsageError("text: expected a word or more, got nothing; type what to look for")
        if by_codes:
            embedder = self._embedder("a text")
            return self._by_codes(self._coder().text_codes(embedder.texts([text])), k, where)
        return self._search(self._texts([text]), k, where)

    def image(self, image: Image, k: int = 100, *, where: str | None = None) -> Neighbors:
        """Return the k items nearest to a picture. Raises UsageError without an embedder that reads images."""
        return self.vector(self._embedder("an image").images([image])[0], k, where=where)

    def like(self, item: int, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Neighbors:
        """Return the k items nearest to an item, itself first: by embeddings if the catalog has them, else by codes."""
        if self.catalog.has_embeddings and not by_codes:
            return self._search(self._centred(self.catalog.embeddings(as_ids([item]))), k, where)
        return self._by_codes(self.catalog.take(as_ids([item])), k, where)

    def vector(self, vector: NDArray[Any], k: int = 100, *, where: str | None = None) -> Neighbors:
        """Return the k items nearest to an image embedding, (D,) float32, or to a code, (d,) uint8."""
        if vector.dtype == np.uint8:
            check_array(vector, "vector", dtype=np.uint8, shape=(self.catalog.d,))
            return self._by_codes(vector[None], k, where)
        if self.catalog.signs is None:
            raise UsageError(f"vector: the catalog has codes only, expected ({self.catalog.d},) uint8")
        check_array(vector, "vector", dtype=np.float32, shape=(self.catalog.D,), finite=True)
        unit: NDArray[np.float32] = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return self._search(self._centred(unit[None]), k, where)

    def _direction(self, query: Query) -> NDArray[np.float32]:
        added, subtracted = query.added, query.subtracted
        return combine(
            self._words(added),
            self._images(added),
            np.concatenate(
                [unit(self._texts([term.text for term in of_kind(Words, subtracted)])), self._images(subtracted)]
            ),
        )

    def _words(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        return unit(self._texts([term.text for term in of_kind(Words, terms)]))

    def _texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings of texts, centred on the mean of texts, (m, D) float32."""
        if not texts:
            return np.zeros((0, self.catalog.D), np.float32)
        embedder = self._embedder("a text")
        mean = embedder.text_mean if self.catalog.text_mean is None else self.catalog.text_mean
        return embedder.texts(texts) - mean

    def _images(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        """Return embeddings of the items and pictures among the terms, centred on the mean of images, as unit rows."""
        items = [term.id for term in of_kind(Item, terms)]
        pictures = [self.pictures(term.name) for term in of_kind(Picture, terms)]
        rows = [*(self.catalog.embeddings(as_ids(items)) if items else ()), *pictures]
        return unit(self._centred(np.array(rows, np.float32).reshape(len(rows), self.catalog.D)))

    def _embedder(self, query: str) -> Embedder:
        if self.embedder is None:
            hint = self.catalog.embedder or "vocabulary:TEXT_EMB.npy,NAMES.json"
            raise UsageError(f"{query} needs an embedder, none is given; pass --embedder {hint}, or search by --like")
        return self.embedder

    def _centred(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        signs = self.catalog.signs
        return embeddings if signs is None else (embeddings - signs.mean_).astype(np.float32)

    def _search(self, queries: NDArray[np.float32], k: int, where: str | None) -> Neighbors:
        return self._nearest(queries.astype(np.float32), k, self.backend.first_tier, where)

    def _by_codes(self, codes: NDArray[np.uint8], k: int, where: str | None) -> Neighbors:
        return self._nearest(codes, k, "codes", where)

    def _nearest(
        self, queries: NDArray[Any], k: int, tier: Literal["codes", "bits", "embeddings"], where: str | None
    ) -> Neighbors:
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        bitmap = None if where is None else self.catalog.where(where)
        return self.backend.search(queries, min(k, max(1, self.catalog.n)), tier=tier, where=bitmap)

    def _coder(self) -> Coder:
        coder = Coder.of(self.catalog)
        if coder is None:
            raise UsageError("by_codes: the catalog has ready codes and no head to make others by; search by an item")
        return coder


def _no_picture(name: str) -> NDArray[np.float32]:
    raise UsageError(f"picture:{name} is known in the session it was sent to alone; search by the picture itself")


def require_embedder(catalog: Catalog, embedder: Embedder) -> None:
    """Raise SpaceMismatchError or UsageError unless the embedder's space is the catalog's."""
    catalog.space.require(Space(embedder=embedder.identity))
    if not catalog.D:
        raise UsageError("embedder: the catalog has codes only, no text or image can be compared with them")
    if embedder.D != catalog.D:
        raise UsageError(f"embedder: expected one with {catalog.D} dims as in the catalog, got {embedder.D}")
