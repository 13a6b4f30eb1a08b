"""Many users at once on one server: marks, searches and find alls over loopback, and what of it was lost.

    python -m benchmarks.load --out benchmarks/results/load.md

A synthetic catalog of a million items with embeddings and bits is served by a process of its own. Each of 50 users has
a session of the API and looks for the items of one cluster of the catalog: from its own thread it marks one item a
second of those it was shown, right or wrong as they are, searches by an item of the cluster every ten seconds and finds
all every two minutes. They come in over the first ten seconds. Times are told as users see them, connection kept open;
a user that is late does not catch up, so the numbers of what was asked are told, too. At the end every mark that was
acknowledged is looked up in its session.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import machine_facts
from benchmarks.synthetic import Clusters, write_embedded_catalog

MARK_S, SEARCH_S, REFINE_S = 1.0, 10.0, 120.0
GOALS_MS = {"mark": 50.0, "search": 500.0}
_FIRST_MARKS = 6
_SERVER = """
import logging, sys
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
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
    owners: NDArray[np.int16]
    careless: bool = False
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {"mark": [], "search": [], "refine": []})
    marks: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lost: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([7, self.number])
        wanted = self.owners[self._rng.integers(len(self.owners))]
        self._right = np.flatnonzero(self.owners == wanted)
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
        comes = time.monotonic() + self._rng.uniform(0, SEARCH_S)
        due = {
            "mark": comes + self._rng.uniform(0, MARK_S),
            "search": comes,
            "refine": comes + self._rng.uniform(_FIRST_MARKS * MARK_S, REFINE_S),
        }
        every = {"mark": MARK_S, "search": SEARCH_S, "refine": REFINE_S}
        seen: list[int] = []
        while (begins := min(due.values())) < until:
            what = min(due, key=due.__getitem__)
            time.sleep(max(0.0, begins - time.monotonic()))
            start = time.monotonic()
            if what == "search":
                item = int(self._rng.integers(len(self.owners)) if self.careless else self._rng.choice(self._right))
                found = self._call("POST", "/search", {"item": item, "k": 100})["items"]
                seen = [row["id"] for row in found if row["id"] not in self.marks]
            elif what == "mark":
                item = seen.pop(int(self._rng.integers(len(seen))))
                label = 1 if self._likes(item) else -1
                self._call("POST", f"/sessions/{self._session}/marks", {"ids": [item], "label": label})
                self.marks[item] = label
            else:
                if not self._call("POST", f"/sessions/{self._session}/refine", {}):
                    self.refused += 1
                    due[what] = time.monotonic() + every[what]
                    continue
                told = self._call("GET", f"/sessions/{self._session}/results?limit=60")["results"]
                seen += [row["id"] for row in told if row["id"] not in self.marks]
            self.took_ms[what].append((time.monotonic() - start) * 1000)
            due[what] = max(due[what] + every[what], time.monotonic())

    def _likes(self, item: int) -> bool:
        return bool(self._rng.random() < 0.5 if self.careless else self.owners[item] == self.owners[self._right[0]])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._line.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = self._line.getresponse()
        content = answer.read()
        if answer.status == 429:
            return {}
        if answer.status >= 400:
            raise ValueError(f"{method} {path}: {answer.status} {content[:200]!r}")
        told: dict[str, Any] = json.loads(content)
        return told


def play(catalog: Path, owners: NDArray[np.int16], arguments: argparse.Namespace) -> list[User]:
    """Serve a catalog, let the users act, end the server; return the users. owners: (n,) the cluster of each id."""
    command = [sys.executable, "-c", _SERVER, str(catalog), arguments.backend]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        crowd = [User(number, port, owners, arguments.careless) for number in range(arguments.users)]
        until = time.monotonic() + arguments.seconds
        threads = [threading.Thread(target=user.run, args=(until,)) for user in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.terminate()
        server.wait(30)
    return crowd


def report(crowd: list[User], arguments: argparse.Namespace, load: float) -> str:
    """Return the result as Markdown."""
    errors, lost = sum(len(user.errors) for user in crowd), sum(user.lost for user in crowd)
    machine = machine_facts((load, os.getloadavg()[0]), repeats=1, threads=0)
    command = f"python -m benchmarks.load --dims {arguments.dims}{' --careless' if arguments.careless else ''}"
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
    for what in ("mark", "search", "refine"):
        took = np.concatenate([user.took_ms[what] for user in crowd])
        if not len(took):
            continue
        p50, p95, p99 = np.quantile(took, (0.5, 0.95, 0.99))
        goal = GOALS_MS.get(what)
        told = ("", "") if goal is None else (f"{goal:.0f}", "yes" if p95 < goal else "**no**")
        lines.append(f"| {what} | {len(took):,} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {told[0]} | {told[1]} |")
    marks = sum(len(user.marks) for user in crowd)
    refused = sum(user.refused for user in crowd)
    lines += ["", f"Errors: {errors}. Marks acknowledged: {marks:,}; lost: {lost}. Find alls put off: {refused}."]
    lines += [f"- {error}" for user in crowd for error in user.errors[:1]][:5]
    return "\n".join([*lines, ""])


def main() -> None:
    """Make the catalog, play, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--dims", type=int, default=512, help="of the embeddings")
    parser.add_argument("--careless", action="store_true", help="mark at random")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gpubranches-load-") as folder:
        catalog = Path(folder) / "catalog"
        owners = write_embedded_catalog(catalog, Clusters(arguments.dims), arguments.n)
        crowd = play(catalog, owners, arguments)
    text = report(crowd, arguments, load)
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
