"""The product's own models, as `Session.refine` answers."""

from __future__ import annotations

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
    """Return what the first query finds by its best cut, which only an oracle knows.

    The marks count as what they are when the cut is chosen.
    """
    scores = _places(labelled, draw)
    scores[labelled.rows(draw.positives)] = np.inf
    scores[labelled.rows(draw.negatives)] = NEVER
    return Answer(scores >= best_cut(scores, draw.right), scores)


def refine(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by `Session.refine` with default options and the words of the query."""
    return _refined(labelled, draw, query=draw.query)


def refine_unasked(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by `Session.refine` from the marks alone."""
    return _refined(labelled, draw)


def linear(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the second stage of `Session.refine` over the whole catalog, without boxes."""
    return _refined(labelled, draw, model="linear", query=draw.query)


def ensemble(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the votes of the branch ensemble alone."""
    return _refined(labelled, draw, second_stage=False)


def branch(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the single decision branches alone."""
    return Answer(_refined(labelled, draw, model="branch", second_stage=False).matched)


def branch_classic(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the papers' own decision branches alone."""
    return Answer(_refined(labelled, draw, model="branch-classic", second_stage=False).matched)


def ensemble_classic(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the votes of the papers' own ensemble alone."""
    return _refined(labelled, draw, model="ensemble-classic", second_stage=False)


def tree(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the decision tree alone: scikit-learn's prediction, by way of boxes."""
    return Answer(_refined(labelled, draw, model="tree", second_stage=False).matched)


def forest(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by the votes of the random forest of 25 alone: scikit-learn's prediction, by way of boxes."""
    return _refined(labelled, draw, model="forest", second_stage=False)


def answer_of(labelled: LabelledCatalog, ranking: Ranking) -> Answer:
    """Return a ranking as an answer over all rows of a LabelledCatalog; items that are not in it are never returned."""
    rows = labelled.rows(ranking.ids)
    matched, scores = np.zeros(labelled.n, np.bool_), np.full(labelled.n, NEVER)
    matched[rows], scores[rows] = ranking.matched, ranking.scores
    return Answer(matched, scores)


def _refined(labelled: LabelledCatalog, draw: Draw, **options: Any) -> Answer:
    ranking = labelled.marked(draw).refine(random_negatives=UNCHECKED, where=draw.concept.where, **options)
    return answer_of(labelled, ranking)


def _places(labelled: LabelledCatalog, draw: Draw) -> NDArray[np.float64]:
    """Return scores, (n,), by the places of items in the first query's answer; the last item has score 1."""
    scores = np.full(labelled.n, NEVER)
    scores[draw.order] = np.arange(len(draw.order), 0, -1)
    return scores
