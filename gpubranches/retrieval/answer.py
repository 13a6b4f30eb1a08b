"""The answer of a find all: the ranking with its cut, the model, the estimates of completeness, and its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import Bitmap, among
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import TIERS, Ranking
from gpubranches.errors import UsageError
from gpubranches.retrieval.breadth import Breadth
from gpubranches.retrieval.completeness import Completeness, Marks, Sample
from gpubranches.retrieval.explain import votes_needed
from gpubranches.retrieval.voting import by_votes, votes_for

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines import Backend

PARTS = ("all", *TIERS, "below", "new", "gone")
"""Lists of an answer: all matches, the matches by tier, the items just below the cut, and the changes since the last
round."""
JUST_BELOW = 200
"""Number of items in the list below the cut."""


@dataclass(frozen=True)
class Part:
    """Some items of a ranking, best first. rows: (m,), their rows in the ranking."""

    ranking: Ranking
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Their ids, (m,) int64."""
        return self.ranking.ids[self.rows]


@dataclass(frozen=True)
class Answer:
    """What one find all found. It never changes: another cut, estimate or audit gives another answer of the same round.

    boxes: of the model, None for one without boxes; coding: of the codes that the boxes apply to; where: the filter;
    before: the matches of the round before, with its cut, None in the first round; breadth: how broad the marks say the
    idea is, None by votes alone.
    """

    ranking: Ranking
    completeness: Completeness
    boxes: Boxes | None = None
    coding: tuple[str, str, int] | None = None
    where: str | None = None
    before: Part | None = None
    breadth: Breadth | None = None

    def reaches(self, lean: float) -> bool:
        """Whether the list is long enough for a cut with this lean: it has all matches and the items just below."""
        ranking = self.ranking
        if ranking.unlisted is None or self.boxes is None:
            return True
        votes = votes_for(lean, self.boxes.n_estimators)
        below = int(np.count_nonzero(ranking.scores < votes)) - len(self.completeness.marks)
        return votes >= ranking.complete_from and below >= JUST_BELOW

    def recut(self, lean: float, marks: Marks, audited: Marks) -> Answer:
        """Return the answer with another cut, for which its list is long enough (`reaches`); see `Session.recut`.

        marks: the present marks; audited: those made in an audit.
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

    def estimated(self, marks: Marks, audited: Marks) -> Answer:
        """Return the answer with precision, recall and tiers estimated from the present marks."""
        precision, recall = self.completeness.estimate(self.ranking.matched, marks, audited)
        tiers = self.completeness.tiers(marks, audited)
        return replace(self, ranking=replace(self.ranking, precision=precision, recall=recall, tiers=tiers))

    def with_audit(self, sample: Sample) -> Answer:
        """Return the answer with the items of a further audit, see `Completeness.draw_audit`."""
        return replace(self, completeness=self.completeness.with_audit(sample))

    def relisted(self, backend: Backend, catalog: Catalog, lean: float, where: Bitmap | None) -> Answer:
        """Return an answer by votes with a list that is long enough for a cut, by its boxes over the present catalog.

        where: bitmap of its filter, None for all items. Raises UsageError if the codes were encoded anew since.
        """
        if self.boxes is None or self.coding != catalog.coding:
            raise UsageError("recut: the catalog's codes were made anew since the last refine; refine again")
        right, wrong = (self._marked(label, catalog) for label in (1, -1))
        start = time.perf_counter()
        votes = votes_for(lean, self.boxes.n_estimators)
        ranking = by_votes(backend, catalog, self.boxes, right, wrong, where, votes)
        timings = {**self.ranking.timings_ms, "boxes": (time.perf_counter() - start) * 1000}
        ranking = replace(ranking, source=self.ranking.source, timings_ms=timings)
        return replace(self, ranking=ranking, completeness=self.completeness.over(ranking))

    @property
    def matched(self) -> Part:
        """All matches, the part "all"."""
        return Part(self.ranking, np.flatnonzero(self.ranking.matched))

    def matched_still(self, catalog: Catalog, generation: int) -> Part:
        """Return the matches that are not deleted; generation: of the catalog when the answer was found."""
        if generation == catalog.generation:
            return self.matched
        return Part(self.ranking, self.matched.rows[catalog.alive(self.matched.ids)])

    @property
    def min_votes(self) -> int:
        """Votes that an item needs to match by votes alone, or to be ranked by a second stage; 1 without boxes."""
        return 1 if self.boxes is None else votes_needed(self.ranking, self.boxes)

    def part(self, name: str) -> Part:
        """Return one of PARTS. Raises UsageError for another name, and for a part that this answer does not have."""
        if name not in self.parts:
            missing = {
                **dict.fromkeys(TIERS, "; tiers need a second stage and 4 items marked right, beside suggestions"),
                **dict.fromkeys(("new", "gone"), "; there is no round before to compare with"),
            }
            raise UsageError(f"tier: expected one of {', '.join(self.parts)}, got {name!r:.40}{missing.get(name, '')}")
        return self.parts[name]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order of PARTS: tiers if they are estimated, changes if there was a round before.

        all: the matches; sure, likely, borderline: see `Completeness.tiers`; below: the first 200 items that do not
        match, without items marked when the answer was found; new: matches that did not match before; gone: the
        reverse.
        """
        ranking, matched = self.ranking, self.ranking.matched
        parts = {"all": self.matched}
        if ranking.tiers is not None:
            for tier, name in enumerate(TIERS):
                parts[name] = Part(ranking, np.flatnonzero(matched & (ranking.tiers == tier)))
        marked = np.fromiter(self.completeness.marks, np.int64, len(self.completeness.marks))
        parts["below"] = Part(ranking, np.flatnonzero(~matched & ~among(ranking.ids, marked))[:JUST_BELOW])
        if self.before is not None:
            now, before = parts["all"], self.before
            parts["new"] = Part(ranking, now.rows[~among(now.ids, before.ids)])
            parts["gone"] = Part(before.ranking, before.rows[~among(before.ids, now.ids)])
        return parts

    def _marked(self, label: int, catalog: Catalog) -> NDArray[np.int64]:
        """Return the items that had a label when the answer was found and are not deleted, (m,) int64."""
        ids = np.array([i for i, own in self.completeness.marks.items() if own == label], np.int64)
        return ids[catalog.alive(ids)]

    def _threshold(self, lean: float, audited: Marks) -> float:
        if self.ranking.by_votes and self.boxes is not None:
            return float(votes_for(lean, self.boxes.n_estimators))
        threshold = self.completeness.ranking.threshold
        return threshold - self.completeness.shift(lean, audited) if lean else threshold
