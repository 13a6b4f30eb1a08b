"""What every request goes through: who may change anything, headers, cookies and errors."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from flask import Flask, Response, g, make_response, render_template, request
from werkzeug.exceptions import Forbidden, HTTPException

from gpubranches.app.asking import COOKIE, htmx
from gpubranches.errors import GpuBranchesError

_log = logging.getLogger(__name__)

_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def install(app: Flask) -> None:
    """Put the guard before and after every route of the app."""
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)
    app.register_error_handler(GpuBranchesError, show_error)
    app.register_error_handler(HTTPException, show_http_error)
    app.register_error_handler(Exception, show_failure)


def refuse_other_sites() -> None:
    """Let only this page change anything: by a header other sites cannot set, and by what the browser says."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    if (
        not htmx
        or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
        or (origin is not None and urlsplit(origin).netloc != request.host)
    ):
        raise Forbidden("expected a request from this page, got one from elsewhere; reload the page and try again")


def add_headers(response: Response) -> Response:
    """Set the cookie of a new session, and say what a browser may load and keep."""
    if "new_session" in g:
        response.set_cookie(
            COOKIE, g.session_id, max_age=365 * 86400, httponly=True, samesite="Lax", secure=request.is_secure
        )
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    response.vary.update(("HX-Request", "Accept"))
    return response


def show_error(error: GpuBranchesError) -> Response:
    """Answer with the message, under the status of its class."""
    if error.http_status >= 500:
        _log.error("%s %s: %s", request.method, request.path, error)
    return _alert(str(error), error.http_status)


def show_http_error(error: HTTPException) -> Response:
    """Answer with what HTTP says."""
    return _alert(error.description or error.name, error.code or 500)


def show_failure(error: Exception) -> Response:
    """Log what nobody foresaw, and say only that it happened."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _alert("The server failed at this request; its log says why.", 500)


def _alert(message: str, status: int) -> Response:
    """Answer as asked: with JSON to a script, a fragment to htmx, a page to everybody else."""
    if request.accept_mimetypes.best == "application/json":
        return make_response({"error": message, "status": status}, status)
    template = "_alert.html" if htmx else "error.html"
    response = make_response(render_template(template, message=message, status=status), status)
    if htmx:
        response.headers.update({"HX-Retarget": "#alert", "HX-Reswap": "innerHTML", "HX-Push-Url": "false"})
    return response
