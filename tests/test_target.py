"""Marking towards a target: suggestions while the answer falls short, audits while it is not known, random items."""

import math

import numpy as np
import pytest
from groups import GROUPS, NAMES, write_groups
from groups import KINDS as KINDS_OF_A_GROUP
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Session, open_backend
from gpubranches.errors import UsageError
from gpubranches.retrieval.random_checks import CONFIDENCE, RandomChecks
from gpubranches.service import target
from gpubranches.service.target import KINDS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_groups(tmp_path_factory.mktemp("groups"))


@pytest.fixture
def session(world):
    with open_backend("cpu", world[0]) as backend:
        yield Session(world[0], backend, embedder=world[3])


def begin(session, right, group, **options):
    shown = session.search(NAMES[group], 20).ids
    answer(session, shown, right, "user")
    return session.refine(query=NAMES[group], **options)


def answer(session, ids, right, origin):
    told = right[ids]
    for label, items in ((+1, ids[told]), (-1, ids[~told])):
        if len(items):
            session.mark(items, label, origin=origin)


def play(session, right, target=0.95, most=40, checks=500, count=20):
    """Mark what each step asks for by the truth; return the steps."""
    steps = []
    while len(steps) < most:
        steps.append(session.next(target, count, checks))
        if steps[-1].done:
            break
        answer(session, steps[-1].ids, right, steps[-1].kind)
    return steps


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_target_that_is_told_to_be_reached_is_reached(session, world, group):
    right = world[1] == group
    begin(session, right, group)
    steps = play(session, right, target=0.9)
    assert {step.kind for step in steps} <= set(KINDS)
    found = session.answer.matches.ids
    assert (steps[-1].kind, steps[-1].checks) == ("reached", 0)
    assert len(steps[-1].ids) == 0
    assert right[found].sum() >= 0.9 * right.sum()
    assert steps[-1].recall[0] >= 0.9
    assert steps[-1].recall == session.recall_alike()
    checked, now = session.random_checks(), session.answer.current
    assert checked.right == 0
    assert checked.wrong >= checked.needed(now.precision[0] * now.total, 0.9) > 0


def two_unlike_kinds(session, world):
    """Mark one kind of the first group; return which items are right, those of a kind of the third group, too."""
    first, other = world[2] == 0, world[2] == 2 * KINDS_OF_A_GROUP + 1
    session.mark(np.flatnonzero(first)[:8], +1)
    session.mark(np.flatnonzero(world[1] == 1)[:8], -1)
    session.refine("linear")
    return first | other


def test_without_random_items_an_answer_is_not_told_to_be_all(session, world):
    right = two_unlike_kinds(session, world)
    steps = play(session, right, target=0.9, checks=0)
    assert (steps[-1].kind, len(steps[-1].ids)) == ("alike", 0)
    assert steps[-1].recall[0] >= 0.9
    assert steps[-1].checks > 200
    assert "reached" not in {step.kind for step in steps}


def test_random_items_show_a_second_group_and_the_model_learns_it(session, world):
    right = two_unlike_kinds(session, world)
    steps = play(session, right, target=0.9, checks=len(right), count=100)
    assert steps[-1].kind == "reached"
    assert right[session.ranking.ids[session.ranking.matched]].sum() >= 0.9 * right.sum()


def test_random_items_do_not_match_and_are_drawn_once(session, world):
    begin(session, world[1] == 2, 2)
    matches = session.ranking.ids[session.ranking.matched]
    drawn = session.audit(30, anywhere=True)
    assert len(set(drawn.tolist())) == 30
    assert not np.isin(drawn, matches).any()
    assert session.audit(30, anywhere=True).tolist() == drawn.tolist()
    assert not np.isin(session.audit(30), drawn).any()
    session.mark(drawn[:20], -1, origin="audit")
    session.mark(drawn[20:22], +1, origin="audit")
    checked = session.random_checks()
    assert (checked.wrong, checked.right) == (20, 2)
    marked = len(session.negatives) - 20
    assert checked.outside == len(world[1]) - session.ranking.total - marked
    session.refine_again()
    assert session.random_checks().wrong == 0


def test_an_audit_for_recall_has_the_best_items_that_do_not_match(session, world):
    begin(session, world[1] == 2, 2)
    ranking = session.ranking
    marked = np.concatenate([session.positives, session.negatives])
    below = ranking.ids[~ranking.matched & ~np.isin(ranking.ids, marked)]
    asked = session.audit(20, recall=0.95)
    assert len(set(asked.tolist())) == 20
    assert np.isin(below[:10], asked).all()
    assert not np.isin(asked, marked).all()
    assert np.isin(asked, below).sum() > 15
    drawn = session.found.completeness.drawn
    certain = dict(zip(drawn.ids.tolist(), drawn.chances.tolist(), strict=True))
    assert all(certain[item] == pytest.approx(1, abs=1e-3) for item in below[:10].tolist())


