"""Marks behind a busy server: one transaction for an import, answers that wait for nobody, counts without a replay."""

import json
import os
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from clusters import write_world
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Catalog, Session, open_backend
from gpubranches.app import create_app
from gpubranches.errors import UnavailableError, WaitError
from gpubranches.ingestion import ingest
from gpubranches.service.catalog_service import CatalogService
from gpubranches.service.database import WAIT_S, Database
from gpubranches.service.labels import Labels
from gpubranches.service.open_sessions import OpenSessions, session_bytes
from gpubranches.service.session_files import FORMAT, VERSION
from gpubranches.service.session_store import EXAMPLES, SessionStore

HX = {"HX-Request": "true"}
API = "/api/v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path, 600)
    ingest([path / "images"], path / "catalog")
    return path / "catalog"


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world, tmp_path / "catalog")


@pytest.fixture
def service(folder):
    catalog = Catalog.open(folder)
    with open_backend("oracle", catalog) as backend:
        made = CatalogService(catalog, backend)
        yield made
        made.close()


@pytest.fixture
def app(folder):
    catalog = Catalog.open(folder)
    with open_backend("oracle", catalog) as backend:
        made = create_app(catalog, backend)
        yield made
        made.extensions["gpubranches"].service.close()


@pytest.fixture
def client(app):
    return app.test_client()


def packed(marks, **others):
    marks = [{"id": item, "label": label, "origin": "user"} for item, label in marks]
    told = {"format": FORMAT, "version": VERSION, "name": "", "asked": "", "query": "", "seed": 0, "model": "ensemble"}
    return json.dumps({**told, "second_stage": None, "lean": 0.0, "marks": marks, **others}).encode()


def bring(client, file):
    sent = {"file": (BytesIO(file), "session.json")}
    return client.post("/sessions/import", data=sent, headers=HX, content_type="multipart/form-data")


def told(client):
    answer = client.get("/marks").json
    return answer["positive"], answer["negative"]


def locked(folder):
    """Hold the file of the marks as another process does that writes."""
    connection = sqlite3.connect(folder / "labels.sqlite", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


def commits(folder):
    """Return how often the file of the marks was committed to, by the frames of its log that end a transaction."""
    log = (folder / "labels.sqlite-wal").read_bytes()
    size = int.from_bytes(log[8:12], "big") + 24
    return sum(log[at + 4 : at + 8] != b"\0\0\0\0" for at in range(32, len(log), size))


def test_a_session_of_alternating_marks_is_brought_in_one_transaction(client, folder):
    client.get("/")
    before = commits(folder)
    marks = [(i % 600, 1 if i % 2 else -1) for i in range(900)]
    assert bring(client, packed(marks)).status_code == 204
    assert commits(folder) - before == 1
    assert told(client) == (300, 300)
    undone = client.post("/undo", headers=HX).json
    assert undone["items"] == [299]


def test_marks_that_cannot_be_written_whole_are_not_written_at_all(tmp_path):
    labels = Labels.open(tmp_path / "labels.sqlite", "one")
    labels.mark([1], 1)
    with labels.database.reading() as connection:
        connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(UnavailableError, match="space"):
        labels.bring([(i, 1 if i % 2 else -1, "user") for i in range(20_000)])
    assert labels.current() == {1: 1}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["mark", "mark", "undo", "redo"]),
        st.sampled_from(["a", "b"]),
        st.lists(st.integers(0, 6), min_size=1, max_size=4),
        st.sampled_from([1, 1, -1, 0]),
    ),
    max_size=30,
)


@given(ACTIONS, st.integers(0, 30))
def test_counts_are_those_of_the_log_replayed(actions, looked):
    store = SessionStore.open(":memory:")
    labels = {name: Labels(store.database, name) for name in "ab"}
    for number, (what, name, ids, label) in enumerate(actions):
        if what == "mark":
            labels[name].mark(ids, label)
        else:
            getattr(labels[name], what)()
        if number == looked:
            store.records()
    begun = {name for name, held in labels.items() if held.events()}
    records = {record.session: record for record in store.records()}
    assert set(records) == begun
    for name in begun:
        right = [item for item, label in labels[name].current().items() if label > 0]
        wrong = [item for item, label in labels[name].current().items() if label < 0]
        record = records[name]
        assert (record.positive, record.negative) == (len(right), len(wrong))
        assert record.examples == tuple(right[:EXAMPLES])
    store.close()


def test_sessions_are_listed_without_reading_their_events_again(tmp_path):
    store = SessionStore.open(tmp_path / "labels.sqlite")
    labels = {name: Labels(store.database, name) for name in "abc"}
    for held in labels.values():
        held.bring([(item, 1 if item % 3 else -1, "user") for item in range(2000)])

    def steps(limit=200):
        """Return a measure of the work of SQLite: how many thousands of its steps a listing takes."""
        taken = []
        with store.database.reading() as connection:
            connection.set_progress_handler(lambda: taken.append(1), 1000)
        store.records(limit)
        with store.database.reading() as connection:
            connection.set_progress_handler(None, 0)
        return len(taken)

    first = steps()
    assert first > 10
    assert steps() <= 1
    labels["a"].mark([1], 0)
    assert steps() <= first // 2
    assert {record.session: record.positive for record in store.records()} == {"a": 1332, "b": 1333, "c": 1333}
    store.close()


