"""The product's own models, as `Session.refine` answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Ranking
from gpubranches.research.quality.answers import NEVER, Answer
from gpubranches.research.quality.labelled_catalog import FIRST, UNCHECKED, Draw, LabelledCatalog
from gpubranches.research.quality.measures import best_cut


def text_query(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Return the first 100 of the query that the user began with."""
    scores = _places(labelled, draw)
    return Answer(scores > len(draw.order) - FIRST, scores)


def text_query_oracle(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Return the result of the first query at its best cut, which only an oracle knows.

    Marked items count as marked when the cut is chosen.
    """
    scores = _places(labelled, draw)
    scores[labelled.rows(draw.positives)] = np.inf
    scores[labelled.rows(draw.negatives)] = NEVER
    return Answer(scores >= best_cut(scores, draw.right), scores)


def refined(*, told: bool = True, ranked: bool = True, **options: Any) -> Callable[[LabelledCatalog, Draw], Answer]:
    """Return a model that answers as `Session.refine` does with some options and defaults for the others.

    told: whether a refine gets the words of the query; ranked: whether the answer has scores.
    """

    def answer(labelled: LabelledCatalog, draw: Draw) -> Answer:
        query = draw.query if told else None
        ranking = labelled.marked(draw).refine(
            random_negatives=UNCHECKED, where=draw.concept.where, query=query, **options
        )
        found = answer_of(labelled, ranking)
        return found if ranked else Answer(found.matched)

    return answer


def by_votes(model: str, *, ranked: bool = True) -> Callable[[LabelledCatalog, Draw], Answer]:
    """Return the model that matches by the votes of a first stage alone, such as "ensemble"."""
    return refined(told=False, ranked=ranked, model=model, second_stage=False)


def answer_of(labelled: LabelledCatalog, ranking: Ranking) -> Answer:
    """Return a ranking as an answer over all rows of a LabelledCatalog; items that are not in it are never returned."""
    rows = labelled.rows(ranking.ids)
    matched, scores = np.zeros(labelled.n, np.bool_), np.full(labelled.n, NEVER)
    matched[rows], scores[rows] = ranking.matched, ranking.scores
    return Answer(matched, scores)


def _places(labelled: LabelledCatalog, draw: Draw) -> NDArray[np.float64]:
    """Return scores, (n,), by the places of items in the first query's answer; the last item has score 1."""
    scores = np.full(labelled.n, NEVER)
    scores[draw.order] = np.arange(len(draw.order), 0, -1)
    return scores
