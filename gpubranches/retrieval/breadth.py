"""How broad an idea is: a narrow and a broad linear model are fitted to the marks, and evidence decides between them.

A narrow idea (one breed) differs from its surroundings by what few items share. An embedding whitened by the whole
catalog shows it, and nearly every random item is wrong. A broad idea (all dogs) differs from others in directions that
whitening scales down, and many random items are right. So the broad model uses the embeddings without whitening, and
all its unchecked negatives together weigh as much as ten marks. The evidence for a model is how well it predicts marks
that it has not seen, with a boundary that prefers gaps of the catalog (`BoundaryPosterior`).

The likelier model does not always give the better answer: if 30 items may be right or 3,000, nearly all of the broad
answer may be wrong. So the expected F1 of both answers over both models is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.stages import begin
from gpubranches.learning.linear import LogisticRegression
from gpubranches.retrieval.boundary import BoundaryPosterior
from gpubranches.retrieval.scoring import CatalogScores, View
from gpubranches.retrieval.training_data import TrainingData

STRENGTH = 10.0
"""Inverse strength C of the penalty of both models."""
BROAD_UNCHECKED, NARROW_UNCHECKED = 10.0, 100.0
"""Weight of all unchecked negatives together, in marks."""
TRUST = 4.0
"""How much a narrow model is stretched along the direction of the words, if it uses them."""
TRUSTS = (2.0, 5.0, 12.0)
"""How much a broad model may be stretched along it; evidence decides."""
CHOSEN_WEIGHT = 0.3
"""Weight of a mark on an item that a person chose on a page, because such items are easy to classify.

