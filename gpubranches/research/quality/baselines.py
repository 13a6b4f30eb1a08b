"""Baselines that learn from the same marks: linear models, forests, and what other programs do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from gpubranches.core.threads import one_thread
from gpubranches.research.quality.answers import Answer, first_page, training
from gpubranches.research.quality.labelled_catalog import Draw, LabelledCatalog

TREES = 100
"""Trees of the forests on embeddings."""
FEW = 10
"""Random negatives of the forest that sees few."""
LIGHT = 0.01
"""The small weight of a random negative, compared with a mark."""
EVEN = 0.5
"""The chance above which a forest matches."""


def rocchio(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Score by cosine with the positives' mean minus a quarter of the negatives' (Rocchio 1971, without a query)."""
    wanted = labelled.embeddings[labelled.rows(draw.positives)].mean(axis=0)
    if len(draw.negatives):
        wanted = wanted - 0.25 * labelled.embeddings[labelled.rows(draw.negatives)].mean(axis=0)
    return Answer(scores=labelled.embeddings @ wanted / labelled.lengths)


def centroid(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match items that are nearer to the positives' mean than to that of the negatives, marked and random.

    The score is half of the difference of the squared distances.
    """
    rows, y = training(labelled, draw)
    x = labelled.embeddings[rows]
    right, wrong = x[y].mean(axis=0), x[~y].mean(axis=0)
    scores = labelled.embeddings @ (right - wrong) - (right @ right - wrong @ wrong) / 2
    return Answer(scores > 0, scores)


def logistic_on_codes(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by logistic regression on the codes (C = 1, balanced), cut at 0."""
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    return _cut_at_zero(model, _scaled_codes(labelled), labelled, draw)


def linear_support_vectors_on_codes(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a linear support vector machine on the codes (C = 1, balanced), cut at 0."""
    return _cut_at_zero(SVC(kernel="linear", class_weight="balanced"), _scaled_codes(labelled), labelled, draw)


def radial_support_vectors_on_codes(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a support vector machine on the codes (RBF, C = 10, balanced), cut at 0."""
    rows, y = training(labelled, draw)
    x = _scaled_codes(labelled)
    scores = SVC(C=10, class_weight="balanced").fit(x[rows], y).decision_function(x)
    return Answer(scores > 0, scores)


def logistic(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by logistic regression (C = 10, balanced), cut at 0."""
    return _cut_at_zero(_logistic(), labelled.embeddings, labelled, draw)


def logistic_light(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by logistic regression (C = 10), cut at 0: a mark weighs 1, an unchecked negative a hundredth."""
    weights = np.ones(len(draw.positives) + len(draw.negatives) + len(draw.unchecked))
    weights[len(weights) - len(draw.unchecked) :] = LIGHT
    return _cut_at_zero(LogisticRegression(C=10, max_iter=1000), labelled.embeddings, labelled, draw, weights)


def linear_support_vectors(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a linear support vector machine (C = 1, balanced), cut at 0."""
    return _cut_at_zero(SVC(kernel="linear", class_weight="balanced"), labelled.embeddings, labelled, draw)


def two_stage_prototype(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Score all items by logistic regression (C = 10, balanced).

    Cut at the 10% quantile of the scores that models of four folds give to the positives they did not see.
    """
    rows, y = training(labelled, draw)
    x = labelled.embeddings[rows]
    model = _logistic()
    folds = StratifiedKFold(min(4, len(draw.positives)))
    with one_thread():
        scores = model.fit(x, y).decision_function(labelled.embeddings)
        held_out = cross_val_predict(model, x, y, cv=folds, method="decision_function")
    return Answer(scores >= np.quantile(held_out[y], 0.1), scores)


def forest_of_few(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a random forest of the marks and 10 random negatives; see forest."""
    chosen = np.random.default_rng(draw.seed).permutation(draw.unchecked)[:FEW]
    return _forest(labelled, draw, chosen)


def forest(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a random forest of the marks and all random negatives.

    It has 100 trees and balanced classes; an item matches if its chance to be right is above a half. Source: the
    few-shot classifier of LightlyStudio, scikit-learn's forest with balanced classes on the embeddings.
    """
    return _forest(labelled, draw, draw.unchecked)


def qdrant_average_vector(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Return the first 100 by cosine with avg(positives) + (avg(positives) - avg(negatives)); marked ones left out.

    The embeddings are not centred; negatives are the marked ones. Source: Qdrant's documentation of the recommend
    query, strategy average_vector (qdrant.tech/documentation/concepts/explore).
    """
    right, wrong = _raw(labelled, draw.positives), _raw(labelled, draw.negatives)
    query = right.mean(axis=0)
    if len(wrong):
        query = 2 * query - wrong.mean(axis=0)
    return first_page(labelled, draw, _cosines(labelled, query[None])[:, 0])


def qdrant_best_score(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Return the first 100 by the best single mark: s(P) if P > N, else -s(N); marked items are left out.

    P and N are an item's largest cosines with a positive and with a marked negative, s(x) = (x / (1 + |x|) + 1) / 2.
    Source: Qdrant's recommend query, strategy best_score (qdrant.tech/documentation/concepts/explore); its
    documentation gives -N^2 for -s(N), which orders alike.
    """
    right = _cosines(labelled, _raw(labelled, draw.positives)).max(axis=1)
    if len(draw.negatives):
        wrong = _cosines(labelled, _raw(labelled, draw.negatives)).max(axis=1)
    else:
        wrong = np.full(labelled.n, -np.inf)
    scores = np.where(right > wrong, _sigmoid(right), -_sigmoid(np.maximum(wrong, -1)))
    return first_page(labelled, draw, scores)


def _logistic() -> Any:
    return LogisticRegression(C=10, class_weight="balanced", max_iter=1000)


def _scaled_codes(labelled: LabelledCatalog) -> NDArray[np.float32]:
    """Return the codes on -1..1, (n, d) float32."""
    return labelled.codes.astype(np.float32) / np.float32(127.5) - np.float32(1)


def _cut_at_zero(
    model: Any,
    x: NDArray[np.float32],
    labelled: LabelledCatalog,
    draw: Draw,
    weights: NDArray[np.float64] | None = None,
) -> Answer:
    """Fit a linear model to what `training` returns and cut its scores at 0.

    x: (n, ·) float32, the features of all rows; weights: (m,) float64 of the training rows, None for equal ones.
    """
    rows, y = training(labelled, draw)
    with one_thread():
        fitted = model.fit(x[rows], y, sample_weight=weights)
    scores = x @ fitted.coef_[0].astype(np.float32) + fitted.intercept_[0]
    return Answer(scores > 0, scores)


def _forest(labelled: LabelledCatalog, draw: Draw, unchecked: NDArray[np.int64]) -> Answer:
    ids = np.concatenate([draw.positives, draw.negatives, unchecked])
    y = np.arange(len(ids)) < len(draw.positives)
    model = RandomForestClassifier(TREES, class_weight="balanced", random_state=draw.seed, n_jobs=1)
    chances = model.fit(labelled.embeddings[labelled.rows(ids)], y).predict_proba(labelled.embeddings)[:, 1]
    return Answer(chances > EVEN, chances)


def _raw(labelled: LabelledCatalog, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the embeddings of ids before they were centred, (m, D) float32, unit rows."""
    raw: NDArray[np.float32] = labelled.embeddings[labelled.rows(ids)] + labelled.mean
    unit: NDArray[np.float32] = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return unit


def _cosines(labelled: LabelledCatalog, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosines of all items, before they were centred, with queries (m, D): (n, m) float32."""
    lengths = np.linalg.norm(queries, axis=1)
    found: NDArray[np.float32] = (labelled.embeddings @ queries.T + queries @ labelled.mean) / lengths
    return found


def _sigmoid(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    result: NDArray[np.floating[Any]] = (x / (1 + np.abs(x)) + 1) / 2
    return result
