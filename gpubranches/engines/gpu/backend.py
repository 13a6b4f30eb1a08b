"""The gpu backend: the codes stay in device memory, and every question is one or two passes over all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates, Neighbors
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.faiss_index import FaissIndex, GpuFaissIndex
from gpubranches.engines.gpu import best as lists
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.best import SAMPLE_FROM, Asked, Span, best, collected, lists_at_once
from gpubranches.engines.gpu.device import Device, DeviceArray
from gpubranches.engines.gpu.device_worker import DeviceWorker, FilterKey
from gpubranches.engines.gpu.keys import NOTHING, VOTE_BITS, floor_key, scored, squared_bits, voted
from gpubranches.engines.gpu.memory import WORKING_BYTES
from gpubranches.engines.gpu.nearest_engine import FirstNeighbors
from gpubranches.engines.gpu.program import MOST_MODELS, Program, compile_boxes
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.engines.gpu.rows import Chosen, Gathered, allowed_rows, positions_of
from gpubranches.engines.gpu.selection import NO_BORDER, Border, joined
from gpubranches.engines.scan import Linear, Only, ScanBackend, as_cosine_distances, pad

if TYPE_CHECKING:
    from gpubranches.engines.cpu.backend import CpuBackend

_STAGED_ROWS = 1 << 16
_PAGE = 100
"""The k for which `describe` names the engine: a page of neighbours."""
_ON_CARD = np.zeros((0, 0), np.float16)
Item = TypeVar("Item")
Found = TypeVar("Found")


class GpuBackend(ScanBackend[Chosen]):
    """Scans the resident copy of a catalog with the kernels of kernels/.

    One thread owns the device; questions that wait together and differ only in their model are answered in one pass.
    Tiers that do not fit, see MemoryPlan, are read from the host: embeddings of candidates are gathered and rescored on
    the device; scans of all embeddings, and of bits that are not resident, are the cpu backend's. A call after `close`
    raises DeviceError.
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

        make_device and make_residence are called in the thread that owns the device. sample_from: from how many rows on
        a sample is taken first where the best are wanted.
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
        told = {"embeddings": engine, "why": why, "first": self.first_tier}
        own = {"device": self._device.name, "memory": plan.to_json(), "tiers": list(plan.tiers), "nearest": told}
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
            found = self._votes(self._rows(where), [boxes for own in batch for boxes in own], min_votes, limit)
            shares, start = [], 0
            for own in batch:
                shares.append(found[start : start + len(own)])
                start += len(own)
            return shares

        return self._submit(("boxes", min_votes, limit, FilterKey(where)), models, run_batch)

    def _score(self, model: Linear, floor: np.float32, limit: int | None, only: Only) -> Candidates:
        rows = self._selected(only)
        if not self._resident(model) and rows.ids is None:
            return self._host._score(model, floor, limit, only)
        if not self._resident(model) and rows.ids is not None and len(rows.ids) <= _STAGED_ROWS:
            # Read in the caller's thread, so that reading one user's rows does not delay the others.
            rows = replace(rows, gathered=self._gathered(rows.ids))

        def run_batch(batch: list[tuple[Linear, np.float32, int | None]]) -> list[Candidates]:
            return self._linear_models(rows, batch)

        alone = only.ids is not None or only.boxes is not None
        batch_key = None if alone else (type(model), limit is None, FilterKey(only.where))
        return self._submit(batch_key, (model, floor, limit), run_batch)

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        def run_batch(batch: list[NDArray[np.uint8]]) -> list[Neighbors]:
            return _shares(super(GpuBackend, self)._search_codes(np.concatenate(batch), k, where), batch)

        return self._submit(("codes", k, FilterKey(where)), queries, run_batch)

    def _search_directions(self, queries: NDArray[np.float32], k: int, tier: Any, where: Bitmap | None) -> Neighbors:
        missing = "bits" if tier == "bits" else "embeddings"
        if missing not in self._residence.plan.tiers:
            return self._host._search_directions(queries, k, tier, where)

        def run_batch(batch: list[NDArray[np.float32]]) -> list[Neighbors]:
            every = np.concatenate(batch)
            if tier == "embeddings" and self._first.takes(k, len(every), where):
                return _shares(self._near_by_faiss(every, k), batch)
            return _shares(super(GpuBackend, self)._search_directions(every, k, tier, where), batch)

        return self._submit((tier, k, FilterKey(where)), queries, run_batch)

    def _build_index(self) -> FaissIndex:
        def exact(queries: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
            return np.stack([ids for ids, _ in self._nearest(Chosen(None), queries, k)])

        return GpuFaissIndex(self.catalog, self._device.memory()[0] - WORKING_BYTES, exact)

    def _near_by_faiss(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Return the nearest by faiss, or by the kernels where there is no proof; `source` names the engine."""

        def rescore(positions: NDArray[np.uint32], query: NDArray[np.float32], most: int) -> Candidates:
            return self._cosines(Chosen(None, gathered=Gathered(positions, _ON_CARD)), query, most)

        found = self._first.search(queries, k, rescore)
        near = [
            self._by_cosine(Chosen(None), query, k) if one is None else as_cosine_distances(one)
            for one, query in zip(found, queries, strict=True)
        ]
        proven = sum(one is not None for one in found)
        by = "faiss-gpu" if proven == len(found) else "faiss-gpu+gpu" if proven else "gpu"
        return pad(near, k, f"{by}/embeddings")

    @property
    def first_tier(self) -> Literal["bits", "embeddings"]:
        """The tier that the first neighbours of a text or an image are taken from: embeddings if faiss answers."""
        return "embeddings" if self._first.engine(_PAGE, 1)[0] == "faiss" else super().first_tier

    @property
    def _host(self) -> CpuBackend:
        """The cpu backend, for scans of what is not resident; numba is loaded only then."""
        from gpubranches.engines.cpu.backend import CpuBackend

        self._worker.require()
        with self._lock:
            if self._cpu is None:
                self._cpu = CpuBackend(self.catalog)
            return self._cpu

    def _resident(self, model: Linear) -> bool:
        tier = (
            "codes" if isinstance(model, CodeWeights) else "bits" if isinstance(model, WeightPlanes) else "embeddings"
        )
        return tier in self._residence.plan.tiers

    # Rows

    def _rows(self, where: Bitmap | None) -> Chosen:
        return Chosen(where)

    def _only(self, rows: Chosen, ids: NDArray[np.int64]) -> Chosen:
        return replace(rows, ids=ids)

    def _within(self, rows: Chosen, boxes: Boxes) -> Chosen:
        return replace(rows, boxes=boxes)

    def _bitmap(self, rows: Chosen) -> Bitmap:
        return self._worker.call(lambda: self._device.get(allowed_rows(self._residence, rows)).view(np.uint8))

    def _gathered(self, ids: NDArray[np.int64]) -> Gathered:
        positions = positions_of(self.catalog, ids)
        return Gathered(positions, self.catalog.embeddings_at(positions))

    # Scans

    def _votes(self, rows: Chosen, models: list[Boxes], min_votes: int, limit: int | None) -> list[Candidates]:
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
            return [voted(NOTHING) for _ in models]
        programs: dict[tuple[int, ...], Program] = {}

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            own = tuple(which)
            if own not in programs:
                programs[own] = compile_boxes([models[i] for i in own], min_votes)
            launchers.boxes(span.on, span.allowed, programs[own], sinks)

        n, span = len(models), Span(on, allowed)
        asked = Asked([limit] * n, [NO_BORDER] * n, VOTE_BITS, "appended", cuts_ties=True)
        return [voted(one) for one in collected(span, scan, asked, [Border()] * n)]

    def _nearest(
        self, rows: Chosen, queries: NDArray[np.uint8], k: int
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

            asked = Asked([k] * len(own), [NO_BORDER] * len(own), squared_bits(on.d))
            found += best(Span(on, allowed), scan, asked, self._sample_from)
        return [(one.ids, one.keys.astype(np.int32)) for one in found]

    def _linear(self, rows: Chosen, model: Linear, floor: np.float32, limit: int | None) -> Candidates:
        return self._linear_models(rows, [(model, floor, limit)])[0]

    def _linear_models(self, rows: Chosen, asked: Sequence[tuple[Linear, np.float32, int | None]]) -> list[Candidates]:
        """Answer linear models of one tier, in passes of at most MOST_MODELS, fewer where lists are long."""
        most = max((limit for _, _, limit in asked if limit is not None), default=0)
        rows_read = self._residence.resident.n_tiles * TILE
        at_once = min(MOST_MODELS, lists_at_once(most, rows_read, self._sample_from))
        found = []
        for start in range(0, len(asked), at_once):
            found += self._linear_pass(rows, asked[start : start + at_once])
        return found

    def _linears(
        self, rows: Chosen, models: Sequence[Linear], floor: np.float32, limit: int | None
    ) -> list[Candidates]:
        return self._linear_models(rows, [(model, floor, limit) for model in models])

    def _linear_pass(self, rows: Chosen, asked: Sequence[tuple[Linear, np.float32, int | None]]) -> list[Candidates]:
        if isinstance(asked[0][0], np.ndarray):
            return [self._by_embeddings(rows, model, floor, limit, cosine=False) for model, floor, limit in asked]
        allowed = allowed_rows(self._residence, rows)
        on = self._residence.resident
        if not on.n_tiles:
            return [scored(NOTHING) for _ in asked]
        planes = [model for model, _, _ in asked if isinstance(model, WeightPlanes)]
        weights = [model for model, _, _ in asked if isinstance(model, CodeWeights)]

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            if planes:
                launchers.bits(span.on, span.allowed, [planes[i] for i in which], step, sinks)
            else:
                launchers.linear(span.on, span.allowed, [weights[i] for i in which], step, sinks)

        wanted = Asked([limit for _, _, limit in asked], [floor_key(floor) for _, floor, _ in asked])
        return [scored(one) for one in best(Span(on, allowed), scan, wanted, self._sample_from)]

    def _cosines(self, rows: Chosen, query: NDArray[np.float32], k: int) -> Candidates:
        direction = query / np.float32(max(float(np.linalg.norm(query)), 1e-12))
        return self._by_embeddings(rows, direction, np.float32(-np.inf), k, cosine=True)

    def _by_embeddings(
        self, rows: Chosen, weights: Any, floor: np.float32, limit: int | None, *, cosine: bool
    ) -> Candidates:
        """Score the embeddings of all rows where they are resident, of listed rows wherever they are."""
        allowed = allowed_rows(self._residence, replace(rows, ids=None))
        device, on = self._device, self._residence.resident
        gathered, positions = rows.gathered, None
        if gathered is not None:
            positions = gathered.positions
        elif rows.ids is not None:
            positions = positions_of(self.catalog, rows.ids)
        if not on.n_tiles or (positions is not None and not len(positions)):
            return scored(NOTHING)
        mean, direction = device.put_all([self._signs().mean_, np.ascontiguousarray(weights, np.float32)])
        asked = Asked([limit], [floor_key(floor)])

        def scan(span: Span, which: Sequence[int], step: int, sinks: DeviceArray) -> None:
            launchers.rescore(span.on, None, None, span.allowed, mean, direction, cosine, step, sinks)

        if positions is None and not on.width:  # a commit has dropped them since the question was asked
            host = self._host
            parts = host._selected(Only(rows.where, boxes=rows.boxes))
            return host._cosines(parts, weights, limit or 1) if cosine else host._linear(parts, weights, floor, limit)
        if positions is None:
            return scored(best(Span(on, allowed), scan, asked, self._sample_from)[0])
        found = []
        for first in range(0, len(positions), lists.FIRST_ROOM):
            listed = positions[first : first + lists.FIRST_ROOM]

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
            found += best(span, scan_listed, asked, len(listed) + 1)
        every = joined([(one.ids, one.keys) for one in found], limit)
        return scored(replace(every, total=sum(one.total for one in found)))


def _shares(found: Neighbors, batch: Sequence[NDArray[Any]]) -> list[Neighbors]:
    """Part the answer to the joined queries of a batch."""
    cuts = np.cumsum([len(own) for own in batch])[:-1]
    pairs = zip(np.split(found.distances, cuts), np.split(found.ids, cuts), strict=True)
    return [Neighbors(distances=distances, ids=ids, source=found.source) for distances, ids in pairs]
