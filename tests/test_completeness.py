import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rankings import RANKED, N, a_ranking

from gpubranches.core.results import Ranking
from gpubranches.retrieval.completeness import AUDITED, Completeness
from gpubranches.retrieval.curves import Curves, chances_by, informative, right_beyond
from gpubranches.retrieval.sampling import inclusion, systematic
from gpubranches.retrieval.voting import votes_for

NONE = np.zeros(0, np.int64)


def looked_at(ids, right):
    return {int(i): 1 if int(i) in right else -1 for i in ids}


def truth(ranking, right):
    hits = sum(int(i) in right for i in ranking.ids[ranking.matched])
    return hits / ranking.total, hits / len(right)


def estimates(seed, audits=0, **world):
    """Return the true precision and recall, and the intervals after so many audits."""
    rng = np.random.default_rng(seed)
    ranking, marks, right = a_ranking(rng, **world)
    completeness = Completeness(ranking, marks, N, seed=seed)
    audited = {}
    for _ in range(audits):
        drawn = completeness.draw_audit(AUDITED, {**marks, **audited}, rng.permutation(N)[:200])
        completeness = completeness.with_audit(drawn)
        audited |= looked_at(drawn.ids, right)
    return truth(ranking, right), completeness.estimate(ranking.matched, {**marks, **audited}, audited)


def test_nine_intervals_of_ten_hold_on_rankings_of_many_shapes():
    held, widths = [], []
    for seed in range(210):
        shape = np.random.default_rng(1000 + seed)
        world = {"wanted": int(shape.integers(20, 300)), "gap": float(shape.uniform(1.5, 4.5)), "spread": 0.3}
        true, intervals = estimates(seed, seed % 3, **world)
        held.append([low - 1e-9 <= value <= high + 1e-9 for value, (low, _, high) in zip(true, intervals, strict=True)])
        widths.append([high - low for low, _, high in intervals])
    assert (np.mean(held, axis=0) >= 0.87).all()
    assert (np.mean(widths, axis=0) < 0.6).all()


@pytest.mark.parametrize("long_tail", [False, True])
def test_recall_holds_where_an_audit_sees_little_of_the_tail(long_tail):
    """The scores of right and wrong items overlap, so right items are at all depths of the list, and below its end."""
    held = []
    for seed in range(30):
        (_, true), (_, (low, _, high)) = estimates(seed, 1, gap=1.5, long_tail=long_tail)
        held.append(low - 1e-9 <= true <= high + 1e-9)
    assert np.mean(held) >= 0.87


def test_an_audit_narrows_the_intervals():
    widths = [np.mean([np.ptp(estimates(s, audits)[1], axis=1) for s in range(15)], axis=0) for audits in (0, 1, 2)]
    assert (widths[0] > widths[1]).all()
    assert (widths[1] > widths[2]).all()


def test_what_is_marked_counts_as_what_it_is():
    ranking, marks, right = a_ranking(np.random.default_rng(0))
    completeness = Completeness(ranking, marks, len(ranking.ids))
    everything = looked_at(ranking.ids, right)
    precision, recall = completeness.estimate(ranking.matched, everything, {})
    hits = sum(int(i) in right for i in ranking.ids[ranking.matched])
    assert precision == pytest.approx([hits / ranking.total] * 3)
    assert recall == pytest.approx([hits / sum(int(i) in right for i in ranking.ids)] * 3)


def test_a_right_item_outside_lowers_recall_and_not_precision():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    completeness = Completeness(ranking, marks, N)
    outside = np.setdiff1d(np.arange(N), ranking.ids)[:400]
    before = completeness.estimate(ranking.matched, marks, {})
    after = completeness.estimate(ranking.matched, {**marks, **dict.fromkeys(outside.tolist(), 1)}, {})
    assert after[0] == before[0]
    assert after[1][2] < before[1][1]


def test_an_audited_right_item_outside_weighs_more_than_its_own():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    outside = np.setdiff1d(np.arange(N), ranking.ids)
    middles = []
    for label in (-1, 1):
        completeness = Completeness(ranking, marks, N)
        completeness = completeness.with_audit(completeness.draw_audit(AUDITED, marks, outside))
        drawn = completeness.drawn.ids
        beyond = dict.fromkeys(drawn[~np.isin(drawn, ranking.ids)].tolist(), label)
        assert len(beyond) == 1
        middles.append(completeness.estimate(ranking.matched, {**marks, **beyond}, beyond)[1][1])
    assert middles[1] < middles[0] - 0.05


