"""Labels for unmarked items, by their codes: what the boxes are to hold where votes alone decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.models import NEGATIVE_WEIGHT
from gpubranches.refine.rescore import Rescorer
from gpubranches.refine.spread import code_spread_of, code_vectors

if TYPE_CHECKING:
    from gpubranches.backends import Backend
    from gpubranches.catalog import Catalog

STRENGTH = 30.0
"""C of the linear model over codes."""
REACHED = 1000
"""Best items whose scores are spread among neighbours at first; those of them that fall below the cut seem wrong."""
EASIER, SHARE = 0.0, 0.4
"""Of the cut of those scores: on 32 bytes right items lie less apart from the rest, and a later cut keeps more out."""
LARGEST_SHARE = 10
"""More than one item in this many is no group that stands out: such labels are not believed."""

Ids = NDArray[np.int64]


def pseudo_labels(
    backend: Backend,
    catalog: Catalog,
    positives: Ids,
    negatives: Ids,
    unchecked: Ids,
    negative_weight: float = NEGATIVE_WEIGHT,
) -> tuple[Ids, Ids]:
    """Return ids of unmarked items that seem right, and of those that seem wrong though a linear model likes them.

    A linear model over the locally whitened codes of the marks (positives, negatives) and of random items (unchecked,
    which count 1 / negative_weight of a negative) finds the best unmarked items of the whole catalog; their scores are
    spread among neighbours and cut as those of the second stage are (`Rescorer`), on codes in place of embeddings. 8 to
    22 marks and 1,000 random items say little of where a concept ends; the items of the catalog around it say where the
    density ends (learning from positive and unlabelled examples; Liu, Dai, Li, Lee and Yu, Building Text Classifiers
    Using Positive and Unlabeled Examples, ICDM 2003, name the scheme "two-step"). (m,) int64 each, the same on every
    backend; none without a negative to learn from, nor where more than a tenth of the catalog would be right.
    """
    wrong = np.concatenate([negatives, unchecked])
    if len(wrong) == 0:
        return wrong, wrong

    def vectors(ids: Ids) -> NDArray[np.float32]:
        return code_vectors(catalog, ids)

    mean, whitening = code_spread_of(catalog)
    model = Rescorer(C=STRENGTH, negative_weight=negative_weight, reached=REACHED, easier=EASIER, share=SHARE).fit(
        vectors(positives), vectors(wrong), mean, whitening, n_checked=len(negatives)
    )
    marked = np.concatenate([positives, negatives])
    best = backend.score(model.weights_, tier="codes", limit=4 * REACHED + len(marked)).ids
    best = best[~np.isin(best, marked)]
    scores = (vectors(best) - mean) @ model.weights_ + np.float32(model.intercept_)
    spread, threshold, _ = model.spread(best, scores.astype(np.float32), positives, negatives, vectors)
    right: NDArray[np.bool_] = spread >= np.float32(threshold)
    if np.count_nonzero(right) > catalog.n // LARGEST_SHARE:
        return best[:0], best[:0]
    near = np.arange(len(best)) < max(REACHED, 2 * int(np.count_nonzero(right)))
    return best[right], best[near & ~right]
