"""The verbs of the catalog service without HTTP: what they return, what they store, and which of them wait."""

import json
import threading

import numpy as np
import pytest
from serving import *  # noqa: F403

from gpubranches.core.options import RefineOptions
from gpubranches.core.results import TIERS
from gpubranches.errors import ConflictError, UsageError
from gpubranches.retrieval.queries import Words
from gpubranches.service.session_store import query_path
from gpubranches.service.types import (
    MarkRequest,
    NearestPageRequest,
    RandomPageRequest,
    SearchRequest,
    SinceFound,
    StepRequest,
)

NAME = "teapot"


@pytest.fixture
def found(service, labels):
    """A session that has found all of a label, with the state that it returned."""
    session = service.sessions.create("Fives", seed=3)
    near = service.nearest(SearchRequest(NAME, 60)).hits.ids
    right = labels[near] == labels[near[0]]
    service.mark(session, MarkRequest(near[right][:8], +1))
    service.mark(session, MarkRequest(near[~right][:10], -1))
    return session, service.find_all(session, RefineOptions(lean=0.25))


def test_every_kind_of_query_has_its_nearest(service, catalog):
    item = service.nearest(SearchRequest(3, 5)).hits
    assert item.ids[0] == 3
    assert np.array_equal(service.nearest(SearchRequest("#3", 5)).hits.ids, item.ids)
    assert np.array_equal(service.nearest(SearchRequest(catalog.embeddings([3])[0], 5)).hits.ids, item.ids)
    assert service.nearest(SearchRequest(catalog.codes([3])[0], 1)).hits.distances[0] == 0
    assert np.array_equal(
        service.nearest(SearchRequest(NAME, 5)).hits.ids, service.nearest(SearchRequest(Words(NAME), 5)).hits.ids
    )
    with pytest.raises(UsageError):  # taken literally, "#3" is no name that the embedder knows
        service.nearest(SearchRequest(Words("#3"), 5))
    filtered = service.nearest(SearchRequest(3, 5, where="label = 1")).hits
    assert {row["label"] for row in service.items(filtered.ids)} == {1}


def test_a_search_becomes_the_last_query_and_its_later_pages_do_not(service):
    session = service.sessions.create()
    first = service.search(session, NearestPageRequest(NAME, "label < 5", count=10))
    assert (first.state.record.path, first.state.record.words) == (query_path(NAME, "label < 5"), NAME)
    later = service.more(session, NearestPageRequest(NAME, "label < 5", offset=10, count=10))
    assert not set(first.ids) & set(later.ids)
    assert later.total == service.count("label < 5") == later.inside
    other = service.search(session, NearestPageRequest(3, count=10))
    record = other.state.record
    assert (record.query, record.asked, record.words, record.where) == ("#3", NAME, NAME, "")
    service.more(session, NearestPageRequest("violin", count=10))
    assert service.sessions.record(session).query == "#3"


def test_random_items_change_only_the_filter(service):
    session = service.sessions.create()
    page = service.random(session, RandomPageRequest(4, "label = 1", count=10))
    assert page.state.record.settings == {"where": "label = 1"}
    assert np.array_equal(page.ids, service.more(session, RandomPageRequest(4, "label = 1", count=10)).ids)


def test_an_event_counts_once_and_its_name_serves_no_other_request(service):
    session = service.sessions.create()
    request = MarkRequest(np.array([5, 5, 6]), +1, event="the-first-mark")
    assert service.mark(session, request).ids == service.mark(session, request).ids == (5, 6)
    with pytest.raises(ConflictError, match="new name"):
        service.mark(session, MarkRequest(np.array([7]), +1, event="the-first-mark"))
    assert service.marks(session).marks == ((5, 1, "user"), (6, 1, "user"))
    version = service.changes(session, 0).version
    assert service.undo(session).ids == service.redo(session).ids == (5, 6)
    assert service.changes(session, version).marks == {5: 1, 6: 1}
    assert service.clear(session).ids == (5, 6)
    assert service.changes(session, version).positive == 0


def test_find_all_stores_its_options_and_the_next_one_goes_on_with_them(service, found):
    session, state = found
    assert (state.session, state.seed, state.positive, state.negative) == (session, 3, 8, 10)
    assert state.record.options == RefineOptions(second_stage=True, lean=0.25)
    service.search(session, NearestPageRequest(NAME))
    assert service.continued(session, RefineOptions("branch")) == RefineOptions("branch", lean=0.25, query=NAME)
    service.sessions.store.update(session, words="zebra")
    assert service.continued(session, RefineOptions()).query is None
    assert service.recut(session, -0.5).record.options.lean == -0.5
    with pytest.raises(UsageError, match="round before"):
        service.recut(session, 0.5, part="new")
    assert service.sessions.state(session).ranking.lean == -0.5


def test_parts_of_an_answer_are_paged(service, found):
    session, state = found
    total = state.ranking.total
    pages = [service.part(session, "all", offset, 20) for offset in range(0, total, 20)]
    ids = np.concatenate([page.ids for page in pages])
    assert np.array_equal(ids, state.ranking.ids[state.ranking.matched])
    assert {page.total for page in pages} == {total}
    assert sum(service.part(session, tier, 0, 1).total for tier in TIERS) == total
    assert len(pages[0].tiers) == len(pages[0].scores) == len(pages[0].votes) == 20
    with pytest.raises(UsageError, match="nothing is found yet"):
        service.part(service.sessions.create(), "all", 0, 20)


