"""Rounds of marking: the simulated user marks 20 more items after each refine, chosen by a policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Ranking
from gpubranches.core.tie_order import best_first
from gpubranches.errors import UsageError
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.comparison import Comparison, Progress, empty_values, measured_within, require_draws
from gpubranches.research.quality.concepts import Concept, Ids
from gpubranches.research.quality.labelled_catalog import UNCHECKED, Draw, LabelledCatalog
from gpubranches.research.quality.models import MODELS
from gpubranches.research.quality.product_models import answer_of
from gpubranches.research.quality.users import DEFAULT_USER, User
from gpubranches.service import Session

START = 8
"""The largest number of items that the user marks right on the first page."""
PAGE = 20
"""The number of items that the user marks in each round."""


@dataclass(frozen=True)
class Policy:
    """A way to choose the next items to mark.

    description: for tables; origin: of the marks in the log; choose: returns at most 20 unmarked ids of a session after
    its refine.
    """

    description: str
    origin: str
    choose: Callable[[Session, np.random.Generator], Ids]


def suggested(session: Session, rng: np.random.Generator) -> Ids:
    """Return the session's suggestions."""
    return session.suggest(PAGE)


def best(session: Session, rng: np.random.Generator) -> Ids:
    """Return the best-ranked."""
    ranking = _ranking(session)
    return ranking.ids[_unmarked(session, ranking)][:PAGE]


def random_matched(session: Session, rng: np.random.Generator) -> Ids:
    """Return random items of the returned set."""
    ranking = _ranking(session)
    return rng.permutation(ranking.ids[_unmarked(session, ranking) & ranking.matched])[:PAGE]


def uncertain(session: Session, rng: np.random.Generator) -> Ids:
    """Return the items nearest to the cut, on both sides."""
    ranking = _ranking(session)
    open_ = _unmarked(session, ranking)
    ids, scores = ranking.ids[open_], ranking.scores[open_]
    return ids[best_first(-np.abs(scores - np.float32(ranking.threshold)), ids, PAGE)]


POLICIES: dict[str, Policy] = {
    "suggested": Policy("what the program suggests", "suggestion", suggested),
    "best": Policy("the best-ranked", "user", best),
    "random": Policy("random ones of the returned set", "user", random_matched),
    "uncertain": Policy("those nearest to the cut", "suggestion", uncertain),
}
"""Policies by their name on the command line and in the JSON."""
BROAD = ("suggested", "forest-embeddings-10", "logistic-embeddings", "logistic-light")
"""Policies, and models with a cut, played on groups of classes unless others are named."""


