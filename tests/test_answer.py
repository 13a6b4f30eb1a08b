"""The parts of an answer: tiers of what matches, what lies just below, what changed since the round before."""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rankings import N, a_ranking

from gpubranches.core.results import TIERS, Ranking
from gpubranches.errors import UsageError
from gpubranches.retrieval.completeness import AUDITED, Completeness
from gpubranches.service.answer import JUST_BELOW, PARTS, Answer
from gpubranches.service.matches import Matches

LEANS = st.integers(-100, 100).map(lambda lean: lean / 100)


# These answers are over no catalog: their parts are known by the ranking alone.
def an_answer(seed=0, before=None, **world):
    ranking, marks, _ = a_ranking(np.random.default_rng(seed), **world)
    return Answer(None, ranking, Completeness(ranking, marks, N, seed=seed), before=before).recut(0.0, marks, {})


@given(st.integers(0, 50), LEANS, st.floats(0.5, 5), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_tiers_part_what_matches_and_follow_the_score(seed, lean, gap, marked_since):
    answer = an_answer(seed, gap=gap)
    ids, made_with = answer.ranking.ids, answer.completeness.marks
    open_ = ids[~np.isin(ids, list(made_with))]
    right, wrong = open_[:marked_since], open_[marked_since : 2 * marked_since]
    marks = {**made_with, **dict.fromkeys(right.tolist(), 1), **dict.fromkeys(wrong.tolist(), -1)}
    answer = answer.recut(lean, marks, {})
    parts = {name: part.ids for name, part in answer.parts.items()}
    assert tuple(parts) == PARTS[:6]
    assert sorted(np.concatenate([parts[name] for name in TIERS])) == sorted(parts["all"])
    assert len(parts["all"]) == answer.ranking.total
    assert np.isin([*made_with], parts["sure"]).all()
    assert not np.isin(right, [*parts["likely"], *parts["borderline"]]).any()
    assert not np.isin(wrong, [*parts["sure"], *parts["likely"]]).any()
    score = dict(zip(ids.tolist(), answer.ranking.scores.tolist(), strict=True))
    runs = [[score[i] for i in parts[name].tolist() if i not in marks] for name in (*TIERS, "below")]
    for better, worse in pairwise([run for run in runs if run]):
        assert min(better) >= max(worse)
    assert all(run == sorted(run, reverse=True) for run in runs)
    unmatched = ids[~answer.ranking.matched & ~np.isin(ids, list(made_with))]
    assert parts["below"].tolist() == unmatched[:JUST_BELOW].tolist()
    tiers = {int(i): answer.ranking.tier(row) for row, i in enumerate(ids)}
    assert all(tiers[i] == name for name in TIERS for i in parts[name].tolist())
    assert all(tiers[i] is None for i in parts["below"].tolist())


def test_tiers_hold_what_they_say():
    held = {name: [] for name in TIERS}
    for seed in range(60):
        shape = np.random.default_rng(seed)
        ranking, marks, right = a_ranking(
            shape, wanted=int(shape.integers(20, 300)), gap=float(shape.uniform(1.5, 4.5))
        )
        completeness = Completeness(ranking, marks, N, seed=seed)
        completeness = completeness.with_audit(completeness.draw_audit(AUDITED, marks, np.zeros(0, np.int64)))
        audited = {int(i): 1 if int(i) in right else -1 for i in completeness.drawn.ids}
        answer = Answer(None, ranking, completeness).estimated({**marks, **audited}, audited)
        for name in TIERS:
            held[name] += [int(i) in right for i in answer.parts[name].ids if int(i) not in {**marks, **audited}]
    assert np.mean(held["sure"]) >= 0.9
    assert 0.5 <= np.mean(held["likely"]) <= 0.9
    assert np.mean(held["borderline"]) <= 0.5


def test_votes_have_no_tiers():
    ranking, marks, _ = a_ranking(np.random.default_rng(0))
    completeness = Completeness(Ranking(ranking.ids, ranking.scores, ranking.matched, ranking.total, N, 0.0), marks, N)
    completeness = completeness.with_audit(completeness.draw_audit(AUDITED, marks, np.zeros(0, np.int64)))
    audited = dict.fromkeys(completeness.drawn.ids.tolist(), -1)
    answer = Answer(None, completeness.ranking, completeness).estimated({**marks, **audited}, audited)
    assert answer.ranking.precision is not None
    assert tuple(answer.parts) == ("all", "below", "right")
    with pytest.raises(UsageError, match="all, below, right, got 'sure'; tiers need a second stage and 4"):
        answer.part("sure")


@given(st.integers(0, 50), st.integers(0, 50), LEANS)
@settings(max_examples=20, deadline=None)
def test_what_changed_is_exact_and_follows_the_cut(one, other, lean):
    first = an_answer(one).parts["all"]
    answer = an_answer(other, before=first).recut(lean, {}, {})
    parts, then, now = answer.parts, set(first.ids.tolist()), set(answer.ranking.ids[answer.ranking.matched].tolist())
    assert tuple(parts) == PARTS
    for name, changed in (("new", now - then), ("gone", then - now)):
        assert set(parts[name].ids.tolist()) == changed
        assert len(parts[name]) == len(changed)
    assert parts["gone"].ranking is first.ranking
    assert (np.diff(parts["gone"].rows) > 0).all()


def test_a_part_that_there_is_not_is_refused_with_what_there_is():
    for name, part in (("new", "no round before"), ("gone", "no round before"), ("best", "'best'")):
        with pytest.raises(UsageError, match=f"all, sure, likely, borderline, below, right, got.*{part}"):
            an_answer().part(name)


def test_a_part_knows_its_items():
    part = Matches(None, an_answer().ranking, np.array([2, 5]))
    assert (len(part), part.ids.tolist()) == (2, part.ranking.ids[[2, 5]].tolist())
    assert part.scores.tolist() == part.ranking.scores[[2, 5]].tolist()


def test_an_answer_keeps_the_matches_of_the_round_before_and_no_other_answer():
    """Else a session keeps every answer that it ever had."""
    answer, seen = an_answer(), []
    for seed in range(1, 6):
        seen.append(weakref.ref(answer))
        answer = an_answer(seed, before=answer.matches)
        assert set(answer.parts) >= {"new", "gone"}
    gc.collect()
    assert [ref() for ref in seen] == [None] * 5
    assert len(answer.part("gone").known.chances(answer.part("gone").scores)) == len(answer.part("gone"))
