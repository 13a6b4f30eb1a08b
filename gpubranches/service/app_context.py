"""What the page's routes share: the catalog, the sessions, the thumbnails, and the looks of an item."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import caption_of
from gpubranches.catalog.pictures.decoding import upright_size
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core.arrays import as_ids
from gpubranches.errors import DataError, WaitError
from gpubranches.retrieval.search import Searcher
from gpubranches.service import Session
from gpubranches.service.labels import Labels
from gpubranches.service.session_store import Book, OpenSessions
from gpubranches.service.snapshot_follower import Following
from gpubranches.service.thumbnails import Thumbnails, version
from gpubranches.service.uploads import Uploads

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.results import Ranking
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)

UNKNOWN = 0.5
"""Width of the interval of recall from which nothing is said of how many are missing."""
_LETTERS = 500
"""Of a caption in the grid; the details of an item have all of it."""
_PATHS = ("path", "image_path", "file", "url")


@dataclass(frozen=True)
class Tile:
    """One item of the grid.

    mark: +1, -1 or 0; figure: its distance or score; picture: the version of its picture, "" if it has none; ratio:
    the picture's width by its height.
    """

    id: int
    caption: str
    mark: int
    figure: str
    picture: str
    ratio: float = 1.0


@dataclass(frozen=True)
class View:
    """One page of a list of items.

    kind: the route that made it; total: how many items the list has; address: where its other pages are, by
    `offset`; offset: of this one; query: what the search field holds; asked: the same in words; origin: of marks made
    here; where: the filter that holds; pictures: names of the sent ones that the query names; part: of the answer, ""
    for another list; again: what a button says that finds all, "" for no button; how: what answered a query, and
    took_ms how long that took.
    """

    kind: str
    heading: str
    note: str = ""
    tiles: Sequence[Tile] = ()
    total: int = 0
    address: str = ""
    offset: int = 0
    query: str = ""
    asked: str = ""
    seed: int = 0
    origin: str = "user"
    where: str = ""
    pictures: tuple[str, ...] = ()
    part: str = ""
    again: str = ""
    how: str = ""
    took_ms: float = 0.0


@dataclass(frozen=True)
class Tab:
    """How a part of an answer is shown: its title, what follows its count in a heading, and what is said of it.

    near_cut: whether the part is chosen for lying near the cut, so that marks on it count as on suggestions.
    """

    title: str
    heading: str
    note: str
    near_cut: bool = False


TABS = {
    "all": Tab("All", "match", ""),
    "sure": Tab("Sure", "sure", "Marked right, or right with a chance of 90% or more each."),
    "likely": Tab("Likely", "likely", "Right with a chance of 50% to 90% each."),
    "borderline": Tab(
        "Borderline", "borderline", "Right with a chance of less than 50% each, or marked wrong since.", True
    ),
    "below": Tab("Just below", "just below", "They do not match, but nearly do. Mark what is right among them.", True),
    "new": Tab("New", "new", "They match now and did not in the round before."),
    "gone": Tab("Gone", "gone", "They matched in the round before and do not now.", True),
}
"""By the names of `answer.PARTS`."""


@dataclass(frozen=True)
class Desk:
    """One catalog with its backend and embedder, the sessions over it and the pictures of its items.

    searcher: answers what needs no session; following: what a request enters; when the codes were made anew, sessions
    forget their answers and keep their marks. keeps_marks: False where the catalog cannot be written, so that marks
    last as long as this process.
    """

    catalog: Catalog
    backend: Backend
    embedder: Embedder | None
    searcher: Searcher
    book: Book
    uploads: Uploads
    sessions: OpenSessions
    thumbnails: Thumbnails
    following: Following
    seed: int = 0
    keeps_marks: bool = True

    @classmethod
    def over(cls, catalog: Catalog, backend: Backend, embedder: Embedder | None, seed: int) -> Desk:
        """Lay a desk. Raises SpaceMismatchError or UsageError for an embedder that is not the catalog's."""
        searcher = Searcher(catalog, backend, embedder)
        log = writable_log(catalog)
        book = Book.open(log)
        uploads = Uploads(book.database)

        def make(name: str) -> Session:
            own = int(book.record(name).settings.get("seed", seed))

            def picture(sent: str) -> NDArray[np.float32]:
                return uploads.get(name, sent).embedding

            labels = Labels(book.database, name)
            return Session(catalog, backend, embedder=embedder, labels=labels, seed=own, pictures=picture)

        sessions = OpenSessions(make)
        thumbnails = Thumbnails(catalog.path / "thumbnails")
        following = Following(catalog, sessions.forget_answers)
        desk = cls(catalog, backend, embedder, searcher, book, uploads, sessions, thumbnails, following, seed)
        return replace(desk, keeps_marks=log.parent == catalog.path)

    def close(self) -> None:
        """Close the sessions that no thread holds, and the file of the marks."""
        self.sessions.close()
        self.book.close()

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
            session.search(int(ids[0]), 1)
            session.refine()
        _log.info("warm after %.1f s", time.perf_counter() - start)

    def draw(self, count: int, seed: int, where: str = "") -> NDArray[np.int64]:
        """Return the ids of `count` random items within a filter, or of all if there are fewer."""
        bitmap = self.catalog.where(where) if where else None
        return self.catalog.sample_ids(count, np.random.default_rng(seed), bitmap)

    def inside(self, where: str) -> int:
        """Return how many items a filter lets in, "" for none."""
        return self.catalog.count(self.catalog.where(where) if where else None)

    def item(self, item: int) -> dict[str, Any] | None:
        """Return the metadata of an item, None if there is no such item."""
        ids = as_ids([item])
        return self.catalog.items(ids)[0] if self.catalog.alive(ids)[0] else None

    def picture_path(self, item: int) -> Path | None:
        """Return the image file of an item, None if it has none or there is no such item."""
        row = self.item(item)
        return None if row is None else image_file(self.catalog.source, row)

    def pictures(self, ids: NDArray[np.int64]) -> dict[int, str]:
        """Return the versions of items' pictures by id; items without one, and deleted ones, are left out."""
        items = self.catalog.items(ids[self.catalog.alive(ids)])
        found = {int(item["id"]): version(image_file(self.catalog.source, item)) for item in items}
        return {item: picture for item, picture in found.items() if picture}

    def tiles(self, session: Session, ids: NDArray[np.int64], figures: Sequence[str] | None = None) -> list[Tile]:
        """Return the looks of items with the session's marks; items deleted meanwhile are left out."""
        marks = session.labels.current()
        alive = np.flatnonzero(self.catalog.alive(ids)).tolist()
        return [
            self._tile(item, marks.get(int(ids[row]), 0), "" if figures is None else figures[row])
            for row, item in zip(alive, self.catalog.items(ids[alive]), strict=True)
        ]

    def _tile(self, item: dict[str, Any], mark: int, figure: str) -> Tile:
        path = image_file(self.catalog.source, item)
        picture = version(path)
        return Tile(int(item["id"]), shortened(caption(item)), mark, figure, picture, _ratio(path, picture))


