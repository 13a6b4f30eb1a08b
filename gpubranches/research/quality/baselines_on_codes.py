"""Baselines that learn from the marks on the codes, without boxes and without embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from gpubranches.core.threads import one_thread
from gpubranches.research.quality.answers import Answer, training
from gpubranches.research.quality.labelled_catalog import Draw, LabelledCatalog


def logistic(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by logistic regression (C = 1, balanced), cut at 0."""
    return _cut_at_zero(LogisticRegression(class_weight="balanced", max_iter=1000), labelled, draw)


def linear_support_vectors(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a linear support vector machine (C = 1, balanced), cut at 0."""
    return _cut_at_zero(SVC(kernel="linear", class_weight="balanced"), labelled, draw)


def radial_support_vectors(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match by a support vector machine (RBF, C = 10, balanced), cut at 0."""
    rows, y = training(labelled, draw)
    x = _scaled(labelled)
    scores = SVC(C=10, class_weight="balanced").fit(x[rows], y).decision_function(x)
    return Answer(scores > 0, scores)


def _cut_at_zero(model: Any, labelled: LabelledCatalog, draw: Draw) -> Answer:
    rows, y = training(labelled, draw)
    x = _scaled(labelled)
    with one_thread():
        fitted = model.fit(x[rows], y)
    scores = x @ fitted.coef_[0].astype(np.float32) + fitted.intercept_[0]
    return Answer(scores > 0, scores)


def _scaled(labelled: LabelledCatalog) -> NDArray[np.float32]:
    """Return the codes on -1..1, (n, d) float32."""
    return labelled.codes.astype(np.float32) / np.float32(127.5) - np.float32(1)
