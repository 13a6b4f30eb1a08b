import io
import json
import re
import threading
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from clusters import NAMES
from pictures import SPITEFUL, write_served
from PIL import Image

from gpubranches import Catalog, Session, VocabularyEmbedder, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.app.rendering import PAGE
from gpubranches.app.request_values import COOKIE
from gpubranches.app.views import shortened
from gpubranches.core.results import Ranking
from gpubranches.errors import SpaceMismatchError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.retrieval.search import Searcher
from gpubranches.service.labels import Labels
from gpubranches.service.session_store import open_store
from gpubranches.service.texts import texts_in
from gpubranches.service.wording import caption, completeness_in_words, intervals, matches_heading, run_summary

HX = {"HX-Request": "true"}
EN = texts_in()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_served(path)
    ingest([path / "images"], path / "unnamed")
    return path


@pytest.fixture(scope="module")
def embedder(folder):
    return VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")


@pytest.fixture
def app(catalog, backend, embedder):
    made = create_app(catalog, backend, embedder=embedder)
    yield made
    made.extensions["gpubranches"].service.close()


@pytest.fixture
def client(app):
    return app.test_client()


def shown(response):
    return [int(i) for i in re.findall(r'<li class="tile" id="tile-(\d+)"', response.text)]


def counts(response):
    if response.is_json:
        return response.json["positive"], response.json["negative"]
    return tuple(int(re.search(rf'id="{name}">([\d,]+)<', response.text)[1]) for name in ("positive", "negative"))


def message(response):
    return unescape(re.search(r'class="alert".*?<p>(.*?)</p>', response.text, re.DOTALL)[1])


def post(client, path, headers=HX, **form):
    return client.post(path, data=form, headers=headers)


def found_all(client, labels, label=1):
    ids = shown(client.get("/search", query_string={"q": NAMES[label]}))
    right = labels[ids] == label
    post(client, "/mark", id=np.array(ids)[right][:8].tolist(), value="1")
    post(client, "/mark", id=np.array(ids)[~right][:10].tolist(), value="-1")
    return post(client, "/refine", model="ensemble", second_stage="1")


def test_the_home_page_shows_items_and_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200
    assert len(shown(page)) == PAGE
    assert "700 items" in page.text
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)
    assert not re.search(r"<script(?! src=| type=\"text/fluent\")|<style|\sstyle=|\son\w+=", page.text)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"


def test_all_files_the_page_names_are_served(client):
    named = set(re.findall(r'(?:src|href)="(/static/[^"#]+)', client.get("/").text))
    assert {path.rsplit(".", 1)[-1] for path in named} >= {"css", "js"}
    for path in named:
        with client.get(path) as file:
            assert file.status_code == 200, path


def test_a_text_finds_its_items_and_pages_on_without_repeating(client, labels):
    first = client.get("/search?q=teapot")
    ids = shown(first)
    assert 'data-total="700"' in first.text
    label = NAMES.index("teapot")
    assert (labels[ids[:20]] == label).mean() > 0.9
    assert "oracle/bits+embeddings" in first.text
    listed = unescape(re.search(r'data-address="([^"]+)"', first.text)[1])
    second = client.get(f"{listed}&offset={PAGE}", headers=HX)
    assert len(shown(second)) == PAGE
    assert not set(ids) & set(shown(second))
    assert "<html" not in second.text
    assert 'id="grid"' not in second.text


def test_pages_of_a_list_are_asked_for_by_offset_in_any_order(client):
    first = client.get("/search?q=teapot&offset=0", headers=HX)
    assert 'id="grid"' not in first.text
    assert shown(first) == shown(client.get("/search?q=teapot"))
    last = client.get("/search?q=teapot&offset=660", headers=HX)
    assert len(shown(last)) == 40
    assert re.findall(r'aria-posinset="(\d+)"', last.text)[-1] == "700"
    assert shown(client.get("/search?q=teapot&offset=700", headers=HX)) == []
    pages = [shown(client.get(f"/search?q=teapot&offset={offset}", headers=HX)) for offset in range(0, 700, PAGE)]
    assert sorted(item for page in pages for item in page) == list(range(700))


def test_htmx_gets_the_results_only_and_everybody_else_the_page(client):
    fragment = client.get("/search?q=violin", headers=HX)
    whole = client.get("/search?q=violin")
    restored = client.get("/search?q=violin", headers={**HX, "HX-History-Restore-Request": "true"})
    assert 'id="grid"' in fragment.text
    assert "<html" not in fragment.text
    assert "<html" in whole.text
    assert "<html" in restored.text
    assert shown(fragment) == shown(whole) == shown(restored)
    assert "HX-Request" in fragment.headers["Vary"]


def test_names_of_the_vocabulary_are_offered(client):
    offered = re.search(r'<datalist id="names">(.*?)</datalist>', client.get("/").text)[1]
    assert re.findall('value="(.*?)"', offered) == NAMES


def test_more_like_an_item_begins_with_it(client):
    assert shown(client.get("/like?id=17"))[0] == 17


