"""What the page's routes share: the catalog, the open sessions, the thumbnails, and the looks of an item."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import as_ids
from gpubranches.errors import DataError
from gpubranches.following import Following
from gpubranches.images import image_file, thumbnail
from gpubranches.labels import Labels
from gpubranches.session import Session, require_embedder

if TYPE_CHECKING:
    from gpubranches.backends import Backend
    from gpubranches.catalog import Catalog
    from gpubranches.embed import Embedder
    from gpubranches.results import Ranking

_log = logging.getLogger(__name__)

_CAPTIONS = ("caption", "label", "class", "title", "text", "name")
_PATHS = ("path", "image_path", "file", "url")


@dataclass(frozen=True)
class Tile:
    """One item of the grid.

    mark: +1, -1 or 0; figure: its distance or score; details: its metadata, one a line; picture: the version of its
    picture, "" if it has none.
    """

    id: int
    caption: str
    details: str
    mark: int
    figure: str
    picture: str


@dataclass(frozen=True)
class View:
    """One page of the grid.

    kind: the route that made it; more: the address of the next page; offset: of this one; origin: of marks made here.
    """

    kind: str
    heading: str
    note: str = ""
    tiles: Sequence[Tile] = ()
    more: str | None = None
    offset: int = 0
    query: str = ""
    seed: int = 0
    origin: str = "user"


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    session: Session | None = None


class OpenSessions:
    """Sessions in memory by name, each used by one thread at a time; beyond `limit` the oldest idle ones are shut.

    make: builds the session of a name anew, from its labels.
    """

    def __init__(self, make: Callable[[str], Session], limit: int = 256):
        self._make = make
        self._limit = limit
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, name: str) -> Iterator[Session]:
        """Lend the session of that name to the calling thread."""
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
            self._entries.move_to_end(name)
            entry.users += 1
        try:
            with entry.lock:
                if entry.session is None:
                    entry.session = self._make(name)
                yield entry.session
        finally:
            with self._lock:
                entry.users -= 1
                self._shut_idle(self._limit)

    def __len__(self) -> int:
        return len(self._entries)

    def forget_answers(self) -> None:
        """Let every session forget its last answer; to be called while no thread holds one."""
        with self._lock:
            for entry in self._entries.values():
                if entry.session is not None:
                    entry.session.forget()

    def close(self) -> None:
        """Shut all sessions that no thread holds."""
        with self._lock:
            self._shut_idle(0)

    def _shut_idle(self, limit: int) -> None:
        surplus = len(self._entries) - limit
        idle = [name for name, entry in self._entries.items() if not entry.users]
        for name in idle[: max(0, surplus)]:
            session = self._entries.pop(name).session
            if session is not None:
                session.labels.close()


class Thumbnails:
    """JPEG thumbnails in memory, at most `limit_bytes` of them; the least recently used go first."""

    def __init__(self, limit_bytes: int = 64 << 20):
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, path: Path, size: int) -> bytes:
        """Return the thumbnail of an image file, made unless held under `key`; DataError if it cannot be read."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = thumbnail(path, size)
        with self._lock:
            self._bytes += len(made) - len(self._held.pop(key, b""))
            self._held[key] = made
            while self._bytes > self._limit_bytes:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return made


