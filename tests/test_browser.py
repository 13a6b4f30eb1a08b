"""The page in a real Chromium, against a real server process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from clusters import NAMES
from pictures import write_pictures

from gpubranches.ingest import ingest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVER = """
import sys
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.embed import open_embedder
catalog = Catalog.open(sys.argv[1])
with open_backend(sys.argv[3], catalog) as backend:
    app = create_app(catalog, backend, embedder=open_embedder(sys.argv[2]))
    server = open_server(app, "127.0.0.1", int(sys.argv[4]))
    print(server.effective_port, flush=True)
    server.run()
"""
EVALUATION = os.environ.get("GPUBRANCHES_EVAL_DATA")
KANGAROO, TEAPOT = NAMES.index("kangaroo"), NAMES.index("teapot")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium"),
]


class Server:
    """The page's server in its own process."""

    def __init__(self, catalog, embedder, backend="oracle"):
        self.arguments = [str(catalog), embedder, backend]
        self.port = 0
        self.process = None

    def start(self):
        command = [sys.executable, "-c", SERVER, *self.arguments, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    np.save(path / "labels.npy", write_pictures(path))
    ingest([path / "images"], path / "catalog", embedder=f"vocabulary:{path}/text/emb.npy,{path}/text/names.json")
    return path


@pytest.fixture(scope="module")
def labels(folder):
    return np.load(folder / "labels.npy")


@pytest.fixture(scope="module")
def server(folder):
    running = Server(folder / "catalog", f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json")
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, base_url=server.address)
    context.set_default_timeout(15_000)
    opened = context.new_page()
    opened.asked, opened.complaints = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("console", lambda entry: opened.complaints.append(entry.text) if entry.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    yield opened
    context.close()


def search(page, text):
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#heading:has-text('“{text}”')")
    page.wait_for_selector(".pick:focus")


def shown(page):
    return [int(i) for i in page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.dataset.id)")]


def wait_for_counts(page, positive, negative):
    page.wait_for_function(
        "([p, n]) => document.querySelector('#positive').textContent == p"
        " && document.querySelector('#negative').textContent == n",
        arg=[str(positive), str(negative)],
    )


def pressed(page, item):
    marks = page.locator(f"#tile-{item} .mark")
    return [marks.nth(i).get_attribute("aria-pressed") for i in range(2)]


def test_the_whole_task_by_keyboard_alone(page, labels):
    page.goto("/")
    search(page, "kangaroo")
    for item in shown(page)[:14]:
        page.keyboard.press("+" if labels[item] == KANGAROO else "-")
        page.keyboard.press("ArrowRight")
    first = shown(page)[:14]
    right = int((labels[first] == KANGAROO).sum())
    wait_for_counts(page, right, 14 - right)
    page.keyboard.press("f")
    page.wait_for_url("**/matches")
    page.wait_for_selector("#heading:has-text('match')")
    page.wait_for_selector(".pick:focus")
    total = int(re.match(r"([\d,]+) match", page.inner_text("#heading"))[1])
    found = shown(page)
    assert total >= right
    assert (labels[found] == KANGAROO).mean() > 0.7
    assert page.inner_text("#said").startswith(f"{total} match")
    assert [text for text in page.complaints if "404" not in text] == []  # item 6 is no picture


def test_nothing_is_asked_of_another_host_and_pictures_load(page, server):
    page.goto("/like?id=5")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.pick img')].slice(0, 5).every(i => i.naturalWidth > 0)"
    )
    assert page.asked
    assert all(url.startswith(server.address) for url in page.asked)
    assert page.locator("#tile-5 .blank").is_visible()
    page.goto("/like?id=6")
    page.wait_for_function("() => !document.querySelector('#tile-6 img')")
    assert page.locator("#tile-6 .blank").is_visible()


def test_a_click_on_a_picture_goes_round_and_a_reload_keeps_the_marks(page):
    page.goto("/like?id=20")
    picture = page.locator("#tile-20 .pick")
    for state in (["true", "false"], ["false", "true"], ["false", "false"], ["true", "false"]):
        picture.click()
        page.wait_for_function(
            "([r, w]) => document.querySelector('#right-20').ariaPressed == r"
            " && document.querySelector('#wrong-20').ariaPressed == w",
            arg=state,
        )
    page.reload()
    assert pressed(page, 20) == ["true", "false"]
    assert page.inner_text("#positive") == "1"


def test_the_buttons_mark_and_pressed_again_remove(page):
    page.goto("/like?id=20")
    page.click("#wrong-20")
    wait_for_counts(page, 0, 1)
    page.click("#right-20")
    wait_for_counts(page, 1, 0)
    page.click("#right-20")
    wait_for_counts(page, 0, 0)


def test_marks_typed_faster_than_the_server_answers_are_all_kept(page):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".pick:focus")
    ids = shown(page)[:24]
    for row in range(24):
        page.keyboard.press("y" if row % 3 else "n")
        page.keyboard.press("ArrowRight")
    wait_for_counts(page, 16, 8)
    assert [pressed(page, item)[0] for item in ids] == ["true" if row % 3 else "false" for row in range(24)]
    page.keyboard.press("u")
    wait_for_counts(page, 15, 8)
    assert pressed(page, ids[23]) == ["false", "false"]


