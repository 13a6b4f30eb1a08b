"""Filters, sent pictures and long lists, as the server answers them; what they mean is tried elsewhere."""

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import numpy as np
import pytest
from clusters import NAMES
from pictures import COLOURS
from PIL import Image
from serving import *  # noqa: F403
from serving import API, found_all, picture

from gpubranches.app.rendering import PAGE
from gpubranches.catalog.metadata_table import MetadataTable
from gpubranches.core.bitmaps import pack_bitmap, sample_bitmap
from gpubranches.core.single_flight import SingleFlightCache
from gpubranches.errors import UsageError
from gpubranches.retrieval.hits import Hits
from gpubranches.service import session_store
from gpubranches.service.result_lists import LONGEST, ResultLists
from gpubranches.service.uploads import MOST_A_SESSION, Uploads

HX = {"HX-Request": "true"}
TEAPOT = NAMES.index("teapot")


def shown(response):
    assert response.status_code == 200, response.text
    return [int(i) for i in re.findall(r'<li class="tile" id="tile-(\d+)"', response.text)]


def ask(client, path, **query):
    return client.get(path, query_string=query, headers=HX)


def send(client, data, kind="image/png", headers=HX):
    return client.post("/pictures", data=data, content_type=kind, headers={**headers, "Accept": "application/json"})


# Filters


def test_a_filter_holds_for_every_list_and_stays_with_the_session(client, labels):
    where = f"label IN ({TEAPOT}, 2)"
    inside = np.flatnonzero(np.isin(labels, (TEAPOT, 2)))
    for path, query in (("/search", {"q": "violin"}), ("/like", {"id": 9}), ("/random", {"seed": 5})):
        found = ask(client, path, **query, where=where)
        assert set(shown(found)) <= set(inside)
        assert f'data-total="{len(inside)}"' in found.text
        assert f"<code>{where}</code>" in found.text
        assert "where=label" in found.headers["HX-Push-Url"]
        listed = unescape(re.search(r'data-address="([^"]+)"', found.text)[1])
        assert set(shown(client.get(f"{listed}&offset=0", headers=HX))) == set(shown(found))
    assert set(shown(client.get("/"))) <= set(inside)
    assert f"{len(inside)} of 700 items" in ask(client, "/search", q="violin", where=where).text
    assert ask(client, "/search", q="violin", where="").headers["HX-Push-Url"] == "/search?q=violin"
    assert 'class="filtered"' not in client.get("/").text


def test_conditions_and_columns_are_read_once_whoever_asks(app, monkeypatch):
    """Of the metadata of a large catalog each takes seconds."""
    read = []

    def counted(name, own):
        return lambda self, *arguments: (read.append(name), own(self, *arguments))[1]

    for name in ("select", "columns"):
        monkeypatch.setattr(MetadataTable, name, counted(name, getattr(MetadataTable, name)))
    client = app.test_client()
    ask(client, "/search", q="violin", where="label IN (2, 5)")
    assert read == ["select"]
    ask(client, "/filter/count", where="label IN (2, 5)")
    ask(client, "/search", q="teapot", where="label IN (2, 5)", offset=300)
    assert read == ["select"]
    catalog = app.extensions["gpubranches"].service.catalog
    catalog._described = SingleFlightCache(1)  # other tests have asked before
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: app.test_client().get("/filter/columns").text, range(8)))
    assert len(set(told)) == 1
    assert read == ["select", "columns"]


def test_find_all_within_a_filter_says_so_and_is_resumed_and_copied_with_it(client, labels):
    ids = np.flatnonzero(labels == TEAPOT)
    client.post("/mark", data={"id": ids[:6].tolist(), "value": "1"}, headers=HX)
    where = f"id < {ids[20]}"
    found = client.post("/refine", data={"where": where, "second_stage": "1"}, headers=HX)
    assert max(shown(found)) < ids[20]
    assert f"<code>{where.replace('<', '&lt;')}</code>" in found.text
    assert "of what the filter lets in. Precision is" in found.text
    assert f"<code>{where.replace('<', '&lt;')}</code>" in client.get("/matches").text
    session = client.get_cookie("gpubranches").value
    packed = client.get(f"/sessions/{session}.json").json
    assert packed["where"] == where
    client.post(f"/sessions/{session}/copy", headers=HX)
    assert f'value="{where.replace("<", "&lt;")}"' in client.get("/matches").text