@dataclass(frozen=True)
class Desk:
    """One catalog with its backend and embedder, the sessions over it and the pictures of its items.

    following: what a request enters; when the codes were made anew, sessions forget their answers and keep their marks.
    """

    catalog: Catalog
    backend: Backend
    embedder: Embedder | None
    sessions: OpenSessions
    thumbnails: Thumbnails
    following: Following
    seed: int = 0

    @classmethod
    def over(cls, catalog: Catalog, backend: Backend, embedder: Embedder | None, seed: int) -> Desk:
        """Lay a desk. Raises SpaceMismatchError or UsageError for an embedder that is not the catalog's."""
        if embedder is not None:
            require_embedder(catalog, embedder)

        def make(name: str) -> Session:
            return Session(catalog, backend, embedder=embedder, labels=open_labels(catalog, name), seed=seed)

        sessions = OpenSessions(make)
        following = Following(catalog, sessions.forget_answers)
        return cls(catalog, backend, embedder, sessions, Thumbnails(), following, seed)

    def names(self, limit: int) -> list[str]:
        """Return texts the embedder is known to understand, none for one that reads any text."""
        return list(getattr(self.embedder, "names", []))[:limit]

    def warm_up(self) -> None:
        """Search and refine once, so that no user waits for kernels to be compiled; marks nothing that is kept."""
        start = time.perf_counter()
        with self.following.reading():
            ids = self.catalog.sample_ids(12, np.random.default_rng(0))
            if len(ids) < 2:
                return
            session = Session(self.catalog, self.backend)
            session.mark(ids[:1], +1)
            session.mark(ids[1:], -1)
            session.like(int(ids[0]), 1)
            session.refine()
        _log.info("warm after %.1f s", time.perf_counter() - start)

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Return the ids of `count` random items, or of all if there are fewer."""
        return self.catalog.sample_ids(min(count, self.catalog.n), np.random.default_rng(seed))

    def picture_path(self, item: int) -> Path | None:
        """Return the image file of an item, None if it has none or there is no such item."""
        ids = as_ids([item])
        return image_file(self.catalog.source, self.catalog.items(ids)[0]) if self.catalog.alive(ids)[0] else None

    def tiles(self, session: Session, ids: NDArray[np.int64], figures: Sequence[str] | None = None) -> list[Tile]:
        """Return the looks of items with the session's marks; items deleted meanwhile are left out."""
        marks = session.labels.current()
        alive = np.flatnonzero(self.catalog.alive(ids)).tolist()
        return [
            Tile(
                id=int(ids[row]),
                caption=caption(item),
                details="\n".join(f"{key}: {value}" for key, value in item.items() if value is not None),
                mark=marks.get(int(ids[row]), 0),
                figure="" if figures is None else figures[row],
                picture=version(image_file(self.catalog.source, item)),
            )
            for row, item in zip(alive, self.catalog.items(ids[alive]), strict=True)
        ]


def open_labels(catalog: Catalog, name: str) -> Labels:
    """Open the log of marks beside a catalog; where it cannot be written, one in memory, with a warning."""
    try:
        return Labels.open(catalog.path / "labels.sqlite", name)
    except DataError as error:
        _log.warning("marks last only as long as this server: %s", error)
        return Labels.in_memory()


def describe(ranking: Ranking) -> tuple[str, str]:
    """Return a heading with the number of matches, and a note on how they were found."""
    parts = [f"{ranking.candidates:,} candidates", ranking.source, f"{ranking.timings_ms.get('total', 0):,.0f} ms"]
    heading = "1 matches" if ranking.total == 1 else f"{ranking.total:,} match"
    return heading, " · ".join(part for part in parts if part)


def describe_completeness(ranking: Ranking) -> str:
    """Return precision and recall with their 90% intervals, "" where none is estimated."""
    named = (("precision", ranking.precision), ("recall", ranking.recall))
    parts = [f"{name} {e[1]:.0%} ({e[0]:.0%} to {e[2]:.0%})" for name, e in named if e is not None]
    return ", ".join(parts)


def version(path: Path | None) -> str:
    """Return a name for what a file holds now, that changes when the file does; "" if there is none to read."""
    if path is None:
        return ""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return hashlib.sha256(f"{path.absolute()}\0{stat.st_mtime_ns}\0{stat.st_size}".encode()).hexdigest()[:16]


def caption(item: dict[str, Any]) -> str:
    """Return what to write under an item: its caption or label, else its file's name, else its id."""
    for key in _CAPTIONS:
        if isinstance(item.get(key), str) and item[key].strip():
            return str(item[key]).strip()
    for key in _PATHS:
        if isinstance(item.get(key), str) and item[key]:
            return str(item[key]).rsplit("/", 1)[-1]
    return f"item {item['id']}"
