"""The catalogs of `benchmarks.breadth`, and the users that it plays on them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.intervals import Tally, audited, truth
from benchmarks.harness.real_data import FOLDERS, build_catalog, open_vocabulary
from gpubranches import Catalog, Ranking, Session, open_backend
from gpubranches.research.quality import Comparison, Concept, Draw, LabelledCatalog, find_concepts
from gpubranches.research.quality.comparison import MEASURES, empty_values, measured_within
from gpubranches.research.quality.concepts import random_subset
from gpubranches.research.quality.groups import find_groups, random_unions, read_groups
from gpubranches.research.quality.models import MODELS
from gpubranches.research.quality.product_models import answer_of
from gpubranches.research.quality.rounds import POLICIES, START, play, play_model
from gpubranches.research.quality.users import USERS
from gpubranches.service.target import TARGET

PRODUCT = "refine"
ORACLE = "query-oracle"
BASELINES = ("forest-embeddings-10", "logistic-embeddings", "logistic-light")
ROUNDS = 4
AUDIT = "after the last round, audit of 20"
LAST = "after the last round"
ALL = "after every round"
STEPS = 20
"""The largest number of steps of 20 marks towards a target, without the steps with random items."""
EASY = 300
"""The least number of items of an easy class."""

Task = tuple[LabelledCatalog, Concept]


@dataclass
class Play:
    """The results of one user on some concepts.

    found: the measures of every model by round; sizes, shares: items of each concept, and their share of what the user
    sees; tallies: of the product's intervals, by when and measure; unranked: share of the right items that the product
    did not rank, of each of its answers; seconds: of the play.
    """

    found: Comparison
    sizes: list[int]
    shares: list[float]
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    unranked: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Plays:
    """The data as two catalogs, with and without distractors, and the plays so far.

    narrow: the size of a random subset of the single classes, None for all; models: baselines that play the rounds,
    too. Use it in a with statement.
    """

    def __init__(
        self, data: Path, *, seeds: int, unions: int, union_seed: int, narrow: int | None, models: Sequence[str]
    ):
        self.seeds, self.unions, self.union_seed = seeds, unions, union_seed
        self.narrow, self.models = narrow, tuple(models)
        self._data, self._opened, self._plays = data, ExitStack(), dict[str, Play]()
        self.embedder = open_vocabulary(data)

    def __enter__(self) -> Plays:
        """Make both catalogs and open them."""
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="gpubranches-breadth-")))
        self.labelled, self.without = (
            self._open(folder / name, folders)
            for name, folders in (("with", FOLDERS), ("without", tuple(f for f in FOLDERS if f != "distractors")))
        )
        return self

    def __exit__(self, *error: object) -> None:
        """Close and remove them."""
        self._opened.close()

    def play(self, kind: str) -> Play:
        """Return the results of a kind of play, one of `KINDS`; each kind is played once."""
        if kind not in self._plays:
            tasks, user, models = KINDS[kind]
            self._plays[kind] = _played(tasks(self), user, self.seeds, models(self), kind)
        return self._plays[kind]

    @property
    def played(self) -> dict[str, Play]:
        """All plays made so far, by kind."""
        return dict(self._plays)

    def ideas(self) -> list[Task]:
        """Return the groups of the data's broad.json, each in the catalog with the distractors or the one without."""
        groups = read_groups(self._data / "broad.json")
        tasks = []
        for name, group in groups.items():
            held = group.get("distractors", True)
            labelled = self.labelled if held else self.without
            alone = {name: {**group, "distractors": True}}
            tasks += [(labelled, concept) for concept in find_groups(labelled.catalog, alone, self.embedder.knows)]
        return tasks

    def unions_drawn(self) -> list[Task]:
        """Return the unions drawn at random."""
        return self._tasks(random_unions(self.labelled.catalog, self.unions, seed=self.union_seed))

    def easy(self) -> list[Task]:
        """Return the single classes with many items."""
        return self._tasks(find_concepts(self.labelled.catalog, self.embedder.knows, fewest=EASY))

    def classes(self) -> list[Task]:
        """Return the single classes, or the requested subset."""
        return self._tasks(random_subset(find_concepts(self.labelled.catalog, self.embedder.knows), self.narrow))

    def baselines(self) -> tuple[str, ...]:
        """Return the models to compare with the product."""
        return self.models

    def _tasks(self, concepts: Sequence[Concept]) -> list[Task]:
        return [(self.labelled, concept) for concept in concepts]

    def _open(self, folder: Path, folders: Sequence[str]) -> LabelledCatalog:
        folder.mkdir()
        catalog = Catalog.open(build_catalog(self._data, folder, folders=folders, shuffled=False))
        return LabelledCatalog(catalog, self._opened.enter_context(open_backend("cpu", catalog)), self.embedder)


@dataclass(frozen=True)
class Told:
    """What the program said: after how many marks, how many of them on random items, and the true recall then."""

    marks: int
    checks: int
    recall: float


