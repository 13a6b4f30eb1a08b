"""The way through the page in a real Chromium: next steps, terms, review, sessions, long work, touch, steady layout."""

import csv
import re

import numpy as np
import pytest
from browsing import (
    SERVER,
    Server,
    find_teapots,
    needs_chromium,
    next_frames,
    search,
    shown,
    stored,
    violations,
    wait_for_counts,
    wait_for_focus,
    watched,
)
from clusters import NAMES

TEAPOT = NAMES.index("teapot")

pytestmark = [pytest.mark.browser, needs_chromium]

SLOW = f"""
import time
from pathlib import Path
from gpubranches.retrieval import refine
trained = refine._train_wide
def slowly(*arguments):
    while not Path(sys.argv[1] + "-may-train").exists():
        time.sleep(0.01)
    print("trained", flush=True)
    return trained(*arguments)
ranked = refine._rank_narrowly
def told(*arguments):
    print("ranked", flush=True)
    return ranked(*arguments)
refine._train_wide, refine._rank_narrowly = slowly, told
refine.judge = lambda view, data: None
{SERVER}"""
"""A server that trains once a file beside its catalog exists, and that prints what it does."""


@pytest.fixture
def phone(chromium, server):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, base_url=server.address
    )
    yield watched(context)
    context.close()


def primary(page):
    """Return the ids of the visible buttons that are drawn as the next step."""
    return page.eval_on_selector_all(
        "header .button.primary, main .button.primary",
        """buttons => buttons.filter((button) => button.checkVisibility() && !button.closest(".sheet"))
            .map((button) => button.id)""",
    )


def wait_for_primary(page, *ids):
    page.wait_for_function(
        """ids => JSON.stringify([...document.querySelectorAll('[data-step].primary')].map(button => button.id))
            === JSON.stringify(ids)""",
        arg=list(ids),
    )
    assert primary(page) == list(ids)


def hint(page):
    return page.inner_text("#steps .hint")


def test_one_next_step_is_shown_at_a_time_and_it_is_right(page, labels):
    page.goto("/")
    wait_for_primary(page, "search")
    assert hint(page) == "Search, mark a few right and wrong, then Find all."
    search(page, "teapot")
    wait_for_primary(page)
    assert hint(page) == "Mark a few pictures right and wrong, then Find all."
    page.keyboard.press("x")
    page.wait_for_selector("#steps[data-marks=wrong]")
    assert hint(page) == "Mark at least one right, then Find all."
    for item in shown(page)[1:9]:
        page.keyboard.press("a" if labels[item] == TEAPOT else "x")
    wait_for_primary(page, "find")
    assert hint(page) == "Find all applies your marks to all 700 items."
    stored(page)
    page.keyboard.press("f")
    page.wait_for_selector("#tab-all[aria-current]")
    wait_for_primary(page, "next")
    names = page.locator("#steps .button:visible").all_inner_texts()
    assert [" ".join(name.split()) for name in names] == ["Suggest 20", "Check 20", "Export"]
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("s")
    page.wait_for_selector("#progress:text-is('0 of 20 marked')")
    wait_for_primary(page)
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("x")
    page.wait_for_selector("#progress:text-is('1 of 20 marked')")
    wait_for_primary(page, "find")
    stored(page)
    page.keyboard.press("b")
    page.wait_for_selector("#tab-all[aria-current]")
    wait_for_primary(page, "find")
    assert page.inner_text("#find") == "Find all · 1 new mark"
    page.keyboard.press("Control+z")
    wait_for_primary(page, "next")
    page.goto("/search?q=teapot")
    wait_for_primary(page, "to-matches")
    assert page.complaints == [] or all("404" in text for text in page.complaints)


def test_the_first_page_tells_keys_that_work(page):
    page.goto("/")
    assert "Esc leaves the search field, then a marks right" in page.inner_text(".intro")
    assert page.evaluate("document.activeElement.id") == "q"
    first = shown(page)[0]
    page.keyboard.press("Escape")
    wait_for_focus(page, first)
    page.keyboard.press("a")
    wait_for_counts(page, 1, 0)


