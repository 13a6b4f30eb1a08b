"""Marks of a session. A call is one event, stored before the response; calls with the same name count once."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema, array, record
from gpubranches.app.app_context import service
from gpubranches.service.labels import ORIGINS
from gpubranches.service.types import MarkRequest, MarkResult

MOST_MARKED = 10_000
"""The largest number of items in one call."""

EVENT: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{8,64}$",
    "description": "A name that the caller gives the call: repeated, it changes nothing and answers the same.",
}
_LABEL: Schema = {"type": "integer", "enum": [1, -1, 0], "description": "1 right, -1 wrong, 0 not marked."}
_MARK: Schema = {
    "type": "object",
    "required": ["ids", "label"],
    "properties": {
        "ids": {"type": "array", "items": ID, "minItems": 1, "maxItems": MOST_MARKED},
        "label": _LABEL,
        "origin": {"type": "string", "enum": list(ORIGINS), "default": ORIGINS[0]},
        "event": EVENT,
    },
}
_EVENT: Schema = {"type": "object", "properties": {"event": EVENT}}
_DONE = record({"event": EVENT, "ids": array(ID)})
_MARKED = record({"event": EVENT, "ids": array(ID), "label": _LABEL})
_MARKS = record(
    {
        "version": {"type": "integer", "minimum": 0, "description": "Of the log; grows with every event."},
        "marks": array(record({"id": ID, "label": _LABEL, "origin": {"type": "string"}})),
    }
)


@operation("GET", "/sessions/{session}/marks", answer=_MARKS)
def list_marks(session: str) -> dict[str, Any]:
    """Return all valid marks, in the order they were made."""
    listed = service().marks(session)
    marks = [{"id": item, "label": label, "origin": origin} for item, label, origin in listed.marks]
    return {"version": listed.version, "marks": marks}


@operation("POST", "/sessions/{session}/marks", body=_MARK, answer=_MARKED)
def mark(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Mark items right or wrong, or remove their marks, as one step.

    An event name that was used for other items or another label is refused with 409.
    """
    ids = np.array(body["ids"], np.int64)
    request = MarkRequest(ids, body["label"], body["origin"], body.get("event"))
    return {**_done(service().mark(session, request)), "label": body["label"]}


@operation("DELETE", "/sessions/{session}/marks", query={"event": EVENT}, answer=_DONE)
def clear(session: str, event: str | None = None) -> dict[str, Any]:
    """Remove all marks, as one step that undo takes back."""
    return _done(service().clear(session, event))


@operation("POST", "/sessions/{session}/undo", body=_EVENT, answer=_DONE)
def undo(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Undo the last call that has not been undone; return the items that it had marked."""
    return _done(service().undo(session, body.get("event")))


@operation("POST", "/sessions/{session}/redo", body=_EVENT, answer=_DONE)
def redo(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Redo the last undone step, unless something has been marked since."""
    return _done(service().redo(session, body.get("event")))


def _done(marked: MarkResult) -> dict[str, Any]:
    return {"event": marked.event, "ids": list(marked.ids)}
