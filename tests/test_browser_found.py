"""What find all tells, in a real Chromium: the parts of an answer, what changed, and how it is found again."""

import re
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import (
    back,
    find_teapots,
    marks_of,
    needs_chromium,
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


def counts(page):
    """Return the counts of the tabs by their titles."""
    told = re.findall(r"([A-Z][a-z ]+) ([\d,]+)", " ".join(" ".join(page.locator(".tab").all_inner_texts()).split()))
    return {title: int(count.replace(",", "")) for title, count in told}


def open_tab(page, name, *, by):
    """Go to a tab by keys alone and open it."""
    page.focus(".tab[aria-current]")
    while page.evaluate("document.activeElement.id") != f"tab-{name}":
        page.keyboard.press(by)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#tab-{name}[aria-current]")


def test_two_rounds_by_tabs_and_a_restart_amid_them(page, server, folder):
    labels = np.load(folder / "labels.npy")
    page.goto("/")
    search(page, "teapot")
    for item in shown(page)[:10]:
        page.keyboard.press("a" if labels[item] == TEAPOT else "x")
    stored(page)
    page.click("summary[aria-label='Options of find all']")
    page.click(".advanced summary")
    page.fill("input[name=negative_weight]", "3")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.ariaLabel") == "Options of find all"
    page.keyboard.press("f")
    page.wait_for_url("**/matches?*")
    page.wait_for_selector(".pick:focus")
    first = counts(page)
    assert list(first) == ["All", "Sure", "Likely", "Borderline", "Just below", "Marked right"]
    assert page.inner_text("#heading") == f"{first['All']} match"

    open_tab(page, "below", by="Tab")
    assert "/matches?tier=below&" in page.url
    assert page.evaluate("document.activeElement.id") == "tab-below"
    assert page.inner_text("#said") == f"{first['Just below']} just below."
    assert page.get_attribute("#grid", "data-total") == str(first["Just below"])
    before = page.inner_text("#positive"), page.inner_text("#negative")
    for item in shown(page)[:6]:
        page.click(f"#right-{item}")
    wait_for_counts(page, int(before[0]) + 6, before[1])
    stored(page)

    open_tab(page, "sure", by="Shift+Tab")
    page.click(f"#wrong-{shown(page)[-1]}")
    sure = first["Sure"] + 6 - 1  # what was just marked right has joined
    page.click("#show-cut")
    page.click("#estimate")
    page.wait_for_selector(f"#heading:has-text('{sure} sure')")
    assert (page.evaluate("document.activeElement.id"), len(shown(page))) == ("estimate", sure)
    page.keyboard.press("Control+z")
    wait_for_counts(page, int(before[0]) + 6, before[1])
    stored(page)

    page.keyboard.press("f")
    page.wait_for_selector("#heading:has-text('new')")
    page.wait_for_url("**/matches?*")
    second = counts(page)
    assert page.inner_text("#heading") == f"{second['All']} match ({second['New']} new, {second['Gone']} gone)"
    assert second["New"] >= 6
    page.click("#tab-new")
    page.wait_for_selector("#tab-new[aria-current]")
    assert len(shown(page)) == min(second["New"], 60)  # a screen; more come while scrolling
    back(page)
    page.wait_for_selector("#tab-all[aria-current]")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

    page.goto("about:blank")
    server.kill()
    server.start()
    page.goto("/matches?tier=new")
    page.wait_for_selector("#heading:has-text('forgotten')")
    page.click("#again")
    page.wait_for_url("**/matches?*")
    page.wait_for_selector("#tab-all[aria-current]")
    assert counts(page)["All"] == second["All"]
    assert page.input_value("input[name=negative_weight]") == "3"
    assert [text for text in page.complaints if "404" not in text] == []  # item 6 is no picture


def test_a_check_counts_its_progress_estimates_as_it_goes_and_leads_back(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("k")
    page.wait_for_selector("#progress:text-is('0 of 20 checked')")
    page.wait_for_selector(".pick:focus")
    guess = page.inner_text("#completeness .note")
    assert guess.startswith("At a guess")
    assert violations(page, "checking") == []
    items = shown(page)
    for number, item in enumerate(items[:12], 1):
        page.keyboard.press("a" if labels[item] == TEAPOT else "x")
        page.wait_for_selector(f"#progress:text-is('{number} of 20 checked')")
    page.wait_for_selector("#completeness .note:has-text('By what was checked')")
    page.keyboard.press("b")
    page.wait_for_selector("#tab-all[aria-current]")
    total = re.match(r"[\d,]+", page.inner_text("#heading"))[0]
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("k")
    page.wait_for_selector("#progress:text-is('0 of 20 checked')")
    assert page.inner_text("#to-matches") == f"Back to the {total} matches"
    page.wait_for_selector(".pick:focus")
    for item in shown(page):
        page.keyboard.press("a" if labels[item] == TEAPOT else "x")
    with page.expect_response(lambda response: urlsplit(response.url).path == "/completeness"):
        page.wait_for_selector("#progress:text-is('All 20 are checked')")
    page.wait_for_selector("#to-matches.primary")
    page.click("#to-matches")
    page.wait_for_selector("#heading:has-text('match')")


@pytest.fixture
def phone(chromium, server):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, base_url=server.address
    )
    yield watched(context)
    context.close()


def test_on_a_phone_taps_mark_and_lead_nowhere_and_a_long_press_opens_large(phone):
    phone.goto("/search?q=teapot")
    address = phone.url
    item = shown(phone)[1]
    for x, y in ((0.9, 0.5), (0.75, 0.6), (0.5, 0.6)):
        before = marks_of(phone, [item])[0]
        box = phone.locator(f"#tile-{item}").bounding_box()
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        phone.touchscreen.tap(*at)
        phone.wait_for_function(
            "([i, m]) => (document.querySelector(`#tile-${i}`)?.dataset.mark ?? m) != m", arg=[item, before]
        )
    assert phone.url.split("&session")[0] == address.split("&session")[0]
    assert phone.locator(f"#tile-{item} .like").bounding_box() is None
    touch = phone.context.new_cdp_session(phone)
    box = phone.locator(f"#tile-{item}").bounding_box()
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * 0.7}
    marked = marks_of(phone, [item])
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    phone.wait_for_selector("#large[open]")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert phone.inner_text("#large-title").startswith("2 of")
    assert marks_of(phone, [item]) == marked
    for start, end, title in ((300, 60, "3 of"), (60, 300, "2 of")):
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start, "y": 300}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": end, "y": 300}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        phone.wait_for_selector(f"#large-title:has-text('{title}')")
    assert violations(phone, "phone-large") == []


def test_the_focus_stays_in_the_grid_after_an_export_and_after_back(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector(".pick:focus")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    items = shown(page)
    wait_for_focus(page, items[4])
    page.keyboard.press("e")
    with page.expect_download():
        page.keyboard.press("Enter")
    wait_for_focus(page, items[4])
    page.keyboard.press("ArrowRight")
    wait_for_focus(page, items[5])
    page.keyboard.press("o")
    page.wait_for_selector("#large[open]")
    address = page.url
    page.go_back()
    page.wait_for_selector("#large:not([open])", state="attached")
    wait_for_focus(page, items[5])
    assert page.url == address
    page.keyboard.press("o")
    page.wait_for_selector("#large[open]")
    page.keyboard.press("Escape")
    wait_for_focus(page, items[5])
    page.keyboard.press("s")
    page.wait_for_selector("#progress")
    back(page)
    wait_for_focus(page, items[5])
    page.keyboard.press("ArrowRight")
    wait_for_focus(page, items[6])
