"""Time a call: the first and many warm ones, several calls in turns, or several at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_REPEATS = 5


@dataclass(frozen=True)
class Times:
    """Milliseconds of one question: cold is the first call; the percentiles are of `repeats` warm calls."""

    cold_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    repeats: int


def timed(
    work: Callable[[], Any], *, budget_s: float, most: int = 100, before: Callable[[], None] | None = None
) -> Times:
    """Call work once cold, after `before`, then as often as budget_s allows, 5 to `most` times."""
    if before is not None:
        before()
    cold = once(work)
    taken: list[float] = []
    until = time.perf_counter() + budget_s
    while len(taken) < LEAST_REPEATS or (len(taken) < most and time.perf_counter() < until):
        taken.append(once(work))
    p50, p95, p99 = np.percentile(taken, [50, 95, 99]).tolist()
    return Times(cold, p50, p95, p99, len(taken))


def once(work: Callable[[], Any]) -> float:
    """Return the milliseconds of one call."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def in_turns(works: Sequence[Callable[[], Any]], repeats: int) -> NDArray[np.float64]:
    """Return the milliseconds of works called one after the other, (repeats, works), after one warm round.

    Each round begins with another call, because the previous calls decide what is in the caches.
    """
    times = np.zeros((repeats + 1, len(works)))
    for turn in range(len(times)):
        for i in range(len(works)):
            which = (turn + i) % len(works)
            times[turn, which] = once(works[which])
    return times[1:]


def together(works: Sequence[Callable[[], Any]]) -> Callable[[], None]:
    """Return a function that runs all works at once, a thread each, and waits for all; the first error is raised."""

    def run() -> None:
        errors: list[BaseException] = []

        def one(work: Callable[[], Any]) -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    return run
