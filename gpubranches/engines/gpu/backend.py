"""The gpu backend: the codes stay in device memory, and each query is one or two passes over all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates, Neighbors
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.faiss_index import FaissIndex, GpuFaissIndex
from gpubranches.engines.gpu import launchers, top_k
from gpubranches.engines.gpu.device import Device, DeviceArray
from gpubranches.engines.gpu.device_worker import DeviceWorker, FilterKey
from gpubranches.engines.gpu.keys import NOTHING, VOTE_BITS, as_scores, as_votes, max_key, squared_bits
from gpubranches.engines.gpu.memory import WORKING_BYTES
from gpubranches.engines.gpu.nearest_engine import FirstNeighbors
from gpubranches.engines.gpu.program import MOST_MODELS, Program, compile_boxes
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.engines.gpu.rows import Gathered, GpuRowFilter, allowed_rows, positions_of
from gpubranches.engines.gpu.selection import NO_CUTOFF, Cutoff, merged
from gpubranches.engines.gpu.top_k import SAMPLE_FROM, ScanRequest, Span, find_top_rows, lists_at_once, scan_into_lists
from gpubranches.engines.scan import Linear, RowFilter, ScanBackend, as_cosine_distances, pad

if TYPE_CHECKING:
    from gpubranches.engines.cpu.backend import CpuBackend

_STAGED_ROWS = 1 << 16
_PAGE = 100
"""The k for which `info` names the nearest-neighbour engine."""
_NONE_GATHERED = np.zeros((0, 0), np.float16)
LinearRequest = tuple[Linear, np.float32, int | None]
"""A linear model, its min_score and its limit."""
Item = TypeVar("Item")
Found = TypeVar("Found")


class GpuBackend(ScanBackend[GpuRowFilter]):
    """Scans the resident copy of a catalog with the kernels of kernels/.

    One thread runs all work of the device. Waiting queries that differ only in their model are answered in one pass.
    Tiers that do not fit into device memory (`MemoryPlan`) are read from the host: embeddings of candidates are
    gathered and rescored on the device; the cpu backend scans all embeddings, or bits that are not resident. A call
    after `close` raises DeviceError.
    """

    name = "gpu"

    def __init__(
        self,
        catalog: Catalog,
        make_device: Callable[[], Device],
        *,
        nn: str = "auto",
        make_residence: Callable[[Device, Catalog], Residence] = Residence,
        sample_from: int = SAMPLE_FROM,
    ):
        """Upload the catalog. Raises DeviceMemoryError.

        make_device and make_residence are called in the worker's thread. sample_from: the number of rows from which a
        scan for the best rows takes a sample first.
        """
        super().__init__(catalog, nn=nn)
        self._cpu: CpuBackend | None = None
        self._sample_from = sample_from
        self._opened = ExitStack()
        self._device: Device
        self._residence: Residence
        self._first: FirstNeighbors

        def trim() -> None:
            if hasattr(self, "_device"):  # creating the device itself may run out of memory
                self._device.trim()

        def start() -> None:
            self._device = make_device()
            self._opened.callback(self._device.close)
            with catalog.pinned():
                self._residence = make_residence(self._device, catalog)
            self._opened.callback(self._residence.close)
            self._first = FirstNeighbors(nn, self._residence)
            self._opened.callback(self._first.close)

        self._worker = DeviceWorker("gpubranches-gpu", self._opened.close, trim)
        try:
            self._worker.call(start)
        except BaseException:
            self._worker.close()
            raise

    def info(self) -> dict[str, Any]:
        """Return name, card, nearest-neighbour method, the catalog's size, and the memory plan."""
        plan = self._residence.plan
        engine, why = self._first.engine(_PAGE, 1)
        nearest = {"embeddings": engine, "why": why, "first": self.first_tier}
        own = {"device": self._device.name, "memory": plan.to_json(), "tiers": list(plan.tiers), "nearest": nearest}
        return {**super().info(), **own}

    def close(self) -> None:
        """Free the device memory and end the thread."""
        super().close()
        if self._cpu is not None:
            self._cpu.close()
        self._worker.close()

    # Queries, run in the worker's thread

    def _submit(self, batch_key: Hashable | None, item: Item, run_batch: Callable[[list[Item]], list[Found]]) -> Found:
        """Run a query by `DeviceWorker.submit` over the state of the catalog that this thread has pinned."""
        with self.catalog.pinned() as state:

            def run_pinned(batch: list[Item]) -> list[Found]:
                with self.catalog.pinned(state):
                    return run_batch(batch)

            return self._worker.submit(None if batch_key is None else (state, batch_key), item, run_pinned)

    def _apply(self, models: list[Boxes], min_votes: int, limit: int | None, where: Bitmap | None) -> list[Candidates]:
        def run_batch(batch: list[list[Boxes]]) -> list[list[Candidates]]:
            found = iter(self._votes(self._rows(where), [boxes for own in batch for boxes in own], min_votes, limit))
            return [list(islice(found, len(own))) for own in batch]

        return self._submit(("boxes", min_votes, limit, FilterKey(where)), models, run_batch)

    def _score(self, model: Linear, min_score: np.float32, limit: int | None, row_filter: RowFilter) -> Candidates:
        rows = self._filtered(row_filter)
        if not self._is_resident(model) and rows.ids is None:
            return self._host._score(model, min_score, limit, row_filter)
        if not self._is_resident(model) and rows.ids is not None and len(rows.ids) <= _STAGED_ROWS:
            # Read in the caller's thread, so that reading one user's rows does not delay the others.
            rows = replace(rows, gathered=self._gathered(rows.ids))

        def run_batch(batch: list[LinearRequest]) -> list[Candidates]:
            return self._linear_models(rows, batch)

        alone = row_filter.ids is not None or row_filter.boxes is not None
        batch_key = None if alone else (type(model), limit is None, FilterKey(row_filter.where))
        return self._submit(batch_key, (model, min_score, limit), run_batch)

    def _nearest_of(
        self, row_filter: RowFilter, queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        found: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = self._submit(
            None, queries, lambda batch: [self._nearest(self._filtered(row_filter), own, k) for own in batch]
        )
        return found

    def _cosines_of(self, row_filter: RowFilter, query: NDArray[np.float32], k: int) -> Candidates:
        if row_filter.ids is None and "embeddings" not in self._residence.plan.tiers:
            return self._host._cosines_of(row_filter, query, k)
        return self._submit(
            None, query, lambda batch: [self._cosines(self._filtered(row_filter), own, k) for own in batch]
        )

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        def run_batch(batch: list[NDArray[np.uint8]]) -> list[Neighbors]:
            return _split_neighbors(super(GpuBackend, self)._search_codes(np.concatenate(batch), k, where), batch)

        return self._submit(("codes", k, FilterKey(where)), queries, run_batch)

    def _search_directions(self, queries: NDArray[np.float32], k: int, tier: Any, where: Bitmap | None) -> Neighbors:
        missing = "bits" if tier == "bits" else "embeddings"
        if missing not in self._residence.plan.tiers:
            return self._host._search_directions(queries, k, tier, where)

        def run_batch(batch: list[NDArray[np.float32]]) -> list[Neighbors]:
            every = np.concatenate(batch)
            if tier == "embeddings" and self._first.takes(k, len(every), where):
                return _split_neighbors(self._near_by_faiss(every, k), batch)
            return _split_neighbors(super(GpuBackend, self)._search_directions(every, k, tier, where), batch)

        return self._submit((tier, k, FilterKey(where)), queries, run_batch)

    def _build_index(self) -> FaissIndex:
        return GpuFaissIndex(self.catalog, self._device.memory()[0] - WORKING_BYTES)

    def _near_by_faiss(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Return the nearest items by faiss, or by the kernels where faiss's answer is not proven.

        `source` names the engine.
        """

        def rescore(positions: NDArray[np.uint32], query: NDArray[np.float32], most: int) -> Candidates:
            return self._cosines(GpuRowFilter(gathered=Gathered(positions, _NONE_GATHERED)), query, most)

        found = self._first.search(queries, k, rescore)
        near = [
            self._by_cosine(GpuRowFilter(), query, k) if one is None else as_cosine_distances(one)
            for one, query in zip(found, queries, strict=True)
        ]
        proven = sum(one is not None for one in found)
        by = "faiss-gpu" if proven == len(found) else "faiss-gpu+gpu" if proven else "gpu"
        return pad(near, k, f"{by}/embeddings")

    @property
    def first_tier(self) -> Literal["bits", "embeddings"]:
        """The tier that searches by text or image use first: embeddings if faiss answers."""
        return "embeddings" if self._first.engine(_PAGE, 1)[0] == "faiss" else super().first_tier

    @property
    def _host(self) -> CpuBackend:
        """The cpu backend, for scans of tiers that are not resident. It is made, and numba loaded, on first use."""
        from gpubranches.engines.cpu.backend import CpuBackend

        self._worker.require()
        with self._lock:
            if self._cpu is None:
                self._cpu = CpuBackend(self.catalog)
            return self._cpu

    def _is_resident(self, model: Linear) -> bool:
        tier = (
            "codes" if isinstance(model, CodeWeights) else "bits" if isinstance(model, WeightPlanes) else "embeddings"
        )
        return tier in self._residence.plan.tiers

    # Rows

    def _rows(self, where: Bitmap | None) -> GpuRowFilter:
        return GpuRowFilter(where)

    def _with_ids(self, rows: GpuRowFilter, ids: NDArray[np.int64]) -> GpuRowFilter:
        return replace(rows, ids=ids)

    def _in_boxes(self, rows: GpuRowFilter, boxes: Boxes) -> GpuRowFilter:
        return replace(rows, boxes=boxes)

    def _bitmap(self, rows: GpuRowFilter) -> Bitmap:
        return self._worker.call(lambda: self._device.get(allowed_rows(self._residence, rows)).view(np.uint8))

    def _gathered(self, ids: NDArray[np.int64]) -> Gathered:
        positions = positions_of(self.catalog, ids)
        return Gathered(positions, self.catalog.embeddings_at(positions))

    # Scans

    def _votes(self, rows: GpuRowFilter, models: list[Boxes], min_votes: int, limit: int | None) -> list[Candidates]:
        allowed = allowed_rows(self._residence, rows)
        found = []
        for start in range(0, len(models), MOST_MODELS):
            found += self._votes_pass(allowed, models[start : start + MOST_MODELS], min_votes, limit)
        return found

    def _votes_pass(
        self, allowed: DeviceArray, models: list[Boxes], min_votes: int, limit: int | None
    ) -> list[Candidates]:
        on = self._residence.resident
        if not on.n_tiles:
            return [as_votes(NOTHING) for _ in models]
        programs: dict[tuple[int, ...], Program] = {}

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            own = tuple(which)
            if own not in programs:
                programs[own] = compile_boxes([models[i] for i in own], min_votes)
            launchers.boxes(span.on, span.allowed, programs[own], sinks)

        n, span = len(models), Span(on, allowed)
        request = ScanRequest([limit] * n, [NO_CUTOFF] * n, VOTE_BITS, "appended", cuts_ties=True)
        return [as_votes(one) for one in scan_into_lists(span, scan, request, [Cutoff()] * n)]

    def _nearest(
        self, rows: GpuRowFilter, queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        allowed = allowed_rows(self._residence, rows)
        on = self._residence.resident
        if not on.n_tiles:
            return [(np.zeros(0, np.int64), np.zeros(0, np.int32)) for _ in queries]
        found = []
        at_once = min(MOST_MODELS, lists_at_once(k, on.n_tiles * TILE, self._sample_from))
        for start in range(0, len(queries), at_once):
            own = queries[start : start + at_once]

            def scan(
                span: Span, which: Sequence[int], step: int, sinks: DeviceArray, own: NDArray[np.uint8] = own
            ) -> None:
                launchers.nearest(span.on, span.allowed, own[list(which)], step, sinks)

            request = ScanRequest([k] * len(own), [NO_CUTOFF] * len(own), squared_bits(on.d))
            found += find_top_rows(Span(on, allowed), scan, request, self._sample_from)
        return [(one.ids, one.keys.astype(np.int32)) for one in found]

    def _linear(self, rows: GpuRowFilter, model: Linear, min_score: np.float32, limit: int | None) -> Candidates:
        return self._linear_models(rows, [(model, min_score, limit)])[0]

    def _linear_models(self, rows: GpuRowFilter, requests: Sequence[LinearRequest]) -> list[Candidates]:
        """Score by linear models of one tier, at most MOST_MODELS a pass, fewer if their lists are long."""
        most = max((limit for _, _, limit in requests if limit is not None), default=0)
        rows_read = self._residence.resident.n_tiles * TILE
        at_once = min(MOST_MODELS, lists_at_once(most, rows_read, self._sample_from))
        found = []
        for start in range(0, len(requests), at_once):
            found += self._linear_pass(rows, requests[start : start + at_once])
        return found

    def _linears(
        self, rows: GpuRowFilter, models: Sequence[Linear], min_score: np.float32, limit: int | None
    ) -> list[Candidates]:
        return self._linear_models(rows, [(model, min_score, limit) for model in models])

    def _linear_pass(self, rows: GpuRowFilter, requests: Sequence[LinearRequest]) -> list[Candidates]:
        if isinstance(requests[0][0], np.ndarray):
            return [
                self._by_embeddings(rows, model, min_score, limit, cosine=False) for model, min_score, limit in requests
            ]
        allowed = allowed_rows(self._residence, rows)
        on = self._residence.resident
        if not on.n_tiles:
            return [as_scores(NOTHING) for _ in requests]
        planes = [model for model, _, _ in requests if isinstance(model, WeightPlanes)]
        weights = [model for model, _, _ in requests if isinstance(model, CodeWeights)]

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            if planes:
                launchers.bits(span.on, span.allowed, [planes[i] for i in which], step, sinks)
            else:
                launchers.linear(span.on, span.allowed, [weights[i] for i in which], step, sinks)

        wanted = ScanRequest([limit for _, _, limit in requests], [max_key(min_score) for _, min_score, _ in requests])
        return [as_scores(one) for one in find_top_rows(Span(on, allowed), scan, wanted, self._sample_from)]

    def _cosines(self, rows: GpuRowFilter, query: NDArray[np.float32], k: int) -> Candidates:
        direction = query / np.float32(max(float(np.linalg.norm(query)), 1e-12))
        return self._by_embeddings(rows, direction, np.float32(-np.inf), k, cosine=True)

    def _by_embeddings(
        self, rows: GpuRowFilter, weights: Any, min_score: np.float32, limit: int | None, *, cosine: bool
    ) -> Candidates:
        """Score the resident embeddings of all rows, or the embeddings of listed rows, resident or not."""
        allowed = allowed_rows(self._residence, replace(rows, ids=None))
        device, on = self._device, self._residence.resident
        gathered, positions = rows.gathered, None
        if gathered is not None:
            positions = gathered.positions
        elif rows.ids is not None:
            positions = positions_of(self.catalog, rows.ids)
        if not on.n_tiles or (positions is not None and not len(positions)):
            return as_scores(NOTHING)
        mean, direction = device.put_all([self._signs().mean_, np.ascontiguousarray(weights, np.float32)])
        request = ScanRequest([limit], [max_key(min_score)])

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            launchers.rescore(span.on, None, None, span.allowed, mean, direction, cosine, step, sinks)

        if positions is None and not on.width:  # a commit has dropped them since the query arrived
            host = self._host
            parts = host._filtered(RowFilter(rows.where, boxes=rows.boxes))
            return (
                host._cosines(parts, weights, limit or 1) if cosine else host._linear(parts, weights, min_score, limit)
            )
        if positions is None:
            return as_scores(find_top_rows(Span(on, allowed), scan, request, self._sample_from)[0])
        found = []
        for first in range(0, len(positions), top_k.FIRST_ROOM):
            listed = positions[first : first + top_k.FIRST_ROOM]

            def scan_listed(
                span: Span, which: Sequence[int], step: int, sinks: DeviceArray, listed: NDArray[np.uint32] = listed
            ) -> None:
                for start in range(0, len(listed), _STAGED_ROWS):
                    own = listed[start : start + _STAGED_ROWS]
                    staged = None
                    if not on.width:
                        staged = device.put(gathered.embeddings if gathered else self.catalog.embeddings_at(own))
                    launchers.rescore(on, device.put(own), staged, allowed, mean, direction, cosine, 1, sinks)

            span = Span(on, allowed, len(listed))
            found += find_top_rows(span, scan_listed, request, len(listed) + 1)
        every = merged([(one.ids, one.keys) for one in found], limit)
        return as_scores(replace(every, total=sum(one.total for one in found)))


def _split_neighbors(found: Neighbors, batch: Sequence[NDArray[Any]]) -> list[Neighbors]:
    """Split the answer for the joined queries of a batch."""
    cuts = np.cumsum([len(own) for own in batch])[:-1]
    pairs = zip(np.split(found.distances, cuts), np.split(found.ids, cuts), strict=True)
    return [Neighbors(distances=distances, ids=ids, source=found.source) for distances, ids in pairs]
