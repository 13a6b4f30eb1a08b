"""The answer of a find all: the ranking with its cut, how it was made, how complete it is, and its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among, as_ids
from gpubranches.core.boxes import Boxes
from gpubranches.core.options import RefineOptions
from gpubranches.core.results import TIERS, Interval, Ranking
from gpubranches.errors import UsageError
from gpubranches.retrieval.breadth import Breadth
from gpubranches.retrieval.completeness import Completeness, ItemLabels
from gpubranches.retrieval.explain import Explanation, explain_in, votes_needed
from gpubranches.retrieval.random_checks import RandomChecks
from gpubranches.retrieval.sampling import Sample
from gpubranches.retrieval.voting import by_votes, votes_for
from gpubranches.service.export.item_table import Known
from gpubranches.service.matches import Matches

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines import Backend

PARTS = ("all", *TIERS, "below", "right", "new", "gone")
"""Lists of an answer: matches, matches by tier, items just below the cut, items marked right, changes since a round."""
JUST_BELOW = 200
"""Items under the cut that are listed."""
_OUTSIDE_DRAWN = 1000
"""Number of random ids to draw from; those that the filter admits may join an audit."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """The answer of one find all. It never changes: another cut, estimate or mark gives a new object.

    ranking: the items, best first, and which of them match; completeness: estimates of how many matches are right and
    how many are missing; options: those of the find all; boxes: of the model, or None; coding, generation: of the
    catalog when it was found; before: the matches of the last round with its cut, None in the first round; breadth: the
    judged breadth of the idea, None by votes alone.

    marks, audited: the marks that decide its matches, parts and `current`, see `with_marks`; by default those of the
    find all. `ranking` does not depend on these marks.
    """

    catalog: Catalog
    ranking: Ranking
    completeness: Completeness
    options: RefineOptions = field(default_factory=RefineOptions)
    boxes: Boxes | None = None
    coding: tuple[str, str, int] | None = None
    generation: int = 0
    before: Matches | None = None
    breadth: Breadth | None = None
    marks: ItemLabels | None = None
    audited: ItemLabels = field(default_factory=dict)

    @property
    def is_outdated(self) -> bool:
        """Whether the catalog's codes have been replaced since the find all; the answer's boxes then no longer fit."""
        return self.generation < self.catalog.generation and self.coding != self.catalog.coding

    # Its marks

    def with_marks(self, marks: ItemLabels, audited: ItemLabels) -> Answer:
        """Return the same answer with other marks: items marked wrong do not match, items marked right do.

        marks: of the items that its filter admits; audited: those of an audit.
        """
        held = self.completeness.marks if self.marks is None else self.marks
        return self if marks == held else replace(self, marks=dict(marks), audited=dict(audited))

    @cached_property
    def changed(self) -> dict[int, int]:
        """The marks that changed since the find all: item id -> +1, -1, or 0 for a removed mark."""
        found, now = self.completeness.marks, self.marks
        if now is None:
            return {}
        return {item: now.get(item, 0) for item in (*now, *found) if now.get(item, 0) != found.get(item, 0)}

    @cached_property
    def listed(self) -> Ranking:
        """The ranking cut under the present marks; precision and recall are those of `ranking`.

        Items marked right since that were not ranked are at its end, with the score nan. An item whose mark was removed
        matches by its score.
        """
        ranking = self.ranking
        if not self.changed:
            return ranking
        joined = self._joined()
        size = len(ranking.ids)
        rows = np.flatnonzero(among(ranking.ids, np.fromiter(self.changed, np.int64)))
        labels = np.array([self.changed[int(item)] for item in ranking.ids[rows]], np.int64)
        by_score = ranking.scores[rows] >= np.float32(ranking.threshold)
        matched = np.append(ranking.matched, np.ones(len(joined), np.bool_))
        matched[rows] = np.where(labels == 0, by_score, labels > 0)
        tiers = ranking.tiers
        if tiers is not None:
            tiers = np.append(tiers, np.zeros(len(joined), np.uint8))
            tiers[rows[labels > 0]], tiers[rows[labels < 0]] = 0, len(TIERS) - 1
        votes = ranking.votes
        if votes is not None:
            votes = np.append(votes, np.zeros(len(joined), votes.dtype))
        return replace(
            ranking,
            ids=np.append(ranking.ids, joined),
            scores=np.append(ranking.scores, np.full(len(joined), np.nan, np.float32)),
            matched=matched,
            total=int(np.count_nonzero(matched[:size])) + len(joined),
            votes=votes,
            tiers=tiers,
        )

    @cached_property
    def current(self) -> Ranking:
        """`listed` with precision and recall by the marks."""
        if not self.changed or self.marks is None:
            return self.listed
        matched = self.listed.matched[: len(self.ranking.ids)]
        joined = len(self.listed.ids) - len(self.ranking.ids)
        precision, recall = self.completeness.estimate(matched, self.marks, self.audited, joined=joined)
        return replace(self.listed, precision=precision, recall=recall)

    @cached_property
    def moved(self) -> tuple[int, int]:
        """How many items became matches, and how many are no longer matches, because of marks since the find all."""
        now, before = self.listed, self.ranking
        size = len(before.ids)
        joined = int(np.count_nonzero(now.matched[:size] & ~before.matched)) + len(now.ids) - size
        return joined, int(np.count_nonzero(before.matched & ~now.matched[:size]))

    def __repr__(self) -> str:
        return f"<Answer: {self.ranking.total:,} items match, by {self.ranking.source}>"

    # Its items

    @cached_property
    def matches(self) -> Matches:
        """The matches under the present marks, best first; their number is `current.total`."""
        return self._items(self.listed.matched)

    def part(self, name: str) -> Matches:
        """Return one of PARTS. Raises UsageError for another name, and for a part that this answer does not have."""
        if name not in self.parts:
            missing = {
                **dict.fromkeys(TIERS, "; tiers need a second stage and 4 items marked right, beside suggestions"),
                **dict.fromkeys(("new", "gone"), "; there is no round before to compare with"),
            }
            raise UsageError(f"tier: expected one of {', '.join(self.parts)}, got {name!r:.40}{missing.get(name, '')}")
        return self.parts[name]

    @cached_property
    def parts(self) -> dict[str, Matches]:
        """The parts by name, in the order of PARTS; tiers and changes only if the answer has them.

        all: what matches; sure, likely, borderline: see `Completeness.tiers`; below: the first 200 that do not match,
        without marked items; right: what is marked right; new, gone: items that match now but did not
        before, and the reverse.
        """
        ranking, matched = self.listed, self.listed.matched
        parts = {"all": self.matches}
        if ranking.tiers is not None:
            for tier, name in enumerate(TIERS):
                parts[name] = self._items(matched & (ranking.tiers == tier))
        marked = np.fromiter({**self.completeness.marks, **(self.marks or {})}, np.int64)
        below = np.flatnonzero(~matched & ~among(ranking.ids, marked))[:JUST_BELOW]
        parts["below"] = Matches(self.catalog, ranking, below, self._known)
        right = np.array([item for item, label in self._known.marks.items() if label > 0], np.int64)
        parts["right"] = self._items(matched & among(ranking.ids, right))
        if self.before is not None:
            now, before = self.matches, self.before
            parts["new"] = replace(now, rows=now.rows[~among(now.ids, before.ids)])
            parts["gone"] = replace(before, rows=before.rows[~among(before.ids, now.ids)])
        return parts

    def still_matching(self) -> Matches:
        """Return the matches that have not been deleted."""
        found = self.matches
        if self.generation == self.catalog.generation:
            return found
        return replace(found, rows=found.rows[self.catalog.alive(found.ids)])

    @property
    def min_votes(self) -> int:
        """The votes that an item needs to match by votes alone, or to be ranked by a second stage; 1 without boxes."""
        return 1 if self.boxes is None else votes_needed(self.ranking, self.boxes)

    # Other cuts and estimates

    def reaches(self, lean: float) -> bool:
        """Return whether the list is long enough for a cut: it must contain all matches, and the items just below."""
        ranking = self.ranking
        if ranking.unlisted is None or self.boxes is None:
            return True
        votes = votes_for(lean, self.boxes.n_estimators)
        below = int(np.count_nonzero(ranking.scores < votes)) - len(self.completeness.marks)
        return votes >= ranking.complete_from and below >= JUST_BELOW

    def recut(self, lean: float, marks: ItemLabels, audited: ItemLabels) -> Answer:
        """Return the answer with another cut, which its list must reach (`reaches`); see `Session.recut`.

        marks: the present marks; audited: the marks of an audit.
        """
        start = time.perf_counter()
        threshold = self._threshold(lean, audited)
        matched = self.completeness.matched(threshold)
        ranking = replace(
            self.ranking,
            matched=matched,
            total=int(matched.sum()),
            threshold=float(np.float32(threshold)),
            lean=lean,
        )
        found = replace(self, ranking=ranking).estimated(marks, audited).ranking
        timings = {name: ms for name, ms in found.timings_ms.items() if name not in ("cut", "total")}
        timings["cut"] = (time.perf_counter() - start) * 1000
        return replace(self, ranking=replace(found, timings_ms={**timings, "total": sum(timings.values())}))

    def estimated(self, marks: ItemLabels, audited: ItemLabels) -> Answer:
        """Return the answer with precision, recall and tiers by the marks there are now."""
        precision, recall = self.completeness.estimate(self.ranking.matched, marks, audited)
        tiers = self.completeness.tiers(marks, audited)
        return replace(self, ranking=replace(self.ranking, precision=precision, recall=recall, tiers=tiers))

    def recall_alike(self, marks: ItemLabels, audited: ItemLabels, without: int = 0) -> Interval | None:
        """Return the recall of the answer under the marks among items that resemble them; see `Session`."""
        fresh = [item for item in audited if item not in self.completeness.marks]
        if without > len(fresh):
            return None
        last = set(fresh[len(fresh) - without :])
        marks, audited = ({i: label for i, label in of.items() if i not in last} for of in (marks, audited))
        matched, size = self.with_marks(marks, audited).listed.matched, len(self.ranking.ids)
        return self.completeness.recall_alike(matched[:size], marks, audited, joined=len(matched) - size)

    def random_checks(self, marks: ItemLabels) -> RandomChecks:
        """Return how random items that do not match are marked, see `Completeness.random_checks`."""
        return self.completeness.random_checks(self.ranking, marks)

    def audit(
        self, count: int, marks: ItemLabels, seed: int, *, anywhere: bool, recall: float | None
    ) -> tuple[Answer, Ids]:
        """Return the answer with a further audit, and the ids of its items to mark, see `Session.audit`."""
        known, drawn = self.completeness, self.completeness.drawn
        waiting = drawn.ids[(drawn.anywhere == anywhere) & ~among(drawn.ids, np.fromiter(marks, np.int64))]
        waiting = waiting[self.catalog.alive(waiting)][:count]
        left = count - len(waiting)
        if left == 0:
            return self, waiting
        outside = self._random_ids(seed)
        if anywhere:
            outside = outside[~among(outside, self.ranking.ids[self.ranking.matched])]
            sample = known.draw_anywhere(left, marks, outside)
        else:
            sample = known.draw_audit(left, marks, outside, matched=self.ranking.matched, recall=recall)
        return self.with_audit(sample), np.concatenate([waiting, sample.ids])

    def with_audit(self, sample: Sample) -> Answer:
        """Return the answer with the items of a further audit, see `Completeness.draw_audit`."""
        return replace(self, completeness=self.completeness.with_audit(sample))

    def relisted(self, backend: Backend, lean: float) -> Answer:
        """Return an answer by votes with a list long enough for a cut; its boxes are applied to the present catalog.

        Raises UsageError where the codes are others by now.
        """
        catalog = self.catalog
        if self.boxes is None or self.coding != catalog.coding:
            raise UsageError("recut: the catalog's codes were made anew since the last find all; find all again")
        where = None if self.options.where is None else catalog.where(self.options.where)
        labels = self.completeness.marks
        marked = [np.array([i for i, label in labels.items() if label == wanted], np.int64) for wanted in (1, -1)]
        right, wrong = (ids[catalog.alive(ids)] for ids in marked)
        start = time.perf_counter()
        votes = votes_for(lean, self.boxes.n_estimators)
        ranking = by_votes(backend, catalog, self.boxes, right, wrong, where, votes)
        timings = {**self.ranking.timings_ms, "boxes": (time.perf_counter() - start) * 1000}
        ranking = replace(ranking, source=self.ranking.source, timings_ms=timings)
        return replace(self, ranking=ranking, completeness=self.completeness.over(ranking))

    def explain(self, item: int, mark: int) -> Explanation:
        """Explain why an item is in the answer or is not, see `Session.explain`. mark: of the item, 0 for none."""
        ids = as_ids([item])
        if self.boxes is None:
            raise UsageError("explain: the last model is linear and has no boxes; use another, such as ensemble")
        if self.coding != self.catalog.coding:
            raise UsageError("explain: the catalog's codes were made anew since the last refine; refine again")
        return explain_in(self.ranking, self.boxes, self.catalog.codes(ids)[0], item, mark)

    # Inside

    def _random_ids(self, seed: int) -> Ids:
        """Return random ids of the items that the filter lets in, in random order."""
        rng = np.random.default_rng([seed, len(self.completeness.drawn.ids)])
        ids: Ids = rng.permutation(self.catalog.sample_ids(_OUTSIDE_DRAWN, rng))
        where = self.options.where
        return ids if where is None else ids[self.catalog.inside(ids, where)]

    def _items(self, chosen: NDArray[np.bool_]) -> Matches:
        return Matches(self.catalog, self.listed, np.flatnonzero(chosen), self._known)

    @property
    def _known(self) -> Known:
        marks = self.completeness.marks if self.marks is None else self.marks
        # Not a method of this answer: the matches of one round are kept in the next, and would keep all rounds before.
        chances = partial(self.completeness.chances_of, audited=self.audited)
        return Known(marks, None if self.ranking.tiers is None else chances)

    def _joined(self) -> NDArray[np.int64]:
        """Return the items without a rank that were marked right after the find all, (j,) int64."""
        right = np.array([item for item, label in self.changed.items() if label > 0], np.int64)
        return right[~among(right, self.ranking.ids)]

    def _threshold(self, lean: float, audited: ItemLabels) -> float:
        own = self.completeness.ranking.threshold
        if self.ranking.by_votes and self.boxes is not None:
            return float(votes_for(lean, self.boxes.n_estimators))
        return own - self.completeness.shift(lean, audited) if lean else own
