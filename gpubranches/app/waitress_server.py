"""The waitress server: refusal before a body is read, limits of connections, and graceful shutdown."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ThreadedTaskDispatcher

from gpubranches.app.health_routes import MONITOR_PATHS
from gpubranches.core.memory import return_large_blocks
from gpubranches.core.threads import one_thread

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger(__name__)

CONNECTIONS = 1_000
"""Open connections, at most; a browser keeps six."""
STALLED_S = 60
"""Seconds for which a client may read and acknowledge nothing before its connection is closed."""
END_S = 8.0
"""Seconds for running requests to finish after a signal to stop; container runtimes wait 10 s."""
LARGEST_BYTES = 34 << 20
"""The largest body of any request; routes allow less."""
LOGIN_BYTES = 4096
"""The largest body of a login."""
_LINGER_S = 2.0
"""Seconds for which data after a refusal are discarded; if closed earlier, the client may miss the response."""

Authorizes = Callable[[str, str], bool]
"""Returns whether a body may be read, from the headers Authorization and Cookie."""


def open_waitress(app: WSGIApplication, listener: socket.socket, threads: int, authorizes: Authorizes) -> Any:
    """Return a waitress server on a socket; start it by its own `run()`, or by `run` of this module."""
    # Waitress closes only idle connections. If a request is running, its thread waits until it can write. With this
    # option Linux closes such a connection after this time, even if the peer's window stays closed. Connections inherit
    # the option.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALLED_S)
    dispatcher = _Dispatcher()
    dispatcher.set_thread_count(threads)
    server = create_server(
        app,
        _dispatcher=dispatcher,
        sockets=[listener],
        threads=threads,
        ident="gpubranches",
        log_socket_errors=False,  # a closed connection is no error of the server
        connection_limit=CONNECTIONS + 100,
        asyncore_use_poll=True,  # select is limited to 1,023 descriptors, and a large catalog uses more
        max_request_body_size=LARGEST_BYTES,
        clear_untrusted_proxy_headers=False,  # `proxies` decides which proxies are trusted
    )
    server.channel_class = _Channel
    server.authorizes = authorizes
    return server


def run(server: Any) -> None:
    """Serve until SIGTERM or SIGINT; then finish the running requests, within `END_S`, and close.

    A second signal closes at once. Signals are handled only in the main thread. BLAS uses one thread for each request.
    Large blocks of memory are returned to the system when they are freed, for the rest of the process.
    """
    return_large_blocks()
    with _heard(server) as signals, one_thread():
        while not signals:
            _turn(server, 1.0)
        _finish(server, signals)
        server.task_dispatcher.shutdown(timeout=0.5)
        server.close()


def _turn(server: Any, timeout_s: float) -> None:
    wasyncore.loop(timeout_s, use_poll=True, map=server._map, count=1)


def _finish(server: Any, signals: list[int]) -> None:
    """Accept no new connection; wait for the connections with a running request."""
    _log.info("stopping: running requests are finished")
    wasyncore.dispatcher.close(server)
    until = time.monotonic() + END_S
    while len(signals) == 1 and time.monotonic() < until:
        channels = list(server.active_channels.values())
        busy = [channel for channel in channels if channel.busy]
        for channel in channels:
            if not channel.busy:
                channel.handle_close()
        if not busy:
            return
        _turn(server, 0.1)
    _log.warning("%d connections with a running request are closed", len(server.active_channels))


@contextmanager
def _heard(server: Any) -> Iterator[list[int]]:
    """Yield a list to which received signals are appended."""
    signals: list[int] = []

    def hear(number: int, frame: object) -> None:
        signals.append(number)
        server.pull_trigger()

    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """A parser that does not read the body of a request without the token; the app then refuses the request."""

    chunked: bool
    content_length: int

    def __init__(self, adj: Any, authorizes: Authorizes, refused: Callable[[], None]):
        super().__init__(adj)
        self._authorizes = authorizes
        self._refused = refused

    def received(self, data: bytes) -> int:
        """Parse some bytes; return how many of them belong to this request."""
        in_head = not self.headers_finished
        consumed = int(super().received(data))
        has_body = self.chunked or self.content_length > 0
        if not (in_head and self.headers_finished and has_body) or self._is_authorized():
            return consumed
        self._refused()
        self.completed = True
        self.body_rcv, self.chunked, self.expect_continue = None, False, False
        self.headers.update({"CONTENT_LENGTH": "0", "CONNECTION": "close"})
        return len(data)

    def _is_authorized(self) -> bool:
        login = self.path.endswith("/login") and not self.chunked and self.content_length <= LOGIN_BYTES
        return login or self._authorizes(self.headers.get("AUTHORIZATION", ""), self.headers.get("COOKIE", ""))


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. Beyond `CONNECTIONS` the longest idle is closed, first of those without any complete request."""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None):
        self.parser_class = lambda adj: _Parser(adj, server.authorizes, self._refuse)
        self._served = self._refused = False
        self._linger_until_s = 0.0
        if len(server.active_channels) >= CONNECTIONS:
            idle = [channel for channel in server.active_channels.values() if not channel.answering]
            if idle:
                min(idle, key=lambda channel: (channel._served, channel.last_activity)).handle_close()
        super().__init__(server, sock, addr, adj, map)

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or its response is being sent."""
        return bool(self.requests or self.total_outbufs_len)

    @property
    def busy(self) -> bool:
        """Whether a request has begun and is not answered."""
        return self.answering or self.request is not None

    def received(self, data: bytes) -> bool:
        """Receive some bytes."""
        taken: bool = super().received(data)
        self._served = self._served or bool(self.requests)
        return taken

    def _refuse(self) -> None:
        self._refused = True

    def readable(self) -> bool:
        """Whether the server waits for bytes."""
        return bool(self._linger_until_s or super().readable())

    def writable(self) -> bool:
        """Whether there is something to send, or the connection must be closed."""
        return time.monotonic() >= self._linger_until_s if self._linger_until_s else bool(super().writable())

    def handle_read(self) -> None:
        """Read bytes; discard them after a refusal."""
        if not self._linger_until_s:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        """Send pending data."""
        if self._linger_until_s:
            self.handle_close()
        else:
            super().handle_write()

    def handle_close(self) -> None:
        """Close the connection. After a refusal, first end the sending side and discard input for a moment."""
        if self._refused and self.connected and not self._linger_until_s:
            self._linger_until_s = time.monotonic() + _LINGER_S
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:
                pass  # the client is gone
        super().handle_close()


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """The worker threads, and one thread for each path of monitors, so that these never wait for others."""

    def __init__(self) -> None:
        super().__init__()
        self._aside = {path: ThreadedTaskDispatcher() for path in MONITOR_PATHS}
        for aside in self._aside.values():
            aside.set_thread_count(1)

    def add_task(self, task: _Channel) -> None:
        """Queue the next request of a channel."""
        path = task.requests[0].path if task.requests else ""
        for own, aside in self._aside.items():
            if path.endswith(own):
                aside.add_task(task)
                return
        super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop the threads; return whether waiting tasks were cancelled."""
        for aside in self._aside.values():
            aside.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))
