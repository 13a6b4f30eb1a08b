"""The app of one catalog, and the server that runs it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, request

from gpubranches.app import (
    access,
    api,
    export_routes,
    filter_routes,
    health_routes,
    knn_service,
    language,
    map_routes,
    mark_routes,
    metrics_routes,
    picture_routes,
    refine_routes,
    request_checks,
    search_routes,
    session_routes,
    waitress_server,
)
from gpubranches.app.app_context import AppContext, context_of
from gpubranches.app.app_context import install as install_context
from gpubranches.app.limits import TRAINING_THREADS
from gpubranches.app.proxies import Proxies
from gpubranches.app.proxies import install as install_proxies
from gpubranches.app.request_values import htmx
from gpubranches.core import assets
from gpubranches.errors import UsageError
from gpubranches.service.catalog_service import CatalogService
from gpubranches.service.thumbnails import Thumbnails

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)

THREADS = 2 * TRAINING_THREADS
"""Threads of the server. Half of them never train, so that marks and searches are answered."""
LARGEST_BYTES = 1 << 20
"""The largest body of a request, unless its route allows more."""

_PARTS = (
    access,
    api,
    search_routes,
    mark_routes,
    refine_routes,
    map_routes,
    filter_routes,
    picture_routes,
    export_routes,
    session_routes,
    health_routes,
    metrics_routes,
    knn_service,
)


def create_app(
    catalog: Catalog,
    backend: Backend,
    *,
    embedder: Embedder | None = None,
    seed: int = 0,
    token: str | None = None,
    remote_pictures: bool = False,
) -> Flask:
    """Return the page and the API of a catalog as a WSGI app.

    embedder: embeds texts and pictures; None: users can search by items only. seed: of every session's learners; token:
    the token that requests must carry, or None. remote_pictures: whether browsers may load pictures of items from the
    https addresses in their column `url`; the server itself fetches nothing. Raises SpaceMismatchError or UsageError
    for an embedder that is not the catalog's, UsageError for a token that is too short.
    """
    web = assets.folder("web")
    app = Flask("gpubranches", root_path=str(web))
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BYTES
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    service = CatalogService(catalog, backend, embedder, seed)
    app.context_processor(lambda: {"service": service, "root": request.script_root})
    install_context(app, AppContext(service, Thumbnails(catalog.path / "thumbnails"), remote_pictures=remote_pictures))
    app.extensions["gpubranches.access"] = access.Access(None if token is None else access.check_token(token, "token"))
    app.wsgi_app = _FollowedApp(app.wsgi_app, service)  # type: ignore[method-assign]
    language.install(app)
    htmx.init_app(app)
    metrics_routes.install(app, service)
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
    warm: Callable[[float], None] | None = None,
) -> None:
    """Serve in 24 threads until SIGTERM or SIGINT, then finish the running requests. Errors as of `open_server`.

    ready: called with the port once the server listens; warm: with the seconds that compiling the kernels took, once
    that is done.
    """
    server = open_server(app, host, port, allowed_hosts=allowed_hosts, proxies=proxies)
    service = context_of(app).service
    _log.info("serving on http://%s:%d", host, server.effective_port)
    if ready is not None:
        ready(server.effective_port)
    threading.Thread(target=_warm_up, args=(service, warm), name="warm-up", daemon=True).start()
    try:
        waitress_server.run(server)
    finally:
        service.close()


def _warm_up(service: CatalogService, warm: Callable[[float], None] | None) -> None:
    seconds = service.warm_up()
    if warm is not None and seconds is not None:
        warm(seconds)


def open_server(
    app: Flask, host: str, port: int, *, allowed_hosts: tuple[str, ...] = (), proxies: Proxies | None = None
) -> Any:
    """Return a waitress server that listens on host:port (0: any free port); its `run()` serves.

    It answers only requests whose Host is the loopback, the address it listens on, the machine's name or one of
    `allowed_hosts`, so that a foreign name cannot be pointed at it by DNS. proxies: the reverse proxies before it.
    Raises UsageError for an address beyond loopback if the app has no token, and if the port cannot be used.
    """
    access.listen_on(app, host, allowed_hosts)
    if proxies is not None:
        install_proxies(app, proxies)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"expected a free port, cannot listen on {host}:{port}: {error}; try another --port"
        ) from error
    return waitress_server.open_waitress(app, listener, THREADS, access.rules_of(app).authorizes)


class _FollowedApp:
    """A WSGI app each of whose requests sees one generation of the catalog, the newest at its start.

    Requests of monitors, and for static files, do not wait for a new generation.
    """

    def __init__(self, app: WSGIApplication, service: CatalogService):
        self._app = app
        self._follower = service.follower

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in health_routes.MONITOR_PATHS or path.startswith("/static/"):
            return self._app(environ, start_response)
        with self._follower.reading():
            return self._app(environ, start_response)
