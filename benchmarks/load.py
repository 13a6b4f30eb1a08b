"""Many users at once on one server: marks, searches, find alls and exports over loopback, and whether any is lost.

    python -m benchmarks.load --out benchmarks/results/load.md
    python -m benchmarks.load --mixed --seconds 600 --out benchmarks/results/load-mixed.md

A synthetic catalog of a million items with embeddings and bits is served by a process of its own. Each of 50 users has
a session of the API and looks for the items of one cluster of the catalog: from its own thread it marks one item a
second of those it was shown, right or wrong as they are, searches by an item of the cluster every ten seconds and finds
all every two minutes. They come in over the first ten seconds. Times are measured at the users, over open connections.
A user that is late does not catch up, so the numbers of requests are reported too.

`--mixed` users also export what matches every two minutes, while another process appends 200 rows every five seconds
and deletes 100 earlier ones (`benchmarks.writing`). The server's anonymous memory and file handles are read every
second. They are flat if their growth over the last three quarters of the run, by the median of all slopes, is at most
64 MB or a tenth, and 8 handles or a tenth. Handles on the catalog's segments are not counted, since each append adds
some.

At the end the server gets SIGTERM while all users go on. It must finish the requests under way and exit with status 0.
It is started again, and every acknowledged mark is looked up in its session.

`--careless` users mark at random: their models hold half of the catalog, and ask for more than two cores can compute.
The server then has to refuse find alls (they are counted, not errors: the user is told to try again) and must lose
nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.given import finite, out_file, whole
from benchmarks.speed import machine_facts
from benchmarks.synthetic import Clusters, write_embedded_catalog
from benchmarks.watching import Watch
from benchmarks.writing import copied_from
from gpubranches.engines import BACKENDS

MARK_S, SEARCH_S, REFINE_S, EXPORT_S = 1.0, 10.0, 120.0, 120.0
_WHAT = ("mark", "search", "refine", "export")
GOALS_MS = {"mark": 50.0, "search": 500.0}
_FIRST_MARKS = 6
_SERVER = """
import logging, sys
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, waitress_server, open_server
catalog = Catalog.open(sys.argv[1])
with open_backend(sys.argv[2], catalog) as backend:
    app = create_app(catalog, backend)
    app.extensions["gpubranches"].service.warm_up()
    server = open_server(app, "127.0.0.1", 0)
    print(server.effective_port, flush=True)
    waitress_server.run(server)
    app.extensions["gpubranches"].service.close()