Suggestions near the cut of a narrow answer have the same weight for a broad boundary, because another score chose them.
"""
FEW_BROAD, FEW_NARROW = 30.0, 10.0
"""Sizes below which a broad and a narrow idea are unlikely."""
_TYPICAL = 0.15
_AGAINST_BROAD = 0.15
"""Log odds against a broad idea for each item marked wrong on a page: the first page of a broad idea is right."""
_FOR_WORDS, _FOR_BROAD_WORDS = 1.0, 2.0
"""Log odds before any mark: that the words are meant, and that an idea expressed in words is broad."""
_RESERVE = 0.1
"""How much larger the expected F1 of the narrow answer must be to replace the answer of a likely broad idea."""
_CURVES, _COMPARED = 48, 16_384
"""Curves of each model, and about how many items, by which the two answers are compared."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LinearModel:
    """A linear model over centred vectors, its scores of the catalog, and the posterior of its boundary.

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
    """The broad model, and the log odds of the broad model against the narrow one.

    answers: whether the broad model gives the answer, see `judge`.
    """

    broad: LinearModel
    log_odds: float
    answers: bool

    @property
    def is_broad(self) -> bool:
        """Whether the broad model is the likelier one."""
        return self.log_odds > 0

    @property
    def chance(self) -> float:
        """The chance that the idea is broad."""
        return 1 / (1 + math.exp(min(-self.log_odds, 700)))


def judge(view: View, data: TrainingData) -> Breadth:
    """Fit a broad and a narrow model to the marks, with and without the words, and compare their evidence.

    The words are used if the marks are predicted better with them. The broad model gives the answer of a broad idea
    unless the expected F1 of the narrow answer is larger by `_RESERVE`. Needs a marked or unchecked negative.
    """
    broad = _fit_broad(view, data)
    most = broad.evidence
    for trust in TRUSTS if data.words is not None and data.words.any() else ():
        with_words = _fit_broad(view, data, data.words, trust)
        if with_words.evidence + _FOR_WORDS > most:
            broad, most = with_words, with_words.evidence + _FOR_WORDS
    narrow = _fit_narrow(view, data, data.words if broad.uses_words else None)
    log_odds = broad.evidence - narrow.evidence
    log_odds -= _AGAINST_BROAD * int(data.chosen_negatives.sum())
    found = Breadth(broad, log_odds + (_FOR_BROAD_WORDS if broad.uses_words else 0.0), False)
    return replace(found, answers=found.is_broad and not _narrow_promises_more(view, data, found, narrow))


def reaching(matrix: NDArray[np.float32], direction: NDArray[np.float32], trust: float) -> NDArray[np.float32]:
    """Return matrix, (D, D), with its output stretched along a direction, (D,).

    An L2 penalty on weights over x and over an added feature g <x, u> equals one on weights over x + (sqrt(1 + g^2) -
    1) <x, u> u, where u is the unit direction and g is `trust`.
    """
    u = direction / max(float(np.linalg.norm(direction)), 1e-12)
    farther = float(np.hypot(1.0, trust)) - 1
    return (matrix + farther * np.outer(matrix @ u, u)).astype(np.float32)


def _fit_broad(
    view: View, data: TrainingData, words: NDArray[np.float32] | None = None, trust: float = TRUST
) -> LinearModel:
    """Fit the broad model; for its boundary, suggestions near the cut of a narrow answer have less weight."""
    basis = np.diag(view.scales)
    if words is not None:
        basis = reaching(basis, words, trust)
    model, weights, scores = _fit(view, data, basis, BROAD_UNCHECKED)
    boundary = _boundary(scores, data, model.left_out_, _chosen(data), FEW_BROAD)
    evidence = boundary.evidence(_TYPICAL * int(data.fair.sum()))
    if data.near_cut.any():
        boundary = _boundary(scores, data, model.left_out_, _chosen(data) | data.near_cut, FEW_BROAD)
    return LinearModel(weights, model.intercept_, scores, boundary, words is not None, evidence)


def _fit_narrow(view: View, data: TrainingData, words: NDArray[np.float32] | None) -> LinearModel:
    basis = view.whitening.matrix_ if words is None else reaching(view.whitening.matrix_, words, TRUST)
    model, weights, scores = _fit(view, data, basis, NARROW_UNCHECKED)
    boundary = _boundary(scores, data, model.left_out_, _chosen(data), FEW_NARROW)
    evidence = boundary.evidence(_TYPICAL * int(data.fair.sum()))
    return LinearModel(weights, model.intercept_, scores, boundary, words is not None, evidence)


def _fit(
    view: View, data: TrainingData, basis: NDArray[np.float32], unchecked_weight: float
) -> tuple[LogisticRegression, NDArray[np.float32], CatalogScores]:
    """Fit a linear model over vectors @ basis; return it, its weights and its scores of the catalog."""
    begin("breadth")
    n_marked = len(data.positives) + len(data.negatives)
    vectors = view.vectors(np.concatenate([data.positives, data.negatives, data.unchecked]))
    sample_weight = np.ones(len(vectors))
    sample_weight[n_marked:] = unchecked_weight / max(1, len(data.unchecked))
    positive = np.arange(len(vectors)) < len(data.positives)
    model = LogisticRegression(C=STRENGTH, balanced=False).fit(
        vectors @ basis, positive, sample_weight=sample_weight, left_out=n_marked
    )
    weights = basis @ model.coef_.astype(np.float32)
    return model, weights, view.scores(weights, model.intercept_)


def _chosen(data: TrainingData) -> NDArray[np.bool_]:
    """Return which marks are on items that a person chose, (p + m,) bool."""
    return np.concatenate([data.fair, data.chosen_negatives])


def _boundary(
    scores: CatalogScores, data: TrainingData, left_out: NDArray[np.float64], easy: NDArray[np.bool_], few: float
) -> BoundaryPosterior:
    """Return the posterior of the boundary of right items.

    left_out: (p + m,) float64, held-out scores of the marks; easy: (p + m,) bool, marks of less weight; few: the size
    below which the idea is unlikely.
    """
    _, unmarked_scores, stands_for = scores.without(data.marked)
    weights, p = np.where(easy, CHOSEN_WEIGHT, 1.0), len(data.positives)
    return BoundaryPosterior(few=few).fit(
        unmarked_scores,
        left_out[:p],
        left_out[p:],
        weights=stands_for,
        right_weights=weights[:p],
        wrong_weights=weights[p:],
    )


def _narrow_promises_more(view: View, data: TrainingData, found: Breadth, narrow: LinearModel) -> bool:
    """Return whether the expected F1 of the narrow answer is larger than that of the broad one by `_RESERVE`."""
    ids, by_broad, stands_for = found.broad.scores.thinned(data.marked, _COMPARED)
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
