"""Reverse proxies before the server: which ones are trusted, and the path prefix of the page."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import Flask, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix

from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Proxies:
    """The trusted proxies.

    networks: of the proxies whose X-Forwarded-For, -Proto, -Host, -Port and -Prefix are used; prefix: of the paths that
    a browser requests, such as "/photos"; "" to use the one that a trusted proxy sends.
    """

    networks: tuple[Network, ...] = ()
    prefix: str = ""

    @classmethod
    def parse(cls, behind: Iterable[str] = (), prefix: str = "") -> Proxies:
        """Parse addresses or networks of proxies, and a prefix. Raises UsageError for another text."""
        if not _PREFIX.fullmatch(prefix.rstrip("/")):
            raise UsageError(f"--prefix: expected a path such as /photos, got {prefix!r:.100}")
        try:
            networks = tuple(ipaddress.ip_network(text) for text in behind)
        except ValueError as error:
            raise UsageError(
                f"--behind-proxy: expected the address of a proxy, such as 127.0.0.1 or 172.17.0.0/16: {error}"
            ) from None
        return cls(networks, prefix.rstrip("/"))

    def trusts(self, peer: str) -> bool:
        """Return whether the headers of a peer at an address are used."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def install(app: Flask, proxies: Proxies) -> None:
    """Make an app see requests as the proxies received them."""
    app.extensions["gpubranches.proxies"] = proxies
    app.wsgi_app = _Proxied(app.wsgi_app, proxies)  # type: ignore[method-assign]


def proxy_advice() -> str:
    """Return advice about the request's proxy if it sends a host or a prefix and is not trusted, else ""."""
    proxies = cast(Proxies, current_app.extensions.get("gpubranches.proxies", Proxies()))
    sent = [name for name in ("X-Forwarded-Host", "X-Forwarded-Prefix") if request.headers.get(name)]
    peer = request.remote_addr or ""
    if not sent or proxies.trusts(peer):
        return ""
    return (
        f"a reverse proxy at {peer} sends {' and '.join(sent)}, which are ignored: "
        f"serve with --behind-proxy {peer} to believe it"
    )


def untrusted_prefix() -> str:
    """Return the prefix that an untrusted proxy sends, under which no link of the page would work; "" for none."""
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    return "" if not prefix or request.script_root else prefix


class _Proxied:
    """A WSGI app that sees requests as the trusted proxies received them."""

    def __init__(self, app: WSGIApplication, proxies: Proxies):
        self._app = app
        self._proxies = proxies
        self._fixed = ProxyFix(self._prefixed, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._proxies.trusts(environ.get("REMOTE_ADDR", "")):
            return self._prefixed(environ, start_response)
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if not _PREFIX.fullmatch(prefix.rstrip("/")):
            _log.warning("the proxy's X-Forwarded-Prefix is ignored: expected a path, got %.100r", prefix)
            del environ["HTTP_X_FORWARDED_PREFIX"]
        return self._fixed(environ, start_response)

    def _prefixed(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        prefix = self._proxies.prefix or environ.get("SCRIPT_NAME", "").rstrip("/")
        path = environ["PATH_INFO"]
        environ["SCRIPT_NAME"] = prefix
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):  # from a proxy that does not strip the prefix
            environ["PATH_INFO"] = path.removeprefix(prefix) or "/"
        return self._app(environ, start_response)
