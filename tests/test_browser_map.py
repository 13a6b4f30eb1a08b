"""The map of an answer, in a real Chromium: it is moved, read and selected on by mouse, by keys and by touch."""

import json
import re
import zipfile
from urllib.request import Request, urlopen

import numpy as np
import pytest
from browsing import (
    TEAPOT,
    marks_of,
    needs_chromium,
    shown,
    stored,
    violations,
    wait_for_counts,
    watched,
)

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture
def found(server, labels):
    """The name of a session that has found all teapots."""

    def call(path, body):
        request = Request(
            f"{server.address}/api/v1{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request) as answered:
            return json.load(answered)

    name = call("/sessions", {"name": "teapots"})["session"]
    near = [item["id"] for item in call("/search", {"text": "teapot", "k": 30})["items"]]
    for label in (1, -1):
        ids = [item for item in near if (labels[item] == TEAPOT) == (label > 0)][:8]
        if ids:
            call(f"/sessions/{name}/marks", {"ids": ids, "label": label})
    call(f"/sessions/{name}/refine", {})
    return name


def open_map(page, session):
    """Open the map of a session; return its points by item: place in the window, in px, and kind."""
    page.goto(f"/map?session={session}")
    page.wait_for_selector("#map-drawn:not(:empty)")
    settle(page)
    return places(page)


def clearance(points, item):
    """Return how far the nearest other point of the map is, in px."""
    x, y = points[item][:2]
    return min(np.hypot(other[0] - x, other[1] - y) for key, other in points.items() if key != item)


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def places(page):
    """Return item -> (x, y, kind), of the window, as the map shows it now."""
    found = page.evaluate(
        """async () => {
            const { screenPlaces } = await import("/static/map.js");
            const box = document.getElementById("map-canvas").getBoundingClientRect();
            return screenPlaces().map(({ item, x, y, kind }) => [item, x + box.left, y + box.top, kind]);
        }"""
    )
    return {int(item): (x, y, kind) for item, x, y, kind in found}


def drag(page, points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for at in points[1:]:
        page.mouse.move(*at, steps=6)
    page.mouse.up()


def around(points, gap=14):
    """Return a path around some places of the screen."""
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    left, right, top, bottom = min(xs) - gap, max(xs) + gap, min(ys) - gap, max(ys) + gap
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top + 2)]


def chosen(page):
    page.wait_for_selector("#map-chosen:not([hidden])")
    return int(re.search(r"\d+", page.inner_text("#map-count"))[0])


def matches_of(points):
    return [item for item, (_, _, kind) in points.items() if kind >= 2]


def test_a_lasso_selects_and_one_step_marks_and_undo_takes_it_back(page, found):
    points = open_map(page, found)
    assert page.inner_text("#heading") == "Map of the answer"
    assert page.inner_text(".legend li:not([hidden])").startswith("sure")
    assert violations(page, "map") == []
    right, marked = int(page.inner_text("#positive")), known(page, found)
    page.click("button[data-tool=lasso]")
    drag(page, around([points[item] for item in matches_of(points)]))
    count = chosen(page)
    inside = page.evaluate("async () => (await import('/static/map.js')).selectedItems()")
    assert len(inside) == count >= len(matches_of(points))
    assert violations(page, "map-selected") == []
    page.click("#map-chosen button[data-map-mark='1']")
    page.wait_for_selector(f"#toast-said:has-text('{count} items marked right')")
    stored(page)
    wait_for_counts(page, right + len(set(inside) - set(marked)), page.inner_text("#negative"))
    page.click("#toast-do")
    wait_for_counts(page, right, page.inner_text("#negative"))
    page.keyboard.press("Escape")
    assert [text for text in page.complaints if "404" not in text] == []


def known(page, session):
    """Return the items that are marked right."""
    told = page.request.get("/marks?since=0", headers={"X-Session": session}).json()["marks"]
    return [int(item) for item, label in told.items() if label == 1]


def test_what_is_selected_is_shown_as_a_list_that_back_and_a_reload_keep(page, found):
    points = open_map(page, found)
    group = [points[item] for item in matches_of(points)]
    page.click("button[data-tool=rectangle]")
    corners = around(group)
    drag(page, [corners[0], corners[2]])
    count = chosen(page)
    inside = page.evaluate("async () => (await import('/static/map.js')).selectedItems()")
    page.click("#map-list")
    page.wait_for_selector("#map-listed")
    assert page.inner_text("#map-listed") == f"{count} items of the selection"
    page.wait_for_selector(".pick:focus")
    assert shown(page) == inside[: len(shown(page))]
    assert page.get_attribute("#grid", "data-total") == str(count)
    assert violations(page, "map-list") == []
    item = shown(page)[0]
    before = marks_of(page, [item])[0]
    page.keyboard.press("x" if before == 1 else "a")
    page.wait_for_function(
        "([i, m]) => document.querySelector(`#tile-${i}`)?.dataset.mark == m", arg=[item, -before or 1]
    )
    stored(page)
    page.reload()
    assert chosen(page) == count
    assert page.evaluate("async () => (await import('/static/map.js')).selectedItems()") == inside


