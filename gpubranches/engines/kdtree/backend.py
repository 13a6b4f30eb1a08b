"""The kdtree backend: the cpu backend with an index of k-d trees over the subsets of dims that branches draw from.

After Lülf, Lima Martins, Vaz Salles, Zhou and Gieseke, Fast Search-By-Classification for Large-Scale Databases Using
Index-Aware Decision Trees and Random Forests (PVLDB 16(11), 2023) and CLIP-Branches (SIGIR 2024, arXiv 2406.13322).
Each box of `BranchEnsemble(subsets="pool")` uses the dims of one tree. Other boxes are answered by the tree that is
expected to exclude most rows, or by a scan. Every answer is exact.
"""

from __future__ import annotations

import os
import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates, Neighbors
from gpubranches.engines.cpu.backend import CpuBackend, Hits, Run, in_turn
from gpubranches.engines.cpu.scans import Task
from gpubranches.engines.host import HostBackend, SegmentRows, flat
from gpubranches.engines.kdtree import query
from gpubranches.engines.kdtree.files import FOLDER, KdIndex, Tree, fingerprint
from gpubranches.engines.kdtree.plan import Step, index_cost_ns, plan, scan_cost_ns
from gpubranches.engines.scan import pinned
from gpubranches.errors import CatalogIndexError, UsageError

_WORDS = TILE // 64
_WORTH_THREADS_NS = 4e6
_FINE_ESTIMATORS = 1024


class _Lane:
    """Buffers of one thread: a bitmap and votes, all zero between calls, allocated on first use."""

    def __init__(self, n_words: int):
        self.n_words = n_words
        self.seen = np.zeros(n_words, np.uint64)
        self._marked = np.zeros(0, np.uint64)
        self._votes = np.zeros(0, np.uint64)

    @property
    def marked(self) -> NDArray[np.uint64]:
        """A second bitmap, for rows that must still be verified."""
        if not len(self._marked):
            self._marked = np.zeros(self.n_words, np.uint64)
        return self._marked

    def votes(self, p: int) -> NDArray[np.uint64]:
        """Return the votes, p bits per row."""
        if len(self._votes) < p * self.n_words:
            self._votes = np.zeros(p * self.n_words, np.uint64)
        return self._votes[: p * self.n_words]


