"""Marking items right or wrong, and taking marks back."""

from __future__ import annotations

import numpy as np
from flask import Blueprint, Response, request

from gpubranches.app.asking import held, parse_whole
from gpubranches.app.rendering import marked
from gpubranches.errors import UsageError

ORIGINS = ("user", "suggestion", "audit")
"""How items may come to be marked on the page."""

routes = Blueprint("marking", __name__)


@routes.post("/mark")
def mark() -> Response:
    """Mark the items `id` with `value`: 1 right, -1 wrong, 0 not at all, "next" the one after theirs in that order.

    `origin`: the page they were shown on, one of ORIGINS.
    """
    ids = np.array([parse_whole("id", text) for text in request.form.getlist("id")], np.int64)
    value = request.form.get("value", "")
    if not len(ids) or value not in ("1", "-1", "0", "next"):
        raise UsageError(f"mark: expected ids and a value of 1, -1, 0 or next, got {len(ids)} ids and {value!r}")
    origin = request.form.get("origin", ORIGINS[0])
    if origin not in ORIGINS:
        raise UsageError(f"origin: expected one of {', '.join(ORIGINS)}, got {origin!r}")
    with held() as session:
        label = {0: 1, 1: -1, -1: 0}[session.labels.current().get(int(ids[0]), 0)] if value == "next" else int(value)
        if label:
            session.mark(ids, label, origin=origin)
        else:
            session.unmark(ids)
        return marked(session, ids, {1: "Marked right", -1: "Marked wrong", 0: "Mark removed"}[label])


@routes.post("/undo")
def undo() -> Response:
    """Take back the last mark."""
    with held() as session:
        ids = session.undo()
        return marked(session, ids, "Taken back" if len(ids) else "Nothing left to undo")


@routes.post("/clear")
def clear() -> Response:
    """Remove all marks, in one step that undo brings back."""
    with held() as session:
        ids = np.concatenate([session.positives, session.negatives])
        session.unmark(ids)
        return marked(session, ids, "All marks removed; undo brings them back")