def test_items_marked_right_since_the_find_all_count_as_found(session, world):
    right = world[1] == 2
    begin(session, right, 2, lean=-1.0)
    missing = session.ranking.ids[~session.ranking.matched & right[session.ranking.ids]]
    session.mark(missing, +1, origin="audit")
    assert np.isin(missing, session.answer.matches.ids).all()
    known = session.found.completeness
    as_found = known.recall_alike(session.ranking.matched, session.labels.current(), session.labels.audited())
    assert as_found[1] < session.recall_alike()[1]


def test_suggestions_and_audits_take_turns_while_the_answer_falls_short(session, world, monkeypatch):
    right = world[1] == 3
    begin(session, right, 3)
    monkeypatch.setattr(target, "_short_of", lambda *_: True)
    monkeypatch.setattr(target, "_reached", lambda *_: False)
    steps = play(session, right, most=4, count=5)
    assert [step.kind for step in steps] == ["suggestion", "audit", "suggestion", "audit"]
    assert (session.count_marked("suggestion", "border"), session.count_marked("audit")) == (10, 10)
    assert session.count_marked("user") == 20


@given(st.integers(1, 10**8), st.floats(0, 1e6), st.floats(0.01, 0.999))
def test_so_many_random_items_leave_too_many_missing_unseen_one_time_in_twenty(outside, found, target):
    needed = RandomChecks(outside, 0, 0).needed(found, target)
    assert 0 <= needed <= outside
    missing = math.floor(found * (1 - target) / target) + 1
    if missing > outside:
        assert needed == 0
    elif needed < outside:
        unseen = needed * math.log1p(-missing / outside) if missing < outside else -math.inf
        assert unseen <= math.log(1 - CONFIDENCE)


def test_a_step_asks_for_unmarked_items_once(session, world):
    right = world[1] == 1
    begin(session, right, 1)
    marked = set(session.positives) | set(session.negatives)
    for _ in range(4):
        step = session.next(0.99, 7)
        assert len(step.ids) <= 7
        assert len(set(step.ids)) == len(step.ids)
        assert not marked & set(step.ids)
        marked |= set(step.ids.tolist())
        if not step.done:
            answer(session, step.ids, right, step.kind)


def test_without_a_mark_between_a_step_stays_as_it_is(session, world):
    begin(session, world[1] == 1, 1)
    one, other = session.next(0.99), session.next(0.99)
    assert (one.kind, one.ids.tolist(), one.recall) == (other.kind, other.ids.tolist(), other.recall)


def test_suggestions_are_learnt_and_audits_change_estimates_alone(session, world):
    right = world[1] == 3
    begin(session, right, 3)
    learnt = session.answer.completeness
    session.mark(session.audit(5), -1, origin="audit")
    assert session.is_up_to_date(ignoring=("audit",))
    assert not session.is_up_to_date()
    session.mark(session.suggest(3), +1, origin="suggestion")
    assert not session.is_up_to_date(ignoring=("audit",))
    session.next()
    assert session.is_up_to_date()
    assert session.answer.completeness.marks != learnt.marks


def test_the_options_of_the_last_find_all_hold(session, world):
    groups, kinds = world[1:3]
    right = groups == 2
    begin(session, right, 2, model="linear", where="kind < 16", lean=0.3)
    session.mark(session.suggest(5), -1, origin="suggestion")
    session.next()
    assert session.where == "kind < 16"
    assert (kinds[session.ranking.ids] < 16).all()
    assert session.boxes is None
    assert session.ranking.lean >= 0.3


def test_where_all_is_marked_there_is_nothing_left_to_mark(session, world):
    right = world[1] == 0
    session.mark(np.flatnonzero(right), +1)
    session.mark(np.flatnonzero(~right), -1)
    session.refine()
    step = session.next()
    assert step.done
    assert len(step.ids) == 0


def test_by_votes_alone_an_audit_comes_first(session, world):
    begin(session, world[1] == 4, 4)
    session.refine(second_stage=False)
    assert session.next().kind == "audit"


@pytest.mark.parametrize("group", range(GROUPS))
def test_while_marks_are_asked_for_the_answer_is_cut_where_the_target_is_expected(session, world, group):
    """At its own cut, at one that likely reaches the target, or as far down as half of it is right."""
    begin(session, world[1] == group, group)
    own, known = session.ranking, session.recall_alike()
    step = session.next(0.99)
    ranking = session.ranking
    assert step.recall == session.recall_alike()
    assert ranking.precision[1] >= 0.5 or ranking.lean == own.lean
    short = known[1] < 0.99
    if short:
        assert ranking.total >= own.total
        assert step.recall[1] >= known[1]
    assert step.kind in ("alike", "suggestion" if short else "audit")


def test_fewer_checks_than_none_are_refused(session, world):
    begin(session, world[1] == 0, 0)
    with pytest.raises(UsageError, match="checks: expected 0 or more random items, got -1"):
        session.next(checks=-1)


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, 95.0, float("nan")])
def test_another_target_is_refused(session, world, target):
    begin(session, world[1] == 0, 0)
    with pytest.raises(UsageError, match="target_recall: expected a share between 0 and 1"):
        session.next(target)


def test_there_is_no_step_before_a_find_all(session):
    with pytest.raises(UsageError, match="find all"):
        session.next()
