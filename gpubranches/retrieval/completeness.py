"""How complete an answer is: precision and recall of what matches, with 90% intervals, and the cut moved by a wish.

The chance that an unmarked item is right is taken to be a logistic curve of its distance from the cut, with one slope
above it and one below, times a ceiling: where the embeddings do not tell what is wanted from what looks like it, the
best scores are no surer than others. What is not known of the curve is 4,000 curves drawn from a prior; items of the
audit, drawn at random with known chances and then looked at, weigh the curves by how well each foretold them
(importance sampling). Precision and recall are then quantiles over the curves of sums of what is known and of binomial
draws of what is not. The draw decides by scores alone which items are looked at, so the weights need no correction for
it (Rubin, Inference and missing data, Biometrika 1976).

Where the breadth of the idea was judged (`breadth.judge`), the curves of a broad idea are drawn from the posterior over
its boundary, some of them without trust in the gaps of the catalog. Some of the curves of a narrow idea, as many as the
chance that it is broad, then say that most of what is right is not ranked at all.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.results import Interval, Ranking
from gpubranches.retrieval.breadth import Breadth
from gpubranches.retrieval.curves import CURVES, chances_by, draw_boundaries, right_unranked
from gpubranches.retrieval.sampling import inclusion, systematic

AUDITED = 20
"""Items of an audit, unless another number is asked for."""
CARRIED = 0.5
"""What an audited item weighs for the ranking after the one that it was drawn for."""
SURE, LIKELY = 0.9, 0.5
"""Least chances to be right of the first two of TIERS."""
OUTSIDE_EVERY = 20
"""One audited item in this many is drawn from what is not ranked."""
_BINS = 48
_LEVELS = (0.05, 0.5, 0.95)
_PRIOR = np.array([[-0.3, 2.0], [0.35, 0.8], [1.0, 0.8]])
"""Mean and standard deviation of: the log odds at the cut; the log of each slope, a spread of held-out scores."""
_VAGUE = np.array([[-1.0, 2.5], [0.0, 1.0], [0.0, 1.0]])
"""The same where the unit of the scores tells nothing: votes, or too few marks to know the spread of their scores."""
_LOOK_ALIKES = 0.1
"""Chance that the ceiling may lie anywhere; it is 1 otherwise."""
_MISSED, _MISSED_BROADLY = (-5.3, 1.3), (-6.5, 1.2)
"""Mean and standard deviation of the log odds that a right item is not ranked at all; or lies far below all curves."""
_STEEPER = (0.5, 0.7)
"""Mean and standard deviation of the log of how much steeper such a curve is, above the boundary and below it."""
_SPOTLESS, _NEARLY = 0.3, 0.95
"""The chance that all is right far above the boundary, where nearly all is, and that nothing is missed below it."""
_WIDER = np.array([[1.5, 1.0], [-1.5, 0.5], [-1.5, 0.5]])
"""The prior of the curves of a narrow idea that turns out broad: what is ranked is right, well below the cut, too."""
_LEAST_BROAD = 0.1
"""The chance at least that an idea is broader than its answer, before an audit tells."""
_FARTHEST = 30.0
_GRID = np.concatenate([np.linspace(-_FARTHEST, -8, 12), np.linspace(-7.75, 7.75, 63), np.linspace(8, _FARTHEST, 12)])

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Audited items. distances: (m,) below the cut of their ranking, in its units; right: (m,) bool; weights: (m,)."""

    distances: Floats = field(default_factory=lambda: np.zeros(0))
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    weights: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Sample:
    """Items drawn for an audit. ids: (m,) int64, in the order to show; chances: (m,), each item's to be drawn."""

    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    chances: Floats = field(default_factory=lambda: np.zeros(0))


