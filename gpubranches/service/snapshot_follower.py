"""Gives each request the newest generation of a served catalog. No request waits for another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpubranches.errors import DataError, WaitError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
"""How long to wait before trying again to open a generation that could not be opened."""


class SnapshotFollower:
    """Pins a snapshot of a catalog for each request, the newest at its start.

    A request that finds a new generation opens it; requests that start during this time wait until it is open, which
    takes milliseconds. Requests that are running keep the snapshot they began with. If the generation cannot be opened,
    a warning is logged and the old one is served.
    """

    def __init__(self, catalog: Catalog):
        self._catalog = catalog
        self._opening = threading.Lock()
        self._retry_at_s = 0.0

    @contextmanager
    def reading(self, wait_s: float | None = None) -> Iterator[None]:
        """Let this thread read the newest snapshot in the block, even if others commit meanwhile.

        Raises WaitError if another request takes longer than `wait_s` seconds to open a new generation.
        """
        if self._has_new():
            if not self._opening.acquire(timeout=-1 if wait_s is None else wait_s):
                raise WaitError("a new generation of the catalog is being opened; try again")
            try:
                self._open()
            finally:
                self._opening.release()
        with self._catalog.pinned():
            yield

    def follow(self) -> None:
        """Open the newest generation, unless another thread is opening it. Never waits."""
        if self._has_new() and self._opening.acquire(blocking=False):
            try:
                self._open()
            finally:
                self._opening.release()

    def _has_new(self) -> bool:
        return self._catalog.changed() and time.monotonic() >= self._retry_at_s

    def _open(self) -> None:
        """Open the newest generation if no other thread has opened it meanwhile; needs the lock."""
        if not self._has_new():
            return
        try:
            self._catalog.refresh()
        except DataError as error:
            _log.warning("generation %d is still served: %s", self._catalog.generation, error)
            self._retry_at_s = time.monotonic() + _RETRY_S