"""


@dataclass
class User:
    """One user: its session, what it was told, and how long each answer took."""

    number: int
    port: int
    owners: NDArray[np.int16]
    ending: threading.Event
    careless: bool = False
    mixed: bool = False
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in _WHAT})
    marks: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lost: int = 0
    refused: int = 0
    gone: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([7, self.number])
        wanted = self.owners[self._rng.integers(len(self.owners))]
        self._right = np.flatnonzero(self.owners == wanted)
        self._line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self._session = ""

    def run(self) -> None:
        """Act until the server has ended after its signal."""
        try:
            self._session = self._call("POST", "/sessions", {})["session"]
            self._act()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            if isinstance(error, ValueError | KeyError) or not self.ending.is_set():
                self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self._line.close()

    def look_up(self, port: int) -> None:
        """Count the acknowledged marks that a new server over the catalog does not have."""
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        told = self._call("GET", f"/sessions/{self._session}/marks")["marks"] if self.marks else []
        self._line.close()
        held = {mark["id"]: mark["label"] for mark in told}
        self.lost = sum(held.get(item) != label for item, label in self.marks.items())

    def _act(self) -> None:
        comes = time.monotonic() + self._rng.uniform(0, SEARCH_S)
        due = {
            "mark": comes + self._rng.uniform(0, MARK_S),
            "search": comes,
            "refine": comes + self._rng.uniform(_FIRST_MARKS * MARK_S, REFINE_S),
        }
        every = {"mark": MARK_S, "search": SEARCH_S, "refine": REFINE_S, "export": EXPORT_S}
        seen: list[int] = []
        while True:
            what = min(due, key=due.__getitem__)
            time.sleep(max(0.0, due[what] - time.monotonic()))
            start = time.monotonic()
            if what == "search":
                item = int(self._rng.integers(len(self.owners)) if self.careless else self._rng.choice(self._right))
                found = self._call("POST", "/search", {"item": item, "k": 100})["items"]
                seen = [row["id"] for row in found if row["id"] not in self.marks]
            elif what == "mark":
                item = seen.pop(int(self._rng.integers(len(seen))))
                label = 1 if self._likes(item) else -1
                if self._call("POST", f"/sessions/{self._session}/marks", {"ids": [item], "label": label}):
                    self.marks[item] = label
                else:
                    self.gone += 1
            elif what == "export":
                if not self._call("GET", f"/sessions/{self._session}/matches.jsonl"):
                    self.refused += 1
            else:
                if not self._call("POST", f"/sessions/{self._session}/refine", {}):
                    self.refused += 1
                    due[what] = time.monotonic() + every[what]
                    continue
                told = self._call("GET", f"/sessions/{self._session}/results?limit=60")["results"]
                seen += [row["id"] for row in told if row["id"] not in self.marks]
                if self.mixed:
                    due.setdefault("export", time.monotonic() + self._rng.uniform(0, EXPORT_S))
            self.took_ms[what].append((time.monotonic() - start) * 1000)
            due[what] = max(due[what] + every[what], time.monotonic())

    def _likes(self, item: int) -> bool:
        if self.careless:
            return bool(self._rng.random() < 0.5)
        return self._owner(item) == self._owner(int(self._right[0]))

    def _owner(self, item: int) -> int:
        return int(self.owners[copied_from(item, len(self.owners))])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._line.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = self._line.getresponse()
        content = answer.read()
        if answer.status == 429 or (answer.status == 422 and b"deleted" in content and self.mixed):
            return {}
        if answer.status >= 400:
            raise ValueError(f"{method} {path}: {answer.status} {content[:200]!r}")
        told: dict[str, Any] = {"lines": content.count(b"\n")} if path.endswith(".jsonl") else json.loads(content)
        return told


@dataclass
class Served:
    """The results of a run. status: of the server after SIGTERM; ended_s: how long it took to end."""

    crowd: list[User]
    watch: Watch
    status: int
    ended_s: float
    written: dict[str, int]


@contextmanager
def served(catalog: Path, backend: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve a catalog by a process of its own; yield the process and its port, and end it."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(catalog), backend], stdout=subprocess.PIPE, text=True)
    try:
        yield server, int(server.stdout.readline()) if server.stdout else 0
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def writing(catalog: Path) -> Iterator[dict[str, int]]:
    """Append and delete by a process of its own; yield its counts, which are filled at the end of the block."""
    command = [sys.executable, "-m", "benchmarks.writing", str(catalog)]
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


def play(catalog: Path, owners: NDArray[np.int16], arguments: argparse.Namespace) -> Served:
    """Serve a catalog, let the users act, end the server under load, and look the marks up by a new server.

    owners: (n,) the cluster of each id.
    """
    ending = threading.Event()
    with ExitStack() as beside:
        server, port = beside.enter_context(served(catalog, arguments.backend))
        written = beside.enter_context(writing(catalog)) if arguments.mixed else {}
        watch = Watch(server.pid, catalog / "segments")
        crowd = [
            User(number, port, owners, ending, arguments.careless, arguments.mixed) for number in range(arguments.users)
        ]
        threads = [threading.Thread(target=user.run) for user in crowd]
        for thread in threads:
            thread.start()
        time.sleep(arguments.seconds)
        watch.stop()
        ending.set()
        began = time.monotonic()
        server.terminate()
        status = server.wait(30)
        ended_s = time.monotonic() - began
        for thread in threads:
            thread.join()
    with served(catalog, arguments.backend) as (_, port):
        for user in crowd:
            user.look_up(port)
    return Served(crowd, watch, status, ended_s, written)


def report(found: Served, arguments: argparse.Namespace, load: float) -> str:
    """Return the result as Markdown."""
    crowd = found.crowd
    errors, lost = sum(len(user.errors) for user in crowd), sum(user.lost for user in crowd)
    machine = machine_facts((load, os.getloadavg()[0]), repeats=1, threads=0)
    flags = "".join(f" --{name}" for name in ("careless", "mixed") if getattr(arguments, name))
    command = f"python -m benchmarks.load --seconds {arguments.seconds:.0f} --dims {arguments.dims}{flags}"
    lines = [
        "# Load, with users who mark at random" if arguments.careless else "# Load",
        "",
        f"{len(crowd)} users for {arguments.seconds:.0f} s on {arguments.n:,} items of {arguments.dims} dims; "
        f"server and users on {machine['cores']} cores ({machine['processor']}); "
        f"load average {machine['load_before']} before, {machine['load_after']} after; {machine['date']}.",
        "",
        f"`{command}`, backend {arguments.backend}",
        "",
        "| what | asked | p50, ms | p95, ms | p99, ms | goal, p95 | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for what in _WHAT:
        took = _took(crowd, what)
        if not took:
            continue
        p50, p95, p99 = np.quantile(took, (0.5, 0.95, 0.99))
        goal = GOALS_MS.get(what)
        told = ("", "") if goal is None else (f"{goal:.0f}", "yes" if p95 < goal else "**no**")
        lines.append(f"| {what} | {len(took):,} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {told[0]} | {told[1]} |")
    marks = sum(len(user.marks) for user in crowd)
    refused = sum(user.refused for user in crowd)
    lines += ["", f"Errors: {errors}. Marks acknowledged: {marks:,}; lost: {lost}. Find alls put off: {refused}."]
    lines += [f"- {error}" for user in crowd for error in user.errors[:1]][:5]
    return "\n".join([*lines, "", *_held(found), ""])


def _held(found: Served) -> list[str]:
    """Return the lines of the report on the server's process and its end."""
    lines = ["| the server's | median | grew by | bound | flat |", "|---|---|---|---|---|"]
    for name, grown in (
        ("anonymous memory, MB", found.watch.memory_growth()),
        ("handles outside of segments", found.watch.handle_growth()),
    ):
        held = "yes" if grown.flat else "**no**"
        lines.append(f"| {name} | {grown.median:,.0f} | {grown.grew:+,.1f} | {grown.bound:,.1f} | {held} |")
    gone = sum(user.gone for user in found.crowd)
    if found.written:
        told = ", ".join(f"{count:,} {name}" for name, count in found.written.items())
        lines += ["", f"Beside them: {told}; {gone} marks were refused, for their items had been deleted."]
    lines += ["", f"SIGTERM while all went on: ended in {found.ended_s:.1f} s with status {found.status}."]
    return lines


