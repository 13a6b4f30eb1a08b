"""Pictures behind addresses: the browser loads them where that is allowed, the server never; dead ones stay blank."""

import io

import numpy as np
import pyarrow as pa
import pytest
from browsing import needs_chromium
from PIL import Image
from serving import running
from test_ingest import vectors

from gpubranches import Catalog, open_backend
from gpubranches.app import create_app
from gpubranches.catalog.metadata.columns import https_url_of

URLS = [
    "https://pictures.example/0.png?a=1&b=2",
    "https://pictures.example/dead.png",
    "http://pictures.example/2.png",
    "https://user:secret@pictures.example/3.png",
    "javascript:alert(1)",
    'https://pictures.example/5.png" onerror="alert(1)',
    None,
    "https:///no-host.png",
]
POLICY = "; img-src 'self' https:"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    table = pa.table({"url": URLS, "width": [300] * 8, "height": [200] * 8})
    return Catalog.from_embeddings(folder / "c", vectors(8, 16), metadata=table)


@pytest.fixture
def serve(catalog):
    """Return a function that makes an app."""
    made = []
    with open_backend("oracle", catalog) as backend:

        def app(**options):
            made.append(create_app(catalog, backend, **options))
            return made[-1]

        yield app
        for each in made:
            each.extensions["gpubranches"].service.close()


def test_only_addresses_of_https_with_a_host_are_given_to_a_browser():
    assert [https_url_of({"url": url}) for url in URLS] == [URLS[0], URLS[1], *[None] * 6]
    assert https_url_of({"url": "https://a/" + "x" * 5000}) is None
    assert https_url_of({"url": "https://[broken"}) is None


@pytest.mark.parametrize("allowed", [True, False])
def test_pictures_are_loaded_from_elsewhere_only_where_that_is_allowed(serve, allowed):
    client = serve(remote_pictures=allowed).test_client()
    page = client.get("/search?q=%230")
    assert page.headers["Content-Security-Policy"].endswith(POLICY) == allowed
    text = page.get_data(as_text=True)
    shown = '<img src="https://pictures.example/0.png?a=1&amp;b=2" referrerpolicy="no-referrer" alt="" loading="lazy"'
    assert (shown in text) == allowed
    assert text.count('<img src="https://') == (2 if allowed else 0)
    assert text.count('data-source="https://') == 2
    assert 'data-ratio="1.5"' in text
    for never in ("user:secret", "javascript:", "onerror", "http://pictures.example"):
        assert f'src="{never}' not in text
        assert f'data-source="{never}' not in text


def test_the_server_loads_nothing(serve, monkeypatch):
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("the server loaded something"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the server loaded something"))
    client = serve(remote_pictures=True).test_client()
    assert client.get("/search?q=%230").status_code == 200
    assert client.get("/thumbnails/small/0.jpg").status_code == 404


@pytest.mark.browser
@needs_chromium
def test_a_browser_shows_them_with_a_blank_for_a_dead_one_and_a_link_to_the_source(serve, chromium):
    asked = []

    def answer(route):
        asked.append(route.request)
        if "dead" in route.request.url:
            route.fulfill(status=404)
            return
        file = io.BytesIO()
        Image.new("RGB", (300, 200), "red").save(file, "PNG")
        route.fulfill(body=file.getvalue(), content_type="image/png")

    with running(serve(remote_pictures=True)) as ((host, port), _):
        context = chromium.new_context()
        page = context.new_page()
        page.route("https://pictures.example/**", answer)
        page.goto(f"http://{host}:{port}/search?q=%230")
        page.wait_for_function("document.querySelector('#tile-0 img')?.naturalWidth === 300")
        page.wait_for_function("!document.querySelector('#tile-1 img')")
        assert page.locator("#tile-1 .blank").is_visible()
        page.click("#tile-0 .open", force=True)
        page.wait_for_function("document.querySelector('#large-picture').naturalWidth === 300")
        assert page.get_attribute("#large-source", "href") == URLS[0]
        assert page.get_attribute("#large-source", "rel") == "noopener noreferrer"
        page.keyboard.press("Escape")
        page.click("#tile-1 .open", force=True)
        page.wait_for_selector("#large-blank:visible")
        context.close()
    assert asked
    assert all("referer" not in request.headers for request in asked)


def test_large_numbers_of_a_size_are_no_ratio(tmp_path):
    from gpubranches.app.views import _told_ratio

    assert _told_ratio({"width": 300, "height": 200}) == 1.5
    for width, height in ((0, 5), (10**9, 1), (None, 3), ("3", 4), (2.5, 1), (np.nan, 1)):
        assert _told_ratio({"width": width, "height": height}) == 1.0
