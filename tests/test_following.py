import re
import shutil
import threading
import time

import numpy as np
import pytest
from clusters import write_world

from gpubranches import Catalog, Session, open_backend
from gpubranches.app import create_app
from gpubranches.app.limits import TrainingSlots
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.encode import encode
from gpubranches.service import snapshot_follower as module
from gpubranches.service.snapshot_follower import SnapshotFollower

HX = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    labels = write_world(path, 600)
    ingest([path / "images"], path / "catalog")
    return path / "catalog", labels


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world[0], tmp_path / "catalog")


@pytest.fixture
def app(folder):
    catalog = Catalog.open(folder)
    with open_backend("cpu", catalog) as backend:
        made = create_app(catalog, backend)
        yield made
        made.extensions["gpubranches"].service.close()


def shown(response):
    return [int(i) for i in re.findall(r'<li class="tile" id="tile-(\d+)"', response.text)]


def counts(response):
    return tuple(int(re.search(rf'id="{name}">([\d,]+)<', response.text)[1]) for name in ("positive", "negative"))


def post(client, path, **form):
    return client.post(path, data=form, headers=HX)


def found_all(client, labels):
    right, wrong = np.flatnonzero(labels == 1)[:8].tolist(), np.flatnonzero(labels == 2)[:8].tolist()
    post(client, "/mark", id=right, value="1")
    post(client, "/mark", id=wrong, value="-1")
    return post(client, "/refine", model="ensemble", second_stage="1")


def test_a_running_page_moves_to_new_codes_and_keeps_the_marks(app, folder, world):
    client, labels = app.test_client(), world[1]
    found = found_all(client, labels)
    ids, marked = shown(found), counts(client.get("/"))
    assert (labels[ids] == 1).mean() > 0.7
    assert client.get(f"/why/{ids[0]}", headers=HX).status_code == 200
    before = client.get("/healthz").json
    encode(folder, head="pca", d=8, quantizer="quantile")
    after = client.get("/healthz").json
    assert (after["generation"], after["items"]) == (before["generation"] + 1, before["items"])
    page = client.get("/matches")
    assert counts(page) == marked == (8, 8)
    assert "Find all again" in page.text
    for path in (f"/why/{ids[0]}", "/suggest", "/export/boxes.sql"):
        assert client.get(path, headers=HX).status_code == 422
    assert shown(client.get("/like?id=17"))[0] == 17
    again = post(client, "/refine", model="ensemble", second_stage="1")
    assert again.status_code == 200
    assert (labels[shown(again)] == 1).mean() > 0.7
    assert client.get(f"/why/{shown(again)[0]}", headers=HX).status_code == 200
    assert app.extensions["gpubranches"].service.catalog.d == 8


def test_a_running_page_sees_deletes_and_appends_and_keeps_its_answer(app, folder, world, tmp_path):
    client = app.test_client()
    ids = shown(found_all(client, world[1]))
    Catalog.open(folder).delete(ids[:1])
    assert shown(client.get("/matches")) == ids[1:]
    with client.get("/export/matches.json") as file:
        assert [row["id"] for row in file.json][: len(ids) - 1] == ids[1:]
    np.save(tmp_path / "more.npy", np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32))
    append(folder, [tmp_path / "more.npy"])
    assert client.get("/healthz").json["items"] == 604
    assert shown(client.get("/like?id=602"))[0] == 602
    Catalog.open(folder).compact()
    assert shown(client.get("/matches")) == ids[1:]
    assert client.get(f"/why/{ids[1]}", headers=HX).status_code == 200
    assert len(shown(client.get("/audit"))) == 20


def test_a_request_under_way_ends_on_the_generation_it_began_with(folder):
    catalog, calls = Catalog.open(folder), []
    follower = SnapshotFollower(catalog, lambda: calls.append(catalog.d))
    codes = catalog.codes(np.arange(600))
    entered = threading.Event()

    def later():
        with follower.reading():
            entered.set()

    with follower.reading():
        encode(folder, head="pca", d=8)
        thread = threading.Thread(target=later)
        thread.start()
        while not follower._opening:
            time.sleep(0.001)
        assert np.array_equal(catalog.codes(np.arange(600)), codes)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert calls == [catalog.d] == [8]
    with follower.reading():
        assert calls == [8]


def test_a_generation_that_cannot_be_opened_is_not_served(app, folder, monkeypatch, caplog):
    client = app.test_client()
    generation = client.get("/healthz").json["generation"]
    whole = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(b"{}")
    for _ in range(2):
        assert shown(client.get("/like?id=17"))[0] == 17
        assert client.get("/healthz").json["generation"] == generation
    assert caplog.text.count(f"generation {generation} is served on") == 1
    (folder / "manifest.json").write_bytes(whole)
    encode(folder, head="pca", d=8)
    monkeypatch.setattr(module, "_RETRY_S", 0)
    app.extensions["gpubranches"].service.follower._retry_at_s = 0
    assert client.get("/healthz").json["generation"] == generation + 1


def test_many_requests_at_once_are_answered_while_the_codes_change(app, folder, world):
    done, failures = threading.Event(), []
    app.extensions["gpubranches"].limits.training = TrainingSlots(running=2, wait_s=600)  # on a busy machine, too

    def browse(number):
        client = app.test_client()
        first = found_all(client, world[1])
        while not done.is_set():
            for response in (client.get("/like?id=17"), post(client, "/refine", model=("ensemble", "branch")[number])):
                if response.status_code != 200 or not shown(response):
                    failures.append(response.text)
        assert first.status_code == 200

    threads = [threading.Thread(target=browse, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for d in (8, 32, 4, 64):
        encode(folder, head="pca", d=d)
        time.sleep(0.1)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert app.test_client().get("/healthz").json["generation"] == Catalog.open(folder).generation


def test_a_session_refuses_to_explain_by_boxes_of_other_codes(folder, world):
    catalog = Catalog.open(folder)
    with open_backend("oracle", catalog) as backend:
        session = Session(catalog, backend)
        session.mark(np.flatnonzero(world[1] == 1)[:6], +1)
        session.refine(where="label < 5")
        encode(folder, head="none")
        session.explain(3)
        catalog.refresh()
        with pytest.raises(UsageError, match="made anew since the last refine"):
            session.explain(3)
        audited = session.audit()  # the condition is asked again, of the rows where they lie now
        assert all(item["label"] < 5 for item in catalog.items(audited))
        session.refine()
        assert session.explain(3).item == 3
        session.forget()
        assert (session.boxes, session.ranking) == (None, None)
        assert len(session.positives) == 6
