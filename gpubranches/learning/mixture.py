"""Where scores of wanted items end among those of the background: a mixture of two parts, fitted by EM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WINDOW = 200
"""Best items, at first, that the mixture is fitted to; doubled until at least half of them are background."""
REACH = 0.25
"""How far, in spreads, the window reaches at least below the mean score expected of wanted items."""
_MEAN_WEIGHT = 8.0
_SPREAD_WEIGHT = 16.0
_ROUNDS = 30
_SINGLE, _GROUPED = 1000, 1000
"""Best scores that a mixture over weighted ones sees one by one, and groups, at most, that it sees of the rest."""


def mixture_cut(
    scores: NDArray[np.float32],
    mean: float,
    spread: float,
    n_marked: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> float | None:
    """Return the cut with the largest expected F1 under a two-part mixture of the best scores; None without scores.

    scores: (m,) of unmarked items, any order. Wanted items are normal, with `mean` and `spread` as a prior worth 8 and
    16 items; the background falls exponentially from the lowest score of the window: the `WINDOW` best items, twice as
    many until it reaches below the mean and at most half of it seems wanted. Fitted by EM; with r_i the chance that
    item i is wanted, the cut after i items has the expected F1 2 (sum_(j<=i) r_j + n_marked) / (i + sum_j r_j +
    2 n_marked) (the plug-in rule; Ye, Chai, Lee and Chieu, Optimizing F-measures, ICML 2012). It lies half way to the
    next score. weights: how many items each score stands for, (m,), None for one each; with them the best scores are
    seen one by one and the others in groups, of which there are the more the better the scores.
    """
    if len(scores) == 0:
        return None
    if weights is None:
        ordered, each = np.sort(scores)[::-1].astype(np.float64) / spread, np.ones(len(scores))
    else:
        ordered, each = _grouped(scores.astype(np.float64) / spread, weights)
    above = np.cumsum(each)
    size = WINDOW
    while True:
        rows = int(np.searchsorted(above, size)) + 1
        window, counts = ordered[:rows], each[:rows]
        floor = float(ordered[min(rows, len(ordered) - 1)])
        whole, deep = rows >= len(ordered), floor <= mean / spread - REACH
        if whole or deep:
            chances = _chances(window, counts, floor, mean / spread)
            if whole or (chances * counts).sum() / counts.sum() <= 0.5:
                break
        size *= 2
    found = np.cumsum(chances * counts)
    expected = 2 * (found + n_marked) / (above[:rows] + found[-1] + 2 * n_marked)
    last = int(expected.argmax())
    after = float(ordered[last + 1]) if last + 1 < len(ordered) else float(window[last])
    return (float(window[last]) + after) / 2 * spread


def _grouped(
    scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores in falling order and their weights: single ones, then the means of groups and their sums."""
    order = np.argsort(-scores, kind="stable")
    scores, weights, m = scores[order], weights[order], len(scores)
    starts = np.arange(min(m, _SINGLE))
    starts = np.union1d(starts, np.geomspace(_SINGLE, max(m, _SINGLE), _GROUPED).astype(np.intp))
    starts = starts[starts < m]
    sums = np.add.reduceat(weights, starts)
    return np.add.reduceat(scores * weights, starts) / sums, sums


def _chances(
    scores: NDArray[np.float64], each: NDArray[np.float64], floor: float, prior_mean: float
) -> NDArray[np.float64]:
    """Return the chance of each score (in spreads) above `floor` to be of the wanted part, by EM.

    each: how many items a score stands for.
    """
    above, n = scores - floor, float(each.sum())
    mean, spread, rate, share = prior_mean, 1.0, 2.0, 0.3
    for _ in range(_ROUNDS):
        inside = max(0.5 * math.erfc((floor - mean) / (spread * math.sqrt(2))), 1e-3)
        wanted = np.exp(-0.5 * ((scores - mean) / spread) ** 2) / (spread * math.sqrt(2 * math.pi) * inside)
        other = rate * np.exp(-rate * above)
        chances = share * wanted / (share * wanted + (1 - share) * other + 1e-300)
        weighed = chances * each
        total = float(weighed.sum())
        share = (total + 0.5) / (n + 1)
        rate = max((n - total) / max(float(((1 - chances) * each * above).sum()), 1e-9), 0.75)
        mean = (_MEAN_WEIGHT * prior_mean + float(weighed @ scores)) / (_MEAN_WEIGHT + total)
        spread = math.sqrt((_SPREAD_WEIGHT + float(weighed @ (scores - mean) ** 2)) / (_SPREAD_WEIGHT + total))
    return chances
