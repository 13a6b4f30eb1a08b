"""The stages of a long computation: it announces each stage at its start, and a watcher may stop it there.

The watcher belongs to the thread, so a computation needs no argument for it, and also runs without a watcher.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gpubranches.errors import CancelledError

_watcher: ContextVar[Callable[[str], None] | None] = ContextVar("watcher", default=None)


def begin(stage: str) -> None:
    """Announce that a stage begins. Raises what the watcher raises: CancelledError for a cancelled task."""
    watch = _watcher.get()
    if watch is not None:
        watch(stage)


@contextmanager
def watched(watch: Callable[[str], None]) -> Iterator[None]:
    """Call `watch` with the name of each stage that begins within the block, in this thread."""
    token = _watcher.set(watch)
    try:
        yield
    finally:
        _watcher.reset(token)


class Task:
    """A computation that reports its stage to other threads, and that they can cancel.

    stage: the name of the stage it is in, "" before the first.
    """

    def __init__(self) -> None:
        self.stage = ""
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop the computation where its next stage begins."""
        self._cancelled.set()

    def begin(self, stage: str) -> None:
        """Enter a stage. Raises CancelledError if the task was cancelled."""
        if self._cancelled.is_set():
            raise CancelledError("the task was cancelled; nothing was changed")
        self.stage = stage
