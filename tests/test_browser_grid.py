"""The grid over one hundred thousand matches: bounded, steady, and all of it within reach of the keys."""

from itertools import pairwise

import numpy as np
import pytest
from browsing import Server, needs_chromium, next_frames, wait_for_counts

from gpubranches.ingestion import ingest

N = 100_000
# Every session finds all items, best first by id, whatever is marked: here the grid is tried, not the models. Items are
# as wide as their ids say, so that some pages of the list are higher than others.
SCRIPT = """
import sys
from dataclasses import replace
import numpy as np
from gpubranches import Catalog, Ranking, open_backend
from gpubranches.service.answer import Answer
from gpubranches.app import create_app, open_server
from gpubranches.retrieval.completeness import Completeness
from gpubranches.app import views
plain = views.tile
def wide(item, mark, figure):
    return replace(plain(item, mark, figure), ratio=0.7 + item["id"] // 60 % 5 * 0.35 + item["id"] % 3 * 0.1)
views.tile = wide
catalog = Catalog.open(sys.argv[1])
with open_backend("oracle", catalog) as backend:
    app = create_app(catalog, backend)
    sessions = app.extensions["gpubranches"].service.sessions.opened
    make = sessions._make
    def planted(name):
        session = make(name)
        ids = np.arange(catalog.n)
        scores = np.linspace(1, 0, catalog.n, dtype=np.float32)
        ranking = Ranking(ids, scores, np.ones(catalog.n, bool), catalog.n, catalog.n, 0.0, source="planted")
        session.found = Answer(
            catalog, ranking, Completeness(ranking, {}, catalog.n), generation=catalog.generation, coding=catalog.coding
        )
        return session
    sessions._make = planted
    server = open_server(app, "127.0.0.1", int(sys.argv[2]))
    print(server.effective_port, flush=True)
    server.run()
"""
MOST_TILES, MOST_ELEMENTS = 500, 12_000

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("large")
    np.save(path / "codes.npy", np.random.default_rng(0).integers(0, 256, (N, 4)).astype(np.uint8))
    ingest([path / "codes.npy"], path / "catalog")
    with Server(path / "catalog", script=SCRIPT) as running:
        yield running


@pytest.fixture
def page(page):
    page.goto("/matches")
    assert page.inner_text("#heading") == f"{N:,} match"
    yield page
    assert page.complaints == []


def settle(page):
    """Wait until all of the screen is tiles and nothing is asked for."""
    next_frames(page)
    page.wait_for_function("""() => {
        const grid = document.querySelector("#grid");
        // On a phone the bar of the steps lies below.
        const covered = [0.6, 0.8].every(share => {
            const at = document.elementFromPoint(innerWidth / 2, innerHeight * share);
            return at.closest(".chunk");
        });
        return !grid.hasAttribute("aria-busy") && covered;
    }""")
    assert page.locator(".tile").count() <= MOST_TILES
    assert page.evaluate("document.querySelectorAll('*').length") <= MOST_ELEMENTS


def focused_place(page):
    page.wait_for_selector(".pick:focus")
    return int(page.evaluate("document.activeElement.closest('.tile').ariaPosInSet"))


def places(page):
    return page.evaluate("[...document.querySelectorAll('.tile')].map(tile => Number(tile.ariaPosInSet))")


def middle(page):
    """Return the place of a tile in the middle of the screen."""
    return int(
        page.evaluate("document.elementFromPoint(innerWidth / 2, 500).closest('.chunk').children[0].ariaPosInSet")
    )


def press_until(page, key, place):
    page.keyboard.press(key)
    page.wait_for_function(
        "place => document.activeElement.closest('.tile')?.ariaPosInSet === String(place)", arg=place
    )


