"""The long computations of a server by name: their stages, and their cancellation, also before they have begun."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gpubranches.core import stages
from gpubranches.core.stages import Task

_KEPT = 1000
"""Names of tasks that have not begun, or have ended, at most."""


class Tasks:
    """Tasks by session and name. Safe to use from several threads.

    A name is made by the caller, so that a task can be cancelled while its request is still waiting.
    """

    def __init__(self) -> None:
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, session: str, name: str) -> Iterator[None]:
        """Run the block as a task of a session. Its stages raise CancelledError once it was cancelled."""
        task = self._task(session, name)
        try:
            with stages.watched(task.begin):
                stages.begin("wait")
                yield
        finally:
            with self._lock:
                self._tasks.pop((session, name), None)

    def stage(self, session: str, name: str) -> str:
        """Return the stage that a task is in, "" for one that is not running."""
        with self._lock:
            task = self._tasks.get((session, name))
        return "" if task is None else task.stage

    def cancel(self, session: str, name: str) -> None:
        """Stop a task where its next stage begins; one that has not begun stops at its beginning."""
        self._task(session, name).cancel()

    def _task(self, session: str, name: str) -> Task:
        with self._lock:
            task = self._tasks.setdefault((session, name), Task())
            while len(self._tasks) > _KEPT:
                self._tasks.popitem(last=False)
            return task
