"""Marks of a session. A call is one event, stored when it is answered; sent again under its name it changes nothing."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.api.sessions import marks
from gpubranches.errors import ConflictError
from gpubranches.service.labels import ORIGINS

MOST_MARKED = 10_000
"""Items of one call."""

EVENT: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{8,64}$",
    "description": "A name of the call, made by the caller: repeated, it changes nothing and answers the same.",
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
_DONE: Schema = {
    "type": "object",
    "required": ["event", "ids"],
    "properties": {"event": EVENT, "ids": {"type": "array", "items": ID}},
}
_MARKED: Schema = {
    **_DONE,
    "required": ["event", "ids", "label"],
    "properties": {**_DONE["properties"], "label": _LABEL},
}
_MARKS: Schema = {
    "type": "object",
    "required": ["version", "marks"],
    "properties": {
        "version": {"type": "integer", "minimum": 0, "description": "Of the log; grows with every event."},
        "marks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "label", "origin"],
                "properties": {"id": ID, "label": _LABEL, "origin": {"type": "string"}},
            },
        },
    },
}


@operation("GET", "/sessions/{session}/marks", answer=_MARKS)
def list_marks(session: str) -> dict[str, Any]:
    """Tell all marks that hold, in the order they were made."""
    with marks(session) as held:
        version, current, origins = held.labels.changes()[0], held.labels.current(), held.labels.origins()
    told = [{"id": item, "label": label, "origin": origins.get(item, "")} for item, label in current.items()]
    return {"version": version, "marks": told}


@operation("POST", "/sessions/{session}/marks", body=_MARK, answer=_MARKED)
def mark(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Mark items right or wrong, or take their marks away, as one step.

    A name of a call that was used for other items or another label is refused with 409.
    """
    event, ids, label = _event(body), list(dict.fromkeys(body["ids"])), body["label"]
    with marks(session) as held:
        if label:
            held.mark(ids, label, origin=body["origin"], event_id=event)
        else:
            held.unmark(ids, event_id=event)
        if held.labels.done(event) != [(item, label) for item in ids]:
            raise ConflictError(f"event: expected a new name for another call, {event!r} was used before; make another")
    return {"event": event, "ids": ids, "label": label}


@operation("DELETE", "/sessions/{session}/marks", query={"event": EVENT}, answer=_DONE)
def clear(session: str, event: str | None = None) -> dict[str, Any]:
    """Take all marks away, as one step that undo brings back."""
    event = event or uuid.uuid4().hex
    with marks(session) as held:
        held.unmark(np.concatenate([held.positives, held.negatives]), event_id=event)
        return {"event": event, "ids": [item for item, _ in held.labels.done(event)]}


@operation("POST", "/sessions/{session}/undo", body=_EVENT, answer=_DONE)
def undo(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Take back the last call that stands; tell the items it had marked."""
    event = _event(body)
    with marks(session) as held:
        return {"event": event, "ids": held.labels.undo(event_id=event).tolist()}


@operation("POST", "/sessions/{session}/redo", body=_EVENT, answer=_DONE)
def redo(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Bring back what the last undo took, unless something was marked since."""
    event = _event(body)
    with marks(session) as held:
        return {"event": event, "ids": held.labels.redo(event_id=event).tolist()}


def _event(body: dict[str, Any]) -> str:
    return str(body.get("event") or uuid.uuid4().hex)
