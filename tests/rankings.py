"""Made-up rankings of a catalog, with the marks they were made with and what is right in truth."""

import numpy as np

from gpubranches.core.results import Ranking

N, RANKED = 6000, 800


def a_ranking(rng, *, spread=1.0, wanted=60, gap=2.0, positives=8, long_tail=False):
    """Return a ranking of RANKED of N items, cut at 0, its marks, and the ids that are right.

    long_tail: the scores of right items follow Student's t with 2 degrees of freedom, so some are at any depth.
    """
    right = rng.permutation(N)[:wanted]
    background = np.setdiff1d(np.arange(N), right)
    scores = np.empty(N, np.float32)
    scores[right] = gap / 2 + (rng.standard_t(2, wanted) if long_tail else rng.standard_normal(wanted))
    scores[background] = rng.exponential(0.6, N - wanted) - gap
    marked = right[np.argsort(-scores[right])][:positives]
    ids = np.argsort(-scores)[:RANKED]
    ids = np.concatenate([ids, np.setdiff1d(marked, ids)]).astype(np.int64)
    matched = (scores[ids] >= 0) | np.isin(ids, marked)
    ranking = Ranking(ids, scores[ids] * spread, matched, int(matched.sum()), RANKED, 0.0, score_std=spread)
    return ranking, dict.fromkeys(marked.tolist(), 1), set(right.tolist())