def writable_log(catalog: Catalog) -> Path:
    """Return where to keep marks and sessions: beside the catalog, or where that fails for as long as this process.

    What was marked up to now is copied there.
    """
    path = catalog.path / "labels.sqlite"
    try:
        book = Book.open(path)
        try:
            book.database.require_writable()
        finally:
            book.close()
    except WaitError:
        return path
    except DataError as error:
        _log.warning("marks last only as long as this server: %s", error)
        return _copied(path)
    return path


def _copied(path: Path) -> Path:
    """Return a copy of a log in a folder that this process removes at its end; a new one where none can be read."""
    folder = Path(tempfile.mkdtemp(prefix="gpubranches-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / path.name
    try:
        for ending in ("", "-wal"):
            source = path.with_name(path.name + ending)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + ending))
        Book.open(copy).close()
    except (OSError, DataError) as error:
        _log.warning("no earlier marks are shown: %s", error)
        for file in folder.iterdir():
            file.unlink()
    return copy


def describe(ranking: Ranking, changes: tuple[int, int] | None = None) -> str:
    """Return a heading with the number of matches.

    changes: how many of them are new since the round before, and how many are gone; None in the first.
    """
    heading = "1 matches" if ranking.total == 1 else f"{ranking.total:,} match"
    return heading if changes is None else f"{heading} ({changes[0]:,} new, {changes[1]:,} gone)"


def describe_run(ranking: Ranking) -> str:
    """Return how an answer was found: candidates, what computed it, and how long that took."""
    parts = [f"{ranking.candidates:,} candidates", ranking.source, f"{ranking.timings_ms.get('total', 0):,.0f} ms"]
    return " · ".join(part for part in parts if part)


def describe_completeness(ranking: Ranking) -> str:
    """Return precision and recall with their 90% intervals, "" where none is estimated."""
    named = (("precision", ranking.precision), ("recall", ranking.recall))
    parts = [f"{name} {e[1]:.0%} ({e[0]:.0%} to {e[2]:.0%})" for name, e in named if e is not None]
    return ", ".join(parts)


def in_words(ranking: Ranking) -> str:
    """Return the same for anyone: how many matches are right and how many are missing, by the middle, to two digits.

    Where the interval of recall is wider than `UNKNOWN`, how many are missing is said to be not known.
    """
    if ranking.precision is None or ranking.recall is None:
        return ""
    right = ranking.precision[1] * ranking.total
    missing = right / max(ranking.recall[1], 1e-6) - right
    many = "nearly all" if right > ranking.total - 0.5 else f"about {min(_two_digits(right), ranking.total):,}"
    found = f"{many} of the {ranking.total:,} are right"
    if ranking.recall[2] - ranking.recall[0] > UNKNOWN:
        return f"{found}; how many are missing is not known yet"
    if missing < 0.5:
        return f"{found}, and hardly any are missing"
    return f"{found}, and about {_two_digits(missing):,} more {'is' if missing < 1.5 else 'are'} missing"


def _two_digits(number: float) -> int:
    return round(float(f"{number:.2g}"))


def caption(item: dict[str, Any]) -> str:
    """Return what to write under an item: its caption or label, else its file's name, else its id."""
    words = caption_of(item)
    if words is not None:
        return words
    for key in _PATHS:
        if isinstance(item.get(key), str) and item[key]:
            return str(item[key]).rsplit("/", 1)[-1]
    return f"item {item['id']}"


def shortened(text: str) -> str:
    """Return the beginning of a text that is too long to stand under a picture."""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


@lru_cache(1 << 17)
def _ratio(path: Path | None, version: str) -> float:
    """Return a picture's width by its height; 1 for one that cannot be read. version: of the file."""
    try:
        width, height = upright_size(path) if path is not None and version else (1, 1)
    except DataError:
        return 1.0
    return round(width / max(1, height), 3)
