"""What a request asks for: its session, its numbers, and the desk that answers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import current_app, g, request
from flask_htmx import HTMX

from gpubranches.app.result_lists import Lists
from gpubranches.errors import SessionGoneError, UsageError
from gpubranches.service import Session
from gpubranches.service.app_context import Desk

COOKIE = "gpubranches"
HEADER = "X-Session"
"""Names the session of a page that is open: another tab may have put another one into the cookie since."""
EVENT_FORM = re.compile(r"[A-Za-z0-9_-]{8,64}")

SESSION_FORM = re.compile(r"[A-Za-z0-9_-]{22}")

htmx = HTMX()


def desk() -> Desk:
    """Return the desk of the app that is asked."""
    return cast(Desk, current_app.extensions["gpubranches"])


def lists() -> Lists:
    """Return the lists of nearest items that the app holds."""
    return cast(Lists, current_app.extensions["gpubranches.lists"])


def session_id() -> str:
    """Return the name of the session that asks: by header, by `session` in the address, by cookie, or a new one.

    Raises SessionGoneError for a deleted one; a cookie that names such a one is replaced.
    """
    if "session_id" in g:
        return cast(str, g.session_id)
    named = request.headers.get(HEADER) or request.args.get("session")
    known = named or request.cookies.get(COOKIE, "")
    if named and not SESSION_FORM.fullmatch(named):
        raise UsageError(f"session: expected 22 letters and digits, got {named!r:.40}; reload the page")
    gone = bool(known) and desk().book.deleted(known)
    if named and gone:
        raise SessionGoneError("This session was deleted. Reload the page to begin a new one.")
    if gone or not SESSION_FORM.fullmatch(known):
        return enter(new_session_id())
    g.session_id = known
    return known


def new_session_id() -> str:
    """Return a name no session has."""
    return secrets.token_urlsafe(16)


def enter(session: str) -> str:
    """Make `session` the browser's from this answer on; return it."""
    g.session_id, g.new_session = session, True
    return session


@contextmanager
def held() -> Iterator[Session]:
    """Lend the session that asks to this thread alone."""
    with desk().sessions.hold(session_id()) as session:
        yield session


@contextmanager
def marks_held() -> Iterator[Session]:
    """Lend the session that asks for its marks alone, also while it finds all in another thread."""
    with desk().sessions.marks(session_id()) as session:
        yield session


def whole(name: str, default: int | None = None) -> int:
    """Return a whole number of the address, or the default where it has none. Raises UsageError."""
    text = request.args.get(name, "")
    return default if not text and default is not None else parse_whole(name, text)


def parse_number(name: str, text: str) -> float:
    """Return a number of a form. Raises UsageError for another text."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name}: expected a number, got {text!r:.80}") from None


def parse_whole(name: str, text: str) -> int:
    """Return a whole number of 0 and more. Raises UsageError for another text."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"{name}: expected a whole number of 0 and more, got {text!r}")
    return int(text)
