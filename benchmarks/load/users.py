"""The simulated users of a served catalog: what each does, when, and how it reacts to a refusal."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.writer import copied_from

EVERY_S = {"mark": 1.0, "search": 10.0, "refine": 120.0, "export": 120.0}
"""Seconds from one action of a kind to the next."""
_FIRST_MARKS = 6
_PUT_OFF = (429, 503)
_FORGOTTEN = b"nothing is found yet"


class UnexpectedAnswerError(Exception):
    """The server answered in a way that a user does not expect."""


@dataclass(frozen=True)
class Reply:
    """An answer of the server. request: its method and path; retry_after_s: set if the request may be repeated."""

    request: str
    status: int
    content: bytes
    retry_after_s: float | None

    @property
    def is_put_off(self) -> bool:
        """Whether the server refused for now and said when to try again."""
        return self.status in _PUT_OFF and self.retry_after_s is not None

    @property
    def is_forgotten(self) -> bool:
        """Whether the session has no answer any more, because the server dropped it to free memory."""
        return self.status == 422 and _FORGOTTEN in self.content.lower()

    @property
    def is_deleted(self) -> bool:
        """Whether the request names an item that has been deleted."""
        return self.status == 422 and b"deleted" in self.content


class Connection:
    """An open connection to the API of a server on this machine."""

    def __init__(self, port: int):
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """Send a request to the API and return the answer. Raises OSError or HTTPException if the connection breaks."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._http.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = self._http.getresponse()
        content = answer.read()
        wait = answer.headers.get("Retry-After")
        return Reply(f"{method} {path}", answer.status, content, None if wait is None else float(wait))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@dataclass
