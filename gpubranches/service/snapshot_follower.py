"""Moves a served catalog to its newest generation between requests, never during one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpubranches.errors import DataError, WaitError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
"""How long a generation that could not be opened is not tried again."""


class SnapshotFollower:
    """A reader-writer lock around a catalog: requests read side by side, opening a new generation waits for them.

    A request sees one generation from its start to its end. The first request that finds a new generation waits until
    the running ones end, then opens it; requests that arrive meanwhile wait. If the generation cannot be opened, a
    warning is logged and the old one is served. recoded: called after a generation with other codes was opened, while
    no request runs.
    """

    def __init__(self, catalog: Catalog, recoded: Callable[[], None]):
        self._catalog = catalog
        self._recoded = recoded
        self._changed = threading.Condition()
        self._readers = 0
        self._opening = False
        self._retry_at_s = 0.0

    @contextmanager
    def reading(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the catalog at its newest generation. A thread must not enter this twice.

        Raises WaitError if another request takes longer than `wait_s` seconds to open a new generation.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._opening, wait_s):
                raise WaitError("a new generation of the catalog waits for running requests; try again")
            self._open_if_changed()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def follow_if_idle(self) -> None:
        """Open the newest generation if no request is running; do nothing otherwise. Never waits."""
        if self._changed.acquire(blocking=False):
            try:
                if not self._readers and not self._opening:
                    self._open_if_changed()
            finally:
                self._changed.release()

    def _open_if_changed(self) -> None:
        if self._catalog.changed() and time.monotonic() >= self._retry_at_s:
            self._open()

    def _open(self) -> None:
        self._opening = True
        try:
            while self._readers:
                self._changed.wait()
            before = self._catalog.coding
            try:
                self._catalog.refresh()
            except DataError as error:
                _log.warning("generation %d is served on: %s", self._catalog.generation, error)
                self._retry_at_s = time.monotonic() + _RETRY_S
                return
            if self._catalog.coding != before:
                self._recoded()
        finally:
            self._opening = False
            self._changed.notify_all()
