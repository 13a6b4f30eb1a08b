"""Where right items end on a score: what the scores and the marks each say of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches.errors import ArrayError, NotFittedError
from gpubranches.retrieval.boundary import FLOOR, BoundaryPosterior

NOTHING = np.zeros(0)
TWO = np.concatenate([np.random.default_rng(0).normal(3, 0.4, 300), np.random.default_rng(1).normal(-2, 0.8, 3000)])
"""Two groups of scores with a gap between about 1.5 and 0.8."""
ONE = np.random.default_rng(2).normal(0, 1, 3000)
"""Scores that tell of no boundary."""


def fitted(scores, right=(), wrong=(), **more):
    return BoundaryPosterior().fit(scores, np.array(right, float), np.array(wrong, float), **more)


scores_of_some = st.integers(1, 60).flatmap(
    lambda m: st.lists(st.floats(-5, 5, width=32), min_size=m, max_size=m).map(np.array)
)
scores_of_marks = st.lists(st.floats(-5, 5, width=32), max_size=8)


@given(scores=scores_of_some, right=scores_of_marks, wrong=scores_of_marks, n_marked=st.integers(0, 9))
def test_whatever_the_scores_there_is_a_posterior_a_cut_and_places(scores, right, wrong, n_marked):
    boundary = fitted(scores, right, wrong)
    assert boundary.posterior_.shape[0] == len(boundary.boundaries_) == len(boundary.sizes_) == len(boundary.density_)
    assert boundary.posterior_.sum() == pytest.approx(1)
    assert (boundary.posterior_ >= 0).all()
    assert (np.diff(boundary.boundaries_) < 0).all()
    assert (np.diff(boundary.sizes_) >= 0).all()
    assert np.isfinite(boundary.evidence_)
    assert boundary.evidence(0.15) <= boundary.evidence_
    assert scores.min() <= boundary.cut(n_marked) <= scores.max()
    places = boundary.places(7, explore=0.3)
    assert places.shape == (7,)
    assert (np.diff(places) <= 0).all()
    assert boundary.boundaries_[-1] <= places[-1]
    assert places[0] <= boundary.boundaries_[0]


@given(scores=scores_of_some, right=scores_of_marks, wrong=scores_of_marks, seed=st.integers(0, 9))
def test_chances_rise_with_the_score_and_the_order_of_items_says_nothing(scores, right, wrong, seed):
    boundary = fitted(scores, right, wrong)
    chances = boundary.chances(np.linspace(-6, 6, 50))
    assert (np.diff(chances) >= -1e-12).all()
    assert ((chances >= 0) & (chances <= 1)).all()
    rng = np.random.default_rng(seed)
    again = fitted(rng.permutation(scores), rng.permutation(np.array(right)), rng.permutation(np.array(wrong)))
    assert again.cut(1) == pytest.approx(boundary.cut(1))
    assert again.evidence_ == pytest.approx(boundary.evidence_)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 3.0), (8.0, 0.0), (0.125, -40.0), (100.0, 7.0)])
@pytest.mark.parametrize("scores", [TWO, ONE], ids=["gap", "none"])
def test_neither_the_unit_nor_the_zero_of_the_scores_matters(scores, factor, shift):
    right, wrong = np.array([3.1, 2.5, 1.0]), np.array([-1.0, 0.3])
    boundary = fitted(scores, right, wrong)
    moved = fitted(factor * scores + shift, factor * right + shift, factor * wrong + shift)
    assert moved.unit_ == pytest.approx(factor * boundary.unit_)
    assert moved.cut(3) == pytest.approx(factor * boundary.cut(3) + shift, abs=1e-6 * factor)
    assert np.allclose(
        moved.places(9, explore=0.3), factor * boundary.places(9, explore=0.3) + shift, atol=1e-6 * factor
    )
    assert moved.evidence_ == pytest.approx(boundary.evidence_, abs=1e-6)
    assert np.allclose(moved.posterior_, boundary.posterior_, atol=1e-8)


@pytest.mark.parametrize("n_right", [1, 4, 16])
@pytest.mark.parametrize("n_wrong", [0, 1, 4, 16])
def test_the_cut_lies_in_a_clear_gap(n_right, n_wrong):
    boundary = fitted(TWO, np.linspace(2.4, 3.4, n_right), np.linspace(-3, -1, n_wrong))
    inside = np.sort(TWO)[2900:3100]
    gap = np.diff(inside).argmax()
    assert inside[gap] < boundary.cut(n_right) < inside[gap + 1]
    chances = boundary.chances(np.array([3.0, -2.0]))
    assert chances[0] > 0.7
    assert chances[1] < 0.1


def test_marks_within_a_group_move_the_border_into_it():
    right, wrong = np.linspace(3.1, 3.5, 20), np.linspace(2.0, 2.9, 20)
    boundary = fitted(TWO, right, wrong)
    assert 2.8 < boundary.cut(20) < 3.2


def test_right_marks_below_pull_the_cut_down_and_wrong_marks_above_push_it_up():
    start = fitted(ONE, [2.0, 1.5], [-1.5, -1.0]).cut(2)
    assert fitted(ONE, [2.0, 1.5, *[0.2] * 12], [-1.5, -1.0]).cut(14) < start
    assert fitted(ONE, [2.0, 1.5], [-1.5, -1.0, *[1.2] * 12]).cut(2) > 1.2
    assert fitted(ONE, [*[0.6] * 40], [*[0.4] * 40]).cut(40) == pytest.approx(0.5, abs=0.2)


@given(
    scores=st.sampled_from([TWO[::10], ONE[::10]]),
    right=st.lists(st.floats(-2, 4), min_size=1, max_size=6),
    wrong=st.lists(st.floats(-4, 2), min_size=1, max_size=6),
    lower=st.floats(0.0, 3.0),
)
def test_one_more_right_mark_below_the_border_lowers_what_is_believed_of_it(scores, right, wrong, lower):
    before = fitted(scores, right, wrong)
    after = fitted(scores, [*right, before.boundaries_[-1] - lower], wrong)
    median = [b.boundaries_[np.cumsum(b.posterior_.sum(axis=(1, 2))).searchsorted(0.5)] for b in (before, after)]
    assert median[1] <= median[0] + 0.3 * before.unit_
    told = after.chances(np.array([before.boundaries_[-1]])) - before.chances(np.array([before.boundaries_[-1]]))
    assert told >= -1e-9


@pytest.mark.parametrize("width", [0.05, 0.3, 0.6])
def test_a_border_of_any_width_is_measured_by_marks_around_it(width):
    """How many are right in all, by 60 marks at even steps of the ranks' logarithm: within a fifth, by the median."""
    scores = np.sort(np.random.default_rng(0).normal(0, 1, 20_000))[::-1]
    chances = 1 / (1 + np.exp(-(scores - 2) / width))
    marked = np.unique(np.geomspace(1, 10_000, 60).astype(int))
    rest = np.delete(np.arange(len(scores)), marked)
    told = []
    for seed in range(20):
        right = np.random.default_rng(seed).random(len(marked)) < chances[marked]
        boundary = fitted(scores[rest], scores[marked[right]], scores[marked[~right]])
        told.append(boundary.chances(scores[rest]).sum() / chances[rest].sum())
    assert np.median(told) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("right", [(), (2.9, 3.3)])
