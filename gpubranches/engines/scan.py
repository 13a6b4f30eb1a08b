"""The common parts of all backends: argument checks, the steps of each query, and the shape of answers."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.core.arrays import as_ids, check_array
from gpubranches.core.bitmaps import Bitmap, check_bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.deprecation import warn_renamed
from gpubranches.core.results import Candidates, Neighbors
from gpubranches.encoders.quantizers import CodeWeights, SignQuantizer, WeightPlanes
from gpubranches.engines.protocol import Tier
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.engines.faiss_index import FaissIndex

Linear = WeightPlanes | CodeWeights | NDArray[np.float32]
"""A linear model over a tier: bits, codes, or embeddings. For embeddings it is (D,) float32 over x - mean."""
_SHORTLIST = 1000
"""Number of items that are preselected by bits before their embeddings rank them: this, or 10 k if that is more."""
Params = ParamSpec("Params")
Result = TypeVar("Result")
Backend = TypeVar("Backend", bound="ScanBackend[Any]")
Rows = TypeVar("Rows")
"""An engine's representation of the rows of a query: rows that are not deleted and that pass the caller's filter."""


def pinned(
    method: Callable[Concatenate[Backend, Params], Result],
) -> Callable[Concatenate[Backend, Params], Result]:
    """Decorate a method of a backend so that it sees one state of the catalog while other threads commit."""

    @wraps(method)
    def on_one_state(self: Backend, /, *args: Params.args, **named: Params.kwargs) -> Result:
        with self.catalog.pinned():
            return method(self, *args, **named)

    return on_one_state


@dataclass(frozen=True, eq=False)
class RowFilter:
    """The rows of a query: those in the bitmap `where`, with these ids, and in at least one box; None: all."""

    where: Bitmap | None = None
    ids: NDArray[np.int64] | None = None
    boxes: Boxes | None = None


class ScanBackend(ABC, Generic[Rows]):
    """A backend that answers by scans of the whole catalog."""

    name = "scan"

    def __init__(self, catalog: Catalog, *, nn: str = "auto"):
        self.catalog = catalog
        self.nn = "kernel" if nn == "auto" else nn
        self._lock = threading.Lock()
        self._index: FaissIndex | None = None

    # The scans that an engine supplies. All answers are best first, ties by splitmix64(id).

    @abstractmethod
    def _rows(self, where: Bitmap | None) -> Rows:
        """Return the rows that are not deleted and in `where`, a checked bitmap."""

    @abstractmethod
    def _with_ids(self, rows: Rows, ids: NDArray[np.int64]) -> Rows:
        """Return those of the rows that have one of the ids; ids that are not in the catalog are ignored."""

    @abstractmethod
    def _in_boxes(self, rows: Rows, boxes: Boxes) -> Rows:
        """Return those of the rows that lie in at least one of the boxes."""

    @abstractmethod
    def _bitmap(self, rows: Rows) -> Bitmap:
        """Return the positions of the rows as a bitmap."""

    @abstractmethod
    def _votes(self, rows: Rows, models: list[Boxes], min_votes: int, limit: int | None) -> list[Candidates]:
        """Return for each model the items with at least min_votes."""

    @abstractmethod
    def _nearest(
        self, rows: Rows, queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Return, for each query, the ids of the k nearest neighbours over codes and their squared L2 distances."""

    @abstractmethod
    def _linear(self, rows: Rows, model: Linear, min_score: np.float32, limit: int | None) -> Candidates:
        """Return the `limit` best items with scores >= min_score; total: how many have such scores."""

    @abstractmethod
    def _cosines(self, rows: Rows, query: NDArray[np.float32], k: int) -> Candidates:
        """Return the k items with the largest cosines of query with x - mean over the embeddings."""

    # The protocol

    @pinned
    def info(self) -> dict[str, Any]:
        """Return name, nearest-neighbour method and the catalog's size."""
        return {"backend": self.name, "nn": self.nn, "n": self.catalog.n, "generation": self.catalog.generation}

    @property
    def first_tier(self) -> Literal["bits", "embeddings"]:
        """The tier that searches by text or image use first."""
        return "bits" if self.catalog.has_bits else "embeddings"

    def close(self) -> None:
        """Release the index, if one was built."""
        self._index = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @pinned
    def search(self, queries: NDArray[Any], k: int, *, tier: Tier, where: Bitmap | None = None) -> Neighbors:
        """Return the k nearest items of each query; see Backend."""
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        dims = self._dims(tier)
        if tier == "codes":
            check_array(queries, "queries", dtype=np.uint8, shape=(None, dims))
            self._check_where(where)
            return self._search_codes(queries, k, where)
        check_array(queries, "queries", dtype=np.float32, shape=(None, dims), finite=True)
        self._check_where(where)
        return self._search_directions(queries, k, tier, where)

    def apply(
        self, boxes: Boxes, *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> Candidates:
        """Return the items with at least min_votes; see Backend."""
        return self.apply_many([boxes], min_votes=min_votes, limit=limit, where=where)[0]

    @pinned
    def apply_many(
        self, models: Sequence[Boxes], *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> list[Candidates]:
        """Apply the models of several users; see Backend."""
        if min_votes < 1:
            raise UsageError(f"min_votes: expected 1 or more, got {min_votes}")
        _check_limit(limit)
        for boxes in models:
            boxes.require_dims(self.catalog.d)
        self._check_where(where)
        return self._apply(list(models), min_votes, limit, where)

    def evaluate(
        self, boxes: Boxes, *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> Candidates:
        """Call `apply` under its old name. Deprecated."""
        warn_renamed("Backend.evaluate", "apply")
        return self.apply(boxes, min_votes=min_votes, limit=limit, where=where)

    def evaluate_many(
        self, models: Sequence[Boxes], *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> list[Candidates]:
        """Call `apply_many` by its old name. Deprecated."""
        warn_renamed("Backend.evaluate_many", "apply_many")
        return self.apply_many(models, min_votes=min_votes, limit=limit, where=where)

    @pinned
    def within(self, boxes: Boxes, *, where: Bitmap | None = None) -> Bitmap:
        """Return the positions of the items with a vote of this model; see Backend."""
        boxes.require_dims(self.catalog.d)
        self._check_where(where)
        return self._bitmap(self._filtered(RowFilter(where, boxes=boxes)))

    @pinned
    def score(
        self,
        weights: NDArray[np.float32],
        *,
        tier: Tier,
        ids: NDArray[np.int64] | None = None,
        boxes: Boxes | None = None,
        threshold: float | None = None,
        limit: int | None = None,
        where: Bitmap | None = None,
    ) -> Candidates:
        """Return items by a linear score; see Backend."""
        _check_limit(limit)
        check_array(weights, "weights", dtype=np.float32, shape=(self._dims(tier),), finite=True)
        min_score = np.float32(-np.inf if threshold is None else threshold)
        if np.isnan(min_score):
            raise UsageError("threshold: expected a number, got NaN")
        model: Linear = weights
        if tier == "bits":
            model = self._signs().planes(weights)
        elif tier == "codes":
            model = CodeWeights.quantise(weights)
        self._check_where(where)
        if boxes is not None:
            boxes.require_dims(self.catalog.d)
        return self._score(model, min_score, limit, RowFilter(where, None if ids is None else as_ids(ids), boxes))

    # From checked arguments to the scans

    def _apply(self, models: list[Boxes], min_votes: int, limit: int | None, where: Bitmap | None) -> list[Candidates]:
        return self._votes(self._rows(where), models, min_votes, limit)

    def _score(self, model: Linear, min_score: np.float32, limit: int | None, row_filter: RowFilter) -> Candidates:
        return self._linear(self._filtered(row_filter), model, min_score, limit)

    def _filtered(self, row_filter: RowFilter) -> Rows:
        rows = self._rows(row_filter.where)
        if row_filter.ids is not None:
            rows = self._with_ids(rows, row_filter.ids)
        return rows if row_filter.boxes is None else self._in_boxes(rows, row_filter.boxes)

    def _nearest_of(
        self, row_filter: RowFilter, queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Return what `_nearest` returns for the rows of a filter."""
        return self._nearest(self._filtered(row_filter), queries, k)

    def _cosines_of(self, row_filter: RowFilter, query: NDArray[np.float32], k: int) -> Candidates:
        """Return what `_cosines` returns for the rows of a filter."""
        return self._cosines(self._filtered(row_filter), query, k)

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        if self.nn == "faiss" and where is None and self.catalog.deleted is None:
            with self._lock:
                if self._index is None or self._index.generation != self.catalog.generation:
                    self._index = None  # its memory is freed before the next one is built
                    self._index = self._build_index()
                index = self._index
            if k <= index.most:
                return index.search(queries, k)
        found = self._nearest(self._rows(where), queries, k)
        return pad([(squared.astype(np.float32), ids) for ids, squared in found], k, f"{self.name}/codes")

    def _search_directions(self, queries: NDArray[np.float32], k: int, tier: Tier, where: Bitmap | None) -> Neighbors:
        rows = self._rows(where)
        if tier == "embeddings":
            return pad(
                [self._by_cosine(rows, query, k) for query in queries],
                k,
                f"{self.name}/{self.catalog.embeddings_source}",
            )
        planes = [self._signs().planes(query) for query in queries]
        exact = self.catalog.has_embeddings
        scored = self._linears(rows, planes, np.float32(-np.inf), max(_SHORTLIST, 10 * k) if exact else k)
        if exact:
            listed = [self._with_ids(rows, found.ids) for found in scored]
            found = [self._by_cosine(own, query, k) for own, query in zip(listed, queries, strict=True)]
            return pad(found, k, f"{self.name}/bits+{self.catalog.embeddings_source}")
        found = [_as_distances(*one) for one in zip(scored, planes, queries, strict=True)]
        return pad(found, k, f"{self.name}/bits")

    def _build_index(self) -> FaissIndex:
        from gpubranches.engines.faiss_index import FaissIndex

        return FaissIndex(self.catalog)

    def _by_cosine(
        self, rows: Rows, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return as_cosine_distances(self._cosines(rows, query, k))

    def _linears(
        self, rows: Rows, models: Sequence[Linear], min_score: np.float32, limit: int | None
    ) -> list[Candidates]:
        """Return what `_linear` returns for each of some models of one tier. An engine may do it in one pass."""
        return [self._linear(rows, model, min_score, limit) for model in models]

    def _check_where(self, where: Bitmap | None) -> None:
        if where is not None:
            check_bitmap(where, "where", self.catalog.n_positions, self.catalog.layout)

    def _dims(self, tier: Tier) -> int:
        """Return the dims of queries and weights of a tier, d or D. Raises UsageError if the catalog lacks the tier."""
        if tier not in ("codes", "bits", "embeddings"):
            raise UsageError(f"tier: expected codes, bits or embeddings, got {tier!r}")
        if tier == "codes":
            return self.catalog.d
        self._signs()
        if tier == "embeddings" and not self.catalog.has_embeddings:
            raise UsageError(
                "embeddings: the catalog has only codes and bits, and no head that decodes; ingest the embeddings"
            )
        return self.catalog.D

    def _signs(self) -> SignQuantizer:
        if self.catalog.signs is None:
            raise UsageError("bits: the catalog has codes only; ingest embeddings to search by texts or directions")
        return self.catalog.signs


def _as_distances(
    found: Candidates, planes: WeightPlanes, query: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    length = np.float32(max(float(np.linalg.norm(query)), 1e-12))
    return 1 - _scores(found) * np.float32(planes.step) / length, found.ids


def as_cosine_distances(found: Candidates) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the distances, (m,) float32, of items whose scores are cosines, and their ids, (m,) int64."""
    return 1 - _scores(found), found.ids


def _scores(found: Candidates) -> NDArray[np.float32]:
    return np.zeros(0, np.float32) if found.scores is None else found.scores


def pad(found: list[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int, source: str) -> Neighbors:
    """Return the answers of q queries as (q, k) distances and ids; missing neighbours are inf and -1."""
    distances = np.full((len(found), k), np.inf, np.float32)
    ids = np.full((len(found), k), -1, np.int64)
    for row, (near, items) in enumerate(found):
        distances[row, : len(items)], ids[row, : len(items)] = near, items
    return Neighbors(distances=distances, ids=ids, source=source)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise UsageError(f"limit: expected 0 or more, or None for all, got {limit}")
