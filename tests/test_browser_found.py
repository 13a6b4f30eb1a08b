"""What find all tells, in a real Chromium: the parts of an answer, what changed, and how it is found again."""

import re
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import back, find_teapots, needs_chromium, search, shown, stored, violations, wait_for_counts
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
    page.fill("input[name=negative_weight]", "3")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.ariaLabel") == "Options of find all"
    page.keyboard.press("f")
    page.wait_for_url("**/matches?*")
    page.wait_for_selector(".pick:focus")
    first = counts(page)
    assert list(first) == ["All", "Sure", "Likely", "Borderline", "Just below"]
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
    page.click("#estimate")
    page.wait_for_selector(f"#heading:has-text('{first['Sure'] - 1} sure')")
    assert (page.evaluate("document.activeElement.id"), len(shown(page))) == ("estimate", first["Sure"] - 1)
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
