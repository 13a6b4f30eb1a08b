"""Errors for programs as problem details, RFC 9457."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response, request

MEDIA_TYPE = "application/problem+json"
_PREFIXES = ("/api/", "/knn-service", "/indices-list", "/metadata", "/metrics")
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "What went wrong: what was expected, what came, what to do (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:gpubranches: and the error's class, or about:blank."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
    },
}


def is_for_programs() -> bool:
    """Return whether the request is for an address of programs, not of the page."""
    return request.path.startswith(_PREFIXES)


def problem(detail: str, status: int, kind: str = "") -> Response:
    """Return problem details. kind: the class of the error, or "" for an HTTP error."""
    details = {
        "type": f"urn:gpubranches:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail.encode("utf-8", "replace").decode(),
    }
    return Response(json.dumps(details) + "\n", status, mimetype=MEDIA_TYPE)
