import contextlib
import json
import math
import struct
import threading
import zlib

import numpy as np
import pytest
from clusters import NAMES
from hypothesis import given
from hypothesis import strategies as st
from pictures import COLOURS, SPITEFUL
from serving import *  # noqa: F403
from serving import API, begun, found_all, picture

from gpubranches import Session
from gpubranches.app.api.schema import check, parse
from gpubranches.app.limits import TRAINING_THREADS, TokenBuckets, TrainingSlots
from gpubranches.app.server import THREADS
from gpubranches.errors import TooManyError, UsageError
from gpubranches.retrieval.search import Searcher


def problem(response):
    assert response.mimetype == "application/problem+json", response.text
    told = response.json
    assert set(told) == {"type", "title", "status", "detail"}
    assert told["status"] == response.status_code
    return told["detail"]


def marked(client, at):
    return {mark["id"]: mark["label"] for mark in client.get(f"{at}/marks").json["marks"]}


def test_health_and_catalog_tell_what_is_served_and_not_where_it_lies(client, folder):
    assert client.get(f"{API}/health").json == {"status": "ok", "items": 700, "generation": 1, "backend": "oracle"}
    told = client.get(f"{API}/catalog")
    assert (told.json["n"], told.json["texts"], told.json["item_formats"][0]) == (700, True, "csv")
    assert str(folder) not in told.text


def test_a_text_an_item_a_vector_a_code_and_a_picture_find_their_like(client, catalog, labels):
    def ids(**body):
        return [row["id"] for row in client.post(f"{API}/search", json={"k": 12, **body}).json["items"]]

    assert (labels[ids(text="teapot")] == NAMES.index("teapot")).mean() > 0.9
    assert ids(item=17)[0] == 17
    assert ids(vector=catalog.embeddings([17])[0].tolist()) == ids(item=17)
    assert ids(code=catalog.codes([17])[0].tolist())[0] == 17
    at = f"{API}/search/image?k=12"
    sent = client.post(at, data=picture(COLOURS[4]), content_type="image/png")
    assert (labels[[row["id"] for row in sent.json["items"]]] == 4).all()


def test_a_filter_holds_and_the_columns_come_along(client, catalog):
    found = client.post(f"{API}/search", json={"item": 17, "k": 50, "where": "label = 2"}).json
    assert found["source"] == "oracle/bits+embeddings"
    assert {row["item"]["label"] for row in found["items"]} == {2}
    assert client.get(f"{API}/items/17").json == catalog.items([17])[0]
    assert client.get(f"{API}/items/3").json["caption"] == SPITEFUL


def test_a_session_is_made_told_listed_and_deleted(client):
    at = begun(client, name="teapots", seed=5)
    told = client.get(at).json
    assert (told["name"], told["seed"], told["positive"], told["answer"]) == ("teapots", 5, 0, None)
    client.post(f"{at}/marks", json={"ids": [1, 2], "label": 1})
    listed = {row["session"]: row for row in client.get(f"{API}/sessions").json["sessions"]}
    assert listed[told["session"]]["positive"] == 2
    assert client.delete(at).status_code == 204
    assert told["session"] not in {row["session"] for row in client.get(f"{API}/sessions").json["sessions"]}
    for gone in (client.get(at), client.post(f"{at}/marks", json={"ids": [1], "label": 1}), client.delete(at)):
        assert (gone.status_code, "deleted" in problem(gone)) == (410, True)
    never = client.get(f"{API}/sessions/{'a' * 22}")
    assert (never.status_code, "make one" in problem(never)) == (404, True)


def test_a_call_repeated_under_its_name_changes_nothing_and_answers_the_same(client):
    at = begun(client)
    body = {"ids": [4, 5, 4], "label": 1, "event": "the-first-mark"}
    first = client.post(f"{at}/marks", json=body)
    client.post(f"{at}/marks", json={"ids": [5], "label": -1})
    version = client.get(f"{at}/marks").json["version"]
    again = client.post(f"{at}/marks", json=body)
    assert (again.status_code, again.json) == (200, first.json)
    assert first.json["ids"] == [4, 5]
    assert marked(client, at) == {4: 1, 5: -1}
    assert client.get(f"{at}/marks").json["version"] == version
    undone = client.post(f"{at}/undo", json={"event": "the-first-undo"})
    assert client.post(f"{at}/undo", json={"event": "the-first-undo"}).json == undone.json
    assert marked(client, at) == {4: 1, 5: 1}
    assert client.post(f"{at}/redo", json={}).json["ids"] == [5]
    assert marked(client, at) == {4: 1, 5: -1}


