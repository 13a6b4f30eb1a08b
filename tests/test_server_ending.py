"""The running server: what it refuses unread, whom it hangs up on, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from serving import *  # noqa: F403
from serving import TOKEN, running

from gpubranches.app import waitress_server
from gpubranches.app.access import COOKIE, Access
from gpubranches.app.proxies import Proxies

COOKIE_OF_TOKEN = f"{COOKIE}={Access(TOKEN).cookie}"
BASIC = "Basic YW55OmEtdG9rZW4tb2YtdGhlLXRlc3RzLWFsb25l"
ROUTES = ("/mark", "/pictures", "/sessions/import", "/api/v1/search", "/api/v1/search/image", "/knn-service", "/none")


def asked(address, head, body=b""):
    """Return the first line and the rest of an answer to a request of which the body may be missing."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(head.encode() + body)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    first, _, rest = answer.decode().partition("\r\n")
    return first, rest


def post(path, length, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""])


@pytest.mark.parametrize("wrong", [(), ("Authorization: Bearer another-token-of-20-letters",), ("Cookie: x=y",)])
def test_without_the_token_a_request_is_refused_before_its_body_comes(make, wrong):
    """Nothing of the body is ever sent: who waits for it would not answer."""
    with running(make(token=TOKEN)) as (address, _):
        for path in ROUTES:
            first, rest = asked(address, post(path, 30 << 20, "Content-Type: application/json", *wrong))
            assert "401" in first, (path, first)
            assert "Connection: close" in rest
            assert "authenticate: bearer" in rest.lower()
            chunked = post(path, 1, *wrong).replace("Content-Length: 1", "Transfer-Encoding: chunked")
            assert "401" in asked(address, chunked)[0], path
            assert "401" in asked(address, post(path, 30 << 20, "Expect: 100-continue", *wrong))[0], path


def test_a_body_that_is_refused_reaches_no_file_and_is_no_request(make, monkeypatch):
    kept, asks = [], []
    monkeypatch.setattr("waitress.buffers.TempfileBasedBuffer.__init__", lambda self, *a: kept.append(self) or 1 / 0)
    app = make(token=TOKEN)
    app.before_request(lambda: asks.append(1) and None)
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with running(app) as (address, _):
        first, rest = asked(address, post("/mark", 8 << 20), smuggled + bytes(2 << 20))
        assert "401" in first
        assert "HTTP/1.1 200" not in rest
    assert not kept
    assert len(asks) <= 1


@pytest.mark.parametrize(
    "header", [f"Authorization: Bearer {TOKEN}", f"Authorization: {BASIC}", f"Cookie: {COOKIE_OF_TOKEN}"]
)
def test_with_the_token_the_body_is_read(make, header):
    body = json.dumps({"item": 3, "k": 2}).encode()
    with running(make(token=TOKEN)) as (address, _):
        head = post("/api/v1/search", len(body), "Content-Type: application/json", header)
        first, rest = asked(address, head, body)
        assert "200" in first, rest


@pytest.mark.parametrize("believed", [True, False])
def test_what_a_proxy_says_comes_through_the_server(make, believed):
    """With the Host that nginx sends by itself, and the browser's Origin."""
    app = make()
    form = b"id=3&value=1"
    told = ("X-Forwarded-Host: photos.example.org", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /photos")
    browser = ("Origin: https://photos.example.org", "HX-Request: true", "Accept: application/json")
    kind = "Content-Type: application/x-www-form-urlencoded"
    networks = ("127.0.0.1",) if believed else ()
    with running(app, allowed_hosts=("photos.example.org",), proxies=Proxies.parse(networks)) as (address, _):
        first, rest = asked(address, post("/mark", len(form), kind, *told, *browser), form)
        if believed:
            assert "200" in first, rest
            assert "Path=/photos/; " in rest
        else:
            assert "--behind-proxy 127.0.0.1" in rest


def test_the_login_reads_a_token_and_no_more(make):
    form = f"token={TOKEN}".encode()
    kind = "Content-Type: application/x-www-form-urlencoded"
    with running(make(token=TOKEN)) as (address, _):
        assert "303" in asked(address, post("/login", len(form), kind), form)[0]
        assert "401" in asked(address, post("/login", 1 << 20, kind))[0]


def test_half_open_connections_lock_nobody_out(make, monkeypatch):
    monkeypatch.setattr(waitress_server, "CONNECTIONS", 20)
    with running(make()) as (address, _):
        halves = []
        for number in range(60):
            halves.append(socket.create_connection(address, timeout=30))
            if number % 2:
                halves[-1].sendall(b"POST /mark HTTP/1.1\r\nContent-")
        first, _ = asked(address, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert "200" in first
        for half in halves:
            half.close()


def test_health_is_answered_while_every_thread_is_held(make):
    app, held = make(), threading.Event()
    app.add_url_rule("/held", "held", lambda: str(held.wait(60)))
    with running(app) as (address, server):
        clients = [socket.create_connection(address, timeout=30) for _ in range(30)]
        for client in clients:
            client.sendall(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while len(server.task_dispatcher.queue) < 6:
            time.sleep(0.01)
        for path in ("healthz", "readyz", "metrics"):
            first, _ = asked(address, f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert "200" in first, path
        held.set()
        for client in clients:
            client.close()


SERVER = """
import sys, time, threading
from flask import request
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, waitress_server, serve
from gpubranches.app import server as module
waitress_server.END_S = float(sys.argv[2])
catalog = Catalog.open(sys.argv[1])
with open_backend("oracle", catalog) as backend:
    app = create_app(catalog, backend)
    def slow():
        print("begun", flush=True)
        time.sleep(float(request.args["s"]))
        return "x" * int(request.args["n"])
    app.add_url_rule("/slow", "slow", slow)
    opened = module.open_server
    def told(*a, **k):
        made = opened(*a, **k)
        print(made.effective_port, flush=True)
        return made
    module.open_server = told
    module.CatalogService.warm_up = lambda self: None
    serve(app, port=0)
print("ended", flush=True)
"""


@contextmanager
def served(folder, end_s):
    command = [sys.executable, "-c", SERVER, str(folder / "catalog"), str(end_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, ("127.0.0.1", int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_finishes_what_was_begun(folder, number):
    """The answer is larger than what the kernel holds, so that most of it is sent after the signal."""
    with served(folder, 60) as (process, address), socket.create_connection(address, timeout=60) as client:
        idle = socket.create_connection(address, timeout=60)
        client.sendall(b"GET /slow?s=0&n=20000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, number)
        while listens(address):
            time.sleep(0.01)
        assert process.poll() is None  # it waits for the client to read
        got = b""
        while part := client.recv(1 << 20):
            got += part
        assert len(got) > 20_000_000
        assert idle.recv(10) == b""
        idle.close()
        assert process.wait(60) == 0
        assert process.stdout.readline() == "ended\n"


@pytest.mark.parametrize("twice", [False, True])
def test_what_does_not_end_within_the_bound_is_cut_off(folder, twice):
    with served(folder, 60 if twice else 0.5) as (process, address), socket.create_connection(address) as client:
        client.sendall(b"GET /slow?s=600&n=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert process.stdout.readline() == "begun\n"
        process.terminate()
        if twice:  # two at once are one to the system
            while listens(address):
                time.sleep(0.05)
            process.terminate()
        assert process.wait(60) == 0


def listens(address):
    try:
        socket.create_connection(address, timeout=60).close()
    except OSError:
        return False
    return True
