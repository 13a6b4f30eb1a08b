"""Marking items right or wrong, and taking marks back. All responses are JSON, see `_changes`.

A request is one event, stored before it is answered. The caller may name it by `event`, 8 to 64 letters and digits;
another request with the same name changes nothing. `since` is the version of the log up to which the caller knows the
marks; the response has those that changed after it, by any caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flask import Blueprint, request

from gpubranches.app.app_context import service
from gpubranches.app.language import texts
from gpubranches.app.request_values import EVENT_NAME, parse_whole, session_id, whole
from gpubranches.errors import UsageError
from gpubranches.service.labels import ORIGINS
from gpubranches.service.types import MarkRequest
from gpubranches.service.wording import matches_heading, new_marks, since_found

routes = Blueprint("marks", __name__)


@routes.get("/marks")
def marks() -> dict[str, Any]:
    """Return the marks that changed after version `since`."""
    return _changes(whole("since", 0))


@routes.post("/mark")
def mark() -> dict[str, Any]:
    """Mark the items `id` with `value`: 1 right, -1 wrong, 0 not at all. `origin`: one of ORIGINS."""
    ids = np.array([parse_whole("id", text) for text in request.form.getlist("id")], np.int64)
    value = request.form.get("value", "")
    if not len(ids) or value not in ("1", "-1", "0"):
        raise UsageError(f"mark: expected ids and a value of 1, -1 or 0, got {len(ids)} ids and {value!r}")
    origin = request.form.get("origin", ORIGINS[0])
    if origin not in ORIGINS:
        raise UsageError(f"origin: expected one of {', '.join(ORIGINS)}, got {origin!r}")
    event, since = _event(), _since()
    service().mark(session_id(), MarkRequest(ids, int(value), origin, event))
    return _changes(since)


@routes.post("/undo")
def undo() -> dict[str, Any]:
    """Undo the last mark of the session, whoever made it; `items` are the ids that it had marked."""
    event, since = _event(), _since()
    undone = service().undo(session_id(), event)
    return {"items": list(undone.ids), **_changes(since)}


@routes.post("/redo")
def redo() -> dict[str, Any]:
    """Redo the last undone step; `items` are its ids."""
    event, since = _event(), _since()
    redone = service().redo(session_id(), event)
    return {"items": list(redone.ids), **_changes(since)}


@routes.post("/clear")
def clear() -> dict[str, Any]:
    """Remove all marks, in one step that undo takes back."""
    event, since = _event(), _since()
    service().clear(session_id(), event)
    return _changes(since)


def _changes(since: int) -> dict[str, Any]:
    """Return the marks that changed after version `since` of the log.

    version: the value of `since` for the next request; marks: item id -> 1, -1 or 0; positive, negative: the numbers of
    all marks. Texts, null before a find all: new_marks, how many marks the model has not learnt from; matches, the
    number of matches and the changes since the last round; since, the changes by marks. total: how many items match,
    null before a find all. can_undo, can_redo: whether undo and redo have something to do.
    """
    changed = service().changes(session_id(), since)
    found = changed.since
    return {
        "version": changed.version,
        "marks": {str(item): label for item, label in changed.marks.items()},
        "positive": changed.positive,
        "negative": changed.negative,
        "can_undo": changed.can_undo,
        "can_redo": changed.can_redo,
        "new_marks": None if found is None else new_marks(texts(), found.new_marks),
        "matches": None if found is None else matches_heading(texts(), found.total, changed.changes),
        "total": None if found is None else found.total,
        "since": None if found is None else since_found(texts(), found.joined, found.left),
    }


def _event() -> str | None:
    event = request.form.get("event")
    if event is not None and not EVENT_NAME.fullmatch(event):
        raise UsageError(f"event: expected 8 to 64 letters, digits, - and _, got {event!r:.80}")
    return event


def _since() -> int:
    return parse_whole("since", request.form.get("since", "0"))