def test_a_name_used_for_another_mark_is_refused_and_that_of_another_session_is_free(client):
    at, other = begun(client), begun(client)
    client.post(f"{at}/marks", json={"ids": [4], "label": 1, "event": "mark-0001"})
    for body in ({"ids": [4], "label": -1}, {"ids": [4, 5], "label": 1}):
        refused = client.post(f"{at}/marks", json={**body, "event": "mark-0001"})
        assert (refused.status_code, "mark-0001" in problem(refused)) == (409, True)
    assert marked(client, at) == {4: 1}
    assert client.post(f"{other}/marks", json={"ids": [9], "label": 1, "event": "mark-0001"}).status_code == 200
    assert marked(client, other) == {9: 1}


def test_all_marks_are_taken_away_in_one_step(client):
    at = begun(client)
    client.post(f"{at}/marks", json={"ids": [4, 5], "label": 1})
    cleared = client.delete(f"{at}/marks?event=clear-all-1")
    assert sorted(cleared.json["ids"]) == [4, 5]
    assert marked(client, at) == {}
    client.post(f"{at}/undo", json={})
    assert marked(client, at) == {4: 1, 5: 1}
    assert client.delete(f"{at}/marks?event=clear-all-1").json == cleared.json
    assert marked(client, at) == {4: 1, 5: 1}


def test_the_page_and_the_api_share_a_session(client, app):
    at = begun(client, name="both")
    name = at.rpartition("/")[2]
    client.post(f"{at}/marks", json={"ids": [4], "label": 1})
    seen = client.get("/marks", headers={"X-Session": name}).json
    assert seen["marks"] == {"4": 1}


def test_refine_recut_and_results_are_those_of_a_session(client, catalog, backend, labels):
    at, answer = found_all(client, labels, lean=0.5)
    marks = marked(client, at)
    own = Session(catalog, backend)
    own.mark([item for item, label in marks.items() if label > 0], 1)
    own.mark([item for item, label in marks.items() if label < 0], -1)
    ranking = own.refine(lean=0.5)
    assert (answer["total"], answer["source"]) == (ranking.total, ranking.source)
    assert answer["threshold"] == pytest.approx(ranking.threshold)
    assert answer["recall"]["middle"] == pytest.approx(ranking.recall[1])
    pages = [client.get(f"{at}/results?offset={offset}&limit=7").json for offset in range(0, ranking.total + 7, 7)]
    found = [match for page in pages for match in page["results"]]
    assert [match["id"] for match in found] == ranking.ids[ranking.matched].tolist()
    assert found[0]["item"] == catalog.items([found[0]["id"]])[0]
    assert {page["total"] for page in pages} == {ranking.total}
    narrow = client.post(f"{at}/recut", json={"lean": -1}).json
    assert (narrow["lean"], narrow["total"] <= answer["total"]) == (-1, True)
    assert client.get(at).json["answer"] == narrow


def test_refine_listens_to_what_was_asked(client, catalog, backend, labels):
    at = begun(client)
    chosen = np.flatnonzero(labels == 1)[:2].tolist()
    client.post(f"{at}/marks", json={"ids": chosen, "label": 1})
    alone, told = (client.post(f"{at}/refine", json=body).json for body in ({}, {"query": NAMES[1]}))
    assert alone["threshold"] != told["threshold"]
    refused = client.post(f"{at}/refine", json={"query": "dog +"})
    assert (refused.status_code, "expected a term after +" in problem(refused)) == (422, True)


def test_options_of_refine_are_passed_on(client, labels):
    at, _ = found_all(client, labels, second_stage=False, model="branch", random_negatives=50, where="label = 1")
    told = client.get(at).json["answer"]
    assert told["source"] == "oracle/boxes"
    ids = [match["id"] for match in client.get(f"{at}/results?limit=1000").json["results"]]
    right = {item for item, label in marked(client, at).items() if label > 0}
    assert (labels[sorted(set(ids) - right)] == 1).all()