def test_a_filter_is_counted_or_told_what_is_wrong(client, labels):
    assert "700 of 700 items" in ask(client, "/filter/count", where=" ").text
    assert f"{(labels == 3).sum()} of 700 items" in ask(client, "/filter/count", where="label = 3").text
    wrong = ask(client, "/filter/count", where="label = ")
    assert wrong.status_code == 200
    assert "At letter 8, a number, a &#39;text&#39; in quotes, TRUE or FALSE is missing." in wrong.text
    assert ask(client, "/search", q="teapot", where="label = ").status_code == 422
    columns = ask(client, "/filter/columns").text
    assert 'value="caption = &#39;teapot&#39;"' in columns
    assert "<script>" not in columns


def test_programs_are_told_columns_and_counts(client, labels):
    columns = {column["name"]: column for column in client.get(f"{API}/columns").json["columns"]}
    assert list(columns) == ["id", "caption", "image_path", "label"]
    assert (columns["id"]["kind"], columns["id"]["values"]) == ("number", [])
    for told in columns["label"]["values"]:
        counted = client.get(f"{API}/count", query_string={"where": told["condition"]}).json
        assert counted == {"count": told["count"], "of": 700}
        assert (labels == told["value"]).sum() == told["count"]
    assert client.get(f"{API}/count").json == {"count": 700, "of": 700}
    assert client.get(f"{API}/count", query_string={"where": "nope = 1"}).status_code == 422
    at, _ = found_all(client, labels, where="label = 1")
    session = at.rpartition("/")[2]
    assert "<code>label = 1</code>" in client.get("/matches", headers={"X-Session": session}).text


def test_programs_combine_terms_too_and_a_sign_in_a_plain_field_is_a_letter(client):
    both = client.post(f"{API}/search", json={"text": "teapot + violin", "k": 60}).json["items"]
    captions = {row["item"]["caption"] for row in both}
    assert {"teapot", "violin"} <= captions
    plain = client.post("/knn-service", json={"text": "teapot + violin", "num_images": 3})
    assert plain.status_code == 422  # no name of the vocabulary
    refused = client.post(f"{API}/search", json={"text": f"picture:{'a' * 10}"})
    assert "session of its upload" in refused.json["detail"]


# Pictures


def test_a_sent_picture_is_searched_by_shown_and_its_sessions_own(client, make, labels):
    name = send(client, picture(COLOURS[TEAPOT])).json["name"]
    found = ask(client, "/search", q=f"picture:{name}")
    assert (labels[shown(found)[:20]] == TEAPOT).mean() > 0.8
    assert "Nearest to your picture" in found.text
    small = client.get(unescape(re.search(r'class="asked" src="([^"]+)"', found.text)[1]))
    assert Image.open(io.BytesIO(small.data)).size == (40, 30)
    assert small.mimetype == "image/jpeg"
    combined = shown(ask(client, "/search", q=f"violin + picture:{name} - #3"))
    assert {"violin", "teapot"} <= {NAMES[label] for label in labels[combined] if label >= 0}
    assert shown(make().test_client().get("/search", query_string={"q": "violin"}))
    stranger = make().test_client()
    assert "Send it again" in ask(stranger, "/search", q=f"picture:{name}").text
    assert stranger.get(f"/pictures/{name}.jpg").status_code == 404


def test_a_picture_comes_along_in_a_file_and_goes_with_its_session(client, app, labels, monkeypatch):
    name = send(client, picture(COLOURS[TEAPOT])).json["name"]
    send(client, picture("red"))
    query = f"picture:{name} + teapot"
    found = shown(ask(client, "/search", q=query))
    session = client.get_cookie("gpubranches").value
    packed = client.get(f"/sessions/{session}.json").json
    assert [sent["name"] for sent in packed["pictures"]] == [name]
    client.post("/sessions/new", headers=HX)
    assert client.post(f"/sessions/{session}/delete", headers=HX).status_code == 200
    sessions = app.extensions["gpubranches"].service.sessions
    monkeypatch.setattr(session_store, "DISCARDED_S", -1.0)  # an hour later
    sessions.store.delete_discarded()
    assert sessions.uploads.all(session) == []
    brought = client.post(
        "/sessions/import", data={"file": (io.BytesIO(json.dumps(packed).encode()), "s.json")}, headers=HX
    )
    assert shown(client.get(brought.headers["HX-Redirect"])) == found
    for change in ({"name": "../x"}, {"embedding": "AAAA"}, {"embedding": "?"}, {"thumbnail": "AAAA"}):
        bad = {**packed, "pictures": [{**packed["pictures"][0], **change}]}
        file = io.BytesIO(json.dumps(bad).encode())
        assert client.post("/sessions/import", data={"file": (file, "s.json")}, headers=HX).status_code == 422, change


