"""Pseudo-labels of unmarked items by their codes, for models whose votes alone decide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.tie_order import splitmix64
from gpubranches.retrieval.breadth import judge
from gpubranches.retrieval.catalog_statistics import code_statistics, code_vectors
from gpubranches.retrieval.rescore import Rescorer
from gpubranches.retrieval.scoring import CodeView
from gpubranches.retrieval.training_data import TrainingData

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines import Backend

STRENGTH = 30.0
"""Inverse strength C of the penalty of the linear model over codes."""
REACHED = 1000
"""Number of best items whose scores are propagated among neighbours at first; those below the cut are labelled
wrong."""
EASIER, SHARE = 0.0, 0.4
"""Parameters of the cut, see `Rescorer`. With 32 bytes per item, right items are less separated from the rest, so the
cut is stricter."""
BELIEVED = 1.0
"""Log odds of a broad idea from which its labels, which may be many, are used."""
LARGEST_SHARE = 10
"""If more than one item in this many is labelled right, no narrow group stands out, and the labels are not used."""
MOST_LABELS = 2000
"""The largest number of labels of each kind for a broad idea, drawn at random."""

_DRAWN_FROM = 200_000
"""The least number of items that labels are drawn from. Of at least twice as many, a random part is used."""

Ids = NDArray[np.int64]


def pseudo_labels(backend: Backend, catalog: Catalog, data: TrainingData, seed: int) -> tuple[Ids, Ids]:
    """Return ids of unmarked items that are probably right, and of high-scoring ones that are probably wrong.

    8 to 22 marks and 1,000 random items say little about where an idea ends. The items of the catalog around it show
    where the density ends (learning from positive and unlabelled examples; Liu, Dai, Li, Lee and Yu, Building Text
    Classifiers Using Positive and Unlabeled Examples, ICDM 2003, call the scheme "two-step"). For a broad idea
    (`breadth.judge`, on codes) the labels lie above and below the boundary of the broad model. For a narrow idea a
    linear model over the locally whitened codes of the marks and of random items finds the best unmarked items of the
    whole catalog. Their scores are propagated among neighbours and cut as in the second stage (`Rescorer`), with codes
    in place of embeddings.

    Both arrays are (m,) int64 and the same on every backend. They are empty if there is no negative to learn from, and
    if too many items would be right. seed: of the draw of labels if there are many.
    """
    if len(data.wrong) == 0:
        return data.wrong, data.wrong
    breadth = judge(CodeView(backend, catalog), replace(data, words=None))
    if breadth.log_odds > BELIEVED:
        ids, scores, _ = breadth.broad.scores.without(data.marked)
        return labels_around(ids, scores >= breadth.broad.boundary.cut(len(data.positives)), data.marked, seed)
    return _narrow_labels(backend, catalog, data)


def labels_around(ids: Ids, matched: NDArray[np.bool_], marked: Ids, seed: int) -> tuple[Ids, Ids]:
    """Return up to `MOST_LABELS` unmarked ids that match, and as many that do not, drawn at random, ascending."""
    rng = np.random.default_rng([seed % 2**32, len(marked)])
    few = max(1, len(ids) // _DRAWN_FROM)
    if few > 1:
        some = splitmix64(ids) % np.uint64(few) == rng.integers(few)
        ids, matched = ids[some], matched[some]
    unmarked = ~among(ids, marked)
    sides = (ids[unmarked & matched], ids[unmarked & ~matched])
    right, wrong = (np.sort(rng.permutation(np.sort(side))[:MOST_LABELS]) for side in sides)
    return right, wrong


def _narrow_labels(backend: Backend, catalog: Catalog, data: TrainingData) -> tuple[Ids, Ids]:
    positives, negatives = data.positives, data.negatives

    def vectors(ids: Ids) -> NDArray[np.float32]:
        return code_vectors(catalog, ids)

    mean, whitening = code_statistics(catalog)
    model = Rescorer(C=STRENGTH, negative_weight=data.negative_weight, reached=REACHED, easier=EASIER, share=SHARE).fit(
        vectors(positives), vectors(data.wrong), mean, whitening, n_checked=len(negatives)
    )
    best = backend.score(model.weights_, tier="codes", limit=4 * REACHED + len(data.marked)).ids
    best = best[~among(best, data.marked)]
    own = (vectors(best) - mean) @ model.weights_ + np.float32(model.intercept_)
    scores, threshold, _ = model.propagate(best, own.astype(np.float32), positives, negatives, vectors)
    right: NDArray[np.bool_] = scores >= np.float32(threshold)
    if np.count_nonzero(right) > catalog.n // LARGEST_SHARE:
        return best[:0], best[:0]
    near = np.arange(len(best)) < max(REACHED, 2 * int(np.count_nonzero(right)))
    return best[right], best[near & ~right]
