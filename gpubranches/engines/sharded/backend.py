"""The backend over shards: every scan goes to all shards with rows for it, and the answers are merged exactly."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog, Snapshot
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates
from gpubranches.core.tie_order import best_first
from gpubranches.engines.scan import Linear, RowFilter, ScanBackend
from gpubranches.engines.sharded.shard_catalog import ShardState
from gpubranches.engines.sharded.shards import Shard
from gpubranches.errors import UsageError

_AT_ONCE = 8
"""The largest number of simultaneous requests to one shard; others wait for their turn."""
_THREADS = 1024
_STATES = 3
"""Number of generations whose division is cached."""
_TIMED = 64
"""Number of answers of a shard whose times are stored."""
SLOW = 2.0
"""A shard counts as slow if its median time is this many times the median of all shards."""


@dataclass
class _Times:
    """The times of the last answers of a shard, seconds."""

    last: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMED))
    answers: int = 0

    def add(self, seconds: float) -> None:
        self.last.append(seconds)
        self.answers += 1

    @property
    def median_s(self) -> float:
        return float(np.median(self.last)) if self.last else 0.0


class ShardedBackend(ScanBackend[RowFilter]):
    """A backend over the engines of several shards, each with some segments of the catalog.

    The shards return ids with integer votes and distances, or with the scores of single rows, which do not depend on
    other rows. So merging by key and splitmix64(id) gives the answer of one engine over all rows. If a shard does not
    answer, ShardError is raised; no answer is partial. A segment stays with its shard over commits; a new segment goes
    to the shard with the fewest rows.
    """

    def __init__(self, catalog: Catalog, shards: Sequence[Shard], *, name: str = "sharded", nn: str = "auto"):
        if nn == "faiss":
            raise UsageError("nn: expected auto or kernel for a backend over shards, got faiss")
        super().__init__(catalog, nn=nn)
        self.name = name
        self.shards = tuple(shards)
        self._times = [_Times() for _ in self.shards]
        self._owners: dict[str, int] = {}
        self._states: OrderedDict[int, list[ShardState]] = OrderedDict()
        self._pool = ThreadPoolExecutor(min(_AT_ONCE * len(shards), _THREADS) or 1, "gpubranches-shards")

    def info(self) -> dict[str, Any]:
        """Return name, nearest-neighbour method, the catalog's size, and the state of each shard."""
        return {**super().info(), "shards": self.shard_states()}

    def shard_states(self) -> list[dict[str, Any]]:
        """Return for each shard its place, rows, answers, restarts, median seconds per answer, and if it is slow."""
        states = self._divided(self.catalog.snapshot)
        medians = [times.median_s for times in self._times]
        usual = float(np.median([each for each in medians if each] or [0.0]))
        return [
            {
                "place": shard.place,
                "rows": state.rows,
                "answers": times.answers,
                "restarts": shard.restarts,
                "median_s": round(median, 6),
                "slow": median > SLOW * usual > 0,
            }
            for shard, state, times, median in zip(self.shards, states, self._times, medians, strict=True)
        ]

    def close(self) -> None:
        """End the engines of all shards."""
        super().close()
        self._pool.shutdown(cancel_futures=True)
        for shard in self.shards:
            shard.close()

    def load(self) -> None:
        """Let all shards open their segments now. Raises ShardError if one cannot."""
        with self.catalog.pinned() as snapshot:
            empty = np.zeros((0, self.catalog.d), np.uint8)
            self._asked(self._divided(snapshot), "nearest", RowFilter(), (empty, 1))

    # Shards

    def _divided(self, snapshot: Snapshot) -> list[ShardState]:
        """Return the state of each shard in a snapshot."""
        with self._lock:
            if snapshot.generation not in self._states:
                self._states[snapshot.generation] = self._divide(snapshot)
                while len(self._states) > _STATES:
                    self._states.popitem(last=False)
            return self._states[snapshot.generation]

    def _divide(self, snapshot: Snapshot) -> list[ShardState]:
        own: list[list[Any]] = [[] for _ in self.shards]
        loads = [0] * len(self.shards)
        fresh = []
        for segment in snapshot.filled:
            owner = self._owners.get(segment.folder.name)
            if owner is None:
                fresh.append(segment)
            else:
                own[owner].append(segment)
                loads[owner] += segment.tiles
        for segment in fresh:
            owner = loads.index(min(loads))
            own[owner].append(segment)
            loads[owner] += segment.tiles
        self._owners = {each.folder.name: owner for owner, held in enumerate(own) for each in held}
        return [ShardState.of(snapshot, sorted(held, key=lambda each: each.start)) for held in own]

    def _scatter(self, scan: str, rows: RowFilter, *arguments: Any) -> list[Any]:
        """Return the answers of the shards with rows of the filter."""
        return [answer for _, answer in self._asked(self._divided(self.catalog.snapshot), scan, rows, arguments)]

    def _asked(
        self, states: Sequence[ShardState], scan: str, rows: RowFilter, arguments: tuple[Any, ...]
    ) -> list[tuple[ShardState, Any]]:
        """Return each shard's state and answer. If a shard fails, its error is raised after all others have ended."""
        positions = None if rows.ids is None else self.catalog.snapshot.find_live(rows.ids)
        waiting = []
        for number, state in enumerate(states):
            own = _own_rows(state, rows, positions)
            if own is not None:
                waiting.append((state, self._pool.submit(self._ask, number, state, scan, own, arguments)))
        for _, future in waiting:
            with suppress(Exception):
                future.result()
        return [(state, future.result()) for state, future in waiting]

    def _ask(self, number: int, state: ShardState, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        began = time.perf_counter()
        answer = self.shards[number].ask(state, scan, rows, arguments)
        self._times[number].add(time.perf_counter() - began)
        return answer

    # The scans of ScanBackend; rows are represented by their filter

    def _rows(self, where: Bitmap | None) -> RowFilter:
        return RowFilter(where)

    def _with_ids(self, rows: RowFilter, ids: NDArray[np.int64]) -> RowFilter:
        return replace(rows, ids=ids)

    def _in_boxes(self, rows: RowFilter, boxes: Boxes) -> RowFilter:
        return replace(rows, boxes=boxes)

    def _bitmap(self, rows: RowFilter) -> Bitmap:
        bitmap = np.zeros(self.catalog.n_positions // 8, np.uint8)
        for state, own in self._asked(self._divided(self.catalog.snapshot), "held", rows, ()):
            state.put_into(bitmap, own)
        return bitmap

    def _votes(self, rows: RowFilter, models: list[Boxes], min_votes: int, limit: int | None) -> list[Candidates]:
        found = self._scatter("votes", rows, models, min_votes, limit)
        return [_merged_votes([answer[i] for answer in found], limit) for i in range(len(models))]

    def _nearest(
        self, rows: RowFilter, queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        found = self._scatter("nearest", rows, queries, k)
        merged = []
        for i in range(len(queries)):
            ids = _joined([answer[i][0] for answer in found], np.int64)
            squared = _joined([answer[i][1] for answer in found], np.int32)
            order = best_first(-squared, ids, k)
            merged.append((ids[order], squared[order]))
        return merged

    def _linear(self, rows: RowFilter, model: Linear, min_score: np.float32, limit: int | None) -> Candidates:
        return self._linears(rows, [model], min_score, limit)[0]

    def _linears(
        self, rows: RowFilter, models: Sequence[Linear], min_score: np.float32, limit: int | None
    ) -> list[Candidates]:
        found = self._scatter("linears", rows, list(models), min_score, limit)
        return [_merged_scores([answer[i] for answer in found], limit) for i in range(len(models))]

    def _cosines(self, rows: RowFilter, query: NDArray[np.float32], k: int) -> Candidates:
        merged = _merged_scores(self._scatter("cosines", rows, query, k), k)
        return replace(merged, total=len(merged.ids))


def _own_rows(state: ShardState, rows: RowFilter, positions: NDArray[np.int64] | None) -> RowFilter | None:
    """Return a filter for a shard, or None if no row of the shard passes it. positions: of the filter's ids."""
    if not len(state.spans):
        return None
    own = rows
    if rows.where is not None:
        where = state.own(np.asarray(rows.where))
        if not where.any():
            return None
        own = replace(own, where=where)
    if rows.ids is not None and positions is not None:
        bytes_ = positions >> 3
        inside = np.zeros(len(bytes_), np.bool_)
        for start, stop in state.spans.tolist():
            inside |= (bytes_ >= start) & (bytes_ < stop)
        if not inside.any():
            return None
        own = replace(own, ids=rows.ids[inside])
    return own


def _merged_votes(found: list[Candidates], limit: int | None) -> Candidates:
    ids = _joined([one.ids for one in found], np.int64)
    votes = _joined([one.votes for one in found], np.uint16)
    order = best_first(votes, ids, limit)
    return Candidates(ids=ids[order], votes=votes[order], total=sum(one.total for one in found))


def _merged_scores(found: list[Candidates], limit: int | None) -> Candidates:
    ids = _joined([one.ids for one in found], np.int64)
    scores = _joined([one.scores for one in found], np.float32)
    order = best_first(scores, ids, limit)
    return Candidates(ids=ids[order], scores=scores[order], total=sum(one.total for one in found))


def _joined(parts: list[Any], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])