@dataclass(frozen=True)
class TargetRun:
    """A user who marks the items of `Session.next`.

    begun: the number of marks at first; marks_to_target: the number when the true recall was first at the target;
    alike: the number when the program first said that the target is reached for items that resemble the marks; reached:
    the same for all right items. None for never.
    """

    begun: int
    marks_to_target: int | None
    alike: Told | None
    reached: Told | None


def mark_to_target(labelled: LabelledCatalog, concept: Concept, user: str) -> TargetRun | None:
    """Mark towards the target, `STEPS` times 20 and random items; None if the user has no item to begin with."""
    draw = labelled.draw(concept, START, 0, USERS[user])
    if draw is None:
        return None
    session, _ = next(play(labelled, draw, POLICIES["suggested"], 0))
    begun, first, left, checks = len(draw.positives) + len(draw.negatives), None, STEPS, 0
    alike: Told | None = None
    while True:
        step = session.next(TARGET)
        marks = len(session.positives) + len(session.negatives)
        recall = truth(labelled, session.last_answer().listed, draw.right)["recall"]
        first = marks if first is None and recall >= TARGET else first
        if step.checks is not None and alike is None:
            alike = Told(marks, 0, recall)
        if step.done or not left:
            return TargetRun(begun, first, alike, Told(marks, checks, recall) if step.kind == "reached" else None)
        if step.checks is None:
            left -= 1
        else:
            checks += len(step.ids)
        labelled.mark_by_truth(session, step.ids, draw.right, step.kind)


def _none(plays: Plays) -> tuple[str, ...]:
    return ()


KINDS: dict[str, tuple[Callable[[Plays], list[Task]], str, Callable[[Plays], tuple[str, ...]]]] = {
    "narrow": (Plays.classes, "random", _none),
    "broad, page": (Plays.ideas, "page", Plays.baselines),
    "broad, right-only": (Plays.ideas, "right-only", _none),
    "unions": (Plays.unions_drawn, "page", Plays.baselines),
    "easy": (Plays.easy, "right-only", _none),
}
"""Everything needed to play: the concepts, the user, other models to compare, and the best cut of the query."""


def _played(tasks: list[Task], user: str, seeds: int, models: Sequence[str], kind: str) -> Play:
    began = time.perf_counter()
    shape = (ROUNDS + 1, len(tasks), seeds)
    values = empty_values([PRODUCT, ORACLE, *models], shape)
    tallies = {(when, measure): Tally() for when in (ALL, LAST, AUDIT) for measure in ("precision", "recall")}
    shares, unranked = [], list[float]()
    for at, (labelled, concept) in enumerate(tasks):
        seen = labelled.n if concept.where is None else labelled.catalog.count(labelled.catalog.where(concept.where))
        shares.append(len(concept.items) / seen)
        for seed in range(seeds):
            draw = labelled.draw(concept, START, seed, USERS[user])
            if draw is None:
                continue
            for model in values:
                for place, measured in enumerate(_rounds(labelled, draw, model, tallies, unranked)):
                    for measure in MEASURES:
                        values[model][measure][place, at, seed] = measured.get(measure, np.nan)
        print(f"{kind}: {at + 1} of {len(tasks)}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    names = tuple(concept.name for _, concept in tasks)
    found = Comparison(tuple(range(ROUNDS + 1)), seeds, names, values)
    sizes = [len(concept.items) for _, concept in tasks]
    return Play(found, sizes, shares, tallies, unranked, time.perf_counter() - began)


def _rounds(
    labelled: LabelledCatalog, draw: Draw, model: str, tallies: dict[tuple[str, str], Tally], unranked: list[float]
) -> Iterator[dict[str, float]]:
    """Yield the result of a model after every round; once for the query's best cut, which learns nothing."""
    if model == PRODUCT:
        yield from _product(labelled, draw, tallies, unranked)
        return
    for marked, answer in play_model(labelled, draw, MODELS[model], 0 if model == ORACLE else ROUNDS):
        yield measured_within(draw, answer, labelled.flags(marked.positives), labelled.flags(marked.negatives))


def _product(
    labelled: LabelledCatalog, draw: Draw, tallies: dict[tuple[str, str], Tally], unranked: list[float]
) -> Iterator[dict[str, float]]:
    """Yield the product's results; tally its intervals, at last after an audit of 20, and its unranked right items."""
    done: tuple[Session, Ranking] | None = None
    for session, ranking in play(labelled, draw, POLICIES["suggested"], ROUNDS):
        done = session, ranking
        _tally(tallies, ALL, labelled, ranking, draw)
        unranked.append(1 - float(np.isin(labelled.ids[draw.right], ranking.ids).mean()))
        marked = (labelled.flags(session.positives), labelled.flags(session.negatives))
        yield measured_within(draw, answer_of(labelled, ranking), *marked)
    if done is not None:
        _tally(tallies, LAST, labelled, done[1], draw)
        _tally(tallies, AUDIT, labelled, audited(done[0], labelled, draw.right), draw)


def _tally(
    tallies: dict[tuple[str, str], Tally], when: str, labelled: LabelledCatalog, ranking: Any, draw: Draw
) -> None:
    for measure, true in truth(labelled, ranking, draw.right).items():
        tallies[when, measure].count(getattr(ranking, measure), true)
