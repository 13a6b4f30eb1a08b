"""Many users at once on one server: marks, searches and find alls over loopback, and what of it was lost.

    python -m benchmarks.load --out benchmarks/results/load.md

A synthetic catalog of a million items with embeddings and bits is served by a process of its own. Each of 50 users has
a session of the API and, from its own thread, marks one item a second, searches by an item every ten seconds and finds
all every two minutes. Times are told as users see them, connection kept open; a user that is late does not catch up, so
the numbers of what was asked are told, too. At the end every mark that was acknowledged is looked up in its session.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import Clusters, write_embedded_catalog
from gpubranches import Catalog

MARK_S, SEARCH_S, REFINE_S = 1.0, 10.0, 120.0
GOALS_MS = {"mark": 50.0, "search": 500.0}
_FIRST_MARKS = 6
_SERVER = """
import sys
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, open_server
catalog = Catalog.open(sys.argv[1])
with open_backend(sys.argv[2], catalog) as backend:
    app = create_app(catalog, backend)
    app.extensions["gpubranches"].warm_up()
    server = open_server(app, "127.0.0.1", 0)
    print(server.effective_port, flush=True)
    server.run()
"""


@dataclass
class User:
    """One user: its session, what it was told, and how long each answer took."""

    number: int
    port: int
    n: int
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {"mark": [], "search": [], "refine": []})
    marks: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([7, self.number])
        self._line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def run(self, until: float) -> None:
        """Act until a moment of the monotonic clock, then look the marks up."""
        try:
            self._session = self._call("POST", "/sessions", {})["session"]
            self._act(until)
            told = self._call("GET", f"/sessions/{self._session}/marks")["marks"]
            held = {mark["id"]: mark["label"] for mark in told}
            self.lost = sum(held.get(item) != label for item, label in self.marks.items())
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self._line.close()

    def _act(self, until: float) -> None:
        now = time.monotonic()
        due = {
            "mark": now + self._rng.uniform(0, MARK_S),
            "search": now,
            "refine": now + self._rng.uniform(_FIRST_MARKS * MARK_S, REFINE_S),
        }
        every = {"mark": MARK_S, "search": SEARCH_S, "refine": REFINE_S}
        seen: list[int] = []
        while (begins := min(due.values())) < until:
            what = min(due, key=due.__getitem__)
            time.sleep(max(0.0, begins - time.monotonic()))
            start = time.monotonic()
            if what == "search":
                item = int(self._rng.integers(self.n))
                seen = [found["id"] for found in self._call("POST", "/search", {"item": item, "k": 100})["items"]]
            elif what == "mark":
                item = int(self._rng.choice(seen))
                label = 1 if self._rng.random() < 0.5 or not self.marks else -1
                self._call("POST", f"/sessions/{self._session}/marks", {"ids": [item], "label": label})
                self.marks[item] = label
            else:
                self._call("POST", f"/sessions/{self._session}/refine", {})
            self.took_ms[what].append((time.monotonic() - start) * 1000)
            due[what] = max(due[what] + every[what], time.monotonic())

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._line.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = self._line.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise ValueError(f"{method} {path}: {answer.status} {content[:200]!r}")
        told: dict[str, Any] = json.loads(content)
        return told


def play(catalog: Path, users: int, seconds: float, backend: str) -> list[User]:
    """Serve a catalog, let the users act, end the server; return the users."""
    n = Catalog.open(catalog).n
    command = [sys.executable, "-c", _SERVER, str(catalog), backend]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        crowd = [User(number, port, n) for number in range(users)]
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=user.run, args=(until,)) for user in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.terminate()
        server.wait(30)
    return crowd


def report(crowd: list[User], n: int, seconds: float, load: float) -> str:
    """Return the result as Markdown."""
    errors, lost = sum(len(user.errors) for user in crowd), sum(user.lost for user in crowd)
    lines = [
        "# Load",
        "",
        f"{len(crowd)} users for {seconds:.0f} s on {n:,} items, server and users on the same {os.cpu_count()} cores; "
        f"load average before {load:.1f}. Made by `python -m benchmarks.load`.",
        "",
        "| what | asked | p50, ms | p95, ms | p99, ms | goal, p95 | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for what in ("mark", "search", "refine"):
        took = np.concatenate([user.took_ms[what] for user in crowd])
        if not len(took):
            continue
        p50, p95, p99 = np.quantile(took, (0.5, 0.95, 0.99))
        goal = GOALS_MS.get(what)
        told = ("", "") if goal is None else (f"{goal:.0f}", "yes" if p95 < goal else "**no**")
        lines.append(f"| {what} | {len(took):,} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {told[0]} | {told[1]} |")
    marks = sum(len(user.marks) for user in crowd)
    lines += ["", f"Errors: {errors}. Marks acknowledged: {marks:,}; lost: {lost}."]
    lines += [f"- {error}" for user in crowd for error in user.errors[:1]][:5]
    return "\n".join([*lines, ""])


def main() -> None:
    """Make the catalog, play, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gpubranches-load-") as folder:
        catalog = Path(folder) / "catalog"
        write_embedded_catalog(catalog, Clusters(), arguments.n)
        crowd = play(catalog, arguments.users, arguments.seconds, arguments.backend)
    text = report(crowd, arguments.n, arguments.seconds, load)
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