def test_results_are_told_by_tier_and_by_what_changed(client, labels):
    at, answer = found_all(client, labels)
    refused = client.get(f"{at}/results?tier=new")
    assert (refused.status_code, "no round before" in problem(refused)) == (422, True)

    def ids(tier):
        page = client.get(f"{at}/results?tier={tier}&limit=1000").json
        with client.get(f"{at}/matches.jsonl?tier={tier}") as file:
            lines = [json.loads(line) for line in file.text.splitlines()]
        found = [match["id"] for match in page["results"]]
        assert (found, page["total"]) == ([line["id"] for line in lines], len(lines))
        told = {match["tier"] for match in page["results"]}
        assert told <= ({tier} if tier in answer["tiers"] else {None} if tier == "below" else {*answer["tiers"]})
        return found

    first = ids("all")
    assert answer["changes"] is None
    assert {tier: len(ids(tier)) for tier in answer["tiers"]} == answer["tiers"]
    assert sum(answer["tiers"].values()) == answer["total"]
    below = ids("below")
    assert not set(below) & set(first)
    client.post(f"{at}/marks", json={"ids": below[:5], "label": 1})
    client.post(f"{at}/marks", json={"ids": first[-2:], "label": -1})
    second = client.post(f"{at}/refine", json={"negative_weight": 5, "random_negatives": 500}).json
    new, gone = ids("new"), ids("gone")
    assert second["changes"] == {"new": len(new), "gone": len(gone)}
    assert (set(new), set(gone)) == (set(ids("all")) - set(first), set(first) - set(ids("all")))
    votes = client.post(f"{at}/refine", json={"second_stage": False}).json
    assert votes["tiers"] is None


def test_suggestions_audit_and_estimate(client, labels):
    at, _ = found_all(client, labels)
    before = marked(client, at)
    suggested = [row["id"] for row in client.get(f"{at}/suggestions?count=5").json["items"]]
    assert len(set(suggested) - set(before)) == 5
    drawn = [row["id"] for row in client.post(f"{at}/audit", json={"count": 8}).json["items"]]
    assert len(set(drawn) - set(before)) == 8
    was = client.get(at).json["answer"]["precision"]
    client.post(f"{at}/marks", json={"ids": drawn, "label": -1, "origin": "audit"})
    assert client.post(f"{at}/estimate", json={}).json["precision"]["middle"] < was["middle"]
    origins = {mark["id"]: mark["origin"] for mark in client.get(f"{at}/marks").json["marks"]}
    assert {origins[item] for item in drawn} == {"audit"}


def test_an_explanation_tells_the_verdict(client, labels):
    at, _ = found_all(client, labels)
    first = client.get(f"{at}/results?limit=1").json["results"][0]["id"]
    told = client.get(f"{at}/items/{first}/explanation").json
    assert told["item"] == first
    assert "estimators hold it" in told["verdict"]


def test_items_deleted_since_are_left_out(make, catalog, labels, monkeypatch):
    client = make().test_client()
    at, answer = found_all(client, labels)
    first = client.get(f"{at}/results?limit=1").json["results"][0]["id"]
    alive = type(catalog).alive
    monkeypatch.setattr(type(catalog), "alive", lambda self, ids: alive(self, ids) & (np.asarray(ids) != first))
    found = client.get(f"{at}/results?limit=1000").json["results"]
    assert len(found) == answer["total"] - 1
    assert first not in {match["id"] for match in found}


WRONG = [
    ({"text": "a", "item": 1}, "text and item"),
    ({}, "one of text, item, vector, code"),
    ({"text": "teapot", "sort": 1}, "'sort'"),
    ({"text": "teapot", "k": "7"}, "whole number of 1 to"),
    ({"text": "teapot", "k": True}, "got true"),
    ({"text": "teapot", "k": 10**30}, "whole number of 1 to"),
    ({"text": "zzzz"}, "zzzz"),
    ({"text": 7}, "a text"),
    ({"item": 123456}, "123456"),
    ({"item": -1}, "got -1"),
    ({"item": 1.5}, "got 1.5"),
    ({"vector": [1.0, 2.0]}, "vector"),
    ({"vector": ["x"]}, "vector[0]"),
    ({"vector": 3}, "a list"),
    ({"code": [256]}, "code[0]"),
    ({"item": 1, "where": "nonsense ="}, "where"),
    ({"item": 1, "where": "1=1; DROP TABLE items"}, "where"),
    ({"item": 1, "where": "id IN (SELECT 1 FROM read_csv('/etc/passwd'))"}, "where"),
]


