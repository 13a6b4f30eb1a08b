"""What the page says and does that makes people trust or distrust it, in a real Chromium."""

import re

import pytest
from browsing import exported, find_teapots, needs_chromium, shown, stored, wait_for_counts

pytestmark = [pytest.mark.browser, needs_chromium]


def test_random_items_are_others_at_each_visit(page):
    page.goto("/")
    first = shown(page)
    assert first != sorted(first)
    page.goto("/")
    second = shown(page)
    assert second != first
    page.click(".head .button:has-text('Other random items')")
    page.wait_for_url("**/random?*")
    assert shown(page) not in (first, second)


def test_a_wrong_address_still_shows_the_search_field(page):
    page.goto("/nowhere")
    assert page.inner_text(".alert p") == "There is nothing at this address."
    page.fill("#q", "teapot")
    page.keyboard.press("Enter")
    page.wait_for_selector("#heading:has-text('“teapot”')")


def test_two_sessions_that_begin_alike_have_different_titles(page):
    titles = []
    for _ in range(2):
        page.goto("/")
        page.click("#new-search")
        page.wait_for_function("() => document.querySelector('#grid').dataset.asked === ''")
        page.goto("/search?q=teapot")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("a")
        stored(page)
        titles.append(page.inner_text("#session-name"))
    number = [int(re.fullmatch(r"teapot(?: \((\d+)\))?", title)[1] or 1) for title in titles]
    assert number[1] == number[0] + 1
    page.goto("/sessions")
    for _ in range(2):
        page.get_by_label(f"Duplicate {titles[1]}", exact=True).click()
        page.wait_for_url(re.compile(r"/search\?"))
        page.goto("/sessions")
    shown_titles = page.eval_on_selector_all(".name input", "inputs => inputs.map(input => input.value)")
    assert {*titles, f"Copy of {titles[1]}", f"Copy of {titles[1]} (2)"} <= {*shown_titles}
    assert len({*shown_titles}) == len(shown_titles)


def test_only_what_was_marked_right_is_listed_and_exported(page, labels, tmp_path):
    find_teapots(page, labels)
    page.wait_for_selector("#tab-all[aria-current]")
    right = int(page.inner_text("#positive"))
    assert int(page.inner_text("#tab-right b")) == right
    page.keyboard.press("e")
    assert "open their tab first" in page.inner_text(".export .sheet")
    page.keyboard.press("Escape")
    page.click("#tab-right")
    page.wait_for_selector("#tab-right[aria-current]")
    assert page.inner_text("#heading") == f"{right} marked right"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.wait_for_function(f"() => document.querySelector('#tab-right b').textContent === '{right - 1}'")
    rows = exported(page, tmp_path, f"teapot-right-{right - 1}.csv")
    assert [row["mark"] for row in rows] == ["1"] * (right - 1)


def test_a_mark_that_is_stored_late_leaves_what_was_told_since(page):
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    held = []

    def hold(route):
        held.append(route)

    page.route("**/mark", hold)
    page.keyboard.press("a")
    wait_for_counts(page, 1, 0)
    page.keyboard.press("e")  # opens nothing before an answer
    page.keyboard.press("p")
    page.wait_for_selector("#toast:has-text('This key works after Find all')")
    while not held:
        page.wait_for_timeout(20)
    with page.expect_response("**/mark"):
        held[0].continue_()
    stored(page)
    assert page.locator("#toast:has-text('This key works after Find all')").is_visible()
    page.unroute("**/mark")
    page.keyboard.press("Shift+X")
    page.wait_for_selector("#toast:has-text('marked wrong')")
    page.keyboard.press("a")  # the way back of the deed before would take back this mark
    page.wait_for_selector("#toast", state="hidden")
