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
from gpubranches.core.options import RefineOptions
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.encode import encode
from gpubranches.service import snapshot_follower as module
from gpubranches.service.snapshot_follower import SnapshotFollower
from gpubranches.service.types import MarkRequest

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
    catalog = Catalog.open(folder)
    follower, codes, seen = SnapshotFollower(catalog), catalog.codes(np.arange(600)), []

    def later():
        with follower.reading():
            seen.append(catalog.d)

    with follower.reading():
        encode(folder, head="pca", d=8)
        thread = threading.Thread(target=later)
        thread.start()
        thread.join()
        assert seen == [8]
        assert np.array_equal(catalog.codes(np.arange(600)), codes)
    with follower.reading():
        assert catalog.d == 8


def test_no_request_waits_for_a_find_all_while_the_catalog_changes(app, folder, world):
    """A find all is held in the middle; marks, searches and the find all of another session see two commits."""
    service, client = app.extensions["gpubranches"].service, app.test_client()
    right, wrong = (MarkRequest(np.flatnonzero(world[1] == label)[:6], sign) for label, sign in ((1, 1), (2, -1)))
    middle, go_on, slow = threading.Event(), threading.Event(), []

    def find_all(session):
        service.mark(session, right)
        service.mark(session, wrong)
        return service.find_all(session, RefineOptions()).answer.generation

    def held():
        with service.follower.reading():
            middle.set()
            go_on.wait()
            slow.extend([service.catalog.n, find_all("slow")])

    running = threading.Thread(target=held)
    running.start()
    middle.wait()
    for deleted in (590, 591):
        Catalog.open(folder).delete([deleted])
        assert post(client, "/mark", id=1, value="1").status_code == 200
        assert shown(client.get("/like?id=17"))[0] == 17
        assert deleted not in shown(client.get(f"/like?id={deleted - 1}"))
    with service.follower.reading():
        quick = find_all("quick")
    go_on.set()
    running.join()
    assert slow == [600, quick - 2]
    assert service.catalog.n == 598


def test_an_answer_of_old_codes_that_comes_late_is_dropped(app, folder, world):
    service = app.extensions["gpubranches"].service
    with service.follower.reading():
        service.mark("s", MarkRequest(np.flatnonzero(world[1] == 1)[:6], 1))
        encode(folder, head="pca", d=8)
        service.follower.follow()
        assert service.find_all("s", RefineOptions()).answer is not None
        assert service.sessions.state("s").answer is not None, "the request that found it shows it"
    with service.follower.reading():
        state = service.sessions.state("s")
        assert (state.answer, state.positive) == (None, 6)
        assert service.find_all("s", RefineOptions()).answer.coding == service.catalog.coding


def test_a_generation_that_cannot_be_opened_is_not_served(app, folder, monkeypatch, caplog):
    client = app.test_client()
    generation = client.get("/healthz").json["generation"]
    whole = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(b"{}")
    for _ in range(2):
        assert shown(client.get("/like?id=17"))[0] == 17
        assert client.get("/healthz").json["generation"] == generation
    assert caplog.text.count(f"generation {generation} is still served") == 1
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