def test_what_is_proposed_is_not_marked_yet(service, found):
    session, state = found
    for proposal in (service.suggest(session, 5), service.audit(session, 5)):
        assert len(proposal.ids) == 5
        assert not set(proposal.ids.tolist()) & set(state.marks)
    step = service.next_step(session, StepRequest(0.9, 5))
    assert step.step.done or len(step.step.ids) == 5
    assert step.state.record.options.lean == step.state.ranking.lean


def test_exports_need_the_session_no_more_once_they_are_made(service, found):
    session, state = found
    file = service.export(session, "jsonl")
    service.sessions.delete(session)
    assert file.name == f"matches-{state.ranking.total}.jsonl"
    assert len(b"".join(file.content).splitlines()) == state.ranking.total
    with pytest.raises(UsageError, match="nothing is found yet"):
        service.export_boxes(session, "sql")


def test_a_copy_has_the_same_marks_seed_and_options(service, found):
    session, state = found
    copy = service.sessions.state(service.sessions.copy(session, "Copy of Fives"))
    assert copy.record.title == "Copy of Fives"
    assert (copy.seed, copy.marks, copy.record.options) == (state.seed, state.marks, state.record.options)
    assert copy.answer is None
    assert service.sessions.rename(session, "  Two \n words ") == service.sessions.record(session).name == "Two words"
    with pytest.raises(UsageError, match="at most 200 letters"):
        service.sessions.rename(session, "x" * 201)


def test_searches_and_marks_do_not_wait_for_a_session_that_trains(service, found):
    session, _ = found
    done = []

    def use():
        done.append(service.search(session, NearestPageRequest(NAME)).total)
        done.append(service.mark(session, MarkRequest(np.array([9]), -1)).ids)
        done.append(service.part(session, "all", 0, 5).ids)

    waiting = threading.Thread(target=lambda: service.suggest(session, 1))
    with service.sessions.exclusive(session):
        using = threading.Thread(target=use)
        using.start()
        using.join(60)
        assert len(done) == 3
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize("closed", [True, False])
def test_a_warm_up_that_the_end_of_the_server_cuts_short_is_no_error(service, monkeypatch, closed):
    def search_while_closing(*_args, **_options):
        if closed:
            service.close()
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(service.backend, "search", search_while_closing)
    if closed:
        assert service.warm_up() is None
    else:
        with pytest.raises(RuntimeError, match="after shutdown"):
            service.warm_up()


def rows_of(service, session, part="all"):
    return [json.loads(line) for line in b"".join(service.export(session, "jsonl", part).content).splitlines()]


def test_what_is_listed_counted_and_exported_honours_every_mark_at_once(service, found):
    session, state = found
    matched, below = state.last_answer().matches.ids.tolist(), state.last_answer().part("below").ids.tolist()
    unranked = next(i for i in range(service.catalog.n) if i not in set(state.ranking.ids.tolist()))
    unmarked = [item for item in matched if item not in state.marks]
    wrong, right = unmarked[:3], [below[0], unranked]
    before = state.version
    service.mark(session, MarkRequest(wrong, -1))
    service.mark(session, MarkRequest(right, +1))

    now = service.sessions.state(session)
    assert now.since == SinceFound(len(matched) - 1, joined=2, left=3, new_marks=5)
    assert service.changes(session, before).since == now.since
    kept = [item for item in matched if item not in wrong]
    listed = service.part(session, "all", 0, 1000).ids.tolist()
    assert set(listed) == {*kept, *right}
    assert listed[-1] == unranked
    assert now.ranking.total == len(now.last_answer().matches) == len(listed) == len(matched) - 1
    assert below[0] not in service.part(session, "below", 0, 1000).ids
    assert service.explain(session, right[0]).matched
    assert not service.explain(session, wrong[0]).matched

    rows = {row["id"]: row for row in rows_of(service, session)}
    assert [*rows] == listed
    assert {rows[item]["mark"] for item in right} == {1}
    assert rows[unranked]["score"] is None
    assert [rows[item]["tier"] for item in right] == ["sure", "sure"]
    assert [rows[item]["chance"] for item in right] == [1, 1]
    assert all(row["tier"] in TIERS and 0 <= row["chance"] <= 1 for row in rows.values())

    assert service.part(session, "all", 0, 1000, at=before).ids.tolist() == matched
    service.undo(session)
    service.undo(session)
    undone = service.sessions.state(session)
    assert undone.since == SinceFound(len(matched), 0, 0, 0)
    assert undone.last_answer() is state.last_answer()


def test_estimates_are_of_what_matches_under_the_marks(service, found):
    session, state = found
    service.mark(session, MarkRequest(state.last_answer().matches.ids, +1))
    assert service.sessions.state(session).ranking.precision == (1, 1, 1)
    service.mark(session, MarkRequest(state.last_answer().matches.ids, -1))
    emptied = service.sessions.state(session)
    assert (emptied.ranking.total, emptied.ranking.precision) == (0, None)