def holds(found: Served) -> bool:
    """Return whether nothing was lost or failed, goals were met, and the server was flat and ended with status 0."""
    sound = not any(user.lost or user.errors for user in found.crowd) and found.status == 0
    quick = all(np.quantile(_took(found.crowd, what) or [0.0], 0.95) < goal for what, goal in GOALS_MS.items())
    return bool(sound and quick and found.watch.memory_growth().flat and found.watch.handle_growth().flat)


def _took(crowd: list[User], what: str) -> list[float]:
    return [took for user in crowd for took in user.took_ms[what]]


def main() -> None:
    """Make the catalog, play, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=whole(1), default=1_000_000)
    parser.add_argument("--users", type=whole(1), default=50)
    parser.add_argument("--seconds", type=finite(0, above=True), default=120.0)
    parser.add_argument("--backend", default="cpu", choices=("auto", *BACKENDS))
    parser.add_argument("--dims", type=whole(1), default=512, help="of the embeddings")
    parser.add_argument("--careless", action="store_true", help="mark at random")
    parser.add_argument("--mixed", action="store_true", help="export too, beside a process that appends and deletes")
    parser.add_argument("--out", type=out_file)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gpubranches-load-") as folder:
        catalog = Path(folder) / "catalog"
        owners = write_embedded_catalog(catalog, Clusters(arguments.dims), arguments.n)
        found = play(catalog, owners, arguments)
    text = report(found, arguments, load)
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)
    sys.exit(not holds(found))


if __name__ == "__main__":
    main()
