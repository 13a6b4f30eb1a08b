"""What a request asks for: its session, its numbers, and the desk that answers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import current_app, g, request
from flask_htmx import HTMX

from gpubranches.desk import Desk
from gpubranches.errors import UsageError
from gpubranches.session import Session

COOKIE = "gpubranches"

_COOKIE_FORM = re.compile(r"[A-Za-z0-9_-]{22}")

htmx = HTMX()


def desk() -> Desk:
    """Return the desk of the app that is asked."""
    return cast(Desk, current_app.extensions["gpubranches"])


@contextmanager
def held() -> Iterator[Session]:
    """Lend the session of the browser that asks; one without a cookie gets a new id."""
    known = request.cookies.get(COOKIE, "")
    if not _COOKIE_FORM.fullmatch(known):
        known = secrets.token_urlsafe(16)
        g.session_id, g.new_session = known, True
    with desk().sessions.hold(known) as session:
        yield session


def whole(name: str, default: int | None = None) -> int:
    """Return a whole number of the address, or the default where it has none. Raises UsageError."""
    text = request.args.get(name, "")
    return default if not text and default is not None else parse_whole(name, text)


def parse_whole(name: str, text: str) -> int:
    """Return a whole number of 0 and more. Raises UsageError for another text."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"{name}: expected a whole number of 0 and more, got {text!r}")
    return int(text)