def test_random_pages_follow_from_their_seed(client):
    assert shown(client.get("/random?seed=4")) == shown(client.get("/random?seed=4"))
    assert shown(client.get("/random?seed=4")) != shown(client.get("/random?seed=5"))
    both = shown(client.get("/random?seed=4")) + shown(client.get("/random?seed=4&offset=60", headers=HX))
    assert len(set(both)) == 2 * PAGE


def test_the_search_field_holds_what_was_asked_last_over_every_list_of_an_answer(client):
    field = re.compile(r'<input id="q"[^>]* value="([^"]*)"')
    assert field.search(client.get("/matches").text)[1] == ""
    client.get("/like?id=20")
    client.get("/search?q=teapot+%2B+%2317")
    post(client, "/mark", id=[20, 21], value="1")
    post(client, "/refine")
    for address in ("/matches", "/matches?tier=below", "/suggest", "/audit"):
        assert field.search(client.get(address).text)[1] == "teapot + #17", address
    assert 'data-query="teapot + #17"' in client.get("/suggest", headers=HX).text
    client.get("/like?id=20")
    assert field.search(client.get("/matches").text)[1] == "#20"


def test_marks_are_counted_and_shown_after_a_reload(client):
    assert counts(client.get("/")) == (0, 0)
    assert counts(post(client, "/mark", id=[10, 11], value="1")) == (2, 0)
    marked = post(client, "/mark", id=12, value="-1")
    assert counts(marked) == (2, 1)
    page = client.get("/like?id=12").text
    assert re.search(r'id="wrong-12"[^>]*aria-pressed="true"', page)
    assert re.search(r'id="right-12"[^>]*aria-pressed="false"', page)


def test_answers_tell_what_changed_since_a_version_also_by_others(client, app):
    first = post(client, "/mark", id=[10, 11], value="1").json
    assert first["marks"] == {"10": 1, "11": 1}
    other = app.test_client()
    other.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
    post(other, "/mark", id=[11], value="-1")
    post(other, "/mark", id=[12], value="-1")
    told = client.get("/marks", query_string={"since": first["version"]}).json
    assert told["marks"] == {"11": -1, "12": -1}
    assert post(client, "/undo", since=told["version"]).json["marks"] == {"12": 0}
    assert client.get("/marks").json["marks"] == {"10": 1, "11": -1, "12": 0}


def test_an_event_that_is_sent_again_changes_nothing(client):
    mark = {"id": 10, "value": "1", "event": "first-of-all"}
    assert [counts(post(client, "/mark", **mark)) for _ in range(2)] == [(1, 0)] * 2
    post(client, "/mark", id=11, value="-1", event="second-of-all")
    assert [counts(post(client, "/undo", event="the-first-undo")) for _ in range(3)] == [(1, 0)] * 3
    assert counts(post(client, "/undo", event="the-second-undo")) == (0, 0)
    assert [counts(post(client, "/redo", event="the-first-redo")) for _ in range(2)] == [(1, 0)] * 2
    assert counts(post(client, "/mark", **mark)) == (1, 0)
    assert [counts(post(client, "/clear", event="all-of-them")) for _ in range(2)] == [(0, 0)] * 2


def test_marks_are_stored_while_the_same_session_finds_all_in_another_thread(app, client):
    post(client, "/mark", id=10, value="1")
    with app.extensions["gpubranches"].service.sessions.exclusive(client.get_cookie(COOKIE).value):
        answers = []
        marker = threading.Thread(target=lambda: answers.append(post(client, "/mark", id=11, value="1")))
        marker.start()
        marker.join(30)
        assert [counts(answer) for answer in answers] == [(2, 0)]


def test_the_later_mark_of_an_item_wins(client):
    post(client, "/mark", id=10, value="1")
    assert counts(post(client, "/mark", id=10, value="-1")) == (0, 1)


def test_undo_takes_back_one_step_at_a_time_and_says_when_there_is_none(client):
    post(client, "/mark", id=[10, 11], value="1")
    version = post(client, "/mark", id=12, value="-1").json["version"]
    assert counts(post(client, "/undo")) == (2, 0)
    undone = post(client, "/undo", since=version)
    assert counts(undone) == (0, 0)
    assert undone.json["items"] == [10, 11]
    assert undone.json["marks"] == {"10": 0, "11": 0, "12": 0}
    assert post(client, "/undo").json["items"] == []
    assert counts(post(client, "/redo")) == (2, 0)
    assert counts(post(client, "/redo")) == (2, 1)
    assert post(client, "/redo").json["items"] == []


def test_clearing_is_one_step_that_undo_brings_back(client):
    post(client, "/mark", id=[10, 11], value="1")
    post(client, "/mark", id=12, value="-1")
    assert counts(post(client, "/clear")) == (0, 0)
    assert counts(post(client, "/undo")) == (2, 1)


def test_marks_outlive_the_server_and_are_each_browsers_own(client, catalog, backend, embedder):
    post(client, "/mark", id=[10, 11], value="1")
    again = create_app(catalog, backend, embedder=embedder)
    same, other = again.test_client(), again.test_client()
    same.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
    assert counts(same.get("/")) == (2, 0)
    assert counts(other.get("/")) == (0, 0)
    again.extensions["gpubranches"].service.close()


