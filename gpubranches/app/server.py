"""The app of one catalog, and the server that runs it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, request

from gpubranches.app import (
    access,
    api,
    export_routes,
    filter_routes,
    health_routes,
    knn_service,
    limits,
    mark_routes,
    metrics_routes,
    picture_routes,
    refine_routes,
    request_checks,
    search_routes,
    session_routes,
    waitress_server,
)
from gpubranches.app.proxies import Proxies, install
from gpubranches.app.request_values import htmx
from gpubranches.app.result_lists import Lists
from gpubranches.core import assets
from gpubranches.errors import UsageError
from gpubranches.service.app_context import Desk

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)

THREADS = 2 * limits.PLACES
"""Of the server: half of them for marks and searches, however many train."""
LARGEST_BYTES = 1 << 20
"""Of a request, unless its route allows more."""

_PARTS = (
    access,
    api,
    search_routes,
    mark_routes,
    refine_routes,
    filter_routes,
    picture_routes,
    export_routes,
    session_routes,
    health_routes,
    metrics_routes,
    knn_service,
)


def create_app(
    catalog: Catalog, backend: Backend, *, embedder: Embedder | None = None, seed: int = 0, token: str | None = None
) -> Flask:
    """Return the page and the API of a catalog as a WSGI app.

    embedder: reads the texts (None: the page searches by item only); SpaceMismatchError or UsageError if it is not
    the catalog's. seed: of every session's learners. token: what requests must carry (None: nothing); UsageError for
    one that is too short.
    """
    web = assets.folder("web")
    app = Flask("gpubranches", root_path=str(web))
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BYTES
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    desk = Desk.over(catalog, backend, embedder, seed)
    app.context_processor(lambda: {"desk": desk, "root": request.script_root})
    app.extensions["gpubranches"] = desk
    app.extensions["gpubranches.access"] = access.Access(None if token is None else access.check_token(token, "token"))
    app.extensions["gpubranches.refines"] = limits.Buckets()
    app.extensions["gpubranches.turns"] = limits.Turns()
    app.extensions["gpubranches.lists"] = Lists()
    app.extensions["gpubranches.downloads"] = limits.Places(limits.DOWNLOADS)
    app.extensions["gpubranches.readiness"] = health_routes.Readiness()
    app.wsgi_app = _Followed(app.wsgi_app, desk)  # type: ignore[method-assign]
    htmx.init_app(app)
    metrics_routes.install(app, desk)
    request_checks.install(app)
    for part in _PARTS:
        app.register_blueprint(part.routes)
    return app


def serve(
    app: Flask,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    allowed_hosts: tuple[str, ...] = (),
    proxies: Proxies | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve in 24 threads until SIGTERM or SIGINT, then finish what was begun. Errors as of `open_server`.

    ready: called with the port once the server listens.
    """
    server = open_server(app, host, port, allowed_hosts=allowed_hosts, proxies=proxies)
    desk = cast(Desk, app.extensions["gpubranches"])
    _log.info("serving on http://%s:%d", host, server.effective_port)
    if ready is not None:
        ready(server.effective_port)
    threading.Thread(target=desk.warm_up, name="warm-up", daemon=True).start()
    try:
        waitress_server.run(server)
    finally:
        desk.close()


def open_server(
    app: Flask, host: str, port: int, *, allowed_hosts: tuple[str, ...] = (), proxies: Proxies | None = None
) -> Any:
    """Return a waitress server that listens on host:port (0: any free port) and waits for its `run()`.

    Only requests that name this server as their host are answered, so that no foreign name can be pointed at it: the
    loopback, the address it listens on, the machine's name, and `allowed_hosts`. proxies: before it. Raises UsageError
    for an address beyond loopback where the app asks for no token, and when the port cannot be had.
    """
    access.listen_on(app, host, allowed_hosts)
    if proxies is not None:
        install(app, proxies)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UsageError(f"expected a free port, {host}:{port} cannot be had: {error}; try another --port") from error
    return waitress_server.open_waitress(app, listener, THREADS, access.rules_of(app).admits)


class _Followed:
    """A WSGI app each of whose requests sees one generation of the desk's catalog, the newest when it began.

    What monitors ask and what holds no item does not wait for one.
    """

    def __init__(self, app: WSGIApplication, desk: Desk):
        self._app = app
        self._desk = desk

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in health_routes.PATHS or path.startswith("/static/"):
            return self._app(environ, start_response)
        with self._desk.following.reading():
            return self._app(environ, start_response)
