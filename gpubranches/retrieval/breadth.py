"""How broad an idea is: a narrow and a broad linear model are fitted to the marks, and the marks decide between them.

A narrow idea (one breed) is told from its surroundings by what few items share; an embedding whitened by the whole
catalog shows it, and nearly every random item is wrong. A broad idea (all dogs) lies along the directions that
whitening evens out, and many of the random items are right. So the broad model sees the embeddings as they are, and all
its unchecked negatives together weigh as much as ten marks. Which of the two fits is a matter of evidence: how well
each foretells the marks that it has not seen, with a boundary where the catalog has a gap (`BoundaryPosterior`).

The likelier model is not always the better answer: where a boundary may lie at 30 items or at 3,000, the broad answer
can be nearly all wrong. So the two answers are compared by the F1 expected of each over both models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpubranches.learning.linear import LogisticRegression
from gpubranches.retrieval.boundary import BoundaryPosterior
from gpubranches.retrieval.scoring import CatalogScores, View
from gpubranches.retrieval.training_data import TrainingData

STRENGTH = 10.0
"""C of both models."""
BROAD_UNCHECKED, NARROW_UNCHECKED = 10.0, 100.0
"""What all unchecked negatives together weigh, in marks."""
TRUST = 4.0
"""How much farther a narrow model reaches along the direction of the words, where the words are listened to."""
TRUSTS = (2.0, 5.0, 12.0)
"""How much farther a broad model may reach along it; the marks decide."""
CHOSEN_WEIGHT = 0.3
"""Weight of a mark that a person chose on a page, since such items are easy ones. It is also the weight, for a broad
boundary, of a suggestion near the cut of a narrow answer, since another score than the boundary's chose it."""
FEW_BROAD, FEW_NARROW = 30.0, 10.0
"""Sizes below which an idea of its kind is unlikely."""
_TYPICAL = 0.15
_AGAINST_BROAD = 0.15
"""What each item marked wrong on a page says against a broad idea: its first page would be right."""
_FOR_WORDS, _FOR_BROAD_WORDS = 1.0, 2.0
"""What is expected before any mark: that words are meant, and that an idea put in words is broad."""
_RESERVE = 0.1
"""How much more F1 must be expected of the narrow answer where the marks speak for a broad idea."""
_CURVES, _COMPARED = 48, 16_384
"""Of each model, and about how many items: by which the two answers are compared."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LinearModel:
    """A linear model over centred vectors, the scores of the catalog by it, and where its right items end.

    weights: (D,) float32; uses_words: whether the words of the query contribute; evidence: how well the model predicts
    the marks, the log of their likelihood, comparable between models of the same marks.
    """

    weights: NDArray[np.float32]
    intercept: float
    scores: CatalogScores
    boundary: BoundaryPosterior
    uses_words: bool
    evidence: float


@dataclass(frozen=True)
class Breadth:
    """The broad model, and the log odds that it is the right one rather than the narrow one.

    answers: whether the answer is to be the broad model's, see `judge`.
    """

    broad: LinearModel
    log_odds: float
    answers: bool

    @property
    def is_broad(self) -> bool:
        """Whether the marks speak for the broad model."""
        return self.log_odds > 0

    @property
    def chance(self) -> float:
        """The chance that the idea is broad."""
        return 1 / (1 + math.exp(min(-self.log_odds, 700)))


def judge(view: View, data: TrainingData) -> Breadth:
    """Fit a broad and a narrow model to the marks, with and without the words, and weigh their evidence.

    The words are listened to where the marks are foretold better with them. A broad idea is answered by the broad model
    unless the narrow answer promises more, by `_RESERVE` of F1. Needs a negative of some kind.
    """
    broad = _fitted(view, data, None, broad=True)
    best = broad.evidence
    for trust in TRUSTS if data.words is not None and data.words.any() else ():
        with_words = _fitted(view, data, data.words, broad=True, trust=trust)
        if with_words.evidence + _FOR_WORDS > best:
            broad, best = with_words, with_words.evidence + _FOR_WORDS
    narrow = _fitted(view, data, data.words if broad.uses_words else None, broad=False)
    log_odds = broad.evidence - narrow.evidence
    log_odds -= _AGAINST_BROAD * int(data.chosen_negatives.sum())
    found = Breadth(broad, log_odds + (_FOR_BROAD_WORDS if broad.uses_words else 0.0), False)
    return replace(found, answers=found.is_broad and not _narrow_promises_more(view, data, found, narrow))


def reaching(matrix: NDArray[np.float32], direction: NDArray[np.float32], trust: float) -> NDArray[np.float32]:
    """Return matrix, (D, D), so that what comes out reaches farther along a direction, (D,).

    An L2 penalty on weights over x and over a feature g <x, u> is one on weights over x + (sqrt(1 + g^2) - 1) <x, u> u.
    """
    u = direction / max(float(np.linalg.norm(direction)), 1e-12)
    farther = float(np.hypot(1.0, trust)) - 1
    return (matrix + farther * np.outer(matrix @ u, u)).astype(np.float32)


def _fitted(
    view: View, data: TrainingData, words: NDArray[np.float32] | None, *, broad: bool, trust: float = TRUST
) -> LinearModel:
    marked = np.concatenate([data.positives, data.negatives])
    vectors = view.vectors(np.concatenate([marked, data.unchecked]))
    turn = np.eye(vectors.shape[1], dtype=np.float32) if broad else view.whitening.matrix_
    if words is not None:
        turn = reaching(turn, words, trust)
    weights = np.ones(len(vectors))
    weights[len(marked) :] = (BROAD_UNCHECKED if broad else NARROW_UNCHECKED) / max(1, len(data.unchecked))
    model = LogisticRegression(C=STRENGTH, balanced=False).fit(
        vectors @ turn, np.arange(len(vectors)) < len(data.positives), sample_weight=weights, left_out=len(marked)
    )
    over_vectors = turn @ model.coef_.astype(np.float32)
    scores = view.scores(over_vectors, model.intercept_)
    chosen = np.concatenate([data.fair, data.chosen_negatives])
    boundary = _boundary(scores, data, model.left_out_, chosen, broad)
    evidence = boundary.evidence(_TYPICAL * int(data.fair.sum()))
    if broad and data.near_cut.any():
        boundary = _boundary(scores, data, model.left_out_, chosen | data.near_cut, broad)
    return LinearModel(over_vectors, model.intercept_, scores, boundary, words is not None, evidence)


def _boundary(
    scores: CatalogScores, data: TrainingData, left_out: NDArray[np.float64], unfair: NDArray[np.bool_], broad: bool
) -> BoundaryPosterior:
    """Return where the right items end.

    left_out: (p + m,) float64, held-out scores of the marks; unfair: (p + m,) bool, marks of less weight.
    """
    _, open_scores, stands_for = scores.without(np.concatenate([data.positives, data.negatives]))
    weights, p = np.where(unfair, CHOSEN_WEIGHT, 1.0), len(data.positives)
    return BoundaryPosterior(few=FEW_BROAD if broad else FEW_NARROW).fit(
        open_scores,
        left_out[:p],
        left_out[p:],
        weights=stands_for,
        right_weights=weights[:p],
        wrong_weights=weights[p:],
    )


def _narrow_promises_more(view: View, data: TrainingData, found: Breadth, narrow: LinearModel) -> bool:
    """Return whether more F1 is expected of the narrow model's answer than of the broad one's, by `_RESERVE`."""
    marked = np.concatenate([data.positives, data.negatives])
    ids, by_broad, stands_for = found.broad.scores.thinned(marked, _COMPARED)
    by_narrow = view.vectors(ids) @ narrow.weights + np.float32(narrow.intercept)
    p = len(data.positives)
    answers = [scores >= model.boundary.cut(p) for model, scores in ((found.broad, by_broad), (narrow, by_narrow))]
    promised = np.zeros(2)
    for model, scores, chance in ((found.broad, by_broad, found.chance), (narrow, by_narrow, 1 - found.chance)):
        right = model.boundary.curves(_CURVES, scores) * stands_for
        for at, answer in enumerate(answers):
            size = float(stands_for @ answer) + right.sum(axis=1) + 2 * p
            promised[at] += chance * float(np.mean(2 * (right @ answer + p) / size))
    return bool(promised[1] > promised[0] + _RESERVE)