@pytest.mark.parametrize(
    ("data", "kind", "headers", "status"),
    [
        (b"none", "image/png", HX, 422),
        (b"", "image/png", HX, 422),
        (picture("red"), "text/plain", HX, 415),
        (bytes((20 << 20) + 1), "image/png", HX, 413),
        (picture("red"), "image/png", {}, 403),
        (picture("red"), "image/png", {**HX, "Origin": "http://evil.example"}, 403),
        (picture("red"), "image/png", {**HX, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_what_is_no_picture_too_large_or_from_elsewhere_is_refused(client, data, kind, headers, status):
    assert send(client, data, kind, headers).status_code == status


def test_without_a_model_for_pictures_there_is_no_button_and_none_is_taken(make, embedder, monkeypatch):
    client = make().test_client()
    assert 'id="by-picture"' in client.get("/").text
    monkeypatch.setattr(type(embedder), "reads_images", False)
    assert 'id="by-picture"' not in client.get("/").text
    assert "does not read pictures" in send(client, picture("red")).json["error"]


def test_a_session_keeps_its_last_pictures(tmp_path, monkeypatch):
    """Though the clock goes back."""
    monkeypatch.setattr("gpubranches.service.uploads.time.time", iter(range(1000, 0, -1)).__next__)
    uploads = Uploads.open(tmp_path / "labels.sqlite")
    names = [uploads.keep("a", np.full(4, place, np.float32), b"jpeg") for place in range(MOST_A_SESSION + 2)]
    other = uploads.keep("b", np.ones(4, np.float32), b"other")
    assert [sent.name for sent in uploads.all("a")] == names[2:]
    assert uploads.get("a", names[-1]).embedding.tolist() == [MOST_A_SESSION + 1] * 4
    assert uploads.get("b", other).thumbnail == b"other"
    for session, name in (("a", names[0]), ("a", other), ("b", names[-1])):
        with pytest.raises(UsageError, match="send it again"):
            uploads.get(session, name)
    uploads.close()


# Lists


def test_a_list_is_searched_wider_when_its_end_is_near_and_repeats_nothing():
    asked = []

    def find(k):
        asked.append(k)
        order = np.roll(np.arange(k), k // 500)  # a wider search finds other items, too, and in another order
        return Hits(order, np.zeros(k, np.float32), "x", None)

    lists = ResultLists()
    get = lambda stop: lists.get("key", stop, find, lambda: 20_000)  # noqa: E731
    first = get(PAGE)
    assert (len(first.ids), first.total, asked) == (300, LONGEST, [300])
    assert np.array_equal(get(300).ids, first.ids)
    whole = get(301)
    assert asked == [300, LONGEST]
    assert np.array_equal(whole.ids[:300], first.ids)
    assert sorted(whole.ids) == list(range(LONGEST))
    get(LONGEST)
    assert np.array_equal(ResultLists().get("key", LONGEST, find, lambda: 20_000).ids, whole.ids)
    assert asked == [300, LONGEST] * 2


def test_of_a_bitmap_every_bit_may_be_drawn_and_no_other():
    rng = np.random.default_rng(0)
    flags = rng.random(203) < 0.3
    bitmap, inside = pack_bitmap(flags), np.flatnonzero(flags)
    assert np.array_equal(sample_bitmap(bitmap, 10**6, rng), inside)
    assert len(sample_bitmap(pack_bitmap(np.zeros(9, bool)), 5, rng)) == 0
    drawn = [sample_bitmap(bitmap, 7, rng) for _ in range(200)]
    assert all(len(set(one)) == 7 for one in drawn)
    assert set(np.concatenate(drawn)) == set(inside)