def test_the_map_moves_and_zooms_by_mouse_and_by_keys_and_tells_what_is_under_the_pointer(page, found):
    points = open_map(page, found)
    item = matches_of(points)[0]
    x, y, _ = points[item]
    page.click("[data-map-do=pictures]")  # so that a point is hit and no picture over it
    page.mouse.move(x, y)
    page.wait_for_selector(f"#map-card[data-item='{item}']:not([hidden])")
    page.wait_for_function("() => document.querySelector('#map-picture')?.naturalWidth > 0")
    page.wait_for_selector("#map-caption:text-is('teapot')")
    page.mouse.wheel(0, -600)
    settle(page)
    zoomed = places(page)
    assert abs(zoomed[item][0] - x) < 1.5
    assert abs(zoomed[item][1] - y) < 1.5
    other = max(points, key=lambda i: abs(points[i][0] - x))
    assert abs(zoomed[other][0] - x) > 1.5 * abs(points[other][0] - x)
    middle = page.locator("#map-canvas").bounding_box()
    at = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2
    drag(page, [at, (at[0] - 80, at[1] + 30)])
    settle(page)
    moved = places(page)
    assert moved[item][0] - zoomed[item][0] == pytest.approx(-80, abs=1)
    assert moved[item][1] - zoomed[item][1] == pytest.approx(30, abs=1)

    page.focus("#map-canvas")
    page.keyboard.press("0")
    settle(page)
    assert places(page)[item][:2] == pytest.approx((x, y), abs=1)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    settle(page)
    keyed = places(page)
    assert keyed[other][0] != points[other][0]
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    assert chosen(page) == len(points)
    page.keyboard.press("Escape")
    page.wait_for_selector("#map-chosen", state="hidden")
    page.keyboard.press("b")
    page.wait_for_selector("#tab-all[aria-current]")


def test_by_keys_alone_a_part_of_the_map_is_selected_and_marked(page, found):
    points = open_map(page, found)
    page.focus("#map-canvas")
    box = page.locator("#map-canvas").bounding_box()
    x, y = np.mean([points[item][:2] for item in matches_of(points)], axis=0)
    for _ in range(round(abs(x - box["x"] - box["width"] / 2) / 60)):
        page.keyboard.press("ArrowRight")
    for _ in range(round(abs(y - box["y"] - box["height"] / 2) / 60)):
        page.keyboard.press("ArrowDown" if y > box["y"] + box["height"] / 2 else "ArrowUp")
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("Enter")
    count = chosen(page)
    assert 0 < count < len(points)
    page.keyboard.press("x")
    wait_for_counts(page, 0, count) if count > 8 else page.wait_for_selector("#toast-said:has-text('marked wrong')")
    assert page.evaluate("document.activeElement.id") == "map-canvas"
    page.keyboard.press("Control+z")
    page.wait_for_selector("#toast-said:has-text('Taken back')")


def test_a_click_pins_an_item_that_can_be_marked_and_searched_by(page, found):
    points = open_map(page, found)
    page.click("[data-map-do=pictures]")
    marked = set(known(page, found))
    item = max((item for item in matches_of(points) if item not in marked), key=lambda item: clearance(points, item))
    page.mouse.click(*points[item][:2])
    page.wait_for_selector(f"#map-card.pinned[data-item='{item}']")
    page.click("#map-card .mark.wrong")
    page.wait_for_selector("#map-told:has-text('marked wrong')")
    assert page.get_attribute("#map-card .mark.wrong", "aria-pressed") == "true"
    assert violations(page, "map-card") == []
    page.keyboard.press("Escape")
    page.wait_for_selector("#map-card", state="hidden")
    page.mouse.click(*points[item][:2])
    page.click("#map-like")
    page.wait_for_selector(f"#heading:has-text('Like item {item}')")


def test_points_are_hidden_by_the_legend_and_then_not_selected(page, found):
    points = open_map(page, found)
    page.click(".legend button[data-kind='1']")
    page.focus("#map-canvas")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    assert chosen(page) == len(matches_of(points))
    page.click("#map-list")
    page.wait_for_selector("#map-listed")
    assert page.get_attribute("#grid", "data-total") == str(len(matches_of(points)))


