"""A catalog that can only be read, and marks on items that are there no more."""

import json
import shutil
import sqlite3
from io import BytesIO
from pathlib import Path

import pytest
from clusters import write_world

from gpubranches import Catalog, open_backend
from gpubranches.app import create_app
from gpubranches.ingestion import ingest

HX = {"HX-Request": "true"}
LOST = '<p class="unkept"'


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
def serve():
    opened = []

    def served(folder):
        catalog = Catalog.open(folder)
        backend = open_backend("oracle", catalog)
        opened.append((backend.__enter__(), create_app(catalog, backend)))
        return opened[-1][1]

    yield served
    for backend, app in opened:
        app.extensions["gpubranches"].service.close()
        backend.__exit__(None, None, None)


@pytest.fixture
def only_readable(monkeypatch):
    """Let nobody write a file of marks in a folder, as on a disk that is mounted to be read, whoever runs the tests."""

    def forbid(folder):
        connect = sqlite3.connect

        def connected(path, *others, **options):
            if folder in Path(str(path)).parents:
                return connect(f"file:{path}?mode=ro", *others, uri=True, **options)
            return connect(path, *others, **options)

        monkeypatch.setattr(sqlite3, "connect", connected)

    return forbid


def mark(client, *ids, label=1):
    return client.post("/mark", data={"id": list(ids), "value": label}, headers=HX)


def test_a_catalog_that_was_served_and_can_only_be_read_now_is_served_and_warned_of(serve, folder, only_readable):
    before = serve(folder).test_client()
    mark(before, 1, 2, 3)
    session = before.get_cookie("gpubranches").value
    assert LOST not in before.get("/").text
    only_readable(folder)
    app = serve(folder)
    client = app.test_client()
    client.set_cookie("gpubranches", session)
    for page in ("/", "/sessions"):
        assert LOST in client.get(page).text, page
    assert client.get("/marks").json["positive"] == 3
    assert client.get("/like?id=3", headers=HX).status_code == 200
    assert mark(client, 4).json["positive"] == 4
    assert client.post("/refine", data={"second_stage": "1"}, headers=HX).status_code == 200
    assert client.get("/marks").json["positive"] == 4
    assert app.extensions["gpubranches"].service.sessions.keeps_marks is False
    assert before.get("/marks").json["positive"] == 3


def test_a_catalog_that_becomes_only_readable_while_it_is_served_answers_searches_and_takes_marks_later(
    serve, folder, monkeypatch
):
    client = serve(folder).test_client()
    client.get("/")
    database = client.application.extensions["gpubranches"].service.sessions.store.database
    with database.reading() as connection:
        connection.execute("PRAGMA query_only=1")
    assert client.get("/like?id=3", headers=HX).status_code == 200
    answer = client.post("/mark", data={"id": 3, "value": 1}, headers={**HX, "Accept": "application/json"})
    assert answer.status_code == 503
    assert "permissions" in answer.json["error"]
    with database.reading() as connection:
        connection.execute("PRAGMA query_only=0")
    assert mark(client, 3).status_code == 200


@pytest.mark.parametrize("compacted", [False, True])
def test_a_session_with_marks_on_deleted_items_is_copied_taken_away_and_brought_back(serve, folder, compacted):
    client = serve(folder).test_client()
    mark(client, 1, 2, 3)
    mark(client, 4, label=-1)
    session = client.get_cookie("gpubranches").value
    catalog = Catalog.open(folder)
    catalog.delete([2, 4])
    if compacted:
        catalog.compact()
    told = client.get("/marks").json
    assert (told["positive"], told["negative"]) == (2, 0)
    assert client.post(f"/sessions/{session}/copy", headers=HX).status_code == 204
    assert client.get("/marks").json["positive"] == 2
    file = client.get(f"/sessions/{session}.json")
    assert {mark["id"] for mark in file.json["marks"]} == {1, 2, 3, 4}
    sent = {"file": (BytesIO(file.data), "session.json")}
    brought = client.post("/sessions/import", data=sent, headers=HX, content_type="multipart/form-data")
    assert brought.status_code == 204
    assert client.get("/marks").json["positive"] == 2


def test_a_mark_on_an_item_that_never_was_is_refused(serve, folder):
    client = serve(folder).test_client()
    mark(client, 1)
    file = client.get(f"/sessions/{client.get_cookie('gpubranches').value}.json").json
    file["marks"].append({"id": 600, "label": 1, "origin": "user"})
    sent = {"file": (BytesIO(json.dumps(file).encode()), "session.json")}
    answer = client.post("/sessions/import", data=sent, headers=HX, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert "another catalog" in answer.text
