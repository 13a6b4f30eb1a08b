"""The layout of the page in a real Chromium: at every width, in both languages, in each state of the bar."""

from pathlib import Path

import pytest
from browsing import SCREENSHOTS, find_teapots, needs_chromium, shown, stored, watched

pytestmark = [pytest.mark.browser, needs_chromium]

WIDTHS = [320, 390, 480, 640, 737, 768, 900, 1024, 1120, 1217, 1280, 1345, 1366, 1440, 1700]
SIZES = [*((width, 800) for width in WIDTHS), (640, 400), (683, 410)]  # the last ones are of 200% zoom
LONG_NAME = "A very long name of a session that somebody chose, "

FAULTS = """() => {
    const width = document.documentElement.clientWidth;
    const name = (part) => part.id || part.textContent.trim() || part.className;
    const seen = (part) => part.checkVisibility({visibilityProperty: true})
        && !part.closest(".sheet, .unseen, #toast") && part.offsetWidth > 1;
    const parts = [...document.querySelectorAll(
        "header :is(.button, .count, .progress, .hint, .size, h1 a, #q), .head > *, .completeness .told,"
        + " .completeness :is(.button, .tab, label, output, input[type=range])"
    )].filter(seen);
    const faults = [];
    for (const part of parts) {
        const box = part.getBoundingClientRect();
        if (box.left < -1 || box.right > width + 1) faults.push(`${name(part)} is outside`);
        const cut = part.clientWidth && part.scrollWidth > part.clientWidth + 1;
        if (cut && part.id !== "q") faults.push(`${name(part)} is cut`);
        if (part.matches(".hint, .progress, .told") && box.height > 6 * parseFloat(getComputedStyle(part).fontSize)) {
            faults.push(`${name(part)} has ${box.height} px of height`);
        }
        if (part.id === "q" && box.width < 150) faults.push(`the field has ${box.width} px`);
        for (const other of parts) {
            if (other === part || other.contains(part) || part.contains(other)) continue;
            if (part.matches("#q, #by-picture") && other.matches("#q, #by-picture")) continue; // one is in the other
            const to = other.getBoundingClientRect();
            const over = Math.min(box.right, to.right) - Math.max(box.left, to.left);
            const under = Math.min(box.bottom, to.bottom) - Math.max(box.top, to.top);
            if (over > 1 && under > 1 && part.closest("#bar") === other.closest("#bar")) {
                faults.push(`${name(part)} overlaps ${name(other)}`);
            }
        }
    }
    const needed = document.documentElement.scrollWidth;
    if (needed > width) faults.push(`${needed} px are needed`);
    return faults;
}"""


@pytest.fixture
def page_in(chromium, server):
    """Return a function that opens a page in a language."""
    contexts = []

    def opened(language, **options):
        contexts.append(chromium.new_context(base_url=server.address, locale=language, **options))
        return watched(contexts[-1])

    yield opened
    for context in contexts:
        context.close()


def faults_by_width(page, name):
    """Return what is wrong at each width; with GPUBRANCHES_SCREENSHOTS set, leave pictures of some."""
    found = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        if faults := page.evaluate(FAULTS):
            found[width, height] = faults
        if SCREENSHOTS and width in (320, 390, 768, 1024, 1280):
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.screenshot(path=Path(SCREENSHOTS) / f"layout-{name}-{width}-{theme}.png")
    page.set_viewport_size({"width": 1200, "height": 800})
    return found


def to_matches(page):
    page.goto("/matches")
    page.wait_for_selector("#tab-all[aria-current]")


