"""Work on several cores, and linear algebra whose results do not depend on their number."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_one_at_a_time = threading.Lock()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield what work returns for each item, in order; several threads are at most two items each ahead.

    With one thread each item is worked on when it is asked for. The threads end with the iterator, so that none is
    alive when a process forks later.
    """
    return map(work, items) if threads <= 1 else _ahead(work, items, threads, 2 * threads)


def one_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield what work returns for each item, in order; a thread works on the next item while one is in use."""
    return _ahead(work, items, 1, 1)


def _ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int) -> Iterator[Result]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread within the block. The limit is global, so other callers wait for their turn."""
    with _one_at_a_time, _controller().limit(limits=1):
        yield


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
