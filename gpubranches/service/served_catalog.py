"""What the page, the API and the clip-retrieval service do with a served catalog without a session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.pictures.image_files import Picture, picture_of
from gpubranches.catalog.pictures.places import MissingPictures
from gpubranches.core.arrays import as_ids
from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.errors import DataError, UsageError
from gpubranches.retrieval.search import Searcher
from gpubranches.service.originals import Original, look_for_pictures, original
from gpubranches.service.types import SearchRequest, SearchResult

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.catalog.metadata_table import Column
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_LOOK_S = 0.5
"""The longest time that a page waits for a look for missing pictures."""


class ServedCatalog:
    """A catalog with its backend and embedder. Safe to use from several threads."""

    def __init__(self, catalog: Catalog, backend: Backend, embedder: Embedder | None):
        self.catalog = catalog
        self.backend = backend
        self.embedder = embedder
        self.searcher = Searcher(catalog, backend, embedder)
        self._missing: SingleFlightCache[MissingPictures] = SingleFlightCache(1)

    def count(self, where: str = "") -> int:
        """Return how many items meet a condition; "" admits all. Raises UsageError for an invalid condition."""
        return self.catalog.count(where or None)

    def columns(self) -> list[Column]:
        """Return the columns that conditions can use, with the most frequent values of columns that have few."""
        return self.catalog.described_columns()

    def item(self, item: int) -> dict[str, Any] | None:
        """Return the columns of an item, or None if the item does not exist."""
        ids = as_ids([item])
        return self.catalog.items(ids)[0] if self.catalog.alive(ids)[0] else None

    def items(self, ids: NDArray[np.int64] | Sequence[int]) -> list[dict[str, Any]]:
        """Return the columns of items. Raises UsageError for unknown and deleted ids."""
        return self.catalog.items(ids)

    def live_items(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.intp], list[dict[str, Any]]]:
        """Return which of ids, (m,), are not deleted, as rows, and the columns of these items."""
        rows = np.flatnonzero(self.catalog.alive(ids))
        return rows, self.catalog.items(ids[rows])

    @property
    def has_pictures(self) -> bool:
        """Whether items can have pictures: the catalog knows a folder of them."""
        return bool(self.catalog.picture_source.get("roots")) and IMAGE_PATH in self.catalog.columns

    def picture(self, item: dict[str, Any]) -> Picture | None:
        """Return where the picture of an item lies, given by its columns; None if it has none."""
        return picture_of(self.catalog.picture_source, item)

    def missing_pictures(self) -> MissingPictures:
        """Return how many items of a sample have no picture; stores are not asked. It is counted once a generation."""
        return self._missing.get(
            self.catalog.generation, lambda: look_for_pictures(self.catalog, ask_stores=False, most_s=_LOOK_S)
        )

    @property
    def reads_texts(self) -> bool:
        """Whether texts can be searched: there is an embedder, and it reads texts."""
        return self.embedder is not None and self.embedder.reads_texts

    def original(self, item: int) -> Original:
        """Return the original picture of an item. Raises DataError if there is none that can be sent."""
        row = self.item(item)
        if row is None:
            raise DataError(f"there is no item {item}")
        return original(self.catalog.picture_source, row)

    def known_texts(self, limit: int) -> list[str]:
        """Return texts that the embedder knows by name, at most `limit`; none if it reads any text."""
        return list(getattr(self.embedder, "names", []))[:limit]

    def nearest(self, request: SearchRequest) -> SearchResult:
        """Return the nearest items of the catalog. Belongs to no session. Errors as of `Searcher`."""
        start = time.perf_counter()
        hits = self.searcher.search(request.query, request.k, where=request.where)
        return SearchResult(hits, (time.perf_counter() - start) * 1000)

    def require_picture_reader(self) -> Embedder:
        """Return the embedder. Raises UsageError if there is none, or none that reads pictures."""
        if self.embedder is None or not self.embedder.reads_images:
            refused = UsageError("the model of this catalog reads no pictures; search by a text or an item")
            raise refused.because("picture-unread")
        return self.embedder