def test_a_cookie_that_is_not_ours_is_replaced(client):
    client.set_cookie(COOKIE, "../../etc/passwd")
    cookie = client.get("/").headers["Set-Cookie"]
    assert re.match(rf"{COOKIE}=[\w-]{{22}};.*HttpOnly", cookie)
    assert "SameSite=Lax" in cookie
    assert "Set-Cookie" not in client.get("/").headers


def test_find_all_shows_what_matches_and_keeps_it(client, labels):
    found = found_all(client, labels)
    total = int(re.search(r'id="heading">([\d,]+) match', found.text)[1].replace(",", ""))
    assert 8 <= total < 200
    assert found.headers["HX-Push-Url"] == "/matches"
    assert (labels[shown(found)] == 1).mean() > 0.7
    assert shown(client.get("/matches")) == shown(found)


@pytest.mark.parametrize("model", ["ensemble", "branch", "ensemble-classic", "branch-classic", "forest", "tree"])
def test_all_models_of_boxes_run_without_the_second_stage(client, labels, model):
    found_all(client, labels)
    found = post(client, "/refine", model=model)
    assert "oracle/boxes ·" in found.text
    assert len(shown(found)) > 3


def test_before_find_all_the_matches_page_says_what_to_do(client):
    page = client.get("/matches")
    assert page.status_code == 200
    assert "press Find all" in page.text
    assert 'id="export"' not in page.text
    assert 'id="again"' not in page.text
    post(client, "/mark", id=10, value="1")
    page = client.get("/matches").text
    assert re.search(r'id="again"[^>]* form="refine">.*?</svg>\s*Find all</button>', page, re.DOTALL)


def tabs(response):
    """Return the counts of the parts by title, and the title of the open one."""
    found = re.findall(r'<a class="tab"[^>]*?(aria-current="page")?>([A-Z][a-z ]+) <b>([\d,]+)</b>', response.text)
    return {title: int(count.replace(",", "")) for _, title, count in found}, [title for now, title, _ in found if now]


def listed(client, tier):
    """Return the ids of a part of the answer, all pages of it."""
    first = client.get(f"/matches?tier={tier}")
    total = int(re.search(r'data-total="(\d+)"', first.text)[1])
    at = unescape(re.search(r'data-address="([^"]+)"', first.text)[1])
    more = [client.get(f"{at}{'&' if '?' in at else '?'}offset={o}", headers=HX) for o in range(PAGE, total, PAGE)]
    ids = shown(first) + [item for page in more for item in shown(page)]
    assert len(ids) == total
    return ids


def test_the_tabs_count_and_list_the_parts_of_the_answer(client, labels):
    assert list(tabs(found_all(client, labels, 5))[0]) == [
        "All",
        "Sure",
        "Likely",
        "Borderline",
        "Just below",
        "Marked right",
    ]
    for place, item in enumerate(shown(client.get("/audit"))):
        lie = place % 2 == 0  # the answer is so good here that all of it is sure
        post(client, "/mark", id=item, value="1" if (labels[item] == 5) != lie else "-1", origin="audit")
    client.get("/completeness", headers=HX)
    sizes, current = tabs(client.get("/matches"))
    assert current == ["All"]
    assert min(size for title, size in sizes.items() if title != "Borderline") > 0  # those marked wrong have left
    parts = {title: listed(client, title.lower().split()[-1]) for title in sizes}
    assert {title: len(ids) for title, ids in parts.items()} == sizes
    assert sorted(parts["Sure"] + parts["Likely"] + parts["Borderline"]) == sorted(parts["All"])
    assert not set(parts["Just below"]) & set(parts["All"])
    figures = re.findall(r'class="figure">(\S+)', client.get("/matches?unmarked=1").text)
    assert set(figures) == {"chance"}  # of marked items there is none
    estimate = unescape(
        re.search(r'id="estimate" hx-get="([^"]*)"', client.get("/matches?order=unsure&unmarked=1").text)[1]
    )
    again = client.get(estimate, headers=HX).text
    assert len(re.findall(r'id="(?:unsure|review)"[^>]*aria-pressed="true"', again)) == 2
    for tier, origin in (("sure", "user"), ("likely", "user"), ("borderline", "suggestion"), ("below", "suggestion")):
        page = client.get(f"/matches?tier={tier}")
        assert f'data-origin="{origin}"' in page.text
        assert tabs(page)[1] == [{"below": "Just below"}.get(tier, tier.title())]
    sheet = unescape(client.get("/matches?tier=likely").text)
    with client.get(re.search(r'href="(/export/matches.jsonl[^"]*tier=likely)"', sheet)[1]) as file:
        assert [json.loads(line)["id"] for line in file.text.splitlines()] == parts["Likely"]
        named = f"teapot-likely-{len(parts['Likely'])}.jsonl"
        assert file.headers["Content-Disposition"] == f"attachment; filename={named}"
    wide = post(client, "/recut", lean="1", tier="borderline")
    assert wide.headers["HX-Push-Url"] == "/matches?tier=borderline&order=unsure"
    assert tabs(wide)[1] == ["Borderline"]
    assert len(listed(client, "borderline")) == tabs(wide)[0]["Borderline"] >= sizes["Borderline"]
    assert tabs(wide)[0]["Likely"] >= sizes["Likely"]
    by_votes = tabs(post(client, "/refine", model="ensemble"))[0]
    assert list(by_votes) == ["All", "Just below", "Marked right", "New", "Gone"]
    refused = client.get("/matches?tier=sure", headers=HX)
    assert (refused.status_code, "tiers need a second stage" in message(refused)) == (422, True)


