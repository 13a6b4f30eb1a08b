"""The page in German, and its themes, in a real Chromium."""

import re

import pytest
from browsing import find_teapots, needs_chromium, stored, violations, watched
from test_texts import ENGLISH, english_in

pytestmark = [pytest.mark.browser, needs_chromium]

# What the catalog says, what is written on keys, and the sentences that the page marks as English.
NOT_OF_THE_PAGE = (
    ".caption, .blank, .pick, .chip, #details, code, kbd, datalist, [lang=en], script, style, #large-title, #q"
)
STRINGS = """without => {
    const attributes = ["title", "aria-label", "placeholder", "alt", "data-drop"];
    const found = [];
    const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const text = node.nodeType === Node.TEXT_NODE;
        if ((text ? node.parentElement : node).closest(without)) continue;
        if (text) found.push(node.data.trim());
        else found.push(...attributes.map((name) => node.getAttribute(name) ?? ""));
    }
    return [...new Set(found)].filter(Boolean);
}"""


def english(page):
    """Return what the page says in English words that are no German ones."""
    strings = page.evaluate(STRINGS, NOT_OF_THE_PAGE)
    assert len(strings) > 5
    said = {text: re.sub(r"\S*/\S*|\bid < \d+", "", text) for text in strings}  # without stages, formats, conditions
    return [text for text, rest in said.items() if english_in(rest)]


@pytest.fixture
def german(chromium, server):
    with chromium.new_context(base_url=server.address, locale="de-DE") as context:
        yield watched(context)


def test_english_words_would_be_seen():
    assert {"the", "items", "marked", "search", "wrong", "nothing"} <= ENGLISH


def test_no_english_is_left_on_the_page_in_german(german, labels):
    page = german
    page.goto("/")
    assert page.get_attribute("html", "lang") == "de"
    assert english(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector("#columns .chip")
    assert english(page) == []
    page.goto("/matches")
    assert english(page) == []
    find_teapots(page, labels)
    assert english(page) == []
    page.keyboard.press("x")
    stored(page)
    page.wait_for_selector("#since:has-text('seit „Alle finden“')")
    assert english(page) == []
    page.keyboard.press("w")
    page.wait_for_selector("#why[open] .reason")
    assert english(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    page.wait_for_selector("#large[open]")
    assert english(page) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("#large:not([open])", state="attached")
    page.keyboard.press("k")
    page.wait_for_selector("#progress")
    page.keyboard.press("a")
    page.wait_for_selector("#progress:has-text('1 von')")
    assert english(page) == []
    page.keyboard.press("b")
    page.wait_for_url("**/matches?*")
    page.wait_for_selector("#completeness:has-text('Geprüft')")
    assert english(page) == []
    page.keyboard.press("s")
    page.wait_for_selector("#progress")
    assert english(page) == []


def test_no_english_is_left_in_errors_a_new_search_and_sessions_in_german(german):
    page = german
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#toast:not([hidden])")
    assert english(page) == []
    page.keyboard.press("a")
    page.fill("#q", "violin")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask-new[open]")
    assert english(page) == []
    page.keyboard.press("Escape")
    page.fill("#q", "violinss")
    page.keyboard.press("Enter")
    page.click("#ask-new button[value=keep]")
    page.wait_for_selector(".note:has-text('gezeigt wird violin statt violinss')")
    assert english(page) == []
    page.fill("#q", "violin + xqzw")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-told .alert")
    assert english(page) == []
    page.goto("/sessions")
    assert english(page) == []
    page.goto("/nowhere")
    assert english(page) == []
    assert [text for text in page.complaints if "404" not in text and "422" not in text] == []


def test_no_english_is_left_where_errors_are_shown_in_german(german, tmp_path):
    page = german
    page.goto("/search?q=teapot")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector("#columns .chip")
    for wrong in ("label =", "labl = 3", "label = 'x'", "caption LIKE 3"):
        page.fill("#where", wrong)
        with page.expect_response(lambda answer: "/filter/count" in answer.url):
            page.keyboard.press("Enter")
        page.wait_for_selector("#where-told .wrong")
        assert english(page) == []
        page.fill("#where", "")
        page.wait_for_selector("#where-told:not(:has(.wrong)) span")
    for wrong in ("- dog", "dog +", "#99999999", "x" * 1001):
        page.fill("#q", wrong)
        page.wait_for_selector("#search-told:empty", state="attached")
        page.keyboard.press("Enter")
        page.wait_for_selector("#search-told .alert")
        assert english(page) == []
    page.evaluate("htmx.ajax('POST', '/refine', {target: '#results'})")
    page.wait_for_selector("#alert :text('mindestens ein')")
    assert english(page) == []
    page.evaluate("htmx.ajax('GET', '/random?seed=x', {target: '#results'})")  # told in English, and marked as that
    page.wait_for_selector("#alert p:has-text('Der Server kann das nicht ausführen.') [lang=en]")
    assert english(page) == []
    page.route("**/mark", lambda route: route.fulfill(status=500, json={}))
    page.keyboard.press("Escape")
    page.click(".mark.right >> nth=0", force=True)
    page.wait_for_selector("#alert :text('zurückgenommen')")
    assert english(page) == []
    page.goto("/sessions")
    (tmp_path / "session.json").write_text("no session")
    page.set_input_files("#file", tmp_path / "session.json")
    page.click("#open-file .button")
    page.wait_for_selector("#alert :text('enthält keine Sitzung')")
    assert english(page) == []
    page.goto("/search?q=%2B")
    assert page.locator("main.lone .search").is_visible()
    assert english(page) == []


def test_a_language_chosen_on_the_page_holds_over_a_reload(german):
    page = german
    page.goto("/search?q=teapot")
    page.click("#appearance > summary")
    with page.expect_event("load"):
        page.check("#appearance [value=en]")
    assert page.get_attribute("html", "lang") == "en"
    page.wait_for_selector("#heading:has-text('Nearest to “teapot”')")
    page.goto("/sessions")
    assert page.inner_text("h1") == "Sessions"
    page.click("#appearance > summary")
    with page.expect_event("load"):
        page.check("#appearance [name=language][value='']")
    assert page.inner_text("h1") == "Sitzungen"


GROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(244, 245, 247)", "rgb(15, 17, 21)"


@pytest.mark.parametrize(("system", "theme", "ground"), [("light", "dark", DARK), ("dark", "light", LIGHT)])
def test_a_theme_chosen_on_the_page_holds_over_a_reload_from_the_first_paint_on(german, system, theme, ground):
    page = german
    page.emulate_media(color_scheme=system)
    page.goto("/search?q=teapot")
    before = page.evaluate(GROUND)
    assert before != ground
    page.click("#appearance > summary")
    page.check(f"#appearance [value={theme}]")
    assert page.evaluate(GROUND) == ground
    assert violations(page, f"theme-{theme}-of-{system}") == []
    # The page as the server sends it has the theme, without any script.
    with page.expect_response(lambda answer: answer.request.is_navigation_request()) as answered:
        page.reload()
    assert f'data-theme="{theme}"' in answered.value.text().split("<head>")[0]
    assert page.evaluate(GROUND) == ground
    assert page.is_checked(f"#appearance [value={theme}]")
    page.goto("/sessions")
    assert page.evaluate(GROUND) == ground
    page.click("#appearance > summary")
    page.check("#appearance [name=theme][value='']")
    assert page.evaluate(GROUND) == before
    page.reload()
    assert page.evaluate(GROUND) == before
