"""The product's own models, as `Session.refine` answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Ranking
from gpubranches.research.quality.answers import NEVER, Answer
from gpubranches.research.quality.measures import best_cut
from gpubranches.research.quality.protocol import FIRST, UNCHECKED, Draw, World


def text_query(world: World, draw: Draw) -> Answer:
    """Return the first 100 of the query that the user began with."""
    scores = _places(world, draw)
    return Answer(scores > len(draw.order) - FIRST, scores)


def text_query_oracle(world: World, draw: Draw) -> Answer:
    """Return what the query that the user began with finds by its best cut, which only an oracle knows.

    The marks count as what they are when the cut is chosen.
    """
    scores = _places(world, draw)
    scores[world.rows(draw.positives)] = np.inf
    scores[world.rows(draw.negatives)] = NEVER
    return Answer(scores >= best_cut(scores, draw.right), scores)


def refine(world: World, draw: Draw) -> Answer:
    """Match by `Session.refine` as it is by default, told what the user asked for."""
    return _refined(world, draw, query=draw.query)


def refine_unasked(world: World, draw: Draw) -> Answer:
    """Match by `Session.refine` from the marks alone."""
    return _refined(world, draw)


def linear(world: World, draw: Draw) -> Answer:
    """Match by the second stage of `Session.refine` over the whole catalog, without boxes."""
    return _refined(world, draw, model="linear", query=draw.query)


def ensemble(world: World, draw: Draw) -> Answer:
    """Match by the votes of the branch ensemble alone."""
    return _refined(world, draw, second_stage=False)


def branch(world: World, draw: Draw) -> Answer:
    """Match by the single decision branches alone."""
    return Answer(_refined(world, draw, model="branch", second_stage=False).matched)


def branch_classic(world: World, draw: Draw) -> Answer:
    """Match by the papers' own decision branches alone."""
    return Answer(_refined(world, draw, model="branch-classic", second_stage=False).matched)


def ensemble_classic(world: World, draw: Draw) -> Answer:
    """Match by the votes of the papers' own ensemble alone."""
    return _refined(world, draw, model="ensemble-classic", second_stage=False)


def tree(world: World, draw: Draw) -> Answer:
    """Match by the decision tree alone: scikit-learn's prediction, by way of boxes."""
    return Answer(_refined(world, draw, model="tree", second_stage=False).matched)


def forest(world: World, draw: Draw) -> Answer:
    """Match by the votes of the random forest of 25 alone: scikit-learn's prediction, by way of boxes."""
    return _refined(world, draw, model="forest", second_stage=False)


def answer_of(world: World, ranking: Ranking) -> Answer:
    """Return a ranking as an answer over all rows of a World; items that are not in it are never returned."""
    rows = world.rows(ranking.ids)
    matched, scores = np.zeros(world.n, np.bool_), np.full(world.n, NEVER)
    matched[rows], scores[rows] = ranking.matched, ranking.scores
    return Answer(matched, scores)


def _refined(world: World, draw: Draw, **options: Any) -> Answer:
    ranking = world.marked(draw).refine(random_negatives=UNCHECKED, where=draw.concept.where, **options)
    return answer_of(world, ranking)


def _places(world: World, draw: Draw) -> NDArray[np.float64]:
    """Return scores, (n,), by the places of items in the first query's answer, the last found at 1."""
    scores = np.full(world.n, NEVER)
    scores[draw.order] = np.arange(len(draw.order), 0, -1)
    return scores
