"""Access control: the hosts that requests may name, and the token that they must carry beyond loopback."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, g, make_response, redirect, render_template, request
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import BadRequest, Unauthorized
from werkzeug.http import parse_cookie

from gpubranches.app.language import t
from gpubranches.app.problem_details import is_for_programs
from gpubranches.app.proxies import proxy_advice
from gpubranches.app.request_values import htmx
from gpubranches.errors import UsageError

TOKEN_VARIABLE = "GPUBRANCHES_TOKEN"  # nosec B105  # the name of a variable
COOKIE = "gpubranches-login"
MIN_TOKEN_LENGTH = 20
"""The number of characters of the shortest accepted token."""
_OPEN = ("access.login", "access.enter", "health.alive", "health.ready", "static")
_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
_HOW = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > token.txt"
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_MONTH_S = 30 * 86400

routes = Blueprint("access", __name__)


@dataclass(frozen=True)
class Access:
    """The rules for access to a server.

    token: the token that a request must carry, or None; hosts: names that the Host header may have, None for any;
    addresses: whether it may also be any numeric address, because DNS cannot point a foreign name at a number.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None
    addresses: bool = False

    def accepts_host(self, host: str) -> bool:
        """Return whether a Host header is one of this server."""
        if self.hosts is None:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.hosts or (self.addresses and _is_address(name))

    def authorizes(self, authorization: str, cookies: str) -> bool:
        """Return whether the headers Authorization and Cookie carry the token, in one of three forms."""
        if self.token is None or self.is_bearer(authorization) or self.is_basic(authorization):
            return True
        sent = parse_cookie(cookies).get(COOKIE, "")
        return hmac.compare_digest(sent.encode("utf-8", "replace"), self.cookie.encode())

    def is_bearer(self, authorization: str) -> bool:
        """Return whether the header Authorization is Bearer with the token, as programs send it."""
        kind, _, sent = authorization.partition(" ")
        return kind.lower() == "bearer" and self.is_token(sent.strip())

    def is_basic(self, authorization: str) -> bool:
        """Return whether the header is Basic with the token as password, as for the address http://any:TOKEN@host."""
        sent = Authorization.from_header(authorization)
        return sent is not None and sent.type == "basic" and self.is_token(sent.password or "")

    def is_token(self, token: str) -> bool:
        """Return whether a text is the token, by a comparison in constant time."""
        return self.token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    @property
    def cookie(self) -> str:
        """The value of the cookie of a browser that has logged in: a keyed digest of the token, not the token."""
        return hmac.new((self.token or "").encode(), b"gpubranches login", hashlib.sha256).hexdigest()


def access() -> Access:
    """Return the access rules of the current app."""
    return rules_of(current_app)


def rules_of(app: Flask) -> Access:
    """Return the rules of an app."""
    return cast(Access, app.extensions["gpubranches.access"])


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, else of the environment variable GPUBRANCHES_TOKEN, or None. Raises UsageError."""
    if file is None:
        token, source = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    else:
        try:
            token, source = file.read_text("utf-8"), str(file)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--token-file: cannot read {file}: {error}; make one by {_HOW}") from error
    return None if not token else check_token(token.strip(), source)


def check_token(token: str, source: str) -> str:
    """Return the token if it is long enough and valid in a header. Raises UsageError naming its source otherwise."""
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{source}: expected a token of {MIN_TOKEN_LENGTH} ASCII characters or more without spaces; "
            f"make one by {_HOW}"
        )
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on that address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def require_token(host: str, token: str | None) -> None:
    """Raise UsageError for an address beyond loopback without a token."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: expected a token for an address that others can reach, got none; make one by {_HOW} and "
            f"pass --token-file token.txt, or set {TOKEN_VARIABLE}"
        )


def listen_on(app: Flask, host: str, allowed: tuple[str, ...] = ()) -> None:
    """Accept requests for the names of the address that a server listens on, and for `allowed` ones.

    Raises UsageError as `require_token` does.
    """
    token = rules_of(app).token
    require_token(host, token)
    own = set() if is_loopback(host) else {host.lower(), socket.gethostname().lower()}
    names = frozenset(_LOOPBACK | own | {_host(name) for name in allowed})
    wild = _is_address(host) and ipaddress.ip_address(host).is_unspecified
    app.extensions["gpubranches.access"] = Access(token, names, wild)


def check_host() -> None:
    """Refuse a request with another Host: DNS may point a foreign name at this server."""
    if not access().accepts_host(request.headers.get("Host", "")):
        named = request.headers.get("Host", "")
        advice = proxy_advice()
        raise BadRequest(
            f"expected a name of this server, got {named!r:.100}; serve with --allowed-host to accept it"
            + (f", or {advice}" if advice else "")
        )


def require_authorization() -> Response | None:
    """Refuse a request without the token; redirect a browser to the login."""
    rules = access()
    if rules.token is None:
        return None
    g.bearer = rules.is_bearer(request.headers.get("Authorization", ""))
    if request.endpoint in _OPEN or is_authorized():
        return None
    if request.method == "GET" and not (
        is_for_programs() or htmx or request.accept_mimetypes.best == "application/json"
    ):
        return make_response(redirect(f"{request.script_root}/login", 303))
    raise Unauthorized("expected a valid token in the header Authorization: Bearer, got none; a browser opens /login")


def is_authorized() -> bool:
    """Return whether the request carries the token, if there is one."""
    return access().authorizes(request.headers.get("Authorization", ""), request.headers.get("Cookie", ""))


@routes.get("/login")
def login() -> Response:
    """Show the login page."""
    return make_response(render_template("login.html", message=""))


@routes.post("/login")
def enter() -> Response:
    """Log a browser in by a cookie, if the field `token` of its form is the token."""
    rules = access()
    if not rules.is_token(request.form.get("token", "").strip()):
        return make_response(render_template("login.html", message=t("login.wrong")), 401)
    response = make_response(redirect(f"{request.script_root}/", 303))
    response.set_cookie(
        COOKIE,
        rules.cookie,
        max_age=_MONTH_S,
        path=f"{request.script_root}/",
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return response


def _host(name: str) -> str:
    """Return a host name in the form of a Host header, without brackets. Raises UsageError for other texts."""
    bare = re.sub(r"^\[(.*)\]$", r"\1", name.lower())
    if not (_NAME.fullmatch(bare) or _is_address(bare)):
        raise UsageError(
            f"--allowed-host: expected a name such as photos.example.org, without scheme and port, got {name!r:.100}"
        )
    return bare


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
