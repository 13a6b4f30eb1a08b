"""One user's search over a catalog: search, mark, find all, look, mark again, export."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.arrays import as_ids
from gpubranches.core.options import MODELS, Model, RefineOptions, check_lean
from gpubranches.core.results import Interval, Ranking
from gpubranches.core.stages import begin
from gpubranches.core.threads import one_thread
from gpubranches.encoders import Embedder
from gpubranches.engines import Backend, open_backend
from gpubranches.errors import UsageError
from gpubranches.retrieval.completeness import AUDITED, Completeness, ItemLabels
from gpubranches.retrieval.explain import Explanation
from gpubranches.retrieval.hits import Hits
from gpubranches.retrieval.random_checks import RandomChecks
from gpubranches.retrieval.refine import Found, find_all, has_second_stage
from gpubranches.retrieval.search import Searcher, require_embedder
from gpubranches.retrieval.suggestions import SUGGESTED, suggest
from gpubranches.service.answer import Answer
from gpubranches.service.labels import Labels
from gpubranches.service.marked_items import MarkedItems
from gpubranches.service.matches import Matches
from gpubranches.service.old_names import OldNames
from gpubranches.service.target import CHECKS, TARGET, Step, next_step

if TYPE_CHECKING:
    from PIL.Image import Image

    from gpubranches.catalog import Catalog
    from gpubranches.core.boxes import Boxes
    from gpubranches.retrieval.queries import Term


class Session(OldNames):
    """One user's search over a catalog: queries, marks and the last answer. One thread may use it at a time.

    backend: a name, see `open_backend`, or an open backend over the same catalog. embedder: what turns texts and
    pictures into queries: "auto", the catalog's own; a spec, see `open_embedder`; an open embedder; or None for no such
    queries. "auto" and specs are opened when a query first needs them. labels: a log of marks, by default in memory.
    seed: of the learners and the random negatives; the same marks, query and seed give the same answer. pictures: those
    that queries may name, see `Searcher`.

    A session is a context manager that closes what it opened itself: the backend of a name, and its log in memory.
    Raises SpaceMismatchError for an open embedder that the catalog was not made with, and errors of `open_backend`.
    """

    def __init__(
        self,
        catalog: Catalog,
        backend: Backend | str = "auto",
        *,
        embedder: Embedder | str | None = "auto",
        labels: Labels | None = None,
        seed: int = 0,
        pictures: Callable[[str], NDArray[np.float32]] | None = None,
    ):
        if embedder is not None and not isinstance(embedder, str):
            require_embedder(catalog, embedder)  # before a backend is opened that would have to be closed
        self._opened = ExitStack()
        if isinstance(backend, str):
            backend = self._opened.enter_context(open_backend(backend, catalog))
        if labels is None:
            labels = Labels.in_memory()
            self._opened.callback(labels.close)
        self.catalog = catalog
        self.backend = backend
        self.labels = labels
        self.seed = seed
        self.searcher = Searcher(catalog, backend, embedder, pictures)
        self.found: Answer | None = None
        self._marked_answer: tuple[Answer, int, int, Answer] | None = None

    def close(self) -> None:
        """Close everything that the session opened itself; the last answer remains available."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def embedder(self) -> Embedder | None:
        """The embedder of texts and pictures in queries, or None; it is opened on first use."""
        return self.searcher.embedder

    # Queries

    def search(
        self,
        query: str | int | Path | Image | NDArray[Any] | Term,
        k: int = 100,
        *,
        where: str | None = None,
        by_codes: bool = False,
    ) -> Hits:
        """Return the k items nearest to a text, an item, a picture or a vector, nearest first; fewer if fewer exist.

        query: a str is a text, words or several terms such as `dog + #17 - sketch` (`queries.parse`); an int is the id
        of an item, which is its own nearest; a Path or a PIL image is a picture; an array is an image embedding, (D,)
        of floats, or a code, (d,) uint8; `queries.Words` are a text without the grammar. where: a condition on the
        items' metadata, such as `year > 2010`. by_codes: compare codes even if there are embeddings.

        Raises UsageError for another query and for one that the catalog or the embedder cannot answer,
        BackendUnavailableError if a package of the embedder is missing; the message says what to install.
        """
        return self.searcher.search(query, k, where=where, by_codes=by_codes)

    # Marks

    def mark(self, ids: ArrayLike, label: int, *, origin: str = "user", event_id: str | None = None) -> None:
        """Mark items right (+1) or wrong (-1); a later mark of the same item wins. Unknown ids raise UsageError.

        ids: (m,) integers; origin: who chose the items, "user" for a person, "suggestion" and "audit" for items that
        `suggest` and `audit` returned. A suggestion for a broad idea is logged as "border". event_id: a repeated call
        with the same value counts once.
        """
        items = as_ids(ids)
        self.catalog.positions(items)
        answer = self.found
        breadth = None if answer is None else answer.breadth
        if origin == "suggestion" and breadth is not None and breadth.is_broad:
            origin = "border"
        self.labels.mark(items, label, origin=origin, event_id=event_id)

    def unmark(self, ids: ArrayLike, *, event_id: str | None = None) -> None:
        """Remove the marks of items."""
        self.labels.mark(as_ids(ids), 0, event_id=event_id)

    def count_marked(self, *origins: str) -> int:
        """Return how many items have a mark of one of some origins, see `mark`."""
        return sum(origin in origins for origin in self.labels.origins().values())

    def undo(self) -> NDArray[np.int64]:
        """Undo the last call of mark or unmark that has not been undone; return its items, (m,) int64."""
        return self.labels.undo()

    def redo(self) -> NDArray[np.int64]:
        """Redo the last undone step, unless something has been marked since; return its items, (m,) int64."""
        return self.labels.redo()

    @property
    def positives(self) -> NDArray[np.int64]:
        """Ids marked right that are still in the catalog, ascending, (p,) int64."""
        return self._marked.positives

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Ids marked wrong that are still in the catalog, ascending, (m,) int64."""
        return self._marked.negatives

    def random_negatives(self, count: int) -> NDArray[np.int64]:
        """Return ids of random unmarked items, which are used as wrong ones, (at most count,) int64."""
        return self._marked.random_negatives(count)

    # The answer

    def find_all(self, options: RefineOptions | None = None) -> Answer:
        """Train boxes on the marks, apply them to the whole catalog, rank the candidates and cut the list.

        Marked items keep their label in the answer. Boxes exclude every item marked wrong, so by votes alone models
        without pseudo-labels ignore `negative_weight`. Raises LabelError if no item is marked right, UsageError for
        options out of their range and for a query as `search` does.
        """
        options = (options or RefineOptions()).validate()
        with self.catalog.pinned(), one_thread():
            staged = has_second_stage(self.catalog, options.model, options.second_stage)
            data = self._marked.training_data(options)
            if staged and options.query:
                data = replace(data, words=self.searcher.words(options.query))
            found = find_all(
                self.backend,
                self.catalog,
                data,
                options.model,
                second_stage=staged,
                seed=self.seed,
                where=None if options.where is None else self.catalog.where(options.where),
                lean=options.lean,
            )
            begin("estimate")
            answer = Answer(
                self.catalog,
                found.ranking,
                self._completeness(found, options),
                options=options,
                boxes=found.boxes,
                coding=self.catalog.coding,
                generation=self.catalog.generation,
                before=self._round_before(options),
                breadth=found.breadth,
            )
            self.found = answer.recut(options.lean, *self._present_marks(answer))
            return self.found

    def refine(self, model: Model = MODELS[0], **options: Any) -> Ranking:
        """Find all with the options given by name, see `RefineOptions`; return the ranking of the answer."""
        return self.find_all(RefineOptions(model, **options)).ranking

    def refine_again(self) -> Ranking:
        """Find all with the present marks, and the options and cut of the last answer; return the ranking.

        Raises UsageError before a find all.
        """
        answer = self.last_found()
        return self.find_all(replace(answer.options, lean=answer.ranking.lean)).ranking

    def last_answer(self) -> Answer:
        """Return `answer`. Raises UsageError before a find all."""
        answer = self.answer
        return self.last_found() if answer is None else answer

    def last_found(self) -> Answer:
        """Return the last answer under the marks of the find all. Raises UsageError before one."""
        if self.found is None:
            refused = UsageError("nothing is found yet; mark items right and wrong, then find all (refine)")
            raise refused.because("nothing-found")
        return self.found

    @property
    def answer(self) -> Answer | None:
        """The answer of the last find all with the present marks, see `Answer.with_marks`; None before one.

        `found` is the same answer under the marks of the find all.
        """
        return self.answer_at(self.labels.version)

    def answer_at(self, version: int) -> Answer | None:
        """Return the last answer under the marks of a version of the log, None before a find all."""
        found, generation = self.found, self.catalog.generation
        if found is None:
            return None
        kept = self._marked_answer
        if kept is not None and kept[0] is found and kept[1:3] == (version, generation):
            return kept[3]
        marks = self._marked.within(found.options.where, version)
        answer = found.with_marks(marks, self.labels.audited())
        self._marked_answer = (found, version, generation, answer)
        return answer

    @property
    def ranking(self) -> Ranking | None:
        """The ranking of the last answer with its present cut, None before a find all.

        It uses the marks of the find all; `answer.current` also uses later ones.
        """
        return None if self.found is None else self.found.ranking

    @property
    def boxes(self) -> Boxes | None:
        """The boxes of the last answer, None before a find all and after one by a model without boxes."""
        return None if self.found is None else self.found.boxes

    @property
    def where(self) -> str:
        """The condition that every item of the last answer meets, "" for none."""
        return "" if self.found is None else self.found.options.where or ""

    def part(self, name: str) -> Matches:
        """Return a part of the last answer, one of `answer.PARTS`: what matches, a tier of it, what is new, ...

        Raises UsageError before a find all, for another name, for a tier where there are none (by votes alone, or with
        fewer than 4 items marked right beside suggestions and audits), and for changes in the first round.
        """
        return self.last_answer().part(name)

    def export(self, path: str | Path, format: str | None = None, part: str = "all") -> int:
        """Write a part of the last answer with its metadata, best first; return how many items were written.

        part: by default all matches under the present marks. Items deleted since are left out. Errors as of
        `Matches.export` and `part`.
        """
        return self.part(part).export(path, format)

    def forget(self) -> None:
        """Forget the last answer; marks stay."""
        self.found = None

    def recut(self, lean: float) -> Ranking:
        """Move the cut of the last answer, without training; return its ranking.

        lean: -1 cuts early, for precision, 0 where the model cuts, 1 late, for recall; rounded to hundredths. A larger
        one never matches fewer items. With a second stage the cut moves by the distance between the cuts with the
        largest expected F1 and F_beta, beta = 4^lean (`Completeness.shift`); by votes alone an item matches with more
        than (1 - lean) / 2 of the votes, and the list is computed again if it is too short. Raises UsageError before a
        find all, for another lean, and if the list is too short and the codes have been replaced.
        """
        lean, answer = check_lean(lean), self.last_found()
        if not answer.reaches(lean):
            answer = answer.relisted(self.backend, lean)
        self.found = answer.recut(lean, *self._present_marks(answer))
        return self.found.ranking

    # Estimates, and what to mark next

    def audit(self, count: int = AUDITED, *, anywhere: bool = False, recall: float | None = None) -> NDArray[np.int64]:
        """Return ids of unmarked items whose marks show how complete the last answer is, (at most count,) int64.

        They are drawn at random with known chances, by how much they tell about precision and recall; with `anywhere`
        all have the same chance, and none matches. recall: the recall that the marks are to confirm; then half
        of the items are the best that do not match, and most of the others do not match either. Mark any number of
        them, in any order, with origin "audit", then call `estimate`. Items that were drawn before and are not marked
        yet come first. The draw depends on the seed, the ranking and the marks. Raises UsageError before a find all.
        """
        _require_some(count)
        answer, marks = self.last_found(), self.labels.current()
        self.found, ids = answer.audit(count, marks, self.seed, anywhere=anywhere, recall=recall)
        return ids

    @property
    def checked(self) -> int:
        """Number of marked items from audits. If it is 0, precision and recall are guesses from the scores."""
        return len(self.labels.audited())

    def estimate(self) -> Ranking:
        """Estimate precision, recall and tiers of the last answer with the newest marks; return its ranking.

        Recall refers to the items that `where` admits. Raises UsageError before a find all.
        """
        answer = self.last_found()
        self.found = answer.estimated(*self._present_marks(answer))
        return self.found.ranking

    def suggest(self, count: int = SUGGESTED) -> NDArray[np.int64]:
        """Return ids of the unmarked items whose marks would teach the model most, (at most count,) int64.

        Mark them with origin "suggestion". For a narrow idea they are near the cut and differ in their codes: of the
        1.5 count items nearest to the cut, each is the one farthest from those before it. For a broad idea they are
        where its border may be, some far below the cut. While it is undecided whether an idea is broad, up to a quarter
        of them are chosen in this way. Raises UsageError before a find all.
        """
        _require_some(count)
        answer, marked = self.last_found(), np.fromiter(self.labels.current(), np.int64)
        with self.catalog.pinned():
            return suggest(self.catalog, answer.ranking, answer.breadth, marked, count)

    def next(self, target_recall: float = TARGET, count: int = SUGGESTED, checks: int = CHECKS) -> Step:
        """Return what to mark next to find a share of all right items, or that the answer already holds that share.

        The items are suggestions while the answer probably misses more, else items of an audit; it finds all again if
        the model has to learn from new marks. Mark them with the step's kind as origin, and call again until the step
        is done. Then the answer surely holds the share of the right items that resemble the marks, and the cut may have
        moved down for it (`recut`). Random items show whether others are missing, if at most `checks` of them suffice;
        see `Step`. Raises UsageError before a find all, and for a target that is not between 0 and 1.
        """
        return next_step(self, target_recall, count, checks)

    def recall_alike(self, *, without: int = 0) -> Interval | None:
        """Return the recall of the present answer among items that resemble the marks, as `estimate` returns it of all.

        Items that were marked after the find all are in the answer, or left out of it, by their marks. without: how
        many of the items that were audited since the find all are left out, the last ones; None is returned if there
        are fewer. Raises UsageError before a find all.
        """
        answer = self.last_found()
        return answer.recall_alike(*self._present_marks(answer), without)

    def random_checks(self) -> RandomChecks:
        """Return the marks of the random items in audits of the last answer. Raises UsageError before a find all."""
        answer = self.last_found()
        return answer.random_checks(self._marked.within(answer.options.where))

    def is_up_to_date(self, *, ignoring: tuple[str, ...] = ()) -> bool:
        """Return whether the last answer was made with the present marks, apart from new ones of some origins.

        Raises UsageError before a find all.
        """
        answer = self.last_found()
        origins, marks = self.labels.origins(), self._marked.within(answer.options.where)
        changed = {item for item, _ in marks.items() ^ answer.completeness.marks.items()}
        return all(item in marks and origins.get(item) in ignoring for item in changed)

    def explain(self, item: int) -> Explanation:
        """Explain why an item is in the last answer or is not: the boxes that contain it, and those that nearly do.

        Raises UsageError before a find all, for an unknown item, for an answer without boxes, and if the codes have
        been replaced.
        """
        return self.last_found().explain(item, self.labels.current().get(item, 0))

    # Inside

    @property
    def _marked(self) -> MarkedItems:
        return MarkedItems(self.catalog, self.labels, self.seed)

    def _present_marks(self, answer: Answer) -> tuple[ItemLabels, ItemLabels]:
        """Return the marks of the items that an answer's filter lets in, and those of audits."""
        return self._marked.within(answer.options.where), self.labels.audited()

    def _round_before(self, options: RefineOptions) -> Matches | None:
        """Return the matches that a new find all is compared with.

        A find all with the same marks begins no new round.
        """
        last = self.found
        if last is None:
            return None
        same = replace(last.options, lean=options.lean) == options and last.generation == self.catalog.generation
        return last.before if same and self.is_up_to_date() else last.still_matching()

    def _completeness(self, found: Found, options: RefineOptions) -> Completeness:
        """Return the estimate of how complete a new ranking is, with the marks of earlier audits."""
        universe = max(self.catalog.count(options.where), len(found.ranking.ids))
        earlier = None if self.found is None else self.found.completeness.evidence(self.labels.audited())
        marks = self._marked.within(options.where)
        return Completeness(found.ranking, marks, universe, seed=self.seed, earlier=earlier, breadth=found.breadth)


def _require_some(count: int) -> None:
    if count < 1:
        raise UsageError(f"count: expected 1 or more, got {count}")