def test_items_marked_wrong_leave_their_tab_at_once_and_stay_out_when_it_is_estimated_anew(client, labels):
    found_all(client, labels)
    sure = listed(client, "sure")
    post(client, "/mark", id=sure[:2], value="-1")
    assert listed(client, "sure") == sure[2:]
    told = client.get("/completeness?tier=sure", headers=HX)
    assert listed(client, "sure") == sure[2:]
    assert (tabs(told)[0]["Sure"], tabs(told)[1]) == (len(sure) - 2, ["Sure"])
    assert tabs(client.get("/audit")) == ({}, [])


def test_the_second_round_tells_what_is_new_and_what_is_gone(client, labels):
    first = set(found_all(client, labels) and listed(client, "all"))
    below = listed(client, "below")[:6]
    post(client, "/mark", id=below, value="1")
    post(client, "/mark", id=sorted(first)[-2:], value="-1")
    second = post(client, "/refine", model="ensemble", second_stage="1")
    now, new, gone = (set(listed(client, tier)) for tier in ("all", "new", "gone"))
    assert (new, gone) == (now - first, first - now)
    assert set(below) <= new
    heading = f"{len(now)} match ({len(new)} new, {len(gone)} gone)"
    assert f'id="heading">{heading}</h2>' in second.text
    assert 'data-origin="suggestion"' in client.get("/matches?tier=gone").text


def test_options_of_find_all_are_kept_and_offered_again_after_a_restart(client, labels, catalog, backend, embedder):
    found_all(client, labels)
    options = {"model": "branch", "second_stage": "1", "random_negatives": "50", "negative_weight": "2.5"}
    ids = shown(post(client, "/refine", **options))
    again = create_app(catalog, backend, embedder=embedder)
    same = again.test_client()
    same.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
    page = same.get("/matches?tier=sure")
    assert shown(page) == []
    assert re.search(r'<button type="submit"[^>]*form="refine">.*Find all again', page.text, re.DOTALL)
    assert shown(same.get("/matches")) == []
    form = page.text.split('<form id="refine"', 1)[1].split("</form>", 1)[0]
    inputs = dict(re.findall(r'name="(\w+)" value="([^"]*)"(?: min="[^"]*" max="[^"]*"| checked)', form))
    assert inputs == options
    assert shown(post(same, "/refine", **inputs)) == ids
    assert shown(same.get("/audit"))
    again.extensions["gpubranches"].service.close()


def test_suggestions_are_new_items(client, labels):
    found_all(client, labels)
    page = client.get("/suggest", headers=HX)
    assert page.status_code == 200, page.text
    suggested = shown(page)
    assert len(suggested) == len(set(suggested)) == 20
    assert re.findall(r'id="state-\d+">(marked [a-z]+)', page.text) == []


def origins(app, client):
    with app.extensions["gpubranches"].service.sessions.exclusive(client.get_cookie(COOKIE).value) as session:
        return session.labels.origins()


@pytest.mark.parametrize(
    ("path", "origin"), [("/search?q=teapot", "user"), ("/suggest", "suggestion"), ("/audit", "audit")]
)
def test_a_mark_remembers_the_page_it_was_made_on(app, client, labels, path, origin):
    found_all(client, labels)
    page = client.get(path, headers=HX)
    assert f'data-origin="{origin}"' in page.text
    item = shown(page)[-1]
    post(client, "/mark", id=item, value="1", origin=origin)
    # what these marks suggest lies along the border of a broad idea
    assert origins(app, client)[item] == {"suggestion": "border"}.get(origin, origin)


def completeness_line(response):
    """Return what is said in words and what in numbers."""
    words = re.search(r'class="note told"[^>]*>([^<]*)</p>', response.text)[1]
    return words, re.search(r'<p class="intervals">(.*?)</p>', response.text)[1]


def test_an_audit_tells_how_complete_the_answer_is(client, labels):
    found = found_all(client, labels)
    before = completeness_line(found)
    assert re.fullmatch(
        r"At a guess, [\w ]+ of the \d+ are right \([\w ]+\)[,;] "
        r"[\w ]+ missing( \([\w ]+\)| is not known yet: check (some|more))?\.",
        before[0],
    )
    spread = r"(\d+% \(\d+% to \d+%\)|between \d+% and \d+%)"
    numbers = f"Precision {spread}, recall {spread} of the whole catalog\\. .*"
    assert re.fullmatch(f"{numbers}only if your search is like others\\.", before[1])
    page = client.get("/audit", headers=HX)
    ids = shown(page)
    assert len(set(ids)) == 20
    assert re.findall(r'id="state-\d+">(marked [a-z]+)', page.text) == []
    for item in ids[:12]:  # whatever the labels say: the answer is nearly perfect here
        post(client, "/mark", id=item, value="1", origin="audit")
    after = completeness_line(client.get("/completeness", headers=HX))
    assert after[0].startswith("By what was checked, ")
    assert re.fullmatch(f"{numbers}nine times in ten\\.", after[1])
    assert completeness_line(client.get("/matches")) == after
    assert shown(client.get("/audit"))[:8] == ids[12:]


