"""The parts of a shard: the scans of an engine over its segments, and the way to call them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog, Snapshot
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates
from gpubranches.engines.scan import Linear, RowFilter, ScanBackend
from gpubranches.engines.sharded.shard_catalog import ShardCatalog, ShardState

Engine = ScanBackend[Any]
MakeEngine = Callable[[Catalog], Engine]
_STATES = 3
"""Number of states that a shard keeps open, for requests that began before the last commits."""


class UnknownState(Exception):
    """A shard does not have the state of a request: it was restarted, or the state is new."""


class ShardEngine:
    """An engine over the segments of a shard; `load` tells it a state before the first request about that state.

    Its calls may come from several threads, about different states.
    """

    def __init__(self, make: MakeEngine):
        self._make = make
        self._lock = threading.Lock()
        self._states: OrderedDict[str, Snapshot] = OrderedDict()
        self._catalog: ShardCatalog | None = None
        self._engine: Engine | None = None

    def load(self, state: ShardState) -> None:
        """Open the segments of a state. Raises the errors of `Snapshot.open`, and of opening the engine."""
        with self._lock:
            if state.key in self._states:
                return
            if self._catalog is None:
                self._catalog = ShardCatalog(state)
                self._states[state.key] = self._catalog.snapshot
            else:
                self._states[state.key] = self._catalog.show(state)
            if self._engine is None:
                # An engine only reads a catalog, so a reader is enough.
                self._engine = self._make(cast(Catalog, self._catalog))
            while len(self._states) > _STATES:
                self._states.popitem(last=False)

    def answer(self, key: str, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        """Return the result of a scan of `SCANS` in the state of a key. Raises UnknownState unless it was loaded."""
        with self._lock:
            snapshot, catalog, engine = self._states.get(key), self._catalog, self._engine
        if snapshot is None or catalog is None or engine is None:
            raise UnknownState
        with catalog.pinned(snapshot):
            return SCANS[scan](engine, rows, *arguments)

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()


def _votes(engine: Engine, rows: RowFilter, models: list[Boxes], min_votes: int, limit: int | None) -> list[Candidates]:
    return engine._apply(models, min_votes, limit, rows.where)


def _nearest(
    engine: Engine, rows: RowFilter, queries: NDArray[np.uint8], k: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    return engine._nearest_of(rows, queries, k)


def _linears(
    engine: Engine, rows: RowFilter, models: list[Linear], min_score: np.float32, limit: int | None
) -> list[Candidates]:
    return [engine._score(model, min_score, limit, rows) for model in models]


def _cosines(engine: Engine, rows: RowFilter, query: NDArray[np.float32], k: int) -> Candidates:
    return engine._cosines_of(rows, query, k)


def _held(engine: Engine, rows: RowFilter) -> Bitmap:
    return engine.within(cast(Boxes, rows.boxes), where=rows.where)


SCANS: dict[str, Callable[..., Any]] = {
    "votes": _votes,
    "nearest": _nearest,
    "linears": _linears,
    "cosines": _cosines,
    "held": _held,
}
"""The scans of an engine that a shard runs; arguments: the engine, the filter of the rows, and those of the scan."""


class Shard(Protocol):
    """The connection to a `ShardEngine`, which may be in another process. Used by several threads."""

    @property
    def place(self) -> str:
        """The place of the engine, for display."""
        ...

    @property
    def restarts(self) -> int:
        """Number of restarts of the engine."""
        ...

    def ask(self, state: ShardState, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        """Return the answer over a state, which is loaded first if it is new. Raises ShardError without an answer."""
        ...

    def close(self) -> None:
        """End the engine."""
        ...


class LocalShard:
    """A shard in this process."""

    place = "this process"
    restarts = 0

    def __init__(self, make: MakeEngine):
        self._engine = ShardEngine(make)

    def ask(self, state: ShardState, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        """Return the answer; see Shard."""
        try:
            return self._engine.answer(state.key, scan, rows, arguments)
        except UnknownState:
            self._engine.load(state)
            return self._engine.answer(state.key, scan, rows, arguments)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
