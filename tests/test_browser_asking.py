"""What can be asked for on the page, in a real Chromium: combined queries, a filter, pictures that are sent."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import (
    SERVER,
    Server,
    back,
    needs_chromium,
    search,
    shown,
    stored,
    to_the_end,
    violations,
    wait_for_counts,
)
from clusters import NAMES
from pictures import COLOURS
from serving import picture

TEAPOT, VIOLIN = NAMES.index("teapot"), NAMES.index("violin")
SEEING = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + SERVER.replace(
    "app = create_app",
    "from serving import seeing; app = create_app",
).replace("open_embedder(sys.argv[2])", "seeing(sys.argv[2])")

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder / "catalog", folder, "oracle", script=SEEING) as running:
        yield running


def asked(page):
    """Return the query and the filter of the address."""
    query = parse_qs(urlsplit(page.url).query)
    return query.get("q", [""])[0], query.get("where", [""])[0]


def wait_for_heading(page, text):
    page.wait_for_function("text => document.querySelector('#heading')?.textContent.includes(text)", arg=text)
    page.wait_for_selector(".pick:focus")


def paste(page, data):
    page.evaluate(
        """bytes => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], "seen.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: held, bubbles: true, cancelable: true}));
        }""",
        list(data),
    )


def test_items_are_added_to_the_search_and_subtracted_by_keys(page, labels):
    page.goto("/")
    search(page, "teapot")
    first = shown(page)[0]
    page.keyboard.press("Shift+M")
    wait_for_heading(page, f"teapot + #{first}")
    assert page.input_value("#q") == asked(page)[0] == f"teapot + #{first}"
    page.keyboard.press("ArrowRight")
    second = shown(page)[1]
    page.keyboard.press("l")
    wait_for_heading(page, f"teapot + #{first} - #{second}")
    page.click(f"#tile-{first} .open", force=True)
    page.click("#large [data-do=subtract]")
    wait_for_heading(page, f"teapot - #{second} - #{first}")
    assert (labels[shown(page)[:20]] == TEAPOT).mean() > 0.5
    page.goto("/like?id=20")
    assert page.input_value("#q") == "#20"
    page.reload()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("l")
    page.wait_for_selector("#search-told .alert:has-text('subtracted')")
    assert [text for text in page.complaints if "404" not in text and "422" not in text] == []


def test_a_filter_counts_as_it_is_typed_holds_everywhere_and_goes(page, labels):
    page.goto("/search?q=teapot")
    page.keyboard.press("g")
    page.wait_for_selector("#columns .chip")
    page.keyboard.type("label = 'x'")
    page.wait_for_selector("#where-told .wrong:has-text('holds numbers')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#filter[open] #where:focus")
    page.keyboard.press("Escape")
    search(page, "kangaroo")
    assert asked(page) == ("kangaroo", "")
    assert (
        page.title()
        == "Nearest to \N{LEFT DOUBLE QUOTATION MARK}kangaroo\N{RIGHT DOUBLE QUOTATION MARK} \N{MIDDLE DOT} gpubranches"
    )
    search(page, "teapot")
    page.keyboard.press("g")
    page.keyboard.press("Control+a")
    page.keyboard.type(f"label = {VIOLIN}")
    many = int((labels == VIOLIN).sum())
    page.wait_for_selector(f"#where-told:has-text('{many} of 700 items')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".filtered")
    page.wait_for_selector(".pick:focus")
    assert asked(page) == ("teapot", f"label = {VIOLIN}")
    assert page.inner_text(".filtered code") == f"label = {VIOLIN}"
    assert (labels[shown(page)] == VIOLIN).all()
    page.keyboard.press("m")
    wait_for_heading(page, "Like item")
    assert asked(page)[1] == f"label = {VIOLIN}"
    assert (labels[shown(page)] == VIOLIN).all()
    for key in ("a", "a", "a", "x"):
        page.keyboard.press(key)
    wait_for_counts(page, 3, 1)
    stored(page)
    page.keyboard.press("f")
    page.wait_for_url("**/matches?*")
    wait_for_heading(page, "match")
    assert (labels[shown(page)] == VIOLIN).all()
    page.goto("/")
    assert page.inner_text(".filtered code") == f"label = {VIOLIN}"
    page.click(".filtered [data-do=unfilter]")
    page.wait_for_function("() => !document.querySelector('.filtered')")
    assert len(set(labels[shown(page)])) > 1
    assert asked(page)[1] == page.input_value("#where") == ""


def test_values_are_put_on_and_taken_off_the_filter_by_buttons(page, labels):
    def pressed():
        return page.eval_on_selector_all(".chip[aria-pressed=true]", "chips => chips.map(chip => chip.value)")

    page.goto("/random?seed=3")
    page.click("#filter summary")
    page.fill("#where", "id >= 0")
    for value in (TEAPOT, VIOLIN):
        page.click(f"#columns [value='label = {value}']")
    page.wait_for_selector(f"#where-told:has-text('{np.isin(labels, [TEAPOT, VIOLIN]).sum()} of 700')")
    assert page.input_value("#where") == f"id >= 0 AND label IN ({TEAPOT}, {VIOLIN})"
    assert pressed() == [f"label = {value}" for value in sorted((TEAPOT, VIOLIN))]
    page.click("#columns [value=\"caption = 'teapot'\"]")
    page.wait_for_selector(f"#where-told:has-text('{(labels == TEAPOT).sum()} of 700')")
    page.click(f"#columns [value='label = {VIOLIN}']")
    page.wait_for_function(
        "text => document.querySelector('#where')?.value === text",
        arg=(f"id >= 0 AND label = {TEAPOT} AND caption = 'teapot'"),
    )
    page.fill("#where", f"label in ({TEAPOT})")
    page.wait_for_function("() => document.querySelectorAll('.chip[aria-pressed=true]').length === 1")
    assert pressed() == [f"label = {TEAPOT}"]
    page.fill("#where", f"label = {TEAPOT} and")
    page.wait_for_selector("#where-told .wrong")
    page.click(f"#columns [value='label = {VIOLIN}']")
    assert page.input_value("#where") == f"label = {TEAPOT} and"  # what cannot be read is left to be mended
    page.fill("#where", f"label = {TEAPOT}")
    page.wait_for_selector(f"#where-told:has-text('{(labels == TEAPOT).sum()} of 700')")
    page.click("#filter-form .deeds .button:not([type])")
    page.wait_for_selector(".filtered")
    assert (labels[shown(page)] == TEAPOT).all()
    back(page)
    page.wait_for_function("() => !document.querySelector('.filtered')")
    assert page.input_value("#where") == ""


def test_a_picture_is_pasted_dropped_or_chosen_and_lasts(page, server, labels):
    page.goto("/")
    paste(page, picture(COLOURS[TEAPOT]))
    wait_for_heading(page, "Nearest to your picture")
    assert (labels[shown(page)[:20]] == TEAPOT).mean() > 0.8
    page.wait_for_function("() => document.querySelector('.asked')?.naturalWidth > 0")
    before, query = shown(page), page.input_value("#q")
    assert re.fullmatch("picture:[a-z0-9]{10}", query)
    server.kill()
    server.start()
    page.reload()
    assert shown(page) == before
    page.wait_for_function("() => document.querySelector('.asked')?.naturalWidth > 0")
    page.fill("#q", "violin +")
    with page.expect_file_chooser() as chooser:
        page.click("#by-picture")
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": picture(COLOURS[TEAPOT])})
    wait_for_heading(page, "violin + picture:")
    assert {TEAPOT, VIOLIN} <= set(labels[shown(page)[:40]])
    page.evaluate("""() => {
        const held = new DataTransfer();
        held.items.add(new File(["none"], "x.txt", {type: "text/plain"}));
        for (const kind of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: held, bubbles: true, cancelable: true}));
        }
    }""")
    page.wait_for_selector("#alert .alert:has-text('no picture')")


def test_where_the_model_reads_no_pictures_a_paste_says_so(chromium, folder):
    running = Server(folder / "catalog", f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json", "oracle")
    running.start()
    try:
        page = chromium.new_page(base_url=running.address)
        page.goto("/")
        assert page.locator("#by-picture").count() == 0
        paste(page, picture("red"))
        page.wait_for_selector("#alert .alert:has-text('does not read pictures')")
        page.close()
    finally:
        running.kill()


def test_a_list_goes_on_to_its_end(page):
    to_the_end(page, "teapot", 700)
    ids = shown(page)
    assert len(set(ids)) == len(ids) >= 40


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_axe_finds_nothing_to_complain_of(page, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/")
    paste(page, picture(COLOURS[TEAPOT]))
    wait_for_heading(page, "your picture")
    page.keyboard.press("g")
    page.wait_for_selector("#columns .chip")
    page.keyboard.type("label = 'x'")
    page.wait_for_selector("#where-told .wrong")
    assert violations(page, f"asking-{scheme}-{width}-filter") == []
    page.fill(
        "#where", "label = 5 AND caption LIKE 'tea%' AND image_path LIKE 'pictures/%' AND NOT id BETWEEN 9 AND 12"
    )
    page.keyboard.press("Enter")
    page.wait_for_selector(".filtered")
    assert violations(page, f"asking-{scheme}-{width}-filtered") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def session_of(page):
    page.wait_for_url(re.compile("session="))
    return parse_qs(urlsplit(page.url).query)["session"][0]


def test_a_picture_can_begin_a_new_session(page):
    page.goto("/search?q=violin")
    first = session_of(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    wait_for_counts(page, 1, 0)
    paste(page, picture(COLOURS[TEAPOT]))
    page.wait_for_selector("#ask-new[open]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#heading:has-text('Nearest to your picture')")
    wait_for_counts(page, 0, 0)
    assert session_of(page) != first
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    wait_for_counts(page, 1, 0)
    page.fill("#q", "violin")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask-new[open]")
    assert "Your picture" in page.inner_text("#ask-new p")
    assert "picture:" not in page.inner_text("#ask-new p")


def test_a_new_idea_does_not_inherit_the_marks_of_the_last_one(page):
    page.goto("/search?q=teapot")
    first = session_of(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    page.keyboard.press("x")
    wait_for_counts(page, 1, 1)
    page.fill("#q", "violin")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask-new[open]")
    assert "2 marks are for" in page.inner_text("#ask-new p")
    assert violations(page, "new-search") == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("Enter")
    # A slow browser reports that the dialog was closed only now, after it was opened again.
    page.evaluate("document.getElementById('ask-new').dispatchEvent(new Event('close'))")
    page.click("#ask-new button[value=keep]")
    page.wait_for_selector("#heading:has-text('“violin”')")
    wait_for_counts(page, 1, 1)
    assert session_of(page) == first

    other = page.context.new_page()
    other.goto(page.url)
    other.fill("#q", "kangaroo")
    other.keyboard.press("Enter")
    other.wait_for_selector("#ask-new[open]")
    other.keyboard.press("Enter")
    other.wait_for_selector("#heading:has-text('“kangaroo”')")
    wait_for_counts(other, 0, 0)
    second = session_of(other)
    assert second != first
    assert re.fullmatch(r"kangaroo( \(\d+\))?", other.inner_text("#session-name"))
    page.reload()
    assert session_of(page) == first
    wait_for_counts(page, 1, 1)

    page.fill("#q", "violin + #3")  # continues the last query
    page.keyboard.press("Enter")
    page.wait_for_selector("#heading:has-text('violin + #3')")
    page.click("#new-search")
    page.wait_for_selector("#heading:has-text('Random items')")
    wait_for_counts(page, 0, 0)
    assert session_of(page) not in (first, second)
    other.close()


def test_what_is_wrong_with_a_query_is_told_under_its_field(page, tmp_path):
    page.goto("/")
    before = page.evaluate("document.querySelector('#grid').getBoundingClientRect().top")
    page.fill("#q", "a violin for teapots")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-told .chip")
    told, field = page.locator("#search-told .alert").bounding_box(), page.locator("#q").bounding_box()
    assert 0 < told["y"] - (field["y"] + field["height"]) < 20
    assert page.evaluate("document.querySelector('#grid').getBoundingClientRect().top") == before
    assert violations(page, "wrong-query") == []
    name = page.inner_text("#search-told .chip >> nth=0")
    page.click("#search-told .chip >> nth=0")
    page.wait_for_selector(f"#heading:has-text('“{name}”')")
    assert page.inner_text("#search-told") == ""
    page.fill("#q", "zzzz qqqq")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-told .alert")
    page.keyboard.type("z")
    assert page.inner_text("#search-told") == ""
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#picture-file", tmp_path / "notes.txt")
    page.wait_for_selector("#search-told:has-text('notes.txt is no picture')")
