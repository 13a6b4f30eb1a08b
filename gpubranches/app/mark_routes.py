"""Marking items right or wrong, and taking marks back. All answers are JSON, see `changed`.

A call is one event: `event` names it, 8 to 64 letters and digits made by the caller, and a call that is repeated with
the same name changes nothing. It is stored when it is answered. `since` is the version of the log up to which the
caller knows the marks; the answer tells what changed after it, also by others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flask import Blueprint, request

from gpubranches.app.rendering import changed
from gpubranches.app.request_values import EVENT_FORM, marks_held, parse_whole, whole
from gpubranches.errors import UsageError
from gpubranches.service.labels import ORIGINS

routes = Blueprint("marking", __name__)


@routes.get("/marks")
def marks() -> dict[str, Any]:
    """Tell which marks changed after version `since`."""
    with marks_held() as session:
        return changed(session, whole("since", 0))


@routes.post("/mark")
def mark() -> dict[str, Any]:
    """Mark the items `id` with `value`: 1 right, -1 wrong, 0 not at all.

    `origin`: the page they were shown on, one of ORIGINS.
    """
    ids = np.array([parse_whole("id", text) for text in request.form.getlist("id")], np.int64)
    value = request.form.get("value", "")
    if not len(ids) or value not in ("1", "-1", "0"):
        raise UsageError(f"mark: expected ids and a value of 1, -1 or 0, got {len(ids)} ids and {value!r}")
    origin = request.form.get("origin", ORIGINS[0])
    if origin not in ORIGINS:
        raise UsageError(f"origin: expected one of {', '.join(ORIGINS)}, got {origin!r}")
    event, since = _event(), _since()
    with marks_held() as session:
        if value == "0":
            session.unmark(ids, event_id=event)
        else:
            session.mark(ids, int(value), origin=origin, event_id=event)
        return changed(session, since)


@routes.post("/undo")
def undo() -> dict[str, Any]:
    """Take back the last mark of the session, whoever made it; `items`: the ids that it had marked."""
    event, since = _event(), _since()
    with marks_held() as session:
        ids = session.labels.undo(event_id=event)
        return {"items": ids.tolist(), **changed(session, since)}


@routes.post("/redo")
def redo() -> dict[str, Any]:
    """Bring back what the last undo took; `items`: its ids."""
    event, since = _event(), _since()
    with marks_held() as session:
        ids = session.labels.redo(event_id=event)
        return {"items": ids.tolist(), **changed(session, since)}


@routes.post("/clear")
def clear() -> dict[str, Any]:
    """Remove all marks, in one step that undo brings back."""
    event, since = _event(), _since()
    with marks_held() as session:
        session.unmark(np.concatenate([session.positives, session.negatives]), event_id=event)
        return changed(session, since)


def _event() -> str | None:
    event = request.form.get("event")
    if event is not None and not EVENT_FORM.fullmatch(event):
        raise UsageError(f"event: expected 8 to 64 letters, digits, - and _, got {event!r:.80}")
    return event


def _since() -> int:
    return parse_whole("since", request.form.get("since", "0"))
