"""The large view of a frame of a video, in a real Chromium: its time, the frames around it, marks on them."""

import numpy as np
import pytest
from browsing import Server, needs_chromium, shown, stored, violations, wait_for_counts, wait_for_focus
from input_files import write_video
from test_ingest import Pixels

from gpubranches import Catalog
from gpubranches.app import create_app
from gpubranches.engines import open_backend
from gpubranches.ingestion import ingest
from gpubranches.service.video_frames import frames_around

pytest.importorskip("av", reason="PyAV is not installed")
pytestmark = [pytest.mark.browser, needs_chromium]
SCRIPT = """
import sys
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, open_server
catalog = Catalog.open(sys.argv[1])
with open_backend("oracle", catalog) as backend:
    server = open_server(create_app(catalog, backend), "127.0.0.1", int(sys.argv[2]))
    print(server.effective_port, flush=True)
    server.run()
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A catalog: items 0 to 11 are the seconds of a.mp4, 12 to 16 those of b.mp4; 4 was deleted."""
    path = tmp_path_factory.mktemp("films")
    write_video(path / "in/a.mp4", seconds=12)
    write_video(path / "in/b.mp4", seconds=5, shift=2)
    ingest(path / "in", path / "catalog", embedder=Pixels(), d=8, frames_every=1).delete([4])
    return path / "catalog"


@pytest.fixture(scope="module")
def server(films):
    with Server(films, script=SCRIPT) as running:
        yield running


def strip(page, item):
    """Wait until the frames around an item are shown; return the ids and the times of all."""
    page.wait_for_selector(f'.frame[data-frame="{item}"][aria-current]')
    page.wait_for_function("() => document.querySelector('#large-picture')?.naturalWidth")
    frames = page.eval_on_selector_all(".frame", "all => all.map(one => [one.dataset.frame, one.textContent.trim()])")
    return [(int(id), time) for id, time in frames]


def test_frames_before_and_after_are_shown_and_marked(page):
    page.goto("/like?id=6&where=seconds%3D6")
    assert shown(page) == [6]
    page.keyboard.press("ArrowDown")
    wait_for_focus(page, 6)
    page.keyboard.press("o")
    times = [(1, "0:01"), (2, "0:02"), (3, "0:03"), (5, "0:05"), (6, "0:06"), (7, "0:07"), (8, "0:08"), (9, "0:09")]
    page.wait_for_selector('.frame[data-frame="10"]')
    assert strip(page, 6) == [*times, (10, "0:10")]
    assert violations(page, "large-frame") == []
    page.keyboard.press(".")
    page.wait_for_selector('.frame[data-frame="11"]')
    assert (7, "0:07") in strip(page, 7)
    assert page.text_content("#large-title") == "a.mp4 0:07"
    assert "/7.jpg" in page.get_attribute("#large-picture", "src")
    assert page.get_attribute("#large-original", "href") == "/originals/7"
    page.keyboard.press("a")
    wait_for_counts(page, 1, 0)
    page.wait_for_selector('#large[data-mark="1"] .frame[data-frame="7"][data-mark="1"]')
    page.keyboard.press(",")
    page.keyboard.press(",")
    strip(page, 5)  # the frame between was deleted
    page.keyboard.press("x")
    wait_for_counts(page, 1, 1)
    stored(page)
    page.click('.frame[data-frame="6"]')
    strip(page, 6)
    assert page.text_content("#large-title") == "1 of 1: a.mp4 0:06"  # of the list again
    for _ in range(9):
        page.keyboard.press(".")
    assert strip(page, 11)[-1] == (11, "0:11")  # b.mp4 is another video
    page.keyboard.press("Escape")
    wait_for_focus(page, 6)
    assert page.complaints == []


def test_frames_are_found_by_ids_nearby(films, tmp_path):
    catalog = Catalog.open(films)
    assert [frame["id"] for frame in frames_around(catalog, 14, 9)] == [12, 13, 14, 15, 16]
    assert [frame["id"] for frame in frames_around(catalog, 0, 2)] == [0, 1, 2]
    assert frames_around(catalog, 4, 2) == frames_around(catalog, 99, 2) == []
    client = create_app(catalog, open_backend("cpu", catalog)).test_client()
    assert client.get("/items/3/frames").text.count("data-frame=") == 8
    assert client.get(f"/items/{2**64}/frames").text == ""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    assert frames_around(ingest(tmp_path / "x.npy", tmp_path / "c", d=8), 3, 2) == []
