"""The cpu backend: numba kernels over tiles and zones, on all cores."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import ZONE, ZONES, Catalog
from gpubranches.core.boxes import MAX_ESTIMATORS, Boxes
from gpubranches.core.results import Candidates
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.cpu import box_kernels, order, score_kernels
from gpubranches.engines.cpu.scans import Scan, Task, bit_scan, code_scan, cosine_scan, dot_scan, joined
from gpubranches.engines.host import HostBackend, SegmentRows, flat
from gpubranches.engines.scan import Linear

_FEWEST_TILES, _MOST_TILES = 8, 64
_SEED_ZONES = 32
_QUERIES = 16
"""How many queries over codes are answered by one pass over the zones."""
_MANY_ESTIMATORS = 1024
_ZONES_A_TASK = 1024
_MANY_RANKED = 1 << 18
"""The number of scores from which all threads sort them."""
_HELD = 4
"""How many times more rows than wanted are kept before the worst are dropped."""
_LEAST_KEY = np.int32(np.iinfo(np.int32).min)

Hits = tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]
"""Tie keys, splitmix64(id), of found rows; their buckets; the sizes of the buckets."""
ZoneTask = tuple[SegmentRows, NDArray[np.int64]]
"""Zones of a segment, by their numbers."""
Run = Callable[[Callable[[Any], Any], list[Any]], list[Any]]
"""Called with (work, tasks): calls work for each task and returns the results in the order of the tasks."""


class CpuBackend(HostBackend):
    """Scans the memory-mapped tiers in place. Anonymous memory is a few megabytes per thread, plus the answer.

    A call is divided into tasks of some tiles for the threads of a pool. The kernels release the GIL. They do not use
    numba's parallel mode, because its default threading layer ends the process when two threads call it at once.
    threads: None takes numba's count, all cores unless NUMBA_NUM_THREADS is smaller.
    """

    name = "cpu"
    stop_leaves: int | None = None
    """The number of zones that a search over codes reads; None: all that may contain an answer, for an exact search."""

    def __init__(self, catalog: Catalog, *, nn: str = "auto", threads: int | None = None):
        super().__init__(catalog, nn=nn)
        self.threads = threads or numba.config.NUMBA_NUM_THREADS
        self._pool: ThreadPoolExecutor | None = None

    def info(self) -> dict[str, Any]:
        """Return name, nearest-neighbour method, the catalog's size and the number of threads."""
        return {**super().info(), "threads": self.threads}

    def close(self) -> None:
        """Stop the threads; a later call starts them again."""
        super().close()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _model_votes(self, parts: list[SegmentRows], boxes: Boxes, min_votes: int, limit: int | None) -> Candidates:
        if min_votes > boxes.n_estimators:
            return Candidates(ids=np.zeros(0, np.int64), votes=np.zeros(0, np.uint16), total=0)
        owners = np.searchsorted(boxes.estimator, np.arange(boxes.n_estimators + 1))
        shift = 60 if boxes.n_estimators < _MANY_ESTIMATORS else 63
        cutoff = _VoteCutoff(boxes.n_estimators, min_votes, limit)

        def work(task: Task) -> Hits:
            segment, allowed = task[0].segment, task[0].allowed
            codes, zones, ids = flat(segment.codes), flat(segment.zones), flat(segment.ids)
            model = owners, boxes.offsets, boxes.features, boxes.low, boxes.high, np.uint16(min_votes), cutoff.keep
            *hits, total = box_kernels.votes(codes, zones, allowed, segment.d, task[1], task[2], *model, ids, shift)
            cutoff.add(hits[2], total)
            return hits[0], hits[1], hits[2]

        found = self._ordered(self._map(work, self._tasks(parts)), 1 << (64 - shift), limit, self._map)
        return replace(found, total=cutoff.total)

    def _in_boxes(self, rows: list[SegmentRows], boxes: Boxes) -> list[SegmentRows]:
        owners = np.searchsorted(boxes.estimator, np.arange(boxes.n_estimators + 1))
        found = {part.segment.start: np.zeros(len(part.allowed), np.uint64) for part in rows}

        def work(task: Task) -> None:
            segment, allowed = task[0].segment, task[0].allowed
            codes, zones, own = flat(segment.codes), flat(segment.zones), found[segment.start]
            model = owners, boxes.offsets, boxes.features, boxes.low, boxes.high
            box_kernels.held(codes, zones, allowed, segment.d, task[1], task[2], *model, own)

        self._map(work, self._tasks(rows))
        return [SegmentRows(part.segment, found[part.segment.start]) for part in rows]

    def _ordered(self, found: list[Hits], each: int, limit: int | None, run: Run) -> Candidates:
        """Order the results of the tasks: distribute them into buckets by votes and tie key, then sort each bucket.

        Only tie keys are moved. As splitmix64 can be inverted, the ids are computed from the sorted tie keys.
        """
        if not found:
            return Candidates(ids=np.zeros(0, np.int64), votes=np.zeros(0, np.uint16), total=0)
        sizes = np.stack([own for _, _, own in found])
        bounds = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))])
        total = int(bounds[-1])
        wanted = total if limit is None else min(limit, total)
        buckets = int(np.searchsorted(bounds, wanted))
        tie_keys = np.empty(bounds[buckets], np.uint64)
        places = bounds[:-1] + np.cumsum(sizes, axis=0) - sizes
        run(lambda i: order.scatter(found[i][0], found[i][1], places[i], tie_keys), list(range(len(found))))
        ids = np.empty(len(tie_keys), np.int64)

        def finish(span: NDArray[np.int64]) -> None:
            for bucket in np.split(tie_keys[span[0] : span[-1]], span[1:-1] - span[0]):
                bucket.sort()
            order.ids_of(tie_keys[span[0] : span[-1]], ids[span[0] : span[-1]])

        cuts = np.searchsorted(bounds[: buckets + 1], np.linspace(0, len(tie_keys), 4 * self.threads + 1))
        run(finish, [bounds[a : b + 1] for a, b in itertools.pairwise(cuts.tolist()) if b > a])
        votes = (sizes.shape[1] // each - 1 - np.arange(sizes.shape[1]) // each).astype(np.uint16)
        return Candidates(
            ids=ids[:wanted], votes=np.repeat(votes[:buckets], np.diff(bounds[: buckets + 1]))[:wanted], total=total
        )

    def _linear_rows(
        self, parts: list[SegmentRows], model: Linear, min_score: np.float32, limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        if isinstance(model, WeightPlanes):
            return self._top_scores(parts, bit_scan(model), min_score, limit)
        if isinstance(model, CodeWeights):
            return self._top_scores(parts, code_scan(model), min_score, limit)
        return self._top_scores(parts, dot_scan(self._signs().mean_, model), min_score, limit)

    def _ranked(
        self, ids: NDArray[np.int64], scores: NDArray[np.float32], limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return what `HostBackend._ranked` returns. Many scores are divided into ranges, each sorted by a thread."""
        if len(ids) < _MANY_RANKED or (limit is not None and limit < len(ids) // 4):
            return super()._ranked(ids, scores, limit)
        sample = np.sort(scores[:: _MANY_RANKED // 1024])
        pivots = sample[np.linspace(0, len(sample) - 1, self.threads + 1).astype(np.intp)[1:-1]]
        bounds = [np.float32(-np.inf), *pivots, np.float32(np.inf)]

        def rank(bound: tuple[np.float32, np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            words = order.falling_words(scores, bound[0], bound[1])
            words.sort()
            own_ids, own_scores = np.empty(len(words), np.int64), np.empty(len(words), np.float32)
            order.unpack_ranked(words, ids, own_ids, own_scores)
            return own_ids, own_scores

        found = self._map(rank, list(itertools.pairwise(bounds)))[::-1]
        ranked = joined([own for own, _ in found], np.int64), joined([own for _, own in found], np.float32)
        return ranked[0][:limit], ranked[1][:limit]

    def _cosine_rows(
        self, parts: list[SegmentRows], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        direction = query / np.float32(max(float(np.linalg.norm(query)), 1e-12))
        scan = cosine_scan(self._signs().mean_, direction)
        ids, cosines, _ = self._top_scores(parts, scan, np.float32(-np.inf), k)
        return ids, cosines

    def _top_scores(
        self, parts: list[SegmentRows], scan: Scan, min_score: np.float32, limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """Run a scan over all parts. Its tasks share the cutoff, the key of the worst of the best rows so far."""
        cutoff = np.full(1, _LEAST_KEY, np.int32)
        min_key = order.float_keys(np.full(1, min_score))[0]
        most = np.iinfo(np.int32).max if limit is None else max(limit, 1)
        best = _BestRows(most, cutoff)

        def work(task: Task) -> None:
            rows, keys, total = scan(task, most, min_key, cutoff)
            best.add(task[0].segment.ids[rows], keys, total)

        self._map(work, self._tasks(parts))
        ids, keys = best.rows()
        return ids, order.key_floats(keys), best.total

    def _nearest_rows(
        self, parts: list[SegmentRows], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        each = 1 if self.stop_leaves is not None else _QUERIES
        return [
            found
            for first in range(0, len(queries), each)
            for found in self._nearest_of_group(parts, queries[first : first + each], k)
        ]

    def _nearest_of_group(
        self, parts: list[SegmentRows], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Search the zones with the nearest bounds first; then the k-th row found there excludes most other zones.

        Each zone is read once for all queries; the bounds take 4 bytes for a zone and query. With `stop_leaves`, which
        allows one query, only that many zones are searched, so the answer is approximate.
        """
        cutoffs = np.full(len(queries), _LEAST_KEY + 1, np.int32)
        wide = queries.astype(np.int16)
        bounds = {part.segment.start: np.empty((len(queries), part.segment.tiles * ZONES), np.int32) for part in parts}

        def bound(task: Task) -> None:
            segment, own = task[0].segment, bounds[task[0].segment.start]
            for query, line in zip(wide, own, strict=True):
                score_kernels.zone_bounds(
                    flat(segment.zones), task[0].allowed, segment.d, task[1], task[2], query, line
                )

        def look(task: ZoneTask, chosen: slice = slice(None)) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
            segment, own = task[0].segment, bounds[task[0].segment.start][chosen]
            codes, ids, allowed = flat(segment.codes), flat(segment.ids), task[0].allowed
            rows, keys, counts = score_kernels.near_rows(
                codes, allowed, segment.d, task[1], own, wide[chosen], k, cutoffs[chosen], ids
            )
            return [(segment.ids[rows[q, :n]], keys[q, :n].copy()) for q, n in enumerate(counts.tolist())]

        self._map(bound, self._tasks(parts))
        found = []
        for q in range(len(queries)):
            lines = {start: own[q] for start, own in bounds.items()}
            count = max(_SEED_ZONES, 4 * k // ZONE) if self.stop_leaves is None else self.stop_leaves
            found = self._map(partial(look, chosen=slice(q, q + 1)), _seed_zones(parts, lines, count))
            seen = joined([keys for ((_, keys),) in found], np.int32)
            if len(seen) >= k:
                cutoffs[q] = max(cutoffs[q], np.partition(seen, len(seen) - k)[len(seen) - k])
        if self.stop_leaves is None:
            found = self._map(look, list(_zones_within(parts, bounds, cutoffs)))
        return [
            (joined([own[q][0] for own in found], np.int64), -joined([own[q][1] for own in found], np.int32))
            for q in range(len(queries))
        ]

    def _tasks(self, parts: list[SegmentRows]) -> list[Task]:
        """Divide the parts into runs of tiles, enough for all threads but not too many."""
        tiles = sum(part.segment.tiles for part in parts)
        shares = 1 if self.threads == 1 else 4 * self.threads
        size = min(max(tiles // shares, _FEWEST_TILES), _MOST_TILES)
        return [
            (part, first, min(first + size, part.segment.tiles))
            for part in parts
            for first in range(0, part.segment.tiles, size)
        ]

    def _map(self, work: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
        """Run the tasks on all threads; return the results in the order of the tasks."""
        if self.threads == 1 or len(tasks) < 2:
            return in_turn(work, tasks)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "gpubranches-cpu")
            pool = self._pool
        return list(pool.map(work, tasks))


class _VoteCutoff:
    """The least number of votes of the `limit` best rows so far, shared by the tasks of a call.

    Rows with fewer votes cannot be in the answer, so a task need not keep them. A task that reads an old value keeps
    more rows than needed.
    """

    def __init__(self, n_estimators: int, min_votes: int, limit: int | None):
        self.keep = np.uint16(min_votes if limit != 0 else min(n_estimators + 1, MAX_ESTIMATORS))
        self.total = 0
        self._limit = limit
        self._sizes = np.zeros(n_estimators + 1, np.int64)
        self._lock = threading.Lock()

    def add(self, sizes: NDArray[np.int64], total: int) -> None:
        """Add the result of a task; sizes: of its buckets, by votes from all down to 0."""
        with self._lock:
            self.total += int(total)
            if self._limit:
                self._sizes += sizes.reshape(len(self._sizes), -1).sum(axis=1)
                place = int(np.searchsorted(np.cumsum(self._sizes), self._limit))
                self.keep = max(self.keep, np.uint16(max(len(self._sizes) - 1 - place, 0)))


class _BestRows:
    """Rows that the tasks of a call found, in any order, among them the `limit` best. It raises their cutoff.

    Each task knows only the best of its own rows. So only the best rows are kept, and the worst of them is the cutoff
    of all tasks. The memory of a call depends on its limit, not on the catalog.
    """

    def __init__(self, limit: int, cutoff: NDArray[np.int32]):
        self.total = 0
        self._limit, self._cutoff = limit, cutoff
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
        self._held, self._most_held = 0, _HELD * limit
        self._lock = threading.Lock()

    def add(self, ids: NDArray[np.int64], keys: NDArray[np.int32], total: int) -> None:
        """Add the result of a task; total: the number of rows it counted."""
        with self._lock:
            self.total += int(total)
            self._found.append((ids, keys))
            self._held += len(ids)
            if self._held > self._most_held:
                self._drop()

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return ids and keys of the rows."""
        return joined([ids for ids, _ in self._found], np.int64), joined([keys for _, keys in self._found], np.int32)

    def _drop(self) -> None:
        """Drop the rows that are worse than the `limit` best; rows that tie with the worst of these stay."""
        ids, keys = self.rows()
        worst = np.partition(keys, len(keys) - self._limit)[len(keys) - self._limit]
        kept = keys >= worst
        self._found = [(ids[kept], keys[kept])]
        self._held = len(self._found[0][0])
        self._most_held = _HELD * max(self._limit, self._held)
        self._cutoff[0] = max(self._cutoff[0], worst)


def in_turn(work: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
    """Run the tasks on this thread."""
    return [work(task) for task in tasks]


def _seed_zones(parts: list[SegmentRows], bounds: dict[int, NDArray[np.int32]], count: int) -> list[ZoneTask]:
    """Return the `count` zones with the best bounds, by segment."""
    every = joined(list(bounds.values()), np.int32)
    count = min(count, len(every))
    best = np.sort(np.argpartition(every, len(every) - count)[len(every) - count :]) if count else np.zeros(0, np.int64)
    shares, start = [], 0
    for part in parts:
        stop = start + len(bounds[part.segment.start])
        own = best[(best >= start) & (best < stop)] - start
        if len(own):
            shares.append((part, own))
        start = stop
    return shares


def _zones_within(
    parts: list[SegmentRows], bounds: dict[int, NDArray[np.int32]], cutoffs: NDArray[np.int32]
) -> Iterator[ZoneTask]:
    """Yield the zones whose bounds reach the cutoff of a query, in tasks of some zones."""
    for part in parts:
        zones = np.flatnonzero((bounds[part.segment.start] >= cutoffs[:, None]).any(axis=0))
        for start in range(0, len(zones), _ZONES_A_TASK):
            yield part, zones[start : start + _ZONES_A_TASK]