def test_the_slider_cuts_anew_without_training(client, labels):
    found_all(client, labels)
    own = post(client, "/refine", model="ensemble")
    totals = []
    for lean in ("-1", "0", "1"):
        response = post(client, "/recut", lean=lean)
        assert response.headers["HX-Push-Url"] == "/matches?order=unsure"  # at the border that the slider moves
        assert f'value="{float(lean)}"' in response.text
        totals.append(int(re.search(r'id="heading">([\d,]+) match', response.text)[1].replace(",", "")))
    assert totals == sorted(totals)
    assert totals[0] < totals[2]
    assert f'id="heading">{totals[1]} match' in own.text
    again = post(client, "/refine", model="ensemble")
    assert f'id="heading">{totals[2]} match' in again.text


def test_finding_all_listens_to_the_words_that_were_asked(app, client, labels, catalog, backend, embedder):
    ids = shown(client.get("/search", query_string={"q": NAMES[1]}))
    chosen = np.array(ids)[labels[ids] == 1][:2].tolist()
    post(client, "/mark", id=chosen, value="1")

    def found(query):
        session = Session(catalog, backend, embedder=embedder)
        session.mark(chosen, 1)
        ranking = session.refine(query=query)
        return ranking.ids[ranking.matched].tolist()[:60]

    def shown_by_the_page():
        return shown(post(client, "/refine", second_stage="1"))

    assert found(NAMES[1]) != found(None)
    assert shown_by_the_page() == found(NAMES[1])
    client.get("/like", query_string={"id": chosen[0]})
    assert shown_by_the_page() == found(NAMES[1])
    client.get("/search", query_string={"q": f"{NAMES[2]} + #{chosen[0]}"})
    assert shown_by_the_page() == found(f"{NAMES[2]} + #{chosen[0]}")
    store = app.extensions["gpubranches"].service.sessions.store
    for gone in ("zebra", "zebra + #999999", "dog +", ""):
        store.update(store.records()[0].session, words=gone)
        assert shown_by_the_page() == found(None)


def test_a_result_says_why_it_is_there(client, labels):
    assert "/why/" not in client.get("/").text
    ids = shown(found_all(client, labels))
    page = client.get("/matches").text
    marks = client.get("/marks").json["marks"]
    ids = [item for item in ids if str(item) not in marks]
    assert f'hx-get="/why/{ids[-1]}"' in page
    told = client.get(f"/why/{ids[-1]}", headers=HX)
    assert told.status_code == 200
    assert "<html" not in told.text
    assert f"Why item {ids[-1]} is in the answer" in told.text
    assert re.search(r"Found: [1-9]\d* of 25 quick looks found it like .*, and so did a closer look\.", told.text)
    assert re.search(r"<details[^>]*>\s*<summary>In numbers", told.text)
    assert re.search(r"[1-9]\d* of 25 estimators hold it, 1 needed: a candidate; its score [\d.-]+ reaches", told.text)
    assert "Bounds it passes most narrowly" in told.text
    post(client, "/mark", id=ids[-1], value="-1")
    assert "It is marked wrong, so it is not in the answer." in client.get(f"/why/{ids[-1]}").text
    post(client, "/refine", model="branch")
    stranger = next(i for i in range(700) if client.get(f"/why/{i}").text.count("0 of 1 estimators"))
    assert "Boxes it misses nearest" in client.get(f"/why/{stranger}").text
    post(client, "/refine", model="linear", second_stage="1")
    assert "/why/" not in client.get("/matches").text
    refused = client.get(f"/why/{ids[-1]}", headers=HX)
    assert refused.status_code == 422
    assert "no boxes" in message(refused)


