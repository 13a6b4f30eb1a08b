"""A cache whose values are computed once, also if several threads request the same one at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SingleFlightCache(Generic[Value]):
    """The `most` last used values by key. If another thread is computing a value, a thread that requests it waits."""

    def __init__(self, most: int):
        self._most = most
        self._held: OrderedDict[Hashable, Future[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, computed by `make` if it is not cached.

        An exception of `make` is raised in all threads that wait for the value, and is not cached.
        """
        with self._lock:
            held = self._held.get(key)
            future: Future[Value] = Future() if held is None else held
            self._held[key] = future
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        if held is None:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._held.get(key) is future:
                        del self._held[key]
                future.set_exception(error)
        return future.result()
