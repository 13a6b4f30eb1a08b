"""The map of an answer, in a real Chromium."""

import pytest
from browsing import find_teapots, needs_chromium, violations

pytestmark = [pytest.mark.browser, needs_chromium]


def open_map(page, labels):
    find_teapots(page, labels)
    page.wait_for_selector(".pick:focus")
    page.keyboard.press("p")
    page.wait_for_selector("#map-drawn:not(:empty)")


def test_the_map_opens(page, labels):
    open_map(page, labels)
    page.wait_for_timeout(1500)
    print(page.inner_text("#map-drawn"), page.url)
    assert violations(page, "map") == []
    assert page.complaints == []
