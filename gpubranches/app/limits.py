"""How often a session may train, how many train at once and how many are sent files: the rest is for everybody else."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from flask import current_app, request

from gpubranches.errors import TooManyError

PLACES = 12
"""Threads of the server that may train or wait to; see `Turns`."""
DOWNLOADS = 6
"""Threads of the server that may send files at once: one is held until its client has taken nearly all."""
DOWNLOADS_AN_ADDRESS = 4
DOWNLOADS_A_SESSION = 2
_BUSY_S = 5
_ROUNDING = 1e-9
_KEPT = 10_000
"""Sessions whose buckets are remembered; the one longest not seen is forgotten and has a full one again."""


class Buckets:
    """Buckets of `burst` tokens by name, filled by one every `every_s` seconds. Safe to use from several threads."""

    def __init__(self, burst: int = 20, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic):
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Take a token of `name`; return 0, or, where there is none, the seconds until there is one."""
        now = self._clock()
        with self._lock:
            tokens, at = self._held.pop(name, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - at) / self._every_s)
            # A wait of exactly what was told may miss the token by the last bit of a float.
            wait_s = 0.0 if tokens >= 1 - _ROUNDING else (1 - tokens) * self._every_s
            self._held[name] = (max(0.0, tokens - 1) if not wait_s else tokens), now
            if len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return wait_s


class Places:
    """Places to be held for a while, `count` in all. Safe to use from several threads."""

    def __init__(self, count: int):
        self._free = count
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, shares: Mapping[str, int]) -> bool:
        """Take a place, if one is free and each name has fewer than its share yet; return whether it was."""
        with self._lock:
            granted = self._free > 0 and all(self._held[name] < share for name, share in shares.items())
            if granted:
                self._free -= 1
                self._held.update(shares.keys())
            return granted

    def give_back(self, shares: Mapping[str, int]) -> None:
        """Give back a place that was taken under these names."""
        with self._lock:
            self._free += 1
            self._held -= Counter(shares.keys())


class Turns:
    """Lets `at_once` threads work while others wait, `places` in all; who comes then, or waits too long, is sent away.

    A find all takes all cores for a second. Many side by side take longer for each, and, where every thread of the
    server has one, nobody can mark. at_once: None for half of the cores.
    """

    def __init__(self, at_once: int | None = None, places: int = PLACES, wait_s: float = 20.0):
        at_once = min(places, max(1, (os.cpu_count() or 1) // 2)) if at_once is None else at_once
        self._free = threading.Semaphore(at_once)
        self._places = threading.Semaphore(places)
        self._wait_s = wait_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Work when it is one's turn. Raises TooManyError where too many wait, or one waited too long."""
        busy = TooManyError(f"too many others find all just now; try again in {_BUSY_S} s", _BUSY_S)
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._free.acquire(timeout=self._wait_s):
                raise busy
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._places.release()


@contextmanager
def training(session: str) -> Iterator[None]:
    """Let a session train when it is its turn; to be entered before the session is held.

    Raises TooManyError where the session trains too often, or too many others wait.
    """
    held = current_app.extensions
    wait_s = cast(Buckets, held["gpubranches.refines"]).take(session)
    if wait_s:
        raise TooManyError(
            f"this session finds all too often, once in some seconds is the most; try again in {math.ceil(wait_s)} s",
            math.ceil(wait_s),
        )
    with cast(Turns, held["gpubranches.turns"]).turn():
        yield


def sending(chunks: Iterator[bytes], session: str) -> Iterator[bytes]:
    """Return chunks to send, which hold one of the places for downloads until all are sent or the client is gone.

    Raises TooManyError where all places are held, or as many as the session or the address that asks may hold.
    """
    places = cast(Places, current_app.extensions["gpubranches.downloads"])
    shares = {f"address {request.remote_addr}": DOWNLOADS_AN_ADDRESS, f"session {session}": DOWNLOADS_A_SESSION}
    if not places.take(shares):
        raise TooManyError(
            f"expected fewer downloads at once, {DOWNLOADS_A_SESSION} of one session, {DOWNLOADS_AN_ADDRESS} of one "
            f"address and {DOWNLOADS} in all; try again in {_BUSY_S} s",
            _BUSY_S,
        )
    sent = _until_sent(chunks, lambda: places.give_back(shares))
    next(sent)
    return sent


def _until_sent(chunks: Iterator[bytes], done: Callable[[], None]) -> Iterator[bytes]:
    """Yield nothing first: only a generator that has begun is told when it is closed."""
    try:
        yield b""
        yield from chunks
    finally:
        done()
