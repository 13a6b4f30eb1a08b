"""Requests to the catalog service and its answers: ids, figures and facts, without HTML and without sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError
from gpubranches.retrieval.hits import Hits
from gpubranches.retrieval.queries import Words
from gpubranches.retrieval.suggestions import SUGGESTED
from gpubranches.service.answer import Answer
from gpubranches.service.labels import ORIGINS
from gpubranches.service.session_store import Record
from gpubranches.service.target import CHECKS, TARGET, Step

if TYPE_CHECKING:
    from PIL.Image import Image

    from gpubranches.core.results import Ranking


@dataclass(frozen=True, eq=False)
class SearchRequest:
    """A search for the k nearest items.

    query: as of `Searcher.search`, or `Words`, a text taken literally; where: a condition that the items meet, None for
    none.
    """

    query: str | int | Words | NDArray[Any] | Image
    k: int = 100
    where: str | None = None


@dataclass(frozen=True)
class NearestPageRequest:
    """A page of the list of items nearest to a query: `count` items from `offset` on.

    query: a text in the grammar of `queries.parse`, or the id of an item; where: a condition, "" for none.
    """

    query: str | int
    where: str = ""
    offset: int = 0
    count: int = 60


@dataclass(frozen=True)
class RandomPageRequest:
    """A page of a list of random items, which depends on the seed and on the condition `where`, "" for none."""

    seed: int
    where: str = ""
    offset: int = 0
    count: int = 60


@dataclass(frozen=True, eq=False)
class MarkRequest:
    """Items to mark. ids: (m,) integers; label: +1 right, -1 wrong, 0 removes the marks; origin: one of ORIGINS.

    event: a name, so that a repeated request counts once; None: a new name.
    """

    ids: NDArray[np.int64]
    label: int
    origin: str = ORIGINS[0]
    event: str | None = None


@dataclass(frozen=True)
class StepRequest:
    """The target of `next_step`: a recall, how many items it may return, and the most random items to mark."""

    target_recall: float = TARGET
    count: int = SUGGESTED
    checks: int = CHECKS


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The nearest items, and how many milliseconds the search took."""

    hits: Hits
    took_ms: float


@dataclass(frozen=True)
class SinceFound:
    """Changes by marks since a find all.

    total: how many items match now; joined: how many of them did not match then; left: how many no longer match;
    new_marks: how many marks the model has not learnt from.
    """

    total: int
    joined: int
    left: int
    new_marks: int


@dataclass(frozen=True, eq=False)
class SessionState:
    """A session in the state of one request.

    record: its name and settings; seed: of its learners; marks: item id -> +1 or -1, deleted items included; positive,
    negative: how many items of the catalog are marked right and wrong; checked: how many marks are on items of an
    audit; version: of the log of marks; answer: of the last find all under these marks, None if there is none.
    """

    record: Record
    seed: int
    marks: Mapping[int, int]
    positive: int
    negative: int
    checked: int
    version: int
    answer: Answer | None

    @property
    def session(self) -> str:
        """The name that the session was given when it was created."""
        return self.record.session

    def last_answer(self) -> Answer:
        """Return the last answer. Raises UsageError before a find all."""
        if self.answer is None:
            refused = UsageError("nothing is found yet; mark items right and wrong, then find all (refine)")
            raise refused.because("nothing-found")
        return self.answer

    @property
    def ranking(self) -> Ranking | None:
        """The ranking of the last answer as the marks cut it, with its estimates."""
        return None if self.answer is None else self.answer.current

    @property
    def since(self) -> SinceFound | None:
        """Changes by marks since the last find all; None before the first."""
        answer = self.answer
        return None if answer is None else SinceFound(answer.listed.total, *answer.moved, len(answer.changed))

    @property
    def found_where(self) -> str:
        """The condition that the last answer was filtered by, "" for none."""
        return "" if self.answer is None else self.answer.options.where or ""

    @property
    def changes(self) -> tuple[int, int] | None:
        """How many matches are new, and how many are gone, since the last round; None in the first round."""
        if self.answer is None or self.answer.before is None:
            return None
        return len(self.answer.parts["new"]), len(self.answer.parts["gone"])

    def part(
        self, name: str, offset: int, count: int, *, unmarked: bool = False, least_sure_first: bool = False
    ) -> PartPage:
        """Return `count` items of a part of the last answer, one of `answer.PARTS`, from `offset` on.

        unmarked: only those without a mark; least_sure_first: the nearest to the cut first, else the best first. Raises
        UsageError before a find all, and for a part that the answer does not have.
        """
        part = self.last_answer().part(name)
        part = part.unmarked() if unmarked else part
        part = part.least_sure_first() if least_sure_first else part
        rows, ranking = part.rows[offset : offset + count], part.ranking
        votes = None if ranking.votes is None else ranking.votes[rows]
        tiers = tuple(ranking.tier(row) for row in rows)
        chances = None if part.known.chances is None else part.known.chances(ranking.scores[rows])
        return PartPage(self, name, offset, len(part), ranking.ids[rows], ranking.scores[rows], votes, tiers, chances)


@dataclass(frozen=True, eq=False)
class ListPage:
    """A page of a list of items.

    ids: (m,) int64; offset: of the first of them; total: how many items the list has. Of nearest items also distances:
    (m,) float32; inside: how many items the catalog has, or the filter admits; source: what answered; took_ms; meant:
    the known name that was searched for instead of the typed text shown_for; both "" if the text is known.
    """

    state: SessionState
    ids: NDArray[np.int64]
    offset: int
    total: int
    distances: NDArray[np.float32] | None = None
    inside: int = 0
    source: str = ""
    took_ms: float = 0.0
    shown_for: str = ""
    meant: str = ""


@dataclass(frozen=True, eq=False)
class PartPage:
    """A page of a part of an answer.

    name: of the part; total: how many items it has; ids: (m,) int64, of items that may be deleted by now; scores: (m,)
    float32; votes: (m,) uint16, None for a model without boxes; tiers: m names of TIERS, None for an item without one;
    chances: (m,) float64, to be right by the scores, None where they are not estimated.
    """

    state: SessionState
    name: str
    offset: int
    total: int
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    votes: NDArray[np.uint16] | None
    tiers: tuple[str | None, ...]
    chances: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Proposal:
    """Items to mark next. ids: (m,) int64; origin: what to mark them with."""

    state: SessionState
    ids: NDArray[np.int64]
    origin: str


@dataclass(frozen=True, eq=False)
class NextStep:
    """The next step towards a recall."""

    state: SessionState
    step: Step


@dataclass(frozen=True)
class MarkResult:
    """The marks that one request set or removed. event: its name; ids: the items."""

    event: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class MarkChanges:
    """Marks that changed after a version of the log.

    version: the present version of the log; marks: item id -> +1, -1 or 0; positive, negative: numbers of all valid
    marks; since: changes by marks since the last find all, None before the first; changes: of the matches since the
    last round, see `SessionState.changes`; can_undo, can_redo: whether undo and redo are possible.
    """

    version: int
    marks: Mapping[int, int]
    positive: int
    negative: int
    since: SinceFound | None
    changes: tuple[int, int] | None
    can_undo: bool
    can_redo: bool


@dataclass(frozen=True)
class MarkList:
    """All valid marks, in the order they were made: (item id, label, origin). version: of the log."""

    version: int
    marks: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Download:
    """A file. content: its bytes, created while they are read; reading does not need the session any more."""

    name: str
    media_type: str
    content: bytes | Iterator[bytes]