def test_an_item_that_stands_for_two_is_two_items(right):
    twice = np.concatenate([TWO, TWO])
    boundary, weighed = fitted(twice, right, [-1.0]), fitted(TWO, right, [-1.0], weights=np.full(len(TWO), 2.0))
    assert weighed.unit_ == pytest.approx(boundary.unit_)
    assert weighed.sizes_[-1] == pytest.approx(boundary.sizes_[-1], abs=4)
    above = [np.count_nonzero(cut <= TWO) for cut in (weighed.cut(2), boundary.cut(2))]
    assert above[0] == pytest.approx(above[1], rel=0.03)  # deep down, items are looked at a few at a time
    assert np.abs(weighed.chances(TWO) - boundary.chances(TWO)).mean() < 0.02


def test_a_mark_that_counts_twice_is_two_marks():
    once = fitted(ONE, [1.0, 1.0, 0.5], [0.0, -1.0, -1.0])
    weighed = BoundaryPosterior().fit(
        ONE,
        np.array([1.0, 0.5]),
        np.array([0.0, -1.0]),
        right_weights=np.array([2.0, 1.0]),
        wrong_weights=np.array([1.0, 2.0]),
    )
    assert weighed.cut(3) == once.cut(3)
    assert weighed.evidence_ == pytest.approx(once.evidence_)


def test_a_sample_of_the_rest_tells_what_the_rest_would():
    rng = np.random.default_rng(5)
    best, rest = np.sort(TWO)[::-1][:600], np.sort(TWO)[::-1][600:]
    drawn = rng.choice(rest, 200, replace=False)
    weights = np.concatenate([np.ones(600), np.full(200, len(rest) / 200)])
    whole, sampled = fitted(TWO, [3.0], [-2.0]), fitted(np.concatenate([best, drawn]), [3.0], [-2.0], weights=weights)
    assert sampled.sizes_[-1] == pytest.approx(whole.sizes_[-1], rel=0.1)
    assert sampled.cut(1) == pytest.approx(whole.cut(1), abs=0.5)


