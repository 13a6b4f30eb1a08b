"""A server process, a Chromium, and what the tests of the page do in it over and over."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import NAMES

TEAPOT = NAMES.index("teapot")
SCREENSHOTS = os.environ.get("GPUBRANCHES_SCREENSHOTS")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVER = """
import sys
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.encoders import open_embedder
catalog = Catalog.open(sys.argv[1])
with open_backend(sys.argv[3], catalog) as backend:
    app = create_app(catalog, backend, embedder=open_embedder(sys.argv[2]))
    server = open_server(app, "127.0.0.1", int(sys.argv[4]))
    print(server.effective_port, flush=True)
    server.run()
"""


class Server:
    """The page's server in its own process, run by a script that prints its port."""

    def __init__(self, *arguments, script=SERVER):
        self.script = script
        self.arguments = [str(argument) for argument in arguments]
        self.port = 0
        self.process = None

    def start(self):
        command = [sys.executable, "-c", self.script, *self.arguments, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, error, trace):
        self.kill()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"


needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium")


def search(page, text, keep=False):
    """Search by keys. keep: keep the marks that are for something else."""
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    if keep:
        page.click("#ask-new button[value=keep]")
    page.wait_for_selector(f"#heading:has-text('“{text}”')")
    page.wait_for_selector(".pick:focus")


def find_teapots(page, labels):
    """Mark the eight nearest to a teapot, and find all."""
    page.goto("/search?q=teapot")
    page.keyboard.press("ArrowDown")
    for item in shown(page)[:8]:
        page.keyboard.press("a" if labels[item] == TEAPOT else "x")
    page.click("#find")
    page.wait_for_url("**/matches?*")


def next_frames(page):
    """Wait until the page has been drawn twice: what follows a scroll or a new size has begun then."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def back(page):
    """Go back; the address is loaded anew, and before the style sheet is there nothing can be measured."""
    with page.expect_event("load"):
        page.go_back()


def shown(page):
    return [int(i) for i in page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.dataset.id)")]


def focused(page):
    return page.evaluate("Number(document.activeElement.closest('.tile').dataset.id)")


def wait_for_focus(page, item):
    page.wait_for_function("id => document.activeElement.closest('.tile')?.dataset.id == id", arg=str(item))


def wait_for_counts(page, positive, negative):
    page.wait_for_function(
        "([p, n]) => document.querySelector('#positive')?.textContent == p"
        " && document.querySelector('#negative')?.textContent == n",
        arg=[str(positive), str(negative)],
    )


def stored(page):
    """Wait until the server has all marks."""
    page.wait_for_function("() => !Object.keys(localStorage).some(key => /^gpubranches:[^:]+:/.test(key))")


def marks_of(page, items):
    """Return +1, -1 or 0 as shown on each item's tile."""
    return [int(page.get_attribute(f"#tile-{item}", "data-mark")) for item in items]


def exported(page, folder, name):
    """Return the rows of the list that is shown, exported as CSV by keys; name: expected of the file."""
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == name
    download.value.save_as(folder / name)
    return list(csv.DictReader((folder / name).read_text(encoding="utf-8-sig").splitlines()))


def watched(context):
    """Open a page that keeps what it asked for and what it complained of."""
    context.set_default_timeout(60_000)
    opened = context.new_page()
    opened.asked, opened.complaints = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("console", lambda entry: opened.complaints.append(entry.text) if entry.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    return opened


def violations(page, name):
    """Return what axe finds; of the tiles, which are all alike, it looks at some.

    With GPUBRANCHES_SCREENSHOTS set, a picture of the page is left in that folder.
    """
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
    if not page.evaluate("'axe' in window"):
        page.evaluate((Path(__file__).parent / "vendor/axe.min.js").read_text())
    found = page.evaluate("""() => axe.run({exclude: [".tile:nth-child(n+9)"]}, {
        resultTypes: ["violations"],
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    })""")
    return [(v["id"], [node["html"][:160] for node in v["nodes"]][:3]) for v in found["violations"]]


def to_the_end(page, query, count):
    """Ask, and go by keys to the last of `count` items, which is shown and has the focus then."""
    page.goto(f"/search?q={query}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.wait_for_function(f"() => document.activeElement.closest('.tile')?.ariaPosInSet === '{count}'")