def test_any_place_is_reached_by_the_scroll_bar_with_a_bounded_document(page):
    for share in (0.5, 0.9, 1, 0.2, 0.21, 0):
        page.evaluate("share => scrollTo(0, share * (document.documentElement.scrollHeight - innerHeight))", share)
        settle(page)
        assert abs(middle(page) - share * N) < 0.02 * N
        found = places(page)
        assert found == list(range(found[0], found[-1] + 1))
    assert page.evaluate("document.documentElement.scrollHeight") < 9_000_000


def test_scrolling_on_and_back_moves_nothing_that_is_seen(page):
    steps = [600] * 12 + [-600] * 12
    page.evaluate("scrollTo(0, 900000)")
    settle(page)
    for step in steps:
        item, before = page.evaluate("""() => {
            const tops = tile => tile.getBoundingClientRect().top;
            const tile = [...document.querySelectorAll(".tile")].find(tile => tops(tile) > 300 && tops(tile) < 700);
            return [tile.id, tile.getBoundingClientRect().top];
        }""")
        page.evaluate("step => scrollBy(0, step)", step)
        settle(page)
        after = page.evaluate("id => document.getElementById(id).getBoundingClientRect().top", item)
        assert abs(after - (before - step)) <= 2


def test_keys_reach_the_end_the_beginning_and_all_between(page):
    page.keyboard.press("ArrowDown")
    assert focused_place(page) == 1
    press_until(page, "End", N)
    settle(page)
    press_until(page, "ArrowLeft", N - 1)
    page.keyboard.press("x")
    wait_for_counts(page, 0, 1)
    press_until(page, "Home", 1)
    settle(page)
    for _ in range(130):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.closest('.tile')?.ariaPosInSet === '131'")
    page.keyboard.press("a")
    wait_for_counts(page, 1, 1)
    seen = [focused_place(page)]
    for _ in range(12):
        page.keyboard.press("PageDown")
        page.wait_for_function(
            "last => Number(document.activeElement.closest('.tile')?.ariaPosInSet) > last", arg=seen[-1]
        )
        seen.append(focused_place(page))
    assert len({round((b - a) / 20) for a, b in pairwise(seen)}) <= 3
    settle(page)
    for _ in range(12):
        page.keyboard.press("PageUp")
    page.wait_for_function("() => Number(document.activeElement.closest('.tile')?.ariaPosInSet) < 200")
    press_until(page, "End", N)
    assert page.locator(f"#tile-{N - 2}").get_attribute("data-mark") == "-1"


def test_a_selection_grows_across_chunks_and_is_marked_at_once(page):
    page.keyboard.press("ArrowDown")
    for _ in range(6):
        page.keyboard.press("Shift+PageDown")
    page.wait_for_function("() => Number(document.activeElement.closest('.tile')?.ariaPosInSet) > 90")
    chosen = focused_place(page)
    page.keyboard.press("a")
    wait_for_counts(page, chosen, 0)
    page.keyboard.press("Control+z")
    wait_for_counts(page, 0, 0)


def test_a_list_that_became_another_is_shown_anew(page, server):
    page.route(
        "**/matches?*offset=*",
        lambda route: route.fulfill(body='<ol class="chunk" data-offset="60" data-found="7"></ol>'),
    )
    # The open page may send a few requests past the route that was just laid.
    page.wait_for_function(
        "async () => (await (await fetch('/matches?marks=0&offset=60')).text()).includes('found=\"7\"')"
    )
    with page.expect_response(lambda response: "/matches?" in response.url and "offset" not in response.url):
        page.evaluate("scrollTo(0, 3000)")
    page.unroute("**/matches?*offset=*")
    page.evaluate("scrollTo(0, 500)")
    settle(page)


def test_rows_are_justified_at_any_width(page):
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 800})
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rows = page.evaluate("""() => {
            const grid = document.querySelector("#grid").getBoundingClientRect();
            const last = new Map();
            for (const tile of document.querySelectorAll(".tile")) {
                const box = tile.getBoundingClientRect();
                last.set(box.top, grid.right - box.right);
            }
            return [...last.values()];
        }""")
        assert max(rows) < 1.5
