"""Following what others commit to a catalog while it is served."""

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
"""How long a generation that cannot be opened is not tried again."""


class Following:
    """Lets requests over one catalog run side by side, and opens its newest generation between them.

    recoded: called after the codes were made anew, while no request runs. A request sees one generation from its
    beginning to its end: the first that finds a new one waits for those under way, and later ones wait for it. What
    cannot be opened is logged, and the generation at hand is served on.
    """

    def __init__(self, catalog: Catalog, recoded: Callable[[], None]):
        self._catalog = catalog
        self._recoded = recoded
        self._moved = threading.Condition()
        self._inside = 0
        self._turning = False
        self._retry_at_s = 0.0

    @contextmanager
    def reading(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the catalog at its newest generation; not to be entered twice by one thread.

        Raises WaitError where that takes longer than `wait_s`, which is not looked at by who opens a new generation.
        """
        with self._moved:
            if not self._moved.wait_for(lambda: not self._turning, wait_s):
                raise WaitError("a new generation of the catalog waits for requests under way; try again")
            self._turn_if_changed()
            self._inside += 1
        try:
            yield
        finally:
            with self._moved:
                self._inside -= 1
                self._moved.notify_all()

    def glance(self) -> None:
        """Open the newest generation if no request is under way; else leave that to the next one, without waiting."""
        if self._moved.acquire(blocking=False):
            try:
                if not self._inside and not self._turning:
                    self._turn_if_changed()
            finally:
                self._moved.release()

    def _turn_if_changed(self) -> None:
        if self._catalog.changed() and time.monotonic() >= self._retry_at_s:
            self._turn()

    def _turn(self) -> None:
        self._turning = True
        try:
            while self._inside:
                self._moved.wait()
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
            self._turning = False
            self._moved.notify_all()
