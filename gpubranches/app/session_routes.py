"""The page of sessions: list, create, open, rename, copy, delete, export and import."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
from flask import Blueprint, Response, make_response, render_template, request
from jinja2_fragments.flask import render_block

from gpubranches.app.app_context import service
from gpubranches.app.language import t, texts
from gpubranches.app.rendering import title_of
from gpubranches.app.request_values import enter, htmx, session_id
from gpubranches.app.views import picture_versions
from gpubranches.errors import SessionGoneError, UsageError
from gpubranches.service.session_directory import SessionDirectory
from gpubranches.service.session_store import ORDERS, SESSION_NAME, Order, Record, new_session_name, query_path

LARGEST_BYTES = 32 << 20
"""The largest imported file; it holds half a million marks."""

routes = Blueprint("sessions", __name__)


@routes.get("/sessions")
def listed() -> Response:
    """Show the sessions over this catalog that mention `text`, in an `order` of ORDERS."""
    return _list() if htmx else make_response(render_template("sessions.html", **_context()))


@routes.post("/sessions/new")
def create() -> Response:
    """Begin a new session, with the query `q` and the uploaded pictures that it names, if there is one."""
    query, session = request.form.get("q", "").strip(), new_session_name()
    _sessions().hand_over(query, session_id(), session)
    return _go(session, query_path(query, "") if query else "")


@routes.post("/sessions/import")
def unpack() -> Response:
    """Begin a session that is a copy of the one in the JSON file `file`."""
    request.max_content_length = LARGEST_BYTES
    sent = request.files.get("file")
    if sent is None or not sent.filename:
        refused = UsageError("file: expected a session's JSON file, got none; choose one that was exported here")
        raise refused.because("session-file-wrong")
    try:
        return _go(_sessions().unpack(sent.read()))
    except UsageError as error:
        if not error.reason:
            error.because("session-file-wrong")
        raise


@routes.post("/sessions/<name>/open")
def resume(name: str) -> Response:
    """Continue an earlier session: at its matches if it has any, else at its last query."""
    record = _known(name)
    return _go(record.session, "" if record.matches is None else "/matches")


@routes.post("/sessions/<name>/copy")
def copy(name: str) -> Response:
    """Copy a session."""
    record = _known(name)
    return _go(_sessions().copy(record.session, t("session-copied", title=_title(record))))


@routes.post("/sessions/<name>/name")
def rename(name: str) -> Response:
    """Give a session the name `title`."""
    title = _sessions().rename(_known(name).session, request.form.get("title", ""))
    return _list(t("session-renamed", title=title) if title else t("session-unnamed"))


@routes.post("/sessions/<name>/delete")
def delete(name: str) -> Response:
    """Delete a session with its marks, for an hour so that it can be brought back; pages that show it get an error."""
    record, mine = _known(name), session_id()
    _sessions().discard(record.session)
    if record.session == mine:
        enter(new_session_name())
    title, current = _title(record), record.session == mine
    return _list(t("session-deleted", title=title), removed=record, removed_title=title, removed_current=current)


@routes.post("/sessions/<name>/undelete")
def undelete(name: str) -> Response:
    """Bring a deleted session back as it was; `current` makes it the browser's own again."""
    if not SESSION_NAME.fullmatch(name):
        raise _unknown()
    _sessions().bring_back(name)
    if request.args.get("current"):
        enter(name)
    return _list(t("session-restored", title=_title(_sessions().record(name))))


@routes.get("/sessions/<name>.json")
def pack(name: str) -> Response:
    """Send a session as a JSON file that can be imported here or elsewhere."""
    response = make_response(json.dumps(_sessions().pack(_known(name).session), indent=1) + "\n")
    response.mimetype = "application/json"
    response.headers["Content-Disposition"] = "attachment; filename=session.json"
    return response


def _sessions() -> SessionDirectory:
    return service().sessions


def _known(name: str) -> Record:
    if not SESSION_NAME.fullmatch(name) or _sessions().deleted(name):
        raise _unknown()
    return _sessions().record(name)


def _unknown() -> SessionGoneError:
    return SessionGoneError("This session does not exist; it may have been deleted.").because("session-unknown")


def _go(session: str, path: str = "") -> Response:
    """Make a session the browser's, and lead it to a path, by default that of the session's last query."""
    response = make_response("", 204)
    path = path or _sessions().record(session).path or "/"
    enter(session)
    response.headers["HX-Redirect"] = request.script_root + path
    return response


def _context(said: str = "", **shown: Any) -> dict[str, Any]:
    current, text = session_id(), request.values.get("text", "")
    order = cast(Order, request.values.get("order") or ORDERS[0])
    if order not in ORDERS:
        raise UsageError(f"order: expected one of {', '.join(ORDERS)}, got {order!r:.40}")
    found = _sessions().records(text=text, order=order)
    records = [record for record in found if SESSION_NAME.fullmatch(record.session)]
    if current not in {record.session for record in records} and not text.strip():
        records.insert(0, _sessions().record(current))
    examples = np.unique([item for record in records for item in record.examples]).astype(np.int64)
    return {
        "records": records,
        "titles": {record.session: title_of(record) for record in records},
        "times": {record.session: texts().moment(record.used_s) for record in records},
        "exports": {record.session: texts().moment(record.exported[1]) for record in records if record.exported},
        "pictures": picture_versions(examples),
        "discarded": [(record.session, _title(record)) for record in _sessions().discarded()],
        "session_id": current,
        "text": text,
        "order": order,
        "session_orders": ORDERS,
        "said": said,
        **shown,
    }


def _title(record: Record) -> str:
    return title_of(record) or t("untitled")


def _list(said: str = "", **shown: Any) -> Response:
    return make_response(render_block("sessions.html", "list", **_context(said, **shown)))
