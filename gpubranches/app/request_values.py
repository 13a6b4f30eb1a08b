"""Values of a request: the session it is for, and its numbers."""

from __future__ import annotations

import re
from typing import cast

from flask import g, request
from flask_htmx import HTMX

from gpubranches.app.app_context import service
from gpubranches.errors import SessionGoneError, UsageError
from gpubranches.service.session_store import SESSION_NAME, new_session_name

COOKIE = "gpubranches"
HEADER = "X-Session"
"""The header with the session of an open page.

The cookie may have another one, because another tab may have changed it.
"""
EVENT_NAME = re.compile(r"[A-Za-z0-9_-]{8,64}")

htmx = HTMX()


def session_id() -> str:
    """Return the request's session: that of its header, of `session` in its address, of its cookie, or a new one.

    Raises SessionGoneError if the header or the address names a deleted one; a cookie that does is replaced.
    """
    if "session_id" in g:
        return cast(str, g.session_id)
    named = request.headers.get(HEADER) or request.args.get("session")
    known = named or request.cookies.get(COOKIE, "")
    if named and not SESSION_NAME.fullmatch(named):
        raise UsageError(f"session: expected 22 letters and digits, got {named!r:.40}; reload the page")
    gone = bool(known) and service().sessions.deleted(known)
    if named and gone:
        refused = SessionGoneError("This session was deleted. Open the first page to begin a new one.")
        raise refused.because("session-gone")
    if gone or not SESSION_NAME.fullmatch(known):
        return enter(new_session_name())
    g.session_id = known
    return known


def enter(session: str) -> str:
    """Make `session` the browser's own, by a cookie with the response; return it."""
    g.session_id, g.new_session = session, True
    return session


def whole(name: str, default: int | None = None) -> int:
    """Return a whole number of the address, or the default if it has none. Raises UsageError."""
    text = request.args.get(name, "")
    return default if not text and default is not None else parse_whole(name, text)


def where_of_address() -> str:
    """Return the condition in the address, "" for none."""
    return request.args.get("where", "").strip()


def parse_number(name: str, text: str) -> float:
    """Return a number of a form. Raises UsageError for another text."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name}: expected a number, got {text!r:.80}") from None


def parse_whole(name: str, text: str) -> int:
    """Return a whole number of 0 or more. Raises UsageError for another text."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"{name}: expected a whole number of 0 and more, got {text!r}")
    return int(text)
