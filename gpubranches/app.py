"""The page: a Flask app over one catalog. Every route parses, calls one method of the session and renders.

A browser is a session: a random id in a cookie names its marks in the catalog's `labels.sqlite`, so a reload, a
second tab or a new server process finds them again.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

import numpy as np
from flask import Blueprint, Flask, Response, current_app, g, make_response, render_template, request, send_file
from flask_htmx import HTMX
from jinja2_fragments.flask import render_block
from numpy.typing import NDArray
from werkzeug.exceptions import Forbidden, HTTPException, NotFound

from gpubranches import assets
from gpubranches.completeness import AUDITED
from gpubranches.desk import Desk, View, describe, describe_completeness, version
from gpubranches.errors import DataError, GpuBranchesError, UsageError
from gpubranches.export import BOX_FORMATS, ITEM_FORMATS, export_boxes
from gpubranches.models import MODELS, TITLES, Model
from gpubranches.session import Session

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gpubranches.backends import Backend
    from gpubranches.catalog import Catalog
    from gpubranches.embed import Embedder
    from gpubranches.results import Neighbors

_log = logging.getLogger(__name__)

PAGE = 60
"""Items shown at a time."""
LISTED = 300
"""Nearest or random items that can be paged through; what matches is listed whole."""
SUGGESTED = 20
REDRAWN = 1000
"""Items of one undo whose marks are drawn anew; a reload shows the rest."""
NAMES = 2000
"""Names of the embedder offered while typing, at most."""
ORIGINS = ("user", "suggestion", "audit")
"""How items may come to be marked on the page."""
THUMBNAIL_SIZES = {"small": 320, "large": 1280}
COOKIE = "gpubranches"

_COOKIE_FORM = re.compile(r"[A-Za-z0-9_-]{22}")
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

pages = Blueprint("pages", __name__)
htmx = HTMX()


def create_app(catalog: Catalog, backend: Backend, *, embedder: Embedder | None = None, seed: int = 0) -> Flask:
    """Return the page of a catalog as a WSGI app.

    embedder: reads the texts (None: the page searches by item only); SpaceMismatchError or UsageError if it is not
    the catalog's. seed: of every session's learners.
    """
    web = assets.folder("web")
    app = Flask("gpubranches", root_path=str(web))
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    desk = Desk.over(catalog, backend, embedder, seed)
    app.extensions["gpubranches"] = desk
    app.wsgi_app = _Followed(app.wsgi_app, desk)  # type: ignore[method-assign]
    htmx.init_app(app)
    app.register_blueprint(pages)
    return app


class _Followed:
    """A WSGI app each of whose requests sees one generation of the desk's catalog, the newest when it began."""

    def __init__(self, app: WSGIApplication, desk: Desk):
        self._app = app
        self._desk = desk

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._desk.following.reading():
            return self._app(environ, start_response)


