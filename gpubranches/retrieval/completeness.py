"""How complete an answer is: precision and recall of the matches, with 90% intervals, and the shift of its cut.

The uncertainty about the chance to be right is described by 4,000 curves, drawn from a prior (`curves`). The items of
an audit are drawn at random with known chances, and then a person marks them. They weigh the curves by how well each
predicted them (importance sampling). Precision and recall are quantiles over the curves: known items, plus binomial
draws of the others. The draw of an audit depends on the scores alone, so the weights need no correction for it (Rubin,
Inference and missing data, Biometrika 1976).
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.results import Interval, Ranking
from gpubranches.retrieval.breadth import Breadth
from gpubranches.retrieval.curves import CURVES, chances_by, draw_curves, expected_right, informative, right_beyond
from gpubranches.retrieval.random_checks import RandomChecks
from gpubranches.retrieval.sampling import Sample, inclusion, systematic

AUDITED = 20
"""The default number of items of an audit."""
CARRIED = 0.5
"""Weight of an audited item in the estimates of later rankings."""
SURE, LIKELY = 0.9, 0.5
"""The least chances to be right for the first two of TIERS."""
OUTSIDE_EVERY = 20
"""One audited item in this many is drawn from the items without a rank."""
_LEVELS = (0.05, 0.5, 0.95)
_FARTHEST = 30.0
_GRID = np.concatenate([np.linspace(-_FARTHEST, -8, 12), np.linspace(-7.75, 7.75, 63), np.linspace(8, _FARTHEST, 12)])

Floats = NDArray[np.float64]
ItemLabels = Mapping[int, int]
"""Marks: item id -> +1 (right) or -1 (wrong)."""


@dataclass(frozen=True)
class Evidence:
    """Audited items. distances: (m,) below the cut of their ranking, in its units; right: (m,) bool; weights: (m,)."""

    distances: Floats = field(default_factory=lambda: np.zeros(0))
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    weights: Floats = field(default_factory=lambda: np.zeros(0))


class Completeness:
    """The estimates of how complete the answer of one ranking is. It never changes.

    ranking: the result of the refine, before any later cut; marks: the marks it was refined with; universe: the number
    of items that could have been ranked; seed: of all draws; earlier: audited items of earlier rankings, which weigh
    half. The assumption is that the curve of this ranking falls as steeply around its cut as theirs did. breadth: the
    judged breadth of the idea, None if it was not judged. drawn: all items drawn so far for audits of this ranking.

    Recall refers to the whole universe: the matches, the ranked items below the cut, and an estimate of the right items
    that are not ranked. Before an audit these are .7% of the right items (90%: .05% to 9%), by the prior.
    """

    def __init__(
        self,
        ranking: Ranking,
        marks: ItemLabels,
        universe: int,
        *,
        seed: int = 0,
        earlier: Evidence | None = None,
        breadth: Breadth | None = None,
        drawn: Sample | None = None,
    ):
        self.ranking = ranking
        self.universe = universe
        self.marks = dict(marks)
        self.drawn = Sample() if drawn is None else drawn
        self._ids = ranking.ids
        self._row_of: dict[int, int] = {}
        self._earlier = Evidence() if earlier is None else earlier
        self._seed = seed
        self._unit_known = ranking.score_std is not None
        unit = ranking.score_std if ranking.score_std is not None else max(abs(ranking.threshold) / 4, 1e-3)
        self._unit = unit
        self._curves = draw_curves(breadth, ranking.ids, ranking.threshold, unit, self._unit_known, seed)
        if breadth is None and ranking.unlisted is not None:
            elsewhere = (1 + self._curves.missed) * self._right_unlisted(ranking.unlisted)
            self._curves = replace(self._curves, elsewhere=elsewhere)
        if breadth is None or not breadth.answers:
            self._curves = replace(self._curves, elsewhere=self._curves.elsewhere + self._right_beyond())

    def over(self, ranking: Ranking) -> Completeness:
        """Return the same estimates, with all audits, for a longer list by votes."""
        universe = max(self.universe, len(ranking.ids))
        return Completeness(ranking, self.marks, universe, seed=self._seed, earlier=self._earlier, drawn=self.drawn)

    def with_audit(self, sample: Sample) -> Completeness:
        """Return the same estimates with the items of a further audit, see `draw_audit`."""
        other = copy.copy(self)
        other.drawn = Sample(
            np.concatenate([self.drawn.ids, sample.ids]),
            np.concatenate([self.drawn.chances, sample.chances]),
            np.concatenate([self.drawn.anywhere, sample.anywhere]),
        )
        return other

    def _right_unlisted(self, votes: NDArray[np.float32]) -> Floats:
        """Return, for each curve, how many unlisted items with a vote are right, (CURVES,)."""
        left = max(0, self.ranking.candidates - int(np.count_nonzero(self.ranking.scores)))
        each, counts = np.unique(votes, return_counts=True)
        chances = chances_by(self._curves.shapes, self._distances(each))
        expected: Floats = self._curves.ceilings * (chances @ (left * counts / len(votes)))
        return expected

    def _right_beyond(self) -> Floats:
        """Return how many items below the end of the list are right by each curve, (CURVES,)."""
        unmarked = np.ones(len(self._ids), np.bool_)
        unmarked[self._rows(_keys(self.marks))] = False
        if not unmarked.any():
            return np.zeros(CURVES)
        last, listed = float(self._x[unmarked].max()), len(self._ids)
        if self.ranking.unlisted is not None:
            last = max(last, float(self._distances(self.ranking.unlisted).max()))
            listed = max(listed, self.ranking.candidates)
        return right_beyond(self._curves, last, listed, self.universe, self._seed)

    @cached_property
    def _x(self) -> Floats:
        return self._distances(self.ranking.scores)

    def _distances(self, scores: NDArray[np.float32]) -> Floats:
        """Return how far below the cut some scores lie, in units, (m,)."""
        gaps = self.ranking.threshold - scores.astype(np.float64)
        gaps /= self._unit
        return np.clip(gaps, -_FARTHEST, _FARTHEST, out=gaps)

    def draw_audit(
        self,
        count: int,
        marks: ItemLabels,
        outside: NDArray[np.int64],
        *,
        matched: NDArray[np.bool_] | None = None,
        recall: float | None = None,
    ) -> Sample:
        """Return at most `count` unmarked items to look at; `with_audit` adds them to those drawn before.

        marks: all present marks; outside: (m,) ids drawn uniformly from what is not ranked, of which one is taken for
        every 20 items. Ranked items are drawn by systematic sampling in the order of the ranking (Madow, On the theory
        of systematic sampling II, 1949). Their chances are proportional to what their marks tell about precision and
        recall by the present curves, see `curves.informative`. matched: (m,) bool, which items match, by default by the
        model's own cut.

        With recall, the sample is for the recall of the matches, expected to be near `recall`. Half of it are the best
        items that do not match, with certainty. For the others the chances are proportional to sqrt(p (1 - p)), the
        standard deviation of being right, times how far one right item moves the recall: `recall` if it does not match,
        else 1 - recall (Neyman, On the two different aspects of the representative method, 1934).
        """
        rng = np.random.default_rng([self._seed, 1, len(self.drawn.ids)])
        excluded = np.concatenate([_keys(marks), self.drawn.ids])
        unranked = outside[~among(outside, excluded) & ~among(outside, self._ids)][: count // OUTSIDE_EVERY]
        rows = np.delete(np.arange(len(self._ids)), self._rows(excluded))
        matched = self.ranking.matched if matched is None else matched
        if recall is None:
            sizes = self._informative(self._x[rows], matched, marks)
        else:
            chances = self._chances_near_cut(self._x[rows], marks)
            sizes = np.sqrt(chances * (1 - chances)) * np.where(matched[rows], 1 - recall, recall)
            sizes[np.flatnonzero(~matched[rows])[: count // 2]] = count * (sizes.sum() + 1)
        inclusions = inclusion(sizes, count - len(unranked))
        picked = systematic(inclusions, rng)
        left = max(1, self.universe - len(self._ids))
        ids = np.concatenate([self._ids[rows[picked]], unranked])
        drawn_with = np.concatenate([inclusions[picked], np.full(len(unranked), len(unranked) / left)])
        order = rng.permutation(len(ids))
        return Sample(ids[order], drawn_with[order], np.zeros(len(ids), np.bool_))

    def draw_anywhere(self, count: int, marks: ItemLabels, outside: NDArray[np.int64]) -> Sample:
        """Return up to `count` unmarked items of `outside`, random ids of what does not match."""
        ids = outside[~among(outside, np.concatenate([_keys(marks), self.drawn.ids]))][:count]
        share = len(ids) / max(1, self.universe - int(np.count_nonzero(self.ranking.matched)))
        return Sample(ids, np.full(len(ids), share), np.ones(len(ids), np.bool_))

    def random_checks(self, cut: Ranking, marks: ItemLabels) -> RandomChecks:
        """Return the marks of the items of `draw_anywhere` that lie below the cut.

        cut: the ranking with its present cut; marks: all present marks.
        """
        drawn = self.drawn.ids[self.drawn.anywhere]
        above = self._ids[cut.scores >= np.float32(cut.threshold)]
        labels = [marks[item] for item in drawn[~among(drawn, above)].tolist() if item in marks]
        wrong, right = labels.count(-1), labels.count(+1)
        left_out = int(np.count_nonzero(~among(_labelled(marks, -1), drawn)))
        return RandomChecks(max(0, self.universe - cut.total - left_out), wrong, right)

    def evidence(self, marks: ItemLabels) -> Evidence:
        """Return the audited items that are ranked and marked now, with those of earlier rankings.

        marks: the present marks that were made in an audit.
        """
        rows = self._audited(marks)
        right = np.array([marks[int(i)] > 0 for i in self._ids[rows]], np.bool_)
        return Evidence(
            np.concatenate([self._x[rows], self._earlier.distances]),
            np.concatenate([right, self._earlier.right]),
            np.concatenate([np.ones(len(rows)), CARRIED * self._earlier.weights]),
        )

    def estimate(
        self, matched: NDArray[np.bool_], marks: ItemLabels, audited: ItemLabels, *, joined: int = 0
    ) -> tuple[Interval | None, Interval | None]:
        """Return precision and recall of the matches, each (low, middle, high): 5%, 50% and 95% quantiles.

        matched: (m,) bool of the ranking's items; marks: all present marks; audited: those made in an audit; joined:
        the number of matching items that are not in the ranking, because they were marked right later. Both are None
        without a match. They are also None without an audit if the scores are votes or come from fewer than 4
        positives, because then nothing is known of the curve.
        """
        return self._estimates(matched, marks, audited, joined)[:2]

    def recall_alike(
        self, matched: NDArray[np.bool_], marks: ItemLabels, audited: ItemLabels, *, joined: int = 0
    ) -> Interval | None:
        """Return the recall of the matches among the items that the scores reveal; arguments and None as in `estimate`.

        It leaves out one term of the recall: right items that resemble nothing marked. Their number is an expectation
        that no mark near the answer can change; `random_checks` bounds it.
        """
        return self._estimates(matched, marks, audited, joined)[2]

    def _estimates(
        self, matched: NDArray[np.bool_], marks: ItemLabels, audited: ItemLabels, joined: int
    ) -> tuple[Interval | None, Interval | None, Interval | None]:
        """Return precision, recall, and the recall of `recall_alike`."""
        evidence = self.evidence(audited)
        if not (matched.any() or joined) or not (self._unit_known or len(evidence.weights)):
            return None, None, None
        weights = self._weights(evidence, audited)
        rng = np.random.default_rng([self._seed, 2])
        right = _labelled(marks, +1)
        right_rows, unmarked = self._rows(right), np.ones(len(self._ids), np.bool_)
        unmarked[self._rows(_keys(marks))] = False
        hits = self._draw_right(matched & unmarked, rng) + np.count_nonzero(matched[right_rows]) + joined
        below = self._draw_right(~matched & unmarked, rng) + np.count_nonzero(~matched[right_rows])
        marked_outside = len(right) - len(right_rows) - joined
        most_outside = np.maximum(self.universe - int(np.count_nonzero(matched | ~unmarked)) - below, 0)

        def recall(mean: Floats) -> Interval:
            outside = np.maximum(np.minimum(rng.poisson(mean), most_outside), marked_outside)
            return _quantiles(hits / np.maximum(hits + below + outside, 1), weights)

        precision = _quantiles(hits / (np.count_nonzero(matched) + joined), weights)
        whole = recall(self._curves.missed * (hits + below) + self._curves.elsewhere)
        return precision, whole, recall(self._curves.elsewhere)

    def chances(self, distances: Floats, audited: ItemLabels) -> Floats:
        """Return the mean chance to be right, (m,), at distances below the cut, in units, after the audit."""
        weights = self._weights(self.evidence(audited), audited)
        mean = (weights * self._curves.ceilings) @ chances_by(self._curves.shapes, _GRID)
        chances: Floats = np.interp(distances, _GRID, mean)
        return chances

    def chances_of(self, scores: NDArray[np.float32], audited: ItemLabels) -> Floats:
        """Return the mean chance to be right, (m,), of items by their scores, after the audit."""
        return self.chances(self._distances(scores), audited)

    def _chances_near_cut(self, distances: Floats, audited: ItemLabels) -> Floats:
        """Return `chances` without the curves of a wider idea, so that an audit looks near the cut first."""
        mean = (self._weights_near_cut(audited) * self._curves.ceilings) @ chances_by(self._curves.shapes, _GRID)
        chances: Floats = np.interp(distances, _GRID, mean)
        return chances

    def _informative(self, distances: Floats, matched: NDArray[np.bool_], marks: ItemLabels) -> Floats:
        """Return how much the marks of items tell about precision and recall of the matches, (m,)."""
        unmarked = np.ones(len(self._ids), np.bool_)
        unmarked[self._rows(_keys(marks))] = False
        rows = self._rows(_labelled(marks, +1))
        hits = self._expected(matched & unmarked) + np.count_nonzero(matched[rows])
        below = self._expected(~matched & unmarked) + np.count_nonzero(~matched[rows])
        recall = hits / np.maximum(hits + below + self._curves.elsewhere, 1)
        told = informative(self._curves, self._weights_near_cut(marks), (hits, recall), _GRID)
        by_distance: Floats = np.interp(distances, _GRID, told)
        return by_distance

    def _weights_near_cut(self, audited: ItemLabels) -> Floats:
        weights = np.where(self._curves.wider, 0.0, self._weights(self.evidence(audited), audited))
        near: Floats = weights / max(float(weights.sum()), 1e-300)
        return near

    def tiers(self, marks: ItemLabels, audited: ItemLabels) -> NDArray[np.uint8] | None:
        """Return the index in TIERS of each ranked item, (m,) uint8; None if the ranking has no score_std.

        Votes, and scores from fewer than 4 positives, have no unit in which the prior holds, and an audit of 20 items
        does not make up for it. An item is sure if its mean chance to be right is at least .9, likely if at least .5,
        else borderline. The chance falls with the score, so the unmarked items of a tier are consecutive. A marked item
        is sure if marked right, borderline if marked wrong.
        """
        if not self._unit_known:
            return None
        chances = self.chances(_GRID, audited)
        tiers = np.zeros(len(self._x), np.uint8)
        for level in (SURE, LIKELY):
            first = bisect_left(self._x, True, key=lambda x: float(np.interp(x, _GRID, chances)) < level)
            tiers[first:] += np.uint8(1)
        tiers[self._rows(_labelled(marks, +1))] = 0
        tiers[self._rows(_labelled(marks, -1))] = 2
        return tiers

    def matched(self, threshold: float) -> NDArray[np.bool_]:
        """Return which items of the ranking match at another threshold, (m,) bool; marks decide for marked items."""
        above = self.ranking.scores >= np.float32(threshold)
        above[self._rows(_labelled(self.marks, -1))] = False
        above[self._rows(_labelled(self.marks, +1))] = True
        return above

    def shift(self, lean: float, audited: ItemLabels) -> float:
        """Return by how much the cut moves down for recall (lean > 0) or up for precision (lean < 0), in score units.

        The cut with the largest expected F_beta, b = 4^lean, takes items whose chance to be right is above F / (1 +
        b^2) (Lipton, Elkan and Naryanaswamy, Optimal thresholding of classifiers to maximize F1 Measure, ECML 2014, for
        b = 1). F is the largest value over i of (1 + b^2) (sum of the first i chances + k) / (i + k + b^2 (sum of all
        chances + k)), with k the number of positives marked. The shift is the distance, by the curve, from the chance
        needed for b = 1 to the one for b. It never falls as lean grows.
        """
        unmarked = np.delete(self._x, self._rows(_keys(self.marks)))
        if lean == 0 or len(unmarked) == 0:
            return 0.0
        k = sum(label > 0 for label in self.marks.values())
        curve = self._middle_curve(audited)
        found = np.append(0.0, np.cumsum(chances_by(curve, np.sort(unmarked))[0])) + k
        sizes = np.arange(len(found)) + k
        needed = np.array([(found / (sizes + b * b * found[-1])).max() for b in (1.0, 4.0**lean)])
        at_cut, above, below, _ = curve[0]
        rest = at_cut - np.log(needed / (1 - needed))
        places = np.where(rest < 0, rest / above, rest / below)
        return float(places[1] - places[0]) * self._unit

    def _middle_curve(self, audited: ItemLabels) -> Floats:
        """Return the curve of the mean log odds and log slopes, with a straight tail, (1, 4) as in `chances_by`.

        The mean of all curves falls more slowly than any of them; with it, a cut for recall would include far too many
        items. A ceiling lowers all chances by the same factor and hardly moves a cut.
        """
        weights = self._weights(self.evidence(audited), audited)
        slopes = np.exp(weights @ np.log(self._curves.shapes[:, 1:3]))
        return np.array([[weights @ self._curves.shapes[:, 0], *slopes, 1.0]])

    def _audited(self, marks: ItemLabels) -> NDArray[np.intp]:
        drawn = self.drawn.ids[among(self.drawn.ids, _keys(marks))]
        return np.sort(self._rows(drawn))

    def _rows(self, items: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of those of the items that are ranked, in their order. Found rows are cached."""
        new = [item for item in items.tolist() if item not in self._row_of]
        if new:
            rows = np.flatnonzero(among(self._ids, np.array(new, np.int64)))
            found = dict(zip(self._ids[rows].tolist(), rows.tolist(), strict=True))
            self._row_of.update({item: found.get(item, -1) for item in new})
        rows = np.array([self._row_of[item] for item in items.tolist()], np.intp)
        return rows[rows >= 0]

    def _weights(self, evidence: Evidence, audited: ItemLabels) -> Floats:
        """Return the weights of the curves, (CURVES,), of sum 1."""
        chances = self._curves.ceilings[:, None] * chances_by(self._curves.shapes, evidence.distances)
        likelihood = np.where(evidence.right, chances, 1 - chances)
        logs = np.log(np.maximum(likelihood, 1e-300)) @ evidence.weights
        unranked = self.drawn.ids[~among(self.drawn.ids, self._ids)]
        right_unranked = [audited[int(i)] > 0 for i in unranked if int(i) in audited]
        if right_unranked:
            ranked = self._expected(np.ones(len(self._ids), np.bool_))
            missed = self._curves.missed * ranked + self._curves.elsewhere
            rate = np.clip(missed / max(1, self.universe - len(self._ids)), 1e-12, 1 - 1e-12)
            n_right, n = sum(right_unranked), len(right_unranked)
            logs = logs + n_right * np.log(rate) + (n - n_right) * np.log1p(-rate)
        weights = np.exp(logs - logs.max())
        total: Floats = weights / weights.sum()
        return total

    def _expected(self, rows: NDArray[np.bool_]) -> Floats:
        """Return how many of the rows each curve expects to be right, (CURVES,)."""
        return expected_right(self._curves, np.sort(self._x[rows], kind="stable"))  # sorted but for marked items

    def _draw_right(self, rows: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw by each curve how many of the rows are right, (CURVES,) int64."""
        n = int(np.count_nonzero(rows))
        return rng.binomial(n, np.clip(self._expected(rows) / max(1, n), 0, 1))


def _quantiles(values: Floats, weights: Floats) -> Interval:
    order = np.argsort(values, kind="stable")
    places = np.searchsorted(np.cumsum(weights[order]), _LEVELS)
    low, middle, high = (float(values[order[min(int(place), len(values) - 1)]]) for place in places)
    return low, middle, high


def _labelled(marks: ItemLabels, label: int) -> NDArray[np.int64]:
    return np.array([item for item, held in marks.items() if held == label], np.int64)


def _keys(marks: ItemLabels) -> NDArray[np.int64]:
    return np.fromiter(marks, np.int64, len(marks))
