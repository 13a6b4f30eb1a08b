"""What a monitor asks."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from flask import Blueprint, current_app

from gpubranches.app.access import known
from gpubranches.app.request_values import desk
from gpubranches.errors import DeviceError, GpuBranchesError, WaitError
from gpubranches.service.app_context import Desk

_ASKED_EVERY_S = 10.0
"""How long an answer of the backend counts, so that monitors do not load it."""
_WAIT_S = 1.0
PATHS = ("/healthz", "/readyz", "/metrics")
"""What monitors ask: it waits for no commit and for no other request."""

routes = Blueprint("health", __name__)


class Readiness:
    """Whether the backend of a desk answers, asked at most every few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s = 0.0

    def require(self) -> None:
        """Ask the backend for the nearest item of one; raises what it raises, WaitError where that takes too long."""
        at = desk()
        if time.monotonic() < self._until_s:
            return
        if not self._lock.acquire(timeout=_WAIT_S):
            raise WaitError("the backend has not answered another question of this kind yet; try again")
        try:
            self._ask(at)
        finally:
            self._lock.release()

    def _ask(self, at: Desk) -> None:
        with at.following.reading(_WAIT_S):
            ids = at.catalog.sample_ids(1, np.random.default_rng(0))
            if len(ids):
                at.backend.search(at.catalog.codes(ids), 1, tier="codes")
        self._until_s = time.monotonic() + _ASKED_EVERY_S


@routes.get("/healthz")
def alive() -> dict[str, Any]:
    """Say that the server answers, and, to who may know, over what."""
    if not known():
        return {"status": "ok"}
    desk().following.glance()
    return {"status": "ok", "items": desk().catalog.n, "generation": desk().catalog.generation}


@routes.get("/readyz")
def ready() -> dict[str, Any]:
    """Say that the catalog is open and the backend answers; 503 where it does not."""
    try:
        current_app.extensions["gpubranches.readiness"].require()
    except (DeviceError, WaitError):
        raise
    except GpuBranchesError as error:
        raise DeviceError(f"the backend does not answer: {error}") from error
    return {"status": "ready"}