def test_arrows_move_by_rows_and_columns(page):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    here = "Number(document.activeElement.closest('.tile').dataset.id)"
    ids = shown(page)
    assert page.evaluate(here) == ids[0]
    page.keyboard.press("ArrowDown")
    below = ids.index(page.evaluate(here))
    assert below > 1
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(here) == ids[below - 1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(here) == ids[0]
    page.keyboard.press("ArrowUp")
    assert page.evaluate(here) == ids[0]


def test_keys_do_not_mark_while_a_text_is_typed(page):
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type("+-nyuf")
    assert page.input_value("#q") == "+-nyuf"
    assert page.inner_text("#counts").split() == ["0", "right", "0", "wrong"]


def test_an_error_is_shown_above_what_was_there_and_goes_with_the_next_answer(page):
    page.goto("/search?q=teapot")
    before = shown(page)
    page.fill("#q", "zebra stripes")
    page.keyboard.press("Enter")
    page.wait_for_selector("#alert:has-text('zebra stripes')")
    assert shown(page) == before
    assert page.url.endswith("/search?q=teapot")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.wait_for_selector("#alert:has-text('marked right')")
    page.keyboard.press("y")
    page.wait_for_selector("#alert .alert", state="detached")


def test_show_more_goes_on_below(page):
    page.goto("/search?q=teapot")
    first = shown(page)
    page.focus("#more")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.tile').length == 120")
    page.wait_for_selector(".pick:focus")
    ids = shown(page)
    assert ids[:60] == first
    assert len(set(ids)) == 120
    assert page.evaluate("Number(document.activeElement.closest('.tile').dataset.id)") == ids[60]


def test_more_like_this_and_back(page):
    page.goto("/search?q=teapot")
    before = shown(page)
    page.click(f"#tile-{before[2]} .like")
    page.wait_for_url(f"**/like?id={before[2]}")
    page.wait_for_selector(f"#heading:has-text('Like item {before[2]}')")
    assert shown(page)[0] == before[2]
    page.go_back()
    page.wait_for_selector("#heading:has-text('teapot')")
    assert shown(page) == before


def test_suggest_and_export(page, labels, tmp_path):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    for item in shown(page)[:8]:
        page.keyboard.press("+" if labels[item] == TEAPOT else "-")
        page.keyboard.press("ArrowRight")
    page.click("#find")
    page.wait_for_url("**/matches")
    page.click(".export summary")
    with page.expect_download() as download:
        page.click("text=JSON >> nth=0")
    download.value.save_as(tmp_path / "matches.json")
    rows = json.loads((tmp_path / "matches.json").read_text())
    assert [row["id"] for row in rows][: len(shown(page))] == shown(page)[: len(rows)]
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.wait_for_url("**/suggest")
    page.wait_for_selector("#heading:has-text('to mark next')")
    assert len(shown(page)) == 20


def test_an_audit_is_marked_and_the_slider_moved_by_keys(page, labels):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    for item in shown(page)[:8]:
        page.keyboard.press("+" if labels[item] == TEAPOT else "-")
        page.keyboard.press("ArrowRight")
    page.click("#find")
    page.wait_for_url("**/matches")
    before = page.inner_text("#completeness .note")
    page.click("#audit")
    page.wait_for_url("**/audit")
    marked = page.inner_text("#positive"), page.inner_text("#negative")
    for item in shown(page)[:5]:
        with page.expect_request("**/mark") as request:
            page.click(f"#right-{item}")
        assert "origin=audit" in request.value.post_data
    wait_for_counts(page, int(marked[0]) + 5, int(marked[1]))
    page.click("#estimate")
    page.wait_for_function("t => document.querySelector('#completeness .note').innerText !== t", arg=before)
    page.goto("/matches")
    total = page.inner_text("#heading")
    page.focus("#lean")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("t => document.querySelector('#heading').innerText !== t", arg=total)
    assert page.input_value("#lean") == "1"
    assert page.evaluate("document.activeElement.id") == "lean"
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_keys_are_shown_on_demand(page):
    page.goto("/like?id=20")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("y")
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    assert page.inner_text("#positive") == "0"


def test_a_key_tells_why_an_item_is_there_and_gives_the_focus_back(page, labels):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("w")
    assert not page.locator("#why").is_visible()
    for item in shown(page)[:6]:
        page.keyboard.press("+" if labels[item] == TEAPOT else "-")
        page.keyboard.press("ArrowRight")
    page.click("#find")
    page.wait_for_url("**/matches")
    page.wait_for_selector(".pick:focus")
    first = shown(page)[0]
    page.keyboard.press("w")
    page.wait_for_selector(f"#why[open] h2:has-text('Item {first}')")
    assert "estimators hold it" in page.inner_text("#why")
    page.keyboard.press("y")
    page.keyboard.press("Escape")
    assert not page.locator("#why").is_visible()
    assert page.evaluate("document.activeElement.closest('.tile').dataset.id") == str(first)
    assert page.evaluate("""() => [...document.querySelectorAll('.tile')].every(tile =>
        tile.querySelector('.controls').scrollWidth <= tile.clientWidth)""")
    page.click(f"#tile-{first} .why")
    page.wait_for_selector("#why[open]")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.querySelector('#why').scrollWidth <= document.querySelector('#why').clientWidth")


def test_everything_that_can_be_pressed_has_a_name(page):
    page.goto("/search?q=teapot")
    nameless = """() => [...document.querySelectorAll('button, a, input, summary')].filter(e =>
        !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_a_server_that_dies_loses_no_mark_and_is_missed_aloud(page, server):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("y")
    wait_for_counts(page, 1, 0)
    server.kill()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("y")
    page.wait_for_selector("#alert:has-text('did not answer')")
    assert page.inner_text("#positive") == "1"
    server.start()
    page.keyboard.press("y")
    wait_for_counts(page, 2, 0)
    page.reload()
    assert page.inner_text("#positive") == "2"


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 700})
    page.goto("/search?q=teapot")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.skipif(not EVALUATION, reason="needs the evaluation data: set GPUBRANCHES_EVAL_DATA")
def test_kangaroos_are_found_among_real_photos(chromium, tmp_path):
    data = Path(EVALUATION).resolve()
    vocabulary = f"vocabulary:{data}/text/text_emb_0.npy,{data}/text/names.json"
    ingest([data / "caltech101"], tmp_path / "catalog", embedder=vocabulary)
    captions = pq.read_table(data / "caltech101/metadata/metadata_0.parquet")["caption"].to_pylist()
    kangaroo = np.array(captions) == "kangaroo"
    server = Server(tmp_path / "catalog", vocabulary, "cpu")
    server.start()
    try:
        page = chromium.new_page(base_url=server.address)
        page.set_default_timeout(120_000)  # a first use compiles the kernels
        page.goto("/")
        search(page, "kangaroo")
        first = shown(page)[:20]
        assert kangaroo[first].mean() >= 0.9
        page.wait_for_function("() => [...document.querySelectorAll('.pick img')][0].naturalWidth > 0")
        marked = [*first[:8], *(item for item in shown(page) if not kangaroo[item])][:14]
        for item in marked:
            page.click(f"#right-{item}" if kangaroo[item] else f"#wrong-{item}")
        wait_for_counts(page, int(kangaroo[marked].sum()), int((~kangaroo[marked]).sum()))
        page.click("#find")
        page.wait_for_selector("#heading:has-text('match')")
        with page.expect_download() as download:
            page.click(".export summary")
            page.click("text=JSON >> nth=0")
        download.value.save_as(tmp_path / "matches.json")
        found = [row["id"] for row in json.loads((tmp_path / "matches.json").read_text())]
        assert kangaroo[found].mean() > 0.8
        assert kangaroo[found].sum() > 0.7 * kangaroo.sum()
        page.close()
    finally:
        server.kill()