def test_health_answers_while_a_new_generation_is_opened(app, folder, monkeypatch):
    client, catalog = app.test_client(), app.extensions["gpubranches"].service.catalog
    client.get("/")
    opening, go_on, refresh = threading.Event(), threading.Event(), catalog.refresh
    monkeypatch.setattr(catalog, "refresh", lambda: opening.set() or (go_on.wait() and refresh()))
    Catalog.open(folder).delete([0])
    another = threading.Thread(target=lambda: app.test_client().get("/"))
    another.start()
    opening.wait()
    for path in ("/healthz", "/metrics", "/static/page.css"):
        with client.get(path) as answer:
            assert answer.status_code == 200, path
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert int(ready.headers["Retry-After"]) > 0
    go_on.set()
    another.join()
    assert client.get("/healthz").json["items"] == 599
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/mark", "/undo", "/redo", "/clear"])
def test_a_mark_behind_a_locked_file_is_to_be_sent_again(client, folder, path):
    client.post("/mark", data={"id": 1, "value": 1}, headers=HX)
    form = {"id": 2, "value": 1, "event": "abcdefgh1"}
    with locked(folder):
        answer = client.post(path, data=form, headers={**HX, "Accept": "application/json"})
        assert answer.status_code == 503
        assert 0 < int(answer.headers["Retry-After"]) < 10
        assert "try again" in answer.json["error"]
        assert told(client) == (1, 0)
    assert client.post(path, data=form, headers=HX).status_code == 200


def test_the_api_tells_a_locked_file_as_a_problem(client, folder):
    at = f"{API}/sessions/{client.post(f'{API}/sessions', json={}).json['session']}"
    with locked(folder):
        answer = client.post(f"{at}/marks", json={"ids": [1], "label": 1})
        assert (answer.status_code, answer.json["type"]) == (503, "urn:gpubranches:WaitError")
        assert int(answer.headers["Retry-After"]) > 0
        assert client.get(at).status_code == 200


def test_many_marks_behind_a_locked_file_do_not_wait_one_for_another(app, client, folder):
    """Each waits for one bound of its own, however many there are: the second bound is a hundred of the first."""
    waits = []
    clock = threading.Barrier(13)

    def mark(number):
        own = app.test_client()
        own.get("/")
        clock.wait()
        waits.append(own.post("/mark", data={"id": number, "value": 1}, headers=HX).status_code)

    threads = [threading.Thread(target=mark, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    with locked(folder):
        clock.wait()
        for thread in threads:
            thread.join(100 * WAIT_S)
        assert waits == [503] * 12


@pytest.mark.parametrize("address", ["/like?id=3", "/random?seed=1&where=id+<+9", "/search?q=%233"])
def test_a_search_is_answered_though_no_note_of_it_can_be_written(client, folder, address, caplog):
    client.get("/")
    with locked(folder):
        answer = client.get(address, headers=HX)
        assert answer.status_code == 200
        assert 'id="tile-3"' in answer.text or "id < 9" in answer.text or "id &lt; 9" in answer.text
        assert client.get("/sessions").status_code == 200
    assert "not stored" in caplog.text


def test_find_all_is_answered_though_no_note_of_it_can_be_written(client, folder):
    client.post("/mark", data={"id": [1, 2, 3], "value": 1}, headers=HX)
    with locked(folder):
        assert client.post("/refine", data={"second_stage": "1"}, headers=HX).status_code == 200
        assert client.post("/recut", data={"lean": ".5"}, headers=HX).status_code == 200


def test_a_write_ends_with_an_error_while_another_writes(tmp_path):
    database = Database.open(tmp_path / "a.sqlite", "CREATE TABLE IF NOT EXISTS t (x)", "numbers")

    def write():
        with database.writing(0.05):
            pass

    with ThreadPoolExecutor(1) as workers, database.writing() as first:
        first.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(WaitError, match="numbers"):
            workers.submit(write).result()
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    database.close()


def test_sessions_are_shut_beyond_their_bytes_and_the_one_in_use_stays(tmp_path):
    store = SessionStore.open(tmp_path / "labels.sqlite")

    def make(name):
        session = Session.__new__(Session)
        session.labels, session.found = Labels(store.database, name), None
        return session

    sessions = OpenSessions(make, limit_bytes=200_000)
    for number in range(12):
        with sessions.exclusive(f"s{number}") as session:
            session.labels.bring([(item, 1, "user") for item in range(100)])
            session.labels.current()
    assert 2 <= len(sessions) <= 4
    with sessions.exclusive("large") as session:
        session.labels.bring([(item, 1, "user") for item in range(2000)])
        session.labels.current()
    assert len(sessions) == 1
    with sessions.exclusive("s0") as back:
        assert len(back.labels.current()) == 100
    store.close()


def test_answers_in_memory_are_counted_in_bytes(service):
    with service.sessions.exclusive("one") as session:
        session.mark(np.arange(12), 1)
        before = session_bytes(session)
        session.refine(second_stage=True)
        ranking = session.last_answer().ranking
        assert before + ranking.ids.nbytes + ranking.scores.nbytes < session_bytes(session) < before + (8 << 20)
        answered = session_bytes(session)
        session.catalog.padding = np.zeros(1 << 20)  # of the catalog, which no session has to itself
        assert session_bytes(session) == answered
        del session.catalog.padding


def test_sessions_share_their_file_handles(app):
    def handles():
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return sum("labels.sqlite" in os.readlink(link) for link in links if link.is_symlink())

    for number in range(40):
        client = app.test_client()
        client.post("/mark", data={"id": number, "value": 1}, headers=HX)
    assert len(app.extensions["gpubranches"].service.sessions) == 40
    assert handles() <= 4 * 3
