"""Precision, recall, F1 and average precision over a whole catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def f1(returned: Flags, right: Flags) -> float:
    """Return 2 |returned and right| / (|returned| + |right|) of flags (n,); 0 where nothing is right or returned."""
    total = int(np.count_nonzero(returned)) + int(np.count_nonzero(right))
    return 2 * int(np.count_nonzero(returned & right)) / total if total else 0.0


def precision_recall(returned: Flags, right: Flags) -> tuple[float, float]:
    """Return the share of `returned` that is right, and of `right` that is returned; 0 of an empty set."""
    hits = int(np.count_nonzero(returned & right))
    return hits / max(1, int(np.count_nonzero(returned))), hits / max(1, int(np.count_nonzero(right)))


def best_f1(scores: NDArray[np.floating], right: Flags) -> float:
    """Return the largest F1 over all cuts of a ranking, which only an oracle knows.

    scores: (n,), higher first, -inf never returned; a cut does not separate equal scores. right: (n,) bool.
    """
    return float(_by_cut(scores, right)[1].max(initial=0.0))


def best_cut(scores: NDArray[np.floating], right: Flags) -> float:
    """Return the score from which items are returned by the cut of `best_f1`, inf if there are none."""
    cuts, values = _by_cut(scores, right)
    return float(cuts[values.argmax()]) if len(cuts) else np.inf


def average_precision(order: NDArray[np.integer], right: Flags) -> float:
    """Return the mean over the right items of the precision at the place of each.

    order: (k,) rows of `right`, best first; of a list cut at k, the mean is over min(k, right items) of them.
    """
    hits = right[order]
    possible = min(len(order), int(np.count_nonzero(right)))
    return float((hits.cumsum() / np.arange(1, len(order) + 1))[hits].sum() / max(1, possible))


def precision_at(scores: NDArray[np.floating], right: Flags, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the interpolated precision at levels of recall: the largest of all cuts that reach the level.

    scores: (n,), higher first, -inf never returned; a cut does not part equal scores. levels: (m,) in 0..1. 0 if no cut
    reaches the level. Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval (2008), 8.4.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True) & (ordered > -np.inf))
    hits = np.cumsum(right[order])[ends]
    best = np.maximum.accumulate((hits / (ends + 1))[::-1])[::-1]
    recall = hits / max(1, int(np.count_nonzero(right)))
    reached = np.searchsorted(recall, levels - 1e-9)
    found: NDArray[np.float64] = np.append(best, 0.0)[reached]
    return found


def mean_and_error(values: NDArray[Any]) -> tuple[float, float]:
    """Return the mean of values, (q,), and its standard error; NaN if there are too few."""
    if not len(values):
        return float("nan"), float("nan")
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def _by_cut(scores: NDArray[np.floating], right: Flags) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Return the scores at which a list can be cut, descending, and the F1 of each cut."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(ordered[1:] < ordered[:-1], True) & (ordered > -np.inf)
    hits = np.cumsum(right[order])
    values: NDArray[np.float64] = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(hits[-1])))
    return ordered[ends], values[ends]
