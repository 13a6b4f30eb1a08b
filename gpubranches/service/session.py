"""One user's search: ask, mark, refine over the whole catalog, look, mark again, export."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.arrays import Bitmap, among, as_ids
from gpubranches.core.options import MODELS, Model, RefineOptions, check_lean
from gpubranches.core.results import Neighbors, Ranking
from gpubranches.errors import LabelError, UsageError
from gpubranches.retrieval.answer import Answer, Part
from gpubranches.retrieval.completeness import AUDITED, Completeness
from gpubranches.retrieval.explain import Explanation, explain_in
from gpubranches.retrieval.refine import Found, find_all, has_second_stage
from gpubranches.retrieval.search import Searcher
from gpubranches.retrieval.suggestions import suggest
from gpubranches.retrieval.training_data import TrainingData
from gpubranches.service.export import Matches, export_matches
from gpubranches.service.labels import NOT_CHOSEN, Labels
from gpubranches.service.target import TARGET, Step, next_step

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from gpubranches.catalog import Catalog
    from gpubranches.core.boxes import Boxes
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)

_OUTSIDE_DRAWN = 1000
RANDOM_SHARE = 10
"""Random negatives are at most one item in this many: those that would match are wrongly pushed out of the answer."""


class Session:
    """Ids and labels of one search over a catalog; the arrays stay in the catalog and the backend.

    embedder: turns texts and images into queries; refused (SpaceMismatchError) if it is not the one the catalog was
    made with. labels: a log of marks, by default one in memory. seed: of the learners and the random negatives; the
    same marks, query and seed give the same answer. pictures: those that queries may name, see `Searcher`.
    """

    def __init__(
        self,
        catalog: Catalog,
        backend: Backend,
        *,
        embedder: Embedder | None = None,
        labels: Labels | None = None,
        seed: int = 0,
        pictures: Callable[[str], NDArray[np.float32]] | None = None,
    ):
        self.searcher = Searcher(catalog, backend, embedder, pictures)
        self.catalog = catalog
        self.backend = backend
        self.embedder = embedder
        self.labels = Labels.in_memory() if labels is None else labels
        self.seed = seed
        self.answer: Answer | None = None
        self._options = RefineOptions()
        self._answered_at = -1

    # Queries

    def ask(self, text: str, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Neighbors:
        """Return the k items nearest to what a text asks for, see `Searcher.ask`: words, or `dog + #17 - sketch`."""
        return self.searcher.ask(text, k, where=where, by_codes=by_codes)

    def image(self, image: Image, k: int = 100, *, where: str | None = None) -> Neighbors:
        """Return the k items nearest to a picture."""
        return self.searcher.image(image, k, where=where)

    def like(self, item: int, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Neighbors:
        """Return the k items nearest to an item, itself first."""
        return self.searcher.like(item, k, where=where, by_codes=by_codes)

    def vector(self, vector: NDArray[Any], k: int = 100, *, where: str | None = None) -> Neighbors:
        """Return the k items nearest to an image embedding, (D,) float32, or to a code, (d,) uint8."""
        return self.searcher.vector(vector, k, where=where)

    # Marks

    def mark(self, ids: ArrayLike, label: int, *, origin: str = "user", event_id: str | None = None) -> None:
        """Mark items right (+1) or wrong (-1); a later mark of the same item wins. Unknown ids raise UsageError.

        ids: (m,) integers; origin: who chose the items, "user" for a person, "suggestion" and "audit" for items that
        `suggest` and `audit` returned. A suggestion for a broad idea is logged as "border". event_id: a repeated call
        with the same value counts once.
        """
        items = as_ids(ids)
        self.catalog.positions(items)
        answer = self.answer
        breadth = None if answer is None else answer.breadth
        if origin == "suggestion" and breadth is not None and breadth.is_broad:
            origin = "border"
        self.labels.mark(items, label, origin=origin, event_id=event_id)

    def unmark(self, ids: ArrayLike, *, event_id: str | None = None) -> None:
        """Remove the marks of items."""
        self.labels.mark(as_ids(ids), 0, event_id=event_id)

    def undo(self) -> NDArray[np.int64]:
        """Take back the last call of mark or unmark that stands; return its items, (m,) int64."""
        return self.labels.undo()

    def redo(self) -> NDArray[np.int64]:
        """Bring back what the last undo took, unless something was marked since; return its items, (m,) int64."""
        return self.labels.redo()

    @property
    def positives(self) -> NDArray[np.int64]:
        """Ids marked right that are still in the catalog, ascending, (p,) int64."""
        return self._marked(+1)

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Ids marked wrong that are still in the catalog, ascending, (m,) int64."""
        return self._marked(-1)

    # The model

    def find_all(self, options: RefineOptions | None = None) -> Answer:
        """Train boxes on the marks, apply them to the whole catalog, rank what they find and cut the list.

        Boxes exclude every item marked wrong, so by votes alone models without pseudo-labels ignore `negative_weight`.
        Marked items keep their label in the answer. Raises LabelError if no item is marked right, UsageError for
        options out of their range and for a query as `ask` does.
        """
        options = (options or RefineOptions()).validate()
        with self.catalog.pinned():
            staged = has_second_stage(self.catalog, options.model, options.second_stage)
            marks = self._to_learn(options, options.query if staged else None)
            bitmap, generation = self._bitmap(options.where), self.catalog.generation
            found = find_all(
                self.backend,
                self.catalog,
                marks,
                options.model,
                second_stage=staged,
                seed=self.seed,
                where=bitmap,
                lean=options.lean,
            )
            completeness = self._completeness(found, bitmap)
            before = None if self.answer is None else self.answer.matched_still(self.catalog, self._answered_at)
            answer = Answer(
                found.ranking, completeness, found.boxes, self.catalog.coding, options.where, before, found.breadth
            )
            self.answer = answer.recut(options.lean, self._marks_within(bitmap), self.labels.audited())
        self._options = options
        self._answered_at = generation
        return self.answer

    def refine(self, model: Model = MODELS[0], **options: Any) -> Ranking:
        """Find all with the options named, see `RefineOptions`; return the ranking of the answer."""
        return self.find_all(RefineOptions(model, **options)).ranking

    def refine_again(self) -> Ranking:
        """Refine by the marks there are now, with the options and the cut of the last time.

        Raises UsageError before a refine.
        """
        return self.find_all(replace(self._options, lean=self.last().ranking.lean)).ranking

    @property
    def ranking(self) -> Ranking | None:
        """The ranking of the last refine as it is cut now, None before."""
        return None if self.answer is None else self.answer.ranking

    @property
    def boxes(self) -> Boxes | None:
        """The boxes of the last refine, None before and after one by a model without boxes."""
        return None if self.answer is None else self.answer.boxes

    def last(self) -> Answer:
        """Return the last answer whole. Raises UsageError before a refine."""
        if self.answer is None:
            raise UsageError("nothing is found yet; mark items right and wrong, then find all (refine)")
        return self.answer

    def part(self, name: str) -> Part:
        """Return a part of the last answer, one of `answer.PARTS`: what matches, a tier of it, what is new, ...

        Raises UsageError before a refine, for another name, for a tier where there are none (by votes alone, or with
        fewer than 4 items marked right beside suggestions and audits), and for changes in the first round.
        """
        return self.last().part(name)

    def forget(self) -> None:
        """Forget the last answer, its boxes and how complete it is; marks stay."""
        self.answer = None

    def recut(self, lean: float) -> Ranking:
        """Cut the last refine's list anew, without training: lean -1 is for precision, 0 the own cut, +1 for recall.

        With a second stage the cut moves by as much as the one of the largest expected F_beta does from beta = 1 to
        4^lean (`Completeness.shift`); by votes alone an item matches with more than (1 - lean) / 2 of them. lean is
        rounded to hundredths; a larger one never matches fewer items. By votes alone a list is as long as its cut asks
        for, so one for more recall may be listed anew. Raises UsageError before a refine, for another lean, and where
        the codes were made anew since and the list is too short.
        """
        lean, answer = check_lean(lean), self.last()
        bitmap = self._bitmap(answer.where)
        if not answer.reaches(lean):
            answer = answer.relisted(self.backend, self.catalog, lean, bitmap)
        self.answer = answer.recut(lean, self._marks_within(bitmap), self.labels.audited())
        return self.answer.ranking

    def audit(self, count: int = AUDITED) -> NDArray[np.int64]:
        """Return ids of unmarked items whose marks tell how complete the last answer is, (at most count,) int64.

        They are drawn at random with known chances, most from around the cut; some lie far below it. Mark them with
        origin "audit" in any order, as many as wished, and ask `estimate`. Those drawn before and not marked yet come
        first. The draw depends on the seed, the ranking and the marks. Raises UsageError before a refine.
        """
        if count < 1:
            raise UsageError(f"count: expected 1 or more, got {count}")
        answer, marks = self.last(), self.labels.current()
        drawn = answer.completeness.drawn.ids
        waiting = drawn[~among(drawn, np.fromiter(marks, np.int64))]
        waiting = waiting[self.catalog.alive(waiting)][:count]
        if len(waiting) == count:
            return waiting
        sample = answer.completeness.draw_audit(count - len(waiting), marks, self._outside())
        self.answer = answer.with_audit(sample)
        return np.concatenate([waiting, sample.ids])

    @property
    def checked(self) -> int:
        """How many items are marked that an audit drew: without any, what is told of completeness is a guess."""
        return len(self.labels.audited())

    def estimate(self) -> Ranking:
        """Estimate precision, recall and tiers of the last answer anew, with the marks made since; return its ranking.

        Recall is of the whole catalog, or of what `where` left of it. Raises UsageError before a refine.
        """
        self.answer = self.last().estimated(self._marks_within(self._bitmap(self.last().where)), self.labels.audited())
        return self.answer.ranking

    def random_negatives(self, count: int) -> NDArray[np.int64]:
        """Return ids that serve as wrong unchecked, drawn by the seed, (at most count,) int64; never marked ones."""
        count = min(count, self.catalog.n // RANDOM_SHARE)
        drawn = self.catalog.sample_ids(count, np.random.default_rng(self.seed))
        return drawn[~among(drawn, np.concatenate([self.positives, self.negatives]))]

    def suggest(self, count: int = 20) -> NDArray[np.int64]:
        """Return the ids of unmarked items whose mark would tell most, (at most count,) int64.

        Of a narrow idea they lie nearest to the cut of the last refine, and are spread out: each next one is, among the
        1.5 count nearest, the farthest in code space from those chosen. Of a broad idea they lie where its border may
        be, some far below the cut; so does a quarter of them while it is open whether an idea is broad. Raises
        UsageError before a refine.
        """
        if count < 1:
            raise UsageError(f"count: expected 1 or more, got {count}")
        answer, marked = self.last(), np.fromiter(self.labels.current(), np.int64)
        with self.catalog.pinned():
            return suggest(self.catalog, answer.ranking, answer.breadth, marked, count)

    def next(self, target_recall: float = TARGET, count: int = 20) -> Step:
        """Return what to mark next, or that the answer holds a share of all that is right.

        Suggestions as long as the answer is likely to fall short, else items of an audit; refines where marks are to be
        learnt. Mark the items with the step's kind as origin and call again until the step is done: then the lower end
        of the 90% interval of recall is at the target, for which the cut may have moved down (`recut`). Raises
        UsageError before a refine and for another target.
        """
        return next_step(self, target_recall, count)

    def learnt_all(self, *, but: tuple[str, ...] = ()) -> bool:
        """Whether the last answer was made with the marks there are now, apart from marks of some origins."""
        origins, marks = self.labels.origins(), self._marks_within(self._bitmap(self.last().where))
        learnt = self.last().completeness.marks
        changed = {item for item, _ in marks.items() ^ learnt.items()}
        return all(item in marks and origins.get(item) in but for item in changed)

    def explain(self, item: int) -> Explanation:
        """Return why an item is in the last answer or is not: the boxes that hold it, and those it nearly is in.

        Raises UsageError before a refine, for an unknown item, after a refine by a model without boxes, and where the
        codes were made anew since.
        """
        answer, ids = self.last(), as_ids([item])
        if answer.boxes is None:
            raise UsageError(
                "explain: the last model is linear and has no boxes; refine with another, such as ensemble"
            )
        if answer.coding != self.catalog.coding:
            raise UsageError("explain: the catalog's codes were made anew since the last refine; refine again")
        self.catalog.positions(ids)
        mark = self.labels.current().get(item, 0)
        return explain_in(answer.ranking, answer.boxes, self.catalog.take(ids)[0], item, mark)

    @property
    def where(self) -> str:
        """The condition that the last refine was filtered by, "" for none."""
        return "" if self.answer is None else self.answer.where or ""

    @property
    def min_votes(self) -> int:
        """Votes at which the boxes of the last refine take an item, see `Answer.min_votes`."""
        return 1 if self.answer is None else self.answer.min_votes

    def export(self, path: Path, format: str | None = None, part: str = "all") -> int:
        """Write the matched items of the last refine with their metadata, best first; return how many were written.

        format: a name in `export.FORMATS`, None takes it from the ending; part: another part of the answer than what
        matches. Errors as of `export_matches` and `part`. Items deleted since are left out.
        """
        chosen = self.part(part)
        return export_matches(Matches(self.catalog, chosen.ranking, chosen.rows), path, format)

    def to_json(self) -> dict[str, Any]:
        """Return what the session holds: marks, seed, model and the size of the last answer."""
        return {
            "seed": self.seed,
            "positives": self.positives.tolist(),
            "negatives": self.negatives.tolist(),
            "boxes": None if self.boxes is None else self.boxes.to_json(),
            "total": None if self.ranking is None else self.ranking.total,
        }

    def _to_learn(self, options: RefineOptions, query: str | None) -> TrainingData:
        """Return the input of a model: all marks, random negatives, the words of a query. Errors as in `find_all`."""
        positives, negatives = self.positives, self.negatives
        if len(positives) == 0:
            raise LabelError("find all needs at least one item marked right, got none; mark one, then find all again")
        unchecked = self.random_negatives(options.random_negatives)
        words = self.searcher.words(query) if query else None
        fair = ~self.labels.came_by(positives, NOT_CHOSEN)
        chosen = ~self.labels.came_by(negatives, NOT_CHOSEN)
        near_cut = self.labels.came_by(np.concatenate([positives, negatives]), ("suggestion",))
        return TrainingData(positives, negatives, unchecked, fair, chosen, near_cut, options.negative_weight, words)

    def _completeness(self, found: Found, where: Bitmap | None) -> Completeness:
        """Return what is known of how complete a new ranking is, with what was audited before."""
        ranking = found.ranking
        universe = self.catalog.count(where)
        earlier = None if self.answer is None else self.answer.completeness.evidence(self.labels.audited())
        marks = self._marks_within(where)
        universe = max(universe, len(ranking.ids))
        return Completeness(ranking, marks, universe, seed=self.seed, earlier=earlier, breadth=found.breadth)

    def _marks_within(self, where: Bitmap | None) -> dict[int, int]:
        """Return the marks of items that are in the catalog and in a bitmap, item id -> label."""
        found: dict[int, int] = {}
        for ids, label in ((self.positives, 1), (self.negatives, -1)):
            held = ids if where is None else ids[self.catalog.inside(ids, where)]
            found.update(dict.fromkeys(held.tolist(), label))
        return found

    def _outside(self) -> NDArray[np.int64]:
        """Return random ids of the catalog that `where` lets in, in random order."""
        answer = self.last()
        rng = np.random.default_rng([self.seed, len(answer.completeness.drawn.ids)])
        ids: NDArray[np.int64] = rng.permutation(self.catalog.sample_ids(_OUTSIDE_DRAWN, rng))
        where = self._bitmap(answer.where)  # anew, for rows may have moved since the refine
        if where is not None:
            ids = ids[self.catalog.inside(ids, where)]
        return ids

    def _marked(self, label: int) -> NDArray[np.int64]:
        ids = np.array(sorted(i for i, held in self.labels.current().items() if held == label), np.int64)
        return ids[self.catalog.alive(ids)]

    def _bitmap(self, where: str | None) -> NDArray[np.uint8] | None:
        return None if where is None else self.catalog.where(where)