class User:
    """One user: a session of the API that looks for the items of one cluster, and the user's measurements.

    owners: (n,) the cluster of each id at first; ending: set when the server gets its signal; careless: mark at random;
    mixed: export, too. took_ms: times of the requests that were answered; put_off: how often the server refused a
    request for now; marks: the acknowledged ones; lost: those of them that `look_up` missed; forgotten: answers that
    the server had dropped, so that the user found all again; refused_deleted: marks of items that had been deleted.
    """

    number: int
    port: int
    owners: NDArray[np.int16]
    ending: threading.Event
    careless: bool = False
    mixed: bool = False
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in EVERY_S})
    put_off: Counter[str] = field(default_factory=Counter)
    marks: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    errors: list[str] = field(default_factory=list)
    forgotten: int = 0
    refused_deleted: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([7, self.number])
        wanted = self.owners[self._rng.integers(len(self.owners))]
        self._right = np.flatnonzero(self.owners == wanted)
        self._connection = Connection(self.port)
        self._session = ""
        self._seen: list[int] = []
        self._due: dict[str, float] = {}

    def run(self) -> None:
        """Act until the server has ended after its signal."""
        try:
            self._session = _content(self._connection.send("POST", "/sessions", {}))["session"]
            self._act()
        except (OSError, http.client.HTTPException) as error:
            if not self.ending.is_set():
                self.errors.append(f"{type(error).__name__}: {error}")
        except (UnexpectedAnswerError, ValueError, KeyError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self._connection.close()

    def look_up(self, port: int) -> None:
        """Count the acknowledged marks that a new server over the catalog has lost."""
        connection = Connection(port)
        path = f"/sessions/{self._session}/marks"
        held = (
            {mark["id"]: mark["label"] for mark in _content(connection.send("GET", path))["marks"]}
            if self.marks
            else {}
        )
        connection.close()
        self.lost = sum(held.get(item) != label for item, label in self.marks.items())

    def _act(self) -> None:
        comes = time.monotonic() + self._rng.uniform(0, EVERY_S["search"])
        self._due = {
            "mark": comes + self._rng.uniform(0, EVERY_S["mark"]),
            "search": comes,
            "refine": comes + self._rng.uniform(_FIRST_MARKS * EVERY_S["mark"], EVERY_S["refine"]),
        }
        actions = {"mark": self._mark, "search": self._search, "refine": self._refine, "export": self._export}
        while True:
            what = min(self._due, key=self._due.__getitem__)
            time.sleep(max(0.0, self._due[what] - time.monotonic()))
            # An action may change when it is done next.
            self._due[what] = max(self._due[what] + EVERY_S[what], time.monotonic())
            actions[what]()

    def _search(self) -> None:
        """Search by an item of the cluster; the user sees the results that have no mark."""
        item = int(self._rng.integers(len(self.owners)) if self.careless else self._rng.choice(self._right))
        start = time.monotonic()
        reply = self._ask("search", "POST", "/search", {"item": item, "k": 100})
        if not reply.is_put_off:
            self._seen = self._unmarked(_content(reply)["items"])
            self._done("search", start)

    def _mark(self) -> None:
        """Mark an item that is seen; a user who sees none waits for the next search or find all."""
        if not self._seen:
            return
        item = self._seen.pop(int(self._rng.integers(len(self._seen))))
        label = 1 if self._likes(item) else -1
        mark = {"ids": [item], "label": label, "event": f"user-{self.number:04d}-mark-{len(self.marks):06d}-{item}"}
        start = time.monotonic()
        while (reply := self._ask("mark", "POST", f"/sessions/{self._session}/marks", mark)).is_put_off:
            time.sleep(reply.retry_after_s or 0.0)  # then the same event again, as the page sends it
            start = time.monotonic()
        if self.mixed and reply.is_deleted:
            self.refused_deleted += 1
            return
        _content(reply)
        self.marks[item] = label
        self._done("mark", start)

    def _refine(self) -> None:
        """Find all and look at the first results."""
        start = time.monotonic()
        reply = self._ask("refine", "POST", f"/sessions/{self._session}/refine", {})
        if reply.is_put_off:
            return
        _content(reply)
        reply = self._ask("refine", "GET", f"/sessions/{self._session}/results?limit=60")
        if reply.is_put_off or self._finds_again(reply):
            return
        self._seen += self._unmarked(_content(reply)["results"])
        self._done("refine", start)
        if self.mixed:
            self._due.setdefault("export", time.monotonic() + self._rng.uniform(0, EVERY_S["export"]))

    def _export(self) -> None:
        """Download what matches."""
        start = time.monotonic()
        reply = self._ask("export", "GET", f"/sessions/{self._session}/matches.jsonl")
        if not reply.is_put_off and not self._finds_again(reply):
            _require_success(reply)
            self._done("export", start)

    def _ask(self, what: str, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """Send a request; count it if the server refuses it for now."""
        reply = self._connection.send(method, path, body)
        self.put_off[what] += reply.is_put_off
        return reply

    def _done(self, what: str, start: float) -> None:
        self.took_ms[what].append((time.monotonic() - start) * 1000)

    def _finds_again(self, reply: Reply) -> bool:
        """Return whether the session's answer is gone; if so, find all again immediately, as a person does."""
        if reply.is_forgotten:
            self.forgotten += 1
            self._due["refine"] = time.monotonic()
        return reply.is_forgotten

    def _unmarked(self, items: list[dict[str, Any]]) -> list[int]:
        return [item["id"] for item in items if item["id"] not in self.marks]

    def _likes(self, item: int) -> bool:
        if self.careless:
            return bool(self._rng.random() < 0.5)
        return self._owner(item) == self._owner(int(self._right[0]))

    def _owner(self, item: int) -> int:
        return int(self.owners[copied_from(item, len(self.owners))])


def _content(reply: Reply) -> dict[str, Any]:
    _require_success(reply)
    content: dict[str, Any] = json.loads(reply.content)
    return content


def _require_success(reply: Reply) -> None:
    if reply.status >= 400:
        raise UnexpectedAnswerError(f"{reply.request}: {reply.status} {reply.content[:200]!r}")
