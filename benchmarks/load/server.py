"""Serve a catalog in a separate process while users act on it, then end the server and look for their marks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.process_watch import ProcessWatch
from benchmarks.load.users import User

_SERVER = """
import logging, sys
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, open_server, waitress_server
catalog = Catalog.open(sys.argv[1])
with open_backend(sys.argv[2], catalog) as backend:
    app = create_app(catalog, backend)
    app.extensions["gpubranches"].service.warm_up()
    server = open_server(app, "127.0.0.1", 0)
    print(server.effective_port, flush=True)
    waitress_server.run(server)
    app.extensions["gpubranches"].service.close()
"""


@dataclass(frozen=True)
class Served:
    """The results of a run.

    status: exit status of the server after SIGTERM; ended_s: how long it took to end; written: the counts of the
    process that appended and deleted, empty without one.
    """

    users: list[User]
    watch: ProcessWatch
    status: int
    ended_s: float
    written: dict[str, int]


@contextmanager
def served(catalog: Path, backend: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve a catalog in a separate process; yield the process and its port, and end it after the block."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(catalog), backend], stdout=subprocess.PIPE, text=True)
    try:
        yield server, int(server.stdout.readline()) if server.stdout else 0
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def writing(catalog: Path) -> Iterator[dict[str, int]]:
    """Append and delete in a separate process; yield its counts, which are filled when the block ends."""
    command = [sys.executable, "-m", "benchmarks.load.writer", str(catalog)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    counts: dict[str, int] = {}
    try:
        if writer.stdout:
            writer.stdout.readline()
        yield counts
    finally:
        writer.terminate()
        told, _ = writer.communicate(timeout=60)
    counts.update(json.loads(told))


def play(
    catalog: Path,
    owners: NDArray[np.int16],
    *,
    users: int,
    seconds: float,
    backend: str,
    careless: bool = False,
    mixed: bool = False,
) -> Served:
    """Serve a catalog, let the users act, end the server under load, and look their marks up on a new server.

    owners: (n,) the cluster of each id; careless, mixed: as for User, and mixed also appends and deletes.
    """
    ending = threading.Event()
    with ExitStack() as stack:
        server, port = stack.enter_context(served(catalog, backend))
        written = stack.enter_context(writing(catalog)) if mixed else {}
        watch = ProcessWatch(server.pid, catalog / "segments")
        crowd = [User(number, port, owners, ending, careless, mixed) for number in range(users)]
        threads = [threading.Thread(target=user.run) for user in crowd]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        watch.stop()
        ending.set()
        began = time.monotonic()
        server.terminate()
        status = server.wait(30)
        ended_s = time.monotonic() - began
        for thread in threads:
            thread.join()
    with served(catalog, backend) as (_, port):
        for user in crowd:
            user.look_up(port)
    return Served(crowd, watch, status, ended_s, written)
