"""Limits of costly requests: how often a session trains, how many train at once, how many downloads run."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpubranches.core.threads import cores
from gpubranches.errors import TooManyError

TRAINING_THREADS = 12
"""Threads of the server that may train or wait to train."""
DOWNLOADS = 6
"""Threads of the server that may send files. Each is occupied until its client has received nearly the whole file."""
DOWNLOADS_PER_ADDRESS = 4
DOWNLOADS_PER_SESSION = 2
_RETRY_S = 5
_ROUNDING = 1e-9
_KEPT = 10_000
"""The largest number of buckets. The least recently used one is dropped; its name then begins with a full one."""


class TokenBuckets:
    """A rate limit: one bucket of `burst` tokens per name, refilled by a token every `every_s` seconds. Thread-safe."""

    def __init__(self, burst: int = 20, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic):
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Take a token of `name` and return 0; if there is none, return the seconds until there is one."""
        now = self._clock()
        with self._lock:
            tokens, at = self._buckets.pop(name, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - at) / self._every_s)
            # After a wait of exactly the returned time, rounding may leave slightly less than one token.
            wait_s = 0.0 if tokens >= 1 - _ROUNDING else (1 - tokens) * self._every_s
            self._buckets[name] = (max(0.0, tokens - 1) if not wait_s else tokens), now
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return wait_s


class DownloadSlots:
    """A semaphore of `count` slots that also limits how many each name holds. Thread-safe."""

    def __init__(self, count: int = DOWNLOADS):
        self._free = count
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def acquire(self, limits: Mapping[str, int]) -> bool:
        """Take a slot if one is free and no name has reached its limit; return whether it was taken."""
        with self._lock:
            granted = self._free > 0 and all(self._held[name] < limit for name, limit in limits.items())
            if granted:
                self._free -= 1
                self._held.update(limits.keys())
            return granted

    def release(self, limits: Mapping[str, int]) -> None:
        """Return a slot that was taken under these names."""
        with self._lock:
            self._free += 1
            self._held -= Counter(limits.keys())


class TrainingSlots:
    """A semaphore with a bounded queue: `running` threads train at a time; at most `admitted` train or wait.

    A find all uses all cores for about a second. Many at once would each take longer, and if every thread of the server
    ran one, nobody could mark. running: None for half of the cores.
    """

    def __init__(self, running: int | None = None, admitted: int = TRAINING_THREADS, wait_s: float = 20.0):
        running = min(admitted, max(1, cores() // 2)) if running is None else running
        self._running = threading.Semaphore(running)
        self._admitted = threading.Semaphore(admitted)
        self._wait_s = wait_s

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot. Raises TooManyError if the queue is full, or after a wait of `wait_s` seconds."""
        busy = TooManyError(f"too many others find all just now; try again in {_RETRY_S} s", _RETRY_S)
        busy.because("busy-others", seconds=_RETRY_S)
        if not self._admitted.acquire(blocking=False):
            raise busy
        try:
            if not self._running.acquire(timeout=self._wait_s):
                raise busy
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._admitted.release()


@dataclass
class Limits:
    """The limits of one app."""

    training_rate: TokenBuckets = field(default_factory=TokenBuckets)
    training: TrainingSlots = field(default_factory=TrainingSlots)
    downloads: DownloadSlots = field(default_factory=DownloadSlots)

    @contextmanager
    def train(self, session: str) -> Iterator[None]:
        """Hold the turn of a session that trains; enter this before the session is lent.

        Raises TooManyError if the session trains too often, or if too many others wait.
        """
        wait_s = self.training_rate.take(session)
        if wait_s:
            retry_s = math.ceil(wait_s)
            raise TooManyError(
                f"this session finds all too often, once in some seconds is the most; try again in {retry_s} s", retry_s
            ).because("busy-session", seconds=retry_s)
        with self.training.slot():
            yield

    def download(self, chunks: Iterator[bytes], session: str, address: str) -> Iterator[bytes]:
        """Return chunks that hold a slot until all are sent, or until the client has closed its connection.

        Raises TooManyError if no slot is free, or if the session or the address holds as many as it may.
        """
        names = {f"address {address}": DOWNLOADS_PER_ADDRESS, f"session {session}": DOWNLOADS_PER_SESSION}
        if not self.downloads.acquire(names):
            raise TooManyError(
                f"expected fewer downloads at once, {DOWNLOADS_PER_SESSION} of one session, {DOWNLOADS_PER_ADDRESS} of "
                f"one address and {DOWNLOADS} in all; try again in {_RETRY_S} s",
                _RETRY_S,
            ).because("busy-downloads", seconds=_RETRY_S)
        sent = _then(chunks, lambda: self.downloads.release(names))
        next(sent)
        return sent


def _then(chunks: Iterator[bytes], done: Callable[[], None]) -> Iterator[bytes]:
    """Yield an empty chunk first, because Python closes only generators that have started; call `done` at the end."""
    try:
        yield b""
        yield from chunks
    finally:
        done()