@pytest.mark.parametrize("right", [(), (1.0,), (1.0, 5.0)])
@pytest.mark.parametrize("wrong", [(), (-1.0,), (1.0, 6.0)])
@pytest.mark.parametrize("scores", [NOTHING, np.zeros(1), np.full(50, 1.0)], ids=["none", "one", "equal"])
def test_few_or_equal_scores_still_give_an_answer(scores, right, wrong):
    boundary = fitted(scores, right, wrong)
    assert boundary.posterior_.sum() == pytest.approx(1)
    assert np.isfinite(boundary.cut(len(right)))
    assert np.isfinite(boundary.places(5, explore=0.3)).all()
    assert np.isfinite(boundary.chances(np.array([-1.0, 0.0, 9.0]))).all()
    assert np.isfinite(boundary.draw(3, np.random.default_rng(0), gaps=1.0)).all()
    assert boundary.places(0, explore=0.3).shape == (0,)
    if len(scores):
        assert boundary.cut(len(right)) <= scores.max()


def test_places_follow_the_posterior_and_explore_where_it_ignores_the_gaps():
    boundary = fitted(TWO, [3.0, 2.7, 3.3], [-2.0])
    sure, looking = boundary.places(200, explore=0.0), boundary.places(200, explore=1.0)
    share = boundary.posterior_.sum(axis=(1, 2))
    middle = boundary.boundaries_[np.cumsum(share).searchsorted(0.5)]
    assert np.median(sure) == pytest.approx(middle, abs=0.3)
    assert np.ptp(looking) > np.ptp(sure)
    few = boundary.places(20, explore=0.3)
    assert ((boundary.boundaries_[-1] <= few) & (few <= boundary.boundaries_[0])).all()


def test_draws_are_of_the_posterior_and_of_the_seed():
    boundary = fitted(TWO, [3.0, 2.7], [-2.0])
    drawn = boundary.draw(4000, np.random.default_rng(3), gaps=boundary.gaps)
    assert drawn.shape == (4000, 3)
    assert np.array_equal(drawn, boundary.draw(4000, np.random.default_rng(3), gaps=boundary.gaps))
    assert np.isin(drawn[:, 0], boundary.boundaries_).all()
    assert drawn[:, 0].mean() == pytest.approx(boundary.posterior_.sum(axis=(1, 2)) @ boundary.boundaries_, abs=0.1)


def test_a_gap_is_evidence_for_the_scores_that_have_one_and_typical_marks_for_small_ideas():
    assert fitted(TWO, [3.0, 2.8], [-2.0]).evidence_ > fitted(ONE, [3.0, 2.8], [-2.0]).evidence_
    small = np.concatenate([TWO[:20], TWO[300:]])
    by_size = [fitted(s, [3.0, 2.8], [-2.0]) for s in (TWO, small)]
    plain, typical = ([b.evidence(t) for b in by_size] for t in (0.0, 2.0))
    assert typical[1] - typical[0] > plain[1] - plain[0]


def test_inputs_are_not_changed_and_wrong_ones_are_refused():
    scores, right, wrong = TWO.copy(), np.array([3.0]), np.array([-2.0])
    for array in (scores, right, wrong):
        array.flags.writeable = False
    BoundaryPosterior().fit(scores, right, wrong).cut(1)
    with pytest.raises(ArrayError, match="scores"):
        fitted(np.array([0.0, np.nan]))
    with pytest.raises(ArrayError, match="scores"):
        fitted(np.zeros((2, 2)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda boundary: boundary.cut(1),
        lambda boundary: boundary.chances(TWO),
        lambda boundary: boundary.places(3, explore=0.3),
        lambda boundary: boundary.evidence(0.1),
        lambda boundary: boundary.draw(1, np.random.default_rng(0), gaps=1.0),
    ],
)
def test_nothing_is_told_before_a_fit(ask):
    with pytest.raises(NotFittedError, match="fit"):
        ask(BoundaryPosterior())


def test_curves_are_a_fair_sample_of_the_posterior():
    rng = np.random.default_rng(5)
    scores = rng.standard_normal(4000)
    boundary = BoundaryPosterior().fit(scores, np.array([1.5, 2.0, 2.5]), np.array([0.5, 1.2]))
    places = np.linspace(-1, 4, 30)
    curves = boundary.curves(400, places)
    assert curves.shape == (400, 30)
    assert np.allclose(curves.mean(axis=0) + FLOOR, boundary.chances(places), atol=0.03)
    assert (np.diff(curves, axis=1) >= 0).all()