class Completeness:
    """What can be known of how complete the answer of one ranking is. It never changes.

    ranking: as it was refined; marks: item id -> +1 or -1, those it was refined with; universe: items that could have
    been ranked; seed: of the draws; earlier: audited items of the rankings before, which weigh half. They are taken to
    tell of this ranking's curve what they told of that one's: that it falls as steeply around its own cut. breadth:
    what the marks say of how broad the idea is, None where it was not judged. drawn: all items drawn so far for audits
    of this ranking.

    Recall refers to the whole universe: what matches, what is ranked below the cut, and an estimate of what is not
    ranked: before an audit .7% of the right ones, give or take as the prior does (90%: .05% to 9%).
    """

    def __init__(
        self,
        ranking: Ranking,
        marks: Mapping[int, int],
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
        self._ids = ranking.ids
        self._places: dict[int, int] = {}
        self._earlier = Evidence() if earlier is None else earlier
        self._seed = seed
        self._known = ranking.score_std is not None
        unit = ranking.score_std if ranking.score_std is not None else max(abs(ranking.threshold) / 4, 1e-3)
        self._unit = unit
        self.drawn = Sample() if drawn is None else drawn
        prior = _PRIOR if self._known else _VAGUE
        rng = np.random.default_rng([seed, 0])
        curves = prior[:, 0] + prior[:, 1] * rng.standard_normal((CURVES, 3))
        curves[:, 1:] = np.exp(curves[:, 1:])
        self._curves = curves
        mean, deviation = _MISSED_BROADLY if breadth is not None and breadth.answers else _MISSED
        self._missed = np.exp(mean + deviation * rng.standard_normal(CURVES))
        anywhere, ceilings = rng.random((2, CURVES))
        self._ceilings = np.where(anywhere < _LOOK_ALIKES, ceilings, 1.0)
        self._elsewhere: Floats = np.zeros(CURVES)
        self._wider = np.zeros(CURVES, np.bool_)
        if breadth is not None and breadth.answers:
            self._follow_boundary(breadth, rng)
        elif breadth is not None:
            self._allow_for_more(breadth, rng)
        elif ranking.unlisted is not None:
            self._elsewhere = (1 + self._missed) * self._right_unlisted(ranking.unlisted)

    def over(self, ranking: Ranking) -> Completeness:
        """Return the same, with all that was drawn, for the list by votes that reaches further down."""
        universe = max(self.universe, len(ranking.ids))
        return Completeness(ranking, self.marks, universe, seed=self._seed, earlier=self._earlier, drawn=self.drawn)

    def with_audit(self, sample: Sample) -> Completeness:
        """Return the same with the items of a further audit, see `draw_audit`."""
        other = copy.copy(self)
        other.drawn = Sample(
            np.concatenate([self.drawn.ids, sample.ids]), np.concatenate([self.drawn.chances, sample.chances])
        )
        return other

    def _follow_boundary(self, breadth: Breadth, rng: np.random.Generator) -> None:
        """Draw all curves from the posterior over the boundary of a broad idea."""
        draws = draw_boundaries(breadth, rng)
        steeper = np.exp(_STEEPER[0] + _STEEPER[1] * rng.standard_normal((CURVES, 2)))
        at_cut = (self.ranking.threshold - draws[:, 0]) / draws[:, 1]
        self._curves[:, 0] = at_cut * np.where(at_cut > 0, steeper[:, 1], steeper[:, 0])
        self._curves[:, 1:] = (self._unit / draws[:, 1])[:, None] * steeper
        spotless = rng.random((2, CURVES)) < _SPOTLESS
        self._ceilings = np.where(spotless[0] & (draws[:, 2] > _NEARLY), 1.0, draws[:, 2])
        self._missed = np.where(spotless[1], 0.0, self._missed)
        self._elsewhere = right_unranked(breadth, draws, self._ids)

    def _allow_for_more(self, breadth: Breadth, rng: np.random.Generator) -> None:
        """Let some curves of a narrow idea be those of a broad one, of which the ranking holds a part."""
        chance = max(_LEAST_BROAD, breadth.chance)
        some = np.flatnonzero(rng.random(CURVES) < chance)
        curves = _WIDER[:, 0] + _WIDER[:, 1] * rng.standard_normal((len(some), 3))
        curves[:, 1:] = np.exp(curves[:, 1:])
        self._curves[some] = curves
        self._wider[some] = True
        self._elsewhere[some] = right_unranked(breadth, draw_boundaries(breadth, rng), self._ids)[some]

    def _right_unlisted(self, votes: NDArray[np.float32]) -> Floats:
        """Return how many of the items with a vote that are not listed are right by each curve, (CURVES,)."""
        left = max(0, self.ranking.candidates - int(np.count_nonzero(self.ranking.scores)))
        each, counts = np.unique(votes, return_counts=True)
        chances = chances_by(self._curves, self._distances(each))
        expected: Floats = self._ceilings * (chances @ (left * counts / len(votes)))
        return expected

    @cached_property
    def _x(self) -> Floats:
        return self._distances(self.ranking.scores)

    def _distances(self, scores: NDArray[np.float32]) -> Floats:
        """Return how far below the cut scores are, in units, (m,)."""
        gaps = self.ranking.threshold - scores.astype(np.float64)
        gaps /= self._unit
        return np.clip(gaps, -_FARTHEST, _FARTHEST, out=gaps)

    def draw_audit(self, count: int, marks: Mapping[int, int], outside: NDArray[np.int64]) -> Sample:
        """Return unmarked items to look at, at most `count`; `with_audit` adds them to those drawn before.

        marks: those that stand; outside: (m,) ids drawn uniformly from what is not ranked, of which one is taken for 20
        items. Ranked items are drawn by systematic sampling in the order of the ranking with chances in proportion to
        the deviation of a right-or-wrong draw, sqrt(p (1 - p)), under the curve as it is known: most where mistakes
        are likely, and spread evenly over the scores (Madow, On the theory of systematic sampling II, 1949).
        """
        rng = np.random.default_rng([self._seed, 1, len(self.drawn.ids)])
        taken = np.concatenate([_keys(marks), self.drawn.ids])
        beyond = outside[~among(outside, taken) & ~among(outside, self._ids)][: count // OUTSIDE_EVERY]
        rows = np.delete(np.arange(len(self._ids)), self._rows(taken))
        chances = self._chances_within(self._x[rows], marks)
        inclusions = inclusion(np.sqrt(chances * (1 - chances)), count - len(beyond))
        picked = systematic(inclusions, rng)
        left = max(1, self.universe - len(self._ids))
        ids = np.concatenate([self._ids[rows[picked]], beyond])
        odds = np.concatenate([inclusions[picked], np.full(len(beyond), len(beyond) / left)])
        order = rng.permutation(len(ids))
        return Sample(ids[order], odds[order])

    def evidence(self, marks: Mapping[int, int]) -> Evidence:
        """Return the audited items that are ranked and marked by now, with those of the rankings before.

        marks: those that stand and were made as an audit.
        """
        rows = self._audited(marks)
        right = np.array([marks[int(i)] > 0 for i in self._ids[rows]], np.bool_)
        return Evidence(
            np.concatenate([self._x[rows], self._earlier.distances]),
            np.concatenate([right, self._earlier.right]),
            np.concatenate([np.ones(len(rows)), CARRIED * self._earlier.weights]),
        )

    def estimate(
        self, matched: NDArray[np.bool_], marks: Mapping[int, int], audited: Mapping[int, int]
    ) -> tuple[Interval | None, Interval | None]:
        """Return precision and recall of what matches, each (low, middle, high): 5%, 50% and 95% quantiles.

        matched: (m,) bool of the ranking's items; marks: all that stand, audited: those made as an audit. None without
        a match, and without an audit where the scores are votes or of fewer than 4 positives: their curve may be any.
        """
        evidence = self.evidence(audited)
        if not matched.any() or not (self._known or len(evidence.weights)):
            return None, None
        weights = self._weights(evidence, audited)
        rng = np.random.default_rng([self._seed, 2])
        right = _labelled(marks, +1)
        good, open_ = self._rows(right), np.ones(len(self._ids), np.bool_)
        open_[self._rows(_keys(marks))] = False
        hits = self._right(matched & open_, rng) + np.count_nonzero(matched[good])
        below = self._right(~matched & open_, rng) + np.count_nonzero(~matched[good])
        found_outside = len(right) - len(good)
        open_outside = self.universe - int(np.count_nonzero(matched | ~open_))
        mean: Floats = self._missed * (hits + below) + self._elsewhere
        outside = np.minimum(rng.poisson(mean), np.maximum(open_outside - below, 0))
        outside = np.maximum(outside, found_outside)
        precision = _quantiles(hits / np.count_nonzero(matched), weights)
        return precision, _quantiles(hits / np.maximum(hits + below + outside, 1), weights)

    def chances(self, distances: Floats, audited: Mapping[int, int]) -> Floats:
        """Return the mean chance to be right at distances below the cut, (m,), in spreads, as the audit leaves it."""
        weights = self._weights(self.evidence(audited), audited)
        mean = (weights * self._ceilings) @ chances_by(self._curves, _GRID)
        chances: Floats = np.interp(distances, _GRID, mean)
        return chances

    def _chances_within(self, distances: Floats, audited: Mapping[int, int]) -> Floats:
        """Return `chances` by the curves around the cut alone: an audit is to look there first."""
        weights = np.where(self._wider, 0.0, self._weights(self.evidence(audited), audited))
        mean = (weights / max(float(weights.sum()), 1e-300) * self._ceilings) @ chances_by(self._curves, _GRID)
        chances: Floats = np.interp(distances, _GRID, mean)
        return chances

    def tiers(self, marks: Mapping[int, int], audited: Mapping[int, int]) -> NDArray[np.uint8] | None:
        """Return each ranked item's place in TIERS, (m,) uint8; None where the ranking tells no spread.

        Votes, and scores of fewer than 4 positives, have no unit in which curves were known beforehand, and an audit
        of 20 does not make up for it. An item is sure with a mean chance to be right of at least .9, likely with .5,
        else borderline. The chance falls with the score, so unmarked items of a tier lie together. A marked item is
        what its mark says: sure if right, borderline if wrong.
        """
        if not self._known:
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
        """Return which items of the ranking match at another threshold, (m,) bool; marked ones by their mark."""
        above = self.ranking.scores >= np.float32(threshold)
        above[self._rows(_labelled(self.marks, -1))] = False
        above[self._rows(_labelled(self.marks, +1))] = True
        return above

    def shift(self, lean: float, audited: Mapping[int, int]) -> float:
        """Return how far below the own cut the one lies that leans to recall (lean > 0) or to precision (lean < 0).

        In units of the scores. The cut of the largest expected F_beta, b = 4^lean, takes items whose chance to be right
        is above F / (1 + b^2) (Lipton, Elkan and Naryanaswamy, Optimal thresholding of classifiers to maximize F1
        Measure, ECML 2014, there for b = 1), with F the largest over i of (1 + b^2) (sum of the first i chances + k) /
        (i + k + b^2 (sum of all chances + k)), k the positives marked. The shift is the distance, by the curve, from
        the chance so needed for b = 1 to the one for b; it never falls as lean grows.
        """
        open_ = np.delete(self._x, self._rows(_keys(self.marks)))
        if lean == 0 or len(open_) == 0:
            return 0.0
        k = sum(label > 0 for label in self.marks.values())
        curve = self._middle_curve(audited)
        found = np.append(0.0, np.cumsum(chances_by(curve, np.sort(open_))[0])) + k
        sizes = np.arange(len(found)) + k
        needed = np.array([(found / (sizes + b * b * found[-1])).max() for b in (1.0, 4.0**lean)])
        at_cut, above, below = curve[0]
        rest = at_cut - np.log(needed / (1 - needed))
        places = np.where(rest < 0, rest / above, rest / below)
        return float(places[1] - places[0]) * self._unit

    def _middle_curve(self, audited: Mapping[int, int]) -> Floats:
        """Return the curve of the mean log odds and log slopes, (1, 3).

        The mean of all curves falls slower than any of them, and would have a cut for recall take in far too much. A
        ceiling, which lowers all chances alike, hardly moves a cut.
        """
        weights = self._weights(self.evidence(audited), audited)
        slopes = np.exp(weights @ np.log(self._curves[:, 1:]))
        return np.array([[weights @ self._curves[:, 0], *slopes]])

    def _audited(self, marks: Mapping[int, int]) -> NDArray[np.intp]:
        drawn = self.drawn.ids[among(self.drawn.ids, _keys(marks))]
        return np.sort(self._rows(drawn))

    def _rows(self, items: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of those of a few items that are ranked, in their order; a row once found is kept."""
        new = [item for item in items.tolist() if item not in self._places]
        if new:
            rows = np.flatnonzero(among(self._ids, np.array(new, np.int64)))
            found = dict(zip(self._ids[rows].tolist(), rows.tolist(), strict=True))
            self._places.update({item: found.get(item, -1) for item in new})
        rows = np.array([self._places[item] for item in items.tolist()], np.intp)
        return rows[rows >= 0]

    def _weights(self, evidence: Evidence, audited: Mapping[int, int]) -> Floats:
        """Return the weights of the curves, (CURVES,), of sum 1."""
        chances = self._ceilings[:, None] * chances_by(self._curves, evidence.distances)
        told = np.where(evidence.right, chances, 1 - chances)
        logs = np.log(np.maximum(told, 1e-300)) @ evidence.weights
        beyond = self.drawn.ids[~among(self.drawn.ids, self._ids)]
        looked = [audited[int(i)] > 0 for i in beyond if int(i) in audited]
        if looked:
            ranked = self._expected(np.ones(len(self._ids), np.bool_))
            missed = self._missed * ranked + self._elsewhere
            rate = np.clip(missed / max(1, self.universe - len(self._ids)), 1e-12, 1 - 1e-12)
            logs = logs + sum(looked) * np.log(rate) + (len(looked) - sum(looked)) * np.log1p(-rate)
        weights = np.exp(logs - logs.max())
        total: Floats = weights / weights.sum()
        return total

    def _expected(self, rows: NDArray[np.bool_]) -> Floats:
        """Return how many of the rows are right by each curve, (CURVES,), the distances grouped."""
        x = np.sort(self._x[rows], kind="stable")  # in order already, but for marks
        if len(x) == 0:
            return np.zeros(CURVES)
        nearest = np.argsort(np.abs(x), kind="stable")
        edges = np.unique(np.geomspace(1, len(x) + 1, _BINS).astype(np.int64) - 1)
        groups = np.split(nearest, edges[1:-1]) if len(edges) > 2 else [nearest]
        centres = np.array([x[group].mean() for group in groups])
        sizes = np.array([len(group) for group in groups], np.float64)
        expected: Floats = self._ceilings * (chances_by(self._curves, centres) @ sizes)
        return expected

    def _right(self, rows: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw how many of the rows are right by each curve, (CURVES,) int64."""
        n = int(np.count_nonzero(rows))
        return rng.binomial(n, np.clip(self._expected(rows) / max(1, n), 0, 1))


def _quantiles(values: Floats, weights: Floats) -> Interval:
    order = np.argsort(values, kind="stable")
    places = np.searchsorted(np.cumsum(weights[order]), _LEVELS)
    low, middle, high = (float(values[order[min(int(place), len(values) - 1)]]) for place in places)
    return low, middle, high


def _labelled(marks: Mapping[int, int], label: int) -> NDArray[np.int64]:
    return np.array([item for item, held in marks.items() if held == label], np.int64)


def _keys(marks: Mapping[int, int]) -> NDArray[np.int64]:
    return np.fromiter(marks, np.int64, len(marks))
