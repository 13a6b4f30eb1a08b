"""Long computations: their stages are told, a cancelled one stops where the next stage begins and changes nothing."""

import threading

import numpy as np
import pytest
from serving import *  # noqa: F403

from gpubranches.core import stages
from gpubranches.core.options import RefineOptions
from gpubranches.errors import CancelledError, SessionGoneError
from gpubranches.service import session_store
from gpubranches.service.session_store import EXAMPLES, SessionStore, distinct_examples
from gpubranches.service.tasks import Tasks
from gpubranches.service.types import MarkRequest, SearchRequest

OPTIONS = {
    "narrow or broad": RefineOptions(),
    "by votes": RefineOptions(second_stage=False),
    "linear": RefineOptions("linear"),
}


@pytest.fixture
def marked(service, labels):
    session = service.sessions.create("Teapots")
    near = service.nearest(SearchRequest("teapot", 40)).hits.ids
    right = labels[near] == labels[near[0]]
    service.mark(session, MarkRequest(near[right][:6], +1))
    service.mark(session, MarkRequest(near[~right][:6], -1))
    return session


def stages_of(service, session, options):
    told = []
    with stages.watched(told.append):
        service.find_all(session, options)
    return told


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_find_all_stops_at_any_of_its_stages_and_leaves_the_answer_before(service, marked, kind):
    options = OPTIONS[kind]
    told = stages_of(service, marked, options)
    assert {"train", "cut", "estimate"} <= set(told)
    before = service.sessions.state(marked)
    for last in range(len(told)):
        reached = []

        def stop(stage, last=last, reached=reached):
            reached.append(stage)
            if len(reached) > last:
                raise CancelledError("stop")

        with stages.watched(stop), pytest.raises(CancelledError):
            service.find_all(marked, options)
        assert reached == told[: last + 1]
        after = service.sessions.state(marked)
        assert (after.answer, after.record) == (before.answer, before.record)


def test_another_thread_sees_the_stage_and_cancels(service, marked):
    entered, go_on = threading.Event(), threading.Event()
    ended = []

    def run():
        try:
            with service.tasks.running(marked, "task-of-mine"):
                stages.begin("train")
                entered.set()
                go_on.wait(10)
                stages.begin("rank")
        except CancelledError as error:
            ended.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(10)
    assert service.tasks.stage(marked, "task-of-mine") == "train"
    assert service.tasks.stage("another session", "task-of-mine") == ""
    service.tasks.cancel(marked, "task-of-mine")
    go_on.set()
    thread.join(10)
    assert ended == ["the task was cancelled; nothing was changed"]
    assert service.tasks.stage(marked, "task-of-mine") == ""


def test_a_task_that_was_cancelled_before_it_began_does_not_begin():
    tasks = Tasks()
    tasks.cancel("s", "one")
    with pytest.raises(CancelledError), tasks.running("s", "one"):
        pytest.fail("it began")
    with tasks.running("s", "one"):  # the name is free again
        stages.begin("train")


def test_the_memory_of_names_is_bounded():
    tasks = Tasks()
    for number in range(3000):
        tasks.cancel("s", str(number))
    assert len(tasks._tasks) <= 1000


def test_no_watcher_outlives_its_block():
    with pytest.raises(ZeroDivisionError), stages.watched(lambda stage: 1 / 0):
        stages.begin("train")
    stages.begin("train")


def test_a_deleted_session_comes_back_whole_with_its_id_and_answer(service, marked, monkeypatch):
    state = service.find_all(marked, RefineOptions())
    log = [event["event_id"] for event in events(service, marked)]
    service.sessions.discard(marked)
    assert service.sessions.deleted(marked)
    assert marked not in [record.session for record in service.sessions.records()]
    service.sessions.bring_back(marked)
    assert [event["event_id"] for event in events(service, marked)] == log
    after = service.sessions.state(marked)
    assert (after.record.name, after.record.matches, after.marks) == ("Teapots", state.ranking.total, state.marks)
    assert np.array_equal(after.ranking.ids, state.ranking.ids)

    service.sessions.discard(marked)
    monkeypatch.setattr(session_store, "DISCARDED_S", -1.0)
    with pytest.raises(SessionGoneError, match="cannot be brought back"):
        service.sessions.bring_back(marked)
    service.sessions.discard(service.sessions.create("Another"))
    assert events(service, marked) == []
    assert service.sessions.deleted(marked)


def events(service, session):
    with service.sessions.shared(session) as held:
        return held.labels.events()


def test_sessions_are_found_by_what_they_looked_for_and_sorted(tmp_path):
    store = SessionStore.open(tmp_path / "labels.sqlite")
    settings = {"asked": "", "matches": 3}
    for name, more in {
        "b": {**settings, "exported": {"name": "b-3.csv", "at_s": 5.0}},
        "a": {"asked": "Äpfel", "matches": 10},
        "c": {"query": "/search?q=red+kangaroo", "exported": {"name": "c.csv", "at_s": 9.0}},
        "d": {"words": "a stop sign", "matches": 0},
    }.items():
        store.update(name, name=name, **more)
    assert [r.session for r in store.records()] == ["d", "c", "a", "b"]
    assert [r.session for r in store.records(order="name")] == ["a", "b", "c", "d"]
    assert [r.session for r in store.records(order="matches")] == ["a", "b", "d", "c"]
    assert [r.session for r in store.records(order="exported")] == ["c", "b", "d", "a"]
    assert [r.session for r in store.records(text=" äPFEL")] == ["a"]
    assert [r.session for r in store.records(text="red kanga")] == ["c"]
    assert [r.session for r in store.records(text="stop")] == ["d"]
    assert [r.session for r in store.records(2, order="name")] == ["a", "b"]
    assert store.records(text="stop")[0].exported is None
    assert store.records(text="b")[0].exported == ("b-3.csv", 5.0)
    store.close()


def test_sessions_that_began_alike_are_told_apart_by_their_pictures():
    alike = (1, 2, 3, 4)
    chosen = distinct_examples([(*alike, 10, 11, 12, 13), (*alike, 20), alike], EXAMPLES)
    assert chosen == [(10, 11, 12, 13), (20, 1, 2, 3), alike]


def test_an_export_is_remembered_with_its_session(service, marked):
    state = service.find_all(marked, RefineOptions())
    name = service.export(marked, "csv").name
    record = next(r for r in service.sessions.records() if r.session == marked)
    assert record.exported[0] == name
    assert record.matches == state.ranking.total
    assert service.recut(marked, 0.5).ranking.total == service.sessions.record(marked).matches


def test_a_part_is_listed_without_marked_items_and_from_the_cut(service, marked):
    state = service.find_all(marked, RefineOptions())
    whole = state.part("all", 0, 10_000)
    cut, marks = state.ranking.threshold, set(state.marks)
    unmarked = state.part("all", 0, 10_000, unmarked=True)
    assert unmarked.ids.tolist() == [item for item in whole.ids.tolist() if item not in marks]
    unsure = state.part("all", 0, 10_000, unmarked=True, least_sure_first=True)
    assert set(unsure.ids.tolist()) == set(unmarked.ids.tolist())
    assert (np.diff(np.abs(unsure.scores - cut)) >= 0).all()
    assert unsure.total == len(unsure.ids) > 5
    pages = [state.part("all", at, 5, unmarked=True, least_sure_first=True).ids for at in range(0, unsure.total, 5)]
    assert np.concatenate(pages).tolist() == unsure.ids.tolist()
    below = state.part("below", 0, 50)
    assert state.part("below", 0, 50, least_sure_first=True).ids.tolist() == below.ids.tolist()