@pytest.mark.parametrize(("body", "part"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_question_is_told_what_is_wrong(client, body, part):
    refused = client.post(f"{API}/search", json=body)
    assert (refused.status_code, part.replace("'sort'", '"sort"') in problem(refused)) == (422, True), refused.text


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"[]", "an object"),
        (b"null", "an object"),
        (b'{"text": "\xff"}', "UTF-8"),
        (b'{"item": NaN}', "finite"),
        (b'{"item": Infinity}', "finite"),
        (b'{"item": 1e999}', "finite"),
        (b'{"item": ' + b"9" * 5000 + b"}", "expected"),
        (b"[" * 100_000, "deeply"),
        (b'{"text": "\\ud800"}', "whole characters"),
        (b'{"\\ud800": 1}', "field"),
        (b'{"text": "\\u0000"}', ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bytes_that_are_no_question_are_told_so(client, data, part):
    refused = client.post(f"{API}/search", data=data, content_type="application/json")
    assert (refused.status_code, part in problem(refused)) == (422, True), refused.text


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(UsageError):
        json.dumps(parse(data), allow_nan=False)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(VALUES)
def test_any_value_is_taken_as_the_schema_says_or_refused(value):
    schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2}
    whole = isinstance(value, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) and each in range(10) for each in value
    )
    if whole and len(value) <= 2:
        assert check(schema, value, "value") == value
    else:
        with pytest.raises(UsageError, match=r"value.*: expected"):
            check(schema, value, "value")


def test_before_a_refine_everybody_is_told_to_refine(client):
    at = begun(client)
    for path in ("results", "matches.jsonl", "suggestions", "items/3/explanation", "matches.csv", "boxes.sql"):
        refused = client.get(f"{at}/{path}")
        assert (refused.status_code, "refine" in problem(refused)) == (422, True), path
    refused = client.post(f"{at}/refine", json={})
    assert (refused.status_code, "at least one item marked right" in problem(refused)) == (422, True)


def test_wrong_addresses_methods_and_kinds_of_body_are_problems_too(client):
    at = begun(client)
    assert "not found" in problem(client.get(f"{API}/nowhere"))
    wrong = client.put(f"{API}/search")
    assert (wrong.status_code, bool(problem(wrong)), wrong.headers["Allow"]) == (405, True, "POST")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        sent = client.post(f"{API}/search", data=b'{"item": 3}', content_type=kind)
        assert (sent.status_code, "application/json" in problem(sent)) == (415, True), kind
    assert "limit" in problem(client.get(f"{at}/results?limit=x"))
    assert "each once" in problem(client.get(f"{at}/results?limit=1&limit=2"))
    assert "'page'" in problem(client.get(f"{at}/results?page=1"))
    assert "one of csv" in problem(client.get(f"{at}/matches.exe"))
    assert client.get(f"{API}/items/{2**63}").status_code == 422
    assert client.get(f"{API}/items/123456").status_code == 404


def test_what_nobody_foresaw_is_logged_and_not_told(client, monkeypatch, caplog):
    monkeypatch.setattr(Searcher, "search", lambda *a, **k: 1 / 0)
    failed = client.post(f"{API}/search", json={"item": 3})
    assert failed.status_code == 500
    assert "division" not in problem(failed)
    assert "division" in caplog.text


def enlarged(png, width, height):
    """Return a PNG whose header says that it is larger than it is."""
    head = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


def test_pictures_that_are_none_too_many_bytes_or_too_many_pixels_are_refused(client):
    at = f"{API}/search/image"

    def sent(data, kind="image/png"):
        answered = client.post(at, data=data, content_type=kind)
        return answered.status_code, problem(answered)

    assert "not a picture" in sent(b"this is none")[1]
    assert sent(b"")[0] == 422
    assert sent(picture("red")[:60])[0] == 422
    assert sent(picture("red", kind="BMP"))[0] == 422
    assert sent(picture("red"), "text/html")[0] == 415
    assert sent(enlarged(picture("red"), 8000, 7000)) == (
        422,
        "image: 8000 x 7000 is over 50,000,000 pixels; send a JPEG, PNG, WebP or GIF",
    )
    status, told = sent(bytes(21 << 20))
    assert (status, bool(told)) == (413, True)
    large = client.post(f"{API}/search", data=b" " * (2 << 20), content_type="application/json")
    assert (large.status_code, bool(problem(large))) == (413, True)


