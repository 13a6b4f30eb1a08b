"""The long computations of a server, by name: their stages, and their cancellation, even before they begin."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gpubranches.core import stages
from gpubranches.core.stages import Task

_KEPT = 1000
"""The largest number of names that are kept for tasks that have not begun or have ended."""


class Tasks:
    """The tasks of sessions, by name. Thread-safe.

    The caller chooses the name, so that it can cancel a task while the task's request is still waiting.
    """

    def __init__(self) -> None:
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, session: str, name: str) -> Iterator[None]:
        """Run the block as a task of a session. Once the task is cancelled, its stages raise CancelledError."""
        task = self._task(session, name)
        try:
            with stages.watched(task.begin):
                stages.begin("wait")
                yield
        finally:
            with self._lock:
                self._tasks.pop((session, name), None)

    def stage(self, session: str, name: str) -> str:
        """Return the present stage of a task, or "" if it is not running."""
        with self._lock:
            task = self._tasks.get((session, name))
        return "" if task is None else task.stage

    def cancel(self, session: str, name: str) -> None:
        """Stop a task at the start of its next stage; a task that has not begun stops at its start."""
        self._task(session, name).cancel()

    def _task(self, session: str, name: str) -> Task:
        with self._lock:
            task = self._tasks.setdefault((session, name), Task())
            while len(self._tasks) > _KEPT:
                self._tasks.popitem(last=False)
            return task
