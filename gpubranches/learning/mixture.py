"""The cut between scores of wanted items and of the background, by a mixture of two components fitted by EM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WINDOW = 200
"""Number of best items that the mixture is fitted to at first; doubled until at least half of them are background."""
REACH = 0.25
"""The least reach of the window below the expected mean score of wanted items, in standard deviations."""
_MEAN_WEIGHT = 8.0
_STD_WEIGHT = 16.0
_ROUNDS = 30
_SINGLE, _GROUPED = 1000, 1000
"""The number of best weighted scores that are used singly, and the largest number of groups of the others."""


def mixture_cut(
    scores: NDArray[np.float32],
    mean: float,
    std: float,
    n_marked: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> float | None:
    """Return the cut with the largest expected F1 by a two-component mixture of the best scores; None without scores.

    scores: (m,) of unmarked items, any order. Scores of wanted items are normal, with `mean` and `std` as a prior that
    weighs as much as 8 and 16 items. The background falls exponentially from the lowest score of the window. The window
    has the `WINDOW` best items; it doubles until it reaches below the mean and at most half of it is probably wanted.
    The mixture is fitted by EM. With r_i the chance that item i is wanted, the cut after i items has the expected F1 2
    (sum_(j<=i) r_j + n_marked) / (i + sum_j r_j + 2 n_marked) (the plug-in rule; Ye, Chai, Lee and Chieu, Optimizing
    F-measures, ICML 2012). The cut lies half way to the next score. weights: (m,), how many items each score
    represents, None for one each. With weights the best scores enter one by one and the others in groups, which are
    smaller for better scores.
    """
    if len(scores) == 0:
        return None
    if weights is None:
        ordered, each = np.sort(scores)[::-1].astype(np.float64) / std, np.ones(len(scores))
    else:
        ordered, each = _grouped(scores.astype(np.float64) / std, weights)
    above = np.cumsum(each)
    size = WINDOW
    while True:
        rows = int(np.searchsorted(above, size)) + 1
        window, counts = ordered[:rows], each[:rows]
        lowest = float(ordered[min(rows, len(ordered) - 1)])
        whole, deep = rows >= len(ordered), lowest <= mean / std - REACH
        if whole or deep:
            chances = _chances(window, counts, lowest, mean / std)
            if whole or (chances * counts).sum() / counts.sum() <= 0.5:
                break
        size *= 2
    found = np.cumsum(chances * counts)
    expected = 2 * (found + n_marked) / (above[:rows] + found[-1] + 2 * n_marked)
    last = int(expected.argmax())
    after = float(ordered[last + 1]) if last + 1 < len(ordered) else float(window[last])
    return (float(window[last]) + after) / 2 * std


def _grouped(
    scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores in descending order and their weights: single ones, then the means and the weights of groups."""
    order = np.argsort(-scores, kind="stable")
    scores, weights, m = scores[order], weights[order], len(scores)
    starts = np.arange(min(m, _SINGLE))
    starts = np.union1d(starts, np.geomspace(_SINGLE, max(m, _SINGLE), _GROUPED).astype(np.intp))
    starts = starts[starts < m]
    sums = np.add.reduceat(weights, starts)
    return np.add.reduceat(scores * weights, starts) / sums, sums


def _chances(
    scores: NDArray[np.float64], each: NDArray[np.float64], lowest: float, prior_mean: float
) -> NDArray[np.float64]:
    """Return the chance that each score above `lowest` is of a wanted item, by EM. Scores are in standard deviations.

    each: how many items a score stands for.
    """
    above, n = scores - lowest, float(each.sum())
    mean, std, rate, share = prior_mean, 1.0, 2.0, 0.3
    for _ in range(_ROUNDS):
        inside = max(0.5 * math.erfc((lowest - mean) / (std * math.sqrt(2))), 1e-3)
        wanted = np.exp(-0.5 * ((scores - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi) * inside)
        other = rate * np.exp(-rate * above)
        chances = share * wanted / (share * wanted + (1 - share) * other + 1e-300)
        weighed = chances * each
        total = float(weighed.sum())
        share = (total + 0.5) / (n + 1)
        rate = max((n - total) / max(float(((1 - chances) * each * above).sum()), 1e-9), 0.75)
        mean = (_MEAN_WEIGHT * prior_mean + float(weighed @ scores)) / (_MEAN_WEIGHT + total)
        std = math.sqrt((_STD_WEIGHT + float(weighed @ (scores - mean) ** 2)) / (_STD_WEIGHT + total))
    return chances