def test_a_session_that_trains_too_often_is_told_when_to_try_again(make, labels):
    app = make()
    app.extensions["gpubranches"].limits.training_rate = TokenBuckets(burst=2, every_s=7, clock=lambda: 0.0)
    client = app.test_client()
    at, _ = found_all(client, labels, model="branch")
    assert client.post(f"{at}/refine", json={"model": "branch"}).status_code == 200
    refused = client.post(f"{at}/refine", json={"model": "branch"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
    assert "7 s" in problem(refused)
    found_all(client, labels, model="branch")
    headers = {"HX-Request": "true", "X-Session": at.rpartition("/")[2]}
    assert client.post("/refine", data={"model": "branch"}, headers=headers).status_code == 429


@given(st.lists(st.floats(0, 20), max_size=30), st.integers(1, 4), st.floats(0.5, 5))
def test_no_bucket_gives_more_than_it_held_and_was_filled_by(waits, burst, every_s):
    now = 0.0
    buckets = TokenBuckets(burst, every_s, clock=lambda: now)
    taken = 0
    for wait in waits:
        now += wait
        need = buckets.take("a")
        if need == 0:
            taken += 1
        else:
            assert 0 < need <= every_s
            now += need * (1 + 1e-9)
            assert buckets.take("a") == 0
            taken += 1
    assert taken <= burst + math.ceil(now / every_s)


def test_few_train_at_once_a_few_wait_and_the_rest_is_sent_away():
    slots, going, most, refused = TrainingSlots(running=2, admitted=5), 0, 0, 0
    lock, full = threading.Lock(), threading.Barrier(6)
    told = threading.Event()

    def train():
        nonlocal going, most
        with slots.slot():
            with lock:
                going += 1
                most = max(most, going)
            told.wait(10)
            with lock:
                going -= 1

    def come():
        nonlocal refused
        full.wait(10)
        try:
            train()
        except TooManyError:
            refused += 1
            told.set()

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, refused, going) == (2, 1, 0)
    with slots.slot():
        assert going == 0


def test_nobody_waits_for_a_turn_for_ever():
    slots = TrainingSlots(running=1, admitted=3, wait_s=0.01)
    with slots.slot(), pytest.raises(TooManyError, match="try again"), slots.slot():
        pass
    with slots.slot():
        pass


def test_whoever_trains_leaves_threads_for_those_who_mark(make, labels):
    assert THREADS >= TRAINING_THREADS + 8
    app = make()
    client = app.test_client()
    at, _ = found_all(client, labels, model="branch")
    app.extensions["gpubranches"].limits.training = busy = TrainingSlots(admitted=1)
    with busy.slot():
        refused = client.post(f"{at}/refine", json={})
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
        assert client.post(f"{at}/marks", json={"ids": [9], "label": -1}).status_code == 200
        headers = {"HX-Request": "true", "X-Session": at.rpartition("/")[2]}
        assert client.post("/refine", data={"model": "branch"}, headers=headers).status_code == 429
    assert client.post(f"{at}/refine", json={"model": "branch"}).status_code == 200


def test_the_next_step_towards_a_target(client, labels):
    at, _ = found_all(client, labels)

    def ask(count, checks):
        """Mark what is asked for, until there is nothing; return the last step."""
        for _ in range(60):
            asked = {"target_recall": 0.8, "count": count, "checks": checks}
            step = client.post(f"{at}/next", json=asked).json
            assert step["checks"] is None or step["recall"]["low"] >= 0.8
            assert len(step["items"]) <= count
            if not step["items"]:
                break
            for row in step["items"]:
                label = 1 if row["item"]["label"] == 5 else -1
                client.post(f"{at}/marks", json={"ids": [row["id"]], "label": label, "origin": step["kind"]})
        return step

    alike = ask(10, 0)
    assert alike["kind"] == "alike"
    assert alike["recall"]["low"] >= 0.8
    assert alike["checks"] > 0
    assert (ask(100, 700)["kind"], ask(100, 700)["checks"]) == ("reached", 0)
    assert client.post(f"{at}/next", json={"checks": -1}).status_code == 422
    assert client.post(f"{at}/next", json={"target_recall": 1}).status_code == 422