def test_by_touch_one_finger_moves_two_zoom_and_a_tap_pins(chromium, server, found):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, base_url=server.address
    )
    phone = watched(context)
    points = open_map(phone, found)
    assert violations(phone, "map-phone") == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.click("[data-map-do=pictures]")
    item = matches_of(points)[0]
    phone.touchscreen.tap(*places(phone)[item][:2])
    phone.wait_for_selector(f"#map-card.pinned[data-item='{item}']")
    phone.keyboard.press("Escape")
    phone.wait_for_selector("#map-card", state="hidden")
    before = places(phone)
    box = phone.locator("#map-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = phone.context.new_cdp_session(phone)

    def fingers(kind, *at):
        points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(at)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (x, y))
    for step in (10, 20, 40):
        fingers("touchMove", (x - step, y + step))
    fingers("touchEnd")
    settle(phone)
    moved = places(phone)
    assert moved[item][0] - before[item][0] == pytest.approx(-40, abs=2)
    fingers("touchStart", (x - 20, y), (x + 20, y))
    for step in (30, 50, 80):
        fingers("touchMove", (x - step, y), (x + step, y))
    fingers("touchEnd")
    settle(phone)
    zoomed = places(phone)
    spread = [max(p[0] for p in of.values()) - min(p[0] for p in of.values()) for of in (moved, zoomed)]
    assert spread[1] > 2 * spread[0]
    context.close()


