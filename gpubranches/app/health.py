"""What a monitor asks."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from gpubranches.app.asking import desk

routes = Blueprint("health", __name__)


@routes.get("/healthz")
def health() -> dict[str, Any]:
    """Say that the server answers, and over what."""
    catalog = desk().catalog
    return {"status": "ok", "items": catalog.n, "generation": catalog.generation}
