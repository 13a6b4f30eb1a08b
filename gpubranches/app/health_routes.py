"""Routes for monitors: whether the server lives and whether it can answer."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from gpubranches.app.access import is_authorized
from gpubranches.app.app_context import service
from gpubranches.engines.sharded import ShardedBackend
from gpubranches.errors import DeviceError, GpuBranchesError, WaitError

MONITOR_PATHS = ("/healthz", "/readyz", "/metrics")
"""Paths for monitors. Their requests wait for no commit and for no other request."""

routes = Blueprint("health", __name__)


@routes.get("/healthz")
def alive() -> dict[str, Any]:
    """Report that the server answers; with the token, also the number of items, the generation and the shards."""
    if not is_authorized():
        return {"status": "ok"}
    service().follower.follow()
    backend = service().backend
    shards = {"shards": backend.shard_states()} if isinstance(backend, ShardedBackend) else {}
    return {"status": "ok", "items": service().catalog.n, "generation": service().catalog.generation, **shards}


@routes.get("/readyz")
def ready() -> dict[str, Any]:
    """Report whether the backend answers; 503 if it does not."""
    try:
        service().readiness.check()
    except (DeviceError, WaitError):
        raise
    except GpuBranchesError as error:
        raise DeviceError(f"the backend does not answer: {error}") from error
    return {"status": "ready"}