def mark_all(page, count):
    """Mark the items shown wrong, one by one, so that the bar says so."""
    page.keyboard.press("Home")
    for item in shown(page)[:count]:
        page.evaluate(f"document.querySelector('#wrong-{item}[aria-pressed=false]')?.click()")
    stored(page)


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_nothing_overlaps_and_nothing_is_cut_at_any_width_in_any_state(page_in, labels, language):
    page = page_in(language)
    page.goto("/sessions")
    page.fill("#sessions .current .name input", 3 * LONG_NAME)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#said:has-text('{LONG_NAME.strip()}')", state="attached")
    page.goto("/")
    faults = {"home": faults_by_width(page, f"home-{language}")}
    find_teapots(page, labels)
    page.goto("/search?q=teapot")
    faults["search after an answer"] = faults_by_width(page, f"search-{language}")
    to_matches(page)
    faults["matches"] = faults_by_width(page, f"matches-{language}")
    page.click("#suggest")
    page.wait_for_selector("#progress")
    mark_all(page, 20)
    page.wait_for_selector("#progress[data-left='0']")
    faults["suggestions"] = faults_by_width(page, f"suggestions-{language}")
    to_matches(page)
    faults["matches and new marks"] = faults_by_width(page, f"new-marks-{language}")
    page.click("#next")
    page.wait_for_selector("#progress[data-left='20']")
    faults["a step to 95%"] = faults_by_width(page, f"step-{language}")
    to_matches(page)
    page.click("#audit")
    page.wait_for_url("**/audit?*")
    mark_all(page, 20)
    page.wait_for_selector("#progress[data-left='0']")
    faults["checks done"] = faults_by_width(page, f"checked-{language}")
    page.goto("/sessions")
    page.set_viewport_size({"width": 320, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert {state: found for state, found in faults.items() if found} == {}


OVER = """item => {
    const picture = document.querySelector(`#tile-${item} .pick`).getBoundingClientRect();
    const x = [.1, .3, .5, .7, .9].map((part) => picture.left + part * picture.width);
    const y = [.25, .5, .75, .95].map((part) => picture.top + part * picture.height);
    return x.flatMap((left) => y.map((top) => document.elementFromPoint(left, top)))
        .filter((part) => !part.closest(".pick")).map((part) => part.className);
}"""


def test_a_caption_stands_under_the_picture_that_is_judged(page):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    first, item = shown(page)[:2]
    caption = page.locator(f"#tile-{item} .caption")
    caption.wait_for()  # after a while
    picture, told = page.locator(f"#tile-{item} .pick").bounding_box(), caption.bounding_box()
    assert told["y"] >= picture["y"] + picture["height"]
    assert page.evaluate(OVER, item) == []
    page.hover(f"#tile-{first} .pick")
    page.locator(f"#tile-{first} .caption").wait_for()
    assert page.evaluate(OVER, first) == []


def test_on_a_touch_screen_nothing_covers_a_picture_and_the_current_one_opens_large(page_in):
    page = page_in("en-GB", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto("/")
    assert "Tap a picture" in page.inner_text(".intro")
    assert "Click a picture" not in page.inner_text(".intro")
    page.goto("/search?q=teapot")
    item = shown(page)[1]
    page.tap(f"#tile-{item} .pick")
    page.wait_for_selector(f"#tile-{item}[data-mark='1']")
    assert page.evaluate(OVER, item) == []
    page.tap("#bar [data-do=large]")
    page.wait_for_selector("#large[open]")
    assert page.inner_text("#large-said").endswith("marked right.")
    assert page.locator("#large-said").evaluate("said => said.scrollWidth <= said.clientWidth")


def test_the_buttons_of_the_large_view_are_one_row_on_a_phone_and_marks_are_large(page_in):
    page = page_in("de-DE", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto("/search?q=teapot")
    page.tap(f"#tile-{shown(page)[0]} .pick")
    page.tap("#bar [data-do=large]")
    page.wait_for_selector("#large[open]")
    boxes = page.eval_on_selector_all(
        ".large-bar :is(button, a)",
        "all => all.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().toJSON())",
    )
    assert {round(box["top"] + box["height"] / 2) for box in boxes} == {round(boxes[0]["top"] + boxes[0]["height"] / 2)}
    assert max(box["right"] for box in boxes) <= 390
    assert min(box["width"] for box in boxes) >= 24
    assert [min(box["width"], box["height"]) >= 40 for box in boxes[:2]] == [True, True]
    assert boxes[-1]["right"] > 390 - 20  # what closes stands apart, at the edge


def test_where_nothing_is_found_yet_the_page_says_what_to_do(page_in):
    page = page_in("en-GB")
    page.goto("/matches")
    assert page.inner_text("#heading") == "Nothing found yet"
    assert page.inner_text(".empty p") == "Mark at least one item right, then press Find all."
    page.click(".empty .button")
    page.wait_for_selector("#heading:has-text('Random items')")


def test_what_has_no_room_on_a_phone_is_behind_a_button(page_in):
    page = page_in("en-GB", viewport={"width": 320, "height": 700})
    page.goto("/search?q=teapot")
    assert page.locator("#to-sessions").is_hidden()
    page.click("[aria-controls=places]")
    assert page.get_attribute("[aria-controls=places]", "aria-expanded") == "true"
    assert page.inner_text("#to-sessions").split()[0] == "Sessions"
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.click("#filter summary")
    page.wait_for_selector("#columns .chip")
    page.fill("#where", page.get_attribute("#where", "placeholder"))
    page.wait_for_selector("#where-told:has-text('100 of 700')")


def test_the_button_that_the_text_names_is_the_primary_one(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector("#next.primary")
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("t")
    page.wait_for_selector("#progress[data-left='20']")
    assert "press Find 95% again" in page.inner_text(".head .note")
    page.evaluate(f"document.querySelector('#wrong-{shown(page)[0]}').click()")
    page.wait_for_selector("#next.primary")
    assert page.locator("header .primary, main .primary").count() == 1
    stored(page)  # a stored mark hides the message of the deed before it
    page.keyboard.press("p")  # of the matches
    page.wait_for_selector("#toast:has-text('This key works on the matches')")
    page.keyboard.press("b")  # whichever way leads there, the message is done with
    page.wait_for_selector("#tab-all[aria-current]")
    page.wait_for_selector("#toast", state="hidden")
    assert page.locator("#cut").is_hidden()
    page.goto("/sessions")
    page.click("#sessions .current [hx-post$='/open']")
    page.wait_for_url("**/matches?*")


def test_the_keys_fit_the_window_in_german(page_in):
    page = page_in("de-DE", viewport={"width": 1280, "height": 800})
    page.goto("/search?q=teapot")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    height, room = page.locator("#keys").evaluate("keys => [keys.scrollHeight, keys.clientHeight]")
    assert height <= room