def test_an_audit_depends_on_the_seed_and_the_ranking_alone():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    draws = [Completeness(ranking, marks, N, seed=seed).draw_audit(20, marks, NONE).ids.tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@given(st.integers(1, 900), st.integers(0, 50), st.floats(0.5, 5))
@settings(max_examples=30, deadline=None)
def test_an_audit_draws_unmarked_items_once_with_chances_of_the_right_sum(count, seed, gap):
    ranking, marks, _ = a_ranking(np.random.default_rng(seed), gap=gap)
    completeness = Completeness(ranking, marks, N, seed=seed)
    outside = np.setdiff1d(np.arange(N), ranking.ids)
    first = completeness.draw_audit(count, marks, outside)
    again = completeness.draw_audit(count, marks, outside)
    assert first.ids.tolist() == again.ids.tolist()
    later = completeness.with_audit(first)
    second = later.draw_audit(count, marks, outside)
    assert len(completeness.drawn.ids) == 0
    ids = np.concatenate([first.ids, second.ids])
    assert len(set(ids.tolist()) | set(marks)) == len(ids) + len(marks)
    assert len(first.ids) == min(count, len(ranking.ids) - len(marks) + count // 20)
    assert ((first.chances > 0) & (first.chances <= 1)).all()
    assert later.with_audit(second).drawn.ids.tolist() == ids.tolist()


def test_items_are_drawn_as_often_as_their_chances_say():
    rng = np.random.default_rng(0)
    chances = inclusion(np.concatenate([rng.exponential(1.0, 60), [40.0]]), 12)
    assert chances.sum() == pytest.approx(12)
    assert chances[-1] == 1
    draws = np.array([np.bincount(systematic(chances, rng), minlength=61) for _ in range(3000)])
    assert (draws.sum(axis=1) == 12).all()
    assert (np.abs(draws.mean(axis=0) - chances) < 5 * np.sqrt(chances * (1 - chances) / 3000) + 1e-9).all()


def test_marks_may_come_one_by_one():
    ranking, marks, right = a_ranking(np.random.default_rng(3))
    completeness = Completeness(ranking, marks, N)
    completeness = completeness.with_audit(completeness.draw_audit(20, marks, NONE))
    audited, seen = {}, []
    for item in completeness.drawn.ids:
        audited |= looked_at([item], right)
        seen.append(completeness.estimate(ranking.matched, {**marks, **audited}, audited))
    assert len(set(seen)) > 15
    shuffled = dict(reversed(audited.items()))
    assert completeness.estimate(ranking.matched, {**marks, **shuffled}, shuffled) == seen[-1]


def test_an_earlier_audit_still_tells_half():
    ranking, marks, right = a_ranking(np.random.default_rng(4))
    completeness = Completeness(ranking, marks, N)
    completeness = completeness.with_audit(completeness.draw_audit(20, marks, NONE))
    audited = looked_at(completeness.drawn.ids, right)
    carried = completeness.evidence(audited)
    later = Completeness(ranking, {**marks, **audited}, N, earlier=carried)
    plain = Completeness(ranking, {**marks, **audited}, N)
    widths = [np.ptp(s.estimate(ranking.matched, {**marks, **audited}, {})[0]) for s in (later, plain)]
    assert widths[0] < widths[1]
    assert later.evidence({}).weights.tolist() == [0.5] * 20


def test_nothing_is_claimed_of_unknown_scores_before_an_audit():
    ranking, marks, right = a_ranking(np.random.default_rng(0))
    votes = Ranking(ranking.ids, ranking.scores, ranking.matched, ranking.total, RANKED, 0.0)
    completeness = Completeness(votes, marks, N)
    assert completeness.estimate(votes.matched, marks, {}) == (None, None)
    completeness = completeness.with_audit(completeness.draw_audit(20, marks, NONE))
    audited = looked_at(completeness.drawn.ids, right)
    for low, middle, high in completeness.estimate(votes.matched, {**marks, **audited}, audited):
        assert 0 <= low <= middle <= high <= 1


def test_nothing_is_claimed_of_an_empty_answer():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    completeness = Completeness(ranking, marks, N)
    assert completeness.estimate(np.zeros(len(ranking.ids), np.bool_), marks, {}) == (None, None)


@given(st.integers(0, 30), st.lists(st.integers(-100, 100), min_size=2, max_size=5), st.floats(0.5, 5))
@settings(max_examples=25, deadline=None)
def test_a_larger_lean_never_matches_fewer(seed, leans, gap):
    ranking, marks, _ = a_ranking(np.random.default_rng(seed), gap=gap)
    completeness = Completeness(ranking, marks, N)
    sizes = [completeness.matched(-completeness.shift(lean / 100, {})).sum() for lean in sorted(leans)]
    assert sizes == sorted(sizes)
    assert completeness.shift(0.0, {}) == 0
    assert completeness.matched(0.0).tolist() == ranking.matched.tolist()


def test_leaning_all_the_way_changes_what_matches():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    completeness = Completeness(ranking, marks, N)
    few, own, many = (completeness.matched(-completeness.shift(lean, {})).sum() for lean in (-1, 0, 1))
    assert len(marks) < few < own < many <= len(ranking.ids)


def test_votes_needed_go_from_all_to_one():
    assert [votes_for(lean, 25) for lean in (-1, -0.5, 0, 0.5, 1)] == [25, 19, 13, 7, 1]
    assert [votes_for(lean, 1) for lean in (-1, 0, 1)] == [1, 1, 1]


@given(st.floats(-3, 3), st.floats(0.01, 20), st.floats(0, 1), st.floats(0, 1))
def test_a_longer_tail_differs_below_the_cut_alone(at_cut, slope, one, other):
    distances = np.concatenate([np.linspace(-5, 0, 6), [1e-3], np.linspace(1, 30, 30)])
    shapes = np.array([[at_cut, 1.0, slope, tail] for tail in (max(one, other), min(one, other), 1.0)])
    short, long, logistic = chances_by(shapes, distances)
    assert short[:7] == pytest.approx(long[:7], rel=1e-4)
    assert (short[6:] <= long[6:] * (1 + 1e-5)).all()
    assert logistic[6:] == pytest.approx(1 / (1 + np.exp(slope * distances[6:] - at_cut)), rel=1e-6, abs=1e-300)
    for chances in (short, long):
        assert (np.diff(chances) <= 0).all()


@given(st.integers(1, 10**6), st.integers(0, 10**8), st.floats(-5, 5), st.integers(0, 99))
@settings(deadline=None)
def test_below_the_end_of_a_list_fewer_are_right_than_at_its_end(listed, more, at_cut, seed):
    shapes = np.tile([at_cut, 1.0, 1.0, 1.0], (200, 1))
    wider = np.arange(200) < 20
    curves = Curves(shapes, np.full(200, 0.5), np.zeros(200), np.zeros(200), wider)
    expected = right_beyond(curves, 2.0, listed, listed + more, seed)
    at_end = 0.5 * chances_by(shapes, np.array([2.0]))[0, 0]
    share = listed / (listed + more)
    assert (expected[wider] == 0).all()
    assert (expected[~wider] >= at_end * listed * (1 - share) * (1 - 1e-9)).all()
    assert (expected[~wider] <= at_end * listed * -np.log(share) * (1 + 1e-9)).all()


def test_marks_tell_most_where_curves_disagree():
    """Two curves differ at one distance alone, and in the number they predict."""
    shapes = np.array([[8.0, 1.0, 4.0, 1.0], [8.0, 1.0, 8.0, 1.0]])
    curves = Curves(shapes, np.ones(2), np.zeros(2), np.zeros(2), np.zeros(2, np.bool_))
    told = informative(curves, np.full(2, 0.5), [np.array([1.0, 3.0])], np.array([-9.0, 0.0, 1.5, 30.0]))
    expected = chances_by(shapes, np.array([1.5]))[:, 0]
    mean = expected.mean()
    assert told.argmax() == 2
    assert told[2] == pytest.approx((expected[0] - mean) ** 2 / (mean * (1 - mean)))
    assert (informative(curves, np.full(2, 0.5), [np.ones(2)], np.array([1.5])) == 0).all()
