"""Explanations agree with the votes, and what they say would have to move lets the item in."""

import json

import numpy as np
import pytest
from clusters import write_world
from hypothesis import given
from hypothesis.extra import numpy as hnp
from test_boxes import box, boxes

from gpubranches import Boxes, Catalog, Session, open_backend
from gpubranches.errors import ArrayError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.retrieval.explain import explain, votes_needed
from gpubranches.service.texts import texts_in
from gpubranches.service.wording import reason, verdict

EN = texts_in()

code_of = hnp.arrays(np.uint8, 4)


@given(boxes(), code_of)
def test_votes_and_boxes_are_those_of_the_definition(some, code):
    told = explain(some, code, nearest=100)
    assert told.votes == some.votes(code[None])[0]
    assert [reading.box for reading in told.held] == [i for i, b in enumerate(some) if b.contains(code[None])[0]]
    holding = {reading.estimator for reading in told.held}
    missing = set(some.estimator.tolist()) - holding
    assert sorted(reading.estimator for reading in told.misses) == sorted(missing)
    for reading in (*told.held, *told.misses):
        own = some[reading.box]
        assert [(b.dim, b.low, b.high) for b in reading.bounds] == list(
            zip(own.features.tolist(), own.low.tolist(), own.high.tolist(), strict=True)
        )
        assert all(bound.code == code[bound.dim] for bound in reading.bounds)


@given(boxes(), code_of)
def test_moving_the_missed_bounds_as_told_lets_the_item_in_and_less_does_not(some, code):
    for reading in explain(some, code, nearest=100).misses:
        assert reading.violated
        for less in (0, 1):
            low, high = some[reading.box].low.copy(), some[reading.box].high.copy()
            for bound in reading.violated:
                at = [b.dim for b in reading.bounds].index(bound.dim)
                move = -bound.margin - less
                if bound.code < bound.low:
                    low[at] -= move
                else:
                    high[at] += move
            moved = box(some[reading.box].features, low, high)
            assert moved.contains(code[None])[0] == (less == 0)


@given(boxes(), code_of)
def test_a_margin_is_how_far_the_code_can_move_inside(some, code):
    for reading in explain(some, code).held:
        for bound in reading.bounds:
            inside = [c for c in range(256) if bound.low <= c <= bound.high]
            outside = sorted(set(range(256)) - set(inside), key=lambda c: abs(c - bound.code))
            assert bound.margin == (abs(outside[0] - bound.code) - 1 if outside else None)


def test_the_nearest_miss_has_fewest_violations_then_the_least_to_move():
    some = Boxes(
        [box([0, 1], [10, 10], [20, 20]), box([0], [50], [60]), box([0], [40], [60]), box([1], [9], [255])],
        [0, 0, 0, 1],
    )
    told = explain(some, np.array([0, 0], np.uint8))
    assert [(r.estimator, r.box, [b.margin for b in r.violated]) for r in told.misses] == [(1, 3, [-9]), (0, 2, [-40])]
    assert [r.box for r in explain(some, np.array([0, 0], np.uint8), nearest=1).misses] == [3]
    assert explain(some, np.array([0, 0], np.uint8), nearest=0).misses == ()


def test_the_narrowest_bounds_come_first_and_open_ends_are_none():
    some = Boxes([box([0, 1, 2], [0, 5, 0], [100, 9, 255]), box([0], [1], [99])], [0, 1])
    told = explain(some, np.array([98, 6, 7], np.uint8))
    assert [(r.box, b.dim, b.margin) for r, b in told.narrowest()] == [(0, 1, 1), (1, 0, 1), (0, 0, 2)]
    assert [b.margin for b in told.held[0].bounds] == [2, 1, None]
    data = json.loads(json.dumps(told.to_json()))
    assert data["votes"] == data["n_estimators"] == 2
    assert data["narrowest"][0] == {
        "estimator": 0, "box": 0, "dim": 1, "low": 5, "high": 9, "code": 6, "margin": 1
    }  # fmt: skip


def test_no_boxes_hold_nothing_and_a_wrong_code_is_refused():
    told = explain(Boxes([], n_estimators=3), np.zeros(2, np.uint8), needed=2)
    assert (told.votes, told.held, told.misses) == (0, (), ())
    assert verdict(EN, told) == "0 of 3 estimators hold it, 2 needed."
    with pytest.raises(ArrayError, match="uint8"):
        explain(Boxes([]), np.zeros(2))
    with pytest.raises(ArrayError, match=r"dims 0\.\.1"):
        explain(Boxes([box([2], [0], [1])]), np.zeros(2, np.uint8))
    with pytest.raises(UsageError, match="nearest"):
        explain(Boxes([]), np.zeros(2, np.uint8), nearest=-1)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    labels = write_world(path, 700)
    ingest([path / "images"], path / "catalog")
    catalog = Catalog.open(path / "catalog")
    with open_backend("oracle", catalog) as backend:
        made = Session(catalog, backend)
        made.mark(np.flatnonzero(labels == 1)[:8], +1)
        made.mark(np.flatnonzero(labels == 0)[:5], -1)
        yield made


@pytest.mark.parametrize("model", ["ensemble", "branch-classic", "tree"])
@pytest.mark.parametrize("second_stage", [False, True])
def test_an_item_of_the_answer_is_explained(session, model, second_stage):
    ranking = session.refine(model, second_stage=second_stage)
    needed = session.last_answer().min_votes
    assert (
        needed == (1 if second_stage else session.boxes.n_estimators // 2 + 1) == votes_needed(ranking, session.boxes)
    )
    for row in (0, len(ranking.ids) - 1):
        item = int(ranking.ids[row])
        told = session.explain(item)
        assert (told.item, told.votes, told.needed) == (item, ranking.votes[row], needed)
        assert told.matched == ranking.matched[row]
        assert told.score == (ranking.scores[row] if second_stage else None)
        assert told.threshold == (ranking.threshold if second_stage else None)
        found, alike = ("Found: ", "Not found: ")[not told.matched], "like what is marked right"
        marked = told.mark and f"It is marked {'right' if told.mark > 0 else 'wrong'}, so it is "
        assert reason(EN, told).startswith(marked or found)
        assert marked or alike in reason(EN, told)
        assert second_stage == ("closer look" in reason(EN, told)) or marked
    assert verdict(EN, session.explain(int(session.positives[0]))).endswith(
        "Marked right, so in the answer in any case."
    )
    assert verdict(EN, session.explain(int(session.negatives[0]))).endswith("so not in the answer in any case.")


def test_an_item_outside_the_answer_is_told_what_it_misses(session):
    ranking = session.refine("branch")
    item = int(np.setdiff1d(np.arange(session.catalog.n), ranking.ids)[0])
    told = session.explain(item)
    assert told.misses
    assert (told.votes, told.held, told.score, told.matched) == (0, (), None, False)
    assert verdict(EN, told) == "0 of 1 estimators hold it, 1 needed: no candidate. It does not match."
    assert reason(EN, told) == (
        "Not found: a quick look did not find it like what is marked right, so no closer look was taken."
    )


def test_what_cannot_be_explained_is_refused_with_advice(session):
    session.refine("linear")
    with pytest.raises(UsageError, match="linear and has no boxes; use another"):
        session.explain(3)
    session.refine("branch")
    with pytest.raises(UsageError, match="99999"):
        session.explain(99999)
    with pytest.raises(UsageError, match="then find all"):
        Session(session.catalog, session.backend).explain(3)