@pytest.mark.parametrize(
    ("method", "path", "form", "part"),
    [
        ("get", "/search?q=", {}, "Type what to look for"),
        ("get", "/search?q=zzzz", {}, "zzzz"),
        ("get", "/like?id=abc", {}, "'abc'"),
        ("get", "/like", {}, "whole number"),
        ("get", "/like?id=123456", {}, "123456"),
        ("get", "/like?id=99999999999999999999", {}, "whole number"),
        ("get", "/random?seed=-1", {}, "'-1'"),
        ("get", "/random?seed=1&offset=x", {}, "offset"),
        ("get", "/suggest", {}, "Find all"),
        ("get", "/why/3", {}, "Find all"),
        ("get", "/audit", {}, "Find all"),
        ("get", "/completeness", {}, "Find all"),
        ("post", "/recut", {"lean": "0"}, "Find all"),
        ("post", "/recut", {"lean": "2"}, "lean"),
        ("post", "/recut", {"lean": "nan"}, "lean"),
        ("post", "/recut", {"lean": "far"}, "'far'"),
        ("post", "/mark", {"id": "1", "value": "1", "origin": "dice"}, "'dice'"),
        ("get", "/export/matches.csv", {}, "Find all"),
        ("get", "/export/boxes.sql", {}, "Find all"),
        ("post", "/refine", {}, "at least one item marked right"),
        ("post", "/refine", {"model": "oak"}, "oak"),
        ("post", "/refine", {"random_negatives": "-1"}, "random_negatives"),
        ("post", "/refine", {"random_negatives": ""}, "random_negatives"),
        ("post", "/refine", {"negative_weight": "heavy"}, "'heavy'"),
        ("post", "/refine", {"negative_weight": "0"}, "negative_weight"),
        ("post", "/mark", {"value": "1"}, "0 ids"),
        ("post", "/mark", {"id": "1", "value": "7"}, "'7'"),
        ("post", "/mark", {"id": "-4", "value": "1"}, "'-4'"),
        ("post", "/mark", {"id": "1", "value": "next"}, "'next'"),
        ("post", "/mark", {"id": "1", "value": "1", "event": "a b"}, "'a b'"),
        ("post", "/undo", {"event": "x"}, "'x'"),
        ("post", "/undo", {"since": "x"}, "since"),
        ("post", "/mark", {"id": "123456", "value": "1"}, "123456"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client, method, path, form, part):
    response = client.open(path, method=method.upper(), data=form, headers=HX)
    assert response.status_code == 422
    assert part in message(response)
    place = "#search-told" if path.startswith("/search") else "#alert"
    assert response.headers["HX-Retarget"] == place
    assert "<html" not in response.text
    assert counts(client.get("/")) == (0, 0)


def test_a_wrong_address_typed_in_gets_a_whole_page(client):
    for path, status in (("/like?id=abc", 422), ("/nowhere", 404), ("/mark", 405)):
        response = client.get(path)
        assert response.status_code == status
        assert "<html" in response.text
        assert message(response)


def test_what_nobody_foresaw_is_logged_and_not_shown(client, monkeypatch, caplog):
    monkeypatch.setattr(Searcher, "search", lambda *a, **k: 1 / 0)
    response = client.get("/like?id=3", headers=HX)
    assert response.status_code == 500
    assert "division" not in response.text
    assert "division" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**HX, "Sec-Fetch-Site": "cross-site"},
        {**HX, "Sec-Fetch-Site": "same-site"},
        {**HX, "Origin": "http://evil.example"},
        {**HX, "Origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/mark", "/undo", "/redo", "/clear", "/refine", "/sessions/new", "/sessions/import"])
def test_other_sites_cannot_change_anything(client, path, headers):
    post(client, "/mark", id=9, value="1")
    assert client.post(path, data={"id": 10, "value": "1"}, headers=headers).status_code == 403
    assert counts(client.get("/")) == (1, 0)