class KdtreeBackend(CpuBackend):
    """Answers boxes by the catalog's index, and all other queries by the scans of the cpu backend.

    The trees are memory-mapped. Anonymous memory consists of a bitmap and the votes, (1 + log2 e) / 8 bytes per row and
    thread for e estimators, and of the answer. A model is scanned if that is expected to be faster. index_only: use the
    trees even then. stop_leaves: None, or the number of leaves (zones of 128 rows in the catalog's order) that a search
    over codes reads, those with the nearest bounds first; the search is then approximate, as in the papers, and
    `source` says so. folder: of the index, by default the one in the catalog.
    """

    name = "kdtree"

    def __init__(
        self,
        catalog: Catalog,
        *,
        nn: str = "auto",
        threads: int | None = None,
        stop_leaves: int | None = None,
        index_only: bool = False,
        folder: Path | None = None,
    ):
        """Open the index. Raises CatalogIndexError with the command to run if it is missing, stale or damaged."""
        super().__init__(catalog, nn=nn, threads=threads)
        if stop_leaves is not None and stop_leaves < 1:
            raise UsageError(f"stop_leaves: expected 1 or more, or None for an exact search, got {stop_leaves}")
        self.stop_leaves, self.index_only = stop_leaves, index_only
        self.folder = catalog.path / FOLDER if folder is None else folder
        self._lanes: list[_Lane] = []
        self._answered = {"by index": 0, "by scan": 0}
        with catalog.pinned():
            self._opened: tuple[int, KdIndex] = (catalog.generation, self._open())

    @pinned
    def info(self) -> dict[str, Any]:
        """Return the info of the cpu backend, the size of the index, and how many boxes index and scans answered."""
        index = self._current()
        own = {"trees": len(index.trees), "index_bytes": index.size_bytes, "boxes": dict(self._answered)}
        return {**super().info(), **own, "stop_leaves": self.stop_leaves}

    def close(self) -> None:
        """Stop the threads and release the buffers; a later call makes them again."""
        super().close()
        with self._lock:
            self._lanes.clear()

    @pinned
    def evict(self) -> None:
        """Drop the trees' pages from memory, so that the next query reads them from the disk; for measurements."""
        with self._lock:
            self._opened = self.catalog.generation, self._open()
        for path in self.folder.iterdir():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    @pinned
    def plan(self, boxes: Boxes) -> list[Step]:
        """Return how each box would be answered if the model is not scanned."""
        return plan(self._current(), boxes, self.index_only)

    def _model_votes(self, parts: list[SegmentRows], boxes: Boxes, min_votes: int, limit: int | None) -> Candidates:
        index = self._current()
        steps = plan(index, boxes, self.index_only)
        cost = index_cost_ns(index.n, steps, boxes.n_estimators)
        worth = self.index_only or cost < scan_cost_ns(index.n, len(boxes))
        indexed = sum(step.tree is not None for step in steps) if worth else 0
        with self._lock:
            self._answered["by index"] += indexed
            self._answered["by scan"] += len(steps) - indexed
        if min_votes > boxes.n_estimators or not indexed:
            return super()._model_votes(parts, boxes, min_votes, limit)
        if limit == 0 and len(steps) == boxes.n_estimators == 1 and self._everything(parts):
            total = _counted(steps[0])
            if total is not None:
                return Candidates(ids=np.zeros(0, np.int64), votes=np.zeros(0, np.uint16), total=total)
        lanes = self._borrow(self.threads if cost > _WORTH_THREADS_NS else 1, self.catalog.n_positions // 64)
        found = self._found(lanes, steps, parts, boxes, min_votes, limit)
        with self._lock:
            self._lanes += lanes
        return found

    def _in_boxes(self, rows: list[SegmentRows], boxes: Boxes) -> list[SegmentRows]:
        return HostBackend._in_boxes(self, rows, boxes)

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        found = super()._search_codes(queries, k, where)
        if self.stop_leaves is None or not found.source.startswith(self.name):
            return found
        return replace(found, source=f"{found.source}, {self.stop_leaves} leaves")

    # The index

    def _open(self) -> KdIndex:
        return KdIndex.open(self.folder, self.catalog, self._remedy)

    @property
    def _remedy(self) -> str:
        return f"build it with `gpubranches index {self.folder.parent}`"

    def _current(self) -> KdIndex:
        """Return the index of the catalog's present state; open it again if another was built."""
        with self._lock:
            generation, index = self._opened
            if generation != self.catalog.generation:
                generation = self.catalog.generation
                if index.codes != fingerprint(self.catalog):
                    index = self._open()
                    self._lanes.clear()
                self._opened = generation, index
            return index

    # Computation of an answer from the steps

    def _everything(self, parts: list[SegmentRows]) -> bool:
        """Return whether every row of the catalog is allowed."""
        return self.catalog.deleted is None and parts is self._live[1]

    def _borrow(self, count: int, n_words: int) -> list[_Lane]:
        with self._lock:
            lanes = [lane for lane in self._lanes if lane.n_words == n_words][:count]
            self._lanes = [lane for lane in self._lanes if lane not in lanes]
        return lanes + [_Lane(n_words) for _ in range(count - len(lanes))]

    def _found(
        self,
        lanes: list[_Lane],
        steps: list[Step],
        parts: list[SegmentRows],
        boxes: Boxes,
        min_votes: int,
        limit: int | None,
    ) -> Candidates:
        p = boxes.n_estimators.bit_length()
        if p == 1:
            self._map(lambda i: self._mark_all(lanes[i], steps, parts, i, len(lanes)), list(range(len(lanes))))
            votes = [lane.seen for lane in lanes]
        else:
            self._vote(lanes, steps, parts, boxes, p)
            votes = [lane.votes(p) for lane in lanes]
        shift = 60 if boxes.n_estimators < _FINE_ESTIMATORS else 63

        def work(task: Task) -> Hits | int:
            part, first, stop = task
            start = part.segment.start // 64
            words = slice((start + first * _WORDS) * p, (start + stop * _WORDS) * p)
            own, allowed = votes[0][words], part.allowed[first * _WORDS : stop * _WORDS]
            for other in votes[1:]:
                query.join(own, other[words], p)
            if limit == 0:
                found: Hits | int = query.reach(own, p, allowed, min_votes, np.empty(len(allowed), np.uint64))
            else:
                ids = flat(part.segment.ids)[first * TILE : stop * TILE]
                found = query.emit(own, p, allowed, min_votes, boxes.n_estimators, ids, shift)
            own[:] = 0
            return found

        run: Run = self._map if len(lanes) > 1 else in_turn
        tasks = _cut(parts, 2 * len(lanes) if len(lanes) > 1 else 1)
        found = run(work, tasks)
        if limit == 0:
            return Candidates(ids=np.zeros(0, np.int64), votes=np.zeros(0, np.uint16), total=sum(found))
        return self._ordered(found, 1 << (64 - shift), limit, run)

    def _vote(self, lanes: list[_Lane], steps: list[Step], parts: list[SegmentRows], boxes: Boxes, p: int) -> None:
        """Distribute the estimators over the lanes; each lane adds the rows of its estimators to its votes."""
        owners = np.searchsorted(boxes.estimator, np.arange(boxes.n_estimators + 1))
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for e in range(boxes.n_estimators):
            waiting.put(e)

        def work(lane: _Lane) -> None:
            while True:
                try:
                    e = waiting.get_nowait()
                except queue.Empty:
                    return
                self._mark_all(lane, steps[owners[e] : owners[e + 1]], parts, 0, 1)
                query.fold(lane.seen, lane.votes(p), p)

        self._map(work, list(lanes))

    def _mark_all(self, lane: _Lane, steps: list[Step], parts: list[SegmentRows], share: int, shares: int) -> None:
        """Set in the lane's bitmap the rows of some boxes, for one of `shares` equal parts of the work."""
        for step in steps:
            if step.tree is None or step.leaves is None:
                _scan(lane, step, parts, share, shares)
            else:
                self._mark(lane, step.tree, step.leaves, step, parts, share, shares)

    def _mark(
        self,
        lane: _Lane,
        tree: Tree,
        leaves: NDArray[np.uint64],
        step: Step,
        parts: list[SegmentRows],
        share: int,
        shares: int,
    ) -> None:
        own, rest = step.own, step.rest
        first, stop = _share_of(leaves, share, shares), _share_of(leaves, share + 1, shares)
        target = lane.marked if len(rest.features) else lane.seen
        given = own.features, own.low, own.high, leaves, first, stop, target
        if not query.mark(tree.blocks, tree.positions, tree.n, len(tree.features), *given):
            raise CatalogIndexError(
                f"{self.folder}: damaged: a tree contains a row that does not exist; {self._remedy}"
            )
        if not len(rest.features):
            return
        for segment in (part.segment for part in parts):
            words = slice(segment.start // 64, segment.start // 64 + segment.tiles * _WORDS)
            limits = rest.features, rest.low, rest.high
            query.verify(target[words], flat(segment.codes), segment.d, *limits, lane.seen[words])


def _counted(step: Step) -> int | None:
    """Return how many rows lie in the box, counting whole leaves by their size; None if the tree alone cannot tell."""
    tree, own = step.tree, step.own
    if tree is None or step.leaves is None or len(step.rest.features):
        return None
    limits = own.features, own.low, own.high, step.leaves
    return step.whole_rows + int(query.count(tree.blocks, tree.n, len(tree.features), *limits))


def _cut(parts: list[SegmentRows], count: int) -> list[Task]:
    """Divide the segments into about `count` tasks, at least one for each segment."""
    size = max(1, -(-sum(part.segment.tiles for part in parts) // count))
    return [
        (part, first, min(first + size, part.segment.tiles))
        for part in parts
        for first in range(0, part.segment.tiles, size)
    ]


def _share_of(leaves: NDArray[np.uint64], share: int, shares: int) -> int:
    """Return the group at which a share of the leaves begins, so that all shares have equally many leaves."""
    groups: int = leaves.shape[1]
    if share in (0, shares):
        return groups if share else 0
    upto: NDArray[np.int64] = np.cumsum(np.bitwise_count(leaves).sum(axis=0, dtype=np.int64))
    return int(np.searchsorted(upto, upto[-1] * share / shares))


def _scan(lane: _Lane, step: Step, parts: list[SegmentRows], share: int, shares: int) -> None:
    for part in parts:
        segment, own = part.segment, step.own
        first, stop = share * segment.tiles // shares, (share + 1) * segment.tiles // shares
        words = slice(segment.start // 64, segment.start // 64 + segment.tiles * _WORDS)
        codes, zones = flat(segment.codes), flat(segment.zones)
        given = own.features, own.low, own.high, lane.seen[words]
        query.scan(codes, zones, segment.d, first, stop, *given)
