"""What is compared: the product's own models and the baselines, each from a draw's marks to an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from gpubranches.evaluation.protocol import FIRST, UNCHECKED, Draw, World
from gpubranches.session import Session

_NEVER = -np.inf


@dataclass(frozen=True)
class Answer:
    """What a model returns. matched: (n,) bool, its own cut, or None; scores: (n,), higher is better, or None."""

    matched: NDArray[np.bool_] | None = None
    scores: NDArray[np.floating[Any]] | None = None


Model = Callable[[World, Draw], Answer]


def text_query(world: World, draw: Draw) -> Answer:
    """Return the first 100 of the query that the user began with."""
    scores = np.empty(world.n)
    scores[draw.order] = np.arange(world.n, 0, -1)
    return Answer(scores > world.n - FIRST, scores)


def rocchio(world: World, draw: Draw) -> Answer:
    """Score by cosine with the positives' mean minus a quarter of the negatives' (Rocchio 1971, without a query)."""
    wanted = world.embeddings[world.rows(draw.positives)].mean(axis=0)
    if len(draw.negatives):
        wanted = wanted - 0.25 * world.embeddings[world.rows(draw.negatives)].mean(axis=0)
    return Answer(scores=world.embeddings @ wanted / np.linalg.norm(world.embeddings, axis=1))


def logistic_on_codes(world: World, draw: Draw) -> Answer:
    """Score by logistic regression (C = 1, balanced) on the codes, scaled to -1..1."""
    rows, y = _training(world, draw)
    x = world.codes / np.float32(127.5) - 1
    return Answer(
        scores=LogisticRegression(class_weight="balanced", max_iter=1000).fit(x[rows], y).decision_function(x)
    )


def support_vectors_on_codes(world: World, draw: Draw) -> Answer:
    """Match by a support vector machine (RBF, C = 10, balanced) on the codes: no boxes, no embeddings."""
    rows, y = _training(world, draw)
    x = world.codes / np.float32(127.5) - 1
    scores = SVC(C=10, class_weight="balanced").fit(x[rows], y).decision_function(x)
    return Answer(scores > 0, scores)


def random_forest(world: World, draw: Draw) -> Answer:
    """Match by a random forest of 25 trees on the codes."""
    rows, y = _training(world, draw)
    forest = RandomForestClassifier(25, random_state=draw.seed, n_jobs=1).fit(world.codes[rows], y)
    return Answer(forest.predict(world.codes))


def two_stage_prototype(world: World, draw: Draw) -> Answer:
    """Score all items by logistic regression (C = 10, balanced) on the embeddings, centred.

    Cut at the 10% quantile of the scores that models of four folds give to the positives they did not see.
    """
    rows, y = _training(world, draw)
    x = world.embeddings[rows]
    model = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
    scores = model.fit(x, y).decision_function(world.embeddings)
    folds = StratifiedKFold(min(4, len(draw.positives)))
    held_out = cross_val_predict(model, x, y, cv=folds, method="decision_function")
    return Answer(scores >= np.quantile(held_out[y], 0.1), scores)


def refine(world: World, draw: Draw) -> Answer:
    """Match by the product's `Session.refine` as it is by default."""
    return _refined(world, draw)


def linear(world: World, draw: Draw) -> Answer:
    """Match by the second stage of `Session.refine` over the whole catalog, without boxes."""
    return _refined(world, draw, model="linear")


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


MODELS: dict[str, Model] = {
    "text query, first 100": text_query,
    "Rocchio": rocchio,
    "logistic regression on codes": logistic_on_codes,
    "support vector machine on codes": support_vectors_on_codes,
    "random forest of 25": random_forest,
    "decision branches": branch,
    "branch ensemble by votes": ensemble,
    "classic branches": branch_classic,
    "classic ensemble by votes": ensemble_classic,
    "two-stage prototype": two_stage_prototype,
    "refine, linear": linear,
    "refine (default)": refine,
}
"""Models by the name they have in the table."""


def _refined(world: World, draw: Draw, **options: Any) -> Answer:
    session: Session = world.session(draw.seed)
    session.mark(draw.positives, +1)
    session.mark(draw.negatives, -1)
    ranking = session.refine(random_negatives=UNCHECKED, **options)
    rows = world.rows(ranking.ids)
    matched, scores = np.zeros(world.n, np.bool_), np.full(world.n, _NEVER)
    matched[rows], scores[rows] = ranking.matched, ranking.scores
    return Answer(matched, scores)


def _training(world: World, draw: Draw) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the rows to train on and whether each is positive."""
    ids = np.concatenate([draw.positives, draw.negatives, draw.unchecked])
    return world.rows(ids), np.arange(len(ids)) < len(draw.positives)
