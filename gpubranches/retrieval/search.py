"""Searches for the items nearest to a text, a picture, an item or a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from gpubranches.catalog.codec import Codec
from gpubranches.catalog.pictures.decoding import decoded_path
from gpubranches.core.arrays import as_ids, check_array, unit
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.threads import one_thread
from gpubranches.core.tie_order import best_first
from gpubranches.encoders import open_embedder
from gpubranches.errors import UsageError
from gpubranches.retrieval.fusion import DEPTH, fuse
from gpubranches.retrieval.hits import Hits
from gpubranches.retrieval.queries import Item, Picture, Query, Term, Words, combine, of_kind, parse

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend


class Searcher:
    """Finds the items of a catalog that are nearest to a query. Several threads may use it.

    embedder: turns texts and images into queries. A spec (`open_embedder`), or "auto" for the catalog's own, is opened
    when a query first needs it; None allows no such query. An embedder that the catalog was not made with raises
    SpaceMismatchError; a spec does so at the first such query. pictures: returns the unit embedding, (D,) float32, of
    an uploaded picture by its name, or raises UsageError. Parameters of all searches: k, the number of items to find;
    where, a condition on the items' metadata, see `conditions.parse`.
    """

    def __init__(
        self,
        catalog: Catalog,
        backend: Backend,
        embedder: Embedder | str | None = None,
        pictures: Callable[[str], NDArray[np.float32]] | None = None,
    ):
        if embedder is not None and not isinstance(embedder, str):
            require_embedder(catalog, embedder)
        self.catalog = catalog
        self.backend = backend
        self.pictures = _no_picture if pictures is None else pictures
        self._given = embedder

    @cached_property
    def embedder(self) -> Embedder | None:
        """The embedder of queries, or None. It is opened on first use, see `open_embedder`."""
        given = self.catalog.embedder or None if self._given == "auto" else self._given
        if not isinstance(given, str):
            return given
        embedder = open_embedder(given, identity=self.catalog.space.embedder)
        require_embedder(self.catalog, embedder)
        return embedder

    def search(
        self,
        query: str | int | Path | Image | NDArray[Any] | Term,
        k: int = 100,
        *,
        where: str | None = None,
        by_codes: bool = False,
    ) -> Hits:
        """Return the k items nearest to a text, an item, a picture or a vector.

        query: a str is a text in the grammar of `queries.parse`; several terms are combined by `queries.combine`, each
        centred on the mean of its kind and scaled to unit length. A `Term` is one term: `Words` are a text without the
        grammar. An int is the id of an item, which is found first. A Path or a PIL image is a picture. An array is an
        image embedding, (D,) of floats, or a code, (d,) uint8. by_codes: compare codes even if there are embeddings,
        for one text, item or code; a text needs a head with a text tower.

        Raises UsageError for another query, for a text that cannot be read, and for a query that the catalog or the
        embedder cannot answer; DataError for a file that is not a picture.
        """
        match query:
            case str():
                return self._parsed(parse(query), k, where, by_codes)
            case Words(text):
                return self._text(text, k, where, by_codes)
            case Item(item):
                return self._like(item, k, where, by_codes)
            case int() | np.integer() if not isinstance(query, bool):
                return self._like(int(query), k, where, by_codes)
        if by_codes and not (isinstance(query, np.ndarray) and query.dtype == np.uint8):
            raise UsageError("by_codes: expected one text, item or code, got another query; search without it")
        match query:
            case Picture(name):
                return self._vector(self.pictures(name), k, where)
            case Path():
                with decoded_path(query) as image:
                    return self._image(image, k, where)
            case Image():
                return self._image(query, k, where)
            case np.ndarray():
                return self._vector(query.astype(np.float32) if query.dtype.kind == "f" else query, k, where)
        raise UsageError(
            "query: expected a text (str), the id of an item (int), a picture (Path or PIL image) or a vector "
            f"(NumPy array), got {type(query).__name__}"
        )

    def words(self, text: str) -> NDArray[np.float32] | None:
        """Return the direction, (D,) float32, of a query with added words; None for "" and queries without words.

        Raises UsageError as `search` does.
        """
        query = parse(text) if text else None
        if query is None or not of_kind(Words, query.added):
            return None
        return self._words(query.added)[0] if query.single else self._direction(query)

    def _parsed(self, query: Query, k: int, where: str | None, by_codes: bool) -> Hits:
        if not self.catalog.D and not isinstance(query.single, Item):
            refused = UsageError("text: the catalog has codes only, so search by one item, for example #17")
            raise refused.because("query-codes-only")
        if query.single is not None:
            return self.search(query.single, k, where=where, by_codes=by_codes)
        if by_codes:
            raise UsageError("by_codes: expected one text, item or code, got several terms; search without it")
        return self._nearest_to(self._direction(query)[None], k, where)

    def _text(self, text: str, k: int, where: str | None, by_codes: bool) -> Hits:
        """Search by a text, centred on the mean of texts: texts and images lie in different regions."""
        if not text.strip():
            raise UsageError("text: expected a word or more, got nothing; type what to look for").because("query-empty")
        if by_codes:
            embedder = self._embedder("a text")
            return self._by_codes(self._codec().encode_texts(embedder.texts([text])), k, where)
        return self._nearest_to(self._texts([text]), k, where)

    def _image(self, image: Image, k: int, where: str | None) -> Hits:
        return self._vector(self._embedder("an image").images([image])[0], k, where)

    def _like(self, item: int, k: int, where: str | None, by_codes: bool) -> Hits:
        if self.catalog.has_embeddings and not by_codes:
            return self._nearest_to(self._centred(self.catalog.embeddings(as_ids([item]))), k, where)
        return self._by_codes(self.catalog.codes(as_ids([item])), k, where)

    def _vector(self, vector: NDArray[Any], k: int, where: str | None) -> Hits:
        if vector.dtype == np.uint8:
            check_array(vector, "vector", dtype=np.uint8, shape=(self.catalog.d,))
            return self._by_codes(vector[None], k, where)
        if self.catalog.signs is None:
            raise UsageError(f"vector: the catalog has codes only, expected ({self.catalog.d},) uint8")
        check_array(vector, "vector", dtype=np.float32, shape=(self.catalog.D,), finite=True)
        unit: NDArray[np.float32] = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return self._nearest_to(self._centred(unit[None]), k, where)

    def _direction(self, query: Query) -> NDArray[np.float32]:
        """Return the direction of a query, (D,). If words are added, models that read no texts have zeros in it."""
        added, subtracted = query.added, query.subtracted
        words = self._words(added)
        direction = combine(
            words,
            self._images(added),
            np.concatenate(
                [unit(self._texts([term.text for term in of_kind(Words, subtracted)])), self._images(subtracted)]
            ),
        )
        for part in self.catalog.parts if len(words) else ():
            if not words[:, part].any():
                direction[part] = 0
        return direction

    def _words(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        return unit(self._texts([term.text for term in of_kind(Words, terms)]))

    def _texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings of texts, centred on the mean of texts, (m, D) float32."""
        if not texts:
            return np.zeros((0, self.catalog.D), np.float32)
        return centred_texts(self.catalog, self._embedder("a text"), texts)

    def _images(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        """Return embeddings of the items and pictures among the terms, centred on the mean of images, as unit rows."""
        items = [term.id for term in of_kind(Item, terms)]
        pictures = [self.pictures(term.name) for term in of_kind(Picture, terms)]
        rows = [*(self.catalog.embeddings(as_ids(items)) if items else ()), *pictures]
        return unit(self._centred(np.array(rows, np.float32).reshape(len(rows), self.catalog.D)))

    def _embedder(self, query: str) -> Embedder:
        if self.embedder is None:
            hint = self.catalog.embedder or "vocabulary:TEXT_EMB.npy,NAMES.json"
            raise UsageError(
                f"search: {query} needs an embedder, got none; pass embedder={hint!r} (--embedder for a command), "
                "or search by an item"
            ).because("query-no-model")
        return self.embedder

    def _centred(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        signs = self.catalog.signs
        return embeddings if signs is None else (embeddings - signs.mean_).astype(np.float32)

    def _nearest_to(self, queries: NDArray[np.float32], k: int, where: str | None) -> Hits:
        directions, tier = queries.astype(np.float32), self.backend.first_tier
        if len(self.catalog.parts) == 1:
            return self._nearest(directions, k, tier, where)
        return self._nearest_by_models(directions, k, tier, where)

    def _nearest_by_models(
        self, directions: NDArray[np.float32], k: int, tier: Literal["bits", "embeddings"], where: str | None
    ) -> Hits:
        """Return the hits of one direction, (1, D), in a catalog of several models.

        Each model that has a part in the direction proposes max(k, `DEPTH`) items. The proposed items are ranked by the
        centred cosine of each of these models, and `fuse` joins the ranks.
        """
        parts = [part for part in self.catalog.parts if directions[:, part].any()] or self.catalog.parts
        lists = [self._nearest(_only(directions, part), max(k, DEPTH), tier, where) for part in parts]
        ids = np.unique(np.concatenate([hits.ids for hits in lists]))
        centred = self._centred(self.catalog.embeddings(ids))
        with one_thread():
            cosines = np.stack([unit(centred[:, part]) @ unit(directions[:, part])[0] for part in parts], axis=1)
        if len(parts) == 1:
            order = best_first(cosines[:, 0], ids, k)
            return Hits(ids[order], 1 - cosines[order, 0], lists[0].source, self.catalog)
        return Hits(*fuse(cosines, ids, k), f"{lists[0].source}+ranks", self.catalog)

    def _by_codes(self, codes: NDArray[np.uint8], k: int, where: str | None) -> Hits:
        return self._nearest(codes, k, "codes", where)

    def _nearest(
        self, queries: NDArray[Any], k: int, tier: Literal["codes", "bits", "embeddings"], where: str | None
    ) -> Hits:
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        bitmap = None if where is None else self.catalog.where(where)
        found = self.backend.search(queries, min(k, max(1, self.catalog.n)), tier=tier, where=bitmap)
        return Hits.of(found, self.catalog)

    def _codec(self) -> Codec:
        codec = self.catalog.codec
        if codec is None:
            raise UsageError(
                "by_codes: the catalog has codes but no head that could make codes of a query; search by an item"
            )
        return codec


def _only(directions: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    """Return directions, (q, D), with zeros outside a part."""
    alone = np.zeros_like(directions)
    alone[:, part] = directions[:, part]
    return alone


def _no_picture(name: str) -> NDArray[np.float32]:
    raise UsageError(f"picture:{name} exists only in the session of its upload; search by the picture itself")


def centred_texts(catalog: Catalog, embedder: Embedder, texts: list[str]) -> NDArray[np.float32]:
    """Return embeddings of texts, centred on the catalog's mean of texts or else the embedder's, (q, D) float32.

    Raises UsageError for an embedder that reads no texts.
    """
    embeddings = embedder.texts(texts)
    mean = embedder.text_mean if catalog.text_mean is None else catalog.text_mean
    return embeddings if mean is None else embeddings - mean


def require_embedder(catalog: Catalog, embedder: Embedder) -> None:
    """Raise SpaceMismatchError or UsageError unless the embedder's space is the catalog's."""
    catalog.space.require(EmbeddingSpace(embedder=embedder.identity))
    if not catalog.D:
        raise UsageError("embedder: the catalog has only codes, which cannot be compared with texts or images")
    if embedder.D != catalog.D:
        raise UsageError(f"embedder: expected one with {catalog.D} dims as in the catalog, got {embedder.D}")
