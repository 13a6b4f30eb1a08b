"""Sessions: listed, begun, named, opened again, copied, deleted, taken away as files and brought back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
from flask import Blueprint, Response, make_response, render_template, request
from jinja2_fragments.flask import render_block
from werkzeug.exceptions import NotFound

from gpubranches.app.request_values import SESSION_FORM, desk, enter, new_session_id, session_id
from gpubranches.errors import UsageError
from gpubranches.service.session_files import pack, restore, unpack
from gpubranches.service.session_store import Record

NAME_LENGTH = 200
LARGEST_BYTES = 32 << 20
"""Of a session's file: half a million marks."""

routes = Blueprint("sessions", __name__)


@routes.get("/sessions")
def listed() -> Response:
    """Show the sessions over this catalog, the last used first."""
    return make_response(render_template("sessions.html", **_context()))


@routes.post("/sessions/new")
def begin() -> Response:
    """Begin a new session and leave the one before as it is."""
    return _go(enter(new_session_id()))


@routes.post("/sessions/import")
def bring() -> Response:
    """Begin a session as a JSON file `file` tells it."""
    request.max_content_length = LARGEST_BYTES
    sent = request.files.get("file")
    if sent is None or not sent.filename:
        raise UsageError("file: expected a session's JSON file, got none; choose one that was exported here")
    return _go(_copy(unpack(sent.read())))


@routes.post("/sessions/<name>/open")
def resume(name: str) -> Response:
    """Go on with a session, where it was."""
    return _go(enter(_known(name).session))


@routes.post("/sessions/<name>/copy")
def duplicate(name: str) -> Response:
    """Begin a session that is as another one is now."""
    packed = _pack(name)
    return _go(_copy({**packed, "name": f"Copy of {_known(name).title}"[:NAME_LENGTH]}))


@routes.post("/sessions/<name>/name")
def rename(name: str) -> Response:
    """Give a session the name `title`."""
    title = " ".join(request.form.get("title", "").split())
    if len(title) > NAME_LENGTH:
        raise UsageError(f"title: expected at most {NAME_LENGTH} letters, got {len(title)}")
    desk().book.note(_known(name).session, name=title)
    return _list(f"Named {title}" if title else "Name removed")


@routes.post("/sessions/<name>/delete")
def delete(name: str) -> Response:
    """Delete a session with its marks. Who still has it open is told so."""
    record, mine = _known(name), session_id()
    with desk().sessions.hold(record.session):
        desk().book.delete(record.session)
    if record.session == mine:
        enter(new_session_id())
    return _list(f"Deleted {record.title}")


@routes.get("/sessions/<name>.json")
def take(name: str) -> Response:
    """Send a session as a JSON file that can be brought back here or elsewhere."""
    response = make_response(json.dumps(_pack(name), indent=1) + "\n")
    response.mimetype = "application/json"
    response.headers["Content-Disposition"] = "attachment; filename=session.json"
    return response


def _known(name: str) -> Record:
    if not SESSION_FORM.fullmatch(name) or desk().book.deleted(name):
        raise NotFound("There is no such session any more; it may have been deleted.")
    return desk().book.record(name)


def _pack(name: str) -> dict[str, Any]:
    record = _known(name)
    with desk().sessions.marks(record.session) as session:
        return pack(record, session, desk().uploads)


def _copy(packed: dict[str, Any]) -> str:
    name = new_session_id()
    with desk().sessions.hold(name) as session:
        restore(packed, session, desk().book, desk().uploads)
    return enter(name)


def _go(session: str) -> Response:
    """Lead the browser to where a session was."""
    response = make_response("", 204)
    response.headers["HX-Redirect"] = request.script_root + (desk().book.record(session).settings.get("query") or "/")
    return response


def _context(said: str = "") -> dict[str, Any]:
    current = session_id()
    records = [record for record in desk().book.records() if SESSION_FORM.fullmatch(record.session)]
    if current not in {record.session for record in records}:
        records.insert(0, desk().book.record(current))
    times = {record.session: f"{datetime.fromtimestamp(record.used_s):%d %b %Y, %H:%M}" for record in records}
    pictures = desk().pictures(np.unique([item for record in records for item in record.examples]).astype(np.int64))
    return {"records": records, "times": times, "pictures": pictures, "session_id": current, "said": said}


def _list(said: str) -> Response:
    return make_response(render_block("sessions.html", "list", **_context(said)))