def test_terms_are_chips_with_pictures_that_are_taken_away_one_by_one(page, labels):
    item, other = (int(i) for i in np.flatnonzero(labels == TEAPOT)[-2:])
    page.goto(f"/search?q=teapot+%2B+%23{item}+-+%23{other}")
    chips = page.locator(".term")
    assert [" ".join(text.split()) for text in chips.all_inner_texts()] == [
        "teapot",
        f"+ #{item}",
        f"\N{MINUS SIGN} #{other}",
    ]
    page.wait_for_function(
        "() => [...document.querySelectorAll('.term img')].filter(image => image.naturalWidth).length === 2"
    )
    assert violations(page, "terms") == []
    page.get_by_label(f"Search without #{item}").click()
    page.wait_for_selector(f"#heading:has-text('teapot - #{other}')")
    assert page.input_value("#q") == f"teapot - #{other}"
    assert chips.count() == 2
    page.get_by_label(f"Search without #{other}").press("Enter")
    page.wait_for_selector("#heading:text-is('Nearest to “teapot”')")
    assert chips.count() == 0  # the field shows a single text
    assert page.locator("#ask-new[open]").count() == 0


def test_review_shows_what_is_unmarked_from_the_cut_at_any_size(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector(".pick:focus")
    marked = set(shown(page)[:60]) & set(
        page.eval_on_selector_all(".tile:not([data-mark='0'])", "tiles => tiles.map(tile => Number(tile.dataset.id))")
    )
    everything = page.get_attribute("#grid", "data-total")
    page.keyboard.press("r")
    page.wait_for_selector("#review[aria-pressed=true]")
    assert page.inner_text("#heading") == f"{int(everything) - len(marked)} to review"
    assert not marked & set(shown(page))
    chances = [
        int(text) for text in re.findall(r"chance (\d+)%", " ".join(page.locator(".figure").all_text_contents()))
    ]
    assert chances == sorted(chances)
    assert "unmarked=1" in page.url

    page.wait_for_selector(".pick:focus")
    page.keyboard.press("c")
    heights = [page.locator(".tile").first.bounding_box()["height"]]
    for key in ("+", "+", "+"):
        page.keyboard.press(key)
        heights.append(page.locator(".tile").first.bounding_box()["height"])
    assert heights == sorted(heights)
    assert heights[-1] > 1.2 * heights[0]
    page.keyboard.press("-")
    assert page.locator(".tile").first.bounding_box()["height"] < heights[-1]
    assert page.input_value("#tile-size") == "2"
    box, line = page.evaluate("""() => {
        const text = document.querySelector(".caption .text");
        return [text.getBoundingClientRect().height, parseFloat(getComputedStyle(text).lineHeight)];
    }""")
    assert 1.9 < box / line < 2.1  # two lines, whatever the caption
    page.evaluate("""() => addEventListener("keydown", event => (window.prevented = event.defaultPrevented))""")
    page.keyboard.press("Control+-")
    assert page.evaluate("window.prevented") is False
    assert page.input_value("#tile-size") == "2"
    page.reload()
    page.wait_for_selector(".grid.laid")
    assert page.input_value("#tile-size") == "2"
    page.evaluate("localStorage.clear()")


def test_the_slider_of_the_cut_tells_its_number_and_shows_the_border_that_it_moves(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector(".pick:focus")
    page.click("#show-cut")
    assert page.inner_text("#lean-told") == "as the model cuts"
    page.focus("#lean")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#lean-told") == "1.0"
    page.wait_for_selector("#unsure[aria-pressed=true]")
    page.wait_for_selector("#lean[value='1.0']")
    assert page.evaluate("document.activeElement.id") == "lean"
    figures = " ".join(page.locator(".figure").all_text_contents())
    chances = [int(chance) for chance in re.findall(r"chance (\d+)%", figures)]
    assert chances == sorted(chances)
    assert len(set(chances)) > 2
    page.click("#unsure")
    page.wait_for_selector("#unsure[aria-pressed=false]")
    assert "order=" not in page.url


def mark_teapots(page, keys):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    for key in keys:
        page.keyboard.press(key)
    stored(page)


def delete_teapots(page, keys):
    """Mark items by keys, delete the session, and return its name."""
    mark_teapots(page, keys)
    session = re.search(r"session=([\w-]+)", page.url)[1]
    page.goto("/sessions")
    page.get_by_label("Delete teapot").first.click()
    return session


def open_session(page, session):
    page.locator(f"#sessions [hx-post$='{session}/open']").click()
    page.wait_for_url("**/search?q=teapot*")


def test_a_deleted_session_comes_back_whole_by_a_button(page):
    session = delete_teapots(page, "aax")
    page.wait_for_selector("#toast:has-text('Deleted teapot'):has-text('· undo')")
    assert page.locator(f"#sessions [hx-post$='{session}/open']").count() == 0
    assert page.evaluate("document.activeElement.id") == "toast-do"
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#sessions .current [hx-post$='{session}/open']")
    assert re.fullmatch(r"teapot( \(\d+\))? is back", page.text_content("#said"))
    open_session(page, session)
    wait_for_counts(page, 2, 1)
    page.keyboard.press("Control+z")
    wait_for_counts(page, 2, 0)  # its events are there, so that they can be taken back, too


def test_a_session_deleted_within_the_hour_can_be_restored_after_a_reload(page):
    session = delete_teapots(page, "a")
    page.wait_for_selector("#toast:has-text('Deleted teapot')")
    page.reload()
    page.wait_for_selector(".discarded :text('teapot')")
    assert page.locator("#toast").count() == 0
    assert violations(page, "sessions-discarded") == []
    page.locator(f".discarded [hx-post$='{session}/undelete']").click()
    page.wait_for_selector(f"#sessions [hx-post$='{session}/open']")
    assert page.locator(f".discarded [hx-post$='{session}/undelete']").count() == 0
    open_session(page, session)
    wait_for_counts(page, 1, 0)


def test_find_all_pressed_twice_finds_once(page):
    mark_teapots(page, "aax")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/refine") else None)
    page.evaluate("document.getElementById('find').click(), document.getElementById('find').click()")
    page.wait_for_selector("#tab-all[aria-current]")
    page.evaluate("new Promise((done) => setTimeout(done))")  # a request that waited would be sent at once
    assert len(sent) == 1


def test_sessions_are_found_sorted_and_told_apart(page, labels):
    for chosen in ([0, 1], [2, 3]):
        page.goto("/")
        with page.expect_navigation():
            page.click("#new-search")
        page.goto("/search?q=violin")
        for place in chosen:
            page.click(f"#right-{shown(page)[place]}")
        stored(page)
    page.keyboard.press("f")
    page.wait_for_selector("#tab-all[aria-current]")
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    page.goto("/sessions")
    matched = page.locator("li.current .facts").inner_text()
    assert re.search(r"\d+ match", matched)
    assert download.value.suggested_filename in matched
    page.fill("#session-text", "VIOL")
    page.wait_for_function("() => document.querySelectorAll('#sessions > ul > li').length === 2")
    covers = page.eval_on_selector_all(
        "#sessions .covers", "covers => covers.map(each => [...each.children].map(image => image.src).join())"
    )
    assert len(set(covers)) == 2
    page.select_option("#session-order", "matches")
    page.wait_for_function("() => document.querySelector('#sessions li')?.matches('.current')")
    assert violations(page, "sessions-found") == []
    page.fill("#session-text", "zebra")
    page.wait_for_selector("#sessions:has-text('No session mentions “zebra”')")


def test_a_long_find_all_tells_its_stage_and_stops_when_it_is_cancelled(chromium, folder, labels):
    vocabulary = f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"
    with Server(folder / "catalog", vocabulary, "oracle", script=SLOW) as slow:
        context = chromium.new_context(base_url=slow.address)
        page = watched(context)
        page.goto("/search?q=teapot")
        for item in shown(page)[:6]:
            page.click(f"#{'right' if labels[item] == TEAPOT else 'wrong'}-{item}")
        stored(page)
        page.click("#find")
        page.wait_for_selector("#toast:has-text('Finding all · training · cancel')")
        assert violations(page, "long-work") == []
        page.click("#toast-do")
        page.wait_for_selector("#toast", state="hidden")
        (folder / "catalog-may-train").touch()
        assert slow.process.stdout.readline() == "trained\n"
        page.goto("/matches")
        page.wait_for_selector("#again")  # there is no answer
        wait_for_primary(page, "again")
        page.click("#again")
        page.wait_for_selector("#tab-all[aria-current]")
        assert [slow.process.stdout.readline() for _ in range(2)] == [
            "trained\n",
            "ranked\n",
        ]  # the first was not ranked
        assert page.locator("#toast").is_hidden()
        context.close()


def test_the_filter_stands_beside_the_pictures_of_a_wide_window(page):
    page.set_viewport_size({"width": 1500, "height": 800})
    page.goto("/search?q=teapot")
    page.keyboard.press("g")
    page.wait_for_selector("#columns .chip")
    form, grid = page.locator("#filter-form").bounding_box(), page.locator("#grid").bounding_box()
    assert grid["x"] + grid["width"] <= form["x"]
    tiles = page.eval_on_selector_all(".tile", "all => all.map(tile => tile.getBoundingClientRect().right)")
    assert max(tiles) <= form["x"]
    assert violations(page, "filter-beside") == []
    assert page.inner_text("#size") == "700 items"
    page.fill("#where", "label = 77")
    page.wait_for_selector("#where-told:has-text('0 of 700')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".empty")
    assert page.inner_text("#size") == "0 of 700 items"
    assert page.locator("#filter[open]").count() == 1
    page.click(".empty button")
    page.wait_for_selector(".tile")
    assert page.inner_text("#size") == "700 items"


def test_on_a_phone_little_is_above_the_pictures_and_the_rest_is_shown_on_demand(phone, labels):
    phone.goto("/search?q=teapot")
    ids = shown(phone)[:8]
    for item in ids:
        phone.tap(f"#tile-{item} .pick")
        if labels[item] != TEAPOT:
            phone.tap(f"#tile-{item} .pick")
    stored(phone)
    phone.tap("#find")
    phone.wait_for_selector("#tab-all[aria-current]")
    assert phone.locator("#grid").bounding_box()["y"] < 300
    assert phone.locator("#lean").is_hidden()
    assert violations(phone, "phone-matches") == []
    phone.tap("#show-cut")
    phone.wait_for_selector("#lean")
    assert phone.get_attribute("#show-cut", "aria-expanded") == "true"
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(phone, "phone-cut") == []
    phone.tap("[aria-controls=tools]")
    for opened in ("#view summary", "summary[aria-label='Options of find all']"):
        phone.tap(opened)
        sheet = phone.locator("#bar .menu[open] .sheet").bounding_box()
        assert min(sheet["x"], sheet["y"], 390 - sheet["x"] - sheet["width"]) >= 0
    phone.tap("#suggest")
    phone.wait_for_selector("#progress:text-is('0 of 20 marked')")
    first = shown(phone)[0]
    phone.tap(f"#tile-{first} .pick")
    phone.wait_for_selector("#progress:text-is('1 of 20 marked')")
    phone.tap("#to-matches")
    phone.wait_for_selector("#tab-all[aria-current]")


SHIFTS = """() => {
    window.shifts = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifts += entry.value;
    }).observe({type: "layout-shift", buffered: true});
}"""


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_moves_while_pictures_load_and_marks_are_made(page, labels, width):
    page.set_viewport_size({"width": width, "height": 800})
    held = []
    holding = True
    page.route("**/thumbnails/**", lambda route: held.append(route) if holding else route.continue_())
    page.add_init_script(f"({SHIFTS})()")
    page.goto("/search?q=teapot", wait_until="commit")
    page.wait_for_selector(".grid.laid")
    page.wait_for_function("() => document.querySelectorAll('.tile').length > 10")
    holding = False
    for route in held:
        route.continue_()
    page.wait_for_function("() => document.querySelector('.pick img')?.complete")
    for item in shown(page)[:4]:
        page.evaluate(f"document.querySelector('#right-{item}').click()")
    stored(page)
    next_frames(page)
    assert page.evaluate("window.shifts") < 0.05


def test_suggestions_fill_the_window(page, labels):
    page.set_viewport_size({"width": 1600, "height": 1100})
    find_teapots(page, labels)
    page.click("#suggest")
    page.wait_for_selector("#progress")
    last = page.locator(".tile").last.bounding_box()
    assert 0.6 * 1100 < last["y"] + last["height"] <= 1100


def test_the_wrong_mark_is_in_its_corner_and_buttons_leave_the_picture_free(page):
    page.goto("/search?q=teapot")
    item = shown(page)[1]
    page.click(f"#wrong-{item}")
    page.mouse.move(0, 0)
    tile, cross = page.locator(f"#tile-{item}").bounding_box(), page.locator(f"#wrong-{item}").bounding_box()
    assert tile["x"] + tile["width"] - (cross["x"] + cross["width"]) < 10
    assert cross["y"] - tile["y"] < 10
    page.hover(f"#tile-{item}")
    covered = page.evaluate(
        """item => {
        const tile = document.querySelector(`#tile-${item}`);
        const picture = tile.querySelector(".pick").getBoundingClientRect();
        const parts = [...tile.querySelectorAll(".mark, .link, .caption")].filter((part) => part.checkVisibility());
        const over = (box) => Math.max(0, Math.min(box.bottom, picture.bottom) - Math.max(box.top, picture.top))
            * Math.max(0, Math.min(box.right, picture.right) - Math.max(box.left, picture.left));
        return parts.reduce((sum, part) => sum + over(part.getBoundingClientRect()), 0)
            / (picture.width * picture.height);
    }""",
        item,
    )
    assert covered < 0.15


def test_the_minimal_task_on_the_demo_takes_fourteen_actions(chromium, tmp_path):
    from gpubranches.demo import build_demo

    build_demo(tmp_path / "demo", n=400, seed=2)
    with Server(tmp_path / "demo", "demo", "oracle") as demo:
        context = chromium.new_context(base_url=demo.address)
        page = watched(context)
        actions = []

        def press(*keys):
            actions.append(keys)
            for key in keys:
                page.keyboard.press(key)

        page.goto("/")
        page.keyboard.type("two red triangles")
        press("Enter")
        page.wait_for_selector("#heading:has-text('two red triangles')")
        page.wait_for_selector(".pick:focus")
        for _ in range(5):
            press("a")
        for item in shown(page)[-5:]:
            actions.append(item)
            page.click(f"#wrong-{item}")
        stored(page)
        press("f")
        page.wait_for_selector("#tab-all[aria-current]")
        page.wait_for_selector(".pick:focus")
        press("e")
        with page.expect_download() as download:
            press("Enter")
        assert len(actions) <= 14
        download.value.save_as(tmp_path / "matches.csv")
        rows = list(csv.DictReader((tmp_path / "matches.csv").open(encoding="utf-8-sig")))
        assert [row["mark"] for row in rows].count("1") == 5
        assert len(rows) > 5
        context.close()


@pytest.mark.parametrize("look", ["light", "dark", "zoom"])
def test_axe_finds_nothing_to_complain_of_on_the_way(page, labels, look):
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    if look == "zoom":  # 200% of a window of 1280 x 800
        page.set_viewport_size({"width": 640, "height": 400})
    find_teapots(page, labels)
    page.wait_for_selector("#tab-all[aria-current]")
    assert violations(page, f"flow-{look}-matches") == []
    if look == "zoom":
        page.click("[aria-controls=tools]")
    page.click("summary[aria-label='Options of find all']")
    page.click(".advanced summary")
    assert violations(page, f"flow-{look}-options") == []
    page.keyboard.press("Escape")
    page.click("#view summary")
    assert violations(page, f"flow-{look}-view") == []
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('#review').click()")
    page.wait_for_selector("#review[aria-pressed=true]", state="attached")
    assert violations(page, f"flow-{look}-review") == []
    page.goto("/suggest")
    assert violations(page, f"flow-{look}-suggest") == []
    page.goto("/sessions")
    page.get_by_label("Delete teapot").first.click()
    page.wait_for_selector("#toast-do")
    assert violations(page, f"flow-{look}-deleted") == []
