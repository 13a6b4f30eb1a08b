"""The types `Model`, which answers a user's marks, and `Answer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.research.quality.labelled_catalog import FIRST, Draw, LabelledCatalog

NEVER = -np.inf
"""The score of items that are never returned."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model. matched: (n,) bool, by its own cut, or None; scores: (n,), higher is better, or None."""

    matched: NDArray[np.bool_] | None = None
    scores: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Model:
    """A way to answer a user's marks.

    description: for tables; answer: called with a LabelledCatalog and a Draw. cut: the score above which items match;
    None if it differs for every answer, or if the model has no matches. A model without a cut suggests nothing.
    """

    description: str
    answer: Callable[[LabelledCatalog, Draw], Answer]
    cut: float | None = None


def training(labelled: LabelledCatalog, draw: Draw) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the rows to train on, marked and unchecked, and whether each is positive."""
    ids = np.concatenate([draw.positives, draw.negatives, draw.unchecked])
    return labelled.rows(ids), np.arange(len(ids)) < len(draw.positives)


def first_page(labelled: LabelledCatalog, draw: Draw, scores: NDArray[np.floating[Any]]) -> Answer:
    """Return the 100 best unmarked items that the user may see; scores: (n,), higher is better."""
    scores = np.where(draw.inside, scores.astype(np.float64), NEVER)
    scores[labelled.rows(np.concatenate([draw.positives, draw.negatives]))] = NEVER
    matched = np.zeros(labelled.n, np.bool_)
    matched[np.argsort(-scores, kind="stable")[:FIRST]] = True
    return Answer(matched & (scores > NEVER), scores)