def test_by_touch_a_lasso_selects_and_marks_and_two_fingers_still_zoom(chromium, server, found):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, base_url=server.address
    )
    phone = watched(context)
    points = open_map(phone, found)
    assert phone.locator("#map-help").is_hidden()  # it tells of keys
    phone.tap("[data-tool=lasso]")
    touch = phone.context.new_cdp_session(phone)

    def fingers(kind, *at):
        places = [{"x": px, "y": py, "id": number} for number, (px, py, *_) in enumerate(at)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    item = max(points, key=lambda item: clearance(points, item))
    path = around([points[item]], gap=min(10, clearance(points, item) / 2))
    fingers("touchStart", path[0])
    for at in path[1:]:
        fingers("touchMove", at)
    fingers("touchEnd")
    assert chosen(phone) == 1
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.tap("[data-map-mark='-1']")
    stored(phone)
    phone.goto(f"/like?id={item}&session={found}")
    assert marks_of(phone, [item]) == [-1]
    open_map(phone, found)
    phone.tap("[data-tool=lasso]")
    before = places(phone)
    x, y = before[item][:2]
    fingers("touchStart", (x, y))
    fingers("touchMove", (x + 30, y + 30))  # the second finger breaks the drawing off
    fingers("touchStart", (x + 30, y + 30), (x + 60, y))
    for step in (90, 130, 170):
        fingers("touchMove", (x + 30, y + 30), (x + step, y))
    fingers("touchEnd")
    settle(phone)
    assert phone.locator("#map-chosen").is_hidden()
    spread = [max(p[0] for p in of.values()) - min(p[0] for p in of.values()) for of in (before, places(phone))]
    assert spread[1] > 1.5 * spread[0]
    context.close()


# The work of a frame

MANY = """async n => {
    const { index, nearest, within } = await import("/static/map_points.js");
    const { PIXELS_A_FRAME, paint, representatives } = await import("/static/map_canvas.js");
    const random = (seed => () => (seed = (seed * 16807) % 2147483647) / 2147483647)(7);
    const normal = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    const columns = { ids: [], x: [], y: [], kinds: [], kind_names: [0, 1, 2, 3, 4, 5] };
    for (let i = 0; i < n; i += 1) {
        columns.ids.push(i);
        columns.x.push(Math.round(2500 * normal()));
        columns.y.push(Math.round(2500 * normal()));
        columns.kinds.push(Math.floor(6 * random()));
    }
    const points = index(columns);
    const colours = { ground: [255, 255, 255], chosen: [200, 0, 100], kinds: Array(6).fill([50, 60, 200]) };
    const shown = Array(6).fill(true);
    const none = new Uint8Array(n);
    const found = { budget: PIXELS_A_FRAME, frames: [], examined: 0, pictures: 0 };
    for (const ratio of [1, 2]) {
        const image = new ImageData(1400 * ratio, 800 * ratio);
        for (const zoom of [0.5, 1, 3, 10, 100]) {
            const view = { width: 1400, height: 800, ratio, scale: (0.04 * zoom), x: 0, y: 0 };
            found.frames.push(paint(image, points, view, { shown, colours, chosen: none, skipped: none }));
            found.pictures = Math.max(found.pictures, representatives(points, view, shown, 96, 48).length);
            const near = nearest(points, { x: 0, y: 0 }, 12 / view.scale, shown);
            found.examined = Math.max(found.examined, near.examined / n);
        }
    }
    const area = [[-2000, -1500], [1800, -2100], [900, 2500], [-100, 300]];
    const plain = columns.ids.filter(i => {
        let odd = false;
        area.forEach(([x1, y1], k) => {
            const [x2, y2] = area[(k + 1) % area.length];
            const [x, y] = [columns.x[i], columns.y[i]];
            if ((y1 > y) !== (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) odd = !odd;
        });
        return odd;
    });
    found.same = JSON.stringify(within(points, [area])) === JSON.stringify(plain);
    return found;
}"""


def test_a_frame_of_100_000_points_stays_within_its_budget_of_work(page):
    page.goto("/")
    found = page.evaluate(MANY, 100_000)
    assert [frame["pixels"] <= found["budget"] for frame in found["frames"]] == [True] * 10
    assert found["frames"][0]["points"] == 100_000
    assert found["frames"][4]["points"] < 5_000  # far in, only what is near is looked at
    assert found["frames"][4]["radius"] > found["frames"][0]["radius"]
    assert found["pictures"] <= 48
    assert found["examined"] < 0.2
    assert found["same"]


def test_many_moves_between_two_frames_are_drawn_once(page, found):
    open_map(page, found)
    drawn = page.evaluate(
        """async () => {
            const { frames } = await import("/static/map.js");
            const canvas = document.getElementById("map-canvas");
            const box = canvas.getBoundingClientRect();
            await new Promise(requestAnimationFrame);
            const before = frames.drawn;
            for (let step = 0; step < 200; step += 1) {
                const at = { clientX: box.left + 50, clientY: box.top + 50, deltaY: step % 2 ? 5 : -5 };
                canvas.dispatchEvent(new WheelEvent("wheel", { ...at, bubbles: true, cancelable: true }));
            }
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            return frames.drawn - before;
        }"""
    )
    assert 1 <= drawn <= 3


def test_the_map_in_dark_colours(chromium, server, found):
    context = chromium.new_context(
        viewport={"width": 1200, "height": 800}, color_scheme="dark", base_url=server.address, locale="de"
    )
    page = watched(context)
    open_map(page, found)
    page.wait_for_function("() => [...document.querySelectorAll('.legend b')].some(count => count.textContent)")
    assert page.inner_text("#heading") == "Karte des Ergebnisses"
    assert violations(page, "map-dark") == []
    ground = page.evaluate("[...document.getElementById('map-canvas').getContext('2d').getImageData(2, 2, 1, 1).data]")
    assert max(ground[:3]) < 60
    context.close()


# Pictures


def test_the_large_view_opens_and_downloads_the_original(page, folder):
    page.goto("/like?id=40")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("o")
    page.wait_for_selector("#large[open]")
    assert page.inner_text("#large-title").startswith("1 of ")
    assert violations(page, "large-original") == []
    with page.expect_download() as download:
        page.click("#large-download")
    content = (folder / "images/pictures/00040.jpg").read_bytes()
    assert (download.value.suggested_filename, download.value.path().read_bytes()) == ("40_00040.jpg", content)
    with page.expect_popup() as opened:
        page.click("#large-original")
    opened.value.wait_for_function("() => document.images[0]?.naturalWidth === 480")
    assert opened.value.url.endswith("/originals/40")
    opened.value.close()
    page.goto("/like?id=5")  # without closing the view first, which would leave its entry of the history meanwhile
    page.keyboard.press("ArrowDown")
    page.keyboard.press("o")
    page.wait_for_selector("#large[open]")
    assert page.locator("#large-download").is_hidden()


def test_the_export_menu_tells_the_size_of_the_zip_before_it_is_sent(page, found, tmp_path):
    page.goto(f"/matches?session={found}")
    page.wait_for_selector(".pick")
    page.keyboard.press("e")
    page.wait_for_selector(".export a:has-text('ZIP'):has-text('about 1 MB')")
    assert violations(page, "export-menu") == []
    with page.expect_download() as download:
        page.click(".export a:has-text('ZIP')")
    download.value.save_as(tmp_path / "matches.zip")
    with zipfile.ZipFile(tmp_path / "matches.zip") as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".jpg")]
    assert download.value.suggested_filename.endswith(".zip")
    total = int(re.search(r"\d+", page.inner_text("#heading"))[0])
    assert total - 2 <= len(pictures) <= total