def serve(app: Flask, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve until interrupted: one process, eight threads. Raises UsageError when the port cannot be had."""
    server = open_server(app, host, port)
    desk = cast(Desk, app.extensions["gpubranches"])
    _log.info("serving on http://%s:%d", host, port)
    threading.Thread(target=desk.warm_up, name="warm-up", daemon=True).start()
    try:
        server.run()
    finally:
        server.close()
        desk.sessions.close()


def open_server(app: Flask, host: str, port: int) -> Any:
    """Return a waitress server that listens on host:port (0: any free port) and waits for its `run()`.

    On loopback only requests that name the loopback as their host are answered, so that no foreign name can be
    pointed at it.
    """
    import waitress

    if host in ("127.0.0.1", "::1", "localhost"):
        app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "[::1]", "localhost"]
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UsageError(f"expected a free port, {host}:{port} cannot be had: {error}; try another --port") from error
    return waitress.create_server(app, sockets=[listener], threads=8, ident="gpubranches")


# What every request goes through


@pages.before_request
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


@pages.after_app_request
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
    response.vary.add("HX-Request")
    return response


@pages.app_errorhandler(GpuBranchesError)
def show_error(error: GpuBranchesError) -> Response:
    """Answer with the message, under the status of its class."""
    if error.http_status >= 500:
        _log.error("%s %s: %s", request.method, request.path, error)
    return _alert(str(error), error.http_status)


@pages.app_errorhandler(HTTPException)
def show_http_error(error: HTTPException) -> Response:
    """Answer with what HTTP says."""
    return _alert(error.description or error.name, error.code or 500)


@pages.app_errorhandler(Exception)
def show_failure(error: Exception) -> Response:
    """Log what nobody foresaw, and say only that it happened."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _alert("The server failed at this request; its log says why.", 500)


# Looking


@pages.get("/")
def home() -> Response:
    """Show how to begin, over a random page."""
    return _random("home", _desk().seed)


@pages.get("/random")
def random_page() -> Response:
    """Show items drawn at random from `seed`."""
    return _random("random", _whole("seed", 0))


@pages.get("/search")
def search() -> Response:
    """Show the items nearest to the text `q`."""
    query = request.args.get("q", "").strip()
    with _held() as session:
        return _nearest(session, lambda: session.ask(query, LISTED), f"Nearest to “{query}”", q=query)


@pages.get("/like")
def like() -> Response:
    """Show the items nearest to the item `id`."""
    item = _whole("id")
    with _held() as session:
        return _nearest(session, lambda: session.like(item, LISTED), f"Like item {item}", id=item)


@pages.get("/matches")
def matches() -> Response:
    """Show what the last find all matched."""
    with _held() as session:
        return _matches(session, _whole("offset", 0))


@pages.get("/suggest")
def suggest() -> Response:
    """Show the items whose marks would tell most."""
    with _held() as session:
        tiles = _desk().tiles(session, session.suggest(SUGGESTED))
        note = "nearest to the cut of the last find all, and unlike each other"
        return _show(session, View("suggest", f"{len(tiles)} to mark next", note, tiles, origin="suggestion"))


@pages.get("/audit")
def audit() -> Response:
    """Show items drawn at random whose marks tell how complete the last find all is."""
    with _held() as session:
        tiles = _desk().tiles(session, session.audit(AUDITED))
        note = "drawn at random, most from around the cut: mark each right or wrong, as many as you like"
        return _show(session, View("audit", f"{len(tiles)} to check", note, tiles, origin="audit"))


@pages.get("/completeness")
def completeness() -> Response:
    """Tell how complete the last find all is, by the marks made up to now."""
    with _held() as session:
        session.estimate()
        return make_response(render_template("_completeness.html", **_context(session)))


@pages.get("/why/<int:item>")
def why(item: int) -> Response:
    """Tell why an item is in the last find all or is not."""
    with _held() as session:
        return make_response(render_template("_why.html", told=session.explain(item)))


@pages.get("/thumbnails/<size>/<int:item>.jpg")
def picture(size: str, item: int) -> Response:
    """Send the picture of an item as JPEG, small or large; 404 for an item without a readable one.

    An address that names the picture's version in `v` may be kept for ever: another catalog, or another picture
    under the same id, has another address.
    """
    if size not in THUMBNAIL_SIZES or item >= 2**63:
        raise NotFound(f"expected an item and a size of {', '.join(THUMBNAIL_SIZES)}, got {item} and {size!r}")
    path = _desk().picture_path(item)
    current = version(path)
    if path is None or not current:
        raise NotFound(f"item {item} has no picture")
    key = f"{current}-{size}"
    try:
        jpeg = b"" if key in request.if_none_match else _desk().thumbnails.get(key, path, THUMBNAIL_SIZES[size])
    except (DataError, OSError) as error:
        raise NotFound(f"item {item} has no readable picture: {error}") from error
    response = Response(jpeg, status=200 if jpeg else 304, mimetype="image/jpeg")
    response.set_etag(key)
    named = request.args.get("v") == current
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if named else "private, no-cache"
    return response


@pages.get("/healthz")
def health() -> dict[str, Any]:
    """Say that the server answers, and over what."""
    desk = _desk()
    return {"status": "ok", "items": desk.catalog.n, "generation": desk.catalog.generation}


# Marking


@pages.post("/mark")
def mark() -> Response:
    """Mark the items `id` with `value`: 1 right, -1 wrong, 0 not at all, "next" the one after theirs in that order.

    `origin`: the page they were shown on, one of ORIGINS.
    """
    ids = np.array([_parse_whole("id", text) for text in request.form.getlist("id")], np.int64)
    value = request.form.get("value", "")
    if not len(ids) or value not in ("1", "-1", "0", "next"):
        raise UsageError(f"mark: expected ids and a value of 1, -1, 0 or next, got {len(ids)} ids and {value!r}")
    origin = request.form.get("origin", ORIGINS[0])
    if origin not in ORIGINS:
        raise UsageError(f"origin: expected one of {', '.join(ORIGINS)}, got {origin!r}")
    with _held() as session:
        label = {0: 1, 1: -1, -1: 0}[session.labels.current().get(int(ids[0]), 0)] if value == "next" else int(value)
        if label:
            session.mark(ids, label, origin=origin)
        else:
            session.unmark(ids)
        return _marked(session, ids, {1: "Marked right", -1: "Marked wrong", 0: "Mark removed"}[label])


@pages.post("/undo")
def undo() -> Response:
    """Take back the last mark."""
    with _held() as session:
        ids = session.undo()
        return _marked(session, ids, "Taken back" if len(ids) else "Nothing left to undo")


@pages.post("/clear")
def clear() -> Response:
    """Remove all marks, in one step that undo brings back."""
    with _held() as session:
        ids = np.concatenate([session.positives, session.negatives])
        session.unmark(ids)
        return _marked(session, ids, "All marks removed; undo brings them back")


@pages.post("/refine")
def refine() -> Response:
    """Find all: train on the marks, apply to the whole catalog, show what matches. The lean stays as it was."""
    model = request.form.get("model", MODELS[0])
    with _held() as session:
        lean = 0.0 if session.ranking is None else session.ranking.lean
        session.refine(cast(Model, model), second_stage="second_stage" in request.form, lean=lean)
        response = _matches(session, 0)
    response.headers["HX-Push-Url"] = "/matches"
    return response


@pages.post("/recut")
def recut() -> Response:
    """Cut the last find all's list at another `lean`, -1 to 1, without training; show what matches."""
    text = request.form.get("lean", "")
    try:
        lean = float(text)
    except ValueError:
        raise UsageError(f"lean: expected a number of -1 to 1, got {text!r}") from None
    with _held() as session:
        session.recut(lean)
        response = _matches(session, 0)
    response.headers["HX-Push-Url"] = "/matches"
    return response


# Taking away


@pages.get("/export/matches.<format>")
def export_matches(format: str) -> Response:
    """Send the matched items of the last find all as csv, parquet or json."""
    if format not in ITEM_FORMATS:
        raise NotFound(f"expected one of {', '.join(ITEM_FORMATS)}, got {format!r}")
    with _held() as session:
        return _download(f"matches.{format}", session.export)


@pages.get("/export/boxes.<format>")
def export_model(format: str) -> Response:
    """Send the boxes of the last find all as sql or json."""
    if format not in BOX_FORMATS:
        raise NotFound(f"expected one of {', '.join(BOX_FORMATS)}, got {format!r}")
    with _held() as session:
        boxes, min_votes = session.boxes, session.min_votes
    if boxes is None:
        raise UsageError("expected a find all by a model of boxes before this, got none; mark items and find all first")
    return _download(f"boxes.{format}", lambda path: export_boxes(boxes, path, min_votes=min_votes))


def _desk() -> Desk:
    return cast(Desk, current_app.extensions["gpubranches"])


@contextmanager
def _held() -> Iterator[Session]:
    """Lend the session of the browser that asks; one without a cookie gets a new id."""
    known = request.cookies.get(COOKIE, "")
    if not _COOKIE_FORM.fullmatch(known):
        known = secrets.token_urlsafe(16)
        g.session_id, g.new_session = known, True
    with _desk().sessions.hold(known) as session:
        yield session


def _whole(name: str, default: int | None = None) -> int:
    text = request.args.get(name, "")
    return default if not text and default is not None else _parse_whole(name, text)


def _parse_whole(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"{name}: expected a whole number of 0 and more, got {text!r}")
    return int(text)


def _nearest(session: Session, find: Callable[[], Neighbors], heading: str, **query: str | int) -> Response:
    """Show one page of what `find` returns; `query` is what leads to it again."""
    start = time.perf_counter()
    found = find()
    took_ms = (time.perf_counter() - start) * 1000
    there = found.ids[0] >= 0
    ids, distances = found.ids[0][there], found.distances[0][there]
    offset = _whole("offset", 0)
    tiles = _desk().tiles(session, ids[offset : offset + PAGE], [f"{x:.3g}" for x in distances[offset : offset + PAGE]])
    note = f"the {len(ids):,} nearest of {_desk().catalog.n:,} · {found.source} · {took_ms:,.0f} ms"
    more = _more(request.path, offset, len(ids), **query)
    return _show(session, View(request.path[1:], heading, note, tiles, more, offset, str(query.get("q", ""))))


def _random(kind: str, seed: int) -> Response:
    offset = _whole("offset", 0)
    with _held() as session:
        ids = _desk().draw(LISTED, seed)
        tiles = _desk().tiles(session, ids[offset : offset + PAGE])
        more = _more("/random", offset, len(ids), seed=seed)
        return _show(session, View(kind, "Random items", "", tiles, more, offset, seed=seed))


def _matches(session: Session, offset: int) -> Response:
    ranking = session.ranking
    if ranking is None:
        note = "Mark at least one item right, then press Find all."
        return _show(session, View("matches", "Nothing found yet", note))
    rows = np.flatnonzero(ranking.matched)
    shown = rows[offset : offset + PAGE]
    figures = [f"{score:.3g}" for score in ranking.scores[shown]]
    tiles = _desk().tiles(session, ranking.ids[shown], figures)
    more = _more("/matches", offset, len(rows))
    return _show(session, View("matches", *describe(ranking), tiles, more=more, offset=offset))


def _more(path: str, offset: int, total: int, **query: str | int) -> str | None:
    return f"{path}?{urlencode({**query, 'offset': offset + PAGE})}" if offset + PAGE < total else None


def _context(session: Session) -> dict[str, Any]:
    ranking = session.ranking
    return {
        "positive": len(session.positives),
        "negative": len(session.negatives),
        "ranking": ranking,
        "completeness": "" if ranking is None else describe_completeness(ranking),
        "audited": AUDITED,
    }


def _show(session: Session, view: View) -> Response:
    """Render the next tiles, the results, or the whole page, whichever was asked for."""
    context = {"view": view, **_context(session)}
    if htmx and not htmx.history_restore_request:
        return make_response(render_block("index.html", "tiles" if view.offset else "results", **context))
    desk = _desk()
    return make_response(render_template("index.html", desk=desk, names=desk.names(NAMES), models=TITLES, **context))


def _marked(session: Session, ids: NDArray[np.int64], said: str) -> Response:
    current = session.labels.current()
    marks = [(item, current.get(item, 0)) for item in ids[:REDRAWN].tolist()]
    return make_response(render_template("_marked.html", marks=marks, said=said, **_context(session)))


def _alert(message: str, status: int) -> Response:
    template = "_alert.html" if htmx else "error.html"
    response = make_response(render_template(template, message=message, status=status), status)
    if htmx:
        response.headers.update({"HX-Retarget": "#alert", "HX-Reswap": "innerHTML", "HX-Push-Url": "false"})
    return response


def _download(name: str, write: Callable[[Path], object]) -> Response:
    """Send what `write` puts into a file of that name; the file is gone when the response is."""
    with tempfile.TemporaryDirectory(prefix="gpubranches-") as folder:
        path = Path(folder) / name
        write(path)
        return send_file(path.open("rb"), as_attachment=True, download_name=name)
