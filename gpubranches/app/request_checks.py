"""Checks before and after every route: access, cross-site requests, headers, cookies and errors."""

from __future__ import annotations

import logging
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, g, make_response, render_template, request
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, Unauthorized

from gpubranches.app.access import check_host, require_authorization
from gpubranches.app.app_context import remote_pictures
from gpubranches.app.language import told
from gpubranches.app.problem_details import is_for_programs, problem
from gpubranches.app.proxies import proxy_advice, untrusted_prefix
from gpubranches.app.request_values import COOKIE, htmx
from gpubranches.errors import GpuBranchesError, UnknownNameError

_log = logging.getLogger(__name__)

_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_REMOTE_PICTURES = "; img-src 'self' https:"
"""What the policy also allows if pictures may be loaded from other sites."""


def install(app: Flask) -> None:
    """Add the checks to an app."""
    app.before_request(check_host)
    app.before_request(refuse_broken_links)
    app.before_request(require_authorization)
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)
    app.register_error_handler(GpuBranchesError, show_error)
    app.register_error_handler(HTTPException, show_http_error)
    app.register_error_handler(Exception, show_failure)


def refuse_broken_links() -> None:
    """Refuse a page under the prefix of an untrusted proxy, because none of its links would work."""
    prefix = untrusted_prefix()
    if prefix and not is_for_programs() and request.endpoint not in ("health.alive", "health.ready"):
        raise BadRequest(f"expected a page without a prefix, got one under {prefix!r:.100}: {proxy_advice()}")


def refuse_other_sites() -> None:
    """Refuse requests of other sites that change something or use the API.

    A browser names the site in Origin and Sec-Fetch-Site. Requests of the page must also carry a header that other
    sites cannot set. Requests of programs have a content type for which a browser sends a preflight first, which is
    refused. A request with a bearer token is not from another site's page, since a browser adds none.
    """
    programs = is_for_programs()
    if g.get("bearer") or (request.method in ("GET", "HEAD", "OPTIONS") and not programs):
        return
    origin = request.headers.get("Origin")
    own = request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
    if own and origin is not None and not _same(origin):
        raise Forbidden(_mismatch(origin))
    if not own or not (htmx or programs or request.endpoint == "access.enter"):
        raise Forbidden("expected a request from this page, got one from elsewhere; reload the page and try again")


def _mismatch(origin: str) -> str:
    """Return why a request is refused whose Origin has another host than this server."""
    mismatch = f"expected a request from a page of {request.host}, which the Host header names, got {origin!r:.100}"
    advice = proxy_advice()
    if advice:
        return f"{advice}; {mismatch}"
    return (
        f"{mismatch}; a reverse proxy in front of this server must forward the requested Host and port (nginx: "
        "proxy_set_header Host $http_host), or send X-Forwarded-Host and be named by serve --behind-proxy; "
        "without a proxy this is another site, which may change nothing here"
    )


def _same(origin: str) -> bool:
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:
        return False


def add_headers(response: Response) -> Response:
    """Set the cookie of a new session and the headers for security and caching."""
    if "new_session" in g:
        response.set_cookie(
            COOKIE,
            g.session_id,
            max_age=365 * 86400,
            path=f"{request.script_root}/",
            httponly=True,
            samesite="Lax",
            secure=request.is_secure,
        )
    policy = _POLICY + (_REMOTE_PICTURES if remote_pictures() else "")
    response.headers.setdefault("Content-Security-Policy", policy)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    response.vary.update(("HX-Request", "Accept"))
    return response


def show_error(error: GpuBranchesError) -> Response:
    """Respond with the message of an error, under the status of its class."""
    if error.http_status >= 500:
        _log.error("%s %s: %s", request.method, request.path, error)
    suggestions = error.suggestions if isinstance(error, UnknownNameError) else ()
    response = _alert(error, str(error), error.http_status, type(error).__name__, suggestions)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def show_http_error(error: HTTPException) -> Response:
    """Respond with the description of an HTTP error."""
    if error.response is not None:
        return cast(Response, error.response)
    response = _alert(error, error.description or error.name, error.code or 500)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.valid_methods or ())
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def show_failure(error: Exception) -> Response:
    """Log an unexpected error; respond only that there was one."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _alert(error, "The server failed at this request; its log says why.", 500)


def _alert(error: Exception, message: str, status: int, kind: str = "", suggestions: tuple[str, ...] = ()) -> Response:
    """Respond with problem details to a program, JSON to a script, a fragment to htmx, a page to others.

    message: in English, for a program; suggestions: names that can be searched for instead. An error of a search is
    shown beside the search field.
    """
    if is_for_programs():
        return problem(message, status, kind)
    shown = told(error)
    if request.accept_mimetypes.best == "application/json":
        return make_response({"error": " ".join(filter(None, shown)), "status": status}, status)
    template = "_alert.html" if htmx else "error.html"
    response = make_response(render_template(template, status=status, told=shown, suggestions=suggestions), status)
    if htmx:
        response.headers.update(
            {
                "HX-Retarget": "#search-told" if request.path == "/search" else "#alert",
                "HX-Reswap": "innerHTML",
                "HX-Push-Url": "false",
            }
        )
    return response
