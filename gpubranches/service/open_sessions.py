"""The sessions in memory, by name. Idle ones are closed if there are too many, or if they take too many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.service import Session

LIMIT_BYTES = 256 << 20
"""The largest memory for the answers and marks of all sessions."""
_DICT_ITEM_BYTES = 100


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    making: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    session: Session | None = None
    bytes: int = 0


class OpenSessions:
    """Sessions in memory by name.

    Beyond `limit` sessions, or `limit_bytes` of answers and marks, the least recently used idle ones are dropped, never
    the one used last. A session is lent without its last answer if the codes have been replaced since. make: builds the
    session of a name from its log of marks. Safe to use from several threads.
    """

    def __init__(self, make: Callable[[str], Session], limit: int = 256, limit_bytes: int = LIMIT_BYTES):
        self._make = make
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def exclusive(self, name: str) -> Iterator[Session]:
        """Lend a session to the calling thread; other threads that ask for it by this method wait."""
        with self._lent(name) as entry, entry.lock:
            yield self._made(name, entry)

    @contextmanager
    def shared(self, name: str) -> Iterator[Session]:
        """Lend a session without waiting: for its marks and its last answer, which any thread may use at any time."""
        with self._lent(name) as entry:
            yield self._made(name, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Drop all sessions that no thread holds."""
        with self._lock:
            self._drop_idle(0, 0)

    @contextmanager
    def _lent(self, name: str) -> Iterator[_Entry]:
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
            self._entries.move_to_end(name)
            entry.users += 1
        try:
            yield entry
        finally:
            size_bytes = 0 if entry.session is None else session_bytes(entry.session)
            with self._lock:
                entry.users -= 1
                entry.bytes = size_bytes
                self._drop_idle(self._limit, self._limit_bytes)

    def _made(self, name: str, entry: _Entry) -> Session:
        with entry.making:
            if entry.session is None:
                entry.session = self._make(name)
            found = entry.session.found
            if found is not None and found.is_outdated:
                entry.session.forget()
            return entry.session

    def _drop_idle(self, limit: int, limit_bytes: int) -> None:
        size_bytes = sum(entry.bytes for entry in self._entries.values())
        idle = [name for name, entry in self._entries.items() if not entry.users]
        if limit:
            idle = [name for name in idle if name != next(reversed(self._entries))]
        for name in idle:
            if len(self._entries) <= limit and size_bytes <= limit_bytes:
                return
            size_bytes -= self._entries.pop(name).bytes


def session_bytes(session: Session) -> int:
    """Return about how many bytes of memory the answer and the marks of a session take."""
    answer = session.found
    return session.labels.size_bytes + (0 if answer is None else _array_bytes(answer, set()))


def _array_bytes(value: object, seen: set[int]) -> int:
    """Return the bytes of all arrays that an object refers to, each once, without the catalog and mapped files."""
    if id(value) in seen or isinstance(value, np.memmap | Catalog):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return int(value.nbytes) if value.base is None else _array_bytes(value.base, seen)
    if isinstance(value, dict):
        return _DICT_ITEM_BYTES * len(value)
    if isinstance(value, list | tuple):
        return sum(_array_bytes(part, seen) for part in value)
    return sum(_array_bytes(part, seen) for part in getattr(value, "__dict__", {}).values())
