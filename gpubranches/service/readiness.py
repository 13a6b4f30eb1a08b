"""Whether the backend answers, and a first use that compiles its kernels."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from gpubranches.errors import WaitError
from gpubranches.service.session import Session

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines import Backend
    from gpubranches.service.snapshot_follower import SnapshotFollower

_FIRST_ITEMS = 12
_VALID_S = 10.0
"""How long a result of the backend is reused, so that frequent checks do not load it."""
_WAIT_S = 1.0


def search_and_find(catalog: Catalog, backend: Backend) -> None:
    """Search and find all once in a separate session, with marks on random items; do nothing for a tiny catalog."""
    ids = catalog.sample_ids(_FIRST_ITEMS, np.random.default_rng(0))
    if len(ids) < 2:
        return
    with Session(catalog, backend, embedder=None) as session:
        session.mark(ids[:1], +1)
        session.mark(ids[1:], -1)
        session.search(int(ids[0]), 1)
        session.find_all()


class Readiness:
    """Checks a backend by a search for one item, at most once in ten seconds. Safe to use from several threads."""

    def __init__(self, catalog: Catalog, backend: Backend, follower: SnapshotFollower):
        self._catalog = catalog
        self._backend = backend
        self._follower = follower
        self._lock = threading.Lock()
        self._valid_until_s = 0.0

    def check(self) -> None:
        """Check that the backend answers. Raises its error, or WaitError while another check is still running."""
        if time.monotonic() < self._valid_until_s:
            return
        if not self._lock.acquire(timeout=_WAIT_S):
            raise WaitError("the backend has not answered an earlier check yet; try again")
        try:
            with self._follower.reading(_WAIT_S):
                ids = self._catalog.sample_ids(1, np.random.default_rng(0))
                if len(ids):
                    self._backend.search(self._catalog.codes(ids), 1, tier="codes")
            self._valid_until_s = time.monotonic() + _VALID_S
        finally:
            self._lock.release()