def test_this_site_can(client):
    headers = {**HX, "Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert post(client, "/mark", headers=headers, id=10, value="1").status_code == 200


def test_get_changes_nothing(client):
    assert client.get("/mark?id=3&value=1").status_code == 405
    assert client.get("/undo").status_code == 405
    assert client.get("/refine").status_code == 405


def test_thumbnails_are_small_jpegs_that_a_browser_keeps(client):
    response = client.get("/thumbnails/small/0.jpg")
    assert response.mimetype == "image/jpeg"
    assert max(Image.open(io.BytesIO(response.data)).size) == 320
    assert response.headers["Cache-Control"] == "private, no-cache"
    again = client.get("/thumbnails/small/0.jpg", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    large = client.get("/thumbnails/large/0.jpg", headers={"If-None-Match": response.headers["ETag"]})
    assert max(Image.open(io.BytesIO(large.data)).size) == 480


def test_a_picture_has_another_address_when_it_is_another_picture(client, folder):
    def address():
        return unescape(re.search(r'src="(/thumbnails/small/8[^"]+)"', client.get("/like?id=8").text)[1])

    first = address()
    assert "immutable" in client.get(first).headers["Cache-Control"]
    Image.new("RGB", (50, 40)).save(folder / "images/pictures/00008.jpg")
    assert address() != first
    assert Image.open(io.BytesIO(client.get(address()).data)).size == (50, 40)
    assert client.get(first).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["small/5", "small/6", "small/123456", "small/99999999999999999999", "huge/0"])
def test_there_is_no_thumbnail_of_what_has_no_readable_picture(client, path):
    assert client.get(f"/thumbnails/{path}.jpg").status_code == 404


def test_an_item_without_a_picture_shows_its_id_and_caption(client):
    page = client.get("/like?id=5").text
    tile = page[page.index('id="tile-5"') :].split("</li>")[0]
    assert "<img" not in tile
    assert "<b>#5</b>" in tile


def test_captions_are_text_and_never_markup(client):
    page = client.get("/like?id=3").text
    assert SPITEFUL not in page
    assert SPITEFUL in unescape(page)


def test_an_endless_caption_is_cut_in_the_grid_and_whole_among_the_details():
    assert shortened("a dog") == "a dog"
    assert len(shortened("x" * 10**6)) < 1000


def test_a_query_is_text_and_never_markup(client):
    assert "<script>alert" not in client.get("/search", query_string={"q": SPITEFUL}).text


def test_without_an_embedder_texts_are_refused_and_items_still_lead_on(folder):
    catalog = Catalog.open(folder / "unnamed")
    with open_backend("oracle", catalog) as backend:
        client = create_app(catalog, backend).test_client()
        page = client.get("/")
        assert "No text model" in page.text
        assert 'action="/like"' in page.text
        refused = client.get("/search?q=teapot", headers=HX)
        assert refused.status_code == 422
        assert "without a text model" in message(refused)
        assert shown(client.get("/search", query_string={"q": "#8"}))[0] == 8
        assert len(shown(client.get("/search", query_string={"q": "#8 + #9 - #10"}))) == PAGE
        assert shown(client.get("/like?id=8"))[0] == 8


def test_a_catalog_of_codes_alone_has_no_second_stage(tmp_path):
    codes = np.random.default_rng(0).integers(0, 256, (300, 8)).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    ingest([tmp_path / "codes.npy"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    with open_backend("oracle", catalog) as backend:
        client = create_app(catalog, backend).test_client()
        assert "disabled" in re.search("<input[^>]*second_stage[^>]*>", client.get("/").text)[0]
        near = shown(client.get("/like?id=8"))
        post(client, "/mark", id=near[:5], value="1")
        assert len(shown(post(client, "/refine"))) >= 5


def test_an_embedder_of_another_space_is_refused(folder, catalog, backend):
    np.save(folder / "other.npy", np.eye(64, dtype=np.float32)[:3])
    (folder / "other.json").write_text('["a", "b", "c"]')
    with pytest.raises(SpaceMismatchError):
        create_app(catalog, backend, embedder=VocabularyEmbedder.load(folder / "other.npy", folder / "other.json"))


def test_health_names_the_size(client):
    assert client.get("/healthz").json["items"] == 700


def test_on_loopback_foreign_host_names_and_taken_ports_are_refused(app):
    server = open_server(app, "127.0.0.1", 0)
    try:
        client = app.test_client()
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        assert client.get("/", headers={"Host": f"127.0.0.1:{server.effective_port}"}).status_code == 200
        with pytest.raises(UsageError, match="free port"):
            open_server(app, "127.0.0.1", int(server.effective_port))
    finally:
        server.task_dispatcher.shutdown()  # a thread that has yet to say that it is done needs the server open
        server.close()


def test_where_the_log_cannot_be_written_marks_are_kept_elsewhere_and_a_warning_says_so(tmp_path, caplog):
    class Elsewhere:
        path = tmp_path / "gone"

    store, lasting = open_store(Elsewhere)
    assert not lasting
    labels = Labels(store.database, "a")
    labels.mark([1], 1)
    assert labels.current() == {1: 1}
    assert "only as long as this server" in caplog.text
    labels.close()


def test_a_caption_is_the_most_telling_text():
    assert caption(EN, {"id": 1, "caption": " two dogs ", "path": "a/b.jpg"}) == "two dogs"
    assert caption(EN, {"id": 1, "caption": None, "path": "a/b.jpg"}) == "b.jpg"
    assert caption(EN, {"id": 1, "label": 7}) == "item 1"


def test_the_heading_says_how_many_match_and_a_line_how_complete_that_is():
    nothing = np.zeros(0)
    found = {"ids": nothing, "scores": nothing, "matched": nothing, "candidates": 5678, "threshold": 0.0}
    estimates = {"precision": (0.8, 0.9, 0.95), "recall": (0.5, 0.6, 0.7)}
    ranking = Ranking(**found, **estimates, total=1234, source="cpu/boxes", timings_ms={"total": 41.7})
    assert (matches_heading(EN, 1234), run_summary(EN, ranking)) == (
        "1,234 match",
        "5,678 items compared in detail · cpu/boxes · 42 ms",
    )
    assert intervals(EN, ranking) == "precision 90% (80% to 95%), recall 60% (50% to 70%)"
    assert completeness_in_words(EN, ranking) == (
        "about 1,100 of the 1,234 are right (between 980 and 1,200), and about 740 more are missing "
        "(between 470 and 1,200)"
    )
    all_but_one = replace(ranking, total=30, precision=(0.9, 0.99, 1), recall=(0.7, 0.98, 1))
    assert completeness_in_words(EN, all_but_one) == (
        "nearly all of the 30 are right (at least 27), and about 1 more is missing (at most 13)"
    )
    complete = replace(ranking, total=30, recall=(0.9, 0.99, 1))
    assert completeness_in_words(EN, complete) == (
        "about 27 of the 30 are right (between 24 and 29), and hardly any are missing (at most 3)"
    )
    maybe_complete = replace(ranking, total=30, recall=(0.7, 0.99, 1))
    assert completeness_in_words(EN, maybe_complete) == (
        "about 27 of the 30 are right (between 24 and 29), and between 0 and 12 are missing"
    )
    rounded_up = replace(ranking, total=118, precision=(0.9, 0.99, 1), recall=(0.9, 0.99, 1))
    assert completeness_in_words(EN, rounded_up) == (
        "nearly all of the 118 are right (at least 100), and about 1 more is missing (at most 13)"
    )
    wide = replace(ranking, recall=(0.1, 0.9, 1))
    assert completeness_in_words(EN, wide) == (
        "about 1,100 of the 1,234 are right (between 980 and 1,200); how many are missing is not known yet: check some"
    )
    assert completeness_in_words(EN, wide, checked=True).endswith("how many are missing is not known yet: check more")
    assert intervals(EN, wide) == "precision 90% (80% to 95%), recall between 10% and 100%"
    few_marks = replace(ranking, precision=(0.1, 0.7, 1))
    assert completeness_in_words(EN, few_marks) == (
        "how many of the 1,234 are right is not known yet (between 120 and 1,234); "
        "how many are missing is not known yet: check some"
    )
    assert intervals(EN, Ranking(**found, total=1)) == completeness_in_words(EN, Ranking(**found, total=1)) == ""
    assert matches_heading(EN, 1) == "1 matches"
    assert matches_heading(EN, 1234, (45, 1200)) == "1,234 match (45 new, 1,200 gone)"


def test_warming_up_leaves_nothing_behind(app, catalog):
    service = app.extensions["gpubranches"].service
    before = sorted(catalog.path.iterdir())
    service.warm_up()
    assert len(service.sessions) == 0
    assert sorted(catalog.path.iterdir()) == before


def test_the_page_works_on_the_gpu_backend_and_keeps_marks_when_the_device_is_lost(folder, embedder, labels):
    from cudasim import SimulatedDevice

    from gpubranches.engines.gpu import GpuBackend
    from gpubranches.errors import DeviceError

    catalog = Catalog.open(folder / "catalog")
    with GpuBackend(catalog, SimulatedDevice, sample_from=300) as backend:
        made = create_app(catalog, backend, embedder=embedder)
        client = made.test_client()
        page = found_all(client, labels)
        assert page.status_code == 200
        assert re.search(r"gpu/(boxes\+)?embeddings", page.text)
        marked = counts(client.get("/"))

        def fail(*args):
            raise DeviceError("an illegal memory access was encountered")

        backend._device.launch = fail
        lost = post(client, "/refine", model="ensemble", second_stage="1")
        assert lost.status_code == 503
        assert "illegal memory access" in message(lost)
        assert post(client, "/refine", model="branch", second_stage="1").status_code == 503
        assert counts(client.get("/")) == marked != (0, 0)
        made.extensions["gpubranches"].service.close()


def test_what_to_mark_is_shown_until_the_target_is_reached(app, client, labels):
    found_all(client, labels)
    assert 'hx-post="/next"' in client.get("/matches").text
    for _ in range(40):
        page = post(client, "/next")
        kind = re.search(r'data-kind="(\w+)"', page.text)[1]
        if kind == "matches":
            break
        assert page.headers["HX-Push-Url"] == f"/{kind}"
        assert re.search(
            r"Of what resembles your marks, (at least \d+% are|it is not known yet how many are) found \(these do not",
            page.text,
        )
        origin = re.search(r'data-origin="(\w+)"', page.text)[1]
        assert origin == {"suggest": "suggestion", "audit": "audit"}[kind]
        assert 'hx-post="/next"' in page.text
        for item in shown(page):
            post(client, "/mark", id=item, value="1" if labels[item] == 1 else "-1", origin=origin)
    ends = r"(At|Of what resembles your marks at) least \d+% are found, nine times in ten\."
    assert re.search(ends, page.text)
    assert page.headers["HX-Push-Url"] == "/matches"


def test_random_items_are_shuffled_and_others_at_each_visit(client):
    first, second = shown(client.get("/")), shown(client.get("/"))
    assert first != sorted(first)
    assert set(first) != set(second)
    assert shown(client.get("/random?seed=3")) == shown(client.get("/random?seed=3"))


def test_a_text_that_is_nearly_a_name_shows_that_name_and_says_so(client):
    page = client.get("/search?q=Kangoroos", headers=HX)
    assert "showing kangaroo for Kangoroos · " in unescape(page.text)
    assert "Nearest to “kangaroo”" in page.text
    assert page.headers["HX-Push-Url"] == "/search?q=kangaroo"
    assert shown(page) == shown(client.get("/search?q=kangaroo"))


def test_errors_of_a_search_are_told_at_its_field_and_suggestions_can_be_clicked(client):
    refused = client.get("/search?q=kang%20or%20a%20road%20x", headers=HX)
    assert (refused.status_code, refused.headers["HX-Retarget"]) == (422, "#search-told")
    assert client.get("/like?id=99999999", headers=HX).headers["HX-Retarget"] == "#alert"
    long = client.get("/search", query_string={"q": "x" * 3000}, headers=HX)
    assert long.status_code == 422
    assert "The search has 3,000 letters; at most 1,000 are possible" in long.text
    assert "xxx" not in long.text


def test_a_wrong_address_still_shows_the_search_field(client):
    for path in ("/nowhere", "/search?q=zzqq"):
        page = client.get(path)
        assert page.status_code in (404, 422)
        assert re.search(r'<form class="search"[^>]* action="/search">.*<input id="q"', page.text, re.DOTALL)
    assert 'value="zzqq"' in page.text


def test_the_example_in_the_filter_works(client, catalog):
    example = unescape(re.search(r'<input id="where"[^>]*placeholder="([^"]+)"', client.get("/").text)[1])
    assert f"100 of {catalog.n:,} items" in client.get("/filter/count", query_string={"where": example}).text
