"""A memory budget that the threads of a process share; requests are granted first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from gpubranches.errors import DataError


class MemoryBudget:
    """A budget of `total_bytes` for all threads together."""

    def __init__(self, total_bytes: int):
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def free_bytes(self) -> int:
        """Bytes that no thread holds."""
        return self._free

    @contextmanager
    def share(self, count: int, name: str, what: str) -> Iterator[None]:
        """Hold `count` bytes until the block ends; waits for earlier requests. Errors say what `name` needs them for.

        Raises DataError for more bytes than the whole budget. A block must not request a second share of the same
        budget: it may deadlock.
        """
        if count > self.total_bytes:
            raise DataError(
                f"{name}: {what} takes {count / 1e6:,.0f} MB of memory, over the {self.total_bytes / 1e6:,.0f} MB that "
                "all pictures may take at once; make it smaller"
            )
        self._take(count)
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()

    def _take(self, count: int) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= count)
                self._free -= count
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
