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


class _Limit:
    """A limit on the threads of BLAS in this process, from the first block that needs it to the end of the last.

    A thread of its own holds it, since only the thread that set the limit of a process can lift it (threadpoolctl).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._ended = threading.Event()
        self._holder = threading.Thread()

    def enter(self) -> None:
        with self._lock:
            if not self._blocks:
                began = threading.Event()
                self._ended = threading.Event()
                self._holder = threading.Thread(target=self._hold, args=(began, self._ended), daemon=True)
                self._holder.start()
                began.wait()
            self._blocks += 1

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._ended.set()
                self._holder.join()

    def _hold(self, began: threading.Event, ended: threading.Event) -> None:
        try:
            with _controller().limit(limits=1, user_api="blas"):
                began.set()
                ended.wait()
        finally:
            began.set()


_limit = _Limit()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield the result of work for each item, in order; each of several threads is at most two items ahead.

    With one thread, each item is processed when it is requested. The threads end with the iterator, so that none is
    alive when a process forks later.
    """
    return map(work, items) if threads <= 1 else _ahead(work, items, threads, 2 * threads)


def one_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of work for each item, in order; a thread processes the next item while the caller uses one."""
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
    """Limit BLAS to one thread during the block, in this and all other threads. Blocks do not wait for each other.

    Threads of BLAS wait for each other by spinning. On a busy machine a small product then takes many times as long as
    on one thread, and other threads lose the cores that spin.
    """
    _limit.enter()
    try:
        # In a BLAS that uses OpenMP, each thread has its own limit.
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        _limit.leave()


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