def choose_policies(names: str) -> dict[str, Policy | Model]:
    """Return the policies named in a comma list, in its order, and models with a cut; "all" names every policy.

    Raises UsageError with the known names for an unknown name or an empty list.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted == ["all"]:
        return dict(POLICIES)
    known: dict[str, Policy | Model] = dict(POLICIES)
    known |= {name: model for name, model in MODELS.items() if model.cut is not None}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageError(
            f"policies: expected all, or some of {', '.join(known)}; got {', '.join(unknown) or repr(names)}"
        )
    return {name: known[name] for name in wanted}


def play(labelled: LabelledCatalog, draw: Draw, policy: Policy, rounds: int) -> Iterator[tuple[Session, Ranking]]:
    """Yield the session and its ranking after the first refine and after that of every round.

    The same draw and policy give the same rounds. If no unmarked item is left to choose, the round adds no mark.
    """
    session = labelled.marked(draw)
    refine = partial(session.refine, random_negatives=UNCHECKED, query=draw.query, where=draw.concept.where)
    yield session, refine()
    rng = np.random.default_rng(draw.seed)
    for _ in range(rounds):
        labelled.mark_by_truth(session, policy.choose(session, rng), draw.right, policy.origin)
        yield session, refine()


def play_model(labelled: LabelledCatalog, draw: Draw, model: Model, rounds: int) -> Iterator[tuple[Draw, Answer]]:
    """Yield a draw with the marks so far and the answer of a model with a cut, before every round and after the last.

    The model suggests the 20 unmarked items whose scores lie nearest to its cut, of those that the user may see. The
    same draw gives the same rounds.
    """
    for done in range(rounds + 1):
        answer = model.answer(labelled, draw)
        yield draw, answer
        if done < rounds:
            draw = _marked(draw, labelled, _nearest_to_cut(labelled, draw, model, answer))


def play_rounds(
    labelled: LabelledCatalog,
    concepts: Sequence[Concept],
    *,
    policies: Mapping[str, Policy | Model] = POLICIES,
    rounds: int = 5,
    positives: int = START,
    seeds: int = 2,
    user: User = DEFAULT_USER,
    progress: Progress | None = None,
) -> Comparison:
    """Play every policy from the same draws; the places of the Comparison are the rounds, 0 before the first.

    policies: those of the program, and models with a cut, each of which is trained again on its own suggestions.
    progress: called with the draws done and their number. Raises UsageError if every draw had to be skipped.
    """
    shape = (rounds + 1, len(concepts), seeds)
    values = empty_values(policies, shape)
    for number, (at, seed, draw) in enumerate(labelled.draws(list(concepts), positives, seeds, user)):
        for name, policy in policies.items():
            if draw is not None:
                for done, found in enumerate(_measured_rounds(labelled, draw, policy, rounds)):
                    for measure, value in found.items():
                        values[name][measure][done, at, seed] = value
        if progress is not None:
            progress(number + 1, math.prod(shape[1:]))
    require_draws(values, 0)
    return Comparison(tuple(range(rounds + 1)), seeds, tuple(concept.name for concept in concepts), values)


def _measured_rounds(
    labelled: LabelledCatalog, draw: Draw, policy: Policy | Model, rounds: int
) -> Iterator[dict[str, float]]:
    """Yield the measures of every round; "seconds" is of choosing, marking and refining."""
    start = time.perf_counter()
    for answer, positives, negatives in _answers(labelled, draw, policy, rounds):
        seconds = time.perf_counter() - start
        found = measured_within(draw, answer, labelled.flags(positives), labelled.flags(negatives))
        yield {**found, "seconds": seconds}
        start = time.perf_counter()


def _answers(
    labelled: LabelledCatalog, draw: Draw, policy: Policy | Model, rounds: int
) -> Iterator[tuple[Answer, Ids, Ids]]:
    """Yield every answer with the items marked right and wrong before it."""
    if isinstance(policy, Model):
        for marked, answer in play_model(labelled, draw, policy, rounds):
            yield answer, marked.positives, marked.negatives
        return
    for session, ranking in play(labelled, draw, policy, rounds):
        yield answer_of(labelled, ranking), session.positives, session.negatives


def _nearest_to_cut(labelled: LabelledCatalog, draw: Draw, model: Model, answer: Answer) -> Ids:
    if model.cut is None or answer.scores is None:
        raise UsageError("rounds: expected a model with a cut of its own, got one that suggests nothing")
    open_ = draw.inside & ~labelled.flags(np.concatenate([draw.positives, draw.negatives]))
    distances = np.abs(answer.scores[open_] - model.cut).astype(np.float32)
    return labelled.ids[open_][best_first(-distances, labelled.ids[open_], PAGE)]


def _marked(draw: Draw, labelled: LabelledCatalog, ids: Ids) -> Draw:
    """Return a draw with more items marked by the truth; they no longer serve as unchecked negatives."""
    right = draw.right[labelled.rows(ids)]
    return replace(
        draw,
        positives=np.concatenate([draw.positives, ids[right]]),
        negatives=np.concatenate([draw.negatives, ids[~right]]),
        unchecked=draw.unchecked[~np.isin(draw.unchecked, ids)],
    )


def _ranking(session: Session) -> Ranking:
    if session.ranking is None:
        raise UsageError("expected a refine before this, got none; mark items and refine first")
    return session.ranking


def _unmarked(session: Session, ranking: Ranking) -> NDArray[np.bool_]:
    return ~np.isin(ranking.ids, np.concatenate([session.positives, session.negatives]))
