"""Everything that the page, the API and the clip-retrieval service do with a served catalog: one method per verb."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.core.arrays import as_ids, unit
from gpubranches.core.options import RefineOptions
from gpubranches.errors import ConflictError, UnknownNameError, UsageError
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.retrieval.explain import Explanation
from gpubranches.retrieval.queries import Words, of_kind, parse
from gpubranches.retrieval.suggestions import SUGGESTED
from gpubranches.service.answer_map import MOST_POINTS, AnswerMap, AnswerMaps
from gpubranches.service.export import BOX_FORMATS, FORMATS, file_name
from gpubranches.service.export.zip_file import ZipEstimate, estimate_zip
from gpubranches.service.readiness import Readiness, search_and_find
from gpubranches.service.result_lists import RANDOM_ITEMS, ResultLists
from gpubranches.service.served_catalog import ServedCatalog
from gpubranches.service.session_directory import SessionDirectory
from gpubranches.service.session_store import query_path
from gpubranches.service.snapshot_follower import SnapshotFollower
from gpubranches.service.tasks import Tasks
from gpubranches.service.thumbnails import small_jpeg
from gpubranches.service.types import (
    Download,
    ListPage,
    MarkChanges,
    MarkList,
    MarkRequest,
    MarkResult,
    NearestPageRequest,
    NextStep,
    PartPage,
    Proposal,
    RandomPageRequest,
    SessionState,
    StepRequest,
)
from gpubranches.service.uploads import SENT_SIZE, Upload

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)


class CatalogService(ServedCatalog):
    """A catalog with its backend and embedder, and the sessions over it. Safe to use from several threads.

    A request belongs to a session by its name. Methods that train, cut or draw wait while another thread does so in the
    same session; searches and marks never wait. The last search and the last find all of a session are stored in its
    record; if that takes too long, the answer is returned without it. follower: enter its `reading` around each
    request. seed: of random items and of learners. Raises SpaceMismatchError or UsageError for an embedder that is not
    the catalog's.
    """

    def __init__(self, catalog: Catalog, backend: Backend, embedder: Embedder | None = None, seed: int = 0):
        super().__init__(catalog, backend, embedder)
        self.seed = seed
        self.sessions = SessionDirectory(catalog, backend, embedder, seed)
        self.follower = SnapshotFollower(catalog)
        self.readiness = Readiness(catalog, backend, self.follower)
        self.tasks = Tasks()
        self._lists = ResultLists()
        self._maps = AnswerMaps()
        self._closed = False

    def close(self) -> None:
        """Close the sessions that no thread uses, and the file of the marks."""
        self._closed = True
        self.sessions.close()

    def warm_up(self) -> float | None:
        """Search and find all once in a session of its own, so that no user waits for the kernels to compile.

        Return the seconds that it took. Once the service is closed, an error is dropped and None returned, since the
        backend may be closed meanwhile.
        """
        start = time.perf_counter()
        try:
            with self.follower.reading():
                search_and_find(self.catalog, self.backend)
        except Exception:
            if not self._closed:
                raise
            return None
        seconds = time.perf_counter() - start
        _log.info("warm after %.1f s", seconds)
        return seconds

    # Searches

    def search(self, session: str, request: NearestPageRequest) -> ListPage:
        """Return the first page of a list of nearest items; it becomes the session's last query.

        If the vocabulary does not have a text, the list is that of the most similar name, and the page says so. Raises
        UnknownNameError if no name is near enough.
        """
        try:
            page = self.more(session, request)
        except UnknownNameError as error:
            typed = str(request.query)
            if not error.meant or not isinstance(parse(typed).single, Words):
                raise
            found = self.search(session, replace(request, query=error.meant))
            return replace(found, shown_for=typed, meant=error.meant)
        query = request.query
        record = page.state.record
        has_words = isinstance(query, str) and of_kind(Words, parse(query).added)
        return self._remembered(
            page,
            query=query_path(query, request.where),
            asked=record.asked or (query if isinstance(query, str) else f"#{query}"),
            words=query if has_words else record.words,
            where=request.where,
        )

    def random(self, session: str, request: RandomPageRequest) -> ListPage:
        """Return the first page of a list of random items; its filter becomes the session's."""
        page = self.more(session, request)
        return page if request.where == page.state.record.where else self._remembered(page, where=request.where)

    def more(self, session: str, request: NearestPageRequest | RandomPageRequest) -> ListPage:
        """Return a page of a list without making it the session's last query."""
        where, stop = request.where or None, request.offset + request.count
        if isinstance(request, RandomPageRequest):
            rng = np.random.default_rng(request.seed)
            ids = rng.permutation(self.catalog.sample_ids(RANDOM_ITEMS, rng, where))
            return ListPage(self.sessions.state(session), ids[request.offset : stop], request.offset, len(ids))
        start = time.perf_counter()
        with self.sessions.shared(session) as held:
            searcher, state = held.searcher, self.sessions.state_of(held)
        found = self._lists.get(
            (session, self.catalog.generation, request.query, request.where),
            stop,
            lambda k: searcher.search(request.query, k, where=where),
            lambda: self.count(request.where),
        )
        took_ms = (time.perf_counter() - start) * 1000
        shown, distances = found.ids[request.offset : stop], found.distances[request.offset : stop]
        return ListPage(state, shown, request.offset, found.total, distances, found.inside, found.source, took_ms)

    def upload(self, session: str, picture: bytes) -> str:
        """Store the embedding and a thumbnail of a picture; return its name, for queries as picture:NAME.

        Raises UsageError if the embedder reads no pictures, or if the data is not a picture.
        """
        embedder = self.require_picture_reader()
        with decoded_upload(picture) as image:
            embedding, small = unit(embedder.images([image]))[0], small_jpeg(image, SENT_SIZE)
        return self.sessions.uploads.keep(session, embedding, small)

    def uploaded(self, session: str, name: str) -> Upload:
        """Return a picture that was uploaded to a session. Raises UsageError for an unknown name."""
        return self.sessions.uploads.get(session, name)

    # Marks

    def mark(self, session: str, request: MarkRequest) -> MarkResult:
        """Mark items, or remove their marks, as one step.

        Raises UsageError for unknown ids, ConflictError if the event's name was used for another request.
        """
        event, ids = _event(request.event), list(dict.fromkeys(as_ids(request.ids).tolist()))
        with self.sessions.shared(session) as held:
            if request.label:
                held.mark(ids, request.label, origin=request.origin, event_id=event)
            else:
                held.unmark(ids, event_id=event)
            if held.labels.done(event) != [(item, request.label) for item in ids]:
                raise ConflictError(
                    f"event: expected a new name for another call, {event!r} was used before; make another"
                )
        return MarkResult(event, tuple(ids))

    def clear(self, session: str, event: str | None = None) -> MarkResult:
        """Remove all marks as one step, which `undo` takes back."""
        event = _event(event)
        with self.sessions.shared(session) as held:
            held.unmark(np.concatenate([held.positives, held.negatives]), event_id=event)
            return MarkResult(event, tuple(item for item, _ in held.labels.done(event)))

    def undo(self, session: str, event: str | None = None) -> MarkResult:
        """Undo the last step that has not been undone; return its items."""
        event = _event(event)
        with self.sessions.shared(session) as held:
            return MarkResult(event, tuple(held.labels.undo(event_id=event).tolist()))

    def redo(self, session: str, event: str | None = None) -> MarkResult:
        """Redo the last undone step, unless something has been marked since; return its items."""
        event = _event(event)
        with self.sessions.shared(session) as held:
            return MarkResult(event, tuple(held.labels.redo(event_id=event).tolist()))

    def changes(self, session: str, since: int) -> MarkChanges:
        """Return the marks that changed after version `since` of the log, by any caller."""
        with self.sessions.shared(session) as held:
            version, marks = held.labels.changes(since)
            state, undoable = self.sessions.state_of(held), held.labels.can_take_back()
        return MarkChanges(version, marks, state.positive, state.negative, state.since, state.changes, *undoable)

    def marks(self, session: str) -> MarkList:
        """Return all valid marks."""
        with self.sessions.shared(session) as held:
            version, marks, origins = held.labels.changes()[0], held.labels.current(), held.labels.origins()
        return MarkList(version, tuple((item, label, origins.get(item, "")) for item, label in marks.items()))

    # The model

    def find_all(self, session: str, options: RefineOptions) -> SessionState:
        """Find all by the marks, see `Session.find_all`; the options become the session's last ones."""
        with self.sessions.exclusive(session) as held:
            ranking = held.find_all(options).ranking
            self.sessions.store.try_update(
                session,
                model=options.model,
                second_stage=not ranking.by_votes if options.second_stage is None else options.second_stage,
                random_negatives=options.random_negatives,
                negative_weight=options.negative_weight,
                lean=ranking.lean,
                where=options.where or "",
                matches=ranking.total,
            )
            return self.sessions.state_of(held)

    def continued(self, session: str, options: RefineOptions) -> RefineOptions:
        """Return options with the session's last cut, and with its last query that had words if it can be read.

        It cannot if an item in it was deleted, or if the session is from a server whose embedder reads other texts.
        """
        record = self.sessions.record(session)
        words: str | None = record.words
        with self.sessions.shared(session) as held:
            try:
                held.searcher.words(record.words)
            except UsageError as error:
                _log.info("the find all does not use the words %r: %s", record.words, error)
                words = None
        return replace(options, lean=record.options.lean, query=words)

    def recut(self, session: str, lean: float, part: str = "all") -> SessionState:
        """Move the cut of the last answer, see `Session.recut`.

        part: the name of a part that the answer must have. Raises UsageError if it has none, and before a find all.
        """
        with self.sessions.exclusive(session) as held:
            if held.answer is not None:
                held.answer.part(part)
            ranking = held.recut(lean)
            self.sessions.store.try_update(session, lean=ranking.lean, matches=ranking.total)
            return self.sessions.state_of(held)

    def estimate(self, session: str) -> SessionState:
        """Estimate precision, recall and tiers of the last answer by the present marks."""
        with self.sessions.exclusive(session) as held:
            held.estimate()
            return self.sessions.state_of(held)

    def suggest(self, session: str, count: int = SUGGESTED) -> Proposal:
        """Return the items whose marks would teach the model most."""
        with self.sessions.exclusive(session) as held:
            return Proposal(self.sessions.state_of(held), held.suggest(count), "suggestion")

    def audit(self, session: str, count: int = AUDITED) -> Proposal:
        """Draw items whose marks show how complete the last answer is."""
        with self.sessions.exclusive(session) as held:
            return Proposal(self.sessions.state_of(held), held.audit(count), "audit")

    def next_step(self, session: str, request: StepRequest) -> NextStep:
        """Return what to mark next until a recall is reached; finds all again if the model has to learn."""
        with self.sessions.exclusive(session) as held:
            step = held.next(request.target_recall, request.count, request.checks)
            ranking = held.last_answer().ranking
            self.sessions.store.try_update(session, lean=ranking.lean, matches=ranking.total)
            return NextStep(self.sessions.state_of(held), step)

    def explain(self, session: str, item: int) -> Explanation:
        """Return why an item is in the last answer or is not."""
        with self.sessions.exclusive(session) as held:
            return held.explain(item)

    def part(self, session: str, name: str, offset: int, count: int, at: int | None = None) -> PartPage:
        """Return a page of a part of the last answer, see `SessionState.part`.

        at: a version of the log of marks; the part is computed with the marks of that version, so that the pages of one
        list fit together while a user marks its items. None for the present marks.
        """
        return self.sessions.state(session, at).part(name, offset, count)

    def answer_map(self, session: str, most: int = MOST_POINTS) -> AnswerMap:
        """Return the map of the last answer, with at most `most` points and all marked items.

        Raises UsageError before a find all.
        """
        with self.sessions.shared(session) as held:
            found, answer = held.last_found(), held.last_answer()
        return self._maps.get(found, answer, most)

    def export(self, session: str, format: str, part: str = "all") -> Download:
        """Return a part of the last answer as a file in one of FORMATS; each batch is read at the newest generation.

        It is stored as the session's last export. The file is named after the session's last query, the part and the
        number of items, as `umbrella-32.csv`.
        """
        chosen = FORMATS[format]
        with self.sessions.shared(session) as held:
            matches = held.part(part)
            table = matches.table(reading=self.follower.reading)
        name = f"{file_name(self.sessions.record(session).query, part, len(matches))}.{chosen.ending}"
        self.sessions.store.try_update(session, exported={"name": name, "at_s": time.time()})
        return Download(name, chosen.media_type, chosen.write(table))

    def estimate_zip(self, session: str, part: str = "all") -> ZipEstimate:
        """Return how many pictures of a part of the last answer a ZIP file would hold, and about how many bytes."""
        with self.sessions.shared(session) as held:
            table = held.part(part).table()
        return estimate_zip(table)

    def export_boxes(self, session: str, format: str) -> Download:
        """Return the boxes of the last answer as a file in one of BOX_FORMATS.

        Raises UsageError before a find all by a model of boxes.
        """
        chosen = BOX_FORMATS[format]
        with self.sessions.shared(session) as held:
            answer = held.last_answer()
        if answer.boxes is None:
            raise UsageError("expected a find all (refine) by a model of boxes before this, got none; find all first")
        content = chosen.write(answer.boxes, answer.min_votes)
        return Download(f"boxes.{chosen.ending}", chosen.media_type, content)

    def _remembered(self, page: ListPage, **settings: Any) -> ListPage:
        """Store settings of a page's session; return the page with them."""
        session = page.state.session
        self.sessions.store.try_update(session, **settings)
        return replace(page, state=replace(page.state, record=self.sessions.record(session)))


def _event(name: str | None) -> str:
    return name or uuid.uuid4().hex
